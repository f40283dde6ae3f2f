/**
 * Matrix product through workgroup memory, for GPUs: a workgroup owns a block of C and walks over K in slabs; its invocations
 * fetch a slab of A and of B together, in whole lines of memory, and each multiplies its own register tile out of it.
 *
 * A slab lies in workgroup memory K-major, in quads of neighbouring rows of A (columns of B), so that a register tile is read
 * four-wide whatever the layout outside. Where neighbours in memory lie along K they are turned on the way in. No access has
 * conflicts between banks: the quads of a tile lie as far apart as there are tiles beside each other, so that neighbours read
 * neighbours, and turned quads are stored where their number XOR their place along K says.
 *
 * What real compilers made of it decides the rest (bench/compile): chunks outside, slabs inside, so that the inner loop is pure;
 * constant bounds, which need no guard against endless loops; steps written out; the next slab is loaded before this one is
 * multiplied. Where registers are few (Intel: 64 a lane) tiles are small, steps stay in a loop, nothing is loaded ahead, and totals
 * lie in workgroup memory.
 *
 * The order of summation is that of matmulParts.ts. Both operands are read four-wide along their contiguous axis.
 */

import type { Kernel } from './kernel.ts';
import {
  CHUNK,
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
  type SlabOptions,
  storeTile,
  type Tile,
  tileSums,
  weightReader,
} from './matmulParts.ts';
import { READ, type ReadFormat } from './packing.ts';
import { shipped } from './shipped.ts';
import { flag, powerOfTwo, takes, variant } from './variant.ts';

/** What a workgroup and an invocation make. */
export interface MatmulBlock {
  /** Rows, columns and depth of a slab: powers of two, the depth a divisor of a chunk. */
  readonly blockM: number;
  readonly blockN: number;
  readonly blockK: number;
  /** Outputs of one invocation: multiples of 4. */
  readonly tileM: number;
  readonly tileN: number;
  /** For adapters with few registers a lane. */
  readonly fewRegisters: boolean;
}

export interface MatmulBlockVariant extends Fusion, MatmulBlock {
  /** A is stored [K, M] instead of [M, K]. */
  readonly transA: boolean;
  /** B is stored [N, K] instead of [K, N]. */
  readonly transB: boolean;
  /** Four-wide stores of C. */
  readonly vectorC: boolean;
  readonly weight: ReadFormat;
}

const MATMUL_BLOCK = variant<MatmulBlockVariant>({
  ...FUSION,
  transA: flag,
  transB: flag,
  vectorC: flag,
  blockM: powerOfTwo,
  blockN: powerOfTwo,
  blockK: powerOfTwo,
  tileM: powerOfTwo,
  tileN: powerOfTwo,
  fewRegisters: flag,
  weight: READ,
});

const name = (v: MatmulBlockVariant): string =>
  `matmul.block.${v.weight}.${v.transA ? 'A' : ''}${v.transB ? 'B' : ''}${v.vectorC ? 'c' : ''}.${v.blockM}x${v.blockN}x${v.blockK}.${v.tileM}x${v.tileN}${v.fewRegisters ? '.few' : ''}${fusionName(v)}`;

/** Invocations of a workgroup. */
export const blockInvocations = ({ blockM, blockN, tileM, tileN }: MatmulBlock): number =>
  (blockM / tileM) * (blockN / tileN);

/** Workgroup memory that a block takes. */
export const blockBytes = ({ blockM, blockN, blockK, fewRegisters }: MatmulBlock): number =>
  4 * (blockK * (blockM + blockN) + (fewRegisters ? blockM * blockN : 0));

/** Parameters as of all products. Grid: (ceil(n / blockN), ceil(m / blockM), batches). */
export const matmulBlock = shipped(makeMatmulBlock, takes('matmulBlock', ['variant', MATMUL_BLOCK]), name);

const range = (count: number): number[] => [...Array(count).keys()];
const FOUR = [0, 1, 2, 3];

/** How one operand comes into its slab and out of it. */
interface Operand {
  /** Statements before the loop. */
  readonly setup: string[];
  /** Registers of what an invocation fetches, and statements that fill them from the slab at `k0`. */
  readonly registers: string[];
  readonly load: (k0: string) => string[];
  /** Statements that say where those go, from the invocation's number `lane`, and statements that put them there. */
  readonly place: string[];
  readonly store: string[];
  /** Expression of the i-th quad of an invocation's tile at `step`, one of the 4 at `d`, which is a number or WGSL. */
  readonly quad: (i: number, d: number | string, step: string) => string;
}

/** What is loaded are four numbers. */
interface OperandOptions extends SlabOptions {
  /** Number of a tile among those beside each other, as WGSL, how many they are, and quads in each. */
  readonly tile: string;
  readonly tiles: number;
  readonly quads: number;
}

function operand(o: OperandOptions): Operand {
  const { x, width, depth, invocations } = o;
  const across = width / 4;
  const fetched = range((across * depth) / invocations);
  const registers = fetched.map((u) => `${x}v${u}`);
  const quadOf = (i: number): string => `${o.tile} + ${i * o.tiles}u`;
  const at = (step: string, quad: string): string => `${x}_slab[${step} * ${across}u + ${quad}]`;

  if (!o.alongK) {
    // A quad as it lies. Rows beyond K are read, wherever that is, and not multiplied.
    return {
      place: [],
      setup: [
        `let ${x}_line = p.ld${x} / 4u;`,
        `let ${x}_at = (${x}_base + min(${o.first} + 4u * (at % ${across}u), ${o.size} - 4u)) / 4u + at / ${across}u * ${x}_line;`,
      ],
      registers,
      load: (k0) =>
        fetched.map(
          (u) =>
            `${x}v${u} = ${o.read(`${x}_at + (${k0} + ${(u * invocations) / across}u) * ${x}_line`, u, 0)};`,
        ),
      store: fetched.map((u) => `${x}_slab[lane + ${u * invocations}u] = ${x}v${u};`),
      quad: (i, _, step) => at(step, quadOf(i)),
    };
  }

  // Quads along K, whose numbers go to four steps: four by four of them turned in registers where there are as many for all, else
  // one by one. Lanes beside each other take 64 bytes or more of a row.
  const along = depth / 4;
  const lines = fetched.length >= 4 ? 4 : 1;
  const place = `${x}_d`;
  const rows = invocations / along;
  const row = (u: number): string =>
    lines === 4 ? `4u * (at / ${along}u + ${(u >> 2) * rows}u) + ${u % 4}u` : `at / ${along}u + ${u * rows}u`;
  const stores = range(fetched.length / lines);
  // So far apart lie those of an invocation, in quads: a swizzle that moves quads by less moves all alike.
  const apart = (rows * lines) / 4;
  const period = Math.min(o.tiles, stores.length > 1 ? apart : o.tiles);
  const to = (u: number, s: number): string => `${x}_slab[${x}_to + ${s * across + u * apart}u]`;
  /** Where quads at place d along K lie: lanes beside each other store and read in different banks. */
  const swizzle = (quad: string, d: number | string, count: number): string => {
    const factor = along <= 4 ? 2 : 1;
    const by = typeof d === 'number' ? `${(factor * d) % period}u` : `(${factor}u * ${d} % ${period}u)`;
    return `((${quad}) ^ ${by}) % ${count}u`;
  };
  return {
    setup: [
      `let ${place} = at % ${along}u;`,
      ...fetched.flatMap((u) => [
        `let ${x}_row${u} = min(${o.first} + ${row(u)}, ${o.size} - 1u);`,
        `let ${x}_at${u} = (${x}_base + ${x}_row${u} * p.ld${x}) / 4u;`,
        ...(o.ofRow?.(u, `${x}_row${u}`) ?? []),
      ]),
      ...range(along).map((d) => `let ${x}_from${d} = ${swizzle(o.tile, d, o.tiles)};`),
    ],
    place: [
      `let ${x}_to = 4u * ${place} * ${across}u + ${swizzle(`lane / ${(along * 4) / lines}u`, place, stores.length > 1 ? apart : across)};`,
      ...(lines === 1 ? [`let ${x}_in = lane / ${along}u % 4u;`] : []),
    ],
    registers,
    load: (k0) => [
      `let ${x}_k = min(${k0} / 4u + ${place}, p.k / 4u - 1u);`,
      ...(o.ofK?.(0, `${x}_k`) ?? []),
      ...fetched.map((u) => `${x}v${u} = ${o.read(`${x}_at${u} + ${x}_k`, u, 0)};`),
    ],
    store: stores.flatMap((u) =>
      FOUR.map((s) => {
        const member = 'xyzw'[s];
        return lines === 4
          ? `${to(u, s)} = vec4f(${FOUR.map((i) => `${x}v${4 * u + i}.${member}`).join(', ')});`
          : `${to(u, s)}[${x}_in] = ${x}v${u}.${member};`;
      }),
    ),
    quad: (i, d, step) =>
      at(step, `${i * o.tiles}u + ${typeof d === 'number' ? `${x}_from${d}` : swizzle(o.tile, d, o.tiles)}`),
  };
}

function makeMatmulBlock(v: MatmulBlockVariant): Kernel {
  const { blockM, blockN, blockK, tileM, tileN, fewRegisters } = v;
  const [down, across] = [blockM / tileM, blockN / tileN];
  const invocations = blockInvocations(v);
  const [rowQuads, columnQuads] = [range(tileM / 4), range(tileN / 4)];
  const tile: Tile = {
    rows: rowQuads.flatMap((i) => FOUR.map((j) => 4 * down * i + j)),
    columns: columnQuads.map((i) => 4 * across * i),
    ...(fewRegisters && {
      total: (m, q) => `totals[${(m * columnQuads.length + q) * invocations}u + lane]`,
    }),
  };
  const reader = weightReader(v.weight, true);
  const prologue = prologueParts(v.prologue, v.transA);
  const common = { depth: blockK, invocations };
  const a = operand({
    ...common,
    x: 'a',
    width: blockM,
    first: 'first_row',
    size: 'p.m',
    alongK: !v.transA,
    tile: 'tile_row',
    tiles: down,
    quads: rowQuads.length,
    read: (at, row, k) => prologue.load(`a[${at}]`, row, k),
    ofRow: prologue.row,
    ofK: prologue.column,
  });
  const b = operand({
    ...common,
    x: 'b',
    width: blockN,
    first: 'first_column',
    size: 'p.n',
    alongK: v.transB,
    tile: 'tile_column',
    tiles: across,
    quads: columnQuads.length,
    read: reader.quad,
  });
  const load = (k0: string): string => [...a.load(k0), ...b.load(k0)].join('\n      ');
  /** One step, of the four at `d`. */
  const multiply = (d: number | string, step: string): string =>
    [
      '{',
      ...rowQuads.map((i) => `let a${i} = ${a.quad(i, d, step)};`),
      ...columnQuads.map((i) => `let b${i} = ${b.quad(i, d, step)};`),
      ...tile.rows.flatMap((_, m) =>
        columnQuads.map((q) => `c${m}_${q} = fma(vec4f(a${m >> 2}.${'xyzw'[m & 3]}), b${q}, c${m}_${q});`),
      ),
      '}',
    ].join('\n      ');
  /**
   * The number of the invocation, which compilers take for one that `changing` changes: what is made of it is made where it is needed,
   * and takes no registers before.
   */
  const lane = (changing: string): string =>
    fewRegisters ? `let lane = (at ^ (${changing} * p.zero)) % ${invocations}u;` : '';
  const place = [...a.place, ...b.place].join('\n  ');
  const turns = blockK / 4;
  // A bound that the compiler does not know forbids it to write the turns out.
  const steps = fewRegisters
    ? `for (var i = 0u; i < 65536u; i++) {
      if (i >= ${turns}u + p.zero) { break; }
      let d = i % ${turns}u;
      ${FOUR.map((s) => multiply('d', `(4u * d + ${s}u)`)).join('\n      ')}
    }`
    : range(blockK)
        .map((step) => multiply(step >> 2, `${step}u`))
        .join('\n      ');
  const rest = `for (var i = 0u; i < 65536u; i++) {
      if (i >= end - k0) { break; }
      let step = i % ${blockK}u;
      ${multiply('(step / 4u)', 'step')}
    }`;
  const loadNow = `{ ${load('k0')} }`;
  /** Stores the slab that is loaded and multiplies it by `steps`, in an iteration of the loop over `counter`. */
  const slab = (counter: string, steps: string): string => `
      ${lane(counter)} ${fewRegisters ? place : ''}
      ${[...a.store, ...b.store].join('\n      ')}
      workgroupBarrier();
      ${steps}
      workgroupBarrier();`;
  const own = `let row0 = first_row + 4u * (lane / ${across}u); let col0 = first_column + 4u * (lane % ${across}u);`;
  return {
    name: name(v),
    bindings: matmulBindings('vec4f', reader.element, v.vectorC ? 'vec4f' : 'f32', v),
    params: matmulParams(v),
    workgroup: [invocations, 1, 1],
    body: `
${reader.declarations}${epilogueParts(v.epilogue, v.vectorC).declarations}
var<workgroup> a_slab: array<vec4f, ${(blockM * blockK) / 4}>;
var<workgroup> b_slab: array<vec4f, ${(blockN * blockK) / 4}>;
${fewRegisters ? `var<workgroup> totals: array<vec4f, ${(blockM * blockN) / 4}>;` : ''}
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) at: u32) {
  let first_row = wid.y * ${blockM}u;
  let first_column = wid.x * ${blockN}u;
  let tile_row = at / ${across}u;
  let tile_column = at % ${across}u;
  let lane = at;
  ${own}
  ${matmulBases('wid.z')}
  ${[...a.setup, ...b.setup].join('\n  ')}
  ${fewRegisters ? '' : place}
  ${openTile(tile, v.vectorC, v)}
  ${[...a.registers, ...b.registers].map((r) => `var ${r} = vec4f(0.0);`).join(' ')}
  ${fewRegisters ? '' : `{ ${load('0u')} }`}
  ${inChunks(
    tileSums(tile),
    'vec4f',
    // What is left of K behind its whole slabs has a loop of its own: the one that all the time goes to stays free of it.
    `for (var slab = 0u; slab < ${CHUNK / blockK}u; slab++) {
      let k0 = first + slab * ${blockK}u;
      if (k0 + ${blockK}u > p.k) { break; }
      ${fewRegisters ? loadNow : ''} ${slab('slab', fewRegisters ? steps : `{ ${load(`(k0 + ${blockK}u)`)} } ${steps}`)}
    }
    if (end % ${blockK}u != 0u) {
      let k0 = end / ${blockK}u * ${blockK}u;
      ${loadNow} ${slab('turn', rest)}
    }
    ${lane('turn')}`,
  )}
  ${fewRegisters ? `{ ${lane('p.m')} ${own} ${matmulBases('(wid.z ^ p.zero)')}\n  ${storeTile(tile, v.vectorC, v)} }` : storeTile(tile, v.vectorC, v)}
}`,
  };
}
