/** Steering reaches goals up and down, keeps to its limits, and says when it cannot; checks on a model of one's own. */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Device, openDevice } from '../../engine/index.ts';
import { loadModel, type Tokenizer } from '../../models/index.ts';
import type { LanguageModel } from '../../models/model.ts';
import { targetValues } from '../../neurgrad/predict.ts';
import { encodePrompt, type Prompt, resolveTarget } from '../../neurgrad/prompt.ts';
import { chooseShifts, steer } from '../../neurgrad/steer.ts';
import { relativeDifference, verifyConventions, verifyExact, verifyParity } from '../../neurgrad/verify.ts';

let device: Device;
let model: LanguageModel;
let prompt: Prompt;
let target: number;
let tokenizer: Tokenizer;
beforeAll(async () => {
  device = await openDevice();
  const loaded = await loadModel('examples/models/facts-bert', { device });
  model = loaded.model;
  tokenizer = loaded.tokenizer;
  prompt = encodePrompt(model, loaded.tokenizer, 'The capital of France is [MASK].');
  target = resolveTarget(model, loaded.tokenizer, prompt, 'paris');
});
afterAll(() => {
  model.dispose();
  device.destroy();
});

describe('chooseShifts', () => {
  it('takes the steepest first and stays within the range', () => {
    expect(chooseShifts([0, 0, 0], [1, -3, 0.5], 7.5, 2)).toEqual([1.5, -2, 0]);
    expect(chooseShifts([0, 0], [1, 1], -1, 2)).toEqual([-1, 0]);
    expect(chooseShifts([1, 2], [1, 1], 9, 2)).toEqual([2, 2]);
  });
});

describe('steer', () => {
  it('shifts no neurons but those it may', async () => {
    const neurons = ['L3.N327', 'L3.N40', 'L0.N4'];
    const found = await steer(model, prompt, { target, to: 0.5, neurons });
    expect(found.neurons.length).toBeGreaterThan(0);
    for (const { layer, index } of found.neurons) expect(neurons).toContain(`L${layer}.N${index}`);
    expect(found.reached).toBeLessThan(found.before);
    await expect(steer(model, prompt, { target, to: 0.5, neurons: ['L0.N1@pre'] })).rejects.toThrow(
      'steer: L0.N1@pre is not of the site post',
    );
  });
  it.each([
    [0.5, 0],
    [0.1, 0],
    // At the word before the mask, where neurons say less of it.
    [0.9, 1],
  ])(
    'brings p down to %s by neurons %i tokens before, as a forward with the shifts confirms',
    async (to, before) => {
      const position = prompt.position - before;
      const found = await steer(model, prompt, { target, to, maxNeurons: 48, neuronPosition: position });
      expect(found.neuronPosition).toBe(position);
      expect(found.before).toBeGreaterThan(0.9);
      expect(found.success).toBe(true);
      expect(Math.abs(found.reached - to)).toBeLessThanOrEqual(0.01);
      expect(found.neurons.length).toBeLessThanOrEqual(48);
      for (const { shift } of found.neurons) expect(Math.abs(shift)).toBeLessThanOrEqual(2);
      using run = model.run(
        { ids: [prompt.ids] },
        {
          patch: found.neurons.map(({ layer, index, shift }) => ({
            name: `blocks.${layer}.mlp.hook_post`,
            position,
            neuron: index,
            op: 'add' as const,
            value: shift,
            along: 'outward' as const,
          })),
          logits: [prompt.position],
        },
      );
      expect(targetValues(await run.logits.read(), target).prob).toBeCloseTo(found.reached, 5);
    },
  );
  it('makes another word likely', async () => {
    const found = await steer(model, prompt, {
      target: target + 1,
      to: 0.3,
      maxNeurons: 200,
      tolerance: 0.02,
    });
    expect(found.reached).toBeGreaterThan(found.before);
  });
  it('says when few neurons do not suffice, and refuses what makes no sense', async () => {
    const found = await steer(model, prompt, { target, to: 0.01, maxNeurons: 1, range: 0.1 });
    expect(found.success).toBe(false);
    expect(found.neurons).toHaveLength(1);
    await expect(steer(model, prompt, { target, to: 1 })).rejects.toThrow('above 0 and below 1');
    await expect(steer(model, prompt, { target, to: 0.5, maxNeurons: 0 })).rejects.toThrow('maxNeurons is 0');
  });
});

describe('verify', () => {
  it('predicts the row of Table 1 on both axes', async () => {
    const { rows, negative } = await verifyConventions(model, [prompt], { neurons: 20 });
    const [outward, plain] = rows as [(typeof rows)[0], (typeof rows)[0]];
    expect(negative).toBeGreaterThan(0.8);
    expect(outward.plus).toBeGreaterThan(0.95);
    expect(outward.minus).toBe(-outward.plus);
    expect(plain.gradient).toBeGreaterThan(0.95);
  });
  it('finds the fast sweep exact', async () => {
    const steps: number[] = [];
    const found = await verifyExact(model, [prompt], {
      neurons: 10,
      onProgress: (done, all) => void steps.push(done / all),
    });
    expect(found.curves.worst).toBeLessThanOrEqual(1);
    expect(found.curves.ran).toBeLessThan(found.curves.points);
    expect(found).toMatchObject({ passed: true, sameBits: true, prompts: 1, seed: 1, worst: 0 });
    expect(found.small.differences).toBeLessThan(found.small.naive / 10);
    expect(steps.at(-1)).toBe(1);
  });
  it('reads every prompt it is given', async () => {
    const prompts = ['Oslo is the capital of [MASK].', 'Rome is located in [MASK].'].map((text) =>
      encodePrompt(model, tokenizer, text),
    );
    const options = { neurons: 4, seed: 7 };
    const alone = await verifyExact(model, [prompt], options);
    const all = await verifyExact(model, [prompt, ...prompts], options);
    expect(all).toMatchObject({ prompts: 3, rows: 3 * alone.rows, seed: 7, passed: true });
    // The first prompt's neurons are the same: what it shows is among what all show.
    expect(all.largest).toBeGreaterThanOrEqual(alone.largest);
    await expect(verifyExact(model, [], {})).rejects.toThrow('no prompts');
  });
  it('judges p as a share of itself, however small', () => {
    expect(relativeDifference(0.5, 0.5)).toBe(0);
    expect(relativeDifference(0, 0)).toBe(0);
    expect(relativeDifference(1.1e-9, 1e-9)).toBeCloseTo(0.1, 9);
    expect(relativeDifference(1e-300, 2e-300)).toBe(0.5);
    expect(relativeDifference(1e-12, 0)).toBe(Number.POSITIVE_INFINITY);
    expect(relativeDifference(Number.NaN, 0.5)).toBeNaN();
    expect(relativeDifference(0.5, Number.NaN)).toBeNaN();
  });
  it('compares logits with a reference, NaN counting as wrong', async () => {
    const ids = prompt.ids;
    using run = model.run({ ids: [ids] });
    const logits = await run.logits.read();
    expect(await verifyParity(model, [{ ids, logits }])).toMatchObject({
      passed: true,
      largest: 0,
      disagreements: 0,
    });
    logits[7] = Number.NaN;
    expect((await verifyParity(model, [{ ids, logits }])).passed).toBe(false);
    await expect(verifyParity(model, [{ ids, logits: [1] }])).rejects.toThrow('1 logits for');
  });
});
