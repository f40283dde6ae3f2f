/**
 * Matrix product C = op(A) op(B) (+ bias), batched, in all transpositions: register tiles without workgroup memory.
 *
 * Each invocation owns TM x TN outputs and walks over K with four-wide loads where the layout allows (8 x 8 outputs use
 * each loaded value eight times). Runs everywhere; the order of summation is that of matmulParts.ts.
 *
 * The weight side B may be stored as 16-bit numbers, two a word, or quantised (quantise.ts), widened while loading; accumulation is f32 always.
 */

import { KernelError } from './errors.ts';
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
import { READ, type ReadFormat } from './packing.ts';
import { shipped } from './shipped.ts';
import { count, flag, takes, variant, word } from './variant.ts';

export interface MatmulVariant extends Fusion {
  /** A is stored [K, M] instead of [M, K]. */
  readonly transA: boolean;
  /** B is stored [N, K] instead of [K, N]. */
  readonly transB: boolean;
  /** Four-wide loads of A, of B and stores of C: their contiguous axis is a multiple of 4. */
  readonly vectorA: boolean;
  readonly vectorB: boolean;
  readonly vectorC: boolean;
  /** K is not a multiple of 4: up to three single steps follow the loop of four. Then no operand is loaded four-wide along K. */
  readonly tail: boolean;
  readonly tileM: 1 | 2 | 4 | 8;
  readonly tileN: 4 | 8;
  readonly groupM: number;
  readonly groupN: number;
  /** How B is stored; all but f32 need vectorB. */
  readonly weight: ReadFormat;
}

const MATMUL = variant<MatmulVariant>({
  ...FUSION,
  transA: flag,
  transB: flag,
  vectorA: flag,
  vectorB: flag,
  vectorC: flag,
  tail: flag,
  tileM: word([1, 2, 4, 8]),
  tileN: word([4, 8]),
  groupM: count,
  groupN: count,
  weight: READ,
});

const mark = (on: boolean, letter: string): string => (on ? letter : '');

const name = (v: MatmulVariant): string =>
  `matmul.${v.weight}.${mark(v.transA, 'A')}${mark(v.transB, 'B')}${mark(v.vectorA, 'a')}${mark(v.vectorB, 'b')}${mark(v.vectorC, 'c')}${mark(v.tail, 't')}.${v.tileM}x${v.tileN}.${v.groupM}x${v.groupN}${fusionName(v)}`;

/** Grid: (ceil(n / (tileN groupN)), ceil(m / (tileM groupM)), batches). */
export const matmul = shipped(makeMatmul, takes('matmul', ['variant', MATMUL]), name);

function makeMatmul(v: MatmulVariant): Kernel {
  const { tileM, tileN } = v;
  const rows = [...Array(tileM).keys()];
  const columnQuads = [...Array(tileN / 4).keys()];
  const tile = { rows, columns: columnQuads.map((q) => 4 * q) };
  const xyzw = 'xyzw';
  const { declarations, element, quad } = weightReader(v.weight, v.vectorB);
  // Operands contiguous along K are loaded four-wide along K, which needs rows that start at multiples of 4.
  const alongK = { a: v.vectorA && !v.transA, b: v.vectorB && v.transB };
  if (v.tail && (alongK.a || alongK.b))
    throw new KernelError('matmul', 'a K with a tail cannot be loaded four-wide');

  const prologue = prologueParts(v.prologue, v.transA);
  const setup = rows.flatMap((m) => prologue.row(m, `min(row0 + ${m}u, p.m - 1u)`));
  if (!v.transA)
    for (const m of rows)
      setup.push(`let ra${m} = (a_base + min(row0 + ${m}u, p.m - 1u) * p.lda)${alongK.a ? ' / 4u' : ''};`);
  else if (v.vectorA && tileM >= 4)
    for (let q = 0; q < tileM / 4; q++)
      setup.push(`let ca${q} = (a_base + min(row0 + ${4 * q}u, p.m - 4u)) / 4u;`);
  else for (const m of rows) setup.push(`let ca${m} = a_base + min(row0 + ${m}u, p.m - 1u);`);
  if (v.transB)
    for (let c = 0; c < tileN; c++)
      setup.push(`let rb${c} = (b_base + min(col0 + ${c}u, p.n - 1u) * p.ldb)${alongK.b ? ' / 4u' : ''};`);
  else if (v.vectorB)
    for (const q of columnQuads) setup.push(`let cb${q} = (b_base + min(col0 + ${4 * q}u, p.n - 4u)) / 4u;`);
  else for (let c = 0; c < tileN; c++) setup.push(`let cb${c} = b_base + min(col0 + ${c}u, p.n - 1u);`);

  /** Statements that load `count` steps of K from k on and multiply them in. */
  const advance = (count: 1 | 4): string => {
    const steps = [...Array(count).keys()];
    const lines: string[] = [];
    // A: a_value(m, step) is the expression of one element.
    let aValue: (m: number, step: number) => string;
    if (alongK.a) {
      lines.push(...prologue.column(0, 'k / 4u'));
      for (const m of rows) lines.push(`let a${m} = ${prologue.load(`a[ra${m} + k / 4u]`, m, 0)};`);
      aValue = (m, step) => `a${m}.${xyzw[step]}`;
    } else if (v.transA && v.vectorA && tileM >= 4) {
      for (let q = 0; q < tileM / 4; q++)
        for (const s of steps) lines.push(`let a${q}_${s} = a[ca${q} + (k + ${s}u) * (p.lda / 4u)];`);
      aValue = (m, step) => `a${m >> 2}_${step}.${xyzw[m & 3]}`;
    } else {
      for (const s of steps) lines.push(...prologue.column(s, `k + ${s}u`));
      for (const m of rows)
        for (const s of steps) {
          const at = v.transA ? `ca${m} + (k + ${s}u) * p.lda` : `ra${m} + k + ${s}u`;
          const value = v.vectorA ? `a[(${at}) / 4u][(${at}) % 4u]` : `a[${at}]`;
          lines.push(`let a${m}_${s} = ${prologue.load(value, m, s)};`);
        }
      aValue = (m, step) => `a${m}_${step}`;
    }
    // B: b{quad}_{step} is a vec4f of four neighbouring columns at one k.
    if (alongK.b) for (let c = 0; c < tileN; c++) lines.push(`let bt${c} = ${quad(`rb${c} + k / 4u`)};`);
    for (const q of columnQuads)
      for (const s of steps) {
        const lane = (j: number): string => {
          const c = 4 * q + j;
          if (alongK.b) return `bt${c}.${xyzw[s]}`;
          return v.transB ? `b[rb${c} + k + ${s}u]` : `b[cb${c} + (k + ${s}u) * p.ldb]`;
        };
        lines.push(
          !v.transB && v.vectorB
            ? `let b${q}_${s} = ${quad(`cb${q} + (k + ${s}u) * (p.ldb / 4u)`)};`
            : `let b${q}_${s} = vec4f(${[0, 1, 2, 3].map(lane).join(', ')});`,
        );
      }
    for (const s of steps)
      for (const m of rows)
        for (const q of columnQuads)
          lines.push(`c${m}_${q} = fma(vec4f(${aValue(m, s)}), b${q}_${s}, c${m}_${q});`);
    return lines.join('\n    ');
  };

  return {
    name: name(v),
    bindings: matmulBindings(v.vectorA ? 'vec4f' : 'f32', element, v.vectorC ? 'vec4f' : 'f32', v),
    params: matmulParams(v),
    workgroup: [v.groupN, v.groupM, 1],
    body: `
${declarations}${epilogueParts(v.epilogue, v.vectorC).declarations}
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let row0 = gid.y * ${tileM}u;
  let col0 = gid.x * ${tileN}u;
  if (row0 >= p.m || col0 >= p.n) { return; }
  ${matmulBases('gid.z')}
  ${setup.join('\n  ')}
  ${openTile(tile, v.vectorC, v)}
  ${inChunks(
    tileSums(tile),
    'vec4f',
    `var k = first;
    for (; k + 4u <= end; k += 4u) {
    ${advance(4)}
    }${
      v.tail
        ? `
    for (; k < end; k++) {
    ${advance(1)}
    }`
        : ''
    }`,
  )}
  ${storeTile(tile, v.vectorC, v)}
}`,
  };
}
