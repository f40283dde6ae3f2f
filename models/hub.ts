/**
 * A model by its name: a folder on this machine, or an id on the Hugging Face Hub.
 *
 * In Node a Hub model is downloaded once into the cache that all Hugging Face tools share (hubCache.ts). In a browser
 * `hubFolder` reads the same files over HTTP ranges without storing them.
 */

import { UserError } from '../engine/errors.ts';
import { checkOptions, optionsSchema, text } from '../engine/options.ts';
import { type ByteFolder, folderOf, localFolder, openFile } from './byteSource.ts';
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

/**
 * The folder of a model, for Node: an address, an existing local folder, else a Hub id, downloaded where it is not yet cached.
 * Honours HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_TOKEN_PATH, HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE.
 * @throws UserError, one line with what to do: `hub-missing`, `hub-denied`, `hub-unreachable`, `hub-offline`, `token`, `hub`.
 */
export async function resolveModelFolder(
  idOrPath: string,
  options: ResolveOptions = {},
): Promise<ByteFolder> {
  checkOptions('resolveModelFolder', resolveOptions, options);
  if (idOrPath === '')
    throw new UserError('folder', 'the model has an empty name; give a folder, an address or a Hub id');
  if (isUrl(idOrPath)) return urlFolder(idOrPath);
  const { stat } = await import('node:fs/promises');
  const about = await stat(idOrPath).catch(() => undefined);
  if (about?.isFile() && /\.gguf$/i.test(idOrPath)) return ggufFolder(() => openFile(idOrPath));
  if (about) return localFolder(idOrPath);
  if (!isHubId(idOrPath)) {
    throw new UserError(
      'folder',
      `${idOrPath}: no such folder, and no Hub id (name or organisation/name) either`,
    );
  }
  const { downloadModel } = await import('./hubCache.ts');
  return downloadModel(idOrPath, options);
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

/**
 * A Hub model read over HTTP ranges, for browsers. All files are of the commit that `revision` means now.
 * @throws UserError `http-*` as `openUrl`, `hub` where the Hub's answer makes no sense.
 */
export async function hubFolder(id: string, options: HubFolderOptions = {}): Promise<ByteFolder> {
  checkOptions('hubFolder', hubFolderOptions, options);
  if (!isHubId(id)) throw new UserError('hub', `${id}: is no Hub id (name or organisation/name)`);
  const { revision = 'main', endpoint = HUB, name: _, ...http } = options;
  const answer = await get(`${endpoint}/api/models/${id}/revision/${encodeURIComponent(revision)}`, http);
  const info: unknown = await answer.json().catch(() => undefined);
  const { sha, siblings } = (info ?? {}) as { sha?: unknown; siblings?: unknown };
  if (typeof sha !== 'string' || !/^[0-9a-f]{40}$/.test(sha) || !Array.isArray(siblings)) {
    throw new UserError('hub', `${id}: ${endpoint} does not answer like a Hub`);
  }
  const files = new Set(siblings.map((file: { rfilename?: unknown } | null) => file?.rfilename));
  return folderOf(`${id}@${sha.slice(0, 8)}`, {
    has: async (file) => files.has(file),
    async open(file) {
      if (!files.has(file)) throw new UserError('file', `${id}: has no file ${file}`);
      const path = file.split('/').map(encodeURIComponent).join('/');
      return openUrl(`${endpoint}/${id}/resolve/${sha}/${path}`, { ...http, name: `${id}/${file}` });
    },
  });
}
