/**
 * Reductions down the columns of [outer, reduced, inner].
 *
 * A workgroup is `rowLanes` by `columnLanes`: neighbouring invocations read neighbouring columns, by fours where whole
 * vectors fill a row, and those of one column take turns at the rows of a slice, then join in a tree. Slices are further
 * results, which another pass reduces. The order follows `rowLanes` and the length of a slice alone.
 */

import { GROUP_INDEX, type Kernel } from './kernel.ts';
import { COMBINATIONS, groupReduction, REDUCTION, type Reduction } from './reduce.ts';
import { shipped } from './shipped.ts';
import { count, flag, powerOfTwo, takes, variant, word } from './variant.ts';

/** How a workgroup shares columns. */
export interface ColumnShare {
  readonly rowLanes: number;
  readonly columnLanes: number;
  /** Columns in an element; they divide `inner`. */
  readonly vector: 1 | 4;
}

export const COLUMN_SHARE = variant<ColumnShare>({
  rowLanes: powerOfTwo,
  columnLanes: count,
  vector: word([1, 4]),
});

/** Parameters of every reduction of columns: the shape, the slices that `reduced` is cut into and the rows of each. */
export const COLUMN_PARAMS = {
  outer: 'u32',
  reduced: 'u32',
  inner: 'u32',
  slices: 'u32',
  slice: 'u32',
} as const satisfies Kernel['params'];

/** Distinguishes kernels by name. */
export const columnShareName = (
  { rowLanes, columnLanes, vector }: ColumnShare,
  accumulate: boolean,
): string => `${rowLanes}x${columnLanes}x${vector}${accumulate ? '.accumulate' : ''}`;

/** Type of an element. */
export const columnElement = ({ vector }: ColumnShare): 'f32' | 'vec4f' => (vector === 4 ? 'vec4f' : 'f32');

/**
 * Declarations and `fn main`. `step` is WGSL that brings the elements at `i` of row `r` into variables named as the keys of
 * `results`, which go to the bindings they name, [outer, slices, inner]; `accumulate` adds to what those hold.
 */
export function reduceDown(
  share: ColumnShare,
  reduction: Reduction,
  accumulate: boolean,
  results: Readonly<Record<string, string>>,
  step: string,
): string {
  const { rowLanes, columnLanes, vector } = share;
  const { type, declarations, start, combine, take, give } = COMBINATIONS[reduction];
  const element = type[vector];
  const joined = rowLanes > 1;
  const each = (line: (name: string, binding: string) => string): string =>
    Object.entries(results)
      .map(([name, binding]) => line(name, binding))
      .join('\n  ');
  const tree = (name: string): string =>
    groupReduction(name, combine, rowLanes * columnLanes, element, columnLanes);
  return `
${declarations(vector)}
${joined ? each(tree) : ''}
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lane: u32) {
  let width = p.inner / ${vector}u;
  let j = (${GROUP_INDEX}) * ${columnLanes}u + lane % ${columnLanes}u;
  let block = j / width;
  let inside = block < p.outer * p.slices;
  let begin = (block % p.slices) * p.slice;
  let end = select(0u, min(begin + p.slice, p.reduced), inside);
  let base = (block / p.slices) * p.reduced * width + j % width;
  ${each((name) => `var ${name} = ${element}(${start});`)}
  for (var r = begin + lane / ${columnLanes}u; r < end; r += ${rowLanes}u) {
    let i = base + r * width;
    ${step}
  }
  ${joined ? each((name) => `${name} = reduce_${name}(${name}, lane);`) : ''}
  if (inside && lane < ${columnLanes}u) {
    ${each((name, y) =>
      accumulate
        ? `{ let v = ${name}; let u = ${take(`${y}[j]`)}; ${y}[j] = ${give(combine)}; }`
        : `${y}[j] = ${give(name)};`,
    )}
  }
}`;
}

/**
 * y[o, slice, i] over the rows of the slice in a[o, :, i]. `accumulate` adds to what y holds.
 * Grid: groups, outer * slices * inner / vector / columnLanes.
 */
export const reduceColumns = shipped(
  (reduction: Reduction, share: ColumnShare, accumulate: boolean): Kernel => {
    const { type, combine, take } = COMBINATIONS[reduction];
    const element = type[share.vector];
    return {
      name: `reduce.columns.${reduction}.${columnShareName(share, accumulate)}`,
      bindings: [
        { name: 'a', element, access: 'read' },
        { name: 'y', element, access: 'read_write' },
      ],
      params: COLUMN_PARAMS,
      workgroup: [share.rowLanes * share.columnLanes, 1, 1],
      body: reduceDown(share, reduction, accumulate, { u: 'y' }, `let v = ${take('a[i]')}; u = ${combine};`),
    };
  },
  takes('reduceColumns', ['reduction', REDUCTION], ['share', COLUMN_SHARE], ['accumulate', flag]),
);
