/**
 * Matrix product C = op(A) op(B) (+ bias), batched, in all transpositions: register tiles without workgroup memory.
 *
 * Each invocation owns TM x TN outputs and walks over K with four-wide loads where the layout allows (8 x 8 outputs use
 * each loaded value eight times). Every output is one chain acc = fma(a, b, acc) over k ascending, whatever the tile,
 * the workgroup or the load width: results do not depend on the batch a row rides in, bit for bit.
 *
 * The weight side B may be stored as 16-bit numbers, two a word, or quantised (quantise.ts), widened while loading; accumulation is f32 always.
 */

import { F16_BITS, type HalfFormat } from './copy.ts';
import { type Kernel, memo } from './kernel.ts';
import { dequantise4, isQuantised, QUANTISED_GROUP, type WeightFormat } from './quantise.ts';

export interface MatmulVariant {
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
  readonly bias: boolean;
  /** C += instead of C =, for a K axis cut into windows. */
  readonly accumulate: boolean;
  /** How B is stored; all but f32 need vectorB. */
  readonly weight: WeightFormat;
}

const flag = (on: boolean, letter: string): string => (on ? letter : '');

const name = (v: MatmulVariant): string =>
  `matmul.${v.weight}.${flag(v.transA, 'A')}${flag(v.transB, 'B')}${flag(v.vectorA, 'a')}${flag(v.vectorB, 'b')}${flag(v.vectorC, 'c')}${flag(v.bias, '+')}${flag(v.accumulate, '=')}${flag(v.tail, 't')}.${v.tileM}x${v.tileN}.${v.groupM}x${v.groupN}`;

/**
 * Parameters: m, n, k; strides of one batch in elements (0 repeats that operand); leading sizes of A and C and first
 * elements a_first, c_first, so that A and C can be windows of wider matrices. Grid: (ceil(n / (tileN groupN)), ceil(m / (tileM groupM)), batches).
 */
export const matmul = memo((v: MatmulVariant): Kernel => {
  const { tileM, tileN } = v;
  const rows = [...Array(tileM).keys()];
  const columnQuads = [...Array(tileN / 4).keys()];
  const xyzw = 'xyzw';
  const quantised = isQuantised(v.weight);
  // Quantised rows are filled up to whole groups.
  const ldb = (length: string): string =>
    quantised
      ? `((${length} + ${QUANTISED_GROUP - 1}u) / ${QUANTISED_GROUP}u * ${QUANTISED_GROUP}u)`
      : length;
  /** Four neighbouring elements of B, the number of the quad given. */
  const bLoad = (at: string): string =>
    quantised ? `dequantise4(${at})` : v.weight === 'f32' ? `b[${at}]` : `widen4(b[${at}])`;
  // Operands contiguous along K are loaded four-wide along K, which needs rows that start at multiples of 4.
  const alongK = { a: v.vectorA && !v.transA, b: v.vectorB && v.transB };
  if (v.tail && (alongK.a || alongK.b)) throw new Error('matmul: a K with a tail cannot be loaded four-wide');

  const setup: string[] = [];
  if (!v.transA)
    for (const m of rows)
      setup.push(`let ra${m} = (a_base + min(row0 + ${m}u, p.m - 1u) * p.lda)${alongK.a ? ' / 4u' : ''};`);
  else if (v.vectorA && tileM >= 4)
    for (let q = 0; q < tileM / 4; q++)
      setup.push(`let ca${q} = (a_base + min(row0 + ${4 * q}u, p.m - 4u)) / 4u;`);
  else for (const m of rows) setup.push(`let ca${m} = a_base + min(row0 + ${m}u, p.m - 1u);`);
  if (v.transB)
    for (let c = 0; c < tileN; c++)
      setup.push(
        `let rb${c} = (b_base + min(col0 + ${c}u, p.n - 1u) * ${ldb('p.k')})${alongK.b ? ' / 4u' : ''};`,
      );
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
      for (const m of rows) lines.push(`let a${m} = a[ra${m} + k / 4u];`);
      aValue = (m, step) => `a${m}.${xyzw[step]}`;
    } else if (v.transA && v.vectorA && tileM >= 4) {
      for (let q = 0; q < tileM / 4; q++)
        for (const s of steps) lines.push(`let a${q}_${s} = a[ca${q} + (k + ${s}u) * (p.lda / 4u)];`);
      aValue = (m, step) => `a${m >> 2}_${step}.${xyzw[m & 3]}`;
    } else {
      for (const m of rows)
        for (const s of steps) {
          const at = v.transA ? `ca${m} + (k + ${s}u) * p.lda` : `ra${m} + k + ${s}u`;
          lines.push(`let a${m}_${s} = ${v.vectorA ? `a[(${at}) / 4u][(${at}) % 4u]` : `a[${at}]`};`);
        }
      aValue = (m, step) => `a${m}_${step}`;
    }
    // B: b{quad}_{step} is a vec4f of four neighbouring columns at one k.
    if (alongK.b) for (let c = 0; c < tileN; c++) lines.push(`let bt${c} = ${bLoad(`rb${c} + k / 4u`)};`);
    for (const q of columnQuads)
      for (const s of steps) {
        const lane = (j: number): string => {
          const c = 4 * q + j;
          if (alongK.b) return `bt${c}.${xyzw[s]}`;
          return v.transB ? `b[rb${c} + k + ${s}u]` : `b[cb${c} + (k + ${s}u) * p.n]`;
        };
        lines.push(
          !v.transB && v.vectorB
            ? `let b${q}_${s} = ${bLoad(`cb${q} + (k + ${s}u) * (${ldb('p.n')} / 4u)`)};`
            : `let b${q}_${s} = vec4f(${[0, 1, 2, 3].map(lane).join(', ')});`,
        );
      }
    for (const s of steps)
      for (const m of rows)
        for (const q of columnQuads)
          lines.push(`c${m}_${q} = fma(vec4f(${aValue(m, s)}), b${q}_${s}, c${m}_${q});`);
    return lines.join('\n    ');
  };

  const store: string[] = [];
  for (const q of columnQuads) {
    const column = `col0 + ${4 * q}u`;
    if (v.vectorC) {
      store.push(`if (${column} < p.n) {`);
      if (v.bias) store.push(`  let s = bias[(${column}) / 4u];`);
      for (const m of rows) {
        const at = `c[(c_base + (row0 + ${m}u) * p.ldc + ${column}) / 4u]`;
        store.push(
          `  if (row0 + ${m}u < p.m) { ${at} = c${m}_${q}${v.bias ? ' + s' : ''}${v.accumulate ? ` + ${at}` : ''}; }`,
        );
      }
      store.push('}');
    } else {
      for (const m of rows)
        for (const j of [0, 1, 2, 3]) {
          const at = `c[c_base + (row0 + ${m}u) * p.ldc + ${column} + ${j}u]`;
          const value = `c${m}_${q}.${xyzw[j]}${v.bias ? ` + bias[${column} + ${j}u]` : ''}${v.accumulate ? ` + ${at}` : ''}`;
          store.push(`if (row0 + ${m}u < p.m && ${column} + ${j}u < p.n) { ${at} = ${value}; }`);
        }
    }
  }
  return {
    name: name(v),
    bindings: [
      { name: 'a', element: v.vectorA ? 'vec4f' : 'f32', access: 'read' },
      {
        name: 'b',
        element: quantised ? 'u32' : v.weight !== 'f32' ? 'vec2u' : v.vectorB ? 'vec4f' : 'f32',
        access: 'read',
      },
      ...(v.bias ? ([{ name: 'bias', element: v.vectorC ? 'vec4f' : 'f32', access: 'read' }] as const) : []),
      { name: 'c', element: v.vectorC ? 'vec4f' : 'f32', access: 'read_write' },
    ],
    params: {
      m: 'u32',
      n: 'u32',
      k: 'u32',
      batch_a: 'u32',
      batch_b: 'u32',
      batch_c: 'u32',
      lda: 'u32',
      ldc: 'u32',
      a_first: 'u32',
      c_first: 'u32',
    },
    workgroup: [v.groupN, v.groupM, 1],
    body: `
${v.weight === 'f16' ? F16_BITS : ''}${isQuantised(v.weight) ? dequantise4(v.weight) : v.weight === 'f32' ? '' : WIDEN4[v.weight]}
fn main(@builtin(global_invocation_id) gid: vec3u) {
  let row0 = gid.y * ${tileM}u;
  let col0 = gid.x * ${tileN}u;
  if (row0 >= p.m || col0 >= p.n) { return; }
  let a_base = p.a_first + gid.z * p.batch_a;
  let b_base = gid.z * p.batch_b;
  let c_base = p.c_first + gid.z * p.batch_c;
  ${setup.join('\n  ')}
  ${rows.flatMap((m) => columnQuads.map((q) => `var c${m}_${q} = vec4f(0.0);`)).join('\n  ')}
  var k = 0u;
  for (; k + 4u <= p.k; k += 4u) {
    ${advance(4)}
  }${
    v.tail
      ? `
  for (; k < p.k; k++) {
    ${advance(1)}
  }`
      : ''
  }
  ${store.join('\n  ')}
}`,
  };
}, name);

/** Four 16-bit numbers, two a word, as f32. */
export const WIDEN4: Record<HalfFormat, string> = {
  f16: `
fn widen4(w: vec2u) -> vec4f {
  return vec4f(bitcast<f32>(widen_bits(w.x & 0xffffu)), bitcast<f32>(widen_bits(w.x >> 16u)),
    bitcast<f32>(widen_bits(w.y & 0xffffu)), bitcast<f32>(widen_bits(w.y >> 16u)));
}`,
  bf16: `
fn widen4(w: vec2u) -> vec4f {
  return bitcast<vec4f>(vec4u(w.x << 16u, w.x & 0xffff0000u, w.y << 16u, w.y & 0xffff0000u));
}`,
};
