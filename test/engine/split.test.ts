/**
 * Tensors larger than a binding, kept in several buffers: the same programs on a device whose bindings are masked to 64 KiB
 * and on one where everything fits, forwards and backwards; then one tensor that is larger than the real limit.
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Device, Tensor } from '../../engine/index.ts';
import * as engine from '../../engine/index.ts';
import { segmentLength } from '../../engine/storage.ts';
import { compute, expectClose, expectSameBits, normal, open, random, upload } from './support.ts';

let whole: Device;
let split: Device;
beforeAll(async () => {
  whole = await open();
  split = await open({ mask: { bindingBytes: 65536 } });
});
afterAll(() => {
  whole?.destroy();
  split?.destroy();
});

type Program = (x: (shape: readonly number[], seed: number) => Tensor, device: Device) => Tensor[];

/** The program's results and their gradients with respect to every tensor it made by x(). */
async function both(program: Program, gradients: boolean, exact: boolean): Promise<void> {
  const results: { shape: readonly number[]; data: Float32Array }[][] = [];
  let pieces = 0;
  for (const device of [whole, split]) {
    results.push(
      await compute(() => {
        const leaves: Tensor[] = [];
        const outputs = program((shape, seed) => {
          const t = upload(device, normal(shape, seed));
          leaves.push(gradients ? t.requireGrad() : t);
          return t;
        }, device);
        for (const t of [...leaves, ...outputs])
          if (device === split) pieces = Math.max(pieces, t.storage.segments.length);
        if (!gradients) return outputs;
        return outputs.flatMap((y, i) => [
          y,
          ...engine.grad(y, leaves, {
            cotangent: upload(device, normal(y.shape, 90 + i)),
            unconnected: 'zero',
            retainTape: true,
          }),
        ]);
      }),
    );
  }
  expect(pieces).toBeGreaterThan(1);
  const [want, got] = results as [(typeof results)[0], (typeof results)[0]];
  expect(got.length).toBe(want.length);
  want.forEach(({ shape, data }, i) => {
    expect(got[i]!.shape).toEqual(shape);
    if (exact) expectSameBits(got[i]!.data, data, `result ${i}`);
    else {
      const floor = data.reduce((n, v) => Math.max(n, Math.abs(v)), 0);
      expectClose(got[i]!.data, data, { ulps: 64, floor }, `result ${i}`);
    }
    // A gradient may be zero where one of several results does not depend on one of several inputs.
    if (i === 0) expect(data.some((v) => v !== 0)).toBe(true);
  });
}

const R = 500;
const C = 100;
const next = random(5);
const indices = Array.from({ length: 300 }, () => Math.floor(next() * R));
const labels = Array.from({ length: R }, (_, i) => (i % 7 === 0 ? -100 : Math.floor(next() * C)));

const PROGRAMS: { name: string; program: Program; exact?: boolean; gradients?: boolean }[] = [
  {
    name: 'unary',
    program: (x) => [engine.gelu(x([R, C], 1)), engine.affine(x([40001], 2), 2, 1)],
    exact: true,
  },
  { name: 'binary of equal shapes', program: (x) => [engine.mul(x([R, C], 1), x([R, C], 2))], exact: true },
  {
    name: 'binary with a scalar',
    program: (x) => [engine.div(x([R, C], 1), x([], 2)), engine.sub(x([1], 3), x([R, C], 4))],
  },
  {
    name: 'binary with a row',
    program: (x) => [engine.add(x([R, C], 1), x([C], 2)), engine.mul(x([C], 3), x([R, C], 4))],
  },
  { name: 'binary with an odd row', program: (x) => [engine.add(x([R, 99], 1), x([99], 2))] },
  { name: 'binary with a column', program: (x) => [engine.mul(x([R, C], 1), x([R, 1], 2))] },
  { name: 'binary that grows', program: (x) => [engine.add(x([R, 1], 1), x([1, C], 2))] },
  {
    name: 'binary with rows that straddle a cut',
    program: (x) => [engine.add(x([7, 50, 100], 1), x([50, 100], 2))],
  },
  {
    name: 'where',
    program: (x) => {
      const a = x([R, C], 1);
      return [engine.where(engine.greater(a.detach(), engine.zeros(a.device, [])), a, x([C], 2))];
    },
  },
  { name: 'matmul, A split', program: (x) => [engine.matmul(x([R, C], 1), x([C, 12], 2))], exact: true },
  { name: 'matmul, B split', program: (x) => [engine.matmul(x([7, 600], 1), x([600, 50], 2))], exact: true },
  {
    name: 'matmul, B^T split',
    program: (x) => [engine.matmul(x([7, 50], 1), x([600, 50], 2), { transB: true })],
    exact: true,
  },
  {
    name: 'matmul, A^T split',
    program: (x) => [engine.matmul(x([R, C], 1), x([R, 8], 2), { transA: true })],
    exact: true,
  },
  {
    name: 'matmul, A^T B^T, A split',
    program: (x) => [engine.matmul(x([R, C], 1), x([8, R], 2), { transA: true, transB: true })],
    exact: true,
  },
  {
    name: 'matmul, A^T B^T, B split',
    program: (x) => [engine.matmul(x([C, 7], 1), x([R, C], 2), { transA: true, transB: true })],
    exact: true,
  },
  { name: 'matmul, C split', program: (x) => [engine.matmul(x([300, 20], 1), x([20, 120], 2))], exact: true },
  {
    name: 'matmul, A, B^T and C split',
    program: (x) => [engine.matmul(x([400, 200], 1), x([120, 200], 2), { transB: true })],
    exact: true,
    gradients: false,
  },
  {
    name: 'matmul, K cut where no four-wide load may start',
    program: (x) => [engine.matmul(x([2, 8], 1), x([8, 8192], 2))],
    exact: true,
  },
  {
    name: 'matmul, chunks of K cut',
    program: (x) => [engine.matmul(x([7, 600], 1), x([600, 300], 2))],
    exact: true,
  },
  {
    name: 'matmul, chunks of K cut in A^T and B, at other places',
    program: (x) => [engine.matmul(x([600, 200], 1), x([600, 300], 2), { transA: true })],
    exact: true,
  },
  {
    name: 'matmul, rows of odd length',
    program: (x) => [engine.matmul(x([R, 99], 1), x([99, 7], 2))],
    exact: true,
  },
  {
    name: 'matmul, batches',
    program: (x) => [engine.matmul(x([20, 32, 40], 1), x([20, 40, 8], 2))],
    exact: true,
  },
  {
    name: 'linear with bias, weight split',
    program: (x) => [engine.linear(x([3, 5, 50], 1), x([600, 50], 2), x([600], 3))],
  },
  {
    name: 'sum',
    program: (x) => [
      engine.sum(x([R, C], 1)),
      engine.sum(x([R, C], 2), 0),
      engine.sum(x([R, C], 3), 1, true),
    ],
  },
  {
    name: 'mean and max',
    program: (x) => [engine.mean(x([R, C], 1), 0), engine.max(x([R, C], 2)), engine.max(x([R, C], 3), -1)],
  },
  { name: 'argmax', program: (x) => [engine.argmax(x([R, C], 1))], gradients: false, exact: true },
  {
    name: 'gatherRows and scatterAddRows',
    program: (x) => [
      engine.gatherRows(x([R, C], 1), indices),
      engine.scatterAddRows(x([300, C], 2), indices, R),
    ],
  },
  {
    name: 'gatherRows of a few',
    program: (x) => [engine.gatherRows(x([R, C], 1), [499, 0, 128, 127, 0])],
    exact: true,
  },
  {
    name: 'pick and unpick',
    program: (x) => [
      engine.pick(
        x([R, C], 1),
        labels.map((v) => Math.max(0, v)),
      ),
      engine.unpick(
        x([R], 2),
        labels.map((v) => Math.max(0, v)),
        C,
      ),
    ],
    exact: true,
  },
  {
    name: 'softmax',
    program: (x) => [engine.softmax(x([R, C], 1), { scale: 0.5 }), engine.logSoftmax(x([R, C], 2))],
  },
  {
    name: 'softmax, causal and masked',
    program: (x, device) => [
      engine.softmax(x([8, 16, 16, 64], 1), {
        causal: true,
        keyMask: engine.integers(
          device,
          Array.from({ length: 512 }, (_, i) => (i % 5 === 1 ? 0 : 1)),
          [8, 64],
        ),
      }),
    ],
  },
  {
    name: 'cross-entropy',
    program: (x) => [
      engine.crossEntropy(x([R, C], 1), labels),
      engine.crossEntropyRows(x([R, C], 2), labels),
    ],
  },
  { name: 'layerNorm', program: (x) => [engine.layerNorm(x([R, C], 1), x([C], 2), x([C], 3), 1e-5)] },
  { name: 'rmsNorm', program: (x) => [engine.rmsNorm(x([R, C], 1), x([C], 2), 1e-5)] },
  {
    name: 'rowNorm',
    program: (x) => [
      engine.rowNorm(x([R, C], 1), { kind: 'rms1', weight: x([C], 2), eps: 1e-5 }),
      // Of heads.
      engine.rowNorm(x([R, 5, 20], 3), { kind: 'layer', weight: x([20], 4), eps: 1e-5 }),
    ],
  },
  {
    name: 'slice of rows and of columns',
    program: (x) => [engine.slice(x([R, C], 1), [120], [390]), engine.slice(x([R, C], 2), [3, 5], [499, 98])],
    exact: true,
  },
  {
    name: 'slice of one element',
    program: (x) => [engine.slice(x([R, C], 1), [400, 7], [401, 8])],
    exact: true,
  },
  { name: 'pad', program: (x) => [engine.pad(x([300, 90], 1), [111, 5], [R, C])], exact: true },
  {
    name: 'concat',
    program: (x) => [
      engine.concat([x([300, C], 1), x([7, C], 2), x([200, C], 3)], 0),
      engine.concat([x([R, 60], 4), x([R, 40], 5)], 1),
    ],
    exact: true,
  },
  {
    name: 'broadcastTo',
    program: (x) => [engine.broadcastTo(x([1, C], 1), [R, C]), engine.broadcastTo(x([R, 1], 2), [R, C])],
  },
  {
    name: 'permute',
    program: (x) => [engine.transpose(x([R, C], 1)), engine.permute(x([20, 10, 5, 50], 2), [2, 0, 3, 1])],
    exact: true,
  },
  {
    name: 'reshape',
    program: (x) => [engine.add(engine.reshape(x([R, C], 1), [50, 10, C]), x([50, 10, C], 2))],
    exact: true,
  },
];

describe('tensors in several buffers', () => {
  it.each(PROGRAMS.map((p) => [p.name, p] as const))(
    '%s',
    (_, { program, gradients = true, exact = false }) => both(program, gradients, exact),
  );

  it('second gradients', () =>
    both(
      (x) => {
        const [a, w] = [x([R, C], 1), x([C], 2)];
        const y = engine.softmax(engine.rmsNorm(a, w, 1e-5));
        return engine.grad(y, [a], {
          cotangent: upload(a.device, normal([R, C], 3)),
          createGraph: true,
        });
      },
      true,
      false,
    ));

  it('AdamW', async () => {
    const results: Float32Array[] = [];
    for (const device of [whole, split]) {
      const p = upload(device, normal([R, C], 1));
      const optimiser = new engine.AdamW([p], { rate: 0.1 });
      for (let step = 0; step < 3; step++) {
        const g = upload(device, normal([R, C], 2 + step));
        optimiser.step([g]);
        g.dispose();
      }
      results.push(await p.read());
      optimiser.dispose();
      p.dispose();
    }
    expectSameBits(results[1]!, results[0]!);
  });

  it('rotary positions from a table in several buffers', async () => {
    // 4096 positions a buffer of the small device.
    const positions = [0, 4095, 4096, 9999, 8192, 1];
    const results: Float32Array[][] = [];
    for (const device of [whole, split]) {
      const table = engine.rotaryTable(device, 10000, 8, 10000);
      if (device === split) expect(table.cosine.storage.segments.length).toBe(3);
      const made = await compute(() => {
        const x = upload(device, normal([6, 3, 8], 1)).requireGrad();
        const at = engine.integers(device, positions);
        const y = engine.rotary(x, at, table);
        // And of a part of each head.
        const part = engine.rotary(upload(device, normal([6, 3, 11], 3)), at, table);
        return [y, part, ...engine.grad(y, [x], { cotangent: upload(device, normal([6, 3, 8], 2)) })];
      });
      results.push(made.map(({ data }) => data));
      table.cosine.dispose();
      table.sine.dispose();
    }
    results[0]!.forEach((want, i) => {
      expectSameBits(results[1]![i]!, want);
    });
  });

  it('come back as they were written', async () => {
    const x = normal([123, 401], 9);
    const t = upload(split, x);
    expect(t.storage.segments.length).toBeGreaterThan(2);
    expectSameBits(await t.read(), Float32Array.from(x.data));
    t.dispose();
    const n = engine.integers(
      split,
      Array.from({ length: 40000 }, (_, i) => i * 7),
    );
    expect([...(await n.readIntegers())].every((v, i) => v === i * 7)).toBe(true);
    n.dispose();
  });

  it('are cut at whole rows and at multiples of 256 bytes', () => {
    for (const shape of [
      [R, C],
      [R, 99],
      [7, 1000],
      [20, 32, 40],
      [40001],
      [3, 5, 7, 1000],
      [9, 16384],
      [9, 100000],
    ])
      for (const dtype of ['f32', 'f16'] as const) {
        const length = segmentLength(shape, dtype, 65536);
        const bytes = dtype === 'f32' ? 4 : 2;
        expect(length * bytes).toBeLessThanOrEqual(65536);
        expect((length * bytes) % 256).toBe(0);
        const width = shape.at(-1)!;
        if (width <= 128 && shape.length > 1) expect(length % width).toBe(0);
      }
    expect(segmentLength([20, 32, 40], 'f32', 65536) % (32 * 40)).toBe(0);
  });

  it('a row that no buffer holds is a typed error', () => {
    engine.scope(() => {
      const x = upload(split, normal([3, 20001], 1));
      expect(() => engine.softmax(x)).toThrow(engine.ShapeError);
      expect(() => engine.softmax(x)).toThrow(/block of 20001 elements would lie in two buffers/);
    });
  });
});

describe('a tensor of 600 MB', () => {
  it('is gathered from, multiplied with both ways and summed up at the real limit', async () => {
    const [rows, width] = [150000, 1000];
    // Multiples of 1/64 below 1: products with small integers are exact in float32.
    const value = (i: number, j: number): number => (((i * 7 + j * 13) % 101) - 50) / 64;
    const data = new Float32Array(rows * width);
    let total = 0;
    for (let i = 0, at = 0; i < rows; i++)
      for (let j = 0; j < width; j++) {
        const v = (((i * 7 + j * 13) % 101) - 50) / 64;
        data[at++] = v;
        total += v;
      }
    const small = (n: number): Float32Array =>
      Float32Array.from({ length: n }, (_, i) => (i % 11 === 0 ? (i % 3) - 1 : 0));
    const table = engine.tensor(whole, data, [rows, width], 'weights');
    try {
      expect(whole.capabilities.bindingBytes >= 4 * rows * width || table.storage.segments.length > 1).toBe(
        true,
      );
      const picked = [149999, 0, 33554, 33555, 75000, 0];
      const [gathered, down, up, summed, last] = await compute(() => {
        const [x, z] = [
          engine.tensor(whole, small(width), [1, width]),
          engine.tensor(whole, small(rows), [1, rows]),
        ];
        return [
          engine.gatherRows(table, picked),
          engine.matmul(x, table, { transB: true }),
          engine.matmul(z, table),
          engine.sum(table),
          engine.slice(table, [rows - 2, width - 3], [rows, width]),
        ];
      });
      expectSameBits(
        gathered!.data,
        Float32Array.from(picked.flatMap((i) => Array.from(data.subarray(i * width, (i + 1) * width)))),
      );
      const [x, z] = [small(width), small(rows)];
      const wantDown = new Float64Array(rows);
      for (let i = 0; i < rows; i++)
        for (let j = 0; j < width; j += 11) wantDown[i]! += x[j]! * data[i * width + j]!;
      expectClose(down!.data, wantDown, { ulps: 0 }, 'table times vector');
      const wantUp = new Float64Array(width);
      for (let i = 0; i < rows; i += 11)
        for (let j = 0; j < width; j++) wantUp[j]! += z[i]! * data[i * width + j]!;
      expectClose(up!.data, wantUp, { ulps: 0 }, 'vector times table');
      expectClose(summed!.data, [total], { ulps: 64, floor: Math.sqrt(rows * width) }, 'sum');
      expect([...last!.data]).toEqual([
        ...[997, 998, 999].map((j) => value(rows - 2, j)),
        ...[997, 998, 999].map((j) => value(rows - 1, j)),
      ]);
    } finally {
      table.dispose();
    }
  });
});
