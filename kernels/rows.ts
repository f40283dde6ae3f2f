/**
 * Rows chosen by index: embedding lookup and its adjoint, one element a row and its adjoint.
 *
 * A table larger than a binding comes in windows [first, first + rows): an index outside the window is left alone, so
 * that one dispatch a window completes the result. The adjoint adds in order of position instead of with atomics, which is
 * deterministic: positions of one index are linked, and the first of them sums along its links.
 */

import { type Kernel, LINEAR_GROUP, LINEAR_INDEX } from './kernel.ts';
import { readElement, type WeightFormat } from './quantise.ts';

const INDEXED = (output: string): Kernel['bindings'] => [
  { name: 'a', element: 'f32', access: 'read' },
  { name: 'index', element: 'u32', access: 'read' },
  { name: output, element: 'f32', access: 'read_write' },
];

/**
 * y[r, :] = a[index[r] - first, :] for indices inside the window, of a table in any format whose stored rows have `stride`
 * elements. Grid: linear over count * width.
 */
export function gatherRows(format: WeightFormat = 'f32'): Kernel {
  return {
    name: `rows.gather.${format}`,
    bindings: [{ name: 'a', element: 'u32', access: 'read' }, ...INDEXED('y').slice(1)],
    params: { count: 'u32', width: 'u32', first: 'u32', rows: 'u32', stride: 'u32' },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
${readElement(format)}
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let i = ${LINEAR_INDEX};
  if (i >= p.count * p.width) { return; }
  let at = index[i / p.width] - p.first;
  if (at < p.rows) { y[i] = element(at * p.stride + i % p.width); }
}`,
  };
}

/** Marks the first position of an index; the other bits of a link are the next position. */
const FIRST = '0x80000000u';
const NO_NEXT = '0x7fffffffu';

/** link[r]: the next position of index[r], and whether r is its first. Grid: linear over count. */
export function linkRows(): Kernel {
  return {
    name: 'rows.link',
    bindings: [
      { name: 'index', element: 'u32', access: 'read' },
      { name: 'link', element: 'u32', access: 'read_write' },
    ],
    params: { count: 'u32' },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let r = ${LINEAR_INDEX};
  if (r >= p.count) { return; }
  let mine = index[r];
  var before = r;
  while (before > 0u && index[before - 1u] != mine) { before--; }
  var next = r + 1u;
  while (next < p.count && index[next] != mine) { next++; }
  link[r] = select(next, ${NO_NEXT}, next == p.count) | select(0u, ${FIRST}, before == 0u);
}`,
  };
}

/** y[index[r] - first, :] += a[r, :] into a window already filled with 0. Grid: linear over count * width. */
export function scatterAddRows(): Kernel {
  return {
    name: 'rows.scatter_add',
    bindings: [...INDEXED('y'), { name: 'link', element: 'u32', access: 'read' }],
    params: { count: 'u32', width: 'u32', first: 'u32', rows: 'u32' },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let i = ${LINEAR_INDEX};
  if (i >= p.count * p.width) { return; }
  let r = i / p.width;
  let column = i % p.width;
  let at = index[r] - p.first;
  if (at >= p.rows || (link[r] & ${FIRST}) == 0u) { return; }
  var sum = 0.0;
  for (var s = r; s != ${NO_NEXT}; s = link[s] & ${NO_NEXT}) { sum += a[s * p.width + column]; }
  y[at * p.width + column] = sum;
}`,
  };
}

/** A kernel over one index a row. Grid: linear over count, or count * width. */
function indexed(name: string, body: string): Kernel {
  return {
    name: `rows.${name}`,
    bindings: INDEXED('y'),
    params: { count: 'u32', width: 'u32' },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let i = ${LINEAR_INDEX};
${body}
}`,
  };
}

/** y[r] = a[r, index[r]], 0 where the index is outside the row. Grid: linear over count. */
export const pick = (): Kernel =>
  indexed(
    'pick',
    `  if (i >= p.count) { return; }
  let at = index[i];
  y[i] = select(0.0, a[i * p.width + min(at, p.width - 1u)], at < p.width);`,
  );

/** y[r, j] = j == index[r] ? a[r] : 0: the adjoint of pick. Grid: linear over count * width. */
export const unpick = (): Kernel =>
  indexed(
    'unpick',
    `  if (i >= p.count * p.width) { return; }
  let r = i / p.width;
  y[i] = select(0.0, a[r], i % p.width == index[r]);`,
  );
