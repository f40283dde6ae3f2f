/**
 * The components that a `tokenizer.json` may name, with their fields and defaults as the reference reads them. What is
 * not here is refused by name: a component that is passed over gives other tokens without a word.
 */

import * as v from 'valibot';
import { isPlain, show } from '../../engine/options.ts';
import { BEHAVIOURS, type Behaviour, type Pattern } from './pattern.ts';

const pattern = v.union(
  [v.object({ String: v.string() }), v.object({ Regex: v.string() })],
  'must be {"String": …} or {"Regex": …}',
);
const behavior = v.picklist(BEHAVIOURS);
const flag = v.boolean();
const count = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(2 ** 16));
const character = v.pipe(
  v.string(),
  v.check((text) => [...text].length === 1, 'must be one character'),
);
const metaspace = {
  type: v.literal('Metaspace'),
  replacement: v.optional(character, '▁'),
  prepend_scheme: v.optional(v.picklist(['always', 'first', 'never']), 'always'),
  add_prefix_space: v.nullish(flag),
  split: v.nullish(flag, true),
};
const byteLevel = {
  type: v.literal('ByteLevel'),
  add_prefix_space: v.optional(flag, true),
  use_regex: v.optional(flag, true),
};

export type NormalizerSpec =
  | { readonly type: 'Sequence'; readonly normalizers: readonly NormalizerSpec[] }
  | v.InferOutput<(typeof normalizers)[number]>;
const normalizers = [
  v.object({
    type: v.literal('BertNormalizer'),
    clean_text: v.optional(flag, true),
    handle_chinese_chars: v.optional(flag, true),
    strip_accents: v.nullish(flag),
    lowercase: v.optional(flag, true),
  }),
  v.object({ type: v.literal('Strip'), strip_left: flag, strip_right: flag }),
  v.object({ type: v.literal('StripAccents') }),
  v.object({ type: v.picklist(['NFC', 'NFD', 'NFKC', 'NFKD']) }),
  v.object({ type: v.literal('Lowercase') }),
  v.object({ type: v.literal('Nmt') }),
  v.object({ type: v.literal('Precompiled'), precompiled_charsmap: v.string() }),
  v.object({ type: v.literal('Replace'), pattern, content: v.string() }),
  // The reference fails on an empty one.
  v.object({
    type: v.literal('Prepend'),
    prepend: v.pipe(
      v.string(),
      v.check((text) => text !== '', 'must not be empty'),
    ),
  }),
  v.object({ type: v.literal('ByteLevel') }),
] as const;
const normalizerSequence = v.object({
  type: v.literal('Sequence'),
  normalizers: v.array(v.lazy(() => normalizer)),
});
export const normalizer: v.GenericSchema<unknown, NormalizerSpec> = v.variant('type', [
  normalizerSequence,
  ...normalizers,
]);

export type PreTokenizerSpec =
  | { readonly type: 'Sequence'; readonly pretokenizers: readonly PreTokenizerSpec[] }
  | v.InferOutput<(typeof preTokenizers)[number]>;
const preTokenizers = [
  v.object({ type: v.literal('BertPreTokenizer') }),
  v.object({ type: v.literal('Whitespace') }),
  v.object({ type: v.literal('WhitespaceSplit') }),
  v.object({ type: v.literal('CharDelimiterSplit'), delimiter: character }),
  v.object({ type: v.literal('Punctuation'), behavior: v.optional(behavior, 'Isolated') }),
  v.object({ type: v.literal('Digits'), individual_digits: v.optional(flag, false) }),
  v.object({ type: v.literal('Split'), pattern, behavior, invert: v.optional(flag, false) }),
  v.object({
    type: v.literal('FixedLength'),
    length: v.optional(v.pipe(count, v.minValue(1)), 5),
  }),
  v.object(byteLevel),
  v.object(metaspace),
] as const;
export const preTokenizer: v.GenericSchema<unknown, PreTokenizerSpec> = v.variant('type', [
  v.object({ type: v.literal('Sequence'), pretokenizers: v.array(v.lazy(() => preTokenizer)) }),
  ...preTokenizers,
]);

export type DecoderSpec =
  | { readonly type: 'Sequence'; readonly decoders: readonly DecoderSpec[] }
  | v.InferOutput<(typeof decoders)[number]>;
const decoders = [
  v.object(byteLevel),
  v.object({ type: v.literal('ByteFallback') }),
  v.object({
    type: v.literal('WordPiece'),
    prefix: v.optional(v.string(), '##'),
    cleanup: v.optional(flag, true),
  }),
  v.object(metaspace),
  v.object({ type: v.literal('BPEDecoder'), suffix: v.optional(v.string(), '</w>') }),
  v.object({
    type: v.literal('CTC'),
    pad_token: v.optional(v.string(), '<pad>'),
    word_delimiter_token: v.optional(v.string(), '|'),
    cleanup: v.optional(flag, true),
  }),
  v.object({ type: v.literal('Replace'), pattern, content: v.string() }),
  v.object({ type: v.literal('Fuse') }),
  v.object({ type: v.literal('Strip'), content: character, start: count, stop: count }),
] as const;
export const decoder: v.GenericSchema<unknown, DecoderSpec> = v.variant('type', [
  v.object({ type: v.literal('Sequence'), decoders: v.array(v.lazy(() => decoder)) }),
  ...decoders,
]);

const id = v.pipe(v.number(), v.integer(), v.minValue(0));
const around = v.tuple([v.string(), id]);

export type PostProcessorSpec =
  | { readonly type: 'Sequence'; readonly processors: readonly PostProcessorSpec[] }
  | v.InferOutput<(typeof postProcessors)[number]>;
const postProcessors = [
  v.object({ type: v.literal('ByteLevel') }),
  v.object({ type: v.picklist(['BertProcessing', 'RobertaProcessing']), cls: around, sep: around }),
  v.object({
    type: v.literal('TemplateProcessing'),
    single: v.array(
      v.union(
        [
          v.object({ SpecialToken: v.object({ id: v.string() }) }),
          v.object({ Sequence: v.object({ id: v.literal('A') }) }),
        ],
        'must be a SpecialToken or the Sequence A',
      ),
    ),
    special_tokens: v.record(v.string(), v.object({ ids: v.array(id) })),
  }),
] as const;
export const postProcessor: v.GenericSchema<unknown, PostProcessorSpec> = v.variant('type', [
  v.object({ type: v.literal('Sequence'), processors: v.array(v.lazy(() => postProcessor)) }),
  ...postProcessors,
]);

// Their hundreds of thousands of entries are gone through by `checkTokenizerFile`, once.
const table = v.custom<Readonly<Record<string, number>>>(
  (value) => typeof value === 'object' && value !== null && !Array.isArray(value),
  'must be a table of tokens',
);
const merges = v.custom<readonly (string | readonly [string, string])[]>(
  Array.isArray,
  'must be a list of pairs',
);
const scored = v.custom<readonly (readonly [token: string, score: number])[]>(
  (value) => Array.isArray(value) && value.length > 0,
  'must be a list of tokens with their scores',
);
export type ModelSpec = v.InferOutput<(typeof models)[number]>;
const models = [
  v.object({
    type: v.literal('BPE'),
    vocab: table,
    merges,
    dropout: v.nullish(v.number()),
    unk_token: v.nullish(v.string()),
    continuing_subword_prefix: v.nullish(v.string()),
    end_of_word_suffix: v.nullish(v.string()),
    fuse_unk: v.nullish(flag, false),
    byte_fallback: v.nullish(flag, false),
    ignore_merges: v.nullish(flag, false),
  }),
  v.object({
    type: v.literal('WordPiece'),
    vocab: table,
    unk_token: v.optional(v.string(), '[UNK]'),
    continuing_subword_prefix: v.optional(v.string(), '##'),
    max_input_chars_per_word: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0)), 100),
  }),
  v.object({ type: v.literal('WordLevel'), vocab: table, unk_token: v.optional(v.string(), '<unk>') }),
  v.object({
    type: v.literal('Unigram'),
    vocab: scored,
    unk_id: v.nullish(id),
    byte_fallback: v.optional(flag, false),
  }),
] as const;
export const model: v.GenericSchema<unknown, ModelSpec> = v.variant('type', models);

export const addedToken = v.object({
  content: v.string(),
  id,
  single_word: v.optional(flag, false),
  lstrip: v.optional(flag, false),
  rstrip: v.optional(flag, false),
  normalized: v.optional(flag),
  special: v.optional(flag, false),
});
export type AddedTokenSpec = v.InferOutput<typeof addedToken>;

export type { Behaviour, Pattern };

/**
 * Reads a component. @param field where it stands in the file.
 * @throws what `fail` makes of a line that names the field, and for a kind that is not known those that are.
 */
export function readComponent<Spec>(
  schema: v.GenericSchema<unknown, Spec>,
  json: unknown,
  field: string,
  fail: (what: string) => Error,
): Spec {
  const result = v.safeParse(schema, json, { abortEarly: true });
  if (result.success) return result.output;
  const issue = result.issues[0];
  const path = v.getDotPath(issue);
  const where = path === null ? field : `${field}.${path}`;
  if (issue.input === undefined) throw fail(`${where} is missing`);
  const got = isPlain(issue.input) ? '' : show(issue.input);
  if (issue.type === 'variant' && issue.expected?.includes('"') && got) {
    const kinds = [...issue.expected.matchAll(/"(\w+)"/g)].map(([, kind]) => kind).sort();
    throw fail(`${where} ${got} is not supported; supported: ${kinds.join(', ')}`);
  }
  const told = issue.expected === null || issue.type === 'custom' || issue.type === 'union';
  const wanted = told ? issue.message : `must be ${issue.expected}`;
  throw fail(`${where} ${wanted}${got && `, not ${got}`}`);
}
