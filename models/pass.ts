/**
 * A pass through a model in stages, so that weights can come and go while it runs.
 *
 * A pass is a generator: before each stage it yields what it needs next, and goes on once that is there. With resident weights
 * it is simply run to its end; with streamed ones the stages of many passes go in step, so that weights are read once for all.
 */

import { noGrad, scope, type Tensor } from '../engine/index.ts';
import { disown } from '../engine/scope.ts';

/** The embedding, a layer by number, or final norm and decoder. */
export type Stage = 'embed' | number | 'head';

export interface Need {
  readonly stage: Stage;
  /** The stage after it, or null for the last. */
  readonly next: Stage | null;
  /** Of the embedding: the tokens whose rows are read. */
  readonly ids?: readonly number[];
}

export type Pass<Result> = Generator<Need, Result, void>;

/** Runs a pass whose weights are all there. */
export function complete<Result>(pass: Pass<Result>): Result {
  for (;;) {
    const step = pass.next();
    if (step.done) return step.value;
  }
}

/** The tensor that `fn` returns, in no scope and without tape: it lives over the pauses of a pass. */
export function loose(fn: () => Tensor): Tensor {
  const made = noGrad(() => scope(fn));
  disown(made);
  return made;
}

/** Another handle on a value, that belongs to no scope. */
export function outlive(x: Tensor): Tensor {
  const held = x.detach();
  disown(held);
  return held;
}
