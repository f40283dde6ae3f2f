/** Skill neurons' properties: by hand, on planted neurons, and ablations against runs with one patch. */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runModel } from '../../models/model.ts';
import {
  encodePrompt,
  type LanguageModel,
  loadModel,
  type Tokenizer,
  targetValues,
} from '../../neurgrad/index.ts';
import { seededRandom } from '../../neurgrad/random.ts';
import { readAblated } from '../../probing/ablated.ts';
import type { Examples } from '../../probing/examples.ts';
import {
  efficiency,
  flexibility,
  interdependency,
  keptByChance,
  robustness,
} from '../../probing/properties.ts';
import { magnMethod } from '../../probing/votingMethods.ts';

/** Two candidates; neurons of `known` have the larger gradient for the right one. */
function planted(prompts: number, seed: number, known: readonly number[]): Examples {
  const random = seededRandom(seed);
  const [candidates, neurons] = [2, 24];
  const gold = Array.from({ length: prompts }, (_, p) => p % 2);
  const gradients = Float32Array.from({ length: prompts * candidates * neurons }, (_, at) => {
    const [p, c, n] = [Math.floor(at / 48), Math.floor(at / 24) % 2, at % 24];
    return known.includes(n) ? (gold[p] === c ? 1 : 0) + random() / 2 : random();
  });
  return { candidates, neurons, gradients, activations: new Float32Array(prompts * neurons), gold };
}
const splits = (known: readonly number[]) => ({
  train: planted(40, 1, known),
  valid: planted(20, 2, known),
  test: planted(20, 3, known),
});
const data = splits([3, 8, 11, 20]);

describe('efficiency', () => {
  it('is accuracy by size, beside what permuted labels give at each', () => {
    const { rows, evaluation } = efficiency(magnMethod, data, { sizes: [1, 4], permutations: 39 });
    expect(rows.map(({ which, value }) => [which, value])).toEqual([
      ['first 1', 1],
      ['first 4', 1],
    ]);
    expect(evaluation.size).toBe(1);
    for (const { chance, interval, p } of rows) {
      expect(p).toBe(1 / 40);
      expect(chance![1]).toBeLessThan(1);
      // Wilson's lower end of 20 of 20.
      expect(interval![0]).toBeCloseTo(0.8389, 4);
    }
  });
});

describe('flexibility', () => {
  it('finds both disjoint pairs that know, and none further on', () => {
    const rows = flexibility(magnMethod, data, { size: 2, sets: 4 });
    expect(rows.map(({ which }) => which)).toEqual(['ranks 1-2', 'ranks 3-4', 'ranks 5-6', 'ranks 7-8']);
    expect(rows.slice(0, 2).map(({ value }) => value)).toEqual([1, 1]);
    for (const { value } of rows.slice(2)) expect(value).toBeLessThan(0.9);
    expect(rows[3]!.p).toBeGreaterThan(0.05);
  });
});

describe('robustness', () => {
  it('tells whether neurons and votes carry over', () => {
    const others = [
      { name: 'same', data: splits([3, 8, 11, 20]) },
      { name: 'others', data: splits([0, 1, 2, 4]) },
    ];
    const rows = robustness(magnMethod, data, others, { size: 4, permutations: 39 });
    expect(rows.map(({ which, measure }) => `${which} ${measure}`)).toEqual([
      'same accuracy',
      'same kept',
      'others accuracy',
      'others kept',
    ]);
    const [same, kept, other, lost] = rows.map(({ value }) => value);
    expect([same, kept, lost]).toEqual([1, 1, 0]);
    expect(other).toBeLessThan(0.9);
    // One of 10,626 ways to choose 4 of 24.
    expect(rows[1]!.p).toBeCloseTo(1 / 10626, 10);
    expect(rows[3]!.p).toBe(1);
  });

  it('holds a number of shared neurons against two draws', () => {
    // Of two pairs of four: none shared 1/6, one 4/6, both 1/6.
    expect(keptByChance(1, 2, 4).p).toBeCloseTo(5 / 6, 12);
    expect(keptByChance(0, 2, 4)).toEqual({ chance: [0, 1], p: 1 });
    // All of them, twice, are the same.
    expect(keptByChance(3, 3, 3)).toEqual({ chance: [1, 1], p: 1 });
  });
});

describe('interdependency', () => {
  it('is what both halves do together beyond each alone', () => {
    // The right one's share: .8; without A .7, without B .6, without both .3: -.1, -.2, -.5, so -.2 together.
    const rows = (right: number) => Array.from({ length: 12 }, () => [right / 2, (1 - right) / 2]);
    const gold = new Array(12).fill(0);
    const found = interdependency('magn', 5, gold, {
      whole: rows(0.8),
      halves: [rows(0.7), rows(0.6), rows(0.3)],
      random: [
        [rows(0.8), rows(0.8), rows(0.8)],
        [rows(0.6), rows(0.8), rows(0.9)],
        [rows(0.8), rows(0.8), rows(0.81)],
      ],
    });
    expect(found.map(({ value }) => Math.round(1e9 * value) / 1e9)).toEqual([-0.1, -0.2, -0.5, -0.2]);
    expect(found.map(({ size }) => size)).toEqual([3, 2, 5, 5]);
    // Of three random pairs one goes as far as -.1, none as -.2 or -.5; one (.3) further than -.2 together.
    expect(found.map(({ p }) => p)).toEqual([2 / 4, 1 / 4, 1 / 4, 2 / 4]);
    // Prompts that all say the same have no spread.
    expect(found[0]!.interval).toBe(null);
  });
});

describe('ablation', () => {
  let model: LanguageModel;
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    ({ model, tokenizer } = await loadModel('examples/models/facts-bert'));
  });
  afterAll(() => {
    model?.dispose();
    model?.device.destroy();
  });

  it('is a run with these neurons at zero there', async () => {
    const prompt = encodePrompt(model, tokenizer, 'Rome is located in [MASK].');
    const candidates = ['italy', 'spain'].map((word) => tokenizer.idOf(word)!);
    const sets = [[], [5], [5, 512 + 7, 1023], [2047]];
    const found = await readAblated(model, prompt, candidates, sets, 'post');
    for (const [s, set] of sets.entries()) {
      const patch = set.map((flat) => ({
        name: `blocks.${Math.floor(flat / 512)}.mlp.hook_post`,
        position: prompt.position,
        neuron: flat % 512,
        op: 'set' as const,
        value: 0,
      }));
      using run = await runModel(model, { ids: [prompt.ids] }, { patch, logits: [prompt.position] });
      const logits = await run.logits.read();
      candidates.forEach((id, c) => {
        expect(found[s]![c]).toBeCloseTo(targetValues(logits, id).prob, 6);
      });
    }
    expect(found[2]).not.toEqual(found[0]);
  });
});
