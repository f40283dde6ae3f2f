/**
 * What this machine can do at most, measured: bytes copied and multiply-adds a second. A profile's shares are of these.
 */

import { copyCeiling, fmaCeiling, fmaCeilingFlops, linearGrid } from '../kernels/index.ts';
import type { Device } from './device.ts';
import type { KernelProfile } from './profiler.ts';
import { full, type Tensor } from './tensor.ts';

/** What a machine does at most. */
export interface Ceiling {
  /** Bytes read and written by a copy. */
  readonly bytesPerSecond: number;
  /** A multiply-add counts as two. */
  readonly flopsPerSecond: number;
}

/** Best of `rounds` short runs; about a second on a CPU. */
export async function measureCeiling(device: Device, rounds = 5): Promise<Ceiling> {
  // Far beyond any cache on a GPU; on a CPU as much as is bearable.
  const elements = device.info.software ? 2 ** 23 : 2 ** 26;
  const invocations = device.info.software ? 2 ** 12 : 2 ** 20;
  const turns = 64;
  const tensors = [full(device, [elements], 1.5), full(device, [elements], 0)] as [Tensor, Tensor];
  const windows = tensors.map((t) => t.storage.window());
  const best = async (repeat: number, once: () => void): Promise<number> => {
    let least = Number.POSITIVE_INFINITY;
    for (let round = 0; round <= rounds; round++) {
      await device.finish();
      const begin = performance.now();
      for (let i = 0; i < repeat; i++) once();
      await device.finish();
      // The first round compiles.
      if (round > 0) least = Math.min(least, (performance.now() - begin) / 1000 / repeat);
    }
    return least;
  };
  try {
    const copy = await best(4, () =>
      device.dispatch(copyCeiling(), windows, [elements], linearGrid(elements / 4)),
    );
    const fma = await best(4, () =>
      device.dispatch(fmaCeiling(), windows, [invocations, turns], linearGrid(invocations)),
    );
    return {
      bytesPerSecond: (2 * 4 * elements) / copy,
      flopsPerSecond: (fmaCeilingFlops(turns) * invocations) / fma,
    };
  } finally {
    for (const t of tensors) t.dispose();
  }
}

/** A profile's row as rates; null where the device has no timestamps. `share` is of whichever ceiling is nearer. */
export interface KernelRates {
  readonly gflops: number | null;
  readonly gbytes: number | null;
  readonly share: number | null;
}

/** A profile's row in GFLOP/s, GB/s and the share of the ceiling that is nearer. */
export function ratesOf(
  { flops, bytes, nanoseconds }: Pick<KernelProfile, 'flops' | 'bytes' | 'nanoseconds'>,
  ceiling?: Ceiling,
): KernelRates {
  if (!nanoseconds) return { gflops: null, gbytes: null, share: null };
  const [gflops, gbytes] = [flops / nanoseconds, bytes / nanoseconds];
  const share = ceiling
    ? Math.max((gflops * 1e9) / ceiling.flopsPerSecond, (gbytes * 1e9) / ceiling.bytesPerSecond)
    : null;
  return { gflops, gbytes, share };
}
