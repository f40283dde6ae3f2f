import { mkdir, mkdtemp, open, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { UserError } from '../../engine/errors.ts';
import {
  type ByteFolder,
  blobSource,
  fileMapFolder,
  localFolder,
  openFile,
  safeName,
} from '../../models/byteSource.ts';
import { urlFolder } from '../../models/httpFolder.ts';
import { openUrl } from '../../models/httpSource.ts';

let root: string;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'neurgrad-'));
  await mkdir(join(root, 'model/sub'), { recursive: true });
  await writeFile(join(root, 'secret.json'), 'secret');
  await writeFile(join(root, 'model/config.json'), '{"a":1}');
  await writeFile(join(root, 'model/sub/x.txt'), 'x');
  await writeFile(join(root, 'model/latin.txt'), Buffer.from([0xe9]));
  await symlink('../secret.json', join(root, 'model/link.json'));
});
afterAll(() => rm(root, { recursive: true }));

describe('names stay inside their folder', () => {
  const escapes = [
    '../secret.json',
    'sub/../../secret.json',
    '/etc/passwd',
    'sub//x.txt',
    './config.json',
    '.',
    '..',
    '',
    'sub/',
    '..\\secret.json',
    'C:/x',
    'c:x',
    'config.json\0.txt',
    'a\nb',
  ];
  it.each(escapes)('%j', async (name) => {
    const folders: ByteFolder[] = [await localFolder(join(root, 'model')), fileMapFolder(new Map())];
    for (const folder of folders) {
      for (const attempt of [folder.has(name), folder.open(name), folder.readText(name)]) {
        await expect(attempt).rejects.toMatchObject({ name: 'UserError', code: 'file-name' });
      }
    }
    expect(() => safeName(name)).toThrow(UserError);
  });

  it('ordinary names, and links out of the folder, as the Hugging Face cache has them', async () => {
    const folder = await localFolder(join(root, 'model'));
    expect(await folder.readText('config.json')).toBe('{"a":1}');
    expect(await folder.readText('sub/x.txt')).toBe('x');
    expect(await folder.readText('link.json')).toBe('secret');
    expect(await folder.has('..data')).toBe(false);
    expect(await folder.has('sub')).toBe(false);
  });
});

describe('local files and blobs', () => {
  it('errors in one line', async () => {
    await expect(localFolder(join(root, 'nowhere'))).rejects.toThrow(/nowhere: no such folder/);
    await expect(localFolder(join(root, 'secret.json'))).rejects.toThrow(/is a file, not a folder/);
    const folder = await localFolder(join(root, 'model'));
    await expect(folder.open('none.json')).rejects.toThrow(/none\.json: no such file/);
    await expect(folder.open('sub')).rejects.toThrow(/not a regular file/);
    await expect(folder.open('config.json/x')).rejects.toThrow(/no such file/);
    await expect(folder.readText('latin.txt')).rejects.toThrow(/not UTF-8/);
    await expect(fileMapFolder(new Map(), 'upload').open('a')).rejects.toThrow(/not among the files/);
  });

  it('reads by position, and refuses what lies outside', async () => {
    const bytes = Uint8Array.from({ length: 1000 }, (_, i) => i);
    const path = join(root, 'thousand');
    await writeFile(path, bytes);
    for (const source of [await openFile(path), blobSource(new Blob([bytes]))]) {
      expect(source.size).toBe(1000);
      expect(await source.read(250, 260)).toEqual(bytes.slice(250, 260));
      expect(await source.read(1000, 1000)).toEqual(new Uint8Array(0));
      const target = new Uint8Array(20);
      await source.readInto(990, target.subarray(5, 15));
      expect(target.subarray(5, 15)).toEqual(bytes.slice(990));
      for (const [begin, end] of [
        [-1, 4],
        [4, 3],
        [999, 1001],
        [0.5, 4],
        [NaN, 4],
      ] as const) {
        await expect(source.read(begin, end)).rejects.toMatchObject({ code: 'file-range' });
      }
      await source.close();
    }
  });

  it('notices a file cut while it is open', async () => {
    const path = join(root, 'cut');
    await writeFile(path, new Uint8Array(1000));
    const source = await openFile(path);
    await truncate(path, 500);
    await expect(source.read(400, 600)).rejects.toThrow(/ended at byte 500 of 1000/);
    await source.close();
  });

  it('reads a 5 GB file in little memory', async () => {
    const path = join(root, 'sparse');
    const handle = await open(path, 'w');
    await handle.truncate(5e9);
    await handle.write(new Uint8Array([1, 2, 3]), 0, 3, 5e9 - 3);
    await handle.close();
    const source = await openFile(path);
    const before = process.memoryUsage();
    const target = new Uint8Array(4 * 2 ** 20);
    for (let at = 0; at < 600e6; at += target.length) await source.readInto(at, target);
    expect(await source.read(5e9 - 3, 5e9)).toEqual(new Uint8Array([1, 2, 3]));
    const after = process.memoryUsage();
    expect(after.arrayBuffers - before.arrayBuffers).toBeLessThan(32 * 2 ** 20);
    await source.close();
  });
});

describe('HTTP ranges', () => {
  const bytes = Uint8Array.from({ length: 100_000 }, (_, i) => (i * 7) % 251);

  async function serve(listener: RequestListener): Promise<{ url: string } & AsyncDisposable> {
    const server = createServer(listener).listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    return {
      url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/file`,
      async [Symbol.asyncDispose]() {
        server.closeAllConnections();
        await new Promise((resolve) => server.close(resolve));
      },
    };
  }

  /** Answers a range; `length` fewer bytes than promised break the connection. */
  function answer(response: Parameters<RequestListener>[1], range: string | undefined, length = Infinity) {
    const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(range ?? '')!;
    const [begin, end] = [Number(from), Math.min(Number(to) + 1, bytes.length)];
    response.writeHead(206, {
      'Content-Range': `bytes ${begin}-${end - 1}/${bytes.length}`,
      'Content-Length': end - begin,
    });
    response.write(bytes.slice(begin, Math.min(end, begin + length)), () => {
      if (begin + length < end) setTimeout(() => response.destroy(), 20);
      else response.end();
    });
  }

  const quick = { pause: 1 };

  it('reads ranges, with the token', async () => {
    const tokens: (string | undefined)[] = [];
    await using server = await serve((request, response) => {
      tokens.push(request.headers.authorization);
      answer(response, request.headers.range);
    });
    const source = await openUrl(server.url, { ...quick, token: 'hf_x' });
    expect(source.size).toBe(bytes.length);
    expect(await source.read(1234, 56789)).toEqual(bytes.slice(1234, 56789));
    expect(await source.read(5, 5)).toEqual(new Uint8Array(0));
    expect(new Set(tokens)).toEqual(new Set(['Bearer hf_x']));
    await expect(source.read(0, 100_001)).rejects.toMatchObject({ code: 'file-range' });
  });

  it('goes on where a transfer broke off', async () => {
    const ranges: string[] = [];
    await using server = await serve((request, response) => {
      ranges.push(request.headers.range!);
      answer(response, request.headers.range, 30_000);
    });
    const source = await openUrl(server.url, quick);
    expect(await source.read(0, 100_000)).toEqual(bytes);
    // How much of a broken transfer arrives is up to the network.
    expect(ranges[1]).toBe('bytes=0-99999');
    expect(ranges.at(-1)).toMatch(/^bytes=[1-9]\d*-99999$/);
  });

  it.each([
    ['before its answer', false],
    ['after its headers', true],
  ])('goes on where a server falls silent %s, and gives up in the end', async (_, headers) => {
    let mute = 0;
    await using server = await serve((request, response) => {
      if (mute-- <= 0) answer(response, request.headers.range);
      else if (headers) {
        const range = request.headers.range!.replace('=', ' ');
        response.writeHead(206, { 'Content-Range': `${range}/${bytes.length}` }).flushHeaders();
      }
    });
    const source = await openUrl(server.url, { ...quick, silence: 300, attempts: 3 });
    mute = 1;
    expect(await source.read(0, 10)).toEqual(bytes.slice(0, 10));
    expect(mute).toBeLessThan(0);
    mute = Number.POSITIVE_INFINITY;
    await expect(source.read(0, 10)).rejects.toMatchObject({ code: 'http-unreachable' });
  });

  it('waits for a server that is overloaded, and gives up in the end', async () => {
    let calls = 0;
    await using server = await serve((request, response) => {
      if (++calls % 3) response.writeHead(503).end();
      else answer(response, request.headers.range);
    });
    const source = await openUrl(server.url, quick);
    expect(await source.read(7, 9)).toEqual(bytes.slice(7, 9));
    await expect(openUrl(server.url, { ...quick, attempts: 2 })).rejects.toThrow(/answers 503/);
  });

  it.each([
    ['ignores ranges', 'http-range', (_: unknown, r: Parameters<RequestListener>[1]) => r.end(bytes)],
    [
      'sends other bytes',
      'http-range',
      (request: { headers: { range?: string } }, r: Parameters<RequestListener>[1]) =>
        answer(r, request.headers.range === 'bytes=0-0' ? 'bytes=0-0' : 'bytes=0-9'),
    ],
    [
      'gives no total',
      'http-range',
      (_: unknown, r: Parameters<RequestListener>[1]) =>
        r.writeHead(206, { 'Content-Range': 'bytes 0-0/*' }).end('x'),
    ],
    ['denies', 'http-denied', (_: unknown, r: Parameters<RequestListener>[1]) => r.writeHead(403).end('no')],
    [
      'has not got it',
      'http-missing',
      (_: unknown, r: Parameters<RequestListener>[1]) => r.writeHead(404).end('no'),
    ],
  ])('a server that %s', async (_, code, listener) => {
    await using server = await serve(listener as RequestListener);
    const read = async () => (await openUrl(server.url, quick)).read(100, 110);
    await expect(read()).rejects.toMatchObject({ name: 'UserError', code });
  });

  it('an empty file, and a file that changes', async () => {
    await using empty = await serve((_, response) =>
      response.writeHead(416, { 'Content-Range': 'bytes */0' }).end(),
    );
    expect((await openUrl(empty.url, quick)).size).toBe(0);
    let etag = 0;
    await using changing = await serve((request, response) => {
      response.setHeader('ETag', `"${etag++}"`);
      answer(response, request.headers.range);
    });
    const source = await openUrl(changing.url, quick);
    await expect(source.read(0, 5)).rejects.toMatchObject({ code: 'http-changed' });
  });

  it.each([
    ['http://', /no address/],
    ['http://host/m?x=1#y', /no "\?" or "#"/],
    ['https://host/m#y', /no "\?" or "#"/],
  ])('%s is no folder', (address, message) => {
    expect(() => urlFolder(address)).toThrow(message);
    expect(() => urlFolder(address)).toThrow(UserError);
  });

  it('nobody there', async () => {
    await expect(openUrl('http://127.0.0.1:1/x', { pause: 1, attempts: 2 })).rejects.toMatchObject({
      code: 'http-unreachable',
    });
  });
});
