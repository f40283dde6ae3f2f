/**
 * Magn: a skill neuron's gradient is the largest (or the smallest) for the right answer (the paper's second prober).
 *
 * - paper: +1 where a candidate's gradient is above all others', -1 below all, else 0; majority over prompts for the
 *   right one; a neuron votes for the candidate whose value is its polarity.
 * - release: M = sum over prompts and candidates of sign(g[p, y] - g[p, c]); a neuron votes for the argmax of
 *   sign M * g, all of them where they tie.
 */

import { checkVariant } from './counts.ts';
import { MARK, neuronCount } from './marks.ts';
import type { ProberKind } from './prober.ts';

const count: ProberKind['count'] = (counts, gradients, candidates, gold, variant) => {
  checkVariant('magn.count', variant);
  const neurons = neuronCount(gradients, candidates);
  const { plus, minus } = counts;
  for (let n = 0; n < neurons; n++) {
    const right = gradients[gold * neurons + n]!;
    let above = 0;
    let below = 0;
    for (let at = n; at < gradients.length; at += neurons) {
      if (right > gradients[at]!) above++;
      else if (right < gradients[at]!) below++;
    }
    if (variant === 'release') {
      plus[n]! += above;
      minus[n]! += below;
    } else if (above === candidates - 1) plus[n]!++;
    else if (below === candidates - 1) minus[n]!++;
  }
};

const vote: ProberKind['vote'] = (votes, marks, neurons, neuron, polarity, variant) => {
  checkVariant('magn.vote', variant);
  // A polarity of 0 makes all candidates equal: all vote, which changes nothing.
  if (polarity === 0) return;
  const wanted = polarity > 0 ? MARK.largest : MARK.smallest;
  let holders = 0;
  for (let c = 0, at = neuron; c < votes.length; c++, at += neurons) if (marks[at]! & wanted) holders++;
  if (variant === 'paper' && holders > 1) return;
  for (let c = 0, at = neuron; c < votes.length; c++, at += neurons) if (marks[at]! & wanted) votes[c]!++;
};

/** The paper's second prober; see this file's head. */
export const magn: ProberKind = { name: 'magn', count, vote };
