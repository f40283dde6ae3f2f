/**
 * Products of few rows by invocations that share K: every form and format, on shapes that fill no chunk and no workgroup,
 * against the order of summation on the host; infinite weights beside what is summed; and who takes them.
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { candidates, convert, type Device, type Tensor, tensor, toF32 } from '../../engine/index.ts';
import { TUNED_LAYOUT } from '../../engine/tune.ts';
import { type Fusion, type MatmulGemvVariant, matmulGemv, type WeightFormat } from '../../kernels/index.ts';
import { gemvColumns, gemvPiece, gemvUnit } from '../../kernels/matmulGemv.ts';
import { storedRow } from '../../kernels/packing.ts';
import { expectInOrder } from './order.ts';
import { type Ref, ref } from './reference.ts';
import { compute, normal, open, upload, WIDE } from './support.ts';

let device: Device;
beforeAll(async () => {
  device = await open();
});
afterAll(() => device?.destroy());

/** A driver on a CPU takes seconds to compile some of these. */
const PATIENCE = 600_000;

const FORMATS: readonly WeightFormat[] = ['f32', 'f16', 'bf16', 'int8', 'int4'];
type Form = Pick<MatmulGemvVariant, 'tileM' | 'tileN' | 'lanes' | 'piece' | 'inSteps'>;

/** a [m, k] times the numbers `w` stored as `weight`, [n, k] or [k, n]. */
function multiply(
  form: Form & { readonly transB: boolean; readonly weight: WeightFormat },
  [m, n, k]: readonly [number, number, number],
  a: Tensor,
  w: Tensor,
  fusion: Fusion = { bias: false, accumulate: false },
): Tensor {
  const y = tensor(device, new Float32Array(m * n).fill(7), [m, n]);
  const { transB, weight, tileM } = form;
  device.dispatch(
    matmulGemv({ ...form, ...fusion }),
    [a, w, y].map((t) => t.storage.window()),
    [m, n, k, 0, 0, 0, k, storedRow(weight, transB ? k : n), n, 0, 0, 0, 0],
    [Math.ceil(m / tileM), Math.ceil(n / gemvColumns(form)), 1],
  );
  return y;
}

/** Forms by what differs in their text: rows, chunks side by side and one after the other, pieces. */
const ALONG_ROWS: readonly (readonly [Form, number, number])[] = [
  [{ tileM: 1, tileN: 2, lanes: 4, piece: 64 }, 1, 640],
  [{ tileM: 2, tileN: 1, lanes: 2, piece: 8 }, 2, 640],
  // In steps of half a group.
  [{ tileM: 2, tileN: 1, lanes: 2, piece: 64, inSteps: true }, 3, 640],
  [{ tileM: 4, tileN: 1, lanes: 16, piece: 16 }, 7, 640],
  [{ tileM: 4, tileN: 2, lanes: 1, piece: 32 }, 5, 128],
];
const ALONG_COLUMNS: readonly (readonly [Form, number, number])[] = [
  [{ tileM: 1, tileN: 1, lanes: 64, piece: 4 }, 1, 1604],
  [{ tileM: 2, tileN: 2, lanes: 2, piece: 4 }, 2, 604],
  [{ tileM: 4, tileN: 1, lanes: 4, piece: 8 }, 7, 608],
  [{ tileM: 2, tileN: 1, lanes: 1, piece: 4 }, 3, 252],
];

describe.each(FORMATS)('%s', (weight) => {
  it.each([
    ['rows of a B that is stored [N, K]', true, ALONG_ROWS],
    ['columns of a B that is stored [K, N]', false, ALONG_COLUMNS],
  ] as const)('by %s', { timeout: PATIENCE }, async (_, transB, forms) => {
    for (const [{ piece: short, ...rest }, m, k] of forms) {
      const piece = transB ? Math.max(short, gemvUnit(weight)) : short;
      // A driver on a CPU takes a minute to compile what GPUs take at once.
      if (rest.tileM * rest.tileN * piece > 256) continue;
      const form = { ...rest, piece };
      const n = transB ? 37 : 68;
      const [a, b] = [normal([m, k], 1), normal(transB ? [n, k] : [k, n], 2)];
      const [wide, y] = await compute(() => {
        const w = convert(upload(device, b), weight);
        return [toF32(w), multiply({ ...form, transB, weight }, [m, n, k], upload(device, a), w)];
      });
      const { tileM, tileN, lanes } = form;
      const name = `${tileM}x${tileN} by ${lanes}, ${piece} at once`;
      expectInOrder(new Map([[name, y!.data]]), a, ref(b.shape, wide!.data), { transB });
    }
  });
});

it('takes nothing from beside what it sums', { timeout: PATIENCE }, async () => {
  // Rows of A and B between others, all of them infinite; a NaN would be all that 0 times those could give.
  const [m, n, k] = [3, 5, 288];
  const edged = ({ shape: [rows, length], data }: Ref, width: number): Ref => {
    const out = new Float64Array((rows! + 8) * width).fill(Number.POSITIVE_INFINITY);
    for (let i = 0; i < rows!; i++) out.set(data.slice(i * length!, (i + 1) * length!), i * width);
    return ref([rows! + 8, width], out);
  };
  for (const transB of [true, false])
    for (const piece of [4, 16, 32]) {
      const [a, b] = [normal([m, k], 1), normal(transB ? [n, k] : [k, 8], 2)];
      const form = { transB, weight: 'f32', tileM: 4, tileN: 1, lanes: 4, piece } as const;
      const columns = transB ? n : 8;
      const [y] = await compute(() => {
        const out = tensor(device, new Float32Array(m * columns).fill(7), [m, columns]);
        device.dispatch(
          matmulGemv({ ...form, bias: false, accumulate: false }),
          [upload(device, edged(a, 2 * k)), upload(device, edged(b, 2 * b.shape[1]!)), out].map((t) =>
            t.storage.window(),
          ),
          [m, columns, k, 0, 0, 0, 2 * k, 2 * b.shape[1]!, columns, 0, 0, 0, 0],
          [1, 1, 1],
        );
        return [out];
      });
      expectInOrder(new Map([[`${piece} at once`, y!.data]]), a, b, { transB });
    }
});

it('keeps what infinite weights make', { timeout: PATIENCE }, async () => {
  const [m, n, k] = [1, 4, 320];
  const a = normal([m, k], 3);
  const b = normal([n, k], 4);
  // Read again by invocations whose chunk has ended.
  b.data[k - 1] = Number.POSITIVE_INFINITY;
  const form = { transB: true, weight: 'f32', tileM: 1, tileN: 1, lanes: 4, piece: 64 } as const;
  const [y] = await compute(() => [multiply(form, [m, n, k], upload(device, a), upload(device, b))]);
  expect(y!.data[0]).toBe(Math.sign(a.data[k - 1]!) * Number.POSITIVE_INFINITY);
  expect([...y!.data.slice(1)].every(Number.isFinite)).toBe(true);
});

it('reads pieces of whole 16-byte loads that K is a multiple of', () => {
  expect(FORMATS.map(gemvUnit)).toEqual([4, 8, 8, 128, 64]);
  const pieces = (k: number, loads: number, steps?: number, transB = true) =>
    FORMATS.map((weight) => gemvPiece({ transB, weight }, k, loads, steps));
  expect(pieces(1024, 16)).toEqual([64, 128, 128, 128, 256]);
  expect(pieces(1024, 8, 64)).toEqual([32, 64, 64, 128, 64]);
  expect(pieces(300, 16)).toEqual([4, null, null, null, null]);
  expect(pieces(604, 16, 256, false)).toEqual([4, 4, 4, 4, 4]);
  const form = { transB: true, weight: 'int4', tileM: 1, tileN: 1, lanes: 4, piece: 32 } as const;
  expect(() => matmulGemv({ ...form, bias: false, accumulate: false })).toThrow('a piece of 32 steps');
});

it('is for rows of weights that are whole 16-byte loads, also where a product has a part of their K', () => {
  const first = (weight: WeightFormat, k: number, ldb?: number): string =>
    candidates(
      { m: 1, n: 64, k, ...(ldb === undefined ? {} : { ldb }) },
      { ...TUNED_LAYOUT, weight },
      { ...device.capabilities, ...WIDE },
    )[0]!.name;
  const gemv = 'gemv 1x1 by 1';
  expect([first('f32', 36), first('f16', 40), first('int8', 128), first('int4', 64)]).toEqual(
    new Array(4).fill(gemv),
  );
  for (const name of [first('f16', 36), first('int8', 160), first('int4', 96), first('int8', 256, 1312)])
    expect(name).not.toContain('gemv');
});

it('reads as many weights at once as few registers hold', () => {
  const first = (weight: WeightFormat, k = 256): string =>
    candidates(
      { m: 4, n: 64, k },
      { ...TUNED_LAYOUT, weight },
      { ...device.capabilities, ...WIDE, fewRegisters: true },
    )[0]!.kernel({ bias: false, accumulate: false }).name;
  expect(FORMATS.map((weight) => first(weight))).toEqual([
    'matmul.gemv.f32.B.4x1.1x16',
    'matmul.gemv.f16.B.4x1.1x16',
    'matmul.gemv.bf16.B.4x1.1x16',
    'matmul.gemv.int8.B.2x1.1x128.steps',
    'matmul.gemv.int4.B.4x1.1x64',
  ]);
  expect(first('int4', 1280)).toBe('matmul.gemv.int4.B.2x1.8x64.steps');
});

it('holds as many rows as registers do', () => {
  const first = (k: number, fewRegisters: boolean): string =>
    candidates(
      { m: 5, n: 64, k },
      { ...TUNED_LAYOUT, transB: false },
      { ...device.capabilities, ...WIDE, fewRegisters },
    )[0]!.name;
  expect([first(256, true), first(512, true), first(256, false)]).toEqual([
    'gemv 2x1 by 1',
    'gemv 4x1 by 2',
    'gemv 4x1 by 1',
  ]);
});
