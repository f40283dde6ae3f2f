/**
 * A model with fresh weights, as Hugging Face transformers initialises one: norms do nothing, biases are 0, everything else is normal.
 * The same random numbers give the same bits on every machine: they are drawn on the host in float64.
 */

import { type Device, type Tensor, tensor } from '../engine/index.ts';
import type { ModelConfig } from './config.ts';
import { parametersOf } from './description.ts';
import { Transformer } from './transformer.ts';

/**
 * @param random numbers in [0, 1), such as `seededRandom(seed)` gives.
 * @param deviation standard deviation; default 0.02, `initializer_range` of BERT and Llama.
 * @example
 * ```ts
 * import { seededRandom } from 'neurgrad';
 * import { openDevice } from 'neurgrad/engine';
 * import { changed, initialise, localFolder, readConfig } from 'neurgrad/models';
 *
 * const device = await openDevice();
 * const config = await readConfig(await localFolder('examples/models/stories260k'));
 * const model = initialise(device, changed(config, { num_hidden_layers: 2 }), seededRandom(0));
 * console.log(model.sizes.layers, model.hookNames.length); // → 2 38
 * device.destroy();
 * ```
 */
export function initialise(
  device: Device,
  config: ModelConfig,
  random: () => number,
  deviation = 0.02,
): Transformer {
  const weights = new Map<string, Tensor>();
  for (const { name, shape, initial } of parametersOf(config.description)) {
    const values = new Float32Array(shape.reduce((a, b) => a * b, 1));
    if (initial === null) fillNormal(values, random, deviation);
    else values.fill(initial);
    weights.set(name, tensor(device, values, shape, 'weights'));
  }
  return new Transformer(device, config, weights);
}

/** Box and Muller (1958): two normal numbers from two uniform ones. */
function fillNormal(values: Float32Array, random: () => number, deviation: number): void {
  for (let i = 0; i < values.length; i += 2) {
    const radius = deviation * Math.sqrt(-2 * Math.log(1 - random()));
    const angle = 2 * Math.PI * random();
    values[i] = radius * Math.cos(angle);
    if (i + 1 < values.length) values[i + 1] = radius * Math.sin(angle);
  }
}
