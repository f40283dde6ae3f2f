/**
 * Curves reduced where they lie (docs/science.md#sums-made-on-the-device): of each neuron's changes over its shifts, what slope, intercept and r are made of.
 *
 * Centred, in three passes over the few points of a curve. float32 then costs the sums nothing that matters: r is taken from
 * what the line leaves over, whose own relative error counts the less the straighter the curve. One invocation a curve,
 * points in their order: a curve alone has the same bits as among others.
 */

import { NONE, TARGET_FIELDS } from './difference.ts';
import { type Kernel, LINEAR_GROUP, LINEAR_INDEX } from './kernel.ts';
import { EXPM1 } from './math.ts';
import { shipped } from './shipped.ts';
import { takes, word } from './variant.ts';

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

const field = (name: (typeof TARGET_FIELDS)[number]): string => `moved[at + ${TARGET_FIELDS.indexOf(name)}u]`;

/** A row's change and what of it may be rounding; of p, both divided by the plain p. */
const CHANGE = {
  prob: `let change = expm1_(${field('logprob')});
  return vec2f(change, exp(${field('logprob')}) * noise + p.share * abs(change));`,
  logprob: `return vec2f(${field('logprob')}, noise);`,
  logit: `return vec2f(${field('logit')}, p.single * ${field('size')} + p.shift * ${field('alongLogit')});`,
} as const;

/**
 * y [curves, fields] from `moved`, rows of `difference.target` by curve; `first` is a curve's first row, NONE where nothing
 * of it moves. `shift` [points] is the same for all. `plain`, `change`, `single`, `shift` and `share` are what plain log p_v, changes of logits,
 * shifts and p are known to (neurgrad/rounding.ts). `zero` 1 counts the point (0, 0) as well. Grid: linear over curves.
 */
export const curveSums = shipped(
  makeCurveSums,
  takes('curveSums', ['of', word(Object.keys(CHANGE) as (keyof typeof CHANGE)[])]),
);

function makeCurveSums(of: keyof typeof CHANGE): Kernel {
  return {
    name: `curve.${of}`,
    bindings: [
      { name: 'moved', element: 'f32', access: 'read' },
      { name: 'first', element: 'u32', access: 'read' },
      { name: 'shift', element: 'f32', access: 'read' },
      { name: 'y', element: 'f32', access: 'read_write' },
    ],
    params: {
      curves: 'u32',
      points: 'u32',
      plain: 'f32',
      change: 'f32',
      single: 'f32',
      shift: 'f32',
      share: 'f32',
      range: 'f32',
      zero: 'f32',
    },
    workgroup: [LINEAR_GROUP, 1, 1],
    body: `
${EXPM1}
fn change(row: u32) -> vec2f {
  let at = row * ${TARGET_FIELDS.length}u;
  let noise = p.plain * ${field('moved')} + p.change * ${field('size')} * ${field('rest')} + p.shift * ${field('alongLogprob')};
  ${CHANGE[of]}
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
    noise = max(noise, d.y);
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
}
