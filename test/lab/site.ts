/** The built laboratory behind a plain static server, under a sub-path, with no special headers and no ranges. */

import { execFileSync } from 'node:child_process';
import { createReadStream, existsSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join, normalize } from 'node:path';
import { fileURLToPath } from 'node:url';

const TYPES: Readonly<Record<string, string>> = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.css': 'text/css',
  '.json': 'application/json',
};

const SUB_PATH = '/some/where/lab/';

export interface Site {
  /** Address of the page. */
  readonly url: string;
  close(): void;
}

/** Builds the page into a folder. */
export async function buildAndServe(folder: string): Promise<Site> {
  const root = fileURLToPath(new URL('../..', import.meta.url));
  // In a process of its own: this one's NODE_ENV is not that of a build.
  const vite = join(root, 'node_modules/vite/bin/vite.js');
  const options = ['--outDir', folder, '--emptyOutDir', '--logLevel', 'error'];
  execFileSync(process.execPath, [vite, 'build', join(root, 'examples/lab'), ...options], {
    env: { ...process.env, NODE_ENV: 'production' },
    stdio: 'pipe',
  });
  return serve(folder);
}

/** What has been built. */
export async function serve(folder: string): Promise<Site> {
  const server = createServer((request, response) => {
    const path = new URL(request.url ?? '/', 'http://localhost').pathname;
    const name = normalize(path.slice(SUB_PATH.length) || 'index.html');
    const file = join(folder, name);
    if (
      !path.startsWith(SUB_PATH) ||
      name.startsWith('..') ||
      !existsSync(file) ||
      !statSync(file).isFile()
    ) {
      response.writeHead(404).end();
      return;
    }
    const { size } = statSync(file);
    response.writeHead(200, {
      'content-type': TYPES[extname(file)] ?? 'application/octet-stream',
      'content-length': size,
    });
    createReadStream(file).pipe(response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return { url: `http://localhost:${port}${SUB_PATH}`, close: () => server.close() };
}
