/** Tensors of two devices, tensors that are gone, tapes that ended: the real cause; and tapes outside of scopes are freed. */

import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import {
  AdamW,
  add,
  affine,
  attention,
  concat,
  convertInto,
  type Device,
  DeviceError,
  empty,
  exp,
  GradientError,
  gatherRows,
  gelu,
  grad,
  integers,
  layerNorm,
  linear,
  linearThen,
  matmul,
  max,
  mul,
  pick,
  record,
  reshape,
  rmsNorm,
  rotary,
  rotaryTable,
  rowNorm,
  ShapeError,
  scope,
  slice,
  softmax,
  square,
  sub,
  sum,
  type Tensor,
  tensor,
  transpose,
  where,
  writeRow,
  zeros,
} from '../../engine/index.ts';
import { heldBytes, open } from './support.ts';

let device: Device;
let other: Device;
beforeAll(async () => {
  [device, other] = [await open(), await open()];
});
afterAll(() => {
  device?.destroy();
  other?.destroy();
});

const ones = (on: Device, ...shape: number[]): Tensor => zeros(on, shape);
const ids = (on: Device, ...shape: number[]): Tensor =>
  integers(on, Array(shape.reduce((a, b) => a * b)).fill(0), shape);

/** Operations of several tensors, each of which may lie elsewhere; what they are made of by place. */
const SEVERAL: Record<
  string,
  { readonly make: ((on: Device) => Tensor)[]; readonly run: (...t: Tensor[]) => unknown }
> = {
  add: { make: [(d) => ones(d, 4), (d) => ones(d, 4)], run: (a, b) => add(a!, b!) },
  'mul, repeated': { make: [(d) => ones(d, 3, 4), (d) => ones(d, 4)], run: (a, b) => mul(a!, b!) },
  'sub, strided': { make: [(d) => ones(d, 3, 1), (d) => ones(d, 1, 5)], run: (a, b) => sub(a!, b!) },
  where: {
    make: [(d) => ones(d, 4), (d) => ones(d, 4), (d) => ones(d, 4)],
    run: (c, a, b) => where(c!, a!, b!),
  },
  matmul: { make: [(d) => ones(d, 2, 4), (d) => ones(d, 4, 3)], run: (a, b) => matmul(a!, b!) },
  linear: {
    make: [(d) => ones(d, 2, 4), (d) => ones(d, 3, 4), (d) => ones(d, 3)],
    run: (x, w, b) => linear(x!, w!, b!),
  },
  linearThen: {
    make: [(d) => ones(d, 2, 4), (d) => ones(d, 4, 4), (d) => ones(d, 2, 4)],
    run: (x, w, r) => linearThen(x!, w!, undefined, { op: 'add', with: r! }),
  },
  layerNorm: {
    make: [(d) => ones(d, 2, 4), (d) => ones(d, 4), (d) => ones(d, 4)],
    run: (x, w, b) => layerNorm(x!, w!, b!, 1e-5),
  },
  rmsNorm: { make: [(d) => ones(d, 2, 4), (d) => ones(d, 4)], run: (x, w) => rmsNorm(x!, w!, 1e-5) },
  rowNorm: {
    make: [(d) => ones(d, 2, 4), (d) => ones(d, 4), (d) => ones(d, 4)],
    run: (x, weight, bias) => rowNorm(x!, { kind: 'layer', weight: weight!, bias, eps: 1e-5 }),
  },
  'softmax with a mask': {
    make: [(d) => ones(d, 1, 1, 2, 4), (d) => ids(d, 1, 4)],
    run: (x, m) => softmax(x!, { keyMask: m! }),
  },
  attention: {
    make: [
      (d) => ones(d, 1, 2, 1, 4),
      (d) => ones(d, 1, 2, 1, 4),
      (d) => ones(d, 1, 2, 1, 4),
      (d) => ids(d, 1, 2),
    ],
    run: (q, k, v, m) => attention(q!, k!, v!, { keyMask: m! }),
  },
  rotary: {
    make: [(d) => ones(d, 2, 1, 4), (d) => ids(d, 2)],
    run: (x, p) => rotary(x!, p!, rotaryTable(x!.device, 4, 4, 1e4)),
  },
  gatherRows: { make: [(d) => ones(d, 3, 4), (d) => ids(d, 2)], run: (t, i) => gatherRows(t!, i!) },
  pick: { make: [(d) => ones(d, 2, 4), (d) => ids(d, 2)], run: (t, i) => pick(t!, i!) },
  writeRow: {
    make: [(d) => ones(d, 3, 4), (d) => ones(d, 4), (d) => ids(d, 1)],
    run: (t, r, i) => writeRow(t!, r!, i!),
  },
  concat: { make: [(d) => ones(d, 4), (d) => ones(d, 3)], run: (a, b) => concat([a!, b!], 0) },
  convert: {
    make: [(d) => ones(d, 4, 4), (d) => empty(d, [4, 4], 'f16')],
    run: (x, y) => convertInto(x!, y!),
  },
  'grad with a cotangent': {
    make: [(d) => ones(d, 4), (d) => ones(d, 4)],
    run: (x, c) => grad(square(x!.requireGrad()), [x!], { cotangent: c! }),
  },
  AdamW: {
    make: [(d) => ones(d, 4), (d) => ones(d, 4), (d) => ones(d, 1)],
    run: (w, g, f) => new AdamW([w!]).step([g!], f!),
  },
};
const CASES = Object.entries(SEVERAL).flatMap(([name, { make, run }]) =>
  make.map((_, which) => [name, which, make, run] as const),
);

describe('tensors of two devices', () => {
  it.each(CASES)('%s, tensor %i', async (name, which, make, run) => {
    scope(() => {
      const given = make.map((one, i) => one(i === which ? other : device));
      expect(() => run(...given)).toThrow(DeviceError);
      expect(() => run(...given)).toThrow(/two devices; bring one over/);
      if (/^\w+$/.test(name)) expect(() => run(...given)).toThrow(new RegExp(`^${name}`));
      run(...make.map((one) => one(other)));
    });
    await Promise.all([device.finish(), other.finish()]);
  });

  it('leave nothing behind', () => {
    const [a, b] = [ones(device, 4), ones(other, 4)];
    const held = [heldBytes(device), heldBytes(other)];
    for (const run of [add, mul, matmul, (x: Tensor, y: Tensor) => concat([x, y], 0)])
      expect(() => run(a, b)).toThrow();
    expect([heldBytes(device), heldBytes(other)]).toEqual(held);
  });
});

describe('the pool', () => {
  it('looks through the bind groups once for all buffers that it gives back', async () => {
    const own = await open();
    const windows: number[] = [];
    const made = Array.from({ length: 200 }, (_, i) => affine(ones(own, 64 * (i + 1)), 1, i));
    await own.finish();
    for (const t of made) t.dispose();
    const spy = vi.spyOn(own.queue, 'forget').mockImplementation((buffers) => {
      windows.push(buffers.size);
    });
    own.pool.trim();
    expect(windows.length).toBe(1);
    expect(windows[0]).toBeGreaterThan(100);
    spy.mockRestore();
    expect(own.memory.total).toBe(heldBytes(own));
    own.pool.trim();
    own.destroy();
  });

  it('forgets the bind groups of what it gave back, and of nothing else', async () => {
    const own = await open();
    const x = tensor(own, [1, 2]);
    const kept = affine(x, 2, 0);
    for (let round = 0; round < 3; round++) {
      const gone = affine(x, 3, round);
      expect([...(await gone.read())]).toEqual([3 + round, 6 + round]);
      gone.dispose();
      own.pool.trim();
      expect([...(await kept.read())]).toEqual([2, 4]);
    }
    own.destroy();
  });
});

describe('Device.lost', () => {
  it('resolves for destroy(), with that reason', async () => {
    const own = await open();
    const { lost } = own;
    own.destroy();
    expect((await lost).reason).toBe('destroyed');
  });
});

describe('a plan', () => {
  it('is of one device', () => {
    const x = ones(other, 4);
    const held = heldBytes(device);
    expect(() => record(device, () => square(x))).toThrow(/record: its tensors lie on two devices/);
    expect(heldBytes(device)).toBe(held);
  });
});

describe('a step of AdamW that fails', () => {
  const failures: [string, (good: Tensor) => [Tensor[], Tensor?], RegExp][] = [
    [
      'for a gradient of another size',
      (good) => [[good, ones(device, 3)]],
      /gradient \[3\] for parameter \[2\]/,
    ],
    ['for too few gradients', (good) => [[good]], /1 gradients for 2 parameters/],
    [
      'for a gradient that is gone',
      (good) => {
        const gone = ones(device, 2);
        gone.dispose();
        return [[good, gone]];
      },
      /used after dispose/,
    ],
    ['for a gradient elsewhere', (good) => [[good, ones(other, 2)]], /two devices/],
    [
      'for a factor that is gone',
      (good) => {
        const gone = ones(device, 1);
        gone.dispose();
        return [[good, good], gone];
      },
      /used after dispose/,
    ],
  ];
  it.each(failures)('%s does not count, and changes nothing', async (_, make, message) => {
    const parameters = [tensor(device, [1, 2]), tensor(device, [3, 4])];
    const optimiser = new AdamW(parameters, { rate: 0.1, decay: 0 });
    const good = tensor(device, [1, -1]);
    const [gradients, factor] = make(good);
    expect(() => optimiser.step(gradients, factor)).toThrow(message);
    expect(optimiser.steps).toBe(0);
    expect(await read(parameters[0])).toEqual([1, 2]);
    // The first step's bias correction makes it the rate itself.
    optimiser.step([good, good]);
    expect(optimiser.steps).toBe(1);
    expect((await read(parameters[0])).map((v) => Math.round(v * 1e5) / 1e5)).toEqual([0.9, 2.1]);
    optimiser.dispose();
  });

  it('for want of memory', async () => {
    const small = await open({ memoryBudget: 5 * 256 });
    const [w, g] = [tensor(small, [1, 2]), tensor(small, [1, 1])];
    const optimiser = new AdamW([w], { rate: 0.1, decay: 0 });
    const full = ones(small, 2);
    expect(() => optimiser.step([g])).toThrow(/out of memory/);
    expect(optimiser.steps).toBe(0);
    full.dispose();
    optimiser.step([g]);
    expect(optimiser.steps).toBe(1);
    small.destroy();
  });
});

describe('a tensor that is gone', () => {
  it.each(CASES)('%s, tensor %i', (_, which, make, run) => {
    scope(() => {
      const given = make.map((one) => one(device));
      // Another handle keeps the elements: it is this one that must not be used.
      given[which]!.detach();
      given[which]!.dispose();
      expect(() => run(...given)).toThrow(ShapeError);
      expect(() => run(...given)).toThrow(/ was used after dispose\(\)/);
    });
  });

  it.each(
    Object.entries({
      gelu,
      exp,
      sum: (t: Tensor) => sum(t),
      max: (t: Tensor) => max(t),
      transpose,
      reshape: (t: Tensor) => reshape(t, [4]),
      slice: (t: Tensor) => slice(t, [0, 0], [1, 1]),
      detach: (t: Tensor) => t.detach(),
      requireGrad: (t: Tensor) => t.requireGrad(),
      write: (t: Tensor) => t.write([1, 2, 3, 4]),
    }),
  )('%s tells whether it was freed by hand or with its scope', (_, run) => {
    const byHand = ones(device, 2, 2);
    byHand.dispose();
    let inside: Tensor | undefined;
    scope(() => {
      inside = ones(device, 2, 2);
    });
    expect(() => run(byHand)).toThrow(/\[2, 2\] was used after dispose\(\)/);
    expect(() => run(inside!)).toThrow(
      /\[2, 2\] was used after the scope that it was made in had ended; return it from there, or keep\(\) it/,
    );
    expect(inside!.disposed && inside!.shape.join() === '2,2' && inside!.dtype === 'f32').toBe(true);
  });

  it('reading one', async () => {
    const x = ones(device, 2);
    x.dispose();
    await expect(x.read()).rejects.toThrow(/used after dispose/);
    const { storage } = ones(device, 2);
    storage.release();
    expect(() => storage.window()).toThrow(/given back/);
  });
});

const leaf = (...values: number[]): Tensor => tensor(device, values).requireGrad();
const read = async (t: Tensor | undefined): Promise<number[]> => [...(await t!.read())];

describe('a tape that is gone', () => {
  it('says by what: the scope, or an earlier grad()', () => {
    const x = leaf(3);
    const y = scope(() => exp(square(x)));
    expect(() => grad(y, [x])).toThrow(GradientError);
    expect(() => grad(y, [x])).toThrow(/exp: its tape ended with the scope that it was recorded in/);
    const z = square(x);
    grad(z, [x]);
    expect(() => grad(z, [x])).toThrow(/mul: its tape was released by an earlier grad\(\)/);
  });
});

describe('a tape outside of scopes', () => {
  /** Bytes that `work` leaves behind. */
  const left = (work: (x: Tensor) => void): number => {
    const x = leaf(1, 2, 3);
    const before = heldBytes(device);
    work(x);
    const after = heldBytes(device);
    x.dispose();
    return after - before;
  };

  it.each([
    ['one operation', (x: Tensor) => square(x).dispose()],
    ['one that saves its output', (x: Tensor) => softmax(x).dispose()],
    [
      'a chain whose middle goes first',
      (x: Tensor) => {
        const y = square(x);
        const z = exp(y);
        y.dispose();
        z.dispose();
      },
    ],
    [
      'a chain whose end goes first',
      (x: Tensor) => {
        const y = square(x);
        exp(y).dispose();
        y.dispose();
      },
    ],
    [
      'a diamond',
      (x: Tensor) => {
        const y = square(x);
        const [a, b] = [exp(y), gelu(y)];
        const z = mul(a, b);
        for (const t of [y, a, b, z]) t.dispose();
      },
    ],
    [
      'one kept by retainTape',
      (x: Tensor) => {
        const y = square(x);
        const z = sum(y);
        y.dispose();
        for (let i = 0; i < 2; i++) for (const g of grad(z, [x], { retainTape: true })) g.dispose();
        z.dispose();
      },
    ],
    [
      'one of a gradient that has gradients',
      (x: Tensor) => {
        const y = square(x);
        const z = mul(y, x);
        const w = sum(z);
        const [g] = grad(w, [x], { createGraph: true });
        const total = sum(g!);
        for (const t of [...grad(total, [x]), total, g!, w, z, y]) t.dispose();
      },
    ],
    [
      'one that a scope kept',
      (x: Tensor) => {
        const z = scope(() => sum(exp(square(x))), true);
        for (const g of grad(z, [x], { retainTape: true })) g.dispose();
        z.dispose();
      },
    ],
    [
      'one of which only another handle is left for a while',
      (x: Tensor) => {
        const y = square(x);
        const again = y.view(y.shape, y.track);
        y.dispose();
        const z = sum(again);
        again.dispose();
        for (const t of [...grad(z, [x], { retainTape: true }), z]) t.dispose();
      },
    ],
    [
      '5000 operations',
      (x: Tensor) => {
        let y = square(x);
        for (let i = 0; i < 5000; i++) {
          const next = mul(y, x);
          y.dispose();
          y = next;
        }
        y.dispose();
      },
    ],
  ])('%s is freed with its last handle', (_, work) => {
    expect(left(work)).toBe(0);
    expect(device.memory.saved).toBe(0);
  });

  it('lives as long as anything that leads to it', async () => {
    const x = leaf(2, 3);
    const y = square(x);
    const z = mul(y, x);
    y.dispose();
    const total = sum(z);
    z.dispose();
    expect(await read(grad(total, [x], { retainTape: true })[0])).toEqual([12, 27]);
    expect(await read(grad(total, [x])[0])).toEqual([12, 27]);
    total.dispose();
    expect(device.memory.saved).toBe(0);
  });

  it('goes back where every handle but the last is gone, through operations of every kind', async () => {
    const x = leaf(0.5, -1, 2, 0.25);
    const steps = [
      (t: Tensor) => reshape(t, [2, 2]),
      (t: Tensor) => transpose(t),
      (t: Tensor) => softmax(t),
      (t: Tensor) => matmul(t, t),
      (t: Tensor) => concat([t, t], 0),
      (t: Tensor) => slice(t, [1, 0], [3, 2]),
      (t: Tensor) => gelu(t),
    ];
    const run = (dispose: boolean): Tensor => {
      let t = square(x);
      for (const step of steps) {
        const next = step(t);
        if (dispose) t.dispose();
        t = next;
      }
      return sum(mul(t, t));
    };
    const kept = run(false);
    const expected = await read(grad(kept, [x])[0]);
    const held = device.memory.saved;
    const bare = run(true);
    expect(await read(grad(bare, [x])[0])).toEqual(expected);
    expect(device.memory.saved).toBeLessThanOrEqual(held);
  });
});
