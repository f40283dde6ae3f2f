/** The prompts of a probing run: from a data set's tasks and from files of one's own. */

import { basename, join } from 'node:path';
import { UserError } from '../neurgrad/index.ts';
import { fileHash } from '../neurgrad/study/folder.ts';
import {
  auditTask,
  type CleanSplits,
  cleanSplits,
  countProblems,
  leakShare,
  type ProbeSettings,
  parseTasks,
  planTask,
  readOwnTask,
  readTask,
  SPLITS,
  type Split,
  type Task,
  type TaskData,
  type TaskPlan,
} from '../probing/index.ts';
import { openData } from './commands/data.ts';
import { startProgress } from './progress.ts';
import type { ModelCard } from './session.ts';

/** Where questions come from. */
export interface RunSource {
  readonly data?: string;
  /** Of the data set: all, or names. */
  readonly tasks: string;
  /** Files of one's own. */
  readonly taskFile: readonly string[];
  readonly splits: 'released' | 'clean';
}

/** Tasks with their prompts, and what is known of their data. */
export interface Planned {
  readonly plans: TaskPlan[];
  readonly skipped: { task: string; reason: string }[];
  readonly files: Record<string, string>;
  /** By task, where splits are made clean. */
  readonly clean: Map<string, CleanSplits['left']>;
  /** By task, where they are not: share of the test rows that stand in train. */
  readonly leaks: Map<string, number>;
}

/** A task with its rows, and the hashes of their files. */
interface Asked {
  readonly name: string;
  readonly read: () => Promise<{ task: Task; data: TaskData; files: Record<string, string> }>;
}

/** Tasks of the data set, and those of one's own files. A file that is not as it should be is its author's to mend: an error. */
async function questionsOfRun({ data: source, tasks, taskFile: own, splits }: RunSource): Promise<Asked[]> {
  if (source === undefined && own.length === 0)
    throw new UserError(
      'data',
      'give --data, a folder or Hub data set, or --task-file, a file of your own questions',
    );
  const asked: Asked[] = [];
  if (source !== undefined) {
    const folder = await openData(source);
    for (const task of parseTasks(tasks))
      asked.push({
        name: task.name,
        async read() {
          const data = await readTask(folder, task);
          if (!data) throw new UserError('data', `${task.name}: ${source} has no files of it`);
          const found = SPLITS.flatMap((split) => data[split].file ?? []);
          const files = Object.fromEntries(found.map((file) => [file, fileHash(join(folder.name, file))]));
          return { task, data, files };
        },
      });
  }
  for (const path of own) {
    const { task, data, split } = await readOwnTask(path);
    if (asked.some(({ name }) => name === task.name))
      throw new UserError(
        'task',
        `--task-file ${path}: two files are named ${task.name}; rename one of them`,
      );
    if (splits === 'released' && !split)
      throw new UserError('data', `${path}: its rows have no split; --splits clean makes splits`);
    const files = { [basename(path)]: fileHash(path) };
    asked.push({ name: task.name, read: async () => ({ task, data, files }) });
  }
  return asked;
}

/**
 * Plans all tasks; one that cannot be run is told and left out, and none at all is an error.
 * @param instruction in place of the tasks' own, in every language.
 */
export async function planTasks(
  card: ModelCard,
  options: RunSource,
  settings: ProbeSettings,
  note: (text: string) => void,
  instruction?: string,
): Promise<Planned> {
  const planned: Planned = { plans: [], skipped: [], files: {}, clean: new Map(), leaks: new Map() };
  const wanted = await questionsOfRun(options);
  const progress = startProgress('prompts', 'tasks');
  let first: UserError | undefined;
  for (const [i, { name, read }] of wanted.entries()) {
    try {
      const { task: asked, data, files } = await read();
      const task = instruction === undefined ? asked : instructed(asked, instruction);
      const clean = settings.splits === 'clean' ? cleanSplits(task, data, settings.seed) : null;
      const rows = clean?.rows ?? { train: data.train.rows, valid: data.valid.rows, test: data.test.rows };
      const plan = planTask(card, card.tokenizer, task, rows, settings);
      if (clean) planned.clean.set(task.name, clean.left);
      else planned.leaks.set(task.name, leakShare(auditTask(task, data), 'test', 'train'));
      planned.plans.push(withBadRows(plan, data));
      Object.assign(planned.files, files);
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      first ??= error;
      planned.skipped.push({ task: name, reason: error.message });
    }
    progress.update(i + 1, wanted.length);
  }
  progress.stop();
  if (planned.plans.length === 0) throw first!;
  for (const { reason } of planned.skipped) note(`not run: ${reason}`);
  return planned;
}

function instructed(task: Task, instruction: string): Task {
  const wording = Object.entries(task.wording).map(([language, words]) => [
    language,
    { ...words, instruction },
  ]);
  return { ...task, wording: Object.fromEntries(wording) };
}

/** Rows that are no question stand in the account beside those that make no prompt. */
function withBadRows(plan: TaskPlan, data: TaskData): TaskPlan {
  const left = (split: Split) => [...countProblems(data[split].bad), ...plan.left[split]];
  return { ...plan, left: { train: left('train'), valid: left('valid'), test: left('test') } };
}
