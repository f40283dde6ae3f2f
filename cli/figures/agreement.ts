/** An estimate against what was measured, one dot a neuron: on the dashed line both are equal. */

import * as Plot from '@observablehq/plot';
import type { Cell, Figure, Key, Told } from './figure.ts';
import { LIGHT } from './palette.ts';
import { oneDigit, padded, rootTicks } from './ticks.ts';

/** One dot, and more that its row of data says. */
export interface Dot {
  readonly estimate: number;
  readonly measured: number;
  readonly colour: string;
  readonly about: Readonly<Record<string, Cell>>;
}

export interface AgreementLooks {
  /** Labels of the axes. */
  readonly estimate: string;
  readonly measured: string;
  /** Of the colours. */
  readonly legend: readonly Key[];
  /** `root`: effects have heavy tails. */
  readonly axes: 'plain' | 'root';
  /** The largest size shown on both axes; default all. */
  readonly most?: number;
}

/** The dashed line on which estimate and measurement are equal. */
const diagonal = (domain: readonly number[]): Plot.Markish =>
  Plot.line(domain, {
    x: (end: number) => end,
    y: (end: number) => end,
    stroke: LIGHT.ink,
    strokeOpacity: 0.6,
    strokeWidth: 1,
    strokeDasharray: '3 2',
  });

export function agreementFigure(told: Told, dots: readonly Dot[], looks: AgreementLooks): Figure {
  const { axes, legend } = looks;
  const values = dots.flatMap(({ estimate, measured }) => [estimate, measured]);
  const most = looks.most ?? Math.max(...values.map(Math.abs), 1e-12);
  const domain = axes === 'root' ? [-most, most] : padded(values);
  const axis =
    axes === 'root'
      ? ({ type: 'pow', exponent: 0.5, ticks: rootTicks(most), tickFormat: oneDigit } as const)
      : { ticks: 4 };
  return {
    ...told,
    columns: 1,
    height: 200,
    legend: [...legend, { label: 'equal', colour: LIGHT.ink, mark: 'dashes' }],
    plot: {
      marginLeft: 36,
      x: { ...axis, domain, grid: true, label: looks.estimate },
      y: { ...axis, domain, grid: true, label: looks.measured },
      marks: [
        diagonal(domain),
        Plot.dot(dots, {
          ...{ x: 'estimate', y: 'measured', r: dots.length > 200 ? 1.3 : 2.2, fill: 'colour' },
          ...{ fillOpacity: 0.65, clip: true },
        }),
      ],
    },
    data: dots.map(({ estimate, measured, about }) => ({
      ...about,
      [looks.estimate]: estimate,
      [looks.measured]: measured,
    })),
  };
}
