/**
 * Hub models in the cache that all Hugging Face tools share:
 *
 *   models--org--name/refs/main                      the commit that a branch meant when last asked
 *   models--org--name/snapshots/COMMIT/config.json   a link to
 *   models--org--name/blobs/HASH                     the bytes
 *
 * Source: https://huggingface.co/docs/huggingface_hub/guides/manage-cache. `@huggingface/hub` speaks to the Hub (its
 * newer Xet transfers too); its own cache functions fetch every file of a repository, cannot go on with a broken
 * download and check no hash, so the disk is written here.
 */

import type { ListFileEntry } from '@huggingface/hub';
import { UserError } from '../engine/errors.ts';
import { downloadBlob, partialPath } from './blobDownload.ts';
import { fileError, safeName } from './byteSource.ts';
import { asUserError, type DownloadProgress, type Hub, openHub, type ResolveOptions } from './hubRequests.ts';

/** What this project reads of a model, besides its weights. */
const SMALL_FILES = [
  'config.json',
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'vocab.txt',
  'vocab.json',
  'merges.txt',
];
const SINGLE = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';
const COMMIT = /^[0-9a-f]{40}$/;

/** Makes sure that the model's files are in the cache. @returns the snapshot folder. @throws UserError as hub.ts says. */
export async function downloadModel(id: string, options: ResolveOptions): Promise<string> {
  const env = options.env ?? process.env;
  const revision = options.revision ?? 'main';
  safeName(revision);
  const hub = await openHub(id, revision, env, options.token, options.silence);
  const cached = await cachedSnapshot(hub);
  const offline = /^(1|true|yes|on)$/i.test(env.HF_HUB_OFFLINE ?? '');
  if (offline && !cached) {
    throw new UserError(
      'hub-offline',
      `${id}: not in the cache (${hub.cache}) and HF_HUB_OFFLINE is set; unset it once to download`,
    );
  }
  // A commit never changes; a branch is asked after each time, like the other tools do. Those fetch weights alone where
  // only the weights were asked for, hence the look at the tokenizer.
  const whole = cached && COMMIT.test(revision) && (await exists(`${cached}/tokenizer.json`));
  if (cached && (offline || whole)) return cached;
  try {
    return await download(hub, options.onProgress ?? (() => {}));
  } catch (cause) {
    const error = asUserError(hub, cause);
    if (cached && error.code === 'hub-unreachable') return cached;
    throw error;
  }
}

/** The snapshot that `revision` meant last time, if all that is needed is there. */
async function cachedSnapshot(hub: Hub): Promise<string | undefined> {
  const { join } = await import('node:path');
  const { readFile } = await import('node:fs/promises');
  const ref = await readFile(join(hub.cache, 'refs', hub.revision), 'utf8').catch(() => '');
  const commit = COMMIT.test(hub.revision) ? hub.revision : ref.trim();
  if (!COMMIT.test(commit)) return undefined;
  const folder = join(hub.cache, 'snapshots', commit);
  // Weights come last in a download, so a snapshot with all of them is whole.
  if (!(await exists(join(folder, 'config.json')))) return undefined;
  if (await exists(join(folder, SINGLE))) return folder;
  const shards = await shardsOf(join(folder, INDEX)).catch(() => []);
  const there = await Promise.all(shards.map((shard) => exists(join(folder, shard))));
  return shards.length > 0 && there.every(Boolean) ? folder : undefined;
}

async function download(hub: Hub, report: (progress: DownloadProgress) => void): Promise<string> {
  const { listFiles, modelInfo } = await import('@huggingface/hub');
  const { join, dirname } = await import('node:path');
  const { mkdir, writeFile, rename } = await import('node:fs/promises');
  const shared = { hubUrl: hub.endpoint, fetch: hub.fetch };
  const info = await modelInfo({
    ...shared,
    name: hub.id,
    revision: hub.revision,
    additionalFields: ['sha'],
  });
  const commit = String(info.sha);
  if (!COMMIT.test(commit)) {
    throw new UserError('hub', `${hub.id}: ${hub.endpoint} does not answer like a Hub`);
  }
  const listed = new Map<string, ListFileEntry>();
  for await (const file of listFiles({ ...shared, repo: repoOf(hub), revision: commit })) {
    if (file.type === 'file') listed.set(file.path, file);
  }
  const snapshot = join(hub.cache, 'snapshots', commit);
  const small = [...SMALL_FILES, ...(listed.has(SINGLE) ? [] : [INDEX])].filter((name) => listed.has(name));
  requireFiles(hub, listed);
  await mkdir(snapshot, { recursive: true });

  let total = sum(small, listed) + (listed.get(SINGLE)?.size ?? 0);
  let done = 0;
  const fetchAll = async (names: readonly string[]) => {
    for (const name of names) {
      const file = listed.get(name)!;
      report({ file: name, done, total });
      await fetchFile(hub, file, commit, snapshot, (bytes) =>
        report({ file: name, done: done + bytes, total }),
      );
      done += file.size;
    }
  };
  await fetchAll(small);
  const shards = listed.has(SINGLE) ? [SINGLE] : await shardsOf(join(snapshot, INDEX));
  const absent = shards.find((shard) => !listed.has(shard));
  if (absent) throw new UserError('hub', `${hub.id}: ${INDEX} lists ${absent}, which is not on the Hub`);
  if (!listed.has(SINGLE)) total += sum(shards, listed);
  await requireSpace(
    hub,
    shards.map((shard) => listed.get(shard)!),
  );
  await fetchAll(shards);
  report({ file: shards.at(-1)!, done, total });

  if (hub.revision !== commit) {
    const ref = join(hub.cache, 'refs', hub.revision);
    const partial = `${ref}.${crypto.randomUUID()}.tmp`;
    await mkdir(dirname(ref), { recursive: true });
    await writeFile(partial, commit);
    await rename(partial, ref);
  }
  return snapshot;
}

function repoOf(hub: Hub) {
  return { type: 'model', name: hub.id } as const;
}

function sum(names: readonly string[], listed: ReadonlyMap<string, ListFileEntry>): number {
  return names.reduce((bytes, name) => bytes + (listed.get(name)?.size ?? 0), 0);
}

function requireFiles(hub: Hub, listed: ReadonlyMap<string, ListFileEntry>): void {
  if (!listed.has('config.json')) {
    throw new UserError('hub', `${hub.id}: has no config.json; is it a transformers model?`);
  }
  if (listed.has(SINGLE) || listed.has(INDEX)) return;
  const pickled = [...listed.keys()].some((name) => name.startsWith('pytorch_model'));
  throw new UserError(
    'hub',
    `${hub.id}: has no ${SINGLE}${pickled ? ', only PyTorch files; convert it with save_pretrained(safe_serialization=True)' : ''}`,
  );
}

/** Says that the disk is too small before a download of many gigabytes, not in its last minute. */
async function requireSpace(hub: Hub, files: readonly ListFileEntry[]): Promise<void> {
  const { stat, statfs } = await import('node:fs/promises');
  const sizeOf = async (path: string) => (await stat(path).catch(() => undefined))?.size;
  let wanted = 0;
  for (const file of files) {
    const blob = await blobPath(hub, file);
    wanted += file.size - ((await sizeOf(blob)) ?? (await sizeOf(partialPath(blob))) ?? 0);
  }
  const disk = await statfs(hub.cache).catch(() => undefined);
  const free = disk ? disk.bavail * disk.bsize : Infinity;
  if (free >= wanted) return;
  const gigabytes = (bytes: number) => `${(bytes / 1e9).toFixed(1)} GB`;
  throw new UserError(
    'hub',
    `${hub.id}: needs ${gigabytes(wanted)}, but ${hub.cache} has ${gigabytes(free)} free; set HF_HOME to another disk`,
  );
}

/** Git LFS names a file by its sha256, git itself by the sha1 of the blob. */
function hashOf(hub: Hub, file: ListFileEntry): string {
  const hash = file.lfs?.oid ?? file.oid ?? '';
  if (/^([0-9a-f]{40}|[0-9a-f]{64})$/.test(hash)) return hash;
  throw new UserError('hub', `${hub.id}: the Hub gives no hash for ${file.path}`);
}

async function blobPath(hub: Hub, file: ListFileEntry): Promise<string> {
  const { join } = await import('node:path');
  return join(hub.cache, 'blobs', hashOf(hub, file));
}

/** The blob of one file, downloaded if need be, and its link in the snapshot. */
async function fetchFile(
  hub: Hub,
  file: ListFileEntry,
  commit: string,
  snapshot: string,
  report: (bytes: number) => void,
): Promise<void> {
  const { join, dirname, relative } = await import('node:path');
  const { mkdir, symlink, copyFile, rename } = await import('node:fs/promises');
  const link = join(snapshot, safeName(file.path));
  if (await exists(link)) return;
  const blob = await blobPath(hub, file);
  await mkdir(dirname(blob), { recursive: true });
  const remote = {
    name: `${hub.id}/${file.path}`,
    size: file.size,
    hash: hashOf(hub, file),
    stream: (begin: number) => openStream(hub, file, commit, begin),
    explain(cause: unknown) {
      const error = asUserError(hub, cause);
      return { error, passing: error.code === 'hub-unreachable' };
    },
  };
  await downloadBlob(blob, remote, report);
  try {
    await symlink(relative(dirname(link), blob), link);
  } catch (cause) {
    if (await exists(link)) return;
    // Windows allows links to few; the rename also replaces a link whose blob is gone.
    const copy = `${link}.${crypto.randomUUID()}.tmp`;
    await copyFile(blob, copy).catch(() => {
      throw fileError(link, cause);
    });
    await rename(copy, link);
  }
}

async function openStream(
  hub: Hub,
  file: ListFileEntry,
  commit: string,
  begin: number,
): Promise<AsyncIterable<Uint8Array>> {
  const { downloadFile } = await import('@huggingface/hub');
  const where = { repo: repoOf(hub), path: file.path, revision: commit };
  const blob = await downloadFile({ ...where, hubUrl: hub.endpoint, fetch: hub.fetch });
  if (!blob) throw new UserError('hub-missing', `${hub.id}: ${file.path} has gone from the Hub`);
  const rest = begin === 0 ? blob : blob.slice(begin, file.size);
  return rest.stream() as unknown as AsyncIterable<Uint8Array>;
}

async function exists(path: string): Promise<boolean> {
  const { stat } = await import('node:fs/promises');
  return stat(path).then(
    () => true,
    () => false,
  );
}

/** File names in an index. */
async function shardsOf(index: string): Promise<string[]> {
  const { readFile } = await import('node:fs/promises');
  let map: unknown;
  try {
    map = (JSON.parse(await readFile(index, 'utf8')) as { weight_map?: unknown } | null)?.weight_map;
  } catch (cause) {
    throw new UserError('checkpoint', `${index}: is not JSON`, { cause });
  }
  const names = typeof map === 'object' && map !== null ? Object.values(map) : [];
  if (names.length === 0 || !names.every((name) => typeof name === 'string')) {
    throw new UserError('checkpoint', `${index}: has no weight_map of tensor names to file names`);
  }
  return [...new Set(names.map(safeName))].sort();
}
