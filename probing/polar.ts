/**
 * Polar: a skill neuron's gradient has the same sign for the right answer in prompt after prompt (the paper's first
 * prober). Zero is no sign and agrees with nothing.
 *
 * - paper: polarity = majority of sign g[p, y]; a neuron votes for candidates whose sign is its polarity.
 * - release: R = sum of sign g[p, y] minus the signs of the wrong candidates; a neuron adds sign R * sign g.
 */

import { checkVariant } from './counts.ts';
import { MARK, neuronCount } from './marks.ts';
import type { ProberKind } from './prober.ts';

const count: ProberKind['count'] = (counts, gradients, candidates, gold, variant) => {
  checkVariant('polar.count', variant);
  const neurons = neuronCount(gradients, candidates);
  const { plus, minus } = counts;
  for (let c = 0; c < candidates; c++) {
    if (variant === 'paper' && c !== gold) continue;
    const [same, opposite] = c === gold ? [plus, minus] : [minus, plus];
    const row = gradients.subarray(c * neurons, (c + 1) * neurons);
    for (let n = 0; n < neurons; n++) {
      if (row[n]! > 0) same[n]!++;
      else if (row[n]! < 0) opposite[n]!++;
    }
  }
};

const vote: ProberKind['vote'] = (votes, marks, neurons, neuron, polarity, variant) => {
  checkVariant('polar.vote', variant);
  if (polarity === 0) return;
  const agrees = polarity > 0 ? MARK.above0 : MARK.below0;
  const against = variant === 'release' ? (MARK.above0 | MARK.below0) & ~agrees : 0;
  for (let c = 0, at = neuron; c < votes.length; c++, at += neurons) {
    if (marks[at]! & agrees) votes[c]!++;
    else if (marks[at]! & against) votes[c]!--;
  }
};

/** The paper's first prober; see this file's head. */
export const polar: ProberKind = { name: 'polar', count, vote };
