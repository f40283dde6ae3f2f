/**
 * Layer norm (Ba et al. 2016) and RMS norm (Zhang & Sennrich 2019) over rows, and their backward passes.
 *
 * One workgroup a row. The variance is the mean of squared deviations in a second sweep, not E[x^2] - E[x]^2, which cancels.
 * A row of 768 to 8,192 numbers, 3 to 32 KiB, comes from memory in the first sweep and from cache in the later ones.
 * The backward recomputes the statistics: cheaper than keeping them. They are kept only for products that normalise rows as
 * they load them (matmulParts.ts).
 */

import { type Kernel, memo } from './kernel.ts';
import { groupReduction, ROW_GROUP, ROW_MAIN } from './reduce.ts';

export type Norm = 'layer' | 'rms';

/** WGSL that leaves `mean` (0 for RMS) and `rstd` of the row at `base`. */
const STATISTICS = (norm: Norm, lanes: number): string => `
  ${
    norm === 'layer'
      ? `var sum = 0.0;
  for (var i = lane; i < p.length; i += ${lanes}u) { sum += a[base + i]; }
  let mean = reduce_total(sum, lane) / f32(p.length);`
      : 'let mean = 0.0;'
  }
  var squares = 0.0;
  for (var i = lane; i < p.length; i += ${lanes}u) { let d = a[base + i] - mean; squares += d * d; }
  let rstd = 1.0 / sqrt(reduce_total(squares, lane) / f32(p.length) + p.eps);`;

/** y = (a - mean) * rstd, times weight and plus bias where `affine` (RMS has no bias). Grid: groups, rows. */
export const norm = memo((kind: Norm, affine: boolean, lanes: number = ROW_GROUP): Kernel => {
  const bias = affine && kind === 'layer';
  return {
    name: `norm.${kind}${affine ? '.affine' : ''}.${lanes}`,
    bindings: [
      { name: 'a', element: 'f32', access: 'read' },
      ...(affine ? ([{ name: 'weight', element: 'f32', access: 'read' }] as const) : []),
      ...(bias ? ([{ name: 'bias', element: 'f32', access: 'read' }] as const) : []),
      { name: 'y', element: 'f32', access: 'read_write' },
    ],
    params: { rows: 'u32', length: 'u32', eps: 'f32' },
    workgroup: [lanes, 1, 1],
    body: `
${groupReduction('total', 'u + v', lanes)}
${ROW_MAIN}
  let base = row * p.length;
${STATISTICS(kind, lanes)}
  for (var i = lane; i < p.length; i += ${lanes}u) {
    y[base + i] = (a[base + i] - mean) * rstd${affine ? ' * weight[i]' : ''}${bias ? ' + bias[i]' : ''};
  }
}`,
  };
});

/**
 * Cotangent of a: rstd (g - mean(g) - xhat mean(g xhat)) with g = dy * weight; RMS without mean(g).
 * Grid: groups, rows.
 */
export const normBackward = memo((kind: Norm, lanes: number = ROW_GROUP): Kernel => {
  return {
    name: `norm_backward.${kind}.${lanes}`,
    bindings: [
      { name: 'a', element: 'f32', access: 'read' },
      { name: 'weight', element: 'f32', access: 'read' },
      { name: 'dy', element: 'f32', access: 'read' },
      { name: 'da', element: 'f32', access: 'read_write' },
    ],
    params: { rows: 'u32', length: 'u32', eps: 'f32' },
    workgroup: [lanes, 1, 1],
    body: `
${groupReduction('total', 'u + v', lanes)}
${ROW_MAIN}
  let base = row * p.length;
${STATISTICS(kind, lanes)}
  var along = 0.0;
  ${kind === 'layer' ? 'var level = 0.0;' : ''}
  for (var i = lane; i < p.length; i += ${lanes}u) {
    let g = dy[base + i] * weight[i];
    along += g * (a[base + i] - mean) * rstd;
    ${kind === 'layer' ? 'level += g;' : ''}
  }
  let mean_along = reduce_total(along, lane) / f32(p.length);
  ${kind === 'layer' ? 'let mean_g = reduce_total(level, lane) / f32(p.length);' : 'let mean_g = 0.0;'}
  for (var i = lane; i < p.length; i += ${lanes}u) {
    let g = dy[base + i] * weight[i];
    da[base + i] = rstd * (g - mean_g - (a[base + i] - mean) * rstd * mean_along);
  }
}`,
  };
});

/** Mean (0 for RMS) and rstd of each row, to statistics[first + row]. Grid: groups, rows. */
export const normStatistics = memo(
  (kind: Norm, lanes: number = ROW_GROUP): Kernel => ({
    name: `norm_statistics.${kind}.${lanes}`,
    bindings: [
      { name: 'a', element: 'f32', access: 'read' },
      { name: 'statistics', element: 'vec2f', access: 'read_write' },
    ],
    params: { rows: 'u32', length: 'u32', eps: 'f32', first: 'u32' },
    workgroup: [lanes, 1, 1],
    body: `
${groupReduction('total', 'u + v', lanes)}
${ROW_MAIN}
  let base = row * p.length;
${STATISTICS(kind, lanes)}
  if (lane == 0u) { statistics[p.first + row] = vec2f(mean, rstd); }
}`,
  }),
);
