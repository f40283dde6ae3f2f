/** Share of tested neurons in each layer that are linear, raising above and lowering below the axis. */

import * as Plot from '@observablehq/plot';
import type { LayerCount } from '../../neurgrad/study/summary.ts';
import type { Figure, Told } from './figure.ts';
import { LIGHT } from './palette.ts';

/** Layers up to which each bears its number of neurons. */
const NUMBERED_LAYERS = 12;

const SIDES = [
  ['positive', 1],
  ['negative', -1],
] as const;

export function polarityByLayer(told: Told, layers: readonly LayerCount[]): Figure {
  const bars = layers.flatMap(({ layer, tested, shares }) =>
    SIDES.map(([kind, side]) => {
      const { value, interval } = shares[kind];
      const ends = interval && ([side * interval.low, side * interval.high] as const);
      return { layer, kind, share: tested === 0 ? 0 : side * value, ends, colour: LIGHT[kind] };
    }),
  );
  type Bar = (typeof bars)[number];
  return {
    ...told,
    columns: 2,
    height: 170,
    legend: [
      { label: 'linear, raises the target', colour: LIGHT.positive, mark: 'bar' },
      { label: 'linear, lowers it', colour: LIGHT.negative, mark: 'bar' },
    ],
    plot: {
      marginLeft: 34,
      x: { label: 'layer', type: 'band' },
      y: {
        ...{ label: 'share of tested neurons', domain: [-1, 1], grid: true, ticks: 5 },
        tickFormat: (share: number) => `${Math.round(100 * Math.abs(share))}%`,
      },
      marks: [
        Plot.barY(bars, { x: 'layer', y: 'share', fill: 'colour' }),
        Plot.ruleX(
          bars.filter(({ ends }) => ends !== null),
          {
            x: 'layer',
            y1: ({ ends }: Bar) => ends![0],
            y2: ({ ends }: Bar) => ends![1],
            stroke: LIGHT.ink,
            strokeWidth: 1,
          },
        ),
        // A number under each of many layers would run into the next.
        Plot.text(layers.length <= NUMBERED_LAYERS ? layers : [], {
          x: 'layer',
          y: -1,
          dy: -5,
          text: ({ tested }: LayerCount) => `n ${tested}`,
          fill: LIGHT.ink,
        }),
        Plot.ruleY([0], { stroke: LIGHT.ink }),
      ],
    },
    data: layers.flatMap(({ layer, tested, shares }) =>
      SIDES.map(([kind]) => ({
        ...{ layer, tested, polarity: kind, 'share linear': shares[kind].value },
        ...{ '95% low': shares[kind].interval?.low ?? null, '95% high': shares[kind].interval?.high ?? null },
      })),
    ),
  };
}
