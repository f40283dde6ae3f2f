/**
 * Attention in one kernel against the path on which the pattern is observed: values and gradients, padded, causal, windowed, capped,
 * with shared key heads and with rows that attend to nothing; and a row of a batch against the row alone, bit for bit.
 */

import { afterAll, beforeAll, expect, it } from 'vitest';
import {
  type AttentionOptions,
  attention,
  type Device,
  grad,
  integers,
  mul,
  scope,
  sum,
  type Tensor,
  tensor,
} from '../../engine/index.ts';
import { normal, open } from './support.ts';

let device: Device;
beforeAll(async () => {
  device = await open();
});
afterAll(() => device?.destroy());

interface Sizes {
  readonly batch: number;
  readonly queries: number;
  readonly keys: number;
  readonly heads: number;
  readonly keyHeads: number;
  readonly size: number;
}

function host({ batch, queries, keys, heads, keyHeads, size }: Sizes) {
  const made = (seed: number, shape: number[]) => ({
    shape,
    data: Float32Array.from(normal(shape, seed).data),
  });
  const q = made(1, [batch, queries, heads, size]);
  return {
    inputs: [q, made(2, [batch, keys, keyHeads, size]), made(3, [batch, keys, keyHeads, size])],
    weight: made(4, q.shape),
  };
}

/** Values, and the gradients of a weighted sum of them. */
async function run(
  sizes: Sizes,
  mask: number[] | null,
  options: AttentionOptions,
  observed: boolean,
): Promise<Float32Array[]> {
  const { inputs, weight } = host(sizes);
  const results = scope(() => {
    const [q, k, v] = inputs.map((x) => tensor(device, x.data, x.shape).requireGrad()) as [
      Tensor,
      Tensor,
      Tensor,
    ];
    const y = attention(q, k, v, {
      ...options,
      fused: true,
      ...(mask ? { keyMask: integers(device, mask, [sizes.batch, sizes.keys]) } : {}),
      ...(observed ? { onPattern: (pattern: Tensor) => pattern } : {}),
    });
    const loss = sum(mul(y, tensor(device, weight.data, weight.shape)));
    return [y.detach(), ...grad(loss, [q, k, v])];
  });
  const data = await Promise.all(results.map((t) => t.read()));
  for (const t of results) t.dispose();
  return data;
}

/** Both paths, and how far they are apart at most. */
async function compare(of: Sizes, mask: number[] | null, options: AttentionOptions): Promise<void> {
  const [ours, theirs] = [await run(of, mask, options, false), await run(of, mask, options, true)];
  ours.forEach((values, part) => {
    const worst = values.reduce((most, x, i) => Math.max(most, Math.abs(x - theirs[part]![i]!)), 0);
    expect(values.every(Number.isFinite)).toBe(true);
    expect(worst).toBeLessThan(4e-6);
  });
}

const sizes: Sizes = { batch: 2, queries: 5, keys: 7, heads: 4, keyHeads: 2, size: 8 };
const CAUSAL = [{}, { causal: true }];
const WINDOWS: readonly AttentionOptions[] = [
  {},
  { window: { before: 0 } },
  { window: { before: 2, after: 1 } },
  { window: { after: 2 } },
];
const CAPS = [{}, { cap: 0.9, scale: 0.7 }];
for (const padded of ['no', 'some', 'a whole row'] as const)
  it.each(CAUSAL.flatMap((a) => WINDOWS.flatMap((b) => CAPS.map((c) => ({ ...a, ...b, ...c })))))(
    `agrees with the observed path: %j, padded: ${padded}`,
    async (options) => {
      const masks = {
        no: null,
        some: [1, 1, 0, 1, 1, 0, 1, 0, 1, 1, 1, 1, 1, 0],
        'a whole row': Array(14).fill(0),
      };
      const mask = masks[padded]?.map((m, i) => (padded === 'a whole row' && i >= 7 ? 1 : m)) ?? null;
      await compare(sizes, mask, options);
    },
  );

// Windows that begin and end in any of several blocks, and keys that no query sees.
const long: Sizes = { batch: 1, queries: 150, keys: 400, heads: 2, keyHeads: 1, size: 8 };
it.each<AttentionOptions>([
  { causal: true },
  { causal: true, window: { before: 0 } },
  { causal: true, window: { before: 130 } },
  { window: { before: 20, after: 20 } },
  { window: { before: 1000, after: 90 } },
  { window: { after: 0 }, cap: 2 },
  { causal: true, window: { before: 127 }, cap: 2 },
])('agrees with the observed path over 400 keys: %j', async (options) => {
  await compare(long, null, options);
  if (!options.cap)
    await compare(
      long,
      Array.from({ length: 400 }, (_, i) => (i > 300 && i % 5 > 0 ? 1 : 0)),
      options,
    );
});

it('gives a row alone the bits it has in a batch', async () => {
  const one = { ...sizes, batch: 1 };
  const [many] = await run(sizes, null, { causal: true }, false);
  const { inputs } = host(sizes);
  const y = scope(() => {
    const [q, k, v] = inputs.map((x) => {
      const shape = [1, ...x.shape.slice(1)];
      return tensor(device, x.data.subarray(0, x.data.length / 2), shape);
    }) as [Tensor, Tensor, Tensor];
    return attention(q, k, v, { causal: true, fused: true });
  });
  const alone = await y.read();
  y.dispose();
  expect(alone.length).toBe(one.queries * one.heads * one.size);
  expect(alone).toEqual(many!.subarray(0, alone.length));
});

it('gives a query alone, behind its window, the bits it has among others', async () => {
  const options: AttentionOptions = { causal: true, window: { before: 150 } };
  const [many] = await run(long, null, options, false);
  const { inputs } = host(long);
  const row = long.heads * long.size;
  const y = scope(() => {
    const [q, k, v] = inputs.map((x, i) => {
      const shape = i === 0 ? [1, 1, long.heads, long.size] : x.shape;
      return tensor(device, i === 0 ? x.data.subarray(x.data.length - row) : x.data, shape);
    }) as [Tensor, Tensor, Tensor];
    return attention(q, k, v, { ...options, fused: true });
  });
  expect(await y.read()).toEqual(many!.subarray(many!.length - row));
  y.dispose();
});

it('needs no memory for pairs of queries and keys', async () => {
  const own = await open();
  const n = 2048;
  try {
    const results = scope(() => {
      const [q, k, v] = [1, 2, 3].map((seed) =>
        tensor(own, Float32Array.from(normal([n * 4], seed).data), [1, n, 1, 4]).requireGrad(),
      ) as [Tensor, Tensor, Tensor];
      const y = attention(q, k, v, { causal: true, window: { before: 99 }, cap: 5, fused: true });
      return grad(sum(y), [q, k, v]);
    });
    for (const t of results) await t.read();
    expect(own.memory.peak).toBeLessThan((4 * n * n) / 4);
  } finally {
    own.destroy();
  }
});
