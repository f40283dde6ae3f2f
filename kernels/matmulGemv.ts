/**
 * Matrix product of few rows of A, limited by reading B: invocations share K, each sums a chunk of its own (matmulParts.ts).
 *
 * A workgroup owns a few columns of C. `lanes` of them lie along K, a chunk each, and the rest along the columns: of a B that is
 * stored [N, K], each reads rows of its own in 16-byte pieces, as many as registers hold, before it needs the first; of a [K, N], four
 * neighbouring columns. The piece of A that belongs to these chunks goes through workgroup memory. Sums of chunks do, too: one
 * invocation an output adds them in order, and since others made them, no compiler folds them into the total (which is their seal).
 *
 * K is a whole number of pieces. What lies behind its end, the rows or the columns is read and thrown away, never multiplied by 0,
 * which would make NaN of an infinite weight: a `select` takes a chain no further than K.
 */

import { KernelError } from './errors.ts';
import type { Kernel } from './kernel.ts';
import {
  CHUNK,
  epilogueParts,
  FUSION,
  type Fusion,
  fusionName,
  matmulBases,
  matmulBindings,
  matmulParams,
  prologueParts,
  storeSum,
  weightReader,
} from './matmulParts.ts';
import { PACKINGS, READ, type ReadFormat } from './packing.ts';
import { shipped } from './shipped.ts';
import { count, flag, optional, powerOfTwo, takes, variant, word } from './variant.ts';

export interface MatmulGemvVariant extends Fusion {
  /** B is stored [N, K] instead of [K, N]. */
  readonly transB: boolean;
  readonly weight: ReadFormat;
  /** Rows of A of an invocation. */
  readonly tileM: 1 | 2 | 4;
  /** Rows of a B that is stored [N, K], or quads of columns. */
  readonly tileN: 1 | 2;
  /** Invocations that share K. */
  readonly lanes: number;
  /** Steps along K whose weights an invocation reads at once: K is a multiple of it; see {@link gemvPiece}. */
  readonly piece: number;
  /** Instead no more of a piece at once than there is of A in workgroup memory: where registers are few for it. */
  readonly inSteps?: boolean | undefined;
}

const MATMUL_GEMV = variant<MatmulGemvVariant>({
  ...FUSION,
  transB: flag,
  weight: READ,
  tileM: word([1, 2, 4]),
  tileN: word([1, 2]),
  lanes: powerOfTwo,
  piece: count,
  inSteps: optional(flag),
});

/** Invocations of a workgroup: at least a wide subgroup, and four along the columns. */
export const gemvThreads = (lanes: number): number => Math.max(64, 4 * lanes);
/** Numbers of A in workgroup memory at once, and those of one chunk among them. */
const STAGED = 2048;
const STAGED_OF_CHUNK = 64;
/** The same over all rows where weights are read in steps, of groups no longer than that. */
export const GEMV_STEP = 32;

/** 16-byte loads of `piece` weights of a row. */
export const loadsOf = (weight: ReadFormat, piece: number): number =>
  (piece / PACKINGS[weight].group) * (PACKINGS[weight].words / 4);

/** Fewest weights, halved evenly into a chunk, that are whole 16-byte loads; rows of B must be whole multiples. */
export function gemvUnit(weight: ReadFormat): number {
  let unit = PACKINGS[weight].group;
  while (loadsOf(weight, unit) % 1 !== 0) unit *= 2;
  return unit;
}

/** The longest piece, of at most `steps` and `loads`, that K is a multiple of, or null. */
export function gemvPiece(
  { transB, weight }: Pick<MatmulGemvVariant, 'transB' | 'weight'>,
  k: number,
  loads: number,
  steps = CHUNK,
): number | null {
  const loadsOfPiece = (piece: number): number => (transB ? loadsOf(weight, piece) : piece);
  let piece = transB ? gemvUnit(weight) : 4;
  if (k % piece !== 0) return null;
  while (k % (2 * piece) === 0 && 2 * piece <= steps && loadsOfPiece(2 * piece) <= loads) piece *= 2;
  return piece;
}

/** Columns of C that a workgroup makes. */
export const gemvColumns = ({
  transB,
  tileN,
  lanes,
}: Pick<MatmulGemvVariant, 'transB' | 'tileN' | 'lanes'>): number =>
  (gemvThreads(lanes) / lanes) * tileN * (transB ? 1 : 4);

const name = (v: MatmulGemvVariant): string =>
  `matmul.gemv.${v.weight}.${v.transB ? 'B' : ''}.${v.tileM}x${v.tileN}.${v.lanes}x${v.piece}${v.inSteps ? '.steps' : ''}${fusionName(v)}`;

/** Parameters as of all products. Grid: (ceil(m / tileM), ceil(n / gemvColumns), batches). */
export const matmulGemv = shipped(makeMatmulGemv, takes('matmulGemv', ['variant', MATMUL_GEMV]), name);

const range = (length: number): number[] => [...Array(length).keys()];

/** How a kernel reads its weights. */
interface Side {
  readonly declarations: string;
  readonly element: string;
  /** Statements before all loops, and those that read `count` quads of a piece, which begins at `within` in B. */
  readonly setup: readonly string[];
  readonly read: (first: number, count: number) => readonly string[];
  /** Statements that multiply in steps 4 i ... 4 i + 3 of a piece, by x{m}, four numbers of row m of A. */
  readonly multiply: (i: number) => readonly string[];
}

/** Rows of a B that is stored [N, K]. */
function alongRows({ weight, tileM, tileN, piece }: MatmulGemvVariant, across: number): Side {
  const { group, words, declarations, quad } = PACKINGS[weight];
  const [rows, each] = [range(tileM), range(tileN)];
  const loads = loadsOf(weight, piece);
  /** First load of those that were read last. */
  let begin = 0;
  return {
    declarations,
    element: 'vec4u',
    setup: each.map(
      (r) =>
        `let w_at${r} = (b_base + (first_column + ${r * across}u + lane_column) * p.ldb) / ${group}u * ${words}u / 4u;`,
    ),
    read: (first, count) => {
      // Of all groups that these belong to.
      begin = Math.floor((Math.floor((4 * first) / group) * words) / 4);
      const end = Math.ceil((Math.ceil((4 * (first + count)) / group) * words) / 4);
      const each16 = range(end - begin).map((i) => begin + i);
      return [
        `let w_first = within / ${piece}u * ${loads}u;`,
        ...each.map(
          (r) =>
            `let w${r} = array<vec4u, ${each16.length}>(${each16.map((i) => `b[w_at${r} + w_first + ${i}u]`).join(', ')});`,
        ),
      ];
    },
    multiply: (i) => {
      const first = Math.floor((4 * i) / group) * words - 4 * begin;
      const block = (r: number) => (at: string) =>
        `w${r}[(${first}u + ${at}) / 4u][(${first}u + ${at}) % 4u]`;
      return [
        ...each.map((r) => `let v${r} = ${quad(block(r), `${i % (group / 4)}u`)};`),
        ...[...'xyzw'].flatMap((e) =>
          rows.flatMap((m) => each.map((r) => `t${m}_${r} = fma(x${m}.${e}, v${r}.${e}, t${m}_${r});`)),
        ),
      ];
    },
  };
}

/** Quads of columns of a B that is stored [K, N]. */
function alongColumns({ weight, tileM, tileN }: MatmulGemvVariant, across: number): Side {
  const { declarations, element, quad } = weightReader(weight, true);
  const [rows, each] = [range(tileM), range(tileN)];
  return {
    declarations,
    element,
    setup: [
      'let w_step = p.ldb / 4u;',
      ...each.map((r) => `let w_at${r} = (b_base + first_column) / 4u + ${r * across}u + lane_column;`),
    ],
    read: (first, count) =>
      each.flatMap((r) =>
        range(4 * count)
          .map((s) => 4 * first + s)
          .map((s) => `let w${r}_${s} = ${quad(`w_at${r} + (within + ${s}u) * w_step`)};`),
      ),
    multiply: (i) =>
      [...'xyzw'].flatMap((e, s) =>
        rows.flatMap((m) =>
          each.map((r) => `t${m}_${r} = fma(vec4f(x${m}.${e}), w${r}_${4 * i + s}, t${m}_${r});`),
        ),
      ),
  };
}

function makeMatmulGemv(v: MatmulGemvVariant): Kernel {
  const { transB, tileM, tileN, lanes, piece } = v;
  if (CHUNK % piece !== 0 || piece % (transB ? gemvUnit(v.weight) : 4) !== 0)
    throw new KernelError('matmulGemv', `a piece of ${piece} steps`);
  const threads = gemvThreads(lanes);
  const across = threads / lanes;
  const side = (transB ? alongRows : alongColumns)(v, across);
  const type = transB ? 'f32' : 'vec4f';
  const zero = `${type}(0.0)`;
  const registers = range(tileM).flatMap((m) => range(tileN).map((r) => ({ m, r, id: `${m}_${r}` })));

  // A goes through workgroup memory in steps of `depth` numbers of every chunk and row, a quad more apart than they are long.
  let depth = Math.min(piece, v.inSteps ? GEMV_STEP / tileM : STAGED_OF_CHUNK);
  while (tileM * lanes * depth > STAGED) depth /= 2;
  const quads = depth / 4;
  const pitch = quads + 1;
  const staged = tileM * lanes * quads;
  const turns = range(Math.ceil(staged / threads));
  const prologue = prologueParts(v.prologue, false);
  // All are powers of two: where a turn reads is so far from where the first does, known here, and takes no register of its own.
  const ofRow = lanes * quads;
  const place = staged < threads ? `(at % ${staged}u)` : 'at';
  const below = (j: number): number => Math.floor((j * threads) / ofRow);
  const behind = (j: number): number => (((j * threads) % ofRow) / quads) * (CHUNK / 4);
  const stageSetup = [
    `let x_row = first_row + ${place} / ${ofRow}u;`,
    `let x_k = ${place} / ${quads}u % ${lanes}u * ${CHUNK / 4}u + ${place} % ${quads}u;`,
    'let x_at = (a_base + x_row * p.lda) / 4u + x_k;',
    'let x_line = p.lda / 4u;',
    `let x_to = ${place} / ${quads}u * ${pitch}u + ${place} % ${quads}u;`,
    ...turns.flatMap((j) => prologue.row(j, `x_row + ${below(j)}u`)),
  ];
  const stage = (step: number): string[] => [
    `let x_first = turn * ${(lanes * CHUNK) / 4}u + round * ${piece / 4}u + ${step * quads}u;`,
    ...turns.flatMap((j) => [
      ...prologue.column(j, `x_k + ${behind(j)}u + x_first`),
      `let n${j} = ${prologue.load(`a[x_at + x_first + ${below(j)}u * x_line + ${behind(j)}u]`, j, j)};`,
    ]),
    'workgroupBarrier();',
    ...turns.map(
      (j) =>
        `${staged < threads ? `if (at < ${staged}u) ` : ''}{ staged[x_to + ${((j * threads) / quads) * pitch}u] = n${j}; }`,
    ),
    'workgroupBarrier();',
  ];
  const step = (at: number): string[] => [
    '{',
    ...(v.inSteps ? side.read(at * quads, quads) : []),
    ...stage(at),
    ...range(quads).flatMap((i) => [
      '{',
      ...range(tileM).map((m) => `let x${m} = staged[(${m * lanes}u + part) * ${pitch}u + ${i}u];`),
      ...side.multiply(at * quads + i),
      '}',
    ]),
    '}',
  ];

  // Outputs, a register each, and who adds and stores which.
  const outputs = registers.length * across;
  const adding = range(Math.ceil(outputs / threads)).map((j) => ({ j, o: `(at + ${j * threads}u)` }));
  const owned = (o: string, text: string): string =>
    outputs % threads === 0 ? text : `if (${o} < ${outputs}u) { ${text} }`;
  const by = transB ? '' : ' / 4u';
  const columnOf = (r: string, column: string): string =>
    `(first_column + (${r} * ${across}u + ${column}) * ${transB ? 1 : 4}u)`;
  const stored = (row: string, column: string): string =>
    `(c_base + (first_row + ${row}) * p.ldc + ${column})${by}`;
  const output = (o: string): { row: string; column: string } => ({
    row: `${o} / ${tileN * across}u`,
    column: columnOf(`(${o} / ${across}u % ${tileN}u)`, `${o} % ${across}u`),
  });
  return {
    name: name(v),
    bindings: matmulBindings('vec4f', side.element, type, v),
    params: matmulParams(v),
    workgroup: [threads, 1, 1],
    body: `
${side.declarations}${epilogueParts(v.epilogue, !transB).declarations}
var<workgroup> staged: array<vec4f, ${tileM * lanes * pitch}>;
var<workgroup> sums: array<${type}, ${registers.length * threads}>;
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) at: u32) {
  let first_row = wid.x * ${tileM}u;
  let first_column = wid.y * ${gemvColumns(v)}u;
  let part = at / ${across}u;
  let lane_column = at % ${across}u;
  ${matmulBases('wid.z')}
  ${[...side.setup, ...stageSetup].join('\n  ')}
  ${adding.map(({ j, o }) => `var total${j} = ${v.accumulate ? `c[${stored(output(o).row, output(o).column)}]` : zero};`).join('\n  ')}
  let last = p.k - ${piece}u;
  // No minimum: a compiler that knows a limit of so few turns writes them all out.
  let rounds = select(${CHUNK / piece}u, p.k / ${piece}u, p.k < ${CHUNK}u);
  for (var turn = 0u; turn < 65536u; turn++) {
    if (turn * ${lanes * CHUNK}u >= p.k) { break; }
    let k0 = (turn * ${lanes}u + part) * ${CHUNK}u;
    ${registers.map(({ m, r, id }) => `var s${id} = ${v.resume ? `select(${zero}, c[${stored(`${m}u`, columnOf(`${r}u`, 'lane_column'))}], k0 == 0u)` : zero};`).join('\n    ')}
    for (var round = 0u; round < 65536u; round++) {
      if (round >= rounds) { break; }
      let k = k0 + round * ${piece}u;
      let within = min(k, last);
      ${v.inSteps ? '' : side.read(0, piece / 4).join('\n      ')}
      ${registers.map(({ id }) => `var t${id} = s${id};`).join('\n      ')}
      ${range(piece / depth)
        .flatMap(step)
        .join('\n      ')}
      ${registers.map(({ id }) => `s${id} = select(s${id}, t${id}, k < p.k);`).join('\n      ')}
    }
    ${registers.map(({ id }, i) => `sums[at + ${i * threads}u] = s${id};`).join('\n    ')}
    workgroupBarrier();
    ${adding
      .map(({ j, o }) => {
        const from = `${o} / ${across}u * ${threads}u + ${o} % ${across}u`;
        return owned(
          o,
          range(lanes)
            .map((c) => `total${j} += sums[${from} + ${c * across}u];`)
            .join(' '),
        );
      })
      .join('\n    ')}
  }
  ${adding
    .map(({ j, o }) => {
      const { row, column } = output(o);
      const at = stored(row, column);
      return `if (${outputs % threads === 0 ? '' : `${o} < ${outputs}u && `}first_row + ${row} < p.m && ${column} < p.n) { ${storeSum(`total${j}`, at, `${column}${by}`, v, !transB)} }`;
    })
    .join('\n  ')}
}`,
  };
}
