/**
 * The words of a block by counting: how many values of which width a pass has at once, and which of them its tape keeps for a
 * backward. What memory is planned by, and how many rows a pass may have, come from here.
 *
 * A value lives until the scope of its layer ends, or for as long as a tape needs it. The way back is walked as grad() walks it:
 * from the newest operation to the oldest, each giving up what it kept once it has made the cotangents of its inputs.
 */

import { FUSED_KEYS } from '../engine/index.ts';
import {
  type AttentionSpec,
  decode,
  finish,
  type HeadSpec,
  type LayerSpec,
  type LinearSpec,
  layer,
  same,
  type Words,
} from './block.ts';
import { type Buffers, bytesAtMost, type Cut, together } from './buffers.ts';
import type { Description, EmbeddingSpec } from './description.ts';

/** Values of one width: the most that there are at once, with `kept` of them on the tape when all is done. */
interface Held {
  now: number;
  most: number;
  kept: number;
}

/** A part of a pass at whose end all but its result and its tape goes: what it holds of a token, by numbers a value. */
export type Phase = ReadonlyMap<number, Readonly<Pick<Held, 'most' | 'kept'>>>;

export interface CostOptions {
  /** Keys that each token attends to. */
  readonly keys: number;
  /** Whether a tape is made, and gone back over: then a product and the sum with a residual are one kernel, and no other words. */
  readonly tape?: boolean;
}

/** The cotangent of a value, or of several where it was handed on. */
interface Cotangent {
  readonly width: number;
  holders: number;
}

/** A value of a token. */
class Value {
  readonly width: number;
  /** Whether it lies in memory of its own: a product waits for what follows it. */
  made: boolean;
  /** Operations on the tape that need it. */
  keepers = 0;
  cotangent: Cotangent | null = null;

  constructor(width: number, made: boolean) {
    this.width = width;
    this.made = made;
  }
}

class Count implements Words<Value> {
  readonly at = (_: string, x: Value): Value => x;
  readonly asked = same;
  readonly queries = same;
  readonly held = new Map<number, Held>();
  readonly #keys: number;
  readonly #tape: boolean;
  readonly #steps: (() => void)[] = [];
  /** Heads that are turned once queries and keys are there. */
  readonly #turned: [Value, Value][] = [];

  constructor({ keys, tape = false }: CostOptions) {
    this.#keys = keys;
    this.#tape = tape;
  }

  #of(width: number): Held {
    let held = this.held.get(width);
    if (!held) this.held.set(width, (held = { now: 0, most: 0, kept: 0 }));
    return held;
  }

  #hold(width: number): void {
    const held = this.#of(width);
    held.most = Math.max(held.most, ++held.now);
  }

  /** A value that a kernel writes. */
  make(width: number): Value {
    this.#hold(width);
    return new Value(width, true);
  }

  #use(x: Value): Value {
    if (x.made) return x;
    x.made = true;
    this.#hold(x.width);
    return x;
  }

  /** On the tape until the operation that needs it has been gone back over. */
  keep(x: Value): void {
    if (this.#tape && x.keepers++ === 0) this.#of(x.width).kept++;
  }

  /** @param pull makes the cotangents of the inputs. */
  #record(y: Value, kept: readonly Value[], pull: (dy: Cotangent) => void): Value {
    if (!this.#tape) return y;
    for (const x of kept) this.keep(x);
    this.#steps.push(() => {
      const dy = y.cotangent!;
      pull(dy);
      this.#drop(dy);
      for (const x of kept) if (--x.keepers === 0) this.#of(x.width).now--;
    });
    return y;
  }

  /**
   * An operation of its own.
   * @param kept what its tape has of its inputs, or its output.
   * @param beside values of its width that its backward makes besides cotangents.
   */
  operation(
    width: number,
    inputs: readonly Value[],
    kept: readonly Value[] | 'output' = [],
    beside = 0,
  ): Value {
    for (const x of inputs) this.#use(x);
    const y = this.make(width);
    return this.#record(y, kept === 'output' ? [y] : kept, () => {
      for (let i = beside; i > 0; i--) this.#hold(width);
      for (const x of inputs) this.#give(x, this.#cotangent(x.width));
      this.#of(width).now -= beside;
    });
  }

  #cotangent(width: number): Cotangent {
    this.#hold(width);
    return { width, holders: 1 };
  }

  /** A cotangent made in one kernel with the sum of it and the one that is there. */
  #add(x: Value): void {
    const sum = this.#cotangent(x.width);
    if (x.cotangent) this.#drop(x.cotangent);
    x.cotangent = sum;
  }

  /** Where there is one already they are added. */
  #give(x: Value, part: Cotangent): void {
    const before = x.cotangent;
    x.cotangent = before ? this.#cotangent(x.width) : part;
    if (!before) return;
    this.#drop(before);
    this.#drop(part);
  }

  #drop(cotangent: Cotangent): void {
    if (--cotangent.holders === 0) this.#of(cotangent.width).now--;
  }

  /** All steps back from the result of a phase, which is held by others. */
  back(result: Value): void {
    if (!this.#tape) return;
    for (const held of this.held.values()) held.now = held.kept;
    if (result.keepers === 0) this.#hold(result.width);
    result.cotangent = this.#cotangent(result.width);
    for (const step of this.#steps.reverse()) step();
  }

  linear(x: Value, { out }: LinearSpec): Value {
    // Its weights are given: only a gradient of theirs would need x.
    this.#use(x);
    return this.#record(new Value(out, false), [], () => this.#add(x));
  }

  norm(x: Value): Value {
    return this.operation(x.width, [x], [x]);
  }

  activate(x: Value): Value {
    // A product is made with what follows it, where no tape needs what lies between.
    return x.made || this.#tape ? this.operation(x.width, [x], [x]) : this.make(x.width);
  }

  gated(gate: Value, up: Value): Value {
    this.#use(gate);
    return up.made || this.#tape ? this.operation(up.width, [gate, up], [gate, up]) : this.make(up.width);
  }

  add(x: Value, y: Value): Value {
    this.#use(x);
    return this.#record(this.make(x.width), [], (dy) => {
      for (const input of [x, y]) {
        dy.holders++;
        this.#give(input, dy);
      }
    });
  }

  split(x: Value): Value {
    return this.#use(x);
  }

  rotate(x: Value): Value {
    this.#use(x);
    const y = this.make(x.width);
    this.#turned.push([x, y]);
    return y;
  }

  attend(q: Value, k: Value, v: Value, { heads, keyHeads, cap }: AttentionSpec): Value {
    // Both are turned here, in one kernel.
    for (const [x, y] of this.#turned.splice(0))
      this.#record(y, [], () => this.#give(x, this.#cotangent(x.width)));
    if (this.#keys >= FUSED_KEYS) return this.operation(q.width, [q, k, v], [q, k, v, this.make(heads)]);
    const pairs = heads * this.#keys;
    // Heads before tokens, and back: one head lies so already.
    const turned = (x: Value, count: number) => (count === 1 ? x : this.operation(x.width, [x]));
    const [queries, keys] = [turned(q, heads), turned(k, keyHeads)];
    const products = this.operation(pairs, [queries, keys], [queries, keys]);
    const scores = cap === undefined ? products : this.cap(products);
    const pattern = this.operation(pairs, [scores], 'output');
    const values = turned(v, keyHeads);
    return turned(this.operation(q.width, [pattern, values], [pattern, values]), heads);
  }

  cap(x: Value): Value {
    return this.operation(x.width, [x], [x], 1);
  }
}

/** The embedding, gradients wanted from `hook_embed` on. */
export function embeddingCost(
  { scale, type, position, norm }: EmbeddingSpec,
  hidden: number,
  tape = false,
): Phase {
  const count = new Count({ keys: 0, tape });
  let x = count.make(hidden);
  if (scale !== undefined) x = count.make(hidden);
  const first = x;
  for (const table of [type, position]) if (table) x = count.add(x, count.make(hidden));
  if (norm) x = count.norm(x);
  // Whose gradient is asked for stays; what the first layer reads counts there.
  if (x !== first) count.keep(first);
  count.back(x);
  return count.held;
}

/** A layer, its input counted. */
export function layerCost(spec: LayerSpec, hidden: number, options: CostOptions): Phase {
  const count = new Count(options);
  count.back(layer<Value>(count, spec, count.make(hidden)));
  return count.held;
}

/** The head and the loss, of a token whose logits are wanted. */
export function headCost(spec: HeadSpec, hidden: number, tape = false): Phase {
  const count = new Count({ keys: 0, tape });
  const logits = decode<Value>(count, spec, finish<Value>(count, spec, count.make(hidden)));
  count.back(count.operation(1, [logits], [logits]));
  return count.held;
}

/** What a pass is of, and what of it stays until its end. */
export interface PassShape {
  readonly rows: number;
  /** Tokens of a row that go through the layers, and the keys that each attends to. */
  readonly tokens: number;
  readonly keys: number;
  readonly tape?: boolean;
  /** Whether the tapes of all layers are there at once, as by default, or one at a time. */
  readonly together?: boolean;
}

/** Bytes that a pass takes of a device, logits wanted of one token a row. @param cut default as if any buffer could be had. */
export function passBytes(description: Description, shape: PassShape, cut?: Cut): number {
  const { rows, tokens, keys, tape = false, together: all = true } = shape;
  const { sizes, embedding, layers, head } = description;
  const { hidden } = sizes;
  const parts = [
    { phase: embeddingCost(embedding, hidden, tape), tokens: rows * tokens },
    ...layers.map((spec) => ({ phase: layerCost(spec, hidden, { keys, tape }), tokens: rows * tokens })),
    { phase: headCost(head, hidden, tape), tokens: rows },
  ];
  const buffers = (of: (held: Pick<Held, 'most' | 'kept'>) => number): Buffers[] =>
    parts.map(
      ({ phase, tokens }) => new Map([...phase].map(([width, held]) => [4 * tokens * width, of(held)])),
    );
  const taped = all ? together(...buffers(({ kept }) => kept)) : new Map();
  const beside = buffers(({ most, kept }) => (all ? most - kept : most));
  return bytesAtMost(
    beside.map((phase) => together(taped, phase)),
    cut,
  );
}

/** Rows of one pass that so many bytes hold: at least one, at most `most`. */
export function rowsThatFit(
  description: Description,
  { bytes, most, ...shape }: Omit<PassShape, 'rows'> & { readonly bytes: number; readonly most: number },
): number {
  const row = passBytes(description, { ...shape, rows: 1 });
  return Math.max(1, Math.min(most, Math.floor(bytes / row)));
}
