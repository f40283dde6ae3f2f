/** Integrated gradients of whole layers (Dai et al. 2022, "Knowledge Neurons"): integrated.ts, for the layers that have a neuron. */

import { callback, checkOptions, optionsSchema, whole } from '../../engine/options.ts';
import { type Endpoints, endpointsField, integrateLayers } from '../integrated.ts';
import { askedOf, sitesIn } from './bySite.ts';
import type { Estimator } from './estimator.ts';

/** The way that is integrated along. */
export interface IntegratedEstimatorOptions {
  /** Default 20. */
  readonly steps?: number;
  /** Default `right`. */
  readonly endpoints?: Endpoints;
  /** Told after each pass how many of all rows are done. */
  readonly onProgress?: (done: number, all: number) => void;
}

/** {@link IntegratedEstimatorOptions} */
export const integratedEstimatorOptions = optionsSchema<IntegratedEstimatorOptions>({
  steps: whole(1),
  endpoints: endpointsField,
  onProgress: callback(),
});

/** @throws UserError for an option or value that there is not. */
export function integratedEstimator(options: IntegratedEstimatorOptions = {}): Estimator {
  checkOptions('integratedEstimator', integratedEstimatorOptions, options);
  return {
    name: 'integrated',
    label: 'IG',
    async estimate(model, probe, neurons) {
      const { target, of, neuronPosition } = askedOf(probe);
      const values = new Float64Array(neurons.length);
      const noise = new Float64Array(neurons.length);
      for (const site of sitesIn(neurons)) {
        const own = neurons.flatMap((neuron, i) => (neuron.site === site ? [{ neuron, i }] : []));
        const layers = [...new Set(own.map(({ neuron }) => neuron.layer))].sort((a, b) => a - b);
        const asked = { ...options, target, of, neuronPosition, site, layers };
        const found = new Map(
          (await integrateLayers(model, probe, asked)).map((one) => [one.layer, one] as const),
        );
        for (const { neuron, i } of own) {
          const layer = found.get(neuron.layer)!;
          values[i] = layer.ig[neuron.index]!;
          noise[i] = layer.noise[neuron.index]!;
        }
      }
      return { values, noise };
    },
  };
}
