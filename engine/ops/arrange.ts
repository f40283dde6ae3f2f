/**
 * Tensors taken apart, put together, turned round and counted out: names that other libraries have for slices, copies and comparisons.
 */

import type { Device } from '../device.ts';
import { ShapeError } from '../errors.ts';
import { checkValue, list, whole } from '../options.ts';
import { composed } from '../scope.ts';
import { checkDevice } from '../storage.ts';
import {
  checkNumber,
  checkTensor,
  checkTensorList,
  integers,
  showShape,
  type Tensor,
  tensor,
} from '../tensor.ts';
import { add, equal, where } from './elementwise.ts';
import { greaterEqual, lessEqual } from './logic.ts';
import { normalAxes, normalAxis } from './reduce.ts';
import { concat, reshape, slice } from './shape.ts';

const count = whole();
const sizes = list(count, 'a list of whole numbers');

/**
 * Parts along an axis: of `size` elements each (the last may have fewer), or of the sizes that a list has, which fill it. @throws ShapeError
 */
export function split(x: Tensor, size: number | readonly number[], axis = 0): Tensor[] {
  const at = normalAxis('split', x, axis);
  const whole = x.shape[at]!;
  if (typeof size === 'number') checkValue('split', 'size', count, size);
  else checkValue('split', 'size', sizes, size);
  if (size === 0) throw new ShapeError('split', `parts of no elements of ${showShape(x)}`);
  const parts =
    typeof size !== 'number'
      ? size
      : Array.from({ length: Math.ceil(whole / size) }, (_, i) => Math.min(size, whole - i * size));
  if (parts.reduce((a, b) => a + b, 0) !== whole)
    throw new ShapeError(
      'split',
      `parts [${parts.join(', ')}] of ${whole} elements along axis ${axis} of ${showShape(x)}`,
    );
  let begin = 0;
  return parts.map((part) => {
    const from = x.shape.map((_, i) => (i === at ? begin : 0));
    begin += part;
    return slice(
      x,
      from,
      x.shape.map((n, i) => (i === at ? begin : n)),
    );
  });
}

/** Tensors of one shape along a new axis. @throws ShapeError */
export function stack(xs: readonly Tensor[], axis = 0): Tensor {
  checkTensorList('stack', 'xs', xs);
  checkNumber('stack', 'axis', axis);
  const first = xs[0];
  if (!first) throw new ShapeError('stack', 'nothing to stack');
  for (const x of xs)
    if (x.shape.join() !== first.shape.join())
      throw new ShapeError('stack', `${showShape(first)} and ${showShape(x)}`);
  return composed(() =>
    concat(
      xs.map((x) => unsqueeze(x, axis)),
      axis < 0 ? axis + first.rank + 1 : axis,
    ),
  );
}

/** The parts of x along an axis, without it: the reverse of {@link stack}. @throws ShapeError */
export function unstack(x: Tensor, axis = 0): Tensor[] {
  const at = normalAxis('unstack', x, axis);
  return composed(() => split(x, 1, at).map((part) => squeeze(part, at)));
}

/** x without axes of size 1: all, or those named. @throws ShapeError for another size */
export function squeeze(x: Tensor, axes?: number | readonly number[]): Tensor {
  checkTensor('squeeze', 'x', x);
  const gone =
    axes === undefined
      ? x.shape.flatMap((size, i) => (size === 1 ? [i] : []))
      : normalAxes('squeeze', x, axes);
  const wide = gone.find((i) => x.shape[i] !== 1);
  if (wide !== undefined)
    throw new ShapeError('squeeze', `axis ${wide} of ${showShape(x)} has ${x.shape[wide]} elements`);
  return reshape(
    x,
    x.shape.filter((_, i) => !gone.includes(i)),
  );
}

/** x with a new axis of size 1, which is then the one named. @throws ShapeError */
export function unsqueeze(x: Tensor, axis: number): Tensor {
  checkTensor('unsqueeze', 'x', x);
  checkNumber('unsqueeze', 'axis', axis);
  const at = axis < 0 ? axis + x.rank + 1 : axis;
  if (!Number.isInteger(at) || at < 0 || at > x.rank)
    throw new ShapeError('unsqueeze', `no place ${axis} for an axis in ${showShape(x)}`);
  return reshape(x, x.shape.toSpliced(at, 0, 1));
}

/** x backwards along axes, all by default. @throws ShapeError */
export function flip(x: Tensor, axes?: number | readonly number[]): Tensor {
  const turned = normalAxes('flip', x, axes);
  return slice(
    x,
    [],
    [],
    x.shape.map((_, i) => (turned.includes(i) ? -1 : 1)),
  );
}

/** Where column - row compares with k, over the last two axes. */
function triangle(
  op: string,
  x: Tensor,
  k: number,
  keeps: (columns: Tensor, rows: Tensor) => Tensor,
): Tensor {
  checkTensor(op, 'x', x, ['f32']);
  checkNumber(op, 'k', k);
  if (x.rank < 2) throw new ShapeError(op, `${showShape(x)} has no two axes`);
  const [rows, columns] = [x.dim(-2), x.dim(-1)];
  return composed(() =>
    where(keeps(arange(x.device, columns), add(reshape(arange(x.device, rows), [rows, 1]), k)), x, 0),
  );
}
/** The lower triangle of matrices [..., rows, columns], and k diagonals above it; 0 elsewhere. @throws ShapeError */
export const tril = (x: Tensor, k = 0): Tensor => triangle('tril', x, k, lessEqual);
/** The upper triangle of matrices [..., rows, columns], from diagonal k on; 0 elsewhere. @throws ShapeError */
export const triu = (x: Tensor, k = 0): Tensor => triangle('triu', x, k, greaterEqual);

/** Numbers from `start` by `step` to below `end`, or from 0 where one is given: f32. @throws UserError, ShapeError */
export function arange(device: Device, start: number, end?: number, step = 1): Tensor {
  checkDevice('arange', device);
  const [from, to] = end === undefined ? [0, start] : [start, end];
  for (const [name, value] of [
    ['start', from],
    ['end', to],
    ['step', step],
  ] as const)
    checkNumber('arange', name, value);
  const length = Math.max(0, Math.ceil((to - from) / step));
  if (!Number.isSafeInteger(length)) throw new ShapeError('arange', `${from} to ${to} by ${step} has no end`);
  return tensor(
    device,
    Float32Array.from({ length }, (_, i) => from + i * step),
  );
}

/** `count` numbers from `start` to `end`, both included, at equal distances: f32. @throws UserError */
export function linspace(device: Device, start: number, end: number, count: number): Tensor {
  checkDevice('linspace', device);
  checkNumber('linspace', 'start', start);
  checkNumber('linspace', 'end', end);
  checkValue('linspace', 'count', whole(), count);
  // From either end, so that both are met.
  const at = (i: number): number =>
    2 * i < count
      ? start + (i * (end - start)) / (count - 1 || 1)
      : end - ((count - 1 - i) * (end - start)) / (count - 1 || 1);
  return tensor(
    device,
    Float32Array.from({ length: count }, (_, i) => at(i)),
  );
}

/** The identity [rows, columns], as many columns as rows by default. @throws UserError */
export function eye(device: Device, rows: number, columns = rows): Tensor {
  checkDevice('eye', device);
  checkValue('eye', 'rows', count, rows);
  checkValue('eye', 'columns', count, columns);
  return composed(() => equal(reshape(arange(device, rows), [rows, 1]), arange(device, columns)));
}

/**
 * 1 at the place that each index names, else 0: index [...] of `classes` to f32 [..., classes]; nothing but 0 for an index outside. Indices of the host
 * need the device. @throws UserError, ShapeError
 */
export function oneHot(index: Tensor, classes: number): Tensor {
  checkTensor('oneHot', 'index', index, ['u32']);
  checkValue('oneHot', 'classes', count, classes);
  return composed(() =>
    equal(
      reshape(index, [...index.shape, 1]),
      integers(
        index.device,
        Uint32Array.from({ length: classes }, (_, i) => i),
      ),
    ),
  );
}
