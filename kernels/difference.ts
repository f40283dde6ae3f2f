/**
 * Difference propagation (docs/science.md#difference-propagation): f(x + d) - f(x) in closed form, for every operation of a layer that is not linear.
 *
 * A pass carries only how much a prompt's values change, beside the cached values themselves ("base"). Nothing is
 * linearised and nothing cancels: subtracting two float32 forwards loses all digits of a small change, these forms none.
 *
 * Changed values are rows, one a token. `token` describes each by RECORD integers: where its base values lie, where it
 * stood in the layer's input, which keys of its prompt changed. Rows of prompts of any length ride one dispatch.
 */

import { ACTIVATION, type ActivationName, activationChange, activationValue } from './activation.ts';
import { GROUP_INDEX, type Kernel, LINEAR_GROUP, LINEAR_INDEX, TEXEL } from './kernel.ts';
import { EXPM1, LOG1P, LOGISTIC, LOGISTIC_STEP } from './math.ts';
import { isCentred, NORM, type Norm, normFactor } from './norm.ts';
import { panelTexel } from './panels.ts';
import { groupReduction, ROW_GROUP } from './reduce.ts';
import { shipped } from './shipped.ts';
import { SUMMED_APART } from './softmax.ts';
import { flag, optional, powerOfTwo, takes, word } from './variant.ts';

/** Integers of one token record, in order. */
export const TOKEN_FIELDS = [
  /** Row of the base values. */
  'base',
  /** Row of this token among the layer's changed inputs, NONE where it did not change. */
  'own',
  /** The same among the changed queries. */
  'query',
  /** First changed input row of this token's prompt row, and how many follow on each other. */
  'first',
  'count',
  /** Position of that first changed key, number of keys, row of key 0 in the base. */
  'keyFirst',
  'keys',
  'keyStart',
  /** Element of the base pattern where this query's heads begin. */
  'pattern',
] as const;
export const RECORD = TOKEN_FIELDS.length;
export const NONE = 0xffffffff;

const field = (name: (typeof TOKEN_FIELDS)[number], row: string): string =>
  `token[(${row}) * ${RECORD}u + ${TOKEN_FIELDS.indexOf(name)}u]`;

/** exp arguments are cut here: e^80 is as good as infinite, and sums of it stay finite. */
const LARGEST_EXPONENT = '80.0';

/**
 * y = norm(x + d) - norm(x), both times weight. With c, e the deviations of x and d and v = mean(e (2c + e)) the change of
 * the variance: e / s' - c v / (s s' (s + s')), s and s' the standard deviations before and after. A token has `parts` rows, one
 * after the other. Grid: groups, rows.
 */
export const normDifference = shipped(
  makeNormDifference,
  takes('normDifference', ['kind', NORM], ['lanes', optional(powerOfTwo)]),
);

function makeNormDifference(kind: Norm, lanes: number = ROW_GROUP): Kernel {
  const mean = (of: string): string =>
    isCentred(kind) ? `reduce_total(sum_${of}, lane) / f32(p.length)` : '0.0';
  return {
    name: `difference.norm.${kind}.${lanes}`,
    bindings: [
      { name: 'a', element: 'f32', access: 'read' },
      { name: 'token', element: 'u32', access: 'read' },
      { name: 'd', element: 'f32', access: 'read' },
      { name: 'weight', element: 'f32', access: 'read' },
      { name: 'y', element: 'f32', access: 'read_write' },
    ],
    params: { rows: 'u32', length: 'u32', parts: 'u32', eps: 'f32' },
    workgroup: [lanes, 1, 1],
    body: `
${groupReduction('total', 'u + v', lanes)}
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = ${GROUP_INDEX};
  if (row >= p.rows) { return; }
  let origin = (${field('base', 'row / p.parts')} * p.parts + row % p.parts) * p.length;
  let base = row * p.length;
  var sum_a = 0.0;
  var sum_d = 0.0;
  for (var i = lane; i < p.length; i += ${lanes}u) { sum_a += a[origin + i]; sum_d += d[base + i]; }
  let mean_a = ${mean('a')};
  let mean_d = ${mean('d')};
  var before = 0.0;
  var after = 0.0;
  var change = 0.0;
  for (var i = lane; i < p.length; i += ${lanes}u) {
    let c = a[origin + i] - mean_a;
    let e = d[base + i] - mean_d;
    before += c * c;
    after += (c + e) * (c + e);
    change += e * (2.0 * c + e);
  }
  let s = sqrt(reduce_total(before, lane) / f32(p.length) + p.eps);
  let t = sqrt(reduce_total(after, lane) / f32(p.length) + p.eps);
  let turn = reduce_total(change, lane) / f32(p.length) / (s * t * (s + t));
  for (var i = lane; i < p.length; i += ${lanes}u) {
    y[base + i] = ${normFactor(kind, 'weight[i]')} * ((d[base + i] - mean_d) / t - (a[origin + i] - mean_a) * turn);
  }
}`,
  };
}

/** Elements of a row are taken four at a time where its length allows. */
const element = (wide: boolean): string => (wide ? 'vec4f' : 'f32');

/** y = f(a + d) - f(a), f an activation. Grid: linear over n, elements or quads of them; `length` in the same unit. */
export const activationDifference = shipped(
  makeActivationDifference,
  takes('activationDifference', ['act', ACTIVATION], ['wide', flag]),
);

function makeActivationDifference(act: ActivationName, wide: boolean): Kernel {
  return {
    name: `difference.${act}${wide ? '.wide' : ''}`,
    bindings: [
      { name: 'a', element: element(wide), access: 'read' },
      { name: 'token', element: 'u32', access: 'read' },
      { name: 'd', element: element(wide), access: 'read' },
      { name: 'y', element: element(wide), access: 'read_write' },
    ],
    params: { n: 'u32', length: 'u32' },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
${activationChange(act)}
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let i = ${LINEAR_INDEX};
  if (i >= p.n) { return; }
  let x = vec4f(a[${field('base', 'i / p.length')} * p.length + i % p.length]);
  y[i] = change(x, vec4f(d[i]))${wide ? '' : '.x'};
}`,
  };
}

/** y = f(g + dg) (u + du) - f(g) u, by the product rule. Grid as {@link activationDifference}. */
export const gatedDifference = shipped(
  makeGatedDifference,
  takes('gatedDifference', ['act', ACTIVATION], ['wide', flag]),
);

function makeGatedDifference(act: ActivationName, wide: boolean): Kernel {
  return {
    name: `difference.gated.${act}${wide ? '.wide' : ''}`,
    bindings: [
      { name: 'g', element: element(wide), access: 'read' },
      { name: 'u', element: element(wide), access: 'read' },
      { name: 'token', element: 'u32', access: 'read' },
      { name: 'dg', element: element(wide), access: 'read' },
      { name: 'du', element: element(wide), access: 'read' },
      { name: 'y', element: element(wide), access: 'read_write' },
    ],
    params: { n: 'u32', length: 'u32' },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
${activationChange(act)}
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let i = ${LINEAR_INDEX};
  if (i >= p.n) { return; }
  let at = ${field('base', 'i / p.length')} * p.length + i % p.length;
  let x = vec4f(g[at]);
  let dup = vec4f(du[i]);
  let moved = change(x, vec4f(dg[i])) * (vec4f(u[at]) + dup) + ${activationValue(act)} * dup;
  y[i] = moved${wide ? '' : '.x'};
}`,
  };
}

/**
 * \`cap_change(x, d)\` for f(x) = c tanh(x / c), c the parameter \`cap\`: tanh is 2 logistic of twice its argument, less 1, and the
 * logistic's step keeps its digits also where f hardly moves.
 */
const CAP_CHANGE = `
${LOGISTIC}${LOGISTIC_STEP}
fn cap_change(x: vec4f, d: vec4f) -> vec4f {
  let u = x * (2.0 / p.cap);
  let e = d * (2.0 / p.cap);
  return 2.0 * p.cap * logistic_step(u, u + e, e);
}`;

/** y = f(a + d) - f(a) for f(x) = cap tanh(x / cap). Grid as {@link activationDifference}. */
export const capDifference = shipped(makeCapDifference, takes('capDifference', ['wide', flag]));

function makeCapDifference(wide: boolean): Kernel {
  return {
    name: `difference.cap${wide ? '.wide' : ''}`,
    bindings: [
      { name: 'a', element: element(wide), access: 'read' },
      { name: 'token', element: 'u32', access: 'read' },
      { name: 'd', element: element(wide), access: 'read' },
      { name: 'y', element: element(wide), access: 'read_write' },
    ],
    params: { n: 'u32', length: 'u32', cap: 'f32' },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
${CAP_CHANGE}
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let i = ${LINEAR_INDEX};
  if (i >= p.n) { return; }
  let x = vec4f(a[${field('base', 'i / p.length')} * p.length + i % p.length]);
  y[i] = cap_change(x, vec4f(d[i]))${wide ? '' : '.x'};
}`,
  };
}

/**
 * Adds to the changes of attention products that of changed keys, (q + dq) . dk, to y [tokens, heads, stride], which holds dq . k; key
 * head floor(h / group). `size` counts quads where wide, `changed` the most keys that changed for any token. Grid: linear over
 * tokens * heads * changed.
 */
export const keyDifference = shipped(
  makeKeyDifference,
  takes('keyDifference', ['wide', flag], ['queries', flag]),
);

/** @param queries whether any query changed. */
function makeKeyDifference(wide: boolean, queries: boolean): Kernel {
  const T = element(wide);
  return {
    name: `difference.keys${wide ? '.wide' : ''}${queries ? '' : '.still'}`,
    bindings: [
      { name: 'q', element: T, access: 'read' },
      { name: 'token', element: 'u32', access: 'read' },
      ...(queries ? ([{ name: 'dq', element: T, access: 'read' }] as const) : []),
      { name: 'dk', element: T, access: 'read' },
      { name: 'y', element: 'f32', access: 'read_write' },
    ],
    params: { n: 'u32', heads: 'u32', group: 'u32', size: 'u32', stride: 'u32', changed: 'u32' },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let i = ${LINEAR_INDEX};
  if (i >= p.n) { return; }
  let moved = i % p.changed;
  let head = i / p.changed % p.heads;
  let row = i / p.changed / p.heads;
  if (moved >= ${field('count', 'row')}) { return; }
  let left = (${field('base', 'row')} * p.heads + head) * p.size;
  let right = ((${field('first', 'row')} + moved) * (p.heads / p.group) + head / p.group) * p.size;
  var sum = ${T}(0.0);
  ${
    queries
      ? `let own = ${field('query', 'row')};
  if (own != ${NONE}u) {
    let new_left = (own * p.heads + head) * p.size;
    for (var c = 0u; c < p.size; c++) { sum = fma(q[left + c] + dq[new_left + c], dk[right + c], sum); }
  } else {
    for (var c = 0u; c < p.size; c++) { sum = fma(q[left + c], dk[right + c], sum); }
  }`
      : 'for (var c = 0u; c < p.size; c++) { sum = fma(q[left + c], dk[right + c], sum); }'
  }
  y[(row * p.heads + head) * p.stride + ${field('keyFirst', 'row')} + moved] += ${wide ? 'dot(sum, vec4f(1.0))' : 'sum'};
}`,
  };
}

/**
 * Of scores that are capped, cap tanh(scale product / cap): their changes in place over those of the products, s [tokens, heads,
 * stride]; `plain` holds the products themselves, [queries, heads, stride]. Grid: linear over n.
 */
export const cappedScoreDifference = shipped((): Kernel => {
  return {
    name: 'difference.capped_score',
    bindings: [
      { name: 'plain', element: 'f32', access: 'read' },
      { name: 'token', element: 'u32', access: 'read' },
      { name: 's', element: 'f32', access: 'read_write' },
    ],
    params: { n: 'u32', row: 'u32', stride: 'u32', scale: 'f32', cap: 'f32' },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
${CAP_CHANGE}
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let i = ${LINEAR_INDEX};
  if (i >= p.n) { return; }
  let row = i / p.row;
  if (i % p.stride >= ${field('keys', 'row')} || s[i] == 0.0) { return; }
  let product = plain[${field('base', 'row')} * p.row + i % p.row];
  s[i] = cap_change(vec4f(product * p.scale), vec4f(s[i] * p.scale)).x;
}`,
  };
}, takes('cappedScoreDifference'));

/**
 * Change of the attention probabilities, in place over s, the scores' change before their scale: with x_j = e^(s_j - s_r) - 1 and
 * E = sum p x it is p_j (x_j - E) / (1 + E). The reference r is the likeliest key, so that E is small where attention is
 * sure of one key, too. One invocation a (token, head), in order of keys. Grid: linear over n.
 */
export const patternDifference = shipped((): Kernel => {
  return {
    name: 'difference.pattern',
    bindings: [
      { name: 'pattern', element: 'f32', access: 'read' },
      { name: 'token', element: 'u32', access: 'read' },
      { name: 's', element: 'f32', access: 'read_write' },
    ],
    params: { n: 'u32', heads: 'u32', stride: 'u32', scale: 'f32' },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
${EXPM1}
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let i = ${LINEAR_INDEX};
  if (i >= p.n) { return; }
  let row = i / p.heads;
  let keys = ${field('keys', 'row')};
  let origin = ${field('pattern', 'row')} + i % p.heads * keys;
  let base = i * p.stride;
  var likeliest = 0u;
  for (var j = 1u; j < keys; j++) { if (pattern[origin + j] > pattern[origin + likeliest]) { likeliest = j; } }
  let reference = s[base + likeliest];
  var level = 0.0;
  for (var j = 0u; j < keys; j++) {
    let x = expm1_(min((s[base + j] - reference) * p.scale, ${LARGEST_EXPONENT}));
    s[base + j] = x;
    level = fma(pattern[origin + j], x, level);
  }
  for (var j = 0u; j < keys; j++) { s[base + j] = pattern[origin + j] * (s[base + j] - level) / (1.0 + level); }
}`,
  };
}, takes('patternDifference'));

/**
 * Adds to the changes of the mixed values, y [tokens, heads * size], those by changed values, sum of (p + dp) dv; it holds the sums
 * of dp v. `size` and n count quads where wide. Grid: linear over n.
 */
export const mixDifference = shipped(makeMixDifference, takes('mixDifference', ['wide', flag]));

function makeMixDifference(wide: boolean): Kernel {
  const T = element(wide);
  return {
    name: `difference.mix${wide ? '.wide' : ''}`,
    bindings: [
      { name: 'pattern', element: 'f32', access: 'read' },
      { name: 'token', element: 'u32', access: 'read' },
      { name: 'dp', element: 'f32', access: 'read' },
      { name: 'dv', element: T, access: 'read' },
      { name: 'y', element: T, access: 'read_write' },
    ],
    params: { n: 'u32', heads: 'u32', group: 'u32', size: 'u32', stride: 'u32' },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let i = ${LINEAR_INDEX};
  if (i >= p.n) { return; }
  let lane = i % p.size;
  let head = i / p.size % p.heads;
  let row = i / p.size / p.heads;
  let key_width = p.heads / p.group * p.size;
  let key_first = ${field('keyFirst', 'row')};
  let changes = (row * p.heads + head) * p.stride + key_first;
  let probabilities = ${field('pattern', 'row')} + head * ${field('keys', 'row')} + key_first;
  let values = ${field('first', 'row')} * key_width + head / p.group * p.size + lane;
  var sum = y[i];
  for (var j = 0u; j < ${field('count', 'row')}; j++) {
    sum = fma(${T}(dp[changes + j] + pattern[probabilities + j]), dv[values + j * key_width], sum);
  }
  y[i] = sum;
}`,
  };
}

/**
 * Keys and values of a layer whose queries are few need not be computed token by token (an encoder's last layer): with
 * t = W_k^T (q + dq) of each head, (q + dq) . W_k dx_j is t . dx_j. Adds that to the products' change where a key changed;
 * t [heads, tokens, width], y [tokens, heads, stride]. Grid: linear over tokens * heads * stride.
 */
export const projectedScore = shipped(makeProjectedScore, takes('projectedScore', ['wide', flag]));

function makeProjectedScore(wide: boolean): Kernel {
  const T = element(wide);
  return {
    name: `difference.projected_score${wide ? '.wide' : ''}`,
    bindings: [
      { name: 't', element: T, access: 'read' },
      { name: 'token', element: 'u32', access: 'read' },
      { name: 'dx', element: T, access: 'read' },
      { name: 'y', element: 'f32', access: 'read_write' },
    ],
    params: { n: 'u32', heads: 'u32', tokens: 'u32', width: 'u32', stride: 'u32' },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let i = ${LINEAR_INDEX};
  if (i >= p.n) { return; }
  let head = i / p.stride % p.heads;
  let row = i / p.stride / p.heads;
  let moved = i % p.stride - ${field('keyFirst', 'row')};
  if (moved >= ${field('count', 'row')}) { return; }
  let left = (head * p.tokens + row) * p.width;
  let right = (${field('first', 'row')} + moved) * p.width;
  var sum = ${T}(0.0);
  for (var c = 0u; c < p.width; c++) { sum = fma(t[left + c], dx[right + c], sum); }
  y[i] += ${wide ? 'dot(sum, vec4f(1.0))' : 'sum'};
}`,
  };
}

/**
 * The other half: sum over changed keys of (p + dp) dx_j for each head, [heads, tokens, width], which W_v turns into
 * values afterwards. Grid: linear over n.
 */
export const projectedMix = shipped(makeProjectedMix, takes('projectedMix', ['wide', flag]));

function makeProjectedMix(wide: boolean): Kernel {
  const T = element(wide);
  return {
    name: `difference.projected_mix${wide ? '.wide' : ''}`,
    bindings: [
      { name: 'pattern', element: 'f32', access: 'read' },
      { name: 'token', element: 'u32', access: 'read' },
      { name: 'dp', element: 'f32', access: 'read' },
      { name: 'dx', element: T, access: 'read' },
      { name: 'y', element: T, access: 'read_write' },
    ],
    params: { n: 'u32', heads: 'u32', tokens: 'u32', width: 'u32', stride: 'u32' },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let i = ${LINEAR_INDEX};
  if (i >= p.n) { return; }
  let row = i / p.width % p.tokens;
  let head = i / p.width / p.tokens;
  let first = ${field('first', 'row')} * p.width + i % p.width;
  let key_first = ${field('keyFirst', 'row')};
  let probabilities = ${field('pattern', 'row')} + head * ${field('keys', 'row')} + key_first;
  let changes = (row * p.heads + head) * p.stride + key_first;
  var sum = ${T}(0.0);
  for (var j = 0u; j < ${field('count', 'row')}; j++) {
    sum = fma(${T}(dp[changes + j] + pattern[probabilities + j]), dx[first + j * p.width], sum);
  }
  y[i] = sum;
}`,
  };
}

/** y = a + d of the same token where it is among the layer's changed inputs, or their queries. Grid: linear over n. */
export const addOwn = shipped(makeAddOwn, takes('addOwn', ['of', word(['own', 'query'])]));

function makeAddOwn(of: 'own' | 'query'): Kernel {
  return {
    name: `difference.add_${of}`,
    bindings: [
      { name: 'a', element: 'f32', access: 'read' },
      { name: 'token', element: 'u32', access: 'read' },
      { name: 'd', element: 'f32', access: 'read' },
      { name: 'y', element: 'f32', access: 'read_write' },
    ],
    params: { n: 'u32', length: 'u32' },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let i = ${LINEAR_INDEX};
  if (i >= p.n) { return; }
  let own = ${field(of, 'i / p.length')};
  var value = a[i];
  if (own != ${NONE}u) { value += d[own * p.length + i % p.length]; }
  y[i] = value;
}`,
  };
}

/**
 * Rank-1 injection (docs/science.md#rank-1-injection): y[r, :] = scale[r] * w[:, column[r]] for w [length, width], or in panels (`columns`, `rows`:
 * panels.ts). Grid: linear over n.
 */
export const injectColumns = shipped(makeInjectColumns, takes('injectColumns', ['panels', optional(flag)]));

function makeInjectColumns(panels = false): Kernel {
  const w = panels
    ? `textureLoad(w, ${panelTexel('i % p.length', 'column[row]')})[i % p.length % 4u]`
    : 'w[i % p.length * p.width + column[row]]';
  return {
    name: `difference.inject${panels ? '.panels' : ''}`,
    bindings: [
      { name: 'w', element: panels ? TEXEL : 'f32', access: 'read' },
      { name: 'column', element: 'u32', access: 'read' },
      { name: 'scale', element: 'f32', access: 'read' },
      { name: 'y', element: 'f32', access: 'read_write' },
    ],
    params: panels
      ? { n: 'u32', length: 'u32', columns: 'u32', rows: 'u32' }
      : { n: 'u32', length: 'u32', width: 'u32' },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let i = ${LINEAR_INDEX};
  if (i >= p.n) { return; }
  let row = i / p.length;
  y[i] = scale[row] * ${w};
}`,
  };
}

/** Numbers that {@link targetDifference} says of a row, in order. */
export const TARGET_FIELDS = [
  /** Change of the target's log p. */
  'logprob',
  /** Change of its logit. */
  'logit',
  /** How far probabilities move, sum of |p'_v - p_v| or a little more: what the plain log p_v are known to counts so often. */
  'moved',
  /** 1 - p' of the target: what changes of logits are known to counts so often. */
  'rest',
  /** Root mean square of the changes of all logits. */
  'size',
  /** How far a larger shift would take log p and the logit, relative to its own growth, times the row's condition. */
  'alongLogprob',
  'alongLogit',
] as const;

/**
 * What a target's probability does, TARGET_FIELDS numbers a row. With x_v = dz_v - dz_t and F = sum over the vocabulary of
 * p_v (e^x_v - 1), log p_t changes by -log(1 + F); the target's own term is exactly 0, so nothing cancels where p_t is near 1. Where
 * 1 + F is far from 1 it is the sum of p_v e^x_v itself, kept in range by its largest term. The plain p_v come as logarithms,
 * in which none underflows. `condition` says how uncertain the shift itself is. `at` holds (base row, target, bits of the condition)
 * a row. Grid: groups, rows.
 */
export const targetDifference = shipped(
  makeTargetDifference,
  takes('targetDifference', ['lanes', optional(powerOfTwo)]),
);

function makeTargetDifference(lanes: number = ROW_GROUP): Kernel {
  return targetKernel(
    `difference.target.${lanes}`,
    lanes,
    [{ name: 'dz', element: 'f32', access: 'read' }],
    {},
    { record: 3, opening: '', change: (i) => `dz[row * p.length + ${i}]` },
  );
}

/**
 * The same of a shift in the last layer of a pre-norm model (docs/science.md#the-last-layer-along-lines), whose final residual x becomes x + c w: with
 * z = U (g x) / s the plain logits and y = U (g w), the changes are z (s / t - 1) + c y / t, s and t the root mean squares
 * before and after. One product y a neuron serves all its shifts. `at` holds (base row, target, bits of the
 * condition, neuron, bits of c) a row.
 */
export const lineDifference = shipped(
  makeLineDifference,
  takes('lineDifference', ['lanes', optional(powerOfTwo)]),
);

function makeLineDifference(lanes: number = ROW_GROUP): Kernel {
  return targetKernel(
    `difference.line.${lanes}`,
    lanes,
    [
      { name: 'z', element: 'f32', access: 'read' },
      { name: 'x', element: 'f32', access: 'read' },
      { name: 'w', element: 'f32', access: 'read' },
      { name: 'line', element: 'f32', access: 'read' },
    ],
    { hidden: 'u32', eps: 'f32' },
    {
      record: 5,
      opening: `
  let neuron = at[5u * row + 3u];
  let c = bitcast<f32>(at[5u * row + 4u]);
  var before = 0.0;
  var after = 0.0;
  var change = 0.0;
  for (var i = lane; i < p.hidden; i += ${lanes}u) {
    let v = x[at[5u * row] * p.hidden + i];
    let d = c * w[neuron * p.hidden + i];
    before += v * v;
    after += (v + d) * (v + d);
    change += d * (2.0 * v + d);
  }
  let s = sqrt(reduce_total(before, lane) / f32(p.hidden) + p.eps);
  let t = sqrt(reduce_total(after, lane) / f32(p.hidden) + p.eps);
  let turn = -reduce_total(change, lane) / f32(p.hidden) / (t * (s + t));
  let along = c / t;`,
      change: (i) => `fma(along, line[neuron * p.length + ${i}], turn * z[base + ${i}])`,
    },
  );
}

function targetKernel(
  name: string,
  lanes: number,
  bindings: Kernel['bindings'],
  params: Kernel['params'],
  row: {
    /** Integers of `at` a row. */
    readonly record: number;
    readonly opening: string;
    readonly change: (i: string) => string;
  },
): Kernel {
  const field = (name: (typeof TARGET_FIELDS)[number]): string =>
    `y[${TARGET_FIELDS.length}u * row + ${TARGET_FIELDS.indexOf(name)}u]`;
  return {
    name,
    bindings: [
      { name: 'logprob', element: 'f32', access: 'read' },
      { name: 'at', element: 'u32', access: 'read' },
      ...bindings,
      { name: 'y', element: 'f32', access: 'read_write' },
    ],
    params: { rows: 'u32', length: 'u32', ...params },
    workgroup: [lanes, 1, 1],
    body: `
${EXPM1}
${LOG1P}
${groupReduction('total', 'u + v', lanes)}
${groupReduction('largest', 'max(u, v)', lanes)}
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row = ${GROUP_INDEX};
  if (row >= p.rows) { return; }
  let base = at[${row.record}u * row] * p.length;
  let target_at = at[${row.record}u * row + 1u];${row.opening}
  let reference = ${row.change('target_at')};
  var part = 0.0;
  var movement = 0.0;
  var size = 0.0;
  // Sums of p_v e^x_v below e^top: of all but the target, and times x_v.
  var top = logprob[base + target_at];
  var others = 0.0;
  var tilt = 0.0;
  for (var first = 0u; first < p.length; first += ${SUMMED_APART * lanes}u) {
    var apart = 0.0;
    var others_apart = 0.0;
    for (var i = first + lane; i < min(first + ${SUMMED_APART * lanes}u, p.length); i += ${lanes}u) {
      let change = ${row.change('i')};
      let plain = logprob[base + i];
      let x = change - reference;
      let raised = plain + x;
      // Beyond the reach of the series neither p_v nor e^x_v need be a float32 for their product to be one.
      let term = select(
        exp(plain) * expm1_(min(x, 0.5)),
        exp(min(raised, ${LARGEST_EXPONENT})) - exp(plain),
        x > 0.5,
      );
      apart += term;
      movement += abs(term);
      size = fma(change, change, size);
      if (raised > top) {
        let less = exp(top - raised);
        others_apart *= less;
        others *= less;
        tilt *= less;
        top = raised;
      }
      let after = select(exp(raised - top), 0.0, i == target_at);
      others_apart += after;
      tilt = fma(after, x, tilt);
    }
    part += apart;
    others += others_apart;
  }
  let f = reduce_total(part, lane);
  let moved = reduce_total(movement, lane);
  let extent = sqrt(reduce_total(size, lane) / f32(p.length));
  let peak = reduce_largest(top, lane);
  let scale = exp(top - peak);
  let rest = reduce_total(others * scale, lane);
  let pull = reduce_total(tilt * scale, lane);
  let whole = rest + exp(logprob[base + target_at] - peak);
  let condition = bitcast<f32>(at[${row.record}u * row + 2u]);
  if (lane == 0u) {
    let log_whole = peak + log(whole);
    let near = abs(log_whole) < 0.5;
    ${field('logprob')} = select(-log_whole, -log1p_(f), near);
    ${field('logit')} = reference;
    ${field('moved')} = select(2.0, min(2.0, (moved + abs(f)) / (1.0 + f)), near);
    ${field('rest')} = rest / whole;
    ${field('size')} = extent;
    ${field('alongLogprob')} = condition * abs(pull) / whole;
    ${field('alongLogit')} = condition * abs(reference);
  }
}`,
  };
}
