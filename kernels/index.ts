/** All kernels: WGSL text as functions of typed variants. */

export * from './activation.ts';
export * from './adamw.ts';
export * from './attention.ts';
export * from './ceiling.ts';
export * from './clip.ts';
export * from './columns.ts';
export * from './copy.ts';
export * from './elementwise.ts';
export * from './kernel.ts';
export * from './matmul.ts';
export * from './matmulBlock.ts';
export * from './matmulLanes.ts';
export * from './matmulParts.ts';
export * from './matmulUnits.ts';
export * from './norm.ts';
export * from './patch.ts';
export * from './quantise.ts';
export * from './reduce.ts';
export * from './rotary.ts';
export * from './rowSweep.ts';
export * from './rows.ts';
export * from './softmax.ts';
export * from './transpose.ts';
