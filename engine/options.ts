/**
 * Options, checked where they come in: one valibot schema for each options object, used by the function that takes it and by
 * the command line. A name or a value that is not known is refused in one line that says what was meant or expected; it is
 * never ignored, and never taken for the default.
 *
 * Built for hot calls: what is there is looked at once, in place; words are made only for what is wrong.
 */

import { closest, distance } from 'fastest-levenshtein';
import * as v from 'valibot';
import { anyOf, isPlain, show } from '../kernels/show.ts';
import { UserError } from './errors.ts';

export { isPlain, show } from '../kernels/show.ts';

/**
 * A valibot schema of values X, whose messages say what is expected ("true or false"). It is invariant in X: a schema that
 * takes more or less than the type says does not compile.
 */
export type Field<X> = v.GenericSchema<X> & { readonly takes?: (value: X) => X };

/** An option that has no default. */
export interface RequiredField<X> {
  readonly required: Field<X>;
}

/** A field for each name of an options type, required where the type says so. */
type Entries<T> = {
  readonly [K in keyof T]-?: Record<never, never> extends Pick<T, K>
    ? Field<Exclude<T[K], undefined>>
    : RequiredField<T[K]>;
};

/** Names that other libraries have for an option, and ours. */
type Foreign<T> = Readonly<Record<string, keyof T & string>>;

/** The schema of an options object; itself a {@link Field}, for options within options. */
export type OptionsSchema<T> = Field<T> & {
  readonly entries: { readonly [K in keyof T]-?: Field<Exclude<T[K], undefined>> };
  readonly required: readonly string[];
  readonly foreign: Foreign<T>;
};

type Needed = { readonly required: v.GenericSchema };

const PLAIN = 'an object of options';

/**
 * The schema of the options type T: one field a name, as the type has them.
 * @param foreign what the options are called elsewhere, for the error that names ours.
 */
export function optionsSchema<T extends object>(
  entries: Entries<T>,
  foreign: Foreign<T> = {},
): OptionsSchema<T> {
  const required: string[] = [];
  const fields: Record<string, v.GenericSchema> = {};
  for (const [name, field] of Object.entries(entries as Record<string, v.GenericSchema | Needed>)) {
    if ('~run' in field) fields[name] = v.optional(field);
    else {
      fields[name] = field.required;
      required.push(name);
    }
  }
  // A list or a map is an object to valibot, one without any of these names.
  const schema = v.pipe(v.custom<object>(isPlain, PLAIN), v.strictObject(fields, PLAIN));
  return { ...schema, entries: fields, required, foreign } as unknown as OptionsSchema<T>;
}

/** Marks an option without a default. */
export const required = <X>(field: Field<X>): RequiredField<X> => ({ required: field });

/** One of some words. */
export const one = <const X extends string | number>(values: readonly X[]): Field<X> =>
  v.picklist(values, anyOf(values.map(show)));

/** True or false. */
export const flag: Field<boolean> = v.boolean('true or false');
/** A text that is not empty. */
export const text: Field<string> = v.pipe(v.string('a text'), v.nonEmpty('a text that is not empty'));
/** A finite number. */
export const finite: Field<number> = v.pipe(v.number('a number'), v.finite('a finite number'));
/** A number above 0. */
export const positive: Field<number> = between(0, Number.POSITIVE_INFINITY, 'a finite number above 0', false);
/** A number from `low` to `high`. */
export function between(
  low: number,
  high: number,
  expected = `a number from ${low} to ${high}`,
  withLow = true,
): Field<number> {
  const inside = v.check<number, string>(
    (n) => Number.isFinite(n) && (withLow ? n >= low : n > low) && n <= high,
    expected,
  );
  return v.pipe(v.number(expected), inside);
}
/** A whole number from `low` (0) to `high`. */
export function whole(
  low = 0,
  high = Number.MAX_SAFE_INTEGER,
  expected = high < Number.MAX_SAFE_INTEGER
    ? `a whole number from ${low} to ${high}`
    : low === 0
      ? 'a whole number, 0 or more'
      : `a whole number above ${low - 1}`,
): Field<number> {
  return v.pipe(
    v.number(expected),
    v.check((n) => Number.isSafeInteger(n) && n >= low && n <= high, expected),
  );
}
/** A function. */
export const callback = <F extends (...args: never[]) => unknown>(): Field<F> =>
  v.custom<F>((value) => typeof value === 'function', 'a function');
/** An object of a class. */
export const instance = <X>(of: abstract new (...args: never[]) => X, expected: string): Field<X> =>
  v.custom<X>((value) => value instanceof of, expected);
/** Whatever passes a test. */
export const like = <X>(passes: (value: unknown) => boolean, expected: string): Field<X> =>
  v.custom<X>(passes, expected);

/** A list whose items are looked at where they lie. */
export function list<X>(item: Field<X>, expected: string): Field<readonly X[]> {
  const all = v.pipe(
    v.custom<readonly X[]>(Array.isArray, expected),
    v.rawCheck(({ dataset, addIssue }) => {
      if (!dataset.typed) return;
      const { value } = dataset;
      for (let i = 0; i < value.length; i++) {
        if (v.is(item, value[i])) continue;
        const [issue] = v.safeParse(item, value[i]).issues!;
        const here = { type: 'array', origin: 'value', input: value, key: i, value: value[i] } as const;
        addIssue({
          message: issue.message,
          input: issue.input,
          expected: issue.expected ?? '',
          path: [here, ...(issue.path ?? [])] as [v.ArrayPathItem],
        });
        return;
      }
    }),
  );
  return { ...all, item } as unknown as Field<readonly X[]>;
}

/** Values of either kind. */
export const either = <X, Y>(a: Field<X>, b: Field<Y>, expected: string): Field<X | Y> =>
  v.union([a, b], expected) as unknown as Field<X | Y>;

/**
 * Checks the options of a public function. @param door the function, as its users call it.
 * @throws UserError `option`: one line with the door, the option, and what was meant or expected.
 */
export function checkOptions<T extends object>(door: string, schema: OptionsSchema<T>, options: T): void {
  if (!isPlain(options)) throw refused(door, `options are ${show(options)}, expected ${PLAIN}`);
  const entries = schema.entries as unknown as Record<string, Field<unknown>>;
  for (const name in options)
    if (!Object.hasOwn(entries, name) || !v.is(entries[name]!, options[name]))
      throw faulty(door, schema, options);
  for (const name of schema.required) if (options[name] === undefined) throw faulty(door, schema, options);
}

/**
 * The same for an object of which all members must be there, and which may have others: a misspelt one is missing.
 * @throws UserError `option`
 */
export function checkMembers<T extends object>(door: string, schema: OptionsSchema<T>, value: T): void {
  if (typeof value !== 'object' || value === null)
    throw refused(door, `options are ${show(value)}, expected ${PLAIN}`);
  const members = value as Record<string, unknown>;
  for (const [name, field] of Object.entries<Field<unknown>>(schema.entries as never))
    if (!v.is(field, members[name])) checkValue(door, name, field, members[name]);
}

/** Checks one argument, `name` in the message. @throws UserError `option` */
export function checkValue<X>(
  door: string,
  name: string,
  field: Field<X>,
  value: unknown,
): asserts value is X {
  if (v.is(field, value)) return;
  const [issue] = v.safeParse(field, value).issues!;
  throw refused(door, explain(issue, field, name));
}

const refused = (door: string, what: string): UserError => new UserError('option', `${door}: ${what}`);

function faulty<T>(door: string, schema: OptionsSchema<T>, options: unknown): UserError {
  const [issue] = v.safeParse(schema, options).issues!;
  return refused(door, explain(issue, schema));
}

/**
 * What is wrong, in words: "there is no option 'rnage'; did you mean 'range'?" or "of is 'logits', expected 'prob' or 'logit'".
 * @param name of the value checked, where it is no options object.
 */
export function explain(issue: v.BaseIssue<unknown>, schema: v.GenericSchema, name = ''): string {
  const keys = (issue.path ?? []).map(({ key }) => key);
  const at = keys.reduce<string>(
    (path, key) => (typeof key === 'number' ? `${path}[${key}]` : `${path}${path && '.'}${String(key)}`),
    name,
  );
  const parent = inside(schema, keys.slice(0, -1));
  if (issue.expected === 'never') {
    const unknown = String(keys.at(-1));
    const prefix = at.slice(0, at.length - unknown.length);
    const known = Object.keys(parent?.entries ?? {});
    const near = nearest(unknown, known, parent?.foreign);
    const hint = near
      ? `did you mean '${prefix}${near}'?`
      : known.length > 0
        ? `there ${known.length > 1 ? 'are' : 'is'} ${known.map((each) => `'${each}'`).join(', ')}`
        : 'it has none';
    return `there is no option ${show(at)}; ${hint}`;
  }
  // A name that is not there: the object says so, its field knows what should be.
  const missing = issue.input === undefined && issue.expected === `"${String(keys.at(-1))}"`;
  const field = missing ? parent?.entries?.[String(keys.at(-1))] : undefined;
  const expected = field ? (v.safeParse(field, undefined).issues?.[0].message ?? '') : issue.message;
  if (at === '') return `options are ${show(issue.input)}, expected ${expected}`;
  return `${at} ${issue.input === undefined ? 'is missing' : `is ${show(issue.input)}`}, expected ${expected}`;
}

interface Inside {
  readonly entries?: Record<string, Field<unknown>>;
  readonly foreign?: Readonly<Record<string, string>>;
  readonly wrapped?: Inside;
  readonly item?: Inside;
}

/** The schema at a path of names and places in lists. */
function inside(schema: unknown, keys: readonly unknown[]): Inside | undefined {
  const unwrapped = (part: Inside | undefined): Inside | undefined =>
    part?.wrapped ? unwrapped(part.wrapped) : part;
  return keys.reduce<Inside | undefined>(
    (part, key) =>
      unwrapped((typeof key === 'number' ? part?.item : part?.entries?.[String(key)]) as Inside | undefined),
    unwrapped(schema as Inside),
  );
}

const plainName = (name: string): string => name.toLowerCase().replace(/[_-]/g, '');

/** The name that was meant, or undefined where none is near. */
export function nearest(
  name: string,
  known: readonly string[],
  foreign: Readonly<Record<string, string>> = {},
): string | undefined {
  const elsewhere = Object.keys(foreign).find((other) => plainName(other) === plainName(name));
  if (elsewhere !== undefined) return foreign[elsewhere];
  if (known.length === 0) return undefined;
  const plain = plainName(name);
  const near = closest(plain, known.map(plainName));
  const far = Math.max(2, Math.floor(Math.max(plain.length, near.length) / 3));
  return distance(plain, near) <= far && distance(plain, near) < near.length
    ? known.find((each) => plainName(each) === near)
    : undefined;
}
