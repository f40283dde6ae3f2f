/** A model of each family, small: a preset's `config.json` with few layers of few neurons. */

import { FAMILIES, PRESETS, presetConfig } from '../../models/index.ts';

const sizes = {
  hidden_size: 96,
  intermediate_size: 256,
  num_attention_heads: 4,
  vocab_size: 1000,
  max_position_embeddings: 160,
};
const grouped = { ...sizes, num_key_value_heads: 2 };
const FIELDS: Readonly<Record<string, object>> = {
  'bert-base-uncased': sizes,
  'camembert-base': sizes,
  'distilbert-base-uncased': { dim: 96, hidden_dim: 256, n_heads: 4, vocab_size: 1000 },
  'gemma-2-2b': { ...grouped, head_dim: 32 },
  'gemma-3-1b': { ...grouped, num_key_value_heads: 1, head_dim: 32, sliding_window_pattern: 2 },
  gpt2: { n_embd: 96, n_head: 4, vocab_size: 1000, n_positions: 160 },
  'pythia-70m': sizes,
  'llama-3.2-1b': { ...grouped, head_dim: 24 },
  'mistral-7b': { ...grouped, sliding_window: 16 },
  'modernbert-base': { ...sizes, pad_token_id: 0, local_attention: 16 },
  'olmo-2-1b': { ...sizes, num_key_value_heads: 4 },
  'phi-3-mini': { ...sizes, num_key_value_heads: 4 },
  'qwen2-0.5b': grouped,
  'qwen3-0.6b': { ...grouped, head_dim: 32 },
  'roberta-base': sizes,
  'xlm-roberta-base': sizes,
};

/** By preset, one of each family. @throws Error for a family that has none here. */
export function smallPresets(layers: number): Map<string, Record<string, unknown>> {
  const families = new Set(Object.keys(FIELDS).map((name) => PRESETS.get(name)!.family));
  const missing = Object.values(FAMILIES).find((family) => !families.has(family));
  if (missing) throw new Error(`smallPresets.ts: none of ${missing.type}`);
  return new Map(
    Object.entries(FIELDS).map(([name, fields]) => {
      const json = { ...presetConfig(name, layers, 'f32'), ...fields };
      const ids = ['bos_token_id', 'eos_token_id'].filter((field) => field in json);
      return [name, { ...json, ...Object.fromEntries(ids.map((field, i) => [field, i])) }];
    }),
  );
}
