/** A device that is lost in the midst of work, one that never answers, one without memory: each is a typed error, and the first is got over. */

import { afterEach, describe, expect, it, vi } from 'vitest';
import {
  add,
  affine,
  type Device,
  DeviceError,
  DeviceLostError,
  DriverTimeoutError,
  MOST_LOSSES,
  OutOfMemoryError,
  openDevice,
  Reopening,
  tensor,
  zeros,
} from '../../engine/index.ts';
import { Watch } from '../../engine/watch.ts';

const all: Device[] = [];
afterEach(() => {
  vi.restoreAllMocks();
  vi.useRealTimers();
  for (const device of all.splice(0)) device.destroy();
});
async function open(options: Parameters<typeof openDevice>[0] = {}): Promise<Device> {
  const device = await openDevice(options);
  all.push(device);
  return device;
}
const closed = (device: Device): void => device.destroy();

/** Loses its device in these of its turns, counted from 1. */
function losing(turns: readonly number[]): {
  work: (device: Device) => Promise<number>;
  turns: () => number;
} {
  let turn = 0;
  return {
    turns: () => turn,
    async work(device) {
      const x = add(tensor(device, [1]), tensor(device, [2]));
      if (turns.includes(++turn)) device.gpu.destroy();
      return x.item();
    },
  };
}

describe('work whose device is lost', () => {
  it('is done again on another, and each loss is told', async () => {
    const told: string[] = [];
    using held = new Reopening({ open, close: closed, onLost: (text) => told.push(text) });
    const { work, turns } = losing([1, 3, 4]);
    expect([await held.run(work), await held.run(work), await held.run(work)]).toEqual([3, 3, 3]);
    expect(turns()).toBe(6);
    expect(told).toHaveLength(3);
    for (const text of told)
      expect(text).toMatch(
        /^the GPU device was lost \(destroyed: .*\) with \d\.\d MiB held: it is opened again, and what was in hand is done anew$/,
      );
    expect(all).toHaveLength(4);
    expect(all.map(({ ended }) => ended)).toEqual([true, true, true, false]);
  });

  it('is told on stderr where nobody else is', async () => {
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => {});
    using held = new Reopening({ open, close: closed });
    expect(await held.run(losing([1]).work)).toBe(3);
    expect(warn.mock.calls).toEqual([[expect.stringMatching(/^the GPU device was lost /)]]);
  });

  it('ends where it gets no further, with a loss as the cause', async () => {
    const told: string[] = [];
    using held = new Reopening({ open, close: closed, onLost: (text) => told.push(text) });
    const { work, turns } = losing([1, 2, 3, 4, 5, 6, 7, 8, 9]);
    const error: Error = await held.run(work).then(
      () => expect.fail('it ended'),
      (lost) => lost,
    );
    expect(error).toBeInstanceOf(DeviceLostError);
    expect(error.message).toMatch(/^5 times in a row the GPU device was lost .*; what is finished is kept$/);
    expect(error.cause).toBeInstanceOf(DeviceLostError);
    expect([turns(), told.length]).toEqual([MOST_LOSSES, MOST_LOSSES - 1]);
    // All of them are closed.
    expect(all.every(({ ended }) => ended)).toBe(true);
  });

  it('counts anew from where it has got further', async () => {
    const told: string[] = [];
    using held = new Reopening({ open, close: closed, onLost: (text) => told.push(text) });
    const { work } = losing([1, 2, 3, 4, 5, 6]);
    let step = 0;
    const sum = await held.run(async (device, advanced) => {
      if (++step === 4) advanced();
      return work(device);
    });
    expect([sum, told.length]).toEqual([3, 6]);
  });

  it('goes on after a moment without an adapter, but not where there never was one', async () => {
    const absent = new DeviceError('no-adapter', 'no WebGPU adapter');
    let openings = 0;
    using held = new Reopening({
      open: async () => {
        if (++openings === 2) throw absent;
        return open();
      },
      close: closed,
      onLost: () => {},
    });
    expect(await held.run(losing([1]).work)).toBe(3);
    using never = new Reopening({ open: () => Promise.reject(absent), close: closed, onLost: () => {} });
    await expect(never.run(losing([]).work)).rejects.toBe(absent);
  });

  it('ends at any other error, and where whoever is told of a loss throws', async () => {
    const fault = new Error('another');
    using held = new Reopening({ open, close: closed, onLost: (_, cause) => expect.fail(String(cause)) });
    await expect(held.run(() => Promise.reject(fault))).rejects.toBe(fault);
    using strict = new Reopening({
      open,
      close: closed,
      onLost(_, cause) {
        throw cause;
      },
    });
    await expect(strict.run(losing([1]).work)).rejects.toThrow(/^the GPU device was lost/);
  });

  it('finds the loss behind another error', async () => {
    using held = new Reopening({ open, close: closed, onLost: () => {} });
    let turn = 0;
    const got = await held.run(async () => {
      if (++turn > 1) return turn;
      throw new Error('a file', { cause: new DeviceLostError('the GPU device was lost') });
    });
    expect(got).toBe(2);
  });
});

describe('a lost device is told as such', () => {
  it.each(['mapAsync', 'getMappedRange'] as const)('by a reading that is in %s', async (method) => {
    const device = await open();
    const x = affine(tensor(device, [1, 2]), 2, 0);
    expect([...(await x.read())]).toEqual([2, 4]);
    const { prototype } = GPUBuffer;
    const call = prototype[method] as (...args: unknown[]) => unknown;
    vi.spyOn(prototype, method).mockImplementation(function (this: GPUBuffer, ...args: unknown[]) {
      if (method === 'getMappedRange') device.gpu.destroy();
      const result = call.apply(this, args);
      if (method === 'mapAsync') device.gpu.destroy();
      return result as never;
    });
    await expect(affine(x, 1, 1).read()).rejects.toThrow(DeviceLostError);
  });

  it('by finish(), and by all that is asked of it later', async () => {
    const device = await open();
    const x = zeros(device, [8]);
    const finishing = device.finish();
    device.gpu.destroy();
    await finishing.catch((error) => expect(error).toBeInstanceOf(DeviceLostError));
    await expect(device.finish()).rejects.toThrow(DeviceLostError);
    await expect(x.read()).rejects.toThrow(DeviceLostError);
    expect(device.ended).toBe(true);
  });

  it('while its kernels are timed', async () => {
    const device = await open();
    device.startProfiling();
    const x = affine(zeros(device, [64]), 1, 1);
    device.queue.flush();
    device.gpu.destroy();
    await expect(x.read()).rejects.toThrow(DeviceLostError);
    // Without times, and without a rejection that nobody waits for.
    expect(await device.stopProfiling()).toBeInstanceOf(Array);
  });
});

describe('a device without memory', () => {
  it('is a typed error from the first byte on', async () => {
    const device = await open({ memoryBudget: 1 });
    expect(() => zeros(device, [1])).toThrow(OutOfMemoryError);
    expect(() => tensor(device, [1])).toThrow(/out of memory: .* of a budget of 0\.0 MiB/);
  });

  it('is one where the driver has none for the first buffer, and no reason to open it again', async () => {
    const { createBuffer } = GPUDevice.prototype;
    const device = await open();
    vi.spyOn(GPUDevice.prototype, 'createBuffer').mockImplementation(function (this: GPUDevice, given) {
      // What a driver without memory does with any buffer, Dawn does with one as large as this.
      return createBuffer.call(this, { ...given, size: 2 ** 46 });
    });
    using held = new Reopening({
      open: async () => device,
      close: closed,
      onLost: () => expect.fail('lost'),
    });
    await expect(held.run(async (own) => zeros(own, [4]).read())).rejects.toThrow(OutOfMemoryError);
  });
});

describe('a driver that hangs', () => {
  it('is a typed error, then and later, and waiting ends', async () => {
    const device = await open({ driverTimeout: 0.2 });
    const x = affine(tensor(device, [1]), 2, 0);
    expect(await x.item()).toBe(2);
    const silent = vi.spyOn(GPUBuffer.prototype, 'mapAsync').mockReturnValue(new Promise(() => {}));
    await expect(affine(x, 1, 1).read()).rejects.toThrow(DriverTimeoutError);
    silent.mockRestore();
    await expect(x.read()).rejects.toThrow(/the GPU driver has finished nothing for 0\.2 s: it hangs/);
    expect(device.ended).toBe(true);
    // It is no loss: the next device would hang as well.
    using held = new Reopening({
      open: async () => device,
      close: closed,
      onLost: () => expect.fail('lost'),
    });
    await expect(held.run(async () => x.read())).rejects.toThrow(DriverTimeoutError);
  });

  it('is none while anything is finished, or comes', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
    let finished = 0;
    const watch = new Watch(10, () => finished);
    const never = new Promise<never>(() => {});
    const outcome = watch.over(never).catch((error: Error) => error);
    for (let i = 0; i < 10; i++) {
      await vi.advanceTimersByTimeAsync(9000);
      finished++;
    }
    for (let i = 0; i < 10; i++) {
      await vi.advanceTimersByTimeAsync(9000);
      expect(await watch.over(Promise.resolve(i))).toBe(i);
    }
    let ended = false;
    void outcome.then(() => {
      ended = true;
    });
    await vi.advanceTimersByTimeAsync(9000);
    expect(ended).toBe(false);
    await vi.advanceTimersByTimeAsync(2000);
    expect(await outcome).toBeInstanceOf(DriverTimeoutError);
  });
});
