/**
 * Phi-3 (Abdin et al. 2024), as Hugging Face `Phi3ForCausalLM` computes it: Llama, whose queries, keys and values are rows of one
 * stored matrix, gate and up of another, with a window, and with a share of each head rotated.
 */

import * as v from 'valibot';
import type { LayerSpec } from '../block.ts';
import type { ModelSizes } from '../model.ts';
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
import { layerModules, partsOf, presetSizes, windowed, windowField } from './fields.ts';
import { shareField } from './rope.ts';

const { 'mlp.act_fn': act, ...others } = DECODER_MODULES;

export const phi3 = family({
  type: 'phi3',
  architecture: 'Phi3ForCausalLM',
  checkpoint: decoderCheckpoint,
  gguf: {
    architecture: 'phi3',
    config: (of) => ({
      ...decoderGguf(of),
      head_dim: undefined,
      partial_rotary_factor: (of.optional('rope.dimension_count') ?? of.headSize) / of.headSize,
      sliding_window: of.optional('attention.sliding_window') || null,
      original_max_position_embeddings:
        of.optional('rope.scaling.original_context_length') ?? of.number('context_length'),
    }),
  },
  presets: {
    'phi-3-mini': {
      ...presetSizes(3072, 8192, 32, 32),
      num_key_value_heads: 32,
      vocab_size: 32064,
      max_position_embeddings: 4096,
      original_max_position_embeddings: 4096,
      rms_norm_eps: 1e-5,
      rope_theta: 10000,
      rope_scaling: null,
      sliding_window: 2047,
      hidden_act: 'silu',
      tie_word_embeddings: false,
      bos_token_id: 1,
      eos_token_id: 32000,
    },
  },
  schema: v.object({
    ...decoderFields({ positions: 4096, eps: 1e-5 }),
    partial_rotary_factor: shareField,
    sliding_window: windowField(null),
  }),
  describe(json, name) {
    const { partial_rotary_factor } = json;
    const rotary = decoderRotary(json, name, { share: { fields: { partial_rotary_factor }, absent: 1 } });
    return {
      ...describeDecoder(json, name, rotary, (layer, i, sizes) =>
        windowed(stored(layer, layerName(i), sizes), json.sliding_window),
      ),
      modules: layerModules(json.num_hidden_layers, 'model.layers', {
        ...others,
        'mlp.activation_fn': act,
      }),
    };
  },
});

/** All rows of q, then of k, then of v; of gate, then of up. */
function stored(layer: LayerSpec, at: string, sizes: ModelSizes): LayerSpec {
  const { hidden, width, heads, keyValueHeads, headSize } = sizes;
  const [queries, keys] = [heads * headSize, keyValueHeads * headSize];
  const qkv = partsOf(`${at}.self_attn.qkv_proj`, { q: queries, k: keys, v: keys }, hidden, false);
  const halves = partsOf(`${at}.mlp.gate_up_proj`, { gate: width, up: width }, hidden, false);
  return {
    ...layer,
    attention: { ...layer.attention, ...qkv },
    feedForward: { ...layer.feedForward, ...halves },
  };
}
