/**
 * GPT-NeoX (Black et al. 2022) and Pythia (Biderman et al. 2023), as Hugging Face `GPTNeoXForCausalLM` computes them: layer norms
 * before each half, both halves on the layer's input, a share of each head rotated, and queries, keys and values stored by head.
 */

import * as v from 'valibot';
import { family } from './family.ts';
import { activation, epsilon, linearSpec, partSpec, positionsField, presetSizes, yesNo } from './fields.ts';
import { describePlain, type PlainNames, plainFields, plainSizes } from './plain.ts';
import { ropeField, rotaryAngles, shareField, thetaField } from './rope.ts';

const NAMES: PlainNames = {
  word: 'gpt_neox.embed_in.weight',
  list: 'gpt_neox.layers',
  attention: 'attention',
  norms: ['input_layernorm', 'post_attention_layernorm'],
  lastNorm: 'gpt_neox.final_layer_norm',
};

export const neox = family({
  type: 'gpt_neox',
  architecture: 'GPTNeoXForCausalLM',
  checkpoint: {
    prefix: 'gpt_neox.',
    needless: [/\.attention\.((masked_)?bias|rotary_emb\.inv_freq)$/],
    copies: { 'lm_head.weight': NAMES.word, 'embed_out.weight': NAMES.word },
    renamed: [[/^embed_out\./, 'lm_head.']],
  },
  gguf: {
    architecture: 'gptneox',
    config: (of) => ({
      ...of.sizes,
      layer_norm_eps: of.number('attention.layer_norm_epsilon'),
      rotary_pct: of.number('rope.dimension_count') / of.headSize,
      rotary_emb_base: of.optional('rope.freq_base'),
      use_parallel_residual: of.flag('gptneox.use_parallel_residual'),
    }),
  },
  presets: {
    'pythia-70m': preset(512, 6, 8),
    'pythia-160m': preset(768, 12, 12),
    'pythia-410m': preset(1024, 24, 16),
    'pythia-1b': preset(2048, 16, 8),
    'pythia-1.4b': preset(2048, 24, 16),
    'pythia-2.8b': preset(2560, 32, 32),
    'pythia-6.9b': preset(4096, 32, 32, 50432),
    'pythia-12b': preset(5120, 36, 40, 50688),
  },
  schema: v.object({
    ...plainFields,
    max_position_embeddings: v.nullish(positionsField, 2048),
    layer_norm_eps: epsilon(1e-5),
    hidden_act: activation('gelu'),
    use_parallel_residual: yesNo(true),
    attention_bias: yesNo(true),
    rotary_pct: shareField,
    rotary_emb_base: thetaField,
    rope_scaling: ropeField,
    rope_parameters: ropeField,
    tie_word_embeddings: yesNo(false),
  }),
  describe(json, name) {
    const { rotary_emb_base, rotary_pct, rope_scaling, rope_parameters, attention_bias: bias } = json;
    const sizes = plainSizes(json, name, json.max_position_embeddings);
    const { hidden, width, heads, headSize, positions } = sizes;
    const rotary = rotaryAngles(name, {
      headSize,
      positions,
      theta: { fields: { rotary_emb_base }, absent: 10000 },
      share: { fields: { rotary_pct }, absent: 0.25 },
      scalings: { rope_scaling, rope_parameters },
    });
    // Of each head first the rows of its query, then of its key, then of its value.
    const part = (at: string, part: string, place: number) => {
      const rows = Array.from({ length: heads }, (_, h) => [(3 * h + place) * headSize, headSize] as const);
      return partSpec(`${at}.attention.query_key_value`, part, { rows, of: 3 * hidden }, hidden, bias);
    };
    return describePlain(sizes, NAMES, {
      eps: json.layer_norm_eps,
      tied: json.tie_word_embeddings,
      parallel: json.use_parallel_residual,
      layer: (at) => ({
        attention: {
          q: part(at, 'q', 0),
          k: part(at, 'k', 1),
          v: part(at, 'v', 2),
          out: linearSpec(`${at}.attention.dense`, hidden, hidden, bias),
          rotary,
        },
        feedForward: {
          activation: json.hidden_act,
          up: linearSpec(`${at}.mlp.dense_h_to_4h`, width, hidden, true),
          down: linearSpec(`${at}.mlp.dense_4h_to_h`, hidden, width, true),
        },
      }),
    });
  },
});

function preset(hidden: number, layers: number, heads: number, vocabulary = 50304) {
  return {
    ...presetSizes(hidden, 4 * hidden, layers, heads),
    vocab_size: vocabulary,
    max_position_embeddings: 2048,
    layer_norm_eps: 1e-5,
    hidden_act: 'gelu',
    rotary_pct: 0.25,
    rotary_emb_base: 10000,
    use_parallel_residual: true,
    tie_word_embeddings: false,
    bos_token_id: 0,
    eos_token_id: 0,
  };
}
