/** Estimators of G_E: those of the package, a file each, and what one from outside has to be. */

import { activationEstimator } from './activation.ts';
import { attributionPatchingEstimator } from './attributionPatching.ts';
import { conductanceEstimator } from './conductance.ts';
import type { Estimator } from './estimator.ts';
import { gradientEstimator } from './gradient.ts';
import { integratedEstimator } from './integrated.ts';
import { neurgradEstimator } from './neurgrad.ts';
import { randomEstimator } from './random.ts';

export { attributionPatchingEstimator } from './attributionPatching.ts';
export {
  type ConductanceEstimatorOptions,
  conductanceEstimator,
  conductanceEstimatorOptions,
} from './conductance.ts';
export { type ContrastEstimatorOptions, contrastEstimatorOptions } from './contrast.ts';
export { type EstimateProbe, type Estimates, type Estimator, estimateNeurons } from './estimator.ts';
export {
  type IntegratedEstimatorOptions,
  integratedEstimator,
  integratedEstimatorOptions,
} from './integrated.ts';
export { type RandomEstimatorOptions, randomEstimator, randomEstimatorOptions } from './random.ts';

/** Those of the package, with their defaults. */
export const ESTIMATORS: readonly Estimator[] = [
  gradientEstimator,
  integratedEstimator(),
  neurgradEstimator,
  conductanceEstimator(),
  attributionPatchingEstimator(),
  activationEstimator,
  randomEstimator(),
];
