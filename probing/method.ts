/**
 * What a prober is to whoever uses one: a name, and how it is fitted; what is fitted predicts. One of your own is such an object,
 * given wherever a prober is asked for.
 */

import { callback, optionsSchema, required, text } from '../engine/options.ts';
import { seedField } from '../neurgrad/random.ts';
import { type Variant, variantField } from './counts.ts';
import type { Examples, Questions } from './examples.ts';

/** What a fit may depend on besides its examples. */
export interface FitOptions {
  /** Of Polar and Magn; default `paper`. */
  readonly variant?: Variant;
  /** Of what is drawn; default 0. */
  readonly seed?: number;
}

/** {@link FitOptions} as a schema. */
export const fitFields = { variant: variantField, seed: seedField };
export const fitOptions = optionsSchema<FitOptions>(fitFields);

/** A prober fitted to examples. */
export interface FittedMethod {
  /** How much each neuron matters to it: neurons are ranked by falling score, equal ones by place. */
  readonly score: ArrayLike<number>;
  /** The candidate that it answers each prompt with; the lower one where two are equal. */
  predict(questions: Questions): Int32Array;
}

/** A way to learn from examples which neurons tell the answer, and to answer by them. */
export interface ProbeMethod {
  /** In tables and on the command line: small letters. */
  readonly name: string;
  /** Fits all neurons of the examples. The same examples and options give the same fit. */
  fit(train: Examples, options?: FitOptions): FittedMethod;
}

/** A prober as a member of options. */
export const methodField = optionsSchema<ProbeMethod>({
  name: required(text),
  fit: required(callback<ProbeMethod['fit']>()),
});
