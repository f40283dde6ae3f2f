/** --target, --target-id or neither: what is studied the probability of; --other: the token whose logit is subtracted from the target's. */

import { UserError } from '../engine/errors.ts';
import type { Target } from '../neurgrad/answers.ts';
import { type Prompt, resolveAnswer, resolveTarget } from '../neurgrad/index.ts';
import { checkTarget } from '../neurgrad/predict.ts';
import type { ModelCard } from './session.ts';

export interface TargetOptions {
  readonly target?: string;
  readonly targetId?: number;
}

/**
 * The same where an answer may be several tokens: of causal models, whose p is the product of theirs. The logit of several is none,
 * so that quantities of logits ask for one token.
 * @throws UserError as {@link chooseTarget}.
 */
export function chooseAnswer(
  card: ModelCard,
  prompt: Prompt,
  options: TargetOptions & OtherOptions,
  word = options.target,
): Target | undefined {
  if (word === undefined) return chooseTarget(card, prompt, options);
  if (options.of === 'logit' || options.of === 'logit_diff')
    return resolveTarget(card, card.tokenizer, prompt, word);
  const ids = resolveAnswer(card, card.tokenizer, prompt, word);
  return ids.length === 1 ? ids[0] : ids;
}

/** What is measured, and the word whose logit is subtracted. */
export interface OtherOptions {
  readonly of?: string;
  readonly other?: string;
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

/** @throws UserError where --of logit_diff has no --other, or --other another quantity. */
export function checkOtherOption({ of, other }: OtherOptions): void {
  if (of === 'logit_diff' && other === undefined)
    throw new UserError('other', '--of logit_diff needs --other WORD, whose logit is subtracted');
  if (of !== 'logit_diff' && other !== undefined)
    throw new UserError('other', '--other goes with --of logit_diff only');
}

/** The other token's id. @throws UserError for a word that is not one token of the model. */
export const chooseOther = (card: ModelCard, prompt: Prompt, { other }: OtherOptions): number | undefined =>
  other === undefined ? undefined : resolveTarget(card, card.tokenizer, prompt, other);
