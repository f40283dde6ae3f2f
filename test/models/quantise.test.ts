/**
 * Stored weights: 16-bit rounding and quantised groups against the host, products of every format against the same product
 * with the weights multiplied out, and embedding rows.
 */

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  convert,
  convertInto,
  type Device,
  empty,
  gatherRows,
  grad,
  linear,
  matmul,
  openDevice,
  sum,
  type Tensor,
  tensor,
  toF32,
} from '../../engine/index.ts';
import { halfToNumber } from '../../models/half.ts';

let device: Device;
/** The same with small bindings, so that weights are split over several buffers. */
let small: Device;
beforeAll(async () => {
  device = await openDevice();
  small = await openDevice({ mask: { bindingBytes: 64 * 1024 } });
});
afterAll(() => {
  device.destroy();
  small.destroy();
});

/** Numbers that differ in size from group to group. */
function numbers(count: number, seed: number): Float32Array {
  let state = seed;
  return Float32Array.from({ length: count }, (_, i) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return (state / 2 ** 31 - 1) * 2 ** ((i >> 5) % 7);
  });
}

/** Same bits; typed arrays of many elements are slow to compare one by one. */
function same(got: Float32Array | Uint32Array, want: Float32Array | Uint32Array): void {
  const bytes = (x: Float32Array | Uint32Array) => Buffer.from(x.buffer, x.byteOffset, x.byteLength);
  expect(bytes(got).equals(bytes(want))).toBe(true);
}

const words = async (x: Tensor): Promise<Uint32Array> => {
  const parts = x.storage.segments.map((s) => x.storage.window(s.begin, s.end));
  return new Uint32Array((await x.device.readWindows(parts)).buffer);
};

test('narrow rounds to nearest, ties to even, and widens back exactly', async () => {
  const values = [
    0,
    -0,
    1,
    -1.5,
    1 + 2 ** -11,
    1 + 3 * 2 ** -11,
    65504,
    65520,
    1e6,
    -1e6,
    6.1e-5,
    6e-8,
    2 ** -25,
    3e-8,
  ];
  const x = tensor(device, [...values, ...numbers(501, 3)]);
  const input = await x.read();
  for (const dtype of ['f16', 'bf16'] as const) {
    const y = convert(x, dtype);
    const stored = new Uint16Array((await words(y)).buffer);
    const back = await toF32(y).read();
    for (const [i, value] of input.entries()) {
      const near = dtype === 'f16' ? nearestHalf(value) : nearestBrain(value);
      const got = dtype === 'f16' ? halfToNumber(stored[i]!) : back[i]!;
      expect(Object.is(got, near), `${dtype} of ${value}: ${got}, should be ${near}`).toBe(true);
      expect(back[i]).toBe(near);
    }
    const again = convert(y, dtype === 'f16' ? 'bf16' : 'f16');
    expect((await toF32(again).read())[3]).toBe(-1.5);
  }
});

test('every 16-bit number widens to the same bits eight at a time', async () => {
  const every = Uint16Array.from({ length: 2 ** 16 }, (_, i) => i);
  for (const format of ['f16', 'bf16'] as const) {
    const wide = async (count: number) => {
      const x = empty(device, [count], format);
      device.queue.write(x.storage.segments[0]!.buffer, 0, new Uint8Array(every.buffer));
      const y = toF32(x);
      return (await words(y)).subarray(0, 2 ** 16 - 2);
    };
    same(await wide(2 ** 16), await wide(2 ** 16 - 2));
  }
});

/** Nearest of all finite halves, ties to the even one; found among the two neighbours. */
function nearestHalf(value: number): number {
  const sign = value < 0 || Object.is(value, -0) ? -1 : 1;
  const size = Math.min(Math.abs(value), 65504);
  const step = 2 ** Math.max(-24, Math.floor(Math.log2(Math.max(size, 2 ** -30))) - 10);
  const low = Math.floor(size / step);
  const rest = size / step - low;
  return sign * step * (rest > 0.5 || (rest === 0.5 && low % 2 === 1) ? low + 1 : low);
}
function nearestBrain(value: number): number {
  const bits = new Uint32Array(Float32Array.of(value).buffer)[0]!;
  const rounded = ((bits + 0x7fff + ((bits >>> 16) & 1)) & 0xffff0000) >>> 0;
  return new Float32Array(Uint32Array.of(rounded).buffer)[0]!;
}

/** Scale, minimum and codes of each group of rows, and the numbers that they stand for, taken apart on the host. */
async function groupsOf(q: Tensor) {
  const raw = await words(q);
  const real = (i: number) => new Float32Array(raw.slice(i, i + 1).buffer)[0]!;
  const [length, header] = q.dtype === 'int4' ? [6, 2] : [9, 1];
  return Array.from({ length: raw.length / length }, (_, g) => {
    const at = g * length;
    const codes = Array.from({ length: 32 }, (_, i) =>
      q.dtype === 'int4'
        ? (raw[at + header + Math.floor((i % 16) / 4)]! >>> (8 * (i % 4) + 4 * Math.floor(i / 16))) & 15
        : (raw[at + header + Math.floor(i / 4)]! << (24 - 8 * (i % 4))) >> 24,
    );
    const [scale, minimum] = [real(at), header > 1 ? real(at + 1) : 0];
    return { scale, minimum, codes, values: codes.map((code) => Math.fround(scale * code + minimum)) };
  });
}

for (const dtype of ['int8', 'int4'] as const) {
  const [low, high, groupWords] = dtype === 'int8' ? [-127, 127, 9] : [0, 15, 6];

  describe(dtype, () => {
    test('groups of 32 along a row, as documented', async () => {
      const [rows, length] = [5, 44];
      const data = numbers(rows * length, 11);
      data.fill(0, 32, 44);
      const q = convert(tensor(device, data, [rows, length]), dtype);
      expect(q.size).toBe(rows * length);
      const back = await toF32(q).read();
      for (const [g, { scale, minimum, codes, values }] of (await groupsOf(q)).entries()) {
        const first = (g >> 1) * length + 32 * (g % 2);
        const part = data.subarray(first, first + (g % 2 ? 12 : 32));
        const [least, most] = [Math.min(...part), Math.max(...part)];
        const step = dtype === 'int8' ? Math.max(-least, most) / 127 : (most - least) / 15;
        expect(Math.abs(scale - step)).toBeLessThanOrEqual(step * 1e-6);
        expect(minimum).toBe(dtype === 'int8' ? 0 : least);
        for (const [i, x] of part.entries()) {
          expect(codes[i]).toBeGreaterThanOrEqual(low);
          expect(codes[i]).toBeLessThanOrEqual(high);
          expect(back[first + i]).toBe(values[i]);
          expect(Math.abs(x - values[i]!)).toBeLessThanOrEqual(scale * 0.50002);
        }
        // The row's end is filled up with its last number.
        for (const code of codes.slice(part.length)) expect(code).toBe(codes[part.length - 1]);
      }
    });

    test('constant groups, groups of one number and zeros of both signs are exact', async () => {
      const groups = [[3.25], [-7], [0], [-0], [0, -0, 0], Array(32).fill(dtype === 'int8' ? 127 : 0.1)];
      for (const group of groups) {
        const data = Float32Array.from(group);
        const back = await toF32(convert(tensor(device, data, [1, data.length]), dtype)).read();
        expect([...back].map((x) => x + 0)).toEqual([...data].map((x) => x + 0));
      }
    });

    test('huge and tiny numbers stay finite', async () => {
      const largest = 2 ** 127 * (2 - 2 ** -23);
      const data = Float32Array.from({ length: 96 }, (_, i) =>
        i < 32 ? (i % 2 ? largest / 2 : (-largest * i) / 64) : (i - 40) * (i < 64 ? 2 ** 110 : 2 ** -110),
      );
      const back = await toF32(convert(tensor(device, data, [1, 96]), dtype)).read();
      for (let g = 0; g < 3; g++) {
        const part = data.subarray(32 * g, 32 * g + 32);
        const reach = Math.max(...part.map(Math.abs));
        for (const [i, x] of part.entries())
          expect(Math.abs(back[32 * g + i]! - x)).toBeLessThanOrEqual((2 * reach) / (high - low) / 1.99);
      }
    });

    test('a second rounding changes nothing', async () => {
      const once = convert(tensor(device, numbers(96 * 40, 5), [40, 96]), dtype);
      const again = convert(toF32(once), dtype);
      const [a, b] = [await groupsOf(once), await groupsOf(again)];
      for (const [g, { codes }] of a.entries()) expect(b[g]!.codes).toEqual(codes);
      if (dtype === 'int4') same(await words(again), await words(once));
    });

    test('rows of whole groups, read eight numbers at a time, have the bits of rows read one by one', async () => {
      const [rows, length] = [67, 96];
      const data = numbers(rows * length, 29);
      data.fill(0, 64, 96);
      data[200] = 2 ** -140;
      // The same rows with one number more: a last group of it alone, left out of the comparison.
      const longer = Float32Array.from({ length: rows * (length + 1) }, (_, i) => {
        const [row, at] = [Math.floor(i / (length + 1)), i % (length + 1)];
        return at < length ? data[row * length + at]! : 1;
      });
      const group = groupWords;
      for (const from of ['f32', 'f16', 'bf16'] as const) {
        const stored = (x: Float32Array, n: number) => convert(tensor(device, x, [rows, n]), from);
        const whole = await words(convert(stored(data, length), dtype));
        const one = await words(convert(stored(longer, length + 1), dtype));
        for (let row = 0; row < rows; row++) {
          const [at, apart] = [row * 3 * group, row * 4 * group];
          same(whole.slice(at, at + 3 * group), one.slice(apart, apart + 3 * group));
        }
      }
    });

    test('quantising 16-bit weights is quantising their values', async () => {
      const x = tensor(device, numbers(96 * 40, 5), [40, 96]);
      for (const half of ['f16', 'bf16'] as const) {
        const y = convert(x, half);
        same(await words(convert(y, dtype)), await words(convert(toF32(y), dtype)));
      }
    });
  });
}

test('int4 by hand', async () => {
  // Step (12 - -3) / 15 = 1, so that every whole number from the minimum on is a code.
  const data = Float32Array.from({ length: 32 }, (_, i) => (i < 16 ? i - 3 : 0));
  data[20] = 4.5;
  data[21] = 5.5;
  data[22] = 6.4;
  const q = convert(tensor(device, data, [1, 32]), 'int4');
  const nibbles = (low: readonly number[], high: readonly number[]) =>
    low.reduce((word, code, i) => (word | (code << (8 * i)) | (high[i]! << (8 * i + 4))) >>> 0, 0);
  expect([...(await words(q)).subarray(0, 6)]).toEqual([
    0x3f800000, // 1
    0xc0400000, // -3
    nibbles([0, 1, 2, 3], [3, 3, 3, 3]),
    nibbles([4, 5, 6, 7], [8, 8, 9, 3]), // 7.5 and 8.5 steps above, ties to even; 9.4
    nibbles([8, 9, 10, 11], [3, 3, 3, 3]),
    nibbles([12, 13, 14, 15], [3, 3, 3, 3]),
  ]);
  expect([...(await toF32(q).read()).subarray(18, 24)]).toEqual([0, 0, 5, 5, 6, 0]);
});

test('four bits hold what comes from four bits, and a skewed group at half the step of a symmetric one', async () => {
  // As GGUF's q4_1 has it: step and minimum in 16 bits.
  const four = Float32Array.from(
    { length: 32 },
    (_, i) => 0.0123291015625 * ((7 * i) % 16) - 0.1090087890625,
  );
  const x = tensor(device, four, [1, 32]);
  same(await toF32(convert(x, 'int4')).read(), four);
  const skewed = Float32Array.from({ length: 32 }, (_, i) => 1 + Math.sin(i) ** 2);
  const back = await toF32(convert(tensor(device, skewed, [1, 32]), 'int4')).read();
  const error = Math.max(...skewed.map((value, i) => Math.abs(value - back[i]!)));
  const step = Math.max(...skewed) / 7;
  const symmetric = Math.max(...skewed.map((value) => Math.abs(value - step * Math.round(value / step))));
  expect(error).toBeLessThan(symmetric / 2);
});

test('a group wider than the largest float32 is cut to it', async () => {
  const largest = 2 ** 127 * (2 - 2 ** -23);
  const q = convert(tensor(device, Float32Array.of(-largest, largest, 0), [1, 3]), 'int4');
  const back = await toF32(q).read();
  expect(back.every(Number.isFinite)).toBe(true);
  expect(back[0]).toBe(Math.fround(-largest));
  expect(Math.abs(back[1]!)).toBeLessThan(1e-4 * largest);
});

test.each(['f32', 'f16', 'bf16', 'int8', 'int4'] as const)(
  '%s in blocks of rows is the same as at once',
  async (dtype) => {
    const block = 128;
    for (const from of ['f32', 'f16', 'bf16'] as const) {
      if (from === dtype) continue;
      for (const length of [96, 100])
        for (const d of [device, small]) {
          const rows = 3 * block + 7;
          const x = tensor(d, numbers(rows * length, 8), [rows, length]);
          const stored = from === 'f32' ? x : convert(x, from);
          const made = empty(d, [rows, length], dtype);
          // Backwards, so that a block must not touch another.
          for (const first of [3 * block, 2 * block, block, 0]) {
            const count = Math.min(block, rows - first);
            const part = tensor(
              d,
              numbers(rows * length, 8).slice(first * length, (first + count) * length),
              [count, length],
            );
            convertInto(from === 'f32' ? part : convert(part, from), made, first);
          }
          same(await toF32(made).read(), await toF32(convert(stored, dtype)).read());
        }
    }
  },
);

test('blocks that do not fit are refused', () => {
  const [x, y] = [empty(device, [4, 8]), empty(device, [130, 8], 'bf16')];
  expect(() => convertInto(x, y, 64)).toThrow('[4, 8] to rows of [130, 8] from 64 on');
  expect(() => convertInto(x, y, 128)).toThrow('from 128 on');
  expect(() => convertInto(x, empty(device, [130, 9], 'bf16'))).toThrow('[130, 9]');
  expect(() => convertInto(y, empty(device, [130, 8], 'bf16'))).toThrow('bf16 to bf16');
});

for (const dtype of ['int8', 'int4', 'f16', 'bf16'] as const)
  describe(`products with ${dtype} weights`, () => {
    const shapes = [
      [1, 64, 96],
      [3, 172, 64],
      [9, 100, 44],
      [17, 33, 32],
      [2, 130, 46],
    ] as const;
    test('forward and backward have the bits of the f32 product with the same values', async () => {
      for (const [m, n, k] of shapes) {
        const w = convert(tensor(device, numbers(n * k, n), [n, k]), dtype);
        const wide = toF32(w);
        const [x, y] = [w, wide].map((weight) => {
          const x = tensor(device, numbers(m * k, 7), [m, k]).requireGrad();
          const bias = tensor(device, numbers(n, 9), [n]);
          return { x, plain: linear(x, weight), biased: linear(x, weight, bias) };
        }) as [{ x: Tensor; plain: Tensor; biased: Tensor }, { x: Tensor; plain: Tensor; biased: Tensor }];
        same(await x.plain.read(), await y.plain.read());
        same(await x.biased.read(), await y.biased.read());
        const cotangent = tensor(device, numbers(m * n, 13), [m, n]);
        const back = ({ x, plain }: { x: Tensor; plain: Tensor }) => grad(plain, [x], { cotangent })[0]!;
        same(await back(x).read(), await back(y).read());
        same(await matmul(cotangent, w).read(), await matmul(cotangent, wide).read());
      }
    });

    test('weights over several buffers give the same', async () => {
      const [m, n, k] = [5, 1300, 96];
      const results = await Promise.all(
        [device, small].map(async (d) => {
          const w = convert(tensor(d, numbers(n * k, 2), [n, k]), dtype);
          if (d === small) expect(w.storage.segments.length).toBeGreaterThan(1);
          const x = tensor(d, numbers(m * k, 3), [m, k]).requireGrad();
          const y = linear(x, w);
          const dx = grad(sum(y), [x])[0]!;
          return [
            await y.read(),
            await dx.read(),
            await toF32(w).read(),
            await gatherRows(w, [0, 1299, 640]).read(),
          ];
        }),
      );
      const [one, many] = results as [Float32Array[], Float32Array[]];
      same(many[0]!, one[0]!);
      // Cut along K, partial sums are added: another order.
      const scale = Math.max(...one[1]!.map(Math.abs));
      const apart = one[1]!.map((v, i) => Math.abs(v - many[1]![i]!));
      expect(Math.max(...apart)).toBeLessThan(1e-5 * scale);
      same(many[2]!, one[2]!);
      same(many[3]!, one[3]!);
    });

    test('embedding rows are read without widening the table', async () => {
      const table = convert(tensor(device, numbers(300 * 44, 2), [300, 44]), dtype);
      const before = device.memory;
      const rows = gatherRows(table, [299, 0, 17, 17]);
      expect(device.memory.weights).toBe(before.weights);
      const want = await toF32(table).read();
      expect(await rows.read()).toEqual(
        Float32Array.from([299, 0, 17, 17].flatMap((r) => [...want.subarray(44 * r, 44 * (r + 1))])),
      );
    });
  });
