/**
 * What the results page says of a model, as data: `docs/results/NAME.json`. The page is drawn from these files alone, so that a model measured
 * elsewhere joins by one file. Only what the page shows is kept; pairs, curves and answers stay in the run's folder.
 */

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { ProbeSummary } from '../../cli/probeTable.ts';
import { writeWhole } from '../../engine/disk.ts';
import { UserError } from '../../engine/errors.ts';
import type { StudyEstimate } from '../../neurgrad/study/estimate.ts';
import { StudyFolder } from '../../neurgrad/study/folder.ts';
import { modelName } from '../../neurgrad/study/paper.ts';
import { type StudySummary, summarise } from '../../neurgrad/study/summary.ts';
import { readTextFile } from '../../neurgrad/study/textFile.ts';

/** The studies of a model, in the order in which they are run. */
export const STUDIES = ['figure', 'table', 'integrated'] as const;
export type StudyName = (typeof STUDIES)[number];

/** What is measured of a model, each by a command of its own. */
export const PARTS = [...STUDIES, 'probe'] as const;
export type Part = (typeof PARTS)[number];

/** Where and when a part was last gone on with. */
export interface Occasion {
  /** ISO 8601, UTC, a day. */
  readonly date: string;
  /** Of this repository; with a + where files were changed since. */
  readonly commit: string;
  readonly cores: number;
}

export type Occasions = Readonly<Partial<Record<Part, Occasion>>>;

/** Everything that the page says of a model. */
export interface Entry {
  readonly name: string;
  readonly occasions: Occasions;
  /** Of the whole table, timed here before it was begun; null where it was not. */
  readonly estimate: StudyEstimate | null;
  readonly studies: Readonly<Record<StudyName, StudySummary | null>>;
  readonly probe: ProbeSummary | null;
  /** Figures beside the file, `NAME-FIGURE.svg`. */
  readonly figures: readonly string[];
}

/** A model's name on the page and in file names: the last part of its source, without the ending of a file. */
export const entryName = (source: string): string => modelName(source).replace(/\.gguf$/i, '');

/**
 * What a run's folder holds so far; what it does not hold, of the entry that was there before, so that parts can be measured on several machines.
 * @throws UserError where no study of Tables 1 and 2 has a prompt.
 */
export async function collectEntry(
  folder: string,
  name: string,
  before: Entry | null = null,
): Promise<Entry> {
  const measured = {
    figure: await readStudy(join(folder, 'figure')),
    table: await readStudy(join(folder, 'table')),
    integrated: await readStudy(join(folder, 'integrated')),
    probe: readProbe(join(folder, 'probe', 'summary.json')),
  };
  const here = readOccasions(folder);
  const occasions: Partial<Record<Part, Occasion>> = {};
  for (const part of PARTS) {
    const occasion = measured[part] ? here[part] : before?.occasions[part];
    if (occasion) occasions[part] = occasion;
  }
  const studyOf = (part: StudyName): StudySummary | null => measured[part] ?? before?.studies[part] ?? null;
  const studies = { figure: studyOf('figure'), table: studyOf('table'), integrated: studyOf('integrated') };
  if (!studies.table)
    throw new UserError('results', `${join(folder, 'table')}: no prompt is done yet; run the model first`);
  return {
    ...{ name, occasions },
    estimate:
      (measured.table && readJson<StudyEstimate>(join(folder, 'estimate.json'))) ?? before?.estimate ?? null,
    studies,
    probe: measured.probe ?? before?.probe ?? null,
    figures: [],
  };
}

const occasionsFile = (folder: string): string => join(folder, 'occasions.json');

const readOccasions = (folder: string): Occasions => readJson<Occasions>(occasionsFile(folder)) ?? {};

/** Writes down that a part is gone on with. */
export const writeOccasion = (folder: string, part: Part, occasion: Occasion): void =>
  writeWhole(occasionsFile(folder), `${JSON.stringify({ ...readOccasions(folder), [part]: occasion })}\n`);

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
