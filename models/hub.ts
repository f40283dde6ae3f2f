/**
 * A model by its name: a folder on this machine, or an id on the Hugging Face Hub.
 *
 * In Node a Hub model is downloaded once into the cache that all Hugging Face tools share (hubCache.ts). In a browser
 * `hubFolder` reads the same files over HTTP ranges without storing them. Of GGUF files a name chooses one: `org/name/file.gguf`, or
 * `org/name:Q4_K_M` as in llama.cpp.
 */

import { UserError } from '../engine/errors.ts';
import { checkOptions, optionsSchema, text } from '../engine/options.ts';
import { refuseCredentials, shownAddress } from './address.ts';
import { bundledFolder } from './bundled.ts';
import { type ByteFolder, type ByteSource, folderOf, localFolder, openFile } from './byteSource.ts';
import { chooseGguf, isGguf, type NamedFile } from './gguf/choose.ts';
import { ggufFolder } from './gguf/folder.ts';
import { isUrl, urlFolder } from './httpFolder.ts';
import { get, type HttpOptions, httpOptions, openUrl } from './httpSource.ts';
import { type ResolveOptions, resolveOptions } from './hubRequests.ts';

export type { DownloadProgress, ResolveOptions } from './hubRequests.ts';

/** Where models come from unless HF_ENDPOINT says otherwise. */
export const HUB = 'https://huggingface.co';

/** A Hub id: `name` or `org/name`, in the characters that the Hub allows. */
export function isHubId(text: string): boolean {
  const part = '[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?';
  return new RegExp(`^(?:${part}/)?${part}$`).test(text) && text.length <= 96 && !/--|\.\./.test(text);
}

/** A Hub id and the GGUF file that is named with it, `org/name/path/file.gguf` or `org/name:part`; undefined for what is none. */
export function hubName(
  text: string,
): { readonly id: string; readonly file: string | undefined } | undefined {
  const [, id = '', part, path] = /^([^/:]+(?:\/[^/:]+)?)(?::(.+)|\/(.+\.gguf))?$/i.exec(text) ?? [];
  return isHubId(id) ? { id, file: part ?? path } : undefined;
}

/** A folder on this machine, of which a GGUF file is taken where it is asked for, or it has nothing else. */
async function localModel(path: string, wanted?: string): Promise<ByteFolder> {
  const folder = await localFolder(path);
  if (wanted === undefined && (await folder.has('config.json'))) return folder;
  const { readdir, stat } = await import('node:fs/promises');
  const { join } = await import('node:path');
  const names = (await readdir(path)).filter(isGguf);
  if (wanted === undefined && names.length === 0) return folder;
  const files = names.map(
    async (name): Promise<NamedFile> => ({ name, size: (await stat(join(path, name))).size }),
  );
  const file = join(path, chooseGguf(path, await Promise.all(files), wanted));
  return ggufFolder(() => openFile(file));
}

/** A GGUF file at an address, which may have a query: a signature, `?download=true`. */
function ggufUrl(url: string): Promise<ByteFolder> {
  const name = shownAddress(url);
  refuseCredentials(url, name);
  return ggufFolder(() => openUrl(url, { name }));
}

/**
 * The folder of a model, for Node: an address, an existing local folder or GGUF file, a model that comes with the package (`facts-bert`), else
 * a Hub id, downloaded where it is not yet cached. `ID/FILE.gguf` is a GGUF file of a Hub id or at an address (which is read by ranges), `ID:PART` and `FOLDER:PART` the one
 * with that in its name.
 * Honours HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_TOKEN_PATH, HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE.
 * @throws UserError, one line with what to do: `hub-missing`, `hub-denied`, `hub-unreachable`, `hub-offline`, `token`, `hub`,
 * `gguf-file` listing the files to choose from.
 */
export async function resolveModelFolder(
  idOrPath: string,
  options: ResolveOptions = {},
): Promise<ByteFolder> {
  checkOptions('resolveModelFolder', resolveOptions, options);
  if (idOrPath === '')
    throw new UserError('folder', 'the model has an empty name; give a folder, an address or a Hub id');
  if (isUrl(idOrPath))
    return isGguf(idOrPath.replace(/[?#].*$/s, '')) ? ggufUrl(idOrPath) : urlFolder(idOrPath);
  const { stat } = await import('node:fs/promises');
  const about = await stat(idOrPath).catch(() => undefined);
  if (about?.isFile() && isGguf(idOrPath)) return ggufFolder(() => openFile(idOrPath));
  if (about) return localModel(idOrPath);
  const [, folder, part] = /^(.+):(.+)$/s.exec(idOrPath) ?? [];
  if (folder !== undefined && (await stat(folder).catch(() => undefined))?.isDirectory())
    return localModel(folder, part);
  const bundled = await bundledFolder(idOrPath);
  if (bundled !== undefined) return localModel(bundled);
  const name = hubName(idOrPath);
  if (!name)
    throw new UserError(
      'folder',
      `${idOrPath}: no such folder, and no Hub id (name or organisation/name) either`,
    );
  const { downloadModel } = await import('./hubCache.ts');
  return downloadModel(name.id, name.file, options);
}

/** Which revision of which Hub, and how it is asked. */
export interface HubFolderOptions extends HttpOptions {
  /** Branch, tag or commit; default `main`. */
  readonly revision?: string;
  /** Default {@link HUB}. */
  readonly endpoint?: string;
}

const hubFolderOptions = optionsSchema<HubFolderOptions>({
  ...httpOptions.entries,
  revision: text,
  endpoint: text,
});

/** The files of a Hub model as they lie there, all of one commit. */
export interface HubFiles {
  readonly id: string;
  readonly commit: string;
  /** The GGUF file that is meant; undefined: the model is a folder of others. */
  readonly gguf: string | undefined;
  /** Whether the model has such a file. */
  readonly has: (file: string) => boolean;
  /** A file's bytes. @throws UserError where there is none. */
  readonly open: (file: string) => Promise<ByteSource>;
}

/**
 * What a Hub model's name stands for, over HTTP, for browsers; arguments and errors as {@link hubFolder}.
 * @throws UserError
 */
export async function hubFiles(model: string, options: HubFolderOptions = {}): Promise<HubFiles> {
  checkOptions('hubFiles', hubFolderOptions, options);
  const named = hubName(model);
  if (!named) throw new UserError('hub', `${model}: is no Hub id (name or organisation/name)`);
  const { id, file: wanted } = named;
  const { revision = 'main', endpoint = HUB, name: _, ...http } = options;
  const answer = await get(
    `${endpoint}/api/models/${id}/revision/${encodeURIComponent(revision)}?blobs=true`,
    http,
  );
  const info: unknown = await answer.json().catch(() => undefined);
  const { sha, siblings } = (info ?? {}) as { sha?: unknown; siblings?: unknown };
  if (typeof sha !== 'string' || !/^[0-9a-f]{40}$/.test(sha) || !Array.isArray(siblings)) {
    throw new UserError('hub', `${id}: ${endpoint} does not answer like a Hub`);
  }
  const files = new Map<string, number>();
  for (const { rfilename, size } of siblings as { rfilename?: unknown; size?: unknown }[])
    if (typeof rfilename === 'string') files.set(rfilename, Number(size ?? Number.NaN));
  const packed = wanted !== undefined || (!files.has('config.json') && [...files.keys()].some(isGguf));
  const list = [...files].map(([name, size]) => ({ name, size }));
  return {
    id,
    commit: sha,
    gguf: packed ? chooseGguf(id, list, wanted) : undefined,
    has: (file) => files.has(file),
    async open(file) {
      if (!files.has(file)) throw new UserError('file', `${id}: has no file ${file}`);
      const path = file.split('/').map(encodeURIComponent).join('/');
      return openUrl(`${endpoint}/${id}/resolve/${sha}/${path}`, { ...http, name: `${id}/${file}` });
    },
  };
}

/**
 * A Hub model read over HTTP ranges, for browsers: what is not read is not fetched. All files are of the commit that `revision` means now.
 * @param model its id; with `/FILE.gguf` or `:PART` behind it that GGUF file, which is taken too where it is the only one.
 * @throws UserError `http-*` as `openUrl`, `hub` where the Hub's answer makes no sense, `gguf-file` listing the files to choose from.
 */
export async function hubFolder(model: string, options: HubFolderOptions = {}): Promise<ByteFolder> {
  checkOptions('hubFolder', hubFolderOptions, options);
  const { id, commit, gguf, has, open } = await hubFiles(model, options);
  if (gguf !== undefined) return ggufFolder(() => open(gguf));
  return folderOf(`${id}@${commit.slice(0, 8)}`, { has: async (file) => has(file), open });
}
