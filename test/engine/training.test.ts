/** Losses at their edges, SGD and Adam against float64 in PyTorch's form, derivatives of functions, operations of one's own, texts of tensors. */

import { inspect } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as engine from '../../engine/index.ts';
import { type Device, GradientError, ShapeError, type Tensor } from '../../engine/index.ts';
import { linearGrid, memo } from '../../kernels/index.ts';
import { compute, expectClose, heldBytes, normal, open, upload } from './support.ts';

let device: Device;
beforeAll(async () => {
  device = await open();
});
afterAll(() => device?.destroy());

const of = (data: engine.Numbers, shape?: readonly number[]): Tensor => engine.tensor(device, data, shape);
const floats = async (fn: () => Tensor): Promise<number[]> => [...(await compute(() => [fn()]))[0]!.data];

describe('losses', () => {
  it('are right where a side is certain', async () => {
    const none = { reduction: 'none' } as const;
    const ends = await floats(() => engine.binaryCrossEntropy(of([0, 0, 1, 1]), of([0, 1, 1, 0]), none));
    expect(ends.map(Math.abs)).toEqual([0, 100, 0, 100]);
    const sure = await floats(() =>
      engine.binaryCrossEntropyWithLogits(of([200, -200, 200, 20]), of([1, 0, 0, 1]), none),
    );
    expectClose(sure, [0, 0, 200, Math.log1p(Math.exp(-20))], { ulps: 16 });
    expect(await floats(() => engine.klDiv(of([-1, -2]), of([0, 1]), none))).toEqual([0, 2]);
    expect(
      await floats(() =>
        engine.klDiv(of([-100, -2], [2, 1]), of([0, 1], [2, 1]), { reduction: 'batchmean' }),
      ),
    ).toEqual([1]);
  });
  it('a target of 0 leaves no gradient, where the logarithm would', async () => {
    const g = await compute(() => {
      const [x, t] = [of([-1, -2]).requireGrad(), of([0, 1])];
      return engine.grad(engine.klDiv(x, t, { reduction: 'sum' }), [x]);
    });
    expect([...g[0]!.data].map((v) => v + 0)).toEqual([0, -1]);
  });
  it('take no target that would be broadcast', () => {
    for (const loss of [engine.mseLoss, engine.klDiv, engine.huberLoss, engine.binaryCrossEntropy])
      expect(() => loss(of([1, 2]), of([1]))).toThrow(
        /Loss|klDiv|binaryCrossEntropy: \[2\] for target \[1\]/,
      );
    expect(() => engine.mseLoss(of([1]), of([1]), { reduction: 'batchmean' } as never)).toThrow(
      /reduction is 'batchmean'/,
    );
  });
});

describe('optimisers', () => {
  const start = normal([7], 1);
  const gradients = [normal([7], 2), normal([7], 3), normal([7], 4), normal([7], 5)];
  const rounded = (x: ArrayLike<number>): number[] => Array.from(x);

  it.each([
    {},
    { momentum: 0.9 },
    { momentum: 0.9, nesterov: true, decay: 0.1 },
    { momentum: 0.5, dampening: 0.3, decay: 0.01 },
    { decay: 0.1 },
  ])('SGD %j steps as in float64', async (options) => {
    const { momentum = 0, dampening = 0, nesterov = false, decay = 0 } = options as engine.SGDOptions;
    const w = upload(device, start).requireGrad();
    const optimiser = new engine.SGD([w], { rate: 0.1, ...options });
    const want = rounded(start.data);
    let v: number[] = [];
    for (const [step, gradient] of gradients.entries()) {
      engine.scope(() => optimiser.step([upload(device, gradient)]));
      const g = want.map((x, i) => gradient.data[i]! + decay * x);
      v = step === 0 ? g : v.map((x, i) => momentum * x + (1 - dampening) * g[i]!);
      want.forEach((x, i) => {
        const update = momentum === 0 ? g[i]! : nesterov ? g[i]! + momentum * v[i]! : v[i]!;
        want[i] = x - 0.1 * update;
      });
    }
    expectClose(await w.read(), want, { ulps: 16, floor: 1 });
    expect(optimiser.steps).toBe(4);
    optimiser.dispose();
    w.dispose();
  });

  it('SGD goes on from a checkpoint to the same bits', async () => {
    const run = async (stop: boolean): Promise<Float32Array> => {
      const w = upload(device, start).requireGrad();
      let optimiser = new engine.SGD([w], { rate: 0.1, momentum: 0.9, dampening: 0.5 });
      for (const [step, gradient] of gradients.entries()) {
        if (stop && step === 2) {
          const [velocity] = optimiser.velocities;
          const kept = engine.tensor(device, await velocity!.read(), velocity!.shape);
          const steps = optimiser.steps;
          optimiser.dispose();
          optimiser = new engine.SGD([w], { rate: 0.1, momentum: 0.9, dampening: 0.5 });
          optimiser.restore(steps, [kept]);
        }
        engine.scope(() => optimiser.step([upload(device, gradient)]));
      }
      optimiser.dispose();
      return w.read();
    };
    expect(await run(true)).toEqual(await run(false));
  });

  it('Adam takes decay as a part of the gradient', async () => {
    const w = upload(device, start).requireGrad();
    const optimiser = new engine.Adam([w], { rate: 0.1, decay: 0.2 });
    const want = rounded(start.data);
    const [m, v] = [want.map(() => 0), want.map(() => 0)];
    gradients.forEach((gradient, step) => {
      engine.scope(() => optimiser.step([upload(device, gradient)]));
      want.forEach((x, i) => {
        const g = gradient.data[i]! + 0.2 * x;
        m[i] = 0.9 * m[i]! + 0.1 * g;
        v[i] = 0.999 * v[i]! + 0.001 * g * g;
        const [first, second] = [m[i]! / (1 - 0.9 ** (step + 1)), v[i]! / (1 - 0.999 ** (step + 1))];
        want[i] = x - (0.1 * first) / (Math.sqrt(second) + 1e-8);
      });
    });
    expectClose(await w.read(), want, { ulps: 64, floor: 1 });
    expect(optimiser).toBeInstanceOf(engine.AdamW);
    optimiser.dispose();
  });

  it('refuse what does not fit before anything changes', async () => {
    const w = of([1, 2]).requireGrad();
    const optimiser = new engine.SGD([w], { momentum: 0.5 });
    expect(() => optimiser.step([of([1])])).toThrow(/^SGD.step: gradient \[1\] for parameter \[2\]/);
    expect(() => optimiser.step([])).toThrow(/0 gradients for 1 parameters/);
    expect(() => new engine.SGD([w, engine.reshape(w, [2])])).toThrow(/is there twice/);
    expect(() => new engine.SGD([w], { nesterov: true })).toThrow(/nesterov needs a momentum/);
    expect(() => new engine.SGD([w], { lr: 1 } as never)).toThrow(
      /there is no option 'lr'; did you mean 'rate'/,
    );
    expect(() => optimiser.restore(1, [])).toThrow(/0 velocities for 1/);
    expect([...(await w.read())]).toEqual([1, 2]);
    expect(optimiser.steps).toBe(0);
  });
});

describe('derivatives of functions', () => {
  const f = (x: Tensor, w: Tensor): Tensor => engine.tanh(engine.matmul(x, w));
  const x = normal([2, 3], 11);
  const w = normal([3, 2], 12);
  const [dx, dw] = [normal([2, 3], 13), normal([3, 2], 14)];
  const both = (): Tensor[] => [upload(device, x), upload(device, w)];

  it('jvp is the change along directions, vjp its transpose', async () => {
    const host = (t: number): number[] => {
      const at = (data: ArrayLike<number>, d: ArrayLike<number>, i: number): number => data[i]! + t * d[i]!;
      return Array.from({ length: 4 }, (_, k) => {
        const [i, j] = [k >> 1, k & 1];
        let sum = 0;
        for (let m = 0; m < 3; m++) sum += at(x.data, dx.data, 3 * i + m) * at(w.data, dw.data, 2 * m + j);
        return Math.tanh(sum);
      });
    };
    const [up, down] = [host(1e-5), host(-1e-5)];
    const cotangent = normal([2, 2], 15);
    const [value, tangent, ...pulled] = await compute(() => {
      const forward = engine.jvp(f, both(), [upload(device, dx), upload(device, dw)]);
      const { pull } = engine.vjp(f, both());
      pull(upload(device, cotangent));
      return [forward.value, forward.tangent, ...pull(upload(device, cotangent))];
    });
    expectClose(value!.data, host(0), { ulps: 32, floor: 1 });
    expectClose(
      tangent!.data,
      up.map((v, i) => (v - down[i]!) / 2e-5),
      { ulps: 64, floor: 1 },
    );
    const dot = (a: ArrayLike<number>, b: ArrayLike<number>): number =>
      Array.from(a).reduce((s, v, i) => s + v * b[i]!, 0);
    const transposed = dot(pulled[0]!.data, dx.data) + dot(pulled[1]!.data, dw.data);
    expect(Math.abs(dot(tangent!.data, cotangent.data) - transposed)).toBeLessThan(1e-5);
  });

  it('hvp is the Hessian times directions: of a cube, of products, of what is linear or does not depend', async () => {
    const [cube] = await compute(() =>
      engine.hvp((x) => engine.sum(engine.pow(x, 3)), [of([1, -2])], [of([1, 10])]),
    );
    expect([...cube!.data]).toEqual([6, -120]);
    const cross = await compute(() =>
      engine.hvp(
        (a, b) => engine.sum(engine.mul(engine.square(a), b)),
        [of([3]), of([5])],
        [of([1]), of([2])],
      ),
    );
    // [2 b, 2 a; 2 a, 0] [1, 2]
    expect(cross.map(({ data }) => data[0])).toEqual([22, 6]);
    const [line] = await compute(() => engine.hvp((x) => engine.sum(x), [of([1, 2])], [of([1, 1])]));
    expect([...line!.data]).toEqual([0, 0]);
    const { tangent } = engine.jvp((x) => engine.full(x.device, [2], 1), [of([1])], [of([1])]);
    expect([...(await tangent.read())]).toEqual([0, 0]);
    const { value, gradients } = engine.valueAndGrad((a) => engine.sum(engine.square(a)), [of([1, 2])]);
    expect([await value.item(), ...(await gradients[0]!.read())]).toEqual([5, 2, 4]);
  });

  it('leave nothing behind, and say what does not fit', () => {
    const inputs = both();
    const directions = [upload(device, dx), upload(device, dw)];
    const before = heldBytes(device);
    for (const t of engine.scope(() => [
      ...Object.values(engine.jvp(f, inputs, directions)),
      ...engine.hvp((a, b) => engine.sum(f(a, b)), inputs, directions),
    ]))
      t.dispose();
    expect(heldBytes(device)).toBe(before);
    expect(() => engine.jvp(f, inputs, [of([1])])).toThrow(/^jvp: 1 directions for 2 tensors/);
    expect(() => engine.jvp((x) => x, [of([1])], [of([1, 2])])).toThrow(/^jvp: direction \[2\] for \[1\]/);
    expect(() => engine.hvp((x) => x, [of([1, 2])], [of([1, 2])])).toThrow(
      /^hvp: needs a function of one value, got \[2\]/,
    );
    expect(() => engine.vjp((async (x: Tensor) => x) as never, [of([1])])).toThrow(/gives a promise/);
    expect(() => engine.vjp(() => 3 as never, [of([1])])).toThrow(GradientError);
  });
});

describe('operations of one’s own', () => {
  /** y = x cubed, by a kernel from outside. */
  const cubes = memo(() => ({
    name: 'example.cube',
    bindings: [
      { name: 'x', element: 'f32', access: 'read' },
      { name: 'y', element: 'f32', access: 'read_write' },
    ],
    params: { n: 'u32' },
    workgroup: [64, 1, 1],
    body: `
fn main(@builtin(global_invocation_id) gid: vec3u) {
  if (gid.x < p.n) { y[gid.x] = x[gid.x] * x[gid.x] * x[gid.x]; }
}`,
  }));
  const run = (x: Tensor): Tensor => {
    const y = engine.empty(x.device, x.shape);
    for (const [begin, end] of engine.commonRows('cube', x.size, [
      { storage: x.storage, rowLength: 1 },
      { storage: y.storage, rowLength: 1 },
    ]))
      x.device.dispatch(
        cubes(),
        [x.storage.window(begin, end), y.storage.window(begin, end)],
        { n: end - begin },
        linearGrid(end - begin),
      );
    return y;
  };

  it('by operation(): a kernel, its gradient, and the gradient of that', async () => {
    const cube = (x: Tensor): Tensor =>
      engine.operation('cube', [x], run(x), [x], (dy, [x]) => [
        engine.mul(dy, engine.affine(engine.square(x!), 3, 0)),
      ]);
    const [y, g, h] = await compute(() => {
      const x = of([1, -2, 3]).requireGrad();
      const y = cube(x);
      const [g] = engine.grad(engine.sum(y), [x], { createGraph: true });
      return [y, g!, engine.grad(engine.sum(g!), [x])[0]!];
    });
    expect([[...y!.data], [...g!.data], [...h!.data]]).toEqual([
      [1, -8, 27],
      [3, 12, 27],
      [6, -12, 18],
    ]);
  });

  it('by customGradient(): what the forward does is not recorded, the backward may be differentiated', async () => {
    const cube = engine.customGradient({
      name: 'cube',
      forward: (x) => run(engine.add(x, 0)),
      backward: (dy, [x]) => [engine.mul(dy, engine.affine(engine.square(x!), 3, 0))],
    });
    const before = heldBytes(device);
    const [h] = await compute(() => {
      const x = of([1, -2, 3]).requireGrad();
      const [g] = engine.grad(engine.sum(cube(x)), [x], { createGraph: true });
      return engine.grad(engine.sum(g!), [x]);
    });
    expect([...h!.data]).toEqual([6, -12, 18]);
    expect(heldBytes(device)).toBe(before);
    const same = engine.customGradient({
      name: 'same',
      forward: (x) => x,
      backward: (dy) => [engine.affine(dy, 2, 0)],
    });
    expect(
      await floats(() => {
        const x = of([1, 2]).requireGrad();
        return engine.grad(engine.sum(same(x)), [x])[0]!;
      }),
    ).toEqual([2, 2]);
    const wrong = engine.customGradient({
      name: 'wrong',
      forward: (x) => x,
      backward: (dy) => [engine.reshape(dy, [2, 1])],
    });
    expect(() =>
      engine.scope(() => {
        const x = of([1, 2]).requireGrad();
        engine.grad(engine.sum(wrong(x)), [x]);
      }),
    ).toThrow(/^wrong: backward gives \[2, 1\] for input 0, \[2\]/);
    expect(() => engine.customGradient({ name: 'x', forward: 3 as never, backward: () => [] })).toThrow(
      /^customGradient: forward is 3, expected a function/,
    );
  });
});

describe('a tensor as text and as lists', () => {
  it('shows dtype, shape, and the first values that the host knows', async () => {
    const x = of([
      [1, 2.5],
      [-3, 1 / 3],
    ]);
    expect(inspect(x)).toBe('Tensor f32 [2, 2]: 1, 2.5, -3, 0.333333');
    expect(inspect({ w: of([1, 2, 3, 4, 5, 6, 7]) })).toBe('{ w: Tensor f32 [7]: 1, 2, 3, 4, 5, 6, … }');
    const y = engine.square(x);
    expect(y.toString()).toBe('f32 [2, 2]');
    await y.read();
    expect(y.toString()).toBe('f32 [2, 2]: 1, 6.25, 9, 0.111111');
    expect(engine.integers(device, [7], []).toString()).toBe('u32 []: 7');
    expect(of([], [0, 3]).toString()).toBe('f32 [0, 3]');
  });
  it('and no others once they have changed', async () => {
    const x = engine.tensor(device, [1, 2], [2], 'weights').requireGrad();
    new engine.SGD([x], { rate: 1 }).step([of([1, 1])]);
    expect(x.toString()).toBe('f32 [2]');
    expect([...(await x.read())]).toEqual([0, 1]);
    expect(x.toString()).toBe('f32 [2]: 0, 1');
    x.write([5, 6]);
    expect(x.toString()).toBe('f32 [2]: 5, 6');
    x.dispose();
    expect(x.toString()).toBe('f32 [2], disposed of');
    const input = of([1, 2]);
    using plan = engine.record(device, () => engine.affine(input, 2, 0));
    await plan.result.read();
    input.write([3, 4]);
    plan.replay();
    expect(String(plan.result)).toBe('f32 [2]');
  });
  it('comes as nested lists of its shape', async () => {
    expect(await of([1, 2, 3, 4, 5, 6], [1, 3, 2]).array()).toEqual([
      [
        [1, 2],
        [3, 4],
        [5, 6],
      ],
    ]);
    expect(await of(5).array()).toBe(5);
    expect(await of([], [2, 0]).array()).toEqual([[], []]);
    expect(await of([], [0, 2]).array()).toEqual([]);
    expect(await engine.integers(device, [[1], [4294967295]]).array()).toEqual([[1], [4294967295]]);
    await expect(engine.convert(of([[1, 2]]), 'f16').array()).rejects.toThrow(ShapeError);
  });
});
