/** A Llama of random weights whose vocabulary spells in letters for bytes, has tokens that steer terminals, and more rows than tokens. */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { synthesise } from '../../models/synth.ts';

export const SPELT = [
  'Ñı',
  'ĠÑı',
  'ãĢģ',
  'ã',
  'ãĢ',
  'Ċ',
  'Ã©',
  'ĠParis',
  'ĠĠ',
  'ĉ',
  'Âħ',
  'ÂĽ31m',
  'Ľ',
  'âĢ®x',
  'Ģ',
  'a',
  'Ġ',
  'is',
];
export const TEXTS = [
  'я',
  ' я',
  '、',
  '<E3>',
  '<E3 80>',
  '\n',
  'é',
  ' Paris',
  '  ',
  '\t',
  '\u0085',
  '\u009b31m',
  '<9B>',
  '\u202ex',
  '<80>',
  'a',
  ' ',
  'is',
];
export const SHOWN = [
  'я',
  '␣я',
  '、',
  '<E3>',
  '<E3 80>',
  '\\n',
  'é',
  '␣Paris',
  '␣␣',
  '\\t',
  '<U+0085>',
  '<U+009B>31m',
  '<9B>',
  '<U+202E>x',
  '<80>',
  'a',
  '␣',
  'is',
];
/** Added as they are, not in letters for bytes. */
export const ADDED = ['\u001b[31mred', '\u009b1m', '<\u2066b>'];
export const ROWS = SPELT.length + ADDED.length + 3;

const SMALL = {
  hidden_size: 16,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  intermediate_size: 24,
  max_position_embeddings: 64,
};
const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
const model = {
  type: 'BPE',
  unk_token: null,
  merges: [],
  ignore_merges: true,
  vocab: Object.fromEntries(SPELT.map((token, id) => [token, id])),
};

/** A RoBERTa with the same words, whose mask takes the space before it. */
export async function writeByteMaskModel(folder: string): Promise<void> {
  const special = ['<s>', '<pad>', '</s>', '<mask>'];
  const idOf = (token: string): number => SPELT.length + special.indexOf(token);
  const config = {
    model_type: 'roberta',
    ...SMALL,
    vocab_size: SPELT.length + special.length,
    pad_token_id: idOf('<pad>'),
    type_vocab_size: 1,
  };
  await synthesise(folder, { preset: config, dtype: 'f32', seed: 3 });
  const tokenizer = {
    added_tokens: special.map((content) => ({
      id: idOf(content),
      content,
      special: true,
      lstrip: content === '<mask>',
    })),
    pre_tokenizer: byteLevel,
    post_processor: {
      type: 'RobertaProcessing',
      cls: ['<s>', idOf('<s>')],
      sep: ['</s>', idOf('</s>')],
      trim_offsets: true,
      add_prefix_space: false,
    },
    decoder: byteLevel,
    model,
  };
  writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify(tokenizer));
  writeFileSync(join(folder, 'tokenizer_config.json'), JSON.stringify({ mask_token: { content: '<mask>' } }));
}

/** Writes it. `tokenizer-of-more.json` has one token more than the model has rows. */
export async function writeByteModel(folder: string): Promise<void> {
  const config = {
    model_type: 'llama',
    architectures: ['LlamaForCausalLM'],
    ...SMALL,
    vocab_size: ROWS,
    tie_word_embeddings: false,
  };
  await synthesise(folder, { preset: config, dtype: 'f32', seed: 3 });
  const added_tokens = [...ADDED, 'beyond', 'more', 'rows', 'far'].map((content, i) => ({
    id: SPELT.length + i,
    content,
    special: false,
    normalized: false,
  }));
  const file = (count: number) =>
    JSON.stringify({
      added_tokens: added_tokens.slice(0, count),
      pre_tokenizer: byteLevel,
      decoder: byteLevel,
      model,
    });
  writeFileSync(join(folder, 'tokenizer.json'), file(ADDED.length));
  writeFileSync(join(folder, 'tokenizer-of-more.json'), file(ADDED.length + 4));
}
