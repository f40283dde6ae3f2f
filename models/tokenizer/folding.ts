/**
 * Patterns that match whatever the case, `(?i)`: Oniguruma takes `ß` for `ss` and `ﬁ` for `fi`, and asks of `\\p{Lu}` what a
 * character is as it stands; JavaScript does neither. Patterns where it matters are refused.
 *
 * Source: Oniguruma, doc/RE (ONIG_OPTION_IGNORECASE, ONIGENC_CASE_FOLD_DEFAULT); Unicode, CaseFolding.txt, status F.
 */

/** Properties that hold a character in all of its cases. */
const CASELESS =
  /^(l|letter|m|mark|n|number|nd|nl|no|p|punct|punctuation|s|z|zs|c|cc|cf|space|digit|word|alpha|alphabetic|alnum|han|hiragana|katakana|thai|hangul|arabic|hebrew)$/;

const PARTS =
  /\\[pP]\{\^?(?<property>[^}]*)\}|\[:\^?(?<posix>\w+):\]|\\(?<escaped>[\s\S])|\(\?(?<on>[a-zA-Z]*)(?:-(?<off>[a-zA-Z]*))?(?<end>[:)])|[\s\S]/gu;

const fold = (text: string): string => text.toUpperCase().toLowerCase();

/** Characters that fold to several, and what they fold to. */
let several: ReadonlyMap<string, string> | undefined;

function foldsToSeveral(): ReadonlyMap<string, string> {
  if (several) return several;
  const found = new Map([['ẞ', 'ss']]);
  for (let code = 0x80; code < 0xd800; code++) add(String.fromCharCode(code));
  for (let code = 0xfb00; code < 0xfb18; code++) add(String.fromCharCode(code));
  function add(letter: string): void {
    if (letter.toUpperCase().length > 1) found.set(letter, fold(letter));
    else if (letter.toLowerCase().length > 1) found.set(letter, letter.toLowerCase());
  }
  several = found;
  return found;
}

/** @throws Error for a part that matches whatever the case and means something else in JavaScript. */
export function refuseFolding(source: string): void {
  if (!/\(\?[a-zA-Z]*i/.test(source)) return;
  const folds = foldsToSeveral();
  const refuse = (what: string): never => {
    throw new Error(`${what} under (?i) is not supported: it would match something else than in Oniguruma`);
  };
  const outer: boolean[] = [];
  let folding = false;
  let depth = 0;
  /** Letters one after the other, folded; in brackets the last two. */
  let run = '';
  for (const { 0: found, groups } of source.matchAll(PARTS)) {
    const { property, posix, escaped, on, off, end } = groups as Record<string, string | undefined>;
    const inClass = depth > 0;
    if (!inClass && end !== undefined) {
      if (end === ':') outer.push(folding);
      folding = !off?.includes('i') && (folding || (on?.includes('i') ?? false));
    } else if (!inClass && found === '(') outer.push(folding);
    else if (!inClass && found === ')') folding = outer.pop() ?? false;
    else if (found === '[') depth++;
    else if (found === ']') depth = Math.max(0, depth - 1);
    else if (folding && (property ?? posix) !== undefined) {
      if (!CASELESS.test((property ?? posix)!.replace(/[ _-]/g, '').toLowerCase())) refuse(found);
    } else if (folding && escaped !== undefined && /[xu]/.test(escaped)) refuse(found);
    else if (folding) {
      if (folds.has(found)) refuse(found);
      if (inClass) {
        const from = /(.)-$/su.exec(run)?.[1];
        const within = [...folds.keys()].find((letter) => from && from < letter && letter < found);
        if (within !== undefined) refuse(`${from}-${found}`);
        run = [...run, found].slice(-2).join('');
        continue;
      }
      run += fold(found);
      for (const folded of folds.values()) if (run.endsWith(folded)) refuse(JSON.stringify(folded));
      continue;
    }
    run = '';
  }
}
