/**
 * Weights from a checkpoint to the device, tensor by tensor, through mapped staging buffers.
 *
 * File bytes are read straight into mapped memory and copied on the device; there they are widened, narrowed or quantised
 * as the dtype asked for wants them. Host memory stays at the staging size whatever the model's.
 */

import { UserError } from '../engine/errors.ts';
import {
  bytesOf,
  convert,
  convertInto,
  type Device,
  empty,
  sizeOf,
  type Tensor,
  tensor,
} from '../engine/index.ts';
import type { PooledBuffer } from '../engine/memory.ts';
import { callback, checkOptions, flag, optionsSchema } from '../engine/options.ts';
import { CUT } from '../engine/storage.ts';
import { type Checkpoint, matchTensors, type TensorEntry } from './checkpoint.ts';
import { decodeFloat32 } from './decode.ts';
import { storedAs, type WeightDtype, weightDtypeField } from './storage.ts';

/** Bytes of one staging buffer. */
const STAGING_BYTES = 16 * 2 ** 20;

/** Most bytes of blocks on their way to another format: two tensors are loaded at once. */
export const CONVERSION_BYTES = 2 * STAGING_BYTES;

/** How far loading is, in bytes of the checkpoint. */
export interface LoadProgress {
  readonly bytes: number;
  readonly total: number;
  readonly tensor: string;
}

/** In which numbers weights are kept. */
export interface WeightOptions {
  /** How matrices are kept (storage.ts); default f32. */
  readonly dtype?: WeightDtype;
  /** Called after every piece of at most 16 MiB. */
  readonly onProgress?: (progress: LoadProgress) => void;
  /** Refuse tensors that the model has no place for; default false: they are left unread, and named. */
  readonly strict?: boolean;
  /** Told in one line of what is odd about the files but no hindrance; default `console.warn`. */
  readonly onNote?: (note: string) => void;
}

/** {@link WeightOptions} */
export const weightOptions = optionsSchema<WeightOptions>({
  dtype: weightDtypeField,
  onProgress: callback(),
  strict: flag,
  onNote: callback(),
});

/**
 * Loads every expected tensor under its current name, in file order.
 * @throws UserError as {@link matchTensors}, before anything is uploaded.
 */
export async function loadWeights(
  device: Device,
  checkpoint: Checkpoint,
  expected: ReadonlyMap<string, readonly number[]>,
  options: WeightOptions = {},
): Promise<Map<string, Tensor>> {
  const loader = new WeightLoader(device, checkpoint, expected, options);
  try {
    const weights = await loader.loadAll(loader.names);
    await device.finish();
    return weights;
  } finally {
    loader.dispose();
    // Room that conversions took and the running model may need.
    device.pool.trim();
  }
}

/** Loads single tensors of a checkpoint that has been matched with a model's; the checkpoint stays open. */
export class WeightLoader {
  /** Names of all tensors, in file order. */
  readonly names: readonly string[];
  readonly #device: Device;
  readonly #checkpoint: Checkpoint;
  readonly #expected: ReadonlyMap<string, readonly number[]>;
  readonly #entries: ReadonlyMap<string, TensorEntry>;
  readonly #options: WeightOptions;
  readonly #staging: Staging;
  readonly #total: number;
  /** Bytes read so far. */
  bytes = 0;

  /** @throws UserError as {@link matchTensors}. */
  constructor(
    device: Device,
    checkpoint: Checkpoint,
    expected: ReadonlyMap<string, readonly number[]>,
    options: WeightOptions = {},
    stagingBuffers = 4,
  ) {
    checkOptions('loadWeights', weightOptions, options);
    const { strict, onNote } = options;
    this.#entries = matchTensors(checkpoint, expected, { strict, onNote });
    this.#device = device;
    this.#checkpoint = checkpoint;
    this.#expected = expected;
    this.#options = options;
    this.names = [...this.#entries.keys()];
    this.#total = [...this.#entries.values()].reduce((sum, e) => sum + e.end - e.begin, 0);
    this.#staging = new Staging(device, stagingBuffers);
  }

  /** One tensor, to be disposed of by the caller. @throws UserError where the file cannot be read. */
  async load(name: string): Promise<Tensor> {
    const entry = this.#entries.get(name)!;
    const shape = this.#expected.get(name)!;
    const kept = storedAs(name, shape, entry.dtype, this.#options.dtype ?? 'f32');
    const dtype = ({ F32: 'f32', F16: 'f16', BF16: 'bf16' } as const)[entry.dtype as 'F32'];
    if (!dtype) {
      // float64 and the like: small in practice, decoded on the host.
      const raw = new Uint8Array(entry.end - entry.begin);
      await this.#checkpoint.readInto(entry, 0, raw);
      this.#tell(name, raw.byteLength);
      const wide = tensor(this.#device, decodeFloat32(entry.dtype, raw), shape, 'weights');
      return keptAs(kept, wide);
    }
    const made = empty(this.#device, shape, kept, 'weights');
    try {
      if (kept === dtype) await this.#fill(made, name);
      else await this.#convert(made, name, dtype);
    } catch (error) {
      made.dispose();
      throw error;
    }
    return made;
  }

  /** A tensor from its bytes in the file, from byte `from` of the entry on. */
  async #fill(tensor: Tensor, name: string, from = 0): Promise<void> {
    const entry = this.#entries.get(name)!;
    const pieces: Promise<void>[] = [];
    for (const segment of tensor.storage.segments) {
      const begin = segment.begin * bytesOf(tensor.dtype);
      const end = segment.end * bytesOf(tensor.dtype);
      for (let at = begin; at < end; at += STAGING_BYTES) {
        const size = Math.min(STAGING_BYTES, end - at);
        const whole = Math.ceil(size / 4) * 4;
        const piece = this.#staging.fill(
          size,
          (target) => this.#checkpoint.readInto(entry, from + at, target),
          (staged) =>
            this.#device.queue.copy(
              { buffer: staged, offset: 0, size: whole },
              { buffer: segment.buffer, offset: at - begin, size: whole },
            ),
        );
        pieces.push(piece.then(() => this.#tell(name, size)));
      }
    }
    // All of them, also after one has failed: buffers that are being read into must not go.
    const failed = (await this.#device.wait(Promise.allSettled(pieces))).find((p) => p.status === 'rejected');
    if (failed) throw failed.reason;
  }

  /** A tensor from numbers that the file has in another format: block by block, so that no more than one lies on the device. */
  async #convert(to: Tensor, name: string, stored: Tensor['dtype']): Promise<void> {
    const [count = 1, ...row] = to.shape;
    const bytes = sizeOf(row) * bytesOf(stored);
    const most = CUT * Math.max(1, Math.floor(STAGING_BYTES / bytes / CUT));
    for (let first = 0; first < count; first += most) {
      const rows = Math.min(most, count - first);
      const block = empty(this.#device, [rows, ...row], stored, 'scratch');
      try {
        await this.#fill(block, name, first * bytes);
        convertInto(block, to, first);
      } finally {
        block.dispose();
      }
    }
  }

  /**
   * Some rows of a matrix, in the order given, to be disposed of by the caller: the same numbers as those of the whole.
   * @throws UserError where the file cannot be read.
   */
  async loadRows(name: string, rows: readonly number[]): Promise<Tensor> {
    const entry = this.#entries.get(name)!;
    const [count, length] = this.#expected.get(name)! as [number, number];
    const bytes = (entry.end - entry.begin) / count;
    const raw = new Uint8Array(rows.length * bytes);
    // Neighbours in the file that are neighbours here are one reading.
    for (let from = 0, to = 0; from < rows.length; from = to) {
      while (to < rows.length && rows[to] === rows[from]! + to - from) to++;
      await this.#checkpoint.readInto(entry, rows[from]! * bytes, raw.subarray(from * bytes, to * bytes));
    }
    this.#tell(name, raw.byteLength);
    const wide = tensor(this.#device, decodeFloat32(entry.dtype, raw), [rows.length, length], 'weights');
    return keptAs(storedAs(name, [count, length], entry.dtype, this.#options.dtype ?? 'f32'), wide);
  }

  /** Several tensors: a second one is begun while the first arrives. @throws UserError; none is left then. */
  async loadAll(names: readonly string[]): Promise<Map<string, Tensor>> {
    const weights = new Map<string, Tensor>();
    const left = [...names];
    let broken = false;
    const reader = async (): Promise<void> => {
      for (let name = left.shift(); name !== undefined && !broken; name = left.shift())
        try {
          weights.set(name, await this.load(name));
        } catch (error) {
          broken = true;
          throw error;
        }
    };
    const failed = (await Promise.allSettled([reader(), reader()])).find((r) => r.status === 'rejected');
    // In the order asked for, whichever came first.
    if (!failed) return new Map(names.map((name) => [name, weights.get(name)!]));
    for (const t of weights.values()) t.dispose();
    throw failed.reason;
  }

  #tell(name: string, bytes: number): void {
    this.bytes += bytes;
    this.#options.onProgress?.({ bytes: this.bytes, total: this.#total, tensor: name });
  }

  /** Frees the upload buffers; loaded tensors are the caller's. */
  dispose(): void {
    this.#staging.dispose();
  }
}
/** A tensor in another format, in place of itself. */
function keptAs(dtype: Tensor['dtype'], wide: Tensor): Tensor {
  try {
    return convert(wide, dtype);
  } finally {
    wide.dispose();
  }
}

/** Host-visible buffers in turn: one is filled from disk while the device copies from the others. */
class Staging {
  readonly #device: Device;
  readonly #count: number;
  readonly #slots: { buffer: GPUBuffer; ready: Promise<void> }[] = [];
  #turn = 0;

  constructor(device: Device, count: number) {
    this.#device = device;
    this.#count = count;
  }

  /** The buffer whose turn it is; made when it first comes. */
  #next(): { buffer: GPUBuffer; ready: Promise<void> } {
    return (this.#slots[this.#turn++ % this.#count] ??= {
      buffer: this.#device.gpu.createBuffer({
        size: STAGING_BYTES,
        usage: GPUBufferUsage.MAP_WRITE | GPUBufferUsage.COPY_SRC,
        mappedAtCreation: true,
      }),
      ready: Promise.resolve(),
    });
  }

  /** Resolves when the bytes are read and their copy is recorded; many may be under way, as many at once as buffers. */
  fill(
    size: number,
    read: (target: Uint8Array) => Promise<void>,
    copy: (from: PooledBuffer) => void,
  ): Promise<void> {
    const slot = this.#next();
    const { buffer } = slot;
    const mapped = slot.ready.catch((cause: Error) => {
      this.#device.check();
      throw new UserError('upload', `the device did not map an upload buffer: ${cause.message}`, { cause });
    });
    const filled = mapped.then(async () => {
      try {
        await read(new Uint8Array(buffer.getMappedRange(0, Math.ceil(size / 8) * 8), 0, size));
      } finally {
        buffer.unmap();
      }
      const { gpu } = this.#device;
      copy({
        buffer,
        gpu,
        id: 0,
        bytes: STAGING_BYTES,
        staging: true,
        lastUse: 0,
        releases: 0,
        writes: 0,
        plan: null,
      });
      this.#device.queue.flush();
    });
    const again = () => buffer.mapAsync(GPUMapMode.WRITE);
    slot.ready = filled.then(again, again);
    // A rejection is reported when the slot is next used, or by the device itself.
    slot.ready.catch(() => {});
    return filled;
  }

  dispose(): void {
    for (const { buffer } of this.#slots) buffer.destroy();
  }
}
