/**
 * What models with all their weights on the device have in common: names of values, runs, and the walk through the layers,
 * which for training may keep each layer's input alone (activation checkpointing, Chen et al. 2016).
 */

import { UserError } from '../engine/errors.ts';
import { type Device, recompute, scope, type Tensor } from '../engine/index.ts';
import { type HookTable, resolveHook, type Taps } from './hooks.ts';
import type { ModelInput, ModelSizes, RunOptions, RunResult } from './model.ts';
import { type Architecture, type CheckedInput, run } from './run.ts';

/** The layer that a parameter is of, or -1. */
const layerOfParameter = (name: string): number => Number(/\.layers?\.(\d+)\./.exec(name)?.[1] ?? -1);

/** A model whose weights are all on the device; {@link Bert} and {@link Llama} are such. */
export abstract class ResidentModel<Config extends ModelSizes> implements Architecture {
  readonly device: Device;
  readonly sizes: Config;
  readonly parameters: ReadonlyMap<string, Tensor>;
  readonly hooks: HookTable;
  #disposed = false;

  /** @param weights under their current Hugging Face names; the model owns them from now on. */
  constructor(device: Device, config: Config, weights: ReadonlyMap<string, Tensor>, hooks: HookTable) {
    this.device = device;
    this.sizes = config;
    this.parameters = weights;
    this.hooks = hooks;
  }

  /** Residual after the last layer [B, S, H]. */
  abstract forward(input: CheckedInput, taps: Taps): Tensor;
  /** Decoder input of rows [R, H] of the residual. */
  abstract head(rows: Tensor, taps: Taps, shape: readonly number[]): Tensor;
  /** Logits [R, V] of decoder input [R, H]. */
  abstract decode(rows: Tensor): Tensor;

  /** See {@link LanguageModel.hookNames}. */
  get hookNames(): readonly string[] {
    return this.hooks.names;
  }

  /** See {@link LanguageModel.resolveHook}. @throws UserError */
  resolveHook(name: string): string {
    return resolveHook(this.hooks, name);
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

  /** Whether a parameter was marked, so that runs leave a tape. */
  trains(): boolean {
    return [...this.parameters.values()].some((t) => t.track !== null);
  }

  /** Layers from `from` on, each in a scope of its own; takes over `x`. */
  protected through(
    from: number,
    x: Tensor,
    taps: Taps,
    layer: (layer: number, x: Tensor) => Tensor,
  ): Tensor {
    for (let i = from; i < this.sizes.layers; i++) {
      const before = x;
      const one = (t: Tensor) => layer(i, t);
      x = scope(() => (taps.recompute ? recompute(one, before, this.#parametersOf(i)) : one(before)));
      before.dispose();
    }
    return x;
  }

  #parametersOf(layer: number): Tensor[] {
    return [...this.parameters].flatMap(([name, t]) => (layerOfParameter(name) === layer ? [t] : []));
  }

  /** Frees the weights. */
  dispose(): void {
    this.#disposed = true;
    for (const t of this.parameters.values()) t.dispose();
  }
}
