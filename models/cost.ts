/**
 * The words of a block by counting: numbers that a pass makes, numbers that its tape keeps for a backward, and operations.
 * What memory is planned by, how many rows a pass may have, and what a run will take all come from here.
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
  type NormSpec,
  same,
  type Words,
} from './block.ts';
import type { Description } from './description.ts';

/** Of one token. */
export interface Cost {
  /** Numbers of all values that are made; they live until the layer ends. */
  readonly made: number;
  /** Numbers that a tape to the activations keeps. */
  readonly saved: number;
  /** Additions and multiplications. */
  readonly operations: number;
}

export interface CostOptions {
  /** Keys that each token attends to. */
  readonly keys: number;
  /** Whether a tape is made: then no two words are one kernel. */
  readonly tape?: boolean;
}

/** A value of a token: how wide it is, whether it lies in memory of its own, and whether a tape keeps it. */
class Counted {
  readonly width: number;
  made: boolean;
  kept = false;

  constructor(width: number, made: boolean) {
    this.width = width;
    this.made = made;
  }
}

class Count implements Words<Counted> {
  made = 0;
  saved = 0;
  operations = 0;
  readonly at = (_: string, x: Counted): Counted => x;
  readonly asked = same;
  readonly queries = same;
  readonly #keys: number;
  readonly #tape: boolean;

  constructor({ keys, tape = false }: CostOptions) {
    this.#keys = keys;
    this.#tape = tape;
  }

  /** A value that a kernel writes. */
  #make(width: number): Counted {
    this.made += width;
    return new Counted(width, true);
  }

  /** A product waits for what follows it. */
  #use(x: Counted): Counted {
    if (!x.made) {
      x.made = true;
      this.made += x.width;
    }
    return x;
  }

  #keep(x: Counted): void {
    if (x.kept || !this.#tape) return;
    x.kept = true;
    this.saved += this.#use(x).width;
  }

  /** What follows a product takes its place. */
  #after(x: Counted, operations: number): Counted {
    this.operations += operations * x.width;
    if (this.#tape) this.#use(x);
    return this.#make(x.width);
  }

  linear(x: Counted, { out, in: size }: LinearSpec): Counted {
    this.#keep(this.#use(x));
    this.operations += 2 * out * size;
    return new Counted(out, false);
  }

  norm(x: Counted, _: NormSpec): Counted {
    this.#keep(this.#use(x));
    this.operations += 8 * x.width;
    return this.#make(x.width);
  }

  activate(x: Counted): Counted {
    this.#keep(x);
    return this.#after(x, 20);
  }

  gated(gate: Counted, up: Counted): Counted {
    this.#use(gate);
    if (!this.#tape) return this.#after(up, 20);
    this.#keep(gate);
    const active = this.#make(gate.width);
    this.#keep(active);
    this.#keep(up);
    return this.#after(up, 20);
  }

  add(x: Counted, y: Counted): Counted {
    this.#use(x);
    return this.#after(y, 1);
  }

  split(x: Counted): Counted {
    return this.#use(x);
  }

  rotate(x: Counted): Counted {
    this.#use(x);
    this.operations += 3 * x.width;
    return this.#make(x.width);
  }

  attend(q: Counted, k: Counted, v: Counted, { heads, cap }: AttentionSpec): Counted {
    this.operations += 4 * q.width * this.#keys;
    if (this.#keys >= FUSED_KEYS) {
      for (const x of [q, k, v]) this.#keep(x);
      const z = this.#make(q.width);
      this.#keep(z);
      return z;
    }
    // Heads before tokens, and back.
    for (const x of [q, k, v]) this.#keep(this.#make(x.width));
    for (let i = cap === undefined ? 1 : 3; i > 0; i--) this.#make(heads * this.#keys);
    this.#keep(this.#make(heads * this.#keys));
    this.#make(q.width);
    return this.#make(q.width);
  }

  cap(x: Counted): Counted {
    this.#keep(this.#use(x));
    this.operations += 10 * x.width;
    return this.#make(x.width);
  }
}

const costOf = ({ made, saved, operations }: Count): Cost => ({ made, saved, operations });

/** A layer's, of a token. */
export function layerCost(spec: LayerSpec, hidden: number, options: CostOptions): Cost {
  const count = new Count(options);
  layer(count, spec, new Counted(hidden, true));
  return costOf(count);
}

/** The head's, of a token whose logits are wanted. */
export function headCost(spec: HeadSpec, hidden: number, tape = false): Cost {
  const count = new Count({ keys: 0, tape });
  const logits = decode<Counted>(count, spec, finish<Counted>(count, spec, new Counted(hidden, true)));
  return { ...costOf(count), made: count.made + (logits.made ? 0 : logits.width) };
}

/** Of all layers: the most that one makes, what the tapes of all keep, and their operations, of a token. */
export function layersCost({ sizes, layers }: Description, options: CostOptions): Cost {
  const costs = layers.map((spec) => layerCost(spec, sizes.hidden, options));
  return {
    made: Math.max(...costs.map(({ made }) => made)),
    saved: costs.reduce((sum, { saved }) => sum + saved, 0),
    operations: costs.reduce((sum, { operations }) => sum + operations, 0),
  };
}

/** What one row of a pass takes, and how much all may. */
export interface PassShape {
  /** Tokens of a row that go through the layers, and the keys that each attends to. */
  readonly tokens: number;
  readonly keys: number;
  /** Whether a tape is kept through all layers. */
  readonly backward?: boolean;
  /** Memory that all rows may take. */
  readonly bytes: number;
  /** Most rows, whatever they take. */
  readonly most: number;
}

/** Rows of one pass, logits wanted of one token each: at least one. */
export function rowsThatFit(description: Description, shape: PassShape): number {
  const { tokens, keys, backward = false, bytes, most } = shape;
  const { hidden } = description.sizes;
  const layers = layersCost(description, { keys, tape: true });
  const head = headCost(description.head, hidden, true);
  const kept = backward ? { layers: layers.saved, head: head.saved } : { layers: 0, head: 0 };
  const row = 4 * (tokens * (layers.made + 2 * hidden + kept.layers) + head.made + kept.head);
  return Math.max(1, Math.min(most, Math.floor(bytes / row)));
}
