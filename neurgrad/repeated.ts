/**
 * Runs of one shape after one another: the first is recorded and replayed for the others (engine/plan.ts).
 *
 * What such runs differ in are numbers, a few a row, which lie in tensors where a replay finds those of the next run. The plan's
 * memory is given back before a run of another shape; where the budget has no room for it, runs are eager.
 */

import {
  type Device,
  integers,
  OutOfMemoryError,
  type Plan,
  record,
  scope,
  type Tensor,
  tensor,
} from '../engine/index.ts';

/** Numbers of a run by name, f32 or u32. */
export type RunNumbers = Readonly<Record<string, Float32Array | Uint32Array>>;
/** The same on the device, each along one axis. */
export type RunTensors<Numbers extends RunNumbers> = Readonly<Record<keyof Numbers, Tensor>>;

function onDevice<Numbers extends RunNumbers>(device: Device, numbers: Numbers): RunTensors<Numbers> {
  const tensors = Object.entries(numbers).map(([name, values]) => [
    name,
    values instanceof Uint32Array ? integers(device, values) : tensor(device, values),
  ]);
  return Object.fromEntries(tensors) as RunTensors<Numbers>;
}

/** Runs of one shape in a row that are worth a recording. */
export const WORTH = 3;

export class Repeated<Numbers extends RunNumbers, Result> implements Disposable {
  readonly #device: Device;
  readonly #copy: (result: Result) => Result;
  #shape = '';
  #inputs: RunTensors<Numbers> | null = null;
  #plan: Plan<Result> | null = null;
  /** Whether anything is recorded: not after the budget has had no room for it. */
  #records: boolean;

  /** `copy` makes of a plan's result, which the next replay overwrites, one for the caller to dispose of. */
  constructor(device: Device, copy: (result: Result) => Result, records = true) {
    this.#device = device;
    this.#copy = copy;
    this.#records = records;
  }

  /**
   * What `run` makes of `numbers`, in a scope: anew, or where {@link WORTH} runs of its shape follow one another by a recording
   * and its replays. The caller's to dispose of.
   * @param shapes of this run and the next {@link WORTH} - 1, the same only where nothing but the numbers differs.
   */
  run(shapes: readonly string[], numbers: Numbers, run: (inputs: RunTensors<Numbers>) => Result): Result {
    const shape = shapes[0]!;
    if (this.#shape !== shape) this.dispose();
    const worth = shapes.length === WORTH && shapes.every((other) => other === shape);
    const replayed = this.#records && (this.#plan || worth);
    return (
      (replayed ? this.#replay(shape, numbers, run) : null) ??
      scope(() => run(onDevice(this.#device, numbers)))
    );
  }

  #replay(shape: string, numbers: Numbers, run: (inputs: RunTensors<Numbers>) => Result): Result | null {
    try {
      if (this.#plan) {
        for (const [name, values] of Object.entries(numbers)) this.#inputs![name]!.write(values);
        this.#plan.replay();
      } else {
        const inputs = onDevice(this.#device, numbers);
        this.#inputs = inputs;
        this.#plan = record(this.#device, () => run(inputs));
        this.#shape = shape;
      }
      return this.#copy(this.#plan.result);
    } catch (error) {
      if (!(error instanceof OutOfMemoryError)) throw error;
      this.#records = false;
      this.dispose();
      return null;
    }
  }

  /** Gives the plan's memory back. */
  dispose(): void {
    this.#plan?.dispose();
    for (const t of Object.values(this.#inputs ?? {}) as Tensor[]) t.dispose();
    this.#plan = null;
    this.#inputs = null;
    this.#shape = '';
  }
  [Symbol.dispose](): void {
    this.dispose();
  }
}
