/**
 * Collecting a run: prompts of all tasks in units, each unit read once and kept as parts; then a task's parts become its
 * row of Table 3. Units already there are skipped, `shard` takes every n-th of them.
 */

import {
  callback,
  checkMembers,
  checkOptions,
  checkValue,
  instance,
  like,
  list,
  one,
  optionsSchema,
  required,
  text,
  whole,
} from '../engine/options.ts';
import { Reopening } from '../engine/reopening.ts';
import type { Tokenizer } from '../models/tokenizer.ts';
import {
  formatNeuron,
  type LanguageModel,
  modelField,
  neuronAt,
  type Site,
  UserError,
} from '../neurgrad/index.ts';
import { checkGiven, checkNumber, NATURAL, TOKENIZER } from '../neurgrad/lists.ts';
import { type Shard, shardField, WHOLE } from '../neurgrad/study/shard.ts';
import {
  type GradientReader,
  openReader,
  type Reading,
  type ReadingConventions,
  readingFields,
} from './collect.ts';
import { type Variant, variantField } from './counts.ts';
import { type ProblemCount, SPLITS, type Split } from './data.ts';
import {
  type Evaluated,
  type Evaluation,
  evaluateTask,
  type KindName,
  layerHistogram,
  type ProberResult,
  permutedGolds,
} from './evaluation.ts';
import { markGradients } from './marks.ts';
import {
  hasUnit,
  openPartFolder,
  type PartShape,
  readAllTraining,
  readTraining,
  readUnits,
  writeTraining,
  writeUnit,
} from './parts.ts';
import type { Prober } from './prober.ts';
import {
  type Contexts,
  type LabelTokens,
  promptFields,
  sharedPrefix,
  type TaskPlan,
  type TaskPrompt,
} from './prompts.ts';
import { type CleanSplits, textSeed } from './splits.ts';
import type { Language } from './task.ts';
import { Trainer } from './trainer.ts';

/** Everything that decides a run's numbers, besides model and data. */
export interface ProbeSettings extends ReadingConventions {
  readonly variant: Variant;
  readonly labelTokens: LabelTokens;
  readonly splits: 'released' | 'clean';
  readonly shots: 0 | 1;
  /** Most training prompts a task. */
  readonly rows: number;
  /** Most valid and test prompts a task. */
  readonly evaluationRows: number;
  readonly permutations: number;
  readonly seed: number;
  /** Draws other demonstrations for the same prompts; default `seed`. */
  readonly demonstrationSeed?: number | undefined;
}

/** {@link ProbeSettings} */
export const probeSettings = optionsSchema<ProbeSettings>({
  ...readingFields,
  ...promptFields,
  variant: required(variantField),
  splits: required(one(['released', 'clean'])),
  permutations: required(whole()),
});

const collectOptions = optionsSchema<CollectOptions>({
  shard: shardField,
  run: text,
  finished: instance<ReadonlySet<string>>(Set, 'a set of names of tasks'),
  reopen: callback(),
  onProgress: callback(),
  onNote: callback(),
});

/** Prompts of a unit: the most work that a killed run loses, where its counters are soon written. */
const UNIT = 32;
/** Prompts read together. */
const BATCH = 8;

/** What a run needs to remember of a task to evaluate it without model or data: part of its manifest. */
export interface TaskRecord {
  readonly task: string;
  readonly labels: readonly string[];
  readonly candidates: readonly number[];
  /** As the vocabulary spells them, and what they stand for. */
  readonly candidateTokens: readonly string[];
  readonly candidateTexts?: readonly string[];
  readonly contexts: Contexts;
  readonly demonstrations: readonly number[];
  readonly left: Readonly<Record<Split, readonly ProblemCount[]>>;
  /** With clean splits: rows of the data that are in none of them. */
  readonly clean: CleanSplits['left'] | null;
  /** Share of the test rows that stand in train as well, as the same question. */
  readonly leak: number;
  /** Labels of the prompts, in order. */
  readonly gold: Readonly<Record<Split, readonly number[]>>;
}

/** What of a plan its evaluation needs. */
export function recordTask(
  plan: TaskPlan,
  tokenizer: Pick<Tokenizer, 'tokenOf' | 'textOf'>,
  clean: TaskRecord['clean'] = null,
  leak = 0,
): TaskRecord {
  checkGiven('recordTask', 'plan', plan, 'task', 'a plan, which planTask gives');
  checkGiven('recordTask', 'tokenizer', tokenizer, 'tokenOf', TOKENIZER);
  const gold = (split: Split): number[] => plan.prompts[split].map((prompt) => prompt.gold);
  return {
    task: plan.task.name,
    labels: plan.task.labels,
    candidates: plan.candidates,
    candidateTokens: plan.candidates.map(tokenizer.tokenOf),
    candidateTexts: plan.candidates.map(tokenizer.textOf),
    contexts: plan.contexts,
    demonstrations: plan.demonstrations,
    left: plan.left,
    clean,
    leak,
    gold: { train: gold('train'), valid: gold('valid'), test: gold('test') },
  };
}

/** Units of a split: [first, end) of its prompts. */
export function unitsOf(prompts: number): [number, number][] {
  return Array.from({ length: Math.ceil(prompts / UNIT) }, (_, unit) => [
    unit * UNIT,
    Math.min(prompts, (unit + 1) * UNIT),
  ]);
}

/** Where a task's parts are. */
export const partsFolder = (folder: string, task: string): string => `${folder}/parts/${task}`;

async function shapeOf(
  record: TaskRecord,
  neurons: number,
  settings: ProbeSettings,
  run: string,
): Promise<PartShape> {
  const { task, candidates, contexts, demonstrations, gold } = record;
  const decisive = { run, neurons, settings, task, candidates, contexts, demonstrations, gold };
  const { digestOf } = await import('../models/seal.ts');
  return {
    candidates: candidates.length,
    neurons,
    permutations: settings.permutations,
    run: digestOf(decisive),
  };
}

/** Token prefixes by language, each the same array whenever asked. */
export function prefixesOf(plan: TaskPlan): ReadonlyMap<Language, number[]> {
  checkGiven('prefixesOf', 'plan', plan, 'prompts', 'a plan, which planTask gives');
  const all = SPLITS.flatMap((split) => plan.prompts[split]);
  const languages = [...new Set(all.map(({ language }) => language))];
  return new Map(
    languages.map((language) => [
      language,
      sharedPrefix(all.filter((prompt) => prompt.language === language).map(({ ids }) => ids)),
    ]),
  );
}

const planList = list<TaskPlan>(
  like(
    (value) => typeof (value as Partial<TaskPlan> | null)?.prompts === 'object',
    'a plan, which planTask gives',
  ),
  'a list of plans, which planTask gives',
);

/** Which part of a run, and who is told. */
export interface CollectOptions {
  readonly shard?: Shard;
  /**
   * What else decides the numbers, such as the hash of the weights: parts that were read under another text, or of other settings
   * or questions, are read again. {@link evaluateParts} takes the same.
   */
  readonly run?: string;
  /** Tasks whose results are there already. */
  readonly finished?: ReadonlySet<string>;
  /**
   * The same model on another device, for where the first one's is lost: the prompts that were being read are read again. Whoever opens
   * it closes it. Default: a loss ends the reading.
   */
  readonly reopen?: () => Promise<LanguageModel>;
  /** Prompts of this shard done, and all of them, parts found included. */
  readonly onProgress?: (done: number, all: number) => void;
  /** Remarks, such as on a part that is damaged and read again, or a device that was lost. */
  readonly onNote?: (text: string) => void;
}

/**
 * Reads all prompts of the shard that are not yet kept in `folder`.
 * @throws UserError where a gradient is not a number; DeviceLostError where the device is lost, with `reopen` several times in a row.
 */
export async function collect(
  model: LanguageModel,
  plans: readonly TaskPlan[],
  settings: ProbeSettings,
  folder: string,
  options: CollectOptions = {},
): Promise<void> {
  checkMembers('collect: settings', probeSettings, settings);
  checkOptions('collect', collectOptions, options);
  checkValue('collect', 'model', modelField, model);
  checkValue('collect', 'plans', planList, plans);
  checkValue('collect', 'folder', text, folder);
  const { shard = WHOLE, run = '', finished, reopen, onProgress, onNote } = options;
  const openReaders = readersOf(model, settings, { reopen, onNote });
  const neurons = model.sizes.layers * model.sizes.width;
  let number = 0;
  const mine = plans.map((plan) =>
    SPLITS.flatMap((split) =>
      unitsOf(plan.prompts[split].length).flatMap(([begin, end], unit) =>
        // Counted before anything is left out: shares must not depend on what is done.
        number++ % shard.count === shard.index && !finished?.has(plan.task.name)
          ? [{ split, unit, begin, end }]
          : [],
      ),
    ),
  );
  const all = mine.flat().reduce((sum, { begin, end }) => sum + end - begin, 0);
  let done = 0;
  for (const [t, plan] of plans.entries()) {
    if (mine[t]!.length === 0) continue;
    const parts = partsFolder(folder, plan.task.name);
    const record = recordTask(plan, { tokenOf: String, textOf: String });
    const shape = await shapeOf(record, neurons, settings, run);
    await openPartFolder(parts, shape.run, (what) => onNote?.(`${what}; reading its prompts again`));
    const nulls = permutedGolds(record.gold.train, settings.permutations, taskSeed(record, settings));
    const prefixes = prefixesOf(plan);
    const { training, units } = await readTraining(parts, shard.index, shape);
    // Another number of shards may have read some of these before.
    const elsewhere = (await readAllTraining(parts, shape)).units;
    const trainer = new Trainer(training, shape.candidates, settings.variant);
    const counters = new Unhurried(async () => {
      trainer.flush();
      await writeTraining(parts, shard.index, training, units, shape.run);
    });
    using readers = openReaders();
    for (const { split, unit, begin, end } of mine[t]!) {
      if (split !== 'train') await counters.now();
      const there = split === 'train' ? elsewhere.includes(unit) : await hasUnit(parts, split, unit);
      if (!there) {
        const prompts = plan.prompts[split].slice(begin, end);
        const kept: Evaluated[] = [];
        for await (const [i, { reading, prompt }] of readPrompts(readers, prompts, plan, prefixes)) {
          const marks = mark(reading, plan, prompt, split);
          if (split === 'train') {
            const golds = [prompt.gold, ...nulls.map((gold) => gold[begin + i]!)];
            trainer.add(reading.gradients, reading.activation, golds);
          } else {
            kept.push({ ...reading, gold: prompt.gold, marks });
          }
          onProgress?.(done + i + 1, all);
        }
        if (split === 'train') {
          units.push(unit);
          await counters.due();
        } else await writeUnit(parts, split, unit, kept, shape.run);
      }
      done += end - begin;
      onProgress?.(done, all);
    }
    await counters.now();
  }
}

/** Opens readers, on the model's next device where one is lost. */
export function readersOf(
  model: LanguageModel,
  settings: ReadingConventions,
  {
    reopen,
    onNote,
  }: {
    readonly reopen?: CollectOptions['reopen'] | undefined;
    readonly onNote?: CollectOptions['onNote'] | undefined;
  },
): () => Reopening<GradientReader> {
  let [usable, lost] = [model, false];
  return () =>
    new Reopening({
      async open() {
        if (lost) usable = await reopen!();
        lost = false;
        return openReader(usable, settings);
      },
      close: (reader) => reader.dispose(),
      onLost(what, cause) {
        if (!reopen) throw cause;
        lost = true;
        onNote?.(what);
      },
    });
}

/** Shortest time from one writing of the counters to the next, in times that the writing takes. */
const REST = 10;

/**
 * Writes as often as it is worth it: the counters of hundreds of permutations of a large model take a gigabyte, and a tenth of
 * the run at most goes into writing them. What is not written is done again after a kill.
 */
class Unhurried {
  readonly #write: () => Promise<void>;
  #waiting = false;
  #ended = 0;
  #took = 0;

  constructor(write: () => Promise<void>) {
    this.#write = write;
  }

  /** There is something new: writes it, or leaves it for later. */
  async due(): Promise<void> {
    this.#waiting = true;
    if (performance.now() - this.#ended >= REST * this.#took) await this.now();
  }

  /** Writes what waits. */
  async now(): Promise<void> {
    if (!this.#waiting) return;
    const began = performance.now();
    await this.#write();
    this.#waiting = false;
    this.#ended = performance.now();
    this.#took = this.#ended - began;
  }
}

/**
 * Seconds that a batch of prompts of a task takes, and how many it was: what a run's time is estimated from. The first
 * reading, which also compiles kernels and computes the shared prefix, is not counted.
 */
export async function timeBatch(
  model: LanguageModel,
  plan: TaskPlan,
  settings: ProbeSettings,
): Promise<{ prompts: TaskPrompt[]; seconds: number }> {
  checkMembers('timeBatch: settings', probeSettings, settings);
  checkValue('timeBatch', 'model', modelField, model);
  checkGiven('timeBatch', 'plan', plan, 'prompts', 'a plan, which planTask gives');
  const { language } = plan.prompts.train[0]!;
  const prefix = prefixesOf(plan).get(language)!;
  const prompts = plan.prompts.train.filter((prompt) => prompt.language === language).slice(0, BATCH);
  using reader = openReader(model, settings);
  await reader.read(prompts, plan.candidates, prefix);
  const began = performance.now();
  await reader.read(prompts, plan.candidates, prefix);
  return { prompts, seconds: (performance.now() - began) / 1000 };
}

const taskSeed = ({ task }: TaskRecord, { seed }: ProbeSettings): number => textSeed(task, seed);

/** Prompts in batches of one language, in order. */
export async function* readPrompts(
  readers: Reopening<GradientReader>,
  prompts: readonly TaskPrompt[],
  plan: TaskPlan,
  prefixes: ReadonlyMap<Language, readonly number[]>,
): AsyncGenerator<[number, { reading: Reading; prompt: TaskPrompt }]> {
  for (let begin = 0; begin < prompts.length; ) {
    const { language } = prompts[begin]!;
    let end = begin + 1;
    while (end < prompts.length && end < begin + BATCH && prompts[end]!.language === language) end++;
    const batch = prompts.slice(begin, end);
    const readings = await readers.run((reader) =>
      reader.read(batch, plan.candidates, prefixes.get(language)!),
    );
    for (const [i, reading] of readings.entries()) yield [begin + i, { reading, prompt: batch[i]! }];
    begin = end;
  }
}

function mark({ gradients }: Reading, plan: TaskPlan, prompt: TaskPrompt, split: Split): Uint8Array {
  try {
    return markGradients(gradients, plan.candidates.length);
  } catch (cause) {
    if (!(cause instanceof UserError)) throw cause;
    throw new UserError('gradient', `${plan.task.name} ${split} row ${prompt.index}: ${cause.message}`, {
      cause,
    });
  }
}

/** A prober's row, its neurons among it. */
export interface ProberReport extends ProberResult {
  /** Chosen neurons of each layer. */
  readonly layers: readonly number[];
  /** The first chosen ones, best first. */
  readonly neurons: readonly { readonly neuron: string; readonly polarity: number; readonly score: number }[];
}

/** One task's part of the summary. */
export interface TaskReport extends Omit<Evaluation, 'polar' | 'magn' | 'probers'> {
  readonly task: string;
  readonly labels: readonly string[];
  readonly candidateTokens: readonly string[];
  readonly candidateTexts: readonly string[];
  readonly prompts: Readonly<Record<Split, number>>;
  readonly left: TaskRecord['left'];
  readonly leak: TaskRecord['leak'];
  readonly polar: ProberReport;
  readonly magn: ProberReport;
}

/** Neurons listed by name. */
const LISTED = 100;

/** Prompts whose parts are missing. @param run as {@link collect} had it. @throws DamagedFile for a part that is of another run. */
export async function missingUnits(
  record: TaskRecord,
  neurons: number,
  settings: ProbeSettings,
  folder: string,
  run = '',
): Promise<number> {
  checkMembers('missingUnits: settings', probeSettings, settings);
  checkGiven('missingUnits', 'record', record, 'gold', 'what recordTask gives');
  checkNumber('missingUnits', 'neurons', neurons, NATURAL);
  checkValue('missingUnits', 'folder', text, folder);
  const parts = partsFolder(folder, record.task);
  const { units } = await readAllTraining(parts, await shapeOf(record, neurons, settings, run));
  let missing = 0;
  for (const split of SPLITS) {
    for (const unit of unitsOf(record.gold[split].length).keys()) {
      if (!(split === 'train' ? units.includes(unit) : await hasUnit(parts, split, unit))) missing++;
    }
  }
  return missing;
}

/**
 * A task's row of the table from its parts, and its probers. @param run as {@link collect} had it.
 * @throws DamagedFile for a part that is not as it was written, or of another run.
 */
export async function evaluateParts(
  record: TaskRecord,
  model: { readonly layers: number; readonly width: number },
  settings: ProbeSettings,
  folder: string,
  run = '',
): Promise<{ report: TaskReport; probers: Readonly<Record<KindName, Prober>> }> {
  checkMembers('evaluateParts: settings', probeSettings, settings);
  checkGiven('evaluateParts', 'record', record, 'gold', 'what recordTask gives');
  checkGiven('evaluateParts', 'model', model, 'width', "a model's sizes: { layers, width }");
  checkValue('evaluateParts', 'folder', text, folder);
  const neurons = model.layers * model.width;
  const parts = partsFolder(folder, record.task);
  const shape = await shapeOf(record, neurons, settings, run);
  const { training } = await readAllTraining(parts, shape);
  const prompts = (split: Split) =>
    readUnits(
      parts,
      split,
      unitsOf(record.gold[split].length).map((_, unit) => unit),
      shape,
    );
  const found = await evaluateTask(
    training,
    { valid: prompts('valid'), test: prompts('test') },
    shape.candidates,
    settings.variant,
    taskSeed(record, settings),
  );
  const { probers, ...row } = found;
  const reportOf = (name: KindName): ProberReport => {
    const { size } = found[name];
    const prober = probers[name];
    return {
      ...found[name],
      layers: layerHistogram(prober, size, model.layers),
      neurons: namedNeurons(prober, Math.min(size, LISTED), model.width, settings.site),
    };
  };
  return {
    report: {
      task: record.task,
      labels: record.labels,
      candidateTokens: record.candidateTokens,
      // Runs begun before texts were kept have none.
      candidateTexts: record.candidateTexts ?? record.candidateTokens,
      prompts: {
        train: record.gold.train.length,
        valid: record.gold.valid.length,
        test: record.gold.test.length,
      },
      left: record.left,
      leak: record.leak,
      ...row,
      polar: reportOf('polar'),
      magn: reportOf('magn'),
    },
    probers,
  };
}

function namedNeurons(prober: Prober, count: number, width: number, site: Site): ProberReport['neurons'] {
  return [...prober.ranking.subarray(0, count)].map((flat) => ({
    neuron: formatNeuron(neuronAt(flat, width, site)),
    polarity: prober.polarity[flat]!,
    score: prober.score[flat]!,
  }));
}
