/**
 * Derivatives of functions of tensors, as JAX names them: products with a function's Jacobian and Hessian, without either. All are made of
 * `grad`, so the function's operations need gradients, and for `jvp` and `hvp` gradients of gradients.
 */

import { grad } from './autograd.ts';
import { GradientError, ShapeError } from './errors.ts';
import { add, mul } from './ops/elementwise.ts';
import { sum } from './ops/reduce.ts';
import { callback, checkValue, text } from './options.ts';
import { scope } from './scope.ts';
import {
  checkSynchronous,
  checkTensorList,
  noGrad,
  operation,
  showShape,
  Tensor,
  withRecording,
  zeros,
} from './tensor.ts';

/** A function of tensors, made of operations. */
export type TensorFunction = (...xs: Tensor[]) => Tensor;

/** Values as leaves of their own, and what the function makes of them. */
function applied(op: string, fn: TensorFunction, xs: readonly Tensor[]): { inputs: Tensor[]; y: Tensor } {
  const inputs = xs.map((x) => x.detach().requireGrad());
  const y = fn(...inputs);
  checkSynchronous(op, y);
  if (!(y instanceof Tensor)) throw new GradientError(`${op}: the function gives no tensor`);
  return { inputs, y };
}

function check(op: string, fn: TensorFunction, xs: readonly Tensor[]): void {
  checkValue(op, 'fn', callback<TensorFunction>(), fn);
  checkTensorList(op, 'xs', xs);
}

function checkAlike(op: string, xs: readonly Tensor[], directions: readonly Tensor[]): void {
  checkTensorList(op, 'directions', directions);
  if (directions.length !== xs.length)
    throw new ShapeError(op, `${directions.length} directions for ${xs.length} tensors`);
  directions.forEach((v, i) => {
    if (v.shape.join() !== xs[i]!.shape.join())
      throw new ShapeError(op, `direction ${showShape(v)} for ${showShape(xs[i]!)}`);
  });
}

/** What {@link vjp} gives. */
export interface Vjp {
  /** The function's value. */
  readonly value: Tensor;
  /** Gradients of the inputs from a cotangent in the shape of the value. @throws ShapeError */
  readonly pull: (cotangent: Tensor) => Tensor[];
}

/**
 * fn(...xs), and the product of a cotangent with its Jacobian: `pull(cotangent)` gives one gradient for each of xs, as often as it is called. Its tape lasts
 * as the scope does that it was made in.
 * @example
 * ```ts
 * import { full, openDevice, square, tensor, vjp } from 'neurgrad/engine';
 *
 * const device = await openDevice();
 * const { value, pull } = vjp(square, [tensor(device, [1, 2, 3])]);
 * const [dx] = pull(full(device, [3], 10));
 * console.log([...(await value.read())], [...(await dx!.read())]); // → [ 1, 4, 9 ] [ 20, 40, 60 ]
 * device.destroy();
 * ```
 */
export function vjp(fn: TensorFunction, xs: readonly Tensor[]): Vjp {
  check('vjp', fn, xs);
  const { inputs, y } = withRecording(true, () => applied('vjp', fn, xs));
  return {
    value: y,
    pull: (cotangent) => {
      checkAlike('vjp', [y], [cotangent]);
      return grad(y, inputs, { cotangent, retainTape: true, unconnected: 'zero' });
    },
  };
}

/**
 * fn(...xs), and the product of its Jacobian with directions, one in the shape of each of xs: how the value changes along them. By two backwards: the
 * pullback is linear in its cotangent, so its own pullback is the Jacobian forwards (Townsend 2017).
 * @throws ShapeError, GradientError
 * @example
 * ```ts
 * import { jvp, openDevice, square, tensor } from 'neurgrad/engine';
 *
 * const device = await openDevice();
 * const { tangent } = jvp(square, [tensor(device, [1, 2, 3])], [tensor(device, [1, 0, 10])]);
 * console.log([...(await tangent.read())]); // → [ 2, 0, 60 ]
 * device.destroy();
 * ```
 */
export function jvp(
  fn: TensorFunction,
  xs: readonly Tensor[],
  directions: readonly Tensor[],
): { readonly value: Tensor; readonly tangent: Tensor } {
  check('jvp', fn, xs);
  checkAlike('jvp', xs, directions);
  return scope(() =>
    withRecording(true, () => {
      const { inputs, y } = applied('jvp', fn, xs);
      const cotangent = zeros(y.device, y.shape).requireGrad();
      const pulled = grad(y, inputs, { cotangent, createGraph: true, unconnected: 'zero' });
      const tangent = along(pulled, directions);
      const [found] = tangent.track
        ? grad(tangent, [cotangent], { unconnected: 'zero' })
        : [zeros(y.device, y.shape)];
      return { value: y.detach(), tangent: found! };
    }),
  );
}

/** The sum of products with directions. */
const along = (gradients: readonly Tensor[], directions: readonly Tensor[]): Tensor =>
  gradients.map((g, i) => sum(mul(g, directions[i]!))).reduce((a, b) => add(a, b));

/**
 * The product of the Hessian of a function of one value with directions, one in the shape of each of xs (Pearlmutter 1994).
 * @throws ShapeError, GradientError
 * @example
 * ```ts
 * import { hvp, openDevice, pow, sum, tensor } from 'neurgrad/engine';
 *
 * const device = await openDevice();
 * const [hv] = hvp((x) => sum(pow(x, 3)), [tensor(device, [1, 2])], [tensor(device, [1, 10])]);
 * console.log([...(await hv!.read())]); // → [ 6, 120 ]
 * device.destroy();
 * ```
 */
export function hvp(fn: TensorFunction, xs: readonly Tensor[], directions: readonly Tensor[]): Tensor[] {
  check('hvp', fn, xs);
  checkAlike('hvp', xs, directions);
  return scope(() =>
    withRecording(true, () => {
      const { inputs, y } = applied('hvp', fn, xs);
      if (y.size !== 1) throw new ShapeError('hvp', `needs a function of one value, got ${showShape(y)}`);
      const slope = along(grad(y, inputs, { createGraph: true, unconnected: 'zero' }), directions);
      // Of a function that is linear nothing is recorded.
      return slope.track
        ? grad(slope, inputs, { unconnected: 'zero' })
        : inputs.map((x) => zeros(x.device, x.shape));
    }),
  );
}

/** The value of a function of one value, and its gradients, one for each of xs. @throws GradientError */
export function valueAndGrad(
  fn: TensorFunction,
  xs: readonly Tensor[],
): { readonly value: Tensor; readonly gradients: Tensor[] } {
  check('valueAndGrad', fn, xs);
  return scope(() =>
    withRecording(true, () => {
      const { inputs, y } = applied('valueAndGrad', fn, xs);
      return { value: y.detach(), gradients: grad(y, inputs, { unconnected: 'zero' }) };
    }),
  );
}

/** A function with a gradient of one's own: see {@link customGradient}. */
export interface CustomGradient {
  /** For errors and reports. */
  readonly name: string;
  /** The value; what it does is not recorded. */
  readonly forward: (...xs: Tensor[]) => Tensor;
  /**
   * One cotangent for each of xs, or null for one that has none, from that of the value; written in operations, so that it has a gradient itself.
   * `needs` says which are wanted.
   */
  readonly backward: (
    cotangent: Tensor,
    xs: readonly Tensor[],
    needs: readonly boolean[],
  ) => readonly (Tensor | null)[];
}

/**
 * A function whose gradient is its author's: straight-through estimators, clipped gradients, kernels of one's own (docs/extending.md).
 * @example
 * ```ts
 * import { customGradient, grad, openDevice, round, sum, tensor } from 'neurgrad/engine';
 *
 * // Rounds, and hands gradients on as if it had not (Bengio et al. 2013).
 * const straightThrough = customGradient({ name: 'straightThrough', forward: (x) => round(x), backward: (dy) => [dy] });
 * const device = await openDevice();
 * const x = tensor(device, [0.4, 1.6]).requireGrad();
 * const y = straightThrough(x);
 * console.log([...(await y.read())], [...(await grad(sum(y), [x])[0]!.read())]); // → [ 0, 2 ] [ 1, 1 ]
 * device.destroy();
 * ```
 */
export function customGradient({ name, forward, backward }: CustomGradient): TensorFunction {
  checkValue('customGradient', 'name', text, name);
  checkValue('customGradient', 'forward', callback<CustomGradient['forward']>(), forward);
  checkValue('customGradient', 'backward', callback<CustomGradient['backward']>(), backward);
  return (...xs) => {
    checkTensorList(name, 'xs', xs);
    // A view, in case the value is one of the tensors given.
    const y = noGrad(() => scope(() => forward(...xs)));
    if (!(y instanceof Tensor)) throw new GradientError(`${name}: forward gives no tensor`);
    return operation(name, xs, y.track || xs.includes(y) ? y.detach() : y, xs, (dy, saved, needs) => {
      const found = backward(dy, saved as readonly Tensor[], needs);
      found.forEach((g, i) => {
        if (g && g.shape.join() !== xs[i]!.shape.join())
          throw new ShapeError(name, `backward gives ${showShape(g)} for input ${i}, ${showShape(xs[i]!)}`);
      });
      return found;
    });
  };
}
