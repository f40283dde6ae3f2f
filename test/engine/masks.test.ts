/** The table of operations again on devices that lack things: what a poorer adapter would run. */

import { describe, expect, it } from 'vitest';
import { type Capabilities, type Device, matmul, zeros } from '../../engine/index.ts';
import { CASES } from './cases.ts';
import { compute, expectClose, open, upload } from './support.ts';

const MASKS: Record<string, Partial<Capabilities>> = {
  'no immediates': { immediates: false },
  // Rows are shared by 64 invocations then, as on most GPUs.
  'wide subgroups': { subgroupSize: 32 },
  'no f16, no subgroups': { f16: false, subgroups: false },
  "WebGPU's default limits": {
    invocations: 256,
    storageBuffers: 8,
    workgroupBytes: 16384,
    bufferBytes: 2 ** 28,
    immediates: false,
    timestamps: false,
    f16: false,
    subgroups: false,
  },
};

/** One case of each operation with matrix products thinned out, whose kernels are the slow ones to compile. */
const FAST = CASES.filter(
  (c) =>
    !/^(matmul|linear|normLinear|attention|prefixAttention)/.test(c.name) ||
    /^matmul (2x4x8|batches \[2,1\])|^linear \[2,3,4\]|^normLinear \w+ \[3,4\]|^attention 2x4x4|^prefixAttention 3x5 .*fused/.test(
      c.name,
    ),
);

describe.each(Object.entries(MASKS))('%s', (_, mask) => {
  it('has the capabilities of the mask, and computes the same', async () => {
    const device: Device = await open({ mask });
    try {
      for (const [name, value] of Object.entries(mask)) {
        const now = device.capabilities[name as keyof Capabilities];
        if (typeof value === 'number') expect(now).toBeLessThanOrEqual(value);
        else expect(now).toBe(value);
      }
      expect(device.features.has('shader-f16')).toBe(device.capabilities.f16);
      expect(FAST.length).toBeGreaterThan(450);
      // All results in one go, so that parameters of many dispatches share a submit.
      const batch = 50;
      for (let begin = 0; begin < FAST.length; begin += batch) {
        const part = FAST.slice(begin, begin + batch);
        const got = await compute(() =>
          part.map((c) =>
            c.run(
              c.inputs.map((x) => upload(device, x)),
              device,
            ),
          ),
        );
        part.forEach((c, i) => {
          const want = c.reference(c.inputs);
          expect(got[i]!.shape).toEqual(want.shape);
          expectClose(got[i]!.data, want.data, c.tolerance, c.name);
        });
      }
    } finally {
      device.destroy();
    }
    // Half a minute, but for a driver that compiles every kernel afresh.
  }, 400_000);
});

describe('a mask', () => {
  it('cannot give what the adapter lacks', async () => {
    const device = await open({ mask: { bindingBytes: 2 ** 60, invocations: 2 ** 30 } });
    try {
      expect(device.capabilities.bindingBytes).toBeLessThan(2 ** 31);
      expect(device.capabilities.invocations).toBe(device.limits.maxComputeInvocationsPerWorkgroup);
      expect(matmul(zeros(device, [2, 2]), zeros(device, [2, 2])).shape).toEqual([2, 2]);
    } finally {
      device.destroy();
    }
  });
});
