/**
 * Weights from one storage format to another on the device: narrowed to 16 bits, quantised to 8 or 4, or widened to f32.
 */

import { isQuantised, linearGrid, QUANTISED_GROUP, quantise, quantiseWhole } from '../../kernels/index.ts';
import { ShapeError } from '../errors.ts';
import { narrowInto } from '../halves.ts';
import type { Purpose } from '../memory.ts';
import { commonRows, type DType } from '../storage.ts';
import { empty, type Tensor } from '../tensor.ts';
import { toF32 } from './matmul.ts';

/**
 * x [rows, length] (f32, f16 or bf16) stored as `dtype`; has no gradient. 16-bit results round to nearest; int8 and int4
 * have a scale for each 32 numbers of a row (docs/quantisation.md). @throws ShapeError
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
  x.use();
  const from = x.dtype;
  if (from === dtype) return x.detach();
  if (from === 'u32' || isQuantised(from) || dtype === 'u32')
    throw new ShapeError('convert', `${from} to ${dtype}`);
  if (dtype === 'f32') return toF32(x, 'weights');
  const y = empty(x.device, x.shape, dtype, purpose);
  if (!isQuantised(dtype)) {
    narrowInto(x.storage, y.storage);
    return y;
  }
  if (x.rank !== 2) throw new ShapeError('convert', `${dtype} needs rows, got [${x.shape.join(', ')}]`);
  const length = x.dim(1);
  const groups = Math.ceil(length / QUANTISED_GROUP);
  const operands = [
    { storage: x.storage, rowLength: length },
    { storage: y.storage, rowLength: groups * QUANTISED_GROUP },
  ];
  if (x.size > 0)
    for (const [begin, end] of commonRows('convert', x.dim(0), operands))
      x.device.dispatch(
        length % QUANTISED_GROUP === 0 ? quantiseWhole(from, dtype) : quantise(from, dtype),
        operands.map((o) => o.storage.window(begin * o.rowLength, end * o.rowLength)),
        [(end - begin) * groups, length, groups].slice(0, length % QUANTISED_GROUP === 0 ? 1 : 3),
        linearGrid((end - begin) * groups),
      );
  return y;
}
