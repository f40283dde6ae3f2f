/** p of the target against the shift of one neuron: NeurGrad's line, what the slider met, the sweep and its fit. */

import { dot, line, plot, rectY, ruleX } from '@observablehq/plot';
import { TICKS, tickLabels } from '../../../cli/figures/ticks.ts';
import type { NeuronCurve } from '../../../neurgrad/index.ts';
import { lineWithin, type Point } from './lines.ts';

export interface CurveData {
  readonly label: string;
  /** At shift 0. */
  readonly p: number;
  readonly neurgrad: number;
  /** Where slope and r are fitted. */
  readonly range: number;
  readonly sweep: NeuronCurve | null;
  /** Points that dragging met. */
  readonly trace: readonly Point[];
  /** Null where other neurons are shifted too: then it lies on no curve of this one alone. */
  readonly now: Point | null;
}

export function drawCurve(
  { label, p, neurgrad, range, sweep, trace, now }: CurveData,
  width: number,
): SVGSVGElement {
  const swept = sweep ? sweep.shifts.map((shift, i) => ({ shift, p: sweep.p[i]! })) : [];
  const reach = sweep ? Math.max(...sweep.shifts.map(Math.abs)) : 10;
  const here = now ? [now] : [];
  const values = [...swept, ...trace, ...here, ...lineWithin(p, neurgrad, range)].map((point) => point.p);
  const low = Math.min(...values);
  const high = Math.max(...values);
  const air = (high - low || 0.01) * 0.12;
  // Nothing is drawn where no probability can be.
  const [bottom, top] = [Math.max(0, low - air), Math.min(1, high + air)];
  const fitted = sweep ? lineWithin(p, sweep.slope, reach) : [];
  // In the page's own unit, which grows with the window.
  const unit = Number.parseFloat(getComputedStyle(document.documentElement).fontSize) / 16;
  const tickFormat = tickLabels(bottom, top);
  const widest = Math.max(...[bottom, (low + high) / 2, top].map((value) => tickFormat(value).length));
  const figure = plot({
    width,
    height: Math.round(unit * Math.max(200, Math.min(300, (width / unit) * 0.5))),
    // As wide as the labels: a digit takes a little over half of the font's size.
    marginLeft: (16 + 7.2 * widest) * unit,
    marginBottom: 38 * unit,
    marginTop: 14,
    marginRight: 14 * unit,
    ariaLabel: label,
    style: { background: 'transparent', fontFamily: 'inherit', fontSize: '0.74rem', color: 'var(--muted)' },
    x: {
      label: 'shift of the activation',
      domain: [-reach, reach],
      ticks: TICKS,
      labelArrow: 'none',
      labelOffset: 33 * unit,
    },
    y: { label: null, domain: [bottom, top], ticks: TICKS, grid: true, tickFormat },
    // A stroke along the edge is whole.
    insetTop: 4,
    insetBottom: 4,
    clip: true,
    marks: [
      rectY([0], { x1: -range, x2: range, y1: bottom, y2: top, fill: 'var(--band)' }),
      ruleX([0], { stroke: 'var(--line)' }),
      line(lineWithin(p, neurgrad, reach), {
        x: 'shift',
        y: 'p',
        stroke: 'var(--ink)',
        strokeOpacity: 0.55,
        strokeDasharray: '4 4',
      }),
      line(fitted, { x: 'shift', y: 'p', stroke: 'var(--fit)', strokeWidth: 1.5 }),
      line(swept, { x: 'shift', y: 'p', stroke: 'var(--focus)', strokeWidth: 2.5 }),
      dot(trace, { x: 'shift', y: 'p', r: 2, fill: 'var(--focus)', fillOpacity: 0.45 }),
      dot(here, { x: 'shift', y: 'p', r: 5.5, fill: 'var(--focus)', stroke: 'var(--card)', strokeWidth: 2 }),
    ],
  });
  const svg = figure as unknown as SVGSVGElement;
  // One picture to a screen reader: the names of its groups say nothing.
  svg.setAttribute('role', 'img');
  for (const group of svg.querySelectorAll('g[aria-label]')) group.removeAttribute('aria-label');
  return svg;
}
