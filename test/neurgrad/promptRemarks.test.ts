import { describe, expect, it, vi } from 'vitest';
import { fileMapFolder, localFolder } from '../../models/byteSource.ts';
import { checkInput } from '../../models/run.ts';
import { loadTokenizer } from '../../models/tokenizer.ts';
import { promptRemarks, unknownRemark } from '../../neurgrad/promptRemarks.ts';

const bert = await loadTokenizer(await localFolder('examples/models/facts-bert'));
const llama = await loadTokenizer(await localFolder('examples/models/stories260k'));
const ofBert = (text: string) => promptRemarks({ architecture: 'bert' }, bert, text);
const ofLlama = (text: string) => promptRemarks({ architecture: 'llama' }, llama, text);

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
    const of = (text: string) => promptRemarks({ architecture: 'llama' }, tokenizer, text);
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

it('padding on the left without positions is told once a model; on the right, or with positions, not', () => {
  const warn = vi.spyOn(console, 'warn').mockImplementation(() => undefined);
  const sizes = () =>
    ({
      layers: 1,
      hidden: 8,
      width: 8,
      heads: 1,
      keyValueHeads: 1,
      headSize: 8,
      vocabulary: 9,
      positions: 8,
    }) as const;
  const ids = [
    [1, 2, 3],
    [0, 0, 1],
  ];
  const left = [
    [1, 1, 1],
    [0, 0, 1],
  ];
  const model = sizes();
  checkInput({ ids, attentionMask: left }, model);
  checkInput({ ids, attentionMask: left }, model);
  expect(warn.mock.calls).toEqual([
    [expect.stringMatching(/^note: row 1 is padded on the left.*at position 2, not 0/)],
  ]);
  expect(warn.mock.calls[0]![0]).not.toContain('\n');
  warn.mockClear();
  checkInput(
    {
      ids,
      attentionMask: [
        [1, 1, 1],
        [1, 0, 0],
      ],
    },
    sizes(),
  );
  checkInput(
    {
      ids,
      attentionMask: [
        [1, 1, 1],
        [0, 0, 0],
      ],
    },
    sizes(),
  );
  checkInput(
    {
      ids,
      attentionMask: left,
      positionIds: [
        [0, 1, 2],
        [0, 0, 0],
      ],
    },
    sizes(),
  );
  expect(warn).not.toHaveBeenCalled();
  warn.mockRestore();
});
