/**
 * Two kernels that do one thing as fast as the device can: copy memory, and multiply and add. What they reach is the
 * ceiling that a profile is read against.
 */

import { type Kernel, LINEAR_GROUP, LINEAR_INDEX } from './kernel.ts';
import { shipped } from './shipped.ts';
import { takes } from './variant.ts';

/** y = a, `n` elements, four at a time. Grid: linear over n / 4. */
export const copyCeiling = shipped((): Kernel => {
  return {
    name: 'ceiling.copy',
    bindings: [
      { name: 'a', element: 'vec4f', access: 'read' },
      { name: 'y', element: 'vec4f', access: 'read_write' },
    ],
    params: { n: 'u32' },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let i = ${LINEAR_INDEX};
  if (i * 4u < p.n) { y[i] = a[i]; }
}`,
  };
}, takes('copyCeiling'));

/** Independent chains an invocation works on, and steps of each in one turn of the loop. */
const CHAINS = 12;
const UNROLL = 8;

/** Multiplications and additions of one invocation in `turns` turns. */
export const fmaCeilingFlops = (turns: number): number => 2 * CHAINS * UNROLL * turns;

/**
 * `turns` turns of chains c = fma(c, x, y) on registers; all chains are stored, so that none can be left out.
 * Grid: linear over n invocations.
 */
export const fmaCeiling = shipped((): Kernel => {
  const chains = [...Array(CHAINS).keys()];
  const turn = chains.map((i) => `c${i} = fma(c${i}, x, z);`).join(' ');
  return {
    name: 'ceiling.fma',
    bindings: [
      { name: 'a', element: 'f32', access: 'read' },
      { name: 'y', element: 'f32', access: 'read_write' },
    ],
    params: { n: 'u32', turns: 'u32' },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let i = ${LINEAR_INDEX};
  if (i >= p.n) { return; }
  let x = a[i]; let z = 1.0 - x;
  ${chains.map((c) => `var c${c} = f32(${c});`).join(' ')}
  for (var t = 0u; t < p.turns; t++) {
    ${Array(UNROLL).fill(turn).join('\n    ')}
  }
  y[i] = ${chains.map((c) => `c${c}`).join(' + ')};
}`,
  };
}, takes('fmaCeiling'));
