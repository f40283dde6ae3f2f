/**
 * Which neurons are linear, and how generally: over layers (LG) and over prompts (PG). docs/conventions.md#the-sweep, docs/conventions.md#generality.
 *
 * Both generalities are one formula on counts of linear neurons per bin: coverage (share of bins that hold any) times
 * evenness, 1 - Var/maxVar. The paper does not say which maxVar it means, so both readings are here.
 */

import { quantileSorted } from 'simple-statistics';
import { checkMembers, checkValue, like, one, optionsSchema, required, whole } from '../engine/options.ts';
import { below, checkAlike, checkLengths, checkNumber, checkNumbers, NATURAL, POSITIVE } from './lists.ts';
import { seededRandom, seedField } from './random.ts';
import { isLinear, mean } from './statistics.ts';

/**
 * The largest variance the counts could have:
 * - `all` (default): all T linear neurons in one bin, T²(n-1)/n²;
 * - `capacity`: half of the bins full, c² floor(n/2) ceil(n/2) / n², c the neurons tested in the fullest bin.
 */
export const MAX_VARIANCES = ['all', 'capacity'] as const;
/** One of {@link MAX_VARIANCES}. */
export type MaxVariance = (typeof MAX_VARIANCES)[number];
/** The same as a field of options. */
export const maxVarianceField = one(MAX_VARIANCES);

/** How evenly linear neurons lie over bins: value = coverage × distribution, each 0 to 1. */
export interface Generality {
  /** coverage * distribution. */
  readonly value: number;
  /** Share of bins holding at least one linear neuron. */
  readonly coverage: number;
  /** 1 - Var/maxVar; 1 where there is one bin. */
  readonly distribution: number;
}

function maxVariance(total: number, bins: number, option: MaxVariance, capacity: number): number {
  if (option === 'all') return (total ** 2 * (bins - 1)) / bins ** 2;
  return (capacity ** 2 * Math.floor(bins / 2) * Math.ceil(bins / 2)) / bins ** 2;
}

/**
 * Generality of linear neurons over bins.
 * @param linear linear neurons in each bin.
 * @param tested neurons tested in each bin; only `capacity` reads it.
 * @returns all 0 where no neuron is linear.
 * @example
 * ```ts
 * import { generality } from 'neurgrad';
 *
 * // Three of four layers have linear neurons, not equally many.
 * const { value, coverage, distribution } = generality([4, 4, 2, 0], [10, 10, 10, 10]);
 * console.log(value.toFixed(3), coverage, distribution.toFixed(3)); // → 0.640 0.75 0.853
 * ```
 */
export function generality(
  linear: readonly number[],
  tested: readonly number[],
  option: MaxVariance = 'all',
): Generality {
  checkValue('generality', 'option', maxVarianceField, option);
  checkNumbers('generality', 'linear', linear, NATURAL);
  checkNumbers('generality', 'tested', tested, NATURAL);
  if (option === 'capacity') {
    checkLengths('generality', { linear, tested }, 'bins');
    for (const [bin, count] of linear.entries())
      checkNumber('generality', `linear[${bin}]`, count, below(tested[bin]! + 1));
  }
  const bins = linear.length;
  const total = linear.reduce((sum, count) => sum + count, 0);
  if (total === 0) return { value: 0, coverage: 0, distribution: 0 };
  const coverage = linear.filter((count) => count > 0).length / bins;
  const centre = total / bins;
  const variance = linear.reduce((sum, count) => sum + (count - centre) ** 2, 0) / bins;
  const distribution = bins === 1 ? 1 : 1 - variance / maxVariance(total, bins, option, Math.max(...tested));
  return { value: coverage * distribution, coverage, distribution };
}

/**
 * Generality expected where each of `total` linear neurons falls in any of `bins` with equal chance: what to read LG
 * against. Exact, from E[K] and E[K Σc²] over the multinomial, K the number of bins that are not empty.
 * @param capacity neurons tested in the fullest bin; only `capacity` reads it.
 */
export function expectedGenerality(
  total: number,
  bins: number,
  option: MaxVariance = 'all',
  capacity = 0,
): number {
  checkValue('expectedGenerality', 'option', maxVarianceField, option);
  checkNumber('expectedGenerality', 'total', total, NATURAL);
  checkNumber('expectedGenerality', 'bins', bins, NATURAL);
  if (total === 0) return 0;
  checkNumber('expectedGenerality', 'bins', bins, POSITIVE);
  checkNumber('expectedGenerality', 'capacity', capacity, option === 'capacity' ? POSITIVE : NATURAL);
  if (bins === 1) return 1;
  // E[c²] of a Binomial(total, q).
  const square = (q: number): number => total * q * (1 - q) + (total * q) ** 2;
  const empty = (1 - 1 / bins) ** total;
  const filled = bins * (1 - empty);
  // Σ over pairs of bins (i not empty, j): j = i gives c_i² itself, j ≠ i gives c_j² less its part where i is empty.
  const both = bins * (square(1 / bins) + (bins - 1) * (square(1 / bins) - empty * square(1 / (bins - 1))));
  const top = maxVariance(total, bins, option, capacity);
  // E[K/n (1 - (Σc²/n - T²/n²) / maxVar)]
  return (filled - (both / bins - (filled * total ** 2) / bins ** 2) / top) / bins;
}

/** A statistic where nothing but chance is at work: mean and middle 95% over draws. */
export interface NullDistribution {
  readonly mean: number;
  readonly low: number;
  readonly high: number;
}

/** Draws of a null distribution. */
const DRAWS = 1000;

/**
 * Generality where the label `linear` is shuffled over the neurons tested: as many linear ones, any of those tested as likely
 * as any other. Unlike {@link expectedGenerality} a bin holds no more of them than were tested in it.
 * @param tested neurons tested in each bin.
 * @param total linear neurons.
 */
export function shuffledGenerality(
  tested: readonly number[],
  total: number,
  option: MaxVariance = 'all',
  seed = 0,
): NullDistribution {
  checkValue('shuffledGenerality', 'option', maxVarianceField, option);
  checkValue('shuffledGenerality', 'seed', seedField, seed);
  checkNumbers('shuffledGenerality', 'tested', tested, NATURAL);
  const all = tested.reduce((sum, count) => sum + count, 0);
  checkNumber('shuffledGenerality', 'total', total, below(all + 1));
  const random = seededRandom(seed);
  const order = Uint32Array.from(tested.flatMap((count, bin) => new Array<number>(count).fill(bin)));
  // The rarer label is dealt, the other is what remains.
  const rare = Math.min(total, order.length - total);
  const values = Array.from({ length: DRAWS }, () => {
    const dealt = tested.map(() => 0);
    for (let i = 0; i < rare; i++) {
      const j = i + Math.floor(random() * (order.length - i));
      [order[i], order[j]] = [order[j]!, order[i]!];
      dealt[order[i]!]!++;
    }
    const linear = rare === total ? dealt : tested.map((count, bin) => count - dealt[bin]!);
    return generality(linear, tested, option).value;
  }).sort((a, b) => a - b);
  return {
    mean: mean(values),
    low: quantileSorted(values, 0.025),
    high: quantileSorted(values, 0.975),
  };
}

/** r of every tested neuron, of three points or more: one list a prompt, with the neurons' layers beside it. */
export interface LinearityInput {
  readonly r: readonly ArrayLike<number>[];
  readonly layer: readonly ArrayLike<number>[];
  readonly layers: number;
}

const lists = required(like<LinearityInput['r']>(Array.isArray, 'a list of lists of numbers'));
const linearityInput = optionsSchema<LinearityInput>({ r: lists, layer: lists, layers: required(whole()) });

/** How many neurons of a set of prompts are linear, and how generally. */
export interface Linearity {
  /** Share of (prompt, neuron) pairs that are linear. */
  readonly ratio: number;
  /** Over layers. */
  readonly lg: Generality;
  /** Over prompts. */
  readonly pg: Generality;
  /** LG and PG that linear neurons placed in layers, or prompts, by chance would have: the mean in closed form. */
  readonly expectedLg: number;
  readonly expectedPg: number;
  /** LG and PG with the linear neurons shuffled among those tested. */
  readonly shuffledLg: NullDistribution;
  readonly shuffledPg: NullDistribution;
  readonly maxVariance: MaxVariance;
}

/**
 * Ratio of linear neurons, LG and PG of a set of prompts, each beside its nulls.
 * @example
 * ```ts
 * import { linearity } from 'neurgrad';
 *
 * const { ratio, lg, pg } = linearity({
 *   r: [[0.99, 0.1], [-0.97, 0.96]],
 *   layer: [[0, 1], [0, 1]],
 *   layers: 2,
 * });
 * console.log(ratio, lg.coverage, pg.coverage); // → 0.75 1 1
 * ```
 */
export function linearity(input: LinearityInput, option: MaxVariance = 'all', seed = 0): Linearity {
  checkValue('linearity', 'option', maxVarianceField, option);
  checkValue('linearity', 'seed', seedField, seed);
  checkMembers('linearity: input', linearityInput, input);
  checkAlike('linearity', { r: input.r, layer: input.layer });
  for (const [i, row] of input.layer.entries())
    checkNumbers('linearity', `layer[${i}]`, row, below(input.layers));
  const byLayer = {
    linear: new Array<number>(input.layers).fill(0),
    tested: new Array<number>(input.layers).fill(0),
  };
  const byPrompt = { linear: input.r.map(() => 0), tested: input.r.map((row) => row.length) };
  input.r.forEach((row, prompt) => {
    for (let i = 0; i < row.length; i++) {
      const layer = input.layer[prompt]![i]!;
      byLayer.tested[layer]!++;
      if (!isLinear(row[i]!)) continue;
      byLayer.linear[layer]!++;
      byPrompt.linear[prompt]!++;
    }
  });
  const total = byPrompt.linear.reduce((sum, count) => sum + count, 0);
  const tested = byPrompt.tested.reduce((sum, count) => sum + count, 0);
  return {
    ratio: tested === 0 ? 0 : total / tested,
    lg: generality(byLayer.linear, byLayer.tested, option),
    pg: generality(byPrompt.linear, byPrompt.tested, option),
    expectedLg: expectedGenerality(total, input.layers, option, Math.max(...byLayer.tested)),
    expectedPg: expectedGenerality(total, input.r.length, option, Math.max(...byPrompt.tested)),
    shuffledLg: shuffledGenerality(byLayer.tested, total, option, seed),
    shuffledPg: shuffledGenerality(byPrompt.tested, total, option, seed),
    maxVariance: option,
  };
}
