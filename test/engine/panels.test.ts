/**
 * Weights in panels: products, lookups and gradients by them to the bits of the order of all products, on odd shapes; what does not
 * read panels has a buffer back. Skipped where the adapter's subgroups are not those that panels are for.
 */

import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  add,
  type Device,
  gatherRows,
  gelu,
  grad,
  laidBytes,
  linear,
  linearThen,
  matmul,
  mul,
  normLinear,
  openDevice,
  packPanels,
  panelBytes,
  panelSide,
  record,
  rowNorm,
  scope,
  sum,
  type Tensor,
  tensor,
} from '../../engine/index.ts';
import { KernelError } from '../../kernels/errors.ts';
import { packPanels as packKernel, panelLayout } from '../../kernels/panels.ts';
import { expectInOrder } from './order.ts';
import type { Ref } from './reference.ts';
import { expectSameBits, normal } from './support.ts';

let device: Device;
beforeAll(async () => {
  device = await openDevice();
});
afterAll(() => device?.destroy());
beforeEach(({ skip }) => skip(panelSide(device.capabilities) === 0, 'no panels on this adapter'));

const upload = ({ data, shape }: Ref, purpose?: 'weights'): Tensor => tensor(device, data, shape, purpose);
const weights = (shape: readonly number[], seed = 2): { host: Ref; w: Tensor } => {
  const host = normal(shape, seed);
  return { host, w: upload(host, 'weights') };
};
/** Weights in panels. */
const packed = (shape: readonly number[], seed = 2): { host: Ref; w: Tensor } => {
  const made = weights(shape, seed);
  packPanels(made.w);
  expect(made.w.storage.panels, 'in panels').not.toBeNull();
  return made;
};

/** Rows of every tile, filled and not; columns and K that end inside panels, chunks and texture rows, and at them. */
const SHAPES = [
  [1, 130, 257],
  [3, 129, 255],
  [8, 512, 64],
  [17, 256, 128],
  [20, 1000, 33],
  [41, 300, 700],
  [1, 64, 2500],
  [2, 37, 4100],
  [9, 34, 2048],
] as const;

describe('products by weights in panels', () => {
  for (const [m, n, k] of SHAPES)
    it(`[${m}, ${k}] by [${n}, ${k}] and back, to the bit`, async () => {
      const { host, w } = packed([n, k]);
      const [x, dy] = [normal([m, k], 3), normal([m, n], 4)];
      const [y, back] = scope(() => [matmul(upload(x), w, { transB: true }), matmul(upload(dy), w)]) as [
        Tensor,
        Tensor,
      ];
      expectInOrder(new Map([['forward', await y.read()]]), x, host, { transB: true });
      expectInOrder(new Map([['towards the input', await back.read()]]), dy, host, {});
      expect(w.storage.panels, 'still').not.toBeNull();
    });

  it('a row has the same bits alone and in a batch', async () => {
    const { w } = packed([96, 900]);
    const x = normal([70, 900], 5);
    const all = await scope(() => linear(upload(x), w)).read();
    for (const [from, to] of [
      [0, 1],
      [5, 12],
      [30, 54],
      [69, 70],
    ] as const) {
      const part = { shape: [to - from, 900], data: x.data.subarray(from * 900, to * 900) };
      const alone = await scope(() => linear(upload(part as Ref), w)).read();
      expectSameBits(alone, all.subarray(from * 96, to * 96), `rows ${from} to ${to}`);
    }
  });

  for (const n of [132, 131])
    it(`bias, norms and what follows as operations apart, ${n} columns`, async () => {
      for (const k of [256, 257]) {
        const { w } = packed([n, k]);
        const [x, b, g, s] = [normal([2, 5, k], 3), normal([n], 4), normal([k], 5), normal([2, 5, n], 6)].map(
          (host) => upload(host),
        ) as [Tensor, Tensor, Tensor, Tensor];
        const same = async (what: string, one: () => Tensor, apart: () => Tensor): Promise<void> =>
          expectSameBits(await scope(one).read(), await scope(apart).read(), what);
        await same(
          'bias',
          () => linear(x, w, b),
          () => add(linear(x, w), b),
        );
        await same(
          'residual',
          () => linearThen(x, w, b, { op: 'add', with: s }),
          () => add(s, linear(x, w, b)),
        );
        await same(
          'gelu',
          () => linearThen(x, w, b, { op: 'gelu' }),
          () => gelu(linear(x, w, b)),
        );
        for (const kind of ['layer', 'rms', 'rms1'] as const) {
          const norm = { kind, weight: g, eps: 1e-5, ...(kind === 'layer' ? { bias: g } : {}) };
          await same(
            kind,
            () => normLinear(x, norm, w, b),
            () => linear(rowNorm(x, norm), w, b),
          );
        }
      }
    });

  it('have gradients of all orders', async () => {
    const { host, w } = packed([128, 300]);
    const plain = upload(host);
    const x = normal([7, 300], 3);
    const twice = async (w: Tensor): Promise<Float32Array[]> => {
      const input = upload(x).requireGrad();
      const y = linear(mul(input, input), w);
      const [first] = grad(sum(mul(y, y)), [input], { createGraph: true });
      const [second] = grad(sum(mul(first!, first!)), [input]);
      return Promise.all([first!.read(), second!.read()]);
    };
    const [ours, theirs] = [await twice(w), await twice(plain)];
    for (const [i, values] of ours.entries())
      for (const [j, value] of values.entries())
        expect(Math.abs(value - theirs[i]![j]!)).toBeLessThan(1e-3 * (1 + Math.abs(theirs[i]![j]!)));
    expect(w.storage.panels).not.toBeNull();
  });

  it('are cut where their rows lie in several buffers', async () => {
    const small = await openDevice({ mask: { bindingBytes: 2 ** 17 } });
    try {
      const [x, host] = [normal([200, 512], 3), normal([64, 512], 2)];
      const w = tensor(small, host.data, host.shape, 'weights');
      expect(w.storage.segments.length).toBe(1);
      packPanels(w);
      const y = linear(tensor(small, x.data, x.shape), w);
      expectInOrder(new Map([['in pieces', await y.read()]]), x, host, { transB: true });
    } finally {
      small.destroy();
    }
  });
});

describe('weights in panels', () => {
  it('are looked up by rows', async () => {
    const { host, w } = packed([130, 258]);
    const y = gatherRows(w, [129, 0, 31, 32, 129]);
    const rows = [129, 0, 31, 32, 129].flatMap((r) => [...host.data.subarray(r * 258, (r + 1) * 258)]);
    expectSameBits(await y.read(), Float32Array.from(rows), 'rows');
    expect(w.storage.panels).not.toBeNull();
  });

  it('take memory as weights, instead of a buffer, and give it back', async () => {
    device.pool.trim();
    const before = device.memory;
    const { w } = packed([130, 258]);
    const bytes = panelBytes([130, 258], panelSide(device.capabilities));
    expect(bytes).toBe(16 * 5 * 288 * 8);
    expect(device.memory.weights - before.weights).toBe(bytes);
    const scratch = device.memory.pooled;
    linear(tensor(device, new Float32Array(258), [1, 258]), w).dispose();
    await device.finish();
    const laid = laidBytes(1, 258, device.capabilities.textureSide);
    expect(device.memory.pooled - scratch).toBeGreaterThanOrEqual(laid);
    w.dispose();
    expect(device.memory.weights).toBe(before.weights);
    device.pool.trim();
    expect(device.memory.pooled).toBe(0);
  });

  it('are read, and stay', async () => {
    const { host, w } = packed([130, 258]);
    const { unpacked } = device.panels;
    expectSameBits(await w.read(), Float32Array.from(host.data), 'read');
    expect(w.storage.panels).not.toBeNull();
    expect(device.panels.unpacked).toBe(unpacked);
  });

  it('lie in a buffer again once something else asks for them', async () => {
    const { host, w } = packed([130, 258]);
    const { unpacked } = device.panels;
    const y = scope(() => add(w, w));
    expect(w.storage.panels).toBeNull();
    expect(device.panels.unpacked).toBe(unpacked + 1);
    expectSameBits(
      await y.read(),
      Float32Array.from(host.data, (x) => 2 * x),
      'sums',
    );
    expectSameBits(await w.read(), Float32Array.from(host.data), 'weights');
    w.write(new Float32Array(130 * 258).fill(3));
    expect((await w.read()).every((x) => x === 3)).toBe(true);
  });

  it('lie in a buffer where a gradient is wanted of them', () => {
    const { w } = packed([130, 258]);
    w.requireGrad();
    expect(w.storage.panels).toBeNull();
    packPanels(w);
    expect(w.storage.panels).toBeNull();
  });

  it('are the same version wherever they lie', async () => {
    const { w } = weights([130, 258]);
    const x = upload(normal([3, 258], 3)).requireGrad();
    const y = sum(linear(x, w));
    packPanels(w);
    const z = sum(linear(x, w));
    const [first] = grad(y, [x]);
    scope(() => add(w, w));
    const [second] = grad(z, [x]);
    expectSameBits(await first!.read(), await second!.read(), 'gradients');
  });

  it('are unpacked in a recording for it and for its replays', async () => {
    const { host, w } = packed([130, 258]);
    const x = upload(normal([3, 258], 3));
    using plan = record(device, () => [linear(x, w), add(w, w)] as const);
    const [y, z] = plan.result;
    const once = await y.read();
    x.write(new Float32Array(3 * 258));
    plan.replay();
    expect((await y.read()).every((v) => v === 0)).toBe(true);
    x.write(normal([3, 258], 3).data);
    plan.replay();
    expectSameBits(await y.read(), once, 'replayed');
    expectSameBits(
      await z.read(),
      Float32Array.from(host.data, (v) => 2 * v),
      'unpacked',
    );
  });

  it('stay in buffers where panels would not help or not fit', async () => {
    const stays = (shape: readonly number[], purpose?: 'weights'): void => {
      const t = upload(normal(shape, 1), purpose);
      packPanels(t);
      expect(t.storage.panels, shape.join()).toBeNull();
    };
    stays([32, 32], 'weights');
    stays([40000], 'weights');
    stays([200, 200]);
    expect(panelBytes([200, 200], 0)).toBe(0);
    expect(panelLayout(2 ** 20, 4096, 8192)).toBeNull();
    for (const mask of [{ textureSide: 0 }, { subgroups: false }, { subgroupSizeFixed: false }] as const) {
      const other = await openDevice({ mask });
      expect(panelSide(other.capabilities)).toBe(0);
      other.destroy();
    }
  });

  it('kernels take textures for textures alone', () => {
    const { w } = weights([130, 258]);
    expect(() =>
      device.dispatch(packKernel(), [w.storage.window(), w.storage.window()], [1, 1, 1, 1, 0], [1, 1, 1]),
    ).toThrow(KernelError);
  });
});
