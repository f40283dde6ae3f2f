/** Estimates that are made of activations and gradients of a prompt's run: read once for each site that neurons name. */

import type { LanguageModel, Site } from '../../models/model.ts';
import { type NeuronGradients, neuronGradients } from '../gradients.ts';
import { flatIndex, type Neuron } from '../neuron.ts';
import type { EstimateProbe, Estimates } from './estimator.ts';

/** Sites that neurons name, each once. */
export const sitesIn = (neurons: readonly Neuron[]): Site[] => [...new Set(neurons.map(({ site }) => site))];

/** The parts of a prompt that say what is asked of it, as {@link neuronGradients} takes them. */
export const askedOf = ({ target, of, direction, sign, neuronPosition, record }: EstimateProbe) => ({
  ...{ target, of, direction, sign, record },
  neuronPosition,
});

/** @param of gives a value for each neuron of a site, flat: layer * width + index. */
export async function estimateBySite(
  model: LanguageModel,
  probe: EstimateProbe,
  neurons: readonly Neuron[],
  of: (found: NeuronGradients, site: Site) => Promise<Estimates>,
): Promise<Estimates> {
  const { width } = model.sizes;
  const values = new Float64Array(neurons.length);
  const noise = new Float64Array(neurons.length);
  let known = true;
  for (const site of sitesIn(neurons)) {
    const found = await of(await neuronGradients(model, probe, { ...askedOf(probe), site }), site);
    known &&= found.noise !== undefined;
    for (const [i, neuron] of neurons.entries()) {
      if (neuron.site !== site) continue;
      const flat = flatIndex(neuron, width);
      values[i] = found.values[flat]!;
      if (found.noise) noise[i] = found.noise[flat]!;
    }
  }
  return known ? { values, noise } : { values };
}
