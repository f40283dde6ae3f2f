/**
 * Gradients and gradients of gradients of every operation, against finite differences of the float64 reference (never of the
 * GPU's own results, which would agree with themselves).
 *
 * With L(x) = sum c y(x) and directions w, the gradient is checked element by element by central differences of L, and the
 * second gradient as the gradient of sum w dL/dx, which is the mixed difference of L along w and each element.
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as engine from '../../engine/index.ts';
import { type Device, scope, type Tensor } from '../../engine/index.ts';
import { CASES, type Case } from './cases.ts';
import type { Ref } from './reference.ts';
import { compute, expectClose, normal, open, upload } from './support.ts';

let device: Device;
beforeAll(async () => {
  device = await open();
});
afterAll(() => device?.destroy());

const STEP = 2 ** -11;

/** sum c reference(x) at inputs changed by `change(input, element)`. */
function lossOf(c: Case, cotangent: Ref): (change: (input: number, element: number) => number) => number {
  return (change) => {
    const moved = c.inputs.map((x, k) =>
      c.gradient!.includes(k) ? { shape: x.shape, data: x.data.map((v, i) => v + change(k, i)) } : x,
    );
    return c.reference(moved).data.reduce((total, v, i) => total + v * cotangent.data[i]!, 0);
  };
}

interface Expected {
  /** dL/dx for each differentiated input. */
  readonly first: Float64Array[];
  /** d/dx of sum w dL/dx for each differentiated input. */
  readonly second: Float64Array[];
  /** d/dc of the same. */
  readonly cotangent: Float64Array;
}

function differences(c: Case, cotangent: Ref, directions: readonly Ref[]): Expected {
  const loss = lossOf(c, cotangent);
  const along = (k: number, i: number): number => directions[c.gradient!.indexOf(k)]!.data[i]!;
  const each = (f: (k: number, i: number) => number): Float64Array[] =>
    c.gradient!.map((k) => c.inputs[k]!.data.map((_, i) => f(k, i)));
  const bump =
    (k: number, i: number, step: number, t = 0) =>
    (input: number, element: number): number =>
      (input === k && element === i ? step : 0) + (t === 0 ? 0 : t * along(input, element));
  // Fourth order: (8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / 12 h.
  const central = (f: (h: number) => number, h: number): number =>
    (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h);
  const moved = (t: number): Float64Array =>
    c.reference(
      c.inputs.map((x, k) =>
        c.gradient!.includes(k) ? { shape: x.shape, data: x.data.map((v, i) => v + t * along(k, i)) } : x,
      ),
    ).data;
  const [p, m, pp, mm] = [moved(STEP), moved(-STEP), moved(2 * STEP), moved(-2 * STEP)];
  return {
    first: each((k, i) => central((h) => loss(bump(k, i, h)), STEP)),
    second: each((k, i) =>
      central((t) => (loss(bump(k, i, STEP, t)) - loss(bump(k, i, -STEP, t))) / (2 * STEP), STEP),
    ),
    cotangent: p.map((v, i) => (8 * (v - m[i]!) - (pp[i]! - mm[i]!)) / (12 * STEP)),
  };
}

const largest = (data: ArrayLike<number>): number =>
  Array.from(data).reduce((n, v) => Math.max(n, Math.abs(v)), 0);

describe('gradients and their gradients', () => {
  const cases = CASES.filter((c) => c.gradient !== undefined);
  it.each(cases.map((c) => [c.name, c] as const))('%s', async (_, c) => {
    const shape = c.reference(c.inputs).shape;
    const cotangent = normal(shape, 1);
    const directions = c.gradient!.map((k, i) => normal(c.inputs[k]!.shape, 2 + i, 0.5));
    const want = differences(c, cotangent, directions);
    const results = await compute(() => {
      const xs = c.inputs.map((x, k) => {
        const t = upload(device, x);
        return c.gradient!.includes(k) ? t.requireGrad() : t;
      });
      const wanted = c.gradient!.map((k) => xs[k]!);
      const ct = upload(device, cotangent).requireGrad();
      const y = c.run(xs, device);
      const gradients = engine.grad(y, wanted, { cotangent: ct, createGraph: true });
      const total = gradients
        .map((g, i) => engine.sum(engine.mul(g, upload(device, directions[i]!))))
        .reduce((a, b) => engine.add(a, b));
      const second = engine.grad(total, [...wanted, ct], { unconnected: 'zero' });
      return [...gradients, ...second];
    });
    const n = want.first.length;
    const check = (got: Float32Array, expected: Float64Array, what: string, relative: number): void =>
      expectClose(
        got,
        expected,
        { ulps: relative / 2 ** -23, floor: Math.max(0.5, largest(expected)) },
        what,
      );
    c.gradient!.forEach((k, i) => {
      expect(results[i]!.shape).toEqual(c.inputs[k]!.shape);
      check(results[i]!.data, want.first[i]!, `gradient of input ${k}`, 2e-5);
      expect(results[n + i]!.shape).toEqual(c.inputs[k]!.shape);
      check(results[n + i]!.data, want.second[i]!, `second gradient of input ${k}`, 1e-4);
    });
    expect(results[2 * n]!.shape).toEqual(shape);
    check(results[2 * n]!.data, want.cotangent, 'gradient of the cotangent', 2e-5);
  });

  it('covers every operation that has a gradient', () => {
    const seen = new Set(cases.map((c) => c.name.split(' ')[0]));
    const others = new Set(CASES.map((c) => c.name.split(' ')[0]).filter((name) => !seen.has(name)));
    expect([...others].sort()).toEqual([
      'argmax',
      'ceil',
      'equal',
      'floor',
      'greater',
      'greaterEqual',
      'less',
      'lessEqual',
      'logicalAnd',
      'logicalOr',
      'logicalXor',
      'notEqual',
      'round',
    ]);
    // Names of engine/index.ts that are functions of tensors, each of which the table must know or that are named here.
    const elsewhere = [
      'fileError',
      // Masks of one operand: functions.test.ts.
      'isFinite',
      'isInf',
      'isNaN',
      'logicalNot',
      'toU32',
      // transforms.test.ts
      'commonRows',
      'customGradient',
      'hvp',
      'jvp',
      'operation',
      'valueAndGrad',
      'vjp',
      // Places and numbers alone: array.test.ts.
      'arange',
      'argmin',
      'argsort',
      'eye',
      'linspace',
      'maskedSelect',
      'nonzero',
      'oneHot',
      // random.test.ts
      'bernoulli',
      'dropout',
      'kaimingNormal',
      'kaimingUniform',
      'rand',
      'randint',
      'randn',
      'xavierNormal',
      'xavierUniform',
      // Where weights lie: panels.test.ts.
      'laidBytes',
      'packPanels',
      'panelBytes',
      'panelSide',
      'bytesOf',
      'broadcastShape',
      'clipByGlobalNorm',
      'clipFactor',
      'convert',
      'convertInto',
      'globalNorm',
      'recompute',
      'warmupCosine',
      'warmupLinear',
      'writeRow',
      'crossEntropyBackwardTwin',
      'empty',
      'full',
      'grad',
      'halfTape',
      'integers',
      'keep',
      'noGrad',
      'normBackwardTwin',
      'oddsAgainstBackwardTwin',
      'normStatistics',
      'openDevice',
      'record',
      'rotarySpeeds',
      'rotaryTable',
      'rowMajor',
      'scope',
      'sizeOf',
      'softmaxBackwardTwin',
      'standardiseTwin',
      'stridedAxes',
      'sumTo',
      'tensor',
      'tiling',
      'lanesTiling',
      'candidates',
      'tuneProducts',
      'attentionTwin',
      'attentionBackwardTwin',
      'prefixAttentionTwin',
      'chromeTrace',
      'measureCeiling',
      'ratesOf',
      'toF32',
      'zeros',
    ];
    const functions = Object.entries(engine)
      .filter(([, value]) => typeof value === 'function' && !/^class/.test(String(value)))
      .map(([name]) => name);
    const known = new Set([...seen, ...others, ...elsewhere]);
    expect(functions.filter((name) => !known.has(name))).toEqual([]);
  });
});

describe('backward kernels agree with their twins', () => {
  const compare = async (
    y: () => {
      output: Tensor;
      input: Tensor;
      dy: Tensor;
      twin: (input: Tensor, output: Tensor, dy: Tensor) => Tensor;
    },
  ): Promise<void> => {
    const [kernel, twin] = await compute(() => {
      const { output, input, dy, twin } = y();
      const [g] = engine.grad(output, [input], { cotangent: dy });
      return [g!, engine.noGrad(() => twin(input, output, dy))];
    });
    expect(kernel!.shape).toEqual(twin!.shape);
    expectClose(kernel!.data, twin!.data, { ulps: 64, floor: largest(twin!.data) });
    expect(largest(twin!.data)).toBeGreaterThan(1e-3);
  };
  const x = (shape: readonly number[], seed: number): Tensor => upload(device, normal(shape, seed));

  for (const log of [false, true])
    it(`softmax${log ? ', logarithm' : ''}`, () =>
      compare(() => {
        const input = x([5, 33], 1).requireGrad();
        const output = (log ? engine.logSoftmax : engine.softmax)(input, { scale: 0.5 });
        return {
          input,
          output,
          dy: x([5, 33], 2),
          twin: (_, y, dy) => engine.softmaxBackwardTwin(y.detach(), dy, log, 0.5),
        };
      }));
  const normed = (kind: 'layer' | 'rms' | 'rms1', input: Tensor, weight: Tensor): Tensor =>
    kind === 'layer'
      ? engine.layerNorm(input, weight, x([33], 3), 1e-3)
      : engine.rowNorm(input, { kind, weight, eps: 1e-3 });
  for (const kind of ['layer', 'rms', 'rms1'] as const) {
    it(`${kind} norm`, () =>
      compare(() => {
        const input = x([5, 33], 1).requireGrad();
        const weight = x([33], 2);
        return {
          input,
          output: normed(kind, input, weight),
          dy: x([5, 33], 4),
          twin: (x, _, dy) => engine.normBackwardTwin(kind, x.detach(), weight, dy, 1e-3),
        };
      }));
    it(`${kind} norm, gradient of the weight`, () =>
      compare(() => {
        const weight = x([33], 1).requireGrad();
        const input = x([5, 33], 2);
        return {
          input: weight,
          output: normed(kind, input, weight),
          dy: x([5, 33], 4),
          twin: (_w, _y, dy) => engine.sum(engine.mul(dy, engine.standardiseTwin(kind, input, 1e-3)), 0),
        };
      }));
  }
  it('cross-entropy', () =>
    compare(() => {
      const labels = [3, -100, 0, 16, -100];
      const input = x([5, 17], 1).requireGrad();
      return {
        input,
        output: engine.crossEntropyRows(input, labels),
        dy: x([5], 2),
        twin: (x, _, dy) => engine.crossEntropyBackwardTwin(x.detach(), dy, engine.integers(device, labels)),
      };
    }));
  it('log odds', () =>
    compare(() => {
      const labels = [3, -100, 0, 16, -100];
      const input = x([5, 17], 1).requireGrad();
      return {
        input,
        output: engine.logOdds(input, labels),
        dy: x([5], 2),
        twin: (x, _, dy) =>
          engine.oddsAgainstBackwardTwin(x.detach(), engine.neg(dy), engine.integers(device, labels)),
      };
    }));
});

describe('a masked score', () => {
  for (const log of [false, true])
    it(`gets no gradient through ${log ? 'logSoftmax' : 'softmax'}`, async () => {
      const [g] = await compute(() => {
        const x = upload(device, normal([2, 5], 3)).requireGrad();
        const keyMask = engine.integers(device, [1, 0, 1, 0, 1, 0, 1, 1, 0, 1], [2, 5]);
        const y = (log ? engine.logSoftmax : engine.softmax)(x, { keyMask });
        return engine.grad(y, [x], { cotangent: upload(device, normal([2, 5], 4)) });
      });
      for (const i of [1, 3, 5, 8]) expect(Math.abs(g!.data[i]!)).toBe(0);
      expect(largest(g!.data)).toBeGreaterThan(0.01);
    });
});

describe('third gradients', () => {
  it('of x^4 through mul, and of exp', async () => {
    const x = engine.tensor(device, [1.5]).requireGrad();
    const results = scope(() => {
      const out: Tensor[] = [];
      for (const f of [(x: Tensor) => engine.square(engine.square(x)), engine.exp]) {
        let y = f(x);
        for (let order = 0; order < 3; order++) {
          [y] = engine.grad(y, [x], { createGraph: true }) as [Tensor];
          out.push(y);
        }
      }
      return out;
    });
    const values = await Promise.all(results.map((t) => t.item()));
    const e = Math.exp(1.5);
    expectClose(values, [4 * 1.5 ** 3, 12 * 1.5 ** 2, 24 * 1.5, e, e, e], { ulps: 16 });
    for (const t of [...results, x]) t.dispose();
  });
});
