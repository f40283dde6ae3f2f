/**
 * What is read back from a device must be numbers: NaN and infinity have no argmax, no probability and no rank, and would
 * come out as token 0 or an empty figure.
 */

import { UserError } from '../engine/errors.ts';

/**
 * @param what the values, in the plural; `each` is the word for one place among them.
 * @throws UserError `not-finite` naming the first that is none.
 */
export function checkFinite(values: ArrayLike<number>, what: string, each: string): void {
  for (let i = 0; i < values.length; i++) {
    if (Number.isFinite(values[i])) continue;
    throw new UserError(
      'not-finite',
      `${what} are not finite (${values[i]} at ${each} ${i}): weights or shifts are damaged or too large for float32; check the checkpoint, or shift less`,
    );
  }
}

/** One row of logits. @throws UserError as {@link checkFinite}. */
export const checkLogits = (logits: ArrayLike<number>): void => checkFinite(logits, 'the logits', 'token');
