/**
 * Text that may be shown. Tokens, names and messages come from files that nobody has checked: what in them steers a
 * terminal, turns the direction of writing, or cannot be seen at all is written out instead.
 */

/** Control characters (C0, DEL, C1), bidi controls, line and paragraph separators, invisible formats, half characters. */
const HIDDEN =
  /[\p{Cc}\p{Bidi_Control}\p{Zl}\p{Zp}\p{Cs}\u00ad\u180e\u200b\u2060-\u2064\u206a-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;

const SHORT: Record<string, string> = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };

/**
 * `text` with every such character as `\n`, `\t` or `<U+009B>`, so that it is safe in a terminal and on a page.
 * @param keep characters that are left as they are, such as the line breaks of a text of several lines.
 */
export function visibleText(text: string, keep = ''): string {
  return text.replace(HIDDEN, (found) => {
    if (keep.includes(found)) return found;
    return SHORT[found] ?? `<U+${found.codePointAt(0)!.toString(16).toUpperCase().padStart(4, '0')}>`;
  });
}

/** JSON whose text is safe in a terminal: the same values, with those characters escaped. */
export const visibleJson = (json: string): string =>
  json.replace(HIDDEN, (found) =>
    found === '\n'
      ? found
      : Array.from(
          { length: found.length },
          (_, i) => `\\u${found.charCodeAt(i).toString(16).padStart(4, '0')}`,
        ).join(''),
  );
