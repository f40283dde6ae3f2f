/**
 * Activation, computed gradient G_C and NeurGrad of every neuron of a site, by one forward and one backward (SPEC 3).
 *
 * Everything is taken at the unpatched prompt and, unless asked otherwise, at the probe position; G_C is the total derivative dv/da of the
 * target's p, log p or logit. The device differentiates the log odds log p / (1 - p); p (1 - p) and 1 - p are multiplied in float64, so that G_C
 * is a number, and the right one, where p or 1 - p is below what float32 can tell from 0.
 */

import * as v from 'valibot';
import { UserError } from '../engine/errors.ts';
import {
  callback,
  checkOptions,
  checkValue,
  type Field,
  like,
  one,
  optionsSchema,
  whole,
} from '../engine/options.ts';
import type { LanguageModel, Quantity, Site } from '../models/model.ts';
import {
  type Conventions,
  conventionFields,
  type Direction,
  neurGrad,
  numbersOf,
  type Sign,
} from './conventions.ts';
import { resolveSite, SITES, siteHook } from './neuron.ts';
import { checkProbe, checkTarget, neuronPosition, type Probe, tokenField } from './predict.ts';
import type { ProbedHooks } from './probed.ts';
import { answersOf, type ProbeJob, probeMany } from './probeMany.ts';
import { checkRecord, openRecord, type PromptRecord, recordField } from './record.ts';

/** What gradients are taken of, and where. */
export interface GradientOptions {
  /** Token id; default the model's argmax, which costs a forward pass more. */
  readonly target?: number | undefined;
  /** Token whose neurons are read; default the probe position. */
  readonly neuronPosition?: number | undefined;
  /** Default `paper`: pre_linear where it gates, else post. */
  readonly site?: Site | 'paper';
  /** Default `prob`. */
  readonly of?: Quantity;
  /** Default `outward`. */
  readonly direction?: Direction;
  /** Default `+`. */
  readonly sign?: Sign;
  /** The prompt's run, where it is there already; its target and position are the default then. */
  readonly record?: PromptRecord | undefined;
}

const placeFields = { neuronPosition: whole(), site: one(SITES), ...conventionFields };
/** {@link GradientOptions} */
export const gradientOptions = optionsSchema<GradientOptions>({
  target: tokenField,
  ...placeFields,
  record: recordField,
});

/** {@link GradientOptions} of several prompts. */
export interface ManyGradientOptions extends Omit<GradientOptions, 'target' | 'neuronPosition' | 'record'> {
  /**
   * Token id, one for all or one a prompt; default each prompt's argmax. Several targets of a prompt: give it once for each, and
   * what they share is computed once where there is a cache.
   */
  readonly target?: number | undefined | readonly (number | undefined)[];
  /** As in {@link GradientOptions}, one for all or one a prompt. */
  readonly neuronPosition?: number | undefined | readonly (number | undefined)[];
  /** Told after each pass how many of all prompts are done. */
  readonly onProgress?: (done: number, all: number) => void;
}

/** One for all prompts, or a list of one a prompt. */
const oneOrList = (field: Field<number>, expected: string): Field<number | readonly (number | undefined)[]> =>
  like(
    (value) =>
      Array.isArray(value)
        ? value.every((each) => each === undefined || v.is(field, each))
        : v.is(field, value),
    expected,
  );

/** {@link ManyGradientOptions} */
export const manyGradientOptions = optionsSchema<ManyGradientOptions>({
  ...placeFields,
  target: oneOrList(tokenField, "a token's id, or a list of one a prompt"),
  neuronPosition: oneOrList(whole(), 'a position, or a list of one a prompt'),
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
  const { of = 'prob', record: given, target: asked, ...reading } = options as GradientOptions;
  const site = resolveSite(options.site ?? 'paper', model);
  const at = neuronPosition(probe, (options as GradientOptions).neuronPosition ?? given?.neuronPosition);
  if (asked !== undefined) checkTarget(asked, model.sizes.vocabulary);
  checkRecord('neuronGradients', model, probe, options as GradientOptions);
  const names = siteHooks(model, site);
  using own = given
    ? null
    : await openRecord(model, probe, { at, names, of, target: asked, differences: false });
  const record = given ?? own!;
  const place = { probe, at, target: record.target };
  return gradientsOf(
    model,
    place,
    record.hooks(names, of),
    names,
    conventionsOf(model, site, { of, ...reading }),
  );
}

const isMany = (probes: Probe | readonly Probe[]): probes is readonly Probe[] => Array.isArray(probes);

async function gradientsOfMany(
  model: LanguageModel,
  probes: readonly Probe[],
  options: ManyGradientOptions,
): Promise<NeuronGradients[]> {
  checkOptions('neuronGradients', manyGradientOptions, options);
  for (const probe of probes) checkProbe('neuronGradients', model, probe);
  const { of = 'prob', target, onProgress } = options;
  const site = resolveSite(options.site ?? 'paper', model);
  const each = <Value>(name: string, given: Value | readonly Value[]): readonly Value[] => {
    if (!isList(given)) return probes.map(() => given);
    if (given.length === probes.length) return given;
    throw new UserError(
      'option',
      `neuronGradients: ${given.length} ${name} for ${probes.length} prompts; give one a prompt, or one for all`,
    );
  };
  const asked = each('targets', target);
  for (const id of asked) if (id !== undefined) checkTarget(id, model.sizes.vocabulary);
  const positions = each('positions', options.neuronPosition);
  const places = probes.map((probe, i) => neuronPosition(probe, positions[i]));
  const open = [...new Set(probes.filter((_, i) => asked[i] === undefined))];
  const answers = await answersOf(model, open);
  const answerOf = new Map(open.map((probe, i) => [probe, answers[i]!]));
  const jobs = probes.map(
    (probe, i): ProbeJob => ({
      probe,
      at: places[i]!,
      target: asked[i] ?? answerOf.get(probe)!,
    }),
  );
  const names = siteHooks(model, site);
  const conventions = conventionsOf(model, site, options);
  const found = await probeMany(model, jobs, names, of, onProgress);
  return found.map((read, i) => gradientsOf(model, jobs[i]!, read, names, conventions));
}

const isList = <Value>(value: Value | readonly Value[]): value is readonly Value[] => Array.isArray(value);

const siteHooks = ({ sizes }: LanguageModel, site: Site): string[] =>
  Array.from({ length: sizes.layers }, (_, layer) => siteHook(layer, site));

const conventionsOf = (
  model: LanguageModel,
  site: Site,
  { of = 'prob', direction = 'outward', sign = '+' }: Pick<GradientOptions, 'of' | 'direction' | 'sign'>,
): Conventions => ({ site, of, direction, sign, dtype: numbersOf(model) });

function gradientsOf(
  { sizes }: LanguageModel,
  { probe, at, target }: ProbeJob,
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
    target,
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
