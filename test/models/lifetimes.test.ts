/**
 * What is left where a step fails: nothing on the device, no promise that never settles. Memory is refused at the first, second,
 * ... request in turn, so that every step is the one that fails.
 */

import { cp, mkdtemp, rm, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { Device, OutOfMemoryError, openDevice } from '../../engine/index.ts';
import {
  generate,
  loadModel,
  loadModelWeights,
  localFolder,
  readConfig,
  SplitModel,
  streamModel,
} from '../../models/index.ts';
import { checkInput } from '../../models/run.ts';
import { Worker } from '../../models/splitWorker.ts';
import { openBundle } from '../../neurgrad/difference/index.ts';
import { recordPrompt } from '../../neurgrad/record.ts';
import { heldBytes } from '../engine/support.ts';

const LLAMA = 'test/golden/models/llama-tied';
const BERT = 'test/golden/models/bert-l';
const INPUT = { ids: [[1, 43, 17, 5, 61]] };

let device: Device;
beforeAll(async () => {
  device = await openDevice();
});
afterAll(() => device.destroy());
afterEach(() => vi.restoreAllMocks());

/** The request for memory after which there is none. @returns requests made, or null where none was refused. */
async function refusing(on: Device, after: number, work: () => Promise<unknown>): Promise<boolean> {
  const acquire = on.pool.acquire.bind(on.pool);
  let asked = 0;
  const spy = vi.spyOn(on.pool, 'acquire').mockImplementation((...of) => {
    if (++asked > after) throw new OutOfMemoryError('out of memory', 0, 0, 0);
    return acquire(...of);
  });
  try {
    await work();
    return false;
  } catch (error) {
    expect(error).toBeInstanceOf(OutOfMemoryError);
    return true;
  } finally {
    spy.mockRestore();
  }
}

/** Fails `work` at every `stride`th request; what is held afterwards must be what was before. @returns failures */
async function failEverywhere(on: Device, work: () => Promise<unknown>, stride = 1): Promise<number> {
  const before = heldBytes(on);
  for (let after = 0, failures = 0; ; after += stride, failures++) {
    const failed = await refusing(on, after, work);
    expect(heldBytes(on), `refused after ${after}`).toBe(before);
    if (!failed) return failures;
  }
}

describe('openBundle', () => {
  test.each([LLAMA, BERT])('%s: nothing is left, whichever step fails', async (folder) => {
    const model = await loadModelWeights(await localFolder(folder), device);
    model.extend(INPUT.ids[0]!.length);
    const cases = [2, 4].map((position) => ({
      probe: { ids: INPUT.ids[0]!, position },
      at: position,
      target: 3,
    }));
    const failures = await failEverywhere(device, async () => (await openBundle(model, cases)).dispose(), 5);
    expect(failures).toBeGreaterThan(20);
    model.dispose();
  });
  test.each([LLAMA, BERT])('%s: and of a record', async (folder) => {
    const model = await loadModelWeights(await localFolder(folder), device);
    model.extend(INPUT.ids[0]!.length);
    for (const position of [2, INPUT.ids[0]!.length - 1]) {
      const probe = { ids: INPUT.ids[0]!, position };
      const work = async () => (await recordPrompt(model, probe, { target: 3 })).dispose();
      expect(await failEverywhere(device, work, 7)).toBeGreaterThan(10);
    }
    model.dispose();
  });
});

describe('a run', () => {
  const name = 'blocks.0.mlp.hook_post';
  const options = {
    capture: [name, 'blocks.1.hook_resid_post'],
    grad: { at: [name], of: { of: 'prob', target: [3], position: [4] } },
    patch: [{ name, position: 2, neuron: 3, op: 'set', value: 2 }],
  } as const;

  test('of a model on the device, rows behind a cache, text', async () => {
    const model = await loadModelWeights(await localFolder(LLAMA), device);
    model.extend(model.sizes.positions);
    const works: [() => Promise<unknown>, number][] = [
      [async () => model.run(INPUT, options).dispose(), 3],
      [async () => model.prefill(INPUT.ids[0]!, { logits: true }).dispose(), 2],
      [
        async () => {
          using prefix = model.prefill(INPUT.ids[0]!);
          model
            .runRows(
              [{ prefix, ids: [7] }],
              options.patch ? { grad: { ...options.grad, of: { of: 'prob', target: [3] } } } : {},
            )
            .dispose();
        },
        3,
      ],
      [() => generate(model, INPUT.ids[0]!, { maxTokens: 3 }), 7],
    ];
    for (const [work, stride] of works) expect(await failEverywhere(device, work, stride)).toBeGreaterThan(5);
    model.dispose();
  });

  test('of a streamed model', async () => {
    const model = await streamModel(await localFolder(LLAMA), device);
    // What is read ahead is held between runs.
    const work = async () => (await model.runAsync(INPUT, options)).dispose();
    await work();
    const held = heldBytes(device);
    for (let after = 0, failed = true; failed; after += 9) {
      failed = await refusing(device, after, work);
      await work();
      expect(heldBytes(device), `refused after ${after}`).toBe(held);
    }
    model.dispose();
  });
});

test('a model that is disposed of says so, also to a run that is under way', async () => {
  const whole = await loadModelWeights(await localFolder(LLAMA), device);
  whole.dispose();
  expect(() => whole.run(INPUT)).toThrow(/this model has been disposed of/);
  const held = heldBytes(device);
  for (const pause of [0, 1, 3, 10]) {
    const streamed = await streamModel(await localFolder(LLAMA), device);
    const running = [streamed.runAsync(INPUT), streamed.runAsync(INPUT)];
    const settled = Promise.allSettled(running);
    await new Promise((resolve) => setTimeout(resolve, pause));
    streamed.dispose();
    streamed.dispose();
    await settled;
    await running[0]!.then(
      (run) => run.dispose(),
      (error) => expect(error.code).toBe('disposed'),
    );
    await running[1]!.then(
      (run) => run.dispose(),
      (error) => expect(error.code).toBe('disposed'),
    );
    await expect(streamed.runAsync(INPUT)).rejects.toThrow(/disposed of/);
  }
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(heldBytes(device)).toBe(held);
});

describe('a process of a split model', () => {
  const config = async () => await readConfig(await localFolder(LLAMA));
  const load = async (worker: Worker): Promise<void> => {
    const { json, description } = await config();
    const layers = { first: 0, end: description.sizes.layers };
    await worker.answer({ do: 'load', folder: LLAMA, config: json, dtype: 'f32', ...layers });
  };

  test('closes its device where loading fails', async () => {
    const opened: Device[] = [];
    const worker = new Worker(async () => {
      const own = await openDevice();
      opened.push(own);
      vi.spyOn(own.pool, 'acquire').mockImplementation(() => {
        throw new OutOfMemoryError('out of memory', 0, 0, 0);
      });
      return own;
    });
    await expect(load(worker)).rejects.toThrow(OutOfMemoryError);
    expect(() => opened[0]!.check()).toThrow(/destroyed/);
    // A folder that holds no checkpoint is found out before there is a device.
    await expect(
      worker.answer({
        ...{ do: 'load', folder: 'test/golden', config: await config(), dtype: 'f32', first: 0, end: 1 },
      }),
    ).rejects.toThrow();
    expect(opened.length).toBe(1);
  });

  test('keeps nothing of a forward, a backward or a text that fails', async () => {
    const own = await openDevice();
    const worker = new Worker(async () => own);
    await load(worker);
    const input = checkInput(INPUT, (await config()).description);
    const name = 'blocks.0.mlp.hook_post';
    const grad = { at: [name], of: { of: 'prob', target: [3], position: [4] } } as const;
    const forward = { do: 'forward', input, options: { capture: [name], grad }, lowest: 0 } as const;
    const both = async () => {
      await worker.answer(forward);
      await worker.answer({ do: 'backward' });
    };
    // Makes the table of positions, which stays.
    await both();
    // What a forward keeps for a backward that never comes goes with the next request; here it comes after each failure.
    const before = heldBytes(own);
    for (let after = 0, failed = true; failed; after += 4) {
      failed = await refusing(own, after, both);
      expect(heldBytes(own), `refused after ${after}`).toBe(before);
    }
    const text = async () => {
      try {
        await worker.answer({ do: 'extend', text: 1, ids: [1, 2, 3] });
        await worker.answer({ do: 'extend', text: 1, ids: [4] });
      } finally {
        await worker.answer({ do: 'forget', text: 1 });
      }
    };
    expect(await failEverywhere(own, text, 4)).toBeGreaterThan(5);
    own.destroy();
  });

  test('rejects what it was asked where it is ended', async () => {
    const split = await SplitModel.open(LLAMA, await config(), device, 2);
    const held = heldBytes(device);
    const running = [split.runAsync(INPUT), split.runAsync(INPUT, options())];
    const text = split.openText();
    const extending = text.extend([1, 2, 3]);
    split.dispose();
    for (const pending of [...running, extending, split.runAsync(INPUT)]) {
      await expect(pending).rejects.toMatchObject({ name: 'UserError', code: 'split' });
      await expect(pending).rejects.toThrow(/layers 0 to \d+ was ended by dispose\(\)/);
    }
    text.dispose();
    split.dispose();
    expect(heldBytes(device)).toBe(held);
  });
  const options = () => ({ capture: ['blocks.0.mlp.hook_post'] });

  test('ended in the middle of a run', async () => {
    const split = await SplitModel.open(LLAMA, await config(), device, 2);
    const running = split.runAsync(INPUT);
    await new Promise((resolve) => setTimeout(resolve, 5));
    split.dispose();
    // It had ended by then, or is told that it will not; it does not wait for ever.
    await running.then(
      (run) => run.dispose(),
      (error) => expect(error.code).toBe('split'),
    );
  });
});

test('loadModel closes the device that it opened, where the weights are wrong', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'neurgrad-cut-'));
  await cp('examples/models/facts-bert', folder, { recursive: true });
  await truncate(join(folder, 'model.safetensors'), 100_000);
  const { destroy } = Device.prototype;
  const closed: Device[] = [];
  vi.spyOn(Device.prototype, 'destroy').mockImplementation(function (this: Device) {
    closed.push(this);
    destroy.call(this);
  });
  await expect(loadModel(folder)).rejects.toThrow(/model.safetensors/);
  expect(closed.length).toBe(1);
  // One that was given is the caller's.
  await expect(loadModel(folder, { device })).rejects.toThrow(/model.safetensors/);
  expect(closed.length).toBe(1);
  device.check();
  await rm(folder, { recursive: true });
});
