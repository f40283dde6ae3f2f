/**
 * Part files: one Parquet table a finished unit. A file that was cut short, damaged or made for another plan is told from a
 * whole one by the digest of its bytes, which is looked at before anything else: a Parquet reader given damaged bytes may
 * do anything, even run for ever.
 */

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { parquetMetadata, parquetReadObjects } from 'hyparquet';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { UserError } from '../../engine/errors.ts';
import { fileError } from '../../models/byteSource.ts';

/** One column of a part. */
export interface Column {
  readonly name: string;
  readonly type: 'INT32' | 'FLOAT' | 'DOUBLE';
  readonly data: ArrayLike<number>;
}

/** Columns by name. */
export type Part = ReadonlyMap<string, Float64Array>;

const KEY = 'neurgrad';
/** Before the digest, in the file's own metadata: a Parquet file has no room behind its end. */
const SEAL = 'sha256 of this file with zeros here: ';
const ZEROS = '0'.repeat(64);

/** Where the digest's 64 characters stand, or -1. Metadata come last in a file, so the last seal is the file's own. */
function digestAt(file: Buffer): number {
  const seal = file.lastIndexOf(SEAL, undefined, 'latin1');
  const at = seal + SEAL.length;
  return seal < 0 || at + ZEROS.length > file.length ? -1 : at;
}

function digestOf(file: Buffer, at: number): string {
  return createHash('sha256')
    .update(file.subarray(0, at))
    .update(ZEROS)
    .update(file.subarray(at + ZEROS.length))
    .digest('hex');
}

/** A part as file bytes. `study` is the hash of plan and models. */
export function encodePart(study: string, unit: string, columns: readonly Column[]): Uint8Array {
  const file = Buffer.from(
    parquetWriteBuffer({
      columnData: columns.map(({ name, type, data }) => ({ name, type, data: Array.from(data) })),
      kvMetadata: [
        { key: KEY, value: JSON.stringify({ study, unit }) },
        { key: `${KEY}.digest`, value: SEAL + ZEROS },
      ],
    }),
  );
  const at = digestAt(file);
  file.write(digestOf(file, at), at, 'latin1');
  return file;
}

/** Why a file is not the part it should be; the message says which. */
export class DamagedPart extends UserError {
  override readonly name = 'DamagedPart';
}

/** @throws DamagedPart where the file is cut short, changed, or of another study or unit. */
export async function readPart(path: string, study: string, unit: string): Promise<Part> {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (cause) {
    throw fileError(path, cause);
  }
  const damaged = (what: string, cause?: unknown): DamagedPart =>
    new DamagedPart('part', `${path}: ${what}`, { cause });
  const at = digestAt(bytes);
  if (at < 0) throw damaged('is cut short or damaged');
  if (bytes.toString('latin1', at, at + ZEROS.length) !== digestOf(bytes, at))
    throw damaged('has been changed');
  // Whole, so written here; but anybody can write a digest.
  const { about, columns } = await decode(bytes).catch((cause) => {
    throw damaged('is not a part of a study', cause);
  });
  if (about.study !== study) throw damaged('belongs to another plan or model');
  if (about.unit !== unit) throw damaged(`holds unit ${String(about.unit)}, not ${unit}`);
  return columns;
}

async function decode(bytes: Buffer): Promise<{ about: { study?: unknown; unit?: unknown }; columns: Part }> {
  const file = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer;
  const metadata = parquetMetadata(file);
  const about = JSON.parse(metadata.key_value_metadata!.find(({ key }) => key === KEY)!.value!);
  const rows = await parquetReadObjects({ file, metadata });
  const names = metadata.schema.slice(1).map(({ name }) => name);
  return {
    about,
    columns: new Map(names.map((name) => [name, Float64Array.from(rows, (row) => Number(row[name]))])),
  };
}
