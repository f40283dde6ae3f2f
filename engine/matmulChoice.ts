/**
 * Which kernel computes a product: by what the device can do, then by what was measured on it (tune.ts), then by a prior.
 *
 * All candidates sum in one order (kernels/matmulParts.ts), so the choice may depend on anything: only the time differs.
 *
 * So may whether workgroups share K, so that a product of few outputs fills a GPU: each sums a chunk, and matmulFold.ts adds them.
 */

import {
  blockBytes,
  blockInvocations,
  CHUNK,
  type Fusion,
  isQuantised,
  type Kernel,
  MAX_GROUPS,
  type MatmulBlock,
  type MatmulLanesVariant,
  type MatmulVariant,
  matmul,
  matmulBlock,
  matmulGemv,
  matmulLanes,
  matmulUnits,
  type UnitsBlock,
  unitsBytes,
  unitsFetched,
  unitsInvocations,
  unitsSums,
  type WeightFormat,
} from '../kernels/index.ts';
import { GEMV_STEP, gemvColumns, gemvPiece, gemvThreads, gemvUnit, loadsOf } from '../kernels/matmulGemv.ts';
import { PACKINGS, storedRow } from '../kernels/packing.ts';
import type { Capabilities, Device } from './device.ts';
import { DeviceError } from './errors.ts';
import type { BufferWindow } from './memory.ts';

/**
 * How a product is computed: in f32; on matrix units with factors split into two f16 numbers, nearly as exact; or with
 * factors rounded to f16, whose sums are f32 still.
 */
export type Precision = 'f32' | 'split-f16' | 'f16';

export interface ProductShape {
  readonly m: number;
  readonly n: number;
  readonly k: number;
  /** Products of a batch; 1 unless given. */
  readonly z?: number;
  /** Numbers from one stored row of B to the next; unless given, as many as a row of this product takes up. */
  readonly ldb?: number;
}

/** How the operands of a product lie, as its kernel reads them. */
type KernelLayout = Pick<
  MatmulVariant,
  'transA' | 'transB' | 'vectorA' | 'vectorB' | 'vectorC' | 'tail' | 'weight'
>;
/** The same as they are stored. */
export interface OperandLayout extends KernelLayout {
  readonly weight: WeightFormat;
}

export interface Choice {
  readonly name: string;
  readonly kernel: (fusion: Fusion) => Kernel;
  /** Rows and columns of C that a workgroup makes. */
  readonly rows: number;
  readonly columns: number;
  /** Workgroups that follow each other share columns: x counts blocks of rows. */
  readonly rowsFirst: boolean;
  /** Its invocations share K, so that workgroups need not. */
  readonly sharesK?: boolean;
}

/**
 * Tile and workgroup of the kernel that runs everywhere, by shape, subgroup width and registers. A workgroup holds at least two
 * subgroups; wide ones suit GPUs, narrow ones the CPU's vectors, where more groups than cores matter more.
 */
export function tiling(
  m: number,
  n: number,
  { subgroupSize: subgroup, fewRegisters }: Pick<Capabilities, 'subgroupSize' | 'fewRegisters'>,
): Pick<MatmulVariant, 'tileM' | 'tileN' | 'groupM' | 'groupN'> {
  const small = fewRegisters && m <= 4 * MAX_GROUPS;
  const tileM = m === 1 ? 1 : m === 2 || small ? 2 : m <= 4 ? 4 : 8;
  const tileN = n < 8 || tileM === 1 || small ? 4 : 8;
  const rows = Math.ceil(m / tileM);
  const lanes = 2 * subgroup;
  const groupM = rows > 1 ? (subgroup >= 32 && rows >= 8 ? 8 : 2) : 1;
  return { tileM, tileN, groupM, groupN: lanes / groupM };
}

/** Widest subgroup that is taken for a CPU's vector, whose lanes are loaded one by one (matmulLanes.ts). */
export const NARROW_SUBGROUP = 8;

/** Tile of the kernel for narrow subgroups, or null where it does not apply: few rows are as fast with plain loads. */
export function lanesTiling(
  m: number,
  n: number,
  { subgroups, subgroupSize, subgroupSizeFixed }: Capabilities,
): Pick<MatmulLanesVariant, 'tileM' | 'tileN' | 'lanes'> | null {
  if (m <= 8 || !subgroups || !subgroupSizeFixed || subgroupSize > NARROW_SUBGROUP) return null;
  return { tileM: m >= 64 ? 32 : 16, tileN: n > 2 * subgroupSize ? 4 : 2, lanes: subgroupSize };
}

const block = (blockM: number, blockN: number, blockK: number, tileM: number, tileN: number) => ({
  ...{ blockM, blockN, blockK, tileM, tileN },
  fewRegisters: false,
});

/** Blocks through workgroup memory, for few rows, few outputs and many, and for few registers a lane. */
export const BLOCKS: readonly MatmulBlock[] = [
  block(16, 64, 32, 4, 4),
  block(32, 32, 32, 4, 4),
  block(64, 64, 16, 8, 8),
  block(64, 64, 16, 8, 4),
  block(64, 64, 16, 4, 4),
  block(128, 128, 16, 8, 8),
  { ...block(32, 32, 16, 4, 4), fewRegisters: true },
  { ...block(64, 64, 16, 4, 4), fewRegisters: true },
];

/** Workgroups with which a large GPU is full: two for each processor. */
const FULL = 256;

/** The blocks that a device can run, best guess first: none more than half empty. */
function blocks({ m, n, z = 1 }: ProductShape, capabilities: Capabilities): MatmulBlock[] {
  const groups = ({ blockM, blockN }: MatmulBlock): number =>
    Math.ceil(m / blockM) * Math.ceil(n / blockN) * z;
  // The block that reuses most of those that fill the device, or the smallest; of few rows, the one of few.
  const prior = m <= 16 ? 16 : groups(BLOCKS[2]!) >= FULL ? 64 : 32;
  const fitting = BLOCKS.filter(
    (b) =>
      b.fewRegisters === capabilities.fewRegisters &&
      n >= b.blockN &&
      (b.blockM <= 32 || m > b.blockM / 2) &&
      blockBytes(b) <= capabilities.workgroupBytes &&
      blockInvocations(b) <= capabilities.invocations &&
      Math.ceil(m / b.blockM) <= MAX_GROUPS,
  );
  return fitting.sort((p, q) => Number(q.blockM === prior) - Number(p.blockM === prior));
}

/**
 * Most rows for which reading the weights takes longer than multiplying them: every four rows read them again, from a cache, and small
 * GPUs wait for that. Beyond, up to the most of all, where blocks would leave processors idle.
 */
const FEW_ROWS = { large: 48, small: 8 } as const;
const MOST_ROWS = 64;
/** Processors of a large GPU, and of a small one. */
const PROCESSORS = { large: 128, small: 10 } as const;
/** Workgroups that keep the processors of a large GPU busy. */
const BUSY_GROUPS = 512;
/** Most multiply-adds of a piece, which is written out: compilers take longer than in proportion. */
const MULTIPLY_ADDS = 256;
const MULTIPLY_ADDS_OF_FEW = 64;

/** 16-byte loads under way that few registers hold. */
const LOADS_OF_FEW = 4;
/** Chunks of K whose rows of A they hold beside unpacked weights. */
const CHUNKS_OF_FEW = 4;

/** Whether a product has so few rows, or outputs, that reading its weights is what it costs. */
function isFew(shape: ProductShape, capabilities: Capabilities): boolean {
  const { m, n, z = 1 } = shape;
  const size = capabilities.fewProcessors ? 'small' : 'large';
  if (m <= FEW_ROWS[size]) return true;
  const rows = m <= 16 ? 16 : 32;
  const groups = Math.ceil(m / rows) * Math.ceil(n / (1024 / rows)) * z;
  return groups * Math.max(1, sharedChunks(shape, capabilities)) < PROCESSORS[size];
}

/** The kernel whose invocations share K, or null where it does not apply. */
function gemv(shape: ProductShape, layout: KernelLayout, capabilities: Capabilities): Choice | null {
  const { m, n, k, ldb } = shape;
  const { fewRegisters, invocations } = capabilities;
  const { transA, transB, vectorA, vectorB, vectorC, tail, weight } = layout;
  if (m > MOST_ROWS || transA || tail || !vectorA || !vectorB || !(transB || vectorC)) return null;
  if (transB && (ldb ?? storedRow(weight, k)) % gemvUnit(weight) !== 0) return null;
  // What is read at once takes too many of few registers, alone (int8) or beside the rows of many chunks (int4).
  const grouped = PACKINGS[weight].group > 4;
  const tooMany =
    fewRegisters &&
    transB &&
    (loadsOf(weight, gemvUnit(weight)) > LOADS_OF_FEW || (grouped && m > 1 && k > CHUNKS_OF_FEW * CHUNK));
  const inSteps = tooMany && PACKINGS[weight].group <= GEMV_STEP;
  // Invocations that do not share K hold totals of quads beside their sums: four rows of both are too much for few registers.
  const held = tooMany || (fewRegisters && !transB && k <= CHUNK) ? 2 : 4;
  const tileM = m === 1 ? 1 : m === 2 ? 2 : held;
  // A power of two: one for each chunk, as long as sums of the others fit into workgroup memory, too.
  const widest = transB ? 16 : 64 / tileM;
  const lanes = Math.min(widest, Math.max(1, 2 ** Math.ceil(Math.log2(k / CHUNK))));
  const groups = (tileN: 1 | 2): number =>
    Math.ceil(m / tileM) * Math.ceil(n / gemvColumns({ transB, tileN, lanes }));
  const tileN = transB && !fewRegisters && groups(2) >= BUSY_GROUPS ? 2 : 1;
  const columns = gemvColumns({ transB, tileN, lanes });
  if (gemvThreads(lanes) > invocations || Math.ceil(n / columns) > MAX_GROUPS) return null;
  // 16-byte loads under way: more of them where there are few workgroups.
  const loads = fewRegisters ? LOADS_OF_FEW : transB || groups(1) >= BUSY_GROUPS ? 16 : 32;
  const most = fewRegisters ? MULTIPLY_ADDS_OF_FEW : MULTIPLY_ADDS;
  const piece = gemvPiece({ transB, weight }, k, loads / tileN, most / (tileM * tileN));
  if (piece === null) return null;
  const variant = { transB, weight, tileM, tileN, lanes, piece, inSteps } as const;
  return {
    name: `gemv ${tileM}x${tileN} by ${lanes}`,
    kernel: (fusion) => matmulGemv({ ...variant, ...fusion }),
    rows: tileM,
    columns,
    rowsFirst: true,
    sharesK: true,
  };
}

/** Every kernel that can compute this product on this device, best guess first. */
export function candidates(shape: ProductShape, given: OperandLayout, capabilities: Capabilities): Choice[] {
  const layout =
    given.weight === 'f16' && capabilities.halves ? { ...given, weight: 'half' as const } : given;
  const { transA, transB, vectorC, weight } = layout;
  const choices: Choice[] = [];
  const lanes = weight === 'f32' ? lanesTiling(shape.m, shape.n, capabilities) : null;
  if (lanes)
    choices.push({
      name: `lanes ${lanes.tileM}x${lanes.tileN}`,
      kernel: (fusion) => matmulLanes({ transA, transB, ...lanes, ...fusion }),
      rows: lanes.tileM,
      columns: lanes.tileN * lanes.lanes,
      rowsFirst: true,
    });
  const tile = tiling(shape.m, shape.n, capabilities);
  const tiles: Choice = {
    name: `tiles ${tile.tileM}x${tile.tileN}`,
    kernel: (fusion) => matmul({ ...layout, ...tile, ...fusion }),
    rows: tile.tileM * tile.groupM,
    columns: tile.tileN * tile.groupN,
    rowsFirst: false,
  };
  const narrow = capabilities.subgroupSize <= NARROW_SUBGROUP;
  const fewRows = narrow ? null : gemv(shape, layout, capabilities);
  if (narrow) choices.push(tiles);
  const few = isFew(shape, capabilities);
  if (fewRows && few) choices.push(fewRows);
  if (layout.vectorA && layout.vectorB)
    for (const block of blocks(shape, capabilities))
      choices.push({
        name: `block ${block.blockM}x${block.blockN} ${block.tileM}x${block.tileN}${block.fewRegisters ? ' few' : ''}`,
        kernel: (fusion) => matmulBlock({ transA, transB, vectorC, weight, ...block, ...fusion }),
        rows: block.blockM,
        columns: block.blockN,
        rowsFirst: false,
      });
  if (fewRows && !few) choices.push(fewRows);
  if (!narrow) choices.push(tiles);
  return choices;
}

/** One product of whole matrices by this very kernel, as comparing and timing kernels takes it; `windows` of a, b and c. */
export function multiplyBy(
  { kernel, rows, columns, rowsFirst }: Choice,
  device: Device,
  windows: readonly [a: BufferWindow, b: BufferWindow, c: BufferWindow],
  { m, n, k }: ProductShape,
  { transA, transB, weight }: OperandLayout,
): void {
  const variant = kernel({ bias: false, accumulate: false });
  const [down, across] = [Math.ceil(m / rows), Math.ceil(n / columns)];
  const ldb = storedRow(weight, transB ? k : n);
  // Batches, windows and what else there is: 0.
  const sizes: Readonly<Record<string, number>> = { m, n, k, lda: transA ? m : k, ldb, ldc: n };
  device.dispatch(
    variant,
    windows,
    Object.keys(variant.params).map((name) => sizes[name] ?? 0),
    rowsFirst ? [down, across, 1] : [across, down, 1],
  );
}

/** Most outputs of a product whose K workgroups share: 64 blocks of 64 x 64, about half the processors of a large GPU. */
const FEW_OUTPUTS = 64 * 64 * 64;
/** Fewest chunks for which adding their sums in a dispatch of its own is worth it. */
const SHARED_CHUNKS = 4;
/** Most bytes that sums of chunks take meanwhile. */
const SHARED_BYTES = 2 ** 24;

/** How many chunks of K workgroups of their own sum at a time; 0 where K is not shared. */
export function sharedChunks({ m, n, k }: ProductShape, capabilities: Capabilities): number {
  const { subgroupSize, bindingBytes, bufferBytes } = capabilities;
  const chunks = Math.ceil(k / CHUNK);
  if (subgroupSize <= NARROW_SUBGROUP || m * n > FEW_OUTPUTS || chunks < SHARED_CHUNKS) return 0;
  const fitting = Math.floor(Math.min(SHARED_BYTES, bindingBytes, bufferBytes) / (4 * m * n));
  return Math.min(chunks, fitting, MAX_GROUPS);
}

/** Rows of the products that stand for a class each: everything up to so many rows and beyond the one before. */
export const ROW_CLASSES = [1, 4, 16, 64, 512, 4096] as const;

/** How operands of `m` rows and whole quads along every other axis lie. */
export const evenLayout = (
  m: number,
  transA: boolean,
  transB: boolean,
  weight: OperandLayout['weight'],
): OperandLayout => ({
  transA,
  transB,
  vectorA: !transA || m % 4 === 0,
  vectorB: true,
  vectorC: true,
  tail: false,
  weight,
});

/** As people are shown it: `f32 A^T B^T`. */
export const layoutName = ({
  transA,
  transB,
  weight,
}: Pick<OperandLayout, 'transA' | 'transB' | 'weight'>): string =>
  `${weight}${transA ? ' A^T' : ''}${transB ? ' B^T' : ''}`;

/** Products among which one kernel is the fastest: by rows, layout, and whether weights are unpacked by groups. */
export function productClass(m: number, layout: OperandLayout): string {
  const rows = ROW_CLASSES.find((most) => m <= most) ?? ROW_CLASSES.at(-1);
  return `${layoutName({ ...layout, weight: isQuantised(layout.weight) ? 'int4' : 'f32' })} ${rows} rows`;
}

/** What a device knows about its kernels. */
interface Chooser {
  readonly capabilities: Capabilities;
  readonly tuning: ReadonlyMap<string, string>;
}

/** The kernel for a product: the one measured to be fastest in its class if it applies, else the best guess. */
export function choose(
  shape: ProductShape,
  layout: OperandLayout,
  { capabilities, tuning }: Chooser,
): Choice {
  const all = candidates(shape, layout, capabilities);
  const fastest = tuning.size > 0 ? tuning.get(productClass(shape.m, layout)) : undefined;
  return all.find((choice) => choice.name === fastest) ?? all[0]!;
}

/** Blocks of matrix units, larger first: the last one for a product of few rows or columns. */
export const UNITS_BLOCKS: readonly Pick<UnitsBlock, 'blockM' | 'blockN'>[] = [
  { blockM: 128, blockN: 128 },
  { blockM: 128, blockN: 64 },
  { blockM: 64, blockN: 64 },
  { blockM: 32, blockN: 32 },
];
/** Most sums of a lane on matrix units, beside the matrices that it multiplies; and where registers are few. */
const UNITS_SUMS = 128;
const FEW_UNITS_SUMS = 32;

/** Every kernel for matrix units that can compute this product, best guess first. @throws DeviceError where there is none. */
export function unitsCandidates(
  { m, n, k, z = 1, ldb }: ProductShape,
  precision: Exclude<Precision, 'f32'>,
  { transA, transB, vectorA, vectorB, weight }: OperandLayout,
  { matrixUnit, subgroupSize: lanes, fewRegisters, workgroupBytes, invocations }: Capabilities,
): Choice[] {
  const refusal = (why: string): DeviceError => new DeviceError('precision', `precision ${precision} ${why}`);
  if (!matrixUnit)
    throw refusal('needs matrix units, which this device does not offer (docs/architecture.md)');
  if (weight !== 'f32' && weight !== 'f16') throw refusal(`needs f32 or f16 operands, got ${weight}`);
  const split = precision === 'split-f16';
  const unit = { unitM: matrixUnit.m, unitN: matrixUnit.n, unitK: matrixUnit.k, lanes };
  const able = UNITS_BLOCKS.map(({ blockM, blockN }) => {
    // Two parts of each factor take twice the room: large slabs are half as deep.
    const blockK = Math.max(split && blockM > 64 ? 16 : 32, unit.unitK);
    return { blockM, blockN, blockK, weight, split, ...unit };
  }).filter(
    (b) =>
      b.blockM % (2 * b.unitM) === 0 &&
      b.blockN % (2 * b.unitN) === 0 &&
      unitsSums(b) <= (fewRegisters ? FEW_UNITS_SUMS : UNITS_SUMS) &&
      unitsBytes(b) <= workgroupBytes &&
      unitsInvocations(b) <= invocations,
  );
  if (able.length === 0)
    throw refusal("finds no block that fits this device's matrix units, registers and workgroup memory");
  // The largest that fills the device, of those not more than half empty, else the smallest of 64 rows or more.
  const fitting = able.filter((b) => m > b.blockM / 2 && n > b.blockN / 2);
  const large = fitting.filter((b) => b.blockM >= 64);
  const groups = (b: UnitsBlock): number => Math.ceil(m / b.blockM) * Math.ceil(n / b.blockN) * z;
  const prior = large.find((b) => groups(b) >= FULL) ?? large.at(-1) ?? fitting.at(-1) ?? able.at(-1)!;
  const row = transB ? k : n;
  const eight = row % 8 === 0 && (ldb ?? row) % 8 === 0;
  return [prior, ...able.filter((b) => b !== prior)].map((b) => {
    const wide = eight && unitsFetched(b.blockN, b) >= 8 ? 8 : 4;
    const vectors = {
      vectorA: vectorA ? 4 : 1,
      vectorB: weight === 'f16' ? wide : vectorB ? 4 : 1,
    } as const;
    return {
      name: `units ${precision} ${b.blockM}x${b.blockN}`,
      kernel: (fusion) => matmulUnits({ transA, transB, ...vectors, ...b, ...fusion }),
      rows: b.blockM,
      columns: b.blockN,
      rowsFirst: false,
    };
  });
}

/** A kernel, ready to be dispatched, and what its workgroups make. */
export type ProductKernel = Omit<Choice, 'name' | 'kernel'> & { readonly kernel: Kernel };

const chosen = new WeakMap<Capabilities, Map<string, ProductKernel>>();

/** The kernel for a product, remembered: naming a variant costs as much as all else of its dispatch. */
export function productKernel(
  shape: ProductShape,
  layout: OperandLayout,
  fusion: Fusion,
  precision: Precision,
  device: Chooser,
): ProductKernel {
  const { capabilities, tuning } = device;
  let known = chosen.get(capabilities);
  if (!known) {
    known = new Map();
    chosen.set(capabilities, known);
  }
  const { transA, transB, vectorA, vectorB, vectorC, tail, weight } = layout;
  let flags = 0;
  const { bias, accumulate, resume = false } = fusion;
  for (const on of [transA, transB, vectorA, vectorB, vectorC, tail, bias, accumulate, resume])
    flags = 2 * flags + Number(on);
  const key = `${shape.m},${shape.n},${shape.k},${shape.z},${shape.ldb},${flags},${weight},${fusion.epilogue},${fusion.prologue},${precision},${tuning.size}`;
  const found = known.get(key);
  if (found) return found;
  const { name, kernel, ...made } =
    precision === 'f32'
      ? choose(shape, layout, device)
      : unitsCandidates(shape, precision, layout, capabilities)[0]!;
  const product = { ...made, kernel: kernel(fusion) };
  known.set(key, product);
  return product;
}
