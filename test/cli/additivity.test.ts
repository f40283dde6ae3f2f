/** `neurgrad additivity`: rows and summary worked out by hand; a folder that is gone on with gives the same; the page draws what it says. */

import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parquetReadObjects } from 'hyparquet';
import { afterAll, describe, expect, it } from 'vitest';
import { additivityPage, addsUpTo } from '../../cli/additivityPage.ts';
import { type AdditivitySet, additivity } from '../../neurgrad/index.ts';
import { summariseAdditivity } from '../../neurgrad/study/additivity.ts';
import { toyModel } from '../neurgrad/toyModel.ts';
import { runHere as neurgrad } from './here.ts';

const root = mkdtempSync(join(tmpdir(), 'neurgrad-additivity-'));
afterAll(() => rmSync(root, { recursive: true }));

const set = (over: Partial<AdditivitySet>): AdditivitySet => ({
  ...{ kind: 'top', draw: 0, size: 2, shift: 1, predicted: 1, reached: 1, noise: 0, p: 0.5 },
  ...over,
});

describe('by hand', () => {
  const toy = toyModel([[0.4, -0.2, 0.1, -0.3]], [[0.5, -1, 2, 0.25]]);
  const probe = { ids: [1, 2], position: 1 };
  it('top sets pull the same way, random ones along their axes, and a linear logit adds up', async () => {
    // NeurGrad of the logit, outward: 0.5, 1, 2, -0.25.
    const { sets, engine } = await additivity(toy, probe, {
      ...{ of: 'logit', target: 0, shifts: [0.5, -1], draws: 2, seed: 7 },
    });
    expect(engine).toBe('naive');
    const top = sets.filter(({ kind }) => kind === 'top');
    expect(top.map(({ size, shift, predicted }) => [size, shift, predicted])).toEqual([
      [1, 0.5, 1],
      [1, -1, -2],
      [2, 0.5, 1.5],
      [2, -1, -3],
      [4, 0.5, 1.875],
      [4, -1, -3.75],
    ]);
    const random = sets.filter(({ kind }) => kind === 'random');
    expect(random).toHaveLength(12);
    // All of them, whatever their order: 0.5 + 1 + 2 - 0.25.
    for (const { size, shift, predicted } of random)
      if (size === 4) expect(predicted).toBeCloseTo(3.25 * shift, 12);
    for (const { reached, predicted } of sets) expect(reached).toBeCloseTo(predicted, 5);
    await expect(additivity(toy, probe, { sizes: [5] })).rejects.toThrow(
      'a set of 5 neurons: the model has 4',
    );
    await expect(additivity(toy, probe, { shifts: [] })).rejects.toThrow('no sets');
  });
  it('a summary is slopes, correlations and signs over prompts', () => {
    const prompts = [
      [set({ predicted: 1, reached: 0.5 }), set({ predicted: 2, reached: 2, noise: 3 })],
      [set({ predicted: -1, reached: 1 }), set({ predicted: 1, reached: Number.NaN })],
    ];
    const [cell, ...others] = summariseAdditivity(prompts);
    expect(others).toEqual([]);
    // (0.5 + 4 - 1) / (1 + 4 + 1)
    expect(cell!.share.value).toBeCloseTo(3.5 / 6, 12);
    // x: 1, 2, -1; y: 0.5, 2, 1; centred products 1.1667, squares 4.6667 and 1.1667.
    expect(cell!.pearson.value).toBeCloseTo(1.166666 / Math.sqrt(4.666666 * 1.166666), 5);
    expect(cell).toMatchObject({ sets: 3, lost: 1, belowNoise: 1, predicted: 4 / 3, sameSign: 2 / 3 });
    expect(cell!.reached).toBeCloseTo(3.5 / 3, 12);
    const [none] = summariseAdditivity([[set({ reached: Number.NaN })]]);
    expect(none).toMatchObject({ sets: 0, lost: 1, share: { value: Number.NaN } });
  });
  it('adds up to the last size before the first that strays by more than a tenth', () => {
    const cells = summariseAdditivity([
      [1, 0.95, 0.7, 1].map((reached, i) => set({ size: 2 ** i, predicted: 1, reached })),
    ]);
    expect(addsUpTo(cells, 'top', 1)).toBe(2);
    expect(addsUpTo(cells, 'random', 1)).toBeNull();
    const conventions = {
      site: 'post',
      of: 'prob',
      direction: 'outward',
      sign: '+',
      dtype: 'float32',
    } as const;
    const { html: page } = additivityPage(cells, [[set({})]], {
      ...{ model: 'a <b>', prompts: 1, conventions, engine: 'differences', draws: 0, seed: 0 },
    });
    expect(page).toContain('a &lt;b&gt;');
    expect(page).toContain('<svg');
    expect(page).not.toMatch(/<script[^>]+src|NaN|undefined|https?:\/\/(?!www\.w3\.org)/);
  });
});

const pageOf = (folder: string): string => readFileSync(join(folder, 'additivity.html'), 'utf8');

it('goes on in a folder prompt by prompt, its rows those of the library', { timeout: 240_000 }, async () => {
  const prompts = join(root, 'prompts.jsonl');
  const texts = ['The capital of France is [MASK].', 'Rome is in [MASK].'];
  writeFileSync(prompts, texts.map((prompt) => JSON.stringify({ prompt })).join('\n'));
  const out = join(root, 'folder');
  const run = (...more: string[]) =>
    neurgrad(
      ...[
        'additivity',
        '--model',
        'facts-bert',
        '--prompts',
        prompts,
        '--sizes',
        '1,64',
        '--shifts=-0.1,0.1',
      ],
      ...['--draws', '1', '--out', out, ...more],
    );
  const first = await run();
  expect(first.code, first.err).toBe(0);
  expect(first.out).toContain('reached / foretold, random sets, all shifted alike; within 10%');
  expect(
    readdirSync(out)
      .filter((name) => !name.endsWith('.lock'))
      .sort(),
  ).toEqual(['additivity.html', 'figures', 'part-00000.parquet', 'part-00001.parquet']);
  const page = pageOf(out);
  const rows = await parquetReadObjects({
    file: new Uint8Array(readFileSync(join(out, 'part-00001.parquet'))).buffer,
  });
  expect(rows).toHaveLength(8);
  expect(rows.map(({ kind, size, shift }) => `${kind} ${size} ${shift}`)).toContain('top 64 -0.1');
  for (const row of rows)
    expect(Number(row.predicted) * Number(row.shift) * (row.kind === 'top' ? 1 : 0)).toBeGreaterThanOrEqual(
      0,
    );
  // What was lost is done again, what is there is not, and the summary is the same.
  rmSync(join(out, 'part-00000.parquet'));
  const kept = statSync(join(out, 'part-00001.parquet')).mtimeMs;
  const again = await run('--json');
  expect(again.code, again.err).toBe(0);
  expect(statSync(join(out, 'part-00001.parquet')).mtimeMs).toBe(kept);
  expect(pageOf(out)).toBe(page);
  expect(JSON.parse(again.out)).toMatchObject({
    format: 'neurgrad additivity 1',
    prompts: 2,
    engine: 'differences',
  });
  const less = join(root, 'less.jsonl');
  const of = ['--of', 'logit_diff', '--target', 'paris', '--other', 'rome', '--sizes', '1', '--draws', '0'];
  const told = await neurgrad(
    ...['additivity', '--model', 'facts-bert', '--prompt', texts[0]!, ...of, '--shifts=0.1', '--out', less],
  );
  expect(told.code, told.err).toBe(0);
  const [row] = readFileSync(less, 'utf8')
    .split('\n', 1)
    .map((line) => JSON.parse(line));
  expect(row).toMatchObject({ of: 'logit_diff', target: 'paris', other: 'rome', kind: 'top' });
  expect(Math.abs(row.reached - row.predicted)).toBeLessThan(0.1 * Math.abs(row.predicted));
  const other = await run('--seed', '1');
  expect(other.code).toBe(2);
  expect(other.err).toContain('use another folder');
});
