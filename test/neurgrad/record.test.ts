/** A prompt that is run once serves gradients, sweeps, steering and atlases as runs of their own do. */

import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { loadModel } from '../../models/index.ts';
import type { Tokenizer } from '../../models/tokenizer.ts';
import { Transformer } from '../../models/transformer.ts';
import { atlas } from '../../neurgrad/atlas.ts';
import { neuronGradients } from '../../neurgrad/gradients.ts';
import { neuronAt } from '../../neurgrad/neuron.ts';
import { encodePrompt } from '../../neurgrad/prompt.ts';
import { drawWithoutReplacement, seededRandom } from '../../neurgrad/random.ts';
import { recordPrompt } from '../../neurgrad/record.ts';
import { steer } from '../../neurgrad/steer.ts';
import { sweep } from '../../neurgrad/sweep.ts';
import { toyModel } from './toyModel.ts';

/** Tokens of each forward while something is done; rows of sweeps enter by their layers and are none. */
async function forwards(work: () => Promise<unknown>): Promise<number[]> {
  const embedded = vi.spyOn(Transformer.prototype, 'embed');
  try {
    await work();
    return embedded.mock.calls.map(([{ rows, length }]) => rows * length);
  } finally {
    embedded.mockRestore();
  }
}

describe.each([
  { name: 'facts-bert', text: 'The capital of France is [MASK].' },
  { name: 'stories260k', text: 'Once upon a time' },
])('$name', ({ name, text }) => {
  let model: Transformer;
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    const opened = await loadModel(`examples/models/${name}`);
    model = opened.model as Transformer;
    tokenizer = opened.tokenizer;
  });
  afterAll(() => model.device.destroy());

  it('runs its prompt once, whatever is asked of it', async () => {
    const probe = encodePrompt(model, tokenizer, text);
    const { target } = await neuronGradients(model, probe);
    const { memory } = model.device;
    const before = memory.total - memory.pooled;
    const neurons = drawWithoutReplacement(4, model.sizes.layers * model.sizes.width, seededRandom(1)).map(
      (flat) => neuronAt(flat, model.sizes.width, model.paperSite),
    );
    const once = await forwards(async () => {
      using record = await recordPrompt(model, probe, { target });
      expect(record.p).toBeGreaterThan(0);
      for (const site of model.sites) {
        const found = await neuronGradients(model, probe, { site, record });
        expect(found.target).toBe(target);
      }
      const all = await atlas(model, probe, { record, layers: [1], shifts: [-2, -1, 1, 2] });
      expect(all.length).toBe(model.sizes.width);
      for (const of of ['prob', 'logprob'] as const) await sweep(model, probe, { record, neurons, of });
    });
    expect(once).toEqual(model.causal ? [probe.ids.length - 1, 1] : [probe.ids.length]);
    const after = model.device.memory;
    expect(after.total - after.pooled).toBe(before);
  });

  it('gives what runs of their own give', async () => {
    const probe = encodePrompt(model, tokenizer, text);
    using record = await recordPrompt(model, probe);
    const { target } = record;
    for (const site of model.sites) {
      const [got, want] = [
        await neuronGradients(model, probe, { site, record }),
        await neuronGradients(model, probe, { site, target }),
      ];
      expect(got.p).toBeCloseTo(want.p, 6);
      for (const [i, g] of got.gradient.entries())
        expect(Math.abs(g - want.gradient[i]!)).toBeLessThanOrEqual(want.noise[i]! + got.noise[i]!);
      expect(got.conventions).toEqual(want.conventions);
    }
    const neurons = drawWithoutReplacement(6, model.sizes.layers * model.sizes.width, seededRandom(2)).map(
      (flat) => neuronAt(flat, model.sizes.width, model.paperSite),
    );
    for (const engine of ['differences', 'curve', 'naive'] as const) {
      const shifts = [-2, -1, 0.5, 2];
      const [got, want] = [
        await sweep(model, probe, { neurons, shifts, engine, record }),
        await sweep(model, probe, { neurons, shifts, engine, target }),
      ];
      for (const [n, curve] of got.neurons.entries())
        for (const [i, change] of curve.changes.entries())
          expect(Math.abs(change - want.neurons[n]!.changes[i]!)).toBeLessThanOrEqual(
            curve.valueNoise[i]! + want.neurons[n]!.valueNoise[i]!,
          );
    }
    const goal = { target, to: 0.5 };
    const [steered, own] = [await steer(model, probe, { ...goal, record }), await steer(model, probe, goal)];
    expect(steered.success).toBe(own.success);
    expect(steered.reached).toBeCloseTo(own.reached, 4);
  });

  it('is of one model, prompt, target, position, quantity and of its sites', async () => {
    const probe = encodePrompt(model, tokenizer, text);
    const neurons = [neuronAt(3, model.sizes.width, model.paperSite)];
    const record = await recordPrompt(model, probe, { sites: ['post'], target: 5, neuronPosition: 1 });
    const ask = (options: object, of = probe) =>
      sweep(model, of, { neurons, shifts: [-1, 1], record, ...options });
    await expect(ask({}, { ...probe, ids: [...probe.ids].reverse() })).rejects.toThrow('another prompt');
    await expect(ask({ target: 6 })).rejects.toThrow('target 5, not 6');
    await expect(ask({ neuronPosition: 2 })).rejects.toThrow('position 1, not 2');
    await expect(ask({ neurons: ['L0.N0@pre'] })).rejects.toThrow('no gradients at blocks.0.mlp.hook_pre');
    await expect(ask({ neurons: ['L0.N0@post'], of: 'logit' })).rejects.toThrow("of: 'logit'");
    await expect(steer(model, probe, { record, target: 5, to: 0.5 })).rejects.toThrow('position 1');
    expect(await ask({ neurons: ['L0.N0@post'] })).toMatchObject({ target: 5, neuronPosition: 1 });
    record.dispose();
    await expect(ask({ neurons: ['L0.N0@post'] })).rejects.toThrow('disposed of');
    await expect(ask({ record: {} })).rejects.toThrow('recordPrompt');
  });
});

it('of a model that carries no differences has its gradients alone', async () => {
  const model = toyModel([[0.5, -0.25]], [[0.01, 0.02]]);
  const probe = { ids: [1, 2, 3], position: 1 };
  using record = await recordPrompt(model, probe, { target: 0 });
  const passes = model.passes.length;
  expect([...(await neuronGradients(model, probe, { record })).activation]).toEqual([0.5, -0.25]);
  expect(model.passes.length).toBe(passes);
  const swept = await sweep(model, probe, { record, neurons: ['L0.N0@post'], shifts: [-1, 1] });
  expect(swept).toMatchObject({ engine: 'naive', by: 'naive' });
  expect(model.open).toBe(0);
});
