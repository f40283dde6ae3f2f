/**
 * The golden sets: `NEURGRAD_GOLDEN`, default test/golden and test/golden-families. Any set of the same format can be put in
 * their place, several with the system's separator of paths between them.
 */

import { existsSync, readdirSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { openFile } from '../../models/byteSource.ts';
import { readSafetensorsHeader } from '../../models/safetensors.ts';

const OWN = ['test/golden', 'test/golden-families'];

/** Folders of the sets. */
export const FOLDERS: readonly string[] = process.env.NEURGRAD_GOLDEN
  ? process.env.NEURGRAD_GOLDEN.split(delimiter)
  : OWN;

/**
 * Paths without their ending of the files in the sets' folders that begin with a prefix, such as `probing-`: of this project's
 * sets where those put in have none.
 */
export function goldenFiles(prefix: string): string[] {
  const among = (folders: readonly string[]): string[] =>
    folders.filter(existsSync).flatMap((folder) =>
      readdirSync(folder)
        .filter((name) => name.startsWith(prefix) && name.endsWith('.safetensors'))
        .map((name) => join(folder, name.slice(0, -'.safetensors'.length))),
    );
  const found = among(FOLDERS);
  return found.length > 0 ? found : among(OWN);
}

export interface GoldenTensor {
  readonly shape: readonly number[];
  readonly data: Float64Array;
  /** Row `i` of the first axis. */
  row(i: number): number[];
}

/** The tensors of a file. */
export interface GoldenFile {
  readonly names: readonly string[];
  /** @throws Error naming what there is. */
  of(tensor: string): GoldenTensor;
}

const ARRAYS = { F64: Float64Array, F32: Float32Array, I32: Int32Array } as const;

/** All tensors of `<path>.safetensors`, widened to float64. */
export async function readGolden(path: string): Promise<GoldenFile> {
  const source = await openFile(`${path}.safetensors`);
  try {
    const { tensors } = await readSafetensorsHeader(source);
    const found = new Map<string, GoldenTensor>();
    for (const { name, dtype, shape, begin, end } of tensors) {
      const bytes = (await source.read(begin, end)).slice().buffer;
      const array = ARRAYS[dtype as keyof typeof ARRAYS];
      if (!array) throw new Error(`${path}: ${name} is ${dtype}`);
      const data = Float64Array.from(new array(bytes));
      const stride = data.length / (shape[0] ?? 1);
      const row = (i: number): number[] => [...data.subarray(i * stride, (i + 1) * stride)];
      found.set(name, { shape, data, row });
    }
    const names = [...found.keys()];
    return {
      names,
      of: (tensor) => {
        const one = found.get(tensor);
        if (!one) throw new Error(`${path} has no ${tensor}; it has ${names.join(', ')}`);
        return one;
      },
    };
  } finally {
    await source.close();
  }
}
