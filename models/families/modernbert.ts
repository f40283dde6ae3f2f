/**
 * ModernBERT (Warner et al. 2024), as Hugging Face `ModernBertForMaskedLM` computes it: norms before the halves, but none before
 * attention in layer 0; rotary positions and windows that differ between global and local layers; gated feed-forward; a final
 * norm, whose place is TransformerLens's `encoder_final_ln`, and a head with one of its own before the decoder.
 */

import * as v from 'valibot';
import type { AttentionSpec, LayerSpec, NormSpec } from '../block.ts';
import type { Description, ModelSizes } from '../description.ts';
import { encoderSizes, lensNames } from './bert.ts';
import { family } from './family.ts';
import {
  activation,
  commonFields,
  epsilon,
  headSizeField,
  layerModules,
  layerTypesField,
  linearSpec,
  normSpec,
  partsOf,
  positionsField,
  presetSizes,
  size,
  slidingLayers,
  yesNo,
} from './fields.ts';
import {
  agreed,
  ropeByLayerField,
  ropeField,
  rotaryAngles,
  type Said,
  sameAngles,
  theta,
  wholeField,
} from './rope.ts';

const schema = v.object({
  ...commonFields,
  max_position_embeddings: v.optional(positionsField, 8192),
  hidden_activation: activation('gelu'),
  classifier_activation: activation('gelu'),
  norm_eps: epsilon(1e-5),
  norm_bias: yesNo(false),
  attention_bias: yesNo(false),
  mlp_bias: yesNo(false),
  classifier_bias: yesNo(false),
  decoder_bias: yesNo(true),
  tie_word_embeddings: yesNo(true),
  layer_types: layerTypesField,
  global_attn_every_n_layers: v.optional(size(2 ** 16), 3),
  local_attention: v.optional(size(2 ** 24)),
  sliding_window: v.optional(size(2 ** 24)),
  head_dim: v.nullish(headSizeField),
  global_rope_theta: v.optional(theta),
  /** Null: the global one. */
  local_rope_theta: v.optional(v.nullable(theta)),
  rope_parameters: ropeByLayerField,
  rope_scaling: ropeField,
  partial_rotary_factor: wholeField,
});
type Json = v.InferOutput<typeof schema>;

const published = {
  vocab_size: 50368,
  max_position_embeddings: 8192,
  norm_eps: 1e-5,
  global_attn_every_n_layers: 3,
  local_attention: 128,
  global_rope_theta: 160000,
  local_rope_theta: 10000,
  pad_token_id: 50283,
};

export const modernbert = family({
  type: 'modernbert',
  architecture: 'ModernBertForMaskedLM',
  checkpoint: {
    prefix: 'model.',
    copies: { 'decoder.weight': 'model.embeddings.tok_embeddings.weight' },
  },
  presets: {
    'modernbert-base': { ...presetSizes(768, 1152, 22, 12), ...published },
    'modernbert-large': { ...presetSizes(1024, 2624, 28, 16), ...published },
  },
  schema,
  describe(json, name): Description {
    const sizes = encoderSizes(json, name, json.max_position_embeddings);
    const { hidden, layers, headSize, vocabulary } = sizes;
    agreed(name, { 'hidden_size / num_attention_heads': headSize, head_dim: json.head_dim }, 0);
    const { layer_types, global_attn_every_n_layers: every } = json;
    const half = agreed(
      name,
      {
        'local_attention / 2': json.local_attention && Math.floor(json.local_attention / 2),
        sliding_window: json.sliding_window,
      },
      64,
    );
    const slides = slidingLayers(name, layers, { layer_types, window: half }, (layer) => layer % every !== 0);
    const { full, local } = rotaryOf(json, name, headSize);
    const attention = (slides: boolean) =>
      slides ? { rotary: local, window: { before: half, after: half } } : { rotary: full };
    const word = 'model.embeddings.tok_embeddings.weight';
    const embedding = { word, norm: normOf(json, 'model.embeddings.norm', 'hook_full_embed') };
    return {
      sizes,
      causal: false,
      embedding,
      layers: slides.map((each, i) => modernLayer(json, sizes, i, attention(each))),
      head: {
        norm: normOf(json, 'model.final_norm', 'encoder_final_ln.hook_normalized'),
        transform: {
          dense: linearSpec('head.dense', hidden, hidden, json.classifier_bias),
          activation: json.classifier_activation,
          norm: normOf(json, 'head.norm', 'ln_final.hook_normalized'),
        },
        decoder: {
          weight: json.tie_word_embeddings ? word : 'decoder.weight',
          bias: json.decoder_bias ? 'decoder.bias' : undefined,
          out: vocabulary,
          in: hidden,
        },
      },
      modules: new Map([
        ['model.embeddings', 'hook_full_embed'],
        ['head', 'ln_final.hook_normalized'],
        ...layerModules(layers, 'model.layers', {
          attn: 'hook_attn_out',
          'mlp.act': 'mlp.hook_act',
          mlp: 'hook_mlp_out',
          '': 'hook_resid_post',
        }),
        ...lensNames(embedding),
      ]),
    };
  },
});

const normOf = ({ hidden_size, norm_eps, norm_bias }: Json, module: string, hook: string): NormSpec =>
  normSpec('layer', module, hidden_size, norm_eps, hook, norm_bias);

function modernLayer(
  json: Json,
  { hidden, width, heads, headSize }: ModelSizes,
  number: number,
  own: Pick<AttentionSpec, 'rotary' | 'window'>,
): LayerSpec {
  const at = `model.layers.${number}`;
  const { attention_bias, mlp_bias } = json;
  return {
    attention: {
      ...partsOf(`${at}.attn.Wqkv`, { q: hidden, k: hidden, v: hidden }, hidden, attention_bias),
      out: linearSpec(`${at}.attn.Wo`, hidden, hidden, attention_bias),
      heads,
      keyHeads: heads,
      size: headSize,
      ...own,
    },
    feedForward: {
      activation: json.hidden_activation,
      ...partsOf(`${at}.mlp.Wi`, { gate: width, up: width }, hidden, mlp_bias),
      down: linearSpec(`${at}.mlp.Wo`, hidden, width, mlp_bias),
    },
    norms: {
      attention: number === 0 ? {} : { before: normOf(json, `${at}.attn_norm`, 'ln1.hook_normalized') },
      feedForward: { before: normOf(json, `${at}.mlp_norm`, 'ln2.hook_normalized') },
    },
  };
}

/** Angles of layers without and with a window: one object where they are the same. */
function rotaryOf(json: Json, name: string, headSize: number) {
  const { rope_parameters: ropes, rope_scaling, max_position_embeddings: positions } = json;
  const angles = (kind: 'full_attention' | 'sliding_attention', theta: Said): Float64Array => {
    const scalings = { [`rope_parameters.${kind}`]: ropes?.[kind], rope_scaling };
    return rotaryAngles(name, { headSize, positions, theta, scalings });
  };
  const { global_rope_theta, local_rope_theta } = json;
  const global = { fields: { global_rope_theta }, absent: 160000 };
  const full = angles('full_attention', global);
  const local = angles(
    'sliding_attention',
    local_rope_theta === null ? global : { fields: { local_rope_theta }, absent: 10000 },
  );
  return { full, local: sameAngles(full, local) };
}
