/**
 * Rows chosen by index: embedding lookup and its adjoint, one element a row and its adjoint.
 *
 * A table larger than a binding comes in windows [first, first + rows): an index outside the window is left alone, so
 * that one dispatch a window completes the result. The adjoint adds in order of position instead of with atomics, which is
 * deterministic: positions of one index are linked, in time that grows with their number alone, and the first of them sums
 * along its links.
 */

import { type Kernel, LINEAR_GROUP, LINEAR_INDEX } from './kernel.ts';
import { readElement, WEIGHT, type WeightFormat } from './packing.ts';
import { shipped } from './shipped.ts';
import { optional, powerOfTwo, takes, word } from './variant.ts';

const INDEXED = (output: string): Kernel['bindings'] => [
  { name: 'a', element: 'f32', access: 'read' },
  { name: 'index', element: 'u32', access: 'read' },
  { name: output, element: 'f32', access: 'read_write' },
];

/**
 * y[r, :] = a[index[r] - first, :] for indices inside the window, of a table in any format whose stored rows have `stride`
 * elements. Grid: linear over count * width.
 */
export const gatherRows = shipped(makeGatherRows, takes('gatherRows', ['format', optional(WEIGHT)]));

function makeGatherRows(format: WeightFormat = 'f32'): Kernel {
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

/**
 * fault = [op, index, size] where an index is not below `size`, of the first dispatch that finds one since fault[0] was 0.
 * Grid: linear over count.
 */
export const checkIndices = shipped((): Kernel => {
  return {
    name: 'rows.check',
    bindings: [
      { name: 'index', element: 'u32', access: 'read' },
      { name: 'fault', element: 'atomic<u32>', access: 'read_write' },
    ],
    params: { count: 'u32', size: 'u32', op: 'u32' },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let i = ${LINEAR_INDEX};
  if (i >= p.count) { return; }
  let at = index[i];
  if (at < p.size || !atomicCompareExchangeWeak(&fault[0], 0u, p.op).exchanged) { return; }
  atomicStore(&fault[1], at);
  atomicStore(&fault[2], p.size);
}`,
  };
}, takes('checkIndices'));

/** Marks the first position of an index; the other bits of a link are the next position. */
const FIRST = '0x80000000u';
const NO_NEXT = '0x7fffffffu';

/**
 * link[r], of every r whose index lies in the window: the next position of index[r], and whether r is its first. One
 * workgroup goes through the positions, as many at a time as it has lanes: those of one index in such a block are found by
 * comparing, and the block is joined to those before it by the last position so far, which is kept, plus one, where the
 * index's row of y begins: y holds 0 before, and the sums of {@link scatterAddRows} after. Grid: one workgroup.
 */
export const linkRows = shipped(makeLinkRows, takes('linkRows', ['lanes', optional(powerOfTwo)]));

function makeLinkRows(lanes: number = 256): Kernel {
  return {
    name: `rows.link.${lanes}`,
    bindings: [
      { name: 'index', element: 'u32', access: 'read' },
      { name: 'link', element: 'u32', access: 'read_write' },
      { name: 'y', element: 'u32', access: 'read_write' },
    ],
    params: { count: 'u32', width: 'u32', first: 'u32', rows: 'u32' },
    workgroup: [lanes, 1, 1],
    body: `
var<workgroup> block: array<u32, ${lanes}>;
fn main(@builtin(local_invocation_index) lane: u32) {
  for (var begin = 0u; begin < p.count; begin += ${lanes}u) {
    let r = begin + lane;
    let mine = select(p.rows, index[min(r, p.count - 1u)] - p.first, r < p.count);
    let inside = mine < p.rows;
    block[lane] = mine;
    workgroupBarrier();
    var earlier = false;
    var next = ${NO_NEXT};
    for (var k = ${lanes}u; k > 0u; k--) {
      let same = block[k - 1u] == mine;
      earlier = earlier || (same && k - 1u < lane);
      next = select(next, begin + k - 1u, same && k - 1u > lane);
    }
    if (inside) {
      let last = y[mine * p.width];
      let continued = earlier || last > 0u;
      if (!earlier && continued) { link[last - 1u] = (link[last - 1u] & ${FIRST}) | r; }
      link[r] = next | select(${FIRST}, 0u, continued);
    }
    storageBarrier();
    if (inside && next == ${NO_NEXT}) { y[mine * p.width] = r + 1u; }
    storageBarrier();
    workgroupBarrier();
  }
}`,
  };
}

/**
 * y[index[r] - first, :] += a[r, :] into a window already filled with 0, but for what {@link linkRows} left there. `vector`
 * numbers at a time, in which `width` counts. Grid: linear over count * width.
 */
export const scatterAddRows = shipped(
  makeScatterAddRows,
  takes('scatterAddRows', ['vector', optional(word([1, 4]))]),
);

function makeScatterAddRows(vector: 1 | 4 = 1): Kernel {
  const element = vector === 4 ? 'vec4f' : 'f32';
  return {
    name: `rows.scatter_add.${vector}`,
    bindings: [
      { name: 'a', element, access: 'read' },
      { name: 'index', element: 'u32', access: 'read' },
      { name: 'y', element, access: 'read_write' },
      { name: 'link', element: 'u32', access: 'read' },
    ],
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
  var sum = ${element}();
  for (var s = r; s != ${NO_NEXT}; s = link[s] & ${NO_NEXT}) { sum += a[s * p.width + column]; }
  y[at * p.width + column] = sum;
}`,
  };
}

/**
 * y[index[i] - first] = the largest begin + i + 1 of an index in the window: which place names an element last. The order in which they come
 * makes no difference. Grid: linear over count.
 */
export const lastPlaces = shipped((): Kernel => {
  return {
    name: 'rows.last',
    bindings: [
      { name: 'index', element: 'u32', access: 'read' },
      { name: 'y', element: 'atomic<u32>', access: 'read_write' },
    ],
    params: { count: 'u32', begin: 'u32', first: 'u32', size: 'u32' },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let i = ${LINEAR_INDEX};
  if (i >= p.count) { return; }
  let at = index[i] - p.first;
  if (at < p.size) { atomicMax(&y[at], p.begin + i + 1u); }
}`,
  };
}, takes('lastPlaces'));

/**
 * y[b * size + index[0] - first, :] = a[b, :] for each of `count` blocks b of `size` rows, where that row is inside the window;
 * nothing for an index outside its block. Grid: linear over count * width.
 */
export const writeRow = shipped((): Kernel => {
  return {
    name: 'rows.write',
    bindings: INDEXED('y'),
    params: { count: 'u32', width: 'u32', size: 'u32', first: 'u32', rows: 'u32' },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let i = ${LINEAR_INDEX};
  if (i >= p.count * p.width || index[0] >= p.size) { return; }
  let at = i / p.width * p.size + index[0] - p.first;
  if (at < p.rows) { y[at * p.width + i % p.width] = a[i]; }
}`,
  };
}, takes('writeRow'));

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
export const pick = shipped(
  (): Kernel =>
    indexed(
      'pick',
      `  if (i >= p.count) { return; }
  let at = index[i];
  y[i] = select(0.0, a[i * p.width + min(at, p.width - 1u)], at < p.width);`,
    ),
  takes('pick'),
);

/** y[r, j] = j == index[r] ? a[r] : 0: the adjoint of pick. Grid: linear over count * width. */
export const unpick = shipped(
  (): Kernel =>
    indexed(
      'unpick',
      `  if (i >= p.count * p.width) { return; }
  let r = i / p.width;
  y[i] = select(0.0, a[r], i % p.width == index[r]);`,
    ),
  takes('unpick'),
);
