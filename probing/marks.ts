/**
 * What probers need to know of a prompt's gradients after training: four bits a candidate and neuron.
 *
 * Signs serve Polar; being the largest or the smallest of the candidates (ties included) serves Magn. 34 GB of gradients
 * of a task become about 1 GB, and counters over training prompts (counts.ts) need a few megabytes.
 */

import { UserError } from '../engine/errors.ts';
import { checkValue, instance, show } from '../engine/options.ts';
import { below, checkNumber } from '../neurgrad/lists.ts';

const gradientsField = instance(Float32Array, 'a Float32Array of gradients [candidates, neurons]');
export const marksField = instance(Uint8Array, 'a Uint8Array of marks');

/** Bits of a mark. Both extremes are set where all candidates tie. */
export const MARK = { above0: 1, below0: 2, largest: 4, smallest: 8 } as const;

/**
 * Marks of one prompt.
 * @param gradients [candidates, neurons]. @returns one mark each, same layout.
 * @throws UserError where a gradient is not a number.
 */
export function markGradients(gradients: Float32Array, candidates: number): Uint8Array {
  checkValue('markGradients', 'gradients', gradientsField, gradients);
  const neurons = neuronCount(gradients, candidates);
  const marks = new Uint8Array(gradients.length);
  for (let n = 0; n < neurons; n++) {
    let low = Number.POSITIVE_INFINITY;
    let high = Number.NEGATIVE_INFINITY;
    for (let at = n; at < gradients.length; at += neurons) {
      const g = gradients[at]!;
      if (Number.isNaN(g)) throw new UserError('gradient', `the gradient of neuron ${n} is not a number`);
      if (g < low) low = g;
      if (g > high) high = g;
    }
    for (let at = n; at < gradients.length; at += neurons) {
      const g = gradients[at]!;
      marks[at] =
        (g > 0 ? MARK.above0 : g < 0 ? MARK.below0 : 0) |
        (g === high ? MARK.largest : 0) |
        (g === low ? MARK.smallest : 0);
    }
  }
  return marks;
}

/** Two marks a byte, the first in the low half. */
export function packMarks(marks: Uint8Array): Uint8Array {
  checkValue('packMarks', 'marks', marksField, marks);
  const packed = new Uint8Array(Math.ceil(marks.length / 2));
  for (let i = 0; i < packed.length; i++) packed[i] = marks[2 * i]! | ((marks[2 * i + 1] ?? 0) << 4);
  return packed;
}

/** Undoes {@link packMarks}. */
export function unpackMarks(packed: Uint8Array, count: number): Uint8Array {
  checkValue('unpackMarks', 'packed', marksField, packed);
  checkNumber('unpackMarks', 'count', count, below(2 * packed.length + 1));
  const marks = new Uint8Array(count);
  for (let i = 0; i < count; i++) marks[i] = (packed[i >> 1]! >> (4 * (i & 1))) & 15;
  return marks;
}

/** Neurons of a [candidates, neurons] table. @throws UserError where it is no such table. */
export function neuronCount(table: ArrayLike<number>, candidates: number): number {
  if (typeof table?.length !== 'number')
    throw new UserError(
      'option',
      `neuronCount: table is ${show(table)}, expected values of candidates and neurons`,
    );
  const neurons = table.length / candidates;
  if (candidates < 2 || !Number.isInteger(neurons)) {
    throw new UserError(
      'option',
      `${table.length} values are not those of ${show(candidates)} candidates, two at least`,
    );
  }
  return neurons;
}
