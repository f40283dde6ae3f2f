/** Record and replay: the bits of eager runs, among eager work, in memory of its own; and what is refused. */

import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import {
  AdamW,
  add,
  affine,
  type Device,
  gelu,
  grad,
  integers,
  layerNorm,
  linear,
  mul,
  noGrad,
  OutOfMemoryError,
  type Plan,
  PlanError,
  record,
  ShapeError,
  scope,
  slice,
  softmax,
  square,
  sum,
  type Tensor,
  tensor,
  zeros,
} from '../../engine/index.ts';
import { loadModelWeights, localFolder } from '../../models/index.ts';
import { expectSameBits, heldBytes, normal, open, upload } from './support.ts';

const numbers = (shape: readonly number[], seed: number): Float32Array =>
  Float32Array.from(normal(shape, seed).data);

/** As a run without a plan gives it. */
async function eager(fn: () => Tensor): Promise<Float32Array> {
  using y = scope(fn);
  return await y.read();
}

describe.each([
  ['immediates', true],
  ['a uniform ring', false],
] as const)('with %s', (_, immediates) => {
  let device: Device;
  let held: number;
  const mine: Tensor[] = [];
  const made = (t: Tensor): Tensor => {
    mine.push(t);
    return t;
  };
  const normals = (shape: readonly number[], seed: number): Tensor =>
    made(upload(device, normal(shape, seed)));
  beforeAll(async () => {
    device = await open({ mask: { immediates } });
    held = heldBytes(device);
  });
  afterEach(() => {
    for (const t of mine.splice(0)) t.dispose();
    expect(heldBytes(device)).toBe(held);
  });
  afterAll(() => device?.destroy());

  /** A chain whose intermediate values share buffers, with an upload inside and a copy. */
  const network = (): { x: Tensor; fn: () => Tensor } => {
    const x = normals([5, 24], 1);
    const [w1, b1, g, b] = [normals([40, 24], 2), normals([40], 3), normals([40], 4), normals([40], 5)];
    const w2 = normals([24, 40], 6);
    return {
      x,
      fn: () => {
        let y = x;
        for (let i = 0; i < 3; i++) {
          const inner = layerNorm(gelu(linear(y, w1, b1)), g, b, 1e-5);
          const bias = tensor(device, numbers([24], 10 + i));
          y = add(softmax(linear(inner, w2)), bias);
        }
        return slice(y, [1, 3], [4]);
      },
    };
  };

  it('gives the bits of an eager run on rewritten inputs, among eager work that it leaves alone', async () => {
    const { x, fn } = network();
    using plan = record(device, fn);
    expectSameBits(await plan.result.read(), await eager(fn));
    expect(plan.length).toBeGreaterThan(12);
    const bystander = normals([5, 24], 77);
    const untouched = await bystander.read();
    const outputs: Float32Array[] = [];
    for (let turn = 0; turn < 4; turn++) {
      x.write(numbers([5, 24], 100 + turn));
      const expected = await eager(fn);
      // Recorded before the replay and read after it: its buffers must not be the plan's.
      const before = scope(fn);
      plan.replay();
      const after = made(affine(plan.result, 2, 1));
      expectSameBits(await plan.result.read(), expected);
      expectSameBits(await before.read(), expected);
      expectSameBits(
        await after.read(),
        expected.map((v) => Math.fround(2 * v + 1)),
      );
      before.dispose();
      outputs.push(expected);
    }
    expect(outputs[0]).not.toEqual(outputs[1]);
    expectSameBits(await bystander.read(), untouched);
  });

  it('orders writes and replays that are not waited for, over more dispatches than a submit holds', async () => {
    const x = normals([3, 4], 1);
    const step = (y: Tensor): Tensor => {
      for (let i = 0; i < 130; i++) y = affine(y, 1, i % 7);
      return y;
    };
    using plan = record(device, () => step(x));
    expect(plan.length).toBe(130);
    const outputs: Tensor[] = [];
    const inputs = [1, 2, 3].map((seed) => numbers([3, 4], seed));
    for (const input of inputs) {
      x.write(input);
      plan.replay();
      outputs.push(made(affine(plan.result, 1, 0)));
    }
    for (const [i, y] of outputs.entries()) {
      x.write(inputs[i]!);
      expectSameBits(await y.read(), await eager(() => step(x)));
    }
  });

  it('replays gradients taken inside', async () => {
    const x = normals([4, 6], 1);
    const w = normals([6, 6], 2).requireGrad();
    const fn = (): { dw: Tensor; loss: Tensor } => {
      const loss = sum(square(softmax(linear(gelu(linear(x, w)), w))));
      return { dw: grad(loss, [w])[0]!, loss: loss.detach() };
    };
    using plan = record(device, fn);
    for (let turn = 0; turn < 3; turn++) {
      x.write(numbers([4, 6], 20 + turn));
      const expected = scope(fn);
      plan.replay();
      expectSameBits(await plan.result.dw.read(), await expected.dw.read());
      expectSameBits(await plan.result.loss.read(), await expected.loss.read());
      for (const t of Object.values(expected)) t.dispose();
    }
  });

  it("replays a model's forward with an edit whose change is rewritten", async () => {
    const model = await loadModelWeights(await localFolder('examples/models/facts-bert'), device);
    const ids = [[2, 40, 50, 60, 70, 3]];
    const delta = zeros(device, [1, 6, model.sizes.width]);
    const forward = () =>
      model.run({ ids }, { edit: { 'blocks.1.mlp.hook_post': (h) => add(h, delta) }, logits: [3] });
    {
      using plan = record(device, forward);
      const plain = await plan.result.logits.read();
      for (const value of [-2, 0.5, 3]) {
        const shift = new Float32Array(delta.size);
        shift[3 * model.sizes.width + 11] = value;
        delta.write(shift);
        using run = forward();
        plan.replay();
        const moved = await plan.result.logits.read();
        expectSameBits(moved, await run.logits.read());
        expect(moved).not.toEqual(plain);
      }
      delta.write(new Float32Array(delta.size));
      plan.replay();
      expectSameBits(await plan.result.logits.read(), plain);
    }
    delta.dispose();
    model.dispose();
  });

  it('goes on with what it changes in place', async () => {
    const [a, b] = [normals([8], 1).requireGrad(), normals([8], 1).requireGrad()];
    const step = (w: Tensor, optimiser: AdamW): void =>
      scope(() => optimiser.step(grad(sum(square(w)), [w])));
    // Without momentum and with no correction by the number of the step, which a recording keeps.
    const make = (w: Tensor): AdamW => new AdamW([w], { rate: 0.1, beta1: 0, beta2: 0 });
    const [one, other] = [make(a), make(b)];
    step(a, one);
    step(b, other);
    using plan = record(device, () => step(a, one));
    plan.replay();
    plan.replay();
    for (let i = 0; i < 3; i++) step(b, other);
    expectSameBits(await a.read(), await b.read());
    for (const optimiser of [one, other]) optimiser.dispose();
  });

  it('survives bind groups being forgotten and the pool being trimmed', async () => {
    const { x, fn } = network();
    using plan = record(device, fn);
    for (let turn = 0; turn < 2; turn++) {
      (await eager(fn)).fill(0);
      device.pool.trim();
      x.write(numbers([5, 24], 50 + turn));
      plan.replay();
      expectSameBits(await plan.result.read(), await eager(fn));
    }
  });

  it('does not grow over 1000 replays, and gives everything back', async () => {
    const { x, fn } = network();
    record(device, fn).dispose();
    await eager(fn);
    const before = device.memory;
    const plan = record(device, fn);
    await plan.result.read();
    const during = device.memory;
    for (let turn = 0; turn < 1000; turn++) {
      if (turn % 100 === 0) x.write(numbers([5, 24], turn));
      plan.replay();
    }
    await plan.result.read();
    expect(device.memory).toEqual(during);
    plan.dispose();
    plan.dispose();
    expect(plan.result.disposed).toBe(true);
    expect(device.memory).toEqual({
      ...before,
      total: during.total,
      peak: during.peak,
      pooled: device.memory.pooled,
    });
    expect(device.memory.pooled - before.pooled).toBe(during.total - before.total);
    const whole = device.memory;
    record(device, fn).dispose();
    expect(device.memory).toEqual(whole);
  });

  it('keeps its memory from others, but no more than its longest moment needs', () => {
    const x = normals([64, 64], 1);
    const chain = (): Tensor => {
      let y = x;
      for (let i = 0; i < 20; i++) {
        const next = affine(y, 1, 1);
        if (y !== x) y.dispose();
        y = next;
      }
      return y;
    };
    const before = heldBytes(device);
    using plan = record(device, chain);
    expect(plan.length).toBe(20);
    expect(heldBytes(device) - before).toBe(2 * 64 * 64 * 4);
    // Others' tensors of this size are elsewhere.
    const others = Array.from({ length: 4 }, (_, i) => normals([64, 64], i));
    const lying = new Set(others.map((t) => t.storage.segments[0]!.buffer));
    expect(lying.has(plan.result.storage.segments[0]!.buffer)).toBe(false);
  });

  it('never reuses what the host wrote, nor lets an upload into what it used', async () => {
    const x = normals([64], 1);
    const fn = (): Tensor => {
      const first = affine(x, 2, 0);
      const constant = tensor(device, numbers([64], 2));
      const y = mul(first, constant);
      first.dispose();
      constant.dispose();
      // Would take the constant's buffer, or put this one into `first`'s.
      const again = tensor(device, numbers([64], 3));
      return add(affine(y, 1, 1), again);
    };
    using plan = record(device, fn);
    for (const seed of [5, 6]) {
      x.write(numbers([64], seed));
      plan.replay();
      expectSameBits(await plan.result.read(), await eager(fn));
    }
  });

  it('keeps to the budget, and leaves nothing where the function fails', async () => {
    const small = await open({ mask: { immediates }, memoryBudget: 2 ** 20 });
    const x = zeros(small, [64, 1024]);
    const before = heldBytes(small);
    const fill = (): Tensor[] => Array.from({ length: 4 }, () => affine(x, 1, 1));
    expect(() => record(small, fill)).toThrow(OutOfMemoryError);
    expect(heldBytes(small)).toBe(before);
    // A plan's free buffers are no one else's, and count.
    const plan = record(small, () => {
      const [a, b] = [affine(x, 1, 1), affine(x, 1, 2)];
      b.dispose();
      return a;
    });
    expect(heldBytes(small)).toBe(3 * x.size * 4);
    const other = affine(x, 1, 3);
    expect(() => affine(x, 1, 4)).toThrow(OutOfMemoryError);
    plan.dispose();
    const more = affine(x, 1, 4);
    expect(more.disposed || other.disposed).toBe(false);
    expect(small.memory.total).toBeLessThanOrEqual(2 ** 20);
    small.destroy();
  });

  it('counts replayed dispatches in the profiler', async () => {
    const x = normals([4, 4], 1);
    using plan = record(device, () => softmax(x));
    device.startProfiling();
    plan.replay();
    plan.replay();
    expect((await device.stopProfiling()).map((row) => row.dispatches)).toEqual([2]);
  });

  it('belongs to a scope, with its result', () => {
    const x = normals([4], 1);
    const plans: Plan<Tensor>[] = [];
    const out = scope(() => {
      plans.push(record(device, () => affine(x, 2, 0)));
      return record(device, () => affine(x, 3, 0));
    });
    expect(() => plans[0]!.replay()).toThrow(PlanError);
    expect(plans[0]!.result.disposed).toBe(true);
    expect(out.result.disposed).toBe(false);
    out.replay();
    out.dispose();
    // What was there before is not the plan's.
    const views = record(device, () => [x, x.detach()]);
    views.dispose();
    expect(views.result.map((t) => t.disposed)).toEqual([false, true]);
  });

  it('replays one plan on the result of another, and notices when that is gone', async () => {
    const x = normals([4], 1);
    const first = record(device, () => affine(x, 2, 0));
    using second = record(device, () => affine(first.result, 1, 1));
    x.write([1, 2, 3, 4]);
    first.replay();
    second.replay();
    expect([...(await second.result.read())]).toEqual([3, 5, 7, 9]);
    first.dispose();
    expect(() => second.replay()).toThrow('disposed of');
  });

  it('refuses what it could not replay', async () => {
    const x = normals([4], 1);
    const fn = (): Tensor => affine(x, 2, 0);
    const before = heldBytes(device);
    expect(() => record(device, () => record(device, fn))).toThrow('a recording inside a recording');
    expect(() => record(device, () => x.write([1, 2, 3, 4]))).toThrow(PlanError);
    const late = () => {
      const t = tensor(device, [1, 2, 3, 4]);
      const y = add(t, x);
      t.write([2, 3, 4, 5]);
      return y;
    };
    expect(() => record(device, late)).toThrow('would not be replayed');
    let reading: Promise<unknown> | undefined;
    record(device, () => {
      reading = fn().read();
    }).dispose();
    await expect(reading).rejects.toThrow('nothing can be read inside a recording');
    expect(() => record(device, () => Promise.resolve(1))).toThrow(TypeError);
    const inPlace = () => {
      const w = tensor(device, [1, 2, 3, 4]).requireGrad();
      const optimiser = new AdamW([w], { rate: 0.1 });
      optimiser.step(grad(sum(square(w)), [w]));
      optimiser.dispose();
    };
    expect(() => record(device, inPlace)).toThrow('changed in place');
    const plan = record(device, fn);
    expect(() => record(device, () => plan.replay())).toThrow('replay inside a recording');
    plan.dispose();
    expect(() => plan.replay()).toThrow('replay after dispose()');
    const input = tensor(device, [1, 2, 3, 4]);
    using orphan = record(device, () => affine(input, 2, 0));
    input.dispose();
    const successor = made(tensor(device, [5, 6, 7, 8]));
    expect(() => orphan.replay()).toThrow('disposed of');
    successor.write([1, 1, 1, 1]);
    // Given back inside already.
    const inside = tensor(device, [1, 2, 3, 4]);
    using consumed = record(device, () => {
      const y = affine(inside, 2, 0);
      inside.dispose();
      return affine(y, 1, 1);
    });
    expect(() => consumed.replay()).toThrow('disposed of');
    orphan.dispose();
    consumed.dispose();
    expect(heldBytes(device) - before).toBe(successor.storage.segments[0]!.buffer.bytes);
    // None of it leaves a recording open.
    expectSameBits(
      await eager(fn),
      (await x.read()).map((v) => 2 * v),
    );
  });

  it('writes tensors in place, in order, where no tape needs the old values', async () => {
    const x = normals([2, 3], 1);
    const old = await x.read();
    const before = made(affine(x, 1, 0));
    x.write([1, 2, 3, 4, 5, 6]);
    expect([...(await x.read())]).toEqual([1, 2, 3, 4, 5, 6]);
    expectSameBits(await before.read(), old);
    const ids = made(integers(device, [1, 2]));
    expect([...(await ids.write([7, 9]).readIntegers())]).toEqual([7, 9]);
    expect(() => x.write([1, 2])).toThrow(ShapeError);
    x.requireGrad();
    const y = square(x);
    expect(() => x.write([0, 0, 0, 0, 0, 0])).toThrow('a tape has saved');
    const dx = made(grad(made(sum(y)), [x])[0]!);
    y.dispose();
    expect([...(await dx.read())]).toEqual([2, 4, 6, 8, 10, 12]);
    noGrad(() => square(x).dispose());
    x.write([0, 0, 0, 0, 0, 0]);
  });
});
