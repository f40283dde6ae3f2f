/**
 * Two ways to answer the same questions: which is better, and by how much more than chance would have it. Prompts that both
 * answer alike say nothing about it, so the two are compared prompt by prompt.
 */

import { checkLengths, checkNumber, checkNumbers, NATURAL, REAL } from '../neurgrad/lists.ts';
import { bootstrapInterval, type Interval } from './resampling.ts';

/** How much better one way to answer is than another, on the same prompts. */
export interface Comparison {
  /** Accuracy of the first less that of the second. */
  readonly difference: number;
  /**
   * 95%, by bootstrap over the prompts, both answers of a prompt drawn together; null below ten prompts, and where all of them
   * say the same of the two.
   */
  readonly interval: Interval | null;
  /** Prompts that only the first answers rightly. */
  readonly onlyFirst: number;
  readonly onlySecond: number;
  /** McNemar's test. */
  readonly p: number;
}

function checkAnswers(door: string, lists: Readonly<Record<string, readonly number[]>>): void {
  for (const [name, list] of Object.entries(lists)) checkNumbers(door, name, list, REAL);
  checkLengths(door, lists, 'answers');
}

/** Compares two lists of answers to the same prompts. */
export function comparePaired(
  first: readonly number[],
  second: readonly number[],
  gold: readonly number[],
  seed: number,
): Comparison {
  checkAnswers('comparePaired', { first, second, gold });
  checkNumbers('comparePaired', 'gold', gold, NATURAL, 1);
  checkNumber('comparePaired', 'seed', seed, NATURAL);
  const gains = pairedGains(first, second, gold);
  const onlyFirst = gains.filter((gain) => gain > 0).length;
  const onlySecond = gains.filter((gain) => gain < 0).length;
  return {
    difference: (onlyFirst - onlySecond) / gold.length,
    interval: bootstrapInterval([gains], seed),
    onlyFirst,
    onlySecond,
    p: mcnemar(onlyFirst, onlySecond),
  };
}

/** 1 for a prompt that only the first answers rightly, -1 for one that only the second does, else 0. */
export function pairedGains(
  first: readonly number[],
  second: readonly number[],
  gold: readonly number[],
): number[] {
  checkAnswers('pairedGains', { first, second, gold });
  return gold.map((right, i) => Number(first[i] === right) - Number(second[i] === right));
}

/**
 * McNemar's exact test (McNemar 1947; exact: the sign test on the prompts that tell the two apart): the two-sided chance of a
 * split at least as uneven, if each of these prompts were as likely to fall to either.
 * @example
 * ```ts
 * import { mcnemar } from 'neurgrad/probing';
 *
 * // 1 of 6 or fewer, twice: 2 (1 + 6) / 2^6.
 * console.log(mcnemar(5, 1).toFixed(5)); // → 0.21875
 * ```
 */
export function mcnemar(onlyFirst: number, onlySecond: number): number {
  checkNumber('mcnemar', 'onlyFirst', onlyFirst, NATURAL);
  checkNumber('mcnemar', 'onlySecond', onlySecond, NATURAL);
  const all = onlyFirst + onlySecond;
  const fewer = Math.min(onlyFirst, onlySecond);
  // Chances of 0, 1, … of `all`, each from the one before; in logarithms, since 2^-all underflows.
  let logChance = -all * Math.LN2;
  let tail = 0;
  for (let k = 0; k <= fewer; k++) {
    tail += Math.exp(logChance);
    logChance += Math.log((all - k) / (k + 1));
  }
  return Math.min(1, 2 * tail);
}
