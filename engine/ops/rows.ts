/**
 * Rows by index: embedding lookup, its adjoint, and one element a row.
 */

import {
  gatherRows as gatherKernel,
  linearGrid,
  linkRows,
  pick as pickKernel,
  ROW_GROUP,
  scatterAddRows as scatterKernel,
  unpick as unpickKernel,
  type WeightFormat,
  writeRow as writeKernel,
} from '../../kernels/index.ts';
import { storedRow } from '../../kernels/packing.ts';
import { gatherPanels } from '../../kernels/panels.ts';
import { GradientError, ShapeError } from '../errors.ts';
import { wholeTexture } from '../memory.ts';
import { checkValue, whole } from '../options.ts';
import { commonRows, rowsWindow } from '../storage.ts';
import {
  checkTensor,
  checkTensors,
  empty,
  integers,
  isRecording,
  type Numbers,
  oneDevice,
  operation,
  showShape,
  Tensor,
  zeros,
} from '../tensor.ts';
import { add } from './elementwise.ts';
import { slice } from './shape.ts';

const sizeField = whole();
const checkSize = (op: string, name: string, size: unknown): void => checkValue(op, name, sizeField, size);

/** Where rows are, as u32 on the device: what {@link gatherRows} and its relatives take. */
type Indices = Tensor | Numbers;

/**
 * Indices on the device, each below `size`. @throws ShapeError for one outside; where only the device knows it, the next readback
 * does.
 */
function indexTensor(op: string, x: Tensor, index: Indices, size: number): Tensor {
  if (!(index instanceof Tensor)) {
    const made = integers(x.device, index);
    try {
      checkIndices(op, made, size);
    } catch (error) {
      made.dispose();
      throw error;
    }
    return made;
  }
  oneDevice(op, x, index);
  if (index.dtype !== 'u32') throw new ShapeError(op, `index of dtype ${index.dtype}`);
  checkIndices(op, index, size);
  return index.detach();
}

/** @throws ShapeError for a u32 element that is not below `size`, now or at the next readback. */
export const checkIndices = (op: string, index: Tensor, size: number): void =>
  index.device.indexFaults.check(op, index.storage, size);

/**
 * table[index[r], :] for table [V, W]: [R, W]. The table may be stored in any format. @throws ShapeError for an index outside.
 * @example
 * ```ts
 * import { gatherRows, openDevice, tensor } from 'neurgrad/engine';
 *
 * const device = await openDevice();
 * const table = tensor(device, [0, 1, 10, 11, 20, 21], [3, 2]);
 * console.log([...(await gatherRows(table, [2, 0]).read())]); // → [ 20, 21, 0, 1 ]
 * device.destroy();
 * ```
 */
export function gatherRows(table: Tensor, index: Indices): Tensor {
  checkTensor('gatherRows', 'table', table);
  if (table.rank !== 2) throw new ShapeError('gatherRows', `table ${showShape(table)} must have two axes`);
  if (table.dtype === 'u32') throw new ShapeError('gatherRows', 'u32 table');
  const at = indexTensor('gatherRows', table, index, table.dim(0));
  const y = gatherAt(table, at);
  at.dispose();
  return y;
}

/** The same at indices that have been checked; a row whose index is outside is 0. */
function gatherAt(table: Tensor, at: Tensor): Tensor {
  const [size, width] = [table.dim(0), table.dim(1)];
  const { panels } = table.storage;
  if (panels && panels.k === width) {
    const y = empty(table.device, [at.size, width]);
    for (const [from, to] of commonRows('gatherRows', at.size, [
      { storage: y.storage, rowLength: width },
      { storage: at.storage, rowLength: 1 },
    ]))
      table.device.dispatch(
        gatherPanels(),
        [
          wholeTexture(panels.texture),
          at.storage.window(from, to),
          y.storage.window(from * width, to * width),
        ],
        [size, width, panels.layout.columns, panels.layout.rows, to - from],
        linearGrid((to - from) * width),
      );
    return gathered(table, at, y);
  }
  const stride = storedRow(table.dtype as WeightFormat, width);
  // Indices that the host knows fill every row from a table in one buffer; otherwise rows that no window has stay 0.
  const complete =
    at.storage.largest !== null && at.storage.largest < size && table.storage.segments.length === 1;
  const y = (complete ? empty : zeros)(table.device, [at.size, width]);
  if (y.size > 0)
    for (const [begin, end] of commonRows('gatherRows', size, [
      { storage: table.storage, rowLength: stride },
    ]))
      for (const [from, to] of commonRows('gatherRows', at.size, [
        { storage: y.storage, rowLength: width },
        { storage: at.storage, rowLength: 1 },
      ]))
        table.device.dispatch(
          gatherKernel(table.dtype as WeightFormat),
          [
            table.storage.window(begin * stride, end * stride),
            at.storage.window(from, to),
            y.storage.window(from * width, to * width),
          ],
          [to - from, width, begin, end - begin, stride],
          linearGrid((to - from) * width),
        );
  return gathered(table, at, y);
}

const gathered = (table: Tensor, at: Tensor, y: Tensor): Tensor =>
  operation('gatherRows', [table], y, [at], (dy, saved) => [scatterAt(dy, saved[0]!, table.dim(0))]);

/** Rows [R, W] added into zeros [size, W] at their indices: the adjoint of gatherRows. @throws ShapeError for an index outside */
export function scatterAddRows(rows: Tensor, index: Indices, size: number): Tensor {
  checkTensor('scatterAddRows', 'rows', rows, ['f32']);
  checkSize('scatterAddRows', 'size', size);
  const at = indexTensor('scatterAddRows', rows, index, size);
  try {
    if (rows.rank !== 2 || rows.dim(0) !== at.size)
      throw new ShapeError('scatterAddRows', `rows ${showShape(rows)} for ${at.size} indices`);
    return scatterAt(rows, at, size);
  } finally {
    at.dispose();
  }
}

function scatterAt(rows: Tensor, at: Tensor, size: number): Tensor {
  const width = rows.dim(1);
  if (rows.storage.segments.length > 1) return scatterParts(rows, at, size);
  const y = zeros(rows.device, [size, width]);
  if (rows.size > 0) {
    const link = empty(rows.device, [at.size], 'u32', 'scratch');
    const [index, links] = [at.storage.window(), link.storage.window()];
    const vector = width % 4 === 0 ? 4 : 1;
    // Comparing within a block costs its size: on a GPU less than the barriers between blocks, on a CPU more.
    const lanes = rows.device.rowLanes < ROW_GROUP ? rows.device.rowLanes : 256;
    for (const [begin, end] of commonRows('scatterAddRows', size, [
      { storage: y.storage, rowLength: width },
    ])) {
      const window = y.storage.window(begin * width, end * width);
      const place = [begin, end - begin];
      rows.device.dispatch(linkRows(lanes), [index, links, window], [at.size, width, ...place], [1, 1, 1]);
      rows.device.dispatch(
        scatterKernel(vector),
        [rows.storage.window(), index, window, links],
        [at.size, width / vector, ...place],
        linearGrid(rows.size / vector),
        rows.size,
      );
    }
    link.dispose();
  }
  return operation('scatterAddRows', [rows], y, [at], (dy, saved) => [gatherAt(dy, saved[0]!)]);
}

/** Rows in several buffers: scattered one buffer after the other, and added. */
function scatterParts(rows: Tensor, at: Tensor, size: number): Tensor {
  const ranges = commonRows('scatterAddRows', rows.dim(0), [
    { storage: rows.storage, rowLength: rows.dim(1) },
    { storage: at.storage, rowLength: 1 },
  ]);
  const parts = ranges.map(([begin, end]) =>
    scatterAt(slice(rows, [begin], [end]), slice(at, [begin], [end]), size),
  );
  return parts.reduce((total, part) => add(total, part));
}

/**
 * Replaces row `at` (u32 [1], on the device) of every block of `table` [..., size, W] by that of `rows` [..., W], in place: every
 * handle on the table sees it. For caches that grow; it has no gradient.
 * @throws ShapeError, also for an index outside; GradientError where a tape has saved the table, or would record the rows.
 */
export function writeRow(table: Tensor, rows: Tensor, at: Tensor): void {
  checkTensors('writeRow', { table, rows, at });
  oneDevice('writeRow', table, rows, at);
  const [size, width] = [table.dim(-2), table.dim(-1)];
  const dtypes = [table, rows, at].map((t) => t.dtype).join();
  if (dtypes !== 'f32,f32,u32' || at.size !== 1 || rows.dim(-1) !== width || rows.size * size !== table.size)
    throw new ShapeError(
      'writeRow',
      `rows ${showShape(rows)} at ${showShape(at)} of table ${showShape(table)}, ${dtypes}`,
    );
  if (isRecording([rows]))
    throw new GradientError('writeRow: the gradient of the rows would be lost; detach() them, or use noGrad');
  if (table.storage.saved || table.track)
    throw new GradientError('writeRow: the table is part of a gradient; go back first, or take a copy of it');
  checkIndices('writeRow', at, size);
  const count = rows.size / width;
  if (rows.size > 0)
    for (const [begin, end] of commonRows('writeRow', count * size, [
      { storage: table.storage, rowLength: width },
    ]))
      table.device.dispatch(
        writeKernel(),
        [rows.storage.window(), at.storage.window(), table.storage.window(begin * width, end * width)],
        [count, width, size, begin, end - begin],
        linearGrid(rows.size),
      );
}

/** x[r, index[r]] for x [R, V]: [R]. @throws ShapeError for an index outside */
export function pick(x: Tensor, index: Indices): Tensor {
  checkTensor('pick', 'x', x, ['f32']);
  if (x.rank !== 2) throw new ShapeError('pick', `${showShape(x)} must have two axes`);
  const at = indexTensor('pick', x, index, x.dim(1));
  try {
    if (at.size !== x.dim(0)) throw new ShapeError('pick', `${at.size} indices for ${showShape(x)}`);
    return pickAt(x, at);
  } finally {
    at.dispose();
  }
}

/** The same at indices that have been checked; 0 where one is outside. */
function pickAt(x: Tensor, at: Tensor): Tensor {
  const width = x.dim(1);
  const y = empty(x.device, [at.size]);
  run('pick', pickKernel(), x, at, y, [width, 1, 1], at.size, width);
  return operation('pick', [x], y, [at], (dy, saved) => [unpickAt(dy, saved[0]!, width)]);
}

/** y[r, j] = x[r] where j = index[r], else 0, for x [R]: [R, width]. The adjoint of pick. @throws ShapeError for an index outside */
export function unpick(x: Tensor, index: Indices, width: number): Tensor {
  checkTensor('unpick', 'x', x, ['f32']);
  checkSize('unpick', 'width', width);
  const at = indexTensor('unpick', x, index, width);
  try {
    if (x.rank !== 1 || at.size !== x.size)
      throw new ShapeError('unpick', `${at.size} indices for ${showShape(x)}`);
    return unpickAt(x, at, width);
  } finally {
    at.dispose();
  }
}

/** The same at indices that have been checked; a row whose index is outside is 0. */
export function unpickAt(x: Tensor, at: Tensor, width: number): Tensor {
  const y = empty(x.device, [x.size, width]);
  run('unpick', unpickKernel(), x, at, y, [1, 1, width], at.size, width);
  return operation('unpick', [x], y, [at], (dy, saved) => [pickAt(dy, saved[0]!)]);
}

function run(
  op: string,
  kernel: ReturnType<typeof pickKernel>,
  x: Tensor,
  index: Tensor,
  y: Tensor,
  widths: [number, number, number],
  rows: number,
  width: number,
): void {
  const operands = [x, index, y].map((t, i) => ({ storage: t.storage, rowLength: Math.max(1, widths[i]!) }));
  if (rows * width > 0)
    for (const [begin, end] of commonRows(op, rows, operands))
      x.device.dispatch(
        kernel,
        operands.map((operand) => rowsWindow(operand, begin, end)),
        [end - begin, width],
        linearGrid((end - begin) * (op === 'pick' ? 1 : width)),
      );
}
