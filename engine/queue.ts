/**
 * The command queue: eager operations only record into one open compute pass; a submit happens every so many dispatches
 * and at a readback.
 *
 * Per dispatch the host sets a pipeline, a cached bind group and the parameters. Parameters are immediates where the device
 * has them, else slots of a uniform ring that is uploaded just before the submit.
 */

import { type Kernel, MAX_PARAMS, type ParameterPassing, wgsl } from '../kernels/index.ts';
import type { FenceClock, PooledBuffer } from './memory.ts';
import type { Profiler } from './profiler.ts';

/** A window of a buffer, in bytes; `offset` a multiple of 256, `size` of 4. */
export interface BufferWindow {
  readonly buffer: PooledBuffer;
  readonly offset: number;
  readonly size: number;
}

/** One dispatch, ready to be encoded (again). */
export interface Dispatch {
  readonly kernel: Kernel;
  readonly pipeline: GPUComputePipeline;
  readonly group: GPUBindGroup;
  readonly windows: readonly BufferWindow[];
  /** The parameters are its first `parameterBytes` bytes. */
  readonly parameters: ArrayBuffer;
  readonly parameterBytes: number;
  readonly grid: readonly [number, number, number];
  readonly flops: number;
}

/** Told of everything before it is encoded; may throw (plan.ts). */
export interface Recorder {
  dispatch(step: Dispatch): void;
  copy(from: BufferWindow, to: BufferWindow): void;
  write(to: PooledBuffer): void;
}

/** Dispatches recorded before a submit: enough to hide its cost, few enough to keep the GPU busy meanwhile. */
const DISPATCHES_PER_SUBMIT = 100;
/** Bind groups kept; past it all are dropped, which costs one rebuild. */
const BIND_GROUPS_KEPT = 16384;

interface KeptBindGroup {
  readonly group: GPUBindGroup;
  readonly layoutId: number;
  readonly windows: readonly BufferWindow[];
}

/** A text as key would cost half a microsecond a dispatch. */
function hash(layoutId: number, windows: readonly BufferWindow[]): number {
  let h = layoutId;
  for (const { buffer, offset, size } of windows) {
    h = Math.imul(h ^ buffer.id, 0x9e3779b1);
    h = Math.imul(h ^ offset, 0x85ebca6b);
    h = Math.imul(h ^ size, 0xc2b2ae35);
    h ^= h >>> 15;
  }
  return h;
}

const sameWindows = (a: readonly BufferWindow[], b: readonly BufferWindow[]): boolean =>
  a.length === b.length &&
  a.every((w, i) => w.buffer === b[i]!.buffer && w.offset === b[i]!.offset && w.size === b[i]!.size);
const RING_SLOT = 256;
const RING_SLOTS = 2 * DISPATCHES_PER_SUBMIT;

interface Pipeline {
  readonly pipeline: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
  readonly layoutId: number;
  readonly params: readonly ('u32' | 'i32' | 'f32')[];
}

export class CommandQueue implements FenceClock {
  readonly #device: GPUDevice;
  readonly #passing: ParameterPassing;
  readonly #pipelines = new Map<string, Pipeline>();
  readonly #layouts = new Map<string, { layout: GPUBindGroupLayout; id: number }>();
  /** By hash of layout and windows. */
  readonly #bindGroups = new Map<number, KeptBindGroup[]>();
  #bindGroupsKept = 0;
  readonly #scratch = new ArrayBuffer(MAX_PARAMS * 4);
  readonly #scratchU32 = new Uint32Array(this.#scratch);
  readonly #scratchI32 = new Int32Array(this.#scratch);
  readonly #scratchF32 = new Float32Array(this.#scratch);
  readonly #ring: GPUBuffer | null;
  readonly #ringHost: Uint8Array<ArrayBuffer>;
  #ringUsed = 0;
  #encoder: GPUCommandEncoder | null = null;
  #pass: GPUComputePassEncoder | null = null;
  #boundPipeline: GPUComputePipeline | null = null;
  #recorded = 0;
  nextSerial = 1;
  finishedSerial = 0;
  /** Dispatches recorded since the device was opened. */
  dispatches = 0;
  profiler: Profiler | null = null;
  recorder: Recorder | null = null;

  constructor(device: GPUDevice, passing: ParameterPassing) {
    this.#device = device;
    this.#passing = passing;
    this.#ring =
      passing === 'uniform'
        ? device.createBuffer({
            size: RING_SLOTS * RING_SLOT,
            usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
          })
        : null;
    this.#ringHost = new Uint8Array(this.#ring ? RING_SLOTS * RING_SLOT : 0);
  }

  /** Records one dispatch. `params` in the kernel's order; `flops` for the profiler. */
  dispatch(
    kernel: Kernel,
    windows: readonly BufferWindow[],
    params: readonly number[],
    grid: readonly [number, number, number],
    flops: number,
  ): void {
    const entry = this.#pipeline(kernel);
    const count = entry.params.length;
    for (let i = 0; i < count; i++) {
      const value = params[i]!;
      if (entry.params[i] === 'f32') this.#scratchF32[i] = value;
      else if (entry.params[i] === 'u32') this.#scratchU32[i] = value;
      else this.#scratchI32[i] = value;
    }
    const step: Dispatch = {
      kernel,
      pipeline: entry.pipeline,
      group: this.#bindGroup(entry, windows, count > 0),
      windows,
      parameters: this.#scratch,
      parameterBytes: count * 4,
      grid,
      flops,
    };
    this.recorder?.dispatch(step);
    this.encode(step);
  }

  /** Encodes a dispatch into the open pass. */
  encode(step: Dispatch): void {
    const { pipeline, windows, parameters, parameterBytes, grid } = step;
    let timestampWrites: GPUComputePassTimestampWrites | undefined;
    if (this.profiler) {
      let bytes = 0;
      for (const w of windows) bytes += w.size;
      timestampWrites = this.profiler.begin(step.kernel.name, step.flops, bytes);
      if (timestampWrites) this.#endPass();
    }
    this.#encoder ??= this.#device.createCommandEncoder();
    if (!this.#pass) {
      this.#pass = this.#encoder.beginComputePass(timestampWrites ? { timestampWrites } : undefined);
      this.#boundPipeline = null;
    }
    const pass = this.#pass;
    if (this.#boundPipeline !== pipeline) {
      pass.setPipeline(pipeline);
      this.#boundPipeline = pipeline;
    }
    if (this.#ring && parameterBytes > 0) {
      const at = this.#ringUsed++ * RING_SLOT;
      this.#ringHost.set(new Uint8Array(parameters, 0, parameterBytes), at);
      pass.setBindGroup(0, step.group, [at]);
    } else {
      pass.setBindGroup(0, step.group);
      if (parameterBytes > 0) pass.setImmediates(0, parameters, 0, parameterBytes);
    }
    pass.dispatchWorkgroups(grid[0], grid[1], grid[2]);
    for (const w of windows) w.buffer.lastUse = this.nextSerial;
    this.dispatches++;
    if (timestampWrites) this.#endPass();
    if (++this.#recorded >= DISPATCHES_PER_SUBMIT || this.profiler?.full) this.flush();
  }

  /** Records a copy between buffers. Sizes and offsets in bytes, multiples of 4. */
  copy(from: BufferWindow, to: BufferWindow): void {
    this.recorder?.copy(from, to);
    this.#endPass();
    this.#encoder ??= this.#device.createCommandEncoder();
    this.#encoder.copyBufferToBuffer(from.buffer.buffer, from.offset, to.buffer.buffer, to.offset, from.size);
    from.buffer.lastUse = this.nextSerial;
    to.buffer.lastUse = this.nextSerial;
  }

  /** Writes host bytes into a buffer, in order with everything recorded before. Length a multiple of 4. */
  write(to: PooledBuffer, offset: number, bytes: Uint8Array<ArrayBuffer>): void {
    this.recorder?.write(to);
    // writeBuffer takes effect before the open, not yet submitted pass: submit it first if it uses this buffer.
    if (to.lastUse >= this.nextSerial) this.flush();
    this.#device.queue.writeBuffer(to.buffer, offset, bytes);
  }

  #endPass(): void {
    this.#pass?.end();
    this.#pass = null;
  }

  /** Submits what is recorded. */
  flush(): void {
    if (!this.#encoder) return;
    this.#endPass();
    if (this.#ring && this.#ringUsed > 0) {
      this.#device.queue.writeBuffer(this.#ring, 0, this.#ringHost, 0, this.#ringUsed * RING_SLOT);
      this.#ringUsed = 0;
    }
    const afterSubmit = this.profiler?.resolve(this.#encoder);
    this.#device.queue.submit([this.#encoder.finish()]);
    this.#encoder = null;
    this.#recorded = 0;
    const serial = this.nextSerial++;
    this.#device.queue.onSubmittedWorkDone().then(
      () => {
        this.finishedSerial = Math.max(this.finishedSerial, serial);
      },
      () => {}, // A lost device is reported by its own promise.
    );
    afterSubmit?.();
  }

  /** Forgets bind groups that name a buffer about to be destroyed. */
  forget(buffer: PooledBuffer): void {
    for (const [key, kept] of this.#bindGroups) {
      const left = kept.filter(({ windows }) => !windows.some((w) => w.buffer === buffer));
      if (left.length === kept.length) continue;
      this.#bindGroupsKept -= kept.length - left.length;
      if (left.length > 0) this.#bindGroups.set(key, left);
      else this.#bindGroups.delete(key);
    }
  }

  #bindGroup(
    { layout, layoutId }: Pipeline,
    windows: readonly BufferWindow[],
    withParams: boolean,
  ): GPUBindGroup {
    const key = hash(layoutId, windows);
    const found = this.#bindGroups
      .get(key)
      ?.find((k) => k.layoutId === layoutId && sameWindows(k.windows, windows));
    if (found) return found.group;
    const entries: GPUBindGroupEntry[] = windows.map((w, binding) => ({
      binding,
      resource: { buffer: w.buffer.buffer, offset: w.offset, size: w.size },
    }));
    if (this.#ring && withParams)
      entries.push({ binding: windows.length, resource: { buffer: this.#ring, size: MAX_PARAMS * 4 } });
    const group = this.#device.createBindGroup({ layout, entries });
    if (this.#bindGroupsKept >= BIND_GROUPS_KEPT) {
      this.#bindGroups.clear();
      this.#bindGroupsKept = 0;
    }
    const kept = this.#bindGroups.get(key);
    if (kept) kept.push({ group, layoutId, windows });
    else this.#bindGroups.set(key, [{ group, layoutId, windows }]);
    this.#bindGroupsKept++;
    return group;
  }

  #pipeline(kernel: Kernel): Pipeline {
    const found = this.#pipelines.get(kernel.name);
    if (found) return found;
    const params = Object.values(kernel.params);
    const uniform = this.#ring !== null && params.length > 0;
    const signature = `${kernel.bindings.map((b) => b.access[4] ?? 'r').join('')}${uniform ? 'u' : ''}`;
    let layout = this.#layouts.get(signature);
    if (!layout) {
      const entries: GPUBindGroupLayoutEntry[] = kernel.bindings.map((b, binding) => ({
        binding,
        visibility: GPUShaderStage.COMPUTE,
        buffer: { type: b.access === 'read' ? 'read-only-storage' : 'storage' },
      }));
      if (uniform)
        entries.push({
          binding: kernel.bindings.length,
          visibility: GPUShaderStage.COMPUTE,
          buffer: { type: 'uniform', hasDynamicOffset: true },
        });
      layout = { layout: this.#device.createBindGroupLayout({ entries }), id: this.#layouts.size };
      this.#layouts.set(signature, layout);
    }
    const module = this.#device.createShaderModule({
      label: kernel.name,
      code: wgsl(kernel, this.#passing),
    });
    const pipelineLayout: GPUPipelineLayoutDescriptor & { immediateSize?: number } = {
      bindGroupLayouts: [layout.layout],
      ...(this.#passing === 'immediate' && params.length > 0 ? { immediateSize: params.length * 4 } : {}),
    };
    const made: Pipeline = {
      pipeline: this.#device.createComputePipeline({
        label: kernel.name,
        layout: this.#device.createPipelineLayout(pipelineLayout),
        compute: { module, entryPoint: 'main' },
      }),
      layout: layout.layout,
      layoutId: layout.id,
      params,
    };
    this.#pipelines.set(kernel.name, made);
    return made;
  }
}
