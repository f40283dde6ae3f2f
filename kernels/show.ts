/** What errors say of values: one line, whatever they are. */

/** 'a', 'b' or 'c'. */
export const anyOf = (words: readonly string[]): string =>
  words.length < 2 ? (words[0] ?? '') : `${words.slice(0, -1).join(', ')} or ${words.at(-1)}`;

/** A value as an error shows it. */
export function show(value: unknown): string {
  if (typeof value === 'string') {
    const short = value.length > 40 ? `${value.slice(0, 39)}…` : value;
    return `'${JSON.stringify(short).slice(1, -1).replaceAll('\\"', '"')}'`;
  }
  if (typeof value === 'function') return 'a function';
  if (typeof value === 'bigint') return `${value}n`;
  if (typeof value !== 'object' || value === null) return String(value);
  if (value instanceof Promise) return 'a promise (is an await missing?)';
  if (Array.isArray(value)) {
    const some = value.slice(0, 4).map((item) => (typeof item === 'object' ? '…' : show(item)));
    return `[${some.join(', ')}${value.length > some.length ? ', …' : ''}]`;
  }
  if (isPlain(value)) {
    const names = Object.keys(value).map((name) => (name.length > 24 ? `${name.slice(0, 23)}…` : name));
    return names.length === 0 ? '{}' : `{ ${names.slice(0, 4).join(', ')}${names.length > 4 ? ', …' : ''} }`;
  }
  const { name } = (value as object).constructor;
  return `${/^[AEIOU]/.test(name) ? 'an' : 'a'} ${name}`;
}

/** Objects with no class of their own, of whatever realm. */
export function isPlain(value: unknown): value is Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return false;
  const kind = Object.getPrototypeOf(value) as object | null;
  return kind === null || kind === Object.prototype || Object.getPrototypeOf(kind) === null;
}
