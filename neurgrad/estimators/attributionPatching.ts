/**
 * Attribution patching (Nanda 2023; Kramár et al. 2024) of single neurons: what setting a neuron to its value a' in a corrupt prompt would
 * take from the target, to first order: (a - a') dv/da at the prompt's own run. Without a corrupt prompt a' is 0 (zero ablation).
 */

import { checkOptions } from '../../engine/options.ts';
import { type LanguageModel, runModel, type Site } from '../../models/model.ts';
import { siteHook } from '../neuron.ts';
import { type Probe, probeRows } from '../predict.ts';
import { neuronsAt } from '../probed.ts';
import { estimateBySite } from './bySite.ts';
import { type ContrastEstimatorOptions, contrastEstimatorOptions, corruptOf } from './contrast.ts';
import type { Estimator } from './estimator.ts';

/** @throws UserError for an option that there is not. */
export function attributionPatchingEstimator(options: ContrastEstimatorOptions = {}): Estimator {
  checkOptions('attributionPatchingEstimator', contrastEstimatorOptions, options);
  return {
    name: 'attribution_patching',
    label: 'attribution patching',
    estimate(model, probe, neurons) {
      const corrupt = corruptOf('attributionPatchingEstimator', model, probe, options);
      return estimateBySite(model, probe, neurons, async ({ activation, gradient, neuronPosition }, site) => {
        const other = corrupt && (await activationsOf(model, corrupt, neuronPosition, site));
        return { values: gradient.map((g, i) => (activation[i]! - (other?.[i] ?? 0)) * g) };
      });
    },
  };
}

/** Activations of all neurons of a site at a position, flat. */
async function activationsOf(
  model: LanguageModel,
  probe: Probe,
  at: number,
  site: Site,
): Promise<Float32Array> {
  const { layers, width } = model.sizes;
  const hooks = Array.from({ length: layers }, (_, layer) => siteHook(layer, site));
  using run = await runModel(model, probeRows(probe), { capture: hooks, logits: 'none' });
  const all = new Float32Array(layers * width);
  for (const [layer, hook] of hooks.entries())
    all.set(neuronsAt(await run.captures.get(hook)!.read(), at, width), layer * width);
  return all;
}
