/** All kernels: WGSL text as functions of typed variants. What they are put together of stays in this folder. */

export {
  ACTIVATION_NAMES,
  ACTIVATIONS,
  type Activation,
  type ActivationName,
  type ActivationText,
  GATED_NAMES,
  type GatedName,
  gateOf,
  normalDistribution,
  TANH_CUBIC,
  TANH_LINEAR,
} from './activation.ts';
export * from './adamw.ts';
export * from './attentionChunks.ts';
export * from './attentionLanes.ts';
export { ATTENTION_STATISTICS, DOMINATES } from './attentionParts.ts';
export { type AttentionRowVariant, attentionForwardRows, WIDEST_ROW } from './attentionRows.ts';
export * from './attentionRowsBackward.ts';
export * from './attentionTiles.ts';
export * from './cacheToken.ts';
export * from './ceiling.ts';
export * from './clip.ts';
export { type ColumnShare, reduceColumns } from './columns.ts';
export { type HalfFormat, stridedCopy, widen } from './copy.ts';
export * from './elementwise.ts';
export { KernelError, UserError } from './errors.ts';
export * from './gated.ts';
export * from './halvesCheck.ts';
export * from './kernel.ts';
export { type MatmulVariant, matmul } from './matmul.ts';
export * from './matmulBlock.ts';
export * from './matmulFold.ts';
export { type MatmulGemvVariant, matmulGemv } from './matmulGemv.ts';
export * from './matmulLanes.ts';
export { CHUNK, type Epilogue, type Fusion } from './matmulParts.ts';
export * from './matmulUnits.ts';
export { type Norm, type NormVectors, norm, normBackward, normParameters, normStatistics } from './norm.ts';
export {
  type GroupedFormat,
  isPacked,
  isQuantised,
  PACKINGS,
  type PackedFormat,
  type Packing,
  type QuantisedFormat,
  type WeightFormat,
} from './packing.ts';
export * from './patch.ts';
export { dequantise, narrow, quantise, quantiseWhole } from './quantise.ts';
export * from './random.ts';
export { argmaxRows, type Reduction, ROW_GROUP, reduceRows } from './reduce.ts';
export { rotary } from './rotary.ts';
export { HELD, type RowShare } from './rowSweep.ts';
export * from './rows.ts';
export * from './scan.ts';
export * from './sgd.ts';
export * from './softmax.ts';
export * from './sort.ts';
