/**
 * Arguments that are no text. To the system they are bytes; Node reads them as UTF-8, with U+FFFD for what is none, so that a
 * file of such a name would not be found, and one written get another.
 */

import { isUtf8 } from 'node:buffer';
import { readFileSync } from 'node:fs';
import { attempt } from '../engine/disk.ts';
import { UserError } from '../engine/errors.ts';

/** @param argv arguments without `node` and the script. @throws UserError for one that is not UTF-8, where the system tells (Linux). */
export function checkUtf8(argv: readonly string[]): void {
  if (!argv.some((argument) => argument.includes('\ufffd'))) return;
  const given = attempt(() => argumentsOf(readFileSync('/proc/self/cmdline')))?.slice(-argv.length) ?? [];
  argv.forEach((argument, i) => {
    if (given[i]?.toString() === argument && !isUtf8(given[i]))
      throw new UserError('option', `${argument}: is not UTF-8 text; a file so called must be renamed`);
  });
}

/** Each ends with a zero byte. */
function argumentsOf(line: Buffer): Buffer[] {
  const found: Buffer[] = [];
  for (let begin = 0; begin < line.length; ) {
    const end = line.indexOf(0, begin);
    found.push(line.subarray(begin, end < 0 ? undefined : end));
    begin = end < 0 ? line.length : end + 1;
  }
  return found;
}
