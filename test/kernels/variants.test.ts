/**
 * Every kernel in every variant: unique name, at most 16 parameters, and WGSL that compiles, with parameters passed either
 * way. Dawn's null backend checks that without an adapter; another implementation's compiler reads all that its device offers.
 */

import { readdirSync, readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Device, KernelError, openDevice } from '../../engine/index.ts';
import * as curves from '../../kernels/curve.ts';
import * as differences from '../../kernels/difference.ts';
import * as shown from '../../kernels/index.ts';
import {
  type AttentionLanesVariant,
  type AttentionRowBackwardVariant,
  type AttentionTileVariant,
  type Kernel,
  MAX_PARAMS,
  type MatmulVariant,
  type ParameterPassing,
  TEXEL,
  wgsl,
} from '../../kernels/index.ts';
import { gemvUnit } from '../../kernels/matmulGemv.ts';
import * as panelProducts from '../../kernels/matmulPanels.ts';
import { PACKED_FORMATS } from '../../kernels/packing.ts';
import * as panels from '../../kernels/panels.ts';
import { buffersOf, complaintOf, isRoomy, MOST_BYTES, sharedBytes } from './compile.ts';

type Make = (...args: readonly unknown[]) => Kernel;
/** What the kernels below are called with, each variant once. */
const CALLS: (readonly [name: string, make: Make, args: readonly unknown[]])[] = [];
const recorded = <Library extends object>(library: Library): Library =>
  new Proxy(
    { ...library },
    {
      get(target, name: string) {
        const value: unknown = Reflect.get(target, name);
        if (!MAKERS.has(name)) return value;
        return (...args: readonly unknown[]): Kernel => {
          CALLS.push([name, value as Make, args]);
          return (value as Make)(...args);
        };
      },
    },
  );
/** The functions that make kernels, as the sources have them. */
const MAKERS: ReadonlySet<string> = new Set(
  readdirSync('kernels').flatMap((file) =>
    [...readFileSync(`kernels/${file}`, 'utf8').matchAll(/^export const (\w+) = shipped\(/gm)].map(
      (m) => m[1]!,
    ),
  ),
);
const kernels = recorded({ ...shown, ...curves, ...differences, ...panels, ...panelProducts });

const UNARY: readonly shown.UnaryName[] = [
  'affine',
  'reciprocal',
  'exp',
  'log',
  'sqrt',
  'rsqrt',
  'abs',
  'sign',
  'sin',
  'cos',
  'tanh',
  'softcap',
  'softcap_derivative',
  'erf',
  'sigmoid',
  'copy',
  'log1p',
  'expm1',
  'softplus',
  'power',
  'clamp',
  'within',
  'leaky',
  'step',
  'floor',
  'ceil',
  'round',
  'is_nan',
  'is_finite',
  ...kernels.ACTIVATION_NAMES.flatMap((act) => [act, `${act}_derivative`] as const),
];
const BINARY: readonly shown.BinaryName[] = [
  'add',
  'sub',
  'mul',
  'div',
  'maximum',
  'minimum',
  'greater',
  'greater_equal',
  'equal',
  'above',
  'same',
  'power',
];
const INTEGER_BINARY: readonly shown.IntegerBinaryName[] = [
  'add',
  'sub',
  'mul',
  'maximum',
  'minimum',
  'greater',
  'greater_equal',
  'equal',
];
const LAYOUTS: readonly shown.BinaryLayout[] = [
  'same',
  'repeatA',
  'repeatB',
  'scalarA',
  'scalarB',
  'strided',
];
const BOTH = [false, true] as const;
const LANES = [8, 64] as const;
const { PANEL_TILES } = panelProducts;
const NORMS = ['layer', 'layer_no_bias', 'rms', 'rms1'] as const;
/** Read again in each sweep, held, and as much held as there can be. */
const SHARES: readonly shown.RowShare[] = ([1, 4] as const).flatMap((vector) => [
  { lanes: 8, vector, held: 0 },
  { lanes: 64, vector, held: 3 },
  { lanes: 256, vector, held: 32 / vector },
]);

/** Few rows, many, and on narrow subgroups. */
const COLUMN_SHARES: readonly shown.ColumnShare[] = ([1, 4] as const).flatMap((vector) => [
  { rowLanes: 1, columnLanes: 64, vector },
  { rowLanes: 16, columnLanes: 16, vector },
  { rowLanes: 1, columnLanes: 16, vector },
]);
/** None held. */
const LONG = SHARES.filter(({ held }) => held === 0);

/** All transpositions, load widths and tails, on four tiles; bias, accumulation, 16-bit weights and the other tiles on some. */
function matmuls(): Kernel[] {
  const variants: MatmulVariant[] = [];
  const plain = { groupM: 2, groupN: 8, bias: false, accumulate: false, weight: 'f32' } as const;
  const every = (
    extra: Partial<MatmulVariant>,
    tiles: readonly (readonly [1 | 2 | 4 | 8, 4 | 8])[],
  ): void => {
    for (const transA of BOTH)
      for (const transB of BOTH)
        for (const vectorA of BOTH)
          for (const vectorB of BOTH)
            for (const vectorC of BOTH)
              for (const tail of BOTH)
                for (const [tileM, tileN] of tiles) {
                  if (tail && ((vectorA && !transA) || (vectorB && transB))) continue;
                  if (extra.weight && !vectorB) continue;
                  if (extra.prologue && transA) continue;
                  variants.push({
                    ...plain,
                    transA,
                    transB,
                    vectorA,
                    vectorB,
                    vectorC,
                    tail,
                    tileM,
                    tileN,
                    ...extra,
                  });
                }
  };
  every({}, [
    [1, 4],
    [2, 8],
    [4, 4],
    [8, 8],
  ]);
  every({ weight: 'f16' }, [
    [1, 4],
    [8, 8],
  ]);
  for (const weight of ['half', ...PACKED_FORMATS] as const) every({ weight }, [[8, 8]]);
  every({ weight: 'bf16' }, [
    [1, 4],
    [8, 8],
  ]);
  every({ bias: true }, [[1, 8]]);
  every({ accumulate: true }, [[8, 4]]);
  every({ resume: true }, [[8, 4]]);
  every({ groupM: 8, groupN: 32 }, [
    [4, 8],
    [2, 4],
  ]);
  every({ epilogue: 'gelu', bias: true }, [[8, 8]]);
  every({ epilogue: 'add' }, [[4, 8]]);
  every({ epilogue: 'swiglu' }, [[2, 8]]);
  for (const prologue of NORMS) {
    every({ prologue, bias: true, epilogue: 'add' }, [
      [1, 4],
      [8, 8],
    ]);
    for (const weight of ['f16', 'int8', 'int4'] as const) every({ prologue, weight }, [[8, 8]]);
  }
  const [transA, transB, vector] = [false, true, true];
  for (const epilogue of EPILOGUES)
    variants.push({
      ...plain,
      ...{ transA, transB, vectorA: vector, vectorB: vector, vectorC: vector, tail: false },
      ...{ tileM: 2, tileN: 4, epilogue },
    });
  return variants.map((v) => kernels.matmul(v));
}

const BLOCKS = [
  { blockM: 32, blockN: 32, blockK: 32, tileM: 4, tileN: 4, fewRegisters: false },
  { blockM: 128, blockN: 128, blockK: 16, tileM: 8, tileN: 8, fewRegisters: false },
  { blockM: 32, blockN: 32, blockK: 16, tileM: 4, tileN: 4, fewRegisters: true },
] as const;
/** Those that a left side of this layout may have. */
const prologues = (transA: boolean): readonly shown.NormVectors[] => (transA ? [] : NORMS);
const EPILOGUES: readonly shown.Epilogue[] = [
  'none',
  'add',
  ...kernels.ACTIVATION_NAMES,
  ...kernels.GATED_NAMES,
];

function matmulBlocks(): Kernel[] {
  const plain = { bias: false, accumulate: false, weight: 'f32' } as const;
  return BLOCKS.flatMap((block) =>
    BOTH.flatMap((transA) =>
      BOTH.flatMap((transB) =>
        BOTH.flatMap((vectorC) => {
          const base = { transA, transB, vectorC, ...block };
          return [
            ...EPILOGUES.map((epilogue) => kernels.matmulBlock({ ...base, ...plain, bias: true, epilogue })),
            ...(['f16', 'half', 'bf16', 'int8', 'int4', ...PACKED_FORMATS] as const).map((weight) =>
              kernels.matmulBlock({ ...base, ...plain, weight }),
            ),
            kernels.matmulBlock({ ...base, ...plain, accumulate: true }),
            kernels.matmulBlock({ ...base, ...plain, resume: true }),
            ...prologues(transA).flatMap((prologue) => [
              kernels.matmulBlock({ ...base, ...plain, bias: true, epilogue: 'swiglu', prologue }),
              kernels.matmulBlock({ ...base, ...plain, weight: 'bf16', prologue }),
            ]),
          ];
        }),
      ),
    ),
  );
}

function matmulUnits(): Kernel[] {
  const plain = { bias: false, accumulate: false } as const;
  const unit = (size: number, lanes: number) => ({ unitM: size, unitN: size, unitK: size, lanes });
  const blocks = [
    { blockM: 64, blockN: 64, blockK: 32, split: false, ...unit(16, 64) },
    { blockM: 32, blockN: 32, blockK: 32, split: true, ...unit(8, 32) },
  ];
  return BOTH.flatMap((transA) =>
    BOTH.flatMap((transB) =>
      blocks.flatMap((block) => {
        const base = { transA, transB, vectorA: 4, vectorB: 4, weight: 'f32', ...plain, ...block } as const;
        return [
          ...(transA ? [] : EPILOGUES).map((epilogue) =>
            kernels.matmulUnits({ ...base, bias: true, epilogue }),
          ),
          ...([4, 8] as const).map((vectorB) => kernels.matmulUnits({ ...base, vectorB, weight: 'f16' })),
          kernels.matmulUnits({ ...base, vectorA: 1, vectorB: 1 }),
          kernels.matmulUnits({ ...base, accumulate: true }),
          ...prologues(transA).flatMap((prologue) => [
            kernels.matmulUnits({ ...base, epilogue: 'add', prologue }),
            kernels.matmulUnits({ ...base, vectorA: 1, prologue }),
          ]),
        ];
      }),
    ),
  );
}

function matmulGemvs(): Kernel[] {
  const plain = { bias: false, accumulate: false } as const;
  return BOTH.flatMap((transB) => {
    const few = { transB, tileM: 1, tileN: 2, lanes: 16, piece: transB ? 128 : 16 } as const;
    const more = { transB, tileM: 4, tileN: 1, lanes: 4, piece: transB ? 32 : 8 } as const;
    return [
      ...[...WEIGHTS, 'half' as const].map((weight) =>
        kernels.matmulGemv({
          ...few,
          weight,
          ...plain,
          piece: transB ? Math.max(128, gemvUnit(weight)) : 16,
        }),
      ),
      ...EPILOGUES.map((epilogue) =>
        kernels.matmulGemv({ ...more, weight: 'f32', ...plain, bias: true, epilogue }),
      ),
      ...NORMS.map((prologue) =>
        kernels.matmulGemv({ ...more, weight: 'bf16', ...plain, bias: true, prologue }),
      ),
      kernels.matmulGemv({ ...more, weight: 'f16', ...plain, tileM: 2, accumulate: true }),
      kernels.matmulGemv({ ...more, weight: 'f16', ...plain, tileM: 2, resume: true }),
      kernels.matmulGemv({ ...few, weight: 'int8', ...plain, tileN: 1, inSteps: true }),
    ];
  });
}

const attentionLanes = (make: (v: AttentionLanesVariant) => Kernel): Kernel[] =>
  BOTH.flatMap((masked) =>
    BOTH.map((capped) => make({ masked, capped, lanes: 8, tile: 8, each: 2, block: 128 })),
  );
/** Heads whose rows stay in workgroup memory or do not, in one part of columns or two, and of no whole number of quads. */
const attentionTiles = (make: (v: AttentionTileVariant) => Kernel, cuts = true): Kernel[] =>
  [64, 80, 96, 128, 256, 13].flatMap((size) =>
    BOTH.flatMap((flag) =>
      (cuts ? BOTH : [false]).flatMap((cut) =>
        BOTH.map((roomy) =>
          make({
            size,
            masked: flag,
            capped: flag !== cut,
            bounded: !flag,
            cut,
            roomy,
            rolled: flag === roomy,
          }),
        ),
      ),
    ),
  );

/** Of as many rows as there may be of a head. */
const attentionRows = <V>(make: (v: AttentionRowBackwardVariant, other: boolean) => V): V[] =>
  ([1, 2, 4, 8] as const).flatMap((rows) =>
    [20, 64, 1024 / Math.max(rows, 4)].flatMap((size) =>
      BOTH.map((flag) => make({ size, rows, capped: flag, rolled: !flag }, flag)),
    ),
  );

const REALS = ['f32', 'f16', 'bf16'] as const;
const HALVES = ['f16', 'bf16'] as const;
const QUANTISED = ['int8', 'int4'] as const;
const GROUPED = [...QUANTISED, ...PACKED_FORMATS] as const;
const WEIGHTS = [...REALS, ...GROUPED] as const;
const LABELLED = ['crossEntropy', 'oddsAgainst'] as const;

/** Variants by the name of the function that makes them. */
const VARIANTS: Record<string, readonly Kernel[]> = {
  adamw: (['f32', 'f16'] as const).flatMap((gradient) =>
    BOTH.flatMap((copy) => BOTH.map((coupled) => kernels.adamw({ gradient, copy, coupled }))),
  ),
  argmaxRows: LANES.map((lanes) => kernels.argmaxRows(lanes)),
  activationBackward: kernels.ACTIVATION_NAMES.map((act) => kernels.activationBackward(act)),
  ...Object.fromEntries(
    (['gated', 'gatedBackward'] as const).map((name) => [
      name,
      kernels.GATED_NAMES.map((each) => kernels[name](each)),
    ]),
  ),
  halvesCheck: [kernels.halvesCheck()],
  cacheToken: BOTH.map((turned) => kernels.cacheToken(turned)),
  binary: BINARY.flatMap((name) => LAYOUTS.map((layout) => kernels.binary(name, layout))),
  integerBinary: INTEGER_BINARY.flatMap((name) =>
    LAYOUTS.map((layout) => kernels.integerBinary(name, layout)),
  ),
  castIntegers: (['f32', 'u32'] as const).map((to) => kernels.castIntegers(to)),
  random: (['uniform', 'normal', 'bernoulli', 'integer'] as const).map((each) => kernels.random(each)),
  scanRows: LANES.map((lanes) => kernels.scanRows(lanes)),
  lastPlaces: [kernels.lastPlaces()],
  sgd: BOTH.map((momentum) => kernels.sgd(momentum)),
  sortKeys: [kernels.sortKeys()],
  sortStep: [kernels.sortStep()],
  ...Object.fromEntries(
    (['quantise', 'quantiseWhole'] as const).map((name) => [
      name,
      REALS.flatMap((from) => QUANTISED.map((to) => kernels[name](from, to))),
    ]),
  ),
  dequantise: GROUPED.map((from) => kernels.dequantise(from)),
  narrow: REALS.flatMap((from) =>
    HALVES.flatMap((to) => BOTH.map((infinite) => kernels.narrow(from, to, infinite))),
  ),
  normDifference: (['layer', 'rms', 'rms1'] as const).flatMap((norm) =>
    LANES.map((lanes) => kernels.normDifference(norm, lanes)),
  ),
  ...Object.fromEntries(
    (['activationDifference', 'gatedDifference'] as const).map((name) => [
      name,
      kernels.ACTIVATION_NAMES.flatMap((act) => BOTH.map((wide) => kernels[name](act, wide))),
    ]),
  ),
  keyDifference: BOTH.flatMap((wide) => BOTH.map((queries) => kernels.keyDifference(wide, queries))),
  mixDifference: BOTH.map((wide) => kernels.mixDifference(wide)),
  projectedScore: BOTH.map((wide) => kernels.projectedScore(wide)),
  projectedMix: BOTH.map((wide) => kernels.projectedMix(wide)),
  capDifference: BOTH.map((wide) => kernels.capDifference(wide)),
  cappedScoreDifference: [kernels.cappedScoreDifference()],
  patternDifference: [kernels.patternDifference()],
  addOwn: [kernels.addOwn('own'), kernels.addOwn('query')],
  injectColumns: BOTH.map((panels) => kernels.injectColumns(panels)),
  targetDifference: LANES.map((lanes) => kernels.targetDifference(lanes)),
  lineDifference: LANES.map((lanes) => kernels.lineDifference(lanes)),
  curveSums: (['prob', 'logprob', 'logit'] as const).map((of) => kernels.curveSums(of)),
  crossEntropy: LABELLED.flatMap((of) => LONG.map((share) => kernels.crossEntropy(of, share))),
  crossEntropyBackward: LABELLED.flatMap((of) =>
    LONG.map((share) => kernels.crossEntropyBackward(of, share)),
  ),
  attentionForwardLanes: attentionLanes(kernels.attentionForwardLanes),
  attentionBackwardQueriesLanes: attentionLanes(kernels.attentionBackwardQueriesLanes),
  attentionBackwardKeysLanes: attentionLanes(kernels.attentionBackwardKeysLanes),
  attentionStatisticsLanes: attentionLanes(kernels.attentionStatisticsLanes),
  attentionForwardTiles: attentionTiles(kernels.attentionForwardTiles),
  attentionBackwardQueriesTiles: attentionTiles(kernels.attentionBackwardQueriesTiles),
  attentionBackwardKeysTiles: attentionTiles(kernels.attentionBackwardKeysTiles, false),
  attentionStatisticsTiles: attentionTiles(kernels.attentionStatisticsTiles),
  attentionForwardRows: attentionRows((v, cut) =>
    kernels.attentionForwardRows({ ...v, bounded: v.rows === 1 || !cut, cut }),
  ),
  attentionStatisticsRows: attentionRows((v) => kernels.attentionStatisticsRows(v)),
  attentionBackwardQueriesRows: attentionRows((v) => kernels.attentionBackwardQueriesRows(v)),
  attentionBackwardKeysRows: attentionRows((v) => kernels.attentionBackwardKeysRows(v)),
  attentionMerge: ([1, 4] as const).map((vector) => kernels.attentionMerge(vector)),
  chunkSums: ([1, 4] as const).map((vector) => kernels.chunkSums(vector)),
  clipFactor: [kernels.clipFactor()],
  copyCeiling: [kernels.copyCeiling()],
  fill: [kernels.fill()],
  fmaCeiling: [kernels.fmaCeiling()],
  gatherRows: WEIGHTS.map((format) => kernels.gatherRows(format)),
  checkIndices: [kernels.checkIndices()],
  linkRows: LANES.map((lanes) => kernels.linkRows(lanes)),
  matmul: matmuls(),
  matmulLanes: BOTH.flatMap((transA) =>
    BOTH.flatMap((transB) =>
      BOTH.map((bias) =>
        kernels.matmulLanes({ transA, transB, tileM: 16, tileN: 4, lanes: 8, bias, accumulate: !bias }),
      ).concat(
        kernels.matmulLanes({
          ...{ transA, transB, tileM: 16, tileN: 4, lanes: 8 },
          ...{ bias: false, accumulate: false, resume: true },
        }),
        EPILOGUES.map((epilogue) =>
          kernels.matmulLanes({
            transA,
            transB,
            tileM: 16,
            tileN: 2,
            lanes: 8,
            bias: false,
            accumulate: false,
            epilogue,
          }),
        ),
        prologues(transA).map((prologue) =>
          kernels.matmulLanes({
            transA,
            transB,
            tileM: 32,
            tileN: 4,
            lanes: 8,
            bias: true,
            accumulate: false,
            epilogue: 'add',
            prologue,
          }),
        ),
      ),
    ),
  ),
  matmulPanels: PANEL_TILES.flatMap((tile) =>
    BOTH.flatMap((turned) =>
      BOTH.flatMap((vectorC) => [
        ...EPILOGUES.map((epilogue) => kernels.matmulPanels({ tile, turned, vectorC, bias: true, epilogue })),
        kernels.matmulPanels({ tile, turned, vectorC, bias: false }),
      ]),
    ),
  ),
  panelRows: PANEL_TILES.flatMap((tile) =>
    BOTH.flatMap((vector) =>
      [undefined, ...NORMS].map((prologue) => kernels.panelRows({ tile, vector, prologue })),
    ),
  ),
  packPanels: [kernels.packPanels()],
  unpackPanels: [kernels.unpackPanels()],
  gatherPanels: [kernels.gatherPanels()],
  matmulBlock: matmulBlocks(),
  matmulGemv: matmulGemvs(),
  matmulFold: BOTH.flatMap((vector) => [
    ...BOTH.map((accumulate) => kernels.matmulFold({ vector, bias: false, accumulate })),
    ...EPILOGUES.map((epilogue) => kernels.matmulFold({ vector, bias: true, accumulate: false, epilogue })),
  ]),
  matmulUnits: matmulUnits(),
  norm: NORMS.flatMap((norm) => SHARES.map((share) => kernels.norm(norm, share))),
  normBackward: (['layer', 'rms', 'rms1'] as const).flatMap((norm) =>
    SHARES.map((share) => kernels.normBackward(norm, share)),
  ),
  normParameters: BOTH.flatMap((bias) =>
    COLUMN_SHARES.flatMap((share) => BOTH.map((more) => kernels.normParameters(bias, share, more))),
  ),
  normStatistics: (['layer', 'rms'] as const).flatMap((norm) =>
    SHARES.map((share) => kernels.normStatistics(norm, share)),
  ),
  patch: [kernels.patch()],
  pick: [kernels.pick()],
  reduceColumns: (['sum', 'max'] as const).flatMap((r) =>
    COLUMN_SHARES.flatMap((share) => BOTH.map((more) => kernels.reduceColumns(r, share, more))),
  ),
  reduceRows: (['sum', 'max'] as const).flatMap((r) => LANES.map((lanes) => kernels.reduceRows(r, lanes))),
  rotary: BOTH.map((both) => kernels.rotary(both)),
  scatterAddRows: ([1, 4] as const).map((vector) => kernels.scatterAddRows(vector)),
  select: [kernels.select()],
  softmax: BOTH.flatMap((log) =>
    BOTH.flatMap((masked) => [
      ...SHARES.map((share) => kernels.softmax({ log, masked }, share)),
      ...LANES.map((lanes) => kernels.softmax({ log, masked, bounded: true }, { lanes, vector: 1, held: 0 })),
    ]),
  ),
  softmaxBackward: (
    [
      [false, false],
      [true, false],
      [true, true],
    ] as const
  ).flatMap(([log, masked]) => SHARES.map((share) => kernels.softmaxBackward(log, masked, share))),
  stridedCopy: BOTH.map((four) => kernels.stridedCopy(four)),
  unary: UNARY.map((name) => kernels.unary(name)),
  unpick: [kernels.unpick()],
  widen: HALVES.flatMap((format) => [kernels.widen(format), kernels.widen(format, true)]),
  writeRow: [kernels.writeRow()],
};
const ALL = Object.values(VARIANTS).flat();

/** What may be wrong in a call: a value in its place, by its path in the arguments. */
function* leaves(
  value: unknown,
  path: readonly (string | number)[] = [],
): Generator<readonly [string, unknown]> {
  if (typeof value === 'object' && value !== null) {
    yield [[...path, 'nonesuch'].join('.'), undefined];
    for (const [key, inner] of Object.entries(value)) yield* leaves(inner, [...path, key]);
  } else if (value !== undefined) yield [path.join('.'), value];
}
/** The same arguments with another value at a path. */
function altered(args: readonly unknown[], path: string, value: unknown): unknown[] {
  const copy = structuredClone(args) as unknown[];
  const keys = path.split('.');
  const last = keys.pop()!;
  const holder = keys.reduce(
    (at, key) => at[key] as Record<string, unknown>,
    copy as never as Record<string, unknown>,
  );
  holder[last] = value;
  return copy;
}

describe('what a kernel does not take is refused', () => {
  /** Of each place in each kernel's arguments: one call, and all values there. */
  const places = new Map<string, { make: Make; args: readonly unknown[]; values: Set<unknown> }>();
  for (const [name, make, args] of CALLS)
    for (const [i, arg] of args.entries())
      for (const [path, value] of leaves(arg, [i])) {
        const place = places.get(`${name} ${path}`) ?? { make, args, values: new Set() };
        places.set(`${name} ${path}`, place);
        place.values.add(value);
      }
  const told = (place: string, wrong: unknown): string => {
    const { make, args } = places.get(place)!;
    try {
      make(...altered(args, place.split(' ')[1]!, wrong));
    } catch (error) {
      expect(error).toBeInstanceOf(KernelError);
      return (error as Error).message;
    }
    return 'nothing';
  };

  it.each([...places.keys()])('%s', (place) => {
    const [name, path] = place.split(' ') as [string, string];
    const member = path.split('.').slice(1).join('.');
    for (const wrong of ['nonesuch', null, 1.5, {}])
      expect(told(place, wrong)).toMatch(
        new RegExp(`^kernel "${name}": \\w+${member && `(\\.${member} is| has no '${member}')`}`),
      );
    const [value] = places.get(place)!.values;
    if (typeof value !== 'string') return;
    // Each word that it takes is compiled here.
    const words = [
      ...told(place, 'nonesuch')
        .split('expected')[1]!
        .matchAll(/'(\w+)'/g),
    ].map((m) => m[1]!);
    const missing = words.filter((word) => !places.get(place)!.values.has(word));
    expect(missing).toEqual([]);
  });

  it('all of them', () => {
    expect(places.size).toBeGreaterThan(100);
    expect(() => kernels.unary(undefined as never)).toThrow('kernel "unary": name is missing, expected');
    expect(() => wgsl(kernels.fill(), 'immediates' as never)).toThrow(
      `kernel "fill": passing is 'immediates', expected 'immediate' or 'uniform'`,
    );
    // No text that was made before answers for another flag.
    const v = CALLS.find(([name]) => name === 'matmul')![2][0] as MatmulVariant;
    expect(() => kernels.matmul({ ...v, transA: Number(v.transA) as never })).toThrow('variant.transA is');
  });
});

let device: Device;
const complaint = (kernel: Kernel, passing: ParameterPassing): Promise<string | null> =>
  complaintOf(device, kernel, passing);
beforeAll(async () => {
  device = await openDevice({ backend: 'null', toggles: ['allow_unsafe_apis'] });
});
afterAll(() => device?.destroy());

/** The device's feature behind an extension of WGSL. */
const FEATURES: Readonly<Record<string, string>> = {
  f16: 'shader-f16',
  subgroups: 'subgroups',
  chromium_experimental_subgroup_matrix: 'chromium-experimental-subgroup-matrix',
};
/** Kernels that ask this device for nothing that it has not. */
const offered = (): Kernel[] =>
  ALL.filter(({ enable = [] }) => enable.every((name) => device.features.has(FEATURES[name]!)));

describe('all kernels', () => {
  it('are listed here', () => {
    expect(MAKERS.size).toBeGreaterThan(40);
    expect([...MAKERS].filter((name) => !(name in VARIANTS))).toEqual([]);
    expect(ALL.length).toBeGreaterThan(400);
  });

  it('have names of their own', () => {
    const texts = new Map<string, string>();
    for (const kernel of ALL) {
      const text = wgsl(kernel, 'immediate');
      expect(texts.get(kernel.name) ?? text, kernel.name).toBe(text);
      texts.set(kernel.name, text);
    }
    expect(texts.size).toBe(ALL.length);
  });

  it('take at most 16 parameters, 256 invocations, and the buffers and workgroup memory that they are chosen by', () => {
    for (const kernel of ALL) {
      expect(Object.keys(kernel.params).length, kernel.name).toBeLessThanOrEqual(MAX_PARAMS);
      expect(
        kernel.workgroup[0] * kernel.workgroup[1] * kernel.workgroup[2],
        kernel.name,
      ).toBeLessThanOrEqual(256);
      expect(kernel.bindings.length, kernel.name).toBeLessThanOrEqual(buffersOf(kernel));
      expect(sharedBytes(kernel), kernel.name).toBeLessThanOrEqual(MOST_BYTES.roomy);
      if (!isRoomy(kernel)) expect(sharedBytes(kernel), kernel.name).toBeLessThanOrEqual(MOST_BYTES.anywhere);
    }
  });

  it('read the parameters and bindings that they declare', () => {
    // Some hundred thousand places: collected, as to expect each takes longer than to find it.
    const wrong: string[] = [];
    for (const { name, body, params, bindings } of ALL) {
      const used = new Set(Array.from(body.matchAll(/\bp\.(\w+)/g), ([, parameter]) => parameter!));
      for (const parameter of used)
        if (!Object.hasOwn(params, parameter)) wrong.push(`${name}: p.${parameter}`);
      for (const { name: read, element } of bindings)
        if (!new RegExp(element === TEXEL ? `texture(Load|Store)\\(${read},` : `\\b${read}\\[`).test(body))
          wrong.push(`${name}: ${read}`);
    }
    expect(wrong).toEqual([]);
  });

  for (const passing of ['immediate', 'uniform'] as const)
    it(`compile with parameters as ${passing}`, async ({ skip }) => {
      if (passing === 'immediate' && !device.capabilities.immediates) skip('there are none');
      const kernels = offered();
      if (device.info.implementation === 'Dawn') expect(kernels.length).toBe(ALL.length);
      else
        console.log(`${kernels.length} of ${ALL.length} kernels compiled by ${device.info.implementation}`);
      const complaints = await Promise.all(kernels.map((kernel) => complaint(kernel, passing)));
      expect(complaints.filter((c) => c !== null)).toEqual([]);
    });

  it('would be found not to compile', async () => {
    const bad = (body: string): Kernel => ({ ...kernels.fill(), name: 'bad', body });
    expect(await complaint(bad('fn main() { y[0] = 1; }'), 'uniform')).toMatch(/bad: /);
    expect(await complaint(bad('fn main() { y[0] = vec4f(p.nothing); }'), 'uniform')).toMatch(/nothing/);
  });
});

describe('the text of', () => {
  const samples: Kernel[] = [
    kernels.unary('gelu'),
    kernels.binary('add', 'repeatB'),
    kernels.binary('mul', 'strided'),
    kernels.softmax({ log: false, masked: true }, { lanes: 64, vector: 1, held: 0 }),
    kernels.softmax({ log: false, masked: true }, { lanes: 64, vector: 4, held: 3 }),
    kernels.reduceRows('sum', 64),
    kernels.matmul({
      transA: false,
      transB: true,
      vectorA: true,
      vectorB: true,
      vectorC: true,
      tail: false,
      tileM: 2,
      tileN: 4,
      groupM: 2,
      groupN: 8,
      bias: true,
      accumulate: false,
      weight: 'bf16',
    }),
  ];
  it.each(samples.map((kernel) => [kernel.name, kernel] as const))('%s', (_, kernel) => {
    expect(wgsl(kernel, 'immediate')).toMatchSnapshot();
  });
  it('fill, with parameters in a uniform buffer', () => {
    expect(wgsl(kernels.fill(), 'uniform')).toMatchInlineSnapshot(`
      "struct Params { n: u32, value: f32 }
      @group(0) @binding(1) var<uniform> p: Params;
      @group(0) @binding(0) var<storage, read_write> y: array<vec4f>;
      @compute @workgroup_size(64, 1, 1)
      fn main(@builtin(global_invocation_id) gid: vec3u) {
        let i = gid.x + gid.y * 4194240u;
        if (i * 4u >= p.n) { return; }
        y[i] = vec4f(p.value);
      }
      "
    `);
  });
});
