/**
 * Families of causal models: what a config.json says becomes parameters, angles, windows, scales and names, or is refused by name.
 *
 * Expected numbers are worked out by hand from the papers' formulae; names and shapes are those of checkpoints that Hugging Face
 * transformers wrote (test/golden-families), the counts of parameters those that were published with the models.
 */

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, expectTypeOf, it } from 'vitest';
import type { LayerSpec, StoredRows } from '../../models/block.ts';
import { localFolder } from '../../models/byteSource.ts';
import { matchTensors, openCheckpoint } from '../../models/checkpoint.ts';
import {
  type Description,
  hooksOf,
  type Parameter,
  parametersOf,
  sitesOf,
  storedName,
} from '../../models/description.ts';
import { FAMILIES, type FamilyName } from '../../models/families/index.ts';

type Json = Readonly<Record<string, unknown>>;

const sizes = {
  vocab_size: 50,
  hidden_size: 24,
  intermediate_size: 40,
  num_hidden_layers: 1,
  num_attention_heads: 4,
  num_key_value_heads: 2,
};
const { num_key_value_heads: _, ...sizesOfNeox } = sizes;
/** The smallest config.json of each family: whatever else is in it is the case's own. */
const SMALLEST = {
  gemma2: { ...sizes, head_dim: 8 },
  gemma3_text: { ...sizes, head_dim: 8 },
  gpt2: { vocab_size: 50, n_embd: 24, n_layer: 1, n_head: 4, n_positions: 16 },
  gpt_neox: { ...sizesOfNeox, hidden_size: 64 },
  llama: sizes,
  mistral: sizes,
  olmo2: sizes,
  phi3: sizes,
  qwen2: sizes,
  qwen3: { ...sizes, head_dim: 8 },
} as const satisfies Partial<Record<FamilyName, Json>>;
type Causal = keyof typeof SMALLEST;
const CAUSAL = Object.keys(SMALLEST) as Causal[];

const describeAs = (name: FamilyName, json: Json): Description =>
  FAMILIES[name].describe(json, 'config.json');
const of = (name: Causal, json: Json = {}): Description => describeAs(name, { ...SMALLEST[name], ...json });
const layers = (count: number) => ({ num_hidden_layers: count });
const refusal = (name: Causal, json: Json): string => {
  try {
    of(name, json);
  } catch (error) {
    expect(error).toMatchObject({ name: 'UserError', code: 'config' });
    return (error as Error).message;
  }
  return 'nothing is refused';
};

describe('families', () => {
  it('are listed by their model_type', () => {
    for (const [name, family] of Object.entries(FAMILIES)) expect(family.type).toBe(name);
    expectTypeOf<Causal>().toExtend<FamilyName>();
    // @ts-expect-error: a table that lacks families does not compile
    const lacking: Record<FamilyName, true> = { bert: true };
    // @ts-expect-error: nor does a name that is none
    const none: FamilyName = 'gpt3';
    expect([lacking, none]).toHaveLength(2);
  });

  it('are causal, with sites by their feed-forward', () => {
    for (const name of CAUSAL) {
      expect(of(name).causal, name).toBe(true);
      const gated = name !== 'gpt2' && name !== 'gpt_neox';
      expect(sitesOf(of(name)).paperSite, name).toBe(gated ? 'pre_linear' : 'post');
    }
  });
});

/** What the parts of each stored tensor make up: its shape, its rows each there once. */
function joined(parameters: readonly Parameter[]): Map<string, readonly number[]> {
  const groups = grouped(parameters);
  return new Map([...groups].map(([name, parts]) => [name, shapeOf(name, parts)]));
}

function grouped(parameters: readonly Parameter[]): Map<string, Parameter[]> {
  const groups = new Map<string, Parameter[]>();
  for (const each of parameters) {
    const name = storedName(each.name);
    groups.set(name, [...(groups.get(name) ?? []), each]);
  }
  return groups;
}

function shapeOf(name: string, parts: readonly Parameter[]): readonly number[] {
  const [{ shape, stored }] = parts as [Parameter];
  if (!stored) {
    expect(parts, name).toHaveLength(1);
    return shape;
  }
  const times = new Array<number>(stored.of).fill(0);
  for (const part of parts) {
    const rows = part.stored as StoredRows;
    expect([rows.of, rows.transposed ?? false], name).toEqual([stored.of, stored.transposed ?? false]);
    expect(part.shape.slice(1), name).toEqual(shape.slice(1));
    expect(part.shape[0], name).toBe(rows.rows.reduce((sum, [, count]) => sum + count, 0));
    for (const [first, count] of rows.rows)
      for (let row = first; row < first + count; row++) times[row]! += 1;
  }
  expect(new Set(times), name).toEqual(new Set([1]));
  return stored.transposed ? [shape[1]!, stored.of] : [stored.of, ...shape.slice(1)];
}

const GOLDEN = join(process.env.NEURGRAD_GOLDEN_FAMILIES || 'test/golden-families', 'models');

describe.skipIf(!existsSync(GOLDEN))('checkpoints that transformers wrote', () => {
  const cases = existsSync(GOLDEN) ? readdirSync(GOLDEN) : [];
  for (const name of cases) {
    const json = JSON.parse(readFileSync(join(GOLDEN, name, 'config.json'), 'utf8')) as Json;
    const family = FAMILIES[json.model_type as FamilyName];
    const description = family.describe(json, 'config.json');
    if (!description.causal) continue;

    it(`${name}: its tensors are the description's parameters`, async () => {
      const checkpoint = await openCheckpoint(await localFolder(join(GOLDEN, name)));
      try {
        const needless = [...(family.checkpoint.needless ?? [])];
        const { prefix } = family.checkpoint;
        const expected = joined(parametersOf(description));
        const stored = [...checkpoint.tensors].flatMap(([tensor, { shape }]) =>
          needless.some((each) => each.test(tensor))
            ? []
            : [[expected.has(prefix + tensor) ? prefix + tensor : tensor, [...shape]] as const],
        );
        expect(new Map(stored)).toEqual(expected);
        const parameters = parametersOf(description).map((each) => each.name);
        const found = matchTensors(checkpoint, { family, description }, { strict: true });
        expect([...found.keys()].sort()).toEqual(parameters.sort());
      } finally {
        await checkpoint.close();
      }
    });
  }
});

describe('published sizes', () => {
  /** Parameters, tied ones once, as counted by their authors' checkpoints. */
  const PARAMETERS: Readonly<Record<string, number>> = {
    'llama2-7b': 6_738_415_616,
    'llama2-13b': 13_015_864_320,
    'llama2-70b': 68_976_648_192,
    'llama-3-8b': 8_030_261_248,
    'llama-3.1-8b': 8_030_261_248,
    'llama-3.1-70b': 70_553_706_496,
    'llama-3.2-1b': 1_235_814_400,
    'llama-3.2-3b': 3_212_749_824,
    'mistral-7b': 7_241_732_096,
    'qwen2-0.5b': 494_032_768,
    'qwen2.5-0.5b': 494_032_768,
    'qwen2.5-1.5b': 1_543_714_304,
    'qwen2.5-7b': 7_615_616_512,
    'qwen3-0.6b': 596_049_920,
    'qwen3-1.7b': 1_720_574_976,
    'qwen3-8b': 8_190_735_360,
    'phi-3-mini': 3_821_079_552,
    'olmo-2-1b': 1_484_916_736,
    'olmo-2-7b': 7_298_617_344,
    'gemma-2-2b': 2_614_341_888,
    'gemma-2-9b': 9_241_705_984,
    'gemma-3-1b': 999_885_952,
    gpt2: 124_439_808,
    'gpt2-medium': 354_823_168,
    'gpt2-large': 774_030_080,
    'gpt2-xl': 1_557_611_200,
    'pythia-70m': 70_426_624,
    'pythia-160m': 162_322_944,
    'pythia-410m': 405_334_016,
    'pythia-1b': 1_011_781_632,
    'pythia-1.4b': 1_414_647_808,
    'pythia-2.8b': 2_775_208_960,
    'pythia-6.9b': 6_857_302_016,
    'pythia-12b': 11_846_072_320,
  };
  const presets = CAUSAL.flatMap((family) =>
    Object.entries(FAMILIES[family].presets).map(([name, json]) => [name, family, json] as const),
  );

  it('are all counted here', () => {
    expect(presets.map(([name]) => name).sort()).toEqual(Object.keys(PARAMETERS).sort());
  });
  it.each(presets)('%s', (name, family, json) => {
    const counts = parametersOf(describeAs(family, json)).map(({ shape }) => shape.reduce((a, b) => a * b));
    expect(counts.reduce((a, b) => a + b)).toBe(PARAMETERS[name]);
  });
});

describe('rotary angles', () => {
  const angles = (description: Description, layer = 0): number[] => [
    ...description.layers[layer]!.attention.rotary!,
  ];
  const near = (found: readonly number[], expected: readonly number[]): void => {
    expect(found).toHaveLength(expected.length);
    for (const [i, value] of expected.entries()) expect(found[i]! / value).toBeCloseTo(1, 12);
  };
  // Heads of 8: theta^(-2i/8) at 10000 is 1, 0.1, 0.01, 0.001.
  const eight = { head_dim: 8 };
  const PLAIN = [1, 0.1, 0.01, 0.001];
  /** The families that rotate whole heads by one rotary. */
  const whole = ['llama', 'mistral', 'qwen2', 'qwen3', 'olmo2', 'gemma2', 'phi3'] as const;

  it('are theta^(-2i/d), theta 10000 where it is absent, and one object for all layers', () => {
    for (const name of whole) {
      const description = of(name, { ...eight, ...layers(3) });
      near(angles(description), PLAIN);
      expect(new Set(description.layers.map(({ attention }) => attention.rotary)).size, name).toBe(1);
    }
    near(angles(of('llama', { ...eight, rope_theta: 16 })), [1, 0.5, 0.25, 0.125]);
    // Of H / heads, unless head_dim says otherwise.
    near(angles(of('llama', { rope_theta: 1000 })), [1, 0.1, 0.01]);
    expect(of('gpt2').layers[0]!.attention.rotary).toBeUndefined();
  });

  it('by transformers 4 and 5 are the same', () => {
    for (const name of whole) {
      near(angles(of(name, { ...eight, rope_parameters: { rope_theta: 16 } })), [1, 0.5, 0.25, 0.125]);
      const four = { rope_theta: 81, rope_scaling: { type: 'linear', factor: 3 } };
      const five = { rope_parameters: { rope_type: 'linear', rope_theta: 81, factor: 3 } };
      near(angles(of(name, { ...eight, ...four })), [1 / 3, 1 / 9, 1 / 27, 1 / 81]);
      near(angles(of(name, { ...eight, ...five })), [1 / 3, 1 / 9, 1 / 27, 1 / 81]);
    }
  });

  it('linear divides all of them', () => {
    const scaling = { rope_type: 'linear', factor: 2.5 };
    near(angles(of('llama', { ...eight, rope_scaling: scaling })), [0.4, 0.04, 0.004, 0.0004]);
    near(angles(of('llama', { ...eight, rope_scaling: { ...scaling, factor: 1 } })), PLAIN);
  });

  it('llama3 has three zones, the middle one a mixture', () => {
    // With 200 pi trained positions they turn 100, 10, 1 and 0.1 times: kept, 4/9 kept, and divided twice.
    const rope_scaling = {
      rope_type: 'llama3',
      factor: 8,
      low_freq_factor: 2,
      high_freq_factor: 20,
      original_max_position_embeddings: 200 * Math.PI,
    };
    const expected = [1, 0.1 * (4 / 9 + 5 / 9 / 8), 0.01 / 8, 0.001 / 8];
    near(angles(of('llama', { ...eight, rope_scaling })), expected);
    near(angles(of('llama', { ...eight, rope_parameters: rope_scaling })), expected);
  });

  it('of a part of a head have its size in the exponent', () => {
    // 16 to a head; a quarter of them rotated, in two pairs.
    near(angles(of('gpt_neox')), [1, 0.01]);
    near(angles(of('gpt_neox', { rotary_pct: 0.5 })), PLAIN);
    near(angles(of('gpt_neox', { rotary_pct: 0.5, rotary_emb_base: 16 })), [1, 0.5, 0.25, 0.125]);
    const five = { rope_parameters: { rope_theta: 9, partial_rotary_factor: 0.5 } };
    near(angles(of('gpt_neox', five)), [1, 3 ** -0.5, 1 / 3, 3 ** -1.5]);
    // A quarter, too, where rope_parameters do not say it.
    near(angles(of('gpt_neox', { rope_parameters: { rope_theta: 9 } })), [1, 1 / 3]);
    // The whole part of it: 0.3 of 16 is 4.
    near(angles(of('gpt_neox', { rotary_pct: 0.3 })), [1, 0.01]);
    // The names that other families have are written, too, and not read.
    near(angles(of('gpt_neox', { rope_theta: 9, partial_rotary_factor: 1 })), [1, 0.01]);
    near(angles(of('phi3', { ...eight, partial_rotary_factor: 0.5 })), [1, 0.01]);
    near(angles(of('phi3', { ...eight, rope_parameters: { partial_rotary_factor: 0.5 } })), [1, 0.01]);
    near(angles(of('phi3', { ...eight, partial_rotary_factor: 0.75 })), [
      1,
      10000 ** (-1 / 3),
      10000 ** (-2 / 3),
    ]);
  });

  it("of Gemma 3's layers are two, and scaling is of the full ones alone", () => {
    const six = of('gemma3_text', layers(12));
    const full = six.layers[5]!.attention.rotary!;
    near([...full], [1, 10 ** -1.5, 10 ** -3, 10 ** -4.5]);
    near(angles(six, 0), PLAIN);
    for (const [i, { attention }] of six.layers.entries())
      expect(attention.rotary).toBe(i % 6 === 5 ? full : six.layers[0]!.attention.rotary);
    const four = {
      rope_theta: 16,
      rope_local_base_freq: 81,
      rope_scaling: { factor: 2, rope_type: 'linear' },
    };
    const five = {
      rope_parameters: {
        full_attention: { rope_theta: 16, rope_type: 'linear', factor: 2 },
        sliding_attention: { rope_theta: 81, rope_type: 'default' },
      },
    };
    for (const json of [four, five]) {
      const two = of('gemma3_text', { ...layers(2), sliding_window_pattern: 2, ...json });
      near(angles(two, 0), [1, 1 / 3, 1 / 9, 1 / 27]);
      near(angles(two, 1), [0.5, 0.25, 0.125, 0.0625]);
    }
    // One of the two absent, or null, is its default.
    const half = { rope_parameters: { full_attention: { rope_theta: 16 }, sliding_attention: null } };
    near(
      angles(of('gemma3_text', { ...layers(1), sliding_window_pattern: 1, ...half })),
      [1, 0.5, 0.25, 0.125],
    );
    near(angles(of('gemma3_text', half)), PLAIN);
    // Where both are the same they are one object, and so one table.
    const { layers: same } = of('gemma3_text', { ...layers(6), rope_theta: 10000 });
    expect(same[5]!.attention.rotary).toBe(same[0]!.attention.rotary);
  });
});

describe('windows', () => {
  /** Keys that a query sees in each layer, its own included; null: all before it. */
  const keys = (description: Description): (number | null)[] =>
    description.layers.map(({ attention: { window } }) => {
      if (!window) return null;
      expect(window.after).toBe(0);
      return window.before + 1;
    });

  it('Mistral: in every layer; null is none, absent is 4096', () => {
    expect(keys(of('mistral', layers(2)))).toEqual([4096, 4096]);
    expect(keys(of('mistral', { ...layers(2), sliding_window: 4 }))).toEqual([4, 4]);
    expect(keys(of('mistral', { ...layers(2), sliding_window: null }))).toEqual([null, null]);
  });

  it('Phi-3: in every layer; null and absent are none', () => {
    expect(keys(of('phi3'))).toEqual([null]);
    expect(keys(of('phi3', { sliding_window: null }))).toEqual([null]);
    expect(keys(of('phi3', { ...layers(2), sliding_window: 4 }))).toEqual([4, 4]);
  });

  it('Qwen: from max_window_layers on, and only with use_sliding_window', () => {
    for (const name of ['qwen2', 'qwen3'] as const) {
      const upper = { ...layers(3), sliding_window: 4, max_window_layers: 1 };
      expect(keys(of(name, upper))).toEqual([null, null, null]);
      expect(keys(of(name, { ...upper, use_sliding_window: true }))).toEqual([null, 4, 4]);
      expect(keys(of(name, { ...upper, use_sliding_window: true, sliding_window: null }))).toEqual([
        null,
        null,
        null,
      ]);
      expect(keys(of(name, { ...layers(30), use_sliding_window: true })).slice(27)).toEqual([
        null,
        4096,
        4096,
      ]);
      const layer_types = ['sliding_attention', 'full_attention', 'sliding_attention'];
      expect(keys(of(name, { ...upper, use_sliding_window: true, layer_types }))).toEqual([4, null, 4]);
    }
  });

  it('Gemma 2: in layers 0, 2, 4 and so on', () => {
    expect(keys(of('gemma2', layers(3)))).toEqual([4096, null, 4096]);
    expect(keys(of('gemma2', { ...layers(3), sliding_window: null }))).toEqual([null, null, null]);
    const layer_types = ['full_attention', 'sliding_attention'];
    expect(keys(of('gemma2', { ...layers(2), sliding_window: 5, layer_types }))).toEqual([null, 5]);
  });

  it('Gemma 3: in all layers but every sixth, or by the pattern', () => {
    const window = { sliding_window: 5 };
    expect(keys(of('gemma3_text', { ...layers(7), ...window }))).toEqual([5, 5, 5, 5, 5, null, 5]);
    const three = { ...layers(4), ...window, sliding_window_pattern: 3 };
    expect(keys(of('gemma3_text', three))).toEqual([5, 5, null, 5]);
    const layer_types = ['full_attention', 'full_attention', 'sliding_attention', 'full_attention'];
    expect(keys(of('gemma3_text', { ...three, layer_types }))).toEqual([null, null, 5, null]);
  });

  it('are of no other family', () => {
    for (const name of ['llama', 'olmo2', 'gpt2', 'gpt_neox'] as const)
      expect(keys(of(name, { sliding_window: 4 }))).toEqual([null]);
  });
});

describe('scales and caps', () => {
  const scales = (description: Description): number[] =>
    description.layers.map(({ attention }) => attention.scale ?? 1 / Math.sqrt(attention.size));

  it('scores are divided by the root of the head size, which need not be H / heads', () => {
    expect(scales(of('llama', { head_dim: 16 }))).toEqual([0.25]);
    expect(scales(of('gpt_neox'))).toEqual([0.25]);
    // 128, not H / heads.
    expect(describeAs('qwen3', sizes).sizes.headSize).toBe(128);
  });

  it("Gemma's scale is a field's, not the head size's", () => {
    for (const name of ['gemma2', 'gemma3_text'] as const) {
      expect(scales(of(name))).toEqual([1 / 16]);
      expect(scales(of(name, { query_pre_attn_scalar: 4 }))).toEqual([0.5]);
      expect(describeAs(name, sizes).sizes.headSize).toBe(256);
    }
  });

  it("GPT-2's is by two switches", () => {
    const two = { n_layer: 2, n_head: 6 };
    expect(scales(of('gpt2', two))).toEqual([0.5, 0.5]);
    expect(scales(of('gpt2', { ...two, scale_attn_weights: false }))).toEqual([1, 1]);
    expect(scales(of('gpt2', { ...two, scale_attn_by_inverse_layer_idx: true }))).toEqual([0.5, 0.25]);
    const both = { scale_attn_weights: false, scale_attn_by_inverse_layer_idx: true };
    expect(scales(of('gpt2', { ...two, ...both, reorder_and_upcast_attn: true }))).toEqual([1, 0.5]);
  });

  it('caps: null is none, absent the default; Gemma 3 has none of scores, whatever its field says', () => {
    const caps = ({ layers, head }: Description) => [layers[0]!.attention.cap, head.cap];
    expect(caps(of('gemma2'))).toEqual([50, 30]);
    expect(caps(of('gemma2', { attn_logit_softcapping: null, final_logit_softcapping: 5 }))).toEqual([
      undefined,
      5,
    ]);
    expect(caps(of('gemma2', { attn_logit_softcapping: 3, final_logit_softcapping: null }))).toEqual([
      3,
      undefined,
    ]);
    expect(caps(of('gemma3_text', { attn_logit_softcapping: 3 }))).toEqual([undefined, undefined]);
    expect(caps(of('gemma3_text', { final_logit_softcapping: 6 }))).toEqual([undefined, 6]);
    expect(caps(of('llama', { final_logit_softcapping: 6 }))).toEqual([undefined, undefined]);
  });

  it("Gemma's embedding is scaled, its tied decoder is not", () => {
    const { embedding, head } = of('gemma2', { hidden_size: 64 });
    expect(embedding).toEqual({ word: 'model.embed_tokens.weight', scale: 8 });
    expect(head.decoder).toEqual({ weight: 'model.embed_tokens.weight', out: 50, in: 64 });
    expect(of('llama').embedding.scale).toBeUndefined();
  });
});

describe('parameters', () => {
  const layer = (name: Causal, json: Json = {}): LayerSpec => of(name, json).layers[0]!;
  const biases = (name: Causal, json: Json = {}): string[] =>
    parametersOf(of(name, json)).flatMap(({ name, kind }) =>
      kind === 'bias' && name.includes('.0.') ? [name.replace(/^.*\.0\./, '')] : [],
    );
  const ATTENTION = ['q', 'k', 'v', 'o'].map((part) => `self_attn.${part}_proj.bias`);

  it('biases are where the config has them, and nowhere else', () => {
    expect(biases('llama')).toEqual([]);
    expect(biases('llama', { attention_bias: true })).toEqual(ATTENTION);
    expect(biases('llama', { mlp_bias: true })).toEqual(
      ['gate', 'up', 'down'].map((part) => `mlp.${part}_proj.bias`),
    );
    // No field says so, and none takes them away.
    expect(biases('qwen2')).toEqual(ATTENTION.slice(0, 3));
    expect(biases('qwen2', { attention_bias: false, mlp_bias: true })).toEqual(ATTENTION.slice(0, 3));
    for (const name of ['qwen3', 'olmo2', 'gemma2', 'gemma3_text'] as const)
      expect(biases(name, { attention_bias: true, mlp_bias: true })).toEqual(ATTENTION);
    for (const name of ['mistral', 'phi3'] as const)
      expect(biases(name, { attention_bias: true, mlp_bias: true })).toEqual([]);
    expect(biases('gpt_neox', { attention_bias: false })).toEqual([
      'input_layernorm.bias',
      'post_attention_layernorm.bias',
      'mlp.dense_h_to_4h.bias',
      'mlp.dense_4h_to_h.bias',
    ]);
  });

  it('GPT-2: thirds of a stored matrix [in, out], and whole ones the other way round', () => {
    const { attention, feedForward } = layer('gpt2', { n_inner: 30 });
    const module = 'transformer.h.0.attn.c_attn';
    for (const [i, part] of (['q', 'k', 'v'] as const).entries())
      expect(attention[part]).toEqual({
        weight: `${module}.weight[${part}]`,
        bias: `${module}.bias[${part}]`,
        out: 24,
        in: 24,
        stored: { rows: [[24 * i, 24]], of: 72, transposed: true },
      });
    const bias = parametersOf(of('gpt2')).find(({ name }) => name === `${module}.bias[k]`);
    expect(bias).toMatchObject({ shape: [24], stored: { rows: [[24, 24]], of: 72 } });
    expect(bias!.stored!.transposed).toBeUndefined();
    // A square one shows no error in its shape.
    expect(attention.out.stored).toEqual({ rows: [[0, 24]], of: 24, transposed: true });
    expect(feedForward.up).toMatchObject({ out: 30, in: 24, stored: { of: 30, transposed: true } });
    expect(feedForward.down).toMatchObject({ out: 24, in: 30, stored: { of: 24, transposed: true } });
    expect(of('gpt2').sizes.width).toBe(96);
    expect(of('gpt2', { n_inner: null }).sizes.width).toBe(96);
  });

  it('GPT-NeoX: rows of q, k and v go by head', () => {
    const { attention } = layer('gpt_neox', { hidden_size: 12, num_attention_heads: 2, rotary_pct: 1 });
    const module = 'gpt_neox.layers.0.attention.query_key_value';
    expect(attention.q.stored).toEqual({
      rows: [
        [0, 6],
        [18, 6],
      ],
      of: 36,
    });
    expect(attention.k.stored).toEqual({
      rows: [
        [6, 6],
        [24, 6],
      ],
      of: 36,
    });
    expect(attention.v.stored).toEqual({
      rows: [
        [12, 6],
        [30, 6],
      ],
      of: 36,
    });
    expect([attention.q.weight, attention.v.bias]).toEqual([`${module}.weight[q]`, `${module}.bias[v]`]);
    expect(attention.q).toMatchObject({ out: 12, in: 12 });
  });

  it('Phi-3: all rows of q, then of k, then of v; gate, then up', () => {
    const { attention, feedForward } = layer('phi3', { head_dim: 8 });
    expect(attention.q.stored).toEqual({ rows: [[0, 32]], of: 64 });
    expect(attention.k.stored).toEqual({ rows: [[32, 16]], of: 64 });
    expect(attention.v.stored).toEqual({ rows: [[48, 16]], of: 64 });
    expect(feedForward.gate!.stored).toEqual({ rows: [[0, 40]], of: 80 });
    expect(feedForward.up.stored).toEqual({ rows: [[40, 40]], of: 80 });
    expect(attention.q.weight).toBe('model.layers.0.self_attn.qkv_proj.weight[q]');
    expect(feedForward.up.weight).toBe('model.layers.0.mlp.gate_up_proj.weight[up]');
    expect(attention.out.stored).toBeUndefined();
  });

  it('norms of queries and keys: by head in Qwen 3 and Gemma 3, over all heads in OLMo 2', () => {
    const norm = (kind: string, part: string, size: number) => ({
      kind,
      weight: `model.layers.0.self_attn.${part}_norm.weight`,
      size,
      eps: 1e-3,
      hook: `attn.${part}_norm.hook_normalized`,
    });
    const eps = { rms_norm_eps: 1e-3 };
    expect(layer('qwen3', eps).attention.norms).toEqual({ q: norm('rms', 'q', 8), k: norm('rms', 'k', 8) });
    expect(layer('gemma3_text', eps).attention.norms).toEqual({
      q: norm('rms1', 'q', 8),
      k: norm('rms1', 'k', 8),
    });
    expect(layer('olmo2', eps).attention.norms).toEqual({ q: norm('rms', 'q', 24), k: norm('rms', 'k', 12) });
    for (const name of ['llama', 'qwen2', 'gemma2', 'gpt2'] as const)
      expect(layer(name).attention.norms).toBeUndefined();
  });

  it("every norm of Gemma's counts from 1, and begins at 0", () => {
    for (const name of ['gemma2', 'gemma3_text'] as const) {
      const norms = parametersOf(of(name)).filter(({ kind }) => kind === 'norm');
      expect(norms).toHaveLength(name === 'gemma2' ? 5 : 7);
      expect(new Set(norms.map(({ initial }) => initial))).toEqual(new Set([0]));
    }
    const norms = parametersOf(of('llama')).filter(({ kind }) => kind === 'norm');
    expect(norms.map(({ initial }) => initial)).toEqual([1, 1, 1]);
  });

  it('norms stand before the halves, in OLMo 2 after them, in Gemma both', () => {
    const places = (name: Causal) =>
      Object.values(layer(name).norms).map((half) =>
        Object.entries(half).map(([place, norm]) => [place, norm!.weight.split('.').at(-2), norm!.hook]),
      );
    const hook = (name: string) => `${name}.hook_normalized`;
    expect(places('llama')).toEqual([
      [['before', 'input_layernorm', hook('ln1')]],
      [['before', 'post_attention_layernorm', hook('ln2')]],
    ]);
    expect(places('olmo2')).toEqual([
      [['after', 'post_attention_layernorm', hook('ln1')]],
      [['after', 'post_feedforward_layernorm', hook('ln2')]],
    ]);
    expect(places('gemma2')).toEqual([
      [
        ['before', 'input_layernorm', hook('ln1')],
        ['after', 'post_attention_layernorm', hook('ln1_post')],
      ],
      [
        ['before', 'pre_feedforward_layernorm', hook('ln2')],
        ['after', 'post_feedforward_layernorm', hook('ln2_post')],
      ],
    ]);
    expect(places('gpt_neox')).toEqual(places('llama'));
    expect(layer('gpt_neox').parallel).toBe(true);
    expect(layer('gpt_neox', { use_parallel_residual: false }).parallel).toBe(false);
  });

  it('decoders are tied by the class’s default, or the field', () => {
    const tied = ['gemma2', 'gemma3_text', 'gpt2'];
    for (const name of CAUSAL) {
      const { embedding, head } = of(name);
      expect(head.decoder.weight, name).toBe(tied.includes(name) ? embedding.word : 'lm_head.weight');
      expect(of(name, { tie_word_embeddings: true }).head.decoder.weight).toBe(embedding.word);
      expect(of(name, { tie_word_embeddings: false }).head.decoder.weight).toBe('lm_head.weight');
      expect(head.decoder.bias).toBeUndefined();
    }
  });

  it('key/value heads, epsilons and positions are the class’s where they are absent', () => {
    const { num_key_value_heads: _, ...absent } = { ...sizes, num_attention_heads: 8, head_dim: 8 };
    const keyHeads = (name: Causal, json: Json = {}) =>
      describeAs(name, { ...absent, ...json }).sizes.keyValueHeads;
    expect([keyHeads('llama'), keyHeads('olmo2'), keyHeads('phi3')]).toEqual([8, 8, 8]);
    expect([keyHeads('mistral'), keyHeads('gemma2'), keyHeads('gemma3_text')]).toEqual([8, 4, 4]);
    const many = { num_attention_heads: 64, hidden_size: 128 };
    expect([keyHeads('qwen2', many), keyHeads('qwen3', many)]).toEqual([32, 32]);
    // Null is as many as heads.
    const none = { ...many, num_key_value_heads: null };
    expect([keyHeads('qwen2', none), keyHeads('mistral', none)]).toEqual([64, 64]);
    const classes = CAUSAL.map((name) => {
      const { n_positions: _, ...json } = SMALLEST[name] as Json;
      const { sizes, head } = describeAs(name, json);
      return [name, sizes.positions, head.norm!.eps];
    });
    expect(classes).toEqual([
      ['gemma2', 8192, 1e-6],
      ['gemma3_text', 131072, 1e-6],
      ['gpt2', 1024, 1e-5],
      ['gpt_neox', 2048, 1e-5],
      ['llama', 2048, 1e-6],
      ['mistral', 131072, 1e-6],
      ['olmo2', 2048, 1e-5],
      ['phi3', 4096, 1e-5],
      ['qwen2', 32768, 1e-6],
      ['qwen3', 32768, 1e-6],
    ]);
  });

  it('activations go by any of their names', () => {
    const activation = (name: Causal, json: Json = {}) => layer(name, json).feedForward.activation;
    expect(activation('llama', { hidden_act: 'swish' })).toBe(activation('llama'));
    expect(activation('gpt_neox', { hidden_act: 'gelu_python' })).toBe('gelu');
    expect(activation('gpt2')).toBe('gelu_tanh');
    expect(activation('gpt2', { activation_function: 'gelu_pytorch_tanh' })).toBe('gelu_tanh');
    // hidden_act is of old files and is not read.
    for (const name of ['gemma2', 'gemma3_text'] as const) {
      expect(activation(name, { hidden_act: 'relu' })).toBe('gelu_tanh');
      expect(activation(name, { hidden_activation: 'gelu' })).toBe('gelu');
    }
  });
});

describe('hooks', () => {
  const QKV = ['attn.hook_q', 'attn.hook_k', 'attn.hook_v'];
  const ROTATED = ['attn.hook_q', 'attn.hook_rot_q', 'attn.hook_k', 'attn.hook_rot_k', 'attn.hook_v'];
  const NORMED = ['q', 'k'].flatMap((part) => [
    `attn.hook_${part}`,
    `attn.${part}_norm.hook_normalized`,
    `attn.hook_rot_${part}`,
  ]);
  const MIXED = ['attn.hook_pattern', 'attn.hook_z'];
  const GATED = ['mlp.hook_pre', 'mlp.hook_pre_linear', 'mlp.hook_act', 'mlp.hook_post'];
  const PLAIN = ['mlp.hook_pre', 'mlp.hook_post'];
  const norm = (name: string) => `${name}.hook_normalized`;
  const preNormed = (qkv: string[], feedForward: string[], middle: string[] = ['hook_resid_mid']) => [
    'hook_resid_pre',
    norm('ln1'),
    ...qkv,
    ...MIXED,
    'hook_attn_out',
    ...middle,
    norm('ln2'),
    ...feedForward,
    'hook_mlp_out',
    'hook_resid_post',
  ];
  const gemma = (qkv: string[]) => [
    'hook_resid_pre',
    norm('ln1'),
    ...qkv,
    ...MIXED,
    'hook_attn_raw',
    norm('ln1_post'),
    'hook_attn_out',
    'hook_resid_mid',
    norm('ln2'),
    ...GATED,
    'hook_mlp_raw',
    norm('ln2_post'),
    'hook_mlp_out',
    'hook_resid_post',
  ];
  const EXPECTED: Readonly<Record<Causal, readonly string[]>> = {
    gemma2: gemma(ROTATED),
    gemma3_text: gemma([...NORMED, 'attn.hook_v']),
    gpt2: preNormed(QKV, PLAIN),
    gpt_neox: preNormed(ROTATED, PLAIN, []),
    llama: preNormed(ROTATED, GATED),
    mistral: preNormed(ROTATED, GATED),
    olmo2: [
      'hook_resid_pre',
      ...NORMED,
      'attn.hook_v',
      ...MIXED,
      'hook_attn_out',
      norm('ln1'),
      'hook_resid_mid',
      ...GATED,
      'hook_mlp_out',
      norm('ln2'),
      'hook_resid_post',
    ],
    phi3: preNormed(ROTATED, GATED),
    qwen2: preNormed(ROTATED, GATED),
    qwen3: preNormed([...NORMED, 'attn.hook_v'], GATED),
  };
  const two = (name: Causal) => of(name, name === 'gpt2' ? { n_layer: 2 } : layers(2));

  it.each(CAUSAL)('%s: names in forward order, each once', (name) => {
    const { names } = hooksOf(two(name));
    expect(names).toEqual([
      'hook_embed',
      ...(name === 'gpt2' ? ['hook_pos_embed'] : []),
      ...[0, 1].flatMap((i) => EXPECTED[name].map((hook) => `blocks.${i}.${hook}`)),
      'ln_final.hook_normalized',
    ]);
    expect(new Set(names).size).toBe(names.length);
  });

  it('a feed-forward that is not parallel has a middle of the residual', () => {
    const { names } = hooksOf(of('gpt_neox', { use_parallel_residual: false }));
    expect(names.slice(1, -1)).toEqual(preNormed(ROTATED, PLAIN).map((hook) => `blocks.0.${hook}`));
  });

  it.each(CAUSAL)('%s: widths', (name) => {
    const description = of(name);
    const { hidden, width, heads, keyValueHeads, headSize } = description.sizes;
    for (const { name: hook, width: found } of hooksOf(description).points.values()) {
      const [, part] = /attn\.(?:hook_(?:rot_)?)?([qkvz])(?:_norm\.hook_normalized)?$/.exec(hook) ?? [];
      const expected = /mlp\.hook_/.test(hook)
        ? width
        : /pattern/.test(hook)
          ? heads
          : part
            ? headSize * (part === 'q' || part === 'z' ? heads : keyValueHeads)
            : hidden;
      expect([hook, found]).toEqual([hook, expected]);
    }
  });

  /** Hugging Face modules of layer 0 -> hook. */
  const modules = (name: Causal): Map<string, string> =>
    new Map(
      [...hooksOf(of(name)).aliases].map(([module, hook]) => [
        module.replace(/^.*\.0\.?/, ''),
        hook.replace('blocks.0.', ''),
      ]),
    );

  it.each(CAUSAL)('%s: its modules', (name) => {
    const aliases = modules(name);
    const raw = name.startsWith('gemma') ? 'raw' : 'out';
    const attention = { gpt2: 'attn', gpt_neox: 'attention' }[name as string] ?? 'self_attn';
    expect(aliases.get('')).toBe('hook_resid_post');
    expect(aliases.get(attention)).toBe(`hook_attn_${raw}`);
    expect(aliases.get('mlp')).toBe(`hook_mlp_${raw}`);
    const names = new Set(hooksOf(of(name)).names);
    for (const hook of hooksOf(of(name)).aliases.values()) expect(names).toContain(hook);
  });

  it('maps and norms have their modules, parts of one have none', () => {
    expect(Object.fromEntries(modules('gemma3_text'))).toEqual({
      'model.embed_tokens': 'hook_embed',
      'model.norm': norm('ln_final'),
      input_layernorm: norm('ln1'),
      'self_attn.q_proj': 'attn.hook_q',
      'self_attn.q_norm': norm('attn.q_norm'),
      'self_attn.k_proj': 'attn.hook_k',
      'self_attn.k_norm': norm('attn.k_norm'),
      'self_attn.v_proj': 'attn.hook_v',
      'self_attn.o_proj': 'hook_attn_raw',
      post_attention_layernorm: norm('ln1_post'),
      pre_feedforward_layernorm: norm('ln2'),
      'mlp.gate_proj': 'mlp.hook_pre',
      'mlp.up_proj': 'mlp.hook_pre_linear',
      'mlp.down_proj': 'hook_mlp_raw',
      post_feedforward_layernorm: norm('ln2_post'),
      self_attn: 'hook_attn_raw',
      'mlp.act_fn': 'mlp.hook_act',
      mlp: 'hook_mlp_raw',
      '': 'hook_resid_post',
    });
    expect(Object.fromEntries(modules('gpt2'))).toEqual({
      'transformer.wte': 'hook_embed',
      'transformer.wpe': 'hook_pos_embed',
      'transformer.ln_f': norm('ln_final'),
      ln_1: norm('ln1'),
      'attn.c_proj': 'hook_attn_out',
      ln_2: norm('ln2'),
      'mlp.c_fc': 'mlp.hook_pre',
      'mlp.c_proj': 'hook_mlp_out',
      attn: 'hook_attn_out',
      'mlp.act': 'mlp.hook_post',
      mlp: 'hook_mlp_out',
      '': 'hook_resid_post',
    });
    expect(Object.fromEntries(modules('phi3'))).toEqual({
      'model.embed_tokens': 'hook_embed',
      'model.norm': norm('ln_final'),
      input_layernorm: norm('ln1'),
      'self_attn.o_proj': 'hook_attn_out',
      post_attention_layernorm: norm('ln2'),
      'mlp.down_proj': 'hook_mlp_out',
      self_attn: 'hook_attn_out',
      'mlp.activation_fn': 'mlp.hook_act',
      mlp: 'hook_mlp_out',
      '': 'hook_resid_post',
    });
  });
});

describe('names in checkpoints', () => {
  const matched = (name: Causal, json: Json, rename: (name: string) => string, extra: Json = {}) => {
    const description = of(name, json);
    const entries = [
      ...joined(parametersOf(description)),
      ...(Object.entries(extra) as [string, number[]][]),
    ];
    const tensors = new Map(
      entries.map(([tensor, shape]) => {
        const stored = rename(tensor);
        return [stored, { name: stored, dtype: 'F32' as const, shape, begin: 0, end: 0, shard: 'x' }];
      }),
    );
    const config = { family: FAMILIES[name], description };
    return matchTensors({ name: 'x', tensors, unindexed: [] }, config, { strict: true }).size;
  };
  const all = (name: Causal, json: Json = {}) => parametersOf(of(name, json)).length;
  const same = (name: string) => name;

  it('bare models lack the prefix', () => {
    const prefixes = { gpt2: 'transformer.', gpt_neox: 'gpt_neox.', llama: 'model.' } as const;
    for (const [name, prefix] of Object.entries(prefixes) as [Causal, string][])
      expect(matched(name, {}, (tensor) => tensor.replace(prefix, ''))).toBe(all(name));
  });

  it('what old writers stored besides is left out', () => {
    const masks = { 'h.0.attn.bias': [1, 1, 16, 16], 'h.0.attn.masked_bias': [] };
    expect(matched('gpt2', {}, (name) => name.replace('transformer.', ''), masks)).toBe(all('gpt2'));
    const neox = {
      'gpt_neox.layers.0.attention.bias': [1, 1, 16, 16],
      'gpt_neox.layers.0.attention.masked_bias': [],
      'gpt_neox.layers.0.attention.rotary_emb.inv_freq': [2],
    };
    expect(matched('gpt_neox', {}, same, neox)).toBe(all('gpt_neox'));
    const llama = {
      'model.layers.0.self_attn.rotary_emb.inv_freq': [3],
      'model.rotary_emb.inv_freq': [3],
    };
    expect(matched('llama', {}, same, llama)).toBe(all('llama'));
    // But not what only resembles them.
    expect(() => matched('gpt2', {}, same, { 'transformer.h.0.attn.extra.bias': [3] })).toThrow(
      /attn\.extra/,
    );
  });

  it('copies of tied embeddings are left out, and read where they stand alone', () => {
    const tied = { tie_word_embeddings: true };
    for (const name of CAUSAL) {
      const { embedding } = of(name, tied);
      const copy = { 'lm_head.weight': [50, name === 'gpt_neox' ? 64 : 24] };
      expect(matched(name, tied, same, copy), name).toBe(all(name, tied));
      const alone = (tensor: string) => (tensor === embedding.word ? 'lm_head.weight' : tensor);
      expect(matched(name, tied, alone), name).toBe(all(name, tied));
    }
  });

  it('GPT-NeoX: embed_out is lm_head', () => {
    expect(matched('gpt_neox', {}, (name) => name.replace('lm_head', 'embed_out'))).toBe(all('gpt_neox'));
    const tied = { tie_word_embeddings: true };
    expect(matched('gpt_neox', tied, same, { 'embed_out.weight': [50, 64] })).toBe(all('gpt_neox', tied));
  });
});

describe('what is not computed is refused by name', () => {
  const scaled = (type: string, more: Json = {}) => ({
    rope_scaling: { rope_type: type, factor: 2, ...more },
  });
  const llamaLike = CAUSAL.filter((name) => name !== 'gpt2' && name !== 'gpt_neox');
  const rotated = CAUSAL.filter((name) => name !== 'gpt2');

  it.each(rotated)('%s: scalings of other kinds', (name) => {
    for (const type of ['dynamic', 'yarn', 'longrope', 'su', 'proportional'])
      expect(refusal(name, scaled(type))).toBe(
        `config.json: rope_scaling.rope_type must be default, linear or llama3; other scalings are not supported, not "${type}"`,
      );
    expect(refusal(name, { rope_scaling: { type: 'dynamic', factor: 2 } })).toMatch(
      /^config\.json: rope_scaling\.type must be default, linear or llama3/,
    );
    expect(refusal(name, scaled('linear', { beta_fast: 32 }))).toBe(
      'config.json: rope_scaling.beta_fast must be left out (not supported), not 32',
    );
    expect(refusal(name, scaled('llama3'))).toBe(
      'config.json: RoPE scaling llama3 needs low_freq_factor, which is missing',
    );
    expect(refusal(name, { rope_scaling: { rope_type: 'linear' } })).toBe(
      'config.json: RoPE scaling linear needs factor, which is missing',
    );
    expect(refusal(name, { rope_scaling: { factor: 2 } })).toBe(
      'config.json: RoPE scaling has a factor 2 and no rope_type; write linear or llama3',
    );
    expect(refusal(name, { rope_scaling: { type: 'linear', rope_type: 'llama3', factor: 2 } })).toMatch(
      /rope_scaling\.rope_type 'llama3' and rope_scaling\.type 'linear' differ/,
    );
  });

  it('rope by kinds of layers where there is one, and one where there are two', () => {
    const nested = { rope_parameters: { full_attention: { rope_theta: 9 } } };
    for (const name of rotated)
      if (name !== 'gemma3_text')
        expect(refusal(name, nested)).toMatch(/rope_parameters\.full_attention must be left out/);
    expect(refusal('gemma3_text', { rope_parameters: { rope_theta: 9 } })).toBe(
      'config.json: rope_parameters.rope_theta must be left out (not supported), not 9',
    );
    const yarn = { rope_parameters: { sliding_attention: { rope_type: 'yarn' } } };
    expect(refusal('gemma3_text', yarn)).toMatch(
      /^config\.json: rope_parameters\.sliding_attention\.rope_type must be/,
    );
  });

  it('fields that say the same thing in two ways', () => {
    const two = { rope_theta: 5, rope_parameters: { rope_theta: 7 } };
    for (const name of llamaLike)
      if (name !== 'gemma3_text')
        expect(refusal(name, two)).toBe(
          'config.json: rope_theta 5 and rope_parameters.rope_theta 7 differ; leave one of them out',
        );
    expect(refusal('gpt_neox', { rotary_pct: 0.5, rope_parameters: { partial_rotary_factor: 1 } })).toMatch(
      /rotary_pct 0\.5 and rope_parameters\.partial_rotary_factor 1 differ/,
    );
    const scalings = { ...scaled('linear'), rope_parameters: { rope_type: 'linear', factor: 4 } };
    expect(refusal('llama', scalings)).toMatch(/rope_scaling\.factor 2 and rope_parameters\.factor 4 differ/);
    const trained = { original_max_position_embeddings: 64 };
    const llama3 = { low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 32 };
    expect(refusal('llama', { ...trained, ...scaled('llama3', llama3) })).toMatch(
      /original_max_position_embeddings 64 and rope_scaling\.original_max_position_embeddings 32 differ/,
    );
  });

  it('a part of a head where heads are rotated whole, and parts that are odd', () => {
    for (const name of llamaLike)
      if (name !== 'phi3') {
        expect(refusal(name, { partial_rotary_factor: 0.5 })).toBe(
          'config.json: partial_rotary_factor must be 1, not 0.5',
        );
        expect(refusal(name, { rope_scaling: { partial_rotary_factor: 0.5 } })).toBe(
          'config.json: partial_rotary_factor must be 1, not 0.5',
        );
        expect(of(name, { partial_rotary_factor: 1 }).causal).toBe(true);
      }
    expect(refusal('gpt_neox', { hidden_size: 48 })).toMatch(/the rotated part 3 of a head of 12 is odd/);
    expect(refusal('phi3', { head_dim: 8, partial_rotary_factor: 0.1 })).toMatch(
      /part 0 of a head of 8 is empty/,
    );
    expect(refusal('llama', { head_dim: 7 })).toMatch(/the head size 7 is odd/);
  });

  it('attention to later tokens, experts, cross-attention, heads cut out', () => {
    for (const name of CAUSAL) {
      expect(refusal(name, { is_causal: false })).toBe(
        'config.json: is_causal must be true; attention to later tokens is not supported, not false',
      );
      for (const field of ['num_experts', 'num_local_experts'])
        expect(refusal(name, { [field]: 8 })).toBe(
          `config.json: ${field} must be left out (mixtures of experts are not supported), not 8`,
        );
      expect(of(name, { is_causal: true, num_experts: null }).causal).toBe(true);
    }
    for (const name of ['gemma2', 'gemma3_text'] as const)
      expect(refusal(name, { use_bidirectional_attention: true })).toBe(
        'config.json: use_bidirectional_attention must be false; true is not supported, not true',
      );
    expect(refusal('gpt2', { add_cross_attention: true })).toBe(
      'config.json: add_cross_attention must be false; true is not supported, not true',
    );
    expect(refusal('gpt2', { pruned_heads: { 0: [1] } })).toMatch(
      /^config\.json: pruned_heads\S* must be empty \(pruned heads are not supported\)/,
    );
    expect(of('gpt2', { pruned_heads: {} }).causal).toBe(true);
  });

  it('other activations', () => {
    const field = (name: Causal) =>
      name === 'gpt2' ? 'activation_function' : /gemma/.test(name) ? 'hidden_activation' : 'hidden_act';
    for (const name of CAUSAL)
      for (const other of ['relu', 'quick_gelu', 'gelu_10', 'relu2'])
        expect(refusal(name, { [field(name)]: other })).toMatch(
          new RegExp(`^config\\.json: ${field(name)} must be gelu, .*silu.*, not "${other}"$`),
        );
  });

  it('kinds of layers that are none, too few, or do not fit', () => {
    for (const name of ['qwen2', 'qwen3', 'gemma2', 'gemma3_text'] as const) {
      expect(refusal(name, { layer_types: ['chunked_attention'] })).toBe(
        'config.json: layer_types.0 must be full_attention or sliding_attention, not "chunked_attention"',
      );
      expect(refusal(name, { layer_types: [] })).toBe('config.json: layer_types names 0 layers of 1');
      expect(refusal(name, { layer_types: ['sliding_attention'], sliding_window: null })).toBe(
        'config.json: layer_types asks for sliding_attention without a sliding_window',
      );
    }
    expect(refusal('qwen2', { layer_types: ['sliding_attention'], sliding_window: 4 })).toMatch(
      /without a sliding_window/,
    );
    for (const name of ['llama', 'mistral', 'phi3', 'olmo2'] as const) {
      const mixed = { ...layers(2), layer_types: ['full_attention', 'sliding_attention'] };
      expect(refusal(name, mixed)).toMatch(/layer_types must name one kind/);
      expect(of(name, { layer_types: ['full_attention'] }).causal).toBe(true);
    }
  });

  it('numbers that are none', () => {
    expect(refusal('mistral', { sliding_window: 0 })).toMatch(/sliding_window must be a whole number from 1/);
    expect(refusal('gemma2', { attn_logit_softcapping: 0 })).toMatch(
      /attn_logit_softcapping must be above 0/,
    );
    expect(refusal('gemma2', { query_pre_attn_scalar: -1 })).toMatch(/query_pre_attn_scalar must be above 0/);
    expect(refusal('gemma2', { head_dim: null })).toMatch(/head_dim must be a whole number/);
    expect(refusal('qwen3', { head_dim: null })).toMatch(/head_dim must be a whole number/);
    expect(refusal('qwen2', { max_window_layers: -1 })).toMatch(/max_window_layers must not be negative/);
    expect(refusal('gpt2', { n_head: 5 })).toBe('config.json: n_embd 24 is not divisible by n_head 5');
    expect(refusal('gpt_neox', { num_attention_heads: 5 })).toBe(
      'config.json: hidden_size 64 is not divisible by num_attention_heads 5',
    );
    expect(refusal('llama', { num_key_value_heads: 3 })).toBe(
      'config.json: num_attention_heads 4 is not divisible by num_key_value_heads 3',
    );
    expect(refusal('gpt2', { n_layer: undefined })).toBe('config.json: n_layer is missing');
  });
});
