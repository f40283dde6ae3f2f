/**
 * Act: a prober that reads activations and no gradients, as the release has one beside Polar and Magn.
 *
 * A neuron's threshold is the mean over classes of its mean activation; a class lies above it or below. A neuron votes
 * for the classes on whose side its activation is; neurons are ranked by the share of their variance that lies between
 * classes. Sums over training prompts are all it needs, so that it streams like the others.
 */

import {
  below,
  checkGiven,
  checkLengths,
  checkNumber,
  checkNumbers,
  NATURAL,
  REAL,
} from '../neurgrad/lists.ts';
import { argmax } from './prober.ts';

/** What training prompts leave behind, to fit thresholds from. */
export interface ActivationSums {
  /** Training prompts of each class. */
  readonly prompts: Int32Array;
  /** [classes, neurons] sums of activations. */
  readonly sum: Float64Array;
  /** [neurons] sums of squares over all prompts. */
  readonly square: Float64Array;
}

/** A fitted Act prober. */
export interface ActivationProber {
  readonly threshold: Float64Array;
  /** [classes, neurons]: 1 above, -1 not above. */
  readonly side: Int8Array;
  /** [neurons]: the share of a neuron's variance that lies between classes. */
  readonly between: Float64Array;
  readonly ranking: Int32Array;
}

/** Sums of no prompts yet. */
export function emptySums(classes: number, neurons: number): ActivationSums {
  checkNumber('emptySums', 'classes', classes, NATURAL);
  checkNumber('emptySums', 'neurons', neurons, NATURAL);
  return {
    prompts: new Int32Array(classes),
    sum: new Float64Array(classes * neurons),
    square: new Float64Array(neurons),
  };
}

const checkSums = (door: string, name: string, sums: ActivationSums): void =>
  checkGiven(door, name, sums, 'square', 'sums, which emptySums gives');

/** Adds one training prompt: its activations [neurons] and its class. */
export function countActivation(sums: ActivationSums, activation: Float32Array, gold: number): void {
  checkSums('countActivation', 'sums', sums);
  checkNumbers('countActivation', 'activation', activation);
  checkLengths('countActivation', { activation, sums: sums.square }, 'neurons');
  checkNumber('countActivation', 'gold', gold, below(sums.prompts.length));
  const neurons = activation.length;
  sums.prompts[gold]!++;
  for (let n = 0; n < neurons; n++) {
    const a = activation[n]!;
    sums.sum[gold * neurons + n]! += a;
    sums.square[n]! += a * a;
  }
}

/** Adds `more` to `sums`. */
export function addSums(sums: ActivationSums, more: ActivationSums): void {
  checkSums('addSums', 'sums', sums);
  checkSums('addSums', 'more', more);
  for (const part of ['prompts', 'sum', 'square'] as const) {
    checkLengths('addSums', { [`sums.${part}`]: sums[part], [`more.${part}`]: more[part] });
    for (let i = 0; i < sums[part].length; i++) sums[part][i]! += more[part][i]!;
  }
}

/**
 * The thresholds, sides and ranking that the sums of the training prompts make.
 * @example
 * ```ts
 * import { countActivation, emptySums, fitActivation, predictActivation } from 'neurgrad/probing';
 *
 * const sums = emptySums(2, 1);
 * countActivation(sums, Float32Array.of(1), 0);
 * countActivation(sums, Float32Array.of(3), 1);
 * const prober = fitActivation(sums);
 * console.log(prober.threshold[0], [...predictActivation(prober, [2.5], 2, [1])]); // → 2 [ 1 ]
 * ```
 */
export function fitActivation(sums: ActivationSums): ActivationProber {
  checkSums('fitActivation', 'sums', sums);
  const classes = sums.prompts.length;
  const neurons = sums.square.length;
  const all = sums.prompts.reduce((total, count) => total + count, 0);
  const threshold = new Float64Array(neurons);
  const side = new Int8Array(classes * neurons);
  const between = new Float64Array(neurons);
  const seen = Array.from(sums.prompts.keys()).filter((c) => sums.prompts[c]! > 0);
  for (let n = 0; n < neurons; n++) {
    const mean = (c: number): number => sums.sum[c * neurons + n]! / sums.prompts[c]!;
    threshold[n] = seen.reduce((total, c) => total + mean(c), 0) / seen.length;
    for (const c of seen) side[c * neurons + n] = mean(c) > threshold[n]! ? 1 : -1;
    const overall = seen.reduce((total, c) => total + sums.sum[c * neurons + n]!, 0) / all;
    const variance = sums.square[n]! / all - overall ** 2;
    const spread = seen.reduce((total, c) => total + sums.prompts[c]! * (mean(c) - overall) ** 2, 0) / all;
    between[n] = variance > 0 ? spread / variance : 0;
  }
  const order = Array.from(between.keys()).sort((a, b) => between[b]! - between[a]! || a - b);
  return { threshold, side, between, ranking: Int32Array.from(order) };
}

/** The predicted class at each of `sizes` (ascending). */
export function predictActivation(
  prober: ActivationProber,
  activation: ArrayLike<number>,
  classes: number,
  sizes: readonly number[],
): Int32Array {
  checkGiven('predictActivation', 'prober', prober, 'threshold', 'what fitActivation gives');
  const { threshold, side, ranking } = prober;
  checkNumbers('predictActivation', 'activation', activation, REAL);
  checkLengths('predictActivation', { activation, threshold }, 'neurons');
  checkNumber('predictActivation', 'classes', classes, NATURAL);
  checkNumbers('predictActivation', 'sizes', sizes, below(threshold.length + 1));
  const neurons = threshold.length;
  const votes = new Int32Array(classes);
  let done = 0;
  return Int32Array.from(sizes, (size) => {
    for (; done < size; done++) {
      const n = ranking[done]!;
      const above = activation[n]! > threshold[n]! ? 1 : -1;
      for (let c = 0; c < classes; c++) if (side[c * neurons + n] === above) votes[c]!++;
    }
    return argmax(votes);
  });
}
