/** The two sizes of the training: one that two CPU cores manage in less than ten minutes, and the bundled model's own. */

import { type ModelConfig, parseConfig } from '../../models/index.ts';

export interface Recipe {
  readonly layers: number;
  readonly hidden: number;
  readonly width: number;
  readonly heads: number;
  /** Facts to learn, drawn with the seed; all where there are fewer. */
  readonly facts: number;
  /** Passes over the facts, each fact in one random template a pass. */
  readonly passes: number;
  readonly batch: number;
  readonly warmup: number;
  readonly peak: number;
}

export const RECIPES = {
  small: {
    layers: 2,
    hidden: 64,
    width: 256,
    heads: 4,
    facts: 2000,
    passes: 120,
    batch: 128,
    warmup: 100,
    peak: 4e-3,
  },
  full: {
    layers: 4,
    hidden: 128,
    width: 512,
    heads: 4,
    facts: 1e9,
    passes: 60,
    batch: 256,
    warmup: 300,
    peak: 2e-3,
  },
} as const satisfies Record<string, Recipe>;

/** A recipe's model over the vocabulary of the bundled tokenizer. */
export function bertConfig(recipe: Recipe, vocabulary: number): ModelConfig {
  return parseConfig({
    architectures: ['BertForMaskedLM'],
    model_type: 'bert',
    vocab_size: vocabulary,
    hidden_size: recipe.hidden,
    num_hidden_layers: recipe.layers,
    num_attention_heads: recipe.heads,
    intermediate_size: recipe.width,
    max_position_embeddings: 64,
    type_vocab_size: 2,
    layer_norm_eps: 1e-12,
    hidden_act: 'gelu',
    hidden_dropout_prob: 0,
    attention_probs_dropout_prob: 0,
  });
}
