/**
 * The benchmarks' page as a user meets it: built, behind a static server, in Chromium on its software adapter, with few
 * and small shapes. What is looked at is that it measures, checks and tells; never how long anything took.
 */

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Report } from '../../bench/rows.ts';
import type { TunedClass } from '../../engine/index.ts';
import { CHROMIUM_FLAGS, ensureChromium } from '../../examples/lab/setup.mjs';
import { type Site, serve } from '../lab/site.ts';

const { path: executablePath, problem } = ensureChromium();
if (!executablePath) console.error(`\n*** The benchmarks' page is NOT tested: ${problem} ***\n`);

describe.skipIf(!executablePath)('the page of benchmarks', () => {
  let folder: string;
  let site: Site;
  let browser: Browser;
  let page: Page;
  const complaints: string[] = [];

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'neurgrad-bench-page-'));
    const root = fileURLToPath(new URL('../../bench/page', import.meta.url));
    // In a process of its own: this one's NODE_ENV is not that of a build.
    const vite = fileURLToPath(new URL('../../node_modules/vite/bin/vite.js', import.meta.url));
    execFileSync(process.execPath, [vite, 'build', root, '--outDir', folder, '--logLevel', 'error'], {
      env: { ...process.env, NODE_ENV: 'production' },
    });
    site = await serve(folder);
    browser = await chromium.launch({ executablePath: executablePath!, args: [...CHROMIUM_FLAGS] });
    page = await browser.newPage({ viewport: { width: 1100, height: 800 } });
    page.on('pageerror', (error) => complaints.push(String(error)));
    await page.goto(`${site.url}?suites=limits,matmul&rounds=1&only=16+x+768+x+768`);
  });

  afterAll(async () => {
    await browser?.close();
    site?.close();
    if (folder) rmSync(folder, { recursive: true });
  });

  it('says which adapter it runs on', async () => {
    await page.waitForFunction(() => document.getElementById('adapter')!.textContent !== '');
    expect(await page.textContent('#adapter')).toContain('swiftshader');
  });

  it('measures and checks the shapes asked for', async () => {
    await page.getByRole('button', { name: 'Run' }).click();
    await page.waitForFunction(() => document.getElementById('status')!.textContent === 'Done.', undefined, {
      timeout: 110_000,
    });
    const tables = await page.locator('#tables section').allInnerTexts();
    expect(tables.map((text) => text.split('\n')[0])).toEqual(['limits', 'matmul']);
    expect(tables[1]).toMatch(/16 x 768 x 768[\s\S]*error \d/);
  });

  it('saves what the table says', async () => {
    const download = page.waitForEvent('download');
    await page.getByRole('link', { name: 'Save as JSON' }).click();
    const report = JSON.parse(readFileSync(await (await download).path(), 'utf8')) as Report;
    expect(report.adapter).toContain('swiftshader');
    expect(report.rows.map((row) => `${row.suite} ${row.shape}`)).toEqual([
      'limits copy (GB/s)',
      'limits f32 multiply-add (GFLOP/s)',
      'matmul 16 x 768 x 768',
    ]);
    for (const row of report.rows) expect(row.ours).toBeGreaterThan(0);
    expect(complaints).toEqual([]);
  });

  it('measures its kernels once and finds them in IndexedDB the next time', {
    timeout: 400_000,
  }, async () => {
    const chosen = async (): Promise<string> => {
      await page.waitForFunction(() => document.getElementById('adapter')!.textContent !== '', undefined, {
        timeout: 300_000,
      });
      return (await page.textContent('#adapter'))!;
    };
    await page.goto(`${site.url}?suites=&autotune`);
    const first = await chosen();
    expect(first).toContain('kernels chosen by measurement: f32 B^T 1 rows');
    // What was kept is what is taken: after a change by hand, to a kernel that lost, the page tells of that.
    const loser = await page.evaluate(
      () =>
        new Promise<string>((resolve, reject) => {
          let other = '';
          const opening = indexedDB.open('neurgrad', 1);
          opening.onsuccess = () => {
            const transaction = opening.result.transaction('tuning', 'readwrite');
            const store = transaction.objectStore('tuning');
            const cursor = store.openCursor();
            cursor.onsuccess = () => {
              const kept = JSON.parse(cursor.result!.value as string) as { classes: TunedClass[] };
              const at = kept.classes.findIndex(({ name }) => name === 'f32 B^T 1 rows');
              const { microseconds, fastest, name } = kept.classes[at]!;
              other = Object.keys(microseconds).find((kernel) => kernel !== fastest)!;
              kept.classes[at] = { name, fastest: other, microseconds };
              cursor.result!.update(JSON.stringify(kept));
            };
            transaction.oncomplete = () => {
              opening.result.close();
              resolve(other);
            };
            transaction.onabort = () => reject(transaction.error);
          };
        }),
    );
    await page.reload();
    expect(await chosen()).toContain(`f32 B^T 1 rows ${loser}`);
    expect(complaints).toEqual([]);
  });
});
