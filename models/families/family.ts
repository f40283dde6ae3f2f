/**
 * A family of models: how its `config.json` is read, and what its blocks are.
 *
 * A family is a value. Those of this package are listed in index.ts; others are handed to loading (docs/extending.md).
 */

import type * as v from 'valibot';
import type { Description } from '../description.ts';
import type { Metadata } from '../gguf/metadata.ts';
import { checkConfig } from './fields.ts';

/** What the names in a family's checkpoints may look like, besides those of its parameters. */
export interface CheckpointNames {
  /** What a base model's own checkpoint leaves off the names. */
  readonly prefix: string;
  /** Stored by some writers, needed by nobody. */
  readonly needless?: readonly RegExp[];
  /** Further names of tensors that are one: the copy, and the parameter. */
  readonly copies?: Readonly<Record<string, string>>;
  /** Older names: what is replaced, by what. */
  readonly renamed?: readonly (readonly [RegExp, string])[];
}

/** A family's GGUF files. */
export interface GgufRecord {
  /** Their `general.architecture`. */
  readonly architecture: string;
  /** Which of the files of that architecture, where relatives share it. */
  readonly is?: (of: Metadata) => boolean;
  /** What config.json says besides `model_type`, the vocabulary and whether the decoder is tied. @throws UserError `gguf` */
  readonly config: (of: Metadata) => Record<string, unknown>;
  /** Rows of each head's queries and keys are there in pairs that are rotated together, not as halves. */
  readonly interleaved?: boolean;
}

/** Models of one `model_type`. */
export interface Family {
  /** `model_type` in config.json. */
  readonly type: string;
  /** `architectures` in config.json: the class in Hugging Face transformers with the head that this project runs. */
  readonly architecture: string;
  readonly checkpoint: CheckpointNames;
  /** Published sizes by name, as config.json has them, `model_type` and the like aside. */
  readonly presets: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  /** Absent: its GGUF files are not read. */
  readonly gguf?: GgufRecord;
  /**
   * What a config.json says.
   * @param name begins every message.
   * @throws UserError `config`, naming the field that is missing, wrong, or asks for what is not computed here
   */
  describe(json: unknown, name: string): Description;
}

/** A family from a schema of its config.json and what to make of it. */
export function family<Schema extends v.GenericSchema>(
  of: Omit<Family, 'describe'> & {
    readonly schema: Schema;
    readonly describe: (json: v.InferOutput<Schema>, name: string) => Description;
  },
): Family {
  const { schema, describe, ...rest } = of;
  return { ...rest, describe: (json, name) => describe(checkConfig(schema, json, name), name) };
}
