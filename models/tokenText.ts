/**
 * Tokens as people are shown them. Vocabularies spell: `ĠParis` is ` Paris` in GPT-2's letters for bytes, `▁Paris` the same
 * in SentencePiece's, `Ñı` is я, `<0x0A>` a line break. What is shown is the text, with what cannot be seen written out.
 */

import { visibleText } from './visibleText.ts';

/** A token in a result: its id, its spelling in the vocabulary, the text that it stands for. */
export interface TokenText {
  readonly id: number;
  readonly token: string;
  readonly text: string;
}

/** A token as results hold it. */
export const tokenText = (
  tokenizer: { tokenOf(id: number): string; textOf(id: number): string },
  id: number,
): TokenText => ({ id, token: tokenizer.tokenOf(id), text: tokenizer.textOf(id) });

/**
 * The text of a token with the spaces at its ends as `␣` and what cannot be seen written out (`␣Paris`, `\n`), but a
 * continuing WordPiece token with its mark (`##ing`): the mark says what its text cannot.
 */
export function showToken({ token, text }: Pick<TokenText, 'token' | 'text'>): string {
  if (text === '' || token === `##${text}`) return visibleText(token);
  return visibleText(text.replace(/^ +| +$/g, (spaces) => '␣'.repeat(spaces.length)));
}
