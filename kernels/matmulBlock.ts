/**
 * Matrix product through workgroup memory, for GPUs: a workgroup owns a block of C and walks over K in slabs; its
 * invocations fetch a slab of A and of B together, in whole lines of memory, and each multiplies its own register tile
 * out of it. Every number is fetched once for a block instead of once for a tile.
 *
 * A slab lies in workgroup memory K-major, in quads of neighbouring rows of A (columns of B), so that a register tile is
 * read four-wide whatever the layout outside; operands that are contiguous along K are turned on the way in, four by
 * four in registers. Blocks of few rows serve decoding: fetching the weights together is what they need.
 *
 * The order of summation is that of matmulParts.ts. Both operands are read four-wide along their contiguous axis.
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
  openTile,
  prologueParts,
  storeTile,
  tileSums,
  weightReader,
} from './matmulParts.ts';
import { WEIGHT, type WeightFormat } from './packing.ts';
import { shipped } from './shipped.ts';
import { count, flag, takes, variant } from './variant.ts';

export interface MatmulBlockVariant extends Fusion {
  /** A is stored [K, M] instead of [M, K]. */
  readonly transA: boolean;
  /** B is stored [N, K] instead of [K, N]. */
  readonly transB: boolean;
  /** Four-wide stores of C. */
  readonly vectorC: boolean;
  /** Rows, columns and depth of a slab: multiples of 4. */
  readonly blockM: number;
  readonly blockN: number;
  readonly blockK: number;
  /** Outputs of one invocation; tileM 1, 2 or a multiple of 4, tileN a multiple of 4. */
  readonly tileM: number;
  readonly tileN: number;
  readonly weight: WeightFormat;
}

const MATMUL_BLOCK = variant<MatmulBlockVariant>({
  ...FUSION,
  transA: flag,
  transB: flag,
  vectorC: flag,
  blockM: count,
  blockN: count,
  blockK: count,
  tileM: count,
  tileN: count,
  weight: WEIGHT,
});

const name = (v: MatmulBlockVariant): string =>
  `matmul.block.${v.weight}.${v.transA ? 'A' : ''}${v.transB ? 'B' : ''}${v.vectorC ? 'c' : ''}.${v.blockM}x${v.blockN}x${v.blockK}.${v.tileM}x${v.tileN}${fusionName(v)}`;

/** Parameters as of all products. Grid: (ceil(n / blockN), ceil(m / blockM), batches). */
export const matmulBlock = shipped(makeMatmulBlock, takes('matmulBlock', ['variant', MATMUL_BLOCK]), name);

function makeMatmulBlock(v: MatmulBlockVariant): Kernel {
  const { blockM, blockN, blockK, tileM, tileN } = v;
  const across = blockN / tileN;
  const invocations = across * (blockM / tileM);
  const rows = [...Array(tileM).keys()];
  const quads = [...Array(tileN / 4).keys()];
  const steps = [0, 1, 2, 3];
  const reader = weightReader(v.weight, true);
  const prologue = prologueParts(v.prologue, v.transA);

  /**
   * Fetches a slab of one operand, `width` rows (columns) from `first` of `size`, a quad by a quad at each turn. `load` is
   * the expression of four numbers of the quad's i-th line, after the statements `before`.
   */
  const fetch = (
    slab: string,
    width: number,
    alongK: boolean,
    [first, size, base, leading]: readonly [string, string, string, string],
    load: (at: string, i: number) => string,
    before: readonly string[] = [],
  ): string => {
    const across = width / 4;
    const depth = blockK / 4;
    const at = alongK
      ? steps.map(
          (i) =>
            `(${base} + min(${first} + 4u * q + ${i}u, ${size} - 1u) * ${leading} + min(k0 + 4u * d, p.k - 4u)) / 4u`,
        )
      : steps.map(
          (s) =>
            `(${base} + min(k0 + 4u * d + ${s}u, p.k - 1u) * ${leading} + min(${first} + 4u * q, ${size} - 4u)) / 4u`,
        );
    return `for (var i = at; i < ${across * depth}u; i += ${invocations}u) {
      let q = i ${alongK ? `/ ${depth}u` : `% ${across}u`};
      let d = i ${alongK ? `% ${depth}u` : `/ ${across}u`};
      ${[...before, ...steps.map((i) => `let v${i} = ${load(at[i]!, i)};`)].join('\n      ')}
      ${steps
        .map((s) => {
          const value = alongK ? `vec4f(${steps.map((i) => `v${i}.${'xyzw'[s]}`).join(', ')})` : `v${s}`;
          return `${slab}[(4u * d + ${s}u) * ${across}u + q] = ${value};`;
        })
        .join('\n      ')}
    }`;
  };
  const aRow = (m: number): string =>
    tileM % 4 === 0
      ? `a${m >> 2}.${'xyzw'[m & 3]}`
      : `a_slab[s * ${blockM / 4}u + (row_in + ${m}u) / 4u][(row_in + ${m}u) % 4u]`;
  return {
    name: name(v),
    bindings: matmulBindings('vec4f', reader.element, v.vectorC ? 'vec4f' : 'f32', v),
    params: matmulParams(v),
    workgroup: [invocations, 1, 1],
    body: `
${reader.declarations}${epilogueParts(v.epilogue, v.vectorC).declarations}
var<workgroup> a_slab: array<vec4f, ${(blockM * blockK) / 4}>;
var<workgroup> b_slab: array<vec4f, ${(blockN * blockK) / 4}>;
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) at: u32) {
  let first_row = wid.y * ${blockM}u;
  let first_column = wid.x * ${blockN}u;
  let row_in = at / ${across}u * ${tileM}u;
  let column_in = at % ${across}u * ${tileN}u;
  let row0 = first_row + row_in;
  let col0 = first_column + column_in;
  ${matmulBases('wid.z')}
  ${openTile(rows, quads, v.vectorC, v)}
  ${inChunks(
    tileSums(rows, quads),
    'vec4f',
    `for (var k0 = first; k0 < end; k0 += ${blockK}u) {
    ${fetch(
      'a_slab',
      blockM,
      !v.transA,
      ['first_row', 'p.m', 'a_base', 'p.lda'],
      (at, i) => prologue.load(`a[${at}]`, i, 0),
      [
        ...steps.flatMap((i) => prologue.row(i, `min(first_row + 4u * q + ${i}u, p.m - 1u)`)),
        ...prologue.column(0, 'min(k0 + 4u * d, p.k - 4u) / 4u'),
      ],
    )}
    ${fetch('b_slab', blockN, v.transB, ['first_column', 'p.n', 'b_base', 'p.ldb'], reader.quad)}
    workgroupBarrier();
    let depth = min(${blockK}u, end - k0);
    for (var s = 0u; s < depth; s++) {
      ${
        tileM % 4 === 0
          ? rows
              .filter((m) => m % 4 === 0)
              .map((m) => `let a${m >> 2} = a_slab[s * ${blockM / 4}u + row_in / 4u + ${m >> 2}u];`)
              .join('\n      ')
          : ''
      }
      ${quads.map((q) => `let b${q} = b_slab[s * ${blockN / 4}u + column_in / 4u + ${q}u];`).join('\n      ')}
      ${rows.flatMap((m) => quads.map((q) => `c${m}_${q} = fma(vec4f(${aRow(m)}), b${q}, c${m}_${q});`)).join('\n      ')}
    }
    workgroupBarrier();
  }`,
  )}
  ${storeTile(rows, quads, v.vectorC, v)}
}`,
  };
}
