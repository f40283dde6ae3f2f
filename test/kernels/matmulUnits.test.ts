/**
 * Matrix units. No adapter of these tests has them: the accuracy of their arithmetic is emulated, and so are they themselves, under
 * the kernels as they are (emulatedUnits.ts), against float64. Where an adapter has them, products of its own; elsewhere, the refusal.
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { convert, type Device, grad, matmul, openDevice, type Tensor, tensor } from '../../engine/index.ts';
import { evenLayout, unitsCandidates } from '../../engine/matmulChoice.ts';
import type { Fusion } from '../../kernels/index.ts';
import {
  build,
  gelu,
  layerNorm,
  map,
  type Ref,
  ref,
  matmul as reference,
  reshape,
  silu,
  slice,
  zip,
} from '../engine/reference.ts';
import {
  compute,
  expectClose,
  expectSameBits,
  normal,
  open,
  random,
  uniform,
  upload,
} from '../engine/support.ts';
import { emulateUnits } from './emulatedUnits.ts';

/** Rounds to the nearest f16, ties to even; no overflow here. */
function f16(x: number): number {
  if (x === 0) return x;
  const step = 2 ** (Math.max(-14, Math.floor(Math.log2(Math.abs(x)))) - 10);
  const q = x / step;
  const down = Math.floor(q);
  const rest = q - down;
  const up = rest > 0.5 || (rest === 0.5 && down % 2 !== 0);
  return (up ? down + 1 : down) * step;
}

/** Largest errors of sums of k products by the three precisions against float64, over sqrt(k) times `scale` squared. */
function errors(k: number, scale: number): { f32: number; split: number; f16: number } {
  const worst = { f32: 0, split: 0, f16: 0 };
  for (let seed = 0; seed < 50; seed++) {
    const [a, b] = [normal([k], seed, scale).data, normal([k], 100 + seed, scale).data];
    let [exact, f32, main, small, half] = [0, 0, 0, 0, 0];
    for (let i = 0; i < k; i++) {
      const [x, y] = [a[i]!, b[i]!];
      const [xh, yh] = [f16(x), f16(y)];
      const [xl, yl] = [f16((x - xh) * 2048), f16((y - yh) * 2048)];
      exact += x * y;
      f32 = Math.fround(f32 + x * y);
      half = Math.fround(half + xh * yh);
      main = Math.fround(main + xh * yh);
      small = Math.fround(small + xh * yl);
      small = Math.fround(small + xl * yh);
    }
    const unit = Math.sqrt(k) * scale * scale;
    const split = Math.fround(main + small / 2048);
    worst.f32 = Math.max(worst.f32, Math.abs(f32 - exact) / unit);
    worst.split = Math.max(worst.split, Math.abs(split - exact) / unit);
    worst.f16 = Math.max(worst.f16, Math.abs(half - exact) / unit);
  }
  return worst;
}

describe('f16 factors', () => {
  it('are rounded as f16 is', () => {
    const cases = [1 + 2 ** -11, 1 + 3 * 2 ** -11, 65504, 2 ** -24, 1.5 * 2 ** -24, -0.1, 3e-5];
    expect(cases.map(f16)).toEqual([
      1,
      1 + 2 ** -9,
      65504,
      2 ** -24,
      2 ** -23,
      -0.0999755859375,
      503 * 2 ** -24,
    ]);
  });

  it.each([
    [768, 1],
    [3072, 0.02],
    [4096, 30],
  ])('split in two lose no more than f32 does: %i products of numbers about %f', (k, scale) => {
    const worst = errors(k, scale);
    expect(worst.split).toBeLessThan(3 * worst.f32);
    // What the split is for: rounded factors alone are hundreds of times worse.
    expect(worst.f16).toBeGreaterThan(100 * worst.split);
    expect(worst.f16).toBeLessThan(2e-3);
  });
});

const BOTH = [false, true] as const;
/** A driver on a CPU takes long to compile the largest. */
const PATIENCE = 600_000;

/** Whole numbers, whose products and sums are exact in every precision. */
const integers = (shape: readonly number[], seed: number): Ref =>
  map(uniform(shape, seed, -8, 8), Math.round);

interface Product {
  readonly a: Ref;
  readonly b: Ref;
  readonly transA?: boolean;
  readonly transB?: boolean;
  readonly weight?: 'f32' | 'f16';
  readonly precision?: 'f16' | 'split-f16';
  readonly fusion?: Partial<Fusion>;
  /** Other operands of the fusion: vectors, and matrices as C. */
  readonly vectors?: readonly Ref[];
  readonly extra?: Ref;
  readonly before?: Ref;
  /** Which of the kernels; all unless given. */
  readonly only?: RegExp;
}

/** Numbers before the first row of an operand, and between two of its rows. */
const FIRST = 64;
const GAP = 8;
const UNTOUCHED = 7.25;

/** A matrix within a larger buffer, whose other numbers are `around`. */
function within({ shape, data }: Ref, around: number): Ref {
  const [rows, width] = shape as [number, number];
  const all = new Float64Array(FIRST + rows * (width + GAP) + FIRST).fill(around);
  for (let i = 0; i < rows; i++) all.set(data.slice(i * width, (i + 1) * width), FIRST + i * (width + GAP));
  return ref([all.length], all);
}

/** The product by every kernel that may compute it, by its name; fails where one writes beside it. */
async function byAll(
  device: Device,
  { a, b, transA = false, transB = false, weight = 'f32', precision = 'f16', ...more }: Product,
): Promise<Map<string, Float32Array>> {
  const [m, k] = transA ? [a.shape[1]!, a.shape[0]!] : [a.shape[0]!, a.shape[1]!];
  const n = transB ? b.shape[0]! : b.shape[1]!;
  const [lda, ldb, ldc] = [a.shape[1]! + GAP, b.shape[1]! + GAP, n + GAP];
  const layout = {
    ...{ transA, transB, weight, vectorC: n % 4 === 0, tail: k % 4 !== 0 },
    vectorA: a.shape[1]! % 4 === 0,
    vectorB: b.shape[1]! % 4 === 0,
  };
  const fusion = { bias: false, accumulate: false, ...more.fusion };
  const params: Record<string, number> = {
    m,
    n,
    k,
    lda,
    ldb,
    ldc,
    a_first: FIRST,
    b_first: FIRST,
    c_first: FIRST,
  };
  const results = new Map<string, Float32Array>();
  for (const choice of unitsCandidates({ m, n, k, ldb }, precision, layout, device.capabilities)) {
    if (more.only?.test(choice.name) === false) continue;
    const kernel = choice.kernel(fusion);
    const held: Tensor[] = [within(a, Number.NaN), within(b, Number.NaN)].map((t) => upload(device, t));
    if (weight === 'f16') held[1] = convert(held[1]!, 'f16');
    for (const t of more.vectors ?? []) held.push(upload(device, t));
    if (more.extra) held.push(upload(device, within(more.extra, Number.NaN)));
    const c = upload(device, within(more.before ?? ref([m, n], Array(m * n).fill(UNTOUCHED)), UNTOUCHED));
    device.dispatch(
      kernel,
      [...held, c].map((t) => t.storage.window()),
      Object.keys(kernel.params).map((name) => params[name] ?? 0),
      [Math.ceil(n / choice.columns), Math.ceil(m / choice.rows), 1],
    );
    const all = await c.read();
    const y = new Float32Array(m * n);
    for (let i = 0; i < m; i++) {
      const at = FIRST + i * ldc;
      y.set(all.subarray(at, at + n), i * n);
      all.fill(UNTOUCHED, at, at + n);
    }
    expect(
      all.every((v) => v === UNTOUCHED),
      `${choice.name} writes beside C`,
    ).toBe(true);
    results.set(choice.name, y);
    for (const t of [...held, c]) t.dispose();
  }
  return results;
}

describe('on emulated units', () => {
  let device: Device;
  beforeAll(async () => {
    device = await open();
    emulateUnits(device, { m: 16, n: 16, k: 16 }, 64);
  });
  afterAll(() => device?.destroy());

  const LAYOUTS = BOTH.flatMap((transA) =>
    BOTH.map((transB) => [`${transA ? 'A^T' : 'A'} ${transB ? 'B^T' : 'B'}`, transA, transB] as const),
  );
  /** An edge of no quads, one of quads, and with a wide load of f16 whole blocks. */
  const CASES = [
    [37, 43, 41, 'f32', /32x32/],
    [36, 44, 68, 'f32', /32x32/],
    [36, 44, 68, 'f16', /32x32/],
    [64, 64, 72, 'f16', /64x64/],
  ] as const;

  it.each(LAYOUTS)(
    '%s is exact where f16 has the factors, whatever lies around them',
    async (_, transA, transB) => {
      for (const [m, n, k, weight, only] of CASES) {
        if (only.source === '64x64' && transA) continue;
        const a = integers(transA ? [k, m] : [m, k], 1);
        const b = integers(transB ? [n, k] : [k, n], 2);
        const want = Float32Array.from(reference(a, b, transA, transB).data, (v) => v + 0);
        for (const precision of m < 64 ? (['f16', 'split-f16'] as const) : (['f16'] as const)) {
          const results = await byAll(device, { a, b, transA, transB, weight, precision, only });
          expect(results.size).toBe(1);
          for (const [name, got] of results)
            expectSameBits(got, want, `${name} ${weight} ${m} x ${n} x ${k}`);
        }
      }
    },
    PATIENCE,
  );

  it.each([
    ['f16', 2e-3],
    ['split-f16', 3e-6],
  ] as const)(
    'in %s all blocks give a row the same bits, alone and among others',
    async (precision, tolerance) => {
      const [m, n, k] = [132, 136, 72];
      const [a, b] = [normal([m, k], 3), normal([n, k], 4)];
      const results = await byAll(device, { a, b, transB: true, precision });
      expect([...results.keys()].map((name) => name.split(' ').at(-1)).sort()).toEqual([
        '128x128',
        '128x64',
        '32x32',
        '64x64',
      ]);
      const [[, first]] = [...results] as [[string, Float32Array]];
      reference(a, b, false, true).data.forEach((want, i) => {
        expect(Math.abs(first[i]! - want)).toBeLessThan(tolerance * Math.sqrt(k));
      });
      for (const [name, got] of results) expectSameBits(got, first, name);
      const row = slice(a, [m - 1, 0], [m, k]);
      for (const [name, got] of await byAll(device, { a: row, b, transB: true, precision, only: /32x32/ }))
        expectSameBits(got, first.slice((m - 1) * n), `a row alone, ${name}`);
    },
    PATIENCE,
  );

  const [m, n, k] = [33, 36, 40];
  const product = { a: normal([m, k], 5), b: normal([n, k], 6), transB: true, only: /32x32/ } as const;
  const [bias, extra] = [normal([n], 7), normal([m, n], 8)];
  const linear = build(
    [m, n],
    ([i, j]) => reference(product.a, product.b, false, true).data[i! * n + j!]! + bias.data[j!]!,
  );

  it.each([
    [
      'a residual',
      { bias: true, epilogue: 'add' },
      { vectors: [bias], extra },
      zip(linear, extra, (y, r) => y + r),
    ],
    ['an activation', { bias: true, epilogue: 'gelu' }, { vectors: [bias] }, map(linear, gelu)],
    [
      'a gate',
      { bias: true, epilogue: 'swiglu' },
      { vectors: [bias], extra },
      zip(linear, extra, (y, g) => silu(g) * y),
    ],
    [
      'an earlier window of K',
      { accumulate: true },
      { before: extra },
      zip(reference(product.a, product.b, false, true), extra, (y, c) => y + c),
    ],
  ] as const)(
    'sums are finished by %s',
    async (_, fusion, more, want) => {
      for (const [name, got] of await byAll(device, { ...product, ...more, fusion, precision: 'split-f16' }))
        expectClose(got, want.data, { ulps: 64, floor: 8 }, name);
    },
    PATIENCE,
  );

  it.each([40, 37])(
    'rows of %i numbers are normalised as they are loaded',
    async (k) => {
      const [a, b, weight, shift] = [normal([m, k], 9), normal([n, k], 10), normal([k], 11), normal([k], 12)];
      const statistics = build([m, 2], ([i, j]) => {
        const row = a.data.slice(i! * k, (i! + 1) * k);
        const mean = row.reduce((x, y) => x + y, 0) / k;
        const variance = row.reduce((x, y) => x + (y - mean) ** 2, 0) / k;
        return Math.fround(j === 0 ? mean : 1 / Math.sqrt(variance + 1e-5));
      });
      const want = reference(layerNorm(a, weight, shift, 1e-5), b, false, true).data;
      const vectors = [statistics, weight, shift];
      const given = { a, b, transB: true, only: /32x32/, precision: 'split-f16', vectors } as const;
      for (const [name, got] of await byAll(device, { ...given, fusion: { prologue: 'layer' } }))
        expectClose(got, want, { ulps: 64, floor: 8 }, name);
    },
    PATIENCE,
  );

  it(
    'gradients go by the units, too',
    async () => {
      const [x, w, dy] = [normal([2, 18, 68], 13), normal([44, 68], 14), normal([2, 18, 44], 15)];
      const names: string[] = [];
      const { dispatch } = device;
      Object.assign(device, {
        dispatch: (...args: Parameters<typeof dispatch>) => {
          names.push(args[0].name);
          dispatch(...args);
        },
      });
      const results = await compute(() => {
        const [u, v] = [upload(device, x).requireGrad(), upload(device, w).requireGrad()];
        const y = matmul(u, v, { transB: true, precision: 'split-f16' });
        return [y, ...grad(y, [u, v], { cotangent: upload(device, dy) })];
      });
      Object.assign(device, { dispatch });
      const products = names.filter((name) => name.startsWith('matmul.'));
      expect(products).toHaveLength(3);
      for (const name of products) expect(name).toMatch(/^matmul\.units\.split\./);
      const [rows, cotangent] = [reshape(x, [36, 68]), reshape(dy, [36, 44])];
      const wants = [
        reference(rows, w, false, true),
        reference(cotangent, w),
        reference(cotangent, rows, true),
      ];
      results.forEach(({ data }, i) => {
        expectClose(data, wants[i]!.data, { ulps: 64, floor: 8 }, ['y', 'dx', 'dw'][i]);
      });
    },
    PATIENCE,
  );

  it('takes weights in f16 as they are, and refuses those that f16 has not', async () => {
    using x = upload(device, normal([2, 36, 68], 16));
    using w = convert(upload(device, normal([44, 68], 17)), 'bf16');
    expect(() => matmul(x, w, { transB: true, precision: 'f16' })).toThrow(
      'precision f16 needs f32 or f16 operands, got bf16',
    );
  });
});

describe('the block of a product on matrix units', () => {
  const CAPABILITIES = {
    ...{
      f16: true,
      subgroups: true,
      subgroupSize: 64,
      subgroupSizeFixed: true,
      immediates: true,
      timestamps: true,
    },
    ...{
      matrixUnit: { m: 16, n: 16, k: 16 },
      fewRegisters: false,
      fewProcessors: false,
      halves: false,
      textureSide: 0,
    },
    ...{
      bindingBytes: 2 ** 31,
      bufferBytes: 2 ** 31,
      storageBuffers: 8,
      invocations: 256,
      workgroupBytes: 32768,
    },
  };
  const blocks = (
    m: number,
    n: number,
    split = false,
    changes: Partial<typeof CAPABILITIES> = {},
  ): string[] =>
    unitsCandidates({ m, n, k: 768 }, split ? 'split-f16' : 'f16', evenLayout(m, false, true, 'f32'), {
      ...CAPABILITIES,
      ...changes,
    }).map(({ name }) => name.split(' ').at(-1)!);

  it('is the largest that fills the device', () => {
    expect(blocks(4096, 4096)[0]).toBe('128x128');
    expect(blocks(1024, 2048)[0]).toBe('128x64');
    expect(blocks(512, 768)[0]).toBe('64x64');
    expect(blocks(16, 30522)[0]).toBe('32x32');
    expect(blocks(4096, 4096)).toHaveLength(4);
  });

  it('fits into workgroup memory and registers', () => {
    expect(blocks(4096, 4096, false, { workgroupBytes: 16384 })).toEqual(['64x64', '32x32']);
    // Two sums for each number, of 32 lanes.
    expect(blocks(4096, 4096, true, { subgroupSize: 32 })[0]).toBe('128x64');
    expect(blocks(4096, 4096, false, { fewRegisters: true, subgroupSize: 16 })).toEqual(['32x32']);
    expect(() => blocks(64, 64, false, { workgroupBytes: 1024 })).toThrow('finds no block that fits');
  });
});

describe('a product on matrix units', () => {
  it('is refused where the device has none, and right where it has', async () => {
    const device = await openDevice({ toggles: ['allow_unsafe_apis'] });
    try {
      const [m, n, k] = [37, 75, 41];
      const next = random(1);
      const numbers = (count: number) => Float32Array.from({ length: count }, () => next() - 0.5);
      const [a, b] = [numbers(m * k), numbers(n * k)];
      using x = tensor(device, a, [m, k]);
      using w = tensor(device, b, [n, k]);
      for (const [precision, tolerance] of [
        ['split-f16', 1e-6],
        ['f16', 1e-3],
      ] as const) {
        const multiply = () => matmul(x, w, { transB: true, precision });
        if (!device.capabilities.matrixUnit) {
          expect(multiply).toThrow(/precision .* needs matrix units/);
          continue;
        }
        using y = multiply();
        const got = await y.read();
        for (let i = 0; i < m; i++)
          for (let j = 0; j < n; j++) {
            let sum = 0;
            for (let s = 0; s < k; s++) sum += a[i * k + s]! * b[j * k + s]!;
            expect(Math.abs(got[i * n + j]! - sum)).toBeLessThan(tolerance * Math.sqrt(k));
          }
      }
    } finally {
      device.destroy();
    }
  });

  it('cannot be had through a mask', async () => {
    const device = await openDevice({ toggles: ['allow_unsafe_apis'], mask: { matrixUnit: null } });
    try {
      expect(device.capabilities.matrixUnit).toBeNull();
      expect(device.features.has('chromium-experimental-subgroup-matrix')).toBe(false);
    } finally {
      device.destroy();
    }
  });
});
