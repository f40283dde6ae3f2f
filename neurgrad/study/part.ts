/**
 * Part files: one Parquet table a finished unit. A file that was cut short, damaged or made for another plan is told from a
 * whole one by the digest of its bytes, which is looked at before anything else: a Parquet reader given damaged bytes may
 * do anything, even run for ever.
 */

import { readFileSync } from 'node:fs';
import { parquetMetadata, parquetReadObjects } from 'hyparquet';
import { parquetWriteBuffer } from 'hyparquet-writer';
import { show } from '../../engine/options.ts';
import { fileError } from '../../models/byteSource.ts';
import { checkSeal, DamagedFile, seal, UNSEALED } from '../../models/seal.ts';

/** One column of a part. */
export interface Column {
  readonly name: string;
  readonly type: 'INT32' | 'FLOAT' | 'DOUBLE';
  readonly data: ArrayLike<number>;
}

/** Columns by name. */
export type Part = ReadonlyMap<string, Float64Array>;

const KEY = 'neurgrad';
/** A part as file bytes. `study` is the hash of plan and models. */
export function encodePart(study: string, unit: string, columns: readonly Column[]): Uint8Array {
  const file = Buffer.from(
    parquetWriteBuffer({
      columnData: columns.map(({ name, type, data }) => ({ name, type, data: Array.from(data) })),
      kvMetadata: [
        { key: KEY, value: JSON.stringify({ study, unit }) },
        { key: `${KEY}.digest`, value: UNSEALED },
      ],
    }),
  );
  // A Parquet file's metadata come last.
  return seal(file, 'last');
}

/** @throws DamagedFile where the file is cut short, changed, or of another study or unit. */
export async function readPart(path: string, study: string, unit: string): Promise<Part> {
  let bytes: Buffer;
  try {
    bytes = readFileSync(path);
  } catch (cause) {
    throw fileError(path, cause);
  }
  checkSeal(path, bytes, 'last');
  const damaged = (what: string, cause?: unknown): DamagedFile => new DamagedFile(path, what, cause);
  // Whole, so written here; but anybody can write a digest.
  const { about, columns } = await decode(bytes).catch((cause) => {
    throw damaged('is not a part of a study', cause);
  });
  if (about.study !== study) throw damaged('belongs to another plan or model');
  if (about.unit !== unit) throw damaged(`holds unit ${show(about.unit)}, not ${unit}`);
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
