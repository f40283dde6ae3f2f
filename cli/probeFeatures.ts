/** A finished run's prompts read again for some of its neurons: the same model and questions as then, or none. */

import { existsSync } from 'node:fs';
import { basename, extname } from 'node:path';
import { Option } from 'commander';
import { ESTIMATORS, type Estimator, flatIndex, UserError } from '../neurgrad/index.ts';
import { hashFiles, isWeightFile } from '../neurgrad/study/folder.ts';
import { loadProber, recordTask, SPLITS, type TaskPlan, type TaskRecord } from '../probing/index.ts';
import { readSelection } from './neurons.ts';
import { digestOfWritten, readManifest } from './probeFiles.ts';
import { planTasks } from './probePlan.ts';
import { proberPath } from './probeRun.ts';
import type { ProbeManifest } from './probeTable.ts';
import { type ModelCard, readModelCard } from './session.ts';

/** Which of a run's tasks, and where its model and questions are by now. */
export interface RunAgain {
  /** The run's folder. */
  readonly run: string;
  readonly task?: string;
  /** Default what the run was of. */
  readonly model?: string;
  readonly data?: string;
}

/** A task of a run, as it was asked. */
export interface TaskAgain {
  readonly manifest: ProbeManifest;
  readonly record: TaskRecord;
  readonly plan: TaskPlan;
  readonly card: ModelCard;
  /** The same questions with other demonstrations or another instruction. */
  readonly replan: (settings: ProbeManifest['settings'], instruction?: string) => Promise<TaskPlan>;
}

/**
 * Plans a task of a run anew.
 * @throws UserError where model or questions are no longer those of the run, or are not there.
 */
export async function planAgain(
  { run, task: wanted, model, data }: RunAgain,
  note: (text: string) => void,
): Promise<TaskAgain> {
  const manifest = readManifest(run);
  const names = manifest.tasks.map(({ task }) => task);
  const task = wanted ?? (names.length === 1 ? names[0]! : undefined);
  if (task === undefined)
    throw new UserError(
      'task',
      `--run ${run}: has ${names.length} tasks; name one: --task ${names.join(', ')}`,
    );
  const record = manifest.tasks.find((each) => each.task === task);
  if (!record) throw new UserError('task', `--task ${task}: the run has ${names.join(', ')}`);
  const card = await readModelCard(model ?? manifest.model.name);
  const weights = hashFiles(card.folder.name, isWeightFile);
  if (digestOfWritten(weights) !== digestOfWritten(manifest.model.sha256))
    throw new UserError('model', `${card.folder.name}: has other weights than the model of ${run}`);
  const own = manifest.data.own?.find((path) => basename(path, extname(path)) === task);
  const { settings } = manifest;
  const source = own
    ? { tasks: '', taskFile: [data ?? own] }
    : { data: data ?? manifest.data.folder, tasks: task, taskFile: [] };
  const { plans, clean, leaks } = await planTasks(
    card,
    { ...source, splits: settings.splits },
    settings,
    note,
  );
  const plan = plans[0]!;
  const found = recordTask(plan, card.tokenizer, clean.get(task), leaks.get(task));
  if (digestOfWritten(found) !== digestOfWritten(record))
    throw new UserError(
      'data',
      `${data ?? own ?? manifest.data.folder}: ${task} has other questions than ${run} was of`,
    );
  return {
    manifest,
    record,
    plan,
    card,
    async replan(other, instruction) {
      const again = await planTasks(card, { ...source, splits: other.splits }, other, () => {}, instruction);
      return again.plans[0]!;
    },
  };
}

/** What is read of the neurons: a name of {@link ESTIMATORS}. */
export const estimatorOption = () =>
  new Option(
    '--estimator <name>',
    'what of a neuron is read for each candidate; default its gradient by the conventions of the run',
  ).choices(ESTIMATORS.map(({ name }) => name));

/** The estimator of {@link estimatorOption}. */
export const estimatorOf = (name: string | undefined): Estimator | undefined =>
  ESTIMATORS.find((estimator) => estimator.name === name);

/** Numbers that are held at once, 4 bytes each. */
const MOST = 2 ** 28;

/** @throws UserError where features of so many neurons are more than is held at once. */
export function checkHeld({ prompts, candidates }: TaskPlan, neurons: number): void {
  const all = SPLITS.reduce((sum, split) => sum + prompts[split].length, 0);
  const each = all * (candidates.length + 1);
  if (each * neurons > MOST)
    throw new UserError(
      'memory',
      `${neurons} neurons of ${all} prompts are more than is held at once; choose some: --neurons random:${Math.floor(MOST / each)}`,
    );
}

const RANKED = /^(polar|magn):(\d+)$/;

/**
 * Flat indices of neurons: `magn:256` and `polar:256`, the first of what the run's prober ranks, or names as everywhere.
 * @throws UserError for neurons that there are not, or at another site than the run's.
 */
export async function neuronsOfRun(
  words: string,
  run: string,
  { manifest, record, card }: Pick<TaskAgain, 'manifest' | 'record' | 'card'>,
): Promise<number[]> {
  const { site, seed } = manifest.settings;
  const chosen: number[] = [];
  const named: string[] = [];
  for (const word of words.split(/[\s,]+/).filter((each) => each !== '')) {
    const [, kind, text] = RANKED.exec(word) ?? [];
    if (kind === undefined) {
      named.push(word);
      continue;
    }
    const path = proberPath(run, record.task, kind);
    if (!existsSync(`${path}.json`))
      throw new UserError('out', `${run}: has no prober of ${record.task} yet; run it to its end first`);
    const { ranking } = (await loadProber(path)).prober;
    const count = Number(text);
    if (count < 1 || count > ranking.length)
      throw new UserError(
        'neuron',
        `${word}: the model has ${ranking.length} neurons, so 1 to ${ranking.length}`,
      );
    chosen.push(...ranking.subarray(0, count));
  }
  if (named.length > 0) {
    const selection = readSelection(named.join(','), card, { site, seed });
    if (selection.ranked)
      throw new UserError(
        'neuron',
        '--neurons: top and bottom are of one prompt; write magn:256 or polar:256 for the best of a prober',
      );
    for (const neuron of selection.neurons()) {
      if (neuron.site !== site)
        throw new UserError('neuron', `--neurons: the run is of site ${site}, not ${neuron.site}`);
      chosen.push(flatIndex(neuron, card.sizes.width));
    }
  }
  if (chosen.length === 0) throw new UserError('neuron', '--neurons: names none');
  return [...new Set(chosen)];
}
