/** The activation itself: a baseline that knows nothing of the target. */

import { estimateBySite } from './bySite.ts';
import type { Estimator } from './estimator.ts';

export const activationEstimator: Estimator = {
  name: 'activation',
  label: 'activation',
  estimate: (model, probe, neurons) =>
    estimateBySite(model, probe, neurons, async ({ activation }) => ({ values: activation })),
};
