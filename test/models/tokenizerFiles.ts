/**
 * Tokenizer files of every kind and flag that is read, and strings of many scripts, for the comparison with the reference.
 * Vocabularies are made from the strings themselves, as the reference's own normalizer and pre-tokenizer divide them.
 */

import { Tokenizer } from 'tokenizers';

type Json = Record<string, unknown>;

/** Repeatable numbers below `n`: mulberry32. */
export function randomNumbers(seed: number): (n: number) => number {
  let state = seed >>> 0;
  return (n) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * n);
  };
}

/** Added tokens in texts: plain, special, of one word, that take spaces, that are normalized. */
export const ADDED = [
  '[CLS]',
  '<s>',
  '</s>',
  'Zürich',
  'new',
  'New York',
  '<mask>',
  'ΣΑΣ',
  '  ',
  'é',
  '[SEP] ',
];

export const STRINGS: readonly string[] = [
  '',
  ' ',
  'Hello, world!',
  '  two  spaces   and a tab\there ',
  'line\nbreak\r\nand\n\n\nmore\n',
  'The quick brown fox jumps over the lazy dog.',
  "don't you're we've I'll he'd it's I'm isn't",
  'snake_case and kebab-case, CamelCase2Go',
  'Москва.',
  'Привет, как дела? Ёлка Йод',
  'café naïve résumé — Zürich Ærøskøbing',
  'cafe\u0301 nai\u0308ve Zu\u0308rich',
  'ΟΔΥΣΣΕΥΣ καὶ ὁ ΣΑΣ ΣΊΣΥΦΟΣ τῆς ς',
  'İstanbul ıssız IĞDIR',
  'straße STRASSE ẞ ﬁne ﬀ',
  '你好，世界。这很简单',
  '東京へようこそ、カタカナとひらがな',
  '한국어 텍스트 자모 ㄱㄴ',
  '\u1112\u1161\u11ab\u1100\u1173\u11af',
  'שלום עולם, מה שלומך?',
  'שָׁלוֹם',
  'مرحبا بالعالم، كيف الحال؟',
  'السَّلَامُ عَلَيْكُم',
  'फ़िल्म हिन्दी में नमस्ते।',
  'বাংলা ভাষা য় ড়',
  'தமிழ் மொழி',
  'తెలుగు భాష',
  'ಕನ್ನಡ മലയാളം ગુજરાતી ਪੰਜਾਬੀ',
  'ภาษาไทย ำน้ำ3ลำ ๒๕๖๗',
  'ພາສາລາວ ខ្មែរ မြန်မာ',
  'བོད་ཡིག་ བཀྲ་ཤིས།',
  'ქართული ენა ᲥᲐᲠᲗᲣᲚᲘ',
  'Հայերեն լեզու։',
  'አማርኛ ቋንቋ።',
  'ᏣᎳᎩ ᐃᓄᒃᑎᑐᑦ',
  'Tiếng Việt: ậ ở ữ điều',
  'Türkçe, Polskie łódź, Čeština ř',
  '😀 emoji 👩‍👩‍👧‍👦 family 🇫🇷 flag 👍🏽',
  '𝒜𝓁𝑔𝑒𝒷𝓇𝒶 𝟙𝟚𝟛 𐍈𐌰 𒀀',
  'numbers 123 4567 3.14 1,000,000 -5 1e9',
  '٠١٢٣ ۴۵۶ १२३ ൧൨ 〇一二 ⅣⅫ',
  'x² + y³ = ½ ¼ ¹ ⁴ ₅ ①②',
  '€100 £20 ¥300 ₹5 $9.99 50% 10°C ±3',
  '"quotes" ‘single’ “double” «guillemets» „low“',
  '…dots… – en — em ‐ hyphen ‑ nb',
  'a.b.c ... ?!?! ;; (())[[]]{{}} <>',
  '^caret ~tilde `tick` |pipe| $dollar +plus =eq <lt>',
  '¿Qué? ¡Hola! señor',
  'http://example.com/path?q=1&r=2#frag user@host.org',
  'NBSP\u00a0here thin\u2009space ideographic\u3000space',
  'next\u0085line \u000bvt\u000c ff',
  '\ufeffBOM first and \ufeff inside',
  'zero\u200bwidth join\u200der non\u200cjoiner soft\u00adhyphen',
  'bidi \u202eoverride\u202c and \u2066isolate\u2069',
  'line\u2028sep para\u2029sep',
  'control \u0001\u0007\u001b[31m \u007f \u009b chars',
  'null\u0000inside',
  'replacement \ufffd and private \ue000',
  '▁lower ▁one▁eighth ▁▁',
  'Ġbyte Ċ letters Ñı',
  '##ing ## un##der',
  '<0x0A> <0xE3> literally',
  '[CLS] typed [SEP] twice[CLS]',
  '<s>start</s> end  <mask>  here<mask>',
  'new newer renew New York anew new',
  'ZÜRICH Zürich zürich Zürichsee',
  'new_ _new new1 new-new éné',
  'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa',
  'ﷺ ㍿ ㌀ ﬃ Ⅷ ℌ ™ ℡',
  'Ａｂｃ　１２３ ｶﾀｶﾅ ～ 〜',
  'e\u0301\u0323\u0304 o\u031b\u0323 \u0344',
  'ﾊﾟ ガ が',
  'trailing space ',
  '\ttab first',
  'mixed 中文English混合 русскийtext',
  'A\u030a Å Å Ω Ω K K',
  "ſ 'ſ 'S 'T 'RE",
  'Ⓐⓑⓒ 🄰🅱',
  'ᄀᄁ ꙮ Ꙁ ⱥ ꟻ',
  'ǅ ǈ ǲ ŉ ǰ ΐ',
  'half \ud83d of a character',
  '‿tie⁀ ﹍low﹎ ＿wide',
  'a'.repeat(30).replace(/aaa/g, 'ab '),
  'end</s>',
  // Since Unicode 17, which the reference does not know.
  'later \u20c1 a\ua7f1b \ufbc3',
];

/** First and last of some blocks of Unicode. */
const BLOCKS: readonly (readonly [number, number])[] = [
  [0x00, 0x7f],
  [0x80, 0x24f],
  [0x2b0, 0x52f],
  [0x590, 0x6ff],
  [0x900, 0xdff],
  [0xe00, 0xfff],
  [0x10a0, 0x17ff],
  [0x1e00, 0x23ff],
  [0x2500, 0x27ff],
  [0x3000, 0x33ff],
  [0x4e00, 0x4fff],
  [0xac00, 0xacff],
  [0xf900, 0xfaff],
  [0xfe00, 0xffef],
  [0x1d400, 0x1d7ff],
  [0x1f100, 0x1f6d7],
  [0x20000, 0x200ff],
  [0x300, 0x36f],
];

/** Strings of characters drawn from many blocks, among pieces of {@link STRINGS}. */
export function drawStrings(count: number, random: (n: number) => number): string[] {
  const pieces = STRINGS.flatMap((text) => text.split(/(?<=[ ,])/));
  const part = (): string => {
    const space = random(4) === 0 ? ' ' : '';
    if (random(3) === 0) return pieces[random(pieces.length)]! + space;
    const [first, last] = BLOCKS[random(BLOCKS.length)]!;
    const letter = () => String.fromCodePoint(first + random(last - first + 1));
    return Array.from({ length: 1 + random(4) }, letter).join('') + space;
  };
  return Array.from({ length: count }, () => Array.from({ length: 1 + random(12) }, part).join(''));
}

const split = (pattern: Json, behavior: string, invert = false): Json => ({
  type: 'Split',
  pattern,
  behavior,
  invert,
});
const BEHAVIOURS = ['Removed', 'Isolated', 'MergedWithPrevious', 'MergedWithNext', 'Contiguous'];
const sequence = (...normalizers: Json[]): Json => ({ type: 'Sequence', normalizers });
const bert = (
  lowercase: boolean,
  strip_accents: boolean | null,
  clean_text = true,
  chinese = true,
): Json => ({
  type: 'BertNormalizer',
  clean_text,
  handle_chinese_chars: chinese,
  strip_accents,
  lowercase,
});

/**
 * A table of replacements as SentencePiece writes one: a double array of its own making, built here for a few rules
 * (Darts-clone's units: offset, a flag for a leaf, a label).
 */
export function charsmap(rules: readonly (readonly [string, string])[]): string {
  const encoder = new TextEncoder();
  type Node = { children: Map<number, Node>; value?: number };
  const root: Node = { children: new Map() };
  const texts: number[] = [];
  for (const [from, to] of rules) {
    let node = root;
    for (const byte of encoder.encode(from)) {
      const next: Node = node.children.get(byte) ?? { children: new Map() };
      node.children.set(byte, next);
      node = next;
    }
    node.value = texts.length;
    texts.push(...encoder.encode(to), 0);
  }
  const units: number[] = [0];
  const taken = new Set([0]);
  const place = (node: Node, at: number): void => {
    const labels = [...(node.value === undefined ? [] : [0]), ...node.children.keys()];
    // The offset must fit 21 bits as it is, and all children must be free.
    let base = 1;
    while (labels.some((label) => taken.has(base ^ label))) base++;
    const offset = base ^ at;
    if (offset >= 2 ** 21) throw new Error('too many rules for this builder');
    for (const label of labels) taken.add(base ^ label);
    units[at] = ((units[at] ?? 0) | (offset << 10) | (node.value === undefined ? 0 : 0x100)) >>> 0;
    if (node.value !== undefined) units[base] = (node.value | 0x80000000) >>> 0;
    for (const [label, child] of node.children) {
      units[base ^ label] = label;
      place(child, base ^ label);
    }
  };
  place(root, 0);
  // Whole blocks of 256, so that no label leads out of the table.
  units.length = 256 * Math.ceil((units.length + 1) / 256);
  const blob = new Uint8Array(4 + 4 * units.length + texts.length);
  const view = new DataView(blob.buffer);
  view.setUint32(0, 4 * units.length, true);
  for (let i = 0; i < units.length; i++) view.setUint32(4 + 4 * i, units[i] ?? 0, true);
  blob.set(texts, 4 + 4 * units.length);
  return Buffer.from(blob).toString('base64');
}

const precompiled: Json = {
  type: 'Precompiled',
  precompiled_charsmap: charsmap([
    ['ﬁ', 'fi'],
    ['™', 'TM'],
    ['\u00a0', ' '],
    ['\u3000', ' '],
    ['\n', ' '],
    ['\u0001', ''],
    ['e\u0301', 'é'],
    ['Ａ', 'A'],
    ['㍿', '株式会社'],
    ['…', '...'],
    ['²', '2'],
  ]),
};

export const NORMALIZERS: readonly (Json | null)[] = [
  null,
  bert(true, null),
  bert(false, null),
  bert(true, false),
  bert(false, true),
  bert(true, true, false, false),
  { type: 'NFC' },
  { type: 'NFD' },
  { type: 'NFKC' },
  { type: 'NFKD' },
  { type: 'Lowercase' },
  sequence({ type: 'NFD' }, { type: 'StripAccents' }, { type: 'Lowercase' }),
  sequence({ type: 'NFKC' }, { type: 'Lowercase' }),
  { type: 'StripAccents' },
  { type: 'Strip', strip_left: true, strip_right: true },
  { type: 'Strip', strip_left: true, strip_right: false },
  { type: 'Strip', strip_left: false, strip_right: true },
  { type: 'Nmt' },
  sequence({ type: 'Nmt' }, { type: 'NFKC' }, { type: 'Replace', pattern: { Regex: ' {2,}' }, content: ' ' }),
  precompiled,
  sequence(precompiled, { type: 'Replace', pattern: { Regex: '\\s+' }, content: ' ' }),
  sequence({ type: 'Prepend', prepend: '▁' }, { type: 'Replace', pattern: { String: ' ' }, content: '▁' }),
  { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
  { type: 'Replace', pattern: { Regex: '\\w+' }, content: '$& $1' },
  { type: 'Replace', pattern: { Regex: '[^\\w\\s]|_' }, content: '' },
  sequence({ type: 'Strip', strip_left: true, strip_right: true }, { type: 'Prepend', prepend: '_' }),
  { type: 'ByteLevel' },
  sequence({ type: 'NFC' }, { type: 'ByteLevel' }),
];

const GPT4 =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const O200K =
  "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
const DEEPSEEK =
  '[!"#$%&\'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';

const metaspace = (fields: Json): Json => ({ type: 'Metaspace', replacement: '▁', ...fields });
const byteLevel = (add_prefix_space: boolean, use_regex = true): Json => ({
  type: 'ByteLevel',
  add_prefix_space,
  trim_offsets: true,
  use_regex,
});
const steps = (...pretokenizers: Json[]): Json => ({ type: 'Sequence', pretokenizers });

export const PRE_TOKENIZERS: readonly (Json | null)[] = [
  null,
  { type: 'Whitespace' },
  { type: 'WhitespaceSplit' },
  { type: 'BertPreTokenizer' },
  ...BEHAVIOURS.map((behavior) => ({ type: 'Punctuation', behavior })),
  { type: 'Digits', individual_digits: true },
  { type: 'Digits', individual_digits: false },
  byteLevel(false),
  byteLevel(true),
  byteLevel(true, false),
  metaspace({ prepend_scheme: 'always', split: true }),
  metaspace({ prepend_scheme: 'first', split: true }),
  metaspace({ prepend_scheme: 'never', split: true }),
  metaspace({ prepend_scheme: 'always', split: false }),
  metaspace({ prepend_scheme: 'first', split: false }),
  metaspace({ prepend_scheme: 'never', split: false, replacement: '_' }),
  ...BEHAVIOURS.flatMap((behavior) => [
    split({ String: ' ' }, behavior),
    split({ Regex: '\\w+' }, behavior),
    split({ Regex: '[\\w]+|\\b' }, behavior, true),
  ]),
  split({ Regex: '\\d{1,3}(?=(\\d{3})*\\b)' }, 'Isolated'),
  split({ Regex: '\\W' }, 'Isolated'),
  split({ Regex: '[^\\W\\d_]+|\\B' }, 'Isolated'),
  split({ Regex: '(?<=\\p{Ll})(?=\\p{Lu})|[[:punct:]]+|\\h' }, 'Isolated'),
  split({ Regex: ' ?[^(\\s|[.,!?…。，、।۔،])]+' }, 'Isolated'),
  split({ Regex: '[一-龥\\x{3040}-ゟ゠-ヿ]+' }, 'Isolated'),
  split({ Regex: '(?:a|b)++|[a-z&&[^aeiou]]+|(?>x+)' }, 'Isolated'),
  split({ Regex: '(?m).+' }, 'Isolated'),
  split({ Regex: '\\p{Word}+|[\\P{word}&&[^ ]]' }, 'Isolated'),
  split({ Regex: '(?i)[a-z]+|(?-i:\\p{Lu}st)' }, 'Isolated'),
  steps(split({ Regex: GPT4 }, 'Isolated'), byteLevel(false, false)),
  steps(split({ Regex: O200K }, 'Isolated'), byteLevel(false, false)),
  steps(split({ Regex: DEEPSEEK }, 'Isolated'), byteLevel(false, false)),
  steps({ type: 'WhitespaceSplit' }, metaspace({ prepend_scheme: 'always', split: true })),
  steps({ type: 'WhitespaceSplit' }, metaspace({ prepend_scheme: 'first', split: true })),
  steps({ type: 'Whitespace' }, { type: 'Digits', individual_digits: true }),
  steps({ type: 'Digits', individual_digits: true }, byteLevel(false)),
  steps({ type: 'Punctuation', behavior: 'Contiguous' }, { type: 'WhitespaceSplit' }),
  { type: 'CharDelimiterSplit', delimiter: ' ' },
  { type: 'FixedLength', length: 3 },
  { type: 'FixedLength' },
];

const decoders = (...decoders: Json[]): Json => ({ type: 'Sequence', decoders });
const llamaDecoder = decoders(
  { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
  { type: 'ByteFallback' },
  { type: 'Fuse' },
  { type: 'Strip', content: ' ', start: 1, stop: 0 },
);

export const DECODERS: readonly (Json | null)[] = [
  null,
  byteLevel(true),
  { type: 'WordPiece', prefix: '##', cleanup: true },
  { type: 'WordPiece', prefix: '##', cleanup: false },
  metaspace({ prepend_scheme: 'always', split: true }),
  metaspace({ prepend_scheme: 'never', split: true }),
  metaspace({ prepend_scheme: 'first', split: false }),
  llamaDecoder,
  { type: 'ByteFallback' },
  { type: 'Fuse' },
  { type: 'BPEDecoder', suffix: '</w>' },
  { type: 'BPEDecoder', suffix: '' },
  { type: 'CTC', pad_token: '', word_delimiter_token: '', cleanup: true },
  { type: 'CTC', pad_token: '<s>', word_delimiter_token: '▁', cleanup: true },
  { type: 'CTC', pad_token: 'a', word_delimiter_token: ' ', cleanup: false },
  decoders({ type: 'ByteFallback' }, metaspace({ prepend_scheme: 'always', split: true })),
  decoders({ type: 'Replace', pattern: { Regex: '\\W+' }, content: '$&.' }, { type: 'Fuse' }),
  decoders({ type: 'Fuse' }, { type: 'Strip', content: ' ', start: 2, stop: 0 }),
];

export const POST_PROCESSORS: readonly (Json | null)[] = [
  null,
  { type: 'BertProcessing', cls: ['[CLS]', 0], sep: ['</s>', 2] },
  {
    type: 'RobertaProcessing',
    cls: ['<s>', 1],
    sep: ['</s>', 2],
    trim_offsets: true,
    add_prefix_space: true,
  },
  byteLevel(true),
  {
    type: 'TemplateProcessing',
    single: [
      { SpecialToken: { id: '<s>', type_id: 0 } },
      { Sequence: { id: 'A', type_id: 0 } },
      { SpecialToken: { id: '</s>', type_id: 0 } },
    ],
    pair: [{ Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 1 } }],
    special_tokens: {
      '<s>': { id: '<s>', ids: [1, 0], tokens: ['<s>', '[CLS]'] },
      '</s>': { id: '</s>', ids: [2], tokens: ['</s>'] },
    },
  },
  {
    type: 'TemplateProcessing',
    single: [
      { SpecialToken: { id: '<s>', type_id: 0 } },
      { Sequence: { id: 'A', type_id: 0 } },
      { Sequence: { id: 'A', type_id: 1 } },
    ],
    pair: [{ Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 1 } }],
    special_tokens: { '<s>': { id: '<s>', ids: [1], tokens: ['<s>'] } },
  },
  {
    type: 'Sequence',
    processors: [byteLevel(true), { type: 'BertProcessing', cls: ['<s>', 1], sep: ['</s>', 2] }],
  },
];

/** A model without its vocabulary. */
export const MODELS: readonly Json[] = [
  { type: 'WordLevel', unk_token: '[UNK]' },
  { type: 'WordPiece', unk_token: '[UNK]', continuing_subword_prefix: '##', max_input_chars_per_word: 100 },
  { type: 'WordPiece', unk_token: '[UNK]', continuing_subword_prefix: '', max_input_chars_per_word: 12 },
  { type: 'BPE', unk_token: '[UNK]' },
  { type: 'BPE', unk_token: null },
  { type: 'BPE', unk_token: '[UNK]', fuse_unk: true },
  { type: 'BPE', unk_token: '[UNK]', byte_fallback: true },
  { type: 'BPE', unk_token: '[UNK]', byte_fallback: true, fuse_unk: true },
  { type: 'BPE', unk_token: '[UNK]', ignore_merges: true },
  { type: 'BPE', unk_token: '[UNK]', continuing_subword_prefix: '##' },
  { type: 'BPE', unk_token: '[UNK]', end_of_word_suffix: '</w>' },
  { type: 'Unigram', unk_id: 3, byte_fallback: false },
  { type: 'Unigram', unk_id: 3, byte_fallback: true },
  { type: 'BPE', unk_token: null, dropout: 0.1 },
];

/** Characters of all strings that have a place in a vocabulary; the rest stay unknown. */
function known(letter: string): boolean {
  return letter.codePointAt(0)! % 7 !== 3;
}

/** Cuts a word at places drawn by chance. */
function cutByChance(word: string, random: (n: number) => number): string[] {
  const letters = [...word];
  const parts: string[] = [];
  for (let at = 0; at < letters.length; ) {
    const length = 1 + random(4);
    parts.push(letters.slice(at, at + length).join(''));
    at += length;
  }
  return parts;
}

/** The pair that is most frequent becomes one, `count` times. */
function train(
  words: readonly string[],
  model: Json,
  count: number,
): { vocab: string[]; merges: string[][] } {
  const prefix = (model.continuing_subword_prefix as string | undefined) ?? '';
  const suffix = (model.end_of_word_suffix as string | undefined) ?? '';
  const spelt = words.map((word) => {
    const letters = [...word];
    return letters.map(
      (letter, i) => (i > 0 ? prefix : '') + letter + (i === letters.length - 1 ? suffix : ''),
    );
  });
  const vocab = new Set(spelt.flat().filter((token) => known(token.replace(prefix, ''))));
  const lines = spelt.filter((line) => line.every((token) => vocab.has(token)));
  const merges: string[][] = [];
  for (let round = 0; round < count; round++) {
    const pairs = new Map<string, number>();
    for (const line of lines)
      for (let i = 0; i + 1 < line.length; i++) {
        const key = JSON.stringify([line[i], line[i + 1]]);
        pairs.set(key, (pairs.get(key) ?? 0) + 1);
      }
    const best = [...pairs].sort((a, b) => b[1] - a[1])[0];
    if (best === undefined) break;
    const [left, right] = JSON.parse(best[0]) as [string, string];
    const merged = left + right.slice(prefix.length);
    merges.push([left, right]);
    vocab.add(merged);
    for (const line of lines)
      for (let i = 0; i + 1 < line.length; i++)
        if (line[i] === left && line[i + 1] === right) line.splice(i, 2, merged);
  }
  return { vocab: [...vocab], merges };
}

function addedTokens(random: (n: number) => number, vocab: string[]): Json[] {
  const special = ADDED.slice(0, 3).map((content) => ({ content, special: true, normalized: false }));
  const rest = ADDED.slice(3)
    .filter(() => random(3) > 0)
    .map((content) => ({
      content,
      special: random(4) === 0,
      normalized: content.trim() !== '' && random(2) === 0,
    }));
  return [...special, ...rest].map((token, i) => {
    const flag = () => i > 0 && random(3) === 0;
    return {
      ...token,
      single_word: flag(),
      lstrip: flag(),
      rstrip: flag(),
      id: vocab.indexOf(token.content),
    };
  });
}

export interface TokenizerParts {
  readonly normalizer: Json | null;
  readonly pre_tokenizer: Json | null;
  readonly decoder: Json | null;
  readonly post_processor: Json | null;
  readonly model: Json;
  readonly added: boolean;
}

/** The `i`th file: each list is gone through once before the first repeats, then by chance. */
export function chooseParts(i: number): TokenizerParts {
  const random = randomNumbers(1000 + i);
  const of = <Item>(list: readonly Item[], stride: number): Item =>
    i < 64 ? list[(i * stride) % list.length]! : list[random(list.length)]!;
  return {
    normalizer: of(NORMALIZERS, 1),
    pre_tokenizer: of(PRE_TOKENIZERS, 1),
    decoder: of(DECODERS, 1),
    post_processor: of(POST_PROCESSORS, 1),
    model: of(MODELS, 3),
    added: random(3) > 0,
  };
}

/** A whole `tokenizer.json`. */
export function makeTokenizerFile(i: number): string {
  const { normalizer, pre_tokenizer, decoder, post_processor, model, added } = chooseParts(i);
  const random = randomNumbers(i);
  const shell = (fields: Json) =>
    JSON.stringify({
      version: '1.0',
      truncation: null,
      padding: null,
      added_tokens: [],
      normalizer,
      pre_tokenizer,
      post_processor,
      decoder,
      ...fields,
    });
  const divider = Tokenizer.fromString(
    shell({
      post_processor: null,
      decoder: null,
      model: { type: 'WordLevel', vocab: { '[UNK]': 0 }, unk_token: '[UNK]' },
    }),
  );
  const words = STRINGS.filter((text) => text !== '').flatMap((text) => {
    const well = Buffer.from(text, 'utf8').toString('utf8');
    const normal = divider.getNormalizer()?.normalizeString(well) ?? well;
    if (normal === '') return [];
    return (
      divider
        .getPreTokenizer()
        ?.preTokenizeString(normal)
        .map(([word]) => word) ?? [normal]
    );
  });
  const first = ['[CLS]', '<s>', '</s>', '[UNK]'];
  const bytes = Array.from(
    { length: 256 },
    (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`,
  );
  let vocab: string[];
  let merges: string[][] | undefined;
  if (model.type === 'WordLevel') vocab = words.filter(() => random(4) > 0);
  else if (model.type === 'BPE') ({ vocab, merges } = train(words, model, 150));
  else {
    const prefix = (model.continuing_subword_prefix as string | undefined) ?? '';
    vocab = words.flatMap((word) => [
      ...cutByChance(word, random).map((part, at) => (at > 0 ? prefix : '') + part),
      ...[...word].filter(known).flatMap((letter) => [letter, prefix + letter]),
    ]);
    if (model.type === 'Unigram') vocab = vocab.concat(words.filter(() => random(2) > 0));
  }
  if (model.byte_fallback) vocab = [...(random(4) === 0 ? bytes.slice(0, 200) : bytes), ...vocab];
  const tokens = [...new Set([...first, ...vocab])].filter((token) => token !== '');
  const list = added ? addedTokens(random, tokens) : addedTokens(() => 0, tokens).slice(0, 3);
  let next = tokens.length;
  for (const token of list) if ((token.id as number) < 0) token.id = next++;
  return shell({
    added_tokens: list,
    model: {
      ...model,
      ...(merges && { merges }),
      vocab:
        model.type === 'Unigram'
          ? tokens.map((token) => [token, -Math.floor(random(1000)) / 64])
          : Object.fromEntries(tokens.map((token, id) => [token, id])),
    },
  });
}
