/**
 * Activation, computed gradient G_C and NeurGrad of every neuron of a site, by one forward and one backward (docs/conventions.md#the-sign).
 *
 * Everything is taken at the unpatched prompt and, unless asked otherwise, at the probe position; G_C is the total derivative dv/da of the
 * target's p, log p or logit. The device differentiates the log odds log p / (1 - p); p (1 - p) and 1 - p are multiplied in float64, so that G_C
 * is a number, and the right one, where p or 1 - p is below what float32 can tell from 0.
 */

import { callback, checkOptions, checkValue, like, one, optionsSchema, whole } from '../engine/options.ts';
import type { LanguageModel, Site } from '../models/model.ts';
import {
  type Asked,
  askedOf,
  checkOther,
  manyTargets,
  probeAsked,
  type Target,
  targetField,
  tokensOf,
} from './answers.ts';
import {
  type Conventions,
  type Direction,
  type Measure,
  measureFields,
  neurGrad,
  numbersOf,
  type Sign,
} from './conventions.ts';
import { eachOf, isMany, oneOrEach } from './each.ts';
import { resolveSite, SITES, siteHook } from './neuron.ts';
import { checkProbe, neuronPosition, type Probe, tokenField } from './predict.ts';
import type { ProbedHooks } from './probed.ts';
import { checkRecord, type PromptRecord, recordField } from './record.ts';

/** What gradients are taken of, and where. */
export interface GradientOptions {
  /**
   * Token id, or of causal models those of an answer of several tokens, whose p is the product of theirs, each after the ones before
   * it; default the model's argmax, of equal ones the lowest id.
   */
  readonly target?: Target | undefined;
  /** Token id that `logit_diff` subtracts. */
  readonly other?: number | undefined;
  /** Token whose neurons are read; default the probe position. */
  readonly neuronPosition?: number | undefined;
  /** Default `paper`: pre_linear where it gates, else post. */
  readonly site?: Site | 'paper';
  /** Default `prob`. `logit_diff`: the target's logit less that of `other`. */
  readonly of?: Measure;
  /** Default `outward`. */
  readonly direction?: Direction;
  /** Default `+`. */
  readonly sign?: Sign;
  /** The prompt's run, where it is there already; its target and position are the default then. */
  readonly record?: PromptRecord | undefined;
}

const placeFields = { neuronPosition: whole(), site: one(SITES), ...measureFields };
/** {@link GradientOptions} */
export const gradientOptions = optionsSchema<GradientOptions>({
  target: targetField,
  other: tokenField,
  ...placeFields,
  record: recordField,
});

/** {@link GradientOptions} of several prompts. */
export interface ManyGradientOptions
  extends Omit<GradientOptions, 'target' | 'other' | 'neuronPosition' | 'record'> {
  /**
   * Token id, one for all or one a prompt, of an answer of several tokens a list of them; default each prompt's argmax. Several targets
   * of a prompt: give it once for each, and what they share is computed once where there is a cache.
   */
  readonly target?: number | undefined | readonly (Target | undefined)[];
  /** As in {@link GradientOptions}, one for all or one a prompt. */
  readonly other?: number | undefined | readonly (number | undefined)[];
  /** As in {@link GradientOptions}, one for all or one a prompt. */
  readonly neuronPosition?: number | undefined | readonly (number | undefined)[];
  /** Told after each pass how many of all prompts are done. */
  readonly onProgress?: (done: number, all: number) => void;
}

/** {@link ManyGradientOptions} */
export const manyGradientOptions = optionsSchema<ManyGradientOptions>({
  ...placeFields,
  target: manyTargets,
  other: oneOrEach(tokenField, "a token's id, or a list of one a prompt"),
  neuronPosition: oneOrEach(whole(), 'a position, or a list of one a prompt'),
  onProgress: callback(),
});

/** One value a neuron, flattened: layer * width + index. */
export interface NeuronGradients {
  readonly layers: number;
  readonly width: number;
  /** Where the target is read. */
  readonly position: number;
  /** Where the neurons are. */
  readonly neuronPosition: number;
  readonly target: number;
  /** Of an answer of several tokens all of them; `target` is the first. */
  readonly answer?: readonly number[];
  /** What `logit_diff` subtracts. */
  readonly other?: number;
  /** The target's probability. */
  readonly p: number;
  readonly activation: Float32Array;
  /** G_C. */
  readonly gradient: Float64Array;
  readonly neurgrad: Float64Array;
  /** What of a gradient, and so of its NeurGrad, may be rounding: one that is no larger says nothing, not even by its sign. */
  readonly noise: Float64Array;
  /** Neurons whose gradient is no larger than its noise, those with 0 among them. */
  readonly belowNoise: number;
  /** Neurons whose activation, or gradient, is exactly 0. */
  readonly zeros: { readonly activation: number; readonly gradient: number };
  readonly conventions: Conventions;
}

/**
 * The same of many prompts of any lengths, in passes of as many as fit: the same bits as one by one.
 * @throws UserError as for one, and where targets are not one a prompt.
 */
export function neuronGradients(
  model: LanguageModel,
  probes: readonly Probe[],
  options?: ManyGradientOptions,
): Promise<NeuronGradients[]>;
/**
 * Activation, G_C and NeurGrad of all neurons for one prompt.
 * @throws UserError for an option or value that there is not, a target outside the vocabulary or a position outside the prompt.
 * @example
 * ```ts
 * import { encodePrompt, formatNeuron, loadModel, neuronAt, neuronGradients, strongest } from 'neurgrad';
 *
 * const { model, tokenizer } = await loadModel('examples/models/facts-bert');
 * const prompt = encodePrompt(model, tokenizer, 'The capital of France is [MASK].');
 * const { neurgrad, p } = await neuronGradients(model, prompt);
 * console.log(neurgrad.length, p > 0.9); // → 2048 true
 * for (const flat of strongest(neurgrad, 2).positive)
 *   console.log(formatNeuron(neuronAt(flat, model.sizes.width, 'post')), neurgrad[flat]!.toFixed(5));
 * model.device.destroy();
 * ```
 */
export function neuronGradients(
  model: LanguageModel,
  probe: Probe,
  options?: GradientOptions,
): Promise<NeuronGradients>;
export async function neuronGradients(
  model: LanguageModel,
  probes: Probe | readonly Probe[],
  options: ManyGradientOptions | GradientOptions = {},
): Promise<NeuronGradients | NeuronGradients[]> {
  if (isMany(probes)) return gradientsOfMany(model, probes, options);
  const probe = probes;
  checkOptions('neuronGradients', gradientOptions, options as GradientOptions);
  checkProbe('neuronGradients', model, probe);
  const { of = 'prob', record: given, target: asked, other, ...reading } = options as GradientOptions;
  checkOther('neuronGradients', of, other ?? given?.other);
  const site = resolveSite(options.site ?? 'paper', model);
  const at = neuronPosition(probe, (options as GradientOptions).neuronPosition ?? given?.neuronPosition);
  const about = { at, of, target: asked, other };
  const question = askedOf('neuronGradients', model, probe, about);
  checkRecord('neuronGradients', model, probe, options as GradientOptions);
  const names = siteHooks(model, site);
  const conventions = conventionsOf(model, site, { of, ...reading });
  if (!given) {
    const [read] = await probeAsked(model, [question], names, of);
    return gradientsOf(model, question, read!, names, conventions);
  }
  const { target } = given;
  const read = given.hooks(names, of);
  const part = { probe, at, target, other: given.other };
  return gradientsOf(model, { probe, at, parts: [part] }, read, names, conventions);
}

async function gradientsOfMany(
  model: LanguageModel,
  probes: readonly Probe[],
  options: ManyGradientOptions,
): Promise<NeuronGradients[]> {
  checkOptions('neuronGradients', manyGradientOptions, options);
  for (const probe of probes) checkProbe('neuronGradients', model, probe);
  const { of = 'prob', target, onProgress } = options;
  const site = resolveSite(options.site ?? 'paper', model);
  const each = eachOf('neuronGradients', probes);
  const targets = each('targets', target);
  const others = each('others', options.other);
  const positions = each('positions', options.neuronPosition);
  const asked = probes.map((probe, i) => {
    checkOther('neuronGradients', of, others[i]);
    const at = neuronPosition(probe, positions[i]);
    return askedOf('neuronGradients', model, probe, { at, of, target: targets[i], other: others[i] });
  });
  const names = siteHooks(model, site);
  const conventions = conventionsOf(model, site, options);
  const found = await probeAsked(model, asked, names, of, onProgress);
  return found.map((read, i) => gradientsOf(model, asked[i]!, read, names, conventions));
}

const siteHooks = ({ sizes }: LanguageModel, site: Site): string[] =>
  Array.from({ length: sizes.layers }, (_, layer) => siteHook(layer, site));

const conventionsOf = (
  model: LanguageModel,
  site: Site,
  { of = 'prob', direction = 'outward', sign = '+' }: Pick<GradientOptions, 'of' | 'direction' | 'sign'>,
): Conventions => ({ site, of, direction, sign, dtype: numbersOf(model) });

function gradientsOf(
  { sizes }: LanguageModel,
  { probe, at, parts }: Asked,
  read: ProbedHooks,
  names: readonly string[],
  conventions: Conventions,
): NeuronGradients {
  const { layers, width } = sizes;
  const activation = new Float32Array(layers * width);
  const gradient = new Float64Array(layers * width);
  const noise = new Float64Array(layers * width);
  names.forEach((name, layer) => {
    activation.set(read.activation.get(name)!, layer * width);
    gradient.set(read.gradient.get(name)!, layer * width);
    noise.set(read.noise.get(name)!, layer * width);
  });
  return {
    layers,
    width,
    position: probe.position,
    neuronPosition: at,
    target: read.token,
    ...tokensOf(parts),
    p: read.target.prob,
    activation,
    gradient,
    neurgrad: gradient.map((g, i) => neurGrad(activation[i]!, g, conventions)),
    noise,
    belowNoise: gradient.reduce((count, g, i) => (Math.abs(g) <= noise[i]! ? count + 1 : count), 0),
    zeros: { activation: countZeros(activation), gradient: countZeros(gradient) },
    conventions,
  };
}

function countZeros(values: ArrayLike<number>): number {
  let count = 0;
  for (let i = 0; i < values.length; i++) if (values[i] === 0) count++;
  return count;
}

const valuesField = like<Float32Array | Float64Array | readonly number[]>(
  (value) =>
    value instanceof Float32Array ||
    value instanceof Float64Array ||
    (Array.isArray(value) && value.every((v) => typeof v === 'number')),
  'a list of numbers, one a neuron, such as `neurgrad` of what neuronGradients gives',
);

/**
 * Flat numbers of the neurons with the largest and the smallest (most negative) values, strongest first.
 * @throws UserError for what is no list of numbers, such as a whole result, and for a count that is no whole number.
 * @example
 * ```ts
 * import { strongest } from 'neurgrad';
 *
 * console.log(strongest(Float32Array.of(1, -3, 2, 0), 2)); // → { positive: [ 2, 0 ], negative: [ 1 ] }
 * ```
 */
export function strongest(
  values: Float32Array | Float64Array | readonly number[],
  count: number,
): { positive: number[]; negative: number[] } {
  checkValue('strongest', 'values', valuesField, values);
  checkValue('strongest', 'count', whole(), count);
  const order = Array.from(values.keys()).sort((a, b) => values[b]! - values[a]! || a - b);
  return {
    positive: order.slice(0, count).filter((i) => values[i]! > 0),
    negative: order
      .slice(Math.max(0, order.length - count))
      .reverse()
      .filter((i) => values[i]! < 0),
  };
}
