/**
 * Encoders of BERT's kind (Devlin et al. 2019), which its relatives' are made of: a norm around each half of a layer,
 * hook_resid_mid and hook_resid_post being the sums before; a transform before the decoder.
 */

import * as v from 'valibot';
import type { LayerSpec } from '../block.ts';
import type { Description, EmbeddingSpec, ModelSizes } from '../description.ts';
import type { CheckpointNames } from './family.ts';
import {
  activation,
  commonFields,
  emptyField,
  epsilon,
  forbidden,
  layerModules,
  linearSpec,
  normSpec,
  only,
  positionsField,
  presetSizes,
  size,
  yesNo,
} from './fields.ts';
import { plainSizes } from './plain.ts';

export const bertSchema = v.object({
  ...commonFields,
  max_position_embeddings: v.optional(positionsField, 512),
  type_vocab_size: v.optional(size(2 ** 16), 2),
  layer_norm_eps: epsilon(1e-12),
  hidden_act: activation('gelu'),
  position_embedding_type: only(['absolute'], 'absolute'),
  is_decoder: forbidden,
  add_cross_attention: forbidden,
  pruned_heads: emptyField,
  tie_word_embeddings: yesNo(true),
});

/** What is not refused. */
export type BertJson = Omit<
  v.InferOutput<typeof bertSchema>,
  'position_embedding_type' | 'is_decoder' | 'add_cross_attention' | 'pruned_heads'
>;

/** Where a relative has what BERT has; parts of a layer below the layer. */
export const BERT_MODULES = {
  embeddings: 'bert.embeddings',
  layers: 'bert.encoder.layer',
  q: 'attention.self.query',
  k: 'attention.self.key',
  v: 'attention.self.value',
  out: 'attention.output.dense',
  attentionNorm: 'attention.output.LayerNorm',
  up: 'intermediate.dense',
  down: 'output.dense',
  feedForwardNorm: 'output.LayerNorm',
  dense: 'cls.predictions.transform.dense',
  norm: 'cls.predictions.transform.LayerNorm',
  decoder: 'cls.predictions.decoder',
  /** Of its bias. */
  bias: 'cls.predictions',
};
export type BertModules = typeof BERT_MODULES;

/** Its other modules in a layer; '' is the layer. */
export const BERT_OUTPUTS = {
  'attention.self': 'attn.hook_z',
  'attention.output': 'ln1.hook_normalized',
  attention: 'ln1.hook_normalized',
  intermediate: 'mlp.hook_post',
  'intermediate.intermediate_act_fn': 'mlp.hook_post',
  '': 'hook_normalized_resid_post',
  output: 'hook_normalized_resid_post',
};

/** Names in checkpoints. */
export const bertCheckpoint = (
  root: string,
  { embeddings, decoder, bias }: BertModules,
): CheckpointNames => ({
  prefix: `${root}.`,
  needless: [new RegExp(`^(${root}\\.)?pooler\\.`), /^cls\.seq_relationship\./, /(^|\.)position_ids$/],
  copies: {
    [`${decoder}.weight`]: `${embeddings}.word_embeddings.weight`,
    ...(decoder === bias ? {} : { [`${decoder}.bias`]: `${bias}.bias` }),
  },
  renamed: [
    [/LayerNorm\.gamma$/, 'LayerNorm.weight'],
    [/LayerNorm\.beta$/, 'LayerNorm.bias'],
  ],
});

/** Published sizes. */
export const BASE = presetSizes(768, 3072, 12, 12);
export const LARGE = presetSizes(1024, 4096, 24, 16);

/**
 * BERT's description, which relatives spread.
 * @param json with `type_vocab_size` 0: no token types.
 * @param outputs other modules of a layer, and the hook points at their outputs.
 * @param modules those outside the layers.
 */
export function describeBert(
  json: BertJson,
  name: string,
  at: BertModules,
  outputs: Readonly<Record<string, string>>,
  modules: readonly [string, string][] = [],
): Description {
  const { max_position_embeddings: positions, type_vocab_size: types, layer_norm_eps: eps } = json;
  const sizes = plainSizes(json, name, positions);
  const { hidden, layers, vocabulary } = sizes;
  const table = (kind: string) => `${at.embeddings}.${kind}_embeddings.weight`;
  const norm = (module: string, hook: string) => normSpec('layer', module, hidden, eps, hook);
  const embedding: EmbeddingSpec = {
    word: table('word'),
    position: { weight: table('position'), rows: positions },
    type: types === 0 ? undefined : { weight: table('token_type'), rows: types },
    norm: norm(`${at.embeddings}.LayerNorm`, 'hook_full_embed'),
  };
  const decoder = json.tie_word_embeddings ? embedding.word : `${at.decoder}.weight`;
  return encoder({
    sizes,
    embedding,
    layers: Array.from({ length: layers }, (_, i) => bertLayer(`${at.layers}.${i}`, at, sizes, json)),
    head: {
      transform: {
        dense: linearSpec(at.dense, hidden, hidden, true),
        activation: json.hidden_act,
        norm: norm(at.norm, 'ln_final.hook_normalized'),
      },
      decoder: { weight: decoder, bias: `${at.bias}.bias`, out: vocabulary, in: hidden },
    },
    modules: new Map([
      [at.embeddings, 'hook_full_embed'],
      ...modules,
      ...layerModules(layers, at.layers, outputs),
      ...layerModules(layers, 'blocks', { 'ln2.hook_normalized': 'hook_normalized_resid_post' }),
    ]),
  });
}

/** A layer under the names of `part`, below `at`. */
function bertLayer(
  at: string,
  part: BertModules,
  { hidden, heads, headSize, width }: ModelSizes,
  { layer_norm_eps, hidden_act }: Pick<BertJson, 'layer_norm_eps' | 'hidden_act'>,
): LayerSpec {
  const dense = (module: string, out = hidden, size = hidden) =>
    linearSpec(`${at}.${module}`, out, size, true);
  const norm = (module: string, hook: string) => ({
    around: normSpec('layer', `${at}.${module}`, hidden, layer_norm_eps, hook),
  });
  const [q, k, v, out] = [dense(part.q), dense(part.k), dense(part.v), dense(part.out)];
  const [up, down] = [dense(part.up, width), dense(part.down, hidden, width)];
  return {
    attention: { q, k, v, out, heads, keyHeads: heads, size: headSize },
    feedForward: { activation: hidden_act, up, down },
    norms: {
      attention: norm(part.attentionNorm, 'ln1.hook_normalized'),
      feedForward: norm(part.feedForwardNorm, 'hook_normalized_resid_post'),
    },
  };
}

/** An encoder of these parts, with TransformerLens's names (HookedEncoder) outside the layers, where others stand for them here. */
export function encoder(of: Omit<Description, 'causal'>): Description {
  const { position, type } = of.embedding;
  const modules = new Map([
    ...of.modules,
    ['embed.hook_embed', 'hook_embed'],
    ['embed.ln.hook_normalized', 'hook_full_embed'],
    ['mlm_head.ln.hook_normalized', 'ln_final.hook_normalized'],
  ]);
  if (type) modules.set('embed.hook_token_type_embed', 'hook_token_type_embed');
  if (position) modules.set('embed.hook_pos_embed', 'hook_pos_embed');
  return { ...of, causal: false, modules };
}
