/**
 * Matrices that are stored as [in, out], transposed on their way into rows of any format, a block of them at a time.
 */

import { F16_BITS, type HalfFormat } from './copy.ts';
import { type Kernel, LINEAR_GROUP, LINEAR_INDEX } from './kernel.ts';
import {
  isQuantised,
  NARROW_BF16,
  NARROW_F16,
  QUANTISED_GROUP,
  REAL,
  WEIGHT,
  type WeightFormat,
  writeGroup,
} from './quantise.ts';
import { shipped } from './shipped.ts';
import { takes } from './variant.ts';

/** Numbers along a row of the result that one invocation writes: a whole word, or a whole group. */
export const transposedUnit = (to: WeightFormat): number =>
  isQuantised(to) ? QUANTISED_GROUP : to === 'f32' ? 1 : 2;

/**
 * Of a block [count, width], columns first ... first + rows - 1 become rows: number (k, first + r) goes to row row + r, column
 * `column` + k, of rows that take up `length` numbers. `column` and, for 16 bits, `count` and `length` are multiples of
 * {@link transposedUnit}. The same bits as widening, narrowing and quantising what is stored the right way round.
 * Grid: linear over n = rows * units of count.
 */
export const transposeBlock = shipped(
  makeTransposeBlock,
  takes('transposeBlock', ['from', REAL], ['to', WEIGHT]),
);

function makeTransposeBlock(from: 'f32' | HalfFormat, to: WeightFormat): Kernel {
  const unit = transposedUnit(to);
  const write = isQuantised(to)
    ? `let count = min(${unit}u, p.count - k);
  let at = place / ${unit}u;
  ${writeGroup(to, 'bitcast<f32>(bits(source + i * p.width))')}`
    : to === 'f32'
      ? 'y[place] = bits(source);'
      : 'y[place / 2u] = half(source) | (half(source + p.width) << 16u);';
  const half = from === to ? 'return stored(i);' : 'return narrow_bits(bits(i));';
  return {
    name: `transpose.${from}.${to}`,
    bindings: [
      { name: 'a', element: 'u32', access: 'read' },
      { name: 'y', element: 'u32', access: 'read_write' },
    ],
    params: {
      n: 'u32',
      rows: 'u32',
      count: 'u32',
      width: 'u32',
      first: 'u32',
      row: 'u32',
      length: 'u32',
      column: 'u32',
    },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
${from === 'f16' ? F16_BITS : 'fn widen_bits(h: u32) -> u32 { return h << 16u; }'}
${to === 'f16' ? NARROW_F16 : NARROW_BF16}
fn stored(i: u32) -> u32 { return (a[i / 2u] >> (16u * (i & 1u))) & 0xffffu; }
fn bits(i: u32) -> u32 { return ${from === 'f32' ? 'a[i]' : 'widen_bits(stored(i))'}; }
fn half(i: u32) -> u32 { ${half} }
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let g = ${LINEAR_INDEX};
  if (g >= p.n) { return; }
  let r = g % p.rows;
  let k = g / p.rows * ${unit}u;
  let source = k * p.width + p.first + r;
  let place = (p.row + r) * p.length + p.column + k;
  ${write}
}`,
  };
}
