/**
 * One order of summation: every kernel that can be chosen for a product gives the bits that the host works out, in all
 * transpositions and formats, on shapes that fill no tile and no chunk, in one go and with K in windows.
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  candidates,
  convert,
  type Device,
  type DType,
  empty,
  type Tensor,
  tensor,
  toF32,
} from '../../engine/index.ts';
import type { Choice, OperandLayout } from '../../engine/matmulChoice.ts';
import { type Fusion, matmulFold } from '../../kernels/index.ts';
import { storedRow } from '../../kernels/packing.ts';
import { expectInOrder, inOrder } from './order.ts';
import { type Ref, ref } from './reference.ts';
import { compute, expectSameBits, NARROW, normal, open, upload, WIDE } from './support.ts';

let device: Device;
beforeAll(async () => {
  device = await open();
});
afterAll(() => device?.destroy());

/** A driver on a CPU takes seconds to compile some of these. */
const PATIENCE = 600_000;

const PLAIN: Fusion = { bias: false, accumulate: false };

interface Shape {
  readonly m: number;
  readonly n: number;
  readonly k: number;
}

const layoutOf = ({ m, n, k }: Shape, transA: boolean, transB: boolean, weight: DType): OperandLayout => ({
  transA,
  transB,
  vectorA: (transA ? m : k) % 4 === 0,
  vectorB: (transB ? k : n) % 4 === 0,
  vectorC: n % 4 === 0,
  tail: k % 4 !== 0,
  weight: weight as OperandLayout['weight'],
});

/** All kernels that any adapter may choose for a product, each once. */
function everyKernel(shape: Shape, layout: OperandLayout): Choice[] {
  const real = device.capabilities;
  const wide = { ...real, ...WIDE };
  const all = [real, wide, { ...wide, fewRegisters: true }, { ...real, ...NARROW }].flatMap((c) =>
    candidates(shape, layout, c),
  );
  return [...new Map(all.map((choice) => [choice.kernel(PLAIN).name, choice])).values()];
}

/** Dispatches a kernel onto a range along K. */
function multiply(
  choice: Choice,
  { m, n, k }: Shape,
  { transA, transB, weight }: OperandLayout,
  tensors: readonly Tensor[],
  fusion: Fusion = PLAIN,
  [begin, end]: readonly [number, number] = [0, k],
): void {
  const [lda, ldb] = [transA ? m : k, storedRow(weight, transB ? k : n)];
  const first = [begin * (transA ? m : 1), begin * (transB ? 1 : ldb)];
  const [down, across] = [Math.ceil(m / choice.rows), Math.ceil(n / choice.columns)];
  device.dispatch(
    choice.kernel(fusion),
    tensors.map((t) => t.storage.window()),
    [m, n, end - begin, 0, 0, 0, lda, ldb, n, ...first, 0, 0],
    choice.rowsFirst ? [down, across, 1] : [across, down, 1],
  );
}

const filled = (m: number, n: number): Tensor => tensor(device, new Float32Array(m * n).fill(7), [m, n]);

const named = (choices: readonly Choice[], results: readonly { data: Float32Array }[]) =>
  new Map(choices.map(({ name }, i) => [name, results[i]!.data]));

const SHAPES: readonly Shape[] = [
  { m: 1, n: 68, k: 604 },
  { m: 3, n: 67, k: 601 },
];
/** Where large blocks are candidates, which a CPU's driver compiles for seconds each: for layouts that bring each operand in both ways. */
const LARGE: Shape = { m: 68, n: 132, k: 516 };

describe.each([
  ['A B', false, false],
  ['A B^T', false, true],
  ['A^T B', true, false],
  ['A^T B^T', true, true],
] as const)('%s', (_, transA, transB) => {
  const shapes = transA === transB ? SHAPES : [...SHAPES, LARGE];
  it.each(shapes)('by every kernel: $m x $n x $k', { timeout: PATIENCE }, async (shape) => {
    const { m, n, k } = shape;
    const a = normal(transA ? [k, m] : [m, k], 1);
    const b = normal(transB ? [n, k] : [k, n], 2);
    const layout = layoutOf(shape, transA, transB, 'f32');
    const choices = everyKernel(shape, layout);
    expect(choices.length).toBeGreaterThan(1);
    const results = await compute(() => {
      const [u, v] = [upload(device, a), upload(device, b)];
      return choices.map((choice) => {
        const y = filled(m, n);
        multiply(choice, shape, layout, [u, v, y]);
        return y;
      });
    });
    expectInOrder(named(choices, results), a, b, { transA, transB });
  });
});

describe('what is read and done besides', () => {
  const shape: Shape = { m: 5, n: 68, k: 604 };
  const { m, n, k } = shape;

  it.each(['f16', 'int8', 'int4'] as const)(
    'weights in %s, which are the numbers that they widen to',
    { timeout: PATIENCE },
    async (dtype) => {
      // Whole 16-byte loads in every format, so that all kernels take it.
      const shape = { m, n, k: 640 };
      const [a, b] = [normal([m, 640], 3), normal([n, 640], 4)];
      const layout = layoutOf(shape, false, true, dtype);
      const choices = everyKernel(shape, layout);
      expect(choices.length).toBeGreaterThan(1);
      const [wide, ...results] = await compute(() => {
        const u = upload(device, a);
        const v = convert(upload(device, b), dtype);
        return [
          toF32(v),
          ...choices.map((choice) => {
            const y = filled(m, n);
            multiply(choice, shape, layout, [u, v, y]);
            return y;
          }),
        ];
      });
      expect(choices.some(({ name }) => name.startsWith('gemv'))).toBe(true);
      expectInOrder(named(choices, results), a, ref(b.shape, wide!.data), { transB: true });
    },
  );

  it('K in windows, with a cut through a chunk', { timeout: PATIENCE }, async () => {
    const [a, b] = [normal([m, k], 9), normal([n, k], 10)];
    const layout = layoutOf(shape, false, true, 'f32');
    // One of each kind: blocks of all sizes go on from C in the same words.
    const kinds = everyKernel(shape, layout).map((choice) => [choice.name.split(' ')[0], choice] as const);
    const choices = [...new Map(kinds).values()];
    expect(choices.length).toBeGreaterThan(2);
    const results = await compute(() => {
      const [u, v] = [upload(device, a), upload(device, b)];
      return choices.map((choice) => {
        const [y, open] = [filled(m, n), filled(m, n)];
        const to = (t: Tensor, range: readonly [number, number], fusion: Partial<Fusion> = {}) =>
          multiply(choice, shape, layout, [u, v, t], { ...PLAIN, ...fusion }, range);
        to(y, [0, 256]);
        to(open, [256, 300]);
        to(open, [300, 512], { resume: true });
        device.dispatch(
          matmulFold({ ...PLAIN, accumulate: true, vector: true }),
          [open, y].map((t) => t.storage.window()),
          [m * n, n, 1],
          [2, 1, 1],
        );
        to(y, [512, k], { accumulate: true });
        return y;
      });
    });
    expectInOrder(named(choices, results), a, b, { transB: true });
  });

  it('sums of chunks that are added from memory', async () => {
    const [size, chunks] = [m * n, 21];
    const parts = normal([chunks, m, n], 11);
    const [s, r] = [normal([n], 12), normal([m, n], 13)];
    const results = await compute(() => {
      const [u, bias, extra] = [parts, s, r].map((t) => upload(device, t));
      return [true, false].map((vector) => {
        const y = empty(device, [m, n]);
        device.dispatch(
          matmulFold({ bias: true, accumulate: false, epilogue: 'add', vector }),
          [u!, bias!, extra!, y].map((t) => t.storage.window()),
          [size, n, chunks],
          [Math.ceil(size / 64), 1, 1],
        );
        return y;
      });
    });
    const want = new Float32Array(size);
    for (let i = 0; i < size; i++) {
      let total = 0;
      for (let c = 0; c < chunks; c++) total = Math.fround(total + parts.data[c * size + i]!);
      want[i] = Math.fround(r.data[i]! + Math.fround(total + s.data[i % n]!));
    }
    for (const { data } of results) expectSameBits(data, want);
  });
});

describe('the host', () => {
  const one = (values: number[], shape: number[]): Ref => ref(shape, values);
  it('fuses, or rounds the product first', () => {
    const x = 1 + 2 ** -12;
    // The square is 1 + 2^-11 + 2^-24, a tie that is rounded to even.
    const [a, b] = [one([1, x], [1, 2]), one([-1 - 2 ** -11, x], [2, 1])];
    expect([...inOrder(a, b, {}, true)]).toEqual([2 ** -24]);
    expect([...inOrder(a, b, {}, false)]).toEqual([0]);
  });
  it('rounds a fused sum once', () => {
    // Less than half a step above an odd number by 2^-70: a tie where 53 bits come first.
    const [c, x, y] = [1 + 2 ** -23, 2 ** -12 * (1 + 2 ** -23), 2 ** -12 * (1 - 2 ** -23)];
    expect([...inOrder(one([c, x], [1, 2]), one([1, y], [2, 1]), {}, true)]).toEqual([c]);
  });
  it('sums 256 steps apart', () => {
    const a = one(new Array(512).fill(1), [1, 512]);
    const b = one([1, ...new Array(511).fill(2 ** -24)], [512, 1]);
    // Behind the first each is half a step and lost; the 256 of another chunk are not.
    expect([...inOrder(a, b, {}, true)]).toEqual([1 + 2 ** -16]);
  });
});
