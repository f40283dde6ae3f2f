/**
 * What float32 leaves uncertain of the numbers measured and estimated here: the noise stated beside each of them.
 *
 * The model is that of a running error analysis (Higham 2002, chapter 3): a layer's values come with an error of some units of
 * rounding relative to their own size, errors of layers add up like random steps, and a linear map hands an error on as it hands
 * on the values: relative to the root mean square of what it makes, not to the single number. So an effect that is small because
 * its terms cancel keeps the error of the terms. Errors of the plain logits are errors of log p, in absolute terms: they
 * grow with the spread of the logits, and everything weighted with a p_v has them. docs/conventions.md says what this was seen on.
 */

import type { LanguageModel } from '../models/model.ts';

/** Half the distance from 1 to the next float32. */
const UNIT = 2 ** -24;

/** Units of rounding that a layer adds, times as many standard errors as no value is away from the exact one. */
const LAYER_UNITS = 10 * 5;

/** A single logit, or p, is no mean over many: its token's output weights may be this much larger than those of others. */
const SINGLE = 4;

/** Gradients of the target are differences of those of its rivals, about so much larger: SIZES against rows of one layer. */
const CANCELLED = 10;

/** What full forwards, which share most of their roundings, differ by, in units. */
const SHARED_UNITS = 64;

type Sized = Pick<LanguageModel, 'sizes'>;

/** Largest error of a model's values after its last layer, relative to their root mean square. */
export const relativeRounding = ({ sizes }: Sized): number =>
  UNIT * LAYER_UNITS * Math.sqrt(sizes.layers + 1);

/** What the parts of a change of the target are known to; see TARGET_FIELDS of kernels/difference.ts. */
export interface Rounding {
  /** The plain log-probabilities, absolute. */
  readonly plain: number;
  /** Changes of logits, relative to the root mean square of all; that of a single one. */
  readonly change: number;
  readonly single: number;
  /** Values that a shift is a factor of, relative to their layer's root mean square. */
  readonly shift: number;
  /** The target's plain probability, relative. */
  readonly share: number;
  /** Changes of log odds, from full forwards. */
  readonly forwards: number;
}

/** Of a prompt whose logits have this standard deviation. `logprob`: the target's. */
export function roundingOf(
  model: Sized,
  { spread, logprob }: { readonly spread: number; readonly logprob: number },
): Rounding {
  const relative = relativeRounding(model);
  return {
    plain: relative * spread,
    change: relative,
    single: SINGLE * relative,
    shift: relative,
    share: -SINGLE * Math.expm1(logprob) * relative * spread,
    forwards: SHARED_UNITS * UNIT * Math.sqrt(model.sizes.layers + 1) * (1 + spread),
  };
}

/** Standard deviation of a row of logits: what their errors are relative to. */
export function spreadOf(logits: ArrayLike<number>): number {
  let [sum, squares] = [0, 0];
  for (let v = 0; v < logits.length; v++) sum += logits[v]!;
  const mean = sum / logits.length;
  for (let v = 0; v < logits.length; v++) squares += (logits[v]! - mean) ** 2;
  return Math.sqrt(squares / logits.length);
}

const rootMeanSquare = (x: ArrayLike<number>): number => {
  let squares = 0;
  for (let i = 0; i < x.length; i++) squares += x[i]! * x[i]!;
  return Math.sqrt(squares / x.length);
};

/** What gradients of the target are known to, relative to those of their layer. `spread` is 0 for the gradient of a logit. */
export const cotangentRounding = (model: Sized, spread: number): number =>
  relativeRounding(model) * CANCELLED * (1 + spread);

/** Gradients at a site of one layer, and what their noise follows from. */
export interface NoisyGradients {
  /** [width] */
  readonly gradient: ArrayLike<number>;
  /** dz/da, z the input of the output weights: what dv/dz is multiplied with, [width]. */
  readonly factor: ArrayLike<number>;
  /** Of the logits; 0 where the gradient is a logit's. */
  readonly spread: number;
  /** Root mean square of dv/dz; default that of the gradients over that of the factors. */
  readonly typical?: number;
}

/** Root mean square of h = g / c over neurons, each counted as much as its factor. */
export function typicalGradient(gradient: ArrayLike<number>, factor: ArrayLike<number>): number {
  const size = rootMeanSquare(factor);
  return size === 0 ? 0 : rootMeanSquare(gradient) / size;
}

/**
 * Noise of each gradient. With g = c h, h = dv/dz the product of a column of the output weights with the residual's cotangent: h has
 * the cotangent's error, of the size of all h of the layer, and c that of a value of its layer.
 */
export function gradientNoise(model: Sized, about: NoisyGradients): Float64Array {
  const { gradient, factor, spread, typical = typicalGradient(gradient, factor) } = about;
  const cotangent = cotangentRounding(model, spread);
  const inside = relativeRounding(model) * rootMeanSquare(factor);
  return Float64Array.from(gradient, (g, i) => {
    const c = Math.abs(factor[i]!);
    const own = c === 0 ? typical : Math.max(typical, Math.abs(g) / c);
    return cotangent * (c * typical + Math.abs(g)) + inside * own;
  });
}

/** Error of an activation, one of the values of its layer. */
export const activationNoise = (model: Sized, activation: ArrayLike<number>): number =>
  relativeRounding(model) * rootMeanSquare(activation);
