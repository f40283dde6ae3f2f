/**
 * `config.json` of a model, as its family describes it, and where a text ends by `generation_config.json`.
 *
 * The JSON is kept as it was read: a saved model has it again, with every field that nobody here knows. What this project does
 * not compute is refused by the family, by name, rather than computed wrongly later.
 */

import * as v from 'valibot';
import { UserError } from '../engine/errors.ts';
import { type Field, like, list, show } from '../engine/options.ts';
import type { ByteFolder } from './byteSource.ts';
import { type Description, isTied } from './description.ts';
import type { Family } from './families/family.ts';
import { checkConfig, idsField } from './families/fields.ts';
import { FAMILIES } from './families/index.ts';
import { parseJson } from './json.ts';
import { shortened } from './safetensors.ts';

/** A model's config, as it was read and as its family describes it. */
export interface ModelConfig {
  readonly family: Family;
  /** `config.json`. */
  readonly json: Readonly<Record<string, unknown>>;
  /** Text that it was read from: to Python, 5.0 is another number than 5. */
  readonly text?: string;
  readonly description: Description;
  /** Ids that end a text: of `generation_config.json`, else of `config.json`; may be empty. */
  readonly endIds: readonly number[];
}

/** Families to look in besides those of this package, and before them. */
export type Families = readonly Family[];

/** The same as a field of options. */
export const familiesField: Field<Families> = list(
  like<Family>(
    (value) => typeof (value as Family | null)?.describe === 'function',
    'a family: { type, architecture, checkpoint, presets, describe }',
  ),
  'a list of families',
);

const FILE = 'config.json';
/** Where a text ends, among other things. */
export const GENERATION_FILE = 'generation_config.json';

/**
 * Reads and checks a folder's `config.json`, and of a causal model's `generation_config.json` where a text ends.
 * @throws UserError `config`, one line naming the field.
 */
export async function readConfig(folder: ByteFolder, families: Families = []): Promise<ModelConfig> {
  if (!(await folder.has(FILE))) {
    throw new UserError('config', `${folder.name}: has no ${FILE}; is it a model's folder?`);
  }
  const text = await folder.readText(FILE);
  const name = `${folder.name}: ${FILE}`;
  const config: ModelConfig = { ...parseConfig(parseJson(text, name, 'config'), name, families), text };
  if (!config.description.causal || !(await folder.has(GENERATION_FILE))) return config;
  const other = `${folder.name}: ${GENERATION_FILE}`;
  const generation = parseJson(await folder.readText(GENERATION_FILE), other, 'config');
  const endIds = endIdsOf(generation, other, config.description);
  return endIds.length > 0 ? { ...config, endIds } : config;
}

const object = v.custom<object>(
  (value) => typeof value === 'object' && value !== null && !Array.isArray(value),
  'must hold an object',
);
const endSchema = v.pipe(object, v.object({ eos_token_id: idsField }));

function endIdsOf(json: unknown, name: string, { sizes }: Description): number[] {
  const { eos_token_id: end } = checkConfig(endSchema, json, name);
  const ids = typeof end === 'number' ? [end] : (end ?? []);
  const wrong = ids.find((id) => id < 0 || id >= sizes.vocabulary);
  if (wrong !== undefined)
    throw new UserError(
      'config',
      `${name}: eos_token_id ${wrong} is outside the vocabulary, 0..${sizes.vocabulary - 1}`,
    );
  return ids;
}

/** Checks a parsed `config.json`; `name` begins every message. @throws UserError `config`. */
export function parseConfig(json: unknown, name: string = FILE, families: Families = []): ModelConfig {
  const type = (json as { model_type?: unknown } | null)?.model_type;
  refuseQuantised(json, name);
  const known = [...families, ...Object.values(FAMILIES)];
  const family = known.find((each) => each.type === type);
  if (!family)
    throw new UserError(
      'config',
      `${name}: model_type ${type === undefined ? 'is missing' : `${show(type)} is not supported`}; supported: ${known.map((each) => `${each.type} (${each.architecture})`).join(', ')}`,
    );
  const description = family.describe(json, name);
  return {
    family,
    json: json as Record<string, unknown>,
    description,
    endIds: description.causal ? endIdsOf(json, name, description) : [],
  };
}

/** The same model with a decoder of its own. */
export const untied = (config: ModelConfig): ModelConfig =>
  isTied(config.description) ? changed(config, { tie_word_embeddings: false }) : config;

/** A model of the same family with other values in its config.json. @throws UserError `config` */
export function changed(config: ModelConfig, json: Readonly<Record<string, unknown>>): ModelConfig {
  const next = { ...config.json, ...json };
  return { ...config, json: next, description: config.family.describe(next, FILE) };
}

/** @throws UserError that names the method where the weights are quantised. */
function refuseQuantised(json: unknown, name: string): void {
  for (const field of ['quantization_config', 'compression_config']) {
    const value = (json as Record<string, unknown> | null)?.[field];
    if (value == null) continue;
    const { quant_method, quant_type, format, bits, w_bit, load_in_4bit, load_in_8bit } = value as Record<
      string,
      unknown
    >;
    const method = [quant_method, quant_type, format].find((each) => typeof each === 'string' && each !== '');
    const width = [bits, w_bit, load_in_4bit === true && 4, load_in_8bit === true && 8].find(Number.isFinite);
    const said = [...(method ? [shortened(`${method}`)] : []), ...(width ? [`${width} bits`] : [])].join(
      ', ',
    );
    throw new UserError(
      'config',
      `${name}: ${field} ${said ? `says ${said}` : 'is there'}: quantised checkpoints are not supported, take the float weights`,
    );
  }
}
