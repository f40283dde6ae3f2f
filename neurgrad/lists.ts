/**
 * Lists of numbers as arguments: an array or a typed array, looked at number by number before anything is computed of it.
 * What is none is told by its place; a sum would carry it on as NaN, or as text.
 */

import { UserError } from '../engine/errors.ts';
import { show } from '../engine/options.ts';

/** What each number of a list may be. */
export interface NumberKind {
  readonly expected: string;
  readonly fits: (value: unknown) => boolean;
}

const isNumber = (value: unknown): value is number => typeof value === 'number';
const within = (low: number, high: number) => (value: unknown) =>
  isNumber(value) && value >= low && value <= high;

/** NaN and infinity, too: measured values may be that, and must show. */
export const ANY: NumberKind = { expected: 'a number', fits: isNumber };
/** Infinity, but not NaN. */
export const REAL: NumberKind = {
  expected: 'a number',
  fits: (value) => isNumber(value) && !Number.isNaN(value),
};
export const FINITE: NumberKind = { expected: 'a finite number', fits: Number.isFinite };
/** Rounding may carry a mean of shares a little beyond. */
export const SHARE: NumberKind = { expected: 'a number from 0 to 1', fits: within(-1e-9, 1 + 1e-9) };
export const POSITIVE: NumberKind = {
  expected: 'a number above 0',
  fits: (value) => isNumber(value) && value > 0,
};
export const NATURAL: NumberKind = {
  expected: 'a whole number, 0 or more',
  fits: (value) => Number.isSafeInteger(value) && (value as number) >= 0,
};
/** Whole numbers from 0 to below `size`. */
export const below = (size: number): NumberKind => ({
  expected: `a whole number from 0 to ${size - 1}`,
  fits: (value) => NATURAL.fits(value) && (value as number) < size,
});

const isList = (value: unknown): value is ArrayLike<unknown> =>
  Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView));

const refused = (door: string, what: string): UserError => new UserError('option', `${door}: ${what}`);

const unexpected = (door: string, name: string, value: unknown, expected: string): UserError =>
  refused(door, `${name} is ${value === undefined ? 'missing' : show(value)}, expected ${expected}`);

/** @throws UserError for what is no number of a kind. */
export function checkNumber(door: string, name: string, value: unknown, kind: NumberKind = ANY): void {
  if (!kind.fits(value)) throw unexpected(door, name, value, kind.expected);
}

/** @throws UserError for what is no list, a number in it that is none of the kind, and fewer than `least`. */
export function checkNumbers(
  door: string,
  name: string,
  value: unknown,
  kind: NumberKind = ANY,
  least = 0,
): void {
  if (!isList(value)) throw unexpected(door, name, value, 'a list of numbers');
  if (value.length < least)
    throw refused(
      door,
      `${name} has ${value.length || 'no'} number${value.length === 1 ? '' : 's'}, expected ${least} or more`,
    );
  // A typed array holds nothing but numbers.
  if (kind === ANY && !Array.isArray(value)) return;
  for (let i = 0; i < value.length; i++)
    if (!kind.fits(value[i])) checkNumber(door, `${name}[${i}]`, value[i], kind);
}

/** The same for a list of such lists. */
export function checkLists(
  door: string,
  name: string,
  value: unknown,
  kind: NumberKind = ANY,
  least = 0,
): void {
  if (!Array.isArray(value)) throw unexpected(door, name, value, 'a list of lists of numbers');
  if (value.length < least) throw refused(door, `${name} has no lists, expected ${least} or more`);
  // There may be a million: a name for each would take longer than looking at it.
  for (let i = 0; i < value.length; i++)
    if (!isList(value[i]) || !Array.prototype.every.call(value[i], kind.fits))
      checkNumbers(door, `${name}[${i}]`, value[i], kind);
}

/** What {@link checkGiven} expects, most often. */
export const MODEL = 'a model: the `model` of what loadModel gives';
export const TOKENIZER = 'a tokenizer: the `tokenizer` of what loadModel gives';

/**
 * An object that the package gave, by a member that it has: what else is in it is what was put there.
 * @throws UserError for what is none.
 */
export function checkGiven<Value extends object>(
  door: string,
  name: string,
  value: Value,
  member: keyof Value & string,
  expected: string,
): void {
  const found = (value as Value | null | undefined)?.[member];
  if (found === undefined || found === null) throw unexpected(door, name, value, expected);
}

type Lists = Readonly<Record<string, ArrayLike<unknown>>>;

/** @throws UserError where lists are not equally long. */
export function checkLengths(door: string, lists: Lists, of = 'values'): void {
  const [[first, one], ...others] = Object.entries(lists) as [[string, ArrayLike<unknown>]];
  for (const [name, other] of others as [string, ArrayLike<unknown>][])
    if (other.length !== one.length)
      throw refused(door, `${one.length} ${of} in ${first}, but ${other.length} in ${name}`);
}

/** Lists of numbers by prompt, which belong together. @throws UserError where they are no lists of lists, or not of one shape. */
export function checkAlike(door: string, lists: Readonly<Record<string, unknown>>, kind?: NumberKind): void {
  for (const [name, value] of Object.entries(lists)) checkLists(door, name, value, kind);
  checkLengths(door, lists as Lists, 'lists');
  const names = Object.keys(lists);
  const rows = Object.values(lists) as ArrayLike<ArrayLike<unknown>>[];
  for (let i = 0; i < rows[0]!.length; i++)
    if (rows.some((lists) => lists[i]!.length !== rows[0]![i]!.length))
      checkLengths(door, Object.fromEntries(names.map((name, k) => [`${name}[${i}]`, rows[k]![i]!])));
}
