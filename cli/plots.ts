/**
 * Figures as SVG text: Observable Plot draws into a document by linkedom, no browser needed. Colours are the page's CSS
 * variables, so that one figure serves light and dark.
 */

import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';
import { type Html, raw } from './html.ts';
import type { Chosen, Study } from './study.ts';

type SweptNeuron = Study['sweep']['neurons'][number];

const COLOUR: Readonly<Record<Chosen, string>> = {
  positive: 'var(--positive)',
  negative: 'var(--negative)',
  random: 'var(--muted)',
};

/** Draws one figure; `label` is what a screen reader says. */
export function draw(label: string, options: Plot.PlotOptions): Html {
  const { document } = parseHTML('<!doctype html><html><body></body></html>');
  const figure = Plot.plot({
    ...options,
    document: document as unknown as Document,
    ariaLabel: label,
    style: { background: 'transparent', fontFamily: 'inherit', fontSize: '12px', overflow: 'visible' },
  });
  return raw(figure.outerHTML);
}

/** Accuracy by the number of skill neurons, with the line of guessing below the marks. */
export const accuracyBySize = (label: string, guessing: number, marks: readonly Plot.Markish[]): Html =>
  draw(label, {
    width: 480,
    height: 300,
    marginLeft: 48,
    marginBottom: 40,
    x: { type: 'log', base: 2, label: '|N_s|', ticks: 9, tickFormat: (size: number) => String(size) },
    y: { label: 'accuracy', domain: [0, 1], grid: true, ticks: 5 },
    marks: [
      Plot.ruleY([guessing], { stroke: 'var(--ink)', strokeOpacity: 0.5, strokeDasharray: '1 4' }),
      ...marks,
    ],
  });

/** The dashed line on which estimate and measurement are equal. */
export const diagonal = (domain: readonly number[]): Plot.Markish =>
  Plot.line(domain, {
    x: (end: number) => end,
    y: (end: number) => end,
    stroke: 'var(--ink)',
    strokeOpacity: 0.4,
    strokeDasharray: '4 4',
  });

/** The part of [low, high] that a figure shows, with a little air. */
function padded(values: readonly number[], share = 0.06): [number, number] {
  const low = Math.min(...values);
  const high = Math.max(...values);
  const air = (high - low || Math.abs(high) || 1) * share;
  return [low - air, high + air];
}

/** p against shift for one neuron, with the line fitted within ±range through (0, p(0)). */
export function curveFigure(
  neuron: SweptNeuron,
  label: string,
  range: number,
  yDomain?: [number, number],
): Html {
  const points = neuron.shifts.map((shift, i) => ({ shift, p: neuron.p[i]! }));
  const base = points.find(({ shift }) => shift === 0)!.p;
  const at = (shift: number) => ({ shift, p: base + neuron.intercept + neuron.slope * shift });
  const colour = COLOUR[neuron.chosen];
  return draw(label, {
    width: 300,
    height: 190,
    marginLeft: 48,
    marginBottom: 34,
    marginTop: 12,
    marginRight: 12,
    x: { label: 'shift', ticks: 5 },
    y: {
      label: null,
      ticks: 4,
      grid: true,
      domain:
        yDomain ??
        padded(
          points.map(({ p }) => p),
          0.15,
        ),
    },
    clip: true,
    marks: [
      Plot.rectY([0], { x1: -range, x2: range, y1: null, fill: 'var(--band)' } as Plot.RectYOptions),
      Plot.line([at(points[0]!.shift), at(points.at(-1)!.shift)], {
        x: 'shift',
        y: 'p',
        stroke: 'var(--ink)',
        strokeOpacity: 0.55,
        strokeDasharray: '4 4',
        clip: true,
      }),
      Plot.line(points, { x: 'shift', y: 'p', stroke: colour, strokeWidth: 2.5, clip: true }),
      Plot.dot([{ shift: 0, p: base }], { x: 'shift', y: 'p', fill: 'var(--ink)', r: 3 }),
    ],
  });
}

/** One y-domain for curves that are to be compared by eye. */
export function sharedDomain(neurons: readonly SweptNeuron[]): [number, number] {
  return padded(neurons.flatMap((neuron) => [...neuron.p]));
}

/** NeurGrad against measured G_E, one dot a neuron, with the line y = x. */
export function scatterFigure(neurons: readonly SweptNeuron[]): Html {
  const domain = padded(neurons.flatMap((neuron) => [neuron.neurgrad, neuron.slope]));
  return draw('Estimated against measured effect of each neuron', {
    width: 480,
    height: 400,
    marginLeft: 62,
    marginBottom: 42,
    marginTop: 28,
    x: { label: 'NeurGrad, one backward', domain, ticks: 5, grid: true },
    y: { label: 'measured slope G_E', domain, ticks: 6, grid: true },
    marks: [
      diagonal(domain),
      Plot.dot(neurons, {
        x: 'neurgrad',
        y: 'slope',
        r: 4.5,
        fill: (neuron: SweptNeuron) => COLOUR[neuron.chosen],
        fillOpacity: 0.75,
        stroke: 'var(--paper)',
        strokeWidth: 0.75,
      }),
    ],
  });
}

/** Mean |r| of the drawn neurons against the range of shifts (the paper's Fig. 2). */
export function straightnessFigure(straightness: Study['straightness']): Html {
  const points = straightness.map(({ range, meanR: { value, interval } }) => ({
    range,
    meanR: value,
    low: interval?.low ?? Number.NaN,
    high: interval?.high ?? Number.NaN,
  }));
  const low = Math.min(0.9, ...points.map((point) => (point.low < point.meanR ? point.low : point.meanR)));
  return draw('Mean absolute correlation against range of shifts', {
    width: 480,
    height: 400,
    marginLeft: 52,
    marginBottom: 42,
    marginTop: 28,
    x: { label: 'range of shifts ±R', domain: [0, straightness.at(-1)!.range] },
    y: { label: 'mean |r|', ticks: 6, domain: [Math.max(0, low - 0.05), 1], grid: true },
    marks: [
      Plot.ruleY([0.95], { stroke: 'var(--ink)', strokeOpacity: 0.5, strokeDasharray: '4 4' }),
      Plot.areaY(points, {
        x: 'range',
        y1: 'low',
        y2: 'high',
        fill: 'var(--positive)',
        fillOpacity: 0.18,
      }),
      Plot.line(points, { x: 'range', y: 'meanR', stroke: 'var(--positive)', strokeWidth: 2.5 }),
      Plot.dot(
        points.filter(({ range }) => Math.abs(range - 2) < 1e-9),
        {
          x: 'range',
          y: 'meanR',
          fill: 'var(--positive)',
          r: 4.5,
        },
      ),
    ],
  });
}
