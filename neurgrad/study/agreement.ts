/**
 * An estimate of G_E against G_E over prompts and neurons (Table 1), with what a single pooled Pearson hides.
 *
 * Effects of neurons have heavy tails: a handful of prompts can hold half of all squares, and then decide the pooled
 * Pearson. So beside it stand rank and sign, the mean of Pearson within each prompt, Pearson with each prompt left out in turn,
 * and an interval from drawing anew what was drawn. Neurons of one prompt are not independent, so prompts are drawn whole;
 * where all prompts have the same neurons, those were drawn too and both are drawn anew (Owen 2007, "The pigeonhole bootstrap").
 */

import { quantileSorted } from 'simple-statistics';
import { seededRandom } from '../random.ts';
import { mean, meanAbsoluteError, pearson, signAgreement, spearman } from '../statistics.ts';

/** An estimate and its 95% interval. */
export interface Interval {
  readonly value: number;
  readonly low: number;
  readonly high: number;
}

/** An estimate of G_E against G_E, pooled over prompts and neurons. */
export interface Agreement {
  readonly pairs: number;
  readonly pearson: Interval;
  readonly spearman: number;
  readonly signAgreement: number;
  readonly meanAbsoluteError: number;
  /** Mean over prompts of Pearson within each. */
  readonly meanPearson: number;
  /** Lowest and highest pooled Pearson with one prompt left out; null where there is one prompt. */
  readonly leaveOneOut: { readonly low: number; readonly high: number } | null;
}

/** One list of values a prompt. */
export type ByPrompt = readonly ArrayLike<number>[];

/** How prompts and neurons were drawn: the same neurons in each prompt, in one order, or others. */
export type Sampling = 'shared' | 'perPrompt';

const RESAMPLES = 1000;
const SEED = 95;

const flat = (rows: ByPrompt): number[] => rows.flatMap((row) => Array.from(row));

/** How well estimates agree with what was measured: [prompt][neuron] each, in the same order. */
export function agreement(estimate: ByPrompt, measured: ByPrompt, sampling: Sampling): Agreement {
  const [x, y] = [flat(estimate), flat(measured)];
  const [mx, my] = [mean(x), mean(y)];
  // Centred first, so that the sums of squares do not cancel.
  const cells = estimate.map((row, p) =>
    Array.from(row, (value, i) => {
      const [a, b] = [value - mx, measured[p]![i]! - my];
      return [1, a, b, a * a, b * b, a * b];
    }),
  );
  const left = estimate.length > 1 ? leaveOneOut(cells, pearsonOfSums) : null;
  return {
    pairs: x.length,
    pearson: { value: pearson(x, y), ...bootstrap(cells, sampling, pearsonOfSums) },
    spearman: spearman(x, y),
    signAgreement: signAgreement(x, y),
    meanAbsoluteError: meanAbsoluteError(x, y),
    meanPearson: mean(estimate.map((row, p) => pearson(row, measured[p]!))),
    leaveOneOut: left && { low: Math.min(...left), high: Math.max(...left) },
  };
}

/** Share of values that are true, with its interval. */
export function share(values: readonly (readonly boolean[])[], sampling: Sampling): Interval {
  const cells = values.map((row) => row.map((value) => [value ? 1 : 0, 1]));
  const value = mean(values.flat().map(Number));
  return { value, ...bootstrap(cells, sampling, ([n, all]) => n! / all!) };
}

function pearsonOfSums([n, a, b, aa, bb, ab]: ArrayLike<number> & Iterable<number>): number {
  const spread = Math.sqrt((aa! - (a! * a!) / n!) * (bb! - (b! * b!) / n!));
  return spread > 0 ? (ab! - (a! * b!) / n!) / spread : 0;
}

/** Terms of each (prompt, neuron), whose sums a statistic is made of. */
type Cells = readonly (readonly (readonly number[])[])[];
type OfSums = (sums: Float64Array) => number;

/** Adds `times` the terms of a cell. */
function add(sums: Float64Array, terms: ArrayLike<number>, times: number): void {
  for (let j = 0; j < sums.length; j++) sums[j]! += times * terms[j]!;
}

function sumOf(terms: readonly ArrayLike<number>[]): Float64Array {
  const sums = new Float64Array(terms[0]?.length ?? 0);
  for (const each of terms) add(sums, each, 1);
  return sums;
}

function leaveOneOut(cells: Cells, of: OfSums): number[] {
  const prompts = cells.map(sumOf);
  const all = sumOf(prompts);
  return prompts.map((prompt) => of(all.map((sum, j) => sum - prompt[j]!)));
}

/** Percentile interval of a statistic over prompts drawn anew, and neurons where they are shared. */
export function bootstrap(cells: Cells, sampling: Sampling, of: OfSums): { low: number; high: number } {
  const random = seededRandom(SEED);
  const crossed = sampling === 'shared';
  // Where neurons are not drawn anew a prompt's sums are all that is needed of it.
  const table = crossed ? cells : cells.map((row) => [sumOf(row)]);
  const [prompts, neurons] = [table.length, table[0]?.length ?? 0];
  const width = table[0]?.[0]?.length ?? 0;
  const values = Array.from({ length: RESAMPLES }, () => {
    const prompt = timesDrawn(prompts, random);
    const neuron = crossed ? timesDrawn(neurons, random) : [1];
    const sums = new Float64Array(width);
    for (let p = 0; p < prompts; p++)
      if (prompt[p]! > 0)
        for (let n = 0; n < neurons; n++)
          if (neuron[n]! > 0) add(sums, table[p]![n]!, prompt[p]! * neuron[n]!);
    return of(sums);
  }).sort((a, b) => a - b);
  return { low: quantileSorted(values, 0.025), high: quantileSorted(values, 0.975) };
}

/** How often each of `count` came when `count` were drawn with replacement. */
function timesDrawn(count: number, random: () => number): Uint16Array {
  const times = new Uint16Array(count);
  for (let i = 0; i < count; i++) times[Math.floor(random() * count)]!++;
  return times;
}

/** Where the squares of G_E lie, which weigh the pooled Pearson. */
export interface Weight {
  /** Share of all squares that neurons with an activation >= 0 hold. */
  readonly positive: number;
  /** Prompts that together hold half of all squares, fewest first. */
  readonly promptsOfHalf: number;
  /** The heaviest prompt's number and share. */
  readonly heaviest: { readonly prompt: number; readonly share: number };
}

/** Weighs prompts and signs of activations by the squares of G_E, [prompt][neuron]. */
export function weight(activation: ByPrompt, slope: ByPrompt): Weight {
  const prompts = slope.map((row) => Array.from(row).reduce((sum, value) => sum + value ** 2, 0));
  const total = prompts.reduce((sum, value) => sum + value, 0) || 1;
  const positive = slope.flatMap((row, p) =>
    Array.from(row, (value, i) => (activation[p]![i]! >= 0 ? value ** 2 : 0)),
  );
  const order = [...prompts.keys()].sort((a, b) => prompts[b]! - prompts[a]! || a - b);
  let [held, promptsOfHalf] = [0, 0];
  while (held < total / 2 && promptsOfHalf < order.length) held += prompts[order[promptsOfHalf++]!]!;
  return {
    positive: positive.reduce((sum, value) => sum + value, 0) / total,
    promptsOfHalf,
    heaviest: { prompt: order[0]!, share: prompts[order[0]!]! / total },
  };
}
