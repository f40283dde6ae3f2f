/**
 * Gradient clipping by global norm (Pascanu et al. 2013), on the device: no readback between backward and update.
 */

import { clipFactor as factorKernel } from '../kernels/index.ts';
import { affine, minimum, mul, reciprocal, sqrt, square } from './ops/elementwise.ts';
import { toF32 } from './ops/matmul.ts';
import { sum } from './ops/reduce.ts';
import { concat, reshape } from './ops/shape.ts';
import { checkValue, like, positive } from './options.ts';
import { scope } from './scope.ts';
import { checkTensorList, empty, full, noGrad, operation, type Tensor } from './tensor.ts';

/** A limit of Infinity clips nothing. */
const limitField = like<number>((n) => typeof n === 'number' && n > 0, 'a number above 0');

/** The sum of the squares of all elements of all tensors, [1]. */
function sumOfSquares(tensors: readonly Tensor[]): Tensor {
  return scope(() => {
    const squares = tensors.map((t) => scope(() => reshape(sum(square(toF32(t))), [1])));
    return reshape(sum(concat(squares, 0)), [1]);
  });
}

/** Euclidean norm of all elements of all tensors (f32, f16, bf16) together, a scalar. */
export function globalNorm(tensors: readonly Tensor[]): Tensor {
  checkTensorList('globalNorm', 'tensors', tensors);
  return scope(() => reshape(sqrt(sumOfSquares(tensors)), []));
}

/** Clipped gradients. */
export interface Clipped {
  readonly gradients: Tensor[];
  /** The norm before clipping, a scalar. */
  readonly norm: Tensor;
}

/**
 * Gradients scaled by min(1, limit / (norm + 1e-6)), as PyTorch's `clip_grad_norm_` does. New tensors.
 * @example
 * ```ts
 * import { clipByGlobalNorm, openDevice, tensor } from 'neurgrad/engine';
 *
 * const device = await openDevice();
 * const { gradients, norm } = clipByGlobalNorm([tensor(device, [3]), tensor(device, [4])], 0.5);
 * console.log(await norm.item(), (await gradients[0]!.item()).toFixed(3)); // → 5 0.300
 * device.destroy();
 * ```
 */
export function clipByGlobalNorm(gradients: readonly Tensor[], limit: number): Clipped {
  checkTensorList('clipByGlobalNorm', 'gradients', gradients);
  checkValue('clipByGlobalNorm', 'limit', limitField, limit);
  return scope(() => {
    const norm = globalNorm(gradients);
    const factor = minimum(full(norm.device, [], 1), reciprocal(affine(norm, 1, 1e-6), limit));
    return { gradients: gradients.map((g) => mul(g, factor)), norm };
  });
}

/**
 * What {@link AdamW.step} is to multiply gradients by, instead of gradients that are clipped already: [2], the factor
 * min(1, limit / (norm + 1e-6)) / scale, and the norm. Where a gradient is not finite, the factor is 0 (and so is the norm). It
 * has no gradient itself.
 * @param scale what the loss was multiplied by; the norm is without it.
 * @example
 * ```ts
 * import { AdamW, clipFactor, openDevice, tensor } from 'neurgrad/engine';
 *
 * const device = await openDevice();
 * const w = tensor(device, [1], [1], 'weights');
 * const optimiser = new AdamW([w]);
 * const gradients = [tensor(device, [Number.NaN])];
 * const factor = clipFactor(gradients, 1);
 * optimiser.step(gradients, factor); // recorded before anybody knows
 * const [times] = await factor.read();
 * if (times === 0) optimiser.takeBack();
 * console.log(await w.item(), optimiser.steps); // → 1 0
 * device.destroy();
 * ```
 */
export function clipFactor(gradients: readonly Tensor[], limit: number, scale = 1): Tensor {
  checkTensorList('clipFactor', 'gradients', gradients);
  checkValue('clipFactor', 'limit', limitField, limit);
  checkValue('clipFactor', 'scale', positive, scale);
  const y = noGrad(() =>
    scope(() => {
      const squares = sumOfSquares(gradients);
      const y = empty(squares.device, [2]);
      y.device.dispatch(
        factorKernel(),
        [squares.storage.window(), y.storage.window()],
        [limit, scale],
        [1, 1, 1],
      );
      return y;
    }),
  );
  return operation('clipFactor', gradients, y, [], null);
}
