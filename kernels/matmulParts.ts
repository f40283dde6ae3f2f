/**
 * What all matrix product kernels share: parameters, how a stored weight is read four numbers at a time, what is done to a
 * row of A as it is loaded (the prologue) and to a finished sum before it is stored (the epilogue), and the store of a tile
 * of registers.
 *
 * One order of summation for all of them but those on matrix units (matmulUnits.ts): K in chunks of 256 from 0, each one chain
 * sum = fma(a, b, sum) over k ascending from 0, their sums added one by one, ascending, onto a total that begins at +0. Which
 * kernel runs may therefore depend on anything (rows, device, a measurement) without changing a bit, a row is the same alone and
 * in any batch, and lanes, subgroups and workgroups may share a K: who has a chunk has its sum. Chunks are as long for every K, so
 * that zeros behind change nothing; 256 is a whole number of slabs of every kernel and of groups of quantised weights, and short
 * enough to give a long K to many lanes. The error is smaller than one chain's, too (Higham 1993, "The accuracy of floating point
 * summation").
 *
 * Compilers fold the sum of a chunk into the chain of the total, since WGSL cannot forbid it. So it is sealed before it is added:
 * XOR with `zero`, which is 0 but known to the host alone. \`npm run isa\` sees whether a seal held. A sum that another lane or
 * dispatch reads from memory needs none.
 *
 * Prologues and epilogues are the expressions of the operations they replace, applied to the same rounded numbers.
 */

import {
  ACTIVATION_NAMES,
  ACTIVATIONS,
  type ActivationName,
  activationValue,
  GATED_NAMES,
  type GatedName,
  gateOf,
} from './activation.ts';
import { KernelError } from './errors.ts';
import type { Binding, ScalarType } from './kernel.ts';
import { isCentred, NORM_VECTORS, type NormVectors, normFactor } from './norm.ts';
import { PACKINGS, type ReadFormat } from './packing.ts';
import { flag, optional, word } from './variant.ts';

/** Steps along K whose products are summed in one chain. */
export const CHUNK = 256;

/**
 * m, n, k; strides of one batch in elements (0 repeats that operand); leading sizes, that of B as it is stored, and first elements,
 * so that operands can be windows of wider matrices; zero is 0, which seals the sums of chunks.
 */
export const MATMUL_PARAMS = {
  m: 'u32',
  n: 'u32',
  k: 'u32',
  batch_a: 'u32',
  batch_b: 'u32',
  batch_c: 'u32',
  lda: 'u32',
  ldb: 'u32',
  ldc: 'u32',
  a_first: 'u32',
  b_first: 'u32',
  c_first: 'u32',
  zero: 'u32',
} as const satisfies Record<string, ScalarType>;

/** First elements of the operands of this product of the batch; `z` is its number. Each has a bias of its own. */
export const matmulBases = (z: string): string => `let bias_base = ${z} * p.n;
  let a_base = p.a_first + ${z} * p.batch_a;
  let b_base = p.b_first + ${z} * p.batch_b;
  let c_base = p.c_first + ${z} * p.batch_c;`;

/** A register in which a chunk is summed, and where its sum is added. */
export interface Sum {
  readonly sum: string;
  readonly total: string;
}

/**
 * The walk over K by chunks: `chunk` is the text that adds the products from `first` up to `end`, at most {@link CHUNK} of them, to
 * every sum, which holds 0 before the first.
 */
export function inChunks(sums: readonly Sum[], type: 'f32' | 'vec4f', chunk: string): string {
  const bits = type === 'f32' ? 'u32' : 'vec4u';
  return `for (var turn = 0u; turn < ${2 ** 32 / CHUNK}u; turn++) {
    let first = turn * ${CHUNK}u;
    if (first >= p.k) { break; }
    let end = min(first + ${CHUNK}u, p.k);
    ${chunk}
    ${sums.map(({ sum, total }) => `${total} += bitcast<${type}>(bitcast<${bits}>(${sum}) ^ ${bits}(p.zero)); ${sum} = ${type}(0.0);`).join('\n    ')}
  }`;
}

/** How the array `b` of weights is declared and read; all formats but f32 are read four numbers at a time. */
export interface WeightReader {
  readonly declarations: string;
  readonly element: string;
  /** Expression of four neighbouring numbers, by the number of the quad. */
  readonly quad: (at: string) => string;
}

export function weightReader(weight: ReadFormat, vector: boolean): WeightReader {
  if (weight === 'f32')
    return {
      declarations: '',
      element: vector ? 'vec4f' : 'f32',
      quad: (at) => `b[${at}]`,
    };
  const { group, words, declarations, quad } = PACKINGS[weight];
  const whole = group === 4;
  return {
    declarations: `${declarations}
fn weight4(at: u32) -> vec4f {
  ${
    whole
      ? `let block = b[at];
  return ${quad((i) => `block[${i}]`, '0u')};`
      : `let first = at / ${group / 4}u * ${words}u;
  let q = at % ${group / 4}u;
  return ${quad((i) => `b[first + ${i}]`, 'q')};`
  }
}`,
    element: whole ? `vec${words}u` : 'u32',
    quad: (at) => `weight4(${at})`,
  };
}

/**
 * What is done to a sum (bias included) before it is stored: nothing, an activation, the addition of a residual, or its product
 * with the activation of a gate, as SwiGLU has it. Residual and gate are the binding `extra`, laid out as C.
 */
export type Epilogue = 'none' | 'add' | ActivationName | GatedName;

interface EpilogueParts {
  readonly declarations: string;
  /** Expression of the finished value of `value` (vec4f with `vector`, else f32), stored at c[at]. */
  readonly finish: (value: string, at: string) => string;
}

export function epilogueParts(epilogue: Epilogue = 'none', vector = false): EpilogueParts {
  if (epilogue === 'none') return { declarations: '', finish: (value) => value };
  if (epilogue === 'add') return { declarations: '', finish: (value, at) => `extra[${at}] + (${value})` };
  const gate = gateOf(epilogue);
  const name = gate ?? (epilogue as ActivationName);
  const act = (x: string): string => (vector ? `act4(${x})` : `act4(vec4f(${x})).x`);
  return {
    declarations: `${ACTIVATIONS[name].text.declarations}
fn act4(x: vec4f) -> vec4f { return ${activationValue(name)}; }`,
    finish: (value, at) => (gate ? `${act(`extra[${at}]`)} * (${value})` : act(value)),
  };
}

/** What a kernel does to the rows of A as it loads them, and with its sums. */
export interface Fusion {
  /** The norm that rows of A, which is not transposed, pass through; its statistics are worked out before (norm.ts). */
  readonly prologue?: NormVectors | undefined;
  readonly bias: boolean;
  /** For a K axis cut into windows, without bias, prologue and epilogue: C holds the total of the chunks before. */
  readonly accumulate: boolean;
  /** The same within a chunk: C holds the sum of its products before. */
  readonly resume?: boolean | undefined;
  /** Default: none. */
  readonly epilogue?: Epilogue | undefined;
}

/** Members of a variant, by name. */
export const FUSION = {
  prologue: optional(NORM_VECTORS),
  bias: flag,
  accumulate: flag,
  resume: optional(flag),
  epilogue: optional(word<Epilogue>(['none', 'add', ...ACTIVATION_NAMES, ...GATED_NAMES])),
};

/** Tells variants apart in kernel names. */
export const fusionName = ({ prologue, bias, accumulate, resume, epilogue }: Fusion): string =>
  `${prologue ? `.${prologue}` : ''}${bias ? '+' : ''}${accumulate ? '=' : ''}${resume ? '~' : ''}${epilogue === undefined || epilogue === 'none' ? '' : `.${epilogue}`}`;

/** Parameters of a product; with a prologue also the number of A's first row among those of the statistics. */
export const matmulParams = ({ prologue }: Fusion): Record<string, ScalarType> =>
  prologue ? { ...MATMUL_PARAMS, statistics_first: 'u32' } : MATMUL_PARAMS;

interface PrologueParts {
  /** Statements that fetch mean and rstd of a row of A, known as `m` from then on. */
  readonly row: (m: number, row: string) => string[];
  /** Statements that fetch weight and bias at `at`, known as `k` from then on. */
  readonly column: (k: number, at: string) => string[];
  /** Expression of what becomes of `value`, of row `m` at column `k`: as in norm.ts. */
  readonly load: (value: string, m: number, k: number) => string;
}

/** @param transA for the check only: rows are normalised, and those of a transposed A are columns in memory. */
export function prologueParts(prologue: NormVectors | undefined, transA: boolean): PrologueParts {
  if (!prologue) return { row: () => [], column: () => [], load: (value) => value };
  if (transA) throw new KernelError('matmul', 'a transposed A has no prologue');
  const biased = prologue === 'layer';
  return {
    row: (m, row) => [`let row_norm${m} = statistics[p.statistics_first + ${row}];`],
    column: (k, at) => [
      `let norm_weight${k} = ${normFactor(prologue, `norm_weight[${at}]`)};`,
      ...(biased ? [`let norm_bias${k} = norm_bias[${at}];`] : []),
    ],
    load: (value, m, k) =>
      `${isCentred(prologue) ? `(${value} - row_norm${m}.x)` : value} * row_norm${m}.y * norm_weight${k}${biased ? ` + norm_bias${k}` : ''}`,
  };
}

/** Bindings of a product in order: a, b, and where they are used those of the norm, bias and extra, c. */
export function matmulBindings(
  a: string,
  b: string,
  c: string,
  { prologue, bias, epilogue }: Fusion,
): Binding[] {
  const extra = epilogue === 'add' || gateOf(epilogue ?? 'none') !== undefined;
  return [
    { name: 'a', element: a, access: 'read' },
    { name: 'b', element: b, access: 'read' },
    ...(prologue
      ? ([
          { name: 'statistics', element: 'vec2f', access: 'read' },
          { name: 'norm_weight', element: a, access: 'read' },
        ] as const)
      : []),
    ...(prologue === 'layer' ? ([{ name: 'norm_bias', element: a, access: 'read' }] as const) : []),
    ...(bias ? ([{ name: 'bias', element: c, access: 'read' }] as const) : []),
    ...(extra ? ([{ name: 'extra', element: c, access: 'read' }] as const) : []),
    { name: 'c', element: c, access: 'read_write' },
  ];
}

/** Statement that stores one total: `value` (of type T) at c[at], with the bias at [bias_base + column], in fours with `vector`. */
export function storeSum(value: string, at: string, column: string, fusion: Fusion, vector: boolean): string {
  const sum = `${value}${fusion.bias ? ` + bias[bias_base${vector ? ' / 4u' : ''} + ${column}]` : ''}`;
  return `c[${at}] = ${epilogueParts(fusion.epilogue, vector).finish(sum, at)};`;
}

/** The outputs of an invocation, whose first one is at (row0, col0): sums c{row}_{quad} in registers, and totals. */
export interface Tile {
  /** Rows, and first columns of quads, behind the first. */
  readonly rows: readonly number[];
  readonly columns: readonly number[];
  /** Where a total is kept if not in a register. */
  readonly total?: (row: number, quad: number) => string;
}

const totalOf = ({ total }: Tile, m: number, q: number): string => total?.(m, q) ?? `t${m}_${q}`;

export const tileSums = (tile: Tile): Sum[] =>
  tile.rows.flatMap((_, m) =>
    tile.columns.map((_, q) => ({ sum: `c${m}_${q}`, total: totalOf(tile, m, q) })),
  );

/** Statements that declare sums and totals; `vector` as for C in four-wide loads. */
export function openTile(tile: Tile, vector: boolean, { accumulate, resume }: Fusion): string {
  const stored = (row: number, column: number): string => {
    const line = `c_base + min(row0 + ${row}u, p.m - 1u) * p.ldc`;
    return vector
      ? `c[(${line} + min(col0 + ${column}u, p.n - 4u)) / 4u]`
      : `vec4f(${[0, 1, 2, 3].map((j) => `c[${line} + min(col0 + ${column + j}u, p.n - 1u)]`).join(', ')})`;
  };
  const zero = 'vec4f(0.0)';
  return tile.rows
    .flatMap((row, m) =>
      tile.columns.map(
        (column, q) =>
          `var c${m}_${q} = ${resume ? stored(row, column) : zero}; ${tile.total ? '' : 'var '}${totalOf(tile, m, q)} = ${accumulate ? stored(row, column) : zero};`,
      ),
    )
    .join('\n  ');
}

/** Statements that store the totals. */
export function storeTile(tile: Tile, vector: boolean, fusion: Fusion): string {
  const lines: string[] = [];
  tile.columns.forEach((first, q) => {
    for (const j of vector ? [0] : [0, 1, 2, 3]) {
      const column = `col0 + ${first + j}u`;
      const by = vector ? ' / 4u' : '';
      lines.push(`if (${column} < p.n) {`);
      tile.rows.forEach((row, m) => {
        const at = `(c_base + (row0 + ${row}u) * p.ldc + ${column})${by}`;
        const value = `${totalOf(tile, m, q)}${vector ? '' : `.${'xyzw'[j]}`}`;
        lines.push(
          `  if (row0 + ${row}u < p.m) { ${storeSum(value, at, `(${column})${by}`, fusion, vector)} }`,
        );
      });
      lines.push('}');
    }
  });
  return lines.join('\n  ');
}

/** An operand's slabs of a kernel by blocks, and where they come from. */
export interface SlabOptions {
  /** Its letter: names begin with it. */
  readonly x: 'a' | 'b';
  /** Rows of A (columns of B) of the block, the block's first one and how many there are, as WGSL. */
  readonly width: number;
  readonly first: string;
  readonly size: string;
  readonly alongK: boolean;
  readonly depth: number;
  readonly invocations: number;
  /** Expression of what is loaded, with the names of its row and of its place along K. */
  readonly read: (at: string, row: number, k: number) => string;
  /** Statements before the loop for a row, and in it for a place along K, by those names. */
  readonly ofRow?: (row: number, at: string) => string[];
  readonly ofK?: (k: number, at: string) => string[];
}
