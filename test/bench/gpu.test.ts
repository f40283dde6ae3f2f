/** The suite for an unknown GPU: kernels that agree, one that does not, and whom an adapter is compared with. */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { comparedWith, gpuSuite } from '../../bench/suites/gpu.ts';
import { wallClock } from '../../bench/timing.ts';
import { type Device, openDevice } from '../../engine/index.ts';

let device: Device;
beforeAll(async () => {
  device = await openDevice();
});
afterAll(() => device?.destroy());

const bits = () =>
  gpuSuite({
    device,
    peers: [],
    rounds: 1,
    clock: wallClock,
    small: true,
    only: 'gpu: bits int4 B^T',
    progress: () => {},
  });

describe('bits of all kernels', { timeout: 120_000 }, () => {
  it('agree', async () => {
    const [row, ...others] = await bits();
    expect(others).toEqual([]);
    expect(row).toMatchObject({ shape: 'int4 B^T', checked: 'the same bits' });
    expect(row!.ours).toBeGreaterThan(1);
    expect(row!.fault).toBeUndefined();
  });

  it('are told where they do not', async () => {
    const { dispatch } = device;
    let products = 0;
    device.dispatch = (kernel, windows, params, ...rest) => {
      // The second kernel leaves out the last step along K.
      const values = params as readonly number[];
      const wrong = kernel.name.startsWith('matmul') && ++products === 2;
      const changed = wrong ? values.map((value, i) => (i === 2 ? value - 1 : value)) : values;
      dispatch.call(device, kernel, windows, changed, ...rest);
    };
    try {
      const [row] = await bits();
      expect(row!.checked).toMatch(/ differs from .* in \d+ of 320, 1 rows/);
      expect(row!.fault).toContain('gpu: bits int4 B^T');
    } finally {
      device.dispatch = dispatch;
    }
  });
});

it.each([
  ['nvidia', 'NVIDIA H200: 550.54', 'h200'],
  ['nvidia', 'NVIDIA GeForce RTX 4090', 'rtx4070'],
  ['apple', 'Apple M3 Max', 'm2'],
  ['intel', 'Intel(R) Arc(tm) A380', 'a770'],
  ['amd', 'AMD Radeon RX 6800 (RADV NAVI21)', '7900xtx'],
  ['mesa', 'llvmpipe', 'h200'],
])('%s, %s is compared with %s', (vendor, description, expected) => {
  expect(comparedWith({ vendor, description })).toBe(expected);
});
