/** A linear layer with the operation after it in one kernel, against the operations apart, bit for bit. */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  activationFunctions,
  add,
  type Device,
  grad,
  linear,
  linearThen,
  mul,
  sum,
  type Tensor,
  type Then,
} from '../../engine/index.ts';
import { ACTIVATION_NAMES, type ActivationName, GATED_NAMES, gateOf } from '../../kernels/index.ts';
import { compute, expectSameBits, normal, open, upload } from './support.ts';

const devices: Device[] = [];
beforeAll(async () => {
  // Narrow subgroups, and plain tiles; blocks through workgroup memory store as tiles do.
  devices.push(await open(), await open({ mask: { subgroups: false } }));
});
afterAll(() => {
  for (const device of devices) device.destroy();
});

const apart = (y: Tensor, then: Then): Tensor => {
  if (!('with' in then)) return activationFunctions[then.op as ActivationName](y);
  return then.op === 'add' ? add(then.with, y) : mul(activationFunctions[gateOf(then.op)!](then.with), y);
};
type Op = Exclude<Then['op'], 'none'>;
const alone = (op: Op): op is ActivationName => ACTIVATION_NAMES.some((name) => name === op);
const thenOf = (op: Op, other: Tensor): Then => (alone(op) ? { op } : { op, with: other });
const OPS: readonly Op[] = ['add', ...ACTIVATION_NAMES, ...GATED_NAMES];

describe.each(OPS)('%s after a linear layer', (op) => {
  // A driver on a CPU takes seconds to compile each.
  it('has the bits of the operations apart', { timeout: 600_000 }, async () => {
    for (const device of devices)
      for (const [m, n, k, bias] of [
        [20, 67, 36, true],
        [9, 64, 30, false],
        [1, 72, 40, true],
      ] as const) {
        const [got, want] = await compute(() => {
          const [x, w, b, r] = [
            normal([m, k], 1),
            normal([n, k], 2, 0.3),
            normal([n], 3),
            normal([m, n], 4),
          ].map((t) => upload(device, t)) as [Tensor, Tensor, Tensor, Tensor];
          const then = thenOf(op, r);
          const s = bias ? b : undefined;
          return [linearThen(x, w, s, then), apart(linear(x, w, s), then)];
        });
        expect(got!.shape).toEqual(want!.shape);
        expect(want!.data.some((v) => v !== 0)).toBe(true);
        expectSameBits(got!.data, want!.data, `${m} x ${n} x ${k}`);
      }
  });

  it('has the gradients of the operations apart', async () => {
    const device = devices[0]!;
    const gradients = (fused: boolean) =>
      compute(() => {
        const [x, w, b, r] = [normal([3, 8], 5), normal([4, 8], 6), normal([4], 7), normal([3, 4], 8)].map(
          (t) => upload(device, t).requireGrad(),
        ) as [Tensor, Tensor, Tensor, Tensor];
        const then = thenOf(op, r);
        const y = fused ? linearThen(x, w, b, then) : apart(linear(x, w, b), then);
        return grad(y, alone(op) ? [x, w, b] : [x, w, b, r], {
          cotangent: upload(device, normal([3, 4], 9)),
        });
      });
    const [ours, theirs] = [await gradients(true), await gradients(false)];
    ours.forEach((g, i) => {
      expectSameBits(g.data, theirs[i]!.data);
    });
  });
});

it('a residual of another shape is refused', () => {
  const device = devices[0]!;
  const [x, w, r] = [normal([3, 8], 1), normal([4, 8], 2), normal([4, 3], 3)].map((t) => upload(device, t));
  expect(() => linearThen(x!, w!, undefined, { op: 'add', with: r! })).toThrow(
    /linear: add of f32 \[4, 3\] to \[3, 4\]/,
  );
});

describe('a gradient that meets others at the input of a linear layer', () => {
  const sizes = [
    [20, 36, 64],
    [1, 40, 72],
  ] as const;

  it.each(sizes)(
    '%i x %i x %i: is added in its kernel, newest first, with the bits of the sum',
    async (m, n, k) => {
      // The last one's layers lie in several buffers, where sums are operations of their own.
      const small = await open({ mask: { bindingBytes: 8192 } });
      for (const device of [...devices, small]) {
        const got = await compute(() => {
          const x = upload(device, normal([m, k], 1)).requireGrad();
          const [w, v, dy, r] = [
            normal([n, k], 2, 0.3),
            normal([n, k], 3, 0.3),
            normal([m, n], 4),
            normal([m, k], 5),
          ].map((t) => upload(device, t)) as [Tensor, Tensor, Tensor, Tensor];
          const sums = (...parts: (() => Tensor)[]): Tensor => {
            const values = parts.map((part) => sum(part()));
            const [first, ...others] = values as [Tensor, ...Tensor[]];
            return others.reduce((total, value) => add(total, value), first);
          };
          const first = () => mul(linear(x, w), dy);
          const second = () => mul(linearThen(x, v, undefined, { op: 'add', with: dy }), dy);
          const third = () => mul(x, r);
          const apart = [third, second, first].map((part) => grad(sum(part()), x)[0]!);
          const loss = sums(first, second, third);
          const before = device.queue.dispatches;
          const [together] = grad(loss, x);
          const used = device.queue.dispatches - before;
          // A seed, three times that repeated and times something, and two products, of which none needs a sum.
          if (device !== small) expect(used).toBe(9);
          return [together!, add(add(apart[0]!, apart[1]!), apart[2]!)];
        });
        expectSameBits(got[0]!.data, got[1]!.data);
      }
      small.destroy();
    },
  );

  it('counts twice where the input is also what is added to', async () => {
    for (const device of devices) {
      const [got, want] = await compute(() => {
        const x = upload(device, normal([20, 20], 1)).requireGrad();
        const w = upload(device, normal([20, 20], 2));
        const of = (y: Tensor): Tensor => grad(sum(add(y, mul(x, w))), x)[0]!;
        return [of(linearThen(x, w, undefined, { op: 'add', with: x })), of(add(x, linear(x, w)))];
      });
      expectSameBits(got!.data, want!.data);
    }
  });
});
