/** Numbers between -1 and 1 that depend on seed, prompt and neuron alone: what an estimate must be better than. */

import { checkOptions, optionsSchema } from '../../engine/options.ts';
import { SITES } from '../neuron.ts';
import { seededRandom, seedField } from '../random.ts';
import type { Estimator } from './estimator.ts';

/** Which numbers. */
export interface RandomEstimatorOptions {
  /** Default 0. */
  readonly seed?: number;
}

/** {@link RandomEstimatorOptions} */
export const randomEstimatorOptions = optionsSchema<RandomEstimatorOptions>({ seed: seedField });

/** FNV-1a, 32 bits: a seed of numbers. */
const mixed = (numbers: readonly number[]): number =>
  numbers.reduce((hash, number) => Math.imul(hash ^ number, 0x01000193) >>> 0, 0x811c9dc5);

/** @throws UserError for an option that there is not. */
export function randomEstimator(options: RandomEstimatorOptions = {}): Estimator {
  checkOptions('randomEstimator', randomEstimatorOptions, options);
  const { seed = 0 } = options;
  return {
    name: 'random',
    label: 'random',
    async estimate(_, { ids, target }, neurons) {
      const values = neurons.map(({ layer, index, site }) => {
        const random = seededRandom(mixed([seed, target, ...ids, layer, index, SITES.indexOf(site)]));
        return 2 * random() - 1;
      });
      return { values };
    },
  };
}
