/**
 * Qwen 2 and 2.5 (Yang et al. 2024) and Qwen 3 without experts (Yang et al. 2025), as Hugging Face `Qwen2ForCausalLM` and
 * `Qwen3ForCausalLM` compute them: Llama, with biases of queries, keys and values alone or norms of queries and keys by head,
 * and with windows in the upper layers where `use_sliding_window` says so.
 */

import * as v from 'valibot';
import type { LinearSpec } from '../block.ts';
import {
  decoderCheckpoint,
  decoderFields,
  decoderGguf,
  decoderRotary,
  describeDecoder,
  layerName,
} from './decoder.ts';
import { family, type GgufRecord } from './family.ts';
import {
  headSizeField,
  layerTypesField,
  normSpec,
  presetSizes,
  slidingLayers,
  windowed,
  windowField,
  yesNo,
} from './fields.ts';

const fields = {
  ...decoderFields({ positions: 32768, keyHeads: 32 }),
  use_sliding_window: yesNo(false),
  sliding_window: windowField(4096),
  max_window_layers: v.nullish(
    v.pipe(
      v.number('must be a number'),
      v.integer('must be a whole number'),
      v.minValue(0, 'must not be negative'),
    ),
    28,
  ),
  layer_types: layerTypesField,
};
const schema2 = v.object(fields);
const schema3 = v.object({
  ...fields,
  head_dim: v.optional(headSizeField, 128),
  attention_bias: yesNo(false),
});

/** The window of each layer, or null. */
function windows(json: v.InferOutput<typeof schema2>, name: string): (number | null)[] {
  const window = json.use_sliding_window ? json.sliding_window : null;
  const upper = (layer: number): boolean => window !== null && layer >= json.max_window_layers;
  const slides = slidingLayers(
    name,
    json.num_hidden_layers,
    { layer_types: json.layer_types, window },
    upper,
  );
  return slides.map((slides) => (slides ? window : null));
}

/** The upper layers may have a window; which, no file says. */
const gguf = (architecture: string): GgufRecord => ({
  architecture,
  config(of) {
    if (of.optional('attention.sliding_window'))
      throw of.fail('has a window without saying in which layers; take its safetensors');
    return { ...decoderGguf(of), use_sliding_window: false };
  },
});

const biased = (map: LinearSpec): LinearSpec => ({ ...map, bias: map.weight.replace(/weight$/, 'bias') });

export const qwen2 = family({
  type: 'qwen2',
  architecture: 'Qwen2ForCausalLM',
  checkpoint: decoderCheckpoint,
  gguf: gguf('qwen2'),
  presets: {
    'qwen2-0.5b': preset2(896, 4864, 24, 14, 2, 131072),
    'qwen2.5-0.5b': preset2(896, 4864, 24, 14, 2, 32768),
    'qwen2.5-1.5b': preset2(1536, 8960, 28, 12, 2, 131072),
    'qwen2.5-7b': {
      ...preset2(3584, 18944, 28, 28, 4, 131072),
      vocab_size: 152064,
      tie_word_embeddings: false,
    },
  },
  schema: schema2,
  describe(json, name) {
    const window = windows(json, name);
    return describeDecoder(json, name, decoderRotary(json, name), (layer, i) => {
      const { q, k, v } = layer.attention;
      const attention = { ...layer.attention, q: biased(q), k: biased(k), v: biased(v) };
      return windowed({ ...layer, attention }, window[i]!);
    });
  },
});

export const qwen3 = family({
  type: 'qwen3',
  architecture: 'Qwen3ForCausalLM',
  checkpoint: decoderCheckpoint,
  gguf: gguf('qwen3'),
  presets: {
    'qwen3-0.6b': preset3(1024, 3072, 28, 16, true),
    'qwen3-1.7b': preset3(2048, 6144, 28, 16, true),
    'qwen3-8b': preset3(4096, 12288, 36, 32, false),
  },
  schema: schema3,
  describe(json, name) {
    const window = windows(json, name);
    return describeDecoder(json, name, decoderRotary(json, name), (layer, i, { headSize }) => {
      const norm = (part: string) => {
        const module = `${layerName(i)}.self_attn.${part}_norm`;
        return normSpec('rms', module, headSize, json.rms_norm_eps, `attn.${part}_norm.hook_normalized`);
      };
      const attention = { ...layer.attention, norms: { q: norm('q'), k: norm('k') } };
      return windowed({ ...layer, attention }, window[i]!);
    });
  },
});

function preset2(
  hidden: number,
  width: number,
  layers: number,
  heads: number,
  keys: number,
  positions: number,
) {
  return {
    ...presetSizes(hidden, width, layers, heads),
    num_key_value_heads: keys,
    vocab_size: 151936,
    max_position_embeddings: positions,
    rms_norm_eps: 1e-6,
    rope_theta: 1e6,
    use_sliding_window: false,
    sliding_window: positions,
    max_window_layers: layers,
    hidden_act: 'silu',
    tie_word_embeddings: true,
    bos_token_id: 151643,
    eos_token_id: 151643,
  };
}

function preset3(hidden: number, width: number, layers: number, heads: number, tied: boolean) {
  return {
    ...preset2(hidden, width, layers, heads, 8, 40960),
    head_dim: 128,
    attention_bias: false,
    sliding_window: null,
    tie_word_embeddings: tied,
    eos_token_id: 151645,
  };
}
