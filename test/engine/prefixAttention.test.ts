/**
 * Rows behind a shared prefix: which path they take, that keys and values are not copied, and mistakes. Float64 and finite
 * differences: the table of operations (cases.ts); rows alone and beside others: test/models/kvCache.test.ts.
 */

import { afterAll, beforeAll, expect, it } from 'vitest';
import {
  type Device,
  FUSED_KEYS,
  grad,
  type PrefixAttentionOptions,
  prefixAttention,
  scope,
  type Tensor,
} from '../../engine/index.ts';
import { normal, open, upload } from './support.ts';

let device: Device;
beforeAll(async () => {
  device = await open();
});
afterAll(() => device?.destroy());

const [ROWS, HEADS, KEY_HEADS, SIZE] = [3, 4, 2, 8];

/** Dispatches of rows behind a prefix of this length, and of the gradients of what is their own. */
async function profile(length: number, options: PrefixAttentionOptions = {}, trackPrefix = false) {
  const shared = [1, 2].map((seed) => upload(device, normal([KEY_HEADS, length, SIZE], seed)));
  const own = [HEADS, KEY_HEADS, KEY_HEADS].map((heads, i) =>
    upload(device, normal([ROWS, heads, SIZE], 3 + i)).requireGrad(),
  );
  if (trackPrefix) shared[0]!.requireGrad();
  device.startProfiling();
  scope(() => {
    const [q, k, v] = own as [Tensor, Tensor, Tensor];
    const [keys, values] = shared as [Tensor, Tensor];
    const y = prefixAttention(q, k, v, { keys, values }, options);
    grad(y, trackPrefix ? [...own, keys] : own, { cotangent: y.detach() });
  });
  await device.finish();
  const kernels = await device.stopProfiling();
  for (const t of [...shared, ...own]) t.dispose();
  return { kernels, fused: kernels.some(({ kernel }) => kernel.startsWith('attention.')) };
}

it('takes kernels where the prefix and the row itself are enough keys, or as it is told', async () => {
  expect((await profile(FUSED_KEYS - 2)).fused).toBe(false);
  expect((await profile(FUSED_KEYS - 1)).fused).toBe(true);
  expect((await profile(FUSED_KEYS - 1, { fused: false })).fused).toBe(false);
  expect((await profile(20, { fused: true })).fused).toBe(true);
  expect((await profile(20, { fused: true, onPattern: (pattern) => pattern })).fused).toBe(false);
  expect((await profile(20, { fused: true }, true)).fused).toBe(false);
});

it('does not copy keys and values, and keeps nothing of their length', async () => {
  const { kernels } = await profile(4096);
  const bytes = 4 * KEY_HEADS * 4096 * SIZE;
  const large = kernels.filter((kernel) => kernel.bytes / kernel.dispatches >= bytes / SIZE);
  expect(large.map(({ kernel }) => kernel.split('.').slice(0, 2).join('.')).sort()).toEqual([
    'attention.backward_queries',
    'attention.forward',
    'attention.statistics',
  ]);
});

it('refuses a prefix of other heads', () => {
  const of = (...shape: number[]): Tensor => upload(device, normal(shape, 1));
  const prefix = { keys: of(1, 5, SIZE), values: of(1, 5, SIZE) };
  expect(() => prefixAttention(of(3, 4, SIZE), of(3, 2, SIZE), of(3, 2, SIZE), prefix)).toThrow(
    'prefixAttention: q [3, 4, 8], k [3, 2, 8], v [3, 2, 8], prefix [1, 5, 8], [1, 5, 8]',
  );
});
