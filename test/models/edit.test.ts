/** Edits are differentiable: a tape is left wherever they bring in something whose gradient is wanted, at every name. */

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  add,
  type Device,
  exp,
  GradientError,
  grad,
  logSoftmax,
  mul,
  noGrad,
  openDevice,
  pick,
  scope,
  sum,
  type Tensor,
  tensor,
  zeros,
} from '../../engine/index.ts';
import {
  type LanguageModel,
  type Llama,
  loadModelWeights,
  localFolder,
  streamModel,
} from '../../models/index.ts';
import { heldBytes, normal, upload } from '../engine/support.ts';
import { CASES, named, openCase } from './goldenCases.ts';

let device: Device;
beforeAll(async () => {
  device = await openDevice();
});
afterAll(() => device.destroy());

const INPUT = { ids: [[1, 43, 17, 5, 61]] };
const LOGITS = [4];
const TARGET = [3];
const logprob = (logits: Tensor): Tensor => sum(pick(logSoftmax(logits), TARGET));
const read = async (t: Tensor | undefined): Promise<number[]> => [...(await t!.read())];

/** Largest deviation from what was expected, as a share of its largest element. */
function apart(got: readonly number[], expected: readonly number[]): number {
  expect(got.length).toBe(expected.length);
  const size = Math.max(...expected.map(Math.abs), 1e-12);
  return Math.max(...got.map((v, i) => Math.abs(v - expected[i]!))) / size;
}

describe.each(named(CASES.filter(({ brief }) => !brief)))('%s', (_, golden) => {
  let model: LanguageModel;
  beforeAll(async () => {
    model = await openCase(golden, device);
  });
  afterAll(() => model?.dispose());

  test("what is added at a name has that value's gradient, at every name", async () => {
    const { hookNames } = model;
    const grads = { at: hookNames, of: { of: 'logprob', target: TARGET, position: LOGITS } } as const;
    using plain = model.run(INPUT, { capture: hookNames, grad: grads, logits: LOGITS });
    for (const hook of hookNames) {
      const { shape } = plain.captures.get(hook)!;
      const [dv, ds] = scope(() => {
        // A shift and a factor, which leave the value as it is.
        const v = zeros(device, shape).requireGrad();
        const s = tensor(device, [1]).requireGrad();
        const run = model.run(INPUT, { edit: { [hook]: (x) => mul(add(x, v), s) }, logits: LOGITS });
        const found = grad(logprob(run.logits), [v, s]);
        run.dispose();
        return found;
      });
      const expected = await read(plain.gradients.get(hook));
      expect(apart(await read(dv), expected), hook).toBeLessThan(2e-4);
      const value = await read(plain.captures.get(hook));
      const product = value.map((x, i) => x * expected[i]!);
      const total = product.reduce((a, b) => a + b, 0);
      const size = product.reduce((a, b) => a + Math.abs(b), 0);
      expect(Math.abs((await read(ds))[0]! - total), hook).toBeLessThan(1e-5 + 2e-5 * size);
      for (const t of [dv, ds]) t!.dispose();
    }
    expect(device.memory.saved).toBe(0);
  });

  test('through captures, two edits, a replaced value, 16-bit weights', async () => {
    const [early, late] = ['blocks.0.hook_mlp_out', 'blocks.1.hook_mlp_out'];
    const { hidden } = model.sizes;
    const both = scope(() => {
      const [a, b] = [zeros(device, [hidden]).requireGrad(), zeros(device, [hidden]).requireGrad()];
      const shift = (v: Tensor) => (x: Tensor) => add(x, v);
      const run = model.run(INPUT, {
        edit: { [early!]: shift(a), [late!]: shift(b) },
        capture: [late!],
        logits: LOGITS,
      });
      const [captured] = grad(sum(run.captures.get(late!)!), [a], { retainTape: true });
      const found = grad(logprob(run.logits), [a, b]);
      run.dispose();
      return [captured!, ...found];
    });
    for (const t of both) expect((await read(t)).some((v) => v !== 0)).toBe(true);
    for (const t of both) t.dispose();
    // A leaf in place of a value, which nothing of the model leads to.
    const whole = scope(() => {
      const leaf = upload(device, normal([1, INPUT.ids[0]!.length, hidden], 3)).requireGrad();
      const run = model.run(INPUT, { edit: { [late!]: () => leaf }, logits: LOGITS });
      const [found] = grad(logprob(run.logits), [leaf]);
      run.dispose();
      return found!;
    });
    expect((await read(whole)).some((v) => v !== 0)).toBe(true);
    whole.dispose();
    // Blocks of 16-bit products, which BERT's sizes take, are compiled for most of a minute on a CPU.
    if (model.architecture === 'bert') return;
    const half = await openCase(golden, device, 'bf16');
    const narrow = scope(() => {
      const v = zeros(device, [hidden]).requireGrad();
      const run = half.run(INPUT, { edit: { [early!]: (x) => add(x, v) }, logits: LOGITS });
      const [found] = grad(logprob(run.logits), [v]);
      run.dispose();
      return found!;
    });
    expect((await read(narrow)).every((v) => Number.isFinite(v))).toBe(true);
    narrow.dispose();
    half.dispose();
  });

  test('leaves no tape where nothing is tracked, or under noGrad; bits are the same', async () => {
    const hook = 'blocks.0.hook_mlp_out';
    const saved: number[] = [];
    const held = heldBytes(device);
    const logitsOf = async (make: () => Tensor, off = false): Promise<number[]> => {
      const logits = scope(() => {
        const v = make();
        const run = () => model.run(INPUT, { edit: { [hook]: (x) => add(x, v) }, logits: LOGITS });
        const made = off ? noGrad(run) : run();
        saved.push(device.memory.saved);
        const kept = made.logits.detach();
        made.dispose();
        return kept;
      });
      const values = await read(logits);
      logits.dispose();
      return values;
    };
    const vector = () => upload(device, normal([model.sizes.hidden], 5));
    const plain = await logitsOf(vector);
    expect(await logitsOf(() => vector().requireGrad(), true)).toEqual(plain);
    expect(saved).toEqual([0, 0]);
    expect(apart(await logitsOf(() => vector().requireGrad()), plain)).toBeLessThan(1e-6);
    expect(saved[2]).toBeGreaterThan(0);
    expect(heldBytes(device)).toBe(held);
    expect(device.memory.saved).toBe(0);
  });

  test('outside of a scope the error says where the tape has gone', () => {
    const v = zeros(device, [model.sizes.hidden]).requireGrad();
    const run = model.run(INPUT, { edit: { 'blocks.0.hook_mlp_out': (x) => add(x, v) }, logits: LOGITS });
    expect(() => grad(logprob(run.logits), [v])).toThrow(GradientError);
    expect(() => grad(logprob(run.logits), [v])).toThrow(
      /its tape ended with the scope that it was recorded in \(a model's run is one\)/,
    );
    run.dispose();
    v.dispose();
  });
});

test('rows behind a cache leave a tape to their edits; a streamed model says that it leaves none', async () => {
  const folder = await localFolder('test/golden/models/llama-tied');
  const model = (await loadModelWeights(folder, device)) as Llama;
  const edit = (v: Tensor) => ({ 'blocks.1.hook_mlp_out': (x: Tensor) => add(x, v) });
  const v = zeros(device, [model.sizes.hidden]).requireGrad();
  const whole = scope(() => {
    // At the last token alone, as the row is.
    const last = tensor(device, [0, 0, 0, 0, 1], [5, 1]);
    const run = model.run(INPUT, {
      edit: { 'blocks.1.hook_mlp_out': (x) => add(x, mul(last, v)) },
      logits: LOGITS,
    });
    const [found] = grad(logprob(run.logits), [v]);
    run.dispose();
    return found!;
  });
  const row = scope(() => {
    const prefix = model.prefill(INPUT.ids[0]!.slice(0, -1));
    const run = model.runRows([{ prefix, ids: INPUT.ids[0]!.slice(-1) }], { edit: edit(v) });
    const [found] = grad(logprob(run.logits), [v]);
    run.dispose();
    prefix.dispose();
    return found!;
  });
  expect(apart(await read(row), await read(whole))).toBeLessThan(2e-4);
  const streamed = await streamModel(folder, device);
  const run = await streamed.runAsync(INPUT, { edit: edit(v), logits: LOGITS });
  expect(() => grad(sum(exp(run.logits)), [v])).toThrow(/by a streamed model/);
  run.dispose();
  streamed.dispose();
  model.dispose();
});
