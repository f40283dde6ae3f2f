/** Autotuning: what it measures it keeps, and what is kept it takes. Measuring checks that the bits agree. */

import { mkdtemp, readdir, readFile, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import {
  candidates,
  type Device,
  type OpenOptions,
  openDevice,
  type TunedClass,
  tuneProducts,
} from '../../engine/index.ts';
import { choose, type OperandLayout, productClass } from '../../engine/matmulChoice.ts';
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
    const { classes } = JSON.parse(await readFile(join(folder, file!), 'utf8')) as { classes: TunedClass[] };
    expect(new Map(classes.map(({ name, fastest }) => [name, fastest]))).toEqual(device.tuning);
    for (const { fastest, microseconds } of classes) {
      const times = Object.values(microseconds);
      expect(times.every((us) => us > 0)).toBe(true);
      // The first guess stays where another kernel is not clearly faster.
      expect(microseconds[fastest]! <= Math.min(...times) / 0.97).toBe(true);
    }

    const read: string[] = [];
    const again = await open(await contest());
    const known = await tuneProducts(again, {
      read: async (name) => {
        read.push(name);
        return readFile(join(folder, `${name}.json`), 'utf8');
      },
      write: async () => {
        read.push('measured again');
      },
    });
    expect(read).toEqual([file!.replace('.json', '')]);
    expect(known).toEqual(classes);
    expect([...again.tuning]).toEqual([...device.tuning]);
  });

  it('is asked for by a variable, by an option, or on hardware alone', async () => {
    const store = await mkdtemp(join(tmpdir(), 'neurgrad-tune-'));
    vi.stubEnv('NEURGRAD_CACHE', store);
    const mask = (await contest())!;
    const tuned = async (autotune: OpenOptions['autotune'], variable: string): Promise<boolean> => {
      vi.stubEnv('NEURGRAD_AUTOTUNE', variable);
      return (await open({ ...mask, ...(autotune === undefined ? {} : { autotune }) })).tuning.size > 0;
    };
    const { software } = (await open(mask)).info;
    expect(await tuned(undefined, '1')).toBe(true);
    expect(await tuned('hardware', '')).toBe(!software);
    expect(await tuned('hardware', '1')).toBe(true);
    expect(await tuned('hardware', '0')).toBe(false);
    expect(await tuned(true, '0')).toBe(true);
    expect(await tuned(false, '1')).toBe(false);
    await expect(open({ autotune: 'gpu' as 'hardware' })).rejects.toThrow("true, false or 'hardware'");
  });

  it('has classes of all transpositions, of quantised weights, and of rows without end', async () => {
    const device = await open(await contest());
    const of = (m: number, changed: Partial<OperandLayout> = {}) =>
      productClass(m, { ...TUNED_LAYOUT, ...changed });
    expect([of(1), of(5), of(513), of(9999)]).toEqual([
      'f32 B^T 1 rows',
      'f32 B^T 16 rows',
      'f32 B^T 4096 rows',
      'f32 B^T 4096 rows',
    ]);
    expect(of(2, { weight: 'bf16' })).toBe(of(2));
    expect(of(2, { weight: 'int8' })).toBe(of(2, { weight: 'int4' }));
    const names = (await tuneProducts(device, { read: async () => null, write: async () => {} })).map(
      (c) => c.name,
    );
    for (const transA of [false, true])
      for (const transB of [false, true]) expect(names).toContain(of(64, { transA, transB }));
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
      const found = JSON.parse(kept!) as { classes: TunedClass[] };
      expect(found.classes.map(({ name }) => name)).toEqual([...device.tuning.keys()]);
      expect(warn).not.toHaveBeenCalled();
      // With its winners changed for names that are none, it is measured anew, too.
      const [first, ...rest] = found.classes;
      const odd = { ...found, classes: [{ ...first, fastest: 'no such kernel' }, ...rest] };
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
