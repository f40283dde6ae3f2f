/**
 * Rotary position embedding (Su et al. 2021): pairs of a head turned by angles that grow with the position, each pair at a
 * speed of its own. What scales speeds (Llama 3, linear) or turns a part of each head only (GPT-NeoX, Phi) is other speeds.
 */

import { linearGrid, rotary as rotaryKernel } from '../../kernels/index.ts';
import type { Device } from '../device.ts';
import { GradientError, PlanError, ShapeError } from '../errors.ts';
import { checkValue, instance, one, whole } from '../options.ts';
import { disown, scope } from '../scope.ts';
import { checkDevice, commonRows, rowsWindow } from '../storage.ts';
import {
  checkNumber,
  checkTensors,
  empty,
  isRecording,
  oneDevice,
  operation,
  showShape,
  type Tensor,
  tensor,
} from '../tensor.ts';
import { checkIndices } from './rows.ts';

/** Cosines and sines of position * speed, [positions, speeds] each, computed in float64. */
export interface RotaryTable {
  readonly cosine: Tensor;
  readonly sine: Tensor;
}

/** theta^(-2i / size), the speeds of `size` numbers in radians a position (Hugging Face: `inv_freq`). @throws ShapeError */
export function rotarySpeeds(size: number, theta: number): Float64Array {
  for (const [name, value] of Object.entries({ size, theta })) checkNumber('rotarySpeeds', name, value);
  const half = size / 2;
  if (!Number.isSafeInteger(half) || half < 0 || !(theta > 0))
    throw new ShapeError('rotarySpeeds', `${size} numbers, theta ${theta}`);
  return Float64Array.from({ length: half }, (_, i) => theta ** ((-2 * i) / size));
}

function tableOf(device: Device, positions: number, speeds: Float64Array): RotaryTable {
  const half = speeds.length;
  const cosine = new Float32Array(positions * half);
  const sine = new Float32Array(positions * half);
  for (let position = 0; position < positions; position++)
    for (let i = 0; i < half; i++) {
      const angle = position * speeds[i]!;
      cosine[position * half + i] = Math.cos(angle);
      sine[position * half + i] = Math.sin(angle);
    }
  return {
    cosine: tensor(device, cosine, [positions, half], 'weights'),
    sine: tensor(device, sine, [positions, half], 'weights'),
  };
}

/**
 * A table for `positions` positions of heads of an even size, at {@link rotarySpeeds}; one too large for a buffer lies in
 * several. @throws ShapeError
 */
export function rotaryTable(device: Device, positions: number, headSize: number, theta: number): RotaryTable {
  checkDevice('rotaryTable', device);
  for (const [name, value] of Object.entries({ positions, headSize, theta }))
    checkNumber('rotaryTable', name, value);
  if (![positions, headSize / 2].every((n) => Number.isSafeInteger(n) && n >= 0) || !(theta > 0))
    throw new ShapeError('rotaryTable', `${positions} positions of heads of ${headSize}, theta ${theta}`);
  return tableOf(device, positions, rotarySpeeds(headSize, theta));
}

const speedsField = instance(Float64Array, 'a Float64Array of radians a position');
const positionsField = whole();
/** Rows that the smallest table has. */
const FEWEST_ROWS = 256;

/** Rows of the table that a {@link RotaryAngles} of so many positions makes where `asked` are needed first. */
export const rotaryRows = (asked: number, positions: number): number =>
  Math.min(positions, 2 ** Math.ceil(Math.log2(Math.max(FEWEST_ROWS, asked))));

/**
 * The angles of some speeds, whose table is as long as has been asked for: a context of 131,072 positions is seldom used up.
 * @example
 * ```ts
 * import { integers, openDevice, RotaryAngles, rotary, rotarySpeeds, tensor } from 'neurgrad/engine';
 *
 * const device = await openDevice();
 * using angles = new RotaryAngles(device, rotarySpeeds(2, 10000), 131072);
 * // One token of one head of three numbers, of which the first two turn.
 * const y = rotary(tensor(device, [[[1, 0, 5]]]), integers(device, [1]), angles.table(2));
 * console.log((await y.read()).map((v) => Math.round(100 * v))); // → Float32Array(3) [ 54, 84, 500 ]
 * device.destroy();
 * ```
 */
export class RotaryAngles implements Disposable {
  /** Radians a position, a pair each: the first 2 * speeds.length numbers of a head turn. */
  readonly speeds: Float64Array;
  /** Positions that there are at most. */
  readonly positions: number;
  readonly #device: Device;
  /** Each at least twice as long as the one before, which stays: plans name its buffers. */
  readonly #tables: RotaryTable[] = [];

  /** @throws ShapeError for no speeds, or one that is no number */
  constructor(device: Device, speeds: Float64Array, positions: number) {
    checkDevice('RotaryAngles', device);
    checkValue('RotaryAngles', 'speeds', speedsField, speeds);
    checkValue('RotaryAngles', 'positions', positionsField, positions);
    if (speeds.length === 0 || !speeds.every(Number.isFinite))
      throw new ShapeError('RotaryAngles', `speeds [${speeds.join(', ')}]`);
    this.#device = device;
    this.speeds = speeds;
    this.positions = positions;
  }

  /**
   * A table of the positions 0 ... positions - 1 and more, which lives until `dispose`, whatever scope is open. The same
   * numbers however long it is.
   * @throws ShapeError for more positions than there are; PlanError where a longer table would have to be made in a recording
   */
  table(positions: number): RotaryTable {
    checkValue('RotaryAngles', 'positions', positionsField, positions);
    if (positions > this.positions)
      throw new ShapeError('RotaryAngles', `${positions} positions of ${this.positions}`);
    const last = this.#tables.at(-1);
    if (last && last.cosine.dim(0) >= positions) return last;
    if (this.#device.queue.recorder)
      throw new PlanError(
        `a table of rotary positions is made inside a recording; ask for table(${positions}) before it`,
      );
    const rows = rotaryRows(positions, this.positions);
    const made = scope(() => tableOf(this.#device, rows, this.speeds));
    disown(made.cosine);
    disown(made.sine);
    this.#tables.push(made);
    return made;
  }

  /** Frees the tables. */
  dispose(): void {
    for (const { cosine, sine } of this.#tables.splice(0)) {
      cosine.dispose();
      sine.dispose();
    }
  }
  /** For `using`. */
  [Symbol.dispose](): void {
    this.dispose();
  }
}

const turn = one([1, -1]);

/**
 * x [tokens..., heads, D] turned by its tokens' positions (u32, one a token): i and i + r / 2 are a pair, for the first r numbers
 * of a head, two a speed of the table; the others stay as they are. `direction` -1 turns back. The table is a constant.
 * @throws ShapeError, also for a position outside the table; GradientError for a table whose gradient is wanted
 */
export function rotary(x: Tensor, positions: Tensor, table: RotaryTable, direction: 1 | -1 = 1): Tensor {
  checkValue('rotary', 'direction', turn, direction);
  checkTensors('rotary', { x, positions, 'table.cosine': table?.cosine, 'table.sine': table?.sine });
  return turned([x], positions, table, direction)[0]!;
}

/** {@link rotary} of queries and keys of the same tokens, of so many heads each, in one kernel. */
export const rotaryOfBoth = (q: Tensor, k: Tensor, positions: Tensor, table: RotaryTable): [Tensor, Tensor] =>
  turned([q, k], positions, table, 1) as [Tensor, Tensor];

/** One or two. */
function turned(xs: readonly Tensor[], positions: Tensor, table: RotaryTable, direction: 1 | -1): Tensor[] {
  const [first] = xs as [Tensor];
  const tables = [table.cosine, table.sine];
  oneDevice('rotary', ...xs, positions, ...tables);
  const headSize = first.dim(-1);
  for (const x of xs)
    if (
      table.cosine.rank !== 2 ||
      2 * table.cosine.dim(1) > headSize ||
      x.dim(-1) !== headSize ||
      positions.size * x.dim(-2) * headSize !== x.size ||
      [x, ...tables].some((t) => t.dtype !== 'f32') ||
      positions.dtype !== 'u32' ||
      table.cosine.shape.join() !== table.sine.shape.join()
    )
      throw new ShapeError(
        'rotary',
        `x ${x.dtype} ${showShape(x)}, positions ${positions.dtype} ${showShape(positions)}, table ${showShape(table.cosine)}`,
      );
  if (isRecording(tables))
    throw new GradientError('rotary: its table is a constant, and the gradient of it would be lost');
  checkIndices('rotary', positions, table.cosine.dim(0));
  const ys = xs.map((x) => empty(x.device, x.shape));
  const half = table.cosine.dim(1);
  const counts = xs.map((x) => (x.size / headSize) * (headSize - half));
  const all = counts.reduce((a, b) => a + b, 0);
  const operands = tables.map(({ storage }) => ({ storage, rowLength: half }));
  const windows = (tensors: readonly Tensor[]) => tensors.map((t) => t.storage.window());
  const second = xs[1] ? [counts[1]!, xs[1].dim(-2)] : [];
  // Where the tokens are is known to the device alone: every part of the table turns those of its positions.
  if (all > 0)
    for (const [begin, end] of commonRows('rotary', table.cosine.dim(0), operands))
      first.device.dispatch(
        rotaryKernel(xs.length > 1),
        [
          ...windows(xs),
          positions.storage.window(),
          ...operands.map((rows) => rowsWindow(rows, begin, end)),
          ...windows(ys),
        ],
        [counts[0]!, first.dim(-2), half, headSize, begin, end - begin, direction, ...second],
        linearGrid(all),
        6 * all,
      );
  return ys.map((y, i) =>
    operation('rotary', [xs[i]!], y, [positions, ...tables], (dy, saved) => {
      const [positions, cosine, sine] = saved as [Tensor, Tensor, Tensor];
      return [rotary(dy, positions, { cosine, sine }, direction === 1 ? -1 : 1)];
    }),
  );
}
