/** What shifting one neuron does: the measured curve, the line of its slope, the range in which that was fitted. */

import * as Plot from '@observablehq/plot';
import type { Figure, Told } from './figure.ts';
import { lineOf, type Point } from './line.ts';
import { LIGHT } from './palette.ts';
import { textWidth } from './text.ts';
import { padded, probabilities, TICKS, tickLabels } from './ticks.ts';

/** One neuron's sweep. */
export interface Curve {
  readonly shifts: readonly number[];
  /** What was read at each shift. */
  readonly values: readonly number[];
  /** The same without a shift. */
  readonly base: number;
  /** G_E, and where its line crosses shift 0, less `base`; default 0. */
  readonly slope: number;
  readonly intercept?: number;
  /** Where the line was fitted: ±range. */
  readonly range: number;
  /** The largest range within which the curve is linear; 0 for none, null where it is not known. */
  readonly linear: number | null;
  /** The slope foretold without a sweep. */
  readonly neurgrad?: number;
}

export interface CurveLooks {
  readonly colour: string;
  /** The axis' label: `probability of “paris”`. */
  readonly of: string;
  /** It can be neither below 0 nor above 1. */
  readonly probability: boolean;
  /** Of curves that are compared by eye. */
  readonly domain?: readonly [number, number];
}

/** Words for a linear range. */
export const linearWithin = (range: number): string =>
  range > 0 ? `linear within ±${Number(range.toPrecision(3))}` : 'nowhere linear';

/** The curve as a figure. */
export function curveFigure(
  told: Told,
  curve: Curve,
  { colour, of, probability, domain }: CurveLooks,
): Figure {
  const { shifts, values, base, slope, intercept = 0, range, linear, neurgrad } = curve;
  const points = shifts.map((shift, i): Point => ({ shift, value: values[i]! }));
  const [low, high] = domain ?? (probability ? probabilities : padded)(values, 0.15);
  const tickFormat = tickLabels(low, high);
  const widest = Math.max(...[low, (low + high) / 2, high].map((value) => textWidth(tickFormat(value), 8)));
  const line = (from: number, by: number, stroke: string, strokeDasharray: string): Plot.Markish =>
    Plot.line(lineOf(from, by, shifts, probability), {
      ...{ x: 'shift', y: 'value', stroke, strokeDasharray, strokeWidth: 1, clip: true },
    });
  return {
    ...told,
    columns: 1,
    height: 142,
    legend: [
      { label: 'measured', colour, mark: 'line' },
      {
        label: `slope G_E${linear === null ? '' : `, ${linearWithin(linear)}`}`,
        colour: LIGHT.ink,
        mark: 'dashes',
      },
      { label: `fitted within ±${range}`, colour: LIGHT.band, mark: 'band' },
      ...(neurgrad === undefined ? [] : [{ label: 'NeurGrad', colour: LIGHT.muted, mark: 'dots' } as const]),
    ],
    plot: {
      marginLeft: widest + 12,
      x: { label: 'shift of the activation', ticks: TICKS },
      y: { label: of, ticks: 4, domain: [low, high], tickFormat },
      marks: [
        Plot.rect([0], { x1: -range, x2: range, y1: low, y2: high, fill: LIGHT.band, clip: true }),
        // Over the band.
        Plot.gridY({ ticks: 4, stroke: LIGHT.ink, strokeOpacity: 0.1 }),
        line(base + intercept, slope, LIGHT.ink, '3 2'),
        ...(neurgrad === undefined ? [] : [line(base, neurgrad, LIGHT.muted, '1 2')]),
        Plot.line(points, { x: 'shift', y: 'value', stroke: colour, strokeWidth: 1.6, clip: true }),
        Plot.dot([{ shift: 0, value: base }], { x: 'shift', y: 'value', fill: LIGHT.ink, r: 2.2 }),
      ],
    },
    data: points.map(({ shift, value }) => ({ shift, [of]: value })),
  };
}
