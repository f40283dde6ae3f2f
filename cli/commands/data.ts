/** `neurgrad data`: are the splits of a probing data set fit for use, and clean ones made from its rows. */

import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { type Command, Option } from 'commander';
import { makeFolder, WholeFolder, writeWhole } from '../../engine/disk.ts';
import type { ByteFolder } from '../../models/index.ts';
import { UserError } from '../../neurgrad/index.ts';
import { fileHash } from '../../neurgrad/study/folder.ts';
import {
  type AuditSummary,
  auditTask,
  type CleanSplits,
  cleanSplits,
  leakShare,
  parseTasks,
  readOwnTask,
  readTask,
  resolveDataFolder,
  SPLITS,
  type SplitRows,
  summariseAudits,
  type Task,
  type TaskAudit,
  type TaskData,
} from '../../probing/index.ts';
import { integer, jsonOption, withOptions } from '../options.ts';
import { checkOutFile, openOutput, toJson } from '../output.ts';
import { version } from '../package.ts';
import { startProgress } from '../progress.ts';
import { table } from '../table.ts';

interface AuditOptions {
  readonly tasks: string;
  readonly out?: string;
  readonly json?: boolean;
}

interface BuildOptions {
  readonly tasks: string;
  readonly out: string;
  readonly seed: number;
  readonly json?: boolean;
}

const BUILD_FORMAT = 'neurgrad clean splits 1';

const tasksOption = () =>
  new Option('--tasks <list>', 'all, or names with commas, such as FEVER,NER').default('all');

export function addData(program: Command): void {
  const data = program
    .command('data')
    .description('audit the splits of a probing data set, or build clean ones');
  withOptions(
    data
      .command('audit')
      .argument(
        '<dir>',
        'folder of MCEval8K or of files in its format, a Hub data set, or a file of your own questions',
      )
      .description(
        'leaks between splits, duplicates, contradictions, label balance, rows that cannot be asked',
      ),
    tasksOption(),
    new Option('--out <file>', 'write the JSON document to a file too'),
    jsonOption(),
  )
    .addHelpText(
      'after',
      `
Example:
  neurgrad data audit mceval8k

Leaks count the rows of the first split that stand in the second too, by what the model would read; "source" counts those
about the same thing: one text with other words asked for, one fact in another language.
JSON: {"summary", "tasks": [{"task", "splits", "leaks", "contradictions"}]}`,
    )
    .action(runAudit);
  withOptions(
    data
      .command('build')
      .argument('<dir>', 'folder of MCEval8K or of files in its format, or a Hub data set')
      .description('disjoint, deduplicated, label-balanced splits drawn with a seed, and their manifest'),
    tasksOption(),
    new Option('--splits <kind>', 'kind of splits').choices(['clean']).default('clean'),
    new Option('--seed <n>', 'of the draw').argParser(integer(0)).default(0),
    new Option('--out <dir>', 'folder to make').makeOptionMandatory(),
    jsonOption(),
  )
    .addHelpText(
      'after',
      `
Example:
  neurgrad data build mceval8k --out mceval8k-clean --splits clean

All rows of a task are pooled, so that a task without a train file gets one. manifest.json tells seed, sources and their
sha256, and what became of every row.`,
    )
    .action(runBuild);
}

/** Tasks of the folder, with their rows; those without files are told, and none at all is an error. */
async function readTasks(
  dir: string,
  list: string,
  note: (text: string) => void,
  own: 'own' | null = null,
): Promise<{ folder: string; found: { task: Task; data: TaskData }[] }> {
  if (own && statSync(dir, { throwIfNoEntry: false })?.isFile())
    return { folder: dirname(dir), found: [await readOwnTask(dir)] };
  const folder = await openData(dir);
  const found: { task: Task; data: TaskData }[] = [];
  const absent: string[] = [];
  for (const task of parseTasks(list)) {
    const data = await readTask(folder, task);
    if (data) found.push({ task, data });
    else absent.push(task.name);
  }
  if (found.length === 0) {
    throw new UserError('data', `${dir}: has no files of these tasks, such as fact/fever/train.json`);
  }
  if (absent.length > 0) note(`no files of ${absent.join(', ')}`);
  return { folder: folder.name, found };
}

/** A folder, or a Hub data set, told file by file where it must be downloaded. */
export async function openData(source: string): Promise<ByteFolder> {
  const progress = startProgress('download', 'files');
  try {
    return await resolveDataFolder(source, { onProgress: progress.update });
  } finally {
    progress.stop();
  }
}

async function runAudit(dir: string, options: AuditOptions): Promise<void> {
  const output = openOutput(options.json ?? false);
  if (options.out !== undefined) checkOutFile(options.out, ['.json']);
  const { found } = await readTasks(dir, options.tasks, output.note, 'own');
  const audits = found.map(({ task, data }) => auditTask(task, data));
  const summary = summariseAudits(audits);
  const document = { folder: dir, summary, tasks: audits };
  if (options.out !== undefined) writeWhole(options.out, `${toJson(document, 2)}\n`);
  output.result(document, () => describeAudit(audits, summary));
}

const percent = (share: number): string => (share === 0 ? '0' : `${(100 * share).toFixed(1)}%`);

function describeAudit(audits: readonly TaskAudit[], summary: AuditSummary): string {
  const pairs = [
    ['valid', 'test', 'content'],
    ['test', 'train', 'content'],
    ['valid', 'train', 'content'],
    ['test', 'train', 'source'],
  ] as const;
  const balance = ({ splits }: TaskAudit): string => {
    const shares = SPLITS.flatMap((split) => splits[split].labels.map((n) => n / splits[split].rows)).filter(
      Number.isFinite,
    );
    return `${percent(Math.min(...shares))} to ${percent(Math.max(...shares))}`;
  };
  const rows = audits.map((audit) => [
    audit.task,
    SPLITS.map((split) => (audit.splits[split].file === null ? 'none' : audit.splits[split].rows)).join('/'),
    ...pairs.map(([from, other, by]) =>
      audit.splits[from].file === null || audit.splits[other].file === null
        ? 'none'
        : percent(leakShare(audit, from, other, by)),
    ),
    SPLITS.map((split) => audit.splits[split].duplicates).join('/'),
    audit.contradictions,
    balance(audit),
    SPLITS.reduce(
      (sum, split) => sum + audit.splits[split].problems.reduce((all, problem) => all + problem.count, 0),
      0,
    ),
  ]);
  const problems = audits.flatMap(({ task, splits }) =>
    SPLITS.flatMap((split) => [
      ...splits[split].problems.map(
        ({ problem, count, rows: where }) =>
          `${task} ${split}: ${count} row${count === 1 ? '' : 's'}: ${problem} (${where.slice(0, 5).join(', ')}${count > 5 ? ', …' : ''})`,
      ),
      ...splits[split].emptyLabels.map((label) => `${task} ${split}: no row of label "${label}"`),
    ]),
  );
  const shares = (list: AuditSummary['testInTrain']): string =>
    list.map(({ task, share }) => (share >= 0.999 ? task : `${task} ${percent(share)}`)).join(', ') || 'none';
  return [
    table(
      [
        'task',
        'train/valid/test',
        'valid in test',
        'test in train',
        'valid in train',
        'test source in train',
        'duplicates',
        'contradictions',
        'labels',
        'bad rows',
      ],
      rows,
    ),
    ...problems,
    `valid = test:    ${summary.validIsTest.length} of ${audits.length} tasks: ${summary.validIsTest.join(', ') || 'none'}`,
    `test in train:   ${summary.testInTrain.length}: ${shares(summary.testInTrain)}`,
    `valid in train:  ${summary.validInTrain.length}: ${shares(summary.validInTrain)}`,
    `test source in train: ${summary.testSourceInTrain.length}: ${shares(summary.testSourceInTrain)}`,
    `missing files:   ${summary.missingFiles.join(', ') || 'none'}`,
    `contradictions:  ${summary.contradictions.join(', ') || 'none'}`,
    summary.validIsTest.length + summary.testInTrain.length > 0
      ? 'These splits leak: build clean ones with "neurgrad data build DIR --out DIR2".'
      : 'No test row stands in another split.',
  ].join('\n');
}

async function runBuild(dir: string, options: BuildOptions): Promise<void> {
  const output = openOutput(options.json ?? false);
  const { out, seed } = options;
  const earlier = existsSync(out) && holdsBuild(out);
  using whole = new WholeFolder(out, earlier ? 'replace' : 'refuse');
  const { folder, found } = await readTasks(dir, options.tasks, output.note);
  const tasks: Record<string, unknown> = {};
  const rows: (string | number)[][] = [];
  for (const { task, data } of found) {
    const clean = cleanSplits(task, data, seed);
    makeFolder(join(whole.path, task.folder));
    for (const split of SPLITS) {
      const content = clean.rows[split].map(({ row }) => JSON.stringify(row)).join(',\n');
      writeWhole(join(whole.path, task.folder, `${split}.json`), `[\n${content}\n]\n`);
    }
    tasks[task.name] = describeBuild(folder, data, clean);
    const { left } = clean;
    rows.push([
      task.name,
      SPLITS.map((split) => data[split].rows.length + data[split].bad.length).join('/'),
      SPLITS.map((split) => clean.rows[split].length).join('/'),
      left.duplicates,
      left.contradictions,
      left.unbalanced,
      left.bad,
    ]);
    const absent = SPLITS.filter((split) => data[split].file === null);
    if (absent.length > 0) {
      output.note(
        `${task.name}: ${dir} has no ${absent.join(', ')} file; its splits come from the other rows`,
      );
    }
    const empty = SPLITS.filter((split) => clean.rows[split].length === 0);
    if (empty.length > 0) output.note(`${task.name}: no rows left for ${empty.join(', ')}`);
  }
  const manifest = { format: BUILD_FORMAT, neurgrad: version, source: dir, seed, tasks };
  writeWhole(join(whole.path, 'manifest.json'), `${toJson(manifest, 1)}\n`);
  if (!earlier) whole.keep();
  else if (!sameFiles(whole.path, out))
    throw new UserError(
      'out',
      `--out ${out}: holds other splits, or is no longer as it was made; name another folder`,
    );
  output.result(manifest, () =>
    [
      table(
        ['task', 'rows there', 'clean splits', 'duplicates', 'contradictions', 'to balance', 'bad'],
        rows,
      ),
      `${earlier ? 'found' : 'wrote'} ${out}: train/valid/test of ${found.length} tasks and manifest.json, seed ${seed}`,
    ].join('\n'),
  );
}

/** Whether a folder is what an earlier call has made: the same again is no mistake. */
function holdsBuild(folder: string): boolean {
  try {
    return JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8'))?.format === BUILD_FORMAT;
  } catch {
    return false;
  }
}

/** Whether two folders hold the same; one with what cannot be read, such as names that are no UTF-8, is not as it was made. */
function sameFiles(one: string, other: string): boolean {
  try {
    return comparesEqual(one, other);
  } catch (cause) {
    if (!(cause as NodeJS.ErrnoException).code) throw cause;
    return false;
  }
}

function comparesEqual(one: string, other: string): boolean {
  const files = (folder: string): string[] =>
    readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => !entry.isDirectory())
      .map((entry) => relative(folder, join(entry.parentPath, entry.name)))
      .sort();
  const names = files(one);
  return (
    names.join('\n') === files(other).join('\n') &&
    names.every((name) => readFileSync(join(one, name)).equals(readFileSync(join(other, name))))
  );
}

function describeBuild(folder: string, data: TaskData, clean: CleanSplits): unknown {
  const source = ({ file, rows, bad }: SplitRows) =>
    file === null
      ? null
      : {
          file,
          rows: rows.length + bad.length,
          sha256: fileHash(join(folder, file)),
          bad: bad.slice(0, 100),
        };
  return {
    sources: {
      train: source(data.train),
      valid: source(data.valid),
      test: source(data.test),
    },
    rows: Object.fromEntries(SPLITS.map((split) => [split, clean.rows[split].length])),
    left: clean.left,
  };
}
