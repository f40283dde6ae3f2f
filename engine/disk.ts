/**
 * The one way to write to a disk (Node alone). A file or a folder appears whole under its name or not at all, and what was
 * there before stays until then: everything is written beside its place, flushed, and renamed.
 *
 * What a killed process leaves is named after that process (`NAME.neurgrad-HOST-PID-BIRTH-N.tmp`), so that the next start
 * knows it for litter: {@link sweepLitter}. What one process does at a time is locked by lock.ts.
 */

import { createHash } from 'node:crypto';
import {
  accessSync,
  closeSync,
  constants,
  copyFileSync,
  existsSync,
  fchmodSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readlinkSync,
  realpathSync,
  renameSync,
  rmdirSync,
  rmSync,
  statfsSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { basename, dirname, isAbsolute, join, resolve } from 'node:path';
import { BIRTH, isAtWork, NAMESPACE } from './atWork.ts';
import { fileError, UserError } from './errors.ts';

/** Text is written as UTF-8. */
export type Content = string | Uint8Array;

const bytesOf = (content: Content): Uint8Array =>
  typeof content === 'string' ? Buffer.from(content) : content;

function writeAll(file: number, bytes: Uint8Array, position: number | null = null): void {
  for (let done = 0; done < bytes.length; )
    done += writeSync(file, bytes, done, bytes.length - done, position === null ? null : position + done);
}

/** Does something with the disk. @throws UserError naming `path` where the disk refuses. */
function at<Value>(path: string, work: () => Value): Value {
  try {
    return work();
  } catch (cause) {
    throw fileError(path, cause, 'write');
  }
}

/** What fails here is told by what comes after, or does not matter. @returns null where it fails. */
export function attempt<Value>(work: () => Value): Value | null {
  try {
    return work();
  } catch {
    return null;
  }
}

/** Where a path leads to, also where nothing is there yet: a link stays one, and what it points to is made. */
function behindLinks(path: string): string {
  if (statSync(path, { throwIfNoEntry: false })) return realpathSync(path);
  const target = attempt(() => readlinkSync(path));
  if (target === null) return path;
  const place = isAbsolute(target) ? target : `${dirname(path)}/${target}`;
  return behindLinks(join(realpathSync(dirname(place)), basename(place)));
}

const codeOf = (error: unknown): string => (error as { code?: string }).code ?? '';

// --- Litter ---

/** Of this machine and container, short enough for a file's name. */
const MARK = createHash('sha256').update(`${hostname()} ${NAMESPACE}`).digest('hex').slice(0, 8);
const LITTER = /^(.*)\.neurgrad-([0-9a-f]{8})-(\d+)-(\d+)-\d+\.(tmp|old)$/s;
/** Litter of another machine is that of a dead process when nobody has touched it for so long. */
const DAY = 86_400_000;
const NAME_BYTES = 255;

let count = 0;

/** A name in the same folder that nobody else takes. `old` keeps what is being replaced: it is put back after a kill. */
export function nameBeside(path: string, ending: 'tmp' | 'old'): string {
  const mark = `.neurgrad-${MARK}-${process.pid}-${BIRTH ?? 0}-${count++}.${ending}`;
  let name = basename(path);
  if (ending === 'tmp') while (Buffer.byteLength(name + mark) > NAME_BYTES) name = name.slice(0, -1);
  return join(dirname(path), name + mark);
}

/** How {@link sweepLitter} looks. */
export interface SweepOptions {
  /** In folders so many levels below too; default 0. */
  readonly levels?: number;
  /** Nobody else may be at work there, which a lock has seen to: what other machines left is litter too. */
  readonly alone?: boolean;
}

/** Removes what killed processes have left in a folder; puts back what one of them was about to replace. */
export function sweepLitter(folder: string, { levels = 0, alone = false }: SweepOptions = {}): void {
  for (const entry of attempt(() => readdirSync(folder, { withFileTypes: true })) ?? []) {
    const path = join(folder, entry.name);
    const match = LITTER.exec(entry.name);
    if (!match) {
      if (levels > 0 && entry.isDirectory()) sweepLitter(path, { levels: levels - 1, alone });
      continue;
    }
    const [, name, mark, pid, birth, ending] = match as unknown as [string, ...string[]];
    const age = Date.now() - (attempt(() => lstatSync(path).mtimeMs) ?? Date.now());
    const left = mark === MARK ? !isAtWork(Number(pid), birth!) : alone || age > DAY;
    if (!left) continue;
    const place = join(folder, name!);
    if (ending === 'old' && !existsSync(place)) attempt(() => renameSync(path, place));
    else attempt(() => rmSync(path, { recursive: true, force: true }));
  }
}

// --- Files ---

/**
 * A file being written. It gets its name, or takes the place of the one that has it, by {@link keep}; where that is not
 * reached, nothing has changed. A link stays one: what it points to is replaced. What is no file (a pipe, /dev/stdout) is
 * written as it is.
 */
export class WholeFile implements Disposable {
  readonly #path: string;
  readonly #target: string;
  readonly #beside: string | null;
  #file: number | null;

  /** @throws UserError where the disk refuses. */
  constructor(path: string) {
    this.#path = path;
    const there = at(path, () => statSync(path, { throwIfNoEntry: false }));
    if (there?.isDirectory()) throw new UserError('file', `${path}: is a folder, not a file`);
    if (there && (!there.isFile() || /^\/(dev|proc)\//.test(path))) {
      [this.#target, this.#beside] = [path, null];
      this.#file = at(path, () => openSync(path, 'w'));
      return;
    }
    this.#target = at(path, () => behindLinks(path));
    this.#beside = nameBeside(this.#target, 'tmp');
    this.#file = at(path, () => {
      // Its folder may let us replace a file that its owner has protected.
      if (there) accessSync(path, constants.W_OK);
      return openSync(this.#beside!, 'wx');
    });
    if (there) attempt(() => fchmodSync(this.#file!, there.mode & 0o777));
  }

  /** Writes after what was written last, or at a position. @throws UserError */
  write(content: Content, position: number | null = null): void {
    at(this.#path, () => writeAll(this.#file!, bytesOf(content), position));
  }

  /** Sets its size; what was not written reads as zeros and takes no room. @throws UserError */
  resize(bytes: number): void {
    at(this.#path, () => ftruncateSync(this.#file!, bytes));
  }

  /** All is written: only the name is missing. @throws UserError where the disk has no room for it. */
  flush(): void {
    if (this.#file === null) return;
    at(this.#path, () => {
      if (this.#beside !== null) fsyncSync(this.#file!);
      closeSync(this.#file!);
    });
    this.#file = null;
  }

  /** Gives it its name. @throws UserError */
  keep(): void {
    this.flush();
    if (this.#beside !== null) at(this.#path, () => renameSync(this.#beside!, this.#target));
  }

  /** Gives it its name unless something has it. @param content all of it. @returns whether it did. @throws UserError */
  claim(content: Content): boolean {
    this.flush();
    try {
      // Unlike a rename, fails where another process was faster.
      linkSync(this.#beside ?? this.#target, this.#target);
      return true;
    } catch (cause) {
      if (codeOf(cause) === 'EEXIST') return false;
      if (!/^(EPERM|ENOSYS|ENOTSUP|EOPNOTSUPP)$/.test(codeOf(cause)))
        throw fileError(this.#path, cause, 'write');
    }
    // A disk without such links, as of memory sticks: in two steps, which readers of locks know.
    try {
      writeFileSync(this.#target, bytesOf(content), { flag: 'wx' });
      return true;
    } catch (cause) {
      if (codeOf(cause) === 'EEXIST') return false;
      throw fileError(this.#path, cause, 'write');
    }
  }

  /** Drops what was not kept. */
  [Symbol.dispose](): void {
    if (this.#file !== null) attempt(() => closeSync(this.#file!));
    this.#file = null;
    if (this.#beside !== null) attempt(() => rmSync(this.#beside!, { force: true }));
  }
}

/** Writes a file, which appears, or takes the place of an earlier one, when it is whole. @throws UserError naming the path. */
export function writeWhole(path: string, content: Content): void {
  writeTogether([[path, content]]);
}

/** Writes files that belong together: none gets its name before all are on the disk. @throws UserError naming the path. */
export function writeTogether(files: Iterable<readonly [path: string, content: Content]>): void {
  const written: WholeFile[] = [];
  try {
    for (const [path, content] of files) {
      const file = new WholeFile(path);
      written.push(file);
      file.write(content);
      file.flush();
    }
    for (const file of written) file.keep();
  } finally {
    for (const file of written) file[Symbol.dispose]();
  }
}

/** Writes a file unless there is one of this name. @returns whether it was written. @throws UserError */
export function createWhole(path: string, content: Content): boolean {
  using file = new WholeFile(path);
  file.write(content);
  return file.claim(content);
}

/** A file that grows, over several starts maybe: a reader must expect that its end is cut. */
export class GrowingFile implements Disposable {
  readonly #path: string;
  #file: number | null;

  /** Makes it where it is missing. @throws UserError */
  constructor(path: string) {
    this.#path = path;
    this.#file = at(path, () => openSync(path, 'a'));
  }

  /** Bytes that are there. */
  get size(): number {
    return at(this.#path, () => fstatSync(this.#file!).size);
  }

  /** Writes at its end. @throws UserError */
  append(content: Content): void {
    at(this.#path, () => writeAll(this.#file!, bytesOf(content)));
  }

  /** Sees to it that all is on the disk, and closes it. @throws UserError */
  flush(): void {
    at(this.#path, () => {
      fsyncSync(this.#file!);
      closeSync(this.#file!);
    });
    this.#file = null;
  }

  /** Closes it. */
  [Symbol.dispose](): void {
    if (this.#file !== null) attempt(() => closeSync(this.#file!));
    this.#file = null;
  }
}

/** Writes at the end of a file that grows. @throws UserError */
export function append(path: string, content: Content): void {
  using file = new GrowingFile(path);
  file.append(content);
}

/** A copy of a file, which appears, or takes the place of an earlier one, when it is whole. @throws UserError */
export function copyWhole(from: string, to: string): void {
  const beside = nameBeside(to, 'tmp');
  try {
    at(to, () => copyFileSync(from, beside));
    at(to, () => renameSync(beside, to));
  } finally {
    attempt(() => rmSync(beside, { force: true }));
  }
}

/** Gives a file another name in one step, in the place of what has it. @throws UserError */
export function putInPlace(path: string, place: string): void {
  at(place, () => renameSync(path, place));
}

/** Makes a link, or turns one to another target, in one step. @param target as seen from the link's folder. @throws UserError */
export function pointTo(path: string, target: string): void {
  const beside = nameBeside(path, 'tmp');
  try {
    at(path, () => symlinkSync(target, beside));
    at(path, () => renameSync(beside, path));
  } finally {
    attempt(() => rmSync(beside, { force: true }));
  }
}

/** Removes a file, or a folder with all that is in it, which is gone from its name at once. Nothing there is no error. @throws UserError */
export function remove(path: string): void {
  const there = at(path, () => lstatSync(path, { throwIfNoEntry: false }));
  if (!there) return;
  const beside = nameBeside(path, 'tmp');
  at(path, () => {
    // From its name at once, whatever the time that the rest takes.
    renameSync(path, beside);
    rmSync(beside, { recursive: true, force: true });
  });
}

// --- Folders ---

/** Makes a folder and those that it is in. @throws UserError */
export function makeFolder(path: string): void {
  if (at(path, () => statSync(path, { throwIfNoEntry: false }))?.isDirectory()) return;
  const above = dirname(resolve(path));
  if (above !== resolve(path)) makeFolder(above);
  // One by one: `recursive` tells of a read-only disk as of a missing folder.
  at(path, () => {
    try {
      mkdirSync(behindLinks(path));
    } catch (cause) {
      // Another process may have come first.
      if (codeOf(cause) !== 'EEXIST' || !statSync(path).isDirectory()) throw cause;
    }
  });
}

/** What becomes of a folder that is there already and not empty. */
export type Existing = 'refuse' | 'replace' | 'merge';

/**
 * A folder being written, in {@link path}; it gets its name by {@link keep}. Where that is not reached nothing has changed.
 * `replace` takes two steps, so that a kill between them leaves it to {@link sweepLitter} to put the earlier one back; `merge`
 * puts each of its files into the earlier one, whole, right after another.
 */
export class WholeFolder implements Disposable {
  /** Where its files are to be written. */
  readonly path: string;
  readonly #place: string;
  readonly #existing: Existing;

  /**
   * @param bytes that it will take, where that is known.
   * @throws UserError where there is a file, a folder that is not empty and to be refused, or the disk refuses.
   */
  constructor(place: string, existing: Existing = 'refuse', bytes = 0) {
    this.#place = resolve(at(place, () => behindLinks(place)));
    this.#existing = existing;
    const above = dirname(this.#place);
    makeFolder(above);
    sweepLitter(above);
    const there = at(place, () => statSync(place, { throwIfNoEntry: false }));
    if (there && !there.isDirectory())
      throw new UserError('folder', `${place}: is a file, not a folder; choose an empty or new folder`);
    if (there && existing === 'refuse' && isFull(place))
      throw new UserError('folder', `${place}: is not empty; choose an empty or new folder`);
    if (there && existing !== 'merge' && (there.dev !== statSync(above).dev || this.#place === process.cwd()))
      throw new UserError(
        'folder',
        `${place}: is the current folder or a disk's own, which cannot be put in place at once; name a folder in it`,
      );
    checkRoom(place, above, bytes);
    this.path = nameBeside(this.#place, 'tmp');
    at(place, () => mkdirSync(this.path));
  }

  /** Gives it its name. @throws UserError */
  keep(): void {
    at(this.#place, () => {
      if (!existsSync(this.#place)) renameSync(this.path, this.#place);
      else if (this.#existing === 'replace' && isFull(this.#place)) this.#takePlace();
      else if (this.#existing === 'merge' && isFull(this.#place)) this.#merge();
      else {
        // Fails where something has been put there meanwhile.
        rmdirSync(this.#place);
        renameSync(this.path, this.#place);
      }
    });
  }

  #takePlace(): void {
    const earlier = nameBeside(this.#place, 'old');
    renameSync(this.#place, earlier);
    try {
      renameSync(this.path, this.#place);
    } catch (cause) {
      renameSync(earlier, this.#place);
      throw cause;
    }
    attempt(() => rmSync(earlier, { recursive: true, force: true }));
  }

  #merge(): void {
    for (const name of readdirSync(this.path)) renameSync(join(this.path, name), join(this.#place, name));
  }

  /** Drops what was not kept. */
  [Symbol.dispose](): void {
    attempt(() => rmSync(this.path, { recursive: true, force: true }));
  }
}

const isFull = (folder: string): boolean => at(folder, () => readdirSync(folder)).length > 0;

// --- Before long work ---

/** What the smallest file takes of most disks: a full one has no room for it. */
const BLOCK = 4096;

/**
 * Finds out before long work whether its results can be written.
 * @param bytes that they will take, where that is known.
 * @throws UserError naming the path where they cannot.
 */
export function checkFile(path: string, bytes = 0): void {
  sweepLitter(dirname(at(path, () => behindLinks(path))));
  const there = at(path, () => statSync(path, { throwIfNoEntry: false }));
  // To open a pipe would wait for its reader.
  if (there && !there.isFile() && !there.isDirectory()) {
    at(path, () => accessSync(path, constants.W_OK));
    return;
  }
  using file = new WholeFile(path);
  file.write(new Uint8Array(BLOCK));
  file.flush();
  checkRoom(path, dirname(path), bytes);
}

/** Makes a folder to write in, and finds out as {@link checkFile} does. @throws UserError */
export function checkFolder(path: string, bytes = 0): void {
  makeFolder(path);
  sweepLitter(path);
  try {
    using file = new WholeFile(join(path, 'neurgrad-check'));
    file.write(new Uint8Array(BLOCK));
    file.flush();
  } catch (error) {
    // Of the folder, not of a file that nobody knows.
    throw fileError(path, (error as Error).cause, 'write');
  }
  checkRoom(path, path, bytes);
}

function checkRoom(path: string, folder: string, bytes: number): void {
  const disk = attempt(() => statfsSync(folder));
  const free = disk ? disk.bavail * disk.bsize : Number.POSITIVE_INFINITY;
  if (free >= bytes) return;
  const size = (count: number): string =>
    count >= 1e9 ? `${(count / 1e9).toFixed(1)} GB` : `${(count / 1e6).toFixed(1)} MB`;
  throw new UserError('file', `${path}: needs ${size(bytes)}, but its disk has ${size(free)} free`);
}
