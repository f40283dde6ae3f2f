/**
 * The words of a block by tensors that are made when they are asked for: where the value at a hook point is given, nothing that
 * would only have led to it is computed. So a run that freezes attention and feed-forward parts costs their output weights, or less.
 */

import type { Tensor } from '../../engine/index.ts';
import type { ActivationName } from '../../kernels/activation.ts';
import type { AttentionSpec, LinearSpec, NormSpec, Words } from '../../models/block.ts';
import type { TensorWords, Value } from '../../models/words.ts';

/** A value that is made once, when it is first asked for. */
export type Later = () => Value;

const later = (make: () => Value): Later => {
  let made: Value | undefined;
  return () => {
    made ??= make();
    return made;
  };
};

/** {@link TensorWords}, later. */
export class LaterWords implements Words<Later> {
  readonly #words: TensorWords;
  readonly #prefix: string;
  readonly #given: ReadonlyMap<string, Tensor>;
  readonly #wanted: ReadonlySet<string>;
  readonly #asked: Later[] = [];

  /** @param given values by hook name. @param wanted names of values that are made though nothing may need them. */
  constructor(
    words: TensorWords,
    prefix: string,
    given: ReadonlyMap<string, Tensor>,
    wanted: ReadonlySet<string>,
  ) {
    this.#words = words;
    this.#prefix = prefix;
    this.#given = given;
    this.#wanted = wanted;
  }

  /** Makes what is wanted and has not been made. */
  finish(): void {
    for (const value of this.#asked) value();
  }

  at(hook: string, x: Later): Later {
    const name = this.#prefix + hook;
    const given = this.#given.get(name);
    const value = later(() => this.#words.at(hook, given ?? x()));
    if (this.#wanted.has(name)) this.#asked.push(value);
    return value;
  }

  linear(x: Later, map: LinearSpec): Later {
    return later(() => this.#words.linear(x(), map));
  }

  norm(x: Later, norm: NormSpec): Later {
    return later(() => this.#words.norm(x(), norm));
  }

  activate(x: Later, activation: ActivationName, slot: string): Later {
    return later(() => this.#words.activate(x(), activation, slot));
  }

  gated(gate: Later, up: Later, activation: ActivationName): Later {
    const value = later(() => this.#words.gated(gate(), up(), activation));
    if (this.#wanted.has(`${this.#prefix}mlp.hook_act`)) this.#asked.push(value);
    return value;
  }

  add(x: Later, y: Later): Later {
    return later(() => this.#words.add(x(), y()));
  }

  split(x: Later, count: number, size: number): Later {
    return later(() => this.#words.split(x(), count, size));
  }

  rotate(x: Later, rotary: Float64Array): Later {
    return later(() => this.#words.rotate(x(), rotary));
  }

  attend(q: Later, k: Later, v: Later, attention: AttentionSpec): Later {
    const value = later(() => this.#words.attend(q(), k(), v(), attention));
    if (this.#wanted.has(`${this.#prefix}attn.hook_pattern`)) this.#asked.push(value);
    return value;
  }

  cap(x: Later, cap: number): Later {
    return later(() => this.#words.cap(x(), cap));
  }

  asked(x: Later): Later {
    return later(() => this.#words.asked(x()));
  }

  queries(x: Later, attention: AttentionSpec): Later {
    return later(() => this.#words.queries(x(), attention));
  }
}
