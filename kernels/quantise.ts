/**
 * Weights in 8 or 4 bits: symmetric, in groups of 32 along a row, each with a float32 scale (docs/quantisation.md).
 *
 * A group is one block of words: the scale, then the numbers, lowest first, two's complement: 4 a word (int8, 9 words) or
 * 8 a word (int4, 5 words). A row begins a new group; the last one of a row is filled up with zeros. Everything is integer
 * arithmetic on u32, so that any device can read it.
 */

import { F16_BITS, HALF, type HalfFormat, readEight } from './copy.ts';
import { type Kernel, LINEAR_GROUP, LINEAR_INDEX } from './kernel.ts';
import { shipped } from './shipped.ts';
import { flag, optional, takes, word } from './variant.ts';

export type QuantisedFormat = 'int8' | 'int4';
/** How a tensor of real numbers may be stored. */
export type WeightFormat = 'f32' | HalfFormat | QuantisedFormat;
export const REAL = word<'f32' | HalfFormat>(['f32', 'f16', 'bf16']);
const QUANTISED = word<QuantisedFormat>(['int8', 'int4']);
export const WEIGHT = word<WeightFormat>(['f32', 'f16', 'bf16', 'int8', 'int4']);

/** Numbers that share a scale. */
export const QUANTISED_GROUP = 32;
const BITS: Record<QuantisedFormat, number> = { int8: 8, int4: 4 };
/** Words of a group: the scale and the numbers. */
export const groupWords = (format: QuantisedFormat): number => 1 + BITS[format];
/** Largest stored number; the most negative one is its opposite. */
export const largestCode = (format: QuantisedFormat): number => 2 ** (BITS[format] - 1) - 1;

export const isQuantised = (format: string): format is QuantisedFormat =>
  format === 'int8' || format === 'int4';
/** Numbers that a row of `length` takes up. */
export const storedRow = (format: string, length: number): number =>
  isQuantised(format) ? Math.ceil(length / QUANTISED_GROUP) * QUANTISED_GROUP : length;

/** WGSL: the vec4f of numbers 4 quad ... 4 quad + 3 of the array of words `b`. */
export function dequantise4(format: QuantisedFormat): string {
  const words = groupWords(format);
  const code =
    format === 'int8'
      ? `let w = b[at + 1u + quad % 8u];
  let q = vec4i(vec4u(w << 24u, w << 16u, w << 8u, w)) >> vec4u(24u);`
      : `let w = b[at + 1u + (quad % 8u) / 2u] >> (16u * (quad & 1u));
  let q = vec4i(vec4u(w << 28u, w << 24u, w << 20u, w << 16u)) >> vec4u(28u);`;
  return `
fn dequantise4(quad: u32) -> vec4f {
  let at = quad / 8u * ${words}u;
  ${code}
  return bitcast<f32>(b[at]) * vec4f(q);
}`;
}

/** WGSL: number `i` of the array of words `a`, in any format. */
export function readElement(format: WeightFormat): string {
  if (format === 'f32') return 'fn element(i: u32) -> f32 { return bitcast<f32>(a[i]); }';
  if (!isQuantised(format))
    return `${format === 'f16' ? F16_BITS : 'fn widen_bits(h: u32) -> u32 { return h << 16u; }'}
fn element(i: u32) -> f32 {
  return bitcast<f32>(widen_bits((a[i / 2u] >> (16u * (i & 1u))) & 0xffffu));
}`;
  const [bits, words] = [BITS[format], groupWords(format)];
  return `
fn element(i: u32) -> f32 {
  let at = i / ${QUANTISED_GROUP}u * ${words}u;
  let place = i % ${QUANTISED_GROUP}u * ${bits}u;
  let q = i32(a[at + 1u + place / 32u] << (${32 - bits}u - place % 32u)) >> ${32 - bits}u;
  return bitcast<f32>(a[at]) * f32(q);
}`;
}

/**
 * Rows [rows, length] stored as `from` into groups of `to`: scale = largest / 127 (or 7), number = round(x / scale), ties to
 * even. Grid: linear over rows * groups of a row.
 */
export const quantise = shipped(makeQuantise, takes('quantise', ['from', REAL], ['to', QUANTISED]));

function makeQuantise(from: 'f32' | HalfFormat, to: QuantisedFormat): Kernel {
  const top = largestCode(to);
  const perWord = 32 / BITS[to];
  return {
    name: `quantise.${from}.${to}`,
    bindings: [
      { name: 'a', element: 'u32', access: 'read' },
      { name: 'y', element: 'u32', access: 'read_write' },
    ],
    params: { n: 'u32', length: 'u32', groups: 'u32' },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
${readElement(from)}
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let g = ${LINEAR_INDEX};
  if (g >= p.n) { return; }
  let first = g % p.groups * ${QUANTISED_GROUP}u;
  let row = g / p.groups * p.length;
  let count = min(${QUANTISED_GROUP}u, p.length - first);
  var largest = 0.0;
  for (var i = 0u; i < count; i++) { largest = max(largest, abs(element(row + first + i))); }
  let scale = largest / ${top}.0;
  let at = g * ${groupWords(to)}u;
  y[at] = bitcast<u32>(scale);
  for (var w = 0u; w < ${BITS[to]}u; w++) {
    var word = 0u;
    for (var j = 0u; j < ${perWord}u; j++) {
      let i = w * ${perWord}u + j;
      if (i < count && scale > 0.0) {
        let q = i32(clamp(round(element(row + first + i) / scale), -${top}.0, ${top}.0));
        word |= (u32(q) & ${2 ** BITS[to] - 1}u) << (${BITS[to]}u * j);
      }
    }
    y[at + 1u + w] = word;
  }
}`,
  };
}

/**
 * As {@link quantise} where rows are whole groups (length a multiple of 32): a group is read once, eight numbers at a time,
 * and kept in registers. Same bits. Grid: linear over n groups.
 */
export const quantiseWhole = shipped(
  makeQuantiseWhole,
  takes('quantiseWhole', ['from', REAL], ['to', QUANTISED]),
);

function makeQuantiseWhole(from: 'f32' | HalfFormat, to: QuantisedFormat): Kernel {
  const [top, bits] = [largestCode(to), BITS[to]];
  const quads = Array.from({ length: 8 }, (_, i) => i);
  const quad = (i: number): string => {
    const shift = (bits * 4 * i) % 32;
    return shift ? `(pack(codes(x${i}, scale)) << ${shift}u)` : `pack(codes(x${i}, scale))`;
  };
  const perWord = 8 / bits;
  const stored = Array.from({ length: bits }, (_, w) => {
    const parts = Array.from({ length: perWord }, (_, i) => quad(perWord * w + i));
    return `y[at + ${1 + w}u] = ${parts.join(' | ')};`;
  });
  return {
    name: `quantise.${from}.${to}.whole`,
    bindings: [
      { name: 'a', element: 'vec4u', access: 'read' },
      { name: 'y', element: 'u32', access: 'read_write' },
    ],
    params: { n: 'u32' },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
${readEight(from)}
fn codes(x: vec4f, scale: f32) -> vec4u {
  let q = vec4i(clamp(round(x / scale), vec4f(-${top}.0), vec4f(${top}.0)));
  return vec4u(select(vec4i(0), q, scale > 0.0)) & vec4u(${2 ** bits - 1}u);
}
fn pack(q: vec4u) -> u32 { return q.x | (q.y << ${bits}u) | (q.z << ${2 * bits}u) | (q.w << ${3 * bits}u); }
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let g = ${LINEAR_INDEX};
  if (g >= p.n) { return; }
${[0, 1, 2, 3].map((i) => `  let e${i} = eight(4u * g + ${i}u);`).join('\n')}
${quads.map((i) => `  let x${i} = bitcast<vec4f>(e${i >> 1}.${i % 2 ? 'high' : 'low'});`).join('\n')}
  let most = ${quads.map((i) => `abs(x${i})`).reduce((most, x) => `max(${most}, ${x})`)};
  let scale = max(max(most.x, most.y), max(most.z, most.w)) / ${top}.0;
  let at = g * ${groupWords(to)}u;
  y[at] = bitcast<u32>(scale);
  ${stored.join('\n  ')}
}`,
  };
}

/** Quantised rows back to f32 [rows, length]. Grid: linear over rows * length. */
export const dequantise = shipped(makeDequantise, takes('dequantise', ['from', QUANTISED]));

function makeDequantise(from: QuantisedFormat): Kernel {
  return {
    name: `dequantise.${from}`,
    bindings: [
      { name: 'a', element: 'u32', access: 'read' },
      { name: 'y', element: 'f32', access: 'read_write' },
    ],
    params: { n: 'u32', length: 'u32', stored: 'u32' },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
${readElement(from)}
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let i = ${LINEAR_INDEX};
  if (i >= p.n) { return; }
  y[i] = element(i / p.length * p.stored + i % p.length);
}`,
  };
}

/**
 * Narrows `n` numbers to 16 bits, two a word, rounding to nearest, ties to even; beyond the largest f16 they become it
 * (weights are finite), or with `infinite` (gradients may not be) infinity, and so does what is no number. Grid: linear over n / 2.
 */
export const narrow = shipped(
  makeNarrow,
  takes('narrow', ['from', REAL], ['to', HALF], ['infinite', optional(flag)]),
);

function makeNarrow(from: 'f32' | HalfFormat, to: HalfFormat, infinite = false): Kernel {
  return {
    name: `narrow.${from}.${to}${infinite ? '.infinite' : ''}`,
    bindings: [
      { name: 'a', element: 'u32', access: 'read' },
      { name: 'y', element: 'u32', access: 'read_write' },
    ],
    params: { n: 'u32' },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
${readElement(from)}
${to === 'f16' ? (infinite ? NARROW_F16.replace(LARGEST, INFINITE) : NARROW_F16) : NARROW_BF16}
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let i = ${LINEAR_INDEX};
  if (2u * i >= p.n) { return; }
  var word = narrow_bits(bitcast<u32>(element(2u * i)));
  if (2u * i + 1u < p.n) { word |= narrow_bits(bitcast<u32>(element(2u * i + 1u))) << 16u; }
  y[i] = word;
}`,
  };
}

const NARROW_BF16 = `
fn narrow_bits(x: u32) -> u32 { return (x + 0x7fffu + ((x >> 16u) & 1u)) >> 16u; }`;

const LARGEST = 'if (magnitude >= 0x477fe000u) { return sign | 0x7bffu; }';
const INFINITE = `if (magnitude >= 0x477ff000u) { return sign | 0x7c00u; }\n  ${LARGEST}`;

/** Normal numbers lose 13 bits; smaller ones are counts of 2^-24. */
export const NARROW_F16 = `
fn narrow_bits(x: u32) -> u32 {
  let sign = (x >> 16u) & 0x8000u;
  let magnitude = x & 0x7fffffffu;
  ${LARGEST}
  if (magnitude >= 0x38800000u) {
    return sign | ((magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13u) & 1u)) >> 13u);
  }
  if (magnitude < 0x33000000u) { return sign; }
  let shift = 126u - (magnitude >> 23u);
  let fraction = (magnitude & 0x7fffffu) | 0x800000u;
  let half = 1u << (shift - 1u);
  return sign | ((fraction + half - 1u + ((fraction >> shift) & 1u)) >> shift);
}`;
