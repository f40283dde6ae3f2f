/**
 * Time and work by kernel. With timestamp queries each dispatch gets a pass of its own and its GPU time; without them
 * only counts, flops and bytes are known, and the report says so.
 */

export interface KernelProfile {
  readonly kernel: string;
  readonly dispatches: number;
  readonly flops: number;
  /** Bytes of all bindings: an upper bound of the traffic without caches. */
  readonly bytes: number;
  /** GPU nanoseconds, or null where the device has no timestamp queries. */
  readonly nanoseconds: number | null;
}

/** One timed dispatch. */
export interface KernelSpan {
  readonly kernel: string;
  readonly flops: number;
  /** Bytes of all bindings. */
  readonly bytes: number;
  /** GPU nanoseconds since the first span. */
  readonly begin: number;
  readonly end: number;
}

type Work = Pick<KernelSpan, 'kernel' | 'flops' | 'bytes'>;

interface Row {
  dispatches: number;
  flops: number;
  bytes: number;
  nanoseconds: number;
}

/** A lost device is told by its own promise. */
const noTimes = (): void => {};

/** Dispatches that one set of queries can time before it is resolved. */
const CAPACITY = 2048;

export class Profiler {
  readonly timed: boolean;
  readonly #device: GPUDevice;
  readonly #rows = new Map<string, Row>();
  #querySet: GPUQuerySet | null = null;
  #pending: Work[] = [];
  readonly #resolved: Promise<void>[] = [];
  readonly #spans: (Work & { begin: bigint; end: bigint })[] = [];

  constructor(device: GPUDevice, timed: boolean) {
    this.#device = device;
    this.timed = timed;
  }

  /** Counts a dispatch; returns timestamp writes for its pass where the device can time it. */
  begin(kernel: string, flops: number, bytes: number): GPUComputePassTimestampWrites | undefined {
    const row = this.#rows.get(kernel) ?? { dispatches: 0, flops: 0, bytes: 0, nanoseconds: 0 };
    row.dispatches++;
    row.flops += flops;
    row.bytes += bytes;
    this.#rows.set(kernel, row);
    if (!this.timed) return undefined;
    this.#querySet ??= this.#device.createQuerySet({ type: 'timestamp', count: 2 * CAPACITY });
    const at = this.#pending.push({ kernel, flops, bytes }) - 1;
    return {
      querySet: this.#querySet,
      beginningOfPassWriteIndex: 2 * at,
      endOfPassWriteIndex: 2 * at + 1,
    };
  }

  get full(): boolean {
    return this.#pending.length >= CAPACITY;
  }

  /** Called as a submit is about to be made: resolves its timestamps into a buffer that is read afterwards. */
  resolve(encoder: GPUCommandEncoder): (() => void) | undefined {
    if (this.#pending.length === 0 || !this.#querySet) return undefined;
    const dispatches = this.#pending;
    this.#pending = [];
    const size = dispatches.length * 16;
    const raw = this.#device.createBuffer({
      size,
      usage: GPUBufferUsage.QUERY_RESOLVE | GPUBufferUsage.COPY_SRC,
    });
    const host = this.#device.createBuffer({
      size,
      usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST,
    });
    encoder.resolveQuerySet(this.#querySet, 0, dispatches.length * 2, raw, 0);
    encoder.copyBufferToBuffer(raw, 0, host, 0, size);
    return () => {
      const mapped = host.mapAsync(GPUMapMode.READ);
      this.#resolved.push(
        mapped.then(() => {
          const times = new BigUint64Array(host.getMappedRange());
          dispatches.forEach((work, i) => {
            const row = this.#rows.get(work.kernel);
            const begin = times[2 * i] ?? 0n;
            const end = times[2 * i + 1] ?? 0n;
            if (row && end > begin) row.nanoseconds += Number(end - begin);
            this.#spans.push({ ...work, begin, end });
          });
          host.destroy();
          raw.destroy();
        }, noTimes),
      );
    };
  }

  /** Every timed dispatch since profiling began, in order; empty without timestamps. */
  async spans(): Promise<KernelSpan[]> {
    await Promise.all(this.#resolved);
    const first = this.#spans.reduce(
      (least, s) => (s.begin < least ? s.begin : least),
      this.#spans[0]?.begin ?? 0n,
    );
    return this.#spans
      .map((s) => ({ ...s, begin: Number(s.begin - first), end: Number(s.end - first) }))
      .sort((a, b) => a.begin - b.begin);
  }

  /** Totals by kernel since the last report, slowest first. */
  async report(): Promise<KernelProfile[]> {
    await Promise.all(this.#resolved.splice(0));
    const rows = [...this.#rows].map(([kernel, row]) => ({
      kernel,
      ...row,
      nanoseconds: this.timed ? row.nanoseconds : null,
    }));
    this.#rows.clear();
    return rows.sort((a, b) => (b.nanoseconds ?? b.flops) - (a.nanoseconds ?? a.flops));
  }
}
