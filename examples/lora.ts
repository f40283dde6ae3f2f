/**
 * LoRA (Hu et al. 2021) by edits: beside each feed-forward output matrix W, whose input x is the neurons' values, two small ones
 * are learned, y = W x + alpha / r B A x. The model's weights stay as they are.
 */

import * as ng from 'neurgrad';
import {
  AdamW,
  add,
  affine,
  crossEntropy,
  grad,
  linear,
  reshape,
  scope,
  type Tensor,
  tensor,
  zeros,
} from 'neurgrad/engine';

const RANK = 4;
const ALPHA = 8;

const device = await ng.openDevice();
const { model, tokenizer } = await ng.loadModel('examples/models/stories260k', { device });
const { layers, hidden, width, vocabulary } = model.sizes;
const ids = tokenizer.encode('The red dragon ate the moon and slept in the sea.');

/** A [r, width], small numbers without pattern, and B [hidden, r], zero, so that training begins at the model itself. */
const pairs = Array.from({ length: layers }, (_, layer) => {
  const numbers = Float32Array.from({ length: RANK * width }, (_, i) => 0.1 * Math.sin(1 + 1.7 * i + layer));
  return [
    tensor(device, numbers, [RANK, width]).requireGrad(),
    zeros(device, [hidden, RANK]).requireGrad(),
  ] as const;
});
const edit: Record<string, (value: Tensor) => Tensor> = {};
pairs.forEach(([a, b], layer) => {
  let x: Tensor;
  // The input is seen where it is made, and used where the output is.
  edit[`blocks.${layer}.mlp.hook_post`] = (value) => {
    x = value;
    return value;
  };
  edit[`blocks.${layer}.hook_mlp_out`] = (y) => add(y, affine(linear(linear(x, a), b), ALPHA / RANK, 0));
});

const optimiser = new AdamW(pairs.flat(), { rate: 0.01 });
for (let step = 0; step <= 12; step++) {
  const loss = scope(() => {
    const run = model.run({ ids: [ids.slice(0, -1)] }, { edit });
    const loss = crossEntropy(reshape(run.logits, [-1, vocabulary]), ids.slice(1));
    run.dispose();
    optimiser.step(grad(loss, pairs.flat()));
    return loss.detach();
  });
  console.log(`step ${step}: ${(await loss.item()).toFixed(6)} nats a token`);
  loss.dispose();
}
optimiser.dispose();
model.dispose();
device.destroy();
