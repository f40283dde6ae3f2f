/**
 * Matrix product on matrix units (`chromium-experimental-subgroup-matrix`): 16-bit factors, 32-bit sums.
 *
 * A workgroup of four subgroups owns a block of C. Slabs of A and B are rounded to f16 on their way into workgroup
 * memory (filled up with zeros beyond the edges), and each subgroup multiplies its quarter, 2 x 2 matrices of the unit.
 *
 * `split` gives nearly f32's accuracy on units that know f16 only: a = hi + lo / 2048 with hi = f16(a) and lo = f16 of
 * 2048 times the rest, so that hi and lo together hold 22 bits of a. Then a b = hi hi' + (hi lo' + lo hi') / 2048, three
 * products, the small ones summed apart (Ootomo & Yokota 2022, "Recovering single precision accuracy from Tensor
 * Cores"). Factors beyond 65504 become infinite, and those below 2^-14 lose bits.
 *
 * The unit sums in an order of its own, the same for every row: a row still gives the same bits in any batch, but not
 * the bits of the f32 kernels. So this runs only where it is asked for (`precision`).
 */

import type { Kernel } from './kernel.ts';
import {
  epilogueParts,
  FUSION,
  type Fusion,
  fusionName,
  matmulBases,
  matmulBindings,
  matmulParams,
  prologueParts,
  storeSum,
} from './matmulParts.ts';
import { shipped } from './shipped.ts';
import { count, flag, powerOfTwo, takes, variant } from './variant.ts';

export interface MatmulUnitsVariant extends Fusion {
  /** A is stored [K, M] instead of [M, K]. */
  readonly transA: boolean;
  /** B is stored [N, K] instead of [K, N]. */
  readonly transB: boolean;
  /** The unit's matrices: [M, K] times [K, N]. */
  readonly unitM: number;
  readonly unitN: number;
  readonly unitK: number;
  /** Invocations of a subgroup. */
  readonly lanes: number;
  readonly split: boolean;
}

const MATMUL_UNITS = variant<MatmulUnitsVariant>({
  ...FUSION,
  transA: flag,
  transB: flag,
  unitM: count,
  unitN: count,
  unitK: count,
  lanes: powerOfTwo,
  split: flag,
});

/** Rows and columns of C that a workgroup owns: 2 x 2 subgroups of 2 x 2 matrices. */
export const unitsBlock = (v: Pick<MatmulUnitsVariant, 'unitM' | 'unitN'>): [number, number] => [
  4 * v.unitM,
  4 * v.unitN,
];

const name = (v: MatmulUnitsVariant): string =>
  `matmul.units${v.split ? '.split' : ''}.${v.transA ? 'A' : ''}${v.transB ? 'B' : ''}${v.unitM}x${v.unitN}x${v.unitK}.${v.lanes}${fusionName(v)}`;

/** Parameters as of all products. Grid: (ceil(n / block columns), ceil(m / block rows), batches). */
export const matmulUnits = shipped(makeMatmulUnits, takes('matmulUnits', ['variant', MATMUL_UNITS]), name);

function makeMatmulUnits(v: MatmulUnitsVariant): Kernel {
  const { unitM, unitN, unitK } = v;
  const [blockM, blockN] = unitsBlock(v);
  const invocations = 4 * v.lanes;
  const two = [0, 1];
  const parts = v.split ? ['hi', 'lo'] : ['hi'];
  const sums = v.split ? ['sum', 'small'] : ['sum'];
  const left = `subgroup_matrix_left<f16, ${unitK}, ${unitM}>`;
  const right = `subgroup_matrix_right<f16, ${unitN}, ${unitK}>`;
  const result = `subgroup_matrix_result<f32, ${unitN}, ${unitM}>`;

  const prologue = prologueParts(v.prologue, v.transA);

  /**
   * Fetches a slab of one operand, rounded: `x` is the row of A (column of B), `d` the place along K; `value` is an
   * expression after the statements `before`.
   */
  const fetch = (
    slab: string,
    width: number,
    turned: boolean,
    value: string,
    inside: string,
    at: string,
    before: readonly string[] = [],
  ): string => {
    const [x, d] = turned ? [`i % ${width}u`, `i / ${width}u`] : [`i / ${unitK}u`, `i % ${unitK}u`];
    return `for (var i = local; i < ${width * unitK}u; i += ${invocations}u) {
      let x = ${x};
      let d = ${d};
      ${[...before, ''].join('\n      ')}let value = select(0.0, ${value}, ${inside} && k0 + d < p.k);
      let hi = f16(value);
      ${slab}_hi[${at}] = hi;${v.split ? `\n      ${slab}_lo[${at}] = f16((value - f32(hi)) * 2048.0);` : ''}
    }`;
  };
  const aAt = v.transA ? '(k0 + d) * p.lda + min(row, p.m - 1u)' : 'min(row, p.m - 1u) * p.lda + k0 + d';
  const bAt = v.transB
    ? 'min(column, p.n - 1u) * p.ldb + k0 + d'
    : '(k0 + d) * p.ldb + min(column, p.n - 1u)';
  const multiply = (sum: string, a: string, b: string): string =>
    two
      .flatMap((i) =>
        two.map(
          (j) => `${sum}${i}${j} = subgroupMatrixMultiplyAccumulate(a_${a}${i}, b_${b}${j}, ${sum}${i}${j});`,
        ),
      )
      .join('\n    ');
  // Windows of K are added one by one.
  const total = `${v.accumulate || v.resume ? 'c[c_base + row * p.ldc + column] + ' : ''}${v.split ? '(c_sum[i] + c_small[i] / 2048.0)' : 'c_sum[i]'}`;
  return {
    name: name(v),
    enable: ['f16', 'subgroups', 'chromium_experimental_subgroup_matrix'],
    // The number of a subgroup is the same for all its invocations, which the compiler cannot know.
    off: ['chromium.subgroup_matrix_uniformity'],
    bindings: matmulBindings('f32', 'f32', 'f32', v),
    params: matmulParams(v),
    workgroup: [invocations, 1, 1],
    body: `
${epilogueParts(v.epilogue, false).declarations}
${parts.map((part) => `var<workgroup> a_${part}: array<f16, ${blockM * unitK}>;\nvar<workgroup> b_${part}: array<f16, ${blockN * unitK}>;`).join('\n')}
${sums.map((sum) => `var<workgroup> c_${sum}: array<f32, ${4 * unitM * unitN}>;`).join('\n')}
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) local: u32) {
  let row0 = wid.y * ${blockM}u;
  let col0 = wid.x * ${blockN}u;
  let across = local / ${v.lanes}u % 2u;
  let down = local / ${2 * v.lanes}u;
  ${matmulBases('wid.z')}
  ${sums.flatMap((sum) => two.flatMap((i) => two.map((j) => `var ${sum}${i}${j}: ${result};`))).join('\n  ')}
  for (var k0 = 0u; k0 < p.k; k0 += ${unitK}u) {
    ${fetch(
      'a',
      blockM,
      v.transA,
      prologue.load(`a[a_base + ${aAt.replace('row', 'row0 + x')}]`, 0, 0),
      'row0 + x < p.m',
      `x * ${unitK}u + d`,
      [...prologue.row(0, 'min(row0 + x, p.m - 1u)'), ...prologue.column(0, 'min(k0 + d, p.k - 1u)')],
    )}
    ${fetch('b', blockN, !v.transB, `b[b_base + ${bAt.replace('column', 'col0 + x')}]`, 'col0 + x < p.n', `d * ${blockN}u + x`)}
    workgroupBarrier();
    ${parts
      .flatMap((part) =>
        two.flatMap((i) => [
          `let a_${part}${i} = subgroupMatrixLoad<${left}, row_major>(&a_${part}, (down * 2u + ${i}u) * ${unitM * unitK}u, ${unitK}u);`,
          `let b_${part}${i} = subgroupMatrixLoad<${right}, row_major>(&b_${part}, (across * 2u + ${i}u) * ${unitN}u, ${blockN}u);`,
        ]),
      )
      .join('\n    ')}
    ${multiply('sum', 'hi', 'hi')}
    ${v.split ? `${multiply('small', 'hi', 'lo')}\n    ${multiply('small', 'lo', 'hi')}` : ''}
    workgroupBarrier();
  }
  ${two
    .flatMap((i) =>
      two.map(
        (j) => `// Through workgroup memory: the elements of a matrix cannot be reached otherwise.
  ${sums.map((sum) => `subgroupMatrixStore<row_major>(&c_${sum}, local / ${v.lanes}u * ${unitM * unitN}u, ${sum}${i}${j}, ${unitN}u);`).join('\n  ')}
  workgroupBarrier();
  for (var i = local; i < ${4 * unitM * unitN}u; i += ${invocations}u) {
    let subgroup = i / ${unitM * unitN}u;
    let row = row0 + (subgroup / 2u * 2u + ${i}u) * ${unitM}u + i / ${unitN}u % ${unitM}u;
    let column = col0 + (subgroup % 2u * 2u + ${j}u) * ${unitN}u + i % ${unitN}u;
    if (row < p.m && column < p.n) { ${storeSum(total, 'c_base + row * p.ldc + column', 'column', v, false)} }
  }
  workgroupBarrier();`,
      ),
    )
    .join('\n  ')}
}`,
  };
}
