/** The computed gradient G_C = dv/da, by one backward: the derivative along the plain axis. */

import { estimateBySite } from './bySite.ts';
import type { Estimator } from './estimator.ts';

export const gradientEstimator: Estimator = {
  name: 'gradient',
  label: 'G_C',
  estimate: (model, probe, neurons) =>
    estimateBySite(model, probe, neurons, async ({ gradient, noise }) => ({ values: gradient, noise })),
};
