/** Mistral (Jiang et al. 2023), as Hugging Face `MistralForCausalLM` computes it: Llama, with a window in every layer. */

import * as v from 'valibot';
import { decoderCheckpoint, decoderFields, decoderRotary, describeDecoder } from './decoder.ts';
import { family } from './family.ts';
import { presetSizes, windowed, windowField } from './fields.ts';
import { llamaGguf } from './llama.ts';

export const mistral = family({
  type: 'mistral',
  architecture: 'MistralForCausalLM',
  checkpoint: decoderCheckpoint,
  gguf: {
    ...llamaGguf,
    is: (of) => of.optional('attention.sliding_window') !== undefined,
    config: (of) => ({
      ...llamaGguf.config(of),
      sliding_window: of.number('attention.sliding_window'),
    }),
  },
  presets: {
    'mistral-7b': {
      ...presetSizes(4096, 14336, 32, 32),
      num_key_value_heads: 8,
      vocab_size: 32000,
      max_position_embeddings: 32768,
      rms_norm_eps: 1e-5,
      rope_theta: 10000,
      sliding_window: 4096,
      hidden_act: 'silu',
      tie_word_embeddings: false,
      bos_token_id: 1,
      eos_token_id: 2,
    },
  },
  schema: v.object({
    ...decoderFields({ positions: 131072, keyHeads: 8 }),
    sliding_window: windowField(4096),
  }),
  describe: (json, name) =>
    describeDecoder(json, name, decoderRotary(json, name), (layer) => windowed(layer, json.sliding_window)),
});
