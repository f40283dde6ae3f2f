/**
 * How much a text may grow on its way through a tokenizer. Replacements of replacements in a hostile file would make a sentence
 * gigabytes, and keep what follows busy for ever.
 */

import { UserError } from '../../engine/errors.ts';

/** U+FDFA, the character of the longest compatibility form, has 18. */
const MOST = 32;
const OF_SHORT = 1000;

/** @throws UserError where `before` characters have grown out of hand. */
export function checkGrowth(before: number, now: number): void {
  if (now > MOST * before + OF_SHORT)
    throw new UserError('tokenizer', `its tokenizer.json makes ${now} characters of ${before}`);
}
