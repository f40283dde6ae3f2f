/**
 * How the command ends: 0 done, 2 the user's mistake (one line), 1 ours (with a stack).
 */

import { CommanderError } from 'commander';
import pc from 'picocolors';
import { UserError } from '../engine/errors.ts';

export const EXIT = { done: 0, ours: 1, user: 2 } as const;

/** Names from untrusted files stand in messages: nothing of them may steer a terminal. */
export function oneLine(message: string): string {
  const joined = message.replace(/\s*\n\s*/g, ' ');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is taken out
  return joined.replace(/[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, '\ufffd');
}

/**
 * The exit code of an error, after telling it on standard error.
 * @param print writes one block of text to standard error.
 */
export function reportError(error: unknown, print: (text: string) => void): number {
  if (error instanceof CommanderError) {
    // Commander has printed its own line; --help and --version come here with code 0.
    return error.exitCode === 0 ? EXIT.done : EXIT.user;
  }
  if (error instanceof UserError) {
    print(`${pc.red('error:')} ${oneLine(error.message)}`);
    return EXIT.user;
  }
  const stack = error instanceof Error ? (error.stack ?? error.message) : String(error);
  print(`${pc.red('error:')} this is a fault of neurgrad, not yours; please report it with the lines below`);
  print(stack);
  return EXIT.ours;
}
