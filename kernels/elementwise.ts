/**
 * Elementwise kernels: one value in, one out, four at a time where the layout allows.
 *
 * Unary functions read two scalars `p.s` and `p.t` so that x * s + t and its relatives need no constant tensors. Binary
 * functions come in three layouts: both operands alike; one of them repeated along the leading axes (a bias); and general
 * strides over at most four axes, scalar by scalar.
 */

import { ACTIVATION_NAMES, ACTIVATIONS, type ActivationName, activationValue } from './activation.ts';
import { type Kernel, LINEAR_GROUP, LINEAR_INDEX } from './kernel.ts';
import {
  byOrder,
  EXPM1,
  hyperbolic,
  IS_NAN,
  LOG1P4,
  LOGARITHM,
  LOGISTIC,
  NORMAL_DISTRIBUTION,
  power,
  SIGN,
  TRIGONOMETRY,
} from './math.ts';
import { shipped } from './shipped.ts';
import { takes, word } from './variant.ts';

/** Expressions in `x: vec4f`, `p.s`, `p.t`. */
const UNARY = {
  affine: 'x * p.s + p.t',
  /** s / x + t */
  reciprocal: 'p.s / x + p.t',
  exp: 'exp(x)',
  log: 'log4(x)',
  sqrt: 'sqrt(x)',
  rsqrt: 'inverseSqrt(x)',
  abs: 'abs(x)',
  sign: 'sign4(x)',
  sin: 'sin4(x)',
  cos: 'cos4(x)',
  tanh: 'tanh_(x)',
  /** t tanh(s x) */
  softcap: 'p.t * tanh_(p.s * x)',
  /** t sech²(s x) */
  softcap_derivative: 'p.t * sech2(p.s * x)',
  erf: 'select(erf4(x), x, is_nan(x))',
  sigmoid: 'sigmoid4(x)',
  copy: 'x',
  log1p: 'log1p4(x)',
  expm1: 'vec4f(expm1_(x.x), expm1_(x.y), expm1_(x.z), expm1_(x.w))',
  /** log(1 + e^x) = max(x, 0) + log(1 + e^-|x|); a NaN is in the second. */
  softplus: 'select(vec4f(0.0), x, positive(x)) + log1p4(exp(-abs(x)))',
  /** x^s */
  power: 'power(x, vec4f(p.s))',
  /** Between s and t; NaN of NaN. */
  clamp:
    'select(bitcast<vec4f>(from_order(min(max(order(bitcast<vec4u>(x)), order(bitcast<vec4u>(vec4f(p.s)))), order(bitcast<vec4u>(vec4f(p.t)))))), x, is_nan(x))',
  /** 1 where s <= x <= t, else 0. */
  within:
    'select(vec4f(0.0), vec4f(1.0), (rank(bitcast<vec4u>(x)) >= rank(bitcast<vec4u>(vec4f(p.s)))) & (rank(bitcast<vec4u>(x)) <= rank(bitcast<vec4u>(vec4f(p.t)))))',
  /** s x below 0, else x. */
  leaky: 'select(x, x * p.s, bitcast<vec4u>(x) > vec4u(0x80000000u))',
  /** t above 0, else s. */
  step: 'select(vec4f(p.s), vec4f(p.t), positive(x))',
  floor: 'select(floor(x), x, is_whole(x))',
  ceil: 'select(ceil(x), x, is_whole(x))',
  /** Halves to even. */
  round: 'select(round(x), x, is_whole(x))',
  is_nan: 'select(vec4f(0.0), vec4f(1.0), is_nan(x))',
  is_finite: 'select(vec4f(0.0), vec4f(1.0), (bitcast<vec4u>(x) & vec4u(0x7fffffffu)) < vec4u(0x7f800000u))',
} as const;
type PlainName = keyof typeof UNARY;
export type UnaryName = PlainName | ActivationName | `${ActivationName}_derivative`;
const UNARY_NAMES: readonly UnaryName[] = [
  ...(Object.keys(UNARY) as PlainName[]),
  ...ACTIVATION_NAMES.flatMap((act) => [act, `${act}_derivative`] as const),
];

/** By bits, as a NaN may not be lost: numbers above 0; and from 2^23 on, where all are whole, infinities and NaN too. */
const POSITIVE =
  'fn positive(x: vec4f) -> vec4<bool> { return bitcast<vec4u>(x) - vec4u(1u) < vec4u(0x7f800000u); }';
const IS_WHOLE =
  'fn is_whole(x: vec4f) -> vec4<bool> { return (bitcast<vec4u>(x) & vec4u(0x7fffffffu)) >= vec4u(0x4b000000u); }';

const UNARY_HELPERS: Partial<Record<PlainName, string>> = {
  log: LOGARITHM,
  sign: SIGN,
  sin: TRIGONOMETRY,
  cos: TRIGONOMETRY,
  tanh: hyperbolic('vec4f'),
  softcap: hyperbolic('vec4f'),
  softcap_derivative: hyperbolic('vec4f'),
  erf: IS_NAN + NORMAL_DISTRIBUTION,
  sigmoid: LOGISTIC,
  log1p: LOG1P4,
  expm1: EXPM1,
  softplus: POSITIVE + LOG1P4,
  power: power('vec4f'),
  clamp: IS_NAN + byOrder('vec4f'),
  within: byOrder('vec4f'),
  step: POSITIVE,
  floor: IS_WHOLE,
  ceil: IS_WHOLE,
  round: IS_WHOLE,
  is_nan: IS_NAN,
};

/** Helpers and expression of a unary function. */
function unaryText(name: UnaryName): readonly [helpers: string, expression: string] {
  const act = ACTIVATION_NAMES.find((each) => name === each || name === `${each}_derivative`);
  if (!act) return [UNARY_HELPERS[name as PlainName] ?? '', UNARY[name as PlainName]];
  const { declarations, derivative } = ACTIVATIONS[act].text;
  return [declarations, name === act ? activationValue(act) : derivative];
}

/** y = f(x) over `n` contiguous elements. Grid: linear over n / 4. */
export const unary = shipped(makeUnary, takes('unary', ['name', word(UNARY_NAMES)]));

function makeUnary(name: UnaryName): Kernel {
  const [helpers, expression] = unaryText(name);
  return {
    name: `unary.${name}`,
    bindings: [
      { name: 'a', element: 'vec4f', access: 'read' },
      { name: 'y', element: 'vec4f', access: 'read_write' },
    ],
    params: { n: 'u32', s: 'f32', t: 'f32' },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
${helpers}
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let i = ${LINEAR_INDEX};
  if (i * 4u >= p.n) { return; }
  let x = a[i];
  y[i] = ${expression};
}`,
  };
}

/**
 * Expressions in `u` and `v` (both vec4f or both f32, of type T; their bits of type U). What compares goes by the order of bits
 * (math.ts), in which NaN is above all.
 */
const BINARY = {
  add: 'u + v',
  sub: 'u - v',
  mul: 'u * v',
  div: 'u / v',
  /** NaN where either is. */
  maximum: 'bitcast<T>(from_order(max(order(bitcast<U>(u)), order(bitcast<U>(v)))))',
  minimum: '-bitcast<T>(from_order(max(order(bitcast<U>(-u)), order(bitcast<U>(-v)))))',
  /** 1 where u > v, else 0, also beside a NaN. */
  greater:
    'select(T(0.0), T(1.0), (rank(bitcast<U>(u)) > rank(bitcast<U>(v))) & (rank(bitcast<U>(u)) != U(0xffffffffu)))',
  greater_equal:
    'select(T(0.0), T(1.0), (rank(bitcast<U>(u)) >= rank(bitcast<U>(v))) & (rank(bitcast<U>(u)) != U(0xffffffffu)))',
  equal:
    'select(T(0.0), T(1.0), (rank(bitcast<U>(u)) == rank(bitcast<U>(v))) & (rank(bitcast<U>(u)) != U(0xffffffffu)))',
  /** The same where a NaN is above every number and equal to another: what `maximum` and `max` chose. */
  above: 'select(T(0.0), T(1.0), rank(bitcast<U>(u)) > rank(bitcast<U>(v)))',
  same: 'select(T(0.0), T(1.0), rank(bitcast<U>(u)) == rank(bitcast<U>(v)))',
  /** u^v */
  power: 'power(u, v)',
} as const;
export type BinaryName = keyof typeof BINARY;
const BINARY_NAMES = Object.keys(BINARY) as BinaryName[];
const ORDERED: ReadonlySet<BinaryName> = new Set([
  'maximum',
  'minimum',
  'greater',
  'greater_equal',
  'equal',
  'above',
  'same',
]);

/** The same of integers without sign, modulo 2^32; what compares gives float32. */
const INTEGER_BINARY = {
  add: 'u + v',
  sub: 'u - v',
  mul: 'u * v',
  maximum: 'max(u, v)',
  minimum: 'min(u, v)',
  greater: 'select(R(0.0), R(1.0), u > v)',
  greater_equal: 'select(R(0.0), R(1.0), u >= v)',
  equal: 'select(R(0.0), R(1.0), u == v)',
} as const;
export type IntegerBinaryName = keyof typeof INTEGER_BINARY;
const INTEGER_BINARY_NAMES = Object.keys(INTEGER_BINARY) as IntegerBinaryName[];
/** Whether there is such a function of integers. */
export const takesIntegers = (name: string): name is IntegerBinaryName => Object.hasOwn(INTEGER_BINARY, name);
/** Whether its result is one of integers, too. */
export const givesIntegers = (name: IntegerBinaryName): boolean => !INTEGER_BINARY[name].includes('R');

const LAYOUTS = ['same', 'repeatA', 'repeatB', 'scalarA', 'scalarB', 'strided'] as const;
/** `same`: equal shapes. `repeatB`, `repeatA`: that operand of `m` elements repeats (m a multiple of 4, or 1). `strided`: any broadcast. */
export type BinaryLayout = (typeof LAYOUTS)[number];

/** y = f(a, b). Grid: linear over n / 4, or over n for `strided`. */
export const binary = shipped(
  makeBinary,
  takes('binary', ['name', word(BINARY_NAMES)], ['layout', word(LAYOUTS)]),
);

function makeBinary(name: BinaryName, layout: BinaryLayout): Kernel {
  const element = layout === 'strided' ? 'f32' : 'vec4f';
  const bits = layout === 'strided' ? 'u32' : 'vec4u';
  const ordered = ORDERED.has(name) ? `\nalias U = ${bits};\n${byOrder(element)}` : '';
  return pairs(`binary.${name}.${layout}`, layout, ['f32', 'vec4f'], ['f32', 'vec4f'], {
    declarations: name === 'power' ? power(element) : `alias T = ${element};${ordered}`,
    expression: BINARY[name],
  });
}

/** As {@link binary}, of integers. */
export const integerBinary = shipped(
  makeIntegerBinary,
  takes('integerBinary', ['name', word(INTEGER_BINARY_NAMES)], ['layout', word(LAYOUTS)]),
);

function makeIntegerBinary(name: IntegerBinaryName, layout: BinaryLayout): Kernel {
  const gives = givesIntegers(name) ? (['u32', 'vec4u'] as const) : (['f32', 'vec4f'] as const);
  return pairs(`binary.u32.${name}.${layout}`, layout, ['u32', 'vec4u'], gives, {
    declarations: `alias R = ${gives[layout === 'strided' ? 0 : 1]};`,
    expression: INTEGER_BINARY[name],
  });
}

/** The kernel of a function of two operands of a type, alone and in fours. */
function pairs(
  name: string,
  layout: BinaryLayout,
  [one, four]: readonly [string, string],
  gives: readonly [string, string],
  { declarations, expression }: { readonly declarations: string; readonly expression: string },
): Kernel {
  const strided = layout === 'strided';
  const scalar = { scalarA: 'a', scalarB: 'b' }[layout as string];
  const element = strided ? one : four;
  const held = (operand: 'a' | 'b'): string => (scalar === operand ? one : element);
  const index = { same: ['i', 'i'], repeatA: ['i % (p.m / 4u)', 'i'], repeatB: ['i', 'i % (p.m / 4u)'] }[
    layout as 'same'
  ];
  const load = strided
    ? `
  let i0 = i / p.d1; let i1 = i % p.d1;
  let i00 = i0 / p.d2; let i2 = i0 % p.d2;
  let i4 = i00 / p.d3; let i3 = i00 % p.d3;
  let u = a[i4 * p.a0 + i3 * p.a1 + i2 * p.a2 + i1 * p.a3];
  let v = b[i4 * p.b0 + i3 * p.b1 + i2 * p.b2 + i1 * p.b3];`
    : scalar !== undefined
      ? `
  let u = ${scalar === 'a' ? `${four}(a[0])` : 'a[i]'};
  let v = ${scalar === 'b' ? `${four}(b[0])` : 'b[i]'};`
      : `
  let u = a[${index[0]}];
  let v = b[${index[1]}];`;
  return {
    name,
    bindings: [
      { name: 'a', element: held('a'), access: 'read' },
      { name: 'b', element: held('b'), access: 'read' },
      { name: 'y', element: gives[strided ? 0 : 1], access: 'read_write' },
    ],
    params: strided
      ? {
          n: 'u32',
          d1: 'u32',
          d2: 'u32',
          d3: 'u32',
          a0: 'u32',
          a1: 'u32',
          a2: 'u32',
          a3: 'u32',
          b0: 'u32',
          b1: 'u32',
          b2: 'u32',
          b3: 'u32',
        }
      : { n: 'u32', m: 'u32' },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
${declarations}
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let i = ${LINEAR_INDEX};
  if (i${strided ? '' : ' * 4u'} >= p.n) { return; }${load}
  y[i] = ${expression};
}`,
  };
}

/** Integers to the nearest float32, or float32 cut off to integers from 0 on (0 of NaN). Grid: linear over n. */
export const castIntegers = shipped(
  (to: 'f32' | 'u32'): Kernel => ({
    name: `cast.${to}`,
    bindings: [
      { name: 'a', element: to === 'f32' ? 'u32' : 'f32', access: 'read' },
      { name: 'y', element: to, access: 'read_write' },
    ],
    params: { n: 'u32' },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let i = ${LINEAR_INDEX};
  if (i >= p.n) { return; }
  ${
    to === 'f32'
      ? 'y[i] = f32(a[i]);'
      : `let bits = bitcast<u32>(a[i]);
  y[i] = select(u32(clamp(a[i], 0.0, 4294967040.0)), select(0u, 0xffffff00u, bits == 0x7f800000u), (bits & 0x7fffffffu) >= 0x7f800000u);`
  }
}`,
  }),
  takes('castIntegers', ['to', word(['f32', 'u32'])]),
);

/** y = c != 0 ? a : b over `n` contiguous elements, whose bits it copies. Grid: linear over n / 4. */
export const select = shipped((): Kernel => {
  return {
    name: 'select',
    bindings: [
      { name: 'c', element: 'vec4u', access: 'read' },
      { name: 'a', element: 'vec4u', access: 'read' },
      { name: 'b', element: 'vec4u', access: 'read' },
      { name: 'y', element: 'vec4u', access: 'read_write' },
    ],
    params: { n: 'u32' },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let i = ${LINEAR_INDEX};
  if (i * 4u >= p.n) { return; }
  y[i] = select(b[i], a[i], (c[i] & vec4u(0x7fffffffu)) != vec4u());
}`,
  };
}, takes('select'));

/** y = value everywhere, `n` elements. Grid: linear over n / 4. */
export const fill = shipped((): Kernel => {
  return {
    name: 'fill',
    bindings: [{ name: 'y', element: 'vec4f', access: 'read_write' }],
    params: { n: 'u32', value: 'f32' },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let i = ${LINEAR_INDEX};
  if (i * 4u >= p.n) { return; }
  y[i] = vec4f(p.value);
}`,
  };
}, takes('fill'));
