/**
 * Operations that move elements without computing: reshape shares storage, all others are one strided copy.
 */

import { isQuantised, linearGrid, stridedCopy } from '../../kernels/index.ts';
import { ShapeError, UserError } from '../errors.ts';
import { checkValue, like, list } from '../options.ts';
import { bytesOf, type Storage } from '../storage.ts';
import {
  checkNumber,
  checkNumberList,
  checkTensor,
  checkTensorList,
  empty,
  oneDevice,
  operation,
  showShape,
  sizeOf,
  type Tensor,
  zeros,
} from '../tensor.ts';
import { sumTo } from './reduce.ts';

/** Row-major strides of a shape. */
export function rowMajor(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length).fill(1);
  for (let i = shape.length - 2; i >= 0; i--) strides[i] = strides[i + 1]! * shape[i + 1]!;
  return strides;
}

interface Home {
  /** The one buffer that a box lies in, if there is one. */
  readonly home: Storage['segments'][number] | undefined;
  /** The axis that stretches it most. */
  readonly widest: number;
}

interface Layout {
  readonly offset: number;
  readonly strides: readonly number[];
}

/** The first and the last element of a box in a layout, whose strides may lead backwards. */
const endsOf = (offset: number, axes: readonly { size: number; stride: number }[]): [number, number] => {
  const reach = axes.map((axis) => (axis.size - 1) * axis.stride);
  return [
    reach.reduce((at, n) => at + Math.min(n, 0), offset),
    reach.reduce((at, n) => at + Math.max(n, 0), offset),
  ];
};

/** Copies a box of `sizes` elements between two strided layouts, four axes at a time. */
function copyBox(from: Tensor, source: Layout, to: Tensor, target: Layout, sizes: readonly number[]): void {
  if (sizeOf(sizes) === 0) return;
  if (bytesOf(from.dtype) !== 4) throw new ShapeError('copy', `${from.dtype} tensor; use toF32() first`);
  // Merge neighbouring axes that both layouts walk through as one.
  let axes = sizes
    .map((size, i) => ({ size, source: source.strides[i]!, target: target.strides[i]! }))
    .filter((axis) => axis.size !== 1);
  for (let i = axes.length - 2; i >= 0; i--) {
    const [outer, inner] = [axes[i]!, axes[i + 1]!];
    if (outer.source === inner.source * inner.size && outer.target === inner.target * inner.size)
      axes.splice(i, 2, { ...inner, size: outer.size * inner.size });
  }
  // Whole runs of both tensors in order: copy pieces, which also serves tensors split over several buffers.
  if (
    axes.length === 1 &&
    axes[0]!.source === 1 &&
    axes[0]!.target === 1 &&
    (from.storage.segments.length > 1 || to.storage.segments.length > 1)
  ) {
    copyRun(from, source.offset, to, target.offset, axes[0]!.size);
    return;
  }
  // Otherwise halve the box until it lies in one buffer of each.
  const [sourceHome, targetHome] = (
    [
      [from, source, 'source'],
      [to, target, 'target'],
    ] as const
  ).map(([t, layout, side]) => {
    const along = axes.map((axis) => ({ size: axis.size, stride: axis[side] }));
    const [first, last] = endsOf(layout.offset, along);
    const home = t.storage.segments.find((s) => s.begin <= first && last < s.end);
    const extents = along.map((axis) => Math.abs((axis.size - 1) * axis.stride));
    return { home, widest: extents.indexOf(Math.max(...extents)) };
  }) as [Home, Home];
  if (!sourceHome.home || !targetHome.home) {
    const at = sourceHome.home ? targetHome.widest : sourceHome.widest;
    const axis = axes[at]!;
    const half = axis.size >> 1;
    for (const [begin, end] of [
      [0, half],
      [half, axis.size],
    ] as const)
      copyBox(
        from,
        { offset: source.offset + begin * axis.source, strides: axes.map((a) => a.source) },
        to,
        { offset: target.offset + begin * axis.target, strides: axes.map((a) => a.target) },
        axes.map((a, i) => (i === at ? end - begin : a.size)),
      );
    return;
  }
  const [sourceSegment, targetSegment] = [sourceHome.home, targetHome.home];
  if (axes.length > 4) {
    const outer = axes[0]!;
    for (let i = 0; i < outer.size; i++)
      copyBox(
        from,
        { offset: source.offset + i * outer.source, strides: axes.slice(1).map((a) => a.source) },
        to,
        { offset: target.offset + i * outer.target, strides: axes.slice(1).map((a) => a.target) },
        axes.slice(1).map((a) => a.size),
      );
    return;
  }
  while (axes.length < 4) axes = [{ size: 1, source: 0, target: 0 }, ...axes];
  const begins = [source.offset - sourceSegment.begin, target.offset - targetSegment.begin] as const;
  // Quads where both layouts consist of them.
  const last = axes[3]!;
  const quads =
    last.source === 1 &&
    last.target === 1 &&
    [last.size, ...begins, ...axes.slice(0, 3).flatMap((a) => [a.source, a.target])].every(
      (n) => n % 4 === 0,
    );
  const unit = quads ? 4 : 1;
  // Backwards is a step of 2^32 less.
  const strides = (side: 'source' | 'target') => axes.map((a, i) => (i < 3 ? a[side] / unit : a[side]) >>> 0);
  const count = axes.reduce((n, a) => n * a.size, 1) / unit;
  from.device.dispatch(
    stridedCopy(quads),
    [
      from.storage.window(sourceSegment.begin, sourceSegment.end),
      to.storage.window(targetSegment.begin, targetSegment.end),
    ],
    [
      count,
      axes[1]!.size,
      axes[2]!.size,
      last.size / unit,
      begins[0] / unit,
      ...strides('source'),
      begins[1] / unit,
      ...strides('target'),
    ],
    linearGrid(count),
  );
}

function copyRun(from: Tensor, sourceOffset: number, to: Tensor, targetOffset: number, count: number): void {
  const cuts = new Set([0, count]);
  for (const s of from.storage.segments)
    if (s.begin > sourceOffset && s.begin < sourceOffset + count) cuts.add(s.begin - sourceOffset);
  for (const s of to.storage.segments)
    if (s.begin > targetOffset && s.begin < targetOffset + count) cuts.add(s.begin - targetOffset);
  const sorted = [...cuts].sort((a, b) => a - b);
  sorted.slice(1).forEach((end, i) => {
    const begin = sorted[i]!;
    const source = from.storage.segments.find(
      (s) => s.begin <= sourceOffset + begin && sourceOffset + end <= s.end,
    )!;
    const target = to.storage.segments.find(
      (s) => s.begin <= targetOffset + begin && targetOffset + end <= s.end,
    )!;
    from.device.queue.copy(
      {
        buffer: source.buffer,
        offset: source.offset + (sourceOffset + begin - source.begin) * 4,
        size: (end - begin) * 4,
      },
      {
        buffer: target.buffer,
        offset: target.offset + (targetOffset + begin - target.begin) * 4,
        size: (end - begin) * 4,
      },
    );
  });
}

/** The same elements under another shape; one size may be -1. Shares storage. @throws ShapeError */
export function reshape(x: Tensor, shape: readonly number[]): Tensor {
  checkTensor('reshape', 'x', x);
  checkNumberList('reshape', 'shape', shape);
  const known = shape.reduce((n, size) => (size === -1 ? n : n * size), 1);
  const full = shape.map((size) => (size === -1 ? x.size / known : size));
  if (
    sizeOf(full) !== x.size ||
    full.some((size) => !(Number.isInteger(size) && size >= 0)) ||
    shape.filter((size) => size === -1).length > 1
  )
    throw new ShapeError('reshape', `${showShape(x)} to [${shape.join(', ')}]`);
  if (isQuantised(x.dtype) && full.at(-1) !== x.shape.at(-1))
    throw new ShapeError(
      'reshape',
      `${x.dtype} ${showShape(x)} to [${full.join(', ')}]: quantised rows stay whole; use toF32() first`,
    );
  const before = x.shape;
  return operation('reshape', [x], x.view(full, null), [], (dy) => [reshape(dy, before)]);
}

/** Axes in another order: y.shape[i] = x.shape[order[i]]. */
export function permute(x: Tensor, order: readonly number[]): Tensor {
  checkTensor('permute', 'x', x);
  checkNumberList('permute', 'order', order);
  if (
    order.length !== x.rank ||
    new Set(order).size !== x.rank ||
    order.some((a) => x.shape[a] === undefined)
  )
    throw new ShapeError('permute', `order [${order.join(', ')}] of ${showShape(x)}`);
  x.use();
  const strides = rowMajor(x.shape);
  const shape = order.map((axis) => x.shape[axis]!);
  // Where only axes of size 1 move, the elements stay where they are.
  const wide = order.filter((axis) => x.shape[axis] !== 1);
  if (wide.every((axis, i) => i === 0 || axis > wide[i - 1]!)) return reshape(x, shape);
  const y = empty(x.device, shape, x.dtype);
  copyBox(
    x,
    { offset: 0, strides: order.map((a) => strides[a]!) },
    y,
    { offset: 0, strides: rowMajor(shape) },
    shape,
  );
  const inverse = order.map((_, i) => order.indexOf(i));
  return operation('permute', [x], y, [], (dy) => [permute(dy, inverse)]);
}

/** The last two axes exchanged; {@link permute} exchanges any. @throws ShapeError for fewer than two axes, UserError for more arguments */
export function transpose(x: Tensor, ...none: never[]): Tensor {
  checkTensor('transpose', 'x', x);
  if (none.length > 0)
    throw new UserError(
      'option',
      `transpose: takes no axes, it exchanges the last two; permute(x, order) takes others`,
    );
  if (x.rank < 2) throw new ShapeError('transpose', `${showShape(x)} has no two axes`);
  const order = x.shape.map((_, i) => i);
  order.splice(-2, 2, x.rank - 1, x.rank - 2);
  return permute(x, order);
}

/** Places along axes; null, or an axis left out, is as far as the axis goes. */
type Places = readonly (number | null)[];
const placesField = list<number | null>(
  like((value) => value === null || typeof value === 'number', 'a number or null'),
  'a list of numbers',
);
const checkPlaces = (name: string, places: Places): void => {
  if (!Array.isArray(places) || !places.every((at) => typeof at === 'number'))
    checkValue('slice', name, placesField, places);
};

/**
 * x[begin[0]:end[0]:step[0], begin[1]:end[1]:step[1], ...] as in Python, but what lies outside of an axis is refused: places below 0
 * count from its end, steps below 0 go backwards, null goes as far as the axis does, and axes left out are taken whole.
 * @throws ShapeError
 * @example
 * ```ts
 * import { openDevice, slice, tensor } from 'neurgrad/engine';
 *
 * const device = await openDevice();
 * const x = tensor(device, [[1, 2, 3], [4, 5, 6]]);
 * console.log([...(await slice(x, [0, -2], [1, null]).read())]); // → [ 2, 3 ]
 * console.log([...(await slice(x, [], [], [1, -1]).read())]); // → [ 3, 2, 1, 6, 5, 4 ]
 * device.destroy();
 * ```
 */
export function slice(x: Tensor, begin: Places, end: Places, step: readonly number[] = []): Tensor {
  checkTensor('slice', 'x', x);
  checkPlaces('begin', begin);
  checkPlaces('end', end);
  checkNumberList('slice', 'step', step);
  const cuts = x.shape.map((size, i) => {
    const by = step[i] ?? 1;
    const at = (place: number | null | undefined, whole: number): number =>
      place === null || place === undefined ? whole : place < 0 ? place + size : place;
    const from = at(begin[i], by > 0 ? 0 : size - 1);
    const to = at(end[i], by > 0 ? size : -1);
    const ends = by > 0 ? from >= 0 && from <= to && to <= size : to >= -1 && to <= from && from < size;
    const fits = [by, from, to].every(Number.isInteger) && by !== 0 && ends;
    return { from, by, fits, count: Math.ceil(Math.abs(to - from) / Math.abs(by)) };
  });
  if ([begin, end, step].some(({ length }) => length > x.rank) || cuts.some(({ fits }) => !fits))
    throw new ShapeError(
      'slice',
      `[${begin.join(', ')}] to [${end.join(', ')}]${step.length > 0 ? ` by [${step.join(', ')}]` : ''} of ${showShape(x)}`,
    );
  return steps(
    x,
    cuts.map(({ from }) => from),
    cuts.map(({ by }) => by),
    cuts.map(({ count }) => count),
  );
}

/** Where elements `from + i by` of each axis lie in a tensor of a shape. */
const layoutOf = (shape: readonly number[], from: readonly number[], by: readonly number[]): Layout => {
  const strides = rowMajor(shape);
  return {
    offset: from.reduce((sum, at, i) => sum + at * strides[i]!, 0),
    strides: by.map((step, i) => step * strides[i]!),
  };
};

/** Elements `from + i by` of each axis, `counts` of them. */
function steps(x: Tensor, from: readonly number[], by: readonly number[], counts: readonly number[]): Tensor {
  const y = empty(x.device, counts, x.dtype);
  copyBox(x, layoutOf(x.shape, from, by), y, { offset: 0, strides: rowMajor(counts) }, counts);
  const whole = x.shape;
  return operation('slice', [x], y, [], (dy) => [
    by.every((step) => step === 1) ? pad(dy, from, whole) : unsteps(dy, from, by, whole),
  ]);
}

/** x at elements `from + i by` of zeros of a shape: the adjoint of {@link steps}. */
function unsteps(
  x: Tensor,
  from: readonly number[],
  by: readonly number[],
  shape: readonly number[],
): Tensor {
  const y = zeros(x.device, shape);
  copyBox(x, { offset: 0, strides: rowMajor(x.shape) }, y, layoutOf(shape, from, by), x.shape);
  const counts = x.shape;
  return operation('unslice', [x], y, [], (dy) => [steps(dy, from, by, counts)]);
}

/** x placed at `begin` in zeros of `shape`: the adjoint of slice. */
export function pad(x: Tensor, begin: readonly number[], shape: readonly number[]): Tensor {
  checkTensor('pad', 'x', x);
  checkNumberList('pad', 'begin', begin);
  checkNumberList('pad', 'shape', shape);
  if (
    shape.length !== x.rank ||
    x.shape.some(
      (size, i) => !(Number.isInteger(begin[i]) && begin[i]! >= 0 && begin[i]! + size <= shape[i]!),
    )
  )
    throw new ShapeError('pad', `${showShape(x)} at [${begin.join(', ')}] of [${shape.join(', ')}]`);
  x.use();
  if (x.dtype !== 'f32') throw new ShapeError('pad', `needs f32, got ${x.dtype}`);
  const y = zeros(x.device, shape);
  const strides = rowMajor(shape);
  const offset = begin.reduce((sum, from, i) => sum + from * strides[i]!, 0);
  copyBox(x, { offset: 0, strides: rowMajor(x.shape) }, y, { offset, strides }, x.shape);
  const end = x.shape.map((size, i) => begin[i]! + size);
  return operation('pad', [x], y, [], (dy) => [slice(dy, begin, end)]);
}

/** Tensors one after the other along an axis; all other sizes equal. */
export function concat(xs: readonly Tensor[], axis: number): Tensor {
  checkTensorList('concat', 'xs', xs);
  checkNumber('concat', 'axis', axis);
  const first = xs[0];
  if (!first) throw new ShapeError('concat', 'nothing to concatenate');
  oneDevice('concat', ...xs);
  const at = axis < 0 ? axis + first.rank : axis;
  if (first.shape[at] === undefined) throw new ShapeError('concat', `no axis ${axis} in ${showShape(first)}`);
  for (const x of xs)
    if (
      x.rank !== first.rank ||
      x.dtype !== first.dtype ||
      x.shape.some((size, i) => i !== at && size !== first.shape[i])
    )
      throw new ShapeError('concat', `${showShape(first)} and ${showShape(x)} along axis ${axis}`);
  const shape = first.shape.map((size, i) => (i === at ? xs.reduce((n, x) => n + x.shape[at]!, 0) : size));
  const y = empty(first.device, shape, first.dtype);
  const strides = rowMajor(shape);
  const begins: number[] = [];
  let begin = 0;
  for (const x of xs) {
    x.use();
    copyBox(
      x,
      { offset: 0, strides: rowMajor(x.shape) },
      y,
      { offset: begin * strides[at]!, strides },
      x.shape,
    );
    begins.push(begin);
    begin += x.shape[at]!;
  }
  const shapes = xs.map((x) => x.shape);
  return operation('concat', xs, y, [], (dy, _, needs) =>
    shapes.map((part, i) => {
      if (!needs[i]) return null;
      const from = shape.map((_, a) => (a === at ? begins[i]! : 0));
      return slice(
        dy,
        from,
        part.map((size, a) => from[a]! + size),
      );
    }),
  );
}

/** x repeated along axes of size 1 (and new leading axes) to `shape`. */
export function broadcastTo(x: Tensor, shape: readonly number[]): Tensor {
  checkTensor('broadcastTo', 'x', x);
  checkNumberList('broadcastTo', 'shape', shape);
  const lead = shape.length - x.rank;
  if (lead < 0 || x.shape.some((size, i) => size !== 1 && size !== shape[i + lead]))
    throw new ShapeError('broadcastTo', `${showShape(x)} to [${shape.join(', ')}]`);
  const own = rowMajor(x.shape);
  const strides = shape.map((_, i) => (i < lead || x.shape[i - lead] === 1 ? 0 : own[i - lead]!));
  const y = empty(x.device, shape, x.dtype);
  copyBox(x, { offset: 0, strides }, y, { offset: 0, strides: rowMajor(shape) }, shape);
  const before = x.shape;
  return operation('broadcastTo', [x], y, [], (dy) => [sumTo(dy, before)]);
}
