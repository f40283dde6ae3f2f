/**
 * Loses WebGPU devices at will. Every call to WebGPU is counted, and at those asked for the device last opened is lost as a crash of the
 * driver loses it: whatever is on it is gone, whatever is asked of it fails.
 *
 * A plain script without imports: Node preloads it (strike.mjs), and in a page it stands before the worker's own (test/lab/losses.test.ts).
 */

/** Classes and those of their methods that are counted. */
const COUNTED = {
  GPUAdapter: ['requestDevice'],
  GPUDevice: [
    'createBindGroup',
    'createBuffer',
    'createCommandEncoder',
    'createComputePipeline',
    'createComputePipelineAsync',
    'createShaderModule',
    'createTexture',
    'popErrorScope',
    'pushErrorScope',
  ],
  GPUQueue: ['onSubmittedWorkDone', 'submit', 'writeBuffer'],
  GPUBuffer: ['getMappedRange', 'mapAsync', 'unmap'],
  GPUCommandEncoder: ['beginComputePass', 'copyBufferToBuffer', 'finish'],
  GPUComputePassEncoder: ['dispatchWorkgroups'],
};

/**
 * @param classes the globals of WebGPU.
 * @param at tells of a call, by its number from 1, whether the device is lost there: `before` it, `after` it or `later`, in a turn of
 *   the event loop soon after.
 * @returns what has been called, in order.
 */
// biome-ignore lint/correctness/noUnusedVariables: imported by strike.mjs, and the script before a worker's calls it
function loseDevices(classes, at) {
  const calls = [];
  let device = null;
  // As they were: a destruction of ours is no call of the program's.
  const { destroy } = classes.GPUDevice.prototype;
  const lose = () => device && destroy.call(device);
  for (const [name, methods] of Object.entries(COUNTED))
    for (const method of methods) {
      const { prototype } = classes[name];
      const call = prototype[method];
      prototype[method] = function (...given) {
        calls.push(`${name}.${method}`);
        const when = at(calls.length);
        if (when === 'before') lose();
        const result = call.apply(this, given);
        if (when === 'later') setTimeout(lose, calls.length % 3);
        if (method !== 'requestDevice') {
          if (when === 'after') lose();
          return result;
        }
        return result.then((made) => {
          device = made;
          if (when === 'after') lose();
          return made;
        });
      };
    }
  return calls;
}
