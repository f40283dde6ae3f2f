/**
 * What this machine can do at most, measured: bytes copied and multiply-adds a second. A profile's shares are of these.
 */

import { copyCeiling, fmaCeiling, fmaCeilingFlops, linearGrid } from '../kernels/index.ts';
import type { Device } from './device.ts';
import type { BufferWindow } from './memory.ts';
import { checkValue, whole } from './options.ts';
import type { KernelProfile } from './profiler.ts';
import { checkDevice } from './storage.ts';
import { full, type Tensor } from './tensor.ts';

/** What a machine does at most. */
export interface Ceiling {
  /** Bytes read and written by a copy in WGSL. */
  readonly bytesPerSecond: number;
  /** A multiply-add counts as two. */
  readonly flopsPerSecond: number;
}

const roundsField = whole(1);

export interface MeasuredCeiling extends Ceiling {
  /** `bytesPerSecond` of the driver's own copy of a buffer. */
  readonly driverBytesPerSecond: number;
}

/**
 * Best of `rounds` short runs; about a second on a CPU.
 * @param clock milliseconds; on a software adapter processor time over the number of cores, if other programs are running.
 */
export async function measureCeiling(
  device: Device,
  rounds = 5,
  clock: () => number = () => performance.now(),
): Promise<MeasuredCeiling> {
  checkDevice('measureCeiling', device);
  checkValue('measureCeiling', 'rounds', roundsField, rounds);
  // Far beyond any cache on a GPU; on a CPU as much as is bearable.
  const elements = device.info.software ? 2 ** 23 : 2 ** 26;
  const invocations = device.info.software ? 2 ** 12 : 2 ** 20;
  const turns = 64;
  const tensors = [full(device, [elements], 1.5), full(device, [elements], 0)] as [Tensor, Tensor];
  const windows = tensors.map((t) => t.storage.window());
  const [from, to] = windows as [BufferWindow, BufferWindow];
  const best = async (repeat: number, once: () => void): Promise<number> => {
    let least = Number.POSITIVE_INFINITY;
    for (let round = 0; round <= rounds; round++) {
      await device.finish();
      const begin = clock();
      for (let i = 0; i < repeat; i++) once();
      await device.finish();
      // The first round compiles.
      if (round > 0) least = Math.min(least, (clock() - begin) / 1000 / repeat);
    }
    return least;
  };
  try {
    const copy = await best(4, () =>
      device.dispatch(copyCeiling(), windows, [elements], linearGrid(elements / 4)),
    );
    const driver = await best(4, () => device.queue.copy(from, to));
    const fma = await best(4, () =>
      device.dispatch(fmaCeiling(), windows, [invocations, turns], linearGrid(invocations)),
    );
    return {
      bytesPerSecond: (2 * 4 * elements) / copy,
      driverBytesPerSecond: (2 * 4 * elements) / driver,
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
