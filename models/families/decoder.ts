/**
 * Decoders of Llama's kind (Touvron et al. 2023), which its relatives' are made of: RMS norm before each half of a layer, rotary
 * positions, grouped key/value heads, gated feed-forward, tied or separate decoder.
 */

import * as v from 'valibot';
import type { LayerSpec, NormSpec } from '../block.ts';
import type { Description } from '../description.ts';
import type { Metadata } from '../gguf/metadata.ts';
import type { ModelSizes } from '../model.ts';
import type { CheckpointNames } from './family.ts';
import {
  activation,
  alikeField,
  causalFields,
  commonFields,
  decoderSpec,
  divides,
  epsilon,
  headSizeField,
  headsField,
  layerModules,
  linearSpec,
  normSpec,
  positionsField,
  yesNo,
} from './fields.ts';
import { type RotaryOptions, ropeField, rotaryAngles, thetaField, wholeField } from './rope.ts';

/** Fields that all of them have, and what an absent one means. Key/value heads that are null are as many as heads. */
export const decoderFields = (absent: {
  readonly positions: number;
  readonly keyHeads?: number;
  readonly eps?: number;
}) => ({
  ...commonFields,
  ...causalFields,
  max_position_embeddings: v.nullish(positionsField, absent.positions),
  original_max_position_embeddings: v.nullish(positionsField),
  num_key_value_heads: v.optional(v.nullable(headsField), absent.keyHeads ?? null),
  head_dim: v.nullish(headSizeField),
  rms_norm_eps: epsilon(absent.eps ?? 1e-6),
  rope_theta: thetaField,
  partial_rotary_factor: wholeField,
  rope_scaling: ropeField,
  rope_parameters: ropeField,
  hidden_act: activation('silu'),
  tie_word_embeddings: yesNo(false),
  layer_types: alikeField,
});

type Fields = v.InferOutput<v.ObjectSchema<ReturnType<typeof decoderFields>, undefined>>;
/** The fields that a family has of {@link decoderFields}, and its biases, where it has such. */
export interface DecoderJson
  extends Omit<
    Fields,
    'rope_theta' | 'rope_scaling' | 'rope_parameters' | 'partial_rotary_factor' | 'layer_types'
  > {
  readonly attention_bias?: boolean;
  readonly mlp_bias?: boolean;
}

export const decoderCheckpoint: CheckpointNames = {
  prefix: 'model.',
  needless: [/\.rotary_emb\.inv_freq$/],
  copies: { 'lm_head.weight': 'model.embed_tokens.weight' },
};

/** {@link decoderFields} of a GGUF file. */
export const decoderGguf = (of: Metadata): Record<string, unknown> => ({
  ...of.sizes,
  num_key_value_heads: of.optional('attention.head_count_kv') ?? of.number('attention.head_count'),
  head_dim: of.headSize,
  rms_norm_eps: of.number('attention.layer_norm_rms_epsilon'),
  rope_theta: of.optional('rope.freq_base') ?? 10000,
  attention_bias: of.has('blk.0.attn_q.bias'),
});

/** The other modules of a layer. */
export const DECODER_MODULES = {
  self_attn: 'hook_attn_out',
  'mlp.act_fn': 'mlp.hook_act',
  mlp: 'hook_mlp_out',
  '': 'hook_resid_post',
};

/** Llama's description, its layers perhaps changed by a relative. */
export function describeDecoder(
  json: DecoderJson,
  name: string,
  rotary: Float64Array,
  relative: (layer: LayerSpec, number: number, sizes: ModelSizes) => LayerSpec = (layer) => layer,
): Description {
  const sizes = decoderSizes(json, name);
  const word = 'model.embed_tokens.weight';
  return {
    sizes,
    causal: true,
    embedding: { word },
    layers: Array.from({ length: sizes.layers }, (_, i) =>
      relative(decoderLayer(layerName(i), sizes, json, rotary), i, sizes),
    ),
    head: {
      norm: normSpec('rms', 'model.norm', sizes.hidden, json.rms_norm_eps, 'ln_final.hook_normalized'),
      decoder: decoderSpec(sizes.vocabulary, sizes.hidden, json.tie_word_embeddings && word),
    },
    modules: layerModules(sizes.layers, 'model.layers', DECODER_MODULES),
  };
}

export const layerName = (layer: number): string => `model.layers.${layer}`;

type SizesJson = Omit<DecoderJson, 'hidden_act'>;

function decoderSizes(json: SizesJson, name: string): ModelSizes {
  const { hidden_size: hidden, num_attention_heads: heads } = json;
  const keyValueHeads = json.num_key_value_heads ?? heads;
  if (json.head_dim == null) divides(name, 'hidden_size', hidden, 'num_attention_heads', heads);
  divides(name, 'num_attention_heads', heads, 'num_key_value_heads', keyValueHeads);
  return {
    layers: json.num_hidden_layers,
    hidden,
    width: json.intermediate_size,
    heads,
    keyValueHeads,
    headSize: json.head_dim ?? hidden / heads,
    vocabulary: json.vocab_size,
    positions: json.max_position_embeddings,
  };
}

/** The one rotary of all layers, by fields of the family's own where it has such. */
export function decoderRotary(
  json: SizesJson & Partial<Pick<Fields, 'rope_theta' | 'rope_scaling' | 'rope_parameters'>>,
  name: string,
  own: Partial<RotaryOptions> = {},
): Float64Array {
  const { headSize, positions } = decoderSizes(json, name);
  return rotaryAngles(name, {
    headSize,
    positions,
    theta: { fields: { rope_theta: json.rope_theta }, absent: 10000 },
    scalings: { rope_scaling: json.rope_scaling, rope_parameters: json.rope_parameters },
    original: json.original_max_position_embeddings,
    ...own,
  });
}

/** A layer under Llama's names. */
function decoderLayer(
  at: string,
  { hidden, width, heads, keyValueHeads, headSize }: ModelSizes,
  { rms_norm_eps: eps, hidden_act, attention_bias = false, mlp_bias = false }: DecoderJson,
  rotary: Float64Array,
): LayerSpec {
  const norm = (module: string, hook: string): NormSpec =>
    normSpec('rms', `${at}.${module}`, hidden, eps, hook);
  const project = (part: string, heads: number) =>
    linearSpec(`${at}.self_attn.${part}_proj`, heads * headSize, hidden, attention_bias);
  const mlp = (part: string, out: number, size: number) =>
    linearSpec(`${at}.mlp.${part}_proj`, out, size, mlp_bias);
  return {
    attention: {
      q: project('q', heads),
      k: project('k', keyValueHeads),
      v: project('v', keyValueHeads),
      out: linearSpec(`${at}.self_attn.o_proj`, hidden, heads * headSize, attention_bias),
      heads,
      keyHeads: keyValueHeads,
      size: headSize,
      rotary,
    },
    feedForward: {
      activation: hidden_act,
      gate: mlp('gate', width, hidden),
      up: mlp('up', width, hidden),
      down: mlp('down', hidden, width),
    },
    norms: {
      attention: { before: norm('input_layernorm', 'ln1.hook_normalized') },
      feedForward: { before: norm('post_attention_layernorm', 'ln2.hook_normalized') },
    },
  };
}
