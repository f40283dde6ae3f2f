/** BERT for masked language modelling (Devlin et al. 2019), as Hugging Face `BertForMaskedLM` computes it. */

import {
  BASE,
  BERT_MODULES,
  BERT_OUTPUTS,
  bertCheckpoint,
  bertSchema,
  describeBert,
  LARGE,
} from './encoder.ts';
import { family } from './family.ts';

const uncased = {
  vocab_size: 30522,
  max_position_embeddings: 512,
  type_vocab_size: 2,
  layer_norm_eps: 1e-12,
};

export const bert = family({
  type: 'bert',
  architecture: 'BertForMaskedLM',
  checkpoint: bertCheckpoint('bert', BERT_MODULES),
  presets: {
    'bert-base-uncased': { ...BASE, ...uncased },
    'bert-large-uncased': { ...LARGE, ...uncased },
    'bert-large-uncased-whole-word-masking': { ...LARGE, ...uncased },
  },
  schema: bertSchema,
  describe: (json, name) =>
    describeBert(json, name, BERT_MODULES, BERT_OUTPUTS, [
      ['cls.predictions.transform', 'ln_final.hook_normalized'],
    ]),
});
