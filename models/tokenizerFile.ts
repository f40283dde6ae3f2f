/**
 * What a `tokenizer.json` must hold before the library reads it, which believes every file: it counts up to the largest id,
 * takes a kind of model that it does not know for another, and leaves out what it cannot find.
 */

import type { UserError } from '../engine/errors.ts';
import { show } from '../engine/options.ts';

type Fail = (what: string) => UserError;

/** As `vocab_size` in `config.json`: no model has a row for a larger one. */
const LARGEST_ID = 2 ** 22 - 1;

/** Kinds of model; files from before kinds were written have none. */
const KINDS = ['BPE', 'Unigram', 'WordLevel', 'WordPiece'];

/** Checks a parsed `tokenizer.json`. @returns largest id + 1. @throws what `fail` makes of one line. */
export function checkTokenizerFile(json: Record<string, unknown>, fail: Fail): number {
  const { model } = json;
  if (!isObject(model)) throw fail(wrong('model', 'an object', model));
  if (model.type != null && !KINDS.includes(model.type as string))
    throw fail(`model.type ${show(model.type)} is not supported; supported: ${KINDS.join(', ')}`);
  checkMerges(model.merges, fail);
  const known = new Map(vocabularyOf(model.vocab, fail));
  for (const [token, id] of addedTokens(json.added_tokens, fail)) known.set(token, id);
  for (const [token, field] of tokensAround(json.post_processor)) {
    if (typeof token !== 'string') throw fail(wrong(field, 'a token', token));
    if (!known.has(token))
      throw fail(
        `${field} names the token ${show(token)}, which is in neither the vocabulary nor added_tokens`,
      );
  }
  let size = 0;
  for (const id of known.values()) size = Math.max(size, id + 1);
  return size;
}

/** The model's tokens and their ids: a table, or for Unigram a list of tokens with their scores. */
function* vocabularyOf(vocab: unknown, fail: Fail): Generator<[token: string, id: number]> {
  if (Array.isArray(vocab)) {
    for (const [id, entry] of (vocab as unknown[]).entries()) {
      if (!Array.isArray(entry) || typeof entry[0] !== 'string' || !Number.isFinite(entry[1]))
        throw fail(wrong(`model.vocab[${id}]`, 'a token with its score', entry));
      yield [entry[0], id];
    }
    return;
  }
  if (!isObject(vocab)) throw fail(wrong('model.vocab', 'a table of tokens', vocab));
  const taken = new Map<number, string>();
  for (const [token, value] of Object.entries(vocab)) {
    const id = idOf(value, () => `model.vocab[${show(token)}]`, fail);
    const other = taken.get(id);
    if (other !== undefined)
      throw fail(`model.vocab has ${show(other)} and ${show(token)} under one id, ${id}`);
    taken.set(id, token);
    yield [token, id];
  }
}

function* addedTokens(list: unknown, fail: Fail): Generator<[token: string, id: number]> {
  if (list != null && !Array.isArray(list)) throw fail(wrong('added_tokens', 'a list of tokens', list));
  for (const [i, entry] of ((list ?? []) as unknown[]).entries()) {
    if (!isObject(entry) || typeof entry.content !== 'string')
      throw fail(`added_tokens[${i}] must have a content and an id`);
    yield [entry.content, idOf(entry.id, () => `added_tokens[${i}].id`, fail)];
  }
}

/** All written in one way: as a list of two, or in one text with a space between. */
function checkMerges(merges: unknown, fail: Fail): void {
  if (merges == null) return;
  if (!Array.isArray(merges)) throw fail(wrong('model.merges', 'a list of pairs', merges));
  const lists = Array.isArray(merges[0]);
  for (const [i, merge] of (merges as unknown[]).entries()) {
    const pair = !lists && typeof merge === 'string' ? merge.split(' ') : merge;
    if (!Array.isArray(pair) || pair.length !== 2 || !pair.every((part) => typeof part === 'string'))
      throw fail(wrong(`model.merges[${i}]`, 'a pair of tokens', merge));
  }
}

/** Tokens that a post-processor puts around a text, and where it names them. */
function* tokensAround(root: unknown): Generator<[token: unknown, field: string]> {
  // A list of what is still to be seen: a hostile file nests deeper than calls do.
  const rest: [processor: unknown, field: string][] = [[root, 'post_processor']];
  for (const [processor, field] of rest) {
    if (!isObject(processor)) continue;
    for (const [i, inner] of listOf(processor.processors).entries())
      rest.push([inner, `${field}.processors[${i}]`]);
    for (const part of ['single', 'pair'])
      for (const [i, item] of listOf(processor[part]).entries())
        if (isObject(item) && isObject(item.SpecialToken))
          yield [item.SpecialToken.id, `${field}.${part}[${i}]`];
    for (const part of ['cls', 'sep'])
      if (part in processor) yield [listOf(processor[part])[0], `${field}.${part}`];
  }
}

const listOf = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : []);

function idOf(id: unknown, field: () => string, fail: Fail): number {
  if (typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id > LARGEST_ID)
    throw fail(wrong(field(), `a whole number from 0 to ${LARGEST_ID}`, id));
  return id;
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const wrong = (field: string, expected: string, value: unknown): string =>
  value === undefined
    ? `${field} is missing, expected ${expected}`
    : `${field} must be ${expected}, not ${show(value)}`;
