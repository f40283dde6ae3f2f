/**
 * From a word to token ids. WordLevel: the whole word. WordPiece: the longest token that begins it, then the longest that
 * goes on, or the unknown token for all of it.
 *
 * Source: `tokenizers` 0.23, src/models/{wordlevel,wordpiece}.
 */

import { bpe } from './bpe.ts';
import type { ModelSpec } from './components.ts';
import { type Cut, noUnknownToken, type WordModel } from './cut.ts';
import { unigram } from './unigram.ts';

type Of<Type> = Extract<ModelSpec, { type: Type }>;

const found = (id: number): Cut => ({ ids: [id], lost: '' });

/** The unknown token's id. @throws UserError where there is none. */
function unknownOf(vocab: ReadonlyMap<string, number>, token: string, word: string): number {
  const id = vocab.get(token);
  if (id === undefined) throw noUnknownToken(word, token);
  return id;
}

function wordLevel({ unk_token }: Of<'WordLevel'>, vocab: ReadonlyMap<string, number>): WordModel {
  return (word) => found(vocab.get(word) ?? unknownOf(vocab, unk_token, word));
}

function wordPiece(spec: Of<'WordPiece'>, vocab: ReadonlyMap<string, number>): WordModel {
  const prefix = spec.continuing_subword_prefix;
  return (word) => {
    const letters = [...word];
    const ids: number[] = [];
    for (let from = 0; from < letters.length && letters.length <= spec.max_input_chars_per_word; ) {
      let to = letters.length;
      let id: number | undefined;
      for (; to > from; to--) {
        id = vocab.get((from > 0 ? prefix : '') + letters.slice(from, to).join(''));
        if (id !== undefined) break;
      }
      if (id === undefined) return found(unknownOf(vocab, spec.unk_token, word));
      ids.push(id);
      from = to;
    }
    return ids.length > 0 ? { ids, lost: '' } : found(unknownOf(vocab, spec.unk_token, word));
  };
}

/** @param vocab tokens and ids of the model. @throws Error where the vocabulary is not whole. */
export function buildWordModel(spec: ModelSpec, vocab: ReadonlyMap<string, number>): WordModel {
  switch (spec.type) {
    case 'WordLevel':
      return wordLevel(spec, vocab);
    case 'WordPiece':
      return wordPiece(spec, vocab);
    case 'BPE':
      return bpe(spec, vocab);
    case 'Unigram':
      return unigram(spec, vocab);
  }
}
