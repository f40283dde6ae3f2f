/**
 * Softmax over the last axis with the scale and masks of attention, log-softmax, and cross-entropy.
 */

import {
  crossEntropyBackward,
  crossEntropy as crossEntropyKernel,
  groupGrid,
  type Labelled,
  softmaxBackward,
  softmax as softmaxKernel,
} from '../../kernels/index.ts';
import { ShapeError } from '../errors.ts';
import { checkOptions, checkValue, finite, flag, like, optionsSchema } from '../options.ts';
import { rowShare } from '../rowShare.ts';
import { commonRows, rowsWindow } from '../storage.ts';
import {
  checkTensor,
  checkTensors,
  empty,
  full,
  integers,
  named,
  oneDevice,
  operation,
  showShape,
  Tensor,
  tensorField,
} from '../tensor.ts';
import { add, affine, exp, greater, mul, sub } from './elementwise.ts';
import { sum } from './reduce.ts';
import { checkIndices, unpickAt } from './rows.ts';
import { reshape } from './shape.ts';
import { throughTwin } from './twin.ts';
import { type KeyWindow, keyWindow, misplaced, seenKeys } from './window.ts';

/** Scale and masks of the scores. */
export interface SoftmaxOptions {
  /** Factor on the scores; default 1. */
  readonly scale?: number;
  /** u32 [batches, keys]: 0 hides a key. x is then [batches, ..., keys]. */
  readonly keyMask?: Tensor;
  /** Query q of x [..., queries, keys] sees keys 0 ... q + keys - queries, the last of which is its own. */
  readonly causal?: boolean;
  /** Only keys around a query's own. */
  readonly window?: KeyWindow;
  /**
   * u32 [1]: keys after this one are hidden from all, and the bits do not depend on how many they are. It is the last query's
   * own. For a cache with room, whose length lies on the device, where a recorded step finds the next one's.
   */
  readonly lastKey?: Tensor;
}

const softmaxOptions = optionsSchema<SoftmaxOptions>(
  {
    scale: finite,
    keyMask: tensorField,
    causal: flag,
    window: keyWindow,
    lastKey: tensorField,
  },
  { mask: 'keyMask', isCausal: 'causal', slidingWindow: 'window' },
);

function checkRows(op: string, x: Tensor): { rows: number; length: number } {
  checkTensor(op, 'x', x);
  if (x.rank === 0 || x.dtype !== 'f32')
    throw new ShapeError(op, `needs f32 rows, got ${x.dtype} ${showShape(x)}`);
  const length = x.dim(-1);
  return { rows: length === 0 ? 0 : x.size / length, length };
}

function run(x: Tensor, log: boolean, options: SoftmaxOptions): Tensor {
  const op = log ? 'logSoftmax' : 'softmax';
  checkOptions(op, softmaxOptions, options);
  const { rows, length } = checkRows(op, x);
  const { scale = 1, keyMask, causal, window, lastKey } = options;
  oneDevice(op, x, keyMask, lastKey);
  lastKey?.use();
  const y = empty(x.device, x.shape);
  if (rows === 0) return y;
  const queries = x.rank > 1 ? x.dim(-2) : 1;
  const batches = keyMask?.shape[0] ?? 1;
  if (
    keyMask &&
    (keyMask.dtype !== 'u32' || keyMask.rank !== 2 || batches !== x.dim(0) || keyMask.dim(1) !== length)
  )
    throw new ShapeError(op, `mask ${keyMask.dtype} ${showShape(keyMask)} for scores ${showShape(x)}`);
  if (lastKey && (lastKey.dtype !== 'u32' || lastKey.size !== 1))
    throw new ShapeError(op, `last key ${lastKey.dtype} ${showShape(lastKey)}, should be u32 [1]`);
  const reason = misplaced(queries, length, options);
  if (reason) throw new ShapeError(op, reason);
  const { before, after, past } = seenKeys(queries, length, options);
  const perBatch = rows / batches;
  // Without a mask any rows may be cut; with one, whole batches.
  const block = keyMask ? perBatch : causal || window ? queries : 1;
  const operands = [x, y].map((t) => ({ storage: t.storage, rowLength: length * block }));
  if (keyMask) operands.push({ storage: keyMask.storage, rowLength: length });
  const share = lastKey
    ? ({ lanes: x.device.rowLanes, vector: 1, held: 0 } as const)
    : rowShare(length, x.device, 'computed');
  for (const [begin, end] of commonRows(op, rows / block, operands)) {
    const range: [number, number] = [begin * block * length, end * block * length];
    x.device.dispatch(
      softmaxKernel({ log, masked: keyMask !== undefined, bounded: lastKey !== undefined }, share),
      [
        x.storage.window(...range),
        ...(keyMask ? [keyMask.storage.window(begin * length, end * length)] : []),
        ...(lastKey ? [lastKey.storage.window()] : []),
        y.storage.window(...range),
      ],
      [(end - begin) * block, length, scale, queries, perBatch, before, after, past],
      groupGrid((end - begin) * block),
      5 * (end - begin) * block * length,
    );
  }
  return y;
}

/**
 * Softmax over the last axis, shape kept. @throws ShapeError
 * @example
 * ```ts
 * import { openDevice, softmax, tensor } from 'neurgrad/engine';
 *
 * const device = await openDevice();
 * const p = softmax(tensor(device, [0, 0, 0, 0], [2, 2]), { causal: true });
 * console.log([...(await p.read())]); // → [ 1, 0, 0.5, 0.5 ]
 * device.destroy();
 * ```
 */
export function softmax(x: Tensor, options: SoftmaxOptions = {}): Tensor {
  const y = run(x, false, options);
  return withOutput('softmax', x, y, (dy, y) => [backward(y, dy, false, options)]);
}

/** log softmax over the last axis, shape kept. @throws ShapeError */
export function logSoftmax(x: Tensor, options: SoftmaxOptions = {}): Tensor {
  const y = run(x, true, options);
  return withOutput('logSoftmax', x, y, (dy, y) => [backward(y, dy, true, options)]);
}

/** An operation whose gradient is cheapest in terms of its output. */
function withOutput(op: string, x: Tensor, y: Tensor, pullback: (dy: Tensor, y: Tensor) => [Tensor]): Tensor {
  return operation(op, [x], y, [y], (dy, saved) => pullback(dy, saved[0]!));
}

function backward(y: Tensor, dy: Tensor, log: boolean, options: SoftmaxOptions): Tensor {
  const { scale = 1, keyMask, causal, window, lastKey } = options;
  // Softmax has 0 where it was masked, and needs no telling.
  const masked = log && (causal === true || [keyMask, window, lastKey].some((hides) => hides !== undefined));
  const { rows, length } = checkRows('softmax', y);
  const da = empty(y.device, y.shape);
  const operands = [y, dy, da].map((t) => ({ storage: t.storage, rowLength: length }));
  if (rows > 0)
    for (const [begin, end] of commonRows('softmax', rows, operands))
      y.device.dispatch(
        softmaxBackward(log, masked, rowShare(length, y.device)),
        [y, dy, da].map((t) => t.storage.window(begin * length, end * length)),
        [end - begin, length, scale],
        groupGrid(end - begin),
        4 * (end - begin) * length,
      );
  return operation(
    'softmaxBackward',
    [y, dy],
    da,
    [y, dy],
    throughTwin(2, (y, dy) => softmaxBackwardTwin(y!, dy!, log, scale, masked)),
  );
}

/** The backward kernel in primitive operations: the likeliest entry's cotangent is made of the others' where it exceeds 1/2. */
export function softmaxBackwardTwin(
  y: Tensor,
  dy: Tensor,
  log: boolean,
  scale: number,
  masked = true,
): Tensor {
  checkTensors('softmaxBackwardTwin', { y, dy });
  const above = (limit: number): Tensor => greater(y, full(y.device, [], limit));
  const sure = above(log ? Math.log(0.5) : 0.5);
  const surest = sum(mul(dy, sure), -1, true);
  if (!log) {
    const less = sub(dy, surest);
    return affine(mul(y, sub(less, sum(mul(y, less), -1, true))), scale, 0);
  }
  const p = exp(y);
  const unsure = affine(sure, -1, 1);
  const others = sum(mul(dy, unsure), -1, true);
  const rest = sum(mul(p, unsure), -1, true);
  const seen = masked ? mul(dy, above(-5e29)) : dy;
  const plain = sub(seen, mul(p, add(others, surest)));
  const closed = sub(mul(dy, rest), mul(p, others));
  return affine(add(mul(plain, unsure), mul(closed, sure)), scale, 0);
}

/** A label a row: integers, or u32 on the device. */
type Labels = ArrayLike<number> | Tensor;
const labelsField = like<Labels>(
  (value) =>
    Array.isArray(value) ||
    value instanceof Tensor ||
    (ArrayBuffer.isView(value) && !(value instanceof DataView)),
  'a list of integers, a label a row',
);

/** The label of rows that are not counted, as in PyTorch. */
const NOT_COUNTED = -100;

/**
 * @throws ShapeError unless there is a label a row, each -100 or a class; where only the device knows them, the next readback does.
 */
function checkLabels(op: string, logits: Tensor, labels: Labels): void {
  checkTensor(op, 'logits', logits);
  checkValue(op, 'labels', labelsField, labels);
  if (labels instanceof Tensor) {
    oneDevice(op, logits, labels);
    if (labels.dtype !== 'u32') throw new ShapeError(op, `labels of dtype ${labels.dtype}`);
    if (logits.rank !== 2 || labels.size !== logits.dim(0))
      throw new ShapeError(op, `labels ${showShape(labels)} for logits ${showShape(logits)}`);
    checkIndices(op, labels, logits.dim(1));
    return;
  }
  if (logits.rank !== 2 || labels.length !== logits.dim(0))
    throw new ShapeError(op, `${labels.length} labels for logits ${showShape(logits)}`);
  const classes = logits.dim(1);
  for (let i = 0; i < labels.length; i++) {
    const label: unknown = labels[i];
    const isClass = Number.isInteger(label) && (label as number) >= 0 && (label as number) < classes;
    if (!isClass && label !== NOT_COUNTED)
      throw new ShapeError(
        op,
        `label ${named(label)} of row ${i} is neither a class, 0..${classes - 1}, nor -100, which leaves a row out`,
      );
  }
}

/**
 * Cross-entropy of each row of logits [R, V] with an integer label, also one on the device (u32 [R], such as argmax gives); rows labelled -100 give 0. Result [R]: -log p, whose gradient
 * keeps its digits however near to 1 or 0 p is.
 * @throws ShapeError for any other label that is no class
 */
export function crossEntropyRows(logits: Tensor, labels: ArrayLike<number> | Tensor): Tensor {
  return labelled('crossEntropyRows', 'crossEntropy', logits, labels);
}

/**
 * Log odds of each row's label, log p / (1 - p): its logit less the logsumexp of all others, of logits [R, V]; rows labelled -100 give
 * 0. Labels may be on the device, u32 [R]. Result [R]. Its gradient is 1 at the label and minus the softmax of the others there, of ordinary size whatever p is:
 * dp = p (1 - p) times it, dlog p = (1 - p) times it, where p and 1 - p may be too small for a float32.
 * @example
 * ```ts
 * import { logOdds, openDevice, tensor } from 'neurgrad/engine';
 *
 * const device = await openDevice();
 * const odds = logOdds(tensor(device, [[20, 0, 0]]), [0]);
 * console.log((await odds.item()).toFixed(4)); // → 19.3069
 * device.destroy();
 * ```
 */
export function logOdds(logits: Tensor, labels: ArrayLike<number> | Tensor): Tensor {
  return affine(labelled('logOdds', 'oddsAgainst', logits, labels), -1, 0);
}

function labelled(door: string, op: Labelled, logits: Tensor, labels: Labels): Tensor {
  const { rows, length } = checkRows(door, logits);
  checkLabels(door, logits, labels);
  const label = labels instanceof Tensor ? labels.detach() : integers(logits.device, labels);
  const y = empty(logits.device, [rows]);
  const stats = empty(logits.device, [rows, 3]);
  const operands = [
    { storage: logits.storage, rowLength: length },
    { storage: label.storage, rowLength: 1 },
    { storage: y.storage, rowLength: 1 },
    { storage: stats.storage, rowLength: 3 },
  ];
  for (const [begin, end] of commonRows(op, rows, operands))
    logits.device.dispatch(
      crossEntropyKernel(op, rowShare(length, logits.device)),
      [
        logits.storage.window(begin * length, end * length),
        label.storage.window(begin, end),
        y.storage.window(begin, end),
        stats.storage.window(3 * begin, 3 * end),
      ],
      [end - begin, length],
      groupGrid(end - begin),
      4 * (end - begin) * length,
    );
  const result = operation(op, [logits], y, [logits, label, stats], (dy, saved) => [
    crossEntropyPullback(op, saved[0]!, saved[1]!, saved[2]!, dy),
  ]);
  label.dispose();
  stats.dispose();
  return result;
}

function crossEntropyPullback(
  op: Labelled,
  logits: Tensor,
  label: Tensor,
  stats: Tensor,
  dloss: Tensor,
): Tensor {
  const { rows, length } = checkRows(op, logits);
  const da = empty(logits.device, logits.shape);
  const operands = [logits, label, dloss, stats, da].map((t, i) => ({
    storage: t.storage,
    rowLength: [length, 1, 1, 3, length][i]!,
  }));
  for (const [begin, end] of commonRows(op, rows, operands))
    logits.device.dispatch(
      crossEntropyBackward(op, rowShare(length, logits.device)),
      operands.map((operand) => rowsWindow(operand, begin, end)),
      [end - begin, length],
      groupGrid(end - begin),
      4 * (end - begin) * length,
    );
  const twin = op === 'crossEntropy' ? crossEntropyBackwardTwin : oddsAgainstBackwardTwin;
  return operation(
    `${op}Backward`,
    [logits, dloss],
    da,
    [logits, dloss, label],
    throughTwin(2, (logits, dloss, label) => twin(logits!, dloss!, label!)),
  );
}

/** The backward kernel in primitive operations: dloss softmax at the other entries, minus their sum at the label. */
export function crossEntropyBackwardTwin(logits: Tensor, dloss: Tensor, label: Tensor): Tensor {
  const ones = full(logits.device, [logits.dim(0)], 1);
  const own = unpickAt(ones, label, logits.dim(1));
  const counted = sum(own, -1, true);
  const others = mul(softmax(logits), sub(counted, own));
  return mul(sub(others, mul(own, sum(others, -1, true))), reshape(dloss, [-1, 1]));
}

/** The same of `oddsAgainst`: the softmax of the other entries, and -1 at the label. */
export function oddsAgainstBackwardTwin(logits: Tensor, dloss: Tensor, label: Tensor): Tensor {
  const ones = full(logits.device, [logits.dim(0)], 1);
  const own = unpickAt(ones, label, logits.dim(1));
  const others = mul(softmax(add(logits, affine(own, -1e30, 0))), sum(own, -1, true));
  return mul(sub(others, own), reshape(dloss, [-1, 1]));
}

/**
 * Mean cross-entropy over the rows that are counted, of {@link crossEntropyRows}: the loss of language models.
 * @throws ShapeError as there, and where no row is counted
 * @example
 * ```ts
 * import { crossEntropy, openDevice, zeros } from 'neurgrad/engine';
 *
 * const device = await openDevice();
 * const loss = crossEntropy(zeros(device, [3, 8]), [5, -100, 0]);
 * console.log((await loss.item()).toFixed(4), Math.log(8).toFixed(4)); // → 2.0794 2.0794
 * device.destroy();
 * ```
 */
export function crossEntropy(logits: Tensor, labels: ArrayLike<number> | Tensor): Tensor {
  checkLabels('crossEntropy', logits, labels);
  let counted = labels instanceof Tensor ? labels.size : 0;
  if (!(labels instanceof Tensor))
    for (let i = 0; i < labels.length; i++) if (labels[i] !== NOT_COUNTED) counted++;
  if (counted === 0) throw new ShapeError('crossEntropy', 'no row has a label, all are -100');
  return affine(sum(crossEntropyRows(logits, labels)), 1 / counted, 0);
}
