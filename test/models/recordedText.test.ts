/** The recorded step against a prefill a token: the same bits on every layout of heads, over the cache's growth; and memory. */

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Device, openDevice } from '../../engine/index.ts';
import { cachedText } from '../../models/generate.ts';
import {
  changed,
  generate,
  loadModelWeights,
  localFolder,
  readConfig,
  Transformer,
} from '../../models/index.ts';
import { recordedText } from '../../models/recordedText.ts';
import { seededRandom } from '../../neurgrad/random.ts';
import { expectSameBits, heldBytes } from '../engine/support.ts';
import { CAUSAL_CASES } from './goldenCases.ts';

/** A prompt, and tokens after it; with as many the cache of 64 has grown to 128, and one of 128 to 160. */
const CASES: [folder: string, tokens: number, after: number][] = [
  ['examples/models/stories260k', 60, 80],
  ['examples/models/stories260k', 1, 5],
  ...CAUSAL_CASES.map(({ model }): [string, number, number] => [model, 7, 9]),
];

test.each(CASES)('%s: %i tokens and %i more', async (folder, count, after) => {
  // Both ways of passing parameters, and of writing into the cache.
  const device = await openDevice({
    mask: { immediates: count > 1, ...(count > 1 ? {} : { storageBuffers: 8 }) },
  });
  const model = await loadModelWeights(await localFolder(folder), device);
  model.extend(model.sizes.positions);
  const held = heldBytes(device);
  const id = (i: number): number => (i * 31 + 7) % model.sizes.vocabulary;
  const prompt = Array.from({ length: count }, (_, i) => id(i));
  const [plain, recorded] = [cachedText(model), recordedText(model, count + after)];
  for (let i = 0; i <= after; i++) {
    const ids = i === 0 ? prompt : [id(count + i)];
    expectSameBits(await recorded.extend(ids), await plain.extend(ids), `token ${count + i}`);
  }
  plain.dispose();
  recorded.dispose();
  expect(heldBytes(device)).toBe(held);
  device.destroy();
});

test('a context whose table of positions lies in several buffers changes no bit', async () => {
  const device = await openDevice({ mask: { bindingBytes: 2 ** 20 } });
  const stories = await localFolder('examples/models/stories260k');
  const config = await readConfig(stories);
  const logits: Float32Array[][] = [];
  for (const positions of [config.description.sizes.positions, 2 ** 18]) {
    const model = new Transformer(
      device,
      changed(config, { max_position_embeddings: positions }),
      (await loadModelWeights(stories, device)).parameters,
    );
    const text = recordedText(model, 80);
    const steps = [await text.extend([1, 403, 407])];
    for (let i = 0; i < 70; i++) steps.push(await text.extend([261 + i]));
    logits.push(steps);
    text.dispose();
    model.dispose();
  }
  logits[0]!.forEach((want, i) => {
    expectSameBits(logits[1]![i]!, want, `token ${i}`);
  });
  device.destroy();
});

describe('generation', () => {
  let device: Device;
  let model: Transformer;
  beforeAll(async () => {
    device = await openDevice();
    model = await loadModelWeights(await localFolder('examples/models/stories260k'), device);
    model.extend(model.sizes.positions);
  });
  afterAll(() => device?.destroy());

  test.each([
    ['greedy', 0],
    ['drawn', 0.9],
  ])('%s tokens with and without replay', async (_, temperature) => {
    const prompt = [1, 403, 407, 261, 378];
    const once = (replay: boolean) =>
      generate(model, prompt, { maxTokens: 70, temperature, random: seededRandom(5), stopIds: [], replay });
    const [replayed, plain] = [await once(true), await once(false)];
    expect(replayed.ids.length).toBe(70);
    expect(replayed).toEqual(plain);
  });

  test('a step is encoded again, not run: no memory is asked for, no copy of the cache is made', async () => {
    const text = recordedText(model, 64);
    await text.extend([1, 403, 407]);
    await text.extend([261]);
    const [held, dispatched] = [heldBytes(device), device.queue.dispatches];
    await text.extend([378]);
    const step = device.queue.dispatches - dispatched;
    for (let i = 0; i < 20; i++) await text.extend([400 + i]);
    expect(device.queue.dispatches - dispatched).toBe(21 * step);
    expect(heldBytes(device)).toBe(held);
    text.dispose();
    const plain = cachedText(model);
    await plain.extend([1, 403, 407]);
    const before = device.queue.dispatches;
    await plain.extend([261]);
    expect(step).toBeLessThan(device.queue.dispatches - before);
    plain.dispose();
  });

  test('refuses what does not fit, and goes on by one token', async () => {
    const text = recordedText(model, model.sizes.positions);
    await expect(text.extend([])).rejects.toThrow('no token');
    await text.extend([1, 2, 3]);
    await expect(text.extend([1, 2])).rejects.toThrow(RangeError);
    await expect(text.extend([model.sizes.vocabulary])).rejects.toThrow('is outside 0..');
    text.dispose();
    const held = heldBytes(device);
    const full = recordedText(model, model.sizes.positions);
    await full.extend(Array.from({ length: model.sizes.positions }, (_, i) => i % 400));
    await expect(full.extend([1])).rejects.toThrow('longer than the model');
    full.dispose();
    expect(heldBytes(device)).toBe(held);
  });
});
