/** Every operation against the float64 reference, on odd, empty and broadcast shapes. */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as engine from '../../engine/index.ts';
import { type Device, ShapeError } from '../../engine/index.ts';
import { goldenFiles, readGolden } from '../models/goldenFiles.ts';
import { CASES } from './cases.ts';
import { ref } from './reference.ts';
import { compute, expectClose, expectSameBits, normal, open, upload } from './support.ts';

let device: Device;
beforeAll(async () => {
  device = await open();
});
afterAll(() => device?.destroy());

describe('operations against the reference', () => {
  it.each(CASES.map((c) => [c.name, c] as const))('%s', async (_, c) => {
    const [got] = await compute(() => [
      c.run(
        c.inputs.map((x) => upload(device, x)),
        device,
      ),
    ]);
    const want = c.reference(c.inputs);
    expect(got!.shape).toEqual(want.shape);
    expectClose(got!.data, want.data, c.tolerance, c.name);
  });
});

describe('a place on the device', () => {
  it.each([[[5, 3]], [[2, 5, 3]], [[2, 2, 7, 4]]])('takes a row of each block of %j', async (shape) => {
    const [size, width] = shape.slice(-2) as [number, number];
    const table = normal(shape, 1);
    const rows = normal([...shape.slice(0, -2), width], 2);
    for (const at of [0, size - 1]) {
      const [got] = await compute(() => {
        const y = upload(device, table);
        engine.writeRow(y, upload(device, rows), engine.integers(device, [at]));
        return [y];
      });
      const want = Float32Array.from(table.data, (v, i) => {
        const block = Math.floor(i / (size * width));
        return Math.floor(i / width) % size === at ? rows.data[block * width + (i % width)]! : v;
      });
      expectSameBits(got!.data, want, `row ${at}`);
    }
  });

  it.each([1, 5, 31, 32, 33, 100, 256, 300])(
    'ends a softmax after %i keys, with the same bits whatever room is behind them',
    async (length) => {
      const rows = normal([3, 300], 4, 3);
      const [got, want] = await compute(() => {
        const x = upload(device, rows);
        const lastKey = engine.integers(device, [length - 1]);
        return [
          engine.softmax(x, { lastKey, scale: 0.7 }),
          engine.softmax(engine.slice(x, [0, 0], [3, length]), { lastKey, scale: 0.7 }),
        ];
      });
      for (let row = 0; row < 3; row++) {
        expectSameBits(
          got!.data.slice(row * 300, row * 300 + length),
          want!.data.slice(row * length, (row + 1) * length),
        );
        expect(got!.data.slice(row * 300 + length, (row + 1) * 300).every((v) => v === 0)).toBe(true);
      }
    },
  );

  it.each([1, 5, 100, 300])(
    'counts a window back from the last of %i keys, with the same bits whatever room is behind them',
    async (length) => {
      const rows = normal([2, 1, 300], 4, 3);
      const [got, want] = await compute(() => {
        const x = upload(device, rows);
        const how = {
          lastKey: engine.integers(device, [length - 1]),
          causal: true,
          window: { before: 40 },
          scale: 0.7,
        };
        return [engine.softmax(x, how), engine.softmax(engine.slice(x, [0, 0, 0], [2, 1, length]), how)];
      });
      for (let row = 0; row < 2; row++) {
        const ours = got!.data.slice(row * 300, (row + 1) * 300);
        expectSameBits(ours.slice(0, length), want!.data.slice(row * length, (row + 1) * length));
        expect(ours.findIndex((p) => p > 0)).toBe(Math.max(0, length - 41));
        expect(ours.slice(length).every((p) => p === 0)).toBe(true);
        expect(Math.abs(ours.reduce((a, b) => a + b) - 1)).toBeLessThan(1e-6);
      }
    },
  );
});

describe('functions', () => {
  it.each(goldenFiles('functions'))('agree with the golden values on a fine grid: %s', async (path) => {
    const { of: values } = await readGolden(path);
    const x = engine.tensor(device, values('x').data).requireGrad();
    const results: [string, Float32Array][] = [];
    for (const [name, f] of Object.entries({ erf: engine.erf, gelu: engine.gelu, silu: engine.silu })) {
      const y = f(x);
      results.push([name, await y.read()]);
      if (name === 'erf') continue;
      const [g] = engine.grad(y, [x], { cotangent: engine.full(device, y.shape, 1) });
      results.push([`d${name}`, await g!.read()]);
    }
    for (const [name, got] of results) {
      const want = values(name).data;
      // x itself is rounded to float32 on the way in.
      values('x').data.forEach((at, i) => {
        const allowed = 2e-6 * Math.max(1, Math.abs(at));
        if (!(Math.abs(got[i]! - want[i]!) <= allowed))
          throw new Error(`${name}(${at}) is ${got[i]}, expected ${want[i]}`);
      });
      expect(want.length).toBe(721);
    }
  });

  it('stay finite and right at extreme arguments', async () => {
    const x = [-0, 0, 1e-40, -1e-30, 88, -87, 100, -100, 1e4, -1e4, 3e38, -3e38];
    const check = async (
      f: (x: engine.Tensor) => engine.Tensor,
      want: readonly number[],
      floor = 1e-30,
    ): Promise<void> => {
      const [got] = await compute(() => [f(engine.tensor(device, x))]);
      expectClose(got!.data, want, { ulps: 256, floor });
    };
    const sign = x.map((v) => Math.sign(v) + 0);
    // Drivers' tanh is right in absolute terms only.
    await check(engine.tanh, x.map(Math.tanh), 1);
    await check(
      engine.erf,
      x.map((v, i) => (i < 4 ? v * 1.1283791670955126 : sign[i]!)),
    );
    await check(engine.sigmoid, [0.5, 0.5, 0.5, 0.5, 1, Math.exp(-87), 1, 0, 1, 0, 1, 0]);
    await check(engine.silu, [0, 0, 5e-41, -5e-31, 88, -87 * Math.exp(-87), 100, 0, 1e4, 0, 3e38, 0]);
    await check(engine.gelu, [0, 0, 5e-41, -5e-31, 88, 0, 100, 0, 1e4, 0, 3e38, 0]);
    await check(engine.sign, sign);
    await check(engine.abs, x.map(Math.abs));
  });

  it('exp, log and sin are as accurate as the tests of what is built on them assume', async () => {
    const grid = Array.from({ length: 20001 }, (_, i) => Math.fround(-85 + (i * 170) / 20000));
    const positive = Array.from({ length: 20001 }, (_, i) => Math.fround(1e-30 * 1e60 ** (i / 20000)));
    const [e, l, s] = await compute(() => [
      engine.exp(engine.tensor(device, grid)),
      engine.log(engine.tensor(device, positive)),
      engine.sin(engine.tensor(device, grid)),
    ]);
    grid.forEach((x, i) => {
      expectClose([e!.data[i]!], [Math.exp(x)], { ulps: 3 + 2 * Math.abs(x) }, `exp(${x})`);
      expectClose([s!.data[i]!], [Math.sin(x)], { ulps: 4096, floor: Math.max(1, Math.abs(x)) }, `sin(${x})`);
    });
    positive.forEach((x, i) => {
      expectClose([l!.data[i]!], [Math.log(x)], { ulps: 4, floor: 0.5 }, `log(${x})`);
    });
  });

  it.each([12_304, 50_000])('a softmax over %i classes loses none of the small ones', async (length) => {
    // Each of the others is below half a unit in the last place of the largest.
    const scores = Array.from({ length }, (_, i) => Math.fround(i === 77 ? 15 : -3.2 + Math.sin(i)));
    const total = scores.reduce((sum, x) => sum + Math.exp(x - 15), 0);
    const x = engine.tensor(device, scores, [1, length]);
    const [p, log, loss] = await compute(() => [
      engine.softmax(x),
      engine.logSoftmax(x),
      engine.crossEntropyRows(x, [5]),
    ]);
    expectClose([p!.data[77]!], [1 / total], { ulps: 16 });
    // A score less the largest is rounded to a unit of 1.9e-6, and exp may be off by 3 + 2 |x| units.
    for (const i of [0, 5, length - 1])
      expectClose([p!.data[i]!], [Math.exp(scores[i]! - 15) / total], { ulps: 48 }, `p of ${i}`);
    expect(Math.abs(log!.data[77]! + Math.log(total))).toBeLessThan(2e-6);
    expectClose([loss!.data[0]!], [Math.log(total) - (scores[5]! - 15)], { ulps: 4 });
  });

  it('a branch that is not taken cannot spoil the result or its gradient', async () => {
    const x = engine.tensor(device, [4, 0, -1]).requireGrad();
    const zero = engine.tensor(device, [0]);
    const y = engine.where(engine.greater(x.detach(), zero), engine.log(x), zero);
    expectClose(await y.read(), [Math.log(4), 0, 0], { ulps: 4 });
    const a = engine.tensor(device, [1, Number.NaN, 3e38]).requireGrad();
    const b = engine.tensor(device, [Number.NaN, 2, 5]).requireGrad();
    const c = engine.where(engine.tensor(device, [1, 0, 0]), a, b);
    expect(await c.read()).toEqual(new Float32Array([1, 2, 5]));
    const [da, db] = engine.grad(engine.sum(c), [a, b]);
    expect(await da!.read()).toEqual(new Float32Array([1, 0, 0]));
    expect(await db!.read()).toEqual(new Float32Array([0, 1, 1]));
  });

  it('a row that attends to nothing is uniform, not NaN', async () => {
    const mask = engine.integers(device, [0, 0, 0], [1, 3]);
    const y = engine.softmax(engine.tensor(device, [1, 1e4, -3], [1, 3]), { keyMask: mask });
    expectClose(await y.read(), [1 / 3, 1 / 3, 1 / 3], { ulps: 4 });
  });

  it('a large score behind a mask has no share at all', async () => {
    const mask = engine.integers(device, [1, 0, 1], [1, 3]);
    const y = engine.softmax(engine.tensor(device, [1, 3e38, 1], [1, 3]), { keyMask: mask });
    expect(await y.read()).toEqual(new Float32Array([0.5, 0, 0.5]));
  });

  it('an infinity or NaN behind a mask has none either, forwards and backwards', async () => {
    const mask = engine.integers(device, [1, 0, 0, 1], [1, 4]);
    const x = engine.tensor(device, [1, Number.POSITIVE_INFINITY, Number.NaN, 1], [1, 4]).requireGrad();
    const y = engine.softmax(x, { keyMask: mask });
    expect(await y.read()).toEqual(new Float32Array([0.5, 0, 0, 0.5]));
    const [g] = engine.grad(y, [x], { cotangent: engine.tensor(device, [1, 5, 5, 2], [1, 4]) });
    expectClose(await g!.read(), [-0.25, 0, 0, 0.25], { ulps: 4 });
  });

  it('equal largest elements share the gradient of max; of maximum and minimum the first has it', async () => {
    const x = engine.tensor(device, [3, 1, 3, 3, 0, 2], [2, 3]).requireGrad();
    const [g] = engine.grad(engine.max(x, 1), [x], { cotangent: engine.tensor(device, [6, 5]) });
    expect([...(await g!.read())]).toEqual([3, 0, 3, 5, 0, 0]);
    const [a, b] = [
      engine.tensor(device, [1, 2, 3]).requireGrad(),
      engine.tensor(device, [1, 3, 2]).requireGrad(),
    ];
    for (const [f, want] of [
      [engine.maximum, [1, 0, 1]],
      [engine.minimum, [1, 1, 0]],
    ] as const) {
      const [da, db] = engine.grad(engine.sum(f(a, b)), [a, b]);
      expect([...(await da!.read())].map(Math.abs)).toEqual(want);
      expect([...(await db!.read())].map(Math.abs)).toEqual(want.map((v) => 1 - v));
    }
  });

  it('argmax of equal and of very small numbers is the first', async () => {
    const x = engine.tensor(device, [-3e38, -3e38, 7, 7, -1e30, -1e29], [3, 2]);
    expect([...(await engine.argmax(x).readIntegers())]).toEqual([0, 0, 1]);
  });
});

describe('what an operation does not accept', () => {
  const t = (shape: readonly number[]): engine.Tensor =>
    upload(device, ref(shape, new Array(engine.sizeOf(shape)).fill(1)));
  const u = (): engine.Tensor => engine.integers(device, [0, 1]);
  const wrong: [string, () => unknown, RegExp][] = [
    ['add', () => engine.add(t([2]), t([3])), /add: shapes \[2\] and \[3\] do not broadcast/],
    ['add of integers and numbers', () => engine.add(u(), t([2])), /add: needs f32, got u32/],
    ['a quotient of integers', () => engine.div(u(), u()), /div: needs f32, got u32/],
    ['unary of integers', () => engine.exp(u()), /exp: needs f32/],
    ['matmul', () => engine.matmul(t([2, 3]), t([4, 5])), /matmul: \[2, 3\] x \[4, 5\]: inner sizes 3 and 4/],
    ['matmul rank', () => engine.matmul(t([3]), t([3, 5])), /matmul: .*both need two axes/],
    ['matmul batch', () => engine.matmul(t([2, 1, 1]), t([3, 1, 1])), /leading axes/],
    ['matmul dtype', () => engine.matmul(t([1, 2]), engine.reshape(u(), [2, 1])), /dtypes f32 x u32/],
    ['linear', () => engine.linear(t([2, 3]), t([4, 5])), /linear: x \[2, 3\], weight \[4, 5\]/],
    ['linear bias', () => engine.linear(t([2, 3]), t([4, 3]), t([3])), /linear: .*bias \[3\]/],
    ['reshape', () => engine.reshape(t([4]), [3, -1]), /reshape: \[4\] to \[3, -1\]/],
    ['permute', () => engine.permute(t([2, 3]), [0, 0]), /permute: order \[0, 0\]/],
    ['transpose', () => engine.transpose(t([2])), /two axes/],
    ['slice', () => engine.slice(t([2]), [0], [3]), /slice: \[0\] to \[3\] of \[2\]/],
    ['pad', () => engine.pad(t([2]), [2], [3]), /pad: \[2\] at \[2\] of \[3\]/],
    ['pad of integers', () => engine.pad(u(), [0], [3]), /pad: needs f32/],
    ['concat', () => engine.concat([t([2, 3]), t([2, 4])], 0), /concat: \[2, 3\] and \[2, 4\] along axis 0/],
    ['concat nothing', () => engine.concat([], 0), /nothing to concatenate/],
    ['broadcastTo', () => engine.broadcastTo(t([2]), [3]), /broadcastTo: \[2\] to \[3\]/],
    ['sum', () => engine.sum(t([2]), 1), /sum: axes \[1\] of \[2\]/],
    ['sum twice', () => engine.sum(t([2, 2]), [0, -2]), /sum: axes \[0, -2\]/],
    ['max of nothing', () => engine.max(t([0])), /max: no elements/],
    ['argmax of nothing', () => engine.argmax(t([2, 0])), /argmax: no elements/],
    ['gatherRows', () => engine.gatherRows(t([2, 2]), [2]), /index 2 is outside 0\.\.1/],
    [
      'gatherRows fraction',
      () => engine.gatherRows(t([2, 2]), [0.5]),
      /needs integers of 32 bits, got 0\.5 at \[0\]/,
    ],
    ['scatterAddRows', () => engine.scatterAddRows(t([2, 2]), [0], 3), /rows \[2, 2\] for 1 indices/],
    ['pick', () => engine.pick(t([2, 2]), [0]), /1 indices for \[2, 2\]/],
    ['unpick', () => engine.unpick(t([2]), [0], 3), /1 indices for \[2\]/],
    ['softmax', () => engine.softmax(t([])), /softmax: needs f32 rows/],
    ['softmax causal', () => engine.softmax(t([3, 2]), { causal: true }), /3 causal queries over 2 keys/],
    [
      'softmax window',
      () => engine.softmax(t([3, 2]), { window: { before: 1 } }),
      /3 queries with a window over 2 keys/,
    ],
    [
      'softmax last key',
      () => engine.softmax(t([3, 2]), { lastKey: u() }),
      /last key u32 \[2\], should be u32 \[1\]/,
    ],
    ['softmax mask', () => engine.softmax(t([3, 2]), { keyMask: u() }), /mask u32 \[2\] for scores \[3, 2\]/],
    ['crossEntropy', () => engine.crossEntropy(t([2, 3]), [1]), /1 labels for logits \[2, 3\]/],
    ['crossEntropy unlabelled', () => engine.crossEntropy(t([2, 3]), [-100, -100]), /no row has a label/],
    [
      'layerNorm',
      () => engine.layerNorm(t([2, 3]), t([2]), t([3]), 1),
      /layerNorm: x \[2, 3\] with \[2\], \[3\]/,
    ],
    ['rmsNorm', () => engine.rmsNorm(t([]), t([]), 1), /rmsNorm/],
    [
      'rotary',
      () => engine.rotary(t([1, 1, 3]), engine.integers(device, [0]), engine.rotaryTable(device, 2, 4, 10)),
      /rotary: x f32 \[1, 1, 3\]/,
    ],
    ['attention', () => engine.attention(t([1, 2, 3, 4]), t([1, 2, 2, 4]), t([1, 2, 2, 4])), /attention: q/],
    [
      'patchElements',
      () => engine.patchElements(t([2]), [{ at: 2, mode: 'set', value: 0 }]),
      /patch: element 2/,
    ],
    ['tensor', () => engine.tensor(device, [1, 2], [3]), /2 numbers for shape \[3\]/],
    ['empty', () => engine.empty(device, [-1]), /bad shape \[-1\]/],
    ['empty fraction', () => engine.empty(device, [1.5]), /bad shape/],
    ['dim', () => t([2]).dim(1), /no axis 1 in shape \[2\]/],
    ['AdamW count', () => new engine.AdamW([t([2])]).step([]), /0 gradients for 1 parameters/],
    ['AdamW shape', () => new engine.AdamW([t([2])]).step([t([3])]), /gradient \[3\] for parameter \[2\]/],
    [
      '16-bit copy',
      () => engine.permute(engine.empty(device, [2, 2], 'f16'), [1, 0]),
      /f16 tensor; use toF32/,
    ],
  ];
  it.each(wrong)('%s', (_, call, message) => {
    expect(() => engine.scope(call)).toThrow(ShapeError);
    expect(() => engine.scope(call)).toThrow(message);
  });

  it('writing a row where nothing may change, or of the wrong shape', () => {
    const at = engine.integers(device, [0]);
    expect(() => engine.writeRow(t([2, 3, 4]), t([2, 3]), at)).toThrow(/writeRow: rows \[2, 3\]/);
    expect(() => engine.writeRow(t([2, 4]), t([4]), t([1]))).toThrow(/f32,f32,f32/);
    const saved = t([2, 4]).requireGrad();
    expect(() => engine.writeRow(saved, t([4]), at)).toThrow(engine.GradientError);
  });

  it('reading the wrong way', async () => {
    await expect(u().read()).rejects.toThrow(ShapeError);
    await expect(t([2]).readIntegers()).rejects.toThrow(ShapeError);
    await expect(t([2]).item()).rejects.toThrow(/shape \[2\] has 2 elements/);
    expect(await t([1]).item()).toBe(1);
  });
});
