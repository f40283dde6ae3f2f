/**
 * What a run says of neurons, on the host: their activations, the gradients in float64, and what of those may be rounding. The same
 * numbers whether a prompt was run alone or with others.
 */

import { feedForwardOf } from '../models/description.ts';
import { checkFinite } from '../models/finite.ts';
import type { LanguageModel, Quantity, Site } from '../models/model.ts';
import type { Measure } from './conventions.ts';
import { besideSite, outputDerivatives } from './difference/injection.ts';
import { siteHook, siteOfHook } from './neuron.ts';
import { gradientFactor, quantityOf, type Tokens, targetOf, targetValues } from './predict.ts';
import { gradientNoise, spreadOf } from './rounding.ts';

/** Activations, gradients and their noise [width] at the neurons' position for each hook name, and the target's values. */
export interface ProbedHooks {
  readonly activation: ReadonlyMap<string, Float32Array>;
  readonly gradient: ReadonlyMap<string, Float64Array>;
  /** Values that the gradients at a site are multiples of, where it has such. */
  readonly beside: ReadonlyMap<string, Float32Array>;
  /** What of each gradient may be rounding. */
  readonly noise: ReadonlyMap<string, Float64Array>;
  /** The target's id. */
  readonly token: number;
  /** Its own values, and those of the other token where there is one. */
  readonly own: Record<Quantity, number>;
  readonly other: Record<Quantity, number> | null;
  /** The target's values; its `logit` less the other token's, where there is one. */
  readonly target: Record<Quantity, number>;
  /** Standard deviation of the logits where the target is read. */
  readonly spread: number;
}

/** Hooks whose gradients are wanted, and what has to be captured for them. */
export interface ProbeHooks {
  readonly names: readonly string[];
  readonly captured: readonly string[];
  /** Where the noise of gradients is told: each name, its site, and what its gradient is a multiple of. */
  readonly known: readonly {
    readonly name: string;
    readonly site: Site;
    readonly beside: string | null | undefined;
  }[];
}

/** @param activations false: gradients alone, without the activations that NeurGrad takes its sign from. */
export function hooksOf(model: LanguageModel, names: readonly string[], activations = true): ProbeHooks {
  if (!activations) return { names, captured: [], known: [] };
  const feedForward = feedForwardOf(model.description);
  const known = names.map((name) => {
    const { layer, site } = siteOfHook(name);
    const beside = besideSite(feedForward, site);
    return { name, site, beside: beside && siteHook(layer, beside) };
  });
  const captured = [...new Set([...names, ...known.flatMap(({ beside }) => (beside ? [beside] : []))])];
  return { names, captured, known };
}

/** What was read of a prompt: logits [V] at the position read, and values [width] at the neurons'. */
export interface ReadHooks {
  readonly logits: Float32Array;
  readonly activation: ReadonlyMap<string, Float32Array>;
  /** Of what {@link differentiated} says. */
  readonly gradient: ReadonlyMap<string, Float32Array>;
}

/** @throws UserError where a number is not finite. */
export function probedHooks(
  model: LanguageModel,
  { names, captured, known }: ProbeHooks,
  of: Measure,
  { target: asked, other }: Tokens,
  { logits, activation, gradient: device }: ReadHooks,
): ProbedHooks {
  const token = targetOf(logits, asked);
  const own = targetValues(logits, token);
  const against = other === undefined ? null : targetValues(logits, other);
  const values = against ? { ...own, logit: own.logit - against.logit } : own;
  for (const name of captured) checkFinite(activation.get(name)!, `the activations of ${name}`, 'neuron');
  for (const name of names) checkFinite(device.get(name)!, `the gradients at ${name}`, 'neuron');
  const factor = gradientFactor(of, values);
  const gradient = new Map([...device].map(([name, g]) => [name, Float64Array.from(g, (v) => factor * v)]));
  const spread = spreadOf(logits);
  const feedForward = feedForwardOf(model.description);
  const noise = new Map(
    known.map(({ name, site, beside }) => {
      const own = activation.get(name)!;
      const other = beside ? activation.get(beside) : undefined;
      const about = {
        gradient: gradient.get(name)!,
        factor: outputDerivatives(feedForward, site, own, other),
        spread: quantityOf(of) === 'logit' ? 0 : spread,
      };
      return [name, gradientNoise(model, about)];
    }),
  );
  const beside = new Map(
    known.flatMap(({ name, beside }) => (beside ? [[name, activation.get(beside)!] as const] : [])),
  );
  return { activation, gradient, beside, noise, token, own, other: against, target: values, spread };
}

/** One token's values [width] of all tokens', or of that token's alone. */
export function neuronsAt(values: Float32Array, at: number, width: number): Float32Array {
  return values.length === width ? values : values.subarray(at * width, (at + 1) * width);
}
