/**
 * Elements chosen by index along an axis, the reverse, and by masks. Made of rows by index (rows.ts): index arithmetic turns a place along an axis
 * into the number of an element.
 */

import { lastPlaces as lastKernel, linearGrid } from '../../kernels/index.ts';
import { ShapeError } from '../errors.ts';
import { composed } from '../scope.ts';
import { commonRows } from '../storage.ts';
import {
  checkTensor,
  integers,
  type Numbers,
  noGrad,
  oneDevice,
  showShape,
  sizeOf,
  Tensor,
} from '../tensor.ts';
import { add, sub, where } from './elementwise.ts';
import { greaterEqual } from './logic.ts';
import { normalAxis } from './reduce.ts';
import { checkIndices, gatherRows, scatterAddRows } from './rows.ts';
import { permute, reshape } from './shape.ts';

/** Places: u32 on the device, or whole numbers of the host. */
type Indices = Tensor | Numbers;

/** The order of axes in which `at` stands last, and the way back. */
const lastOrder = (rank: number, at: number): number[] => [
  ...Array.from({ length: rank }, (_, i) => i).filter((i) => i !== at),
  at,
];
const inverse = (order: readonly number[]): number[] => order.map((_, i) => order.indexOf(i));

/** An index of x's rank, alike on all other axes, each below the axis's size. @throws ShapeError */
function indexAlong(op: string, x: Tensor, index: Indices, at: number): Tensor {
  const places = index instanceof Tensor ? index : integers(x.device, index);
  oneDevice(op, x, places);
  if (places.dtype !== 'u32')
    throw new ShapeError(op, `needs a u32 index, got ${places.dtype}; toU32() makes it one`);
  if (places.rank !== x.rank || x.shape.some((size, i) => i !== at && places.shape[i] !== size))
    throw new ShapeError(
      op,
      `index ${showShape(places)} for ${showShape(x)} along axis ${at}: other axes must be alike`,
    );
  checkIndices(op, places, x.shape[at]!);
  return places;
}

/** Numbers of the elements of x, with `at` standing last, that an index names: [elements]. */
function elementsAt(x: Tensor, places: Tensor, at: number): Tensor {
  const order = lastOrder(x.rank, at);
  const length = x.shape[at]!;
  const rows = x.size / Math.max(1, length);
  const count = places.shape[at]!;
  const byRow = reshape(permute(places, order), [rows, count]);
  return reshape(add(byRow, numbered(x, rows, length)), [rows * count]);
}
/** 0, by, 2 by ... as a column. */
const numbered = (x: Tensor, count: number, by: number): Tensor =>
  integers(
    x.device,
    Uint32Array.from({ length: count }, (_, i) => i * by),
    [count, 1],
  );

/**
 * y[.., j, ..] = x[.., index[.., j, ..], ..] along an axis: an index of x's shape but for that axis, as PyTorch's gather. What is chosen more than
 * once has the sum of the gradients. @throws ShapeError, also for an index outside; where only the device knows it, at the next readback
 * @example
 * ```ts
 * import { gather, openDevice, tensor } from 'neurgrad/engine';
 *
 * const device = await openDevice();
 * const x = tensor(device, [[1, 2, 3], [4, 5, 6]]);
 * console.log([...(await gather(x, [[2, 0], [1, 1]], 1).read())]); // → [ 3, 1, 5, 5 ]
 * device.destroy();
 * ```
 */
export function gather(x: Tensor, index: Indices, axis = -1): Tensor {
  checkTensor('gather', 'x', x, ['f32']);
  const at = normalAxis('gather', x, axis);
  return composed(() => {
    const places = indexAlong('gather', x, index, at);
    const order = lastOrder(x.rank, at);
    const table = reshape(permute(x, order), [x.size, 1]);
    const y = gatherRows(table, elementsAt(x, places, at));
    return permute(
      reshape(
        y,
        order.map((i) => places.shape[i]!),
      ),
      inverse(order),
    );
  });
}

/** Rows, columns, ... of x by a list of places along an axis: y[.., j, ..] = x[.., index[j], ..]. @throws ShapeError, as {@link gather} */
export function indexSelect(x: Tensor, index: Indices, axis = 0): Tensor {
  checkTensor('indexSelect', 'x', x, ['f32']);
  const at = normalAxis('indexSelect', x, axis);
  return composed(() => {
    const first = [at, ...x.shape.map((_, i) => i).filter((i) => i !== at)];
    const moved = permute(x, first);
    const y = gatherRows(reshape(moved, [moved.dim(0), sizeOf(moved.shape.slice(1))]), index);
    return permute(reshape(y, [y.dim(0), ...moved.shape.slice(1)]), inverse(first));
  });
}

/**
 * x with values added at places along an axis: y[.., index[.., j, ..], ..] += values[.., j, ..], in their order where an index comes again; the adjoint
 * of {@link gather} where x is 0. @throws ShapeError
 */
export function scatterAdd(x: Tensor, index: Indices, values: Tensor, axis = -1): Tensor {
  const at = checkScatter('scatterAdd', x, values, axis);
  return composed(() => {
    const places = indexAlong('scatterAdd', x, index, at);
    checkValues('scatterAdd', places, values);
    const order = lastOrder(x.rank, at);
    const rows = reshape(permute(values, order), [values.size, 1]);
    const sums = scatterAddRows(rows, elementsAt(x, places, at), x.size);
    return add(
      x,
      permute(
        reshape(
          sums,
          order.map((i) => x.shape[i]!),
        ),
        inverse(order),
      ),
    );
  });
}

/**
 * x with elements replaced at places along an axis: y[.., index[.., j, ..], ..] = values[.., j, ..]; where an index comes again, by the last. What is replaced has
 * no gradient, nor what is replaced again. @throws ShapeError
 */
export function scatter(x: Tensor, index: Indices, values: Tensor, axis = -1): Tensor {
  const at = checkScatter('scatter', x, values, axis);
  return composed(() => {
    const places = indexAlong('scatter', x, index, at);
    checkValues('scatter', places, values);
    if (values.size === 0 || x.size === 0) return reshape(x, x.shape);
    const order = lastOrder(x.rank, at);
    const rows = reshape(permute(values, order), [values.size, 1]);
    // Which value comes last to each element, counted from 1.
    const last = noGrad(() => lastTo(elementsAt(x, places, at), x.size));
    const hit = greaterEqual(last, 1);
    const source = sub(last, where(hit, integers(x.device, 1, []), 0));
    const chosen = reshape(
      gatherRows(rows, source),
      order.map((i) => x.shape[i]!),
    );
    const back = inverse(order);
    return where(
      permute(
        reshape(
          hit,
          order.map((i) => x.shape[i]!),
        ),
        back,
      ),
      permute(chosen, back),
      x,
    );
  });
}

/** For each of `size` elements the last place in an index that names it, counted from 1; 0 for what none names. */
function lastTo(index: Tensor, size: number): Tensor {
  const y = integers(index.device, new Uint32Array(size));
  y.storage.largest = null;
  for (const [begin, end] of commonRows('scatter', index.size, [{ storage: index.storage, rowLength: 1 }]))
    for (const segment of y.storage.segments)
      index.device.dispatch(
        lastKernel(),
        [index.storage.window(begin, end), y.storage.window(segment.begin, segment.end)],
        { count: end - begin, begin, first: segment.begin, size: segment.end - segment.begin },
        linearGrid(end - begin),
      );
  return y;
}

function checkScatter(op: string, x: Tensor, values: Tensor, axis: number): number {
  checkTensor(op, 'x', x, ['f32']);
  checkTensor(op, 'values', values, ['f32']);
  oneDevice(op, x, values);
  return normalAxis(op, x, axis);
}
function checkValues(op: string, places: Tensor, values: Tensor): void {
  if (places.shape.join() !== values.shape.join())
    throw new ShapeError(op, `values ${showShape(values)} for index ${showShape(places)}`);
}

/**
 * Where a mask is not 0: places along each of its axes, row-major, as u32 [count, axes]. The count is the device's to know, so it waits for a readback.
 * @throws ShapeError
 */
export async function nonzero(mask: Tensor): Promise<Tensor> {
  checkTensor('nonzero', 'mask', mask, ['f32', 'u32']);
  const { device, shape } = mask;
  const found = await elementsOf(mask);
  const places = new Uint32Array(found.length * shape.length);
  found.forEach((element, i) => {
    for (let axis = shape.length - 1, rest = element; axis >= 0; axis--) {
      places[i * shape.length + axis] = rest % shape[axis]!;
      rest = Math.floor(rest / shape[axis]!);
    }
  });
  return integers(device, places, [found.length, shape.length]);
}

/**
 * The elements of x where a mask of its leading axes is not 0, row-major: [count, ...] of the axes that are left. The count is the device's to know, so it
 * waits for a readback; the gradient goes where the elements came from. Where shapes must be known, multiply by the mask or choose by {@link where}.
 * @throws ShapeError
 */
export async function maskedSelect(x: Tensor, mask: Tensor): Promise<Tensor> {
  checkTensor('maskedSelect', 'x', x, ['f32']);
  checkTensor('maskedSelect', 'mask', mask, ['f32', 'u32']);
  oneDevice('maskedSelect', x, mask);
  if (mask.rank > x.rank || mask.shape.some((size, i) => size !== x.shape[i]))
    throw new ShapeError(
      'maskedSelect',
      `mask ${showShape(mask)} for ${showShape(x)}: it has the first axes of x`,
    );
  const rest = x.shape.slice(mask.rank);
  // Held until the mask has come, whatever becomes of the handle.
  using held = x.view([mask.size, sizeOf(rest)], x.track);
  const found = await elementsOf(mask);
  return composed(() => reshape(gatherRows(held, found), [found.length, ...rest]));
}

async function elementsOf(mask: Tensor): Promise<Uint32Array> {
  const values = mask.dtype === 'u32' ? await mask.readIntegers() : await mask.read();
  const found: number[] = [];
  values.forEach((value, i) => {
    if (value !== 0) found.push(i);
  });
  return Uint32Array.from(found);
}
