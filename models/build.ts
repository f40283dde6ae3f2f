/** From a config to its architecture: shapes of the parameters, and the model of given weights. */

import type { Device, Tensor } from '../engine/index.ts';
import { Bert, bertShapes } from './bert.ts';
import type { ModelConfig } from './config.ts';
import { Llama, llamaShapes } from './llama.ts';

/** Shapes of all parameters of a model, by name. */
export const shapesOf = (config: ModelConfig): Map<string, readonly number[]> =>
  config.type === 'bert' ? bertShapes(config) : llamaShapes(config);

/** The model that takes over `weights`, which have the names and shapes of {@link shapesOf}. */
export const buildModel = (
  device: Device,
  config: ModelConfig,
  weights: ReadonlyMap<string, Tensor>,
): Bert | Llama =>
  config.type === 'bert' ? new Bert(device, config, weights) : new Llama(device, config, weights);
