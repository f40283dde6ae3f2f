/**
 * Locks (Node alone): one process at a time works in a folder. A lock is a file that says which one; that of a process that
 * has ended, however it ended, holds nobody up.
 */

import { linkSync, readFileSync, renameSync, rmSync, statSync, utimesSync } from 'node:fs';
import { hostname } from 'node:os';
import { BIRTH, isAtWork, NAMESPACE } from './atWork.ts';
import { attempt, createWhole, nameBeside } from './disk.ts';
import { UserError } from './errors.ts';

interface Holder {
  readonly pid: number;
  readonly host: string;
  readonly space?: string | null;
  readonly birth: string | null;
}

/** A lock is touched this often, and one of another machine that was not touched for so long is a dead process's. */
const BEAT_SECONDS = 25;
const STALE_SECONDS = 100;
/** So long a lock may be without its text, on a disk on which it cannot appear whole. */
const BEGIN_SECONDS = 2;

/** A lock's text as this file writes it: anything may stand in a file. */
function isHolder(holder: Holder | null): holder is Holder {
  if (typeof holder !== 'object' || holder === null) return false;
  const { pid, host, space, birth } = holder;
  const named = [host, space ?? '', birth ?? ''].every((text) => typeof text === 'string');
  return named && Number.isSafeInteger(pid) && pid > 0;
}

const readLock = (path: string): string | null => attempt(() => readFileSync(path, 'utf8'));

/** Who holds a lock, as a message names it; null where nobody does, or a process that is gone. */
export function lockHolder(path: string): string | null {
  const text = readLock(path);
  if (text === null) return null;
  const age = (Date.now() - (attempt(() => statSync(path).mtimeMs) ?? 0)) / 1000;
  const holder = attempt(() => JSON.parse(text) as Holder | null);
  if (!isHolder(holder)) return age < BEGIN_SECONDS ? 'that has just begun' : null;
  const { pid, host, space, birth } = holder;
  const fresh = age < STALE_SECONDS;
  if (host === hostname() && (space ?? NAMESPACE) === NAMESPACE)
    return isAtWork(pid, birth) && (birth !== null || fresh) ? `${pid}` : null;
  return fresh ? `${pid} on ${host}` : null;
}

/** Removes a lock that nobody holds. Where another process has just taken it, that one keeps it. */
export function clearLock(path: string): void {
  const text = readLock(path);
  if (text === null || lockHolder(path) !== null) return;
  const aside = nameBeside(path, 'tmp');
  try {
    renameSync(path, aside);
    if (readLock(aside) !== text) linkSync(aside, path);
  } catch {
    // Another process was faster.
  } finally {
    attempt(() => rmSync(aside, { force: true }));
  }
}

/** @param what is locked. */
export const busy = (what: string, holder: string): UserError =>
  new UserError('busy', `${what}: process ${holder} is at work on it; wait for it, or use another folder`);

/** A file that says which process is at work; let go by disposing of it, or by the end of the process, however it ends. */
export class Lock implements Disposable {
  readonly #path: string;
  readonly #text: string;
  readonly #heart: NodeJS.Timeout;

  private constructor(path: string, text: string) {
    this.#path = path;
    this.#text = text;
    this.#heart = setInterval(
      () => attempt(() => utimesSync(path, new Date(), new Date())),
      BEAT_SECONDS * 1000,
    );
    this.#heart.unref();
  }

  /** The lock, or who holds it. @throws UserError where the disk refuses. */
  static attempt(path: string): Lock | string {
    const own: Holder = { pid: process.pid, host: hostname(), space: NAMESPACE, birth: BIRTH };
    const text = JSON.stringify(own);
    for (let round = 0; round < 10; round++) {
      if (createWhole(path, text)) return new Lock(path, text);
      const other = lockHolder(path);
      if (other !== null) return other;
      clearLock(path);
    }
    return 'that has just begun';
  }

  /** @param what is locked, for the message. @throws UserError where a process is at work on it, or the disk refuses. */
  static take(path: string, what: string): Lock {
    const lock = Lock.attempt(path);
    if (lock instanceof Lock) return lock;
    throw busy(what, lock);
  }

  /** Lets another process have it. */
  [Symbol.dispose](): void {
    clearInterval(this.#heart);
    // Another machine may have taken it from a process that slept.
    if (readLock(this.#path) === this.#text) attempt(() => rmSync(this.#path, { force: true }));
  }
}
