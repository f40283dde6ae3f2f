/** What programs in JavaScript get wrong: it works where the meaning is plain, else the error says what was expected. */

import { afterAll, beforeAll, expect, it } from 'vitest';
import { add, type Device, div, grad, mul, openDevice, sub, sum, tensor } from '../../engine/index.ts';
import { generate, type LanguageModel, loadModel, type Tokenizer } from '../../models/index.ts';
import {
  encodePrompt,
  flatIndex,
  formatNeuron,
  neuronAt,
  neuronGradients,
  neuronSpace,
  type Prompt,
  parseNeuron,
  parseNeurons,
  resolveTarget,
  shiftGrid,
  siteHook,
  siteOfHook,
  strongest,
  sweep,
  targetValues,
  topPredictions,
} from '../../neurgrad/index.ts';

let device: Device;
let model: LanguageModel;
let tokenizer: Tokenizer;
let prompt: Prompt;
beforeAll(async () => {
  device = await openDevice();
  ({ model, tokenizer } = await loadModel('examples/models/facts-bert', { device }));
  prompt = encodePrompt(model, tokenizer, 'The capital of France is [MASK].');
});
afterAll(() => device.destroy());

it('numbers are operands, and one tensor is a list of one', async () => {
  const x = tensor(device, [1, 2]).requireGrad();
  expect([...(await add(x, 1).read())]).toEqual([2, 3]);
  expect([...(await sub(1, x).read())]).toEqual([0, -1]);
  expect([...(await div(x, 2).read())]).toEqual([0.5, 1]);
  const [dx] = grad(sum(mul(x, 0.5)), x);
  expect([...(await dx!.read())]).toEqual([0.5, 0.5]);
  expect(() => add(1, 2)).toThrow('add: b is 2, expected a tensor');
  expect(() => add(x, '1' as never)).toThrow("add: b is '1', expected a tensor or a number");
  expect(() => mul([1] as never, x)).toThrow('mul: a is [1], expected a tensor or a number');
  expect(() => grad(sum(mul(x, x)), 'w' as never)).toThrow("grad: inputs is 'w', expected a list of tensors");
});

it('a run says what it was not told rightly', () => {
  const name = 'blocks.3.mlp.hook_post';
  const run = (options: object) => () => model.run({ ids: [[...prompt.ids]] }, options);
  const patch = { name, position: 1, op: 'set', value: 0 };
  expect(run({ patch: [patch] })).toThrow('run: patch[0].neuron is missing, expected an index');
  expect(run({ patch: [{ ...patch, neuron: 1, rows: [0] }] })).toThrow("did you mean 'patch[0].row'");
  expect(run({ captures: [name] })).toThrow("run: there is no option 'captures'; did you mean 'capture'?");
  expect(run({ patches: [] })).toThrow("did you mean 'patch'?");
  expect(run({ edit: { [name]: () => {} } })).toThrow(`edit of ${name} returned nothing, expected a tensor`);
  expect(run({ edit: { [name]: async () => {} } })).toThrow('returned a promise, expected a tensor');
  const objective = { of: 'logits', target: [1], position: [1] };
  expect(run({ grad: { at: [name], of: objective } })).toThrow("run: grad.of.of is 'logits', expected");
});

it('prompts are encoded first, neurons may have names', async () => {
  await expect(neuronGradients(model, 'text' as never)).rejects.toThrow(
    "neuronGradients: probe is 'text', expected a prompt: { ids, position }; encodePrompt",
  );
  await expect(neuronGradients({ model, tokenizer } as never, prompt)).rejects.toThrow(
    'expected a model: the `model`',
  );
  await expect(neuronGradients(model, prompt, { of: 'logits' as never })).rejects.toThrow(
    "neuronGradients: of is 'logits', expected 'prob', 'logprob', 'logit' or 'logit_diff'",
  );
  const named = await sweep(model, prompt, { neurons: ['L3.N327'], shifts: [-1, 1, 2] });
  const same = await sweep(model, prompt, {
    neurons: [{ layer: 3, index: 327, site: 'post' }],
    shifts: [-1, 1, 2],
  });
  expect(named.neurons).toEqual(same.neurons);
});

it('neurons, targets and results are what they are said to be', () => {
  const space = neuronSpace(model);
  const wrong = (call: () => unknown, message: string): void => expect(call).toThrow(message);
  const any = undefined as never;
  wrong(() => formatNeuron({ layer: 'a' } as never), 'formatNeuron: neuron is { layer }, expected a neuron');
  wrong(() => formatNeuron('L0.N3' as never), "formatNeuron: neuron is 'L0.N3', expected a neuron");
  wrong(() => flatIndex(any, 512), 'flatIndex: neuron is missing, expected a neuron');
  wrong(
    () => flatIndex({ layer: 0, index: 512 }, 512),
    'flatIndex: neuron.index is 512, expected a whole number from 0 to 511',
  );
  wrong(() => neuronAt(1.5, 512, 'post'), 'neuronAt: flat is 1.5, expected a whole number, 0 or more');
  wrong(() => neuronAt(-1, 512, 'post'), 'neuronAt: flat is -1');
  wrong(() => neuronAt(1, 0, 'post'), 'neuronAt: width is 0, expected a whole number above 0');
  wrong(() => parseNeuron(5 as never, space), "parseNeuron: text is 5, expected a neuron's name");
  wrong(() => parseNeurons(['L0.N3'] as never, space), "parseNeurons: text is ['L0.N3'], expected");
  wrong(() => siteHook(-1, 'post'), 'siteHook: layer is -1');
  wrong(() => siteOfHook('hook_embed'), "'hook_embed' is no feed-forward hook");
  wrong(
    () => strongest({ neurgrad: [1] } as never, 2),
    'strongest: values is { neurgrad }, expected a list of numbers',
  );
  wrong(() => strongest([1, 2], '2' as never), "strongest: count is '2', expected a whole number");
  expect(strongest([1, -3, 2, 0], 0)).toEqual({ positive: [], negative: [] });
  wrong(() => targetValues(Float32Array.of(1, 2), 2), 'target id 2: the vocabulary has ids 0 to 1');
  wrong(() => topPredictions(Float32Array.of(1, 2), {} as never), 'topPredictions: top is {}, expected');
  wrong(() => shiftGrid({} as never, any, any), 'range {}:undefined:undefined: the three values');
  wrong(() => encodePrompt(tokenizer as never, model as never, 'x'), 'encodePrompt: model is');
  wrong(() => encodePrompt(Promise.resolve(model) as never, tokenizer, 'x'), 'is an await missing?');
  wrong(
    () => encodePrompt(model, model as never, 'x'),
    'encodePrompt: tokenizer is a Transformer, expected a tokenizer',
  );
  wrong(
    () => resolveTarget(model, tokenizer, 'Paris' as never, any),
    "resolveTarget: prompt is 'Paris', expected a prompt",
  );
  wrong(
    () => resolveTarget(model, tokenizer, prompt, 3 as never),
    "resolveTarget: word is 3, expected the target's text",
  );
});

it('what is run is a list of ids', async () => {
  const { model: llama } = await loadModel('examples/models/stories260k', { device });
  expect(() => llama.prefill('hello' as never)).toThrow(
    "prefill: ids is 'hello', expected a list of token ids",
  );
  expect(() => llama.prefill([[1, 2]] as never)).toThrow('ids: [1, 2] at 0 is outside 0..511');
  llama.dispose();
  const gone = 'this model has been disposed of';
  expect(() => llama.prefill([1])).toThrow(gone);
  await expect(generate(llama, [1])).rejects.toThrow(gone);
  await expect(generate(model as never, [1])).rejects.toThrow(
    'generate: model is a Transformer, expected a causal model',
  );
});
