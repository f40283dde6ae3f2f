/**
 * Softmax over rows, with the scale and the masks of attention, its logarithm, and their backward passes.
 *
 * One workgroup a row. Maximum and sum of exponentials come from one read, the sum rescaled whenever the maximum grows
 * (Milakov & Gimelshein 2018); the result takes a second, because no workgroup holds a row of any length. Cross-entropy needs
 * no second read: its backward pass starts from the forward's maximum and sum. Masked entries get the large finite score -1e30
 * (WGSL may assume that infinities do not occur), so that a row with nothing to attend to is uniform, not NaN.
 */

import { type Kernel, memo } from './kernel.ts';
import { groupReduction, ROW_GROUP, ROW_MAIN } from './reduce.ts';

export interface SoftmaxVariant {
  /** Log-softmax instead of softmax. */
  readonly log: boolean;
  /** A key mask [batches, length]: 0 hides that key from every query of the batch. */
  readonly masked: boolean;
}

/** Elements that a lane takes between two rescalings of its sum. */
const TAKEN = [0, 1, 2, 3] as const;
/**
 * Elements of a lane that are added up by themselves before they join its sum. A vocabulary's probabilities are thousands of
 * numbers far below the rounding of the largest: added to it one by one they vanish, and 1e-5 of the sum was lost so.
 */
export const SUMMED_APART = 64;

/** WGSL that leaves `largest` and `total`, the sum of exp(x - largest), of a row whose element i is `x(i)`, each read once. */
const statistics = (lanes: number, x: (i: string) => string): string => {
  const take = (elements: readonly number[]): string => `
      ${elements.map((n) => `let x${n} = ${x(`i + ${n * lanes}u`)};`).join('\n      ')}
      let larger = ${elements.reduce((all, n) => `max(${all}, x${n})`, 'top')};
      apart = apart * exp(top - larger) + (${elements.map((n) => `exp(x${n} - larger)`).join(' + ')});
      top = larger;`;
  return `
  var top = f32(-3.4028234e38);
  var part = 0.0;
  for (var first = 0u; first < p.length; first += ${SUMMED_APART * lanes}u) {
    let end = min(first + ${SUMMED_APART * lanes}u, p.length);
    let before = top;
    var apart = 0.0;
    var i = first + lane;
    for (; i + ${(TAKEN.length - 1) * lanes}u < end; i += ${TAKEN.length * lanes}u) {${take(TAKEN)}
    }
    for (; i < end; i += ${lanes}u) {${take([0])}
    }
    part = part * exp(before - top) + apart;
  }
  let largest = reduce_largest(top, lane);
  let total = reduce_total(part * exp(top - largest), lane);`;
};

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
${statistics(lanes, (i) => `score(row, ${i})`)}
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

/**
 * loss[row] = logsumexp(a[row]) - a[row, label]; 0 where the label is outside the row (not counted). `stats` [rows, 2] are the
 * row's maximum and its sum of exponentials below it. Grid: groups, rows.
 */
export const crossEntropy = memo(
  (lanes: number = ROW_GROUP): Kernel => ({
    name: `cross_entropy.${lanes}`,
    bindings: [
      { name: 'a', element: 'f32', access: 'read' },
      { name: 'label', element: 'u32', access: 'read' },
      { name: 'loss', element: 'f32', access: 'read_write' },
      { name: 'stats', element: 'f32', access: 'read_write' },
    ],
    params: { rows: 'u32', length: 'u32' },
    workgroup: [lanes, 1, 1],
    body: `
${groupReduction('largest', 'max(u, v)', lanes)}
${groupReduction('total', 'u + v', lanes)}
${ROW_MAIN}
  let base = row * p.length;
${statistics(lanes, (i) => `a[base + ${i}]`)}
  if (lane == 0u) {
    let at = label[row];
    loss[row] = select(0.0, log(total) - (a[base + min(at, p.length - 1u)] - largest), at < p.length);
    stats[2u * row] = largest;
    stats[2u * row + 1u] = total;
  }
}`,
  }),
);

/** da = dloss[row] (softmax(a) - onehot(label)), from the forward's `stats`; 0 in rows that are not counted. Grid: groups, rows. */
export const crossEntropyBackward = memo(
  (lanes: number = ROW_GROUP): Kernel => ({
    name: `cross_entropy_backward.${lanes}`,
    bindings: [
      { name: 'a', element: 'f32', access: 'read' },
      { name: 'label', element: 'u32', access: 'read' },
      { name: 'dloss', element: 'f32', access: 'read' },
      { name: 'stats', element: 'f32', access: 'read' },
      { name: 'da', element: 'f32', access: 'read_write' },
    ],
    params: { rows: 'u32', length: 'u32' },
    workgroup: [lanes, 1, 1],
    body: `
${ROW_MAIN}
  let base = row * p.length;
  let at = label[row];
  let largest = stats[2u * row];
  let share = 1.0 / stats[2u * row + 1u];
  let weight = select(0.0, dloss[row], at < p.length);
  for (var i = lane; i < p.length; i += ${lanes}u) {
    da[base + i] = weight * (exp(a[base + i] - largest) * share - select(0.0, 1.0, i == at));
  }
}`,
  }),
);
