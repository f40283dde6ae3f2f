/** What programs in JavaScript get wrong: it works where the meaning is plain, else the error says what was expected. */

import { afterAll, beforeAll, expect, it } from 'vitest';
import { add, type Device, div, grad, mul, openDevice, sub, sum, tensor } from '../../engine/index.ts';
import { type LanguageModel, loadModel, type Tokenizer } from '../../models/index.ts';
import { encodePrompt, neuronGradients, type Prompt, sweep } from '../../neurgrad/index.ts';

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
    "neuronGradients: of is 'logits', expected 'prob', 'logprob' or 'logit'",
  );
  const named = await sweep(model, prompt, { neurons: ['L3.N327'], shifts: [-1, 1, 2] });
  const same = await sweep(model, prompt, {
    neurons: [{ layer: 3, index: 327, site: 'post' }],
    shifts: [-1, 1, 2],
  });
  expect(named.neurons).toEqual(same.neurons);
});
