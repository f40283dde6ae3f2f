/**
 * Added tokens: looked for in a text before the model sees it, those that are `normalized` only after the normalizer has
 * changed both, and never cut.
 *
 * Source: `tokenizers` 0.23, src/tokenizer/added_vocabulary.rs.
 */

import { asUnicode16, SPACE, WORD_CLASS } from './characters.ts';
import type { AddedTokenSpec } from './components.ts';
import type { Normalizer, Piece } from './normalizers.ts';

export interface AddedToken extends AddedTokenSpec {
  readonly normalized: boolean;
  /** As it stands in a text after the normalizer, where it is `normalized`. */
  readonly spelling: string;
}

/** A part of the text: an added token, or what lies between. */
export type Section = Piece & { readonly id?: number };

const ENDS_WITH_WORD = new RegExp(`[${WORD_CLASS}]$`, 'u');
const STARTS_WITH_WORD = new RegExp(`^[${WORD_CLASS}]`, 'u');
const SPACES_AT_START = /^\p{White_Space}*/u;

/**
 * Gives every added token the id that the reference gives it: that of the model's vocabulary, or the next one.
 * @throws Error where the file says another, or where two tokens look the same in a text.
 */
export function readAddedTokens(
  list: readonly AddedTokenSpec[],
  vocab: ReadonlyMap<string, number>,
  size: number,
  normalizer: Normalizer | undefined,
): AddedToken[] {
  const byContent = new Map<string, AddedToken>();
  let next = size;
  for (const [i, token] of list.entries()) {
    if (token.content === '') continue;
    const id = byContent.get(token.content)?.id ?? vocab.get(token.content) ?? next++;
    if (id !== token.id)
      throw new Error(
        `added_tokens[${i}] says that ${JSON.stringify(token.content)} has id ${token.id}, but ids of added tokens follow the vocabulary without a gap: it would be ${id}`,
      );
    const normalized = token.normalized ?? !token.special;
    const { content } = token;
    const spelling = normalized && normalizer ? normalizer({ text: content, origin: 0 }).text : content;
    byContent.set(content, { ...token, normalized, spelling });
  }
  const tokens = [...byContent.values()];
  for (const kind of [true, false]) {
    const seen = new Map<string, string>();
    for (const { content, spelling, normalized } of tokens) {
      if (normalized !== kind) continue;
      if (spelling === '')
        throw new Error(`added_tokens: ${JSON.stringify(content)} is normalized to nothing`);
      const other = seen.get(spelling);
      if (other !== undefined)
        throw new Error(
          `added_tokens: ${JSON.stringify(other)} and ${JSON.stringify(content)} are the same once normalized`,
        );
      seen.set(spelling, content);
    }
  }
  return tokens;
}

/** Finds the longest of `tokens` at each place, from the left. */
function finder(tokens: readonly AddedToken[]): (piece: Piece) => Section[] {
  if (tokens.length === 0) return (piece) => [piece];
  const bySpelling = new Map(tokens.map((token) => [token.spelling, token]));
  const escaped = [...bySpelling.keys()]
    .sort((a, b) => b.length - a.length)
    .map((text) => text.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&'));
  const any = new RegExp(escaped.join('|'), 'gu');
  return ({ text, origin }) => {
    const sections: Section[] = [];
    const known = asUnicode16(text);
    const cut = (from: number, to: number, id?: number) =>
      sections.push({
        text: text.slice(from, to),
        origin: Math.max(0, Math.min(origin, to) - from),
        ...(id !== undefined && { id }),
      });
    let done = 0;
    for (const { 0: found, index } of text.matchAll(any)) {
      const token = bySpelling.get(found)!;
      let from = index;
      let to = from + found.length;
      if (
        token.single_word &&
        (ENDS_WITH_WORD.test(known.slice(0, from)) || STARTS_WITH_WORD.test(known.slice(to)))
      )
        continue;
      if (token.lstrip) {
        while (from > done && SPACE.test(text[from - 1]!)) from--;
        // Spaces may be a token of their own that another has taken along.
        from = Math.max(from, done);
      }
      if (token.rstrip) to += SPACES_AT_START.exec(text.slice(to))![0].length;
      if (done < from) cut(done, from);
      cut(from, to, token.id);
      done = to;
    }
    if (done < text.length) cut(done, text.length);
    return sections;
  };
}

/** Divides a text into added tokens and what lies between, normalized. */
export function sectionFinder(
  tokens: readonly AddedToken[],
  normalizer: Normalizer | undefined,
): (text: string) => Section[] {
  const asTyped = finder(tokens.filter(({ normalized }) => !normalized));
  const asNormalized = finder(tokens.filter(({ normalized }) => normalized));
  return (text) =>
    asTyped({ text, origin: text.codePointAt(0)! > 0xffff ? 2 : 1 })
      .flatMap((section) =>
        section.id !== undefined ? [section] : asNormalized(normalizer ? normalizer(section) : section),
      )
      .filter(({ text: part }) => part !== '');
}
