/** `neurgrad probe properties`: are a run's skill neurons efficient, robust, flexible, and do they hang together? */

import { type Command, Option } from 'commander';
import { neuronAt, seededRandom } from '../../neurgrad/index.ts';
import {
  efficiency,
  type Features,
  flexibility,
  interdependency,
  type OtherContext,
  PROPERTIES,
  type PropertyRow,
  parseProbers,
  readAblated,
  readFeatures,
  robustness,
  shuffle,
  type TaskPlan,
} from '../../probing/index.ts';
import { integer, jsonOption, weightsOptions, withOptions } from '../options.ts';
import { openOutput } from '../output.ts';
import {
  checkHeld,
  estimatorOf,
  estimatorOption,
  neuronsOfRun,
  planAgain,
  type RunAgain,
} from '../probeFeatures.ts';
import { runDigest } from '../probeFiles.ts';
import { propertiesRemark, propertyTable, writeProperties } from '../probeProperties.ts';
import { finishRun, lockReport } from '../probeRun.ts';
import type { TaskProperties } from '../probeTable.ts';
import { startProgress } from '../progress.ts';
import { opened, reopened, type WeightsOptions, withModel } from '../session.ts';
import { table } from '../table.ts';
import { runOptions } from './probeExport.ts';

interface PropertiesOptions extends RunAgain, WeightsOptions {
  readonly probers: string;
  readonly neurons: string;
  readonly estimator?: string;
  readonly size?: number;
  readonly demonstrations: number;
  readonly instruction: readonly string[];
  readonly permutations: number;
  readonly draws: number;
  readonly json?: boolean;
}

export function addProperties(probe: Command): void {
  withOptions(
    probe
      .command('properties')
      .description('are skill neurons efficient, robust, flexible, interdependent? each beside chance'),
    ...runOptions(),
    new Option('--probers <list>', 'polar, magn, act, logistic, forest, or all').default('polar,magn'),
    new Option(
      '--neurons <list>',
      'to choose from: all, random:4096, L3.*; magn:512 has seen the labels',
    ).default('all'),
    estimatorOption(),
    new Option('--size <n>', 'neurons of a set; default what valid chooses, two at least').argParser(
      integer(2),
    ),
    new Option('--demonstrations <n>', 'other draws of demonstrations to carry over to')
      .argParser(integer(0, 100))
      .default(2),
    new Option('--instruction <text>', 'another instruction, besides none; may be given several times')
      .argParser((text: string, before: readonly string[]) => [...before, text])
      .default([], 'none'),
    new Option('--permutations <n>', 'of the labels, for the null').argParser(integer(0, 10_000)).default(39),
    new Option('--draws <n>', 'of random sets of neurons').argParser(integer(0, 10_000)).default(39),
    ...weightsOptions("the run's"),
    jsonOption(),
  )
    .addHelpText(
      'after',
      `
Example:
  neurgrad probe properties --run runs/bert --task FEVER

The run's folder gets properties/TASK.json and TASK.parquet, and report.html a section.`,
    )
    .action(runProperties);
}

async function runProperties(options: PropertiesOptions): Promise<void> {
  const output = openOutput(options.json ?? false);
  const probers = parseProbers(options.probers);
  using _ = lockReport(options.run);
  const again = await planAgain(options, output.note);
  const { manifest, plan, card } = again;
  const { settings, model } = manifest;
  const neurons = await neuronsOfRun(options.neurons, options.run, again);
  checkHeld(plan, neurons.length);
  const others: { name: string; plan: TaskPlan }[] = [];
  const drawn = settings.shots > 0 && !plan.task.demonstrations ? options.demonstrations : 0;
  for (let d = 1; d <= drawn; d++) {
    const demonstrationSeed = (settings.demonstrationSeed ?? settings.seed) + d;
    others.push({
      name: `demonstrations ${d}`,
      plan: await again.replan({ ...settings, demonstrationSeed }),
    });
  }
  // A task without an instruction is the same without one.
  const none = Object.values(plan.task.wording).some(({ instruction }) => instruction !== '') ? [''] : [];
  for (const instruction of [...none, ...options.instruction]) {
    const name = instruction === '' ? 'no instruction' : `instruction ${others.length - drawn}`;
    others.push({ name, plan: await again.replan(settings, instruction) });
  }
  const rows = await withModel(
    card,
    async (_, held) => {
      const read = async (of: TaskPlan, what: string): Promise<Features> => {
        const progress = startProgress(what, 'prompts');
        try {
          return await readFeatures((await opened(held)).model, of, settings, neurons, {
            estimator: estimatorOf(options.estimator),
            reopen: () => reopened(held),
            onProgress: progress.update,
            onNote: output.note,
          });
        } finally {
          progress.stop();
        }
      };
      const { splits } = await read(plan, 'gradients');
      const contexts: OtherContext[] = [];
      for (const { name, plan: other } of others)
        contexts.push({ name, data: (await read(other, name)).splits });
      const { variant, seed } = settings;
      const { permutations, draws } = options;
      const found: PropertyRow[] = [];
      for (const method of probers) {
        const { rows: curve, evaluation } = efficiency(method, splits, { variant, seed, permutations });
        // Two halves, and two disjoint sets at least.
        const size = Math.min(options.size ?? Math.max(2, evaluation.size), Math.floor(neurons.length / 2));
        const sets = { size, variant, seed };
        found.push(
          ...curve,
          ...robustness(method, splits, contexts, { ...sets, permutations }),
          ...flexibility(method, splits, { ...sets, draws }),
        );
        const ranked = evaluation.ranking.slice(0, size).map((place) => neurons[place]!);
        const random = randomLike(ranked, neurons, card.sizes.width, draws, seed);
        const halves = [ranked, ...random].flatMap((set) => {
          const [a, b] = [0, 1].map((rest) => set.filter((_, rank) => rank % 2 === rest));
          return [a!, b!, set];
        });
        const progress = startProgress(`${method.name} held at zero`, 'prompts');
        const ablated: number[][][] = [];
        for (const [p, prompt] of plan.prompts.test.entries()) {
          ablated.push(
            await held.run((session) =>
              readAblated(session.model, prompt, plan.candidates, [[], ...halves], settings.site),
            ),
          );
          progress.update(p + 1, plan.prompts.test.length);
        }
        progress.stop();
        const of = (set: number) => ablated.map((sets) => sets[set]!);
        const triple = (k: number) => [of(1 + 3 * k), of(2 + 3 * k), of(3 + 3 * k)] as const;
        found.push(
          ...interdependency(
            method.name,
            size,
            plan.prompts.test.map(({ gold }) => gold),
            { whole: of(0), halves: triple(0), random: random.map((_, k) => triple(k + 1)) },
            seed,
          ),
        );
      }
      return found;
    },
    { ...options, dtype: options.dtype ?? model.dtype },
  );
  const found: TaskProperties = {
    format: 'neurgrad probe properties 1',
    run: runDigest(manifest),
    task: plan.task.name,
    neurons: neurons.length,
    chosen: options.neurons,
    ...(options.estimator === undefined ? {} : { estimator: options.estimator }),
    prompts: {
      train: plan.prompts.train.length,
      valid: plan.prompts.valid.length,
      test: plan.prompts.test.length,
    },
    permutations: options.permutations,
    draws: options.draws,
    rand: 1 / plan.candidates.length,
    rows,
  };
  const path = writeProperties(options.run, model.name, found);
  await finishRun(options.run, false);
  output.result(found, () =>
    [
      ...PROPERTIES.flatMap((property) => {
        const { head, rows: lines } = propertyTable(found, property);
        return lines.length === 0 ? [] : [`${property}:`, table(head, lines)];
      }),
      propertiesRemark(found),
    ].join('\n'),
  );
  output.note(`wrote ${path}, its JSON beside it, and report.html anew`);
}

/** Random sets of the neurons looked at, with as many of each layer as `set` has. */
function randomLike(
  set: readonly number[],
  neurons: readonly number[],
  width: number,
  draws: number,
  seed: number,
): number[][] {
  const random = seededRandom(seed);
  const layerOf = (flat: number): number => neuronAt(flat, width, 'post').layer;
  const byLayer = new Map<number, number[]>();
  for (const flat of neurons) byLayer.set(layerOf(flat), [...(byLayer.get(layerOf(flat)) ?? []), flat]);
  return Array.from({ length: draws }, () => {
    const pools = new Map([...byLayer].map(([layer, list]) => [layer, shuffle([...list], random)]));
    // In the order of the ranks, so that halves have as many of each layer, too.
    return set.map((flat) => pools.get(layerOf(flat))!.pop()!);
  });
}
