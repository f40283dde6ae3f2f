/**
 * Measures models as the paper does and writes what they gave into the docs:
 *
 *   npm run results -- --model FILE.gguf --data mceval8k [--minutes 60]
 *
 * It runs `neurgrad study` and `neurgrad probe run`, whose folders under --out can be taken up again at any time; pages and figures are
 * drawn from their results (entry.ts, page.ts). Without --model it measures the bundled models.
 */

import { execFileSync, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { cpus } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { Command, Option } from 'commander';
import { runProgram } from '../../cli/exit.ts';
import { dtypeOption, integer, positive, withOptions } from '../../cli/options.ts';
import { note } from '../../cli/output.ts';
import { bundledModel, packageRoot } from '../../cli/package.ts';
import { type ModelCard, readModelCard, withModel } from '../../cli/session.ts';
import { makeFolder, writeTogether, writeWhole } from '../../engine/disk.ts';
import { UserError } from '../../engine/errors.ts';
import type { WeightDtype } from '../../models/index.ts';
import { maskToken, SWEEP_ENGINES } from '../../neurgrad/index.ts';
import { estimateStudy } from '../../neurgrad/study/estimate.ts';
import { type PlanInput, PRESETS, parsePlan } from '../../neurgrad/study/plan.ts';
import { listFolder, readTextFile } from '../../neurgrad/study/textFile.ts';
import { readFacts } from '../train-facts-bert/facts.ts';
import {
  collectEntry,
  type Entry,
  entryName,
  type Occasion,
  PARTS,
  type Part,
  readEntry,
  STUDIES,
  type StudyName,
  writeEntry,
  writeOccasion,
} from './entry.ts';
import { figuresOf } from './figures.ts';
import { readmePart, renderPage } from './page.ts';
import { plansOf, QUESTIONS, type Sizes } from './plans.ts';
import { factQuestions, storyQuestions } from './questions.ts';

interface Options {
  readonly model: readonly string[];
  readonly data?: string;
  readonly tasks: string;
  readonly shots: string;
  readonly rows: number;
  readonly evaluationRows: number;
  readonly prompts: number;
  readonly neurons: number;
  readonly figure: Sizes['figure'];
  readonly ig: number;
  readonly paper?: boolean;
  readonly dtype?: WeightDtype;
  readonly engine?: PlanInput['engine'];
  readonly stories?: boolean;
  readonly parts: readonly Part[];
  readonly minutes?: number;
  readonly out: string;
  readonly docs: string;
  readonly page?: boolean;
}

/** The paper's own numbers of prompts, neurons and questions. */
const PAPER = {
  prompts: 1000,
  neurons: 100,
  figure: { prompts: 10, neurons: 1000 },
  ig: 1000,
  rows: 6000,
  evaluationRows: 1000,
  tasks: 'all',
} as const;

function figureSize(text: string): Sizes['figure'] {
  const [, prompts, neurons] = /^(\d+)x(\d+)$/.exec(text) ?? [];
  if (prompts === undefined) throw new UserError('figure', `figure "${text}" is not PxN, such as 10x50`);
  return { prompts: Number(prompts), neurons: Number(neurons) };
}

function partsOf(text: string): Part[] {
  return text.split(',').map((name) => {
    const part = PARTS.find((each) => each === name);
    if (!part)
      throw new UserError('parts', `"${name}" is no part of the results; there are ${PARTS.join(', ')}`);
    return part;
  });
}

const command = withOptions(
  new Command('results').description('measures models as the paper does, and writes docs/results.md'),
  new Option('--model <dir...>', 'folders, GGUF files or Hugging Face ids').default([]),
  new Option('--data <dir>', 'folder of MCEval8K, or a Hub data set; without it nothing is probed'),
  new Option('--tasks <list>', 'of MCEval8K').default('FEVER,MyriadLAMA,LTI,GED,MNLI,Agnews'),
  new Option('--shots <n>', 'demonstrations of each label').choices(['0', '1']).default('1'),
  new Option('--rows <n>', 'training prompts a task').argParser(integer(1)).default(QUESTIONS.rows),
  new Option('--evaluation-rows <n>', 'valid and test prompts a task')
    .argParser(integer(1))
    .default(QUESTIONS.evaluationRows),
  new Option('--prompts <n>', 'of Tables 1 and 2').argParser(integer(1)).default(100),
  new Option('--neurons <n>', 'of each prompt').argParser(integer(1)).default(50),
  new Option('--figure <PxN>', 'prompts and neurons of Figure 2')
    .argParser(figureSize)
    .default({ prompts: 10, neurons: 50 }, '10x50'),
  new Option('--ig <n>', 'prompts with integrated gradients; 0 for none').argParser(integer(0)).default(10),
  new Option('--paper', "the paper's numbers of prompts, neurons, questions and tasks instead"),
  new Option('--stories', 'prompts of stories that the model tells, for one that knows no facts'),
  dtypeOption(),
  new Option('--engine <name>', 'how points of the tables are had, as in `neurgrad sweep`').choices([
    'auto',
    ...SWEEP_ENGINES,
  ]),
  new Option('--parts <list>', 'of these only; what the page has of the others stays')
    .argParser(partsOf)
    .default(PARTS, PARTS.join()),
  new Option('--minutes <n>', 'stop after so long; the same command goes on').argParser(positive),
  new Option('--out <dir>', 'folder of the runs').default('runs/results'),
  new Option('--docs <dir>', 'where results.md and results/ are written').default(join(packageRoot, 'docs')),
  new Option('--page', 'measure nothing, write the page from what is there'),
);

/** Runs a command of ours, seen by the user; ended at the deadline. @returns whether it came to its end. */
async function neurgrad(deadline: number, ...args: string[]): Promise<boolean> {
  const left = deadline - Date.now();
  if (left <= 0) return false;
  note(`neurgrad ${args.join(' ')}`);
  const child = spawn(process.execPath, [join(packageRoot, 'dist', 'cli', 'main.js'), ...args], {
    stdio: 'inherit',
  });
  let late = false;
  const timer = Number.isFinite(left)
    ? setTimeout(() => {
        late = true;
        child.kill();
      }, left)
    : undefined;
  const code = await new Promise<number | null>((ended, failed) => {
    child.once('error', failed);
    child.once('exit', ended);
  });
  clearTimeout(timer);
  if (code !== 0 && !late)
    throw new UserError('results', `neurgrad ${args[0]} ended with code ${code}; what is done stays`);
  return !late;
}

/** Measures one model as far as the deadline allows. */
async function measure(source: string, folder: string, options: Options, deadline: number): Promise<void> {
  const card = await readModelCard(source);
  makeFolder(folder);
  const here = occasion();
  const questions = join(folder, 'questions.jsonl');
  const sizes = { ...options, integrated: options.ig };
  const plans = plansOf(source, questions, sizes, options);
  const estimate = join(folder, 'estimate.json');
  const asked = options.parts.filter(
    (part) => (part !== 'probe' || options.data !== undefined) && (part !== 'integrated' || options.ig > 0),
  );
  if (!existsSync(questions)) writeWhole(questions, await questionsOf(card, options));
  for (const name of STUDIES)
    writeWhole(join(folder, `${name}.plan.json`), `${JSON.stringify(plans[name], null, 2)}\n`);
  if (asked.includes('table') && !existsSync(estimate)) {
    const plan = parsePlan({ ...plans.table, integrated: plans.integrated.integrated });
    const found = await withModel(
      card,
      ({ model, tokenizer }) => estimateStudy(plan, { model, tokenizer, close: () => {} }),
      options,
    );
    writeWhole(estimate, `${JSON.stringify(found, null, 2)}\n`);
  }
  const study = (name: StudyName): Promise<boolean> =>
    neurgrad(deadline, 'study', '--plan', join(folder, `${name}.plan.json`), '--out', join(folder, name));
  // Integrated gradients take longest.
  for (const part of (['figure', 'table', 'probe', 'integrated'] as const).filter((each) =>
    asked.includes(each),
  )) {
    writeOccasion(folder, part, here);
    await (part === 'probe' ? probe(source, folder, options, deadline) : study(part));
  }
}

async function questionsOf(card: ModelCard, options: Options): Promise<string> {
  const found = options.stories
    ? await withModel(card, ({ model, tokenizer }) => storyQuestions(model, tokenizer), options)
    : factQuestions(readFacts(bundledModel), maskToken(card, card.tokenizer), PRESETS.clean.prompts.seed);
  return found.map((question) => `${JSON.stringify(question)}\n`).join('');
}

async function probe(source: string, folder: string, options: Options, deadline: number): Promise<void> {
  const { data, tasks, rows, evaluationRows, shots, dtype } = options;
  const out = join(folder, 'probe');
  const ended = await neurgrad(
    deadline,
    ...['probe', 'run', '--model', source, '--data', data!, '--tasks', tasks, '--out', out, '--shots', shots],
    ...['--train-rows', `${rows}`, '--evaluation-rows', `${evaluationRows}`],
    ...(dtype === undefined ? [] : ['--dtype', dtype]),
  );
  // Tasks that are done are shown before all are.
  const tasksDone = join(out, 'tasks');
  if (!ended && existsSync(tasksDone) && listFolder(tasksDone).length > 0)
    await neurgrad(Number.POSITIVE_INFINITY, 'probe', 'report', out);
}

function git(...args: string[]): string {
  return execFileSync('git', args, { cwd: packageRoot, encoding: 'utf8' }).trim();
}

/** When a run was last gone on with, and by what: a + says that code was changed since the commit. */
function occasion(): Occasion {
  const changed = git('status', '--porcelain', '--untracked-files=no', '--', '.', ':!docs', ':!README.md');
  return {
    date: new Date().toISOString().slice(0, 10),
    commit: `${git('rev-parse', '--short=12', 'HEAD')}${changed === '' ? '' : '+'}`,
    cores: cpus().length,
  };
}

/** Writes a model's entry with its figures. */
async function keep(folder: string, docs: string): Promise<void> {
  const place = join(docs, 'results');
  const file = join(place, `${basename(folder)}.json`);
  const before = existsSync(file) ? readEntry(file) : null;
  const found = await collectEntry(folder, basename(folder), before);
  const figures = figuresOf(found);
  // Dots of a table that was measured elsewhere are in its figures alone.
  const kept = before?.figures.filter((name) => !figures.has(name)) ?? [];
  const entry: Entry = { ...found, figures: [...kept, ...figures.keys()] };
  makeFolder(place);
  writeTogether([
    [file, writeEntry(entry)],
    ...[...figures].map(([name, svg]) => [join(place, `${entry.name}-${name}.svg`), svg] as const),
  ]);
}

const MARKS = ['<!-- results -->', '<!-- /results -->'] as const;

/** Writes the page, and the README's part of it where there are marks for it. */
function writePage(docs: string): void {
  const place = join(docs, 'results');
  const entries = listFolder(place)
    .filter((name) => name.endsWith('.json'))
    .map((name) => readEntry(join(place, name)));
  const readme = join(dirname(docs), 'README.md');
  const part = readmePart(entries);
  const text = existsSync(readme) ? readTextFile(readme) : '';
  const [from, to] = MARKS.map((mark) => text.indexOf(mark)) as [number, number];
  writeTogether([
    [join(docs, 'results.md'), renderPage(entries)],
    ...(part !== null && from >= 0 && to > from
      ? [[readme, `${text.slice(0, from + MARKS[0].length)}\n${part}\n${text.slice(to)}`] as const]
      : []),
  ]);
}

await runProgram(async () => {
  const given = command.parse().opts<Options>();
  const options = given.paper ? { ...given, ...PAPER } : given;
  const deadline =
    options.minutes === undefined ? Number.POSITIVE_INFINITY : Date.now() + options.minutes * 60_000;
  if (!options.page && options.model.length === 0)
    throw new UserError('model', 'name a model (--model), or --page to write the page from what is there');
  for (const source of options.model) {
    const folder = join(options.out, entryName(source));
    if (!options.page) await measure(source, folder, options, deadline);
    await keep(folder, options.docs);
  }
  writePage(options.docs);
  note(`wrote ${join(options.docs, 'results.md')}`);
});
