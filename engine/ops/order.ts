/**
 * Running sums, and elements in order (kernels/scan.ts, kernels/sort.ts), along an axis.
 */

import { groupGrid, linearGrid, scanRows, sortKeys, sortStep } from '../../kernels/index.ts';
import { ShapeError } from '../errors.ts';
import { checkOptions, checkValue, flag, optionsSchema, whole } from '../options.ts';
import { composed } from '../scope.ts';
import { bytesOf, commonRows } from '../storage.ts';
import { checkTensor, empty, noGrad, operation, showShape, type Tensor } from '../tensor.ts';
import { gather } from './along.ts';
import { alongLast, normalAxis } from './reduce.ts';
import { concat, slice } from './shape.ts';

/** Sums of the elements up to each, along an axis. @throws ShapeError */
export function cumsum(x: Tensor, axis = -1): Tensor {
  checkTensor('cumsum', 'x', x, ['f32']);
  const at = normalAxis('cumsum', x, axis);
  return alongLast(x, at, (rows) => runningSums(rows, false));
}

/** Of rows, up to each element or from it on. */
function runningSums(x: Tensor, reverse: boolean): Tensor {
  const length = x.dim(-1);
  const y = empty(x.device, x.shape);
  const operands = [x, y].map(({ storage }) => ({ storage, rowLength: length }));
  if (x.size > 0)
    for (const [begin, end] of commonRows('cumsum', x.size / length, operands))
      x.device.dispatch(
        scanRows(x.device.rowLanes),
        operands.map(({ storage }) => storage.window(begin * length, end * length)),
        { rows: end - begin, length, reverse: reverse ? 1 : 0 },
        groupGrid(end - begin),
        (end - begin) * length,
      );
  return operation('cumsum', [x], y, [], (dy) => [runningSums(dy, !reverse)]);
}

/** Which way an order goes. */
export interface SortOptions {
  /** Largest first; default false. */
  readonly descending?: boolean;
}
const sortOptions = optionsSchema<SortOptions>({ descending: flag });

/** Elements in order, and where each was. */
export interface Sorted {
  readonly values: Tensor;
  /** Places along the axis, u32. */
  readonly indices: Tensor;
}

/**
 * Where the elements of x would come from if they were sorted along an axis, as u32; has no gradient. Equal elements stay in their order, 0 and -0
 * are equal, and NaN counts as larger than any number. @throws UserError, ShapeError
 */
export function argsort(x: Tensor, axis = -1, options: SortOptions = {}): Tensor {
  checkOptions('argsort', sortOptions, options);
  checkTensor('argsort', 'x', x, ['f32']);
  const at = normalAxis('argsort', x, axis);
  const { descending = false } = options;
  return operation(
    'argsort',
    [x],
    noGrad(() => alongLast(x, at, (rows) => places(rows, descending))),
    [],
    null,
  );
}

/**
 * Elements in ascending order along an axis, and where each was: see {@link argsort}. @throws UserError, ShapeError
 * @example
 * ```ts
 * import { openDevice, sort, tensor } from 'neurgrad/engine';
 *
 * const device = await openDevice();
 * const { values, indices } = sort(tensor(device, [3, 1, 2]), -1, { descending: true });
 * console.log([...(await values.read())], [...(await indices.readIntegers())]); // → [ 3, 2, 1 ] [ 0, 2, 1 ]
 * device.destroy();
 * ```
 */
export function sort(x: Tensor, axis = -1, options: SortOptions = {}): Sorted {
  checkOptions('sort', sortOptions, options);
  checkTensor('sort', 'x', x, ['f32']);
  return sorted(x, normalAxis('sort', x, axis), options, null);
}

/**
 * The k largest elements along an axis, largest first, and where each was; of equal ones the first. @throws UserError, ShapeError for a k above the axis's size
 */
export function topK(x: Tensor, k: number, axis = -1): Sorted {
  checkTensor('topK', 'x', x, ['f32']);
  checkValue('topK', 'k', whole(), k);
  const at = normalAxis('topK', x, axis);
  if (k > x.dim(at))
    throw new ShapeError('topK', `${k} of ${x.dim(at)} elements along axis ${axis} of ${showShape(x)}`);
  return sorted(x, at, { descending: true }, k);
}

function sorted(x: Tensor, at: number, options: SortOptions, most: number | null): Sorted {
  return composed(() => {
    const all = argsort(x.detach(), at, options);
    const indices =
      most === null
        ? all
        : slice(
            all,
            [],
            x.shape.map((size, i) => (i === at ? most : size)),
          );
    return { values: gather(x, indices, at), indices };
  });
}

/** The order of rows. */
function places(x: Tensor, descending: boolean): Tensor {
  const length = x.dim(-1);
  const rows = length === 0 ? 0 : x.size / length;
  const filled = 2 ** Math.ceil(Math.log2(Math.max(1, length)));
  const { device } = x;
  const { bindingBytes, bufferBytes } = device.capabilities;
  // Rows filled up lie in one buffer of their own.
  const together = Math.floor(Math.min(bindingBytes, bufferBytes) / (filled * bytesOf('u32')));
  if (together === 0 && rows > 0)
    throw new ShapeError('argsort', `rows of ${length} elements do not fit into a buffer of this device`);
  const parts: Tensor[] = [];
  for (const [begin, end] of commonRows('argsort', rows, [{ storage: x.storage, rowLength: length }]))
    for (let from = begin; from < end; from += together) {
      const to = Math.min(end, from + together);
      const n = (to - from) * filled;
      const [key, at] = [empty(device, [n], 'u32', 'scratch'), empty(device, [to - from, filled], 'u32')];
      const windows = [key, at].map((t) => t.storage.window());
      device.dispatch(
        sortKeys(),
        [x.storage.window(from * length, to * length), ...windows],
        { n, length, filled, descending: descending ? 1 : 0 },
        linearGrid(n),
      );
      for (let run = 2; run <= filled; run *= 2)
        for (let apart = run / 2; apart >= 1; apart /= 2)
          device.dispatch(
            sortStep(),
            windows,
            { pairs: n / 2, filled, apart, run },
            linearGrid(n / 2),
            n / 2,
          );
      key.dispose();
      parts.push(slice(at, [0, 0], [to - from, length]));
      at.dispose();
    }
  if (parts.length === 0) return empty(device, x.shape, 'u32');
  const all = parts.length === 1 ? parts[0]! : concat(parts, 0);
  const y = all.view(x.shape, null);
  for (const t of new Set([all, ...parts])) t.dispose();
  return y;
}
