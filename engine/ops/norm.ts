/**
 * Layer norm and RMS norm over the last axis, forward and backward.
 */

import {
  groupGrid,
  type Kernel,
  type Norm,
  type NormVectors,
  normBackward,
  norm as normKernel,
  normParameters,
  normStatistics as normStatisticsKernel,
  type RowShare,
} from '../../kernels/index.ts';
import { ShapeError, UserError } from '../errors.ts';
import type { BufferWindow } from '../memory.ts';
import { between, checkOptions, checkValue, one, optionsSchema, required } from '../options.ts';
import { rowShare } from '../rowShare.ts';
import { commonRows } from '../storage.ts';
import {
  checkTensor,
  checkTensors,
  empty,
  full,
  neededBy,
  noGrad,
  oneDevice,
  operation,
  showShape,
  sizeOf,
  type Tensor,
  tensorField,
} from '../tensor.ts';
import { reduceColumnsTo } from './columns.ts';
import { affine, mul, rsqrt, square, sub } from './elementwise.ts';
import { mean, sumTo } from './reduce.ts';
import { broadcastTo } from './shape.ts';
import { throughTwin } from './twin.ts';

/** A norm's kind, as a field of options. */
export const normField = one<Norm>(['layer', 'rms', 'rms1']);

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

/** A norm over the last axis, weight and bias [K]. */
export interface RowNorm {
  /**
   * `layer` (Ba et al. 2016): (x - mean) / sqrt(variance + eps) * weight + bias, population variance. `rms` (Zhang & Sennrich
   * 2019): x / sqrt(mean(x^2) + eps) * weight. `rms1`: the same times 1 + weight (Gemma).
   */
  readonly kind: Norm;
  readonly weight: Tensor;
  /** Of a layer norm that has one. */
  readonly bias?: Tensor | undefined;
  readonly eps: number;
}

/** Fields of the options {@link RowNorm}. */
export const normFields = {
  kind: required(normField),
  weight: required(tensorField),
  bias: tensorField,
  eps: required(epsField),
};
const normOptions = optionsSchema<RowNorm>(normFields);

/** @throws UserError where an RMS norm has a bias. */
export function checkBias(op: string, { kind, bias }: RowNorm): void {
  if (kind !== 'layer' && bias)
    throw new UserError('option', `${op}: norm.bias is there, but '${kind}' has none`);
}

/** Weight, and bias where there is one, as kernels take them. */
export const vectorsOf = ({ weight, bias }: RowNorm): Tensor[] => (bias ? [weight, bias] : [weight]);
/** What the kernels call a norm. */
export const kernelNorm = ({ kind, bias }: Pick<RowNorm, 'kind' | 'bias'>): NormVectors =>
  kind === 'layer' && !bias ? 'layer_no_bias' : kind;

function normalised(op: string, x: Tensor, norm: RowNorm): Tensor {
  const { kind, weight, bias, eps } = norm;
  const vectors = vectorsOf(norm);
  checkTensors(op, { x, weight, ...(bias ? { bias } : {}) });
  checkEps(op, eps);
  oneDevice(op, x, ...vectors);
  for (const t of [x, ...vectors])
    if (t.dtype !== 'f32') throw new ShapeError(op, `needs f32, got ${t.dtype}`);
  if (x.rank === 0 || vectors.some((v) => v.rank !== 1 || v.dim(0) !== x.dim(-1)))
    throw new ShapeError(op, `x ${showShape(x)} with ${vectors.map(showShape).join(', ')}`);
  const y = empty(x.device, x.shape);
  dispatch(op, (share) => normKernel(kernelNorm(norm), share), [], vectors, x, y, eps);
  const { shape } = weight;
  const kept = [neededBy(x, x, weight), neededBy(weight, x)];
  return operation('rowNorm', [x, ...vectors], y, kept, (dy, saved, needs) => {
    const [x, weight] = saved as [Tensor, Tensor];
    const [ofX, ofWeight, ofBias = false] = needs;
    const [dWeight, dBias] = ofWeight ? parameters(kind, x, dy, eps, ofBias) : [];
    return [
      ofX ? backward(kind, x, weight, dy, eps) : null,
      dWeight ?? null,
      ...(bias ? [ofBias ? (dBias ?? sumTo(dy, shape)) : null] : []),
    ];
  });
}

/**
 * A norm over the last axis: of the rows of x [..., K], or of parts of them, x [..., heads, D] with weight [D].
 * @throws UserError for a norm that there is not; ShapeError
 * @example
 * ```ts
 * import { openDevice, rowNorm, tensor, zeros } from 'neurgrad/engine';
 *
 * const device = await openDevice();
 * const y = rowNorm(tensor(device, [3, -3], [1, 2]), { kind: 'rms1', weight: zeros(device, [2]), eps: 0 });
 * console.log([...(await y.read())]); // → [ 1, -1 ]
 * device.destroy();
 * ```
 */
export function rowNorm(x: Tensor, norm: RowNorm): Tensor {
  checkOptions('rowNorm: norm', normOptions, norm);
  checkBias('rowNorm', norm);
  return normalised('rowNorm', x, norm);
}

/**
 * (x - mean) / sqrt(variance + eps) * weight + bias over the last axis (population variance).
 * @throws ShapeError
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
  checkTensors('layerNorm', { bias });
  return normalised('layerNorm', x, { kind: 'layer', weight, bias, eps });
}

/** x / sqrt(mean(x^2) + eps) * weight over the last axis. @throws ShapeError */
export function rmsNorm(x: Tensor, weight: Tensor, eps: number): Tensor {
  return normalised('rmsNorm', x, { kind: 'rms', weight, eps });
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
  if (x.dtype !== 'f32' || x.rank === 0) throw new ShapeError('normStatistics', showShape(x));
  const length = x.dim(-1);
  const rows = sizeOf(x.shape.slice(0, -1));
  const y = empty(x.device, [rows, 2]);
  if (x.size > 0)
    for (const [begin, end] of commonRows('normStatistics', rows, [
      { storage: x.storage, rowLength: length },
    ]))
      x.device.dispatch(
        normStatisticsKernel(kind === 'layer' ? 'layer' : 'rms', rowShare(length, x.device)),
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

/**
 * The backward kernel in primitive operations: rstd (g - mean(g) - xhat mean(g xhat)), g = dy weight (`rms1`: 1 + weight); RMS
 * without mean(g).
 */
export function normBackwardTwin(kind: Norm, x: Tensor, weight: Tensor, dy: Tensor, eps: number): Tensor {
  checkValue('normBackwardTwin', 'kind', normField, kind);
  const deviation = kind === 'layer' ? sub(x, mean(x, -1, true)) : x;
  const rstd = rsqrt(affine(mean(square(deviation), -1, true), 1, eps));
  const standard = mul(deviation, rstd);
  const g = mul(dy, kind === 'rms1' ? affine(weight, 1, 1) : weight);
  const along = mul(standard, mean(mul(g, standard), -1, true));
  const level = kind === 'layer' ? sub(g, mean(g, -1, true)) : g;
  return mul(rstd, sub(level, along));
}
