/** What the tape records, when it is released, and what grad() refuses. */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  AdamW,
  add,
  argmax,
  convert,
  type Device,
  exp,
  full,
  GradientError,
  grad,
  integers,
  linear,
  mul,
  noGrad,
  recompute,
  record,
  reshape,
  rmsNorm,
  ShapeError,
  scope,
  square,
  sub,
  sum,
  type Tensor,
  tensor,
} from '../../engine/index.ts';
import { sizeClass } from '../../engine/memory.ts';
import { fill } from '../../kernels/index.ts';
import { heldBytes, open } from './support.ts';

let device: Device;
beforeAll(async () => {
  device = await open();
});
afterAll(() => device?.destroy());

const leaf = (...values: number[]): Tensor => tensor(device, values).requireGrad();
const read = async (t: Tensor | undefined): Promise<number[]> => [...(await t!.read())];

describe('a tape whose weights have changed since', () => {
  const told = /^(mul|linear|recompute|matmul): what its tape goes back to has been changed in place since/;
  const step = (w: Tensor, g: Tensor): void => {
    new AdamW([w], { rate: 0.1 }).step([g]);
  };
  const keptTape = { retainTape: true } as const;

  it("is refused after an optimiser's step", async () => {
    const [x, w] = [leaf(2, 3), leaf(1, -1)];
    const loss = sum(mul(mul(x, w), w));
    const [g] = grad(loss, [w], keptTape);
    expect(await read(grad(loss, [w], keptTape)[0])).toEqual(await read(g));
    step(w, g!);
    expect(() => grad(loss, [w], keptTape)).toThrow(GradientError);
    expect(() => grad(loss, [x], keptTape)).toThrow(told);
    expect(await read(grad(sum(mul(x, w)), [x])[0])).toEqual(await read(w));
  });

  it('is refused where they are the f16 copies of what is updated', () => {
    const [x, w] = [leaf(1, 2), leaf(1, -1)];
    const copy = convert(reshape(w.detach(), [1, 2]), 'f16').requireGrad();
    const loss = sum(linear(reshape(x, [1, 2]), copy));
    const [g] = grad(loss, [copy], keptTape);
    new AdamW([{ parameters: [w], copies: [copy] }]).step([g!]);
    expect(() => grad(loss, [x])).toThrow(told);
  });

  it('is refused after a replay that changes them, and after a kernel of others', () => {
    const [x, w] = [leaf(2, 3), leaf(1, -1)];
    const optimiser = new AdamW([w]);
    using plan = record(device, () => optimiser.step(grad(sum(mul(x, w)), [w])));
    const loss = sum(mul(x, w));
    grad(loss, [x], keptTape);
    plan.replay();
    expect(() => grad(loss, [x], keptTape)).toThrow(told);
    const next = sum(mul(x, w));
    device.dispatch(fill(), [w.storage.window()], [2, 1], [1, 1, 1]);
    expect(() => grad(next, [x])).toThrow(told);
  });

  it('is refused where a recomputed part would run with other weights', () => {
    const [x, w] = [leaf(2, 3), leaf(1, -1)];
    const loss = sum(recompute((t) => mul(mul(t, w), t), x, [w]));
    const [g] = grad(loss, [w], keptTape);
    step(w, g!);
    expect(() => grad(loss, [w])).toThrow(told);
  });

  it('goes on where they are no part of the gradient', async () => {
    const [x, w] = [leaf(2, 3), leaf(1, -1)];
    const loss = sum(add(square(x), w));
    const [g] = grad(loss, [w], keptTape);
    step(w, g!);
    expect(await read(grad(loss, [x])[0])).toEqual([4, 6]);
  });

  it('goes on after a replay of its own', async () => {
    const [before, after] = scope(() => {
      const x = leaf(2, 3);
      const plan = record(device, () => sum(square(exp(x))));
      const [g] = grad(plan.result, [x], keptTape);
      plan.replay();
      return [g!, grad(plan.result, [x])[0]!];
    });
    expect(await read(after)).toEqual(await read(before));
  });
});

describe('the tape', () => {
  it('adds where paths meet again (a diamond), and where a tensor is used twice', async () => {
    const x = leaf(2, 3);
    const y = square(x);
    const z = add(mul(y, x), sub(y, x));
    expect(await read(grad(sum(z), [x])[0])).toEqual([3 * 4 + 4 - 1, 3 * 9 + 6 - 1]);
    expect(await read(grad(sum(mul(x, x)), [x])[0])).toEqual([4, 6]);
    expect(await read(grad(sum(add(x, x)), [x])[0])).toEqual([2, 2]);
    expect(await read(grad(sum(sub(x, x)), [x])[0])).toEqual([0, 0]);
  });

  it('gives gradients of intermediate values, of the output itself, and of the same input twice', async () => {
    const x = leaf(2, 3);
    const y = square(x);
    const total = sum(mul(y, y));
    const [dx, dy, dt, again] = grad(total, [x, y, total, x]);
    expect(await read(dx)).toEqual([32, 108]);
    expect(await read(dy)).toEqual([8, 18]);
    expect(await read(dt)).toEqual([1]);
    expect(await read(again)).toEqual([32, 108]);
  });

  it('stops at detach()', async () => {
    const x = leaf(2);
    expect(await read(grad(mul(x, square(x).detach()), [x])[0])).toEqual([4]);
  });

  it("takes a cotangent of the output's shape", async () => {
    const x = leaf(2, 3);
    expect(await read(grad(square(x), [x], { cotangent: tensor(device, [10, 1]) })[0])).toEqual([40, 6]);
    expect(() => grad(square(x), [x])).toThrow(GradientError);
    expect(() => grad(square(x), [x])).toThrow(/shape \[2\] needs a cotangent/);
    expect(() => grad(square(x), [x], { cotangent: tensor(device, [1, 2, 3]) })).toThrow(ShapeError);
  });

  it('is released by grad() unless retainTape', async () => {
    const x = leaf(3);
    const y = square(x);
    expect(await read(grad(y, [x], { retainTape: true })[0])).toEqual([6]);
    expect(await read(grad(y, [x])[0])).toEqual([6]);
    expect(() => grad(y, [x])).toThrow(GradientError);
    expect(() => grad(y, [x])).toThrow(/mul: its tape was released/);
    // Also by way of another output that shares a part.
    const z = square(x);
    const [u, v] = [exp(z), add(z, z)];
    grad(u, [x]);
    expect(() => grad(v, [x])).toThrow(/released/);
  });

  it('createGraph keeps it and records the backward', async () => {
    const x = leaf(3);
    const y = mul(square(x), x);
    const [g] = grad(y, [x], { createGraph: true });
    const [h] = grad(g!, [x], { createGraph: true });
    expect(await read(h)).toEqual([18]);
    expect(await read(grad(h!, [x])[0])).toEqual([6]);
    expect(await read(grad(y, [x])[0])).toEqual([27]);
    // Without it the gradient has no place in the graph.
    expect(grad(mul(x, x), [x])[0]!.track).toBeNull();
  });

  it('an input that the output does not depend on is an error, or zeros', async () => {
    const [x, y] = [leaf(1), leaf(5, 6)];
    const z = square(x);
    expect(() => grad(z, [y], { retainTape: true })).toThrow(/does not depend/);
    const [dx, dy] = grad(z, [x, y], { unconnected: 'zero' });
    expect(await read(dx)).toEqual([2]);
    expect(await read(dy)).toEqual([0, 0]);
    expect(dy!.shape).toEqual([2]);
    expect(() => grad(z, [tensor(device, [1])])).toThrow(/not marked with requireGrad/);
    const unrecorded = square(tensor(device, [1]));
    expect(() => grad(unrecorded, [x])).toThrow(/does not depend/);
  });

  it('an operation without a gradient is an error only when one is asked for', async () => {
    const x = leaf(1, 3, 2);
    const y = argmax(x);
    expect([...(await y.readIntegers())]).toEqual([1]);
    expect(() => grad(y, [x], { cotangent: full(device, [], 1) })).toThrow(GradientError);
    expect(() => grad(y, [x], { cotangent: full(device, [], 1) })).toThrow(/argmax has no gradient/);
    expect(() => integers(device, [1]).requireGrad()).toThrow(GradientError);
  });

  it('records nothing without requireGrad, nor inside noGrad, also when that throws', () => {
    scope(() => {
      expect(square(tensor(device, [1])).track).toBeNull();
      const x = leaf(1);
      expect(noGrad(() => square(x)).track).toBeNull();
      expect(() =>
        noGrad(() => {
          throw new RangeError('inside');
        }),
      ).toThrow(RangeError);
      expect(square(x).track).not.toBeNull();
      expect(device.memory.saved).toBeGreaterThan(0);
    });
  });

  it('marks what is used after requireGrad only', () => {
    const x = tensor(device, [2]);
    const before = square(x);
    x.requireGrad();
    expect(before.track).toBeNull();
    const track = x.track;
    expect(x.requireGrad().track).toBe(track);
  });

  it.each([
    ['linear', 0, [4 * 32 * 64]],
    ['linear', 1, [4 * 16 * 64]],
    ['linear', 2, []],
    ['mul', 0, [4 * 16 * 64]],
    ['norm', 1, [4 * 16 * 64]],
  ] as const)('of %s has what the gradient of input %i is made of, and no more', (op, which, bytes) => {
    const before = device.memory.saved;
    scope(() => {
      const inputs = [full(device, [16, 64], 1), full(device, [op === 'linear' ? 32 : 16, 64], 1)];
      const row = full(device, [op === 'linear' ? 32 : 64], 1);
      const [x, y] = inputs as [Tensor, Tensor];
      (which === 2 || op === 'norm' ? row : inputs[which]!).requireGrad();
      if (op === 'linear') linear(x, y, row);
      else if (op === 'mul') mul(x, y);
      else rmsNorm(x, row, 0);
      expect(device.memory.saved - before).toBe(
        bytes.reduce<number>((sum, each) => sum + sizeClass(each), 0),
      );
    });
  });

  it('keeps what it saved although the user freed it, and frees it with the scope', async () => {
    const held = heldBytes(device);
    const [g] = scope(() => {
      const x = leaf(3, 4);
      const y = square(x);
      const z = sum(mul(y, y));
      y.dispose();
      return grad(z, [x]);
    });
    expect(await read(g)).toEqual([108, 256]);
    g!.dispose();
    expect(heldBytes(device)).toBe(held);
  });

  it('goes back through 2000 operations', async () => {
    const [g] = scope(() => {
      const x = leaf(1);
      let y: Tensor = x;
      for (let i = 0; i < 2000; i++) y = add(y, x);
      return grad(y, [x]);
    });
    expect(await read(g)).toEqual([2001]);
  });
});
