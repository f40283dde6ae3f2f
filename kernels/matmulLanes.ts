/**
 * Matrix product for narrow subgroups, as Vulkan drivers on a CPU have (8 lanes): fewest loads, whatever their order.
 *
 * Such a driver serves the lanes of a load one by one, bounds check included, which costs as much as forty multiplications
 * of eight numbers; sharing a loaded number between lanes costs next to nothing. So each lane loads one of the next
 * `lanes` elements of every row of A, and shuffles hand them round: per `lanes` steps of K a subgroup loads
 * tileM + lanes * tileN vectors for tileM * tileN * lanes multiplications. A workgroup is one subgroup; its lanes own
 * neighbouring columns of C. Workgroups that share columns of B follow each other, so that those stay in the cache.
 *
 * The order of summation is that of matmulParts.ts; totals stay in memory, where a sum comes once in a chunk.
 */

import type { Kernel } from './kernel.ts';
import {
  epilogueParts,
  FUSION,
  type Fusion,
  fusionName,
  inChunks,
  matmulBases,
  matmulBindings,
  matmulParams,
  prologueParts,
  storeSum,
} from './matmulParts.ts';
import { shipped } from './shipped.ts';
import { count, flag, powerOfTwo, takes, variant } from './variant.ts';

export interface MatmulLanesVariant extends Fusion {
  /** A is stored [K, M] instead of [M, K]. */
  readonly transA: boolean;
  /** B is stored [N, K] instead of [K, N]. */
  readonly transB: boolean;
  readonly tileM: number;
  readonly tileN: number;
  /** Size of every subgroup of the device. */
  readonly lanes: number;
}

const MATMUL_LANES = variant<MatmulLanesVariant>({
  ...FUSION,
  transA: flag,
  transB: flag,
  tileM: count,
  tileN: count,
  lanes: powerOfTwo,
});

const name = (v: MatmulLanesVariant): string =>
  `matmul.lanes${v.lanes}.${v.transA ? 'A' : ''}${v.transB ? 'B' : ''}${v.tileM}x${v.tileN}${fusionName(v)}`;

/** Grid: (ceil(m / tileM), ceil(n / (tileN lanes)), batches). */
export const matmulLanes = shipped(makeMatmulLanes, takes('matmulLanes', ['variant', MATMUL_LANES]), name);

function makeMatmulLanes(v: MatmulLanesVariant): Kernel {
  const { tileM, tileN, lanes } = v;
  const rows = [...Array(tileM).keys()];
  const prologue = prologueParts(v.prologue, v.transA);
  const columns = [...Array(tileN).keys()];
  const aAt = (m: number): string => (v.transA ? `ra${m} + at * p.lda` : `ra${m} + at`);
  const bAt = (j: number): string => (v.transB ? `rb${j} + k` : `rb${j} + k * p.ldb`);
  const cells = rows.flatMap((m) =>
    columns.map((j) => ({ sum: `c${m}_${j}`, total: `done[${m * tileN + j}]` })),
  );
  const column = (j: number): string => `col0 + ${j * lanes}u`;
  return {
    name: name(v),
    enable: ['subgroups'],
    bindings: matmulBindings('f32', 'f32', 'f32', v),
    params: matmulParams(v),
    workgroup: [lanes, 1, 1],
    body: `
${epilogueParts(v.epilogue, false).declarations}
var<private> done: array<f32, ${tileM * tileN}>;
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lane: u32) {
  let row0 = wid.x * ${tileM}u;
  let col0 = wid.y * ${tileN * lanes}u + lane;
  ${matmulBases('wid.z')}
  ${rows.map((m) => `let ra${m} = a_base + min(row0 + ${m}u, p.m - 1u)${v.transA ? '' : ' * p.lda'};`).join('\n  ')}
  ${columns.map((j) => `let rb${j} = b_base + min(${column(j)}, p.n - 1u)${v.transB ? ' * p.ldb' : ''};`).join('\n  ')}
  ${rows.flatMap((m) => prologue.row(m, `min(row0 + ${m}u, p.m - 1u)`)).join('\n  ')}
  ${
    v.accumulate || v.resume
      ? `for (var i = 0u; i < ${tileM * tileN}u; i++) {
    done[i] = c[c_base + min(row0 + i / ${tileN}u, p.m - 1u) * p.ldc + min(col0 + i % ${tileN}u * ${lanes}u, p.n - 1u)];
  }`
      : ''
  }
  ${cells.map(({ sum, total }) => `var ${sum} = ${v.resume ? `${total}; ${total} = 0.0` : '0.0'};`).join('\n  ')}
  ${inChunks(
    cells,
    'f32',
    `for (var k0 = first; k0 < end; k0 += ${lanes}u) {
    let at = min(k0 + lane, p.k - 1u);
    ${[...prologue.column(0, 'at'), ...rows.map((m) => `let a${m} = ${prologue.load(`a[${aAt(m)}]`, m, 0)};`)].join('\n    ')}
    let steps = min(${lanes}u, end - k0);
    for (var step = 0u; step < steps; step++) {
      let k = k0 + step;
      ${columns.map((j) => `let b${j} = b[${bAt(j)}];`).join('\n      ')}
      ${rows
        .flatMap((m) => [
          `let s${m} = subgroupShuffle(a${m}, step);`,
          ...columns.map((j) => `c${m}_${j} = fma(s${m}, b${j}, c${m}_${j});`),
        ])
        .join('\n      ')}
    }
  }`,
  )}
  // A loop: such a driver writes each store out for every lane, which takes it longer to compile than all the rest.
  for (var i = 0u; i < ${tileM * tileN}u; i++) {
    let row = row0 + i / ${tileN}u;
    let column = col0 + i % ${tileN}u * ${lanes}u;
    if (row < p.m && column < p.n) { ${storeSum('done[i]', 'c_base + row * p.ldc + column', 'column', v, false)} }
  }
}`,
  };
}
