/**
 * A checkpoint: the tensors of one model, in one `model.safetensors` or in shards with an index, under their names.
 *
 * Source: the layout that Hugging Face `save_pretrained` writes. Only headers are read on opening; tensors stream from
 * their shard into the caller's memory. `matchTensors` then lays the stored tensors over those that a model expects:
 * old names are brought up to date, what is known to be needless is left out, and any other difference is an error.
 */

import { UserError } from '../engine/errors.ts';
import type { ByteFolder, ByteSource } from './byteSource.ts';
import { safeName } from './byteSource.ts';
import { decodeFloat32 } from './decode.ts';
import { duplicateKey, readSafetensorsHeader, shortened, type TensorSpan } from './safetensors.ts';

/** A tensor and the file it lies in; `begin` and `end` are positions in that file. */
export interface TensorEntry extends TensorSpan {
  readonly shard: string;
}

/** The tensors of one model, in one file or in shards; only headers are in memory. */
export interface Checkpoint {
  /** The folder's path or Hub id. */
  readonly name: string;
  /** Under the names as stored, in file order. Of shards, those that the index lists. */
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  /** Tensors in a shard that the index does not list. */
  readonly unindexed: readonly string[];
  readonly shards: readonly string[];
  /** Sum of all listed tensors, in bytes. */
  readonly bytes: number;
  /** Oddities that harm nothing, one line each. */
  readonly notes: readonly string[];
  /** Fills `target` from the tensor's byte `byteOffset` on. @throws UserError where that leaves the tensor. */
  readInto(tensor: TensorEntry, byteOffset: number, target: Uint8Array): Promise<void>;
  /** The whole tensor as float32 (see decode.ts): for small ones. @throws UserError for an unknown name. */
  readFloat32(name: string): Promise<Float32Array>;
  /** Gives the files back. */
  close(): Promise<void>;
}

const SINGLE = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';

/** Opens the checkpoint in a folder, reading headers only. @throws UserError for a missing or malformed file. */
export async function openCheckpoint(folder: ByteFolder): Promise<Checkpoint> {
  const single = await folder.has(SINGLE);
  if (!single && !(await folder.has(INDEX))) {
    throw new UserError('checkpoint', `${folder.name}: has neither ${SINGLE} nor ${INDEX}`);
  }
  const index = single ? undefined : await readIndex(folder);
  const shards = index ? [...new Set(index.weightMap.values())].sort() : [SINGLE];
  const sources = new Map<string, ByteSource>();
  const close = async () => {
    await Promise.all([...sources.values()].map((source) => source.close()));
  };
  try {
    const tensors = new Map<string, TensorEntry>();
    const unindexed: string[] = [];
    const homes = new Map<string, string>();
    for (const shard of shards) {
      if (index && !(await folder.has(shard))) {
        throw new UserError('checkpoint', `${folder.name}: ${INDEX} lists ${shard}, which is not there`);
      }
      const source = await folder.open(shard);
      sources.set(shard, source);
      for (const span of (await readSafetensorsHeader(source)).tensors) {
        const home = homes.get(span.name);
        if (home) {
          throw new UserError('checkpoint', `${folder.name}: ${span.name} is in both ${home} and ${shard}`);
        }
        homes.set(span.name, shard);
        if (index && !index.weightMap.has(span.name)) unindexed.push(span.name);
        else tensors.set(span.name, { ...span, shard });
      }
    }
    for (const [name, shard] of index?.weightMap ?? []) {
      if (homes.get(name) !== shard) {
        throw new UserError(
          'checkpoint',
          `${folder.name}: ${INDEX} says that ${name} is in ${shard}, but it is ${homes.get(name) ? `in ${homes.get(name)}` : 'not'}`,
        );
      }
    }
    const bytes = [...tensors.values()].reduce((sum, { begin, end }) => sum + end - begin, 0);
    const notes =
      index?.totalSize !== undefined && index.totalSize !== bytes
        ? [`${INDEX} says total_size ${index.totalSize}, but its tensors have ${bytes} bytes`]
        : [];
    const checkpoint: Checkpoint = {
      name: folder.name,
      tensors,
      unindexed,
      shards,
      bytes,
      notes,
      async readInto({ name, shard, begin, end }, byteOffset, target) {
        if (!(byteOffset >= 0 && begin + byteOffset + target.byteLength <= end)) {
          throw new UserError(
            'checkpoint',
            `${name}: has ${end - begin} bytes; ${target.byteLength} from ${byteOffset} on wanted`,
          );
        }
        await sources.get(shard)!.readInto(begin + byteOffset, target);
      },
      async readFloat32(name) {
        const tensor = tensors.get(name);
        if (!tensor) throw new UserError('checkpoint', `${folder.name}: has no tensor ${name}`);
        const bytes = new Uint8Array(tensor.end - tensor.begin);
        await checkpoint.readInto(tensor, 0, bytes);
        return decodeFloat32(tensor.dtype, bytes);
      },
      close,
    };
    return checkpoint;
  } catch (error) {
    await close();
    throw error;
  }
}

async function readIndex(
  folder: ByteFolder,
): Promise<{ weightMap: Map<string, string>; totalSize: number | undefined }> {
  const fail = (what: string, cause?: unknown) =>
    new UserError('checkpoint', `${folder.name}: ${INDEX} ${what}`, { cause });
  const text = await folder.readText(INDEX);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (cause) {
    throw fail('is not JSON', cause);
  }
  const twice = duplicateKey(text);
  if (twice !== undefined) throw fail(`has ${JSON.stringify(twice)} twice`);
  const { weight_map: map, metadata } = (json ?? {}) as Record<string, unknown>;
  const isObject = typeof map === 'object' && map !== null && !Array.isArray(map);
  if (!isObject || !Object.values(map).every((shard) => typeof shard === 'string')) {
    throw fail('has no weight_map of tensor names to file names');
  }
  const weightMap = new Map(Object.entries(map as Record<string, string>));
  if (weightMap.size === 0) throw fail('lists no tensor');
  for (const shard of weightMap.values()) {
    safeName(shard);
    if (!shard.endsWith('.safetensors')) throw fail(`names ${JSON.stringify(shard)}, no safetensors file`);
  }
  const total = (metadata as { total_size?: unknown } | null | undefined)?.total_size;
  return { weightMap, totalSize: typeof total === 'number' ? total : undefined };
}

/** Stored by some writers, needed by no model here; left out unless a model does expect the name. */
const NEEDLESS: readonly RegExp[] = [
  /^(bert\.)?pooler\./,
  /^cls\.seq_relationship\./,
  /(^|\.)position_ids$/,
  /\.rotary_emb\.inv_freq$/,
  // Copies of tied weights.
  /^cls\.predictions\.decoder\.(weight|bias)$/,
  /^lm_head\.weight$/,
];

/** Tied pairs: a writer that stores a shared tensor once may have kept it under the first name instead of the second. */
const TIED: readonly (readonly [string, string])[] = [
  ['cls.predictions.decoder.bias', 'cls.predictions.bias'],
  ['cls.predictions.decoder.weight', 'bert.embeddings.word_embeddings.weight'],
  ['lm_head.weight', 'model.embed_tokens.weight'],
];

/** What a base model's own checkpoint leaves off the names, as `from_pretrained` tolerates. */
const PREFIXES = ['bert.', 'model.'];

const FLOATS = new Set(['F64', 'F32', 'F16', 'BF16']);

/**
 * The current name of each stored one, as Hugging Face `from_pretrained` reads old checkpoints: `LayerNorm.gamma` and
 * `.beta` are weight and bias, a base model's missing prefix is added, a tied tensor may stand under its other name.
 * @param expected names that the model wants. @returns stored name -> name.
 */
export function adoptNames(
  stored: Iterable<string>,
  expected: { has(name: string): boolean },
): Map<string, string> {
  const adopted = new Map<string, string>();
  for (const name of stored) {
    const current = name
      .replace(/LayerNorm\.gamma$/, 'LayerNorm.weight')
      .replace(/LayerNorm\.beta$/, 'LayerNorm.bias');
    const prefix = expected.has(current) ? '' : (PREFIXES.find((each) => expected.has(each + current)) ?? '');
    adopted.set(name, prefix + current);
  }
  const taken = new Set(adopted.values());
  for (const [copy, original] of TIED) {
    const stands = expected.has(original) && !expected.has(copy) && !taken.has(original);
    if (stands && adopted.get(copy) === copy) adopted.set(copy, original);
  }
  return adopted;
}

/**
 * Finds the stored tensor for each one that a model expects.
 * @param expected shapes under current names. @param options.ignore further names that may be left over.
 * @returns entries under the expected names, in file order.
 * @throws UserError, one line, listing tensors that are missing, extra, of another shape, or no floats; its code is
 * `tensor-missing`, `tensor-shape`, `tensor-dtype` or `tensor-extra` for the first of these.
 */
export function matchTensors(
  checkpoint: Pick<Checkpoint, 'name' | 'tensors' | 'unindexed'>,
  expected: ReadonlyMap<string, readonly number[]>,
  options: { readonly ignore?: readonly RegExp[] } = {},
): Map<string, TensorEntry> {
  const ignored = (name: string) =>
    [...NEEDLESS, ...(options.ignore ?? [])].some((pattern) => pattern.test(name));
  const found = new Map<string, TensorEntry>();
  const shape: string[] = [];
  const dtype: string[] = [];
  const extra: string[] = checkpoint.unindexed.filter((name) => !ignored(name));
  for (const [stored, name] of adoptNames(checkpoint.tensors.keys(), expected)) {
    const entry = checkpoint.tensors.get(stored)!;
    const wanted = expected.get(name);
    const before = found.get(name);
    if (before) {
      throw new UserError(
        'tensor-extra',
        `${checkpoint.name}: ${before.name} and ${stored} are both ${name}; keep one`,
      );
    }
    if (!wanted) {
      if (!ignored(stored)) extra.push(stored);
      continue;
    }
    found.set(name, entry);
    if (wanted.length !== entry.shape.length || wanted.some((length, axis) => length !== entry.shape[axis])) {
      shape.push(`${name} is [${entry.shape}], should be [${wanted}]`);
    }
    if (!FLOATS.has(entry.dtype)) dtype.push(`${name} is ${entry.dtype}`);
  }
  const missing = [...expected.keys()].filter((name) => !found.has(name));
  const faults = [
    { code: 'tensor-missing', title: 'missing', list: missing },
    { code: 'tensor-shape', title: 'of another shape than config.json says', list: shape },
    { code: 'tensor-dtype', title: 'not stored as floats', list: dtype },
    { code: 'tensor-extra', title: 'extra', list: extra },
  ].filter(({ list }) => list.length > 0);
  if (faults.length > 0) {
    const lines = faults.map(({ title, list }) => `${count(list.length)} ${title}: ${abbreviate(list)}`);
    throw new UserError(faults[0]!.code, `${checkpoint.name}: ${lines.join('; ')}`);
  }
  return found;
}

function count(tensors: number): string {
  return tensors === 1 ? '1 tensor' : `${tensors} tensors`;
}

function abbreviate(list: readonly string[], most = 8): string {
  const rest = list.length - most;
  return list.slice(0, most).map(shortened).join(', ') + (rest > 0 ? ` and ${rest} more` : '');
}
