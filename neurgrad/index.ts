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
export * from './additivity.ts';
export { type AnswerValues, answerValues, type Target } from './answers.ts';
export { type AtlasNeuron, type AtlasOptions, atlas, atlasOptions } from './atlas.ts';
export * from './conventions.ts';
export { type PlainTarget, type Response, responseAt, type Smooth } from './curve/response.ts';
export { linearRange, turningPoints } from './curve/shape.ts';
export * from './estimators/index.ts';
export * from './experiments/index.ts';
export {
  type GradientOptions,
  gradientOptions,
  type ManyGradientOptions,
  manyGradientOptions,
  type NeuronGradients,
  neuronGradients,
  strongest,
} from './gradients.ts';
export { LARGEST_SHIFT, paperGrid, parseRange, shiftField, shiftGrid } from './grid.ts';
export * from './integrated.ts';
export * from './intervals.ts';
export {
  type IntervenedSet,
  type InterveneOptions,
  type Intervention,
  intervene,
  interveneOptions,
  type NeuronSet,
} from './intervene.ts';
export * from './linearity.ts';
export {
  flatIndex,
  formatNeuron,
  type Neuron,
  type NeuronOrName,
  type NeuronSpace,
  neuronAt,
  neuronList,
  neuronSpace,
  parseNeuron,
  parseNeurons,
  resolveSite,
  SITES,
  siteHook,
  siteOfHook,
} from './neuron.ts';
export * from './neuronSelection.ts';
export * from './place.ts';
export { probeHooks } from './plainRun.ts';
export { POINT_ENGINES, type PointEngine } from './points.ts';
export {
  differentiated,
  gradientFactor,
  modelField,
  neuronPosition,
  type Prediction,
  type Probe,
  predict,
  probeLogits,
  probeRows,
  targetOrArgmax,
  targetValues,
  tokenField,
  topPredictions,
} from './predict.ts';
export type { ProbedHooks } from './probed.ts';
export { predictMany } from './probeMany.ts';
export { encodeChat, encodePrompt, maskToken, type Prompt, resolveAnswer, resolveTarget } from './prompt.ts';
export * from './promptRemarks.ts';
export * from './random.ts';
export { PromptRecord, type RecordOptions, recordOptions, recordPrompt } from './record.ts';
export * from './statistics.ts';
export {
  type SteeredNeuron,
  type Steering,
  type SteerOptions,
  type SteerRound,
  steer,
  steerOptions,
} from './steer.ts';
export {
  type ManySweepOptions,
  manySweepOptions,
  type NeuronCurve,
  SWEEP_ENGINES,
  type Sweep,
  type SweepEngine,
  type SweepOptions,
  sweep,
  sweepOptions,
} from './sweep.ts';
export * from './verify.ts';
