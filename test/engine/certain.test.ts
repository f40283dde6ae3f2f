/**
 * Gradients where one probability is nearly 1: 1 - p is far below float32's resolution of p, yet each cotangent keeps its
 * digits. Against closed forms in float64, over rows that are held in registers, read again, of whole vectors and not.
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  crossEntropy,
  crossEntropyRows,
  type Device,
  exp,
  grad,
  logOdds,
  logSoftmax,
  mul,
  neg,
  openDevice,
  pick,
  softmax,
  sum,
  type Tensor,
  tensor,
} from '../../engine/index.ts';
import { seededRandom } from '../../neurgrad/random.ts';

let device: Device;
beforeAll(async () => {
  device = await openDevice();
});
afterAll(() => device.destroy());

const LENGTHS = [3, 4, 301, 1024, 20_001, 20_480];
/** How far the likeliest logit lies above the next: 1 - p from a half to what float32 holds. */
const LEADS = [0, 5, 14, 20, 40, 70];

/** A row whose element `sure` leads the next by `lead`. */
function rowOf(length: number, sure: number, lead: number): Float32Array {
  const random = seededRandom(length + sure);
  const row = Float32Array.from({ length }, () => 4 * random() - 2);
  const next = row.reduce((most, v, i) => (i === sure ? most : Math.max(most, v)), -Infinity);
  row[sure] = next + lead;
  return row;
}

/** Softmax in float64, and of each element the sum of all others, made of the others. */
function shares(row: Float32Array): { p: Float64Array; rest: Float64Array } {
  const top = row.reduce((most, v) => Math.max(most, v), -Infinity);
  const raised = Float64Array.from(row, (v) => Math.exp(v - top));
  const total = raised.reduce((a, b) => a + b, 0);
  const largest = raised.indexOf(1);
  const others = raised.reduce((a, b, i) => (i === largest ? a : a + b), 0);
  const rest = raised.map((v, i) => (i === largest ? others : total - v) / total);
  return { p: raised.map((v) => v / total), rest };
}

/** Largest error of an element relative to the element itself; elements below what float32 holds as normal numbers are 0. */
function worst(got: Float32Array, want: Float64Array): number {
  let error = 0;
  for (const [i, value] of want.entries())
    if (Math.abs(value) > 1e-36) error = Math.max(error, Math.abs(got[i]! / value - 1));
    else error = Math.max(error, Math.abs(got[i]!) > 2e-36 ? 1 : 0);
  return error;
}

const CASES = LENGTHS.flatMap((length) =>
  LEADS.flatMap((lead) => [0, length - 1].map((sure) => ({ length, lead, sure }))),
);
const gradient = async (row: Float32Array, of: (x: Tensor) => Tensor): Promise<Float32Array> => {
  const x = tensor(device, row, [1, row.length]).requireGrad();
  const [dx] = grad(of(x), [x]);
  try {
    return await dx!.read();
  } finally {
    dx!.dispose();
    x.dispose();
  }
};

/** of(x), and the factor of (onehot - p) in its gradient by p and 1 - p of the target. */
const OF: [string, (x: Tensor, at: number) => Tensor, (p: number, rest: number) => number][] = [
  ['log p of logSoftmax', (x, at) => sum(pick(logSoftmax(x), [at])), () => 1],
  ['p of logSoftmax', (x, at) => sum(exp(pick(logSoftmax(x), [at]))), (p) => p],
  ['p of softmax', (x, at) => sum(pick(softmax(x), [at])), (p) => p],
  ['log p of crossEntropyRows', (x, at) => neg(sum(crossEntropyRows(x, [at]))), () => 1],
  ['log p of crossEntropy', (x, at) => neg(crossEntropy(x, [at])), () => 1],
  ['p of crossEntropyRows', (x, at) => sum(exp(neg(crossEntropyRows(x, [at])))), (p) => p],
  ['log odds', (x, at) => sum(logOdds(x, [at])), (_, rest) => 1 / rest],
];

describe.each(OF)('the gradient of %s', (_, of, factor) => {
  it.each(LENGTHS)('is right to its last entry in rows of %i', async (length) => {
    for (const { lead, sure } of CASES.filter((c) => c.length === length)) {
      const row = rowOf(length, sure, lead);
      const { p, rest } = shares(row);
      // The likely one, and one that is not.
      for (const at of [sure, 1]) {
        const scale = factor(p[at]!, rest[at]!);
        const want = p.map((value, i) => scale * (i === at ? rest[at]! : -value));
        const got = await gradient(row, (x) => of(x, at));
        expect(worst(got, want), `lead ${lead}, target ${at}`).toBeLessThan(4e-5);
      }
    }
  });
});

it('sums to 0 in the example of three logits', async () => {
  const got = await gradient(Float32Array.of(20, 0, 0), (x) => sum(pick(logSoftmax(x), [0])));
  expect(got[0]! / 4.1223072363e-9).toBeCloseTo(1, 5);
  expect(got[1]! / -2.0611536181e-9).toBeCloseTo(1, 5);
  expect(Math.abs(got[0]! + got[1]! + got[2]!)).toBeLessThan(1e-15);
});

describe.each([
  ['softmax', softmax],
  ['logSoftmax', logSoftmax],
] as const)('any cotangents of %s', (name, of) => {
  it.each(LENGTHS)('in rows of %i', async (length) => {
    for (const { lead, sure } of CASES.filter((c) => c.length === length)) {
      const row = rowOf(length, sure, lead);
      const { p, rest } = shares(row);
      const random = seededRandom(lead + 1);
      const dy = Float32Array.from({ length }, () => random() + 0.5);
      // Of r: the sum over the others of what pairs exchange, no term of which cancels in r itself.
      const others = (r: number, term: (j: number) => number): number =>
        p.reduce((sum, _, j) => (j === r ? sum : sum + term(j)), 0);
      const want =
        name === 'softmax'
          ? (r: number) => p[r]! * others(r, (j) => p[j]! * (dy[r]! - dy[j]!))
          : (r: number) => dy[r]! * rest[r]! - p[r]! * others(r, (j) => dy[j]!);
      const size =
        name === 'softmax'
          ? (r: number) => p[r]! * others(r, (j) => p[j]! * Math.abs(dy[r]! - dy[j]!))
          : (r: number) => dy[r]! * rest[r]! + p[r]! * others(r, (j) => dy[j]!);
      const got = await gradient(row, (x) => sum(mul(of(x), tensor(device, dy, [1, length]))));
      // All entries of the short rows, the sure one and some others of long ones.
      for (const r of new Set([sure, 0, 1, 2, length - 1]))
        if (size(r) > 1e-36) expect(Math.abs(got[r]! - want(r)) / size(r)).toBeLessThan(4e-5);
    }
  });
});

describe('second gradients', () => {
  /** d/dx_i of p(1 - p) for two logits. */
  it('of p of one of two logits', async () => {
    for (const gap of [-3, 0, 1, 9, 16])
      for (const of of [
        (x: Tensor) => sum(exp(neg(crossEntropyRows(x, [0])))),
        (x: Tensor) => sum(pick(softmax(x), [0])),
        (x: Tensor) => sum(exp(pick(logSoftmax(x), [0]))),
      ]) {
        const x = tensor(device, [gap, 0], [1, 2]).requireGrad();
        const [first] = grad(of(x), [x], { createGraph: true });
        const [second] = grad(sum(mul(first!, tensor(device, [1, 0], [1, 2]))), [x]);
        const q = 1 / (1 + Math.exp(gap));
        const p = 1 / (1 + Math.exp(-gap));
        const want = p * q * (q - p);
        const got = await second!.read();
        expect(Math.abs(got[0]! - want)).toBeLessThan(3e-6 * p * q + 1e-7 * p * q * p);
        expect(Math.abs(got[1]! + want)).toBeLessThan(3e-6 * p * q + 1e-7 * p * q * p);
      }
  });
});

describe('the lowest numbers, as masks are made of them, and infinities', () => {
  const LOW = -3.4028234663852886e38;
  const { NEGATIVE_INFINITY: low, POSITIVE_INFINITY: inf, NaN: nan } = Number;
  /** Logits, label, -log p, log odds, and the gradients of both, each from the definition. */
  it.each<[number[], number, number, number, number[], number[]]>([
    [[LOW, LOW, LOW], 0, Math.log(3), -Math.log(2), [-2 / 3, 1 / 3, 1 / 3], [1, -0.5, -0.5]],
    [[-3e38, -3e38], 1, Math.log(2), 0, [0.5, -0.5], [-1, 1]],
    [[low, LOW], 1, 0, inf, [0, 0], [0, 1]],
    [[0, low, low], 0, 0, inf, [0, 0, 0], [1, 0, 0]],
    [[5], 0, 0, inf, [0], [1]],
    [[LOW, 0, 0], 0, -LOW, LOW, [-1, 0.5, 0.5], [1, -0.5, -0.5]],
    [[1e30, 0], 1, 1e30, -1e30, [1, -1], [-1, 1]],
    [[inf, 0], 0, nan, nan, [nan, nan], []],
    [[low, low], 0, nan, nan, [], []],
    [[0, nan], 0, nan, nan, [nan, nan], []],
  ])('%j, label %i', async (row, label, loss, odds, ofLoss, ofOdds) => {
    const close = (got: ArrayLike<number>, want: ArrayLike<number>): void => {
      for (let i = 0; i < want.length; i++) {
        if (Number.isFinite(want[i]!))
          expect(Math.abs(got[i]! - want[i]!)).toBeLessThanOrEqual(1e-6 * Math.abs(want[i]!));
        else expect(got[i]).toBe(want[i]);
      }
    };
    // Kernels that take four numbers at a time, and one.
    for (const length of [row.length, 4 * Math.ceil(row.length / 4)]) {
      const filled = [...row, ...new Array<number>(length - row.length).fill(low)];
      for (const [of, value, gradient] of [
        [crossEntropy, loss, ofLoss],
        [logOdds, odds, ofOdds],
      ] as const) {
        const x = tensor(device, [filled]).requireGrad();
        const y = of(x, [label]);
        close(await y.read(), [value]);
        close(await grad(sum(y), [x])[0]!.read(), gradient);
      }
      if (!Number.isFinite(loss)) continue;
      const x = tensor(device, [filled]).requireGrad();
      const y = pick(logSoftmax(x), [label]);
      close(await y.read(), [-loss]);
      close(
        await grad(sum(y), [x])[0]!.read(),
        ofLoss.map((g) => -g),
      );
    }
  });
});
