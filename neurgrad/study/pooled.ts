/**
 * Statistics pooled over prompts and their neurons, with jackknife-t intervals (neurgrad/intervals.ts).
 *
 * Each is a function of sums over (prompt, neuron), so that leaving a prompt out is leaving its sums out. Neurons of one prompt
 * are not independent: prompts are left out whole. Where all prompts have the same neurons, those were drawn too, and each is
 * left out as well; the two variances add up (Owen 2007, "The pigeonhole bootstrap").
 */

import { checkValue, like, list, one } from '../../engine/options.ts';
import { type Estimate, FISHER_Z, FISHER_Z_DIFFERENCE, jackknifeShare, jackknifeT } from '../intervals.ts';
import {
  ANY,
  checkAlike,
  checkLists,
  checkNumber,
  checkNumbers,
  NATURAL,
  type NumberKind,
} from '../lists.ts';
import { LINEAR_POINTS, mean } from '../statistics.ts';

/** One list of values a prompt. */
export type ByPrompt = readonly ArrayLike<number>[];

/** How prompts and neurons were drawn: the same neurons in each prompt, in one order, or others. */
export const SAMPLINGS = ['shared', 'perPrompt'] as const;
/** One of {@link SAMPLINGS}. */
export type Sampling = (typeof SAMPLINGS)[number];
const samplingField = one(SAMPLINGS);

type Sums = ArrayLike<number> & Iterable<number>;

const TRUTH: NumberKind = {
  expected: 'true, false or null',
  fits: (value) => typeof value === 'boolean' || value === null,
};

/** Terms of each (prompt, neuron). */
export type Terms = readonly (readonly (readonly number[])[])[];

/** A function of sums of terms, and how its interval is made. */
export interface Statistic {
  /** Its value. */
  readonly of: (sums: Sums) => number;
  /** Its interval, of the values without each part. */
  readonly estimate: (value: number, leftOut: readonly (readonly number[])[], parts: string) => Estimate;
}

const statisticField = like<Statistic>(
  (value) =>
    typeof (value as Statistic | null)?.of === 'function' &&
    typeof (value as Statistic).estimate === 'function',
  'a statistic, such as PEARSON',
);
const sumsField = list<readonly Float64Array[]>(
  like(
    (value) => Array.isArray(value) && value.every((sums) => sums instanceof Float64Array),
    'a list of sums',
  ),
  'a list of lists of sums, which promptSums gives',
);
const termsField = like<Terms>(
  (value) => Array.isArray(value) && value.every(Array.isArray),
  'a list of lists of terms, which pearsonTerms and its like give',
);
function checkTerms(door: string, terms: unknown): asserts terms is Terms {
  checkValue(door, 'terms', termsField, terms);
  for (const [i, row] of terms.entries()) checkLists(door, `terms[${i}]`, row, ANY);
}

/** Of {@link pearsonTerms}. */
export const PEARSON: Statistic = {
  of: pearsonOfSums,
  estimate: (value, leftOut, parts) => jackknifeT(value, leftOut, parts, FISHER_Z),
};

/** Of {@link differenceTerms}. */
export const PEARSON_DIFFERENCE: Statistic = {
  of: ([n, a, b, aa, bb, ab, c, cc, cb]) =>
    pearsonOfSums([n!, a!, b!, aa!, bb!, ab!]) - pearsonOfSums([n!, c!, b!, cc!, bb!, cb!]),
  estimate: (value, leftOut, parts) => jackknifeT(value, leftOut, parts, FISHER_Z_DIFFERENCE),
};

const ratio = ([part, all]: Sums): number => part! / all!;

/** Of {@link shareTerms}, or of other values between 0 and 1: their mean. */
export const SHARE: Statistic = { of: ratio, estimate: jackknifeShare };

/** Of Pearson: 1, x, y and their squares and product, both sides less their means. */
export function pearsonTerms(estimate: ByPrompt, measured: ByPrompt): Terms {
  checkAlike('pearsonTerms', { estimate, measured });
  const [x, y] = [centred(estimate), centred(measured)];
  return x.map((row, p) =>
    row.map((a, i) => {
      const b = y[p]![i]!;
      return [1, a, b, a * a, b * b, a * b];
    }),
  );
}

/** Of Pearson of one estimate less that of another. */
export function differenceTerms(one: ByPrompt, other: ByPrompt, measured: ByPrompt): Terms {
  checkAlike('differenceTerms', { one, other, measured });
  const [x, z, y] = [centred(one), centred(other), centred(measured)];
  return x.map((row, p) =>
    row.map((a, i) => {
      const [b, c] = [y[p]![i]!, z[p]![i]!];
      return [1, a, b, a * a, b * b, a * b, c, c * c, c * b];
    }),
  );
}

/** Null counts for nothing. */
export function shareTerms(values: readonly (readonly (boolean | null)[])[]): Terms {
  checkLists('shareTerms', 'values', values, TRUTH);
  return values.map((row) => row.map((value) => (value === null ? [0, 0] : [value ? 1 : 0, 1])));
}

/** Share of values that are true; null counts for nothing. @param parts what the lists are of, such as `prompts`. */
export function share(
  values: readonly (readonly (boolean | null)[])[],
  sampling: Sampling,
  parts = 'prompts',
): Estimate {
  checkLists('share', 'values', values, TRUTH);
  const { leftOut: _, ...found } = pooled(SHARE, shareTerms(values), sampling, parts);
  return found;
}

/** Each value and 1. */
export function meanTerms(values: ByPrompt): Terms {
  checkLists('meanTerms', 'values', values);
  return values.map((row) => Array.from(row, (value) => [value, 1]));
}

/**
 * Mean of |r| over curves. Of two points |r| is 1 whatever the curve, and says nothing about others.
 * @param points of each curve. @param parts what the lists are of.
 */
export function meanAbsoluteR(r: ByPrompt, points: number, sampling: Sampling, parts = 'prompts'): Estimate {
  checkLists('meanAbsoluteR', 'r', r);
  checkNumber('meanAbsoluteR', 'points', points, NATURAL);
  const values = r.map((row) => Array.from(row, Math.abs));
  const { leftOut: _, ...found } = pooled(SHARE, meanTerms(values), sampling, parts);
  if (points >= LINEAR_POINTS) return found;
  return { ...found, interval: null, effective: null, reason: `${points} points always lie on one line` };
}

/** Pearson over values drawn one by one; NaN where it is not defined. @param parts what they are, such as `neurons`. */
export function pearsonOfParts(
  estimate: readonly number[],
  measured: readonly number[],
  parts: string,
): Estimate {
  checkNumbers('pearsonOfParts', 'estimate', estimate);
  checkNumbers('pearsonOfParts', 'measured', measured);
  const single = (values: readonly number[]): number[][] => values.map((value) => [value]);
  const terms = pearsonTerms(single(estimate), single(measured));
  const { leftOut: _, ...found } = pooled(PEARSON, terms, 'perPrompt', parts);
  return found;
}

/** A statistic of all terms, and what it is without each prompt. */
export function pooled(
  statistic: Statistic,
  terms: Terms,
  sampling: Sampling,
  parts = 'prompts',
): Estimate & { readonly leftOut: readonly number[] } {
  checkValue('agreement', 'sampling', samplingField, sampling);
  checkValue('pooled', 'statistic', statisticField, statistic);
  checkTerms('pooled', terms);
  const neurons =
    sampling === 'shared' ? [(terms[0] ?? []).map((_, i) => sumOf(terms.map((row) => row[i]!)))] : [];
  return pooledSums(statistic, [promptSums(terms), ...neurons], parts);
}

/** Sums of each prompt's terms. */
export function promptSums(terms: Terms): Float64Array[] {
  checkTerms('promptSums', terms);
  return terms.map(sumOf);
}

/** As {@link pooled}, of the sums of each part: of prompts, and of neurons where those were drawn for all. */
export function pooledSums(
  statistic: Statistic,
  sums: readonly (readonly Float64Array[])[],
  parts = 'prompts',
): Estimate & { readonly leftOut: readonly number[] } {
  checkValue('pooledSums', 'statistic', statisticField, statistic);
  checkValue('pooledSums', 'sums', sumsField, sums);
  const leftOut = sums.map((list) => sumsWithout(list).map(statistic.of));
  return { ...statistic.estimate(statistic.of(sumOf(sums[0]!)), leftOut, parts), leftOut: leftOut[0]! };
}

/** The values of all prompts. */
export const flat = (rows: ByPrompt): number[] => rows.flatMap((row) => Array.from(row));

/** Less their mean, so that sums of squares do not cancel; exactly 0 where all are alike. */
function centred(rows: ByPrompt): number[][] {
  const values = flat(rows);
  const middle = values.every((value) => value === values[0]) ? values[0]! : mean(values);
  return rows.map((row) => Array.from(row, (value) => value - middle));
}

/** What a sum of squares is too short of digits to leave when the mean's is taken away. */
const LOST = 1e-13;

function pearsonOfSums([n, a, b, aa, bb, ab]: Sums): number {
  const squares = (sum: number, square: number): number => {
    const left = square - (sum * sum) / n!;
    return left > LOST * square ? left : 0;
  };
  const spread = Math.sqrt(squares(a!, aa!)) * Math.sqrt(squares(b!, bb!));
  return spread > 0 ? Math.max(-1, Math.min(1, (ab! - (a! * b!) / n!) / spread)) : Number.NaN;
}

function sumOf(terms: readonly ArrayLike<number>[]): Float64Array {
  const sums = new Float64Array(terms[0]?.length ?? 0);
  for (const each of terms) for (let j = 0; j < sums.length; j++) sums[j]! += each[j]!;
  return sums;
}

/** Sums of all parts but one each: of those before and after it, since all less one would cancel where one outweighs all. */
function sumsWithout(parts: readonly Float64Array[]): Float64Array[] {
  const none = new Float64Array(parts[0]?.length ?? 0);
  const plus = (sums: Float64Array, part: Float64Array): Float64Array => sums.map((sum, j) => sum + part[j]!);
  const after: Float64Array[] = [none];
  for (let i = parts.length - 1; i > 0; i--) after.push(plus(after.at(-1)!, parts[i]!));
  let before: Float64Array = none;
  return parts.map((part, i) => {
    const sums = plus(before, after[parts.length - 1 - i]!);
    before = plus(before, part);
    return sums;
  });
}
