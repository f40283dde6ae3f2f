/** Bootstrap over prompts: intervals of means of whatever a prompt is worth (Efron 1979; percentiles). */

import { quantile } from 'simple-statistics';
import { seededRandom } from '../neurgrad/index.ts';

/** Lower and upper end. */
export type Interval = readonly [number, number];

const RESAMPLES = 1000;

/** Means of resamples of a sample; the same places are drawn for the same seed and length. */
export function bootstrapMeans(values: ArrayLike<number>, seed: number): number[] {
  const random = seededRandom(seed);
  const { length } = values;
  return Array.from({ length: RESAMPLES }, () => {
    let sum = 0;
    for (let i = 0; i < length; i++) sum += values[Math.floor(random() * length)]!;
    return sum / length;
  });
}

/**
 * Accuracies of resamples of the test prompts.
 * @example
 * ```ts
 * import { bootstrap, middle } from 'neurgrad/probing';
 *
 * const [low, high] = middle(bootstrap([true, true, true, false], 0));
 * console.log(low < 0.75 && 0.75 < high); // → true
 * ```
 */
export function bootstrap(correct: readonly boolean[], seed: number): number[] {
  return bootstrapMeans(correct.map(Number), seed);
}

/** The middle 95% of a sample. */
export function middle(sample: readonly number[]): Interval {
  return [quantile([...sample], 0.025), quantile([...sample], 0.975)];
}
