/** Order, index and parts beyond the table of operations: NaN, ties, zeros in products, masks, faults, sizes past the limits of a grid. */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Device, Tensor } from '../../engine/index.ts';
import * as engine from '../../engine/index.ts';
import { compute, expectSameBits, normal, open, upload } from './support.ts';

let device: Device;
beforeAll(async () => {
  device = await open();
});
afterAll(() => device?.destroy());

const of = (data: engine.Numbers, shape?: readonly number[]): Tensor => engine.tensor(device, data, shape);
const floats = async (fn: () => Tensor): Promise<number[]> => [...(await compute(() => [fn()]))[0]!.data];

describe('order', () => {
  const X = [3, NaN, -0, 0, -Infinity, 3, Infinity, -1, NaN, 0];
  it('is stable, takes 0 and -0 as equal and NaN as the largest, both ways', async () => {
    const key = (v: number): number => (Number.isNaN(v) ? 2 : v === Infinity ? 1.5 : Math.tanh(v));
    const places = X.map((_, i) => i);
    const rising = [...places].sort((a, b) => key(X[a]!) - key(X[b]!) || a - b);
    const falling = [...places].sort((a, b) => key(X[b]!) - key(X[a]!) || a - b);
    expect(await floats(() => engine.argsort(of(X)))).toEqual(rising);
    expect(await floats(() => engine.argsort(of(X), 0, { descending: true }))).toEqual(falling);
    expect(await floats(() => engine.sort(of(X)).values)).toEqual(rising.map((i) => X[i]!));
    expect(await floats(() => engine.topK(of(X), 3).indices)).toEqual(falling.slice(0, 3));
  });

  it('many rows, long rows, and a device of small bindings', async () => {
    const rows = normal([700, 9], 1);
    const want = Float32Array.from(
      Array.from({ length: 700 }, (_, r) =>
        [...rows.data.subarray(9 * r, 9 * r + 9)].sort((a, b) => a - b),
      ).flat(),
    );
    expectSameBits(Float32Array.from(await floats(() => engine.sort(upload(device, rows)).values)), want);
    const small = await open({ mask: { bindingBytes: 8192 } });
    const [got] = await compute(() => [engine.sort(upload(small, rows)).values]);
    expectSameBits(got!.data, want);
    const sums = await compute(() => [
      engine.cumsum(upload(small, rows)),
      engine.cumsum(upload(device, rows)),
    ]);
    expectSameBits(sums[0]!.data, sums[1]!.data);
    small.destroy();
    const long = normal([50_257], 2);
    const sorted = Float32Array.from(long.data).sort();
    expectSameBits(Float32Array.from(await floats(() => engine.sort(upload(device, long)).values)), sorted);
  });

  it('the smallest and largest along any axis, NaN first', async () => {
    const x = [
      [3, 1, 2],
      [0, NaN, 2],
    ];
    expect(await floats(() => engine.argmin(of(x), 0))).toEqual([1, 1, 0]);
    expect(await floats(() => engine.argmax(of(x), 0))).toEqual([0, 1, 0]);
    expect(await floats(() => engine.argmin(of(x)))).toEqual([1, 1]);
    expect(await floats(() => engine.min(of(x), 1))).toEqual([1, NaN]);
    expect(await floats(() => engine.argmax(of(5)))).toEqual([0]);
  });
});

describe('products', () => {
  it('have gradients beside zeros, and of nothing are 1', async () => {
    const gradient = (x: readonly number[]): Promise<number[]> =>
      floats(() => {
        const t = of(x).requireGrad();
        return engine.grad(engine.prod(t), [t])[0]!;
      });
    expect(await gradient([2, 0, 3, 5])).toEqual([0, 30, 0, 0]);
    expect(await gradient([2, 0, 3, 0, 4])).toEqual([0, 0, 0, 0, 0]);
    expect(await floats(() => engine.prod(of([], [0])))).toEqual([1]);
    expect(await floats(() => engine.prod(of([], [2, 0]), 1))).toEqual([1, 1]);
    expect(await floats(() => engine.prod(of([2, NaN, 0])))).toEqual([NaN]);
  });
  it('a variance of one has no answer, of a population 0', async () => {
    expect(await floats(() => engine.variance(of([4])))).toEqual([NaN]);
    expect(await floats(() => engine.variance(of([4]), undefined, { correction: 0 }))).toEqual([0]);
  });
});

describe('by index', () => {
  it('scatter keeps the last of several, as does its gradient', async () => {
    const [y, dx, dv] = await compute(() => {
      const x = of([1, 2, 3]).requireGrad();
      const v = of([10, 20, 30, 40]).requireGrad();
      const y = engine.scatter(x, [2, 0, 2, 2], v);
      const g = engine.grad(y, [x, v], { cotangent: of([1, 2, 3]) });
      return [y, ...g];
    });
    expect([...y!.data]).toEqual([20, 2, 40]);
    expect([...dx!.data]).toEqual([0, 2, 0]);
    expect([...dv!.data]).toEqual([0, 1, 0, 3]);
  });

  it('an index of the device outside is told at the next readback', async () => {
    const index = engine.toU32(of([0, 5]));
    await expect(engine.gather(of([1, 2, 3]), index).read()).rejects.toThrow(
      /gather: index 5 is outside 0..2/,
    );
    expect(() => engine.gather(of([1, 2, 3]), [3])).toThrow(/gather: index 3 is outside 0..2/);
    expect(() => engine.gather(of([1, 2, 3]), [-1])).toThrow(/gather: index -1 is outside 0..2/);
  });

  it('elements where a mask holds, with their gradient; none; and their places', async () => {
    const x = of([
      [1, 2, 3],
      [4, 5, 6],
    ]).requireGrad();
    const mask = engine.greater(x, 2.5);
    const chosen = await engine.maskedSelect(x, mask);
    expect([...(await chosen.read())]).toEqual([3, 4, 5, 6]);
    const [g] = engine.grad(engine.sum(engine.square(chosen)), [x]);
    expect([...(await g!.read())]).toEqual([0, 0, 6, 8, 10, 12]);
    const rows = await engine.maskedSelect(x, of([0, NaN]));
    expect([rows.shape, [...(await rows.read())]]).toEqual([
      [1, 3],
      [4, 5, 6],
    ]);
    expect((await engine.maskedSelect(x, engine.zeros(device, [2, 3]))).shape).toEqual([0]);
    const places = await engine.nonzero(mask);
    expect([places.shape, [...(await places.readIntegers())]]).toEqual([
      [4, 2],
      [0, 2, 1, 0, 1, 1, 1, 2],
    ]);
    await expect(engine.maskedSelect(x, of([1, 1, 1]))).rejects.toThrow(/mask \[3\] for \[2, 3\]/);
  });
});

describe('counted out', () => {
  it('ranges, the identity, one place of several', async () => {
    expect(await floats(() => engine.arange(device, 4))).toEqual([0, 1, 2, 3]);
    expect(await floats(() => engine.arange(device, 1, 2, 0.25))).toEqual([1, 1.25, 1.5, 1.75]);
    expect(await floats(() => engine.arange(device, 3, 0, -2))).toEqual([3, 1]);
    expect(await floats(() => engine.arange(device, 3, 0))).toEqual([]);
    expect(await floats(() => engine.linspace(device, 0, 1, 5))).toEqual([0, 0.25, 0.5, 0.75, 1]);
    expect(await floats(() => engine.linspace(device, 2, 9, 1))).toEqual([2]);
    expect(await floats(() => engine.eye(device, 2, 3))).toEqual([1, 0, 0, 0, 1, 0]);
    expect(await floats(() => engine.oneHot(engine.integers(device, [[2], [0]]), 3))).toEqual([
      0, 0, 1, 1, 0, 0,
    ]);
    expect(engine.oneHot(engine.integers(device, [[2], [0]]), 3).shape).toEqual([2, 1, 3]);
    // Without losing the last digits of an integer.
    expect(await floats(() => engine.oneHot(engine.integers(device, [16777217]), 4))).toEqual([0, 0, 0, 0]);
  });
  it('integers are taken apart and turned round, too', async () => {
    const x = engine.integers(device, [1, 2, 3, 4294967295]);
    expect([...(await engine.flip(x).readIntegers())]).toEqual([4294967295, 3, 2, 1]);
    expect([...(await engine.split(x, 3)[1]!.readIntegers())]).toEqual([4294967295]);
  });
});

it('steps over what lies in several buffers', async () => {
  const small = await open({ mask: { bindingBytes: 4096 } });
  const x = normal([129, 40], 3);
  const cut = (on: Device): Tensor => engine.slice(upload(on, x), [null, -1], [null, 3], [-2, -3]);
  const [a, b] = [await compute(() => [cut(small)]), await compute(() => [cut(device)])];
  expectSameBits(a[0]!.data, b[0]!.data);
  small.destroy();
});

it('rows beyond the 65,535 workgroups of one axis', async () => {
  const rows = 70_001;
  const [sums, top] = await compute(() => {
    const x = engine.full(device, [rows, 2], 1);
    return [engine.cumsum(x), engine.topK(engine.cumsum(x), 1).indices];
  });
  expect(sums!.data.every((v, i) => v === 1 + (i % 2))).toBe(true);
  expect(top!.data.every((v) => v === 1)).toBe(true);
});

it('says what does not fit', () => {
  const x = (): Tensor => of([1, 2, 3, 4, 5, 6], [2, 3]);
  const wrong: [() => unknown, RegExp][] = [
    [() => engine.min(of([], [0])), /^min: no elements to compare in \[0\]/],
    [() => engine.prod(x(), 2), /^prod: axes \[2\] of \[2, 3\]/],
    [
      () => engine.variance(x(), 0, { unbiased: false } as never),
      /there is no option 'unbiased'; did you mean 'correction'/,
    ],
    [() => engine.cumsum(x(), 2), /^cumsum: no axis 2 in \[2, 3\]/],
    [() => engine.topK(x(), 4), /^topK: 4 of 3 elements along axis -1 of \[2, 3\]/],
    [() => engine.sort(x(), 0, { reverse: true } as never), /^sort: there is no option 'reverse'/],
    [() => engine.gather(x(), [0]), /^gather: index \[1\] for \[2, 3\] along axis 1/],
    [() => engine.gather(x(), of([[1], [0]])), /^gather: needs a u32 index, got f32; toU32\(\) makes it one/],
    [() => engine.scatter(x(), [[0], [1]], of([1])), /^scatter: values \[1\] for index \[2, 1\]/],
    [() => engine.split(x(), [1, 1], 1), /^split: parts \[1, 1\] of 3 elements along axis 1/],
    [() => engine.split(x(), 0), /^split: parts of no elements/],
    [() => engine.stack([x(), of([1])]), /^stack: \[2, 3\] and \[1\]/],
    [() => engine.squeeze(x(), 0), /^squeeze: axis 0 of \[2, 3\] has 2 elements/],
    [() => engine.unsqueeze(x(), 4), /^unsqueeze: no place 4/],
    [() => engine.slice(x(), [-3], [2]), /^slice: \[-3\] to \[2\] of \[2, 3\]/],
    [() => engine.slice(x(), [], [], [0]), /^slice: \[\] to \[\] by \[0\] of \[2, 3\]/],
    [() => engine.slice(x(), ['a'] as never, []), /^slice: begin\[0\] is 'a', expected a number or null/],
    [() => engine.tril(of([1])), /^tril: \[1\] has no two axes/],
    [() => engine.arange(device, 0, 1, 0), /^arange: 0 to 1 by 0 has no end/],
    [() => engine.oneHot(of([1]), 2), /^oneHot: needs u32, got f32/],
    [() => engine.einsum('ij,jk->ik', x()), /^einsum: 'ij,jk->ik': 2 operands, but 1 tensor given/],
    [() => engine.einsum('ij,jk->ik', x(), x()), /^einsum: 'ij,jk->ik': j is 3 and 2/],
    [() => engine.einsum('ijk->i', x()), /^einsum: 'ijk' of 'ijk->i' for \[2, 3\]/],
    [() => engine.einsum('ij->z', x()), /^einsum: 'ij->z': no operand has the result's 'z'/],
    [() => engine.einsum('ij->ii', x()), /^einsum: 'ij->ii': the result has a letter twice/],
    [() => engine.conv1d(x(), x()), /^conv1d: x \[2, 3\], weight \[2, 3\]/],
    [
      () => engine.conv2d(of([1], [1, 1, 1, 1]), of([1, 2], [1, 1, 1, 2])),
      /^conv2d: windows of \[1, 2\] over \[1, 1, 1, 1\]/,
    ],
    [() => engine.maxPool2d(x(), 2), /^maxPool2d: x \[2, 3\], expected \[N, C, H, W\]/],
    [() => engine.einsum('i?', x()), /^einsum: 'i\?': expected letters/],
  ];
  for (const [call, message] of wrong) expect(call).toThrow(message);
});
