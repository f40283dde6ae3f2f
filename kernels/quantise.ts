/**
 * Weights between formats (packing.ts): rounded to 8 or 4 bits, in groups of 32 along a row, to 16 bits, and widened again.
 */

import { HALF, type HalfFormat, readEight } from './copy.ts';
import { type Kernel, LINEAR_GROUP, LINEAR_INDEX } from './kernel.ts';
import { weightReader } from './matmulParts.ts';
import {
  CODES,
  GROUPED,
  type GroupedFormat,
  PACKINGS,
  QUANTISED,
  type QuantisedFormat,
  REAL,
  readElement,
} from './packing.ts';
import { shipped } from './shipped.ts';
import { flag, optional, takes } from './variant.ts';

/**
 * WGSL of a group's words before its codes, made of its least and largest number, and of its codes.
 *
 * int8 is symmetric: x = scale code, scale = largest / 127. int4 has a minimum: x = scale code + minimum, scale = (largest - least) / 15
 * rounded to 20 bits, so that scale code is exact and weights that come from 4 bits keep their step. Differences are taken of
 * halves, which cannot overflow, and a group that spans more than the largest float32 is cut to it.
 */
const ROUNDING: Record<QuantisedFormat, string> = {
  int8: `
struct Header { scale: f32 }
fn header_of(least: f32, most: f32) -> Header { return Header(max(-least, most) / 127.0); }
fn codes_of(x: vec4f, header: Header) -> vec4u {
  let codes = vec4i(clamp(round(x / header.scale), vec4f(-127.0), vec4f(127.0)));
  return vec4u(select(vec4i(0), codes, header.scale > 0.0)) & vec4u(0xffu);
}`,
  int4: `
struct Header { scale: f32, minimum: f32 }
fn header_of(least: f32, most: f32) -> Header {
  let step = min(0.5 * most - 0.5 * least, 0x1.fffffp+126f) / 7.5;
  return Header(bitcast<f32>((bitcast<u32>(step) + 8u) & 0xfffffff0u), least);
}
fn codes_of(x: vec4f, header: Header) -> vec4u {
  let above = 0.5 * x - vec4f(0.5 * header.minimum);
  let codes = vec4u(clamp(round(above / (0.5 * header.scale)), vec4f(0.0), vec4f(15.0)));
  return select(vec4u(0u), codes, header.scale > 0.0);
}`,
};

const HEADER: Record<QuantisedFormat, readonly string[]> = {
  int8: ['scale'],
  int4: ['scale', 'minimum'],
};

const PACK = 'fn pack(q: vec4u) -> u32 { return q.x | (q.y << 8u) | (q.z << 16u) | (q.w << 24u); }';

/** Statements that write a group at `at` with header `header`; `quad(q)` is the expression of its q-th four numbers. */
function writeGroup(to: QuantisedFormat, quad: (q: number) => string): string {
  const { bits, header } = CODES[to];
  const codes = (q: number): string => `pack(codes_of(${quad(q)}, header))`;
  return [
    ...HEADER[to].map((name, i) => `y[at + ${i}u] = bitcast<u32>(header.${name});`),
    ...Array.from({ length: bits }, (_, w) => {
      const value = bits === 8 ? codes(w) : `${codes(w)} | (${codes(w + 4)} << 4u)`;
      return `y[at + ${header + w}u] = ${value};`;
    }),
  ].join('\n  ');
}

/**
 * Rows [rows, length] stored as `from` into groups of `to`, the last one of a row filled up with its last number. Grid: linear over
 * rows * groups of a row.
 */
export const quantise = shipped(makeQuantise, takes('quantise', ['from', REAL], ['to', QUANTISED]));

function makeQuantise(from: 'f32' | HalfFormat, to: QuantisedFormat): Kernel {
  const { group, words } = PACKINGS[to];
  return {
    name: `quantise.${from}.${to}`,
    bindings: [
      { name: 'a', element: 'u32', access: 'read' },
      { name: 'y', element: 'u32', access: 'read_write' },
    ],
    params: { n: 'u32', length: 'u32', groups: 'u32' },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
${readElement(from)}${ROUNDING[to]}
${PACK}
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let g = ${LINEAR_INDEX};
  if (g >= p.n) { return; }
  let first = g % p.groups * ${group}u;
  let row = g / p.groups * p.length;
  var x: array<f32, ${group}>;
  for (var i = 0u; i < ${group}u; i++) { x[i] = element(row + min(first + i, p.length - 1u)); }
  var least = x[0];
  var most = x[0];
  for (var i = 1u; i < ${group}u; i++) {
    least = min(least, x[i]);
    most = max(most, x[i]);
  }
  let header = header_of(least, most);
  let at = g * ${words}u;
  ${writeGroup(to, (q) => `vec4f(${[0, 1, 2, 3].map((i) => `x[${4 * q + i}]`).join(', ')})`)}
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
  const quads = [0, 1, 2, 3, 4, 5, 6, 7];
  const over = (op: 'min' | 'max'): string => quads.map((i) => `x${i}`).reduce((a, x) => `${op}(${a}, ${x})`);
  return {
    name: `quantise.${from}.${to}.whole`,
    bindings: [
      { name: 'a', element: 'vec4u', access: 'read' },
      { name: 'y', element: 'u32', access: 'read_write' },
    ],
    params: { n: 'u32' },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
${readEight(from)}${ROUNDING[to]}
${PACK}
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let g = ${LINEAR_INDEX};
  if (g >= p.n) { return; }
${[0, 1, 2, 3].map((i) => `  let e${i} = eight(4u * g + ${i}u);`).join('\n')}
${quads.map((i) => `  let x${i} = bitcast<vec4f>(e${i >> 1}.${i % 2 ? 'high' : 'low'});`).join('\n')}
  let low = ${over('min')};
  let high = ${over('max')};
  let header = header_of(min(min(low.x, low.y), min(low.z, low.w)), max(max(high.x, high.y), max(high.z, high.w)));
  let at = g * ${PACKINGS[to].words}u;
  ${writeGroup(to, (q) => `x${q}`)}
}`,
  };
}

/** Grouped rows back to f32 [rows, length]. With `four` length is a multiple of 4. Grid: linear over rows * length, or a quarter of it. */
export const dequantise = shipped(
  makeDequantise,
  takes('dequantise', ['from', GROUPED], ['four', optional(flag)]),
);

function makeDequantise(from: GroupedFormat, four = false): Kernel {
  const reader = weightReader(from, true);
  return {
    name: `dequantise.${from}${four ? '.four' : ''}`,
    bindings: [
      { name: four ? 'b' : 'a', element: 'u32', access: 'read' },
      { name: 'y', element: four ? 'vec4f' : 'f32', access: 'read_write' },
    ],
    params: { n: 'u32', length: 'u32', stored: 'u32' },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
${four ? reader.declarations : readElement(from)}
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let i = ${LINEAR_INDEX};
  if (i >= p.n) { return; }
  y[i] = ${four ? reader.quad('(i / p.length * p.stored + i % p.length)') : 'element(i / p.length * p.stored + i % p.length)'};
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
