/** What passes of whole models do not dispatch: sums of gradients, and turns of queries and keys, that other kernels do. */

import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Device, openDevice } from '../../engine/index.ts';
import { loadModelWeights, localFolder, type RunOptions, type Transformer } from '../../models/index.ts';

let device: Device;
const models = new Map<string, Transformer>();
beforeAll(async () => {
  device = await openDevice();
  for (const name of ['facts-bert', 'stories260k'])
    models.set(name, await loadModelWeights(await localFolder(`examples/models/${name}`), device));
});
afterAll(() => device?.destroy());

/** Names of the kernels that a run of eight tokens dispatches. */
function kernelsOf(model: Transformer, options: RunOptions): string[] {
  const names: string[] = [];
  const { queue } = device;
  const dispatch = queue.dispatch.bind(queue);
  queue.dispatch = (kernel, ...rest) => {
    names.push(kernel.name);
    dispatch(kernel, ...rest);
  };
  try {
    model.run({ ids: [[1, 5, 9, 13, 17, 21, 25, 29]] }, { logits: [7], ...options }).dispose();
  } finally {
    queue.dispatch = dispatch;
  }
  return names;
}

const count = (names: readonly string[], beginning: string): number =>
  names.filter((name) => name.startsWith(beginning)).length;

const gradients = (at: readonly string[]): RunOptions => ({
  grad: { at, of: { of: 'logprob', target: [9], position: [7] } },
});

it("a masked model's way back adds nothing by itself: products do, and its residuals on the way there", () => {
  const model = models.get('facts-bert')!;
  const neurons = Array.from({ length: model.sizes.layers }, (_, i) => `blocks.${i}.mlp.hook_post`);
  // Words, positions and token types, of which no gradient is asked.
  const embedding = 2;
  expect(count(kernelsOf(model, {}), 'binary.add')).toBe(embedding);
  const back = kernelsOf(model, gradients(neurons));
  expect(count(back, 'binary.add')).toBe(embedding);
  expect(count(back, 'binary.mul')).toBe(0);
  expect(count(back, 'gelu_backward')).toBe(model.sizes.layers);
});

it('a gated model has one kernel for each gate and its way back, and adds what comes through norms', () => {
  const model = models.get('stories260k')!;
  const { layers } = model.sizes;
  const forward = kernelsOf(model, {});
  expect(count(forward, 'rotary.both')).toBe(layers);
  expect(count(forward, 'rotary')).toBe(layers);
  const back = kernelsOf(model, gradients(['hook_embed']));
  expect(count(back, 'gated.')).toBe(layers);
  expect(count(back, 'gated_backward.')).toBe(layers);
  expect(count(back, 'rotary')).toBe(3 * layers);
  // The residual's gradient and a norm's, twice a layer.
  expect(count(back, 'binary.add')).toBe(2 * layers);
});

it('whoever looks at a value pays for it alone', () => {
  const model = models.get('stories260k')!;
  const hook = 'blocks.0.attn.hook_rot_q';
  const { layers } = model.sizes;
  expect(count(kernelsOf(model, { capture: [hook] }), 'rotary.both')).toBe(layers - 1);
});
