/** Llama 1 to 3 (Touvron et al. 2023), as Hugging Face `LlamaForCausalLM` computes it. */

import * as v from 'valibot';
import { decoderCheckpoint, decoderFields, decoderGguf, decoderRotary, describeDecoder } from './decoder.ts';
import { family, type GgufRecord } from './family.ts';
import { presetSizes, yesNo } from './fields.ts';

export const llamaGguf: GgufRecord = {
  architecture: 'llama',
  interleaved: true,
  config(of) {
    if (of.optional('expert_count')) throw of.fail('has experts, which are not computed here');
    return { ...decoderGguf(of), mlp_bias: of.has('blk.0.ffn_gate.bias') };
  },
};

export const llama = family({
  type: 'llama',
  architecture: 'LlamaForCausalLM',
  checkpoint: decoderCheckpoint,
  // Mistral's later models, which have no window, are files of Llama.
  gguf: { ...llamaGguf, is: (of) => of.optional('attention.sliding_window') === undefined },
  presets: {
    'llama2-7b': llama2(4096, 11008, 32, 32, 32),
    'llama2-13b': llama2(5120, 13824, 40, 40, 40),
    'llama2-70b': llama2(8192, 28672, 80, 64, 8),
    'llama-3-8b': llama3(4096, 14336, 32, 32, 128),
    'llama-3.1-8b': llama3(4096, 14336, 32, 32, 128, 8),
    'llama-3.1-70b': llama3(8192, 28672, 80, 64, 128, 8),
    'llama-3.2-1b': llama3(2048, 8192, 16, 32, 64, 32),
    'llama-3.2-3b': llama3(3072, 8192, 28, 24, 128, 32),
  },
  schema: v.object({
    ...decoderFields({ positions: 2048 }),
    attention_bias: yesNo(false),
    mlp_bias: yesNo(false),
  }),
  describe: (json, name) => describeDecoder(json, name, decoderRotary(json, name)),
});

function llama2(hidden: number, width: number, layers: number, heads: number, keys: number) {
  return {
    ...presetSizes(hidden, width, layers, heads),
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

/** With a factor Llama 3.1 and 3.2, whose small models are tied. */
function llama3(
  hidden: number,
  width: number,
  layers: number,
  heads: number,
  headSize: number,
  factor?: number,
) {
  return {
    ...llama2(hidden, width, layers, heads, 8),
    head_dim: headSize,
    vocab_size: 128256,
    max_position_embeddings: factor ? 131072 : 8192,
    rope_theta: 500000,
    rope_scaling: factor
      ? {
          rope_type: 'llama3',
          factor,
          low_freq_factor: 1,
          high_freq_factor: 4,
          original_max_position_embeddings: 8192,
        }
      : null,
    tie_word_embeddings: factor === 32,
    bos_token_id: 128000,
    eos_token_id: 128001,
  };
}
