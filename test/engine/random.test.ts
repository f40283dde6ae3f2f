/** Random numbers: Philox's published answers, the same computed on the host, their distributions, and what draws again. */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as engine from '../../engine/index.ts';
import { type Device, Generator, type Tensor } from '../../engine/index.ts';
import { compute, expectSameBits, open } from './support.ts';

let device: Device;
let other: Device;
beforeAll(async () => {
  device = await open();
  // Parameters by the uniform ring, in small bindings.
  other = await open({ mask: { immediates: false, bindingBytes: 4096 } });
});
afterAll(() => {
  device?.destroy();
  other?.destroy();
});

/** Philox4x32-10 (Salmon et al. 2011), of whole integers. */
function philox(counter: readonly number[], key: readonly number[]): number[] {
  let c = counter.map(BigInt);
  let [k0, k1] = key.map(BigInt) as [bigint, bigint];
  const low = (x: bigint): bigint => x & 0xffffffffn;
  for (let round = 0; round < 10; round++) {
    const [p, q] = [0xd2511f53n * c[0]!, 0xcd9e8d57n * c[2]!];
    c = [(q >> 32n) ^ c[1]! ^ k0, low(q), (p >> 32n) ^ c[3]! ^ k1, low(p)];
    k0 = low(k0 + 0x9e3779b9n);
    k1 = low(k1 + 0xbb67ae85n);
  }
  return c.map(Number);
}
/** The words of n elements of a call. */
const words = (n: number, seed: number, call = 0): number[] =>
  Array.from({ length: Math.ceil(n / 4) }, (_, i) =>
    philox([i, 0, call, 0], [seed % 2 ** 32, Math.floor(seed / 2 ** 32)]),
  )
    .flat()
    .slice(0, n);

it('the host has the published answers', () => {
  // kat_vectors of the Random123 distribution.
  expect(philox([0, 0, 0, 0], [0, 0])).toEqual([0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
  const ones = 0xffffffff;
  expect(philox([ones, ones, ones, ones], [ones, ones])).toEqual([
    0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd,
  ]);
  expect(philox([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0])).toEqual([
    0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1,
  ]);
});

const SEEDS = [0, 7, 2 ** 53 - 1];
const N = 4099;

describe.each([0, 1])('on device %i, the same bits as on the host:', (which) => {
  const on = (): Device => (which === 0 ? device : other);
  const read = async (fn: () => Tensor): Promise<Float32Array> => (await compute(() => [fn()]))[0]!.data;

  it.each(SEEDS)('uniform numbers of seed %i', async (seed) => {
    const want = Float32Array.from(words(N, seed), (w) => (w >>> 8) * 2 ** -24);
    expectSameBits(await read(() => engine.rand(on(), [N], seed)), want);
    const [low, high] = [-0.3, 1.7];
    const range = Math.fround(high - low);
    expectSameBits(
      await read(() => engine.rand(on(), [N], seed, { low, high })),
      want.map((u) => Math.fround(Math.fround(u * range) + Math.fround(low))),
    );
  });

  it('whole numbers, masks and dropout', async () => {
    expect(await engine.randint(on(), [N], 1000, 3).readIntegers()).toEqual(
      Uint32Array.from(words(N, 3), (w) => Number((BigInt(w) * 1000n) >> 32n)),
    );
    const p = Float32Array.from({ length: N }, (_, i) => (i % 11) / 10);
    const unit = Float32Array.from(words(N, 3), (w) => (w >>> 8) * 2 ** -24);
    const mask = await read(() => engine.bernoulli(engine.tensor(on(), p), 3));
    expectSameBits(
      mask,
      unit.map((u, i) => (u < p[i]! ? 1 : 0)),
    );
    const x = Float32Array.from({ length: N }, (_, i) => i - 50);
    const scale = Math.fround(1 / 0.7);
    const dropped = await read(() => engine.dropout(engine.tensor(on(), x), 0.3, 3));
    expectSameBits(
      dropped,
      x.map((v, i) => Math.fround(v * (unit[i]! < Math.fround(0.7) ? scale : 0))),
    );
  });

  it.each(SEEDS)('normal numbers of seed %i, within 4 float32 steps', async (seed) => {
    const n = 40_001;
    const got = await read(() => engine.randn(on(), [n], seed));
    const w = words(n + 3, seed);
    let worst = 0;
    got.forEach((value, i) => {
      const [radius, angle] = [w[i & ~1]! + 1, w[i | 1]!];
      // 24 bits of the one, 26 of the other, which is the turn's rest.
      const e = Math.max(0, Math.floor(Math.log2(radius)) - 23);
      const u = (Math.floor(radius / 2 ** e) * 2 ** e) / 2 ** 32;
      const quarters = Math.floor((angle + 2 ** 29) / 2 ** 30);
      const turn = quarters / 4 + Math.floor((angle - quarters * 2 ** 30) / 64) / 2 ** 26;
      const want = Math.sqrt(-2 * Math.log(u)) * (i % 2 === 0 ? Math.cos : Math.sin)(2 * Math.PI * turn);
      const step = 2 ** (Math.floor(Math.log2(Math.max(Math.abs(want), 2 ** -120))) - 23);
      // A quarter turn's cosine is 0 here, of which float64 has 6e-17.
      if (Math.abs(want) > 1e-12) worst = Math.max(worst, Math.abs(value - want) / step);
      else expect(Math.abs(value)).toBeLessThan(1e-12);
    });
    expect(worst).toBeLessThan(4);
  });
});

it('distributions have their moments', async () => {
  const n = 1 << 20;
  const moments = async (t: Tensor): Promise<[number, number, number]> => {
    const x = await t.read();
    t.dispose();
    const mean = x.reduce((a, b) => a + b, 0) / n;
    const central = (k: number): number => x.reduce((a, b) => a + (b - mean) ** k, 0) / n;
    return [mean, central(2), central(4) / central(2) ** 2];
  };
  const [mean, variance, kurtosis] = await moments(engine.randn(device, [n], 11, { mean: 2, std: 3 }));
  expect(Math.abs(mean - 2)).toBeLessThan(5 * (3 / 1024));
  expect(Math.abs(variance / 9 - 1)).toBeLessThan(5 * Math.sqrt(2 / n));
  expect(Math.abs(kurtosis - 3)).toBeLessThan(0.03);
  const uniform = await moments(engine.rand(device, [n], 12));
  expect(Math.abs(uniform[0] - 0.5)).toBeLessThan(5 / Math.sqrt(12 * n));
  expect(Math.abs(uniform[1] * 12 - 1)).toBeLessThan(0.01);
  // Neighbours, and the same places of two calls, have nothing to do with each other.
  const x = await engine.rand(device, [n], 12).read();
  const y = await engine.rand(device, [n], new Generator(12, 1)).read();
  const correlation = (a: Float32Array, b: Float32Array): number =>
    (12 / a.length) * a.reduce((s, v, i) => s + (v - 0.5) * (b[i]! - 0.5), 0);
  for (const [a, b] of [
    [x, y],
    [x.subarray(1), x],
    [x.subarray(4), x],
  ] as const)
    expect(Math.abs(correlation(a, b))).toBeLessThan(5 / Math.sqrt(n));
});

it('a number begins anew, a generator goes on, and goes on from where a checkpoint left it', async () => {
  const generator = new Generator(5);
  const draws = await compute(() => [
    engine.rand(device, [8], generator),
    engine.randn(device, [8], generator),
    engine.rand(device, [8], generator),
    engine.rand(device, [8], 5),
    engine.rand(device, [8], new Generator(5, 2)),
  ]);
  expect(generator.calls).toBe(3);
  expect(draws[3]!.data).toEqual(draws[0]!.data);
  expect(draws[4]!.data).toEqual(draws[2]!.data);
  expect(draws[2]!.data).not.toEqual(draws[0]!.data);
});

it('a mask is drawn again where a part runs again in the backward', async () => {
  const run = (again: boolean): Promise<{ data: Float32Array }[]> =>
    compute(() => {
      const generator = new Generator(9);
      const x = engine.full(device, [64], 2).requireGrad();
      const part = (t: Tensor): Tensor => engine.dropout(engine.square(t), 0.5, generator);
      const y = again ? engine.recompute(part, x) : part(x);
      const z = engine.dropout(y, 0.5, generator);
      const [g] = engine.grad(engine.sum(z), [x]);
      return [g!, engine.rand(device, [4], generator)];
    });
  const [kept, recomputed] = [await run(false), await run(true)];
  expect(recomputed.map(({ data }) => data)).toEqual(kept.map(({ data }) => data));
  expect(new Set(kept[0]!.data)).toEqual(new Set([0, 16]));
});

it('dropout: ends, gradient, infinities that are kept', async () => {
  const [none, all, g] = await compute(() => {
    const x = engine.tensor(device, [1, 2, 3, 4]).requireGrad();
    const y = engine.dropout(x, 0.5, 1);
    const [gradient] = engine.grad(engine.sum(y), [x]);
    return [engine.dropout(x, 0, 1), engine.dropout(x, 1, 1), engine.sub(engine.mul(gradient!, x), y)];
  });
  expect([...none!.data]).toEqual([1, 2, 3, 4]);
  expect([...all!.data]).toEqual([0, 0, 0, 0]);
  expect([...g!.data]).toEqual([0, 0, 0, 0]);
});

describe('initialisers', () => {
  const deviation = async (t: Tensor): Promise<number> => {
    const x = await t.read();
    return Math.sqrt(x.reduce((a, b) => a + b * b, 0) / x.length);
  };
  const shape = [200, 50, 3];
  const cases: [string, (d: Device) => Tensor, number, number][] = [
    ['xavierUniform', (d) => engine.xavierUniform(d, shape, 1), Math.sqrt(2 / 750), Math.sqrt(6 / 750)],
    ['xavierNormal', (d) => engine.xavierNormal(d, shape, 1, { gain: 2 }), 2 * Math.sqrt(2 / 750), Infinity],
    ['kaimingUniform', (d) => engine.kaimingUniform(d, shape, 1), Math.sqrt(2 / 150), Math.sqrt(6 / 150)],
    [
      'kaimingNormal',
      (d) => engine.kaimingNormal(d, shape, 1, { mode: 'fanOut', gain: 1 }),
      Math.sqrt(1 / 600),
      Infinity,
    ],
  ];
  it.each(cases)('%s', async (_, make, std, bound) => {
    const x = make(device);
    expect(x.shape).toEqual(shape);
    expect(x.storage.purpose).toBe('weights');
    expect(Math.abs((await deviation(x)) / std - 1)).toBeLessThan(0.03);
    expect((await x.read()).every((v) => Math.abs(v) <= bound * (1 + 1e-6))).toBe(true);
  });
});

it('refuses what is no seed, no distribution and no shape', () => {
  const wrong: [() => unknown, RegExp][] = [
    [() => engine.rand(device, [2], undefined as never), /^rand: seed is missing, expected a whole number/],
    [() => engine.rand(device, [2], -1), /^rand: seed is -1/],
    [
      () => engine.rand(device, [2], 1, { hi: 2 } as never),
      /^rand: there is no option 'hi'; did you mean 'high'/,
    ],
    [() => engine.randn(device, [2], 1, { std: Number.NaN }), /^randn: std is NaN, expected/],
    [() => engine.randint(device, [2], 0, 1), /^randint: high is 0/],
    [
      () => engine.dropout(engine.zeros(device, [2]), 1.5, 1),
      /^dropout: p is 1.5, expected a number from 0 to 1/,
    ],
    [() => engine.rand(null as never, [2], 1), /^rand: device is null/],
    [() => new Generator(0.5), /^Generator: seed is 0.5/],
    [
      () => engine.kaimingNormal(device, [3], 1),
      /^kaimingNormal: needs a shape \[outputs, inputs, ...\], got \[3\]/,
    ],
    [
      () => engine.xavierNormal(device, [3, 2], 1, { mode: 'fanIn' } as never),
      /^xavierNormal: there is no option 'mode'/,
    ],
    [() => engine.rand(device, [2], new Generator(1, 2 ** 32)), /^Generator: calls/],
  ];
  for (const [call, message] of wrong) expect(call).toThrow(message);
});
