/**
 * Blocks of a matrix that is stored as [in, out] into one of rows, [out, in], whatever its format: a checkpoint's Conv1D.
 */

import { linearGrid, transposeBlock } from '../../kernels/index.ts';
import { storedRow } from '../../kernels/quantise.ts';
import { transposedUnit } from '../../kernels/transpose.ts';
import { ShapeError } from '../errors.ts';
import { oneDevice, showShape, type Tensor } from '../tensor.ts';

/**
 * Columns of x [count, width] (f32, f16 or bf16) become rows of y [out, in], from its column `column` on: the runs of x's columns
 * (first and count) one after the other. A block that does not reach the end of y's rows has a multiple of 32 rows. The same
 * numbers as {@link convert} of the transposed.
 * @throws ShapeError where x does not lie in y, and for 16 bits in rows of odd length.
 */
export function transposeInto(
  x: Tensor,
  y: Tensor,
  runs: readonly (readonly [first: number, count: number])[],
  column: number,
): void {
  oneDevice('transposeInto', x, y);
  const [from, to] = [x.dtype, y.dtype];
  const unit = to === 'u32' ? 0 : transposedUnit(to);
  const [count, width] = [x.dim(0), x.dim(1)];
  const [rows, length] = [y.dim(0), y.dim(1)];
  const fits =
    runs.reduce((sum, [, each]) => sum + each, 0) === rows &&
    runs.every(([first, each]) => first + each <= width) &&
    column + count <= length &&
    column % unit === 0 &&
    (count % unit === 0 || (column + count === length && unit !== 2)) &&
    (unit !== 2 || length % 2 === 0);
  if (to === 'u32' || (from !== 'f32' && from !== 'f16' && from !== 'bf16') || !fits)
    throw new ShapeError(
      'transposeInto',
      `${from} ${showShape(x)} into ${to} ${showShape(y)} at column ${column}`,
    );
  const taken = storedRow(to, length);
  for (const { begin, end } of y.storage.segments) {
    if (begin % taken !== 0)
      throw new ShapeError(
        'transposeInto',
        `a row of ${taken} numbers would lie in two buffers of this device`,
      );
    const [firstRow, endRow] = [begin / taken, end / taken];
    let row = 0;
    for (const [first, each] of runs) {
      // Rows of this run that lie in this buffer.
      const [low, high] = [Math.max(row, firstRow), Math.min(row + each, endRow)];
      if (low < high) {
        const n = (high - low) * Math.ceil(count / unit);
        x.device.dispatch(
          transposeBlock(from, to),
          [x.storage.window(), y.storage.window(begin, end)],
          [n, high - low, count, width, first + low - row, low - firstRow, taken, column],
          linearGrid(n),
        );
      }
      row += each;
    }
  }
}
