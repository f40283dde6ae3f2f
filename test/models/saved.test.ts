/** Saved models: the tensors and the config.json that they were loaded with, of every family. */

import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { AdamW, type Device, grad, openDevice, scope, sum, type Tensor } from '../../engine/index.ts';
import { openFile } from '../../models/byteSource.ts';
import { adoptNames } from '../../models/checkpoint.ts';
import { configText } from '../../models/configText.ts';
import {
  initialise,
  joinStored,
  loadModelWeights,
  loadOptimiser,
  localFolder,
  type ModelConfig,
  openCheckpoint,
  openModelFiles,
  parametersOf,
  parseConfig,
  readConfig,
  readSafetensorsHeader,
  saveModel,
  saveOptimiser,
  type Transformer,
} from '../../models/index.ts';
import { storedTensors } from '../../models/stored.ts';
import { seededRandom } from '../../neurgrad/index.ts';
import { readConfigJson, readTensors, writeModel } from './checkpointFiles.ts';
import { FOLDERS } from './goldenFiles.ts';

const scratch = mkdtempSync(join(tmpdir(), 'neurgrad-saved-'));
let device: Device;
beforeAll(async () => {
  device = await openDevice();
});
afterAll(() => {
  device.destroy();
  rmSync(scratch, { recursive: true });
});

const MODELS = FOLDERS.map((folder) => join(folder, 'models')).flatMap((root) =>
  readdirSync(root).map((name) => join(root, name)),
);
let count = 0;
const fresh = (): string => join(scratch, String(count++));
const load = async (path: string): Promise<Transformer> =>
  loadModelWeights(await localFolder(path), device, { onNote: (note) => expect.unreachable(note) });

/** But for the numbers, which are float32 in what is saved. */
const apart = ({ dtype: _, torch_dtype: __, ...json }: Record<string, unknown>) => json;

describe.each(MODELS)('%s', (path) => {
  test('loaded, saved and loaded again: the same tensors and config', async () => {
    const folder = await localFolder(path);
    const first = await load(path);
    const saved = fresh();
    await saveModel(saved, first, first.config, folder);
    const second = await load(saved);
    expect([...second.parameters.keys()].sort()).toEqual([...first.parameters.keys()].sort());
    for (const [name, t] of first.parameters) {
      const again = second.parameters.get(name)!;
      expect(again.shape).toEqual(t.shape);
      expect(await again.read(), name).toEqual(await t.read());
    }
    const [before, after] = [readConfigJson(path), readConfigJson(saved)];
    expect(apart(after)).toEqual(apart(before));
    expect([after.dtype, after.torch_dtype].filter((dtype) => dtype !== undefined)).toEqual(['float32']);
    expect(second.config.endIds).toEqual(first.config.endIds);

    // Under the names and with the numbers of the file, but for what nobody needs.
    const { config, checkpoint } = await openModelFiles(folder);
    const expected = storedTensors(parametersOf(config.description));
    const stored = await openCheckpoint(await localFolder(saved));
    expect([...stored.tensors.keys()].sort()).toEqual([...expected.keys()].sort());
    for (const [name, current] of adoptNames(checkpoint.tensors.keys(), config.family.checkpoint, expected))
      if (expected.has(current))
        expect(await stored.readFloat32(current), name).toEqual(await checkpoint.readFloat32(name));
    const again = fresh();
    await saveModel(again, second, second.config, await localFolder(saved));
    for (const file of ['config.json', 'model.safetensors'])
      expect(readFileSync(join(again, file)).equals(readFileSync(join(saved, file))), file).toBe(true);
    for (const closed of [checkpoint, stored]) await closed.close();
    for (const model of [first, second]) model.dispose();
  });
});

describe('config.json', () => {
  const from = 'test/golden/models/llama-tied';

  test('keeps what nobody here knows', async () => {
    const more = {
      architectures: ['LlamaForSequenceClassification'],
      eos_token_id: [2, 7],
      some_field: { of: [1, 'x', null] },
    };
    const path = writeModel(fresh(), { ...readConfigJson(from), ...more }, await readTensors(from));
    const model = await load(path);
    const saved = fresh();
    await saveModel(saved, model, model.config);
    expect(readConfigJson(saved)).toEqual({
      ...readConfigJson(path),
      // What the file holds.
      architectures: ['LlamaForCausalLM'],
      torch_dtype: 'float32',
    });
    model.dispose();
  });

  test.each([
    [{ dtype: 'bfloat16' }, { dtype: 'float32' }],
    [{ torch_dtype: 'float16' }, { torch_dtype: 'float32' }],
    [
      { dtype: 'auto', torch_dtype: 'float16' },
      { dtype: 'float32', torch_dtype: 'float32' },
    ],
    [{}, { torch_dtype: 'float32' }],
  ])('%j becomes %j', async (given, written) => {
    const path = writeModel(fresh(), { ...apart(readConfigJson(from)), ...given }, await readTensors(from));
    const model = await load(path);
    const saved = fresh();
    await saveModel(saved, model, model.config);
    const { dtype, torch_dtype } = readConfigJson(saved);
    expect({ ...(dtype ? { dtype } : {}), ...(torch_dtype ? { torch_dtype } : {}) }).toEqual(written);
    model.dispose();
  });

  test('says whether there is a decoder, as the tensors are', async () => {
    const [tied, own] = await Promise.all(
      [from, 'test/golden/models/llama-s'].map(async (path) => load(path)),
    );
    const tieOf = async (model: Transformer, config: ModelConfig): Promise<unknown> => {
      const saved = fresh();
      await saveModel(saved, model, config);
      (await load(saved)).dispose();
      return readConfigJson(saved).tie_word_embeddings;
    };
    const with_ = (config: ModelConfig, tie: boolean) =>
      parseConfig({ ...config.json, tie_word_embeddings: tie });
    expect(await tieOf(tied!, with_(tied!.config, false))).toBe(true);
    expect(await tieOf(tied!, tied!.config)).toBe(true);
    expect(await tieOf(own!, with_(own!.config, true))).toBe(false);
    expect(await tieOf(own!, own!.config)).toBe(own!.config.json.tie_word_embeddings);
    for (const model of [tied, own]) model!.dispose();
  });
});

describe('the text of a config', () => {
  const written = (text: string, changes: object = {}) =>
    configText({ ...JSON.parse(text), ...changes }, text);

  test('what has not changed is spelled as it was', () => {
    const text =
      '{"a": 5.0,"b":[1.0, 2e0 ,{"c":"}, \\" :"}], "b2" : {"b": 1e400},\n "d": null, "\\u0065": -0.0, "f": "x", "g":{}}';
    expect(written(text, { d: 7, f: undefined, h: { i: [1] } })).toBe(`{
  "a": 5.0,
  "b": [1.0, 2e0 ,{"c":"}, \\" :"}],
  "b2": {"b": 1e400},
  "d": 7,
  "e": -0.0,
  "g": {},
  "h": {
    "i": [
      1
    ]
  }
}
`);
    const twice = written(text);
    expect(written(twice)).toBe(twice);
    expect(JSON.parse(twice)).toEqual(JSON.parse(text));
  });

  test('numbers that transformers wants as floats are such', () => {
    const json = { final_logit_softcapping: 30, rms_norm_eps: 1e-6, layer_norm_eps: 0, vocab_size: 30 };
    expect(configText({ ...json, attn_logit_softcapping: null })).toBe(`{
  "final_logit_softcapping": 30.0,
  "rms_norm_eps": 0.000001,
  "layer_norm_eps": 0.0,
  "vocab_size": 30,
  "attn_logit_softcapping": null
}
`);
    expect(written('{"final_logit_softcapping": 30.0}', { final_logit_softcapping: 50 })).toContain(': 50.0');
  });

  test('as it was read, through loading and saving', async () => {
    const from = 'test/golden/models/llama-tied';
    const path = writeModel(fresh(), {}, await readTensors(from), {
      'config.json':
        `{"rope_theta": 10000.0, "some_factor": 8.0, ${JSON.stringify(readConfigJson(from)).slice(1)}`.replace(
          /,"rope_theta":\d+/,
          '',
        ),
    });
    const model = await load(path);
    const saved = fresh();
    await saveModel(saved, model, model.config);
    const text = readFileSync(join(saved, 'config.json'), 'utf8');
    expect(text).toContain('"rope_theta": 10000.0');
    expect(text).toContain('"some_factor": 8.0');
    model.dispose();
  });
});

describe('where a text ends', () => {
  const from = 'test/golden/models/llama-tied';
  const file = 'generation_config.json';
  const read = (path: string): unknown => JSON.parse(readFileSync(join(path, file), 'utf8'));

  test.each<[string, object | null, unknown, readonly number[]]>([
    ['as generation_config.json says', { eos_token_id: [2, 7], top_p: 0.9, pad_token_id: 0 }, 2, [2, 7]],
    ['as config.json says', null, [3, 4], [3, 4]],
    ['as config.json says, the other being silent', { top_k: 3 }, [3, 4], [3, 4]],
    ['nowhere', null, null, []],
  ])('%s', async (_, generation, eos, ids) => {
    const files = generation ? { [file]: generation } : {};
    const path = writeModel(
      fresh(),
      { ...readConfigJson(from), eos_token_id: eos },
      await readTensors(from),
      files,
    );
    const model = await load(path);
    expect(model.config.endIds).toEqual(ids);
    for (const folder of [await localFolder(path), undefined]) {
      const saved = fresh();
      await saveModel(saved, model, model.config, folder);
      expect((await readConfig(await localFolder(saved))).endIds).toEqual(ids);
      expect(readConfigJson(saved).eos_token_id).toEqual(eos);
      if (generation && folder) expect(read(saved)).toEqual(generation);
      // Without the folder only what config.json does not say is written.
      if (!folder)
        expect(readdirSync(saved).includes(file)).toBe(generation !== null && 'eos_token_id' in generation);
    }
    model.dispose();
  });

  test("another folder's file does not end this model's texts", async () => {
    const model = await load(from);
    const tokenizer = writeModel(fresh(), {}, new Map(), { [file]: { eos_token_id: 50_000, top_p: 0.5 } });
    const saved = fresh();
    await saveModel(saved, model, model.config, await localFolder(tokenizer));
    expect((await readConfig(await localFolder(saved))).endIds).toEqual(model.config.endIds);
    expect(read(saved)).toEqual({ eos_token_id: model.config.endIds, top_p: 0.5 });
    model.dispose();
  });
});

test('a model whose weights are elsewhere is not saved', async () => {
  const config = await readConfig(await localFolder('test/golden/models/llama-s'));
  const path = fresh();
  await expect(saveModel(path, { parameters: new Map() }, config)).rejects.toMatchObject({ code: 'save' });
});

describe("an optimiser's moments", () => {
  const config = parseConfig({
    model_type: 'gpt2',
    vocab_size: 40,
    n_positions: 16,
    n_embd: 24,
    n_layer: 1,
    n_head: 3,
    eos_token_id: null,
  });
  const gradients = (model: Transformer, parameters: readonly Tensor[]): Tensor[] =>
    scope(() => {
      using run = model.run({ ids: [[1, 2, 3]] });
      return grad(sum(run.logits), parameters, { unconnected: 'zero' });
    });
  const stepped = (names: readonly string[], steps: number) => {
    const model = initialise(device, config, seededRandom(3));
    const parameters = names.map((name) => model.parameters.get(name)!.requireGrad());
    const optimiser = new AdamW(parameters);
    optimiser.rate = 0.01;
    for (let step = 0; step < steps; step++) optimiser.step(gradients(model, parameters));
    return { model, optimiser };
  };
  const read = async (optimiser: AdamW) => Promise.all(optimiser.moments.flat().map((t) => t.read()));

  test.each([
    ['all', (name: string) => !name.startsWith('x')],
    ['parts of a tensor', (name: string) => !name.endsWith('[k]')],
  ])('of %s parameters lie as in the checkpoint, and come back', async (_, wanted) => {
    const names = parametersOf(config.description)
      .map(({ name }) => name)
      .filter(wanted);
    const { model, optimiser } = stepped(names, 2);
    const path = join(fresh());
    await saveOptimiser(path, optimiser, names, config.description);
    const source = await openFile(path);
    const stored = (await readSafetensorsHeader(source)).tensors.map(({ name }) => name);
    await source.close();
    const joined = [
      ...joinStored(
        config.description,
        new Map(names.map((name) => [name, model.parameters.get(name)!])),
      ).keys(),
    ];
    expect(stored.sort()).toEqual(joined.flatMap((name) => [`first.${name}`, `second.${name}`]).sort());
    expect(stored.includes('first.transformer.h.0.attn.c_attn.weight')).toBe(
      names.some((name) => name.endsWith('[k]')),
    );
    const other = stepped(names, 1);
    await loadOptimiser(path, device, other.optimiser, names, config.description);
    expect(await read(other.optimiser)).toEqual(await read(optimiser));
    expect(other.optimiser.steps).toBe(2);
    // Of other parameters.
    const fewer = names.slice(1);
    await expect(
      loadOptimiser(path, device, stepped(fewer, 1).optimiser, fewer, config.description),
    ).rejects.toThrow(/of which the model has no parameter/);
    await expect(loadOptimiser(path, device, other.optimiser, names)).rejects.toThrow(
      /has no tensor first\.transformer\.h\.0\.attn\.c_attn\.(weight|bias)\[q\]|is F32/,
    );
  });
});
