/**
 * The text of a config.json that is written again: what has not changed stays as it was spelled. To JavaScript 5.0 and 5 are one
 * number; Python reads a float and an int, and transformers refuses an int where a config class says `float`.
 */

/** Fields that transformers' config classes declare as `float` and nothing else. */
const FLOATS: ReadonlySet<string> = new Set([
  'attn_logit_softcapping',
  'final_logit_softcapping',
  'initializer_cutoff_factor',
  'initializer_range',
  'layer_norm_eps',
  'layer_norm_epsilon',
  'norm_eps',
  'rms_norm_eps',
]);

/** JSON of a config. @param text that it was read from, if it was, perhaps with other values. */
export function configText(json: Readonly<Record<string, unknown>>, text = '{}'): string {
  const before = members(text);
  const lines = Object.entries(json)
    .filter(([, value]) => value !== undefined)
    .map(([field, value]) => {
      const spelled = before.get(field);
      const same = spelled !== undefined && JSON.stringify(JSON.parse(spelled)) === JSON.stringify(value);
      return `  ${JSON.stringify(field)}: ${same ? spelled : valueText(field, value)}`;
    });
  return `{\n${lines.join(',\n')}\n}\n`;
}

function valueText(field: string, value: unknown): string {
  if (FLOATS.has(field) && Number.isSafeInteger(value)) return `${value}.0`;
  return JSON.stringify(value, null, 2).replaceAll('\n', '\n  ');
}

/** The values of an object of valid JSON, as they are spelled there. */
function members(text: string): Map<string, string> {
  const found = new Map<string, string>();
  let depth = 0;
  let key: string | null = null;
  let begin = -1;
  for (let at = text.indexOf('{'); at < text.length; at++) {
    const c = text[at]!;
    if (c === '"') {
      const from = at++;
      while (text[at] !== '"') at += text[at] === '\\' ? 2 : 1;
      if (depth === 1 && key === null) key = JSON.parse(text.slice(from, at + 1)) as string;
    } else if (depth === 1 && key !== null && (c === ',' || c === '}')) {
      found.set(key, text.slice(begin, at).trim());
      key = null;
      begin = -1;
    } else if (c === ':' && depth === 1 && begin < 0) begin = at + 1;
    if (c === '{' || c === '[') depth++;
    if (c === '}' || c === ']') depth--;
  }
  return found;
}
