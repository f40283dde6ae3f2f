/**
 * Curves reduced where they lie (SPEC 9.7): of each neuron's changes over its shifts, what slope, intercept and r are made of.
 *
 * Centred, in three passes over the few points of a curve. float32 then costs the sums nothing that matters: r is taken from
 * what the line leaves over, whose own relative error counts the less the straighter the curve. One invocation a curve,
 * points in their order: a curve alone has the same bits as among others.
 */

import { NONE, TARGET_FIELDS } from './difference.ts';
import { type Kernel, LINEAR_GROUP, LINEAR_INDEX } from './kernel.ts';
import { LOG1P_SERIES } from './math.ts';
import { shipped } from './shipped.ts';

/** Numbers of one curve, in order. */
export const CURVE_FIELDS = [
  /** sum of s d */
  'moment',
  /** mean of d */
  'mean',
  /** sums of (s - mean s)(d - mean d), of (d - mean d)^2, and of the squares that the line with intercept leaves. */
  'covariance',
  'variance',
  'residue',
  /** Largest |change|. */
  'extent',
  /** Largest noise of a change. */
  'noise',
] as const;

/** log(1 + f) for f > -1: the series of 2 artanh near 0. */
const LOG1P = `
fn log1p_(f: f32) -> f32 {
  let t = f / (2.0 + f);
  let u = t * t;
  let near = ${LOG1P_SERIES('t', 'u')};
  return select(log(1.0 + f), near, abs(t) <= 0.25);
}
`;

/** What of the rounding p itself has, and with it each change of p. */
export const PLAIN_SHARE = 0.25;

const CHANGE = {
  prob: `vec2f(-p.plain * f / (1.0 + f), p.plain * (moved[at + 2u] / (1.0 + f) + ${PLAIN_SHARE} * abs(f)) / (1.0 + f))`,
  logprob: 'vec2f(-log1p_(f), moved[at + 2u] / (1.0 + f))',
  logit: 'vec2f(moved[at + 1u], moved[at + 3u])',
} as const;

/**
 * y [curves, fields] from `moved`, rows of `difference.target` by curve; `first` is a curve's first row, NONE where nothing
 * of it moves. `shift` [points] is the same for all. `zero` 1 counts the point (0, 0) as well. Grid: linear over curves.
 */
export const curveSums = shipped((of: keyof typeof CHANGE): Kernel => {
  return {
    name: `curve.${of}`,
    bindings: [
      { name: 'moved', element: 'f32', access: 'read' },
      { name: 'first', element: 'u32', access: 'read' },
      { name: 'shift', element: 'f32', access: 'read' },
      { name: 'y', element: 'f32', access: 'read_write' },
    ],
    params: { curves: 'u32', points: 'u32', plain: 'f32', rounding: 'f32', range: 'f32', zero: 'f32' },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
${LOG1P}
fn change(row: u32) -> vec2f {
  let at = row * ${TARGET_FIELDS}u;
  let f = moved[at];
  return ${CHANGE[of]};
}
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let curve = ${LINEAR_INDEX};
  if (curve >= p.curves) { return; }
  let row = first[curve];
  let out = curve * ${CURVE_FIELDS.length}u;
  if (row == ${NONE}u) {
    for (var i = 0u; i < ${CURVE_FIELDS.length}u; i++) { y[out + i] = 0.0; }
    return;
  }
  var n = p.zero;
  var sum_s = 0.0;
  var sum_d = 0.0;
  var moment = 0.0;
  var extent = 0.0;
  var noise = 0.0;
  for (var k = 0u; k < p.points; k++) {
    if (abs(shift[k]) > p.range) { continue; }
    let d = change(row + k);
    n += 1.0;
    sum_s += shift[k];
    sum_d += d.x;
    moment = fma(shift[k], d.x, moment);
    noise = max(noise, p.rounding * d.y);
    extent = max(extent, abs(d.x));
  }
  let mean_s = sum_s / n;
  let mean_d = sum_d / n;
  var square = p.zero * mean_s * mean_s;
  var covariance = p.zero * mean_s * mean_d;
  var variance = p.zero * mean_d * mean_d;
  for (var k = 0u; k < p.points; k++) {
    if (abs(shift[k]) > p.range) { continue; }
    let s = shift[k] - mean_s;
    let d = change(row + k).x - mean_d;
    square = fma(s, s, square);
    covariance = fma(s, d, covariance);
    variance = fma(d, d, variance);
  }
  let slope = select(0.0, covariance / square, square > 0.0);
  let origin = slope * mean_s - mean_d;
  var residue = p.zero * origin * origin;
  for (var k = 0u; k < p.points; k++) {
    if (abs(shift[k]) > p.range) { continue; }
    let left = change(row + k).x - mean_d - slope * (shift[k] - mean_s);
    residue = fma(left, left, residue);
  }
  y[out] = moment;
  y[out + 1u] = mean_d;
  y[out + 2u] = covariance;
  y[out + 3u] = variance;
  y[out + 4u] = residue;
  y[out + 5u] = extent;
  y[out + 6u] = noise;
}`,
  };
});
