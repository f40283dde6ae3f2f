/** Mean |r| against the range of shifts, one line a model (the paper's Figure 2). */

import * as Plot from '@observablehq/plot';
import type { Estimate } from '../../neurgrad/intervals.ts';
import type { Figure, Told } from './figure.ts';
import { LIGHT } from './palette.ts';

export interface StraightnessLine {
  readonly model: string;
  readonly points: readonly { readonly range: number; readonly meanR: Estimate }[];
}

/** A colour for each of several lines; one has the page's own. */
function colours(count: number): string[] {
  const domain = Array.from({ length: count }, (_, line) => line);
  if (count === 1) return [LIGHT.positive];
  const colour = Plot.scale({ color: { type: 'categorical', scheme: 'Dark2', domain } });
  return domain.map((line) => colour!.apply(line) as string);
}

/** @param marked ranges with a rule. */
export function straightnessFigure(
  told: Told,
  lines: readonly StraightnessLine[],
  marked: readonly number[],
): Figure {
  const colourOf = colours(lines.length);
  const points = lines.flatMap(({ model, points }, line) =>
    points.map(({ range, meanR }) => ({
      ...{ model, range, meanR: meanR.value, colour: colourOf[line]! },
      low: meanR.interval?.low ?? Number.NaN,
      high: meanR.interval?.high ?? Number.NaN,
    })),
  );
  const low = Math.min(0.9, ...points.map((point) => (point.low < point.meanR ? point.low : point.meanR)));
  return {
    ...told,
    columns: 1,
    height: 180,
    legend: [
      ...lines.map(
        ({ model }, line) =>
          ({
            label: lines.length === 1 ? 'mean |r|' : model,
            colour: colourOf[line]!,
            mark: 'line',
          }) as const,
      ),
      { label: '|r| = 0.95', colour: LIGHT.ink, mark: 'dashes' },
    ],
    plot: {
      marginLeft: 30,
      x: {
        label: 'range of shifts ±R',
        domain: [0, Math.max(...points.map(({ range }) => range))],
        ticks: 6,
      },
      y: { label: 'mean |r| within ±R', domain: [Math.max(0, low - 0.05), 1], grid: true, ticks: 6 },
      marks: [
        Plot.ruleY([0.95], { stroke: LIGHT.ink, strokeOpacity: 0.6, strokeDasharray: '3 2' }),
        Plot.ruleX(marked, { stroke: LIGHT.ink, strokeOpacity: 0.3 }),
        Plot.areaY(points, {
          ...{ x: 'range', y1: 'low', y2: 'high', z: 'model', fill: 'colour', fillOpacity: 0.18 },
        }),
        Plot.line(points, { x: 'range', y: 'meanR', z: 'model', stroke: 'colour', strokeWidth: 1.6 }),
      ],
    },
    data: points.map(({ model, range, meanR, low, high }) => ({
      ...{ model, range, 'mean |r|': meanR, '95% low': low, '95% high': high },
    })),
  };
}
