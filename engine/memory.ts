/**
 * Device memory: a pool of buffers in size classes, and of textures, exact bytes by purpose, and a budget.
 *
 * Reuse is gated by who comes next. GPU work may take a released buffer at once: the queue runs dispatches in order and
 * WebGPU orders their memory accesses. A host write (writeBuffer) stands in the order of submits, so it takes only buffers
 * whose last use has been submitted; a host map takes only buffers whose submit's fence has passed.
 */

import { TEXEL } from '../kernels/kernel.ts';
import { OutOfMemoryError, PlanError } from './errors.ts';
import type { Submissions, Written } from './submissions.ts';

/** What device memory is held for. */
export const PURPOSES = ['weights', 'activations', 'saved', 'scratch', 'staging'] as const;
/** One of the purposes. */
export type Purpose = (typeof PURPOSES)[number];

/**
 * What the pool has from the driver. A class, so that all of a kind have one shape, however they were made: every dispatch looks
 * at each of its buffers.
 */
abstract class Pooled implements Written {
  /** The device that it is of. */
  readonly gpu: GPUDevice;
  /** Names it in bind group keys; never reused by another. */
  readonly id: number;
  /** Bytes of the size class: what the device really holds. */
  readonly bytes: number;
  readonly staging: boolean;
  readonly madeBy: number;
  writtenBy: number;
  /** Serial of the newest submit that may use it. */
  lastUse = 0;
  /** How often it has been given back. */
  releases = 0;
  /** How often something has been put into it: by dispatches, copies and the host. Of a plan's own what its replays put there again is none. */
  writes = 0;
  /** The device could not make it. */
  broken = false;
  /** The plan that keeps it from others. */
  plan: PlanMemory | null = null;

  constructor(gpu: GPUDevice, id: number, bytes: number, staging: boolean, madeBy: number) {
    this.gpu = gpu;
    this.id = id;
    this.bytes = bytes;
    this.staging = staging;
    this.madeBy = madeBy;
    this.writtenBy = madeBy;
  }
}

/** One GPU buffer of the pool. */
export class PooledBuffer extends Pooled {
  readonly buffer: GPUBuffer;

  constructor(
    buffer: GPUBuffer,
    gpu: GPUDevice,
    id: number,
    bytes: number,
    staging: boolean,
    madeBy: number,
  ) {
    super(gpu, id, bytes, staging, madeBy);
    this.buffer = buffer;
  }
}

/** One GPU texture of the pool, four f32 a texel: what a kernel's {@link TEXEL} binding takes. */
export class PooledTexture extends Pooled {
  readonly texture: GPUTexture;
  readonly view: GPUTextureView;
  readonly width: number;
  readonly height: number;

  constructor(texture: GPUTexture, gpu: GPUDevice, id: number, bytes: number, madeBy: number) {
    super(gpu, id, bytes, false, madeBy);
    this.texture = texture;
    this.view = texture.createView();
    this.width = texture.width;
    this.height = texture.height;
  }
}

/** A buffer that is none of the pool's, for the queue. */
export const outsidePool = (
  gpu: GPUDevice,
  buffer: GPUBuffer,
  bytes: number,
  staging: boolean,
): PooledBuffer => new PooledBuffer(buffer, gpu, 0, bytes, staging, 0);

/** Whatever the pool gives. */
export type Held = PooledBuffer | PooledTexture;

/** Bytes that a binding may begin at a multiple of, on every device. */
export const ALIGNMENT = 256;

/** A window of a buffer, in bytes; `offset` a multiple of 256, `size` of 4. */
export interface BufferWindow {
  readonly buffer: PooledBuffer;
  readonly offset: number;
  readonly size: number;
}

/** A whole texture, as a window. */
export interface TextureWindow {
  readonly buffer: PooledTexture;
  readonly offset: 0;
  readonly size: number;
}

/** What a kernel's binding is given. */
export type Window = BufferWindow | TextureWindow;

/** All of a texture. */
export const wholeTexture = (buffer: PooledTexture): TextureWindow => ({
  buffer,
  offset: 0,
  size: buffer.bytes,
});

/** What was acquired while a plan was recorded (plan.ts): others get none of it before {@link MemoryPool.freePlan}. */
export interface PlanMemory {
  readonly owned: Set<Held>;
  /** Written by the host, which a replay does not do again: no later step may have these. */
  readonly pinned: Set<Held>;
  /** Given back, and free for later steps of the same recording, by {@link kindOf}. */
  readonly free: Map<number, Held[]>;
}

/** Bytes held, by purpose; `pooled` is released but not yet given back to the driver. */
export type MemoryReport = Readonly<Record<Purpose | 'pooled' | 'total' | 'peak', number>>;

/** What the pool needs to know of the command queue. */
export interface FenceClock {
  /** Serial that the next submit will have. */
  readonly nextSerial: number;
  /** Serial of the newest finished submit. */
  readonly finishedSerial: number;
  /** Where it is told what WebGPU refused. */
  readonly submissions: Submissions;
  /** Submits what is recorded. */
  flush(): void;
}

/** Size class of a request: steps of an eighth of the power of two below it, at least 256 bytes. */
export function sizeClass(bytes: number): number {
  if (bytes <= 256) return 256;
  const step = Math.max(256, 2 ** (Math.floor(Math.log2(bytes)) - 3));
  return Math.ceil(bytes / step) * step;
}

/** Of textures those are alike that have the same sides. */
const textureKind = (width: number, height: number): number => -(width * 2 ** 20 + height);
/** What free ones are found by: size class of a buffer, sides of a texture. */
const kindOf = (held: Held): number =>
  'texture' in held ? textureKind(held.width, held.height) : held.bytes;

/**
 * Free buffers lie by falling id and are taken from the end. So what runs again meets the same buffers again, in whatever
 * order they came back, and finds its bind groups made.
 */
function enlist(free: Map<number, Held[]>, buffer: Held): void {
  const kind = kindOf(buffer);
  const list = free.get(kind);
  if (!list) {
    free.set(kind, [buffer]);
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
  /** By {@link kindOf}. */
  readonly #free = { storage: new Map<number, Held[]>(), staging: new Map<number, Held[]>() };
  readonly #held = new Map<Held, Purpose>();
  readonly #byPurpose: Record<Purpose, number> = {
    weights: 0,
    activations: 0,
    saved: 0,
    scratch: 0,
    staging: 0,
  };
  readonly #onDestroy: (buffers: ReadonlySet<Held>) => void;
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
    onDestroy: (buffers: ReadonlySet<Held>) => void,
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
    const size = sizeClass(bytes);
    return this.#acquire(size, purpose, writer, size, () => this.#buffer(size, false)) as PooledBuffer;
  }

  /** A storage texture of so many texels, to be written first by the GPU. @throws OutOfMemoryError as {@link acquire} */
  acquireTexture(width: number, height: number, purpose: Purpose): PooledTexture {
    const bytes = 16 * width * height;
    const make = (): PooledTexture => {
      const descriptor: GPUTextureDescriptor = {
        size: [width, height],
        format: TEXEL,
        usage: GPUTextureUsage.STORAGE_BINDING,
      };
      return this.#made(
        bytes,
        () => this.#device.createTexture(descriptor),
        (texture, id, madeBy) => new PooledTexture(texture, this.#device, id, bytes, madeBy),
      );
    };
    return this.#acquire(bytes, purpose, 'gpu', textureKind(width, height), make) as PooledTexture;
  }

  #acquire(bytes: number, purpose: Purpose, writer: 'gpu' | 'host', kind: number, make: () => Held): Held {
    const plan = this.#recording;
    const again = writer === 'gpu' ? plan?.free.get(kind)?.pop() : undefined;
    if (again) {
      this.#byPurpose.scratch -= again.bytes;
      this.#hold(again, purpose);
      return again;
    }
    const newestUse = writer === 'host' ? this.#clock.nextSerial - 1 : Infinity;
    const held = this.#take(bytes, purpose, newestUse, this.#free.storage.get(kind), make);
    if (plan) {
      held.plan = plan;
      plan.owned.add(held);
      if (writer === 'host') plan.pinned.add(held);
    }
    return held;
  }

  /** From here to {@link endPlan} what is acquired belongs to a plan. */
  beginPlan(): PlanMemory {
    this.#recording = { owned: new Set(), pinned: new Set(), free: new Map() };
    return this.#recording;
  }

  /** What is acquired until the result is called is no plan's. */
  pausePlan(): () => void {
    const plan = this.#recording;
    this.#recording = null;
    return () => {
      this.#recording = plan;
    };
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
      this.#enlist(buffer);
    }
    plan.owned.clear();
  }

  /** A buffer that the host can map for reading, at least `bytes`. @throws PlanError in a recording */
  acquireStaging(bytes: number): PooledBuffer {
    if (this.#recording) throw new PlanError('nothing can be read inside a recording; return the tensor');
    const size = sizeClass(bytes);
    const free = this.#free.staging.get(size);
    return this.#take(size, 'staging', this.#clock.finishedSerial, free, () =>
      this.#buffer(size, true),
    ) as PooledBuffer;
  }

  /** From `list`, only what was last used by submit `newestUse` or before; else from the driver. */
  #take(size: number, purpose: Purpose, newestUse: number, list: Held[] | undefined, make: () => Held): Held {
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
    const made = make();
    this.#total += size;
    this.#peak = Math.max(this.#peak, this.#total);
    this.#hold(made, purpose);
    return made;
  }

  #buffer(size: number, staging: boolean): PooledBuffer {
    const usage = staging
      ? GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST
      : GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    return this.#made(
      size,
      () => this.#device.createBuffer({ size, usage }),
      (buffer, id, madeBy) => new PooledBuffer(buffer, this.#device, id, size, staging, madeBy),
    );
  }

  /** What the device could not make is given to nobody again; what uses it meets the error in place of numbers. */
  #made<Made, Kind extends Pooled>(
    bytes: number,
    make: () => Made,
    hold: (made: Made, id: number, madeBy: number) => Kind,
  ): Kind {
    const { made, number, fault } = this.#clock.submissions.making(make, ({ message }) =>
      this.refused(bytes, message),
    );
    const pooled = hold(made, this.#nextId++, number);
    fault.then((error) => {
      if (!error) return;
      pooled.broken = true;
      // It may lie among the free ones already; and whoever tries again with less has their room.
      this.trim();
    });
    return pooled;
  }

  /** A buffer of one's own that the host writes at once. @throws OutOfMemoryError where there is no memory to map it from. */
  createMapped(size: number, usage: GPUBufferUsageFlags): GPUBuffer {
    try {
      return this.#device.createBuffer({ size, usage, mappedAtCreation: true });
    } catch (cause) {
      // WebGPU: a RangeError, the only error that it throws at once.
      throw this.refused(size, (cause as Error).message);
    }
  }

  /** What the device says when its memory does not suffice. @param asked bytes, 0 where that is not known */
  refused(asked: number, message: string): OutOfMemoryError {
    const what = asked > 0 ? `${megabytes(asked)} asked for with ` : '';
    return new OutOfMemoryError(
      `out of device memory: ${what}${megabytes(this.#total)} held; use smaller batches or a smaller dtype (${message.split('\n')[0]})`,
      asked,
      this.#total,
      this.budget,
    );
  }

  /** Gives one back to the driver. */
  #drop(held: Held): void {
    // The driver keeps a destroyed buffer's memory until submitted work that uses it has finished.
    ('texture' in held ? held.texture : held.buffer).destroy();
    this.#total -= held.bytes;
  }

  #hold(buffer: Held, purpose: Purpose): void {
    this.#held.set(buffer, purpose);
    this.#byPurpose[purpose] += buffer.bytes;
    buffer.writtenBy = buffer.madeBy;
  }

  /** Accounts a held buffer to another purpose (an activation that a tape keeps is `saved`). */
  reassign(buffer: Held, purpose: Purpose): void {
    const old = this.#held.get(buffer);
    if (old === undefined || old === purpose) return;
    this.#held.set(buffer, purpose);
    this.#byPurpose[old] -= buffer.bytes;
    this.#byPurpose[purpose] += buffer.bytes;
  }

  /** Gives a buffer back to the pool. The caller must not use it again. */
  release(buffer: Held): void {
    const purpose = this.#held.get(buffer);
    if (purpose === undefined) return;
    this.#held.delete(buffer);
    this.#byPurpose[purpose] -= buffer.bytes;
    buffer.releases++;
    if (buffer.plan) {
      // Still the plan's: counted as scratch.
      this.#byPurpose.scratch += buffer.bytes;
      if (!buffer.plan.pinned.has(buffer) && !buffer.broken) enlist(buffer.plan.free, buffer);
      return;
    }
    this.#enlist(buffer);
  }

  #enlist(buffer: Held): void {
    if (buffer.broken) {
      this.#onDestroy(new Set([buffer]));
      this.#drop(buffer);
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
      this.#pooled -= buffer.bytes;
      this.#drop(buffer);
    }
    for (const free of lists) free.clear();
  }
}
