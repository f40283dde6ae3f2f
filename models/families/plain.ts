/**
 * Models of GPT's kind (Radford et al. 2019): layer norms before each half of a layer, as many keys as queries; decoders, unless a
 * family makes an encoder of them.
 */

import type { AttentionSpec, LayerSpec } from '../block.ts';
import type { Description } from '../description.ts';
import type { ModelSizes } from '../model.ts';
import { causalFields, commonFields, decoderSpec, divides, layerModules, normSpec } from './fields.ts';

export const plainFields = { ...commonFields, ...causalFields };

/** Their names in a checkpoint. */
export interface PlainNames {
  readonly word: string;
  /** Of the table of positions. */
  readonly position?: string;
  /** Of layers. */
  readonly list: string;
  /** Modules in a layer: attention, and the norms of both halves. */
  readonly attention: string;
  readonly norms: readonly [attention: string, feedForward: string];
  readonly lastNorm: string;
}

/** What such a model has of its own besides names and sizes. */
export interface PlainParts {
  readonly eps: number;
  readonly tied: boolean;
  /** Whether norms have one, as they do by default. */
  readonly normBias?: boolean;
  /** See LayerSpec. */
  readonly parallel?: boolean;
  /** The maps of the layer of that name. */
  readonly layer: (
    at: string,
    number: number,
  ) => {
    readonly attention: Omit<AttentionSpec, 'heads' | 'keyHeads' | 'size'>;
    readonly feedForward: LayerSpec['feedForward'];
  };
}

/** @throws UserError where heads do not divide the hidden size. */
export function plainSizes(
  json: { readonly [Field in keyof typeof commonFields]: number },
  name: string,
  positions: number,
): ModelSizes {
  const { hidden_size: hidden, num_attention_heads: heads } = json;
  divides(name, 'hidden_size', hidden, 'num_attention_heads', heads);
  return {
    layers: json.num_hidden_layers,
    hidden,
    width: json.intermediate_size,
    heads,
    keyValueHeads: heads,
    headSize: hidden / heads,
    vocabulary: json.vocab_size,
    positions,
  };
}

export function describePlain(
  sizes: ModelSizes,
  names: PlainNames,
  { eps, tied, normBias, parallel, layer }: PlainParts,
): Description {
  const { layers, hidden, heads, headSize, vocabulary, positions } = sizes;
  const norm = (module: string, hook: string) =>
    normSpec('layer', module, hidden, eps, `${hook}.hook_normalized`, normBias);
  const specs = Array.from({ length: layers }, (_, i): LayerSpec => {
    const at = `${names.list}.${i}`;
    const { attention, feedForward } = layer(at, i);
    return {
      attention: { ...attention, heads, keyHeads: heads, size: headSize },
      feedForward,
      norms: {
        attention: { before: norm(`${at}.${names.norms[0]}`, 'ln1') },
        feedForward: { before: norm(`${at}.${names.norms[1]}`, 'ln2') },
      },
      parallel,
    };
  });
  return {
    sizes,
    causal: true,
    embedding: {
      word: names.word,
      ...(names.position ? { position: { weight: names.position, rows: positions } } : {}),
    },
    layers: specs,
    head: {
      norm: norm(names.lastNorm, 'ln_final'),
      decoder: decoderSpec(vocabulary, hidden, tied && names.word),
    },
    modules: layerModules(layers, names.list, {
      [names.attention]: 'hook_attn_out',
      'mlp.act': specs[0]?.feedForward.gate ? 'mlp.hook_act' : 'mlp.hook_post',
      mlp: 'hook_mlp_out',
      '': 'hook_resid_post',
    }),
  };
}
