/** --target, --target-id or neither: the token whose probability is studied. */

import { type Prompt, resolveTarget } from '../neurgrad/index.ts';
import { checkTarget } from '../neurgrad/predict.ts';
import type { ModelCard } from './session.ts';

export interface TargetOptions {
  readonly target?: string;
  readonly targetId?: number;
}

/**
 * The target's token id; undefined for the model's own answer.
 * @throws UserError for a word that is not one token of the model, or an id outside the vocabulary.
 */
export function chooseTarget(card: ModelCard, prompt: Prompt, options: TargetOptions): number | undefined {
  if (options.target !== undefined) return resolveTarget(card, card.tokenizer, prompt, options.target);
  if (options.targetId !== undefined) checkTarget(options.targetId, card.sizes.vocabulary);
  return options.targetId;
}
