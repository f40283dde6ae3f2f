/**
 * RoBERTa (Liu et al. 2019), XLM-RoBERTa (Conneau et al. 2020) and CamemBERT (Martin et al. 2020), as Hugging Face
 * `RobertaForMaskedLM` computes them: BERT with positions that begin behind the padding token's id, and exact GELU in the head.
 */

import * as v from 'valibot';
import { UserError } from '../../engine/errors.ts';
import type { Description } from '../description.ts';
import {
  BASE,
  BERT_MODULES,
  BERT_OUTPUTS,
  type BertModules,
  bertCheckpoint,
  bertSchema,
  describeBert,
  LARGE,
} from './encoder.ts';
import { type Family, family } from './family.ts';

const MODULES: BertModules = {
  ...BERT_MODULES,
  embeddings: 'roberta.embeddings',
  layers: 'roberta.encoder.layer',
  dense: 'lm_head.dense',
  norm: 'lm_head.layer_norm',
  decoder: 'lm_head.decoder',
  bias: 'lm_head',
};

const idMessage = 'must be a token id';
const schema = v.object({
  ...bertSchema.entries,
  /** Null would leave the positions without a beginning. */
  pad_token_id: v.optional(v.pipe(v.number(idMessage), v.integer(idMessage), v.minValue(0, idMessage)), 1),
});

/** The relatives differ in name alone. */
const relative = (type: string, architecture: string, presets: Family['presets']): Family =>
  family({ type, architecture, checkpoint: bertCheckpoint('roberta', MODULES), presets, schema, describe });

function describe(json: v.InferOutput<typeof schema>, name: string): Description {
  const { pad_token_id: padding, max_position_embeddings: rows, vocab_size: vocabulary } = json;
  const first = padding + 1;
  const wrong =
    padding >= vocabulary
      ? `is outside the vocabulary, 0..${vocabulary - 1}`
      : first >= rows && `leaves no positions of max_position_embeddings ${rows}, which begin behind it`;
  if (wrong) throw new UserError('config', `${name}: pad_token_id ${padding} ${wrong}`);
  const bert = describeBert(json, name, MODULES, BERT_OUTPUTS);
  return {
    ...bert,
    sizes: { ...bert.sizes, positions: rows - first },
    embedding: { ...bert.embedding, position: { ...bert.embedding.position!, first, padding } },
    head: { ...bert.head, transform: { ...bert.head.transform!, activation: 'gelu' } },
  };
}

const published = {
  max_position_embeddings: 514,
  type_vocab_size: 1,
  layer_norm_eps: 1e-5,
  pad_token_id: 1,
  bos_token_id: 0,
  eos_token_id: 2,
};

export const roberta: Family = relative('roberta', 'RobertaForMaskedLM', {
  'roberta-base': { ...BASE, ...published, vocab_size: 50265 },
  'roberta-large': { ...LARGE, ...published, vocab_size: 50265 },
});
export const xlmRoberta: Family = relative('xlm-roberta', 'XLMRobertaForMaskedLM', {
  'xlm-roberta-base': { ...BASE, ...published, vocab_size: 250002 },
});
export const camembert: Family = relative('camembert', 'CamembertForMaskedLM', {
  'camembert-base': { ...BASE, ...published, vocab_size: 32005, bos_token_id: 5, eos_token_id: 6 },
});
