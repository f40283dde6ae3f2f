/**
 * Random numbers by counter: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"). Elements 4 i ... 4 i + 3
 * are made of the four words of counter (i, 0, call, 0) under the key that is the seed, so that each is the same wherever and in whatever order it is made.
 *
 * Words become numbers by integer arithmetic and float operations that WGSL has exact or rounded once; normal numbers (Box & Muller
 * 1958) by polynomials of Cephes (Moshier, logf, sinf and cosf) and a square root that is improved once, since built-in functions differ between drivers.
 */

import { type Kernel, LINEAR_GROUP, LINEAR_INDEX } from './kernel.ts';
import { HIGH_PRODUCT, TURN_POLYNOMIALS } from './math.ts';
import { shipped } from './shipped.ts';
import { takes, word } from './variant.ts';

const PHILOX = `
${HIGH_PRODUCT}
fn philox(counter: vec4u, seed: vec2u) -> vec4u {
  var c = counter;
  var k = seed;
  for (var round = 0u; round < 10u; round++) {
    let high = vec2u(high_product(0xd2511f53u, c.x), high_product(0xcd9e8d57u, c.z));
    c = vec4u(high.y ^ c.y ^ k.x, 0xcd9e8d57u * c.z, high.x ^ c.w ^ k.y, 0xd2511f53u * c.x);
    k += vec2u(0x9e3779b9u, 0xbb67ae85u);
  }
  return c;
}
`;

/** In [0, 1), multiples of 2^-24. */
const UNIT = 'vec4f(words >> vec4u(8u)) * 0x1p-24f';
/** A product that no compiler joins to the sum behind it: `p.zero` is 0, which it does not know. */
const ROUNDED = `
fn rounded(x: vec4f) -> vec4f { return bitcast<vec4f>(bitcast<vec4u>(x) ^ vec4u(p.zero)); }
`;

const NORMAL = `
${TURN_POLYNOMIALS}
// -2 log((w + 1) / 2^32), the number cut off to 24 bits.
fn twice_log(w: u32) -> f32 {
  if (w == 0xffffffffu) { return 0.0; }
  let n = w + 1u;
  let shift = countLeadingZeros(n);
  var m = f32((n << shift) >> 8u) * 0x1p-23f;
  var e = -f32(shift + 1u);
  if (m > 1.41421356) { m *= 0.5; e += 1.0; }
  let f = m - 1.0;
  let z = f * f;
  var y = ((((((((7.0376836292e-2 * f - 1.1514610310e-1) * f + 1.1676998740e-1) * f - 1.2420140846e-1) * f + 1.4249322787e-1) * f
    - 1.6668057665e-1) * f + 2.0000714765e-1) * f - 2.4999993993e-1) * f + 3.3333331174e-1) * f * z;
  y += e * -2.12194440e-4;
  y -= 0.5 * z;
  return -2.0 * ((f + y) + e * 0.693359375);
}
fn root(x: f32) -> f32 {
  if (x == 0.0) { return 0.0; }
  let s = sqrt(x);
  return s + (x - s * s) * (0.5 / s);
}
// Two normal numbers of two words: the radius of the first, the angle of the second.
fn pair(w: vec2u) -> vec2f {
  let radius = root(twice_log(w.x));
  // Quarter turns, and what is left over in (-1/8, 1/8] of a turn, exactly.
  let quarters = (w.y + 0x20000000u) >> 30u;
  let rest = i32(w.y - (quarters << 30u)) >> 6u;
  let r = f32(rest) * 0x1p-26f * 6.2831853072;
  let s = sine(r);
  let c = cosine(r);
  let turned = select(vec2f(c, s), vec2f(-s, c), (quarters & 1u) == 1u);
  return radius * select(turned, -turned, (quarters & 2u) == 2u);
}
`;

const DISTRIBUTIONS = {
  /** In [0, 1), multiples of 2^-24, times t plus s, each rounded. */
  uniform: [ROUNDED, `bitcast<vec4u>(rounded((${UNIT}) * p.t) + p.s)`],
  /** Mean s, standard deviation t. */
  normal: [ROUNDED + NORMAL, 'bitcast<vec4u>(rounded(vec4f(pair(words.xy), pair(words.zw)) * p.t) + p.s)'],
  /** t with probability s, else 0. */
  bernoulli: ['', `select(vec4u(0u), bitcast<vec4u>(vec4f(p.t)), ${UNIT} < vec4f(p.s))`],
  /** Integers below `below`. */
  integer: [
    '',
    'vec4u(high_product(words.x, p.below), high_product(words.y, p.below), high_product(words.z, p.below), high_product(words.w, p.below))',
  ],
} as const;
export type Distribution = keyof typeof DISTRIBUTIONS;

/**
 * y[i] of a distribution: n elements of call number `call`, from element 4 `first` on. `zero` is 0. Grid: linear over n / 4.
 */
export const random = shipped(
  makeRandom,
  takes('random', ['distribution', word(Object.keys(DISTRIBUTIONS) as Distribution[])]),
);

function makeRandom(distribution: Distribution): Kernel {
  const [declarations, expression] = DISTRIBUTIONS[distribution];
  return {
    name: `random.${distribution}`,
    bindings: [{ name: 'y', element: 'vec4u', access: 'read_write' }],
    params: {
      n: 'u32',
      seed_low: 'u32',
      seed_high: 'u32',
      call: 'u32',
      first: 'u32',
      s: 'f32',
      t: 'f32',
      below: 'u32',
      zero: 'u32',
    },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
${PHILOX}${declarations}
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let i = ${LINEAR_INDEX};
  if (i * 4u >= p.n) { return; }
  let words = philox(vec4u(p.first + i, 0u, p.call, 0u), vec2u(p.seed_low, p.seed_high));
  y[i] = ${expression};
}`,
  };
}
