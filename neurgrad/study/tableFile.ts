/**
 * Tables as people publish them, read into rows of fields: JSONL, JSON, CSV, TSV, Parquet, and Arrow's two files (Feather, and the
 * stream that Hugging Face's datasets keep).
 *
 * Parquet and Arrow are read in a process apart: a reader given damaged bytes may do anything, even run for ever.
 */

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { extname } from 'node:path';
import { pathToFileURL } from 'node:url';
import { dsvFormat } from 'd3-dsv';
import { fileError, UserError } from '../../engine/errors.ts';
import { runnerBy } from '../../models/boundedProcess.ts';
import { parseJson } from '../../models/json.ts';
import { readTextFile } from './textFile.ts';

/** A row's fields by name. */
export type Row = Readonly<Record<string, unknown>>;

/** A row and where it stands, for messages: `file:3`. */
export interface PlacedRow {
  readonly row: Row;
  readonly where: string;
}

/** Endings of the files that {@link readTable} reads. */
export const TABLE_ENDINGS = ['.jsonl', '.json', '.csv', '.tsv', '.parquet', '.arrow', '.feather'] as const;

/**
 * The rows of a table, in order. What a file is, its ending says, or its first bytes.
 * @throws UserError naming the file, and the line or row, that cannot be read.
 */
export function readTable(path: string): PlacedRow[] {
  const ending = extname(path).toLowerCase();
  if (ending === '.csv' || ending === '.tsv') return separatedRows(path, ending === '.csv' ? ',' : '\t');
  const kind = packedKind(path, ending);
  if (kind) return packedRows(path, kind);
  return ending === '.json' ? jsonRows(path) : lineRows(path, readTextFile(path));
}

/** A file that is no text. */
type Packed = 'parquet' | 'arrow';

function packedKind(path: string, ending: string): Packed | null {
  if (ending === '.parquet') return 'parquet';
  if (ending === '.arrow' || ending === '.feather') return 'arrow';
  const beginning = bytesOf(path).subarray(0, 6).toString('latin1');
  if (beginning.startsWith('PAR1')) return 'parquet';
  // The second is Arrow's stream.
  return beginning === 'ARROW1' || beginning.startsWith('\xff\xff\xff\xff') ? 'arrow' : null;
}

function bytesOf(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw fileError(path, cause);
  }
}

function objectRow(row: unknown, where: string): PlacedRow {
  if (row === null || typeof row !== 'object' || Array.isArray(row))
    throw new UserError('prompts', `${where}: is not an object with fields`);
  return { row: row as Row, where };
}

function lineRows(path: string, text: string): PlacedRow[] {
  return text.split('\n').flatMap((line, i) => {
    if (line.trim() === '') return [];
    const where = `${path}:${i + 1}`;
    return [objectRow(parseJson(line, where, 'prompts'), where)];
  });
}

/** A list of objects; else lines, which some publish as `.json`, too. */
function jsonRows(path: string): PlacedRow[] {
  const text = readTextFile(path);
  let list: unknown;
  try {
    list = JSON.parse(text);
  } catch {
    return lineRows(path, text);
  }
  const rows = Array.isArray(list) ? list : [list];
  return rows.map((row, i) => objectRow(row, `${path}: row ${i}`));
}

function separatedRows(path: string, separator: string): PlacedRow[] {
  const [head = [], ...rows] = dsvFormat(separator).parseRows(readTextFile(path));
  return rows.flatMap((cells, i) => {
    const where = `${path}: row ${i + 1}`;
    if (cells.length === 1 && cells[0]!.trim() === '') return [];
    if (cells.length !== head.length)
      throw new UserError(
        'prompts',
        `${where}: has ${cells.length} cells, the head has ${head.length} (${head.join(', ')}); put cells with ${separator === ',' ? 'commas' : 'tabs'} or line breaks into "quotes"`,
      );
    return [{ row: Object.fromEntries(cells.map((cell, c) => [head[c]!, cell])), where }];
  });
}

const run = runnerBy(spawnSync);
/** Of a table of some hundred megabytes. */
const BOUNDS = { seconds: 60, mebibytes: 4096, answer: 2 ** 29 };

const READERS: Readonly<Record<Packed, string>> = {
  parquet: `
    const { parquetReadObjects } = await library('hyparquet');
    const { compressors } = await library('hyparquet-compressors');
    const rows = await parquetReadObjects({ file: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length), compressors });`,
  arrow: `
    const { CompressionType, setCompressionCodec, tableFromIPC } = await library('@uwdata/flechette');
    const { decompressZstd } = await library('hyparquet-compressors');
    const { decompress } = await library('lz4js');
    const none = () => { throw new Error('is read, not written'); };
    setCompressionCodec(CompressionType.LZ4_FRAME, { encode: none, decode: (part) => Uint8Array.from(decompress(part)) });
    setCompressionCodec(CompressionType.ZSTD, { encode: none, decode: (part) => decompressZstd(part) });
    const rows = tableFromIPC(new Uint8Array(bytes)).toArray();`,
};

const LIBRARIES: Readonly<Record<Packed, readonly string[]>> = {
  parquet: ['hyparquet', 'hyparquet-compressors'],
  arrow: ['@uwdata/flechette', 'hyparquet-compressors', 'lz4js'],
};

function packedRows(path: string, kind: Packed): PlacedRow[] {
  const { resolve } = createRequire(import.meta.url);
  const addresses = LIBRARIES[kind].map((name) => [name, pathToFileURL(resolve(name)).href]);
  const program = `
    const addresses = ${JSON.stringify(Object.fromEntries(addresses))};
    const library = async (name) => {
      const found = await import(addresses[name]);
      return found.default && Object.keys(found).length <= 2 ? found.default : found;
    };
    const parts = [];
    for await (const part of process.stdin) parts.push(part);
    const bytes = Buffer.concat(parts);
    ${READERS[kind]}
    const plain = (_, value) =>
      typeof value === 'bigint' ? Number(value) : ArrayBuffer.isView(value) ? Array.from(value) : value;
    process.stdout.write(JSON.stringify(rows, plain));`;
  let text: string;
  try {
    text = run(program, bytesOf(path), BOUNDS);
  } catch (cause) {
    throw new UserError(
      'prompts',
      `${path}: is no ${kind === 'parquet' ? 'Parquet' : 'Arrow'} file that can be read (${(cause as Error).message})`,
      { cause },
    );
  }
  return (JSON.parse(text) as unknown[]).map((row, i) => objectRow(row, `${path}: row ${i}`));
}
