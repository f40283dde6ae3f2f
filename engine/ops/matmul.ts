/**
 * Matrix products: batched, in all transpositions, with the weight side possibly split over buffers or stored in 16 bits;
 * linear layers with the operation after them in the same kernel (with the norm before them: normLinear.ts).
 */

import {
  ACTIVATION_NAMES,
  type ActivationName,
  CHUNK,
  type Fusion,
  GATED_NAMES,
  type GatedName,
  gateOf,
  isQuantised,
  linearGrid,
  MAX_GROUPS,
  matmulFold,
  type NormVectors,
} from '../../kernels/index.ts';
import { storedRow } from '../../kernels/packing.ts';
import { ShapeError, UserError } from '../errors.ts';
import { castInto, dequantiseInto, widenInto } from '../halves.ts';
import { type Precision, productKernel, sharedChunks } from '../matmulChoice.ts';
import type { BufferWindow } from '../memory.ts';
import { checkOptions, checkValue, flag, like, one, optionsSchema } from '../options.ts';
import { CUT, commonRows } from '../storage.ts';
import {
  checkTensor,
  checkTensors,
  empty,
  isRecording,
  neededBy,
  noGrad,
  oneDevice,
  operation,
  showShape,
  sizeOf,
  type Tensor,
  tensorField,
  zeros,
} from '../tensor.ts';
import { activationFunctions, add } from './elementwise.ts';
import { gated } from './gated.ts';
import { panelProduct } from './panels.ts';
import { sumTo } from './reduce.ts';
import { broadcastTo, reshape, transpose } from './shape.ts';

/** Which operands are read transposed. */
export interface MatmulOptions {
  /** Use a's (b's) last two axes exchanged. */
  readonly transA?: boolean;
  readonly transB?: boolean;
  /** Default: f32. The others need a device with matrix units and weights in f32 or f16; nothing takes their place. */
  readonly precision?: Precision;
}

const matmulOptions = optionsSchema<MatmulOptions>(
  {
    transA: flag,
    transB: flag,
    precision: one<Precision>(['f32', 'split-f16', 'f16']),
  },
  { transposeA: 'transA', transposeB: 'transB', dtype: 'precision' },
);

/**
 * op(a) op(b) over the last two axes: [..., M, K] x [..., K, N] -> [..., M, N]; leading axes broadcast.
 * @throws ShapeError
 * @example
 * ```ts
 * import { matmul, openDevice, tensor } from 'neurgrad/engine';
 *
 * const device = await openDevice();
 * const [a, b] = [tensor(device, [1, 2, 3, 4], [2, 2]), tensor(device, [5, 6], [1, 2])];
 * console.log([...(await matmul(a, b, { transB: true }).read())]); // → [ 17, 39 ]
 * device.destroy();
 * ```
 */
export function matmul(a: Tensor, b: Tensor, options: MatmulOptions = {}): Tensor {
  checkOptions('matmul', matmulOptions, options);
  checkTensors('matmul', { a, b });
  oneDevice('matmul', a, b);
  const { transA = false, transB = false, precision = 'f32' } = options;
  if (a.rank < 2 || b.rank < 2)
    throw new ShapeError('matmul', `${showShape(a)} x ${showShape(b)}: both need two axes`);
  const [k, kb] = [a.dim(transA ? -2 : -1), b.dim(transB ? -1 : -2)];
  if (k !== kb)
    throw new ShapeError(
      'matmul',
      `${showShape(a)}${transA ? '^T' : ''} x ${showShape(b)}${transB ? '^T' : ''}: inner sizes ${k} and ${kb}`,
    );
  if (b.rank === 2 && a.rank > 2 && !transA) {
    // One big product instead of a batch: its weight gradient is one product, too.
    const rows = reshape(a, [sizeOf(a.shape.slice(0, -1)), k]);
    const y = matmul(rows, b, { transB, precision });
    return reshape(y, [...a.shape.slice(0, -1), y.dim(1)]);
  }
  const batch = batchShape(a, b);
  const alone = (t: Tensor): boolean => sizeOf(t.shape.slice(0, -2)) === 1;
  const match = (t: Tensor): Tensor =>
    alone(t) || t.shape.slice(0, -2).join() === batch.join()
      ? t
      : broadcastTo(t, [...batch, t.dim(-2), t.dim(-1)]);
  const [u, v] = [match(a), match(b)];
  const y = run(u, v, transA, transB, batch, null, PLAIN, precision);
  const [ofU, ofV] = [u.shape, v.shape];
  return operation('matmul', [u, v], y, [neededBy(u, v), neededBy(v, u)], (dy, saved, needs) => {
    const [p, q] = saved as [Tensor, Tensor];
    const dp = () =>
      transA
        ? matmul(q, dy, { transA: transB, transB: true, precision })
        : matmul(dy, q, { transB: !transB, precision });
    const dq = () =>
      transB
        ? matmul(dy, p, { transA: true, transB: transA, precision })
        : matmul(p, dy, { transA: !transA, precision });
    return [needs[0] ? sumTo(dp(), ofU) : null, needs[1] ? sumTo(dq(), ofV) : null];
  });
}

/** @throws ShapeError where no linear layer takes these. */
export function checkLinear(x: Tensor, w: Tensor, bias: Tensor | undefined): void {
  checkTensors('linear', bias ? { x, w, bias } : { x, w });
  oneDevice('linear', x, w, bias);
  if (
    w.rank !== 2 ||
    x.rank < 1 ||
    x.dim(-1) !== w.dim(1) ||
    (bias && (bias.rank !== 1 || bias.dim(0) !== w.dim(0)))
  )
    throw new ShapeError(
      'linear',
      `x ${showShape(x)}, weight ${showShape(w)}${bias ? `, bias ${showShape(bias)}` : ''}`,
    );
}

/**
 * x w^T + bias: x [..., K], w [N, K] as checkpoints store it, bias [N]. @throws ShapeError
 * @example
 * ```ts
 * import { linear, openDevice, tensor } from 'neurgrad/engine';
 *
 * const device = await openDevice();
 * const [x, w] = [tensor(device, [1, 2], [1, 2]), tensor(device, [1, 0, 0, 1, 1, 1], [3, 2])];
 * console.log([...(await linear(x, w, tensor(device, [10, 20, 30])).read())]); // → [ 11, 22, 33 ]
 * device.destroy();
 * ```
 */
export function linear(x: Tensor, w: Tensor, bias?: Tensor): Tensor {
  return linearWith(null, x, w, bias);
}

/** {@link linear}, and what its result is added to. */
function linearWith(to: Tensor | null, x: Tensor, w: Tensor, bias: Tensor | undefined): Tensor {
  return recordLinear(linearKernel(x, w, bias, to ? { op: 'add', with: to } : PLAIN), x, w, bias, to);
}

/** y, which is x w^T + bias (+ to), and its gradient. */
export function recordLinear(
  y: Tensor,
  x: Tensor,
  w: Tensor,
  bias: Tensor | undefined,
  to: Tensor | null = null,
): Tensor {
  const before = to ? [to] : [];
  const inputs = [...before, x, w, ...(bias ? [bias] : [])];
  const { shape } = x;
  const [n, k] = w.shape as [number, number];
  const rows = sizeOf(shape.slice(0, -1));
  const kept = [neededBy(x, w), neededBy(w, x)];
  return operation('linear', inputs, y, kept, (dy, saved, needs, arrived) => {
    const [p, q] = saved as [Tensor, Tensor];
    const [ofX, ofW, ofBias] = needs.slice(before.length);
    const flat = reshape(dy, [rows, n]);
    return [
      ...before.map(() => (needs[0] ? dy : null)),
      ofX ? reshape(matmulOnto(arrived(before.length), flat, q), shape) : null,
      ofW ? matmul(flat, reshape(p, [rows, k]), { transA: true }) : null,
      ...(bias ? [ofBias ? sumTo(flat, [n]) : null] : []),
    ];
  });
}

/** to + a b of matrices, where there is something to add to, which is not recorded: the bits of the two apart. */
function matmulOnto(to: Tensor | null, a: Tensor, b: Tensor): Tensor {
  if (!to) return matmul(a, b);
  const shape = [a.dim(0), b.dim(1)];
  const rows = reshape(to, shape);
  const whole = [rows, a, b].every((t) => t.storage.panels || t.storage.segments.length === 1);
  return whole && b.dim(1) <= MOST_LINES
    ? run(a, b, false, false, [], null, { op: 'add', with: rows })
    : add(rows, matmul(a, b));
}

/**
 * What is done to the rows of a linear layer: nothing, an activation, the addition of a residual, the activation of a gate times
 * them (`swiglu`: silu(with) * y).
 */
export type Then =
  | { readonly op: 'none' | ActivationName }
  | { readonly op: 'add' | GatedName; readonly with: Tensor };
const PLAIN: Then = { op: 'none' };

const thenOps = one(['none', ...ACTIVATION_NAMES, 'add', ...GATED_NAMES] as const);

/** @throws UserError for what there is not, and where what is added or multiplied is missing. */
export function checkThen(op: string, then: Then): void {
  checkValue(op, 'then', thenField, then);
  checkValue(op, 'then.op', thenOps, then.op);
  const takes = then.op === 'add' || gateOf(then.op) !== undefined;
  if (takes) checkValue(op, 'then.with', tensorField, (then as { with?: Tensor }).with);
  else if ('with' in then)
    throw new UserError('option', `${op}: then.with is there, but '${then.op}' takes nothing`);
}
const thenField = like<Then>(
  (value) => typeof value === 'object' && value !== null,
  "what follows: { op: 'none' }",
);

/** What {@link linearThen} does after the product, as an operation of its own. */
export function followed(y: Tensor, then: Then): Tensor {
  if (!('with' in then)) return then.op === 'none' ? y : activationFunctions[then.op](y);
  return then.op === 'add' ? add(then.with, y) : gated(then.op, then.with, y);
}

/**
 * {@link linear} and the operation after it in one kernel: act(y), residual + y or act(gate) * y, with the bits of the
 * operations apart. Where gradients are recorded an activation or a gate is an operation of its own, whose tape holds what it needs.
 * @throws ShapeError
 * @example
 * ```ts
 * import { linearThen, openDevice, tensor } from 'neurgrad/engine';
 *
 * const device = await openDevice();
 * const [x, w] = [tensor(device, [1, 2], [1, 2]), tensor(device, [1, 0, 0, 1], [2, 2])];
 * const y = linearThen(x, w, undefined, { op: 'add', with: tensor(device, [10, 20], [1, 2]) });
 * console.log([...(await y.read())]); // → [ 11, 22 ]
 * device.destroy();
 * ```
 */
export function linearThen(x: Tensor, w: Tensor, bias: Tensor | undefined, then: Then): Tensor {
  checkThen('linearThen', then);
  checkTensors('linearThen', { x, w });
  const operands = [x, w, ...(bias ? [bias] : []), ...('with' in then ? [then.with] : [])];
  oneDevice('linearThen', ...operands);
  if (sizeOf(x.shape) > 0 && then.op === 'add') return linearWith(then.with, x, w, bias);
  if (isRecording(operands) || sizeOf(x.shape) === 0 || then.op === 'none')
    return followed(linear(x, w, bias), then);
  return linearKernel(x, w, bias, then);
}

/** A norm that a product's kernel puts the rows of its left side through as it loads them. */
interface Prologue {
  readonly kind: NormVectors;
  /** Mean and rstd of each row, [rows, 2]. */
  readonly statistics: Tensor;
  /** Weight, and bias where there is one, [K] each. */
  readonly vectors: readonly Tensor[];
}

const NO_NORM: readonly Tensor[] = [];

/** A linear layer with what is before and after it in one kernel, without recording. @throws ShapeError */
export function linearKernel(
  x: Tensor,
  w: Tensor,
  bias: Tensor | undefined,
  then: Then,
  prologue: Prologue | null = null,
): Tensor {
  checkLinear(x, w, bias);
  const shape = [...x.shape.slice(0, -1), w.dim(0)];
  if ('with' in then && (then.with.dtype !== 'f32' || then.with.shape.join() !== shape.join()))
    throw new ShapeError(
      'linear',
      `${then.op} of ${then.with.dtype} ${showShape(then.with)} to [${shape.join(', ')}]`,
    );
  const rows = x.view([sizeOf(x.shape.slice(0, -1)), w.dim(1)], null);
  const y = run(rows, w, false, true, [], bias ?? null, then, 'f32', prologue);
  rows.dispose();
  const shaped = y.view(shape, null);
  y.dispose();
  return shaped;
}

/** The rows x [M, K] by each of the weights w [layers, N, K], with biases [layers, N]: [layers, M, N], without recording. */
export const stackedLinears = (x: Tensor, w: Tensor, bias: Tensor | null): Tensor =>
  run(x, w, false, true, [w.dim(0)], bias);

const weightsOnly = one(['weights']);

/**
 * 16-bit numbers widened to f32, exactly; quantised ones multiplied out; integers, exact up to 2^24. Its gradient is that of the same
 * numbers. @throws ShapeError
 */
export function toF32(x: Tensor, purpose?: 'weights'): Tensor {
  if (purpose !== undefined) checkValue('toF32', 'purpose', weightsOnly, purpose);
  checkTensor('toF32', 'x', x);
  if (x.dtype === 'f32') return x.view(x.shape, x.track);
  const y = empty(x.device, x.shape, 'f32', purpose);
  if (x.dtype === 'u32') castInto(x.storage, y.storage);
  else if (isQuantised(x.dtype)) dequantiseInto(x.storage, y.storage, x.dim(-1));
  else widenInto(x.storage, y.storage);
  return operation('toF32', [x], y, [], (dy) => [dy]);
}

/** Numbers cut off to integers, u32: 0 for those below 0 and NaN, 2^32 - 256 for those beyond. Integers have no gradient. @throws ShapeError */
export function toU32(x: Tensor): Tensor {
  checkTensor('toU32', 'x', x, ['f32', 'u32']);
  if (x.dtype === 'u32') return x.view(x.shape, null);
  const y = empty(x.device, x.shape, 'u32');
  castInto(x.storage, y.storage);
  return operation('toU32', [x], y, [], null);
}

function batchShape(a: Tensor, b: Tensor): number[] {
  const [p, q] = [a.shape.slice(0, -2), b.shape.slice(0, -2)];
  const rank = Math.max(p.length, q.length);
  return Array.from({ length: rank }, (_, i) => {
    const m = p[i - rank + p.length] ?? 1;
    const n = q[i - rank + q.length] ?? 1;
    if (m !== n && m !== 1 && n !== 1)
      throw new ShapeError('matmul', `${showShape(a)} x ${showShape(b)}: leading axes`);
    return m === 1 ? n : m;
  });
}

/** What one dispatch makes of a range along K: onto what C holds, the total of chunks or the sum within one, and whether it stays there. */
interface Stretch {
  readonly k: readonly [number, number];
  readonly onto: 'nothing' | 'total' | 'sum';
  /** Part of a chunk that lies in several buffers: summed apart until it is complete. */
  readonly apart: boolean;
}

/** Ranges along K in whole chunks, and what is between them: chunks that a cut goes through, in parts. */
function stretches(pieces: readonly (readonly [number, number])[]): Stretch[] {
  const k = pieces.at(-1)![1];
  const found: Stretch[] = [];
  for (const [begin, end] of pieces) {
    const up = Math.min(end, Math.ceil(begin / CHUNK) * CHUNK);
    const down = end === k ? end : Math.max(up, Math.floor(end / CHUNK) * CHUNK);
    if (up > begin) found.push({ k: [begin, up], onto: 'sum', apart: true });
    if (down > up) found.push({ k: [up, down], onto: up > 0 ? 'total' : 'nothing', apart: false });
    if (end > down) found.push({ k: [down, end], onto: 'nothing', apart: true });
  }
  return found;
}

/**
 * Rows, or columns, that one dispatch makes at most: a grid has so many workgroups along an axis, of 16 rows and columns or
 * more. A multiple of 128, where a binding may begin.
 */
const MOST_LINES = Math.floor((16 * MAX_GROUPS) / CUT) * CUT;
/** Products of a batch that one dispatch makes at most; after so many a binding may begin, whatever their size. */
const MOST_PRODUCTS = Math.floor(MAX_GROUPS / CUT) * CUT;

type Range = [number, number];

/** Ranges in parts of at most so many. */
const cutAt = (most: number, ranges: readonly (readonly [number, number])[]): Range[] =>
  ranges.flatMap(([begin, end]) =>
    Array.from(
      { length: Math.ceil((end - begin) / most) },
      (_, i): Range => [begin + i * most, Math.min(end, begin + (i + 1) * most)],
    ),
  );

/** Whether every range begins and ends at a multiple of 4, as four-wide access needs. */
const quads = (ranges: readonly (readonly [number, number])[]): boolean =>
  ranges.every(([begin, end]) => begin % 4 === 0 && end % 4 === 0);

/** The product without recording; a and b have the batch shape or none. */
function run(
  a: Tensor,
  b: Tensor,
  transA: boolean,
  transB: boolean,
  batch: readonly number[],
  bias: Tensor | null,
  then: Then = PLAIN,
  precision: Precision = 'f32',
  prologue: Prologue | null = null,
): Tensor {
  const extra = 'with' in then ? then.with : null;
  const norm = prologue ? [prologue.statistics, ...prologue.vectors] : NO_NORM;
  a.use();
  b.use();
  bias?.use();
  extra?.use();
  for (const t of norm) t.use();
  if (a.dtype !== 'f32' || b.dtype === 'u32' || (bias && bias.dtype !== 'f32'))
    throw new ShapeError('matmul', `dtypes ${a.dtype} x ${b.dtype}`);
  const m = a.dim(transA ? -1 : -2);
  const k = a.dim(transA ? -2 : -1);
  const n = b.dim(transB ? -2 : -1);
  const shape = [...batch, m, n];
  if (sizeOf(shape) === 0) return empty(a.device, shape);
  if (k === 0) return bias ? broadcastTo(bias.detach(), shape) : zeros(a.device, shape);
  const panels = precision === 'f32' && !transA && sizeOf(batch) === 1 ? b.storage.panels : null;
  if (panels && b.shape.join() === `${panels.n},${panels.k}`)
    return panelProduct(a, b, !transB, shape, { bias, epilogue: then.op, extra, norm: prologue });
  const vectorB = transB ? k % 4 === 0 : n % 4 === 0;
  if (b.dtype !== 'f32' && !vectorB) {
    const wide = noGrad(() => toF32(b, 'weights'));
    const y = run(a, wide, transA, transB, batch, bias, then, precision, prologue);
    wide.dispose();
    return y;
  }
  const cutAlongK = transA && transB && a.storage.segments.length > 1;
  if ((cutAlongK || (!transB && n > MOST_LINES)) && sizeOf(batch) === 1) {
    // A^T is cut along K, which B^T has inside its rows, or C along N, which B has inside its rows: (B^T A^T)^T is the same
    // product cut where both can be.
    const wide = noGrad(() => toF32(b));
    const turned = run(wide, a, !transB, !transA, batch, null, PLAIN, precision);
    const result = noGrad(() => transpose(turned));
    for (const t of [wide, turned]) t.dispose();
    return result;
  }
  const y = empty(a.device, shape);
  const batches = sizeOf(batch);
  if (batches > 1 && isQuantised(b.dtype))
    throw new ShapeError('matmul', `${b.dtype} weights cannot be a batch`);
  // Elements of a stored row of B: quantised rows are filled up to whole groups.
  const ldb = storedRow(b.dtype, transB ? k : n);
  const whole = (size: number): Range[] => [[0, size]];
  // One product: cut M where A or C is cut, N where B^T is, K where A^T or B is.
  const cut = (size: number, ...operands: Parameters<typeof commonRows>[2][number][]) =>
    batches > 1 ? whole(size) : commonRows('matmul', size, operands);
  const rows = (t: Tensor, rowLength: number) => ({ storage: t.storage, rowLength });
  const cutM = cutAt(
    MOST_LINES,
    cut(m, ...(transA ? [] : [rows(a, k)]), ...(extra ? [rows(extra, n)] : []), rows(y, n)),
  );
  const cutN = cutAt(MOST_LINES, cut(n, ...(transB ? [rows(b, ldb)] : [])));
  const cutK = cut(k, ...(transA ? [rows(a, m)] : []), ...(transB ? [] : [rows(b, ldb)]));
  const layout = {
    transA,
    transB,
    vectorA: quads(transA ? cutM : cutK),
    vectorB,
    vectorC: quads(cutN),
    tail: !quads(cutK),
    weight: b.dtype,
  } as const;
  const plain = { bias: false, accumulate: false };
  const complete = { ...plain, bias: bias !== null, epilogue: then.op, prologue: prologue?.kind };
  const lda = transA ? m : k;
  /** Part of the product: windows of elements, sizes, strides of a batch, and first elements in the windows. */
  const dispatch = (
    windows: { a: Range; b: Range; c: Range; bias: Range },
    sizes: { m: number; n: number; k: number; z: number },
    strides: readonly [a: number, b: number, c: number],
    first: readonly [a: number, b: number, c: number],
    fusion: Fusion = complete,
    to = y,
  ): void => {
    const shape = { ...sizes, ldb };
    const { kernel, rows, columns, rowsFirst } = productKernel(shape, layout, fusion, precision, a.device);
    const [down, across] = [Math.ceil(sizes.m / rows), Math.ceil(sizes.n / columns)];
    const params = [sizes.m, sizes.n, sizes.k, ...strides, lda, ldb, n, ...first, 0];
    if (prologue) params.push(windows.a[0] / k);
    a.device.dispatch(
      kernel,
      [
        a.storage.window(...windows.a),
        b.storage.window(...windows.b),
        ...norm.map((t) => t.storage.window()),
        ...after(fusion, windows.bias, windows.c),
        to.storage.window(...windows.c),
      ],
      params,
      rowsFirst ? [down, across, sizes.z] : [across, down, sizes.z],
      2 * sizes.m * sizes.n * sizes.k * sizes.z,
    );
  };
  /** Windows of what follows the sums. */
  const after = (fusion: Fusion, ofBias: Range, ofC: Range): BufferWindow[] => [
    ...(fusion.bias && bias ? [bias.storage.window(...ofBias)] : []),
    ...(fusion.epilogue !== undefined && extra ? [extra.storage.window(...ofC)] : []),
  ];
  /** Adds sums of chunks onto y. */
  const fold = (partial: Tensor, at: Range, chunks: number, fusion: Fusion): void => {
    const size = at[1] - at[0];
    const vector = n % 4 === 0;
    a.device.dispatch(
      matmulFold({ vector, bias: fusion.bias, accumulate: fusion.accumulate, epilogue: fusion.epilogue }),
      [
        partial.storage.window(...(chunks > 1 ? [] : at)),
        ...after(fusion, [0, n], at),
        y.storage.window(...at),
      ],
      [size, n, chunks],
      linearGrid(vector ? size / 4 : size),
    );
  };
  if (batches > 1) {
    if (m > MOST_LINES || n > MOST_LINES)
      throw new ShapeError(
        'matmul',
        `${batches} products of ${m} rows and ${n} columns; in a batch at most ${MOST_LINES} of each`,
      );
    const shared = (t: Tensor, length: number) =>
      t.size === length ? [] : [{ storage: t.storage, rowLength: length }];
    const operands = [...shared(a, m * k), ...shared(b, k * n), { storage: y.storage, rowLength: m * n }];
    for (const [begin, end] of cutAt(MOST_PRODUCTS, commonRows('matmul', batches, operands))) {
      const part = (t: Tensor, length: number): Range =>
        t.size === length ? [0, length] : [begin * length, end * length];
      dispatch(
        {
          a: part(a, m * k),
          b: part(b, k * n),
          c: [begin * m * n, end * m * n],
          bias: [begin * n, end * n],
        },
        { m, n, k, z: end - begin },
        [a.size === m * k ? 0 : m * k, b.size === k * n ? 0 : k * n, m * n],
        [0, 0, 0],
      );
    }
    return y;
  }
  const alone = [a, b, y].every((t) => t.storage.segments.length === 1) && cutM.length + cutN.length === 2;
  const shareable =
    alone &&
    precision === 'f32' &&
    !prologue &&
    !productKernel({ m, n, k, ldb }, layout, complete, precision, a.device).sharesK;
  const together = shareable ? sharedChunks({ m, n, k }, a.device.capabilities) : 0;
  if (together > 0) {
    const partial = empty(a.device, [together, m, n], 'f32', 'scratch');
    const along = [transA ? m : 1, transB ? 1 : ldb] as const;
    const chunks = Math.ceil(k / CHUNK);
    for (let from = 0; from < chunks; from += together) {
      const to = Math.min(chunks, from + together);
      // Whole chunks are a batch; a last, shorter one is a product of its own.
      const whole = Math.min(to, Math.floor(k / CHUNK));
      for (const [begin, end, length] of [
        [from, whole, CHUNK],
        [whole, to, k % CHUNK],
      ] as const)
        if (end > begin)
          dispatch(
            { a: [0, m * k], b: [0, b.storage.elements], c: [0, partial.size], bias: [0, n] },
            { m, n, k: length, z: end - begin },
            [CHUNK * along[0], CHUNK * along[1], m * n],
            [begin * CHUNK * along[0], begin * CHUNK * along[1], (begin - from) * m * n],
            plain,
            partial,
          );
      const last = to === chunks ? complete : plain;
      fold(partial, [0, m * n], to - from, { ...last, accumulate: from > 0 });
    }
    partial.dispose();
    return y;
  }
  // The units of a precision that was asked for sum in an order of their own.
  const steps: readonly Stretch[] =
    precision === 'f32'
      ? stretches(cutK)
      : cutK.map((range, i) => ({ k: range, onto: i > 0 ? 'total' : 'nothing', apart: false }));
  const lastK = cutK.at(-1)![1];
  const open = steps.some(({ apart }) => apart) ? empty(a.device, shape, 'f32', 'scratch') : null;
  for (const [m0, m1] of cutM)
    for (const [n0, n1] of cutN)
      for (const { k, onto, apart } of steps) {
        const [k0, k1] = k;
        dispatch(
          {
            a: transA ? [k0 * m, k1 * m] : [m0 * lda, m1 * lda],
            b: transB ? [n0 * ldb, n1 * ldb] : [k0 * ldb, k1 * ldb],
            c: [m0 * n, m1 * n],
            bias: [n0, n1],
          },
          { m: m1 - m0, n: n1 - n0, k: k1 - k0, z: 1 },
          [0, 0, 0],
          [transA ? m0 : k0, 0, n0],
          steps.length === 1 ? complete : { ...plain, accumulate: onto === 'total', resume: onto === 'sum' },
          apart ? open! : y,
        );
        if (apart && (k1 % CHUNK === 0 || k1 === lastK))
          fold(open!, [m0 * n, m1 * n], 1, { ...plain, accumulate: k1 > CHUNK });
      }
  open?.dispose();
  return y;
}
