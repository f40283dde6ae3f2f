/** What a compiler says of a kernel's text; Dawn's null backend checks it without an adapter. */

import type { Device } from '../../engine/index.ts';
import { type Kernel, type ParameterPassing, TEXEL, wgsl } from '../../kernels/index.ts';

/** Of a WGSL type. */
const bytesOf = (type: string): number => ({ f16: 2, f32: 4, u32: 4, vec2u: 8, vec2f: 8 })[type] ?? 16;

/** Workgroup memory that every adapter has, and that kernels with more are chosen by. */
export const MOST_BYTES = { anywhere: 16384, roomy: 32768 } as const;

/** Of a workgroup. */
export const sharedBytes = ({ body }: Kernel): number =>
  [...body.matchAll(/var<workgroup> \w+: array<(\w+), (\d+)>/g)].reduce(
    (n, [, type, count]) => n + bytesOf(type!) * Number(count),
    0,
  );

/** Whether it is chosen where workgroups have 32 KiB of memory. */
export const isRoomy = ({ name }: Kernel): boolean =>
  /^attention.*\.tiles\./.test(name) && !name.endsWith('.16KiB');

/** Buffers of a kernel that is chosen where a device binds more of them than the 8 that all do. */
export const buffersOf = ({ name }: Kernel): number => (name === 'cache.token.turned' ? 9 : 8);

/** What the compiler says against a kernel, or null. */
export async function complaintOf(
  device: Device,
  kernel: Kernel,
  passing: ParameterPassing,
): Promise<string | null> {
  const { gpu } = device;
  gpu.pushErrorScope('validation');
  // A device that is there would hand every pipeline to its driver, which takes minutes.
  if (buffersOf(kernel) > 8 || device.info.implementation !== 'Dawn') {
    gpu.createShaderModule({ code: wgsl(kernel, passing) });
    const error = await gpu.popErrorScope();
    return error ? `${kernel.name}: ${error.message}` : null;
  }
  const bindGroup = gpu.createBindGroupLayout({
    entries: [
      ...kernel.bindings.map(
        (b, binding): GPUBindGroupLayoutEntry => ({
          binding,
          visibility: GPUShaderStage.COMPUTE,
          ...(b.element === TEXEL
            ? {
                storageTexture: {
                  access: b.access === 'read' ? ('read-only' as const) : ('write-only' as const),
                  format: TEXEL,
                },
              }
            : { buffer: { type: b.access === 'read' ? 'read-only-storage' : 'storage' } }),
        }),
      ),
      ...(passing === 'uniform'
        ? [
            {
              binding: kernel.bindings.length,
              visibility: GPUShaderStage.COMPUTE,
              buffer: { type: 'uniform' as const },
            },
          ]
        : []),
    ],
  });
  const immediateSize = passing === 'immediate' ? Object.keys(kernel.params).length * 4 : 0;
  const layout = gpu.createPipelineLayout({
    bindGroupLayouts: [bindGroup],
    ...(immediateSize > 0 ? { immediateSize } : {}),
  } as GPUPipelineLayoutDescriptor);
  const module = gpu.createShaderModule({ code: wgsl(kernel, passing) });
  // The null backend has no more than that.
  if (sharedBytes(kernel) <= MOST_BYTES.anywhere)
    gpu.createComputePipeline({ layout, compute: { module, entryPoint: 'main' } });
  const error = await gpu.popErrorScope();
  return error ? `${kernel.name}: ${error.message}` : null;
}
