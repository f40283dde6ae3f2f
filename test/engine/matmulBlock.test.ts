/** Products through workgroup memory where a device chooses them, and the choice between kernels (their bits: matmulOrder.test.ts). */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  candidates,
  convert,
  type Device,
  type DType,
  linear,
  matmul,
  reshape,
  slice,
} from '../../engine/index.ts';
import { TUNED_LAYOUT } from '../../engine/tune.ts';
import { compute, expectSameBits, normal, open, upload, WIDE } from './support.ts';

let device: Device;
beforeAll(async () => {
  // Wide subgroups, so that matmul() itself would take blocks; here the plain kernel is its comparison.
  device = await open({ mask: { subgroups: false } });
});
afterAll(() => device?.destroy());

/** A driver on a CPU takes a quarter of a minute to compile one of these. */
const PATIENCE = 600_000;

describe('a device with wide subgroups', () => {
  let wide: Device;
  beforeAll(async () => {
    wide = await open({ mask: WIDE });
  });
  afterAll(() => wide?.destroy());

  it(
    'multiplies by blocks, with the bits of tiles, biases and batches included',
    async () => {
      const [m, n, k] = [3, 70, 36];
      const [x, w, b] = [normal([2, m, k], 3), normal([2, n, k], 4), normal([n], 5)];
      const on = (d: Device) =>
        compute(() => {
          const [u, v, s] = [upload(d, x), upload(d, w), upload(d, b)];
          return [
            linear(slice(u, [1], [2]), reshape(slice(v, [0], [1]), [n, k]), s),
            matmul(u, v, { transB: true }),
          ];
        });
      const [ours, theirs] = [await on(wide), await on(device)];
      ours.forEach((y, i) => {
        expectSameBits(y.data, theirs[i]!.data, i === 0 ? 'linear' : 'batch');
      });
    },
    PATIENCE,
  );

  it(
    'reads every format of weights as tiles do',
    async () => {
      for (const dtype of ['f16', 'bf16', 'int8', 'int4'] satisfies DType[]) {
        const on = (d: Device) =>
          compute(() => [
            linear(upload(d, normal([3, 100], 6)), convert(upload(d, normal([70, 100], 7)), dtype)),
          ]);
        expectSameBits((await on(wide))[0]!.data, (await on(device))[0]!.data, dtype);
      }
    },
    PATIENCE,
  );
});

describe('candidates', () => {
  const names = (
    m: number,
    changes: Partial<Device['capabilities']>,
    more: Partial<typeof TUNED_LAYOUT> = {},
  ): string[] =>
    candidates(
      { m, n: 768, k: 768 },
      { ...TUNED_LAYOUT, ...more },
      { ...device.capabilities, ...changes },
    ).map((c) => c.name);

  it('are blocks before tiles on wide subgroups, tiles first on narrow ones', () => {
    const wide = { subgroupSize: 32, subgroups: true };
    expect(names(1, wide)).toEqual(['gemv 1x1 by 4', 'block 16x64 4x4', 'block 32x32 4x4', 'tiles 1x4']);
    expect(names(16, wide)[0]).toBe('gemv 4x1 by 4');
    // 48 blocks of 32 x 32 would leave most of a large GPU idle; 12 of 16 x 64 fill a small one.
    expect(names(64, wide)[0]).toBe('gemv 4x1 by 4');
    const small = { ...wide, fewProcessors: true };
    expect([8, 16, 64].map((m) => names(m, small)[0])).toEqual([
      'gemv 4x1 by 4',
      'block 16x64 4x4',
      'block 32x32 4x4',
    ]);
    expect(names(512, wide)).toEqual([
      'block 32x32 4x4',
      'block 16x64 4x4',
      'block 64x64 8x8',
      'block 64x64 8x4',
      'block 64x64 4x4',
      'block 128x128 8x8',
      'tiles 8x8',
    ]);
    // 22 x 12 blocks are more than twice a GPU's processors.
    expect(names(1400, wide)[0]).toBe('block 64x64 8x8');
    expect(names(1400, { ...wide, fewRegisters: true })[0]).toBe('block 64x64 4x4 few');
    expect(names(1, wide, { transB: false, weight: 'int4' })[0]).toBe('gemv 1x1 by 4');
    for (const layout of [
      { transA: true },
      { tail: true, vectorA: false },
      { transB: false, vectorC: false },
    ])
      expect(names(1, wide, layout).join()).not.toContain('gemv');
    expect(names(512, { subgroupSize: 8, subgroups: false })[0]).toBe('tiles 8x8');
    expect(names(512, { subgroupSize: 8, subgroups: true, subgroupSizeFixed: true })[0]).toBe('lanes 32x4');
  });
  it('are what the device can run', () => {
    expect(names(512, { subgroupSize: 32, workgroupBytes: 8192 })).not.toContain('block 128x128 8x8');
    expect(names(512, { subgroupSize: 32, invocations: 32 })).toEqual(['tiles 8x8']);
    expect(names(512, { subgroupSize: 32 }, { vectorA: false })).toEqual(['tiles 8x8']);
  });
});
