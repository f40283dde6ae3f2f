/**
 * Sweeps of many prompts at once, differences of two logits and answers of several tokens: the numbers of each alone, those of full
 * forwards, and those of a model in float64.
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Device, openDevice } from '../../engine/index.ts';
import { loadModel } from '../../models/index.ts';
import {
  answerValues,
  encodePrompt,
  integrateLayers,
  integrateNeurons,
  type LanguageModel,
  type Neuron,
  neuronGradients,
  type Prompt,
  pathPoints,
  type Sweep,
  steer,
  sweep,
} from '../../neurgrad/index.ts';
import { type Reference, referenceOf, type Shift } from './reference.ts';
import { toyModel } from './toyModel.ts';

let device: Device;
beforeAll(async () => {
  device = await openDevice();
});
afterAll(() => device.destroy());

const SHIFTS = [-2, -1, 1, 2];
const DENSE = Array.from({ length: 15 }, (_, i) => (i - 7) / 4);

/** Of each changed value the distance from what is right, in units of the noise stated. */
const distances = ({ neurons }: Sweep, want: (neuron: Neuron, shift: number) => number): number[] =>
  neurons.flatMap(({ shifts, changes, valueNoise, activation, ...neuron }) =>
    shifts.flatMap((shift, k) =>
      shift === 0
        ? []
        : [Math.abs(changes[k]! - want(neuron, (activation < 0 ? -1 : 1) * shift)) / valueNoise[k]!],
    ),
  );

const changesOf = ({ neurons }: Sweep): unknown => neurons.map(({ changes, p }) => ({ changes, p }));

describe.each([
  ['facts-bert', ['Rome is in [MASK].', 'The capital of France is [MASK].', 'Oslo is in [MASK].']],
  ['stories260k', ['Once upon a time', 'The dog', 'Lily and Tom went to the']],
] as const)('%s', (name, texts) => {
  let model: LanguageModel;
  let prompts: Prompt[];
  let neurons: Neuron[];
  let reference: Reference;
  beforeAll(async () => {
    const opened = await loadModel(`examples/models/${name}`, { device });
    model = opened.model;
    prompts = texts.map((text) => encodePrompt(model, opened.tokenizer, text));
    const site = model.paperSite;
    neurons = [
      { layer: 0, index: 3, site },
      { layer: model.sizes.layers - 1, index: 40, site },
    ];
    reference = await referenceOf(model);
  });
  afterAll(() => model.dispose());

  it('sweeps each prompt to the bits of it alone, whatever is swept with it', async () => {
    const told: number[][] = [];
    const many = await sweep(model, prompts, {
      neurons,
      shifts: SHIFTS,
      onProgress: (...done) => told.push(done),
    });
    const all = prompts.length * neurons.length * SHIFTS.length;
    expect(told.at(-1)).toEqual([all, all]);
    const alone = await sweep(model, prompts[1]!, { neurons, shifts: SHIFTS });
    expect(many[1]).toEqual(alone);
    const lists = [neurons.slice(0, 1), neurons.slice(1), neurons];
    const curves = await sweep(model, prompts, { neurons: lists, shifts: DENSE, of: 'logprob' });
    expect(curves.map(({ engine, neurons }) => [engine, neurons.length])).toEqual([
      ['curve', 1],
      ['curve', 1],
      ['curve', 2],
    ]);
    expect(curves[0]).toEqual(
      await sweep(model, prompts[0]!, { neurons: lists[0]!, shifts: DENSE, of: 'logprob' }),
    );
    const sums = await sweep(model, prompts, { neurons, shifts: SHIFTS, points: false });
    expect(sums[2]).toEqual(await sweep(model, prompts[2]!, { neurons, shifts: SHIFTS, points: false }));
    expect(await sweep(model, [], { neurons })).toEqual([]);
    await expect(sweep(model, prompts, { neurons: [neurons] })).rejects.toThrow('1 lists of neurons for 3');
    await expect(sweep(model, prompts, { neurons, target: [1] })).rejects.toThrow('1 targets for 3 prompts');
  });

  it('reads several targets of the same shifted rows', async () => {
    const [one, two] = prompts as [Prompt, Prompt];
    const options = { neurons, shifts: SHIFTS };
    const both = await sweep(model, [one, one, two], { ...options, target: [5, 9, 9] });
    for (const [i, target] of [5, 9].entries()) {
      const alone = await sweep(model, one, { ...options, target });
      expect(changesOf(both[i]!)).toEqual(changesOf(alone));
      for (const [n, { gradient, gradientNoise }] of alone.neurons.entries())
        expect(Math.abs(both[i]!.neurons[n]!.gradient - gradient)).toBeLessThan(0.1 * gradientNoise);
    }
  });

  it('sweeps the difference of two logits', async () => {
    const [probe] = prompts as [Prompt];
    const [target, other] = [5, 9];
    const log = (shift?: Shift): number => {
      const p = reference(probe, ...(shift ? [shift] : []));
      return Math.log(p[target]! / p[other]!);
    };
    const plain = log();
    const at = probe.position;
    const want = (neuron: Neuron, by: number): number => log({ neuron, at, by }) - plain;
    const options = { neurons, shifts: SHIFTS, of: 'logit_diff', target, other } as const;
    for (const engine of ['differences', 'naive'] as const) {
      const found = await sweep(model, probe, { ...options, engine });
      expect(found).toMatchObject({ target, other, conventions: { of: 'logit_diff' } });
      expect(found.neurons[0]!.values[2]! - plain).toBeCloseTo(0, 4);
      for (const distance of distances(found, want)) expect(distance).toBeLessThan(1);
    }
    const plainAxis = { of: 'logit_diff', target, other, direction: 'plain' } as const;
    const [one, again] = await neuronGradients(model, [probe, probe], plainAxis);
    expect(again!.gradient).toEqual(one!.gradient);
    for (const neuron of neurons) {
      const flat = neuron.layer * one!.width + neuron.index;
      const central = (h: number): number => (want(neuron, h) - want(neuron, -h)) / (2 * h);
      const slope = (4 * central(5e-4) - central(1e-3)) / 3;
      expect(Math.abs(one!.gradient[flat]! - slope)).toBeLessThan(one!.noise[flat]! + 1e-9);
    }
  });

  /** Integrated gradients of an answer: the path's slopes in float64, those of its tokens, and the change that they sum to. */
  async function expectIntegrated(
    probe: Prompt,
    answer: readonly number[],
    want: (neuron: Neuron, by: number) => number,
    p: number,
  ): Promise<void> {
    const path = { steps: 3, endpoints: 'gauss' } as const;
    const points = pathPoints(path.steps, path.endpoints);
    for (const of of ['prob', 'logprob'] as const) {
      const value = (neuron: Neuron, by: number): number =>
        of === 'prob' ? p * Math.exp(want(neuron, by)) : want(neuron, by);
      for (const found of await integrateNeurons(model, probe, neurons, { target: answer, of, ...path })) {
        const a = (await neuronGradients(model, probe)).activation[
          found.layer * model.sizes.width + found.index
        ]!;
        const slope = (by: number): number => (value(found, by + 1e-4) - value(found, by - 1e-4)) / 2e-4;
        const ig = a * points.reduce((sum, { alpha, weight }) => sum + weight * slope((alpha - 1) * a), 0);
        expect(found).toMatchObject({ target: answer[0], answer });
        expect(Math.abs(found.ig - ig)).toBeLessThan(found.noise + 1e-7 * Math.abs(ig));
        expect(Math.abs(found.change - (value(found, 0) - value(found, -a)))).toBeLessThan(
          1e-4 * (of === 'prob' ? p : 1),
        );
      }
    }
    const about = { layers: [1], of: 'logprob', neuronPosition: probe.position, ...path } as const;
    const [layer] = await integrateLayers(model, probe, { ...about, target: answer });
    const tokens = await Promise.all(
      answer.map((target, k) => {
        const ids = [...probe.ids, ...answer.slice(0, k)];
        const own = { ids, position: probe.position + k };
        return integrateLayers(model, own, { ...about, target });
      }),
    );
    for (const [i, ig] of layer!.ig.entries()) {
      const sum = tokens.reduce((total, [one]) => total + one!.ig[i]!, 0);
      const noise = tokens.reduce((total, [one]) => total + one!.noise[i]!, layer!.noise[i]!);
      expect(Math.abs(ig - sum)).toBeLessThanOrEqual(noise);
    }
    const [whole, one] = await integrateLayers(model, [probe, probe], {
      ...{ layers: [1], steps: 12, endpoints: 'gauss' },
      target: [answer, 7],
    });
    expect(Math.abs(whole![0]!.sum / whole![0]!.change - 1)).toBeLessThan(1e-3);
    expect(whole![0]!).toMatchObject({ answer });
    expect(one![0]!.answer).toBeUndefined();
  }

  it('has answers of several tokens by the product of their probabilities, of causal models', async () => {
    const [probe] = prompts as [Prompt];
    const answer = [5, 9, 300];
    const options = { neurons, shifts: SHIFTS, target: answer };
    if (!model.causal) {
      const refused = 'an answer of 3 tokens: a masked model fills in one';
      await expect(sweep(model, probe, options)).rejects.toThrow(refused);
      await expect(neuronGradients(model, probe, { target: answer })).rejects.toThrow(refused);
      await expect(integrateLayers(model, probe, { target: answer })).rejects.toThrow(refused);
      return;
    }
    const at = probe.position;
    // The whole text once more: each token read where the ones before it stand.
    const log = (shift?: Shift): number =>
      answer.reduce((sum, id, k) => {
        const ids = [...probe.ids, ...answer.slice(0, k)];
        return sum + Math.log(reference({ ids, position: at + k }, ...(shift ? [shift] : []))[id]!);
      }, 0);
    const plain = log();
    const want = (neuron: Neuron, by: number): number => log({ neuron, at, by }) - plain;
    for (const engine of ['differences', 'naive'] as const) {
      const found = await sweep(model, probe, { ...options, of: 'logprob', engine });
      expect(found).toMatchObject({ target: 5, answer, neuronPosition: at });
      expect(Math.log(found.p)).toBeCloseTo(plain, 4);
      for (const distance of distances(found, want)) expect(distance).toBeLessThan(1);
      const ofP = await sweep(model, probe, { ...options, engine });
      const change = (neuron: Neuron, by: number) => Math.exp(plain) * Math.expm1(want(neuron, by));
      for (const distance of distances(ofP, change)) expect(distance).toBeLessThan(1);
    }
    const [one, two] = await neuronGradients(model, [probe, probe], {
      target: [answer, 7],
      direction: 'plain',
    });
    expect(one!.p).toBeCloseTo(Math.exp(plain), 8);
    expect(two!.gradient).toEqual(
      (await neuronGradients(model, probe, { target: 7, direction: 'plain' })).gradient,
    );
    for (const neuron of neurons) {
      const flat = neuron.layer * one!.width + neuron.index;
      const central = (h: number): number => (want(neuron, h) - want(neuron, -h)) / (2 * h);
      const slope = (Math.exp(plain) * (4 * central(5e-4) - central(1e-3))) / 3;
      expect(Math.abs(one!.gradient[flat]! - slope)).toBeLessThan(one!.noise[flat]! + 1e-12);
    }
    await expectIntegrated(probe, answer, want, Math.exp(plain));
    const to = 1.2 * Math.exp(plain);
    const steered = await steer(model, probe, { target: answer, to, tolerance: 1e-3 * to });
    expect(steered).toMatchObject({ target: 5, answer, success: true });
    expect(steered.before / Math.exp(plain)).toBeCloseTo(1, 4);
    // What it says is reached, by the reference with one neuron: allowed no more, it is that one's.
    const alone = await steer(model, probe, { target: answer, to, tolerance: 1e-3 * to, maxNeurons: 1 });
    for (const { shift, activation, ...neuron } of alone.neurons) {
      const by = (activation < 0 ? -1 : 1) * shift;
      expect(alone.reached / Math.exp(plain + want(neuron, by))).toBeCloseTo(1, 4);
    }
    const [values] = await answerValues(model, [probe], [answer]);
    expect(values!.logprob).toBeCloseTo(plain, 4);
    expect(values!.best).toBe(false);
    await expect(sweep(model, probe, { ...options, of: 'logit' })).rejects.toThrow('has no logit');
    const early = { ...probe, position: 0 };
    await expect(sweep(model, early, options)).rejects.toThrow("follows a prompt's last token");
  });
});

it('is a logit less another by hand', async () => {
  const model = toyModel([[0.5, -0.25]], [[0.01, 0.02]]);
  const probe = { ids: [1, 2, 3], position: 1 };
  const asked = { target: 0, other: 2, of: 'logit_diff' } as const;
  const { gradient, neurgrad } = await neuronGradients(model, probe, asked);
  // The other logits are 0 whatever happens: z = w · a, along the activation's own sign.
  for (const [i, want] of [0.01, 0.02].entries()) expect(gradient[i]).toBeCloseTo(want, 8);
  expect(neurgrad[1]).toBeCloseTo(-0.02, 8);
  const found = await sweep(model, probe, { ...asked, neurons: ['L0.N1'], shifts: [-1, 1] });
  expect(found.neurons[0]!.slope).toBeCloseTo(-0.02, 7);
  await expect(sweep(model, probe, { neurons: ['L0.N1'], of: 'logit_diff' })).rejects.toThrow(
    'logit_diff needs other',
  );
  await expect(sweep(model, probe, { neurons: ['L0.N1'], other: 1 })).rejects.toThrow("of: 'logit_diff'");
  expect(model.open).toBe(0);
});
