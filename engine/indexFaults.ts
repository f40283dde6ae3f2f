/**
 * Indices outside their table. What the host has put into a tensor is known when an operation reads it, and refused there; what
 * the device has made, or a replay will find, a kernel looks at in passing, and the next readback throws.
 */

import { checkIndices, linearGrid } from '../kernels/index.ts';
import { ShapeError } from './errors.ts';
import { type BufferWindow, outsidePool, type PooledBuffer } from './memory.ts';
import type { CommandQueue, Recorder } from './queue.ts';

/** Words of the kernel's finding, filled up to whole vectors. */
const WORDS = 4;

/** How an index reads in an error: negative ones were given as such (`integers`). */
const asGiven = (index: number): number => (index < 2 ** 31 ? index : index - 2 ** 32);

const message = (index: number, size: number): string => `index ${asGiven(index)} is outside 0..${size - 1}`;

/** What is asked of a storage of indices. */
interface Indices {
  readonly elements: number;
  readonly largest: number | null;
  readonly segments: readonly {
    readonly buffer: PooledBuffer;
    readonly begin: number;
    readonly end: number;
  }[];
  readonly window: (begin: number, end: number) => BufferWindow;
}

/** The checks of one device. */
export class IndexFaults {
  readonly #gpu: GPUDevice;
  readonly #queue: CommandQueue;
  readonly #createMapped: (size: number, usage: GPUBufferUsageFlags) => GPUBuffer;
  /** Outside the pool: it belongs to no recording, and lives as long as the device. */
  #window: BufferWindow | null = null;
  readonly #ops: string[] = [];
  /** What has been checked, and in which recording. */
  readonly #checked = new WeakMap<Indices, { readonly recorder: Recorder | null; readonly below: number }>();

  constructor(
    gpu: GPUDevice,
    queue: CommandQueue,
    createMapped: (size: number, usage: GPUBufferUsageFlags) => GPUBuffer,
  ) {
    this.#gpu = gpu;
    this.#queue = queue;
    this.#createMapped = createMapped;
  }

  /** Where the kernel leaves what it found; null as long as it has not been needed. */
  get window(): BufferWindow | null {
    return this.#window;
  }

  /** @throws ShapeError where the host has put an index there that is not below `size`; else sees to it that a readback does. */
  check(op: string, index: Indices, size: number): void {
    const queue = this.#queue;
    if (index.elements === 0) return;
    if (index.largest !== null) {
      if (index.largest >= size) throw new ShapeError(op, message(index.largest, size));
      // A replay finds what is written until then, except into what the recording has uploaded itself.
      if (!queue.recorder || index.segments.every(({ buffer }) => buffer.plan !== null)) return;
    }
    const before = this.#checked.get(index);
    if (before && before.recorder === queue.recorder && before.below <= size) return;
    this.#checked.set(index, { recorder: queue.recorder, below: size });
    if (!this.#ops.includes(op)) this.#ops.push(op);
    this.#window ??= this.#make();
    // What a failed submission found is lost; those behind it do not depend on that.
    this.#window.buffer.writtenBy = 0;
    for (const { begin, end } of index.segments)
      queue.dispatch(
        checkIndices(),
        [index.window(begin, end), this.#window],
        [end - begin, size, 1 + this.#ops.indexOf(op)],
        linearGrid(end - begin),
        0,
      );
  }

  /** @throws ShapeError for what the kernel found, once. */
  report(bytes: Uint8Array<ArrayBuffer>): void {
    const [op, index, size] = new Uint32Array(bytes.buffer, bytes.byteOffset, WORDS) as unknown as [
      number,
      number,
      number,
    ];
    if (op === 0) return;
    const { buffer } = this.#window!;
    this.#queue.write(buffer, 0, new Uint8Array(4 * WORDS));
    throw new ShapeError(
      this.#ops[op - 1]!,
      `${message(index, size)} (found on the device, in what ran since the last readback)`,
    );
  }

  #make(): BufferWindow {
    const bytes = 4 * WORDS;
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
    // Mapped at creation: a device may be opened so that new buffers hold anything.
    const made = this.#createMapped(bytes, usage);
    new Uint8Array(made.getMappedRange()).fill(0);
    made.unmap();
    const buffer = outsidePool(this.#gpu, made, bytes, false);
    return { buffer, offset: 0, size: bytes };
  }
}
