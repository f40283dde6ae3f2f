/** Neurons and positions by a few words. */

import { resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { BUNDLED_MODELS, bundledFolder } from '../../models/bundled.ts';
import { loadTokenizer, localFolder, parseConfig, resolveModelFolder } from '../../models/index.ts';
import { formatNeuron, neuronSpace, positionOf, selectNeurons } from '../../neurgrad/index.ts';

const SPACE = neuronSpace(
  parseConfig({
    model_type: 'bert',
    vocab_size: 8,
    hidden_size: 4,
    num_hidden_layers: 3,
    num_attention_heads: 2,
    intermediate_size: 5,
  }),
);
/** Of 3 layers x 5. */
const NEURGRAD = [0, 3, -1, 0, 2, 0, 0, -4, 0, 0, 3, 0, 0, 0, 1];
const names = (text: string, options = {}): string[] =>
  selectNeurons(text, SPACE, options)
    .neurons(NEURGRAD)
    .map((neuron) => formatNeuron(neuron, 'post'));

describe('selectNeurons', () => {
  it.each<[string, string[]]>([
    ['L2.N3,L0.N4', ['L2.N3', 'L0.N4']],
    ['l1.n2@pre L1.N2', ['L1.N2@pre', 'L1.N2']],
    ['L1.*', ['L1.N0', 'L1.N1', 'L1.N2', 'L1.N3', 'L1.N4']],
    ['L1.N1-3@pre', ['L1.N1@pre', 'L1.N2@pre', 'L1.N3@pre']],
    ['L*.N2', ['L0.N2', 'L1.N2', 'L2.N2']],
    ['L0-1.N4', ['L0.N4', 'L1.N4']],
    // Equal ones by number; the smallest first.
    ['top:3', ['L0.N1', 'L2.N0', 'L0.N4']],
    ['bottom:2', ['L1.N2', 'L0.N2']],
    ['L0.N1,top:2', ['L0.N1', 'L2.N0']],
  ])('reads %s', (text, wanted) => expect(names(text)).toEqual(wanted));
  it('takes all, and draws by the seed', () => {
    expect(names('all')).toHaveLength(15);
    expect(names('random:4', { seed: 3 })).toEqual(names('random:4', { seed: 3 }));
    expect(new Set(names('random:15')).size).toBe(15);
    expect(names('random:4', { seed: 3 })).not.toEqual(names('random:4', { seed: 4 }));
    expect(names('L0.N0', { site: 'pre' })).toEqual(['L0.N0@pre']);
  });
  it.each([
    ['', 'no neurons given'],
    ['L3.*', 'the model has layers L0 to L2'],
    ['L0.N2-7', 'a layer has neurons N0 to N4'],
    ['L0.N3-1', 'from the larger to the smaller'],
    ['top:16', '1 to 15'],
    ['random:0', '1 to 15'],
    ['best:3', '"best:3" is not a neuron; write'],
    ['L0.N1,L0.N1', 'L0.N1@post is named twice'],
  ])('refuses "%s"', (text, said) => expect(() => names(text)).toThrow(said));
  it('says when a prompt is needed', () => {
    const ranked = selectNeurons('top:1', SPACE);
    expect([ranked.ranked, selectNeurons('all', SPACE).ranked]).toEqual([true, false]);
    expect(() => ranked.neurons()).toThrow('needs the NeurGrad of all 15 neurons');
  });
});

describe('positionOf', async () => {
  const tokenizer = await loadTokenizer(await localFolder('examples/models/facts-bert'));
  const of = (text: string, word: string): number => {
    const ids = tokenizer.encode(text);
    const position = ids.indexOf(tokenizer.maskId!);
    return positionOf({ ids, position, shown: ids.map(tokenizer.show) }, tokenizer, word);
  };
  const text = 'The capital of France is [MASK].';
  it.each([
    ['0', 0],
    ['-1', 8],
    ['last', 8],
    ['mask', 6],
    ['France', 4],
    ['capital', 2],
    // Of several tokens the last.
    ['. ', 7],
  ])('%s', (word, at) => expect(of(text, word)).toBe(at));
  it('takes the last token of a word of several', () => {
    const long = 'Kobayashimaru is in [MASK].';
    const pieces = tokenizer.pieces('Kobayashimaru').length;
    expect(pieces).toBeGreaterThan(1);
    expect(of(long, 'Kobayashimaru')).toBe(pieces);
  });
  it('refuses what is not there, or twice', () => {
    expect(() => of(text, '9')).toThrow('positions 0 to 8, or -9 to -1');
    expect(() => of(text, 'Rome')).toThrow('has no such word; its tokens: [CLS] the capital');
    expect(() => of('in and in [MASK]', 'in')).toThrow('has that 2 times, at 1, 3');
  });
});

it('bundled models are found by their names', async () => {
  expect(BUNDLED_MODELS).toEqual(['stories260k', 'facts-bert']);
  expect(await bundledFolder('facts-bert')).toBe(resolve('examples/models/facts-bert'));
  expect(await bundledFolder('examples/models/stories260k')).toBe(resolve('examples/models/stories260k'));
  expect(await bundledFolder('bert-base-uncased')).toBeUndefined();
  expect(await (await resolveModelFolder('facts-bert')).has('config.json')).toBe(true);
});
