/**
 * The parts of a causal model that run by themselves: what the key/value cache and streaming build their passes of.
 */

import type { Tensor } from '../engine/index.ts';
import type { Taps } from './hooks.ts';
import type { Architecture, CheckedInput } from './run.ts';

/** The tokens of a pass: where they stand (u32, one a token), and what each of them attends to. */
export interface Tokens {
  readonly positions: Tensor;
  /** Tokens that are none, where there are such: held here for its owner. */
  readonly keyMask?: Tensor;
  /** `fused` says how (fusesAttention in hooks.ts): patterns are seen where it is false. z [rows, length, heads, headSize] of q, k, v of the same layout, q and k turned by their positions. */
  readonly attend: (
    layer: number,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    onPattern: (pattern: Tensor) => Tensor,
    fused: boolean | undefined,
  ) => Tensor;
}

/** Tokens to embed; ids may lie on the device (u32), where those of a recorded step are rewritten. */
export type TokenIds = Pick<CheckedInput, 'rows' | 'length'> & { readonly ids: readonly number[] | Tensor };

export interface CausalModel extends Architecture {
  /** The residual before layer 0 [rows, length, H]. */
  embed(input: TokenIds, taps: Taps): Tensor;
  /** Layers from `from` on; takes over `residual`. */
  layers(from: number, residual: Tensor, tokens: Tokens, taps: Taps): Tensor;
  layer(layer: number, input: Tensor, tokens: Tokens, taps: Taps): Tensor;
  /** Keys, turned by their positions, and values that a layer makes of its input. */
  keysAndValues(layer: number, input: Tensor, tokens: Tokens, taps: Taps): [Tensor, Tensor];
}
