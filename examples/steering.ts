/**
 * A steering vector, learned by gradients: one vector, added to the residual stream after the third layer at every token, that
 * makes a story-telling Llama expect a sentence. The model's weights stay as they are.
 */

import * as ng from 'neurgrad';
import { AdamW, add, crossEntropy, grad, reshape, scope, zeros } from 'neurgrad/engine';

const device = await ng.openDevice();
const { model, tokenizer } = await ng.loadModel('examples/models/stories260k', { device });
const ids = tokenizer.encode('The red dragon ate the moon and slept in the sea.');

const vector = zeros(device, [model.sizes.hidden]).requireGrad();
const optimiser = new AdamW([vector], { rate: 0.05, decay: 0 });
for (let step = 0; step <= 12; step++) {
  const loss = scope(() => {
    const run = model.run(
      { ids: [ids.slice(0, -1)] },
      { edit: { 'blocks.2.hook_resid_post': (residual) => add(residual, vector) } },
    );
    const loss = crossEntropy(reshape(run.logits, [-1, model.sizes.vocabulary]), ids.slice(1));
    run.dispose();
    optimiser.step(grad(loss, [vector]));
    return loss.detach();
  });
  console.log(`step ${step}: ${(await loss.item()).toFixed(6)} nats a token`);
  loss.dispose();
}
optimiser.dispose();
model.dispose();
device.destroy();
