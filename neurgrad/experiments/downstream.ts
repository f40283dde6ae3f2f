/**
 * A prompt's run, and what follows from it where values are given at hook points: computed from the layer of the first of them on.
 *
 * Earlier layers are those of the plain run, and so are tokens that cannot have changed: those of a causal model before `first` are a
 * cache, shared by all rows; those after the token that is read are left out. What lies before a given value in its own layer is not
 * computed either (laterWords.ts). A row gives the bits that a full run with the same values gives.
 */

import {
  attention,
  broadcastTo,
  concat,
  gatherRows,
  integers,
  noGrad,
  permute,
  reshape,
  scope,
  type Tensor,
} from '../../engine/index.ts';
import { disown } from '../../engine/scope.ts';
import { layer as layerOfBlock } from '../../models/block.ts';
import type { Tokens } from '../../models/causal.ts';
import { rowsThatFit } from '../../models/cost.ts';
import { pointOf, Taps } from '../../models/hooks.ts';
import type { Prefix } from '../../models/kvCache.ts';
import { checkInput } from '../../models/run.ts';
import type { Transformer } from '../../models/transformer.ts';
import { made, TensorWords } from '../../models/words.ts';
import { type Probe, probeRows } from '../predict.ts';
import { LaterWords } from './laterWords.ts';

/** Rows of one pass. */
export interface DownstreamRows {
  readonly rows: number;
  /** Values [rows or 1, tokens, …] by hook name, for all tokens at hand. */
  readonly given: ReadonlyMap<string, Tensor>;
  /** Names whose values are wanted. */
  readonly capture?: readonly string[];
  /** Default true. */
  readonly logits?: boolean;
}

/** What a pass gives; free it by `dispose()`. */
export interface DownstreamResult extends Disposable {
  /** [rows, V] at the prompt's position; none where they were not wanted. */
  readonly logits: Tensor | null;
  /** By name, [rows, tokens, …]. */
  readonly captures: ReadonlyMap<string, Tensor>;
}

/** Memory that one pass may take, about, and most rows of it. */
const PASS_BYTES = 256 * 2 ** 20;
const MOST_ROWS = 256;

/** Values of a prompt's plain run. */
export class Downstream implements Disposable {
  readonly model: Transformer;
  readonly probe: Probe;
  /** Tokens at hand are those from this position on. */
  readonly first: number;
  /** As many. */
  readonly tokens: number;
  readonly #prefix: Prefix | null;
  readonly #values = new Map<string, Tensor>();
  readonly #logits: Tensor;

  private constructor(model: Transformer, probe: Probe, first: number, names: readonly string[]) {
    this.model = model;
    this.probe = probe;
    this.first = first;
    this.tokens = probe.ids.length - first;
    this.#prefix = first > 0 ? model.prefill(probe.ids.slice(0, first)) : null;
    try {
      const kept = new Set([...this.#names('hook_resid_pre'), ...names]);
      const { logits } = this.#forward([...kept], this.#values);
      this.#logits = logits;
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  /**
   * Runs a prompt.
   * @param first position of the first token at hand, of a causal model; no later than the probe's.
   * @param names of values that will be wanted: others cost a run more.
   * @throws UserError for a prompt that the model cannot run
   */
  static open(model: Transformer, probe: Probe, first = 0, names: readonly string[] = []): Downstream {
    checkInput(probeRows(probe), model.description);
    const ids = model.causal ? probe.ids.slice(0, probe.position + 1) : probe.ids;
    return new Downstream(
      model,
      { ...probe, ids },
      model.causal ? Math.min(first, probe.position) : 0,
      names,
    );
  }

  /** Logits [1, V] of the plain run. */
  get logits(): Tensor {
    return this.#logits;
  }

  #names(hook: string): string[] {
    return Array.from({ length: this.model.sizes.layers }, (_, layer) => `blocks.${layer}.${hook}`);
  }

  /** Values of the plain run [1, tokens, …] by hook name, which stay this object's; computed where they have not been. */
  values(names: readonly string[]): ReadonlyMap<string, Tensor> {
    const missing = [...new Set(names)].filter((name) => !this.#values.has(name));
    if (missing.length > 0) this.#forward(missing, this.#values).logits.dispose();
    return this.#values;
  }

  /** The whole of the tokens at hand, from their embeddings on. */
  #forward(names: readonly string[], into: Map<string, Tensor>): { logits: Tensor } {
    const { model, tokens, first, probe } = this;
    const taps = new Taps(model.hooks, 1, tokens, { capture: names });
    const ids = probe.ids.slice(first);
    const logits = noGrad(() =>
      scope(() => {
        const input = { rows: 1, length: tokens, ids };
        const positions = this.#prefix
          ? ids.map((_, i) => first + i)
          : model.positions({ ...input, tokenTypeIds: probe.tokenTypeIds });
        const types = probe.tokenTypeIds;
        const x = model.embed({ ...input, positions, types }, taps);
        return this.#decode(
          model.layers(0, x, () => this.#tokens(1), taps),
          taps,
        );
      }),
    );
    disown(logits);
    for (const [name, value] of taps.captures) into.set(name, value);
    return { logits };
  }

  /** Rows that one pass can have. */
  rowsThatFit(tape = false): number {
    const { model, tokens, probe } = this;
    const shape = { tokens, keys: probe.ids.length, tape, bytes: PASS_BYTES, most: MOST_ROWS };
    return rowsThatFit(model.description, shape);
  }

  /** Columns of rows, whatever they attend to. */
  #tokens(rows: number, read = false): Tokens {
    const { model, tokens, first } = this;
    const prefix = this.#prefix;
    const input = { rows, length: tokens, ids: new Array<number>(rows * tokens).fill(0) };
    if (!prefix) {
      const at = this.probe.position;
      return model.tokens(
        read ? { ...input, read: Array.from({ length: rows }, (_, row) => row * tokens + at) } : input,
      );
    }
    const positions = input.ids.map((_, i) => first + (i % tokens));
    return {
      positions: integers(model.device, positions),
      reach: first + tokens,
      attend: (layer, q, k, v, { turn: _, ...how }) => {
        const behind = (cached: Tensor, own: Tensor): Tensor => {
          const [heads, length, size] = cached.shape as [number, number, number];
          const shared = reshape(permute(cached, [1, 0, 2]), [1, length, heads, size]);
          return concat([broadcastTo(shared, [rows, length, heads, size]), own], 1);
        };
        const [keys, values] = [behind(prefix.keys(layer), k), behind(prefix.values(layer), v)];
        return attention(q, keys, values, { ...how, causal: true });
      },
    };
  }

  /** Logits [rows, V] at the position read, of residuals [rows, tokens, H] or, of that token alone, [rows, 1, H]. */
  #decode(x: Tensor, taps: Taps): Tensor {
    const { model, first, probe } = this;
    const [rows, tokens, hidden] = x.shape as [number, number, number];
    const at = tokens === 1 ? 0 : probe.position - first;
    const which = Array.from({ length: rows }, (_, row) => row * tokens + at);
    const last = gatherRows(reshape(x, [rows * tokens, hidden]), which);
    return model.decode(model.head(last, taps, last.shape), taps);
  }

  /** Runs rows. Given values that are marked with `requireGrad()` leave a tape: take gradients within the scope of the call. */
  run(asked: DownstreamRows): DownstreamResult {
    const taped = [...asked.given.values()].some(({ track }) => track !== null);
    return taped ? this.#run(asked) : noGrad(() => this.#run(asked));
  }

  #run({ rows, given, capture = [], logits = true }: DownstreamRows): DownstreamResult {
    const { model, tokens } = this;
    const { layers } = model.sizes;
    const layerOf = (name: string): number => pointOf(model.hooks, name).layer;
    const from = given.size === 0 ? 0 : Math.max(0, Math.min(...[...given.keys()].map(layerOf)));
    const to = logits ? layers - 1 : Math.max(from, ...capture.map(layerOf));
    const spread = (value: Tensor): Tensor =>
      value.dim(0) === rows ? value : broadcastTo(value, [rows, ...value.shape.slice(1)]);
    // Values within a word are put in its place; others are not computed (LaterWords).
    const inside = new Map<string, (value: Tensor) => Tensor>();
    for (const [name, value] of given)
      if (/\.(attn\.hook_pattern|mlp\.hook_act)$/.test(name)) inside.set(name, () => spread(value));
    const taps = new Taps(model.hooks, rows, tokens, { capture, edit: Object.fromEntries(inside) });
    try {
      const found = scope(() => {
        let x: Tensor | null = null;
        for (let layer = from; layer <= to; layer++) {
          const before: Tensor | null = x;
          const here = [...given].filter(([name]) => layerOf(name) === layer);
          x = scope((): Tensor => {
            const input: Tensor = before ?? spread(this.#values.get(`blocks.${layer}.hook_resid_pre`)!);
            const touched = here.length > 0 || taps.wantsOf(layer);
            const last = layer === layers - 1 && !model.causal && !touched;
            const at = this.#tokens(rows, last);
            if (!touched) return model.layer(layer, input, at, taps);
            const whole = here.filter(([name]) => !inside.has(name)).map(([n, v]) => [n, spread(v)] as const);
            return this.#touched(layer, input, at, taps, new Map(whole), new Set(capture));
          });
          before?.dispose();
        }
        return logits ? this.#decode(x!, taps) : null;
      });
      if (found) disown(found);
      return {
        logits: found,
        captures: taps.captures,
        [Symbol.dispose]: () => {
          found?.dispose();
          taps.dispose();
        },
      };
    } catch (error) {
      taps.dispose();
      throw error;
    }
  }

  /** A layer with given values, or wanted ones. */
  #touched(
    layer: number,
    input: Tensor,
    tokens: Tokens,
    taps: Taps,
    given: ReadonlyMap<string, Tensor>,
    wanted: ReadonlySet<string>,
  ): Tensor {
    const prefix = `blocks.${layer}.`;
    const words = new LaterWords(
      new TensorWords(this.model, taps, layer, prefix, tokens),
      prefix,
      given,
      wanted,
    );
    const output = made(layerOfBlock(words, this.model.description.layers[layer]!, () => input)());
    words.finish();
    return output;
  }

  /** The head's logits [rows, V] of residuals [rows, H]. */
  decode(residuals: Tensor): Tensor {
    const taps = new Taps(this.model.hooks, 1, 1, {});
    return this.model.decode(this.model.head(residuals, taps, residuals.shape), taps);
  }

  /** Frees the plain run's values. */
  dispose(): void {
    for (const value of this.#values.values()) value.dispose();
    this.#values.clear();
    this.#logits?.dispose();
    this.#prefix?.dispose();
  }
  [Symbol.dispose](): void {
    this.dispose();
  }
}
