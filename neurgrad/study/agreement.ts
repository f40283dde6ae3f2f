/**
 * An estimate of G_E against G_E over prompts and neurons (Table 1), with what a single pooled Pearson hides.
 *
 * Effects of neurons have heavy tails: a handful of prompts can hold half of all squares, and then decide the pooled
 * Pearson. So beside it stand rank and sign, the mean of Pearson within each prompt, Pearson with each prompt left out in turn,
 * and a jackknife-t interval over what was drawn (neurgrad/intervals.ts). Neurons of one prompt are not independent, so prompts
 * are left out whole; where all prompts have the same neurons, those were drawn too, and each is left out as well.
 */

import type { Estimate } from '../intervals.ts';
import { checkAlike, checkLists, FINITE } from '../lists.ts';
import { type MeanPearson, meanAbsoluteError, meanPearson, signAgreement, spearman } from '../statistics.ts';
import {
  type ByPrompt,
  differenceTerms,
  flat,
  PEARSON,
  PEARSON_DIFFERENCE,
  pearsonTerms,
  pooled,
  type Sampling,
} from './pooled.ts';

/** An estimate of G_E against G_E, pooled over prompts and neurons. */
export interface Agreement {
  readonly pairs: number;
  /** NaN where there is none: fewer than two pairs, or a side that is constant. */
  readonly pearson: Estimate;
  readonly spearman: number;
  readonly signAgreement: number;
  readonly meanAbsoluteError: number;
  /** Over the prompts that have a Pearson of their own. */
  readonly meanPearson: MeanPearson;
  /** Lowest and highest pooled Pearson with one prompt left out; null where there is one prompt. */
  readonly leaveOneOut: { readonly low: number; readonly high: number } | null;
}

/** How well estimates agree with what was measured: [prompt][neuron] each, in the same order. */
export function agreement(estimate: ByPrompt, measured: ByPrompt, sampling: Sampling): Agreement {
  checkAlike('agreement', { estimate, measured });
  const { leftOut, ...pearson } = pooled(PEARSON, pearsonTerms(estimate, measured), sampling);
  const [estimates, measures] = [flat(estimate), flat(measured)];
  return {
    pairs: estimates.length,
    pearson,
    spearman: spearman(estimates, measures),
    signAgreement: signAgreement(estimates, measures),
    meanAbsoluteError: meanAbsoluteError(estimates, measures),
    meanPearson: meanPearson(estimate, measured),
    leaveOneOut: leftOut.length > 1 ? { low: Math.min(...leftOut), high: Math.max(...leftOut) } : null,
  };
}

/** Pearson of one estimate with what was measured less that of another, over the same pairs. */
export function pearsonDifference(
  one: ByPrompt,
  other: ByPrompt,
  measured: ByPrompt,
  sampling: Sampling,
): Estimate {
  checkAlike('pearsonDifference', { one, other, measured });
  const { leftOut: _, ...found } = pooled(
    PEARSON_DIFFERENCE,
    differenceTerms(one, other, measured),
    sampling,
  );
  return found;
}

/** Where the squares of G_E lie, which weigh the pooled Pearson. */
export interface Weight {
  /** Share of all squares that neurons with an activation >= 0 hold. */
  readonly positive: number;
  /** Prompts that together hold half of all squares, fewest first. */
  readonly promptsOfHalf: number;
  /** The heaviest prompt's number and share. */
  readonly heaviest: { readonly prompt: number; readonly share: number };
}

/** Weighs prompts and signs of activations by the squares of G_E, [prompt][neuron]. */
export function weight(activation: ByPrompt, slope: ByPrompt): Weight {
  checkAlike('weight', { activation, slope });
  checkLists('weight', 'slope', slope, FINITE, 1);
  const prompts = slope.map((row) => Array.from(row).reduce((sum, value) => sum + value ** 2, 0));
  const total = prompts.reduce((sum, value) => sum + value, 0) || 1;
  const positive = slope.flatMap((row, p) =>
    Array.from(row, (value, i) => (activation[p]![i]! >= 0 ? value ** 2 : 0)),
  );
  const order = [...prompts.keys()].sort((a, b) => prompts[b]! - prompts[a]! || a - b);
  let [held, promptsOfHalf] = [0, 0];
  while (held < total / 2 && promptsOfHalf < order.length) held += prompts[order[promptsOfHalf++]!]!;
  return {
    positive: positive.reduce((sum, value) => sum + value, 0) / total,
    promptsOfHalf,
    heaviest: { prompt: order[0]!, share: prompts[order[0]!]! / total },
  };
}
