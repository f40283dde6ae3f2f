/**
 * The two counters a neuron that every fit comes down to: what spoke for polarity +1 over the training prompts, and what
 * for -1. Counts of disjoint prompts add up, so training streams, resumes and shards.
 */

/** Paper (default) or the authors' released code; SPEC 7 says where they differ. */
export type Variant = 'paper' | 'release';

/** Both variants, the default first. */
export const VARIANTS: readonly Variant[] = ['paper', 'release'];

/** Training prompts that speak for +1 and for -1, a neuron each. */
export interface Counts {
  readonly plus: Int32Array;
  readonly minus: Int32Array;
}

/** Counters of no prompts yet. */
export function emptyCounts(neurons: number): Counts {
  return { plus: new Int32Array(neurons), minus: new Int32Array(neurons) };
}

/** Adds `more` to `counts`. */
export function addCounts(counts: Counts, more: Counts): void {
  addTo(counts.plus, more.plus);
  addTo(counts.minus, more.minus);
}

function addTo(sum: Int32Array, more: Int32Array): void {
  for (let n = 0; n < sum.length; n++) sum[n]! += more[n]!;
}
