/**
 * Sets of neurons shifted together: worked out by hand on a toy; by differences against full runs and a float64 model; what is refused.
 * Every family and site is in families.test.ts.
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Device, openDevice } from '../../engine/index.ts';
import { loadModel } from '../../models/index.ts';
import { neuronGradients } from '../../neurgrad/gradients.ts';
import { intervene } from '../../neurgrad/intervene.ts';
import { neuronAt } from '../../neurgrad/neuron.ts';
import { encodePrompt, resolveTarget } from '../../neurgrad/prompt.ts';
import { drawWithoutReplacement, seededRandom } from '../../neurgrad/random.ts';
import { recordPrompt } from '../../neurgrad/record.ts';
import { sweep } from '../../neurgrad/sweep.ts';
import { exactChange, referenceOf } from './reference.ts';
import { toyModel } from './toyModel.ts';

let device: Device;
beforeAll(async () => {
  device = await openDevice();
});
afterAll(() => device.destroy());

describe('by hand', () => {
  // Logit 0 is 0.5 a00 - a01 + 2 a10; the others are 0.
  const toy = toyModel(
    [
      [0.4, -0.2],
      [0.1, -0.3],
    ],
    [
      [0.5, -1],
      [2, 0],
    ],
  );
  const probe = { ids: [1, 2], position: 1 };
  const sets = [
    { neurons: ['L0.N0', 'L0.N1', 'L1.N0'], shift: [1, 0.5, -0.25] },
    { neurons: ['L1.N0', 'L1.N1'], shift: 0.5 },
  ];
  it('adds up where the model is linear', async () => {
    const { sets: found, p } = await intervene(toy, probe, sets, { of: 'logit', target: 0 });
    // Outward: a01 goes down. 0.5 + 0.5 - 0.5; 1 + 0.
    expect(found.map(({ predicted }) => predicted)).toEqual([0.5, 1]);
    for (const [n, { reached, predicted, p: moved }] of found.entries()) {
      expect(reached).toBeCloseTo(predicted, 6);
      const z = 0.5 * 0.4 + 0.2 + 2 * 0.1 + predicted;
      expect(moved, `set ${n}`).toBeCloseTo(Math.exp(z) / (Math.exp(z) + 3), 6);
    }
    expect(p).toBeCloseTo(Math.exp(0.6) / (Math.exp(0.6) + 3), 6);
    // Of logit 0 less logit 2, which stays 0; and the other way round.
    const against = await intervene(toy, probe, sets, { of: 'logit_diff', target: 0, other: 2 });
    expect(against).toMatchObject({ other: 2, conventions: { of: 'logit_diff' } });
    const turned = await intervene(toy, probe, sets, { of: 'logit_diff', target: 2, other: 0 });
    for (const [n, { predicted, reached, noise }] of against.sets.entries()) {
      expect(predicted).toBe(found[n]!.predicted);
      expect(Math.abs(reached - predicted)).toBeLessThanOrEqual(noise);
      expect(turned.sets[n]!.reached).toBeCloseTo(-reached, 6);
    }
  });
  it('is foretold to first order of p, along the axis and sign asked for', async () => {
    const plain = await intervene(toy, probe, sets, { target: 0, direction: 'plain' });
    const p = Math.exp(0.6) / (Math.exp(0.6) + 3);
    // 0.5 * 1 - 1 * 0.5 - 2 * 0.25
    expect(plain.sets[0]!.predicted).toBeCloseTo(p * (1 - p) * -0.5, 6);
    expect(plain.sets[0]!.reached).toBeCloseTo(Math.exp(0.1) / (Math.exp(0.1) + 3) - p, 6);
    const opposite = await intervene(toy, probe, sets, { target: 0, sign: '-' });
    expect(opposite.sets[0]!.predicted).toBeCloseTo(-p * (1 - p) * 0.5, 6);
  });
  it('says what is wrong', async () => {
    const of = (neurons: string[], shift: number | number[] = 1): Promise<unknown> =>
      intervene(toy, probe, [{ neurons, shift }]);
    await expect(of(['L0.N0', 'L0.N0'])).rejects.toThrow('L0.N0@post is in a set twice');
    await expect(of([])).rejects.toThrow('a set has no neurons');
    await expect(of(['L0.N0', 'L0.N1'], [1])).rejects.toThrow('2 values in neurons, but 1 in shift');
    await expect(of(['L0.N0'], Number.NaN)).rejects.toThrow('not a finite number');
    await expect(intervene(toy, probe, [])).rejects.toThrow('no sets');
    await expect(intervene(toy, probe, sets, { of: 'logit_diff' })).rejects.toThrow('logit_diff needs other');
    await expect(intervene(toy, probe, sets, { other: 1 })).rejects.toThrow("of: 'logit_diff'");
    await expect(intervene(toy, probe, [{ neurons: ['L0.N0'] }] as never)).rejects.toThrow('expected a');
    await expect(intervene(toy, probe, sets, { engine: 'differences' })).rejects.toThrow(
      'engine differences: it needs',
    );
  });
});

it.each([
  ['facts-bert', 'The capital of France is [MASK].', 'paris'],
  ['stories260k', 'Once upon a time, there was a little girl named', undefined],
])('%s: sets up to all neurons, as full runs and a float64 model have them', async (name, text, word) => {
  const { model, tokenizer } = await loadModel(`examples/models/${name}`, { device });
  const probe = encodePrompt(model, tokenizer, text);
  const target = word === undefined ? undefined : resolveTarget(model, tokenizer, probe, word);
  const { layers, width } = model.sizes;
  const site = model.paperSite;
  const random = seededRandom(3);
  const draw = (count: number) =>
    drawWithoutReplacement(count, layers * width, random).map((flat) => neuronAt(flat, width, site));
  const sets = [
    { neurons: draw(1), shift: 1 },
    { neurons: draw(60), shift: 0.5 },
    { neurons: draw(layers * width), shift: -0.05 },
    { neurons: draw(layers * width), shift: 1e-5 },
  ];
  using record = await recordPrompt(model, probe, { target });
  const fast = await intervene(model, probe, sets, { record });
  expect(fast.engine).toBe('differences');
  const naive = await intervene(model, probe, sets, { record, engine: 'naive' });
  for (const [n, { reached, noise, predicted }] of fast.sets.entries()) {
    const slow = naive.sets[n]!;
    expect(Math.abs(reached - slow.reached), `set ${n}`).toBeLessThanOrEqual(noise + slow.noise);
    expect(predicted).toBe(slow.predicted);
  }
  // A set of one is a point of a sweep.
  const [curve] = (
    await sweep(model, probe, { neurons: sets[0]!.neurons, shifts: [1, 2], record, engine: 'differences' })
  ).neurons;
  const point = curve!.changes[curve!.shifts.indexOf(1)]!;
  expect(Math.abs(fast.sets[0]!.reached - point)).toBeLessThanOrEqual(1e-5 * Math.abs(point));
  // In float64; what full float32 runs lose of the last set's change, differences keep.
  const reference = await referenceOf(model);
  const plain = reference(probe);
  for (const n of [1, 3]) {
    const { neurons, shifts, reached, noise, predicted } = fast.sets[n]!;
    const { activation } = record.hooks(
      neurons.map(({ layer }) => `blocks.${layer}.mlp.hook_${site}`),
      'prob',
    );
    const by = neurons.map(({ layer, index }, i) => {
      const a = activation.get(`blocks.${layer}.mlp.hook_${site}`)![index]!;
      return shifts[i]! * (a < 0 ? -1 : 1);
    });
    const moved = reference(
      probe,
      ...neurons.map((neuron, i) => ({ neuron, at: probe.position, by: by[i]! })),
    );
    if (n === 1) {
      const other = fast.target === 5 ? 6 : 5;
      const of = { of: 'logit_diff', target: fast.target, other } as const;
      const log = (p: Float64Array | number[]): number => Math.log(p[fast.target]! / p[other]!);
      const [against] = (await intervene(model, probe, [sets[n]!], of)).sets;
      expect(Math.abs(against!.reached - (log(moved) - log(plain)))).toBeLessThanOrEqual(against!.noise);
      const { gradient } = await neuronGradients(model, probe, { ...of, direction: 'plain' });
      const sum = neurons.reduce(
        (s, { layer, index }, i) => s + by[i]! * gradient[layer * width + index]!,
        0,
      );
      expect(against!.predicted).toBeCloseTo(sum, 5);
    }
    const exact = exactChange(plain, moved, fast.target);
    expect(Math.abs(reached - exact), `set ${n}`).toBeLessThanOrEqual(noise);
    expect(noise, `set ${n}`).toBeLessThan(0.05 * Math.abs(exact));
    if (n === 3) expect(Math.abs(predicted / exact - 1)).toBeLessThan(0.02);
  }
  model.dispose();
});
