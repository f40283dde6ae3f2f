/**
 * The parts of a model that run by themselves: what the key/value cache, streaming and splitting build their passes of.
 */

import type { RotaryTable, ScoreOptions, Tensor } from '../engine/index.ts';
import type { Description } from './description.ts';
import type { Taps } from './hooks.ts';
import type { Architecture, CheckedInput } from './run.ts';

/** How an attention is done, whoever's keys it sees. */
export interface AttendOptions extends ScoreOptions {
  /** See fusesAttention in hooks.ts. */
  readonly fused?: boolean;
  /** Sees, and may replace, the pattern, where `fused` is false. */
  readonly onPattern?: (pattern: Tensor) => Tensor;
  /** What q and k are still to be turned by, of tokens that turn them themselves. */
  readonly turn?: RotaryTable;
}

/** The tokens of a pass: where they stand, and what each of them attends to. */
export interface Tokens {
  /** u32, one a token; of models that rotate queries and keys. */
  readonly positions?: Tensor | undefined;
  /** No token stands at this position, or behind it. */
  readonly reach: number;
  /** Tokens that are none, where there are such: held here for its owner. */
  readonly keyMask?: Tensor | undefined;
  /** Tokens that the last layer is wanted of, one a row, as row * length + position; absent: all. */
  readonly read?: readonly number[] | undefined;
  /** Their positions. */
  readonly readPositions?: Tensor | undefined;
  /** `attend` turns queries and keys by the positions, on their way into a cache. */
  readonly turns?: boolean;
  /** z [rows, length, heads, headSize] of q, k, v of the same layout, q and k rotated unless `how` says by what. */
  readonly attend: (layer: number, q: Tensor, k: Tensor, v: Tensor, how: AttendOptions) => Tensor;
}

/** Frees what a pass made for its tokens. */
export function disposeTokens({ positions, readPositions, keyMask }: Tokens): void {
  for (const t of [positions, readPositions, keyMask]) t?.dispose();
}

/** Tokens to embed; ids and positions may lie on the device (u32), where those of a recorded step are rewritten. */
export interface TokenIds {
  readonly rows: number;
  readonly length: number;
  readonly ids: readonly number[] | Tensor;
  readonly positions: readonly number[] | Tensor;
  readonly types?: readonly number[] | undefined;
}

/** A model whose layers can be run one by one. */
export interface LayeredModel extends Architecture {
  readonly description: Description;
  /** Rows of the table of positions, or angles, of an input's tokens. */
  positions(input: CheckedInput): readonly number[];
  /** Cosines and sines of positions below `reach` at least, before a recording that needs them. */
  extend(reach: number): void;
  /** The tokens of a whole prompt. */
  tokens(input: CheckedInput): Tokens;
  /** The residual before layer 0 [rows, length, H]. */
  embed(input: TokenIds, taps: Taps): Tensor;
  /** Layers from `from` on; takes over `residual`. */
  layers(from: number, residual: Tensor, tokens: () => Tokens, taps: Taps): Tensor;
  /** One layer, whatever the tokens attend to: full runs, prefill and rows behind a cache differ there only. */
  layer(layer: number, input: Tensor, tokens: Tokens, taps: Taps): Tensor;
  /** Keys, rotated by their positions, and values that a layer makes of its input. */
  keysAndValues(layer: number, input: Tensor, tokens: Tokens, taps: Taps): [Tensor, Tensor];
}
