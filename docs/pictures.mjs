/**
 * Makes the pictures of README and docs anew: `npm run build && node docs/pictures.mjs [report.html]`. Without one it runs
 * `neurgrad demo`, whose times are then those of this machine, on which nothing else should be at work. The laboratory is built
 * and driven as its tests do.
 */

import { execFileSync } from 'node:child_process';
import { createReadStream, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { extname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { chromium } from 'playwright-core';
import { CHROMIUM_FLAGS, ensureChromium } from '../examples/lab/setup.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const docs = fileURLToPath(new URL('.', import.meta.url));
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css' };

const { path: executablePath, problem } = ensureChromium();
if (!executablePath) throw new Error(problem);
const folder = mkdtempSync(join(tmpdir(), 'neurgrad-pictures-'));
const run = (...args) => execFileSync(process.execPath, args, { cwd: root, stdio: 'inherit' });
const [made = join(folder, 'report.html')] = process.argv.slice(2);
if (process.argv.length < 3) run('dist/cli/main.js', 'demo', '--out', folder);
const site = join(folder, 'lab');
run('node_modules/vite/bin/vite.js', 'build', 'examples/lab', '--outDir', site, '--logLevel', 'error');
const server = createServer(({ url }, response) => {
  const file = join(site, new URL(url, 'http://localhost').pathname.replace(/\/$/, '/index.html'));
  if (!existsSync(file)) return response.writeHead(404).end();
  response.writeHead(200, { 'content-type': TYPES[extname(file)] ?? 'application/octet-stream' });
  createReadStream(file).pipe(response);
}).listen(0, '127.0.0.1');
await new Promise((listening) => server.once('listening', listening));

const browser = await chromium.launch({ executablePath, args: [...CHROMIUM_FLAGS] });
const report = await browser.newPage({ viewport: { width: 1120, height: 1440 } });
await report.goto(pathToFileURL(made).href);
await report.screenshot({ path: join(docs, 'report.png') });

for (const colorScheme of ['light', 'dark']) {
  const viewport = { width: 1440, height: 900 };
  const context = await browser.newContext({ viewport, colorScheme, serviceWorkers: 'block' });
  const page = await context.newPage();
  await page.goto(`http://localhost:${server.address().port}/#m=facts-bert&d=plain&n=L3.N308&s=L3.N308:3.2`);
  await page.waitForFunction(() => window.neurgradLab?.view.distribution);
  await page.click('#sweep');
  await page.locator('#curve-csv').waitFor();
  await page.mouse.move(0, 0);
  await page.screenshot({ path: join(docs, `lab-${colorScheme}.png`), fullPage: true });
  await context.close();
}
await browser.close();
server.close();
rmSync(folder, { recursive: true });
