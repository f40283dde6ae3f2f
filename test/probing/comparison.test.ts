/** Paired comparisons, means over tasks and their corrections, by hand; the fast trainer against the plain one. */

import { describe, expect, it } from 'vitest';
import { seededRandom } from '../../neurgrad/random.ts';
import { comparePaired, mcnemar, pairedGains } from '../../probing/comparison.ts';
import {
  emptyTraining,
  majorityOf,
  nullOf,
  type ProberResult,
  permutedGolds,
  train,
} from '../../probing/evaluation.ts';
import { permutationsFor, taskMeans } from '../../probing/macro.ts';
import { accuracyInterval, bootstrap, bootstrapInterval, bootstrapMeans } from '../../probing/resampling.ts';
import type { TaskReport } from '../../probing/run.ts';
import { Trainer } from '../../probing/trainer.ts';

describe('McNemar’s exact test', () => {
  it.each([
    // 2 (1) / 2^5
    [5, 0, 0.0625],
    // 2 (1 + 6) / 2^6
    [5, 1, 0.21875],
    [1, 5, 0.21875],
    // An even split, and nothing to tell apart: no evidence at all.
    [3, 3, 1],
    [0, 0, 1],
    [1, 0, 1],
  ])('of %i against %i prompts is %d', (first, second, expected) => {
    expect(mcnemar(first, second)).toBeCloseTo(expected, 14);
  });

  it('holds where 2^-n underflows', () => {
    // Normal approximation with continuity: z = (|1300 - 1100| - 1) / sqrt(2400) = 4.0621; two-sided 4.86e-5.
    expect(mcnemar(1300, 1100)).toBeCloseTo(4.86e-5, 6);
    expect(mcnemar(0, 3000)).toBe(0);
  });
});

describe('a paired comparison', () => {
  const gold = [0, 1, 0, 1, 0, 1, 0, 1];
  const first = [0, 1, 0, 1, 0, 0, 1, 0];
  const second = [0, 0, 1, 0, 0, 0, 1, 1];

  it('counts prompt by prompt', () => {
    // Both right at 0 and 4, both wrong at 5 and 6; only the first right at 1, 2 and 3, only the second at 7.
    expect(pairedGains(first, second, gold)).toEqual([0, 1, 1, 1, 0, 0, 0, -1]);
    const { difference, onlyFirst, onlySecond, p } = comparePaired(first, second, gold, 1);
    expect({ difference, onlyFirst, onlySecond }).toEqual({ difference: 0.25, onlyFirst: 3, onlySecond: 1 });
    // 2 (1 + 4) / 2^4
    expect(p).toBeCloseTo(0.625, 14);
  });

  it('has an interval from ten prompts on', () => {
    expect(comparePaired(first, second, gold, 1).interval).toBeNull();
    const twice = (values: readonly number[]) => [...values, ...values];
    const { difference, interval } = comparePaired(twice(first), twice(second), twice(gold), 1);
    expect(difference).toBe(0.25);
    expect(interval![0]).toBeLessThan(0.25);
    expect(interval![1]).toBeGreaterThan(0.25);
  });

  it.each([1, 9, 10, 200])('of %i prompts, all answered alike, has no interval of no width', (prompts) => {
    const alike = new Array<number>(prompts).fill(1);
    expect(comparePaired(alike, alike, alike, 1).interval).toBeNull();
    expect(
      comparePaired(
        alike,
        alike.map(() => 0),
        alike,
        1,
      ),
    ).toMatchObject({ difference: 1, interval: null });
  });

  it('is nothing between a method and itself, where two unpaired intervals would be wide', () => {
    expect(comparePaired(first, first, gold, 1)).toEqual({
      difference: 0,
      interval: null,
      onlyFirst: 0,
      onlySecond: 0,
      p: 1,
    });
  });

  it('draws the same prompts for both', () => {
    const [a, b] = [first, second].map((answers) =>
      bootstrap(
        answers.map((answer, i) => answer === gold[i]),
        7,
      ),
    ) as [number[], number[]];
    const differences = bootstrapMeans(pairedGains(first, second, gold), 7);
    for (const [i, difference] of differences.entries()) expect(a[i]! - b[i]!).toBeCloseTo(difference, 12);
  });
});

describe('intervals of accuracies', () => {
  it.each([
    // Wilson by hand: n / (n + z²) where all are right, z²/(n + z²) beyond none.
    [1, 20, 20 / (20 + 3.841458820694124), 1],
    [0, 20, 0, 3.841458820694124 / (20 + 3.841458820694124)],
    [0.5, 10, 0.23659309, 0.76340691],
  ])('of %d over %i prompts', (accuracy, prompts, low, high) => {
    const interval = accuracyInterval(accuracy, prompts)!;
    expect(interval[0]).toBeCloseTo(low, 8);
    expect(interval[1]).toBeCloseTo(high, 8);
  });

  it('are none below ten prompts, of one task or of several', () => {
    for (const prompts of [1, 2, 9]) expect(accuracyInterval(1, prompts)).toBeNull();
    const some = [0, 1, 1, 0, 1, 1, 1, 0, 1, 1];
    expect(bootstrapInterval([some, some.slice(1)], 0)).toBeNull();
    expect(bootstrapInterval([some, some.map(() => 1)], 0)).not.toBeNull();
    expect(bootstrapInterval([some.map(() => 1), some.map(() => 0)], 0)).toBeNull();
  });

  it('are means of the tasks’, each drawn by a seed of its own', () => {
    const [one, other] = [
      [0, 1, 1, 0, 1, 1, 1, 0, 1, 1],
      [0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0],
    ] as [number[], number[]];
    const means = bootstrapMeans(one, 5).map((value, i) => (value + bootstrapMeans(other, 6)[i]!) / 2);
    const [low, high] = bootstrapInterval([one, other], 5)!;
    const within = means.filter((value) => value >= low && value <= high).length / means.length;
    expect(within).toBeGreaterThanOrEqual(0.95);
    expect(within).toBeLessThan(0.98);
  });
});

describe('baselines and nulls', () => {
  it('the majority is that of training, tested on test', () => {
    expect(majorityOf([3, 5, 5], [1, 1, 2, 0])).toEqual({ label: 1, accuracy: 0.5 });
  });

  it('the real labels count among the permutations', () => {
    expect(nullOf([0.5, 0.25, 0.75], 0.5)).toMatchObject({ mean: 0.5, p: 3 / 4 });
    expect(nullOf(new Array(199).fill(0.3), 0.9).p).toBe(1 / 200);
    // Of 38 permutations none lies in the 2.5% beyond an end.
    expect(nullOf(new Array(38).fill(0.3), 0.9)).toMatchObject({
      interval: null,
      mean: expect.closeTo(0.3, 12),
    });
    expect(nullOf(new Array(39).fill(0.3), 0.9).interval).toEqual([0.3, 0.3]);
    // A mean of means is not the same number in every order of adding.
    expect(nullOf([0.1 + 0.2], 0.3).p).toBe(1);
    expect(nullOf([0.3], 0.1 + 0.2).p).toBe(1);
  });
});

/** A task of 4 test prompts: a prober's answers beside LM-Prob's, with two permutations. */
function taskOf(prober: number[], lmProb: number[], nulls: number[]): TaskReport {
  const gold = [0, 1, 0, 1];
  const accuracyOf = (answers: number[]) => answers.filter((answer, i) => answer === gold[i]).length / 4;
  const result = (
    answers: number[],
  ): Pick<ProberResult, 'accuracy' | 'predictions' | 'null' | 'overLmProb'> => ({
    accuracy: accuracyOf(answers),
    predictions: answers,
    null: nullOf(nulls, accuracyOf(answers)),
    overLmProb: comparePaired(answers, lmProb, gold, 0),
  });
  return {
    gold,
    rand: 0.5,
    majority: { label: 0, accuracy: 0.5 },
    lmProb: { accuracy: accuracyOf(lmProb), interval: [0, 1], predictions: lmProb },
    polar: result(prober),
    magn: result(prober),
    act: result(prober),
  } as unknown as TaskReport;
}

describe('means over tasks', () => {
  const tasks = [
    taskOf([0, 1, 0, 1], [0, 0, 0, 0], [0.5, 0.75]),
    taskOf([0, 0, 0, 0], [0, 0, 0, 0], [0.5, 0.25]),
  ];
  const means = taskMeans(tasks, 3);

  it('are of accuracies, differences and nulls', () => {
    expect(means).toMatchObject({ rand: 0.5, majority: 0.5, lmProb: { accuracy: 0.5 } });
    expect(means.magn.accuracy).toBe(0.75);
    expect(means.magn.overLmProb.difference).toBe(0.25);
    expect(means.magn.overLmProb.interval).toBeNull();
    // The first permutations together, then the second: (.5 + .5) / 2, (.75 + .25) / 2.
    expect(means.magn.null).toMatchObject({ accuracies: [0.5, 0.5], p: 1 / 3 });
  });

  it('correct p for the number of tasks', () => {
    // Permutation p: 1/3 and, since .5 of the nulls is as good as the second's .5, 2/3: times 2, times 1.
    expect(means.holm.magn.permutation![0]).toBeCloseTo(2 / 3, 12);
    expect(means.holm.magn.permutation![1]).toBeCloseTo(2 / 3, 12);
    // McNemar: 2 against 0 prompts, 0.5; and 0 against 0, 1.
    expect(means.holm.polar.overLmProb).toEqual([1, 1]);
    expect(permutationsFor(22)).toBe(439);
  });

  it('have no null where a task has none', () => {
    const without = { ...tasks[0]!, magn: { ...tasks[0]!.magn, null: null } } as TaskReport;
    const { magn, holm } = taskMeans([without, tasks[1]!], 3);
    expect([magn.null, holm.magn.permutation]).toEqual([null, null]);
  });
});

describe.each(['paper', 'release'] as const)('the fast trainer, %s', (variant) => {
  it.each([2, 3, 5])('counts what the plain one does, past a byte, with %i candidates', (candidates) => {
    const [neurons, permutations, prompts] = [37, 6, 300];
    const random = seededRandom(candidates);
    const gold = Array.from({ length: prompts }, () => Math.floor(random() * candidates));
    const nulls = permutedGolds(gold, permutations, 4);
    const [plain, fast] = [0, 1].map(() => emptyTraining(candidates, neurons, permutations));
    const trainer = new Trainer(fast!, candidates, variant);
    for (let p = 0; p < prompts; p++) {
      // The first neuron says the same every time: its byte would overflow.
      const gradients = Float32Array.from({ length: candidates * neurons }, (_, i) =>
        i % neurons === 0 ? (i === gold[p]! * neurons ? 1 : -1) : Math.round(4 * (random() - 0.5)),
      );
      const activation = Float32Array.from({ length: neurons }, () => random() - 0.5);
      const golds = [gold[p]!, ...nulls.map((row) => row[p]!)];
      train(plain!, gradients, activation, candidates, golds, variant);
      trainer.add(gradients, activation, golds);
    }
    trainer.flush();
    expect(fast).toEqual(plain);
    expect(plain!.polar[0]!.plus[0]).toBeGreaterThanOrEqual(prompts);
    trainer.flush();
    expect(fast).toEqual(plain);
  });
});
