/** The properties of a run's skill neurons: properties/TASK.json and .parquet in its folder, their tables and figures. */

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import * as Plot from '@observablehq/plot';
import * as v from 'valibot';
import { makeFolder, writeWhole } from '../engine/disk.ts';
import { checkJson } from '../models/json.ts';
import { readSealedJson, SEALED, sealJson } from '../models/seal.ts';
import { UserError } from '../neurgrad/index.ts';
import { listFolder } from '../neurgrad/study/textFile.ts';
import { PROPERTIES, type Property, type PropertyRow } from '../probing/index.ts';
import { type Html, html, raw } from './html.ts';
import { toJson } from './output.ts';
import { accuracyBySize, draw } from './plots.ts';
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

const COLOURS = ['var(--negative)', 'var(--positive)', 'var(--muted)', 'var(--ink)'] as const;

function efficiencyFigure({ task, rows, rand }: TaskProperties): Html {
  const found = rows.filter(({ property }) => property === 'efficiency');
  const probers = [...new Set(found.map(({ prober }) => prober))];
  const colourOf = (prober: string): string => COLOURS[probers.indexOf(prober) % COLOURS.length]!;
  const bands = (of: 'interval' | 'chance') =>
    found.flatMap((each) => (each[of] ? [{ ...each, low: each[of][0], high: each[of][1] }] : []));
  return accuracyBySize(`${task}: accuracy by the number of skill neurons, beside chance`, rand, [
    ...probers.flatMap((prober) => [
      Plot.areaY(
        bands('chance').filter((each) => each.prober === prober),
        { x: 'size', y1: 'low', y2: 'high', fill: 'var(--ink)', fillOpacity: 0.07 },
      ),
      Plot.areaY(
        bands('interval').filter((each) => each.prober === prober),
        { x: 'size', y1: 'low', y2: 'high', fill: colourOf(prober), fillOpacity: 0.13 },
      ),
      Plot.line(
        found.filter((each) => each.prober === prober),
        { x: 'size', y: 'value', stroke: colourOf(prober), strokeWidth: 2 },
      ),
      Plot.text(found.filter((each) => each.prober === prober).slice(-1), {
        ...{ x: 'size', y: 'value', text: 'prober', dy: -8, textAnchor: 'end', fill: colourOf(prober) },
      }),
    ]),
  ]);
}

/** Values of a property with their intervals, one after the other, chance behind them. */
function setsFigure(found: TaskProperties, property: 'robustness' | 'flexibility', label: string): Html {
  const rows = found.rows.filter((each) => each.property === property && each.measure === 'accuracy');
  const points = rows.map((each) => ({
    ...each,
    name: `${each.prober} ${each.which}`,
    low: each.interval?.[0] ?? each.value,
    high: each.interval?.[1] ?? each.value,
  }));
  const expected = points.flatMap((each) =>
    each.chance ? [{ name: each.name, low: each.chance[0], high: each.chance[1] }] : [],
  );
  return draw(`${found.task}: ${label}`, {
    width: 480,
    height: 60 + 22 * points.length,
    marginLeft: 190,
    marginBottom: 40,
    x: { label: 'accuracy', domain: [0, 1], grid: true, ticks: 5 },
    y: { label: null, domain: points.map(({ name }) => name) },
    marks: [
      Plot.ruleX([found.rand], { stroke: 'var(--ink)', strokeOpacity: 0.5, strokeDasharray: '1 4' }),
      Plot.ruleY(expected, {
        x1: 'low',
        x2: 'high',
        y: 'name',
        stroke: 'var(--ink)',
        strokeOpacity: 0.12,
        strokeWidth: 12,
      }),
      Plot.ruleY(points, { x1: 'low', x2: 'high', y: 'name', stroke: 'var(--positive)' }),
      Plot.dot(points, { x: 'value', y: 'name', fill: 'var(--positive)', r: 4 }),
    ],
  });
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
export function propertySections(all: readonly TaskProperties[], table: (of: TextTable) => Html): Html {
  return html`${all.map(
    (found) => html`<section>
<h2>${found.task}: what its skill neurons are like</h2>
<p>${propertiesRemark(found)}</p>
<div class="pair">
<figure>${efficiencyFigure(found)}<figcaption>Efficiency. Bands: 95% over ${counted(found.prompts.test, 'test prompt')}; grey: permuted labels.</figcaption></figure>
<figure>${setsFigure(found, 'flexibility', 'disjoint sets')}<figcaption>Flexibility: disjoint sets with 95%; grey: random sets.</figcaption></figure>
${
  found.rows.some(({ property }) => property === 'robustness')
    ? html`<figure>${setsFigure(found, 'robustness', 'other demonstrations and instructions')}<figcaption>Robustness with 95%; grey: permuted labels.</figcaption></figure>`
    : raw('')
}
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
