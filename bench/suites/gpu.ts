/**
 * A day on a GPU that nobody has seen, within eight minutes: whether all kernels give the same bits, whether the golden cases pass,
 * and then how long everything takes that a model of GPUs has predicted (`npm run isa -- --predictions`).
 *
 * Right before fast: what differs or fails is told, the rest is measured all the same, and the exit code says so.
 */

import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packageRoot } from '../../cli/package.ts';
import { OutOfMemoryError } from '../../engine/errors.ts';
import { convert, type Device, type DType, empty, sizeOf, type Tensor, tensor } from '../../engine/index.ts';
import { multiplyBy } from '../../engine/matmulChoice.ts';
import type { Prediction } from '../compile/report.ts';
import { contests, type Phase, unitsContests, WORKLOADS, type WorkloadName } from '../compile/workloads.ts';
import { randomNumbers } from '../reference.ts';
import { notMeasured, type Row } from '../rows.ts';
import { median } from '../timing.ts';
import type { Suite, SuiteContext } from './suite.ts';

const BITS = 'gpu: bits';
const GOLDEN = 'gpu: golden';
const PREDICTED = 'gpu: predicted';
/** Milliseconds after which no further workload is begun. */
const BUDGET = 7 * 60_000;
/** Milliseconds that a phase is repeated for, and its fewest and most repeats. */
const LONG = 400;
const REPEATS = [3, 50] as const;

const SOFTWARE = 'no GPU, a software adapter';
/** Minutes of a CPU. */
const GPU_ONLY = /^4096 x/;

/** What was predicted where this package was built. */
const predictionsFile = join(packageRoot, 'bench/results/predictions.json');

export const gpuSuite: Suite = async (context) => {
  const begin = performance.now();
  const rows = [...(await bits(context)), ...golden(context)];
  return [...rows, ...(await predicted(context, () => performance.now() - begin > BUDGET))];
};

/** Every kernel that may compute a product, on the same numbers: one row a layout and format. */
async function bits({ device, small, only, progress }: SuiteContext): Promise<Row[]> {
  const side = small ? 320 : 1088;
  const found = new Map<string, { kernels: Set<string>; products: number; faults: string[] }>();
  const rows = small ? [1, 12] : [1, 2, 4, 12, 16, 40, 68, 516];
  for (const { name, layout, shape, choices } of [
    ...contests(device, side, rows),
    ...unitsContests(device, side, rows),
  ]) {
    if (!`${BITS} ${name}`.includes(only)) continue;
    progress(`${BITS} ${name}, ${shape.m} rows`);
    const { m, n, k } = shape;
    const { transA, transB, weight } = layout;
    const a = tensor(device, randomNumbers(m * k, 1), transA ? [k, m] : [m, k]);
    const b = stored(device, transB ? [n, k] : [k, n], weight, 2);
    const entry = found.get(name) ?? { kernels: new Set(), products: 0, faults: [] };
    found.set(name, entry);
    let first: Uint32Array | undefined;
    for (const choice of choices) {
      const c = empty(device, [m, n]);
      multiplyBy(choice, device, [a.storage.window(), b.storage.window(), c.storage.window()], shape, layout);
      const got = new Uint32Array((await c.read()).buffer);
      first ??= got;
      const other = got.reduce((count, word, i) => count + Number(word !== first![i]), 0);
      if (other > 0)
        entry.faults.push(
          `${choice.name} differs from ${choices[0]!.name} in ${other} of ${m * n}, ${m} rows`,
        );
      entry.kernels.add(choice.name);
      entry.products++;
      c.dispose();
    }
    for (const t of [a, b]) t.dispose();
  }
  return [...found].map(([shape, { kernels, products, faults }]) => ({
    suite: BITS,
    shape,
    unit: 'kernels',
    ours: kernels.size,
    spread: null,
    figures: { products },
    peers: {},
    ratio: null,
    ratioOf: '',
    checked: faults.length === 0 ? 'the same bits' : faults.slice(0, 3).join('; '),
    ...(faults.length > 0 ? { fault: `${BITS} ${shape}: ${faults.join('; ')}` } : {}),
  }));
}

/** The golden tests, in a process of their own: one row a file. */
function golden({ only, small, progress }: SuiteContext): Row[] {
  if (!GOLDEN.includes(only) && only !== '') return [];
  const files = ['test/models/golden.test.ts', 'test/neurgrad/golden.test.ts'];
  const runner = join(packageRoot, 'node_modules/vitest/vitest.mjs');
  const missing = [runner, ...files.map((file) => join(packageRoot, file))].find((file) => !existsSync(file));
  const why = missing
    ? `${missing} is not there; take a clone or the bundle`
    : 'left out of a first impression';
  if (missing || small) return [notMeasured(GOLDEN, 'all cases', 'passed', why)];
  progress(GOLDEN);
  const folder = mkdtempSync(join(tmpdir(), 'neurgrad-gpu-'));
  try {
    const json = join(folder, 'golden.json');
    spawnSync(
      process.execPath,
      [
        runner,
        'run',
        ...files,
        '--pool',
        'forks',
        '--testTimeout',
        '120000',
        '--reporter',
        'json',
        '--outputFile',
        json,
      ],
      { cwd: packageRoot, stdio: 'ignore', timeout: BUDGET / 2 },
    );
    if (!existsSync(json)) return [failed('all cases', 0, ['did not finish'])];
    const { testResults } = JSON.parse(readFileSync(json, 'utf8')) as VitestReport;
    return testResults.map(({ name, assertionResults }) => {
      const failures = assertionResults.filter(({ status }) => status === 'failed');
      const passed = assertionResults.filter(({ status }) => status === 'passed').length;
      return failed(
        name.slice(packageRoot.length + 1),
        passed,
        failures.map(({ fullName }) => fullName),
      );
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
}

interface VitestReport {
  readonly testResults: readonly {
    readonly name: string;
    readonly assertionResults: readonly { readonly fullName: string; readonly status: string }[];
  }[];
}

const failed = (shape: string, passed: number, failures: readonly string[]): Row => ({
  suite: GOLDEN,
  shape,
  unit: 'passed',
  ours: passed,
  spread: null,
  figures: { failed: failures.length },
  peers: {},
  ratio: null,
  ratioOf: '',
  checked: failures.length === 0 ? 'all passed' : failures.slice(0, 3).join('; '),
  ...(failures.length > 0 ? { fault: `${GOLDEN} ${shape}: ${failures.join('; ')}` } : {}),
});

/** The GPU of the model that an adapter is compared with: itself, or the one of its vendor. */
export function comparedWith({
  vendor,
  description,
}: Pick<Device['info'], 'vendor' | 'description'>): string {
  const text = `${vendor} ${description}`.toLowerCase();
  const known: readonly (readonly [RegExp, string])[] = [
    [/h[12]00/, 'h200'],
    [/rtx/, 'rtx4070'],
    [/nvidia/, 'h200'],
    [/apple|metal/, 'm2'],
    [/intel|arc/, 'a770'],
    [/amd|radeon|radv/, '7900xtx'],
  ];
  return known.find(([pattern]) => pattern.test(text))?.[1] ?? 'h200';
}

/** Weights that hold numbers, a few million drawn ones again and again. */
function stored(device: Device, shape: readonly number[], dtype: DType, seed: number): Tensor {
  const size = sizeOf(shape);
  const drawn = randomNumbers(Math.min(size, 2 ** 22), seed, 1 / Math.sqrt(shape.at(-1)!));
  const data = new Float32Array(size);
  for (let at = 0; at < size; at += drawn.length) data.set(drawn.subarray(0, size - at), at);
  const f32 = tensor(device, data, shape, 'weights');
  if (dtype === 'f32') return f32;
  const packed = convert(f32, dtype);
  f32.dispose();
  return packed;
}

/** Every phase that was predicted, measured: one row each. */
async function predicted(context: SuiteContext, late: () => boolean): Promise<Row[]> {
  const { device, small, only, progress } = context;
  const rows: Row[] = [];
  const of = comparedWith(device.info);
  const known = existsSync(predictionsFile)
    ? (JSON.parse(readFileSync(predictionsFile, 'utf8')) as Prediction[])
    : [];
  const phase: Phase = async (name, once) => {
    if (!`${PREDICTED} ${name}`.includes(only)) return;
    const why = late() ? 'no time left' : device.info.software && GPU_ONLY.test(name) ? SOFTWARE : null;
    if (why) return void rows.push(notMeasured(PREDICTED, name, 'ms', why));
    progress(`${PREDICTED} ${name}`);
    const finished = async (): Promise<void> => {
      await once();
      await device.finish();
    };
    for (let i = 0; i < 2; i++) await finished();
    const taken: number[] = [];
    const begin = performance.now();
    while (taken.length < REPEATS[0] || (performance.now() - begin < LONG && taken.length < REPEATS[1])) {
      const start = performance.now();
      await finished();
      taken.push(performance.now() - start);
    }
    device.startProfiling();
    await finished();
    const profile = await device.stopProfiling();
    const ours = median(taken);
    const prediction = known.find((each) => each.name === name);
    const expected = prediction?.milliseconds[of];
    const nanoseconds = profile.reduce((sum, row) => sum + (row.nanoseconds ?? 0), 0);
    rows.push({
      suite: PREDICTED,
      shape: name,
      unit: 'ms',
      ours,
      spread: (Math.max(...taken) - Math.min(...taken)) / 2 / ours,
      figures: {
        dispatches: profile.reduce((sum, row) => sum + row.dispatches, 0),
        ...(prediction ? { 'dispatches predicted': prediction.dispatches } : {}),
        ...(nanoseconds > 0 ? { 'in kernels (ms)': nanoseconds / 1e6 } : {}),
        ...(expected === undefined ? {} : { 'predicted (ms)': expected }),
      },
      peers: {},
      ratio: expected === undefined ? null : expected / ours,
      ratioOf: 'predicted / ours',
      checked: expected === undefined ? 'not predicted' : `predicted for ${of}`,
    });
  };
  let seed = 1;
  const bench = { device, phase, weights: (s: readonly number[], d: DType) => stored(device, s, d, seed++) };
  const workloads: WorkloadName[] = small ? ['gemm'] : ['gemm', 'bert', 'llama', 'llama-7b'];
  for (const name of workloads) {
    const heavy = name === 'llama-7b';
    if (heavy && (device.info.software || late())) {
      rows.push(notMeasured(PREDICTED, 'Llama 2 7B', 'ms', device.info.software ? SOFTWARE : 'no time left'));
      continue;
    }
    try {
      await WORKLOADS[name](bench);
    } catch (error) {
      if (!(error instanceof OutOfMemoryError)) throw error;
      rows.push(notMeasured(PREDICTED, name, 'ms', error.message));
    }
    device.pool.trim();
  }
  return rows;
}
