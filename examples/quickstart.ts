/** Which neurons make a BERT say "paris", and by how much: one backward for all, then a sweep to check three of them. */

import * as ng from 'neurgrad';

const device = await ng.openDevice();
const { model, tokenizer } = await ng.loadModel('examples/models/facts-bert', { device });
const prompt = ng.encodePrompt(model, tokenizer, 'The capital of France is [MASK].');

const all = await ng.neuronGradients(model, prompt); // every neuron's empirical gradient, by one backward
const neurons = ng.strongest(all.neurgrad, 3).positive.map((i) => ng.neuronAt(i, all.width, 'post'));
const measured = await ng.sweep(model, prompt, { neurons }); // shift each one, watch p, fit a line

console.log(`p(${tokenizer.show(all.target)}) = ${all.p.toFixed(3)}`);
for (const n of measured.neurons)
  console.log(`L${n.layer}.N${n.index}: estimated ${n.neurgrad.toFixed(4)}, measured ${n.slope.toFixed(4)}`);
device.destroy();
