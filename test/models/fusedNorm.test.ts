/**
 * Products that normalise the rows they load, against norms that are written: the bits of every value, the gradient at every
 * site; and a run that asks for normalised rows gets them.
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Device, openDevice } from '../../engine/index.ts';
import type { LanguageModel, RunOptions } from '../../models/index.ts';
import { CASES, named, openCase } from './goldenCases.ts';

let device: Device;
beforeAll(async () => {
  device = await openDevice();
});
afterAll(() => device?.destroy());

const INPUT = {
  ids: [
    [3, 17, 9, 22, 5, 11],
    [3, 8, 30, 2, 14, 6],
  ],
};
const isNormalised = (hook: string): boolean => /ln[12]\.hook_normalized$/.test(hook);

describe.each(named(CASES))('%s', (_, golden) => {
  let model: LanguageModel;
  beforeAll(async () => {
    model = await openCase(golden, device);
  });
  afterAll(() => model?.dispose());

  /** Products that normalise what they load, in a run. */
  async function prologues(options: RunOptions): Promise<number> {
    device.startProfiling();
    model.run(INPUT, options).dispose();
    await device.finish();
    return (await device.stopProfiling())
      .filter(({ kernel }) => /^matmul.*\.rms/.test(kernel))
      .reduce((n, { dispatches }) => n + dispatches, 0);
  }

  it('has the bits of every value of the plain run', async () => {
    const capture = model.hookNames.filter((hook) => !isNormalised(hook));
    using ours = model.run(INPUT, { capture, fusedNorm: true });
    using theirs = model.run(INPUT, { capture });
    expect(await ours.logits.read()).toEqual(await theirs.logits.read());
    for (const [hook, t] of ours.captures)
      expect(await t.read(), hook).toEqual(await theirs.captures.get(hook)!.read());
  });

  it('has the gradients of the plain run at every site', async () => {
    const at = model.hookNames.filter((hook) => !isNormalised(hook));
    const grad: RunOptions['grad'] = { at, of: { of: 'logprob', target: [7, 12], position: [4, 5] } };
    using ours = model.run(INPUT, { grad, fusedNorm: true });
    using theirs = model.run(INPUT, { grad });
    for (const hook of at) {
      const [got, want] = [await ours.gradients.get(hook)!.read(), await theirs.gradients.get(hook)!.read()];
      const scale = want.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
      const worst = got.reduce((most, x, i) => Math.max(most, Math.abs(x - want[i]!)), 0);
      expect(scale, hook).toBeGreaterThan(0);
      expect(worst / scale, hook).toBeLessThan(1e-5);
    }
  });

  it.runIf(golden.family === 'llama')(
    'is five products a layer, and none whose rows are asked for',
    async () => {
      const { layers } = model.sizes;
      expect(await prologues({})).toBe(0);
      expect(await prologues({ fusedNorm: true })).toBe(5 * layers);
      const capture = ['blocks.0.ln1.hook_normalized', 'blocks.1.ln2.hook_normalized'];
      expect(await prologues({ fusedNorm: true, capture })).toBe(5 * layers - 3 - 2);
    },
  );
});
