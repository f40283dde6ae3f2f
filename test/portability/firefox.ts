/**
 * `npm run test:firefox`: Debian's Firefox, driven by WebDriver BiDi, on whatever adapter it finds (lavapipe without a GPU). The
 * laboratory's way from a cold load to a sweep gives Node's numbers, and a refused command voids what it voids everywhere.
 */

import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type Device,
  encodePrompt,
  type LanguageModel,
  loadModel,
  neuronGradients,
  openDevice,
  type Prompt,
  predict,
  probeRows,
  shiftGrid,
  sweep,
  type Tokenizer,
  targetValues,
} from '../../neurgrad/index.ts';
import type {} from '../lab/page.ts';
import { buildAndServe, type Site } from '../lab/site.ts';
import { Firefox } from './bidi.ts';
import type {} from './page/page.ts';
import { serveTests } from './page/site.ts';

const PLACES = [
  '/usr/bin/firefox-esr',
  '/usr/bin/firefox',
  '/Applications/Firefox.app/Contents/MacOS/firefox',
];
const executablePath = [process.env.FIREFOX_PATH, ...PLACES].find((path) => path && existsSync(path));
if (!executablePath)
  console.log('NOT RUN: no Firefox here: apt-get install firefox-esr, or set FIREFOX_PATH');

const BUNDLED = fileURLToPath(new URL('../../examples/models/facts-bert', import.meta.url));
const NEURON = { layer: 3, index: 308, site: 'post' } as const;

describe.skipIf(!executablePath)('in Firefox', () => {
  let folder: string;
  const sites: Site[] = [];
  let page: Firefox;
  let device: Device;
  let model: LanguageModel;
  let tokenizer: Tokenizer;
  let prompt: Prompt;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'neurgrad-firefox-'));
    sites.push(await serveTests(join(folder, 'tests')), await buildAndServe(join(folder, 'lab')));
    page = await Firefox.launch(executablePath!);
    device = await openDevice();
    ({ model, tokenizer } = await loadModel(BUNDLED, { device }));
    prompt = encodePrompt(model, tokenizer, 'The capital of France is [MASK].');
  });
  afterAll(async () => {
    await page?.close();
    for (const site of sites) site.close();
    model?.dispose();
    device?.destroy();
    if (folder) rmSync(folder, { recursive: true, force: true });
  });

  describe('the page of tests', () => {
    beforeAll(async () => {
      await page.goto(sites[0]!.url);
    });

    it('is told little, which is not taken for a GPU', async () => {
      const told = await page.evaluate(() => window.describeDevice());
      console.log(told);
      const { implementation, software, subgroups, subgroupSize } = JSON.parse(told);
      expect(implementation).toBe('wgpu');
      if (software && !subgroups) expect(subgroupSize).toBe(8);
    });

    it.each(['test/engine/submissions.test.ts', 'test/engine/gradients.test.ts'])('%s', async (file) => {
      const { passed, failures, seconds } = await page.evaluate((one) => window.runTests(one), file);
      console.log(`${file}: ${passed} passed, ${failures.length} failed (${seconds.toFixed(1)} s)`);
      expect(failures).toEqual([]);
      expect(passed).toBeGreaterThan(0);
    });
  });

  describe('the laboratory', () => {
    /** Until the page answers the sentence that it shows. */
    const answered = (): Promise<void> =>
      page.until(() => {
        const { study, state, current } = window.neurgradLab.view;
        return study !== null && study.question.text === state.text && current.study;
      });
    const shown = (word: string): Promise<number> =>
      page.evaluate(
        (one) => Number(document.querySelector<HTMLElement>(`#words [data-token="${one}"]`)?.dataset.p),
        word,
      );
    /** Puts a text into a field, as typing does, and ends with Enter. */
    const enter = (field: string, text: string): Promise<void> =>
      page.evaluate(
        ([id, value]) => {
          const input = document.querySelector<HTMLInputElement>(id)!;
          input.value = value;
          input.dispatchEvent(new Event('input', { bubbles: true }));
          if (input.form) input.form.requestSubmit();
          else input.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', cancelable: true }));
        },
        [field, text] as const,
      );

    it('answers after a cold load', async () => {
      const began = performance.now();
      await page.goto(sites[1]!.url);
      await page.until(() => document.querySelector('#words [data-token="paris"]') !== null);
      console.log(`laboratory: first answer after ${((performance.now() - began) / 1000).toFixed(1)} s`);
    });

    it('shows what the same packages say in Node', async () => {
      await answered();
      for (const { id, p } of await predict(model, prompt, 10))
        expect(Math.abs((await shown(tokenizer.tokenOf(id))) - p)).toBeLessThan(1e-5);
      const expected = await neuronGradients(model, prompt);
      const found = await page.evaluate(() => [...window.neurgradLab.view.study!.neurgrad]);
      expect(found).toHaveLength(expected.neurgrad.length);
      const apart = found.map((value, i) => Math.abs(value - expected.neurgrad[i]!));
      expect(Math.max(...apart)).toBeLessThan(1e-5);
    });

    it('answers another sentence, and this one again', async () => {
      const ask = async (text: string): Promise<string | null> => {
        await enter('#text', text);
        await answered();
        return page.evaluate(
          () => document.querySelector('#words [aria-pressed="true"]')?.getAttribute('data-token') ?? null,
        );
      };
      expect(await ask('The official language of Brazil is [MASK].')).toBe('portuguese');
      expect(await ask(prompt.text)).toBe('paris');
    });

    it('moves the distribution when a neuron is shifted', async () => {
      await enter('#add-name', 'L3.N308');
      await page.until(() => document.querySelector('[data-neuron="L3.N308"] input') !== null);
      await page.evaluate(() => {
        const input = document.querySelector<HTMLInputElement>('[data-neuron="L3.N308"] input')!;
        input.value = '4';
        input.dispatchEvent(new Event('input', { bubbles: true }));
      });
      const name = 'blocks.3.mlp.hook_post';
      const patch = { name, position: prompt.position, neuron: NEURON.index, op: 'add', value: 4 } as const;
      using run = model.run(probeRows(prompt), {
        patch: [{ ...patch, along: 'outward' }],
        logits: [prompt.position],
      });
      const { prob } = targetValues(await run.logits.read(), tokenizer.idOf('paris')!);
      await expect
        .poll(async () => Math.abs((await shown('paris')) - prob), { timeout: 120_000 })
        .toBeLessThan(1e-5);
    });

    it('sweeps it: line, slope and r', async () => {
      await page.evaluate(() => document.querySelector<HTMLElement>('#sweep')!.click());
      await page.until(() => window.neurgradLab.view.sweep !== null);
      const shifts = shiftGrid(-10, 10, 0.2);
      const [expected] = (await sweep(model, prompt, { neurons: [NEURON], shifts })).neurons;
      const found = await page.evaluate(() => {
        const { r, slope, p } = window.neurgradLab.view.sweep!.curve;
        return { r, slope, p: [...p] };
      });
      expect(Math.abs(found.r - expected!.r)).toBeLessThan(1e-5);
      expect(Math.abs(found.slope - expected!.slope)).toBeLessThan(1e-5);
      expect(Math.max(...found.p.map((p, i) => Math.abs(p - expected!.p[i]!)))).toBeLessThan(1e-5);
    });
  });
});
