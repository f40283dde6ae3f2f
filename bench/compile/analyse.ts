/** What one family's compiler made of the workloads: kernels, and what each phase costs by the model. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type Traffic, traffic } from './banks.ts';
import { Untranslated } from './cuda.ts';
import type { Launch } from './evaluate.ts';
import { type Counts, run } from './interpret.ts';
import { type Compiled, readPipeline } from './mesa.ts';
import { estimate, GPUS, type Gpu, type Limit } from './model.ts';
import { prepare } from './program.ts';
import { type Phase, type Recording, readRecording, type Stream } from './record.ts';
import { addsFromWorkgroup, type Sealed, sealsInText, undone } from './seals.ts';
import { FMA, instructions, type Module, Op, parseModule } from './spirv.ts';

export interface Kernel extends Compiled {
  readonly label: string;
  readonly hash: string;
  readonly workgroup: readonly [number, number, number];
  /** What the text seals (seals.ts). */
  readonly text: Sealed;
  /** How it sums K, of a product: chunks sealed, left to another lane, or one chain; by matrix units, which have an order of their own. */
  readonly order: 'sealed' | 'handed on' | 'one chain' | 'units' | null;
  /** What is wrong with its chunks, or with other numbers that its text seals. */
  readonly fault: string | null;
  /** Wavefronts of workgroup memory a cycle of multiply-adds; null where there are none. */
  readonly traffic: Traffic | null;
}

/** One repeat of a phase. */
export interface PhaseReport extends Omit<Phase, 'streams'> {
  /** Dispatches of fewer than 512 waves. */
  readonly narrow: number;
  /** Microseconds by GPU, and of the first GPU by limit. */
  readonly us: Readonly<Record<string, number>>;
  readonly limits: Readonly<Partial<Record<Limit, number>>>;
  /** Dispatches whose loops did not end in time. */
  readonly left: number;
  /** Of the first GPU, the most expensive first. */
  readonly kernels: readonly { readonly label: string; readonly times: number; readonly us: number }[];
}

export interface FamilyReport {
  readonly family: string;
  readonly kernels: readonly Kernel[];
  readonly phases: readonly PhaseReport[];
  /** What the compiler refused. */
  readonly errors: readonly string[];
  /** Kernels that were not put to it (cuda.ts). */
  readonly untranslated: readonly string[];
}

const product = (sizes: readonly number[]): number => sizes.reduce((a, b) => a * b, 1);

/** What else there is, and what is wanted of it. */
interface Reading {
  /** By another compiler than the run's own, by hash. */
  readonly compiled?: ReadonlyMap<string, Compiled | Error>;
  /** Whether wavefronts are counted: they are those of the text, whatever compiles it. */
  readonly banks: boolean;
}

/** @param folder of the run. */
export function analyse(family: string, folder: string, { compiled, banks }: Reading): FamilyReport {
  const recording = readRecording(readFileSync(join(folder, 'log'), 'utf8'));
  const errors = [...(compiled ? [] : recording.errors)];
  const untranslated: string[] = [];
  const modules = new Map<string, Module>();
  const kernels = new Map<string, Kernel>();
  const known = new Map<string, number>();
  for (const [hash, name] of recording.pipelines) {
    const made = compiled?.get(hash) ?? readPipeline(readFileSync(join(folder, `${hash}.isa`), 'utf8'));
    if (made instanceof Untranslated) untranslated.push(name);
    else if (made instanceof Error) errors.push(`${name}: ${made.message.split('\n')[0]}`);
    if (made instanceof Error) continue;
    const module = parseModule(readFileSync(join(folder, `${hash}.spv`)));
    modules.set(hash, module);
    const same = (known.get(name) ?? 0) + 1;
    known.set(name, same);
    const label = same > 1 ? `${name} #${same}` : name;
    kernels.set(hash, kernelOf(made, module, hash, label, recording, banks));
  }
  const gpus = (Object.entries(GPUS) as [string, Gpu][]).filter(([, gpu]) => gpu.family === family);
  const phases = compiled ? [] : phasesOf(recording, kernels, modules, gpus);
  return { family, kernels: [...kernels.values()], phases, errors, untranslated };
}

const isProduct = (label: string): boolean => label.startsWith('matmul.');

function kernelOf(
  made: Compiled,
  module: Module,
  hash: string,
  label: string,
  { launches }: Recording,
  banks: boolean,
): Kernel {
  const text = sealsInText(module);
  const launch = launches.get(hash);
  const order = orderOf(label, module, text);
  return {
    ...made,
    label,
    hash,
    workgroup: module.workgroup,
    text,
    order,
    fault:
      undone(text, made.seals) ??
      (order === 'sealed' && isProduct(label) ? unsealed(module, made.wave, launch) : null),
    traffic: banks && launch ? traffic(prepare(module, 32, true), launch) : null,
  };
}

function orderOf(label: string, module: Module, { seals }: Sealed): Kernel['order'] {
  if (label.startsWith('matmul.units.')) return 'units';
  if (seals > 0) return 'sealed';
  const multiplies = instructions(module).some(({ op, args }) => op === Op.ExtInst && args[1] === FMA);
  if (!isProduct(label) || !multiplies) return null;
  return addsFromWorkgroup(module) ? 'handed on' : 'one chain';
}

/** Whether an invocation stores more numbers than it seals: of a product, whose results are all sums of chunks. */
function unsealed(module: Module, wave: number, launch: Launch | undefined): string | null {
  const counts = launch ? run(prepare(module, wave), launch) : null;
  if (!counts || counts.seals >= counts.outputs) return null;
  return `stores ${counts.outputs} numbers and seals ${counts.seals}`;
}

function phasesOf(
  { phases }: Recording,
  kernels: ReadonlyMap<string, Kernel>,
  modules: ReadonlyMap<string, Module>,
  gpus: readonly (readonly [string, Gpu])[],
): PhaseReport[] {
  const counted = new Map<string, Counts | null>();
  const countsOf = (stream: Stream, { wave }: Kernel): Counts | null => {
    const key = `${stream.hash} ${stream.grid} ${stream.bound} ${Buffer.from(stream.parameters).toString('hex')}`;
    const found = counted.get(key);
    if (found !== undefined) return found;
    const counts = run(prepare(modules.get(stream.hash)!, wave), stream);
    counted.set(key, counts);
    return counts;
  };
  return phases.map(({ streams, ...phase }) => {
    const us: Record<string, number> = Object.fromEntries(gpus.map(([name]) => [name, 0]));
    const limits: Partial<Record<Limit, number>> = {};
    const byKernel = new Map<string, { label: string; times: number; us: number }>();
    let [narrow, left] = [0, 0];
    for (const stream of streams) {
      const kernel = kernels.get(stream.hash);
      if (!kernel) continue;
      const waves = product(stream.grid) * Math.ceil(product(kernel.workgroup) / kernel.wave);
      if (waves < 512) narrow += stream.times;
      const row = byKernel.get(kernel.label) ?? { label: kernel.label, times: 0, us: 0 };
      byKernel.set(kernel.label, row);
      row.times += stream.times;
      const counts = gpus.length > 0 ? countsOf(stream, kernel) : null;
      if (!counts) left += stream.times;
      else
        for (const [i, [name, gpu]] of gpus.entries()) {
          const { time, limit } = estimate(gpu, kernel, counts, stream);
          us[name]! += stream.times * time;
          if (i > 0) continue;
          limits[limit] = (limits[limit] ?? 0) + stream.times * time;
          row.us += stream.times * time;
        }
    }
    return {
      ...phase,
      narrow,
      us,
      limits,
      left,
      kernels: [...byKernel.values()].sort((a, b) => b.us - a.us),
    };
  });
}
