/**
 * Fit, select, predict: what Polar and Magn share (docs/probing.md#what-is-computed).
 *
 * Fitting ranks neurons by how consistent they are over training prompts; prediction lets the first |N_s| of the ranking
 * vote; |N_s| is the power of two with the best accuracy on development prompts. Ties: polarity +1, the neuron and the
 * candidate of lower index, the smaller size.
 */

import { checkValue } from '../engine/options.ts';
import {
  ANY,
  below,
  checkGiven,
  checkLengths,
  checkLists,
  checkNumber,
  checkNumbers,
  NATURAL,
  REAL,
  SHARE,
} from '../neurgrad/lists.ts';
import { type Counts, checkCounts, checkVariant, type Variant } from './counts.ts';
import { marksField, neuronCount } from './marks.ts';

const GIVEN = 'a prober, which fitProber or loadProber gives';

/** One way to read gradients. */
export interface ProberKind {
  readonly name: 'polar' | 'magn';
  /** Adds what a training prompt says. `gradients` are [candidates, neurons]. */
  count(counts: Counts, gradients: Float32Array, candidates: number, gold: number, variant: Variant): void;
  /** Adds one neuron's votes. */
  vote(
    votes: Int32Array,
    marks: Uint8Array,
    neurons: number,
    neuron: number,
    polarity: number,
    variant: Variant,
  ): void;
}

/** A fitted prober: every neuron's polarity, and the neurons from best to worst. */
export interface Prober {
  readonly kind: ProberKind;
  readonly variant: Variant;
  /** +1 or -1; 0 in the release's variant where nothing speaks for either. */
  readonly polarity: Int8Array;
  /** paper: training prompts that agree with the polarity; release: |R| or |M|. */
  readonly score: Int32Array;
  readonly ranking: Int32Array;
}

/** Largest |N_s| tried. */
export const LARGEST_SIZE = 2 ** 16;

/** 1, 2, 4 … up to the neurons there are and 2^16. */
export function proberSizes(neurons: number): number[] {
  checkNumber('proberSizes', 'neurons', neurons, NATURAL);
  const sizes: number[] = [];
  for (let size = 1; size <= Math.min(neurons, LARGEST_SIZE); size *= 2) sizes.push(size);
  return sizes;
}

/**
 * The prober that a task's counters make.
 * @example
 * ```ts
 * import { emptyCounts, fitProber, markGradients, polar, predictSizes } from 'neurgrad/probing';
 *
 * // Two candidates, two neurons; the first neuron's gradient is positive for the right one.
 * const gradients = Float32Array.of(0.2, -0.1, -0.3, -0.2);
 * const counts = emptyCounts(2);
 * polar.count(counts, gradients, 2, 0, 'paper');
 * const prober = fitProber(polar, 'paper', counts);
 * console.log([...prober.polarity], [...predictSizes(prober, markGradients(gradients, 2), 2, [1])]); // → [ 1, -1 ] [ 0 ]
 * ```
 */
export function fitProber(kind: ProberKind, variant: Variant, counts: Counts): Prober {
  checkVariant('fitProber', variant);
  checkGiven('fitProber', 'kind', kind, 'vote', 'polar or magn');
  checkCounts('fitProber', 'counts', counts);
  const { plus, minus } = counts;
  const neurons = plus.length;
  const polarity = new Int8Array(neurons);
  const score = new Int32Array(neurons);
  for (let n = 0; n < neurons; n++) {
    const difference = plus[n]! - minus[n]!;
    polarity[n] = difference < 0 ? -1 : difference > 0 || variant === 'paper' ? 1 : 0;
    score[n] = variant === 'paper' ? Math.max(plus[n]!, minus[n]!) : Math.abs(difference);
  }
  return { kind, variant, polarity, score, ranking: rankDescending(score) };
}

/** Indices by falling value, equal ones by index. */
export function rankDescending(values: Int32Array): Int32Array {
  // One number a neuron that holds both keys sorts natively; the products stay below 2^53.
  const count = values.length;
  const keys = Float64Array.from(values, (value, i) => -value * count + i).sort();
  return Int32Array.from(keys, (key) => ((key % count) + count) % count);
}

/** Index of the largest value, the lowest of equals. */
export function argmax(values: ArrayLike<number>): number {
  checkNumbers('argmax', 'values', values, REAL, 1);
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! > values[best]!) best = i;
  return best;
}

/** Votes for each candidate of the first `size` neurons. */
export function proberVotes(prober: Prober, marks: Uint8Array, candidates: number, size: number): Int32Array {
  checkGiven('proberVotes', 'prober', prober, 'ranking', GIVEN);
  checkValue('proberVotes', 'marks', marksField, marks);
  checkNumber('proberVotes', 'size', size, below(prober.ranking.length + 1));
  const neurons = neuronCount(marks, candidates);
  const votes = new Int32Array(candidates);
  const { kind, variant, polarity, ranking } = prober;
  for (const n of ranking.subarray(0, size)) kind.vote(votes, marks, neurons, n, polarity[n]!, variant);
  return votes;
}

/** The predicted candidate at each of `sizes` (ascending), in one walk along the ranking. */
export function predictSizes(
  prober: Prober,
  marks: Uint8Array,
  candidates: number,
  sizes: readonly number[],
): Int32Array {
  checkGiven('predictSizes', 'prober', prober, 'ranking', GIVEN);
  checkValue('predictSizes', 'marks', marksField, marks);
  checkNumbers('predictSizes', 'sizes', sizes, below(prober.ranking.length + 1));
  const neurons = neuronCount(marks, candidates);
  const votes = new Int32Array(candidates);
  const { kind, variant, polarity, ranking } = prober;
  let done = 0;
  return Int32Array.from(sizes, (size) => {
    for (; done < size; done++) {
      const n = ranking[done]!;
      kind.vote(votes, marks, neurons, n, polarity[n]!, variant);
    }
    return argmax(votes);
  });
}

/** Share of prompts predicted right, at each size. `predictions` are [prompts][sizes]. */
export function accuracies(
  predictions: readonly ArrayLike<number>[],
  gold: readonly number[],
  sizes: number,
): number[] {
  checkLists('accuracies', 'predictions', predictions, ANY, 1);
  checkNumbers('accuracies', 'gold', gold, NATURAL);
  checkLengths('accuracies', { predictions, gold }, 'prompts');
  checkNumber('accuracies', 'sizes', sizes, NATURAL);
  return Array.from({ length: sizes }, (_, s) => {
    const right = predictions.filter((row, prompt) => row[s] === gold[prompt]).length;
    return right / predictions.length;
  });
}

/** Which of the sizes to take: the best on development prompts, the smallest of equals. */
export function selectSize(devAccuracies: readonly number[]): number {
  checkNumbers('selectSize', 'devAccuracies', devAccuracies, SHARE, 1);
  return argmax(devAccuracies);
}
