/**
 * JSON that somebody else wrote, checked before it is believed: it may be of another program or version, cut short or made to do
 * harm. Every file of JSON in a run's or a prober's folder comes in through here.
 */

import * as v from 'valibot';
import { UserError } from '../engine/errors.ts';
import { show } from '../engine/options.ts';

/** A text as JSON. @param name of its file. @throws UserError `code` where it is none. */
export function parseJson(text: string, name: string, code: string): unknown {
  try {
    // As Windows editors begin a file.
    return JSON.parse(text.replace(/^\ufeff/, ''));
  } catch (cause) {
    throw new UserError(code, `${name}: is not JSON`, { cause });
  }
}

/** A value that has the fields of a schema. @throws UserError `code`, naming the first field that is not as it should be. */
export function checkJson<Schema extends v.GenericSchema>(
  schema: Schema,
  json: unknown,
  name: string,
  code: string,
): v.InferOutput<Schema> {
  const result = v.safeParse(schema, json);
  if (result.success) return result.output;
  const [issue] = result.issues;
  const field = v.getDotPath(issue) ?? 'the file';
  throw new UserError(
    code,
    issue.input === undefined
      ? `${name}: ${field} is missing`
      : `${name}: ${field} is ${show(issue.input)}${issue.expected ? `, expected ${issue.expected}` : `: ${issue.message}`}`,
  );
}
