/**
 * The training loop of the examples: micro-batches summed into one gradient, clipped, one AdamW step, in float32 or mixed
 * precision; checkpoints in Hugging Face layout from which the same bits go on.
 *
 * Everything random is a function of the seed and the step's number, so that a checkpoint needs no generator's state.
 */

import { join } from 'node:path';
import {
  AdamW,
  add,
  affine,
  clipFactor,
  full,
  grad,
  halfTape,
  LossScale,
  type LossScaleOptions,
  reshape,
  type Schedule,
  scope,
  type Tensor,
  toF32,
  UserError,
} from '../../engine/index.ts';
import {
  type ByteFolder,
  halved,
  loadOptimiser,
  type ModelConfig,
  saveOptimiser,
  type Transformer,
} from '../../models/index.ts';
import { writeModel } from '../../models/save.ts';
import { checkCheckpoint, type Notes, saveCheckpoint, writeNotes } from './folder.ts';

export type Precision = 'f32' | 'mixed' | 'auto';

/** @throws UserError for another word. */
export function checkPrecision(word: string): Precision {
  if (word === 'f32' || word === 'mixed' || word === 'auto') return word;
  throw new UserError('precision', `precision "${word}": must be f32, mixed or auto`);
}

export interface TrainerOptions {
  /** Rate of each step. */
  readonly schedule: Schedule;
  /** Largest global norm of a gradient; default 1. */
  readonly clip?: number;
  /** Decay on matrices; biases and norms have none. Default 0.01. */
  readonly decay?: number;
  readonly beta1?: number;
  readonly beta2?: number;
  /**
   * `mixed`: matrices, their gradients and what the backward needs of activations are kept in f16, with f32 master weights
   * and a loss scale. `auto`: mixed where the device has f16, else f32. Default f32.
   */
  readonly precision?: Precision;
  readonly lossScale?: LossScaleOptions;
}

export interface StepReport {
  readonly step: number;
  /** Mean cross-entropy of the step's predictions, nats. */
  readonly loss: number;
  /** Global norm of the gradient before clipping. */
  readonly norm: number;
  readonly rate: number;
  /** The loss's scale in mixed precision; the step was tried again for each time that gradients overflowed. */
  readonly lossScale?: number;
}

/** A model being trained. */
export class Trainer {
  /** The model that losses are computed with: the one given, or in mixed precision its f16 copy. */
  readonly model: Transformer;
  /** The one given: f32, what checkpoints hold. */
  readonly master: Transformer;
  readonly precision: Exclude<Precision, 'auto'>;
  readonly #names: string[];
  readonly #parameters: Tensor[];
  readonly #optimiser: AdamW;
  readonly #options: TrainerOptions;
  readonly #scale: LossScale | null;

  /** @throws UserError for mixed precision on a device without f16. */
  constructor(model: Transformer, options: TrainerOptions) {
    const { f16 } = model.device.capabilities;
    const { precision = 'f32' } = options;
    if (precision === 'mixed' && !f16)
      throw new UserError('precision', 'mixed precision: this device has no f16; take precision auto or f32');
    this.precision = precision === 'auto' ? (f16 ? 'mixed' : 'f32') : precision;
    const mixed = this.precision === 'mixed';
    this.master = model;
    this.model = mixed ? halved(model) : model;
    this.#scale = mixed ? new LossScale(options.lossScale) : null;
    this.#options = options;
    // By name: sums over parameters round by their order, and a loaded model's is its file's.
    const entries = [...model.parameters].sort(([a], [b]) => (a < b ? -1 : 1));
    const matrices = entries.filter(([, t]) => t.rank > 1);
    const vectors = entries.filter(([, t]) => t.rank <= 1);
    this.#names = [...matrices, ...vectors].map(([name]) => name);
    this.#parameters = this.#names.map((name) => this.model.parameters.get(name)!.requireGrad());
    const { decay = 0.01, beta1 = 0.9, beta2 = 0.999 } = options;
    const groups = [
      {
        parameters: matrices.map(([, t]) => t),
        copies: mixed ? this.#parameters.slice(0, matrices.length) : [],
        decay,
      },
      { parameters: vectors.map(([, t]) => t), decay: 0 },
    ];
    this.#optimiser = new AdamW(groups, { beta1, beta2 });
  }

  /** Steps taken. */
  get steps(): number {
    return this.#optimiser.steps;
  }

  /**
   * One step.
   * @param batches losses of the micro-batches, each computed when its turn comes; their gradient is that of one batch.
   * @param count predictions of all micro-batches together.
   * @throws UserError where the gradient is not finite, at any scale of the loss.
   */
  async step(batches: readonly (() => Tensor)[], count: number): Promise<StepReport> {
    const rate = this.#options.schedule(this.steps + 1);
    this.#optimiser.rate = rate;
    const [loss, factor, norm] = await this.#attempt(batches, count);
    if (factor === 0) {
      this.#optimiser.takeBack();
      if (!this.#scale)
        throw new UserError(
          'training',
          `step ${this.steps + 1}: the gradient is not finite; lower the learning rate`,
        );
      this.#scale.update(false);
      return this.step(batches, count);
    }
    const lossScale = this.#scale?.value;
    this.#scale?.update(true);
    return { step: this.steps, loss, norm, rate, ...(lossScale === undefined ? {} : { lossScale }) };
  }

  /** One step at the present scale: loss, factor on the gradients (0: nothing was changed), norm. */
  async #attempt(batches: readonly (() => Tensor)[], count: number): Promise<[number, number, number]> {
    const scale = this.#scale?.value ?? 1;
    const tape = <Value>(fn: () => Value): Value => (this.#scale ? halfTape(fn) : fn());
    const [loss, clip] = scope(() => {
      let total: Tensor[] | null = null;
      for (const batch of batches) {
        const before: Tensor[] | null = total;
        total = scope((): Tensor[] => {
          const loss = tape(() => affine(batch(), 1 / count, 0));
          const cotangent = full(loss.device, loss.shape, scale);
          const parts = [
            reshape(loss.detach(), []),
            ...grad(loss, this.#parameters, { unconnected: 'zero', cotangent }),
          ];
          return before ? parts.map((part, i) => add(toF32(before[i]!), toF32(part))) : parts;
        });
        for (const t of before ?? []) t.dispose();
      }
      const [loss, ...gradients] = total!;
      const clip = clipFactor(gradients, this.#options.clip ?? 1, scale);
      this.#optimiser.step(gradients, clip);
      return [loss!, clip];
    });
    const [value, [factor, norm]] = await Promise.all([loss.item(), clip.read()]);
    for (const t of [loss, clip]) t.dispose();
    return [value, factor!, norm!];
  }

  /** Writes `folder/step-N` with model, optimiser and `notes`, and points `folder/latest` to it. @returns its path. */
  save(folder: string, config: ModelConfig, tokenizer: ByteFolder, notes: Partial<Notes>): Promise<string> {
    return saveCheckpoint(folder, this.steps, async (path) => {
      await writeModel(path, this.master, config, tokenizer);
      await saveOptimiser(
        join(path, 'optimizer.safetensors'),
        this.#optimiser,
        this.#names,
        this.master.description,
      );
      const lossScale = this.#scale && { lossScale: this.#scale.state };
      writeNotes(path, { step: this.steps, ...lossScale, ...notes });
    });
  }

  /**
   * Puts the optimiser back as a checkpoint left it; the model has been loaded from the same folder.
   * @throws UserError where its files are missing, damaged or not of one step.
   */
  async resume(path: string): Promise<void> {
    const { step, lossScale } = checkCheckpoint(path);
    const file = join(path, 'optimizer.safetensors');
    const { device, description } = this.master;
    await loadOptimiser(file, device, this.#optimiser, this.#names, description);
    if (step !== this.steps)
      throw new UserError(
        'checkpoint',
        `${path}: training.json is of step ${step}, the optimiser of ${this.steps}`,
      );
    if (lossScale) this.#scale?.restore(lossScale);
  }

  /** Frees the moments and the f16 copy, not the model given. */
  dispose(): void {
    this.#optimiser.dispose();
    if (this.model !== this.master) this.model.dispose();
  }
}
