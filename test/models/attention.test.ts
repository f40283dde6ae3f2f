/**
 * Models with attention in kernels that keep no probabilities, against products: logits and gradients at every site, for the
 * golden models, with padding; and a run that asks for a pattern takes products whatever it says.
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Device, openDevice } from '../../engine/index.ts';
import type { LanguageModel, RunOptions } from '../../models/index.ts';
import { CASES, named, openCase } from './goldenCases.ts';

let device: Device;
beforeAll(async () => {
  device = await openDevice();
});
afterAll(() => device.destroy());

const IDS = [
  [3, 17, 9, 22, 5, 11],
  [3, 8, 30, 2, 14, 6],
];
const attentionMask = [
  [1, 1, 1, 1, 1, 0],
  [1, 1, 1, 1, 1, 1],
];

/** Kernels that ran, by name. */
async function kernelsOf(run: () => void): Promise<string[]> {
  device.startProfiling();
  run();
  await device.finish();
  return (await device.stopProfiling()).map(({ kernel }) => kernel);
}

describe.each(named(CASES))('%s', (_, golden) => {
  let model: LanguageModel;
  beforeAll(async () => {
    model = await openCase(golden, device);
  });
  afterAll(() => model.dispose());

  const options = (fusedAttention?: boolean): RunOptions => ({
    ...(fusedAttention === undefined ? {} : { fusedAttention }),
    grad: {
      at: model.hookNames.filter((hook) => !hook.endsWith('.hook_pattern')),
      of: { of: 'logprob', target: [7, 12], position: [4, 5] },
    },
  });

  it('agrees with products in logits and in the gradient at every site', async () => {
    using ours = model.run({ ids: IDS, attentionMask }, options(true));
    using theirs = model.run({ ids: IDS, attentionMask }, options(false));
    const pairs = [
      ['logits', ours.logits, theirs.logits] as const,
      ...[...ours.gradients].map(([hook, t]) => [hook, t, theirs.gradients.get(hook)!] as const),
    ];
    expect(pairs.length).toBe(model.hookNames.length - model.sizes.layers + 1);
    for (const [hook, a, b] of pairs) {
      const [got, want] = [await a.read(), await b.read()];
      const scale = want.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
      const worst = got.reduce((most, x, i) => Math.max(most, Math.abs(x - want[i]!)), 0);
      expect(scale, hook).toBeGreaterThan(0);
      expect(worst / scale, hook).toBeLessThan(2e-5);
      expect(got.every(Number.isFinite), hook).toBe(true);
    }
  });

  it('takes products where a pattern is asked for, and the bits of a run that says so', async () => {
    const pattern = 'blocks.0.attn.hook_pattern';
    const used = async (extra: RunOptions) =>
      (await kernelsOf(() => model.run({ ids: IDS, attentionMask }, extra).dispose())).filter((kernel) =>
        kernel.startsWith('attention.'),
      );
    expect((await used({ fusedAttention: true })).length).toBeGreaterThan(0);
    expect(await used({ fusedAttention: true, capture: [pattern] })).toEqual([]);
    expect(await used({ fusedAttention: false })).toEqual([]);
    using seen = model.run({ ids: IDS, attentionMask }, { fusedAttention: true, capture: [pattern] });
    using products = model.run({ ids: IDS, attentionMask }, { fusedAttention: false });
    expect(seen.captures.get(pattern)!.shape).toEqual([2, model.sizes.heads, 6, 6]);
    expect(await seen.logits.read()).toEqual(await products.logits.read());
  });
});
