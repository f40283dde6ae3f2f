/** Whole models with weights in each dtype: close to float32 by as much as its numbers allow, and smaller. */

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Device, openDevice } from '../../engine/index.ts';
import {
  checkWeightDtype,
  type LoadProgress,
  loadModelWeights,
  localFolder,
  storedAs,
  type Transformer,
  WEIGHT_DTYPES,
  type WeightDtype,
} from '../../models/index.ts';

let device: Device;
beforeAll(async () => {
  device = await openDevice();
});
afterAll(() => device.destroy());

const IDS = [1, 403, 407, 261, 378];

async function withModel<T>(
  folder: string,
  dtype: WeightDtype,
  fn: (m: Transformer) => Promise<T>,
): Promise<T> {
  const model = await loadModelWeights(await localFolder(folder), device, { dtype });
  try {
    return await fn(model);
  } finally {
    model.dispose();
  }
}

for (const [folder, ids] of [
  ['examples/models/stories260k', IDS],
  ['examples/models/facts-bert', [2, 40, 50, 4, 60, 3]],
  // Stored as bfloat16, float16; widths that are no multiples of 32.
  ['test/golden/models/llama-gqa', [1, 5, 9, 70]],
  ['test/golden/models/llama-tied', [1, 5, 9, 70]],
] as const)
  describe(folder, () => {
    const measure = (dtype: WeightDtype) =>
      withModel(folder, dtype, async (model) => {
        const position = [ids.length - 1];
        const at = `blocks.0.mlp.hook_post`;
        const bytes = device.memory.weights;
        using run = model.run(
          { ids: [ids] },
          { logits: position, grad: { at: [at], of: { of: 'logprob', target: [17], position } } },
        );
        return {
          bytes,
          logits: await run.logits.read(),
          gradient: await run.gradients.get(at)!.read(),
        };
      });
    const apart = (a: Float32Array, b: Float32Array): number => {
      const norm = (x: Float32Array) => Math.sqrt(x.reduce((s, v) => s + v * v, 0));
      return norm(a.map((v, i) => v - b[i]!)) / norm(b);
    };
    test('logits and gradients', async () => {
      const exact = await measure('f32');
      const limits = { f16: 2e-3, bf16: 2e-2, int8: 6e-2, int4: 0.6 };
      for (const [dtype, limit] of Object.entries(limits) as [keyof typeof limits, number][]) {
        const got = await measure(dtype);
        for (const what of ['logits', 'gradient'] as const)
          expect(apart(got[what], exact[what]), `${dtype} ${what}`).toBeLessThan(limit);
        expect(got.bytes).toBeLessThan(exact.bytes);
      }
    });
  });

test('a row behind a cache, prompts and batches of any length have the same bits in every dtype', async () => {
  for (const dtype of WEIGHT_DTYPES)
    await withModel('examples/models/stories260k', dtype, async (model) => {
      using prefix = model.prefill(IDS.slice(0, -1));
      const last = IDS.at(-1)!;
      using one = model.runRows({ prefix, ids: [last] });
      using many = model.runRows({ prefix, ids: [7, 8, last, 9, 10] });
      const { vocabulary } = model.sizes;
      const row = (await many.logits.read()).slice(2 * vocabulary, 3 * vocabulary);
      expect(await one.logits.read()).toEqual(row);
    });
});

test('what is kept how', () => {
  const q = (shape: [number, number]) => ({ kind: 'matrix', stage: 3, shape }) as const;
  expect(storedAs(q([64, 64]), 'BF16', 'int4')).toBe('int4');
  expect(storedAs(q([64, 62]), 'F32', 'int4')).toBe('f16');
  const embedding = { kind: 'embedding', stage: 'embed', shape: [100, 64] } as const;
  expect(storedAs(embedding, 'BF16', 'int8')).toBe('bf16');
  expect(storedAs(embedding, 'F32', 'bf16')).toBe('bf16');
  expect(storedAs({ ...q([64, 64]), stage: 'head' }, 'F32', 'int8')).toBe('f16');
  expect(storedAs({ kind: 'norm', stage: 'head', shape: [64] }, 'BF16', 'int8')).toBe('f32');
  expect(() => checkWeightDtype('f64')).toThrow("expected 'f32', 'f16', 'bf16', 'int8', 'int4' or 'packed'");
});

test('progress in bytes ends at the total', async () => {
  const told: LoadProgress[] = [];
  const model = await loadModelWeights(await localFolder('examples/models/stories260k'), device, {
    onProgress: (p) => told.push(p),
  });
  model.dispose();
  expect(told.at(-1)!.bytes).toBe(told.at(-1)!.total);
  expect(told.map((p) => p.bytes)).toEqual(told.map((p) => p.bytes).sort((a, b) => a - b));
});
