/**
 * Models on wide subgroups, which stand for GPUs: those whose maps to queries, keys and values are one product against the same with
 * a product each, bit for bit, and both against the same on the subgroups that the adapter has.
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Device, openDevice } from '../../engine/index.ts';
import { generate, loadModelWeights, localFolder, type RunOptions, Transformer } from '../../models/index.ts';
import { expectSameBits, WIDE } from '../engine/support.ts';

let device: Device;
let own: Device;
beforeAll(async () => {
  device = await openDevice({ mask: WIDE });
  own = await openDevice();
});
afterAll(() => {
  device?.destroy();
  own?.destroy();
});

/** Largest difference, as a share of the largest value. */
function distance(got: Float32Array, want: Float32Array): number {
  let [apart, largest] = [0, 0];
  want.forEach((value, i) => {
    largest = Math.max(largest, Math.abs(value));
    // A NaN stays.
    if (!(Math.abs(got[i]! - value) <= apart)) apart = Math.abs(got[i]! - value);
  });
  return apart / Math.max(largest, 1e-30);
}

describe.each(['facts-bert', 'stories260k'])('%s', (name) => {
  it('gives the same values and gradients, with fewer dispatches', { timeout: 600_000 }, async () => {
    const folder = await localFolder(`examples/models/${name}`);
    const joined = await loadModelWeights(folder, device);
    const plain = await loadModelWeights(folder, own);
    const apart = new Transformer(
      device,
      joined.config,
      new Map([...joined.parameters].map(([parameter, t]) => [parameter, t.detach()])),
    );
    expect(
      joined.description.layers.filter(({ attention }) => joined.joined(attention.q.weight)).length,
    ).toBe(joined.sizes.layers);
    const position = joined.causal ? 7 : 4;
    const ids = [Array.from({ length: 8 }, (_, i) => 5 + ((7 * i) % 90))];
    const of = { of: 'prob', target: [9], position: [position] } as const;
    const all = joined.hookNames;
    const runs: RunOptions[] = [
      {},
      { logits: [position], grad: { at: all.filter((hook) => hook.includes('mlp')), of } },
      { logits: [position], capture: all, grad: { at: all, of } },
      { logits: [position], grad: { at: ['hook_embed'], of } },
    ];
    for (const options of runs) {
      const used: number[] = [];
      const results: Map<string, Float32Array>[] = [];
      for (const model of [joined, apart, plain]) {
        const before = model.device.queue.dispatches;
        using run = model.run({ ids }, options);
        used.push(model.device.queue.dispatches - before);
        const found = new Map([['logits', await run.logits.read()]]);
        for (const [what, values] of Object.entries({ value: run.captures, gradient: run.gradients }))
          for (const [hook, t] of values) found.set(`${what} ${hook}`, await t.read());
        results.push(found);
      }
      const [ours, theirs, narrow] = results as [
        Map<string, Float32Array>,
        Map<string, Float32Array>,
        Map<string, Float32Array>,
      ];
      expect(used[0]).toBeLessThan(used[1]!);
      expect([...ours.keys()]).toEqual([...theirs.keys()]);
      for (const [what, values] of ours) {
        expectSameBits(values, theirs.get(what)!, what);
        expect(values.length, what).toBe(narrow.get(what)!.length);
        // Where attention is certain, what its scores are given is a difference of equals.
        if (!/^gradient .*attn\.hook_(rot_)?[qk]$/.test(what))
          expect(distance(values, narrow.get(what)!), what).toBeLessThan(1e-4);
      }
    }
    if (joined.causal) {
      const prompt = ids[0]!;
      const written = { maxTokens: 12, stopIds: [] };
      expect(await generate(joined, prompt, written)).toEqual(await generate(apart, prompt, written));
    }
    for (const model of [joined, apart, plain]) model.dispose();
  });
});
