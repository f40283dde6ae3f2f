/** Whether a device's own conversion of 16-bit floats gives every one of them its number, which WGSL leaves open of the smallest and of infinity. */

import { F16_BITS } from './copy.ts';
import type { Kernel } from './kernel.ts';
import { shipped } from './shipped.ts';
import { takes } from './variant.ts';

/** Workgroups that look at all of them. */
export const HALVES_GROUPS = 512;

/** wrong[0] counts the 16-bit floats that become another number; NaN may become any NaN. Grid: {@link HALVES_GROUPS}. */
export const halvesCheck = shipped(
  (): Kernel => ({
    name: 'halves.check',
    bindings: [{ name: 'wrong', element: 'atomic<u32>', access: 'read_write' }],
    params: {},
    workgroup: [64, 1, 1],
    body: `${F16_BITS}
fn same(got: u32, want: u32) -> bool {
  return got == want || min(got & 0x7fffffffu, want & 0x7fffffffu) > 0x7f800000u;
}
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let low = 2u * gid.x;
  let got = bitcast<vec2u>(unpack2x16float(low | ((low + 1u) << 16u)));
  if (!same(got.x, widen_bits(low)) || !same(got.y, widen_bits(low + 1u))) { atomicAdd(&wrong[0], 1u); }
}`,
  }),
  takes('halvesCheck'),
);
