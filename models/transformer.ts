/**
 * A model on the device: its weights, and the block of block.ts run over them as its family's description says.
 *
 * The walk through the layers may for training keep each layer's input alone (activation checkpointing, Chen et al. 2016).
 */

import { UserError } from '../engine/errors.ts';
import {
  add,
  affine,
  attention,
  type Device,
  gatherRows,
  integers,
  RotaryAngles,
  type RotaryTable,
  recompute,
  reshape,
  scope,
  type Tensor,
} from '../engine/index.ts';
import { decode, enter, finish, keysAndValues, layer, leave } from './block.ts';
import type { LayeredModel, TokenIds, Tokens } from './causal.ts';
import type { ModelConfig } from './config.ts';
import { DescribedModel } from './describedModel.ts';
import { parametersOf } from './description.ts';
import type { Taps } from './hooks.ts';
import type { Joined } from './join.ts';
import { weightDtypeAs } from './kept.ts';
import {
  type PrefillOptions,
  type Prefix,
  prefill,
  type RowGroup,
  type RowOptions,
  runRows,
} from './kvCache.ts';
import type { LanguageModel, ModelInput, RunOptions, RunResult } from './model.ts';
import { type CheckedInput, run } from './run.ts';
import type { WeightDtype } from './storage.ts';
import { type Constants, made, TensorWords } from './words.ts';

/** A model whose weights are all on one device. */
export class Transformer extends DescribedModel implements LanguageModel, LayeredModel, Constants {
  readonly running = 'resident';
  readonly parameters: ReadonlyMap<string, Tensor>;
  /** The row of each token, while the embedding's weight has those of some tokens only (stream.ts). */
  embeddingRows: ReadonlyMap<number, number> | null = null;
  readonly #angles = new Map<Float64Array, RotaryAngles>();
  readonly #joined: ReadonlyMap<string, Joined>;
  #disposed = false;

  /** Takes over the weights. @param weights under the names of {@link parametersOf}. @param joined their projections that share a product. */
  constructor(
    device: Device,
    config: ModelConfig,
    weights: ReadonlyMap<string, Tensor>,
    joined: ReadonlyMap<string, Joined> = new Map(),
  ) {
    super(device, config);
    this.parameters = weights;
    this.#joined = joined;
    for (const { attention } of this.description.layers)
      if (attention.rotary && !this.#angles.has(attention.rotary))
        this.#angles.set(attention.rotary, new RotaryAngles(device, attention.rotary, this.sizes.positions));
  }

  /** @throws UserError after dispose() */
  checkAlive(): void {
    if (this.#disposed) throw new UserError('disposed', 'this model has been disposed of');
  }

  /** See {@link LanguageModel.run}. @throws UserError before any GPU work. */
  run(input: ModelInput, options: RunOptions = {}): RunResult {
    this.checkAlive();
    return run(this, input, options);
  }

  /** Keys and values of some tokens, after those of `prefix` where one is given (see kvCache.ts). @throws UserError also for a model that is not causal */
  prefill(ids: readonly number[], options: PrefillOptions = {}): Prefix {
    return prefill(this, ids, options);
  }

  /** Runs one token a row, each after the shared prefix of its prompt (see kvCache.ts). @throws UserError also for a model that is not causal */
  runRows(rows: RowGroup | readonly RowGroup[], options: RowOptions = {}): RunResult {
    return runRows(this, 'prefix' in rows ? [rows] : rows, options);
  }

  /** Whether a parameter was marked, so that runs leave a tape. */
  trains(): boolean {
    return [...this.parameters.values()].some((t) => t.track !== null);
  }

  /** The weights out of a layer's feed-forward, [H, I]. */
  outWeight(layer: number): Tensor {
    return this.parameters.get(this.description.layers[layer]!.feedForward.down.weight)!;
  }

  /** Cosines and sines of the angles that an attention rotates by, of positions below `reach` at least. */
  rotaryTable(rotary: Float64Array, reach: number): RotaryTable {
    return this.#angles.get(rotary)!.table(reach);
  }

  extend(reach: number): void {
    for (const angles of this.#angles.values()) angles.table(reach);
  }

  /** How matrices of the layers are kept. */
  get weightDtype(): WeightDtype {
    return weightDtypeAs(
      parametersOf(this.description).map((each) => [each, this.parameters.get(each.name)?.dtype]),
    );
  }

  /** Whether `forward` heeds `read`. */
  get canReadOne(): boolean {
    return !this.causal;
  }

  /** Whether any layer rotates queries and keys by their positions. */
  get #rotates(): boolean {
    return this.#angles.size > 0;
  }

  /** Residual after the last layer [B, S, H]; [B, 1, H] where the input says which tokens are read. */
  forward(input: CheckedInput, taps: Taps): Tensor {
    const tokens = taps.shared(() => this.tokens(input));
    const { rows, length, ids, tokenTypeIds: types } = input;
    const embedded = this.embed({ rows, length, ids, positions: this.positions(input), types }, taps);
    return this.layers(0, embedded, tokens, taps);
  }

  /**
   * Rows of the table of positions, or angles: as given, else counted from a row's first real token, at padding behind the text,
   * too; a family may have a row of its own for padding, which it tells by its id.
   */
  positions({ length, ids, mask, positionIds }: CheckedInput): readonly number[] {
    if (positionIds) return positionIds;
    const { first = 0, padding } = this.description.embedding.position ?? {};
    if (padding !== undefined) {
      let next = first;
      return ids.map((id, i) => {
        if (i % length === 0) next = first;
        return id === padding ? padding : next++;
      });
    }
    if (!mask) return ids.map((_, i) => first + (i % length));
    let begin = 0;
    return ids.map((_, i) => {
      const column = i % length;
      if (column === 0) begin = Math.max(0, mask.indexOf(1, i) - i);
      return first + Math.max(0, column - begin);
    });
  }

  /** The tokens of a whole prompt: of a causal model they attend to those before them. */
  tokens(input: CheckedInput): Tokens {
    const { rows, length, mask, read } = input;
    const { device, causal } = this;
    const keyMask = mask && integers(device, mask, [rows, length]);
    const places = this.#rotates ? this.positions(input) : undefined;
    return {
      reach: places ? Math.max(...places) + 1 : 0,
      positions: places && integers(device, places),
      keyMask,
      read,
      readPositions:
        places &&
        read &&
        integers(
          device,
          read.map((i) => places[i]!),
        ),
      attend: (_, q, k, v, how) => attention(q, k, v, { ...how, causal, ...(keyMask ? { keyMask } : {}) }),
    };
  }

  embed({ rows, length, ids, positions, types }: TokenIds, taps: Taps): Tensor {
    this.checkAlive();
    const { word, scale, type, position, norm } = this.description.embedding;
    const shape = [rows, length, this.sizes.hidden];
    const row = this.embeddingRows;
    const at = row && !('dtype' in ids) ? ids.map((id) => row.get(id)!) : ids;
    const lookUp = (name: string, which: readonly number[] | Tensor): Tensor =>
      reshape(gatherRows(this.parameters.get(name)!, which), shape);
    return scope(() => {
      const words = lookUp(word, at);
      let x = taps.at('hook_embed', scale === undefined ? words : affine(words, scale, 0));
      if (type) {
        const zeros = types ?? new Array<number>(rows * length).fill(0);
        x = add(x, taps.at('hook_token_type_embed', lookUp(type.weight, zeros)));
      }
      if (position) x = add(x, taps.at('hook_pos_embed', lookUp(position.weight, positions)));
      if (!norm) return x;
      const inner = new TensorWords(this, taps, -1, '');
      return made(inner.at(norm.hook, inner.norm(x, norm)));
    });
  }

  layers(from: number, x: Tensor, tokens: () => Tokens, taps: Taps): Tensor {
    for (let i = from; i < this.sizes.layers; i++) {
      const before = x;
      const one = (t: Tensor) => this.layer(i, t, tokens(), taps);
      x = scope(() => (taps.recompute ? recompute(one, before, this.#parametersOf(i)) : one(before)));
      before.dispose();
    }
    return x;
  }

  #parametersOf(layer: number): Tensor[] {
    return parametersOf(this.description).flatMap(({ name, stage }) =>
      stage === layer ? [this.parameters.get(name)!] : [],
    );
  }

  #words(layer: number, taps: Taps, tokens: Tokens | null): TensorWords {
    const { layers } = this.sizes;
    const read = layer === layers - 1 ? tokens?.read : undefined;
    return new TensorWords(this, taps, layer, layer < layers ? `blocks.${layer}.` : '', tokens, read);
  }

  layer(number: number, input: Tensor, tokens: Tokens, taps: Taps): Tensor {
    return made(layer(this.#words(number, taps, tokens), this.description.layers[number]!, input));
  }

  keysAndValues(number: number, input: Tensor, tokens: Tokens, taps: Taps): [Tensor, Tensor] {
    const words = this.#words(number, taps, tokens);
    const [k, v] = keysAndValues(words, this.description.layers[number]!, input);
    return [made(k), made(v)];
  }

  /** From the product of a layer's output weights to what is added to the residual. */
  enter(number: number, product: Tensor, taps: Taps): Tensor {
    return made(enter(this.#words(number, taps, null), this.description.layers[number]!, product));
  }

  /** From the sum after a layer's feed-forward to what the next one reads. */
  leave(number: number, sum: Tensor, taps: Taps): Tensor {
    return made(leave(this.#words(number, taps, null), this.description.layers[number]!, sum));
  }

  head(rows: Tensor, taps: Taps, shape: readonly number[]): Tensor {
    const words = this.#words(this.sizes.layers, taps, null);
    return made(finish(words, this.description.head, reshape(rows, shape)));
  }

  decode(rows: Tensor, taps: Taps): Tensor {
    const words = this.#words(this.sizes.layers, taps, null);
    return made(decode(words, this.description.head, rows));
  }

  /** Maps whose products are one, by the name of the first one's weight. */
  joined(weight: string): Joined | undefined {
    return this.#joined.get(weight);
  }

  /** Frees the weights and the tables of positions. */
  dispose(): void {
    this.#disposed = true;
    for (const t of this.parameters.values()) t.dispose();
    for (const { linears } of this.#joined.values()) linears.dispose();
    for (const angles of this.#angles.values()) angles.dispose();
  }
}
