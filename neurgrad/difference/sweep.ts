/** The target's values under each shift of one prompt's neurons, from their differences to the plain prompt's. */

import type { TARGET_FIELDS } from '../../kernels/difference.ts';
import type { Quantity } from '../../models/model.ts';
import type { Rounding } from '../rounding.ts';

/** One shift's target: its values, how far they are from the plain ones, and what of that may be rounding. */
export interface ChangedTarget {
  readonly values: Record<Quantity, number>;
  /** Not the difference of the values: a change far below p's own resolution stays in it. */
  readonly changes: Record<Quantity, number>;
  readonly noise: Record<Quantity, number>;
}

/** What a row does to the target, in float64, from what it says of it and the plain values. */
export function changedTarget(
  plain: Record<Quantity, number>,
  row: Readonly<Record<(typeof TARGET_FIELDS)[number], number>>,
  rounding: Rounding,
): ChangedTarget {
  const { logprob, logit } = row;
  const after = Math.exp(plain.logprob + logprob);
  // Where p_t was too small for its own float64, only the logarithm says what it has become.
  const prob = Math.abs(logprob) < 1 ? plain.prob * Math.expm1(logprob) : after - plain.prob;
  const noise =
    rounding.plain * row.moved + rounding.change * row.size * row.rest + rounding.shift * row.alongLogprob;
  return {
    values: { prob: plain.prob + prob, logprob: plain.logprob + logprob, logit: plain.logit + logit },
    changes: { prob, logprob, logit },
    noise: {
      prob: after * noise + rounding.share * Math.abs(prob),
      logprob: noise,
      logit: rounding.single * row.size + rounding.shift * row.alongLogit,
    },
  };
}
