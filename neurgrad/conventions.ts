/**
 * What a number means (docs/conventions.md#the-sign): the axis the activation is shifted along, the sign in front of NeurGrad, the quantity
 * that is differentiated, the site and the arithmetic. Every stored result carries these.
 *
 * The paper's eq. (1) prints NeurGrad = G_C * -sign(A); its released code shifts outward, a(s) = a0 + s sign(a0), and
 * takes + sign(A) G_C, which by the chain rule is the derivative along that axis. The latter is the default here.
 */

import { checkMembers, checkValue, like, one, optionsSchema, required } from '../engine/options.ts';
import { type LanguageModel, QUANTITIES, type Quantity, type Site, weightDtypeOf } from '../models/model.ts';
import type { WeightDtype } from '../models/storage.ts';
import { checkGiven, checkNumber, MODEL, REAL } from './lists.ts';

/** `outward`: a(s) = a0 + s sign(a0); `plain`: a(s) = a0 + s. The default comes first. */
export const DIRECTIONS = ['outward', 'plain'] as const;
/** One of {@link DIRECTIONS}. */
export type Direction = (typeof DIRECTIONS)[number];

/** In front of NeurGrad; `-` is the paper's eq. (1) to the letter. The default comes first. */
export const SIGNS = ['+', '-'] as const;
/** One of {@link SIGNS}. */
export type Sign = (typeof SIGNS)[number];

export { QUANTITIES };
/** What is differentiated, swept and integrated: a {@link Quantity} of the target, or its logit less that of another token. */
export const MEASURES = [...QUANTITIES, 'logit_diff'] as const;
/** One of {@link MEASURES}. */
export type Measure = (typeof MEASURES)[number];

/** The same as fields of options. */
export const conventionFields = { of: one(QUANTITIES), direction: one(DIRECTIONS), sign: one(SIGNS) };

/** Fields of options of what takes a {@link Measure}. */
export const measureFields = { ...conventionFields, of: one(MEASURES) };

/** What the numbers of a result mean; docs/conventions.md says what each choice is. */
export interface Conventions {
  readonly site: Site;
  readonly of: Measure;
  readonly direction: Direction;
  readonly sign: Sign;
  /** Arithmetic of the model, and its weights where they are something else. */
  readonly dtype: 'float32' | `float32 with ${WeightDtype} weights`;
}

const conventionsSchema = optionsSchema<Conventions>({
  site: required(one(['pre', 'pre_linear', 'act', 'post'])),
  of: required(measureFields.of),
  direction: required(conventionFields.direction),
  sign: required(conventionFields.sign),
  dtype: required(
    like<Conventions['dtype']>(
      (value) => typeof value === 'string' && /^float32( with \w+ weights)?$/.test(value),
      "'float32' or 'float32 with … weights'",
    ),
  ),
});

/** The numbers a model computes with, for {@link Conventions}. */
export function numbersOf(model: LanguageModel): Conventions['dtype'] {
  checkGiven('numbersOf', 'model', model, 'parameters', MODEL);
  const weights = weightDtypeOf(model);
  return weights === 'f32' ? 'float32' : `float32 with ${weights} weights`;
}

/** sign(a0) with sign(0) = +1, and -0 counting as 0. @throws UserError for what is no number, such as NaN */
export function outwardSign(activation: number): 1 | -1 {
  checkNumber('outwardSign', 'activation', activation, REAL);
  return activation < 0 ? -1 : 1;
}

/**
 * NeurGrad of one neuron: its computed gradient along the axis, with the sign in front.
 * @returns NaN for a gradient that is NaN.
 * @throws UserError for a direction or sign that there is not, and what is no number.
 * @example
 * ```ts
 * import { neurGrad } from 'neurgrad';
 *
 * // A negative activation is shifted down: what lowers it is the gradient's opposite.
 * console.log(neurGrad(-0.1, 0.03, { direction: 'outward', sign: '+' })); // → -0.03
 * console.log(neurGrad(-0.1, 0.03, { direction: 'plain', sign: '+' })); // → 0.03
 * ```
 */
export function neurGrad(
  activation: number,
  gradient: number,
  conventions: Pick<Conventions, 'direction' | 'sign'>,
): number {
  checkNumber('neurGrad', 'activation', activation, REAL);
  checkNumber('neurGrad', 'gradient', gradient);
  const { direction, sign } = conventions ?? {};
  checkValue('neurGrad', 'direction', conventionFields.direction, direction);
  checkValue('neurGrad', 'sign', conventionFields.sign, sign);
  const axis = direction === 'outward' ? outwardSign(activation) : 1;
  const flip = axis * (sign === '-' ? -1 : 1);
  // Not a product: -1 * 0 would be -0.
  return flip < 0 && gradient !== 0 ? -gradient : gradient;
}

/** One line to print under every table. @throws UserError for conventions that there are not */
export function describeConventions(conventions: Conventions): string {
  checkMembers('describeConventions', conventionsSchema, conventions);
  const { site, of, direction, sign, dtype } = conventions;
  return `site ${site}, of ${of}, direction ${direction}, sign ${sign}, ${dtype}`;
}
