import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { fileMapFolder, localFolder } from '../../models/byteSource.ts';
import { loadTokenizer } from '../../models/tokenizer.ts';

const models = join(import.meta.dirname, '../../examples/models');
const facts = await loadTokenizer(await localFolder(join(models, 'facts-bert')));
const stories = await loadTokenizer(await localFolder(join(models, 'stories260k')));

describe('facts-bert', () => {
  it('one mask, special tokens around', () => {
    const ids = facts.encode('The capital of France is [MASK].');
    expect(ids.filter((id) => id === facts.maskId)).toHaveLength(1);
    expect(ids.map(facts.tokenOf)).toEqual([
      '[CLS]',
      'the',
      'capital',
      'of',
      'france',
      'is',
      '[MASK]',
      '.',
      '[SEP]',
    ]);
    expect(facts.encode('The capital', { addSpecialTokens: false })).toEqual(ids.slice(1, 3));
    expect(facts.vocabularySize).toBe(12304);
    expect(facts.idOf('[MASK]')).toBe(facts.maskId);
    expect(facts.padId).toBe(0);
    expect(facts.unknownId).toBe(1);
    expect(facts.pieces('Émile')).toEqual(
      facts.encode('Émile', { addSpecialTokens: false }).map(facts.tokenOf),
    );
  });

  it('target words', () => {
    expect(facts.tokenOf(facts.singleToken('Paris', { kind: 'bert' }))).toBe('paris');
    expect(facts.singleToken(' paris ', { kind: 'bert' })).toBe(facts.idOf('paris'));
    expect(() => facts.singleToken('Parisians', { kind: 'bert' })).toThrow(
      /"Parisians" is not one known.*paris ##/,
    );
    expect(() => facts.singleToken('New York', { kind: 'bert' })).toThrow(/pieces: new york/);
    expect(() => facts.singleToken('你', { kind: 'bert' })).toThrow(/\[UNK\] \(unknown\)/);
    expect(() => facts.singleToken(' ', { kind: 'bert' })).toThrow(/empty/);
  });

  it('decodes', () => {
    expect(facts.decode(facts.encode('The capital, now.'), { skipSpecialTokens: true })).toBe(
      'the capital, now.',
    );
    expect(facts.decode([])).toBe('');
    expect(facts.decode([12304, 3])).toBe(`<12304> ${facts.tokenOf(3)}`);
    expect(() => facts.decode([1.5])).toThrow(/no token 1.5; ids go from 0 to 12303/);
    expect(() => facts.tokenOf(-1)).toThrow(/no token -1/);
  });
});

describe('stories260k', () => {
  it.each([
    'Once upon a time, there was a little girl named Lily.',
    'Two  spaces , and "quotes" ; don\'t tidy !',
    'Émile\n你好 🙂',
    ' leading',
  ])('round trip: %j', (text) => {
    const ids = stories.encode(text);
    expect(ids[0]).toBe(1);
    expect(ids.every((id) => Number.isInteger(id) && id >= 0 && id < 512)).toBe(true);
    expect(stories.decode(ids, { skipSpecialTokens: true })).toBe(text);
  });

  it('special ids', () => {
    const { bosId, eosId, maskId, unknownId, vocabularySize } = stories;
    expect({ bosId, eosId, maskId, unknownId, vocabularySize }).toEqual({
      bosId: 1,
      eosId: 2,
      maskId: undefined,
      unknownId: 0,
      vocabularySize: 512,
    });
    expect(stories.encode('')).toEqual([1]);
  });

  it('target words carry their leading space', () => {
    expect(stories.tokenOf(stories.singleToken('was', { kind: 'llama' }))).toBe('▁was');
    expect(() => stories.singleToken('Paris', { kind: 'llama' })).toThrow(/pieces: ␣ P ar is/);
    expect(stories.tokenOf(stories.singleToken('a', { kind: 'llama', after: 'Answer:' }))).toBe('a');
    expect(stories.tokenOf(stories.singleToken(' a', { kind: 'llama', after: 'Answer:' }))).toBe('▁a');
  });

  it('continuation: what follows, or an error where the border moves', () => {
    expect(stories.continuation('There', ' was a').map(stories.tokenOf)).toEqual(['▁was', '▁a']);
    expect(() => stories.continuation('t', 'he')).toThrow(/joins with the end of the prompt/);
  });
});

describe('broken files', () => {
  const good = readFileSync(join(models, 'stories260k/tokenizer.json'), 'utf8');
  const load = (files: Record<string, string>) =>
    loadTokenizer(
      fileMapFolder(new Map(Object.entries(files).map(([name, text]) => [name, new Blob([text])])), 'm'),
    );

  /** The good file with some fields replaced: `model` adds to its model. */
  const changed = ({ model, ...fields }: Record<string, unknown>): Record<string, string> => {
    const json = JSON.parse(good);
    return {
      'tokenizer.json': JSON.stringify({ ...json, ...fields, model: { ...json.model, ...(model ?? {}) } }),
    };
  };
  const added = (id: unknown) => changed({ added_tokens: [{ id, content: 'ZZ', special: true }] });

  it.each<[string, Record<string, string>, RegExp]>([
    ['none', {}, /^m: has no tokenizer\.json/],
    ['not JSON', { 'tokenizer.json': good.slice(0, 999) }, /^m: tokenizer\.json: is not JSON$/],
    ['no object', { 'tokenizer.json': '[]' }, /^m: tokenizer\.json: is not an object$/],
    ['no model', { 'tokenizer.json': '{}' }, /^m: tokenizer\.json has no model$/],
    [
      'strange model',
      { 'tokenizer.json': '{"model":{"type":"X"}}' },
      /^m: tokenizer\.json: model\.type 'X' is not supported; supported: BPE, Unigram, WordLevel, WordPiece$/,
    ],
    [
      'null model',
      { 'tokenizer.json': '{"model":null}' },
      /^m: tokenizer\.json: model must be an object, not null$/,
    ],
    ['a strange kind', changed({ model: { type: 'Foo' } }), /model\.type 'Foo' is not supported/],
    ['half a merge', changed({ model: { merges: [['a']] } }), /model\.merges\[0\] must be a pair of tokens/],
    [
      'merges of three',
      changed({ model: { merges: ['a b', 'a b c'] } }),
      /model\.merges\[1\] must be .* not 'a b c'$/,
    ],
    [
      'merges that are no list',
      changed({ model: { merges: 5 } }),
      /model\.merges must be a list of pairs, not 5$/,
    ],
    [
      'added tokens that are no list',
      changed({ added_tokens: 'x' }),
      /added_tokens must be a list .* not 'x'$/,
    ],
    [
      'an added token without a content',
      changed({ added_tokens: [{ id: 3 }] }),
      /added_tokens\[0\] must have/,
    ],
    [
      'two tokens with one id',
      changed({ model: { vocab: { '<unk>': 0, a: 1, b: 1 } } }),
      /model\.vocab has 'a' and 'b' under one id, 1$/,
    ],
    ...[
      { type: 'TemplateProcessing', single: [{ SpecialToken: { id: '<x>', type_id: 0 } }], pair: [] },
      { type: 'Sequence', processors: [{ type: 'BertProcessing', cls: ['<x>', 1], sep: ['</s>', 2] }] },
    ].map((post_processor): [string, Record<string, string>, RegExp] => [
      `a token around texts that is not there, ${post_processor.type}`,
      changed({ post_processor }),
      /post_processor\S* names the token '<x>', which is in neither the vocabulary nor added_tokens$/,
    ]),
    [
      'an id beyond any model',
      added(1e9),
      /^m: tokenizer\.json: added_tokens\[0\]\.id must be a whole number from 0 to 4194303, not 1000000000$/,
    ],
    ['a negative id', added(-1), /added_tokens\[0\]\.id must be a whole number/],
    ['an id that is no number', added('5'), /added_tokens\[0\]\.id must be .* not '5'$/],
    [
      'such an id in the vocabulary',
      changed({ model: { vocab: { a: 0, b: 2 ** 40 } } }),
      /model\.vocab\['b'\] must be a whole number/,
    ],
    ...[
      [
        'normalizer',
        { type: 'Zalgo' },
        "normalizer.type 'Zalgo' is not supported; supported: BertNormalizer, ByteLevel, Lowercase, NFC",
      ],
      [
        'pre_tokenizer',
        { type: 'UnicodeScripts' },
        "pre_tokenizer.type 'UnicodeScripts' is not supported; supported: Bert",
      ],
      [
        'pre_tokenizer',
        {
          type: 'Sequence',
          pretokenizers: [{ type: 'Split', pattern: { Regex: '(' }, behavior: 'Isolated', invert: false }],
        },
        'pre_tokenizer cannot be used: ',
      ],
      [
        'pre_tokenizer',
        { type: 'Punctuation', behavior: 'Kept' },
        'pre_tokenizer.behavior must be ("Removed" | ',
      ],
      [
        'normalizer',
        { type: 'Sequence', normalizers: [{ type: 'Replace', content: '' }] },
        'normalizer.normalizers.0.pattern ',
      ],
      [
        'normalizer',
        { type: 'Precompiled', precompiled_charsmap: 'AAAA' },
        'normalizer cannot be used: precompiled_charsmap is cut short',
      ],
      [
        'decoder',
        { type: 'Strip', content: 'ab', start: 0, stop: 0 },
        "decoder.content must be one character, not 'ab'",
      ],
      ['decoder', 'Fuse', "decoder must be Object, not 'Fuse'"],
      ['normalizer', { type: 'Prepend', prepend: '' }, 'normalizer.prepend must not be empty'],
      ...['', '^', 'a*?', '\\b', '(?=a)'].map((Regex) => [
        'normalizer',
        { type: 'Replace', pattern: { Regex }, content: 'x' },
        'normalizer cannot be used: a Replace of what may be nothing is not supported',
      ]),
      ...[
        ['(?i:ss)', '"ss"'],
        ['x|(?i)ß', 'ß'],
        ['(?i:[À-ÿ])', 'À-ÿ'],
        ['(?i)[ﬁ]', 'ﬁ'],
        ['(?i)\\x{DF}', '\\x'],
        ['(?i)a\\p{Lu}', '\\p{Lu}'],
        ['(?i)[[:^upper:]]', '[:^upper:]'],
      ].map(([Regex, part]) => [
        'pre_tokenizer',
        { type: 'Split', pattern: { Regex }, behavior: 'Isolated', invert: false },
        `pre_tokenizer cannot be used: ${part} under (?i) is not supported`,
      ]),
      [
        'pre_tokenizer',
        { type: 'Split', pattern: { Regex: '\\\\\\X' }, behavior: 'Isolated', invert: false },
        'pre_tokenizer cannot be used: \\X is not supported',
      ],
      [
        'post_processor',
        {
          type: 'Sequence',
          processors: [
            { type: 'BertProcessing', cls: ['<s>', 1], sep: ['</s>', 2] },
            { type: 'RobertaProcessing', cls: ['<s>', 1], sep: ['</s>', 2] },
          ],
        },
        'post_processor cannot be used: two that add tokens (BertProcessing, RobertaProcessing)',
      ],
    ].map(([field, value, line]): [string, Record<string, string>, RegExp] => [
      `${line}`,
      changed({ [field as string]: value }),
      new RegExp(`^m: tokenizer\\.json: ${(line as string).replace(/[.*+?^${}()|[\]\\]/g, '\\$&')}`),
    ]),
    [
      'a score that is no number',
      { 'tokenizer.json': '{"model":{"type":"Unigram","unk_id":0,"vocab":[["<unk>",0],["a","b"]]}}' },
      /^m: tokenizer\.json: model\.vocab\[1\] must be a token with its score, not \['a', 'b'\]$/,
    ],
    [
      'a list of tokens for BPE',
      { 'tokenizer.json': '{"model":{"type":"BPE","merges":[],"vocab":[["<unk>",0]]}}' },
      /^m: tokenizer\.json: model\.vocab must be a table of tokens, not \[…\]$/,
    ],
    [
      'tokens by chance',
      changed({ model: { dropout: 0.1 } }),
      /^m: tokenizer\.json: model\.dropout 0\.1 is not supported: ids would be by chance$/,
    ],
    [
      'a merge of a token that is not there',
      changed({ model: { merges: ['a qqq'] } }),
      /^m: tokenizer\.json: model\.merges\[0\] needs "qqq", which is not in the vocabulary$/,
    ],
    [
      'an added token with another id than the reference gives it',
      added(700),
      /^m: tokenizer\.json: added_tokens\[0\] says that "ZZ" has id 700, but .* it would be 512$/,
    ],
    [
      'config',
      { 'tokenizer.json': good, 'tokenizer_config.json': '1' },
      /tokenizer_config\.json: is not an object/,
    ],
  ])('%s', async (_, files, message) => {
    const error = await load(files).catch((error) => error);
    expect(error).toMatchObject({ name: 'UserError', code: 'tokenizer' });
    expect(error.message).toMatch(message);
    expect(error.message).not.toContain('\n');
  });

  it('pairs are lists or texts; a kind, a post-processor and added tokens may be left out', async () => {
    const json = JSON.parse(good);
    const merges = json.model.merges.map((pair: string[]) => pair.join(' '));
    const roberta = { type: 'RobertaProcessing', cls: ['<s>', 1], sep: ['</s>', 2] };
    const written = await load(changed({ model: { merges }, post_processor: roberta }));
    expect(written.encode('Once')).toEqual([...stories.encode('Once'), 2]);
    const { type: _, ...model } = { ...json.model, merges, continuing_subword_prefix: null };
    const bare = await load({ 'tokenizer.json': JSON.stringify({ ...json, model, post_processor: null }) });
    expect(bare.encode('Once')).toEqual(stories.encode('Once', { addSpecialTokens: false }));
    expect((await load(changed({ added_tokens: null }))).encode('Once')).toEqual(stories.encode('Once'));
  });

  it('tokenizer.json alone is enough', async () => {
    expect((await load({ 'tokenizer.json': good })).encode('Once')[0]).toBe(1);
  });
});

/** A tokenizer of words alone, with what `fields` say. */
const words = (vocab: readonly string[], fields: Record<string, unknown> = {}) =>
  loadTokenizer(
    fileMapFolder(
      new Map([
        [
          'tokenizer.json',
          new Blob([
            JSON.stringify({
              added_tokens: [],
              model: {
                type: 'WordLevel',
                unk_token: vocab[0],
                vocab: Object.fromEntries(vocab.map((token, id) => [token, id])),
              },
              ...fields,
            }),
          ]),
        ],
      ]),
      'm',
    ),
  );

describe('tokens as text', () => {
  it('byte letters are decoded; a part of a character is its bytes', async () => {
    const vocab = [
      'Ñ',
      'Ñı',
      'ãĢģ',
      'ã',
      'ãĢ',
      'Ċ',
      'Ã©',
      'ĠParis',
      'ĠÑı',
      'ĠĠ',
      'ĠÑ',
      'Âħ',
      'â̝̂',
      'ï»¿',
      'ðŁĺ',
      'aãb',
    ];
    for (const decoder of [{ type: 'ByteLevel' }, null]) {
      const tokenizer = await words(vocab, { pre_tokenizer: { type: 'ByteLevel' }, decoder });
      const texts = [
        '<D1>',
        'я',
        '、',
        '<E3>',
        '<E3 80>',
        '\n',
        'é',
        ' Paris',
        ' я',
        '  ',
        ' <D1>',
        '\u0085',
      ];
      expect(vocab.map((_, id) => tokenizer.textOf(id)).slice(0, 12)).toEqual(texts);
      expect(tokenizer.textOf(13)).toBe('\ufeff');
      expect(tokenizer.textOf(14)).toBe('<F0 9F 98>');
      expect(tokenizer.textOf(15)).toBe('a<E3>b');
      const shown = [
        '<D1>',
        'я',
        '、',
        '<E3>',
        '<E3 80>',
        '\\n',
        'é',
        '␣Paris',
        '␣я',
        '␣␣',
        '␣<D1>',
        '<U+0085>',
      ];
      expect(vocab.map((_, id) => tokenizer.show(id)).slice(0, 12)).toEqual(shown);
      // As the vocabulary writes it, where it is asked for.
      expect(tokenizer.tokenOf(7)).toBe('ĠParis');
    }
  });

  it('pieces of SentencePiece: ▁ is a space, <0xE3> a byte', async () => {
    const replace = { type: 'Replace', pattern: { String: '▁' }, content: ' ' };
    const strip = { type: 'Strip', content: ' ', start: 1, stop: 0 };
    const llama = {
      type: 'Sequence',
      decoders: [replace, { type: 'ByteFallback' }, { type: 'Fuse' }, strip],
    };
    const tokenizer = await words(['▁Paris', '▁', 'is', '<0x0A>', '<0xE3>', '▁▁a'], { decoder: llama });
    const all = [0, 1, 2, 3, 4, 5];
    expect(all.map(tokenizer.textOf)).toEqual([' Paris', ' ', 'is', '\n', '<E3>', '  a']);
    expect(all.map(tokenizer.show)).toEqual(['␣Paris', '␣', 'is', '\\n', '<E3>', '␣␣a']);
    const metaspace = await words(['▁Paris', 'a'], { decoder: { type: 'Metaspace', replacement: '▁' } });
    expect([0, 1].map(metaspace.show)).toEqual(['␣Paris', 'a']);
    const bare = await words(['▁Paris', 'a'], { pre_tokenizer: { type: 'Metaspace', replacement: '▁' } });
    expect([0, 1].map(bare.show)).toEqual(['␣Paris', 'a']);
  });

  it('WordPiece keeps its mark where people read it; special and added tokens are as they are written', async () => {
    const tokenizer = await words(['paris', '##ing', '[SEP]', 'Ġx', 'new York'], {
      decoder: { type: 'WordPiece' },
      added_tokens: [
        { id: 2, content: '[SEP]', special: true },
        { id: 4, content: 'new York', special: false },
      ],
    });
    const all = [0, 1, 2, 3, 4, 77];
    expect(all.map(tokenizer.textOf)).toEqual(['paris', 'ing', '[SEP]', 'Ġx', 'new York', '<77>']);
    expect(all.map(tokenizer.show)).toEqual(['paris', '##ing', '[SEP]', 'Ġx', 'new York', '<77>']);
    expect(all.map(tokenizer.isSpecial)).toEqual([false, false, true, false, false, false]);
    const suffix = await words(['paris</w>', 'par'], { decoder: { type: 'BPEDecoder', suffix: '</w>' } });
    expect([0, 1].map(suffix.show)).toEqual(['paris␣', 'par']);
  });

  it('nothing of a token reaches a terminal or a page unseen', async () => {
    const tokenizer = await words([
      '\u001b[31mred',
      'a\u202eb',
      '\u009b1m',
      'z\u200bz',
      '\ud800',
      '\u2028',
      'e\u0301',
      '👩\u200d👧',
    ]);
    expect([0, 1, 2, 3, 4, 5, 6, 7].map(tokenizer.show)).toEqual([
      '<U+001B>[31mred',
      'a<U+202E>b',
      '<U+009B>1m',
      'z<U+200B>z',
      '<U+D800>',
      '<U+2028>',
      'e\u0301',
      '👩\u200d👧',
    ]);
  });

  it('an id without a token is written as <id>, in text too', async () => {
    const tokenizer = await words(['a', 'b']);
    expect([tokenizer.tokenOf(565), tokenizer.textOf(565), tokenizer.show(565)]).toEqual([
      '<565>',
      '<565>',
      '<565>',
    ]);
    expect(tokenizer.decode([0, 565, 1])).toBe('a <565> b');
    expect(() => tokenizer.tokenOf(0.5)).toThrow(/no token 0\.5/);
  });

  it('characters that no token stands for are known, as encoding leaves them out', async () => {
    const model = { type: 'BPE', unk_token: null, merges: [], vocab: { a: 0, b: 1 } };
    const tokenizer = await words([], { model });
    expect(tokenizer.encode('axbя')).toEqual([0, 1]);
    expect(tokenizer.lost('axbя')).toBe('xя');
    await expect(
      words(['a', 'b'], { model: { ...model, unk_token: '<x>' } }).then((one) => one.encode('q')),
    ).rejects.toThrow(/^m: "q" cannot be spelt: the unknown token "<x>" is not in the vocabulary$/);
  });
});

describe('as the reference: what went wrong', () => {
  const piece = (vocab: readonly string[]) => ({
    type: 'WordPiece',
    unk_token: vocab[0],
    vocab: Object.fromEntries(vocab.map((token, id) => [token, id])),
  });

  it('Unigram with byte_fallback', async () => {
    const vocab = [
      ['<unk>', 0],
      ['a', -1],
      ['b', -1],
      ['<0x0A>', -2],
    ];
    const tokenizer = await words([], { model: { type: 'Unigram', unk_id: 0, byte_fallback: true, vocab } });
    expect(tokenizer.encode('a\nb')).toEqual([1, 3, 2]);
    expect(tokenizer.encode('a\n\nяb')).toEqual([1, 0, 2]);
    expect(tokenizer.show(3)).toBe('\\n');
  });

  it('Whitespace beyond ASCII', async () => {
    const model = piece(['[UNK]', 'Москва', '.', 'café', 'caf', '##é', 'é']);
    const tokenizer = await words([], { model, pre_tokenizer: { type: 'Whitespace' } });
    expect(tokenizer.encode('Москва.')).toEqual([1, 2]);
    expect(tokenizer.encode('café')).toEqual([3]);
  });

  it('Bert: final sigma, U+0085 and U+FEFF', async () => {
    const model = piece(['[UNK]', 'σασ', 'σας', 'ab', 'a', 'b']);
    const normalizer = {
      type: 'BertNormalizer',
      clean_text: true,
      handle_chinese_chars: true,
      lowercase: true,
    };
    const tokenizer = await words([], { model, normalizer, pre_tokenizer: { type: 'BertPreTokenizer' } });
    expect(tokenizer.encode('ΣΑΣ a\u0085b \ufeffab')).toEqual([1, 3, 3]);
  });

  it('single_word', async () => {
    const tokenizer = await words(['[UNK]', 'renew', 'new'], {
      pre_tokenizer: { type: 'WhitespaceSplit' },
      added_tokens: [{ id: 2, content: 'new', single_word: true, normalized: false }],
    });
    expect(tokenizer.encode('renew new')).toEqual([1, 2]);
  });
});
