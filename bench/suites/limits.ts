/** The machine's own limits: copy bandwidth and multiply-add rate, from kernels that do nothing else. */

import { measureCeiling } from '../../engine/index.ts';
import type { Row } from '../rows.ts';
import type { Suite } from './suite.ts';

export const limitsSuite: Suite = async ({ device, rounds, clock, progress }) => {
  progress('limits');
  const { bytesPerSecond, driverBytesPerSecond, flopsPerSecond } = await measureCeiling(
    device,
    rounds,
    clock,
  );
  const row = (shape: string, ours: number, driver?: number): Row => ({
    suite: 'limits',
    shape,
    unit: 'rate',
    ours,
    spread: null,
    figures: driver === undefined ? {} : { "the driver's own": driver },
    peers: {},
    ratio: driver === undefined ? null : ours / driver,
    ratioOf: "ours / the driver's",
    checked: `best of ${rounds}`,
  });
  return [
    row('copy (GB/s)', bytesPerSecond / 1e9, driverBytesPerSecond / 1e9),
    row('f32 multiply-add (GFLOP/s)', flopsPerSecond / 1e9),
  ];
};
