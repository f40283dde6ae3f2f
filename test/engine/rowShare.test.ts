/**
 * Rows that a workgroup keeps in registers, reads again, or reads by fours: every way against float64 and against the
 * operation's twin in primitives, and a row alone against the same row in a batch, bit for bit.
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type Device,
  grad,
  integers,
  layerNorm,
  logSoftmax,
  normBackwardTwin,
  rowNorm,
  softmax,
  softmaxBackwardTwin,
  type Tensor,
} from '../../engine/index.ts';
import { rowShare } from '../../engine/rowShare.ts';
import { HELD } from '../../kernels/index.ts';
import * as reference from './reference.ts';
import {
  compute,
  expectClose,
  expectSameBits,
  NARROW,
  normal,
  open,
  type Tolerance,
  upload,
  WIDE,
} from './support.ts';

let wide: Device;
let narrow: Device;
beforeAll(async () => {
  // Wide subgroups stand for a GPU.
  wide = await open({ mask: WIDE });
  narrow = await open({ mask: NARROW });
});
afterAll(() => {
  wide?.destroy();
  narrow?.destroy();
});

/** A driver on a CPU takes seconds to compile a kernel that holds many elements. */
const PATIENCE = 600_000;
const ROWS = 3;

interface Operation {
  readonly forward: (x: Tensor) => Tensor;
  readonly reference: (x: reference.Ref) => reference.Ref;
  readonly tolerance: Tolerance;
  /** The gradient of x, in primitive operations. */
  readonly twin: (x: Tensor, y: Tensor, dy: Tensor) => Tensor;
}

function norm(kind: 'layer' | 'rms' | 'rms1', length: number): Operation {
  const [w, b] = [normal([length], 3), normal([length], 4)];
  return {
    forward: (x) => {
      const [weight, bias] = [upload(x.device, w), upload(x.device, b)];
      return kind === 'layer' ? layerNorm(x, weight, bias, 1e-3) : rowNorm(x, { kind, weight, eps: 1e-3 });
    },
    reference: (x) =>
      kind === 'layer'
        ? reference.layerNorm(x, w, b, 1e-3)
        : reference.rmsNorm(x, kind === 'rms1' ? reference.map(w, (v) => 1 + v) : w, 1e-3),
    tolerance: { ulps: 24, floor: 1 },
    twin: (x, _, dy) => normBackwardTwin(kind, x, upload(x.device, w), dy, 1e-3),
  };
}

function softmaxOf(log: boolean, length: number): Operation {
  return {
    forward: (x) => (log ? logSoftmax : softmax)(x, { scale: 0.5 }),
    reference: (x) => (log ? reference.logSoftmax : reference.softmax)(x, { scale: 0.5 }),
    tolerance: log ? { ulps: 8, floor: 4 } : { ulps: 24, floor: 1e-3 / length },
    twin: (_, y, dy) => softmaxBackwardTwin(y, dy, log, 0.5),
  };
}

/** Lengths that are held one by one and by fours, by 64 lanes and by 256; 11,008 does not fit. */
const CASES: readonly (readonly [string, readonly number[], (length: number) => Operation])[] = [
  ['layer norm', [1, 7, 64, 100, 190, 768, 1000, 4096, 8192, 11008], (length) => norm('layer', length)],
  ['RMS norm', [7, 768, 4096], (length) => norm('rms', length)],
  ['RMS norm with 1 + weight', [7, 768], (length) => norm('rms1', length)],
  ['softmax', [1, 7, 64, 100, 190, 768, 4096, 11008], (length) => softmaxOf(false, length)],
  ['log softmax', [7, 100, 768, 11008], (length) => softmaxOf(true, length)],
];

describe.each(CASES)('%s', (_, lengths, of) => {
  it.each(
    lengths.flatMap((length) => (['wide', 'narrow'] as const).map((width) => [length, width] as const)),
  )('of rows of %i on %s subgroups', { timeout: PATIENCE }, async (length, width) => {
    const device = width === 'wide' ? wide : narrow;
    const { forward, reference: exact, tolerance, twin } = of(length);
    const [x, dy] = [normal([ROWS, length], 1), normal([ROWS, length], 2)];
    const passes = (x: reference.Ref, dy: reference.Ref): Tensor[] => {
      const input = upload(device, x).requireGrad();
      const [y, cotangent] = [forward(input), upload(device, dy)];
      const [dx] = grad(y, [input], { cotangent });
      return [y.detach(), dx!, twin(input.detach(), y.detach(), cotangent)];
    };
    const [y, dx, primitive] = await compute(() => passes(x, dy));
    expectClose(y!.data, exact(x).data, tolerance);
    const scale = primitive!.data.reduce((most, v) => Math.max(most, Math.abs(v)), 1e-6);
    expectClose(dx!.data, primitive!.data, { ulps: 64, floor: scale });
    const last = (t: reference.Ref) => reference.slice(t, [ROWS - 1, 0], [ROWS, length]);
    const alone = await compute(() => passes(last(x), last(dy)));
    expectSameBits(alone[0]!.data, y!.data.slice((ROWS - 1) * length), 'alone');
    expectSameBits(alone[1]!.data, dx!.data.slice((ROWS - 1) * length), 'alone, backward');
  });
});

it.each([
  ...[5, 64, 190, 516].map((keys) => [keys, {}] as const),
  [190, { window: { before: 70 } }] as const,
  [516, { window: { before: 70 } }] as const,
])('softmax of %i keys with masks and %j: the same', { timeout: PATIENCE }, async (keys, seen) => {
  const [batches, queries] = [2, 3];
  const x = normal([batches, queries, keys], 5);
  const keyMask = Array.from({ length: batches }, (_, b) =>
    Array.from({ length: keys }, (_, k) => ((k * 7 + b) % 3 === 0 ? 0 : 1)),
  );
  const options = { scale: 0.7, causal: true, ...seen };
  const want = reference.softmax(x, { ...options, keyMask });
  for (const device of [wide, narrow]) {
    const [y] = await compute(() => [
      softmax(upload(device, x), { ...options, keyMask: integers(device, keyMask.flat(), [batches, keys]) }),
    ]);
    expectClose(y!.data, want.data, { ulps: 24, floor: 1e-3 / keys });
    y!.data.forEach((p, i) => {
      if (want.data[i] === 0) expect(p).toBe(0);
    });
  }
});

it('the variance of numbers far from zero does not cancel', async () => {
  // The mean of squares less the square of the mean would be off by several percent.
  const x = reference.map(normal([2, 768], 1), (v) => Math.fround(v + 1000));
  const [one, zero] = [reference.build([768], () => 1), reference.build([768], () => 0)];
  for (const device of [wide, narrow]) {
    const [y] = await compute(() => [
      layerNorm(upload(device, x), upload(device, one), upload(device, zero), 1e-5),
    ]);
    expectClose(y!.data, reference.layerNorm(x, one, zero, 1e-5).data, { ulps: 4000, floor: 1 });
  }
});

describe('how a row is shared', () => {
  it('leaves no element out, and fits the count that is held', () => {
    for (let length = 1; length <= 40_000; length += length < 300 ? 1 : 127) {
      const { lanes, vector, held } = rowShare(length, { rowLanes: 64 });
      expect(length % vector).toBe(0);
      expect(held > 0).toBe(length <= 8192);
      if (held === 0) continue;
      expect(lanes * vector * held).toBeGreaterThanOrEqual(length);
      expect(vector * held).toBeLessThanOrEqual(32);
      expect(lanes).toBeLessThanOrEqual(256);
      // The kernel guards no element of the next smaller count.
      expect(length).toBeGreaterThan(lanes * vector * (HELD[HELD.indexOf(held) - 1] ?? 0));
    }
  });

  it('narrow subgroups hold only what was computed, of short rows', () => {
    expect(rowShare(128, { rowLanes: 8 }, 'computed')).toEqual({ lanes: 8, vector: 4, held: 4 });
    expect(rowShare(132, { rowLanes: 8 }, 'computed')).toEqual({ lanes: 8, vector: 4, held: 0 });
    expect(rowShare(768, { rowLanes: 8 })).toEqual({ lanes: 8, vector: 4, held: 0 });
    expect(rowShare(769, { rowLanes: 8 })).toEqual({ lanes: 8, vector: 1, held: 0 });
  });
});
