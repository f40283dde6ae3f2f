/**
 * Checkpoints with the names, shapes and shards of published models and no knowledge, to try loading, planning and streaming with.
 *
 * Sparse by default: matrices are holes in the file, which read as zeros and take no room on the disk; norms do nothing. With a
 * seed they are drawn as for training (uniform, standard deviation 0.02). Shards are cut as Hugging Face `save_pretrained` cuts
 * them: in the order of the modules, a new one where 10 GB would be exceeded.
 */

import type { WholeFile } from '../engine/disk.ts';
import {
  callback,
  checkOptions,
  checkValue,
  isPlain,
  like,
  one,
  optionsSchema,
  positive,
  required,
  whole,
} from '../engine/options.ts';
import type { ByteFolder } from './byteSource.ts';
import { parseConfig } from './config.ts';
import { configText } from './configText.ts';
import { parametersOf } from './description.ts';
import type { Family } from './families/family.ts';
import { FAMILIES } from './families/index.ts';
import { copyTokenizer } from './save.ts';
import { type StoredTensor, storedTensors } from './stored.ts';

/** A published model's sizes. */
export interface Preset {
  readonly family: Family;
  /** `config.json`, but for what every one of the family says alike. */
  readonly json: Readonly<Record<string, unknown>>;
}

/** The presets of all families, by name. */
export const PRESETS: ReadonlyMap<string, Preset> = new Map(
  Object.values<Family>(FAMILIES).flatMap((family) =>
    Object.entries(family.presets).map(([name, json]) => [name, { family, json }] as const),
  ),
);

const BYTES = { bf16: 2, f16: 2, f32: 4 } as const;
/** Numbers of a checkpoint without knowledge. */
export type SynthDtype = keyof typeof BYTES;

/** `max_shard_size` of Hugging Face `save_pretrained` when Llama 2 was published. */
const SHARD_BYTES = 10e9;
/** Numbers drawn and written at a time. */
const CHUNK = 2 ** 20;

/** Which checkpoint to write. */
export interface SynthOptions {
  /** One of {@link PRESETS}, or the `config.json` of any model. */
  readonly preset: string | object;
  /** Instead of the preset's. */
  readonly layers?: number | undefined;
  readonly dtype: SynthDtype;
  /** Draw the matrices; default sparse. */
  readonly seed?: number | undefined;
  readonly shardBytes?: number;
  /** Folder whose tokenizer files are copied. */
  readonly tokenizer?: ByteFolder | undefined;
  /** Told after each piece, in bytes. */
  readonly onProgress?: (bytes: number, total: number) => void;
}

const presetField = like<string>(
  (value) => typeof value === 'string' && PRESETS.has(value),
  [...PRESETS.keys()].map((name) => `'${name}'`).join(', '),
);
const dtypeField = one(Object.keys(BYTES) as SynthDtype[]);
const synthOptions = optionsSchema<SynthOptions>({
  preset: required(
    like<string | object>(
      (value) => isPlain(value) || (typeof value === 'string' && PRESETS.has(value)),
      `${[...PRESETS.keys()].map((name) => `'${name}'`).join(', ')}, or a model's config.json`,
    ),
  ),
  layers: whole(1),
  dtype: required(dtypeField),
  seed: whole(0, 2 ** 32 - 1),
  shardBytes: positive,
  tokenizer: like<ByteFolder>(
    (value) => typeof (value as ByteFolder | null)?.readText === 'function',
    'a folder as localFolder opens it',
  ),
  onProgress: callback(),
});

/** The files written, relative to their folder. */
export interface Synthesised {
  readonly files: readonly string[];
  /** Of all tensors. */
  readonly bytes: number;
}

/** The `config.json` of a preset, perhaps with fewer or more layers. @throws UserError for what is none. */
export function presetConfig(
  preset: string,
  layers?: number,
  dtype: SynthDtype = 'bf16',
): Record<string, unknown> {
  checkValue('presetConfig', 'preset', presetField, preset);
  checkValue('presetConfig', 'dtype', dtypeField, dtype);
  const { family, json } = PRESETS.get(preset)!;
  return {
    architectures: [family.architecture],
    model_type: family.type,
    ...(layers === undefined ? json : withLayers(family, json, layers)),
    torch_dtype: { bf16: 'bfloat16', f16: 'float16', f32: 'float32' }[dtype],
  };
}

/** With another number of layers, whatever the family calls it, and as many in lists that have one entry a layer. */
function withLayers({ describe }: Family, json: Preset['json'], layers: number): Record<string, unknown> {
  const all = describe(json, 'config.json').sizes.layers;
  const changed = Object.fromEntries(
    Object.entries(json).map(([field, value]) => [
      field,
      Array.isArray(value) && value.length === all
        ? Array.from({ length: layers }, (_, i) => value[i % all] as unknown)
        : value,
    ]),
  );
  const isCount = (field: string): boolean => {
    if (json[field] !== all) return false;
    try {
      return describe({ ...changed, [field]: layers }, 'config.json').sizes.layers === layers;
    } catch {
      // As many heads, say, and another number of them does not divide.
      return false;
    }
  };
  const field = Object.keys(json).find(isCount);
  return field === undefined ? changed : { ...changed, [field]: layers };
}

interface Shard {
  readonly tensors: { stored: StoredTensor; begin: number; end: number }[];
  bytes: number;
}

function cut(tensors: Iterable<StoredTensor>, itemBytes: number, limit: number): Shard[] {
  const shards: Shard[] = [{ tensors: [], bytes: 0 }];
  for (const stored of tensors) {
    const bytes = stored.shape.reduce((a, b) => a * b, 1) * itemBytes;
    let shard = shards.at(-1)!;
    if (shard.bytes > 0 && shard.bytes + bytes > limit) shards.push((shard = { tensors: [], bytes: 0 }));
    shard.tensors.push({ stored, begin: shard.bytes, end: shard.bytes + bytes });
    shard.bytes += bytes;
  }
  return shards;
}

/**
 * Writes the checkpoint into a folder, which appears when it is whole.
 * @throws UserError where the folder is not empty, another process is writing it, or the disk refuses.
 */
export async function synthesise(folder: string, options: SynthOptions): Promise<Synthesised> {
  checkOptions('synthesise', synthOptions, options);
  const { WholeFile, WholeFolder, writeWhole } = await import('../engine/disk.ts');
  const { Lock } = await import('../engine/lock.ts');
  const { join, resolve } = await import('node:path');
  const json =
    typeof options.preset === 'object'
      ? options.preset
      : presetConfig(options.preset, options.layers, options.dtype);
  const tensors = storedTensors(parametersOf(parseConfig(json).description));
  const shards = cut(tensors.values(), BYTES[options.dtype], options.shardBytes ?? SHARD_BYTES);
  const total = shards.reduce((sum, s) => sum + s.bytes, 0);
  const number = (i: number) => String(i).padStart(5, '0');
  const names = shards.map((_, i) =>
    shards.length === 1
      ? 'model.safetensors'
      : `model-${number(i + 1)}-of-${number(shards.length)}.safetensors`,
  );
  using whole = new WholeFolder(folder, 'refuse', options.seed === undefined ? 0 : total);
  using lock = Lock.take(`${resolve(folder)}.neurgrad-lock`, folder);
  const write = (name: string, text: string): void => writeWhole(join(whole.path, name), text);
  write('config.json', configText(json as Record<string, unknown>));
  if (options.tokenizer) await copyTokenizer(options.tokenizer, whole.path);
  let done = 0;
  for (const [i, shard] of shards.entries()) {
    using file = new WholeFile(join(whole.path, names[i]!));
    done = await writeShard(file, shard, options, (bytes) => options.onProgress?.(bytes, total), done);
    file.keep();
  }
  if (shards.length > 1) {
    const map = Object.fromEntries(
      shards.flatMap((s, i) => s.tensors.map(({ stored }) => [stored.name, names[i]!] as const)),
    );
    const index = { metadata: { total_size: total }, weight_map: map };
    write('model.safetensors.index.json', `${JSON.stringify(index, null, 2)}\n`);
  }
  // First the lock: its name beside a folder that is there would be all that a kill between the two leaves to clear.
  lock[Symbol.dispose]();
  whole.keep();
  return { files: names, bytes: total };
}

async function writeShard(
  file: WholeFile,
  shard: Shard,
  options: SynthOptions,
  tell: (bytes: number) => void,
  before: number,
): Promise<number> {
  const dtype = { bf16: 'BF16', f16: 'F16', f32: 'F32' }[options.dtype];
  const entries = shard.tensors.map(({ stored, begin, end }) => [
    stored.name,
    { dtype, shape: stored.shape, data_offsets: [begin, end] },
  ]);
  const text = new TextEncoder().encode(
    JSON.stringify({ __metadata__: { format: 'pt' }, ...Object.fromEntries(entries) }),
  );
  const header = new Uint8Array(8 + Math.ceil(text.length / 8) * 8).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(header.length - 8), true);
  header.set(text, 8);
  file.write(header, 0);
  file.resize(header.length + shard.bytes);
  let done = before;
  for (const { stored, begin, end } of shard.tensors) {
    // Parts of one tensor begin alike. Zeros are a hole in the file.
    const { initial } = stored.parts[0]!.parameter;
    const drawn = initial === null && options.seed !== undefined;
    const draw = initial === 1 ? ones : drawn ? uniform(options.seed!, stored.name, 0.02) : null;
    if (draw) {
      const item = BYTES[options.dtype];
      for (let at = begin; at < end; at += CHUNK * item) {
        const count = Math.min(CHUNK, (end - at) / item);
        const bytes = encode(options.dtype, count, draw);
        file.write(bytes, header.length + at);
        tell(done + at + bytes.length - begin);
        // Lets signals and the lock's heart have their turn.
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
    done += end - begin;
    tell(done);
  }
  return done;
}

const ones = (target: Float32Array): void => {
  target.fill(1);
};

/** Fills an array with the next numbers of mean 0 and the standard deviation given (xorshift32, Marsaglia 2003). */
function uniform(seed: number, name: string, deviation: number): (target: Float32Array) => void {
  let state = seed | 1;
  for (const c of name) state = (Math.imul(state ^ c.charCodeAt(0), 0x9e3779b1) ^ (state >>> 15)) | 1;
  const reach = deviation * Math.sqrt(3) * 2 ** -31;
  return (target) => {
    for (let i = 0; i < target.length; i++) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      target[i] = state * reach;
    }
  };
}

/** float32 cut to the upper half is bfloat16; half precision of normal numbers by its fields. */
function encode(dtype: SynthDtype, count: number, draw: (target: Float32Array) => void): Uint8Array {
  const wide = new Float32Array(count);
  draw(wide);
  if (dtype === 'f32') return new Uint8Array(wide.buffer);
  const bits = new Uint32Array(wide.buffer);
  const half = new Uint16Array(count);
  for (let i = 0; i < count; i++) {
    const b = bits[i]!;
    if (dtype === 'bf16') half[i] = b >>> 16;
    else {
      const exponent = ((b >>> 23) & 255) - 112;
      const size = exponent <= 0 ? 0 : (exponent << 10) | ((b >>> 13) & 0x3ff);
      half[i] = ((b >>> 16) & 0x8000) | size;
    }
  }
  return new Uint8Array(half.buffer);
}
