/** `neurgrad doctor`: what this machine offers, whether it computes right, and what to do where it does not. */

import { existsSync } from 'node:fs';
import { type Command, Option } from 'commander';
import pc from 'picocolors';
import { type Capabilities, matmul, type TunedClass, tensor, tuneProducts } from '../../engine/index.ts';
import { hubFolders } from '../../models/hubRequests.ts';
import { type Device, openDevice, UserError } from '../../neurgrad/index.ts';
import { EXIT } from '../exit.ts';
import { jsonOption, withOptions } from '../options.ts';
import { openOutput } from '../output.ts';
import { bundledModel, dependencyVersion, version } from '../package.ts';
import { describeAdapter } from '../session.ts';
import { LARGE_PAGES_COMMAND, sharedMemoryPages } from '../sharedMemory.ts';
import { table } from '../table.ts';

export interface Diagnosis {
  readonly neurgrad: string;
  readonly node: string;
  readonly dawn: string;
  readonly platform: string;
  /** Null where there is none. */
  readonly adapter: {
    readonly name: string;
    readonly vendor: string;
    readonly architecture: string;
    readonly software: boolean;
    readonly runtime: string;
    readonly implementation: Device['info']['implementation'];
    readonly features: readonly string[];
    readonly capabilities: Device['capabilities'];
    /** The kernel by class of matrix products, where it was measured. */
    readonly tuning: Readonly<Record<string, string>>;
    /** Times of all kernels by class, with `--tune`. */
    readonly measured: readonly TunedClass[] | null;
  } | null;
  /** A product of two 33 × 33 matrices against the same in float64. */
  readonly selfCheck: { readonly ok: boolean; readonly largestError: number } | null;
  readonly modelCache: string;
  readonly bundledModel: string | null;
  readonly ok: boolean;
  readonly advice: readonly string[];
}

export function addDoctor(program: Command): void {
  withOptions(
    program
      .command('doctor')
      .description('check this machine: adapter, features, limits, a small computation'),
    new Option('--tune', 'measure which kernels suit this adapter, or show what was measured').default(false),
    jsonOption(),
  )
    .addHelpText(
      'after',
      `
Examples:
  neurgrad doctor
  neurgrad doctor --json
  neurgrad doctor --tune

What --tune measures is kept for all later runs on this adapter and driver, which take it from there where they are long
(study, probe) or NEURGRAD_AUTOTUNE is 1. It changes no result: all kernels have the same bits.

Exit code 0 where the machine can run models, 1 where something is missing.`,
    )
    .action(async (options: { json?: boolean; tune: boolean }) => {
      const output = openOutput(options.json ?? false);
      const diagnosis = await diagnose(options.tune);
      output.result(diagnosis, () => describe(diagnosis));
      if (!diagnosis.ok) process.exitCode = EXIT.failed;
    });
}

async function diagnose(tune: boolean): Promise<Diagnosis> {
  const advice: string[] = [];
  let adapter: Diagnosis['adapter'] = null;
  let selfCheck: Diagnosis['selfCheck'] = null;
  try {
    const device = await openDevice();
    try {
      const { vendor, architecture, software } = device.info;
      const measured = tune ? await tuneProducts(device) : null;
      adapter = {
        name: describeAdapter(device),
        vendor,
        architecture,
        software,
        runtime: device.info.runtime,
        implementation: device.info.implementation,
        features: [...device.features].sort(),
        capabilities: device.capabilities,
        tuning: Object.fromEntries(device.tuning),
        measured,
      };
      selfCheck = await checkMatmul(device);
      if (software) advice.push('this adapter runs on the CPU: results are right, but a GPU is far faster');
      if (software && sharedMemoryPages() === 'small')
        advice.push(
          `large models load several times faster in large pages of memory: ${LARGE_PAGES_COMMAND}`,
        );
      if (!selfCheck.ok) advice.push('the adapter computes wrong products: update its driver');
    } finally {
      device.destroy();
    }
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    advice.push(error.message);
  }
  if (!existsSync(bundledModel)) advice.push('the bundled model is missing: install the package again');
  return {
    neurgrad: version,
    node: process.version,
    dawn: dependencyVersion('webgpu'),
    platform: `${process.platform} ${process.arch}`,
    adapter,
    selfCheck,
    modelCache: (await hubFolders(process.env)).cacheRoot,
    bundledModel: existsSync(bundledModel) ? bundledModel : null,
    ok: selfCheck?.ok ?? false,
    advice,
  };
}

/** Odd sizes, so that the edges of every tile are in play. */
async function checkMatmul(device: Device): Promise<{ ok: boolean; largestError: number }> {
  const n = 33;
  const a = Float32Array.from({ length: n * n }, (_, i) => Math.sin(i));
  const b = Float32Array.from({ length: n * n }, (_, i) => Math.cos(3 * i));
  using left = tensor(device, a, [n, n]);
  using right = tensor(device, b, [n, n]);
  using product = matmul(left, right);
  const got = await product.read();
  let largestError = 0;
  for (let row = 0; row < n; row++) {
    for (let column = 0; column < n; column++) {
      let want = 0;
      for (let k = 0; k < n; k++) want += a[row * n + k]! * b[k * n + column]!;
      const error = Math.abs(got[row * n + column]! - want);
      // Written so that NaN counts as the largest error there is.
      if (!(error <= largestError)) largestError = Number.isNaN(error) ? Number.POSITIVE_INFINITY : error;
    }
  }
  return { ok: largestError <= 1e-4, largestError };
}

const subgroups = ({ subgroups, subgroupSize, subgroupSizeFixed }: Capabilities): string =>
  subgroups ? `of ${subgroupSize}${subgroupSizeFixed ? '' : ' at most'}` : 'none';

const products = (tuning: Readonly<Record<string, string>>): string =>
  Object.keys(tuning).length > 0
    ? `kernels measured for ${Object.keys(tuning).length} classes`
    : 'kernels chosen by guess; --tune measures them';

/** Microseconds of each kernel that competes, the fastest one first. */
function timesOf(classes: readonly TunedClass[]): string {
  const digits = (us: number): string => (us >= 100 ? us.toFixed(0) : us.toPrecision(3));
  return table(
    ['matrix products', 'kernel', 'us', 'others (us)'],
    classes.map(({ name, fastest, microseconds }) => [
      name,
      fastest,
      digits(microseconds[fastest]!),
      Object.entries(microseconds)
        .filter(([kernel]) => kernel !== fastest)
        .sort(([, a], [, b]) => a - b)
        .map(([kernel, us]) => `${kernel} ${digits(us)}`)
        .join(', '),
    ]),
  );
}

function describe(diagnosis: Diagnosis): string {
  const { adapter, selfCheck } = diagnosis;
  const megabytes = (bytes: number): string => `${Math.round(bytes / 2 ** 20)} MiB`;
  const rows: [string, string][] = [
    ['neurgrad', diagnosis.neurgrad],
    ['Node', `${diagnosis.node}, ${diagnosis.platform}`],
    ['Dawn (webgpu)', diagnosis.dawn],
    ['adapter', adapter?.name ?? pc.red('none')],
  ];
  if (adapter) {
    const { capabilities } = adapter;
    const { matrixUnit } = capabilities;
    rows.push(
      ['WebGPU', `${adapter.implementation}, opened by ${adapter.runtime}`],
      ['subgroups', subgroups(capabilities)],
      ['matrix units', matrixUnit ? `${matrixUnit.m} x ${matrixUnit.n} x ${matrixUnit.k}` : 'none'],
      ['parameters', capabilities.immediates ? 'as immediates' : 'by a uniform ring'],
      ['features', adapter.features.join(', ') || 'none beyond the core'],
      ['largest binding', megabytes(capabilities.bindingBytes)],
      ['largest buffer', megabytes(capabilities.bufferBytes)],
      ['matrix products', products(adapter.tuning)],
      ['workgroup', `${capabilities.invocations} invocations, ${capabilities.workgroupBytes} bytes`],
    );
  }
  if (selfCheck) {
    const error = `largest error ${selfCheck.largestError.toExponential(1)}`;
    rows.push(['self-check', `${selfCheck.ok ? pc.green('right') : pc.red('WRONG')}, ${error}`]);
  }
  rows.push(
    ['model cache', diagnosis.modelCache],
    ['bundled model', diagnosis.bundledModel ?? pc.red('missing')],
  );
  return [
    table(['', ''], rows),
    ...(adapter?.measured ? [timesOf(adapter.measured)] : []),
    ...diagnosis.advice.map((line) => `${pc.yellow('advice:')} ${line}`),
    diagnosis.ok ? 'This machine can run models.' : 'This machine cannot run models yet.',
  ].join('\n');
}
