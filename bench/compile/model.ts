/**
 * A rough estimate of one dispatch on named GPUs: a model, not a measurement (README.md has its formulas). Never compared with a
 * GPU: expect a factor of two, and trust its order more than its size.
 */

import type { Counts } from './interpret.ts';
import type { Compiled } from './mesa.ts';

export interface Gpu {
  /** Processors, and their clock in GHz. */
  readonly processors: number;
  readonly clock: number;
  /** Of a processor and clock: instructions of 32 lanes, bytes of workgroup memory, bytes from the cache behind it. */
  readonly rate: number;
  readonly sharedBytes: number;
  readonly cacheBytes: number;
  /** GB/s of memory. */
  readonly bandwidth: number;
  /** What fits on a processor: invocations, workgroups, 32-bit registers, bytes of workgroup memory. */
  readonly threads: number;
  readonly groups: number;
  readonly registers: number;
  readonly workgroupBytes: number;
  /** Microseconds of a dispatch behind a barrier; nanoseconds until a load is there, from memory and workgroup memory. */
  readonly launch: number;
  readonly memory: number;
  readonly shared: number;
  /** Scalar instructions issue beside the vector ones, and multiply-adds of 64 lanes take one clock. */
  readonly scalar: boolean;
  /** The family whose mix of instructions stands for it. */
  readonly family: string;
}

export const GPUS = {
  h200: {
    processors: 132,
    clock: 1.98,
    rate: 4,
    sharedBytes: 128,
    cacheBytes: 64,
    bandwidth: 4800,
    threads: 2048,
    groups: 32,
    registers: 65536,
    workgroupBytes: 227 * 1024,
    launch: 3,
    memory: 450,
    shared: 15,
    scalar: false,
    family: 'navi31',
  },
  rtx4070: {
    processors: 46,
    clock: 2.475,
    rate: 4,
    sharedBytes: 128,
    cacheBytes: 64,
    bandwidth: 504,
    threads: 1536,
    groups: 24,
    registers: 65536,
    workgroupBytes: 100 * 1024,
    launch: 3,
    memory: 400,
    shared: 12,
    scalar: false,
    family: 'navi31',
  },
  m2: {
    processors: 10,
    clock: 1.398,
    rate: 4,
    sharedBytes: 64,
    cacheBytes: 64,
    bandwidth: 100,
    threads: 1024,
    groups: 32,
    registers: 53248,
    workgroupBytes: 60 * 1024,
    launch: 5,
    memory: 500,
    shared: 25,
    scalar: false,
    family: 'navi31',
  },
  '7900xtx': {
    processors: 96,
    clock: 2.5,
    rate: 2,
    sharedBytes: 128,
    cacheBytes: 64,
    bandwidth: 960,
    threads: 2048,
    groups: 32,
    registers: 98304,
    workgroupBytes: 64 * 1024,
    launch: 4,
    memory: 400,
    shared: 25,
    scalar: true,
    family: 'navi31',
  },
  a770: {
    processors: 32,
    clock: 2.4,
    rate: 4,
    sharedBytes: 128,
    cacheBytes: 64,
    bandwidth: 560,
    threads: 2048,
    groups: 64,
    registers: 65536,
    workgroupBytes: 128 * 1024,
    launch: 6,
    memory: 600,
    shared: 40,
    scalar: false,
    family: 'dg2',
  },
} as const satisfies Record<string, Gpu>;

/** Instructions that 32 lanes issue in one run of the kernel. */
function slots({ scalar }: Gpu, { loops, hot, whole }: Compiled, counts: Counts): number {
  const of = ({ valu, fma, issued }: NonNullable<Compiled['hot']>): number =>
    scalar ? valu - fma / 2 : issued;
  if (loops === 0) return of(whole);
  const moved = counts.loads + counts.stores + counts.sharedStores;
  const rest = (operations: number): number => (scalar ? 0.75 * operations : operations + moved);
  if (hot && hot.fmaOps > 0 && counts.fma > 0) return (counts.fma * of(hot)) / hot.fmaOps + rest(counts.cold);
  return rest(counts.alu + counts.fma + counts.sharedLoads);
}

/** How often a wave waits for workgroup memory: as the compiler placed it in the hottest loop, else once a block that loads. */
const sharedWaits = ({ hot }: Compiled, { fma, sharedRounds }: Counts): number =>
  hot && hot.fmaOps > 0 && hot.loads === 0 && hot.drains !== null
    ? (fma * hot.drains) / hot.fmaOps
    : sharedRounds;

export type Limit = 'launch' | 'issue' | 'shared' | 'memory' | 'latency';

/** Microseconds of one dispatch, and what they are spent on. `bound`: bytes bound, by binding. */
export function estimate(
  gpu: Gpu,
  kernel: Compiled & { readonly workgroup: readonly [number, number, number] },
  counts: Counts,
  { grid, bound }: { readonly grid: readonly [number, number, number]; readonly bound: readonly number[] },
): { readonly time: number; readonly limit: Limit } {
  const product = (sizes: readonly number[]): number => sizes.reduce((a, b) => a * b, 1);
  const [groups, threads] = [product(grid), product(kernel.workgroup)];
  const warps = Math.ceil(threads / 32);
  const resident = Math.max(
    1,
    Math.floor(
      Math.min(
        gpu.threads / threads,
        gpu.groups,
        gpu.registers / (kernel.registers * threads),
        kernel.workgroupBytes > 0 ? gpu.workgroupBytes / kernel.workgroupBytes : Infinity,
      ),
    ),
  );
  // Of the busiest processor.
  const share = Math.ceil(groups / gpu.processors);
  const used = Math.min(groups, gpu.processors);
  const cycle = 1e-3 / gpu.clock;
  let [unique, touched] = [0, 0];
  for (const [at, bytes] of counts.bytes) {
    touched += bytes * threads * groups;
    unique += Math.min(bytes * threads * groups, bound[at] ?? Infinity);
  }
  const limits: Readonly<Record<Limit, number>> = {
    launch: gpu.launch,
    issue:
      (share * warps * slots(gpu, kernel, counts) * cycle) /
      Math.min(gpu.rate, Math.min(resident, share) * warps),
    shared: ((share * threads * counts.sharedBytes) / gpu.sharedBytes) * cycle,
    memory: Math.max(unique / (gpu.bandwidth * 1e3), (touched / (used * gpu.cacheBytes)) * cycle),
    latency:
      Math.ceil(share / resident) *
      (counts.rounds * gpu.memory + sharedWaits(kernel, counts) * gpu.shared) *
      1e-3,
  };
  const [limit, time] = (Object.entries(limits) as [Limit, number][]).reduce((a, b) => (b[1] > a[1] ? b : a));
  return { time, limit };
}
