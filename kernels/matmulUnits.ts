/**
 * Matrix product on matrix units (`chromium-experimental-subgroup-matrix`): 16-bit factors, 32-bit sums.
 *
 * A workgroup of 2 x 2 subgroups owns a block of C and walks over K in slabs. Invocations load 16 bytes at a time, round to f16 and
 * store into workgroup memory, where rows of A and columns of B lie along K, whatever they do outside: a unit's operand is then 32
 * bytes a lane in one piece. Each subgroup multiplies its quarter of the block out of it. Nothing is guarded in the loop over whole
 * slabs: rows and columns beyond the edges repeat the last ones, are multiplied and never stored; where K ends within a slab, that
 * slab has a text of its own, with zeros. Nothing is loaded ahead, which costs registers and copies (bench/compile): the loads of a
 * slab are under way while slower subgroups still multiply the one before.
 *
 * `split` gives nearly f32's accuracy on units that know f16 only: a = hi + lo / 2048 with hi = f16(a) and lo = f16 of
 * 2048 times the rest, so that hi and lo together hold 22 bits of a. Then a b = hi hi' + (hi lo' + lo hi') / 2048, three
 * products, the small ones summed apart (Ootomo & Yokota 2022, "Recovering single precision accuracy from Tensor
 * Cores"). Weights stored in f16 have no lo. Factors beyond 65504 become infinite, and those below 2^-14 lose bits. Compilers take
 * f32(f16(a)) for a, and every lo for 0 then: so hi is sealed, as sums of chunks are (matmulParts.ts).
 *
 * Order of summation: each sum is one chain of the unit's products of unitK steps, k ascending from 0; with `split` the chain of the
 * small ones takes hi lo' before lo hi' of each. It depends on neither block, edge nor number of rows: a row gives the same bits
 * in any batch, but not the bits of the f32 kernels. So this runs only where it is asked for (`precision`).
 */

import { KernelError } from './errors.ts';
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
  type SlabOptions,
  storeSum,
} from './matmulParts.ts';
import { shipped } from './shipped.ts';
import { count, flag, powerOfTwo, takes, variant, word } from './variant.ts';

/** What a workgroup owns, and how deep its slabs are. */
export interface UnitsBlock {
  /** Twice a multiple of the unit's rows and columns. */
  readonly blockM: number;
  readonly blockN: number;
  /** A multiple of the unit's depth, and of 8. */
  readonly blockK: number;
}

/** A unit's matrices, [unitM, unitK] times [unitK, unitN], and the invocations of a subgroup. */
export interface Unit {
  readonly unitM: number;
  readonly unitN: number;
  readonly unitK: number;
  readonly lanes: number;
}

export interface MatmulUnitsVariant extends Fusion, UnitsBlock, Unit {
  /** A is stored [K, M] instead of [M, K]. */
  readonly transA: boolean;
  /** B is stored [N, K] instead of [K, N]. */
  readonly transB: boolean;
  /** Numbers of one load, along the contiguous axis, whose length it divides: f32 up to 4, f16 4 or 8. */
  readonly vectorA: 1 | 4;
  readonly vectorB: 1 | 4 | 8;
  readonly weight: UnitsWeight;
  readonly split: boolean;
}

/** How B may be stored: what rounds to f16 and is not f32 would lose its range. */
export type UnitsWeight = 'f32' | 'f16';

const MATMUL_UNITS = variant<MatmulUnitsVariant>({
  ...FUSION,
  transA: flag,
  transB: flag,
  vectorA: word([1, 4]),
  vectorB: word([1, 4, 8]),
  weight: word<UnitsWeight>(['f32', 'f16']),
  blockM: powerOfTwo,
  blockN: powerOfTwo,
  blockK: powerOfTwo,
  unitM: count,
  unitN: count,
  unitK: count,
  lanes: powerOfTwo,
  split: flag,
});

const name = (v: MatmulUnitsVariant): string =>
  `matmul.units.${v.split ? 'split.' : ''}${v.weight}.${v.transA ? 'A' : ''}${v.transB ? 'B' : ''}${v.vectorA}${v.vectorB}.${v.blockM}x${v.blockN}x${v.blockK}.${v.unitM}x${v.unitN}x${v.unitK}.${v.lanes}${fusionName(v)}`;

/** Parameters as of all products. Grid: (ceil(n / blockN), ceil(m / blockM), batches). */
export const matmulUnits = shipped(makeMatmulUnits, takes('matmulUnits', ['variant', MATMUL_UNITS]), name);

const SUBGROUPS = 4;

/** Halves from one row of a slab to the next: neighbouring rows begin in other banks. */
const pitchOf = ({ blockK }: UnitsBlock): number => blockK + 8;

/** Parts of A and of B, and whether sums of small products are kept apart. */
const partsOf = ({ split, weight }: Pick<MatmulUnitsVariant, 'split' | 'weight'>) => ({
  a: split ? ['hi', 'lo'] : ['hi'],
  b: split && weight === 'f32' ? ['hi', 'lo'] : ['hi'],
});

/** Workgroup memory that a variant takes. */
export function unitsBytes(
  v: UnitsBlock & Pick<MatmulUnitsVariant, 'unitM' | 'unitN' | 'split' | 'weight'>,
): number {
  const { a, b } = partsOf(v);
  const slabs = 2 * pitchOf(v) * (a.length * v.blockM + b.length * v.blockN);
  return slabs + 4 * SUBGROUPS * v.unitM * v.unitN;
}

/** Invocations of a workgroup. */
export const unitsInvocations = ({ lanes }: Pick<Unit, 'lanes'>): number => SUBGROUPS * lanes;

/** Sums that a lane holds. */
export const unitsSums = (v: Pick<MatmulUnitsVariant, 'blockM' | 'blockN' | 'lanes' | 'split'>): number =>
  ((v.split ? 2 : 1) * v.blockM * v.blockN) / unitsInvocations(v);

/** Numbers that an invocation fetches of a slab of so many rows. */
export const unitsFetched = (width: number, v: Pick<MatmulUnitsVariant, 'blockK' | 'lanes'>): number =>
  (width * v.blockK) / unitsInvocations(v);

const range = (count: number): number[] => [...Array(count).keys()];
const FOUR = [0, 1, 2, 3];

/** How one operand comes into its slab. */
interface Operand {
  /** Statements before the loop. */
  readonly setup: readonly string[];
  /** Statements that load the part of the slab at `k0` that is this invocation's into registers, put zeros there beyond K, store it. */
  readonly load: readonly string[];
  readonly zero: readonly string[];
  readonly store: readonly string[];
}

interface OperandOptions extends SlabOptions {
  readonly pitch: number;
  readonly vector: 1 | 4 | 8;
  readonly format: UnitsWeight;
  readonly parts: readonly string[];
}

function operand(o: OperandOptions): Operand {
  const { x, width, depth, invocations, vector, format } = o;
  const numbers = (width * depth) / invocations;
  // An item is loaded and stored together: `run` numbers along K of one row, or `deep` steps of as many rows as a load brings.
  const across = o.alongK ? 1 : Math.max(4, vector);
  const along = Math.min(8, numbers / across);
  const items = range(numbers / (across * along));
  const quadsOf = (length: number): number[] => range(length / 4);
  /** Quads of an item, by step along K where they lie across it. */
  const quads = o.alongK
    ? quadsOf(along).map((q) => ({ step: 0, q }))
    : range(along).flatMap((step) => quadsOf(across).map((q) => ({ step, q })));
  const register = (i: number, step: number, q: number): string => `${x}v${i}_${step}_${q}`;
  const kind = format === 'f16' ? 'vec4h' : 'vec4f';

  // Neighbouring lanes take neighbouring places along K, in whichever direction a load runs: they store into different banks.
  const places = depth / along;
  const line = (i: number): string => `${across}u * (local / ${places}u + ${(i * invocations) / places}u)`;
  const place = `${x}_place`;
  const setup = [`let ${place} = local % ${places}u * ${along}u;`];
  for (const i of items)
    if (o.alongK)
      setup.push(
        `let ${x}_row${i} = min(${o.first} + ${line(i)}, ${o.size} - 1u);`,
        `let ${x}_at${i} = (${x}_base + ${x}_row${i} * p.ld${x} + ${place}) / ${vector}u;`,
        ...(o.ofRow?.(i, `${x}_row${i}`) ?? []),
      );
    else
      for (const c of range(across / vector))
        setup.push(
          `let ${x}_at${i}_${c} = (${x}_base + ${place} * p.ld${x} + min(${o.first} + ${line(i)} + ${c * vector}u, ${o.size} - ${vector}u)) / ${vector}u;`,
        );
  for (const i of items) setup.push(`let ${x}_to${i} = (${line(i)}) * ${o.pitch}u + ${place};`);
  if (!o.alongK) setup.push(`let ${x}_line = p.ld${x} / ${vector}u;`);

  const load: string[] = [];
  const quad = (i: number, step: number, q: number, value: string): void => {
    load.push(`var ${register(i, step, q)} = ${value};`);
  };
  if (o.alongK && o.ofK) {
    const each = Math.min(4, vector);
    for (const n of range(along / each)) load.push(...o.ofK(n, `(k0 + ${place}) / ${each}u + ${n}u`));
  }
  for (const i of items)
    for (const step of o.alongK ? [0] : range(along)) {
      /** Expression of the n-th load. */
      const loaded = (n: number): string =>
        o.alongK
          ? o.read(`${x}_at${i} + k0 / ${vector}u + ${n}u`, i, n)
          : o.read(
              `${x}_at${i}_${vector === 1 ? n : 0} + (k0 + ${step}u) * ${x}_line${vector === 1 ? '' : ` + ${n}u`}`,
              0,
              0,
            );
      if (vector === 8)
        for (const n of range((o.alongK ? along : across) / 8)) {
          load.push(`let ${x}w${i}_${step}_${n} = ${loaded(n)};`);
          quad(i, step, 2 * n, `bitcast<vec4h>(${x}w${i}_${step}_${n}.xy)`);
          quad(i, step, 2 * n + 1, `bitcast<vec4h>(${x}w${i}_${step}_${n}.zw)`);
        }
      else
        for (const q of quadsOf(o.alongK ? along : across))
          if (vector === 1) quad(i, step, q, `vec4f(${FOUR.map((j) => loaded(4 * q + j)).join(', ')})`);
          else quad(i, step, q, format === 'f16' ? `bitcast<vec4h>(${loaded(q)})` : loaded(q));
    }

  const zero = items.flatMap((i) =>
    quads.map(({ step, q }) => {
      const at = register(i, step, q);
      const inside = o.alongK
        ? `vec4u(k0 + ${place} + ${4 * q}u) + vec4u(0u, 1u, 2u, 3u) < vec4u(p.k)`
        : `k0 + ${place} + ${step}u < p.k`;
      return `${at} = select(${kind}(), ${at}, ${inside});`;
    }),
  );

  const store: string[] = [];
  for (const i of items) {
    const part = (at: string, of: string): string => (format === 'f16' ? at : `${at}_${of}`);
    if (format === 'f32')
      for (const { step, q } of quads) {
        const at = register(i, step, q);
        if (o.parts.length === 1) store.push(`let ${at}_hi = vec4h(${at});`);
        else
          store.push(
            `let ${at}_hi = bitcast<vec4h>(bitcast<vec2u>(vec4h(${at})) ^ vec2u(p.zero));`,
            `let ${at}_lo = vec4h((${at} - vec4f(${at}_hi)) * 2048.0);`,
          );
      }
    for (const of of o.parts)
      for (const row of range(across))
        for (const k of range(along)) {
          const from = o.alongK ? register(i, 0, k >> 2) : register(i, k, row >> 2);
          const member = 'xyzw'[(o.alongK ? k : row) & 3];
          store.push(`${x}_${of}[${x}_to${i} + ${row * o.pitch + k}u] = ${part(from, of)}.${member};`);
        }
  }
  return { setup, load, zero, store };
}

function makeMatmulUnits(v: MatmulUnitsVariant): Kernel {
  const { unitM, unitN, unitK, blockM, blockN, blockK, split } = v;
  if (blockM % (2 * unitM) !== 0 || blockN % (2 * unitN) !== 0 || blockK % unitK !== 0)
    throw new KernelError('matmulUnits', 'a block that is no 2 x 2 subgroups of whole matrices');
  if (v.weight === 'f16' ? v.vectorB === 1 : v.vectorB === 8)
    throw new KernelError('matmulUnits', `${v.weight} numbers are not loaded ${v.vectorB} at a time`);
  if (unitsFetched(blockM, v) < 4 || unitsFetched(blockN, v) < Math.max(4, v.vectorB))
    throw new KernelError('matmulUnits', 'a slab of fewer loads than invocations');
  const invocations = unitsInvocations(v);
  const pitch = pitchOf(v);
  const parts = partsOf(v);
  // Matrices of a subgroup.
  const [rows, columns] = [range(blockM / 2 / unitM), range(blockN / 2 / unitN)];
  const sums = split ? ['sum', 'small'] : ['sum'];
  const each = (text: (i: number, j: number) => string): string =>
    rows.flatMap((i) => columns.map((j) => text(i, j))).join('\n    ');
  const left = `subgroup_matrix_left<f16, ${unitK}, ${unitM}>`;
  const right = `subgroup_matrix_right<f16, ${unitN}, ${unitK}>`;
  const result = `subgroup_matrix_result<f32, ${unitN}, ${unitM}>`;
  const prologue = prologueParts(v.prologue, v.transA);
  const common = { depth: blockK, pitch, invocations };
  const a = operand({
    ...common,
    x: 'a',
    width: blockM,
    first: 'row0',
    size: 'p.m',
    alongK: !v.transA,
    vector: v.vectorA,
    format: 'f32',
    parts: parts.a,
    read: (at, row, k) => prologue.load(`a[${at}]`, row, k),
    ofRow: prologue.row,
    ofK: prologue.column,
  });
  const b = operand({
    ...common,
    x: 'b',
    width: blockN,
    first: 'col0',
    size: 'p.n',
    alongK: v.transB,
    vector: v.vectorB,
    format: v.weight,
    parts: parts.b,
    read: (at) => `b[${at}]`,
  });
  const loadA = (part: string, i: number, s: number): string =>
    `let a_${part}${s}_${i} = subgroupMatrixLoad<${left}, row_major>(&a_${part}, (down * ${rows.length}u + ${i}u) * ${unitM * pitch}u + ${s * unitK}u, ${pitch}u);`;
  const loadB = (part: string, j: number, s: number): string =>
    `let b_${part}${s}_${j} = subgroupMatrixLoad<${right}, col_major>(&b_${part}, (across * ${columns.length}u + ${j}u) * ${unitN * pitch}u + ${s * unitK}u, ${pitch}u);`;
  const multiply = (sum: string, ofA: string, ofB: string, j: number, s: number): string[] =>
    rows.map(
      (i) =>
        `${sum}${i}_${j} = subgroupMatrixMultiplyAccumulate(a_${ofA}${s}_${i}, b_${ofB}${s}_${j}, ${sum}${i}_${j});`,
    );
  /** One step of the unit along K: rows held, columns one after the other, which takes fewer registers and copies. */
  const step = (s: number): string[] => [
    ...parts.a.flatMap((part) => rows.map((i) => loadA(part, i, s))),
    ...columns.flatMap((j) => [
      ...parts.b.map((part) => loadB(part, j, s)),
      ...multiply('sum', 'hi', 'hi', j, s),
      ...(parts.b.length > 1 ? multiply('small', 'hi', 'lo', j, s) : []),
      ...(parts.a.length > 1 ? multiply('small', 'lo', 'hi', j, s) : []),
    ]),
  ];
  const slab = (whole: boolean): string =>
    [
      ...a.load,
      ...b.load,
      ...(whole ? [] : [...a.zero, ...b.zero]),
      'workgroupBarrier();',
      ...a.store,
      ...b.store,
      'workgroupBarrier();',
      ...range(blockK / unitK).flatMap(step),
    ].join('\n    ');

  const plain = !v.bias && !v.accumulate && !v.resume && !split && (v.epilogue ?? 'none') === 'none';
  const staged = unitM * unitN;
  const held = range((SUBGROUPS * staged) / invocations);
  /** Through workgroup memory: the elements of a matrix cannot be reached otherwise. Windows of K are added one by one. */
  const stage = (i: number, j: number): string =>
    [
      ...sums.flatMap((sum) => [
        `subgroupMatrixStore<row_major>(&c_sum, local / ${v.lanes}u * ${staged}u, ${sum}${i}_${j}, ${unitN}u);`,
        'workgroupBarrier();',
        ...held.map((e) => `let ${sum}${i}_${j}_${e} = c_sum[local + ${e * invocations}u];`),
        'workgroupBarrier();',
      ]),
      ...held.map(
        (e) =>
          `put(local + ${e * invocations}u, row0 + ${i * unitM}u, col0 + ${j * unitN}u, wid.z, sum${i}_${j}_${e}${split ? ` + small${i}_${j}_${e} / 2048.0` : ''});`,
      ),
    ].join('\n    ');
  const at = 'c_base + row * p.ldc + column';
  return {
    name: name(v),
    enable: ['f16', 'subgroups', 'chromium_experimental_subgroup_matrix'],
    // The number of a subgroup is the same for all its invocations, which the compiler cannot know.
    off: ['chromium.subgroup_matrix_uniformity'],
    bindings: matmulBindings(
      v.vectorA === 4 ? 'vec4f' : 'f32',
      v.weight === 'f16' ? (v.vectorB === 8 ? 'vec4u' : 'vec2u') : v.vectorB === 4 ? 'vec4f' : 'f32',
      'f32',
      v,
    ),
    params: matmulParams(v),
    workgroup: [invocations, 1, 1],
    body: `
${epilogueParts(v.epilogue, false).declarations}
${parts.a.map((part) => `var<workgroup> a_${part}: array<f16, ${blockM * pitch}>;`).join('\n')}
${parts.b.map((part) => `var<workgroup> b_${part}: array<f16, ${blockN * pitch}>;`).join('\n')}
var<workgroup> c_sum: array<f32, ${SUBGROUPS * staged}>;
/** Stores number \`i\` of the four subgroups' matrices; the first one's first element is at (row0, col0). */
fn put(i: u32, row0: u32, col0: u32, z: u32, total: f32) {
  let subgroup = i / ${staged}u;
  let row = row0 + subgroup / 2u * ${blockM / 2}u + i / ${unitN}u % ${unitM}u;
  let column = col0 + subgroup % 2u * ${blockN / 2}u + i % ${unitN}u;
  if (row >= p.m || column >= p.n) { return; }
  ${matmulBases('z')}
  ${storeSum(`${v.accumulate || v.resume ? `c[${at}] + ` : ''}total`, at, 'column', v, false)}
}
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) local: u32) {
  let row0 = wid.y * ${blockM}u;
  let col0 = wid.x * ${blockN}u;
  let across = local / ${v.lanes}u % 2u;
  let down = local / ${2 * v.lanes}u;
  ${matmulBases('wid.z')}
  ${[...a.setup, ...b.setup].join('\n  ')}
  ${sums.map((sum) => each((i, j) => `var ${sum}${i}_${j}: ${result};`)).join('\n    ')}
  let whole = p.k / ${blockK}u;
  for (var slab = 0u; slab < ${2 ** 32 / blockK}u; slab++) {
    if (slab >= whole) { break; }
    let k0 = slab * ${blockK}u;
    ${slab(true)}
  }
  let k0 = whole * ${blockK}u;
  if (k0 < p.k) {
    ${slab(false)}
  }
  ${
    plain
      ? `if (row0 + ${blockM}u <= p.m && col0 + ${blockN}u <= p.n) {
    let at = c_base + (row0 + down * ${blockM / 2}u) * p.ldc + col0 + across * ${blockN / 2}u;
    ${each((i, j) => `subgroupMatrixStore<row_major>(&c, at + ${i * unitM}u * p.ldc + ${j * unitN}u, sum${i}_${j}, p.ldc);`)}
  } else {`
      : '{'
  }
    ${each(stage)}
  }
}`,
  };
}
