/**
 * Seeded draws: the same seed gives the same neurons on every machine.
 *
 * Generator: mulberry32 (Tommy Ettinger, public domain), 32 bits of state, enough to choose neurons by.
 */

import { callback, checkValue, whole } from '../engine/options.ts';

/** A seed, as a field of options. */
export const seedField = whole(0, 2 ** 32 - 1);
const natural = whole();
const wholeSeed = whole(-Number.MAX_SAFE_INTEGER, undefined, 'a whole number');

/**
 * Numbers in [0, 1) from a 32-bit seed: the lowest 32 bits of the number given. @throws UserError for what is no whole number.
 * @example
 * ```ts
 * import { drawWithoutReplacement, seededRandom } from 'neurgrad';
 *
 * const random = seededRandom(1);
 * console.log(drawWithoutReplacement(3, 3, random).sort()); // → [ 0, 1, 2 ]
 * ```
 */
export function seededRandom(seed: number): () => number {
  checkValue('seededRandom', 'seed', wholeSeed, seed);
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/**
 * `count` different whole numbers below `below`, without replacement, in the order drawn (Floyd's sampling).
 * @throws UserError where there are fewer than `count`.
 */
export function drawWithoutReplacement(count: number, below: number, random: () => number): number[] {
  checkValue('drawWithoutReplacement', 'below', natural, below);
  checkValue('drawWithoutReplacement', 'count', whole(0, below), count);
  checkValue('drawWithoutReplacement', 'random', callback(), random);
  const drawn = new Set<number>();
  for (let top = below - count; top < below; top++) {
    const pick = Math.floor(random() * (top + 1));
    drawn.add(drawn.has(pick) ? top : pick);
  }
  return [...drawn];
}

/**
 * Numbers 0 to `count` - 1 in a random order (Fisher-Yates). @throws UserError for a count that is no whole number.
 * @example
 * ```ts
 * import { seededRandom, shuffled } from 'neurgrad';
 *
 * console.log([...shuffled(3, seededRandom(1))].sort()); // → [ 0, 1, 2 ]
 * ```
 */
export function shuffled(count: number, random: () => number): Uint32Array {
  checkValue('shuffled', 'count', natural, count);
  checkValue('shuffled', 'random', callback(), random);
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [order[i], order[j]] = [order[j]!, order[i]!];
  }
  return order;
}
