/**
 * What the results page says of a model, as data: `docs/results/NAME.json`. The page is drawn from these files alone, so that a model measured
 * elsewhere joins by one file. Only what the page shows is kept; pairs, curves and answers stay in the run's folder.
 */

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { ProbeSummary } from '../../cli/probeTable.ts';
import { UserError } from '../../engine/errors.ts';
import type { StudyEstimate } from '../../neurgrad/study/estimate.ts';
import { StudyFolder } from '../../neurgrad/study/folder.ts';
import { modelName } from '../../neurgrad/study/paper.ts';
import { type StudySummary, summarise } from '../../neurgrad/study/summary.ts';
import { readTextFile } from '../../neurgrad/study/textFile.ts';

/** The studies of a model, in the order in which they are run. */
export const STUDIES = ['figure', 'table', 'integrated'] as const;
export type StudyName = (typeof STUDIES)[number];

/** Where and when a model was measured. */
export interface Occasion {
  /** ISO 8601, UTC, a day. */
  readonly date: string;
  /** Of this repository; with a + where files were changed since. */
  readonly commit: string;
  readonly cores: number;
}

/** Everything that the page says of a model. */
export interface Entry extends Occasion {
  readonly name: string;
  /** Of the whole table, timed here before it was begun; null where it was not. */
  readonly estimate: StudyEstimate | null;
  readonly studies: Readonly<Record<StudyName, StudySummary | null>>;
  readonly probe: ProbeSummary | null;
  /** Figures beside the file, `NAME-FIGURE.svg`. */
  readonly figures: readonly string[];
}

/** A model's name on the page and in file names: the last part of its source, without the ending of a file. */
export const entryName = (source: string): string => modelName(source).replace(/\.gguf$/i, '');

/** What a run's folder holds so far. @throws UserError where no study has a prompt. */
export async function collectEntry(folder: string, name: string): Promise<Entry> {
  const studies = {
    figure: await readStudy(join(folder, 'figure')),
    table: await readStudy(join(folder, 'table')),
    integrated: await readStudy(join(folder, 'integrated')),
  };
  const occasion = readJson<Occasion>(join(folder, 'occasion.json'));
  if (!studies.table || !occasion)
    throw new UserError('results', `${join(folder, 'table')}: no prompt is done yet; run the model first`);
  return {
    ...{ name, ...occasion },
    estimate: readJson<StudyEstimate>(join(folder, 'estimate.json')),
    studies,
    probe: readProbe(join(folder, 'probe', 'summary.json')),
    figures: [],
  };
}

/** As the entry's file: a correlation that there is none of is written as a text. */
export const writeEntry = (entry: Entry): string =>
  `${JSON.stringify(withoutPairs(entry), (_, value) => (Number.isNaN(value) ? 'NaN' : value), 1)}\n`;

/** @throws UserError where the file cannot be read. */
export const readEntry = (path: string): Entry =>
  JSON.parse(readTextFile(path), (_, value) => (value === 'NaN' ? Number.NaN : value)) as Entry;

/** Pairs are for the figures alone. */
function withoutPairs(entry: Entry): Entry {
  const of = (study: StudySummary | null): StudySummary | null =>
    study && { ...study, models: study.models.map((model) => ({ ...model, pairs: [] })) };
  const { figure, table, integrated } = entry.studies;
  return { ...entry, studies: { figure: of(figure), table: of(table), integrated: of(integrated) } };
}

const readJson = <Value>(path: string): Value | null =>
  existsSync(path) ? (JSON.parse(readTextFile(path)) as Value) : null;

/** A study as far as it is done; null where no prompt is. */
async function readStudy(folder: string): Promise<StudySummary | null> {
  if (!existsSync(join(folder, 'manifest.json'))) return null;
  try {
    const summary = await summarise([StudyFolder.read(folder)], { partial: true });
    return {
      ...summary,
      models: summary.models.map((model) => ({ ...model, examples: [], layers: [] })),
    };
  } catch (error) {
    if (error instanceof UserError && error.code === 'report') return null;
    throw error;
  }
}

function readProbe(path: string): ProbeSummary | null {
  const summary = readJson<ProbeSummary>(path);
  if (!summary) return null;
  const nothing = { predictions: [], layers: [], neurons: [], sizes: [], valid: [], test: [] };
  return {
    ...summary,
    tasks: summary.tasks.map((task) => ({
      ...task,
      gold: [],
      lmProb: { ...task.lmProb, predictions: [] },
      act: { ...task.act, ...nothing, null: null },
      polar: { ...task.polar, ...nothing, null: task.polar.null && { ...task.polar.null, accuracies: [] } },
      magn: { ...task.magn, ...nothing, null: task.magn.null && { ...task.magn.null, accuracies: [] } },
    })),
  };
}
