/**
 * DistilBERT (Sanh et al. 2019), as Hugging Face `DistilBertForMaskedLM` computes it: BERT without token types, under other names,
 * every norm with the epsilon 1e-12, which no field says.
 */

import * as v from 'valibot';
import { type BertModules, bertCheckpoint, describeBert } from './encoder.ts';
import { family } from './family.ts';
import {
  activation,
  divides,
  emptyField,
  headsField,
  hiddenField,
  layersField,
  positionsField,
  vocabularyField,
  widthField,
  yesNo,
} from './fields.ts';
import { agreed } from './rope.ts';

const MODULES: BertModules = {
  embeddings: 'distilbert.embeddings',
  layers: 'distilbert.transformer.layer',
  q: 'attention.q_lin',
  k: 'attention.k_lin',
  v: 'attention.v_lin',
  out: 'attention.out_lin',
  attentionNorm: 'sa_layer_norm',
  up: 'ffn.lin1',
  down: 'ffn.lin2',
  feedForwardNorm: 'output_layer_norm',
  dense: 'vocab_transform',
  norm: 'vocab_layer_norm',
  decoder: 'vocab_projector',
  bias: 'vocab_projector',
};

const base = { dim: 768, n_layers: 6, n_heads: 12, hidden_dim: 3072, activation: 'gelu' };

export const distilbert = family({
  type: 'distilbert',
  architecture: 'DistilBertForMaskedLM',
  checkpoint: bertCheckpoint('distilbert', MODULES),
  presets: { 'distilbert-base-uncased': { ...base, vocab_size: 30522, max_position_embeddings: 512 } },
  schema: v.object({
    vocab_size: vocabularyField,
    dim: v.optional(hiddenField),
    hidden_size: v.optional(hiddenField),
    n_heads: v.optional(headsField),
    num_attention_heads: v.optional(headsField),
    n_layers: v.optional(layersField),
    num_hidden_layers: v.optional(layersField),
    hidden_dim: v.optional(widthField, 3072),
    max_position_embeddings: v.optional(positionsField, 512),
    activation: activation('gelu'),
    pruned_heads: emptyField,
    tie_word_embeddings: yesNo(true),
  }),
  describe({ dim, n_heads, n_layers, hidden_size, num_attention_heads, num_hidden_layers, ...json }, name) {
    const hidden = agreed(name, { dim, hidden_size }, 768);
    const heads = agreed(name, { n_heads, num_attention_heads }, 12);
    divides(name, 'dim', hidden, 'n_heads', heads);
    const likeBert = {
      ...json,
      hidden_size: hidden,
      num_attention_heads: heads,
      num_hidden_layers: agreed(name, { n_layers, num_hidden_layers }, 6),
      intermediate_size: json.hidden_dim,
      type_vocab_size: 0,
      layer_norm_eps: 1e-12,
      hidden_act: json.activation,
    };
    return describeBert(likeBert, name, MODULES, {
      attention: 'hook_attn_out',
      'ffn.activation': 'mlp.hook_post',
      ffn: 'hook_mlp_out',
      '': 'hook_normalized_resid_post',
    });
  },
});
