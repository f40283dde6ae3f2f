/** What a known curve looks like: how far it is straight, where it turns. */

import { checkLengths, checkNumbers, FINITE } from '../lists.ts';
import { LINEAR_POINTS, LINEAR_R } from '../statistics.ts';
import { checkResponse, polynomial, type Response } from './response.ts';

/**
 * The range ±R up to which a curve is linear: the largest R such that |r| over the shifts within it, 0 left out, is at least .95, and over
 * those within every smaller range of three shifts or more.
 * @param shifts in any order. @param changes v(s) - v(0).
 * @returns 0 where there is none.
 * @throws UserError for what are no numbers, and where the lengths differ.
 * @example
 * ```ts
 * import { linearRange } from 'neurgrad';
 *
 * console.log(linearRange([-3, -2, -1, 0, 1, 2, 3], [-9, -2, -1, 0, 1, 2, -9])); // → 2
 * ```
 */
export function linearRange(shifts: ArrayLike<number>, changes: ArrayLike<number>): number {
  checkNumbers('linearRange', 'shifts', shifts, FINITE);
  checkNumbers('linearRange', 'changes', changes);
  checkLengths('linearRange', { shifts, changes });
  const order = Array.from(shifts, (s, i) => [Math.abs(s), s, changes[i]!] as const)
    .filter(([size]) => size > 0)
    .sort((a, b) => a[0] - b[0]);
  // Sums of a curve as large as 1, so that none overflows.
  const extent = order.reduce((most, [, , d]) => Math.max(most, Math.abs(d)), 0);
  if (!(extent > 0)) return 0;
  let [n, s1, d1, ss, sd, dd, reached] = [0, 0, 0, 0, 0, 0, 0];
  for (const [i, [size, s, change]] of order.entries()) {
    const d = change / extent;
    [n, s1, d1, ss, sd, dd] = [n + 1, s1 + s, d1 + d, ss + s * s, sd + s * d, dd + d * d];
    const whole = order[i + 1] === undefined || order[i + 1]![0] > size;
    if (!whole || n < LINEAR_POINTS) continue;
    const r = (n * sd - s1 * d1) / Math.sqrt((n * ss - s1 * s1) * (n * dd - d1 * d1));
    if (!(Math.abs(r) >= LINEAR_R)) break;
    reached = size;
  }
  return reached;
}

/** Places along a curve at which its direction is looked at. */
const LOOKS = 400;

/** Shifts at which a curve turns from rising to falling or back: those of p are those of log p. Ascending. @throws UserError for what is no response. */
export function turningPoints(response: Response): number[] {
  checkResponse('turningPoints', response);
  const { from, to } = response;
  const step = (to - from) / LOOKS;
  const rising = (s: number): number => {
    const near = step / 64;
    return polynomial(response, Math.min(s + near, to)) - polynomial(response, Math.max(s - near, from));
  };
  const turns: number[] = [];
  for (let k = 0; k < LOOKS; k++) {
    let [low, high] = [from + k * step, from + (k + 1) * step];
    const sign = Math.sign(rising(low));
    if (sign === 0 || sign * rising(high) >= 0) continue;
    for (let halving = 0; halving < 40; halving++) {
      const middle = (low + high) / 2;
      if (sign * rising(middle) > 0) low = middle;
      else high = middle;
    }
    turns.push((low + high) / 2);
  }
  return turns;
}
