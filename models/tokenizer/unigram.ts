/**
 * The unigram language model: of all ways to cut a word into tokens the one whose log-probabilities add up to most. A
 * character that is no token counts 10 less than the rarest token; neighbours among these become one unknown token, or
 * their bytes.
 *
 * Source: Kudo 2018 (arXiv:1804.10959); `tokenizers` 0.23, src/models/unigram, encode_optimized.
 */

import { UserError } from '../../engine/errors.ts';
import { byteToken } from './characters.ts';
import type { ModelSpec } from './components.ts';
import type { WordModel } from './cut.ts';

const UNKNOWN_PENALTY = 10;

type Spec = Extract<ModelSpec, { type: 'Unigram' }>;

/** @throws Error where the unknown token's id is beyond the vocabulary. */
export function unigram(spec: Spec, vocab: ReadonlyMap<string, number>): WordModel {
  const scores = spec.vocab.map(([, score]) => score);
  const unknown = spec.unk_id ?? undefined;
  if (unknown !== undefined && unknown >= scores.length)
    throw new Error(`model.unk_id ${unknown} is beyond the vocabulary of ${scores.length} tokens`);
  const unknownScore = scores.reduce((least, score) => Math.min(least, score), Infinity) - UNKNOWN_PENALTY;
  const longest = spec.vocab.reduce((most, [token]) => Math.max(most, token.length), 1);
  const encoder = new TextEncoder();
  const cannot = (word: string) =>
    new UserError('tokenizer', `${JSON.stringify(word)} cannot be spelt, and the model has no unknown token`);

  return (word) => {
    const size = word.length;
    const best = new Float64Array(size + 1);
    const startOf = new Int32Array(size + 1).fill(-1);
    const idAt = new Int32Array(size + 1);
    const offer = (from: number, to: number, id: number, score: number) => {
      if (startOf[to] !== -1 && !(score > best[to]!)) return;
      best[to] = score;
      startOf[to] = from;
      idAt[to] = id;
    };
    for (let from = 0; from < size; ) {
      const single = word.codePointAt(from)! > 0xffff ? 2 : 1;
      let hasSingle = false;
      for (let to = from + single; to <= Math.min(size, from + longest); ) {
        const id = vocab.get(word.slice(from, to));
        if (id !== undefined) {
          offer(from, to, id, best[from]! + scores[id]!);
          hasSingle ||= to === from + single;
        }
        to += to < size && word.codePointAt(to)! > 0xffff ? 2 : 1;
      }
      if (!hasSingle) {
        const score = best[from]! + unknownScore;
        const to = from + single;
        if (startOf[to] === -1 || score > best[to]!) {
          if (unknown === undefined) throw cannot(word);
          offer(from, to, unknown, score);
        }
      }
      from += single;
    }
    // From the end back; neighbours that are unknown become one.
    const pieces: string[] = [];
    let run = '';
    for (let end = size; end > 0; end = startOf[end]!) {
      const piece = word.slice(startOf[end]!, end);
      if (idAt[end] === unknown) run = piece + run;
      else {
        if (run !== '') pieces.push(run);
        run = '';
        pieces.push(piece);
      }
    }
    if (run !== '') pieces.push(run);

    const ids = pieces.reverse().flatMap((piece) => {
      const id = vocab.get(piece);
      if (id !== undefined) return [id];
      const bytes = spec.byte_fallback
        ? Array.from(encoder.encode(piece), (byte) => vocab.get(byteToken(byte)))
        : [undefined];
      if (bytes.every((byte) => byte !== undefined)) return bytes;
      if (unknown === undefined) throw cannot(word);
      return [unknown];
    });
    return { ids, lost: '' };
  };
}
