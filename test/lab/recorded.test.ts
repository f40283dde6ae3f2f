/** A recorded session, and the page that plays it where there is no WebGPU. */

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AxeBuilder } from '@axe-core/playwright';
import { chromium } from 'playwright-core';
import { describe, expect, it } from 'vitest';
import { UserError } from '../../engine/errors.ts';
import { CHROMIUM_FLAGS, ensureChromium } from '../../examples/lab/setup.mjs';
import { CallError } from '../../examples/lab/src/client.ts';
import { leftOut } from '../../examples/lab/src/embed.ts';
import type { Question } from '../../examples/lab/src/protocol.ts';
import { Player } from '../../examples/lab/src/recorded/player.ts';
import { readRecording, writeRecording } from '../../examples/lab/src/recorded/recording.ts';
import { shiftGrid, strongest } from '../../neurgrad/index.ts';
import { damageBytes, damageJson, seeded } from '../fuzz/mutate.ts';
import { answered } from './page.ts';
import { buildAndServe } from './site.ts';

const file = new URL('../../examples/lab/recordings/facts-bert.json', import.meta.url);
const text = readFileSync(file, 'utf8');
const recording = readRecording(text, 'facts-bert.json');
const { study, card, neurons } = recording;
const question: Question = study.question;
const first = neurons[0]!;
const site = card.paperSite;
const run = (shift: number, neuron = first) => ({
  question,
  shifts: [{ layer: neuron.layer, index: neuron.index, site, shift }],
  follow: [study.target.id],
  top: 10,
});

/** A player with its model open. */
async function playing(): Promise<Player> {
  const player = new Player(recording);
  const source = { kind: 'bundled', name: 'facts-bert', url: '' } as const;
  await player.call('open', { source, dtype: 'f32' });
  return player;
}

describe('a recording', () => {
  it('is small, and comes back from its text digit for digit', () => {
    expect(text.length).toBeLessThan(500_000);
    expect(readRecording(writeRecording(recording), 'again')).toEqual(recording);
    // 1/3 has no short decimal, and NaN none at all.
    const odd = { ...recording, neurons: [{ ...first, p: first.p.map((row) => row.map(() => 1 / 3)) }] };
    odd.neurons[0]!.p[0]![0] = Number.NaN;
    expect(readRecording(writeRecording(odd), 'odd').neurons[0]!.p).toEqual(odd.neurons[0]!.p);
  });

  it('holds the strongest neurons either way', () => {
    const { positive, negative } = strongest(study.neurgrad, 6);
    expect(neurons.map(({ layer, index }) => layer * card.width + index)).toEqual([...positive, ...negative]);
  });

  it.each([
    ['is cut short', text.slice(0, -100), /is not JSON/],
    ['is of another version', text.replace('"version":1', '"version":2'), /version is 2/],
    ['has letters for numbers', text.replace('{"float32":"', '{"float32":"!'), /float32/],
    [
      'lacks a neuron',
      writeRecording({ ...recording, study: { ...study, noise: new Float64Array(3) } }),
      /each neuron/,
    ],
    ['lacks a shift', writeRecording({ ...recording, grid: [0, 1] }), /each shift/],
    ['lacks words', writeRecording({ ...recording, tokens: [] }), /does not write out/],
  ])('is refused where it %s', (_, wrong, why) => {
    expect(() => readRecording(wrong, 'wrong.json')).toThrow(UserError);
    expect(() => readRecording(wrong, 'wrong.json')).toThrow(why);
  });
});

describe('a damaged recording', () => {
  it('is read, or refused in a line', () => {
    const small = writeRecording({ ...recording, neurons: [first] });
    const next = seeded(1);
    let refused = 0;
    for (let round = 0; round < 100; round++) {
      const damaged =
        round % 2 === 0
          ? damageJson(small, next)
          : Buffer.from(damageBytes(Buffer.from(small), next)).toString('utf8');
      try {
        readRecording(damaged, 'damaged.json');
      } catch (error) {
        expect(error).toBeInstanceOf(UserError);
        expect((error as UserError).message).not.toContain('\n');
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(30);
  });
});

describe('a player', () => {
  it('answers what was recorded', async () => {
    const player = new Player(recording);
    expect(await player.call('opened', null)).toBeNull();
    const source = { kind: 'bundled', name: 'facts-bert', url: '' } as const;
    const opened = await player.call('open', { source, dtype: 'f32' });
    expect(await player.call('opened', null)).toEqual(opened);
    const answer = await player.call('answer', question);
    expect(answer.predictions[0]!.text).toBe('paris');
    expect((await player.call('study', answer)).neurgrad).toEqual(study.neurgrad);
    // A word that was clicked is asked for by its id.
    const byId = { ...question, target: { id: study.target.id } };
    expect((await player.call('answer', byId)).question).toEqual(byId);
  });

  it('gives what the sweep and the study give at the same shifts', async () => {
    const player = await playing();
    const shifts = shiftGrid(-2, 2, 0.2);
    const neuron = { layer: first.layer, index: first.index, site };
    const { curve } = await player.call('sweep', { question, neuron, shifts });
    for (const [at, shift] of shifts.entries()) {
      const { predictions } = await player.call('run', run(shift));
      const p = predictions.find(({ id }) => id === study.target.id)!.p;
      expect(Math.abs(p - curve.p[at]!)).toBeLessThan(1e-5);
    }
    const { predictions } = await player.call('run', run(0));
    expect(predictions.slice(0, 10)).toEqual(study.predictions.slice(0, 10));
  });

  it('moves along its grid, by steps smaller than its own, too', () => {
    const player = new Player(recording);
    expect(player.nearest(first, [], 0, 0.1)).toBe(0.2);
    expect(player.nearest(first, [], 0.2, 0.1)).toBe(0);
    expect(player.nearest(first, [], 2, 2.1)).toBe(2.5);
    expect(player.nearest(first, [], 9, 12)).toBe(10);
    expect(player.nearest(first, [], -9, -12)).toBe(-10);
    expect(() => player.nearest(first, [neurons[1]!], 0, 1)).toThrow(/one at a time/);
    expect(() => player.nearest({ layer: 0, index: 511 }, [], 0, 1)).toThrow(/L0.N511 was not recorded/);
  });

  it('refuses what was not, in a line', async () => {
    const player = await playing();
    const neuron = { layer: first.layer, index: first.index, site };
    const refusals = [
      player.call('open', { source: { kind: 'hub', id: 'a/b' }, dtype: 'f32' }),
      player.call('answer', { ...question, text: 'A robin is a [MASK].' }),
      player.call('answer', { ...question, direction: 'outward' }),
      player.call('answer', { ...question, target: { word: 'rome' } }),
      player.call('answer', { ...question, at: 0 }),
      player.call('run', run(0.123)),
      player.call('sweep', { question, neuron, shifts: [0, 1] }),
      player.call('measure', { question, neurons: [neuron], shifts: [0, 1] }),
      player.call('side', { question, of: 'prob' }),
      player.call('steer', { question, wish: 0.5, neurons: 8, range: 2 }),
      player.call('write', { question, shifts: [], words: 10 }),
    ];
    for (const refusal of refusals) {
      const error = await refusal.catch((error: unknown) => error);
      expect(error).toBeInstanceOf(CallError);
      expect((error as CallError).message).toMatch(/^A recording is played: [^\n]+\.$/);
    }
  });
});

describe('an address', () => {
  it.each([
    ['', [], []],
    ['?embed=0&other=1', [], []],
    ['?embed=1', ['header', 'footer', 'notebook'], []],
    ['?embed=1&hide=answer,%20steer,footer', ['header', 'footer', 'notebook', 'answer', 'steer'], []],
    ['?hide=map,maps,,toString', ['map'], ['maps', 'toString']],
  ])('with “%s” leaves out its parts', (search, parts, unknown) => {
    expect(leftOut(search)).toEqual({ parts, unknown });
  });
});

const { path: executablePath } = ensureChromium();

describe.skipIf(!executablePath)('a browser without WebGPU', () => {
  it('shows the recorded session of the default sentence, and moves a neuron of it', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'neurgrad-recorded-'));
    const site = await buildAndServe(folder);
    const browser = await chromium.launch({ executablePath: executablePath!, args: [...CHROMIUM_FLAGS] });
    try {
      const context = await browser.newContext({ viewport: { width: 1280, height: 800 } });
      context.setDefaultTimeout(30_000);
      const page = await context.newPage();
      const complaints: string[] = [];
      page.on('pageerror', (error) => complaints.push(String(error)));
      await page.addInitScript(() => Object.defineProperty(Navigator.prototype, 'gpu', { value: undefined }));
      await page.goto(site.url);
      await answered(page);
      expect(await page.locator('#words li').first().textContent()).toContain('paris');
      expect(await page.locator('#unable-text').textContent()).toMatch(/does not offer WebGPU/);
      const told = await page.locator('#recorded-text').textContent();
      expect(told).toContain('The capital of France is [MASK].');
      expect(told).toContain('npm run lab:record');
      expect(await page.evaluate(() => window.neurgradLab.view.study!.p)).toBe(study.p);

      await page.locator('#positive button').first().click();
      await page.locator('#hand input[type="range"]').press('ArrowRight');
      await page.waitForFunction(() => window.neurgradLab.view.distribution !== null);
      const shown = await page.evaluate(() => window.neurgradLab.view.distribution!.predictions);
      const player = new Player(recording);
      expect(shown[0]!.p).toBe((await player.call('run', run(0.2))).predictions[0]!.p);

      const { violations } = await new AxeBuilder({ page }).analyze();
      expect(violations.filter(({ impact }) => impact === 'serious' || impact === 'critical')).toEqual([]);

      // What was not recorded is said.
      await page.fill('#text', 'A robin is a [MASK].');
      await page.locator('#notice-text', { hasText: 'A recording is played' }).waitFor();

      // Within another page, parts are left out, and a name that is none is said.
      await page.goto(`${site.url}?embed=1&hide=steer,maps`);
      await answered(page);
      expect(await page.locator('#unknown-parts').textContent()).toContain('“maps”');
      const visible = (part: string) => page.locator(part).isVisible();
      expect(await Promise.all(['body > header', '.steering', '.notebook', 'footer'].map(visible))).toEqual(
        Array(4).fill(false),
      );
      expect(await Promise.all(['.ask', '.answer', '.chart', '.curve'].map(visible))).toEqual(
        Array(4).fill(true),
      );

      // Without the recording, too, the page says what it needs.
      await page.route('**/assets/facts-bert*.json', (route) => route.abort());
      await page.goto(site.url);
      await page.locator('#recorded-text', { hasText: 'cannot be played' }).waitFor();
      expect(await page.locator('#lab').isVisible()).toBe(false);
      expect(await page.locator('#unable-text').textContent()).toMatch(/does not offer WebGPU/);
      expect(complaints).toEqual([]);
    } finally {
      await browser.close();
      site.close();
      rmSync(folder, { recursive: true });
    }
  }, 120_000);
});
