/** Figures of the linearity study: Figure 2, bars by layer, single curves. Drawn as those of the demo's report. */

import * as Plot from '@observablehq/plot';
import type { ExampleCurve, LayerCount, ModelSummary, Pair } from '../neurgrad/study/summary.ts';
import type { Html } from './html.ts';
import { diagonal, draw } from './plots.ts';

/** A colour for each of several models; one model has the page's own. */
export function modelColours(count: number): string[] {
  const domain = Array.from({ length: count }, (_, model) => model);
  if (count === 1) return ['var(--positive)'];
  const colour = Plot.scale({ color: { type: 'categorical', scheme: 'Observable10', domain } });
  return domain.map((model) => colour!.apply(model) as string);
}

/** Mean |r| against the range of shifts, one line a model (Figure 2). @param marked ranges with a rule. */
export function straightnessByRange(
  models: readonly ModelSummary['figure2'][],
  marked: readonly number[],
): Html {
  const colours = modelColours(models.length);
  const points = models.flatMap((figure2, model) =>
    figure2.map(({ range, meanR }) => ({
      range,
      meanR: meanR.value,
      low: meanR.interval?.low ?? Number.NaN,
      high: meanR.interval?.high ?? Number.NaN,
      model,
      colour: colours[model]!,
    })),
  );
  const low = Math.min(0.9, ...points.map((point) => (point.low < point.meanR ? point.low : point.meanR)));
  return draw('Mean absolute correlation against the range of shifts', {
    width: 640,
    height: 340,
    marginLeft: 48,
    marginBottom: 40,
    x: { label: 'range of shifts ±R' },
    y: { label: 'mean |r|', domain: [Math.max(0, low - 0.05), 1], grid: true },
    marks: [
      Plot.ruleY([0.95], { stroke: 'var(--ink)', strokeOpacity: 0.5, strokeDasharray: '4 4' }),
      Plot.ruleX(marked, { stroke: 'var(--ink)', strokeOpacity: 0.25 }),
      Plot.areaY(points, {
        x: 'range',
        y1: 'low',
        y2: 'high',
        z: 'model',
        fill: 'colour',
        fillOpacity: 0.18,
      }),
      Plot.line(points, {
        x: 'range',
        y: 'meanR',
        z: 'model',
        stroke: 'colour',
        strokeWidth: 2.5,
      }),
    ],
  });
}

/** Layers up to which each bears its number of neurons. */
const NUMBERED_LAYERS = 12;

/** Share of tested neurons in each layer that are linear, raising above and lowering below the axis. */
export function polarityByLayer(layers: readonly LayerCount[]): Html {
  const bars = layers.flatMap(({ layer, tested, shares }) =>
    (['positive', 'negative'] as const).map((kind) => {
      const { value, interval } = shares[kind];
      const side = kind === 'positive' ? 1 : -1;
      const ends = interval && [side * interval.low, side * interval.high];
      return { layer, share: tested === 0 ? 0 : side * value, ends, kind };
    }),
  );
  return draw('Share of linear neurons by layer and polarity', {
    width: 640,
    height: 280,
    marginLeft: 48,
    x: { label: 'layer', type: 'band' },
    y: {
      label: 'share of tested neurons',
      domain: [-1, 1],
      grid: true,
      tickFormat: (share: number) => `${Math.round(100 * Math.abs(share))}%`,
    },
    marks: [
      Plot.barY(bars, {
        x: 'layer',
        y: 'share',
        fill: (bar: (typeof bars)[number]) => `var(--${bar.kind})`,
      }),
      Plot.ruleX(
        bars.filter(({ ends }) => ends !== null),
        {
          x: 'layer',
          y1: (bar: (typeof bars)[number]) => bar.ends![0]!,
          y2: (bar: (typeof bars)[number]) => bar.ends![1]!,
          stroke: 'var(--ink)',
          strokeWidth: 1.5,
          marker: 'tick',
        },
      ),
      // A number under each of many layers would run into the next.
      Plot.text(layers.length <= NUMBERED_LAYERS ? layers : [], {
        x: 'layer',
        y: -1,
        dy: -8,
        text: ({ tested }: LayerCount) => `n ${tested}`,
        fill: 'var(--ink)',
      }),
      Plot.ruleY([0], { stroke: 'var(--ink)' }),
    ],
  });
}

/** Ticks of a root axis that lie evenly on it: 0, and a number of one digit and its quarter on both sides. */
function rootTicks(most: number): number[] {
  const unit = 10 ** Math.floor(Math.log10(most));
  // 8 of the unit below is there where most is less than 2 of its own.
  const outer = unit * [8, 4, 2, 0.8].find((digit) => digit * unit <= most)!;
  return [-outer, -outer / 4, 0, outer / 4, outer];
}

/** A number of one digit, short where it is small. */
function oneDigit(value: number): string {
  const size = Math.abs(value);
  const text = size > 0 && size < 1e-3 ? value.toExponential(0) : String(Number(value.toPrecision(1)));
  return text.replaceAll('-', '−');
}

/** An estimate against G_E, one dot a pair, by the sign of the activation. Root axes: effects have heavy tails. */
export function scatter(pairs: readonly Pair[], estimate: 'gradient' | 'neurgrad', label: string): Html {
  const most = Math.max(...pairs.flatMap((pair) => [Math.abs(pair[estimate]), Math.abs(pair.slope)]), 1e-12);
  const domain = [-most, most];
  const ticks = rootTicks(most);
  const axis = { type: 'pow', exponent: 0.5, domain, ticks, grid: true, tickFormat: oneDigit } as const;
  return draw(`${label} against G_E`, {
    width: 420,
    height: 360,
    marginLeft: 56,
    marginBottom: 40,
    x: { ...axis, label },
    y: { ...axis, label: 'measured G_E' },
    marks: [
      diagonal(domain),
      Plot.dot(pairs, {
        x: estimate,
        y: 'slope',
        r: 2.5,
        fill: (pair: Pair) => (pair.activation < 0 ? 'var(--muted)' : 'var(--positive)'),
        fillOpacity: 0.6,
      }),
    ],
  });
}

/** Change of the target's value against the shift, with the line of slope G_E. */
export function exampleCurve(curve: ExampleCurve, label: string): Html {
  const points = curve.shifts.map((shift, i) => ({ shift, value: curve.base + curve.changes[i]! }));
  const [first, last] = [points[0]!.shift, points.at(-1)!.shift];
  const line = [first, last].map((shift) => ({ shift, value: curve.base + curve.slope * shift }));
  const values = points.map(({ value }) => value);
  const air = (Math.max(...values) - Math.min(...values) || 1e-12) * 0.15;
  return draw(label, {
    width: 300,
    height: 190,
    marginLeft: 60,
    marginBottom: 34,
    x: { label: 'shift', ticks: 5 },
    y: {
      label: null,
      ticks: 4,
      grid: true,
      domain: [Math.min(...values) - air, Math.max(...values) + air],
    },
    marks: [
      Plot.line(line, {
        x: 'shift',
        y: 'value',
        stroke: 'var(--ink)',
        strokeOpacity: 0.5,
        strokeDasharray: '4 4',
        clip: true,
      }),
      Plot.line(points, {
        x: 'shift',
        y: 'value',
        stroke: curve.slope > 0 ? 'var(--positive)' : 'var(--negative)',
        strokeWidth: 2.5,
      }),
      Plot.dot([{ shift: 0, value: curve.base }], { x: 'shift', y: 'value', fill: 'var(--ink)', r: 3 }),
    ],
  });
}
