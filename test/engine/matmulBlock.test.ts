/**
 * Products through workgroup memory: every block against the plain kernel, bit for bit, and against float64, on shapes
 * that fill no block, in every layout and weight format; and the choice between kernels.
 */

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
  tensor,
} from '../../engine/index.ts';
import { BLOCKS } from '../../engine/matmulChoice.ts';
import { TUNED_LAYOUT } from '../../engine/tune.ts';
import { matmulBlock } from '../../kernels/index.ts';
import * as reference from './reference.ts';
import { compute, expectClose, expectSameBits, normal, open, upload, WIDE } from './support.ts';

let device: Device;
beforeAll(async () => {
  // Wide subgroups, so that matmul() itself would take blocks; here the plain kernel is its comparison.
  device = await open({ mask: { subgroups: false } });
});
afterAll(() => device?.destroy());

/** A driver on a CPU takes a quarter of a minute to compile one of these. */
const PATIENCE = 600_000;

/** Each block in one layout, so that both ways of fetching an operand are met with small and with large tiles. */
const CASES = BLOCKS.map((block, i) => ({
  block,
  name: `${block.blockM}x${block.blockN}`,
  turned: i % 2 === 1,
}));

describe.each(CASES)('block $name', ({ block, turned }) => {
  it(
    'equals the plain product',
    async () => {
      const [transA, transB] = [turned, !turned];
      // The axes that are read four-wide are multiples of 4, the others of nothing.
      const [m, n, k] = turned ? [block.blockM + 4, 68, 37] : [block.blockM + 1, 67, 36];
      const a = normal(transA ? [k, m] : [m, k], 1);
      const b = normal(transB ? [n, k] : [k, n], 2);
      const [got, want] = await compute(() => {
        const [u, v] = [upload(device, a), upload(device, b)];
        const y = tensor(device, new Float32Array(m * n).fill(7), [m, n]);
        const plain = { weight: 'f32', bias: false, accumulate: false } as const;
        device.dispatch(
          matmulBlock({ transA, transB, vectorC: n % 4 === 0, ...plain, ...block }),
          [u, v, y].map((t) => t.storage.window()),
          [m, n, k, 0, 0, 0, transA ? m : k, transB ? k : n, n, 0, 0, 0, 0],
          [Math.ceil(n / block.blockN), Math.ceil(m / block.blockM), 1],
        );
        return [y, matmul(u, v, { transA, transB })];
      });
      expectSameBits(got!.data, want!.data);
      expectClose(got!.data, reference.matmul(a, b, transA, transB).data, {
        ulps: 2,
        floor: 4 * Math.sqrt(k),
      });
    },
    PATIENCE,
  );
});

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
    expect(names(1, wide)).toEqual(['block 4x64', 'tiles 1x4']);
    expect(names(16, wide)[0]).toBe('block 16x64');
    expect(names(512, wide)).toEqual(['block 64x64', 'block 16x64', 'block 128x128', 'tiles 8x8']);
    expect(names(512, { subgroupSize: 8, subgroups: false })[0]).toBe('tiles 8x8');
    expect(names(512, { subgroupSize: 8, subgroups: true, subgroupSizeFixed: true })[0]).toBe('lanes 32x4');
  });
  it('are what the device can run', () => {
    expect(names(512, { subgroupSize: 32, workgroupBytes: 8192 })).not.toContain('block 128x128');
    expect(names(512, { subgroupSize: 32, invocations: 32 })).toEqual(['tiles 8x8']);
    expect(names(512, { subgroupSize: 32 }, { vectorA: false })).toEqual(['tiles 8x8']);
  });
});
