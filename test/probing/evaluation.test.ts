/** A whole evaluation on made-up gradients: streamed against stored, planted neurons, permuted labels. */

import { beforeAll, describe, expect, it } from 'vitest';
import { seededRandom } from '../../neurgrad/random.ts';
import type { Variant } from '../../probing/counts.ts';
import {
  addTraining,
  type Evaluated,
  type Evaluation,
  emptyTraining,
  evaluateTask,
  KINDS,
  permutedGolds,
  type Training,
  train,
} from '../../probing/evaluation.ts';
import { markGradients } from '../../probing/marks.ts';
import { fitProber } from '../../probing/prober.ts';

const CANDIDATES = 3;
const NEURONS = 40;

interface Made {
  readonly gold: number;
  readonly gradients: Float32Array;
  readonly activation: Float32Array;
}

/** Neuron 5 knows the answer by its gradient, neuron 7 by its activation, the others nothing. */
function make(count: number, seed: number, planted: boolean): Made[] {
  const random = seededRandom(seed);
  return Array.from({ length: count }, (_, p) => {
    const gold = p % CANDIDATES;
    const gradients = Float32Array.from({ length: CANDIDATES * NEURONS }, () =>
      random() < 0.2 ? 0 : random() - 0.5,
    );
    const activation = Float32Array.from({ length: NEURONS }, () => random() - 0.5);
    if (planted) {
      for (let c = 0; c < CANDIDATES; c++) gradients[c * NEURONS + 5] = c === gold ? -1 : 0.25;
      activation[7] = gold === 2 ? 3 : -3;
    }
    return { gold, gradients, activation };
  });
}

const evaluated = (made: Made[]): Evaluated[] =>
  made.map(({ gold, gradients, activation }) => ({
    gold,
    activation,
    probabilities: [0.1, 0.3, 0.2],
    marks: markGradients(gradients, CANDIDATES),
  }));

function trainOn(made: Made[], permutations: number, variant: Variant, order = made.keys()): Training {
  const training = emptyTraining(CANDIDATES, NEURONS, permutations);
  const gold = made.map((prompt) => prompt.gold);
  const nulls = permutedGolds(gold, permutations, 9);
  for (const p of order) {
    const { gradients, activation } = made[p]!;
    train(training, gradients, activation, CANDIDATES, [gold[p]!, ...nulls.map((row) => row[p]!)], variant);
  }
  return training;
}

describe.each(['paper', 'release'] as const)('%s', (variant) => {
  it('streams: parts add up to the fit on all stored gradients, bit for bit', () => {
    const made = make(60, 1, false);
    const whole = trainOn(made, 2, variant);
    const parts = [0, 1, 2].map((part) =>
      trainOn(made, 2, variant, [...made.keys()].filter((p) => p % 3 === part).values()),
    );
    const merged = emptyTraining(CANDIDATES, NEURONS, 2);
    for (const part of parts.reverse()) addTraining(merged, part);
    expect(merged.prompts).toBe(60);
    for (const kind of KINDS) {
      whole[kind.name].forEach((counts, k) => {
        expect(merged[kind.name][k]).toEqual(counts);
        expect(fitProber(kind, variant, merged[kind.name][k]!)).toEqual(fitProber(kind, variant, counts));
      });
    }
  });

  describe('with planted neurons', () => {
    let result: Evaluation;
    beforeAll(async () => {
      const training = trainOn(make(90, 2, true), 0, variant);
      const prompts = { valid: evaluated(make(30, 3, true)), test: evaluated(make(30, 4, true)) };
      result = await evaluateTask(training, prompts, CANDIDATES, variant, 1);
    });

    it.each(['polar', 'magn'] as const)('%s is right everywhere with one neuron', (name) => {
      expect(result[name]).toMatchObject({ accuracy: 1, size: 1, null: null });
      // All of 30 right does not say that every other would be.
      expect(result[name].interval![0]).toBeCloseTo(30 / (30 + 1.959963984540054 ** 2), 12);
      expect(result[name].interval![1]).toBe(1);
      expect(result.probers[name].ranking[0]).toBe(5);
      expect(result.probers[name].polarity[5]).toBe(-1);
    });

    it('Act tells the one class that an activation tells', () => {
      expect(result.act.test[0]).toBeCloseTo(2 / 3);
    });

    it('has its baselines', () => {
      expect(result.rand).toBe(1 / 3);
      expect(result.lmProb.accuracy).toBeCloseTo(1 / 3);
      expect(new Set(result.lmProb.predictions)).toEqual(new Set([1]));
      const [low, high] = result.lmProb.interval!;
      expect(low).toBeLessThan(1 / 3);
      expect(high).toBeGreaterThan(1 / 3);
    });
  });

  it('finds chance within the null interval of permuted labels, and planted labels far outside', async () => {
    const training = trainOn(make(90, 2, true), 60, variant);
    const prompts = { valid: evaluated(make(60, 3, true)), test: evaluated(make(150, 4, true)) };
    const { polar, magn } = await evaluateTask(training, prompts, CANDIDATES, variant, 1);
    for (const { null: chance, accuracy } of [polar, magn]) {
      expect(accuracy).toBe(1);
      expect(chance!.interval![1]).toBeLessThan(0.6);
      expect(chance!.interval![0]).toBeLessThanOrEqual(1 / 3);
      expect(chance!.interval![1]).toBeGreaterThanOrEqual(1 / 3);
      expect(chance!.accuracies).toHaveLength(60);
    }
  });

  it('gives gradients without information an accuracy within their null', async () => {
    const training = trainOn(make(90, 5, false), 60, variant);
    const prompts = { valid: evaluated(make(60, 6, false)), test: evaluated(make(150, 7, false)) };
    const { polar, magn } = await evaluateTask(training, prompts, CANDIDATES, variant, 1);
    for (const { accuracy, null: chance } of [polar, magn]) {
      expect(chance!.p).toBeGreaterThan(0.025);
      expect(accuracy).toBeLessThan(chance!.interval![1] + 0.05);
      expect(Math.abs(chance!.mean - 1 / 3)).toBeLessThan(0.05);
    }
  });
});

it('says how much memory the counters would take, where there is not so much', () => {
  expect(() => emptyTraining(2, 2 ** 40, 200)).toThrow(
    /200 permutations of 1099511627776 neurons take 3\.56e\+6 GB/,
  );
});

describe('permuted labels', () => {
  it('are the same labels in another order, by seed', () => {
    const gold = Array.from({ length: 30 }, (_, p) => p % 3);
    const [one, two] = permutedGolds(gold, 2, 1) as [number[], number[]];
    expect([...one].sort()).toEqual([...gold].sort());
    expect(one).not.toEqual(two);
    expect(permutedGolds(gold, 2, 1)[0]).toEqual(one);
  });
});
