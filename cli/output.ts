/**
 * Where text goes: results to standard output, everything else to standard error. With --json standard output holds one
 * JSON document and nothing else.
 */

import { existsSync, type Stats, statSync } from 'node:fs';
import { dirname, extname } from 'node:path';
import pc from 'picocolors';
import { checkFile } from '../engine/disk.ts';
import { fileError, UserError } from '../engine/errors.ts';
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
 * @param endings of names that say what is written; a name without an ending will do too. Default all.
 * @returns the ending, in small letters; '' where there is none.
 * @throws UserError where it is empty, ends as another format does, its folder does not exist, or it cannot be written.
 */
export function checkOutFile<Ending extends string>(path: string, endings?: readonly Ending[]): Ending | '' {
  if (path === '') throw new UserError('out', '--out: the name is empty');
  // A number behind a dot is no ending: france-0.5
  const ending = /^\.\d*$/.test(extname(path)) ? '' : extname(path).toLowerCase();
  const found = endings?.find((each) => each === ending);
  if (endings && ending !== '' && found === undefined)
    throw new UserError(
      'out',
      `--out ${path}: ${ending} is not what is written; name it ${endings.join(' or ')}`,
    );
  if (!existsSync(dirname(path)))
    throw new UserError('out', `--out ${path}: there is no folder ${dirname(path)}`);
  let about: Stats | undefined;
  try {
    about = statSync(path, { throwIfNoEntry: false });
  } catch (cause) {
    throw fileError(`--out ${path}`, cause);
  }
  if (about?.isDirectory()) throw new UserError('out', `--out ${path}: is a folder, not a file`);
  checkFile(path);
  return found ?? '';
}
