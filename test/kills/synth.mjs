/** A tiny checkpoint of two shards, drawn: what `neurgrad synth` does for presets that are too large to be compared here. */

import { localFolder, presetConfig, synthesise } from '../../dist/models/index.js';

const preset = {
  ...presetConfig('llama2-7b', 1),
  hidden_size: 64,
  num_attention_heads: 2,
  num_key_value_heads: 2,
  intermediate_size: 64,
  vocab_size: 300,
};
const tokenizer = await localFolder(process.argv[2]);
await synthesise('made/checkpoint', { preset, dtype: 'bf16', seed: 1, shardBytes: 1e5, tokenizer });
