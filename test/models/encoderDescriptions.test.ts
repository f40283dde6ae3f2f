/**
 * What config.json of BERT's relatives and of ModernBERT becomes: tensors, positions, windows and angles by layer, hook points, and
 * what is refused. Values are in naive.test.ts.
 */

import { describe, expect, it } from 'vitest';
import type { LayerSpec, LinearSpec, NormSpec } from '../../models/block.ts';
import { adoptNames } from '../../models/checkpoint.ts';
import { parseConfig } from '../../models/config.ts';
import { type Description, hooksOf, parametersOf } from '../../models/description.ts';
import { FAMILIES } from '../../models/families/index.ts';
import { resolveHook } from '../../models/hooks.ts';
import { storedTensors } from '../../models/stored.ts';

type Json = Readonly<Record<string, unknown>>;
const describeJson = (json: Json): Description => parseConfig(json).description;

const roberta = {
  model_type: 'roberta',
  vocab_size: 101,
  hidden_size: 36,
  num_hidden_layers: 2,
  num_attention_heads: 3,
  intermediate_size: 50,
  max_position_embeddings: 20,
  type_vocab_size: 1,
  layer_norm_eps: 1e-5,
  pad_token_id: 1,
};
const distilbert = {
  model_type: 'distilbert',
  vocab_size: 101,
  dim: 36,
  n_layers: 2,
  n_heads: 3,
  hidden_dim: 50,
  max_position_embeddings: 24,
};
const modernbert = {
  model_type: 'modernbert',
  vocab_size: 89,
  hidden_size: 32,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  intermediate_size: 44,
  max_position_embeddings: 64,
  local_attention: 4,
  global_attn_every_n_layers: 3,
  global_rope_theta: 160000,
  local_rope_theta: 10000,
};
const v5 = {
  ...modernbert,
  num_hidden_layers: 3,
  local_attention: 5,
  layer_types: ['sliding_attention', 'full_attention', 'sliding_attention'],
  global_rope_theta: undefined,
  local_rope_theta: undefined,
  rope_parameters: {
    full_attention: { rope_theta: 5000, rope_type: 'default' },
    sliding_attention: { rope_theta: 300, rope_type: 'default' },
  },
};
const bert = { ...roberta, model_type: 'bert', pad_token_id: 0, type_vocab_size: 2 };

/** Shapes by name, of modules with `weight` and, but for tables, `bias`. */
const both = (module: string, ...shape: number[]): [string, string][] => [
  [`${module}.weight`, `${shape}`],
  [`${module}.bias`, `${shape[0]}`],
];
const layersOf = (list: string, count: number, modules: (at: string, i: number) => [string, string][]) =>
  Array.from({ length: count }, (_, i) => modules(`${list}.${i}`, i)).flat();

function robertaTensors(H: number, I: number, V: number, P: number, types: number): [string, string][] {
  const at = 'roberta.embeddings';
  return [
    [`${at}.word_embeddings.weight`, `${V},${H}`],
    [`${at}.position_embeddings.weight`, `${P},${H}`],
    [`${at}.token_type_embeddings.weight`, `${types},${H}`],
    ...both(`${at}.LayerNorm`, H),
    ...layersOf('roberta.encoder.layer', 2, (at) => [
      ...both(`${at}.attention.self.query`, H, H),
      ...both(`${at}.attention.self.key`, H, H),
      ...both(`${at}.attention.self.value`, H, H),
      ...both(`${at}.attention.output.dense`, H, H),
      ...both(`${at}.attention.output.LayerNorm`, H),
      ...both(`${at}.intermediate.dense`, I, H),
      ...both(`${at}.output.dense`, H, I),
      ...both(`${at}.output.LayerNorm`, H),
    ]),
    ...both('lm_head.dense', H, H),
    ...both('lm_head.layer_norm', H),
    ['lm_head.bias', `${V}`],
  ];
}

function distilbertTensors(H: number, I: number, V: number, P: number, layers: number): [string, string][] {
  const at = 'distilbert.embeddings';
  return [
    [`${at}.word_embeddings.weight`, `${V},${H}`],
    [`${at}.position_embeddings.weight`, `${P},${H}`],
    ...both(`${at}.LayerNorm`, H),
    ...layersOf('distilbert.transformer.layer', layers, (at) => [
      ...['q', 'k', 'v', 'out'].flatMap((part) => both(`${at}.attention.${part}_lin`, H, H)),
      ...both(`${at}.sa_layer_norm`, H),
      ...both(`${at}.ffn.lin1`, I, H),
      ...both(`${at}.ffn.lin2`, H, I),
      ...both(`${at}.output_layer_norm`, H),
    ]),
    ...both('vocab_transform', H, H),
    ...both('vocab_layer_norm', H),
    ['vocab_projector.bias', `${V}`],
  ];
}

/** With all biases but the decoder's, or with that alone. */
function modernbertTensors(H: number, I: number, V: number, layers: number, biases: boolean) {
  const own = (module: string, ...shape: number[]) => both(module, ...shape).slice(0, biases ? 2 : 1);
  return [
    ['model.embeddings.tok_embeddings.weight', `${V},${H}`],
    ...own('model.embeddings.norm', H),
    ...layersOf('model.layers', layers, (at, i) => [
      ...(i === 0 ? [] : own(`${at}.attn_norm`, H)),
      ...own(`${at}.attn.Wqkv`, 3 * H, H),
      ...own(`${at}.attn.Wo`, H, H),
      ...own(`${at}.mlp_norm`, H),
      ...own(`${at}.mlp.Wi`, 2 * I, H),
      ...own(`${at}.mlp.Wo`, H, I),
    ]),
    ...own('model.final_norm', H),
    ...own('head.dense', H, H),
    ...own('head.norm', H),
    ...(biases ? [] : [['decoder.bias', `${V}`]]),
  ];
}

describe('parameters, parts joined', () => {
  it.each<[string, Json, string[][]]>([
    ['roberta', roberta, robertaTensors(36, 50, 101, 20, 1)],
    [
      'roberta, other sizes',
      {
        ...roberta,
        vocab_size: 87,
        hidden_size: 30,
        num_attention_heads: 5,
        intermediate_size: 44,
        pad_token_id: 3,
        type_vocab_size: 2,
      },
      robertaTensors(30, 44, 87, 20, 2),
    ],
    ['camembert', { ...roberta, model_type: 'camembert' }, robertaTensors(36, 50, 101, 20, 1)],
    ['xlm-roberta', { ...roberta, model_type: 'xlm-roberta' }, robertaTensors(36, 50, 101, 20, 1)],
    [
      'roberta, untied',
      { ...roberta, tie_word_embeddings: false },
      [...robertaTensors(36, 50, 101, 20, 1), ['lm_head.decoder.weight', '101,36']],
    ],
    ['distilbert', distilbert, distilbertTensors(36, 50, 101, 24, 2)],
    [
      'distilbert, other sizes',
      {
        ...distilbert,
        vocab_size: 87,
        dim: 30,
        n_heads: 5,
        n_layers: 3,
        hidden_dim: 44,
        sinusoidal_pos_embds: true,
      },
      distilbertTensors(30, 44, 87, 24, 3),
    ],
    [
      'distilbert, untied',
      { ...distilbert, tie_word_embeddings: false },
      [...distilbertTensors(36, 50, 101, 24, 2), ['vocab_projector.weight', '101,36']],
    ],
    ['modernbert', modernbert, modernbertTensors(32, 44, 89, 4, false)],
    [
      'modernbert, other biases',
      {
        ...v5,
        norm_bias: true,
        attention_bias: true,
        mlp_bias: true,
        classifier_bias: true,
        decoder_bias: false,
      },
      modernbertTensors(32, 44, 89, 3, true),
    ],
    [
      'modernbert, untied',
      { ...modernbert, tie_word_embeddings: false },
      [...modernbertTensors(32, 44, 89, 4, false), ['decoder.weight', '89,32']],
    ],
  ])('%s', (_, json, want) => {
    const stored = [...storedTensors(parametersOf(describeJson(json))).values()];
    expect(stored.map(({ name, shape }) => [name, `${shape}`]).sort()).toEqual([...want].sort());
  });

  it('names beside those: prefix left off, older norms, copies, and what nobody needs', () => {
    const expected = (json: Json) => {
      const { family, description } = parseConfig(json);
      return { names: family.checkpoint, stored: storedTensors(parametersOf(description)) };
    };
    const { names, stored } = expected(roberta);
    const adopted = adoptNames(
      ['embeddings.LayerNorm.gamma', 'roberta.encoder.layer.0.output.LayerNorm.beta', 'lm_head.decoder.bias'],
      names,
      stored,
    );
    expect([...adopted.values()]).toEqual([
      'roberta.embeddings.LayerNorm.weight',
      'roberta.encoder.layer.0.output.LayerNorm.bias',
      'lm_head.bias',
    ]);
    expect(names.copies).toEqual({
      'lm_head.decoder.weight': 'roberta.embeddings.word_embeddings.weight',
      'lm_head.decoder.bias': 'lm_head.bias',
    });
    for (const name of [
      'roberta.pooler.dense.bias',
      'pooler.dense.weight',
      'roberta.embeddings.position_ids',
    ])
      expect(
        names.needless!.some((pattern) => pattern.test(name)),
        name,
      ).toBe(true);
    for (const name of stored.keys())
      expect(names.needless!.some((pattern) => pattern.test(name))).toBe(false);
    expect(expected(distilbert).names.copies).toEqual({
      'vocab_projector.weight': 'distilbert.embeddings.word_embeddings.weight',
    });
    const modern = expected(modernbert);
    expect(modern.names.copies).toEqual({ 'decoder.weight': 'model.embeddings.tok_embeddings.weight' });
    expect([...adoptNames(['layers.0.attn.Wqkv.weight'], modern.names, modern.stored).values()]).toEqual([
      'model.layers.0.attn.Wqkv.weight',
    ]);
  });

  it('Wqkv is three blocks, Wi two, the first of which is activated', () => {
    const { attention, feedForward } = describeJson(v5).layers[0]!;
    const place = ({ weight, out, stored }: LinearSpec) => [weight, out, stored!.rows, stored!.of];
    const at = 'model.layers.0';
    expect([attention.q, attention.k, attention.v].map(place)).toEqual([
      [`${at}.attn.Wqkv.weight[q]`, 32, [[0, 32]], 96],
      [`${at}.attn.Wqkv.weight[k]`, 32, [[32, 32]], 96],
      [`${at}.attn.Wqkv.weight[v]`, 32, [[64, 32]], 96],
    ]);
    expect([feedForward.gate!, feedForward.up].map(place)).toEqual([
      [`${at}.mlp.Wi.weight[gate]`, 44, [[0, 44]], 88],
      [`${at}.mlp.Wi.weight[up]`, 44, [[44, 44]], 88],
    ]);
  });
});

const normsOf = ({ embedding, layers, head }: Description): NormSpec[] =>
  [
    embedding.norm,
    ...layers.flatMap(({ norms: { attention, feedForward } }) =>
      [attention, feedForward].flatMap(({ before, after, around }) => [before, after, around]),
    ),
    head.norm,
    head.transform?.norm,
  ].filter((norm) => norm !== undefined);

describe('roberta', () => {
  it('positions begin behind the id of the padding, whose row padding has', () => {
    const positions = (json: Json) => {
      const { sizes, embedding } = describeJson(json);
      const { weight: _, ...position } = embedding.position!;
      return { longest: sizes.positions, ...position };
    };
    expect(positions(roberta)).toEqual({ longest: 18, rows: 20, first: 2, padding: 1 });
    expect(positions({ ...roberta, pad_token_id: 3 })).toEqual({
      longest: 16,
      rows: 20,
      first: 4,
      padding: 3,
    });
    expect(positions({ ...roberta, pad_token_id: undefined })).toMatchObject({ first: 2, padding: 1 });
    expect(positions({ ...roberta, pad_token_id: 0 })).toEqual({
      longest: 19,
      rows: 20,
      first: 1,
      padding: 0,
    });
    expect(positions(bert)).toEqual({ longest: 20, rows: 20 });
  });

  it('the head has exact GELU, whatever the layers have; the head of BERT has what those have', () => {
    const activations = ({ layers, head }: Description) => [
      ...layers.map(({ feedForward }) => feedForward.activation),
      head.transform!.activation,
    ];
    const hidden_act = 'gelu_new';
    expect(activations(describeJson({ ...roberta, hidden_act }))).toEqual(['gelu_tanh', 'gelu_tanh', 'gelu']);
    expect(activations(describeJson({ ...bert, hidden_act: 'silu' }))).toEqual(['silu', 'silu', 'silu']);
    expect(activations(describeJson({ ...distilbert, activation: hidden_act }))).toEqual(
      Array(3).fill('gelu_tanh'),
    );
  });

  it('defaults of its class', () => {
    const { vocab_size, hidden_size, num_hidden_layers, num_attention_heads, intermediate_size } = roberta;
    const sizes = { vocab_size, hidden_size, num_hidden_layers, num_attention_heads, intermediate_size };
    const description = describeJson({ model_type: 'roberta', ...sizes });
    expect(description.embedding).toMatchObject({ position: { rows: 512, first: 2 }, type: { rows: 2 } });
    expect(new Set(normsOf(description).map(({ eps }) => eps))).toEqual(new Set([1e-12]));
  });
});

describe('distilbert', () => {
  it('other field names, the same under those of all models, defaults', () => {
    const { dim, n_layers, n_heads, ...rest } = distilbert;
    const same = { hidden_size: dim, num_hidden_layers: n_layers, num_attention_heads: n_heads };
    expect(describeJson({ ...rest, ...same })).toEqual(describeJson(distilbert));
    expect(describeJson({ model_type: 'distilbert', vocab_size: 9 }).sizes).toEqual({
      layers: 6,
      hidden: 768,
      width: 3072,
      heads: 12,
      keyValueHeads: 12,
      headSize: 64,
      vocabulary: 9,
      positions: 512,
    });
  });

  it('every epsilon is 1e-12, whatever a field says; no token types', () => {
    const description = describeJson({ ...distilbert, layer_norm_eps: 0.01 });
    expect(normsOf(description).map(({ eps }) => eps)).toEqual(Array(6).fill(1e-12));
    expect(description.embedding.type).toBeUndefined();
  });
});

describe('modernbert', () => {
  const kindsOf = ({ layers }: Description) =>
    layers.map(({ attention }) => (attention.window ? 'local' : 'global'));
  const rotary = ({ attention }: LayerSpec) => attention.rotary!;

  it('windows to both sides of half of local_attention, cut; which layers have them', () => {
    const older = describeJson(modernbert);
    expect(kindsOf(older)).toEqual(['global', 'local', 'local', 'global']);
    for (const local_attention of [4, 5])
      expect(describeJson({ ...modernbert, local_attention }).layers[1]!.attention.window).toEqual({
        before: 2,
        after: 2,
      });
    expect(describeJson({ ...modernbert, local_attention: undefined }).layers[1]!.attention.window).toEqual({
      before: 64,
      after: 64,
    });
    expect(describeJson({ ...modernbert, sliding_window: 2 })).toEqual(older);
    expect(kindsOf(describeJson({ ...modernbert, global_attn_every_n_layers: 1 }))).not.toContain('local');
    expect(kindsOf(describeJson({ ...modernbert, global_attn_every_n_layers: undefined }))).toEqual(
      kindsOf(older),
    );
    expect(kindsOf(describeJson({ ...modernbert, layer_types: null }))).toEqual(kindsOf(older));
    // The list counts, not the rule.
    expect(kindsOf(describeJson({ ...v5, global_attn_every_n_layers: 1 }))).toEqual([
      'local',
      'global',
      'local',
    ]);
  });

  it('angles of global and local layers, one array for each', () => {
    const { layers } = describeJson(modernbert);
    // theta^(-2i/8), theta 160000 and 10000
    expect([...rotary(layers[0]!)]).toEqual([1, 160000 ** -0.25, 160000 ** -0.5, 160000 ** -0.75]);
    expect([...rotary(layers[1]!)]).toEqual([1, 10000 ** -0.25, 10000 ** -0.5, 10000 ** -0.75]);
    expect(rotary(layers[1]!)[2]).toBe(0.01);
    expect(rotary(layers[3]!)).toBe(rotary(layers[0]!));
    expect(rotary(layers[2]!)).toBe(rotary(layers[1]!));
    const newer = describeJson(v5).layers;
    expect(newer.map((layer) => rotary(layer)[2])).toEqual([300 ** -0.5, 5000 ** -0.5, 300 ** -0.5]);
    const alike = describeJson({ ...modernbert, local_rope_theta: 160000 }).layers;
    expect(rotary(alike[1]!)).toBe(rotary(alike[0]!));
  });

  it('thetas that are absent, and null', () => {
    const second = (json: Json, layer: number) => rotary(describeJson(json).layers[layer]!)[2]!;
    const none = { ...modernbert, global_rope_theta: undefined, local_rope_theta: undefined };
    expect([0, 1].map((layer) => second(none, layer))).toEqual([160000 ** -0.5, 0.01]);
    expect(second({ ...none, rope_parameters: null, rope_scaling: null }, 1)).toBe(0.01);
    expect(second({ ...none, rope_parameters: { full_attention: { rope_theta: 100 } } }, 0)).toBe(0.1);
    expect(second({ ...none, rope_parameters: { full_attention: { rope_theta: 100 } } }, 1)).toBe(0.01);
    // transformers 4: no theta of their own, the global one.
    const shared = describeJson({ ...modernbert, local_rope_theta: null }).layers;
    expect(rotary(shared[1]!)).toBe(rotary(shared[0]!));
  });

  it('scalings of both kinds of layers, and of one', () => {
    const angles = (json: Json) => describeJson(json).layers.map((layer) => rotary(layer)[0]);
    expect(angles({ ...modernbert, rope_scaling: { type: 'linear', factor: 4 } })).toEqual(
      Array(4).fill(0.25),
    );
    const { full_attention, sliding_attention } = v5.rope_parameters;
    const rope_parameters = {
      full_attention: { ...full_attention, rope_type: 'linear', factor: 2 },
      sliding_attention,
    };
    expect(angles({ ...v5, rope_parameters })).toEqual([1, 0.5, 1]);
  });

  it('no norm before attention in layer 0; norms with bias where norm_bias says so', () => {
    const { layers, head } = describeJson(modernbert);
    expect(layers.map(({ norms }) => norms.attention.before?.weight)).toEqual([
      undefined,
      'model.layers.1.attn_norm.weight',
      'model.layers.2.attn_norm.weight',
      'model.layers.3.attn_norm.weight',
    ]);
    expect(head.norm!.weight).toBe('model.final_norm.weight');
    expect(head.transform!.norm.weight).toBe('head.norm.weight');
    for (const norm_bias of [true, false, null, undefined])
      for (const norm of normsOf(describeJson({ ...modernbert, norm_bias })))
        expect([norm.kind, norm.bias !== undefined, norm.eps]).toEqual(['layer', norm_bias === true, 1e-5]);
  });
});

describe('hook points', () => {
  const attention = (rotated = false) =>
    [
      ['attn.hook_q', 32],
      ...(rotated ? [['attn.hook_rot_q', 32]] : []),
      ['attn.hook_k', 32],
      ...(rotated ? [['attn.hook_rot_k', 32]] : []),
      ['attn.hook_v', 32],
      ['attn.hook_pattern', 4],
      ['attn.hook_z', 32],
      ['hook_attn_out', 32],
    ] as [string, number][];
  const around: [string, number][] = [
    ['hook_resid_pre', 32],
    ...attention(),
    ['hook_resid_mid', 32],
    ['ln1.hook_normalized', 32],
    ['mlp.hook_pre', 44],
    ['mlp.hook_post', 44],
    ['hook_mlp_out', 32],
    ['hook_resid_post', 32],
    ['hook_normalized_resid_post', 32],
  ];
  const gated = (norm: boolean): [string, number][] => [
    ['hook_resid_pre', 32],
    ...(norm ? ([['ln1.hook_normalized', 32]] as [string, number][]) : []),
    ...attention(true),
    ['hook_resid_mid', 32],
    ['ln2.hook_normalized', 32],
    ['mlp.hook_pre', 44],
    ['mlp.hook_pre_linear', 44],
    ['mlp.hook_act', 44],
    ['mlp.hook_post', 44],
    ['hook_mlp_out', 32],
    ['hook_resid_post', 32],
  ];
  const sizes = { hidden_size: 32, num_attention_heads: 4, intermediate_size: 44, num_hidden_layers: 2 };
  const ofLayers = (...layers: [string, number][][]) =>
    layers.flatMap((points, i) => points.map(([name, width]) => [`blocks.${i}.${name}`, width]));
  const cases: [string, Json, (string | number)[][], string[]][] = [
    [
      'roberta',
      { ...roberta, ...sizes },
      [
        ['hook_embed', 32],
        ['hook_token_type_embed', 32],
        ['hook_pos_embed', 32],
        ['hook_full_embed', 32],
        ...ofLayers(around, around),
        ['ln_final.hook_normalized', 32],
      ],
      ['token_type_embed', 'pos_embed'],
    ],
    [
      'distilbert',
      { ...distilbert, dim: 32, n_heads: 4, hidden_dim: 44 },
      [
        ['hook_embed', 32],
        ['hook_pos_embed', 32],
        ['hook_full_embed', 32],
        ...ofLayers(around, around),
        ['ln_final.hook_normalized', 32],
      ],
      ['pos_embed'],
    ],
    [
      'modernbert',
      { ...modernbert, ...sizes },
      [
        ['hook_embed', 32],
        ['hook_full_embed', 32],
        ...ofLayers(gated(false), gated(true)),
        ['encoder_final_ln.hook_normalized', 32],
        ['ln_final.hook_normalized', 32],
      ],
      [],
    ],
  ];

  it.each(cases)('%s: names in order, with widths', (_, json, want, tables) => {
    const table = hooksOf(describeJson(json));
    expect(table.names.map((name) => [name, table.points.get(name)!.width])).toEqual(want);
    expect(new Set(table.names).size).toBe(table.names.length);
    for (const [alias, hook] of table.aliases) {
      expect(table.points.has(hook), `${alias}: ${hook}`).toBe(true);
      expect(table.points.has(alias), alias).toBe(false);
    }
    // TransformerLens's names of what has another here.
    for (const part of ['embed', ...tables])
      expect(resolveHook(table, `embed.hook_${part}`)).toBe(`hook_${part}`);
    expect(resolveHook(table, 'embed.ln.hook_normalized')).toBe('hook_full_embed');
    expect(resolveHook(table, 'mlm_head.ln.hook_normalized')).toBe('ln_final.hook_normalized');
  });

  it('modules of Hugging Face', () => {
    const resolve = (json: Json, module: string) => resolveHook(hooksOf(describeJson(json)), module);
    const at = 'roberta.encoder.layer.1';
    expect(resolve(roberta, `${at}.attention.self`)).toBe('blocks.1.attn.hook_z');
    expect(resolve(roberta, `${at}.attention.self.query`)).toBe('blocks.1.attn.hook_q');
    expect(resolve(roberta, `${at}.intermediate`)).toBe('blocks.1.mlp.hook_post');
    expect(resolve(roberta, at)).toBe('blocks.1.hook_normalized_resid_post');
    expect(resolve(roberta, 'blocks.1.ln2.hook_normalized')).toBe('blocks.1.hook_normalized_resid_post');
    expect(resolve(roberta, 'lm_head.layer_norm')).toBe('ln_final.hook_normalized');
    expect(resolve(bert, 'cls.predictions.transform')).toBe('ln_final.hook_normalized');
    const of = 'distilbert.transformer.layer.0';
    expect(resolve(distilbert, `${of}.attention`)).toBe('blocks.0.hook_attn_out');
    expect(resolve(distilbert, `${of}.sa_layer_norm`)).toBe('blocks.0.ln1.hook_normalized');
    expect(resolve(distilbert, `${of}.ffn.lin1`)).toBe('blocks.0.mlp.hook_pre');
    expect(resolve(distilbert, `${of}.ffn`)).toBe('blocks.0.hook_mlp_out');
    expect(resolve(distilbert, of)).toBe('blocks.0.hook_normalized_resid_post');
    expect(resolve(modernbert, 'model.embeddings')).toBe('hook_full_embed');
    expect(resolve(modernbert, 'model.layers.1.attn')).toBe('blocks.1.hook_attn_out');
    expect(resolve(modernbert, 'model.layers.1.mlp.act')).toBe('blocks.1.mlp.hook_act');
    expect(resolve(modernbert, 'model.layers.1.mlp')).toBe('blocks.1.hook_mlp_out');
    expect(resolve(modernbert, 'model.layers.1')).toBe('blocks.1.hook_resid_post');
    expect(resolve(modernbert, 'model.final_norm')).toBe('encoder_final_ln.hook_normalized');
    expect(resolve(modernbert, 'head')).toBe('ln_final.hook_normalized');
  });
});

describe('refused by name', () => {
  it.each<[string, Json, RegExp]>([
    [
      'relative positions',
      { ...roberta, position_embedding_type: 'relative_key' },
      /: position_embedding_type must be absolute, not "relative_key"$/,
    ],
    [
      'no positions',
      { ...roberta, position_embedding_type: null },
      /: position_embedding_type must be absolute, not null$/,
    ],
    ['a decoder', { ...roberta, is_decoder: true }, /: is_decoder must be false; true is not supported/],
    ['cross attention', { ...roberta, add_cross_attention: true }, /: add_cross_attention must be false/],
    ['pruned heads', { ...roberta, pruned_heads: { 0: [1] } }, /: pruned_heads.* must be empty/],
    ['the same of BERT', { ...bert, pruned_heads: { 0: [1] } }, /: pruned_heads.* must be empty/],
    ['the same of DistilBERT', { ...distilbert, pruned_heads: { 1: [0] } }, /: pruned_heads.* must be empty/],
    ['another activation', { ...roberta, hidden_act: 'relu' }, /: hidden_act must be gelu, .*, not "relu"$/],
    ['another activation of DistilBERT', { ...distilbert, activation: 'relu' }, /: activation must be gelu/],
    [
      'another activation of ModernBERT',
      { ...modernbert, hidden_activation: 'quick_gelu' },
      /: hidden_activation must be/,
    ],
    [
      'another activation of its head',
      { ...modernbert, classifier_activation: 'tanh' },
      /: classifier_activation must be/,
    ],
    ['no padding', { ...roberta, pad_token_id: null }, /: pad_token_id must be a token id, not null$/],
    ['half a padding', { ...roberta, pad_token_id: 1.5 }, /: pad_token_id must be a token id, not 1.5$/],
    ['padding before all', { ...roberta, pad_token_id: -1 }, /: pad_token_id must be a token id, not -1$/],
    [
      'padding outside',
      { ...roberta, vocab_size: 10, pad_token_id: 10 },
      /: pad_token_id 10 is outside the vocabulary, 0\.\.9$/,
    ],
    [
      'padding at the end of the table',
      { ...roberta, pad_token_id: 19 },
      /: pad_token_id 19 leaves no positions of max_position_embeddings 20/,
    ],
    [
      'odd heads',
      { ...roberta, num_attention_heads: 5 },
      /: hidden_size 36 is not divisible by num_attention_heads 5$/,
    ],
    ['odd heads of DistilBERT', { ...distilbert, n_heads: 5 }, /: dim 36 is not divisible by n_heads 5$/],
    [
      'two sizes',
      { ...distilbert, hidden_size: 48 },
      /: dim 36 and hidden_size 48 differ; leave one of them out$/,
    ],
    [
      'perhaps tied',
      { ...distilbert, tie_word_embeddings: null },
      /: tie_word_embeddings must be true or false, not null$/,
    ],
    [
      'perhaps a bias',
      { ...modernbert, decoder_bias: null },
      /: decoder_bias must be true or false, not null$/,
    ],
    ['no epsilon', { ...roberta, layer_norm_eps: null }, /: layer_norm_eps must be a number, not null$/],
    [
      'no positions at all',
      { ...roberta, max_position_embeddings: null },
      /: max_position_embeddings must be a whole number/,
    ],
    [
      'no theta',
      { ...modernbert, global_rope_theta: null },
      /: global_rope_theta must be a number, not null$/,
    ],
    [
      'no rule',
      { ...modernbert, global_attn_every_n_layers: null },
      /: global_attn_every_n_layers must be a whole number/,
    ],
    ['no window', { ...modernbert, local_attention: -1 }, /: local_attention must be a whole number/],
    [
      'two windows',
      { ...modernbert, sliding_window: 3 },
      /: local_attention \/ 2 2 and sliding_window 3 differ/,
    ],
    [
      'another head size',
      { ...modernbert, head_dim: 16 },
      /: hidden_size \/ num_attention_heads 8 and head_dim 16 differ/,
    ],
    [
      'other layers',
      { ...modernbert, layer_types: ['full_attention'] },
      /: layer_types names 1 layers of 4$/,
    ],
    [
      'other kinds',
      { ...v5, layer_types: [...v5.layer_types.slice(1), 'chunked_attention'] },
      /: layer_types\.2 must be full_attention or sliding_attention, not "chunked_attention"$/,
    ],
    [
      'two thetas',
      { ...v5, local_rope_theta: 10000 },
      /: local_rope_theta 10000 and rope_parameters\.sliding_attention\.rope_theta 300 differ/,
    ],
    [
      'one theta for all',
      { ...v5, rope_parameters: { rope_theta: 5000 } },
      /: rope_parameters\.rope_theta must be left out/,
    ],
    [
      'another scaling',
      { ...modernbert, rope_scaling: { rope_type: 'yarn', factor: 2 } },
      /: rope_scaling\.rope_type must be default, linear or llama3/,
    ],
    [
      'a share of the head',
      { ...modernbert, partial_rotary_factor: 0.5 },
      /: partial_rotary_factor must be 1, not 0\.5$/,
    ],
    [
      'a share in one kind',
      { ...v5, rope_parameters: { sliding_attention: { partial_rotary_factor: 0.5 } } },
      /: partial_rotary_factor must be 1, not 0\.5$/,
    ],
    [
      'odd heads of ModernBERT',
      { ...modernbert, hidden_size: 36 },
      /: the head size 9 is odd; rotary positions turn pairs/,
    ],
  ])('%s', (_, json, message) => {
    expect(() => parseConfig(json)).toThrow(message);
  });

  it('not what changes nothing', () => {
    for (const [json, same] of [
      [
        roberta,
        {
          pruned_heads: {},
          is_decoder: null,
          position_embedding_type: 'absolute',
          use_cache: true,
          hidden_act: 'gelu_python',
        },
      ],
      [distilbert, { sinusoidal_pos_embds: true, pruned_heads: null, qa_dropout: 0.1, tie_weights_: true }],
      [
        modernbert,
        {
          position_embedding_type: 'relative',
          layer_norm_eps: 0.1,
          sparse_prediction: true,
          reference_compile: null,
          head_dim: 8,
          classifier_pooling: 'mean',
          partial_rotary_factor: 1,
          hidden_act: 'relu',
        },
      ],
    ] as const)
      expect(describeJson({ ...json, ...same })).toEqual(describeJson(json));
  });
});

/** Counted by transformers 5.24 on its own classes. */
it.each([
  ['bert-base-uncased', 'bert', 109514298],
  ['bert-large-uncased', 'bert', 335174458],
  ['bert-large-uncased-whole-word-masking', 'bert', 335174458],
  ['roberta-base', 'roberta', 124697433],
  ['roberta-large', 'roberta', 355412057],
  ['xlm-roberta-base', 'xlm-roberta', 278295186],
  ['camembert-base', 'camembert', 110655493],
  ['distilbert-base-uncased', 'distilbert', 66985530],
  ['modernbert-base', 'modernbert', 149655232],
  ['modernbert-large', 'modernbert', 395881664],
] as const)('%s has the published number of parameters', (preset, type, count) => {
  const json = { model_type: type, ...FAMILIES[type].presets[preset] };
  const sizes = parametersOf(describeJson(json)).map(({ shape }) => shape.reduce((a, b) => a * b, 1));
  expect(sizes.reduce((a, b) => a + b, 0)).toBe(count);
});
