/**
 * f32 numbers to 16 bits and back, from one storage to another.
 */

import { type HalfFormat, type Kernel, linearGrid, narrow, widen } from '../kernels/index.ts';
import { commonRows, rowsWindow, type Storage } from './storage.ts';

/**
 * All elements of `from`, to `to` from element `first` on. `pick` gives the kernel for a number of elements, and how many of
 * them an invocation takes.
 */
function copy(pick: (n: number) => [Kernel, number], from: Storage, to: Storage, first: number): void {
  const flat = [
    { storage: from, rowLength: 1 },
    { storage: to, rowLength: 1, first },
  ];
  for (const [begin, end] of commonRows('convert', from.elements, flat)) {
    const n = end - begin;
    const [kernel, each] = pick(n);
    from.device.dispatch(
      kernel,
      flat.map((operand) => rowsWindow(operand, begin, end)),
      [n],
      linearGrid(Math.ceil(n / each)),
    );
  }
}

/** Rounds to nearest; what is too large for f16 becomes its largest number, or with `infinite` infinity. */
export function narrowInto(from: Storage, to: Storage, { infinite = false, first = 0 } = {}): void {
  copy(
    () => [narrow(from.dtype as 'f32' | HalfFormat, to.dtype as HalfFormat, infinite), 2],
    from,
    to,
    first,
  );
}

/** Exact. */
export function widenInto(from: Storage, to: Storage, first = 0): void {
  const dtype = from.dtype as HalfFormat;
  copy((n) => (n % 8 === 0 ? [widen(dtype, true), 8] : [widen(dtype), 2]), from, to, first);
}
