/**
 * The safetensors format: 8 bytes of header length (little-endian), a JSON header, then the tensors' bytes.
 *
 * Source: https://github.com/huggingface/safetensors (README, "Format") and its Rust validator. A file comes from
 * strangers, so nothing in its header is believed before it is checked: tensors must fill the data exactly, without
 * overlap or hole, and no two may share a name (JSON.parse would silently keep the last).
 *
 * Alignment is not asked for: files written before 2023 have headers of any length, and reads here copy by position.
 */

import { UserError } from '../engine/errors.ts';
import { show } from '../engine/options.ts';
import type { ByteSource } from './byteSource.ts';
import { POINTER_LIMIT, refusePointer } from './lfsPointer.ts';

/** Bytes of one element. F8 types are recognised, so that an error can name them, but nothing here decodes them. */
export const DTYPE_BYTES = {
  F64: 8,
  I64: 8,
  U64: 8,
  F32: 4,
  I32: 4,
  U32: 4,
  F16: 2,
  BF16: 2,
  I16: 2,
  U16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
} as const;

export type Dtype = keyof typeof DTYPE_BYTES;

/** One tensor of a file; `begin` and `end` are positions in the file (not in its data part). */
export interface TensorSpan<Known extends string = Dtype> {
  readonly name: string;
  readonly dtype: Known;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

export interface SafetensorsHeader {
  /** In file order. */
  readonly tensors: readonly TensorSpan[];
  readonly metadata: Readonly<Record<string, string>>;
}

/** As the reference implementation. */
const HEADER_LIMIT = 100_000_000;

/** Reads and validates the header of an open file. @throws UserError `safetensors` naming file and tensor, `lfs-pointer`. */
export async function readSafetensorsHeader(source: ByteSource): Promise<SafetensorsHeader> {
  const { name, size } = source;
  if (size < POINTER_LIMIT) refusePointer(name, new TextDecoder().decode(await source.read(0, size)));
  if (size < 8) throw bad(name, `has ${size} bytes, too few for a safetensors file`);
  const lead = await source.read(0, 8);
  const length = new DataView(lead.buffer, lead.byteOffset, 8).getBigUint64(0, true);
  if (length > BigInt(HEADER_LIMIT)) {
    throw bad(
      name,
      `says its header has ${length} bytes, more than ${HEADER_LIMIT}; is this a safetensors file?`,
    );
  }
  const dataBegin = 8 + Number(length);
  if (dataBegin > size) throw bad(name, `ends inside its header (${size} of ${dataBegin} bytes)`);
  return parseHeader(await source.read(8, dataBegin), name, dataBegin, size);
}

function parseHeader(bytes: Uint8Array, file: string, dataBegin: number, size: number): SafetensorsHeader {
  const entries = parseObject(bytes, file);
  let metadata: Record<string, string> = {};
  const tensors: TensorSpan[] = [];
  for (const [name, entry] of entries) {
    if (name === '__metadata__') metadata = checkMetadata(entry, file);
    else tensors.push(checkTensor(name, entry, file, dataBegin));
  }
  // Empty tensors share their position with a neighbour, hence the second key.
  tensors.sort((a, b) => a.begin - b.begin || a.end - b.end);
  let reached = dataBegin;
  for (const { name, begin, end } of tensors) {
    if (end > size) {
      throw bad(file, `tensor ${quote(name)} ends at byte ${end}, but the file has ${size} (truncated?)`);
    }
    if (begin < reached) throw bad(file, `tensor ${quote(name)} overlaps the one before it`);
    if (begin > reached) {
      throw bad(file, `${begin - reached} bytes before tensor ${quote(name)} belong to none`);
    }
    reached = end;
  }
  if (reached !== size) throw bad(file, `${size - reached} bytes at the end belong to no tensor`);
  return { tensors, metadata };
}

function parseObject(bytes: Uint8Array, file: string): [string, unknown][] {
  let text: string;
  let value: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
    value = JSON.parse(text);
  } catch (cause) {
    throw bad(file, 'its header is not JSON', cause);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw bad(file, 'its header is not a JSON object');
  }
  const twice = duplicateKey(text);
  if (twice !== undefined) throw bad(file, `its header has ${quote(twice)} twice`);
  return Object.entries(value);
}

function checkMetadata(value: unknown, file: string): Record<string, string> {
  const isObject = typeof value === 'object' && value !== null && !Array.isArray(value);
  if (!isObject || Object.values(value).some((text) => typeof text !== 'string')) {
    throw bad(file, 'its __metadata__ is not an object of strings');
  }
  return { ...(value as Record<string, string>) };
}

function checkTensor(name: string, value: unknown, file: string, dataBegin: number): TensorSpan {
  const fail = (what: string) => bad(file, `tensor ${quote(name)} ${what}`);
  if (typeof value !== 'object' || value === null) throw fail('is not an object');
  const { dtype, shape, data_offsets: offsets } = value as Record<string, unknown>;
  if (typeof dtype !== 'string' || !Object.hasOwn(DTYPE_BYTES, dtype)) {
    throw fail(`has the unknown dtype ${quote(dtype)}`);
  }
  if (!isNaturals(shape)) throw fail(`has the shape ${quote(shape)}, not an array of whole numbers`);
  if (!isNaturals(offsets) || offsets.length !== 2) {
    throw fail(`has the data_offsets ${quote(offsets)}, not two whole numbers`);
  }
  const [begin, end] = offsets as [number, number];
  if (begin > end) throw fail(`has reversed data_offsets ${quote(offsets)}`);
  const elements = shape.includes(0) ? 0 : shape.reduce((product, length) => product * length, 1);
  const bytes = elements * DTYPE_BYTES[dtype as Dtype];
  if (!Number.isSafeInteger(bytes) || !Number.isSafeInteger(dataBegin + end)) {
    throw fail(`with shape ${quote(shape)} is too large`);
  }
  if (bytes !== end - begin) {
    throw fail(`is ${dtype} ${quote(shape)}, ${bytes} bytes, but its data_offsets span ${end - begin}`);
  }
  return { name, dtype: dtype as Dtype, shape, begin: dataBegin + begin, end: dataBegin + end };
}

function isNaturals(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((each) => Number.isSafeInteger(each) && each >= 0);
}

/**
 * The first key that stands twice in one object of `text`, at any depth; `text` must be valid JSON.
 * Keys are compared after unescaping: "a" and "\u0061" are the same.
 */
export function duplicateKey(text: string): string | undefined {
  // One entry a nesting level: the keys seen there, or undefined in an array.
  const open: (Set<string> | undefined)[] = [];
  let expectKey = false;
  for (let at = 0; at < text.length; at++) {
    switch (text[at]) {
      case '{':
        open.push(new Set());
        expectKey = true;
        break;
      case '[':
        open.push(undefined);
        expectKey = false;
        break;
      case '}':
      case ']':
        open.pop();
        break;
      case ',':
        expectKey = open.at(-1) !== undefined;
        break;
      case '"': {
        const begin = at++;
        while (text[at] !== '"') at += text[at] === '\\' ? 2 : 1;
        if (!expectKey) break;
        expectKey = false;
        const key = JSON.parse(text.slice(begin, at + 1)) as string;
        const keys = open.at(-1);
        if (keys?.has(key)) return key;
        keys?.add(key);
      }
    }
  }
  return undefined;
}

/** What can be written, with its dtype. */
export type Writable = Float32Array | Float64Array | Int32Array;

/** A tensor to write. `data` may be a function that fetches it, called when its turn comes, one tensor at a time. */
export interface TensorToWrite {
  readonly name: string;
  readonly dtype: 'F32' | 'F64' | 'I32';
  readonly shape: readonly number[];
  readonly data: Writable | (() => Writable | Promise<Writable>);
}

/**
 * Writes a safetensors file (Node) in a fixed order: wider dtypes first, then by name, as the reference implementation.
 * The file appears under `path` only when it is whole.
 * @param sealed whether it carries its own digest, which a reader of ours checks (seal.ts).
 * @returns the digest of a sealed file, else null.
 * @throws UserError `safetensors` for bad tensors (name twice, wrong length), `file` where the disk refuses.
 */
export async function writeSafetensors(
  path: string,
  tensors: Iterable<TensorToWrite>,
  metadata: Readonly<Record<string, string>> = {},
  sealed = false,
): Promise<string | null> {
  const { stat } = await import('node:fs/promises');
  const there = await stat(path).catch(() => null);
  if (there && !there.isFile()) throw bad(path, 'is not a regular file; name another');
  const sorted = [...tensors].sort(
    (a, b) => DTYPE_BYTES[b.dtype] - DTYPE_BYTES[a.dtype] || (a.name < b.name ? -1 : 1),
  );
  const { Digest, SEALED } = await import('./seal.ts');
  const header = headerBytes(path, sorted, sealed ? { ...SEALED, ...metadata, ...SEALED } : metadata);
  const { WholeFile } = await import('../engine/disk.ts');
  using file = new WholeFile(path);
  const digest = sealed ? new Digest() : null;
  const write = (bytes: Uint8Array): void => {
    digest?.add(bytes);
    file.write(bytes);
  };
  write(header);
  for (const tensor of sorted) {
    const data = typeof tensor.data === 'function' ? await tensor.data() : tensor.data;
    checkData(path, tensor, data);
    write(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  }
  const text = digest?.text() ?? null;
  if (digest && text !== null) file.write(text, digest.at);
  file.keep();
  return text;
}

function headerBytes(
  path: string,
  tensors: readonly TensorToWrite[],
  metadata: Readonly<Record<string, string>>,
): Uint8Array {
  // Pairs, not an object: an object would move names that look like numbers to the front.
  const pairs: string[] = [];
  const names = new Set(['__metadata__']);
  const pair = (key: string, value: unknown) => pairs.push(`${JSON.stringify(key)}:${JSON.stringify(value)}`);
  if (Object.keys(metadata).length > 0) pair('__metadata__', metadata);
  let offset = 0;
  for (const { name, dtype, shape } of tensors) {
    if (names.has(name)) throw bad(path, `tensor ${quote(name)} may not be written (a name used twice)`);
    if (!isNaturals(shape)) throw bad(path, `tensor ${quote(name)} has the shape ${quote(shape)}`);
    names.add(name);
    const end = offset + shape.reduce((product, length) => product * length, 1) * DTYPE_BYTES[dtype];
    pair(name, { dtype, shape, data_offsets: [offset, end] });
    offset = end;
  }
  const json = new TextEncoder().encode(`{${pairs.join(',')}}`);
  // Spaces up to a multiple of 8, so that readers that map the file find their numbers aligned.
  const bytes = new Uint8Array(8 + Math.ceil(json.length / 8) * 8).fill(0x20);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(bytes.length - 8), true);
  bytes.set(json, 8);
  return bytes;
}

function checkData(path: string, { name, dtype, shape }: TensorToWrite, data: Writable): void {
  const elements = shape.reduce((product, length) => product * length, 1);
  const kind = data instanceof Float32Array ? 'F32' : data instanceof Float64Array ? 'F64' : 'I32';
  if (kind !== dtype || data.length !== elements) {
    throw bad(
      path,
      `tensor ${quote(name)} is ${dtype} ${quote(shape)} but its data are ${data.length} ${kind}`,
    );
  }
}

/** Text for a message, cut where a hostile file made it long. */
export const shortened = (text: string): string => (text.length > 200 ? `${text.slice(0, 200)}…` : text);

/** JSON for a message. */
function quote(value: unknown): string {
  try {
    return shortened(JSON.stringify(value) ?? 'nothing');
  } catch {
    // Nests too deep.
    return show(value);
  }
}

function bad(file: string, what: string, cause?: unknown): UserError {
  return new UserError('safetensors', `${file}: ${what}`, { cause });
}
