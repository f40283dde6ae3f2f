/**
 * What a run is told, as schemas: input, patches, edits, captures, gradients. A name that is not known would be a change that
 * does not happen, or a mask that masks nothing.
 */

import * as v from 'valibot';
import { UserError } from '../engine/errors.ts';
import {
  callback,
  checkOptions,
  either,
  type Field,
  flag,
  isPlain,
  like,
  list,
  one,
  optionsSchema,
  required,
  show,
  text,
  whole,
} from '../engine/options.ts';
import { Tensor } from '../engine/tensor.ts';
import {
  type Captured,
  type ModelInput,
  type Objective,
  PATCH_OPS,
  type Patch,
  type PatchPosition,
  QUANTITIES,
  type RunOptions,
  type ScalarOf,
} from './model.ts';

// Of what the numbers are is looked at with the model's sizes, once.
const table = (what: string): Field<readonly (readonly number[])[]> =>
  like((value) => Array.isArray(value) && value.every(Array.isArray), `a list of rows of ${what}: [[…]]`);

const inputOptions = optionsSchema<ModelInput>(
  {
    ids: required(table('token ids')),
    attentionMask: table('0 and 1'),
    positionIds: table('positions'),
    tokenTypeIds: table('0 and 1'),
  },
  { inputIds: 'ids', tokens: 'ids', mask: 'attentionMask', segmentIds: 'tokenTypeIds' },
);

const hasCaptures = (value: unknown): boolean =>
  typeof value === 'object' && value !== null && (value as Captured).captures instanceof Map;
const indices = (what: string): Field<number | readonly number[]> =>
  either(whole(), list(whole(), 'a list of indices'), `${what}, or a list of such`);
const VALUE = 'a number, lists of numbers or a tensor';
const valueField = like<NonNullable<Patch['value']>>(
  (value) =>
    typeof value === 'number' || Array.isArray(value) || ArrayBuffer.isView(value) || value instanceof Tensor,
  VALUE,
);
/** What a patch says, but for its position. */
export const onePatch = {
  name: required(text),
  row: either(one(['all']), indices('a row'), "a row, a list of rows or 'all'"),
  head: indices('a head'),
  neuron: either(
    one(['all']),
    indices('an index along the last axis'),
    "an index along the last axis, a list of indices, or 'all'",
  ),
  op: required(one(PATCH_OPS)),
  value: valueField,
  from: like<Captured>(hasCaptures, 'another run, with captures'),
  reference: like<Captured | Tensor>(
    (value) => value instanceof Tensor || hasCaptures(value),
    'a run with captures, or a tensor',
  ),
  over: one(['rows', 'all']),
  random: callback<() => number>(),
  along: one(['plain', 'outward']),
};
const integer = like<number>(Number.isSafeInteger, 'a whole number');
const position: Field<PatchPosition> = either(
  one(['all', 'every new token']),
  either(integer, list(integer, 'a list of positions'), 'a position or a list of them'),
  "a position, a list of positions, 'all' or 'every new token'",
);
export const PATCH_NAMES = {
  hook: 'name',
  index: 'neuron',
  neurons: 'neuron',
  batch: 'row',
  rows: 'row',
  mode: 'op',
  heads: 'head',
  source: 'from',
} as const;
/** A list of patches. */
export const patchList: Field<readonly Patch[]> = list<Patch>(
  optionsSchema<Patch>(
    { ...onePatch, position: required(position) },
    { ...PATCH_NAMES, token: 'position', positions: 'position', pos: 'position' },
  ),
  'a list of patches: [{ name, position, neuron, op, value }]',
);
/** Edits by the name of their value. */
export const edits: Field<NonNullable<RunOptions['edit']>> = like(
  (value) => isPlain(value) && Object.values(value).every((edit) => typeof edit === 'function'),
  "functions by name: { 'blocks.0.hook_resid_post': (value) => … }",
);
/** Names of values. */
export const names = list(text, 'a list of names');
const numbers = list(whole(), 'a list of a number a row');

/** An objective, or a function of the logits; the error of one that is neither is the objective's. */
export const objective = <X>(fields: Field<X>): Field<X | ScalarOf> =>
  ({
    ...v.lazy((value) => (typeof value === 'function' ? callback() : fields)),
    entries: (fields as unknown as { entries: unknown }).entries,
  }) as unknown as Field<X | ScalarOf>;
/** What an objective says of a row at one position. */
export const ofRows = {
  of: required(one([...QUANTITIES, 'logodds', 'logit_diff'] as const)),
  target: required(either(numbers, one(['argmax']), "a list of a number a row, or 'argmax'")),
  other: numbers,
};
export const GRAD_NAMES = { names: 'at', objective: 'of' } as const;

const runOptions = optionsSchema<RunOptions>(
  {
    patch: patchList,
    edit: edits,
    capture: names,
    fusedAttention: flag,
    fusedNorm: flag,
    grad: optionsSchema<NonNullable<RunOptions['grad']>>(
      {
        at: required(names),
        of: required(objective(optionsSchema<Objective>({ ...ofRows, position: required(numbers) }))),
      },
      GRAD_NAMES,
    ),
    logits: either(
      one(['all', 'none']),
      list(whole(), 'positions'),
      "'all', 'none', or a list of a position a row",
    ),
    recompute: flag,
    lastLayer: one(['all', 'read']),
  },
  { hooks: 'edit', gradient: 'grad', gradients: 'grad', cache: 'capture' },
);

/** What of a patch depends on the rest of it. One number for whole tokens is more often a neuron forgotten than meant. @throws UserError `option` */
export function checkPatches(door: string, patches: readonly Omit<Patch, 'position'>[] = []): void {
  const missing = (i: number, name: string, expected: string): never => {
    throw new UserError('option', `${door}: patch[${i}].${name} is missing, expected ${expected}`);
  };
  for (const [i, { neuron, head, value, from, op }] of patches.entries()) {
    if (typeof value === 'number' && neuron === undefined && head === undefined)
      missing(i, 'neuron', "an index along the last axis, a list of indices, 'all', or a head");
    if ((op === 'add' || op === 'set' || op === 'scale') && value === undefined && from === undefined)
      missing(i, 'value', `${VALUE}, or from, another run`);
  }
}

/** @throws UserError `option`: what a run cannot be told, or what of it is not as it must be. */
export function checkRun(input: ModelInput, options: RunOptions): void {
  checkOptions('run: input', inputOptions, input);
  checkOptions('run', runOptions, options);
  checkPatches('run', options.patch);
}

/** @throws UserError where a function of the user's, which `what` names, gave no tensor. */
export function checkGiven(what: string, given: unknown): asserts given is Tensor {
  if (given instanceof Tensor) return;
  const found = given === undefined ? 'nothing' : given instanceof Promise ? 'a promise' : show(given);
  throw new UserError('option', `${what} returned ${found}, expected a tensor`);
}
