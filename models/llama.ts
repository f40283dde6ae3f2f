/**
 * Llama 2 (Touvron et al. 2023), as Hugging Face `LlamaForCausalLM` computes it: RMS norm before each half of a layer,
 * rotary positions (rotate-half), grouped key/value heads, SwiGLU, tied or separate decoder.
 *
 * Patch points carry the names of TransformerLens's HookedTransformer; hook_q and hook_k are before the rotation, as there.
 */

import {
  add,
  attention,
  type Device,
  gatherRows,
  integers,
  linear,
  linearThen,
  mul,
  normLinear,
  normStatistics,
  type RotaryTable,
  reshape,
  rmsNorm,
  rotary,
  rotaryTable,
  scope,
  silu,
  type Tensor,
  type Then,
} from '../engine/index.ts';
import type { CausalModel, TokenIds, Tokens } from './causal.ts';
import type { LlamaConfig } from './config.ts';
import type { HookTable, Taps } from './hooks.ts';
import {
  type PrefillOptions,
  type Prefix,
  prefill,
  type RowGroup,
  type RowOptions,
  runRows,
} from './kvCache.ts';
import type { LanguageModel, RunResult, Site } from './model.ts';
import { ResidentModel } from './resident.ts';
import type { CheckedInput } from './run.ts';

/** Shapes of all parameters under their current Hugging Face names. */
export function llamaShapes(config: LlamaConfig): Map<string, readonly number[]> {
  const { hidden: H, width: I, heads, keyValueHeads, headSize } = config;
  const shapes = new Map<string, readonly number[]>([['model.embed_tokens.weight', [config.vocabulary, H]]]);
  for (let layer = 0; layer < config.layers; layer++) {
    const at = `model.layers.${layer}`;
    shapes
      .set(`${at}.input_layernorm.weight`, [H])
      .set(`${at}.self_attn.q_proj.weight`, [heads * headSize, H])
      .set(`${at}.self_attn.k_proj.weight`, [keyValueHeads * headSize, H])
      .set(`${at}.self_attn.v_proj.weight`, [keyValueHeads * headSize, H])
      .set(`${at}.self_attn.o_proj.weight`, [H, heads * headSize])
      .set(`${at}.post_attention_layernorm.weight`, [H])
      .set(`${at}.mlp.gate_proj.weight`, [I, H])
      .set(`${at}.mlp.up_proj.weight`, [I, H])
      .set(`${at}.mlp.down_proj.weight`, [H, I]);
  }
  shapes.set('model.norm.weight', [H]);
  if (!config.tied) shapes.set('lm_head.weight', [config.vocabulary, H]);
  return shapes;
}

/** Patch points in forward order, and the Hugging Face modules whose outputs they are. */
export function llamaHooks(layers: number): HookTable {
  const names = ['hook_embed'];
  const aliases = new Map([
    ['model.embed_tokens', 'hook_embed'],
    ['model.norm', 'ln_final.hook_normalized'],
  ]);
  for (let layer = 0; layer < layers; layer++) {
    const at = `blocks.${layer}`;
    const module = `model.layers.${layer}`;
    const point = (name: string, ...modules: string[]): void => {
      names.push(`${at}.${name}`);
      for (const m of modules) aliases.set(`${module}${m}`, `${at}.${name}`);
    };
    point('hook_resid_pre');
    point('ln1.hook_normalized', '.input_layernorm');
    point('attn.hook_q', '.self_attn.q_proj');
    point('attn.hook_k', '.self_attn.k_proj');
    point('attn.hook_v', '.self_attn.v_proj');
    point('attn.hook_pattern');
    point('attn.hook_z');
    point('hook_attn_out', '.self_attn', '.self_attn.o_proj');
    point('hook_resid_mid');
    point('ln2.hook_normalized', '.post_attention_layernorm');
    point('mlp.hook_pre', '.mlp.gate_proj');
    point('mlp.hook_pre_linear', '.mlp.up_proj');
    point('mlp.hook_act', '.mlp.act_fn');
    point('mlp.hook_post');
    point('hook_mlp_out', '.mlp', '.mlp.down_proj');
    point('hook_resid_post', '');
  }
  names.push('ln_final.hook_normalized');
  return { names, aliases };
}

/** The product of some normalised rows and the weight of a name, and what follows it (default nothing). */
type Projection = (weight: string, then?: Then) => Tensor;

export class Llama extends ResidentModel<LlamaConfig> implements LanguageModel, CausalModel {
  readonly architecture = 'llama';
  readonly sites: readonly Site[] = ['pre', 'pre_linear', 'act', 'post'];
  readonly paperSite: Site = 'pre_linear';
  /** The row of each token, while the embedding's weight has those of some tokens only (stream.ts). */
  embeddingRows: ReadonlyMap<number, number> | null = null;
  readonly #rotary: RotaryTable;

  /** Takes over the weights. @param weights under the names of {@link llamaShapes}. */
  constructor(device: Device, config: LlamaConfig, weights: ReadonlyMap<string, Tensor>) {
    super(device, config, weights, llamaHooks(config.layers));
    this.#rotary = rotaryTable(device, config.positions, config.headSize, config.ropeTheta);
  }

  #weight(name: string): Tensor {
    return this.parameters.get(`${name}.weight`)!;
  }

  /** The weights out of a layer's feed-forward, [H, I]. */
  outWeight(layer: number): Tensor {
    return this.#weight(`model.layers.${layer}.mlp.down_proj`);
  }

  #norm(x: Tensor, name: string): Tensor {
    return rmsNorm(x, this.#weight(name), this.sizes.rmsNormEpsilon);
  }

  /** The rows are normalised once, or, where nobody asks for them (`hook`), by each product as it loads them. */
  #normed(x: Tensor, norm: string, hook: string, taps: Taps): Projection {
    if (taps.fusedNorm && !taps.wants(hook)) {
      const [weight, eps] = [this.#weight(norm), this.sizes.rmsNormEpsilon];
      const rows = { kind: 'rms', weight, eps, statistics: normStatistics(x, 'rms', eps) } as const;
      return (name, then) => normLinear(x, rows, this.#weight(name), undefined, then);
    }
    const rows = taps.at(hook, this.#norm(x, norm));
    return (name, then = { op: 'none' }) => linearThen(rows, this.#weight(name), undefined, then);
  }

  forward(input: CheckedInput, taps: Taps): Tensor {
    const tokens = taps.shared(() => this.tokens(input));
    return this.through(0, this.embed(input, taps), taps, (layer, x) => this.layer(layer, x, tokens(), taps));
  }

  /** The tokens of a whole prompt, which attend to those before them. */
  tokens({ rows, length, ids, mask, positionIds }: CheckedInput): Tokens {
    const keyMask = mask && integers(this.device, mask, [rows, length]);
    const attend: Tokens['attend'] = (_, q, k, v, onPattern, fused) =>
      attention(q, k, v, {
        causal: true,
        ...(keyMask ? { keyMask } : {}),
        ...(fused === undefined ? {} : { fused }),
        ...(fused === false ? { onPattern } : {}),
      });
    const positions = integers(this.device, positionIds ?? ids.map((_, i) => i % length));
    return { positions, attend, ...(keyMask ? { keyMask } : {}) };
  }

  /** Keys and values of some tokens, after those of `prefix` where one is given (see kvCache.ts). @throws UserError */
  prefill(ids: readonly number[], options: PrefillOptions = {}): Prefix {
    return prefill(this, ids, options);
  }

  /** Runs one token a row, each after the shared prefix of its prompt (see kvCache.ts). @throws UserError */
  runRows(rows: RowGroup | readonly RowGroup[], options: RowOptions = {}): RunResult {
    return runRows(this, 'prefix' in rows ? [rows] : rows, options);
  }

  /** The residual before layer 0 [rows, length, H]. */
  embed({ rows, length, ids }: TokenIds, taps: Taps): Tensor {
    this.checkAlive();
    const row = this.embeddingRows;
    const at = row && !('dtype' in ids) ? ids.map((id) => row.get(id)!) : ids;
    return scope(() =>
      taps.at(
        'hook_embed',
        reshape(gatherRows(this.#weight('model.embed_tokens'), at), [rows, length, this.sizes.hidden]),
      ),
    );
  }

  /** Layers from `from` on; takes over `residual`. */
  layers(from: number, residual: Tensor, tokens: Tokens, taps: Taps): Tensor {
    return this.through(from, residual, taps, (layer, x) => this.layer(layer, x, tokens, taps));
  }

  /** One layer, whatever the tokens attend to: full runs, prefill and rows behind a cache differ there only. */
  layer(layer: number, input: Tensor, tokens: Tokens, taps: Taps): Tensor {
    const { heads, headSize } = this.sizes;
    const module = `model.layers.${layer}`;
    const at = (name: string, value: Tensor) => taps.at(`blocks.${layer}.${name}`, value);
    const x = at('hook_resid_pre', input);
    const [rows, length] = x.shape as [number, number];
    const normed = this.#attentionNorm(layer, x, taps);
    const q = rotary(at('attn.hook_q', this.#byHead(x, layer, 'q', normed)), tokens.positions, this.#rotary);
    const [k, v] = this.#keysAndValues(layer, x, normed, tokens, taps);
    const z = tokens.attend(
      layer,
      q,
      k,
      v,
      (pattern) => at('attn.hook_pattern', pattern),
      taps.fusedAttention,
    );
    const joined = reshape(at('attn.hook_z', z), [rows, length, heads * headSize]);
    const residual = (name: string, to: Tensor, from: Tensor, weight: string): Tensor =>
      taps.wants(`blocks.${layer}.${name}`)
        ? add(to, at(name, linear(from, this.#weight(`${module}.${weight}`))))
        : linearThen(from, this.#weight(`${module}.${weight}`), undefined, { op: 'add', with: to });
    const middle = at('hook_resid_mid', residual('hook_attn_out', x, joined, 'self_attn.o_proj'));
    const again = this.#normed(
      middle,
      `${module}.post_attention_layernorm`,
      `blocks.${layer}.ln2.hook_normalized`,
      taps,
    );
    const gate = at('mlp.hook_pre', again(`${module}.mlp.gate_proj`));
    const upward = `${module}.mlp.up_proj`;
    // One kernel where nobody asks for what lies between.
    const apart = ['mlp.hook_pre_linear', 'mlp.hook_act'].some((name) =>
      taps.wants(`blocks.${layer}.${name}`),
    );
    const product = (): Tensor => {
      if (!apart) return again(upward, { op: 'swiglu', with: gate });
      const up = at('mlp.hook_pre_linear', again(upward));
      return mul(at('mlp.hook_act', silu(gate)), up);
    };
    const post = at('mlp.hook_post', product());
    return at('hook_resid_post', residual('hook_mlp_out', middle, post, 'mlp.down_proj'));
  }

  /** Keys, turned by their positions, and values of a layer's input, [rows, length, keyValueHeads, headSize]. */
  keysAndValues(layer: number, input: Tensor, tokens: Tokens, taps: Taps): [Tensor, Tensor] {
    return this.#keysAndValues(layer, input, this.#attentionNorm(layer, input, taps), tokens, taps);
  }

  #keysAndValues(
    layer: number,
    input: Tensor,
    normed: Projection,
    tokens: Tokens,
    taps: Taps,
  ): [Tensor, Tensor] {
    const at = (name: string, value: Tensor) => taps.at(`blocks.${layer}.attn.${name}`, value);
    return [
      rotary(at('hook_k', this.#byHead(input, layer, 'k', normed)), tokens.positions, this.#rotary),
      at('hook_v', this.#byHead(input, layer, 'v', normed)),
    ];
  }

  #attentionNorm(layer: number, input: Tensor, taps: Taps): Projection {
    return this.#normed(
      input,
      `model.layers.${layer}.input_layernorm`,
      `blocks.${layer}.ln1.hook_normalized`,
      taps,
    );
  }

  #byHead(input: Tensor, layer: number, part: 'q' | 'k' | 'v', normed: Projection): Tensor {
    const { heads, keyValueHeads, headSize } = this.sizes;
    return reshape(normed(`model.layers.${layer}.self_attn.${part}_proj`), [
      ...input.shape.slice(0, -1),
      part === 'q' ? heads : keyValueHeads,
      headSize,
    ]);
  }

  head(rows: Tensor, taps: Taps, shape: readonly number[]): Tensor {
    const normal = this.#norm(rows, 'model.norm');
    return shape.length === 3 ? taps.at('ln_final.hook_normalized', reshape(normal, shape)) : normal;
  }

  decode(rows: Tensor): Tensor {
    return linear(rows, this.#weight(this.sizes.tied ? 'model.embed_tokens' : 'lm_head'));
  }

  /** Frees the weights and the table of positions. */
  override dispose(): void {
    super.dispose();
    this.#rotary.cosine.dispose();
    this.#rotary.sine.dispose();
  }
}
