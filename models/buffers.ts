/** Device memory by counting: how many buffers of which size there are at once, and what they take as the pool gives them. */

import { sizeClass } from '../engine/memory.ts';

/** Numbers of buffers by their bytes. */
export type Buffers = ReadonlyMap<number, number>;

/** One buffer each, but no more than `most` of a size. */
export function buffersOf(bytes: Iterable<number>, most = Number.POSITIVE_INFINITY): Buffers {
  const found = new Map<number, number>();
  for (const each of bytes) if (each > 0) found.set(each, Math.min(most, (found.get(each) ?? 0) + 1));
  return found;
}

/** All of them. */
export function together(...all: readonly Buffers[]): Buffers {
  const sum = new Map<number, number>();
  for (const buffers of all)
    for (const [bytes, count] of buffers) sum.set(bytes, count + (sum.get(bytes) ?? 0));
  return sum;
}

/** The buffers that so many bytes lie in. */
export type Cut = (bytes: number) => readonly number[];

/** As the pool has them: in size classes, and in several where a tensor is larger than a binding may be. */
export const pooled =
  (bindingBytes: number): Cut =>
  (bytes) => {
    const full = new Array<number>(Math.floor(bytes / bindingBytes)).fill(sizeClass(bindingBytes));
    return bytes % bindingBytes > 0 ? [...full, sizeClass(bytes % bindingBytes)] : full;
  };

/** Bytes in which what is there at each of some times has room: a buffer that is free serves for none of another size. */
export function bytesAtMost(times: Iterable<Buffers>, cut: Cut = (bytes) => [bytes]): number {
  const most = new Map<number, number>();
  for (const time of times) {
    const here = together(
      ...[...time].map(
        ([bytes, count]) => new Map([...buffersOf(cut(bytes))].map(([size, n]) => [size, n * count])),
      ),
    );
    for (const [size, count] of here) most.set(size, Math.max(count, most.get(size) ?? 0));
  }
  return [...most].reduce((sum, [size, count]) => sum + size * count, 0);
}
