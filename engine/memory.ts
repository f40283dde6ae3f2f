/**
 * Device memory: a pool of buffers in size classes, exact bytes by purpose, and a budget.
 *
 * Reuse is gated by who comes next. GPU work may take a released buffer at once: the queue runs dispatches in order and
 * WebGPU orders their memory accesses. A host write (writeBuffer) stands in the order of submits, so it takes only buffers
 * whose last use has been submitted; a host map takes only buffers whose submit's fence has passed.
 */

import { OutOfMemoryError, PlanError } from './errors.ts';

/** What device memory is held for. */
export const PURPOSES = ['weights', 'activations', 'saved', 'scratch', 'staging'] as const;
/** One of the purposes. */
export type Purpose = (typeof PURPOSES)[number];

/** One GPU buffer of the pool. `id` names it in bind group keys; it is never reused by another buffer. */
export interface PooledBuffer {
  readonly buffer: GPUBuffer;
  /** The device that it is of. */
  readonly gpu: GPUDevice;
  readonly id: number;
  /** Bytes of the size class: what the device really holds. */
  readonly bytes: number;
  readonly staging: boolean;
  /** Serial of the newest submit that may use it. */
  lastUse: number;
  /** How often it has been given back. */
  releases: number;
  /** How often something has been put into it: by dispatches, copies and the host. Of a plan's own what its replays put there again is none. */
  writes: number;
  /** The plan that keeps it from others. */
  plan: PlanMemory | null;
}

/** Bytes that a binding may begin at a multiple of, on every device. */
export const ALIGNMENT = 256;

/** A window of a buffer, in bytes; `offset` a multiple of 256, `size` of 4. */
export interface BufferWindow {
  readonly buffer: PooledBuffer;
  readonly offset: number;
  readonly size: number;
}

/** What was acquired while a plan was recorded (plan.ts): others get none of it before {@link MemoryPool.freePlan}. */
export interface PlanMemory {
  readonly owned: Set<PooledBuffer>;
  /** Written by the host, which a replay does not do again: no later step may have these. */
  readonly pinned: Set<PooledBuffer>;
  /** Given back, and free for later steps of the same recording, by size class. */
  readonly free: Map<number, PooledBuffer[]>;
}

/** Bytes held, by purpose; `pooled` is released but not yet given back to the driver. */
export type MemoryReport = Readonly<Record<Purpose | 'pooled' | 'total' | 'peak', number>>;

/** What the pool needs to know of the command queue. */
export interface FenceClock {
  /** Serial that the next submit will have. */
  readonly nextSerial: number;
  /** Serial of the newest finished submit. */
  readonly finishedSerial: number;
  /** Submits what is recorded. */
  flush(): void;
}

/** Size class of a request: steps of an eighth of the power of two below it, at least 256 bytes. */
export function sizeClass(bytes: number): number {
  if (bytes <= 256) return 256;
  const step = Math.max(256, 2 ** (Math.floor(Math.log2(bytes)) - 3));
  return Math.ceil(bytes / step) * step;
}

/**
 * Free buffers lie by falling id and are taken from the end. So what runs again meets the same buffers again, in whatever
 * order they came back, and finds its bind groups made.
 */
function enlist(free: Map<number, PooledBuffer[]>, buffer: PooledBuffer): void {
  const list = free.get(buffer.bytes);
  if (!list) {
    free.set(buffer.bytes, [buffer]);
    return;
  }
  const last = list.at(-1);
  if (!last || last.id > buffer.id) {
    list.push(buffer);
    return;
  }
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (list[middle]!.id > buffer.id) low = middle + 1;
    else high = middle;
  }
  list.splice(low, 0, buffer);
}

const megabytes = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`;

export class MemoryPool {
  readonly #device: GPUDevice;
  readonly #clock: FenceClock;
  /** By size class. */
  readonly #free = { storage: new Map<number, PooledBuffer[]>(), staging: new Map<number, PooledBuffer[]>() };
  readonly #held = new Map<PooledBuffer, Purpose>();
  readonly #byPurpose: Record<Purpose, number> = {
    weights: 0,
    activations: 0,
    saved: 0,
    scratch: 0,
    staging: 0,
  };
  readonly #onDestroy: (buffers: ReadonlySet<PooledBuffer>) => void;
  #recording: PlanMemory | null = null;
  readonly budget: number;
  #pooled = 0;
  /** Bytes from the driver: held and pooled. */
  #total = 0;
  #peak = 0;
  #nextId = 1;

  /** `budget` in bytes over everything the pool has from the driver. */
  constructor(
    device: GPUDevice,
    clock: FenceClock,
    budget: number,
    onDestroy: (buffers: ReadonlySet<PooledBuffer>) => void,
  ) {
    this.#device = device;
    this.#clock = clock;
    this.budget = budget;
    this.#onDestroy = onDestroy;
  }

  /** Bytes held now. */
  report(): MemoryReport {
    return { ...this.#byPurpose, pooled: this.#pooled, total: this.#total, peak: this.#peak };
  }

  /**
   * A storage buffer of at least `bytes`, to be written first by the GPU, or by the host (`writer`).
   * @throws OutOfMemoryError when the budget would be exceeded.
   */
  acquire(bytes: number, purpose: Purpose, writer: 'gpu' | 'host' = 'gpu'): PooledBuffer {
    const plan = this.#recording;
    const again = writer === 'gpu' ? plan?.free.get(sizeClass(bytes))?.pop() : undefined;
    if (again) {
      this.#byPurpose.scratch -= again.bytes;
      this.#hold(again, purpose);
      return again;
    }
    const newestUse = writer === 'host' ? this.#clock.nextSerial - 1 : Infinity;
    const buffer = this.#acquire(bytes, purpose, newestUse, false);
    if (plan) {
      buffer.plan = plan;
      plan.owned.add(buffer);
      if (writer === 'host') plan.pinned.add(buffer);
    }
    return buffer;
  }

  /** From here to {@link endPlan} what is acquired belongs to a plan. */
  beginPlan(): PlanMemory {
    this.#recording = { owned: new Set(), pinned: new Set(), free: new Map() };
    return this.#recording;
  }

  /** What is acquired is anybody's again. */
  endPlan(): void {
    this.#recording = null;
  }

  /** Gives a plan's free buffers back to all; those still held follow when they are released. */
  freePlan(plan: PlanMemory): void {
    for (const buffer of plan.owned) {
      buffer.plan = null;
      if (this.#held.has(buffer)) continue;
      this.#byPurpose.scratch -= buffer.bytes;
      this.#pooled += buffer.bytes;
      enlist(this.#free.storage, buffer);
    }
    plan.owned.clear();
  }

  /** A buffer that the host can map for reading, at least `bytes`. @throws PlanError in a recording */
  acquireStaging(bytes: number): PooledBuffer {
    if (this.#recording) throw new PlanError('nothing can be read inside a recording; return the tensor');
    return this.#acquire(bytes, 'staging', this.#clock.finishedSerial, true);
  }

  /** Only buffers last used by submit `newestUse` or before are taken from the pool. */
  #acquire(bytes: number, purpose: Purpose, newestUse: number, staging: boolean): PooledBuffer {
    const size = sizeClass(bytes);
    const list = this.#free[staging ? 'staging' : 'storage'].get(size);
    let at = (list?.length ?? 0) - 1;
    while (at >= 0 && list![at]!.lastUse > newestUse) at--;
    if (list && at >= 0) {
      const found = list[at]!;
      if (at === list.length - 1) list.pop();
      else list.splice(at, 1);
      this.#pooled -= found.bytes;
      this.#hold(found, purpose);
      return found;
    }
    if (this.#total + size > this.budget) {
      this.trim();
      if (this.#total + size > this.budget) {
        const held = this.#total;
        const parts = Object.entries(this.#byPurpose).filter(([, b]) => b > 0);
        throw new OutOfMemoryError(
          `out of memory: ${megabytes(size)} for ${purpose} asked for with ${megabytes(held)} held (${parts
            .map(([name, b]) => `${name} ${megabytes(b)}`)
            .join(', ')}) of a budget of ${megabytes(this.budget)}; use smaller batches or a smaller dtype`,
          size,
          held,
          this.budget,
        );
      }
    }
    const usage = staging
      ? GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST
      : GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    const made: PooledBuffer = {
      buffer: this.#device.createBuffer({ size, usage }),
      gpu: this.#device,
      id: this.#nextId++,
      bytes: size,
      staging,
      lastUse: 0,
      releases: 0,
      writes: 0,
      plan: null,
    };
    this.#total += size;
    this.#peak = Math.max(this.#peak, this.#total);
    this.#hold(made, purpose);
    return made;
  }

  #hold(buffer: PooledBuffer, purpose: Purpose): void {
    this.#held.set(buffer, purpose);
    this.#byPurpose[purpose] += buffer.bytes;
  }

  /** Accounts a held buffer to another purpose (an activation that a tape keeps is `saved`). */
  reassign(buffer: PooledBuffer, purpose: Purpose): void {
    const old = this.#held.get(buffer);
    if (old === undefined || old === purpose) return;
    this.#held.set(buffer, purpose);
    this.#byPurpose[old] -= buffer.bytes;
    this.#byPurpose[purpose] += buffer.bytes;
  }

  /** Gives a buffer back to the pool. The caller must not use it again. */
  release(buffer: PooledBuffer): void {
    const purpose = this.#held.get(buffer);
    if (purpose === undefined) return;
    this.#held.delete(buffer);
    this.#byPurpose[purpose] -= buffer.bytes;
    buffer.releases++;
    if (buffer.plan) {
      // Still the plan's: counted as scratch.
      this.#byPurpose.scratch += buffer.bytes;
      if (!buffer.plan.pinned.has(buffer)) enlist(buffer.plan.free, buffer);
      return;
    }
    this.#pooled += buffer.bytes;
    enlist(this.#free[buffer.staging ? 'staging' : 'storage'], buffer);
  }

  /** Gives every pooled buffer back to the driver. */
  trim(): void {
    this.#clock.flush();
    const lists = [this.#free.storage, this.#free.staging];
    const pooled = new Set(lists.flatMap((free) => [...free.values()].flat()));
    if (pooled.size === 0) return;
    // Once for all of them: who is told looks through all that it keeps.
    this.#onDestroy(pooled);
    for (const buffer of pooled) {
      // The driver keeps a destroyed buffer's memory until submitted work that uses it has finished.
      buffer.buffer.destroy();
      this.#pooled -= buffer.bytes;
      this.#total -= buffer.bytes;
    }
    for (const free of lists) free.clear();
  }
}
