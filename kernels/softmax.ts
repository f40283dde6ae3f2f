/**
 * Softmax over rows, with the scale and the masks of attention, its logarithm, and their backward passes.
 *
 * One workgroup a row. A row that is held is read once, and its exponentials are kept; of a longer one, maximum and sum of
 * exponentials come from one read, the sum rescaled whenever the maximum grows (Milakov & Gimelshein 2018), and the result
 * takes a second. Cross-entropy needs no second read: its backward pass starts from the forward's statistics. Masked
 * entries get the large finite score -1e30 (WGSL may assume that infinities do not occur), so that a row with nothing to attend
 * to is uniform, not NaN.
 */

import { KernelError } from './errors.ts';
import type { Kernel } from './kernel.ts';
import { groupReduction, ROW_MAIN } from './reduce.ts';
import { ROW_SHARE, type RowShare, type RowSweep, sweepRow } from './rowSweep.ts';
import { shipped } from './shipped.ts';
import { flag, optional, takes, variant, word } from './variant.ts';

export interface SoftmaxVariant {
  /** Log-softmax instead of softmax. */
  readonly log: boolean;
  /** A key mask [batches, length]: 0 hides that key from every query of the batch. */
  readonly masked: boolean;
  /**
   * Keys after the one that `last` [1] names are hidden from all, and take part in no sum: the bits follow from the keys that are
   * seen, whatever the room behind them. That key is the last query's own. For shares that hold nothing, number by number.
   */
  readonly bounded?: boolean;
}

const SOFTMAX = variant<SoftmaxVariant>({ log: flag, masked: flag, bounded: optional(flag) });

const LOWEST = '-3.4028234e38';

const reductions = (lanes: number): string => `
${groupReduction('largest', 'max(u, v)', lanes)}
${groupReduction('total', 'u + v', lanes)}`;

/** Elements that a lane takes between two rescalings of its sum. */
const TAKEN = [0, 1, 2, 3] as const;
/**
 * Elements of a lane that are added up by themselves before they join its sum. A vocabulary's probabilities are thousands of
 * numbers far below the rounding of the largest: added to it one by one they vanish, and 1e-5 of the sum was lost so.
 */
export const SUMMED_APART = 64;

/** WGSL that leaves `largest` and `total`, the sum of exp(x - largest), of a row whose element i is `x(i)`, each read once. */
const statistics = (lanes: number, { type, max, sum }: RowSweep<'x'>, x: (i: string) => string): string => {
  const take = (elements: readonly number[]): string => `
      ${elements.map((n) => `let x${n} = ${x(`i + ${n * lanes}u`)};`).join('\n      ')}
      let larger = ${elements.reduce((all, n) => `max(${all}, x${n})`, 'top')};
      apart = apart * exp(top - larger) + (${elements.map((n) => `exp(x${n} - larger)`).join(' + ')});
      top = larger;`;
  return `
  var top = ${type.f32}(${LOWEST});
  var part = ${type.f32}();
  for (var first = 0u; first < count; first += ${SUMMED_APART * lanes}u) {
    let end = min(first + ${SUMMED_APART * lanes}u, count);
    let before = top;
    var apart = ${type.f32}();
    var i = first + lane;
    for (; i + ${(TAKEN.length - 1) * lanes}u < end; i += ${TAKEN.length * lanes}u) {${take(TAKEN)}
    }
    for (; i < end; i += ${lanes}u) {${take([0])}
    }
    part = part * exp(before - top) + apart;
  }
  let largest = reduce_largest(${max('top')}, lane);
  let total = reduce_total(${sum('part * exp(top - largest)')}, lane);`;
};

/** The same of a row that is held: the held values become exp(x - largest), but for a logarithm. */
const heldStatistics = ({ type, each, max, sum }: RowSweep<'x'>, log: boolean): string => `
  var top = ${type.f32}(${LOWEST});
  ${each(({ x }) => `top = max(top, ${x});`)}
  let largest = reduce_largest(${max('top')}, lane);
  var part = ${type.f32}();
  ${each(({ x }) => (log ? `part += exp(${x} - largest);` : `${x} = exp(${x} - largest); part += ${x};`))}
  let total = reduce_total(${sum('part')}, lane);`;

/** Keys on one side of a query where nothing bounds them. */
export const UNBOUNDED_KEYS: number = 2 ** 30;

const score = (
  { masked, bounded }: SoftmaxVariant,
  vector: number,
  { type, places }: RowSweep<'x'>,
): string => `
fn score(row: u32, i: u32) -> ${type.f32} {
  let count = p.length / ${vector}u;
  let column = i32(row % p.queries) + ${bounded ? 'i32(last[0]) + 1 - i32(p.queries)' : 'p.past'};
  let low = ${type.u32}(u32(max(column - p.before, 0)));
  let high = ${type.u32}(u32(max(column + p.after, 0)));
  let place = ${places('i')};
  let seen = (place >= low) & (place <= high)${masked ? ` & (mask[row / p.rows_per_batch * count + i] != ${type.u32}())` : ''};
  return select(${type.f32}(-1e30), a[row * count + i] * p.scale, seen);
}`;

/**
 * y = softmax(a * scale + masks). Row r is query r % queries of batch r / rows_per_batch; its own key is query + past, and it sees
 * `before` keys before that and `after` behind, {@link UNBOUNDED_KEYS} for all. Grid: groups, rows.
 */
export const softmax = shipped(makeSoftmax, takes('softmax', ['variant', SOFTMAX], ['share', ROW_SHARE]));

function makeSoftmax(variant: SoftmaxVariant, share: RowShare): Kernel {
  const { log, masked, bounded } = variant;
  const { lanes, vector, held } = share;
  if (bounded && (vector > 1 || held > 0))
    throw new KernelError('softmax', 'a bounded row is read number by number');
  const x = (i: string): string => `score(row, ${i})`;
  const row = sweepRow(share, { x }, bounded ? 'min(p.length, last[0] + 1u)' : undefined);
  const beyond = `for (var i = count + lane; i < p.length; i += ${lanes}u) { y[base + i] = ${log ? '-1e30' : '0.0'}; }`;
  return {
    name: `softmax${log ? '.log' : ''}${masked ? '.masked' : ''}${bounded ? '.bounded' : ''}.${row.name}`,
    bindings: [
      { name: 'a', element: row.type.f32, access: 'read' },
      ...(masked ? ([{ name: 'mask', element: row.type.u32, access: 'read' }] as const) : []),
      ...(bounded ? ([{ name: 'last', element: 'u32', access: 'read' }] as const) : []),
      { name: 'y', element: row.type.f32, access: 'read_write' },
    ],
    params: {
      rows: 'u32',
      length: 'u32',
      scale: 'f32',
      queries: 'u32',
      rows_per_batch: 'u32',
      before: 'i32',
      after: 'i32',
      past: 'i32',
    },
    workgroup: [lanes, 1, 1],
    body: `
${reductions(lanes)}
${score(variant, vector, row)}
${ROW_MAIN}
${row.read}
${held > 0 ? heldStatistics(row, log) : statistics(lanes, row, x)}
  ${log ? 'let log_total = log(total);' : 'let share = 1.0 / total;'}
  ${row.each(({ x, i }) => `y[base + ${i}] = ${log ? `${x} - largest - log_total` : held > 0 ? `${x} * share` : `exp(${x} - largest) * share`};`)}${bounded ? `\n  ${beyond}` : ''}
}`,
  };
}

/**
 * Cotangent of a from y and dy: softmax scale * y (dy - sum y dy); log-softmax scale * (dy - exp(y) sum dy), without dy
 * where the score was masked (`masked`).
 *
 * Where one probability p_r exceeds 1/2 its own cotangent is made of the others', so that 1 - p_r is never formed: softmax
 * takes dy less dy_r (its Jacobian does not see a constant), after which the sum holds no term of r; log-softmax takes
 * dy_r sum_{j != r} p_j - p_r sum_{j != r} dy_j. Both keep their digits however near to 1 p_r is.
 * Grid: groups, rows.
 */
export const softmaxBackward = shipped(
  makeSoftmaxBackward,
  takes('softmaxBackward', ['log', flag], ['masked', flag], ['share', ROW_SHARE]),
);

function makeSoftmaxBackward(log: boolean, masked: boolean, share: RowShare): Kernel {
  const row = sweepRow(share, { y: (i) => `y[base + ${i}]`, dy: (i) => `dy[base + ${i}]` });
  const element = row.type.f32;
  const none = `${element}()`;
  const sure = (y: string): string => `(${y} > ${element}(${log ? '-0.69314718' : '0.5'}))`;
  return {
    name: `softmax_backward${log ? '.log' : ''}${masked ? '.masked' : ''}.${row.name}`,
    bindings: [
      { name: 'y', element, access: 'read' },
      { name: 'dy', element, access: 'read' },
      { name: 'da', element, access: 'read_write' },
    ],
    params: { rows: 'u32', length: 'u32', scale: 'f32' },
    workgroup: [share.lanes, 1, 1],
    body: `
${groupReduction('total', 'u + v', share.lanes)}
${ROW_MAIN}
${row.read}
  var own = ${none};
  ${row.each(({ y, dy }) => `own += select(${none}, ${dy}, ${sure(y)});`)}
  let surest = reduce_total(${row.sum('own')}, lane);
  var part = ${none};
${
  log
    ? `  ${row.each(({ y, dy }) => `part += select(${dy}, ${none}, ${sure(y)});`)}
  let others = reduce_total(${row.sum('part')}, lane);
  var left = ${none};
  ${row.each(({ y }) => `left += select(exp(${y}), ${none}, ${sure(y)});`)}
  let rest = reduce_total(${row.sum('left')}, lane);
  let total = others + surest;
  ${row.each(
    ({ y, dy, i }) =>
      `da[base + ${i}] = p.scale * select(${masked ? `select(${dy}, ${none}, ${y} < ${element}(-5e29))` : dy} - exp(${y}) * total, ${dy} * rest - exp(${y}) * others, ${sure(y)});`,
  )}`
    : `  ${row.each(({ y, dy }) => `part += ${y} * (${dy} - surest);`)}
  let total = reduce_total(${row.sum('part')}, lane);
  ${row.each(({ y, dy, i }) => `da[base + ${i}] = p.scale * ${y} * ((${dy} - surest) - total);`)}`
}
}`,
  };
}

/** The row's element at `at`, of a row of `count` elements from `base`. */
const elementAt = (vector: number, at: string): string =>
  vector === 4 ? `a[base + ${at} / 4u][${at} % 4u]` : `a[base + ${at}]`;

const NAMES = { crossEntropy: 'cross_entropy', oddsAgainst: 'odds_against' } as const;

/** What is computed of a label: -log p, or the logarithm of the odds against it, log (1 - p) / p. */
export type Labelled = 'crossEntropy' | 'oddsAgainst';
const LABELLED = word<Labelled>(['crossEntropy', 'oddsAgainst']);

/**
 * loss[row] of the row's label: u = logsumexp of the other logits less the label's (the odds against it), or log(1 + e^u) = -log p
 * (cross-entropy); 0 where the label is outside the row (not counted). `stats` [rows, 3] are the maximum of the others, their sum of exponentials below it, and u:
 * of the others alone, since 1 - p, which the backward is made of, cannot be had from p where p is near 1.
 * Holds nothing. Grid: groups, rows.
 */
export const crossEntropy = shipped(
  makeCrossEntropy,
  takes('crossEntropy', ['of', LABELLED], ['share', ROW_SHARE]),
);

function makeCrossEntropy(of: Labelled, { lanes, vector }: RowShare): Kernel {
  const row = sweepRow({ lanes, vector, held: 0 }, { x: (i) => `a[base + ${i}]` });
  const { f32, u32 } = row.type;
  const x = (i: string): string =>
    `select(a[base + ${i}], ${f32}(${LOWEST}), ${row.places(`(${i})`)} == ${u32}(at))`;
  return {
    name: `${NAMES[of]}.${row.name}`,
    bindings: [
      { name: 'a', element: row.type.f32, access: 'read' },
      { name: 'label', element: 'u32', access: 'read' },
      { name: 'loss', element: 'f32', access: 'read_write' },
      { name: 'stats', element: 'f32', access: 'read_write' },
    ],
    params: { rows: 'u32', length: 'u32' },
    workgroup: [lanes, 1, 1],
    body: `
${reductions(lanes)}
${of === 'crossEntropy' ? LOG1P_EXP : ''}
${ROW_MAIN}
${row.read}
  let at = label[row];
${statistics(lanes, row, x)}
  if (lane == 0u) {
    let inside = min(at, p.length - 1u);
    // The label's place counted 1 where no other is above the lowest number: masks are made of that, too.
    let others = total - select(0.0, 1.0, largest <= ${LOWEST} && at < p.length);
    let z = ${elementAt(vector, 'inside')};
    // Infinity over infinity, as in softmax: infinity made NaN.
    let bits = bitcast<u32>(z);
    let u = select((largest - z) + log(others), bitcast<f32>(bits | 0x00400000u), bits == 0x7f800000u);
    loss[row] = select(0.0, ${of === 'crossEntropy' ? 'log1p_exp(u)' : 'u'}, at < p.length);
    stats[3u * row] = largest;
    stats[3u * row + 1u] = others;
    stats[3u * row + 2u] = u;
  }
}`,
  };
}

/** log(1 + e^u): e^u itself (1 - e^u / 2) where 1 + e^u would round, u where it would overflow. */
const LOG1P_EXP = `
fn log1p_exp(u: f32) -> f32 {
  let e = exp(-abs(u));
  return max(u, 0.0) + select(log(1.0 + e), e * (1.0 - e * (0.5 - e * (0.33333333333 - e * 0.25))), e < 0.01);
}
`;

/**
 * da from the forward's `stats`: dloss[row] q times the softmax of the others and, minus their sum, -dloss[row] q at the label, with
 * q = 1 - p of the label = 1 / (1 + e^-u) for cross-entropy, 1 for the odds; 0 in rows that are not counted. Holds nothing.
 * Grid: groups, rows.
 */
export const crossEntropyBackward = shipped(
  makeCrossEntropyBackward,
  takes('crossEntropyBackward', ['of', LABELLED], ['share', ROW_SHARE]),
);

function makeCrossEntropyBackward(of: Labelled, { lanes, vector }: RowShare): Kernel {
  const row = sweepRow({ lanes, vector, held: 0 }, { x: (i) => `a[base + ${i}]` });
  const { f32, u32 } = row.type;
  return {
    name: `${NAMES[of]}_backward.${row.name}`,
    bindings: [
      { name: 'a', element: f32, access: 'read' },
      { name: 'label', element: 'u32', access: 'read' },
      { name: 'dloss', element: 'f32', access: 'read' },
      { name: 'stats', element: 'f32', access: 'read' },
      { name: 'da', element: f32, access: 'read_write' },
    ],
    params: { rows: 'u32', length: 'u32' },
    workgroup: [lanes, 1, 1],
    body: `
${ROW_MAIN}
${row.read}
  let at = label[row];
  let largest = stats[3u * row];
  let u = stats[3u * row + 2u];
  let e = exp(-abs(u));
  let q = ${of === 'crossEntropy' ? 'select(e, 1.0, u > 0.0) / (1.0 + e)' : '1.0'};
  let wrong = select(dloss[row] * q, 0.0, at >= p.length);
  let others = stats[3u * row + 1u];
  let weight = select(wrong / others, 0.0, others == 0.0);
  ${row.each(
    ({ x, i }) =>
      `da[base + ${i}] = select(weight * exp(min(${x} - largest, ${f32}())), ${f32}(-wrong), ${row.places(i)} == ${u32}(at));`,
  )}
}`,
  };
}
