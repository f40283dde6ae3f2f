/**
 * How each tensor of a model is kept on the device, for a dtype asked for.
 *
 * Matrices are kept in that dtype; norms and biases, which are small, always in float32. int8 and int4 are for the products
 * inside the layers, where nearly all bytes are: embeddings and the decoder stay in 16 bits, and so does a matrix whose
 * rows the kernels cannot read four-wide. packed keeps all as the file has it: blocks of a GGUF file, and 16 bits. What comes in blocks of
 * no more bits than were asked for is not rounded a second time.
 */

import type { DType } from '../engine/index.ts';
import { checkValue, one } from '../engine/options.ts';
import type { Parameter } from './description.ts';
import { isPackedDtype, PACKED, type PackedDtype } from './gguf/packed.ts';
import type { Dtype } from './safetensors.ts';

/** Numbers of the weights on the device; arithmetic is float32 always. */
export const WEIGHT_DTYPES = ['f32', 'f16', 'bf16', 'int8', 'int4', 'packed'] as const;
/** One of {@link WEIGHT_DTYPES}. */
export type WeightDtype = (typeof WEIGHT_DTYPES)[number];

/** The same as a field of options. */
export const weightDtypeField = one(WEIGHT_DTYPES);

/** @throws UserError for anything else. */
export function checkWeightDtype(dtype: string): WeightDtype {
  checkValue('model', 'dtype', weightDtypeField, dtype);
  return dtype;
}

/** Bits of a code. */
const BITS = { int8: 8, int4: 4, Q8_0: 8, Q4_0: 4, Q4_1: 4, Q4_K: 4, Q5_K: 5, Q6_K: 6 } as const;

/** Format on the device of a parameter that the checkpoint stores as `stored`. */
export function storedAs(
  { kind, stage, shape }: Pick<Parameter, 'kind' | 'stage' | 'shape'>,
  stored: Dtype | PackedDtype,
  wanted: WeightDtype,
): Exclude<DType, 'u32'> {
  checkValue('storedAs', 'wanted', weightDtypeField, wanted);
  if (kind === 'norm' || kind === 'bias' || wanted === 'f32') return 'f32';
  if (wanted === 'f16' || wanted === 'bf16') return wanted;
  const inLayer = kind === 'matrix' && typeof stage === 'number';
  if (isPackedDtype(stored)) {
    const bits = wanted === 'packed' || !inLayer ? 8 : BITS[wanted];
    if (BITS[stored] <= bits) return PACKED[stored];
  }
  if (wanted === 'packed') return stored === 'F16' ? 'f16' : stored === 'BF16' ? 'bf16' : 'f32';
  const fourWide = shape.every((length) => length % 4 === 0);
  if (inLayer && fourWide) return wanted;
  return stored === 'BF16' ? 'bf16' : 'f16';
}
