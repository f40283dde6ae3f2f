/**
 * Layer norm and RMS norm over the last axis.
 */

import {
  groupGrid,
  type Kernel,
  type Norm,
  normBackward,
  norm as normKernel,
  type RowShare,
} from '../../kernels/index.ts';
import { ShapeError } from '../errors.ts';
import { rowShare } from '../rowShare.ts';
import { commonRows } from '../storage.ts';
import { empty, operation, type Tensor } from '../tensor.ts';
import { affine, mul, rsqrt, square, sub } from './elementwise.ts';
import { mean, sumTo } from './reduce.ts';
import { throughTwin } from './twin.ts';

const show = (t: Tensor): string => `[${t.shape.join(', ')}]`;

function dispatch(
  op: string,
  kernel: (share: RowShare) => Kernel,
  rowed: Tensor[],
  vectors: Tensor[],
  x: Tensor,
  y: Tensor,
  eps: number,
): void {
  const length = x.dim(-1);
  if (x.size === 0) return;
  const operands = [x, ...rowed, y].map((t) => ({ storage: t.storage, rowLength: length }));
  for (const [begin, end] of commonRows(op, x.size / length, operands)) {
    const part = (t: Tensor) => t.storage.window(begin * length, end * length);
    x.device.dispatch(
      kernel(rowShare(length, x.device)),
      [part(x), ...vectors.map((t) => t.storage.window()), ...rowed.map(part), part(y)],
      [end - begin, length, eps],
      groupGrid(end - begin),
      8 * (end - begin) * length,
    );
  }
}

function check(op: string, x: Tensor, ...vectors: Tensor[]): void {
  for (const t of [x, ...vectors]) {
    t.use();
    if (t.dtype !== 'f32') throw new ShapeError(op, `needs f32, got ${t.dtype}`);
  }
  if (x.rank === 0 || vectors.some((v) => v.rank !== 1 || v.dim(0) !== x.dim(-1)))
    throw new ShapeError(op, `x ${show(x)} with ${vectors.map(show).join(', ')}`);
}

/**
 * (x - mean) / sqrt(variance + eps) * weight + bias over the last axis (population variance).
 * @example
 * ```ts
 * import { full, layerNorm, openDevice, tensor, zeros } from 'neurgrad/engine';
 *
 * const device = await openDevice();
 * const y = layerNorm(tensor(device, [1, 3], [1, 2]), full(device, [2], 1), zeros(device, [2]), 0);
 * console.log([...(await y.read())]); // → [ -1, 1 ]
 * device.destroy();
 * ```
 */
export function layerNorm(x: Tensor, weight: Tensor, bias: Tensor, eps: number): Tensor {
  check('layerNorm', x, weight, bias);
  const y = empty(x.device, x.shape);
  dispatch('layerNorm', (share) => normKernel('layer', true, share), [], [weight, bias], x, y, eps);
  return operation('layerNorm', [x, weight, bias], y, [x, weight], (dy, saved, needs) => {
    const [x, weight] = saved as [Tensor, Tensor];
    return [
      needs[0] ? backward('layer', x, weight, dy, eps) : null,
      needs[1] ? sumTo(mul(dy, standardise('layer', x, eps)), weight.shape) : null,
      needs[2] ? sumTo(dy, weight.shape) : null,
    ];
  });
}

/** x / sqrt(mean(x^2) + eps) * weight over the last axis. */
export function rmsNorm(x: Tensor, weight: Tensor, eps: number): Tensor {
  check('rmsNorm', x, weight);
  const y = empty(x.device, x.shape);
  dispatch('rmsNorm', (share) => normKernel('rms', true, share), [], [weight], x, y, eps);
  return operation('rmsNorm', [x, weight], y, [x, weight], (dy, saved, needs) => {
    const [x, weight] = saved as [Tensor, Tensor];
    return [
      needs[0] ? backward('rms', x, weight, dy, eps) : null,
      needs[1] ? sumTo(mul(dy, standardise('rms', x, eps)), weight.shape) : null,
    ];
  });
}

/** The norm without weight and bias. */
function standardise(kind: Norm, x: Tensor, eps: number): Tensor {
  const y = empty(x.device, x.shape);
  dispatch('standardise', (share) => normKernel(kind, false, share), [], [], x, y, eps);
  return operation(
    'standardise',
    [x],
    y,
    [x],
    throughTwin(1, (x) => standardiseTwin(kind, x!, eps)),
  );
}

/** The norm without weight and bias, in primitive operations. */
export function standardiseTwin(kind: Norm, x: Tensor, eps: number): Tensor {
  const deviation = kind === 'layer' ? sub(x, mean(x, -1, true)) : x;
  return mul(deviation, rsqrt(affine(mean(square(deviation), -1, true), 1, eps)));
}

function backward(kind: Norm, x: Tensor, weight: Tensor, dy: Tensor, eps: number): Tensor {
  const dx = empty(x.device, x.shape);
  dispatch('normBackward', (share) => normBackward(kind, share), [dy], [weight], x, dx, eps);
  return operation(
    'normBackward',
    [x, weight, dy],
    dx,
    [x, weight, dy],
    throughTwin(3, (x, weight, dy) => normBackwardTwin(kind, x!, weight!, dy!, eps)),
  );
}

/** The backward kernel in primitive operations: rstd (g - mean(g) - xhat mean(g xhat)), g = dy weight; RMS without mean(g). */
export function normBackwardTwin(kind: Norm, x: Tensor, weight: Tensor, dy: Tensor, eps: number): Tensor {
  const deviation = kind === 'layer' ? sub(x, mean(x, -1, true)) : x;
  const rstd = rsqrt(affine(mean(square(deviation), -1, true), 1, eps));
  const standard = mul(deviation, rstd);
  const g = mul(dy, weight);
  const along = mul(standard, mean(mul(g, standard), -1, true));
  const level = kind === 'layer' ? sub(g, mean(g, -1, true)) : g;
  return mul(rstd, sub(level, along));
}
