/**
 * The noise stated beside G_C, NeurGrad, IG and a sweep's changes, against a model in float64: nothing is further from it than it
 * says, whether p is near 1/2, within 1e-9 of 1 or below what float32 holds; so that sweep and gradients agree within their noise.
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { affine, type Device, openDevice, type Tensor } from '../../engine/index.ts';
import { loadModelWeights, loadTokenizer, localFolder } from '../../models/index.ts';
import type { LanguageModel, Quantity } from '../../models/model.ts';
import { neuronGradients } from '../../neurgrad/gradients.ts';
import { integrateLayers, integrateNeurons } from '../../neurgrad/integrated.ts';
import { flatIndex, type Neuron, neuronAt } from '../../neurgrad/neuron.ts';
import type { Probe } from '../../neurgrad/predict.ts';
import { encodePrompt } from '../../neurgrad/prompt.ts';
import { drawWithoutReplacement, seededRandom } from '../../neurgrad/random.ts';
import { type SweepOptions, sweep } from '../../neurgrad/sweep.ts';
import { CASES, inputsOf, named, oneAFamily } from '../models/goldenCases.ts';
import { exactChange, oddsGradient, type Reference, referenceOf } from './reference.ts';

let device: Device;
beforeAll(async () => {
  device = await openDevice();
});
afterAll(() => device.destroy());

/** The model with the norm before the decoder times `scale`: a factor on all logits but the decoder's bias, and within their cap. */
async function scaled(folder: string, scale: number): Promise<LanguageModel> {
  const model = await loadModelWeights(await localFolder(folder), device);
  const parameters = model.parameters as Map<string, Tensor>;
  const { head } = model.description;
  const { kind, weight, bias } = head.transform?.norm ?? head.norm!;
  for (const name of bias === undefined ? [weight] : [weight, bias]) {
    const before = parameters.get(name)!;
    parameters.set(name, affine(before, scale, kind === 'rms1' ? scale - 1 : 0).detach());
    before.dispose();
  }
  return model;
}

const TRAINED = [
  ['examples/models/facts-bert', 'The capital of France is [MASK].'],
  ['examples/models/stories260k', 'Once upon a time, there was a little'],
] as const;
const SCALES = [1, 1.5, 2, 2.5, 4];
const SHIFTS = [1e-3, 0.05, 2];

const draw = (model: LanguageModel, count: number, site = model.paperSite): Neuron[] =>
  drawWithoutReplacement(count, model.sizes.layers * model.sizes.width, seededRandom(11)).map((flat) =>
    neuronAt(flat, model.sizes.width, site),
  );

async function probeOf(model: LanguageModel, folder: string, text: string): Promise<Probe> {
  return encodePrompt(model, await loadTokenizer(await localFolder(folder)), text);
}

const argmax = (p: Float64Array): number => p.indexOf(p.reduce((a, b) => Math.max(a, b), 0));
const argmin = (p: Float64Array): number => p.indexOf(p.reduce((a, b) => Math.min(a, b), 1));

/** The quantity's gradient from that of the log odds, all in float64. */
function quantityGradient(of: Quantity, p: Float64Array, target: number, odds: number): number {
  const rest = p.reduce((sum, value, v) => (v === target ? sum : sum + value), 0);
  return odds * rest * (of === 'prob' ? p[target]! : 1);
}

/** How far a value is from the reference, in units of its stated noise; both are told. */
function within(got: number, want: number, noise: number, what: string): number {
  expect(Number.isFinite(got) && noise > 0, `${what}: ${got} ± ${noise}`).toBe(true);
  expect(Math.abs(got - want), `${what}: ${got} ± ${noise}, float64 ${want}`).toBeLessThanOrEqual(noise);
  return Math.abs(got - want) / noise;
}

/** Gradients and sweeps of some neurons against the reference and each other. */
async function compare(
  model: LanguageModel,
  reference: Reference,
  probe: Probe,
  about: { readonly target: number; readonly of: Quantity; readonly neurons: readonly Neuron[] },
): Promise<void> {
  const { target, of, neurons } = about;
  const p = reference(probe);
  const site = neurons[0]!.site;
  const found = await neuronGradients(model, probe, { target, of, site, direction: 'plain' });
  expect(found.gradient).toBeInstanceOf(Float64Array);
  const sweeps = new Map<number, Awaited<ReturnType<typeof sweep>>>();
  const options: Omit<SweepOptions, 'neurons'> = { target, of, direction: 'plain' };
  for (const by of SHIFTS)
    for (const shift of [-by, by])
      sweeps.set(
        shift,
        await sweep(model, probe, { ...options, neurons, shifts: [shift], fit: { range: by } }),
      );
  let largest = 0;
  for (const [n, neuron] of neurons.entries()) {
    const flat = flatIndex(neuron, model.sizes.width);
    const name = `L${neuron.layer}.N${neuron.index}@${site}`;
    const [gradient, noise] = [found.gradient[flat]!, found.noise[flat]!];
    const odds = oddsGradient(reference, probe, { neuron, at: probe.position, by: 0 }, target);
    largest = Math.max(
      largest,
      within(gradient, quantityGradient(of, p, target, odds), noise, `G_C of ${name}`),
    );
    for (const [shift, { neurons: curves }] of sweeps) {
      const curve = curves[n]!;
      // A sweep runs a masked model's last layer at every token, gradients where they are read: the last digits differ.
      expect(Math.abs(curve.gradient - gradient), name).toBeLessThanOrEqual(0.1 * noise);
      expect(Math.abs(curve.gradientNoise / noise - 1), name).toBeLessThan(1e-4);
      const after = reference(probe, { neuron, at: probe.position, by: shift });
      const change = exactChange(p, after, target);
      const want = of === 'prob' ? change : Math.log1p(change / p[target]!);
      // One shift: the line through the origin is its change.
      within(curve.slope * shift, want, curve.noise, `change of ${name} by ${shift}`);
    }
    // Between the smallest shifts the curve is straight but for a millionth.
    const [down, up] = [sweeps.get(-1e-3)!.neurons[n]!, sweeps.get(1e-3)!.neurons[n]!];
    const slope = (down.slope + up.slope) / 2;
    const bend = 1e-4 * Math.abs(gradient);
    const bound = noise + (down.noise + up.noise) / 2e-3 + bend;
    expect(Math.abs(slope - gradient), `${name}: slope ${slope}, G_C ${gradient} ± ${bound}`).toBeLessThan(
      bound,
    );
    if (Math.abs(gradient) > 2 * bound) expect(Math.sign(slope)).toBe(Math.sign(gradient));
  }
  expect(largest).toBeGreaterThan(0);
}

describe.each(TRAINED)('%s', (folder, text) => {
  it.each(SCALES)(
    'with its final norm times %s: sweep and gradients agree with float64 and each other',
    { timeout: 240_000 },
    async (scale) => {
      const model = await scaled(folder, scale);
      try {
        const reference = await referenceOf(model);
        const probe = await probeOf(model, folder, text);
        const p = reference(probe);
        await compare(model, reference, probe, {
          target: argmax(p),
          of: scale === 1.5 ? 'logprob' : 'prob',
          neurons: draw(model, 4),
        });
        if (scale === 4) {
          // p of some 1e-20 to 1e-60: float32 holds none of what is measured.
          const target = argmin(p);
          expect(p[target]!).toBeLessThan(1e-15);
          await compare(model, reference, probe, { target, of: 'prob', neurons: draw(model, 3) });
        }
      } finally {
        model.dispose();
      }
    },
  );

  it('states noise at every site that holds, and that most gradients exceed', {
    timeout: 240_000,
  }, async () => {
    const model = await scaled(folder, 2);
    try {
      const reference = await referenceOf(model);
      const probe = await probeOf(model, folder, text);
      const target = argmax(reference(probe));
      for (const site of model.sites) {
        await compare(model, reference, probe, { target, of: 'logprob', neurons: draw(model, 2, site) });
        const { gradient, noise, belowNoise } = await neuronGradients(model, probe, { target, site });
        expect(gradient.filter((g, i) => Math.abs(g) <= noise[i]!).length).toBe(belowNoise);
        expect(belowNoise).toBeLessThan(0.05 * gradient.length);
      }
    } finally {
      model.dispose();
    }
  });

  it('states noise of integrated gradients that holds', { timeout: 240_000 }, async () => {
    for (const scale of [1, 4]) {
      const model = await scaled(folder, scale);
      try {
        const reference = await referenceOf(model);
        const probe = await probeOf(model, folder, text);
        const target = argmax(reference(probe));
        const neurons = draw(model, 3);
        const { activation } = await neuronGradients(model, probe, { target });
        const rule = { target, steps: 2, endpoints: 'right' } as const;
        for (const engine of ['auto', 'naive'] as const) {
          const found = await integrateNeurons(model, probe, neurons, { ...rule, engine });
          for (const [n, one] of found.entries()) {
            const a = activation[flatIndex(one, model.sizes.width)]!;
            const mean = [0.5, 1].reduce((sum, alpha) => {
              const shift = { neuron: neurons[n]!, at: probe.position, by: (alpha - 1) * a };
              const odds = oddsGradient(reference, probe, shift, target);
              return sum + quantityGradient('prob', reference(probe, shift), target, odds) / 2;
            }, 0);
            within(one.ig, a * mean, one.noise, `IG of L${one.layer}.N${one.index}, ${engine}`);
          }
        }
        const [fast, slow] = [
          await integrateLayers(model, probe, rule),
          await integrateLayers(model, probe, { ...rule, engine: 'naive' }),
        ];
        for (const [l, { ig, noise }] of fast.entries())
          for (const [i, value] of ig.entries())
            expect(Math.abs(value - slow[l]!.ig[i]!)).toBeLessThanOrEqual(noise[i]! + slow[l]!.noise[i]!);
      } finally {
        model.dispose();
      }
    }
  });
});

describe.each(named(oneAFamily(CASES)))('the golden %s', (_, golden) => {
  it('is within its noise of float64', { timeout: 120_000 }, async () => {
    const model = await scaled(golden.model, 3);
    try {
      const reference = await referenceOf(model);
      const probe = (await inputsOf(golden)).prompt(0);
      const p = reference(probe);
      for (const target of [argmax(p), argmin(p)])
        await compare(model, reference, probe, { target, of: 'prob', neurons: draw(model, 4) });
    } finally {
      model.dispose();
    }
  });
});
