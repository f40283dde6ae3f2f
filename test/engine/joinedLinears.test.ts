/** Linear layers whose weights lie in one buffer, against each by itself, bit for bit. */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  AdamW,
  add,
  convert,
  type Device,
  type DType,
  grad,
  linear,
  mul,
  scope,
  sum,
  type Tensor,
} from '../../engine/index.ts';
import { JoinedLinears } from '../../engine/ops/joinedLinears.ts';
import { compute, expectSameBits, heldBytes, normal, open, upload, WIDE } from './support.ts';

const devices: Device[] = [];
beforeAll(async () => {
  devices.push(await open(), await open({ mask: WIDE }));
});
afterAll(() => {
  for (const device of devices) device.destroy();
});

const K = 64;
/** Layers of so many rows, anew with the same numbers each time. */
function layersOf(device: Device, rows: readonly number[], biased: boolean, dtype: DType = 'f32') {
  return rows.map((n, i) => ({
    weight: convert(upload(device, normal([n, K], i, 0.3)), dtype as 'f16'),
    ...(biased ? { bias: upload(device, normal([n], 10 + i)) } : {}),
  }));
}

describe.each([
  ['of one size', [128, 128, 128]],
  ['of grouped queries', [256, 64, 64]],
  ['all different', [192, 64, 128]],
] as const)('linear layers %s', (_, sizes) => {
  it.each([
    ['f32', true],
    ['f32', false],
    ['f16', true],
    ['int8', true],
  ] as const)('%s, bias %s: the bits of each by itself', { timeout: 300_000 }, async (dtype, biased) => {
    for (const device of devices)
      for (const rows of [1, 4, 20]) {
        const results = await compute(() => {
          const joined = JoinedLinears.of(layersOf(device, sizes, biased, dtype))!;
          const x = upload(device, normal([1, rows, K], 20));
          const before = device.queue.dispatches;
          const outputs = joined.apply(x);
          const used = device.queue.dispatches - before;
          // One for all, or for all of a size; quantised weights are no batch.
          const groups = new Set(sizes).size;
          expect(used).toBe(rows === 1 ? 1 : dtype === 'int8' ? 3 : groups);
          const alone = layersOf(device, sizes, biased, dtype).map(({ weight, bias }) =>
            linear(x, weight, bias),
          );
          joined.dispose();
          return [...outputs, ...alone];
        });
        for (const [i, n] of sizes.entries()) {
          expect(results[i]!.shape).toEqual([1, rows, n]);
          expectSameBits(results[i]!.data, results[i + 3]!.data, `${rows} rows, layer ${i}`);
        }
      }
  });
});

describe('joined linear layers', () => {
  it('have the gradients of each by itself, by all of their inputs', async () => {
    for (const device of devices) {
      const results = await compute(() => {
        const dy = upload(device, normal([1, 4, 128], 30));
        const gradients = (of: (x: Tensor, layers: ReturnType<typeof layersOf>) => Tensor[]): Tensor[] => {
          const x = upload(device, normal([1, 4, K], 20)).requireGrad();
          const layers = layersOf(device, [128, 128, 128], true);
          const outputs = of(x, layers);
          const loss = outputs.map((y) => sum(mul(y, dy))).reduce((a, b) => add(a, b));
          const inputs = [x, ...layers.flatMap(({ weight, bias }) => [weight, bias!])];
          return inputs.map((t) => grad(loss, t, { retainTape: true })[0]!);
        };
        const trained = (layers: ReturnType<typeof layersOf>) => {
          for (const { weight, bias } of layers) for (const t of [weight, bias]) t?.requireGrad();
          return layers;
        };
        const apart = gradients((x, layers) =>
          trained(layers).map(({ weight, bias }) => linear(x, weight, bias)),
        );
        const together = gradients((x, layers) => {
          const joined = JoinedLinears.of(layers)!;
          layers.splice(0, 3, ...trained([...joined.layers] as typeof layers));
          return joined.apply(x);
        });
        return [...together, ...apart];
      });
      const half = results.length / 2;
      for (let i = 0; i < half; i++) expectSameBits(results[i]!.data, results[i + half]!.data, `input ${i}`);
    }
  });

  it('see what an optimiser does to the weight of one of them', async () => {
    const [device] = devices as [Device];
    const [before, after, alone] = await compute(() => {
      const joined = JoinedLinears.of(layersOf(device, [128, 128], false))!;
      const x = upload(device, normal([1, K], 20));
      const [, y] = joined.apply(x);
      const { weight } = joined.layers[1]!;
      new AdamW([weight.requireGrad()], { rate: 0.1 }).step([upload(device, normal([128, K], 5))]);
      return [y!, joined.apply(x)[1]!, linear(x, weight)];
    });
    expect(after!.data[0]).not.toBe(before!.data[0]);
    expectSameBits(after!.data, alone!.data);
  });

  it('hold their buffer together as long as any of them is held', async () => {
    const [device] = devices as [Device];
    const held = heldBytes(device);
    const layers = scope(() => layersOf(device, [128, 64], true));
    const joined = JoinedLinears.of(layers)!;
    for (const { weight, bias } of layers) for (const t of [weight, bias]) t?.dispose();
    const kept = joined.layers[1]!.weight.detach();
    joined.dispose();
    expect(heldBytes(device)).toBeGreaterThan(held);
    expectSameBits(await kept.read(), Float32Array.from(normal([64, K], 1, 0.3).data));
    kept.dispose();
    expect(heldBytes(device)).toBe(held);
  });

  it('are none where biases, formats or places do not go together', () => {
    const [device] = devices as [Device];
    const held = heldBytes(device);
    scope(() => {
      const [a, b] = layersOf(device, [128, 128], true) as [
        { weight: Tensor; bias: Tensor },
        { weight: Tensor },
      ];
      expect(JoinedLinears.of([a, { weight: b.weight }])).toBeNull();
      expect(JoinedLinears.of([{ weight: a.weight }, { weight: convert(b.weight, 'f16') }])).toBeNull();
      // A bias of 24 numbers ends where no binding may begin.
      expect(JoinedLinears.of(layersOf(device, [24, 24], true))).toBeNull();
      a.weight.requireGrad();
      expect(JoinedLinears.of([{ weight: a.weight }, { weight: b.weight }])).toBeNull();
    });
    expect(heldBytes(device)).toBe(held);
  });
});
