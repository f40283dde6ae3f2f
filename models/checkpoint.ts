/**
 * A checkpoint: the tensors of one model, in one `model.safetensors` or in shards with an index, under their names.
 *
 * Source: the layout that Hugging Face `save_pretrained` writes. Only headers are read on opening; tensors stream from
 * their shard into the caller's memory. `matchTensors` then lays the stored tensors over those that a model expects:
 * old names are brought up to date, what is known to be needless is left out, what the model has no place for is named, and
 * whatever would change its numbers is an error.
 */

import { UserError } from '../engine/errors.ts';
import { callback, checkOptions, flag, instance, list, optionsSchema } from '../engine/options.ts';
import type { ByteFolder, ByteSource } from './byteSource.ts';
import { safeName } from './byteSource.ts';
import type { ModelConfig } from './config.ts';
import { decodeFloat32 } from './decode.ts';
import { type Parameter, parametersOf, storedName } from './description.ts';
import type { CheckpointNames } from './families/family.ts';
import { PACKED, type PackedDtype } from './gguf/packed.ts';
import {
  type Dtype,
  duplicateKey,
  readSafetensorsHeader,
  shortened,
  type TensorSpan,
} from './safetensors.ts';
import { type StoredTensor, storedTensors } from './stored.ts';

/** A tensor of a file. */
export interface StoredSpan extends TensorSpan<Dtype | PackedDtype> {
  /** A matrix that lies the other way round than its shape says: its columns, one after the other. */
  readonly turned?: boolean;
}

/** A file that is worked out while it is read, and what tensors it holds: it has no header. */
export interface TensorSource extends ByteSource {
  /** In file order. */
  readonly tensors: readonly StoredSpan[];
}

/** A tensor and the file it lies in; `begin` and `end` are positions in that file. */
export interface TensorEntry extends StoredSpan {
  readonly shard: string;
}

/** The tensors of one model, in one file or in shards; only headers are in memory. */
export interface Checkpoint {
  /** The folder's path or Hub id. */
  readonly name: string;
  /** Under the names as stored, in file order. Of shards, those that the index lists. */
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  /** Tensors in a shard that the index does not list there: they are not read. */
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

export const SINGLE = 'model.safetensors';
export const INDEX = 'model.safetensors.index.json';

/** Opens the checkpoint in a folder, reading headers only. @throws UserError for a missing or malformed file. */
export async function openCheckpoint(folder: ByteFolder): Promise<Checkpoint> {
  const single = await folder.has(SINGLE);
  if (!single && !(await folder.has(INDEX))) {
    throw new UserError(
      'checkpoint',
      `${folder.name}: has neither ${SINGLE} nor ${INDEX}${await otherWeights(folder)}`,
    );
  }
  const index = single ? undefined : await readIndex(folder);
  const shards = index ? shardsIn(index) : [SINGLE];
  const sources = new Map<string, ByteSource>();
  const close = async () => {
    await Promise.all([...sources.values()].map((source) => source.close()));
  };
  try {
    const tensors = new Map<string, TensorEntry>();
    const strays = new Map<string, string>();
    for (const shard of shards) {
      if (index && !(await folder.has(shard))) {
        throw new UserError('checkpoint', `${folder.name}: ${INDEX} lists ${shard}, which is not there`);
      }
      const source = await folder.open(shard);
      sources.set(shard, source);
      for (const span of await spansOf(source)) {
        if (index && index.weightMap.get(span.name) !== shard) strays.set(span.name, shard);
        else tensors.set(span.name, { ...span, shard });
      }
    }
    for (const [name, shard] of index?.weightMap ?? []) {
      if (tensors.has(name)) continue;
      const stray = strays.get(name);
      throw new UserError(
        'checkpoint',
        `${folder.name}: ${INDEX} says that ${name} is in ${shard}, but it is ${stray ? `in ${stray}` : 'not'}`,
      );
    }
    const unindexed = [...strays.keys()];
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
        const { dtype, shape, turned } = tensor;
        if (!turned) return decodeFloat32(dtype, bytes, shape.at(-1));
        return turnedRound(decodeFloat32(dtype, bytes, shape[0]), shape);
      },
      close,
    };
    return checkpoint;
  } catch (error) {
    await close();
    throw error;
  }
}

const spansOf = async (source: ByteSource | TensorSource): Promise<readonly StoredSpan[]> =>
  'tensors' in source ? source.tensors : (await readSafetensorsHeader(source)).tensors;

/** What a folder without safetensors has instead, and what to do. */
async function otherWeights(folder: ByteFolder): Promise<string> {
  if (await folder.has('adapter_config.json'))
    return '; it is an adapter: merge it into its base model with merge_and_unload(), then save_pretrained(…)';
  for (const file of ['pytorch_model.bin', 'pytorch_model.bin.index.json'])
    if (await folder.has(file))
      return ', only PyTorch files; convert it with save_pretrained(safe_serialization=True)';
  return '';
}

/** Which file each tensor is in. */
interface Index {
  readonly weightMap: ReadonlyMap<string, string>;
  readonly totalSize: number | undefined;
}

/** The files of an index. */
export const shardsIn = ({ weightMap }: Index): string[] => [...new Set(weightMap.values())].sort();

/** @throws UserError where there is no such index, or it is not one. */
export async function readIndex(folder: ByteFolder): Promise<Index> {
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

/** Columns that lie one after the other as the matrix [rows, columns] that they make. */
function turnedRound(values: Float32Array, [rows = 0, columns = 0]: readonly number[]): Float32Array {
  const result = new Float32Array(values.length);
  for (let column = 0; column < columns; column++)
    for (let row = 0; row < rows; row++) result[row * columns + column] = values[column * rows + row]!;
  return result;
}

/** Formats that weights may have. */
export const FLOATS: ReadonlySet<string> = new Set(['F64', 'F32', 'F16', 'BF16', ...Object.keys(PACKED)]);

/**
 * The current name of each stored one, as Hugging Face `from_pretrained` reads old checkpoints: what has been renamed since,
 * a base model's missing prefix is added, a tensor with two names may stand under either.
 * @param expected names that the model wants. @returns stored name -> name.
 */
export function adoptNames(
  stored: Iterable<string>,
  { prefix, renamed, copies = {} }: CheckpointNames,
  expected: { has(name: string): boolean },
): Map<string, string> {
  const adopted = new Map<string, string>();
  for (const name of stored) {
    const current = present(name, renamed);
    const bare = !expected.has(current) && expected.has(prefix + current);
    adopted.set(name, bare ? prefix + current : current);
  }
  const taken = new Set(adopted.values());
  for (const [copy, original] of Object.entries(copies)) {
    const stands = expected.has(original) && !expected.has(copy) && !taken.has(original);
    if (stands && adopted.get(copy) === copy) adopted.set(copy, original);
  }
  return adopted;
}

/** A name as it is today. */
const present = (name: string, renamed: CheckpointNames['renamed'] = []): string =>
  renamed.reduce((text, [old, now]) => text.replace(old, now), name);

/** What a checkpoint may hold besides its model. */
export interface MatchOptions {
  /** Further names that may be left over. */
  readonly ignore?: readonly RegExp[];
  /** Refuse every tensor that is not read, but for those known to be needless; default false: they are named. */
  readonly strict?: boolean | undefined;
  /** Told, in one line, which tensors are not read; default `console.warn`. */
  readonly onNote?: ((note: string) => void) | undefined;
}

const matchOptions = optionsSchema<MatchOptions>({
  ignore: list(instance(RegExp, 'a regular expression'), 'a list of regular expressions'),
  strict: flag,
  onNote: callback(),
});

/** A model's checkpoint, as far as its names and shapes go. */
type Expecting = Pick<ModelConfig, 'family' | 'description'>;

/**
 * Finds the stored tensor of each parameter of a model; several may be parts of one (stored.ts).
 * @returns entries under the parameters' names, in file order.
 * @throws UserError, one line, listing tensors that are missing, of another shape, no floats, or that would change the
 * model's numbers if they were read; its code is `tensor-missing`, `tensor-shape`, `tensor-dtype` or `tensor-extra` for
 * the first of these.
 */
export function matchTensors(
  checkpoint: Pick<Checkpoint, 'name' | 'tensors' | 'unindexed'>,
  config: Expecting,
  options: MatchOptions = {},
): Map<string, TensorEntry> {
  checkOptions('matchTensors', matchOptions, options);
  const { strict = false, onNote = console.warn, ignore = [] } = options;
  const names = config.family.checkpoint;
  const parameters = parametersOf(config.description);
  const expected = storedTensors(parameters);
  const needless = [...(names.needless ?? []), ...ignore];
  const copies = new Map(Object.entries(names.copies ?? {}));
  const ignored = (name: string): boolean =>
    [name, present(name, names.renamed)]
      .flatMap((each) => [each, names.prefix + each])
      .some((each) => needless.some((pattern) => pattern.test(each)) || expected.has(copies.get(each) ?? ''));
  const found = new Map<string, TensorEntry>();
  const entries = new Map<string, TensorEntry>();
  const shape: string[] = [];
  const dtype: string[] = [];
  const spare: string[] = [];
  const meant: string[] = [];
  const computes = partOfComputation(parameters, names);
  for (const [stored, name] of adoptNames(checkpoint.tensors.keys(), names, expected)) {
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
      if (!ignored(stored)) (computes(name) ? meant : spare).push(stored);
      continue;
    }
    found.set(name, entry);
    for (const { parameter } of wanted.parts) entries.set(parameter.name, entry);
    if (wanted.shape.join() !== entry.shape.join())
      shape.push(`${name} is [${entry.shape}], should be [${wanted.shape}]`);
    if (!FLOATS.has(entry.dtype)) dtype.push(`${name} is ${entry.dtype}`);
  }
  const unnamed = checkpoint.unindexed.filter((name) => !ignored(name));
  const missing = [...expected.values()].filter(({ name }) => !found.has(name));
  const reason = missing.length > 0 && whyMissing(missing, config, checkpoint.tensors);
  if (reason) throw new UserError('tensor-missing', `${checkpoint.name}: ${reason}`);
  const faults = [
    { code: 'tensor-missing', title: 'missing', list: missing.map(({ name }) => name) },
    { code: 'tensor-shape', title: 'of another shape than config.json says', list: shape },
    { code: 'tensor-dtype', title: 'not stored as floats', list: dtype },
    { code: 'tensor-extra', title: 'that this architecture does not compute with', list: meant },
    ...(strict || missing.length > 0
      ? [
          { code: 'tensor-extra', title: 'extra', list: spare },
          { code: 'tensor-extra', title: `that ${INDEX} does not name`, list: strict ? unnamed : [] },
        ]
      : []),
  ].filter(({ list }) => list.length > 0);
  if (faults.length > 0) {
    const lines = faults.map(({ title, list }) => `${count(list.length)} ${title}: ${abbreviate(list)}`);
    throw new UserError(faults[0]!.code, `${checkpoint.name}: ${lines.join('; ')}`);
  }
  const tell = (list: readonly string[], why: string) => {
    if (list.length > 0) onNote(`${checkpoint.name}: not read, ${why}: ${abbreviate(list)}`);
  };
  tell(spare, 'as the model has no place for it');
  tell(unnamed, `as ${INDEX} does not name it`);
  return entries;
}

/** What the last part of a name says: a module's tensor that it computes with, in PyTorch's modules. */
const PARAMETER = /\.(weight|bias)$/;
const moduleOf = (name: string): string => name.slice(0, Math.max(0, name.lastIndexOf('.')));

/**
 * Whether a tensor that a model does not expect would have its part in the computation: a parameter inside a layer, a layer
 * that config.json does not count, or whatever hangs on a module whose weight is used (a bias of the head, a scale, a
 * low-rank update).
 */
function partOfComputation(
  parameters: readonly Parameter[],
  { prefix, copies = {} }: CheckpointNames,
): (name: string) => boolean {
  // Those of copies, too: a tied model takes the weight of its head from its embedding.
  const modules = new Set(Object.keys(copies).map(moduleOf));
  for (const { name, kind } of parameters) if (kind !== 'bias') modules.add(moduleOf(storedName(name)));
  const longest = [...modules].reduce((length, module) => Math.max(length, module.length), 0);
  const layers = layerLists(parameters);
  const computes = (name: string): boolean => {
    for (const [list, numbers] of layers) {
      const [, number] = name.startsWith(list)
        ? (/^(\d+)\./.exec(name.slice(list.length, list.length + 20)) ?? [])
        : [];
      if (number !== undefined && (!numbers.has(number) || PARAMETER.test(name))) return true;
    }
    for (let at = name.indexOf('.'); at > 0 && at <= longest; at = name.indexOf('.', at + 1))
      if (modules.has(name.slice(0, at))) return true;
    return false;
  };
  return (name) => computes(name) || computes(prefix + name);
}

/** Lists of layers, by how the names of all that is in one begin, and the numbers that there are: `model.layers.`, 0 and 1. */
function layerLists(parameters: readonly Parameter[]): Map<string, Set<string>> {
  const common = new Map<number, string[]>();
  for (const { stage, name } of parameters) {
    if (typeof stage !== 'number') continue;
    const path = name.split('.');
    const before = common.get(stage) ?? path;
    const end = before.findIndex((part, i) => part !== path[i]);
    common.set(stage, end < 0 ? before : before.slice(0, end));
  }
  const lists = new Map<string, Set<string>>();
  for (const path of common.values()) {
    const at = path.findLastIndex((part) => /^\d+$/.test(part));
    if (at < 0) continue;
    const list = path
      .slice(0, at)
      .map((part) => `${part}.`)
      .join('');
    lists.set(list, (lists.get(list) ?? new Set()).add(path[at]!));
  }
  return lists;
}

/** What the names that are there say of those that are not; undefined where they say nothing. */
function whyMissing(
  missing: readonly StoredTensor[],
  { family, description }: Expecting,
  stored: ReadonlyMap<string, TensorEntry>,
): string | undefined {
  const packed = [...stored.keys()].find((name) => name.endsWith('.qweight'));
  if (packed)
    return `its matrices are packed by GPTQ or AWQ (${shortened(packed)}); quantised checkpoints are not supported, take the float weights`;
  const names = missing.map(({ name }) => name);
  const wrapped = wrapperOf(names, family.checkpoint, stored);
  if (wrapped) return wrapped;
  const { transform, decoder } = description.head;
  const ofHead = missing.every(({ parts }) => parts[0]!.parameter.stage === 'head');
  const instead = `take a checkpoint of ${family.architecture}`;
  if (ofHead && transform && names.includes(storedName(transform.dense.weight)))
    return `is an encoder without the masked-word head (${count(names.length)} missing: ${abbreviate(names)}); ${instead}`;
  if (description.causal && names.length === 1 && names[0] === decoder.weight)
    return `is a decoder without its head (${decoder.weight} is missing, and config.json does not tie it to the embedding); ${instead}`;
  return undefined;
}

/** Where most of what is missing stands behind one more prefix: a wrapper's, or the model's own for the second time. */
function wrapperOf(
  missing: readonly string[],
  { prefix: own }: CheckpointNames,
  stored: ReadonlyMap<string, TensorEntry>,
): string | undefined {
  const bare = (name: string) => (name.startsWith(own) ? name.slice(own.length) : name);
  const first = missing.find((name) => name.startsWith(own));
  if (!first) return undefined;
  const candidates = [...stored.keys()].filter((name) => name.endsWith(`.${bare(first)}`));
  for (const name of candidates.slice(0, 8)) {
    const prefix = name.slice(0, -bare(first).length);
    const outer = prefix.slice(0, -own.length);
    const there = missing.filter((each) => stored.has(prefix + bare(each)) || stored.has(outer + each));
    if (2 * there.length < missing.length) continue;
    const fault =
      prefix === own.repeat(2)
        ? `its tensors' names have the prefix ${JSON.stringify(own)} twice`
        : `its tensors' names begin with ${JSON.stringify(shortened(prefix))}`;
    return `${fault} (${shortened(name)} for ${first}); save the model itself, not what it is wrapped in, or rename them`;
  }
  return undefined;
}

function count(tensors: number): string {
  return tensors === 1 ? '1 tensor' : `${tensors} tensors`;
}

function abbreviate(list: readonly string[], most = 8): string {
  const rest = list.length - most;
  return list.slice(0, most).map(shortened).join(', ') + (rest > 0 ? ` and ${rest} more` : '');
}
