/**
 * OLMo 2 (OLMo et al. 2025), as Hugging Face `Olmo2ForCausalLM` computes it: Llama with norms after the halves in place of those
 * before, and of queries and keys over all heads at once.
 */

import * as v from 'valibot';
import {
  decoderCheckpoint,
  decoderFields,
  decoderGguf,
  decoderRotary,
  describeDecoder,
  layerName,
} from './decoder.ts';
import { family } from './family.ts';
import { normSpec, presetSizes, yesNo } from './fields.ts';

export const olmo2 = family({
  type: 'olmo2',
  architecture: 'Olmo2ForCausalLM',
  checkpoint: decoderCheckpoint,
  gguf: {
    architecture: 'olmo2',
    config(of) {
      if (of.optional('attention.sliding_window')) throw of.fail('is an OLMo 3, which is not computed here');
      return decoderGguf(of);
    },
  },
  presets: { 'olmo-2-1b': preset(2048, 8192, 16, 16), 'olmo-2-7b': preset(4096, 11008, 32, 32) },
  schema: v.object({ ...decoderFields({ positions: 2048, eps: 1e-5 }), attention_bias: yesNo(false) }),
  describe: (json, name) =>
    describeDecoder(json, name, decoderRotary(json, name), (layer, i, sizes) => {
      const norm = (module: string, size: number, hook: string) =>
        normSpec('rms', `${layerName(i)}.${module}`, size, json.rms_norm_eps, `${hook}.hook_normalized`);
      const { hidden, heads, keyValueHeads, headSize } = sizes;
      return {
        ...layer,
        attention: {
          ...layer.attention,
          norms: {
            q: norm('self_attn.q_norm', heads * headSize, 'attn.q_norm'),
            k: norm('self_attn.k_norm', keyValueHeads * headSize, 'attn.k_norm'),
          },
        },
        norms: {
          attention: { after: norm('post_attention_layernorm', hidden, 'ln1') },
          feedForward: { after: norm('post_feedforward_layernorm', hidden, 'ln2') },
        },
      };
    }),
});

function preset(hidden: number, width: number, layers: number, heads: number) {
  return {
    ...presetSizes(hidden, width, layers, heads),
    num_key_value_heads: heads,
    vocab_size: 100352,
    max_position_embeddings: 4096,
    rms_norm_eps: 1e-6,
    rope_theta: 500000,
    rope_scaling: null,
    attention_bias: false,
    hidden_act: 'silu',
    tie_word_embeddings: false,
    eos_token_id: 100257,
  };
}
