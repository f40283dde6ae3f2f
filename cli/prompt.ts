/** --prompt: encoded, with what is likely to be a mistake in it told in one line each. */

import { encodePrompt, type Prompt, promptRemarks } from '../neurgrad/index.ts';
import type { Output } from './output.ts';
import type { ModelCard } from './session.ts';

/** @throws UserError as {@link encodePrompt}. */
export function readPrompt(card: ModelCard, text: string, output: Pick<Output, 'note'>): Prompt {
  for (const remark of promptRemarks(card, card.tokenizer, text)) output.note(`note: ${remark}`);
  return encodePrompt(card, card.tokenizer, text);
}
