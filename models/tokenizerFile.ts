/**
 * What a `tokenizer.json` must hold before the library reads it, which believes every file: it counts up to the largest id.
 */

import type { UserError } from '../engine/errors.ts';

type Fail = (what: string) => UserError;

/** As `vocab_size` in `config.json`: no model has a row for a larger one. */
const LARGEST_ID = 2 ** 22 - 1;

/** Checks a parsed `tokenizer.json`. @returns largest id + 1. @throws what `fail` makes of one line. */
export function checkTokenizerFile(json: Record<string, unknown>, fail: Fail): number {
  const known = new Map(vocabularyOf(json.model, fail));
  for (const [token, id] of addedTokens(json.added_tokens, fail)) known.set(token, id);
  let size = 0;
  for (const id of known.values()) size = Math.max(size, id + 1);
  return size;
}

/** The model's tokens and their ids: a table, or for Unigram a list of tokens with their scores. */
function* vocabularyOf(model: unknown, fail: Fail): Generator<[token: string, id: number]> {
  if (!isObject(model)) throw fail(`model must be an object, not ${show(model)}`);
  const { vocab } = model;
  if (Array.isArray(vocab)) {
    for (const [id, entry] of (vocab as unknown[]).entries()) {
      if (!Array.isArray(entry) || typeof entry[0] !== 'string')
        throw fail(`model.vocab[${id}] must be a token with its score, not ${show(entry)}`);
      yield [entry[0], id];
    }
    return;
  }
  if (!isObject(vocab)) throw fail(`model.vocab must be a table of tokens, not ${show(vocab)}`);
  for (const [token, id] of Object.entries(vocab))
    yield [token, idOf(id, () => `model.vocab[${show(token)}]`, fail)];
}

function* addedTokens(list: unknown, fail: Fail): Generator<[token: string, id: number]> {
  for (const [i, entry] of Object.entries(list ?? [])) {
    if (!isObject(entry) || typeof entry.content !== 'string')
      throw fail(`added_tokens[${i}] must have a content and an id`);
    yield [entry.content, idOf(entry.id, () => `added_tokens[${i}].id`, fail)];
  }
}

function idOf(id: unknown, field: () => string, fail: Fail): number {
  if (typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id > LARGEST_ID)
    throw fail(`${field()} must be a whole number from 0 to ${LARGEST_ID}, not ${show(id)}`);
  return id;
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** A value of the file, short enough for a line. */
function show(value: unknown): string {
  if (Array.isArray(value)) return 'a list';
  if (isObject(value)) return 'an object';
  if (typeof value !== 'string') return String(value);
  return JSON.stringify(value.length > 40 ? `${value.slice(0, 40)}…` : value);
}
