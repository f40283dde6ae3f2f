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

  it('no word is unknown to letters for bytes, though GPT-2 calls the end of a text so', async () => {
    const end = '<|endoftext|>';
    const files = {
      'tokenizer.json': {
        added_tokens: [{ id: 2, content: end, special: true }],
        pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, use_regex: true },
        model: { type: 'BPE', unk_token: null, merges: [], vocab: { a: 0, Ġ: 1 } },
      },
      'tokenizer_config.json': { bos_token: end, eos_token: end, unk_token: end },
    };
    const blobs = Object.entries(files).map(
      ([name, json]) => [name, new Blob([JSON.stringify(json)])] as const,
    );
    const gpt2 = await loadTokenizer(fileMapFolder(new Map(blobs)));
    expect(gpt2.unknownId).toBeUndefined();
    expect(promptRemarks({ causal: true }, gpt2, `a a${end}a`)).toEqual([]);
    expect(unknownRemark(gpt2, [{ ids: gpt2.encode(`a${end}`) }])).toBeNull();
    expect(gpt2.singleToken(end, { kind: 'causal', after: 'a' })).toBe(gpt2.eosId);
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
