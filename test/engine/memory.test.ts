/** Memory: scopes, purposes, the pool's reuse, the budget, and no growth over a thousand training steps. */

import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  AdamW,
  add,
  affine,
  crossEntropy,
  type Device,
  gelu,
  grad,
  keep,
  layerNorm,
  linear,
  matmul,
  noGrad,
  OutOfMemoryError,
  ShapeError,
  scope,
  square,
  sum,
  type Tensor,
  tensor,
  zeros,
} from '../../engine/index.ts';
import { sizeClass } from '../../engine/memory.ts';
import { adamw as adamwReference } from './reference.ts';
import { expectClose, heldBytes, normal, open, upload } from './support.ts';

let device: Device;
beforeAll(async () => {
  device = await open();
});
afterAll(() => device?.destroy());

const one = (value = 1): Tensor => tensor(device, [value]);

describe('scope', () => {
  it('frees what was made inside and lets out what it returns, in any container', async () => {
    const held = heldBytes(device);
    const made: Tensor[] = [];
    const note = (t: Tensor): Tensor => {
      made.push(t);
      return t;
    };
    const out = scope(() => {
      note(one(0));
      const kept = keep(note(one(1)));
      return {
        alone: note(one(2)),
        list: [note(one(3)), [note(one(4))]],
        map: new Map([['a', note(one(5))]]),
        object: { deep: { deeper: note(one(6)) } },
        number: 7,
        nothing: null,
        kept,
      };
    });
    expect(made.map((t) => t.disposed)).toEqual([true, false, false, false, false, false, false]);
    expect(await out.map.get('a')!.item()).toBe(5);
    expect(await out.object.deep.deeper.item()).toBe(6);
    for (const t of made) t.dispose();
    expect(heldBytes(device)).toBe(held);
  });

  it('nests: what leaves the inner one belongs to the outer one', () => {
    let inner: Tensor | undefined;
    let kept: Tensor | undefined;
    const outside = one();
    const result = scope(() => {
      inner = scope(() => {
        kept = keep(one());
        return one();
      });
      expect(inner.disposed).toBe(false);
      expect(kept!.disposed).toBe(false);
      return scope(() => outside);
    });
    expect(inner!.disposed).toBe(true);
    expect(kept!.disposed).toBe(true);
    expect(result).toBe(outside);
    expect(outside.disposed).toBe(false);
    outside.dispose();
  });

  it('frees everything when the function throws, and the next scope works', () => {
    const held = heldBytes(device);
    let inside: Tensor | undefined;
    expect(() =>
      scope(() => {
        inside = square(one().requireGrad());
        scope(() => {
          one();
          throw new RangeError('inside');
        });
      }),
    ).toThrow(RangeError);
    expect(inside!.disposed).toBe(true);
    expect(heldBytes(device)).toBe(held);
    expect(scope(() => 3)).toBe(3);
    const free = one();
    expect(free.owner).toBeNull();
    free.dispose();
  });

  it('refuses asynchronous functions', () => {
    expect(() => scope(async () => 1)).toThrow(TypeError);
    expect(() => scope(async () => 1)).toThrow(/synchronous/);
  });
});

describe('dispose', () => {
  it('twice is harmless, also by using', () => {
    const held = heldBytes(device);
    const a = one();
    const b = a.detach();
    a.dispose();
    a.dispose();
    a[Symbol.dispose]();
    expect(b.disposed).toBe(false);
    expect(heldBytes(device)).toBeGreaterThan(held);
    b.dispose();
    expect(heldBytes(device)).toBe(held);
  });

  it('makes every later use a typed error', async () => {
    const t = tensor(device, [1, 2, 3, 4], [2, 2]);
    t.dispose();
    for (const use of [
      () => add(t, t),
      () => gelu(t),
      () => matmul(t, t),
      () => linear(t, t),
      () => sum(t),
      () => t.detach(),
      () => new AdamW([one()]).step([t]),
    ])
      expect(() => scope(use)).toThrow(ShapeError);
    expect(() => gelu(t)).toThrow(/\[2, 2\] was used after dispose/);
    await expect(t.read()).rejects.toThrow(/after dispose/);
  });
});

describe('accounts', () => {
  it('name the purpose, also while a tape keeps what it saved, and come back to nothing', () => {
    const before = device.memory;
    scope(() => {
      const w = tensor(device, new Float32Array(1000), [1000], 'weights');
      expect(device.memory.weights - before.weights).toBe(sizeClass(4000));
      const x = tensor(device, new Float32Array(1000)).requireGrad();
      expect(device.memory.activations - before.activations).toBe(sizeClass(4000));
      const y = noGrad(() => add(x, w));
      expect(device.memory.saved).toBe(before.saved);
      const [p, q] = [square(x), square(x)];
      expect(device.memory.saved - before.saved).toBe(sizeClass(4000));
      // Two tapes keep x: it stays saved until the second lets go.
      grad(sum(p), [x]);
      expect(device.memory.saved - before.saved).toBe(sizeClass(4000));
      grad(sum(q), [x]);
      expect(device.memory.saved).toBe(before.saved);
      y.dispose();
    });
    const { weights, activations, saved, scratch } = device.memory;
    expect({ weights, activations, saved, scratch }).toEqual({
      weights: before.weights,
      activations: before.activations,
      saved: before.saved,
      scratch: before.scratch,
    });
  });

  it('come in size classes of at most an eighth more', () => {
    for (let bytes = 1; bytes < 1e9; bytes = Math.ceil(bytes * 1.37)) {
      const size = sizeClass(bytes);
      expect(size).toBeGreaterThanOrEqual(bytes);
      expect(size).toBeLessThanOrEqual(Math.max(256, bytes * 1.125 + 256));
      expect(size % 256).toBe(0);
      expect(sizeClass(size)).toBe(size);
    }
  });
});

describe('a training step', () => {
  it('leaves nothing behind, a thousand times', async () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const own = await open();
    let created = 0;
    let destroyed = 0;
    const createBuffer = own.gpu.createBuffer.bind(own.gpu);
    own.gpu.createBuffer = (descriptor) => {
      created++;
      const buffer = createBuffer(descriptor);
      const destroy = buffer.destroy.bind(buffer);
      buffer.destroy = () => {
        destroyed++;
        destroy();
      };
      return buffer;
    };
    try {
      const weight = (shape: readonly number[], seed: number): Tensor =>
        tensor(own, Float32Array.from(normal(shape, seed, 0.3).data), shape, 'weights').requireGrad();
      const parameters = [
        weight([16, 8], 1),
        weight([16], 2),
        weight([16], 3),
        weight([16], 4),
        weight([5, 16], 5),
      ];
      const [w1, b1, gain, bias, w2] = parameters as [Tensor, Tensor, Tensor, Tensor, Tensor];
      const optimiser = new AdamW(parameters, { rate: 0.01 });
      const labels = [0, 1, 2, 3, 4, 0, 1];
      const step = (): Tensor =>
        scope(() => {
          const x = upload(own, normal([7, 8], 6));
          const hidden = layerNorm(gelu(linear(x, w1, b1)), gain, bias, 1e-5);
          const loss = crossEntropy(linear(hidden, w2), labels);
          optimiser.step(grad(loss, parameters));
          return loss.detach();
        });
      const losses: number[] = [];
      const run = async (steps: number): Promise<void> => {
        for (let i = 0; i < steps; i++) {
          const loss = step();
          if (i % 50 === 0) losses.push(await loss.item());
          loss.dispose();
        }
        await own.finish();
      };
      await run(200);
      const [report, buffers] = [own.memory, created - destroyed];
      collect();
      const heap = process.memoryUsage().heapUsed;
      await run(1000);
      expect(own.memory).toEqual(report);
      expect(created - destroyed).toBe(buffers);
      collect();
      expect(process.memoryUsage().heapUsed - heap).toBeLessThan(4 * 2 ** 20);
      expect(own.memory.saved).toBe(0);
      expect(own.memory.activations).toBe(0);
      expect(losses.at(-1)!).toBeLessThan(0.1 * losses[0]!);
      optimiser.dispose();
      for (const p of parameters) p.dispose();
      expect(heldBytes(own)).toBe(0);
      expect(own.memory.total).toBe(own.memory.pooled);
    } finally {
      own.destroy();
    }
  });

  it("of AdamW is the reference's", async () => {
    const options = { rate: 0.02, beta1: 0.8, beta2: 0.95, eps: 1e-6, decay: 0.1 };
    const x = normal([37], 1);
    const state = {
      parameter: Float64Array.from(x.data),
      first: new Float64Array(37),
      second: new Float64Array(37),
    };
    const p = upload(device, x);
    const optimiser = new AdamW([p], options);
    for (let step = 1; step <= 10; step++) {
      const gradient = normal([37], 10 + step, step === 4 ? 1e4 : 1);
      const g = upload(device, gradient);
      optimiser.step([g]);
      g.dispose();
      adamwReference(state, gradient.data, step, options);
      expectClose(await p.read(), state.parameter, { ulps: 64, floor: 1 }, `step ${step}`);
    }
    optimiser.dispose();
    p.dispose();
  });
});

describe('the budget', () => {
  it("is a typed error with numbers, before the driver's, and what was there stays usable", async () => {
    const budget = 2 ** 20;
    const own = await open({ memoryBudget: budget, mask: { bindingBytes: 65536 } });
    try {
      const a = tensor(own, new Float32Array(100_000).fill(1));
      const before = own.memory;
      let error: unknown;
      try {
        zeros(own, [200_000]);
      } catch (caught) {
        error = caught;
      }
      expect(error).toBeInstanceOf(OutOfMemoryError);
      const found = error as OutOfMemoryError;
      expect(found.code).toBe('out-of-memory');
      expect(found.budget).toBe(budget);
      expect(found.asked).toBeGreaterThan(0);
      expect(found.asked + found.held).toBeGreaterThan(budget);
      expect(found.message).toMatch(/held \(activations \d+\.\d MiB\) of a budget of 1\.0 MiB/);
      // The pieces that did fit were given back.
      expect(heldBytes(own)).toBe(before.activations);
      expect(await sum(a).item()).toBe(100_000);
      a.dispose();
      const b = zeros(own, [200_000]);
      expect(own.memory.total).toBeLessThanOrEqual(budget);
      b.dispose();
    } finally {
      own.destroy();
    }
  });

  it('counts free buffers of other sizes only until they are needed', async () => {
    const own = await open({ memoryBudget: 2 ** 20 });
    try {
      for (let size = 10_000; size < 120_000; size += 10_000) {
        const t = scope(() => affine(zeros(own, [size]), 1, size));
        expect((await t.read()).every((v) => v === size)).toBe(true);
        t.dispose();
        expect(own.memory.total).toBeLessThanOrEqual(2 ** 20);
      }
      expect(heldBytes(own)).toBe(0);
      expect(own.memory.peak).toBeLessThanOrEqual(2 ** 20);
    } finally {
      own.destroy();
    }
  });
});

describe.each([
  ['immediates', {}],
  ['a uniform ring', { immediates: false }],
] as const)('order, with parameters in %s', (_, mask) => {
  it('a host write into a recycled buffer waits for the open pass that uses it', async () => {
    const own = await open({ mask });
    try {
      let expected = 0;
      let total = zeros(own, [64]);
      for (let i = 0; i < 350; i++) {
        const value = (i % 17) - 3;
        expected += value;
        const part = tensor(own, new Float32Array(64).fill(value));
        const next = add(total, part);
        part.dispose();
        total.dispose();
        total = next;
      }
      expect((await total.read()).every((v) => v === expected)).toBe(true);
    } finally {
      own.destroy();
    }
  });

  it('a host write into a buffer in use waits for what was recorded before, and only for that', async () => {
    const own = await open({ mask });
    try {
      const x = tensor(own, [1, 2, 3, 4]);
      const before = affine(x, 10, 0);
      own.queue.write(
        x.storage.segments[0]!.buffer,
        0,
        new Uint8Array(new Float32Array([5, 6, 7, 8]).buffer),
      );
      const after = affine(x, 10, 0);
      expect([...(await before.read())]).toEqual([10, 20, 30, 40]);
      expect([...(await after.read())]).toEqual([50, 60, 70, 80]);
    } finally {
      own.destroy();
    }
  });

  it('what runs again meets the same buffers, in whatever order they were given back', async () => {
    const own = await open();
    const names = (): number[] => {
      const held = Array.from({ length: 5 }, () => zeros(own, [1000]));
      const ids = held.map((t) => t.storage.window().buffer.id);
      for (const i of [3, 0, 4, 1, 2]) held[i]!.dispose();
      return ids;
    };
    const first = names();
    expect(new Set(first).size).toBe(5);
    expect(names()).toEqual(first);
    own.destroy();
  });

  it('an upload takes no buffer that the open pass still uses, a kernel does', async () => {
    const own = await open({ mask });
    try {
      const id = (t: Tensor): number => t.storage.segments[0]!.buffer.id;
      const x = tensor(own, [1, 2]);
      const first = id(x);
      const y = affine(x, 2, 0);
      x.dispose();
      const uploaded = tensor(own, [7, 7]);
      expect(id(uploaded)).not.toBe(first);
      expect(id(affine(y, 2, 0))).toBe(first);
      expect([...(await y.read())]).toEqual([2, 4]);
    } finally {
      own.destroy();
    }
  });

  it('a thousand dispatches without a readback keep their parameters', async () => {
    const own = await open({ mask });
    try {
      const x = tensor(own, [1, 10]);
      const results = Array.from({ length: 1000 }, (_, i) => affine(x, i, 0.5));
      expect(own.queue.dispatches).toBeGreaterThanOrEqual(1000);
      for (const i of [0, 1, 99, 100, 101, 199, 200, 201, 500, 999])
        expect([...(await results[i]!.read())]).toEqual([i + 0.5, 10 * i + 0.5]);
    } finally {
      own.destroy();
    }
  });

  it('results read at the same time do not mix', async () => {
    const own = await open({ mask });
    try {
      const results = Array.from({ length: 20 }, (_, i) => affine(zeros(own, [1000 + i]), 1, i));
      const values = await Promise.all(results.map((t) => t.read()));
      values.forEach((v, i) => {
        expect(v.length).toBe(1000 + i);
        expect(v.every((e) => e === i)).toBe(true);
      });
      for (const t of results) t.dispose();
      expect(own.memory.staging).toBe(0);
    } finally {
      own.destroy();
    }
  });
});
