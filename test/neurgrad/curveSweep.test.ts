/** Sweeps by curves against sweeps of every shift: a sample of `node dist/bench/curves.js`, which takes all neurons. */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openDevice } from '../../engine/index.ts';
import { loadModel, loadModelWeights, localFolder } from '../../models/index.ts';
import type { LanguageModel } from '../../models/model.ts';
import type { Tokenizer } from '../../models/tokenizer.ts';
import { responseAt } from '../../neurgrad/curve/response.ts';
import { paperGrid, shiftGrid } from '../../neurgrad/grid.ts';
import { neuronAt } from '../../neurgrad/neuron.ts';
import { encodePrompt } from '../../neurgrad/prompt.ts';
import { drawWithoutReplacement, seededRandom } from '../../neurgrad/random.ts';
import { type NeuronCurve, type SweepOptions, sweep } from '../../neurgrad/sweep.ts';
import { toyModel } from './toyModel.ts';

const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

function compare(curve: NeuronCurve, full: NeuronCurve): void {
  expect(curve.shifts).toEqual(full.shifts);
  for (const [i, change] of curve.changes.entries())
    expect(Math.abs(change - full.changes[i]!)).toBeLessThanOrEqual(
      Math.max(curve.bound, 1e-12) + full.valueNoise[i]!,
    );
  expect(Math.abs(curve.r - full.r)).toBeLessThan(1e-4);
  if (Math.abs(Math.abs(full.r) - 0.95) > 1e-4) expect(curve.linear).toBe(full.linear);
  expect(curve.flat).toBe(full.flat);
  expect(curve.polarity).toBe(full.polarity);
  expect(Math.abs(curve.slope - full.slope)).toBeLessThanOrEqual(1e-4 * Math.abs(full.slope) + full.noise);
}

describe.each([
  { name: 'facts-bert', text: 'The capital of France is [MASK].' },
  { name: 'stories260k', text: 'Once upon a time' },
])('$name', ({ name, text }) => {
  let opened: { model: LanguageModel; tokenizer: Tokenizer };
  beforeAll(async () => {
    opened = await loadModel(`examples/models/${name}`);
  });
  afterAll(() => opened.model.device.destroy());
  const draw = (count: number, seed: number) => {
    const { sizes, paperSite } = opened.model;
    return drawWithoutReplacement(count, sizes.layers * sizes.width, seededRandom(seed)).map((flat) =>
      neuronAt(flat, sizes.width, paperSite),
    );
  };
  const run = (options: SweepOptions) =>
    sweep(opened.model, encodePrompt(opened.model, opened.tokenizer, text), options);

  it.each([
    { shifts: shiftGrid(-2, 2, 0.2), count: 40, most: 7 },
    { shifts: paperGrid(), count: 12, most: 25 },
  ])('$count curves from few of $shifts.length shifts', async ({ shifts, count, most }) => {
    const neurons = draw(count, 3);
    const curves = await run({ neurons, shifts, engine: 'curve' });
    const all = await run({ neurons, shifts, engine: 'differences' });
    expect(curves).toMatchObject({
      engine: 'curve',
      by: 'differences',
      rows: 1 + curves.neurons.reduce((sum, { ran }) => sum + ran, 0),
    });
    for (const [n, curve] of curves.neurons.entries()) compare(curve, all.neurons[n]!);
    expect(mean(curves.neurons.map(({ ran }) => ran))).toBeLessThan(most);
    // What was run has the same bits.
    const [curve, full] = [curves.neurons[0]!, all.neurons[0]!];
    expect(curve.changes.at(-1)).toBe(full.changes.at(-1));
    expect(full).toMatchObject({ ran: shifts.length - 1, bound: 0, response: null });
  });

  it.each(['logprob', 'logit'] as const)('of %s, along the plain axis, without points', async (of) => {
    const options = { neurons: draw(6, 5), shifts: shiftGrid(-2, 2, 0.2), of, direction: 'plain' } as const;
    const curves = await run({ ...options, engine: 'curve' });
    const all = await run({ ...options, engine: 'differences' });
    for (const [n, curve] of curves.neurons.entries()) compare(curve, all.neurons[n]!);
    const sums = await run({ ...options, engine: 'curve', points: false });
    expect(sums.neurons[0]).toMatchObject({ p: [], values: [], slope: curves.neurons[0]!.slope });
  });

  it('keeps the curve for shifts that nobody asked for', async () => {
    const neurons = draw(8, 9);
    const shifts = shiftGrid(-2, 2, 0.2);
    const between = [-1.87, -0.33, 0.05, 1.11];
    const curves = await run({ neurons, shifts, engine: 'curve' });
    const all = await run({ neurons, shifts: between, engine: 'differences' });
    const known = curves.neurons.filter(({ response }) => response !== null);
    expect(known.length).toBeGreaterThan(4);
    for (const { response, bound, index, layer } of known) {
      const full = all.neurons.find((one) => one.index === index && one.layer === layer)!;
      for (const s of between) {
        const i = full.shifts.indexOf(s);
        expect(Math.abs(responseAt(response!, s, 'prob') - full.changes[i]!)).toBeLessThanOrEqual(
          bound + full.valueNoise[i]!,
        );
      }
    }
  });
});

describe('made-up models', () => {
  const gelu = (z: number): number =>
    0.5 * z * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (z + 0.044715 * z ** 3)));
  const shapes: Readonly<Record<string, (z: number) => number>> = {
    'a step': (z) => (z > 0.7 ? 1 : 0),
    'a kink': (z) => Math.abs(z - 0.3),
    'a plateau': (z) => Math.min(1, Math.max(-1, 3 * z)),
    'a plateau far out': (z) => Math.tanh(4 * (z - 1.5)),
    oscillation: (z) => Math.sin(14 * z),
    'oscillation with the shifts': (z) => Math.cos(5 * Math.PI * z),
    'slow oscillation': (z) => 0.3 * Math.sin(3 * z),
    'a bump': (z) => Math.exp(-((z - 0.9) ** 2) / 0.05),
    'p of 1': (z) => 40 + z,
    'p of 0': (z) => -60 + 3 * z,
    'from p of 0 to p of 1': (z) => 40 * z,
    'a tanh-GELU': (z) => gelu(3 * z),
    'a tanh-GELU over large shifts': (z) => gelu(20 * z),
    nothing: () => 1,
  };
  it.each(Object.entries(shapes))(
    '%s: all shifts are run, or the curve is within its bound',
    async (_, value) => {
      const step = 1e-4;
      const slope = (z: number): number => (value(z + step) - value(z - step)) / (2 * step);
      const neurons = [{ layer: 0, index: 0, site: 'post' as const }];
      const probe = { ids: [1, 2, 3], position: 1 };
      for (const shifts of [shiftGrid(-2, 2, 0.2), paperGrid()])
        for (const of of ['prob', 'logprob', 'logit'] as const) {
          const model = toyModel([[0.05]], [[1]], { value, slope });
          const options = { neurons, target: 0, shifts, of, direction: 'plain' } as const;
          const { engine, neurons: curves } = await sweep(model, probe, options);
          expect(engine).toBe('curve');
          const [curve, full] = [
            curves[0]!,
            (await sweep(model, probe, { ...options, engine: 'naive' })).neurons[0]!,
          ];
          if (curve.response === null) expect(curve).toMatchObject({ ran: shifts.length - 1, bound: 0 });
          for (const [i, change] of curve.changes.entries())
            expect(Math.abs(change - full.changes[i]!), `${of} at ${shifts[i]}`).toBeLessThanOrEqual(
              curve.bound + full.valueNoise[i]!,
            );
          expect(curve.flat).toBe(full.flat);
          if (Math.abs(Math.abs(full.r) - 0.95) > 1e-4) expect(curve.linear).toBe(full.linear);
        }
    },
  );
});

it('takes the kinks of a tanh-GELU far from its activations for what they are', async () => {
  const device = await openDevice();
  const model = await loadModelWeights(await localFolder('test/golden-families/models/gpt2-a'), device);
  const neurons = Array.from({ length: 8 }, (_, index) => ({
    layer: index % 2,
    index,
    site: 'pre' as const,
  }));
  const options = { neurons, shifts: shiftGrid(-50, 50, 1), target: 3, of: 'logprob' } as const;
  const probe = { ids: [3, 1, 4, 1, 5], position: 4 };
  const curves = await sweep(model, probe, options);
  expect(curves.engine).toBe('curve');
  const all = await sweep(model, probe, { ...options, engine: 'differences' });
  for (const [n, curve] of curves.neurons.entries())
    for (const [i, change] of curve.changes.entries())
      expect(Math.abs(change - all.neurons[n]!.changes[i]!)).toBeLessThanOrEqual(curve.bound);
  device.destroy();
});

it('runs a made-up model by full forwards, and refuses an engine that a model has not', async () => {
  const neuron = { layer: 0, index: 0, site: 'post' } as const;
  const model = toyModel([[0.5, -0.25]], [[0.01, 0.02]]);
  const probe = { ids: [1, 2, 3], position: 1 };
  const options = { neurons: [neuron], target: 0, shifts: shiftGrid(-2, 2, 0.2) };
  const curves = await sweep(model, probe, { ...options, engine: 'curve' });
  expect(curves).toMatchObject({ engine: 'curve', by: 'naive' });
  compare(curves.neurons[0]!, (await sweep(model, probe, { ...options, engine: 'naive' })).neurons[0]!);
  await expect(sweep(model, probe, { ...options, engine: 'differences' })).rejects.toThrow(
    'engine differences',
  );
  await expect(sweep(model, probe, { ...options, engine: 'rows' })).rejects.toThrow('engine rows');
  await expect(sweep(model, probe, { ...options, engine: 'curve', tolerance: 0 })).rejects.toThrow(
    'tolerance',
  );
});
