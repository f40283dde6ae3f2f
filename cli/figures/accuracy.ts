/** Accuracy on test against the number of voting neurons, one line a prober, with what guessing and chance give. */

import * as Plot from '@observablehq/plot';
import type { Cell, Figure, Key, Told } from './figure.ts';
import { LIGHT } from './palette.ts';

type Interval = readonly [low: number, high: number];

export interface AccuracyLine {
  readonly name: string;
  readonly colour: string;
  readonly points: readonly {
    readonly size: number;
    readonly accuracy: number;
    readonly interval: Interval | null;
    /** What the same reaches by chance. */
    readonly chance?: Interval | null;
  }[];
  /** The size that was chosen, with a dot. */
  readonly chosen?: { readonly size: number; readonly accuracy: number };
}

export interface AccuracyLooks {
  readonly guessing: number;
  /** The model's own answer. */
  readonly own?: number;
}

export function accuracyBySize(
  told: Told,
  lines: readonly AccuracyLine[],
  { guessing, own }: AccuracyLooks,
): Figure {
  const flat = lines.flatMap(({ name, colour, points }) =>
    points.map(({ size, accuracy, interval, chance }) => ({
      ...{ name, colour, size, accuracy },
      ...{ low: interval?.[0] ?? null, high: interval?.[1] ?? null },
      ...{ chanceLow: chance?.[0] ?? null, chanceHigh: chance?.[1] ?? null },
    })),
  );
  const band = (low: 'low' | 'chanceLow', high: 'high' | 'chanceHigh', options: Plot.AreaYOptions) =>
    Plot.areaY(
      flat.filter((point) => point[low] !== null),
      { x: 'size', y1: low, y2: high, z: 'name', ...options },
    );
  const byChance = flat.some(({ chanceLow }) => chanceLow !== null);
  const sizes = [...new Set(flat.map(({ size }) => size))].sort((a, b) => a - b);
  const legend: Key[] = [
    ...lines.map(({ name, colour }) => ({ label: name, colour, mark: 'line' }) as const),
    ...(own === undefined
      ? []
      : [{ label: 'the model’s own answer', colour: LIGHT.ink, mark: 'dashes' } as const]),
    { label: 'guessing', colour: LIGHT.ink, mark: 'dots' },
    ...(byChance ? [{ label: 'permuted labels', colour: LIGHT.line, mark: 'band' } as const] : []),
  ];
  return {
    ...told,
    columns: 1,
    height: 180,
    legend,
    plot: {
      marginLeft: 26,
      x: {
        ...({ type: 'log', base: 2, label: 'number of neurons |N_s|' } as const),
        // Powers of two, as many as have room.
        ticks: sizes
          .filter((size) => Number.isInteger(Math.log2(size)))
          .filter((_, i, all) => i % Math.ceil(all.length / 9) === 0),
        tickFormat: (size: number) => String(size),
      },
      y: { label: 'accuracy on test', domain: [0, 1], grid: true, ticks: 5 },
      marks: [
        Plot.ruleY([guessing], { stroke: LIGHT.ink, strokeOpacity: 0.7, strokeDasharray: '1 2' }),
        ...(own === undefined
          ? []
          : [Plot.ruleY([own], { stroke: LIGHT.ink, strokeOpacity: 0.7, strokeDasharray: '3 2' })]),
        band('chanceLow', 'chanceHigh', { fill: LIGHT.ink, fillOpacity: 0.08 }),
        band('low', 'high', { fill: 'colour', fillOpacity: 0.13 }),
        Plot.line(flat, { x: 'size', y: 'accuracy', z: 'name', stroke: 'colour', strokeWidth: 1.4 }),
        Plot.dot(
          lines.flatMap(({ colour, chosen }) => (chosen ? [{ colour, ...chosen }] : [])),
          { x: 'size', y: 'accuracy', fill: 'colour', r: 2.4 },
        ),
      ],
    },
    data: flat.map(
      ({ name, size, accuracy, low, high, chanceLow, chanceHigh }): Record<string, Cell> => ({
        ...{ prober: name, neurons: size, accuracy, '95% low': low, '95% high': high },
        ...(byChance ? { 'chance low': chanceLow, 'chance high': chanceHigh } : {}),
      }),
    ),
  };
}

/** One accuracy of several, under a name. */
export interface NamedAccuracy {
  readonly name: string;
  readonly accuracy: number;
  readonly interval: Interval | null;
  readonly chance: Interval | null;
}

/** Accuracies one under the other, what chance gives behind them. @param chance what is said of the grey bars. */
export function accuraciesFigure(
  told: Told,
  rows: readonly NamedAccuracy[],
  guessing: number,
  chance: string,
): Figure {
  const points = rows.map(({ name, accuracy, interval, chance }) => ({
    ...{ name, accuracy, low: interval?.[0] ?? null, high: interval?.[1] ?? null },
    ...{ chanceLow: chance?.[0] ?? null, chanceHigh: chance?.[1] ?? null },
  }));
  return {
    ...told,
    columns: 1,
    height: 46 + 12 * points.length,
    legend: [
      { label: 'accuracy, with 95%', colour: LIGHT.positive, mark: 'dot' },
      { label: chance, colour: LIGHT.line, mark: 'band' },
      { label: 'guessing', colour: LIGHT.ink, mark: 'dots' },
    ],
    plot: {
      marginLeft: 112,
      x: { label: 'accuracy on test', domain: [0, 1], grid: true, ticks: 5 },
      y: { label: null, domain: points.map(({ name }) => name), tickSize: 0 },
      marks: [
        Plot.ruleX([guessing], { stroke: LIGHT.ink, strokeOpacity: 0.7, strokeDasharray: '1 2' }),
        Plot.ruleY(
          points.filter(({ chanceLow }) => chanceLow !== null),
          { x1: 'chanceLow', x2: 'chanceHigh', y: 'name', stroke: LIGHT.line, strokeWidth: 7 },
        ),
        Plot.ruleY(
          points.filter(({ low }) => low !== null),
          { x1: 'low', x2: 'high', y: 'name', stroke: LIGHT.positive },
        ),
        Plot.dot(points, { x: 'accuracy', y: 'name', fill: LIGHT.positive, r: 2.4 }),
      ],
    },
    data: points.map(({ name, accuracy, low, high, chanceLow, chanceHigh }) => ({
      ...{ name, accuracy, '95% low': low, '95% high': high },
      ...{ 'chance low': chanceLow, 'chance high': chanceHigh },
    })),
  };
}
