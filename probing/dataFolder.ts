/**
 * A data set by its name: a folder on this machine, or an id on the Hugging Face Hub such as iszhaoxin/MCEval8K, whose
 * files are downloaded once into the cache that Hugging Face tools share (Node).
 */

import { UserError } from '../engine/errors.ts';
import { type ByteFolder, fileError, localFolder, safeName } from '../models/byteSource.ts';
import { isHubId } from '../models/hub.ts';
import { asUserError, type Hub, openHub } from '../models/hubRequests.ts';

/** Which revision of a data set on the Hub. */
export interface DataFolderOptions {
  /** Branch, tag or commit; default `main`. */
  readonly revision?: string;
  /** Default `process.env`. */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Told after each file. */
  readonly onProgress?: (done: number, all: number) => void;
}

const DATA_FILE = /\.(json|jsonl|parquet)$/;

/**
 * Honours HF_ENDPOINT, HF_HOME, HF_HUB_CACHE, HF_TOKEN and HF_HUB_OFFLINE, as models do.
 * @throws UserError, one line with what to do.
 */
export async function resolveDataFolder(
  idOrPath: string,
  options: DataFolderOptions = {},
): Promise<ByteFolder> {
  const { stat, readFile } = await import('node:fs/promises');
  const { join } = await import('node:path');
  if (await stat(idOrPath).catch(() => undefined)) return localFolder(idOrPath);
  if (!isHubId(idOrPath)) {
    throw new UserError('folder', `${idOrPath}: no such folder, and no Hub id (organisation/name) either`);
  }
  const env = options.env ?? process.env;
  const revision = options.revision ?? 'main';
  safeName(revision);
  const hub = await openHub(idOrPath, revision, env, undefined);
  const cache = join(hub.cache, '..', `datasets--${idOrPath.replace('/', '--')}`);
  const reference = join(cache, 'refs', revision);
  if (/^(1|true|yes|on)$/i.test(env.HF_HUB_OFFLINE ?? '')) {
    const commit = await readFile(reference, 'utf8').catch(() => null);
    if (commit !== null) return localFolder(join(cache, 'snapshots', commit.trim()));
    throw new UserError(
      'hub-offline',
      `${idOrPath}: not in the cache (${cache}) and HF_HUB_OFFLINE is set; unset it once to download`,
    );
  }
  try {
    const { commit, files } = await list(hub, revision);
    const snapshot = join(cache, 'snapshots', commit);
    for (const [i, file] of files.entries()) {
      await download(hub, commit, file, join(snapshot, file));
      options.onProgress?.(i + 1, files.length);
    }
    await write(reference, commit);
    return localFolder(snapshot);
  } catch (cause) {
    throw asUserError(hub, cause);
  }
}

async function list(hub: Hub, revision: string): Promise<{ commit: string; files: string[] }> {
  const { endpoint, id } = hub;
  const answer = await hub.fetch(`${endpoint}/api/datasets/${id}/revision/${encodeURIComponent(revision)}`);
  const { sha, siblings } = (await answer.json()) as {
    sha?: unknown;
    siblings?: { rfilename?: unknown }[];
  };
  if (typeof sha !== 'string' || !/^[0-9a-f]{40}$/.test(sha) || !Array.isArray(siblings)) {
    throw new UserError('hub', `${id}: ${endpoint} does not answer like a Hub`);
  }
  const files = siblings.map(({ rfilename }) => String(rfilename)).filter((name) => DATA_FILE.test(name));
  if (files.length === 0) throw new UserError('hub', `${id}: has no JSON or Parquet files`);
  return { commit: sha, files: files.map(safeName) };
}

async function download(hub: Hub, commit: string, file: string, path: string): Promise<void> {
  const { stat } = await import('node:fs/promises');
  if (await stat(path).catch(() => undefined)) return;
  const name = file.split('/').map(encodeURIComponent).join('/');
  const answer = await hub.fetch(`${hub.endpoint}/datasets/${hub.id}/resolve/${commit}/${name}`);
  if (!answer.ok) throw new UserError('hub', `${hub.id}/${file}: ${hub.endpoint} answers ${answer.status}`);
  await write(path, new Uint8Array(await answer.arrayBuffer()));
}

/** Appears only when whole. */
async function write(path: string, content: string | Uint8Array): Promise<void> {
  const { mkdir, rename, writeFile } = await import('node:fs/promises');
  const { dirname } = await import('node:path');
  const beside = `${path}.${crypto.randomUUID().slice(0, 8)}.tmp`;
  try {
    await mkdir(dirname(path), { recursive: true });
    await writeFile(beside, content);
    await rename(beside, path);
  } catch (cause) {
    throw fileError(path, cause);
  }
}
