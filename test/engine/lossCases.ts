/** Rows of the table of operations (cases.ts): losses. */

import * as engine from '../../engine/index.ts';
import type { Case } from './cases.ts';
import * as reference from './reference.ts';
import { type Ref, ref } from './reference.ts';
import { normal, type Tolerance, uniform } from './support.ts';

type Loss = (x: engine.Tensor, t: engine.Tensor, options: never) => engine.Tensor;
interface Row {
  readonly run: Loss;
  readonly f: (x: number, t: number) => number;
  readonly options?: object;
  readonly x: (shape: readonly number[], seed: number) => Ref;
  readonly target: (shape: readonly number[], seed: number) => Ref;
}

const share = (shape: readonly number[], seed: number): Ref => uniform(shape, seed, 0.05, 0.95);
const softplus = (x: number): number => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
const huber = (delta: number) => (x: number, t: number) => {
  const d = Math.abs(x - t);
  return d <= delta ? (d * d) / 2 : delta * (d - delta / 2);
};
const wide = (shape: readonly number[], seed: number): Ref => normal(shape, seed, 3);
const logs = (shape: readonly number[], seed: number): Ref =>
  reference.map(share(shape, seed), (p) => Math.fround(Math.log(p)));

const ROWS: Readonly<Record<string, Row>> = {
  mseLoss: { run: engine.mseLoss, f: (x, t) => (x - t) ** 2, x: normal, target: normal },
  l1Loss: { run: engine.l1Loss, f: (x, t) => Math.abs(x - t), x: normal, target: normal },
  huberLoss: { run: engine.huberLoss, f: huber(1), x: wide, target: normal },
  'huberLoss to 0.4': {
    run: engine.huberLoss,
    f: huber(0.4),
    options: { delta: 0.4 },
    x: wide,
    target: normal,
  },
  binaryCrossEntropy: {
    run: engine.binaryCrossEntropy,
    f: (x, t) => -(t * Math.log(x) + (1 - t) * Math.log1p(-x)),
    x: share,
    target: share,
  },
  binaryCrossEntropyWithLogits: {
    run: engine.binaryCrossEntropyWithLogits,
    f: (x, t) => t * softplus(-x) + (1 - t) * softplus(x),
    x: wide,
    target: share,
  },
  klDiv: { run: engine.klDiv, f: (x, t) => t * (Math.log(t) - x), x: logs, target: share },
  'klDiv of logarithms': {
    run: engine.klDiv,
    f: (x, t) => Math.exp(t) * (t - x),
    options: { logTarget: true },
    x: logs,
    target: logs,
  },
};

export function lossCases(): Case[] {
  const tolerance: Tolerance = { ulps: 32, floor: 2 };
  return Object.entries(ROWS).flatMap(([name, { run, f, options, x, target }], i) =>
    (
      [
        [[3, 5], 'mean'],
        [[7], 'sum'],
        [[2, 1, 3], 'none'],
        [[], 'mean'],
        [[0], 'sum'],
      ] as const
    ).map(
      ([shape, reduction], j): Case => ({
        name: `${name} ${reduction} of [${shape}]`,
        inputs: [x(shape, 51_000 + 10 * i + j), target(shape, 52_000 + 10 * i + j)],
        run: ([x, t]) => run(x!, t!, { ...options, reduction } as never),
        reference: ([x, t]) => {
          const each = reference.zip(x!, t!, f);
          if (reduction === 'none') return each;
          const total = each.data.reduce((a, b) => a + b, 0);
          return ref([], [reduction === 'sum' ? total : total / each.data.length]);
        },
        tolerance,
        ...(shape.length > 0 && shape[0] !== 0 ? { gradient: [0, 1] } : {}),
      }),
    ),
  );
}
