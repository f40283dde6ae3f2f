/**
 * The matrix product for narrow subgroups against the plain one, bit for bit, and against float64, on odd shapes. Skipped
 * where the adapter's subgroups are wide or of varying size.
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Device, lanesTiling, linear, matmul, openDevice, scope, tensor } from '../../engine/index.ts';
import { normal } from './support.ts';

let lanes: Device;
let plain: Device;
beforeAll(async () => {
  lanes = await openDevice();
  plain = await openDevice({ mask: { subgroups: false } });
});
afterAll(() => {
  lanes?.destroy();
  plain?.destroy();
});

type Flags = { transA: boolean; transB: boolean };

/** op(a) op(b), or the linear layer of a and b with a bias, on one device. */
async function product(
  device: Device,
  [m, n, k]: number[],
  { transA, transB }: Flags,
  batch: number[],
  bias: boolean,
) {
  const shape = (rows: number, columns: number): number[] => [...batch, rows, columns];
  const size = (s: number[]): number => s.reduce((x, y) => x * y, 1);
  const [left, right] = [transA ? shape(k!, m!) : shape(m!, k!), transB ? shape(n!, k!) : shape(k!, n!)];
  const host = { a: normal(left, 1).data, b: normal(right, 2).data, s: normal([n!], 3).data };
  const y = scope(() => {
    const [a, b] = [tensor(device, host.a, left), tensor(device, host.b, right)];
    expect(a.size).toBe(size(left));
    return bias ? linear(a, b, tensor(device, host.s)) : matmul(a, b, { transA, transB });
  });
  const data = await y.read();
  y.dispose();
  return { data, host };
}

describe('the product for narrow subgroups', () => {
  const shapes = [
    [9, 37, 19],
    [17, 70, 29],
    [33, 16, 64],
    [67, 45, 13],
  ];
  for (const transA of [false, true])
    for (const transB of [false, true])
      it(`equals the plain product, transA ${transA}, transB ${transB}`, async ({ skip }) => {
        skip(!lanesTiling(16, 64, lanes.capabilities), 'subgroups of this adapter are wide');
        for (const batch of [[], [3]])
          for (const shape of shapes) {
            const [m, n, k] = shape as [number, number, number];
            const ours = await product(lanes, shape, { transA, transB }, batch, false);
            const theirs = await product(plain, shape, { transA, transB }, batch, false);
            expect(ours.data, `${shape} x ${batch}`).toEqual(theirs.data);
            const { a, b } = ours.host;
            for (let i = 0; i < m; i++)
              for (let j = 0; j < n; j++) {
                let sum = 0;
                for (let s = 0; s < k; s++)
                  sum += a[transA ? s * m + i : i * k + s]! * b[transB ? j * k + s : s * n + j]!;
                expect(Math.abs(ours.data[i * n + j]! - sum)).toBeLessThan(3e-5);
              }
          }
      });

  it('adds the bias as the plain one does', async ({ skip }) => {
    skip(!lanesTiling(16, 64, lanes.capabilities), 'subgroups of this adapter are wide');
    for (const shape of shapes) {
      const flags = { transA: false, transB: true };
      const ours = await product(lanes, shape, flags, [], true);
      const theirs = await product(plain, shape, flags, [], true);
      expect(ours.data).toEqual(theirs.data);
    }
  });
});
