/**
 * The two counters a neuron that every fit comes down to: what spoke for polarity +1 over the training prompts, and what
 * for -1. Counts of disjoint prompts add up, so training streams, resumes and shards.
 */

import { checkValue, one } from '../engine/options.ts';
import { checkGiven, checkLengths, checkNumber, NATURAL } from '../neurgrad/lists.ts';

/** Paper (default) or the authors' released code; docs/probing.md#what-is-computed says where they differ. */
export const VARIANTS = ['paper', 'release'] as const;
/** One of {@link VARIANTS}. */
export type Variant = (typeof VARIANTS)[number];
/** The same as a field of options. */
export const variantField = one(VARIANTS);
/** @throws UserError for another reading. Called a neuron: what is right costs two comparisons. */
export function checkVariant(door: string, variant: Variant): void {
  if (variant !== 'paper' && variant !== 'release') checkValue(door, 'variant', variantField, variant);
}

/** Training prompts that speak for +1 and for -1, a neuron each. */
export interface Counts {
  readonly plus: Int32Array;
  readonly minus: Int32Array;
}

/** Counters of no prompts yet. */
export function emptyCounts(neurons: number): Counts {
  checkNumber('emptyCounts', 'neurons', neurons, NATURAL);
  return { plus: new Int32Array(neurons), minus: new Int32Array(neurons) };
}

/** @throws UserError for what are no counters. */
export const checkCounts = (door: string, name: string, counts: Counts): void =>
  checkGiven(door, name, counts, 'plus', 'counters, which emptyCounts gives');

/** Adds `more` to `counts`. */
export function addCounts(counts: Counts, more: Counts): void {
  checkCounts('addCounts', 'counts', counts);
  checkCounts('addCounts', 'more', more);
  checkLengths('addCounts', { counts: counts.plus, more: more.plus }, 'neurons');
  addTo(counts.plus, more.plus);
  addTo(counts.minus, more.minus);
}

function addTo(sum: Int32Array, more: Int32Array): void {
  for (let n = 0; n < sum.length; n++) sum[n]! += more[n]!;
}
