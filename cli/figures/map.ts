/** A value of every neuron, a row a layer. */

import * as Plot from '@observablehq/plot';
import { figure as digits } from '../numbers.ts';
import type { Figure, Told } from './figure.ts';

/** Cells of a row at most: of more neurons a cell shows the largest. */
const CELLS = 128;

/** Of the values from the most negative, or 0, to the largest. */
const SIGNED = ['#b5491f', '#eef0f4', '#2563b8'] as const;
const SIZES = ['#eef0f4', '#15803d'] as const;

export interface NeuronValue {
  readonly layer: number;
  readonly index: number;
  readonly value: number;
}

/** Neurons that one cell stands for. */
export const neuronsPerCell = (width: number): number => Math.ceil(width / Math.min(CELLS, width));

/** The values of all neurons for one prompt, in words. @param what `of` as a caption begins with it. */
export function everyNeuron(
  name: string,
  of: string,
  what: string,
  { model, prompt, token, neurons }: { model: string; prompt: string; token: string; neurons: number },
): Told {
  return {
    name,
    label: `${of} of every neuron`,
    caption: `${what} of every neuron of ${model} for “${prompt}”, target ${token}; colours by square roots`,
    n: `n = ${neurons.toLocaleString('en')} neurons of one prompt`,
    interval: 'No interval: all neurons, not a sample of them',
  };
}

/** @param signs whether values have signs. @param of the name of the values, with their unit. */
export function mapFigure(
  told: Told,
  values: readonly NeuronValue[],
  { layers, width, signs, of }: { layers: number; width: number; signs: boolean; of: string },
): Figure {
  const across = Math.min(CELLS, width);
  const kept = new Map<string, NeuronValue & { readonly cell: number }>();
  for (const neuron of values) {
    const cell = Math.floor((neuron.index * across) / width);
    const key = `${neuron.layer}.${cell}`;
    const before = kept.get(key);
    if (!before || Math.abs(neuron.value) > Math.abs(before.value)) kept.set(key, { ...neuron, cell });
  }
  const cells = [...kept.values()];
  // A few neurons hold most: the scale is of square roots.
  const most = cells.reduce((largest, { value }) => Math.max(largest, Math.abs(value)), 0) || 1;
  const shade = (value: number): number => Math.sign(value) * Math.sqrt(Math.abs(value) / most);
  const steps = signs ? [-1, -0.25, 0, 0.25, 1] : [0, 0.25, 0.5, 0.75, 1];
  const scale: Plot.ScaleOptions = signs
    ? { type: 'linear', domain: [-1, 0, 1], range: [...SIGNED] }
    : { type: 'linear', domain: [0, 1], range: [...SIZES] };
  const colour = Plot.scale({ color: scale })!;
  const perLayer = Math.max(4, Math.min(12, 300 / layers));
  return {
    ...told,
    columns: 2,
    height: 44 + perLayer * layers,
    legend: steps.map((step) => ({
      label: digits(step * most, 2).replace('-', '−'),
      colour: colour.apply(shade(step * most)) as string,
      mark: 'bar',
    })),
    plot: {
      marginLeft: 26,
      x: {
        label: `neurons of a layer${width > across ? `, the largest ${of} of ${neuronsPerCell(width)} in a cell` : ''}`,
        domain: Array.from({ length: across }, (_, cell) => cell),
        ticks: Array.from({ length: 9 }, (_, i) => Math.floor((i * across) / 9)),
        tickFormat: (cell: number) => String(Math.floor((cell * width) / across)),
      },
      y: {
        label: 'layer',
        domain: Array.from({ length: layers }, (_, layer) => layer),
        ticks: Array.from({ length: layers }, (_, layer) => layer).filter(
          (layer) => layer % Math.ceil(9 / perLayer) === 0,
        ),
      },
      color: scale,
      marks: [
        Plot.cell(cells, { x: 'cell', y: 'layer', fill: ({ value }: NeuronValue) => shade(value), inset: 0 }),
      ],
    },
    data: cells.map(({ layer, index, value }) => ({ layer, neuron: index, [of]: value })),
  };
}
