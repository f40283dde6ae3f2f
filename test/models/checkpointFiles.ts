/** Model folders made by tests: tensors of a checkpoint at hand, changed, in one file or in shards. */

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { localFolder, openCheckpoint } from '../../models/index.ts';

export interface Stored {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
}

export type Tensors = Map<string, Stored>;

/** All tensors of a folder's checkpoint, as stored. */
export async function readTensors(path: string): Promise<Tensors> {
  const checkpoint = await openCheckpoint(await localFolder(path));
  const tensors: Tensors = new Map();
  for (const [name, entry] of checkpoint.tensors) {
    const bytes = new Uint8Array(entry.end - entry.begin);
    await checkpoint.readInto(entry, 0, bytes);
    tensors.set(name, { dtype: entry.dtype, shape: entry.shape, bytes });
  }
  await checkpoint.close();
  return tensors;
}

export const readConfigJson = (path: string): Record<string, unknown> =>
  JSON.parse(readFileSync(join(path, 'config.json'), 'utf8'));

/** A float32 tensor. */
export function floats(shape: readonly number[], values: ArrayLike<number> = []): Stored {
  const data = new Float32Array(shape.reduce((a, b) => a * b, 1));
  data.set(Array.from(values));
  return { dtype: 'F32', shape, bytes: new Uint8Array(data.buffer) };
}

/** Bytes of a safetensors file. */
export function safetensorsFile(tensors: ReadonlyMap<string, Stored>): Uint8Array {
  let at = 0;
  const header = JSON.stringify(
    Object.fromEntries(
      [...tensors].map(([name, { dtype, shape, bytes }]) => [
        name,
        { dtype, shape, data_offsets: [at, (at += bytes.length)] },
      ]),
    ),
  );
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(Buffer.byteLength(header)));
  return Buffer.concat([length, Buffer.from(header), ...[...tensors.values()].map(({ bytes }) => bytes)]);
}

/** Writes a folder. `files` are further ones by name: objects as JSON. */
export function writeModel(
  path: string,
  config: object,
  tensors: ReadonlyMap<string, Stored>,
  files: Readonly<Record<string, object | string | Uint8Array>> = {},
): string {
  mkdirSync(path, { recursive: true });
  const all = { 'config.json': config, 'model.safetensors': safetensorsFile(tensors), ...files };
  for (const [name, content] of Object.entries(all)) {
    const plain = typeof content === 'string' || content instanceof Uint8Array;
    writeFileSync(join(path, name), plain ? content : JSON.stringify(content));
  }
  return path;
}
