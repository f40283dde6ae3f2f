/**
 * `npm run isa`: compiles the project's kernels with real GPU compilers, without a GPU, and reads what came out (README.md).
 *
 * Exit code 1 where a compiler refused a kernel or undid its chunks, 2 where something that it needs is missing.
 */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Command, InvalidArgumentError, Option } from 'commander';
import { EXIT, runProgram } from '../../cli/exit.ts';
import { integer } from '../../cli/options.ts';
import { checkFile, writeWhole } from '../../engine/disk.ts';
import { UserError } from '../../engine/errors.ts';
import { analyse, type FamilyReport } from './analyse.ts';
import { changes } from './changes.ts';
import { compileOnly, FAMILIES, findNvcc, type Nvcc } from './compilers.ts';
import { compileAll } from './nvidia.ts';
import { fileOf, readRecording } from './record.ts';
import { passes, predictions, toText } from './report.ts';
import { WORKLOADS } from './workloads.ts';

interface Options {
  readonly family?: readonly string[];
  readonly only?: readonly string[];
  readonly top: number;
  readonly detail: boolean;
  readonly json?: string;
  readonly predictions?: string;
  readonly before?: string;
  readonly keep?: string;
}

const child = fileURLToPath(new URL('./child.js', import.meta.url));
/** RADV says once that it sees no bus. */
const NOISE = /^ac_compute_device_uuid/;

/** Runs the workloads on a device that compiles for `family`; what it wrote lies in `folder`. */
async function record(family: string, folder: string, workloads: readonly string[]): Promise<void> {
  const env = { ...process.env, ...compileOnly(family, folder) };
  const running = spawn(process.execPath, [child, ...workloads], {
    env,
    stdio: ['ignore', 'inherit', 'pipe'],
  });
  const end = once(running, 'exit') as Promise<[code: number | null, signal: string | null]>;
  for await (const line of createInterface({ input: running.stderr }))
    if (!NOISE.test(line)) process.stderr.write(`${line}\n`);
  const [code, signal] = await end;
  if (code === EXIT.user) throw new UserError('isa', `nothing was compiled for ${family}`);
  if (code !== 0) throw new Error(`the run for ${family} ended with ${code ?? signal}`);
}

/** The families to compile for, and NVIDIA's compiler if it is among them. */
function chosen(family: Options['family']): { families: readonly string[]; compiler: Nvcc | null } {
  const isNvidia = (name: string): boolean => FAMILIES[name]!.maker === 'nvidia';
  if (family) return { families: family, compiler: family.some(isNvidia) ? findNvcc() : null };
  try {
    return { families: ['navi31', 'navi21', 'dg2', 'sm_90'], compiler: findNvcc() };
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    console.error(`NVIDIA is left out: ${error.message}`);
    return { families: ['navi31', 'navi21', 'dg2'], compiler: null };
  }
}

function keepFiles(report: FamilyReport, from: string, folder: string): void {
  mkdirSync(folder, { recursive: true });
  for (const { label, hash, hotText } of report.kernels) {
    const name = join(folder, fileOf(label));
    for (const ending of ['spv', 'isa', 'cu', 'sass'])
      if (existsSync(join(from, `${hash}.${ending}`)))
        copyFileSync(join(from, `${hash}.${ending}`), `${name}.${ending}`);
    const text = join(from, `${fileOf(label)}.wgsl`);
    if (existsSync(text)) copyFileSync(text, `${name}.wgsl`);
    if (hotText) writeFileSync(`${name}.hot`, `${hotText}\n`);
  }
}

/** Names with commas between them. */
const listOf =
  (known: readonly string[]) =>
  (text: string): string[] => {
    const names = text.split(',');
    const unknown = names.find((name) => !known.includes(name));
    if (unknown !== undefined)
      throw new InvalidArgumentError(`There is no "${unknown}"; there are ${known.join(', ')}.`);
    return names;
  };

async function main(argv: readonly string[]): Promise<void> {
  const program = new Command('isa')
    .exitOverride()
    .description(
      `Compiles the project's kernels with real GPU compilers, without a GPU, and reads the assembly. Families: ${Object.keys(FAMILIES).join(', ')}; workloads: ${Object.keys(WORKLOADS).join(', ')}.`,
    )
    .argument('[files...]', 'WGSL files to compile in place of the workloads')
    .addOption(
      new Option(
        '--family <list>',
        'which, of those above; default: navi31,navi21,dg2, and sm_90 where there is nvcc',
      ).argParser(listOf(Object.keys(FAMILIES))),
    )
    .addOption(new Option('--only <list>', 'which workloads').argParser(listOf(Object.keys(WORKLOADS))))
    .addOption(new Option('--top <n>', 'rows of a table').default(20).argParser(integer(1)))
    .option('--detail', 'also each phase by kernel', false)
    .option('--json <file>', 'write everything')
    .option(
      '--predictions <file>',
      "write each phase's times by the model, which the gpu suite compares with its own",
    )
    .option('--before <file>', 'compare with what an earlier run wrote')
    .option('--keep <folder>', 'keep WGSL, SPIR-V, assembly and hottest loop of every kernel');
  program.parse([...argv], { from: 'user' });
  const options = program.opts<Options>();
  for (const file of program.args)
    if (!file.endsWith('.wgsl') || !existsSync(file)) throw new UserError('isa', `${file}: no WGSL file`);
  for (const file of [options.json, options.predictions]) if (file) checkFile(file);
  const before = options.before ? (JSON.parse(readFileSync(options.before, 'utf8')) as FamilyReport[]) : null;
  const workloads =
    program.args.length > 0
      ? program.args.map((file) => resolve(file))
      : (options.only ?? Object.keys(WORKLOADS));
  const { families, compiler } = chosen(options.family);
  const work = mkdtempSync(join(tmpdir(), 'neurgrad-isa-'));
  const progress = (line: string): void => {
    if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${line}`);
  };
  // However the process ends: at a missing driver too, and at Ctrl-C.
  process.on('exit', () => rmSync(work, { recursive: true, force: true }));
  process.once('SIGINT', () => process.exit(130));
  const recorded = families.filter((family) => FAMILIES[family]!.maker !== 'nvidia');
  // NVIDIA's compiler takes the shaders of another family's run.
  const source = recorded[0] ?? 'navi31';
  progress(`running on ${recorded.join(', ')}`);
  await Promise.all(
    [...new Set([source, ...recorded])].map((family) => record(family, join(work, family), workloads)),
  );
  const reports: FamilyReport[] = [];
  for (const family of families) {
    const folder = join(work, recorded.includes(family) ? family : source);
    progress(`reading ${family}`);
    const banks = reports.length === 0;
    if (recorded.includes(family)) reports.push(analyse(family, folder, { banks }));
    else {
      const { pipelines } = readRecording(readFileSync(join(folder, 'log'), 'utf8'));
      const compiled = await compileAll(compiler!, family, folder, pipelines.keys(), progress);
      reports.push(analyse(family, folder, { compiled, banks }));
    }
    if (options.keep) keepFiles(reports.at(-1)!, folder, join(options.keep, family));
  }
  progress('');
  console.log(toText(reports, options.top, options.detail));
  if (before) console.log(`\n${changes(before, reports)}`);
  if (options.json) {
    const lean = (key: string, value: unknown): unknown => (key === 'hotText' ? undefined : value);
    writeWhole(options.json, `${JSON.stringify(reports, lean, 1)}\n`);
  }
  if (options.predictions)
    writeWhole(options.predictions, `${JSON.stringify(predictions(reports), null, 1)}\n`);
  if (!passes(reports)) process.exit(EXIT.ours);
}

await runProgram(() => main(process.argv.slice(2)));
