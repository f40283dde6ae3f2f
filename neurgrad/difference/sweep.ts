/** The target's values under each shift of one prompt's neurons, from their differences to the plain prompt's. */

import { PLAIN_SHARE } from '../../kernels/curve.ts';
import type { Quantity } from '../../models/model.ts';
import { type DifferenceModel, openBundle, type SweepCase } from './bundle.ts';
import { DIFFERENCE_ROUNDING } from './ops.ts';
import { type Curves, curveSums, type RowOptions, rowChanges, type ShiftedRow } from './wave.ts';

/**
 * What a row does to the target, from its changes (F, dz_t) and the plain values. The sums are float64, so that a change
 * of p far below p's own float32 rounding stays in it.
 */
export function changedTarget(
  plain: Record<Quantity, number>,
  f: number,
  logit: number,
): Record<Quantity, number> {
  return {
    prob: plain.prob - (plain.prob * f) / (1 + f),
    logprob: plain.logprob - Math.log1p(f),
    logit: plain.logit + logit,
  };
}

/** What of a changed target's values may be rounding, from that of (F, dz_t). */
export function changedNoise(
  plain: Record<Quantity, number>,
  f: number,
  noise: { readonly f: number; readonly logit: number },
): Record<Quantity, number> {
  return {
    prob: (plain.prob * (noise.f / (1 + f) + PLAIN_SHARE * DIFFERENCE_ROUNDING * Math.abs(f))) / (1 + f),
    logprob: noise.f / (1 + f),
    logit: noise.logit,
  };
}

/** One shift's target, and what of its change may be rounding. */
export interface ChangedTarget {
  readonly values: Record<Quantity, number>;
  readonly noise: Record<Quantity, number>;
}

/** One target a row, in the rows' order. Shifts are along the plain axis. */
export async function sweepDifferences(
  model: DifferenceModel,
  sweepCase: SweepCase,
  plain: Record<Quantity, number>,
  rows: readonly Omit<ShiftedRow, 'case'>[],
  options: RowOptions = {},
): Promise<ChangedTarget[]> {
  using bundle = await openBundle(model, [sweepCase]);
  const { f, logit, noise } = await rowChanges(
    bundle,
    rows.map((row) => ({ ...row, case: 0 })),
    options,
  );
  return rows.map((_, i) => ({
    values: changedTarget(plain, f[i]!, logit[i]!),
    noise: changedNoise(plain, f[i]!, { f: noise.f[i]!, logit: noise.logit[i]! }),
  }));
}

/** The sums that slope and r are made of, for each neuron, and nothing of its points. */
export async function sweepSums(
  model: DifferenceModel,
  sweepCase: SweepCase,
  curves: Curves,
  options: RowOptions = {},
): ReturnType<typeof curveSums> {
  using bundle = await openBundle(model, [sweepCase]);
  return await curveSums(bundle, curves, options);
}
