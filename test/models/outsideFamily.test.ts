/**
 * A family that this package does not have, in one file of public exports (bigcode.ts, the listing of docs/extending.md): loaded,
 * run, cached, streamed, swept and saved like those that it has.
 */

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Device, openDevice } from '../../engine/index.ts';
import {
  type ByteFolder,
  FAMILIES,
  type Family,
  hooksOf,
  loadModel,
  loadModelWeights,
  localFolder,
  openCheckpoint,
  parseConfig,
  readConfig,
  runModel,
  saveModel,
  streamModel,
  writeSafetensors,
} from '../../models/index.ts';
import { sweep } from '../../neurgrad/index.ts';
import { bigcode } from './bigcode.ts';

const IDS = [3, 1, 4, 1, 5, 9, 2];
const families = [bigcode];

/** Logits after {@link IDS} of GPTBigCodeForCausalLM in float64 (transformers 5.24), with the weights of {@link tensorsOf}. */
const cases = [
  {
    multi_query: true,
    logits: [
      0.396072513, -0.143499286, -1.011225147, 1.786120966, 0.294697153, 0.93365695, -1.158922948,
      -0.978930941, -1.078572925, 1.095267661, 0.180333018, -0.464001867, -0.130516566,
    ],
  },
  {
    multi_query: false,
    logits: [
      -0.459500029, 0.426386463, 0.500856097, 2.086386346, 0.32439496, -1.000450685, -1.058809261,
      -0.215136358, 0.558462264, 0.804074677, -1.300859258, -1.735154241, 0.415281666,
    ],
  },
];

const configOf = (multi_query: boolean) => ({
  model_type: 'gpt_bigcode',
  architectures: ['GPTBigCodeForCausalLM'],
  vocab_size: 13,
  n_embd: 12,
  n_layer: 2,
  n_head: 3,
  n_positions: 10,
  n_inner: 20,
  multi_query,
  eos_token_id: 12,
});

/** The tensors of such a model as transformers stores them, made by a rule: element i of tensor t, names sorted. */
function tensorsOf(multi_query: boolean): { name: string; shape: number[]; data: Float32Array }[] {
  const both = (name: string, ...shape: number[]): [string, number[]][] => [
    [`${name}.weight`, shape],
    [`${name}.bias`, shape.slice(0, 1)],
  ];
  const layer = (at: string) => [
    ...both(`${at}.ln_1`, 12),
    ...both(`${at}.attn.c_attn`, multi_query ? 20 : 36, 12),
    ...both(`${at}.attn.c_proj`, 12, 12),
    ...both(`${at}.ln_2`, 12),
    ...both(`${at}.mlp.c_fc`, 20, 12),
    ...both(`${at}.mlp.c_proj`, 12, 20),
  ];
  const shapes = new Map<string, number[]>([
    ['transformer.wte.weight', [13, 12]],
    ['transformer.wpe.weight', [10, 12]],
    ...layer('transformer.h.0'),
    ...layer('transformer.h.1'),
    ...both('transformer.ln_f', 12),
  ]);
  return [...shapes.keys()].sort().map((name, t) => {
    const shape = shapes.get(name)!;
    const one = name.includes('.ln_') && name.endsWith('weight') ? 1 : 0;
    const length = shape.reduce((a, b) => a * b, 1);
    const at = (i: number) => ((i * 7919 + t * 104729) % 1009) / 1009 - 0.5 + one;
    return { name, shape, data: Float32Array.from({ length }, (_, i) => at(i)) };
  });
}

describe.each(cases)('multi_query $multi_query', ({ multi_query, logits: want }) => {
  let path: string;
  let folder: ByteFolder;
  let device: Device;
  const close = (got: ArrayLike<number>, to: ArrayLike<number> = want) => {
    expect(got.length).toBe(to.length);
    const errors = Array.from(got, (n, i) => Math.abs(n - to[i]!));
    expect(Math.max(...errors)).toBeLessThan(2e-5);
  };

  beforeAll(async () => {
    path = mkdtempSync(join(tmpdir(), 'bigcode-'));
    writeFileSync(join(path, 'config.json'), JSON.stringify(configOf(multi_query)));
    const tensors = tensorsOf(multi_query).map(({ name, shape, data }) => ({
      name,
      shape,
      dtype: 'F32' as const,
      data: async () => data,
    }));
    await writeSafetensors(join(path, 'model.safetensors'), tensors, { format: 'pt' });
    folder = await localFolder(path);
    device = await openDevice();
  });
  afterAll(() => {
    device?.destroy();
    rmSync(path, { recursive: true, force: true });
  });

  it('gives the logits of transformers', async () => {
    const model = await loadModelWeights(folder, device, { families });
    using run = model.run({ ids: [IDS] }, { logits: [IDS.length - 1] });
    close(await run.logits.read());
    expect(model.family).toBe('gpt_bigcode');
    expect(model.paperSite).toBe('post');
    model.dispose();
  });

  it('the same behind cached keys, and streamed', async () => {
    const model = await loadModelWeights(folder, device, { families });
    using prefix = model.prefill(IDS.slice(0, -1));
    using run = model.runRows({ prefix, ids: IDS.slice(-1) });
    close(await run.logits.read());
    model.dispose();
    const streamed = await streamModel(folder, device, { families });
    using other = await runModel(streamed, { ids: [IDS] }, { logits: [IDS.length - 1] });
    close(await other.logits.read());
    streamed.dispose();
  });

  it('sweeps by differences as by patches', async () => {
    const model = await loadModelWeights(folder, device, { families });
    const [position, target] = [IDS.length - 1, 7];
    const neuron = { layer: 0, index: 5, site: 'post' as const };
    const shifts = [-1, 0, 1];
    const options = { neurons: [neuron], shifts, target, direction: 'plain' } as const;
    const { neurons } = await sweep(model, { ids: IDS, position }, options);
    const patched = shifts.map(async (value) => {
      using run = model.run(
        { ids: [IDS] },
        {
          patch: [{ name: 'blocks.0.mlp.hook_post', position, neuron: 5, op: 'add', value }],
          logits: [position],
        },
      );
      const powers = (await run.logits.read()).map((n) => Math.exp(n));
      return powers[target]! / powers.reduce((a, b) => a + b, 0);
    });
    close(neurons[0]!.p, await Promise.all(patched));
    expect(neurons[0]!.p[0]).not.toBeCloseTo(neurons[0]!.p[2]!, 4);
    model.dispose();
  });

  it('saves what it loaded, q, k and v together again', async () => {
    const model = await loadModelWeights(folder, device, { families });
    const to = join(path, 'saved');
    await saveModel(to, model, await readConfig(folder, families));
    model.dispose();
    const checkpoint = await openCheckpoint(await localFolder(to));
    const tensors = tensorsOf(multi_query);
    expect([...checkpoint.tensors.keys()].sort()).toEqual(tensors.map(({ name }) => name));
    for (const { name, data } of tensors) expect(await checkpoint.readFloat32(name), name).toEqual(data);
    await checkpoint.close();
    expect(JSON.parse(readFileSync(join(to, 'config.json'), 'utf8'))).toMatchObject(configOf(multi_query));
  });

  it('is refused where it is not handed over, and by its own words', async () => {
    await expect(loadModelWeights(folder, device)).rejects.toThrow(
      /model_type 'gpt_bigcode' is not supported/,
    );
    await expect(loadModel(path, { device, families })).rejects.toThrow(/tokenizer/);
    const config = configOf(multi_query);
    expect(() => parseConfig({ ...config, n_head: 5 }, 'mine', families)).toThrow(
      /^mine: n_embd 12 is not divisible by n_head 5$/,
    );
    expect(() => parseConfig({ ...config, activation_function: 'relu' }, 'mine', families)).toThrow(
      /^mine: activation_function must be tanh GELU, not "relu"$/,
    );
  });
});

it('its hook points', () => {
  const { names, aliases } = hooksOf(parseConfig(configOf(true), 'mine', families).description);
  const layer = [
    'hook_resid_pre',
    'ln1.hook_normalized',
    'attn.hook_q',
    'attn.hook_k',
    'attn.hook_v',
    'attn.hook_pattern',
    'attn.hook_z',
    'hook_attn_out',
    'hook_resid_mid',
    'ln2.hook_normalized',
    'mlp.hook_pre',
    'mlp.hook_post',
    'hook_mlp_out',
    'hook_resid_post',
  ];
  expect(names).toEqual([
    'hook_embed',
    'hook_pos_embed',
    ...[0, 1].flatMap((i) => layer.map((name) => `blocks.${i}.${name}`)),
    'ln_final.hook_normalized',
  ]);
  expect(aliases.get('transformer.h.1.mlp.c_fc')).toBe('blocks.1.mlp.hook_pre');
  expect(aliases.get('transformer.h.1')).toBe('blocks.1.hook_resid_post');
});

it('a relative spreads what a family of this package says', () => {
  const { llama } = FAMILIES;
  const relative: Family = {
    ...llama,
    type: 'my_llama',
    describe(json, name) {
      const base = llama.describe(json, name);
      const layers = base.layers.map((layer) => ({
        ...layer,
        attention: { ...layer.attention, cap: 50 },
      }));
      return { ...base, layers };
    },
  };
  const sizes = {
    vocab_size: 9,
    hidden_size: 8,
    num_hidden_layers: 2,
    num_attention_heads: 2,
    intermediate_size: 12,
  };
  const { description } = parseConfig({ model_type: 'my_llama', ...sizes }, 'mine', [relative]);
  expect(description.layers.map(({ attention }) => attention.cap)).toEqual([50, 50]);
  // Looked in before those of the package.
  const { family } = parseConfig({ model_type: 'llama', ...sizes }, 'mine', [{ ...relative, type: 'llama' }]);
  expect(family).not.toBe(llama);
});

it('the listing of docs/extending.md is this family', () => {
  const source = readFileSync('test/models/bigcode.ts', 'utf8');
  const listing = /^```ts\n(.*?)^```$/ms.exec(readFileSync('docs/extending.md', 'utf8'))?.[1];
  expect(listing?.replaceAll(/'neurgrad\/(\w+)'/g, "'../../$1/index.ts'")).toBe(source);
});
