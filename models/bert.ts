/**
 * BERT for masked language modelling (Devlin et al. 2019), as Hugging Face `BertForMaskedLM` computes it: base, large and
 * whole-word masking differ in sizes alone.
 *
 * Post-norm: each half of a layer adds to its input and normalises the sum. Patch points carry the names of
 * TransformerLens's HookedEncoder, where resid_mid and resid_post are the sums before their layer norms.
 */

import {
  add,
  attention,
  type Device,
  gatherRows,
  gelu,
  integers,
  layerNorm,
  linear,
  linearThen,
  reshape,
  scope,
  type Tensor,
  type Then,
} from '../engine/index.ts';
import type { BertConfig } from './config.ts';
import type { HookTable, Taps } from './hooks.ts';
import type { LanguageModel, Site } from './model.ts';
import { ResidentModel } from './resident.ts';
import type { CheckedInput } from './run.ts';

/** Shapes of all parameters under their current Hugging Face names. */
export function bertShapes(config: BertConfig): Map<string, readonly number[]> {
  const { hidden: H, width: I } = config;
  const shapes = new Map<string, readonly number[]>();
  const dense = (name: string, out: number, input: number): void => {
    shapes.set(`${name}.weight`, [out, input]).set(`${name}.bias`, [out]);
  };
  const norm = (name: string): void => {
    shapes.set(`${name}.weight`, [H]).set(`${name}.bias`, [H]);
  };
  shapes.set('bert.embeddings.word_embeddings.weight', [config.vocabulary, H]);
  shapes.set('bert.embeddings.position_embeddings.weight', [config.positions, H]);
  shapes.set('bert.embeddings.token_type_embeddings.weight', [config.tokenTypes, H]);
  norm('bert.embeddings.LayerNorm');
  for (let layer = 0; layer < config.layers; layer++) {
    const at = `bert.encoder.layer.${layer}`;
    for (const part of ['query', 'key', 'value']) dense(`${at}.attention.self.${part}`, H, H);
    dense(`${at}.attention.output.dense`, H, H);
    norm(`${at}.attention.output.LayerNorm`);
    dense(`${at}.intermediate.dense`, I, H);
    dense(`${at}.output.dense`, H, I);
    norm(`${at}.output.LayerNorm`);
  }
  dense('cls.predictions.transform.dense', H, H);
  norm('cls.predictions.transform.LayerNorm');
  if (!config.tied) shapes.set('cls.predictions.decoder.weight', [config.vocabulary, H]);
  shapes.set('cls.predictions.bias', [config.vocabulary]);
  return shapes;
}

/** Patch points in forward order, and the Hugging Face modules whose outputs they are. */
export function bertHooks(layers: number): HookTable {
  const names = ['hook_embed', 'hook_full_embed'];
  const aliases = new Map([
    ['bert.embeddings.word_embeddings', 'hook_embed'],
    ['bert.embeddings', 'hook_full_embed'],
    ['cls.predictions.transform', 'ln_final.hook_normalized'],
  ]);
  for (let layer = 0; layer < layers; layer++) {
    const at = `blocks.${layer}`;
    const module = `bert.encoder.layer.${layer}`;
    const point = (name: string, ...modules: string[]): void => {
      names.push(`${at}.${name}`);
      for (const m of modules) aliases.set(`${module}${m}`, `${at}.${name}`);
    };
    point('hook_resid_pre');
    point('attn.hook_q', '.attention.self.query');
    point('attn.hook_k', '.attention.self.key');
    point('attn.hook_v', '.attention.self.value');
    point('attn.hook_pattern');
    point('attn.hook_z', '.attention.self');
    point('hook_attn_out', '.attention.output.dense');
    point('hook_resid_mid');
    point('ln1.hook_normalized', '.attention.output', '.attention.output.LayerNorm', '.attention');
    point('mlp.hook_pre', '.intermediate.dense');
    point('mlp.hook_post', '.intermediate', '.intermediate.intermediate_act_fn');
    point('hook_mlp_out', '.output.dense');
    point('hook_resid_post');
    point('hook_normalized_resid_post', '', '.output', '.output.LayerNorm');
  }
  names.push('ln_final.hook_normalized');
  return { names, aliases };
}

/** Which tokens there are, and which are wanted of the last layer. */
export interface BertTokens {
  /** u32 [rows, length]: 0 hides a token. */
  readonly keyMask?: Tensor;
  /** One token a row, as row * length + position: all that the last layer works out after its keys and values. */
  readonly read?: readonly number[];
}

export class Bert extends ResidentModel<BertConfig> implements LanguageModel {
  readonly architecture = 'bert';
  readonly sites: readonly Site[] = ['pre', 'post'];
  readonly paperSite: Site = 'post';
  readonly canReadOne = true;

  /** Takes over the weights. @param weights under the names of {@link bertShapes}. */
  constructor(device: Device, config: BertConfig, weights: ReadonlyMap<string, Tensor>) {
    super(device, config, weights, bertHooks(config.layers));
  }

  #weight(name: string): Tensor {
    return this.parameters.get(name)!;
  }

  /** The weights out of a layer's feed-forward, [H, I]. */
  outWeight(layer: number): Tensor {
    return this.#weight(`bert.encoder.layer.${layer}.output.dense.weight`);
  }

  #dense(x: Tensor, name: string): Tensor {
    return linear(x, this.#weight(`${name}.weight`), this.#weight(`${name}.bias`));
  }

  #norm(x: Tensor, name: string): Tensor {
    return layerNorm(
      x,
      this.#weight(`${name}.weight`),
      this.#weight(`${name}.bias`),
      this.sizes.layerNormEpsilon,
    );
  }

  /** A dense layer and what follows it, in one kernel where nobody asks for the value between. */
  #denseThen(x: Tensor, name: string, between: string, taps: Taps, then: Then): Tensor {
    if (!taps.wants(between))
      return linearThen(x, this.#weight(`${name}.weight`), this.#weight(`${name}.bias`), then);
    const y = taps.at(between, this.#dense(x, name));
    return 'with' in then ? add(then.with, y) : gelu(y);
  }

  forward(input: CheckedInput, taps: Taps): Tensor {
    const { rows, length, mask, read } = input;
    const tokens = taps.shared(
      (): BertTokens => ({
        ...(mask ? { keyMask: integers(this.device, mask, [rows, length]) } : {}),
        ...(read ? { read } : {}),
      }),
    );
    return this.through(0, this.#embed(input, taps), taps, (layer, x) =>
      this.layer(layer, x, taps, tokens()),
    );
  }

  #embed(input: CheckedInput, taps: Taps): Tensor {
    const { rows, length } = input;
    const { hidden } = this.sizes;
    return scope(() => {
      const lookUp = (name: string, ids: readonly number[]) =>
        reshape(gatherRows(this.#weight(`bert.embeddings.${name}.weight`), ids), [rows, length, hidden]);
      const position = input.positionIds ?? input.ids.map((_, i) => i % length);
      const words = taps.at('hook_embed', lookUp('word_embeddings', input.ids));
      const types = lookUp('token_type_embeddings', input.tokenTypeIds ?? input.ids.map(() => 0));
      const sum = add(add(words, types), lookUp('position_embeddings', position));
      return taps.at('hook_full_embed', this.#norm(sum, 'bert.embeddings.LayerNorm'));
    });
  }

  /** One layer, [rows, length, H] to the same; the last one to [rows, 1, H] where the tokens say which are read. */
  layer(layer: number, input: Tensor, taps: Taps, { keyMask, read }: BertTokens = {}): Tensor {
    const { heads, headSize, hidden } = this.sizes;
    const module = `bert.encoder.layer.${layer}`;
    const at = (name: string, value: Tensor) => taps.at(`blocks.${layer}.${name}`, value);
    const x = at('hook_resid_pre', input);
    const [rows, length] = x.shape as [number, number];
    const asking =
      read && layer === this.sizes.layers - 1
        ? reshape(gatherRows(reshape(x, [rows * length, hidden]), read), [rows, 1, hidden])
        : x;
    const byHead = (of: Tensor, part: string) =>
      reshape(this.#dense(of, `${module}.attention.self.${part}`), [rows, of.dim(1), heads, headSize]);
    const fused = taps.fusedAttention;
    const z = attention(
      at('attn.hook_q', byHead(asking, 'query')),
      at('attn.hook_k', byHead(x, 'key')),
      at('attn.hook_v', byHead(x, 'value')),
      {
        ...(keyMask ? { keyMask } : {}),
        ...(fused === undefined ? {} : { fused }),
        ...(fused === false ? { onPattern: (pattern: Tensor) => at('attn.hook_pattern', pattern) } : {}),
      },
    );
    const joined = reshape(at('attn.hook_z', z), [rows, asking.dim(1), heads * headSize]);
    const dense = (from: Tensor, name: string, between: string, then: Then) =>
      this.#denseThen(from, `${module}.${name}.dense`, `blocks.${layer}.${between}`, taps, then);
    const middle = at(
      'hook_resid_mid',
      dense(joined, 'attention.output', 'hook_attn_out', { op: 'add', with: asking }),
    );
    const normalised = at('ln1.hook_normalized', this.#norm(middle, `${module}.attention.output.LayerNorm`));
    const post = at('mlp.hook_post', dense(normalised, 'intermediate', 'mlp.hook_pre', { op: 'gelu' }));
    const sum = dense(post, 'output', 'hook_mlp_out', { op: 'add', with: normalised });
    return this.leave(layer, at('hook_resid_post', sum), taps);
  }

  /** From the sum after a layer's feed-forward to what the next one reads. */
  leave(layer: number, sum: Tensor, taps: Taps): Tensor {
    const normal = this.#norm(sum, `bert.encoder.layer.${layer}.output.LayerNorm`);
    return taps.at(`blocks.${layer}.hook_normalized_resid_post`, normal);
  }

  head(rows: Tensor, taps: Taps, shape: readonly number[]): Tensor {
    const dense = gelu(this.#dense(rows, 'cls.predictions.transform.dense'));
    const normal = this.#norm(dense, 'cls.predictions.transform.LayerNorm');
    return shape.length === 3 ? taps.at('ln_final.hook_normalized', reshape(normal, shape)) : normal;
  }

  decode(rows: Tensor): Tensor {
    const tied = this.sizes.tied;
    const decoder = this.#weight(
      tied ? 'bert.embeddings.word_embeddings.weight' : 'cls.predictions.decoder.weight',
    );
    return linear(rows, decoder, this.#weight('cls.predictions.bias'));
  }
}
