/**
 * How workgroups share columns, in sums and maxima over rows: by the number of rows and the subgroup's width alone, never by
 * how many columns or results there are.
 *
 * Wide subgroups, a GPU's, take up to 128 slices of the rows at once, by 16 lanes each, so that a bias gradient, one result of
 * few columns, fills them; 256 bytes of a row are read together. Narrow ones, a CPU's vectors, have nothing to fill and pay
 * for each load and barrier: a lane walks the rows of a slice.
 */

import type { ColumnShare } from '../kernels/index.ts';
import type { Capabilities } from './device.ts';
import { NARROW_SUBGROUP } from './matmulChoice.ts';

const ROW_LANES = 16;
const COLUMN_LANES = 16;
/** Rows that one lane walks, as long as it has the column alone. */
const FEW_ROWS = 8;
/** Shortest slice, and most slices: a second pass reads no more rows than that. */
const SHORTEST_SLICE = 64;
const MOST_SLICES = 128;

/** Longest slice of narrow subgroups: what a second core would otherwise wait for. */
const NARROW_SLICE = 1024;

/** The share, and the rows of a slice: all of them where there is one. */
export function columnShare(
  rows: number,
  inner: number,
  { subgroupSize }: Pick<Capabilities, 'subgroupSize'>,
): ColumnShare & { readonly slice: number } {
  const vector = inner % 4 === 0 ? 4 : 1;
  if (subgroupSize <= NARROW_SUBGROUP)
    return { rowLanes: 1, columnLanes: 16, vector, slice: Math.min(rows, NARROW_SLICE) };
  if (rows <= FEW_ROWS) return { rowLanes: 1, columnLanes: 64, vector, slice: rows };
  const slice =
    rows <= MOST_SLICES
      ? rows
      : Math.max(SHORTEST_SLICE, ROW_LANES * Math.ceil(rows / MOST_SLICES / ROW_LANES));
  return { rowLanes: ROW_LANES, columnLanes: COLUMN_LANES, vector, slice };
}
