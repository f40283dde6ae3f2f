/**
 * Record and replay: a loop whose turns differ only in the contents of some tensors runs its function once and then
 * encodes the same list of dispatches and copies again, without operations, allocations or bind groups being made.
 *
 * The list names buffers, so while the plan lives nobody else may get them: what is acquired during the recording stays the
 * plan's (memory.ts), and of what was made before it is noticed when it is given back.
 */

import type { Device } from './device.ts';
import { DeviceError, PlanError } from './errors.ts';
import type { BufferWindow, Held, PlanMemory } from './memory.ts';
import { callback, checkValue } from './options.ts';
import type { Dispatch, Recorder } from './queue.ts';
import { disown, innermost, type Owned, own, type Scope, scope, visit } from './scope.ts';
import { checkDevice } from './storage.ts';
import { Tensor } from './tensor.ts';

type Step = Dispatch | { readonly from: BufferWindow; readonly to: BufferWindow };

/** The list as it grows, and what makes a replay of it unsound. */
class Recording implements Recorder {
  readonly steps: Step[] = [];
  /** Buffers made before, with how often each had been given back when it was used first. */
  readonly inputs = new Map<Held, number>();
  readonly #used = new Set<Held>();
  readonly #memory: PlanMemory;

  constructor(memory: PlanMemory) {
    this.#memory = memory;
  }

  dispatch(step: Dispatch): void {
    for (const [i, { buffer }] of step.windows.entries())
      this.#use(buffer, step.kernel.bindings[i]!.access !== 'read');
    this.steps.push({ ...step, parameters: step.parameters.slice(0, step.parameterBytes) });
  }

  copy(from: BufferWindow, to: BufferWindow): void {
    this.#use(from.buffer, false);
    this.#use(to.buffer, true);
    this.steps.push({ from, to });
  }

  write(to: Held): void {
    if (!this.#memory.pinned.has(to) || this.#used.has(to))
      throw new PlanError(
        'write inside a recording would not be replayed; write before it or between replays',
      );
  }

  #use(buffer: Held, changes: boolean): void {
    if (changes && this.#memory.pinned.has(buffer))
      throw new PlanError(
        'a tensor uploaded inside the recording is changed in place, and a replay would not restore it; make it before',
      );
    // One that is given back meanwhile may become the plan's own later in the list.
    if (!this.#used.has(buffer) && buffer.plan !== this.#memory) this.inputs.set(buffer, buffer.releases);
    this.#used.add(buffer);
  }
}

/** What {@link record} returns: the list of one function's dispatches, and its result. Scopes free it. */
export class Plan<T> implements Owned, Disposable {
  /** What the function returned; every replay gives its tensors new contents. Freed with the plan. */
  readonly result: T;
  owner: Scope | null = null;
  readonly #device: Device;
  readonly #memory: PlanMemory;
  readonly #steps: readonly Step[];
  readonly #inputs: readonly (readonly [Held, number])[];
  /** Its own buffers that no host has written to. */
  readonly #rewritten: readonly Held[];
  /** What of the result was made inside. */
  readonly #made: readonly Owned[];
  #disposed = false;

  /** Internal: plans come from {@link record}. */
  constructor(device: Device, memory: PlanMemory, recording: Recording, result: T, made: readonly Owned[]) {
    this.#device = device;
    this.#memory = memory;
    this.#steps = recording.steps;
    this.#inputs = [...recording.inputs];
    this.#rewritten = [...memory.owned].filter((buffer) => !memory.pinned.has(buffer));
    this.#made = made;
    this.result = result;
    own(this);
  }

  /** Dispatches and copies of a replay. */
  get length(): number {
    return this.#steps.length;
  }

  /**
   * Encodes the list again, in order with everything else on the device.
   * @throws PlanError after dispose(), inside a recording, and where a tensor that the list uses has been disposed of.
   */
  replay(): void {
    const { queue } = this.#device;
    if (this.#disposed) throw new PlanError('replay after dispose(); record again');
    if (queue.recorder) throw new PlanError('replay inside a recording; call it outside');
    if (this.#inputs.some(([buffer, releases]) => buffer.releases !== releases))
      throw new PlanError('a tensor that the plan uses has been disposed of; keep it, or record again');
    // They begin with no contents, as when they were recorded: what became of an earlier replay is nothing to this one.
    for (const buffer of this.#rewritten) buffer.writtenBy = buffer.madeBy;
    for (const step of this.#steps)
      if ('from' in step) queue.copy(step.from, step.to);
      else queue.encode(step);
  }

  /** Frees the result and gives the plan's memory back. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    disown(this);
    for (const object of this.#made) object.dispose();
    this.#device.pool.freePlan(this.#memory);
  }
  /** For `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** What of a recording's result was made inside: the open scope's, or (a model's run) in the plan's memory. */
function madeInside(result: unknown, memory: PlanMemory): Owned[] {
  const made: Owned[] = [];
  const inMemory = (object: Owned): boolean =>
    object instanceof Tensor && object.storage.segments.some((s) => s.buffer.plan === memory);
  visit(result, (object) => {
    if (object.owner === innermost() || inMemory(object)) made.push(object);
  });
  return made;
}

/**
 * Runs `fn` once, as in a scope, and keeps what it dispatched: `replay()` does the same again on what its input tensors hold by
 * then. Inputs are tensors made before and rewritten by `Tensor.write`; numbers that `fn` gave from the host (shapes, scales,
 * ids, tensors uploaded inside) stay as they were. What it changes in place (weights, by an optimiser) changes again. Until
 * `dispose()` the plan holds all memory that `fn` used.
 * @throws PlanError inside another recording, and where `fn` reads, or writes to what a replay could not restore; DeviceError
 *   where it returns what lies on another device.
 * @example
 * ```ts
 * import { linear, openDevice, record, tensor } from 'neurgrad/engine';
 *
 * const device = await openDevice();
 * const [x, w] = [tensor(device, [1, 2], [1, 2]), tensor(device, [3, 0, 0, 3], [2, 2])];
 * {
 *   using plan = record(device, () => linear(x, w));
 *   console.log([...(await plan.result.read())]); // → [ 3, 6 ]
 *   x.write([5, 7]);
 *   plan.replay();
 *   console.log([...(await plan.result.read())]); // → [ 15, 21 ]
 * }
 * device.destroy();
 * ```
 */
export function record<T>(device: Device, fn: () => T): Plan<T> {
  checkDevice('record', device);
  checkValue('record', 'fn', callback(), fn);
  const { pool, queue } = device;
  if (queue.recorder) throw new PlanError('a recording inside a recording; record one after the other');
  const memory = pool.beginPlan();
  const recording = new Recording(memory);
  queue.recorder = recording;
  try {
    let made: Owned[] = [];
    const result = scope(() => {
      const returned = fn();
      visit(returned, (object) => {
        if (object instanceof Tensor && object.device !== device) throw DeviceError.two('record');
      });
      made = madeInside(returned, memory);
      // They live as long as the plan, not as the scope around the recording.
      for (const object of made) disown(object);
      return returned;
    });
    return new Plan(device, memory, recording, result, made);
  } catch (error) {
    pool.freePlan(memory);
    throw error;
  } finally {
    queue.recorder = null;
    pool.endPlan();
  }
}
