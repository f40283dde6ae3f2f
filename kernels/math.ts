/**
 * Scalar mathematics that WGSL lacks or specifies too loosely, as vec4f functions.
 *
 * WGSL lets a compiler assume that neither NaN nor infinity occurs. Sums, products and exp hand a NaN on wherever it comes
 * from; min, max, clamp, sign and comparisons lose it, on one driver or another. So whatever chooses between numbers asks
 * their bits, which no compiler may assume anything of.
 *
 * Phi is the standard normal distribution function, written through erfc so that its relative accuracy holds in the
 * lower tail, where most post-GELU values of BERT live: 1 + erf(x) would cancel there. erfc is the Chebyshev fit
 * `erfcc` of Numerical Recipes (Press et al., section 6.2; relative error below 1.2e-7), whose argument of exp is split
 * (Dekker-free: z rounded to 12 bits, so that its square is exact) to keep the error of exp(-z^2) at one rounding.
 */

/** WGSL type of the bits of a float. */
const BITS = { f32: 'u32', vec4f: 'vec4u' } as const;
const SIZE = '0x7fffffffu';
const INFINITY = '0x7f800000u';

const isNan = (element: 'f32' | 'vec4f'): string => {
  const u = BITS[element];
  return `
fn is_nan(x: ${element}) -> ${element === 'f32' ? 'bool' : 'vec4<bool>'} { return (bitcast<${u}>(x) & ${u}(${SIZE})) > ${u}(${INFINITY}); }
`;
};
/** `is_nan(x)`, of each of four. */
export const IS_NAN: string = isNan('vec4f');

/**
 * Float32 in the order of unsigned integers, from the bits of a number: `order(bits)` rises from -infinity over -0, 0 and
 * infinity to NaN, which is above all, and `from_order` turns it back; 0, which no number has, stands for nothing and
 * becomes -infinity. `rank(bits)` is the same order with 0 and -0 equal.
 */
export function byOrder(element: 'f32' | 'vec4f'): string {
  const u = BITS[element];
  return `
fn order(bits: ${u}) -> ${u} {
  let key = select(bits | ${u}(0x80000000u), ~bits, bits > ${u}(${SIZE}));
  return select(key, ${u}(0xffffffffu), (bits & ${u}(${SIZE})) > ${u}(${INFINITY}));
}
fn from_order(key: ${u}) -> ${u} {
  let bits = select(~key, key & ${u}(${SIZE}), key > ${u}(${SIZE}));
  let number = select(bits, ${u}(0x7fc00000u), key == ${u}(0xffffffffu));
  return select(number, ${u}(0xff800000u), key == ${u}(0u));
}
fn rank(bits: ${u}) -> ${u} { return max(order(bits), select(${u}(0u), ${u}(0x80000000u), bits == ${u}(0x80000000u))); }
`;
}

/** log(1 + f) for |f / (2 + f)| <= 1/4, given that quotient: the series of 2 artanh. */
export const LOG1P_SERIES = (t: string, u: string): string =>
  `2.0 * ${t} * (1.0 + ${u} * (0.33333333333 + ${u} * (0.2 + ${u} * (0.14285714286 + ${u} * (0.11111111111
    + ${u} * (0.090909090909 + ${u} * (0.076923076923 + ${u} * 0.066666666667)))))))`;

/**
 * Near 1 the series of log(1 + (x - 1)), where WGSL allows an error of 5e-7 however small the logarithm is. Subnormal numbers,
 * which drivers may flush, are taken as 2^-149 times an integer.
 */
export const LOGARITHM = `
fn log4(x: vec4f) -> vec4f {
  let bits = bitcast<vec4u>(x);
  let tiny = bits < vec4u(0x00800000u);
  let f = x - 1.0;
  let t = f / (2.0 + f);
  let u = t * t;
  let near = ${LOG1P_SERIES('t', 'u')};
  let far = log(select(x, vec4f(bits), tiny)) - select(vec4f(0.0), vec4f(103.27892990), tiny);
  let y = select(far, near, (x > vec4f(0.6)) & (x < vec4f(1.65)));
  let size = bits & vec4u(${SIZE});
  let outside = select(bits | vec4u(0x7fc00000u), vec4u(0xff800000u), size == vec4u(0u));
  let special = select(bits, outside, (bits > vec4u(${SIZE})) | (size == vec4u(0u)));
  return select(y, bitcast<vec4f>(special), bits - vec4u(1u) >= vec4u(${INFINITY}) - vec4u(1u));
}
`;

/** -1, 0 or 1; NaN of NaN. */
export const SIGN = `
fn sign4(x: vec4f) -> vec4f {
  let bits = bitcast<vec4u>(x);
  let size = bits & vec4u(${SIZE});
  let one = bitcast<vec4f>((bits & vec4u(0x80000000u)) | vec4u(0x3f800000u));
  return select(select(one, vec4f(0.0), size == vec4u(0u)), x, size > vec4u(${INFINITY}));
}
`;

/** The upper half of a product of two integers. */
export const HIGH_PRODUCT = `
fn high_product(a: u32, b: u32) -> u32 {
  let low = (a & 0xffffu) * (b & 0xffffu);
  let left = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
  let right = (a & 0xffffu) * (b >> 16u) + (left & 0xffffu);
  return (a >> 16u) * (b >> 16u) + (left >> 16u) + (right >> 16u);
}
`;

/** Sine and cosine within an eighth of a turn, of radians: the polynomials of Cephes (Moshier), sinf and cosf. */
export const TURN_POLYNOMIALS = `
fn sine(r: f32) -> f32 {
  let z = r * r;
  return r + r * z * (-0.16666654611 + z * (0.0083321608736 + z * -0.00019515295891));
}
fn cosine(r: f32) -> f32 {
  let z = r * r;
  return 1.0 - 0.5 * z + z * z * (0.041666645683 + z * (-0.0013887316255 + z * 0.000024433157118));
}
`;

/**
 * Sine and cosine of any float32, where WGSL promises 5e-4 between -pi and pi and nothing beyond. From pi/4 on the argument is
 * reduced as Payne & Hanek (1983) do: of x = w 2^(e - 158) times 2/pi only the 96 bits of 2/pi matter that w brings next to the
 * point.
 */
export const TRIGONOMETRY = `
const TWO_OVER_PI = array<u32, 9>(0u, 0u, 0xa2f9836eu, 0x4e441529u, 0xfc2757d1u, 0xf534ddc0u, 0xdb629599u, 0x3c439041u, 0xfe5163abu);
${HIGH_PRODUCT}
// Quarter turns of a number from pi/4 on, modulo 4, and what is left over, within +-pi/4.
struct Turn { quarters: u32, rest: f32 }
fn turn(bits: u32) -> Turn {
  let w = (bits << 8u) | 0x80000000u;
  var table = TWO_OVER_PI;
  let place = (bits >> 23u) - 96u;
  let i = place >> 5u;
  let s = place & 31u;
  // Shifted by 31 - s and once more: a shift by 32 is none.
  let h = (table[i] << s) | ((table[i + 1u] >> (31u - s)) >> 1u);
  let m = (table[i + 1u] << s) | ((table[i + 2u] >> (31u - s)) >> 1u);
  let l = (table[i + 2u] << s) | ((table[i + 3u] >> (31u - s)) >> 1u);
  let mid = w * m + high_product(w, l);
  let top = w * h + high_product(w, m) + select(0u, 1u, mid < w * m);
  // Two bits of quarters, then the fraction; from a half on it counts from the next quarter, backwards.
  let back = (top & 0x20000000u) != 0u;
  let below = select(mid, ~mid + 1u, back);
  let above = select(top, ~top + select(0u, 1u, mid == 0u), back) & 0x3fffffffu;
  let rest = (f32(above) * 0x1p-30f + f32(below) * 0x1p-62f) * 1.5707963268;
  return Turn((top >> 30u) + select(0u, 1u, back), select(rest, -rest, back));
}
${TURN_POLYNOMIALS}
fn trigonometric(x: f32, quarters: u32) -> f32 {
  let bits = bitcast<u32>(x);
  let size = bits & ${SIZE};
  if (size >= ${INFINITY}) { return bitcast<f32>(bits | 0x7fc00000u); }
  var t = Turn(0u, bitcast<f32>(size));
  if (size >= 0x3f490fdbu) { t = turn(size); }
  let q = t.quarters + quarters;
  let y = select(sine(t.rest), cosine(t.rest), (q & 1u) == 1u);
  let turned = ((q & 2u) != 0u) != (quarters == 0u && bits != size);
  return select(y, -y, turned);
}
fn sin4(x: vec4f) -> vec4f {
  return vec4f(trigonometric(x.x, 0u), trigonometric(x.y, 0u), trigonometric(x.z, 0u), trigonometric(x.w, 0u));
}
fn cos4(x: vec4f) -> vec4f {
  return vec4f(trigonometric(x.x, 1u), trigonometric(x.y, 1u), trigonometric(x.z, 1u), trigonometric(x.w, 1u));
}
`;

export const NORMAL_DISTRIBUTION = `
fn erfc_positive(z: vec4f) -> vec4f {
  let t = 1.0 / (1.0 + 0.5 * z);
  let poly = -1.26551223 + t * (1.00002368 + t * (0.37409196 + t * (0.09678418 + t * (-0.18628806
    + t * (0.27886807 + t * (-1.13520398 + t * (1.48851587 + t * (-0.82215223 + t * 0.17087277))))))));
  let head = bitcast<vec4f>(bitcast<vec4u>(z) & vec4u(0xfffff000u));
  let tail = (z - head) * (z + head);
  return t * exp(-head * head) * exp(poly - tail);
}
// erf near zero from its Taylor series, where 1 - erfc would lose relative accuracy.
fn erf_small(x: vec4f) -> vec4f {
  let s = x * x;
  return x * 1.1283791671 * (1.0 + s * (-0.33333333333 + s * (0.1 + s * (-0.023809523810
    + s * (0.0046296296296 + s * (-0.00075757575758 + s * (0.00010683760684 + s * -0.000013227513228)))))));
}
fn erf4(x: vec4f) -> vec4f {
  let z = min(abs(x), vec4f(9.0));
  return select(sign(x) * (1.0 - erfc_positive(z)), erf_small(x), z < vec4f(0.75));
}
// Beyond 11 the tail is 0 in float32, also times the largest x.
fn phi_cdf(x: vec4f) -> vec4f {
  let z = min(abs(x) * 0.70710678119, vec4f(11.0));
  let q = 0.5 * erfc_positive(z);
  let tails = select(1.0 - q, q, x < vec4f(0.0));
  return select(tails, 0.5 + 0.5 * erf_small(x * 0.70710678119), z < vec4f(0.75));
}
fn phi_density(x: vec4f) -> vec4f {
  return 0.3989422804 * exp(-0.5 * x * x);
}
`;

/**
 * `tanh_(x)`: tanh, whose built-in is right in absolute terms only, and overflows on some drivers. Up to 5/8 the polynomial of Cephes
 * (Moshier, tanhf), which keeps every digit of a small x; beyond, 1 - 2 / (e^2x + 1), which is 1 in float32 from 15 on.
 * `sech2(x)`: its derivative, of which 1 - tanh² would leave nothing in the tails.
 */
export const hyperbolic = (element: 'f32' | 'vec4f'): string => `
${isNan(element)}
fn tanh_(x: ${element}) -> ${element} {
  let z = min(abs(x), ${element}(15.0));
  let s = z * z;
  let near = x + x * s * (-0.333332819422 + s * (0.133314422036 + s * (-0.0537397155531
    + s * (0.0206390887954 + s * -0.00570498872745))));
  let far = 1.0 - 2.0 / (exp(2.0 * z) + 1.0);
  return select(select(select(far, -far, x < ${element}(0.0)), near, z < ${element}(0.625)), x, is_nan(x));
}
fn sech2(x: ${element}) -> ${element} {
  let e = exp(-2.0 * abs(x));
  return 4.0 * e / ((1.0 + e) * (1.0 + e));
}
`;

/** Logistic function from exp of a non-positive number, so that nothing overflows. */
export const LOGISTIC = `
fn sigmoid4(x: vec4f) -> vec4f {
  let e = exp(-abs(x));
  return select(e, vec4f(1.0), x >= vec4f(0.0)) / (1.0 + e);
}
`;

/** exp(x) - 1 without cancellation: Taylor below 1/2, where ten terms leave 1e-10. */
export const EXPM1 = `
fn expm1_(x: f32) -> f32 {
  let near = x * (1.0 + x * (0.5 + x * (0.16666666667 + x * (0.041666666667 + x * (0.0083333333333
    + x * (0.0013888888889 + x * (0.00019841269841 + x * (0.000024801587302 + x * 0.0000027557319224))))))));
  return select(exp(x) - 1.0, near, abs(x) <= 0.5);
}
`;

/** logistic(v) - logistic(u), v = u + e, without cancellation: logistic(v) logistic(-u) (1 - e^-e). Beside {@link LOGISTIC}. */
export const LOGISTIC_STEP = `
${EXPM1}
fn logistic_step(u: vec4f, v: vec4f, e: vec4f) -> vec4f {
  let size = -abs(e);
  let less = vec4f(expm1_(size.x), expm1_(size.y), expm1_(size.z), expm1_(size.w));
  let low = select(v, u, e >= vec4f(0.0));
  let high = select(u, v, e >= vec4f(0.0));
  return -sign(e) * less * sigmoid4(high) * sigmoid4(-low);
}`;

/** log(1 + f) for f > -1: the series of 2 artanh near 0. */
export const LOG1P = `
fn log1p_(f: f32) -> f32 {
  let t = f / (2.0 + f);
  let u = t * t;
  let near = ${LOG1P_SERIES('t', 'u')};
  return select(log(1.0 + f), near, abs(t) <= 0.25);
}
`;

/** log(1 + x) of four, with {@link LOGARITHM}: near 0 by its series, so that a small x keeps its digits. */
export const LOG1P4 = `
${LOGARITHM}
fn log1p4(x: vec4f) -> vec4f {
  let t = x / (2.0 + x);
  let u = t * t;
  let near = ${LOG1P_SERIES('t', 'u')};
  return select(log4(1.0 + x), near, (x > vec4f(-0.4)) & (x < vec4f(0.65)));
}
`;

/**
 * `power(u, v)`: u^v. Whole exponents below 32 by repeated squaring, which is exact where the result is; others as e^(v log |u|), whose
 * error grows with that exponent: 2 + 3 |v log |u|| float32 steps. What is special is so as IEEE 754 has it (pow).
 */
export const power = (element: 'f32' | 'vec4f'): string => {
  const u = BITS[element];
  const logarithm = element === 'f32' ? 'log4(vec4f(b)).x' : 'log4(b)';
  return `
${LOGARITHM}
fn power(u: ${element}, v: ${element}) -> ${element} {
  let ubits = bitcast<${u}>(u);
  let vbits = bitcast<${u}>(v);
  let usize = ubits & ${u}(${SIZE});
  let vsize = vbits & ${u}(${SIZE});
  let down = vbits > ${u}(0x80000000u);
  let b = bitcast<${element}>(usize);
  let n = bitcast<${element}>(vsize);
  let count = ${u}(min(n, ${element}(16777216.0)));
  let whole = (vsize >= ${u}(0x4b000000u)) | (${element}(count) == n);
  let odd = whole & (vsize < ${u}(0x4b800000u)) & ((count & ${u}(1u)) == ${u}(1u));
  var product = ${element}(1.0);
  var squared = b;
  for (var i = 0u; i < 5u; i++) {
    product = select(product, product * squared, ((count >> ${u}(i)) & ${u}(1u)) == ${u}(1u));
    squared *= squared;
  }
  product = select(product, 1.0 / product, down);
  let general = exp(v * ${logarithm});
  let infinite = ${u}(${INFINITY});
  var bits = bitcast<${u}>(select(general, product, whole & (vsize < ${u}(0x42000000u))));
  // Past every number, or to 0: where 0, an infinity or a larger exponent than can matter is involved.
  let above = usize > ${u}(0x3f800000u);
  bits = select(bits, select(${u}(0u), infinite, above != down), (vsize == infinite) | (usize == infinite) | (usize == ${u}(0u)));
  bits = select(bits, ${u}(0x3f800000u), (vsize == ${u}(0u)) | (usize == ${u}(0x3f800000u)));
  let below = (ubits > ${u}(${SIZE}));
  bits = select(bits, bits | ${u}(0x80000000u), below & odd & (vsize != ${u}(0u)));
  let none = (below & !whole & (usize != ${u}(0u)) & (usize < infinite)) | (vsize > infinite) | (usize > infinite);
  bits = select(bits, ${u}(0x7fc00000u), none & (vsize != ${u}(0u)) & (ubits != ${u}(0x3f800000u)));
  return bitcast<${element}>(bits);
}
`;
};
