/**
 * Byte-pair encoding: a word begins as its characters, and the pair that was merged first in training is merged first
 * here, from the left, until no pair is left.
 *
 * Source: Sennrich et al. 2016 (arXiv:1508.07909); `tokenizers` 0.23, src/models/bpe, whose details are kept: an unknown
 * character waits until the next known one is reached, so that bytes of byte fallback come before it.
 */

import { byteToken } from './characters.ts';
import type { ModelSpec } from './components.ts';
import { type Cut, noUnknownToken, type WordModel } from './cut.ts';

/** Ids are below 2^22, ranks below 2^31: a pair, or a rank with an id, is one exact number. */
const ID = 2 ** 22;
/** Words kept with their tokens. */
const KEPT = 10_000;

type Spec = Extract<ModelSpec, { type: 'BPE' }>;

/** From a pair of ids to its rank and the id it becomes. @throws Error for a token that is not in the vocabulary. */
function readMerges(spec: Spec, vocab: ReadonlyMap<string, number>): Map<number, number> {
  const prefix = spec.continuing_subword_prefix ?? '';
  const idOf = (token: string, at: number): number => {
    const id = vocab.get(token);
    if (id === undefined)
      throw new Error(`model.merges[${at}] needs ${JSON.stringify(token)}, which is not in the vocabulary`);
    return id;
  };
  const merges = new Map<number, number>();
  const listed = spec.merges.filter((merge) => typeof merge !== 'string' || !merge.startsWith('#version'));
  for (const [rank, merge] of listed.entries()) {
    const [left, right] = (typeof merge === 'string' ? merge.split(' ') : merge) as [string, string];
    if (!right.startsWith(prefix))
      throw new Error(`model.merges[${rank}] does not go on with ${JSON.stringify(prefix)}`);
    const pair = idOf(left, rank) * ID + idOf(right, rank);
    merges.set(pair, rank * ID + idOf(left + right.slice(prefix.length), rank));
  }
  return merges;
}

/** Numbers, the smallest first. */
class Heap {
  readonly #items: number[] = [];

  push(item: number): void {
    const items = this.#items;
    let at = items.push(item) - 1;
    for (let up = (at - 1) >> 1; at > 0 && items[up]! > item; up = (at - 1) >> 1) {
      items[at] = items[up]!;
      at = up;
    }
    items[at] = item;
  }

  pop(): number | undefined {
    const items = this.#items;
    const top = items[0];
    const last = items.pop();
    if (last === undefined || items.length === 0) return top;
    let at = 0;
    for (;;) {
      let down = 2 * at + 1;
      if (down >= items.length) break;
      if (down + 1 < items.length && items[down + 1]! < items[down]!) down++;
      if (items[down]! >= last) break;
      items[at] = items[down]!;
      at = down;
    }
    items[at] = last;
    return top;
  }
}

/** Merges in place of a list of ids. */
function mergeAll(ids: readonly number[], merges: ReadonlyMap<number, number>): number[] {
  const count = ids.length;
  if (count < 2) return [...ids];
  const symbols = [...ids];
  const next = symbols.map((_, i) => i + 1);
  const previous = symbols.map((_, i) => i - 1);
  const alive = symbols.map(() => true);
  const queue = new Heap();
  const mergeAt = (at: number): number | undefined =>
    at >= 0 && next[at]! < count ? merges.get(symbols[at]! * ID + symbols[next[at]!]!) : undefined;
  const offer = (at: number) => {
    const merge = mergeAt(at);
    if (merge !== undefined) queue.push(Math.floor(merge / ID) * count + at);
  };
  for (let at = 0; at < count - 1; at++) offer(at);
  for (let top = queue.pop(); top !== undefined; top = queue.pop()) {
    const at = top % count;
    const merge = alive[at] ? mergeAt(at) : undefined;
    // An entry whose pair is gone by now.
    if (merge === undefined || Math.floor(merge / ID) !== Math.floor(top / count)) continue;
    const gone = next[at]!;
    symbols[at] = merge % ID;
    alive[gone] = false;
    next[at] = next[gone]!;
    if (next[gone]! < count) previous[next[gone]!] = at;
    offer(previous[at]!);
    offer(at);
  }
  return symbols.filter((_, at) => alive[at]);
}

/** @throws Error where the merges need a token that is not there, or tokens are drawn by chance. */
export function bpe(spec: Spec, vocab: ReadonlyMap<string, number>): WordModel {
  if (spec.dropout) throw new Error(`model.dropout ${spec.dropout} is not supported: ids would be by chance`);
  const merges = readMerges(spec, vocab);
  const unknown = spec.unk_token == null ? undefined : vocab.get(spec.unk_token);
  const encoder = new TextEncoder();
  const prefix = spec.continuing_subword_prefix ?? '';
  const suffix = spec.end_of_word_suffix ?? '';

  const cutAnew = (word: string): Cut => {
    const letters = [...word];
    const ids: number[] = [];
    let lost = '';
    let waiting = 0;
    const flush = () => {
      for (; waiting > 0; waiting--) ids.push(unknown!);
    };
    for (const [i, letter] of letters.entries()) {
      const spelt = (i > 0 ? prefix : '') + letter + (i === letters.length - 1 ? suffix : '');
      const id = vocab.get(spelt);
      if (id !== undefined) {
        flush();
        ids.push(id);
        continue;
      }
      const bytes = spec.byte_fallback
        ? Array.from(encoder.encode(spelt), (byte) => vocab.get(byteToken(byte)))
        : [undefined];
      if (bytes.every((byte) => byte !== undefined)) ids.push(...bytes);
      else if (spec.unk_token == null) lost += letter;
      else {
        if (unknown === undefined) throw noUnknownToken(letter, spec.unk_token);
        if (!spec.fuse_unk) flush();
        waiting = 1;
      }
    }
    flush();
    return { ids: mergeAll(ids, merges), lost };
  };
  const kept = new Map<string, Cut>();
  return (word) => {
    const whole = spec.ignore_merges ? vocab.get(word) : undefined;
    if (whole !== undefined) return { ids: [whole], lost: '' };
    const known = kept.get(word);
    if (known !== undefined) return known;
    const cut = cutAnew(word);
    if (kept.size >= KEPT) kept.clear();
    if (word.length < 256) kept.set(word, cut);
    return cut;
  };
}
