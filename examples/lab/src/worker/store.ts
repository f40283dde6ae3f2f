/**
 * Models in the browser's own file system (OPFS), so that a second visit needs neither network nor file.
 *
 * Files are written piece by piece as they come: one that is cut short goes on where it stopped, and no more than one piece
 * is ever in memory. A model counts as kept once its marker is written, which comes last. Its home is named after the model
 * and its version, so that what is left of one version is never mixed with another.
 */

import {
  type ByteFolder,
  type ByteSource,
  blobSource,
  fileMapFolder,
} from '../../../../models/byteSource.ts';
import { chooseGguf, isGguf } from '../../../../models/gguf/choose.ts';
import { ggufFolder } from '../../../../models/gguf/folder.ts';
import { isHubId } from '../../../../models/hub.ts';
import { UserError } from '../../../../neurgrad/index.ts';
import type { KeptModel } from '../protocol.ts';
import type { Job } from './job.ts';

const PIECE = 4 * 2 ** 20;
const MARKER = '.complete';

/** Files as a folder to load from: as they are, or as what the one GGUF file among them holds. @throws UserError */
export async function asFolder(files: ReadonlyMap<string, Blob>, name: string): Promise<ByteFolder> {
  if (files.has('config.json') || ![...files.keys()].some(isGguf)) return fileMapFolder(files, name);
  const list = [...files].map(([file, { size }]) => ({ name: file, size }));
  const file = chooseGguf(name, list);
  return ggufFolder(async () => blobSource(files.get(file)!, file));
}

/** A model that is wholly here, by its name in the page's state; null: there is none. */
export async function findKept(model: string, version?: string): Promise<ByteFolder | null> {
  for (const home of await homes(model)) {
    if (version !== undefined && home.name !== homeName(model, version)) continue;
    const files = await filesOf(home);
    if (files.has(MARKER)) return asFolder(files, nameOf(model));
  }
  return null;
}

/** Models that are wholly here. */
export async function keptModels(): Promise<KeptModel[]> {
  const found: KeptModel[] = [];
  for (const home of await homes()) {
    const files = await filesOf(home);
    if (!files.has(MARKER)) continue;
    const bytes = [...files.values()].reduce((sum, { size }) => sum + size, 0);
    found.push({ model: modelIn(home.name), bytes });
  }
  return found;
}

/** Deletes all that is kept of a model, whole or not, but for one version where that is given. */
export async function forgetModel(model: string, but?: string): Promise<void> {
  const models = await modelsFolder();
  for (const { name } of await homes(model)) {
    if (but === undefined || name !== homeName(model, but))
      await models?.removeEntry(name, { recursive: true });
  }
}

/** Where a model's files go; null where the browser has no file system for pages. */
export async function homeOf(model: string, version: string): Promise<FileSystemDirectoryHandle | null> {
  const models = await modelsFolder();
  return (await models?.getDirectoryHandle(homeName(model, version), { create: true })) ?? null;
}

/** The files of a home as a folder to load from. */
export const keptIn = async (home: FileSystemDirectoryHandle, name: string): Promise<ByteFolder> =>
  asFolder(await filesOf(home), name);

/** All files are there. */
export async function markWhole(home: FileSystemDirectoryHandle): Promise<void> {
  await home.getFileHandle(MARKER, { create: true });
}

/** Writes a file, from where it stopped, and closes its source. @throws UserError `busy`, and see {@link isFull} */
export async function keepFile(
  source: ByteSource,
  home: FileSystemDirectoryHandle,
  name: string,
  job: Job,
  what: string,
): Promise<void> {
  let file: FileSystemSyncAccessHandle | undefined;
  try {
    const handle = await home.getFileHandle(name, { create: true });
    file = await handle.createSyncAccessHandle();
    if (file.getSize() > source.size) file.truncate(0);
    for (let at = file.getSize(); at < source.size; ) {
      job.progress(`${what} ${name}`, at, source.size, 'bytes');
      const piece = await source.read(at, Math.min(at + PIECE, source.size));
      const written = file.write(piece as Uint8Array<ArrayBuffer>, { at });
      // Chromium also tells a full disk by a count that cannot be.
      if (written !== piece.byteLength) throw new DOMException('no room', 'QuotaExceededError');
      at += piece.byteLength;
    }
    job.progress(`${what} ${name}`, source.size, source.size, 'bytes');
    file.flush();
  } catch (error) {
    if ((error as Error).name !== 'NoModificationAllowedError') throw error;
    throw new UserError(
      'busy',
      `Another tab of this browser is writing ${name}: wait for it, then load it here`,
    );
  } finally {
    file?.close();
    await source.close();
  }
}

export const isFull = (error: unknown): boolean => (error as Error).name === 'QuotaExceededError';

/** How full the browser's storage is, in a sentence. */
export async function room(): Promise<string> {
  const { quota = 0, usage = 0 } = await navigator.storage.estimate();
  return `It holds ${(usage / 1e6).toFixed(0)} MB of ${(quota / 1e6).toFixed(0)} MB.`;
}

/** Null where the browser has no file system for pages. */
async function modelsFolder(): Promise<FileSystemDirectoryHandle | null> {
  try {
    const root = await navigator.storage.getDirectory();
    return await root.getDirectoryHandle('models', { create: true });
  } catch {
    return null;
  }
}

const nameOf = (model: string): string => model.replace(/^\w+:/, '');

/** `organisation--name@commit` of a Hub id, `kind=name@version` of all others: `=` is in no id, and `@` in no name here. */
function homeName(model: string, version = ''): string {
  const [, kind = '', name = ''] = /^(\w+):(.*)$/s.exec(model) ?? [];
  return `${kind === 'hub' && isHubId(name) ? name.replace('/', '--') : `${kind}=${encodeURIComponent(name)}`}@${version}`;
}

function modelIn(home: string): string {
  const name = home.replace(/@[^@]*$/, '');
  const [, kind, rest] = /^(\w+)=(.*)$/s.exec(name) ?? [];
  return kind ? `${kind}:${decodeURIComponent(rest!)}` : `hub:${name.replace('--', '/')}`;
}

/** Homes of a model, or of all. */
async function homes(model?: string): Promise<FileSystemDirectoryHandle[]> {
  const found: FileSystemDirectoryHandle[] = [];
  for await (const handle of (await modelsFolder())?.values() ?? []) {
    const wanted = model === undefined || handle.name.startsWith(homeName(model));
    if (handle.kind === 'directory' && wanted) found.push(handle as FileSystemDirectoryHandle);
  }
  return found;
}

async function filesOf(home: FileSystemDirectoryHandle): Promise<Map<string, File>> {
  const files = new Map<string, File>();
  for await (const handle of home.values()) {
    if (handle.kind === 'file') files.set(handle.name, await (handle as FileSystemFileHandle).getFile());
  }
  return files;
}
