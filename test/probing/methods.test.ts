/** Probers of the registry: by hand, against the golden values, at the minimum that they claim, and one of one's own. */

import { describe, expect, it } from 'vitest';
import { seededRandom } from '../../neurgrad/random.ts';
import type { Examples } from '../../probing/examples.ts';
import { bestSplit, forest } from '../../probing/forest.ts';
import { logistic } from '../../probing/logistic.ts';
import type { ProbeMethod } from '../../probing/method.ts';
import { evaluateMethod } from '../../probing/methodEvaluation.ts';
import { PROBERS, parseProbers } from '../../probing/methods.ts';
import { magnMethod, polarMethod } from '../../probing/votingMethods.ts';
import { type GoldenFile, goldenFiles, readGolden } from '../models/goldenFiles.ts';

function goldenExamples(file: GoldenFile, name: string): Examples {
  const { shape, data } = file.of(`${name}.g`);
  const [prompts, candidates, neurons] = shape as [number, number, number];
  const gold = [...file.of(`${name}.gold`).data];
  const gradients = Float32Array.from(data);
  return { candidates, neurons, gradients, activations: new Float32Array(prompts * neurons), gold };
}

describe.each(goldenFiles('probing-'))('%s', (name) => {
  it.each([polarMethod, magnMethod])('$name of the registry is that of a run', async (method) => {
    const golden = await readGolden(name);
    const want = (what: string) => [...golden.of(`${method.name}.${what}`).data];
    const [train, valid, test] = ['train', 'dev', 'test'].map((part) => goldenExamples(golden, part)) as [
      Examples,
      Examples,
      Examples,
    ];
    const found = evaluateMethod(method, { train, valid, test });
    expect(found.ranking).toEqual(want('rank'));
    expect(found.sizes).toEqual(want('sizes'));
    expect(found.valid).toEqual(want('dev_accuracy'));
    expect(found.test).toEqual(want('test_accuracy'));
    expect([found.size]).toEqual(want('chosen'));
  });
});

/** Neuron 5 knows the answer, of 32; its activation is the answer. */
function planted(prompts: number, seed: number): Examples {
  const random = seededRandom(seed);
  const [candidates, neurons] = [3, 32];
  const gold = Array.from({ length: prompts }, (_, p) => p % candidates);
  const gradients = Float32Array.from({ length: prompts * candidates * neurons }, (_, at) => {
    const [p, c, n] = [
      Math.floor(at / candidates / neurons),
      Math.floor(at / neurons) % candidates,
      at % neurons,
    ];
    return n === 5 ? (gold[p] === c ? 1 : -0.5 - random()) : random() - 0.5;
  });
  const activations = Float32Array.from({ length: prompts * neurons }, (_, at) =>
    at % neurons === 5 ? gold[Math.floor(at / neurons)]! : random(),
  );
  return { candidates, neurons, gradients, activations, gold };
}

describe('a planted neuron', () => {
  const data = { train: planted(60, 1), valid: planted(30, 2), test: planted(30, 3) };

  it.each(PROBERS)('is what $name finds', (method) => {
    const found = evaluateMethod(method, data, { sizes: [1, 4, 32] });
    expect(found.ranking[0]).toBe(5);
    // A threshold parts three answers in two only: Act knows 0 or 2, and is at chance between the others.
    if (method.name === 'act') expect(found.accuracy).toBeGreaterThan(0.6);
    else expect([found.accuracy, found.size]).toEqual([1, 1]);
  });

  it.each(PROBERS)('is not there where labels are permuted, says $name', (method) => {
    const { null: chance, accuracy } = evaluateMethod(method, data, { sizes: [1, 4], permutations: 9 });
    expect(chance!.accuracies).toHaveLength(9);
    expect(chance!.mean).toBeLessThan(0.5);
    expect(chance!.p).toBe(accuracy > Math.max(...chance!.accuracies) ? 0.1 : chance!.p);
    expect(chance!.p).toBe(0.1);
  });

  it('is the same for a seed', () => {
    const again = [0, 0, 7].map((seed) => Array.from(forest.fit(data.train, { seed }).score));
    expect(again[0]).toEqual(again[1]);
    expect(again[0]).not.toEqual(again[2]);
  });
});

describe('logistic regression', () => {
  /** One neuron, ±1 for the right and the wrong candidate: mean 0, spread 1, so nothing is scaled. */
  const one: Examples = {
    candidates: 2,
    neurons: 1,
    gradients: Float32Array.of(1, -1, -1, 1),
    activations: new Float32Array(2),
    gold: [0, 1],
  };

  it('of one neuron is at the root of its derivative', () => {
    // w²/2 + 2 log(1 + e^-2w) is least where w = 4 / (1 + e^2w).
    const [w] = logistic.fit(one).score as Float64Array;
    expect(w).toBeCloseTo(4 / (1 + Math.exp(2 * w!)), 7);
    expect(w).toBeCloseTo(0.7408, 4);
  });

  it('is at the minimum of its loss: every way from there goes up', () => {
    const { gradients, gold, candidates, neurons } = planted(45, 9);
    const columns = candidates * neurons;
    const prompts = gold.length;
    const column = (at: number) => Array.from({ length: prompts }, (_, p) => gradients[p * columns + at]!);
    const scales = Array.from({ length: columns }, (_, at) => {
      const mean = column(at).reduce((a, b) => a + b) / prompts;
      return [mean, Math.sqrt(column(at).reduce((sum, x) => sum + (x - mean) ** 2, 0) / prompts)] as const;
    });
    const loss = (w: number[]): number => {
      let sum = w.reduce((all, part) => all + part * part, 0) / 2;
      for (let p = 0; p < prompts; p++) {
        const scores = Array.from({ length: candidates }, (_, c) =>
          w.reduce((all, part, n) => {
            const at = c * neurons + n;
            return all + (part * (gradients[p * columns + at]! - scales[at]![0])) / scales[at]![1];
          }, 0),
        );
        sum += Math.log(scores.reduce((all, s) => all + Math.exp(s), 0)) - scores[gold[p]!]!;
      }
      return sum;
    };
    const examples = {
      gradients,
      gold,
      candidates,
      neurons,
      activations: new Float32Array(prompts * neurons),
    };
    const size = [...(logistic.fit(examples).score as Float64Array)];
    // Scores are without sign; predictions of unit vectors tell it.
    const signs = size.map((_, n) => {
      const unit = Float32Array.from({ length: columns }, (_, at) =>
        at % neurons === n
          ? scales[at]![0] + (at < neurons ? scales[at]![1] : -scales[at]![1])
          : scales[at]![0],
      );
      const asked = { candidates, neurons, gradients: unit, activations: new Float32Array(neurons) };
      return logistic.fit(examples).predict(asked)[0] === 0 ? 1 : -1;
    });
    const w = size.map((part, n) => part * signs[n]!);
    for (const n of [0, 5, 17, 31]) {
      const moved = (by: number) => loss(w.map((part, i) => (i === n ? part + by : part)));
      expect(Math.abs(moved(1e-4) - moved(-1e-4)) / 2e-4, `slope at ${n}`).toBeLessThan(1e-5);
      expect(moved(1e-3)).toBeGreaterThan(moved(0));
    }
  });
});

describe('a forest', () => {
  it('takes the split of least impurity', () => {
    // Said 0: two of 0. Said 1: two of 1. Said 2: two of 1. Six prompts of impurity 6 (1 - 1/9 - 4/9) = 8/3; after the first threshold none.
    const split = bestSplit([2, 0, 0, 0, 2, 0, 0, 2, 0], 3);
    expect(split.upTo).toBe(0);
    expect(split.gain).toBeCloseTo(8 / 3, 12);
    // The same of both labels on either side parts nothing.
    expect(bestSplit([1, 1, 2, 2], 2)).toEqual({ gain: 0, upTo: -1 });
  });

  it('of prompts that nothing parts answers by the share of the labels', () => {
    const gold = [1, 1, 1, 0];
    const examples = {
      candidates: 2,
      neurons: 2,
      gradients: new Float32Array(16),
      activations: new Float32Array(8),
      gold,
    };
    const fitted = forest.fit(examples);
    expect([...(fitted.score as Float64Array)]).toEqual([0, 0]);
    expect([...fitted.predict(examples)]).toEqual([1, 1, 1, 1]);
  });
});

it('one of your own is a value', () => {
  /** Answers with the largest gradient of the first neuron. */
  const mine: ProbeMethod = {
    name: 'mine',
    fit: (train) => ({
      score: Array.from({ length: train.neurons }, (_, n) => -n),
      predict: ({ gradients, candidates, neurons, activations }) =>
        Int32Array.from({ length: activations.length / neurons }, (_, p) => {
          const row = Array.from(
            { length: candidates },
            (_, c) => gradients[(p * candidates + c) * neurons]!,
          );
          return row.indexOf(Math.max(...row));
        }),
    }),
  };
  const gold = [0, 1, 1];
  const gradients = Float32Array.of(3, 0, 1, 0, 1, 0, 3, 0, 0, 0, 1, 0);
  const examples = { candidates: 2, neurons: 2, gradients, activations: new Float32Array(6), gold };
  const found = evaluateMethod(mine, { train: examples, valid: examples, test: examples }, { sizes: [1, 2] });
  expect(found).toMatchObject({ method: 'mine', size: 1, test: [1, 1], ranking: [0, 1] });
});

it('says what is wrong', () => {
  expect(() => parseProbers('polar,forrest')).toThrow('unknown prober "forrest"; there are polar, magn, act');
  expect(() => parseProbers('act,act')).toThrow('act stands twice');
  const bad = {
    candidates: 2,
    neurons: 1,
    gradients: Float32Array.of(1, Number.NaN),
    activations: new Float32Array(1),
  };
  expect(() => logistic.fit({ ...bad, gold: [0] })).toThrow('fit: train holds NaN of neuron 0');
  expect(() => forest.fit({ ...bad, gradients: new Float32Array(3), gold: [0] })).toThrow(
    '3 gradients and 1 activations',
  );
});
