/**
 * Blocks of a GGUF file as kernels multiply from them (kernels/packing.ts): the file's bytes, but that those of two Q8_0 or Q4_0 blocks
 * have their scales together, in a word before their codes, and that those of Q6_K are filled up to 16 bytes.
 *
 * Rows are whole groups there: half of the last one of an odd row of Q8_0 or Q4_0 is zeros.
 */

import { bytesOf, storedShape } from '../../engine/storage.ts';
import type { PackedFormat } from '../../kernels/index.ts';
import { BLOCKS, type BlockFormat, unpackBlocks } from './blocks.ts';

/** Formats that stay packed, and what kernels call them. */
export const PACKED = {
  Q8_0: 'q8_0',
  Q4_0: 'q4_0',
  Q4_1: 'q4_1',
  Q4_K: 'q4_k',
  Q5_K: 'q5_k',
  Q6_K: 'q6_k',
} as const satisfies Partial<Record<BlockFormat, PackedFormat>>;

export type PackedDtype = keyof typeof PACKED;

export const isPackedDtype = (dtype: string): dtype is PackedDtype => Object.hasOwn(PACKED, dtype);

/** Whether it is more than the file's bytes. */
export const isRepacked = (dtype: PackedDtype): boolean =>
  dtype === 'Q8_0' || dtype === 'Q4_0' || dtype === 'Q6_K';

/** Bytes of a row of `length` numbers as it is packed here. */
export const packedRowBytes = (dtype: PackedDtype, length: number): number =>
  storedShape(PACKED[dtype], [length])[0]! * bytesOf(PACKED[dtype]);

/** Where each piece of a block lies: bytes in the file's, bytes in the packed row, how many. */
type Piece = readonly [inBlock: number, inRow: number, count: number];

function pieces(dtype: PackedDtype, block: number): readonly Piece[] {
  const { bytes } = BLOCKS[dtype];
  if (dtype !== 'Q8_0' && dtype !== 'Q4_0') {
    const apart = dtype === 'Q6_K' ? 224 : bytes;
    return [[0, block * apart, bytes]];
  }
  const codes = bytes - 2;
  const first = (block >> 1) * 2 * bytes;
  const second = block % 2;
  return [
    [0, first + 2 * second, 2],
    [2, first + 4 + second * codes, codes],
  ];
}

/** A row of the file's blocks as kernels have it, into `out`, which is zeros. */
export function packRow(dtype: PackedDtype, row: Uint8Array, out: Uint8Array): void {
  const { bytes } = BLOCKS[dtype];
  for (let block = 0; block * bytes < row.length; block++)
    for (const [from, to, count] of pieces(dtype, block)) {
      const begin = block * bytes + from;
      out.set(row.subarray(begin, begin + count), to);
    }
}

/** Packed rows of `length` numbers to float32. */
export function unpackRows(dtype: PackedDtype, packed: Uint8Array, length: number): Float32Array {
  const { elements, bytes } = BLOCKS[dtype];
  const stride = packedRowBytes(dtype, length);
  const rows = packed.length / stride;
  const out = new Float32Array(rows * length);
  const file = new Uint8Array((length / elements) * bytes);
  for (let row = 0; row < rows; row++) {
    for (let block = 0; block * bytes < file.length; block++)
      for (const [from, to, count] of pieces(dtype, block)) {
        const begin = row * stride + to;
        file.set(packed.subarray(begin, begin + count), block * bytes + from);
      }
    unpackBlocks(dtype, file, out.subarray(row * length, (row + 1) * length));
  }
  return out;
}
