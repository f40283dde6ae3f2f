/** The properties of a run's skill neurons: properties/TASK.json and .parquet in its folder, their tables and figures. */

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import * as v from 'valibot';
import { makeFolder, writeWhole } from '../engine/disk.ts';
import { checkJson } from '../models/json.ts';
import { readSealedJson, SEALED, sealJson } from '../models/seal.ts';
import { UserError } from '../neurgrad/index.ts';
import { listFolder } from '../neurgrad/study/textFile.ts';
import { PROPERTIES, type Property, type PropertyRow } from '../probing/index.ts';
import { accuraciesFigure, accuracyBySize } from './figures/accuracy.ts';
import { type FigureBook, fileName } from './figures/book.ts';
import type { Figure } from './figures/figure.ts';
import { LIGHT } from './figures/palette.ts';
import { type Html, html, raw } from './html.ts';
import { toJson } from './output.ts';
import { between, chance, counted, share, type TaskProperties, type TextTable } from './probeTable.ts';
import { destinationOf, openRows } from './results.ts';
import type { RowSchema } from './rows.ts';
import { figure } from './table.ts';

const FORMAT: TaskProperties['format'] = 'neurgrad probe properties 1';

const natural = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const interval = v.nullable(v.tuple([v.number(), v.number()]));
const row = v.object({
  property: v.picklist(PROPERTIES),
  prober: v.string(),
  which: v.string(),
  size: natural,
  measure: v.picklist(['accuracy', 'kept', 'change']),
  value: v.number(),
  interval,
  chance: interval,
  p: v.nullable(v.number()),
});
const document = v.object({
  format: v.literal(FORMAT),
  run: v.string(),
  task: v.string(),
  neurons: natural,
  // Words that neurons were chosen by.
  chosen: v.string(),
  estimator: v.optional(v.string()),
  prompts: v.object({ train: natural, valid: natural, test: natural }),
  permutations: natural,
  draws: natural,
  rand: v.number(),
  rows: v.array(row),
});

const SCHEMA: RowSchema = {
  format: FORMAT,
  columns: {
    ...({
      model: 'text',
      task: 'text',
      property: 'text',
      prober: 'text',
      which: 'text',
      size: 'whole',
    } as const),
    ...({ measure: 'text', value: 'number', low: 'number', high: 'number' } as const),
    ...({ chance_low: 'number', chance_high: 'number', p: 'number', test_prompts: 'whole' } as const),
  },
};

const FOLDER = 'properties';

/** Writes both files. @returns where the table is. */
export function writeProperties(
  folder: string,
  model: string,
  found: Omit<TaskProperties, 'format'>,
): string {
  makeFolder(join(folder, FOLDER));
  const { task, rows, prompts } = found;
  const path = join(folder, FOLDER, `${task}.parquet`);
  using sink = openRows(destinationOf({ out: path }, { many: false }), SCHEMA, () => ({}))!;
  sink.put(0, [
    {
      count: rows.length,
      same: { model, task, test_prompts: prompts.test },
      each: {
        ...Object.fromEntries(
          (['property', 'prober', 'which', 'size', 'measure', 'value', 'p'] as const).map((name) => [
            name,
            rows.map((each) => each[name]),
          ]),
        ),
        low: rows.map((each) => each.interval?.[0] ?? null),
        high: rows.map((each) => each.interval?.[1] ?? null),
        chance_low: rows.map((each) => each.chance?.[0] ?? null),
        chance_high: rows.map((each) => each.chance?.[1] ?? null),
      },
    },
  ]);
  sink.end();
  writeWhole(
    join(folder, FOLDER, `${task}.json`),
    sealJson(`${toJson({ ...SEALED, format: FORMAT, ...found }, 1)}\n`),
  );
  return path;
}

/** What was measured of a run's tasks. @throws UserError for a file that is of another run, DamagedFile for one that was changed. */
export function readProperties(folder: string, run: string): TaskProperties[] {
  const files = existsSync(join(folder, FOLDER)) ? listFolder(join(folder, FOLDER)) : [];
  return files
    .filter((name) => name.endsWith('.json'))
    .sort()
    .map((name) => {
      const path = join(folder, FOLDER, name);
      const found = checkJson(document, readSealedJson(path, 'out'), path, 'out');
      if (found.run !== run || `${found.task}.json` !== name)
        throw new UserError('out', `${path}: is not of this run; remove it`);
      return found;
    });
}

const signed = (value: number): string => `${value < 0 ? '−' : '+'}${figure(Math.abs(value), 3)}`;
const ends = (interval: PropertyRow['interval'], measure: PropertyRow['measure']): string =>
  measure === 'change' && interval ? interval.map(signed).join(' to ') : between(interval);

/** One property's rows as text. */
export function propertyTable({ rows }: TaskProperties, property: Property): TextTable {
  return {
    head: ['prober', 'neurons', '|N_s|', 'measure', 'value', '95%', 'chance 95%', 'p'],
    rows: rows
      .filter((each) => each.property === property)
      .map(({ prober, which, size, measure, value, interval, chance: by, p }) => [
        ...[prober, which, String(size), measure, measure === 'change' ? signed(value) : share(value)],
        ...[ends(interval, measure), ends(by, measure), p === null ? '–' : chance(p)],
      ]),
  };
}

/** What the rows of each property say, and what chance is there. */
export const ABOUT: Readonly<Record<Property, string>> = {
  efficiency:
    'Accuracy on test of the first |N_s| neurons of the ranking, fitted alone. Chance: the same with the labels of every split permuted.',
  robustness:
    'What was fitted in the run answers test prompts with other demonstrations or another instruction (accuracy; chance: permuted labels); kept: share of its neurons that are chosen again there (chance: two sets drawn apart).',
  flexibility:
    'The ranking cut into disjoint sets of one size, each fitted alone. Chance: random sets of that size, so p says whether a set is better than any.',
  interdependency:
    'Change of the right candidate’s share of the candidates’ probability with half of the skill neurons held at zero at the probe position, with the other half, with both; and what both do beyond the sum of each. Chance: random neurons of the same layers.',
};

const COLOURS = [LIGHT.negative, LIGHT.positive, LIGHT.muted, LIGHT.ink] as const;

/** How many, and what the intervals are. @param chance how many draws of what the grey is of. */
const tested = (
  { prompts }: TaskProperties,
  chance: [count: number, of: string],
): { n: string; interval: string } => ({
  n: `n = ${counted(prompts.test, 'test prompt')}`,
  interval: `Intervals: 95% over test prompts${chance[0] > 0 ? `; grey: middle 95% of ${counted(...chance)}` : ''}`,
});

function efficiencyFigure(found: TaskProperties): Figure {
  const rows = found.rows.filter(({ property }) => property === 'efficiency');
  const probers = [...new Set(rows.map(({ prober }) => prober))];
  return accuracyBySize(
    {
      name: fileName(found.task, 'efficiency'),
      label: `${found.task}: accuracy by the number of skill neurons, beside chance`,
      caption: `${found.task}, efficiency: accuracy on test of the first |N_s| neurons of the ranking, fitted alone`,
      ...tested(found, [found.permutations, 'permutation']),
    },
    probers.map((prober, i) => ({
      name: prober,
      colour: COLOURS[i % COLOURS.length]!,
      points: rows
        .filter((each) => each.prober === prober)
        .map(({ size, value, interval, chance }) => ({ size, accuracy: value, interval, chance })),
    })),
    { guessing: found.rand },
  );
}

/** Values of a property with their intervals, one after the other, chance behind them. */
function setsFigure(found: TaskProperties, property: 'robustness' | 'flexibility'): Figure {
  const rows = found.rows.filter((each) => each.property === property && each.measure === 'accuracy');
  const sets = property === 'flexibility';
  return accuraciesFigure(
    {
      name: fileName(found.task, property),
      label: `${found.task}: ${sets ? 'disjoint sets' : 'other demonstrations and instructions'}`,
      caption: `${found.task}, ${property}: accuracy ${sets ? 'of disjoint sets of neurons, each fitted alone' : 'with other demonstrations or another instruction'}`,
      ...tested(found, sets ? [found.draws, 'random set'] : [found.permutations, 'permutation']),
    },
    rows.map(({ prober, which, value, interval, chance }) => ({
      ...{ name: `${prober} ${which}`, accuracy: value, interval, chance },
    })),
    found.rand,
    sets ? 'random sets' : 'permuted labels',
  );
}

/** What chance leaves of a task's properties, in one sentence. */
export function propertiesRemark({ task, rows, prompts, chosen, estimator }: TaskProperties): string {
  const asked = rows.filter(({ property, p }) => property === 'efficiency' && p !== null);
  const beyond = asked.filter(({ p }) => p! < 0.05).length;
  const many = `${beyond} of ${counted(asked.length, 'number')} of neurons ${beyond === 1 ? 'is' : 'are'} better than permuted labels (p below 0.05, none corrected for their number)`;
  return [
    asked.length === 0
      ? `${task}: no permutations, so nothing is tested against chance.`
      : beyond === 0
        ? `${task}: at chance level; no number of neurons is better than permuted labels on ${counted(prompts.test, 'test prompt')}, and what follows describes noise.`
        : `${task}: ${many}, on ${counted(prompts.test, 'test prompt')}.`,
    ...(estimator === undefined ? [] : [`Probers learnt from the estimates of ${estimator}.`]),
    ...(/\b(magn|polar):/.test(chosen)
      ? [
          `The neurons were chosen (${chosen}) by the labels of train, which makes chance look worse than it is.`,
        ]
      : []),
  ].join(' ');
}

/** The properties on a run's page. @param table of the page. */
export function propertySections(
  all: readonly TaskProperties[],
  table: (of: TextTable) => Html,
  figures: FigureBook,
): Html {
  return html`${all.map(
    (found) => html`<section>
<h2>${found.task}: what its skill neurons are like</h2>
<p>${propertiesRemark(found)}</p>
<div class="pair">
${figures.show(efficiencyFigure(found))}
${figures.show(setsFigure(found, 'flexibility'))}
${found.rows.some(({ property }) => property === 'robustness') ? figures.show(setsFigure(found, 'robustness')) : raw('')}
</div>
${PROPERTIES.map((property) => {
  const of = propertyTable(found, property);
  return of.rows.length === 0
    ? raw('')
    : html`<h3>${property[0]!.toUpperCase() + property.slice(1)}</h3><p>${ABOUT[property]}</p>${table(of)}`;
})}
</section>`,
  )}`;
}
