/** What a shift did, in one sentence of measured numbers. */

import { figure, percent, word } from './format.ts';
import { type NeuronId, nameOf } from './state.ts';
import type { View } from './view.ts';

/** A neuron that is moved: `by` is the change of its activation, whichever axis the shift runs along. */
export interface MovedNeuron {
  readonly name: string;
  readonly by: number;
}

export interface Measured {
  readonly target: string;
  /** p of the target with nothing shifted, and with the neurons moved. */
  readonly before: number;
  readonly after: number;
  /** The first word of the answer, before and after. */
  readonly first: readonly [string, string];
}

/** Changes below it are rounding of float32. */
const ROUNDING = 1e-6;

/** Two probabilities with as many digits as it takes to tell them apart. */
export function told(before: number, after: number): readonly [string, string] {
  for (const write of [
    percent,
    ...[1, 2, 3, 4].map((digits) => (p: number) => `${(100 * p).toFixed(digits)}%`),
  ]) {
    const [a, b] = [write(before), write(after)];
    if (a !== b && !/^[0.]+%$/.test(a) && !/^[0.]+%$/.test(b)) return [a, b];
  }
  return [figure(before), figure(after)];
}

/** Without zeros that say nothing. */
const short = (value: number): string =>
  figure(value)
    .replace(/(\.\d*?)0+(?=$|e)/, '$1')
    .replace(/\.(?=$|e)/, '');

/** @param moved at least one. */
export function meaning(moved: readonly MovedNeuron[], { target, before, after, first }: Measured): string {
  const [only] = moved;
  const raises = only !== undefined && only.by > 0;
  const subject =
    moved.length === 1
      ? `${raises ? 'Raising' : 'Lowering'} ${only!.name} by ${short(Math.abs(only!.by))}`
      : `${moved.length > 3 ? `${moved.length} neurons` : moved.map(({ name, by }) => `${name} ${by > 0 ? '+' : ''}${short(by)}`).join(' and ')} together`;
  const one = moved.length === 1;
  if (Math.abs(after - before) <= ROUNDING * Math.max(before, after))
    return `${subject} ${one ? 'leaves' : 'leave'} ${target} at ${percent(before)}.`;
  const [from, to] = told(before, after);
  const sides = !one
    ? ''
    : raises === after > before
      ? ` it works for ${target}`
      : ` it works against ${target}`;
  const answer = first[0] === first[1] ? '' : `; the answer is now ${first[1]}`;
  return `${subject} ${one ? 'takes' : 'take'} ${target} from ${from} to ${to}${sides && `:${sides}`}${answer}.`;
}

/**
 * The same of what the page shows: of the neurons in hand as they were when the answer was read.
 * @param axisOf what a shift of 1 adds to a neuron's activation. @returns null while nothing is moved and measured.
 */
export function meaningOf(
  { study, distribution, current }: Pick<View, 'study' | 'distribution' | 'current'>,
  axisOf: (neuron: NeuronId) => 1 | -1,
): string | null {
  if (!study || !current.study || !distribution || distribution.shifts.length === 0) return null;
  const after = distribution.predictions.find(({ id }) => id === study.target.id)?.p;
  if (after === undefined) return null;
  const moved = distribution.shifts.map((one) => ({ name: nameOf(one), by: axisOf(one) * one.shift }));
  return meaning(moved, {
    target: word(study.target),
    before: study.p,
    after,
    first: [word(study.predictions[0]!), word(distribution.predictions[0]!)],
  });
}
