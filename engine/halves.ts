/**
 * f32 numbers to 16 bits and back, those of groups to f32, and integers, from one storage to another.
 */

import {
  castIntegers,
  dequantise,
  type GroupedFormat,
  type HalfFormat,
  type Kernel,
  linearGrid,
  narrow,
  widen,
} from '../kernels/index.ts';
import { storedRow } from '../kernels/packing.ts';
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

/** Rows of groups, `length` numbers each, to f32 from row `first` on, exactly. */
export function dequantiseInto(from: Storage, to: Storage, length: number, first = 0): void {
  const stored = storedRow(from.dtype, length);
  const rows = [
    { storage: from, rowLength: stored },
    { storage: to, rowLength: length, first },
  ];
  const four = length % 4 === 0;
  const by = four ? 4 : 1;
  for (const [begin, end] of commonRows('convert', from.elements / Math.max(1, stored), rows)) {
    const n = ((end - begin) * length) / by;
    from.device.dispatch(
      dequantise(from.dtype as GroupedFormat, four),
      rows.map((operand) => rowsWindow(operand, begin, end)),
      [n, length / by, stored / by],
      linearGrid(n),
    );
  }
}

/** Integers to f32, or f32 cut off to integers. */
export function castInto(from: Storage, to: Storage): void {
  copy(() => [castIntegers(to.dtype === 'f32' ? 'f32' : 'u32'), 1], from, to, 0);
}
