/**
 * A data set by its name: a folder on this machine, or an id on the Hugging Face Hub such as iszhaoxin/MCEval8K, whose
 * files are downloaded once into the cache that Hugging Face tools share (Node).
 */

import { UserError } from '../engine/errors.ts';
import { between, callback, checkOptions, checkValue, optionsSchema, text } from '../engine/options.ts';
import { type ByteFolder, localFolder, safeName } from '../models/byteSource.ts';
import { isHubId } from '../models/hub.ts';
import { faultOf } from '../models/hubCache.ts';
import { asUserError, environment, type Hub, offlineBy, openHub } from '../models/hubRequests.ts';

/** Which revision of a data set on the Hub. */
export interface DataFolderOptions {
  /** Branch, tag or commit; default `main`. */
  readonly revision?: string;
  /** Default `process.env`. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Told in one line where the cache stands in for the Hub; default `console.warn`. */
  readonly onNote?: (note: string) => void;
  /** First pause in milliseconds before a failed request is repeated, doubled each time; default 500. */
  readonly pause?: number;
  /** Told after each file. */
  readonly onProgress?: (done: number, all: number) => void;
}

const COMMIT = /^[0-9a-f]{40}$/;
const dataFolderOptions = optionsSchema<DataFolderOptions>({
  revision: text,
  env: environment,
  onNote: callback(),
  pause: between(0, Number.MAX_VALUE, 'milliseconds, 0 or more'),
  onProgress: callback(),
});

const DATA_FILE = /\.(json|jsonl|parquet)$/;

/**
 * Honours HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_TOKEN, HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE, as models do.
 * @throws UserError, one line with what to do.
 */
export async function resolveDataFolder(
  idOrPath: string,
  options: DataFolderOptions = {},
): Promise<ByteFolder> {
  checkOptions('resolveDataFolder', dataFolderOptions, options);
  checkValue('resolveDataFolder', 'idOrPath', text, idOrPath);
  const { stat, readFile } = await import('node:fs/promises');
  const { join } = await import('node:path');
  if (await stat(idOrPath).catch(() => undefined)) return localFolder(idOrPath);
  if (!isHubId(idOrPath)) {
    throw new UserError('folder', `${idOrPath}: no such folder, and no Hub id (organisation/name) either`);
  }
  const env = options.env ?? process.env;
  const revision = options.revision ?? 'main';
  safeName(revision);
  const hub = await openHub(idOrPath, revision, options, 'datasets');
  const reference = join(hub.cache, 'refs', revision);
  const commit = (await readFile(reference, 'utf8').catch(() => '')).trim();
  const cached = COMMIT.test(commit) ? join(hub.cache, 'snapshots', commit) : undefined;
  const offline = offlineBy(env);
  if (offline) {
    if (cached) return localFolder(cached);
    throw new UserError(
      'hub-offline',
      `${idOrPath}: not in the cache (${hub.cache}) and ${offline} is set; unset it once to download`,
    );
  }
  try {
    const { commit, files } = await list(hub, revision);
    const snapshot = join(hub.cache, 'snapshots', commit);
    for (const [i, file] of files.entries()) {
      await download(hub, commit, file, join(snapshot, file));
      options.onProgress?.(i + 1, files.length);
    }
    await write(reference, commit);
    return localFolder(snapshot);
  } catch (cause) {
    const error = asUserError(hub, cause);
    if (!cached || error.code !== 'hub-unreachable') throw error;
    hub.note(`${error.message}; what is in the cache is used`);
    return localFolder(cached);
  }
}

async function list(hub: Hub, revision: string): Promise<{ commit: string; files: string[] }> {
  const { endpoint, id } = hub;
  const answer = await hub.fetch(`${endpoint}/api/datasets/${id}/revision/${encodeURIComponent(revision)}`);
  const { sha, siblings } = ((await answer.json()) ?? {}) as {
    sha?: unknown;
    siblings?: ({ rfilename?: unknown } | null)[];
  };
  if (typeof sha !== 'string' || !COMMIT.test(sha) || !Array.isArray(siblings)) {
    throw new UserError('hub', `${id}: ${endpoint} does not answer like a Hub`);
  }
  const files = siblings.flatMap((sibling) => {
    const name = sibling?.rfilename;
    return typeof name === 'string' && DATA_FILE.test(name) ? [name] : [];
  });
  if (files.length === 0) throw new UserError('hub', `${id}: has no JSON or Parquet files`);
  return { commit: sha, files: files.map(safeName) };
}

async function download(hub: Hub, commit: string, file: string, path: string): Promise<void> {
  const { stat } = await import('node:fs/promises');
  if ((await stat(path).catch(() => undefined)) && !(await faultOf(path))) return;
  const name = file.split('/').map(encodeURIComponent).join('/');
  await write(path, await hub.bytes(`${hub.endpoint}/datasets/${hub.id}/resolve/${commit}/${name}`));
}

async function write(path: string, content: string | Uint8Array): Promise<void> {
  const { makeFolder, sweepLitter, writeWhole } = await import('../engine/disk.ts');
  const { dirname } = await import('node:path');
  makeFolder(dirname(path));
  sweepLitter(dirname(path));
  writeWhole(path, content);
}
