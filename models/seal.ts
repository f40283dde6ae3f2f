/**
 * Seals (Node alone): a file that this project writes and reads again carries the sha256 of its own bytes, the digest's
 * characters taken as zeros. It is looked at before anything else of the file is believed: one byte that a disk, a transfer or
 * an editor has changed is told from what was written, whatever the format. Anybody can seal a file, so what it says is checked
 * as well.
 */

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { fileError, UserError } from '../engine/errors.ts';
import type { ByteSource } from './byteSource.ts';
import { parseJson } from './json.ts';
import { refusePointer } from './lfsPointer.ts';

const WORDS = 'sha256 of this file with zeros here: ';
const ZEROS = '0'.repeat(64);
/** What stands in a file where its seal is to be. */
export const UNSEALED = WORDS + ZEROS;
/** A seal stands among the first bytes of a file, or in formats whose metadata come last, anywhere. */
const BEGINNING = 4096;
/** Node hashes less than 2 GiB at once. */
const PIECE = 64 * 2 ** 20;

/** A file that is not as it was written; the message says how. */
export class DamagedFile extends UserError {
  override readonly name: string = 'DamagedFile';
  /** The file. */
  readonly path: string;
  constructor(path: string, what: string, cause?: unknown) {
    super('damaged', `${path}: ${what}`, { cause });
    this.path = path;
  }
}

/** Where a seal may stand: formats with metadata at their end have it behind anything that looks like one. */
type Place = 'first' | 'last';

/** Where the digest's characters stand, or -1. */
function digestAt(file: Buffer, place: Place): number {
  const seal =
    place === 'last'
      ? file.lastIndexOf(WORDS, undefined, 'latin1')
      : file.subarray(0, BEGINNING).indexOf(WORDS, 0, 'latin1');
  const at = seal + WORDS.length;
  return seal < 0 || at + ZEROS.length > file.length ? -1 : at;
}

/** The digest of a file that is being written or read, piece by piece, zeros in the place of its own. */
export class Digest {
  readonly #hash = createHash('sha256');
  #begun = false;
  /** Where the digest belongs; -1 where the first piece has no seal. */
  at = -1;

  /** @param piece what follows; the first must hold the seal. */
  add(piece: Uint8Array, place: Place = 'first'): void {
    let rest = Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength);
    if (!this.#begun) {
      this.#begun = true;
      this.at = digestAt(rest, place);
      if (this.at >= 0) {
        this.#hash.update(rest.subarray(0, this.at)).update(ZEROS);
        rest = rest.subarray(this.at + ZEROS.length);
      }
    }
    for (let begin = 0; begin < rest.length; begin += PIECE)
      this.#hash.update(rest.subarray(begin, begin + PIECE));
  }

  /** Sixty-four characters, of all that was added. */
  text(): string {
    return this.#hash.digest('hex');
  }
}

/** Puts the seal into a file's bytes, which hold {@link UNSEALED}. */
export function seal(file: Buffer, place: Place = 'first'): Buffer {
  const digest = new Digest();
  digest.add(file, place);
  if (digest.at < 0) throw new RangeError('a file without room for a digest cannot be sealed');
  file.write(digest.text(), digest.at, 'latin1');
  return file;
}

const noSeal = (path: string): DamagedFile =>
  new DamagedFile(path, 'is cut short, damaged or of another version of neurgrad (it has no digest)');
const changed = (path: string): DamagedFile =>
  new DamagedFile(path, 'is damaged or has been changed (its bytes are not those of its digest)');

/** @returns the digest. @throws DamagedFile where the bytes are not those that were sealed. */
export function checkSeal(path: string, file: Buffer, place: Place = 'first'): string {
  const digest = new Digest();
  digest.add(file, place);
  const { at } = digest;
  if (at < 0) throw noSeal(path);
  const text = digest.text();
  if (file.toString('latin1', at, at + ZEROS.length) !== text) throw changed(path);
  return text;
}

/** The same for a file that may be larger than memory. @throws DamagedFile */
export async function checkSourceSeal(source: ByteSource): Promise<void> {
  const digest = new Digest();
  let said = '';
  for (let begin = 0; begin < source.size; begin += PIECE) {
    const piece = await source.read(begin, Math.min(begin + PIECE, source.size));
    digest.add(piece);
    const { at } = digest;
    if (begin > 0) continue;
    if (at < 0) throw noSeal(source.name);
    said = Buffer.from(piece.subarray(at, at + ZEROS.length)).toString('latin1');
  }
  if (said !== digest.text()) throw source.size === 0 ? noSeal(source.name) : changed(source.name);
}

/** JSON as a sealed file's text. @param text of an object that begins with the field {@link SEALED}. */
export const sealJson = (text: string): Buffer => seal(Buffer.from(text));

/** The field of a sealed JSON document, to stand before its others. */
export const SEALED = { digest: UNSEALED } as const;

/** A sealed JSON document, not yet checked against a schema. @throws UserError where it cannot be read, DamagedFile */
export function readSealedJson(path: string, code: string): unknown {
  let file: Buffer;
  try {
    file = readFileSync(path);
  } catch (cause) {
    throw fileError(path, cause);
  }
  if (file.length < BEGINNING) refusePointer(path, file.toString());
  checkSeal(path, file);
  return parseJson(file.toString(), path, code);
}

/** JSON with sorted keys. */
export function canonical(value: unknown): string {
  return JSON.stringify(value, (_, part) =>
    part !== null && typeof part === 'object' && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1)))
      : part,
  );
}

/** sha256 of a value, whatever the order of its fields: what files of one run have in common. */
export const digestOf = (value: unknown): string =>
  createHash('sha256').update(canonical(value)).digest('hex');
