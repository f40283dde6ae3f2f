/** What the table of operations does not ask: infinities, NaN and -0, kinks, masks of integers, and scalars on either side. */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as engine from '../../engine/index.ts';
import { type Device, ShapeError, type Tensor } from '../../engine/index.ts';
import { compute, expectClose, expectSameBits, open } from './support.ts';

let device: Device;
beforeAll(async () => {
  device = await open();
});
afterAll(() => device?.destroy());

const X = [
  0,
  -0,
  1,
  -1,
  2.5,
  -2.5,
  3.5,
  -0.5,
  1e-8,
  -1e-8,
  88,
  3e38,
  -3e38,
  8388609,
  NaN,
  Infinity,
  -Infinity,
];
const of = async (f: (x: Tensor) => Tensor, x: readonly number[] = X): Promise<Float32Array> =>
  (await compute(() => [f(engine.tensor(device, x))]))[0]!.data;

describe('special numbers', () => {
  const cases: [string, (x: Tensor) => Tensor, (x: number) => number][] = [
    ['relu', engine.relu, (x) => (x > 0 || Number.isNaN(x) ? x : 0)],
    ['leakyRelu', (x) => engine.leakyRelu(x, 0.5), (x) => (x < 0 ? x / 2 : x)],
    ['clamp', (x) => engine.clamp(x, -1, 2), (x) => Math.min(Math.max(x, -1), 2)],
    ['clamp below', (x) => engine.clamp(x, Number.NEGATIVE_INFINITY, 2), (x) => Math.min(x, 2)],
    ['floor', engine.floor, Math.floor],
    ['ceil', engine.ceil, Math.ceil],
    ['round', engine.round, (x) => (Math.abs(x % 1) === 0.5 ? 2 * Math.round(x / 2) : Math.round(x))],
    ['isNaN', engine.isNaN, (x) => (Number.isNaN(x) ? 1 : 0)],
    ['isFinite', engine.isFinite, (x) => (Number.isFinite(x) ? 1 : 0)],
    ['isInf', engine.isInf, (x) => (Math.abs(x) === Infinity ? 1 : 0)],
    ['logicalNot', engine.logicalNot, (x) => (x === 0 ? 1 : 0)],
  ];
  it.each(cases)('%s', async (_, f, want) => {
    expectClose(await of(f), Array.from(Float32Array.from(X), want), { ulps: 0 });
  });

  it('softplus, log1p and expm1 keep the digits of small numbers and the infinities', async () => {
    const softplus = (x: number): number => (x > 0 ? x + Math.log1p(Math.exp(-x)) : Math.log1p(Math.exp(x)));
    const small = [
      1e-30,
      -1e-30,
      1e-7,
      -1e-7,
      1e-3,
      -0.3,
      0.3,
      0.64,
      0.66,
      20,
      -20,
      -80,
      0,
      -1,
      3e38,
      Infinity,
    ];
    for (const [f, want] of [
      [engine.softplus, softplus],
      [engine.log1p, Math.log1p],
      [engine.expm1, Math.expm1],
    ] as const)
      expectClose(
        await of(f, small),
        Array.from(Float32Array.from(small), (x) => Math.fround(want(x))),
        {
          ulps: 16,
          floor: 1e-37,
        },
      );
    expect(await of(engine.softplus, [NaN, -Infinity])).toEqual(Float32Array.of(NaN, 0));
    expect(await of(engine.log1p, [NaN, -2])).toEqual(Float32Array.of(NaN, NaN));
    expect(await of(engine.expm1, [NaN, -Infinity])).toEqual(Float32Array.of(NaN, -1));
  });

  it('powers of and by what is special, as IEEE 754 has them', async () => {
    const bases = [0, -0, 1, -1, 2, -2, 0.5, -3.7, NaN, Infinity, -Infinity, 1e-20, 1e20];
    const exponents = [0, -0, 1, -1, 2, 3, -3, 0.5, -0.5, NaN, Infinity, -Infinity, 31, 33, 7.3, 1e9];
    const [pairs] = await compute(() => [
      engine.pow(engine.tensor(device, bases, [bases.length, 1]), engine.tensor(device, exponents)),
    ]);
    const scalars = await Promise.all(
      exponents.map(
        async (p) => (await compute(() => [engine.pow(engine.tensor(device, bases), p)]))[0]!.data,
      ),
    );
    bases.forEach((base, i) => {
      exponents.forEach((p, j) => {
        const [x, v] = [Math.fround(base), Math.fround(p)];
        // JavaScript has NaN for 1 and -1 to an infinity and 1 to NaN.
        const one = x === 1 || (x === -1 && Math.abs(v) === Infinity);
        const want = one ? 1 : Math.fround(x ** v);
        const got = pairs!.data[i * exponents.length + j]!;
        const size = want === 1 ? 0 : Math.abs(v * Math.log(Math.abs(x)));
        if (Number.isFinite(want) && want !== 0 && Number.isFinite(size))
          expect(Math.abs(got - want)).toBeLessThanOrEqual(2 ** -23 * (2 + 3 * size) * Math.abs(want));
        else expect(Object.is(got, want), `${x} ** ${v} is ${got}, not ${want}`).toBe(true);
        expect(Object.is(scalars[j]![i], got)).toBe(true);
      });
    });
  });

  it('comparisons do not hold beside a NaN, but difference', async () => {
    const [a, b] = [
      [1, 2, 2, NaN, 1, NaN, -0, Infinity],
      [2, 1, 2, 1, NaN, NaN, 0, Infinity],
    ];
    const want: [(a: Tensor, b: Tensor) => Tensor, (u: number, v: number) => boolean][] = [
      [engine.less, (u, v) => u < v],
      [engine.lessEqual, (u, v) => u <= v],
      [engine.greaterEqual, (u, v) => u >= v],
      [engine.notEqual, (u, v) => u !== v],
    ];
    for (const [f, holds] of want)
      expect([...(await of((x) => f(x, engine.tensor(device, b!)), a!))]).toEqual(
        a!.map((u, i) => (holds(u, b![i]!) ? 1 : 0)),
      );
  });
});

describe('at kinks gradients are those of PyTorch', () => {
  const cases: [string, (x: Tensor) => Tensor, number[], number[]][] = [
    ['relu', engine.relu, [-1, 0, 2], [0, 0, 1]],
    ['leakyRelu', (x) => engine.leakyRelu(x, 0.1), [-1, 0, 2], [0.1, 0.1, 1]],
    ['clamp', (x) => engine.clamp(x, -1, 1), [-2, -1, 0, 1, 2], [0, 1, 1, 1, 0]],
    ['floor', engine.floor, [0.5, 1], [0, 0]],
    ['pow 0', (x) => engine.pow(x, 0), [0, 3], [0, 0]],
    ['pow 2', (x) => engine.pow(x, 2), [0, -3], [0, -6]],
    ['the exponent of 0', (v) => engine.pow(0, v), [2, 0.5], [0, 0]],
  ];
  it.each(cases)('%s', async (_, f, x, want) => {
    const [g] = await compute(() => {
      const t = engine.tensor(device, x).requireGrad();
      return engine.grad(engine.sum(f(t)), [t]);
    });
    expectClose(g!.data, want, { ulps: 1, floor: 1 });
  });
});

describe('integers', () => {
  const u = (values: readonly number[], shape?: readonly number[]): Tensor =>
    engine.integers(device, values, shape);
  const read = async (fn: () => Tensor): Promise<number[]> => [...(await compute(() => [fn()]))[0]!.data];

  it('add, subtract, multiply and compare with their like, and with numbers, in every layout', async () => {
    const values = [3, 0, 4294967295, 7, 1, 2, 9, 5];
    const fns: [string, (a: Tensor, b: Tensor | number) => Tensor, (a: number, b: number) => number][] = [
      ['add', engine.add, (a, b) => (a + b) >>> 0],
      ['sub', engine.sub, (a, b) => (a - b) >>> 0],
      ['mul', engine.mul, (a, b) => Math.imul(a, b) >>> 0],
      ['maximum', engine.maximum, Math.max],
      ['minimum', engine.minimum, Math.min],
      ['greater', engine.greater, (a, b) => truth(a > b)],
      ['less', engine.less, (a, b) => truth(a < b)],
      ['lessEqual', engine.lessEqual, (a, b) => truth(a <= b)],
      ['equal', engine.equal, (a, b) => truth(a === b)],
      ['notEqual', engine.notEqual, (a, b) => truth(a !== b)],
    ];
    for (const [name, f, want] of fns) {
      const [same, scalar, repeated, strided] = await compute(() => [
        f(u(values), u([...values].reverse())),
        f(u(values), 2),
        f(u(values), u([1, 2, 3, 7], [1, 4]).shape.length > 0 ? u([2], [1]) : 0),
        f(u(values, [8, 1]), u([1, 2, 3])),
      ]);
      expect([...same!.data], name).toEqual(values.map((v, i) => Math.fround(want(v, values[7 - i]!))));
      for (const got of [scalar, repeated])
        expect([...got!.data], name).toEqual(values.map((v) => Math.fround(want(v, 2))));
      expect([...strided!.data], name).toEqual(
        values.flatMap((v) => [1, 2, 3].map((w) => Math.fround(want(v, w)))),
      );
    }
  });
  const truth = (holds: boolean): number => (holds ? 1 : 0);

  it('become numbers and back', async () => {
    expect(await read(() => engine.toF32(u([0, 1, 16777217, 4294967295])))).toEqual([
      0, 1, 16777216, 4294967296,
    ]);
    const cut = engine.toU32(engine.tensor(device, [0.9, 1.5, -3, NaN, 3e9, Infinity, -Infinity, 1e20]));
    expect([...(await cut.readIntegers())]).toEqual([0, 1, 0, 0, 3e9, 4294967040, 0, 4294967040]);
  });

  it('are chosen by masks of either kind, the highest bit alone too', async () => {
    expect(await read(() => engine.where(u([0, 1, 2 ** 31]), u([1, 2, 3]), 9))).toEqual([9, 2, 3]);
    expect(
      await read(() => engine.logicalAnd(u([0, 1, 2 ** 31]), engine.tensor(device, [1, NaN, 1]))),
    ).toEqual([0, 1, 1]);
    const right = engine.equal(
      engine.argmax(
        engine.tensor(device, [
          [1, 2],
          [4, 3],
        ]),
      ),
      u([1, 1]),
    );
    expect(await engine.mean(right).item()).toBe(0.5);
  });

  it('do not mix with numbers, and have no quotient', () => {
    const x = engine.tensor(device, [1, 2]);
    expect(() => engine.add(u([1, 2]), x)).toThrow(
      /add: needs f32, got u32 \[2\] beside another dtype; toF32/,
    );
    expect(() => engine.where(x, u([1, 2]), x)).toThrow(/where: needs f32, got u32/);
    expect(() => engine.div(u([1, 2]), 2)).toThrow(/div: needs f32, got u32 \[2\]; use toF32\(\)/);
    expect(() => engine.add(u([1]), 0.5)).toThrow(ShapeError);
    for (const name of ['less', 'lessEqual', 'greaterEqual', 'notEqual', 'pow'] as const) {
      const f = { ...engine }[name];
      expect(() => f(x, engine.tensor(device, [1, 2, 3]))).toThrow(
        new RegExp(`^${name}: shapes .* do not broadcast`),
      );
      expect(() => f(x, 'x' as never)).toThrow(new RegExp(`^${name}: `));
    }
    expect(() => engine.pow(u([1]), 2)).toThrow(/^pow: needs f32/);
    expect(() => engine.leakyRelu(u([1]))).toThrow(/^leakyRelu: needs f32/);
  });
});

it('a scalar may stand on either side of what takes two', async () => {
  const x = engine.tensor(device, [1, 2, 4]);
  const values = async (t: Tensor): Promise<number[]> => [...(await t.read())];
  expect(await values(engine.pow(2, x))).toEqual([2, 4, 16]);
  expect(await values(engine.less(2, x))).toEqual([0, 0, 1]);
  expect(await values(engine.greaterEqual(x, 2))).toEqual([0, 1, 1]);
  expect(await values(engine.where(engine.notEqual(x, 2), 1, 0))).toEqual([1, 0, 1]);
});

it('reaches past the 65,535 workgroups of one axis', async () => {
  const n = 65535 * 64 * 4 + 5;
  const [y] = await compute(() => [engine.relu(engine.full(device, [n], -1)), engine.zeros(device, [1])]);
  expect(y!.data.every((v) => v === 0)).toBe(true);
  const [z] = await compute(() => [engine.slice(engine.pow(engine.full(device, [n], 3), 2), [n - 5], [n])]);
  expectSameBits(z!.data, Float32Array.of(9, 9, 9, 9, 9));
});
