/**
 * Sums and maxima of rows (columns: columns.ts).
 *
 * One workgroup a row, each invocation a strided share, then a tree; long rows are cut into chunks whose results are
 * reduced again. The order is fixed, so a row alone equals the same row in a batch bit for bit.
 */

import { GROUP_INDEX, type Kernel } from './kernel.ts';
import { shipped } from './shipped.ts';

export type Reduction = 'sum' | 'max';
/** What changes nothing. */
export const START = { sum: '0.0', max: '-3.4028234e38' } as const;
/** WGSL that combines `u` and `v`. */
export const COMBINE = { sum: 'u + v', max: 'max(u, v)' } as const;

/**
 * Invocations that share a row, by default. Fewer suit adapters with narrow subgroups, where barriers cost more than
 * idle lanes; the order of summation follows this number alone, never the number of rows.
 */
export const ROW_GROUP = 64;

/** Opening of `fn main` in kernels with one workgroup a row: `row`, and `lane` of the invocations that share it. */
export const ROW_MAIN = `fn main(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = ${GROUP_INDEX};
  if (row >= p.rows) { return; }`;

/**
 * Tree over workgroup memory: `reduce_X(value, lane)` gives every lane the result over all, or over those a multiple of
 * `apart` lanes away.
 */
export function groupReduction(
  name: string,
  combine: string,
  lanes = ROW_GROUP,
  type: 'f32' | 'vec4f' = 'f32',
  apart = 1,
): string {
  const steps: string[] = [];
  for (let half = lanes / 2; half >= apart; half /= 2) {
    steps.push(
      `  if (lane < ${half}u) { let u = shared_${name}[lane]; let v = shared_${name}[lane + ${half}u]; shared_${name}[lane] = ${combine}; }\n  workgroupBarrier();`,
    );
  }
  return `
var<workgroup> shared_${name}: array<${type}, ${lanes}>;
fn reduce_${name}(value: ${type}, lane: u32) -> ${type} {
  workgroupBarrier();
  shared_${name}[lane] = value;
  workgroupBarrier();
${steps.join('\n')}
  return shared_${name}[${apart === 1 ? 0 : `lane % ${apart}u`}];
}`;
}

/** y[row * chunks + chunk] over a[row, chunk * chunkLength ...]. Grid: groups, rows * chunks. */
export const reduceRows = shipped((reduction: Reduction, lanes: number = ROW_GROUP): Kernel => {
  return {
    name: `reduce.rows.${reduction}.${lanes}`,
    bindings: [
      { name: 'a', element: 'f32', access: 'read' },
      { name: 'y', element: 'f32', access: 'read_write' },
    ],
    params: { rows: 'u32', length: 'u32', chunks: 'u32', chunk_length: 'u32' },
    workgroup: [lanes, 1, 1],
    body: `
${groupReduction('value', COMBINE[reduction], lanes)}
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lane: u32) {
  let group = ${GROUP_INDEX};
  if (group >= p.rows * p.chunks) { return; }
  let row = group / p.chunks;
  let begin = (group % p.chunks) * p.chunk_length;
  let end = min(begin + p.chunk_length, p.length);
  var u = f32(${START[reduction]});
  for (var i = begin + lane; i < end; i += ${lanes}u) {
    let v = a[row * p.length + i];
    u = ${COMBINE[reduction]};
  }
  let total = reduce_value(u, lane);
  if (lane == 0u) { y[group] = total; }
}`,
  };
});

/** Index of the first largest element of each row, as u32. Grid: groups, rows. */
export const argmaxRows = shipped((lanes: number = ROW_GROUP): Kernel => {
  return {
    name: `argmax.rows.${lanes}`,
    bindings: [
      { name: 'a', element: 'f32', access: 'read' },
      { name: 'y', element: 'u32', access: 'read_write' },
    ],
    params: { rows: 'u32', length: 'u32' },
    workgroup: [lanes, 1, 1],
    body: `
${groupReduction('best', 'max(u, v)', lanes)}
${groupReduction('first', 'min(u, v)', lanes)}
${ROW_MAIN}
  var best = f32(-3.4028234e38);
  var at = 0u;
  for (var i = lane; i < p.length; i += ${lanes}u) {
    let v = a[row * p.length + i];
    if (v > best) { best = v; at = i; }
  }
  let top = reduce_best(best, lane);
  // Indices below 2^24 are exact in f32; a vocabulary is far smaller.
  let first = reduce_first(select(16777216.0, f32(at), best == top && lane < p.length), lane);
  if (lane == 0u) { y[row] = u32(first); }
}`,
  };
});
