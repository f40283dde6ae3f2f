/**
 * Llama 1 to 3 (Touvron et al. 2023), as Hugging Face `LlamaForCausalLM` computes it: RMS norm before each half of a layer,
 * rotary positions, grouped key/value heads, gated feed-forward, tied or separate decoder.
 */

import * as v from 'valibot';
import type { AttentionSpec, LayerSpec, NormSpec } from '../block.ts';
import type { Description } from '../description.ts';
import type { ModelSizes } from '../model.ts';
import { family } from './family.ts';
import {
  activation,
  commonFields,
  divides,
  epsilon,
  headsField,
  linearSpec,
  normSpec,
  positionsField,
  size,
  yesNo,
} from './fields.ts';
import { agreed, ropeField, rotaryAngles, shareField, thetaField } from './rope.ts';

/** Fields that Llama's relatives have, too. */
export const llamaFields = {
  ...commonFields,
  max_position_embeddings: v.nullish(positionsField, 2048),
  num_key_value_heads: v.nullish(headsField),
  head_dim: v.nullish(size(2 ** 12)),
  rms_norm_eps: epsilon(1e-6),
  rope_theta: thetaField,
  partial_rotary_factor: shareField,
  rope_scaling: ropeField,
  rope_parameters: ropeField,
  hidden_act: activation('silu'),
  attention_bias: yesNo(false),
  mlp_bias: yesNo(false),
  tie_word_embeddings: yesNo(false),
};

const schema = v.object(llamaFields);
/** Fields of a config.json of Llama's kind, defaults filled in. */
export type LlamaJson = v.InferOutput<typeof schema>;

export const llama = family({
  type: 'llama',
  architecture: 'LlamaForCausalLM',
  checkpoint: {
    prefix: 'model.',
    needless: [/\.rotary_emb\.inv_freq$/],
    copies: { 'lm_head.weight': 'model.embed_tokens.weight' },
  },
  presets: {
    'llama2-7b': llama2(4096, 11008, 32, 32, 32),
    'llama2-13b': llama2(5120, 13824, 40, 40, 40),
    'llama2-70b': llama2(8192, 28672, 80, 64, 8),
  },
  schema,
  describe: (json, name) => describeLlama(json, name),
});

function llama2(hidden: number, width: number, layers: number, heads: number, keys: number) {
  return {
    hidden_size: hidden,
    intermediate_size: width,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    num_key_value_heads: keys,
    vocab_size: 32000,
    max_position_embeddings: 4096,
    rms_norm_eps: 1e-5,
    rope_scaling: null,
    hidden_act: 'silu',
    tie_word_embeddings: false,
    bos_token_id: 1,
    eos_token_id: 2,
  };
}

/** Llama's description, its layers perhaps changed by a relative. */
export function describeLlama(
  json: LlamaJson,
  name: string,
  relative: (layer: LayerSpec, number: number, sizes: ModelSizes) => LayerSpec = (layer) => layer,
): Description {
  const sizes = llamaSizes(json, name);
  const rotary = llamaRotary(json, name, sizes);
  const word = 'model.embed_tokens.weight';
  return {
    sizes,
    causal: true,
    embedding: { word },
    layers: Array.from({ length: sizes.layers }, (_, i) =>
      relative(llamaLayer(`model.layers.${i}`, sizes, json, rotary), i, sizes),
    ),
    head: {
      norm: normSpec('rms', 'model.norm', sizes.hidden, json.rms_norm_eps, 'ln_final.hook_normalized'),
      decoder: {
        weight: json.tie_word_embeddings ? word : 'lm_head.weight',
        out: sizes.vocabulary,
        in: sizes.hidden,
      },
    },
    modules: llamaModules(sizes.layers),
  };
}

export function llamaSizes(json: LlamaJson, name: string): ModelSizes {
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

/** The one rotary of all layers. */
export function llamaRotary(
  json: Pick<LlamaJson, 'rope_theta' | 'rope_scaling' | 'rope_parameters' | 'partial_rotary_factor'>,
  name: string,
  { headSize, positions }: ModelSizes,
  fallback = 10000,
): Float64Array {
  const { rope_scaling: older, rope_parameters: newer } = json;
  const theta = agreed(
    name,
    {
      rope_theta: json.rope_theta,
      'rope_parameters.rope_theta': newer?.rope_theta,
      'rope_scaling.rope_theta': older?.rope_theta,
    },
    fallback,
  );
  const share = agreed(
    name,
    {
      partial_rotary_factor: json.partial_rotary_factor,
      'rope_parameters.partial_rotary_factor': newer?.partial_rotary_factor,
      'rope_scaling.partial_rotary_factor': older?.partial_rotary_factor,
    },
    1,
  );
  return rotaryAngles(name, { theta, headSize, positions, share, scaling: newer ?? older });
}

/** A layer under Llama's names. */
export function llamaLayer(
  at: string,
  { hidden, width, heads, keyValueHeads, headSize }: ModelSizes,
  json: Pick<LlamaJson, 'rms_norm_eps' | 'hidden_act' | 'attention_bias' | 'mlp_bias'>,
  rotary: Float64Array,
): LayerSpec {
  const { rms_norm_eps: eps, attention_bias: bias } = json;
  const norm = (module: string, hook: string): NormSpec =>
    normSpec('rms', `${at}.${module}`, hidden, eps, hook);
  const project = (part: string, heads: number) =>
    linearSpec(`${at}.self_attn.${part}_proj`, heads * headSize, hidden, bias);
  const mlp = (part: string, out: number, size: number) =>
    linearSpec(`${at}.mlp.${part}_proj`, out, size, json.mlp_bias);
  const attention: AttentionSpec = {
    q: project('q', heads),
    k: project('k', keyValueHeads),
    v: project('v', keyValueHeads),
    out: linearSpec(`${at}.self_attn.o_proj`, hidden, heads * headSize, bias),
    heads,
    keyHeads: keyValueHeads,
    size: headSize,
    rotary,
  };
  return {
    attention,
    feedForward: {
      activation: json.hidden_act,
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

/** The other modules of those layers. */
export function llamaModules(layers: number): Map<string, string> {
  return new Map(
    Array.from({ length: layers }, (_, i): [string, string][] => {
      const [module, at] = [`model.layers.${i}`, `blocks.${i}`];
      return [
        [`${module}.self_attn`, `${at}.hook_attn_out`],
        [`${module}.mlp.act_fn`, `${at}.mlp.hook_act`],
        [`${module}.mlp`, `${at}.hook_mlp_out`],
        [module, `${at}.hook_resid_post`],
      ];
    }).flat(),
  );
}
