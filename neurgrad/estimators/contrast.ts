/** Estimators that hold a prompt against another one, or against zeros. */

import { callback, optionsSchema } from '../../engine/options.ts';
import type { LanguageModel } from '../../models/model.ts';
import { pairList } from '../experiments/pairs.ts';
import type { Probe } from '../predict.ts';
import type { EstimateProbe } from './estimator.ts';

/** What a prompt is held against. */
export interface ContrastEstimatorOptions {
  /** Makes a prompt's corrupt prompt, of as many tokens and read at the same position. Default none: zeros instead. */
  readonly corrupt?: (probe: EstimateProbe) => Probe;
}

/** {@link ContrastEstimatorOptions} */
export const contrastEstimatorOptions = optionsSchema<ContrastEstimatorOptions>({ corrupt: callback() });

/** The corrupt prompt, or null where it is zeros. @throws UserError for one that does not go with the prompt. */
export function corruptOf(
  door: string,
  model: LanguageModel,
  probe: EstimateProbe,
  { corrupt }: ContrastEstimatorOptions,
): Probe | null {
  if (!corrupt) return null;
  const [pair] = pairList(door, model, { clean: probe, corrupt: corrupt(probe), answer: probe.target });
  return pair!.corrupt;
}
