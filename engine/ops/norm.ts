/**
 * Layer norm and RMS norm over the last axis.
 */

import {
  groupGrid,
  type Kernel,
  type Norm,
  normBackward,
  norm as normKernel,
  normParameters,
  normStatistics as normStatisticsKernel,
  type RowShare,
} from '../../kernels/index.ts';
import { ShapeError } from '../errors.ts';
import type { BufferWindow } from '../memory.ts';
import { between, checkValue, one } from '../options.ts';
import { rowShare } from '../rowShare.ts';
import { commonRows } from '../storage.ts';
import {
  checkTensor,
  checkTensors,
  empty,
  full,
  noGrad,
  oneDevice,
  operation,
  show,
  sizeOf,
  type Tensor,
} from '../tensor.ts';
import { reduceColumnsTo } from './columns.ts';
import { affine, mul, rsqrt, square, sub } from './elementwise.ts';
import { mean, sumTo } from './reduce.ts';
import { broadcastTo } from './shape.ts';
import { throughTwin } from './twin.ts';

/** A norm's kind, as a field of options. */
export const normField = one<Norm>(['layer', 'rms']);

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

/** What is added to a variance, so that it is never 0. */
const epsField = between(0, 1);
const checkEps = (op: string, eps: unknown): void => checkValue(op, 'eps', epsField, eps);

function check(op: string, eps: number, x: Tensor, weight: Tensor, bias?: Tensor): void {
  checkTensors(op, { x, weight });
  const vectors = bias ? [weight, bias] : [weight];
  checkEps(op, eps);
  oneDevice(op, x, ...vectors);
  for (const t of [x, ...vectors])
    if (t.dtype !== 'f32') throw new ShapeError(op, `needs f32, got ${t.dtype}`);
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
  checkTensors('layerNorm', { x, weight, bias });
  check('layerNorm', eps, x, weight, bias);
  const y = empty(x.device, x.shape);
  dispatch('layerNorm', (share) => normKernel('layer', share), [], [weight, bias], x, y, eps);
  return operation('layerNorm', [x, weight, bias], y, [x, weight], (dy, saved, needs) => {
    const [x, weight] = saved as [Tensor, Tensor];
    const [dWeight, dBias] = needs[1] ? parameters('layer', x, dy, eps, needs[2]!) : [];
    return [
      needs[0] ? backward('layer', x, weight, dy, eps) : null,
      dWeight ?? null,
      needs[2] ? (dBias ?? sumTo(dy, weight.shape)) : null,
    ];
  });
}

/** x / sqrt(mean(x^2) + eps) * weight over the last axis. */
export function rmsNorm(x: Tensor, weight: Tensor, eps: number): Tensor {
  check('rmsNorm', eps, x, weight);
  const y = empty(x.device, x.shape);
  dispatch('rmsNorm', (share) => normKernel('rms', share), [], [weight], x, y, eps);
  return operation('rmsNorm', [x, weight], y, [x, weight], (dy, saved, needs) => {
    const [x, weight] = saved as [Tensor, Tensor];
    return [
      needs[0] ? backward('rms', x, weight, dy, eps) : null,
      needs[1] ? parameters('rms', x, dy, eps, false)[0]! : null,
    ];
  });
}

/** The norm without weight and bias, in primitive operations. */
export function standardiseTwin(kind: Norm, x: Tensor, eps: number): Tensor {
  checkValue('standardiseTwin', 'kind', normField, kind);
  const deviation = kind === 'layer' ? sub(x, mean(x, -1, true)) : x;
  return mul(deviation, rsqrt(affine(mean(square(deviation), -1, true), 1, eps)));
}

/**
 * Mean (0 for RMS) and 1 / sqrt(variance + eps) of the rows of x [..., K], [rows, 2]: what `normLinear` shares. It has
 * no gradient of its own. @throws ShapeError
 */
export function normStatistics(x: Tensor, kind: Norm, eps: number): Tensor {
  checkValue('normStatistics', 'kind', normField, kind);
  checkTensor('normStatistics', 'x', x);
  checkEps('normStatistics', eps);
  if (x.dtype !== 'f32' || x.rank === 0) throw new ShapeError('normStatistics', show(x));
  const length = x.dim(-1);
  const rows = sizeOf(x.shape.slice(0, -1));
  const y = empty(x.device, [rows, 2]);
  if (x.size > 0)
    for (const [begin, end] of commonRows('normStatistics', rows, [
      { storage: x.storage, rowLength: length },
    ]))
      x.device.dispatch(
        normStatisticsKernel(kind, rowShare(length, x.device)),
        [x.storage.window(begin * length, end * length), y.storage.window()],
        [end - begin, length, eps, begin],
        groupGrid(end - begin),
        4 * (end - begin) * length,
      );
  return operation('normStatistics', [x], y, [], null);
}

/** Gradients of weight and, if asked for, bias: sums over the rows in one pass. */
function parameters(kind: Norm, x: Tensor, dy: Tensor, eps: number, bias: boolean): Tensor[] {
  const { device } = x;
  const length = x.dim(-1);
  const rows = x.size / length;
  const sums = [x, ...(bias ? [dy] : [])].map(() =>
    x.size > 0 ? empty(device, [length]) : full(device, [length], 0),
  );
  const statistics = noGrad(() => normStatistics(x, kind, eps));
  const operands = [x, dy].map(({ storage }) => ({ storage, rowLength: length }));
  for (const [begin, end] of commonRows('normParameters', rows, operands)) {
    const part = (t: Tensor): BufferWindow => t.storage.window(begin * length, end * length);
    reduceColumnsTo(device, {
      reduction: 'sum',
      shape: [1, end - begin, length],
      from: [part(x), part(dy), statistics.storage.window()],
      to: sums.map((t) => t.storage.window()),
      accumulate: begin > 0,
      kernel: (share, accumulate) => normParameters(bias, share, accumulate),
      params: [begin],
    });
  }
  statistics.dispose();
  const [weight, shift] = sums as [Tensor, Tensor?];
  const through = throughTwin(2, (x, dy) => sumTo(mul(dy!, standardiseTwin(kind, x!, eps)), [length]));
  return [
    operation('normWeightGradient', [x, dy], weight, [x, dy], through),
    ...(shift ? [operation('normBiasGradient', [dy], shift, [], (d) => [broadcastTo(d, dy.shape)])] : []),
  ];
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
  checkValue('normBackwardTwin', 'kind', normField, kind);
  const deviation = kind === 'layer' ? sub(x, mean(x, -1, true)) : x;
  const rstd = rsqrt(affine(mean(square(deviation), -1, true), 1, eps));
  const standard = mul(deviation, rstd);
  const g = mul(dy, weight);
  const along = mul(standard, mean(mul(g, standard), -1, true));
  const level = kind === 'layer' ? sub(g, mean(g, -1, true)) : g;
  return mul(rstd, sub(level, along));
}
