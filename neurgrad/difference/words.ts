/**
 * The words of a block by differences (docs/science.md#the-suffix-alone): how much values change at some tokens, beside those of the plain run.
 *
 * Linear maps are the ordinary products without bias; all else is a closed form over what the plain run kept under the words' own
 * slots (bundle.ts).
 */

import { add, gatherRows, linear, reshape, rotary, type Tensor } from '../../engine/index.ts';
import type { ActivationName } from '../../kernels/activation.ts';
import type { AttentionSpec, LinearSpec, NormSpec, Words } from '../../models/block.ts';
import type { Bundle } from './bundle.ts';
import {
  activationDifference,
  addOwnChange,
  attentionDifference,
  capDifference,
  gatedDifference,
  normDifference,
  type PromptRows,
  projectedAttentionDifference,
} from './ops.ts';

/** A changed token: of which row of a wave, where in its prompt. */
export interface Changed {
  readonly row: number;
  readonly position: number;
}

/** Tokens whose values change, in the order of their rows; what they are on the device belongs to the scope that asks first. */
export interface ChangedTokens {
  readonly places: readonly Changed[];
  /** Token records (ops.ts). */
  records(): Tensor;
  /** Positions in their prompts. */
  positions(): Tensor;
  readonly prompts: readonly PromptRows[];
}

/** The tokens of a layer: those whose inputs change, and those whose outputs do. */
export interface LayerTokens {
  readonly input: ChangedTokens;
  readonly output: ChangedTokens;
  /** Whether output i is changed query i, for each of them. */
  readonly inOrder: boolean;
  /** Most changed keys that an output sees. */
  readonly changed: number;
  /** In the last layer, of which one token a row is wanted. */
  readonly reading: {
    /** Those of the inputs that are read, and which rows they are: none for an empty list. */
    readonly queries: ChangedTokens;
    readonly inputs: readonly number[];
    /** Row of each output among the base's. */
    readonly base: readonly number[];
  } | null;
}

/** How much a value changes. */
export class Change {
  /** [tokens, width]; null where nothing changes. */
  readonly x: Tensor | null;
  readonly of: ChangedTokens;
  /** Heads that a row is made of. */
  readonly heads: number;
  /** Whether those tokens alone count that are read. */
  readonly asked: boolean;

  constructor(x: Tensor | null, of: ChangedTokens, heads = 1, asked = false) {
    this.x = x;
    this.of = of;
    this.heads = heads;
    this.asked = asked;
  }
}

/** W d, not made yet: an attention of few queries does without. */
class Mapped {
  readonly d: Change;
  readonly weight: Tensor;
  readonly heads: number;

  constructor(d: Change, weight: Tensor, heads = 1) {
    this.d = d;
    this.weight = weight;
    this.heads = heads;
  }
}

export type Difference = Change | Mapped;

/** The words of one layer, or of the head. */
export class DifferenceWords implements Words<Difference> {
  readonly #bundle: Bundle;
  readonly #base: Bundle['layers'][number];
  readonly #tokens: LayerTokens | null;

  /**
   * @param layer the number of layers for the head.
   * @param tokens of a layer's body; null for what goes token by token.
   */
  constructor(bundle: Bundle, layer: number, tokens: LayerTokens | null) {
    this.#bundle = bundle;
    this.#base = bundle.layers[layer]!;
    this.#tokens = tokens;
  }

  #parameter(name: string): Tensor {
    return this.#bundle.model.parameters.get(name)!;
  }

  /** The change of a value, of the tokens that are wanted of it. */
  made(value: Difference): Change {
    if (value instanceof Mapped) {
      const { d, weight, heads } = value;
      return new Change(d.x && linear(d.x, weight), d.of, heads);
    }
    return value.asked ? this.#read(value) : value;
  }

  /** Of changed inputs those that are read. */
  #read({ x, heads }: Change): Change {
    const { queries, inputs } = this.#tokens!.reading!;
    return new Change(x && inputs.length > 0 ? gatherRows(x, inputs) : null, queries, heads);
  }

  at(_: string, x: Difference): Difference {
    return x;
  }

  linear(value: Difference, { weight }: LinearSpec): Difference {
    return new Mapped(this.made(value), this.#parameter(weight));
  }

  norm(value: Difference, { kind, weight, eps, hook }: NormSpec): Difference {
    const { x, of, heads } = this.made(value);
    const base = this.#base.get(hook)!;
    return new Change(
      x && normDifference(kind, base, of.records(), x, this.#parameter(weight), eps),
      of,
      heads,
    );
  }

  activate(value: Difference, activation: ActivationName, slot: string): Difference {
    const { x, of } = this.made(value);
    return new Change(x && activationDifference(activation, this.#base.get(slot)!, of.records(), x), of);
  }

  gated(gate: Difference, up: Difference, activation: ActivationName): Difference {
    const { x: dGate, of } = this.made(gate);
    const { x: dUp } = this.made(up);
    const [pre, linearPre] = [this.#base.get('pre')!, this.#base.get('up')!];
    if (!dGate || !dUp) return new Change(null, of);
    return new Change(gatedDifference(activation, pre, linearPre, of.records(), dGate, dUp), of);
  }

  /** Of the same tokens; or of a layer's outputs and its inputs, among them or those of them that are read. */
  add(left: Difference, right: Difference): Difference {
    const [a, b] = [left, right].map((value) => (value instanceof Mapped ? this.made(value) : value)) as [
      Change,
      Change,
    ];
    if (a.of === b.of) return new Change(a.x && b.x ? add(a.x, b.x) : (a.x ?? b.x), a.of);
    const { input, output } = this.#tokens!;
    const [sum, own] = a.of === output ? [a, b] : [b, a];
    if (!own.x || !sum.x) return sum;
    const of = own.of === input ? 'own' : 'query';
    return new Change(addOwnChange(sum.x, output.records(), own.x, of), output);
  }

  split(value: Difference, count: number): Difference {
    return value instanceof Mapped
      ? new Mapped(value.d, value.weight, count)
      : new Change(value.x, value.of, count, value.asked);
  }

  rotate(value: Difference, angles: Float64Array): Difference {
    const { x, of, heads } = this.made(value);
    if (!x) return new Change(null, of, heads);
    const [tokens, width] = x.shape as [number, number];
    const turned = rotary(
      reshape(x, [tokens, heads, width / heads]),
      of.positions(),
      this.#bundle.model.rotaryTable(angles, this.#bundle.keys),
    );
    return new Change(reshape(turned, x.shape), of, heads);
  }

  attend(q: Difference, k: Difference, v: Difference, spec: AttentionSpec): Difference {
    const { output, reading, inOrder, changed } = this.#tokens!;
    const { heads, keyHeads, size, scale, cap } = spec;
    const shape = { heads, keyValueHeads: keyHeads, headSize: size, keys: this.#bundle.keys, scale, cap };
    const value = (slot: string): Tensor => this.#base.get(slot)!;
    const base = { q: value('q'), k: value('k'), v: value('v'), pattern: value('pattern') };
    const { x: dq, of: queries } = this.made(q);
    const tokens = {
      records: output.records(),
      tokens: output.prompts,
      queries: queries.prompts,
      base: this.#bundle.queries,
      inOrder,
      changed,
    };
    if (reading && k instanceof Mapped && v instanceof Mapped && this.#moves(spec, k, v)) {
      const plain = gatherRows(base.q, reading.base);
      const query = dq ? addOwnChange(plain, output.records(), dq, 'query') : plain;
      const weights = { k: k.weight, v: v.weight };
      const d = k.d.x!;
      return new Change(projectedAttentionDifference(shape, base, tokens, query, dq, d, weights), output);
    }
    const dk = this.made(k).x!;
    const dv = this.made(v).x!;
    return new Change(attentionDifference(shape, base, tokens, dq, dk, dv), output);
  }

  /**
   * Whether the maps of keys and values go to the queries' side: where all tokens change and few are read, nothing stands between
   * the maps and the attention, and the weights split by head as they lie. Those in panels do not, and products with them are
   * cheap: of a point of BERT-base on average a fortieth of the multiplications is the last layer's keys and values.
   */
  #moves({ heads, keyHeads }: AttentionSpec, k: Mapped, v: Mapped): boolean {
    return (
      !this.#bundle.model.causal &&
      heads === keyHeads &&
      k.d === v.d &&
      [k.weight, v.weight].every(
        (w) => w.dtype === 'f32' && !w.storage.panels && w.storage.segments.length === 1,
      )
    );
  }

  cap(value: Difference, cap: number): Difference {
    const { x, of } = this.made(value);
    return new Change(x && capDifference(cap, this.#base.get('cap')!, of.records(), x), of);
  }

  asked(value: Difference): Difference {
    if (!this.#tokens!.reading) return value;
    const { x, of, heads } = this.made(value);
    return new Change(x, of, heads, true);
  }

  queries(value: Difference): Difference {
    return this.#tokens!.reading ? this.#read(this.made(value)) : value;
  }
}
