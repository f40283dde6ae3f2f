/** Rows of the table of operations (cases.ts): reductions, order, elements by index, parts, and Einstein sums. */

import * as engine from '../../engine/index.ts';
import type { Case } from './cases.ts';
import * as reference from './reference.ts';
import { at, build, count, type Ref, ref } from './reference.ts';
import { distinct, normal, random, type Tolerance } from './support.ts';

type Tensor = engine.Tensor;
const EXACT: Tolerance = { ulps: 0 };
const small = (shape: readonly number[]): boolean => count(shape) > 0 && count(shape) <= 60;
const graded = (
  shape: readonly number[],
  inputs: readonly number[] = [0],
): { gradient?: readonly number[] } => (small(shape) ? { gradient: inputs } : {});

const REDUCTIONS: readonly (readonly [
  shape: readonly number[],
  axes: readonly number[] | undefined,
  keep: boolean,
])[] = [
  [[], undefined, false],
  [[5], [0], true],
  [[3, 5], undefined, false],
  [[3, 4, 5], [1], false],
  [[3, 4, 5], [0, 2], true],
  [[2, 1, 3, 1, 5], [0, -1], false],
  [[1, 2, 1, 3, 1, 2], [3], false],
  [[33, 65], [1], false],
];

const product = (x: Ref, axes?: readonly number[], keep = false): Ref => {
  const signs = reference.map(x, (v) => (v < 0 ? 1 : 0));
  const logs = reference.map(x, (v) => Math.log(Math.abs(v)));
  const odd = reference.sum(signs, axes, keep);
  return reference.zip(reference.sum(logs, axes, keep), odd, (l, n) => (n % 2 === 0 ? 1 : -1) * Math.exp(l));
};
const variance = (x: Ref, axes: readonly number[] | undefined, keep: boolean, correction: number): Ref => {
  const left = reference.zip(x, reference.mean(x, axes, true), (a, b) => a - b);
  const n = count(x.shape) / count(reference.sum(x, axes, false).shape);
  return reference.map(
    reference.sum(
      reference.map(left, (v) => v * v),
      axes,
      keep,
    ),
    (v) => v / Math.max(0, n - correction),
  );
};

function reductionCases(): Case[] {
  return REDUCTIONS.flatMap(([shape, axes, keep], i): Case[] => {
    const call = `[${shape}] over ${axes ? `[${axes}]` : 'all'}${keep ? ' kept' : ''}`;
    const one = reference.map(distinct(shape, 41_000 + i), (v) => Math.fround(v < 0 ? v - 0.5 : v + 0.5));
    const near = reference.map(normal(shape, 41_100 + i), (v) => Math.fround(v + 2));
    return [
      {
        name: `min ${call}`,
        inputs: [distinct(shape, 41_200 + i)],
        run: ([x]) => engine.min(x!, axes, keep),
        reference: ([x]) =>
          reference.map(
            reference.max(
              reference.map(x!, (v) => -v),
              axes,
              keep,
            ),
            (v) => -v,
          ),
        tolerance: EXACT,
        ...graded(shape),
      },
      {
        name: `prod ${call}`,
        inputs: [shape[0] === 33 ? reference.map(one, (v) => Math.fround(1 + v / 10)) : one],
        run: ([x]) => engine.prod(x!, axes, keep),
        reference: ([x]) => product(x!, axes, keep),
        tolerance: { ulps: 64 },
        ...graded(shape),
      },
      ...(shape.length === 0
        ? []
        : ([
            {
              name: `variance ${call}`,
              inputs: [near],
              run: ([x]: readonly Tensor[]) => engine.variance(x!, axes, { keepAxes: keep }),
              reference: ([x]: readonly Ref[]) => variance(x!, axes, keep, 1),
              tolerance: { ulps: 32, floor: 1 },
              ...graded(shape),
            },
            {
              name: `std ${call}`,
              inputs: [near],
              run: ([x]: readonly Tensor[]) => engine.std(x!, axes, { keepAxes: keep, correction: 0 }),
              reference: ([x]: readonly Ref[]) => reference.map(variance(x!, axes, keep, 0), Math.sqrt),
              tolerance: { ulps: 32, floor: 1 },
              ...graded(shape),
            },
          ] as Case[])),
    ];
  });
}

/** What `f` makes of the elements along an axis, in as many. */
function along(x: Ref, axis: number, f: (row: number[]) => number[]): Ref {
  const a = axis < 0 ? axis + x.shape.length : axis;
  const rowOf = (i: readonly number[]): number[] =>
    f(Array.from({ length: x.shape[a]! }, (_, j) => at(x, i.with(a, j))));
  return build(x.shape, (i) => rowOf(i)[i[a]!]!);
}

const AXES: readonly (readonly [shape: readonly number[], axis: number])[] = [
  [[1], 0],
  [[7], -1],
  [[0], 0],
  [[2, 0, 3], 1],
  [[3, 5], 0],
  [[3, 5], 1],
  [[3, 4, 5], 1],
  [[1, 2, 1, 3, 1, 2], 3],
  [[3, 1000], 1],
];

function orderCases(): Case[] {
  const ascending = (row: number[]): number[] => [...row].sort((a, b) => a - b);
  return AXES.flatMap(([shape, axis], i): Case[] => {
    const x = distinct(shape, 42_000 + i);
    const k = Math.min(2, shape.at(axis)!);
    const first = (y: Ref): Ref =>
      reference.slice(
        y,
        shape.map(() => 0),
        shape.map((n, a) => (a === (axis + shape.length) % shape.length ? k : n)),
      );
    return [
      {
        name: `cumsum [${shape}] along ${axis}`,
        inputs: [normal(shape, 42_100 + i)],
        run: ([x]) => engine.cumsum(x!, axis),
        reference: ([x]) =>
          along(x!, axis, (row) => row.map((_, j) => row.slice(0, j + 1).reduce((a, b) => a + b))),
        tolerance: { ulps: 8, floor: 4 * Math.sqrt(shape.at(axis)! + 1) },
        ...graded(shape),
      },
      {
        name: `sort [${shape}] along ${axis}`,
        inputs: [x],
        run: ([x]) => engine.sort(x!, axis).values,
        reference: ([x]) => along(x!, axis, ascending),
        tolerance: EXACT,
        ...graded(shape),
      },
      {
        name: `topK ${k} of [${shape}] along ${axis}`,
        inputs: [x],
        run: ([x]) => engine.topK(x!, k, axis).values,
        reference: ([x]) => first(along(x!, axis, (row) => ascending(row).reverse())),
        tolerance: EXACT,
        ...graded(shape),
      },
    ];
  });
}

function indexCases(): Case[] {
  const shapes: readonly (readonly [shape: readonly number[], axis: number, chosen: number])[] = [
    [[5], 0, 7],
    [[3, 5], 0, 2],
    [[3, 5], -1, 4],
    [[3, 4, 5], 1, 6],
    [[2, 1, 3, 1, 5], 2, 3],
    [[3, 5], 1, 0],
    [[17, 33], 1, 65],
  ];
  return shapes.flatMap(([shape, axis, chosen], i): Case[] => {
    const a = axis < 0 ? axis + shape.length : axis;
    const next = random(43_000 + i);
    const indexShape = shape.with(a, chosen);
    const index = Array.from({ length: count(indexShape) }, () => Math.floor(next() * shape[a]!));
    const places = ref(indexShape, index);
    const list = index.slice(0, chosen);
    const call = `[${shape}] along ${axis}`;
    const onDevice = (device: engine.Device): Tensor => engine.integers(device, index, indexShape);
    const scattered = (x: Ref, values: Ref, adds: boolean): Ref => {
      const data = Float64Array.from(x.data);
      const flat = build(x.shape, () => 0);
      const numbers = new Map<string, number>();
      let n = 0;
      build(flat.shape, (j) => {
        numbers.set(j.join(), n);
        return n++;
      });
      build(places.shape, (j) => {
        const to = numbers.get(j.with(a, at(places, j)).join())!;
        data[to] = (adds ? data[to]! : 0) + at(values, j);
        return 0;
      });
      return ref(x.shape, data);
    };
    return [
      {
        name: `gather ${call}`,
        inputs: [normal(shape, 43_100 + i)],
        run: ([x], device) => engine.gather(x!, onDevice(device), axis),
        reference: ([x]) => build(indexShape, (j) => at(x!, j.with(a, at(places, j)))),
        tolerance: EXACT,
        ...graded(shape),
      },
      {
        name: `indexSelect ${call}`,
        inputs: [normal(shape, 43_200 + i)],
        run: ([x]) => engine.indexSelect(x!, list, axis),
        reference: ([x]) => build(shape.with(a, list.length), (j) => at(x!, j.with(a, list[j[a]!]!))),
        tolerance: EXACT,
        ...(list.length > 0 ? graded(shape) : {}),
      },
      ...([true, false] as const).map(
        (adds): Case => ({
          name: `${adds ? 'scatterAdd' : 'scatter'} ${call}`,
          inputs: [normal(shape, 43_300 + i), normal(indexShape, 43_400 + i)],
          run: ([x, v], device) =>
            (adds ? engine.scatterAdd : engine.scatter)(x!, onDevice(device), v!, axis),
          reference: ([x, v]) => scattered(x!, v!, adds),
          tolerance: { ulps: 2, floor: adds ? 4 : 0 },
          ...(chosen > 0 ? graded(shape, [0, 1]) : {}),
        }),
      ),
    ];
  });
}

function partCases(): Case[] {
  const cuts: readonly (readonly [
    readonly number[],
    readonly (number | null)[],
    readonly (number | null)[],
    readonly number[],
  ])[] = [
    [[7], [1], [6], [2]],
    [[7], [-2], [1], [-2]],
    [[7], [null], [null], [-1]],
    [[5, 8], [-4, -6], [-1, -1], []],
    [
      [5, 8],
      [0, 7],
      [5, null],
      [2, -3],
    ],
    [[4, 8], [], [], [-1, 1]],
    [[2, 3, 4, 5, 2], [], [], [-1, 2, -2, 1, -1]],
    [[1, 2, 3, 2, 1, 2], [], [], [1, -1, -2, -1, 1, -1]],
    [[3, 0], [], [], [1, -1]],
    [[5], [3], [3], [-2]],
  ];
  const walk = (
    size: number,
    from: number | null | undefined,
    to: number | null | undefined,
    by: number,
  ): number[] => {
    const whole = (v: number | null | undefined, other: number): number =>
      v === null || v === undefined ? other : v < 0 ? v + size : v;
    const [b, e] = [whole(from, by > 0 ? 0 : size - 1), whole(to, by > 0 ? size : -1)];
    const places: number[] = [];
    for (let i = b; by > 0 ? i < e : i > e; i += by) places.push(i);
    return places;
  };
  const slices = cuts.map(([shape, begin, end, step], i): Case => {
    const places = shape.map((size, a) => walk(size, begin[a], end[a], step[a] ?? 1));
    return {
      name: `slice [${shape}] ${JSON.stringify([begin, end, step])}`,
      inputs: [normal(shape, 44_000 + i)],
      run: ([x]) => engine.slice(x!, begin, end, step),
      reference: ([x]) =>
        build(
          places.map((p) => p.length),
          (j) =>
            at(
              x!,
              j.map((n, a) => places[a]![n]!),
            ),
        ),
      tolerance: EXACT,
      ...(places.every((p) => p.length > 0) ? graded(shape) : {}),
    };
  });
  const one = (
    name: string,
    shape: readonly number[],
    run: (x: Tensor) => Tensor,
    want: (x: Ref) => Ref,
    i: number,
  ): Case => ({
    name: `${name} [${shape}]`,
    inputs: [normal(shape, 44_100 + i)],
    run: ([x]) => run(x!),
    reference: ([x]) => want(x!),
    tolerance: EXACT,
    ...graded(shape),
  });
  return [
    ...slices,
    one(
      'flip',
      [3, 5],
      (x) => engine.flip(x, -1),
      (x) => build(x.shape, ([i, j]) => at(x, [i!, 4 - j!])),
      0,
    ),
    one(
      'flip all',
      [3, 4],
      (x) => engine.flip(x),
      (x) => build(x.shape, ([i, j]) => at(x, [2 - i!, 3 - j!])),
      1,
    ),
    one(
      'tril',
      [2, 3, 5],
      (x) => engine.tril(x, 1),
      (x) => build(x.shape, (i) => (i[2]! <= i[1]! + 1 ? at(x, i) : 0)),
      2,
    ),
    one(
      'triu',
      [4, 3],
      (x) => engine.triu(x, -1),
      (x) => build(x.shape, (i) => (i[1]! >= i[0]! - 1 ? at(x, i) : 0)),
      3,
    ),
    one(
      'squeeze',
      [1, 3, 1, 2],
      (x) => engine.squeeze(x),
      (x) => reference.reshape(x, [3, 2]),
      4,
    ),
    one(
      'squeeze one',
      [1, 3, 1, 2],
      (x) => engine.squeeze(x, -2),
      (x) => reference.reshape(x, [1, 3, 2]),
      5,
    ),
    one(
      'unsqueeze',
      [3, 2],
      (x) => engine.unsqueeze(x, -1),
      (x) => reference.reshape(x, [3, 2, 1]),
      6,
    ),
    one(
      'split',
      [7, 2],
      (x) => engine.split(x, 3)[1]!,
      (x) => reference.slice(x, [3, 0], [6, 2]),
      7,
    ),
    one(
      'split sizes',
      [3, 7],
      (x) => engine.split(x, [2, 1, 4], 1)[2]!,
      (x) => reference.slice(x, [0, 3], [3, 7]),
      8,
    ),
    one(
      'unstack',
      [2, 3, 2],
      (x) => engine.unstack(x, 1)[2]!,
      (x) => build([2, 2], ([i, j]) => at(x, [i!, 2, j!])),
      9,
    ),
    ...[0, 1, -1].map(
      (axis): Case => ({
        name: `stack along ${axis}`,
        inputs: [normal([3, 2], 44_200), normal([3, 2], 44_201)],
        run: (xs) => engine.stack(xs, axis),
        reference: (xs) => {
          const a = axis < 0 ? axis + 3 : axis;
          return build([3, 2].toSpliced(a, 0, 2), (i) => at(xs[i[a]!]!, i.toSpliced(a, 1)));
        },
        tolerance: EXACT,
        gradient: [0, 1],
      }),
    ),
  ];
}

/** By nested loops over all letters. */
function einsum(equation: string, xs: readonly Ref[]): Ref {
  const [left, output] = equation.split('->') as [string, string];
  const terms = left.split(',');
  const sizes = new Map<string, number>();
  terms.forEach((term, i) => {
    [...term].forEach((letter, a) => {
      sizes.set(letter, xs[i]!.shape[a]!);
    });
  });
  const letters = [...new Set(left.replaceAll(',', ''))];
  const summed = letters.filter((letter) => !output.includes(letter));
  const inner = summed.map((letter) => sizes.get(letter)!);
  return build(
    [...output].map((letter) => sizes.get(letter)!),
    (o) => {
      let total = 0;
      build(inner, (s) => {
        const place = (letter: string): number =>
          output.includes(letter) ? o[output.indexOf(letter)]! : s[summed.indexOf(letter)]!;
        total += terms.reduce((p, term, i) => p * at(xs[i]!, [...term].map(place)), 1);
        return 0;
      });
      return total;
    },
  );
}

function einsumCases(): Case[] {
  const list: readonly (readonly [
    equation: string,
    shapes: readonly (readonly number[])[],
    plain?: string,
  ])[] = [
    [
      'ij,jk->ik',
      [
        [3, 5],
        [5, 2],
      ],
    ],
    [
      'ij,jk',
      [
        [3, 5],
        [5, 2],
      ],
      'ij,jk->ik',
    ],
    [
      'bij,bkj->bik',
      [
        [2, 3, 4],
        [2, 5, 4],
      ],
    ],
    ['i,j->ij', [[3], [4]]],
    ['i,i->', [[5], [5]]],
    ['ij->ji', [[3, 4]]],
    ['ij->j', [[3, 4]]],
    ['ii->i', [[4, 4]]],
    ['ii', [[4, 4]], 'ii->'],
    ['iji->j', [[3, 2, 3]]],
    [
      'bqhd,bkhd->bhqk',
      [
        [2, 3, 2, 4],
        [2, 2, 2, 4],
      ],
    ],
    [
      'ab,bc,cd->ad',
      [
        [2, 3],
        [3, 4],
        [4, 2],
      ],
    ],
    ['a,ab,b->', [[3], [3, 2], [2]]],
    [
      '...ij,...jk->...ik',
      [
        [2, 3, 4],
        [2, 4, 2],
      ],
      'bij,bjk->bik',
    ],
    ['...i->...', [[2, 3, 4]], 'abi->ab'],
    [
      'ij,ij->ij',
      [
        [3, 4],
        [3, 4],
      ],
    ],
    ['ij,k->j', [[2, 3], [4]]],
    [' i j , j -> i ', [[3, 4], [4]], 'ij,j->i'],
    [
      'ij,jk->ik',
      [
        [3, 0],
        [0, 2],
      ],
    ],
  ];
  return list.map(([equation, shapes, plain], i) => ({
    name: `einsum ${equation} ${shapes.map((s) => `[${s}]`).join(' ')}`,
    inputs: shapes.map((shape, j) => normal(shape, 45_000 + 10 * i + j)),
    run: (xs) => engine.einsum(equation, ...xs),
    reference: (xs) => einsum(plain ?? equation, xs),
    tolerance: { ulps: 4, floor: 12 },
    ...(shapes.every(small) ? { gradient: shapes.map((_, j) => j) } : {}),
  }));
}

/** Plain loops; x is [N, C, H, W]. */
function convolved(
  x: Ref,
  w: Ref,
  bias: Ref | undefined,
  stride: number,
  padding: number,
  dilation: number,
): Ref {
  const [n, c, h, width] = x.shape as [number, number, number, number];
  const [o, , k, l] = w.shape as [number, number, number, number];
  const places = (size: number, kernel: number): number =>
    Math.floor((size + 2 * padding - dilation * (kernel - 1) - 1) / stride) + 1;
  return build([n, o, places(h, k), places(width, l)], ([a, b, i, j]) => {
    let sum = bias ? bias.data[b!]! : 0;
    for (let d = 0; d < c; d++)
      for (let p = 0; p < k; p++)
        for (let q = 0; q < l; q++) {
          const [y, z] = [i! * stride + p * dilation - padding, j! * stride + q * dilation - padding];
          if (y >= 0 && y < h && z >= 0 && z < width) sum += at(x, [a!, d, y, z]) * at(w, [b!, d, p, q]);
        }
    return sum;
  });
}

function convCases(): Case[] {
  const list: readonly (readonly [
    x: readonly number[],
    w: readonly number[],
    options: engine.ConvOptions,
  ])[] = [
    [[1, 1, 4, 5], [1, 1, 2, 3], {}],
    [[2, 2, 5, 3], [3, 2, 3, 2], { stride: 2 }],
    [[1, 2, 3, 4], [2, 2, 1, 1], { stride: 2 }],
    [[1, 1, 7, 6], [2, 1, 2, 2], { dilation: 3, stride: 2 }],
  ];
  const two = list.map(
    ([x, w, options], i): Case => ({
      name: `conv2d [${x}] [${w}] ${JSON.stringify(options)}`,
      inputs: [normal(x, 46_000 + i), normal(w, 46_100 + i), normal([w[0]!], 46_200 + i)],
      run: ([x, w, b]) => engine.conv2d(x!, w!, b!, options),
      reference: ([x, w, b]) => convolved(x!, w!, b, options.stride ?? 1, 0, options.dilation ?? 1),
      tolerance: { ulps: 4, floor: 12 },
      gradient: [0, 1, 2],
    }),
  );
  const around: Case = {
    name: 'conv2d padded',
    inputs: [normal([1, 2, 3, 4], 46_300), normal([2, 2, 3, 3], 46_301)],
    run: ([x, w]) => engine.conv2d(x!, w!, null, { padding: 1 }),
    reference: ([x, w]) => convolved(x!, w!, undefined, 1, 1, 1),
    tolerance: { ulps: 4, floor: 12 },
    gradient: [0, 1],
  };
  const flat = (x: Ref): Ref => reference.reshape(x, x.shape.toSpliced(2, 0, 1));
  const one: Case = {
    name: 'conv1d strided',
    inputs: [normal([2, 3, 9], 46_400), normal([2, 3, 4], 46_401), normal([2], 46_402)],
    run: ([x, w, b]) => engine.conv1d(x!, w!, b!, { stride: 2 }),
    reference: ([x, w, b]) => {
      const y = convolved(flat(x!), flat(w!), b, 2, 0, 1);
      return reference.reshape(y, y.shape.toSpliced(2, 1));
    },
    tolerance: { ulps: 4, floor: 12 },
    gradient: [0, 1, 2],
  };
  const pooled = (x: Ref, size: number, stride: number, f: (v: number[]) => number): Ref => {
    const places = (n: number): number => Math.floor((n - size) / stride) + 1;
    return build([x.shape[0]!, x.shape[1]!, places(x.shape[2]!), places(x.shape[3]!)], ([a, b, i, j]) =>
      f(
        Array.from({ length: size * size }, (_, e) =>
          at(x, [a!, b!, i! * stride + Math.floor(e / size), j! * stride + (e % size)]),
        ),
      ),
    );
  };
  const pools = (
    [
      ['maxPool2d', engine.maxPool2d, (v: number[]) => Math.max(...v)],
      ['avgPool2d', engine.avgPool2d, (v: number[]) => v.reduce((a, b) => a + b) / v.length],
    ] as const
  ).flatMap(([name, run, f]) =>
    [2, 1].map(
      (stride): Case => ({
        name: `${name} by ${stride}`,
        inputs: [distinct([1, 2, 5, 4], 46_500)],
        run: ([x]) => run(x!, 2, { stride }),
        reference: ([x]) => pooled(x!, 2, stride, f),
        tolerance: { ulps: 2, floor: 1 },
        gradient: [0],
      }),
    ),
  );
  return [...two, around, one, ...pools];
}

export const arrayCases = (): Case[] => [
  ...reductionCases(),
  ...orderCases(),
  ...indexCases(),
  ...partCases(),
  ...einsumCases(),
  ...convCases(),
];
