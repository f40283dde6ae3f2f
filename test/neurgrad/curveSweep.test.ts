/** Sweeps by curves against sweeps of every shift: a sample of `node dist/bench/curves.js`, which takes all neurons. */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadModel } from '../../models/index.ts';
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
