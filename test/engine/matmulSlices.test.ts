/**
 * Split-K: products A^T B whose K is cut into slices, against float64 and against the product summed in one, on shapes
 * that fill no slice; their gradients; and which products are cut.
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Device, grad, linear, matmul } from '../../engine/index.ts';
import { sliceLength } from '../../engine/matmulChoice.ts';
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
beforeAll(async () => {
  // Wide subgroups stand for a GPU, whose idle processors are what slices are for.
  wide = await open({ mask: WIDE });
  narrow = await open({ mask: NARROW });
});
afterAll(() => {
  wide?.destroy();
  narrow?.destroy();
});

/** A driver on a CPU takes seconds to compile each kernel. */
const PATIENCE = 600_000;

describe('slices of K', () => {
  it.each([
    [5, 7, 1024],
    [1, 1, 1025],
    [12, 67, 1301],
    [36, 20, 4099],
    [8, 68, 5000],
  ])('of A^T [%i, %i] over %i rows give the sum', { timeout: PATIENCE }, async (m, n, k) => {
    expect(sliceLength({ m, n, k }, wide.capabilities)).toBeLessThan(k);
    expect(sliceLength({ m, n, k }, narrow.capabilities)).toBe(k);
    const [a, b] = [normal([k, m], 1), normal([k, n], 2)];
    const on = async (device: Device) =>
      (await compute(() => [matmul(upload(device, a), upload(device, b), { transA: true })]))[0]!;
    const [cut, again, whole] = [await on(wide), await on(wide), await on(narrow)];
    expect(cut.shape).toEqual([m, n]);
    expectSameBits(cut.data, again.data);
    const sums = { ulps: 4, floor: 4 * Math.sqrt(k) };
    expectClose(cut.data, reference.matmul(a, b, true, false).data, sums, 'float64');
    // One chain of k roundings, each of a sum of about sqrt(k): five standard deviations of its own error.
    expectClose(cut.data, whole.data, { ulps: 1, floor: k }, 'in one');
  });

  it('free their partial sums', async () => {
    const before = heldBytes(wide);
    await compute(() => [
      matmul(upload(wide, normal([1301, 12], 1)), upload(wide, normal([1301, 67], 2)), { transA: true }),
    ]);
    expect(heldBytes(wide)).toBe(before);
  });

  it('carry gradients, of a weight and through the product itself', { timeout: PATIENCE }, async () => {
    const [k, m, n] = [1301, 12, 67];
    const [a, b, dy] = [normal([k, m], 3), normal([k, n], 4), normal([m, n], 5)];
    const [w, cotangent] = [normal([n, m], 6), normal([k, n], 7)];
    const [dw, da, db] = await compute(() => {
      const [u, v, weight] = [a, b, w].map((t) => upload(wide, t).requireGrad());
      const y = matmul(u!, v!, { transA: true });
      return [
        ...grad(linear(upload(wide, a), weight!), [weight!], { cotangent: upload(wide, cotangent) }),
        ...grad(y, [u!, v!], { cotangent: upload(wide, dy) }),
      ];
    });
    const rows = { ulps: 4, floor: 4 * Math.sqrt(k) };
    expectClose(dw!.data, reference.matmul(cotangent, a, true, false).data, rows, 'weight');
    const inRows = { ulps: 4, floor: 4 * Math.sqrt(n) };
    expectClose(da!.data, reference.matmul(b, dy, false, true).data, inRows, 'a');
    expectClose(db!.data, reference.matmul(a, dy, false, false).data, inRows, 'b');
  });
});

describe('which products are cut', () => {
  it('long ones with few outputs, into at most 16 slices that begin where a binding may', () => {
    const of = (m: number, n: number, k: number): number => sliceLength({ m, n, k }, wide.capabilities);
    expect([of(64, 64, 1024), of(64, 64, 4096), of(64, 64, 8192)]).toEqual([256, 256, 512]);
    expect(of(64, 64, 1023)).toBe(1023);
    expect([of(512, 512, 4096), of(512, 513, 4096)]).toEqual([256, 4096]);
    for (let k = 1024; k < 100_000; k += 997) {
      expect(of(3, 5, k) % 64).toBe(0);
      expect(Math.ceil(k / of(3, 5, k))).toBeLessThanOrEqual(16);
    }
    const small = { ...wide.capabilities, bindingBytes: 2 ** 20 };
    expect(sliceLength({ m: 512, n: 512, k: 4096 }, small)).toBe(4096);
  });

  it('no others: rows have the bits of rows alone however long K is', { timeout: PATIENCE }, async () => {
    const [x, w] = [normal([5, 2048], 8), normal([6, 2048], 9)];
    const [batch, one] = await compute(() => [
      linear(upload(wide, x), upload(wide, w)),
      linear(upload(wide, reference.slice(x, [3, 0], [4, 2048])), upload(wide, w)),
    ]);
    expectSameBits(one!.data, batch!.data.slice(18, 24));
  });
});
