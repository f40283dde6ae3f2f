/**
 * Checkpoints of every family that hold more, less or other than their model: what is the matter goes by the family's names and
 * the description's parameters.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Device, openDevice } from '../../engine/index.ts';
import {
  FAMILIES,
  type Family,
  loadModel,
  loadModelWeights,
  localFolder,
  openModelFiles,
  readConfig,
  streamModel,
  synthesise,
} from '../../models/index.ts';
import { floats, readConfigJson, readTensors, type Tensors, writeModel } from './checkpointFiles.ts';

const scratch = mkdtempSync(join(tmpdir(), 'neurgrad-families-'));
let device: Device;
beforeAll(async () => {
  device = await openDevice();
});
afterAll(() => {
  device.destroy();
  rmSync(scratch, { recursive: true });
});

const common = {
  vocab_size: 50,
  hidden_size: 24,
  num_hidden_layers: 2,
  num_attention_heads: 3,
  intermediate_size: 36,
  max_position_embeddings: 32,
  pad_token_id: 0,
};
const CONFIGS = {
  gpt2: { vocab_size: 50, n_embd: 24, n_layer: 2, n_head: 3, n_positions: 32 },
  gpt_neox: common,
  phi3: common,
  gemma2: { ...common, head_dim: 8, num_key_value_heads: 1 },
  roberta: common,
  distilbert: {
    vocab_size: 50,
    dim: 24,
    n_layers: 2,
    n_heads: 3,
    hidden_dim: 36,
    max_position_embeddings: 32,
  },
  modernbert: common,
};
type Name = keyof typeof CONFIGS;

let count = 0;
const fresh = (): string => join(scratch, String(count++));
const made = new Map<Name, string>();
/** A folder of a drawn model, its tensors and config changed. */
async function variant(
  name: Name,
  change: (tensors: Tensors) => void = () => {},
  config: object = {},
): Promise<string> {
  let path = made.get(name);
  if (!path) {
    made.set(name, (path = fresh()));
    await synthesise(path, { preset: { model_type: name, ...CONFIGS[name] }, dtype: 'f32', seed: 2 });
  }
  const tensors = await readTensors(path);
  change(tensors);
  return writeModel(fresh(), { ...readConfigJson(path), ...config }, tensors);
}
const renamed = (change: (name: string) => string) => (tensors: Tensors) => {
  const all = [...tensors];
  tensors.clear();
  for (const [name, stored] of all) tensors.set(change(name), stored);
};
const only = (keep: RegExp) => (tensors: Tensors) => {
  for (const name of [...tensors.keys()]) if (!keep.test(name)) tensors.delete(name);
};
const numbers = async (path: string, notes: string[] = []): Promise<Map<string, Float32Array>> => {
  const model = await loadModelWeights(await localFolder(path), device, {
    onNote: (note) => notes.push(note),
  });
  const read = new Map<string, Float32Array>();
  for (const [name, t] of model.parameters) read.set(name, await t.read());
  model.dispose();
  return read;
};
const refusal = async (path: string): Promise<Error & { code: string }> => {
  const error = await numbers(path).catch((error) => error);
  expect(error.name).toBe('UserError');
  expect(error.message).not.toContain('\n');
  return error;
};

describe('old names and leftovers', () => {
  const masks = (tensors: Tensors): void => {
    for (const layer of [0, 1]) {
      tensors.set(`h.${layer}.attn.bias`, floats([1, 1, 32, 32]));
      tensors.set(`h.${layer}.attn.masked_bias`, floats([]));
    }
  };
  test.each<[string, Name, (tensors: Tensors) => void]>([
    ['a base model', 'gpt2', renamed((name) => name.replace(/^transformer\./, ''))],
    [
      'a base model with masks',
      'gpt2',
      (tensors) => {
        renamed((name) => name.replace(/^transformer\./, ''))(tensors);
        masks(tensors);
      },
    ],
    ['another name of the head', 'gpt_neox', renamed((name) => name.replace(/^lm_head\./, 'embed_out.'))],
    [
      'norms of old, a base model and copies',
      'roberta',
      (tensors) => {
        renamed((name) =>
          name.replace(/LayerNorm\.weight$/, 'LayerNorm.gamma').replace(/LayerNorm\.bias$/, 'LayerNorm.beta'),
        )(tensors);
        renamed((name) => name.replace(/^roberta\./, ''))(tensors);
        tensors.set('lm_head.decoder.bias', tensors.get('lm_head.bias')!);
        tensors.set('lm_head.decoder.weight', tensors.get('embeddings.word_embeddings.weight')!);
        tensors.set('pooler.dense.weight', floats([24, 24]));
      },
    ],
    [
      'an embedding under the name of the head',
      'gemma2',
      renamed((name) => (name === 'model.embed_tokens.weight' ? 'lm_head.weight' : name)),
    ],
    [
      'a bias under its other name',
      'roberta',
      renamed((name) => (name === 'lm_head.bias' ? 'lm_head.decoder.bias' : name)),
    ],
  ])('%s of %s are the same model', async (_, name, change) => {
    const notes: string[] = [];
    expect(await numbers(await variant(name, change), notes)).toEqual(await numbers(await variant(name)));
    expect(notes).toEqual([]);
  });
});

test.each<[Name, string]>([
  ['gpt2', 'transformer.h.0.attn.c_attn.lora_A.default.weight'],
  ['gpt2', 'h.1.crossattention.c_attn.weight'],
  ['gpt2', 'transformer.h.2.ln_1.weight'],
  ['gpt2', 'transformer.ln_f.scale'],
  ['gpt2', 'lm_head.bias'],
  ['gpt_neox', 'gpt_neox.layers.0.attention.query_key_value.weight_scale'],
  ['gpt_neox', 'embed_out.bias'],
  ['phi3', 'model.layers.0.self_attn.qkv_proj.bias'],
  ['phi3', 'model.layers.1.self_attn.q_norm.weight'],
  ['gemma2', 'model.layers.1.self_attn.k_norm.weight'],
  ['roberta', 'roberta.encoder.layer.0.output.adapter.bias'],
  ['roberta', 'lm_head.dense.weight_scale'],
  ['distilbert', 'distilbert.transformer.layer.1.attention.q_lin.lora_B.weight'],
  ['distilbert', 'transformer.layer.2.ffn.lin1.weight'],
  ['modernbert', 'model.layers.0.attn_norm.weight'],
  ['modernbert', 'layers.1.mlp.Wi.bias'],
  ['modernbert', 'decoder.scale'],
])('%s with %s would have other numbers: refused', async (name, extra) => {
  const error = await refusal(await variant(name, (tensors) => tensors.set(extra, floats([3]))));
  expect(error.code).toBe('tensor-extra');
  expect(error.message).toContain(`that this architecture does not compute with: ${extra}`);
});

test.each<[Name, string[]]>([
  ['gpt2', ['score.weight', 'transformer.h.0.attn.cache']],
  ['gpt_neox', ['gpt_neox.layers.1.rotary_cache']],
  ['roberta', ['classifier.dense.weight', 'classifier.dense.bias']],
  ['modernbert', ['classifier.weight', 'vision.layers.0.norm.weight']],
])('%s with %j: named once, and the model is as without', async (name, extra) => {
  const notes: string[] = [];
  const path = await variant(name, (tensors) => {
    for (const each of extra) tensors.set(each, floats([3]));
  });
  expect(await numbers(path, notes)).toEqual(await numbers(await variant(name)));
  expect(notes).toEqual([`${path}: not read, as the model has no place for it: ${extra.join(', ')}`]);
});

test.each<[string, Name, (tensors: Tensors) => void, RegExp, string]>([
  [
    'the encoder alone',
    'roberta',
    only(/^roberta\./),
    /is an encoder without the masked-word head \(5 tensors missing: lm_head.*RobertaForMaskedLM$/,
    'tensor-missing',
  ],
  [
    'the encoder alone',
    'distilbert',
    only(/^distilbert\./),
    /is an encoder without.*DistilBertForMaskedLM$/,
    'tensor-missing',
  ],
  [
    'the encoder alone',
    'modernbert',
    only(/^model\./),
    /is an encoder without.*ModernBertForMaskedLM$/,
    'tensor-missing',
  ],
  [
    'the decoder alone',
    'gpt_neox',
    only(/^gpt_neox\./),
    /is a decoder without its head \(lm_head\.weight is missing.*GPTNeoXForCausalLM$/,
    'tensor-missing',
  ],
  [
    'the prefix twice',
    'gpt2',
    renamed((name) => `transformer.${name}`),
    /have the prefix "transformer\." twice \(transformer\.transformer\./,
    'tensor-missing',
  ],
  [
    'a wrapper',
    'gpt_neox',
    renamed((name) => `module.${name}`),
    /names begin with "module\.gpt_neox\."/,
    'tensor-missing',
  ],
  [
    'packed matrices',
    'phi3',
    renamed((name) => name.replace(/proj\.weight$/, 'proj.qweight')),
    /packed by GPTQ or AWQ/,
    'tensor-missing',
  ],
  [
    'a part is missing',
    'phi3',
    (tensors) => tensors.delete('model.layers.0.self_attn.qkv_proj.weight'),
    /: 1 tensor missing: model\.layers\.0\.self_attn\.qkv_proj\.weight$/,
    'tensor-missing',
  ],
  [
    'the right way round',
    'gpt2',
    (tensors) => tensors.set('transformer.h.0.attn.c_attn.weight', floats([72, 24])),
    /1 tensor of another shape than config\.json says: transformer\.h\.0\.attn\.c_attn\.weight is \[72,24\], should be \[24,72\]$/,
    'tensor-shape',
  ],
  [
    'rows of fewer heads',
    'gpt_neox',
    (tensors) => tensors.set('gpt_neox.layers.1.attention.query_key_value.bias', floats([64])),
    /query_key_value\.bias is \[64\], should be \[72\]$/,
    'tensor-shape',
  ],
])('%s: %s', async (_, name, change, message, code) => {
  const error = await refusal(await variant(name, change));
  expect(error.message).toMatch(message);
  expect(error.code).toBe(code);
});

describe('tensors that should be one, but differ', () => {
  const other = (tensors: Tensors, copy: string, original: string): void => {
    const { shape } = tensors.get(original)!;
    tensors.set(
      copy,
      floats(
        shape,
        Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(i)),
      ),
    );
  };
  test.each<[Name, string, string, string]>([
    ['gpt2', 'lm_head.weight', 'transformer.wte.weight', 'lm_head.weight'],
    ['gemma2', 'lm_head.weight', 'model.embed_tokens.weight', 'lm_head.weight'],
    [
      'roberta',
      'lm_head.decoder.weight',
      'roberta.embeddings.word_embeddings.weight',
      'lm_head.decoder.weight',
    ],
    ['roberta', 'lm_head.decoder.bias', 'lm_head.bias', 'lm_head.bias'],
    [
      'distilbert',
      'vocab_projector.weight',
      'distilbert.embeddings.word_embeddings.weight',
      'vocab_projector.weight',
    ],
    ['modernbert', 'decoder.weight', 'model.embeddings.tok_embeddings.weight', 'decoder.weight'],
  ])("%s: %s is the model's", async (name, copy, original, parameter) => {
    const path = await variant(name, (tensors) => other(tensors, copy, original));
    const notes: string[] = [];
    const got = await numbers(path, notes);
    const stored = (await readTensors(path)).get(copy)!;
    expect(Buffer.from(got.get(parameter)!.buffer).equals(Buffer.from(stored.bytes))).toBe(true);
    expect(notes).toEqual([
      `${path}: ${copy} and ${original} should be one tensor, but differ; the first is used as it is`,
    ]);
  });

  test('a family that has no decoder of its own refuses one', async () => {
    const always: Family = {
      ...FAMILIES.gpt2,
      describe: (json, name) =>
        FAMILIES.gpt2.describe({ ...(json as object), tie_word_embeddings: true }, name),
    };
    const path = await variant('gpt2', (tensors) =>
      other(tensors, 'lm_head.weight', 'transformer.wte.weight'),
    );
    await expect(loadModelWeights(await localFolder(path), device, { families: [always] })).rejects.toThrow(
      /lm_head\.weight and transformer\.wte\.weight should be one tensor, but differ, and a gpt2 has no decoder of its own; keep one$/,
    );
  });
});

describe('a family from outside', () => {
  const outside: Family = {
    ...FAMILIES.gpt2,
    type: 'my-gpt',
    checkpoint: { prefix: 'transformer.', renamed: [[/^my\./, 'transformer.']] },
  };
  const path = () =>
    variant(
      'gpt2',
      renamed((name) => name.replace('transformer.', 'my.')),
      { model_type: 'my-gpt' },
    );

  test('is loaded, streamed and opened with, and not known without', async () => {
    const folder = await localFolder(await path());
    const families = [outside];
    const model = await loadModelWeights(folder, device, { families });
    const streamed = await streamModel(folder, device, { families });
    const { config, checkpoint } = await openModelFiles(folder, { families });
    await checkpoint.close();
    expect([model.family, streamed.family, config.family.type]).toEqual(['my-gpt', 'my-gpt', 'my-gpt']);
    expect(config.family).toBe(outside);
    for (const each of [model, streamed]) each.dispose();
    // One after another: a rejection that nobody awaits yet is an error of the whole run.
    for (const without of [
      () => loadModelWeights(folder, device),
      () => openModelFiles(folder),
      () => readConfig(folder),
    ])
      await expect(without()).rejects.toThrow(/model_type 'my-gpt' is not supported/);
    await expect(loadModel(folder.name, { device, families })).rejects.toThrow('has no tokenizer.json');
  });
});
