/**
 * Matrix products bit for bit: no tile, workgroup, load width or batch may change a single bit, and 16-bit weights are the
 * same numbers as their widened copies.
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type Device,
  linear,
  matmul,
  Storage,
  scope,
  slice,
  Tensor,
  tensor,
  tiling,
  toF32,
} from '../../engine/index.ts';
import { type MatmulVariant, matmul as matmulKernel } from '../../kernels/index.ts';
import { compute, expectSameBits, normal, open, upload } from './support.ts';

let device: Device;
beforeAll(async () => {
  device = await open();
});
afterAll(() => device?.destroy());

/** One product by a kernel of our choice. */
async function product(variant: MatmulVariant, m: number, n: number, k: number): Promise<Float32Array> {
  const [a, b] = [normal([m * k], 1), normal([k * n], 2)];
  const [got] = await compute(() => {
    const [u, v, y] = [upload(device, a), upload(device, b), tensor(device, new Float32Array(m * n).fill(7))];
    device.dispatch(
      matmulKernel(variant),
      [u!, v!, y!].map((t) => t.storage.window()),
      [m, n, k, 0, 0, 0, variant.transA ? m : k, variant.transB ? k : n, n, 0, 0, 0, 0],
      [Math.ceil(n / (variant.tileN * variant.groupN)), Math.ceil(m / (variant.tileM * variant.groupM)), 1],
    );
    return [y!];
  });
  return got!.data;
}

describe('tiles, workgroups and load widths', () => {
  const [m, n, k] = [20, 24, 12];
  for (const [transA, transB] of [
    [false, true],
    [true, false],
  ] as const)
    it(`give the same bits${transA ? ' for A^T' : ' for B^T'}`, async () => {
      const base: MatmulVariant = {
        transA,
        transB,
        vectorA: true,
        vectorB: true,
        vectorC: true,
        tail: false,
        tileM: 8,
        tileN: 8,
        groupM: 2,
        groupN: 8,
        bias: false,
        accumulate: false,
        weight: 'f32',
      };
      const want = await product(base, m, n, k);
      expect(want.every((v) => Number.isFinite(v) && v !== 7)).toBe(true);
      const others: Partial<MatmulVariant>[] = [
        { tileM: 1, tileN: 4 },
        { tileM: 2, tileN: 8 },
        { tileM: 4, tileN: 4, groupM: 1, groupN: 64 },
        { tileN: 4, groupM: 8, groupN: 8 },
        { vectorA: false },
        { vectorB: false, vectorC: false },
        { vectorA: false, vectorB: false, vectorC: false, tail: true, tileM: 4, tileN: 4 },
      ];
      for (const other of others)
        expectSameBits(await product({ ...base, ...other }, m, n, k), want, JSON.stringify(other));
    });

  it('are chosen within what every device can run', () => {
    for (const m of [1, 2, 3, 4, 5, 8, 9, 64, 65, 512, 4096, 1e6])
      for (const n of [1, 4, 7, 8, 65, 1024, 30522, 128256])
        for (const [subgroupSize, fewRegisters] of [4, 8, 32, 64, 128].flatMap((size) => [
          [size, false] as const,
          [size, true] as const,
        ])) {
          const { tileM, tileN, groupM, groupN } = tiling(m, n, { subgroupSize, fewRegisters });
          expect(groupM * groupN).toBeLessThanOrEqual(256);
          expect(Number.isInteger(groupN)).toBe(true);
          expect(Math.ceil(m / (tileM * groupM))).toBeLessThanOrEqual(65535);
          expect(Math.ceil(n / (tileN * groupN))).toBeLessThanOrEqual(65535);
        }
  });
});

describe('a row alone', () => {
  for (const transB of [false, true])
    it(`equals the same row in a batch${transB ? ' (B^T)' : ''}`, async () => {
      const rows = 11;
      const a = normal([rows, 36], 3);
      const b = normal(transB ? [20, 36] : [36, 20], 4);
      const [all, ...parts] = await compute(() => {
        const [u, v] = [upload(device, a), upload(device, b)];
        const part = (begin: number, end: number) => matmul(slice(u, [begin], [end]), v, { transB });
        return [matmul(u, v, { transB }), part(10, 11), part(3, 5), part(0, 4), part(2, 9)];
      });
      [
        [10, 11],
        [3, 5],
        [0, 4],
        [2, 9],
      ].forEach(([begin, end], i) => {
        expectSameBits(parts[i]!.data, all!.data.slice(begin! * 20, end! * 20), `rows ${begin}..${end}`);
      });
    });

  it('equals the same row under linear() with a bias', async () => {
    const [all, one] = await compute(() => {
      const [x, w, b] = [normal([9, 20], 5), normal([12, 20], 6), normal([12], 7)].map((t) =>
        upload(device, t),
      );
      return [linear(x!, w!, b!), linear(slice(x!, [4], [5]), w!, b!)];
    });
    expectSameBits(one!.data, all!.data.slice(48, 60));
  });
});

describe('long sums', () => {
  // Added one after another, 30,001 terms of one sign are off by some 1e-5 of their sum.
  const k = 30_001;
  const numbers = (count: number, seed: number) => normal([count], seed).data.map(Math.abs);
  it.each(['A B', 'A^T B'])(
    'of %s are as exact as short ones, and a row alone has the same bits',
    async (form) => {
      const transA = form === 'A^T B';
      const [a, b] = [numbers(3 * k, 8), numbers(k * 4, 9)];
      const [all, one] = await compute(() => {
        const u = tensor(device, a, transA ? [k, 3] : [3, k]);
        const v = tensor(device, b, [k, 4]);
        const alone = transA ? slice(u, [0, 1], [k, 2]) : slice(u, [1, 0], [2, k]);
        return [matmul(u, v, { transA }), matmul(alone, v, { transA })];
      });
      for (let row = 0; row < 3; row++)
        for (let column = 0; column < 4; column++) {
          let want = 0;
          for (let i = 0; i < k; i++) want += a[transA ? i * 3 + row : row * k + i]! * b[i * 4 + column]!;
          expect(Math.abs(all!.data[row * 4 + column]! / want - 1)).toBeLessThan(1.5e-6);
        }
      if (!transA) expectSameBits(one!.data, all!.data.slice(4, 8));
    },
  );
});

describe('16-bit weights', () => {
  // Every special number first: subnormals of both signs, zeros, infinities, the largest, then ordinary ones.
  const f16 = [
    0x0001, 0x8001, 0x03ff, 0x0000, 0x8000, 0x7bff, 0xfbff, 0x0400, 0x3c00, 0xbc00, 0x7c00, 0xfc00,
  ];
  const bf16 = [
    0x0001, 0x8001, 0x007f, 0x0000, 0x8000, 0x7f7f, 0xff7f, 0x0080, 0x3f80, 0xbf80, 0x7f80, 0xff80,
  ];
  const half = (format: 'f16' | 'bf16', words: readonly number[], shape: readonly number[]): Tensor => {
    const storage = new Storage(device, format, shape, 'weights', 'host');
    const bytes = new Uint8Array(Math.ceil(words.length / 2) * 4);
    new Uint16Array(bytes.buffer).set(words);
    device.queue.write(storage.segments[0]!.buffer, 0, bytes);
    return new Tensor(storage, shape);
  };
  const widened = (format: 'f16' | 'bf16', h: number): number => {
    if (format === 'bf16') {
      const view = new DataView(new ArrayBuffer(4));
      view.setUint32(0, h << 16);
      return view.getFloat32(0);
    }
    const sign = h & 0x8000 ? -1 : 1;
    const [exponent, fraction] = [(h >> 10) & 31, h & 0x3ff];
    if (exponent === 0) return sign * fraction * 2 ** -24;
    if (exponent === 31) return fraction === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
    return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
  };

  for (const format of ['f16', 'bf16'] as const) {
    const special = format === 'f16' ? f16 : bf16;
    it(`${format} widens exactly`, async () => {
      for (const words of [special, special.slice(0, 7), special.slice(0, 1)]) {
        const [wide] = await compute(() => [toF32(half(format, words, [words.length]))]);
        expectSameBits(
          wide!.data,
          Float32Array.from(words, (h) => widened(format, h)),
        );
      }
    });
    it(`${format} widens every finite number`, async () => {
      const words = Array.from({ length: 65536 }, (_, h) => h).filter((h) =>
        Number.isFinite(widened(format, h)),
      );
      const [wide] = await compute(() => [toF32(half(format, words, [words.length]))]);
      expectSameBits(
        wide!.data,
        Float32Array.from(words, (h) => widened(format, h)),
      );
    });
    for (const [transB, n, k] of [
      [true, 6, 12],
      [true, 6, 7],
      [false, 8, 5],
      [false, 5, 8],
    ] as const)
      it(`${format} weights ${transB ? `[${n}, ${k}]^T` : `[${k}, ${n}]`} give the bits of widened ones`, async () => {
        const words = Array.from({ length: n * k }, (_, i) =>
          i < 10
            ? special[i]!
            : format === 'f16'
              ? 0x3000 + ((i * 7919) % 3000)
              : 0x3e80 + ((i * 7919) % 500),
        );
        const shape = transB ? [n, k] : [k, n];
        const a = normal([5, k], 8);
        const [got, want, lost] = await compute(() => {
          const weight = half(format, words, shape);
          const wide = tensor(
            device,
            Float32Array.from(words, (h) => widened(format, h)),
            shape,
          );
          const x = upload(device, a);
          return [
            matmul(x, weight, { transB }),
            matmul(x, wide, { transB }),
            ...(transB ? [linear(x, weight)] : [matmul(x, weight)]),
          ];
        });
        expectSameBits(got!.data, want!.data);
        expectSameBits(lost!.data, want!.data);
        expect(want!.data.some((v) => v !== 0)).toBe(true);
      });
  }

  it('in bf16 have no gradient, but let one through to the activations', async () => {
    const words = Array.from({ length: 32 }, (_, i) => 0x3f00 + i * 8);
    const { grad } = await import('../../engine/index.ts');
    const results = await compute(() => {
      const w = half('bf16', words, [4, 8]);
      expect(() => w.requireGrad()).toThrow(/only f32 and f16 tensors have gradients, not bf16/);
      return [w, toF32(w)].flatMap((weight) => {
        const x = upload(device, normal([3, 8], 9)).requireGrad();
        return grad(linear(x, weight), [x], { cotangent: upload(device, normal([3, 4], 10)) });
      });
    });
    expectSameBits(results[0]!.data, results[1]!.data);
  });

  it('are scoped: what is widened on the way is freed', async () => {
    const { total, pooled } = device.memory;
    const before = total - pooled;
    scope(() => {
      matmul(upload(device, normal([3, 7], 1)), half('f16', new Array(35).fill(0x3c00), [5, 7]), {
        transB: true,
      });
    });
    expect(device.memory.total - device.memory.pooled).toBe(before);
  });
});
