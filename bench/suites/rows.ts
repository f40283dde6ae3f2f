/**
 * Operations that read and write rows and compute little: norms, softmax, cross-entropy over a vocabulary, embedding
 * gradients. Each takes turns with a copy of as many bytes, the most that this machine can do; `GB/s` counts each operand once.
 * Checked against float64 before they are timed.
 */

import {
  crossEntropyRows,
  full,
  grad,
  layerNorm,
  logSoftmax,
  rmsNorm,
  scatterAddRows,
  scope,
  softmax,
  type Tensor,
  tensor,
} from '../../engine/index.ts';
import { copyCeiling, linearGrid } from '../../kernels/index.ts';
import { demand, randomNumbers, relativeDifference } from '../reference.ts';
import type { Row } from '../rows.ts';
import { interleave, ratioOf } from '../timing.ts';
import type { Suite } from './suite.ts';

/** Of a row of numbers, and of its cotangent where the operation is a backward pass: the row of results in float64. */
type Exact = (x: Float64Array, dy: Float64Array, row: number) => ArrayLike<number>;

interface Operation {
  readonly name: string;
  readonly rows: number;
  readonly width: number;
  /** Elements that must be read and written, each once. */
  readonly elements: number;
  readonly forward: (x: Tensor) => Tensor;
  /** Times the gradient of x beside the forward pass that it needs. */
  readonly backward: boolean;
  readonly exact: Exact;
}

const EPS = 1e-5;
/** Of BERT-base. */
const WIDTH = 768;
const sumOf = (length: number, f: (i: number) => number): number => {
  let sum = 0;
  for (let i = 0; i < length; i++) sum += f(i);
  return sum;
};

/** Row by row in float64. */
function standardised(x: Float64Array, centred: boolean) {
  const mean = centred ? sumOf(x.length, (i) => x[i]!) / x.length : 0;
  const rstd = 1 / Math.sqrt(sumOf(x.length, (i) => (x[i]! - mean) ** 2) / x.length + EPS);
  return { rstd, values: x.map((v) => (v - mean) * rstd) };
}
const normBackward =
  (centred: boolean): Exact =>
  (x, dy) => {
    const { rstd, values } = standardised(x, centred);
    const level = centred ? sumOf(x.length, (i) => dy[i]!) / x.length : 0;
    const along = sumOf(x.length, (i) => dy[i]! * values[i]!) / x.length;
    return values.map((v, i) => rstd * (dy[i]! - level - v * along));
  };
const logarithms = (x: Float64Array): Float64Array => {
  const top = x.reduce((a, b) => Math.max(a, b));
  const lse = top + Math.log(sumOf(x.length, (i) => Math.exp(x[i]! - top)));
  return x.map((v) => v - lse);
};
const probabilities = (x: Float64Array): Float64Array => logarithms(x).map(Math.exp);

function operations(small: boolean, weight: Tensor, bias: Tensor): Operation[] {
  const [rows, width, vocabulary] = [small ? 128 : 1024, WIDTH, 32000];
  const label = (row: number): number => (row * 251) % vocabulary;
  const over = (name: string, rows: number, width: number, forward: Operation['forward']) => ({
    /** An operation and its backward pass. */
    both: (reads: readonly [number, number], exact: Exact, exactBackward: Exact): Operation[] =>
      [exact, exactBackward].map((exact, backward) => ({
        name: `${name} ${rows} x ${width}${backward ? ', forward and backward' : ''}`,
        rows,
        width,
        elements: reads[backward]! * rows * width,
        forward,
        backward: backward === 1,
        exact,
      })),
  });
  const classes = small ? 16 : 128;
  const labels = Array.from({ length: classes }, (_, row) => label(row));
  return [
    ...over('layer norm', rows, width, (x) => layerNorm(x, weight, bias, EPS)).both(
      [2, 5],
      (x) => standardised(x, true).values,
      normBackward(true),
    ),
    ...over('RMS norm', rows, width, (x) => rmsNorm(x, weight, EPS)).both(
      [2, 5],
      (x) => standardised(x, false).values,
      normBackward(false),
    ),
    ...over('softmax', classes, vocabulary, (x) => softmax(x)).both([2, 5], probabilities, (x, dy) => {
      const y = probabilities(x);
      const along = sumOf(x.length, (i) => y[i]! * dy[i]!);
      return y.map((p, i) => p * (dy[i]! - along));
    }),
    ...over('log softmax', classes, vocabulary, (x) => logSoftmax(x)).both([2, 5], logarithms, (x, dy) => {
      const total = sumOf(x.length, (i) => dy[i]!);
      return probabilities(x).map((p, i) => dy[i]! - p * total);
    }),
    ...over('cross-entropy', classes, vocabulary, (x) => crossEntropyRows(x, labels)).both(
      [1, 3],
      (x, _, row) => [-logarithms(x)[label(row)]!],
      (x, dy, row) => probabilities(x).map((p, i) => dy[0]! * (p - (i === label(row) ? 1 : 0))),
    ),
  ];
}

export const rowsSuite: Suite = async ({ device, rounds, clock, small, only, progress }) => {
  const rows: Row[] = [];
  const copy = async (sides: readonly Tensor[], elements: number): Promise<void> => {
    device.dispatch(
      copyCeiling(),
      sides.map((t) => t.storage.window()),
      [elements],
      linearGrid(elements / 4),
    );
    await device.finish();
  };
  const measure = async (name: string, elements: number, once: () => Tensor, checked: string) => {
    const contender = async (): Promise<void> => {
      scope(() => once().dispose());
      await device.finish();
    };
    const side = 4 * Math.ceil(elements / 8);
    const sides = [1, 2].map((value) => full(device, [side], value));
    const times = await interleave({ ours: contender, copy: () => copy(sides, side) }, rounds, clock);
    for (const t of sides) t.dispose();
    rows.push({
      suite: 'rows',
      shape: name,
      unit: 'ms',
      ours: times.ours.median,
      spread: times.ours.spread,
      figures: { 'GB/s': (4 * elements) / times.ours.median / 1e6, 'copy (ms)': times.copy.median },
      peers: {},
      ratio: ratioOf(times.copy, times.ours),
      ratioOf: 'copy / ours',
      checked,
    });
  };

  const held: Tensor[] = [];
  const hold = (t: Tensor): Tensor => {
    held.push(t);
    return t;
  };
  const weight = hold(full(device, [WIDTH], 1));
  const bias = hold(full(device, [WIDTH], 0));
  for (const { name, rows: count, width, elements, forward, backward, exact } of operations(
    small,
    weight,
    bias,
  )) {
    if (!name.includes(only)) continue;
    progress(`rows ${name}`);
    const host = randomNumbers(count * width, 1, 2);
    const x = hold(tensor(device, host, [count, width]));
    if (backward) x.requireGrad();
    const shape = scope(() => forward(x).detach());
    const cotangent = randomNumbers(shape.size, 2);
    const perRow = shape.size / count;
    const dy = hold(tensor(device, cotangent, shape.shape));
    shape.dispose();
    const once = (): Tensor => (backward ? grad(forward(x), [x], { cotangent: dy })[0]! : forward(x));
    const y = scope(once);
    const ours = await y.read();
    y.dispose();
    const theirs = new Float32Array(ours.length);
    for (let row = 0; row < count; row++)
      theirs.set(
        exact(
          Float64Array.from(host.subarray(row * width, (row + 1) * width)),
          Float64Array.from(cotangent.subarray(row * perRow, (row + 1) * perRow)),
          row,
        ),
        (row * theirs.length) / count,
      );
    const checked = demand(name, relativeDifference(ours, theirs), 1e-5);
    await measure(name, elements, once, checked);
  }

  const [size, width, count] = small ? [3052, WIDTH, 512] : [30522, WIDTH, 4096];
  const name = `embedding scatter ${count} rows into ${size} x ${width}`;
  if (name.includes(only)) {
    progress(`rows ${name}`);
    const host = randomNumbers(count * width, 3);
    // Every index about twice, and one very often, as padding is.
    const index = Array.from({ length: count }, (_, r) => (r % 8 === 0 ? 0 : (r * 7919) % (count >> 1)));
    const x = hold(tensor(device, host, [count, width]));
    const theirs = new Float64Array(size * width);
    for (let r = 0; r < count; r++)
      for (let i = 0; i < width; i++) theirs[index[r]! * width + i]! += host[r * width + i]!;
    const y = scatterAddRows(x, index, size);
    const checked = demand(name, relativeDifference(await y.read(), Float32Array.from(theirs)), 1e-5);
    y.dispose();
    await measure(name, count * width + size * width, () => scatterAddRows(x, index, size), checked);
  }
  for (const t of held) t.dispose();
  return rows;
};
