/** Rows of the table of operations (cases.ts): functions of one element, powers, comparisons and masks. */

import * as engine from '../../engine/index.ts';
import type { Case } from './cases.ts';
import type { Ref } from './reference.ts';
import * as reference from './reference.ts';
import { distinct, normal, type Tolerance, uniform } from './support.ts';

type Tensor = engine.Tensor;
const EXACT: Tolerance = { ulps: 0 };

const SHAPES: readonly (readonly number[])[] = [
  [],
  [0],
  [5],
  [2, 0, 3],
  [7, 13],
  [2, 1, 3, 1, 5],
  [1, 2, 1, 3, 1, 2],
];

/** Nearest whole number, halves to even. */
const toEven = (x: number): number => {
  const near = Math.round(x);
  return near - x === 0.5 && near % 2 !== 0 ? near - 1 : near;
};
const softplus = (x: number): number => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));

interface Unary {
  readonly name: string;
  readonly run: (x: Tensor) => Tensor;
  readonly f: (x: number) => number;
  readonly tolerance: Tolerance;
  readonly from?: number;
  readonly to?: number;
  /** Has a derivative other than 0 or nothing. */
  readonly flat?: true;
}

const UNARIES: readonly Unary[] = [
  { name: 'relu', run: engine.relu, f: (x) => Math.max(x, 0), tolerance: EXACT },
  {
    name: 'leakyRelu',
    run: (x) => engine.leakyRelu(x, 0.25),
    f: (x) => (x > 0 ? x : x / 4),
    tolerance: EXACT,
  },
  { name: 'softplus', run: engine.softplus, f: softplus, tolerance: { ulps: 16 } },
  { name: 'log1p', run: engine.log1p, f: Math.log1p, tolerance: { ulps: 4, floor: 0.5 }, from: -0.9 },
  { name: 'expm1', run: engine.expm1, f: Math.expm1, tolerance: { ulps: 16 }, to: 4 },
  { name: 'floor', run: engine.floor, f: Math.floor, tolerance: EXACT, flat: true },
  { name: 'ceil', run: engine.ceil, f: Math.ceil, tolerance: EXACT, flat: true },
  { name: 'round', run: engine.round, f: toEven, tolerance: EXACT, flat: true },
  {
    name: 'clamp',
    run: (x) => engine.clamp(x, -2, 3),
    f: (x) => Math.min(Math.max(x, -2), 3),
    tolerance: EXACT,
  },
  { name: 'pow of 3', run: (x) => engine.pow(x, 3), f: (x) => x ** 3, tolerance: { ulps: 3 } },
  { name: 'pow of -2', run: (x) => engine.pow(x, -2), f: (x) => x ** -2, tolerance: { ulps: 6 }, from: 0.5 },
  { name: 'pow of 0', run: (x) => engine.pow(x, 0), f: () => 1, tolerance: EXACT },
  {
    name: 'pow of 0.3',
    run: (x) => engine.pow(x, 0.3),
    f: (x) => x ** 0.3,
    tolerance: { ulps: 8 },
    from: 0.1,
  },
];

function unaryCases(): Case[] {
  return UNARIES.flatMap(({ name, run, f, tolerance, from = -6, to = 6, flat }, op) =>
    SHAPES.map(
      (shape, i): Case => ({
        name: `${name} [${shape}]`,
        inputs: [uniform(shape, 20_000 + 100 * op + i, from, to)],
        run: ([x]) => run(x!),
        reference: ([x]) => reference.map(x!, f),
        tolerance,
        ...(shape.join() === '7,13' && !flat ? { gradient: [0] } : {}),
      }),
    ),
  );
}

const PAIRS: readonly (readonly [readonly number[], readonly number[]])[] = [
  [[], []],
  [[7], [7]],
  [[], [3, 5]],
  [[3, 5], [1]],
  [[0], [1]],
  [[8], [3, 5, 8]],
  [
    [3, 1],
    [1, 5],
  ],
  [
    [1, 2, 1, 3, 1, 2],
    [2, 1, 2, 1, 2, 1],
  ],
];

const truth = (holds: boolean): number => (holds ? 1 : 0);
const MASKS: Readonly<
  Record<string, readonly [(a: Tensor, b: Tensor) => Tensor, (u: number, v: number) => number]>
> = {
  greaterEqual: [engine.greaterEqual, (u, v) => truth(u >= v)],
  less: [engine.less, (u, v) => truth(u < v)],
  lessEqual: [engine.lessEqual, (u, v) => truth(u <= v)],
  notEqual: [engine.notEqual, (u, v) => truth(u !== v)],
  logicalAnd: [engine.logicalAnd, (u, v) => truth(u !== 0 && v !== 0)],
  logicalOr: [engine.logicalOr, (u, v) => truth(u !== 0 || v !== 0)],
  logicalXor: [engine.logicalXor, (u, v) => truth((u !== 0) !== (v !== 0))],
};

function pairCases(): Case[] {
  const whole = (shape: readonly number[], seed: number): Ref =>
    reference.map(normal(shape, seed), Math.round);
  const masks = Object.entries(MASKS).flatMap(([name, [run, f]], op) =>
    PAIRS.map(
      ([p, q], i): Case => ({
        name: `${name} [${p}] [${q}]`,
        inputs: [whole(p, 30_000 + 40 * op + i), whole(q, 31_000 + 40 * op + i)],
        run: ([a, b]) => run(a!, b!),
        reference: ([a, b]) => reference.zip(a!, b!, f),
        tolerance: EXACT,
      }),
    ),
  );
  const powers = PAIRS.map(
    ([p, q], i): Case => ({
      name: `pow [${p}] [${q}]`,
      inputs: [
        reference.map(distinct(p, 32_000 + i), (v) => Math.fround(Math.abs(v) + 0.25)),
        reference.map(distinct(q, 33_000 + i), (v) => Math.fround(3 * v)),
      ],
      run: ([a, b]) => engine.pow(a!, b!),
      reference: ([a, b]) => reference.zip(a!, b!, (u, v) => u ** v),
      tolerance: { ulps: 16 },
      ...(['7|7', '8|3,5,8', '3,1|1,5', '|3,5'].includes(`${p}|${q}`) ? { gradient: [0, 1] } : {}),
    }),
  );
  return [...masks, ...powers];
}

export const functionCases = (): Case[] => [...unaryCases(), ...pairCases()];
