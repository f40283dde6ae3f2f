/**
 * The fuzzing child: damages, reads and reports, one input after the other. What hangs or kills it is seen by the parent, which
 * was told before each input which one it is.
 *
 * child.js SEED FOLDER STUDY PROBE, then a message for each parser that is to be fed.
 */

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { reportError } from '../../cli/exit.ts';
import { UserError } from '../../engine/errors.ts';
import { seal } from '../../models/seal.ts';
import { damageBytes, damageGguf, damageHeader, damageJson, seeded } from './mutate.ts';
import { closeDevices, type Files, MADE, makeParsers, type Parser, parsers } from './parsers.ts';

/** Longest line of an error, its "error: " included. */
const LONGEST_LINE = 500;

/** From the child to its parent. */
export type News =
  | { readonly at: number }
  | { readonly fed: string }
  | { readonly done: number; readonly outcome: 'taken' | 'refused' }
  | { readonly done: number; readonly fault: string };

/** From the parent: which inputs of a parser are to be read. */
export interface Feed {
  readonly name: string;
  readonly first: number;
  readonly count: number;
}

const [seed, work, study, probe] = process.argv.slice(2) as [string, string, string, string];
const tell = (news: News): void => void process.send!(news);

function write(folder: string, files: Files): void {
  for (const [file, data] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, file)), { recursive: true });
    writeFileSync(join(folder, file), data);
  }
}

interface Damage {
  readonly file: string;
  readonly data: Buffer;
  /** Sealed again, as a stranger would: what comes behind the seal is reached. */
  readonly resealed: boolean;
}

/** A damaged file of the parser's folder, the same for the same seed and number. */
function damagedFile(
  { files, damaged = Object.keys(files), sealed = () => false }: Parser,
  number: number,
): Damage {
  const next = seeded((Number(seed) * 1_000_003 + number) % 2 ** 32);
  const file = damaged[Math.floor(next() * damaged.length)]!;
  const whole = Buffer.from(files[file]! as Uint8Array);
  const data = Buffer.from(damage(file, whole, next));
  if (!sealed(file) || next() < 0.3) return { file, data, resealed: false };
  try {
    return { file, data: seal(data, file.endsWith('.parquet') ? 'last' : 'first'), resealed: true };
  } catch (error) {
    // The room for its digest is gone, too.
    if (!(error instanceof RangeError)) throw error;
    return { file, data, resealed: false };
  }
}

function damage(file: string, whole: Buffer, next: () => number): Uint8Array | string {
  if (file.endsWith('.json') && next() < 0.7) return damageJson(whole.toString(), next);
  if (file.endsWith('.safetensors') && next() < 0.5) return damageHeader(whole, next);
  if (file.endsWith('.gguf') && next() < 0.7) return damageGguf(whole, next);
  if (file.endsWith('.jsonl') && next() < 0.7) {
    const lines = whole.toString().split('\n');
    const at = Math.floor(next() * lines.length);
    if (lines[at] !== '') lines[at] = damageJson(lines[at]!, next);
    return lines.join('\n');
  }
  return damageBytes(whole, next);
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
  // Of "undefined values" a template may speak, whose word that is.
  if (/undefined(?! values)|\[object |NaN is not/.test(told)) return `a line that says nothing: ${told}`;
  return null;
}

process.env.NO_COLOR = '1';
// What nobody waits for is a fault as well; the parent sees the process end.
process.on('unhandledRejection', (error) => {
  throw error;
});

const readers = parsers({ study, probe });

async function feed({ name, first, count }: Feed): Promise<void> {
  const folder = mkdtempSync(join(work, 'child-'));
  if (MADE.includes(name) && !readers.some((reader) => reader.name === name))
    readers.push(...(await makeParsers(mkdtempSync(join(work, 'made-')))));
  const parser = readers.find((one) => one.name === name)!;
  write(folder, parser.files);
  // A reader that refuses what is whole would refuse all.
  await parser.read(folder, (parser.damaged ?? Object.keys(parser.files))[0]!);
  for (let number = first; number < first + count; number++) {
    const { file, data, resealed } = damagedFile(parser, number);
    const isSame = data.equals(Buffer.from(parser.files[file]! as Uint8Array));
    write(folder, { [file]: data });
    tell({ at: number });
    try {
      await parser.read(folder, file);
      tell(
        parser.sealed?.(file) && !resealed && !isSame
          ? { done: number, fault: `${file}: taken though its bytes are not those of its digest` }
          : { done: number, outcome: 'taken' },
      );
    } catch (error) {
      const fault = faultOf(error);
      tell(fault ? { done: number, fault: `${file}: ${fault}` } : { done: number, outcome: 'refused' });
    }
    if (({} as { polluted?: unknown }).polluted !== undefined)
      tell({ done: number, fault: `${file}: changed all objects` });
    rmSync(join(folder, file), { force: true });
    rmSync(join(folder, `${file}.damaged`), { force: true });
    write(folder, { [file]: parser.files[file]! });
  }
  rmSync(folder, { recursive: true, force: true });
  tell({ fed: name });
}

process.on('message', (one: Feed) => void feed(one));
process.on('disconnect', async () => {
  await closeDevices();
  process.exit(0);
});
