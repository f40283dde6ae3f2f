/**
 * The vocabulary in a GGUF file's metadata as the `tokenizer.json` and `tokenizer_config.json` that it was made of, as far as it
 * tells: BPE over bytes with the pre-tokenizer that `tokenizer.ggml.pre` names, SentencePiece's BPE, and WordPiece.
 *
 * Sources: `llama-vocab.cpp` of llama.cpp for what each name of a pre-tokenizer stands for; `convert_hf_to_gguf.py` for what is
 * done to tokens; transformers' `SentencePieceExtractor` for merges from scores.
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
const ENDINGS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const words = (letters: string, digits: string, signs = ''): Json =>
  sequence(
    split(`${letters}|\\p{N}${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n${signs}]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`),
    byteLevel(false),
  );
const LETTERS = `${ENDINGS}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+`;
const LLAMA3 = words(LETTERS, '{1,3}');
const QWEN2 = words(LETTERS, '');
/** Words that begin with capitals apart. */
const cased = (ending: string): string => {
  const [upper, lower] = ['[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]', '[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]'];
  const before = '[^\\r\\n\\p{L}\\p{N}]?';
  return `${before}${upper}*${lower}+${ending}|${before}${upper}+${lower}*${ending}`;
};
const TEKKEN = words(cased(''), '', '/');
const GPT4O = words(cased(`${ENDINGS}?`), '{1,3}', '/');

/** How texts become words, by what `tokenizer.ggml.pre` says. */
interface Pre {
  readonly names: string;
  readonly words: Json;
  /** Whole words are looked up before they are merged. */
  readonly whole?: boolean;
  /** Texts begin with a token where the file does not say. */
  readonly begins?: boolean;
  /** Characters are composed first. */
  readonly composed?: boolean;
}
const PRE: readonly Pre[] = [
  { names: 'gpt-2 phi-2 jina-es jina-de mpt jais exaone4 trillion granite-docling', words: GPT2 },
  { names: 'olmo', words: GPT2, composed: true },
  { names: 'smollm starcoder codeshell refact command-r exaone minerva-7b', words: STARCODER },
  { names: 'llama-bpe llama-v3 llama3 falcon3 pixtral', words: LLAMA3, whole: true, begins: true },
  { names: 'dbrx smaug-bpe', words: LLAMA3 },
  { names: 'qwen2 deepseek-r1-qwen megrez', words: QWEN2, composed: true },
  { names: 'stablelm2', words: QWEN2 },
  { names: 'tekken', words: TEKKEN, whole: true, begins: true },
  { names: 'gpt-4o llama4', words: GPT4O },
];
const PRE_BY_NAME: ReadonlyMap<string, Pre> = new Map(
  PRE.flatMap((pre) => pre.names.split(' ').map((name): [string, Pre] => [name, pre])),
);

/** Kinds of vocabularies by `tokenizer.ggml.model`. */
const KINDS: Readonly<
  Record<string, (of: Metadata, tokens: readonly string[], types: readonly number[]) => Made>
> = {
  gpt2: bytesBpe,
  llama: sentencePiece,
  bert: wordPiece,
};

/** @throws UserError `gguf` for a vocabulary that is none, or of a kind that is not supported. */
export function tokenizerOf(of: Metadata): { readonly tokenizer: Json; readonly config: Json } {
  const kind = of.text('tokenizer.ggml.model');
  const listed = list(of, 'tokens', 'string');
  if (kind === undefined || !listed) throw of.fail('has no vocabulary (tokenizer.ggml.tokens)');
  const types = list(of, 'token_type', 'number') ?? [];
  if (!Object.hasOwn(KINDS, kind))
    throw of.fail(`its vocabulary is of kind ${show(kind)}; ${Object.keys(KINDS).join(', ')} are supported`);
  const made = KINDS[kind]!(of, listed, types);
  const { tokens } = made;
  const token = (name: string): string | undefined => tokens[of.tokenId(name) ?? -1];
  const [bos, eos] = [token('bos') ?? token('cls'), token('eos')];
  const added = tokens.flatMap((content, id) => {
    const type = types[id];
    if (type !== CONTROL && type !== USER_DEFINED && type !== UNKNOWN) return [];
    const special = type !== USER_DEFINED;
    return [{ id, content, special, single_word: false, lstrip: false, rstrip: false, normalized: false }];
  });
  const begins = of.flag('tokenizer.ggml.add_bos_token') ?? made.begins;
  // A separator stands in a vocabulary of WordPiece alone.
  const end = made.separated
    ? (of.flag('tokenizer.ggml.add_sep_token') ?? true) && token('seperator')
    : of.flag('tokenizer.ggml.add_eos_token') && eos;
  return {
    tokenizer: {
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: added,
      normalizer: made.normalizer,
      pre_tokenizer: made.preTokenizer,
      post_processor: around(tokens, begins ? bos : undefined, end || undefined, made.separated),
      decoder: made.decoder,
      model: made.model,
    },
    config: {
      bos_token: bos,
      eos_token: eos,
      unk_token: token('unknown'),
      pad_token: token('padding'),
      mask_token: token('mask'),
      chat_template: of.text('tokenizer.chat_template'),
      clean_up_tokenization_spaces: false,
    },
  };
}

interface Made {
  /** As the tokenizer that the file was made of has them. */
  readonly tokens: readonly string[];
  readonly model: Json;
  readonly normalizer: Json | null;
  readonly preTokenizer: Json | null;
  readonly decoder: Json;
  /** Whether texts begin with a token where the file does not say. */
  readonly begins: boolean;
  /** Texts end with a separator, and the second of two begins with nothing. */
  readonly separated?: boolean;
}

function bytesBpe(of: Metadata, tokens: readonly string[]): Made {
  const name = of.text('tokenizer.ggml.pre') ?? '';
  const pre = PRE_BY_NAME.get(name);
  if (!pre)
    throw of.fail(
      `its pre-tokenizer ${show(name)} is not supported; supported: ${[...PRE_BY_NAME.keys()].join(', ')}`,
    );
  return {
    tokens,
    model: {
      ...BPE,
      unk_token: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: pre.whole ?? false,
      vocab: vocabularyOf(of, tokens),
      merges: list(of, 'merges', 'string') ?? [],
    },
    normalizer: pre.composed ? { type: 'NFC' } : null,
    preTokenizer: pre.words,
    decoder: byteLevel(true),
    begins: pre.begins ?? false,
  };
}

const BPE = {
  type: 'BPE',
  dropout: null,
  continuing_subword_prefix: null,
  end_of_word_suffix: null,
};

const SPACE = '▁';

function sentencePiece(of: Metadata, listed: readonly string[], types: readonly number[]): Made {
  const scores = list(of, 'scores', 'number');
  if (scores?.length !== listed.length)
    throw of.fail('has a SentencePiece vocabulary without a score for each token');
  const prefixed = of.flag('tokenizer.ggml.add_space_prefix') ?? true;
  const unknown = types.indexOf(UNKNOWN);
  // Tokens of spaces that are taken before all others are in the file as they stand in a text.
  const spaces = listed.map((token, id) => types[id] === USER_DEFINED && /^ +$/.test(token));
  const tokens = listed.map((token, id) => (spaces[id] ? token.replaceAll(' ', SPACE) : token));
  const ranks = scores.map((score, id) => (spaces[id] ? Number.POSITIVE_INFINITY : score));
  return {
    tokens,
    model: {
      ...BPE,
      unk_token: unknown < 0 ? null : tokens[unknown],
      fuse_unk: true,
      byte_fallback: tokens.includes('<0x00>'),
      ignore_merges: false,
      vocab: vocabularyOf(of, tokens),
      merges: mergesOf(tokens, ranks),
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

/** Pieces that go on with a word lose their ## in the file, all others but special ones begin with a space. */
function wordPiece(of: Metadata, listed: readonly string[], types: readonly number[]): Made {
  const tokens = listed.map((token, id) => {
    if (token.startsWith(SPACE)) return token.slice(1);
    return types[id] === CONTROL || /^\[\w+\]$/.test(token) ? token : `##${token}`;
  });
  return {
    tokens,
    model: {
      type: 'WordPiece',
      unk_token: tokens[of.tokenId('unknown') ?? -1] ?? '[UNK]',
      continuing_subword_prefix: '##',
      max_input_chars_per_word: 100,
      vocab: vocabularyOf(of, tokens),
    },
    normalizer: {
      type: 'BertNormalizer',
      clean_text: true,
      handle_chinese_chars: true,
      strip_accents: of.flag('tokenizer.ggml.normalizer.strip_accents') ?? null,
      lowercase: of.flag('tokenizer.ggml.normalizer.lowercase') ?? true,
    },
    preTokenizer: { type: 'BertPreTokenizer' },
    decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
    begins: true,
    separated: true,
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
    (a, b) =>
      (b.score === a.score ? 0 : b.score - a.score) ||
      a.id - b.id ||
      a.places[0]! - b.places[0]! ||
      a.places[1]! - b.places[1]!,
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

/** What is put around a text. @param separated whether the second of two texts begins with nothing. */
function around(
  tokens: readonly string[],
  bos: string | undefined,
  end: string | undefined,
  separated = false,
): Json | null {
  const names = [bos, end].filter((token) => token !== undefined);
  if (names.length === 0) return null;
  const part = (token: string | undefined, type: number): Json[] =>
    token === undefined ? [] : [{ SpecialToken: { id: token, type_id: type } }];
  const text = (id: string, type: number): Json[] => [
    ...part(separated && id === 'B' ? undefined : bos, type),
    { Sequence: { id, type_id: type } },
    ...part(end, type),
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
