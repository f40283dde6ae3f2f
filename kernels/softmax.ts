/**
 * Softmax over rows, with the scale and the masks of attention, its logarithm, and their backward passes.
 *
 * One workgroup a row, three sweeps: maximum, sum of exponentials, result. Masked entries get the large finite score -1e30
 * (WGSL may assume that infinities do not occur), so that a row with nothing to attend to is uniform, not NaN.
 */

import { type Binding, type Kernel, memo } from './kernel.ts';
import { groupReduction, ROW_GROUP, ROW_MAIN } from './reduce.ts';

export interface SoftmaxVariant {
  /** Log-softmax instead of softmax. */
  readonly log: boolean;
  /** A key mask [batches, length]: 0 hides that key from every query of the batch. */
  readonly masked: boolean;
}

const SCORE = (masked: boolean): string => `
fn score(row: u32, i: u32) -> f32 {
  let query = row % p.queries;
  let visible = i <= query + p.past || p.causal == 0u;
  let hidden = ${masked ? 'mask[row / p.rows_per_batch * p.length + i] == 0u' : 'false'};
  return select(-1e30, a[row * p.length + i] * p.scale, visible && !hidden);
}`;

/**
 * y = softmax(a * scale + masks). Row r is query r % queries of batch r / rows_per_batch; with `causal` it sees keys up to
 * query + past. Grid: groups, rows.
 */
export const softmax = memo(({ log, masked }: SoftmaxVariant, lanes: number = ROW_GROUP): Kernel => {
  return {
    name: `softmax${log ? '.log' : ''}${masked ? '.masked' : ''}.${lanes}`,
    bindings: [
      { name: 'a', element: 'f32', access: 'read' },
      ...(masked ? ([{ name: 'mask', element: 'u32', access: 'read' }] as const) : []),
      { name: 'y', element: 'f32', access: 'read_write' },
    ],
    params: {
      rows: 'u32',
      length: 'u32',
      scale: 'f32',
      queries: 'u32',
      rows_per_batch: 'u32',
      causal: 'u32',
      past: 'u32',
    },
    workgroup: [lanes, 1, 1],
    body: `
${groupReduction('largest', 'max(u, v)', lanes)}
${groupReduction('total', 'u + v', lanes)}
${SCORE(masked)}
${ROW_MAIN}
  var top = f32(-3.4028234e38);
  for (var i = lane; i < p.length; i += ${lanes}u) { top = max(top, score(row, i)); }
  let largest = reduce_largest(top, lane);
  var part = 0.0;
  for (var i = lane; i < p.length; i += ${lanes}u) { part += exp(score(row, i) - largest); }
  let total = reduce_total(part, lane);
  ${log ? 'let log_total = log(total);' : 'let share = 1.0 / total;'}
  for (var i = lane; i < p.length; i += ${lanes}u) {
    y[row * p.length + i] = ${log ? 'score(row, i) - largest - log_total' : 'exp(score(row, i) - largest) * share'};
  }
}`,
  };
});

/**
 * Cotangent of a from y and dy: softmax scale * y (dy - sum y dy); log-softmax scale * (dy - exp(y) sum dy), without dy
 * where the score was masked.
 * Grid: groups, rows.
 */
export const softmaxBackward = memo((log: boolean, lanes: number = ROW_GROUP): Kernel => {
  return {
    name: `softmax_backward${log ? '.log' : ''}.${lanes}`,
    bindings: [
      { name: 'y', element: 'f32', access: 'read' },
      { name: 'dy', element: 'f32', access: 'read' },
      { name: 'da', element: 'f32', access: 'read_write' },
    ],
    params: { rows: 'u32', length: 'u32', scale: 'f32' },
    workgroup: [lanes, 1, 1],
    body: `
${groupReduction('total', 'u + v', lanes)}
${ROW_MAIN}
  let base = row * p.length;
  var part = 0.0;
  for (var i = lane; i < p.length; i += ${lanes}u) { part += ${log ? '' : 'y[base + i] * '}dy[base + i]; }
  let total = reduce_total(part, lane);
  for (var i = lane; i < p.length; i += ${lanes}u) {
    da[base + i] = p.scale * ${log ? '(select(dy[base + i], 0.0, y[base + i] < -5e29) - exp(y[base + i]) * total)' : 'y[base + i] * (dy[base + i] - total)'};
  }
}`,
  };
});

/** A kernel over rows of logits and their labels; `ending` has the row's `base`, `largest` logit, `total` of exponentials, label `at`. */
function crossEntropyKernel(
  name: string,
  outputs: readonly Binding[],
  lanes: number,
  ending: string,
): Kernel {
  return {
    name: `${name}.${lanes}`,
    bindings: [
      { name: 'a', element: 'f32', access: 'read' },
      { name: 'label', element: 'u32', access: 'read' },
      ...outputs,
    ],
    params: { rows: 'u32', length: 'u32' },
    workgroup: [lanes, 1, 1],
    body: `
${groupReduction('largest', 'max(u, v)', lanes)}
${groupReduction('total', 'u + v', lanes)}
${ROW_MAIN}
  let base = row * p.length;
  var top = f32(-3.4028234e38);
  for (var i = lane; i < p.length; i += ${lanes}u) { top = max(top, a[base + i]); }
  let largest = reduce_largest(top, lane);
  var part = 0.0;
  for (var i = lane; i < p.length; i += ${lanes}u) { part += exp(a[base + i] - largest); }
  let total = reduce_total(part, lane);
  let at = label[row];
${ending}
}`,
  };
}

/** loss[row] = logsumexp(a[row]) - a[row, label]; 0 where the label is outside the row (not counted). Grid: groups, rows. */
export const crossEntropy = memo(
  (lanes: number = ROW_GROUP): Kernel =>
    crossEntropyKernel(
      'cross_entropy',
      [{ name: 'loss', element: 'f32', access: 'read_write' }],
      lanes,
      `
  if (lane == 0u) {
    loss[row] = select(0.0, log(total) - (a[base + min(at, p.length - 1u)] - largest), at < p.length);
  }`,
    ),
);

/** da = dloss[row] (softmax(a) - onehot(label)); 0 in rows that are not counted. Grid: groups, rows. */
export const crossEntropyBackward = memo(
  (lanes: number = ROW_GROUP): Kernel =>
    crossEntropyKernel(
      'cross_entropy_backward',
      [
        { name: 'dloss', element: 'f32', access: 'read' },
        { name: 'da', element: 'f32', access: 'read_write' },
      ],
      lanes,
      `
  let share = 1.0 / total;
  let weight = select(0.0, dloss[row], at < p.length);
  for (var i = lane; i < p.length; i += ${lanes}u) {
    da[base + i] = weight * (exp(a[base + i] - largest) * share - select(0.0, 1.0, i == at));
  }`,
    ),
);
