/** What the host puts into tensors, takes out of them, and says of indices, labels and layouts. */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Device, Tensor } from '../../engine/index.ts';
import * as engine from '../../engine/index.ts';
import { ShapeError } from '../../engine/index.ts';
import { compute, open } from './support.ts';

let device: Device;
beforeAll(async () => {
  device = await open();
});
afterAll(() => device?.destroy());

/** JavaScript's callers pass anything. */
const anything = (value: unknown): engine.Numbers => value as engine.Numbers;

describe('numbers from the host', () => {
  it.each([
    [
      [
        [1, 2],
        [3, 4],
      ],
      [2, 2],
      [1, 2, 3, 4],
    ],
    [[[[1], [2]]], [1, 2, 1], [1, 2]],
    [
      [new Float32Array([1, 2, 3]), new Float64Array([4, 5, 6])],
      [2, 3],
      [1, 2, 3, 4, 5, 6],
    ],
    [[new Int8Array([-1])], [1, 1], [-1]],
    [7, [], [7]],
    [[], [0], []],
    [[[], []], [2, 0], []],
    [{ length: 2, 0: 5, 1: 6 }, [2], [5, 6]],
    [new Uint8ClampedArray([300]), [1], [255]],
    [[Number.NaN, Number.NEGATIVE_INFINITY, -0], [3], [Number.NaN, Number.NEGATIVE_INFINITY, -0]],
  ] as const)('%j give their shape', async (data, shape, values) => {
    using x = engine.tensor(device, anything(data));
    expect(x.shape).toEqual(shape);
    expect([...(await x.read())]).toEqual(values);
  });

  it('nested ones fill a given shape in order, integers nest too, and tensors are rewritten by either', async () => {
    using x = engine.tensor(
      device,
      [
        [1, 2],
        [3, 4],
      ],
      [4],
    );
    expect(x.shape).toEqual([4]);
    expect([...(await x.write([[5], [6], [7], [8]]).read())]).toEqual([5, 6, 7, 8]);
    using u = engine.integers(device, [
      [1, 2],
      [-1, 2 ** 32 - 1],
    ]);
    expect(u.shape).toEqual([2, 2]);
    expect([...(await u.readIntegers())]).toEqual([1, 2, 2 ** 32 - 1, 2 ** 32 - 1]);
  });

  const sparse: number[] = [1];
  sparse[2] = 3;
  const wrong: readonly (readonly [string, unknown, RegExp])[] = [
    ['a string', '12', /needs numbers, or lists of them, got "12"/],
    ['strings', ['1', '2'], /got "1" at \[0\]/],
    [
      'a string deep inside',
      [
        [1, 2],
        [3, 'x'],
      ],
      /got "x" at \[1, 1\]/,
    ],
    ['null', [1, null], /got null at \[1\]/],
    ['nothing', undefined, /got undefined/],
    ['a hole', sparse, /got undefined at \[1\]/],
    ['booleans', [true, false], /got true at \[0\]/],
    ['a bigint', [1n], /got 1n at \[0\]/],
    ['bigints', new BigInt64Array(2), /got 0n at \[0\]/],
    ['a list of bigints', [new BigInt64Array(2)], /got a BigInt64Array at \[0\]/],
    ['objects', [{}], /got an Object at \[0\]/],
    ['a buffer without a type', new ArrayBuffer(8), /got an ArrayBuffer/],
    ['a view without a type', new DataView(new ArrayBuffer(8)), /got a DataView/],
    ['a set', new Set([1]), /got a Set/],
    ['a function', () => 1, /got a function/],
    ['rows of unequal lengths', [[1, 2], [3]], /unequal lengths: 1 at \[1\], 2 before/],
    ['a number among rows', [[1, 2], 3], /needs a list at \[1\], got 3/],
    ['a list among numbers', [1, [2]], /got an Array at \[1\]/],
    [
      'a deeper list',
      [
        [1, 2],
        [[3], [4]],
      ],
      /got an Array at \[1, 0\]/,
    ],
  ];
  it.each(wrong)('%s are refused', (_, data, message) => {
    using x = engine.zeros(device, [2]);
    for (const call of [
      () => engine.tensor(device, anything(data)),
      () => engine.integers(device, anything(data)),
      () => x.write(anything(data)),
    ]) {
      expect(call).toThrow(ShapeError);
      expect(call).toThrow(message);
    }
  });

  it('tensors are none, nor in lists', () => {
    using x = engine.zeros(device, [2]);
    expect(() => engine.tensor(device, anything(x))).toThrow(/got a Tensor/);
    expect(() => engine.tensor(device, anything([x]))).toThrow(/got a Tensor at \[0\]/);
  });

  it.each([1.5, -0.5, 2 ** 32, -(2 ** 31) - 1, 1e300, Number.NaN, Number.POSITIVE_INFINITY])(
    'the integer %d is refused, wherever it comes from',
    (value) => {
      using u = engine.integers(device, [0]);
      using table = engine.zeros(device, [2, 2]);
      for (const list of [[value], new Float64Array([value]), [[value]], value]) {
        expect(() => engine.integers(device, list)).toThrow(ShapeError);
        expect(() => u.write(list)).toThrow(/needs integers of 32 bits/);
        expect(() => engine.gatherRows(table, list)).toThrow(ShapeError);
      }
    },
  );

  it.each([[[-2, -1]], [[2, 1.5]], [[Number.NaN]], [['2']], [2]])('the shape %j is refused', (shape) => {
    const wrong = shape as number[];
    for (const call of [
      () => engine.tensor(device, [1, 2], wrong),
      () => engine.integers(device, [1, 2], wrong),
      () => engine.full(device, wrong, 1),
    ])
      expect(call).toThrow(ShapeError);
  });

  it.each([
    ['reshape to negative sizes', (x: Tensor) => engine.reshape(x, [-2, -2])],
    ['reshape with two open sizes', (x: Tensor) => engine.reshape(engine.slice(x, [0], [1]), [-1, -1])],
    ['slice at a fraction', (x: Tensor) => engine.slice(x, [0.5], [2])],
    ['slice at no number', (x: Tensor) => engine.slice(x, [Number.NaN], [2])],
    ['pad at a fraction', (x: Tensor) => engine.pad(x, [0.5], [6])],
    ['pad at nothing', (x: Tensor) => engine.pad(x, [], [6])],
    ['a patch at a fraction', (x: Tensor) => engine.patchElements(x, [{ at: 1.5, mode: 'set', value: 1 }])],
  ])('%s is refused', (_, call) => {
    expect(() => engine.scope(() => call(engine.zeros(device, [4])))).toThrow(engine.UserError);
  });
});

describe('labels', () => {
  it.each([1.5, 3, 7, -1, -99, 2 ** 32 - 100, Number.NaN, '1', null, undefined, true, 1n])(
    '%s of three classes is refused',
    (label) => {
      for (const loss of [engine.crossEntropy, engine.crossEntropyRows]) {
        const call = () => engine.scope(() => loss(engine.zeros(device, [2, 3]), [0, label as number]));
        expect(call).toThrow(ShapeError);
        expect(call).toThrow(/of row 1 is neither a class, 0\.\.2, nor -100/);
      }
    },
  );

  it('-100 alone is not counted', async () => {
    using x = engine.zeros(device, [3, 4]);
    using loss = engine.crossEntropy(x, [1, -100, 3]);
    expect(await loss.item()).toBeCloseTo(Math.log(4), 6);
  });
});

describe('labels on the device', () => {
  it('give what the same ones on the host give, there and back', async () => {
    const values = [
      [1, 3, 3, -2],
      [0.5, -1, 2, 0],
    ];
    for (const of of [engine.crossEntropyRows, engine.logOdds, engine.crossEntropy]) {
      const found = [(x: Tensor) => engine.argmax(x), () => [1, 2]].map((labels) => {
        const x = engine.tensor(device, values).requireGrad();
        const y = engine.sum(of(x, labels(x)));
        return [y, ...engine.grad(y, [x])];
      });
      const [onDevice, onHost] = await Promise.all(found.map((all) => Promise.all(all.map((t) => t.read()))));
      expect(onDevice).toEqual(onHost);
      for (const t of found.flat()) t.dispose();
    }
  });

  it('are u32, one a row', () => {
    const call = (labels: Tensor) => () =>
      engine.scope(() => engine.logOdds(engine.zeros(device, [2, 3]), labels));
    expect(call(engine.zeros(device, [2]))).toThrow('labels of dtype f32');
    expect(call(engine.integers(device, [0]))).toThrow('for logits');
  });
});

describe('indices outside their table', () => {
  const rows = (): Tensor =>
    engine.tensor(device, [
      [1, 2, 3],
      [4, 5, 6],
    ]);
  const calls: readonly (readonly [string, number, (at: Tensor) => Tensor | undefined])[] = [
    ['gatherRows', 2, (at) => engine.gatherRows(rows(), at)],
    ['scatterAddRows', 2, (at) => engine.scatterAddRows(rows(), at, 2)],
    ['pick', 3, (at) => engine.pick(rows(), at)],
    ['unpick', 4, (at) => engine.unpick(engine.tensor(device, [1, 2]), at, 4)],
    [
      'rotary',
      2,
      (at) => engine.rotary(engine.zeros(device, [2, 1, 2]), at, engine.rotaryTable(device, 2, 2, 10)),
    ],
    [
      'writeRow',
      2,
      (at) => {
        const table = rows();
        engine.writeRow(table, engine.zeros(device, [3]), engine.slice(at, [1], [2]));
        return table;
      },
    ],
  ];

  it.each(calls)('%s refuses what the host has put there', (op, size, call) => {
    if (op === 'writeRow') return; // Its index is a copy, which only the device knows: below.
    for (const [bad, told] of [
      [size, size],
      [2 ** 31 - 1, 2 ** 31 - 1],
      [-1, -1],
    ] as const)
      expect(() => engine.scope(() => call(engine.integers(device, [0, bad])))).toThrow(
        new ShapeError(op, `index ${told} is outside 0..${size - 1}`),
      );
    using at = engine.integers(device, [0, 0]);
    at.write([0, size]);
    expect(() => engine.scope(() => call(at))).toThrow(ShapeError);
  });

  it.each(calls)(
    '%s of what the device has made is an error of the next readback, once',
    async (op, size, call) => {
      const run = (index: readonly number[]): Tensor | undefined =>
        engine.scope(() => {
          // A copy is made on the device.
          const at = engine.slice(engine.integers(device, [...index, 0]), [0], [2]);
          return call(at);
        });
      using right = run([1, size - 1]);
      await right!.read();
      using wrong = run([1, size]);
      await expect(wrong!.read()).rejects.toThrow(ShapeError);
      using again = run([size + 3, 1]);
      // Whatever is read next: here another tensor, or nothing at all.
      if (op === 'writeRow') await right!.read();
      else
        await expect(device.finish()).rejects.toThrow(`${op}: index ${size + 3} is outside 0..${size - 1}`);
      await right!.read();
      again?.dispose();
    },
  );

  it('a replay looks at what has been written since', async () => {
    const table = rows();
    const at = engine.integers(device, [0, 1]);
    const plan = engine.record(device, () => engine.gatherRows(table, at));
    expect([...(await plan.result.read())]).toEqual([1, 2, 3, 4, 5, 6]);
    at.write([1, 2]);
    plan.replay();
    await expect(plan.result.read()).rejects.toThrow(/gatherRows: index 2 is outside 0\.\.1/);
    at.write([1, 1]);
    plan.replay();
    expect([...(await plan.result.read())]).toEqual([4, 5, 6, 4, 5, 6]);
    for (const t of [plan, table, at]) t.dispose();
  });

  it("argmax's are inside, and its NaN too", async () => {
    const [y] = await compute(() => [
      engine.gatherRows(
        rows(),
        engine.argmax(
          engine.tensor(device, [
            [0, Number.NaN],
            [3, 1],
          ]),
        ),
      ),
    ]);
    expect([...y!.data]).toEqual([4, 5, 6, 1, 2, 3]);
  });
});

describe('reading is a snapshot', () => {
  /** What is recorded after the call must not show, whichever way elements can change. */
  const changes: readonly (readonly [string, (x: Tensor) => Tensor[]])[] = [
    [
      'dispose() and others that take the memory',
      (x) => {
        const { shape } = x;
        x.dispose();
        return [1, 2, 3].map((v) => engine.full(x.device, shape, v));
      },
    ],
    ['write()', (x) => [x.write(new Float32Array(x.size).fill(5))]],
    [
      'an optimiser',
      (x) => {
        const optimiser = new engine.AdamW([x], { rate: 1 });
        engine.scope(() => optimiser.step([engine.full(x.device, x.shape, 1)]));
        optimiser.dispose();
        return [x];
      },
    ],
  ];
  const check = async (on: Device, size: number, change: (x: Tensor) => Tensor[]): Promise<void> => {
    const x = engine.full(on, [size], 9);
    const reading = x.read();
    const others = change(x);
    const values = await reading;
    expect(values.length).toBe(size);
    expect(values.every((v) => v === 9)).toBe(true);
    for (const t of [x, ...others]) t.dispose();
  };

  it.each(changes)('of more than 64 MiB, despite %s', (_, change) => check(device, 2 ** 24 + 1000, change));
  it.each(changes)('of several buffers, despite %s', async (_, change) => {
    const split = await open({ mask: { bindingBytes: 65536 } });
    try {
      await check(split, 60_000, change);
    } finally {
      split.destroy();
    }
  });

  it('gives its staging memory back, also where it fails', async () => {
    const small = await open({ memoryBudget: 6 * 2 ** 20, mask: { bindingBytes: 2 ** 20 } });
    try {
      using x = engine.full(small, [2 ** 20], 1);
      await expect(x.read()).rejects.toThrow(engine.OutOfMemoryError);
      expect(small.memory.staging).toBe(0);
      using y = engine.full(small, [1000], 2);
      expect((await y.read()).every((v) => v === 2)).toBe(true);
      expect(small.memory.staging).toBe(0);
    } finally {
      small.destroy();
    }
  });
});

describe("attention in PyTorch's layout", () => {
  const z = (...shape: number[]): Tensor => engine.zeros(device, shape);
  const wrong: readonly (readonly [string, () => Tensor])[] = [
    ['one query over many keys', () => engine.attention(z(1, 4, 1, 8), z(1, 4, 5, 8), z(1, 4, 5, 8))],
    [
      'grouped heads, causal',
      () => engine.attention(z(2, 4, 6, 8), z(2, 2, 6, 8), z(2, 2, 6, 8), { causal: true }),
    ],
    [
      'a mask of the keys',
      () => {
        const keyMask = engine.integers(device, new Array(6).fill(1), [1, 6]);
        return engine.attention(z(1, 4, 6, 8), z(1, 4, 6, 8), z(1, 4, 6, 8), { keyMask });
      },
    ],
    ['more keys than queries', () => engine.attention(z(1, 4, 3, 8), z(1, 4, 7, 8), z(1, 4, 7, 8))],
  ];
  it.each(wrong)('%s', (_, call) => {
    expect(() => engine.scope(call)).toThrow(ShapeError);
    expect(() => engine.scope(call)).toThrow(
      /these look like PyTorch's \[batch, heads, tokens, D\]: pass permute/,
    );
  });

  it('what is wrong in either layout says only what is wrong', () => {
    expect(() => engine.scope(() => engine.attention(z(1, 4, 3, 8), z(1, 4, 3, 6), z(1, 4, 3, 6)))).toThrow(
      /attention: q \[1, 4, 3, 8\], k \[1, 4, 3, 6\], v \[1, 4, 3, 6\] are not \[batch, tokens, heads, D\] with heads a multiple of the keys'$/,
    );
  });
});
