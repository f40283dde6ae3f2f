/**
 * Rows added at their indices: the sum of each index's rows in order of position, bit for bit, whatever the block in which
 * positions are linked, where the indices come from and in how many buffers the table lies.
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Device, integers, scatterAddRows, slice, type Tensor } from '../../engine/index.ts';
import { compute, expectSameBits, normal, open, random, upload } from './support.ts';

const SIZE = 3000;

/** Sums in float32, one after the other. */
function inOrder(rows: Float32Array, index: readonly number[], width: number): Float32Array {
  const y = new Float32Array(SIZE * width);
  index.forEach((at, r) => {
    for (let i = 0; i < width; i++) y[at * width + i] = y[at * width + i]! + rows[r * width + i]!;
  });
  return y;
}

/** One index very often, as padding is, others a few times, near each other and far. */
function indices(count: number): number[] {
  const next = random(count);
  return Array.from({ length: count }, (_, r) =>
    r % 5 === 0 ? 17 : Math.floor(next() * (r % 2 === 0 ? SIZE : 1 + count / 3)),
  );
}

describe.each([
  ['wide subgroups', 1, { subgroupSize: 32 }],
  ['narrow subgroups', 1, { subgroupSize: 8 }],
  ['a table in several buffers', 3, { subgroupSize: 32, bindingBytes: 2 ** 14 }],
])('%s', (_, buffers, mask) => {
  let device: Device;
  beforeAll(async () => {
    device = await open({ mask: { subgroups: false, ...mask } });
  });
  afterAll(() => device?.destroy());

  it.each([
    [1, 4],
    [7, 3],
    [8, 4],
    [9, 1],
    [256, 3],
    [257, 4],
    [1000, 4],
  ])('%i rows of %i', async (count, width) => {
    const rows = normal([count, width], 1);
    const inside = indices(count);
    const x = Float32Array.from(rows.data);
    const [fromHost, onDevice, again] = await compute(() => {
      const add = (index: readonly number[] | Tensor) => scatterAddRows(upload(device, rows), index, SIZE);
      // A copy is made on the device, which alone knows it.
      const made = slice(integers(device, [...inside, 0]), [0], [count]);
      const sums = [add(inside), add(made), add(made)];
      for (const y of sums) expect(y.storage.segments.length).toBe(width === 1 ? 1 : buffers);
      return sums;
    });
    expectSameBits(fromHost!.data, inOrder(x, inside, width), 'from the host');
    expectSameBits(onDevice!.data, inOrder(x, inside, width), 'on the device');
    expectSameBits(again!.data, onDevice!.data, 'again');
  });
});
