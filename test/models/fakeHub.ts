/** A Hub that a test plays: what huggingface.co answers, or whatever a test would rather have. */

import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';

export const COMMIT = 'c0ffee'.padEnd(40, '0');

/** A small Hub: the endpoints, headers and refusals of huggingface.co that a download meets. */
export class FakeHub {
  readonly files = new Map<string, Buffer>();
  readonly log: { method: string; url: string; token: string | undefined; range: string | undefined }[] = [];
  /** Set to answer otherwise; return true when answered. */
  intercept: (request: IncomingMessage, response: ServerResponse, path: string) => boolean = () => false;
  readonly server: Server = createServer((request, response) => this.#answer(request, response));
  endpoint = '';

  async listen(): Promise<void> {
    this.server.listen(0, '127.0.0.1');
    await new Promise((resolve) => this.server.once('listening', resolve));
    this.endpoint = `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  async close(): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }

  async addModel(folder: string): Promise<void> {
    for (const name of await readdir(folder)) this.files.set(name, await readFile(join(folder, name)));
    this.files.set('pytorch_model.bin', Buffer.from('never downloaded'));
    this.files.set('README.md', Buffer.from('never downloaded'));
  }

  /** URLs of file contents asked for, without the probes of one byte. */
  get downloads(): string[] {
    return this.log
      .filter(({ url, range }) => url.includes('/resolve/') && range !== 'bytes=0-0')
      .map(({ url }) => url.split('/').at(-1)!);
  }

  #answer(request: IncomingMessage, response: ServerResponse): void {
    const path = decodeURIComponent(new URL(request.url!, 'http://x').pathname);
    const { authorization: token, range } = request.headers;
    this.log.push({ method: request.method!, url: request.url!, token, range });
    if (this.intercept(request, response, path)) return;
    const json = (value: unknown) =>
      response.writeHead(200, { 'Content-Type': 'application/json' }).end(JSON.stringify(value));
    const siblings = [...this.files].map(([rfilename, { length: size }]) => ({ rfilename, size }));
    if (path === '/api/models/org/tiny/revision/main' || path === `/api/models/org/tiny/revision/${COMMIT}`) {
      return void json({
        _id: '1',
        id: 'org/tiny',
        sha: COMMIT,
        siblings,
        lastModified: '2024-01-01T00:00:00Z',
      });
    }
    if (path === `/api/models/org/tiny/tree/${COMMIT}`) {
      const entries = [...this.files].map(([name, bytes]) => {
        const oid = createHash('sha1').update(`blob ${bytes.length}\0`).update(bytes).digest('hex');
        const sha256 = createHash('sha256').update(bytes).digest('hex');
        const lfs = /\.(safetensors|gguf)$/.test(name) && {
          lfs: { oid: sha256, size: bytes.length, pointerSize: 1 },
        };
        return { type: 'file', path: name, size: bytes.length, oid, ...lfs };
      });
      return void json([{ type: 'directory', path: 'original', size: 0, oid: COMMIT }, ...entries]);
    }
    const bytes =
      path.startsWith(`/org/tiny/resolve/${COMMIT}/`) && this.files.get(path.split('/').slice(5).join('/'));
    if (!bytes) {
      return void response
        .writeHead(404, { 'X-Error-Code': path.includes('/api/') ? 'RepoNotFound' : 'EntryNotFound' })
        .end();
    }
    this.send(response, bytes, range);
  }

  send(response: ServerResponse, bytes: Buffer, range: string | undefined): void {
    const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(range ?? '') ?? [];
    const etag = `"${createHash('sha1').update(bytes).digest('hex')}"`;
    response.setHeader('ETag', etag);
    if (from === undefined)
      return void response.writeHead(200, { 'Content-Length': bytes.length }).end(bytes);
    const part = bytes.subarray(Number(from), Number(to) + 1);
    const last = Number(from) + part.length - 1;
    response.writeHead(206, {
      'Content-Range': `bytes ${from}-${last}/${bytes.length}`,
      'Content-Length': part.length,
    });
    response.end(part);
  }
}
