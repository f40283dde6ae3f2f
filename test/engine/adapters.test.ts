/** Adapters that say little of themselves: what is taken for their subgroups, and how their measurements are told apart. */

import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type Device, matmul, openDevice, tensor } from '../../engine/index.ts';
import { adapterName } from '../../engine/tune.ts';

let real: Device;
const opened: Device[] = [];
beforeAll(async () => {
  real = await openDevice();
});
afterEach(() => {
  for (const device of opened.splice(0)) device.destroy();
});
afterAll(() => real?.destroy());

/** What a browser tells of an adapter. */
interface Told {
  readonly min?: number;
  readonly max?: number;
  /** Feature `subgroups`. */
  readonly subgroups?: boolean;
  readonly cpu?: boolean;
  readonly vendor?: string;
}
const SILENT = { vendor: '', architecture: '', device: '', description: '' };

/** This machine's adapter, of which no more is told than this. */
async function openAs({ min, max, subgroups = false, cpu = false, vendor = '' }: Told): Promise<Device> {
  const info = {
    ...SILENT,
    ...{ vendor, isFallbackAdapter: cpu, subgroupMinSize: min, subgroupMaxSize: max },
  };
  const { root } = real;
  const gpu = {
    wgslLanguageFeatures: root.wgslLanguageFeatures,
    async requestAdapter() {
      const adapter = (await root.requestAdapter())!;
      const features = new Set([...adapter.features].filter((name) => subgroups || name !== 'subgroups'));
      return { info, features, limits: adapter.limits, requestDevice: adapter.requestDevice.bind(adapter) };
    },
  };
  const device = await openDevice({ gpu: gpu as unknown as GPU });
  opened.push(device);
  return device;
}

describe('subgroups of an adapter', () => {
  it.each<[string, Told, number, boolean]>([
    ['without them, on a CPU', { min: 4, max: 128, cpu: true }, 8, false],
    ['without them, on a GPU', { min: 4, max: 128 }, 32, false],
    ['without them and without bounds', {}, 32, false],
    ['whose sizes are hidden, on a CPU', { min: 4, max: 128, subgroups: true, cpu: true }, 8, false],
    ['whose sizes are hidden, on a GPU', { min: 4, max: 128, subgroups: true }, 32, false],
    ['of several sizes, on a CPU', { min: 4, max: 16, subgroups: true, cpu: true }, 8, false],
    ['of several sizes, on a GPU', { min: 32, max: 64, subgroups: true, vendor: 'amd' }, 64, false],
    ['of one size', { min: 32, max: 32, subgroups: true, vendor: 'nvidia' }, 32, true],
    ['of one size, on a CPU', { min: 4, max: 4, subgroups: true, cpu: true }, 4, true],
  ])('%s', async (_, told, size, fixed) => {
    const { capabilities } = await openAs(told);
    expect([capabilities.subgroupSize, capabilities.subgroupSizeFixed]).toEqual([size, fixed]);
    expect(capabilities.subgroups).toBe(told.subgroups ?? false);
  });

  it('are not needed for a right product', async () => {
    const device = await openAs({ min: 4, max: 128, cpu: true });
    const n = 40;
    const square = (f: (i: number) => number) =>
      tensor(
        device,
        Float32Array.from({ length: n * n }, (_, i) => f(i)),
        [n, n],
      );
    const identity = square((i) => Number(i % (n + 1) === 0));
    const numbers = square((i) => i);
    expect(await matmul(numbers, identity).read()).toEqual(await numbers.read());
  });
});

describe('the name by which measurements are kept', () => {
  it('tells silent adapters apart by what they can do, and the same one from itself by nothing', async () => {
    const told: readonly Told[] = [
      { min: 4, max: 128, cpu: true },
      { min: 4, max: 128 },
      { min: 32, max: 32, subgroups: true },
      { min: 64, max: 64, subgroups: true },
    ];
    const names: string[] = [];
    for (const one of told) names.push(adapterName(await openAs(one)));
    expect(new Set(names).size).toBe(told.length);
    for (const [i, one] of told.entries()) expect(adapterName(await openAs(one))).toBe(names[i]);
  });

  it('says adapter and implementation, in letters that a file name may have', () => {
    const { info, capabilities } = real;
    const name = adapterName({ info: { ...info, description: 'Maker (R) X-1 / 2.0' }, capabilities });
    expect(name).toMatch(/^[a-z0-9]+(-[a-z0-9]+)*$/);
    expect(name).toContain('maker-r-x-1-2-0');
    const other = adapterName({ info: { ...info, implementation: 'wgpu' }, capabilities });
    expect(other).not.toBe(adapterName(real));
    expect(other).toContain('wgpu');
  });
});
