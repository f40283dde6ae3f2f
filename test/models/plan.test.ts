/** Plans of memory, against what a device takes: weights, activations, tapes, keys and values, streamed runs, of every family. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type Device, openDevice, panelSide } from '../../engine/index.ts';
import {
  type ByteFolder,
  type LanguageModel,
  loadModelWeights,
  localFolder,
  type MemoryPlan,
  openModelFiles,
  type PlanOptions,
  parseConfig,
  planMemory,
  presetConfig,
  type RunResult,
  type SynthDtype,
  streamModel,
  synthesise,
  type Transformer,
  WEIGHT_DTYPES,
  type WeightDtype,
} from '../../models/index.ts';
import { smallPresets } from './smallPresets.ts';

const [ROWS, TOKENS] = [3, 40];
const scratch = mkdtempSync(join(tmpdir(), 'neurgrad-plan-'));
let device: Device;
beforeAll(async () => {
  device = await openDevice();
});
const opened: LanguageModel[] = [];
/** Until the end of a test. */
async function load(folder: ByteFolder, dtype: WeightDtype = 'f32'): Promise<Transformer> {
  const model = await loadModelWeights(folder, device, { dtype });
  opened.push(model);
  return model;
}
afterEach(() => {
  for (const model of opened.splice(0)) model.dispose();
});
afterAll(() => {
  device?.destroy();
  rmSync(scratch, { recursive: true });
});

async function written(name: string, preset: object, dtype: SynthDtype = 'f32'): Promise<ByteFolder> {
  const path = join(scratch, name);
  await synthesise(path, { preset, dtype });
  return localFolder(path);
}

const sum = (numbers: Iterable<number>): number => [...numbers].reduce((a, b) => a + b, 0);

async function planOf(folder: ByteFolder, options: PlanOptions = {}): Promise<MemoryPlan> {
  const { config, checkpoint } = await openModelFiles(folder);
  const { bindingBytes } = device.capabilities;
  const sides = { bindingBytes, panelSide: panelSide(device.capabilities) };
  const plan = planMemory(config, checkpoint, { rows: ROWS, tokens: TOKENS, ...sides, ...options });
  await checkpoint.close();
  return plan;
}

/** Bytes that `work` makes the driver give, with nothing in the pool before. */
async function taken(work: () => Promise<void>): Promise<number> {
  const { pool } = device;
  await device.finish();
  pool.trim();
  const before = pool.report().total;
  const acquire = pool.acquire.bind(pool);
  let most = before;
  pool.acquire = (...request) => {
    const buffer = acquire(...request);
    most = Math.max(most, pool.report().total);
    return buffer;
  };
  try {
    await work();
  } finally {
    pool.acquire = acquire;
  }
  return most - before;
}

const IDS = Array.from({ length: ROWS }, (_, row) =>
  Array.from({ length: TOKENS }, (_, i) => (7 * i + row) % 900),
);

/** Logits of the last tokens, perhaps with gradients all the way down. */
async function run(model: LanguageModel, back: boolean, ids = IDS): Promise<void> {
  const position = ids.map((row) => row.length - 1);
  const grad = { at: ['hook_embed'], of: { of: 'prob', target: position.map(() => 5), position } } as const;
  const options = { logits: position, ...(back ? { grad } : {}) };
  using result: RunResult = model.runAsync
    ? await model.runAsync({ ids }, options)
    : model.run({ ids }, options);
  await result.logits.read();
}

/** Whether a plan is right, `low` and `high` being how far it may be beside. */
function expectPlanned(what: string, planned: number, taken: number, low = 0.02, high = 0.02): void {
  expect(planned / taken, what).toBeGreaterThan(1 - low);
  expect(planned / taken, what).toBeLessThan(1 + high);
}

async function checkRuns(model: Transformer, plan: MemoryPlan, ids = IDS, low = 0.02): Promise<void> {
  expectPlanned('activations', plan.activations, await taken(() => run(model, false, ids)));
  // The tables of angles are there by now.
  const angles = device.memory.weights - sum(Object.values(plan.weights));
  const planned = plan.activations + plan.backward - angles;
  expectPlanned('activations and tapes', planned, await taken(() => run(model, true, ids)), low);
  if (!model.causal) return;
  const before = device.memory.total - device.memory.pooled;
  const prefixes = ids.map((row) => model.prefill(row));
  expect(device.memory.total - device.memory.pooled - before).toBe(plan.cache);
  for (const prefix of prefixes) prefix.dispose();
}

describe.each([...smallPresets(3)])('%s', (preset, json) => {
  let folder: ByteFolder;
  beforeAll(async () => {
    folder = await written(preset, json);
  });

  test.each(WEIGHT_DTYPES)('weights in %s, to the byte', async (dtype) => {
    const { weights, resident, ...rest } = await planOf(folder, { dtype });
    const most = await taken(async () => void (await load(folder, dtype)));
    expect(device.memory.weights).toBe(sum(Object.values(weights)));
    expect(most).toBeLessThanOrEqual(resident);
    expect(resident).toBeGreaterThanOrEqual(
      device.memory.weights + rest.cache + rest.activations + rest.backward,
    );
  });

  test('values of a run, tapes, keys and values', async () => {
    const model = await load(folder);
    await checkRuns(model, await planOf(folder));
  });

  test('a streamed run', async () => {
    if (!parseConfig(json).description.causal) return;
    for (const dtype of ['f32', 'int8'] as const) {
      const plan = await planOf(folder, { dtype });
      const most = await taken(async () => {
        const model = await streamModel(folder, device, { dtype });
        await run(model, true);
        model.dispose();
      });
      // Of what is converted two tensors of a size may be on their way at once; seldom are they.
      expectPlanned(`streamed in ${dtype}`, plan.streamed - plan.cache, most, 0.02, 0.15);
    }
  });
});

test.each(['modernbert-base', 'gemma-2-2b'])('%s: attention that keeps no patterns', async (preset) => {
  const json = { ...smallPresets(1).get(preset)!, hidden_size: 32, max_position_embeddings: 2048 };
  const folder = await written(`${preset}-fused`, json);
  const model = await load(folder);
  const plan = await planOf(folder, { rows: 1, tokens: 2048 });
  const long = [Array.from({ length: 2048 }, (_, i) => i % 900)];
  await checkRuns(model, plan, long);
});

test.each(['gpt2', 'pythia-160m', 'qwen2.5-0.5b', 'roberta-base'])(
  '%s as published, but for two layers',
  async (preset) => {
    const folder = await written(`${preset}-two`, presetConfig(preset, 2), 'bf16');
    const plan = await planOf(folder, { dtype: 'bf16' });
    const model = await load(folder, 'bf16');
    expectPlanned('weights', sum(Object.values(plan.weights)), device.memory.weights);
    // A vocabulary's logits are free again before the widest gradients are made, but fit none of them: the pool holds both.
    await checkRuns(model, plan, IDS, 0.03);
    // The others would read as much again.
    if (preset !== 'gpt2') return;
    const most = await taken(async () => {
      const streamed = await streamModel(folder, device, { dtype: 'bf16' });
      await run(streamed, true);
      streamed.dispose();
    });
    expectPlanned('streamed', plan.streamed - plan.cache, most, 0.02, 0.1);
  },
);

test('more tokens than the model takes are refused', async () => {
  const folder = await localFolder('examples/models/stories260k');
  expect((await planOf(folder, { tokens: 512 })).tokens).toBe(512);
  await expect(planOf(folder, { tokens: 513 })).rejects.toThrow(
    '513 tokens are to be planned, the model takes 512',
  );
});
