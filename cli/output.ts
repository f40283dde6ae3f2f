/**
 * Where text goes: results to standard output, everything else to standard error. With --json standard output holds one
 * JSON document and nothing else.
 */

import { existsSync, type Stats, statSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import pc from 'picocolors';
import { UserError } from '../engine/errors.ts';
import { fileError } from '../models/byteSource.ts';
import { visibleJson, visibleText } from '../models/visibleText.ts';
import { withoutSecrets } from './secrets.ts';

export interface Output {
  readonly json: boolean;
  /** A result: `human` as text, or `data` as JSON. */
  result(data: unknown, human: () => string): void;
  /** A part of a result that comes bit by bit, without a line break after it. Not with --json. */
  stream(text: string): void;
  /** A remark, on standard error. */
  note(text: string): void;
}

/** Typed arrays as plain arrays; JSON would write them as objects. NaN and infinities are null, as JSON has none. */
export function toJson(data: unknown, indent?: number): string {
  return JSON.stringify(
    data,
    (_, value) => (ArrayBuffer.isView(value) ? Array.from(value as Float32Array) : value),
    indent,
  );
}

/** Colours of this program's own words, where picocolors writes any; tokens have none left when they come here. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: what picocolors writes
const COLOUR = pc.isColorSupported ? /(\x1b\[(?:31|32|33|39)m)/ : /(?!)/;

/** What may be written to a terminal: of what steers one nothing but line breaks, tabs and our own colours. */
export const terminalText = (text: string): string =>
  text
    .split(COLOUR)
    .map((part, i) => (i % 2 === 1 ? part : visibleText(part, '\n\t')))
    .join('');

/** Writes text to standard output. */
export const print = (text: string): void => void process.stdout.write(terminalText(text));

/** Writes a line to standard error. */
export const note = (text: string): void =>
  void process.stderr.write(`${terminalText(withoutSecrets(text))}\n`);

/** Writes a JSON document to standard output: what steers a terminal is escaped in it. */
export const printJson = (data: unknown): void =>
  void process.stdout.write(`${visibleJson(toJson(data, 2))}\n`);

export function openOutput(json: boolean): Output {
  return {
    json,
    result: (data, human) => (json ? printJson(data) : print(`${human()}\n`)),
    stream: (text) => (json ? undefined : print(text)),
    note,
  };
}

/**
 * Refuses an output path before the work whose result it is to hold.
 * @throws UserError where it is empty, its folder does not exist, or it cannot be a file.
 */
export function checkOutFile(path: string): void {
  if (path === '') throw new UserError('out', '--out: the name is empty');
  if (!existsSync(dirname(path)))
    throw new UserError('out', `--out ${path}: there is no folder ${dirname(path)}`);
  let about: Stats | undefined;
  try {
    about = statSync(path, { throwIfNoEntry: false });
  } catch (cause) {
    throw fileError(`--out ${path}`, cause);
  }
  if (about?.isDirectory()) throw new UserError('out', `--out ${path}: is a folder, not a file`);
}

/** Writes a result file. @throws UserError naming the path where the disk refuses. */
export function writeOutFile(path: string, content: string): void {
  try {
    writeFileSync(path, content);
  } catch (cause) {
    throw fileError(path, cause);
  }
}
