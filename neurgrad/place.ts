/**
 * A position of a prompt by a word for it: a number, from the end where it is negative, `mask`, `last`, or a word of the prompt.
 */

import { UserError } from '../engine/errors.ts';
import { checkValue, like } from '../engine/options.ts';
import type { Tokenizer } from '../models/tokenizer.ts';
import { visibleText } from '../models/visibleText.ts';
import type { Prompt } from './prompt.ts';

const promptField = like<Prompt>(
  (value) => Array.isArray((value as Partial<Prompt> | null | undefined)?.shown),
  'a prompt, which encodePrompt gives',
);
const wordField = like<string>(
  (value) => typeof value === 'string' && value.trim() !== '',
  "a position: a number, 'mask', 'last', or a word of the prompt",
);
const tokenizerField = like<Pick<Tokenizer, 'textOf'>>(
  (value) => typeof (value as Partial<Tokenizer> | null | undefined)?.textOf === 'function',
  'a tokenizer: the `tokenizer` of what loadModel gives',
);

/** A token's text without what tells where a word begins or goes on. */
const plain = (text: string): string =>
  text
    .replace(/^(?:##|[▁Ġ␣\s]+)/u, '')
    .trim()
    .toLowerCase();

/**
 * The position that a word stands for. A word of several tokens is at its last one, where a model has read all of it.
 * @throws UserError for a position that the prompt does not have, and a word that is not in it or several times.
 * @example
 * ```ts
 * import { encodePrompt, loadModel, positionOf } from 'neurgrad';
 *
 * const { model, tokenizer } = await loadModel('examples/models/facts-bert');
 * const prompt = encodePrompt(model, tokenizer, 'The capital of France is [MASK].');
 * console.log(['France', 'mask', '-1', '2'].map((word) => positionOf(prompt, tokenizer, word))); // → [ 4, 6, 8, 2 ]
 * model.device.destroy();
 * ```
 */
export function positionOf(
  prompt: Pick<Prompt, 'ids' | 'position' | 'shown'>,
  tokenizer: Pick<Tokenizer, 'textOf' | 'maskId'>,
  word: string,
): number {
  checkValue('positionOf', 'prompt', promptField, prompt);
  checkValue('positionOf', 'tokenizer', tokenizerField, tokenizer);
  checkValue('positionOf', 'word', wordField, word);
  const { ids } = prompt;
  const length = ids.length;
  if (/^[-+]?\d+$/.test(word)) {
    const number = Number(word);
    const at = number < 0 ? length + number : number;
    if (at >= 0 && at < length) return at;
    throw new UserError(
      'position',
      `position ${word}: the prompt has positions 0 to ${length - 1}, or -${length} to -1`,
    );
  }
  if (word === 'last') return length - 1;
  if (word === 'mask') {
    if (ids[prompt.position] === tokenizer.maskId) return prompt.position;
    throw new UserError('position', 'position mask: the prompt has no mask; take last, a number or a word');
  }
  const wanted = plain(word);
  const texts = ids.map((id) => plain(tokenizer.textOf(id)));
  const ends: number[] = [];
  for (let from = 0; from < length; from++) {
    let joined = '';
    for (let to = from; to < length && joined.length < wanted.length; to++) {
      joined += texts[to];
      if (joined === wanted && texts[from] !== '') ends.push(to);
    }
  }
  if (ends.length === 1) return ends[0]!;
  const shown = visibleText(word);
  throw new UserError(
    'position',
    ends.length === 0
      ? `position ${shown}: the prompt has no such word; its tokens: ${prompt.shown.join(' ')}`
      : `position ${shown}: the prompt has that ${ends.length} times, at ${ends.join(', ')}; give one of these`,
  );
}
