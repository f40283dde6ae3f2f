/**
 * Prompts and targets (docs/conventions.md#words): from a cloze sentence to token ids, the one probe position and the target token.
 *
 * A masked model answers at its one mask; a causal one answers after its last token.
 */

import { UserError } from '../engine/errors.ts';
import { checkValue, like, list } from '../engine/options.ts';
import type { ChatTemplate, Message } from '../models/chat.ts';
import type { LanguageModel } from '../models/model.ts';
import type { Tokenizer } from '../models/tokenizer.ts';
import { checkGiven, MODEL, TOKENIZER } from './lists.ts';
import { modelField, type Probe } from './predict.ts';

/** An encoded prompt. */
export interface Prompt extends Probe {
  readonly text: string;
  /** The ids as vocabulary entries. */
  readonly tokens: readonly string[];
  /** The same as people are shown them: `␣Paris` for `ĠParis`. */
  readonly shown: readonly string[];
}

export const textField = like<string>((value) => typeof value === 'string', 'the text of a prompt');

type PromptModel = Pick<LanguageModel, 'causal' | 'sizes'>;

/** Marks that vocabularies put before or after a word: SentencePiece, byte-level BPE, WordPiece. */
const VOCABULARY_MARK = /^(▁|Ġ|##)/u;

function shorten(text: string): string {
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}

const promptField = like<Pick<Prompt, 'text'>>(
  (value) => typeof value === 'object' && value !== null && typeof (value as Prompt).text === 'string',
  'a prompt, which encodePrompt gives',
);
export const tokenizerField = like<Tokenizer>(
  (value) => typeof (value as Tokenizer | undefined)?.encode === 'function',
  TOKENIZER,
);
const wordField = like<string>((value) => typeof value === 'string', "the target's text");
const templateField = like<ChatTemplate>(
  (value) => typeof value === 'function',
  'what readChatTemplate gives',
);
const messageList = list<Message>(
  like((value) => {
    const { role, content } = (value ?? {}) as Partial<Message>;
    return typeof role === 'string' && typeof content === 'string';
  }, 'a message: { role, content }'),
  'a list of messages: [{ role, content }]',
);

/**
 * Encodes a prompt with the model's special tokens and finds the probe position.
 * @throws UserError where a masked model's prompt has no mask or several, where the prompt is empty or longer than the model, and
 * where it has a token that the model has no embedding for.
 * @example
 * ```ts
 * import { encodePrompt, loadModel } from 'neurgrad';
 *
 * const { model, tokenizer } = await loadModel('examples/models/facts-bert');
 * const { ids, position } = encodePrompt(model, tokenizer, 'The capital of France is [MASK].');
 * console.log(ids.length, position, tokenizer.tokenOf(ids[position]!)); // → 9 6 [MASK]
 * model.device.destroy();
 * ```
 */
export function encodePrompt(model: PromptModel, tokenizer: Tokenizer, text: string): Prompt {
  checkValue('encodePrompt', 'model', modelField, model);
  checkValue('encodePrompt', 'tokenizer', tokenizerField, tokenizer);
  checkValue('encodePrompt', 'text', textField, text);
  return encoded(model, tokenizer, text, tokenizer.encode(text));
}

/** @throws UserError as {@link encodePrompt}. */
function encoded(model: PromptModel, tokenizer: Tokenizer, text: string, ids: readonly number[]): Prompt {
  if (text.trim() === '' || ids.length === 0) throw new UserError('prompt', 'the prompt is empty');
  const { positions } = model.sizes;
  if (ids.length > positions) {
    throw new UserError(
      'prompt',
      `the prompt has ${ids.length} tokens, the model takes ${positions}: "${shorten(text)}"`,
    );
  }
  checkKnown(model, tokenizer, ids, `the prompt "${shorten(text)}"`);
  const position = model.causal ? ids.length - 1 : maskPosition(tokenizer, ids, text);
  return { text, ids, tokens: ids.map(tokenizer.tokenOf), shown: ids.map(tokenizer.show), position };
}

/**
 * Encodes a conversation that a chat model goes on with, written out by its template, which brings the special tokens.
 * @param template the model's, which `readChatTemplate` gives.
 * @throws UserError for a masked model, and as {@link encodePrompt}.
 */
export function encodeChat(
  model: PromptModel,
  tokenizer: Tokenizer,
  template: ChatTemplate,
  messages: readonly Message[],
): Prompt {
  checkValue('encodeChat', 'model', modelField, model);
  checkValue('encodeChat', 'tokenizer', tokenizerField, tokenizer);
  checkValue('encodeChat', 'template', templateField, template);
  checkValue('encodeChat', 'messages', messageList, messages);
  if (!model.causal) throw new UserError('chat', 'a masked model fills in words; it has no conversations');
  const text = template(messages);
  return encoded(model, tokenizer, text, tokenizer.encode(text, { addSpecialTokens: false }));
}

/**
 * A tokenizer may have more tokens than the model has rows: those are no tokens of this model.
 * @throws UserError naming the first of them. @param what the text that they are of, for the message.
 */
export function checkKnown(
  { sizes }: Pick<LanguageModel, 'sizes'>,
  tokenizer: Pick<Tokenizer, 'tokenOf'>,
  ids: readonly number[],
  what: string,
): void {
  const id = ids.find((each) => each >= sizes.vocabulary);
  if (id === undefined) return;
  throw new UserError(
    'vocabulary',
    `${what} has the token ${JSON.stringify(tokenizer.tokenOf(id))} (${id}), but the model knows ids 0 to ${sizes.vocabulary - 1} alone`,
  );
}

/**
 * The token that a masked model fills in, as it is typed in a prompt ([MASK], <mask>); null for a causal model.
 * @throws UserError where the tokenizer has none.
 */
export function maskToken(
  model: Pick<LanguageModel, 'causal'>,
  tokenizer: Pick<Tokenizer, 'maskId' | 'tokenOf'>,
): string | null {
  checkGiven('maskToken', 'model', model, 'causal', MODEL);
  checkGiven('maskToken', 'tokenizer', tokenizer, 'tokenOf', TOKENIZER);
  if (model.causal) return null;
  if (tokenizer.maskId === undefined)
    throw new UserError('tokenizer', 'the tokenizer has no mask token, which this model fills in');
  return tokenizer.tokenOf(tokenizer.maskId);
}

function maskPosition(tokenizer: Tokenizer, ids: readonly number[], text: string): number {
  const mask = maskToken({ causal: false }, tokenizer);
  const masks = ids.flatMap((id, at) => (id === tokenizer.maskId ? [at] : []));
  if (masks.length === 1) return masks[0]!;
  const count = masks.length === 0 ? `no ${mask}` : `${masks.length} times ${mask}`;
  throw new UserError('prompt', `the prompt has ${count}, it needs exactly one: "${shorten(text)}"`);
}

/**
 * The token id of a target word, as it would stand at the probe position.
 *
 * Masked: the word in place of the mask, after a space where one is before that. Causal: the token that follows the prompt, after a
 * space where the target starts with a letter or digit and the prompt does not end in one. A vocabulary entry with its mark (`▁Paris`, `##ing`) is taken as it is.
 * @throws UserError where the target is empty, unknown or several tokens (the message shows the pieces), or one that the
 * model has no row for.
 * @example
 * ```ts
 * import { encodePrompt, loadModel, resolveTarget } from 'neurgrad';
 *
 * const { model, tokenizer } = await loadModel('examples/models/stories260k');
 * const prompt = encodePrompt(model, tokenizer, 'Once upon a');
 * console.log(tokenizer.tokenOf(resolveTarget(model, tokenizer, prompt, 'time'))); // → ▁time
 * model.device.destroy();
 * ```
 */
export function resolveTarget(
  model: PromptModel,
  tokenizer: Tokenizer,
  prompt: Pick<Prompt, 'text'>,
  word: string,
): number {
  checkValue('resolveTarget', 'model', modelField, model);
  checkValue('resolveTarget', 'tokenizer', tokenizerField, tokenizer);
  checkValue('resolveTarget', 'prompt', promptField, prompt);
  checkValue('resolveTarget', 'word', wordField, word);
  const id = tokenOfTarget(model, tokenizer, prompt, word);
  checkKnown(model, tokenizer, [id], `the target "${shorten(word)}"`);
  return id;
}

/**
 * The token ids of an answer: one, or of causal models several, each following the ones before it. It stands behind the prompt as
 * {@link resolveTarget} has it.
 * @throws UserError where the answer is empty or has an unknown token, a masked model's is several tokens, or the model has no row for one.
 * @example
 * ```ts
 * import { encodePrompt, loadModel, neuronGradients, resolveAnswer } from 'neurgrad';
 *
 * const { model, tokenizer } = await loadModel('examples/models/stories260k');
 * const prompt = encodePrompt(model, tokenizer, 'Once upon a');
 * const target = resolveAnswer(model, tokenizer, prompt, 'time, there');
 * console.log(target.map((id) => tokenizer.tokenOf(id))); // → [ '▁time', ',', '▁there' ]
 * const { p, answer } = await neuronGradients(model, prompt, { target }); // p: the product of the three
 * console.log(answer?.length, p > 0.9); // → 3 true
 * model.device.destroy();
 * ```
 */
export function resolveAnswer(
  model: PromptModel,
  tokenizer: Tokenizer,
  prompt: Pick<Prompt, 'text'>,
  text: string,
): number[] {
  checkValue('resolveAnswer', 'model', modelField, model);
  checkValue('resolveAnswer', 'tokenizer', tokenizerField, tokenizer);
  checkValue('resolveAnswer', 'prompt', promptField, prompt);
  checkValue('resolveAnswer', 'text', wordField, text);
  if (!model.causal || (VOCABULARY_MARK.test(text) && tokenizer.idOf(text) !== undefined))
    return [resolveTarget(model, tokenizer, prompt, text)];
  if (text.trim() === '') throw new UserError('target', 'the answer is empty');
  const ids = tokenizer.continuation(prompt.text, gapBefore(prompt, text) + text);
  const unknown = ids.indexOf(tokenizer.unknownId ?? -1);
  if (unknown >= 0)
    throw new UserError(
      'target',
      `"${shorten(text)}" has a token that the tokenizer does not know; its pieces: ${ids.map((id) => tokenizer.show(id)).join(' ')}`,
    );
  checkKnown(model, tokenizer, ids, `the answer "${shorten(text)}"`);
  return ids;
}

/** A space where a word follows a causal model's prompt. */
const gapBefore = ({ text }: Pick<Prompt, 'text'>, word: string): string =>
  /^[\p{L}\p{N}]/u.test(word) && !/\s$/u.test(text) ? ' ' : '';

function tokenOfTarget(
  model: PromptModel,
  tokenizer: Tokenizer,
  prompt: Pick<Prompt, 'text'>,
  word: string,
): number {
  const entry = VOCABULARY_MARK.test(word) ? tokenizer.idOf(word) : undefined;
  if (entry !== undefined) return entry;
  const mask = maskToken(model, tokenizer);
  if (mask !== null) {
    const spaced = /\s$/u.test(prompt.text.split(mask, 1)[0]!);
    return tokenizer.singleToken(spaced ? ` ${word}` : word, { kind: 'masked' });
  }
  return tokenizer.singleToken(gapBefore(prompt, word) + word, { kind: 'causal', after: prompt.text });
}
