/**
 * Where a model's bytes come from: one file read by position (`ByteSource`), and a folder of them (`ByteFolder`).
 *
 * Nothing above this file knows whether the bytes lie on a disk, behind HTTP or in a file that a browser's user chose.
 * Reads are positional and go straight into the caller's memory (a mapped GPU buffer, say), so a file that is larger
 * than memory is never held as a whole.
 */

import { fileError, UserError } from '../engine/errors.ts';
import { refusePointer } from './lfsPointer.ts';

export { fileError };

/** One file. All positions are in bytes; `read(begin, end)` excludes `end`. */
export interface ByteSource {
  /** For error messages: the file's path, URL or name. */
  readonly name: string;
  readonly size: number;
  /** @throws UserError where the range leaves the file or the bytes cannot be had. */
  read(begin: number, end: number): Promise<Uint8Array>;
  /** Fills all of `target` from `begin` on. @throws UserError as `read`. */
  readInto(begin: number, target: Uint8Array): Promise<void>;
  /** Gives the file back. */
  close(): Promise<void>;
}

/** Files under one roof. Names are relative with `/`; one that would leave the folder is a UserError. */
export interface ByteFolder {
  /** For error messages: the folder's path or Hub id. */
  readonly name: string;
  /** Whether there is such a file. */
  has(name: string): Promise<boolean>;
  /** The caller closes what it opens. @throws UserError where there is no such file. */
  open(name: string): Promise<ByteSource>;
  /** A whole small file as UTF-8. @throws UserError where it is missing, not UTF-8, or larger than 256 MiB. */
  readText(name: string): Promise<string>;
}

/** Larger than any tokenizer.json, small enough to hold twice. */
const TEXT_LIMIT = 256 * 2 ** 20;
/** Node refuses single reads of 2 GiB; pieces this large cost nothing. */
const PIECE = 64 * 2 ** 20;

/**
 * A file name that stays inside its folder, under POSIX and Windows rules alike.
 * @throws UserError for `..`, absolute paths, drive letters, backslashes and control characters.
 */
export function safeName(name: string): string {
  const parts = name.split('/');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is refused
  const strange = /[\u0000-\u001f\\]/.test(name) || /^[A-Za-z]:/.test(name);
  if (strange || parts.some((part) => part === '' || part === '.' || part === '..')) {
    throw new UserError('file-name', `${JSON.stringify(name)} is not a name inside the model's folder`);
  }
  return name;
}

/** @throws UserError unless 0 <= begin <= end <= size. */
function checkRange(source: { name: string; size: number }, begin: number, end: number): void {
  if (!(Number.isSafeInteger(begin) && Number.isSafeInteger(end) && 0 <= begin && begin <= end)) {
    throw new UserError('file-range', `${source.name}: bytes ${begin} to ${end} are no range`);
  }
  if (end > source.size) {
    throw new UserError(
      'file-range',
      `${source.name}: bytes ${begin} to ${end} wanted, but it has only ${source.size}`,
    );
  }
}

/** A source by how bytes from `begin` on are read; ranges are checked here, once for every kind. */
export function sourceOf(
  name: string,
  size: number,
  fill: (begin: number, target: Uint8Array) => Promise<void>,
  close: () => Promise<void> = async () => {},
): ByteSource {
  const source: ByteSource = {
    name,
    size,
    async read(begin, end) {
      checkRange(source, begin, end);
      const target = new Uint8Array(end - begin);
      await fill(begin, target);
      return target;
    },
    async readInto(begin, target) {
      checkRange(source, begin, begin + target.byteLength);
      await fill(begin, target);
    },
    close,
  };
  return source;
}

/** UTF-8 text of a whole source, without a byte order mark. @throws UserError where too large, not UTF-8 or a Git LFS pointer. */
export async function readText(source: ByteSource): Promise<string> {
  if (source.size > TEXT_LIMIT) {
    throw new UserError('file-text', `${source.name}: ${source.size} bytes are too many for a text file`);
  }
  const bytes = await source.read(0, source.size);
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new UserError('file-text', `${source.name}: is not UTF-8 text`, { cause });
  }
  refusePointer(source.name, text);
  return text;
}

/** A local file, for Node. @throws UserError where it is missing, unreadable or not a regular file. */
export async function openFile(path: string): Promise<ByteSource> {
  const fs = await import('node:fs/promises');
  // Looked at before it is opened: opening a named pipe would wait for ever.
  const about = await fs.stat(path).catch((cause) => {
    throw fileError(path, cause);
  });
  if (!about.isFile()) throw new UserError('file', `${path}: is not a regular file`);
  const handle = await fs.open(path, 'r').catch((cause) => {
    throw fileError(path, cause);
  });
  const fill = async (begin: number, target: Uint8Array): Promise<void> => {
    for (let done = 0; done < target.byteLength; ) {
      const length = Math.min(PIECE, target.byteLength - done);
      const { bytesRead } = await handle.read(target, done, length, begin + done).catch((cause) => {
        throw fileError(path, cause);
      });
      if (bytesRead === 0) {
        throw new UserError(
          'file',
          `${path}: ended at byte ${begin + done} of ${about.size}; it changed while being read`,
        );
      }
      done += bytesRead;
    }
  };
  return sourceOf(path, about.size, fill, () => handle.close());
}

/** Bytes that are here already. */
export const memorySource = (name: string, bytes: Uint8Array): ByteSource =>
  sourceOf(name, bytes.length, async (begin, target) =>
    target.set(bytes.subarray(begin, begin + target.byteLength)),
  );

/** A browser's `File`, or any `Blob`. */
export function blobSource(blob: Blob, name = 'name' in blob ? String(blob.name) : 'blob'): ByteSource {
  return sourceOf(name, blob.size, async (begin, target) => {
    for (let done = 0; done < target.byteLength; ) {
      const length = Math.min(PIECE, target.byteLength - done);
      const piece = blob.slice(begin + done, begin + done + length);
      const bytes = await piece.arrayBuffer().catch((cause) => {
        throw new UserError('file', `${name}: cannot be read any more; choose it again`, { cause });
      });
      target.set(new Uint8Array(bytes), done);
      done += length;
    }
  });
}

/** A folder on this machine, for Node. Links may point anywhere, as those of the Hugging Face cache do. */
export async function localFolder(path: string): Promise<ByteFolder> {
  const { stat } = await import('node:fs/promises');
  const { join } = await import('node:path');
  const about = await stat(path).catch(() => undefined);
  if (!about?.isDirectory()) {
    throw new UserError('folder', `${path}: ${about ? 'is a file, not a folder' : 'no such folder'}`);
  }
  return folderOf(path, {
    has: async (name) => (await stat(join(path, name)).catch(() => undefined))?.isFile() ?? false,
    open: (name) => openFile(join(path, name)),
  });
}

/** Files by name, as a browser's user chose them or a test made them. */
export function fileMapFolder(files: ReadonlyMap<string, Blob>, name = 'files'): ByteFolder {
  return folderOf(name, {
    has: async (file) => files.has(file),
    async open(file) {
      const blob = files.get(file);
      if (!blob) throw new UserError('file', `${file}: not among the files of ${name}`);
      return blobSource(blob, file);
    },
  });
}

/** A folder made of its two primitives; names are checked here, once for every kind. */
export function folderOf(
  name: string,
  { has, open }: { has(name: string): Promise<boolean>; open(name: string): Promise<ByteSource> },
): ByteFolder {
  return {
    name,
    has: async (file) => has(safeName(file)),
    open: async (file) => open(safeName(file)),
    async readText(file) {
      const source = await open(safeName(file));
      try {
        return await readText(source);
      } finally {
        await source.close();
      }
    },
  };
}
