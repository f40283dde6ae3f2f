/** How wide a text is where nothing can measure it: rather too wide than too narrow in any of the figures' fonts. */

/** Shares of the type's size. */
const NARROW = 0.36;
const USUAL = 0.57;
const CAPITAL = 0.68;
const WIDE = 0.9;
/** Letters of scripts that fill a square. */
const SQUARE = 1.05;

function shareOf(letter: string): number {
  if (/[ijl.,;:'|!fIrt()[\]\s·]/.test(letter)) return NARROW;
  if (/[mwMW@%—…]/.test(letter)) return WIDE;
  if (
    /\p{Script=Han}|\p{Script=Hiragana}|\p{Script=Katakana}|\p{Script=Hangul}|\p{Extended_Pictographic}/u.test(
      letter,
    )
  )
    return /\d/.test(letter) ? USUAL : SQUARE;
  return /\p{Lu}|[=+<>±−×≥≤&#]/u.test(letter) ? CAPITAL : USUAL;
}

/** In the unit of `size`. */
export const textWidth = (text: string, size: number): number =>
  size * [...text].reduce((sum, letter) => sum + shareOf(letter), 0);

/** Lines of a text, none wider than `width`; a word that is wider alone is cut. */
export function wrapped(text: string, width: number, size: number): string[] {
  const lines: string[] = [];
  let line = '';
  const words = text.split(/\s+/).flatMap((word) => pieces(word, width, size));
  for (const word of words) {
    const longer = line === '' ? word : `${line} ${word}`;
    if (line !== '' && textWidth(longer, size) > width) {
      lines.push(line);
      line = word;
    } else line = longer;
  }
  return line === '' ? lines : [...lines, line];
}

function pieces(word: string, width: number, size: number): string[] {
  const found = [''];
  for (const letter of word) {
    if (textWidth(found.at(-1)! + letter, size) > width) found.push('');
    found[found.length - 1] += letter;
  }
  return found;
}
