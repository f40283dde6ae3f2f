/**
 * How a workgroup shares a row in norms, softmax and cross-entropy: by the row's length and the subgroup's width alone, never
 * by the number of rows, so that a row has the same bits alone and in a batch.
 */

import { HELD, ROW_GROUP, type RowShare } from '../kernels/index.ts';
import type { Device } from './device.ts';

/** Most lanes: what every WebGPU device has. */
const MOST_LANES = 256;
/** Numbers a lane keeps before more lanes take part, and at most. */
const KEPT = 16;
const MOST_KEPT = 32;

/**
 * Wide subgroups keep rows of up to 8,192 numbers in registers and read longer ones again in each sweep. Narrow ones, a CPU's
 * vectors, always read again: that comes from the cache, while what is held across a barrier goes through memory as well (on
 * lavapipe a layer norm of 128 x 768 takes 0.58 ms of processor time by 8 lanes that hold nothing and 0.76 to 2.5 ms by 8 to
 * 64 that do, which take seconds to compile; of single numbers 1.0 ms).
 */
export function rowShare(length: number, { rowLanes }: Pick<Device, 'rowLanes'>): RowShare {
  const vector = length % 4 === 0 ? 4 : 1;
  if (rowLanes < ROW_GROUP) return { lanes: rowLanes, vector, held: 0 };
  let lanes = ROW_GROUP;
  while (lanes < MOST_LANES && length > KEPT * lanes) lanes *= 2;
  const held = HELD.find((n) => n * lanes * vector >= length && n * vector <= MOST_KEPT) ?? 0;
  return { lanes, vector, held };
}
