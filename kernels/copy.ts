/**
 * Strided copies: permute, slice, broadcast, concatenate and pad are one kernel that differs in strides and offsets.
 */

import { type Kernel, LINEAR_GROUP, LINEAR_INDEX } from './kernel.ts';
import { shipped } from './shipped.ts';
import { flag, optional, takes, word } from './variant.ts';

/**
 * y[yo + i . ys] = a[ao + i . as] for every index i of a box of at most four axes (sizes d0 d1 d2 d3, d0 implied by n).
 * Words of 32 bits, so that integers pass untouched; with `four`, quads of them, and all sizes, strides and offsets count
 * quads. Grid: linear over n.
 */
export const stridedCopy = shipped(makeStridedCopy, takes('stridedCopy', ['four', flag]));

function makeStridedCopy(four: boolean): Kernel {
  const element = four ? 'vec4u' : 'u32';
  return {
    name: `copy.strided${four ? '.four' : ''}`,
    bindings: [
      { name: 'a', element, access: 'read' },
      { name: 'y', element, access: 'read_write' },
    ],
    params: {
      n: 'u32',
      d1: 'u32',
      d2: 'u32',
      d3: 'u32',
      ao: 'u32',
      a0: 'u32',
      a1: 'u32',
      a2: 'u32',
      a3: 'u32',
      yo: 'u32',
      y0: 'u32',
      y1: 'u32',
      y2: 'u32',
      y3: 'u32',
    },
    workgroup: [LINEAR_GROUP, 1, 1],
    // Divisions are what this costs: a remainder is a product away from its quotient.
    body: `
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let i = ${LINEAR_INDEX};
  if (i >= p.n) { return; }
  let r3 = i / p.d3; let i3 = i - r3 * p.d3;
  let r2 = r3 / p.d2; let i2 = r3 - r2 * p.d2;
  let i0 = r2 / p.d1; let i1 = r2 - i0 * p.d1;
  y[p.yo + i0 * p.y0 + i1 * p.y1 + i2 * p.y2 + i3 * p.y3] = a[p.ao + i0 * p.a0 + i1 * p.a1 + i2 * p.a2 + i3 * p.a3];
}`,
  };
}

/** 16-bit numbers as stored in a checkpoint, two a word. */
export type HalfFormat = 'f16' | 'bf16';
export const HALF = word<HalfFormat>(['f16', 'bf16']);

/**
 * Widens `n` 16-bit numbers to f32 exactly, by integer arithmetic: hardware conversions may flush subnormal numbers.
 * Grid: linear over n / 2, or with `eight`, for n a multiple of 8, over n / 8.
 */
export const widen = shipped(makeWiden, takes('widen', ['format', HALF], ['eight', optional(flag)]));

function makeWiden(format: HalfFormat, eight = false): Kernel {
  const element = eight ? 'vec4u' : 'u32';
  return {
    name: `widen.${format}${eight ? '.eight' : ''}`,
    bindings: [
      { name: 'a', element, access: 'read' },
      { name: 'y', element, access: 'read_write' },
    ],
    params: { n: 'u32' },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: eight
      ? `
${readEight(format)}
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let i = ${LINEAR_INDEX};
  if (8u * i >= p.n) { return; }
  let bits = eight(i);
  y[2u * i] = bits.low;
  y[2u * i + 1u] = bits.high;
}`
      : `
${format === 'f16' ? F16_BITS : 'fn widen_bits(h: u32) -> u32 { return h << 16u; }'}
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let i = ${LINEAR_INDEX};
  if (i * 2u >= p.n) { return; }
  let word = a[i];
  y[2u * i] = widen_bits(word & 0xffffu);
  if (2u * i + 1u < p.n) { y[2u * i + 1u] = widen_bits(word >> 16u); }
}`,
  };
}

/** WGSL: the float32 bits of numbers 8 i ... 8 i + 7 of the array of vec4u `a`, read at once. */
export function readEight(format: 'f32' | HalfFormat): string {
  const read =
    format === 'f32'
      ? 'return Eight(a[2u * i], a[2u * i + 1u]);'
      : `let v = a[i];
  let low = vec4u(v.x & 0xffffu, v.x >> 16u, v.y & 0xffffu, v.y >> 16u);
  let high = vec4u(v.z & 0xffffu, v.z >> 16u, v.w & 0xffffu, v.w >> 16u);
  return Eight(widen_four(low), widen_four(high));`;
  return `${format === 'f32' ? '' : WIDEN_FOUR[format]}
struct Eight { low: vec4u, high: vec4u }
fn eight(i: u32) -> Eight {
  ${read}
}`;
}

/** As `widen_bits`, of four, without branches. */
export const WIDEN_FOUR: Record<HalfFormat, string> = {
  bf16: 'fn widen_four(h: vec4u) -> vec4u { return h << vec4u(16u); }',
  // A subnormal number's bits read as (1 + fraction) 2^-15, exactly; infinity's exponent is not the sum.
  f16: `
fn widen_four(h: vec4u) -> vec4u {
  let size = (h & vec4u(0x7fffu)) << vec4u(13u);
  let normal = size + vec4u(0x38000000u);
  let tiny = bitcast<vec4u>(fma(bitcast<vec4f>(normal), vec4f(2.0), vec4f(-0x1p-14f)));
  let finite = select(normal, tiny, size < vec4u(0x800000u));
  let all = select(finite, size + vec4u(0x70000000u), size >= vec4u(0xf800000u));
  return ((h & vec4u(0x8000u)) << vec4u(16u)) | all;
}`,
};

export const F16_BITS = `
fn widen_bits(h: u32) -> u32 {
  let sign = (h & 0x8000u) << 16u;
  let exponent = (h >> 10u) & 31u;
  let fraction = h & 0x3ffu;
  if (exponent == 0u) {
    // 0 or a subnormal number: fraction * 2^-24 is a normal float32, except that -0 must keep its sign.
    return sign | bitcast<u32>(f32(fraction) * 0x1p-24f);
  }
  if (exponent == 31u) { return sign | 0x7f800000u | (fraction << 13u); }
  return sign | ((exponent + 112u) << 23u) | (fraction << 13u);
}`;
