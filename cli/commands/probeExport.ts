/** `neurgrad probe export`: gradients of some neurons for every candidate of every prompt, for other tools. */

import { type Command, Option } from 'commander';
import { neuronAt } from '../../neurgrad/index.ts';
import { type Features, readFeatures, SPLITS, writeFeatures } from '../../probing/index.ts';
import { jsonOption, weightsOptions, withOptions } from '../options.ts';
import { openOutput } from '../output.ts';
import { estimatorOf, estimatorOption, neuronsOfRun, planAgain, type RunAgain } from '../probeFeatures.ts';
import { startProgress } from '../progress.ts';
import { destinationOf, openRows } from '../results.ts';
import type { RowBlock, RowSchema } from '../rows.ts';
import { opened, reopened, type WeightsOptions, withModel } from '../session.ts';

interface ExportOptions extends RunAgain, WeightsOptions {
  readonly neurons: string;
  readonly estimator?: string;
  readonly out: string;
  readonly json?: boolean;
}

/** Options that say which run, as every command on a finished one has them. */
export const runOptions = () => [
  new Option('--run <dir>', 'folder of a finished run').makeOptionMandatory(),
  new Option('--task <name>', 'one of its tasks; default the only one'),
  new Option('--model <dir>', "where the run's model is by now"),
  new Option('--data <path>', "where the run's data set, or file of your own questions, is by now"),
];

export function addExport(probe: Command): void {
  withOptions(
    probe
      .command('export')
      .description('gradients of some neurons for every prompt and candidate, for other tools'),
    ...runOptions(),
    new Option(
      '--neurons <list>',
      'magn:256 or polar:256, the best of a prober; or L3.N327, L3.*, random:100, all, @file',
    ).default('magn:256'),
    estimatorOption(),
    new Option(
      '--out <file>',
      'write .safetensors, or rows to .parquet, .csv, .jsonl or .json',
    ).makeOptionMandatory(),
    ...weightsOptions("the run's"),
    jsonOption(),
  )
    .addHelpText(
      'after',
      `
Examples:
  neurgrad probe export --run runs/bert --task FEVER --neurons magn:512 --out fever.safetensors
  neurgrad probe export --run runs/bert --task FEVER --neurons L3.*,random:100 --out fever.parquet

safetensors: train.gradients [prompts, candidates, neurons], train.gold [prompts] and so on; rows: one a prompt and candidate, a column a neuron.`,
    )
    .action(runExport);
}

/** One row a prompt and candidate; the neurons' columns are named as they are. */
function schemaOf(names: readonly string[]): RowSchema {
  return {
    format: 'neurgrad probe features 1',
    columns: {
      ...({ task: 'text', split: 'text', prompt: 'text', candidate: 'whole', label: 'text' } as const),
      ...({ right: 'flag', probability: 'number' } as const),
      ...Object.fromEntries(names.map((name) => [name, 'number'] as const)),
    },
  };
}

const namesOf = ({ neurons, width, conventions }: Features): string[] =>
  neurons.map((flat) => {
    const { layer, index } = neuronAt(flat, width, conventions.site);
    return `L${layer}.N${index}`;
  });

function blocksOf(features: Features): RowBlock[] {
  const { task, labels, neurons } = features;
  const names = namesOf(features);
  return SPLITS.map((split) => {
    const { candidates, gradients, gold, ids, probabilities } = features.splits[split];
    const rows = Array.from({ length: probabilities.length }, (_, row) => row);
    const candidateOf = (row: number): number => row % candidates;
    const promptOf = (row: number): number => Math.floor(row / candidates);
    return {
      count: rows.length,
      same: { task, split },
      each: {
        prompt: rows.map((row) => ids[promptOf(row)]!),
        candidate: rows.map(candidateOf),
        label: rows.map((row) => labels[candidateOf(row)]!),
        right: rows.map((row) => gold[promptOf(row)] === candidateOf(row)),
        probability: probabilities,
        ...Object.fromEntries(
          names.map((name, n) => [name, rows.map((row) => gradients[row * neurons.length + n]!)]),
        ),
      },
    };
  });
}

async function runExport(options: ExportOptions): Promise<void> {
  const output = openOutput(options.json ?? false);
  const destination = destinationOf({ out: options.out }, { others: ['.safetensors'], many: false });
  const again = await planAgain(options, output.note);
  const neurons = await neuronsOfRun(options.neurons, options.run, again);
  const { manifest, plan, card } = again;
  const { settings, model } = manifest;
  const features = await withModel(
    card,
    async (_, held) => {
      const progress = startProgress('gradients', 'prompts');
      try {
        return await readFeatures((await opened(held)).model, plan, settings, neurons, {
          estimator: estimatorOf(options.estimator),
          reopen: () => reopened(held),
          onProgress: progress.update,
          onNote: output.note,
        });
      } finally {
        progress.stop();
      }
    },
    { ...options, dtype: options.dtype ?? model.dtype },
  );
  if (destination.ending === '.safetensors')
    await writeFeatures(destination.path!, features, { model: model.name });
  else {
    using sink = openRows(destination, schemaOf(namesOf(features)), () => ({}));
    sink?.put(0, blocksOf(features));
    sink?.end();
  }
  const { task, labels } = features;
  const prompts = Object.fromEntries(SPLITS.map((split) => [split, features.splits[split].gold.length]));
  output.result({ task, labels, neurons: namesOf(features), prompts, out: options.out }, () =>
    [
      `${task}: ${SPLITS.map((split) => `${prompts[split]} ${split}`).join(', ')} prompts, ${labels.length} candidates, ${neurons.length} neurons`,
      `wrote ${options.out}`,
    ].join('\n'),
  );
}
