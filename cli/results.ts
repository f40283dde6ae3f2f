/**
 * Where a command's rows go: to standard output, into a file that appears when it is whole, or into a folder, a part for some prompts
 * at a time, so that work that was interrupted goes on.
 */

import { existsSync, statSync } from 'node:fs';
import { extname, join } from 'node:path';
import { checkFolder, makeFolder, sweepLitter, WholeFile, writeWhole } from '../engine/disk.ts';
import { UserError } from '../engine/errors.ts';
import { Lock } from '../engine/lock.ts';
import { DamagedFile, digestOf, seal } from '../models/seal.ts';
import { partMetadata, readPart } from '../neurgrad/study/part.ts';
import { readTable } from '../neurgrad/study/tableFile.ts';
import { checkOutFile, note, terminalText } from './output.ts';
import {
  formatOf,
  parquetRows,
  ROW_ENDINGS,
  type RowBlock,
  type RowFormat,
  type RowSchema,
  type RowWriter,
  rowWriter,
} from './rows.ts';

/** Options that say where results go, and as what. */
export interface ResultOptions {
  readonly out?: string;
  readonly format?: RowFormat;
  readonly json?: boolean;
}

/** What was asked for, looked at before any work. */
export interface Destination {
  readonly kind: 'terminal' | 'output' | 'file' | 'folder';
  readonly path: string | undefined;
  /** Of the rows; of another file its ending. */
  readonly format: RowFormat | undefined;
  readonly ending: string;
}

/**
 * @param others endings of files that are not of rows.
 * @param many whether several prompts were asked for, whose results may go into a folder.
 * @throws UserError where format and name do not agree, or it cannot be written.
 */
export function destinationOf<Other extends string = never>(
  { out, format, json }: ResultOptions,
  { others = [], many }: { readonly others?: readonly Other[]; readonly many: boolean },
): Destination {
  if (out === undefined) {
    if (format === undefined || format === 'table')
      return { kind: 'terminal', path: undefined, format: 'table', ending: '' };
    if (json)
      throw new UserError('format', `--json prints a document, --format ${format} rows; give one of them`);
    if (format === 'parquet' && process.stdout.isTTY)
      throw new UserError('format', '--format parquet is not for a terminal; add --out FILE.parquet');
    return { kind: 'output', path: undefined, format, ending: '' };
  }
  if (format === 'table')
    throw new UserError(
      'format',
      `--out ${out}: a table is for the terminal; name a file ${ROW_ENDINGS.join(', ')}`,
    );
  if (many && isFolderName(out)) {
    if (format !== undefined && format !== 'parquet')
      throw new UserError(
        'format',
        `--out ${out}: a folder holds parts in Parquet, not ${format}; name a file such as rows.${format}`,
      );
    checkFolder(out);
    return { kind: 'folder', path: out, format: 'parquet', ending: '' };
  }
  const ending = checkOutFile(out, [...ROW_ENDINGS, ...others]);
  const other = others.some((each) => each === ending);
  const rows = formatOf(format, out, ending);
  if (other && format !== undefined)
    throw new UserError('out', `--out ${out} is named as ${ending.slice(1)}, --format asks for ${format}`);
  if (ending === '' && format === undefined && others.length === 0)
    throw new UserError('out', `--out ${out}: name it ${ROW_ENDINGS.join(', ')}, or add --format`);
  return { kind: 'file', path: out, format: rows, ending };
}

/** A folder that is there, or a name without an ending. */
function isFolderName(path: string): boolean {
  if (/[/\\]$/.test(path)) return true;
  const about = statSync(path, { throwIfNoEntry: false });
  return about ? about.isDirectory() : extname(path) === '';
}

/** Takes rows, of some prompts at a time. */
export interface RowSink extends Disposable {
  /** Whether the rows of these prompts are there from before. */
  has(unit: number): Promise<boolean>;
  put(unit: number, blocks: readonly RowBlock[]): void;
  /** The rows of prompts that {@link has} them from before. */
  read(unit: number): Readonly<Record<string, unknown>>[];
  /** All is there. @returns where, for people; undefined on standard output. */
  end(): string | undefined;
}

/** @param question all that the rows depend on: parts of another one are not taken for this one's. */
export function openRows(
  { kind, path, format }: Destination,
  schema: RowSchema,
  question: () => unknown,
): RowSink | null {
  if (kind === 'terminal' || format === undefined || format === 'table') return null;
  if (kind === 'folder')
    return folderOfRows(path!, schema, digestOf({ format: schema.format, ...Object(question()) }));
  if (kind === 'output') return streamOfRows(rowWriter(format, schema, toOutput));
  const file = new WholeFile(path!);
  const writer = rowWriter(format, schema, (part) => file.write(part));
  return {
    ...streamOfRows(writer),
    end() {
      writer.end();
      file.keep();
      return path;
    },
    [Symbol.dispose]: () => file[Symbol.dispose](),
  };
}

/** As it is, but for what would steer a terminal. */
const toOutput = (part: string | Uint8Array): void =>
  void process.stdout.write(typeof part === 'string' && process.stdout.isTTY ? terminalText(part) : part);

const streamOfRows = (writer: RowWriter): RowSink => ({
  has: async () => false,
  put: (_, blocks) => writer.write(blocks),
  read: () => [],
  end() {
    writer.end();
    return undefined;
  },
  [Symbol.dispose]() {},
});

function folderOfRows(path: string, schema: RowSchema, about: string): RowSink {
  makeFolder(path);
  const lock = Lock.take(join(path, 'rows.lock'), path);
  sweepLitter(path, { alone: true });
  const name = (unit: number): string => `part-${String(unit).padStart(5, '0')}`;
  const file = (unit: number): string => join(path, `${name(unit)}.parquet`);
  return {
    async has(unit) {
      if (!existsSync(file(unit))) return false;
      try {
        await readPart(file(unit), about, name(unit));
        return true;
      } catch (error) {
        if (!(error instanceof DamagedFile)) throw error;
        if (/another plan or model/.test(error.message))
          throw new UserError(
            'out',
            `${path}: was begun with another model, other prompts or options; use another folder`,
          );
        note(`${error.message}; doing it again`);
        return false;
      }
    },
    put(unit, blocks) {
      const parts: Uint8Array[] = [];
      const writer = parquetRows(schema, (part) => void parts.push(part), partMetadata(about, name(unit)));
      writer.write(blocks);
      writer.end();
      writeWhole(file(unit), seal(Buffer.concat(parts), 'last'));
    },
    read: (unit) => readTable(file(unit)).map(({ row }) => row),
    end: () => join(path, '*.parquet'),
    [Symbol.dispose]: () => lock[Symbol.dispose](),
  };
}
