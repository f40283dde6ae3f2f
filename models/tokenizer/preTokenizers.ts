/**
 * Pre-tokenizers of a `tokenizer.json`: how a text is divided into words, which the model then cuts into tokens.
 *
 * Source: `tokenizers` 0.23, src/pre_tokenizers.
 */

import { asUnicode16, NUMERIC, PUNCTUATION, SPACE, toByteLetters, WORD_CLASS } from './characters.ts';
import type { PreTokenizerSpec } from './components.ts';
import type { Piece } from './normalizers.ts';
import { type Behaviour, type Divide, divideBy, divideByCharacter, divideByRegExp, join } from './pattern.ts';

/** Divides a text into words; empty ones may be among them. */
export type PreTokenizer = (piece: Piece) => Piece[];

/** GPT-2's. */
const GPT2: Divide = divideBy({
  Regex: "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
});

/** Words, and signs between them. */
const WORDS: Divide = inverted(
  divideByRegExp(new RegExp(`[${WORD_CLASS}]+|[^${WORD_CLASS}\\p{White_Space}]+`, 'gu')),
);

function cut({ text, origin }: Piece, divide: Divide, behaviour: Behaviour): Piece[] {
  return join(divide(text), behaviour).map(([from, to]) => ({
    text: text.slice(from, to),
    origin: Math.max(0, Math.min(origin, to) - from),
  }));
}

const prepended = ({ text, origin }: Piece, prefix: string): Piece => ({
  text: prefix + text,
  origin: origin === 0 ? 0 : prefix.length + origin,
});

function inverted(divide: Divide): Divide {
  return (text) => divide(text).map(([from, to, matches]) => [from, to, !matches]);
}

/** @throws Error where a pattern cannot be used. */
export function buildPreTokenizer(spec: PreTokenizerSpec): PreTokenizer {
  const splitting = (divide: Divide, behaviour: Behaviour): PreTokenizer => {
    return (piece) => cut(piece, divide, behaviour);
  };
  switch (spec.type) {
    case 'Sequence': {
      const steps = spec.pretokenizers.map(buildPreTokenizer);
      return (piece) =>
        steps.reduce((now, step) => now.flatMap(step).filter(({ text }) => text !== ''), [piece]);
    }
    case 'BertPreTokenizer': {
      const words = splitting(divideByCharacter(SPACE), 'Removed');
      const signs = splitting(divideByCharacter(PUNCTUATION), 'Isolated');
      return (piece) => words(piece).flatMap(signs);
    }
    case 'Whitespace':
      return splitting((text) => WORDS(asUnicode16(text)), 'Removed');
    case 'WhitespaceSplit':
      return splitting(divideByCharacter(SPACE), 'Removed');
    case 'CharDelimiterSplit':
      return splitting(divideBy({ String: spec.delimiter }), 'Removed');
    case 'Punctuation':
      return splitting(divideByCharacter(PUNCTUATION), spec.behavior);
    case 'Digits':
      return splitting(divideByCharacter(NUMERIC), spec.individual_digits ? 'Isolated' : 'Contiguous');
    case 'Split': {
      const divide = divideBy(spec.pattern);
      return splitting(spec.invert ? inverted(divide) : divide, spec.behavior);
    }
    case 'FixedLength':
      return splitting(divideByRegExp(new RegExp(`[^]{1,${spec.length}}`, 'gu')), 'Isolated');
    case 'ByteLevel':
      return (piece) => {
        const whole = spec.add_prefix_space && !piece.text.startsWith(' ') ? prepended(piece, ' ') : piece;
        const words = spec.use_regex ? cut(whole, GPT2, 'Isolated') : [whole];
        return words.map(({ text, origin }) => ({
          text: toByteLetters(text),
          origin: origin === 0 ? 0 : toByteLetters(text.slice(0, origin)).length,
        }));
      };
    case 'Metaspace': {
      const { replacement } = spec;
      const divide = divideBy({ String: replacement });
      return ({ text, origin }) => {
        const marked = { text: text.replaceAll(' ', replacement), origin };
        const scheme = spec.add_prefix_space === false ? 'never' : spec.prepend_scheme;
        const wanted = scheme === 'always' || (scheme === 'first' && origin > 0);
        const whole =
          wanted && !marked.text.startsWith(replacement) ? prepended(marked, replacement) : marked;
        return spec.split ? cut(whole, divide, 'MergedWithNext') : [whole];
      };
    }
  }
}
