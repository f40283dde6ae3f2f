/**
 * Where a tensor's elements lie: one pooled buffer, or several where the tensor is larger than a binding may be; or, of a weight
 * that only products read, panels in a texture (kernels/panels.ts). Whoever asks such elements for a buffer gets it: they are
 * unpacked, once and for good.
 *
 * A split tensor is cut at multiples of 128 rows, so that every cut, also in a tensor with one element a row, is a multiple
 * of 256 bytes, the strictest binding alignment; of 256 rows where so many fit, the chunks of products along them. Kernels see windows; operations walk over the
 * pieces on which all their operands lie in one buffer each.
 */

import { CHUNK, isQuantised, type Kernel, PACKINGS, type WeightFormat } from '../kernels/index.ts';
import { storedRow, WEIGHT_FORMATS } from '../kernels/packing.ts';
import {
  PANEL,
  type PanelLayout,
  packPanels,
  panelGrid,
  panelLayout,
  unpackPanels,
} from '../kernels/panels.ts';
import type { Device } from './device.ts';
import { DeviceError, ShapeError } from './errors.ts';
import {
  ALIGNMENT,
  type BufferWindow,
  type Held,
  type PooledBuffer,
  type PooledTexture,
  PURPOSES,
  type Purpose,
  type Window,
  wholeTexture,
} from './memory.ts';
import { checkValue, like, one } from './options.ts';

/** f32 and u32 are computed with; the others are weights as stored, widened inside kernels. */
export type DType = WeightFormat | 'u32';

/** The same as a field of options. */
export const dtypeField = one<DType>(['u32', ...WEIGHT_FORMATS]);
export const purposeField = one(PURPOSES);
const writerField = one(['gpu', 'host']);

/** Bytes of an element; of quantised ones the share of a group's block. @throws UserError for an unknown dtype. */
export const bytesOf = (dtype: DType): number => {
  checkValue('bytesOf', 'dtype', dtypeField, dtype);
  if (dtype === 'u32') return 4;
  const { group, words } = PACKINGS[dtype];
  return (4 * words) / group;
};

/** The shape that is stored: quantised rows are filled up to whole groups. */
export const storedShape = (dtype: DType, shape: readonly number[]): readonly number[] =>
  isQuantised(dtype) ? [...shape.slice(0, -1), storedRow(dtype, shape.at(-1) ?? 1)] : shape;

/** First elements that a storage remembers, for texts. */
const SEEN = 6;

/** Cuts are at multiples of this many elements. So many rows are a place where a binding may begin, in every format. */
export const CUT = 128;

interface Segment {
  readonly buffer: PooledBuffer;
  /** First element and one past the last. */
  readonly begin: number;
  readonly end: number;
  /** Byte of the buffer at which the first one lies. */
  readonly offset: number;
}

/** Elements of a storage that are one by themselves. */
interface Part {
  readonly of: Storage;
  readonly begin: number;
}

const sizeOfBlock = (shape: readonly number[], axis: number): number =>
  shape.slice(axis).reduce((a, b) => a * b, 1);
const commonDivisor = (a: number, b: number): number => (b === 0 ? a : commonDivisor(b, a % b));

/**
 * Elements of each full segment of a tensor. Cuts fall on whole blocks of the last axes (whole matrices before
 * whole rows) where that makes multiples of 128 rows that fit into a binding, else on whole rows where some fit, else on any multiple of 128 elements.
 */
export function segmentLength(shape: readonly number[], dtype: DType, bindingBytes: number): number {
  const fits = Math.floor(bindingBytes / bytesOf(dtype));
  let unit = CUT;
  for (let axis = 1; axis < Math.max(2, shape.length); axis++) {
    const block = sizeOfBlock(shape, axis);
    if (block === 0) continue;
    // 256 blocks, 128, or the fewest that hold a multiple of 128 rows.
    const rows = block / sizeOfBlock(shape, Math.max(axis, shape.length - 1));
    const fitting = [CHUNK, CUT, CUT / commonDivisor(CUT, rows)].find((blocks) => block * blocks <= fits);
    if (fitting === undefined) continue;
    unit = block * fitting;
    break;
  }
  // Rows too long for 128 of them: the fewest whole ones that end on the grid.
  for (let axis = 1; axis < shape.length && unit === CUT; axis++) {
    const block = sizeOfBlock(shape, axis);
    const whole = block * (CUT / commonDivisor(CUT, block));
    if (whole <= fits && whole > 0) unit = whole;
  }
  return Math.max(CUT, Math.floor(fits / unit) * unit);
}

const deviceField = like<Device>(
  (value) => typeof value === 'object' && value !== null && 'queue' in value && 'capabilities' in value,
  'a device, which openDevice() gives',
);
/** @throws UserError for what is no device. */
export const checkDevice = (op: string, device: unknown): void =>
  checkValue(op, 'device', deviceField, device);

function acquire(
  device: Device,
  dtype: DType,
  shape: readonly number[],
  purpose: Purpose,
  writer: 'gpu' | 'host',
): Segment[] {
  const elements = shape.reduce((a, b) => a * b, 1);
  const limit = Math.min(device.capabilities.bindingBytes, device.capabilities.bufferBytes);
  const length = segmentLength(shape, dtype, limit);
  const segments: Segment[] = [];
  try {
    for (let begin = 0; begin < elements; begin += length) {
      const end = Math.min(begin + length, elements);
      const bytes = (end - begin) * bytesOf(dtype);
      segments.push({ buffer: device.pool.acquire(bytes, purpose, writer), begin, end, offset: 0 });
    }
  } catch (error) {
    for (const s of segments) device.pool.release(s.buffer);
    throw error;
  }
  return segments;
}

/** Between panels and the buffers of the same elements. */
function copyPanels(
  device: Device,
  kernel: Kernel,
  { texture, layout, k }: Panels,
  segments: readonly Segment[],
  order = (windows: [Window, Window]): [Window, Window] => windows,
): void {
  for (const { buffer, begin, end } of segments) {
    const rows = (end - begin) / k;
    const size = Math.ceil((4 * (end - begin)) / 16) * 16;
    device.dispatch(
      kernel,
      order([wholeTexture(texture), { buffer, offset: 0, size }]),
      [rows, k, layout.columns, layout.rows, begin / k],
      panelGrid(rows, layout),
    );
  }
}

/** A matrix [n, k] in a texture. */
export interface Panels {
  readonly texture: PooledTexture;
  readonly layout: PanelLayout;
  readonly n: number;
  readonly k: number;
}

/** Elements on the device, counted by references: tensors that share them and tapes that keep them. */
export class Storage {
  readonly device: Device;
  readonly dtype: DType;
  readonly elements: number;
  readonly purpose: Purpose;
  #segments: readonly Segment[];
  #panels: Panels | null = null;
  /** A texture that a recording may name is kept after its elements have been unpacked. */
  #named: PooledTexture | null = null;
  /** Changes of elements that lay elsewhere. */
  #writes = 0;
  /** Of u32 elements that the host has written: the largest. Null where the device has. */
  largest: number | null = null;
  /** The first elements as the host has last seen them, and when. */
  #seen: { readonly values: readonly number[]; readonly version: number } | null = null;
  /** Whose buffer it lies in, if not its own. */
  readonly #whole: Storage | null;
  /** Whether others have lain in its buffer: it stays there. */
  #parted = false;
  #references = 1;
  #kept = 0;

  /** Elements of a shape, with no defined contents; `host` where the host writes them first. @throws OutOfMemoryError */
  constructor(
    device: Device,
    dtype: DType,
    shape: readonly number[],
    purpose: Purpose,
    writer: 'gpu' | 'host' | Part = 'gpu',
  ) {
    checkValue('tensor', 'dtype', dtypeField, dtype);
    checkValue('tensor', 'purpose', purposeField, purpose);
    if (typeof writer !== 'object') checkValue('tensor', 'writer', writerField, writer);
    checkDevice('tensor', device);
    this.device = device;
    this.dtype = dtype;
    const elements = shape.reduce((a, b) => a * b, 1);
    this.elements = elements;
    this.purpose = purpose;
    if (typeof writer === 'object') {
      this.#whole = writer.of;
      const { buffer, offset } = writer.of.window(writer.begin, writer.begin + elements);
      writer.of.retain();
      this.#segments = [{ buffer, begin: 0, end: elements, offset }];
      return;
    }
    this.#whole = null;
    this.#segments = acquire(device, dtype, shape, purpose, writer);
  }

  /** Buffers; elements in panels are unpacked first. */
  get segments(): readonly Segment[] {
    if (this.#panels) this.unpack();
    return this.#segments;
  }

  /** Where the elements lie in a texture; null where they lie in buffers. */
  get panels(): Panels | null {
    return this.#panels;
  }

  /**
   * Puts the elements [n, k] into panels, and gives their buffers back; nothing where no texture holds them, or a buffer ends
   * inside a panel or is shared with others.
   */
  pack(n: number, k: number): void {
    const { device, version } = this;
    const layout = panelLayout(n, k, device.capabilities.textureSide);
    const shared = this.#whole !== null || this.#parted;
    if (this.#panels || shared || !layout || this.#segments.some((s) => s.begin % (PANEL * k) !== 0)) return;
    const panels = {
      texture: device.pool.acquireTexture(layout.width, layout.height, this.purpose),
      layout,
      n,
      k,
    };
    copyPanels(device, packPanels(), panels, this.#segments, ([texture, elements]) => [elements, texture]);
    for (const s of this.#segments) device.pool.release(s.buffer);
    this.#segments = [];
    this.#panels = panels;
    this.#writes += version - this.version;
    device.panels.packed++;
  }

  /** Puts them back into buffers. */
  unpack(): void {
    const panels = this.#panels;
    if (!panels) return;
    const { device, version } = this;
    // What a recording finds in panels it finds in buffers when it is replayed: unpacking is no part of it.
    device.outsideRecording(() => {
      this.#segments = acquire(device, this.dtype, [panels.n, panels.k], this.purpose, 'gpu');
      copyPanels(device, unpackPanels(), panels, this.#segments);
    });
    this.#panels = null;
    this.#writes += version - this.version;
    if (device.queue.recorder) this.#named = panels.texture;
    else device.pool.release(panels.texture);
    device.panels.unpacked++;
  }

  /** A copy in buffers of what lies in panels. */
  unpacked(): Storage {
    const { n, k } = this.#panels!;
    const copy = new Storage(this.device, this.dtype, [n, k], 'scratch');
    copyPanels(this.device, unpackPanels(), this.#panels!, copy.segments);
    return copy;
  }

  /**
   * Elements [begin, begin + elements) as a storage of their own in the same buffer, which stays as long as they do; null where
   * they lie in several, or where no binding may begin at them.
   */
  part(begin: number, elements: number): Storage | null {
    const within = this.segments.some((s) => begin >= s.begin && begin + elements <= s.end);
    if (!within || this.window(begin, begin + elements).offset % ALIGNMENT !== 0) return null;
    this.#parted = true;
    return new Storage(this.device, this.dtype, [elements], this.purpose, { of: this, begin });
  }

  /** Whether anybody still refers to the elements. */
  get alive(): boolean {
    return this.#references > 0;
  }

  /** Whether a tape has saved the elements. */
  get saved(): boolean {
    return this.#kept > 0;
  }

  /** Grows whenever the elements change. */
  get version(): number {
    let writes = this.#writes + (this.#panels?.texture.writes ?? 0);
    for (const { buffer } of this.#segments) writes += buffer.writes;
    return writes;
  }

  /** The host has written, or read, all elements as they were at a version. */
  see(all: ArrayLike<number>, version = this.version): void {
    this.#seen = { values: Array.from({ length: Math.min(all.length, SEEN) }, (_, i) => all[i]!), version };
  }

  /** The first elements, where the host knows them: nothing has changed them since it saw them. */
  get seen(): readonly number[] | null {
    // What a plan's replays write is not counted.
    const changes = !this.alive || [...this.#held()].some((held) => held.plan !== null);
    return changes || this.#seen?.version !== this.version ? null : this.#seen.values;
  }

  /** One more reference. */
  retain(): void {
    this.#references++;
  }

  /** One reference less; the last gives the buffers back to the pool. */
  release(): void {
    if (--this.#references > 0) return;
    if (this.#whole) this.#whole.release();
    else for (const held of this.#held()) this.device.pool.release(held);
  }

  *#held(): Iterable<Held> {
    for (const s of this.#segments) yield s.buffer;
    if (this.#panels) yield this.#panels.texture;
    if (this.#named) yield this.#named;
  }

  /** A tape takes or gives up these elements: they count as `saved` meanwhile. */
  keep(on: boolean): void {
    this.#kept += on ? 1 : -1;
    const changes = this.#kept === (on ? 1 : 0);
    if (changes && this.#whole) this.#whole.keep(on);
    else if (changes && this.purpose !== 'weights' && this.alive)
      for (const held of this.#held()) this.device.pool.reassign(held, on ? 'saved' : this.purpose);
  }

  /** The binding of elements [begin, end), which lie in one segment. The size is rounded up to 16 bytes for vec4 access. */
  window(begin = 0, end = this.elements): BufferWindow {
    if (!this.alive) throw new ShapeError('window', 'these elements have been given back');
    const segment = this.segments.find((s) => begin >= s.begin && end <= s.end);
    if (!segment) throw new ShapeError('window', `elements ${begin}..${end} lie in several buffers`);
    const bytes = bytesOf(this.dtype);
    return {
      buffer: segment.buffer,
      offset: segment.offset + (begin - segment.begin) * bytes,
      size: Math.ceil(((end - begin) * bytes) / 16) * 16,
    };
  }
}

/** Rows of an operand: `rowLength` elements each, the first of them row `first` of the storage, 0 unless given. */
export interface RowsOf {
  readonly storage: Storage;
  readonly rowLength: number;
  readonly first?: number;
}

/** The binding of rows [begin, end), which lie in one segment. */
export const rowsWindow = (
  { storage, rowLength, first = 0 }: RowsOf,
  begin: number,
  end: number,
): BufferWindow => storage.window((first + begin) * rowLength, (first + end) * rowLength);

/**
 * Ranges [begin, end) of rows such that in every operand the rows lie in one segment; all have the same number of rows.
 * @throws ShapeError where a row itself is cut or a cut is not aligned in another operand.
 */
export function commonRows(op: string, rows: number, operands: readonly RowsOf[]): [number, number][] {
  if (operands.some(({ storage }) => storage.device !== operands[0]!.storage.device))
    throw DeviceError.two(op);
  // By far most tensors lie in one buffer.
  if (operands.every(({ storage }) => storage.segments.length <= 1)) return rows > 0 ? [[0, rows]] : [];
  const cuts = new Set<number>([0, rows]);
  for (const { storage, rowLength, first = 0 } of operands) {
    for (const segment of storage.segments) {
      if (segment.begin % rowLength !== 0)
        throw new ShapeError(
          op,
          `a block of ${rowLength} elements would lie in two buffers of this device; use smaller batches`,
        );
      const cut = segment.begin / rowLength - first;
      if (cut > 0 && cut < rows) cuts.add(cut);
    }
  }
  const sorted = [...cuts].sort((a, b) => a - b);
  for (const cut of sorted)
    for (const { storage, rowLength, first = 0 } of operands)
      if (cut < rows && ((first + cut) * rowLength * bytesOf(storage.dtype)) % 256 !== 0)
        throw new ShapeError(op, 'operands are cut between buffers at places that do not agree');
  return sorted.slice(1).map((end, i) => [sorted[i]!, end]);
}
