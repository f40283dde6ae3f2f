/** Weights streamed from disk give the bits of resident ones: values, logits, gradients, patches, caches, in every dtype. */

import { cpSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { affine, type Device, openDevice } from '../../engine/index.ts';
import {
  type Checkpoint,
  type Llama,
  loadModelWeights,
  localFolder,
  openCheckpoint,
  type RunOptions,
  type RunResult,
  type StreamedLlama,
  streamModel,
  type WeightDtype,
} from '../../models/index.ts';
import { neuronGradients, siteHook, sweep } from '../../neurgrad/index.ts';
import { CAUSAL_CASES } from './goldenCases.ts';

let device: Device;
const scratch = mkdtempSync(join(tmpdir(), 'neurgrad-stream-'));
beforeAll(async () => {
  device = await openDevice();
});
afterAll(() => {
  device.destroy();
  rmSync(scratch, { recursive: true });
});

const STORIES = 'examples/models/stories260k';
/** The bundled model, and every golden one in some dtype. */
const CASES: { name: string; model: string; family: string; dtype: WeightDtype }[] = [
  { name: 'stories260k', model: STORIES, family: 'llama', dtype: 'f32' },
  { name: 'stories260k', model: STORIES, family: 'llama', dtype: 'int8' },
  ...CAUSAL_CASES.map((one, i) => ({ ...one, dtype: (['f32', 'bf16', 'int4'] as const)[i % 3]! })),
];
const IDS = [
  [1, 43, 17, 5, 61, 70, 12],
  [9, 8, 7, 6, 5, 4, 3],
];

async function expectSame(got: RunResult, want: RunResult): Promise<void> {
  const same = async (a: RunResult['logits'], b: RunResult['logits'], what: string) => {
    expect(a.shape, what).toEqual(b.shape);
    const [x, y] = [await a.read(), await b.read()];
    expect(Buffer.from(x.buffer).equals(Buffer.from(y.buffer)), what).toBe(true);
  };
  for (const kind of ['captures', 'gradients'] as const) {
    expect([...got[kind].keys()].sort()).toEqual([...want[kind].keys()].sort());
    for (const [name, t] of want[kind]) await same(got[kind].get(name)!, t, `${kind} ${name}`);
  }
  await same(got.logits, want.logits, 'logits');
}

describe.each(CASES)('$name in $dtype', ({ model: folder, family, dtype }) => {
  let resident: Llama;
  let streamed: StreamedLlama;
  let shapes: Checkpoint['tensors'];
  let size = 0;
  beforeAll(async () => {
    const from = await localFolder(folder);
    resident = (await loadModelWeights(from, device, { dtype })) as Llama;
    streamed = await streamModel(from, device, { dtype });
    const checkpoint = await openCheckpoint(from);
    shapes = checkpoint.tensors;
    size = checkpoint.bytes;
    await checkpoint.close();
  });
  afterAll(() => {
    resident?.dispose();
    streamed?.dispose();
  });
  const both = async (options: RunOptions): Promise<void> => {
    const input = { ids: IDS, attentionMask: [Array(7).fill(1), [1, 1, 1, 1, 1, 0, 0]] };
    using want = resident.run(input, options);
    using got = await streamed.runAsync(input, options);
    await expectSame(got, want);
  };

  test('every value and gradient', async () => {
    const names = resident.hookNames;
    const position = [6, 4];
    await both({ capture: names });
    await both({
      capture: names.slice(-3),
      grad: { at: names, of: { of: 'prob', target: [3, 50], position } },
      logits: position,
    });
  });

  test('patches, edits, gradients of a function, of one late layer, of none', async () => {
    const late = `blocks.${resident.sizes.layers - 1}.mlp.hook_pre`;
    const patch = [
      { name: 'blocks.0.mlp.hook_post', row: 1, position: 2, neuron: [3, 7], op: 'set' as const, value: 2 },
      { name: late, position: 6, neuron: 1, op: 'add' as const, value: 1, along: 'outward' as const },
      { name: 'ln_final.hook_normalized', position: 6, neuron: 1, op: 'scale' as const, value: 3 },
    ];
    const edit = { 'blocks.1.hook_resid_mid': (x: Parameters<typeof affine>[0]) => affine(x, 1.5, 0.1) };
    const of = { of: 'logit', target: [3, 50], position: [6, 4] } as const;
    await both({ patch, edit, grad: { at: ['blocks.0.hook_resid_pre', late], of } });
    await both({ grad: { at: [late, 'ln_final.hook_normalized'], of: (logits) => affine(logits, 2, 0) } });
    await both({ grad: { at: [], of } });
  });

  test('NeurGrad at the last token, in one wave', async () => {
    for (const ids of [IDS[0]!, [5]]) {
      const probe = { ids, position: ids.length - 1 };
      const before = streamed.bytesRead;
      const got = await neuronGradients(streamed, probe, { target: 9 });
      const read = streamed.bytesRead - before;
      expect(got).toEqual(await neuronGradients(resident, probe, { target: 9 }));
      expect(read).toBeLessThan(2 * size);
    }
  });

  test.runIf(family === 'llama')('reads the rows of its tokens, not the embedding', async () => {
    const read = async (...prompts: number[][]): Promise<number> => {
      const before = streamed.bytesRead;
      for (const prefix of await streamed.prefillAsync(prompts.map((ids) => ({ ids })))) prefix.dispose();
      return streamed.bytesRead - before;
    };
    const bytes = ({ begin, end }: { begin: number; end: number }): number => end - begin;
    const whole = [...shapes].filter(([name]) => /^model\.layers\.\d+\..*weight$/.test(name));
    const layers = whole.reduce((sum, [, entry]) => sum + bytes(entry), 0);
    const embedding = shapes.get('model.embed_tokens.weight')!;
    const row = bytes(embedding) / embedding.shape[0]!;
    expect(await read([7, 8, 3, 7])).toBe(layers + 3 * row);
    // All prompts of a wave read the layers once.
    expect(await read(IDS[0]!, IDS[1]!)).toBe(layers + new Set(IDS.flat()).size * row);
  });

  test('many prompts in one wave, rows behind them', async () => {
    const prompts = [IDS[0]!.slice(0, 6), IDS[1]!.slice(0, 3)];
    const many = await streamed.prefillAsync(prompts.map((ids) => ({ ids, options: { logits: true } })));
    using alone = (await streamed.prefillAsync([{ ids: prompts[0]!, options: { logits: true } }]))[0]!;
    const one = resident.prefill(prompts[0]!, { logits: true });
    const two = resident.prefill(prompts[1]!, { logits: true });
    for (const [got, want] of [
      [many[0]!, one],
      [many[1]!, two],
      [alone, one],
    ] as const)
      expect(await got.logits.read()).toEqual(await want.logits.read());
    const at = [siteHook(0, resident.paperSite), 'blocks.1.mlp.hook_post'];
    const options = { capture: at, grad: { at, of: { of: 'prob' as const, target: [1, 2, 3] } } };
    using want = resident.runRows(
      [
        { prefix: one, ids: [12, 12] },
        { prefix: two, ids: [6] },
      ],
      options,
    );
    using got = await streamed.runRowsAsync(
      [
        { prefix: many[0]!, ids: [12, 12] },
        { prefix: many[1]!, ids: [6] },
      ],
      options,
    );
    await expectSame(got, want);
    for (const prefix of [...many, one, two]) prefix.dispose();
  });
});

test('holds two layers at most, and nothing afterwards', async () => {
  const own = await openDevice();
  const streamed = await streamModel(await localFolder(STORIES), own);
  const rotary = own.memory.weights;
  const at = 'blocks.0.mlp.hook_post';
  const names: string[] = [];
  let most = 0;
  const edit = Object.fromEntries(
    streamed.hookNames.map((name) => [
      name,
      (x: Parameters<typeof affine>[0]) => {
        most = Math.max(most, own.memory.weights);
        names.push(name);
        return x;
      },
    ]),
  );
  {
    using run = await streamed.runAsync(
      { ids: IDS },
      { edit, grad: { at: [at], of: { of: 'prob', target: [1, 2], position: [6, 6] } } },
    );
    await run.logits.read();
  }
  expect(names.length).toBeGreaterThan(streamed.hookNames.length);
  // A layer has 4 x 46 KB; the whole model 1.07 MB.
  expect(most - rotary).toBeLessThan(0.45e6);
  expect(own.memory.weights).toBe(rotary);
  expect(own.memory.saved).toBe(0);
  expect(own.memory.activations).toBe(0);
  streamed.dispose();
  own.destroy();
});

test('a sweep reads the weights once for many rows, and agrees with full forwards', async () => {
  const folder = await localFolder(STORIES);
  const resident = await loadModelWeights(folder, device);
  const streamed = await streamModel(folder, device);
  const probe = { ids: IDS[0]!, position: 6 };
  const neurons = [
    { layer: 0, index: 3, site: 'pre_linear' as const },
    { layer: 4, index: 7, site: 'post' as const },
  ];
  const options = { neurons, target: 17, shifts: [-2, -1, 1, 2] };
  const naive = await sweep(resident, probe, { ...options, engine: 'naive' });
  const rows = await sweep(streamed, probe, options);
  expect(rows.engine).toBe('rows');
  for (const [i, { p, gradient }] of naive.neurons.entries()) {
    expect(rows.neurons[i]!.gradient).toBe(gradient);
    for (const [s, value] of p.entries())
      expect(Math.abs(rows.neurons[i]!.p[s]! - value)).toBeLessThan(1e-5 * value);
  }
  // Forward and backward of the base, the cache, one wave of rows: less than four times the model.
  expect(streamed.bytesRead).toBeLessThan(4.3 * 1.07e6);
  streamed.dispose();
  resident.dispose();
});

test('mistakes come before anything is read, and a file that ends says so', async () => {
  const streamed = await streamModel(await localFolder(STORIES), device);
  expect(() => streamed.run()).toThrow('runAsync');
  await expect(streamed.runAsync({ ids: [[512]] })).rejects.toThrow('outside 0..511');
  await expect(streamed.runAsync({ ids: IDS }, { capture: ['blocks.7.hook_mlp_out'] })).rejects.toThrow(
    'unknown',
  );
  await expect(
    streamed.runAsync({ ids: IDS }, { grad: { at: [], of: { of: 'prob', target: [1], position: [0, 0] } } }),
  ).rejects.toThrow('1 targets for 2 rows');
  expect(streamed.bytesRead).toBe(0);
  streamed.dispose();
  await expect(streamModel(await localFolder('examples/models/facts-bert'), device)).rejects.toThrow('BERT');

  const cut = join(scratch, 'cut');
  cpSync(STORIES, cut, { recursive: true });
  const ended = await streamModel(await localFolder(cut), device);
  truncateSync(join(cut, 'model.safetensors'), 500_000);
  await expect(ended.runAsync({ ids: IDS })).rejects.toThrow(/model.safetensors: ended at byte \d+ of \d+/);
  const { weights, activations } = device.memory;
  writeFileSync(join(cut, 'model.safetensors'), '');
  await expect(ended.runAsync({ ids: IDS })).rejects.toThrow('ended at byte');
  expect(device.memory.weights).toBe(weights);
  expect(device.memory.activations).toBe(activations);
  ended.dispose();
});
