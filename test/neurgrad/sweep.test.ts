import { describe, expect, it } from 'vitest';
import { neurGrad, outwardSign } from '../../neurgrad/conventions.ts';
import { neuronGradients, strongest } from '../../neurgrad/gradients.ts';
import type { Neuron } from '../../neurgrad/neuron.ts';
import { predict, targetValues, topPredictions } from '../../neurgrad/predict.ts';
import { sweep } from '../../neurgrad/sweep.ts';
import { toyModel } from './toyModel.ts';

const probe = { ids: [1, 2, 3], position: 1 };
const toy = () =>
  toyModel(
    [
      [0.5, -0.25],
      [0, -1],
    ],
    [
      [0.01, 0.02],
      [-0.02, 0],
    ],
  );
const z = 0.5 * 0.01 - 0.25 * 0.02;
const prob = (logit: number): number => Math.exp(logit) / (Math.exp(logit) + 3);
const p0 = prob(z);
const neuron = (layer: number, index: number): Neuron => ({ layer, index, site: 'post' });

describe('conventions', () => {
  it('takes sign(0) as +1, of either zero', () => {
    expect([0.1, 0, -0, -0.1].map(outwardSign)).toEqual([1, 1, 1, -1]);
  });
  it('applies direction and sign', () => {
    expect(neurGrad(-2, 3, { direction: 'outward', sign: '+' })).toBe(-3);
    expect(neurGrad(-2, 3, { direction: 'outward', sign: '-' })).toBe(3);
    expect(neurGrad(-2, 3, { direction: 'plain', sign: '+' })).toBe(3);
    expect(neurGrad(2, 3, { direction: 'plain', sign: '-' })).toBe(-3);
    expect(Object.is(neurGrad(-2, 0, { direction: 'outward', sign: '+' }), 0)).toBe(true);
  });
});

describe('predict', () => {
  it('ranks tokens, ties by lower id', async () => {
    const model = toy();
    const best = await predict(model, probe, 3);
    expect(best.map(({ id }) => id)).toEqual([0, 1, 2]);
    await expect(predict(model, probe, 0)).rejects.toThrow('above 0');
    expect(model.open).toBe(0);
  });
  it('refuses logits that are no numbers, naming the first', () => {
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      const logits = Float32Array.of(1, 2, bad);
      const error = { code: 'not-finite', message: expect.stringContaining(`${bad} at token 2`) };
      expect(() => targetValues(logits, 0)).toThrow(expect.objectContaining(error));
      expect(() => topPredictions(logits, 1)).toThrow(expect.objectContaining(error));
    }
  });
  it('survives large logits', () => {
    expect(targetValues(Float32Array.from([1000, 999]), 1).prob).toBeCloseTo(1 / (1 + Math.E), 12);
    expect(targetValues(Float32Array.from([-1000, 0]), 0).logprob).toBeCloseTo(-1000, 9);
  });
});

describe('neuronGradients', () => {
  it('gives every neuron by one backward', async () => {
    const model = toy();
    const found = await neuronGradients(model, probe, { target: 0 });
    expect(model.passes).toEqual([1]);
    expect(model.open).toBe(0);
    expect([...found.activation]).toEqual([0.5, -0.25, 0, -1]);
    const scale = p0 * (1 - p0);
    const want = [0.01, -0.02, -0.02, 0];
    found.neurgrad.forEach((value, i) => {
      expect(value).toBeCloseTo(want[i]! * scale, 8);
    });
    expect(found.zeros).toEqual({ activation: 1, gradient: 1 });
    expect(found.p).toBeCloseTo(p0, 7);
    expect(found.conventions).toEqual({
      site: 'post',
      of: 'prob',
      direction: 'outward',
      sign: '+',
      dtype: 'float32',
    });
  });
  it('takes the argmax where no target is given, and checks one that is', async () => {
    expect((await neuronGradients(toy(), probe)).target).toBe(0);
    await expect(neuronGradients(toy(), probe, { target: 4 })).rejects.toThrow('ids 0 to 3');
    await expect(neuronGradients(toy(), probe, { site: 'act' })).rejects.toThrow('unknown site "act"');
  });
});

describe('strongest', () => {
  it('lists each sign by strength', () => {
    const values = Float32Array.from([0.5, -2, 0, 3, -1]);
    expect(strongest(values, 2)).toEqual({ positive: [3, 0], negative: [1, 4] });
    expect(strongest(values, 5)).toEqual({ positive: [3, 0], negative: [1, 4] });
  });
});

describe('sweep', () => {
  it('shifts outward from the original sign, and adds 0', async () => {
    const { neurons, engine, p } = await sweep(toy(), probe, {
      neurons: [neuron(0, 1), neuron(1, 0)],
      shifts: [2, 1, -1],
      target: 0,
    });
    expect(engine).toBe('naive');
    expect(p).toBeCloseTo(p0, 7);
    const [first, second] = neurons as [(typeof neurons)[0], (typeof neurons)[0]];
    expect(first.shifts).toEqual([-1, 0, 1, 2]);
    // a0 < 0: outward is down, and w = 0.02.
    [-1, 0, 1, 2].forEach((s, i) => {
      expect(first.p[i]).toBeCloseTo(prob(z - 0.02 * s), 7);
      // a0 = 0 counts as positive, w = -0.02.
      expect(second.p[i]).toBeCloseTo(prob(z - 0.02 * s), 7);
    });
    expect(first).toMatchObject({
      layer: 0,
      index: 1,
      site: 'post',
      activation: -0.25,
      polarity: -1,
      linear: true,
    });
    expect(first.r).toBeCloseTo(-1, 4);
    expect(first.slope).toBeCloseTo(first.neurgrad, 4);
  });
  it('shifts plainly on request', async () => {
    const { neurons } = await sweep(toy(), probe, {
      neurons: [neuron(0, 1)],
      shifts: [-1, 1],
      target: 0,
      direction: 'plain',
    });
    expect(neurons[0]!.p[2]).toBeCloseTo(prob(z + 0.02), 7);
    expect(neurons[0]!.polarity).toBe(1);
    expect(neurons[0]!.neurgrad).toBe(neurons[0]!.gradient);
  });
  it('flags a neuron that does nothing', async () => {
    const { neurons } = await sweep(toy(), probe, { neurons: [neuron(1, 1)], target: 0 });
    expect(neurons[0]).toMatchObject({ flat: true, r: 0, polarity: 0, linear: false, slope: 0, gradient: 0 });
  });
  it('sweeps other quantities and keeps p beside them', async () => {
    const { neurons } = await sweep(toy(), probe, {
      neurons: [neuron(0, 0)],
      shifts: [-1, 1],
      target: 0,
      of: 'logit',
    });
    expect(neurons[0]!.values[2]).toBeCloseTo(z + 0.01, 7);
    expect(neurons[0]!.slope).toBeCloseTo(0.01, 7);
    expect(neurons[0]!.p[2]).toBeCloseTo(prob(z + 0.01), 7);
  });
  it('runs every shift but 0 once, in bounded passes, and tells how far it is', async () => {
    const model = toy();
    const told: number[][] = [];
    const found = await sweep(model, probe, {
      neurons: [neuron(0, 0), neuron(1, 1)],
      shifts: [-2, -1, 0, 1, 2],
      target: 0,
      rowsPerPass: 3,
      onProgress: (...state) => told.push(state),
    });
    expect(model.passes).toEqual([1, 3, 3, 2]);
    expect(model.open).toBe(0);
    expect(told).toEqual([
      [3, 8],
      [6, 8],
      [8, 8],
    ]);
    expect(found.rows).toBe(9);
  });
  it('keeps the points that are numbers, and refuses a curve without any', async () => {
    // 1e30 · 1e9 is infinite in float32, 1e-30 of it is not.
    const model = toyModel([[0, 1]], [[1e30, 0.1]]);
    const options = { neurons: [neuron(0, 0)], target: 0, fit: { range: 1e-30 } };
    const { neurons } = await sweep(model, probe, { ...options, shifts: [-1e-30, 1e-30, 1e9] });
    expect(neurons[0]!.p.map(Number.isFinite)).toEqual([true, true, true, false]);
    expect(neurons[0]!.slope).toBeGreaterThan(0);
    const lost = sweep(model, probe, { ...options, shifts: [1e9], fit: { range: 1e9 } });
    await expect(lost).rejects.toThrow('the logits with L0.N0 shifted are not finite');
    expect(model.open).toBe(0);
  });
  it('refuses gradients that are no numbers', async () => {
    const model = toyModel([[0, 0]], [[1, Number.NaN]]);
    const toyLogits = toyModel([[0, 0]], [[1, 1]]);
    const run: typeof model.run = (input, options) => ({
      ...model.run(input, options),
      logits: toyLogits.run(input, options).logits,
    });
    const damaged = Object.assign(Object.create(model), { run });
    await expect(neuronGradients(damaged, probe, { target: 0 })).rejects.toThrow(
      'gradients at blocks.0.mlp.hook_post are not finite (NaN at neuron 1)',
    );
  });
  it('refuses what cannot be swept before any pass', async () => {
    const model = toy();
    const bad = (options: object) => sweep(model, probe, { neurons: [neuron(0, 0)], target: 0, ...options });
    await expect(bad({ neurons: [neuron(2, 0)] })).rejects.toThrow('L0 to L1');
    await expect(bad({ neurons: [] })).rejects.toThrow('no neurons');
    await expect(bad({ shifts: [Number.NaN] })).rejects.toThrow('not a finite number');
    await expect(bad({ shifts: [1, 1e39] })).rejects.toThrow('shift 1e+39: beyond ±1000000000000000');
    await expect(bad({ shifts: [5] })).rejects.toThrow('within ±2');
    await expect(bad({ target: 9 })).rejects.toThrow('ids 0 to 3');
    await expect(bad({ rowsPerPass: 0 })).rejects.toThrow('rowsPerPass');
    expect(model.passes).toEqual([]);
  });
});
