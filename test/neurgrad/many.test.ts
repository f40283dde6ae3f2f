/** Many prompts in one call: the numbers of each alone, whatever rides beside it. */

import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { type Device, openDevice } from '../../engine/index.ts';
import { loadModel, localFolder, streamModel } from '../../models/index.ts';
import { Transformer } from '../../models/transformer.ts';
import {
  encodePrompt,
  integrateLayers,
  integrateNeurons,
  type LanguageModel,
  type NeuronGradients,
  neuronGradients,
  type Prompt,
  type Tokenizer,
} from '../../neurgrad/index.ts';
import { predict } from '../../neurgrad/predict.ts';
import { predictMany } from '../../neurgrad/probeMany.ts';

let device: Device;
beforeAll(async () => {
  device = await openDevice();
});
afterAll(() => device.destroy());

/** Of lengths from short to long, so that rows are padded and passes are several. */
const MASKED = [
  'Rome is in [MASK].',
  'The capital of France is [MASK].',
  'The official language of the city of Rio de Janeiro in Brazil is [MASK].',
  'Oslo is located in [MASK].',
  'Ada Lovelace was born in [MASK].',
  'Albert Einstein works in the field of [MASK].',
];
const CAUSAL = ['Once upon a time', 'The dog', 'Lily and Tom went to the park to', 'One day, a', 'She said'];

const same = (a: NeuronGradients, b: NeuronGradients): void => {
  expect(a.target).toBe(b.target);
  expect(a.p).toBe(b.p);
  expect(a.activation).toEqual(b.activation);
  expect(a.gradient).toEqual(b.gradient);
  expect(a.neurgrad).toEqual(b.neurgrad);
  expect(a.noise).toEqual(b.noise);
  expect(a.belowNoise).toBe(b.belowNoise);
};

describe.each([
  ['examples/models/facts-bert', MASKED],
  ['examples/models/stories260k', CAUSAL],
])('%s', (name, texts) => {
  let model: LanguageModel;
  let tokenizer: Tokenizer;
  let prompts: Prompt[];
  beforeAll(async () => {
    ({ model, tokenizer } = await loadModel(name, { device }));
    prompts = texts.map((text) => encodePrompt(model, tokenizer, text));
  });

  it.each(['prob', 'logprob', 'logit'] as const)('gives each prompt its own bits, of %s', async (of) => {
    const told: number[] = [];
    const many = await neuronGradients(model, prompts, { of, onProgress: (done) => told.push(done) });
    for (const [i, prompt] of prompts.entries()) same(many[i]!, await neuronGradients(model, prompt, { of }));
    expect(told.at(-1)).toBe(prompts.length);
  });

  it('takes a site, an axis, a target for all or each, and one prompt several times', async () => {
    const [one, two] = prompts as [Prompt, Prompt];
    const many = await neuronGradients(model, [one, one, two], {
      target: [7, 9, undefined],
      site: 'pre',
      direction: 'plain',
      sign: '-',
    });
    const alone = { site: 'pre', direction: 'plain', sign: '-' } as const;
    same(many[0]!, await neuronGradients(model, one, { ...alone, target: 7 }));
    same(many[1]!, await neuronGradients(model, one, { ...alone, target: 9 }));
    same(many[2]!, await neuronGradients(model, two, alone));
    const all = await neuronGradients(model, [one, two], { target: 7 });
    same(all[1]!, await neuronGradients(model, two, { target: 7 }));
    expect(await neuronGradients(model, [])).toEqual([]);
    await expect(neuronGradients(model, prompts, { target: [1] })).rejects.toThrow(
      /1 targets for \d prompts/,
    );
    await expect(neuronGradients(model, prompts, { target: 1e9 })).rejects.toThrow('the vocabulary has ids');
  });

  it('finds the answers in the runs that are made anyway', async () => {
    const embedded = vi.spyOn(Transformer.prototype, 'embed');
    try {
      const [one, two] = prompts as [Prompt, Prompt];
      await neuronGradients(model, [one, two]);
      const open = embedded.mock.calls.length;
      await neuronGradients(model, [one, two], { target: 7 });
      expect(embedded.mock.calls.length).toBe(2 * open);
    } finally {
      embedded.mockRestore();
    }
  });

  it('integrates each prompt to the bits of it alone', async () => {
    const layer = model.sizes.layers - 1;
    const told: number[][] = [];
    const options = { layers: [1, layer], steps: 3 };
    const layers = await integrateLayers(model, prompts, {
      ...options,
      onProgress: (...done) => told.push(done),
    });
    expect(told.at(-1)).toEqual([prompts.length * 2, prompts.length * 2]);
    const lists = prompts.map((_, i) => [{ layer: i % 2 ? layer : 0, index: 3 + i, site: model.paperSite }]);
    const asked = { steps: 3, of: 'logit_diff', other: 11 } as const;
    const neurons = await integrateNeurons(model, prompts, lists, asked);
    for (const i of [0, 3]) {
      expect(layers[i]).toEqual(await integrateLayers(model, prompts[i]!, options));
      expect(neurons[i]).toEqual(await integrateNeurons(model, prompts[i]!, lists[i]!, asked));
    }
    const [ofLogits] = neurons[0]!;
    const naive = await integrateNeurons(model, prompts[0]!, lists[0]!, { ...asked, engine: 'naive' });
    expect(Math.abs(ofLogits!.ig - naive[0]!.ig)).toBeLessThan(ofLogits!.noise + naive[0]!.noise);
    // Its value at 0 and the plain one: the difference of the two logits.
    expect(ofLogits!.change).toBeCloseTo(naive[0]!.change, 4);
    await expect(integrateLayers(model, prompts, { target: [1] })).rejects.toThrow('1 targets for');
  });

  it('reads neurons at another position', async () => {
    const many = await neuronGradients(model, prompts, { neuronPosition: 1 });
    for (const [i, prompt] of prompts.entries())
      same(many[i]!, await neuronGradients(model, prompt, { neuronPosition: 1 }));
  });

  it('predicts', async () => {
    const many = await predictMany(model, prompts, 3);
    for (const [i, prompt] of prompts.entries()) expect(many[i]).toEqual(await predict(model, prompt, 3));
  });
});

it('runs a streamed model in waves', async () => {
  const name = 'examples/models/stories260k';
  const { model, tokenizer } = await loadModel(name, { device });
  const streamed = await streamModel(await localFolder(name), device);
  const prompts = CAUSAL.map((text) => encodePrompt(model, tokenizer, text));
  const [many, whole] = [await neuronGradients(streamed, prompts), await neuronGradients(model, prompts)];
  for (const [i, one] of many.entries()) same(one, whole[i]!);
  streamed.dispose();
});
