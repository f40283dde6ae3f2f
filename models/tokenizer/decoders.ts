/**
 * Decoders of a `tokenizer.json`: from tokens back to text, and one token's text by itself.
 *
 * Source: `tokenizers` 0.23, src/decoders. The text of one token is not there: it is what the token stands for in the
 * middle of a text, as bytes, because a token may be a part of a character.
 */

import { byteOfToken, fromByteLetters } from './characters.ts';
import type { DecoderSpec } from './components.ts';
import { checkGrowth } from './growth.ts';
import { divideBy } from './pattern.ts';

export interface Decoder {
  /** From tokens to parts of the text. */
  chain(tokens: readonly string[]): readonly string[];
  /** What one token stands for in the middle of a text; bytes from where it is no longer spelt in letters. */
  one(token: string | readonly number[]): string | readonly number[];
}

const lossy = new TextDecoder('utf-8', { ignoreBOM: true });
const strict = new TextDecoder('utf-8', { ignoreBOM: true, fatal: true });

/** English spacing as the reference tidies it. */
const tidy = (text: string): string =>
  text
    .replaceAll(' .', '.')
    .replaceAll(' ?', '?')
    .replaceAll(' !', '!')
    .replaceAll(' ,', ',')
    .replaceAll(" ' ", "'")
    .replaceAll(" n't", "n't")
    .replaceAll(" 'm", "'m")
    .replaceAll(' do not', " don't")
    .replaceAll(" 's", "'s")
    .replaceAll(" 've", "'ve")
    .replaceAll(" 're", "'re");

/** As Rust's `replace`: an empty text is found around every character. */
const replaced = (token: string, what: string, by: string): string =>
  what === '' ? ['', ...token, ''].join(by) : token.replaceAll(what, by);

/** The same text in, the same text out, for bytes: only spellings are changed. */
const spelling =
  (change: (token: string) => string | readonly number[]): Decoder['one'] =>
  (token) =>
    typeof token === 'string' ? change(token) : token;

function byteFallback(tokens: readonly string[]): string[] {
  const out: string[] = [];
  let bytes: number[] = [];
  const flush = () => {
    try {
      if (bytes.length > 0) out.push(strict.decode(Uint8Array.from(bytes)));
    } catch {
      // One sign for each byte, not one for what could be a character's beginning.
      for (const _ of bytes) out.push('\ufffd');
    }
    bytes = [];
  };
  for (const token of tokens) {
    const byte = byteOfToken(token);
    if (byte !== undefined) bytes.push(byte);
    else {
      flush();
      out.push(token);
    }
  }
  flush();
  return out;
}

/** At most `start` times `content` off the beginning, at most `stop` times off the end. */
function strip(token: string, content: string, start: number, stop: number): string {
  const letters = [...token];
  let from = 0;
  while (from < start && letters[from] === content) from++;
  let to = letters.length;
  while (letters.length - to < stop && letters[to - 1] === content) to--;
  return letters.slice(from, to).join('');
}

const lengthOf = (tokens: readonly string[]): number =>
  tokens.reduce((sum, { length }) => sum + length + 1, 0);

function notGrown(before: readonly string[], now: readonly string[]): readonly string[] {
  checkGrowth(lengthOf(before), lengthOf(now));
  return now;
}

/** @throws Error where a pattern cannot be used. */
export function buildDecoder(spec: DecoderSpec): Decoder {
  switch (spec.type) {
    case 'Sequence': {
      const steps = spec.decoders.map(buildDecoder);
      // What is stripped from the tokens fused is the text's end, not each token's.
      const fused = spec.decoders.findIndex(({ type }) => type === 'Fuse');
      const alone = steps.filter((_, i) => fused < 0 || i < fused || spec.decoders[i]!.type !== 'Strip');
      return {
        chain: (tokens) => steps.reduce((now, step) => notGrown(tokens, step.chain(now)), tokens),
        one: (token) =>
          alone.reduce((now, step) => {
            const next = step.one(now);
            checkGrowth(token.length, next.length);
            return next;
          }, token),
      };
    }
    case 'ByteLevel':
      return {
        chain: (tokens) => [lossy.decode(Uint8Array.from(tokens.flatMap(fromByteLetters)))],
        one: spelling(fromByteLetters),
      };
    case 'ByteFallback':
      return {
        chain: byteFallback,
        one: spelling((token) => {
          const byte = byteOfToken(token);
          return byte === undefined ? token : [byte];
        }),
      };
    case 'WordPiece': {
      const bare = (token: string) =>
        token.startsWith(spec.prefix) ? token.slice(spec.prefix.length) : undefined;
      return {
        chain: (tokens) =>
          tokens.map((token, i) => {
            const spaced = i === 0 ? token : (bare(token) ?? ` ${token}`);
            return spec.cleanup ? tidy(spaced) : spaced;
          }),
        one: spelling((token) => bare(token) ?? token),
      };
    }
    case 'Metaspace': {
      const never = spec.add_prefix_space === false || spec.prepend_scheme === 'never';
      const spaced = (token: string, space: string) => token.replaceAll(spec.replacement, space);
      return {
        chain: (tokens) => tokens.map((token, i) => spaced(token, i === 0 && !never ? '' : ' ')),
        one: spelling((token) => spaced(token, ' ')),
      };
    }
    case 'BPEDecoder': {
      const spaced = (token: string, space: string) => replaced(token, spec.suffix, space);
      return {
        chain: (tokens) => tokens.map((token, i) => spaced(token, i === tokens.length - 1 ? '' : ' ')),
        one: spelling((token) => spaced(token, ' ')),
      };
    }
    case 'CTC': {
      const plain = (token: string): string => {
        const rest = replaced(token, spec.pad_token, '');
        return spec.cleanup ? replaced(tidy(rest), spec.word_delimiter_token, ' ') : rest;
      };
      return {
        chain: (tokens) =>
          tokens
            .filter((token, i) => token !== tokens[i - 1])
            .map(plain)
            .filter((token) => token !== ''),
        one: spelling(plain),
      };
    }
    case 'Replace': {
      const divide = divideBy(spec.pattern);
      const changed = (token: string) =>
        divide(token)
          .map(([from, to, matches]) => (matches ? spec.content : token.slice(from, to)))
          .join('');
      return { chain: (tokens) => tokens.map(changed), one: spelling(changed) };
    }
    case 'Fuse':
      return { chain: (tokens) => [tokens.join('')], one: (token) => token };
    case 'Strip': {
      const stripped = (token: string) => strip(token, spec.content, spec.start, spec.stop);
      return { chain: (tokens) => tokens.map(stripped), one: spelling(stripped) };
    }
  }
}
