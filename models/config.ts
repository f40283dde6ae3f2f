/**
 * `config.json` of the two architectures, checked once and turned into the project's own words.
 *
 * Source: `BertConfig` and `LlamaConfig` of Hugging Face transformers, whose defaults hold where a field is absent. What
 * this project does not compute (other activations, RoPE scaling, biases in Llama) is refused here, by name, rather than
 * computed wrongly later.
 */

import * as v from 'valibot';
import { UserError } from '../engine/errors.ts';
import { show } from '../engine/options.ts';
import { ACTIVATIONS, type ActivationName } from '../kernels/activation.ts';
import type { ByteFolder } from './byteSource.ts';
import type { ModelSizes } from './model.ts';
import { shortened } from './safetensors.ts';

export interface BertConfig extends ModelSizes {
  readonly type: 'bert';
  /** Rows of the token type embedding. */
  readonly tokenTypes: number;
  readonly layerNormEpsilon: number;
  /** The decoder is the word embedding. */
  readonly tied: boolean;
}

export interface LlamaConfig extends ModelSizes {
  readonly type: 'llama';
  readonly rmsNormEpsilon: number;
  readonly ropeTheta: number;
  /** `lm_head` is the token embedding. */
  readonly tied: boolean;
  /** Ids that end a text: of `generation_config.json`, else of `config.json`; may be empty. */
  readonly endIds: readonly number[];
}

/** `config.json` in this project's words. */
export type ModelConfig = BertConfig | LlamaConfig;

const FILE = 'config.json';
const GENERATION_FILE = 'generation_config.json';
const SUPPORTED = 'bert (BertForMaskedLM), llama (LlamaForCausalLM)';

/**
 * Reads and checks a folder's `config.json`, and of a causal model's `generation_config.json` where a text ends.
 * @throws UserError `config`, one line naming the field.
 */
export async function readConfig(folder: ByteFolder): Promise<ModelConfig> {
  if (!(await folder.has(FILE))) {
    throw new UserError('config', `${folder.name}: has no ${FILE}; is it a model's folder?`);
  }
  const config = parseConfig(await readJson(folder, FILE), `${folder.name}: ${FILE}`);
  if (config.type !== 'llama' || !(await folder.has(GENERATION_FILE))) return config;
  const name = `${folder.name}: ${GENERATION_FILE}`;
  const endIds = idsOf(check(generationSchema, await readJson(folder, GENERATION_FILE), name).eos_token_id);
  return endIds.length > 0 ? { ...config, endIds } : config;
}

async function readJson(folder: ByteFolder, file: string): Promise<unknown> {
  const text = await folder.readText(file);
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new UserError('config', `${folder.name}: ${file} is not JSON`, { cause });
  }
}

/** Checks a parsed `config.json`; `name` begins every message. @throws UserError `config`. */
export function parseConfig(json: unknown, name: string = FILE): ModelConfig {
  const type = (json as { model_type?: unknown } | null)?.model_type;
  refuseQuantised(json, name);
  if (type === 'bert') return toBert(check(bertSchema, json, name), name);
  if (type === 'llama') return toLlama(check(llamaSchema, json, name), name);
  throw new UserError(
    'config',
    `${name}: model_type ${type === undefined ? 'is missing' : `${show(type)} is not supported`}; supported: ${SUPPORTED}`,
  );
}

/** A positive whole number; the limit only keeps a hostile file from asking for absurd memory. */
const size = (limit: number) => {
  const message = `must be a whole number from 1 to ${limit}`;
  return v.pipe(v.number(message), v.integer(message), v.minValue(1, message), v.maxValue(limit, message));
};

const epsilon = v.pipe(
  v.number('must be a number'),
  v.minValue(0, 'must not be negative'),
  v.maxValue(0.1, 'must be small'),
);

/** Absent or null: the default; anything but `allowed` is refused with what it would take. */
const only = <const T>(allowed: readonly T[], fallback: T) =>
  v.nullish(v.picklist(allowed as readonly never[], `must be ${allowed.join(' or ')}`), fallback as never);

/** By any of its names. */
const activation = (name: ActivationName) =>
  v.nullish(v.picklist(ACTIVATIONS[name].names, `must be ${name}`), name);

const forbidden = v.nullish(v.literal(false, 'must be false; true is not supported'), false);

const common = {
  vocab_size: size(2 ** 22),
  hidden_size: size(2 ** 16),
  num_hidden_layers: size(1024),
  num_attention_heads: size(1024),
  intermediate_size: size(2 ** 20),
};

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

const tokenId = v.pipe(v.number(), v.integer('must be a whole number'));
const endIds = v.nullish(v.union([tokenId, v.array(tokenId)], 'must be a token id or a list of them'));
const generationSchema = v.pipe(
  v.custom<object>((value) => typeof value === 'object' && !Array.isArray(value), 'must hold an object'),
  v.object({ eos_token_id: endIds }),
);

const bertSchema = v.object({
  ...common,
  max_position_embeddings: v.nullish(size(2 ** 24), 512),
  type_vocab_size: v.nullish(size(2 ** 16), 2),
  layer_norm_eps: v.nullish(epsilon, 1e-12),
  hidden_act: activation('gelu'),
  position_embedding_type: only(['absolute'], 'absolute'),
  is_decoder: forbidden,
  tie_word_embeddings: v.nullish(v.boolean('must be true or false'), true),
});

/** The base of the rotary angles: below 1 they would grow along the head, at 0 or less they are no numbers. */
const theta = v.nullish(
  v.pipe(
    v.number('must be a number'),
    v.minValue(1, 'must be at least 1'),
    v.finite('must be a finite number'),
  ),
);

/** A factor that changes nothing. */
const unchanged = only([1], 1);

/**
 * Today `rope_scaling`; `rope_parameters` (with the theta inside) in transformers 5. Whatever else they hold asks for positions
 * that are turned in another way.
 */
const rope = v.nullish(
  v.pipe(
    v.custom<object>(
      (value) => typeof value === 'object' && !Array.isArray(value),
      'must be an object or null',
    ),
    v.objectWithRest(
      {
        rope_type: only(['default'], 'default'),
        type: only(['default'], 'default'),
        factor: unchanged,
        partial_rotary_factor: unchanged,
        rope_theta: theta,
      },
      v.nullish(v.custom<undefined>(() => false, 'must be left out (RoPE scaling is not supported)')),
    ),
  ),
);

const llamaSchema = v.object({
  ...common,
  max_position_embeddings: v.nullish(size(2 ** 24), 2048),
  num_key_value_heads: v.nullish(size(1024)),
  head_dim: v.nullish(size(2 ** 12)),
  rms_norm_eps: v.nullish(epsilon, 1e-6),
  rope_theta: theta,
  partial_rotary_factor: unchanged,
  rope_scaling: rope,
  rope_parameters: rope,
  hidden_act: activation('silu'),
  attention_bias: forbidden,
  mlp_bias: forbidden,
  tie_word_embeddings: v.nullish(v.boolean('must be true or false'), false),
  eos_token_id: endIds,
});

/** Numbers in the table of rotary positions, a gibibyte: 2^21 positions at head size 128. */
const LARGEST_TABLE = 2 ** 28;

function check<Schema extends v.GenericSchema>(
  schema: Schema,
  json: unknown,
  name: string,
): v.InferOutput<Schema> {
  const result = v.safeParse(schema, json);
  if (result.success) return result.output;
  const issue = result.issues[0];
  const field = v.getDotPath(issue) ?? 'the file';
  const missing = issue.input === undefined;
  throw new UserError('config', `${name}: ${field} ${missing ? 'is missing' : describe(issue)}`);
}

function describe(issue: v.BaseIssue<unknown>): string {
  // Of JSON itself: it has no word for the infinity that 1e400 is read as, and overflows the stack where lists nest deep.
  const { input } = issue;
  const value = typeof input === 'string' ? JSON.stringify(input) : show(input);
  return value.length > 40 ? issue.message : `${issue.message}, not ${value}`;
}

function toBert(json: v.InferOutput<typeof bertSchema>, name: string): BertConfig {
  const heads = json.num_attention_heads;
  divides(name, 'hidden_size', json.hidden_size, 'num_attention_heads', heads);
  return {
    type: 'bert',
    ...sizesOf(json),
    heads,
    keyValueHeads: heads,
    headSize: json.hidden_size / heads,
    tokenTypes: json.type_vocab_size,
    layerNormEpsilon: json.layer_norm_eps,
    tied: json.tie_word_embeddings,
  };
}

function toLlama(json: v.InferOutput<typeof llamaSchema>, name: string): LlamaConfig {
  const heads = json.num_attention_heads;
  const keyValueHeads = json.num_key_value_heads ?? heads;
  if (json.head_dim == null) divides(name, 'hidden_size', json.hidden_size, 'num_attention_heads', heads);
  divides(name, 'num_attention_heads', heads, 'num_key_value_heads', keyValueHeads);
  const headSize = json.head_dim ?? json.hidden_size / heads;
  if (headSize % 2 !== 0) {
    throw new UserError(
      'config',
      `${name}: the head size ${headSize} is odd; rotary positions turn pairs of numbers`,
    );
  }
  const positions = json.max_position_embeddings;
  if (positions * headSize > LARGEST_TABLE) {
    throw new UserError(
      'config',
      `${name}: max_position_embeddings ${positions} needs a table of ${(positions * headSize) / 2 ** 28} GiB at head size ${headSize}; write the longest text you need there, at most ${Math.floor(LARGEST_TABLE / headSize)} tokens`,
    );
  }
  return {
    type: 'llama',
    ...sizesOf(json),
    heads,
    keyValueHeads,
    headSize,
    rmsNormEpsilon: json.rms_norm_eps,
    ropeTheta: ropeTheta(json, name),
    tied: json.tie_word_embeddings,
    endIds: idsOf(json.eos_token_id),
  };
}

const idsOf = (end: number | number[] | null | undefined): number[] =>
  typeof end === 'number' ? [end] : (end ?? []);

/** The theta of the fields that give one, which must agree: nobody could say which of them the weights were trained with. */
function ropeTheta(json: v.InferOutput<typeof llamaSchema>, name: string): number {
  const [first, ...others] = [
    { field: 'rope_theta', value: json.rope_theta },
    { field: 'rope_parameters.rope_theta', value: json.rope_parameters?.rope_theta },
    { field: 'rope_scaling.rope_theta', value: json.rope_scaling?.rope_theta },
  ].filter(({ value }) => value != null);
  const other = others.find(({ value }) => value !== first!.value);
  if (other) {
    throw new UserError(
      'config',
      `${name}: ${first!.field} ${first!.value} and ${other.field} ${other.value} differ; leave one of them out`,
    );
  }
  return first?.value ?? 10000;
}

function sizesOf(json: {
  num_hidden_layers: number;
  hidden_size: number;
  intermediate_size: number;
  vocab_size: number;
  max_position_embeddings: number;
}) {
  return {
    layers: json.num_hidden_layers,
    hidden: json.hidden_size,
    width: json.intermediate_size,
    vocabulary: json.vocab_size,
    positions: json.max_position_embeddings,
  };
}

function divides(name: string, whole: string, a: number, part: string, b: number): void {
  if (a % b !== 0) throw new UserError('config', `${name}: ${whole} ${a} is not divisible by ${part} ${b}`);
}
