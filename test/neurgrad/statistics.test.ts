import { describe, expect, it } from 'vitest';
import {
  fitCurve,
  fitSums,
  isFlat,
  lineFit,
  mean,
  meanAbsoluteError,
  meanPearson,
  pearson,
  signAgreement,
  slopeThroughOrigin,
  spearman,
} from '../../neurgrad/statistics.ts';

describe('pearson', () => {
  it('is by hand', () => {
    // Means 2 and 3; deviations (-1, 0, 1) and (-2, 1, 1): 3 / sqrt(2 * 6).
    expect(pearson([1, 2, 3], [1, 4, 4])).toBeCloseTo(3 / Math.sqrt(12), 14);
  });
  it('is ±1 on a line and never beyond', () => {
    const x = [0.1, 0.2, 0.3, 0.7];
    expect(
      pearson(
        x,
        x.map((v) => 3 * v + 1e6),
      ),
    ).toBeLessThanOrEqual(1);
    expect(
      pearson(
        x,
        x.map((v) => -v),
      ),
    ).toBeCloseTo(-1, 14);
  });
  it('is 0 where a side is flat, even where the mean of the constant is not exact', () => {
    expect(pearson([1, 2, 3], [0.1, 0.1, 0.1])).toBe(0);
    expect(pearson([0.1, 0.1, 0.1], [1, 2, 3])).toBe(0);
    expect(pearson([1], [2])).toBe(0);
    expect(pearson([], [])).toBe(0);
  });
  it('keeps the sign of tiny curves', () => {
    expect(pearson([1, 2, 3], [1e-30, 2e-30, 3e-30])).toBeCloseTo(1, 12);
  });
  it('does not hide NaN and refuses different lengths', () => {
    expect(pearson([1, 2], [1, Number.NaN])).toBeNaN();
    expect(() => pearson([1], [1, 2])).toThrow('pearson: 1 values in x, but 2 in y');
  });
});

describe('spearman', () => {
  it('sees order alone', () => {
    expect(spearman([1, 2, 3, 4], [1, 8, 9, 1000])).toBeCloseTo(1, 14);
  });
  it('shares the rank of ties', () => {
    // Ranks (1.5, 1.5, 3) and (1, 2, 3): 1.5 / sqrt(1.5 * 2).
    expect(spearman([5, 5, 9], [1, 2, 3])).toBeCloseTo(1.5 / Math.sqrt(3), 14);
  });
  it('is 0 where flat', () => {
    expect(spearman([1, 2], [4, 4])).toBe(0);
  });
});

describe('slopes', () => {
  it('goes through the origin', () => {
    // (1*2 + 2*3) / (1 + 4)
    expect(slopeThroughOrigin([1, 2], [2, 3])).toBeCloseTo(1.6, 14);
    expect(slopeThroughOrigin([0, 0], [1, 2])).toBe(0);
  });
  it('has an intercept', () => {
    // Means 1 and 8/3: ((-1)(-5/3) + (1)(7/3)) / 2 = 2, and 8/3 - 2.
    const { slope, intercept } = lineFit([0, 1, 2], [1, 2, 5]);
    expect(slope).toBeCloseTo(2, 14);
    expect(intercept).toBeCloseTo(2 / 3, 14);
    expect(lineFit([3, 3], [1, 2])).toEqual({ slope: 0, intercept: 1.5 });
    expect(() => lineFit([], [])).toThrow('no points');
  });
});

describe('agreement', () => {
  it('counts equal signs, 0 only with 0', () => {
    expect(signAgreement([1, -1, 0, 0], [2, 1, 0, -1])).toBe(0.5);
    expect(signAgreement([], [])).toBeNaN();
  });
  it('means absolute differences', () => {
    expect(meanAbsoluteError([1, 2], [2, 0])).toBe(1.5);
    expect(mean([1, 2, 6])).toBe(3);
  });
});

describe('meanPearson', () => {
  it('leaves out lists that have none', () => {
    const rising = [1, 2, 3];
    // By hand: 1, -1/2 of (1, 2, 3) against (2, 3, 1); a constant side, one pair and no pair have none.
    const x = [rising, rising, rising, [4, 4, 4], [1], []];
    const y = [rising, [2, 3, 1], [7, 7, 7], rising, [1], []];
    expect(meanPearson(x, y)).toEqual({ value: 0.25, counted: 2 });
    expect(meanPearson([[1]], [[2]])).toEqual({ value: Number.NaN, counted: 0 });
    // A value that is no number must show.
    expect(meanPearson([rising, rising], [rising, [1, Number.NaN, 2]])).toEqual({
      value: Number.NaN,
      counted: 2,
    });
    expect(() => meanPearson([rising], [])).toThrow('1 lists in x, but 0 in y');
    expect(() => meanPearson([rising], [[1]])).toThrow('3 values in x[0], but 1 in y[0]');
  });
});

describe('the rule of flat curves', () => {
  it('is: no change exceeds the noise', () => {
    expect(isFlat([1, -1], 1)).toBe(true);
    expect(isFlat([1, -1.001], 1)).toBe(false);
    expect(isFlat([0, 0], 0)).toBe(true);
    expect(isFlat([0, 1e-20], 0)).toBe(false);
    expect(isFlat([0, Number.NaN], 1)).toBe(false);
  });
  const shifts = [-2, -1, 0, 1, 2];
  it('takes the largest noise within the range, and no other', () => {
    const values = [5, 4, 3, 2, 1.5];
    for (const [noise, flat] of [
      [[0, 0, 0, 0, 1.9], false],
      // Its own point's noise is 0, but the curve's is 2.
      [[0, 0, 0, 2, 0], true],
      [[2, 2, 2, 2, 2], true],
    ] as const)
      expect(fitCurve(shifts, values, {}, noise)).toMatchObject({
        flat,
        linear: !flat,
        noise: Math.max(...noise),
      });
    // Within ±1 the changes are 1 and -1, and noise further out does not count.
    expect(fitCurve(shifts, values, { range: 1 }, [9, 0.5, 0, 0.5, 9])).toMatchObject({
      flat: false,
      noise: 0.5,
    });
  });
  it('stands at a millionth of the largest value where no noise is given', () => {
    for (const [values, flat] of [
      [[1e6, 1e6, 1e6 - 1, 1e6, 1e6], true],
      [[1e6, 1e6, 1e6 - 2, 1e6, 1e6], false],
      [[-5 + 4e-6, -5, -5, -5, -5], true],
      [[0, 0, 0, 0, 1e-20], false],
      [[0, 0, 0, 0, 0], true],
    ] as const)
      expect(fitCurve(shifts, values).flat, `${values}`).toBe(flat);
  });
  it('is the same of points and of their sums', () => {
    // d = (-2, -1, 1, 2) over s = (-2, -1, 1, 2): sum s d = 10, no mean, covariance and variance 10, nothing left over.
    for (const noise of [1.9, 2, 2.1]) {
      const all = shifts.map(() => noise);
      const sums = { moment: 10, mean: 0, covariance: 10, variance: 10, residue: 0, extent: 2, noise };
      expect(fitSums(shifts, sums)).toEqual(fitCurve(shifts, [1, 2, 3, 4, 5], {}, all));
    }
  });
});

describe('two points', () => {
  it('lie on a line always, and are never linear', () => {
    for (const shifts of [
      [-1, 0, 1],
      [0, 0.5, 2],
      [-7, -1, 0, 1, 7],
    ]) {
      const p = shifts.map((s) => 0.5 + 0.1 * s + 0.02 * s * s);
      expect(fitCurve(shifts, p)).toMatchObject({ points: 2, linear: false, flat: false });
      const sums = { moment: 1, mean: 0, covariance: 1, variance: 1, residue: 0, extent: 1, noise: 0 };
      expect(fitSums(shifts, sums).linear).toBe(false);
    }
    // The point at 0 is a third where it is asked for.
    const straight = fitCurve([-1, 0, 1], [0.4, 0.5, 0.6], { includeZero: true });
    expect(straight).toMatchObject({ points: 3, linear: true });
    expect(fitCurve([0, 1], [1, 2])).toMatchObject({ points: 1, r: 0, linear: false });
  });
});

describe('fitCurve', () => {
  const shifts = [-3, -2, -1, 0, 1, 2, 3];
  it('uses |s| <= 2 without 0 by default', () => {
    // dp: -2, -1, 1, 2 inside; 100 outside must not matter.
    const fit = fitCurve(shifts, [-100, 8, 9, 10, 11, 12, 500]);
    expect(fit).toMatchObject({ slope: 1, intercept: 0, flat: false, points: 4 });
    expect(fit.r).toBeCloseTo(1, 14);
  });
  it('lets s = 0 into r on request', () => {
    // Without 0, dp = (1, 1, 3, 3) - relative to p(0) = 0 - at s = (-2, -1, 1, 2): r = 6 / sqrt(10 * 4).
    const p = [0, 1, 1, 0, 3, 3, 0];
    expect(fitCurve(shifts, p).r).toBeCloseTo(6 / Math.sqrt(40), 14);
    // With it the mean falls to 8/5: r = 6 / sqrt(10 * (20 - 64/5)).
    const withZero = fitCurve(shifts, p, { includeZero: true });
    expect(withZero.r).toBeCloseTo(6 / Math.sqrt(10 * 7.2), 14);
    expect(withZero.points).toBe(5);
    expect(withZero.slope).toBeCloseTo(0.6, 14);
  });
  it('fits an intercept on request', () => {
    const fit = fitCurve(shifts, [0, 1, 1, 0, 3, 3, 0], { withIntercept: true });
    expect(fit.slope).toBeCloseTo(0.6, 14);
    expect(fit.intercept).toBeCloseTo(2, 14);
  });
  it('takes grid points computed in binary to lie within the range', () => {
    const fit = fitCurve([-0.6000000000000001, 0, 0.6000000000000001], [1, 2, 3], { range: 0.6 });
    expect(fit.points).toBe(2);
  });
  it('gives r = 0 below the noise floor', () => {
    const fit = fitCurve([-1, 0, 1], [1 - 1e-7, 1, 1 + 1e-7]);
    expect(fit).toMatchObject({ r: 0, flat: true });
    expect(fit.slope).toBeCloseTo(1e-7, 12);
  });
  it('refuses a curve without 0 or without neighbours', () => {
    expect(() => fitCurve([1, 2], [1, 2])).toThrow('no point at shift 0');
    expect(() => fitCurve([0, 5], [1, 2])).toThrow('within ±2');
  });
});
