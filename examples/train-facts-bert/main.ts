/**
 * Trains a BERT on facts from nothing, and watches how its neurons answer to shifts:
 *
 *   npm run build && node dist/examples/train-facts-bert/main.js [--recipe small|full] [--out runs/facts-bert]
 *     [--precision f32|mixed|auto] [--recompute]
 *
 * Ended at any moment it goes on from its last checkpoint when started again with the same --out, to the same bits; on
 * Ctrl-C or SIGTERM it makes one first, on a second Ctrl-C it does not.
 */

import { join } from 'node:path';
import { Command } from 'commander';
import { runProgram } from '../../cli/exit.ts';
import { integer } from '../../cli/options.ts';
import { note } from '../../cli/output.ts';
import { bundledModel } from '../../cli/package.ts';
import { startProgress } from '../../cli/progress.ts';
import { writeWhole } from '../../engine/disk.ts';
import {
  crossEntropyRows,
  type Device,
  openDevice,
  Reopening,
  sum,
  type Tensor,
  UserError,
  warmupCosine,
} from '../../engine/index.ts';
import {
  initialise,
  loadModelWeights,
  loadTokenizer,
  localFolder,
  type Transformer,
} from '../../models/index.ts';
import { seededRandom } from '../../neurgrad/index.ts';
import { TrainingFolder } from '../training/folder.ts';
import { figureSvg, writePage } from '../training/page.ts';
import { checkPrecision, type StepReport, Trainer } from '../training/trainer.ts';
import { accuracy } from './accuracy.ts';
import { bertConfig, RECIPES, type Recipe } from './config.ts';
import { Course } from './course.ts';
import { batchInput, type Masked } from './facts.ts';
import { type Evaluation, neuronFigure, trainingFigures } from './figures.ts';
import { type NeuronStudyRow, studyNeurons } from './neurons.ts';

const STUDY_NEURONS = 24;

const values = new Command('main.js')
  .description('Trains a BERT on facts from random weights and watches how its neurons answer to shifts.')
  .option('--recipe <name>', `one of ${Object.keys(RECIPES).join(', ')}`, 'small')
  .option(
    '--out <dir>',
    'checkpoints, page and measurements; a training begun there goes on',
    'runs/facts-bert',
  )
  .option('--data <dir>', 'facts, templates and tokenizer', bundledModel)
  .option('--seed <n>', 'of weights, order and facts', integer(0), 0)
  .option('--steps <n>', 'stop after this step of the schedule', integer(0))
  .option('--facts <n>', 'facts to learn, instead of what the recipe says', integer(1))
  .option('--precision <name>', 'f32, mixed or auto', 'f32')
  .option('--recompute', "keep each layer's input alone: less memory, more time", false)
  .option('--prompts <n>', 'prompts of the neuron study at each checkpoint', integer(1), 16)
  .addHelpText(
    'after',
    '\nExamples:\n  node dist/examples/train-facts-bert/main.js\n  node dist/examples/train-facts-bert/main.js --recipe full --precision auto --out runs/full',
  )
  .parse()
  .opts<{
    recipe: string;
    out: string;
    data: string;
    seed: number;
    steps?: number;
    facts?: number;
    precision: string;
    recompute: boolean;
    prompts: number;
  }>();
await runProgram(async () => {
  const named: Recipe | undefined = (RECIPES as Record<string, Recipe>)[values.recipe];
  if (!named)
    throw new UserError(
      'recipe',
      `--recipe ${values.recipe}: there are ${Object.keys(RECIPES).join(' and ')}`,
    );
  const recipe = named;
  const precision = checkPrecision(values.precision);
  const { seed, out } = values;
  using training = new TrainingFolder(out);
  const folder = await localFolder(values.data);
  const tokenizer = await loadTokenizer(folder);
  const course = new Course(values.data, tokenizer, values.facts ?? recipe.facts, seed);
  const { facts, trainPrompts, heldOutPrompts } = course;
  const stepsAPass = Math.ceil(facts.length / recipe.batch);
  const steps = stepsAPass * recipe.passes;
  const last = Math.min(steps, values.steps ?? steps);

  const settings = { seed, recipe: values.recipe, facts: facts.length };
  const config = bertConfig(recipe, tokenizer.vocabularySize);
  const schedule = warmupCosine({ peak: recipe.peak, warmup: recipe.warmup, steps, floor: 0.02 });

  /** Model and optimiser on a device, as the last checkpoint has them, and how long they were trained until then. */
  async function open(): Promise<{ device: Device; model: Transformer; trainer: Trainer; earlier: number }> {
    const latest = training.findLatest();
    const earlier = latest === null ? 0 : training.checkNotes(settings).seconds;
    const device = await openDevice();
    try {
      const model = latest
        ? await loadModelWeights(await localFolder(latest), device)
        : initialise(device, config, seededRandom(seed + 1));
      const trainer = new Trainer(model, { schedule, beta2: 0.98, precision });
      if (latest) await trainer.resume(latest);
      return { device, model, trainer, earlier };
    } catch (error) {
      device.destroy();
      throw error;
    }
  }

  let interrupted = false;
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => {
      interrupted = true;
    });
  let furthest = -1;
  const progress = startProgress('training', 'steps');

  /** From the last checkpoint to the end, or to an interruption. */
  async function train(
    { device, model, trainer, earlier }: Awaited<ReturnType<typeof open>>,
    advanced: () => void,
  ): Promise<void> {
    const began = performance.now();
    const seconds = (): number => earlier + (performance.now() - began) / 1000;

    function lossOf(batch: readonly Masked[]): Tensor {
      using run = trainer.model.run(batchInput(batch), {
        logits: batch.map(({ position }) => position),
        lastLayer: 'read',
        recompute: values.recompute,
      });
      return sum(
        crossEntropyRows(
          run.logits,
          batch.map(({ label }) => label),
        ),
      );
    }

    const reports = training.readLog<StepReport>('loss.jsonl');
    const evaluations = training.readLog<Evaluation>('accuracy.jsonl');
    const studies = training.readLog<NeuronStudyRow>('neurons.jsonl');

    const save = (spent: number): Promise<string> =>
      trainer.save(out, config, folder, { seconds: Math.round(spent), ...settings });

    /** Accuracy, neuron study, checkpoint and page. */
    async function checkpoint(): Promise<void> {
      const step = trainer.steps;
      const spent = seconds();
      const evaluation: Evaluation = {
        step,
        train: await accuracy(model, trainPrompts),
        heldOut: await accuracy(model, heldOutPrompts),
        seconds: Math.round(spent),
      };
      const study = await studyNeurons(model, trainPrompts.slice(0, values.prompts), STUDY_NEURONS, step);
      evaluations.push(evaluation);
      studies.push(study);
      training.log('accuracy.jsonl', evaluation);
      training.log('neurons.jsonl', study);
      await save(spent);
      page(step < last);
      console.log(
        `step ${step}: loss ${reports.at(-1)?.loss.toFixed(3) ?? '–'}, train ${(100 * evaluation.train).toFixed(1)} %, held out ${(100 * evaluation.heldOut).toFixed(1)} %, linear neurons ${study.linear.toFixed(3)}, corr(NeurGrad, G_E) ${study.pearson.toFixed(4)}, ${Math.round(spent)} s`,
      );
    }

    function page(running: boolean): void {
      const figures = trainingFigures(reports, evaluations, studies);
      writePage(join(out, 'training.html'), 'A BERT learning facts', figures, running);
      writeWhole(join(out, 'neurons.svg'), figureSvg(neuronFigure(studies)));
    }

    /** Evenly on a logarithmic scale, so that the beginning is seen, and every tenth of the whole. */
    const due = new Set([...Array.from({ length: 6 }, (_, i) => 4 ** (i + 1)), ...tenths(steps), last]);
    function tenths(all: number): number[] {
      return Array.from({ length: 10 }, (_, i) => Math.round(((i + 1) * all) / 10));
    }

    // Not again after a loss.
    if (furthest < 0)
      console.log(
        `${facts.length} facts, ${steps} steps of ${recipe.batch} sentences, ${[...model.parameters.values()].reduce((n, t) => n + t.size, 0)} parameters, in ${trainer.precision === 'mixed' ? 'mixed precision' : 'float32'}, on ${device.info.description}`,
      );
    if (training.latest === null) await checkpoint();
    let current = { index: -1, batches: [] as Masked[][] };
    while (trainer.steps < last && !interrupted) {
      const index = Math.floor(trainer.steps / stepsAPass);
      if (index !== current.index) current = { index, batches: course.pass(index, recipe.batch) };
      const batch = current.batches[trainer.steps % stepsAPass]!;
      const report = await trainer.step([() => lossOf(batch)], batch.length);
      if (report.step > furthest) {
        furthest = report.step;
        advanced();
      }
      reports.push(report);
      training.log('loss.jsonl', report);
      progress.update(report.step, last);
      if (report.step % 20 === 0) page(true);
      if (due.has(report.step)) await checkpoint();
    }
    if (trainer.steps < last) {
      await save(seconds());
      console.log(`stopped at step ${trainer.steps}; the same command goes on from there`);
    }
    page(false);
  }

  using held = new Reopening({
    open,
    close({ device, model, trainer }) {
      trainer.dispose();
      model.dispose();
      device.destroy();
    },
    onLost: (what) => note(`${what}, from the last checkpoint on`),
  });
  await held.run(train).finally(() => progress.stop());
});
