/** A device's own conversion of 16-bit floats: found exact or not, and then read by products with the bits of the exact one. */

import { afterAll, beforeAll, expect, it } from 'vitest';
import { convertsHalves } from '../../engine/halvesCheck.ts';
import { convert, type Device, linear, tensor, toF32 } from '../../engine/index.ts';
import { candidates } from '../../engine/matmulChoice.ts';
import { TUNED_LAYOUT } from '../../engine/tune.ts';
import { type Kernel, wgsl } from '../../kernels/index.ts';
import { expectSameBits, normal, open, upload } from './support.ts';

let device: Device;
beforeAll(async () => {
  device = await open({ mask: { halves: true } });
});
afterAll(() => device?.destroy());

it('is found as it is', async () => {
  const kernel: Kernel = {
    name: 'test.unpack',
    bindings: [{ name: 'y', element: 'vec2f', access: 'read_write' }],
    params: {},
    workgroup: [64, 1, 1],
    body: 'fn main(@builtin(global_invocation_id) i: vec3u) { y[i.x] = unpack2x16float((2u * i.x) | ((2u * i.x + 1u) << 16u)); }',
  };
  expect(wgsl(kernel, 'uniform')).toContain('unpack2x16float');
  const y = tensor(device, new Float32Array(65536), [65536]);
  device.dispatch(kernel, [y.storage.window()], [], [512, 1, 1]);
  const exact = (await y.read()).every((got, h) => {
    const [exponent, fraction] = [(h >> 10) & 31, h & 1023];
    const size = exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15);
    const want =
      (h >> 15 ? -1 : 1) * (exponent < 31 ? size : fraction > 0 ? Number.NaN : Number.POSITIVE_INFINITY);
    return Object.is(got, want);
  });
  expect(await convertsHalves(device.gpu)).toBe(exact);
});

it('is what kernels read f16 by, where it is exact, with the same bits', async () => {
  const name = (halves: boolean): string =>
    candidates(
      { m: 1, n: 64, k: 64 },
      { ...TUNED_LAYOUT, weight: 'f16' },
      { ...device.capabilities, halves },
    )[0]!.kernel({ bias: false, accumulate: false }).name;
  expect([name(true), name(false)]).toEqual([
    expect.stringContaining('.half.'),
    expect.stringContaining('.f16.'),
  ]);
  // Numbers of all sizes, subnormal ones among them; as many rows as make every kind of kernel.
  const numbers = Float32Array.from({ length: 64 * 64 }, (_, i) => Math.sin(i) * 2 ** ((i % 40) - 25));
  const w = convert(tensor(device, numbers, [64, 64]), 'f16');
  const wide = toF32(w);
  for (const rows of [1, 5, 40]) {
    const x = upload(device, normal([rows, 64], 1));
    expectSameBits(await linear(x, w).read(), await linear(x, wide).read(), `${rows} rows`);
  }
});
