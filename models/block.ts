/**
 * A transformer, written once: a layer and the head as functions over a few words.
 *
 * What differs between families is data, the specs below, which a family makes of its `config.json`. What a word does is its
 * interpreter's business: tensors (words.ts), changes of values (neurgrad/difference/words.ts), names and widths
 * (description.ts), sizes (cost.ts). The blocks are those of Vaswani et al. 2017 with norms after each half, of GPT-2 and Llama
 * with norms before, of Gemma 2 with both, and of GPT-J and GPT-NeoX with both halves on one input.
 */

import type { ActivationName } from '../kernels/activation.ts';

/** y = W x + b. */
export interface LinearSpec {
  /** Parameter W [out, in]. */
  readonly weight: string;
  /** Parameter b [out], where there is one. */
  readonly bias?: string | undefined;
  readonly out: number;
  readonly in: number;
  /** Where the checkpoint keeps W and b otherwise than as tensors of these shapes. */
  readonly stored?: StoredRows | undefined;
}

/** Rows of a stored tensor that several parameters share, or one that is stored the other way round. */
export interface StoredRows {
  /** Runs of rows, first and count, that make up W (and b) one after the other. */
  readonly rows: readonly (readonly [first: number, count: number])[];
  /** Rows of the stored tensor. */
  readonly of: number;
  /** W is stored as [in, of] (Conv1D of GPT-2). */
  readonly transposed?: boolean | undefined;
}

export interface NormSpec {
  /** Layer norm; RMS norm; RMS norm whose weight counts from 1 (Gemma). */
  readonly kind: 'layer' | 'rms' | 'rms1';
  readonly weight: string;
  readonly bias?: string | undefined;
  /** Numbers that are normalised together: a row, or for norms of queries and keys perhaps a head. */
  readonly size: number;
  readonly eps: number;
  /** Hook name of its result. */
  readonly hook: string;
}

export interface AttentionSpec {
  readonly q: LinearSpec;
  readonly k: LinearSpec;
  readonly v: LinearSpec;
  readonly out: LinearSpec;
  readonly heads: number;
  /** Key/value heads; `heads` is a multiple of them. */
  readonly keyHeads: number;
  /** Of a head. */
  readonly size: number;
  /** What q . k is multiplied by; default 1 / sqrt(size). */
  readonly scale?: number | undefined;
  /** A query at column s sees the keys from s - before to s + after. */
  readonly window?: { readonly before: number; readonly after: number } | undefined;
  /** Scores s become cap tanh(s / cap). */
  readonly cap?: number | undefined;
  /** Angle a position of each pair of dimensions of q and k (the first half with the second) that is rotated. */
  readonly rotary?: Float64Array | undefined;
  readonly norms?: { readonly q: NormSpec; readonly k: NormSpec } | undefined;
}

/** down(act(up(x))), or down(act(gate(x)) up(x)). */
export interface FeedForwardSpec {
  readonly activation: ActivationName;
  readonly gate?: LinearSpec | undefined;
  readonly up: LinearSpec;
  readonly down: LinearSpec;
}

/** Norms of a half of a layer: of its input, of its output, of the sum of both. */
export interface HalfNorms {
  readonly before?: NormSpec | undefined;
  readonly after?: NormSpec | undefined;
  readonly around?: NormSpec | undefined;
}

export interface LayerSpec {
  readonly attention: AttentionSpec;
  readonly feedForward: FeedForwardSpec;
  readonly norms: { readonly attention: HalfNorms; readonly feedForward: HalfNorms };
  /** Both halves read the layer's input (GPT-NeoX). */
  readonly parallel?: boolean | undefined;
  /** `hook_attn_out` and `hook_mlp_out` are the outputs after their norms, `hook_attn_raw` and `hook_mlp_raw` before (Gemma). */
  readonly outputsNormed?: boolean | undefined;
}

export interface HeadSpec {
  /** Of the residual. */
  readonly norm?: NormSpec | undefined;
  /** What encoders have before the decoder. */
  readonly transform?:
    | { readonly dense: LinearSpec; readonly activation: ActivationName; readonly norm: NormSpec }
    | undefined;
  readonly decoder: LinearSpec;
  /** Logits s become cap tanh(s / cap). */
  readonly cap?: number | undefined;
}

/** The words; V is what they take and give: a value of some tokens. */
export interface Words<V> {
  /** A hook point: what flows on from it. */
  at(hook: string, x: V): V;
  /** The product; x of heads counts as their sizes joined. */
  linear(x: V, map: LinearSpec): V;
  norm(x: V, norm: NormSpec): V;
  /** `slot` names x among the values that the difference of this is worked out from. */
  activate(x: V, activation: ActivationName, slot: string): V;
  /** act(gate) up, with the hook point `mlp.hook_act` on act(gate). */
  gated(gate: V, up: V, activation: ActivationName): V;
  add(x: V, y: V): V;
  /** As `count` heads. */
  split(x: V, count: number, size: number): V;
  /** Heads turned by their tokens' positions. */
  rotate(x: V, rotary: Float64Array): V;
  /** Softmax of q . k over the keys that each query sees, times v, with the hook point `attn.hook_pattern`. */
  attend(q: V, k: V, v: V, attention: AttentionSpec): V;
  /** cap tanh(x / cap) */
  cap(x: V, cap: number): V;
  /** The tokens that are wanted of this layer, where not all are. */
  asked(x: V): V;
  /** The same of what queries are made of, where this attention can do with those. */
  queries(x: V, attention: AttentionSpec): V;
}

/** A word by which a value stays as it is. */
export const same = <V>(x: V): V => x;

/** A layer whose feed-forward's product has not been added yet. */
export interface Body<V> {
  readonly residual: V;
  readonly product: V;
}

/** A layer, from the residual before it to the one that the next layer reads. */
export function layer<V>(words: Words<V>, spec: LayerSpec, input: V): V {
  const { residual, product } = body(words, spec, input);
  return leave(words, spec, words.add(residual, enter(words, spec, product)));
}

/** A layer up to the product of its output weights, where a change of a neuron enters. */
export function body<V>(words: Words<V>, spec: LayerSpec, input: V): Body<V> {
  const { attention, norms, parallel } = spec;
  const x = words.at('hook_resid_pre', input);
  const z = words.at('attn.hook_z', mixed(words, attention, before(words, norms.attention, x)));
  const attended = output(words, spec, 'attn', norms.attention, words.linear(z, attention.out));
  const asked = words.asked(x);
  const sum = words.add(asked, attended);
  if (parallel)
    return { residual: sum, product: feedForward(words, spec, before(words, norms.feedForward, asked)) };
  const middle = around(words, norms.attention, words.at('hook_resid_mid', sum));
  return { residual: middle, product: feedForward(words, spec, before(words, norms.feedForward, middle)) };
}

/** From the product of the output weights to what is added to the residual. */
export const enter = <V>(words: Words<V>, spec: LayerSpec, product: V): V =>
  output(words, spec, 'mlp', spec.norms.feedForward, product);

/** From the sum after the feed-forward to what the next layer reads. */
export const leave = <V>(words: Words<V>, spec: LayerSpec, sum: V): V =>
  around(words, spec.norms.feedForward, words.at('hook_resid_post', sum));

/** Keys, turned by their positions, and values of a layer's input. */
export function keysAndValues<V>(words: Words<V>, { attention, norms }: LayerSpec, input: V): [V, V] {
  return keysAndValuesOf(words, attention, before(words, norms.attention, input));
}

/** From the residual to what the decoder reads. */
export function finish<V>(words: Words<V>, { norm, transform }: HeadSpec, residual: V): V {
  const x = norm ? normed(words, norm, residual) : residual;
  if (!transform) return x;
  const { dense, activation, norm: last } = transform;
  return normed(words, last, words.activate(words.linear(x, dense), activation, 'dense'));
}

/** Logits of what {@link finish} gives. */
export function decode<V>(words: Words<V>, { decoder, cap }: HeadSpec, x: V): V {
  const logits = words.linear(x, decoder);
  return cap === undefined ? logits : words.cap(logits, cap);
}

const normed = <V>(words: Words<V>, norm: NormSpec, x: V): V => words.at(norm.hook, words.norm(x, norm));
const before = <V>(words: Words<V>, { before: norm }: HalfNorms, x: V): V =>
  norm ? normed(words, norm, x) : x;
const around = <V>(words: Words<V>, { around: norm }: HalfNorms, x: V): V =>
  norm ? normed(words, norm, x) : x;

function output<V>(
  words: Words<V>,
  { outputsNormed }: LayerSpec,
  half: 'attn' | 'mlp',
  { after }: HalfNorms,
  product: V,
): V {
  if (!after) return words.at(`hook_${half}_out`, product);
  const raw = words.at(outputsNormed ? `hook_${half}_raw` : `hook_${half}_out`, product);
  const y = normed(words, after, raw);
  return outputsNormed ? words.at(`hook_${half}_out`, y) : y;
}

function mixed<V>(words: Words<V>, attention: AttentionSpec, x: V): V {
  const q = byHead(words, attention, 'q', words.queries(x, attention));
  const [k, v] = keysAndValuesOf(words, attention, x);
  return words.attend(q, k, v, attention);
}

const keysAndValuesOf = <V>(words: Words<V>, attention: AttentionSpec, x: V): [V, V] => [
  byHead(words, attention, 'k', x),
  byHead(words, attention, 'v', x),
];

function byHead<V>(words: Words<V>, attention: AttentionSpec, part: 'q' | 'k' | 'v', x: V): V {
  const { heads, keyHeads, size, norms, rotary } = attention;
  const split = words.split(words.linear(x, attention[part]), part === 'q' ? heads : keyHeads, size);
  const projected = words.at(`attn.hook_${part}`, split);
  if (part === 'v') return projected;
  const y = norms ? normed(words, norms[part], projected) : projected;
  return rotary ? words.at(`attn.hook_rot_${part}`, words.rotate(y, rotary)) : y;
}

function feedForward<V>(words: Words<V>, { feedForward: spec }: LayerSpec, x: V): V {
  const { activation, gate, up, down } = spec;
  let post: V;
  if (gate) {
    const pre = words.at('mlp.hook_pre', words.linear(x, gate));
    post = words.gated(pre, words.at('mlp.hook_pre_linear', words.linear(x, up)), activation);
  } else post = words.activate(words.at('mlp.hook_pre', words.linear(x, up)), activation, 'pre');
  return words.linear(words.at('mlp.hook_post', post), down);
}
