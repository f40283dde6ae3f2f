/**
 * Convolutions and pooling over the last one or two axes. Windows are steps through the input, one for each element of the kernel, laid side by side; the
 * rest is a matrix product or a reduction, and so are the gradients. It costs as many copies of the input as the kernel has elements.
 */

import { ShapeError } from '../errors.ts';
import { checkOptions, checkValue, optionsSchema, whole } from '../options.ts';
import { composed } from '../scope.ts';
import { checkTensor, oneDevice, showShape, sizeOf, type Tensor } from '../tensor.ts';
import { stack } from './arrange.ts';
import { add } from './elementwise.ts';
import { matmul } from './matmul.ts';
import { max, mean } from './reduce.ts';
import { pad, reshape, slice } from './shape.ts';

/** How a kernel goes over its input, alike along each axis. */
export interface ConvOptions {
  /** Elements from window to window; default 1. */
  readonly stride?: number;
  /** Zeros around the input; default 0. */
  readonly padding?: number;
  /** Elements from one that a window takes to the next; default 1. */
  readonly dilation?: number;
}
const convOptions = optionsSchema<ConvOptions>(
  { stride: whole(1), padding: whole(), dilation: whole(1) },
  { strides: 'stride', pad: 'padding', dilations: 'dilation', dilationRate: 'dilation' },
);

/** Places of a window's first element along each axis. @throws ShapeError where no window fits */
function outputs(
  op: string,
  x: Tensor,
  kernel: readonly number[],
  stride: number,
  dilation: number,
): number[] {
  const inner = x.shape.slice(-kernel.length);
  const counts = inner.map((size, i) => Math.floor((size - dilation * (kernel[i]! - 1) - 1) / stride) + 1);
  if (counts.some((n) => n < 1) || kernel.some((n) => n < 1))
    throw new ShapeError(op, `windows of [${kernel.join(', ')}] over ${showShape(x)}`);
  return counts;
}

/** [N, C, ...] to [N, C, elements of a window, ...windows]. */
function windows(
  x: Tensor,
  kernel: readonly number[],
  counts: readonly number[],
  stride: number,
  dilation: number,
): Tensor {
  const step = [1, 1, ...kernel.map(() => stride)];
  const parts = Array.from({ length: sizeOf(kernel) }, (_, element) => {
    const places: number[] = [];
    for (let axis = kernel.length - 1, rest = element; axis >= 0; axis--) {
      places.unshift((rest % kernel[axis]!) * dilation);
      rest = Math.floor(rest / kernel[axis]!);
    }
    const end = places.map((from, i) => from + (counts[i]! - 1) * stride + 1);
    return slice(x, [0, 0, ...places], [x.dim(0), x.dim(1), ...end], step);
  });
  return stack(parts, 2);
}

function conv(
  op: string,
  axes: number,
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null,
  options: ConvOptions,
): Tensor {
  checkOptions(op, convOptions, options);
  checkTensor(op, 'x', x, ['f32']);
  checkTensor(op, 'weight', weight, ['f32']);
  if (bias) checkTensor(op, 'bias', bias, ['f32']);
  oneDevice(op, x, weight, bias);
  const [outer, channels, ...kernel] = weight.shape;
  if (
    x.rank !== axes + 2 ||
    weight.rank !== axes + 2 ||
    x.shape[1] !== channels ||
    (bias && bias.shape.join() !== `${outer}`)
  )
    throw new ShapeError(
      op,
      `x ${showShape(x)}, weight ${showShape(weight)}${bias ? `, bias ${showShape(bias)}` : ''}`,
    );
  const { stride = 1, padding = 0, dilation = 1 } = options;
  return composed(() => {
    const border = [0, 0, ...kernel.map(() => padding)];
    const padded =
      padding > 0
        ? pad(
            x,
            border,
            x.shape.map((size, i) => size + 2 * border[i]!),
          )
        : x;
    const counts = outputs(op, padded, kernel, stride, dilation);
    const columns = windows(padded, kernel, counts, stride, dilation);
    const each = channels! * sizeOf(kernel);
    const y = matmul(reshape(weight, [outer!, each]), reshape(columns, [x.dim(0), each, sizeOf(counts)]));
    const shaped = reshape(y, [x.dim(0), outer!, ...counts]);
    return bias ? add(shaped, reshape(bias, [outer!, ...counts.map(() => 1)])) : shaped;
  });
}

/**
 * Cross-correlation of x [N, C, L] with weight [O, C, K], plus bias [O]: [N, O, L'], as PyTorch's conv1d without groups. @throws UserError, ShapeError
 */
export const conv1d = (
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null = null,
  options: ConvOptions = {},
): Tensor => conv('conv1d', 1, x, weight, bias, options);

/**
 * Cross-correlation of x [N, C, H, W] with weight [O, C, K, K'], plus bias [O]: [N, O, H', W'], as PyTorch's conv2d without groups.
 * @throws UserError, ShapeError
 * @example
 * ```ts
 * import { conv2d, openDevice, tensor } from 'neurgrad/engine';
 *
 * const device = await openDevice();
 * const x = tensor(device, [1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 1, 3, 3]);
 * const edges = tensor(device, [1, -1], [1, 1, 1, 2]);
 * console.log([...(await conv2d(x, edges).read())]); // → [ -1, -1, -1, -1, -1, -1 ]
 * device.destroy();
 * ```
 */
export const conv2d = (
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null = null,
  options: ConvOptions = {},
): Tensor => conv('conv2d', 2, x, weight, bias, options);

/** How windows of a pool lie. */
export interface PoolOptions {
  /** Elements from window to window; default the window's size. */
  readonly stride?: number;
}
const poolOptions = optionsSchema<PoolOptions>({ stride: whole(1) }, { strides: 'stride' });
const window = whole(1);

function pool(
  op: string,
  x: Tensor,
  size: number,
  options: PoolOptions,
  reduce: (x: Tensor, axis: number) => Tensor,
): Tensor {
  checkOptions(op, poolOptions, options);
  checkTensor(op, 'x', x, ['f32']);
  checkValue(op, 'size', window, size);
  if (x.rank !== 4) throw new ShapeError(op, `x ${showShape(x)}, expected [N, C, H, W]`);
  const { stride = size } = options;
  return composed(() => {
    const kernel = [size, size];
    return reduce(windows(x, kernel, outputs(op, x, kernel, stride, 1), stride, 1), 2);
  });
}

/** The largest of each window of size x size: x [N, C, H, W] to [N, C, H', W']. Equal ones share the gradient. @throws UserError, ShapeError */
export const maxPool2d = (x: Tensor, size: number, options: PoolOptions = {}): Tensor =>
  pool('maxPool2d', x, size, options, (w, axis) => max(w, axis));
/** The mean of each window of size x size: x [N, C, H, W] to [N, C, H', W']. @throws UserError, ShapeError */
export const avgPool2d = (x: Tensor, size: number, options: PoolOptions = {}): Tensor =>
  pool('avgPool2d', x, size, options, (w, axis) => mean(w, axis));
