/**
 * Grids of shifts (docs/conventions.md#the-sweep): exact decimals, ascending, always with 0.
 *
 * Steps are counted in integers of the last decimal, so that 3 steps of 0.2 give 0.6 and not 0.6000000000000001.
 */

import { UserError } from '../engine/errors.ts';
import { checkValue, type Field, like, show, text as textField } from '../engine/options.ts';

/** A shift, as a field of options; finite, and no larger than {@link LARGEST_SHIFT}. */
export const shiftField: Field<number> = like((value) => typeof value === 'number', 'a number');

/**
 * The largest shift either way. Norms square what they read: past 1e19 the square is infinite in float32, the norm then
 * makes every value 0 and each engine gives another wrong p. Weights between the neuron and the norm get the room between.
 */
export const LARGEST_SHIFT = 1e15;

/** @throws UserError for a shift that is not finite or larger than {@link LARGEST_SHIFT}. */
export function checkShift(shift: number): void {
  if (!Number.isFinite(shift)) throw new UserError('range', `shift ${show(shift)} is not a finite number`);
  if (Math.abs(shift) > LARGEST_SHIFT) {
    throw new UserError(
      'range',
      `shift ${shift}: beyond ±${LARGEST_SHIFT}, where squares in the model's norms overflow float32; shift less`,
    );
  }
}

/** Points that one grid may have. */
const MAX_POINTS = 100_000;

function decimals(value: number): number {
  const [digits = '', exponent = '0'] = String(value).split('e');
  return Math.max(0, (digits.split('.')[1]?.length ?? 0) - Number(exponent));
}

/**
 * from, from + step, … up to `to`, and 0.
 * @throws UserError for values that are not finite or beyond {@link LARGEST_SHIFT}, a step that is not above 0, an empty range or too many points.
 * @example
 * ```ts
 * import { shiftGrid } from 'neurgrad';
 *
 * console.log(shiftGrid(-0.6, 0.6, 0.2).join(' ')); // → -0.6 -0.4 -0.2 0 0.2 0.4 0.6
 * ```
 */
export function shiftGrid(from: number, to: number, step: number): number[] {
  if (![from, to, step].every(Number.isFinite)) {
    const given = [from, to, step].map(show).join(':');
    throw new UserError('range', `range ${given}: the three values must be finite numbers`);
  }
  if (step <= 0) throw new UserError('range', `range ${from}:${to}:${step}: the step must be above 0`);
  if (from > to) throw new UserError('range', `range ${from}:${to}:${step}: it starts above its end`);
  checkShift(from);
  checkShift(to);
  const steps = (to - from) / step;
  if (steps > MAX_POINTS) {
    throw new UserError('range', `range ${from}:${to}:${step}: more than ${MAX_POINTS} points`);
  }
  const places = Math.min(100, Math.max(decimals(from), decimals(step)));
  const values = new Set([0]);
  for (let k = 0; k <= steps + 1e-9; k++) {
    // `+ 0` turns -0 into 0.
    values.add(Number((from + k * step).toFixed(places)) + 0);
  }
  return [...values].sort((a, b) => a - b);
}

/**
 * Reads `-2:2:0.2` (from:to:step).
 * @throws UserError for text that is not three numbers, and as {@link shiftGrid}.
 */
export function parseRange(text: string): number[] {
  checkValue('parseRange', 'text', textField, text);
  const parts = text.split(':');
  if (parts.length !== 3 || parts.some((part) => part.trim() === '' || Number.isNaN(Number(part)))) {
    throw new UserError('range', `range "${text}" is not from:to:step, such as -2:2:0.2`);
  }
  const [from, to, step] = parts.map(Number) as [number, number, number];
  return shiftGrid(from, to, step);
}

/** The paper's grid: -10, -9.8 … 10. */
export function paperGrid(): number[] {
  return shiftGrid(-10, 10, 0.2);
}
