import { beforeAll, describe, expect, it } from 'vitest';
import { fileMapFolder, localFolder } from '../../models/byteSource.ts';
import { loadTokenizer, type Tokenizer } from '../../models/tokenizer.ts';
import { encodePrompt, resolveTarget } from '../../neurgrad/prompt.ts';

const sizes = {
  layers: 1,
  hidden: 1,
  width: 1,
  heads: 1,
  keyValueHeads: 1,
  headSize: 1,
  vocabulary: 99_999,
  positions: 64,
};
const bertModel = { causal: false, sizes } as const;
const llamaModel = { causal: true, sizes } as const;
let bert: Tokenizer;
let llama: Tokenizer;

beforeAll(async () => {
  bert = await loadTokenizer(await localFolder('examples/models/facts-bert'));
  llama = await loadTokenizer(await localFolder('examples/models/stories260k'));
});

describe('encodePrompt', () => {
  it('probes BERT at its [MASK]', () => {
    const prompt = encodePrompt(bertModel, bert, 'The capital of France is [MASK].');
    expect(prompt.tokens).toEqual(['[CLS]', 'the', 'capital', 'of', 'france', 'is', '[MASK]', '.', '[SEP]']);
    expect(prompt.position).toBe(6);
  });
  it('probes a causal model at its last token', () => {
    const prompt = encodePrompt(llamaModel, llama, 'Once upon a time');
    expect(prompt.position).toBe(prompt.ids.length - 1);
    expect(prompt.ids[0]).toBe(llama.bosId);
  });
  it.each([
    ['The capital of France is Paris.', 'the prompt has no [MASK], it needs exactly one'],
    ['[MASK] is [MASK].', 'the prompt has 2 times [MASK]'],
    ['', 'the prompt is empty'],
    ['  ', 'the prompt is empty'],
    [`${'very '.repeat(70)}[MASK]`, 'the prompt has 73 tokens, the model takes 64'],
  ])('refuses %s', (text, message) => {
    expect(() => encodePrompt(bertModel, bert, text)).toThrow(message);
  });
  it('takes exactly as many tokens as the model has positions', () => {
    expect(encodePrompt(bertModel, bert, `${'very '.repeat(61)}[MASK]`).ids).toHaveLength(64);
    expect(() => encodePrompt(bertModel, bert, `${'very '.repeat(62)}[MASK]`)).toThrow('65 tokens');
  });
});

describe('resolveTarget', () => {
  const target = (word: string, text = 'Rome is [MASK].') =>
    bert.tokenOf(resolveTarget(bertModel, bert, { text }, word));
  const next = (word: string, text = 'Once upon a time') =>
    llama.tokenOf(resolveTarget(llamaModel, llama, { text }, word));

  it('is the word itself for BERT, in the case the model knows', () => {
    expect(target('Paris')).toBe('paris');
    expect(target('##s')).toBe('##s');
  });
  it('shows the pieces of a word of several', () => {
    expect(() => target('Paris France')).toThrow('paris france');
    expect(() => target('')).toThrow('empty');
  });
  it('follows a causal prompt after a space, punctuation directly', () => {
    expect(next('there')).toBe('▁there');
    expect(next(',')).toBe(',');
    expect(next('▁there')).toBe('▁there');
    expect(() => next('elephant')).toThrow(/␣e le p h an t/);
  });
});

describe('a masked model of another family (RoBERTa)', () => {
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    const mask = { id: 4, content: '<mask>', single_word: false, lstrip: true, rstrip: false };
    const json = {
      added_tokens: [{ ...mask, normalized: false, special: true }],
      pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
      model: {
        type: 'BPE',
        unk_token: null,
        merges: ['Ġ a'],
        vocab: { a: 0, b: 1, Ġ: 2, Ġa: 3, '<mask>': 4 },
      },
    };
    const file = new Blob([JSON.stringify(json)]);
    tokenizer = await loadTokenizer(fileMapFolder(new Map([['tokenizer.json', file]]), 'm'));
  });

  it('has a mask of its own, which takes the space before it along', () => {
    expect(encodePrompt(bertModel, tokenizer, 'b <mask>a').tokens).toEqual(['b', '<mask>', 'a']);
    expect(() => encodePrompt(bertModel, tokenizer, 'a b')).toThrow('the prompt has no <mask>');
  });
  it('so that a target has it, where the prompt does', () => {
    const target = (text: string): string =>
      tokenizer.tokenOf(resolveTarget(bertModel, tokenizer, { text }, 'a'));
    expect(target('b <mask>b')).toBe('Ġa');
    expect(target('<mask> b')).toBe('a');
    expect(() => resolveTarget(bertModel, tokenizer, { text: 'b <mask>' }, 'b')).toThrow(
      '"b" is not one known token of m; its pieces: ',
    );
  });
  it('needs a mask token', async () => {
    const json = { added_tokens: [], model: { type: 'BPE', unk_token: null, merges: [], vocab: { a: 0 } } };
    const file = new Blob([JSON.stringify(json)]);
    const none = await loadTokenizer(fileMapFolder(new Map([['tokenizer.json', file]]), 'm'));
    expect(() => encodePrompt(bertModel, none, 'a')).toThrow('the tokenizer has no mask token');
  });
});
