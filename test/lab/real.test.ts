/**
 * A real model in the page: SmolLM2-135M-Instruct's GGUF dropped on it in Chromium, against what transformers computes in float64
 * from the same file (`reference.json` beside it).
 *
 * NEURGRAD_REAL_MODEL names the file; it is no part of the repository.
 */

import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CHROMIUM_FLAGS, ensureChromium } from '../../examples/lab/setup.mjs';
import type { Reference } from '../models/realReference.ts';
import { answered, drop } from './page.ts';
import { buildAndServe, type Site } from './site.ts';

const FILE = process.env.NEURGRAD_REAL_MODEL ?? '';
const REFERENCE = join(dirname(FILE), 'reference.json');
const there = existsSync(FILE) && existsSync(REFERENCE);
const { path: executablePath, problem } = there ? ensureChromium() : { path: null, problem: '' };
if (!there)
  console.log(
    'NEURGRAD_REAL_MODEL names no SmolLM2-135M-Instruct.Q4_1.gguf with reference.json beside it: the page with a real model is skipped',
  );
if (problem) console.error(`\n*** The page with a real model is NOT tested: ${problem} ***\n`);

/** On a processor: a backward of 135 million numbers takes some seconds. */
const PATIENCE = 120_000;

describe.skipIf(!executablePath)('a real model in the page', () => {
  let folder: string;
  let site: Site;
  let browser: Browser;
  let context: BrowserContext;
  let page: Page;
  const { sweep: shifts, cases }: Reference = there
    ? (JSON.parse(readFileSync(REFERENCE, 'utf8')) as Reference)
    : { sweep: [], cases: [] };
  const japan = cases[0]!;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'neurgrad-real-'));
    site = await buildAndServe(join(folder, 'site'));
    browser = await chromium.launch({ executablePath: executablePath!, args: [...CHROMIUM_FLAGS] });
    context = await browser.newContext({ viewport: { width: 1440, height: 900 }, serviceWorkers: 'allow' });
    context.setDefaultTimeout(PATIENCE);
    page = await context.newPage();
    await page.goto(site.url);
    await answered(page);
  }, PATIENCE);

  afterAll(async () => {
    await browser?.close();
    site?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  /** Asks with the plain axis, until the study is there. */
  async function ask(text: string, at: string): Promise<void> {
    await page.selectOption('#direction', 'plain');
    await page.selectOption('#site', at);
    await page.fill('#text', text);
    await page.press('#text', 'Enter');
    await page.waitForFunction(
      ([wanted, where]) => {
        const { study, state } = window.neurgradLab.view;
        const asked = study?.question;
        return (
          asked?.text === wanted &&
          asked.direction === 'plain' &&
          asked.site === where &&
          state.text === wanted
        );
      },
      [text, at] as const,
    );
  }

  it(
    'opens from a dropped file, and answers',
    async () => {
      const began = performance.now();
      await drop(page, [FILE]);
      await page.waitForFunction(() => window.neurgradLab.view.study?.activation.length === 30 * 1536);
      console.log(
        `laboratory: ${((performance.now() - began) / 1000).toFixed(1)} s from a dropped file of 98 MB to its first study`,
      );
      expect(await page.locator('#model-name').textContent()).toBe(basename(FILE));
      await ask(japan.prompt, 'pre_linear');
      const { text, p } = await page.evaluate(() => window.neurgradLab.view.study!.predictions[0]!);
      expect(text).toBe(' Tokyo');
      expect(Math.abs(p / japan.p - 1)).toBeLessThan(1e-4);
    },
    PATIENCE,
  );

  it(
    'has the activations, gradients and curves of reference.json',
    async () => {
      for (const { prompt, p, neurons } of cases) {
        for (const where of ['pre_linear', 'post'] as const) {
          await ask(prompt, where);
          const study = await page.evaluate(() => {
            const { p, activation, gradient } = window.neurgradLab.view.study!;
            return { p, activation: [...activation], gradient: [...gradient] };
          });
          expect(Math.abs(study.p / p - 1), prompt).toBeLessThan(1e-4);
          for (const { site, layer, index, a, grad } of neurons) {
            if (site !== where) continue;
            const name = `${prompt} L${layer}.N${index}@${site}`;
            const flat = layer * 1536 + index;
            expect(Math.abs(study.activation[flat]! / a - 1), name).toBeLessThan(1e-4);
            expect(Math.abs(study.gradient[flat]! / grad - 1), name).toBeLessThan(1e-3);
          }
        }
      }
    },
    10 * PATIENCE,
  );

  it(
    'sweeps L21.N88 to reference.json',
    async () => {
      await ask(japan.prompt, 'pre_linear');
      await page.fill('#add-name', 'L21.N88');
      await page.press('#add-name', 'Enter');
      await page.selectOption('#range', '2');
      await page.click('#sweep');
      await page.locator('#curve-csv').waitFor();
      const curve = await page.evaluate(() => window.neurgradLab.view.sweep!.curve);
      const expected = japan.neurons.find(
        ({ site, layer, index }) => site === 'pre_linear' && layer === 21 && index === 88,
      )!;
      expect(curve.shifts.map((shift) => Number(shift.toFixed(6)))).toEqual(shifts);
      for (const [i, p] of curve.p.entries()) expect(Math.abs(p / expected.p[i]! - 1)).toBeLessThan(1e-4);
    },
    PATIENCE,
  );

  it(
    'is there again after a reload without a network',
    async () => {
      // The page's own files are kept once it has been opened.
      const files = () =>
        page.evaluate(async () => (await (await caches.open('neurgrad-lab')).keys()).length);
      await expect.poll(files, { timeout: 20_000 }).toBeGreaterThanOrEqual(12);
      await page.evaluate(() => navigator.serviceWorker.ready);
      await context.setOffline(true);
      await page.reload();
      await answered(page);
      const { text, p } = await page.evaluate(() => window.neurgradLab.view.study!.predictions[0]!);
      expect(text).toBe(' Tokyo');
      expect(Math.abs(p / japan.p - 1)).toBeLessThan(1e-4);
      expect(await page.locator('#model-name').textContent()).toBe(basename(FILE));
    },
    PATIENCE,
  );
});
