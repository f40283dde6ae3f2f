/**
 * How the command ends: 0 done, 2 the user's mistake, 1 ours, or a check that failed (`verify`, `doctor`); what went wrong is one line, of ours a stack where
 * `NEURGRAD_STACK=1` asks for it.
 */

import { CommanderError } from 'commander';
import pc from 'picocolors';
import { DeviceLostError, DriverTimeoutError, UserError } from '../engine/errors.ts';
import { visibleText } from '../models/visibleText.ts';

export const EXIT = { done: 0, ours: 1, failed: 1, user: 2 } as const;

/** Names from untrusted files stand in messages: nothing of them may steer a terminal. */
export const oneLine = (message: string): string => visibleText(message.replace(/\s*\n\s*/g, ' '));

/** Characters of a line on standard error: names in it come from files, of any length. */
const LONGEST = 500;

/** A message as the line that tells it; no longer than a few of a terminal's. */
export function errorLine(message: string): string {
  const line = `error: ${oneLine(message)}`;
  const shown = line.length > LONGEST ? `${line.slice(0, LONGEST - 1)}…` : line;
  return shown.replace('error:', pc.red('error:'));
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
    print(errorLine(error.message));
    return EXIT.user;
  }
  // The driver's fault, which no stack of ours explains.
  if (error instanceof DeviceLostError || error instanceof DriverTimeoutError) {
    print(errorLine(error.message));
    return EXIT.ours;
  }
  const { name, message, stack } = error instanceof Error ? error : new Error(String(error));
  // Before the words of what failed, which may be long.
  const asked = process.env.NEURGRAD_STACK === '1';
  const advice = asked ? 'please report it with the lines below' : 'NEURGRAD_STACK=1 shows what to report';
  print(errorLine(`this is a fault of neurgrad, not yours; ${advice} (${name}: ${message})`));
  if (asked) print(visibleText(stack ?? '', '\n'));
  return EXIT.ours;
}

/** Runs a program of ours to its end; how it fails is told as the command tells it. */
export async function runProgram(main: () => Promise<void>): Promise<never> {
  const exitCode = await main().then(
    () => EXIT.done,
    (error) => reportError(error, (text) => process.stderr.write(`${text}\n`)),
  );
  // A device left open by what failed would keep the process alive.
  process.exit(exitCode);
}
