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
    expect(() => facts.decode([12304])).toThrow(/no token 12304; ids go from 0 to 12303/);
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
    expect(() => stories.singleToken('Paris', { kind: 'llama' })).toThrow(/pieces: ▁ P ar is/);
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
    ['not JSON', { 'tokenizer.json': good.slice(0, 999) }, /^m: tokenizer\.json is not JSON$/],
    ['no object', { 'tokenizer.json': '[]' }, /^m: tokenizer\.json is not an object$/],
    ['no model', { 'tokenizer.json': '{}' }, /^m: tokenizer\.json has no model$/],
    [
      'strange model',
      { 'tokenizer.json': '{"model":{"type":"X"}}' },
      /^m: tokenizer\.json: model\.type "X" is not supported; supported: BPE, Unigram, WordLevel, WordPiece$/,
    ],
    [
      'null model',
      { 'tokenizer.json': '{"model":null}' },
      /^m: tokenizer\.json: model must be an object, not null$/,
    ],
    ['a strange kind', changed({ model: { type: 'Foo' } }), /model\.type "Foo" is not supported/],
    ['half a merge', changed({ model: { merges: [['a']] } }), /model\.merges\[0\] must be a pair of tokens/],
    [
      'merges of three',
      changed({ model: { merges: ['a b', 'a b c'] } }),
      /model\.merges\[1\] must be .* not "a b c"$/,
    ],
    [
      'merges that are no list',
      changed({ model: { merges: 5 } }),
      /model\.merges must be a list of pairs, not 5$/,
    ],
    [
      'added tokens that are no list',
      changed({ added_tokens: 'x' }),
      /added_tokens must be a list .* not "x"$/,
    ],
    [
      'an added token without a content',
      changed({ added_tokens: [{ id: 3 }] }),
      /added_tokens\[0\] must have/,
    ],
    [
      'two tokens with one id',
      changed({ model: { vocab: { '<unk>': 0, a: 1, b: 1 } } }),
      /model\.vocab has "a" and "b" under one id, 1$/,
    ],
    ...[
      { type: 'TemplateProcessing', single: [{ SpecialToken: { id: '<x>', type_id: 0 } }], pair: [] },
      { type: 'Sequence', processors: [{ type: 'BertProcessing', cls: ['<x>', 1], sep: ['</s>', 2] }] },
    ].map((post_processor): [string, Record<string, string>, RegExp] => [
      `a token around texts that is not there, ${post_processor.type}`,
      changed({ post_processor }),
      /post_processor\S* names the token "<x>", which is in neither the vocabulary nor added_tokens$/,
    ]),
    [
      'an id beyond any model',
      added(1e9),
      /^m: tokenizer\.json: added_tokens\[0\]\.id must be a whole number from 0 to 4194303, not 1000000000$/,
    ],
    ['a negative id', added(-1), /added_tokens\[0\]\.id must be a whole number/],
    ['an id that is no number', added('5'), /added_tokens\[0\]\.id must be .* not "5"$/],
    [
      'such an id in the vocabulary',
      changed({ model: { vocab: { a: 0, b: 2 ** 40 } } }),
      /model\.vocab\["b"\] must be a whole number/,
    ],
    [
      'config',
      { 'tokenizer.json': good, 'tokenizer_config.json': '1' },
      /tokenizer_config\.json is not an object/,
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
