/**
 * Mixed precision: gradients and tapes in f16, the factor that clips and skips on the device, updates with f16 copies, and
 * whole trainings beside those in f32.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  AdamW,
  clipFactor,
  convert,
  type Device,
  gelu,
  grad,
  halfTape,
  LossScale,
  linear,
  mul,
  openDevice,
  scope,
  sum,
  type Tensor,
  tensor,
  toF32,
  UserError,
} from '../../engine/index.ts';
import { Trainer, type TrainerOptions } from '../../examples/training/trainer.ts';
import { halved, initialise, loadModelWeights, localFolder } from '../../models/index.ts';
import { seededRandom } from '../../neurgrad/index.ts';
import { normal, upload } from '../engine/support.ts';
import { bert, llama, losses, schedule, values } from './toy.ts';

let device: Device;
let folder: string;
beforeAll(async () => {
  device = await openDevice();
  folder = mkdtempSync(join(tmpdir(), 'neurgrad-mixed-'));
});
afterAll(() => {
  device.destroy();
  rmSync(folder, { recursive: true, force: true });
});

/** The numbers as f16 keeps them. */
async function rounded(numbers: Float32Array): Promise<Float32Array> {
  const [narrow] = scope(() => [toF32(convert(tensor(device, numbers), 'f16'))]);
  return narrow!.read();
}

test('the gradient of an f16 tensor is f16: the f32 one rounded, infinite where too large', async () => {
  const [x, w] = [upload(device, normal([6, 8], 1)), upload(device, normal([4, 8], 2))];
  const half = convert(w, 'f16').requireGrad();
  const wide = toF32(half).requireGrad();
  const loss = (w: Tensor): Tensor => sum(mul(gelu(linear(x, w)), gelu(linear(x, w))));
  const [g] = grad(loss(half), [half]);
  const [want] = grad(loss(wide), [wide]);
  expect([g!.dtype, g!.shape]).toEqual(['f16', [4, 8]]);
  const got = await toF32(g!).read();
  const expected = await rounded(await want!.read());
  // The two uses of w are rounded before they are added, and after.
  got.forEach((v, i) => {
    expect(Math.abs(v - expected[i]!)).toBeLessThanOrEqual(3e-3 * Math.max(1, Math.abs(expected[i]!)));
  });
  const [huge] = grad(loss(half), [half], { cotangent: tensor(device, [1e6], []) });
  expect([...(await toF32(huge!).read())].some((v) => Math.abs(v) === Infinity)).toBe(true);
  // What a loss scale is for.
  const [tiny] = grad(loss(half), [half], { cotangent: tensor(device, [1e-9], []) });
  expect(new Set((await toF32(tiny!).read()).map(Math.abs))).toEqual(new Set([0]));
  expect(() => convert(w, 'bf16').requireGrad()).toThrow(/only f32 and f16/);
});

test('the largest f16 and what rounds to it are finite, the next number is not', async () => {
  const w = convert(tensor(device, [0, 0, 0, 0], [1, 4]), 'f16').requireGrad();
  const x = tensor(device, [65504, 65519, -65520, Number.NaN], [1, 4]);
  const [g] = grad(sum(linear(x, w)), [w]);
  expect([...(await toF32(g!).read())].map(Math.abs)).toEqual([65504, 65504, Infinity, Infinity]);
});

test('a tape in f16 keeps half, gives the same values, and gradients of rounded activations', async () => {
  const x = upload(device, normal([64, 32], 1)).requireGrad();
  const w = upload(device, normal([32, 32], 2, 0.2)).requireGrad();
  const net = (t: Tensor): Tensor => {
    const hidden = gelu(linear(gelu(linear(t, w)), w));
    return mul(hidden, linear(hidden, w));
  };
  const saved: number[] = [];
  const [plain, half] = await Promise.all(
    [(fn: () => Tensor) => fn(), halfTape].map((tape) => {
      const parts = scope(() => {
        const before = device.memory.saved;
        const y = tape(() => net(x));
        saved.push(device.memory.saved - before);
        return [y.detach(), ...grad(sum(y), [x, w])];
      });
      return Promise.all(parts.map((t) => t.read()));
    }),
  );
  expect(half![0]).toEqual(plain![0]);
  expect(saved[1]! / saved[0]!).toBeLessThan(0.6);
  for (const i of [1, 2]) {
    const size = Math.hypot(...plain![i]!);
    const apart = Math.hypot(...plain![i]!.map((v, j) => v - half![i]![j]!));
    expect(apart / size).toBeLessThan(1e-3);
    expect(apart).toBeGreaterThan(0);
  }
});

describe('the factor on gradients', () => {
  const parts = (last: number) => [tensor(device, [3, 0]), tensor(device, [4]), tensor(device, [last])];

  test('clips, takes the scale back, and tells the norm', async () => {
    expect([...(await clipFactor(parts(12), 26).read())]).toEqual([1, 13]);
    const [factor, norm] = await clipFactor(parts(12), 6.5).read();
    expect([factor! * 13, norm]).toEqual([expect.closeTo(6.5, 5), 13]);
    const [unscaled, smaller] = await clipFactor(parts(12), 26, 4).read();
    expect([unscaled, smaller]).toEqual([0.25, 3.25]);
  });

  test.each([Infinity, -Infinity, Number.NaN, 1e20])('is 0 with %d among them', async (last) => {
    expect((await clipFactor(parts(last), 1).read())[0]).toBe(0);
  });
});

describe('AdamW', () => {
  test('multiplies by the factor, keeps a rounded copy, reads f16 gradients', async () => {
    const start = normal([3, 5], 3).data;
    const gradient = Float32Array.from({ length: 15 }, (_, i) => (i - 7) / 8);
    const make = () => tensor(device, start as ArrayLike<number>, [3, 5], 'weights');
    const [plain, scaled] = [make(), make()];
    const copy = convert(scaled, 'f16');
    new AdamW([plain], { rate: 0.1 }).step([tensor(device, gradient, [3, 5])]);
    new AdamW([{ parameters: [scaled], copies: [copy] }], { rate: 0.1 }).step(
      [
        convert(
          tensor(
            device,
            gradient.map((v) => 8 * v),
            [3, 5],
          ),
          'f16',
        ),
      ],
      tensor(device, [1 / 8]),
    );
    expect(await scaled.read()).toEqual(await plain.read());
    expect(await toF32(copy).read()).toEqual(await rounded(await plain.read()));
    expect(await scaled.read()).not.toEqual(Float32Array.from(start));
  });

  test('changes nothing where the factor is 0, and the step does not count', async () => {
    const parameter = tensor(device, [1, 2, 3], [3], 'weights');
    const optimiser = new AdamW([parameter]);
    optimiser.step([tensor(device, [1, 1, 1])]);
    const read = () => Promise.all([parameter, ...optimiser.moments[0]!].map((t) => t.read()));
    const before = await read();
    optimiser.step([tensor(device, [Number.NaN, Infinity, 1])], tensor(device, [0]));
    optimiser.takeBack();
    expect(await read()).toEqual(before);
    expect(optimiser.steps).toBe(1);
  });
});

test('the loss scale halves on overflow, doubles after finite steps up to a limit, and can be restored', () => {
  const scale = new LossScale({ initial: 8, interval: 2, largest: 16 });
  const values = [true, false, true, true, true, true, true, true].map((finite) => {
    scale.update(finite);
    return scale.value;
  });
  expect(values).toEqual([8, 4, 4, 8, 8, 16, 16, 16]);
  const again = new LossScale({ interval: 2 });
  again.restore({ value: 4, steps: 1 });
  again.update(true);
  expect(again.state).toEqual({ value: 8, steps: 0 });
  expect(() => {
    for (let i = 0; i < 64; i++) again.update(false);
  }).toThrow(/not finite at any loss scale/);
});

describe.each([bert, llama])('$family.type in mixed precision', (config) => {
  const begin = (options: Partial<TrainerOptions> = {}, on = device): Trainer =>
    new Trainer(initialise(on, config, seededRandom(1)), { schedule, precision: 'mixed', ...options });

  test('follows the training in f32, and keeps matrices in f16', async () => {
    const [mixed, plain] = [begin(), begin({ precision: 'f32' })];
    const matrices = [...mixed.model.parameters.values()].filter((t) => t.rank > 1);
    expect(new Set(matrices.map(({ dtype }) => dtype))).toEqual(new Set(['f16']));
    for (let step = 0; step < 20; step++) {
      const a = await mixed.step(losses(mixed.model, step), 6);
      const b = await plain.step(losses(plain.model, step), 6);
      expect(a.lossScale! / 2 ** 16).toSatisfy((part: number) => part <= 1 && part > 2 ** -8);
      expect(b.lossScale).toBeUndefined();
      expect(Math.abs(a.loss - b.loss)).toBeLessThan(5e-3 * b.loss);
      expect(Math.abs(a.norm - b.norm)).toBeLessThan(2e-2 * b.norm);
      if (step === 19) expect(a.loss).not.toBe(b.loss);
    }
    const [got, want] = [await values(mixed.master), await values(plain.master)];
    for (const [name, master] of got) {
      const working = mixed.model.parameters.get(name)!;
      expect(await toF32(working).read(), name).toEqual(
        working.dtype === 'f16' ? await rounded(master) : master,
      );
    }
    const word =
      config.family.type === 'bert' ? 'bert.embeddings.word_embeddings.weight' : 'model.embed_tokens.weight';
    const apart = Math.hypot(...got.get(word)!.map((v, i) => v - want.get(word)![i]!));
    expect(apart / Math.hypot(...want.get(word)!)).toBeLessThan(2e-2);
  });

  test('backs off where gradients overflow: the step is tried again, with nothing changed meanwhile', async () => {
    const high = begin({ lossScale: { initial: 2 ** 40 } });
    const report = await high.step(losses(high.model, 0), 6);
    expect(report.step).toBe(1);
    expect(report.lossScale).toBeLessThan(2 ** 40);
    const same = new Trainer(initialise(device, config, seededRandom(1)), {
      schedule,
      precision: 'mixed',
      lossScale: { initial: report.lossScale! },
    });
    expect(await same.step(losses(same.model, 0), 6)).toEqual(report);
    expect(await values(same.master)).toEqual(await values(high.master));
  });

  test('goes on from a checkpoint to the same bits, the loss scale too', async () => {
    const lossScale = { initial: 2 ** 22, interval: 2 };
    const straight = begin({ lossScale });
    const reports = [];
    for (let step = 0; step < 5; step++)
      reports.push(await straight.step(losses(straight.model, step, 2), 6));
    const first = begin({ lossScale });
    for (let step = 0; step < 3; step++) await first.step(losses(first.model, step, 2), 6);
    const out = join(folder, config.family.type);
    await first.save(out, config, await localFolder('examples/models/facts-bert'), {});
    const loaded = await loadModelWeights(await localFolder(join(out, 'latest')), device);
    const rest = new Trainer(loaded, { schedule, precision: 'mixed', lossScale: { interval: 2 } });
    await rest.resume(join(out, 'latest'));
    for (let step = 3; step < 5; step++)
      expect(await rest.step(losses(rest.model, step, 2), 6)).toEqual(reports[step]);
    expect(new Set(reports.map((r) => r.lossScale)).size).toBeGreaterThan(1);
    expect(await values(rest.master)).toEqual(await values(straight.master));
  });
});

test('a gradient that is not finite ends a training in f32, and nothing is changed', async () => {
  const trainer = new Trainer(initialise(device, bert, seededRandom(1)), { schedule });
  const before = await values(trainer.model);
  const broken = losses(trainer.model, 0).map((loss) => () => mul(loss(), tensor(device, [Number.NaN], [])));
  await expect(trainer.step(broken, 6)).rejects.toThrow(/step 1: the gradient is not finite/);
  expect(trainer.steps).toBe(0);
  expect(await values(trainer.model)).toEqual(before);
});

test('a device without f16 says so, or trains in f32 where that is allowed', async () => {
  const poor = await openDevice({ mask: { f16: false } });
  try {
    const make = (precision: 'mixed' | 'auto' | 'f32') =>
      new Trainer(initialise(poor, bert, seededRandom(1)), { schedule, precision });
    expect(() => make('mixed')).toThrow(UserError);
    expect(() => make('mixed')).toThrow(/no f16; take precision auto or f32/);
    const [auto, plain] = [make('auto'), make('f32')];
    expect([auto.precision, auto.model]).toEqual(['f32', auto.master]);
    expect(await auto.step(losses(auto.model, 0), 6)).toEqual(await plain.step(losses(plain.model, 0), 6));
  } finally {
    poor.destroy();
  }
});

test('only a model on the device has a copy in f16', () => {
  const elsewhere = { parameters: new Map() } as unknown as Parameters<typeof halved>[0];
  expect(() => halved(elsewhere)).toThrow(/weights are on the device/);
});
