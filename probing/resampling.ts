/**
 * Intervals over prompts: Wilson's of an accuracy, and a bootstrap's of means of whatever a prompt is worth (Efron 1979;
 * percentiles). Few prompts, or prompts that are all worth the same, leave a bootstrap without a spread: there is no interval then,
 * where one without width would say that nothing is uncertain.
 */

import { quantile } from 'simple-statistics';
import { checkValue, flag, list } from '../engine/options.ts';
import { INTERVAL_PARTS, seededRandom, wilson } from '../neurgrad/index.ts';
import { checkLists, checkNumber, checkNumbers, FINITE, NATURAL, REAL, SHARE } from '../neurgrad/lists.ts';

/** Lower and upper end. */
export type Interval = readonly [number, number];

const RESAMPLES = 1000;
const answers = list(flag, 'a list of true and false');

/** Means of resamples of a sample; the same places are drawn for the same seed and length. */
export function bootstrapMeans(values: ArrayLike<number>, seed: number): number[] {
  checkNumbers('bootstrapMeans', 'values', values, REAL, 1);
  checkNumber('bootstrapMeans', 'seed', seed, FINITE);
  const random = seededRandom(seed);
  const { length } = values;
  return Array.from({ length: RESAMPLES }, () => {
    let sum = 0;
    for (let i = 0; i < length; i++) sum += values[Math.floor(random() * length)]!;
    return sum / length;
  });
}

/**
 * Accuracies of resamples of the test prompts.
 * @example
 * ```ts
 * import { bootstrap, middle } from 'neurgrad/probing';
 *
 * const [low, high] = middle(bootstrap([true, true, true, false], 0));
 * console.log(low < 0.75 && 0.75 < high); // → true
 * ```
 */
export function bootstrap(correct: readonly boolean[], seed: number): number[] {
  checkValue('bootstrap', 'correct', answers, correct);
  checkNumber('bootstrap', 'seed', seed, FINITE);
  return bootstrapMeans(correct.map(Number), seed);
}

/**
 * 95% of an accuracy, as Wilson (1927) has it; null below ten prompts.
 * @example
 * ```ts
 * import { accuracyInterval } from 'neurgrad/probing';
 *
 * const [low, high] = accuracyInterval(1, 20)!;
 * console.log(low.toFixed(3), high); // → 0.839 1
 * console.log(accuracyInterval(1, 9)); // → null
 * ```
 */
export function accuracyInterval(accuracy: number, prompts: number): Interval | null {
  checkNumber('accuracyInterval', 'accuracy', accuracy, SHARE);
  checkNumber('accuracyInterval', 'prompts', prompts, NATURAL);
  if (prompts < INTERVAL_PARTS) return null;
  const { low, high } = wilson(accuracy, prompts);
  return [low, high];
}

/** 95% of a mean of lists' means, each list of prompts drawn apart from the others; null where a bootstrap cannot tell. */
export function bootstrapInterval(lists: readonly ArrayLike<number>[], seed: number): Interval | null {
  checkLists('bootstrapInterval', 'lists', lists, REAL);
  checkNumber('bootstrapInterval', 'seed', seed, FINITE);
  if (lists.length === 0 || lists.some(({ length }) => length < INTERVAL_PARTS)) return null;
  if (lists.every((values) => Array.prototype.every.call(values, (value) => value === values[0])))
    return null;
  const samples = lists.map((values, i) => bootstrapMeans(values, seed + i));
  return middle(
    samples[0]!.map((_, k) => samples.reduce((sum, sample) => sum + sample[k]!, 0) / lists.length),
  );
}

/** The middle 95% of a sample. */
export function middle(sample: readonly number[]): Interval {
  checkNumbers('middle', 'sample', sample, REAL, 1);
  return [quantile([...sample], 0.025), quantile([...sample], 0.975)];
}
