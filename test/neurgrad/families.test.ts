/**
 * What sweeps and integrated gradients have to keep in every family, at every site it has: the fast engines equal the plain ones
 * along both axes, at the position read and before it; lines from the device equal those of the points; a row gives the
 * same bits alone and among others.
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Device, openDevice } from '../../engine/index.ts';
import type { LanguageModel } from '../../models/model.ts';
import { integrateLayers, integrateNeurons } from '../../neurgrad/integrated.ts';
import { intervene } from '../../neurgrad/intervene.ts';
import { sweep } from '../../neurgrad/sweep.ts';
import { CASES, type GoldenPrompt, inputsOf, named, oneAFamily, openCase } from '../models/goldenCases.ts';

let device: Device;
beforeAll(async () => {
  device = await openDevice();
});
afterAll(() => device?.destroy());

const largest = (values: ArrayLike<number>): number => Math.max(...Array.from(values, Math.abs));

describe.each(named(CASES))('%s', (_, golden) => {
  let model: LanguageModel;
  let prompts: GoldenPrompt[];
  beforeAll(async () => {
    model = await openCase(golden, device);
    const inputs = await inputsOf(golden);
    prompts = inputs.input.ids.map((_, row) => inputs.prompt(row));
  });
  afterAll(() => model?.dispose());

  /** One neuron a layer and site; all indices differ. */
  const neurons = () =>
    model.sites.flatMap((site, s) =>
      Array.from({ length: model.sizes.layers }, (_, layer) => ({
        layer,
        index: (7 * s + 11 * layer + 3) % model.sizes.width,
        site,
      })),
    );
  /** A prompt at the position that is read, and one before it. */
  const places = () =>
    [prompts[0]!, prompts.at(-1)!].map(({ pad: _, target, ...probe }, i) => ({
      probe,
      common: { target, neuronPosition: Math.max(0, probe.position - 3 * i) },
    }));

  it('sweeps by differences as by full forwards, at every site, along both axes', async () => {
    const shifts = [-8, -1, 0.5, 2];
    for (const { probe, common } of places())
      for (const direction of ['outward', 'plain'] as const) {
        const options = { ...common, neurons: neurons(), shifts, direction };
        const auto = await sweep(model, probe, options);
        const naive = await sweep(model, probe, { ...options, engine: 'naive' });
        expect(auto.engine).toBe('differences');
        for (const [n, { p, layer, site }] of auto.neurons.entries())
          for (const [s, value] of p.entries()) {
            const want = naive.neurons[n]!.p[s]!;
            expect(Math.abs(value - want), `L${layer} ${site} by ${auto.neurons[n]!.shifts[s]}`).toBeLessThan(
              5e-6,
            );
          }
      }
  });

  it.runIf(oneAFamily(CASES).includes(golden))(
    'shifts sets of neurons together as full forwards do, and a set alone has the bits it has among others',
    async () => {
      const { layers, width } = model.sizes;
      for (const { probe, common } of places()) {
        const all = neurons();
        const late = all.filter(({ layer }) => layer === layers - 1);
        const one = model.sites.map((site) => ({ layer: 0, index: width - 1, site }));
        const sets = [
          { neurons: all, shift: all.map((_, i) => ((i * 7) % 11) / 5 - 1) },
          { neurons: late, shift: 2 },
          { neurons: one, shift: -1.5 },
          { neurons: all.toReversed(), shift: 0.3 },
        ];
        const found = await intervene(model, probe, sets, common);
        expect(found.engine).toBe('differences');
        const naive = await intervene(model, probe, sets, { ...common, engine: 'naive' });
        for (const [n, { p, reached }] of found.sets.entries()) {
          expect(Math.abs(p - naive.sets[n]!.p), `set ${n}`).toBeLessThan(5e-6);
          expect(Math.abs(reached - naive.sets[n]!.reached), `set ${n}`).toBeLessThan(5e-6);
        }
        const alone = await intervene(model, probe, sets.slice(0, 1), common);
        expect(alone.sets[0]).toEqual(found.sets[0]);
      }
    },
  );

  it('fits the same lines on the device as from points, and a neuron alone has the bits it has among others', async () => {
    const [{ probe, common }] = places() as [ReturnType<typeof places>[0]];
    const options = { ...common, neurons: neurons(), shifts: [-2, -1.5, -1, -0.5, 0.5, 1, 1.5, 2] };
    const points = await sweep(model, probe, options);
    const sums = await sweep(model, probe, { ...options, points: false });
    const one = options.neurons.length - 1;
    for (const [n, want] of points.neurons.entries()) {
      const got = sums.neurons[n]!;
      const scale = largest(want.changes);
      expect(Math.abs(got.slope - want.slope)).toBeLessThanOrEqual(1e-6 * scale);
      expect(Math.abs(got.r - want.r)).toBeLessThan(1e-5);
    }
    for (const [whole, how] of [
      [points, {}],
      [sums, { points: false }],
    ] as const) {
      const alone = await sweep(model, probe, { ...options, ...how, neurons: options.neurons.slice(one) });
      expect(alone.neurons[0]).toEqual(whole.neurons[one]);
      const cut = await sweep(model, probe, { ...options, ...how, rowsPerPass: 5 });
      expect(cut.neurons).toEqual(whole.neurons);
    }
  });

  it('integrates by rows from the layer on as by full passes, at every site', async () => {
    const { layers } = model.sizes;
    for (const [i, { probe, common }] of places().entries())
      for (const site of model.sites) {
        const rule = { ...common, site, steps: 3, of: (['prob', 'logit'] as const)[i % 2]! };
        const [rows, passes] = [
          await integrateLayers(model, probe, rule),
          await integrateLayers(model, probe, { ...rule, engine: 'naive' }),
        ];
        // Against the largest of all layers: a last layer that is not heard has none.
        const scale = largest(passes.flatMap(({ ig }) => [...ig]));
        for (const [l, want] of passes.entries()) {
          expect(rows[l]!.layer).toBe(want.layer);
          const error = largest(rows[l]!.ig.map((value, n) => value - want.ig[n]!));
          expect(error, `layer ${l} of ${layers}, ${site}`).toBeLessThanOrEqual(2e-5 * scale);
          expect(Math.abs(rows[l]!.change - want.change)).toBeLessThan(1e-5);
        }
        const { site: _, ...single } = rule;
        const own = neurons().filter((neuron) => neuron.site === site);
        const [some, slow] = [
          await integrateNeurons(model, probe, own, single),
          await integrateNeurons(model, probe, own, { ...single, engine: 'naive' }),
        ];
        const size = largest(slow.map(({ ig }) => ig));
        for (const [k, want] of slow.entries())
          expect(Math.abs(some[k]!.ig - want.ig)).toBeLessThanOrEqual(1e-4 * size);
      }
  });
});
