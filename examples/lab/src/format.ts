/** Numbers and tokens as people read them. */

import { showToken, type TokenText } from '../../../models/tokenText.ts';

const MINUS = '−';

/** Three significant digits, with a real minus; exponents only where zeros would hide the number. */
export function figure(value: number, digits = 3): string {
  if (value === 0) return '0';
  const size = Math.abs(value);
  const text =
    size >= 1e-4 && size < 10 ** digits
      ? size.toPrecision(digits)
      : size >= 1 && size < 1e6
        ? size.toFixed(0)
        : size.toExponential(digits - 1);
  return (value < 0 ? MINUS : '') + text.replace('e-', `e${MINUS}`).replace('e+', 'e');
}

export const signed = (value: number, digits = 3): string => (value > 0 ? '+' : '') + figure(value, digits);

/** A probability in per cent. */
export function percent(p: number): string {
  const value = 100 * p;
  if (value !== 0 && value < 0.01) return '<0.01%';
  return `${value.toFixed(value >= 99.95 ? 0 : value >= 10 ? 1 : 2)}%`;
}

/** A token as a word: as it is shown, without the mark of the space before it. */
export function word(token: Pick<TokenText, 'token' | 'text'>): string {
  const shown = showToken(token);
  return /^␣[^␣]/u.test(shown) ? shown.slice(1) : shown;
}

export function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0)} MB`;
}
