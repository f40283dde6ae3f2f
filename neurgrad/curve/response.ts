/**
 * A neuron's response: its whole curve v(s), kept as the coefficients of a polynomial in Newton's form.
 *
 * The polynomial is of p, log p, log odds or the logit, whichever a few points have shown to be the smoothest; and in s, or in an angle
 * atan(s / reach): what norms make of a residual x + s w depends on its direction alone, which turns by such an angle and comes to rest at both
 * ends. Plain data: it can be stored, and evaluated anywhere within the shifts that it was made from.
 */

import { checkMembers, checkValue, like, list, one, optionsSchema, required } from '../../engine/options.ts';
import { QUANTITIES, type Quantity } from '../../models/model.ts';
import { MEASURES, type Measure } from '../conventions.ts';
import { checkNumber } from '../lists.ts';
import { quantityOf } from '../predict.ts';

/** What a polynomial is of. */
export type Smooth = Quantity | 'logodds';

/** Plain values of the target: everything is a change from them. */
export type PlainTarget = Readonly<Record<Quantity, number>>;

/** A curve as coefficients: change(s) = sum over k of coefficients[k] times the product of (x(s) - nodes[i]) over i < k. */
export interface Response {
  readonly of: Smooth;
  /** x(s) = stretch * s, or stretch * atan(s / reach). */
  readonly reach: number | null;
  readonly stretch: number;
  /** x of the points run, in their order. The first is 0, twice where the slope there was a condition. */
  readonly nodes: readonly number[];
  readonly coefficients: readonly number[];
  readonly plain: PlainTarget;
  /** Shifts that it holds between. */
  readonly from: number;
  readonly to: number;
}

const numberField = like<number>((value) => typeof value === 'number', 'a number');
const numbersField = list(numberField, 'a list of numbers');
const responseSchema = optionsSchema<Response>({
  of: required(one([...QUANTITIES, 'logodds'])),
  reach: required(
    like<number | null>((value) => value === null || typeof value === 'number', 'a number or null'),
  ),
  stretch: required(numberField),
  nodes: required(numbersField),
  coefficients: required(numbersField),
  plain: required(
    optionsSchema<PlainTarget>({
      prob: required(numberField),
      logprob: required(numberField),
      logit: required(numberField),
    }),
  ),
  from: required(numberField),
  to: required(numberField),
});

/** @throws UserError for what is no response. */
export const checkResponse = (door: string, response: Response): void =>
  checkMembers(`${door}: response`, responseSchema, response);

/** 1 - p of plain values: exact however near to 1 p is. */
const restOf = (plain: PlainTarget): number => -Math.expm1(plain.logprob);

/** Change of log odds where p and log p change by these; NaN where p has become 1. */
export function oddsChange(plain: PlainTarget, change: Pick<Record<Quantity, number>, 'logprob'>): number {
  const { logprob } = change;
  return logprob - Math.log1p((-plain.prob * Math.expm1(logprob)) / restOf(plain));
}

/** What a change of one quantity is of another; NaN where it cannot be known. */
export function changeOf(plain: PlainTarget, from: Smooth, value: number, to: Quantity): number {
  if (from === to) return value;
  if (from === 'logodds') {
    const grown = Math.expm1(value);
    const rest = restOf(plain);
    // Odds without end: p has become 1.
    const share = grown === Number.POSITIVE_INFINITY ? 1 / plain.prob : grown / (1 + plain.prob * grown);
    if (to === 'prob') return plain.prob * rest * share;
    if (to === 'logprob') return Math.log1p(rest * share);
  }
  if (from === 'logprob' && to === 'prob')
    return Math.abs(value) < 1
      ? plain.prob * Math.expm1(value)
      : Math.exp(plain.logprob + value) - plain.prob;
  if (from === 'prob' && to === 'logprob') return Math.log1p(value / plain.prob);
  return Number.NaN;
}

/** Derivative at 0 of a quantity whose `of` has this one. */
export function slopeOf(plain: PlainTarget, of: Quantity, slope: number, to: Smooth): number {
  if (of === to) return slope;
  if (of === 'logit' || to === 'logit') return Number.NaN;
  const logprob = of === 'prob' ? slope / plain.prob : slope;
  if (to === 'prob') return logprob * plain.prob;
  return to === 'logprob' ? logprob : logprob / restOf(plain);
}

/** x(s) of a {@link Response}. */
export const along = ({ reach, stretch }: Pick<Response, 'reach' | 'stretch'>, s: number): number =>
  stretch * (reach === null ? s : Math.atan(s / reach));

/** The polynomial itself, by Horner's rule. */
export function polynomial(response: Response, s: number): number {
  const { nodes, coefficients } = response;
  const x = along(response, s);
  let value = 0;
  for (let k = coefficients.length - 1; k >= 0; k--)
    value = coefficients[k]! + (k < nodes.length ? (x - nodes[k]!) * value : 0);
  return value;
}

/**
 * Change of a quantity at a shift, of the curve that a sweep by curves keeps.
 * @returns NaN for what does not follow: of a polynomial of p, log p or log odds p and log p do, of one of the logit that alone,
 * under either name where the sweep was of `logit_diff`.
 * @throws UserError for what is no response, no number or no quantity.
 */
export function responseAt(response: Response, s: number, of: Measure): number {
  checkValue('responseAt', 'of', one(MEASURES), of);
  checkResponse('responseAt', response);
  checkNumber('responseAt', 's', s);
  return changeOf(response.plain, response.of, polynomial(response, s), quantityOf(of));
}
