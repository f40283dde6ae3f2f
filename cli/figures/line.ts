/** Lines beside a curve, which end where a probability does. No chart: pages draw them before theirs are loaded. */

/** A place on a curve. */
export interface Point {
  readonly shift: number;
  readonly value: number;
}

/** A line over the shifts, cut where a probability ends. */
export function lineOf(
  at: number,
  slope: number,
  shifts: readonly number[],
  probability: boolean,
): [Point, Point] {
  const point = (shift: number): Point => ({ shift, value: at + slope * shift });
  const ends: [Point, Point] = [point(Math.min(...shifts)), point(Math.max(...shifts))];
  if (!probability) return ends;
  const cut = ({ shift, value }: Point): Point => {
    const inside = Math.max(0, Math.min(1, value));
    return inside === value ? { shift, value } : { shift: (inside - at) / slope, value: inside };
  };
  return [cut(ends[0]), cut(ends[1])];
}
