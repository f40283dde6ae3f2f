/**
 * What workgroups made of chunks of keys, put together in order: attention's sums, which two softmaxes make one (Milakov & Gimelshein
 * 2018), and plain ones.
 */

import { ATTENTION_PARAMS } from './attentionParts.ts';
import { type Kernel, LINEAR_INDEX } from './kernel.ts';
import { shipped } from './shipped.ts';
import { takes, word } from './variant.ts';

/** Chunks that are loaded before any is added: else each would wait for the one before. */
const AHEAD = [0, 1, 2, 3, 4, 5, 6, 7] as const;

const PARAMS = {
  rows: ATTENTION_PARAMS.rows,
  /** Numbers of a row, in vectors. */
  width: 'u32',
  chunks: 'u32',
} as const;
const WIDTHS = word<1 | 4>([1, 4]);
const element = (vector: 1 | 4): string => (vector === 4 ? 'vec4f' : 'f32');

const MAIN = (body: string): string => `
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let i = ${LINEAR_INDEX};
  if (i >= p.rows * p.width) { return; }
  let row = i / p.width;
  let column = i % p.width;
  ${body}
}`;
const ahead = (load: (chunk: string, n: number) => string, add: (n: number) => string): string => `
  for (var chunk0 = 0u; chunk0 < p.chunks; chunk0 += ${AHEAD.length}u) {
  ${AHEAD.map((n) => load(`(row * p.chunks + min(chunk0 + ${n}u, p.chunks - 1u))`, n)).join('\n  ')}
  ${AHEAD.map((n) => `if (chunk0 + ${n}u < p.chunks) { ${add(n)} }`).join('\n  ')}
  }`;

/**
 * y and lse of rows of which each chunk's `sums` [rows, chunks, width], and maximum and sum of weights, `marks` [rows, chunks], are there.
 * Sums of a chunk whose weights are 0 are not read. Grid: `linearGrid(rows * width)`.
 */
export const attentionMerge = shipped(
  (vector: 1 | 4): Kernel => ({
    name: `attention.merge.${vector}`,
    bindings: [
      { name: 'sums', element: element(vector), access: 'read' },
      { name: 'marks', element: 'vec2f', access: 'read' },
      { name: 'y', element: element(vector), access: 'read_write' },
      { name: 'lse', element: 'f32', access: 'read_write' },
    ],
    params: PARAMS,
    workgroup: [64, 1, 1],
    body: MAIN(`
  var all_top = -2e38;
  var all_total = 0.0;
  var all = ${element(vector)}();
  ${ahead(
    (at, n) =>
      `let mark${n} = marks[${at}]; var sum${n} = ${element(vector)}(); if (mark${n}.y > 0.0) { sum${n} = sums[${at} * p.width + column]; }`,
    (n) => `let all_larger = max(all_top, mark${n}.x);
  let before = exp(all_top - all_larger);
  let now = exp(mark${n}.x - all_larger);
  all_top = all_larger;
  all_total = fma(all_total, before, mark${n}.y * now);
  all = fma(all, ${element(vector)}(before), sum${n} * now);`,
  )}
  y[i] = all * (1.0 / all_total);
  if (column == 0u) { lse[row] = all_top + log(all_total); }`),
  }),
  takes('attentionMerge', ['vector', WIDTHS]),
);

/** y [rows, width] = the sums over chunks of x [rows, chunks, width], in order. Grid: `linearGrid(rows * width)`. */
export const chunkSums = shipped(
  (vector: 1 | 4): Kernel => ({
    name: `attention.chunk_sums.${vector}`,
    bindings: [
      { name: 'x', element: element(vector), access: 'read' },
      { name: 'y', element: element(vector), access: 'read_write' },
    ],
    params: PARAMS,
    workgroup: [64, 1, 1],
    body: MAIN(`
  var all = ${element(vector)}();
  ${ahead(
    (at, n) => `let x${n} = x[${at} * p.width + column];`,
    (n) => `all += x${n};`,
  )}
  y[i] = all;`),
  }),
  takes('chunkSums', ['vector', WIDTHS]),
);
