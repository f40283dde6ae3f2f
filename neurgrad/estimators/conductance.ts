/**
 * Conductance (Dhamdhere et al. 2018) of single neurons: the sum of dv/da (a(k) - a(k-1)) while the input of layer 0 goes in steps from the
 * corrupt prompt's, or from zeros, to the prompt's own.
 */

import { checkOptions, optionsSchema, whole } from '../../engine/options.ts';
import { conductanceParts } from '../experiments/attributions.ts';
import { wholeModel } from '../experiments/pairs.ts';
import { sitesIn } from './bySite.ts';
import { type ContrastEstimatorOptions, contrastEstimatorOptions, corruptOf } from './contrast.ts';
import type { Estimator } from './estimator.ts';

/** Where the input begins, and in how many steps it goes. */
export interface ConductanceEstimatorOptions extends ContrastEstimatorOptions {
  /** Default 20. */
  readonly steps?: number;
}

/** {@link ConductanceEstimatorOptions} */
export const conductanceEstimatorOptions = optionsSchema<ConductanceEstimatorOptions>({
  ...contrastEstimatorOptions.entries,
  steps: whole(1),
});

/** Of models that are whole on one device. @throws UserError for an option that there is not. */
export function conductanceEstimator(options: ConductanceEstimatorOptions = {}): Estimator {
  checkOptions('conductanceEstimator', conductanceEstimatorOptions, options);
  const { steps = 20 } = options;
  return {
    name: 'conductance',
    label: 'conductance',
    async estimate(given, probe, neurons) {
      const model = wholeModel('conductanceEstimator', given);
      const corrupt = corruptOf('conductanceEstimator', model, probe, options);
      const { width } = model.sizes;
      const at = probe.neuronPosition ?? probe.position;
      const values = new Float64Array(neurons.length);
      for (const site of sitesIn(neurons)) {
        const own = neurons.flatMap((neuron, i) => (neuron.site === site ? [{ neuron, i }] : []));
        const layers = [...new Set(own.map(({ neuron }) => neuron.layer))];
        const parts = await conductanceParts(
          model,
          { clean: probe, corrupt, answer: probe.target },
          { metrics: [probe.of], component: site, layers, steps },
        );
        const byLayer = new Map(parts.map((part) => [part.layer, part.parts]));
        for (const { neuron, i } of own) values[i] = byLayer.get(neuron.layer)![at * width + neuron.index]!;
      }
      return { values };
    },
  };
}
