/**
 * The vocabulary in a GGUF file's metadata as the `tokenizer.json` and `tokenizer_config.json` that it was made of, as far as it
 * tells: BPE over bytes with the pre-tokenizer that `tokenizer.ggml.pre` names, and SentencePiece's BPE.
 *
 * Sources: `llama-vocab.cpp` of llama.cpp for what each name of a pre-tokenizer stands for; transformers' `SentencePieceExtractor`
 * for merges from scores.
 */

import { show } from '../../engine/options.ts';
import type { GgufValue } from './header.ts';
import type { Metadata } from './metadata.ts';

type Json = Record<string, unknown>;

/** Kinds of tokens, by number. */
const [UNKNOWN, CONTROL, USER_DEFINED] = [2, 3, 4];

const byteLevel = (useRegex: boolean): Json => ({
  type: 'ByteLevel',
  add_prefix_space: false,
  trim_offsets: true,
  use_regex: useRegex,
});
const split = (pattern: string): Json => ({
  type: 'Split',
  pattern: { Regex: pattern },
  behavior: 'Isolated',
  invert: false,
});
const sequence = (...pretokenizers: Json[]): Json => ({ type: 'Sequence', pretokenizers });

const GPT2 = byteLevel(true);
/** Digits apart, then GPT-2's. */
const STARCODER = sequence({ type: 'Digits', individual_digits: true }, GPT2);
const words = (digits: string): Json =>
  sequence(
    split(
      `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`,
    ),
    byteLevel(false),
  );
const LLAMA3 = words('{1,3}');
const QWEN2 = words('');

/** What splits texts into words, by `tokenizer.ggml.pre`. */
const PRE_TOKENIZERS: Readonly<Record<string, Json>> = {
  'gpt-2': GPT2,
  'gpt-neox': GPT2,
  'phi-2': GPT2,
  'jina-es': GPT2,
  'jina-de': GPT2,
  mpt: GPT2,
  olmo: GPT2,
  exaone: GPT2,
  smollm: STARCODER,
  starcoder: STARCODER,
  codeshell: STARCODER,
  refact: STARCODER,
  'command-r': STARCODER,
  'llama-bpe': LLAMA3,
  'llama-v3': LLAMA3,
  llama3: LLAMA3,
  dbrx: LLAMA3,
  'smaug-bpe': LLAMA3,
  falcon3: LLAMA3,
  qwen2: QWEN2,
  stablelm2: QWEN2,
  'deepseek-r1-qwen': QWEN2,
};
/** Whole words are looked up before they are merged. */
const WHOLE_WORDS = new Set(['llama-bpe', 'llama-v3', 'llama3', 'falcon3']);
/** Characters are composed first. */
const COMPOSED = new Set(['qwen2', 'deepseek-r1-qwen', 'gpt-neox', 'olmo']);

/** @throws UserError `gguf` for a vocabulary that is none, or of a kind that is not supported. */
export function tokenizerOf(of: Metadata): { readonly tokenizer: Json; readonly config: Json } {
  const kind = of.text('tokenizer.ggml.model');
  const tokens = list(of, 'tokens', 'string');
  if (kind === undefined || !tokens) throw of.fail('has no vocabulary (tokenizer.ggml.tokens)');
  const types = list(of, 'token_type', 'number') ?? [];
  const made =
    kind === 'gpt2' ? bytesBpe(of, tokens) : kind === 'llama' ? sentencePiece(of, tokens, types) : undefined;
  if (!made) throw of.fail(`its vocabulary is of kind ${show(kind)}; gpt2 and llama are supported`);
  const token = (name: string): string | undefined => tokens[of.tokenId(name) ?? -1];
  const [bos, eos] = [token('bos'), token('eos')];
  const added = tokens.flatMap((content, id) => {
    const type = types[id];
    if (type !== CONTROL && type !== USER_DEFINED && type !== UNKNOWN) return [];
    const special = type !== USER_DEFINED;
    return [{ id, content, special, single_word: false, lstrip: false, rstrip: false, normalized: false }];
  });
  const begins = of.flag('tokenizer.ggml.add_bos_token') ?? made.begins;
  const ends = of.flag('tokenizer.ggml.add_eos_token') ?? false;
  return {
    tokenizer: {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: added,
      normalizer: made.normalizer,
      pre_tokenizer: made.preTokenizer,
      post_processor: around(tokens, begins ? bos : undefined, ends ? eos : undefined),
      decoder: made.decoder,
      model: made.model,
    },
    config: {
      bos_token: bos,
      eos_token: eos,
      unk_token: token('unknown'),
      pad_token: token('padding'),
      chat_template: of.text('tokenizer.chat_template'),
      clean_up_tokenization_spaces: false,
    },
  };
}

interface Made {
  readonly model: Json;
  readonly normalizer: Json | null;
  readonly preTokenizer: Json | null;
  readonly decoder: Json;
  /** Whether texts begin with a token where the file does not say. */
  readonly begins: boolean;
}

function bytesBpe(of: Metadata, tokens: readonly string[]): Made {
  const pre = of.text('tokenizer.ggml.pre') ?? '';
  if (!Object.hasOwn(PRE_TOKENIZERS, pre))
    throw of.fail(
      `its pre-tokenizer ${show(pre)} is not supported; supported: ${Object.keys(PRE_TOKENIZERS).join(', ')}`,
    );
  return {
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: WHOLE_WORDS.has(pre),
      vocab: vocabularyOf(of, tokens),
      merges: list(of, 'merges', 'string') ?? [],
    },
    normalizer: COMPOSED.has(pre) ? { type: 'NFC' } : null,
    preTokenizer: PRE_TOKENIZERS[pre]!,
    decoder: byteLevel(true),
    begins: WHOLE_WORDS.has(pre),
  };
}

const SPACE = '▁';

function sentencePiece(of: Metadata, tokens: readonly string[], types: readonly number[]): Made {
  const scores = list(of, 'scores', 'number');
  if (scores?.length !== tokens.length)
    throw of.fail('has a SentencePiece vocabulary without a score for each token');
  const prefixed = of.flag('tokenizer.ggml.add_space_prefix') ?? true;
  const unknown = types.indexOf(UNKNOWN);
  return {
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: unknown < 0 ? null : tokens[unknown],
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: true,
      byte_fallback: tokens.includes('<0x00>'),
      ignore_merges: false,
      vocab: vocabularyOf(of, tokens),
      merges: mergesOf(tokens, scores),
    },
    normalizer: {
      type: 'Sequence',
      normalizers: [
        ...(prefixed ? [{ type: 'Prepend', prepend: SPACE }] : []),
        { type: 'Replace', pattern: { String: ' ' }, content: SPACE },
      ],
    },
    preTokenizer: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: SPACE }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        ...(prefixed ? [{ type: 'Strip', content: ' ', start: 1, stop: 0 }] : []),
      ],
    },
    begins: true,
  };
}

/** Every way to put a token together of two, those of the highest score first. */
function mergesOf(tokens: readonly string[], scores: readonly number[]): string[][] {
  const ids = new Map(tokens.map((token, id) => [token, id]));
  const merges = tokens.flatMap((token, id) => {
    const letters = [...token];
    return letters.slice(1).flatMap((_, i) => {
      const parts = [letters.slice(0, i + 1).join(''), letters.slice(i + 1).join('')] as const;
      const places = parts.map((part) => ids.get(part));
      return places.includes(undefined)
        ? []
        : [{ parts, places: places as number[], score: scores[id]!, id }];
    });
  });
  merges.sort(
    (a, b) => b.score - a.score || a.id - b.id || a.places[0]! - b.places[0]! || a.places[1]! - b.places[1]!,
  );
  return merges.map(({ parts }) => [...parts]);
}

/** Tokens by id. @throws UserError for one that stands twice */
function vocabularyOf(of: Metadata, tokens: readonly string[]): Record<string, number> {
  const vocabulary = new Map<string, number>();
  for (const [id, token] of tokens.entries()) {
    if (vocabulary.has(token))
      throw of.fail(`has the token ${show(token)} twice, ${vocabulary.get(token)} and ${id}`);
    vocabulary.set(token, id);
  }
  return Object.fromEntries(vocabulary);
}

/** What is put around a text. */
function around(tokens: readonly string[], bos: string | undefined, eos: string | undefined): Json | null {
  const names = [bos, eos].filter((token) => token !== undefined);
  if (names.length === 0) return null;
  const part = (token: string | undefined, type: number): Json[] =>
    token === undefined ? [] : [{ SpecialToken: { id: token, type_id: type } }];
  const text = (id: string, type: number): Json[] => [
    ...part(bos, type),
    { Sequence: { id, type_id: type } },
    ...part(eos, type),
  ];
  return {
    type: 'TemplateProcessing',
    single: text('A', 0),
    pair: [...text('A', 0), ...text('B', 1)],
    special_tokens: Object.fromEntries(
      names.map((token) => [token, { id: token, ids: [tokens.indexOf(token)], tokens: [token] }]),
    ),
  };
}

function list(of: Metadata, key: string, type: 'string'): readonly string[] | undefined;
function list(of: Metadata, key: string, type: 'number'): readonly number[] | undefined;
function list(of: Metadata, key: string, type: string): readonly GgufValue[] | undefined {
  const value = of.header.metadata.get(`tokenizer.ggml.${key}`);
  if (value === undefined) return undefined;
  const entries = value as readonly GgufValue[];
  if (!Array.isArray(value) || !entries.every((each) => typeof each === type))
    throw of.fail(`tokenizer.ggml.${key} is no list of ${type}s`);
  return entries;
}
