/**
 * Whatever block a description says: sweeps by differences are those of full forwards, and keep their digits where forwards have
 * none; integrated gradients by rows are those by full passes.
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Device, openDevice } from '../../engine/index.ts';
import type { Transformer } from '../../models/transformer.ts';
import { openBundle } from '../../neurgrad/difference/bundle.ts';
import { rowChanges } from '../../neurgrad/difference/wave.ts';
import { integrateLayers, integrateNeurons } from '../../neurgrad/integrated.ts';
import { type Neuron, neuronAt, siteHook } from '../../neurgrad/neuron.ts';
import type { Probe } from '../../neurgrad/predict.ts';
import { drawWithoutReplacement, seededRandom } from '../../neurgrad/random.ts';
import { sweep } from '../../neurgrad/sweep.ts';
import { runNaive } from '../models/naiveModel.ts';
import { DRAWN, drawn, drawnModel } from './drawnModels.ts';

let device: Device;
beforeAll(async () => {
  device = await openDevice();
});
afterAll(() => device.destroy());

const IDS = [5, 17, 4, 33, 40, 9, 21, 2, 11];
const TARGET = 7;

describe.each(DRAWN)('%s', (name) => {
  let model: Transformer;
  let places: readonly (readonly [position: number, neurons: number])[];
  beforeAll(() => {
    model = drawnModel(device, name);
    places = model.causal
      ? [
          [8, 8],
          [7, 2],
        ]
      : [
          [2, 2],
          [2, 6],
        ];
  });
  afterAll(() => model.dispose());
  const draw = (count: number, site = model.paperSite): Neuron[] =>
    drawWithoutReplacement(count, model.sizes.layers * model.sizes.width, seededRandom(3)).map((flat) =>
      neuronAt(flat, model.sizes.width, site),
    );

  it('sweeps by differences as by full forwards, at every site, along both axes', async () => {
    for (const [i, [position, neuronPosition]] of places.entries()) {
      const options = {
        neurons: model.sites.flatMap((site) => draw(4, site)),
        shifts: [-8, -1, 0.5, 2],
        direction: (['outward', 'plain'] as const)[i]!,
        neuronPosition,
        of: 'logit' as const,
        target: TARGET,
      };
      const probe = { ids: IDS, position };
      const auto = await sweep(model, probe, options);
      const naive = await sweep(model, probe, { ...options, engine: 'naive' });
      expect(auto.engine).toBe('differences');
      for (const [n, curve] of auto.neurons.entries())
        for (const [s, value] of curve.values.entries())
          expect(Math.abs(value - naive.neurons[n]!.values[s]!)).toBeLessThan(1e-5);
    }
  });

  it('measures small changes of a logit to 2e-5 of them, and to the noise it states', async () => {
    const { description, weights } = drawn(name);
    const tables = new Map([...weights].map(([key, data]) => [key, { shape: [data.length], data }]));
    const logit = ({ ids, position }: Probe, { layer, site, index }: Neuron, at: number, by: number) =>
      runNaive(description, tables, {
        ids,
        positions: [...ids.keys()],
        edit: (hook, rows) =>
          hook === siteHook(layer, site)
            ? rows.map((row, t) => (t === at ? row.map((v, i) => (i === index ? v + by : v)) : row))
            : rows,
      }).logits[position]![TARGET]!;
    for (const [position, neuronPosition] of places) {
      const probe = { ids: IDS, position };
      const neurons = model.sites.flatMap((site) => draw(3, site));
      const options = { neurons, neuronPosition, target: TARGET, direction: 'plain' as const };
      // At 1e-3 either way float64 forwards have ten digits left.
      const by = 1e-3;
      const swept = await sweep(model, probe, { ...options, shifts: [by], of: 'logit', fit: { range: by } });
      const wanted = neurons.map(
        (neuron) => logit(probe, neuron, neuronPosition, by) - logit(probe, neuron, neuronPosition, 0),
      );
      const errors = swept.neurons.map(({ changes }, n) => Math.abs(changes[1]! - wanted[n]!));
      // A shift in the last layer elsewhere than where the target is read does nothing.
      for (const [n, { noise }] of swept.neurons.entries())
        if (wanted[n] !== 0) expect(errors[n]).toBeLessThan(noise);
      expect(Math.hypot(...errors)).toBeLessThan(2e-5 * Math.hypot(...wanted));
    }
  });

  it('gives a row alone the same bits as in a batch', async () => {
    const cases = places.map(([position, at]) => ({ probe: { ids: IDS, position }, at, target: TARGET }));
    using bundle = await openBundle(model, cases);
    const rows = [0, 1].flatMap((c) =>
      draw(6).flatMap((neuron) => [-1, 2].map((shift) => ({ case: c, neuron, shift }))),
    );
    const together = await rowChanges(bundle, rows);
    expect(await rowChanges(bundle, rows, { rowsPerPass: 1 })).toEqual(together);
  });

  it('integrates gradients by rows as by full passes', async () => {
    const near = (got: number, want: number): void => {
      expect(Math.abs(got - want)).toBeLessThan(1e-5);
    };
    for (const [position, neuronPosition] of places)
      for (const site of model.sites) {
        const probe = { ids: IDS, position };
        const options = { neuronPosition, of: 'logit' as const, target: TARGET, steps: 3 };
        const layers = await integrateLayers(model, probe, { ...options, site });
        const slowly = await integrateLayers(model, probe, { ...options, site, engine: 'naive' });
        for (const [i, { ig, change }] of layers.entries()) {
          ig.forEach((value, n) => {
            near(value, slowly[i]!.ig[n]!);
          });
          near(change, slowly[i]!.change);
        }
        const neurons = await integrateNeurons(model, probe, draw(4, site), options);
        const alone = await integrateNeurons(model, probe, draw(4, site), { ...options, engine: 'naive' });
        for (const [i, { ig, change }] of neurons.entries()) {
          near(ig, alone[i]!.ig);
          near(change, alone[i]!.change);
        }
      }
  });
});
