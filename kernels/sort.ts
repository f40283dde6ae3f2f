/**
 * Sorting rows by a bitonic network (Batcher 1968): rows filled up to a power of two, every step compares all pairs that lie a distance
 * apart. What is compared is a number's place in the order of float32 (math.ts), then where it stood, so that the sort is stable, and a NaN above
 * every number.
 */

import { type Kernel, LINEAR_GROUP, LINEAR_INDEX } from './kernel.ts';
import { byOrder } from './math.ts';
import { shipped } from './shipped.ts';
import { takes } from './variant.ts';

/**
 * key[row, i], at[row, i] = the place of a[row, i] in the order, from its end with `descending`, and i, for rows filled up from `length` to
 * `filled`. Grid: linear over rows * filled.
 */
export const sortKeys = shipped(
  (): Kernel => ({
    name: 'sort.keys',
    bindings: [
      { name: 'a', element: 'u32', access: 'read' },
      { name: 'key', element: 'u32', access: 'read_write' },
      { name: 'at', element: 'u32', access: 'read_write' },
    ],
    params: { n: 'u32', length: 'u32', filled: 'u32', descending: 'u32' },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
${byOrder('f32')}
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let i = ${LINEAR_INDEX};
  if (i >= p.n) { return; }
  let column = i % p.filled;
  at[i] = column;
  // What fills up stands behind all: it has the last key and the larger places.
  var place = 0xffffffffu;
  if (column < p.length) {
    place = rank(a[i / p.filled * p.length + column]);
    place = select(place, ~place, p.descending == 1u);
  }
  key[i] = place;
}`,
  }),
  takes('sortKeys'),
);

/**
 * One step of the network: pairs `apart` from each other, in runs of `run` that rise and fall by turns; both are powers of two.
 * Grid: linear over n / 2 pairs.
 */
export const sortStep = shipped(
  (): Kernel => ({
    name: 'sort.step',
    bindings: [
      { name: 'key', element: 'u32', access: 'read_write' },
      { name: 'at', element: 'u32', access: 'read_write' },
    ],
    params: { pairs: 'u32', filled: 'u32', apart: 'u32', run: 'u32' },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let pair = ${LINEAR_INDEX};
  if (pair >= p.pairs) { return; }
  let i = (pair / p.apart) * 2u * p.apart + pair % p.apart;
  let j = i + p.apart;
  let rises = ((i % p.filled) & p.run) == 0u;
  let behind = key[i] > key[j] || (key[i] == key[j] && at[i] > at[j]);
  if (behind == rises) {
    let moved = vec2u(key[i], at[i]);
    key[i] = key[j];
    at[i] = at[j];
    key[j] = moved.x;
    at[j] = moved.y;
  }
}`,
  }),
  takes('sortStep'),
);
