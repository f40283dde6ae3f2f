/**
 * Statistics of curves p(s) and of estimates against measurements (docs/conventions.md#the-sweep), on the host in float64.
 *
 * The one idea: a curve that does not move says nothing. Its r is 0 by rule, not 0/0. One rule says which curves those are
 * ({@link isFlat}): no change from v(0) exceeds the curve's noise, the largest that is known of the rounding of its points.
 */

import { linearRegression, sampleCorrelation, sampleRankCorrelation } from 'simple-statistics';
import { UserError } from '../engine/errors.ts';
import { checkMembers, checkOptions, flag, like, optionsSchema, required } from '../engine/options.ts';
import { checkAlike, checkLengths, checkNumber, checkNumbers, FINITE, SHARE } from './lists.ts';

/** Relative movement below which a float32 probability curve counts as flat. */
export const NOISE_FLOOR = 1e-6;

type Numbers = ArrayLike<number>;

const refused = (what: string): UserError => new UserError('option', what);

function pairs(door: string, x: Numbers, y: Numbers): [number[], number[]] {
  checkNumbers(door, 'x', x);
  checkNumbers(door, 'y', y);
  checkLengths(door, { x, y });
  return [Array.from(x), Array.from(y)];
}

/** Correlations of flat or too short input come as NaN; rounding can leave ±1 by an ulp. */
function bounded(r: number): number {
  return Number.isFinite(r) ? Math.max(-1, Math.min(1, r)) : 0;
}

function constant(values: readonly number[]): boolean {
  return values.every((value) => value === values[0]);
}

/**
 * Pearson's correlation.
 * @returns -1 to 1; 0 where either side is constant or there are fewer than two pairs; NaN where a value is NaN.
 * @throws UserError for what are no numbers, and where the lengths differ.
 * @example
 * ```ts
 * import { pearson } from 'neurgrad';
 *
 * console.log(pearson([1, 2, 3], [2, 4, 6]), pearson([1, 2, 3], [5, 5, 5])); // → 1 0
 * ```
 */
export function pearson(x: Numbers, y: Numbers): number {
  const [a, b] = pairs('pearson', x, y);
  if (a.some(Number.isNaN) || b.some(Number.isNaN)) return Number.NaN;
  // The variance of a constant may round to something above 0: test the values themselves.
  if (a.length < 2 || constant(a) || constant(b)) return 0;
  return bounded(sampleCorrelation(a, b));
}

/** Mean of Pearson's within lists, over those that have one. */
export interface MeanPearson {
  /** NaN where no list has one. */
  readonly value: number;
  /** Lists that have one: two or more pairs, and neither side constant. */
  readonly counted: number;
}

/**
 * Mean of Pearson's correlations within each list, such as a prompt's neurons. A list that has none is left out: as 0, which
 * {@link pearson} gives by rule, it would draw the mean towards 0.
 * @throws UserError for what are no numbers, and where the lengths differ.
 * @example
 * ```ts
 * import { meanPearson } from 'neurgrad';
 *
 * console.log(meanPearson([[1, 2, 3], [1, 2, 3]], [[2, 4, 6], [5, 5, 5]])); // → { value: 1, counted: 1 }
 * ```
 */
export function meanPearson(x: readonly Numbers[], y: readonly Numbers[]): MeanPearson {
  checkAlike('meanPearson', { x, y });
  const found = x.flatMap((row, i) => {
    const [a, b] = [Array.from(row), Array.from(y[i]!)];
    return a.length < 2 || constant(a) || constant(b) ? [] : [pearson(a, b)];
  });
  return { value: mean(found), counted: found.length };
}

/**
 * Spearman's rank correlation; ties share the mean of their ranks.
 * @returns as {@link pearson}, NaN too.
 * @throws UserError for what are no numbers, and where the lengths differ.
 * @example
 * ```ts
 * import { spearman } from 'neurgrad';
 *
 * console.log(spearman([1, 2, 3, 4], [1, 10, 100, 1000])); // → 1
 * ```
 */
export function spearman(x: Numbers, y: Numbers): number {
  const [a, b] = pairs('spearman', x, y);
  if (a.some(Number.isNaN) || b.some(Number.isNaN)) return Number.NaN;
  if (a.length < 2 || constant(a) || constant(b)) return 0;
  return bounded(sampleRankCorrelation(a, b));
}

/**
 * Least-squares slope of y = k x: sum(xy) / sum(x²), the paper's G_E.
 * @returns 0 where every x is 0; NaN where a value is NaN.
 * @throws UserError for what are no numbers, and where the lengths differ.
 */
export function slopeThroughOrigin(x: Numbers, y: Numbers): number {
  const [a, b] = pairs('slopeThroughOrigin', x, y);
  let xy = 0;
  let xx = 0;
  for (let i = 0; i < a.length; i++) {
    xy += a[i]! * b[i]!;
    xx += a[i]! * a[i]!;
  }
  return xx === 0 ? 0 : xy / xx;
}

/** A fitted line y = slope x + intercept. */
export interface Line {
  readonly slope: number;
  readonly intercept: number;
}

/**
 * Least-squares line with intercept.
 * @returns slope 0 and the mean of y where every x is the same; NaN where a value is NaN.
 * @throws UserError where the lengths differ or there are no points.
 */
export function lineFit(x: Numbers, y: Numbers): Line {
  const [a, b] = pairs('lineFit', x, y);
  if (a.length === 0) throw refused('lineFit: there are no points');
  if (constant(a)) return { slope: 0, intercept: mean(b) };
  const { m, b: intercept } = linearRegression(a.map((value, i) => [value, b[i]!]));
  return { slope: m, intercept };
}

/** Arithmetic mean; NaN where there are no values, or one is NaN. @throws UserError for what are no numbers. */
export function mean(values: Numbers): number {
  checkNumbers('mean', 'values', values);
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i]!;
  return sum / values.length;
}

/**
 * Share of pairs with the same sign. 0 agrees with 0 alone, NaN with nothing.
 * @returns NaN where there are no pairs.
 * @throws UserError for what are no numbers, and where the lengths differ.
 */
export function signAgreement(x: Numbers, y: Numbers): number {
  const [a, b] = pairs('signAgreement', x, y);
  return mean(a.map((value, i) => (Math.sign(value) === Math.sign(b[i]!) ? 1 : 0)));
}

/**
 * Mean of |x - y|.
 * @returns NaN where there are no pairs, or a value is NaN.
 * @throws UserError for what are no numbers, and where the lengths differ.
 */
export function meanAbsoluteError(x: Numbers, y: Numbers): number {
  const [a, b] = pairs('meanAbsoluteError', x, y);
  return mean(a.map((value, i) => Math.abs(value - b[i]!)));
}

/**
 * Whether a curve is flat: none of its changes v(s) - v(0) exceeds its noise. NaN is not flat: it must show.
 * @example
 * ```ts
 * import { isFlat } from 'neurgrad';
 *
 * console.log(isFlat([-2e-7, 1e-7], 2e-7), isFlat([-2e-7, 3e-7], 2e-7)); // → true false
 * ```
 * @throws UserError for what are no numbers.
 */
export function isFlat(changes: Numbers, noise: number): boolean {
  checkNumbers('isFlat', 'changes', changes);
  checkNumber('isFlat', 'noise', noise);
  return Array.prototype.every.call(changes, (change: number) => Math.abs(change) <= noise);
}

/** |r| from which a neuron counts as linear for a prompt. */
export const LINEAR_R = 0.95;

/** Points that a curve needs to be linear: two always lie on a line. */
export const LINEAR_POINTS = 3;

/** Whether an r is that of a linear neuron: |r| >= 0.95, which NaN is not. Of curves of three points or more: see {@link CurveFit}. */
export function isLinear(r: number, threshold: number = LINEAR_R): boolean {
  checkNumber('isLinear', 'r', r);
  checkNumber('isLinear', 'threshold', threshold, SHARE);
  return Math.abs(r) >= threshold;
}

/** How a curve is reduced to a slope and an r. */
export interface FitOptions {
  /** Use the shifts with |s| <= range; default 2, the paper's. Infinity uses all. */
  readonly range?: number;
  /** Count the point s = 0 in r too (the golden `r` and `wide_r` do); default false (docs/conventions.md#the-sweep). */
  readonly includeZero?: boolean;
  /** Fit slope and intercept in place of a line through (0, p(0)); default false. */
  readonly withIntercept?: boolean;
}

/** {@link FitOptions} */
export const fitOptions = optionsSchema<FitOptions>({
  range: like((value) => typeof value === 'number' && value > 0, 'a number above 0, or Infinity'),
  includeZero: flag,
  withIntercept: flag,
});

/** A curve's slope and straightness. */
export interface CurveFit {
  /** G_E: change of the value for a shift of 1. */
  readonly slope: number;
  /** Fitted value at s = 0, minus the curve's own value there: 0 through the origin. */
  readonly intercept: number;
  /** Pearson of shift and change; 0 where flat. Of two points it is ±1 and says nothing. */
  readonly r: number;
  /** No change within the range exceeds `noise`. */
  readonly flat: boolean;
  /** What of a change may be rounding, about: the largest within the range. */
  readonly noise: number;
  /** Points that r was computed from. */
  readonly points: number;
  /** |r| >= 0.95, not flat, and from three points or more. */
  readonly linear: boolean;
}

/** Slack on |s| <= range for grids computed in binary: 0.2 * 3 > 0.6. */
export const RANGE_SLACK = 1e-9;

/**
 * Slope and r of a curve v(s) that has the point s = 0 (docs/conventions.md#the-sweep).
 * @param shifts ascending, with 0 among them.
 * @param values v(s), same length.
 * @param noise what of v(s) - v(0) may be rounding, same length. Default: a millionth of |v(s)|, as of float32 forwards.
 * @returns NaN for slope and r where a value is NaN.
 * @throws UserError where the lengths differ, 0 is missing or no other shift lies within the range, and for an option that there is
 *   not.
 * @example
 * ```ts
 * import { fitCurve } from 'neurgrad';
 *
 * const { slope, r, points } = fitCurve([-2, -1, 0, 1, 2], [0.1, 0.2, 0.3, 0.4, 0.5]);
 * console.log(slope.toFixed(3), r.toFixed(3), points); // → 0.100 1.000 4
 * ```
 */
export function fitCurve(
  shifts: Numbers,
  values: Numbers,
  options: FitOptions = {},
  noise?: Numbers,
): CurveFit {
  checkOptions('fitCurve', fitOptions, options);
  checkNumbers('fitCurve', 'shifts', shifts, FINITE);
  checkNumbers('fitCurve', 'values', values);
  if (noise !== undefined) checkNumbers('fitCurve', 'noise', noise);
  checkLengths('fitCurve', { shifts, values, ...(noise ? { noise } : {}) });
  const [s, v] = [Array.from(shifts), Array.from(values)];
  const { range = 2, includeZero = false, withIntercept = false } = options;
  const zero = s.indexOf(0);
  if (zero < 0) throw refused('fitCurve: the curve has no point at shift 0');
  const base = v[zero]!;
  const inside = s.flatMap((shift, i) => (Math.abs(shift) <= range + RANGE_SLACK ? [i] : []));
  const moved = inside.filter((i) => i !== zero);
  if (moved.length === 0) throw refused(`fitCurve: no shift but 0 within ±${range}`);
  const used = includeZero ? inside : moved;

  const x = used.map((i) => s[i]!);
  const dv = used.map((i) => v[i]! - base);
  const line = withIntercept ? lineFit(x, dv) : { slope: slopeThroughOrigin(x, dv), intercept: 0 };
  const largest = Math.max(...inside.map((i) => (noise ? noise[i]! : NOISE_FLOOR * Math.abs(v[i]!))));
  const flat = isFlat(dv, largest);
  return { ...line, ...judged(flat, pearson(x, dv), x.length), noise: largest };
}

/** What r and flatness say of a curve. */
function judged(
  flat: boolean,
  r: number,
  points: number,
): Pick<CurveFit, 'r' | 'flat' | 'points' | 'linear'> {
  return { r: flat ? 0 : r, flat, points, linear: !flat && points >= LINEAR_POINTS && isLinear(r) };
}

/** Of a curve's changes d over the shifts s that count: what slope, intercept and r are made of. */
export interface CurveSums {
  /** sum of s d */
  readonly moment: number;
  /** mean of d */
  readonly mean: number;
  /** sum of (s - mean s)(d - mean d) */
  readonly covariance: number;
  /** sum of (d - mean d)^2, and what of it the line with intercept leaves over */
  readonly variance: number;
  readonly residue: number;
  /** Largest |change|, and largest noise of a change. */
  readonly extent: number;
  readonly noise: number;
}

const sumField = required(like<number>((value) => typeof value === 'number', 'a number'));
const curveSums = optionsSchema<CurveSums>({
  moment: sumField,
  mean: sumField,
  covariance: sumField,
  variance: sumField,
  residue: sumField,
  extent: sumField,
  noise: sumField,
});

/**
 * {@link fitCurve} of a curve of which the sums are known, not the points.
 * @returns NaN for slope and r where a sum is NaN. @throws UserError where no shift but 0 lies within the range.
 */
export function fitSums(shifts: Numbers, sums: CurveSums, options: FitOptions = {}): CurveFit {
  checkOptions('fitSums', fitOptions, options);
  checkNumbers('fitSums', 'shifts', shifts, FINITE);
  checkMembers('fitSums: sums', curveSums, sums);
  const { range = 2, includeZero = false, withIntercept = false } = options;
  const x = Array.from(shifts).filter((s) => Math.abs(s) <= range + RANGE_SLACK && (includeZero || s !== 0));
  if (!x.some((s) => s !== 0)) throw refused(`fitSums: no shift but 0 within ±${range}`);
  const { moment, covariance, variance, residue } = sums;
  const centre = mean(x);
  const spread = constant(x) ? 0 : x.reduce((sum, s) => sum + (s - centre) ** 2, 0);
  const slope = spread === 0 ? 0 : covariance / spread;
  const line = withIntercept
    ? { slope, intercept: sums.mean - slope * centre }
    : { slope: moment / x.reduce((sum, s) => sum + s * s, 0), intercept: 0 };
  // Near a straight line what is left over says more digits of 1 - r^2 than the sums do.
  const straight = 1 - residue / variance;
  const r =
    straight > 0.5 ? Math.sign(covariance) * Math.sqrt(straight) : covariance / Math.sqrt(spread * variance);
  const flat = isFlat([sums.extent], sums.noise);
  return { ...line, ...judged(flat, bounded(r), x.length), noise: sums.noise };
}
