/** Matrices that are stored as [in, out]: taken in blocks, the bits of what is transposed on the host and then converted. */

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { convert, type Device, empty, openDevice, type Tensor, tensor } from '../../engine/index.ts';
import { transposeInto } from '../../engine/ops/transposeInto.ts';
import { random } from './support.ts';

let device: Device;
/** The same with small bindings, so that results are split over several buffers. */
let small: Device;
beforeAll(async () => {
  device = await openDevice();
  small = await openDevice({ mask: { bindingBytes: 64 * 1024 } });
});
afterAll(() => {
  device.destroy();
  small.destroy();
});

const words = async (x: Tensor): Promise<Buffer> => {
  const parts = x.storage.segments.map((s) => x.storage.window(s.begin, s.end));
  return Buffer.from((await x.device.readWindows(parts)).buffer);
};

/** Numbers of many sizes, tiny ones among them. */
function numbers(count: number, seed: number): Float32Array {
  const next = random(seed);
  return Float32Array.from({ length: count }, (_, i) =>
    i % 97 === 0 ? 2 ** -130 * next() : (next() - 0.5) * 2 ** ((i % 40) - 20),
  );
}

const FROM = ['f32', 'f16', 'bf16'] as const;
const TO = ['f32', 'f16', 'bf16', 'int8', 'int4'] as const;
type Runs = readonly (readonly [number, number])[];

/** The result, and what it should be. */
async function both(
  on: Device,
  from: (typeof FROM)[number],
  to: (typeof TO)[number],
  [length, width]: readonly [number, number],
  runs: Runs,
  block: number,
): Promise<[Buffer, Buffer]> {
  const values = numbers(length * width, length + width);
  const columns = runs.flatMap(([first, count]) => Array.from({ length: count }, (_, i) => first + i));
  const turned = Float32Array.from(
    { length: columns.length * length },
    (_, i) => values[(i % length) * width + columns[Math.floor(i / length)]!]!,
  );
  const stored = (data: Float32Array, shape: number[], on: Device): Tensor => {
    const wide = tensor(on, data, shape);
    return from === 'f32' ? wide : convert(wide, from);
  };
  const want = convert(stored(turned, [columns.length, length], device), to);
  const got = empty(on, [columns.length, length], to, 'weights');
  for (let first = 0; first < length; first += block) {
    const rows = Math.min(block, length - first);
    const part = stored(values.subarray(first * width, (first + rows) * width), [rows, width], on);
    transposeInto(part, got, runs, first);
  }
  return [await words(got), await words(want)];
}

describe.each(FROM)('from %s', (from) => {
  test.each(TO)('to %s', async (to) => {
    const cases: [readonly [number, number], Runs, number][] = [
      [[64, 24], [[0, 24]], 64],
      [[70, 37], [[5, 7]], 32],
      [
        [98, 30],
        [
          [20, 3],
          [0, 4],
          [9, 11],
        ],
        32,
      ],
      [[6, 3], [[0, 3]], 6],
      [[34, 8], [[1, 5]], 32],
    ];
    // Two numbers of 16 bits are one word.
    if (to !== 'f16' && to !== 'bf16') cases.push([[33, 8], [[1, 5]], 32]);
    for (const [shape, runs, block] of cases) {
      const [got, want] = await both(device, from, to, shape, runs, block);
      expect(got.equals(want), `${shape} ${runs.join(';')}`).toBe(true);
    }
  });

  test.each(TO)('to %s in several buffers', async (to) => {
    const runs: Runs = [
      [200, 250],
      [0, 450],
    ];
    const [got, want] = await both(small, from, to, [160, 450], runs, 32);
    expect(got.equals(want)).toBe(true);
  });
});

test('refuses what does not lie in the result', () => {
  const x = tensor(device, new Float32Array(32 * 4), [32, 4]);
  const into = (shape: number[], dtype: (typeof TO)[number], runs: Runs, column: number) => () =>
    transposeInto(x, empty(device, shape, dtype, 'weights'), runs, column);
  const wrong = [
    into([3, 32], 'f32', [[0, 4]], 0),
    into([4, 32], 'f32', [[1, 4]], 0),
    into([4, 31], 'f32', [[0, 4]], 0),
    into([4, 64], 'f32', [[0, 4]], 33),
    into([4, 63], 'f16', [[0, 4]], 0),
    into([4, 64], 'int8', [[0, 4]], 16),
  ];
  for (const call of wrong) expect(call).toThrow(/^transposeInto: f32 \[32, 4\] into/);
  expect(() =>
    transposeInto(tensor(device, [1, 2], [1, 2]), empty(device, [2, 64], 'int8', 'weights'), [[0, 2]], 0),
  ).toThrow('transposeInto');
});
