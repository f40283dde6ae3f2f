/** Intervals against samples drawn out in full, weights by hand. */

import { quantileSorted } from 'simple-statistics';
import { describe, expect, it } from 'vitest';
import { seededRandom } from '../../neurgrad/random.ts';
import { pearson } from '../../neurgrad/statistics.ts';
import { agreement, share, weight } from '../../neurgrad/study/agreement.ts';
import { paperRow } from '../../neurgrad/study/paper.ts';

const PROMPTS = 7;
const NEURONS = 5;
const random = seededRandom(3);
const draw = (): number[][] =>
  Array.from({ length: PROMPTS }, () => Array.from({ length: NEURONS }, () => random() - 0.5));
const x = draw();
const y = draw().map((row, p) => row.map((value, i) => x[p]![i]! + value));

describe('agreement', () => {
  it.each(['perPrompt', 'shared'] as const)(
    'has the interval of samples drawn out in full: %s',
    (sampling) => {
      const again = seededRandom(95);
      const drawn = (count: number): number[] =>
        Array.from({ length: count }, () => Math.floor(again() * count));
      const values = Array.from({ length: 1000 }, () => {
        const prompts = drawn(PROMPTS);
        const neurons = sampling === 'shared' ? drawn(NEURONS) : x[0]!.map((_, i) => i);
        const pick = (rows: number[][]): number[] => prompts.flatMap((p) => neurons.map((n) => rows[p]![n]!));
        return pearson(pick(x), pick(y));
      }).sort((a, b) => a - b);
      const { value, low, high } = agreement(x, y, sampling).pearson;
      expect(value).toBeCloseTo(pearson(x.flat(), y.flat()), 14);
      expect(low).toBeCloseTo(quantileSorted(values, 0.025), 10);
      expect(high).toBeCloseTo(quantileSorted(values, 0.975), 10);
    },
  );
  it('leaves out one prompt at a time', () => {
    const without = x.map((_, out) =>
      pearson(x.filter((_, p) => p !== out).flat(), y.filter((_, p) => p !== out).flat()),
    );
    const { low, high } = agreement(x, y, 'perPrompt').leaveOneOut!;
    expect(low).toBeCloseTo(Math.min(...without), 12);
    expect(high).toBeCloseTo(Math.max(...without), 12);
    expect(agreement([[1, 2]], [[1, 2]], 'perPrompt').leaveOneOut).toBeNull();
  });
  it('has no width where every prompt says the same', () => {
    const row = [1, 2, 4];
    expect(agreement([row, row], [row, row], 'perPrompt').pearson).toEqual({ value: 1, low: 1, high: 1 });
    const half = [true, false];
    expect(share([half, half, half], 'perPrompt')).toEqual({ value: 0.5, low: 0.5, high: 0.5 });
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
