/**
 * The last layer of a model that has nothing but an RMS norm and the decoder after it (docs/science.md#the-last-layer-along-lines): its logits are U (g x) / rms(x),
 * so that changes of x along a column of the output weights are lines, and all shifts of a neuron share its products.
 */

import { concat, full, integers, linear, mul, scope, type Tensor } from '../../engine/index.ts';
import type { NormSpec } from '../../models/block.ts';
import type { Transformer } from '../../models/transformer.ts';
import type { Bundle } from './bundle.ts';
import { injectNeurons, type LineRow, lineDifference } from './ops.ts';

/** The norm that alone stands between the last layer and the decoder; null where there is more. */
export function lineNorm({ description }: Pick<Transformer, 'description'>): NormSpec | null {
  const { norm, transform, decoder, cap } = description.head;
  const { after, around } = description.layers.at(-1)!.norms.feedForward;
  const others = [transform, decoder.bias, cap, after, around];
  return norm?.kind === 'rms' && others.every((other) => other === undefined) ? norm : null;
}

/** What rows of the last layer do to their tokens, [rows, tokens * TARGET_FIELDS]; `rows` a list a token, whose `line` counts `neurons`. */
export function runLines(
  { model, layers, logprobs, logits }: Bundle,
  { weight, hook, eps }: NormSpec,
  neurons: readonly number[],
  rows: readonly (readonly LineRow[])[],
): Tensor {
  const { device, sizes, parameters, description } = model;
  return scope(() => {
    const columns = injectNeurons(
      model.outWeight(sizes.layers - 1),
      integers(device, neurons),
      full(device, [neurons.length], 1),
    );
    const decoder = parameters.get(description.head.decoder.weight)!;
    const products = linear(mul(columns, parameters.get(weight)!), decoder);
    const final = layers[sizes.layers]!.get(hook)!;
    const read = rows.map((own) => lineDifference({ logprobs, logits, final }, columns, products, own, eps));
    return read.length === 1 ? read[0]! : concat(read, 1);
  });
}
