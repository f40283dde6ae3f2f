/** Lines beside a curve of probabilities: what of them is a probability, and how far the slope of a curve is the same on both sides. */

import { lineOf } from '../../../cli/figures/line.ts';
import { slopeThroughOrigin } from '../../../neurgrad/statistics.ts';

/** Within it slope and r are fitted. */
export const FIT_RANGE = 2;

export interface Point {
  readonly shift: number;
  readonly p: number;
}

/** The part of the line p + slope * shift within ±reach that lies in [0, 1], as its two ends; `p` is a probability. */
export function lineWithin(p: number, slope: number, reach: number): readonly [Point, Point] {
  const [from, to] = lineOf(p, slope, [-reach, reach], true);
  return [
    { shift: from.shift, p: from.value },
    { shift: to.shift, p: to.value },
  ];
}

/**
 * Slopes through the origin of the two halves of a curve within ±range, the smaller one first: a curve has no random error, and what
 * its slope leaves open is how much it bends.
 * @param changes p(s) - p(0). @returns null where a half has no point.
 */
export function slopesOfHalves(
  shifts: readonly number[],
  changes: readonly number[],
  range: number,
): readonly [number, number] | null {
  const half = (side: 1 | -1) => {
    const of = shifts.flatMap((shift, i) => (side * shift > 0 && side * shift <= range + 1e-9 ? [i] : []));
    return of.length === 0
      ? null
      : slopeThroughOrigin(
          of.map((i) => shifts[i]!),
          of.map((i) => changes[i]!),
        );
  };
  const [below, above] = [half(-1), half(1)];
  if (below === null || above === null) return null;
  return [Math.min(below, above), Math.max(below, above)];
}

/** What of a slope through the origin may be rounding, where each change within ±range may be off by `noise`. */
export function slopeNoise(shifts: readonly number[], noise: number, range: number): number {
  const used = shifts.filter((shift) => shift !== 0 && Math.abs(shift) <= range + 1e-9);
  const squares = used.reduce((sum, shift) => sum + shift * shift, 0);
  return squares === 0 ? 0 : (noise * used.reduce((sum, shift) => sum + Math.abs(shift), 0)) / squares;
}
