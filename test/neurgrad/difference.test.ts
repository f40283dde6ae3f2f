/**
 * Difference propagation: each closed form against float64, whole sweeps against naive ones and against a float64 model,
 * and rows that do not depend on their company.
 */

import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import {
  add,
  concat,
  type Device,
  integers,
  linear,
  openDevice,
  Plan,
  slice,
  type Tensor,
  tensor,
  zeros,
} from '../../engine/index.ts';
import { normalDistribution } from '../../kernels/activation.ts';
import { ACTIVATION_NAMES, ACTIVATIONS } from '../../kernels/index.ts';
import { loadModel, loadModelWeights, localFolder } from '../../models/index.ts';
import type { LanguageModel } from '../../models/model.ts';
import type { Tokenizer } from '../../models/tokenizer.ts';
import { Transformer } from '../../models/transformer.ts';
import { openBundle } from '../../neurgrad/difference/bundle.ts';
import {
  type FeedForward,
  injection,
  injectionCondition,
  outputDerivative,
} from '../../neurgrad/difference/injection.ts';
import {
  type AttentionTokens,
  activationDifference,
  attentionDifference,
  capDifference,
  gatedDifference,
  injectNeurons,
  NONE,
  normDifference,
  projectedAttentionDifference,
  TARGET_FIELDS,
  type TokenRecord,
  targetDifference,
  targetRecord,
  tokenTensor,
} from '../../neurgrad/difference/ops.ts';
import { changedTarget } from '../../neurgrad/difference/sweep.ts';
import { curveSums, type RowChanges, rowChanges } from '../../neurgrad/difference/wave.ts';
import { neuronGradients } from '../../neurgrad/gradients.ts';
import { shiftGrid } from '../../neurgrad/grid.ts';
import { neuronAt } from '../../neurgrad/neuron.ts';
import { probeLogits, targetValues } from '../../neurgrad/predict.ts';
import { encodePrompt } from '../../neurgrad/prompt.ts';
import { drawWithoutReplacement, seededRandom } from '../../neurgrad/random.ts';
import { roundingOf, spreadOf } from '../../neurgrad/rounding.ts';
import { sweep } from '../../neurgrad/sweep.ts';
import { exactChange, type Reference, referenceOf } from './reference.ts';

let device: Device;
beforeAll(async () => {
  device = await openDevice();
});
afterAll(() => device.destroy());

const random = seededRandom(7);
const normal = (): number => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
const numbers = (n: number, scale = 1): Float32Array =>
  Float32Array.from({ length: n }, () => scale * normal());
const upload = (data: Float32Array, shape: number[]): Tensor => tensor(device, data, shape);
const plain = (base: number): TokenRecord => ({
  base,
  own: NONE,
  query: NONE,
  first: 0,
  count: 0,
  keyFirst: 0,
  keys: 0,
  keyStart: 0,
  pattern: 0,
});

/** Two tokens of a prompt of six keys, three of which changed. */
const attended = (records: Tensor): AttentionTokens => {
  const rows = (to: number) => [{ from: 0, to, keys: 6, keyStart: 0 }];
  return { records, tokens: rows(2), queries: rows(3), base: rows(2), inOrder: false, changed: 3 };
};

/** c tanh((x + d) / c) - c tanh(x / c), by sinh(d / c) / (cosh(x / c) cosh((x + d) / c)). */
const capped = (x: number, d: number, c: number): number =>
  (c * Math.sinh(d / c)) / (Math.cosh(x / c) * Math.cosh((x + d) / c));

/** Largest error relative to the row's largest value. */
async function worst(got: Tensor, want: (i: number) => number): Promise<number> {
  const data = await got.read();
  const length = got.dim(-1);
  let error = 0;
  for (let row = 0; row < data.length; row += length) {
    const expected = Array.from({ length }, (_, i) => want(row + i));
    const size = Math.max(...expected.map(Math.abs));
    for (let i = 0; i < length; i++) error = Math.max(error, Math.abs(data[row + i]! - expected[i]!) / size);
  }
  return error;
}

describe.each([1e-5, 1e-2, 1, 4])('closed forms at changes of about %s', (by) => {
  const [rows, length] = [5, 36];
  const order = [3, 0, 2, 2, 1];
  const base = numbers(4 * length, 2);
  const up = numbers(4 * length);
  const d = numbers(rows * length, by);
  const dUp = numbers(rows * length, by);
  const weight = numbers(length);
  const records = () => tokenTensor(device, order.map(plain));
  const x = (i: number): number => base[order[Math.floor(i / length)]! * length + (i % length)]!;

  // Of whole tokens, and of their heads.
  it.each(
    (['layer', 'rms', 'rms1'] as const).flatMap((kind) => [1, 4].map((parts) => [kind, parts] as const)),
  )('%s norm, %i a token', async (kind, parts) => {
    const eps = 1e-5;
    const size = length / parts;
    const y = normDifference(
      kind,
      upload(base, [4, length]),
      records(),
      upload(d, [rows, length]),
      upload(weight.slice(0, size), [size]),
      eps,
    );
    expect(y.shape).toEqual([rows, length]);
    const norm = (values: number[]): number[] => {
      const mean = kind === 'layer' ? values.reduce((a, b) => a + b, 0) / size : 0;
      const variance = values.reduce((a, b) => a + (b - mean) ** 2, 0) / size;
      return values.map((v) => (v - mean) / Math.sqrt(variance + eps));
    };
    const row = (i: number, shifted: boolean): number[] => {
      const start = Math.floor(i / size) * size;
      return Array.from({ length: size }, (_, j) => x(start + j) + (shifted ? d[start + j]! : 0));
    };
    const want = (i: number): number =>
      (weight[i % size]! + (kind === 'rms1' ? 1 : 0)) *
      (norm(row(i, true))[i % size]! - norm(row(i, false))[i % size]!);
    expect(await worst(y, want)).toBeLessThan(3e-6);
  });

  it('a cap', async () => {
    for (const cap of [0.5, 3, 50]) {
      const y = capDifference(cap, upload(base, [4, length]), records(), upload(d, [rows, length]));
      expect(await worst(y, (i) => capped(x(i), d[i]!, cap))).toBeLessThan(1e-6);
      const odd = capDifference(
        cap,
        upload(base, [4 * length, 1]),
        tokenTensor(device, [plain(3), plain(70)]),
        upload(d.slice(0, 2), [2, 1]),
      );
      expect(await worst(odd, (i) => capped(base[[3, 70][i]!]!, d[i]!, cap))).toBeLessThan(3e-6);
    }
  });

  it.each(ACTIVATION_NAMES)('%s', async (act) => {
    const { change } = ACTIVATIONS[act];
    const y = activationDifference(act, upload(base, [4, length]), records(), upload(d, [rows, length]));
    expect(await worst(y, (i) => change(x(i), d[i]!))).toBeLessThan(1e-6);
    const odd = activationDifference(
      act,
      upload(base, [4 * length, 1]),
      tokenTensor(device, [plain(3), plain(70)]),
      upload(d.slice(0, 2), [2, 1]),
    );
    expect(await worst(odd, (i) => change(base[[3, 70][i]!]!, d[i]!))).toBeLessThan(3e-5);
  });

  it.each(ACTIVATION_NAMES)('a gate of %s', async (act) => {
    const { value, change } = ACTIVATIONS[act];
    const [g, u] = [upload(base, [4, length]), upload(up, [4, length])];
    const y = gatedDifference(act, g, u, records(), upload(d, [rows, length]), upload(dUp, [rows, length]));
    const want = (i: number): number => {
      const at = order[Math.floor(i / length)]! * length + (i % length);
      const gate = base[at]!;
      return change(gate, d[i]!) * (up[at]! + dUp[i]!) + value(gate) * dUp[i]!;
    };
    expect(await worst(y, want)).toBeLessThan(1e-6);
  });

  it.each([
    { name: '' },
    { name: ', a scale and a cap', how: { scale: 0.7, cap: 1.5 } },
    // Keys 0 and 3 are outside the window, or behind it.
    { name: ', a window', hidden: [0, 3] },
    { name: ', a head that is no multiple of four', size: 6, how: { cap: 2 } },
  ])('attention, grouped heads, some keys changed$name', async ({ how = {}, hidden = [], size = 8 }) => {
    const shape = { heads: 4, keyValueHeads: 2, headSize: size, keys: 6, ...how };
    const { scale = 1 / Math.sqrt(size), cap = Number.POSITIVE_INFINITY } = how as {
      scale?: number;
      cap?: number;
    };
    const [width, keyWidth] = [4 * size, 2 * size];
    const q = numbers(6 * width);
    const [k, v] = [numbers(6 * keyWidth), numbers(6 * keyWidth)];
    const [dq, dk, dv] = [numbers(3 * width, by), numbers(3 * keyWidth, by), numbers(3 * keyWidth, by)];
    // Positions 2, 3, 4 changed; queries 1 and 3 are wanted, of which 3 changed.
    const score = (query: number, head: number, key: number, moved: boolean): number => {
      let sum = 0;
      const near = key - 2;
      for (let c = 0; c < size; c++) {
        const at = head * size + c;
        const from = (head >> 1) * size + c;
        const left = q[query * width + at]! + (moved && query === 3 ? dq[width + at]! : 0);
        const right =
          k[key * keyWidth + from]! + (moved && near >= 0 && near < 3 ? dk[near * keyWidth + from]! : 0);
        sum += left * right;
      }
      return cap === Number.POSITIVE_INFINITY ? sum * scale : cap * Math.tanh((sum * scale) / cap);
    };
    const softmax = (query: number, head: number, moved: boolean): number[] => {
      const s = [0, 1, 2, 3, 4, 5].map((key) =>
        hidden.includes(key) ? Number.NEGATIVE_INFINITY : score(query, head, key, moved),
      );
      const top = Math.max(...s);
      const total = s.reduce((a, b) => a + Math.exp(b - top), 0);
      return s.map((value) => Math.exp(value - top) / total);
    };
    const pattern = Float32Array.from(
      [1, 3].flatMap((query) => [0, 1, 2, 3].flatMap((head) => softmax(query, head, false))),
    );
    const queries = Float32Array.from([...q.slice(width, 2 * width), ...q.slice(3 * width, 4 * width)]);
    const record = (base: number, own: number): TokenRecord => ({
      base,
      own,
      query: own,
      first: 0,
      count: 3,
      keyFirst: 2,
      keys: 6,
      keyStart: 0,
      pattern: base * 24,
    });
    const y = attentionDifference(
      shape,
      {
        q: upload(queries, [2, width]),
        k: upload(k, [6, keyWidth]),
        v: upload(v, [6, keyWidth]),
        pattern: upload(pattern, [48]),
      },
      attended(tokenTensor(device, [record(0, NONE), record(1, 1)])),
      upload(dq, [3, width]),
      upload(dk, [3, keyWidth]),
      upload(dv, [3, keyWidth]),
    );
    const want = (i: number): number => {
      const [query, head, c] = [[1, 3][Math.floor(i / width)]!, Math.floor((i % width) / size), i % size];
      const [before, after] = [softmax(query, head, false), softmax(query, head, true)];
      let sum = 0;
      for (let key = 0; key < 6; key++) {
        const at = (head >> 1) * size + c;
        const change = key >= 2 && key < 5 ? dv[(key - 2) * keyWidth + at]! : 0;
        sum += after[key]! * (v[key * keyWidth + at]! + change) - before[key]! * v[key * keyWidth + at]!;
      }
      return sum;
    };
    expect(await worst(y, want)).toBeLessThan(4e-6);
  });

  it('target probability, also where the model is sure', async () => {
    const size = 300;
    for (const lead of [0, 12]) {
      const z = numbers(size, 2).map((value, i) => (i === 5 ? value + lead : value));
      const dz = numbers(size, by);
      const total = z.reduce((a, b) => a + Math.exp(b), 0);
      const log = Float32Array.from(z, (value) => value - Math.log(total));
      const found = await targetDifference(
        upload(log, [1, size]),
        integers(device, targetRecord({ base: 0, target: 5, condition: 2 }), [1, 3]),
        upload(dz, [1, size]),
      ).read();
      const at = (name: (typeof TARGET_FIELDS)[number]): number => found[TARGET_FIELDS.indexOf(name)]!;
      const p = Array.from(log, Math.exp);
      const x = Array.from(dz, (value) => value - dz[5]!);
      const terms = p.map((value, i) => value * Math.expm1(x[i]!));
      const f = terms.reduce((a, b) => a + b, 0);
      const absolute = terms.reduce((a, b) => a + Math.abs(b), 0);
      const whole = 1 + f;
      expect(Math.abs(at('logprob') + Math.log1p(f)) * whole).toBeLessThan(
        2e-6 * absolute + 2e-6 * Math.abs(f),
      );
      expect(at('logit')).toBe(dz[5]);
      const moved = p.reduce((sum, value, i) => sum + Math.abs((value * Math.exp(x[i]!)) / whole - value), 0);
      expect(at('moved')).toBeGreaterThan(moved * (1 - 1e-5));
      expect(at('moved')).toBeLessThanOrEqual(2);
      const raised = p.map((value, i) => (i === 5 ? 0 : value * Math.exp(x[i]!)));
      expect(Math.abs((at('rest') * whole) / raised.reduce((a, b) => a + b, 0) - 1)).toBeLessThan(1e-5);
      const root = Math.sqrt(dz.reduce((a, b) => a + b * b, 0) / size);
      expect(Math.abs(at('size') / root - 1)).toBeLessThan(1e-6);
      const pull = raised.reduce((sum, value, i) => sum + value * x[i]!, 0);
      const pulled = raised.reduce((sum, value, i) => sum + value * Math.abs(x[i]!), 0);
      expect(Math.abs(at('alongLogprob') * whole - 2 * Math.abs(pull))).toBeLessThan(1e-5 * pulled);
      expect(at('alongLogit')).toBe(2 * Math.abs(dz[5]!));
    }
  });

  it.each([
    [-90, 60],
    [-30, 100],
    [0, 90],
    [0, -120],
    [-200, -20],
  ])('log p of %s changed by %s, where no float32 holds the ratio', async (log, by) => {
    // The target, one rival that holds all else, and one that never matters.
    const plain = Float32Array.of(log, log === 0 ? -150 : 0, -300);
    const total = plain.reduce((sum, v) => sum + Math.exp(v), 0);
    const found = await targetDifference(
      upload(plain, [1, 3]),
      integers(device, targetRecord({ base: 0, target: 0, condition: 0 }), [1, 3]),
      upload(Float32Array.of(by, 0, 0), [1, 3]),
    ).read();
    const top = Math.max(plain[0]! + by, plain[1]!);
    const after = plain[0]! + by - top - Math.log(Math.exp(plain[0]! + by - top) + Math.exp(plain[1]! - top));
    // Where the target holds all, of the others alone.
    const others = Math.exp(plain[1]!) + Math.exp(plain[2]!);
    const want =
      log === 0
        ? Math.log1p(others) - Math.log1p(others * Math.exp(-by))
        : after - (plain[0]! - Math.log(total));
    expect(Math.abs(found[0]! - want)).toBeLessThan(4e-6 * Math.abs(want) + 1e-30);
  });
});

it('a cap keeps the digits of each change, also far beyond it and at tiny steps', async () => {
  const cap = 2.5;
  const pairs = Array.from({ length: 41 }, (_, i) => (i - 20) * 1.7 + 0.03).flatMap((x) =>
    [1e-20, 1e-9, 1e-4, 0.1, 1, 7, 30].flatMap((d) => [
      [x, d],
      [x, -d],
    ]),
  );
  const column = (i: 0 | 1): Float32Array => Float32Array.from(pairs, (pair) => pair[i]!);
  const [x, d] = [column(0), column(1)];
  const shape = [pairs.length, 1];
  const records = tokenTensor(
    device,
    pairs.map((_, row) => plain(row)),
  );
  const got = await capDifference(cap, upload(x, shape), records, upload(d, shape)).read();
  for (const [i, value] of got.entries()) {
    const want = capped(x[i]!, d[i]!, cap);
    // Of exp in float32, whose argument's rounding the tails magnify.
    const allowed = 4e-7 * (3 + Math.abs(x[i]! / cap) + Math.abs(d[i]! / cap)) * Math.abs(want);
    expect(Math.abs(value - want), `${x[i]} by ${d[i]}: ${value}, want ${want}`).toBeLessThanOrEqual(allowed);
  }
});

it.each([{}, { scale: 0.4, cap: 1.2 }])(
  'attention projected to the queries equals itself (%o)',
  async (how) => {
    const shape = { heads: 4, keyValueHeads: 4, headSize: 8, keys: 6, ...how };
    const softmax = (scores: readonly number[]): number[] => {
      const powers = scores.map(Math.exp);
      return powers.map((power) => power / powers.reduce((a, b) => a + b, 0));
    };
    const pattern = Float32Array.from(Array.from({ length: 8 }, () => softmax([...numbers(6)])).flat());
    const base = {
      q: upload(numbers(2 * 32), [2, 32]),
      k: upload(numbers(6 * 32), [6, 32]),
      v: upload(numbers(6 * 32), [6, 32]),
      pattern: upload(pattern, [48]),
    };
    const record = (base: number, own: number): TokenRecord => ({
      ...plain(base),
      own,
      query: own,
      count: 3,
      keyFirst: 2,
      keys: 6,
      pattern: base * 24,
    });
    const token = attended(tokenTensor(device, [record(0, NONE), record(1, 1)]));
    const [dx, dq] = [upload(numbers(3 * 12, 0.1), [3, 12]), upload(numbers(3 * 32, 0.1), [3, 32])];
    const weights = { k: upload(numbers(32 * 12), [32, 12]), v: upload(numbers(32 * 12), [32, 12]) };
    const [dk, dv] = [linear(dx, weights.k), linear(dx, weights.v)];
    const want = await attentionDifference(shape, base, token, dq, dk, dv).read();
    const moved = concat([zeros(device, [1, 32]), slice(dq, [1, 0], [2, 32])], 0);
    const query = add(base.q, moved);
    const got = projectedAttentionDifference(shape, base, token, query, dq, dx, weights);
    expect(await worst(got, (i) => want[i]!)).toBeLessThan(4e-6);
  },
);

describe.each(ACTIVATION_NAMES)('%s', (act) => {
  const { value, derivative, change } = ACTIVATIONS[act];
  const points = Array.from({ length: 120 }, (_, i) => (i - 60) / 5 + 0.013);
  const steps = [1e-12, 1e-9, 1e-6, 9.99e-4, 1.001e-3, 0.1, 0.999, 1.001, 3, 9, 40, 1e3].flatMap((d) => [
    d,
    -d,
  ]);
  const slopes = (x: number, d: number): number =>
    [0, 0.5, 1].reduce((most, t) => Math.max(most, Math.abs(derivative(x + t * d))), 0);

  it('changes by what its derivative adds up to, however small the step, and by the difference at large ones', () => {
    for (const x of points)
      for (const d of steps) {
        // Simpson's rule in eight parts.
        let along = 0;
        for (let k = 0; k <= 16; k++)
          along += (k % 16 === 0 ? 1 : k % 2 === 1 ? 4 : 2) * derivative(x + (k / 16) * d) * (d / 48);
        const [want, allowed] =
          Math.abs(d) < 2e-3
            ? [along, 1e-10 * Math.abs(d) * slopes(x, d) + (Math.abs(d) < 1e-3 ? 0 : 4e-16 * Math.abs(x))]
            : [value(x + d) - value(x), 1e-15 * (Math.abs(x) + Math.abs(d)) * 4];
        const error = Math.abs(change(x, d) - want);
        expect(error <= allowed, `${act} at ${x} by ${d}: ${change(x, d)}, want ${want}`).toBe(true);
      }
  });

  it('keeps its digits on the device, in the tails and at tiny steps, too', async () => {
    const pairs = points.flatMap((x) =>
      [1e-20, ...steps].map((d) => [x, d].map(Math.fround) as [number, number]),
    );
    for (const wide of [true, false]) {
      const shape = wide ? [pairs.length / 4, 4] : [pairs.length, 1];
      const column = (i: 0 | 1): Tensor =>
        upload(
          Float32Array.from(pairs, (pair) => pair[i]),
          shape,
        );
      const records = tokenTensor(
        device,
        Array.from({ length: shape[0]! }, (_, row) => plain(row)),
      );
      const got = await activationDifference(act, column(0), records, column(1)).read();
      pairs.forEach(([x, d], i) => {
        const s = (at: number): number => value(at) / at;
        const step = (change(x, d) - d * s(x)) / (x + d);
        // Of exp in float32, whose argument's rounding the tails magnify.
        const tail = 1 + Math.min(200, x ** 2 + (x + d) ** 2 + 0.08 * Math.abs(x) ** 3);
        // Steps of GELU up to 1 are a quadrature, which does not follow the far tail of the density.
        const allowed =
          1e-6 * tail * (Math.abs(d * s(x)) + Math.abs((x + d) * step)) + (act === 'gelu' ? 1e-9 : 1e-37);
        const right = Math.abs(got[i]! - change(x, d)) <= allowed;
        expect(right, `${act} at ${x} by ${d}: ${got[i]}, want ${change(x, d)}`).toBe(true);
      });
    }
  });

  it('puts at each site what its derivative says of a small shift', () => {
    for (const gated of [false, true])
      for (const site of gated
        ? (['pre', 'pre_linear', 'act', 'post'] as const)
        : (['pre', 'post'] as const)) {
        const feedForward: FeedForward = { activation: act, gated };
        const [pre, up, d] = [-0.7, 1.3, 1e-7];
        const a = { pre, pre_linear: up, act: value(pre), post: 0 }[site];
        const slope = outputDerivative(feedForward, site, { pre, up }, a);
        expect(injection(feedForward, site, pre, up, d) / d).toBeCloseTo(slope, 6);
      }
  });
});

describe('injection', () => {
  it('takes columns of the output weights, whole or by one-hot rows', async () => {
    const w = numbers(12 * 10);
    const [column, scale] = [integers(device, [3, 9]), upload(Float32Array.of(0.5, -2), [2])];
    const got = await injectNeurons(upload(w, [12, 10]), column, scale).read();
    got.forEach((value, i) => {
      expect(value).toBe(
        Math.fround([0.5, -2][Math.floor(i / 12)]! * w[(i % 12) * 10 + [3, 9][Math.floor(i / 12)]!]!),
      );
    });
  });
  it('knows what a shift at each site adds', () => {
    expect(normalDistribution(0)).toBe(0.5);
    expect(normalDistribution(-1.959963984540054)).toBeCloseTo(0.025, 15);
    expect(normalDistribution(-6) / 9.865876450376981e-10 - 1).toBeCloseTo(0, 12);
    const bert: FeedForward = { activation: 'gelu', gated: false };
    const llama: FeedForward = { activation: 'silu', gated: true };
    expect(injection(bert, 'post', -1, 0, 0.25)).toBe(0.25);
    expect(injection(llama, 'act', 2, 3, 0.5)).toBe(1.5);
    expect(injection(llama, 'pre_linear', 0, 3, 0.5)).toBe(0);
    const uncertain = (site: 'post' | 'pre_linear' | 'act', pre: number, up: number): number =>
      injectionCondition(llama, site, { pre, up }, { pre: 1, up: 2 }, 0.5);
    expect(uncertain('post', 0.01, 1)).toBe(0);
    // c = d u: 2 / |u|; c = d silu(g), and silu(g) is about g / 2 + g^2 / 4 near 0.
    expect(uncertain('act', 5, 0.1)).toBeCloseTo(20, 9);
    expect(uncertain('pre_linear', 0.01, 3)).toBeCloseTo((0.5 + 0.005) / (0.005 + 0.000025), 2);
  });
});

const MODELS = [
  [
    'facts-bert',
    [
      'The capital of France is [MASK].',
      'The Nobel laureate Marie Curie was born in [MASK], they say.',
      'Windows is developed by [MASK].',
    ],
  ],
  ['stories260k', ['Once upon a time, there was a little', 'Tom and Lily went to the park to']],
] as const;

describe.each(MODELS)('%s', (name, texts) => {
  let model: LanguageModel;
  let tokenizer: Tokenizer;
  let reference: Reference;
  beforeAll(async () => {
    ({ model, tokenizer } = await loadModel(`examples/models/${name}`, { device }));
    reference = await referenceOf(model);
  });
  afterAll(() => model.dispose());
  const draw = (count: number, site = model.paperSite) =>
    drawWithoutReplacement(count, model.sizes.layers * model.sizes.width, seededRandom(3)).map((flat) =>
      neuronAt(flat, model.sizes.width, site),
    );

  it('equals the naive engine at every site, along both axes', async () => {
    for (const site of model.sites)
      for (const direction of ['outward', 'plain'] as const) {
        const prompt = encodePrompt(model, tokenizer, texts[0]);
        const options = { neurons: draw(6, site), shifts: [-8, -1, 0.5, 2], direction };
        const auto = await sweep(model, prompt, options);
        const naive = await sweep(model, prompt, { ...options, engine: 'naive' });
        expect(auto.engine).toBe('differences');
        expect(naive.engine).toBe('naive');
        for (const [n, curve] of auto.neurons.entries())
          for (const [s, p] of curve.p.entries())
            expect(Math.abs(p - naive.neurons[n]!.p[s]!)).toBeLessThan(5e-6);
      }
  });

  it.each(['logprob', 'logit'] as const)('equals the naive engine in %s', async (of) => {
    const prompt = encodePrompt(model, tokenizer, texts[1]);
    const options = { neurons: draw(4), shifts: [-4, 1], of, target: 300 };
    const auto = await sweep(model, prompt, options);
    const naive = await sweep(model, prompt, { ...options, engine: 'naive' });
    for (const [n, curve] of auto.neurons.entries())
      for (const [s, value] of curve.values.entries())
        expect(Math.abs(value - naive.neurons[n]!.values[s]!)).toBeLessThan(5e-5);
  });

  it('measures changes of p to 1e-5 where subtracting forwards cannot, and to the noise it states', async () => {
    const errors: number[] = [];
    const noises: number[] = [];
    const naiveErrors: number[] = [];
    const norm = (values: number[]): number => Math.hypot(...values);
    for (const text of texts) {
      const prompt = encodePrompt(model, tokenizer, text);
      const plainP = reference(prompt);
      const target = plainP.indexOf(Math.max(...plainP));
      const options = { neurons: draw(20), target, direction: 'plain' as const };
      for (const by of [1e-4, 0.01, 0.2, 2]) {
        const shifts = { shifts: [by], fit: { range: by } };
        const auto = await sweep(model, prompt, { ...options, ...shifts });
        const naive =
          by < 0.1 ? await sweep(model, prompt, { ...options, ...shifts, engine: 'naive' }) : null;
        const wanted: number[] = [];
        const apart: number[] = [];
        for (const [n, curve] of auto.neurons.entries()) {
          const want = exactChange(
            plainP,
            reference(prompt, { neuron: curve, at: prompt.position, by }),
            target,
          );
          const error = Math.abs(curve.p[1]! - curve.p[0]! - want);
          wanted.push(want);
          apart.push(error);
          errors.push(error / Math.abs(want));
          noises.push(curve.noise / Math.abs(want));
          // The bound: no effect is too small for it.
          expect(error, `L${curve.layer}.N${curve.index} by ${by}`).toBeLessThan(curve.noise);
          const other = naive?.neurons[n]?.p;
          if (other) naiveErrors.push(Math.abs((other[1]! - other[0]!) / want - 1));
        }
        // Of the changes of all neurons by one shift.
        expect(norm(apart), `${text} by ${by}`).toBeLessThan(1e-5 * norm(wanted));
      }
    }
    const quantile = (values: number[], q: number): number =>
      values.sort((a, b) => a - b)[Math.floor(q * (values.length - 1))]!;
    expect(quantile(errors, 0.5)).toBeLessThan(5e-6);
    expect(quantile(errors, 0.9)).toBeLessThan(2e-5);
    // A bound that says something.
    expect(quantile(noises, 0.5)).toBeLessThan(5e-4);
    expect(quantile(naiveErrors, 0.5)).toBeGreaterThan(0.01);
  });

  it('gives the same lines reduced on the device as from their points', async () => {
    const prompt = encodePrompt(model, tokenizer, texts[0]);
    const shifts = shiftGrid(-4, 4, 0.4);
    const fits = [
      {},
      { includeZero: true, range: 3 },
      { withIntercept: true, range: Number.POSITIVE_INFINITY },
    ];
    for (const [i, of] of (['prob', 'logprob', 'logit'] as const).entries()) {
      const options = {
        ...{ neurons: draw(30), shifts, of, fit: fits[i]!, rowsPerPass: 47 },
        engine: 'differences' as const,
      };
      const points = await sweep(model, prompt, options);
      const sums = await sweep(model, prompt, { ...options, points: false });
      for (const [n, want] of points.neurons.entries()) {
        const got = sums.neurons[n]!;
        const scale = Math.max(...want.values.map((value) => Math.abs(value - want.values[10]!)));
        expect(Math.abs(got.slope - want.slope)).toBeLessThan(5e-7 * scale);
        expect(Math.abs(got.intercept - want.intercept)).toBeLessThan(1e-6 * scale);
        expect(Math.abs(got.r - want.r)).toBeLessThan(1e-6);
        expect(got).toMatchObject({ flat: want.flat, polarity: want.polarity, p: [], values: [] });
        expect(Math.abs(got.noise / want.noise - 1)).toBeLessThan(1e-5);
      }
      const alone = await sweep(model, prompt, {
        ...options,
        neurons: options.neurons.slice(3, 4),
        points: false,
      });
      expect(alone.neurons[0]).toEqual(sums.neurons[3]);
    }
  });

  it('runs the last layer along lines where nothing but norm and decoder follow', async () => {
    const prompt = encodePrompt(model, tokenizer, texts[0]);
    const last = model.sizes.layers - 1;
    const cases = [{ probe: prompt, at: prompt.position, target: 300 }];
    const rows = model.sites.flatMap((site) =>
      [3, 40, 77].flatMap((index) =>
        [-10, -1, 1e-4, 0.5, 2].map((shift) => ({ case: 0, neuron: { layer: last, index, site }, shift })),
      ),
    );
    using bundle = await openBundle(model as never, cases);
    const lines = await rowChanges(bundle, rows);
    const waves = await rowChanges(bundle, rows, { lines: false });
    if (!model.causal) return void expect(lines).toEqual(waves);
    const plainP = reference(prompt);
    const plainZ = await probeLogits(model, prompt);
    const logs = targetValues(plainZ, 300);
    const rounding = roundingOf(model, { spread: spreadOf(plainZ), logprob: logs.logprob });
    const at = (changes: RowChanges, i: number) =>
      Object.fromEntries(TARGET_FIELDS.map((name) => [name, changes[name][i]!])) as Parameters<
        typeof changedTarget
      >[1];
    for (const [i, row] of rows.entries()) {
      const change = changedTarget(logs, at(lines, i), rounding);
      expect(Math.abs(lines.logprob[i]! - waves.logprob[i]!)).toBeLessThan(change.noise.logprob);
      const after = reference(prompt, { neuron: row.neuron, at: prompt.position, by: row.shift });
      const want = exactChange(plainP, after, 300);
      expect(Math.abs(change.changes.prob - want)).toBeLessThan(change.noise.prob);
    }
    expect(await rowChanges(bundle, rows, { rowsPerPass: 1 })).toEqual(lines);
  });

  it('calls flat what moves less than its own noise', async () => {
    const prompt = encodePrompt(model, tokenizer, texts[0]);
    const neurons = draw(40);
    const { neurons: curves } = await sweep(model, prompt, { neurons, shifts: [-1, -0.5, 0.5, 1] });
    const largest = Math.max(...curves.map((curve) => curve.noise));
    const smallest = Math.min(...curves.map((curve) => curve.noise));
    // A floor of its own for each: neurons differ in what their rounding can be.
    expect(largest).toBeGreaterThan(3 * smallest);
    for (const { p, noise, flat, r } of curves) {
      expect(flat).toBe(p.every((value) => Math.abs(value - p[2]!) <= noise));
      expect(r === 0).toBe(flat);
    }
    // The neurons' position is not read in the last layer: nothing moves there.
    const still = await sweep(model, prompt, {
      neurons: [{ ...neurons[0]!, layer: model.sizes.layers - 1 }],
      shifts: [-1, 1],
      neuronPosition: 1,
    });
    expect(still.neurons[0]).toMatchObject({ flat: true, r: 0, noise: 0, polarity: 0 });
    // Nor does a causal model read what comes after, in any layer.
    const end = prompt.ids.length - 1;
    if (model.causal)
      for (const points of [true, false]) {
        const before = { ...prompt, position: 1 };
        const after = await sweep(model, before, { neurons, shifts: [-1, 1], neuronPosition: end, points });
        expect(after.neurons.every(({ flat, r, slope }) => flat && r === 0 && slope === 0)).toBe(true);
      }
  });

  it('runs a prompt once where its last token is read, and finds the same behind its cache', async () => {
    if (!model.causal) return;
    const probe = encodePrompt(model, tokenizer, texts[0]);
    const { ids, position } = probe;
    const [neurons, shifts] = [draw(12), [-1, 2]];
    const before = device.memory;
    const embedded = vi.spyOn(Transformer.prototype, 'embed');
    await sweep(model, probe, { neurons, shifts });
    await neuronGradients(model, probe);
    const tokens = embedded.mock.calls.map(([{ rows, length }]) => rows * length);
    embedded.mockRestore();
    // All but the last; the last one for the target, the gradients and the bundle together.
    const rest = ids.length - 1;
    expect(tokens).toEqual([rest, 1, rest, 1]);
    expect(device.memory.total - device.memory.pooled).toBe(before.total - before.pooled);
    const rows = neurons.flatMap((neuron) => shifts.map((shift) => ({ case: 0, neuron, shift })));
    const one = { probe, at: position, target: 300 };
    using prefix = (model as Transformer).prefill(ids.slice(0, -1));
    using behind = await openBundle(model as never, [{ ...one, prefix }]);
    using whole = await openBundle(model as never, [one]);
    const [got, want] = [await rowChanges(behind, rows), await rowChanges(whole, rows)];
    const size = Math.max(...want.logprob.map(Math.abs));
    for (const [i, value] of want.logprob.entries())
      expect(Math.abs(got.logprob[i]! - value)).toBeLessThan(1e-5 * size);
  });

  it('gives a row alone the same bits as in a batch, and beside other prompts', async () => {
    const probes = texts.map((text) => encodePrompt(model, tokenizer, text));
    expect(new Set(probes.map(({ ids }) => ids.length)).size).toBe(texts.length);
    const cases = probes.map((probe) => ({ probe, at: probe.position, target: 300 }));
    const before = device.memory;
    const rows = [0, 1].flatMap((c) =>
      draw(12).flatMap((neuron) => [-1, 2].map((shift) => ({ case: c, neuron, shift }))),
    );
    {
      using both = await openBundle(model as never, cases);
      using first = await openBundle(model as never, cases.slice(0, 1));
      const together = await rowChanges(both, rows);
      const alone = await rowChanges(both, rows, { rowsPerPass: 1 });
      const apart = await rowChanges(first, rows.slice(0, 24), { rowsPerPass: 7 });
      expect(alone).toEqual(together);
      for (const name of TARGET_FIELDS) expect(apart[name]).toEqual(together[name].slice(0, 24));
    }
    // Everything has been given back.
    expect(device.memory.total - device.memory.pooled).toBe(before.total - before.pooled);
  });
});

describe('waves of one shape', () => {
  const replays = vi.spyOn(Plan.prototype, 'replay');
  afterAll(() => replays.mockRestore());
  /** Rows of one case at the ends of a model and between, neurons and shifts all different. */
  const rowsOf = (model: LanguageModel, perLayer: number, cases = 1) =>
    [0, 1, model.sizes.layers - 1].flatMap((layer) =>
      Array.from({ length: perLayer }, (_, i) => ({
        case: i % cases,
        neuron: { layer, index: (i * 37 + 5) % model.sizes.width, site: model.paperSite },
        shift: (i % 9) - 4.5,
      })),
    );

  it.each(MODELS)(
    '%s: replayed to the bits of eager ones, and all memory given back',
    async (name, texts) => {
      const { model, tokenizer } = await loadModel(`examples/models/${name}`, { device });
      const probes = texts.map((text) => encodePrompt(model, tokenizer, text));
      const cases = probes.map((probe) => ({ probe, at: probe.position, target: 300 }));
      // Tables of angles are made as long as prompts ask for, and stay.
      for (const probe of probes) await probeLogits(model, probe);
      const before = device.memory;
      replays.mockClear();
      for (const count of [1, 2]) {
        using bundle = await openBundle(model as never, cases.slice(0, count));
        const rows = rowsOf(model, 48, count);
        const eager = await rowChanges(bundle, rows, { rowsPerPass: 8, replay: false });
        expect(replays).toHaveBeenCalledTimes(0);
        expect(await rowChanges(bundle, rows, { rowsPerPass: 8 })).toEqual(eager);
        // Six waves a layer, of which the first is recorded; at Llama's last layer they are lines.
        const layers = model.causal ? 2 : 3;
        expect(replays).toHaveBeenCalledTimes(5 * layers);
        replays.mockClear();
        // Waves over the ends of layers, of several shapes.
        expect(await rowChanges(bundle, rows, { rowsPerPass: 7 * count })).toEqual(eager);
        expect(replays.mock.calls.length).toBeGreaterThan(1);
        replays.mockClear();
        // Two of a shape are not worth it.
        await rowChanges(bundle, rows, { rowsPerPass: 24 });
        expect(replays).toHaveBeenCalledTimes(0);
      }
      {
        using bundle = await openBundle(model as never, cases.slice(0, 1));
        const curves = {
          neurons: rowsOf(model, 12).map(({ neuron }) => neuron),
          along: Array.from({ length: 36 }, (_, i): 1 | -1 => (i % 2 ? 1 : -1)),
          shifts: [-2, -1, 1, 2],
          of: 'prob' as const,
          rounding: roundingOf(model, { spread: 3, logprob: -2 }),
          range: 2,
          includeZero: false,
        };
        const eager = await curveSums(bundle, curves, { rowsPerPass: 6, replay: false });
        expect(await curveSums(bundle, curves, { rowsPerPass: 6 })).toEqual(eager);
        expect(replays.mock.calls.length).toBeGreaterThan(4);
      }
      expect(device.memory.total - device.memory.pooled).toBe(before.total - before.pooled);
      model.dispose();
    },
  );

  it('are run eagerly where the budget has no room for a recording', async () => {
    const run = async (memoryBudget: number, replay: boolean) => {
      const small = await openDevice({ memoryBudget });
      const { model, tokenizer } = await loadModel('examples/models/facts-bert', { device: small });
      const probe = encodePrompt(model, tokenizer, MODELS[0][1][0]);
      using bundle = await openBundle(model as never, [{ probe, at: probe.position, target: 300 }]);
      const changes = await rowChanges(bundle, rowsOf(model, 288), { rowsPerPass: 96, replay });
      const { peak } = small.memory;
      small.destroy();
      return { changes, peak };
    };
    const eager = await run(2 ** 33, false);
    replays.mockClear();
    expect((await run(2 ** 33, true)).changes).toEqual(eager.changes);
    expect(replays).toHaveBeenCalledTimes(6);
    // Less and less: what a recording keeps for its end does not fit before what an eager wave needs at once does not.
    for (let budget = eager.peak; replays.mock.calls.length > 0; budget -= 2 ** 19) {
      replays.mockClear();
      const { changes, peak } = await run(budget, true);
      expect(changes).toEqual(eager.changes);
      expect(peak).toBeLessThanOrEqual(budget);
    }
  });
});

describe('weights in fewer bits', () => {
  it.each(
    MODELS.flatMap(([name, [text]]) =>
      (['f16', 'int8'] as const).map((dtype) => [name, dtype, text] as const),
    ),
  )('%s in %s: differences equal full forwards', async (name, dtype, text) => {
    const folder = await localFolder(`examples/models/${name}`);
    const { tokenizer, model: plainModel } = await loadModel(folder.name, { device });
    plainModel.dispose();
    const model = await loadModelWeights(folder, device, { dtype });
    try {
      const prompt = encodePrompt(model, tokenizer, text);
      const { layers, width } = model.sizes;
      const neurons = drawWithoutReplacement(6, layers * width, seededRandom(2)).map((flat) =>
        neuronAt(flat, width, model.paperSite),
      );
      const options = { neurons, shifts: [-2, 1] };
      const auto = await sweep(model, prompt, options);
      const naive = await sweep(model, prompt, { ...options, engine: 'naive' });
      for (const [n, curve] of auto.neurons.entries())
        for (const [s, p] of curve.p.entries())
          expect(Math.abs(p - naive.neurons[n]!.p[s]!)).toBeLessThan(5e-6);
    } finally {
      model.dispose();
    }
  });
});
