/**
 * Stored numbers to float32, exactly: half precision (IEEE 754 binary16) and bfloat16 (the upper half of a float32)
 * widen without rounding, subnormals, zeros' signs and infinities included; a GGUF file's blocks as ggml does. F64 and integers
 * round once, to nearest.
 *
 * For tests, small tensors and hosts without a GPU path; big weights go to the GPU as they are stored.
 */

import { UserError } from '../engine/errors.ts';
import { isPackedDtype, type PackedDtype, unpackRows } from './gguf/packed.ts';
import { halfToNumber } from './half.ts';
import { DTYPE_BYTES, type Dtype } from './safetensors.ts';

/**
 * @param length of a row, which blocks are whole in.
 * @throws UserError for F8 types, or where `bytes` is no whole number of elements.
 */
export function decodeFloat32(dtype: Dtype | PackedDtype, bytes: Uint8Array, length = 0): Float32Array {
  if (isPackedDtype(dtype)) return unpackRows(dtype, bytes, length);
  const count = bytes.byteLength / DTYPE_BYTES[dtype];
  if (!Number.isInteger(count)) {
    throw new UserError('decode', `${bytes.byteLength} bytes are no whole number of ${dtype} elements`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const read = readers[dtype];
  if (!read) throw new UserError('decode', `${dtype} tensors cannot be read; convert them to F16 or BF16`);
  const out = new Float32Array(count);
  // BF16 moves bits, not values: a signalling NaN passing through a number would lose its payload.
  if (dtype === 'BF16') {
    const bits = new Uint32Array(out.buffer);
    for (let i = 0; i < count; i++) bits[i] = view.getUint16(2 * i, true) << 16;
    return out;
  }
  const step = DTYPE_BYTES[dtype];
  for (let i = 0; i < count; i++) out[i] = read(view, i * step);
  return out;
}

const readers: Partial<Record<Dtype, (view: DataView, at: number) => number>> = {
  F64: (view, at) => view.getFloat64(at, true),
  F32: (view, at) => view.getFloat32(at, true),
  F16: (view, at) => halfToNumber(view.getUint16(at, true)),
  BF16: () => NaN,
  I64: (view, at) => Number(view.getBigInt64(at, true)),
  U64: (view, at) => Number(view.getBigUint64(at, true)),
  I32: (view, at) => view.getInt32(at, true),
  U32: (view, at) => view.getUint32(at, true),
  I16: (view, at) => view.getInt16(at, true),
  U16: (view, at) => view.getUint16(at, true),
  I8: (view, at) => view.getInt8(at),
  U8: (view, at) => view.getUint8(at),
  BOOL: (view, at) => (view.getUint8(at) ? 1 : 0),
};
