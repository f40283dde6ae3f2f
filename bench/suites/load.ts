/**
 * Loading and streaming at the sizes of Llama 2, from synthetic checkpoints.
 *
 * Loading: seeded numbers, so that there are blocks to read, in turns with `dd` on the same file, with the file dropped from
 * the system's cache before each. `dd` keeps nothing; on a device whose memory is the process's own, loading must also be
 * given new memory by the system. So `dd` into a file in memory stands beside it, and shared memory comes in large pages
 * meanwhile where the system lets us (cli/sharedMemory.ts).
 * Whole models: sparse files; one prompt's forward and NeurGrad of all neurons, with weights on the device or on disk.
 *
 * Not among the suites that run by themselves: 70B reads its 138 GB twice. `--small` takes two layers of each.
 */

import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { askForLargePages, LARGE_PAGES_COMMAND, sharedMemoryPages } from '../../cli/sharedMemory.ts';
import {
  type LanguageModel,
  loadModelWeights,
  localFolder,
  openCheckpoint,
  planMemory,
  readConfig,
  StreamedModel,
  streamModel,
  synthesise,
  type WeightDtype,
} from '../../models/index.ts';
import { neuronGradients } from '../../neurgrad/index.ts';
import { notMeasured, type Row } from '../rows.ts';
import { median, quantile } from '../timing.ts';
import type { Suite, SuiteContext } from './suite.ts';

const PROBE = { ids: [1, 450, 7483, 310, 3444, 338], position: 5 };

const shards = (folder: string): string[] =>
  readdirSync(folder)
    .filter((name) => name.endsWith('.safetensors'))
    .map((name) => join(folder, name));
const run = (...args: string[]): void => void execFileSync('dd', args, { stdio: 'ignore' });

/** Seconds of `dd` over all shards. */
function ddSeconds(folder: string, to = '/dev/null'): number {
  const began = performance.now();
  for (const file of shards(folder)) run(`if=${file}`, `of=${to}`, 'bs=16M');
  return (performance.now() - began) / 1000;
}

/** A file system in memory, where there is one. */
const MEMORY = '/dev/shm';
const LAYERS = 4;

/** Loading in turns with `dd`, a row for each dtype. */
async function loadingRows(context: SuiteContext, path: string): Promise<Row[]> {
  const layers = context.small ? 2 : LAYERS;
  const pages = context.device.info.software ? sharedMemoryPages() : null;
  const rows: Row[] = [];
  for (const dtype of ['bf16', 'int4', 'f32'] as const) {
    const shape = `llama2-7b, ${layers} layers, ${dtype}, loading${pages ? `, ${pages} pages` : ''}`;
    if (!shape.includes(context.only)) continue;
    if (!existsSync(path)) await synthesise(path, { preset: 'llama2-7b', dtype: 'bf16', layers, seed: 1 });
    rows.push(await loadingRow(context, path, dtype, shape));
  }
  return rows;
}

/** Medians of `rounds`, and the first of them by itself. */
async function loadingRow(
  { device, rounds, progress }: SuiteContext,
  path: string,
  dtype: WeightDtype,
  shape: string,
): Promise<Row> {
  const folder = await localFolder(path);
  const copy = join(MEMORY, `neurgrad-load-${process.pid}`);
  const times = {
    dd: [] as number[],
    memory: [] as number[],
    load: [] as number[],
    processor: [] as number[],
  };
  let bytes = 0;
  const contenders: Record<'dd' | 'memory' | 'load', () => Promise<void>> = {
    dd: async () => void times.dd.push(ddSeconds(path)),
    memory: async () => {
      if (!existsSync(MEMORY)) return;
      times.memory.push(ddSeconds(path, copy));
      rmSync(copy);
    },
    load: async () => {
      const [began, used] = [performance.now(), process.cpuUsage()];
      const onProgress = (told: { bytes: number }): void => void (bytes = told.bytes);
      const model = await loadModelWeights(folder, device, { dtype, onProgress });
      times.load.push((performance.now() - began) / 1000);
      const { user, system } = process.cpuUsage(used);
      times.processor.push((user + system) / 1e6);
      model.dispose();
      await device.finish();
      device.pool.trim();
    },
  };
  const order = ['dd', 'memory', 'load'] as const;
  for (let round = 0; round < rounds; round++) {
    // Every other round backwards: what comes later may find the file in a cache below this system's.
    for (const name of round % 2 ? order.toReversed() : order) {
      for (const file of shards(path)) run(`if=${file}`, 'iflag=nocache', 'count=0');
      await contenders[name]();
    }
    progress(`${shape}: dd ${times.dd.at(-1)!.toFixed(2)} s, loading ${times.load.at(-1)!.toFixed(2)} s`);
  }
  const [ours, dd] = [median(times.load), median(times.dd)];
  const sorted = times.load.toSorted((a, b) => a - b);
  return {
    suite: 'load',
    shape,
    unit: 's',
    ours,
    spread: (quantile(sorted, 0.75) - quantile(sorted, 0.25)) / 2 / ours,
    figures: {
      'GB read': bytes / 1e9,
      'GB/s': bytes / ours / 1e9,
      'dd GB/s': bytes / dd / 1e9,
      'first s': times.load[0]!,
      'processor s': median(times.processor),
      ...(times.memory.length > 0 ? { 'ratio to dd into memory': median(times.memory) / ours } : {}),
    },
    peers: {},
    ratio: dd / ours,
    ratioOf: 'our bytes a second / dd',
    checked: `medians of ${rounds} in turns, cold`,
  };
}

export const loadSuite: Suite = async (context) => {
  const { device, small, only, progress } = context;
  const rows: Row[] = [];
  const scratch = mkdtempSync(join(tmpdir(), 'neurgrad-load-'));
  const cases: readonly (readonly [string, WeightDtype, 'resident' | 'streamed'])[] = [
    ['llama2-7b', 'int4', 'resident'],
    ['llama2-7b', 'bf16', 'streamed'],
    ['llama2-70b', 'bf16', 'streamed'],
    ['llama2-70b', 'bf16', 'resident'],
  ];
  using large = device.info.software ? askForLargePages() : null;
  if (large) progress('shared memory comes in large pages while this suite runs; the setting is put back');
  else if (device.info.software && sharedMemoryPages() === 'small')
    progress(`shared memory comes in small pages, which is slow; for large ones: ${LARGE_PAGES_COMMAND}`);
  try {
    rows.push(...(await loadingRows(context, join(scratch, 'random'))));
    rmSync(join(scratch, 'random'), { recursive: true, force: true });
    for (const [preset, dtype, how] of cases) {
      const shape = `${preset}${small ? ', 2 layers' : ''}, ${dtype}, ${how}`;
      if (!shape.includes(only)) continue;
      if (preset === 'llama2-70b' && how === 'resident' && device.info.software) {
        rows.push(notMeasured('load', shape, 's', 'no GPU of 140 GB, a software adapter'));
        continue;
      }
      const path = join(scratch, preset);
      await synthesise(path, { preset, dtype: 'bf16', layers: small ? 2 : undefined }).catch(() => {});
      const folder = await localFolder(path);
      const config = await readConfig(folder);
      const checkpoint = await openCheckpoint(folder);
      const plan = planMemory(config, checkpoint, { dtype, tokens: PROBE.ids.length });
      await checkpoint.close();
      progress(`${shape}: dd`);
      const dd = plan.stored.bytes / ddSeconds(path);
      let read = 0;
      let told = 0;
      const onProgress = ({ bytes }: { bytes: number }) => {
        read = bytes;
        // A line every 5 GB: a log has no use for one a tensor.
        if (bytes - told < 5e9) return;
        told = bytes;
        progress(`${shape}: ${(bytes / 1e9).toFixed(0)} GB read`);
      };
      const began = performance.now();
      const model: LanguageModel =
        how === 'resident'
          ? await loadModelWeights(folder, device, { dtype, onProgress })
          : await streamModel(folder, device, { dtype, onProgress });
      const loaded = (performance.now() - began) / 1000;
      const found = await neuronGradients(model, PROBE, { target: 3681 });
      const seconds = (performance.now() - began) / 1000;
      const reading = how === 'resident' ? loaded : seconds;
      if (model instanceof StreamedModel) read = model.bytesRead;
      model.dispose();
      await device.finish();
      device.pool.trim();
      const rate = read / reading;
      rows.push({
        suite: 'load',
        shape,
        unit: 's',
        ours: seconds,
        spread: null,
        figures: {
          'GB on disk': plan.stored.bytes / 1e9,
          'GB read': read / 1e9,
          'GB/s': rate / 1e9,
          'dd GB/s': dd / 1e9,
          'GB planned': plan[how] / 1e9,
          'GB of device, at most': device.memory.peak / 1e9,
          'GB of process, at most': process.resourceUsage().maxRSS / 1e6,
        },
        peers: {},
        ratio: rate / dd,
        ratioOf: 'our bytes a second / dd',
        checked: `${found.neurgrad.length} neurons, p ${found.p.toPrecision(3)}`,
      });
    }
  } finally {
    rmSync(scratch, { recursive: true });
  }
  return rows;
};
