/**
 * Dynamic loss scaling (Micikevicius et al. 2018): gradients in f16 are those of the loss times a scale, so that small ones are
 * not lost; the scale halves where they overflow and doubles after a while in which they did not.
 */

import { UserError } from './errors.ts';
import { checkOptions, optionsSchema, positive, whole } from './options.ts';

/** Gradients that are not finite at this scale are so at any. */
const SMALLEST = 2 ** -24;

/** How the scale begins and changes. */
export interface LossScaleOptions {
  /** Default 2^16. */
  readonly initial?: number;
  /** Finite steps after which the scale doubles; default 2000. */
  readonly interval?: number;
  /** Default 2^24. */
  readonly largest?: number;
}

const lossScaleOptions = optionsSchema<LossScaleOptions>({
  initial: positive,
  interval: whole(1),
  largest: positive,
});

/** What a checkpoint keeps. */
export interface LossScaleState {
  readonly value: number;
  /** Finite steps since the scale last changed. */
  readonly steps: number;
}

/**
 * The scale of a training in mixed precision, kept on the host: what it depends on is read with each step anyway.
 * @example
 * ```ts
 * import { LossScale } from 'neurgrad/engine';
 *
 * const scale = new LossScale({ initial: 1024, interval: 2 });
 * for (const finite of [false, true, true]) scale.update(finite);
 * console.log(scale.value); // → 1024
 * ```
 */
export class LossScale {
  readonly #interval: number;
  readonly #largest: number;
  #value: number;
  #steps = 0;

  /** At the options' start. @throws UserError for an option that there is not. */
  constructor(options: LossScaleOptions = {}) {
    checkOptions('LossScale', lossScaleOptions, options);
    const { initial = 2 ** 16, interval = 2000, largest = 2 ** 24 } = options;
    this.#value = initial;
    this.#interval = interval;
    this.#largest = largest;
  }

  /** What the next loss is to be multiplied by. */
  get value(): number {
    return this.#value;
  }

  /** For a checkpoint. */
  get state(): LossScaleState {
    return { value: this.#value, steps: this.#steps };
  }

  /** Goes on from a checkpoint. @throws UserError where its numbers are none of a scale. */
  restore({ value, steps }: LossScaleState): void {
    if (!Number.isFinite(value) || value < SMALLEST || !Number.isSafeInteger(steps) || steps < 0)
      throw new UserError('checkpoint', `a loss scale of ${value} since ${steps} steps is none`);
    this.#value = value;
    this.#steps = steps;
  }

  /** Takes note of a step. @throws UserError where gradients are not finite whatever the scale. */
  update(finite: boolean): void {
    this.#steps = finite ? this.#steps + 1 : 0;
    if (!finite) this.#value /= 2;
    else if (this.#steps >= this.#interval && this.#value < this.#largest) {
      this.#value *= 2;
      this.#steps = 0;
    }
    if (this.#value < SMALLEST)
      throw new UserError('training', 'gradients are not finite at any loss scale; lower the learning rate');
  }
}
