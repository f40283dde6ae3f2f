/**
 * Hub models in the cache that all Hugging Face tools share:
 *
 *   models--org--name/refs/main                      the commit that a branch meant when last asked
 *   models--org--name/snapshots/COMMIT/config.json   a link to
 *   models--org--name/blobs/HASH                     the bytes
 *
 * Source: https://huggingface.co/docs/huggingface_hub/guides/manage-cache. `@huggingface/hub` lists the files; its downloads
 * need a server that knows ranges, cannot go on where they broke off and check no hash, so files are fetched here, by one
 * GET each as huggingface_hub does without hf_xet. Sizes and hashes are those of the listing.
 */

import type { ListFileEntry } from '@huggingface/hub';
import { UserError } from '../engine/errors.ts';
import { downloadBlob, OtherAnswer, partialPath, type RemoteBytes } from './blobDownload.ts';
import { type ByteFolder, localFolder, openFile, safeName } from './byteSource.ts';
import { INDEX, readIndex, SINGLE, shardsIn } from './checkpoint.ts';
import { chooseGguf, isGguf, type NamedFile } from './gguf/choose.ts';
import { ggufFolder } from './gguf/folder.ts';
import {
  asUserError,
  type DownloadProgress,
  type Hub,
  offlineBy,
  openHub,
  type ResolveOptions,
} from './hubRequests.ts';

/** What this project reads of a model, besides its weights. */
const SMALL_FILES = [
  'config.json',
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'chat_template.jinja',
  'special_tokens_map.json',
  'added_tokens.json',
  'vocab.txt',
  'vocab.json',
  'merges.txt',
];
const COMMIT = /^[0-9a-f]{40}$/;
/** Git's sha1 of a blob, or the sha256 of Git LFS. */
const HASH = /^([0-9a-f]{40}|[0-9a-f]{64})$/;

/** Of a listing; one has a thousand files. */
const MOST_PAGES = 100;
/** Failures of the Hub for which the cache stands in, as huggingface_hub does. */
const CACHE_SERVES = new Set(['hub-unreachable', 'hub-denied']);
/** Files up to this size are compared with their hash whenever they are looked at. */
const SMALL = 64 * 2 ** 20;

/**
 * Makes sure that the model's files are in the cache.
 * @param wanted one GGUF file instead, by its name or a part of it.
 * @throws UserError as hub.ts says.
 */
export async function downloadModel(
  id: string,
  wanted: string | undefined,
  options: ResolveOptions,
): Promise<ByteFolder> {
  const env = options.env ?? process.env;
  const revision = options.revision ?? 'main';
  safeName(revision);
  const hub = await openHub(id, revision, options);
  const cached = await cachedSnapshot(hub, wanted);
  const offline = offlineBy(env);
  if (offline) {
    const why = `${offline} is set; unset it once to download`;
    if (!cached) throw new UserError('hub-offline', `${id}: not in the cache (${hub.cache}) and ${why}`);
    if (cached.fault) throw new UserError('hub-offline', `${id}: ${cached.fault}, and ${why}`);
    if (cached.gguf !== undefined && wanted === undefined)
      hub.note(`${id}: ${cached.gguf} is taken, the only one in the cache; ${why}`);
    return partOf(hub, cached, why);
  }
  // A commit never changes; a branch is asked after each time, like the other tools do. Those fetch weights alone where
  // only the weights were asked for, hence the look at the tokenizer.
  const serves = cached && !cached.fault;
  if (serves && COMMIT.test(revision) && (cached.gguf || (await exists(`${cached.folder}/tokenizer.json`))))
    return openSnapshot(cached);
  if (serves) hub.attempts = 3;
  try {
    return await openSnapshot(await download(hub, wanted, options.onProgress ?? (() => {})));
  } catch (cause) {
    const error = asUserError(hub, cause);
    if (!cached || !CACHE_SERVES.has(error.code)) throw error;
    if (cached.fault) throw new UserError(error.code, `${error.message}; ${cached.fault}`, { cause });
    hub.note(`${error.message}; what is in the cache is used`);
    return partOf(hub, cached, 'the Hub gives no more now; try again later');
  }
}

/** A snapshot of which other tools may have fetched only a part. */
async function partOf(hub: Hub, { folder: path, gguf }: Snapshot, why: string): Promise<ByteFolder> {
  if (gguf !== undefined) return openSnapshot({ folder: path, gguf });
  const folder = await localFolder(path);
  const needed = (file: string, there: boolean): boolean => {
    if (there || file !== 'tokenizer.json') return there;
    throw new UserError('hub-offline', `${hub.id}: its ${file} is not in the cache (${path}) and ${why}`);
  };
  return { ...folder, has: async (file) => needed(file, await folder.has(file)) };
}

interface Snapshot {
  readonly folder: string;
  /** The one file of it that is the model. */
  readonly gguf?: string | undefined;
}

interface Cached extends Snapshot {
  /** A file that is not whole, in words. */
  readonly fault: string | undefined;
}

async function openSnapshot({ folder, gguf }: Snapshot): Promise<ByteFolder> {
  if (gguf === undefined) return localFolder(folder);
  const { join } = await import('node:path');
  return ggufFolder(() => openFile(join(folder, gguf)));
}

/** The snapshot that `revision` meant last time, if its weights are there. */
async function cachedSnapshot(hub: Hub, wanted: string | undefined): Promise<Cached | undefined> {
  const { join } = await import('node:path');
  const { lstat, readFile } = await import('node:fs/promises');
  const ref = await readFile(join(hub.cache, 'refs', hub.revision), 'utf8').catch(() => '');
  const commit = COMMIT.test(hub.revision) ? hub.revision : ref.trim();
  if (!COMMIT.test(commit)) return undefined;
  const folder = join(hub.cache, 'snapshots', commit);
  // A link whose blob is gone is there, too, and not whole.
  const listed = (file: string) =>
    lstat(join(folder, file)).then(
      () => true,
      () => false,
    );
  if (wanted !== undefined || !(await listed('config.json'))) return cachedGguf(hub, folder, wanted);
  // Weights come last in a download, so a snapshot with all of them is whole.
  const shards = (await listed(SINGLE)) ? [SINGLE] : await shardsOf(folder).catch(() => []);
  const there = await Promise.all(shards.map(listed));
  if (shards.length === 0 || !there.every(Boolean)) return undefined;
  for (const file of [...SMALL_FILES, INDEX, ...shards]) {
    const fault = (await listed(file)) && (await faultOf(join(folder, file)));
    if (fault) return { folder, fault: `its ${file} in the cache is ${fault}` };
  }
  return { folder, fault: undefined };
}

/** A snapshot's GGUF file that is meant; without a word the only one that was fetched. */
async function cachedGguf(hub: Hub, folder: string, wanted: string | undefined): Promise<Cached | undefined> {
  const { readdir, stat } = await import('node:fs/promises');
  const { join, sep } = await import('node:path');
  const names = (await readdir(folder, { recursive: true }).catch(() => [])).filter(isGguf);
  const files: NamedFile[] = [];
  for (const name of names) {
    const about = await stat(join(folder, name)).catch(() => undefined);
    if (about?.isFile()) files.push({ name: name.split(sep).join('/'), size: about.size });
  }
  if (files.length === 0) return undefined;
  try {
    return { folder, gguf: chooseGguf(hub.id, files, wanted), fault: undefined };
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    return { folder, fault: `of its GGUF files the cache has ${files.map(({ name }) => name).join(', ')}` };
  }
}

/** What is wrong with a file of a snapshot, as far as can be seen without reading gigabytes. */
export async function faultOf(path: string): Promise<string | undefined> {
  const { readFile, realpath, stat } = await import('node:fs/promises');
  const { basename } = await import('node:path');
  const about = await stat(path).catch(() => undefined);
  if (!about) return `not there (${path} leads nowhere)`;
  if (path.endsWith('.safetensors')) {
    const size = await sizeByHeader(path);
    return size !== undefined && size > about.size ? `cut off (${about.size} of ${size} bytes)` : undefined;
  }
  // The blob that a link leads to is named after its content.
  const hash = basename(await realpath(path));
  if (!HASH.test(hash) || about.size > SMALL) return undefined;
  const { createHash } = await import('node:crypto');
  const bytes = await readFile(path).catch(() => null);
  if (!bytes) return `not to be read (${path})`;
  // Some mirrors tell the plain sha1, which tools then name the blob after.
  const plain = createHash(hash.length === 64 ? 'sha256' : 'sha1')
    .update(bytes)
    .digest('hex');
  const git = createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex');
  if (hash === plain || hash === git) return undefined;
  return `cut off or changed (${about.size} bytes that are not those of its name, ${hash.slice(0, 8)}…)`;
}

/** How long a safetensors file should be; undefined where its header is none. */
async function sizeByHeader(path: string): Promise<number | undefined> {
  const source = await openFile(path);
  try {
    if (source.size < 8) return 8;
    const length = Number(new DataView((await source.read(0, 8)).buffer).getBigUint64(0, true));
    if (length > 1e8) return undefined;
    if (8 + length > source.size) return 8 + length;
    const header = JSON.parse(new TextDecoder().decode(await source.read(8, 8 + length))) as object;
    const ends = Object.values(header).map((entry) => Number(entry?.data_offsets?.[1] ?? 0));
    return ends.reduce((most, end) => Math.max(most, 8 + length + end), 8 + length);
  } catch {
    return undefined;
  } finally {
    await source.close();
  }
}

async function download(
  hub: Hub,
  wanted: string | undefined,
  report: (progress: DownloadProgress) => void,
): Promise<Snapshot> {
  const { listFiles, modelInfo } = await import('@huggingface/hub');
  let pages = 0;
  const { join, dirname } = await import('node:path');
  const { makeFolder, sweepLitter, writeWhole } = await import('../engine/disk.ts');
  const shared = {
    hubUrl: hub.endpoint,
    fetch: (async (input, init) => {
      if (pages++ > MOST_PAGES) throw new UserError('hub', `${hub.id}: the list of its files has no end`);
      return hub.fetch(input, init);
    }) as typeof fetch,
  };
  const info = await modelInfo({
    ...shared,
    name: hub.id,
    revision: hub.revision,
    additionalFields: ['sha'],
  });
  hub.attempts = undefined;
  const commit = String(info.sha);
  if (!COMMIT.test(commit)) {
    throw new UserError('hub', `${hub.id}: ${hub.endpoint} does not answer like a Hub`);
  }
  const listed = new Map<string, ListFileEntry>();
  const repo = { type: 'model', name: hub.id } as const;
  for await (const file of listFiles({ ...shared, repo, revision: commit })) {
    if (file.type === 'file') listed.set(file.path, file);
  }
  const snapshot = join(hub.cache, 'snapshots', commit);
  const gguf = ggufOf(hub, listed, wanted);
  const small =
    gguf === undefined
      ? [...SMALL_FILES, ...(listed.has(SINGLE) ? [] : [INDEX])].filter((name) => listed.has(name))
      : [];
  const single = gguf ?? SINGLE;
  if (gguf === undefined) requireFiles(hub, listed);
  makeFolder(snapshot);
  sweepLitter(hub.cache, { levels: 2 });

  let total = sum(small, listed) + (listed.get(single)?.size ?? 0);
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
  const shards = listed.has(single) ? [single] : await shardsOf(snapshot);
  const absent = shards.find((shard) => !listed.has(shard));
  if (absent) throw new UserError('hub', `${hub.id}: ${INDEX} lists ${absent}, which is not on the Hub`);
  if (!listed.has(single)) total += sum(shards, listed);
  await requireSpace(
    hub,
    shards.map((shard) => listed.get(shard)!),
  );
  await fetchAll(shards);
  report({ file: shards.at(-1)!, done, total });

  if (hub.revision !== commit) {
    const ref = join(hub.cache, 'refs', hub.revision);
    makeFolder(dirname(ref));
    writeWhole(ref, commit);
  }
  return { folder: snapshot, gguf };
}

/** The GGUF file that is the model: one that is asked for, or the only one where there are no other weights. */
function ggufOf(
  hub: Hub,
  listed: ReadonlyMap<string, ListFileEntry>,
  wanted: string | undefined,
): string | undefined {
  const files = [...listed.values()].map(({ path, size }): NamedFile => ({ name: path, size }));
  const weights = listed.has(SINGLE) || listed.has(INDEX);
  if (wanted === undefined && (weights || !files.some(({ name }) => isGguf(name)))) return undefined;
  return chooseGguf(hub.id, files, wanted);
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
function listedHash(hub: Hub, file: ListFileEntry): string {
  const hash = file.lfs?.oid ?? file.oid ?? '';
  if (HASH.test(hash)) return hash;
  throw new UserError('hub', `${hub.id}: the Hub gives no hash for ${file.path}`);
}

async function blobPath(hub: Hub, file: ListFileEntry): Promise<string> {
  const { join } = await import('node:path');
  return join(hub.cache, 'blobs', listedHash(hub, file));
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
  const { copyWhole, makeFolder, pointTo } = await import('../engine/disk.ts');
  const { stat } = await import('node:fs/promises');
  const link = join(snapshot, safeName(file.path));
  const there = await stat(link).catch(() => undefined);
  const damaged = there !== undefined && (there.size !== file.size || (await faultOf(link)) !== undefined);
  if (there && !damaged) return;
  const blob = await blobPath(hub, file);
  for (const place of [blob, link]) makeFolder(dirname(place));
  const remote = {
    name: `${hub.id}/${file.path}`,
    size: file.size,
    hash: listedHash(hub, file),
    damaged,
    pause: hub.pause,
    stream: (begin: number) => openStream(hub, file, commit, begin),
  };
  await downloadBlob(blob, remote, report);
  // A link to a blob that was repaired is right again; a copy, or a link elsewhere, is not.
  if (there && (await stat(link).catch(() => undefined))?.ino === (await stat(blob)).ino) return;
  try {
    pointTo(link, relative(dirname(link), blob));
  } catch {
    // Windows allows links to few.
    copyWhole(blob, link);
  }
}

/** A file's bytes from `begin` on, or all of them where the server knows no ranges. */
async function openStream(
  hub: Hub,
  file: ListFileEntry,
  commit: string,
  begin: number,
): Promise<RemoteBytes> {
  const path = file.path.split('/').map(encodeURIComponent).join('/');
  const range = begin > 0 && { Range: `bytes=${begin}-${file.size - 1}` };
  // Sizes are of the files themselves, not of what a server makes of them for the way.
  const response = await hub.fetch(`${hub.endpoint}/${hub.id}/resolve/${commit}/${path}`, {
    headers: { 'Accept-Encoding': 'identity', ...range },
  });
  const { status, headers, body } = response;
  const [, first, total] = /^bytes (\d+)-\d+\/(\d+)$/.exec(headers.get('content-range') ?? '') ?? [];
  const from = status === 206 ? Number(first ?? Number.NaN) : 0;
  const length = headers.get('content-encoding') ? null : headers.get('content-length');
  const size = status === 206 ? total : (length ?? undefined);
  const fits = response.ok && (size === undefined || Number(size) === file.size);
  if (fits && body && from <= begin) return { begin: from, pieces: body as unknown as RemoteBytes['pieces'] };
  await body?.cancel().catch(() => {});
  // Another part than was asked for, or none: all of it, then.
  if (begin > 0 && (fits || status === 416)) return openStream(hub, file, commit, 0);
  const host = new URL(response.url || hub.endpoint).origin;
  // An address that was signed for a while, perhaps: the Hub signs another.
  if (!response.ok) throw new OtherAnswer(`${host} answers ${status}`);
  throw new OtherAnswer(`${host} has ${size ?? 'no'} bytes of it, its list says ${file.size}`);
}

async function exists(path: string): Promise<boolean> {
  const { stat } = await import('node:fs/promises');
  return stat(path).then(
    () => true,
    () => false,
  );
}

/** File names in a snapshot's index. */
const shardsOf = async (snapshot: string): Promise<string[]> =>
  shardsIn(await readIndex(await localFolder(snapshot)));
