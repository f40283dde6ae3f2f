/** `neurgrad probe`: skill neurons of a model on MCEval8K, Table 3, and probers put to use. */

import { resolve } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { Reopening } from '../../engine/index.ts';
import { parseJson } from '../../models/json.ts';
import { weightDtypeOf } from '../../models/model.ts';
import { type LanguageModel, resolveSite, UserError, unknownRemark } from '../../neurgrad/index.ts';
import { hashFiles, isWeightFile, tokenizerHash } from '../../neurgrad/study/folder.ts';
import { detectShard, parseShard, type Shard } from '../../neurgrad/study/shard.ts';
import { readTextFile } from '../../neurgrad/study/textFile.ts';
import {
  applyProber,
  checkProberModel,
  collect,
  contextOf,
  encodeQuestion,
  estimate,
  LABEL_TOKENS,
  LANGUAGES,
  type LabelTokens,
  type Language,
  LLAMA2_7B,
  loadProber,
  openReader,
  type ProberAbout,
  type ProbeSettings,
  parseProbers,
  parseTasks,
  prefixesOf,
  readFeatures,
  readRow,
  recordTask,
  SPLITS,
  sharedPrefix,
  TASKS,
  type Task,
  type TaskPlan,
  timeBatch,
  VARIANTS,
  type Variant,
  WHOLE_RELEASE,
  workloadOf,
} from '../../probing/index.ts';
import { areLetters, clozeTaskOf, ownFields, ownTaskOf } from '../../probing/ownTask.ts';
import {
  type ConventionOptions,
  conventionOptions,
  integer,
  jsonOption,
  modelOptions,
  renamedOption,
  weightsOptions,
  withOptions,
} from '../options.ts';
import { note, openOutput } from '../output.ts';
import { version } from '../package.ts';
import { checkHeld, estimatorOf, estimatorOption, neuronsOfRun } from '../probeFeatures.ts';
import { readManifest, runDigest } from '../probeFiles.ts';
import { hasMethods, testMethods } from '../probeMethods.ts';
import { type Planned, planTasks } from '../probePlan.ts';
import {
  demonstrationsFolder,
  finishedTasks,
  finishRun,
  finishTask,
  lockReport,
  lockRun,
  openRun,
} from '../probeRun.ts';
import { describeSummary, describeTask, type ProbeManifest } from '../probeTable.ts';
import { startProgress } from '../progress.ts';
import {
  describeAdapter,
  type ModelCard,
  opened,
  readModelCard,
  reopened,
  type Session,
  type WeightsOptions,
  withModel,
} from '../session.ts';
import { figure, table } from '../table.ts';
import { addExport } from './probeExport.ts';
import { addProperties } from './probeProperties.ts';

interface RunOptions extends ConventionOptions, WeightsOptions {
  readonly model: string;
  readonly data?: string;
  readonly tasks: string;
  readonly taskFile: readonly string[];
  readonly out: string;
  readonly splits: 'released' | 'clean';
  readonly trainRows: number;
  readonly evaluationRows?: number;
  readonly variant: Variant;
  readonly labelTokens: LabelTokens;
  readonly shots: string;
  readonly permutations: number;
  readonly demonstrationSeeds: number;
  readonly seed: number;
  readonly probers?: string;
  readonly neurons: string;
  readonly estimator?: string;
  readonly proberPermutations: number;
  readonly shard?: Shard;
  readonly keepParts?: boolean;
  readonly dryRun?: boolean;
  readonly json?: boolean;
}

interface ReportOptions {
  readonly out?: string;
  readonly keepParts?: boolean;
  readonly json?: boolean;
}

interface ApplyOptions extends WeightsOptions {
  readonly model: string;
  readonly prober: string;
  readonly question?: string;
  readonly questions?: string;
  readonly language: Language;
  readonly json?: boolean;
}

/** `2/8`, counted from 1. */
function shard(text: string): Shard {
  try {
    return parseShard(text);
  } catch (error) {
    if (error instanceof UserError) throw new InvalidArgumentError(`${error.message}.`);
    throw error;
  }
}

const keepPartsOption = () =>
  new Option('--keep-parts', 'keep what was read of a task after its results are written');

export function addProbe(program: Command): void {
  const probe = program.command('probe').description('find skill neurons and let them answer (MCEval8K)');
  withOptions(
    probe.command('run').description("Table 3 for a model: Rand, LM-Prob, Polar, Magn, beside the paper's"),
    ...modelOptions(),
    new Option('--data <dir>', 'folder of MCEval8K or of files in its format, or a Hub data set'),
    new Option('--tasks <list>', 'of --data: all, or names with commas').default('all'),
    new Option(
      '--task-file <file>',
      'questions of your own (.jsonl, .csv, .parquet …); may be given several times',
    )
      .argParser((file: string, before: readonly string[]) => [...before, file])
      .default([], 'none'),
    renamedOption<readonly string[]>('--task <file>', 'taskFile', (file, before = []) => [...before, file]),
    new Option('--out <dir>', 'folder of the run; an unfinished one goes on').makeOptionMandatory(),
    new Option(
      '--splits <kind>',
      'clean: disjoint, deduplicated, balanced; released: as the files are, test in train and all',
    )
      .choices(['released', 'clean'])
      .default('clean'),
    new Option('--train-rows <n>', 'most training prompts a task').argParser(integer(1)).default(6000),
    renamedOption('--rows <n>', 'trainRows', integer(1)),
    new Option(
      '--evaluation-rows <n>',
      'most valid and test prompts a task; default a sixth of --train-rows',
    ).argParser(integer(1)),
    new Option('--variant <name>', "the paper's probers or the released code's")
      .choices(VARIANTS)
      .default('paper'),
    new Option('--label-tokens <mode>', 'continuation: what follows the prompt; release: the label alone')
      .choices(LABEL_TOKENS)
      .default('continuation'),
    new Option('--shots <n>', 'demonstrations of each label').choices(['0', '1']).default('1'),
    new Option(
      '--probers <list>',
      'also put these to the test on --neurons: polar, magn, act, logistic, forest, or all',
    ),
    new Option('--neurons <list>', 'that --probers learn from: random:512, L3.*, all').default('random:512'),
    estimatorOption(),
    new Option('--prober-permutations <n>', 'of the labels, for the null of --probers')
      .argParser(integer(0, 10_000))
      .default(39),
    new Option('--permutations <n>', 'of the labels, for the null')
      .argParser(integer(0, 10_000))
      .default(200),
    new Option('--demonstration-seeds <n>', 'draws of demonstrations to run with, for the spread over them')
      .argParser(integer(1, 100))
      .default(1),
    new Option('--seed <n>', 'of all draws').argParser(integer(0)).default(0),
    ...conventionOptions(),
    new Option(
      '--shard <i/n>',
      'read every n-th unit only, default what Slurm or Kubernetes says; "probe report" puts them together',
    ).argParser(shard),
    ...weightsOptions(),
    keepPartsOption(),
    new Option('--dry-run', 'plan and estimate, read nothing'),
    jsonOption(),
  )
    .addHelpText(
      'after',
      `
Examples:
  neurgrad probe run --model meta-llama/Llama-2-7b-hf --data mceval8k --out runs/probe
  neurgrad probe run --model examples/models/stories260k --data mceval8k --tasks TempLAMA --train-rows 300 --out runs/small
  neurgrad probe run --model examples/models/facts-bert --data mceval8k --tasks FEVER --shots 0 --train-rows 300 --out runs/bert
  neurgrad probe run --model examples/models/facts-bert --data mceval8k --tasks FEVER --shots 0 --train-rows 300 --probers logistic,forest --out runs/bert
  neurgrad probe run --model examples/models/stories260k --task-file capitals.jsonl --shots 0 --out runs/capitals

The folder gets manifest.json, parts/, tasks/, probers/, summary.json, tables/table3.md and report.html.`,
    )
    .action(runProbe);
  withOptions(
    probe
      .command('report')
      .description('evaluate what the shards of a run have read')
      .argument('[dir]', 'folder of the run'),
    // Of the run as it is read; what --out is everywhere else is written.
    new Option('--out <dir>').hideHelp(),
    keepPartsOption(),
    jsonOption(),
  ).action(async (dir: string | undefined, options: ReportOptions) => {
    const { out } = options;
    if (out !== undefined) note('note: --out DIR is DIR alone now: neurgrad probe report DIR');
    if ((dir === undefined) === (out === undefined))
      throw new UserError('option', 'give the folder of the run: neurgrad probe report DIR');
    const folder = (dir ?? out)!;
    using _ = lockReport(folder);
    await report(folder, options.json ?? false, options.keepParts ?? false);
  });
  withOptions(
    probe.command('apply').description('let a fitted prober answer new questions'),
    ...modelOptions(),
    new Option('--prober <path>', 'such as runs/probe/probers/FEVER-magn').makeOptionMandatory(),
    new Option('--question <text>', 'a question laid out as the task does, or its first line'),
    new Option('--questions <file>', "JSON list of rows in the task's format, labels optional"),
    renamedOption('--rows <file>', 'questions'),
    new Option('--language <code>', 'of --question').choices(LANGUAGES).default('en'),
    ...weightsOptions("the prober's"),
    jsonOption(),
  )
    .addHelpText(
      'after',
      `
Example:
  neurgrad probe apply --model examples/models/facts-bert --prober runs/bert/probers/FEVER-magn \\
    --question "### Claim: Paris is in France.
### Answer:"

JSON: {"answers": [{"row", "label", "votes", "probabilities"}]}`,
    )
    .action(runApply);
  addExport(probe);
  addProperties(probe);
}

async function runProbe(options: RunOptions): Promise<void> {
  const output = openOutput(options.json ?? false);
  const part = options.shard ?? detectShard(process.env);
  const probers = options.probers === undefined ? [] : parseProbers(options.probers);
  if (probers.length > 0 && part.count > 1)
    throw new UserError(
      'shard',
      '--probers learns from all prompts: run the shards without it, then this command once without --shard',
    );
  using _ = options.dryRun ? null : lockRun(options.out, part);
  const card = await readModelCard(options.model);
  const { of, direction, sign, variant, labelTokens, splits, trainRows: rows, permutations, seed } = options;
  const settings: ProbeSettings = {
    ...{ site: resolveSite(options.site, card), of, direction, sign, variant, labelTokens, splits },
    ...{ rows, evaluationRows: options.evaluationRows ?? Math.max(1, Math.round(rows / 6)) },
    ...{ shots: options.shots === '0' ? 0 : 1, permutations, seed },
  };
  if (options.demonstrationSeeds > 1 && settings.shots === 0)
    throw new UserError('shots', '--demonstration-seeds: with --shots 0 there are no demonstrations to draw');
  // The run itself, then the same with other demonstrations in folders within its own.
  const runs: { settings: ProbeSettings; planned: Planned; out: string }[] = [];
  for (let draw = 0; draw < options.demonstrationSeeds; draw++) {
    const own = draw === 0 ? settings : { ...settings, demonstrationSeed: seed + draw };
    runs.push({
      settings: own,
      planned: await planTasks(card, options, own, draw === 0 ? output.note : () => {}),
      out: draw === 0 ? options.out : demonstrationsFolder(options.out, seed + draw),
    });
  }
  noteRows(runs[0]!.planned, card, output.note);
  const path = card.folder.name;
  const testProbers = async (
    held: Reopening<Session>,
    plan: TaskPlan,
    settings: ProbeSettings,
    manifest: ProbeManifest,
  ): Promise<void> => {
    const { neurons: chosen, estimator = 'neurgrad', proberPermutations } = options;
    const asked = {
      run: runDigest(readManifest(options.out)),
      chosen,
      estimator,
      permutations: proberPermutations,
    };
    const { name } = plan.task;
    const names = probers.map((prober) => prober.name);
    if (hasMethods(options.out, name, asked, names)) return;
    const record = manifest.tasks.find(({ task }) => task === name)!;
    const neurons = await neuronsOfRun(chosen, options.out, { manifest, record, card });
    checkHeld(plan, neurons.length);
    const progress = startProgress(`${name}: features`, 'prompts');
    try {
      const features = await readFeatures((await opened(held)).model, plan, settings, neurons, {
        estimator: estimatorOf(options.estimator),
        reopen: () => reopened(held),
        onProgress: progress.update,
        onNote: output.note,
      });
      progress.stop();
      testMethods(options.out, features, probers, asked, settings);
    } finally {
      progress.stop();
    }
  };
  const work = async (
    { model, device, placement, tokenizer }: Session,
    held: Reopening<Session>,
  ): Promise<void> => {
    for (const { settings, planned, out } of runs) {
      const { plans, skipped, files, clean, leaks } = planned;
      const manifest: ProbeManifest = {
        format: 'neurgrad probe 3',
        neurgrad: version,
        created: new Date().toISOString(),
        adapter: describeAdapter(device),
        weights: placement,
        settings,
        model: {
          architecture: model.family,
          layers: model.sizes.layers,
          width: model.sizes.width,
          name: options.model,
          dtype: options.dtype ?? weightDtypeOf(model),
          sha256: hashFiles(path, isWeightFile),
        },
        tokenizer: tokenizerHash(path),
        data: {
          folder: options.data ?? '',
          ...(options.taskFile.length > 0 ? { own: options.taskFile } : {}),
          sha256: files,
        },
        tasks: plans.map((plan) =>
          recordTask(plan, tokenizer, clean.get(plan.task.name), leaks.get(plan.task.name)),
        ),
        skipped,
      };
      if (!options.dryRun) openRun(out, manifest);
      const finished = options.dryRun ? new Set<string>() : await finishedTasks(out, output.note);
      const left = plans.filter(({ task }) => !finished.has(task.name));
      if (left.length > 0 && out === options.out) {
        const lines = await held.run(({ model }) => describeCost(model, left, settings, part, runs.length));
        for (const line of lines) output.note(line);
      }
      if (options.dryRun) return;
      if (out !== options.out) output.note(`demonstrations of seed ${settings.demonstrationSeed}`);
      // Alone, a task is evaluated before the next is read, and its parts are dropped; shards share the units of all tasks.
      for (const some of part.count > 1 ? [plans] : plans.map((plan) => [plan])) {
        const progress = startProgress(some.length > 1 ? 'gradients' : some[0]!.task.name, 'prompts');
        try {
          await collect((await opened(held)).model, some, settings, out, {
            reopen: () => reopened(held),
            shard: part,
            run: runDigest(manifest),
            finished,
            onProgress: progress.update,
            onNote: output.note,
          });
        } finally {
          progress.stop();
        }
        if (part.count > 1) continue;
        const { report: found } = await finishTask(out, some[0]!.task.name, options.keepParts ?? false);
        if (found) output.note(describeTask(found));
      }
      if (probers.length === 0 || out !== options.out) continue;
      for (const plan of plans) await testProbers(held, plan, settings, manifest);
    }
  };
  await withModel(card, work, { ...options, long: !options.dryRun });
  if (options.dryRun) return;
  if (part.count > 1) {
    const { index, count } = part;
    output.note(
      `shard ${index + 1}/${count} is read; after the others: neurgrad probe report ${options.out}`,
    );
    return;
  }
  await report(options.out, options.json ?? false, options.keepParts ?? false);
}

/** What of the data makes no prompt, a line for each reason. */
function noteRows(
  { plans, clean, leaks }: Planned,
  { tokenizer }: ModelCard,
  note: (text: string) => void,
): void {
  for (const plan of plans) {
    const { name } = plan.task;
    const left = clean.get(name);
    if (left) {
      const { duplicates, contradictions, unbalanced } = left;
      note(
        `${name}: clean splits leave out ${duplicates} duplicates, ${contradictions} contradictory rows, ${unbalanced} to balance`,
      );
    }
    const leak = leaks.get(name) ?? 0;
    if (leak > 0)
      note(
        `${name}: ${figure(100 * leak, 3)}% of test stands in train; --splits clean makes splits that share nothing`,
      );
    for (const split of SPLITS) {
      for (const { problem, count } of plan.left[split]) {
        note(`${name} ${split}: ${count} row${count === 1 ? '' : 's'}: ${problem}`);
      }
      const remark = unknownRemark(tokenizer, plan.prompts[split]);
      if (remark !== null) note(`${name} ${split}: ${remark}`);
    }
  }
}

/** Time and memory of this run, and of the paper's, at the rate measured here. */
async function describeCost(
  model: LanguageModel,
  plans: readonly TaskPlan[],
  settings: ProbeSettings,
  part: Shard,
  draws: number,
): Promise<string[]> {
  const { description } = model;
  const { permutations } = settings;
  const { prompts, seconds } = await timeBatch(model, plans[0]!, settings);
  const first = plans[0]!;
  const shared = prefixesOf(first).get(prompts[0]!.language)!.length;
  const timed = estimate(description, {
    ...workloadOf([first], description, permutations),
    prompts: prompts.length,
    tokens:
      prompts.reduce((sum, { ids }) => sum + ids.length, 0) / prompts.length -
      (description.causal ? shared : 0),
    shared: 0,
  });
  const rate = timed.operations / seconds;
  const cost = (found: ReturnType<typeof estimate>, share = 1): string =>
    `${found.prompts.toLocaleString('en')} prompts, ${figure(found.operations, 2)} operations, ${duration((share * found.operations) / rate)}; device ${bytes(found.deviceBytes)}, host ${bytes(found.hostBytes)}, disk ${bytes(found.diskBytes)}`;
  const work = workloadOf(plans, description, permutations, part.count > 1);
  const mine = estimate(description, {
    ...work,
    prompts: draws * work.prompts,
    shared: draws * work.shared,
  });
  const paper = estimate(LLAMA2_7B, { ...WHOLE_RELEASE, permutations });
  return [
    `this run: ${cost(mine, 1 / part.count)}${part.count > 1 ? ` for this shard of ${part.count}` : ''}`,
    `Llama2-7B on all tasks: ${cost(paper)} at the ${figure(rate / 1e9, 3)} GFLOP/s measured here, ${duration(paper.operations / 2e13)} at 20 TFLOP/s`,
  ];
}

function duration(seconds: number): string {
  if (seconds < 90) return `about ${Math.max(1, Math.round(seconds))} s`;
  if (seconds < 5400) return `about ${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `about ${Math.round(seconds / 3600)} h`;
  return `about ${Math.round(seconds / 86_400).toLocaleString('en')} days`;
}

function bytes(count: number): string {
  return count < 1e9 ? `${figure(count / 1e6, 3)} MB` : `${figure(count / 1e9, 3)} GB`;
}

async function report(folder: string, json: boolean, keepParts: boolean): Promise<void> {
  const output = openOutput(json);
  const summary = await finishRun(folder, keepParts);
  for (const { task, missingUnits } of summary.incomplete) {
    output.note(`${task}: ${missingUnits} units are missing`);
  }
  output.result(summary, () => describeSummary(summary));
  output.note(`wrote ${resolve(folder, 'report.html')}, summary.json, tables/table3.md and probers/`);
}

async function runApply(options: ApplyOptions): Promise<void> {
  const output = openOutput(options.json ?? false);
  const saved = await loadProber(options.prober);
  const { about } = saved;
  const card = await readModelCard(options.model);
  checkProberModel(about, card);
  const questions = questionsOf(options, about);
  const asked = questions.map(({ row, text, problem }) => {
    const cloze = isCloze(about);
    const encoded = text === undefined ? null : encodeQuestion(card, card.tokenizer, text, cloze);
    if (encoded) return { row, encoded };
    return { row, problem: problem ?? `longer than the model's ${card.sizes.positions} positions` };
  });
  const prompts = asked.flatMap(({ encoded }) => (encoded ? [encoded] : []));
  if (prompts.length === 0) throw new UserError('prompt', `no question can be asked: ${asked[0]?.problem}`);
  const remark = unknownRemark(card.tokenizer, prompts);
  if (remark !== null) output.note(`note: ${remark}`);
  const work = async ({ model }: Session): Promise<void> => {
    const prefix = sharedPrefix(prompts.map(({ ids }) => ids));
    using reader = openReader(model, about);
    const answers: unknown[] = [];
    const lines: string[][] = [];
    for (const { row, encoded, problem } of asked) {
      if (!encoded) {
        answers.push({ row, problem });
        output.note(`row ${row}: ${problem}`);
        continue;
      }
      const { label, votes, probabilities } = await applyProber(saved, reader, encoded, prefix);
      answers.push({ row, label: about.labels[label], votes, probabilities });
      lines.push([
        String(row),
        about.labels[label]!,
        votes.join(' '),
        probabilities.map((p) => figure(p, 3)).join(' '),
      ]);
    }
    output.result({ task: about.task, kind: about.kind, labels: about.labels, answers }, () =>
      table(['row', 'answer', `votes (${about.labels.join(' ')})`, 'p of the model'], lines),
    );
  };
  await withModel(card, work, { ...options, dtype: options.dtype ?? about.model.dtype });
}

/** Whether a prober answers sentences with a blank. */
const isCloze = ({ task, labels }: Pick<ProberAbout, 'task' | 'labels'>): boolean =>
  !TASKS.some(({ name }) => name === task) && !areLetters(labels);

const ownTaskAbout = (about: Pick<ProberAbout, 'task' | 'labels'>): Task =>
  isCloze(about) ? clozeTaskOf(about.task, about.labels) : ownTaskOf(about.task, about.labels.length);

/** Whole prompts, or what is wrong with a row. @throws UserError where the file of rows is none. */
export function questionsOf(
  options: Pick<ApplyOptions, 'question' | 'questions' | 'language'>,
  about: Pick<ProberAbout, 'task' | 'contexts' | 'labels'>,
): { row: number; text?: string; problem?: string }[] {
  if ((options.question === undefined) === (options.questions === undefined)) {
    throw new UserError('question', 'give either --question or --questions');
  }
  if (options.question !== undefined) {
    return [{ row: 0, text: contextOf(about, options.language) + options.question }];
  }
  const own = !TASKS.some(({ name }) => name === about.task);
  const task = own ? ownTaskAbout(about) : parseTasks(about.task)[0]!;
  return readRows(options.questions!).map((record, row) => {
    if (own) {
      const fields = ownFields({ row: Object(record), where: `${options.questions}: row ${row}` }, true);
      const read = readRow(task, fields);
      if ('problem' in read) return { row, problem: read.problem };
      return { row, text: contextOf(about, read.question.language) + read.question.text };
    }
    // A row to be classified needs no label: any will do to lay it out.
    const { field, first = 0, values } = task.gold;
    const read = readRow(task, { [field]: values?.[0] ?? first, ...(record as object) });
    if ('problem' in read) return { row, problem: read.problem };
    return { row, text: contextOf(about, read.question.language) + read.question.text };
  });
}

function readRows(path: string): unknown[] {
  const rows = parseJson(readTextFile(path), path, 'file');
  if (!Array.isArray(rows)) throw new UserError('file', `${path}: is not a list of rows`);
  if (rows.length === 0) throw new UserError('file', `${path}: holds no rows`);
  return rows;
}
