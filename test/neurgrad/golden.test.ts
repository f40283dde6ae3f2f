/**
 * Gradients and sweeps against the golden neurons of every case, on a device: activation, G_C, NeurGrad by the paper's
 * eq. (1), p along both axes and by full forwards, slope and r (with the point 0).
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Device, openDevice } from '../../engine/index.ts';
import type { LanguageModel } from '../../models/model.ts';
import { neuronGradients } from '../../neurgrad/gradients.ts';
import { flatIndex, neuronSpace } from '../../neurgrad/neuron.ts';
import { fitCurve } from '../../neurgrad/statistics.ts';
import { sweep } from '../../neurgrad/sweep.ts';
import { CASES, inputsOf, named, neuronGroups, openCase } from '../models/goldenCases.ts';

let device: Device;
beforeAll(async () => {
  device = await openDevice();
});
afterAll(() => device.destroy());

/** Fails on NaN too. */
function near(got: number, want: number, atol: number, what: string): void {
  expect(Math.abs(got - want) <= atol, `${what}: ${got}, want ${want} ± ${atol}`).toBe(true);
}

describe.each(named(CASES))('%s', (name, golden) => {
  let model: LanguageModel;
  beforeAll(async () => {
    model = await openCase(golden, device);
  });
  afterAll(() => model?.dispose());

  it('knows its sites before its weights are read', () => {
    expect(neuronSpace(model)).toMatchObject({
      sites: model.sites,
      paperSite: model.paperSite,
    });
  });

  it('has the golden neurons', async () => {
    const inputs = await inputsOf(golden);
    const want = await golden.read('neurons');
    const { brief } = golden;
    const curve = brief ? 'p' : 'wide_p';
    const grid = [...want.of(brief ? 'delta' : 'wide_delta').data].map((s) => Number(s.toFixed(6)));
    for (const { row, column, neurons } of neuronGroups(inputs)) {
      const { pad, target, ...probe } = inputs.prompt(row);
      const common = { target, neuronPosition: column - pad };
      const options = { ...common, neurons, shifts: grid, fit: { includeZero: true } };
      const run = async (direction: 'plain' | 'outward', engine: 'auto' | 'naive' | 'differences') =>
        (await sweep(model, probe, { ...options, direction, engine })).neurons;
      const [plain, outward] = [await run('plain', 'auto'), await run('outward', 'differences')];
      const naive = await run('plain', 'naive');
      for (const [i, { line }] of neurons.entries()) {
        const what = `${name} neuron ${line}`;
        const close = (tensor: string, got: number, whose = ''): void =>
          near(got, want.of(tensor).data[line]!, golden.atol('neurons', tensor), `${what} ${tensor}${whose}`);
        const { site, shifts, ...one } = plain[i]!;
        const found = await neuronGradients(model, probe, { ...common, site, sign: '-' });
        const flat = flatIndex(plain[i]!, found.width);
        close('a', found.activation[flat]!);
        close('gc', found.gradient[flat]!);
        close('neurgrad', found.neurgrad[flat]!);
        close('gc', one.gradient, ' of the sweep');
        close('slope', one.slope);
        close('r', one.r);
        const p = want.of(curve).row(line);
        // Outward is away from 0: along the plain axis, or against it.
        const mirrored = one.activation < 0 ? [...p].reverse() : p;
        for (const [how, got, expected] of [
          ['', one.p, p],
          ['naive ', naive[i]!.p, p],
          ['outward ', outward[i]!.p, mirrored],
        ] as const)
          got.forEach((value, k) => {
            near(value, expected[k]!, golden.atol('neurons', curve), `${what} ${how}p at ${shifts[k]}`);
          });
        if (brief) continue;
        for (const [k, r] of want.of('wide_r').row(line).entries()) {
          const cut = fitCurve(shifts, one.p, { range: k + 1, includeZero: true });
          near(cut.r, r, golden.atol('neurons', 'wide_r'), `${what} r within ±${k + 1}`);
        }
      }
    }
  });
});
