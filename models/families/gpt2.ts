/**
 * GPT-2 (Radford et al. 2019), as Hugging Face `GPT2LMHeadModel` computes it: layer norms before each half, a table of positions,
 * and matrices stored as [in, out], those of queries, keys and values side by side.
 */

import * as v from 'valibot';
import type { LinearSpec } from '../block.ts';
import { family } from './family.ts';
import {
  activation,
  causalFields,
  divides,
  emptyField,
  epsilon,
  forbidden,
  headsField,
  hiddenField,
  layersField,
  linearSpec,
  partsOf,
  positionsField,
  vocabularyField,
  widthField,
  yesNo,
} from './fields.ts';
import { describePlain, type PlainNames } from './plain.ts';

const NAMES: PlainNames = {
  word: 'transformer.wte.weight',
  position: 'transformer.wpe.weight',
  list: 'transformer.h',
  attention: 'attn',
  norms: ['ln_1', 'ln_2'],
  lastNorm: 'transformer.ln_f',
};

export const gpt2 = family({
  type: 'gpt2',
  architecture: 'GPT2LMHeadModel',
  checkpoint: {
    prefix: 'transformer.',
    needless: [/(^|\.)h\.\d+\.attn\.(masked_)?bias$/],
    copies: { 'lm_head.weight': NAMES.word },
  },
  gguf: {
    architecture: 'gpt2',
    config: (of) => ({
      n_embd: of.number('embedding_length'),
      n_inner: of.number('feed_forward_length'),
      n_layer: of.number('block_count'),
      n_head: of.number('attention.head_count'),
      n_positions: of.number('context_length'),
      layer_norm_epsilon: of.number('attention.layer_norm_epsilon'),
    }),
  },
  presets: {
    gpt2: preset(768, 12, 12),
    'gpt2-medium': preset(1024, 24, 16),
    'gpt2-large': preset(1280, 36, 20),
    'gpt2-xl': preset(1600, 48, 25),
  },
  schema: v.object({
    ...causalFields,
    vocab_size: vocabularyField,
    n_embd: hiddenField,
    n_layer: layersField,
    n_head: headsField,
    n_positions: v.nullish(positionsField, 1024),
    n_inner: v.nullish(widthField),
    activation_function: activation('gelu_tanh'),
    layer_norm_epsilon: epsilon(1e-5),
    scale_attn_weights: yesNo(true),
    scale_attn_by_inverse_layer_idx: yesNo(false),
    add_cross_attention: forbidden,
    pruned_heads: emptyField,
    tie_word_embeddings: yesNo(true),
  }),
  describe(json, name) {
    const { n_embd: hidden, n_head: heads, n_layer: layers, n_positions: positions } = json;
    divides(name, 'n_embd', hidden, 'n_head', heads);
    const [width, headSize, vocabulary] = [json.n_inner ?? 4 * hidden, hidden / heads, json.vocab_size];
    const sizes = { layers, hidden, width, heads, keyValueHeads: heads, headSize, vocabulary, positions };
    const scale = json.scale_attn_weights ? 1 / Math.sqrt(headSize) : 1;
    return describePlain(sizes, NAMES, {
      eps: json.layer_norm_epsilon,
      tied: json.tie_word_embeddings,
      layer: (at, number) => ({
        attention: {
          ...partsOf(`${at}.attn.c_attn`, { q: hidden, k: hidden, v: hidden }, hidden, true, true),
          out: transposed(`${at}.attn.c_proj`, hidden, hidden),
          scale: json.scale_attn_by_inverse_layer_idx ? scale / (number + 1) : scale,
        },
        feedForward: {
          activation: json.activation_function,
          up: transposed(`${at}.mlp.c_fc`, width, hidden),
          down: transposed(`${at}.mlp.c_proj`, hidden, width),
        },
      }),
    });
  },
});

const transposed = (module: string, out: number, size: number): LinearSpec => ({
  ...linearSpec(module, out, size, true),
  stored: { rows: [[0, out]], of: out, transposed: true },
});

function preset(hidden: number, layers: number, heads: number) {
  return {
    vocab_size: 50257,
    n_positions: 1024,
    n_embd: hidden,
    n_layer: layers,
    n_head: heads,
    activation_function: 'gelu_new',
    layer_norm_epsilon: 1e-5,
    bos_token_id: 50256,
    eos_token_id: 50256,
  };
}
