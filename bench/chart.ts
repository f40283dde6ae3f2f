/**
 * The rows that have a ratio, as bars on a logarithmic axis: right of 1 is faster than the best peer.
 */

import * as Plot from '@observablehq/plot';
import type { Report } from './rows.ts';

export function toChart(report: Report, document: unknown): string {
  const bars = report.rows.flatMap((row) =>
    row.ratio === null || !row.ratioOf.includes('peer')
      ? []
      : [{ name: `${row.suite} ${row.shape}`, ratio: row.ratio }],
  );
  const figure = Plot.plot({
    document: document as Document,
    ariaLabel: 'Times faster than the best peer',
    style: { background: 'white', color: 'black', fontFamily: 'sans-serif', fontSize: '11px' },
    width: 640,
    height: 40 + 18 * Math.max(1, bars.length),
    marginLeft: 190,
    x: { type: 'log', label: `times the best peer, ${report.adapter}`, grid: true, nice: true },
    y: { label: null, domain: bars.map((bar) => bar.name) },
    marks: [
      Plot.barX(bars, { x1: 1, x2: 'ratio', y: 'name', fill: '#2b6cb0' }),
      Plot.ruleX([1], { stroke: 'black' }),
    ],
  });
  figure.setAttribute('xmlns', 'http://www.w3.org/2000/svg');
  return `${figure.outerHTML}\n`;
}
