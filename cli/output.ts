/**
 * Where text goes: results to standard output, everything else to standard error. With --json standard output holds one
 * JSON document and nothing else.
 */

import { existsSync, type Stats, statSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { UserError } from '../engine/errors.ts';
import { fileError } from '../models/byteSource.ts';

export interface Output {
  readonly json: boolean;
  /** A result: `human` as text, or `data` as JSON. */
  result(data: unknown, human: () => string): void;
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

export function openOutput(json: boolean): Output {
  return {
    json,
    result: (data, human) => process.stdout.write(`${json ? toJson(data, 2) : human()}\n`),
    note: (text) => process.stderr.write(`${text}\n`),
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
