/**
 * Activation, computed gradient G_C and NeurGrad of every neuron of a site, by one forward and one backward (SPEC 3).
 *
 * Everything is taken at the unpatched prompt and, unless asked otherwise, at the probe position; G_C is the total derivative dv/da of the
 * target's p, log p or logit. The device differentiates the log odds log p / (1 - p); p (1 - p) and 1 - p are multiplied in float64, so that G_C
 * is a number, and the right one, where p or 1 - p is below what float32 can tell from 0.
 */

import { checkOptions, checkValue, like, list, one, optionsSchema, text, whole } from '../engine/options.ts';
import { feedForwardOf } from '../models/description.ts';
import { checkFinite } from '../models/finite.ts';
import type { Prefix } from '../models/kvCache.ts';
import {
  type LanguageModel,
  type Objective,
  type Quantity,
  type RunOptions,
  type RunResult,
  runModel,
  type Site,
} from '../models/model.ts';
import { checkInput } from '../models/run.ts';
import { runsLastAsync } from '../models/stream.ts';
import { Transformer } from '../models/transformer.ts';
import {
  type Conventions,
  conventionFields,
  type Direction,
  neurGrad,
  numbersOf,
  type Sign,
} from './conventions.ts';
import { besideSite, outputDerivatives } from './difference/injection.ts';
import { resolveSite, SITES, siteHook, siteOfHook } from './neuron.ts';
import {
  checkProbe,
  checkTarget,
  differentiated,
  gradientFactor,
  neuronPosition,
  type Probe,
  probeRows,
  targetOrArgmax,
  targetValues,
  tokenField,
} from './predict.ts';
import { gradientNoise, spreadOf } from './rounding.ts';

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
}

const nameList = list(text, 'a list of names of hooks');
/** {@link GradientOptions} */
export const gradientOptions = optionsSchema<GradientOptions>({
  target: tokenField,
  neuronPosition: whole(),
  site: one(SITES),
  ...conventionFields,
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

/** Activations, gradients and their noise [width] at the neurons' position for each hook name, and the target's values. */
export interface ProbedHooks {
  readonly activation: ReadonlyMap<string, Float32Array>;
  readonly gradient: ReadonlyMap<string, Float64Array>;
  /** Values that the gradients at a site are multiples of, where it has such. */
  readonly beside: ReadonlyMap<string, Float32Array>;
  /** What of each gradient may be rounding. */
  readonly noise: ReadonlyMap<string, Float64Array>;
  readonly target: Record<Quantity, number>;
  /** Standard deviation of the logits where the target is read. */
  readonly spread: number;
}

/** A run of a prompt that is no larger than the neurons at one position need. */
export interface PlainRun extends Disposable {
  readonly run: RunResult;
  /** What comes before the one token that was run, where the rest of the prompt is a cache. */
  readonly prefix: Prefix | null;
  /** Frees the run and its cache. */
  dispose(): void;
}

/** A capture and a gradient of an objective. */
type Asked = Pick<RunOptions, 'capture'> & {
  readonly grad: { readonly at: readonly string[]; readonly of: Objective };
};

/** The same where the last token runs alone: there is one position a row. */
function ofLast({ grad, ...others }: Asked) {
  const { of, target } = grad.of;
  return { ...others, grad: { at: grad.at, of: { of, target } } };
}

/**
 * The cache of all tokens before a causal model's last one, where that is read and has the neurons; else null.
 * @throws UserError for a prompt that the model cannot run.
 */
export function plainPrefix(model: LanguageModel, probe: Probe, at: number): Prefix | null {
  const { ids, position } = probe;
  if (!(model instanceof Transformer) || !model.causal || at !== position || position !== ids.length - 1)
    return null;
  model.checkAlive();
  checkInput(probeRows(probe), model.description);
  return model.prefill(ids.slice(0, -1));
}

/**
 * The plain run of a prompt for neurons at position `at` (SPEC 9.8). Where that is the position read, a masked model's last layer
 * is worked out there only, and of a causal one's last token everything but the token itself is a cache without a backward. So values
 * are [1, tokens, ...], or [1, 1, ...] with the neurons' position alone.
 * @param given the prompt's {@link plainPrefix}, which stays the caller's.
 */
export function plainRun(
  model: Transformer,
  probe: Probe,
  at: number,
  options: Asked,
  given: Prefix | null = null,
): PlainRun {
  const { causal } = model;
  const { ids, position } = probe;
  const here = at === position;
  const own = given ? null : plainPrefix(model, probe, at);
  const prefix = given ?? own;
  try {
    const run = prefix
      ? model.runRows({ prefix, ids: ids.slice(-1) }, ofLast(options))
      : model.run(probeRows(probe), {
          ...options,
          logits: [position],
          lastLayer: !causal && here ? 'read' : 'all',
        });
    const dispose = (): void => {
      run.dispose();
      own?.dispose();
    };
    return { run, prefix, dispose, [Symbol.dispose]: dispose };
  } catch (error) {
    own?.dispose();
    throw error;
  }
}

/**
 * One forward and one backward; neurons are read at position `at`. `names` are feed-forward hooks.
 * @param activations false: gradients alone, without the activations that NeurGrad takes its sign from.
 * @param prefix the prompt's {@link plainPrefix}, which stays the caller's; by default its own.
 */
export async function probeHooks(
  model: LanguageModel,
  probe: Probe,
  at: number,
  names: readonly string[],
  of: Quantity,
  target: number,
  activations = true,
  prefix: Prefix | null = null,
): Promise<ProbedHooks> {
  checkValue('probeHooks', 'of', conventionFields.of, of);
  checkProbe('probeHooks', model, probe);
  checkValue('probeHooks', 'names', nameList, names);
  const { position } = probe;
  const feedForward = feedForwardOf(model.description);
  // What a site's gradient is a multiple of is read beside it.
  const places = names.map((name) => {
    const { layer, site } = siteOfHook(name);
    const beside = besideSite(feedForward, site);
    return { name, site, beside: beside && siteHook(layer, beside) };
  });
  const captured = !activations
    ? []
    : [...new Set([...names, ...places.flatMap(({ beside }) => (beside ? [beside] : []))])];
  const options = {
    capture: captured,
    grad: { at: names, of: { of: differentiated(of), target: [target], position: [position] } },
  };
  const plain = model instanceof Transformer ? plainRun(model, probe, at, options, prefix) : null;
  using run =
    plain?.run ??
    (await (runsLastAsync(model) && at === position && position === probe.ids.length - 1
      ? model.runLastAsync(probe.ids, ofLast(options))
      : runModel(model, probeRows(probe), { ...options, logits: [position] })));
  if (!prefix) plain?.prefix?.dispose();
  const { width } = model.sizes;
  const readAll = async (
    wanted: readonly string[],
    tensors: RunResult['captures'],
  ): Promise<Map<string, Float32Array>> => {
    const read = await Promise.all(wanted.map((name) => tensors.get(name)!.read()));
    return new Map(wanted.map((name, i) => [name, neuronsAt(read[i]!, at, width)]));
  };
  const [logits, activation, device] = await Promise.all([
    run.logits.read(),
    readAll(captured, run.captures),
    readAll(names, run.gradients),
  ]);
  const values = targetValues(logits, target);
  for (const name of captured) checkFinite(activation.get(name)!, `the activations of ${name}`, 'neuron');
  for (const name of names) checkFinite(device.get(name)!, `the gradients at ${name}`, 'neuron');
  const factor = gradientFactor(of, values);
  const gradient = new Map([...device].map(([name, g]) => [name, Float64Array.from(g, (v) => factor * v)]));
  const spread = spreadOf(logits);
  const known = activations ? places : [];
  const noise = new Map(
    known.map(({ name, site, beside }) => {
      const own = activation.get(name)!;
      const other = beside ? activation.get(beside) : undefined;
      const about = {
        gradient: gradient.get(name)!,
        factor: outputDerivatives(feedForward, site, own, other),
        spread: of === 'logit' ? 0 : spread,
      };
      return [name, gradientNoise(model, about)];
    }),
  );
  const beside = new Map(
    known.flatMap(({ name, beside }) => (beside ? [[name, activation.get(beside)!] as const] : [])),
  );
  return { activation, gradient, beside, noise, target: values, spread };
}

/** One token's values [width] of all tokens', or of that token's alone. */
export function neuronsAt(values: Float32Array, at: number, width: number): Float32Array {
  return values.length === width ? values : values.subarray(at * width, (at + 1) * width);
}

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
export async function neuronGradients(
  model: LanguageModel,
  probe: Probe,
  options: GradientOptions = {},
): Promise<NeuronGradients> {
  checkOptions('neuronGradients', gradientOptions, options);
  checkProbe('neuronGradients', model, probe);
  const { of = 'prob', direction = 'outward', sign = '+' } = options;
  const site = resolveSite(options.site ?? 'paper', model);
  const at = neuronPosition(probe, options.neuronPosition);
  if (options.target !== undefined) checkTarget(options.target, model.sizes.vocabulary);
  using prefix = plainPrefix(model, probe, at);
  const target = await targetOrArgmax(model, probe, options.target, prefix);
  const { layers, width } = model.sizes;
  const names = Array.from({ length: layers }, (_, layer) => siteHook(layer, site));
  const read = await probeHooks(model, probe, at, names, of, target, true, prefix);

  const conventions: Conventions = { site, of, direction, sign, dtype: numbersOf(model) };
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
