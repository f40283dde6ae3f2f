/**
 * Intervals for statistics of samples whose parts weigh very unequally, such as effects of neurons pooled over prompts.
 *
 * A percentile bootstrap, or a jackknife with the normal's 1.96, covers 68 to 85% there where it says 95: a few prompts hold
 * most of the squares, so the spread itself is estimated from a few numbers. So: the jackknife's spread (Tukey 1958), on a
 * scale where the statistic is nearly normal (Fisher's z for correlations), times Student's t with as many degrees of freedom
 * as there are parts that count: Satterthwaite's (Σ v)² / Σ v², v the share of the variance that each part brings. This
 * effective number is printed beside the interval. Below ten parts there is no interval, and it says why.
 *
 * Single squares scatter, which biases that ratio low; half a degree is added, so that coverage on the effects of facts-bert's
 * neurons lies between 92 and 97% from 20 prompts to 200 (test/neurgrad/coverage.test.ts).
 */

import { checkValue, like, text, whole } from '../engine/options.ts';
import { checkLists, checkNumber, checkNumbers, type NumberKind, POSITIVE, REAL, SHARE } from './lists.ts';

/** Both ends of an interval. */
export interface Ends {
  readonly low: number;
  readonly high: number;
}

/** A statistic of a sample, with a 95% interval where the sample carries one. */
export interface Estimate {
  readonly value: number;
  /** 95%; null where there is none. */
  readonly interval: Ends | null;
  /** Why there is no interval; null where there is one. */
  readonly reason: string | null;
  /** Parts drawn, such as prompts. */
  readonly count: number;
  /** As many parts of equal weight would leave the spread as uncertain; null where there is no interval. */
  readonly effective: number | null;
}

/** Parts below which no interval is given: its own spread would be a guess. */
export const INTERVAL_PARTS = 10;

/** Degrees of freedom that the effective number misses. */
const BIAS = 0.5;

/** What both tails of an interval leave out. */
const TAILS = 0.05;

const countField = whole();
const scaleField = like<Scale>(
  (value) => typeof (value as Scale | null)?.to === 'function' && typeof (value as Scale).from === 'function',
  'a scale: { to, from }',
);

/** Why `count` parts carry no interval, or null where they do. @param parts their name, such as `prompts`. */
export function tooFew(count: number, parts: string): string | null {
  checkValue('tooFew', 'count', countField, count);
  checkValue('tooFew', 'parts', text, parts);
  if (count >= INTERVAL_PARTS) return null;
  const one = count === 1 ? parts.replace(/s$/, '') : parts;
  return `${count} ${one}: an interval needs ${INTERVAL_PARTS}`;
}

/** A scale on which a statistic is nearly normal, and back. */
export interface Scale {
  /** From the statistic. */
  readonly to: (value: number) => number;
  /** To it. */
  readonly from: (value: number) => number;
}

/** As it is. */
export const IDENTITY: Scale = { to: (value) => value, from: (value) => value };

/** What float64 tells from 1: atanh(1) is infinite. */
const BELOW_ONE = 1 - 2 ** -52;

/** Fisher's z = artanh r: for correlations, and means of them. */
export const FISHER_Z: Scale = {
  to: (r) => Math.atanh(Math.max(-BELOW_ONE, Math.min(BELOW_ONE, r))),
  from: (z) => {
    const r = Math.tanh(z);
    // From ±1 and back it is ±1.
    return Math.abs(r) >= BELOW_ONE ? Math.sign(r) : r;
  },
};

/** Fisher's z of half the difference of two correlations, which lies within ±1. */
export const FISHER_Z_DIFFERENCE: Scale = {
  to: (difference) => FISHER_Z.to(difference / 2),
  from: (z) => 2 * FISHER_Z.from(z),
};

/** A jackknife's variance of a statistic, and from how many parts it really comes. */
export interface Spread {
  readonly variance: number;
  /** Satterthwaite's degrees of freedom: (Σ v)² / Σ v² of the parts' shares v; at least 1. */
  readonly effective: number;
}

/**
 * The jackknife's variance: (n - 1) / n Σ (θ without part i - θ)².
 * @param leftOut the statistic without each part; several lists where several kinds of parts were drawn (prompts, and
 *   neurons that all prompts share), whose variances add up (Owen 2007, "The pigeonhole bootstrap").
 * @example
 * ```ts
 * import { jackknife } from 'neurgrad';
 *
 * // The mean of 1, 2, 6 is 3; without each part 4, 3.5, 1.5. Its variance is s²/n = 7/3.
 * console.log(jackknife(3, [[4, 3.5, 1.5]]).variance.toFixed(4)); // → 2.3333
 * ```
 * @returns NaN for the variance where the statistic is NaN, whole or without a part. @throws UserError for what are no numbers.
 */
export function jackknife(value: number, leftOut: readonly (readonly number[])[]): Spread {
  checkNumber('jackknife', 'value', value);
  checkLists('jackknife', 'leftOut', leftOut);
  const shares = leftOut.flatMap((parts) =>
    parts.map((without) => ((parts.length - 1) / parts.length) * (without - value) ** 2),
  );
  const variance = shares.reduce((sum, share) => sum + share, 0);
  const squares = shares.reduce((sum, share) => sum + share * share, 0);
  // All parts alike: all of them count. Squares of tiny shares may underflow.
  const effective = squares > 0 ? variance ** 2 / squares : shares.length;
  return { variance, effective: Math.max(1, effective) };
}

/**
 * A statistic with its jackknife-t interval.
 * @param value NaN where there is none: it has no interval.
 * @param leftOut as of {@link jackknife}; the first list is that of the parts counted.
 * @param parts their name, for the reason.
 * @example
 * ```ts
 * import { jackknifeT, mean } from 'neurgrad';
 *
 * const x = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];
 * const without = x.map((_, i) => mean(x.filter((_, j) => j !== i)));
 * const { interval } = jackknifeT(mean(x), [without], 'numbers');
 * console.log(interval!.low < 5.5 && 5.5 < interval!.high); // → true
 * console.log(jackknifeT(2, [[1, 3]], 'prompts').reason); // → 2 prompts: an interval needs 10
 * ```
 */
export function jackknifeT(
  value: number,
  leftOut: readonly (readonly number[])[],
  parts: string,
  scale: Scale = IDENTITY,
): Estimate {
  checkNumber('jackknifeT', 'value', value);
  checkLists('jackknifeT', 'leftOut', leftOut);
  checkValue('jackknifeT', 'parts', text, parts);
  checkValue('jackknifeT', 'scale', scaleField, scale);
  const count = leftOut[0]?.length ?? 0;
  const none = (reason: string): Estimate => ({ value, interval: null, reason, count, effective: null });
  const few = tooFew(count, parts);
  if (few !== null) return none(few);
  const centre = scale.to(value);
  const { variance, effective } = jackknife(
    centre,
    leftOut.map((list) => list.map(scale.to)),
  );
  if (!Number.isFinite(variance)) return none('the statistic is not defined for every part left out');
  const half = studentQuantile(1 - TAILS / 2, effective + BIAS) * Math.sqrt(variance);
  // There and back a scale may round past the value itself.
  const low = Math.min(value, scale.from(centre - half));
  const interval = { low, high: Math.max(value, scale.from(centre + half)) };
  return { value, interval, reason: null, count, effective };
}

/**
 * A share with Wilson's interval (Wilson 1927) of as many independent yes and no as would scatter like the parts drawn
 * (Korn and Graubard 1998): p (1 - p) / variance by the jackknife, or the parts themselves where all say the same.
 * @param value NaN where there is none: it has no interval.
 * @param leftOut the share without each part; as of {@link jackknife}.
 */
export function jackknifeShare(
  value: number,
  leftOut: readonly (readonly number[])[],
  parts: string,
): Estimate {
  if (!Number.isNaN(value)) checkNumber('jackknifeShare', 'value', value, SHARE);
  checkLists('jackknifeShare', 'leftOut', leftOut);
  checkValue('jackknifeShare', 'parts', text, parts);
  const count = leftOut[0]?.length ?? 0;
  const few = tooFew(count, parts);
  if (few !== null) return { value, interval: null, reason: few, count, effective: null };
  const { variance, effective } = jackknife(value, leftOut);
  if (!Number.isFinite(variance)) {
    const reason = 'the share is not defined for every part left out';
    return { value, interval: null, reason, count, effective: null };
  }
  const independent = variance > 0 ? (value * (1 - value)) / variance : count;
  const interval = wilson(value, independent, studentQuantile(1 - TAILS / 2, count - 1));
  return { value, interval, reason: null, count, effective };
}

/**
 * Wilson's score interval of a share.
 * @param count independent yes and no.
 * @param quantile of the normal distribution or of Student's; default 95%.
 * @example
 * ```ts
 * import { wilson } from 'neurgrad';
 *
 * const { low, high } = wilson(0.5, 10);
 * console.log(low.toFixed(4), high.toFixed(4)); // → 0.2366 0.7634
 * ```
 */
export function wilson(share: number, count: number, quantile = NORMAL_QUANTILE): Ends {
  checkNumber('wilson', 'share', share, SHARE);
  checkNumber('wilson', 'count', count, POSITIVE);
  checkNumber('wilson', 'quantile', quantile, POSITIVE);
  const square = quantile ** 2 / count;
  const centre = (share + square / 2) / (1 + square);
  const half = Math.sqrt((share * (1 - share) * quantile ** 2) / count + square ** 2 / 4) / (1 + square);
  // Rounding must not push the ends out of [0, 1] or past the share itself.
  return {
    low: Math.max(0, Math.min(share, centre - half)),
    high: Math.min(1, Math.max(share, centre + half)),
  };
}

/** 97.5% of the normal distribution. */
const NORMAL_QUANTILE = 1.959963984540054;

/** The value in the middle; NaN where there are none, or one is NaN. @throws UserError for what are no numbers. */
export function median(values: readonly number[]): number {
  checkNumbers('median', 'values', values);
  if (values.some(Number.isNaN)) return Number.NaN;
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  if (sorted.length === 0) return Number.NaN;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/**
 * A 95% interval of the median, whatever the distribution: the k-th smallest and k-th largest value, k as large as the
 * binomial of `values.length` fair coins allows.
 * @returns null below six values, which say nothing with 95%. @throws UserError for what are no numbers, such as NaN.
 */
export function medianInterval(values: readonly number[]): Ends | null {
  checkNumbers('medianInterval', 'values', values, REAL);
  const n = values.length;
  const sorted = [...values].sort((a, b) => a - b);
  let k = 0;
  // Chance that at most k of n lie below the median.
  for (let chance = 2 ** -n, below = chance; below <= TAILS / 2 && k < n / 2; ) {
    k++;
    chance *= (n - k + 1) / k;
    below += chance;
  }
  return k === 0 ? null : { low: sorted[k - 1]!, high: sorted[n - k]! };
}

const UPPER: NumberKind = {
  expected: 'a number above 0.5 and below 1',
  fits: (value) => typeof value === 'number' && value > 0.5 && value < 1,
};

/**
 * Quantile of Student's t distribution.
 * @param p above 0.5 and below 1.
 * @param freedom degrees of freedom, above 0, not necessarily whole.
 * @example
 * ```ts
 * import { studentQuantile } from 'neurgrad';
 *
 * console.log(studentQuantile(0.975, 1).toFixed(3), studentQuantile(0.975, 9).toFixed(3)); // → 12.706 2.262
 * ```
 */
export function studentQuantile(p: number, freedom: number): number {
  checkNumber('studentQuantile', 'p', p, UPPER);
  checkNumber('studentQuantile', 'freedom', freedom, POSITIVE);
  const tail = 2 * (1 - p);
  // The two-sided tail is I_x(ν/2, 1/2) with x = ν / (ν + t²), which rises with x.
  let [low, high] = [0, 1];
  for (let step = 0; step < 100 && high - low > 1e-16 * high; step++) {
    const x = (low + high) / 2;
    if (incompleteBeta(x, freedom / 2, 0.5) < tail) low = x;
    else high = x;
  }
  const x = (low + high) / 2;
  return Math.sqrt((freedom * (1 - x)) / x);
}

/** I_x(a, b): Lentz's continued fraction (Numerical Recipes 6.4). */
function incompleteBeta(x: number, a: number, b: number): number {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  // It converges fast on this side of the mean.
  if (x > (a + 1) / (a + b + 2)) return 1 - incompleteBeta(1 - x, b, a);
  const front = Math.exp(a * Math.log(x) + b * Math.log1p(-x) - logBeta(a, b)) / a;
  let [c, d] = [1, 1 / (1 - ((a + b) * x) / (a + 1))];
  let fraction = d;
  for (let m = 1; m <= 1000; m++) {
    const even = (m * (b - m) * x) / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / (1 + even * d);
    c = 1 + even / c;
    fraction *= c * d;
    const odd = (-(a + m) * (a + b + m) * x) / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / (1 + odd * d);
    c = 1 + odd / c;
    fraction *= c * d;
    if (Math.abs(c * d - 1) < 1e-15) break;
  }
  return front * fraction;
}

function logBeta(a: number, b: number): number {
  return logGamma(a) + logGamma(b) - logGamma(a + b);
}

/** Stirling's series, after shifting the argument to where it is exact to float64. */
function logGamma(x: number): number {
  let shift = 0;
  let z = x;
  for (; z < 10; z++) shift += Math.log(z);
  const square = 1 / (z * z);
  const series =
    (1 / 12 - square * (1 / 360 - square * (1 / 1260 - square * (1 / 1680 - square / 1188)))) / z;
  return (z - 0.5) * Math.log(z) - z + 0.5 * Math.log(2 * Math.PI) + series - shift;
}

/**
 * Holm's (1979) p values of several tests at once: each at least as large as its own, and below 0.05 only where the chance
 * of any false one among them stays below 0.05.
 * @example
 * ```ts
 * import { holm } from 'neurgrad';
 *
 * // Sorted .01, .02, .04 times 3, 2, 1, never falling.
 * console.log(holm([0.04, 0.01, 0.02])); // → [ 0.04, 0.03, 0.04 ]
 * ```
 */
export function holm(p: readonly number[]): number[] {
  checkNumbers('holm', 'p', p, SHARE);
  const order = [...p.keys()].sort((a, b) => p[a]! - p[b]!);
  const adjusted = new Array<number>(p.length);
  let largest = 0;
  for (const [rank, i] of order.entries()) {
    largest = Math.max(largest, Math.min(1, (p.length - rank) * p[i]!));
    adjusted[i] = largest;
  }
  return adjusted;
}
