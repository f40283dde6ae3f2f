/** `neurgrad demo`: the whole story on the bundled model in under two minutes, with a report to look at. */

import { join, resolve } from 'node:path';
import { type Command, Option } from 'commander';

import { checkFile, checkFolder } from '../../engine/disk.ts';
import { showToken } from '../../models/tokenText.ts';
import { describeConventions, formatNeuron, maskToken } from '../../neurgrad/index.ts';
import { hashFiles, isWeightFile } from '../../neurgrad/study/folder.ts';

import { engineOf } from '../engineWords.ts';
import {
  drawnNeuronsOption,
  fileOption,
  integer,
  jsonOption,
  promptWays,
  renamedOption,
  seedOption,
  targetOptions,
  weightsOptions,
  withOptions,
} from '../options.ts';
import { openOutput, toJson } from '../output.ts';
import { bundledModel, dependencyVersion, version } from '../package.ts';
import { startProgress } from '../progress.ts';
import { asksMany, type PromptOptions, readOne } from '../prompt.ts';
import { type Report, renderReport } from '../report.ts';
import { writePage } from '../reportPage.ts';
import {
  describeAdapter,
  type ModelCard,
  readModelCard,
  type WeightsOptions,
  withModel,
} from '../session.ts';
import { runStudy, type Study } from '../study.ts';
import { figure, signed, table, withInterval } from '../table.ts';
import { chooseTarget, type TargetOptions } from '../target.ts';

interface Options
  extends Pick<PromptOptions, 'prompt' | 'promptFile' | 'chat' | 'system'>,
    TargetOptions,
    WeightsOptions {
  readonly model: string;
  readonly out: string;
  readonly neurons: number;
  readonly seed: number;
  readonly json?: boolean;
}

export function addDemo(program: Command): void {
  withOptions(
    program
      .command('demo')
      .description(
        "one prompt's neurons by one backward, checked against measured sweeps; writes report.html",
      ),
    new Option('--model <dir>', 'folder of a checkpoint, a .gguf file, or a Hugging Face id').default(
      bundledModel,
      'the bundled facts-bert',
    ),
    fileOption(),
    new Option('--prompt <text>', 'the sentence').default(undefined, 'The capital of France is …'),
    ...promptWays(),
    ...targetOptions(),
    drawnNeuronsOption('neurons to sweep', 2, 10_000).default(40, 'random:40'),
    renamedOption('--random <n>', 'neurons', integer(2, 10_000)),
    seedOption('of the draw').default(1),
    new Option('--out <dir>', 'folder for report.html and report.json').default('.'),
    jsonOption(),
    ...weightsOptions(),
  )
    .addHelpText(
      'after',
      `
Examples:
  neurgrad demo
  neurgrad demo --prompt "The official language of Brazil is [MASK]." --out runs/brazil
  neurgrad demo --model examples/models/stories260k --prompt "Once upon a time" --neurons random:20 --json`,
    )
    .action(runDemo);
}

async function runDemo(options: Options): Promise<void> {
  const output = openOutput(options.json ?? false);
  const page = join(options.out, 'report.html');
  const data = join(options.out, 'report.json');
  checkFolder(options.out);
  for (const file of [page, data]) checkFile(file);
  const began = performance.now();
  const card = await readModelCard(options.model);
  const own = options.prompt !== undefined || options.promptFile !== undefined;
  const asked: PromptOptions = own ? options : { ...options, prompt: sentenceOf(card) };
  asksMany(asked);
  const prompt = await readOne(card, asked, output);
  const target = chooseTarget(card, prompt, options);
  await withModel(
    card,
    async (session) => {
      const { device, model, folder } = session;
      output.note(`adapter  ${describeAdapter(device)}`);
      output.note(
        `model    ${folder}: ${model.family}, ${model.sizes.layers} layers of ${model.sizes.width} neurons`,
      );
      const progress = startProgress('sweep', 'rows');
      let study: Study;
      try {
        study = await runStudy(session, prompt, {
          target,
          extremes: 6,
          random: Math.min(options.neurons, model.sizes.layers * model.sizes.width),
          seed: options.seed,
          onProgress: progress.update,
        });
      } finally {
        progress.stop();
      }
      const report: Report = {
        neurgrad: version,
        created: new Date().toISOString(),
        seconds: (performance.now() - began) / 1000,
        machine: {
          adapter: describeAdapter(device),
          software: device.info.software,
          node: process.version,
          webgpu: dependencyVersion('webgpu'),
          platform: `${process.platform} ${process.arch}`,
        },
        model: {
          folder: options.model === bundledModel ? 'examples/models/facts-bert' : options.model,
          architecture: model.family,
          layers: model.sizes.layers,
          width: model.sizes.width,
          sha256: hashFiles(folder, isWeightFile),
        },
        study,
      };
      await writePage(page, renderReport(report), [[data, `${toJson(report, 1)}\n`]]);
      output.result(report, () => summarise(report, model.paperSite));
      output.note(`wrote    ${resolve(page)} report.json and figures/ (${report.seconds.toFixed(1)} s)`);
    },
    options,
  );
}

/** A sentence with the model's own mask, or the beginning of one. */
function sentenceOf({ causal, tokenizer }: ModelCard): string {
  const mask = maskToken({ causal }, tokenizer);
  return `The capital of France is${mask === null ? '' : ` ${mask}.`}`;
}

function summarise({ study }: Report, defaultSite: Study['conventions']['site']): string {
  const { gradients, comparison } = study;
  const compared = (name: string, c: Study['comparison']['all']): (string | number)[] => [
    name,
    c.neurons,
    withInterval(c.pearson),
    figure(c.spearman),
    figure(c.signAgreement),
    figure(c.meanAbsoluteError),
    withInterval(c.pearsonGradient),
  ];
  return [
    `\n${study.prompt.text}`,
    table(
      ['answer', 'p'],
      study.predictions.slice(0, 5).map((one) => [showToken(one), figure(one.p)]),
    ),
    `\nNeurGrad of all ${gradients.neurons} neurons for "${showToken(study.target)}" by one backward (${gradients.seconds.toFixed(2)} s); the strongest, swept:`,
    table(
      ['neuron', 'activation', 'G_C', 'NeurGrad', 'measured G_E', 'r'],
      study.sweep.neurons
        .filter((neuron) => neuron.chosen !== 'random')
        .sort((a, b) => b.neurgrad - a.neurgrad)
        .map((neuron) => [
          formatNeuron(neuron, defaultSite),
          figure(neuron.activation),
          signed(neuron.gradient),
          signed(neuron.neurgrad),
          signed(neuron.slope),
          signed(neuron.r),
        ]),
    ),
    `\nEstimate (NeurGrad) against measurement (G_E, ${study.sweep.rows} forward rows, ${study.sweep.seconds.toFixed(1)} s):`,
    table(
      ['neurons', 'n', 'Pearson [95%]', 'Spearman', 'same sign', 'mean abs. error', 'Pearson of G_C [95%]'],
      [compared('random draw', comparison.random), compared('all swept', comparison.all)],
    ),
    `\nlinear (|r| >= 0.95 within ±2): ${withInterval(study.linearShare, (part) => `${(100 * part).toFixed(1)}%`)} of the random draw`,
    `${describeConventions(study.conventions)}, engine ${engineOf(study.sweep)}, seed ${study.seed}`,
  ].join('\n');
}
