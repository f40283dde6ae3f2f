/**
 * Models of the Hub, kept in the browser's own file system (OPFS), so that a second visit needs no network.
 *
 * Files arrive by ranges and are written as they come: a download that is cut short goes on where it stopped, and no
 * more than one piece is ever in memory. A model counts as kept once its marker is written, which comes last. Where the
 * browser has no such file system or no room in it, the same files are read from the Hub as they are needed.
 */

import * as v from 'valibot';
import { type ByteFolder, fileMapFolder } from '../../../../models/byteSource.ts';
import { hubFolder, isHubId } from '../../../../models/hub.ts';
import { checkJson, parseJson } from '../../../../models/json.ts';
import { UserError } from '../../../../neurgrad/index.ts';
import type { KeptModel } from '../protocol.ts';
import type { Job } from './job.ts';
import { type Found, watched } from './watched.ts';

const PIECE = 4 * 2 ** 20;
const MARKER = '.complete';
const SMALL = ['config.json', 'tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json'];
const SINGLE = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';

/** @throws UserError, one sentence for the user. */
export async function openHubModel(id: string, token: string | undefined, job: Job): Promise<Found> {
  if (!isHubId(id)) {
    throw new UserError(
      'hub',
      `“${id}” is no Hub id: write organisation/name, such as google-bert/bert-base-uncased`,
    );
  }
  const kept = await find(id);
  if (kept) return { folder: watched(kept, job), notice: null };

  job.progress(`Looking for ${id}`, 0, 1, 'bytes');
  // Two attempts: someone is waiting before the page.
  const hub = await hubFolder(id, { token, attempts: 2, pause: 300 }).catch((error) => {
    throw explained(error, id);
  });
  if (!(await hub.has('tokenizer.json'))) {
    throw new UserError('tokenizer', `${id} has no tokenizer.json, which this page needs to split words`);
  }
  if (!(await hub.has(SINGLE)) && !(await hub.has(INDEX))) {
    throw new UserError('checkpoint', `${id} has no weights in safetensors format`);
  }
  try {
    const home = await makeHome(hub.name);
    if (!home) {
      return {
        folder: watched(hub, job),
        notice: 'This browser keeps no files for pages, so the model is fetched anew each time.',
      };
    }
    await keep(hub, home, job);
    return { folder: watched(fileMapFolder(await filesOf(home), id), job), notice: null };
  } catch (error) {
    if ((error as Error).name !== 'QuotaExceededError') throw explained(error, id);
    await forgetModel(id);
    return {
      folder: watched(hub, job),
      notice: `The browser's storage is full: ${id} runs, but was not kept and will be fetched anew next time. ${await room()}`,
    };
  }
}

/** Models that are wholly here. */
export async function keptModels(): Promise<KeptModel[]> {
  const found: KeptModel[] = [];
  for (const home of await homes()) {
    const files = await filesOf(home);
    if (!files.has(MARKER)) continue;
    const bytes = [...files.values()].reduce((sum, { size }) => sum + size, 0);
    found.push({ id: home.name.replace(/@.*$/, '').replace('--', '/'), bytes });
  }
  return found;
}

/** Deletes all that is kept of a model, whole or not. */
export async function forgetModel(id: string): Promise<void> {
  const models = await modelsFolder();
  for (const { name } of await homes(id)) await models?.removeEntry(name, { recursive: true });
}

async function find(id: string): Promise<ByteFolder | null> {
  for (const home of await homes(id)) {
    const files = await filesOf(home);
    if (files.has(MARKER)) return fileMapFolder(files, id);
  }
  return null;
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

/** `organisation--name@commit`: what is left of one commit is never mixed with another. */
const homeName = (id: string): string => id.replace('/', '--');

/** Folders of a model, or of all. */
async function homes(id?: string): Promise<FileSystemDirectoryHandle[]> {
  const found: FileSystemDirectoryHandle[] = [];
  for await (const handle of (await modelsFolder())?.values() ?? []) {
    const wanted = id === undefined || handle.name.startsWith(`${homeName(id)}@`);
    if (handle.kind === 'directory' && wanted) found.push(handle as FileSystemDirectoryHandle);
  }
  return found;
}

async function makeHome(idAndCommit: string): Promise<FileSystemDirectoryHandle | null> {
  const models = await modelsFolder();
  return (await models?.getDirectoryHandle(homeName(idAndCommit), { create: true })) ?? null;
}

async function filesOf(home: FileSystemDirectoryHandle): Promise<Map<string, File>> {
  const files = new Map<string, File>();
  for await (const handle of home.values()) {
    if (handle.kind === 'file') files.set(handle.name, await (handle as FileSystemFileHandle).getFile());
  }
  return files;
}

const indexSchema = v.object({ weight_map: v.record(v.string(), v.string()) });

async function keep(hub: ByteFolder, home: FileSystemDirectoryHandle, job: Job): Promise<void> {
  for (const name of SMALL) if (await hub.has(name)) await keepFile(hub, home, name, job);
  if (await hub.has(SINGLE)) {
    await keepFile(hub, home, SINGLE, job);
  } else {
    await keepFile(hub, home, INDEX, job);
    const index = parseJson(await hub.readText(INDEX), INDEX, 'checkpoint');
    const { weight_map } = checkJson(indexSchema, index, INDEX, 'checkpoint');
    for (const shard of new Set(Object.values(weight_map))) await keepFile(hub, home, shard, job);
  }
  await home.getFileHandle(MARKER, { create: true });
}

async function keepFile(
  hub: ByteFolder,
  home: FileSystemDirectoryHandle,
  name: string,
  job: Job,
): Promise<void> {
  const source = await hub.open(name);
  let file: FileSystemSyncAccessHandle | undefined;
  try {
    const handle = await home.getFileHandle(name, { create: true });
    file = await handle.createSyncAccessHandle();
    if (file.getSize() > source.size) file.truncate(0);
    for (let at = file.getSize(); at < source.size; ) {
      job.progress(`Downloading ${name}`, at, source.size, 'bytes');
      const piece = await source.read(at, Math.min(at + PIECE, source.size));
      const written = file.write(piece as Uint8Array<ArrayBuffer>, { at });
      // Chromium also tells a full disk by a count that cannot be.
      if (written !== piece.byteLength) throw new DOMException('no room', 'QuotaExceededError');
      at += piece.byteLength;
    }
    job.progress(`Downloading ${name}`, source.size, source.size, 'bytes');
    file.flush();
  } finally {
    file?.close();
    await source.close();
  }
}

async function room(): Promise<string> {
  const { quota = 0, usage = 0 } = await navigator.storage.estimate();
  return `It holds ${(usage / 1e6).toFixed(0)} MB of ${(quota / 1e6).toFixed(0)} MB.`;
}

/** The Hub's refusals in this page's words. */
function explained(error: unknown, id: string): unknown {
  if ((error as Error).name === 'NoModificationAllowedError') {
    return new UserError(
      'busy',
      `Another tab of this browser is downloading ${id}: wait for it, then load it here`,
    );
  }
  if (!(error instanceof UserError)) return error;
  const says: Record<string, string> = {
    'http-denied': `${id} is gated, private or does not exist: accept its conditions on huggingface.co and enter an access token`,
    'http-missing': `${id} was not found on the Hub`,
    'http-unreachable': `${id} cannot be fetched: the network or the Hub cannot be reached`,
  };
  const message = says[error.code];
  return message ? new UserError(error.code, message, { cause: error }) : error;
}
