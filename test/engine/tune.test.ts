/** Autotuning: what it measures it keeps, and what is kept it takes. Measuring checks that the bits agree. */

import { mkdtemp, readdir, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { candidates, type Device, openDevice, tuneProducts } from '../../engine/index.ts';
import { choose, productClass } from '../../engine/matmulChoice.ts';
import { TUNED_LAYOUT } from '../../engine/tune.ts';

const opened: Device[] = [];
afterEach(() => {
  vi.unstubAllEnvs();
  for (const device of opened.splice(0)) device.destroy();
});
async function open(...args: Parameters<typeof openDevice>): Promise<Device> {
  const device = await openDevice(...args);
  opened.push(device);
  return device;
}

/** On a CPU without blocks through workgroup memory, which its drivers compile for a quarter of a minute each. */
const contest = async (): Promise<Parameters<typeof openDevice>[0]> =>
  (await open()).info.software ? { mask: { workgroupBytes: 0 } } : {};

describe('autotuning', () => {
  it('is off unless asked for', async () => {
    vi.stubEnv('NEURGRAD_AUTOTUNE', '');
    expect((await open()).tuning.size).toBe(0);
  });

  it('measures once, keeps the winners on disk and takes them from there', { timeout: 600_000 }, async () => {
    const folder = await mkdtemp(join(tmpdir(), 'neurgrad-tune-'));
    vi.stubEnv('NEURGRAD_CACHE', folder);
    const device = await open({ ...(await contest()), autotune: true });
    expect(device.tuning.size).toBeGreaterThan(1);
    for (const m of [1, 512]) {
      const shape = { m, n: 256, k: 256 };
      const names = candidates(shape, TUNED_LAYOUT, device.capabilities).map((c) => c.name);
      if (names.length > 1) expect(names).toContain(device.tuning.get(productClass(m, TUNED_LAYOUT)));
    }
    const [file] = await readdir(folder);
    const kept = JSON.parse(await readFile(join(folder, file!), 'utf8')) as {
      fastest: Record<string, string>;
    };
    expect(kept.fastest).toEqual(Object.fromEntries(device.tuning));

    const read: string[] = [];
    const again = await open(await contest());
    await tuneProducts(again, {
      read: async (name) => {
        read.push(name);
        return readFile(join(folder, `${name}.json`), 'utf8');
      },
      write: () => Promise.reject(new Error('measured again')),
    });
    expect(read).toEqual([file!.replace('.json', '')]);
    expect([...again.tuning]).toEqual([...device.tuning]);
  });

  it('measures anew where other kernels compete', async () => {
    const device = await open(await contest());
    const written: string[] = [];
    const stale = JSON.stringify({ entrants: 'others', fastest: { 'f32 B^T 1 rows': 'gone' } });
    await tuneProducts(device, {
      read: async () => stale,
      write: async (_, text) => {
        written.push(text);
      },
    });
    expect(written.length).toBe(1);
    expect([...device.tuning.values()]).not.toContain('gone');
  });

  it('decides only among kernels that apply', async () => {
    const device = await open({ mask: { subgroups: false, subgroupSize: 32 } });
    const shape = { m: 70, n: 130, k: 36 };
    const first = choose(shape, TUNED_LAYOUT, device).name;
    device.tuning.set(productClass(70, TUNED_LAYOUT), 'tiles 8x8');
    expect(choose(shape, TUNED_LAYOUT, device).name).toBe('tiles 8x8');
    expect(first).not.toBe('tiles 8x8');
    device.tuning.set(productClass(70, TUNED_LAYOUT), 'no such kernel');
    expect(choose(shape, TUNED_LAYOUT, device).name).toBe(first);
  });
});
