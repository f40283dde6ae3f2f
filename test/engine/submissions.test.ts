/** A refused command: what its submission should have written is no number, however often and by whatever way it is read. */

import { afterEach, describe, expect, it } from 'vitest';
import {
  add,
  affine,
  type Device,
  gelu,
  grad,
  layerNorm,
  linear,
  mul,
  OutOfMemoryError,
  openDevice,
  record,
  sum,
  type Tensor,
  tensor,
} from '../../engine/index.ts';
import { unary } from '../../kernels/index.ts';
import { seededRandom } from '../../neurgrad/random.ts';

const opened: Device[] = [];
afterEach(() => {
  for (const device of opened.splice(0)) device.destroy();
});
async function open(): Promise<Device> {
  const device = await openDevice({ memoryBudget: 2 ** 40 });
  opened.push(device);
  return device;
}

/** Reads and writes one window at once, which WebGPU refuses. */
function refused(device: Device): void {
  const window = tensor(device, [1, 2, 3, 4]).storage.window();
  device.queue.dispatch(unary('affine'), [window, window], [4, 1, 0], [1, 1, 1], 0);
}
const numbers = async (t: Tensor): Promise<number[]> => [...(await t.read())];
const REFUSED = /WebGPU refused a command/;

describe('a refused command', () => {
  it('voids what stands before and after it in its submission, in three rounds', async () => {
    const device = await open();
    const x = tensor(device, [1, 2, 3]);
    for (let round = 0; round < 3; round++) {
      const before = affine(x, 2, 0);
      expect(await numbers(before)).toEqual([2, 4, 6]);
      const with1 = affine(x, 3, 0);
      refused(device);
      const with2 = affine(x, 4, 0);
      device.queue.flush();
      const behind = affine(with1, 1, 1);
      device.queue.flush();
      const apart = affine(x, 5, 0);
      for (const t of [with1, with2, behind, with2, with1, behind])
        await expect(t.read()).rejects.toThrow(REFUSED);
      expect(await numbers(apart)).toEqual([5, 10, 15]);
      expect(await numbers(before)).toEqual([2, 4, 6]);
      expect(await numbers(x)).toEqual([1, 2, 3]);
      // All of it was told.
      await device.finish();
    }
  });

  it('voids what its submission wrote a while before it', async () => {
    const device = await open();
    const before = affine(tensor(device, [1, 2, 3]), 3, 0);
    // All that stands beside what is being recorded is answered meanwhile.
    await new Promise((resolve) => setTimeout(resolve, 200));
    refused(device);
    device.queue.flush();
    const behind = affine(before, 1, 1);
    await expect(behind.read()).rejects.toThrow(REFUSED);
    await expect(before.read()).rejects.toThrow(REFUSED);
  });

  it('is told by finish() where nobody reads what it voids, once', async () => {
    const device = await open();
    refused(device);
    await expect(device.finish()).rejects.toThrow(REFUSED);
    await device.finish();
  });

  it('voids a tensor changed in place until it is written anew', async () => {
    const device = await open();
    const x = tensor(
      device,
      Array.from({ length: 64 }, (_, i) => i),
    );
    const y = affine(x, 1, 1);
    refused(device);
    await expect(y.read()).rejects.toThrow(REFUSED);
    y.write(new Float32Array(64).fill(7));
    expect((await numbers(y)).slice(0, 2)).toEqual([7, 7]);
  });

  it('voids one replay of a plan, not the next', async () => {
    const device = await open();
    const x = tensor(device, [1, 2]);
    using plan = record(device, () => mul(add(x, x), x));
    expect(await numbers(plan.result)).toEqual([2, 8]);
    plan.replay();
    refused(device);
    await expect(plan.result.read()).rejects.toThrow(REFUSED);
    plan.replay();
    expect(await numbers(plan.result)).toEqual([2, 8]);
  });

  it('anywhere in a forward and backward: never a number from a void submission', async () => {
    const device = await open();
    const random = seededRandom(5);
    const draw = (...shape: number[]): Tensor =>
      tensor(
        device,
        Float32Array.from({ length: shape.reduce((a, b) => a * b) }, () => random() - 0.5),
        shape,
      );
    const weights = Array.from({ length: 6 }, () => draw(16, 16).requireGrad());
    const [input, gain, bias] = [draw(4, 16), draw(16), draw(16)];
    const dispatch = device.queue.dispatch.bind(device.queue);
    let [recorded, place] = [0, -1];
    device.queue.dispatch = (...args) => {
      dispatch(...args);
      if (recorded++ !== place) return;
      const { dispatch: counted } = device.queue;
      device.queue.dispatch = dispatch;
      refused(device);
      device.queue.dispatch = counted;
    };
    const pass = (): Promise<PromiseSettledResult<Float32Array>[]> => {
      recorded = 0;
      let x: Tensor = input;
      for (const w of weights) x = add(x, gelu(linear(layerNorm(x, gain, bias, 1e-5), w)));
      const loss = sum(mul(x, x));
      return Promise.allSettled([loss, ...grad(loss, weights)].map((t) => t.read() as Promise<Float32Array>));
    };
    const right = await pass();
    const places = recorded;
    expect(places).toBeGreaterThan(40);
    let voids = 0;
    for (let round = 0; round < 100; round++) {
      place = Math.floor(random() * places);
      const results = await pass();
      results.forEach((result, i) => {
        if (result.status === 'fulfilled') expect(result).toEqual(right[i]);
        else expect(String(result.reason)).toMatch(REFUSED);
      });
      if (results.some(({ status }) => status === 'rejected')) voids++;
      place = -1;
    }
    expect(voids).toBe(100);
    expect(await pass()).toEqual(right);
  }, 120_000);
});

describe('a buffer that the device cannot make', () => {
  it('is out of memory wherever it is used, with what was asked for, and smaller ones go on', async () => {
    const device = await open();
    const { createBuffer, popErrorScope } = device.gpu;
    let [failing, calls, making] = [true, 0, 0];
    device.gpu.createBuffer = (descriptor) => {
      calls++;
      if (failing) making = 2;
      // As a driver without memory: an invalid buffer, and an error.
      return createBuffer.call(device.gpu, failing ? { ...descriptor, size: 2 ** 46 } : descriptor);
    };
    // Some say of so large a one that they are out of memory, others that nobody may ask for that much. Its scopes are popped next.
    device.gpu.popErrorScope = async () => {
      const ours = making-- > 0;
      const error = await popErrorScope.call(device.gpu);
      return ours && error ? new GPUOutOfMemoryError(error.message) : error;
    };
    const x = affine(tensor(device, [1, 2, 3]), 2, 0);
    expect(calls).toBeGreaterThan(0);
    const reading = x.read();
    await expect(reading).rejects.toThrow(/MiB asked for/);
    await expect(reading).rejects.toThrow(OutOfMemoryError);
    x.dispose();
    failing = false;
    expect(await numbers(affine(tensor(device, [1, 2, 3]), 2, 0))).toEqual([2, 4, 6]);
  });
});
