/**
 * Weights from a checkpoint to the device, parameter by parameter, through mapped staging buffers.
 *
 * File bytes are read straight into mapped memory and copied on the device; there they are widened, narrowed or quantised as the
 * dtype asked for and the file want it. Of a tensor that parameters share, each reads its rows alone. Host memory stays at the
 * staging size whatever the model's, but for matrices stored as [in, out], which are transposed here.
 */

import { UserError } from '../engine/errors.ts';
import {
  bytesOf,
  convert,
  convertInto,
  type Device,
  empty,
  packPanels,
  panelBytes,
  sizeOf,
  type Tensor,
  tensor,
  toF32,
} from '../engine/index.ts';
import { outsidePool, type PooledBuffer } from '../engine/memory.ts';
import { callback, checkOptions, flag, optionsSchema } from '../engine/options.ts';
import { CUT, type DType, storedShape } from '../engine/storage.ts';
import { isPacked, type PackedFormat } from '../kernels/index.ts';
import { type Checkpoint, matchTensors, type TensorEntry } from './checkpoint.ts';
import type { ModelConfig } from './config.ts';
import { decodeFloat32 } from './decode.ts';
import { type Description, isTied, type Parameter, parametersOf } from './description.ts';
import { PACKED } from './gguf/packed.ts';
import { dtypeFor, keptNote, weightDtypeAs } from './kept.ts';
import { storedAs, type WeightDtype, weightDtypeField } from './storage.ts';
import { cutPart, type Runs, type StoredPart, type StoredTensor, storedTensors } from './stored.ts';

/** Most bytes of one staging buffer. */
const STAGING_BYTES = 16 * 2 ** 20;

/** Of one that is a sixteenth of the files or less, so that a small model needs no more for its way than for itself. */
const stagingBytes = (total: number): number =>
  Math.min(STAGING_BYTES, 2 ** Math.max(20, Math.floor(Math.log2(total / 16 + 1))));

/** Tensors that are on their way at once: a second one is begun while the first arrives. */
export const AT_ONCE = 2;

/** How far loading is, in bytes of the checkpoint. */
export interface LoadProgress {
  readonly bytes: number;
  readonly total: number;
  readonly tensor: string;
}

/** In which numbers weights are kept. */
export interface WeightOptions {
  /** How matrices are kept (storage.ts); default f32, or packed where they come in blocks of a GGUF file. */
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
 * Loads every parameter of a model, in file order.
 * @throws UserError as {@link matchTensors}, before anything is uploaded.
 */
export async function loadWeights(
  device: Device,
  checkpoint: Checkpoint,
  config: Pick<ModelConfig, 'family' | 'description'>,
  options: WeightOptions = {},
): Promise<Map<string, Tensor>> {
  const loader = new WeightLoader(device, checkpoint, config, options);
  try {
    const weights = await loader.loadAll(loader.names, true);
    await device.finish();
    return weights;
  } finally {
    loader.dispose();
    // Room that conversions took and the running model may need.
    device.pool.trim();
  }
}

/** A parameter, where it lies in which stored tensor, and where that lies in a file. */
interface Source {
  readonly part: StoredPart;
  readonly stored: StoredTensor;
  readonly entry: TensorEntry;
}

/** By name of the parameter, in the order of the entries of {@link matchTensors}. */
function sourcesOf(
  entries: ReadonlyMap<string, TensorEntry>,
  description: Description,
): ReadonlyMap<string, Source> {
  const places = new Map<string, Omit<Source, 'entry'>>();
  for (const stored of storedTensors(parametersOf(description)).values())
    for (const part of stored.parts) places.set(part.parameter.name, { part, stored });
  return new Map([...entries].map(([name, entry]) => [name, { ...places.get(name)!, entry }]));
}

/** What is read at once: each parameter by itself, but all columns of a tensor, whose rows the file has them in. */
function readTogether(sources: Iterable<Source>): Source[][] {
  const groups = new Map<unknown, Source[]>();
  for (const source of sources) {
    const key = isTurned(source) ? source.entry : source;
    groups.set(key, [...(groups.get(key) ?? []), source]);
  }
  return [...groups.values()];
}

/** Whether the host has to turn a matrix round, or take columns out of it. */
const isTurned = ({ stored, entry }: Source): boolean => stored.transposed && !entry.turned;

type Format = 'f32' | 'f16' | 'bf16' | PackedFormat;

const FORMATS: ReadonlyMap<string, Format> = new Map<string, Format>([
  ['F32', 'f32'],
  ['F16', 'f16'],
  ['BF16', 'bf16'],
  ...Object.entries(PACKED),
]);

/** The format that a parameter comes to the device in: float32 where the host has to read it. */
function comesAs(source: Source): { readonly dtype: Format; readonly host: boolean } {
  const dtype = FORMATS.get(source.entry.dtype);
  return dtype && !isTurned(source) ? { dtype, host: false } : { dtype: 'f32', host: true };
}

const bytesIn = (dtype: DType, shape: readonly number[]): number =>
  sizeOf(storedShape(dtype, shape)) * bytesOf(dtype);

/** Rows of the blocks that a tensor in another format comes in: as even as can be, so that the room of one is that of the next. */
function blockRows([count = 1, ...row]: readonly number[], dtype: DType, room: number): number {
  const fitting = CUT * Math.max(1, Math.floor(room / bytesIn(dtype, [1, ...row]) / CUT));
  return Math.min(count, CUT * Math.ceil(count / Math.ceil(count / fitting) / CUT));
}

/** Whether packed blocks become numbers of another format, by way of float32. */
const widensBetween = (from: DType, to: DType): boolean => isPacked(from) && from !== to && to !== 'f32';

/** Whether a parameter is read by products, or by lookups too where the decoder is the embedding (see packPanels in the engine). */
export const isMultiplied = ({ name, kind }: Parameter, description: Description): boolean =>
  kind === 'matrix' || (isTied(description) && name === description.embedding.word);

/** What lies on the device of parameters that are read at once. */
export interface LoadedBytes {
  readonly parameters: readonly Parameter[];
  /** In which format, and the bytes of each as it is kept in buffers, and in a texture. */
  readonly formats: readonly DType[];
  readonly kept: readonly number[];
  readonly textures: readonly number[];
  /**
   * Bytes of what lies beside them until they are there: a block of each in another format, the buffer of what goes into a texture;
   * 0: nothing.
   */
  readonly beside: readonly number[];
}

/**
 * All parameters of a checkpoint that has been matched with a model's, in the order in which they are read.
 * @param side of a texture for panels; 0: none.
 */
export function loadedBytes(
  entries: ReadonlyMap<string, TensorEntry>,
  description: Description,
  wanted: WeightDtype,
  side = 0,
): LoadedBytes[] {
  return readTogether(sourcesOf(entries, description).values()).map((sources) => {
    const bytes = sources.map((source) => {
      const { shape } = source.part.parameter;
      const to = storedAs(source.part.parameter, source.entry.dtype, wanted);
      const { dtype } = comesAs(source);
      const wide = widensBetween(dtype, to);
      const block = [blockRows(shape, wide ? 'f32' : dtype, STAGING_BYTES), ...shape.slice(1)];
      const kept = bytesIn(to, shape);
      const multiplied = isMultiplied(source.part.parameter, description);
      const texture = to === 'f32' && multiplied ? panelBytes(shape, side) : 0;
      return {
        to,
        kept: texture > 0 ? 0 : kept,
        texture,
        beside: [
          to === dtype ? 0 : bytesIn(dtype, block),
          wide ? bytesIn('f32', block) : 0,
          texture > 0 ? kept : 0,
        ],
      };
    });
    return {
      parameters: sources.map(({ part }) => part.parameter),
      formats: bytes.map(({ to }) => to),
      kept: bytes.map(({ kept }) => kept),
      textures: bytes.map(({ texture }) => texture),
      beside: bytes.flatMap(({ beside }) => beside),
    };
  });
}

/** Loads parameters of a checkpoint that has been matched with a model's; the checkpoint stays open. */
export class WeightLoader {
  /** Names of all parameters, in file order. */
  readonly names: readonly string[];
  readonly #device: Device;
  readonly #checkpoint: Checkpoint;
  readonly #sources: ReadonlyMap<string, Source>;
  readonly #description: Description;
  readonly #options: WeightOptions;
  /** What was asked for, or the files' own. */
  readonly #dtype: WeightDtype;
  readonly #staging: Staging;
  readonly #total: number;
  /** Bytes read so far. */
  bytes = 0;

  /** @throws UserError as {@link matchTensors}. */
  constructor(
    device: Device,
    checkpoint: Checkpoint,
    config: Pick<ModelConfig, 'family' | 'description'>,
    options: WeightOptions = {},
    stagingBuffers = 4,
  ) {
    checkOptions('loadWeights', weightOptions, options);
    const { strict, onNote } = options;
    const entries = matchTensors(checkpoint, config, { strict, onNote });
    this.#sources = sourcesOf(entries, config.description);
    this.#description = config.description;
    this.#device = device;
    this.#checkpoint = checkpoint;
    this.#options = options;
    this.#dtype = dtypeFor(entries.values(), options.dtype);
    this.names = [...entries.keys()];
    const note = keptNote(this.#kept());
    if (note) onNote?.(`${checkpoint.name}: ${note}`);
    this.#total = [...new Set(entries.values())].reduce((sum, e) => sum + e.end - e.begin, 0);
    this.#staging = new Staging(device, stagingBuffers, stagingBytes(this.#total));
  }

  /** How the matrices of the layers are kept: packed where any is, else the coarsest. */
  get weightDtype(): WeightDtype {
    return weightDtypeAs(this.#kept().map(({ parameter, kept }) => [parameter, kept]));
  }

  #kept() {
    return [...this.#sources.values()].map(({ part: { parameter }, entry: { dtype } }) => ({
      parameter,
      stored: dtype,
      kept: storedAs(parameter, dtype, this.#dtype),
    }));
  }

  /** One parameter, to be disposed of by the caller. @throws UserError where the file cannot be read. */
  async load(name: string): Promise<Tensor> {
    return (await this.loadAll([name])).get(name)!;
  }

  /** Several parameters, a few at a time; `stay`ing ones in panels where they suit. @throws UserError; none is left then. */
  async loadAll(names: readonly string[], stay = false): Promise<Map<string, Tensor>> {
    const weights = new Map<string, Tensor>();
    const left = readTogether(names.map((name) => this.#sources.get(name)!));
    let broken = false;
    const reader = async (): Promise<void> => {
      for (let some = left.shift(); some !== undefined && !broken; some = left.shift())
        try {
          const loaded = await this.#load(some);
          for (const [i, t] of loaded.entries()) {
            const { parameter } = some[i]!.part;
            weights.set(parameter.name, t);
            if (stay && isMultiplied(parameter, this.#description)) packPanels(t);
          }
          // The host may write into the buffers that became free.
          this.#device.queue.flush();
        } catch (error) {
          broken = true;
          throw error;
        }
    };
    const readers = Array.from({ length: AT_ONCE }, reader);
    const failed = (await Promise.allSettled(readers)).find((r) => r.status === 'rejected');
    // In the order asked for, whichever came first.
    if (!failed) return new Map(names.map((name) => [name, weights.get(name)!]));
    for (const t of weights.values()) t.dispose();
    throw failed.reason;
  }

  async #load(sources: readonly Source[]): Promise<Tensor[]> {
    const { dtype: from, host } = comesAs(sources[0]!);
    const values = host ? await this.#decode(sources) : null;
    const made: Tensor[] = [];
    try {
      for (const [i, source] of sources.entries()) {
        const { shape } = source.part.parameter;
        const to = storedAs(source.part.parameter, source.entry.dtype, this.#dtype);
        if (values && to === 'f32') made.push(tensor(this.#device, values[i]!, shape, 'weights'));
        else {
          const t = empty(this.#device, shape, to, 'weights');
          made.push(t);
          if (to === from) await this.#fill(t, source);
          else await this.#convert(t, source, from, values?.[i]);
        }
      }
    } catch (error) {
      for (const t of made) t.dispose();
      throw error;
    }
    return made;
  }

  /** Numbers on the host: float64 and the like, and matrices that are stored the other way round, small in practice. */
  async #decode(sources: readonly Source[]): Promise<Float32Array[]> {
    const { stored, entry, part } = sources[0]!;
    const turned = isTurned(sources[0]!);
    const rows = turned ? stored.shape[0]! : part.parameter.shape[0]!;
    const raw = new Uint8Array(rows * rowBytes(sources[0]!));
    await this.#read(sources[0]!, 0, raw);
    this.#tell(part.parameter.name, raw.byteLength);
    const values = decodeFloat32(entry.dtype, raw);
    return sources.map((source) => (turned ? cutPart(stored, source.part, values) : values));
  }

  /** A parameter's bytes in the file, as if its rows lay one after the other; of one that is transposed, the stored tensor's. */
  async #read(source: Source, from: number, target: Uint8Array): Promise<void> {
    const { stored, part, entry } = source;
    const bytes = rowBytes(source);
    const runs: Runs = isTurned(source) ? [[0, stored.shape[0]!]] : part.runs;
    let at = 0;
    for (const [first, count] of runs) {
      const [begin, end] = [Math.max(at, from), Math.min(at + count * bytes, from + target.byteLength)];
      if (begin < end)
        await this.#checkpoint.readInto(
          entry,
          first * bytes + begin - at,
          target.subarray(begin - from, end - from),
        );
      at += count * bytes;
    }
  }

  /** A tensor from the bytes of a parameter, from byte `from` on. */
  async #fill(tensor: Tensor, source: Source, from = 0): Promise<void> {
    const pieces: Promise<void>[] = [];
    for (const segment of tensor.storage.segments) {
      const begin = segment.begin * bytesOf(tensor.dtype);
      const end = segment.end * bytesOf(tensor.dtype);
      for (let at = begin; at < end; at += this.#staging.bytes) {
        const size = Math.min(this.#staging.bytes, end - at);
        const whole = Math.ceil(size / 4) * 4;
        const piece = this.#staging.fill(
          size,
          (target) => this.#read(source, from + at, target),
          (staged) =>
            this.#device.queue.copy(
              { buffer: staged, offset: 0, size: whole },
              { buffer: segment.buffer, offset: segment.offset + at - begin, size: whole },
            ),
        );
        pieces.push(piece.then(() => this.#tell(source.part.parameter.name, size)));
      }
    }
    // All of them, also after one has failed: buffers that are being read into must not go.
    const failed = (await this.#device.wait(Promise.allSettled(pieces))).find((p) => p.status === 'rejected');
    if (failed) throw failed.reason;
  }

  /**
   * A tensor from numbers in another format, those of the file or `values`: block by block, so that no more than one lies on the
   * device.
   */
  async #convert(to: Tensor, source: Source, from: Tensor['dtype'], values?: Float32Array): Promise<void> {
    const [count = 1, ...row] = to.shape;
    const length = sizeOf(row);
    const widens = widensBetween(from, to.dtype);
    const room = Math.min(STAGING_BYTES, this.#device.capabilities.bindingBytes);
    const most = blockRows(to.shape, widens ? 'f32' : from, room);
    for (let first = 0; first < count; first += most) {
      const shape = [Math.min(most, count - first), ...row];
      const block = values
        ? tensor(
            this.#device,
            values.subarray(first * length, first * length + sizeOf(shape)),
            shape,
            'scratch',
          )
        : empty(this.#device, shape, from, 'scratch');
      try {
        if (!values) await this.#fill(block, source, first * bytesIn(from, [1, ...row]));
        using wide = widens ? toF32(block) : null;
        convertInto(wide ?? block, to, first);
      } finally {
        block.dispose();
      }
      // The host writes to no buffer that the device has still to read: the next would be another.
      if (values && first + most < count) await this.#device.finish();
    }
  }

  /**
   * Some rows of a table, in the order given, to be disposed of by the caller: the same numbers as those of the whole.
   * @throws UserError where the file cannot be read.
   */
  async loadRows(name: string, rows: readonly number[]): Promise<Tensor> {
    const source = this.#sources.get(name)!;
    const { parameter } = source.part;
    const bytes = rowBytes(source);
    const raw = new Uint8Array(rows.length * bytes);
    // Neighbours in the file that are neighbours here are one reading.
    for (let from = 0, to = 0; from < rows.length; from = to) {
      while (to < rows.length && rows[to] === rows[from]! + to - from) to++;
      await this.#read(source, rows[from]! * bytes, raw.subarray(from * bytes, to * bytes));
    }
    this.#tell(name, raw.byteLength);
    const { dtype } = source.entry;
    const shape = [rows.length, ...parameter.shape.slice(1)];
    using wide = tensor(this.#device, decodeFloat32(dtype, raw, shape[1]), shape, 'weights');
    const to = storedAs(parameter, dtype, this.#dtype);
    return convert(wide, isPacked(to) ? 'f32' : to);
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

/** Bytes of a row of the stored tensor. */
const rowBytes = ({ stored, entry }: Source): number =>
  (entry.end - entry.begin) / stored.shape[entry.turned ? 1 : 0]!;

/** Host-visible buffers in turn: one is filled from disk while the device copies from the others. */
class Staging {
  readonly #device: Device;
  readonly #count: number;
  readonly #slots: { buffer: GPUBuffer; ready: Promise<void> }[] = [];
  /** Of a buffer. */
  readonly bytes: number;
  #turn = 0;

  constructor(device: Device, count: number, bytes: number) {
    this.#device = device;
    this.#count = count;
    this.bytes = bytes;
  }

  /** The buffer whose turn it is; made when it first comes. */
  #next(): { buffer: GPUBuffer; ready: Promise<void> } {
    return (this.#slots[this.#turn++ % this.#count] ??= {
      buffer: this.#device.pool.createMapped(this.bytes, GPUBufferUsage.MAP_WRITE | GPUBufferUsage.COPY_SRC),
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
    const unmapped = async (cause: unknown): Promise<never> => {
      throw await this.#device.failureOf(
        cause,
        (reason) => new UserError('upload', `the device did not map an upload buffer: ${reason}`, { cause }),
      );
    };
    const mapped = slot.ready
      .then(() => new Uint8Array(buffer.getMappedRange(0, Math.ceil(size / 8) * 8), 0, size))
      .catch(unmapped);
    const filled = mapped.then(async (target) => {
      try {
        await read(target);
      } catch (cause) {
        // A device that is lost takes back what was being read into, and the file seems to be at fault.
        throw await this.#device.failureOf(cause, () => cause as Error);
      } finally {
        buffer.unmap();
      }
      copy(outsidePool(this.#device.gpu, buffer, this.bytes, true));
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
