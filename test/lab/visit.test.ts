/**
 * The laboratory as a newcomer meets it: it says what it shows, it is done with the keyboard, what was done can be undone, and is
 * written down. One page serves it all.
 */

import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { AxeBuilder } from '@axe-core/playwright';
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CHROMIUM_FLAGS, ensureChromium } from '../../examples/lab/setup.mjs';
import { answered, drop } from './page.ts';
import { buildAndServe, type Site } from './site.ts';

const { path: executablePath, problem } = ensureChromium();
if (!executablePath) console.error(`\n*** Visits to the laboratory are NOT tested: ${problem} ***\n`);

let folder: string;
let site: Site;
let browser: Browser;
let context: BrowserContext;
let page: Page;
const complaints: string[] = [];

async function opened(where: BrowserContext, hash = ''): Promise<Page> {
  const on = await where.newPage();
  on.on('pageerror', (error) => complaints.push(String(error)));
  on.on('console', (message) => {
    if (message.type() === 'error') complaints.push(message.text());
  });
  await on.goto(`${site.url}${hash}`);
  await answered(on);
  await on.locator('#take-tour:enabled').waitFor();
  return on;
}

async function seriousIssues(on: Page): Promise<string[]> {
  const { violations } = await new AxeBuilder({ page: on }).analyze();
  return violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`);
}

/** Which of these are wholly in the window. */
const inWindow = (on: Page, selectors: readonly string[]): Promise<boolean[]> =>
  on.evaluate(
    (wanted) =>
      wanted.map((selector) => {
        const box = document.querySelector(selector)!.getBoundingClientRect();
        return box.height > 0 && box.top >= 0 && box.bottom <= innerHeight && box.right <= innerWidth;
      }),
    selectors,
  );

/** Presses a control with the keyboard. */
async function press(on: Page, selector: string, key = 'Enter'): Promise<void> {
  await on.locator(selector).first().focus();
  await on.keyboard.press(key);
}

const shiftsOf = (on: Page) =>
  on.evaluate(() => window.neurgradLab.view.state.shifts.map(({ shift }) => shift));
const settled = (on: Page) =>
  on.waitForFunction(() => {
    const { state, distribution } = window.neurgradLab.view;
    return (
      (distribution?.shifts ?? []).length === state.shifts.length && distribution?.shifts === state.shifts
    );
  });

describe.skipIf(!executablePath)('a visit to the laboratory', () => {
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'neurgrad-visit-'));
    site = await buildAndServe(join(folder, 'site'));
    browser = await chromium.launch({ executablePath: executablePath!, args: [...CHROMIUM_FLAGS] });
    context = await browser.newContext({ viewport: { width: 1280, height: 800 }, serviceWorkers: 'block' });
    context.setDefaultTimeout(30_000);
    page = await opened(context);
  });

  afterAll(async () => {
    await browser?.close();
    site?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  it('is led through five steps that the visitor does, with the keyboard', async () => {
    const says = page.locator('#tour p');
    await press(page, '#take-tour');
    await says.filter({ hasText: /^1 of 5/ }).waitFor();
    await press(page, '#examples button:nth-child(2)');
    await says.filter({ hasText: /^2 of 5/ }).waitFor();
    await press(page, '#positive button');
    await says.filter({ hasText: /^3 of 5/ }).waitFor();
    await press(page, '#hand input', 'PageDown');
    await says.filter({ hasText: /^4 of 5/ }).waitFor();
    await press(page, '#sweep');
    await says.filter({ hasText: /^5 of 5/ }).waitFor();
    expect(await seriousIssues(page)).toEqual([]);
    await press(page, '#steer-go');
    await says.filter({ hasText: /^That is the laboratory/ }).waitFor();
    await press(page, '#tour button');
    expect(await page.isVisible('#tour')).toBe(false);
    expect(await page.locator('.toured').count()).toBe(0);
  });

  it('goes back where the browser does, and undoes and redoes', async () => {
    await page.goBack();
    await page.waitForFunction(() => window.neurgradLab.view.state.text.includes('France'));
    await answered(page);
    expect(await page.inputValue('#text')).toContain('France');
    await page.goForward();
    await page.waitForFunction(() => window.neurgradLab.view.state.text.includes('Brazil'));
    await answered(page);
    await press(page, '#examples button:nth-child(1)');
    await answered(page);
    await page.click('#reset');
    await press(page, '#negative button');
    await press(page, '#hand .selected input', 'PageUp');
    await page.keyboard.press('PageUp');
    expect(await shiftsOf(page)).toEqual([2]);
    await page.keyboard.press('Control+z');
    expect(await shiftsOf(page)).toEqual([]);
    await page.keyboard.press('Control+y');
    expect(await shiftsOf(page)).toEqual([2]);
    await settled(page);
  });

  it('says what a shift did, slider and curve side by side, and lines end where a probability does', async () => {
    expect(await page.inputValue('#direction')).toBe('plain');
    const { before, after } = await page.evaluate(() => {
      const { study, distribution } = window.neurgradLab.view;
      return { before: study!.p, after: distribution!.predictions[0]!.p };
    });
    const percent = (p: number) => (100 * p).toFixed(1);
    await page
      .locator('#meaning')
      .filter({ hasText: /^Raising / })
      .waitFor();
    expect(await page.textContent('#meaning')).toMatch(
      new RegExp(
        `^Raising L3\\.N\\d+ by 2 takes paris from ${percent(before)}% to ${percent(after)}%: it works against paris`,
      ),
    );
    await page.evaluate(() => scrollTo(0, 0));
    expect(await inWindow(page, ['#hand .selected input', '#meaning', '#plot svg'])).toEqual([
      true,
      true,
      true,
    ]);
    await page.click('#sweep');
    await page.waitForFunction(() => window.neurgradLab.view.sweep?.curve.shifts.length === 101);
    // Every label of the axis is a probability.
    const ticks = await page
      .locator('#plot [aria-label^="y-axis"] text, #plot g text')
      .evaluateAll((texts) => texts.map((text) => Number(text.textContent!.replace('−', '-'))));
    const shares = ticks.filter((value) => !Number.isNaN(value) && Math.abs(value) < 2);
    expect(shares.length).toBeGreaterThan(2);
    expect(shares.filter((value) => value > 1 || value < 0)).toEqual([]);
    expect(await page.textContent('#facts')).toMatch(/halves .* to .* rounding.*linear range±/);
  });

  it('measures the neurons that it lists, beside random ones', async () => {
    await page.selectOption('#check', 'measured');
    await page
      .locator('#random li:nth-child(5)')
      .filter({ hasText: /G_E|flat/ })
      .waitFor();
    const rs = await page
      .locator('#positive .muted, #negative .muted')
      .evaluateAll((all) => all.map(({ textContent }) => /r ([\d.]+|−[\d.]+)/.exec(textContent!)![1]!));
    expect(rs).toHaveLength(10);
    const bent = rs.filter((r) => Math.abs(Number(r.replace('−', '-'))) < 0.945).length;
    await page.selectOption('#check', 'linear');
    const left = await page.locator('#positive button, #negative button').count();
    expect(left).toBeLessThanOrEqual(10 - bent);
    expect(left).toBeGreaterThan(0);
    await page.selectOption('#check', 'no');
  });

  it('explains its words where they stand', async () => {
    await press(page, '[data-term="neurgrad"]');
    await page.locator('#explain').filter({ hasText: 'without moving it' }).waitFor();
    await press(page, '#explain button');
    await page.locator('dialog.glossary[open] #word-r').waitFor();
    expect(await seriousIssues(page)).toEqual([]);
    await page.keyboard.press('Escape');
    // Every control and number has a name that a screen reader says, and its word.
    const marked = await page
      .locator('[data-term]')
      .evaluateAll((all) => new Set(all.map((one) => (one as HTMLElement).dataset.term)).size);
    expect(marked).toBeGreaterThanOrEqual(16);
  });

  it('marks where the model is asked and what it does not know', async () => {
    await page.fill('#text', '你好 is [MASK].');
    await page.press('#text', 'Enter');
    await answered(page);
    const marks = await page
      .locator('#tokens button')
      .evaluateAll((all) => all.map(({ dataset }) => dataset.mark ?? ''));
    expect(marks.filter((mark) => mark === 'unknown')).toHaveLength(2);
    expect(marks.filter((mark) => mark === 'asked')).toHaveLength(1);
    await press(page, '#examples button:nth-child(1)');
    await answered(page);
  });

  it('writes down what was done, keeps states side by side, and opens both again elsewhere', async () => {
    await settled(page);
    await page.fill('#state-name', 'with a neuron');
    await page.press('#state-name', 'Enter');
    await page.click('#reset');
    await page.waitForFunction(() => window.neurgradLab.view.distribution === null);
    await page.click('#keep-go');
    const cells = await page.locator('#states tbody tr').last().locator('td').allTextContents();
    expect(cells[0]).toMatch(/^L3\.N\d+ \+2/);
    expect(cells[1]).toBe('none');
    const lines = await page.locator('#done li').allTextContents();
    expect(lines.filter((line) => line.startsWith('Asked facts-bert')).length).toBeGreaterThanOrEqual(3);
    expect(lines.some((line) => /^Swept L3\.N\d+ over ±10: slope/.test(line))).toBe(true);
    // Two presses of a key are one deed: the second one's line stands for both.
    expect(lines.some((line) => /^Raising L3\.N\d+ by 2 takes paris/.test(line))).toBe(true);
    expect(lines.filter((line) => /^Raising L3\.N\d+ by 1 /.test(line))).toEqual([]);
    // Back to the first of the states.
    await page.locator('#states .name').first().click();
    await settled(page);
    const p = () =>
      page.evaluate(() => window.neurgradLab.view.distribution!.predictions.find(({ id }) => id)!.p);
    const there = await p();
    const link = await page.evaluate(() => (window.neurgradLab as unknown as { link: string }).link);

    const own = await browser.newContext({ viewport: { width: 360, height: 740 }, serviceWorkers: 'block' });
    own.setDefaultTimeout(30_000);
    const other = await opened(own, new URL(link).hash);
    await settled(other);
    const shared = await other.evaluate(() => window.neurgradLab.view.distribution!.predictions[0]!.p);
    expect(Math.abs(shared - there)).toBeLessThan(1e-6);

    // On a phone, slider and answer together.
    await press(other, '#negative button');
    expect(
      await inWindow(other, ['#hand .selected input', '#words [aria-pressed="true"]', '#meaning']),
    ).toEqual([true, true, true]);
    for (const button of ['#notebook-html', '#notebook-json']) {
      const [download] = await Promise.all([page.waitForEvent('download'), page.click(button)]);
      const path = join(folder, download.suggestedFilename());
      await download.saveAs(path);
      await other.setInputFiles('#notebook-file', path);
      await other.waitForFunction(
        (count) => document.querySelectorAll('#done li').length >= count,
        lines.length,
      );
      expect(await other.locator('#states .name').allTextContents()).toEqual(['with a neuron', 'State 2']);
    }
    await other.setInputFiles('#notebook-file', join(folder, 'site/index.html'));
    await other.locator('#notice-text').filter({ hasText: 'no notebook' }).waitFor();
    await other.emulateMedia({ colorScheme: 'dark' });
    expect(await seriousIssues(other)).toEqual([]);
    expect(await other.evaluate(() => document.documentElement.scrollWidth - innerWidth)).toBeLessThanOrEqual(
      0,
    );
    // The file is a page that can be read by itself.
    const file = readFileSync(join(folder, 'notebook.html'), 'utf8');
    expect(file).toMatch(/<h2>States side by side<\/h2>[\s\S]*with a neuron/);
    await own.close();
  });

  it('says so where a carried shift turns round on the outward axis', async () => {
    const activations = () => page.evaluate(() => [...window.neurgradLab.view.study!.activation]);
    await page.click('#reset');
    await press(page, '#examples button:nth-child(2)');
    await answered(page);
    const there = await activations();
    await press(page, '#examples button:nth-child(1)');
    await answered(page);
    const here = await activations();
    const at = here.findIndex((value, i) => value > 0.05 && there[i]! < -0.05);
    expect(at).toBeGreaterThanOrEqual(0);
    await page.selectOption('#direction', 'outward');
    await answered(page);
    expect(await page.isVisible('#axis-hint')).toBe(true);
    await page.fill('#add-name', `L${Math.floor(at / 512)}.N${at % 512}`);
    await page.press('#add-name', 'Enter');
    await press(page, '#hand .selected input', 'PageUp');
    await press(page, '#examples button:nth-child(2)');
    await page
      .locator('#notice-text')
      .filter({ hasText: 'its outward shift turns round: it now lowers' })
      .waitFor();
  });

  it('finds a model one folder down', async () => {
    const outer = join(folder, 'outer');
    mkdirSync(join(outer, 'notes'), { recursive: true });
    cpSync(
      fileURLToPath(new URL('../../examples/models/facts-bert', import.meta.url)),
      join(outer, 'inner'),
      {
        recursive: true,
      },
    );
    await drop(page, [outer]);
    await page.waitForFunction(() => window.neurgradLab.view.card?.name === 'inner');
    await answered(page);
  });

  it('complains about nothing in the console', () => {
    expect(complaints).toEqual([]);
  });
});
