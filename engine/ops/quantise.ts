/**
 * Weights from one storage format to another on the device: narrowed to 16 bits, quantised to 8 or 4, or widened to f32.
 */

import { isPacked, isQuantised, linearGrid, PACKINGS, quantise, quantiseWhole } from '../../kernels/index.ts';

import { GradientError, ShapeError } from '../errors.ts';
import { dequantiseInto, narrowInto, widenInto } from '../halves.ts';
import type { Purpose } from '../memory.ts';
import { checkValue } from '../options.ts';
import { CUT, commonRows, type DType, dtypeField, purposeField, rowsWindow } from '../storage.ts';
import {
  checkTensor,
  checkTensors,
  empty,
  isRecording,
  oneDevice,
  operation,
  showShape,
  sizeOf,
  type Tensor,
} from '../tensor.ts';

/**
 * x [rows, length] (f32, f16 or bf16) stored as `dtype`, not one of ggml's. 16-bit results round to nearest; int8 has
 * a scale for each 32 numbers of a row, int4 a minimum, too (docs/quantisation.md). Rounding to 16 bits has the gradient of the same numbers,
 * as in PyTorch; quantising has none. @throws ShapeError
 * @example
 * ```ts
 * import { convert, openDevice, tensor, toF32 } from 'neurgrad/engine';
 *
 * const device = await openDevice();
 * const half = convert(tensor(device, [1, 0.1], [1, 2]), 'f16');
 * console.log(half.dtype, [...(await toF32(half).read())]); // → f16 [ 1, 0.0999755859375 ]
 * device.destroy();
 * ```
 */
export function convert(x: Tensor, dtype: DType, purpose: Purpose = 'weights'): Tensor {
  checkValue('convert', 'dtype', dtypeField, dtype);
  checkValue('convert', 'purpose', purposeField, purpose);
  checkTensor('convert', 'x', x);
  if (x.dtype === dtype) return x.view(x.shape, x.track);
  const y = empty(x.device, x.shape, dtype, purpose);
  try {
    convertRows(x, y, 0);
  } catch (error) {
    y.dispose();
    throw error;
  }
  return operation('convert', [x], y, [], isQuantised(dtype) ? null : (dy) => [dy]);
}

/**
 * As {@link convert}, into rows of a tensor that is there: x [rows, ...] to y [all, ...] from row `first` on, a multiple of
 * 128 (where a binding may begin). Of y, nothing else changes. @throws ShapeError, GradientError where a gradient would be lost
 */
export function convertInto(x: Tensor, y: Tensor, first = 0): void {
  checkTensors('convertInto', { x, y });
  oneDevice('convertInto', x, y);
  if (isRecording([x, y]) || y.storage.saved)
    throw new GradientError(
      'convertInto: what it replaces, or puts there, is part of a gradient; use convert',
    );
  convertRows(x, y, first);
}

function convertRows(x: Tensor, y: Tensor, first: number): void {
  const [from, to] = [x.dtype, y.dtype];
  const length = sizeOf(x.shape.slice(1));
  if (from === 'u32' || to === 'u32' || isPacked(to) || from === to || (isQuantised(from) && to !== 'f32'))
    throw new ShapeError('convert', `${from} to ${to}`);
  if (length !== sizeOf(y.shape.slice(1)) || first % CUT !== 0 || first * length + x.size > y.size)
    throw new ShapeError('convert', `${showShape(x)} to rows of ${showShape(y)} from ${first} on`);
  if (x.size === 0) return;
  if (isQuantised(from)) {
    dequantiseInto(x.storage, y.storage, length, first);
    return;
  }
  if (!isQuantised(to)) {
    if (to === 'f32') widenInto(x.storage, y.storage, first * length);
    else narrowInto(x.storage, y.storage, { first: first * length });
    return;
  }
  if (x.rank !== 2) throw new ShapeError('convert', `${to} needs rows, got [${x.shape.join(', ')}]`);
  const { group } = PACKINGS[to];
  const groups = Math.ceil(length / group);
  const whole = length % group === 0;
  const operands = [
    { storage: x.storage, rowLength: length },
    { storage: y.storage, rowLength: groups * group, first },
  ];
  for (const [begin, end] of commonRows('convert', x.dim(0), operands))
    x.device.dispatch(
      whole ? quantiseWhole(from, to) : quantise(from, to),
      operands.map((operand) => rowsWindow(operand, begin, end)),
      [(end - begin) * groups, length, groups].slice(0, whole ? 1 : 3),
      linearGrid((end - begin) * groups),
    );
}
