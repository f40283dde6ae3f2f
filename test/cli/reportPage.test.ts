/** A report opened as a file in Chromium: its links save its figures, axe finds nothing, forced colours and paper keep bars and marks. */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { AxeBuilder } from '@axe-core/playwright';
import { type Browser, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { renderReport } from '../../cli/report.ts';
import { CHROMIUM_FLAGS, ensureChromium } from '../../examples/lab/setup.mjs';
import { exampleReport } from './exampleReport.ts';

const { path: executablePath, problem } = ensureChromium();
if (!executablePath) console.error(`\n*** Reports are NOT opened: ${problem} ***\n`);

describe.runIf(executablePath)('a report in a browser', () => {
  const folder = mkdtempSync(join(tmpdir(), 'neurgrad-page-'));
  let browser: Browser;
  let page: Page;
  beforeAll(async () => {
    const path = join(folder, 'report.html');
    writeFileSync(path, renderReport(exampleReport()).html);
    browser = await chromium.launch({ executablePath: executablePath!, args: [...CHROMIUM_FLAGS] });
    page = await (await browser.newContext()).newPage();
    await page.goto(pathToFileURL(path).href);
  });
  afterAll(async () => {
    await browser?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  it.each(['light', 'dark'] as const)('has nothing that axe finds, %s', async (colorScheme) => {
    await page.emulateMedia({ colorScheme });
    expect((await new AxeBuilder({ page }).analyze()).violations).toEqual([]);
  });

  it('saves a figure from the page alone: SVG with its caption, PNG of 300 dots an inch, CSV', async () => {
    const saved = async (ending: string) => {
      const download = page.waitForEvent('download');
      await page.click(`figure[data-name=agreement] a[data-save=${ending}]`);
      return readFileSync(await (await download).path());
    };
    const svg = (await saved('svg')).toString();
    expect(svg).toContain('n = 12');
    expect(svg).not.toContain('data-height');
    const png = await saved('png');
    expect(png.readUInt32BE(16)).toBe(Math.round((85 / 25.4) * 300));
    expect(png.toString('latin1', 37, 41)).toBe('pHYs');
    expect((await saved('csv')).toString()).toMatch(/^# figure: Estimated/);
  });

  it('prints in light colours from a dark page, and keeps the colours of figures where they are forced', async () => {
    const colour = (selector: string, part: 'color' | 'backgroundColor' | 'fill') =>
      page.$eval(selector, (element, part) => getComputedStyle(element)[part], part);
    await page.emulateMedia({ colorScheme: 'dark', media: 'print' });
    expect(await colour('body', 'color')).toBe('rgb(29, 35, 48)');
    await page.emulateMedia({ colorScheme: 'light', media: 'screen', forcedColors: 'active' });
    expect(await colour('figure svg circle', 'fill')).toBe('rgb(37, 99, 184)');
    expect(await colour('.bars i', 'backgroundColor')).not.toBe(await colour('body', 'backgroundColor'));
  });
});
