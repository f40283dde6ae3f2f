/**
 * A probing run's folder: manifest.json (what decides its numbers, and what a task's parts mean), parts/ of the task that is
 * being read, tasks/ and probers/ of those that are done, summary.json, tables/table3.md and report.html. Started again with the same manifest, a run goes on.
 */

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { checkFolder, makeFolder, putInPlace, remove, sweepLitter } from '../engine/disk.ts';
import { Lock } from '../engine/lock.ts';
import { DamagedFile } from '../models/seal.ts';
import { mean, UserError } from '../neurgrad/index.ts';
import type { Shard } from '../neurgrad/study/shard.ts';
import { lockShare } from '../neurgrad/study/shareLock.ts';
import { listFolder } from '../neurgrad/study/textFile.ts';
import {
  evaluateParts,
  KINDS,
  loadProber,
  missingUnits,
  PAPER,
  PAPER_MACRO,
  type ProberAbout,
  partsFolder,
  saveProber,
  type TaskReport,
  taskMeans,
} from '../probing/index.ts';
import { toJson } from './output.ts';
import {
  decisive,
  digestOfWritten,
  hasManifest,
  readManifest,
  readTaskReport,
  runDigest,
  taskFile,
  writeManifest,
  writeTask,
} from './probeFiles.ts';
import { readMethods } from './probeMethods.ts';
import { readProperties } from './probeProperties.ts';
import { renderProbeReport } from './probeReport.ts';
import { markdown, type ProbeManifest, type ProbeSummary } from './probeTable.ts';
import { writePage } from './reportPage.ts';

/** Makes a run's folder, sees that it can be written, and takes the lock on a share of it. @throws UserError */
export function lockRun(folder: string, shard: Shard): Lock {
  checkFolder(folder);
  const lock = lockShare(folder, shard);
  sweepLitter(folder, { levels: 3, alone: shard.count === 1 });
  return lock;
}

/** The lock for putting together what shards have read, some of which may still be at work. @throws UserError */
export function lockReport(folder: string): Lock {
  readManifest(folder);
  const lock = Lock.take(join(folder, 'lock-1-of-1.json'), folder);
  sweepLitter(folder, { levels: 3 });
  return lock;
}

/**
 * Starts a run or goes on with it, under its lock.
 * @throws UserError where the folder holds a run of other settings, model or data.
 */
export function openRun(folder: string, manifest: ProbeManifest): void {
  if (hasManifest(folder)) {
    const there = readManifest(folder);
    const [before, now] = [decisive(there), decisive(manifest)];
    const other = (Object.keys(now) as (keyof typeof now)[]).filter(
      (part) => digestOfWritten(before[part]) !== digestOfWritten(now[part]),
    );
    if (other.length === 0) return;
    throw new UserError(
      'out',
      `--out ${folder}: holds a run of other ${other.join(', ')}; go on with the same options or choose another folder`,
    );
  }
  makeFolder(folder);
  writeManifest(folder, manifest);
}

/**
 * Tasks whose results and probers are there. Damaged ones are moved aside, so that the task is done again.
 * @param note is told of each.
 */
export async function finishedTasks(
  folder: string,
  note: (text: string) => void,
): Promise<ReadonlySet<string>> {
  const manifest = readManifest(folder);
  const finished = new Set<string>();
  for (const { task } of manifest.tasks) {
    if (!existsSync(taskFile(folder, task))) continue;
    try {
      readTaskReport(folder, task, manifest);
      for (const kind of KINDS) await loadProber(proberPath(folder, task, kind.name));
      finished.add(task);
    } catch (error) {
      if (!(error instanceof DamagedFile)) throw error;
      putInPlace(error.path, `${error.path}.damaged`);
      remove(taskFile(folder, task));
      note(`${error.message}; doing ${task} again`);
    }
  }
  return finished;
}

/** Where a task's fitted prober is, without its endings. */
export const proberPath = (folder: string, task: string, kind: string): string =>
  join(folder, 'probers', `${task}-${kind}`);

/**
 * Evaluates a task whose parts are complete, keeps results and probers, and drops the parts unless they are to be kept.
 * @returns null where units are missing, and how many.
 */
export async function finishTask(
  folder: string,
  name: string,
  keepParts: boolean,
): Promise<{ readonly report: TaskReport | null; readonly missing: number }> {
  const manifest = readManifest(folder);
  const path = taskFile(folder, name);
  const drop = (): void => {
    if (!keepParts) remove(partsFolder(folder, name));
  };
  if (existsSync(path)) {
    const report = readTaskReport(folder, name, manifest);
    // A kill may have come between the two.
    drop();
    return { report, missing: 0 };
  }
  const { settings, model, tasks } = manifest;
  const record = tasks.find(({ task }) => task === name)!;
  const run = runDigest(manifest);
  const advised = (error: unknown): never => {
    if (!(error instanceof DamagedFile)) throw error;
    const advice = '"neurgrad probe run" with the options of this run reads it again';
    throw new UserError('out', `${error.message}; ${advice}`, { cause: error });
  };
  const neurons = model.layers * model.width;
  const missing = await missingUnits(record, neurons, settings, folder, run).catch(advised);
  if (missing > 0) return { report: null, missing };
  const { report, probers } = await evaluateParts(record, model, settings, folder, run).catch(advised);
  makeFolder(join(folder, 'probers'));
  for (const kind of KINDS) {
    const { size, accuracy } = report[kind.name];
    const { site, of, direction, sign, variant } = settings;
    const about: ProberAbout = {
      format: 'neurgrad prober 1',
      ...{ task: name, kind: kind.name, variant, size, accuracy },
      ...{ labels: [...record.labels], candidates: [...record.candidates], contexts: record.contexts },
      ...{ site, of, direction, sign, model },
    };
    const prober = probers[kind.name];
    await saveProber(proberPath(folder, name, kind.name), { about, prober });
  }
  makeFolder(join(folder, 'tasks'));
  writeTask(folder, manifest, report);
  drop();
  // As whoever comes later will find it.
  return { report: readTaskReport(folder, name, manifest), missing: 0 };
}

/**
 * Writes the results of all tasks that are complete.
 * @throws UserError where none is.
 */
export async function finishRun(folder: string, keepParts: boolean): Promise<ProbeSummary> {
  const manifest = readManifest(folder);
  const { settings, model, tasks: records, format: _, ...rest } = manifest;
  const tasks: TaskReport[] = [];
  const incomplete: { task: string; missingUnits: number }[] = [];
  for (const { task } of records) {
    const { report, missing } = await finishTask(folder, task, keepParts);
    if (report) tasks.push(report);
    else incomplete.push({ task, missingUnits: missing });
  }
  if (tasks.length === 0) {
    const units = incomplete.reduce((sum, { missingUnits: count }) => sum + count, 0);
    throw new UserError(
      'out',
      `${folder}: no task is complete, ${units} units are missing; run all shards first`,
    );
  }
  const summary: ProbeSummary = {
    ...rest,
    settings,
    model,
    tasks,
    incomplete,
    macro: taskMeans(tasks, settings.seed),
    spread: await spreadOf(folder, settings, tasks, incomplete, keepParts),
    methods: readMethods(folder, runDigest(manifest)),
    properties: readProperties(folder, runDigest(manifest)),
    paper: { same: paperOf(tasks), all: PAPER_MACRO },
  };
  makeFolder(join(folder, 'tables'));
  await writePage(join(folder, 'report.html'), renderProbeReport(summary), [
    [join(folder, 'summary.json'), `${toJson(summary, 1)}\n`],
    [join(folder, 'tables', 'table3.md'), markdown(summary)],
  ]);
  return summary;
}

/** Folder of the same run with demonstrations of another draw, within its own. */
export const demonstrationsFolder = (folder: string, seed: number): string =>
  join(folder, `demonstrations-${seed}`);

/** Accuracies beside those of runs with other demonstrations; a run that is not complete is told in `incomplete` and left out. */
async function spreadOf(
  folder: string,
  settings: ProbeManifest['settings'],
  tasks: readonly TaskReport[],
  incomplete: { task: string; missingUnits: number }[],
  keepParts: boolean,
): Promise<ProbeSummary['spread']> {
  const seeds = listFolder(folder)
    .flatMap((name) => /^demonstrations-(\d+)$/.exec(name)?.[1] ?? [])
    .map(Number)
    .sort((a, b) => a - b);
  const runs: [seed: number, reports: readonly TaskReport[]][] = [
    [settings.demonstrationSeed ?? settings.seed, tasks],
  ];
  for (const seed of seeds) {
    const reports: TaskReport[] = [];
    for (const { task } of tasks) {
      const { report, missing } = await finishTask(demonstrationsFolder(folder, seed), task, keepParts);
      if (report) reports.push(report);
      else incomplete.push({ task: `${task}, demonstrations ${seed}`, missingUnits: missing });
    }
    if (reports.length === tasks.length) runs.push([seed, reports]);
  }
  if (runs.length === 1) return null;
  return {
    seeds: runs.map(([seed]) => seed),
    tasks: tasks.map(({ task }, t) => {
      const of = (method: 'lmProb' | 'polar' | 'magn') =>
        runs.map(([, reports]) => reports[t]![method].accuracy);
      return { task, lmProb: of('lmProb'), polar: of('polar'), magn: of('magn') };
    }),
  };
}

function paperOf(tasks: readonly TaskReport[]): ProbeSummary['paper']['same'] {
  const rows = tasks.flatMap(({ task }) => PAPER[task] ?? []);
  const of = (method: 'rand' | 'lmProb' | 'polar' | 'magn') => mean(rows.map((row) => row[method]));
  return { rand: of('rand'), lmProb: of('lmProb'), polar: of('polar'), magn: of('magn') };
}
