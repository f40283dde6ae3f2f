/**
 * Interventions on single activations: the elements named in `at` are set, added to or scaled; all others stay.
 *
 * Runs in place on a copy. `original` holds the values before any patch, whose sign the outward direction follows
 * (docs/conventions.md#the-sign: sign(0) = +1).
 */

import { type Kernel, LINEAR_GROUP, LINEAR_INDEX } from './kernel.ts';
import { shipped } from './shipped.ts';
import { takes } from './variant.ts';

/** Modes in `mode`: what a patch does to its element. */
export const PATCH_MODE = { set: 0, add: 1, scale: 2, addOutward: 3 } as const;

/** y[at[i]] patched by mode[i], value[i] (f32 bits). Indices are distinct within a dispatch. Grid: linear over n. */
export const patch = shipped((): Kernel => {
  return {
    name: 'patch',
    bindings: [
      { name: 'original', element: 'f32', access: 'read' },
      { name: 'at', element: 'u32', access: 'read' },
      { name: 'mode', element: 'u32', access: 'read' },
      { name: 'value', element: 'f32', access: 'read' },
      { name: 'y', element: 'f32', access: 'read_write' },
    ],
    params: { n: 'u32' },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let i = ${LINEAR_INDEX};
  if (i >= p.n) { return; }
  let k = at[i];
  let now = y[k];
  let v = value[i];
  switch mode[i] {
    case 0u: { y[k] = v; }
    case 1u: { y[k] = now + v; }
    case 2u: { y[k] = now * v; }
    default: { y[k] = now + select(v, -v, original[k] < 0.0); }
  }
}`,
  };
}, takes('patch'));
