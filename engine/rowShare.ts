/**
 * How a workgroup shares a row in norms, softmax and cross-entropy: by the row's length and the subgroup's width alone, never
 * by the number of rows, so that a row has the same bits alone and in a batch.
 *
 * Wide subgroups keep rows of up to 8,192 numbers in registers and read longer ones again in each sweep. Narrow ones, a CPU's
 * vectors, read again, which comes from the cache; what they keep across a barrier goes through memory as well, and each
 * element kept takes its driver tenths of a second to compile. On lavapipe a layer norm of 128 x 768 takes 1.0 ms of processor
 * time read by single numbers, 0.58 read by fours, 0.76 to 2.5 held by 8 to 64 lanes. Short rows of which more is kept than
 * was read, exponentials, are held there too: softmax of 1,536 x 128 takes 4.7 ms read by fours, 2.6 held.
 */

import { HELD, ROW_GROUP, type RowShare } from '../kernels/index.ts';
import type { Device } from './device.ts';

/** Most lanes: what every WebGPU device has. */
const MOST_LANES = 256;
/** Numbers that a lane keeps before more lanes take part, and at most. */
const KEPT = 16;
const MOST_KEPT = 32;

/** `keeps`: values as they were read, or some that cost more to compute again. */
export function rowShare(
  length: number,
  { rowLanes }: Pick<Device, 'rowLanes'>,
  keeps: 'read' | 'computed' = 'read',
): RowShare {
  const vector = length % 4 === 0 ? 4 : 1;
  const narrow = rowLanes < ROW_GROUP;
  let lanes = rowLanes;
  if (!narrow) while (lanes < MOST_LANES && length > KEPT * lanes) lanes *= 2;
  const most = !narrow ? MOST_KEPT : keeps === 'computed' && vector === 4 ? KEPT : 0;
  const held = HELD.find((n) => n * lanes * vector >= length && n * vector <= most) ?? 0;
  return { lanes, vector, held };
}
