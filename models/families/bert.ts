/**
 * BERT for masked language modelling (Devlin et al. 2019), as Hugging Face `BertForMaskedLM` computes it: base, large and
 * whole-word masking differ in sizes alone. A norm around each half; hook_resid_mid and hook_resid_post are the sums before.
 */

import * as v from 'valibot';
import type { LayerSpec } from '../block.ts';
import type { Description } from '../description.ts';
import { family } from './family.ts';
import {
  activation,
  commonFields,
  divides,
  epsilon,
  forbidden,
  linearSpec,
  normSpec,
  only,
  positionsField,
  size,
  yesNo,
} from './fields.ts';

export const bert = family({
  type: 'bert',
  architecture: 'BertForMaskedLM',
  checkpoint: {
    prefix: 'bert.',
    needless: [/^(bert\.)?pooler\./, /^cls\.seq_relationship\./, /(^|\.)position_ids$/],
    copies: {
      'cls.predictions.decoder.bias': 'cls.predictions.bias',
      'cls.predictions.decoder.weight': 'bert.embeddings.word_embeddings.weight',
    },
    renamed: [
      [/LayerNorm\.gamma$/, 'LayerNorm.weight'],
      [/LayerNorm\.beta$/, 'LayerNorm.bias'],
    ],
  },
  presets: {},
  schema: v.object({
    ...commonFields,
    max_position_embeddings: v.nullish(positionsField, 512),
    type_vocab_size: v.nullish(size(2 ** 16), 2),
    layer_norm_eps: epsilon(1e-12),
    hidden_act: activation('gelu'),
    position_embedding_type: only(['absolute'], 'absolute'),
    is_decoder: forbidden,
    tie_word_embeddings: yesNo(true),
  }),
  describe(json, name): Description {
    const { hidden_size: hidden, num_attention_heads: heads, layer_norm_eps: eps, hidden_act } = json;
    divides(name, 'hidden_size', hidden, 'num_attention_heads', heads);
    const norm = (module: string, hook: string) => normSpec('layer', module, hidden, eps, hook);
    const embeddings = 'bert.embeddings';
    const transform = 'cls.predictions.transform';
    const word = `${embeddings}.word_embeddings.weight`;
    return {
      sizes: {
        layers: json.num_hidden_layers,
        hidden,
        width: json.intermediate_size,
        heads,
        keyValueHeads: heads,
        headSize: hidden / heads,
        vocabulary: json.vocab_size,
        positions: json.max_position_embeddings,
      },
      causal: false,
      embedding: {
        word,
        position: { weight: `${embeddings}.position_embeddings.weight`, rows: json.max_position_embeddings },
        type: { weight: `${embeddings}.token_type_embeddings.weight`, rows: json.type_vocab_size },
        norm: norm(`${embeddings}.LayerNorm`, 'hook_full_embed'),
      },
      layers: Array.from({ length: json.num_hidden_layers }, (_, i) =>
        bertLayer(`bert.encoder.layer.${i}`, {
          hidden,
          heads,
          width: json.intermediate_size,
          eps,
          activation: hidden_act,
        }),
      ),
      head: {
        transform: {
          dense: linearSpec(`${transform}.dense`, hidden, hidden, true),
          activation: hidden_act,
          norm: norm(`${transform}.LayerNorm`, 'ln_final.hook_normalized'),
        },
        decoder: {
          weight: json.tie_word_embeddings ? word : 'cls.predictions.decoder.weight',
          bias: 'cls.predictions.bias',
          out: json.vocab_size,
          in: hidden,
        },
      },
      modules: new Map([
        [embeddings, 'hook_full_embed'],
        [transform, 'ln_final.hook_normalized'],
        ...bertModules(json.num_hidden_layers),
      ]),
    };
  },
});

/** What BERT's layers and their relatives' are made of. */
export interface BertSizes {
  readonly hidden: number;
  readonly heads: number;
  readonly width: number;
  readonly eps: number;
  readonly activation: LayerSpec['feedForward']['activation'];
}

/** A layer under BERT's names. */
export function bertLayer(at: string, { hidden, heads, width, eps, activation }: BertSizes): LayerSpec {
  const dense = (module: string, out: number, size: number) => linearSpec(`${at}.${module}`, out, size, true);
  const norm = (module: string, hook: string) => normSpec('layer', `${at}.${module}`, hidden, eps, hook);
  return {
    attention: {
      q: dense('attention.self.query', hidden, hidden),
      k: dense('attention.self.key', hidden, hidden),
      v: dense('attention.self.value', hidden, hidden),
      out: dense('attention.output.dense', hidden, hidden),
      heads,
      keyHeads: heads,
      size: hidden / heads,
    },
    feedForward: {
      activation,
      up: dense('intermediate.dense', width, hidden),
      down: dense('output.dense', hidden, width),
    },
    norms: {
      attention: { around: norm('attention.output.LayerNorm', 'ln1.hook_normalized') },
      feedForward: { around: norm('output.LayerNorm', 'hook_normalized_resid_post') },
    },
  };
}

/** The other modules of those layers, below `encoder`. */
export function bertModules(layers: number, encoder = 'bert.encoder'): [string, string][] {
  return Array.from({ length: layers }, (_, i): [string, string][] => {
    const [module, at] = [`${encoder}.layer.${i}`, `blocks.${i}`];
    return [
      [`${module}.attention.self`, `${at}.attn.hook_z`],
      [`${module}.attention.output`, `${at}.ln1.hook_normalized`],
      [`${module}.attention`, `${at}.ln1.hook_normalized`],
      [`${module}.intermediate`, `${at}.mlp.hook_post`],
      [`${module}.intermediate.intermediate_act_fn`, `${at}.mlp.hook_post`],
      [module, `${at}.hook_normalized_resid_post`],
      [`${module}.output`, `${at}.hook_normalized_resid_post`],
    ];
  }).flat();
}
