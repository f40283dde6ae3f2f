/**
 * Opening a device: Dawn through npm `webgpu` in Node, `navigator.gpu` in a browser.
 *
 * What the device can do is read once into `capabilities`, and every capability can be masked off, so that the paths for
 * poorer devices are tested on richer ones. Bad input never reaches the GPU; what still goes wrong there (loss, memory,
 * validation) is remembered and thrown as one typed error at the next readback.
 */

import { type Kernel, type KernelParams, type ParameterValues, ROW_GROUP } from '../kernels/index.ts';
import { DeviceError, DeviceLostError, DriverTimeoutError } from './errors.ts';
import { convertsHalves } from './halvesCheck.ts';
import { IndexFaults } from './indexFaults.ts';
import {
  type BufferWindow,
  MemoryPool,
  type MemoryReport,
  type PooledBuffer,
  type Purpose,
  type Window,
} from './memory.ts';
import { between, type Field, flag, like, list, optionsSchema, positive, text, whole } from './options.ts';
import { Patience } from './patience.ts';
import { type KernelProfile, type KernelSpan, Profiler } from './profiler.ts';
import { CommandQueue } from './queue.ts';
import { hasNodeModules, type Implementation, implementationOf, runtimeName } from './runtime.ts';
import { Watch } from './watch.ts';

/** What a device can do, each of which can be masked off. */
export interface Capabilities {
  /** 16-bit floats in shaders. */
  readonly f16: boolean;
  readonly subgroups: boolean;
  /** Invocations that run in lockstep: a hint for workgroup shapes. Where the adapter does not say, 32, or 8 on a CPU. */
  readonly subgroupSize: number;
  /** Every subgroup has `subgroupSize` invocations. */
  readonly subgroupSizeFixed: boolean;
  /** Matrices that a subgroup multiplies at once, f16 x f16 -> f32: [m, k] times [k, n]. Experimental: Dawn's toggle `allow_unsafe_apis`. */
  readonly matrixUnit: { readonly m: number; readonly n: number; readonly k: number } | null;
  /** Large tiles of numbers do not fit the registers of a lane: Intel's 64. */
  readonly fewRegisters: boolean;
  /** A guess by maker and name: some ten processors, as phones and small laptops have, which few workgroups fill. */
  readonly fewProcessors: boolean;
  /** `unpack2x16float` gives every 16-bit float its number, which a GPU is asked for when it is opened. */
  readonly halves: boolean;
  readonly immediates: boolean;
  /** Texels of a texture's longest side, where kernels can read storage textures (WGSL `readonly_and_readwrite_storage_textures`); else 0. */
  readonly textureSide: number;
  readonly timestamps: boolean;
  /** Bytes of one storage binding; larger tensors are kept in several buffers. */
  readonly bindingBytes: number;
  readonly bufferBytes: number;
  readonly storageBuffers: number;
  readonly invocations: number;
  readonly workgroupBytes: number;
}

/** What the adapter says of itself. */
export interface DeviceInfo {
  readonly vendor: string;
  readonly architecture: string;
  readonly description: string;
  readonly device: string;
  /** Runs on the CPU (lavapipe, SwiftShader): numbers are right, times are not a GPU's. */
  readonly software: boolean;
  /** Name and version of the runtime, e.g. `Node 20.20.2`. */
  readonly runtime: string;
  /** Who wrote the WebGPU that was opened. */
  readonly implementation: Implementation;
}

/** Which adapter, and what to do without. */
export interface DeviceOptions {
  /** An entry point of WebGPU to use instead of Dawn or `navigator.gpu`. */
  readonly gpu?: GPU;
  /** Part of the adapter's name (Node). */
  readonly adapterName?: string;
  /** Dawn's backend (Node): `vulkan`, `metal`, `d3d12`, `null`. */
  readonly backend?: string;
  /** Dawn toggles to enable (Node), e.g. `allow_unsafe_apis`. */
  readonly toggles?: readonly string[];
  /** Capabilities to do without, or to lower. */
  readonly mask?: Partial<Capabilities>;
  /** Bytes the pool may hold; an error comes before the driver's. Default: 64 GiB. */
  readonly memoryBudget?: number;
  /** Seconds in which the driver finishes nothing of what is waited for, after which it counts as hanging. Default: 600 of a GPU, 7200 of a CPU's. */
  readonly driverTimeout?: number;
}

const matrixField: Field<Capabilities['matrixUnit']> = like(
  (value) => value === null || (typeof value === 'object' && ['m', 'n', 'k'].every((size) => size in value!)),
  'null, or the matrices of a unit: { m, n, k }',
);

/** More than a device has takes nothing from it. */
const bytes = between(0, Number.MAX_VALUE, 'a number of bytes');

/** {@link DeviceOptions} */
export const deviceOptions = optionsSchema<DeviceOptions>(
  {
    gpu: like(
      (value) => typeof (value as Partial<GPU> | null)?.requestAdapter === 'function',
      'a GPU object',
    ),
    adapterName: text,
    backend: text,
    toggles: list(text, 'a list of names'),
    mask: optionsSchema<Partial<Capabilities>>({
      f16: flag,
      subgroups: flag,
      subgroupSize: whole(),
      subgroupSizeFixed: flag,
      matrixUnit: matrixField,
      fewRegisters: flag,
      fewProcessors: flag,
      halves: flag,
      immediates: flag,
      textureSide: whole(),
      timestamps: flag,
      bindingBytes: bytes,
      bufferBytes: bytes,
      storageBuffers: whole(),
      invocations: whole(),
      workgroupBytes: whole(),
    }),
    memoryBudget: positive,
    driverTimeout: positive,
  },
  { adapter: 'adapterName', memory: 'memoryBudget' },
);

/**
 * Dawn's root objects by their flags, kept until the process ends: one that is collected before everything made of it takes the
 * process down with it.
 */
const roots = new Map<string, GPU>();

interface EntryPoint {
  readonly gpu: GPU;
  readonly implementation: Implementation;
}

/** Dawn's addon, where this runtime loads it; else, as a text, why not. */
async function loadAddon(): Promise<typeof import('webgpu') | string> {
  if (!hasNodeModules()) return 'there is no Node';
  const name = 'webgpu';
  try {
    return (await import(/* @vite-ignore */ name)) as typeof import('webgpu');
  } catch (cause) {
    return (cause as Error).message.split('\n')[0]!;
  }
}

/** What there is: the addon, else the runtime's own. @throws DeviceError where there is neither */
async function findGpu(options: DeviceOptions): Promise<EntryPoint> {
  const own = typeof navigator === 'undefined' ? undefined : navigator.gpu;
  const ofRuntime = (gpu: GPU): EntryPoint => ({ gpu, implementation: implementationOf(runtimeName()) });
  if (options.gpu)
    return options.gpu === own ? ofRuntime(own) : { gpu: options.gpu, implementation: 'unknown' };
  const dawn = await loadAddon();
  if (typeof dawn === 'string') {
    if (own) return ofRuntime(own);
    throw new DeviceError(
      'no-webgpu',
      hasNodeModules()
        ? `${runtimeName()} has no WebGPU, and the addon of npm "webgpu" does not load (${dawn}); run npm install again, or use Node`
        : `${runtimeName()} has no WebGPU; use a recent Chrome, Edge, Safari or Firefox, over https or on localhost`,
    );
  }
  Object.assign(globalThis, dawn.globals);
  const flags = [
    // The pool hands out buffers as they were left: nothing may count on zeros, and clearing costs a pass over all memory.
    // And times of kernels are to be exact: Dawn rounds them, against pages that spy on others.
    'disable-dawn-features=lazy_clear_resource_on_first_use,timestamp_quantization',
    ...(options.toggles?.length ? [`enable-dawn-features=${options.toggles.join(',')}`] : []),
    ...(options.backend ? [`backend=${options.backend}`] : []),
    ...(options.adapterName ? [`adapter=${options.adapterName}`] : []),
  ];
  const key = flags.join(' ');
  const gpu = roots.get(key) ?? dawn.create(flags);
  roots.set(key, gpu);
  return { gpu, implementation: 'Dawn' };
}

interface SubgroupMatrixConfig {
  readonly componentType: string;
  readonly resultComponentType: string;
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

/** The largest matrices that the adapter multiplies with f16 factors and f32 sums. */
function matrixUnit(info: GPUAdapterInfo): Capabilities['matrixUnit'] {
  const { subgroupMatrixConfigs = [] } = info as { subgroupMatrixConfigs?: readonly SubgroupMatrixConfig[] };
  const [best] = subgroupMatrixConfigs
    .filter((c) => c.componentType === 'f16' && c.resultComponentType === 'f32')
    .sort((p, q) => q.M * q.N * q.K - p.M * p.N * p.K);
  return best ? { m: best.M, n: best.N, k: best.K } : null;
}

/** Whether this is a small GPU: WebGPU does not say how many processors there are. */
const isSmall = ({ vendor, architecture, description, device }: GPUAdapterInfo): boolean =>
  vendor === 'apple'
    ? !/\b(pro|max|ultra)\b/i.test(`${description} ${device}`)
    : vendor === 'intel'
      ? /^(gen-(9|11|12lp)|xe-lpg)/.test(architecture)
      : ['arm', 'img-tec', 'qualcomm', 'samsung'].includes(vendor);

/** Bounds of subgroup sizes that WebGPU has adapters name which have none, or do not tell theirs (section 3.6.1, `GPUAdapterInfo`). */
const UNTOLD = { min: 4, max: 128 } as const;
/** What is taken for the size where none is told: most GPUs have 32 or can have it, a CPU's vectors are narrow. */
const PRESUMED = { gpu: 32, cpu: 8 } as const;

/** Subgroup size, and whether it is the size of all. Bounds that differ tell nothing of a CPU, whose kernels need to be narrow. */
function subgroupsOf(adapter: GPUAdapter, software: boolean): { size: number; fixed: boolean } {
  const { subgroupMinSize: min, subgroupMaxSize: max } = adapter.info;
  const told = adapter.features.has('subgroups') && max > 0 && !(min === UNTOLD.min && max === UNTOLD.max);
  if (told && (min === max || !software)) return { size: max, fixed: min === max };
  return { size: software ? PRESUMED.cpu : PRESUMED.gpu, fixed: false };
}

/** How adapters are asked for: the command line keeps from its users what Dawn says meanwhile. */
export const adapters = {
  ask: (request: () => Promise<GPUAdapter | null>): Promise<GPUAdapter | null> => request(),
};

/** Opens the machine's best adapter, whose kernels are chosen by guess. @throws DeviceError where there is none. */
export async function openDevice(options: DeviceOptions = {}): Promise<Device> {
  const { gpu, implementation } = await findGpu(options);
  let adapter: GPUAdapter | null;
  try {
    adapter = await adapters.ask(() => gpu.requestAdapter({ powerPreference: 'high-performance' }));
  } catch (cause) {
    throw new DeviceError('no-adapter', `no WebGPU adapter: ${(cause as Error).message.split('\n')[0]}`, {
      cause,
    });
  }
  if (!adapter)
    throw new DeviceError(
      'no-adapter',
      `no WebGPU adapter${options.adapterName ? ` named "${options.adapterName}"` : ''}; install a Vulkan driver, or Mesa's lavapipe (package mesa-vulkan-drivers) to run on the CPU`,
    );
  const description = adapter.info.description || adapter.info.device;
  const info: DeviceInfo = {
    vendor: adapter.info.vendor,
    architecture: adapter.info.architecture,
    description,
    device: adapter.info.device,
    software:
      adapter.info.isFallbackAdapter ||
      /llvmpipe|swiftshader|software/i.test(`${description} ${adapter.info.architecture}`),
    runtime: runtimeName(),
    implementation,
  };
  const lanes = subgroupsOf(adapter, info.software);
  const mask = options.mask ?? {};
  const matrices =
    ['shader-f16', 'subgroups', 'chromium-experimental-subgroup-matrix'].every((f) =>
      adapter.features.has(f),
    ) &&
    mask.matrixUnit !== null &&
    mask.f16 !== false &&
    mask.subgroups !== false;
  const limits = adapter.limits as GPUSupportedLimits & { maxImmediateSize?: number };
  const readsTextures = gpu.wgslLanguageFeatures?.has('readonly_and_readwrite_storage_textures');
  const described: Omit<Capabilities, 'halves'> = {
    f16: adapter.features.has('shader-f16') && mask.f16 !== false,
    subgroups: adapter.features.has('subgroups') && mask.subgroups !== false,
    subgroupSize: mask.subgroupSize ?? lanes.size,
    subgroupSizeFixed: lanes.fixed && mask.subgroupSizeFixed !== false,
    matrixUnit: matrices ? matrixUnit(adapter.info) : null,
    textureSide: readsTextures ? Math.min(limits.maxTextureDimension2D, mask.textureSide ?? Infinity) : 0,
    fewRegisters:
      mask.fewRegisters ?? (adapter.info.vendor === 'intel' && adapter.info.subgroupMinSize <= 16),
    fewProcessors: mask.fewProcessors ?? isSmall(adapter.info),
    immediates: (limits.maxImmediateSize ?? 0) >= 64 && mask.immediates !== false,
    timestamps: adapter.features.has('timestamp-query') && mask.timestamps !== false,
    // A binding is addressed by 32-bit byte counts in some drivers: stay below 2 GiB.
    bindingBytes: Math.min(limits.maxStorageBufferBindingSize, 2 ** 31 - 256, mask.bindingBytes ?? Infinity),
    bufferBytes: Math.min(limits.maxBufferSize, mask.bufferBytes ?? Infinity),
    storageBuffers: Math.min(limits.maxStorageBuffersPerShaderStage, mask.storageBuffers ?? Infinity),
    invocations: Math.min(limits.maxComputeInvocationsPerWorkgroup, mask.invocations ?? Infinity),
    workgroupBytes: Math.min(limits.maxComputeWorkgroupStorageSize, mask.workgroupBytes ?? Infinity),
  };
  const features: GPUFeatureName[] = [];
  if (described.f16) features.push('shader-f16');
  if (described.subgroups) features.push('subgroups');
  if (matrices) features.push('chromium-experimental-subgroup-matrix' as GPUFeatureName);
  if (described.timestamps) features.push('timestamp-query');
  const requiredLimits: Record<string, number> = {
    maxBufferSize: described.bufferBytes,
    // WebGPU raises a request below its defaults to them; the engine itself keeps to `capabilities`.
    maxStorageBufferBindingSize: Math.floor(described.bindingBytes / 256) * 256,
    maxStorageBuffersPerShaderStage: described.storageBuffers,
    maxComputeInvocationsPerWorkgroup: described.invocations,
    maxComputeWorkgroupSizeX: Math.min(limits.maxComputeWorkgroupSizeX, described.invocations),
    maxComputeWorkgroupStorageSize: described.workgroupBytes,
    ...(described.textureSide > 0 ? { maxTextureDimension2D: described.textureSide } : {}),
    ...(described.immediates ? { maxImmediateSize: 64 } : {}),
  };
  let device: GPUDevice;
  try {
    device = await adapter.requestDevice({ requiredFeatures: features, requiredLimits });
  } catch (cause) {
    throw new DeviceError('no-device', `the adapter refused a device: ${(cause as Error).message}`, {
      cause,
    });
  }
  // A CPU's driver would only take longer to open: there is no such instruction.
  const halves = mask.halves ?? (!info.software && (await convertsHalves(device)));
  const capabilities = { ...described, halves };
  const { memoryBudget = 64 * 2 ** 30, driverTimeout = info.software ? 7200 : 600 } = options;
  return new Device(gpu, device, info, capabilities, memoryBudget, driverTimeout);
}

const isFinal = (failure: Error | null): boolean =>
  failure instanceof DeviceLostError || failure instanceof DriverTimeoutError;

/** Milliseconds in which WebGPU says that a device is lost, after calls to it have failed for that. */
const LOSS_TOLD = 100;
/** Bytes that the host maps at once. */
const STAGED_BYTES = 64 * 2 ** 20;

/** An open device: memory, queue and what it can do. Tensors name the device they live on. */
export class Device {
  /** What it was opened on: one that was given may not be collected before the device either. */
  readonly root: GPU;
  readonly gpu: GPUDevice;
  readonly info: DeviceInfo;
  readonly capabilities: Capabilities;
  readonly features: ReadonlySet<string>;
  readonly limits: GPUSupportedLimits;
  readonly pool: MemoryPool;
  readonly queue: CommandQueue;
  /** The fastest kernel by class of product, where it was measured (tune.ts); else empty, and a prior decides. */
  readonly tuning = new Map<string, string>();
  /** How often weights were put into panels (kernels/panels.ts), and back into buffers where something else than products read them. */
  readonly panels = { packed: 0, unpacked: 0 };
  /** Of indices that lie on the device. */
  readonly indexFaults: IndexFaults;
  readonly #patience: Patience | null;
  /** Dawn's null backend runs nothing, and its memory holds anything: what is read of it is 0. */
  readonly #runs: boolean;
  readonly #watch: Watch;
  #failure: Error | null = null;
  #destroyed = false;

  constructor(
    root: GPU,
    gpu: GPUDevice,
    info: DeviceInfo,
    capabilities: Capabilities,
    budget: number,
    driverTimeout: number,
  ) {
    this.root = root;
    // It is Dawn's addon that polls.
    const polls = hasNodeModules() && info.implementation !== 'wgpu';
    this.#runs = info.description !== 'null-backend';
    this.#patience = info.software && polls ? new Patience() : null;
    this.gpu = gpu;
    this.info = info;
    this.capabilities = capabilities;
    this.features = new Set(gpu.features);
    this.limits = gpu.limits;
    this.queue = new CommandQueue(
      gpu,
      capabilities.immediates ? 'immediate' : 'uniform',
      capabilities,
      (error) => this.#told(error),
      (fault) => {
        this.#failure ??= fault;
      },
    );
    this.#watch = new Watch(driverTimeout, () => this.queue.finishedSerial);
    this.indexFaults = new IndexFaults(gpu, this.queue, (size, usage) => this.pool.createMapped(size, usage));
    this.pool = new MemoryPool(gpu, this.queue, budget, (buffers) => this.queue.forget(buffers));
    // What stands between no error scopes.
    gpu.onuncapturederror = ({ error }: GPUUncapturedErrorEvent) => {
      this.#failure ??= this.#told(error);
    };
    gpu.lost.then((reason) => {
      if (this.#destroyed) return;
      const { total } = this.pool.report();
      this.#failure = new DeviceLostError(
        `the GPU device was lost (${reason.reason || 'unknown'}: ${reason.message.split('\n')[0]}) with ${(total / 2 ** 20).toFixed(1)} MiB held; open a new one`,
      );
    });
  }

  #told(error: GPUError): Error {
    return error.constructor.name === 'GPUOutOfMemoryError'
      ? this.pool.refused(0, error.message)
      : new Error(`WebGPU refused a command (this is a bug in neurgrad): ${error.message}`);
  }

  /** Resolves when the device is lost; also by `destroy()`, with the reason `destroyed`. Never rejects. */
  get lost(): Promise<GPUDeviceLostInfo> {
    return this.gpu.lost;
  }

  /** Whether nothing more comes of it: lost, hanging or destroyed. */
  get ended(): boolean {
    return this.#destroyed || isFinal(this.#failure);
  }

  /** Throws what went wrong on the GPU since the last call; an index outside its table is found by a readback alone. */
  check(): void {
    if (this.#destroyed) throw new DeviceLostError('this device has been destroyed');
    if (this.#failure) {
      const failure = this.#failure;
      if (!isFinal(failure)) this.#failure = null;
      throw failure;
    }
  }

  /**
   * What a call of WebGPU that failed for this cause is told as: what is known to be wrong with the device, else what `otherwise` says.
   * A lost device fails its calls before it says why.
   */
  async failureOf(cause: unknown, otherwise: (reason: string) => Error): Promise<Error> {
    await Promise.race([this.gpu.lost, new Promise((resolve) => setTimeout(resolve, LOSS_TOLD))]);
    try {
      this.check();
    } catch (known) {
      return known as Error;
    }
    return otherwise((cause as Error).message);
  }

  /**
   * Records one dispatch of a kernel, by as many windows as it has bindings; parameters by name or in the kernel's order. A
   * kernel of one's own that does not compile is told at the next reading, and takes no other command with it.
   * @throws KernelError where windows, parameters or grid do not fit the kernel, or its name was given to another before.
   */
  dispatch<Params extends KernelParams>(
    kernel: Kernel<Params>,
    windows: readonly Window[],
    params: ParameterValues<Params>,
    grid: readonly [number, number, number],
    flops = 0,
  ): void {
    this.queue.dispatch(kernel, windows, params, grid, flops);
  }

  /** Runs `fn`, whose dispatches and memory are no part of what is being recorded. */
  outsideRecording<T>(fn: () => T): T {
    const { recorder } = this.queue;
    this.queue.recorder = null;
    const resume = this.pool.pausePlan();
    try {
      return fn();
    } finally {
      this.queue.recorder = recorder;
      resume();
    }
  }

  /** Invocations that share a row in softmax, norms and reductions. */
  get rowLanes(): number {
    return this.capabilities.subgroupSize < 16 ? 8 : ROW_GROUP;
  }

  /** Bytes held, by purpose. */
  get memory(): MemoryReport {
    return this.pool.report();
  }

  /** Starts counting (and, where possible, timing) kernels. */
  startProfiling(): void {
    this.queue.flush();
    this.queue.profiler = new Profiler(this.gpu, this.capabilities.timestamps);
  }

  /** Every dispatch timed so far while profiling, for `chromeTrace`. */
  async profiledSpans(): Promise<KernelSpan[]> {
    this.queue.flush();
    return this.queue.profiler ? this.queue.profiler.spans() : [];
  }

  /** Stops profiling and reports by kernel. */
  async stopProfiling(): Promise<KernelProfile[]> {
    this.queue.flush();
    const profiler = this.queue.profiler;
    this.queue.profiler = null;
    return profiler ? profiler.report() : [];
  }

  /**
   * Copies windows, as they are at the call, back to the host, one after the other. The only thing that waits for the GPU.
   * All copies are recorded before anything is awaited: what is disposed of or written meanwhile does not show in them.
   */
  async readWindows(windows: readonly BufferWindow[]): Promise<Uint8Array<ArrayBuffer>> {
    this.check();
    const total = windows.reduce((sum, w) => sum + w.size, 0);
    const faults = this.#runs ? this.indexFaults.window : null;
    if (total === 0 && !faults) return new Uint8Array(0);
    const pieces: { readonly staging: PooledBuffer; readonly size: number }[] = [];
    const { submissions } = this.queue;
    const sources = new Set(windows.map(({ buffer }) => buffer.writtenBy));
    const copies = new Set<number>();
    /** Throws what is wrong with what is read, before what is wrong with reading it. */
    const demandAll = async (): Promise<void> => {
      await this.queue.verdicts();
      this.check();
      for (const number of sources) await submissions.demand(number);
      for (const number of copies) await submissions.demand(number, true);
    };
    try {
      for (const window of faults ? [...windows, faults] : windows)
        for (let begin = 0; begin < window.size; begin += STAGED_BYTES) {
          const size = Math.min(STAGED_BYTES, window.size - begin);
          const staging = this.pool.acquireStaging(size);
          pieces.push({ staging, size });
          this.queue.copy(
            { buffer: window.buffer, offset: window.offset + begin, size },
            { buffer: staging, offset: 0, size },
          );
          // A buffer that could not be made is refused wherever it is used: why is told with the making.
          copies.add(staging.madeBy).add(staging.writtenBy);
        }
      this.queue.flush();
      const result = new Uint8Array(total + (faults?.size ?? 0));
      let done = 0;
      for (const { staging, size } of pieces) {
        try {
          await this.#answer(
            submissions.mapping(staging, () => staging.buffer.mapAsync(GPUMapMode.READ, 0, size)),
          );
          // A device that is lost meanwhile takes the mapping back.
          const mapped = new Uint8Array(staging.buffer.getMappedRange(0, size));
          if (this.#runs) result.set(mapped, done);
          staging.buffer.unmap();
        } catch (cause) {
          if (cause instanceof DriverTimeoutError) throw cause;
          await demandAll();
          throw await this.failureOf(
            cause,
            (reason) => new DeviceLostError(`reading back from the GPU failed: ${reason}`, { cause }),
          );
        }
        staging.lastUse = 0; // The map has waited for the fence.
        done += size;
      }
      await demandAll();
      if (!faults) return result;
      this.indexFaults.report(result.slice(total));
      return result.slice(0, total);
    } finally {
      for (const { staging } of pieces) this.pool.release(staging);
    }
  }

  /** Waits until everything recorded so far has run. */
  async finish(): Promise<void> {
    this.queue.flush();
    try {
      await this.#answer(this.gpu.queue.onSubmittedWorkDone());
    } catch (cause) {
      if (cause instanceof DriverTimeoutError) throw cause;
      throw await this.failureOf(
        cause,
        (reason) => new DeviceLostError(`the GPU failed: ${reason}`, { cause }),
      );
    }
    await Promise.all([this.queue.verdicts(), this.queue.submissions.settled()]);
    this.check();
    const untold = this.queue.submissions.untold();
    if (untold) throw untold;
    if (this.indexFaults.window && this.#runs && !this.queue.recorder) await this.readWindows([]);
  }

  /** Waits for what depends on the device's work; where that runs on the host's own cores, without taking them (patience.ts). */
  wait<Value>(promise: Promise<Value>): Promise<Value> {
    return this.#patience?.wait(promise) ?? promise;
  }

  /** What the driver answers. @throws DriverTimeoutError where it does not (watch.ts), then and ever after. */
  async #answer<Value>(asked: Promise<Value>): Promise<Value> {
    try {
      return await this.#watch.over(this.wait(asked));
    } catch (error) {
      if (error instanceof DriverTimeoutError) this.#failure = error;
      throw error;
    }
  }

  /** Frees everything on the device and lets the process end. */
  destroy(): void {
    if (this.#destroyed) return;
    this.#destroyed = true;
    this.gpu.destroy();
  }
}

export type { Purpose };
