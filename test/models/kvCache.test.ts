/**
 * Rows behind a cache against full forwards and backwards: logits, gradients at every site, patches, shared
 * prefixes, entry in the middle, and independence of rows bit for bit.
 */

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Device, openDevice, type Tensor } from '../../engine/index.ts';
import { type Llama, loadModelWeights, localFolder } from '../../models/index.ts';
import { siteHook } from '../../neurgrad/neuron.ts';
import { CAUSAL_CASES } from './goldenCases.ts';

let device: Device;
beforeAll(async () => {
  device = await openDevice();
});
afterAll(() => device.destroy());

const STORIES = 'examples/models/stories260k';
const CASES: [name: string, folder: string][] = [
  ['stories260k', STORIES],
  ...CAUSAL_CASES.map(({ name, model }): [string, string] => [name, model]),
];
// Longer than the golden models' windows.
const PROMPT = [1, 43, 17, 5, 61, 70, 33, 28, 76, 2, 54, 19, 12];

/** Largest difference relative to the largest value; NaN where any number is not finite. */
function distance(got: ArrayLike<number>, want: ArrayLike<number>): number {
  expect(got.length).toBe(want.length);
  let worst = 0;
  let scale = 1e-30;
  for (let i = 0; i < want.length; i++) {
    if (!Number.isFinite(got[i])) return Number.NaN;
    worst = Math.max(worst, Math.abs(got[i]! - want[i]!));
    scale = Math.max(scale, Math.abs(want[i]!));
  }
  return worst / scale;
}

describe.each(CASES)('%s', (_, folder) => {
  let model: Llama;
  const last = PROMPT.at(-1)!;
  const end = PROMPT.length - 1;
  const hooks = () =>
    [...Array(model.sizes.layers).keys()].flatMap((l) => model.sites.map((site) => siteHook(l, site)));
  const atEnd = async (tensor: Tensor): Promise<Float32Array> => {
    const width = tensor.size / tensor.dim(0) / tensor.dim(1);
    const all = await tensor.read();
    return all.slice((tensor.dim(1) - 1) * width, tensor.dim(1) * width);
  };

  beforeAll(async () => {
    model = (await loadModelWeights(await localFolder(folder), device)) as Llama;
  });
  afterAll(() => model?.dispose());

  test('logits and every value equal the full forward at the last position', async () => {
    const names = model.hookNames.filter((n) => !n.endsWith('hook_pattern'));
    using full = model.run({ ids: [PROMPT] }, { capture: names, logits: [end] });
    using prefix = model.prefill(PROMPT.slice(0, -1));
    using rows = model.runRows({ prefix, ids: [last] }, { capture: names });
    expect(distance(await rows.logits.read(), await full.logits.read())).toBeLessThan(1e-5);
    for (const name of names) {
      const [got, want] = [rows.captures.get(name)!, full.captures.get(name)!];
      expect(got.shape).toEqual([1, 1, ...want.shape.slice(2)]);
      expect(distance(await got.read(), await atEnd(want)), name).toBeLessThan(1e-5);
    }
  });

  test('the attention pattern is the full one at the last query', async () => {
    const name = `blocks.${model.sizes.layers - 1}.attn.hook_pattern`;
    using full = model.run({ ids: [PROMPT] }, { capture: [name] });
    using prefix = model.prefill(PROMPT.slice(0, -1));
    using rows = model.runRows({ prefix, ids: [last, last] }, { capture: [name] });
    const [heads, length] = [model.sizes.heads, PROMPT.length];
    expect(rows.captures.get(name)!.shape).toEqual([2, heads, 1, length]);
    const all = await full.captures.get(name)!.read();
    const want = Array.from({ length: heads }, (_, h) => [
      ...all.slice((h * length + end) * length, (h + 1) * length * length),
    ]).flat();
    expect(distance((await rows.captures.get(name)!.read()).slice(heads * length), want)).toBeLessThan(1e-5);
  });

  test('the single-position backward equals the full backward at every site', async () => {
    using prefix = model.prefill(PROMPT.slice(0, -1));
    const targets = [3, 50, 71];
    for (const of of ['prob', 'logprob', 'logit'] as const) {
      using rows = model.runRows(
        { prefix, ids: targets.map(() => last) },
        { grad: { at: hooks(), of: { of, target: targets } } },
      );
      for (const [row, target] of targets.entries()) {
        using full = model.run(
          { ids: [PROMPT] },
          { grad: { at: hooks(), of: { of, target: [target], position: [end] } }, logits: 'none' },
        );
        for (const name of hooks()) {
          const got = rows.gradients.get(name)!;
          const want = await atEnd(full.gradients.get(name)!);
          const part = (await got.read()).slice(row * want.length, (row + 1) * want.length);
          expect(distance(part, want), `${of} ${name}`).toBeLessThan(5e-5);
        }
      }
    }
  });

  test('a patched row equals the patched full forward', async () => {
    const name = siteHook(model.sizes.layers - 2, model.paperSite);
    const shifts = [-2, 0.5, 3];
    using full = model.run(
      { ids: shifts.map(() => PROMPT) },
      {
        patch: shifts.map((value, row) => ({
          name,
          row,
          position: end,
          neuron: 7,
          op: 'add',
          value,
          along: 'outward',
        })),
        logits: shifts.map(() => end),
      },
    );
    using prefix = model.prefill(PROMPT.slice(0, -1));
    using rows = model.runRows(
      { prefix, ids: shifts.map(() => last) },
      { patch: shifts.map((value, row) => ({ name, row, neuron: 7, op: 'add', value, along: 'outward' })) },
    );
    expect(distance(await rows.logits.read(), await full.logits.read())).toBeLessThan(1e-5);
  });

  test.each([
    ['as the number of keys says', {}],
    ['in kernels', { fusedAttention: true }],
  ])('a row alone gives the same bits as in a batch with other prompts, attention %s', async (_, how) => {
    using long = model.prefill(PROMPT.slice(0, -1));
    using short = model.prefill(PROMPT.slice(0, 2));
    using empty = model.prefill([]);
    const name = `blocks.0.mlp.hook_post`;
    const grad = (target: number[]) => ({
      ...how,
      grad: { at: [name], of: { of: 'prob' as const, target } },
    });
    using batch = model.runRows(
      [
        { prefix: short, ids: [9, 30, 2] },
        { prefix: long, ids: [...Array(11).keys()] },
        { prefix: empty, ids: [1] },
      ],
      grad(Array.from({ length: 15 }, (_, i) => i + 20)),
    );
    const [logits, gradients] = await Promise.all([batch.logits.read(), batch.gradients.get(name)!.read()]);
    for (const [row, prefix, id] of [
      [1, short, 30],
      [10, long, 7],
      [14, empty, 1],
    ] as const) {
      using alone = model.runRows({ prefix, ids: [id] }, grad([row + 20]));
      const { vocabulary, width } = model.sizes;
      expect(await alone.logits.read()).toEqual(logits.slice(row * vocabulary, (row + 1) * vocabulary));
      const got = await alone.gradients.get(name)!.read();
      expect(got).toEqual(gradients.slice(row * width, (row + 1) * width));
    }
  });

  test('attention in kernels agrees with products in logits and in the gradient at every site', async () => {
    using prefix = model.prefill(PROMPT.slice(0, -1));
    using short = model.prefill(PROMPT.slice(0, 2));
    using empty = model.prefill([]);
    const at = model.hookNames.filter((n) => !n.endsWith('hook_pattern'));
    const rows = (fusedAttention: boolean) =>
      model.runRows(
        [
          { prefix, ids: [last, 4, 20] },
          { prefix: short, ids: [9] },
          { prefix: empty, ids: [1] },
        ],
        { fusedAttention, grad: { at, of: { of: 'logprob', target: [3, 50, 71, 8, 9] } } },
      );
    device.startProfiling();
    using ours = rows(true);
    await device.finish();
    const kernels = (await device.stopProfiling()).map(({ kernel }) => kernel);
    for (const pass of ['forward', 'backward_queries'])
      expect(kernels.some((kernel) => kernel.startsWith(`attention.${pass}`))).toBe(true);
    using theirs = rows(false);
    expect(distance(await ours.logits.read(), await theirs.logits.read())).toBeLessThan(1e-5);
    for (const name of at) {
      const [got, want] = [ours.gradients.get(name)!, theirs.gradients.get(name)!];
      expect(distance(await got.read(), await want.read()), name).toBeLessThan(5e-5);
    }
    const pattern = 'blocks.0.attn.hook_pattern';
    const seen = { fusedAttention: true, capture: [pattern] };
    using products = model.runRows({ prefix, ids: [last] }, seen);
    using plain = model.runRows({ prefix, ids: [last] }, { fusedAttention: false });
    expect(products.captures.get(pattern)!.shape).toEqual([1, model.sizes.heads, 1, PROMPT.length]);
    expect(await products.logits.read()).toEqual(await plain.logits.read());
  });

  test('a shared prefix gives the bits of whole prompts where pieces are fours, and close values in any', async () => {
    using whole = model.prefill(PROMPT.slice(0, -1), { logits: true });
    using row = model.runRows({ prefix: whole, ids: [last] });
    // Products over keys in fours and one by one add in other orders.
    for (const [cuts, same] of [
      [[4, 8], true],
      [[3, 5], false],
    ] as const) {
      using shared = model.prefill(PROMPT.slice(0, cuts[0]));
      using longer = model.prefill(PROMPT.slice(cuts[0], cuts[1]), { prefix: shared });
      using rest = model.prefill(PROMPT.slice(cuts[1], -1), { prefix: longer, logits: true });
      using merged = model.prefill(PROMPT.slice(cuts[0], -1), { prefix: shared, merge: true });
      expect(rest.ids).toEqual(PROMPT.slice(0, -1));
      const check = async (got: Tensor, want: Tensor): Promise<void> => {
        if (same) expect(await got.read()).toEqual(await want.read());
        else expect(distance(await got.read(), await want.read())).toBeLessThan(1e-5);
      };
      await check(rest.logits, whole.logits);
      for (const prefix of [rest, merged])
        for (let layer = 0; layer < model.sizes.layers; layer++)
          for (const part of ['keys', 'values'] as const) {
            using got = prefix[part](layer);
            using want = whole[part](layer);
            await check(got, want);
          }
      shared.dispose();
      using again = model.runRows({ prefix: rest, ids: [last] });
      await check(again.logits, row.logits);
    }
  });

  test('rows entering at a layer with a residual give the bits of whole rows', async () => {
    using prefix = model.prefill(PROMPT.slice(0, -1));
    const from = model.sizes.layers - 1;
    const name = `blocks.${from}.hook_resid_pre`;
    using whole = model.runRows({ prefix, ids: [last, 4] }, { capture: [name] });
    using suffix = model.runRows({ prefix, residual: whole.captures.get(name)! }, { from });
    expect(await suffix.logits.read()).toEqual(await whole.logits.read());
    expect(() => model.runRows({ prefix, ids: [last] }, { from })).toThrow('need a residual');
    expect(() =>
      model.runRows({ prefix, residual: whole.captures.get(name)! }, { from, capture: ['hook_embed'] }),
    ).toThrow('before layer');
  });
});

test('mistakes are told before any GPU work, and nothing is left on the device', async () => {
  const model = (await loadModelWeights(await localFolder(STORIES), device)) as Llama;
  const held = device.memory.activations;
  const { dispatches } = device.queue;
  using none = model.prefill([]);
  expect(() => model.prefill([512])).toThrow('ids: 512 at 0 is outside 0..511');
  expect(() => model.prefill(Array(513).fill(1))).toThrow('longer than the model');
  expect(() => model.prefill([], { logits: true })).toThrow('no token');
  expect(() => none.logits).toThrow('logits: true');
  expect(() => model.runRows({ prefix: none, ids: [] })).toThrow('at least one row');
  expect(() => model.runRows({ prefix: none })).toThrow('either ids or residual');
  expect(() => model.runRows({ prefix: none, ids: [1] }, { from: 6 })).toThrow('outside 0..5');
  expect(() => model.runRows({ prefix: none, ids: [1] }, { capture: ['blocks.9.mlp.hook_post'] })).toThrow(
    'unknown',
  );
  expect(() =>
    model.runRows({ prefix: none, ids: [1] }, { grad: { at: [], of: { of: 'prob', target: [1, 2] } } }),
  ).toThrow('2 targets for 1 rows');
  expect(device.queue.dispatches).toBe(dispatches);
  {
    using prefix = model.prefill([1, 2, 3]);
    using more = model.prefill([4], { prefix });
    using run = model.runRows({ prefix: more, ids: [1, 2] }, { capture: ['hook_embed'] });
    await run.logits.read();
  }
  expect(device.memory.activations).toBe(held);
  expect(device.memory.saved).toBe(0);
  model.dispose();
});
