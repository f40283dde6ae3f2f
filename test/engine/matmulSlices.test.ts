/**
 * Products whose K workgroups share, chunk by chunk: against the same by workgroups that have K to themselves, bit for bit, and
 * against float64, on shapes that fill no chunk; their gradients; and which products they are.
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { convert, type Device, grad, linear, linearThen, matmul } from '../../engine/index.ts';
import { sharedChunks } from '../../engine/matmulChoice.ts';
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

describe('a shared K', () => {
  it.each([
    [5, 7, 1024, true, false],
    [1, 1, 1025, true, false],
    [12, 67, 1301, true, false],
    [36, 20, 4099, true, false],
    [8, 68, 1600, true, true],
    [1, 60, 1600, false, false],
    [3, 21, 1602, false, true],
  ])(
    'gives the bits of one that is not: [%i, %i] over %i, A^T %s, B^T %s',
    { timeout: PATIENCE },
    async (m, n, k, transA, transB) => {
      expect(sharedChunks({ m, n, k }, wide.capabilities)).toBe(Math.ceil(k / 256));
      expect(sharedChunks({ m, n, k }, narrow.capabilities)).toBe(0);
      const [a, b] = [normal(transA ? [k, m] : [m, k], 1), normal(transB ? [n, k] : [k, n], 2)];
      const on = async (device: Device) =>
        (await compute(() => [matmul(upload(device, a), upload(device, b), { transA, transB })]))[0]!;
      const [shared, alone] = [await on(wide), await on(narrow)];
      expect(shared.shape).toEqual([m, n]);
      expectSameBits(shared.data, alone.data);
      const sums = { ulps: 4, floor: 4 * Math.sqrt(k) };
      expectClose(shared.data, reference.matmul(a, b, transA, transB).data, sums, 'float64');
    },
  );

  it('in several rounds, where the sums of all chunks take too much', { timeout: PATIENCE }, async () => {
    const [m, n, k] = [512, 512, 4100];
    expect(sharedChunks({ m, n, k }, wide.capabilities)).toBe(16);
    const [a, b] = [normal([k, m], 1), normal([k, n], 2)];
    const on = async (device: Device) =>
      (await compute(() => [matmul(upload(device, a), upload(device, b), { transA: true })]))[0]!;
    expectSameBits((await on(wide)).data, (await on(narrow)).data);
  });

  it.each(['f32', 'bf16', 'int8', 'int4'] as const)(
    'of a linear layer with %s weights and what follows it',
    { timeout: PATIENCE },
    async (dtype) => {
      const [x, w, s, r] = [normal([3, 1312], 3), normal([20, 1312], 4), normal([20], 5), normal([3, 20], 6)];
      const on = (device: Device) =>
        compute(() => {
          const [u, bias, extra] = [x, s, r].map((t) => upload(device, t));
          const weight = convert(upload(device, w), dtype);
          return [linearThen(u!, weight, bias, { op: 'add', with: extra! })];
        });
      expectSameBits((await on(wide))[0]!.data, (await on(narrow))[0]!.data);
    },
  );

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

describe('which products share K', () => {
  it('long ones with few outputs, by as many chunks as their sums may take', () => {
    const of = (m: number, n: number, k: number): number => sharedChunks({ m, n, k }, wide.capabilities);
    expect([of(64, 64, 1024), of(64, 64, 4097), of(64, 64, 768)]).toEqual([4, 17, 0]);
    expect([of(512, 512, 4096), of(512, 512, 8192), of(512, 513, 4096)]).toEqual([16, 16, 0]);
  });
});
