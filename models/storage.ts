/**
 * How each tensor of a model is kept on the device, for a dtype asked for.
 *
 * Matrices are kept in that dtype; norms and biases, which are small, always in float32. int8 and int4 are for the products
 * inside the layers, where nearly all bytes are: embeddings and the decoder stay in 16 bits, and so does a matrix whose
 * rows the kernels cannot read four-wide.
 */

import type { DType } from '../engine/index.ts';
import { checkValue, one } from '../engine/options.ts';
import type { Parameter } from './description.ts';
import type { Dtype } from './safetensors.ts';

/** Numbers of the weights on the device; arithmetic is float32 always. */
export const WEIGHT_DTYPES = ['f32', 'f16', 'bf16', 'int8', 'int4'] as const;
/** One of {@link WEIGHT_DTYPES}. */
export type WeightDtype = (typeof WEIGHT_DTYPES)[number];

/** The same as a field of options. */
export const weightDtypeField = one(WEIGHT_DTYPES);

/** @throws UserError for anything else. */
export function checkWeightDtype(dtype: string): WeightDtype {
  checkValue('model', 'dtype', weightDtypeField, dtype);
  return dtype;
}

/** Format on the device of a parameter that the checkpoint stores as `stored`. */
export function storedAs(
  { kind, stage, shape }: Pick<Parameter, 'kind' | 'stage' | 'shape'>,
  stored: Dtype,
  wanted: WeightDtype,
): Exclude<DType, 'u32'> {
  checkValue('storedAs', 'wanted', weightDtypeField, wanted);
  if (kind === 'norm' || kind === 'bias' || wanted === 'f32') return 'f32';
  if (wanted === 'f16' || wanted === 'bf16') return wanted;
  const fourWide = shape.every((length) => length % 4 === 0);
  if (kind === 'matrix' && typeof stage === 'number' && fourWide) return wanted;
  return stored === 'BF16' ? 'bf16' : 'f16';
}
