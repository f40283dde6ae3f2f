/** What ran a sweep, in words. */

import type { Sweep, SweepEngine } from '../neurgrad/index.ts';
import { figure } from './table.ts';

/** Of a page. */
export const ENGINE_WORDS: Readonly<Record<SweepEngine, string>> = {
  naive: 'every shift is one row of a full forward pass',
  rows: 'every shift is one row behind a cache of the tokens before',
  differences:
    'every shift is one row of differences to the plain pass, carried through the layers that follow',
  curve:
    'as many shifts are run as make a neuron’s curve known; the others are read off a polynomial through them',
};

/** Of a line: the engine, and of curves what they had their points from, how many and to what bound. */
export function engineOf({ engine, by, neurons }: Pick<Sweep, 'engine' | 'by' | 'neurons'>): string {
  if (engine !== 'curve') return engine;
  const ran = neurons.reduce((sum, neuron) => sum + neuron.ran, 0);
  const asked = neurons.reduce((sum, neuron) => sum + neuron.shifts.length - 1, 0);
  const bound = neurons.reduce((most, neuron) => Math.max(most, neuron.bound), 0);
  return `curve by ${by}: ${ran} of ${asked} points run, the others within ${figure(bound, 2)}`;
}
