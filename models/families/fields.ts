/**
 * Fields of config.json that several families have, checked as Hugging Face transformers understands them, and the parts of
 * descriptions made of them. Defaults are those of transformers' config classes.
 *
 * An absent key takes the default. Null is not absent: it takes the place of "false" or "none" where transformers takes it for
 * that, and else is refused as no value of its field.
 */

import * as v from 'valibot';
import { UserError } from '../../engine/errors.ts';
import { show } from '../../engine/options.ts';
import { ACTIVATION_NAMES, ACTIVATIONS, type ActivationName } from '../../kernels/activation.ts';
import type { LinearSpec, NormSpec, StoredRows } from '../block.ts';

/** @throws UserError `config`, one line naming the field. */
export function checkConfig<Schema extends v.GenericSchema>(
  schema: Schema,
  json: unknown,
  name: string,
): v.InferOutput<Schema> {
  const result = v.safeParse(schema, json);
  if (result.success) return result.output;
  const issue = result.issues[0];
  const field = v.getDotPath(issue) ?? 'the file';
  const missing = issue.input === undefined;
  throw new UserError('config', `${name}: ${field} ${missing ? 'is missing' : describeIssue(issue)}`);
}

function describeIssue(issue: v.BaseIssue<unknown>): string {
  // Of JSON itself: it has no word for the infinity that 1e400 is read as, and overflows the stack where lists nest deep.
  const { input } = issue;
  const value = typeof input === 'string' ? JSON.stringify(input) : show(input);
  return value.length > 40 ? issue.message : `${issue.message}, not ${value}`;
}

/** A positive whole number; the limit only keeps a hostile file from asking for absurd memory. */
export const size = (limit: number) => {
  const message = `must be a whole number from 1 to ${limit}`;
  return v.pipe(v.number(message), v.integer(message), v.minValue(1, message), v.maxValue(limit, message));
};

export const layersField = size(1024);
export const headsField = size(1024);
export const hiddenField = size(2 ** 16);
export const widthField = size(2 ** 20);
export const vocabularyField = size(2 ** 22);
export const positionsField = size(2 ** 24);

/** The epsilon of a norm. */
export const epsilon = (fallback: number) =>
  v.optional(
    v.pipe(
      v.number('must be a number'),
      v.minValue(0, 'must not be negative'),
      v.maxValue(0.1, 'must be small'),
    ),
    fallback,
  );

/** Null is false, as it is in Python, but refused where an absent key would mean true. */
export const yesNo = (fallback: boolean) => {
  const flag = v.boolean('must be true or false');
  return fallback ? v.optional(flag, true) : v.nullish(flag, false);
};

/** Absent: the default; anything but `allowed` is refused with what it would take. */
export const only = <const T>(allowed: readonly T[], fallback: T) =>
  v.optional(v.picklist(allowed as readonly never[], `must be ${allowed.join(' or ')}`), fallback as never);

/** What is not computed here: refused where it is true. */
export const forbidden = v.nullish(v.literal(false, 'must be false; true is not supported'), false);

const ACTIVATION_OF: ReadonlyMap<string, ActivationName> = new Map(
  ACTIVATION_NAMES.flatMap((name) => ACTIVATIONS[name].names.map((each) => [each, name] as const)),
);

/** An activation by any of its names. */
export const activation = (fallback: ActivationName) =>
  v.pipe(
    v.optional(
      v.picklist([...ACTIVATION_OF.keys()], `must be ${[...ACTIVATION_OF.keys()].join(', ')}`),
      ACTIVATIONS[fallback].names[0]!,
    ),
    v.transform((name) => ACTIVATION_OF.get(name)!),
  );

const tokenId = v.pipe(v.number(), v.integer('must be a whole number'));
/** A token id, or a list of them. */
export const idsField = v.nullish(
  v.union([tokenId, v.array(tokenId)], 'must be a token id or a list of them'),
);

/** The fields of most families. */
export const commonFields = {
  vocab_size: vocabularyField,
  hidden_size: hiddenField,
  num_hidden_layers: layersField,
  num_attention_heads: headsField,
  intermediate_size: widthField,
};

/** @throws UserError where a does not divide into b equal parts. */
export function divides(name: string, whole: string, a: number, part: string, b: number): void {
  if (a % b !== 0) throw new UserError('config', `${name}: ${whole} ${a} is not divisible by ${part} ${b}`);
}

/** A linear map under a module's name. */
export const linearSpec = (module: string, out: number, size: number, bias: boolean): LinearSpec => ({
  weight: `${module}.weight`,
  ...(bias ? { bias: `${module}.bias` } : {}),
  out,
  in: size,
});

/** A linear map that is a part of a stored one, `module.weight[part]`. */
export const partSpec = (
  module: string,
  part: string,
  stored: StoredRows,
  size: number,
  bias: boolean,
): LinearSpec => ({
  weight: `${module}.weight[${part}]`,
  ...(bias ? { bias: `${module}.bias[${part}]` } : {}),
  out: stored.rows.reduce((sum, [, count]) => sum + count, 0),
  in: size,
  stored,
});

/** A norm under a module's name; layer norms have a bias unless it is said that there is none. */
export const normSpec = (
  kind: NormSpec['kind'],
  module: string,
  size: number,
  eps: number,
  hook: string,
  bias: boolean = kind === 'layer',
): NormSpec => ({
  kind,
  weight: `${module}.weight`,
  ...(bias ? { bias: `${module}.bias` } : {}),
  size,
  eps,
  hook,
});
