/** Synthetic checkpoints: true names, shapes and shards. */

import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { openDevice } from '../../engine/index.ts';
import {
  loadModelWeights,
  localFolder,
  matchTensors,
  openCheckpoint,
  openModelFiles,
  PRESETS,
  parametersOf,
  parseConfig,
  planMemory,
  presetConfig,
  readConfig,
  storedName,
  synthesise,
} from '../../models/index.ts';

const scratch = mkdtempSync(join(tmpdir(), 'neurgrad-synth-'));
afterAll(() => rmSync(scratch, { recursive: true }));

describe('sparse presets', () => {
  // Shards, billions of parameters and tensors of the published checkpoints.
  test.each([
    ['llama2-7b', 2, 6_738_415_616, 291],
    ['llama2-13b', 3, 13_015_864_320, 363],
    ['llama2-70b', 15, 68_976_648_192, 723],
  ] as const)('%s', async (preset, shards, parameters, tensors) => {
    const out = join(scratch, preset);
    const made = await synthesise(out, { preset, dtype: 'bf16' });
    expect(made.files).toHaveLength(shards);
    expect(made.bytes).toBe(2 * parameters);
    const folder = await localFolder(out);
    const config = await readConfig(folder);
    const checkpoint = await openCheckpoint(folder);
    expect(matchTensors(checkpoint, config).size).toBe(tensors);
    expect(checkpoint.notes).toEqual([]);
    const taken = made.files.reduce((sum, f) => sum + statSync(join(out, f)).blocks * 512, 0);
    expect(taken).toBeLessThan(30e6);
    const plan = planMemory(config, checkpoint, { dtype: 'bf16' });
    const { embedding, layers, decoder } = plan.weights;
    // Size classes of the pool: an eighth more at most.
    expect(embedding + layers + decoder).toBeLessThan(1.125 * made.bytes);
    expect(embedding + layers + decoder).toBeGreaterThan(0.999 * made.bytes);
    expect(plan.streamed).toBeLessThan(8e9);
    await checkpoint.close();
  });
});

describe('presets of all families', () => {
  test.each([...PRESETS])('%s has as many layers as asked for', (name, { family, json }) => {
    const whole = parseConfig(presetConfig(name));
    expect(whole.family).toBe(family);
    expect(whole.json).toEqual({
      ...json,
      model_type: family.type,
      architectures: [family.architecture],
      torch_dtype: 'bfloat16',
    });
    for (const layers of [1, 3, whole.description.sizes.layers, 99]) {
      const { description } = parseConfig(presetConfig(name, layers, 'f16'));
      expect(description.layers).toHaveLength(layers);
      expect({ ...description.sizes, layers: 0 }).toEqual({ ...whole.description.sizes, layers: 0 });
    }
  });

  test.each(['gpt2', 'bert-base-uncased', 'gemma-2-2b', 'pythia-70m', 'phi-3-mini', 'modernbert-base'])(
    '%s: norms that do nothing, zeros that take no room, shapes as the published checkpoint stores them',
    async (preset) => {
      const out = join(scratch, preset);
      const { files, bytes } = await synthesise(out, { preset, dtype: 'bf16', layers: 2 });
      const { config, checkpoint } = await openModelFiles(await localFolder(out));
      const parameters = parametersOf(config.description);
      expect(bytes).toBe(
        2 * parameters.reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0),
      );
      expect(matchTensors(checkpoint, config, { strict: true }).size).toBe(parameters.length);
      for (const { name, kind, initial } of parameters)
        if (kind === 'norm' || kind === 'bias')
          expect(new Set(await checkpoint.readFloat32(storedName(name))), name).toEqual(new Set([initial]));
      const some = parameters.find(({ kind, stage }) => kind === 'matrix' && stage === 1)!;
      expect(new Set(await checkpoint.readFloat32(storedName(some.name)))).toEqual(new Set([0]));
      const taken = files.reduce((sum, file) => sum + statSync(join(out, file)).blocks * 512, 0);
      expect(taken).toBeLessThan(2e6);
      const { weights } = planMemory(config, checkpoint, { dtype: 'bf16' });
      const planned = weights.embedding + weights.layers + weights.decoder;
      expect(planned).toBeLessThan(1.125 * bytes);
      expect(planned).toBeGreaterThan(0.99 * bytes);
      await checkpoint.close();
    },
  );

  test('matrices of [in, out] are stored so', async () => {
    const { checkpoint } = await openModelFiles(await localFolder(join(scratch, 'gpt2')));
    expect(checkpoint.tensors.get('transformer.h.0.attn.c_attn.weight')!.shape).toEqual([768, 2304]);
    expect(checkpoint.tensors.get('transformer.h.0.attn.c_attn.bias')!.shape).toEqual([2304]);
    expect(checkpoint.tensors.get('transformer.h.0.mlp.c_fc.weight')!.shape).toEqual([768, 3072]);
    await checkpoint.close();
  });
});

/** One layer, as narrow as can be. */
const narrow = (vocabulary: number) => ({
  ...presetConfig('llama2-7b', 1),
  hidden_size: 64,
  num_attention_heads: 2,
  num_key_value_heads: 2,
  intermediate_size: 64,
  vocab_size: vocabulary,
});

test('random weights: seeded, of the right spread, and loadable', async () => {
  const paths = ['a', 'b', 'c'].map((name) => join(scratch, name));
  const config = {
    ...presetConfig('llama2-7b', 2),
    hidden_size: 256,
    num_attention_heads: 8,
    vocab_size: 300,
  };
  const preset = { ...config, num_key_value_heads: 8, intermediate_size: 512 };
  const options = { preset, dtype: 'f16', shardBytes: 1e6 } as const;
  await synthesise(paths[0]!, { ...options, seed: 1 });
  await synthesise(paths[1]!, { ...options, seed: 1 });
  const file = 'model-00001-of-00004.safetensors';
  const [a, b] = paths.slice(0, 2).map((p) => readFileSync(join(p, file))) as [Buffer, Buffer];
  expect(a.equals(b)).toBe(true);
  const checkpoint = await openCheckpoint(await localFolder(paths[0]!));
  const k = await checkpoint.readFloat32('model.layers.0.self_attn.k_proj.weight');
  const deviation = Math.sqrt(k.reduce((s, x) => s + x * x, 0) / k.length);
  expect(deviation).toBeCloseTo(0.02, 3);
  expect(Math.abs(k.reduce((s, x) => s + x, 0) / k.length)).toBeLessThan(1e-4);
  await checkpoint.close();
  await expect(synthesise(paths[0]!, options)).rejects.toThrow('is not empty');
});

test('what is interrupted is no checkpoint, leaves nothing behind when it can, and may be begun again', async () => {
  const above = join(scratch, 'interrupted');
  const path = join(above, 'checkpoint');
  const preset = narrow(300);
  const options = { preset, dtype: 'bf16', shardBytes: 1e5 } as const;
  let seen: string[] = [];
  const broken = synthesise(path, {
    ...options,
    onProgress(bytes, total) {
      seen = readdirSync(above);
      if (bytes === total) throw new Error('interrupted');
    },
  });
  await expect(broken).rejects.toThrow('interrupted');
  expect(seen.length).toBeGreaterThan(1);
  expect(seen).not.toContain('checkpoint');
  expect(readdirSync(above)).toEqual([]);
  const { files } = await synthesise(path, options);
  expect(readdirSync(above)).toEqual(['checkpoint']);
  expect(readdirSync(path).sort()).toEqual(['config.json', 'model.safetensors.index.json', ...files].sort());
});

test.each(['config.json', 'notes.txt', '.hidden'])(
  'a folder that holds %s is refused before anything is written',
  async (name) => {
    const path = join(scratch, `holds-${name}`);
    mkdirSync(path);
    writeFileSync(join(path, name), 'mine');
    await expect(synthesise(path, { preset: narrow(300), dtype: 'bf16' })).rejects.toMatchObject({
      name: 'UserError',
      message: `${path}: is not empty; choose an empty or new folder`,
    });
    expect(readdirSync(path)).toEqual([name]);
  },
);

test('two that write one folder: the second is told of the first', async () => {
  const path = join(scratch, 'both');
  const options = { preset: narrow(300), dtype: 'bf16' } as const;
  let second: Promise<unknown> | undefined;
  await synthesise(path, {
    ...options,
    onProgress() {
      second ??= synthesise(path, options).catch((error: unknown) => error);
    },
  });
  expect(await second).toMatchObject({
    message: expect.stringContaining(`process ${process.pid} is at work on it`),
  });
  expect(readdirSync(path)).toContain('config.json');
  expect(readdirSync(scratch).filter((name) => name.startsWith('both'))).toEqual(['both']);
});

test('a file in the place of the folder is named', async () => {
  const path = join(scratch, 'file');
  writeFileSync(path, '');
  await expect(synthesise(path, { preset: 'llama2-7b', dtype: 'bf16' })).rejects.toMatchObject({
    name: 'UserError',
    message: `${path}: is a file, not a folder; choose an empty or new folder`,
  });
});

test('a tensor of several blocks is converted block by block: the same numbers, and no room for the whole of it', async () => {
  const path = join(scratch, 'wide');
  const preset = narrow(300_001);
  await synthesise(path, { preset, dtype: 'bf16', seed: 3 });
  const folder = await localFolder(path);
  const checkpoint = await openCheckpoint(folder);
  // A panel is made of a whole tensor, which lies beside it meanwhile.
  const device = await openDevice({ mask: { textureSide: 0 } });
  const model = await loadModelWeights(folder, device, { dtype: 'f32' });
  // Two tensors are on their way at once, a block of 16 MiB of each; whole they have 38 MB.
  expect(device.memory.peak - device.memory.weights).toBeLessThan(2.3 * 2 ** 24);
  for (const [name, weights] of model.parameters) {
    const [got, want] = [await weights.read(), await checkpoint.readFloat32(name)];
    expect(Buffer.from(got.buffer).equals(Buffer.from(want.buffer)), name).toBe(true);
  }
  await checkpoint.close();
  device.destroy();
});
