/**
 * Patches of whole tokens, heads and other runs, of means and resampled values; the same in texts that grow; gradients between two
 * hook points. Each against edits that say the same in operations, or against the same numbers on the host.
 */

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { add, affine, broadcastTo, type Device, openDevice, slice, sum, tensor } from '../../engine/index.ts';
import {
  chooseToken,
  generate,
  loadModelWeights,
  localFolder,
  type Transformer,
} from '../../models/index.ts';
import type { ModelInput, Patch, RunOptions } from '../../models/model.ts';

const FOLDERS = {
  bert: 'examples/models/facts-bert',
  llama: 'test/golden/models/llama-gqa',
  stories: 'examples/models/stories260k',
} as const;
const IDS = [
  [5, 17, 4, 33, 8, 61],
  [9, 2, 71, 4, 12, 50],
];
const input: ModelInput = { ids: IDS };

let device: Device;
const models = new Map<string, Transformer>();
beforeAll(async () => {
  device = await openDevice();
  for (const [name, folder] of Object.entries(FOLDERS))
    models.set(name, await loadModelWeights(await localFolder(folder), device));
});
afterAll(() => {
  for (const model of models.values()) model.dispose();
  device.destroy();
});

/** A value after patches, [row][position][number], and before. */
async function changed(model: Transformer, name: string, patch: Omit<Patch, 'name'>[], given = input) {
  const patches = patch.map((each): Patch => ({ name, ...each }));
  using before = model.run(given, { capture: [name], logits: 'none' });
  using after = model.run(given, { capture: [name], patch: patches, logits: 'none' });
  const width = before.captures.get(name)!.size / given.ids.flat().length;
  return {
    width,
    before: await before.captures.get(name)!.read(),
    after: await after.captures.get(name)!.read(),
  };
}

describe.each(['bert', 'llama'])('%s', (which) => {
  const name = 'blocks.1.hook_resid_post';
  const at = (width: number, row: number, position: number, n: number) => (row * 6 + position) * width + n;

  test('positions are lists, negative or all; rows too; several changes keep their order', async () => {
    const model = models.get(which)!;
    const { width, before, after } = await changed(model, name, [
      { position: [0, -1], neuron: 3, row: [1, 0], op: 'set', value: 2 },
      { position: 'all', neuron: [3, 4], row: 'all', op: 'scale', value: -0.5 },
      { position: 2, row: 1, op: 'add', value: Array.from({ length: width0(model) }, (_, i) => i) },
    ]);
    const want = Float32Array.from(before);
    for (const row of [0, 1]) {
      for (const position of [0, 5]) want[at(width, row, position, 3)] = 2;
      for (let position = 0; position < 6; position++)
        for (const n of [3, 4]) want[at(width, row, position, n)]! *= -0.5;
    }
    for (let n = 0; n < width; n++) want[at(width, 1, 2, n)]! += n;
    expect(after).toEqual(want);
  });

  test('values of a token, of a row and of all rows; nested lists and tensors', async () => {
    const model = models.get(which)!;
    const width = width0(model);
    const numbers = Array.from({ length: 2 * 2 * width }, (_, i) => Math.sin(i));
    const one = numbers.slice(0, width);
    const row = [numbers.slice(0, width), numbers.slice(width, 2 * width)];
    const all = tensor(device, numbers, [2, 2, width]);
    for (const [value, of] of [
      [one, (_: number, __: number, n: number) => numbers[n]!],
      [row, (_: number, p: number, n: number) => numbers[p * width + n]!],
      [all, (r: number, p: number, n: number) => numbers[(r * 2 + p) * width + n]!],
    ] as const) {
      const { before, after } = await changed(model, name, [{ position: [4, 1], op: 'set', value }]);
      const want = Float32Array.from(before);
      for (const r of [0, 1])
        for (const [p, position] of [4, 1].entries())
          for (let n = 0; n < width; n++) want[at(width, r, position, n)] = of(r, p, n);
      expect(after).toEqual(want);
    }
    all.dispose();
  });

  test('another run, spread over the batch, by heads; a pattern by heads', async () => {
    const model = models.get(which)!;
    for (const [hook, heads] of [
      ['blocks.1.attn.hook_z', model.sizes.heads],
      ['blocks.0.attn.hook_v', model.sizes.keyValueHeads],
    ] as const) {
      using other = model.run({ ids: [[7, 7, 20, 21, 22, 23]] }, { capture: [hook], logits: 'none' });
      const source = await other.captures.get(hook)!.read();
      const { width, before, after } = await changed(model, hook, [
        { position: [1, -2], head: heads - 1, op: 'set', from: other },
      ]);
      const want = Float32Array.from(before);
      for (const r of [0, 1])
        for (const p of [1, 4])
          for (let n = width - width / heads; n < width; n++)
            want[at(width, r, p, n)] = source[p * width + n]!;
      expect(after).toEqual(want);
    }
    const hook = 'blocks.1.attn.hook_pattern';
    using other = model.run({ ids: [[7, 7, 20, 21, 22, 23]] }, { capture: [hook], logits: 'none' });
    const source = await other.captures.get(hook)!.read();
    const { before, after } = await changed(model, hook, [
      { position: 'all', head: 1, op: 'set', from: other },
      { position: 2, head: 0, op: 'zero', row: 1 },
    ]);
    const { heads } = model.sizes;
    const want = Float32Array.from(before);
    for (const r of [0, 1]) for (let i = 0; i < 36; i++) want[(r * heads + 1) * 36 + i] = source[36 + i]!;
    for (let k = 0; k < 6; k++) want[heads * 36 + 2 * 6 + k] = 0;
    expect(after).toEqual(want);
  });

  test('zero, the mean of a reference at a position or over all, and resampled rows', async () => {
    const model = models.get(which)!;
    const ids = [
      [1, 2, 3, 4, 5, 6],
      [11, 12, 13, 14, 15, 16],
      [21, 22, 23, 24, 25, 26],
    ];
    using reference = model.run({ ids }, { capture: [name], logits: 'none' });
    const values = await reference.captures.get(name)!.read();
    const width = width0(model);
    const draws = [0.9, 0.4];
    const { before, after } = await changed(model, name, [
      { position: 0, op: 'zero' },
      { position: 1, op: 'mean', reference },
      { position: 2, op: 'mean', reference, over: 'all', row: 0 },
      { position: 3, op: 'resample', reference, random: () => draws.shift()! },
    ]);
    const value = (r: number, p: number, n: number) => values[(r * 6 + p) * width + n]!;
    const mean = (of: readonly number[]) => of.reduce((a, b) => a + b, 0) / of.length;
    const within = (position: number, row: number, want: (n: number) => number) => {
      for (let n = 0; n < width; n++) expect(after[at(width, row, position, n)]!).toBeCloseTo(want(n), 5);
    };
    for (const row of [0, 1]) {
      within(0, row, () => 0);
      within(1, row, (n) => mean([0, 1, 2].map((r) => value(r, 1, n))));
    }
    within(2, 0, (n) => mean(ids.flatMap((each, r) => each.map((_, p) => value(r, p, n)))));
    within(3, 0, (n) => value(2, 3, n));
    within(3, 1, (n) => value(1, 3, n));
    within(5, 0, (n) => before[at(width, 0, 5, n)]!);
  });

  test('rows of a patched batch have the bits of rows alone; a gradient passes where nothing was set', async () => {
    const model = models.get(which)!;
    using other = model.run(input, { capture: [name], logits: 'none' });
    const value = Array.from({ length: width0(model) }, (_, i) => Math.cos(i));
    const patch: Patch[] = [{ name, position: [1, 3], op: 'add', value }];
    const grad = { at: ['hook_embed'], of: { of: 'logit', target: [3, 3], position: [5, 5] } } as const;
    using both = model.run(input, { patch, grad });
    const logits = await both.logits.read();
    for (const [row, ids] of IDS.entries()) {
      using alone = model.run({ ids: [ids] }, { patch });
      const own = await alone.logits.read();
      expect(logits.subarray(row * own.length, (row + 1) * own.length)).toEqual(own);
    }
    const edit = (x: Parameters<NonNullable<RunOptions['edit']>[string]>[0]) => {
      const marks = new Float32Array(6);
      for (const p of [1, 3]) marks[p] = 1;
      return add(
        x,
        tensor(device, marks.length === 6 ? [...marks].flatMap((m) => value.map((v) => m * v)) : [], [
          6,
          value.length,
        ]),
      );
    };
    using edited = model.run(input, { edit: { [name]: edit }, grad });
    expect(await edited.gradients.get('hook_embed')!.read()).toEqual(
      await both.gradients.get('hook_embed')!.read(),
    );
    using set = model.run(input, { patch: [{ name, position: 'all', op: 'set', from: other }], grad });
    expect((await set.gradients.get('hook_embed')!.read()).every((g) => g === 0)).toBe(true);
  });

  test.each([
    [{ position: 6, op: 'zero' }, /position 6 is outside 0..5/],
    [{ position: -7, op: 'zero' }, /position -7 is outside/],
    [{ position: [1, 1], op: 'zero' }, /names one twice/],
    [{ position: 0, op: 'zero', head: 0 }, /it has no heads/],
    [{ position: 0, op: 'zero', value: 1, neuron: 0 }, /zero takes no value/],
    [{ position: 0, op: 'set' }, /patch\[0\].value is missing/],
    [{ position: 0, op: 'set', value: [1, 2] }, /2 numbers for 2 rows x 1 positions/],
    [{ position: 0, op: 'set', value: [Number.NaN], neuron: 0 }, /not a finite number/],
    [{ position: 0, op: 'mean' }, /mean needs a reference/],
    [{ position: 'every new token', op: 'zero' }, /no token of this run is new/],
    [{ position: 0, op: 'set', from: { captures: new Map() } }, /did not capture it/],
  ] as [Omit<Patch, 'name'>, RegExp][])('%j is refused', (patch, message) => {
    expect(() => models.get(which)!.run(input, { patch: [{ name, ...patch }] })).toThrow(message);
  });
});

const width0 = (model: Transformer): number => model.sizes.hidden;

describe('a text', () => {
  /** Greedy text by full runs, patched and edited. */
  async function byFullRuns(
    model: Transformer,
    prompt: readonly number[],
    count: number,
    options: (length: number) => RunOptions,
  ): Promise<number[]> {
    const ids = [...prompt];
    while (ids.length < prompt.length + count) {
      using run = model.run({ ids: [ids] }, { ...options(ids.length), logits: [ids.length - 1] });
      ids.push(chooseToken(await run.logits.read()));
    }
    return ids.slice(prompt.length);
  }
  const PROMPT = [1, 403, 407, 261, 378];
  const steering = (size: number, by = 1) => Array.from({ length: size }, (_, i) => by * Math.sin(7 * i));

  test('steered by an edit is the text of full runs, token for token', async () => {
    const model = models.get('stories')!;
    const name = 'blocks.2.hook_resid_post';
    const vector = tensor(device, steering(model.sizes.hidden));
    const edit = { [name]: (x: Parameters<typeof add>[0] & object) => add(x, vector) };
    const want = await byFullRuns(model, PROMPT, 20, () => ({ edit }));
    const plain = await generate(model, PROMPT, { maxTokens: 20, stopIds: [] });
    const held = device.memory.activations;
    const { ids } = await generate(model, PROMPT, { maxTokens: 20, stopIds: [], edit });
    expect(ids).toEqual(want);
    expect(ids).not.toEqual(plain.ids);
    expect(device.memory.activations).toBe(held);
    vector.dispose();
  });

  test.each([
    ['every new token', 'every new token' as const, (length: number) => span(PROMPT.length, length)],
    ['all', 'all' as const, (length: number) => span(0, length)],
    [
      'positions of prompt and text',
      [1, 6, 9, -1],
      (length: number) => [1, 4, 6, 9].filter((p) => p < length),
    ],
  ])('patched at %s', async (_, position, of) => {
    const model = models.get('stories')!;
    const value = steering(model.sizes.hidden, 1.5);
    const patch = (at: Patch['position']): Patch[] => [
      { name: 'blocks.1.hook_resid_post', position: at, op: 'add', value },
      { name: 'blocks.3.attn.hook_z', position: at, head: 1, op: 'zero' },
      { name: 'ln_final.hook_normalized', position: at, neuron: [0, 1], op: 'scale', value: -1, row: 0 },
    ];
    const want = await byFullRuns(model, PROMPT, 16, (length) => ({
      patch: of(length).length > 0 ? patch(of(length)) : [],
    }));
    const { ids } = await generate(model, PROMPT, { maxTokens: 16, stopIds: [], patch: patch(position) });
    expect(ids).toEqual(want);
  });

  test('a pattern is patched in a cache as in full runs', async () => {
    const model = models.get('llama')!;
    const name = 'blocks.1.attn.hook_pattern';
    const prompt = [5, 17, 4, 33];
    const edit = { [name]: (x: ReturnType<typeof affine>) => affine(x, 0.25, 0) };
    const want = await byFullRuns(model, prompt, 6, () => ({ edit }));
    expect((await generate(model, prompt, { maxTokens: 6, stopIds: [], edit })).ids).toEqual(want);
    const patch: Patch[] = [{ name, position: 'all', head: 0, op: 'zero' }];
    const patched = await byFullRuns(model, prompt, 6, () => ({ patch }));
    expect((await generate(model, prompt, { maxTokens: 6, stopIds: [], patch })).ids).toEqual(patched);
  });

  test('edits are told where their tokens stand', async () => {
    const model = models.get('stories')!;
    const seen: [number, number][] = [];
    const edit: RunOptions['edit'] = {
      'blocks.0.hook_resid_pre': (x, { first }) => {
        seen.push([first[0]!, x.dim(1)]);
        return x;
      },
    };
    await generate(model, PROMPT, { maxTokens: 3, stopIds: [], edit });
    expect(seen).toEqual([
      [0, 5],
      [5, 1],
      [6, 1],
    ]);
    using prefix = model.prefill(PROMPT.slice(0, 3), { edit });
    using run = model.runRows({ prefix, ids: [4, 4] }, { edit });
    expect(run.logits.shape).toEqual([2, model.sizes.vocabulary]);
    expect(seen.slice(3)).toEqual([
      [0, 3],
      [3, 1],
    ]);
  });

  test('a prefill and its rows, patched, are the full run', async () => {
    const model = models.get('llama')!;
    const name = 'blocks.0.hook_resid_post';
    const value = steering(model.sizes.hidden);
    using full = model.run(
      { ids: [IDS[0]!] },
      { patch: [{ name, position: [2, 5], op: 'add', value }], logits: [5] },
    );
    using prefix = model.prefill(IDS[0]!.slice(0, 5), { patch: [{ name, position: 2, op: 'add', value }] });
    using rows = model.runRows({ prefix, ids: [IDS[0]![5]!] }, { patch: [{ name, op: 'add', value }] });
    const [got, want] = [await rows.logits.read(), await full.logits.read()];
    for (const [i, v] of want.entries()) expect(got[i]!).toBeCloseTo(v, 4);
    expect(() => model.prefill([3], { prefix, patch: [{ name, position: 1, op: 'zero' }] })).toThrow(
      /position 1 is in the prefix/,
    );
  });
});

const span = (from: number, to: number) => Array.from({ length: Math.max(0, to - from) }, (_, i) => from + i);

test.each(['bert', 'llama'])(
  '%s: the Jacobian between two hook points, by rows and by differences',
  async (which) => {
    const model = models.get(which)!;
    const [from, to] = ['blocks.0.mlp.hook_post', 'blocks.1.hook_resid_post'];
    const ids = IDS[0]!;
    const outputs = [0, 5, 9];
    using run = model.run(
      { ids: outputs.map(() => ids) },
      {
        capture: [to],
        logits: 'none',
        grad: {
          at: [from],
          of: (_, values) =>
            outputs
              .map((n, row) => sum(slice(values.get(to)!, [row, 4, n], [row + 1, 5, n + 1])))
              .reduce((a, b) => add(a, b)),
        },
      },
    );
    const jacobian = await run.gradients.get(from)!.read();
    const { width, hidden } = model.sizes;
    const step = 2 ** -4;
    for (const neuron of [3, 17]) {
      const moved = async (by: number): Promise<Float32Array> => {
        using shifted = model.run(
          { ids: [ids] },
          {
            patch: [{ name: from, position: 4, neuron, op: 'add', value: by }],
            capture: [to],
            logits: 'none',
          },
        );
        return (await shifted.captures.get(to)!.read()).slice(4 * hidden, 5 * hidden);
      };
      const [up, down] = [await moved(step), await moved(-step)];
      for (const [row, n] of outputs.entries()) {
        const want = (up[n]! - down[n]!) / (2 * step);
        const got = jacobian[(row * ids.length + 4) * width + neuron]!;
        expect(Math.abs(got - want)).toBeLessThan(2e-2 * Math.max(0.05, Math.abs(want)));
      }
    }
  },
);

test('a function of nothing is refused', () => {
  const grad = { at: ['hook_embed'], of: (x: ReturnType<typeof sum>) => sum(broadcastTo(x, [1])) };
  expect(() => models.get('bert')!.run(input, { logits: 'none', grad })).toThrow(/needs logits, not 'none'/);
});
