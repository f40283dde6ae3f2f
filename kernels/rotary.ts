/**
 * Rotary position embedding (Su et al. 2021) in the rotate-half layout of Llama: of the first r elements of a head i and i + r/2
 * form a pair that turns by position * speed i; the others stay.
 *
 * Cosines and sines come from a table made on the host in float64: WGSL promises little of cos at large angles.
 */

import { type Kernel, LINEAR_GROUP, LINEAR_INDEX } from './kernel.ts';
import { shipped } from './shipped.ts';
import { flag, takes } from './variant.ts';

/**
 * WGSL that turns pair `pair` of the head that begins at `from` in a, by row `row` of the table, into the one at `to` in y. What is
 * added is an `fma`: every kernel rounds alike.
 */
export const turnPair = (a: string, y: string, from: string, to: string): string => `
  let low = ${from} + pair;
  let turned = ${to} + pair;
  if (pair >= p.half) {
    ${y}[turned + p.half] = ${a}[low + p.half];
    return;
  }
  let turn = row * p.half + pair;
  let c = cosine[turn];
  let s = sine[turn] * p.direction;
  let u = ${a}[low];
  let v = ${a}[low + p.half];
  ${y}[turned] = fma(u, c, -(v * s));
  ${y}[turned + p.half] = fma(v, c, u * s);`;

const turnOne = (a: string, y: string, heads: string): string => `
  let head = at / (p.size - p.half);
  let pair = at % (p.size - p.half);
  let row = position[head / ${heads}] - p.first;
  if (row >= p.rows) { return; }${turnPair(a, y, 'head * p.size', 'head * p.size')}`;

/**
 * a, y [tokens, heads, size]; position [tokens]; cosine, sine [rows, half], of positions from `first` on: tokens at others
 * are left alone. `direction` 1 turns, -1 turns back (the adjoint). With `both` also the a2, y2 [tokens, heads2, size] of the same
 * tokens. Grid: linear over n + n2, tokens * heads * (size - half) of each.
 */
export const rotary = shipped(makeRotary, takes('rotary', ['both', flag]));

function makeRotary(both: boolean): Kernel {
  const second = (name: string): string[] => (both ? [`${name}2`] : []);
  const floats = (names: string[], access: 'read' | 'read_write') =>
    names.map((name) => ({ name, element: 'f32', access }) as const);
  return {
    name: both ? 'rotary.both' : 'rotary',
    bindings: [
      ...floats(['a', ...second('a')], 'read'),
      { name: 'position', element: 'u32', access: 'read' },
      ...floats(['cosine', 'sine'], 'read'),
      ...floats(['y', ...second('y')], 'read_write'),
    ],
    params: {
      n: 'u32',
      heads: 'u32',
      half: 'u32',
      size: 'u32',
      first: 'u32',
      rows: 'u32',
      direction: 'f32',
      ...(both ? ({ n2: 'u32', heads2: 'u32' } as const) : {}),
    },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let i = ${LINEAR_INDEX};${
    both
      ? `
  if (i >= p.n) {
  let at = i - p.n;
  if (at >= p.n2) { return; }${turnOne('a2', 'y2', 'p.heads2')}
  return;
  }`
      : `
  if (i >= p.n) { return; }`
  }
  let at = i;${turnOne('a', 'y', 'p.heads')}
}`,
  };
}
