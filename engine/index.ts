/** The engine: devices, tensors, operations with gradients, optimiser, profiler. */

export * from './autograd.ts';
export * from './ceiling.ts';
export * from './clip.ts';
export { type Capabilities, Device, type DeviceInfo, type DeviceOptions } from './device.ts';
export * from './errors.ts';
export * from './initialisers.ts';
export * from './losses.ts';
export * from './lossScale.ts';
export { candidates, lanesTiling, type Precision, tiling } from './matmulChoice.ts';
export type { MemoryReport, Purpose } from './memory.ts';
export * from './ops/along.ts';
export * from './ops/arrange.ts';
export {
  type AttentionOptions,
  attention,
  attentionBackwardTwin,
  attentionTwin,
} from './ops/attention.ts';
export { FUSED_KEYS } from './ops/attentionKernels.ts';
export * from './ops/conv.ts';
export * from './ops/einsum.ts';
export {
  abs,
  activationFunctions,
  add,
  affine,
  broadcastShape,
  cos,
  div,
  equal,
  erf,
  exp,
  type GeluOptions,
  gelu,
  greater,
  log,
  maximum,
  minimum,
  mul,
  neg,
  reciprocal,
  rsqrt,
  sigmoid,
  sign,
  silu,
  sin,
  softcap,
  sqrt,
  square,
  stridedAxes,
  sub,
  tanh,
  where,
} from './ops/elementwise.ts';
export * from './ops/functions.ts';
export * from './ops/logic.ts';
export { linear, linearThen, type MatmulOptions, matmul, type Then, toF32, toU32 } from './ops/matmul.ts';
export * from './ops/moments.ts';
export {
  layerNorm,
  normBackwardTwin,
  normStatistics,
  type RowNorm,
  rmsNorm,
  rowNorm,
  standardiseTwin,
} from './ops/norm.ts';
export * from './ops/normLinear.ts';
export * from './ops/order.ts';
export { laidBytes, packPanels, panelBytes, panelSide } from './ops/panels.ts';
export * from './ops/patch.ts';
export * from './ops/prefixAttention.ts';
export * from './ops/quantise.ts';
export { argmax, max, mean, sum, sumTo } from './ops/reduce.ts';
export { RotaryAngles, type RotaryTable, rotary, rotarySpeeds, rotaryTable } from './ops/rotary.ts';
export { gatherRows, pick, scatterAddRows, unpick, writeRow } from './ops/rows.ts';
export { attentionPattern, type PatternOptions, type ScoreOptions } from './ops/scores.ts';
export * from './ops/shape.ts';
export * from './ops/softmax.ts';
export type { KeyWindow } from './ops/window.ts';
export * from './optimiser.ts';
export type { Field, OptionsSchema } from './options.ts';
export { Plan, record } from './plan.ts';
export type { KernelProfile, KernelSpan } from './profiler.ts';
export {
  bernoulli,
  dropout,
  Generator,
  type RandnOptions,
  type RandOptions,
  rand,
  randint,
  randn,
  type Seed,
} from './random.ts';
export * from './recompute.ts';
export { MOST_LOSSES, Reopening, type ReopeningOptions } from './reopening.ts';
export * from './schedule.ts';
export { keep, scope } from './scope.ts';
export * from './sgd.ts';
export { bytesOf, commonRows, type DType, type RowsOf, Storage } from './storage.ts';
export {
  empty,
  full,
  halfTape,
  integers,
  type NestedNumbers,
  type Numbers,
  noGrad,
  operation,
  type Pullback,
  sizeOf,
  Tensor,
  tensor,
  zeros,
} from './tensor.ts';
export { chromeTrace } from './trace.ts';
export * from './transforms.ts';
export { type OpenOptions, openDevice, type TunedClass, tuneProducts } from './tune.ts';
