/**
 * Tensors and the tape.
 *
 * A Tensor is a shape over reference-counted storage, always contiguous and row-major. Where a value depends on something
 * whose gradient is wanted it carries a `Track`: its place in the graph. An operation on tracked tensors leaves a Node:
 * its inputs' tracks, the tensors it saved, and the function from the output's cotangent to the inputs' cotangents,
 * written in operations of this engine, so that gradients have gradients.
 */

import { fill, isQuantised } from '../kernels/index.ts';
import { linearGrid } from '../kernels/kernel.ts';
import type { Device } from './device.ts';
import { DeviceError, GradientError, ShapeError, UserError } from './errors.ts';
import { narrowInto, widenInto } from './halves.ts';
import type { Purpose } from './memory.ts';
import { callback, checkValue, instance, like, list } from './options.ts';
import { disown, type Owned, own, type Scope } from './scope.ts';
import { bytesOf, type DType, Storage, storedShape } from './storage.ts';

/** A shape in an error's text. */
export const showShape = ({ shape }: { readonly shape: readonly number[] }): string =>
  `[${shape.join(', ')}]`;
/** Elements of a shape. */
export const sizeOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

/** The place of a value in the graph of operations; a leaf has no node. Tensors that share it are the same value. */
export interface Track {
  readonly node: Node | null;
}

/** Cotangents of the inputs from that of the output; null for an input that needs none. What was saved is null where no need saved it. */
export type Pullback = (
  cotangent: Tensor,
  saved: readonly (Tensor | null)[],
  needs: readonly boolean[],
  /**
   * What has come to an input on other paths, where there is such and nothing is recorded: who asks for it returns the sum,
   * that first, and makes it in the kernel that makes the rest.
   */
  arrived: (input: number) => Tensor | null,
) => readonly (Tensor | null)[];

let nodeCount = 0;

/** Elements of the smallest tensor that {@link halfTape} narrows. */
const HALVED = 256;

/** Under {@link halfTape}: what has been narrowed, so that what several operations save is kept once. */
let halves: WeakMap<Storage, Storage> | null = null;

/**
 * Runs `fn`; what its operations save of activations for the backward is kept in f16 and widened when the backward comes to
 * it. Values of the forward stay f32; gradients are those of rounded activations. Weights are saved as they are.
 * @example
 * ```ts
 * import { gelu, grad, halfTape, linear, openDevice, sum, zeros } from 'neurgrad/engine';
 *
 * const device = await openDevice();
 * const [x, w] = [zeros(device, [64, 32]), zeros(device, [32, 32], 'weights').requireGrad()];
 * const y = halfTape(() => sum(gelu(linear(x, w))));
 * console.log(device.memory.saved); // → 8192
 * console.log(grad(y, [w])[0]!.dtype); // → f32
 * device.destroy();
 * ```
 */
export function halfTape<T>(fn: () => T): T {
  if (typeof fn !== 'function') checkValue('halfTape', 'fn', callback(), fn);
  const before = halves;
  halves = new WeakMap();
  try {
    const result = fn();
    checkSynchronous('halfTape', result);
    return result;
  } finally {
    halves = before;
  }
}

/** One more reference to a tensor's elements, or to their f16 copy. */
function retain({ storage, shape, dtype, size }: Tensor): Storage {
  if (!halves || dtype !== 'f32' || storage.purpose !== 'activations' || size < HALVED) {
    storage.retain();
    return storage;
  }
  const known = halves.get(storage);
  if (known?.alive) {
    known.retain();
    return known;
  }
  const half = new Storage(storage.device, 'f16', shape, 'activations');
  narrowInto(storage, half);
  halves.set(storage, half);
  return half;
}

/** Why a tape is gone, and what would have kept it. */
const ENDS = {
  grad: 'its tape was released by an earlier grad(); pass retainTape to go back twice',
  scope:
    "its tape ended with the scope that it was recorded in (a model's run is one); call grad() inside that scope, or put both in one scope(() => ...)",
  handles: 'its tape was released with the last handle on its result',
} as const;

/** Of elements that a gradient is made of, such as weights that an optimiser has updated. */
export const changedSince = (op: string): GradientError =>
  new GradientError(
    `${op}: what its tape goes back to has been changed in place since (by an optimiser's step?); go back first, or run the forward again`,
  );

/**
 * One recorded operation. Owned by a scope, but outlives it into the outer one; outside of all scopes it lasts as long as a
 * handle on its output does, or an operation recorded on that.
 */
export class Node implements Owned {
  readonly survives = true;
  readonly id = ++nodeCount;
  readonly op: string;
  readonly inputs: readonly (Track | null)[];
  /** The place of the output. */
  readonly track: Track;
  readonly pullback: Pullback | null;
  owner: Scope | null = null;
  #saved: readonly (Tensor | null)[] | null;
  /** What is saved as it was then. */
  readonly #versions: readonly (number | undefined)[];
  #end: keyof typeof ENDS | null = null;
  /** Handles on the output, and later operations that take it. What it has saved of itself does not count. */
  #uses = 0;
  readonly #halved = new Set<Tensor>();

  /** `output` is named so that, where it is saved itself, what is saved has its place in the graph. */
  constructor(
    op: string,
    inputs: readonly Tensor[],
    output: Tensor,
    saved: readonly (Tensor | null)[],
    pullback: Pullback | null,
  ) {
    this.op = op;
    this.track = { node: this };
    this.inputs = inputs.map((t) => t.track);
    for (const input of this.inputs) input?.node?.retain();
    this.pullback = pullback;
    this.#saved = saved.map((t) => {
      if (!t) return null;
      const alias = new Tensor(retain(t), t.shape, t === output ? this.track : t.track, true);
      alias.storage.keep(true);
      if (t === output) this.#uses--;
      if (alias.dtype !== t.dtype) this.#halved.add(alias);
      return alias;
    });
    this.#versions = this.#saved.map((t) => t?.storage.version);
    own(this);
  }

  /** @throws GradientError after the tape has been released, and where what it saved has been changed since. */
  get saved(): readonly (Tensor | null)[] {
    if (!this.#saved) throw new GradientError(`${this.op}: ${ENDS[this.#end!]}`);
    if (this.#saved.some((t, i) => t?.storage.version !== this.#versions[i])) throw changedSince(this.op);
    return this.#saved.map((t) => {
      if (!t || !this.#halved.has(t)) return t;
      const wide = new Tensor(new Storage(t.device, 'f32', t.shape, 'scratch'), t.shape, t.track);
      widenInto(t.storage, wide.storage);
      return wide;
    });
  }

  /** One more use of the output. */
  retain(): void {
    this.#uses++;
  }

  /** One use less: outside of scopes the last takes the node with it, and what only that has used. */
  release(): void {
    this.#uses--;
    this.settle();
  }

  settle(): void {
    if (this.#uses > 0 || this.owner || !this.#saved) return;
    // By a list, not by recursion: a tape may be thousands of operations deep.
    unused.push(this);
    if (unused.length > 1) return;
    for (let node = unused[0]; node; node = unused[0]) {
      node.dispose('handles');
      unused.shift();
    }
  }

  /** Frees the saved tensors. */
  dispose(by: keyof typeof ENDS = 'scope'): void {
    const saved = this.#saved;
    if (!saved) return;
    this.#saved = null;
    this.#end = by;
    for (const t of saved) {
      t?.storage.keep(false);
      t?.dispose();
    }
    disown(this);
    for (const input of this.inputs) input?.node?.release();
  }
}

/** Nodes that nothing uses any more, while they are being freed. */
const unused: Node[] = [];

/** A shape over elements on a device: contiguous, row-major, changed by nothing but `write`, `writeRow` and the optimiser. Scopes free it. */
export class Tensor implements Owned, Disposable {
  readonly #storage: Storage;
  readonly shape: readonly number[];
  owner: Scope | null = null;
  #track: Track | null;
  #disposed: 'dispose' | 'scope' | null = null;

  /** Takes over one reference to `storage`. `unowned` tensors belong to no scope. */
  constructor(storage: Storage, shape: readonly number[], track: Track | null = null, unowned = false) {
    this.#storage = storage;
    this.shape = shape;
    this.#track = track;
    track?.node?.retain();
    if (!unowned) own(this);
  }

  /** Its elements. @throws ShapeError after dispose() */
  get storage(): Storage {
    this.use();
    return this.#storage;
  }
  /** Where it lives. */
  get device(): Device {
    return this.#storage.device;
  }
  /** How its elements are stored. */
  get dtype(): DType {
    return this.#storage.dtype;
  }
  /** Elements. */
  get size(): number {
    return sizeOf(this.shape);
  }
  /** Axes. */
  get rank(): number {
    return this.shape.length;
  }
  /** Its place in the graph, or null where nothing is recorded of it. */
  get track(): Track | null {
    return this.#track;
  }
  /** Whether this handle has been given back. */
  get disposed(): boolean {
    return this.#disposed !== null;
  }

  /** Size of an axis; negative counts from the end. @throws ShapeError */
  dim(axis: number): number {
    const size = Number.isInteger(axis) ? this.shape.at(axis) : undefined;
    if (size === undefined)
      throw new ShapeError('dim', `no axis ${axis} in shape [${this.shape.join(', ')}]`);
    return size;
  }

  /** Marks this value as one whose gradient is wanted; what is computed from it is recorded from now on. */
  requireGrad(): this {
    this.use();
    if (this.dtype !== 'f32' && this.dtype !== 'f16')
      throw new GradientError(
        `only f32 and f16 tensors have gradients, not ${this.dtype}${isQuantised(this.dtype) ? "; load the model with dtype 'f32' to train it" : ''}`,
      );
    // An optimiser changes weights in their buffers.
    this.#storage.unpack();
    this.#track ??= { node: null };
    return this;
  }

  /** The same elements under another shape and place in the graph (internal: no check). */
  view(shape: readonly number[], track: Track | null): Tensor {
    this.use();
    this.storage.retain();
    return new Tensor(this.storage, shape, track);
  }

  /** The same elements without a gradient. */
  detach(): Tensor {
    return this.view(this.shape, null);
  }

  /** Throws if the tensor has been disposed of, by the user or with the scope it was made in. */
  use(): void {
    if (this.#disposed === 'dispose')
      throw new ShapeError('tensor', `${showShape(this)} was used after dispose()`);
    if (this.#disposed)
      throw new ShapeError(
        'tensor',
        `${showShape(this)} was used after the scope that it was made in had ended; return it from there, or keep() it`,
      );
  }

  /**
   * Replaces all elements, row-major, in order with what is recorded before and after: every handle on them sees the new ones.
   * For inputs of a recorded `Plan`.
   * @throws ShapeError if the counts differ, something is no number (of u32: no integer of 32 bits) or the dtype is another, GradientError where a tape has saved the old ones,
   *   PlanError inside a recording.
   */
  write(data: Numbers): this {
    this.use();
    if (this.dtype !== 'f32' && this.dtype !== 'u32')
      throw new ShapeError('write', `${this.dtype} tensor; only f32 and u32 are written`);
    const { values } = hostNumbers('write', data, this.dtype);
    checkCount('write', values, this.shape);
    if (this.storage.saved)
      throw new GradientError(
        'write: a tape has saved the old values; go back first, or record under noGrad',
      );
    writeInto(this.storage, values);
    return this;
  }

  /** Copies the elements, as they are at the call, to the host: f32 as Float32Array. @throws ShapeError for another dtype */
  async read(): Promise<Float32Array> {
    if (this.dtype !== 'f32')
      throw new ShapeError(
        'read',
        `${this.dtype} tensor; use ${this.dtype === 'u32' ? 'readIntegers()' : 'toF32(…).read()'}`,
      );
    const { storage } = this;
    const { version } = storage;
    const values = new Float32Array((await this.#bytes()).buffer);
    storage.see(values, version);
    return values;
  }

  /** Copies u32 elements, as they are at the call, to the host. @throws ShapeError for another dtype */
  async readIntegers(): Promise<Uint32Array> {
    if (this.dtype !== 'u32') throw new ShapeError('readIntegers', `${this.dtype} tensor`);
    const { storage } = this;
    const { version } = storage;
    const values = new Uint32Array((await this.#bytes()).buffer);
    storage.see(values, version);
    return values;
  }

  /**
   * The elements as nested lists in the tensor's shape, as they are at the call; a number for a tensor without axes.
   * @throws ShapeError unless f32 or u32
   */
  async array(): Promise<NestedNumbers> {
    const values = this.dtype === 'u32' ? await this.readIntegers() : await this.read();
    const level = (axis: number, begin: number, size: number): NestedNumbers => {
      const count = this.shape[axis];
      if (count === undefined) return values[begin]!;
      const each = size / Math.max(1, count);
      return Array.from({ length: count }, (_, i) => level(axis + 1, begin + i * each, each));
    };
    return level(0, 0, this.size);
  }

  /** The only element of a tensor of size 1. */
  async item(): Promise<number> {
    if (this.size !== 1)
      throw new ShapeError('item', `shape [${this.shape.join(', ')}] has ${this.size} elements`);
    return (await this.read())[0]!;
  }

  #bytes(): Promise<Uint8Array<ArrayBuffer>> {
    // What lies in panels is read by way of a copy, and stays there.
    const { storage } = this;
    const copy = storage.panels && storage.unpacked();
    const reading = this.device.readWindows(
      (copy ?? storage).segments.map((s) => ({
        buffer: s.buffer,
        offset: s.offset,
        size: Math.ceil((s.end - s.begin) * bytesOf(this.dtype)),
      })),
    );
    copy?.release();
    return reading;
  }

  get #name(): string {
    return `${this.dtype} ${showShape(this)}${this.#disposed ? ', disposed of' : ''}`;
  }

  /** dtype, shape, and the first elements where the host knows them, as it has written or read them: `f32 [2, 3]: 1, 2, 3, 4, 5, 6`. */
  toString(): string {
    const name = this.#name;
    const seen = this.#storage.seen;
    if (this.#disposed || !seen || this.size === 0) return name;
    return `${name}: ${seen.map((value) => Number(value.toPrecision(6))).join(', ')}${this.size > seen.length ? ', …' : ''}`;
  }
  /** For `console.log` in Node, Bun and Deno; a value that the device alone knows comes with `read()` or `array()`. */
  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return `Tensor ${this.toString()}`;
  }

  /** In texts, such as errors: dtype and shape. @throws UserError for arithmetic, such as `x * 2`, which would be NaN. */
  [Symbol.toPrimitive](hint: string): string {
    if (hint === 'string') return this.#name;
    throw new UserError(
      'option',
      'a tensor is no number: add(), sub(), mul(), div() compute with tensors, item() and read() give numbers',
    );
  }

  /** Gives this handle back; the elements go with the last one, and with the tapes that saved them. */
  dispose(by: 'dispose' | 'scope' = 'dispose'): void {
    if (this.#disposed) return;
    this.#disposed = by;
    disown(this);
    this.#storage.release();
    this.#track?.node?.release();
  }
  /** For `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** @throws UserError for what is no tensor, ShapeError where one has been disposed of, DeviceError where they lie on two devices. */
export function oneDevice(op: string, ...tensors: readonly (Tensor | null | undefined)[]): void {
  let device: Device | undefined;
  for (const t of tensors) {
    if (t === undefined || t === null) continue;
    if (!(t instanceof Tensor)) checkValue(op, 'an operand', tensorField, t);
    t.use();
    device ??= t.device;
    if (t.device !== device) throw DeviceError.two(op);
  }
}

let recording = true;

/**
 * Runs `fn`, which is synchronous, without recording for gradients. @throws UserError where it gives a promise.
 * @example
 * ```ts
 * import { mul, noGrad, openDevice, tensor } from 'neurgrad/engine';
 *
 * const device = await openDevice();
 * const x = tensor(device, [1, 2]).requireGrad();
 * console.log(mul(x, x).track !== null, noGrad(() => mul(x, x)).track); // → true null
 * device.destroy();
 * ```
 */
export function noGrad<T>(fn: () => T): T {
  if (typeof fn !== 'function') checkValue('noGrad', 'fn', callback(), fn);
  const before = recording;
  recording = false;
  try {
    const result = fn();
    checkSynchronous('noGrad', result);
    return result;
  } finally {
    recording = before;
  }
}

/** Runs `fn` with recording on or off. */
export function withRecording<T>(on: boolean, fn: () => T): T {
  if (!on) return noGrad(fn);
  const before = recording;
  recording = true;
  try {
    return fn();
  } finally {
    recording = before;
  }
}

/** Whether operations on tracked tensors are being recorded. */
export const recordingIsOn = (): boolean => recording;

/** Places in the graph of what is read without recording, where {@link trackedReads} asks. */
let reads: Set<Track> | null = null;

/** The result of `fn`, and the places of the tracked tensors that operations inside read without recording. */
export function trackedReads<T>(fn: () => T): [T, ReadonlySet<Track>] {
  const outer = reads;
  const own = new Set<Track>();
  reads = own;
  try {
    return [fn(), own];
  } finally {
    reads = outer;
    for (const track of own) outer?.add(track);
  }
}

/** Whether an operation on these inputs is to be recorded. */
export function isRecording(inputs: readonly Tensor[]): boolean {
  if (reads && !recording) for (const { track } of inputs) if (track) reads.add(track);
  return recording && inputs.some((t) => t.track !== null);
}

/** `t` where one of these inputs may be asked for its gradient, which is made of it: what is saved of an operation. */
export const neededBy = (t: Tensor, ...inputs: readonly (Tensor | undefined)[]): Tensor | null =>
  inputs.some((input) => input?.track) ? t : null;

/**
 * The result of an operation, with its gradient. `run` makes the output; `saved` are the tensors that the pullback needs;
 * a null pullback says that the operation has no gradient, which is an error only when one is asked for.
 * @example
 * ```ts
 * import { affine, empty, grad, mul, openDevice, operation, square, sum, tensor, type Tensor } from 'neurgrad/engine';
 * import { linearGrid, memo } from 'neurgrad/kernels';
 *
 * const kernel = memo(() => ({
 *   name: 'mine.cube',
 *   bindings: [
 *     { name: 'x', element: 'f32', access: 'read' },
 *     { name: 'y', element: 'f32', access: 'read_write' },
 *   ],
 *   params: { n: 'u32' },
 *   workgroup: [64, 1, 1],
 *   body: `
 * fn main(@builtin(global_invocation_id) gid: vec3u) {
 *   if (gid.x < p.n) { y[gid.x] = x[gid.x] * x[gid.x] * x[gid.x]; }
 * }`,
 * }));
 * function cube(x: Tensor): Tensor {
 *   const y = empty(x.device, x.shape);
 *   x.device.dispatch(kernel(), [x.storage.window(), y.storage.window()], { n: x.size }, linearGrid(x.size));
 *   return operation('cube', [x], y, [x], (dy, saved) => [mul(dy, affine(square(saved[0]!), 3, 0))]);
 * }
 *
 * const device = await openDevice();
 * const x = tensor(device, [1, -2]).requireGrad();
 * const [g] = grad(sum(cube(x)), [x], { createGraph: true });
 * console.log(await cube(x).array(), await g!.array(), await grad(sum(g!), [x])[0]!.array()); // → [ 1, -8 ] [ 3, 12 ] [ 6, -12 ]
 * device.destroy();
 * ```
 */
export function operation(
  op: string,
  inputs: readonly Tensor[],
  output: Tensor,
  saved: readonly (Tensor | null)[],
  pullback: Pullback | null,
): Tensor {
  if (!isRecording(inputs)) return output;
  oneDevice(op, output, ...inputs);
  const { track } = new Node(op, inputs, output, saved, pullback);
  const tracked = output.view(output.shape, track);
  output.dispose();
  return tracked;
}

/** A tensor, as a field of options. */
export const tensorField = instance(Tensor, 'a tensor');
const tensorList = list(tensorField, 'a list of tensors');

/** @throws UserError where an argument of an operation is no tensor, which names it. */
export function checkTensors(op: string, tensors: Readonly<Record<string, unknown>>): void {
  for (const name in tensors)
    if (!(tensors[name] instanceof Tensor)) checkValue(op, name, tensorField, tensors[name]);
}

/** The same of one, which is in use; its dtype is one of `dtypes`. @throws also ShapeError */
export function checkTensor(op: string, name: string, x: unknown, dtypes?: readonly DType[]): void {
  if (!(x instanceof Tensor)) checkValue(op, name, tensorField, x);
  const { dtype } = x as Tensor;
  (x as Tensor).use();
  if (dtypes && !dtypes.includes(dtype))
    throw new ShapeError(op, `needs ${dtypes.join(' or ')}, got ${dtype} ${showShape(x as Tensor)}`);
}

const numberField = like<number>((value) => typeof value === 'number', 'a number');

/** @throws UserError for an argument that is no number. */
export function checkNumber(op: string, name: string, value: unknown): void {
  if (typeof value !== 'number') checkValue(op, name, numberField, value);
}

const numberList = list<number>(numberField, 'a list of numbers');
/** @throws UserError for an argument that is no list of numbers, such as a shape. */
export function checkNumberList(op: string, name: string, value: unknown): void {
  if (!Array.isArray(value) || !value.every((n) => typeof n === 'number'))
    checkValue(op, name, numberList, value);
}

/** @throws UserError for what is no function, or is one whose promise would be awaited after the call has ended. */
export function checkSynchronous(op: string, result: unknown): void {
  if (result instanceof Promise) {
    result.catch(() => undefined);
    throw new UserError(
      'option',
      `${op}: the function gives a promise, but what it awaits would run after ${op} has ended; await outside`,
    );
  }
}

/** The same for a list of them. */
export function checkTensorList(op: string, name: string, tensors: unknown): void {
  checkValue(op, name, tensorList, tensors);
}

/** A new tensor for the output of a kernel; its contents are not defined yet. */
export function empty(
  device: Device,
  shape: readonly number[],
  dtype: DType = 'f32',
  purpose: Purpose = 'activations',
): Tensor {
  checkShape('empty', shape);
  return new Tensor(new Storage(device, dtype, storedShape(dtype, shape), purpose), shape);
}

/** Numbers in nested lists: the elements of a tensor in its shape. */
export type NestedNumbers = number | NestedNumbers[];

/** Host numbers: one, a list or typed array of them, or lists of such, whose nesting is their shape. */
export type Numbers = number | ArrayLike<number> | readonly Numbers[];

/**
 * Host numbers to the device as f32, row-major. Without `shape` it is that of the nesting; with it, the numbers are taken in order.
 * @throws ShapeError if the counts differ, rows are of unequal lengths, or anything is no number.
 * @example
 * ```ts
 * import { add, openDevice, tensor } from 'neurgrad/engine';
 *
 * const device = await openDevice();
 * const a = tensor(device, [[1, 2], [3, 4]]); // as tensor(device, [1, 2, 3, 4], [2, 2])
 * const b = tensor(device, [10, 20]);
 * console.log(await add(a, b).array()); // → [ [ 11, 22 ], [ 13, 24 ] ]
 * device.destroy();
 * ```
 */
export function tensor(
  device: Device,
  data: Numbers,
  shape?: readonly number[],
  purpose: Purpose = 'activations',
): Tensor {
  return upload('tensor', device, data, shape, 'f32', purpose);
}

/**
 * Host integers to the device as u32; negative ones become large numbers, outside any table. Shapes as of {@link tensor}.
 * @throws ShapeError as {@link tensor}, and for what is no integer of 32 bits: from -2^31 up to 2^32 - 1.
 */
export function integers(device: Device, data: Numbers, shape?: readonly number[]): Tensor {
  return upload('integers', device, data, shape, 'u32', 'activations');
}

function upload(
  op: string,
  device: Device,
  data: Numbers,
  given: readonly number[] | undefined,
  dtype: 'f32' | 'u32',
  purpose: Purpose,
): Tensor {
  const { values, shape: own } = hostNumbers(op, data, dtype);
  const shape = given ?? own;
  checkShape(op, shape);
  checkCount(op, values, shape);
  const storage = new Storage(device, dtype, shape, purpose, 'host');
  writeInto(storage, values);
  return new Tensor(storage, shape);
}

/** Whether every element is a number by its type. */
const isTyped = (data: object): data is ArrayLike<number> & ArrayBufferView =>
  ArrayBuffer.isView(data) &&
  !(data instanceof DataView || data instanceof BigInt64Array || data instanceof BigUint64Array);

/** A value in an error's text. */
export function named(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(value.slice(0, 40));
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value === 'function') return 'a function';
  if (value === null || typeof value !== 'object') return String(value);
  const name = value.constructor?.name || 'object';
  return `${/^[aeiou]/i.test(name) ? 'an' : 'a'} ${name}`;
}

/** @throws ShapeError at the first value that is no number, or for u32 no integer of 32 bits. */
function checkNumbers(op: string, data: ArrayLike<unknown>, dtype: 'f32' | 'u32', where: string): void {
  const checked =
    isTyped(data) && (dtype === 'f32' || !(data instanceof Float32Array || data instanceof Float64Array));
  if (checked) return;
  for (let i = 0; i < data.length; i++) {
    const value = data[i];
    if (typeof value !== 'number')
      throw new ShapeError(op, `needs numbers, got ${named(value)} at [${where}${i}]`);
    if (dtype === 'u32' && !(Number.isInteger(value) && value >= -(2 ** 31) && value < 2 ** 32))
      throw new ShapeError(op, `needs integers of 32 bits, got ${value} at [${where}${i}]`);
  }
}

/** Numbers in the type that the device takes, in order, and the shape of their nesting. @throws ShapeError */
function hostNumbers(
  op: string,
  data: Numbers,
  dtype: 'f32' | 'u32',
): { values: Float32Array | Uint32Array; shape: readonly number[] } {
  const kind = dtype === 'f32' ? Float32Array : Uint32Array;
  if (typeof data === 'number') {
    checkNumbers(op, [data], dtype, '');
    return { values: kind.of(data), shape: [] };
  }
  if (data instanceof kind) return { values: data, shape: [data.length] };
  if (data === null || typeof data !== 'object' || data instanceof Tensor || !Number.isInteger(data.length))
    throw new ShapeError(op, `needs numbers, or lists of them, got ${named(data)}`);
  const list = (value: unknown): value is ArrayLike<unknown> =>
    typeof value === 'object' && value !== null && (Array.isArray(value) || isTyped(value));
  if (isTyped(data) || !list(data[0])) {
    checkNumbers(op, data, dtype, '');
    return { values: kind.from(data as ArrayLike<number>), shape: [data.length] };
  }
  const shape: number[] = [];
  for (let level: unknown = data; list(level); level = level[0]) shape.push(level.length);
  const values = new kind(sizeOf(shape));
  let filled = 0;
  const fill = (level: unknown, depth: number, where: string): void => {
    if (!list(level))
      throw new ShapeError(op, `needs a list at [${where.slice(0, -2)}], got ${named(level)}`);
    if (level.length !== shape[depth])
      throw new ShapeError(
        op,
        `lists of unequal lengths: ${level.length} at [${where.slice(0, -2)}], ${shape[depth]} before it`,
      );
    if (depth < shape.length - 1) {
      for (let i = 0; i < level.length; i++) fill(level[i], depth + 1, `${where}${i}, `);
      return;
    }
    checkNumbers(op, level, dtype, where);
    values.set(level as ArrayLike<number>, filled);
    filled += level.length;
  };
  fill(data, 0, '');
  return { values, shape };
}

/** @throws ShapeError unless every size is a whole number from 0 on. */
function checkShape(op: string, shape: readonly number[]): void {
  if (!Array.isArray(shape) || !shape.every((size) => Number.isSafeInteger(size) && size >= 0))
    throw new ShapeError(op, `bad shape ${Array.isArray(shape) ? `[${shape.join(', ')}]` : named(shape)}`);
}

function checkCount(op: string, data: ArrayLike<number>, shape: readonly number[]): void {
  if (data.length !== sizeOf(shape))
    throw new ShapeError(op, `${data.length} numbers for shape [${shape.join(', ')}]`);
}

function writeInto(storage: Storage, data: Float32Array | Uint32Array): void {
  const { device, segments } = storage;
  if (data instanceof Uint32Array) storage.largest = data.reduce((a, b) => Math.max(a, b), 0);
  for (const s of segments) {
    const part = data.subarray(s.begin, s.end);
    device.queue.write(
      s.buffer,
      s.offset,
      new Uint8Array(part.buffer as ArrayBuffer, part.byteOffset, part.byteLength),
    );
  }
  storage.see(data);
}

/** A tensor full of one value. */
export function full(
  device: Device,
  shape: readonly number[],
  value: number,
  purpose: Purpose = 'activations',
): Tensor {
  checkNumber('full', 'value', value);
  const y = empty(device, shape, 'f32', purpose);
  for (const s of y.storage.segments) {
    const n = s.end - s.begin;
    device.dispatch(fill(), [y.storage.window(s.begin, s.end)], [n, value], linearGrid(Math.ceil(n / 4)));
  }
  return y;
}

/** A tensor of zeros. */
export const zeros = (device: Device, shape: readonly number[], purpose?: Purpose): Tensor =>
  full(device, shape, 0, purpose);
