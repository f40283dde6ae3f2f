/**
 * The order of the examples: each pass shuffled by (seed, pass), in batches of similar length so that little is padded.
 */

import { seededRandom } from '../../neurgrad/index.ts';
import { shuffle } from '../../probing/index.ts';

/** A generator of its own for every (seed, pass): nothing has to be replayed to reach a pass. */
export function passRandom(seed: number, pass: number): () => number {
  return seededRandom(Math.imul(seed + 1, 0x9e3779b1) ^ Math.imul(pass + 1, 0x85ebca6b));
}

/**
 * Batches of a pass. Items are sorted by length within pools of 16 batches, so batches are even in length and still random.
 */
export function batchesOf<Item>(
  items: readonly Item[],
  size: number,
  length: (item: Item) => number,
  random: () => number,
): Item[][] {
  const shuffled = shuffle([...items], random);
  const batches: Item[][] = [];
  const pool = 16 * size;
  for (let at = 0; at < shuffled.length; at += pool) {
    const part = shuffled.slice(at, at + pool).sort((a, b) => length(a) - length(b));
    for (let i = 0; i < part.length; i += size) batches.push(part.slice(i, i + size));
  }
  return shuffle(batches, random);
}
