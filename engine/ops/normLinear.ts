/**
 * Linear layers whose kernel normalises rows as it loads them (the prologue in kernels/matmulParts.ts): normalised rows are
 * never written, only their mean and rstd, once for all the layers that read the same rows.
 */

import { ShapeError } from '../errors.ts';
import { checkOptions, optionsSchema } from '../options.ts';
import {
  checkTensors,
  isRecording,
  oneDevice,
  operation,
  sizeOf,
  type Tensor,
  tensorField,
} from '../tensor.ts';
import { checkThen, followed, linearKernel, linearThen, matmul, type Then } from './matmul.ts';
import {
  checkBias,
  kernelNorm,
  normFields,
  normStatistics,
  type RowNorm,
  rowNorm,
  vectorsOf,
} from './norm.ts';
import { sumTo } from './reduce.ts';
import { reshape } from './shape.ts';
import { throughTwin } from './twin.ts';

/** A norm whose rows a product reads. */
export interface FusedNorm extends RowNorm {
  /** {@link normStatistics} of the rows, where several layers read them; default: worked out for this one. */
  readonly statistics?: Tensor | undefined;
}

const normOptions = optionsSchema<FusedNorm>({ ...normFields, statistics: tensorField });

/**
 * {@link linearThen} of the norm of x [..., K], normalised as the product loads it: the bits of the operations apart. With
 * gradients recorded the tape keeps x instead of its norm, and what follows the product is an operation of its own.
 * @throws ShapeError
 * @example
 * ```ts
 * import { full, normLinear, openDevice, tensor } from 'neurgrad/engine';
 *
 * const device = await openDevice();
 * const [x, w] = [tensor(device, [3, 3], [1, 2]), tensor(device, [1, 0, 0, 1, 1, 1], [3, 2])];
 * const y = normLinear(x, { kind: 'rms', weight: full(device, [2], 2), eps: 0 }, w);
 * console.log([...(await y.read())]); // → [ 2, 2, 4 ]
 * device.destroy();
 * ```
 */
export function normLinear(
  x: Tensor,
  norm: FusedNorm,
  w: Tensor,
  bias?: Tensor,
  then: Then = { op: 'none' },
): Tensor {
  checkOptions('normLinear: norm', normOptions, norm);
  checkBias('normLinear', norm);
  checkThen('normLinear', then);
  checkTensors('normLinear', { x, w });
  const { kind, eps } = norm;
  const vectors = vectorsOf(norm);
  oneDevice('normLinear', x, w, bias, ...vectors, 'with' in then ? then.with : undefined);
  const rows = sizeOf(x.shape.slice(0, -1));
  if (
    x.rank === 0 ||
    vectors.some((v) => v.dtype !== 'f32' || v.shape.join() !== `${x.dim(-1)}`) ||
    (norm.statistics && norm.statistics.shape.join() !== `${rows},2`)
  )
    throw new ShapeError(
      'normLinear',
      `x ${x} with ${[...vectors, ...(norm.statistics ? [norm.statistics] : [])].map(String).join(', ')}`,
    );
  const apply = (x: Tensor, weight: Tensor, bias?: Tensor): Tensor => rowNorm(x, { kind, weight, bias, eps });
  if (x.size === 0) return linearThen(apply(x, norm.weight, vectors[1]), w, bias, then);
  const inputs = [x, ...vectors, w, ...(bias ? [bias] : [])];
  const statistics = norm.statistics ?? normStatistics(x, kind, eps);
  const kernel = (then: Then): Tensor => {
    const y = linearKernel(x, w, bias, then, { kind: kernelNorm(norm), statistics, vectors });
    if (!norm.statistics) statistics.dispose();
    return y;
  };
  if (!isRecording([...inputs, ...('with' in then ? [then.with] : [])])) return kernel(then);
  const normed = 1 + vectors.length;
  const y = operation(
    'normLinear',
    inputs,
    kernel({ op: 'none' }),
    inputs.slice(0, normed + 1),
    (dy, saved, needs, arrived) => {
      const [x, weight, shift] = saved.slice(0, normed) as [Tensor, Tensor, Tensor?];
      const w = saved[normed]!;
      const [flat, through] = [reshape(dy, [rows, w.dim(0)]), needs.slice(0, normed)];
      const ofNorm = through.includes(true)
        ? throughTwin(normed, apply)(
            reshape(matmul(flat, w), x.shape),
            saved.slice(0, normed),
            through,
            arrived,
          )
        : through.map(() => null);
      const normal = (): Tensor => reshape(apply(x, weight, shift), [rows, w.dim(1)]);
      return [
        ...ofNorm,
        needs[normed] ? matmul(flat, normal(), { transA: true }) : null,
        needs[normed + 1] ? sumTo(flat, [w.dim(0)]) : null,
      ];
    },
  );
  return followed(y, then);
}
