/** Curves from few points, on functions in float64: known ones are met, and what no polynomial meets is run at every shift. */

import { describe, expect, it } from 'vitest';
import { CURVE_TOLERANCE, GrowingCurve, type KnownCurve, Ladder } from '../../neurgrad/curve/grow.ts';
import {
  changeOf,
  oddsChange,
  type Response,
  responseAt,
  type Smooth,
} from '../../neurgrad/curve/response.ts';
import type { ChangedTarget } from '../../neurgrad/difference/sweep.ts';
import { shiftGrid } from '../../neurgrad/grid.ts';

/** log odds over s. */
type Odds = (s: number) => number;

function targetOf(odds: Odds, s: number, noise = 0): ChangedTarget {
  const [before, now] = [odds(0), odds(s)];
  const log = (z: number): number => -(Math.max(-z, 0) + Math.log1p(Math.exp(-Math.abs(z))));
  const values = { prob: Math.exp(log(now)), logprob: log(now), logit: now };
  const changes = {
    prob: values.prob - Math.exp(log(before)),
    logprob: values.logprob - log(before),
    logit: now - before,
  };
  return { values, changes, noise: { prob: noise * values.prob, logprob: noise, logit: noise } };
}

/** By differences of fourth order. */
function slopeAt0(odds: Odds, of: 'prob' | 'logprob' | 'logit'): number {
  const across = (step: number): number =>
    (targetOf(odds, step).changes[of] - targetOf(odds, -step).changes[of]) / (2 * step);
  return (4 * across(1e-3) - across(2e-3)) / 3;
}

interface Case {
  readonly shifts?: readonly number[];
  readonly of?: 'prob' | 'logprob' | 'logit';
  readonly most?: number;
  readonly noise?: number;
}

function grown(odds: Odds, { shifts = shiftGrid(-2, 2, 0.2), of = 'prob', most = 1, noise = 0 }: Case = {}) {
  const ladder = new Ladder(shifts, 2);
  const at = (s: number): ChangedTarget => (s === 0 ? targetOf(odds, 0) : targetOf(odds, s, noise));
  const curve = new GrowingCurve(ladder, { plain: at(0).values, of, slope: slopeAt0(odds, of) });
  while (!curve.done) for (const place of curve.next(most)) curve.add(at(shifts[place]!));
  const result = curve.result();
  const errors = shifts.map((s, i) => Math.abs(result.points[i]!.changes[of] - at(s).changes[of]));
  return { result, errors, worst: Math.max(...errors), at };
}

/** Either every asked shift was run, or all are within the bound. */
function honest({ result, worst }: { result: KnownCurve; worst: number }): boolean {
  return result.response === null
    ? result.ran === result.points.length - 1 && worst === 0
    : worst <= result.bound;
}

const wide = { shifts: shiftGrid(-10, 10, 0.2) };
/** What a norm of x + s w makes of a direction. */
const normed: Odds = (s) => 1 + (2 * (s - 1)) / Math.sqrt((s - 1) ** 2 + 36);

describe('the order of shifts', () => {
  it('runs the ends, the ends of the fit, then where products of distances are largest', () => {
    const { order, shifts } = new Ladder(wide.shifts, 2);
    expect(order.length).toBe(100);
    expect(new Set(order).size).toBe(100);
    expect(order.slice(0, 4).map((i) => shifts[i])).toEqual([10, -10, 2, -2]);
    const product = (i: number): number =>
      [0, ...order.slice(0, 4).map((k) => shifts[k]!)].reduce(
        (all, s) => all * Math.abs(Math.asinh(shifts[i]! / 10) - Math.asinh(s / 10)),
        1,
      );
    const best = order.slice(4).reduce((a, b) => (product(b) > product(a) ? b : a));
    expect(order[4]).toBe(best);
  });
  it('takes any shifts: one side, a single one, a few of all sizes', () => {
    for (const shifts of [
      [0, 1, 2, 3],
      [0, 5],
      [-2, 0, 1e-4, 0.5, 2],
      [-1e15, -1, 0, 1e15],
    ]) {
      const { order, zero } = new Ladder(shifts, 2);
      expect([...order].sort()).toEqual([...shifts.keys()].filter((i) => i !== zero).sort());
    }
  });
});

describe('smooth curves', () => {
  it.each([
    ['a line', (s: number) => 0.3 * s],
    ['a sure target', (s: number) => 12 - s],
    ['an unlikely one', (s: number) => -30 + s],
    ['a norm', normed],
    ['a weak neuron', (s: number) => 0.5 + 1e-5 * Math.sin(s)],
    ['a bend', (s: number) => Math.log(Math.cosh(s / 2))],
  ] as const)('%s', (_, odds) => {
    const found = grown(odds);
    expect(found.result.ran).toBeLessThanOrEqual(10);
    expect(found.result.response).not.toBeNull();
    expect(honest(found)).toBe(true);
    const { prob } = found.result.points[10]!.values;
    expect(found.result.bound).toBeLessThanOrEqual(
      2 * CURVE_TOLERANCE * Math.max(prob, ...found.result.points.map((p) => p.values.prob)),
    );
  });
  it('cost fewer points with the slope at 0 than without', () => {
    const ran = (slope: number): number => {
      const shifts = shiftGrid(-2, 2, 0.2);
      const curve = new GrowingCurve(new Ladder(shifts, 2), {
        plain: targetOf(normed, 0).values,
        of: 'prob',
        slope,
      });
      while (!curve.done) for (const place of curve.next()) curve.add(targetOf(normed, shifts[place]!));
      return curve.result().ran;
    };
    const slope = slopeAt0(normed, 'prob');
    expect(ran(slope)).toBeLessThan(ran(Number.NaN));
    // A slope that is wrong is found out: more points, never a wrong curve.
    expect(ran(slope * 1.1)).toBeGreaterThan(ran(slope));
  });
  it('are the same however many points are run at once, but for more points', () => {
    const one = grown(normed, wide);
    const four = grown(normed, { ...wide, most: 4 });
    expect(one.result.ran).toBeLessThan(30);
    expect(four.result.ran).toBeGreaterThanOrEqual(one.result.ran);
    expect([one, four].every(honest)).toBe(true);
  });
  it.each(['prob', 'logprob', 'logit'] as const)('of %s', (of) => {
    const found = grown(normed, { of, ...wide });
    expect(found.result.response).not.toBeNull();
    expect(found.worst).toBeLessThanOrEqual(found.result.bound);
    // The target's probability comes with every quantity.
    for (const [i, point] of found.result.points.entries())
      expect(Math.abs(point.values.prob - found.at(wide.shifts[i]!).values.prob)).toBeLessThan(1e-5);
  });
  it('are evaluated anywhere from their coefficients, also as JSON', () => {
    const { result, at } = grown(normed, wide);
    const response = JSON.parse(JSON.stringify(result.response)) as Response;
    for (const s of [-10, -7.123, -1e-3, 0, 0.0577, 1, 9.99])
      for (const of of ['prob', 'logprob'] as const)
        expect(Math.abs(responseAt(response, s, of) - at(s).changes[of])).toBeLessThanOrEqual(
          2 * result.bound,
        );
    for (const [i, point] of result.points.entries())
      expect(responseAt(response, wide.shifts[i]!, 'prob')).toBeCloseTo(point.changes.prob, 9);
  });
  it('ask no more of a curve than its noise', () => {
    const noisy = grown(normed, { ...wide, noise: 1e-4 });
    expect(noisy.result.ran).toBeLessThan(grown(normed, wide).result.ran);
    expect(honest(noisy)).toBe(true);
  });
});

describe('curves that no few points know', () => {
  const flat = (s: number): number => (s > 0.7 ? 1 : 0);
  it.each([
    ['a step', flat],
    ['a step near the end', (s: number) => (s > 1.9 ? 0.1 : 0)],
    ['a step near 0', (s: number) => (s > 0 ? 0.1 : 0)],
    ['a kink', (s: number) => Math.abs(s - 0.3)],
    ['a kink at 0', (s: number) => Math.max(0, s)],
    ['a plateau', (s: number) => Math.min(1, Math.max(-1, 3 * s))],
    ['from 0 to 1', (s: number) => 400 * s],
    ['oscillation', (s: number) => Math.sin(14 * s)],
    ['even oscillation with the shifts', (s: number) => Math.cos(2 * Math.PI * s)],
    ['the same, faster', (s: number) => Math.cos(5 * Math.PI * s)],
    ['a bell', (s: number) => Math.exp(-((s - 0.9) ** 2) / 0.5)],
    ['a GELU far out', (s: number) => 3 * s * 0.5 * (1 + Math.tanh(0.8 * (3 * s + 0.0447 * 27 * s ** 3)))],
    ['a logarithm', (s: number) => Math.log(s + 2.0001)],
  ] as const)('%s: all shifts, or within the bound', (_, odds) => {
    for (const shifts of [shiftGrid(-2, 2, 0.2), wide.shifts].map((some) =>
      some.filter((s) => Number.isFinite(odds(s))),
    ))
      for (const of of ['prob', 'logprob', 'logit'] as const)
        expect(honest(grown(odds, { shifts, of }))).toBe(true);
  });
  it('and are run at all shifts where a step or a kink is all there is', () => {
    for (const odds of [flat, (s: number) => Math.abs(s - 0.3)]) {
      const { result } = grown(odds);
      expect(result).toMatchObject({ ran: 20, bound: 0, response: null });
    }
  });
  it('two small surprises in a row may be luck: facts-bert’s L1.N256 of "The capital of Cuba is [MASK]."', () => {
    const changes = [
      -8.763180736577e-4, -7.135881394826e-4, -5.674665211114e-4, -4.380069043978e-4, -3.252490774912e-4,
      -2.292204743406e-4, -1.499302541408e-4, -8.737559469295e-5, -4.154901403325e-5, -1.24277210991257e-5, 0,
      -4.248347255169e-6, -2.516058636907e-5, -6.273198823472e-5, -1.169658427927e-4, -1.878823693522e-4,
      -2.755177450324e-4, -3.799171930395e-4, -5.011711022555e-4, -6.393672274575e-4, -7.946249517366e-4,
    ];
    const plain = { prob: 0.8253325987884688, logprob: -0.1919688238439725, logit: 0 };
    const shifts = shiftGrid(-2, 2, 0.2);
    const points = changes.map((prob): ChangedTarget => {
      const logprob = Math.log1p(prob / plain.prob);
      const values = { prob: plain.prob + prob, logprob: plain.logprob + logprob, logit: 0 };
      const noise = { prob: 1.8e-7, logprob: 2.1e-7, logit: 2.3e-6 };
      return { values, changes: { prob, logprob, logit: 0 }, noise };
    });
    const curve = new GrowingCurve(new Ladder(shifts, 2), { plain, of: 'prob', slope: 2.0430703315081e-5 });
    while (!curve.done) for (const place of curve.next()) curve.add(points[place]!);
    const { points: got, bound } = curve.result();
    const worst = Math.max(...got.map((point, i) => Math.abs(point.changes.prob - changes[i]!)));
    expect(bound).toBeGreaterThan(0);
    expect(worst).toBeLessThan(bound);
  });
  it('with a value that is none', () => {
    const { result } = grown((s) => (s > 1 ? Number.NaN : s));
    expect(result.ran).toBe(20);
    expect(result.points.filter(({ values }) => Number.isNaN(values.prob)).length).toBe(5);
  });
  it('with few shifts asked for', () => {
    for (const shifts of [
      [0, 1],
      [-1, 0, 1],
      [-2, 0, 1e-4, 0.5, 2],
    ]) {
      const { result, worst } = grown(normed, { shifts });
      expect([result.ran, worst]).toEqual([shifts.length - 1, 0]);
    }
  });
});

describe('quantities', () => {
  it('follow from one another', () => {
    for (const z of [-40, -3, 0, 2, 30]) {
      const odds: Odds = (s) => z + s;
      const { values: plain } = targetOf(odds, 0);
      for (const s of [-3, -1e-6, 1e-9, 0.5, 4]) {
        const { changes } = targetOf(odds, s);
        const exact: Record<Smooth, number> = {
          // By the closed form: differences of values lose digits.
          prob: (plain.prob * -Math.expm1(plain.logprob) * Math.expm1(s)) / (1 + plain.prob * Math.expm1(s)),
          logprob: Math.log1p(
            (-Math.expm1(plain.logprob) * Math.expm1(s)) / (1 + plain.prob * Math.expm1(s)),
          ),
          logodds: s,
          logit: changes.logit,
        };
        for (const to of ['prob', 'logprob'] as const)
          for (const from of ['prob', 'logprob', 'logodds'] as const) {
            const got = changeOf(plain, from, exact[from], to);
            expect(Math.abs(got / exact[to] - 1)).toBeLessThan(1e-9);
          }
        if (z < 30) expect(Math.abs(oddsChange(plain, exact) / s - 1)).toBeLessThan(1e-9);
      }
    }
  });
  it('are none where they cannot be known', () => {
    const { values: plain } = targetOf(() => 0, 0);
    expect(changeOf(plain, 'prob', 0.1, 'logit')).toBeNaN();
    expect(changeOf(plain, 'logodds', Number.POSITIVE_INFINITY, 'prob')).toBeCloseTo(0.5, 12);
    expect(oddsChange(plain, { logprob: Math.LN2 * 1.01 })).toBeNaN();
  });
});
