/**
 * The fuzzing child: damages, reads and reports, one input after the other. What hangs or kills it is seen by the parent, which
 * was told before each input which one it is.
 *
 * child.js PARSER SEED FIRST COUNT FOLDER STUDY PROBE
 */

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { reportError } from '../../cli/exit.ts';
import { UserError } from '../../engine/errors.ts';
import { damageBytes, damageJson, seeded } from './mutate.ts';
import { closeDevice, type Files, optimiserParser, type Parser, parsers } from './parsers.ts';

/** Longest line of an error, its "error: " included. */
const LONGEST_LINE = 500;

/** From the child to its parent. */
export type News =
  | { readonly at: number }
  | { readonly done: number; readonly outcome: 'taken' | 'refused' }
  | { readonly done: number; readonly fault: string };

const [name, seed, first, count, work, study, probe] = process.argv.slice(2) as [
  ...[string, string, string, string, string, string, string],
];
const tell = (news: News): void => void process.send!(news);

function write(folder: string, files: Files): void {
  for (const [file, data] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, file)), { recursive: true });
    writeFileSync(join(folder, file), data);
  }
}

/** A damaged file of the parser's folder, the same for the same seed and number. */
function damagedFile(
  { files, damaged = Object.keys(files) }: Parser,
  number: number,
): [string, Uint8Array | string] {
  const next = seeded((Number(seed) * 1_000_003 + number) % 2 ** 32);
  const file = damaged[Math.floor(next() * damaged.length)]!;
  const data = files[file]!;
  const isJson = file.endsWith('.json');
  if (isJson && next() < 0.7) return [file, damageJson(Buffer.from(data as Uint8Array).toString(), next)];
  if (file.endsWith('.jsonl') && next() < 0.7) {
    const lines = Buffer.from(data as Uint8Array)
      .toString()
      .split('\n');
    const at = Math.floor(next() * lines.length);
    lines[at] = damageJson(lines[at]!, next);
    return [file, lines.join('\n')];
  }
  return [file, damageBytes(Buffer.from(data as Uint8Array), next)];
}

/** What is wrong with how an input was refused, or null. */
function faultOf(error: unknown): string | null {
  const lines: string[] = [];
  const code = reportError(error, (text) => lines.push(text));
  const told = lines.join('\n');
  if (!(error instanceof UserError))
    return `not a UserError: ${error instanceof Error ? error.stack : String(error)}`;
  if (code !== 2) return `exit code ${code}`;
  if (told.includes('\n')) return `more than a line: ${told}`;
  if (told.length > LONGEST_LINE) return `a line of ${told.length} characters: ${told.slice(0, 200)}`;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not be there
  if (/[\u0000-\u001f\u007f-\u009f]/.test(told)) return `control characters: ${JSON.stringify(told)}`;
  if (/undefined|\[object |NaN is not/.test(told)) return `a line that says nothing: ${told}`;
  return null;
}

process.env.NO_COLOR = '1';
// What nobody waits for is a fault as well; the parent sees the process end.
process.on('unhandledRejection', (error) => {
  throw error;
});

const folder = mkdtempSync(join(work, 'child-'));
const parser =
  name === 'optimiser'
    ? await optimiserParser(folder)
    : parsers({ study, probe }).find((one) => one.name === name)!;
write(folder, parser.files);
// A reader that refuses what is whole would refuse all.
await parser.read(folder);
for (let number = Number(first); number < Number(first) + Number(count); number++) {
  const [file, data] = damagedFile(parser, number);
  write(folder, { [file]: data });
  tell({ at: number });
  try {
    await parser.read(folder);
    tell({ done: number, outcome: 'taken' });
  } catch (error) {
    const fault = faultOf(error);
    tell(fault ? { done: number, fault: `${file}: ${fault}` } : { done: number, outcome: 'refused' });
  }
  if (({} as { polluted?: unknown }).polluted !== undefined)
    tell({ done: number, fault: `${file}: changed all objects` });
  rmSync(join(folder, file), { force: true });
  write(folder, { [file]: parser.files[file]! });
}
await closeDevice();
rmSync(folder, { recursive: true, force: true });
process.exit(0);
