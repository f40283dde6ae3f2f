/**
 * Gemma 2 (Gemma Team 2024) and the text models of Gemma 3 (Gemma Team 2025), as Hugging Face `Gemma2ForCausalLM` and
 * `Gemma3ForCausalLM` compute them: Llama's layer with norms before and after each half, their weights counting from 1, a scale
 * of scores that is a field, windows in some layers, and the embedding times the root of its width. Gemma 2 caps scores and
 * logits; Gemma 3 has norms of queries and keys by head, and a rotary of its own where the window is.
 */

import * as v from 'valibot';
import type { AttentionSpec, NormSpec } from '../block.ts';
import type { Description } from '../description.ts';
import type { Metadata } from '../gguf/metadata.ts';
import {
  DECODER_MODULES,
  decoderCheckpoint,
  decoderFields,
  decoderGguf,
  decoderRotary,
  describeDecoder,
  layerName,
} from './decoder.ts';
import { family } from './family.ts';
import {
  activation,
  capField,
  forbidden,
  headSizeField,
  headsField,
  layerModules,
  layerTypesField,
  normSpec,
  positiveField,
  presetSizes,
  size,
  slidingLayers,
  windowed,
  windowField,
  yesNo,
} from './fields.ts';
import { ropeByLayerField, rotaryByKind, thetaField } from './rope.ts';

function gemmaFields(positions: number) {
  // A `hidden_act` stands in some files, too; nobody reads it.
  const { hidden_act: _, ...fields } = decoderFields({ positions });
  return {
    ...fields,
    num_key_value_heads: v.optional(headsField, 4),
    head_dim: v.optional(headSizeField, 256),
    hidden_activation: activation('gelu_tanh'),
    attention_bias: yesNo(false),
    tie_word_embeddings: yesNo(true),
    query_pre_attn_scalar: v.optional(positiveField, 256),
    sliding_window: windowField(4096),
    layer_types: layerTypesField,
    use_bidirectional_attention: forbidden,
  };
}
const schema2 = v.object({
  ...gemmaFields(8192),
  attn_logit_softcapping: capField(50),
  final_logit_softcapping: capField(30),
});
// Its class has attn_logit_softcapping, too, which its model does not read.
const schema3 = v.object({
  ...gemmaFields(131072),
  rope_local_base_freq: thetaField,
  rope_parameters: ropeByLayerField,
  sliding_window_pattern: v.nullish(size(1024), 6),
  final_logit_softcapping: capField(null),
});

/** @param layersOf27B whose scores are not over the root of a head's size. */
function gemmaGguf(of: Metadata, layersOf27B: number): Record<string, unknown> {
  const scale = of.optional('attention.scale');
  const large = of.number('block_count') === layersOf27B;
  const size = large ? of.number('embedding_length') / of.number('attention.head_count') : of.headSize;
  return {
    ...decoderGguf(of),
    sliding_window: of.number('attention.sliding_window'),
    query_pre_attn_scalar: scale === undefined ? size : Number((scale ** -2).toPrecision(6)),
  };
}

export const gemma2 = family({
  type: 'gemma2',
  architecture: 'Gemma2ForCausalLM',
  checkpoint: decoderCheckpoint,
  gguf: {
    architecture: 'gemma2',
    config: (of) => ({
      ...gemmaGguf(of, 46),
      attn_logit_softcapping: of.optional('attn_logit_softcapping'),
      final_logit_softcapping: of.optional('final_logit_softcapping'),
    }),
  },
  presets: { 'gemma-2-2b': preset2(2304, 9216, 26, 8, 4), 'gemma-2-9b': preset2(3584, 14336, 42, 16, 8) },
  schema: schema2,
  describe(json, name) {
    const cap = json.attn_logit_softcapping;
    const slides = slidingOf(json, name, (layer) => layer % 2 === 0);
    const own = cap === null ? {} : { cap };
    return describeGemma(json, name, slides, decoderRotary(json, name), () => own);
  },
});

export const gemma3 = family({
  type: 'gemma3_text',
  architecture: 'Gemma3ForCausalLM',
  checkpoint: decoderCheckpoint,
  gguf: {
    architecture: 'gemma3',
    config(of) {
      const slides = of.list('gemma3.attention.sliding_window_pattern');
      return {
        ...gemmaGguf(of, 62),
        rope_theta: of.optional('rope.freq_base') ?? 1e6,
        rope_local_base_freq: of.optional('rope.freq_base_swa'),
        final_logit_softcapping: of.optional('final_logit_softcapping'),
        ...(slides
          ? { layer_types: slides.map((is) => (is ? 'sliding_attention' : 'full_attention')) }
          : { sliding_window_pattern: of.optional('attention.sliding_window_pattern') }),
      };
    },
  },
  presets: {
    'gemma-3-1b': {
      ...gemma(1152, 6912, 26, 4, 1),
      vocab_size: 262144,
      max_position_embeddings: 32768,
      rope_theta: 1e6,
      rope_local_base_freq: 10000,
      rope_scaling: null,
      sliding_window: 512,
      sliding_window_pattern: 6,
      attn_logit_softcapping: null,
      final_logit_softcapping: null,
    },
  },
  schema: schema3,
  describe({ rope_parameters: ropes, ...json }, name) {
    const slides = slidingOf(json, name, (layer) => (layer + 1) % json.sliding_window_pattern !== 0);
    const { head_dim: headSize, max_position_embeddings: positions, rope_theta, rope_scaling } = json;
    const { rope_local_base_freq, original_max_position_embeddings: original } = json;
    const of = { headSize, positions, original };
    const { full, sliding } = rotaryByKind(
      name,
      ropes,
      { ...of, theta: { fields: { rope_theta }, absent: 1e6 }, scalings: { rope_scaling } },
      { ...of, theta: { fields: { rope_local_base_freq }, absent: 10000 }, scalings: {} },
    );
    return describeGemma(json, name, slides, full, (norm, layer) => ({
      rotary: slides[layer] ? sliding : full,
      norms: {
        q: norm('self_attn.q_norm', 'attn.q_norm', json.head_dim),
        k: norm('self_attn.k_norm', 'attn.k_norm', json.head_dim),
      },
    }));
  },
});

type GemmaJson = Omit<v.InferOutput<typeof schema2>, 'rope_parameters' | 'attn_logit_softcapping'>;
type Norm = (module: string, hook: string, size: number) => NormSpec;

const slidingOf = (
  { num_hidden_layers, layer_types, sliding_window: window }: GemmaJson,
  name: string,
  rule: (layer: number) => boolean,
): boolean[] => slidingLayers(name, num_hidden_layers, { layer_types, window }, rule);

/** @param attention what the family's has of its own. */
function describeGemma(
  json: GemmaJson,
  name: string,
  slides: readonly boolean[],
  rotary: Float64Array,
  attention: (norm: Norm, layer: number) => Partial<AttentionSpec>,
): Description {
  const { hidden_size: hidden, hidden_activation: hidden_act, final_logit_softcapping: cap } = json;
  const base = describeDecoder({ ...json, hidden_act }, name, rotary, (layer, i) => {
    const norm: Norm = (module, hook, size) =>
      normSpec('rms1', `${layerName(i)}.${module}`, size, json.rms_norm_eps, `${hook}.hook_normalized`);
    const half = (before: string, after: string, hook: string) => ({
      before: norm(`${before}_layernorm`, hook, hidden),
      after: norm(`${after}_layernorm`, `${hook}_post`, hidden),
    });
    const scale = 1 / Math.sqrt(json.query_pre_attn_scalar);
    const own = {
      ...layer,
      attention: { ...layer.attention, scale, ...attention(norm, i) },
      norms: {
        attention: half('input', 'post_attention', 'ln1'),
        feedForward: half('pre_feedforward', 'post_feedforward', 'ln2'),
      },
      outputsNormed: true,
    };
    return slides[i] ? windowed(own, json.sliding_window) : own;
  });
  return {
    ...base,
    embedding: { ...base.embedding, scale: Math.sqrt(hidden) },
    head: { ...base.head, norm: { ...base.head.norm!, kind: 'rms1' }, ...(cap === null ? {} : { cap }) },
    modules: layerModules(json.num_hidden_layers, 'model.layers', {
      ...DECODER_MODULES,
      self_attn: 'hook_attn_raw',
      mlp: 'hook_mlp_raw',
    }),
  };
}

function gemma(hidden: number, width: number, layers: number, heads: number, keys: number) {
  return {
    ...presetSizes(hidden, width, layers, heads),
    num_key_value_heads: keys,
    head_dim: 256,
    query_pre_attn_scalar: 256,
    rms_norm_eps: 1e-6,
    hidden_activation: 'gelu_pytorch_tanh',
    attention_bias: false,
    pad_token_id: 0,
    bos_token_id: 2,
    eos_token_id: 1,
  };
}

function preset2(hidden: number, width: number, layers: number, heads: number, keys: number) {
  return {
    ...gemma(hidden, width, layers, heads, keys),
    vocab_size: 256000,
    max_position_embeddings: 8192,
    rope_theta: 10000,
    sliding_window: 4096,
    attn_logit_softcapping: 50,
    final_logit_softcapping: 30,
  };
}
