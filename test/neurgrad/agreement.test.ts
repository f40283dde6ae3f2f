/** Intervals against samples written out, weights by hand. */

import { describe, expect, it } from 'vitest';
import { studentQuantile, wilson } from '../../neurgrad/intervals.ts';
import { seededRandom } from '../../neurgrad/random.ts';
import { pearson } from '../../neurgrad/statistics.ts';
import { agreement, pearsonDifference, weight } from '../../neurgrad/study/agreement.ts';
import { paperRow } from '../../neurgrad/study/paper.ts';
import { meanAbsoluteR, share } from '../../neurgrad/study/pooled.ts';

const PROMPTS = 12;
const NEURONS = 5;
const random = seededRandom(3);
const draw = (): number[][] =>
  Array.from({ length: PROMPTS }, () => Array.from({ length: NEURONS }, () => random() - 0.5));
const x = draw();
const y = draw().map((row, p) => row.map((value, i) => x[p]![i]! + value));

describe('agreement', () => {
  it.each(['perPrompt', 'shared'] as const)('has the jackknife of samples written out: %s', (sampling) => {
    const pick = (rows: number[][], prompt: number, neuron: number): number[] =>
      rows.filter((_, p) => p !== prompt).flatMap((row) => row.filter((_, n) => n !== neuron));
    const none = -1;
    const z = Math.atanh(pearson(x.flat(), y.flat()));
    const shares = [
      ...x.map((_, p) => [p, none, PROMPTS] as const),
      ...(sampling === 'shared' ? x[0]!.map((_, n) => [none, n, NEURONS] as const) : []),
    ].map(([p, n, of]) => {
      const without = Math.atanh(pearson(pick(x, p, n), pick(y, p, n)));
      return ((of - 1) / of) * (without - z) ** 2;
    });
    const variance = shares.reduce((a, b) => a + b);
    const effective = variance ** 2 / shares.reduce((a, b) => a + b * b, 0);
    const half = studentQuantile(0.975, effective + 0.5) * Math.sqrt(variance);
    const found = agreement(x, y, sampling).pearson;
    expect(found.value).toBeCloseTo(pearson(x.flat(), y.flat()), 14);
    expect(found.effective).toBeCloseTo(effective, 9);
    expect(found.count).toBe(PROMPTS);
    expect(found.interval!.low).toBeCloseTo(Math.tanh(z - half), 10);
    expect(found.interval!.high).toBeCloseTo(Math.tanh(z + half), 10);
  });
  it('leaves out one prompt at a time', () => {
    const without = x.map((_, out) =>
      pearson(x.filter((_, p) => p !== out).flat(), y.filter((_, p) => p !== out).flat()),
    );
    const { low, high } = agreement(x, y, 'perPrompt').leaveOneOut!;
    expect(low).toBeCloseTo(Math.min(...without), 12);
    expect(high).toBeCloseTo(Math.max(...without), 12);
    expect(agreement([[1, 2]], [[1, 2]], 'perPrompt').leaveOneOut).toBeNull();
  });
  it('has no interval below ten prompts, and says so', () => {
    for (const count of [1, 2, 9]) {
      const found = agreement(x.slice(0, count), y.slice(0, count), 'perPrompt').pearson;
      expect(found).toMatchObject({ interval: null, effective: null, count });
      expect(found.reason).toBe(`${count} prompt${count === 1 ? '' : 's'}: an interval needs 10`);
    }
    expect(agreement(x.slice(0, 10), y.slice(0, 10), 'perPrompt').pearson.reason).toBeNull();
  });
  it('is no number where nothing correlates, and where one prompt alone does', () => {
    const constant = x.map((row) => row.map(() => 0.1));
    const found = agreement(x, constant, 'perPrompt');
    expect(found.pearson).toMatchObject({ value: Number.NaN, interval: null });
    expect(found.meanPearson).toEqual({ value: Number.NaN, counted: 0 });
    const one = x.map((row, p) => (p === 0 ? row : row.map(() => 0)));
    const alone = agreement(one, one, 'perPrompt');
    expect(alone.pearson).toMatchObject({ value: 1, interval: null });
    expect(alone.pearson.reason).toContain('not defined for every part left out');
    expect(alone.meanPearson).toEqual({ value: expect.closeTo(1, 12), counted: 1 });
  });
  it('keeps its digits where one prompt outweighs all others by 20 orders', () => {
    const heavy = (rows: number[][]): number[][] =>
      rows.map((row, p) => (p === 0 ? [1e10, -1e10, 0, 0, 0] : row.map((value) => value)));
    const { low } = agreement(heavy(x), heavy(y), 'perPrompt').leaveOneOut!;
    expect(low).toBeCloseTo(pearson(x.slice(1).flat(), y.slice(1).flat()), 5);
  });
  it('has no width where every prompt says the same', () => {
    const rows = Array.from({ length: 12 }, () => [1, 2, 4]);
    expect(agreement(rows, rows, 'perPrompt').pearson).toMatchObject({
      value: expect.closeTo(1, 14),
      interval: { low: expect.closeTo(1, 14), high: 1 },
      effective: 12,
    });
  });
});

describe('the difference of two estimates', () => {
  it('is paired: the jackknife of differences written out', () => {
    const z = y.map((row, p) => row.map((value, i) => value + 2 * x[(p + 1) % PROMPTS]![i]!));
    const of = (keep: (p: number) => boolean): number => {
      const some = (rows: number[][]): number[] => rows.filter((_, p) => keep(p)).flat();
      return pearson(some(x), some(y)) - pearson(some(z), some(y));
    };
    const whole = Math.atanh(of(() => true) / 2);
    const shares = x.map(
      (_, out) => ((PROMPTS - 1) / PROMPTS) * (Math.atanh(of((p) => p !== out) / 2) - whole) ** 2,
    );
    const variance = shares.reduce((a, b) => a + b);
    const half =
      studentQuantile(0.975, variance ** 2 / shares.reduce((a, b) => a + b * b, 0) + 0.5) *
      Math.sqrt(variance);
    const found = pearsonDifference(x, z, y, 'perPrompt');
    expect(found.value).toBeCloseTo(
      of(() => true),
      12,
    );
    expect(found.interval!.low).toBeCloseTo(2 * Math.tanh(whole - half), 10);
    expect(found.interval!.high).toBeCloseTo(2 * Math.tanh(whole + half), 10);
  });
  it('of an estimate with itself is 0, and exactly', () => {
    expect(pearsonDifference(x, x, y, 'perPrompt')).toMatchObject({
      value: 0,
      interval: { low: 0, high: 0 },
    });
  });
});

describe('shares and means', () => {
  it('count each prompt’s own neurons', () => {
    // 12 prompts, of which 3 say yes twice, 9 yes and no: 21 of 24; a null counts for nothing.
    const rows = Array.from({ length: 12 }, (_, p) => [true, p < 3 ? true : p < 12 && p >= 9 ? null : false]);
    // 3 × 2 of 2, 6 × 1 of 2, 3 × 1 of 1: 15 of 21.
    const found = share(rows, 'perPrompt');
    expect(found.value).toBeCloseTo(15 / 21, 14);
    const without = rows.map((_, out) => {
      const kept = rows.filter((_, p) => p !== out).flat();
      return kept.filter((value) => value === true).length / kept.filter((value) => value !== null).length;
    });
    const variance = without.reduce((sum, value) => sum + (11 / 12) * (value - 15 / 21) ** 2, 0);
    const independent = ((15 / 21) * (6 / 21)) / variance;
    const { low, high } = wilson(15 / 21, independent, studentQuantile(0.975, 11));
    expect(found.interval!.low).toBeCloseTo(low, 12);
    expect(found.interval!.high).toBeCloseTo(high, 12);
  });
  it('have a width where all say the same', () => {
    const yes = Array.from({ length: 12 }, () => [true, true]);
    const { value, interval } = share(yes, 'perPrompt');
    expect([value, interval!.high]).toEqual([1, 1]);
    // Twelve prompts that agree: Wilson of 12 of 12 with t of 11, 1 / (1 + 2.201² / 12).
    expect(interval!.low).toBeCloseTo(1 / (1 + 2.2009851600829 ** 2 / 12), 9);
  });
  it('are not defined where one part alone has any', () => {
    const rows = Array.from({ length: 12 }, (_, p) => [p === 0 ? true : null]);
    expect(share(rows, 'perPrompt')).toMatchObject({ value: 1, interval: null });
    expect(share([[null]], 'perPrompt').value).toBeNaN();
  });
  it('of |r| stay within 0 and 1, however few are not 1', () => {
    const rows = Array.from({ length: 40 }, (_, p) => [p === 0 ? 0.2 : p % 2 === 0 ? -1 : 1]);
    const { value, interval } = meanAbsoluteR(rows, 4, 'perPrompt');
    expect(value).toBeCloseTo(39.2 / 40, 14);
    // One of 40 is off by .8: the variance of the mean is (.8 / 40)² × 39 / 40 × 40 / 39 = .0004, as of .0196 / .0004 = 49 yes and no.
    const { low, high } = wilson(0.98, 49, studentQuantile(0.975, 39));
    expect(interval!.low).toBeCloseTo(low, 9);
    expect(interval!.high).toBeCloseTo(high, 9);
    expect(meanAbsoluteR(rows, 2, 'perPrompt')).toMatchObject({
      value: expect.closeTo(0.98, 12),
      interval: null,
      reason: '2 points always lie on one line',
    });
  });
});

describe('weight', () => {
  it('is by hand', () => {
    // Squares 9 + 1, 4 + 4, 1 + 1: 20 in all; A >= 0 holds 9 + 4 + 1.
    const found = weight(
      [
        [0, -1],
        [2, -2],
        [-3, 1],
      ],
      [
        [3, 1],
        [-2, 2],
        [1, 1],
      ],
    );
    expect(found).toEqual({ positive: 14 / 20, promptsOfHalf: 1, heaviest: { prompt: 0, share: 0.5 } });
  });
  it('foretells Pearson of a gradient that is right but for its sign where A < 0', () => {
    const activation = x.map((row) => row.map((value) => value + 0.2));
    // Each slope comes with its opposite, so that means are 0.
    const slope = y.map((row) => [...row, ...row.map((value) => -value)]);
    const both = activation.map((row) => [...row, ...row]);
    const gradient = slope.map((row, p) => row.map((g, i) => (both[p]![i]! >= 0 ? g : -g)));
    const { positive } = weight(both, slope);
    expect(pearson(gradient.flat(), slope.flat())).toBeCloseTo(2 * positive - 1, 12);
  });
});

describe('the paper’s row', () => {
  it('is for its models alone, by name and size', () => {
    const base = { layers: 12, width: 3072 };
    expect(paperRow({ source: 'google-bert/bert-base-uncased', ...base })?.gradient).toBe(-0.9216);
    expect(paperRow({ source: 'models/bert-base-cased/', ...base })?.name).toBe('BERT base');
    expect(paperRow({ source: 'bert-base-multilingual-cased', ...base })).toBeNull();
    expect(paperRow({ source: 'bert-base-uncased', layers: 4, width: 512 })).toBeNull();
    const large = { layers: 24, width: 4096 };
    expect(paperRow({ source: 'bert-large-uncased-whole-word-masking', ...large })?.linear).toBe(0.9564);
    const seven = { layers: 32, width: 11008 };
    expect(paperRow({ source: 'meta-llama/Llama-2-7b-hf', ...seven })?.cost?.integrated).toBe(134.24);
    expect(paperRow({ source: 'meta-llama/Llama-2-7b-chat-hf', ...seven })).toBeNull();
  });
});
