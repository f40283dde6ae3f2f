/** What a model of words gives for one word. */

import { UserError } from '../../engine/errors.ts';

/** Token ids of one word, and the characters of it that no token stands for, not even the unknown one. */
export interface Cut {
  readonly ids: readonly number[];
  readonly lost: string;
}

/** @throws UserError `tokenizer` for what the vocabulary cannot spell. */
export type WordModel = (word: string) => Cut;

/** The error of a word that needs an unknown token where the vocabulary has none. */
export const noUnknownToken = (word: string, token: string): UserError =>
  new UserError(
    'tokenizer',
    `${JSON.stringify(word)} cannot be spelt: the unknown token ${JSON.stringify(token)} is not in the vocabulary`,
  );
