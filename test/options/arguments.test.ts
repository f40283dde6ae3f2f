/**
 * Arguments of the engine's operations that are not what they take, as programs in JavaScript give them: an error that names
 * the argument and what was expected, never another operation's stumbling over it, and never a result.
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as engine from '../../engine/index.ts';
import { type Device, openDevice, type Tensor, tensor } from '../../engine/index.ts';

let device: Device;
let x: Tensor;
beforeAll(async () => {
  device = await openDevice();
  x = tensor(device, [
    [1, 2],
    [3, 4],
  ]);
});
afterAll(() => device.destroy());

type Any = (...args: never[]) => unknown;
const library = engine as unknown as Readonly<Record<string, Any>>;

/** Stands for a tensor that each call needs. */
const T = Symbol('tensor');
const unary = [
  'relu',
  'leakyRelu',
  'softplus',
  'log1p',
  'expm1',
  'floor',
  'ceil',
  'round',
  'isNaN',
  'isFinite',
  'isInf',
  'logicalNot',
  'toU32',
  'abs',
  'cos',
  'erf',
  'exp',
  'gelu',
  'log',
  'neg',
  'rsqrt',
  'sigmoid',
  'sign',
  'silu',
  'sin',
];
/** What an operation is called with, by name; every T in turn is given as something else. */
const CALLS: Readonly<Record<string, readonly unknown[]>> = {
  ...Object.fromEntries([...unary, 'sqrt', 'square', 'tanh'].map((name) => [name, [T]])),
  ...Object.fromEntries(['sum', 'mean', 'max', 'argmax', 'transpose', 'toF32'].map((name) => [name, [T]])),
  affine: [T, 1, 0],
  softcap: [T, 1],
  clamp: [T, 0, 1],
  logicalAnd: [T, T],
  min: [T],
  prod: [T],
  variance: [T],
  std: [T],
  argmin: [T],
  cumsum: [T],
  argsort: [T],
  sort: [T],
  topK: [T, 1],
  gather: [T, [[0], [0]]],
  indexSelect: [T, [0]],
  scatterAdd: [T, [[0], [0]], T],
  scatter: [T, [[0], [0]], T],
  split: [T, 1],
  unstack: [T],
  squeeze: [T],
  unsqueeze: [T, 0],
  flip: [T],
  tril: [T],
  triu: [T],
  oneHot: [T, 2],
  dropout: [T, 0.5, 1],
  bernoulli: [T, 1],
  reciprocal: [T],
  where: [T, T, T],
  matmul: [T, T],
  linear: [T, T],
  linearThen: [T, T, undefined, { op: 'none' }],
  softmax: [T],
  attentionPattern: [T, 1],
  logSoftmax: [T],
  crossEntropy: [T, [0, 1]],
  crossEntropyRows: [T, [0, 1]],
  logOdds: [T, [0, 1]],
  layerNorm: [T, T, T, 0],
  rmsNorm: [T, T, 0],
  normStatistics: [T, 'rms', 0],
  attention: [T, T, T],
  attentionTwin: [T, T, T],
  prefixAttention: [T, T, T, null],
  rotary: [T, T, { cosine: null, sine: null }],
  reshape: [T, [4]],
  permute: [T, [1, 0]],
  slice: [T, [0, 0], [1, 1]],
  pad: [T, [0, 0], [2, 2]],
  broadcastTo: [T, [2, 2]],
  sumTo: [T, [2, 2]],
  gatherRows: [T, [0]],
  scatterAddRows: [T, [0, 1], 2],
  pick: [T, [0, 1]],
  unpick: [T, [0], 2],
  writeRow: [T, T, T],
  patchElements: [T, []],
  patchValues: [T, [0], 'set', T],
  convert: [T, 'f16'],
  convertInto: [T, T],
};

describe.each(Object.entries(CALLS))('%s', (name, args) => {
  const places = args.flatMap((arg, i) => (arg === T ? [i] : []));
  it.each(places)('says what it is given for argument %i', (place) => {
    // A number is an operand of where().
    const wrong = [
      undefined,
      null,
      'x',
      {},
      [1, 2],
      Promise.resolve(x),
      () => x,
      ...(name === 'where' ? [] : [2]),
    ];
    for (const each of wrong) {
      const given = args.map((arg, i) => (i === place ? each : arg === T ? x : arg));
      const call = (): unknown => library[name]!(...(given as never[]));
      expect(call, `${name}(${String(each)} at ${place})`).toThrow(
        /expected a (tensor|number)|a tensor or a number/,
      );
      expect(call).toThrow(new RegExp(`^${name}: `));
      expect(call).not.toThrow(/\[object|TypeError/);
    }
  });
});

it.each<readonly [string, () => unknown, RegExp]>([
  [
    'a shift left out',
    () => library.affine!(x as never, 2 as never),
    /^affine: shift is missing, expected a number/,
  ],
  ['a value left out', () => library.full!(device as never, [2] as never), /^full: value is missing/],
  ['a value as text', () => engine.full(device, [2], '3' as never), /^full: value is '3', expected a number/],
  [
    'a device awaited nowhere',
    () => tensor(Promise.resolve(device) as never, [1]),
    /^tensor: device is a promise/,
  ],
  ['no device', () => engine.zeros(null as never, [1]), /^tensor: device is null, expected a device/],
  [
    'a shape that is a number',
    () => engine.reshape(x, 4 as never),
    /^reshape: shape is 4, expected a list of numbers/,
  ],
  [
    'a range of numbers',
    () => engine.slice(x, 0 as never, 1 as never),
    /^slice: begin is 0, expected a list/,
  ],
  ['an order as texts', () => engine.permute(x, ['1', '0'] as never), /^permute: order\[0\] is '1'/],
  [
    'tensors one by one',
    () => engine.concat(x as never, x as never),
    /^concat: xs is a Tensor, expected a list/,
  ],
  ['an axis as text', () => engine.concat([x, x], '1' as never), /^concat: axis is '1', expected a number/],
  ['another axis', () => engine.argmax(x, 2), /^argmax: no axis 2 in \[2, 2\]/],
  ['an axis of halves', () => engine.argmax(x, 0.5), /^argmax: axis is 0.5, expected an axis/],
  [
    'axes',
    () => library.transpose!(x as never, 0 as never, 1 as never),
    /^transpose: takes no axes.*permute/,
  ],
  ['eps left out', () => library.rmsNorm!(x as never, x as never), /^rmsNorm: eps is missing|^rmsNorm: x /],
  [
    'eps below 0',
    () => engine.rmsNorm(x, tensor(device, [1, 1]), -1),
    /^rmsNorm: eps is -1, expected a number from 0/,
  ],
  ['eps NaN', () => engine.layerNorm(x, x, x, Number.NaN), /^layerNorm: eps is NaN/],
  [
    'a limit below 0',
    () => engine.clipByGlobalNorm([x], -1),
    /^clipByGlobalNorm: limit is -1, expected a number above 0/,
  ],
  ['a limit NaN', () => engine.clipFactor([x], Number.NaN), /^clipFactor: limit is NaN/],
  ['a cap of 0', () => engine.softcap(x, 0), /^softcap: cap is 0, expected a finite number above 0/],
  [
    'a window as a number',
    () => engine.softmax(x, { window: 3 as never }),
    /^softmax: window is 3, expected an object/,
  ],
  [
    'half a key',
    () => engine.softmax(x, { window: { before: 0.5 } }),
    /^softmax: window.before is 0.5, expected a whole number/,
  ],
  [
    'one tensor for a list',
    () => engine.globalNorm(x as never),
    /^globalNorm: tensors is a Tensor, expected a list/,
  ],
  [
    'integers for numbers',
    () => engine.argmax(engine.integers(device, [1, 2])),
    /^argmax: needs f32, got u32/,
  ],
  ['labels as a tensor of floats', () => engine.crossEntropy(x, x), /^crossEntropy: labels of dtype f32/],
  ['arithmetic', () => (x as never as number) * 2, /a tensor is no number: add\(\), sub\(\), mul\(\)/],
  ['a sum', () => (x as never as number) + 1, /a tensor is no number/],
  [
    'an awaiting noGrad',
    () => engine.noGrad(async () => x),
    /^noGrad: the function gives a promise.*await outside/,
  ],
  ['an awaiting halfTape', () => engine.halfTape(async () => x), /^halfTape: the function gives a promise/],
  ['no function', () => engine.noGrad(x as never), /^noGrad: fn is a Tensor, expected a function/],
  ['a recording of nothing', () => engine.record(device, x as never), /^record: fn is a Tensor/],
])('%s', (_, call, message) => {
  expect(call).toThrow(message);
});

it('numbers compare and are chosen, and a tensor has a text', async () => {
  expect([...(await engine.greater(x, 2).read())]).toEqual([0, 0, 1, 1]);
  expect([...(await engine.equal(2, x).read())]).toEqual([0, 1, 0, 0]);
  expect([...(await engine.where(engine.greater(x, 2), x, -1).read())]).toEqual([-1, -1, 3, 4]);
  expect(`${x}`).toBe('f32 [2, 2]');
});

describe('AdamW', () => {
  const of = (dtype: engine.DType, t: Tensor): Tensor =>
    dtype === 'u32' ? engine.integers(device, [1, 2, 3, 4], [2, 2]) : engine.convert(t, dtype);
  it.each(['bf16', 'int8', 'u32'] as const)(
    'takes no gradients in %s, whose bits it would misread',
    (dtype) => {
      const optimiser = new engine.AdamW([engine.full(device, [2, 2], 1)]);
      expect(() => optimiser.step([of(dtype, x)])).toThrow(`AdamW.step: needs f32 or f16, got ${dtype}`);
      expect(optimiser.steps).toBe(0);
    },
  );
  it.each(['f16', 'bf16', 'int8', 'u32'] as const)('takes no parameters in %s', (dtype) => {
    expect(() => new engine.AdamW([of(dtype, x)])).toThrow(`AdamW: needs f32, got ${dtype} [2, 2]`);
  });
  it('takes each parameter once, its own copies, and a factor of numbers', () => {
    const w = engine.full(device, [2, 2], 1);
    expect(() => new engine.AdamW([w, engine.reshape(w, [4])])).toThrow(
      'AdamW: parameter [4] is there twice',
    );
    const group = (copies: Tensor[]) => () => new engine.AdamW([{ parameters: [w], copies }]);
    const half = engine.convert(x, 'f16');
    expect(group([half, half])).toThrow('AdamW: 2 copies for 1 parameters');
    expect(group([x])).toThrow('AdamW: needs f16, got f32');
    expect(group([engine.convert(tensor(device, [1]), 'f16')])).toThrow(
      'AdamW: copy [1] of parameter [2, 2]',
    );
    const optimiser = new engine.AdamW([w]);
    expect(() => optimiser.step([x], engine.integers(device, [1]))).toThrow('AdamW.step: needs f32, got u32');
    const moments = [engine.convert(x, 'f16'), x] as const;
    expect(() => optimiser.restore(1, [moments])).toThrow('AdamW: needs f32, got f16');
  });
});

it.each(['int8', 'int4'] as const)('rows of %s stay whole: their groups end with them', async (dtype) => {
  const numbers = Array.from({ length: 80 }, (_, i) => Math.sin(i));
  const rows = engine.convert(tensor(device, numbers, [2, 40]), dtype);
  for (const shape of [[4, 20], [80], [1, 80], [2, 40, 1]])
    expect(() => engine.reshape(rows, shape)).toThrow(
      `reshape: ${dtype} [2, 40] to [${shape.join(', ')}]: quantised rows`,
    );
  const same = await engine.toF32(engine.reshape(rows, [1, 2, 40])).read();
  expect(same).toEqual(await engine.toF32(rows).read());
});
