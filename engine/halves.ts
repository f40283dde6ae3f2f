/**
 * f32 numbers to 16 bits and back, from one storage to another.
 */

import { type HalfFormat, type Kernel, linearGrid, narrow, widen } from '../kernels/index.ts';
import { commonRows, type Storage } from './storage.ts';

function copy(kernel: Kernel, from: Storage, to: Storage): void {
  const flat = [from, to].map((storage) => ({ storage, rowLength: 1 }));
  for (const [begin, end] of commonRows(kernel.name, from.elements, flat))
    from.device.dispatch(
      kernel,
      flat.map(({ storage }) => storage.window(begin, end)),
      [end - begin],
      linearGrid(Math.ceil((end - begin) / 2)),
    );
}

/** Rounds to nearest; what is too large for f16 becomes its largest number, or with `infinite` infinity. */
export function narrowInto(from: Storage, to: Storage, infinite = false): void {
  copy(narrow(from.dtype as 'f32' | HalfFormat, to.dtype as HalfFormat, infinite), from, to);
}

/** Exact. */
export function widenInto(from: Storage, to: Storage): void {
  copy(widen(from.dtype as HalfFormat), from, to);
}
