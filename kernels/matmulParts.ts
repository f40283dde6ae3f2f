/**
 * What all matrix product kernels share: parameters, how a stored weight is read four numbers at a time, what is done to a
 * row of A as it is loaded (the prologue) and to a finished sum before it is stored (the epilogue), and the store of a tile
 * of registers.
 *
 * One order of summation for all of them: every output is one chain acc = fma(a, b, acc) over k ascending. Which kernel
 * runs may therefore depend on anything (rows, device, a measurement) without changing a bit, and a row is the same
 * alone and in any batch. Cutting K over workgroups or lanes would break this rule; the engine does it for A^T alone, where
 * K runs over rows (engine/matmulChoice.ts). Prologues and epilogues are the expressions of the operations they replace,
 * applied to the same rounded numbers.
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
import { PACKINGS, type WeightFormat } from './packing.ts';
import { flag, optional, word } from './variant.ts';

/**
 * m, n, k; strides of one batch in elements (0 repeats that operand); leading sizes of A and C and first elements a_first,
 * c_first, so that A and C can be windows of wider matrices.
 */
export const MATMUL_PARAMS = {
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
} as const satisfies Record<string, ScalarType>;

/** First elements of the operands of this product of the batch; `z` is its number. */
export const matmulBases = (z: string): string => `let a_base = p.a_first + ${z} * p.batch_a;
  let b_base = ${z} * p.batch_b;
  let c_base = p.c_first + ${z} * p.batch_c;`;

/** How the array `b` of weights is declared and read; all formats but f32 are read four numbers at a time. */
export interface WeightReader {
  readonly declarations: string;
  readonly element: string;
  /** Expression of four neighbouring numbers, by the number of the quad. */
  readonly quad: (at: string) => string;
  /** Elements that a row of `length` takes up: quantised rows are filled up to whole groups. */
  readonly stored: (length: string) => string;
}

export function weightReader(weight: WeightFormat, vector: boolean): WeightReader {
  const plain = (length: string): string => length;
  if (weight === 'f32')
    return {
      declarations: '',
      element: vector ? 'vec4f' : 'f32',
      quad: (at) => `b[${at}]`,
      stored: plain,
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
    stored: whole ? plain : (length) => `((${length} + ${group - 1}u) / ${group}u * ${group}u)`,
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
  /** C += instead of C =, for a K axis cut into windows; without bias, prologue and epilogue. */
  readonly accumulate: boolean;
  /** Default: none. */
  readonly epilogue?: Epilogue;
}

/** Members of a variant, by name. */
export const FUSION = {
  prologue: optional(NORM_VECTORS),
  bias: flag,
  accumulate: flag,
  epilogue: optional(word<Epilogue>(['none', 'add', ...ACTIVATION_NAMES, ...GATED_NAMES])),
};

/** Tells variants apart in kernel names. */
export const fusionName = ({ prologue, bias, accumulate, epilogue }: Fusion): string =>
  `${prologue ? `.${prologue}` : ''}${bias ? '+' : ''}${accumulate ? '=' : ''}${epilogue === undefined || epilogue === 'none' ? '' : `.${epilogue}`}`;

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

/** Statement that stores one sum: `value` (of type T) at c[at], with the bias at [column]. */
export function storeSum(value: string, at: string, column: string, fusion: Fusion, vector: boolean): string {
  const sum = `${value}${fusion.bias ? ` + bias[${column}]` : ''}${fusion.accumulate ? ` + c[${at}]` : ''}`;
  return `c[${at}] = ${epilogueParts(fusion.epilogue, vector).finish(sum, at)};`;
}

/** Statements that store the registers c{row}_{quad} of a tile at (row0, col0); `vector` as for C in four-wide stores. */
export function storeTile(
  rows: readonly number[],
  quads: readonly number[],
  vector: boolean,
  fusion: Fusion,
): string {
  const lines: string[] = [];
  for (const q of quads)
    for (const j of vector ? [0] : [0, 1, 2, 3]) {
      const column = `col0 + ${4 * q + j}u`;
      const by = vector ? ' / 4u' : '';
      lines.push(`if (${column} < p.n) {`);
      for (const m of rows) {
        const at = `(c_base + (row0 + ${m}u) * p.ldc + ${column})${by}`;
        const value = `c${m}_${q}${vector ? '' : `.${'xyzw'[j]}`}`;
        lines.push(
          `  if (row0 + ${m}u < p.m) { ${storeSum(value, at, `(${column})${by}`, fusion, vector)} }`,
        );
      }
      lines.push('}');
    }
  return lines.join('\n  ');
}
