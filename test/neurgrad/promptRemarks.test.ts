import { describe, expect, it } from 'vitest';
import { fileMapFolder, localFolder } from '../../models/byteSource.ts';
import { loadTokenizer } from '../../models/tokenizer.ts';
import { promptRemarks, unknownRemark } from '../../neurgrad/promptRemarks.ts';

const bert = await loadTokenizer(await localFolder('examples/models/facts-bert'));
const llama = await loadTokenizer(await localFolder('examples/models/stories260k'));
const ofBert = (text: string) => promptRemarks({ causal: false }, bert, text);
const ofLlama = (text: string) => promptRemarks({ causal: true }, llama, text);

describe('what is odd about a prompt', () => {
  it.each(['The capital of France is [MASK].', '[MASK]'])('nothing: %j', (text) => {
    expect(ofBert(text)).toEqual([]);
  });
  it.each(['Once upon a time', 'Answer:\n', ' Tabs\t inside'])('nothing: %j', (text) => {
    expect(ofLlama(text)).toEqual([]);
  });

  it.each([
    ['你好 is [MASK].', '2 of 5 tokens are [UNK]'],
    ['Столица Франции это [MASK].', '3 of 5 tokens are [UNK]'],
    ['[UNK] [MASK]', '1 of 2 tokens are [UNK]'],
  ])('unknown words: %j', (text, line) => {
    expect(ofBert(text)).toEqual([expect.stringContaining(line)]);
  });

  it.each([
    ['[CLS] Paris is [MASK].', ['[CLS]']],
    ['Paris is [MASK]. [SEP]', ['[SEP]']],
    ['[CLS] Paris is [MASK]. [SEP]', ['[CLS]', '[SEP]']],
  ])('special tokens that double: %j', (text, tokens) => {
    expect(ofBert(text)).toEqual(
      tokens.map(
        (token) => `${token} is typed in the prompt and added by the tokenizer, too: it is there twice`,
      ),
    );
  });
  it('</s> is added by nobody, so it does not double', () => {
    expect(ofLlama('<s>Once')).toEqual([expect.stringMatching(/^<s> is typed .* twice$/)]);
    expect(ofLlama('Once</s> more')).toEqual([]);
  });

  it.each(['The capital of France is ', 'Once upon a time\t', 'a\u00a0', 'two  '])(
    'a space at the end: %j',
    (text) => {
      expect(ofLlama(text)).toEqual([expect.stringMatching(/^the prompt ends in a space/)]);
      expect(ofBert(`[MASK] ${text}`).filter((line) => line.includes('ends in'))).toEqual([]);
    },
  );

  it('characters without a token', async () => {
    const model = { type: 'BPE', unk_token: null, merges: [], vocab: { a: 0 } };
    const file = new Blob([JSON.stringify({ added_tokens: [], model })]);
    const tokenizer = await loadTokenizer(fileMapFolder(new Map([['tokenizer.json', file]]), 'm'));
    const of = (text: string) => promptRemarks({ causal: true }, tokenizer, text);
    expect(of('aя')).toEqual(['1 character has no token and is left out: "я"']);
    expect(of('x\u009ba')).toEqual(['2 characters have no token and are left out: "x<U+009B>"']);
  });
});

it('of many prompts it is told how many have unknown words', () => {
  const of = (...texts: string[]) =>
    unknownRemark(
      bert,
      texts.map((text) => ({ ids: bert.encode(text) })),
    );
  expect(of('Rome is [MASK].', 'Paris is [MASK].')).toBeNull();
  expect(of('你好 [MASK]', 'Rome [MASK]', '[MASK] мир')).toMatch(/^2 of 3 prompts have \[UNK\]/);
});
