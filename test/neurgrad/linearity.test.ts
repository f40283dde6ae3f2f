import { describe, expect, it } from 'vitest';
import { expectedGenerality, generality, linearity, shuffledGenerality } from '../../neurgrad/linearity.ts';
import { isLinear } from '../../neurgrad/statistics.ts';
import { goldenFiles, readGolden } from '../models/goldenFiles.ts';

describe('linearity', () => {
  it.each(goldenFiles('linearity'))(
    'meets the golden values in both readings of maxVar: %s',
    async (path) => {
      const { of: file } = await readGolden(path);
      const one = (name: string): number => file(name).data[0]!;
      const prompts = file('r').shape[0]!;
      const rows = (name: string) => Array.from({ length: prompts }, (_, prompt) => file(name).row(prompt));
      const input = { r: rows('r'), layer: rows('layer'), layers: one('n_layers') };

      const all = linearity(input);
      expect(Math.abs(all.ratio - one('ratio'))).toBeLessThan(1e-9);
      expect(Math.abs(all.lg.value - one('lg'))).toBeLessThan(1e-9);
      expect(Math.abs(all.pg.value - one('pg'))).toBeLessThan(1e-9);
      const capacity = linearity(input, 'capacity');
      expect(Math.abs(capacity.lg.value - one('lg_capacity'))).toBeLessThan(1e-9);
      expect(Math.abs(capacity.pg.value - one('pg_capacity'))).toBeLessThan(1e-9);
    },
  );

  it('draws the line at 0.95, both signs', () => {
    expect([0.95, -0.95, 0.9499, -1, Number.NaN].map((r) => isLinear(r))).toEqual([
      true,
      true,
      false,
      true,
      false,
    ]);
  });
});

describe('generality', () => {
  it('is by hand', () => {
    // Counts (3, 1, 0, 0): coverage 1/2; T = 4, mean 1, Var = (4 + 0 + 1 + 1) / 4 = 1.5; maxVar = 16 * 3 / 16 = 3.
    expect(generality([3, 1, 0, 0], [5, 5, 5, 5])).toEqual({ value: 0.25, coverage: 0.5, distribution: 0.5 });
    // Capacity: 25 * 2 * 2 / 16 = 6.25.
    expect(generality([3, 1, 0, 0], [5, 5, 5, 5], 'capacity').distribution).toBeCloseTo(1 - 1.5 / 6.25, 14);
  });
  it('knows the ends', () => {
    expect(generality([0, 0], [3, 3]).value).toBe(0);
    expect(generality([7], [9]).value).toBe(1);
    expect(generality([2, 2, 2], [9, 9, 9]).value).toBe(1);
    expect(generality([4, 0], [9, 9]).value).toBe(0);
  });
});

describe('expectedGenerality', () => {
  it('is the mean over every way to place the neurons', () => {
    for (const [total, bins] of [
      [2, 2],
      [3, 4],
      [5, 3],
    ] as const) {
      let sum = 0;
      const ways = bins ** total;
      for (let way = 0; way < ways; way++) {
        const counts = new Array<number>(bins).fill(0);
        for (let k = 0, rest = way; k < total; k++, rest = Math.floor(rest / bins)) counts[rest % bins]!++;
        sum += generality(counts, []).value;
      }
      expect(expectedGenerality(total, bins)).toBeCloseTo(sum / ways, 12);
    }
  });
  it('knows the ends', () => {
    expect(expectedGenerality(0, 5)).toBe(0);
    expect(expectedGenerality(3, 1)).toBe(1);
    expect(expectedGenerality(100_000, 4)).toBeCloseTo(1, 4);
  });
});

describe('shuffledGenerality', () => {
  it('is by hand', () => {
    // Two of four neurons, two a bin: one each in 4 of 6 ways, which gives 1; both in one bin, which gives 0.
    const found = shuffledGenerality([2, 2], 2);
    expect(found.mean).toBeCloseTo(4 / 6, 1);
    expect([found.low, found.high]).toEqual([0, 1]);
    // Three linear of four: the one that is not lies in either bin, (2, 1) both ways: Var 1/4, maxVar 9/4.
    for (const value of Object.values(shuffledGenerality([2, 2], 3)))
      expect(value).toBeCloseTo(1 - 1 / 9, 12);
  });
  it('has the mean over every way to label the neurons tested', () => {
    const tested = [3, 1, 4];
    const bins = tested.flatMap((count, bin) => new Array<number>(count).fill(bin));
    for (const total of [2, 6]) {
      const values: number[] = [];
      for (let way = 0; way < 2 ** bins.length; way++) {
        const chosen = bins.filter((_, i) => (way >> i) & 1);
        if (chosen.length !== total) continue;
        const linear = tested.map((_, bin) => chosen.filter((at) => at === bin).length);
        values.push(generality(linear, tested).value);
      }
      const mean = values.reduce((a, b) => a + b, 0) / values.length;
      const spread = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
      // Within four standard errors of 1000 draws.
      expect(Math.abs(shuffledGenerality(tested, total).mean - mean)).toBeLessThan(
        (4 * spread) / Math.sqrt(1000),
      );
    }
  });
  it('comes near the closed form where bins are large, and is the same for the same seed', () => {
    const tested = [5000, 5000, 5000, 5000];
    expect(shuffledGenerality(tested, 40).mean).toBeCloseTo(expectedGenerality(40, 4), 2);
    expect(shuffledGenerality(tested, 40, 'all', 1)).toEqual(shuffledGenerality(tested, 40, 'all', 1));
    expect(shuffledGenerality(tested, 40, 'all', 1)).not.toEqual(shuffledGenerality(tested, 40, 'all', 2));
    expect(shuffledGenerality([4, 4], 0)).toEqual({ mean: 0, low: 0, high: 0 });
  });
});
