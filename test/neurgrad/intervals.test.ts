/** Each piece of an interval by hand, or against the printed tables. */

import { describe, expect, it } from 'vitest';
import {
  FISHER_Z,
  FISHER_Z_DIFFERENCE,
  holm,
  jackknife,
  jackknifeShare,
  jackknifeT,
  median,
  medianInterval,
  studentQuantile,
  tooFew,
  wilson,
} from '../../neurgrad/intervals.ts';

describe('Student’s t', () => {
  it('is in closed form for one and two degrees of freedom', () => {
    for (const p of [0.6, 0.9, 0.975, 0.999]) {
      expect(studentQuantile(p, 1)).toBeCloseTo(Math.tan(Math.PI * (p - 0.5)), 9);
      const a = 2 * p - 1;
      expect(studentQuantile(p, 2)).toBeCloseTo(a * Math.sqrt(2 / (1 - a * a)), 9);
    }
  });
  it('is the printed one, between whole numbers too', () => {
    for (const [freedom, printed] of [
      [3, 3.182446],
      [9, 2.262157],
      [30, 2.042272],
      [120, 1.97993],
    ] as const)
      expect(studentQuantile(0.975, freedom)).toBeCloseTo(printed, 5);
    expect(studentQuantile(0.975, 1e7)).toBeCloseTo(1.959964, 5);
    expect(studentQuantile(0.995, 5)).toBeCloseTo(4.032143, 5);
    const between = studentQuantile(0.975, 2.5);
    expect(between).toBeGreaterThan(3.182446);
    expect(between).toBeLessThan(4.302653);
  });
});

describe('the jackknife', () => {
  // Student's t of ten effective parts and the half that is added.
  const TEN = studentQuantile(0.975, 10.5);
  it('takes half a degree more than the parts that count', () => {
    expect(TEN).toBeLessThan(2.228139);
    expect(TEN).toBeGreaterThan(2.200985);
  });
  it('of a mean is s² / n, and of how many parts it comes', () => {
    // 1, 2, 6: without each 4, 3.5, 1.5; the mean is 3. 2/3 (1 + 1/4 + 9/4) = 7/3; 3.5² / (1 + 1/16 + 81/16) = 2.
    const { variance, effective } = jackknife(3, [[4, 3.5, 1.5]]);
    expect(variance).toBeCloseTo(7 / 3, 14);
    expect(effective).toBeCloseTo(2, 14);
  });
  it('adds what two kinds of parts bring', () => {
    expect(
      jackknife(0, [
        [1, -1],
        [3, -3],
      ]).variance,
    ).toBe(1 + 9);
    // Shares .5, .5, 4.5, 4.5: 100 / 41.
    expect(
      jackknife(0, [
        [1, -1],
        [3, -3],
      ]).effective,
    ).toBeCloseTo(100 / 41, 14);
  });
  it('counts one part where one brings all, and all where none brings any', () => {
    expect(jackknife(0, [[5, 0, 0, 0]]).effective).toBe(1);
    expect(jackknife(2, [[2, 2, 2, 2]])).toEqual({ variance: 0, effective: 4 });
    // Squares of shares that underflow.
    expect(jackknife(0, [[1e-100, 1e-100]]).effective).toBe(2);
  });
  it('gives an interval by hand', () => {
    // Ten parts, each moving the value by ±1: variance .9 × 10 = 9, ten effective parts, and t of 10.5.
    const without = Array.from({ length: 10 }, (_, i) => (i % 2 === 0 ? 6 : 4));
    const { interval, effective, reason, count } = jackknifeT(5, [without], 'prompts');
    expect({ effective, reason, count }).toEqual({
      effective: expect.closeTo(10, 12),
      reason: null,
      count: 10,
    });
    expect(interval!.low).toBeCloseTo(5 - 3 * TEN, 5);
    expect(interval!.high).toBeCloseTo(5 + 3 * TEN, 5);
  });
  it('gives it on another scale, whose ends stay possible', () => {
    const z = Math.atanh(0.6);
    const without = Array.from({ length: 10 }, (_, i) => Math.tanh(z + (i % 2 === 0 ? 0.1 : -0.1)));
    const { interval } = jackknifeT(0.6, [without], 'prompts', FISHER_Z);
    expect(interval!.low).toBeCloseTo(Math.tanh(z - 0.3 * TEN), 5);
    expect(interval!.high).toBeCloseTo(Math.tanh(z + 0.3 * TEN), 5);
    for (const scale of [FISHER_Z, FISHER_Z_DIFFERENCE])
      for (const value of [-1, -0.3, 0, 0.999_999, 1])
        expect(scale.from(scale.to(value))).toBeCloseTo(value, 14);
    expect(FISHER_Z_DIFFERENCE.from(FISHER_Z_DIFFERENCE.to(-2))).toBe(-2);
  });
  it('gives none below ten parts, or where a part cannot be left out', () => {
    expect(jackknifeT(1, [[1, 2, 3]], 'prompts')).toEqual({
      value: 1,
      interval: null,
      reason: '3 prompts: an interval needs 10',
      count: 3,
      effective: null,
    });
    expect(tooFew(1, 'neurons')).toBe('1 neuron: an interval needs 10');
    expect(tooFew(10, 'neurons')).toBeNull();
    const without = [Number.NaN, ...new Array<number>(11).fill(0.5)];
    for (const found of [jackknifeT(0.5, [without], 'prompts'), jackknifeShare(0.5, [without], 'prompts')]) {
      expect(found.interval).toBeNull();
      expect(found.reason).toContain('not defined');
    }
  });
});

describe('Wilson’s interval', () => {
  it('is by hand', () => {
    // 5 of 10: (.5 + .1921) / 1.3841 = .5, ± sqrt(.25 × .3841 + .0369) / 1.3841.
    const { low, high } = wilson(0.5, 10);
    expect(low).toBeCloseTo(0.236593, 6);
    expect(high).toBeCloseTo(0.763407, 6);
    // 0 of n: up to z² / (n + z²).
    expect(wilson(0, 20)).toEqual({ low: 0, high: expect.closeTo(3.841459 / 23.841459, 6) });
    expect(wilson(1, 20)).toEqual({ low: expect.closeTo(20 / 23.841459, 6), high: 1 });
  });
});

describe('medians', () => {
  it('lie in the middle', () => {
    expect(median([3, 1, 2])).toBe(2);
    expect(median([4, 1, 2, 3])).toBe(2.5);
    expect(median([])).toBeNaN();
  });
  it('have the interval of the sign test', () => {
    const upTo = (n: number) => Array.from({ length: n }, (_, i) => i + 1).reverse();
    // 2 × 2⁻⁵ = 6% of all cases lie on one side of five.
    expect(medianInterval(upTo(5))).toBeNull();
    expect(medianInterval(upTo(6))).toEqual({ low: 1, high: 6 });
    // Printed tables: 9 of 2 to 8 (96.1%), 25 of 8 to 18 (95.7%).
    expect(medianInterval(upTo(9))).toEqual({ low: 2, high: 8 });
    expect(medianInterval(upTo(25))).toEqual({ low: 8, high: 18 });
  });
});

describe('Holm', () => {
  it('is by hand', () => {
    // Sorted .01, .015, .03, .04: × 4 = .04, × 3 = .045, × 2 = .06, × 1 = .04, which must not fall.
    expect(holm([0.03, 0.01, 0.04, 0.015])).toEqual([0.06, 0.04, 0.06, 0.045]);
    expect(holm([0.9, 0.6])).toEqual([1, 1]);
    expect(holm([0.02])).toEqual([0.02]);
    expect(holm([])).toEqual([]);
  });
});
