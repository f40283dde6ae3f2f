import { createHash } from 'node:crypto';
import { existsSync, lstatSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, realpath, rm, utimes, writeFile } from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openDevice } from '../../engine/index.ts';
import { openFile } from '../../models/byteSource.ts';
import { openCheckpoint } from '../../models/checkpoint.ts';
import { type DownloadProgress, hubFolder, isHubId, resolveModelFolder } from '../../models/hub.ts';
import { loadModel } from '../../models/load.ts';
import { COMMIT, FakeHub } from './fakeHub.ts';

const golden = join(import.meta.dirname, '../golden/models');

let hub: FakeHub;
let home: string;
let env: Record<string, string>;
beforeEach(async () => {
  hub = new FakeHub();
  await hub.listen();
  home = await mkdtemp(join(tmpdir(), 'neurgrad-hub-'));
  env = { HF_ENDPOINT: hub.endpoint, HF_HOME: home };
});
afterEach(async () => {
  await hub.close();
  await rm(home, { recursive: true });
});

const cache = () => join(home, 'hub/models--org--tiny');
const resolve = (options: Parameters<typeof resolveModelFolder>[1] = {}) =>
  resolveModelFolder('org/tiny', { env, pause: 1, onNote: () => {}, ...options });

async function refusal(options: Parameters<typeof resolveModelFolder>[1] = {}, id = 'org/tiny') {
  const error = await resolveModelFolder(id, { env, pause: 1, ...options }).catch((error) => error);
  expect(error.name).toBe('UserError');
  expect(error.message).not.toContain('\n');
  return error as { code: string; message: string };
}

describe('downloading from the Hub', () => {
  it('fetches what is needed, once, into the shared cache layout', async () => {
    await hub.addModel(join(golden, 'bert-s'));
    hub.files.set('tokenizer.json', Buffer.from('{}'));
    const progress: DownloadProgress[] = [];
    const folder = await resolve({ onProgress: (each) => progress.push(each) });
    expect(hub.downloads.sort()).toEqual(['config.json', 'model.safetensors', 'tokenizer.json']);
    expect(folder.name).toBe(join(cache(), 'snapshots', COMMIT));
    expect(await readFile(join(cache(), 'refs/main'), 'utf8')).toBe(COMMIT);
    expect(lstatSync(join(folder.name, 'model.safetensors')).isSymbolicLink()).toBe(true);
    const sha = createHash('sha256').update(hub.files.get('model.safetensors')!).digest('hex');
    expect(await readdir(join(cache(), 'blobs'))).toContain(sha);
    expect(await readdir(join(cache(), 'blobs'))).toHaveLength(3);
    const checkpoint = await openCheckpoint(folder);
    expect(checkpoint.tensors.size).toBeGreaterThan(10);
    await checkpoint.close();
    const { done, total } = progress.at(-1)!;
    expect(done).toBe(total);
    expect(progress.every((each, i) => i === 0 || each.done >= progress[i - 1]!.done)).toBe(true);

    hub.log.length = 0;
    expect((await resolve()).name).toBe(folder.name);
    expect(hub.downloads).toEqual([]);
    expect(hub.log.length).toBeLessThanOrEqual(2);
    // A commit never changes: no request at all.
    hub.log.length = 0;
    await resolve({ revision: COMMIT });
    expect(hub.log).toEqual([]);
  });

  it('shards, and only those that the index lists', async () => {
    await hub.addModel(join(golden, 'llama-gqa'));
    hub.files.set('model-00009-of-00009.safetensors', Buffer.from('unlisted'));
    const checkpoint = await openCheckpoint(await resolve());
    expect(checkpoint.shards).toHaveLength(3);
    expect(hub.downloads).not.toContain('model-00009-of-00009.safetensors');
    await checkpoint.close();
  });

  it('a local folder wins, and nothing is asked', async () => {
    expect((await resolveModelFolder(join(golden, 'bert-s'), { env })).name).toBe(join(golden, 'bert-s'));
    expect(hub.log).toEqual([]);
  });

  it('offline: from the cache alone, or a clear error', async () => {
    const offline = { ...env, HF_HUB_OFFLINE: '1' };
    const error = await refusal({ env: offline });
    expect(error.code).toBe('hub-offline');
    expect(error.message).toContain(cache());
    expect(hub.log).toEqual([]);
    await hub.addModel(join(golden, 'bert-s'));
    const { name } = await resolve();
    hub.log.length = 0;
    expect((await resolve({ env: offline })).name).toBe(name);
    expect(hub.log).toEqual([]);
    // A snapshot without its weights does not count.
    await rm(join(name, 'model.safetensors'));
    expect((await refusal({ env: offline })).code).toBe('hub-offline');
  });

  it('an unreachable or failing Hub: from the cache where it can', async () => {
    const nowhere = { ...env, HF_ENDPOINT: 'http://127.0.0.1:1' };
    const error = await refusal({ env: nowhere });
    expect(error.code).toBe('hub-unreachable');
    expect(error.message).toMatch(/http:\/\/127\.0\.0\.1:1 cannot be reached; check the network/);
    await hub.addModel(join(golden, 'bert-s'));
    const { name } = await resolve();
    expect((await resolve({ env: nowhere })).name).toBe(name);
    hub.intercept = (_, response) => {
      response.writeHead(503).end();
      return true;
    };
    expect((await resolve()).name).toBe(name);
  });

  it('goes on where a server falls silent in the middle of a file', async () => {
    await hub.addModel(join(golden, 'bert-s'));
    const bytes = hub.files.get('model.safetensors')!;
    let silent = 0;
    hub.intercept = (request, response, path) => {
      const whole = path.endsWith('model.safetensors') && request.headers.range !== 'bytes=0-0';
      if (!whole || silent++ > 0) return false;
      response.writeHead(200, { 'Content-Length': bytes.length }).write(bytes.subarray(0, 1000));
      return true;
    };
    const { name } = await resolve({ silence: 200 });
    expect(await readFile(join(name, 'model.safetensors'))).toEqual(bytes);
    expect(silent).toBe(2);
  });

  it('the token: given, from the environment, from the file; only to the Hub itself', async () => {
    await hub.addModel(join(golden, 'bert-s'));
    const storage = new FakeHub();
    await storage.listen();
    const bytes = hub.files.get('model.safetensors')!;
    storage.intercept = (request, response) => {
      storage.send(response, bytes, request.headers.range);
      return true;
    };
    // Large files are answered by a redirect to storage elsewhere.
    hub.intercept = (_, response, path) => {
      if (!path.endsWith('model.safetensors')) return false;
      response.writeHead(302, { Location: `${storage.endpoint}/signed` }).end();
      return true;
    };
    await mkdir(home, { recursive: true });
    await writeFile(join(home, 'token'), 'hf_file\n');
    const tokens = async (options: { token?: string; env?: Record<string, string> }) => {
      await rm(join(home, 'hub'), { recursive: true, force: true });
      hub.log.length = 0;
      await resolve(options);
      return [...new Set(hub.log.map(({ token }) => token))];
    };
    expect(await tokens({})).toEqual(['Bearer hf_file']);
    expect(await tokens({ env: { ...env, HF_TOKEN: 'hf_env' } })).toEqual(['Bearer hf_env']);
    expect(await tokens({ env: { ...env, HF_TOKEN: 'hf_env' }, token: 'mirror-token' })).toEqual([
      'Bearer mirror-token',
    ]);
    expect(storage.log.length).toBeGreaterThan(0);
    expect(storage.log.every(({ token }) => token === undefined)).toBe(true);
    await storage.close();
  });

  it.each([
    [401, 'RepoNotFound', undefined, 'hub-denied', /not on the Hub, or private.*set HF_TOKEN/],
    [401, 'GatedRepo', undefined, 'hub-denied', /accept its terms at \S+\/org\/tiny and set HF_TOKEN/],
    [403, 'GatedRepo', 'hf_x', 'hub-denied', /accept its terms at \S+ and use a token of that account/],
    [404, 'RevisionNotFound', undefined, 'hub-missing', /has no revision main/],
    [404, 'RepoNotFound', 'hf_x', 'hub-missing', /not found/],
    [500, '', undefined, 'hub-unreachable', /answers 500; try again later/],
    [418, '', undefined, 'hub', /answers 418/],
  ])('refused with %i %s', async (status, header, token, code, message) => {
    hub.intercept = (_, response) => {
      response.writeHead(status, { 'X-Error-Code': header }).end('no');
      return true;
    };
    const error = await refusal({ token });
    expect(error.code).toBe(code);
    expect(error.message).toMatch(message);
    expect(existsSync(join(cache(), 'snapshots'))).toBe(false);
  });

  it('models that cannot be used are refused before anything is stored', async () => {
    expect((await refusal()).message).toMatch(/has no config\.json/);
    hub.files.set('config.json', Buffer.from('{}'));
    hub.files.set('pytorch_model.bin', Buffer.from('x'));
    expect((await refusal()).message).toMatch(/no model\.safetensors, only PyTorch files/);
    expect((await refusal({}, 'org/none')).code).toBe('hub-missing');
    expect((await refusal({ revision: '../../x' })).code).toBe('file-name');
    expect((await refusal({}, '../nowhere/x')).message).toMatch(/no such folder, and no Hub id/);
    expect((await refusal({ env: { ...env, HF_ENDPOINT: 'ftp://x' } })).message).toMatch(/HF_ENDPOINT/);
    hub.intercept = (_, response) => {
      response.writeHead(200, { 'Content-Type': 'text/html' }).end('<html>log in to this hotel network');
      return true;
    };
    expect((await refusal()).message).toMatch(/does not answer like a Hub/);
  });

  it('an index that escapes the cache is refused', async () => {
    hub.files.set('config.json', Buffer.from('{}'));
    hub.files.set(
      'model.safetensors.index.json',
      Buffer.from(JSON.stringify({ weight_map: { x: '../../../x.safetensors' } })),
    );
    expect((await refusal()).code).toBe('file-name');
    expect(existsSync(join(home, 'x.safetensors'))).toBe(false);
  });
});

describe('broken downloads', () => {
  const bytes = Buffer.alloc(400_000, 7);
  beforeEach(() => {
    hub.files.set('config.json', Buffer.from('{}'));
    hub.files.set('model.safetensors', bytes);
  });
  const weights = (path: string, request: IncomingMessage) =>
    path.endsWith('model.safetensors') && request.headers.range !== 'bytes=0-0';

  /** Sends only `length` of the bytes asked for, then cuts the line. */
  function cut(request: IncomingMessage, response: ServerResponse, length: number): void {
    const from = Number(/^bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
    response.writeHead(from ? 206 : 200, {
      'Content-Length': bytes.length - from,
      ...(from && { 'Content-Range': `bytes ${from}-${bytes.length - 1}/${bytes.length}` }),
    });
    response.write(bytes.subarray(from, from + length), () => setTimeout(() => response.destroy(), 50));
  }

  it('go on where they stopped', async () => {
    const ranges: (string | undefined)[] = [];
    hub.intercept = (request, response, path) => {
      if (!weights(path, request)) return false;
      ranges.push(request.headers.range);
      if (ranges.length > 2) return false;
      cut(request, response, 150_000);
      return true;
    };
    const folder = await resolve();
    expect(await readFile(join(folder.name, 'model.safetensors'))).toEqual(bytes);
    // How much of a broken transfer arrives is up to the network, so only that each try goes on counts.
    expect(ranges[0]).toBeUndefined();
    expect(ranges.at(-1)).toMatch(/^bytes=[1-9]\d*-399999$/);
    expect((await readdir(join(cache(), 'blobs'))).every((name) => /^[0-9a-f]+$/.test(name))).toBe(true);
  }, 20_000);

  it('leave no half file under its name, and the next start goes on', async () => {
    hub.intercept = (request, response, path) => {
      if (!weights(path, request)) return false;
      if (request.headers.range) response.writeHead(404).end();
      else cut(request, response, 150_000);
      return true;
    };
    expect((await refusal()).code).toBe('hub-missing');
    const snapshot = join(cache(), 'snapshots', COMMIT);
    expect(await readdir(snapshot)).toEqual(['config.json']);
    expect(existsSync(join(cache(), 'refs/main'))).toBe(false);
    const names = await readdir(join(cache(), 'blobs'));
    expect(names.filter((name) => !/^[0-9a-f]+$/.test(name))).toEqual([
      expect.stringMatching(/\.neurgrad-incomplete$/),
    ]);
    hub.intercept = () => false;
    hub.log.length = 0;
    await resolve();
    expect(hub.log.map(({ range }) => range)).toContainEqual(
      expect.stringMatching(/^bytes=[1-9]\d*-399999$/),
    );
  });

  it('damaged bytes are fetched once more, then refused', async () => {
    let tries = 0;
    hub.intercept = (request, response, path) => {
      if (!weights(path, request) || tries++ > 0) return false;
      hub.send(response, Buffer.alloc(bytes.length, 8), request.headers.range);
      return true;
    };
    expect(await readFile(join((await resolve()).name, 'model.safetensors'))).toEqual(bytes);
    expect(tries).toBe(2);
    await rm(join(home, 'hub'), { recursive: true });
    hub.intercept = (request, response, path) => {
      if (!weights(path, request)) return false;
      hub.send(response, Buffer.alloc(bytes.length, 8), request.headers.range);
      return true;
    };
    expect((await refusal()).message).toMatch(/arrives damaged/);
    expect(existsSync(join(cache(), 'snapshots', COMMIT, 'model.safetensors'))).toBe(false);
  });

  it('many at once share one download; a lock left by a dead process is taken over', async () => {
    const names = await Promise.all([resolve(), resolve(), resolve()]);
    expect(new Set(names.map(({ name }) => name)).size).toBe(1);
    expect(hub.downloads.filter((name) => name === 'model.safetensors')).toHaveLength(1);
    await rm(join(home, 'hub'), { recursive: true });
    const sha = createHash('sha256').update(bytes).digest('hex');
    await mkdir(join(cache(), 'blobs'), { recursive: true });
    const lock = join(cache(), 'blobs', `${sha}.neurgrad-lock`);
    await writeFile(lock, '');
    await utimes(lock, new Date(0), new Date(0));
    await resolve();
    expect(existsSync(lock)).toBe(false);
  });
});

describe('hubFolder', () => {
  it('reads over ranges, at one commit', async () => {
    await hub.addModel(join(golden, 'bert-s-sharded'));
    const folder = await hubFolder('org/tiny', { endpoint: hub.endpoint, token: 'hf_x', pause: 1 });
    expect(await folder.has('model.safetensors')).toBe(false);
    expect(JSON.parse(await folder.readText('config.json')).model_type).toBe('bert');
    const remote = await openCheckpoint(folder);
    for (const name of ['cls.predictions.bias', 'bert.embeddings.LayerNorm.weight']) {
      expect((await remote.readFloat32(name)).length).toBeGreaterThan(0);
    }
    expect(hub.log.every(({ token }) => token === 'Bearer hf_x')).toBe(true);
    await expect(folder.open('none')).rejects.toThrow(/org\/tiny: has no file none/);
    await expect(folder.open('../x')).rejects.toMatchObject({ code: 'file-name' });
    await expect(hubFolder('org/none', { endpoint: hub.endpoint })).rejects.toMatchObject({
      code: 'http-missing',
    });
  });

  it('knows a Hub id when it sees one', () => {
    for (const id of ['bert-base-uncased', 'meta-llama/Llama-2-7b-hf', 'a/b', 'x_1.2']) {
      expect(isHubId(id)).toBe(true);
    }
    for (const id of [
      '',
      'a/b/c',
      './a',
      '/a',
      'a/',
      'a..b',
      'a--b',
      'a b',
      '-a',
      'a?b',
      '~/a',
      'a'.repeat(97),
    ]) {
      expect(isHubId(id)).toBe(false);
    }
  });
});

describe('GGUF files of a Hub id', () => {
  const file = join(import.meta.dirname, '../golden-gguf/qwen2-a.gguf');
  const [small, large] = ['tiny-Q4_K.gguf', 'sub/tiny-Q4_K_M.gguf'];
  beforeEach(async () => {
    const bytes = await readFile(file);
    hub.files.set(small, bytes);
    hub.files.set(large, Buffer.concat([bytes, Buffer.alloc(2 ** 20)]));
    hub.files.set('README.md', Buffer.from('never downloaded'));
  });
  const named = (name: string, options: Parameters<typeof resolveModelFolder>[1] = {}) =>
    resolveModelFolder(name, { env, pause: 1, onNote: () => {}, ...options });

  it.each([
    [`org/tiny/${small}`, small],
    [`org/tiny/${large}`, large],
    [`org/tiny:${small}`, small],
    ['org/tiny:Q4_K_M', large],
    ['org/tiny:q4_k', small],
    ['org/tiny:sub', large],
  ])('%s', async (name, chosen) => {
    const path = join(cache(), 'snapshots', COMMIT, chosen);
    const progress: DownloadProgress[] = [];
    const folder = await named(name, { onProgress: (each) => progress.push(each) });
    expect(folder.name).toBe(path);
    expect(await folder.has('config.json')).toBe(true);
    expect(hub.downloads).toEqual([chosen.split('/').at(-1)]);
    expect(progress.at(-1)).toEqual({
      file: chosen,
      done: hub.files.get(chosen)!.length,
      total: hub.files.get(chosen)!.length,
    });
    // As huggingface_hub has it: a link to a blob that is called by its hash.
    const sha = createHash('sha256').update(hub.files.get(chosen)!).digest('hex');
    expect(await realpath(path)).toBe(await realpath(join(cache(), 'blobs', sha)));
    expect(await readFile(join(cache(), 'refs/main'), 'utf8')).toBe(COMMIT);
    hub.log.length = 0;
    const offline = { ...env, HF_HUB_OFFLINE: '1' };
    expect((await named(name, { env: offline })).name).toBe(path);
    expect((await named(name, { revision: COMMIT })).name).toBe(path);
    expect(hub.log).toEqual([]);
    expect((await named(name)).name).toBe(path);
    expect(hub.downloads).toEqual([]);
  });

  it('are listed with their sizes where none is chosen, or several are, or none is of that name', async () => {
    const [a, b] = [small, large].map(
      (name) => `${name} (${(hub.files.get(name)!.length / 1e6).toPrecision(3)} MB)`,
    );
    const none = await refusal();
    expect(none.code).toBe('gguf-file');
    expect(none.message).toContain(`choose one with --file, or org/tiny:NAME`);
    expect(none.message).toContain(`${a}, ${b}`);
    expect((await refusal({}, 'org/tiny:tiny')).message).toBe(
      `org/tiny: several files are called 'tiny': ${a}, ${b}`,
    );
    expect((await refusal({}, 'org/tiny/other.gguf')).message).toBe(
      `org/tiny: has no GGUF file 'other.gguf'; it has ${a}, ${b}`,
    );
    expect(hub.downloads).toEqual([]);
  });

  it('are taken without a word where there is one, and only beside no other weights', async () => {
    hub.files.delete(large);
    expect((await named('org/tiny')).name).toBe(join(cache(), 'snapshots', COMMIT, small));
    const notes: string[] = [];
    const offline = { env: { ...env, HF_HUB_OFFLINE: '1' }, onNote: (note: string) => notes.push(note) };
    expect((await named('org/tiny', offline)).name).toBe(join(cache(), 'snapshots', COMMIT, small));
    expect(notes).toEqual([
      expect.stringContaining(`${small} is taken, the only one in the cache; HF_HUB_OFFLINE`),
    ]);
    await hub.addModel(join(golden, 'bert-s'));
    expect((await named('org/tiny')).name).toBe(join(cache(), 'snapshots', COMMIT));
  });

  it('are named offline where another is in the cache', async () => {
    await named(`org/tiny/${small}`);
    const error = await refusal({ env: { ...env, HF_HUB_OFFLINE: '1' } }, 'org/tiny/other.gguf');
    expect(error.code).toBe('hub-offline');
    expect(error.message).toContain(`of its GGUF files the cache has ${small}`);
  });

  it('in parts are refused by their name before anything is downloaded', async () => {
    hub.files.clear();
    for (const part of ['00001', '00002']) hub.files.set(`big-${part}-of-00002.gguf`, Buffer.from('x'));
    const message =
      'is one of 2 parts, which are not read; join them with llama-gguf-split --merge and give the file';
    for (const name of ['org/tiny', 'org/tiny:big', 'org/tiny/big-00001-of-00002.gguf'])
      expect((await refusal({}, name)).message).toContain(message);
    expect(hub.downloads).toEqual([]);
  });

  it('a folder on this machine has them, too', async () => {
    for (const name of ['m-Q8_0.gguf', 'm-Q4_0.gguf'])
      await writeFile(join(home, name), await readFile(file));
    const folder = await named(`${home}:Q8_0`);
    expect(folder.name).toBe(join(home, 'm-Q8_0.gguf'));
    expect((await refusal({}, home)).message).toContain('m-Q4_0.gguf (0.104 MB)');
    await rm(join(home, 'm-Q8_0.gguf'));
    expect((await named(home)).name).toBe(join(home, 'm-Q4_0.gguf'));
    // A folder with a config is a checkpoint.
    await writeFile(join(home, 'config.json'), '{}');
    expect((await named(home)).name).toBe(home);
  });

  it('are read by ranges: what is not read is not fetched', async () => {
    const at = { endpoint: hub.endpoint, pause: 1 };
    for (const open of [
      () => hubFolder(`org/tiny/${large}`, at),
      () => resolveModelFolder(`${hub.endpoint}/org/tiny/resolve/${COMMIT}/${large}`),
      () => resolveModelFolder(`${hub.endpoint}/org/tiny/resolve/${COMMIT}/${large}?secret=1`),
    ]) {
      hub.log.length = 0;
      const folder = await open();
      expect(folder.name).not.toContain('secret');
      const weights = await folder.open('model.safetensors');
      await weights.read(0, 4096);
      const ranges = hub.log
        .flatMap(({ range }) => /bytes=(\d+)-(\d+)/.exec(range ?? '')?.slice(1) ?? [])
        .map(Number);
      expect(ranges.length).toBeGreaterThan(4);
      const fetched = ranges.reduce((sum, end, i) => (i % 2 ? sum + end - ranges[i - 1]! + 1 : sum), 0);
      expect(fetched).toBeLessThan(hub.files.get(large)!.length);
      await weights.close();
    }
    await expect(hubFolder('org/tiny', at)).rejects.toThrow('choose one with --file');
    expect((await hubFolder('org/tiny:Q4_K_M', at)).name).toBe(`org/tiny/${large}`);
  });

  it('are loaded from any source of bytes', async () => {
    const source = await openFile(file);
    const device = await openDevice();
    const { model, tokenizer, folder } = await loadModel(source, { device, onNote: () => {} });
    expect([tokenizer.vocabularySize, folder]).toEqual([97, file]);
    // The file is the caller's, and still open.
    expect((await source.read(0, 4)).join()).toBe('71,71,85,70');
    model.dispose();
    device.destroy();
    await source.close();
    await expect(loadModel(7 as never)).rejects.toThrow('expected');
  });
});
