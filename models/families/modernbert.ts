/**
 * ModernBERT (Warner et al. 2024), as Hugging Face `ModernBertForMaskedLM` computes it: norms before the halves, but none before
 * attention in layer 0; rotary positions and windows that differ between global and local layers; gated feed-forward; a final
 * norm, whose place is TransformerLens's `encoder_final_ln`, and a head with one of its own before the decoder.
 */

import * as v from 'valibot';
import { encoder } from './encoder.ts';
import { family } from './family.ts';
import {
  activation,
  commonFields,
  epsilon,
  flags,
  headSizeField,
  layerTypesField,
  linearSpec,
  normSpec,
  partsOf,
  positionsField,
  presetSizes,
  slidingLayers,
} from './fields.ts';
import { describePlain, type PlainNames, type PlainParts, plainSizes } from './plain.ts';
import { agreed, ropeByKindFields, rotaryByKind, theta } from './rope.ts';

const NAMES: PlainNames = {
  word: 'model.embeddings.tok_embeddings.weight',
  list: 'model.layers',
  attention: 'attn',
  norms: ['attn_norm', 'mlp_norm'],
  lastNorm: 'model.final_norm',
};

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
  checkpoint: { prefix: 'model.', copies: { 'decoder.weight': NAMES.word } },
  presets: {
    'modernbert-base': { ...presetSizes(768, 1152, 22, 12), ...published },
    'modernbert-large': { ...presetSizes(1024, 2624, 28, 16), ...published },
  },
  schema: v.object({
    ...commonFields,
    max_position_embeddings: v.optional(positionsField, 8192),
    hidden_activation: activation('gelu'),
    classifier_activation: activation('gelu'),
    norm_eps: epsilon(1e-5),
    ...flags(false, 'norm_bias', 'attention_bias', 'mlp_bias', 'classifier_bias'),
    ...flags(true, 'decoder_bias', 'tie_word_embeddings'),
    layer_types: layerTypesField,
    global_attn_every_n_layers: v.optional(positionsField, 3),
    local_attention: v.optional(positionsField),
    sliding_window: v.optional(positionsField),
    head_dim: v.nullish(headSizeField),
    global_rope_theta: v.optional(theta),
    /** Null: the global one. */
    local_rope_theta: v.optional(v.nullable(theta)),
    ...ropeByKindFields,
  }),
  describe(json, name) {
    const sizes = plainSizes(json, name, json.max_position_embeddings);
    const { hidden, width, layers, headSize, positions } = sizes;
    const { attention_bias, mlp_bias, norm_eps: eps, norm_bias: normBias, rope_scaling } = json;
    agreed(name, { 'hidden_size / num_attention_heads': headSize, head_dim: json.head_dim }, 0);
    const { layer_types, global_attn_every_n_layers: every, local_attention, sliding_window } = json;
    const halved = local_attention && Math.floor(local_attention / 2);
    const half = agreed(name, { 'local_attention / 2': halved, sliding_window }, 64);
    const slides = slidingLayers(name, layers, { layer_types, window: half }, (layer) => layer % every !== 0);
    const { global_rope_theta, local_rope_theta, tie_word_embeddings: tied } = json;
    const global = { fields: { global_rope_theta }, absent: 160000 };
    const local = local_rope_theta === null ? global : { fields: { local_rope_theta }, absent: 10000 };
    const of = { headSize, positions, scalings: { rope_scaling } };
    const turn = rotaryByKind(name, json.rope_parameters, { ...of, theta: global }, { ...of, theta: local });
    const sliding = { rotary: turn.sliding, window: { before: half, after: half } };
    const layer: PlainParts['layer'] = (at, number) => ({
      attention: {
        ...partsOf(`${at}.attn.Wqkv`, { q: hidden, k: hidden, v: hidden }, hidden, attention_bias),
        out: linearSpec(`${at}.attn.Wo`, hidden, hidden, attention_bias),
        ...(slides[number] ? sliding : { rotary: turn.full }),
      },
      feedForward: {
        activation: json.hidden_activation,
        ...partsOf(`${at}.mlp.Wi`, { gate: width, up: width }, hidden, mlp_bias),
        down: linearSpec(`${at}.mlp.Wo`, hidden, width, mlp_bias),
      },
    });
    const plain = describePlain(sizes, NAMES, { eps, tied, normBias, layer });
    const norm = (module: string, hook: string) => normSpec('layer', module, hidden, eps, hook, normBias);
    const [first, ...others] = plain.layers;
    const dense = linearSpec('head.dense', hidden, hidden, json.classifier_bias);
    const last = 'ln_final.hook_normalized';
    const decoder = linearSpec('decoder', sizes.vocabulary, hidden, json.decoder_bias);
    return encoder({
      ...plain,
      embedding: { word: NAMES.word, norm: norm('model.embeddings.norm', 'hook_full_embed') },
      layers: [{ ...first!, norms: { ...first!.norms, attention: {} } }, ...others],
      head: {
        norm: norm(NAMES.lastNorm, 'encoder_final_ln.hook_normalized'),
        transform: { dense, activation: json.classifier_activation, norm: norm('head.norm', last) },
        decoder: tied ? { ...decoder, weight: NAMES.word } : decoder,
      },
      modules: new Map([...plain.modules, ['model.embeddings', 'hook_full_embed'], ['head', last]]),
    });
  },
});
