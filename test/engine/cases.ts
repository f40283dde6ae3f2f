/**
 * The table of operations: inputs, the call, the same in the reference, the tolerance. Walked by the forward tests, by the
 * tests of gradients and second gradients (rows with `gradient`), and again on devices with capabilities masked off.
 *
 * Tolerances count float32 steps. For sums `floor` is the size of what is added up, since cancellation makes the result
 * itself no measure of the rounding errors.
 */

import type { Device, Tensor } from '../../engine/index.ts';
import * as engine from '../../engine/index.ts';
import { arrayCases } from './arrayCases.ts';
import { functionCases } from './functionCases.ts';
import { lossCases } from './lossCases.ts';
import type { Ref } from './reference.ts';
import * as reference from './reference.ts';
import { distinct, normal, type Tolerance, uniform } from './support.ts';

export interface Case {
  readonly name: string;
  readonly inputs: readonly Ref[];
  readonly run: (xs: readonly Tensor[], device: Device) => Tensor;
  readonly reference: (xs: readonly Ref[]) => Ref;
  readonly tolerance: Tolerance;
  /** Inputs to differentiate; small cases away from kinks only. */
  readonly gradient?: readonly number[];
}

const EXACT: Tolerance = { ulps: 0 };
const show = (shape: readonly number[]): string => `[${shape.join(',')}]`;

const SHAPES: readonly (readonly number[])[] = [
  [],
  [1],
  [3],
  [4],
  [5],
  [0],
  [65],
  [1, 1, 1],
  [2, 0, 3],
  [3, 5],
  [7, 13],
  [33, 13],
  [1, 257],
  [3, 5, 7],
  [2, 3, 4, 5],
  [2, 1, 3, 1, 5],
];

interface Unary {
  readonly name: string;
  readonly run: (x: Tensor) => Tensor;
  readonly f: (x: number) => number;
  readonly tolerance: Tolerance;
  /** Range of arguments; default -6 ... 6. */
  readonly from?: number;
  readonly to?: number;
}

const UNARIES: readonly Unary[] = [
  {
    name: 'affine',
    run: (x) => engine.affine(x, 1.5, -0.25),
    f: (x) => 1.5 * x - 0.25,
    tolerance: { ulps: 1, floor: 1 },
  },
  { name: 'neg', run: engine.neg, f: (x) => -x, tolerance: EXACT },
  {
    name: 'reciprocal',
    run: (x) => engine.reciprocal(x, 3),
    f: (x) => 3 / x,
    tolerance: { ulps: 3 },
    from: 0.1,
  },
  // WGSL allows exp 3 + 2 |x| steps, log and the trigonometric functions absolute errors.
  { name: 'exp', run: engine.exp, f: Math.exp, tolerance: { ulps: 15 } },
  { name: 'log', run: engine.log, f: Math.log, tolerance: { ulps: 4, floor: 1 }, from: 0.05 },
  { name: 'sqrt', run: engine.sqrt, f: Math.sqrt, tolerance: { ulps: 3 }, from: 0.05 },
  { name: 'rsqrt', run: engine.rsqrt, f: (x) => 1 / Math.sqrt(x), tolerance: { ulps: 3 }, from: 0.05 },
  { name: 'abs', run: engine.abs, f: Math.abs, tolerance: EXACT },
  { name: 'sign', run: engine.sign, f: Math.sign, tolerance: EXACT },
  { name: 'sin', run: engine.sin, f: Math.sin, tolerance: { ulps: 4096, floor: 1 }, from: -3, to: 3 },
  { name: 'cos', run: engine.cos, f: Math.cos, tolerance: { ulps: 4096, floor: 1 }, from: -3, to: 3 },
  { name: 'tanh', run: engine.tanh, f: Math.tanh, tolerance: { ulps: 16, floor: 1 } },
  {
    name: 'softcap',
    run: (x) => engine.softcap(x, 2.5, 0.8),
    f: (x) => 2.5 * Math.tanh((0.8 * x) / 2.5),
    tolerance: { ulps: 16, floor: 1 },
  },
  { name: 'erf', run: engine.erf, f: reference.erf, tolerance: { ulps: 8, floor: 0.1 } },
  { name: 'sigmoid', run: engine.sigmoid, f: reference.sigmoid, tolerance: { ulps: 16 } },
  { name: 'gelu', run: engine.gelu, f: reference.gelu, tolerance: { ulps: 8, floor: 1 } },
  {
    name: 'gelu tanh',
    run: (x) => engine.gelu(x, { approximate: 'tanh' }),
    f: reference.geluTanh,
    tolerance: { ulps: 16, floor: 1 },
  },
  { name: 'silu', run: engine.silu, f: reference.silu, tolerance: { ulps: 16 } },
  { name: 'square', run: engine.square, f: (x) => x * x, tolerance: { ulps: 1 } },
];

function unaryCases(): Case[] {
  return UNARIES.flatMap(({ name, run, f, tolerance, from = -6, to = 6 }, op) =>
    SHAPES.map((shape, i): Case => {
      const x = uniform(shape, 100 * op + i, from, to);
      return {
        name: `${name} ${show(shape)}`,
        inputs: [x],
        run: ([x]) => run(x!),
        reference: ([x]) => reference.map(x!, f),
        tolerance,
        ...(shape.join() === '7,13' ? { gradient: [0] } : {}),
      };
    }),
  );
}

const PAIRS: readonly (readonly [readonly number[], readonly number[]])[] = [
  [[], []],
  [[1], []],
  [[7], [7]],
  [[], [3, 5]],
  [[3, 5], [1]],
  [[1, 1, 1], [5]],
  [[0], [1]],
  [[2, 0, 3], [3]],
  [[4, 8], [8]],
  [[8], [3, 5, 8]],
  [
    [2, 3, 4],
    [3, 4],
  ],
  [[3, 5], [5]],
  [
    [3, 5],
    [3, 1],
  ],
  [
    [3, 1],
    [1, 5],
  ],
  [
    [33, 13],
    [33, 1],
  ],
  [
    [2, 1, 4],
    [1, 3, 1],
  ],
  [
    [2, 3, 1, 5],
    [3, 4, 1],
  ],
  [
    [2, 1, 3, 1, 5],
    [1, 4, 1, 2, 1],
  ],
  [
    [1, 2, 1, 3, 1, 2],
    [2, 1, 2, 1, 2, 1],
  ],
];

interface Binary {
  readonly name: string;
  readonly run: (a: Tensor, b: Tensor) => Tensor;
  readonly f: (u: number, v: number) => number;
  readonly tolerance: Tolerance;
  readonly differentiable: boolean;
}

const BINARIES: readonly Binary[] = [
  { name: 'add', run: engine.add, f: (u, v) => u + v, tolerance: { ulps: 1 }, differentiable: true },
  { name: 'sub', run: engine.sub, f: (u, v) => u - v, tolerance: { ulps: 1 }, differentiable: true },
  { name: 'mul', run: engine.mul, f: (u, v) => u * v, tolerance: { ulps: 1 }, differentiable: true },
  { name: 'div', run: engine.div, f: (u, v) => u / v, tolerance: { ulps: 4 }, differentiable: true },
  { name: 'maximum', run: engine.maximum, f: Math.max, tolerance: EXACT, differentiable: true },
  { name: 'minimum', run: engine.minimum, f: Math.min, tolerance: EXACT, differentiable: true },
  {
    name: 'greater',
    run: engine.greater,
    f: (u, v) => (u > v ? 1 : 0),
    tolerance: EXACT,
    differentiable: false,
  },
  {
    name: 'equal',
    run: engine.equal,
    f: (u, v) => (u === v ? 1 : 0),
    tolerance: EXACT,
    differentiable: false,
  },
];

function binaryCases(): Case[] {
  const gradientPairs = new Set(['7|7', '8|3,5,8', '3,1|1,5', '2,3,1,5|3,4,1', '|3,5']);
  return BINARIES.flatMap(({ name, run, f, tolerance, differentiable }, op) =>
    PAIRS.map(([p, q], i): Case => {
      // Halves of small integers meet often, for `equal`; quotients stay away from 0; kinks from the others.
      const make = (shape: readonly number[], seed: number): Ref =>
        differentiable
          ? reference.map(distinct(shape, seed), (v) =>
              Math.fround((v < 0 ? v - 0.5 : v + 0.5) + seed * 1e-3),
            )
          : reference.map(normal(shape, seed), Math.round);
      const [a, b] = [make(p, 1000 + 40 * op + i), make(q, 2000 + 40 * op + i)];
      return {
        name: `${name} ${show(p)} ${show(q)}`,
        inputs: [a, b],
        run: ([a, b]) => run(a!, b!),
        reference: ([a, b]) => reference.zip(a!, b!, f),
        tolerance,
        ...(differentiable && gradientPairs.has(`${p}|${q}`) ? { gradient: [0, 1] } : {}),
      };
    }),
  );
}

function whereCases(): Case[] {
  const triples: readonly (readonly (readonly number[])[])[] = [
    [[5], [5], [5]],
    [[], [], [3]],
    [[0, 3], [3], []],
    [
      [3, 1],
      [1, 5],
      [3, 5],
    ],
    [[2, 3, 1], [4], [3, 1]],
  ];
  return triples.map(([c, a, b], i) => {
    const mask = reference.map(normal(c!, 3000 + i), (v) => (v > 0 ? v : 0));
    return {
      name: `where ${show(c!)} ${show(a!)} ${show(b!)}`,
      inputs: [mask, normal(a!, 3100 + i), normal(b!, 3200 + i)],
      run: ([c, a, b]) => engine.where(c!, a!, b!),
      reference: ([c, a, b]) => reference.where(c!, a!, b!),
      tolerance: EXACT,
      gradient: [1, 2],
    };
  });
}

function reductionCases(): Case[] {
  const list: readonly { shape: readonly number[]; axes: readonly number[] | undefined; keep: boolean }[] = [
    { shape: [], axes: undefined, keep: false },
    { shape: [1], axes: undefined, keep: false },
    { shape: [5], axes: [0], keep: true },
    { shape: [3, 5], axes: [], keep: false },
    { shape: [3, 5], axes: undefined, keep: false },
    { shape: [3, 5], axes: [0], keep: false },
    { shape: [3, 5], axes: [-1], keep: true },
    { shape: [33, 65], axes: [1], keep: false },
    { shape: [65, 33], axes: [0], keep: true },
    { shape: [3, 4, 5], axes: [1], keep: false },
    { shape: [3, 4, 5], axes: [0, 2], keep: false },
    { shape: [3, 4, 5], axes: [2, 0], keep: true },
    { shape: [2, 3, 4, 5], axes: [1, 2], keep: false },
    { shape: [2, 1, 3, 1, 5], axes: [0, 1, 4], keep: true },
    { shape: [2, 17000], axes: [1], keep: false },
    { shape: [40001], axes: undefined, keep: false },
  ];
  const cases: Case[] = [];
  list.forEach(({ shape, axes, keep }, i) => {
    const small = reference.count(shape) <= 60;
    const length = Math.max(1, reference.count(shape));
    const call = `${show(shape)} over ${axes ? show(axes) : 'all'}${keep ? ' kept' : ''}`;
    // Random rounding errors of a tree and of 64 chains, each a small multiple of the square root of the length.
    const floor = 4 * Math.sqrt(length);
    cases.push(
      {
        name: `sum ${call}`,
        inputs: [normal(shape, 4000 + i)],
        run: ([x]) => engine.sum(x!, axes, keep),
        reference: ([x]) => reference.sum(x!, axes, keep),
        tolerance: { ulps: 4, floor },
        ...(small ? { gradient: [0] } : {}),
      },
      {
        name: `mean ${call}`,
        inputs: [normal(shape, 4100 + i)],
        run: ([x]) => engine.mean(x!, axes, keep),
        reference: ([x]) => reference.mean(x!, axes, keep),
        tolerance: { ulps: 4, floor: 1 },
        ...(small ? { gradient: [0] } : {}),
      },
      {
        name: `max ${call}`,
        inputs: [distinct(shape, 4200 + i)],
        run: ([x]) => engine.max(x!, axes, keep),
        reference: ([x]) => reference.max(x!, axes, keep),
        tolerance: EXACT,
        ...(small ? { gradient: [0] } : {}),
      },
    );
  });
  for (const [shape, axes] of [
    [[0], [0]],
    [[2, 0, 3], [1]],
    [[2, 0, 3], [0]],
    [[0, 3], [1]],
  ] as const)
    cases.push({
      name: `sum ${show(shape)} over ${show(axes)}`,
      inputs: [normal(shape, 1)],
      run: ([x]) => engine.sum(x!, axes),
      reference: ([x]) => reference.sum(x!, axes),
      tolerance: EXACT,
    });
  for (const shape of [[1], [5], [3, 7], [2, 3, 65], [3, 300], [0, 4]] as const)
    cases.push({
      name: `argmax ${show(shape)}`,
      // Rounded, so that there are ties: the first counts.
      inputs: [reference.map(normal(shape, 4300), Math.round)],
      run: ([x]) => engine.argmax(x!),
      reference: ([x]) => reference.argmax(x!),
      tolerance: EXACT,
    });
  return cases;
}

function matmulCases(): Case[] {
  const cases: Case[] = [];
  const sizes: readonly (readonly [number, number, number])[] = [
    [1, 1, 1],
    [1, 5, 7],
    [2, 4, 8],
    [3, 5, 7],
    [5, 8, 3],
    [7, 3, 4],
    [8, 4, 16],
    [33, 12, 65],
    [65, 16, 20],
    [3, 0, 4],
    [0, 3, 4],
    [3, 4, 0],
  ];
  for (const [m, k, n] of sizes)
    for (const transA of [false, true])
      for (const transB of [false, true]) {
        const a = normal(transA ? [k, m] : [m, k], 5000 + m);
        const b = normal(transB ? [n, k] : [k, n], 5100 + n);
        cases.push({
          name: `matmul ${m}x${k}x${n}${transA ? ' A^T' : ''}${transB ? ' B^T' : ''}`,
          inputs: [a, b],
          run: ([a, b]) => engine.matmul(a!, b!, { transA, transB }),
          reference: ([a, b]) => reference.matmul(a!, b!, transA, transB),
          tolerance: { ulps: 2, floor: Math.sqrt(k) * 4 },
          ...((m === 3 && k > 0 && n > 0) || (m === 2 && n === 8) ? { gradient: [0, 1] } : {}),
        });
      }
  const batches: readonly (readonly [readonly number[], readonly number[], boolean, boolean])[] = [
    [[3], [3], false, false],
    [[3], [3], true, true],
    [[2, 3], [2, 3], false, true],
    [[1], [3], false, false],
    [[3], [1], true, false],
    [[2, 1], [1, 3], false, true],
    [[2, 1], [3], true, true],
    [[3], [], false, true],
    [[3], [], true, false],
    [[], [3], false, false],
    [[2, 2, 2], [2], false, false],
    [[0], [1], false, false],
  ];
  batches.forEach(([p, q, transA, transB], i) => {
    const [m, k, n] = [3, 2, 4];
    cases.push({
      name: `matmul batches ${show(p)} ${show(q)}${transA ? ' A^T' : ''}${transB ? ' B^T' : ''}`,
      inputs: [
        normal([...p, ...(transA ? [k, m] : [m, k])], 5200 + i),
        normal([...q, ...(transB ? [n, k] : [k, n])], 5300 + i),
      ],
      run: ([a, b]) => engine.matmul(a!, b!, { transA, transB }),
      reference: ([a, b]) => reference.matmul(a!, b!, transA, transB),
      tolerance: { ulps: 2, floor: 6 },
      gradient: [0, 1],
    });
  });
  for (const [lead, k, n] of [
    [[3], 5, 7],
    [[2, 3], 4, 8],
    [[], 5, 4],
    [[1], 7, 1],
    [[33], 12, 65],
    [[0], 4, 4],
    [[2], 0, 3],
  ] as const)
    for (const bias of [false, true])
      cases.push({
        name: `linear ${show([...lead, k])} to ${n}${bias ? ' with bias' : ''}`,
        inputs: [
          normal([...lead, k], 5400 + n),
          normal([n, k], 5500 + n),
          ...(bias ? [normal([n], 5600 + n)] : []),
        ],
        run: ([x, w, b]) => engine.linear(x!, w!, b),
        reference: ([x, w, b]) => reference.linear(x!, w!, b),
        tolerance: { ulps: 2, floor: 4 * Math.sqrt(k) + 2 },
        ...(lead[0] !== 33 && lead[0] !== 0 && k > 0 ? { gradient: bias ? [0, 1, 2] : [0, 1] } : {}),
      });
  for (const [op, then] of [
    ['add', (r: number, y: number) => r + y],
    ['swiglu', (r: number, y: number) => r * reference.sigmoid(r) * y],
    ['geglu', (r: number, y: number) => reference.gelu(r) * y],
    ['geglu_tanh', (r: number, y: number) => reference.geluTanh(r) * y],
  ] as const)
    cases.push({
      name: `linearThen ${op}`,
      inputs: [normal([3, 4], 5700), normal([5, 4], 5701), normal([3, 5], 5702)],
      run: ([x, w, r]) => engine.linearThen(x!, w!, undefined, { op, with: r! }),
      reference: ([x, w, r]) => reference.zip(r!, reference.linear(x!, w!), then),
      tolerance: { ulps: 16, floor: 10 },
      gradient: [0, 1, 2],
    });
  return cases;
}

function shapeCases(): Case[] {
  const cases: Case[] = [];
  const add = (
    name: string,
    shapes: readonly (readonly number[])[],
    run: (xs: readonly Tensor[]) => Tensor,
    expected: (xs: readonly Ref[]) => Ref,
  ): void => {
    const inputs = shapes.map((shape, i) => normal(shape, 6000 + 10 * cases.length + i));
    const gradient = inputs.every((x) => x.data.length < 100 && x.data.length > 0)
      ? [...inputs.keys()]
      : undefined;
    cases.push({
      name,
      inputs,
      run,
      reference: expected,
      tolerance: EXACT,
      ...(gradient ? { gradient } : {}),
    });
  };
  for (const [from, to, whole] of [
    [[6], [2, 3], [2, 3]],
    [
      [2, 3, 4],
      [6, -1],
      [6, 4],
    ],
    [[1], [], []],
    [
      [0, 3],
      [3, 0],
      [3, 0],
    ],
  ] as const)
    add(
      `reshape ${show(from)} to ${show(to)}`,
      [from],
      ([x]) => engine.reshape(x!, to),
      ([x]) => reference.reshape(x!, whole),
    );
  for (const [shape, order] of [
    [[], []],
    [[3], [0]],
    [
      [3, 5],
      [1, 0],
    ],
    [
      [33, 65],
      [1, 0],
    ],
    [
      [2, 3, 4],
      [0, 1, 2],
    ],
    [
      [2, 3, 4],
      [2, 0, 1],
    ],
    [
      [2, 3, 4, 5],
      [0, 2, 1, 3],
    ],
    [
      [2, 3, 2, 3, 2],
      [4, 2, 0, 3, 1],
    ],
    [
      [2, 3, 2, 2, 2, 2],
      [5, 3, 1, 4, 2, 0],
    ],
    [
      [2, 0, 3],
      [2, 1, 0],
    ],
  ] as const)
    add(
      `permute ${show(shape)} ${show(order)}`,
      [shape],
      ([x]) => engine.permute(x!, order),
      ([x]) => reference.permute(x!, order),
    );
  for (const shape of [
    [1, 1],
    [3, 5],
    [2, 3, 4],
    [7, 0],
  ] as const)
    add(
      `transpose ${show(shape)}`,
      [shape],
      ([x]) => engine.transpose(x!),
      ([x]) => reference.transpose(x!),
    );
  for (const [shape, begin, end] of [
    [[7], [2], [5]],
    [[3, 5], [1], [3]],
    [
      [3, 5],
      [0, 1],
      [3, 4],
    ],
    [
      [3, 5],
      [2, 2],
      [2, 5],
    ],
    [
      [2, 3, 4, 5],
      [1, 0, 2, 1],
      [2, 3, 4, 3],
    ],
    [
      [2, 2, 2, 2, 3],
      [0, 1, 0, 1, 1],
      [2, 2, 2, 2, 3],
    ],
    [[3, 5], [], []],
  ] as const) {
    add(
      `slice ${show(shape)} ${show(begin)}:${show(end)}`,
      [shape],
      ([x]) => engine.slice(x!, begin, end),
      ([x]) => reference.slice(x!, begin, end),
    );
    const b = shape.map((_, i) => begin[i] ?? 0);
    const part = shape.map((size, i) => (end[i] ?? size) - b[i]!);
    add(
      `pad ${show(part)} at ${show(b)} of ${show(shape)}`,
      [part],
      ([x]) => engine.pad(x!, b, shape),
      ([x]) => reference.pad(x!, b, shape),
    );
  }
  for (const [shapes, axis] of [
    [[[3], [1], [4]], 0],
    [
      [
        [3, 5],
        [2, 5],
      ],
      0,
    ],
    [
      [
        [3, 5],
        [3, 1],
        [3, 0],
      ],
      1,
    ],
    [
      [
        [2, 3, 4],
        [2, 2, 4],
      ],
      -2,
    ],
    [[[2, 3]], 0],
  ] as const)
    add(
      `concat ${shapes.map(show).join(' ')} along ${axis}`,
      shapes,
      (xs) => engine.concat(xs, axis),
      (xs) => reference.concat(xs, axis),
    );
  for (const [from, to] of [
    [[], [3]],
    [[1], [0]],
    [[5], [3, 5]],
    [
      [3, 1],
      [3, 5],
    ],
    [
      [1, 3, 1, 2],
      [4, 2, 3, 5, 2],
    ],
    [
      [2, 1, 3, 1, 2],
      [2, 2, 3, 2, 2],
    ],
  ] as const)
    add(
      `broadcastTo ${show(from)} ${show(to)}`,
      [from],
      ([x]) => engine.broadcastTo(x!, to),
      ([x]) => reference.broadcastTo(x!, to),
    );
  return cases;
}

function rowCases(): Case[] {
  const cases: Case[] = [];
  for (const [size, width, index] of [
    [5, 3, [4, 0, 4, 2]],
    [7, 4, [6]],
    [3, 1, [0, 1, 2, 2, 2]],
    [3, 5, []],
    [33, 65, [32, 0, 31, 7, 7]],
  ] as const) {
    const small = size * width < 60 && index.length > 0;
    cases.push(
      {
        name: `gatherRows ${show([size, width])} ${index.length} rows`,
        inputs: [normal([size, width], 7000 + size)],
        run: ([x]) => engine.gatherRows(x!, index),
        reference: ([x]) => reference.gatherRows(x!, index),
        tolerance: EXACT,
        ...(small ? { gradient: [0] } : {}),
      },
      {
        name: `scatterAddRows ${show([index.length, width])} into ${size}`,
        inputs: [normal([index.length, width], 7100 + size)],
        run: ([x]) => engine.scatterAddRows(x!, index, size),
        reference: ([x]) => reference.scatterAddRows(x!, index, size),
        tolerance: { ulps: 4, floor: 4 },
        ...(small ? { gradient: [0] } : {}),
      },
    );
  }
  for (const [width, index] of [
    [1, [0]],
    [5, [4, 0, 3]],
    [65, [64, 0, 1, 2, 33]],
    [4, []],
  ] as const)
    cases.push(
      {
        name: `pick ${show([index.length, width])}`,
        inputs: [normal([index.length, width], 7200 + width)],
        run: ([x]) => engine.pick(x!, index),
        reference: ([x]) => reference.pick(x!, index),
        tolerance: EXACT,
        ...(index.length === 3 ? { gradient: [0] } : {}),
      },
      {
        name: `unpick ${show([index.length])} to ${width}`,
        inputs: [normal([index.length], 7300 + width)],
        run: ([x]) => engine.unpick(x!, index, width),
        reference: ([x]) => reference.unpick(x!, index, width),
        tolerance: EXACT,
        ...(index.length === 3 ? { gradient: [0] } : {}),
      },
    );
  return cases;
}

function softmaxCases(): Case[] {
  const cases: Case[] = [];
  const add = (
    shape: readonly number[],
    given: reference.SoftmaxOptions,
    scale = 1,
    lastKey?: number,
  ): void => {
    const size = reference.count(shape);
    const keys = Array.from({ length: shape.at(-1)! }, (_, key) => Number(key <= (lastKey ?? 0)));
    const options =
      lastKey === undefined ? given : { ...given, keyMask: Array.from({ length: shape[0]! }, () => keys) };
    const flags = [
      options.scale === undefined ? '' : ` scale ${options.scale}`,
      options.keyMask ? ' masked' : '',
      options.causal ? ' causal' : '',
      options.window ? ` window ${JSON.stringify(options.window)}` : '',
      lastKey === undefined ? '' : ` to key ${lastKey}`,
      scale === 1 ? '' : ` of +-${scale}`,
    ].join('');
    const withMask = (device: Device): engine.SoftmaxOptions => {
      const { keyMask, ...rest } = options;
      if (lastKey !== undefined) return { ...rest, lastKey: engine.integers(device, [lastKey]) };
      if (!keyMask) return rest;
      return {
        ...rest,
        keyMask: engine.integers(device, keyMask.flat(), [keyMask.length, keyMask[0]!.length]),
      };
    };
    const common = {
      inputs: [normal(shape, 8000 + size, scale)],
      ...(size > 0 && size <= 60 && scale === 1 ? { gradient: [0] } : {}),
    };
    cases.push(
      {
        ...common,
        name: `softmax ${show(shape)}${flags}`,
        run: ([x], device) => engine.softmax(x!, withMask(device)),
        reference: ([x]) => reference.softmax(x!, options),
        // The argument of exp carries the rounding of the score: eps |score|.
        tolerance: { ulps: 16 + 4 * scale, floor: 1e-3 },
      },
      {
        ...common,
        name: `logSoftmax ${show(shape)}${flags}`,
        // What is masked has a large constant instead of a logarithm, which would drown all differences.
        run: ([x], device) => {
          const y = engine.logSoftmax(x!, withMask(device));
          if (!options.keyMask && !options.causal && !options.window) return y;
          const zero = engine.zeros(device, []);
          return engine.where(engine.greater(y.detach(), engine.full(device, [], -1e29)), y, zero);
        },
        reference: ([x]) => reference.map(reference.logSoftmax(x!, options), (v) => (v < -1e29 ? 0 : v)),
        tolerance: { ulps: 8, floor: 4 * scale },
      },
    );
  };
  add([1], {});
  add([5], {});
  add([3, 7], {});
  add([3, 7], { scale: 0.3 });
  add([2, 3, 65], {});
  add([3, 1000], {});
  // A vocabulary, and one that no number of lanes divides.
  add([2, 32000], {});
  add([2, 31999], {});
  add([0, 4], {});
  add([2, 0], {});
  add([3, 9], {}, 1e4);
  add([2, 7], { scale: 0.3 }, 1, 0);
  add([3, 2, 7], {}, 1, 4);
  add([2, 1, 131], { causal: true }, 1, 98);
  add([4, 4], { causal: true });
  add([2, 3, 5], { causal: true, scale: 0.5 });
  const keyMask = [
    [1, 0, 1, 1, 0],
    [1, 1, 1, 0, 1],
  ];
  add([2, 5], { keyMask });
  add([2, 3, 5], { keyMask });
  add([2, 2, 2, 5], { keyMask, causal: true, scale: 0.7 });
  add([4, 4], { causal: true, window: { before: 1 } });
  add([2, 3, 5], { window: { before: 1, after: 0 }, scale: 0.5 });
  add([2, 3, 8], { window: { before: 2, after: 3 } });
  add([3, 5], { causal: true, window: { before: 0, after: 2 } });
  add([3, 3], { window: { after: 1 } });
  add([2, 2, 2, 5], { keyMask, window: { before: 1, after: 0 } });
  add([2, 70, 300], { causal: true, window: { before: 128 } });
  for (const [r, width, labels] of [
    [1, 1, [0]],
    [3, 7, [6, -100, 0]],
    [5, 65, [64, 0, 3, -100, 63]],
    [2, 1000, [999, 1]],
    [2, 32000, [31999, 0]],
    [2, 31999, [31998, 16000]],
  ] as const)
    for (const kind of ['crossEntropyRows', 'crossEntropy'] as const)
      cases.push({
        name: `${kind} ${show([r, width])}`,
        inputs: [normal([r, width], 8100 + width)],
        run: ([x]) => (kind === 'crossEntropy' ? engine.crossEntropy : engine.crossEntropyRows)(x!, labels),
        reference: ([x]) =>
          (kind === 'crossEntropy' ? reference.crossEntropy : reference.crossEntropyRows)(x!, labels),
        tolerance: { ulps: 16, floor: 1 },
        ...(r === 3 ? { gradient: [0] } : {}),
      });
  for (const [r, width, labels] of [
    [1, 2, [0]],
    [3, 7, [6, -100, 0]],
    [2, 31999, [31998, 16000]],
  ] as const)
    cases.push({
      name: `logOdds ${show([r, width])}`,
      inputs: [normal([r, width], 8200 + width)],
      run: ([x]) => engine.logOdds(x!, labels),
      reference: ([x]) => reference.logOdds(x!, labels),
      tolerance: { ulps: 16, floor: 1 },
      ...(r === 3 ? { gradient: [0] } : {}),
    });
  return cases;
}

/** Of heads, one weight for all: queries and keys of Qwen 3 and Gemma 3. */
function normOfHeadsCases(): Case[] {
  const parts = [normal([2, 3, 4, 5], 9250), normal([5], 9251)];
  return (['rms', 'rms1', 'layer'] as const).map((kind) => ({
    name: `rowNorm ${kind} of heads`,
    inputs: parts,
    run: ([x, weight]) => engine.rowNorm(x!, { kind, weight: weight!, eps: 1e-3 }),
    reference: ([x, w]) =>
      kind === 'layer'
        ? reference.layerNorm(x!, w!, zeroLike(w!), 1e-3)
        : reference.rmsNorm(x!, kind === 'rms1' ? onePlus(w!) : w!, 1e-3),
    tolerance: { ulps: 24, floor: 1 },
    gradient: [0, 1],
  }));
}

function normCases(): Case[] {
  const shapes = [[1, 1], [1, 5], [7], [3, 4], [2, 3, 13], [5, 65], [2, 300], [0, 4]] as const;
  return shapes.flatMap((shape, i): Case[] => {
    const width = shape.at(-1)!;
    const inputs = [normal(shape, 9000 + i), normal([width], 9100 + i), normal([width], 9200 + i)];
    const small = width > 1 && reference.count(shape) > 0 && reference.count(shape) < 60;
    return [
      {
        name: `layerNorm ${show(shape)}`,
        inputs,
        run: ([x, w, b]) => engine.layerNorm(x!, w!, b!, 1e-3),
        reference: ([x, w, b]) => reference.layerNorm(x!, w!, b!, 1e-3),
        tolerance: { ulps: 24, floor: 1 },
        ...(small ? { gradient: [0, 1, 2] } : {}),
      },
      {
        name: `rmsNorm ${show(shape)}`,
        inputs: inputs.slice(0, 2),
        run: ([x, w]) => engine.rmsNorm(x!, w!, 1e-5),
        reference: ([x, w]) => reference.rmsNorm(x!, w!, 1e-5),
        tolerance: { ulps: 24, floor: 1 },
        ...(small ? { gradient: [0, 1] } : {}),
      },
      {
        name: `rowNorm rms1 ${show(shape)}`,
        inputs: inputs.slice(0, 2),
        run: ([x, weight]) => engine.rowNorm(x!, { kind: 'rms1', weight: weight!, eps: 1e-5 }),
        reference: ([x, w]) => reference.rmsNorm(x!, onePlus(w!), 1e-5),
        tolerance: { ulps: 24, floor: 1 },
        ...(small ? { gradient: [0, 1] } : {}),
      },
      {
        name: `rowNorm layer without bias ${show(shape)}`,
        inputs: inputs.slice(0, 2),
        run: ([x, weight]) => engine.rowNorm(x!, { kind: 'layer', weight: weight!, eps: 1e-3 }),
        reference: ([x, w]) => reference.layerNorm(x!, w!, zeroLike(w!), 1e-3),
        tolerance: { ulps: 24, floor: 1 },
        ...(small ? { gradient: [0, 1] } : {}),
      },
      ...normLinearCases(inputs, small),
    ];
  });
}

const onePlus = (w: Ref): Ref => reference.map(w, (v) => 1 + v);
const zeroLike = (w: Ref): Ref => reference.map(w, () => 0);

/** Linear layers to 3 after each norm; some without a bias, and with a residual added. */
function normLinearCases([x, weight, shift]: Ref[], small: boolean): Case[] {
  const { shape } = x!;
  const inputs = [x!, weight!, normal([3, shape.at(-1)!], 9210), shift!];
  const [bias, residual] = [normal([3], 9211), normal([...shape.slice(0, -1), 3], 9212)];
  const tolerance = { ulps: 24, floor: 2 * Math.sqrt(shape.at(-1)!) };
  return [
    {
      name: `normLinear layer ${show(shape)}`,
      inputs: [...inputs, bias],
      run: ([x, weight, w, shift, b]) =>
        engine.normLinear(x!, { kind: 'layer', weight: weight!, bias: shift!, eps: 1e-3 }, w!, b!),
      reference: ([x, weight, w, shift, b]) =>
        reference.linear(reference.layerNorm(x!, weight!, shift!, 1e-3), w!, b!),
      tolerance,
      ...(small ? { gradient: [0, 1, 2, 3, 4] } : {}),
    },
    {
      name: `normLinear layer without bias ${show(shape)}`,
      inputs: inputs.slice(0, 3),
      run: ([x, weight, w]) => engine.normLinear(x!, { kind: 'layer', weight: weight!, eps: 1e-3 }, w!),
      reference: ([x, weight, w]) =>
        reference.linear(reference.layerNorm(x!, weight!, zeroLike(weight!), 1e-3), w!),
      tolerance,
      ...(small ? { gradient: [0, 1, 2] } : {}),
    },
    {
      name: `normLinear rms1 ${show(shape)}`,
      inputs: [...inputs.slice(0, 3), bias],
      run: ([x, weight, w, b]) => engine.normLinear(x!, { kind: 'rms1', weight: weight!, eps: 1e-3 }, w!, b!),
      reference: ([x, weight, w, b]) =>
        reference.linear(reference.rmsNorm(x!, onePlus(weight!), 1e-3), w!, b!),
      tolerance,
      ...(small ? { gradient: [0, 1, 2, 3] } : {}),
    },
    {
      name: `normLinear rms ${show(shape)}`,
      inputs: [...inputs.slice(0, 3), residual],
      run: ([x, weight, w, r]) =>
        engine.normLinear(x!, { kind: 'rms', weight: weight!, eps: 1e-3 }, w!, undefined, {
          op: 'add',
          with: r!,
        }),
      reference: ([x, weight, w, r]) =>
        reference.zip(reference.linear(reference.rmsNorm(x!, weight!, 1e-3), w!), r!, (y, r) => y + r),
      tolerance,
      ...(small ? { gradient: [0, 1, 2, 3] } : {}),
    },
  ];
}

function attentionCases(): Case[] {
  const cases: Case[] = [];
  // The last two turn a part of each head; speeds may be any.
  const slow = [0.7, 0.05];
  for (const [tokens, heads, size, positions, speeds] of [
    [1, 1, 2, [0], [1]],
    [3, 2, 4, [5, 0, 63], [1, 10000 ** (-2 / 4)]],
    [5, 3, 6, [0, 1, 2, 3, 3], [1, 10000 ** (-2 / 6), 10000 ** (-4 / 6)]],
    [3, 2, 8, [5, 0, 63], slow],
    [2, 3, 5, [7, 40], slow],
  ] as const)
    for (const direction of [1, -1] as const)
      cases.push({
        name: `rotary ${show([tokens, heads, size])} of ${2 * speeds.length} direction ${direction}`,
        inputs: [normal([tokens, heads, size], 9300 + tokens)],
        run: ([x], device) =>
          engine.rotary(
            x!,
            engine.integers(device, positions),
            2 * speeds.length === size
              ? engine.rotaryTable(device, 64, size, 10000)
              : new engine.RotaryAngles(device, Float64Array.from(speeds), 64).table(64),
            direction,
          ),
        reference: ([x]) => reference.rotary(x!, positions, speeds, direction),
        tolerance: { ulps: 4, floor: 2 },
        gradient: [0],
      });
  interface Attention {
    readonly of: readonly [batch: number, queries: number, keys: number];
    readonly heads: readonly [heads: number, keyHeads: number, size: number];
    readonly mask?: boolean;
    readonly options?: Omit<engine.AttentionOptions, 'keyMask' | 'onPattern' | 'fused'>;
  }
  const list: readonly Attention[] = [
    { of: [1, 1, 1], heads: [1, 1, 1] },
    { of: [2, 3, 3], heads: [2, 2, 2] },
    { of: [2, 3, 3], heads: [4, 2, 2], mask: true },
    { of: [1, 2, 5], heads: [4, 1, 3], options: { causal: true } },
    { of: [2, 4, 4], heads: [2, 1, 2], mask: true, options: { causal: true } },
    { of: [2, 3, 3], heads: [4, 2, 4], mask: true },
    { of: [1, 2, 5], heads: [4, 1, 8], options: { causal: true } },
    { of: [2, 4, 4], heads: [2, 1, 4], mask: true, options: { causal: true } },
    { of: [1, 33, 65], heads: [3, 3, 12], options: { causal: true } },
    { of: [1, 3, 4], heads: [2, 1, 2], options: { scale: 0.3 } },
    { of: [1, 4, 6], heads: [4, 2, 3], options: { causal: true, window: { before: 1 } } },
    { of: [2, 4, 4], heads: [2, 1, 2], mask: true, options: { window: { before: 2, after: 1 } } },
    { of: [1, 3, 4], heads: [2, 2, 3], options: { cap: 0.8, scale: 0.9 } },
    { of: [1, 4, 5], heads: [4, 1, 3], options: { cap: 0.5, causal: true, window: { before: 2 } } },
    { of: [2, 4, 4], heads: [2, 1, 2], mask: true, options: { cap: 1.5 } },
    { of: [1, 70, 300], heads: [4, 2, 12], options: { causal: true, window: { before: 9 }, cap: 2 } },
  ];
  for (const { of, heads: division, mask = false, options = {} } of list) {
    const [batch, queries, keys] = of;
    const [heads, keyHeads, size] = division;
    // The first key stays visible: a row that attends to nothing is nobody's business.
    const keyMask = Array.from({ length: batch }, (_, b) =>
      Array.from({ length: keys }, (_, i) => (i === 0 || (i + b) % 3 !== 1 ? 1 : 0)),
    );
    const words = Object.entries(options).map(([name, value]) =>
      value === true ? ` ${name}` : ` ${name} ${JSON.stringify(value)}`,
    );
    for (const fused of [true, false])
      cases.push({
        name: `attention ${of.join('x')} ${heads}/${keyHeads} heads of ${size}${mask ? ' masked' : ''}${words.join('')}${fused ? ' fused' : ''}`,
        inputs: [
          normal([batch, queries, heads, size], 9400),
          normal([batch, keys, keyHeads, size], 9401),
          normal([batch, keys, keyHeads, size], 9402),
        ],
        run: ([q, k, v], device) =>
          engine.attention(q!, k!, v!, {
            ...options,
            fused,
            ...(mask ? { keyMask: engine.integers(device, keyMask.flat(), [batch, keys]) } : {}),
          }),
        reference: ([q, k, v]) =>
          reference.attention(q!, k!, v!, { ...options, ...(mask ? { keyMask } : {}) }),
        tolerance: { ulps: 32, floor: 1 },
        ...(queries < 10 ? { gradient: [0, 1, 2] } : {}),
      });
  }
  cases.push({
    name: 'attentionPattern causal window cap',
    inputs: [normal([1, 2, 3, 5], 9403)],
    run: ([x]) => engine.attentionPattern(x!, 4, { causal: true, window: { before: 1 }, cap: 0.7 }),
    reference: ([x]) =>
      reference.softmax(
        reference.map(x!, (dot) => 0.7 * Math.tanh((0.5 * dot) / 0.7)),
        { causal: true, window: { before: 1 } },
      ),
    tolerance: { ulps: 32 },
    gradient: [0],
  });
  return cases;
}

/** Rows behind a shared prefix are rows of a batch that each hold it whole, and themselves last. */
function prefixAttentionCases(): Case[] {
  const list: readonly (readonly [
    sizes: readonly [number, number, number, number, number],
    options?: engine.ScoreOptions,
  ])[] = [
    [[1, 1, 1, 1, 1]],
    [[3, 5, 4, 2, 8]],
    [[2, 3, 2, 2, 3]],
    [[2, 0, 4, 2, 4]],
    // More keys than a block has, and more rows than a tile.
    [[5, 300, 6, 3, 12]],
    [[2, 5, 4, 2, 3], { scale: 0.4, window: { before: 2 } }],
    [[2, 5, 4, 2, 3], { window: { before: 9 } }],
    [[2, 3, 2, 1, 3], { window: { before: 0 } }],
    [[2, 4, 4, 2, 3], { cap: 0.6, window: { before: 1 } }],
    [[2, 0, 4, 2, 4], { cap: 0.6, window: { before: 1 } }],
    [[5, 300, 6, 3, 12], { window: { before: 131 }, cap: 1.5 }],
  ];
  return list.flatMap(([[rows, length, heads, keyHeads, size], options = {}]) => {
    const behind = (shared: Ref, own: Ref): Ref =>
      reference.build([rows, length + 1, keyHeads, size], ([r, j, h, d]) =>
        j! < length ? reference.at(shared, [h!, j!, d!]) : reference.at(own, [r!, h!, d!]),
      );
    return [true, false].map(
      (fused): Case => ({
        name: `prefixAttention ${rows}x${length} ${heads}/${keyHeads} heads of ${size}${Object.entries(
          options,
        )
          .map(([name, value]) => ` ${name} ${JSON.stringify(value)}`)
          .join('')}${fused ? ' fused' : ''}`,
        inputs: [
          normal([rows, heads, size], 9410),
          normal([rows, keyHeads, size], 9411),
          normal([rows, keyHeads, size], 9412),
          normal([keyHeads, length, size], 9413),
          normal([keyHeads, length, size], 9414),
        ],
        run: ([q, k, v, keys, values]) =>
          engine.prefixAttention(q!, k!, v!, length > 0 ? { keys: keys!, values: values! } : null, {
            ...options,
            fused,
          }),
        reference: ([q, k, v, keys, values]) =>
          reference.reshape(
            reference.attention(
              reference.reshape(q!, [rows, 1, heads, size]),
              behind(keys!, k!),
              behind(values!, v!),
              options,
            ),
            [rows, heads, size],
          ),
        tolerance: { ulps: 32, floor: 1 },
        ...(length < 10 ? { gradient: [0, 1, 2] } : {}),
      }),
    );
  });
}

function patchCases(): Case[] {
  const patches: readonly reference.Patch[] = [
    { at: 0, mode: 'set', value: 2.5 },
    { at: 3, mode: 'add', value: -1 },
    { at: 7, mode: 'scale', value: 3 },
    { at: 5, mode: 'addOutward', value: 0.5 },
    { at: 6, mode: 'addOutward', value: 0.5 },
    { at: 3, mode: 'scale', value: 2 },
    { at: 3, mode: 'addOutward', value: 4 },
    { at: 14, mode: 'set', value: 1 },
    { at: 14, mode: 'scale', value: -2 },
  ];
  return [patches, patches.slice(1, 2), []].map((list) => ({
    name: `patchElements ${list.length} patches`,
    inputs: [distinct([3, 5], 9500)],
    run: ([x]) => engine.patchElements(x!, list),
    reference: ([x]) => reference.patchElements(x!, list),
    tolerance: { ulps: 2 },
    gradient: [0],
  }));
}

function patchValuesCases(): Case[] {
  const at = [3, 0, 14, 7, 5];
  return (['set', 'add', 'scale', 'addOutward'] as const).map((mode) => ({
    name: `patchValues ${mode}`,
    inputs: [distinct([3, 5], 9510), distinct([5], 9511)],
    run: ([x, values]) => engine.patchValues(x!, at, mode, values!),
    reference: ([x, values]) =>
      reference.patchElements(
        x!,
        at.map((each, i) => ({ at: each, mode, value: values!.data[i]! })),
      ),
    tolerance: { ulps: 2 },
    gradient: [0, 1],
  }));
}

export const CASES: readonly Case[] = [
  ...unaryCases(),
  ...binaryCases(),
  ...whereCases(),
  ...reductionCases(),
  ...matmulCases(),
  ...shapeCases(),
  ...rowCases(),
  ...softmaxCases(),
  ...normCases(),
  ...normOfHeadsCases(),
  ...attentionCases(),
  ...prefixAttentionCases(),
  ...patchCases(),
  ...functionCases(),
  ...patchValuesCases(),
  ...arrayCases(),
  ...lossCases(),
];
