/** Tables in safetensors files (Node): what probers and parts of a run are kept in. */

import * as v from 'valibot';
import { show } from '../engine/options.ts';
import { memorySource, openFile } from '../models/byteSource.ts';
import { readSafetensorsHeader, type TensorToWrite, writeSafetensors } from '../models/safetensors.ts';
import { UserError } from '../neurgrad/index.ts';

export type Table = Float32Array | Float64Array | Int32Array;

export interface TensorFile {
  readonly tables: ReadonlyMap<string, Table>;
  readonly metadata: Readonly<Record<string, string>>;
  /** sha256 that the file is sealed with. */
  readonly digest: string;
}

const ARRAYS = { F32: Float32Array, F64: Float64Array, I32: Int32Array } as const;

/** @throws UserError where the file is missing, not as it was written (`damaged`), or holds other kinds of numbers. */
export async function readTensorFile(path: string): Promise<TensorFile> {
  const bytes = await readWhole(path);
  const { checkSeal } = await import('../models/seal.ts');
  const digest = checkSeal(path, Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
  const { tensors, metadata } = await readSafetensorsHeader(memorySource(path, bytes));
  const tables = new Map<string, Table>();
  for (const { name, dtype, begin, end } of tensors) {
    const kind = ARRAYS[dtype as keyof typeof ARRAYS];
    if (!kind) throw new UserError('file', `${path}: ${show(name)} is ${dtype}`);
    tables.set(name, new kind(bytes.slice(begin, end).buffer));
  }
  return { tables, metadata, digest };
}

async function readWhole(path: string): Promise<Uint8Array> {
  const source = await openFile(path);
  try {
    return await source.read(0, source.size);
  } finally {
    await source.close();
  }
}

/** Writes tables flat, sealed with their digest; the file appears only when it is whole. @returns the digest. */
export async function writeTensorFile(
  path: string,
  tables: Readonly<Record<string, Table>>,
  metadata: Readonly<Record<string, string>>,
): Promise<string> {
  const tensors = Object.entries(tables).map(([name, data]): TensorToWrite => {
    const dtype = data instanceof Float32Array ? 'F32' : data instanceof Float64Array ? 'F64' : 'I32';
    return { name, dtype, shape: [data.length], data };
  });
  return (await writeSafetensors(path, tensors, metadata, true))!;
}

/** A table that the file must have. @throws UserError */
export function tableOf<Kind extends Table>(
  file: TensorFile,
  path: string,
  name: string,
  kind: new (length: number) => Kind,
  length: number,
): Kind {
  const table = file.tables.get(name);
  if (table instanceof kind && table.length === length) return table;
  throw new UserError('file', `${path}: no table ${name} of ${length} values; is it of another run?`);
}

/** A value of the file's metadata, as JSON, which must fit. @throws UserError */
export function metadataOf<Schema extends v.GenericSchema>(
  { metadata }: TensorFile,
  path: string,
  name: string,
  schema: Schema,
): v.InferOutput<Schema> {
  let value: unknown;
  try {
    value = JSON.parse(metadata[name] ?? 'null');
  } catch {
    // Told as what does not fit.
  }
  const parsed = v.safeParse(schema, value);
  if (parsed.success) return parsed.output;
  throw new UserError(
    'file',
    `${path}: its ${name} are no such numbers (${parsed.issues[0].message}); remove it`,
  );
}

/** @throws UserError where a number of a table is not between `low` and `high`. */
export function checkTable(
  path: string,
  name: string,
  table: Table,
  low: number,
  high = Number.MAX_VALUE,
): void {
  const wrong = table.find((value) => !(value >= low && value <= high));
  if (wrong !== undefined) throw new UserError('file', `${path}: ${name} holds ${wrong}; is it damaged?`);
}
