/** Shifts along the outward axis that were carried to another sentence, where the axis of some points the other way. */

import { outwardSign } from '../../../neurgrad/index.ts';
import { type NeuronId, nameOf } from './state.ts';

/**
 * @param before and `after`: the activation of a neuron in the one sentence and in the other.
 * @returns a sentence on those that turn round; null where none does.
 */
export function turnedRound(
  shifts: readonly (NeuronId & { readonly shift: number })[],
  before: (neuron: NeuronId) => number,
  after: (neuron: NeuronId) => number,
): string | null {
  const turned = shifts.filter((one) => outwardSign(before(one)) !== outwardSign(after(one)));
  const [first] = turned;
  if (!first) return null;
  const now = outwardSign(after(first)) * first.shift > 0 ? 'raises' : 'lowers';
  const one = `${nameOf(first)} is ${after(first) < 0 ? 'negative' : 'positive'} here, so its outward shift turns round: it now ${now} the neuron`;
  return turned.length === 1
    ? `${one}.`
    : `${one}; ${turned.length - 1} more of those in hand turn round, too.`;
}
