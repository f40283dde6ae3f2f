/** A model split over two and three processes gives the bits of one. Needs the built package, as the command's tests do. */

import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Device, openDevice } from '../../engine/index.ts';
import {
  generate,
  type Llama,
  type LlamaConfig,
  layerRanges,
  loadModelWeights,
  localFolder,
  type RunOptions,
  readConfig,
  SplitLlama,
  type WeightDtype,
} from '../../models/index.ts';
import { neuronGradients } from '../../neurgrad/gradients.ts';
import { integrateLayers } from '../../neurgrad/integrated.ts';
import { siteHook } from '../../neurgrad/neuron.ts';
import { seededRandom } from '../../neurgrad/random.ts';
import { CAUSAL_CASES, oneAFamily } from './goldenCases.ts';

let device: Device;
beforeAll(async () => {
  device = await openDevice();
});
afterAll(() => device.destroy());

const STORIES = 'examples/models/stories260k';

test('processes read a model behind an address themselves', async () => {
  const server = createServer(async (request, response) => {
    const bytes = await readFile(`${STORIES}/${request.url!.split('/').at(-1)}`).catch(() => undefined);
    if (!bytes) return response.writeHead(404).end();
    const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range!)!;
    const part = bytes.subarray(Number(from), Number(to) + 1);
    const range = `bytes ${from}-${Number(from) + part.length - 1}/${bytes.length}`;
    return response.writeHead(206, { 'Content-Range': range }).end(part);
  }).listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}/model`;
  const config = (await readConfig(await localFolder(STORIES))) as LlamaConfig;
  try {
    const split = await SplitLlama.open(address, config, device, 2);
    const { ids } = await generate(split, [1, 403, 407, 261, 378], { maxTokens: 1 }).finally(() =>
      split.dispose(),
    );
    expect(ids).toEqual([432]);
  } finally {
    server.closeAllConnections();
    server.close();
  }
});
const INPUT = {
  ids: [
    [1, 43, 17, 5, 61, 70, 12],
    [9, 8, 7, 6, 5, 4, 3],
  ],
  attentionMask: [Array(7).fill(1), [1, 1, 1, 1, 1, 0, 0]],
};

const CASES: { name: string; model: string; count: number; dtype: WeightDtype }[] = [
  { name: 'stories260k', model: STORIES, count: 2, dtype: 'f32' },
  { name: 'stories260k', model: STORIES, count: 3, dtype: 'int8' },
  // Starting processes is what costs.
  ...oneAFamily(CAUSAL_CASES).map((one) => ({ ...one, count: 2, dtype: 'bf16' as const })),
];

describe.each(CASES)('$name over $count processes', ({ model: folder, count, dtype }) => {
  let whole: Llama;
  let split: SplitLlama;
  beforeAll(async () => {
    whole = (await loadModelWeights(await localFolder(folder), device, { dtype })) as Llama;
    split = await SplitLlama.open(folder, whole.sizes as LlamaConfig, device, count, dtype);
  });
  afterAll(() => {
    whole?.dispose();
    split?.dispose();
  });
  test('values, logits, gradients, patches', async () => {
    const { layers } = whole.sizes;
    const late = siteHook(layers - 1, whole.paperSite);
    const of = { of: 'prob', target: [3, 50], position: [6, 4] } as const;
    const patch = [
      { name: 'blocks.0.mlp.hook_post', row: 1, position: 2, neuron: 3, op: 'set' as const, value: 2 },
      { name: late, position: 6, neuron: 1, op: 'add' as const, value: 1 },
      { name: 'ln_final.hook_normalized', position: 6, neuron: 1, op: 'scale' as const, value: 3 },
    ];
    const cases: RunOptions[] = [
      { capture: whole.hookNames, grad: { at: whole.hookNames, of } },
      { patch, capture: [late], grad: { at: [late, 'blocks.0.mlp.hook_pre'], of }, logits: [6, 4] },
      { grad: { at: [late], of }, logits: 'none' },
      {},
    ];
    for (const options of cases) {
      using want = whole.run(INPUT, options);
      using got = await split.runAsync(INPUT, options);
      for (const kind of ['captures', 'gradients'] as const) {
        expect([...got[kind].keys()].sort()).toEqual([...want[kind].keys()].sort());
        for (const [name, t] of want[kind]) {
          expect(got[kind].get(name)!.shape).toEqual(t.shape);
          const [a, b] = [await got[kind].get(name)!.read(), await t.read()];
          expect(Buffer.from(a.buffer).equals(Buffer.from(b.buffer)), `${kind} ${name}`).toBe(true);
        }
      }
      if (options.logits !== 'none') expect(await got.logits.read()).toEqual(await want.logits.read());
    }
  });
});

test('text and integrated gradients over three processes are those of one', async () => {
  const whole = (await loadModelWeights(await localFolder(STORIES), device)) as Llama;
  const split = await SplitLlama.open(STORIES, whole.sizes, device, 3);
  const prompt = [1, 403, 407, 261, 378];
  for (const temperature of [0, 0.9]) {
    const options = () => ({ maxTokens: 12, temperature, random: seededRandom(4) });
    expect(await generate(split, prompt, options())).toEqual(await generate(whole, prompt, options()));
  }
  await expect(generate(split, [1, 600])).rejects.toThrow('600 at 1 is outside 0..511');
  const probe = { ids: prompt, position: 4 };
  const asked = { target: 261, steps: 3, layers: [0, 4] };
  const [got, want] = [
    await integrateLayers(split, probe, asked),
    await integrateLayers(whole, probe, asked),
  ];
  for (const [i, { ig, sum }] of want.entries()) {
    const scale = Math.max(...ig.map(Math.abs));
    for (const [n, value] of ig.entries())
      expect(Math.abs(got[i]!.ig[n]! - value)).toBeLessThan(1e-4 * scale);
    expect(sum).not.toBe(0);
  }
  const found = await neuronGradients(split, probe, { target: 261 });
  expect(found).toEqual(await neuronGradients(whole, probe, { target: 261 }));
  const short = { ids: [5], position: 0 };
  expect(await neuronGradients(split, short)).toEqual(await neuronGradients(whole, short));
  split.dispose();
  whole.dispose();
});

test('mistakes', async () => {
  expect(layerRanges(5, 2)).toEqual([
    [0, 3],
    [3, 5],
  ]);
  expect(() => layerRanges(2, 3)).toThrow('3 devices for 2 layers');
  const { sizes } = (await loadModelWeights(await localFolder(STORIES), device)) as Llama;
  await expect(SplitLlama.open('no/such/folder', sizes, device, 2)).rejects.toThrow('no/such/folder');
  const split = await SplitLlama.open(STORIES, sizes, device, 2);
  await expect(split.runAsync({ ids: [[512]] })).rejects.toThrow('outside 0..511');
  await expect(split.runAsync(INPUT, { edit: { hook_embed: (x) => x } })).rejects.toThrow('functions');
  split.dispose();
});
