/**
 * One large file from elsewhere, safely onto this disk: it goes on where an earlier try broke off, gets its name only
 * after its hash was right, and the many processes of a sharded run share one download through a lock.
 */

import { UserError } from '../engine/errors.ts';
import { failureCode, sleep } from './retry.ts';

export interface RemoteBlob {
  /** For messages. */
  readonly name: string;
  /** In bytes. */
  readonly size: number;
  /** sha256 (64 hexadecimal digits, as Git LFS) or git's sha1 of a blob (40). */
  readonly hash: string;
  /** What is there under its name is not what it should be, whatever its size. */
  readonly damaged?: boolean;
  /** First pause in milliseconds after a try that brought nothing, doubled each time; default 500. */
  readonly pause?: number | undefined;
  /**
   * The bytes from `begin` on, or, where the server cannot do that, from an earlier one; may break off.
   * @throws UserError where another try would end the same way.
   */
  stream(begin: number): Promise<RemoteBytes>;
}

/** Bytes on their way, the first of which is the file's byte `begin`. */
export interface RemoteBytes {
  readonly begin: number;
  readonly pieces: AsyncIterable<Uint8Array>;
}

/** An answer that is not the file, in words for the user; another try may bring it. */
export class OtherAnswer extends Error {}

/** Tries in a row that bring no byte before giving up. */
const ATTEMPTS = 5;

/** Where the bytes of an unfinished download lie. */
export function partialPath(path: string): string {
  return `${path}.neurgrad-incomplete`;
}

/**
 * Downloads to `path` unless it is there, whole (Node); one that was cut off is gone on with.
 * @param report called with the bytes that are there so far.
 * @throws UserError as `stream`, or where it breaks off too often, the hash is wrong twice, or the disk refuses.
 */
export async function downloadBlob(
  path: string,
  remote: RemoteBlob,
  report: (bytes: number) => void,
): Promise<void> {
  const { putInPlace, remove } = await import('../engine/disk.ts');
  const { stat } = await import('node:fs/promises');
  await withLock(`${path}.neurgrad-lock`, async () => {
    const partial = partialPath(path);
    const there = await stat(path).catch(() => undefined);
    if (there?.size === remote.size && !remote.damaged) return;
    if (there && there.size < remote.size) putInPlace(path, partial);
    else if (there) remove(path);
    // Where the hash is wrong, what an earlier start left may be at fault: once more from the beginning.
    for (let round = 0; round < 2; round++) {
      await fill(partial, remote, report);
      if ((await hashOf(partial, remote.hash.length)) === remote.hash) return putInPlace(partial, path);
      remove(partial);
    }
    throw new UserError('hub', `${remote.name}: arrives damaged (its hash is wrong); try again later`);
  });
}

/** Appends to what is there until all bytes are. */
async function fill(partial: string, remote: RemoteBlob, report: (bytes: number) => void): Promise<void> {
  const { GrowingFile } = await import('../engine/disk.ts');
  using file = new GrowingFile(partial);
  let { size } = file;
  for (let fruitless = 0; size < remote.size; ) {
    const begin = size;
    try {
      const from = await remote.stream(begin);
      let known = begin - from.begin;
      for await (const whole of from.pieces) {
        // What is there already comes once more from a server that knows no ranges.
        const piece = whole.subarray(Math.min(known, whole.byteLength));
        known -= whole.byteLength - piece.byteLength;
        if (piece.byteLength === 0) continue;
        file.append(piece);
        size += piece.byteLength;
        report(Math.min(size, remote.size));
        // More than was promised: the hash will tell.
        if (size > remote.size) break;
      }
      if (size === begin) throw new TypeError('nothing came');
    } catch (cause) {
      if (cause instanceof UserError) throw cause;
      fruitless = size > begin ? 1 : fruitless + 1;
      if (fruitless >= ATTEMPTS) throw brokenOff(remote.name, size, remote.size, cause);
      await sleep((remote.pause ?? 500) * 2 ** (fruitless - 1));
    }
  }
  file.flush();
}

function brokenOff(name: string, size: number, all: number, cause: unknown): UserError {
  // Of foreign errors the code alone: their words may hold what was sent.
  const why = cause instanceof OtherAnswer ? cause.message : failureCode(cause);
  return new UserError(
    'hub-unreachable',
    `${name}: the download broke off at byte ${size} of ${all}${why && ` (${why})`}; start it again to go on`,
    { cause },
  );
}

/** The sha256 of a file (64 digits), or git's sha1 of it as a blob (40). */
export async function hashOf(path: string, digits: number): Promise<string> {
  const { createHash } = await import('node:crypto');
  const { createReadStream } = await import('node:fs');
  const { stat } = await import('node:fs/promises');
  const hash = createHash(digits === 64 ? 'sha256' : 'sha1');
  if (digits === 40) hash.update(`blob ${(await stat(path)).size}\0`);
  for await (const piece of createReadStream(path, { highWaterMark: 2 ** 20 })) hash.update(piece);
  return hash.digest('hex');
}

/** Runs `work` while no other process does under the same path. */
async function withLock(path: string, work: () => Promise<void>): Promise<void> {
  const { Lock } = await import('../engine/lock.ts');
  let lock = Lock.attempt(path);
  for (; typeof lock === 'string'; lock = Lock.attempt(path)) await sleep(200);
  using _ = lock;
  await work();
}
