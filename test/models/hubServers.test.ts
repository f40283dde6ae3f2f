/**
 * Downloads from servers that misbehave: the file arrives, or one line says what is the matter. And the cache: repaired,
 * gone without, and found where the environment says.
 */

import { createHash } from 'node:crypto';
import { existsSync, lstatSync } from 'node:fs';
import {
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  realpath,
  rm,
  symlink,
  truncate,
  unlink,
  writeFile,
} from 'node:fs/promises';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { homedir, tmpdir, userInfo } from 'node:os';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { expandPath, hubFolders } from '../../models/hubRequests.ts';
import { hubFolder, loadModel, resolveModelFolder, urlFolder } from '../../models/index.ts';
import { pauseAsked } from '../../models/retry.ts';
import { resolveDataFolder } from '../../probing/dataFolder.ts';
import { COMMIT, FakeHub } from './fakeHub.ts';

const golden = join(import.meta.dirname, '../golden/models');

let hub: FakeHub;
let home: string;
let env: Record<string, string>;
let notes: string[];
beforeEach(async () => {
  hub = new FakeHub();
  await hub.listen();
  await hub.addModel(join(golden, 'bert-s'));
  hub.files.set('tokenizer.json', Buffer.from('{}'));
  home = await mkdtemp(join(tmpdir(), 'neurgrad-servers-'));
  env = { HF_ENDPOINT: hub.endpoint, HF_HOME: home };
  notes = [];
});
afterEach(async () => {
  await hub.close();
  await rm(home, { recursive: true });
});

type Options = Parameters<typeof resolveModelFolder>[1];
const resolve = (options: Options = {}) =>
  resolveModelFolder('org/tiny', {
    env,
    pause: 1,
    silence: 5000,
    onNote: (note) => notes.push(note),
    ...options,
  });

async function refusal(options: Options = {}): Promise<{ code: string; message: string }> {
  const error = await resolve(options).then(
    () => expect.unreachable('it was accepted'),
    (error) => error,
  );
  expect(error.name).toBe('UserError');
  expect(error.message).not.toContain('\n');
  return error;
}

const snapshot = () => join(home, 'hub/models--org--tiny/snapshots', COMMIT);
const WEIGHTS = 'model.safetensors';

/** Every file is there, whole, under its name. */
async function expectWhole(): Promise<void> {
  for (const name of ['config.json', 'tokenizer.json', WEIGHTS])
    expect(await readFile(join(snapshot(), name))).toEqual(hub.files.get(name));
  const left = (await readdir(join(snapshot(), '../../blobs'))).filter((name) => !/^[0-9a-f]+$/.test(name));
  expect(left).toEqual([]);
}

type Answer = (request: IncomingMessage, response: ServerResponse, bytes: Buffer) => void;

/** The requests that `pattern` is of the path are answered so, the first `times` of them. @returns how many came. */
function misbehave(pattern: RegExp, answer: Answer, times = Number.POSITIVE_INFINITY): () => number {
  let count = 0;
  hub.intercept = (request, response, path) => {
    if (!pattern.test(path)) return false;
    if (++count > times) return false;
    answer(request, response, hub.files.get(path.split('/').at(-1)!) ?? Buffer.alloc(0));
    return true;
  };
  return () => count;
}

const status =
  (code: number, headers: Record<string, string> = {}): Answer =>
  (_, response) =>
    void response.writeHead(code, headers).end('{"error":"not now"}');
/** The whole body, whatever was asked for. */
const whole: Answer = (_, response, bytes) =>
  void response.writeHead(200, { 'Content-Length': bytes.length }).end(bytes);
/** Some bytes of what was asked for, and the line is cut. */
const cut =
  (length: number, knowsRanges = true): Answer =>
  (request, response, bytes) => {
    const asked = knowsRanges ? Number(/^bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0) : 0;
    response.writeHead(asked ? 206 : 200, {
      'Content-Length': bytes.length - asked,
      ...(asked && { 'Content-Range': `bytes ${asked}-${bytes.length - 1}/${bytes.length}` }),
    });
    response.write(bytes.subarray(asked, asked + length), () => setTimeout(() => response.destroy(), 20));
  };

const [INFO, TREE, FILES] = [/\/revision\//, /\/tree\//, /\/resolve\//];
const SAFETENSORS = /safetensors$/;

describe('a server that misbehaves, and the download succeeds', () => {
  const everywhere = [INFO, TREE, FILES, /./] as const;
  const cases: [string, RegExp, Answer, number][] = [
    ['answers ranges with the whole body', FILES, whole, Number.POSITIVE_INFINITY],
    ...everywhere.flatMap((pattern): [string, RegExp, Answer, number][] => [
      [`is overloaded (429) at ${pattern}`, pattern, status(429), 2],
      [`fails (500) at ${pattern}`, pattern, status(500), 3],
      [`is down (503) at ${pattern}`, pattern, status(503), 4],
      [`has an unusual fault (521) at ${pattern}`, pattern, status(521), 2],
      [`cuts the line before it answers at ${pattern}`, pattern, (request) => request.destroy(), 2],
    ]),
    [
      'cuts a list of files',
      TREE,
      (_, response) => {
        response.writeHead(200, { 'Content-Length': 5000 }).write('[{"type":');
        setTimeout(() => response.destroy(), 20);
      },
      2,
    ],
    ['falls silent before it answers', INFO, () => {}, 1],
    ['cuts the file in the middle', SAFETENSORS, cut(30_000), 3],
    ['cuts the file in the middle, and knows no ranges', SAFETENSORS, cut(60_000, false), 3],
    [
      'cuts the file, then sends all of it for a range',
      SAFETENSORS,
      (request, response, bytes) => (request.headers.range ? whole : cut(30_000))(request, response, bytes),
      9,
    ],
    [
      'sends another range than was asked for',
      SAFETENSORS,
      (request, response, bytes) => {
        if (!request.headers.range) return cut(30_000)(request, response, bytes);
        const range = { 'Content-Range': `bytes 90000-${bytes.length - 1}/${bytes.length}` };
        response.writeHead(206, range).end(bytes.subarray(90_000));
      },
      2,
    ],
    [
      'sends an earlier range than was asked for',
      SAFETENSORS,
      (request, response, bytes) => {
        if (!request.headers.range) return cut(30_000)(request, response, bytes);
        const range = { 'Content-Range': `bytes 1000-${bytes.length - 1}/${bytes.length}` };
        response.writeHead(206, range).end(bytes.subarray(1000));
      },
      2,
    ],
    [
      'does not say which range it sends',
      SAFETENSORS,
      (request, response, bytes) => {
        if (!request.headers.range) return cut(30_000)(request, response, bytes);
        response.writeHead(206).end(bytes.subarray(10));
      },
      2,
    ],
    [
      'says that there is no such range',
      SAFETENSORS,
      (request, response, bytes) => {
        if (!request.headers.range) return cut(30_000)(request, response, bytes);
        response.writeHead(416, { 'Content-Range': `bytes */${bytes.length}` }).end();
      },
      2,
    ],
    [
      'compresses what it sends',
      FILES,
      (_, response, bytes) => {
        response.writeHead(200, { 'Content-Encoding': 'gzip' }).end(gzipSync(bytes));
      },
      Number.POSITIVE_INFINITY,
    ],
    [
      'sends no length',
      FILES,
      (_, response, bytes) => {
        response.writeHead(200, { 'Transfer-Encoding': 'chunked' }).end(bytes);
      },
      Number.POSITIVE_INFINITY,
    ],
    [
      'sends damaged bytes once',
      SAFETENSORS,
      (_, response, bytes) => {
        response.writeHead(200).end(Buffer.alloc(bytes.length, 8));
      },
      1,
    ],
    [
      'sends more than there is once',
      SAFETENSORS,
      (_, response, bytes) => {
        response.writeHead(200).end(Buffer.concat([bytes, bytes]));
      },
      1,
    ],
    [
      'sends a page for people once',
      SAFETENSORS,
      (_, response) => {
        response.writeHead(200, { 'Content-Type': 'text/html', 'Content-Length': 7 }).end('<html>!');
      },
      1,
    ],
  ];
  it.each(cases)('%s', async (_, pattern, answer, times) => {
    const count = misbehave(pattern, answer, times);
    await resolve({ silence: 300 });
    await expectWhole();
    expect(count()).toBeGreaterThan(Math.min(times, 2) - 1);
  });

  it('redirects to storage whose addresses expire', async () => {
    const storage = new FakeHub();
    await storage.listen();
    let signed = 0;
    hub.intercept = (_, response, path) => {
      if (!SAFETENSORS.test(path)) return false;
      response
        .writeHead(302, { Location: `${storage.endpoint}/signed/${++signed}?X-Signature=secret` })
        .end();
      return true;
    };
    storage.intercept = (request, response, path) => {
      if (path.endsWith('/1')) status(403)(request, response, Buffer.alloc(0));
      else if (path.endsWith('/2')) cut(30_000)(request, response, hub.files.get(WEIGHTS)!);
      else storage.send(response, hub.files.get(WEIGHTS)!, request.headers.range);
      return true;
    };
    await resolve();
    await expectWhole();
    expect(signed).toBe(3);
    // And for ever: told without what is secret in the address.
    await rm(join(home, 'hub'), { recursive: true });
    storage.intercept = (request, response) => {
      status(403)(request, response, Buffer.alloc(0));
      return true;
    };
    const { code, message } = await refusal();
    expect([code, message]).toEqual([
      'hub-unreachable',
      expect.stringContaining(`${storage.endpoint} answers 403`),
    ]);
    expect(message).not.toContain('secret');
    await storage.close();
  });

  it('lists files on many pages', async () => {
    const pages = ['[]', '[]'];
    hub.intercept = (_, response, path) => {
      if (!TREE.test(path) || pages.length === 0) return false;
      const Link = `<${hub.endpoint}${path}?cursor=${pages.length}>; rel="next"`;
      response.writeHead(200, { 'Content-Type': 'application/json', Link }).end(pages.pop());
      return true;
    };
    await resolve();
    await expectWhole();
    expect(hub.log.filter(({ url }) => TREE.test(url))).toHaveLength(3);
  });

  it.each<[string, Record<string, string>]>([
    ['seconds', { 'Retry-After': '1' }],
    ['a date', { 'Retry-After': new Date(Math.ceil(Date.now() / 1000) * 1000 + 3000).toUTCString() }],
    [
      "the Hub's own header",
      { RateLimit: '"api";r=0;t=1', 'RateLimit-Policy': '"fixed window";"api";q=500;w=300' },
    ],
  ])('asks for a pause by %s, and gets it', async (how, headers) => {
    for (const pattern of how === 'seconds' ? [INFO, TREE, SAFETENSORS] : [INFO]) {
      await rm(join(home, 'hub'), { recursive: true, force: true });
      const times: number[] = [];
      hub.intercept = (request, response, path) => {
        if (!pattern.test(path)) return false;
        times.push(Date.now());
        if (times.length > 1) return false;
        const fresh =
          how === 'a date' ? { 'Retry-After': new Date(Date.now() + 2000).toUTCString() } : headers;
        status(429, fresh)(request, response, Buffer.alloc(0));
        return true;
      };
      await resolve();
      await expectWhole();
      expect(times.length).toBeGreaterThan(1);
      // Dates have whole seconds.
      expect(times[1]! - times[0]!).toBeGreaterThanOrEqual(how === 'a date' ? 900 : 990);
    }
  });

  it('pauses are read as they are meant', () => {
    const now = Date.parse('2026-01-01T00:00:00Z');
    const asked = (headers: Record<string, string>) => pauseAsked(new Headers(headers), now);
    expect(asked({ 'Retry-After': '120' })).toBe(120_000);
    expect(asked({ 'Retry-After': 'Thu, 01 Jan 2026 00:00:30 GMT' })).toBe(30_000);
    expect(asked({ 'Retry-After': 'Wed, 31 Dec 2025 00:00:00 GMT' })).toBe(0);
    expect(asked({ 'Retry-After': 'soon' })).toBeUndefined();
    expect(asked({ RateLimit: '"resolvers";r=4999;t=200' })).toBeUndefined();
    expect(asked({})).toBeUndefined();
  });

  it('a long pause is told, and a pause of an hour is not waited for', async () => {
    misbehave(INFO, status(429, { 'Retry-After': '3' }), 1);
    await resolve();
    expect(notes).toEqual([`org/tiny: ${hub.endpoint} answers 429; the next try is in 3 s`]);
    await rm(join(home, 'hub'), { recursive: true });
    const count = misbehave(INFO, status(429, { 'Retry-After': '3600' }));
    expect((await refusal()).message).toMatch(/answers 429; try again in 3600 s, as it asks/);
    expect(count()).toBe(1);
  });
});

describe('a server that misbehaves, and the download is refused in one line', () => {
  it.each<[string, RegExp, Answer, string, RegExp]>([
    ['is overloaded for ever', INFO, status(429), 'hub-unreachable', /answers 429; try again later/],
    ['is down for ever', FILES, status(503), 'hub-unreachable', /answers 503; try again later/],
    [
      'cuts every line',
      INFO,
      (request) => request.destroy(),
      'hub-unreachable',
      /cannot be reached.*\((ECONNRESET|UND_ERR_SOCKET)\)$/,
    ],
    [
      'asks for a login',
      INFO,
      (_, response) => void response.writeHead(200).end('<html>log in'),
      'hub',
      /does not answer like a Hub/,
    ],
    [
      'lists an object',
      TREE,
      (_, response) => void response.writeHead(200).end('{"error":"x"}'),
      'hub',
      /does not answer like a Hub/,
    ],
    [
      'lists nonsense',
      TREE,
      (_, response) => void response.writeHead(200).end('[null]'),
      'hub',
      /does not answer like a Hub/,
    ],
    [
      'lists no hashes',
      TREE,
      (_, response) => {
        const entries = [...hub.files].map(([path, { length }]) => ({ type: 'file', path, size: length }));
        response.writeHead(200).end(JSON.stringify(entries));
      },
      'hub',
      /gives no hash for config\.json/,
    ],
    [
      'lists for ever',
      TREE,
      (request, response) => {
        response.writeHead(200, { Link: `<${hub.endpoint}${request.url}>; rel="next"` }).end('[]');
      },
      'hub',
      /list of its files has no end/,
    ],
    [
      'has no commit',
      INFO,
      (_, response) => void response.writeHead(200).end('{"sha":"main"}'),
      'hub',
      /does not answer like a Hub/,
    ],
    [
      'sends a Git LFS pointer',
      SAFETENSORS,
      (_, response) => {
        response.writeHead(200, { 'Content-Length': 24 }).end('version https://git-lfs.');
      },
      'hub-unreachable',
      /model\.safetensors: the download broke off at byte 0 .* has 24 bytes of it, its list says 98776/,
    ],
    [
      'sends damaged bytes for ever',
      SAFETENSORS,
      (_, response, bytes) => {
        response.writeHead(200).end(Buffer.alloc(bytes.length, 8));
      },
      'hub',
      /model\.safetensors: arrives damaged/,
    ],
    [
      'sends nothing',
      SAFETENSORS,
      (_, response) => void response.writeHead(200).end(),
      'hub-unreachable',
      /broke off at byte 0/,
    ],
    [
      'sends a third of it for ever',
      SAFETENSORS,
      (request, response, bytes) => {
        response.writeHead(request.headers.range ? 204 : 200);
        response.end(request.headers.range ? undefined : bytes.subarray(0, 30_000));
      },
      'hub-unreachable',
      /broke off at byte 30000 of 98776/,
    ],
    [
      'redirects in circles',
      SAFETENSORS,
      (request, response) => {
        response.writeHead(302, { Location: `${hub.endpoint}${request.url}` }).end();
      },
      'hub-unreachable',
      /cannot be reached/,
    ],
  ])('%s', async (_, pattern, answer, code, message) => {
    misbehave(pattern, answer);
    const error = await refusal({ silence: 300 });
    expect(error.message).toMatch(message);
    expect(error.code).toBe(code);
    expect(existsSync(join(snapshot(), WEIGHTS))).toBe(false);
    expect(existsSync(join(home, 'hub/models--org--tiny/refs/main'))).toBe(false);
  });

  it('ranges of a plain address that are answered with the whole body are refused as before', async () => {
    hub.intercept = (request, response, path) => {
      whole(request, response, hub.files.get(path.split('/').at(-1)!) ?? Buffer.alloc(3));
      return true;
    };
    const folder = urlFolder(`${hub.endpoint}/folder/`);
    await expect(folder.readText('config.json')).rejects.toThrow('the server ignores byte ranges');
  });

  it('reading by ranges waits as it is asked to', async () => {
    const times: number[] = [];
    hub.intercept = (request, response) => {
      times.push(Date.now());
      if (times.length > 1) return false;
      status(429, { 'Retry-After': '1' })(request, response, Buffer.alloc(0));
      return true;
    };
    const folder = await hubFolder('org/tiny', { endpoint: hub.endpoint, pause: 1 });
    expect(JSON.parse(await folder.readText('config.json')).model_type).toBe('bert');
    expect(times[1]! - times[0]!).toBeGreaterThanOrEqual(990);
  });
});

describe('the cache', () => {
  const offline = (name = 'HF_HUB_OFFLINE') => ({ env: { ...env, [name]: '1' } });

  const FAULTS: [string, string, () => Promise<void>, RegExp][] = [
    [
      'weights cut off',
      WEIGHTS,
      () => truncate(join(snapshot(), WEIGHTS), 50_000),
      /model\.safetensors in the cache is cut off \(50000 of 98776 bytes\)/,
    ],
    [
      'weights cut off in their header',
      WEIGHTS,
      () => truncate(join(snapshot(), WEIGHTS), 1000),
      /cut off \(1000 of/,
    ],
    ['empty weights', WEIGHTS, () => truncate(join(snapshot(), WEIGHTS), 0), /cut off \(0 of/],
    [
      'a config cut off',
      'config.json',
      () => truncate(join(snapshot(), 'config.json'), 100),
      /config\.json in the cache is cut off or changed/,
    ],
    [
      'a tokenizer of other bytes',
      'tokenizer.json',
      async () => writeFile(await realpath(join(snapshot(), 'tokenizer.json')), '[]'),
      /tokenizer\.json in the cache is cut off or changed/,
    ],
    [
      'a blob that is gone',
      WEIGHTS,
      async () => unlink(await realpath(join(snapshot(), WEIGHTS))),
      /model\.safetensors in the cache is not there/,
    ],
  ];
  it.each(FAULTS)('%s: repaired with a network, named without', async (_, file, break_, message) => {
    await resolve();
    await break_();
    hub.log.length = 0;
    for (const name of ['HF_HUB_OFFLINE', 'TRANSFORMERS_OFFLINE']) {
      const { code, message: said } = await refusal(offline(name));
      expect(code).toBe('hub-offline');
      expect(said).toMatch(message);
      expect(said).toContain(`${name} is set; unset it once to download`);
    }
    expect(hub.log).toEqual([]);
    const nowhere = await refusal({ env: { ...env, HF_ENDPOINT: 'http://127.0.0.1:1' } });
    expect(nowhere.message).toMatch(message);
    // By branch and by commit, only what is broken is fetched.
    for (const options of [{}, { revision: COMMIT }]) {
      hub.log.length = 0;
      await resolve(options);
      await expectWhole();
      expect(hub.downloads).toEqual([file]);
      expect(lstatSync(join(snapshot(), file)).isSymbolicLink()).toBe(true);
      await break_();
    }
    expect(notes).toEqual([]);
  });

  it('a blob that was cut off is gone on with', async () => {
    await resolve();
    await truncate(join(snapshot(), WEIGHTS), 50_000);
    hub.log.length = 0;
    await resolve();
    await expectWhole();
    expect(hub.log.filter(({ url }) => SAFETENSORS.test(url)).map(({ range }) => range)).toEqual([
      'bytes=50000-98775',
    ]);
  });

  it('copies instead of links, and blobs named after a plain sha1, are whole as they are', async () => {
    await resolve();
    for (const name of ['config.json', WEIGHTS]) {
      await unlink(join(snapshot(), name));
      await writeFile(join(snapshot(), name), hub.files.get(name)!);
    }
    const sha1 = createHash('sha1').update('{}').digest('hex');
    await unlink(join(snapshot(), 'tokenizer.json'));
    await writeFile(join(snapshot(), '../../blobs', sha1), '{}');
    await symlink(`../../blobs/${sha1}`, join(snapshot(), 'tokenizer.json'));
    hub.log.length = 0;
    expect((await resolve(offline())).name).toBe(snapshot());
    await resolve();
    expect(hub.downloads).toEqual([]);
    // A copy that is cut off is replaced.
    await truncate(join(snapshot(), WEIGHTS), 10);
    await resolve();
    await expectWhole();
  });

  it('without a tokenizer: said, not taken for a model without one', async () => {
    await resolve();
    await rm(join(snapshot(), 'tokenizer.json'));
    for (const [name, options] of [
      ['HF_HUB_OFFLINE is set; unset it once to download', offline()],
      ['TRANSFORMERS_OFFLINE is set', offline('TRANSFORMERS_OFFLINE')],
      ['the Hub gives no more now', { env: { ...env, HF_ENDPOINT: 'http://127.0.0.1:1' } }],
    ] as const) {
      const folder = await resolve(options);
      const { message } = await folder.has('tokenizer.json').catch((error) => error);
      expect(message).toContain('org/tiny: its tokenizer.json is not in the cache');
      expect(message).toContain(name);
      expect(await folder.has('config.json')).toBe(true);
      expect(await folder.has('special_tokens_map.json')).toBe(false);
    }
    const saved = { ...process.env };
    Object.assign(process.env, offline().env);
    try {
      await expect(loadModel('org/tiny')).rejects.toThrow(
        /its tokenizer\.json is not in the cache .*HF_HUB_OFFLINE is set/,
      );
    } finally {
      process.env = saved;
    }
  });

  it.each<[Record<string, string>, boolean]>([
    [{ HF_HUB_OFFLINE: '1' }, true],
    [{ HF_HUB_OFFLINE: 'ON' }, true],
    [{ TRANSFORMERS_OFFLINE: 'yes' }, true],
    [{ TRANSFORMERS_OFFLINE: '1', HF_HUB_OFFLINE: '' }, true],
    // As huggingface_hub: the first that is set.
    [{ TRANSFORMERS_OFFLINE: '1', HF_HUB_OFFLINE: '0' }, false],
    [{ TRANSFORMERS_OFFLINE: '0' }, false],
  ])('%j', async (variables, offline) => {
    const found = resolve({ env: { ...env, ...variables } });
    if (offline) await expect(found).rejects.toMatchObject({ code: 'hub-offline' });
    else await found;
    expect(hub.log.length > 0).toBe(!offline);
    const data = resolveDataFolder('org/data', { env: { ...env, ...variables } });
    await expect(data).rejects.toMatchObject({ code: offline ? 'hub-offline' : 'hub-missing' });
  });

  it.each([[401], [403], [429], [500]])(
    'stands in for a Hub that answers %i, and that is said',
    async (code) => {
      const { name } = await resolve();
      hub.intercept = (request, response) => {
        status(code)(request, response, Buffer.alloc(0));
        return true;
      };
      expect((await resolve()).name).toBe(name);
      expect(notes).toEqual([expect.stringMatching(/^org\/tiny: .*; what is in the cache is used$/)]);
    },
  );
});

describe('folders that the environment names', () => {
  it.each<[string, Record<string, string>, string]>([
    ['~/x', { HOME: '/home/me' }, '/home/me/x'],
    ['~', { HOME: '/home/me/' }, '/home/me'],
    ['$SCRATCH/hf', { SCRATCH: '/scratch' }, '/scratch/hf'],
    ['/a/$\x7bUSER}-hf', { USER: 'me' }, '/a/me-hf'],
    ['~/$A/$B', { HOME: '/h', A: '1', B: '2' }, '/h/1/2'],
    // As Python leaves them.
    ['/a/$NOT_SET/b', {}, '/a/$NOT_SET/b'],
    ['/a/~/b', { HOME: '/h' }, '/a/~/b'],
    ['~nobody-of-this-name/x', { HOME: '/h' }, '~nobody-of-this-name/x'],
    ['relative/x', {}, 'relative/x'],
  ])('%s', async (path, env, whole) => {
    expect(await expandPath(path, env)).toBe(whole);
  });

  it('without HOME, and of a user by name', async () => {
    expect(await expandPath('~/x', {})).toBe(join(homedir(), 'x'));
    const { username, homedir: own } = userInfo();
    expect(await expandPath(`~${username}/x`, {})).toBe(join(own, 'x'));
  });

  it('in every variable', async () => {
    const base = { HOME: '/h', S: '/s' };
    expect(await hubFolders(base)).toEqual({
      home: '/h/.cache/huggingface',
      cacheRoot: '/h/.cache/huggingface/hub',
      tokenFile: '/h/.cache/huggingface/token',
    });
    expect((await hubFolders({ ...base, XDG_CACHE_HOME: '$S/c' })).home).toBe('/s/c/huggingface');
    expect((await hubFolders({ ...base, HF_HOME: '~/hf' })).cacheRoot).toBe('/h/hf/hub');
    for (const name of ['HF_HUB_CACHE', 'HUGGINGFACE_HUB_CACHE'])
      expect((await hubFolders({ ...base, [name]: '$\x7bS}/models' })).cacheRoot).toBe('/s/models');
    expect((await hubFolders({ ...base, HF_TOKEN_PATH: '~/t' })).tokenFile).toBe('/h/t');
  });

  it('a download goes there', async () => {
    const folder = await resolve({
      env: { HF_ENDPOINT: hub.endpoint, HF_HOME: '$SOMEWHERE/hf', SOMEWHERE: home },
    });
    expect(folder.name).toBe(join(home, 'hf/hub/models--org--tiny/snapshots', COMMIT));
    await mkdir(join(home, 'me'));
    const own = await resolve({
      env: { HF_ENDPOINT: hub.endpoint, HF_HUB_CACHE: '~/cache', HOME: join(home, 'me') },
    });
    expect(dirname(dirname(dirname(own.name)))).toBe(join(home, 'me/cache'));
  });
});
