/** What a refused command voids, on a page in Chromium: the same test file as in Node. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CHROMIUM_FLAGS, ensureChromium } from '../../examples/lab/setup.mjs';
import type { Site } from '../lab/site.ts';
import { serveTests } from './page/site.ts';

const { path: executablePath, problem } = ensureChromium();
if (!executablePath) console.error(`\n*** Refused commands are NOT tested in Chromium: ${problem} ***\n`);

describe.skipIf(!executablePath)('in Chromium', () => {
  let folder: string;
  let site: Site;
  let browser: Browser;
  let page: Page;
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'neurgrad-page-'));
    site = await serveTests(folder);
    browser = await chromium.launch({ executablePath: executablePath!, args: [...CHROMIUM_FLAGS] });
    page = await browser.newPage();
    await page.goto(site.url);
    // The page is built first.
  }, 300_000);
  afterAll(async () => {
    await browser?.close();
    site?.close();
    if (folder) rmSync(folder, { recursive: true });
  });

  it('narrow subgroups are told from wide ones', async () => {
    const told = JSON.parse(await page.evaluate(() => window.describeDevice()));
    expect(told).toMatchObject({ implementation: 'Dawn', software: true });
    expect(told.subgroupSize).toBeLessThanOrEqual(8);
  });

  it('a refused command voids all of its submission, and memory that there is not is told as such', async () => {
    const { passed, failures } = await page.evaluate(() =>
      window.runTests('test/engine/submissions.test.ts', '^(a refused command|a buffer that)'),
    );
    expect(failures).toEqual([]);
    expect(passed).toBeGreaterThanOrEqual(7);
  });
});
