/**
 * Functions of one element, and the power: rectifiers, logarithms near 1, rounding. Their derivatives at kinks are PyTorch's.
 */

import { checkNumber, checkTensor, operation, Tensor, zeros } from '../tensor.ts';
import {
  affine,
  equal,
  exp,
  log,
  mul,
  reciprocal,
  runBinary,
  runUnary,
  sigmoid,
  unaryOp,
  where,
  withNumber,
} from './elementwise.ts';
import { greaterEqual, logicalAnd } from './logic.ts';
import { sumTo } from './reduce.ts';

/** The gradient of what jumps or stays. */
const flat = (x: Tensor): Tensor => zeros(x.device, x.shape);

/** 0 or `below` up to 0, `above` beyond it: the derivative of a rectifier. */
function step(x: Tensor, below: number, above: number): Tensor {
  return operation('step', [x], runUnary('step', x, below, above), [], (dy) => [flat(dy)]);
}

/** max(x, 0), NaN of NaN; its gradient at 0 is 0. */
export function relu(x: Tensor): Tensor {
  checkTensor('relu', 'x', x, ['f32']);
  const y = runUnary('clamp', x, 0, Number.POSITIVE_INFINITY);
  return operation('relu', [x], y, [x], (dy, [x]) => [mul(dy, step(x!, 0, 1))]);
}

/** x above 0, slope x below (Maas et al. 2013); its gradient at 0 is the slope. */
export function leakyRelu(x: Tensor, slope = 0.01): Tensor {
  checkTensor('leakyRelu', 'x', x, ['f32']);
  checkNumber('leakyRelu', 'slope', slope);
  if (slope === 0) return relu(x);
  return operation('leakyRelu', [x], runUnary('leaky', x, slope), [x], (dy, [x]) => [
    mul(dy, step(x!, slope, 1)),
  ]);
}

/** log(1 + e^x), without overflow and with all its digits in the lower tail. */
export const softplus: (x: Tensor) => Tensor = unaryOp('softplus', (x) => sigmoid(x));

/** log(1 + x), with all the digits of a small x; -Infinity at -1, NaN below. */
export const log1p: (x: Tensor) => Tensor = unaryOp('log1p', (x) => reciprocal(affine(x, 1, 1)));

/** e^x - 1, with all the digits of a small x. */
export const expm1: (x: Tensor) => Tensor = unaryOp('expm1', (x) => exp(x));

/** The largest whole number up to x; its gradient is 0. */
export const floor: (x: Tensor) => Tensor = unaryOp('floor', flat);
/** The smallest whole number from x on; its gradient is 0. */
export const ceil: (x: Tensor) => Tensor = unaryOp('ceil', flat);
/** The nearest whole number, of halves the even one; its gradient is 0. */
export const round: (x: Tensor) => Tensor = unaryOp('round', flat);

/**
 * x between two numbers, `low` to `high`, either of which may be infinite; NaN of NaN, all `high` where that is the lower. Its gradient is 1 from `low`
 * to `high`, both included, else 0. For bounds that are tensors: {@link maximum} and {@link minimum}.
 */
export function clamp(x: Tensor, low: number, high: number): Tensor {
  checkTensor('clamp', 'x', x);
  checkNumber('clamp', 'low', low);
  checkNumber('clamp', 'high', high);
  return operation('clamp', [x], runUnary('clamp', x, low, high), [x], (dy, [x]) => [
    mul(dy, within(x!, low, high)),
  ]);
}
function within(x: Tensor, low: number, high: number): Tensor {
  return operation('within', [x], runUnary('within', x, low, high), [], (dy) => [flat(dy)]);
}

/**
 * x^exponent, either of which may be a number: 1 for an exponent of 0, NaN of a number below 0 where the exponent is not whole. Whole exponents
 * below 32 are products; others are right within 2 + 3 |exponent log x| float32 steps.
 * @throws ShapeError
 */
export function pow(x: Tensor | number, exponent: Tensor | number): Tensor {
  if (x instanceof Tensor && typeof exponent === 'number') {
    checkTensor('pow', 'x', x, ['f32']);
    return operation('pow', [x], runUnary('power', x, exponent), [x], (dy, [x]) => [
      exponent === 0 ? flat(dy) : mul(dy, affine(pow(x!, exponent - 1), exponent, 0)),
    ]);
  }
  if (!(x instanceof Tensor && exponent instanceof Tensor)) return withNumber('pow', x, exponent, pow);
  const [p, q] = [x.shape, exponent.shape];
  const y = runBinary('power', x, exponent, 'pow');
  return operation('pow', [x, exponent], y, [x, exponent], (dy, [x, v], needs) => {
    // 0^0 does not change with the base, where 0 times an infinity would have it otherwise.
    const ofBase = () =>
      where(logicalAnd(equal(x!, 0), equal(v!, 0)), 0, mul(v!, pow(x!, affine(v!, 1, -1))));
    // 0^v does not change with v above 0, where log 0 would have it otherwise.
    const ofExponent = () =>
      where(logicalAnd(equal(x!, 0), greaterEqual(v!, 0)), 0, mul(pow(x!, v!), log(x!)));
    return [needs[0] ? sumTo(mul(dy, ofBase()), p) : null, needs[1] ? sumTo(mul(dy, ofExponent()), q) : null];
  });
}
