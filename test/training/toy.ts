/** Two tiny models, what they are trained on step by step, and their values. */

import { crossEntropyRows, sum, type Tensor, warmupCosine } from '../../engine/index.ts';
import { passRandom } from '../../examples/training/order.ts';
import { type LanguageModel, parseConfig } from '../../models/index.ts';

const sizes = {
  num_hidden_layers: 2,
  hidden_size: 16,
  intermediate_size: 24,
  vocab_size: 30,
  max_position_embeddings: 12,
};
export const bert = parseConfig({ model_type: 'bert', num_attention_heads: 2, ...sizes });
export const llama = parseConfig({
  model_type: 'llama',
  num_attention_heads: 4,
  num_key_value_heads: 2,
  rms_norm_eps: 1e-5,
  tie_word_embeddings: true,
  eos_token_id: 2,
  ...sizes,
});

/** Rows of step s: a fixed function of the step. */
export function rows(step: number): { ids: number[][]; position: number[]; label: number[] } {
  const random = passRandom(3, step);
  const ids = Array.from({ length: 6 }, () => Array.from({ length: 5 }, () => Math.floor(random() * 30)));
  return { ids, position: ids.map((_, i) => i % 5), label: ids.map((row) => (row[0]! * 7) % 30) };
}

/** Losses of a step in micro-batches of `size` rows. */
export function losses(model: LanguageModel, step: number, size = 6): (() => Tensor)[] {
  const { ids, position, label } = rows(step);
  return Array.from({ length: 6 / size }, (_, k) => () => {
    const part = <T>(list: T[]): T[] => list.slice(k * size, (k + 1) * size);
    using run = model.run({ ids: part(ids) }, { logits: part(position) });
    return sum(crossEntropyRows(run.logits, part(label)));
  });
}

export const schedule = warmupCosine({ peak: 5e-3, warmup: 2, steps: 20 });
export const values = async (model: LanguageModel): Promise<Map<string, Float32Array>> => {
  const read = new Map<string, Float32Array>();
  for (const [name, t] of model.parameters) read.set(name, await t.read());
  return read;
};
