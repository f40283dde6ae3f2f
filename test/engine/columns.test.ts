/**
 * Reductions down columns, by lanes that join and by slices: against float64, against one chain a column, and the gradients
 * of weight and bias of norms, which are such sums, against their twin in primitives.
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { columnShare } from '../../engine/columnShare.ts';
import {
  type Device,
  full,
  grad,
  layerNorm,
  max,
  mul,
  noGrad,
  rmsNorm,
  standardiseTwin,
  sum,
  type Tensor,
} from '../../engine/index.ts';
import * as reference from './reference.ts';
import {
  compute,
  expectClose,
  expectSameBits,
  heldBytes,
  NARROW,
  normal,
  open,
  upload,
  WIDE,
} from './support.ts';

let wide: Device;
let narrow: Device;
let split: Device;
beforeAll(async () => {
  // Wide subgroups stand for a GPU, which such sums have to fill.
  wide = await open({ mask: WIDE });
  narrow = await open({ mask: NARROW });
  split = await open({ mask: { ...WIDE, bindingBytes: 2 ** 19 } });
});
afterAll(() => {
  for (const device of [wide, narrow, split]) device?.destroy();
});

/** A driver on a CPU takes seconds to compile each kernel. */
const PATIENCE = 600_000;

const SHAPES = [
  [1, 5],
  [7, 5],
  [9, 8],
  [130, 33],
  [1000, 3],
  [1030, 12],
  [513, 768],
  [5000, 129],
] as const;

/** Sums of each slice in float32, one row after the other, then over the slices. */
function chain(x: reference.Ref, slice: number): Float32Array {
  const [rows, columns] = x.shape as [number, number];
  const sums = new Float32Array(columns);
  for (let begin = 0; begin < rows; begin += slice) {
    const part = new Float32Array(columns);
    for (let r = begin; r < Math.min(begin + slice, rows); r++)
      for (let i = 0; i < columns; i++) part[i]! += x.data[r * columns + i]!;
    for (let i = 0; i < columns; i++) sums[i]! += part[i]!;
  }
  return sums;
}

describe.each(SHAPES)('of %i rows of %i', { timeout: PATIENCE }, (rows, columns) => {
  const x = normal([rows, columns], 1);

  it('sums are those of float64 and of one chain, the same in every run', async () => {
    const on = async (device: Device) => (await compute(() => [sum(upload(device, x), 0)]))[0]!.data;
    const want = reference.sum(x, [0]).data;
    const [joined, again, walked, cut] = [await on(wide), await on(wide), await on(narrow), await on(split)];
    // Roundings of partial sums of about sqrt(rows).
    const tolerance = { ulps: 4, floor: Math.sqrt(rows) };
    expectClose(joined, want, tolerance, 'float64');
    expectClose(cut, want, tolerance, 'split');
    expectSameBits(joined, again);
    const { rowLanes, slice } = columnShare(rows, columns, narrow.capabilities);
    expect(rowLanes).toBe(1);
    expectSameBits(walked, chain(x, slice), 'narrow');
    expectClose(joined, walked, { ulps: 1, floor: rows }, 'one chain');
  });

  it('a column is the same among fewer columns, and a matrix alone or in a batch', async () => {
    for (const device of [wide, narrow]) {
      const few = reference.slice(x, [0, 0], [rows, 3]);
      const batch = reference.concat(
        [normal([1, rows, columns], 2), reference.reshape(x, [1, rows, columns])],
        0,
      );
      const [whole, some, both] = await compute(() => [
        sum(upload(device, x), 0),
        sum(upload(device, few), 0),
        sum(upload(device, batch), 1),
      ]);
      expectSameBits(some!.data, whole!.data.slice(0, 3), 'fewer columns');
      expectSameBits(both!.data.slice(columns), whole!.data, 'in a batch');
    }
  });

  it('maxima are exact', async () => {
    const below = reference.map(x, (v) => v - 100);
    for (const device of [wide, narrow, split]) {
      const [y] = await compute(() => [max(upload(device, below), 0)]);
      expectClose(y!.data, reference.max(below, [0]).data.map(Math.fround), { ulps: 0 });
    }
  });

  it.each(['layer', 'rms'] as const)('gradients of weight and bias of a %s norm', async (kind) => {
    const dy = normal([rows, columns], 3);
    const mean = (row: number): number => {
      let total = 0;
      if (kind === 'layer') for (let i = 0; i < columns; i++) total += x.data[row * columns + i]! / columns;
      return total;
    };
    const standard = reference.rows(x, (row, r) => {
      const deviation = row.map((v) => v - mean(r));
      const rstd = 1 / Math.sqrt(deviation.reduce((a, d) => a + (d * d) / columns, 0) + 1e-3);
      return deviation.map((d) => d * rstd);
    });
    const want = [
      reference.sum(
        reference.zip(dy, standard, (g, v) => g * v),
        [0],
      ),
      reference.sum(dy, [0]),
    ];
    for (const device of [wide, narrow, split]) {
      const [dWeight, dBias, twin] = await compute(() => {
        const input = upload(device, x);
        const cotangent = upload(device, dy);
        const [weight, bias] = [2, 3].map((value) => full(device, [columns], value).requireGrad()) as [
          Tensor,
          Tensor,
        ];
        const y = kind === 'layer' ? layerNorm(input, weight, bias, 1e-3) : rmsNorm(input, weight, 1e-3);
        const wanted = kind === 'layer' ? [weight, bias] : [weight];
        const [dWeight, dBias] = grad(y, wanted, { cotangent });
        const twin = noGrad(() => sum(mul(cotangent, standardiseTwin(kind, input, 1e-3)), 0));
        return [dWeight!, dBias ?? sum(cotangent, 0), twin];
      });
      // The same, and of the statistics.
      const tolerance = { ulps: 32, floor: Math.sqrt(rows) };
      expectClose(dWeight!.data, want[0]!.data, tolerance, 'weight');
      expectClose(dBias!.data, want[1]!.data, tolerance, 'bias');
      expectClose(dWeight!.data, twin!.data, tolerance, 'twin');
    }
  });
});

it('a norm of no rows has gradients 0', async () => {
  const results = await compute(() => {
    const [weight, bias] = [full(wide, [3], 2).requireGrad(), full(wide, [3], 1).requireGrad()];
    return grad(layerNorm(full(wide, [0, 3], 1), weight, bias, 1e-3), [weight, bias], {
      cotangent: full(wide, [0, 3], 1),
    });
  });
  for (const { data } of results) expect([...data]).toEqual([0, 0, 0]);
});

it('partial sums are freed', async () => {
  const before = heldBytes(wide);
  const x = normal([1030, 12], 1);
  await compute(() => {
    const weight = full(wide, [12], 1).requireGrad();
    const input = upload(wide, x);
    return [sum(input, 0), ...grad(rmsNorm(input, weight, 1e-3), [weight], { cotangent: input })];
  });
  expect(heldBytes(wide)).toBe(before);
});

it('slices cover all rows, of wide subgroups at most 128, which are then summed in one', () => {
  for (const subgroupSize of [8, 32])
    for (let rows = 1; rows < 3_000_000; rows += Math.ceil(rows / 7)) {
      const { slice, rowLanes } = columnShare(rows, 12, { subgroupSize });
      const slices = Math.ceil(rows / slice);
      expect(slice).toBeLessThanOrEqual(rows);
      // The second pass is far smaller than the first.
      if (slices > 1) expect(slice).toBeGreaterThanOrEqual(64);
      if (subgroupSize === 8) expect(rowLanes).toBe(1);
      else {
        expect(slices).toBeLessThanOrEqual(128);
        expect(rowLanes).toBe(rows > 8 ? 16 : 1);
        expect(Math.ceil(slices / columnShare(slices, 12, { subgroupSize }).slice)).toBe(1);
      }
    }
});
