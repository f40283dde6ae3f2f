/**
 * The words of a block by tensors: numbers, tapes, hook points, and the kernels that do several words at once.
 *
 * A product, or a norm that products read, is not made before it is known what follows it: the residual that is added, the
 * activation and the gate become the product's epilogue, the norm its prologue, unless somebody asked for what lies between
 * (`at`), or the values are kept for differences. Where a tape is made a product waits no longer than until the next one: cotangents
 * are added in the order of the products, which must not depend on who looks.
 */

import {
  activationFunctions,
  add,
  type FusedNorm,
  gatherRows,
  linear,
  linearThen,
  mul,
  normLinear,
  normStatistics,
  type RotaryTable,
  reshape,
  rotary,
  rowNorm,
  softcap,
  Tensor,
  type Then,
} from '../engine/index.ts';
import { followed } from '../engine/ops/matmul.ts';
import { rotaryOfBoth } from '../engine/ops/rotary.ts';
import { isRecording } from '../engine/tensor.ts';
import { ACTIVATIONS, type ActivationName } from '../kernels/activation.ts';
import type { AttentionSpec, LinearSpec, NormSpec, Words } from './block.ts';
import type { Tokens } from './causal.ts';
import type { Taps } from './hooks.ts';
import type { Joined } from './join.ts';

/** What the words need of the model: its parameters and tables. */
export interface Constants {
  readonly parameters: ReadonlyMap<string, Tensor>;
  /** Cosines and sines of the angles that an attention rotates by, of positions below `reach` at least. */
  rotaryTable(rotary: Float64Array, reach: number): RotaryTable;
  /** Maps whose products are one, by the name of the first one's weight. */
  joined(weight: string): Joined | undefined;
}

/** A tensor, or one that is not made yet. */
export type Value = Tensor | Product | Normed | Turned;

/** Heads turned by their tokens' positions: queries and keys that nobody looks at before they meet in one kernel. */
class Turned {
  readonly x: Tensor;
  readonly positions: Tensor;
  readonly table: RotaryTable;

  constructor(x: Tensor, positions: Tensor, table: RotaryTable) {
    this.x = x;
    this.positions = positions;
    this.table = table;
  }

  make(): Tensor {
    return rotary(this.x, this.positions, this.table);
  }

  /** Two that turn alike. */
  static pair(q: Value, k: Value): readonly [Turned, Turned] | null {
    return q instanceof Turned && k instanceof Turned && q.positions === k.positions && q.table === k.table
      ? [q, k]
      : null;
  }

  /** Both, in one kernel where they turn alike. */
  static both(q: Value, k: Value): [Tensor, Tensor] {
    const pair = Turned.pair(q, k);
    return pair ? rotaryOfBoth(pair[0].x, pair[1].x, pair[0].positions, pair[0].table) : [made(q), made(k)];
  }
}

/** x normalised, made once, where somebody wants more of it than products. */
class Normed {
  readonly #words: TensorWords;
  readonly x: Tensor;
  readonly norm: NormSpec;
  #made: Tensor | null = null;
  #rows: FusedNorm | null = null;

  constructor(words: TensorWords, x: Tensor, norm: NormSpec) {
    this.#words = words;
    this.x = x;
    this.norm = norm;
  }

  make(): Tensor {
    this.#made ??= this.#words.normalise(this.x, this.norm);
    return this.#made;
  }

  /** As the prologue of a product, its statistics shared by all; null where the rows are there already. */
  rows(): FusedNorm | null {
    if (this.#made) return null;
    this.#rows ??= this.#words.prologue(this.x, this.norm);
    return this.#rows;
  }
}

/** W x + b, made with what follows it. */
class Product {
  readonly #words: TensorWords;
  readonly #x: Tensor | Normed;
  readonly #map: LinearSpec;
  /** Made alone, before its turn. */
  #made: Tensor | null = null;
  #taken = false;

  constructor(words: TensorWords, x: Tensor | Normed, map: LinearSpec) {
    this.#words = words;
    this.#x = x;
    this.#map = map;
  }

  /** Makes it alone, if nobody has yet. */
  settle(): void {
    if (!this.#taken) this.#made ??= this.make();
  }

  make(then: Then = PLAIN): Tensor {
    if (this.#made) return followed(this.#made, then);
    this.#taken = true;
    const w = this.#words.parameter(this.#map.weight);
    const b = this.#map.bias === undefined ? undefined : this.#words.parameter(this.#map.bias);
    const rows = this.#x instanceof Normed ? this.#x.rows() : null;
    if (rows) return normLinear((this.#x as Normed).x, rows, w, b, then);
    const x = made(this.#x);
    return then.op === 'none' ? linear(x, w, b) : linearThen(x, w, b, then);
  }
}

const PLAIN: Then = { op: 'none' };

/** The tensor of a value. */
export const made = (value: Value): Tensor => (value instanceof Tensor ? value : value.make());

/** The words of one layer, or of the head, in one run. */
export class TensorWords implements Words<Value> {
  readonly #constants: Constants;
  readonly #taps: Taps;
  readonly #layer: number;
  readonly #prefix: string;
  /** Null in the head. */
  readonly #tokens: Tokens | null;
  /** One token a row is wanted of this layer. */
  readonly #read: readonly number[] | undefined;
  /** What joined maps gave of x, by the names of their weights. */
  #outputs: { readonly of: Tensor; readonly by: ReadonlyMap<string, Tensor> } | null = null;
  /** The last product of a tape. */
  #waiting: Product | null = null;
  /** What {@link asked} was last given, and gave. */
  #last: { readonly of: Value; readonly rows: Tensor } | null = null;

  /**
   * @param layer the number of layers for the head.
   * @param read rows of the flattened tokens that are wanted of this layer, one a row; undefined: all.
   */
  constructor(
    constants: Constants,
    taps: Taps,
    layer: number,
    prefix: string,
    tokens: Tokens | null = null,
    read?: readonly number[],
  ) {
    this.#constants = constants;
    this.#taps = taps;
    this.#layer = layer;
    this.#prefix = prefix;
    this.#tokens = tokens;
    this.#read = read;
  }

  parameter(name: string): Tensor {
    return this.#constants.parameters.get(name)!;
  }

  at(hook: string, x: Value): Value {
    const name = this.#prefix + hook;
    return this.#taps.wants(name) ? this.#taps.at(name, made(x)) : x;
  }

  linear(value: Value, map: LinearSpec): Value {
    const x = value instanceof Normed ? value : this.#joined(made(value), map.in);
    this.#waiting?.settle();
    const together = x instanceof Normed ? undefined : this.#ofJoined(x, map);
    if (together) {
      this.#waiting = null;
      return together;
    }
    const product = new Product(this, x, map);
    const source = x instanceof Normed ? x.x : x;
    this.#waiting = isRecording([source, this.parameter(map.weight)]) ? product : null;
    return product;
  }

  /** The product of a map whose weights lie with others', which are made with the first one of them. */
  #ofJoined(x: Tensor, { weight }: LinearSpec): Tensor | undefined {
    // Queries of some tokens only have rows of their own.
    const joined = this.#read ? undefined : this.#constants.joined(weight);
    if (joined) {
      const outputs = joined.linears.apply(x);
      this.#outputs = { of: x, by: new Map(joined.names.map((name, i) => [name, outputs[i]!])) };
    }
    return this.#outputs?.of === x ? this.#outputs.by.get(weight) : undefined;
  }

  /** Heads as one row. */
  #joined(x: Tensor, width: number): Tensor {
    return x.dim(-1) === width ? x : reshape(x, [...x.shape.slice(0, -2), width]);
  }

  norm(value: Value, norm: NormSpec): Value {
    const x = made(value);
    this.#keep(norm.hook, x);
    if (this.#taps.fusedNorm && norm.size === x.dim(-1) && norm.kind !== 'layer')
      return new Normed(this, x, norm);
    return this.normalise(x, norm);
  }

  /** Over `norm.size` numbers: rows, heads, or all heads of a row. */
  normalise(x: Tensor, norm: NormSpec): Tensor {
    if (norm.size === x.dim(-1)) return this.#normalise(x, norm);
    return reshape(this.#normalise(reshape(x, [x.size / norm.size, norm.size]), norm), x.shape);
  }

  #normalise(x: Tensor, norm: NormSpec): Tensor {
    return rowNorm(x, this.#rowNorm(norm));
  }

  #rowNorm({ kind, weight, bias, eps }: NormSpec): FusedNorm {
    const parameters = { kind, weight: this.parameter(weight), eps };
    return bias === undefined ? parameters : { ...parameters, bias: this.parameter(bias) };
  }

  /** A norm as products do it to the rows they load. */
  prologue(x: Tensor, norm: NormSpec): FusedNorm {
    return { ...this.#rowNorm(norm), statistics: normStatistics(x, norm.kind, norm.eps) };
  }

  activate(value: Value, activation: ActivationName, slot: string): Value {
    if (value instanceof Product && !this.#taps.keep) return value.make({ op: activation });
    const x = made(value);
    this.#keep(slot, x);
    return activationFunctions[activation](x);
  }

  gated(gateValue: Value, upValue: Value, activation: ActivationName): Value {
    const gate = made(gateValue);
    const hook = 'mlp.hook_act';
    const apart = this.#taps.keep !== undefined || this.#taps.wants(this.#prefix + hook);
    if (!apart) {
      const then = { op: ACTIVATIONS[activation].gated, with: gate };
      return upValue instanceof Product ? upValue.make(then) : followed(made(upValue), then);
    }
    const up = made(upValue);
    this.#keep('pre', gate);
    this.#keep('up', up);
    return mul(made(this.at(hook, activationFunctions[activation](gate))), up);
  }

  add(x: Value, y: Value): Value {
    const to = made(x);
    return y instanceof Product ? y.make({ op: 'add', with: to }) : add(to, made(y));
  }

  split(value: Value, count: number, size: number): Value {
    const x = made(value);
    return reshape(x, [...x.shape.slice(0, -1), count, size]);
  }

  rotate(value: Value, angles: Float64Array): Value {
    const x = made(value);
    const { positions, readPositions, reach } = this.#tokens!;
    const all = x.dim(0) * x.dim(1) === positions!.size;
    return new Turned(x, all ? positions! : readPositions!, this.#constants.rotaryTable(angles, reach));
  }

  attend(qValue: Value, kValue: Value, vValue: Value, spec: AttentionSpec): Value {
    const v = made(vValue);
    const { keep, fusedAttention: fused } = this.#taps;
    const pair = this.#tokens!.turns && !keep ? Turned.pair(qValue, kValue) : null;
    const [q, k] = pair ? [pair[0].x, pair[1].x] : Turned.both(qValue, kValue);
    this.#keep('q', q);
    this.#keep('k', k);
    this.#keep('v', v);
    const seen = fused === false || keep !== undefined;
    const onPattern = (pattern: Tensor): Tensor => {
      const y = made(this.at('attn.hook_pattern', pattern));
      this.#keep('pattern', y);
      return y;
    };
    const { scale, window, cap } = spec;
    const z = this.#tokens!.attend(this.#layer, q, k, v, {
      ...(scale === undefined ? {} : { scale }),
      ...(window === undefined ? {} : { window }),
      ...(cap === undefined ? {} : { cap }),
      ...(fused === undefined ? {} : { fused }),
      ...(seen ? { fused: false, onPattern } : {}),
      ...(pair ? { turn: pair[0].table } : {}),
    });
    return window && this.#read && z.dim(1) > 1 ? this.asked(z) : z;
  }

  cap(value: Value, cap: number): Value {
    const x = made(value);
    this.#keep('cap', x);
    return softcap(x, cap);
  }

  asked(value: Value): Value {
    if (!this.#read) return value;
    if (this.#last?.of === value) return this.#last.rows;
    const x = made(value);
    const [rows, length, ...rest] = x.shape as [number, number, ...number[]];
    const width = rest.reduce((a, b) => a * b, 1);
    const read = reshape(gatherRows(reshape(x, [rows * length, width]), this.#read), [rows, 1, ...rest]);
    this.#last = { of: value, rows: read };
    return read;
  }

  queries(x: Value, { window }: AttentionSpec): Value {
    // A lone query behind the others' columns would see the wrong window.
    return window ? x : this.asked(x);
  }

  #keep(slot: string, x: Tensor): void {
    this.#taps.keep?.(this.#layer, slot, x);
  }
}
