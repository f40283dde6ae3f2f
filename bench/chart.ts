/**
 * The rows that have a ratio to a peer, as bars on a logarithmic axis: right of 1 is faster than the best peer. A figure as the reports have.
 */

import * as Plot from '@observablehq/plot';
import { figureSvg } from '../cli/figures/book.ts';
import type { Figure } from '../cli/figures/figure.ts';
import { LIGHT } from '../cli/figures/palette.ts';
import { textWidth } from '../cli/figures/text.ts';
import type { Report } from './rows.ts';

const AXIS = 'times as fast as the best peer';

/** The chart, to be drawn. */
export function chartFigure({ rows, adapter, machine, date, versions }: Report): Figure {
  const bars = rows.flatMap(({ suite, shape, ratio, ratioOf, spread }) =>
    ratio === null || !ratioOf.includes('peer') ? [] : [{ name: `${suite} ${shape}`, ratio, spread }],
  );
  const { neurgrad, node, ...peers } = versions;
  const named = Object.entries(peers)
    .map((peer) => peer.join(' '))
    .join(', ');
  const spreads = bars.flatMap(({ spread }) => spread ?? []);
  const ratios = [1, ...bars.map(({ ratio }) => ratio)];
  const most = `${(100 * Math.max(0, ...spreads)).toFixed(0)}%`;
  return {
    name: 'benchmarks',
    label: 'Times faster than the best peer',
    caption: `Time of the fastest GPU peer over that of neurgrad ${neurgrad}, in one run each, on ${adapter}; ${machine}, Node ${node}, ${date.slice(0, 10)}. Peers: ${named}; the CPU’s is no rival`,
    n: `n = ${bars.length} shapes`,
    interval:
      spreads.length === 0
        ? 'No interval: one sample a shape'
        : `No interval: medians; of ours, half the interquartile range is at most ${most} of the median${spreads.length < bars.length ? ` in the ${spreads.length} shapes of several samples` : ''}`,
    columns: 2,
    height: 43 + 11 * Math.max(1, bars.length),
    legend: [
      { label: 'neurgrad', colour: LIGHT.positive, mark: 'bar' },
      { label: 'as fast as the best peer', colour: LIGHT.ink, mark: 'line' },
    ],
    plot: {
      marginLeft: 8 + Math.max(0, ...bars.map(({ name }) => textWidth(name, 8))),
      x: {
        type: 'log',
        label: AXIS,
        domain: [Math.min(...ratios), Math.max(...ratios) * 1.05],
        ticks: 5,
        tickFormat: '~g',
      },
      y: { label: null, domain: bars.map(({ name }) => name) },
      marks: [
        Plot.gridX({ ticks: 5, stroke: LIGHT.ink, strokeOpacity: 0.1 }),
        Plot.barX(bars, { x1: 1, x2: 'ratio', y: 'name', fill: LIGHT.positive, inset: 0.5 }),
        Plot.ruleX([1], { stroke: LIGHT.ink }),
      ],
    },
    data: bars.map(({ name, ratio }) => ({ shape: name, [AXIS]: ratio })),
  };
}

/** The chart as SVG, on white paper: it stands in pages that may be dark. */
export const toChart = (report: Report): string =>
  figureSvg(chartFigure(report)).replace('<svg ', '<svg style="background:#ffffff" ');
