/**
 * One door for gradients: every export of the engine that takes tensors records what it does to a tracked one, or refuses it.
 * What it records is right, or says that it has none: gradients.test.ts compares the numbers.
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Device, Tensor } from '../../engine/index.ts';
import * as engine from '../../engine/index.ts';
import { open } from './support.ts';

let device: Device;
beforeAll(async () => {
  device = await open();
});
afterAll(() => device?.destroy());

type Result = Tensor | readonly Tensor[];
interface Entry {
  readonly shapes: readonly (readonly number[])[];
  readonly call: (xs: Tensor[]) => Result;
  /** How inputs are stored; default f32. */
  readonly dtype?: 'f32' | 'f16';
}

const entry = (
  shapes: Entry['shapes'],
  call: (...xs: Tensor[]) => Result,
  dtype?: Entry['dtype'],
): Entry => ({
  shapes,
  call: (xs) => call(...xs),
  ...(dtype ? { dtype } : {}),
});
const u32 = (...values: number[]): Tensor => engine.integers(device, values);

const ELEMENTWISE = [
  'abs',
  'ceil',
  'cos',
  'erf',
  'exp',
  'expm1',
  'floor',
  'gelu',
  'isFinite',
  'isInf',
  'isNaN',
  'leakyRelu',
  'log',
  'log1p',
  'logicalNot',
  'neg',
  'reciprocal',
  'relu',
  'round',
  'rsqrt',
  'sigmoid',
  'sign',
  'silu',
  'sin',
  'softplus',
  'sqrt',
  'square',
  'tanh',
] as const;
const PAIRS = [
  'add',
  'div',
  'equal',
  'greater',
  'greaterEqual',
  'less',
  'lessEqual',
  'logicalAnd',
  'logicalOr',
  'logicalXor',
  'maximum',
  'minimum',
  'mul',
  'notEqual',
  'pow',
  'sub',
] as const;
const LAYER = [[3, 4], [4], [4]] as const;
const HEADS = [
  [1, 3, 2, 4],
  [1, 3, 2, 4],
  [1, 3, 2, 4],
] as const;
const PREFIX = [
  [2, 2, 4],
  [2, 2, 4],
  [2, 2, 4],
  [2, 3, 4],
  [2, 3, 4],
] as const;

/** A copy, to be looked up in. */
const byName = { ...engine };

const ENTRIES: Readonly<Record<string, Entry | readonly Entry[]>> = {
  ...Object.fromEntries(ELEMENTWISE.map((name) => [name, entry([[2, 4]], (x) => byName[name](x!))])),
  ...Object.fromEntries(
    PAIRS.map((name) => [
      name,
      [
        entry(
          [
            [2, 4],
            [2, 4],
          ],
          (a, b) => byName[name](a!, b!),
        ),
        entry([[2, 1], [4]], (a, b) => byName[name](a!, b!)),
      ],
    ]),
  ),
  affine: entry([[4]], (x) => engine.affine(x!, 2, 1)),
  softcap: entry([[4]], (x) => engine.softcap(x!, 2)),
  clamp: entry([[4]], (x) => engine.clamp(x!, 0, 1)),
  min: entry([[2, 4]], (x) => engine.min(x!, 0)),
  prod: entry([[2, 3]], (x) => engine.prod(x!, 1)),
  variance: entry([[2, 4]], (x) => engine.variance(x!)),
  std: entry([[2, 4]], (x) => engine.std(x!, 0)),
  argmin: entry([[2, 4]], (x) => engine.argmin(x!)),
  cumsum: entry([[2, 4]], (x) => engine.cumsum(x!, 0)),
  argsort: entry([[2, 4]], (x) => engine.argsort(x!)),
  sort: entry([[2, 4]], (x) => engine.sort(x!).values),
  topK: entry([[2, 4]], (x) => engine.topK(x!, 2).values),
  gather: entry([[2, 4]], (x) => engine.gather(x!, [[1], [0]])),
  indexSelect: entry([[2, 4]], (x) => engine.indexSelect(x!, [1])),
  scatterAdd: entry(
    [
      [2, 4],
      [2, 1],
    ],
    (x, v) => engine.scatterAdd(x!, [[1], [0]], v!),
  ),
  scatter: entry(
    [
      [2, 4],
      [2, 1],
    ],
    (x, v) => engine.scatter(x!, [[1], [0]], v!),
  ),
  split: entry([[4, 2]], (x) => engine.split(x!, 3)),
  stack: entry([[4], [4]], (a, b) => engine.stack([a!, b!])),
  unstack: entry([[2, 4]], (x) => engine.unstack(x!)),
  squeeze: entry([[1, 4]], (x) => engine.squeeze(x!)),
  unsqueeze: entry([[4]], (x) => engine.unsqueeze(x!, 0)),
  flip: entry([[2, 4]], (x) => engine.flip(x!, 1)),
  tril: entry([[2, 4]], (x) => engine.tril(x!)),
  triu: entry([[2, 4]], (x) => engine.triu(x!)),
  ...Object.fromEntries(
    (
      [
        'mseLoss',
        'l1Loss',
        'huberLoss',
        'binaryCrossEntropy',
        'binaryCrossEntropyWithLogits',
        'klDiv',
      ] as const
    ).map((name) => [name, entry([[4], [4]], (x, t) => byName[name](x!, t!))]),
  ),
  conv1d: entry([[1, 2, 4], [1, 2, 3], [1]], (x, w, b) => engine.conv1d(x!, w!, b!)),
  conv2d: entry([[1, 1, 3, 4], [2, 1, 2, 2], [2]], (x, w, b) => engine.conv2d(x!, w!, b!)),
  maxPool2d: entry([[1, 1, 2, 4]], (x) => engine.maxPool2d(x!, 2)),
  avgPool2d: entry([[1, 1, 2, 4]], (x) => engine.avgPool2d(x!, 2)),
  einsum: entry(
    [
      [2, 4],
      [4, 3],
    ],
    (a, b) => engine.einsum('ij,jk->ik', a!, b!),
  ),
  dropout: entry([[4]], (x) => engine.dropout(x!, 0.5, 1)),
  bernoulli: entry([[4]], (x) => engine.bernoulli(x!, 1)),
  toU32: entry([[4]], (x) => engine.toU32(x!)),
  where: entry([[4], [4], [4]], (c, a, b) => engine.where(c!, a!, b!)),
  argmax: entry([[2, 4]], (x) => engine.argmax(x!)),
  sum: [entry([[2, 4]], (x) => engine.sum(x!)), entry([[2, 4]], (x) => engine.sum(x!, []))],
  mean: entry([[2, 4]], (x) => engine.mean(x!, 1)),
  max: entry([[2, 4]], (x) => engine.max(x!, 0)),
  sumTo: [entry([[2, 4]], (x) => engine.sumTo(x!, [4])), entry([[2, 4]], (x) => engine.sumTo(x!, [2, 4]))],
  matmul: [
    entry(
      [
        [3, 4],
        [4, 2],
      ],
      (a, b) => engine.matmul(a!, b!),
    ),
    entry(
      [
        [2, 3, 4],
        [1, 4, 2],
      ],
      (a, b) => engine.matmul(a!, b!),
    ),
  ],
  linear: [
    entry([[3, 4], [2, 4], [2]], (x, w, b) => engine.linear(x!, w!, b)),
    entry(
      [
        [3, 4],
        [2, 4],
      ],
      (x, w) => engine.linear(x!, w!),
    ),
  ],
  linearThen: (['add', 'swiglu', 'geglu_tanh'] as const).map((op) =>
    entry([[3, 4], [2, 4], [2], [3, 2]], (x, w, b, r) => engine.linearThen(x!, w!, b, { op, with: r! })),
  ),
  normLinear: [
    entry([...LAYER, [2, 4], [2], [3, 2]], (x, weight, bias, w, b, r) =>
      engine.normLinear(x!, { kind: 'layer', weight: weight!, bias: bias!, eps: 1e-5 }, w!, b, {
        op: 'add',
        with: r!,
      }),
    ),
    entry([[3, 4], [4], [2, 4]], (x, weight, w) =>
      engine.normLinear(x!, { kind: 'rms', weight: weight!, eps: 1e-5 }, w!),
    ),
  ],
  layerNorm: entry(LAYER, (x, w, b) => engine.layerNorm(x!, w!, b!, 1e-5)),
  rmsNorm: entry(LAYER.slice(0, 2), (x, w) => engine.rmsNorm(x!, w!, 1e-5)),
  rowNorm: [
    entry(LAYER, (x, weight, bias) =>
      engine.rowNorm(x!, { kind: 'layer', weight: weight!, bias: bias!, eps: 1e-5 }),
    ),
    ...(['layer', 'rms1'] as const).map((kind) =>
      entry([[3, 2, 4], [4]], (x, weight) => engine.rowNorm(x!, { kind, weight: weight!, eps: 1e-5 })),
    ),
  ],
  normStatistics: entry([[3, 4]], (x) => engine.normStatistics(x!, 'rms', 1e-5)),
  standardiseTwin: entry([[3, 4]], (x) => engine.standardiseTwin('layer', x!, 1e-5)),
  normBackwardTwin: entry([[3, 4], [4], [3, 4]], (x, w, dy) =>
    engine.normBackwardTwin('rms', x!, w!, dy!, 1e-5),
  ),
  softmax: entry([[3, 4]], (x) => engine.softmax(x!)),
  logSoftmax: entry([[3, 4]], (x) => engine.logSoftmax(x!)),
  softmaxBackwardTwin: entry(
    [
      [3, 4],
      [3, 4],
    ],
    (y, dy) => engine.softmaxBackwardTwin(y!, dy!, false, 1),
  ),
  crossEntropy: entry([[2, 4]], (x) => engine.crossEntropy(x!, [1, -100])),
  crossEntropyRows: entry([[2, 4]], (x) => engine.crossEntropyRows(x!, [1, -100])),
  crossEntropyBackwardTwin: entry([[2, 4], [2]], (x, d) =>
    engine.crossEntropyBackwardTwin(x!, d!, engine.integers(device, [1, -100])),
  ),
  oddsAgainstBackwardTwin: entry([[2, 4], [2]], (x, d) =>
    engine.oddsAgainstBackwardTwin(x!, d!, engine.integers(device, [1, -100])),
  ),
  logOdds: entry([[2, 4]], (x) => engine.logOdds(x!, [1, 0])),
  gatherRows: [
    entry([[3, 4]], (x) => engine.gatherRows(x!, [2, 0])),
    entry([[3, 4]], (x) => engine.gatherRows(x!, [2, 0]), 'f16'),
  ],
  scatterAddRows: entry([[2, 4]], (x) => engine.scatterAddRows(x!, [2, 2], 3)),
  pick: entry([[2, 4]], (x) => engine.pick(x!, u32(3, 0))),
  unpick: entry([[2]], (x) => engine.unpick(x!, [3, 0], 4)),
  writeRow: entry(
    [
      [2, 3, 4],
      [2, 4],
    ],
    (table, rows) => {
      engine.writeRow(table!, rows!, u32(1));
      return table!;
    },
  ),
  reshape: entry([[2, 4]], (x) => engine.reshape(x!, [8])),
  permute: [
    entry([[2, 4]], (x) => engine.permute(x!, [1, 0])),
    entry([[2, 1, 4]], (x) => engine.permute(x!, [1, 0, 2])),
  ],
  transpose: entry([[2, 4]], (x) => engine.transpose(x!)),
  slice: entry([[2, 4]], (x) => engine.slice(x!, [0, 1], [2, 3])),
  pad: entry([[2]], (x) => engine.pad(x!, [1], [4])),
  concat: entry(
    [
      [2, 4],
      [1, 4],
    ],
    (a, b) => engine.concat([a!, b!], 0),
  ),
  broadcastTo: entry([[4]], (x) => engine.broadcastTo(x!, [2, 4])),
  patchElements: [
    entry([[4]], (x) => engine.patchElements(x!, [{ at: 1, mode: 'set', value: 3 }])),
    entry([[4]], (x) => engine.patchElements(x!, [])),
  ],
  patchValues: (['set', 'add', 'scale', 'addOutward'] as const).map((mode) =>
    entry([[4], [2]], (x, values) => engine.patchValues(x!, [2, 0], mode, values!)),
  ),
  rotary: entry(
    [
      [2, 1, 4],
      [3, 2],
      [3, 2],
    ],
    (x, cosine, sine) => engine.rotary(x!, u32(0, 2), { cosine: cosine!, sine: sine! }),
  ),
  attention: [true, false].map((fused) =>
    entry(HEADS, (q, k, v) => engine.attention(q!, k!, v!, { fused, causal: true })),
  ),
  attentionTwin: entry(HEADS, (q, k, v) => engine.attentionTwin(q!, k!, v!)),
  attentionBackwardTwin: entry([...HEADS, [1, 3, 2, 4]], (q, k, v, dy) =>
    engine.attentionBackwardTwin([q!, k!, v!], dy!, 0, {}),
  ),
  attentionPattern: entry([[1, 2, 3, 4]], (x) => engine.attentionPattern(x!, 4, { cap: 2 })),
  prefixAttention: [true, false].map((fused) =>
    entry(PREFIX, (q, k, v, keys, values) =>
      engine.prefixAttention(q!, k!, v!, { keys: keys!, values: values! }, { fused }),
    ),
  ),
  prefixAttentionTwin: entry(PREFIX, (q, k, v, keys, values) =>
    engine.prefixAttentionTwin(q!, k!, v!, { keys: keys!, values: values! }),
  ),
  toF32: [entry([[2, 4]], (x) => engine.toF32(x!)), entry([[2, 4]], (x) => engine.toF32(x!), 'f16')],
  convert: [
    ...(['f32', 'f16', 'bf16', 'int8', 'int4'] as const).map((dtype) =>
      entry([[2, 32]], (x) => engine.convert(x!, dtype)),
    ),
    ...(['f32', 'f16'] as const).map((dtype) => entry([[2, 4]], (x) => engine.convert(x!, dtype), 'f16')),
  ],
  convertInto: entry([[128, 4]], (x) => {
    const y = engine.convert(engine.zeros(device, [256, 4]), 'f16');
    engine.convertInto(x!, y, 128);
    return y;
  }),
  globalNorm: [
    entry([[3], [2, 2]], (a, b) => engine.globalNorm([a!, b!])),
    entry([[3]], (a) => engine.globalNorm([a!]), 'f16'),
  ],
  clipByGlobalNorm: entry([[3]], (a) => engine.clipByGlobalNorm([a!], 0.5).gradients),
  clipFactor: entry([[3], [2]], (a, b) => engine.clipFactor([a!, b!], 0.5)),
  recompute: [
    entry([[2, 4], [4]], (x, w) => engine.recompute((t) => engine.mul(t, w!), x!, [w!])),
    // A tensor that the function reads and nobody named.
    entry([[2, 4], [4]], (x, w) => engine.recompute((t) => engine.mul(t, w!), x!)),
  ],
};

/** Exports that take no tensors, or take them apart from any gradient: the tape's own doors. */
const OTHERS = [
  'laidBytes',
  'packPanels',
  'panelBytes',
  'panelSide',
  'broadcastShape',
  'bytesOf',
  'candidates',
  'chromeTrace',
  'empty',
  'fileError',
  'full',
  'grad',
  'halfTape',
  'integers',
  'keep',
  'lanesTiling',
  'measureCeiling',
  'noGrad',
  'openDevice',
  'arange',
  'commonRows',
  // Doors of the tape: transforms.test.ts.
  'customGradient',
  'hvp',
  'jvp',
  'operation',
  'valueAndGrad',
  'vjp',
  'eye',
  'kaimingNormal',
  'kaimingUniform',
  'linspace',
  // What the mask says is the host's to know; the gradient: array.test.ts.
  'maskedSelect',
  'nonzero',
  'oneHot',
  'rand',
  'randint',
  'randn',
  'ratesOf',
  'record',
  'rotarySpeeds',
  'rotaryTable',
  'rowMajor',
  'scope',
  'sizeOf',
  'stridedAxes',
  'tensor',
  'tiling',
  'tuneProducts',
  'warmupCosine',
  'warmupLinear',
  'xavierNormal',
  'xavierUniform',
  'zeros',
];

describe('the door that records', () => {
  it('is known of every export', () => {
    const functions = Object.entries(engine)
      .filter(([, value]) => typeof value === 'function' && !/^class/.test(String(value)))
      .map(([name]) => name);
    expect(functions.filter((name) => !(name in ENTRIES) && !OTHERS.includes(name))).toEqual([]);
    expect(Object.keys(ENTRIES).filter((name) => !functions.includes(name))).toEqual([]);
  });

  const made = ({ shapes, dtype = 'f32' }: Entry): Tensor[] =>
    shapes.map((shape) => {
      const x = engine.tensor(
        device,
        Float32Array.from({ length: engine.sizeOf(shape) }, (_, i) => 0.5 + 0.25 * i),
        shape,
      );
      return dtype === 'f32' ? x : engine.convert(x, dtype);
    });

  const all = Object.entries(ENTRIES).flatMap(([name, entries]) =>
    [entries].flat().flatMap((e, n) => e.shapes.map((_, i) => [name, n, i, e] as const)),
  );
  it.each(all)('%s (%i), input %i', (_, __, i, e) => {
    engine.scope(() => {
      const inputs = made(e);
      // Without a gradient wanted it does not refuse.
      expect([engine.noGrad(() => e.call(made(e)))].flat().every((y) => y.track === null)).toBe(true);
      const x = inputs[i]!.requireGrad();
      let results: Tensor[];
      try {
        results = [e.call(inputs)].flat();
        for (const y of results) {
          expect(y.track).not.toBeNull();
          const cotangent = engine.full(device, y.shape, 1);
          const [g] = engine.grad(y, [x], { cotangent, retainTape: true });
          expect(g!.shape).toEqual(x.shape);
        }
      } catch (error) {
        // Refused, or recorded as what has none: never "does not depend on it".
        expect(error).toBeInstanceOf(engine.GradientError);
        expect(String(error)).toMatch(
          /has no gradient|would be lost|is part of a gradient|not among its parameters/,
        );
      }
    });
  });

  it('toF32 of what is used twice counts twice', async () => {
    const [g] = engine.scope(() => {
      const w = engine.convert(engine.tensor(device, [[1, 2, 3, 4]]), 'f16').requireGrad();
      return engine
        .grad(engine.sum(engine.add(engine.toF32(w), engine.toF32(w))), [w])
        .map((g) => engine.toF32(g));
    });
    expect([...(await g!.read())]).toEqual([2, 2, 2, 2]);
  });

  it('rounding to 16 bits hands gradients on', async () => {
    const [g] = engine.scope(() => {
      const w = engine.tensor(device, [[0.1, 0.2]]).requireGrad();
      const y = engine.linear(engine.tensor(device, [[3, 5]]), engine.convert(w, 'bf16'));
      return engine.grad(engine.sum(y), [w]);
    });
    expect([...(await g!.read())]).toEqual([3, 5]);
  });

  it('a comparison is a step, whose gradient is 0 beside what else depends on it', async () => {
    const [g] = engine.scope(() => {
      const x = engine.tensor(device, [-1, 2]).requireGrad();
      const mask = engine.greater(x, engine.zeros(device, []));
      return engine.grad(engine.sum(engine.mul(mask, x)), [x]);
    });
    expect([...(await g!.read())]).toEqual([0, 1]);
  });
});
