/**
 * The GGUF format: metadata by key, then the names, shapes and places of tensors, then their bytes.
 *
 * Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. A file comes from strangers, so no length or count in
 * it is believed before it is held against what is left of the file: a text, list or tensor that says it is longer than that is
 * refused before anything is made for it. Only the header is read.
 *
 * A reader of our own: `@huggingface/gguf` checks neither lengths nor counts, and a walk that checks them all has read the header.
 */

import { UserError } from '../../engine/errors.ts';
import { show } from '../../engine/options.ts';
import type { ByteSource } from '../byteSource.ts';
import { POINTER_LIMIT, refusePointer } from '../lfsPointer.ts';
import { BLOCKS, type BlockFormat } from './blocks.ts';

/** A value of the metadata; 64-bit integers beyond 2^53 are refused. */
export type GgufValue = string | number | boolean | readonly GgufValue[];

/** One tensor of a file; `begin` and `end` are positions in it. The last axis lies contiguous, as in safetensors. */
export interface GgufTensor {
  readonly name: string;
  readonly format: BlockFormat;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

export interface GgufHeader {
  readonly metadata: ReadonlyMap<string, GgufValue>;
  /** In file order. */
  readonly tensors: ReadonlyMap<string, GgufTensor>;
}

/** Bytes: larger than any vocabulary's, small enough to hold. */
const HEADER_LIMIT = 256 * 2 ** 20;
/** Bytes that are read at a time. */
const PIECE = 2 ** 20;
const MOST_AXES = 4;
/** Values of all lists together: some vocabularies with their scores, kinds and merges. */
const MOST_VALUES = 2 ** 24;

/** Formats of ggml by number: those that are read, and those that are known by name. */
const FORMATS: Readonly<Record<number, string>> = {
  0: 'F32',
  1: 'F16',
  2: 'Q4_0',
  3: 'Q4_1',
  6: 'Q5_0',
  7: 'Q5_1',
  8: 'Q8_0',
  9: 'Q8_1',
  10: 'Q2_K',
  11: 'Q3_K',
  12: 'Q4_K',
  13: 'Q5_K',
  14: 'Q6_K',
  15: 'Q8_K',
  16: 'IQ2_XXS',
  17: 'IQ2_XS',
  18: 'IQ3_XXS',
  19: 'IQ1_S',
  20: 'IQ4_NL',
  21: 'IQ3_S',
  22: 'IQ2_S',
  23: 'IQ4_XS',
  24: 'I8',
  25: 'I16',
  26: 'I32',
  27: 'I64',
  28: 'F64',
  29: 'IQ1_M',
  30: 'BF16',
  34: 'TQ1_0',
  35: 'TQ2_0',
  39: 'MXFP4',
};

/** Reads and checks the header of an open file. @throws UserError `gguf` naming file, key or tensor, `lfs-pointer`. */
export async function readGgufHeader(source: ByteSource): Promise<GgufHeader> {
  const { name: file, size } = source;
  if (size < POINTER_LIMIT) refusePointer(file, new TextDecoder().decode(await source.read(0, size)));
  const reader = new HeaderReader(source);
  if ((await reader.bytes(4)).join() !== '71,71,85,70')
    throw bad(file, 'does not begin with GGUF; is this a GGUF file?');
  const version = await reader.u32();
  if (version >= 2 ** 24) throw bad(file, 'is big-endian; take a little-endian one');
  if (version !== 2 && version !== 3) throw bad(file, `is of version ${version}; 2 and 3 are read`);
  // A tensor takes 24 bytes or more, a pair 13.
  const tensorCount = await reader.count('its number of tensors', 24);
  const pairCount = await reader.count('its number of metadata pairs', 13);
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < pairCount; i++) {
    const key = await reader.text(`metadata key ${i}`);
    if (metadata.has(key)) throw bad(file, `has metadata ${show(key)} twice`);
    metadata.set(key, await reader.value(await reader.u32(), key));
  }
  const alignment = metadata.get('general.alignment') ?? 32;
  if (
    typeof alignment !== 'number' ||
    !(alignment >= 1 && alignment <= 2 ** 16 && Number.isInteger(Math.log2(alignment)))
  )
    throw bad(file, `general.alignment is ${show(alignment)}, no power of two`);
  const spans: (Omit<GgufTensor, 'begin' | 'end'> & { readonly offset: number; readonly bytes: number })[] =
    [];
  const names = new Set<string>();
  for (let i = 0; i < tensorCount; i++) {
    const name = await reader.text(`the name of tensor ${i}`);
    if (names.has(name)) throw bad(file, `has tensor ${show(name)} twice`);
    names.add(name);
    spans.push({ name, ...(await tensorInfo(reader, file, name)) });
  }
  const data = Math.ceil(reader.at / alignment) * alignment;
  spans.sort((a, b) => a.offset - b.offset || a.bytes - b.bytes);
  const tensors = new Map<string, GgufTensor>();
  let reached = data;
  for (const { name, format, shape, offset, bytes } of spans) {
    const [begin, end] = [data + offset, data + offset + bytes];
    if (offset % alignment !== 0)
      throw bad(file, `tensor ${show(name)} begins at no multiple of ${alignment}`);
    if (begin < reached) throw bad(file, `tensor ${show(name)} overlaps the one before it`);
    if (end > size)
      throw bad(file, `tensor ${show(name)} ends at byte ${end}, but the file has ${size} (truncated?)`);
    tensors.set(name, { name, format, shape, begin, end });
    reached = end;
  }
  return { metadata, tensors };
}

/** What stands of a tensor after its name. */
async function tensorInfo(reader: HeaderReader, file: string, name: string) {
  const fail = (what: string): UserError => bad(file, `tensor ${show(name)} ${what}`);
  const axes = await reader.u32();
  if (axes > MOST_AXES) throw fail(`has ${axes} axes; at most ${MOST_AXES} are possible`);
  const shape: number[] = [];
  for (let i = 0; i < axes; i++) shape.unshift(await reader.u64(`the shape of ${show(name)}`));
  const type = await reader.u32();
  const known = FORMATS[type];
  if (known === undefined || !Object.hasOwn(BLOCKS, known))
    throw fail(
      `is stored as ${known ?? `type ${type}`}, which is not read here; take a file in ${Object.keys(BLOCKS).join(', ')} (such as Q4_K_M, Q6_K or Q8_0)`,
    );
  const format = known as BlockFormat;
  const { elements, bytes } = BLOCKS[format];
  const offset = await reader.u64(`the place of ${show(name)}`);
  const count = shape.reduce((product, length) => product * length, 1);
  const row = shape.at(-1) ?? 1;
  if (row % elements !== 0)
    throw fail(`has rows of ${row} numbers, no multiple of ${elements} as ${format} has them`);
  const size = (count / elements) * bytes;
  if (!Number.isSafeInteger(size) || !Number.isSafeInteger(offset + size))
    throw fail(`with shape [${shape}] is too large`);
  return { format, shape, offset, bytes: size };
}

/** Reads on through a file, in pieces. */
class HeaderReader {
  readonly #source: ByteSource;
  // A byte order mark is a part of some tokens.
  readonly #text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  #piece: Uint8Array = new Uint8Array(0);
  /** Where in the file the piece begins. */
  #begin = 0;
  /** Where it is read on. */
  at = 0;
  #values = 0;

  constructor(source: ByteSource) {
    this.#source = source;
  }

  get #left(): number {
    return Math.min(this.#source.size, HEADER_LIMIT) - this.at;
  }

  async bytes(count: number): Promise<Uint8Array> {
    if (count > this.#left)
      throw this.at + count > this.#source.size
        ? bad(
            this.#source.name,
            `ends inside its header (byte ${this.at + count} wanted, ${this.#source.size} there)`,
          )
        : bad(this.#source.name, `has a header of more than ${HEADER_LIMIT} bytes`);
    const inside = this.at - this.#begin;
    if (inside + count > this.#piece.length) {
      const end = Math.min(this.#source.size, this.at + Math.max(count, PIECE));
      this.#piece = await this.#source.read(this.at, end);
      this.#begin = this.at;
    }
    const from = this.at - this.#begin;
    this.at += count;
    return this.#piece.subarray(from, from + count);
  }

  async #view(count: number): Promise<DataView> {
    const { buffer, byteOffset, byteLength } = await this.bytes(count);
    return new DataView(buffer, byteOffset, byteLength);
  }

  async u32(): Promise<number> {
    return (await this.#view(4)).getUint32(0, true);
  }

  /** @param what for the error. */
  async u64(what: string): Promise<number> {
    const value = (await this.#view(8)).getBigUint64(0, true);
    if (value > BigInt(Number.MAX_SAFE_INTEGER))
      throw bad(this.#source.name, `${what} has ${value}, more than can be`);
    return Number(value);
  }

  /** How many of something follow, each of at least so many bytes. */
  async count(what: string, least: number): Promise<number> {
    const count = await this.u64(what);
    if (count * least > this.#left)
      throw bad(this.#source.name, `${what} is ${count}, more than the rest of the file has room for`);
    return count;
  }

  async text(what: string): Promise<string> {
    const bytes = await this.bytes(await this.count(`the length of ${what}`, 1));
    try {
      return this.#text.decode(bytes);
    } catch (cause) {
      throw bad(this.#source.name, `${what} is not UTF-8`, cause);
    }
  }

  /** A text that lies whole in the piece at hand: lists of them are long. */
  #textHere(): string | undefined {
    const inside = this.at - this.#begin;
    const { buffer, byteOffset, length } = this.#piece;
    if (inside < 0 || inside + 8 > length) return undefined;
    const count = new DataView(buffer, byteOffset + inside, 8).getBigUint64(0, true);
    if (count > BigInt(length - inside - 8)) return undefined;
    const end = inside + 8 + Number(count);
    try {
      const text = this.#text.decode(this.#piece.subarray(inside + 8, end));
      this.at = this.#begin + end;
      return text;
    } catch {
      return undefined;
    }
  }

  #scalar(value: number | bigint | boolean, key: string): number | boolean {
    if (typeof value !== 'bigint') return value;
    if (value > Number.MAX_SAFE_INTEGER || value < Number.MIN_SAFE_INTEGER)
      throw bad(this.#source.name, `metadata ${show(key)} is ${value}, more than can be`);
    return Number(value);
  }

  /** A value of the type of this number. */
  async value(type: number, key: string, depth = 0): Promise<GgufValue> {
    const scalar = SCALARS[type];
    if (scalar) return this.#scalar(scalar.read(await this.#view(scalar.bytes), 0), key);
    if (type === STRING) return this.text(`metadata ${show(key)}`);
    if (type !== ARRAY || depth > 1)
      throw bad(this.#source.name, `metadata ${show(key)} is of the unknown type ${type}`);
    const of = await this.u32();
    const count = await this.count(`the length of metadata ${show(key)}`, SCALARS[of]?.bytes ?? 8);
    this.#values += count;
    if (this.#values > MOST_VALUES)
      throw bad(this.#source.name, `has lists of more than ${MOST_VALUES} values`);
    const values: GgufValue[] = [];
    const each = SCALARS[of];
    if (each) {
      const most = PIECE / each.bytes;
      for (let left = count; left > 0; left -= most) {
        const some = Math.min(left, most);
        const view = await this.#view(some * each.bytes);
        for (let i = 0; i < some; i++) values.push(this.#scalar(each.read(view, i * each.bytes), key));
      }
      return values;
    }
    for (let i = 0; i < count; i++)
      values.push((of === STRING ? this.#textHere() : undefined) ?? (await this.value(of, key, depth + 1)));
    return values;
  }
}

const STRING = 8;
const ARRAY = 9;
const SCALARS: Readonly<
  Record<
    number,
    { readonly bytes: number; readonly read: (view: DataView, at: number) => number | bigint | boolean }
  >
> = {
  0: { bytes: 1, read: (view, at) => view.getUint8(at) },
  1: { bytes: 1, read: (view, at) => view.getInt8(at) },
  2: { bytes: 2, read: (view, at) => view.getUint16(at, true) },
  3: { bytes: 2, read: (view, at) => view.getInt16(at, true) },
  4: { bytes: 4, read: (view, at) => view.getUint32(at, true) },
  5: { bytes: 4, read: (view, at) => view.getInt32(at, true) },
  6: { bytes: 4, read: (view, at) => view.getFloat32(at, true) },
  7: { bytes: 1, read: (view, at) => view.getUint8(at) !== 0 },
  10: { bytes: 8, read: (view, at) => view.getBigUint64(at, true) },
  11: { bytes: 8, read: (view, at) => view.getBigInt64(at, true) },
  12: { bytes: 8, read: (view, at) => view.getFloat64(at, true) },
};

const bad = (file: string, what: string, cause?: unknown): UserError =>
  new UserError('gguf', `${file}: ${what}`, { cause });
