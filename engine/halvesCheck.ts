/** Asks a GPU, once, whether its conversion of 16-bit floats is exact (kernels/halvesCheck.ts). */

import { HALVES_GROUPS, halvesCheck, wgsl } from '../kernels/index.ts';

/** False also where the device is lost meanwhile, which says so itself. */
export async function convertsHalves(gpu: GPUDevice): Promise<boolean> {
  const { STORAGE, COPY_SRC, COPY_DST, MAP_READ } = GPUBufferUsage;
  const wrong = gpu.createBuffer({ size: 4, usage: STORAGE | COPY_SRC | COPY_DST });
  const read = gpu.createBuffer({ size: 4, usage: COPY_DST | MAP_READ });
  try {
    const module = gpu.createShaderModule({ code: wgsl(halvesCheck(), 'uniform') });
    const pipeline = await gpu.createComputePipelineAsync({
      layout: 'auto',
      compute: { module, entryPoint: 'main' },
    });
    const layout = pipeline.getBindGroupLayout(0);
    const entries = [{ binding: 0, resource: { buffer: wrong } }];
    const encoder = gpu.createCommandEncoder();
    encoder.clearBuffer(wrong);
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, gpu.createBindGroup({ layout, entries }));
    pass.dispatchWorkgroups(HALVES_GROUPS);
    pass.end();
    encoder.copyBufferToBuffer(wrong, 0, read, 0, 4);
    gpu.queue.submit([encoder.finish()]);
    await read.mapAsync(GPUMapMode.READ);
    return new Uint32Array(read.getMappedRange())[0] === 0;
  } catch {
    return false;
  } finally {
    for (const buffer of [wrong, read]) buffer.destroy();
  }
}
