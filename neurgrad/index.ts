/** Neuron empirical gradients: everything a program needs to probe the neurons of a language model. */

export { UserError } from '../engine/errors.ts';
export { type Device, openDevice, type Tensor } from '../engine/index.ts';
export { loadModel, type Tokenizer } from '../models/index.ts';
export type {
  LanguageModel,
  ModelInput,
  ModelSizes,
  Objective,
  Patch,
  Quantity,
  RunOptions,
  RunResult,
  Site,
} from '../models/model.ts';
export * from './conventions.ts';
export * from './gradients.ts';
export * from './grid.ts';
export * from './integrated.ts';
export * from './intervals.ts';
export * from './linearity.ts';
export * from './neuron.ts';
export * from './predict.ts';
export * from './prompt.ts';
export * from './promptRemarks.ts';
export * from './random.ts';
export * from './statistics.ts';
export * from './steer.ts';
export * from './sweep.ts';
export * from './verify.ts';
