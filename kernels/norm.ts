/**
 * Layer norm (Ba et al. 2016) and RMS norm (Zhang & Sennrich 2019) over rows, and their backward passes.
 *
 * One workgroup a row. The variance is the mean of squared deviations in a second sweep, not E[x^2] - E[x]^2, which cancels.
 * The backward recomputes the statistics: cheaper than keeping them. They are written only for what does not read whole
 * rows: the gradients of weight and bias, and products that normalise rows as they load them (matmulParts.ts).
 */

import {
  COLUMN_PARAMS,
  COLUMN_SHARE,
  type ColumnShare,
  columnElement,
  columnShareName,
  reduceDown,
} from './columns.ts';
import type { Kernel } from './kernel.ts';
import { groupReduction, ROW_MAIN } from './reduce.ts';
import { ROW_SHARE, type RowShare, type RowSweep, sweepRow } from './rowSweep.ts';
import { shipped } from './shipped.ts';
import { flag, takes, word } from './variant.ts';

/** `rms1`: an RMS norm that multiplies by 1 + weight (Gemma): weights near 0, which 1 + weight as stored would round. */
export type Norm = 'layer' | 'rms' | 'rms1';
export const NORM = word<Norm>(['layer', 'rms', 'rms1']);
/** The same by what is read of a row's vectors: a layer norm's bias or none. */
export type NormVectors = Norm | 'layer_no_bias';
export const NORM_VECTORS = word<NormVectors>(['layer', 'layer_no_bias', 'rms', 'rms1']);

/** Whether a row's mean is taken off; its statistics depend on nothing else. */
export const isCentred = (kind: NormVectors): boolean => kind === 'layer' || kind === 'layer_no_bias';

/** WGSL of the factor that a stored weight stands for. */
export const normFactor = (kind: NormVectors, weight: string): string =>
  kind === 'rms1' ? `(1.0 + ${weight})` : weight;

/** WGSL that leaves the `mean` (0 for RMS) of the row's elements `x`. */
const mean = (kind: NormVectors, { type, each, sum }: RowSweep<'x'>): string =>
  isCentred(kind)
    ? `var all = ${type.f32}();
  ${each(({ x }) => `all += ${x};`)}
  let mean = reduce_total(${sum('all')}, lane) / f32(p.length);`
    : 'let mean = 0.0;';

/** The same, and `rstd`. */
const statistics = (kind: NormVectors, row: RowSweep<'x'>): string => `${mean(kind, row)}
  var squares = ${row.type.f32}();
  ${row.each(({ x }) => `{ let d = ${x} - mean; squares += d * d; }`)}
  let rstd = 1.0 / sqrt(reduce_total(${row.sum('squares')}, lane) / f32(p.length) + p.eps);`;

/** y = (a - mean) * rstd * weight + bias (a bias where `kind` has one). Grid: groups, rows. */
export const norm = shipped(makeNorm, takes('norm', ['kind', NORM_VECTORS], ['share', ROW_SHARE]));

function makeNorm(kind: NormVectors, share: RowShare): Kernel {
  const bias = kind === 'layer';
  const row = sweepRow(share, { x: (i) => `a[base + ${i}]` });
  const element = row.type.f32;
  return {
    name: `norm.${kind}.${row.name}`,
    bindings: [
      { name: 'a', element, access: 'read' },
      { name: 'weight', element, access: 'read' },
      ...(bias ? ([{ name: 'bias', element, access: 'read' }] as const) : []),
      { name: 'y', element, access: 'read_write' },
    ],
    params: { rows: 'u32', length: 'u32', eps: 'f32' },
    workgroup: [share.lanes, 1, 1],
    body: `
${groupReduction('total', 'u + v', share.lanes)}
${ROW_MAIN}
${row.read}
  ${statistics(kind, row)}
  ${row.each(({ x, i }) => `y[base + ${i}] = (${x} - mean) * rstd * ${normFactor(kind, `weight[${i}]`)}${bias ? ` + bias[${i}]` : ''};`)}
}`,
  };
}

/**
 * Cotangent of a: rstd (g - mean(g) - xhat mean(g xhat)) with g = dy * weight; RMS without mean(g).
 * Grid: groups, rows.
 */
export const normBackward = shipped(
  makeNormBackward,
  takes('normBackward', ['kind', NORM], ['share', ROW_SHARE]),
);

function makeNormBackward(kind: Norm, share: RowShare): Kernel {
  const layer = isCentred(kind);
  const row = sweepRow(share, {
    x: (i) => `a[base + ${i}]`,
    g: (i) => `dy[base + ${i}] * ${normFactor(kind, `weight[${i}]`)}`,
  });
  const element = row.type.f32;
  return {
    name: `norm_backward.${kind}.${row.name}`,
    bindings: [
      { name: 'a', element, access: 'read' },
      { name: 'weight', element, access: 'read' },
      { name: 'dy', element, access: 'read' },
      { name: 'da', element, access: 'read_write' },
    ],
    params: { rows: 'u32', length: 'u32', eps: 'f32' },
    workgroup: [share.lanes, 1, 1],
    body: `
${layer ? groupReduction('total', 'u + v', share.lanes) : ''}
${groupReduction('totals', 'u + v', share.lanes, 'vec4f')}
${ROW_MAIN}
${row.read}
  ${mean(kind, row)}
  var squares = ${element}();
  var along = ${element}();
  var level = ${element}();
  ${row.each(({ x, g }) => `{ let d = ${x} - mean; let gi = ${g}; squares += d * d; along += gi * d; level += gi; }`)}
  let sums = vec4f(${row.sum('squares')}, ${row.sum('along')}, ${row.sum('level')}, 0.0);
  let means = reduce_totals(sums, lane) / f32(p.length);
  let rstd = 1.0 / sqrt(means.x + p.eps);
  let mean_along = means.y * rstd;
  let mean_g = ${layer ? 'means.z' : '0.0'};
  ${row.each(({ x, g, i }) => `da[base + ${i}] = rstd * (${g} - mean_g - (${x} - mean) * rstd * mean_along);`)}
}`,
  };
}

/** Mean (0 for RMS) and rstd of each row, those of {@link norm}, to statistics[first + row]. Grid: groups, rows. */
export const normStatistics = shipped(
  makeNormStatistics,
  takes('normStatistics', ['kind', word(['layer', 'rms'])], ['share', ROW_SHARE]),
);

function makeNormStatistics(kind: 'layer' | 'rms', share: RowShare): Kernel {
  const row = sweepRow(share, { x: (i) => `a[base + ${i}]` });
  return {
    name: `norm_statistics.${kind}.${row.name}`,
    bindings: [
      { name: 'a', element: row.type.f32, access: 'read' },
      { name: 'statistics', element: 'vec2f', access: 'read_write' },
    ],
    params: { rows: 'u32', length: 'u32', eps: 'f32', first: 'u32' },
    workgroup: [share.lanes, 1, 1],
    body: `
${groupReduction('total', 'u + v', share.lanes)}
${ROW_MAIN}
${row.read}
  ${statistics(kind, row)}
  if (lane == 0u) { statistics[p.first + row] = vec2f(mean, rstd); }
}`,
  };
}

/**
 * Cotangents of weight and, with `bias`, bias: sums of dy (a - mean) rstd and of dy over the rows of each slice, to
 * [slices, inner]. Row r's {@link normStatistics} are statistics[first + r]. Grid as reduceColumns, `outer` 1.
 */
export const normParameters = shipped(
  makeNormParameters,
  takes('normParameters', ['bias', flag], ['share', COLUMN_SHARE], ['accumulate', flag]),
);

function makeNormParameters(bias: boolean, share: ColumnShare, accumulate: boolean): Kernel {
  const element = columnElement(share);
  const results = { weight: 'dweight', ...(bias ? { bias: 'dbias' } : {}) };
  return {
    name: `norm_parameters.${Object.keys(results).join('_')}.${columnShareName(share, accumulate)}`,
    bindings: [
      { name: 'a', element, access: 'read' },
      { name: 'dy', element, access: 'read' },
      { name: 'statistics', element: 'vec2f', access: 'read' },
      ...Object.values(results).map((name) => ({ name, element, access: 'read_write' }) as const),
    ],
    params: { ...COLUMN_PARAMS, first: 'u32' },
    workgroup: [share.rowLanes * share.columnLanes, 1, 1],
    body: reduceDown(
      share,
      'sum',
      accumulate,
      results,
      `let s = statistics[p.first + r]; let g = dy[i]; weight += g * ((a[i] - s.x) * s.y);${bias ? ' bias += g;' : ''}`,
    ),
  };
}
