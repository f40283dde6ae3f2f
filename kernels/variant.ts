/**
 * What variants a kernel has. Its text is put together from words: one that is none would make a text that compiles and
 * computes something else, so each call is looked at first.
 */

import { KernelError } from './errors.ts';
import { anyOf, isPlain, show } from './show.ts';

interface Expected {
  /** In words. */
  readonly expected: string;
  readonly fits: (value: unknown) => boolean;
  /** Of an object. */
  readonly members?: readonly (readonly [name: string, takes: Expected])[];
}

/** Values X; invariant in X, so that a kernel takes neither more nor less than its type says. */
export interface Takes<X> extends Expected {
  readonly takes?: (value: X) => X;
}

type Arguments<Args extends unknown[]> = {
  readonly [At in keyof Args]-?: readonly [name: string, takes: Takes<Exclude<Args[At], undefined>>];
};

/** What a kernel's function takes, argument by argument. */
export interface Signature<Args extends unknown[]> {
  readonly kernel: string;
  readonly args: Arguments<Args>;
}

/** @param kernel the function's name, for its errors. @param args name of each argument and what it may be. */
export const takes = <Args extends unknown[]>(kernel: string, ...args: Arguments<Args>): Signature<Args> => ({
  kernel,
  args,
});

/** One of some words or numbers. */
export const word = <const X extends string | number>(words: readonly X[]): Takes<X> => ({
  expected: anyOf(words.map(show)),
  fits: (value) => words.includes(value as X),
});

/** True or false. */
export const flag: Takes<boolean> = {
  expected: 'true or false',
  fits: (value) => typeof value === 'boolean',
};

/** A whole number above 0. */
export const count: Takes<number> = {
  expected: 'a whole number above 0',
  fits: (value) => Number.isSafeInteger(value) && (value as number) > 0,
};

/** How many invocations share something: halved step by step, where they add up. */
export const powerOfTwo: Takes<number> = {
  expected: 'a power of two',
  fits: (value) => count.fits(value) && Number.isInteger(Math.log2(value as number)),
};

/** What may be left out. */
export const optional = <X>({ expected, fits }: Takes<X>): Takes<X> => ({
  expected,
  fits: (value) => value === undefined || fits(value),
});

/** An object that has these members alone. */
export const variant = <T extends object>(
  entries: {
    readonly [Name in keyof T]-?: Takes<Exclude<T[Name], undefined>>;
  },
): Takes<T> => {
  const members = Object.entries(entries) as [string, Expected][];
  const fits = (value: unknown): boolean => {
    if (!isPlain(value)) return false;
    let known = 0;
    for (let i = 0; i < members.length; i++) {
      const member = value[members[i]![0]];
      if (!members[i]![1].fits(member)) return false;
      if (member !== undefined) known++;
    }
    const names = Object.keys(value);
    return names.length === known || names.every((name) => Object.hasOwn(entries, name));
  };
  return { expected: 'an object', fits, members };
};

/** @throws KernelError for an argument that is not what the kernel takes, or a member of one. */
export function checkArguments(
  { kernel, args }: { readonly kernel: string; readonly args: readonly (readonly [string, Expected])[] },
  given: readonly unknown[],
): void {
  for (let i = 0; i < args.length; i++) {
    const [name, expected] = args[i]!;
    if (!expected.fits(given[i])) throw new KernelError(kernel, wrong(name, expected, given[i]));
  }
}

function wrong(name: string, { expected, members = [] }: Expected, value: unknown): string {
  if (isPlain(value) && members.length > 0) {
    const unknown = Object.keys(value).find((key) => members.every(([known]) => known !== key));
    if (unknown !== undefined)
      return `${name} has no ${show(unknown)}; it has ${members.map(([known]) => known).join(', ')}`;
    const [member, takes] = members.find(([known, { fits }]) => !fits(value[known]))!;
    return wrong(`${name}.${member}`, takes, value[member]);
  }
  return `${name} is ${value === undefined ? 'missing' : show(value)}, expected ${expected}`;
}
