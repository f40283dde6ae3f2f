/** The page of an additivity study: how much of what NeurGrad foretold came, by the number of neurons shifted together. */

import * as Plot from '@observablehq/plot';
import type { AdditivitySet, Conventions, SetKind } from '../neurgrad/index.ts';
import { describeConventions, seededRandom, shuffled } from '../neurgrad/index.ts';
import type { AdditivityCell } from '../neurgrad/study/additivity.ts';
import { agreementFigure } from './figures/agreement.ts';
import { FigureBook, fileName } from './figures/book.ts';
import type { Figure, Key } from './figures/figure.ts';
import { LIGHT } from './figures/palette.ts';
import { type Html, html } from './html.ts';
import { version } from './package.ts';
import { type ReportPage, reportPage, tile } from './reportPage.ts';
import { figure, withInterval } from './table.ts';

/** What stands above the figures. */
export interface AdditivityAbout {
  readonly model: string;
  readonly prompts: number;
  readonly conventions: Conventions;
  readonly engine: string;
  readonly draws: number;
  readonly seed: number;
}

export const KIND_WORDS: Readonly<Record<SetKind, string>> = {
  random: 'random sets, all shifted alike',
  top: 'sets of the largest |NeurGrad|, all pulling the same way',
};
const QUANTITY = {
  prob: 'probability',
  logprob: 'log-probability',
  logit: 'logit',
  logit_diff: 'logit difference',
} as const;

/** Columns of the table. */
const CELL_HEAD = [
  'neurons',
  'shift',
  'foretold',
  'reached',
  'reached / foretold',
  'Pearson',
  'same sign',
] as const;

const cellRow = ({ size, shift, predicted, reached, share, pearson, sameSign }: AdditivityCell): string[] => [
  `${size}`,
  `${shift}`,
  figure(predicted, 3),
  figure(reached, 3),
  withInterval(share, (value) => figure(value, 3)),
  Number.isNaN(pearson.value) ? '–' : withInterval(pearson, (value) => figure(value, 3)),
  Number.isNaN(sameSign) ? '–' : `${Math.round(100 * sameSign)}%`,
];

/** One shade a size of shift: the larger, the stronger. */
const SHADES = [LIGHT.muted, LIGHT.positive, LIGHT.negative];

/** The last three sizes of shifts are told apart by colour, those before share the first. */
function colourOf(shifts: readonly number[]): (shift: number) => string {
  const sizes = [...new Set(shifts.map(Math.abs))].sort((a, b) => a - b);
  return (shift) =>
    SHADES[Math.max(0, sizes.indexOf(Math.abs(shift)) - Math.max(0, sizes.length - SHADES.length))]!;
}

/** Colours of the sizes of shifts, each once: all before the last three share one. */
function shiftKeys(shifts: readonly number[], mark: Key['mark']): Key[] {
  const colour = colourOf(shifts);
  const sizes = [...new Set(shifts.map(Math.abs))].sort((a, b) => a - b);
  const keys = new Map<string, number[]>();
  for (const size of sizes) keys.set(colour(size), [...(keys.get(colour(size)) ?? []), size]);
  return [...keys].map(([colour, of]) => ({ label: of.map((size) => `±${size}`).join(', '), colour, mark }));
}

/** Reached over foretold against the number of neurons, one line a shift; beyond the frame what is beyond it. */
function shares(cells: readonly AdditivityCell[], kind: SetKind, about: AdditivityAbout): Figure {
  const colour = colourOf(cells.map(({ shift }) => shift));
  const points = cells
    .filter((cell) => cell.kind === kind && Number.isFinite(cell.share.value))
    .map(({ size, shift, share }) => ({
      size,
      shift,
      share: share.value,
      low: share.interval?.low ?? Number.NaN,
      high: share.interval?.high ?? Number.NaN,
      colour: colour(shift),
    }));
  const shifts = [...new Set(points.map(({ shift }) => shift))];
  const reason = cells.find((cell) => cell.kind === kind && cell.share.reason)?.share.reason;
  return {
    name: fileName(kind, 'share'),
    label: `Share of what was foretold that came, ${KIND_WORDS[kind]}`,
    caption: `${about.model}, ${KIND_WORDS[kind]}: what came of what was foretold, slope through the origin over sets; 1 where NeurGrad adds up`,
    n: `n = ${about.prompts} prompt${about.prompts === 1 ? '' : 's'}`,
    interval: reason ? `No bands: ${reason}` : 'Bands: 95% over prompts',
    columns: 1,
    height: 190,
    legend: [
      ...shiftKeys(
        cells.map(({ shift }) => shift),
        'line',
      ),
      ...(shifts.some((shift) => shift < 0)
        ? [{ label: 'shift below 0', colour: LIGHT.ink, mark: 'dashes' } as const]
        : []),
    ],
    plot: {
      marginLeft: 30,
      x: {
        type: 'log',
        base: 2,
        label: 'neurons shifted together',
        ticks: 6,
        tickFormat: (size: number) => `${size}`,
      },
      y: { label: 'reached / foretold', domain: [-0.5, 2], grid: true, ticks: 6 },
      marks: [
        Plot.ruleY([0], { stroke: LIGHT.ink }),
        Plot.ruleY([1], { stroke: LIGHT.ink, strokeOpacity: 0.6, strokeDasharray: '1 2' }),
        Plot.areaY(points, {
          ...{ x: 'size', y1: 'low', y2: 'high', z: 'shift', fill: 'colour', fillOpacity: 0.07, clip: true },
        }),
        ...[1, -1].map((side) =>
          Plot.line(
            points.filter(({ shift }) => Math.sign(shift) === side),
            {
              ...{ x: 'size', y: 'share', z: 'shift', stroke: 'colour', strokeWidth: 1.4, clip: true },
              ...(side < 0 ? { strokeDasharray: '3 2' } : {}),
            },
          ),
        ),
        Plot.dot(points, { x: 'size', y: 'share', fill: 'colour', r: 1.6, clip: true }),
      ],
    },
    data: points.map(({ size, shift, share, low, high }) => ({
      ...{ neurons: size, shift, 'reached / foretold': share, '95% low': low, '95% high': high },
    })),
  };
}

/** Dots of the scatter at most. */
const DOTS = 2000;

/** Foretold against reached, one dot a set. Root axes: effects have heavy tails. */
function scatter(
  prompts: readonly (readonly AdditivitySet[])[],
  kind: SetKind,
  { model, prompts: count, conventions }: AdditivityAbout,
): Figure {
  const all = prompts.flat().filter((set) => set.kind === kind && Number.isFinite(set.reached));
  // Drawn, since what is seldom must not be left out by a stride.
  const sets = Array.from(shuffled(all.length, seededRandom(0)).slice(0, DOTS), (i) => all[i]!);
  const shifts = all.map(({ shift }) => shift);
  const colour = colourOf(shifts);
  const of = `change of ${QUANTITY[conventions.of]}`;
  return agreementFigure(
    {
      name: fileName(kind, 'sets'),
      label: `Change foretold against change reached, ${KIND_WORDS[kind]}`,
      caption: `${model}, ${KIND_WORDS[kind]}: what was foretold, Σ NeurGrad × shift, against what came. One dot a set; root axes; what was foretold beyond the frame is not drawn`,
      n: `n = ${sets.length} of ${all.length} sets of ${count} prompt${count === 1 ? '' : 's'}`,
      interval: 'No interval: single sets',
    },
    sets.map(({ predicted, reached, shift, size }) => ({
      ...{ estimate: predicted, measured: reached, colour: colour(shift) },
      about: { neurons: size, shift },
    })),
    {
      estimate: `foretold ${of}`,
      measured: `${of} reached`,
      axes: 'root',
      legend: shiftKeys(shifts, 'dot'),
      // What is foretold may lie far beyond what can come: the frame is of what came.
      most: 1.5 * Math.max(...all.map(({ reached }) => Math.abs(reached)), 1e-12),
    },
  );
}

/** The largest size up to which the share stays within a tenth of 1, at a shift; null where not even the first does. */
export function addsUpTo(cells: readonly AdditivityCell[], kind: SetKind, shift: number): number | null {
  let last: number | null = null;
  for (const cell of cells) {
    if (cell.kind !== kind || cell.shift !== shift) continue;
    if (!(Math.abs(cell.share.value - 1) <= 0.1)) break;
    last = cell.size;
  }
  return last;
}

function table(cells: readonly AdditivityCell[], kind: SetKind): Html {
  const cell = (text: string, i: number): Html =>
    i === 0 ? html`<th scope="row">${text}</th>` : html`<td class="number">${text}</td>`;
  return html`<div class="scroll" role="group" aria-label="table" tabindex="0"><table>
<thead><tr>${CELL_HEAD.map((text) => html`<th scope="col" class="number">${text}</th>`)}</tr></thead>
<tbody>${cells.filter((each) => each.kind === kind).map((each) => html`<tr>${cellRow(each).map(cell)}</tr>`)}</tbody></table></div>`;
}

function kindSection(
  cells: readonly AdditivityCell[],
  prompts: readonly (readonly AdditivitySet[])[],
  kind: SetKind,
  about: AdditivityAbout,
  figures: FigureBook,
): Html {
  return html`<section><h2>${KIND_WORDS[kind][0]!.toUpperCase()}${KIND_WORDS[kind].slice(1)}</h2>
<div class="pair">
${figures.show(shares(cells, kind, about))}
${figures.show(scatter(prompts, kind, about))}
</div>
<details><summary>In numbers</summary>${table(cells, kind)}<p class="meta">Foretold and reached: means of absolute changes. Pearson: of foretold and reached over sets. Brackets: 95% over prompts.</p></details>
</section>`;
}

/** The page. */
export function additivityPage(
  cells: readonly AdditivityCell[],
  prompts: readonly (readonly AdditivitySet[])[],
  about: AdditivityAbout,
): ReportPage {
  const figures = new FigureBook({
    neurgrad: version,
    facts: {
      model: about.model,
      conventions: describeConventions(about.conventions),
      engine: about.engine,
      draws: String(about.draws),
      seed: String(about.seed),
    },
  });
  const kinds = [...new Set(cells.map(({ kind }) => kind))];
  const shifts = [...new Set(cells.map(({ shift }) => shift))].sort(
    (a, b) => Math.abs(a) - Math.abs(b) || a - b,
  );
  const upTo = (kind: SetKind, shift: number): Html => {
    const size = addsUpTo(cells, kind, shift);
    return tile(
      size === null ? 'none' : `${size}`,
      `neurons up to which reached is within 10% of foretold: ${kind}, shift ${shift}`,
    );
  };
  const lost = cells.reduce((sum, cell) => sum + cell.lost, 0);
  const main = html`<header>
<p class="eyebrow">neurgrad · additivity of linear control</p>
<h1>Many neurons at once: ${about.model}</h1>
<p class="lead">One neuron moves the ${QUANTITY[about.conventions.of]} of the target along a line, and NeurGrad is its slope. Do the lines add up? Sets of neurons were shifted together, and
the sum of NeurGrad × shift held against what came, over ${about.prompts} prompt${about.prompts === 1 ? '' : 's'}.</p>
<ul class="tiles">
${kinds.flatMap((kind) =>
  shifts
    .filter((shift) => shift < 0)
    .slice(0, 3)
    .map((shift) => upTo(kind, shift)),
)}
</ul>
<p class="meta">Shifts of ${shifts.join(', ')}.${lost > 0 ? ` ${lost} sets gave no finite logits and are left out` : ''}</p>
</header>
${kinds.map((kind) => kindSection(cells, prompts, kind, about, figures))}
<section class="method"><h2>How this was computed</h2>
<dl>
<dt>Sets</dt><dd>random: beginnings of ${about.draws} seeded orders of all neurons for each prompt (seed ${about.seed}), every neuron shifted by s along its axis; top: the neurons with the largest |NeurGrad| of the prompt, each shifted by s times the sign of its own</dd>
<dt>Foretold</dt><dd>Σ NeurGrad × shift, by one backward of the plain prompt</dd>
<dt>Reached</dt><dd>the ${QUANTITY[about.conventions.of]} with all shifts in place less the plain one, engine ${about.engine}</dd>
<dt>Conventions</dt><dd>${describeConventions(about.conventions)}</dd>
<dt>Intervals</dt><dd>jackknife-t over prompts, from ten on</dd>
</dl></section>`;
  return reportPage('additivity', main, version, figures);
}
