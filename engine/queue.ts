/**
 * The command queue: eager operations only record into one open compute pass; a submit happens every so many dispatches
 * and at a readback. The first submits after one are small, so that the GPU begins while the host still records.
 *
 * Per dispatch the host sets a pipeline, a cached bind group and the parameters. Parameters are immediates where the device
 * has them, else slots of a uniform ring that is uploaded just before the submit.
 */

import {
  type Kernel,
  MAX_PARAMS,
  type ParameterPassing,
  type ParameterValues,
  type ScalarType,
  TEXEL,
  wgsl,
} from '../kernels/index.ts';
import { isShipped } from '../kernels/shipped.ts';
import { DeviceError, KernelError } from './errors.ts';
import {
  checkCount,
  checkGrid,
  checkKernel,
  checkSame,
  checkWindows,
  compileFault,
  placeParameters,
  textOf,
} from './kernelCheck.ts';
import type { BufferWindow, FenceClock, Held, PooledBuffer, Window } from './memory.ts';
import type { Profiler } from './profiler.ts';
import { Submissions, type Telling } from './submissions.ts';

/** One dispatch, ready to be encoded (again). */
export interface Dispatch {
  readonly kernel: Kernel;
  readonly compiled: Compiled;
  readonly group: GPUBindGroup;
  readonly windows: readonly Window[];
  /** The parameters are its first `parameterBytes` bytes. */
  readonly parameters: ArrayBuffer;
  readonly parameterBytes: number;
  readonly grid: readonly [number, number, number];
  readonly flops: number;
}

/** A kernel on this device. */
interface Compiled {
  readonly pipeline: GPUComputePipeline;
  readonly layout: GPUBindGroupLayout;
  readonly layoutId: number;
  readonly params: readonly (readonly [string, ScalarType])[];
  /** Bindings that it writes. */
  readonly writes: readonly number[];
  /** What was compiled, of a kernel that is not neurgrad's own. */
  readonly text: Readonly<Record<string, string>> | null;
  /** The compiler's answer, while it has not come yet, for such a kernel. */
  trial: Promise<void> | null;
  /** Its answer, where that is no. */
  fault: KernelError | null;
}

/** Told of everything before it is encoded; may throw (plan.ts). */
export interface Recorder {
  dispatch(step: Dispatch): void;
  copy(from: BufferWindow, to: BufferWindow): void;
  write(to: PooledBuffer): void;
}

/** Dispatches recorded before the first submit; each further one has twice as many. */
const FIRST_SUBMIT = 8;
/** Dispatches recorded before a submit at most: enough to hide its cost, few enough to keep the GPU busy meanwhile. */
const DISPATCHES_PER_SUBMIT = 100;
/** Submits of so many dispatches that stand between the same error scopes: those cost as much as a dozen dispatches. */
const WATCHED_TOGETHER = 4;
/** Bind groups kept; past it all are dropped, which costs one rebuild. */
const BIND_GROUPS_KEPT = 16384;

interface KeptBindGroup {
  readonly group: GPUBindGroup;
  readonly layoutId: number;
  readonly windows: readonly Window[];
}

/** A text as key would cost half a microsecond a dispatch. */
function hash(layoutId: number, windows: readonly Window[]): number {
  let h = layoutId;
  for (const { buffer, offset, size } of windows) {
    h = Math.imul(h ^ buffer.id, 0x9e3779b1);
    h = Math.imul(h ^ offset, 0x85ebca6b);
    h = Math.imul(h ^ size, 0xc2b2ae35);
    h ^= h >>> 15;
  }
  return h;
}

/** A replay puts into a plan's own buffers what it put there before, from what is counted itself. */
const wrote = (buffer: Held): void => {
  if (!buffer.plan) buffer.writes++;
};

function sameWindows(a: readonly Window[], b: readonly Window[]): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) {
    const v = a[i]!;
    const w = b[i]!;
    if (v.buffer !== w.buffer || v.offset !== w.offset || v.size !== w.size) return false;
  }
  return true;
}
const RING_SLOT = 256;
const RING_SLOTS = 2 * DISPATCHES_PER_SUBMIT;

/** What a device allows of a binding. */
export interface BindingLimits {
  readonly storageBuffers: number;
  readonly bindingBytes: number;
}

export class CommandQueue implements FenceClock {
  readonly #device: GPUDevice;
  readonly #passing: ParameterPassing;
  readonly #limits: BindingLimits;
  readonly #report: (fault: Error) => void;
  /** By name; others' kernels apart, so that a name that neurgrad has is free to them. */
  readonly #shipped = new Map<string, Compiled>();
  readonly #custom = new Map<string, Compiled>();
  /** Answers of the compiler that are still to come. */
  readonly #verdicts = new Set<Promise<void>>();
  readonly #layouts = new Map<string, { layout: GPUBindGroupLayout; id: number }>();
  /** By hash of layout and windows. */
  readonly #bindGroups = new Map<number, KeptBindGroup[]>();
  #bindGroupsKept = 0;
  readonly #scratch = new ArrayBuffer(MAX_PARAMS * 4);
  readonly #scratchViews = {
    u32: new Uint32Array(this.#scratch),
    i32: new Int32Array(this.#scratch),
    f32: new Float32Array(this.#scratch),
  };
  readonly #ring: GPUBuffer | null;
  readonly #ringHost: Uint8Array<ArrayBuffer>;
  #ringUsed = 0;
  #encoder: GPUCommandEncoder | null = null;
  #pass: GPUComputePassEncoder | null = null;
  #boundPipeline: GPUComputePipeline | null = null;
  #recorded = 0;
  #perSubmit = FIRST_SUBMIT;
  #unwatched = 0;
  /** What WebGPU says of the submissions. */
  readonly submissions: Submissions;
  nextSerial = 1;
  finishedSerial = 0;
  /** Dispatches recorded since the device was opened. */
  dispatches = 0;
  profiler: Profiler | null = null;
  recorder: Recorder | null = null;

  /** `tell` says what WebGPU refused; `report` is told what turns out later to be wrong with a kernel. */
  constructor(
    device: GPUDevice,
    passing: ParameterPassing,
    limits: BindingLimits,
    tell: Telling,
    report: (fault: Error) => void,
  ) {
    this.submissions = new Submissions(device, tell);
    this.#device = device;
    this.#passing = passing;
    this.#limits = limits;
    this.#report = report;
    this.#ring =
      passing === 'uniform'
        ? device.createBuffer({
            size: RING_SLOTS * RING_SLOT,
            usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST,
          })
        : null;
    this.#ringHost = new Uint8Array(this.#ring ? RING_SLOTS * RING_SLOT : 0);
  }

  /**
   * Records one dispatch; `flops` for the profiler.
   * @throws KernelError where windows, parameters or grid do not fit the kernel, or its name is another's.
   */
  dispatch(
    kernel: Kernel,
    windows: readonly Window[],
    params: ParameterValues,
    grid: readonly [number, number, number],
    flops: number,
  ): void {
    checkCount(kernel, windows);
    checkGrid(kernel.name, grid);
    for (const { buffer } of windows) if (buffer.gpu !== this.#device) throw DeviceError.two(kernel.name);
    const compiled = this.#compiled(kernel);
    placeParameters(kernel.name, compiled.params, params, this.#scratchViews);
    if (compiled.trial)
      this.#alone(kernel.name, compiled, compiled.trial, () =>
        this.#record(kernel, compiled, windows, grid, flops),
      );
    else this.#record(kernel, compiled, windows, grid, flops);
  }

  /** Records a dispatch whose parameters lie in the scratch. */
  #record(
    kernel: Kernel,
    compiled: Compiled,
    windows: readonly Window[],
    grid: readonly [number, number, number],
    flops: number,
  ): void {
    const step: Dispatch = {
      kernel,
      compiled,
      group: this.#bindGroup(kernel, compiled, windows),
      windows,
      parameters: this.#scratch,
      parameterBytes: compiled.params.length * 4,
      grid,
      flops,
    };
    this.recorder?.dispatch(step);
    this.#encode(step);
  }

  /** Encodes a dispatch into the open pass. @throws KernelError where its kernel turned out not to compile. */
  encode(step: Dispatch): void {
    const { kernel, compiled } = step;
    if (compiled.fault) throw compiled.fault;
    if (compiled.trial) this.#alone(kernel.name, compiled, compiled.trial, () => this.#encode(step));
    else this.#encode(step);
  }

  /**
   * Runs `record`. What a kernel does that may not compile is submitted by itself: where WebGPU refuses it, it takes nothing
   * else along, and the fault is told as that kernel's.
   */
  #alone(name: string, compiled: Compiled, trial: Promise<void>, record: () => void): void {
    this.flush();
    this.#open(async (error) => {
      await trial;
      if (compiled.fault) return compiled.fault;
      const fault = new KernelError(name, `WebGPU refused its dispatch: ${error.message.split('\n')[0]}`);
      this.#report(fault);
      return fault;
    });
    const { current } = this.submissions;
    try {
      record();
    } finally {
      this.flush();
      this.#expect(this.submissions.verdict(current).then(() => {}));
    }
  }

  /** What is being recorded; a submission begins with it. @param tell how its errors are told, where not as all others */
  #open(tell?: Telling): GPUCommandEncoder {
    if (this.#encoder) return this.#encoder;
    if (this.submissions.current === 0) this.submissions.begin(tell);
    this.#encoder = this.#device.createCommandEncoder();
    return this.#encoder;
  }

  #encode(step: Dispatch): void {
    const { windows, parameters, parameterBytes, grid } = step;
    const { pipeline } = step.compiled;
    let timestampWrites: GPUComputePassTimestampWrites | undefined;
    if (this.profiler) {
      let bytes = 0;
      for (const w of windows) bytes += w.size;
      timestampWrites = this.profiler.begin(step.kernel.name, step.flops, bytes);
      if (timestampWrites) this.#endPass();
    }
    const encoder = this.#encoder ?? this.#open();
    if (!this.#pass) {
      this.#pass = encoder.beginComputePass(timestampWrites ? { timestampWrites } : undefined);
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
    const { submissions } = this;
    const { current, trusted } = submissions;
    for (const { buffer } of windows) {
      buffer.lastUse = this.nextSerial;
      const { writtenBy } = buffer;
      if (writtenBy > trusted && writtenBy !== current) submissions.touch(writtenBy);
    }
    for (const i of step.compiled.writes) {
      const { buffer } = windows[i]!;
      wrote(buffer);
      buffer.writtenBy = current;
    }
    this.dispatches++;
    if (timestampWrites) this.#endPass();
    if (++this.#recorded < this.#perSubmit && !this.profiler?.full) return;
    const next = Math.min(2 * this.#perSubmit, DISPATCHES_PER_SUBMIT);
    if (++this.#unwatched < WATCHED_TOGETHER) this.#submit();
    else this.flush();
    this.#perSubmit = next;
  }

  /** Records a copy between buffers. Sizes and offsets in bytes, multiples of 4. */
  copy(from: BufferWindow, to: BufferWindow): void {
    this.recorder?.copy(from, to);
    this.#endPass();
    this.#open().copyBufferToBuffer(from.buffer.buffer, from.offset, to.buffer.buffer, to.offset, from.size);
    for (const { buffer } of [from, to]) {
      buffer.lastUse = this.nextSerial;
      // Who reads asks for the verdicts itself: what it meets is not the fault of what is recorded beside it.
      if (!to.buffer.staging) this.submissions.touch(buffer.writtenBy);
    }
    wrote(to.buffer);
    to.buffer.writtenBy = this.submissions.current;
  }

  /** Writes host bytes into a buffer, in order with everything recorded before. Length a multiple of 4. */
  write(to: PooledBuffer, offset: number, bytes: Uint8Array<ArrayBuffer>): void {
    this.recorder?.write(to);
    wrote(to);
    // writeBuffer takes effect before the open, not yet submitted pass: submit it first if it uses this buffer.
    if (to.lastUse >= this.nextSerial) this.flush();
    this.submissions.writing(to, bytes.byteLength === to.bytes, () =>
      this.#device.queue.writeBuffer(to.buffer, offset, bytes),
    );
  }

  #endPass(): void {
    this.#pass?.end();
    this.#pass = null;
  }

  /** Submits what is recorded. What comes next is watched apart from it. */
  flush(): void {
    this.#submit();
    this.submissions.end();
    this.#unwatched = 0;
  }

  #submit(): void {
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
    this.#perSubmit = FIRST_SUBMIT;
    const serial = this.nextSerial++;
    this.#device.queue.onSubmittedWorkDone().then(
      () => {
        this.finishedSerial = Math.max(this.finishedSerial, serial);
      },
      () => {}, // A lost device is reported by its own promise.
    );
    afterSubmit?.();
  }

  /** Forgets bind groups that name buffers about to be destroyed. */
  forget(buffers: ReadonlySet<Held>): void {
    for (const [key, kept] of this.#bindGroups) {
      const left = kept.filter(({ windows }) => !windows.some((w) => buffers.has(w.buffer)));
      if (left.length === kept.length) continue;
      this.#bindGroupsKept -= kept.length - left.length;
      if (left.length > 0) this.#bindGroups.set(key, left);
      else this.#bindGroups.delete(key);
    }
  }

  #bindGroup(
    kernel: Kernel,
    { layout, layoutId, params }: Compiled,
    windows: readonly Window[],
  ): GPUBindGroup {
    const key = hash(layoutId, windows);
    for (const found of this.#bindGroups.get(key) ?? [])
      if (found.layoutId === layoutId && sameWindows(found.windows, windows)) return found.group;
    checkWindows(kernel, windows, this.#limits.bindingBytes);
    const entries: GPUBindGroupEntry[] = windows.map((w, binding) => ({
      binding,
      resource:
        'texture' in w.buffer ? w.buffer.view : { buffer: w.buffer.buffer, offset: w.offset, size: w.size },
    }));
    if (this.#ring && params.length > 0)
      entries.push({ binding: windows.length, resource: { buffer: this.#ring, size: MAX_PARAMS * 4 } });
    // What is wrong with it is that submission's fault.
    this.#open();
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

  #compiled(kernel: Kernel): Compiled {
    const shipped = isShipped(kernel);
    const kept = shipped ? this.#shipped : this.#custom;
    const found = kept.get(kernel.name);
    if (found) {
      if (found.text) checkSame(kernel, found.text);
      return found;
    }
    if (shipped) {
      // What is wrong with it is its first submission's fault.
      this.#open();
      const made = { ...this.#compile(kernel), text: null, trial: null, fault: null };
      kept.set(kernel.name, made);
      return made;
    }
    checkKernel(kernel, this.#limits.storageBuffers);
    const text = textOf(kernel);
    const { made, caught } = this.submissions.compiling(() => this.#compile(kernel));
    const compiled: Compiled = { ...made, text, trial: null, fault: null };
    kept.set(kernel.name, compiled);
    compiled.trial = caught.then((error) => {
      compiled.trial = null;
      if (!error) return;
      compiled.fault = new KernelError(kernel.name, compileFault(kernel, this.#passing, error.message));
      // A corrected text may have the name.
      if (kept.get(kernel.name) === compiled) kept.delete(kernel.name);
      this.#report(compiled.fault);
    });
    this.#expect(compiled.trial);
    return compiled;
  }

  #expect(verdict: Promise<void>): void {
    this.#verdicts.add(verdict);
    verdict.finally(() => this.#verdicts.delete(verdict));
  }

  /** Waits until it is known what is wrong with the kernels recorded so far. */
  async verdicts(): Promise<void> {
    await Promise.all(this.#verdicts);
  }

  #compile(kernel: Kernel): Pick<Compiled, 'pipeline' | 'layout' | 'layoutId' | 'params' | 'writes'> {
    const params = Object.entries(kernel.params);
    const uniform = this.#ring !== null && params.length > 0;
    const kinds = kernel.bindings.map((b) => `${b.element === TEXEL ? 't' : ''}${b.access[4] ?? 'r'}`);
    const signature = `${kinds.join('')}${uniform ? 'u' : ''}`;
    let layout = this.#layouts.get(signature);
    if (!layout) {
      const entries: GPUBindGroupLayoutEntry[] = kernel.bindings.map((b, binding) => ({
        binding,
        visibility: GPUShaderStage.COMPUTE,
        ...(b.element === TEXEL
          ? {
              storageTexture: { access: b.access === 'read' ? 'read-only' : 'write-only', format: TEXEL },
            }
          : { buffer: { type: b.access === 'read' ? 'read-only-storage' : 'storage' } }),
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
    return {
      pipeline: this.#device.createComputePipeline({
        label: kernel.name,
        layout: this.#device.createPipelineLayout(pipelineLayout),
        compute: { module, entryPoint: 'main' },
      }),
      layout: layout.layout,
      layoutId: layout.id,
      params,
      writes: kernel.bindings.flatMap(({ access }, i) => (access === 'read' ? [] : [i])),
    };
  }
}
