/**
 * Neurons by a few words, as the command line and plans take them: `L3.N327,L0.N4`, `L3.*`, `L3.N0-99`, `L*.N7@pre`, `top:20`, `bottom:20`,
 * `random:100`, `all`.
 *
 * `top` and `bottom` are of a prompt: its neurons with the largest and the smallest NeurGrad. `random` is one seeded draw for all prompts.
 */

import { UserError } from '../engine/errors.ts';
import { checkOptions, checkValue, like, optionsSchema, text } from '../engine/options.ts';
import type { Site } from '../models/model.ts';
import { checkNeuron, formatNeuron, type Neuron, type NeuronSpace, neuronAt, resolveSite } from './neuron.ts';
import { drawWithoutReplacement, seededRandom, seedField } from './random.ts';

/** Where names that say no site are, and the seed of a draw. */
export interface SelectionOptions {
  /** Default `paper`. */
  readonly site?: string;
  /** Of `random:N`; default 0. */
  readonly seed?: number;
}

/** {@link SelectionOptions} */
export const selectionOptions = optionsSchema<SelectionOptions>({ site: text, seed: seedField });

/** Neurons that were asked for, of a model. */
export interface NeuronSelection {
  /** Whether `top` or `bottom` are among them, for which a prompt's NeurGrad is needed. */
  readonly ranked: boolean;
  /** No prompt has more of them: fewer where what is asked for twice, as `top` and `random` may, is one neuron. */
  readonly most: number;
  /**
   * In the order asked for, each once.
   * @param neurgrad a prompt's, flat, of the site that unnamed neurons have; needed where they are ranked.
   */
  neurons(neurgrad?: ArrayLike<number>): Neuron[];
}

const textField = like<string>(
  (value) => typeof value === 'string',
  "neurons, such as 'L3.N327,L0.*,top:20'",
);
const spaceField = like<NeuronSpace>(
  (value) => Array.isArray((value as Partial<NeuronSpace> | null | undefined)?.sites),
  'a model, or what neuronSpace gives',
);

const NAMED = /^L(\*|\d+)(?:-(\d+))?\.(?:(\*)|N(\d+)(?:-(\d+))?)(?:@(\w+))?$/i;
const COUNTED = /^(top|bottom|random):(\d+)$/i;
const HELP = 'write L3.N327, L3.*, L3.N0-99, top:20, bottom:20, random:100 or all';

/**
 * Reads neurons separated by commas or white space.
 * @throws UserError for what is none of the forms, a neuron that the model does not have or that is named twice, and more than it has.
 * @example
 * ```ts
 * import { formatNeuron, neuronSpace, selectNeurons } from 'neurgrad';
 * import { parseConfig, presetConfig } from 'neurgrad/models';
 *
 * const space = neuronSpace(parseConfig(presetConfig('llama2-7b')));
 * const { neurons } = selectNeurons('L20.N3781,L0.N0-1', space);
 * console.log(neurons().map((neuron) => formatNeuron(neuron))); // → [ 'L20.N3781@pre_linear', 'L0.N0@pre_linear', 'L0.N1@pre_linear' ]
 * ```
 */
export function selectNeurons(
  given: string,
  space: NeuronSpace,
  options: SelectionOptions = {},
): NeuronSelection {
  checkValue('selectNeurons', 'given', textField, given);
  checkValue('selectNeurons', 'space', spaceField, space);
  checkOptions('selectNeurons', selectionOptions, options);
  const { site: siteName = 'paper', seed = 0 } = options;
  const site = resolveSite(siteName, space);
  const words = given.split(/[\s,]+/).filter((word) => word !== '');
  if (words.length === 0) throw new UserError('neuron', `no neurons given; ${HELP}`);
  const parts = words.map((word) => partOf(word, space, site, seed));
  const named = new Set<string>();
  for (const { one } of parts) {
    if (!one) continue;
    if (named.has(one)) throw new UserError('neuron', `${one} is named twice`);
    named.add(one);
  }
  return {
    ranked: parts.some(({ ranked }) => ranked),
    most: parts.reduce((sum, { count }) => sum + count, 0),
    neurons(neurgrad) {
      const found = new Map<string, Neuron>();
      for (const { neurons } of parts)
        for (const neuron of neurons(neurgrad)) {
          const key = `${neuron.layer}.${neuron.index}@${neuron.site}`;
          if (!found.has(key)) found.set(key, neuron);
        }
      return [...found.values()];
    },
  };
}

interface Part {
  readonly ranked: boolean;
  readonly count: number;
  /** The name of a single neuron. */
  readonly one?: string;
  readonly neurons: (neurgrad?: ArrayLike<number>) => readonly Neuron[];
}

function partOf(word: string, space: NeuronSpace, site: Site, seed: number): Part {
  const { layers, width } = space.sizes;
  const total = layers * width;
  const flat = (numbers: readonly number[]): Neuron[] => numbers.map((n) => neuronAt(n, width, site));
  if (word.toLowerCase() === 'all')
    return { ranked: false, count: total, neurons: () => flat(Array.from({ length: total }, (_, n) => n)) };
  const counted = COUNTED.exec(word);
  if (counted) {
    const [, kind, text] = counted as unknown as [string, string, string];
    const count = Number(text);
    if (count === 0 || count > total)
      throw new UserError('neuron', `${word}: the model has ${total} neurons, so 1 to ${total}`);
    if (kind.toLowerCase() === 'random') {
      const drawn = drawWithoutReplacement(count, total, seededRandom(seed)).sort((a, b) => a - b);
      return { ranked: false, count, neurons: () => flat(drawn) };
    }
    const up = kind.toLowerCase() === 'top' ? 1 : -1;
    return {
      ranked: true,
      count,
      neurons(neurgrad) {
        if (neurgrad?.length !== total)
          throw new UserError('neuron', `${word}: needs the NeurGrad of all ${total} neurons of a prompt`);
        const order = Array.from({ length: total }, (_, n) => n);
        order.sort((a, b) => up * (neurgrad[b]! - neurgrad[a]!) || a - b);
        return flat(order.slice(0, count));
      },
    };
  }
  const match = NAMED.exec(word);
  if (!match) throw new UserError('neuron', `"${word}" is not a neuron; ${HELP}`);
  const [, layer, lastLayer, every, index, lastIndex, ownSite] = match;
  const span = (first: string, last: string | undefined, end: number): [number, number] =>
    first === '*' ? [0, end] : [Number(first), Number(last ?? first)];
  const [fromLayer, toLayer] = span(layer!, lastLayer, layers - 1);
  const [from, to] = every ? [0, width - 1] : span(index!, lastIndex, width - 1);
  const own = ownSite === undefined ? site : resolveSite(ownSite, space);
  for (const corner of [
    { layer: fromLayer, index: from, site: own },
    { layer: toLayer, index: to, site: own },
  ])
    checkNeuron(corner, space);
  if (fromLayer > toLayer || from > to)
    throw new UserError('neuron', `${word}: from the larger to the smaller`);
  const neurons: Neuron[] = [];
  for (let l = fromLayer; l <= toLayer; l++)
    for (let i = from; i <= to; i++) neurons.push({ layer: l, index: i, site: own });
  return {
    ranked: false,
    count: neurons.length,
    ...(neurons.length === 1 ? { one: formatNeuron(neurons[0]!) } : {}),
    neurons: () => neurons,
  };
}
