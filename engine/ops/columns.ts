/**
 * Reductions down columns, within one buffer: slices of the rows first, then over what they gave.
 */

import {
  type ColumnShare,
  groupGrid,
  type Kernel,
  type Reduction,
  reduceColumns,
} from '../../kernels/index.ts';
import { columnShare } from '../columnShare.ts';
import type { Device } from '../device.ts';
import type { BufferWindow } from '../memory.ts';
import { empty } from '../tensor.ts';

export interface ColumnReduction {
  readonly reduction: Reduction;
  /** [outer, reduced, inner] of what is reduced. */
  readonly shape: readonly [number, number, number];
  readonly from: readonly BufferWindow[];
  /** Results [outer, inner]. */
  readonly to: readonly BufferWindow[];
  /** Adds to what the results hold. */
  readonly accumulate?: boolean;
  /** What reads the rows, with parameters of its own after the common ones; {@link reduceColumns} by default. */
  readonly kernel?: (share: ColumnShare, accumulate: boolean) => Kernel;
  readonly params?: readonly number[];
}

/** Dispatches a reduction. */
export function reduceColumnsTo(
  device: Device,
  { reduction, shape, from, to, accumulate = false, kernel, params = [] }: ColumnReduction,
): void {
  const [outer, reduced, inner] = shape;
  const { slice, ...share } = columnShare(reduced, inner, device.capabilities);
  const slices = Math.ceil(reduced / slice);
  // Far smaller than what is reduced, so each in one buffer too.
  const parts = slices > 1 ? to.map(() => empty(device, [outer, slices, inner], 'f32', 'scratch')) : [];
  const last = slices === 1 && accumulate;
  device.dispatch(
    kernel ? kernel(share, last) : reduceColumns(reduction, share, last),
    [...from, ...(slices > 1 ? parts.map((t) => t.storage.window()) : to)],
    [outer, reduced, inner, slices, slice, ...params],
    groupGrid(Math.ceil((outer * slices * inner) / share.vector / share.columnLanes)),
    to.length * outer * reduced * inner,
  );
  parts.forEach((part, i) => {
    const shape = [outer, slices, inner] as const;
    reduceColumnsTo(device, { reduction, shape, from: [part.storage.window()], to: [to[i]!], accumulate });
    part.dispose();
  });
}
