/**
 * How numbers are packed into 32-bit words, one record a format. Kernels that read weights know nothing else about a format:
 * another one is another record.
 *
 * Quantised formats (docs/quantisation.md) cut a row into groups, the last one filled up; a group is one block of words.
 * Everything is integer arithmetic on u32 and products that are exact, so that any device reads the same numbers.
 */

import { F16_BITS, type HalfFormat, WIDEN_FOUR } from './copy.ts';
import { word } from './variant.ts';

/** Formats that weights are rounded to here. */
export type QuantisedFormat = 'int8' | 'int4';
/** Those of ggml, whose blocks stay as a GGUF file has them (models/gguf/blocks.ts). */
export type PackedFormat = 'q8_0' | 'q4_0' | 'q4_1' | 'q4_k' | 'q5_k' | 'q6_k';
/** Numbers by groups. */
export type GroupedFormat = QuantisedFormat | PackedFormat;
/** How a tensor of real numbers may be stored. */
export type WeightFormat = 'f32' | HalfFormat | GroupedFormat;

/** How a kernel reads them: `half` is f16 by the device's own conversion, where that is exact (halvesCheck.ts). */
export type ReadFormat = WeightFormat | 'half';

export interface Packing {
  /** Numbers of a group, a multiple of 4 that divides 256, and words of its block. */
  readonly group: number;
  readonly words: number;
  /** WGSL that `quad` needs. */
  readonly declarations: string;
  /** WGSL: the vec4f of numbers 4 q ... 4 q + 3 of a group whose words are `block(i)`; `q` and `i` are expressions of u32. */
  readonly quad: (block: (i: string) => string, q: string) => string;
}

/** Of formats that weights are rounded to here: bits of a code, and words of a group before its codes. */
export const CODES: Record<QuantisedFormat, { readonly bits: 8 | 4; readonly header: number }> = {
  int8: { bits: 8, header: 1 },
  int4: { bits: 4, header: 2 },
};

/**
 * Word of a group that holds the codes of quad `q`, a code a byte, shifted to the lowest bits: words of 4 bits hold quads q and
 * q + 4, the latter in the high halves of the bytes (the order of GGUF's q4_0 and q4_1).
 */
const codesOf = (format: QuantisedFormat, block: (i: string) => string, q: string): string => {
  const { bits, header } = CODES[format];
  return bits === 8 ? block(`${header}u + ${q}`) : `(${block(`${header}u + ${q} % 4u`)} >> (${q} / 4u * 4u))`;
};

/** WGSL: the f32 of 16 bits, by integers: subnormal numbers, infinities and NaN too. */
const HALF_TO_FLOAT = `
fn half(h: u32) -> f32 {
  let magnitude = h & 0x7fffu;
  let bits = (magnitude << 13u) + select(0x38000000u, 0x70000000u, magnitude >= 0x7c00u);
  let value = select(bits, bitcast<u32>(f32(magnitude) * 0x1p-24f), magnitude < 0x400u);
  return bitcast<f32>(value | ((h & 0x8000u) << 16u));
}`;

const NIBBLES = `
fn bytes(w: u32) -> vec4f { return vec4f((vec4u(w) >> vec4u(0u, 8u, 16u, 24u)) & vec4u(0xffu)); }`;

/** Scale and minimum of 32 numbers, of eight pairs of 6 bits in three words, as Q4_K and Q5_K have them: those from the fourth on are in two parts. */
const BY_EIGHTS = `${HALF_TO_FLOAT}${NIBBLES}
fn by_eights(d: u32, scales: u32, minima: u32, both: u32, group: u32, codes: u32) -> vec4f {
  let at = group % 4u * 8u;
  let first = group < 4u;
  let low = vec2u(both >> at, both >> (at + 4u)) & vec2u(15u);
  let pair = vec2u(scales >> at, minima >> at);
  let factors = vec2f(select(low | ((pair >> vec2u(2u)) & vec2u(48u)), pair & vec2u(63u), first));
  return fma(vec4f(half(d & 0xffffu) * factors.x), bytes(codes), vec4f(-(half(d >> 16u) * factors.y)));
}`;
const byEights = (block: (i: string) => string, q: string, codes: string): string =>
  `by_eights(${[0, 1, 2, 3].map((i) => block(`${i}u`)).join(', ')}, ${q} / 8u, ${codes})`;

export const PACKINGS: Record<ReadFormat, Packing> = {
  f32: {
    group: 4,
    words: 4,
    declarations: '',
    quad: (block) => `bitcast<vec4f>(vec4u(${[0, 1, 2, 3].map((i) => block(`${i}u`)).join(', ')}))`,
  },
  f16: {
    group: 4,
    words: 2,
    declarations: `${WIDEN_FOUR.f16}
fn widen4(w: vec2u) -> vec4f {
  return bitcast<vec4f>(widen_four(vec4u(w.x & 0xffffu, w.x >> 16u, w.y & 0xffffu, w.y >> 16u)));
}`,
    quad: (block) => `widen4(vec2u(${block('0u')}, ${block('1u')}))`,
  },
  half: {
    group: 4,
    words: 2,
    declarations: '',
    quad: (block) => `vec4f(unpack2x16float(${block('0u')}), unpack2x16float(${block('1u')}))`,
  },
  bf16: {
    group: 4,
    words: 2,
    declarations: `
fn widen4(w: vec2u) -> vec4f {
  return bitcast<vec4f>(vec4u(w.x << 16u, w.x & 0xffff0000u, w.y << 16u, w.y & 0xffff0000u));
}`,
    quad: (block) => `widen4(vec2u(${block('0u')}, ${block('1u')}))`,
  },
  int8: {
    group: 32,
    words: 9,
    declarations: `
fn scaled(scale: u32, w: u32) -> vec4f {
  return bitcast<f32>(scale) * vec4f(vec4i(vec4u(w << 24u, w << 16u, w << 8u, w)) >> vec4u(24u));
}`,
    quad: (block, q) => `scaled(${block('0u')}, ${codesOf('int8', block, q)})`,
  },
  int4: {
    group: 32,
    words: 6,
    // The product is exact, so that a device that fuses it with the addition gets the same bits as one that does not.
    declarations: `
fn above(scale: u32, minimum: u32, w: u32) -> vec4f {
  let codes = vec4f((vec4u(w & 0x0f0f0f0fu) >> vec4u(0u, 8u, 16u, 24u)) & vec4u(0xffu));
  return fma(vec4f(bitcast<f32>(scale)), codes, vec4f(bitcast<f32>(minimum)));
}`,
    quad: (block, q) => `above(${block('0u')}, ${block('1u')}, ${codesOf('int4', block, q)})`,
  },
  // A word for two scales, then the codes of both blocks as they are.
  q8_0: {
    group: 64,
    words: 17,
    declarations: `${HALF_TO_FLOAT}
fn scaled(scale: u32, w: u32) -> vec4f {
  return half(scale & 0xffffu) * vec4f(vec4i(vec4u(w << 24u, w << 16u, w << 8u, w)) >> vec4u(24u));
}`,
    quad: (block, q) => `scaled(${block('0u')} >> (${q} / 8u * 16u), ${block(`1u + ${q}`)})`,
  },
  q4_0: {
    group: 64,
    words: 9,
    declarations: `${HALF_TO_FLOAT}${NIBBLES}
fn centred(scale: u32, w: u32) -> vec4f {
  return half(scale & 0xffffu) * (bytes(w & 0x0f0f0f0fu) - vec4f(8.0));
}`,
    quad: (block, q) =>
      `centred(${block('0u')} >> (${q} / 8u * 16u), ${block(`1u + ${q} / 8u * 4u + ${q} % 4u`)} >> (${q} / 4u % 2u * 4u))`,
  },
  // The file's bytes from here on; all products are exact but for the last sum.
  q4_1: {
    group: 32,
    words: 5,
    declarations: `${HALF_TO_FLOAT}${NIBBLES}
fn above(header: u32, w: u32) -> vec4f {
  return fma(vec4f(half(header & 0xffffu)), bytes(w & 0x0f0f0f0fu), vec4f(half(header >> 16u)));
}`,
    quad: (block, q) => `above(${block('0u')}, ${block(`1u + ${q} % 4u`)} >> (${q} / 4u * 4u))`,
  },
  q4_k: {
    group: 256,
    words: 36,
    declarations: BY_EIGHTS,
    quad: (block, q) =>
      byEights(
        block,
        q,
        `(${block(`4u + ${q} / 16u * 8u + ${q} % 8u`)} >> (${q} / 8u % 2u * 4u)) & 0x0f0f0f0fu`,
      ),
  },
  q5_k: {
    group: 256,
    words: 44,
    declarations: BY_EIGHTS,
    quad: (block, q) =>
      byEights(
        block,
        q,
        `((${block(`12u + ${q} / 16u * 8u + ${q} % 8u`)} >> (${q} / 8u % 2u * 4u)) & 0x0f0f0f0fu) | (((${block(`4u + ${q} % 8u`)} >> (${q} / 8u)) & 0x01010101u) << 4u)`,
      ),
  },
  // 210 bytes of the file, filled up to whole 16-byte loads.
  q6_k: {
    group: 256,
    words: 56,
    declarations: `${HALF_TO_FLOAT}${NIBBLES}
fn by_sixteens(d: u32, scale: u32, low: u32, high: u32) -> vec4f {
  let by = half(d & 0xffffu) * f32(i32(scale << 24u) >> 24u);
  return by * (bytes((low & 0x0f0f0f0fu) | ((high & 0x03030303u) << 4u)) - vec4f(32.0));
}`,
    quad: (block, q) =>
      `by_sixteens(${block('52u')}, ${block(`48u + ${q} / 16u`)} >> (${q} / 4u % 4u * 8u), ${block(`${q} / 32u * 16u + ${q} / 8u % 2u * 8u + ${q} % 8u`)} >> (${q} / 16u % 2u * 4u), ${block(`32u + ${q} / 32u * 8u + ${q} % 8u`)} >> (${q} / 8u % 4u * 2u))`,
  },
};

export const REAL = word<'f32' | HalfFormat>(['f32', 'f16', 'bf16']);
export const QUANTISED = word<QuantisedFormat>(['int8', 'int4']);
export const PACKED_FORMATS = [
  'q8_0',
  'q4_0',
  'q4_1',
  'q4_k',
  'q5_k',
  'q6_k',
] as const satisfies PackedFormat[];
export const GROUPED = word<GroupedFormat>(['int8', 'int4', ...PACKED_FORMATS]);
export const WEIGHT_FORMATS = [
  'f32',
  'f16',
  'bf16',
  'int8',
  'int4',
  ...PACKED_FORMATS,
] as const satisfies WeightFormat[];
export const WEIGHT = word<WeightFormat>(WEIGHT_FORMATS);
export const READ = word<ReadFormat>([...WEIGHT_FORMATS, 'half']);

/** Whether numbers share a scale, so that rows stay whole. */
export const isQuantised = (format: string): format is GroupedFormat =>
  Object.hasOwn(PACKINGS, format) && PACKINGS[format as WeightFormat].group > 4;

/** Whether they are ggml's, which nothing is rounded to here. */
export const isPacked = (format: string): format is PackedFormat =>
  (PACKED_FORMATS as readonly string[]).includes(format);

/** Numbers that a row of `length` takes up: quantised rows are filled up to whole groups. */
export function storedRow(format: string, length: number): number {
  if (!isQuantised(format)) return length;
  const { group } = PACKINGS[format];
  return Math.ceil(length / group) * group;
}

/** WGSL: number `i` of the array of words `a`, in any format. */
export function readElement(format: WeightFormat): string {
  if (format === 'f32') return 'fn element(i: u32) -> f32 { return bitcast<f32>(a[i]); }';
  if (!isQuantised(format))
    return `${format === 'f16' ? F16_BITS : 'fn widen_bits(h: u32) -> u32 { return h << 16u; }'}
fn element(i: u32) -> f32 {
  return bitcast<f32>(widen_bits((a[i / 2u] >> (16u * (i & 1u))) & 0xffffu));
}`;
  const { group, words, declarations, quad } = PACKINGS[format];
  return `${declarations}
fn element(i: u32) -> f32 {
  let at = i / ${group}u * ${words}u;
  let q = i % ${group}u / 4u;
  return ${quad((word) => `a[at + ${word}]`, 'q')}[i % 4u];
}`;
}
