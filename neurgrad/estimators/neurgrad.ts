/** NeurGrad: G_C along the axis of the shift (Zhao et al. 2025, eq. 1, with the sign of the release), by one backward. */

import { estimateBySite } from './bySite.ts';
import type { Estimator } from './estimator.ts';

export const neurgradEstimator: Estimator = {
  name: 'neurgrad',
  label: 'NeurGrad',
  estimate: (model, probe, neurons) =>
    estimateBySite(model, probe, neurons, async ({ neurgrad, noise }) => ({ values: neurgrad, noise })),
};
