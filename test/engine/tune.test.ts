/** Autotuning: what it measures it keeps, and what is kept it takes. Measuring checks that the bits agree. */

import { mkdtemp, readdir, readFile, writeFile } from 'node:fs/promises';
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
      write: async () => {
        read.push('measured again');
      },
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

  describe('a cache that is of no use', () => {
    /** A store of one text, and what was written to it. */
    async function tuned(read: () => Promise<string | null>, write = async () => {}): Promise<Device> {
      const device = await open(await contest());
      await tuneProducts(device, { read, write });
      return device;
    }
    const said = () => vi.spyOn(console, 'warn').mockImplementation(() => {});
    afterEach(() => vi.restoreAllMocks());

    it.each([
      ['cut off', '{"entrants": "f3'],
      ['empty', ''],
      ['another JSON', '[1, 2]'],
      ['null', 'null'],
      ['without winners', JSON.stringify({ entrants: 'x' })],
    ])('%s: measured anew, and kept', async (_, text) => {
      const warn = said();
      let kept: string | null = null;
      const device = await open(await contest());
      await tuneProducts(device, {
        read: async () => text,
        write: async (_, fresh) => {
          kept = fresh;
        },
      });
      expect(device.tuning.size).toBeGreaterThan(1);
      expect(Object.keys(JSON.parse(kept!).fastest)).toEqual([...device.tuning.keys()]);
      expect(warn).not.toHaveBeenCalled();
      // With its winners changed for names that are none, it is measured anew, too.
      const odd = JSON.parse(kept!) as { entrants: string; fastest: Record<string, string> };
      odd.fastest[Object.keys(odd.fastest)[0]!] = 'no such kernel';
      const again = await tuned(async () => JSON.stringify(odd));
      expect([...again.tuning.values()]).not.toContain('no such kernel');
    });

    it('that cannot be read or written: the device is tuned all the same, and it is said', async () => {
      const warn = said();
      const refuse = () => Promise.reject(new Error('EACCES: permission denied'));
      const device = await tuned(refuse, refuse);
      expect(device.tuning.size).toBeGreaterThan(1);
      expect(warn.mock.calls.flat()).toEqual([
        'neurgrad: times of kernels could not be read: EACCES: permission denied',
        'neurgrad: times of kernels could not be kept: EACCES: permission denied',
      ]);
    });

    it('behind a file where its folder should be, on the disk', async () => {
      const warn = said();
      const folder = await mkdtemp(join(tmpdir(), 'neurgrad-tune-'));
      await writeFile(join(folder, 'file'), '');
      vi.stubEnv('NEURGRAD_CACHE', join(folder, 'file', 'cache'));
      const device = await open({ ...(await contest()), autotune: true });
      expect(device.tuning.size).toBeGreaterThan(1);
      expect(warn.mock.calls.flat().join()).toMatch(
        /could not be kept: .*a part of the path is a file, not a folder/,
      );
      expect(await readdir(folder)).toEqual(['file']);
    });
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
