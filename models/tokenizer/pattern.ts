/**
 * Patterns of a `tokenizer.json`, which are Oniguruma's, and what is done with the parts of a text that match.
 *
 * `oniguruma-to-es` makes JavaScript of them, but for `\w` and `\b`: its own are wider (all numbers, as the documentation
 * of Oniguruma has it) than those of the library in use, which holds Alphabetic, Mark, Nd, Pc and, outside of brackets,
 * the superscripts and fractions of Latin-1.
 */

import { EmulatedRegExp, toRegExpDetails } from 'oniguruma-to-es';
import { bounded } from './boundedPattern.ts';
import { asUnicode16 } from './characters.ts';
import { refuseFolding } from './folding.ts';

/** Where something matches: `[from, to)` in UTF-16 units, and whether it does. All of the text, in order. */
export type Part = readonly [from: number, to: number, matches: boolean];

/** Divides a text, which may be empty. */
export type Divide = (text: string) => Part[];

export type Pattern = { readonly String: string } | { readonly Regex: string };

const WORD_IN_BRACKETS = '\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}';
const WORD = `[${WORD_IN_BRACKETS}\\u00B2\\u00B3\\u00B9\\u00BC-\\u00BE]`;
const OUTSIDE: Record<string, string> = {
  w: WORD,
  W: `[^${WORD.slice(1)}`,
  b: `(?:(?<=${WORD})(?!${WORD})|(?<!${WORD})(?=${WORD}))`,
  B: `(?:(?<=${WORD})(?=${WORD})|(?<!${WORD})(?!${WORD}))`,
};
const INSIDE: Record<string, string> = { w: WORD_IN_BRACKETS, W: `[^${WORD_IN_BRACKETS}]` };

/** The pattern with `\w`, `\W`, `\b` and `\B` written out, `\p{Word}` too. */
function writeOutWords(source: string): string {
  let depth = 0;
  return source.replace(/\\p\{(\^?)[ _-]*word[ _-]*\}|\\([\s\S])|[[\]]/gi, (found, not, escaped) => {
    if (found === '[') depth++;
    else if (found === ']') depth = Math.max(0, depth - 1);
    const negated = (found[1] === 'P') !== (not === '^');
    const letter: string | undefined = not === undefined ? escaped : negated ? 'W' : 'w';
    return (letter !== undefined && (depth > 0 ? INSIDE : OUTSIDE)[letter]) || found;
  });
}

/** @throws Error where the pattern is not one, or has no exact counterpart in JavaScript. */
function compile(source: string): RegExp {
  refuseFolding(source);
  // Its counterpart there knows letters of Hangul one by one.
  if (/^(?:[^\\]|\\[^X])*\\X/s.test(source)) throw new Error('\\X is not supported');
  const { pattern, flags, options } = toRegExpDetails(writeOutWords(source), {
    global: true,
    target: 'ES2024',
  });
  // V8 repeats `[^]` once at most under the flag v.
  const mended = pattern.replace(/\\[\s\S]|\[\^\]/g, (found) => (found === '[^]' ? '[\\s\\S]' : found));
  return options ? new EmulatedRegExp(mended, flags, options) : new RegExp(mended, flags);
}

/** @throws Error where the pattern is not one, or has no counterpart in JavaScript. */
export function divideBy(pattern: Pattern): Divide {
  if ('String' in pattern)
    return divideByRegExp(new RegExp(pattern.String.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&'), 'gu'));
  const divide = divideByRegExp(compile(pattern.Regex));
  return bounded(pattern.Regex, (text) => divide(asUnicode16(text)));
}

/** @param regex with the flag `g`. */
export function divideByRegExp(regex: RegExp): Divide {
  return (text) => {
    const parts: Part[] = [];
    let at = 0;
    let from = 0;
    let last = -1;
    while (text !== '' && at <= text.length) {
      regex.lastIndex = at;
      const found = regex.exec(text);
      if (found === null) break;
      const start = found.index;
      const end = start + found[0].length;
      if (start > 0 && text.codePointAt(start - 1)! > 0xffff) {
        // V8 finds empty matches in the middle of a character, too.
        at = start + 1;
        continue;
      }
      if (start === end && end === last) {
        // No empty match right behind a match.
        at += text.codePointAt(at)! > 0xffff ? 2 : 1;
        continue;
      }
      if (from < start) parts.push([from, start, false]);
      parts.push([start, end, true]);
      at = from = last = end;
    }
    if (from < text.length) parts.push([from, text.length, false]);
    return parts;
  };
}

/** Each character that is of a class matches by itself. */
export const divideByCharacter = (character: RegExp): Divide =>
  divideByRegExp(new RegExp(character.source, 'gu'));

export const BEHAVIOURS = [
  'Removed',
  'Isolated',
  'MergedWithPrevious',
  'MergedWithNext',
  'Contiguous',
] as const;
export type Behaviour = (typeof BEHAVIOURS)[number];

/** What is left of the parts when matches are removed, or joined with what is next to them; empty ones are kept. */
export function join(parts: readonly Part[], behaviour: Behaviour): [from: number, to: number][] {
  if (behaviour === 'Removed') return parts.filter((part) => !part[2]).map(([from, to]) => [from, to]);
  if (behaviour === 'Isolated') return parts.map(([from, to]) => [from, to]);
  const backwards = behaviour === 'MergedWithNext';
  const joined: [from: number, to: number][] = [];
  let previous = false;
  for (const [from, to, matches] of backwards ? [...parts].reverse() : parts) {
    const last = joined.at(-1);
    const joins = behaviour === 'Contiguous' ? matches === previous : matches && !previous;
    if (joins && last !== undefined) {
      if (backwards) last[0] = from;
      else last[1] = to;
    } else joined.push([from, to]);
    previous = matches;
  }
  return backwards ? joined.reverse() : joined;
}
