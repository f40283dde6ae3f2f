/**
 * Rotary position embedding (Su et al. 2021) in the rotate-half layout of Llama: of the first r elements of a head i and i + r/2
 * form a pair that turns by position * speed i; the others stay.
 *
 * Cosines and sines come from a table made on the host in float64: WGSL promises little of cos at large angles.
 */

import { type Kernel, LINEAR_GROUP, LINEAR_INDEX } from './kernel.ts';
import { shipped } from './shipped.ts';
import { takes } from './variant.ts';

/**
 * a, y [tokens, heads, size]; position [tokens]; cosine, sine [rows, half], of positions from `first` on: tokens at others
 * are left alone. `direction` 1 turns, -1 turns back (the adjoint). Grid: linear over tokens * heads * (size - half).
 */
export const rotary = shipped((): Kernel => {
  return {
    name: 'rotary',
    bindings: [
      { name: 'a', element: 'f32', access: 'read' },
      { name: 'position', element: 'u32', access: 'read' },
      { name: 'cosine', element: 'f32', access: 'read' },
      { name: 'sine', element: 'f32', access: 'read' },
      { name: 'y', element: 'f32', access: 'read_write' },
    ],
    params: { n: 'u32', heads: 'u32', half: 'u32', size: 'u32', first: 'u32', rows: 'u32', direction: 'f32' },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let i = ${LINEAR_INDEX};
  if (i >= p.n) { return; }
  let pair = i % (p.size - p.half);
  let head = i / (p.size - p.half);
  let row = position[head / p.heads] - p.first;
  if (row >= p.rows) { return; }
  let low = head * p.size + pair;
  if (pair >= p.half) {
    y[low + p.half] = a[low + p.half];
    return;
  }
  let turn = row * p.half + pair;
  let c = cosine[turn];
  let s = sine[turn] * p.direction;
  let u = a[low];
  let v = a[low + p.half];
  y[low] = u * c - v * s;
  y[low + p.half] = v * c + u * s;
}`,
  };
}, takes('rotary'));
