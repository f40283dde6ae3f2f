/**
 * Part files: one Parquet table a finished unit, with a digest of its values, so that a file that was cut short, damaged or
 * made for another plan is told from a whole one.
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

function digest(names: readonly string[], values: (name: string) => ArrayLike<number>): string {
  const hash = createHash('sha256');
  for (const name of names) hash.update(name).update(new Uint8Array(Float64Array.from(values(name)).buffer));
  return hash.digest('hex');
}

/** A part as file bytes. `study` is the hash of plan and models. */
export function encodePart(study: string, unit: string, columns: readonly Column[]): Uint8Array {
  const data = new Map(
    columns.map(({ name, type, data }) => [
      name,
      type === 'FLOAT' ? Float64Array.from(data, Math.fround) : Float64Array.from(data),
    ]),
  );
  const names = columns.map(({ name }) => name);
  const about = { study, unit, digest: digest(names, (name) => data.get(name)!) };
  return new Uint8Array(
    parquetWriteBuffer({
      columnData: columns.map(({ name, type }) => ({ name, type, data: Array.from(data.get(name)!) })),
      kvMetadata: [{ key: KEY, value: JSON.stringify(about) }],
    }),
  );
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
  const file = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) as ArrayBuffer;
  let about: { study: string; unit: string; digest: string };
  let names: string[];
  let rows: Record<string, unknown>[];
  try {
    const metadata = parquetMetadata(file);
    about = JSON.parse(metadata.key_value_metadata?.find(({ key }) => key === KEY)?.value ?? 'null');
    names = metadata.schema.slice(1).map(({ name }) => name);
    rows = await parquetReadObjects({ file, metadata });
  } catch (cause) {
    throw damaged('is cut short or damaged', cause);
  }
  if (about?.study !== study) throw damaged('belongs to another plan or model');
  if (about.unit !== unit) throw damaged(`holds unit ${about.unit}, not ${unit}`);
  const part = new Map(names.map((name) => [name, Float64Array.from(rows, (row) => Number(row[name]))]));
  if (digest(names, (name) => part.get(name)!) !== about.digest) throw damaged('has been changed');
  return part;
}
