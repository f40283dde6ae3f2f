/** Options of many prompts: one value for all of them, or a list of one a prompt. */

import * as v from 'valibot';
import { UserError } from '../engine/errors.ts';
import { type Field, like } from '../engine/options.ts';
import type { Probe } from './predict.ts';

/** One value for all prompts, or one a prompt. */
export type OneOrEach<Value> = Value | readonly Value[];

/** The same as a field of options. */
export const oneOrEach = <Value>(
  field: Field<Value>,
  expected: string,
): Field<Value | readonly (Value | undefined)[]> =>
  like(
    (value) =>
      Array.isArray(value)
        ? value.every((each) => each === undefined || v.is(field, each))
        : v.is(field, value),
    expected,
  );

/** A value for each prompt. @param door the function, for the error. @throws UserError for a list of another length. */
export const eachOf =
  (door: string, probes: readonly unknown[]) =>
  <Value>(name: string, given: OneOrEach<Value>): readonly Value[] => {
    if (!isList(given)) return probes.map(() => given);
    if (given.length === probes.length) return given;
    throw new UserError(
      'option',
      `${door}: ${given.length} ${name} for ${probes.length} prompts; give one a prompt, or one for all`,
    );
  };

const isList = <Value>(value: OneOrEach<Value>): value is readonly Value[] => Array.isArray(value);

/** Whether a list of neurons, or of such, is one list a prompt. */
export const isListOfLists = <Value>(
  given: readonly Value[] | readonly (readonly Value[])[],
): given is readonly (readonly Value[])[] => given.length > 0 && given.every(Array.isArray);

/** Whether many prompts were given, or one. */
export const isMany = (probes: Probe | readonly Probe[]): probes is readonly Probe[] => Array.isArray(probes);
