/**
 * What in a prompt is no error but seldom meant: words that the vocabulary does not know, special tokens typed by hand
 * that the tokenizer adds as well, a space before the place where the model is asked.
 */

import { checkValue, like, list } from '../engine/options.ts';
import type { LanguageModel } from '../models/model.ts';
import type { Tokenizer } from '../models/tokenizer.ts';
import { visibleText } from '../models/visibleText.ts';
import { checkGiven, MODEL, TOKENIZER } from './lists.ts';
import { textField, tokenizerField } from './prompt.ts';

const promptList = list(
  like<{ readonly ids: readonly number[] }>(
    (value) => Array.isArray((value as { ids?: unknown } | null)?.ids),
    'a prompt: { ids }',
  ),
  'a list of prompts: [{ ids }]',
);

/**
 * One sentence for each, for the person who typed `text`; none where nothing is odd.
 * @throws UserError where the tokenizer cannot encode the text.
 * @example
 * ```ts
 * import { loadModel, promptRemarks } from 'neurgrad';
 *
 * const { model, tokenizer } = await loadModel('examples/models/facts-bert');
 * console.log(promptRemarks(model, tokenizer, '你好 is [MASK].')[0]); // → 2 of 5 tokens are [UNK]: the vocabulary does not have what stands there
 * model.device.destroy();
 * ```
 */
export function promptRemarks(
  model: Pick<LanguageModel, 'causal'>,
  tokenizer: Tokenizer,
  text: string,
): string[] {
  checkGiven('promptRemarks', 'model', model, 'causal', MODEL);
  checkValue('promptRemarks', 'tokenizer', tokenizerField, tokenizer);
  checkValue('promptRemarks', 'text', textField, text);
  const remarks: string[] = [];
  const typed = tokenizer.encode(text, { addSpecialTokens: false });
  const unknown = typed.filter((id) => id === tokenizer.unknownId).length;
  if (unknown > 0)
    remarks.push(
      `${unknown} of ${typed.length} tokens are ${tokenizer.show(tokenizer.unknownId!)}: the vocabulary does not have what stands there`,
    );
  const lost = [...tokenizer.lost(text)];
  if (lost.length > 0)
    remarks.push(
      `${lost.length} character${lost.length === 1 ? ' has' : 's have'} no token and ${lost.length === 1 ? 'is' : 'are'} left out: "${visibleText(lost.slice(0, 20).join(''))}"`,
    );
  const twice = new Set(typed.filter((id) => addedAround(tokenizer, typed, text).includes(id)));
  for (const id of twice)
    remarks.push(
      `${tokenizer.show(id)} is typed in the prompt and added by the tokenizer, too: it is there twice`,
    );
  if (model.causal && /[^\S\n\r]$/.test(text))
    remarks.push(
      'the prompt ends in a space, but most tokens bring the space before them: the model is asked what follows two; leave the space out',
    );
  return remarks;
}

/** Of many prompts: how many of them have words that the vocabulary does not know; null where none has. */
export function unknownRemark(
  tokenizer: Pick<Tokenizer, 'unknownId' | 'show'>,
  prompts: readonly { readonly ids: readonly number[] }[],
): string | null {
  checkGiven('unknownRemark', 'tokenizer', tokenizer, 'show', TOKENIZER);
  checkValue('unknownRemark', 'prompts', promptList, prompts);
  const { unknownId } = tokenizer;
  const of = unknownId === undefined ? 0 : prompts.filter(({ ids }) => ids.includes(unknownId)).length;
  return of === 0
    ? null
    : `${of} of ${prompts.length} prompts have ${tokenizer.show(unknownId!)} in them: words that the vocabulary does not have`;
}

/** Ids that the tokenizer puts around what was typed. */
function addedAround(tokenizer: Tokenizer, typed: readonly number[], text: string): number[] {
  const whole = tokenizer.encode(text);
  const rest = whole.length - typed.length;
  for (let before = 0; before <= rest; before++)
    if (typed.every((id, i) => whole[before + i] === id))
      return [...whole.slice(0, before), ...whole.slice(before + typed.length)];
  return [];
}
