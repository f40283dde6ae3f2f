/**
 * Sums and maxima of rows (columns: columns.ts).
 *
 * One workgroup a row, each invocation a strided share, then a tree; long rows are cut into chunks whose results are
 * reduced again. The order is fixed, so a row alone equals the same row in a batch bit for bit.
 */

import { GROUP_INDEX, type Kernel } from './kernel.ts';
import { byOrder } from './math.ts';
import { shipped } from './shipped.ts';
import { optional, powerOfTwo, takes, word } from './variant.ts';

export type Reduction = 'sum' | 'max';
export const REDUCTION = word<Reduction>(['sum', 'max']);
interface Combination {
  /** What is combined, one number or four; bindings hold the same, of maxima the bits. */
  readonly type: { readonly 1: 'f32' | 'u32'; readonly 4: 'vec4f' | 'vec4u' };
  /** Functions that the others need. */
  readonly declarations: (vector: 1 | 4) => string;
  /** What changes nothing. */
  readonly start: string;
  /** WGSL that combines `u` and `v`. */
  readonly combine: string;
  /** What is combined from what a binding holds, and back. */
  readonly take: (stored: string) => string;
  readonly give: (value: string) => string;
}

/** Maxima are those of integers in the numbers' order (math.ts), so that infinities and NaN count. */
export const COMBINATIONS: Readonly<Record<Reduction, Combination>> = {
  sum: {
    type: { 1: 'f32', 4: 'vec4f' },
    declarations: () => '',
    start: '0.0',
    combine: 'u + v',
    take: (stored) => stored,
    give: (value) => value,
  },
  max: {
    type: { 1: 'u32', 4: 'vec4u' },
    declarations: (vector) => byOrder(vector === 4 ? 'vec4f' : 'f32'),
    start: '0u',
    combine: 'max(u, v)',
    take: (stored) => `order(${stored})`,
    give: (value) => `from_order(${value})`,
  },
};

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
  type: 'f32' | 'vec4f' | 'u32' | 'vec4u' = 'f32',
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
export const reduceRows = shipped(
  makeReduceRows,
  takes('reduceRows', ['reduction', REDUCTION], ['lanes', optional(powerOfTwo)]),
);

function makeReduceRows(reduction: Reduction, lanes: number = ROW_GROUP): Kernel {
  const { type, declarations, start, combine, take, give } = COMBINATIONS[reduction];
  return {
    name: `reduce.rows.${reduction}.${lanes}`,
    bindings: [
      { name: 'a', element: type[1], access: 'read' },
      { name: 'y', element: type[1], access: 'read_write' },
    ],
    params: { rows: 'u32', length: 'u32', chunks: 'u32', chunk_length: 'u32' },
    workgroup: [lanes, 1, 1],
    body: `
${declarations(1)}
${groupReduction('value', combine, lanes, type[1])}
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lane: u32) {
  let group = ${GROUP_INDEX};
  if (group >= p.rows * p.chunks) { return; }
  let row = group / p.chunks;
  let begin = (group % p.chunks) * p.chunk_length;
  let end = min(begin + p.chunk_length, p.length);
  var u = ${type[1]}(${start});
  for (var i = begin + lane; i < end; i += ${lanes}u) {
    let v = ${take('a[row * p.length + i]')};
    u = ${combine};
  }
  let total = reduce_value(u, lane);
  if (lane == 0u) { y[group] = ${give('total')}; }
}`,
  };
}

/** Index of the first largest element of each row, as u32; NaN is larger than any number. Grid: groups, rows. */
export const argmaxRows = shipped(makeArgmaxRows, takes('argmaxRows', ['lanes', optional(powerOfTwo)]));

function makeArgmaxRows(lanes: number = ROW_GROUP): Kernel {
  return {
    name: `argmax.rows.${lanes}`,
    bindings: [
      { name: 'a', element: 'u32', access: 'read' },
      { name: 'y', element: 'u32', access: 'read_write' },
    ],
    params: { rows: 'u32', length: 'u32' },
    workgroup: [lanes, 1, 1],
    body: `
${byOrder('f32')}
${groupReduction('best', 'max(u, v)', lanes, 'u32')}
${groupReduction('first', 'min(u, v)', lanes, 'u32')}
${ROW_MAIN}
  // Below the order of every number, as in lanes without one.
  var best = 0u;
  var at = 0u;
  for (var i = lane; i < p.length; i += ${lanes}u) {
    let v = rank(a[row * p.length + i]);
    if (v > best) { best = v; at = i; }
  }
  let top = reduce_best(best, lane);
  let first = reduce_first(select(0xffffffffu, at, best == top), lane);
  if (lane == 0u) { y[row] = first; }
}`,
  };
}
