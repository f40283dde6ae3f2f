/**
 * Smallest elements, products, variances: reductions made of others.
 */

import { ShapeError } from '../errors.ts';
import { between, checkOptions, flag, optionsSchema } from '../options.ts';
import { composed } from '../scope.ts';
import { checkTensor, sizeOf, type Tensor } from '../tensor.ts';
import { affine, mul, neg, sqrt, square, sub } from './elementwise.ts';
import { argmax, max, mean, normalAxes, sum } from './reduce.ts';
import { permute, reshape, slice } from './shape.ts';

/**
 * Smallest element over axes (all by default), NaN where one is; where several are equal the gradient is shared.
 * @throws ShapeError over no elements.
 */
export function min(x: Tensor, axes?: number | readonly number[], keepAxes = false): Tensor {
  checkTensor('min', 'x', x, ['f32']);
  const list = normalAxes('min', x, axes);
  if (list.some((axis) => x.shape[axis] === 0))
    throw new ShapeError('min', `no elements to compare in [${x.shape.join(', ')}]`);
  return composed(() => neg(max(neg(x), axes, keepAxes)));
}

/** Index of the first smallest element along an axis, as u32, of the first NaN where there is one; has no gradient. @throws ShapeError */
export function argmin(x: Tensor, axis = -1): Tensor {
  checkTensor('argmin', 'x', x, ['f32']);
  return composed(() => argmax(neg(x), axis));
}

/**
 * Product over axes (all by default), 1 over no elements. Made of pairs, halves by halves, so that its gradients are right beside zeros, too.
 * @throws ShapeError
 */
export function prod(x: Tensor, axes?: number | readonly number[], keepAxes = false): Tensor {
  checkTensor('prod', 'x', x, ['f32']);
  const list = normalAxes('prod', x, axes);
  const rest = x.shape.map((_, i) => i).filter((i) => !list.includes(i));
  const kept = x.shape.map((size, i) => (list.includes(i) ? 1 : size));
  const shape = keepAxes ? kept : rest.map((i) => x.shape[i]!);
  return composed(() => {
    const count = list.reduce((n, i) => n * x.shape[i]!, 1);
    const outer = sizeOf(shape);
    if (count === 0 || outer === 0) return reshape(affine(sum(x, list), 0, 1), shape);
    let rows = reshape(permute(x, [...list, ...rest]), [count, outer]);
    let odd: Tensor | null = null;
    for (let n = count; n > 1; n >>= 1) {
      const half = n >> 1;
      if (n % 2 === 1) {
        const last = slice(rows, [n - 1], [n]);
        odd = odd ? mul(odd, last) : last;
      }
      rows = mul(slice(rows, [0], [half]), slice(rows, [half], [2 * half]));
    }
    return reshape(odd ? mul(rows, odd) : rows, shape);
  });
}

/** How a variance is taken. */
export interface VarianceOptions {
  /** Leave reduced axes with size 1; default false. */
  readonly keepAxes?: boolean;
  /** What the number of elements is lessened by, in the divisor: 1 (default), of a sample, or 0, of a population. */
  readonly correction?: number;
}
const varianceOptions = optionsSchema<VarianceOptions>(
  { keepAxes: flag, correction: between(0, Number.MAX_VALUE, 'a finite number, 0 or more') },
  { keepdim: 'keepAxes', keepDims: 'keepAxes', ddof: 'correction', unbiased: 'correction' },
);

/**
 * Variance over axes (all by default): squares of what is left of the mean, over their number less the correction; NaN where that is 0.
 * What PyTorch calls `var`, which is a word of the language here. @throws UserError, ShapeError
 */
export function variance(
  x: Tensor,
  axes?: number | readonly number[],
  options: VarianceOptions = {},
): Tensor {
  return spread('variance', x, axes, options);
}

/** Standard deviation: the square root of {@link variance}, whose gradient at 0 is not finite. @throws UserError, ShapeError */
export function std(x: Tensor, axes?: number | readonly number[], options: VarianceOptions = {}): Tensor {
  return composed(() => sqrt(spread('std', x, axes, options)));
}

function spread(
  op: string,
  x: Tensor,
  axes: number | readonly number[] | undefined,
  options: VarianceOptions,
): Tensor {
  checkOptions(op, varianceOptions, options);
  checkTensor(op, 'x', x, ['f32']);
  const { keepAxes = false, correction = 1 } = options;
  const count = normalAxes(op, x, axes).reduce((n, i) => n * x.shape[i]!, 1);
  return composed(() => {
    const left = sub(x, mean(x, axes, true));
    return affine(sum(square(left), axes, keepAxes), 1 / Math.max(0, count - correction), 0);
  });
}
