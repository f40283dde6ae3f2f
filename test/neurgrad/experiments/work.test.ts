/** Activation patching against whole runs on the bundled models: the same bits at no more than .6 of the floating-point operations. */

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Device, openDevice } from '../../../engine/index.ts';
import { loadModelWeights, localFolder, type Transformer } from '../../../models/index.ts';
import { activationPatching, type Component } from '../../../neurgrad/index.ts';
import { CASES } from './golden.ts';

let device: Device;
const models = new Map<string, Transformer>();
beforeAll(async () => {
  device = await openDevice();
  for (const name of new Set(CASES.map(({ model }) => model)))
    models.set(name, await loadModelWeights(await localFolder(`examples/models/${name}`), device));
});
afterAll(() => {
  for (const model of models.values()) model.dispose();
  device?.destroy();
});

const PLACES: [Component, object][] = [
  ...(['resid_pre', 'attn_out', 'mlp_out', 'q', 'v', 'pattern', 'z'] as const).map(
    (c): [Component, object] => [c, {}],
  ),
  ['post', { by: 'neuron', neurons: [1, 7, 30] }],
];

describe.each(CASES.filter((one, i) => CASES.findIndex(({ model }) => model === one.model) === i))(
  '$name',
  (one) => {
    test.each(PLACES)('%s', async (component, places) => {
      const model = models.get(one.model)!;
      const run = async (engine: 'auto' | 'naive') => {
        device.startProfiling();
        const { rows } = await activationPatching(model, one, {
          component,
          ...places,
          engine,
          metric: ['logit_diff', 'prob'],
        });
        const work = (await device.stopProfiling()).reduce((sum, { flops }) => sum + flops, 0);
        return { work, rows };
      };
      const [fast, whole] = [await run('auto'), await run('naive')];
      expect(fast.rows).toEqual(whole.rows);
      expect(fast.work / whole.work).toBeLessThan(0.6);
      expect(fast.work).toBeGreaterThan(0);
    });
  },
);
