/**
 * Normalizers of a `tokenizer.json`: what is done to a text before it is divided into words.
 *
 * Source: `tokenizers` 0.23, src/normalizers.
 */

import {
  BERT_CONTROL,
  COMBINING_MARK,
  lowerCase,
  NONSPACING_MARK,
  normalForm,
  SPACE,
  toByteLetters,
} from './characters.ts';
import type { NormalizerSpec } from './components.ts';
import { checkGrowth } from './growth.ts';
import { divideBy } from './pattern.ts';
import { precompiled } from './precompiled.ts';

/**
 * A text, and how much of its beginning comes from the first character of what was typed: some pre-tokenizers treat
 * the very first word otherwise, and ask this even after spaces before it were taken off.
 */
export interface Piece {
  readonly text: string;
  readonly origin: number;
}

export type Normalizer = (piece: Piece) => Piece;

/** Every character by itself, or at least nothing across the border behind the first. */
const each =
  (change: (text: string) => string): Normalizer =>
  ({ text, origin }) => ({
    text: change(text),
    origin: origin === 0 ? 0 : change(text.slice(0, origin)).length,
  });

const SPACES = new RegExp(SPACE.source, 'gu');
const SPACES_BEFORE = /^\p{White_Space}+/u;
const SPACES_AFTER = /\p{White_Space}+$/u;

/** Ideographs as BERT has them; the gap before U+2B920 is the reference's. */
const IDEOGRAPH =
  /[\u4e00-\u9fff\u3400-\u4dbf\u{20000}-\u{2a6df}\u{2a700}-\u{2b73f}\u{2b740}-\u{2b81f}\u{2b920}-\u{2ceaf}\uf900-\ufaff\u{2f800}-\u{2fa1f}]/gu;

// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what SentencePiece's nmt rules take out
const NMT_REMOVED = /[\u0001-\u0008\u000b\u000e-\u001f\u007f\u008f\u009f]/g;
const NMT_SPACE = /[\t\n\f\r\u1680\u200b-\u200f\u2028\u2029\u2581\ufeff\ufffd]/g;

/** @throws Error where a pattern or a table cannot be used. */
export function buildNormalizer(spec: NormalizerSpec): Normalizer {
  switch (spec.type) {
    case 'Sequence': {
      const steps = spec.normalizers.map(buildNormalizer);
      return (piece) =>
        steps.reduce((now, step) => {
          const next = step(now);
          checkGrowth(piece.text.length, next.text.length);
          return next;
        }, piece);
    }
    case 'BertNormalizer':
      return each((text) => {
        let now = text;
        if (spec.clean_text) now = now.replace(/\0/g, '').replace(BERT_CONTROL, '').replace(SPACES, ' ');
        if (spec.handle_chinese_chars) now = now.replace(IDEOGRAPH, ' $& ');
        if (spec.strip_accents ?? spec.lowercase) now = normalForm(now, 'NFD').replace(NONSPACING_MARK, '');
        return spec.lowercase ? lowerCase(now) : now;
      });
    case 'Strip':
      return ({ text, origin }) => {
        const before = spec.strip_left ? (SPACES_BEFORE.exec(text)?.[0].length ?? 0) : 0;
        const rest = text.slice(before);
        return {
          text: spec.strip_right ? rest.replace(SPACES_AFTER, '') : rest,
          origin: Math.max(0, origin - before),
        };
      };
    case 'StripAccents':
      return each((text) => text.replace(COMBINING_MARK, ''));
    case 'NFC':
    case 'NFD':
    case 'NFKC':
    case 'NFKD':
      return each((text) => normalForm(text, spec.type));
    case 'Lowercase':
      return each(lowerCase);
    case 'Nmt':
      return each((text) => text.replace(NMT_REMOVED, '').replace(NMT_SPACE, ' '));
    case 'Precompiled': {
      const change = each(precompiled(spec.precompiled_charsmap));
      return (piece) => {
        const { text, origin } = change(piece);
        // Where the first character is taken out, the next one counts as the first.
        const first = piece.origin > 0 && origin === 0 && text !== '' ? [...text][0]!.length : origin;
        return { text, origin: first };
      };
    }
    case 'Replace': {
      const divide = divideBy(spec.pattern);
      // The reference's places go astray where something is put in instead of nothing: words behind it come twice.
      if (divide('\ufdd0 aA1.é日\n ').some(([from, to]) => from === to))
        throw new Error('a Replace of what may be nothing is not supported; see Prepend');
      return ({ text, origin }) => {
        let now = '';
        let begins = 0;
        for (const [from, to, matches] of divide(text)) {
          now += matches ? spec.content : text.slice(from, to);
          // What replaces several characters counts as coming from the last of them.
          if (to <= origin || (!matches && from < origin)) begins = now.length - Math.max(0, to - origin);
        }
        checkGrowth(text.length, now.length);
        return { text: now, origin: begins };
      };
    }
    case 'Prepend':
      return ({ text, origin }) =>
        text === ''
          ? { text, origin }
          : { text: spec.prepend + text, origin: origin === 0 ? 0 : spec.prepend.length + origin };
    case 'ByteLevel':
      return each(toByteLetters);
  }
}
