import { beforeAll, describe, expect, it } from 'vitest';
import { localFolder } from '../../models/byteSource.ts';
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
