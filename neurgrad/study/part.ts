/**
 * Part files: one Parquet table a finished unit. A file that was cut short, damaged or made for another plan is told from a
 * whole one by the digest of its bytes, which is looked at before anything else: a Parquet reader given damaged bytes may
 * do anything, even run for ever. It works in a process apart, since anybody can write a digest.
 */

import { readFileSync } from 'node:fs';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { fileError } from '../../engine/errors.ts';
import { checkValue, like, list, show, text } from '../../engine/options.ts';
import { addressOf, BoundedService } from '../../models/boundedProcess.ts';
import { checkSeal, DamagedFile, seal, UNSEALED } from '../../models/seal.ts';

/** One column of a part. */
export interface Column {
  readonly name: string;
  readonly type: 'INT32' | 'FLOAT' | 'DOUBLE';
  readonly data: ArrayLike<number>;
}

/** One column of plain objects, or nulls. */
export interface ObjectColumn {
  readonly name: string;
  readonly type: 'JSON';
  readonly data: readonly (object | null)[];
}

const columnList = list<Column | ObjectColumn>(
  like((value) => {
    const { name, type, data } = (value ?? {}) as Partial<Column>;
    return typeof name === 'string' && typeof type === 'string' && typeof data?.length === 'number';
  }, 'a column: { name, type, data }'),
  'a list of columns: [{ name, type, data }]',
);

/** Columns of numbers by name. */
export type Part = ReadonlyMap<string, Float64Array>;
/** A part, and its columns of objects, which a stranger may have written. */
export interface WholePart {
  readonly numbers: Part;
  readonly objects: ReadonlyMap<string, readonly unknown[]>;
}

const KEY = 'neurgrad';
/** A part as file bytes. `study` is the hash of plan and models. */
export function encodePart(
  study: string,
  unit: string,
  columns: readonly (Column | ObjectColumn)[],
): Uint8Array {
  checkValue('encodePart', 'study', text, study);
  checkValue('encodePart', 'unit', text, unit);
  checkValue('encodePart', 'columns', columnList, columns);
  const file = Buffer.from(
    parquetWriteBuffer({
      columnData: columns.map(({ name, type, data }) => ({ name, type, data: Array.from<unknown>(data) })),
      kvMetadata: [...partMetadata(study, unit)],
    }),
  );
  // A Parquet file's metadata come last.
  return seal(file, 'last');
}

/** What a part says of itself, and room for its seal. */
export function partMetadata(study: string, unit: string): readonly { key: string; value: string }[] {
  checkValue('partMetadata', 'study', text, study);
  checkValue('partMetadata', 'unit', text, unit);
  return [
    { key: KEY, value: JSON.stringify({ study, unit }) },
    { key: `${KEY}.digest`, value: UNSEALED },
  ];
}

/** The numbers of a part. @throws DamagedFile where the file is cut short, changed, or of another study or unit. */
export async function readPart(path: string, study: string, unit: string): Promise<Part> {
  checkValue('readPart', 'path', text, path);
  checkValue('readPart', 'study', text, study);
  checkValue('readPart', 'unit', text, unit);
  return (await readWholePart(path, study, unit)).numbers;
}

/** @throws DamagedFile as {@link readPart}. */
export async function readWholePart(path: string, study: string, unit: string): Promise<WholePart> {
  checkValue('readWholePart', 'path', text, path);
  checkValue('readWholePart', 'study', text, study);
  checkValue('readWholePart', 'unit', text, unit);
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (cause) {
    throw fileError(path, cause);
  }
  checkSeal(path, bytes, 'last');
  const damaged = (what: string, cause?: unknown): DamagedFile => new DamagedFile(path, what, cause);
  // Whole, so written here; but anybody can write a digest.
  const { about, ...columns } = await decode(bytes).catch((cause) => {
    throw damaged(`is not a part of a study (${(cause as Error).message})`, cause);
  });
  if (about.study !== study) throw damaged('belongs to another plan or model');
  if (about.unit !== unit) throw damaged(`holds unit ${show(about.unit)}, not ${unit}`);
  return columns;
}

/** What a part says of itself, and its columns. */
interface Decoded {
  readonly about: { readonly study?: unknown; readonly unit?: unknown };
  readonly names: readonly string[];
  readonly columns: readonly (Float64Array | readonly unknown[])[];
}

const PROGRAM = `
process.on('message', async ({ library, bytes }) => {
  try {
    const { parquetMetadata, parquetReadObjects } = await import(library);
    const file = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
    const metadata = parquetMetadata(file);
    const about = JSON.parse(metadata.key_value_metadata.find(({ key }) => key === '${KEY}').value) ?? {};
    const rows = await parquetReadObjects({ file, metadata });
    const fields = metadata.schema.slice(1);
    const names = fields.map(({ name }) => name);
    const columns = fields.map(({ name, converted_type }) =>
      converted_type === 'JSON'
        ? rows.map((row) => row[name] ?? null)
        : Float64Array.from(rows, (row) => Number(row[name])));
    process.send({ value: { about, names, columns } });
  } catch {
    process.send({ reason: 'it is none' });
  }
});
process.on('disconnect', () => process.exit());
`;
/** A thousand times what the largest part takes. */
const BOUNDS = { seconds: 30, mebibytes: 2048 };
const decoder = new BoundedService<{ library: string; bytes: Uint8Array }, Decoded>(PROGRAM, BOUNDS);

/** In a process apart: a stranger's file with a digest of its own may still keep its reader busy for ever. */
async function decode(bytes: Buffer): Promise<Pick<Decoded, 'about'> & WholePart> {
  const { about, names, columns } = await decoder.ask({ library: await addressOf('hyparquet'), bytes });
  const numbers = new Map<string, Float64Array>();
  const objects = new Map<string, readonly unknown[]>();
  for (const [i, column] of columns.entries()) {
    if (column instanceof Float64Array) numbers.set(names[i]!, column);
    else objects.set(names[i]!, column);
  }
  return { about, numbers, objects };
}
