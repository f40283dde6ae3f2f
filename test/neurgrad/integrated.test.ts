/** Integrated gradients against the golden ones of every case, and the rules of their paths. */

import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { type Device, openDevice, Plan } from '../../engine/index.ts';
import { loadModel } from '../../models/index.ts';
import { ENDPOINTS, integrateLayers, integrateNeurons, pathPoints } from '../../neurgrad/integrated.ts';
import { predict } from '../../neurgrad/predict.ts';
import { encodePrompt } from '../../neurgrad/prompt.ts';
import { CASES, inputsOf, named, neuronGroups, openCase } from '../models/goldenCases.ts';

const ENGINES = ['auto', 'naive'] as const;

let device: Device;
beforeAll(async () => {
  device = await openDevice();
});
afterAll(() => device.destroy());

describe('pathPoints', () => {
  const alphas = (...args: Parameters<typeof pathPoints>) => pathPoints(...args).map(({ alpha }) => alpha);
  it('follows the rule asked for', () => {
    expect(alphas(4, 'right')).toEqual([0.25, 0.5, 0.75, 1]);
    expect(alphas(4, 'left')).toEqual([0, 0.25, 0.5, 0.75]);
    expect(alphas(2, 'mid')).toEqual([0.25, 0.75]);
    expect(alphas(3, 'linspace')).toEqual([0, 0.5, 1]);
    expect(() => pathPoints(1, 'linspace')).toThrow('above 1');
    expect(pathPoints(3, 'trapezoid')).toEqual([
      { alpha: 0, weight: 0.25 },
      { alpha: 0.5, weight: 0.5 },
      { alpha: 1, weight: 0.25 },
    ]);
    expect(() => pathPoints(1, 'trapezoid')).toThrow('above 1');
    expect(() => pathPoints(0, 'right')).toThrow('above 0');
  });
  it('integrates polynomials exactly by Gauss-Legendre', () => {
    for (const n of [1, 2, 5, 20])
      for (let power = 0; power < 2 * n; power++) {
        const integral = pathPoints(n, 'gauss').reduce((sum, p) => sum + p.weight * p.alpha ** power, 0);
        expect(integral).toBeCloseTo(1 / (power + 1), 12);
      }
  });
});

describe.each(named(CASES))('%s', (_, golden) => {
  it('has the golden integrated gradients', async () => {
    const model = await openCase(golden, device);
    const inputs = await inputsOf(golden);
    const want = await golden.read('neurons');
    const near = (got: number, tensor: string, i: number): void => {
      const value = want.of(tensor).data[i]!;
      const atol = golden.atol('neurons', tensor);
      expect(Math.abs(got - value) <= atol, `${tensor} ${i}: ${got}, want ${value}`).toBe(true);
    };
    try {
      for (const { row, column, neurons } of neuronGroups(inputs)) {
        const { pad, target, ...probe } = inputs.prompt(row);
        const common = { target, neuronPosition: column - pad };
        for (const engine of ENGINES) {
          const of = (rule: object) =>
            integrateNeurons(model, probe, neurons, { ...common, engine, ...rule });
          const right = await of({});
          for (const [i, { line }] of neurons.entries()) {
            near(right[i]!.ig, 'ig', line);
            near(right[i]!.zero, 'p_zero', line);
          }
          if (engine === 'naive') continue;
          const mid = await of({ steps: 7, endpoints: 'mid' });
          const linspace = await of({ endpoints: 'linspace' });
          for (const [i, { line }] of neurons.entries()) {
            near(mid[i]!.ig, 'ig_mid', line);
            near(linspace[i]!.ig, 'ig_linspace', line);
          }
        }
      }
      const { pad: _, target, ...probe } = inputs.prompt(0);
      for (const engine of ENGINES) {
        const joint = await integrateLayers(model, probe, { target, site: 'post', engine });
        for (const { layer, ig } of joint)
          for (const [i, value] of ig.entries()) near(value, 'ig_joint', layer * ig.length + i);
      }
      // A norm of a layer's product makes much the same of any share of it: the way is all near 0, and no rule's few points follow it.
      if (model.description.layers.some(({ norms }) => norms.feedForward.after)) return;
      for (const { sum, change } of await integrateLayers(model, probe, { target, endpoints: 'gauss' }))
        expect(Math.abs(sum - change)).toBeLessThan(2e-5);
    } finally {
      model.dispose();
    }
  });
});

describe.each([
  ['facts-bert', 'The capital of France is [MASK].'],
  ['stories260k', 'Once upon a time, there was a little'],
])('%s: rows from the layer on', (name, text) => {
  it('equal full passes at every site, by every rule, at the position read and before it', async () => {
    const { model, tokenizer } = await loadModel(`examples/models/${name}`, { device });
    const probe = encodePrompt(model, tokenizer, text);
    const last = model.sizes.layers - 1;
    const largest = (values: ArrayLike<number>): number => Math.max(...Array.from(values, Math.abs));
    try {
      let rules = 0;
      for (const [i, site] of model.sites.entries())
        for (const neuronPosition of [probe.position, 2, 3]) {
          const endpoints = ENDPOINTS[rules++ % ENDPOINTS.length]!;
          const of = (['prob', 'logit', 'logprob'] as const)[i % 3]!;
          const rule = { of, neuronPosition, steps: 5, endpoints };
          const layers = [last, 1];
          const [auto, naive] = [
            await integrateLayers(model, probe, { ...rule, site, layers }),
            await integrateLayers(model, probe, { ...rule, site, layers, engine: 'naive' }),
          ];
          for (const [k, want] of naive.entries()) {
            const got = auto[k]!;
            expect(got.layer).toBe(layers[k]);
            const error = largest(got.ig.map((value, n) => value - want.ig[n]!));
            expect(error).toBeLessThanOrEqual(2e-5 * largest(want.ig));
            expect(Math.abs(got.change - want.change)).toBeLessThan(5e-6);
          }
          const neurons = [0, 1, last, 1].map((layer, n) => ({ layer, index: 17 * n + 5, site }));
          const single = await integrateNeurons(model, probe, neurons, rule);
          const slow = await integrateNeurons(model, probe, neurons, { ...rule, engine: 'naive' });
          const scale = largest(slow.map(({ ig }) => ig));
          for (const [k, want] of slow.entries()) {
            expect(single[k]).toMatchObject(neurons[k]!);
            expect(Math.abs(single[k]!.ig - want.ig)).toBeLessThanOrEqual(1e-4 * scale);
            // Both values are float32: a logit of 16 has steps of 2e-6.
            const near = 5e-6 * Math.max(1, Math.abs(want.zero));
            expect(Math.abs(single[k]!.zero - want.zero)).toBeLessThan(near);
            expect(Math.abs(single[k]!.change - want.change)).toBeLessThan(near);
          }
        }
    } finally {
      model.dispose();
    }
  });

  it('give the same bits replayed as run anew, and all memory back', async () => {
    const { model, tokenizer } = await loadModel(`examples/models/${name}`, { device });
    const replays = vi.spyOn(Plan.prototype, 'replay');
    try {
      const probe = encodePrompt(model, tokenizer, text);
      // Tables of angles are made as long as prompts ask for, and stay.
      await predict(model, probe, 1);
      const used = () => device.memory.total - device.memory.pooled;
      const before = used();
      const neurons = [0, 2].flatMap((layer) =>
        [3, 17, 40, 41, 90].map((index) => ({ layer, index, site: model.paperSite })),
      );
      const options = { steps: 5, rowsPerPass: 6 };
      for (const neuronPosition of [probe.position, 1]) {
        const once = (replay: boolean) =>
          integrateNeurons(model, probe, neurons, { ...options, neuronPosition, replay });
        const anew = await once(false);
        expect(replays).toHaveBeenCalledTimes(0);
        expect(await once(true)).toEqual(anew);
        expect(replays.mock.calls.length).toBeGreaterThan(3);
        replays.mockClear();
      }
      const layers = { layers: [1], site: 'pre' as const, rowsPerPass: 4, steps: 16 };
      const anew = await integrateLayers(model, probe, { ...layers, replay: false });
      expect(await integrateLayers(model, probe, layers)).toEqual(anew);
      expect(replays.mock.calls.length).toBeGreaterThan(1);
      expect(used()).toBe(before);
    } finally {
      replays.mockRestore();
      model.dispose();
    }
  });

  it('give the same bits for one layer, for all, and in passes of any size; and all memory back', async () => {
    const { model, tokenizer } = await loadModel(`examples/models/${name}`, { device });
    const probe = encodePrompt(model, tokenizer, text);
    await predict(model, probe, 1);
    try {
      const used = () => device.memory.total - device.memory.pooled;
      const before = used();
      const all = await integrateLayers(model, probe);
      const alone = await integrateLayers(model, probe, { layers: [1] });
      const cut = await integrateLayers(model, probe, { rowsPerPass: 7 });
      expect(alone[0]).toEqual(all[1]);
      expect(cut).toEqual(all);
      expect(used()).toBe(before);
    } finally {
      model.dispose();
    }
  });
});
