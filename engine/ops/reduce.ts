/**
 * Sums and maxima over axes.
 */

import { argmaxRows, groupGrid, type Reduction, reduceRows } from '../../kernels/index.ts';
import { ShapeError } from '../errors.ts';
import type { BufferWindow } from '../memory.ts';
import { checkValue, either, flag, like, list, one } from '../options.ts';
import { composed } from '../scope.ts';
import { commonRows } from '../storage.ts';
import {
  checkNumberList,
  checkTensor,
  empty,
  full,
  noGrad,
  operation,
  showShape,
  sizeOf,
  type Tensor,
  zeros,
} from '../tensor.ts';
import { reduceColumnsTo } from './columns.ts';
import { affine, div, same, where } from './elementwise.ts';
import { broadcastTo, permute, reshape, slice } from './shape.ts';

/** Longest row that one workgroup reduces; longer ones are cut into chunks and reduced again. */
const ROW_CHUNK = 16384;

/** [outer, reduced, inner] -> [outer, inner], without recording. */
function run(reduction: Reduction, x: Tensor, outer: number, reduced: number, inner: number): Tensor {
  const y = empty(x.device, [outer, inner]);
  if (outer * inner === 0) return y;
  if (reduced === 0) {
    y.dispose();
    if (reduction === 'max') throw new ShapeError('max', `no elements to compare in ${showShape(x)}`);
    return full(x.device, [outer, inner], 0);
  }
  if (inner === 1) {
    if (reduced > ROW_CHUNK) {
      // Rows within one buffer each are cut into chunks; a row over several buffers is cut at the buffers first.
      const perRow = outer === 1 ? x.storage.segments.map((s) => s.end - s.begin) : [reduced];
      if (perRow.length === 1) {
        const chunks = Math.ceil(reduced / ROW_CHUNK);
        const partial = empty(x.device, [outer, chunks], 'f32', 'scratch');
        dispatchRows(reduction, x, partial, outer, reduced, chunks);
        const result = run(reduction, partial, outer, chunks, 1);
        partial.dispose();
        y.dispose();
        return result;
      }
      const partial = empty(x.device, [1, perRow.length * 64], 'f32', 'scratch');
      x.storage.segments.forEach((s, i) => {
        const length = s.end - s.begin;
        x.device.dispatch(
          reduceRows(reduction, x.device.rowLanes),
          [x.storage.window(s.begin, s.end), partial.storage.window(i * 64, i * 64 + 64)],
          [1, length, 64, Math.ceil(length / 64)],
          groupGrid(64),
          length,
        );
      });
      const result = run(reduction, partial, 1, perRow.length * 64, 1);
      partial.dispose();
      y.dispose();
      return result;
    }
    dispatchRows(reduction, x, y, outer, reduced, 1);
    return y;
  }
  const columns = (
    shape: readonly [number, number, number],
    from: BufferWindow,
    to: BufferWindow,
    accumulate = false,
  ): void => reduceColumnsTo(x.device, { reduction, shape, from: [from], to: [to], accumulate });
  if (outer === 1) {
    if (x.storage.segments.some((s) => s.begin % inner !== 0)) {
      // Cut inside a block that is added as a whole: copy the blocks out, one after the other.
      noGrad(() => {
        const blocks = x.view([reduced, inner], null);
        for (let r = 0; r < reduced; r++) {
          const block = slice(blocks, [r], [r + 1]);
          const flat = { storage: block.storage, rowLength: 1 };
          for (const [begin, end] of commonRows(reduction, inner, [
            flat,
            { storage: y.storage, rowLength: 1 },
          ]))
            columns(
              [1, 1, end - begin],
              block.storage.window(begin, end),
              y.storage.window(begin, end),
              r > 0,
            );
          block.dispose();
        }
        blocks.dispose();
      });
      return y;
    }
    // Column reductions of a tensor split by rows: one window after the other into the same result.
    const windows = commonRows(reduction, reduced, [{ storage: x.storage, rowLength: inner }]);
    for (const [begin, end] of windows)
      columns(
        [1, end - begin, inner],
        x.storage.window(begin * inner, end * inner),
        y.storage.window(),
        begin > 0,
      );
    return y;
  }
  const operands = [
    { storage: x.storage, rowLength: reduced * inner },
    { storage: y.storage, rowLength: inner },
  ];
  for (const [begin, end] of commonRows(reduction, outer, operands))
    columns(
      [end - begin, reduced, inner],
      x.storage.window(begin * reduced * inner, end * reduced * inner),
      y.storage.window(begin * inner, end * inner),
    );
  return y;
}

function dispatchRows(
  reduction: Reduction,
  x: Tensor,
  y: Tensor,
  rows: number,
  length: number,
  chunks: number,
): void {
  const operands = [
    { storage: x.storage, rowLength: length },
    { storage: y.storage, rowLength: chunks },
  ];
  for (const [begin, end] of commonRows(reduction, rows, operands))
    x.device.dispatch(
      reduceRows(reduction, x.device.rowLanes),
      [x.storage.window(begin * length, end * length), y.storage.window(begin * chunks, end * chunks)],
      [end - begin, length, chunks, chunks === 1 ? length : ROW_CHUNK],
      groupGrid((end - begin) * chunks),
      (end - begin) * length,
    );
}

const axisField = like<number>(Number.isInteger, 'an axis');
const lastAxis = one([-1]);
const axesField = either(axisField, list(axisField, 'a list of axes'), 'an axis or a list of axes');

/** Axes as sorted non-negative numbers; all of them by default. */
export function normalAxes(op: string, x: Tensor, axes: number | readonly number[] | undefined): number[] {
  checkTensor(op, 'x', x);
  if (axes !== undefined) checkValue(op, 'axes', axesField, axes);
  const list = axes === undefined ? x.shape.map((_, i) => i) : typeof axes === 'number' ? [axes] : axes;
  const normal = list.map((a) => (a < 0 ? a + x.rank : a)).sort((a, b) => a - b);
  if (normal.some((a, i) => x.shape[a] === undefined || a === normal[i - 1]))
    throw new ShapeError(op, `axes [${list.join(', ')}] of ${showShape(x)}`);
  return normal;
}

function reduce(reduction: Reduction, x: Tensor, axes: number[], keepAxes: boolean): Tensor {
  checkValue(reduction, 'keepAxes', flag, keepAxes);
  x.use();
  if (x.dtype !== 'f32') throw new ShapeError(reduction, `needs f32, got ${x.dtype}`);
  const kept = x.shape.map((size, i) => (axes.includes(i) ? 1 : size));
  const shape = keepAxes ? kept : x.shape.filter((_, i) => !axes.includes(i));
  if (axes.length === 0) return x.detach();
  // Runs of neighbouring axes reduce one after the other, from the last; with all axes in one run that is one kernel.
  let current = x.detach();
  let sizes = [...x.shape];
  for (let end = axes.length; end > 0; ) {
    let begin = end - 1;
    while (begin > 0 && axes[begin - 1] === axes[begin]! - 1) begin--;
    const [from, to] = [axes[begin]!, axes[end - 1]! + 1];
    const [outer, reduced, inner] = [
      sizeOf(sizes.slice(0, from)),
      sizeOf(sizes.slice(from, to)),
      sizeOf(sizes.slice(to)),
    ];
    const next = run(reduction, current, outer, reduced, inner);
    current.dispose();
    current = next;
    sizes = sizes.map((size, i) => (i >= from && i < to ? 1 : size));
    end = begin;
  }
  const result = current.view(shape, null);
  current.dispose();
  return result;
}

/** Sum over axes (all by default). `keepAxes` leaves them with size 1. */
export function sum(x: Tensor, axes?: number | readonly number[], keepAxes = false): Tensor {
  const list = normalAxes('sum', x, axes);
  const before = x.shape;
  const kept = before.map((size, i) => (list.includes(i) ? 1 : size));
  return operation('sum', [x], reduce('sum', x, list, keepAxes), [], (dy) => [
    broadcastTo(reshape(dy, kept), before),
  ]);
}

/** Mean over axes (all by default). */
export function mean(x: Tensor, axes?: number | readonly number[], keepAxes = false): Tensor {
  const count = normalAxes('mean', x, axes).reduce((n, a) => n * x.shape[a]!, 1);
  return affine(sum(x, axes, keepAxes), 1 / count, 0);
}

/**
 * Largest element over axes, NaN where one is; where several are equal the gradient is shared, also among NaNs.
 * @throws ShapeError over no elements.
 */
export function max(x: Tensor, axes?: number | readonly number[], keepAxes = false): Tensor {
  const list = normalAxes('max', x, axes);
  const kept = x.shape.map((size, i) => (list.includes(i) ? 1 : size));
  return operation('max', [x], reduce('max', x, list, keepAxes), [x], (dy, saved) => {
    const a = saved[0]!;
    const top = reduce('max', a, list, true);
    const here = same(a, top);
    const share = div(reshape(dy, kept), reduce('sum', here, list, true));
    return [where(here, share, zeros(dy.device, []))];
  });
}

/** Sum over the axes along which `shape` was broadcast to x's shape: the adjoint of broadcastTo. */
export function sumTo(x: Tensor, shape: readonly number[]): Tensor {
  checkTensor('sumTo', 'x', x);
  checkNumberList('sumTo', 'shape', shape);
  const lead = x.rank - shape.length;
  const axes = x.shape
    .map((_, i) => i)
    .filter((i) => i < lead || (shape[i - lead] === 1 && x.shape[i] !== 1));
  if (axes.length === 0) return x.view(x.shape, x.track);
  return reshape(sum(x, axes), shape);
}

/** An axis as a non-negative number. @throws UserError, ShapeError */
export function normalAxis(op: string, x: Tensor, axis: number): number {
  checkTensor(op, 'x', x);
  checkValue(op, 'axis', axisField, axis);
  const at = axis < 0 ? axis + x.rank : axis;
  if (x.shape[at] === undefined) throw new ShapeError(op, `no axis ${axis} in ${showShape(x)}`);
  return at;
}

/** What `fn` makes of rows, of x whose axis `at` stands last meanwhile. */
export function alongLast(x: Tensor, at: number, fn: (rows: Tensor) => Tensor): Tensor {
  const last = x.rank - 1;
  if (at === last) return fn(x);
  const swapped = x.shape.map((_, i) => (i === at ? last : i === last ? at : i));
  return composed(() => permute(fn(permute(x, swapped)), swapped));
}

/**
 * Index of the first largest element along an axis, as u32, of the first NaN where there is one; has no gradient.
 * @throws ShapeError over no elements
 */
export function argmax(x: Tensor, axis = -1): Tensor {
  checkTensor('argmax', 'x', x, ['f32']);
  if (x.rank === 0) checkValue('argmax', 'axis', lastAxis, axis);
  const at = x.rank === 0 ? 0 : normalAxis('argmax', x, axis);
  if (at < x.rank - 1)
    return composed(() => {
      const order = x.shape.map((_, i) => i).filter((i) => i !== at);
      return argmax(permute(x, [...order, at]));
    });
  const length = x.shape.at(-1) ?? 1;
  if (length === 0) throw new ShapeError('argmax', `no elements to compare in ${showShape(x)}`);
  const rows = x.size / length;
  const y = empty(x.device, x.shape.slice(0, -1), 'u32');
  const operands = [
    { storage: x.storage, rowLength: length },
    { storage: y.storage, rowLength: 1 },
  ];
  for (const [begin, end] of commonRows('argmax', rows, operands))
    if (end > begin)
      x.device.dispatch(
        argmaxRows(x.device.rowLanes),
        [x.storage.window(begin * length, end * length), y.storage.window(begin, end)],
        [end - begin, length],
        groupGrid(end - begin),
      );
  return operation('argmax', [x], y, [], null);
}
