/**
 * Masks: comparisons and what is made of them. A mask is f32, 1 where it holds and 0 elsewhere, so that it can be multiplied with,
 * summed and chosen by; whatever is not 0 counts as true, a NaN too. Tensors of integers (u32) compare with their like. Gradients of all are 0.
 */

import { composed } from '../scope.ts';
import { checkTensor, operation, type Tensor, zeros } from '../tensor.ts';
import { compare, equal, maximum, mul, runUnary } from './elementwise.ts';

/** 1 where a >= b, else 0, also beside a NaN. */
export const greaterEqual = (a: Tensor | number, b: Tensor | number): Tensor =>
  compare('greater_equal', a, b, 'greaterEqual');
/** 1 where a < b, else 0, also beside a NaN. */
export const less = (a: Tensor | number, b: Tensor | number): Tensor => compare('greater', b, a, 'less');
/** 1 where a <= b, else 0, also beside a NaN. */
export const lessEqual = (a: Tensor | number, b: Tensor | number): Tensor =>
  compare('greater_equal', b, a, 'lessEqual');
/** 1 where a != b, also beside a NaN, else 0. */
export const notEqual = (a: Tensor | number, b: Tensor | number): Tensor =>
  composed(() => logicalNot(compare('equal', a, b, 'notEqual')));

/** 1 where x is not 0. */
const truth = (op: string, name: string, x: Tensor): Tensor => {
  checkTensor(op, name, x, ['f32', 'u32']);
  return notEqual(x, 0);
};
/** 1 where x is 0, else 0. */
export const logicalNot = (x: Tensor): Tensor => {
  checkTensor('logicalNot', 'x', x, ['f32', 'u32']);
  return equal(x, 0);
};
const ofTruths =
  (op: string, fn: (a: Tensor, b: Tensor) => Tensor): ((a: Tensor, b: Tensor) => Tensor) =>
  (a, b) =>
    composed(() => fn(truth(op, 'a', a), truth(op, 'b', b)));
/** 1 where neither is 0, broadcast. @throws ShapeError */
export const logicalAnd: (a: Tensor, b: Tensor) => Tensor = ofTruths('logicalAnd', mul);
/** 1 where one is not 0, or both, broadcast. @throws ShapeError */
export const logicalOr: (a: Tensor, b: Tensor) => Tensor = ofTruths('logicalOr', maximum);
/** 1 where one is not 0, but not both, broadcast. @throws ShapeError */
export const logicalXor: (a: Tensor, b: Tensor) => Tensor = ofTruths('logicalXor', notEqual);

function question(op: string, name: 'is_nan' | 'is_finite', x: Tensor): Tensor {
  checkTensor(op, 'x', x, ['f32']);
  return operation(op, [x], runUnary(name, x), [], (dy) => [zeros(dy.device, dy.shape)]);
}
/** 1 where x is NaN, else 0. */
const notNumber = (x: Tensor): Tensor => question('isNaN', 'is_nan', x);
/** 1 where x is neither infinite nor NaN, else 0. */
const finite = (x: Tensor): Tensor => question('isFinite', 'is_finite', x);
/** 1 where x is an infinity, else 0. */
export function isInf(x: Tensor): Tensor {
  checkTensor('isInf', 'x', x, ['f32']);
  return composed(() => logicalNot(maximum(notNumber(x), finite(x))));
}

// The language's own of these names are about numbers.
export { finite as isFinite, notNumber as isNaN };
