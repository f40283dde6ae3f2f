/** The slope between two small shifts: a sweep of two points, where NeurGrad takes the limit. */

import { type Estimator, sweep } from '../../neurgrad/index.ts';

export const secant: Estimator = {
  name: 'secant',
  label: 'secant of ±0.1',
  async estimate(model, probe, neurons) {
    const { target, of, direction, neuronPosition } = probe;
    const options = { target, of, direction, neuronPosition, neurons, shifts: [-0.1, 0.1] };
    const { neurons: curves } = await sweep(model, probe, options);
    return { values: curves.map(({ slope }) => slope), noise: curves.map(({ noise }) => noise / 0.1) };
  },
};
