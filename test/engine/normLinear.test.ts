/**
 * A linear layer that normalises its rows as it loads them against the norm and the linear layer apart, bit for bit, in every
 * kernel that may run. Float64 and finite differences: the table of operations (cases.ts).
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  convert,
  type Device,
  type DType,
  linear,
  linearThen,
  normLinear,
  normStatistics,
  type RowNorm,
  rowNorm,
  type Then,
} from '../../engine/index.ts';
import { compute, expectSameBits, normal, open, upload, WIDE } from './support.ts';

/** A driver on a CPU takes up to a quarter of a minute to compile each. */
const PATIENCE = 600_000;
const KINDS = ['layer', 'layer_no_bias', 'rms', 'rms1'] as const;
const EPS = 1e-3;

function normOf(device: Device, kind: (typeof KINDS)[number], k: number): RowNorm {
  const [weight, bias] = [upload(device, normal([k], 5)), upload(device, normal([k], 6))];
  if (kind === 'layer') return { kind, weight, bias, eps: EPS };
  return { kind: kind === 'layer_no_bias' ? 'layer' : kind, weight, eps: EPS };
}

interface Shape {
  readonly sizes: readonly [m: number, n: number, k: number];
  readonly bias?: boolean;
  readonly op?: Then['op'];
  readonly weight?: DType;
}

/** Each path's kernels, on shapes that fill none of them. */
const PATHS = {
  'shuffles on narrow subgroups': {
    mask: {},
    kernel: /^matmul\.lanes/,
    shapes: [
      { sizes: [20, 67, 36], bias: true },
      { sizes: [67, 45, 13], op: 'add' },
    ],
  },
  'register tiles': {
    mask: { subgroups: false },
    kernel: /^matmul\.(f32|f16|int4)/,
    shapes: [
      { sizes: [20, 67, 36], bias: true, op: 'gelu' },
      { sizes: [3, 66, 30], op: 'swiglu' },
      { sizes: [1, 72, 40], bias: true },
      { sizes: [3, 40, 64], weight: 'f16' },
      { sizes: [2, 40, 64], weight: 'int4' },
    ],
  },
  'blocks through workgroup memory': {
    mask: WIDE,
    kernel: /^matmul\.block/,
    shapes: [
      { sizes: [70, 72, 40] },
      { sizes: [67, 67, 36], bias: true, op: 'add' },
      { sizes: [70, 68, 36], weight: 'int8' },
    ],
  },
  'invocations that share K': {
    mask: WIDE,
    kernel: /^matmul\.gemv/,
    shapes: [
      { sizes: [1, 72, 40] },
      { sizes: [17, 67, 300], bias: true, op: 'add' },
      { sizes: [3, 68, 320], weight: 'int4' },
    ],
  },
} as const satisfies Record<string, { mask: object; kernel: RegExp; shapes: readonly Shape[] }>;

describe.each(Object.entries(PATHS))('in %s', (_, path) => {
  let device: Device;
  beforeAll(async () => {
    device = await open({ mask: path.mask });
  });
  afterAll(() => device?.destroy());

  for (const kind of KINDS)
    for (const shape of path.shapes as readonly Shape[]) {
      const { sizes, bias = false, op = 'none', weight = 'f32' } = shape;
      const name = `${kind} norm, ${sizes.join(' x ')} ${weight}${bias ? ' with bias' : ''}, ${op}`;
      it(`${name}: the bits of the operations apart`, { timeout: PATIENCE }, async () => {
        const [m, n, k] = sizes;
        device.startProfiling();
        const [got, want] = await compute(() => {
          const x = upload(device, normal([m, k], 1, 2));
          const w = convert(upload(device, normal([n, k], 2)), weight);
          const s = bias ? upload(device, normal([n], 3)) : undefined;
          const then: Then =
            op === 'none' || op === 'gelu' ? { op } : { op, with: upload(device, normal([m, n], 4)) };
          const norm = normOf(device, kind, k);
          return [normLinear(x, norm, w, s, then), linearThen(rowNorm(x, norm), w, s, then)];
        });
        const kernels = (await device.stopProfiling()).map(({ kernel }) => kernel);
        expect(
          kernels.filter((name) => new RegExp(`\\.${kind}\\b`).test(name) && path.kernel.test(name)),
        ).toHaveLength(1);
        expect(want!.data.some((v) => v !== 0)).toBe(true);
        expect(got!.shape).toEqual([m, n]);
        expectSameBits(got!.data, want!.data, name);
      });
    }
});

describe('products that share statistics', () => {
  let device: Device;
  beforeAll(async () => {
    // Rows of 64 lie in buffers of 128 each.
    device = await open({ mask: { bindingBytes: 128 * 64 * 4 } });
  });
  afterAll(() => device?.destroy());

  for (const kind of KINDS)
    it(`${kind} norm: the same bits, rows in several buffers`, { timeout: PATIENCE }, async () => {
      const [shared, own, want, statistics] = await compute(() => {
        const [x, w] = [upload(device, normal([300, 64], 1)), upload(device, normal([20, 64], 2))];
        const norm = normOf(device, kind, 64);
        const statistics = normStatistics(x, norm.kind, EPS);
        expect(x.storage.segments.length).toBe(3);
        return [
          normLinear(x, { ...norm, statistics }, w),
          normLinear(x, norm, w),
          linear(rowNorm(x, norm), w),
          statistics,
        ];
      });
      expectSameBits(shared!.data, want!.data);
      expectSameBits(own!.data, want!.data);
      expect(statistics!.shape).toEqual([300, 2]);
      const x = normal([300, 64], 1).data.slice(299 * 64);
      const mean = kind.startsWith('layer') ? x.reduce((a, b) => a + b, 0) / 64 : 0;
      const variance = x.reduce((sum, v) => sum + (v - mean) ** 2, 0) / 64;
      expect(statistics!.data[598]).toBeCloseTo(mean, 6);
      expect(statistics!.data[599]).toBeCloseTo(1 / Math.sqrt(variance + EPS), 6);
    });

  it('refuse what does not fit, in one line', () => {
    const [x, w, short] = [normal([3, 8], 1), normal([4, 8], 2), normal([5], 3)].map((t) =>
      upload(device, t),
    );
    const weight = upload(device, normal([8], 4));
    expect(() => normLinear(x!, { kind: 'rms', weight: short!, eps: 0 }, w!)).toThrow(
      'normLinear: x f32 [3, 8] with f32 [5]',
    );
    const statistics = normStatistics(w!, 'rms', 0);
    expect(() => normLinear(x!, { kind: 'rms', weight, eps: 0, statistics }, w!)).toThrow(
      'normLinear: x f32 [3, 8] with f32 [8], f32 [4, 2]',
    );
  });
});
