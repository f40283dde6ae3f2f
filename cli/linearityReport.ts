/**
 * The linearity study's tables as Markdown and its page as self-contained HTML, from its summary alone. The paper's value
 * stands beside each number where the model is one of the paper's.
 */

import type { Estimate } from '../neurgrad/intervals.ts';
import type { NullDistribution } from '../neurgrad/linearity.ts';
import type { Agreement } from '../neurgrad/study/agreement.ts';
import type { MethodCost } from '../neurgrad/study/cost.ts';
import type { ModelSummary, StudySummary, Table1 } from '../neurgrad/study/summary.ts';
import { FigureBook } from './figures/book.ts';
import type { Source } from './figures/source.ts';
import { type Html, html, raw } from './html.ts';
import { estimateFigure, exampleFigure, layersFigure, rangeFigure } from './linearityFigures.ts';
import {
  between,
  correlation,
  drawn,
  effective,
  estimate,
  interval,
  many,
  orNone,
  QUANTITY,
} from './linearityWords.ts';
import { type ReportPage, reportPage, tile } from './reportPage.ts';
import { figure } from './table.ts';

/** A table as plain cells: one source for Markdown and HTML. */
interface Cells {
  readonly title: string;
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
  /** Said under the table. */
  readonly note: string;
}

const percent = (share: number): string => `${(100 * share).toFixed(2)}%`;
const shuffled = (found: NullDistribution): string => `${correlation(found.mean)} ${between(found)}`;
/** Said where estimates have no interval: each reason once. */
function reasons(found: readonly (Estimate | null)[]): string {
  const told = new Set(found.flatMap((one) => one?.reason ?? []));
  return told.size === 0 ? '' : ` No interval: ${[...told].join('; ')}.`;
}

/** Said of a model whose weights were not on the device: its sweeps subtract runs. */
const PLACES = {
  device: '',
  disk: ': weights streamed from disk, changes of p between float32 runs of single rows',
  processes: ': split over processes, changes of p between float32 runs of whole prompts',
} as const;

/** A table with the paper's values in its last column, which goes where the model is none of the paper's. */
function besidePaper(
  model: ModelSummary,
  cells: Cells,
  printed: readonly (number | null | undefined)[],
): Cells {
  if (!model.paper) return cells;
  const show = (value: number | null | undefined): string => (value == null ? '–' : `${value}`);
  return {
    ...cells,
    head: [...cells.head, `paper, ${model.paper.name}`],
    rows: cells.rows.map((row, i) => [...row, show(printed[i])]),
  };
}

function agreementRow(name: string, agreement: Agreement, prompts: number): string[] {
  const { leaveOneOut: left, meanPearson, pearson, pairs } = agreement;
  const some = meanPearson.counted < prompts ? ` (${meanPearson.counted} of them)` : '';
  return [
    name,
    orNone(pearson.value),
    interval(pearson),
    effective(pearson),
    left ? between(left) : '–',
    `${orNone(meanPearson.value)}${Number.isNaN(meanPearson.value) ? '' : some}`,
    Number.isNaN(pearson.value) ? '–' : correlation(agreement.spearman),
    percent(agreement.signAgreement),
    figure(agreement.meanAbsoluteError, 3),
    `${pairs}`,
  ];
}

/** One block of Table 1: all of its rows are over the same pairs. */
function table1Block(model: ModelSummary, found: Table1, of: string, explained = true): Cells {
  const { paper } = model;
  const { difference } = found;
  const printed = { gradient: paper?.gradient, integrated: paper?.integrated, neurgrad: paper?.neurgrad };
  const rows = found.rows.flatMap(({ name, label, agreement }) => [
    { name: label, one: agreement, printed: printed[name as keyof typeof printed] },
    ...(name === 'neurgrad' ? [{ name: 'NeurGrad, other sign', one: found.opposite, printed: null }] : []),
  ]);
  const pairs = found.gradient.pairs;
  const asked = new Set(found.rows.map(({ name }) => name));
  const paired =
    difference && asked.has('neurgrad')
      ? [
          [
            'NeurGrad − IG',
            orNone(difference.value),
            interval(difference),
            effective(difference),
            ...['–', '–', '–', '–', '–'],
            `${pairs}`,
          ],
        ]
      : [];
  const cells = {
    title: `Table 1: agreement with G_E, ${model.name}: ${of}`,
    head: [
      'estimate',
      'Pearson',
      '95%',
      'effective prompts',
      'a prompt left out',
      'mean of prompts',
      'Spearman',
      'same sign',
      'mean abs. error',
      'pairs',
    ],
    rows: [...rows.map(({ name, one }) => agreementRow(name, one, found.prompts)), ...paired],
    note:
      `All rows over the same ${many(pairs)} pairs of ${many(found.prompts)} prompts and their neurons.` +
      (explained
        ? ` 95%: jackknife-t over ${drawn(model)}, on Fisher’s z. Effective prompts: as many of equal weight would leave the interval as uncertain; where they are few, a few prompts decide the value, and the interval is wide. ` +
          `A prompt left out: lowest and highest Pearson without one of the prompts. Mean of prompts: of Pearson within each that has one.`
        : '') +
      reasons([...rows.map(({ one }) => one.pearson), difference]),
  };
  return besidePaper(
    model,
    cells,
    rows.map(({ printed }) => printed),
  );
}

function table1(model: ModelSummary): Cells[] {
  const { table1: found, whole } = model;
  const prompts = `${many(found.prompts)} prompt${found.prompts === 1 ? '' : 's'}`;
  return [
    table1Block(model, found, whole ? `${prompts} with integrated gradients` : prompts),
    ...(whole ? [table1Block(model, whole, `the whole sample, ${many(whole.prompts)} prompts`, false)] : []),
  ];
}

function table2(model: ModelSummary): Cells {
  const { table2: found, linear, paper } = model;
  const cells = {
    title: `Table 2: linear neurons, ${model.name}`,
    head: ['', 'measured', 'by chance', 'shuffled [95%]'],
    rows: [
      ['share linear, |r| >= 0.95 [95%]', estimate(linear), '–', '–'],
      ['LG', correlation(found.lg.value), correlation(found.expectedLg), shuffled(found.shuffledLg)],
      ['PG', correlation(found.pg.value), correlation(found.expectedPg), shuffled(found.shuffledPg)],
      ['LG: coverage of layers', correlation(found.lg.coverage), '–', '–'],
      ['LG: evenness over layers', correlation(found.lg.distribution), '–', '–'],
      ['PG: coverage of prompts', correlation(found.pg.coverage), '–', '–'],
      ['PG: evenness over prompts', correlation(found.pg.distribution), '–', '–'],
    ],
    note: `95% of the share: Wilson’s interval over ${drawn(model)}, ${linear.effective === null ? 'not given' : `${effective(linear)} effective prompts`}.${reasons([linear])} LG and PG are coverage × evenness. By chance: expectation where each linear neuron falls into any layer (prompt) alike. Shuffled: mean and middle 95% of 1000 draws of as many linear neurons from those tested; below it, linear neurons are gathered in some layers (prompts) more than chance gathers them${model.sampling === 'shared' ? '; the draws take a neuron’s prompts as independent, which makes them narrow' : ''}. ${found.maxVariance === 'all' ? 'Evenness is 1 − Var / Var of all in one.' : 'Evenness is 1 − Var / Var of half full, half empty (capacity).'}`,
  };
  return besidePaper(model, cells, [paper?.linear, paper?.lg, paper?.pg]);
}

function layerTable(model: ModelSummary): Cells {
  const of = (share: Estimate): string =>
    Number.isNaN(share.value)
      ? '–'
      : `${percent(share.value)}${share.interval ? ` [${percent(share.interval.low)}, ${percent(share.interval.high)}]` : ''}`;
  return {
    title: `Linear neurons by layer, ${model.name}`,
    head: ['layer', 'tested', 'linear', 'raise', 'lower', 'share linear [95%]', 'raise [95%]', 'lower [95%]'],
    rows: model.layers.map(({ layer, tested, linear, positive, negative, shares }) => [
      `${layer}`,
      `${tested}`,
      `${linear}`,
      `${positive}`,
      `${negative}`,
      of(shares.linear),
      of(shares.positive),
      of(shares.negative),
    ]),
    note: `Raise and lower: sign of G_E of the linear neurons. 95%: Wilson’s interval over ${drawn(model)}, ${model.prompts.count} prompts.${reasons(model.layers.map(({ shares }) => shares.linear))}`,
  };
}

function figureTable(model: ModelSummary): Cells {
  const { figure2, figurePrompts } = model;
  return {
    title: `Figure 2: straightness by range, ${model.name}`,
    head: ['range', 'points', 'mean |r|', '95%', 'share linear', '95%'],
    rows: figure2.map(({ range, points, meanR, linear }) => [
      `±${range}`,
      `${points}`,
      correlation(meanR.value),
      interval(meanR),
      linear ? percent(linear.value) : '–',
      linear ? interval(linear) : '–',
    ]),
    note: `Over ${figurePrompts} prompts. Two points always lie on one line: |r| is 1 there, and nothing counts as linear.${reasons(figure2.flatMap(({ meanR, linear }) => (linear ? [meanR] : [])))}`,
  };
}

function costTable(model: ModelSummary): Cells {
  const { cost, paper } = model;
  const rows: [string, MethodCost | null | undefined, number | undefined][] = [
    ['G_C: one backward, gradients alone', cost?.gradient, paper?.cost ? 1 : undefined],
    ['NeurGrad: activations and signs too', cost?.neurgrad, paper?.cost?.neurgrad],
    ['IG, fast: rows begun after the layer', cost?.integrated, undefined],
    ['IG, full passes', cost?.integratedFull, paper?.cost?.integrated],
  ];
  const cells = {
    title: `Cost of one prompt, all neurons, ${model.name}`,
    head: ['method', 'time', 'rounds', 'G_C = 1', '95%'],
    rows: rows.map(([name, found]) => [
      name,
      found ? `${figure(found.seconds, 3)} s` : '–',
      found ? `${found.rounds}` : '–',
      found ? found.ratio.toFixed(2) : '–',
      found?.interval ? `[${found.interval.low.toFixed(2)}, ${found.interval.high.toFixed(2)}]` : '–',
    ]),
    note: 'Medians over rounds, each method once before to compile. NeurGrad’s ratio is the median of the rounds’ own, G_C and NeurGrad in turn; 95% by order statistics, from six rounds on. Times are this machine’s and vary from run to run; all other tables do not.',
  };
  return besidePaper(
    model,
    cells,
    rows.map(([, , printed]) => printed),
  );
}

function promptTable(model: ModelSummary): Cells {
  const { prompts } = model;
  return {
    title: `Prompts, ${model.name}`,
    head: ['', 'prompts'],
    rows: [
      ['looked at', `${prompts.tried}`],
      ...Object.entries(prompts.dropped).map(([reason, n]) => [`left out: ${reason}`, `${n}`]),
      ['taken', `${prompts.count}`],
    ],
    note: 'Each prompt is left out for the first reason that holds.',
  };
}

/** Tables by file name, without `.md`. @param models default all of the study's. */
export function studyTables(summary: StudySummary, models = summary.models): Map<string, Cells[]> {
  const each = (make: (model: ModelSummary) => Cells): Cells[] => models.map((model) => make(model));
  const withFigure = models.filter(({ figure2 }) => figure2.length > 0);
  return new Map([
    ['table1', models.flatMap((model) => table1(model))],
    ['table2', each(table2)],
    ['layers', each(layerTable)],
    ...(withFigure.length > 0 ? [['figure2', withFigure.map(figureTable)] as const] : []),
    ['prompts', each(promptTable)],
    ['cost', each(costTable)],
  ]);
}

export function markdown(tables: readonly Cells[]): string {
  return tables
    .map(({ title, head, rows, note }) => {
      const line = (cells: readonly string[]): string =>
        `| ${cells.join(' | ').replaceAll('|r|', '\\|r\\|')} |`;
      const rule = `|${head.map((_, i) => (i === 0 ? '---' : '--:')).join('|')}|`;
      return `## ${title}\n\n${[line(head), rule, ...rows.map(line)].join('\n')}\n\n${note}\n`;
    })
    .join('\n');
}

function tableHtml({ head, rows, note }: Cells): Html {
  const cell = (text: string, i: number): Html =>
    i === 0 ? html`<th scope="row">${text}</th>` : html`<td class="number">${text}</td>`;
  return html`<div class="scroll" role="group" aria-label="table" tabindex="0"><table>
<thead><tr>${head.map((text, i) => html`<th scope="col"${raw(i === 0 ? '' : ' class="number"')}>${text}</th>`)}</tr></thead>
<tbody>${rows.map((row) => html`<tr>${row.map(cell)}</tr>`)}</tbody></table></div><p class="meta">${note}</p>`;
}

/** Why the computed gradient comes out against G_E, in words. */
export function whySign(model: ModelSummary, direction: string): string {
  const { activations, weight } = model;
  const { gradient, neurgrad } = model.whole ?? model.table1;
  const found = orNone(gradient.pearson.value);
  if (direction !== 'outward')
    return `On the plain axis the shift is added as it is, and G_E estimates G_C itself (Pearson ${found}).`;
  if (gradient.pairs < 2) return '';
  return (
    `Why G_C comes out as it does: ${percent(activations.negative)} of the activations here are negative. ` +
    `Shifts go outward, along the activation’s own sign, so that G_E estimates sign(A)·G_C: for a negative activation that is −G_C. ` +
    `Neurons with A ≥ 0 hold ${percent(weight.positive)} of all squares of G_E, the rest its opposite, so Pearson of the raw G_C should be near ${percent(weight.positive)} − ${percent(1 - weight.positive)} = ${correlation(2 * weight.positive - 1)}; it is ${found}. ` +
    `NeurGrad, which is sign(A)·G_C, has ${orNone(neurgrad.pearson.value)}. The sign of G_C’s correlation is a matter of the axis, not of quality.`
  );
}

/** Width from which another draw of prompts gives quite another value. */
const WIDE = 0.05;

/** How few prompts decide the pooled Pearson, in words; nothing where there is one prompt. */
export function whoWeighs({ weight, table1, whole, prompts }: ModelSummary): string {
  const { leaveOneOut, pearson } = (whole ?? table1).gradient;
  if (!leaveOneOut) return '';
  const widths = [leaveOneOut, ...(pearson.interval ? [pearson.interval] : [])];
  const width = Math.max(...widths.map(({ low, high }) => high - low));
  const heaviest = `“${weight.heaviestPrompt}”`;
  const held = percent(weight.heaviest.share);
  const half =
    weight.promptsOfHalf === 1
      ? `one of ${prompts.count} prompts, ${heaviest}, holds ${held} of all squares of G_E; `
      : `${weight.promptsOfHalf} of ${prompts.count} prompts hold half of all squares of G_E, the heaviest (${heaviest}) ${held}; `;
  return (
    `A pooled Pearson weighs pairs by their squares: ${half}` +
    `without one of the prompts G_C’s Pearson lies within ${between(leaveOneOut)}. ` +
    `${width < WIDE ? '' : 'Another draw of prompts can therefore give quite another value. '}The mean of prompts, ranks and signs weigh all prompts alike.`
  );
}

/** What was swept: so many of each prompt, or, of a list of which some may be named twice, in all. */
function sampleOf({ asked, neurons, prompts: { count } }: ModelSummary): string {
  const { perPrompt } = asked.neurons;
  return perPrompt === undefined
    ? `${many(neurons)} neurons of ${count} prompts`
    : `${count} prompts × ${perPrompt} neurons`;
}

/** What of a plan a model has of its own, said once where all have the same. */
function byModel({ models }: StudySummary, say: (model: ModelSummary) => string): Html {
  const said = models.map(say);
  if (new Set(said).size === 1) return html`${said[0]!}`;
  return html`${models.map(({ name }, i) => html`${name}: ${said[i]!}<br>`)}`;
}

/** Characters of a list of neurons that are shown. */
const LISTED = 200;

function neuronsAsked({ asked: { neurons } }: ModelSummary): string {
  const { list, perPrompt, sampling, seed } = neurons;
  const same = sampling === 'shared' ? 'the same for all prompts' : 'drawn anew for each prompt';
  if (list === undefined) return `${perPrompt} a prompt without replacement, ${same}, seed ${seed}`;
  const shown = list.length > LISTED ? `${list.slice(0, LISTED)}…` : list;
  return `${shown.replaceAll(',', ', ')}${/random:/i.test(list) ? ` (random: ${same}, seed ${seed})` : ''}`;
}

const promptsAsked = ({ asked: { prompts } }: ModelSummary): string =>
  `${prompts.path}, seed ${prompts.seed}${prompts.answeredRight ? ', answered right by the model' : ''}${prompts.onePerFact ? ', one a fact' : ''}${prompts.hideAnswer ? ', none with its answer in it' : ''}`;

/** How many of the curves' points were run, where not all were. */
function pointsRun({ neurons, points }: ModelSummary): string {
  if (!points || points.ran === points.asked) return '';
  return `${(points.ran / neurons).toFixed(1)} of ${points.asked / neurons} points run a curve, `;
}

/** Gradients that say nothing, in words. */
function belowNoise({ belowNoise: { gradient, ig } }: ModelSummary): string {
  if (gradient === null) return '';
  return `${gradient} G_C${ig === null ? '' : ` and ${ig} IG`} no larger than their noise, `;
}

function modelSection(model: ModelSummary, summary: StudySummary, figures: FigureBook): Html {
  const { gradient, neurgrad } = model.whole ?? model.table1;
  const with95 = (
    label: string,
    { interval, effective, reason }: Estimate,
    text: (value: number) => string,
  ): string =>
    interval
      ? `${label}, 95% ${text(interval.low)} to ${text(interval.high)} (${effective?.toFixed(1)} effective prompts)`
      : `${label}; no interval: ${reason}`;
  return html`<section>
<h2>${model.name}</h2>
<ul class="tiles">
${[
  tile(percent(model.linear.value), with95('of neurons are linear for a prompt', model.linear, percent)),
  tile(orNone(neurgrad.pearson.value), with95('Pearson of NeurGrad and G_E', neurgrad.pearson, correlation)),
  tile(
    orNone(gradient.pearson.value),
    with95('Pearson of the raw G_C and G_E', gradient.pearson, correlation),
  ),
  tile(
    percent(model.activations.negative),
    `of the activations of ${many(model.neurons)} neurons are negative`,
  ),
]}
</ul>
<p class="meta">${model.stamp.family}, ${model.stamp.layers} layers × ${model.stamp.width} neurons · ${sampleOf(model)}, ${model.flat} flat curves, ${pointsRun(model)}${belowNoise(model)}${model.activations.zero} activations exactly 0</p>
<h3>Table 1: estimates against G_E</h3>${table1(model).map((block) => html`<h4>${block.title.split(': ').at(-1)!}</h4>${tableHtml(block)}`)}
${[whySign(model, summary.plan.direction), whoWeighs(model)].map((text) => (text ? html`<p>${text}</p>` : html``))}
<div class="pair">
${(['gradient', 'neurgrad'] as const).map((name) => figures.show(estimateFigure(model, name, summary)))}
</div>
<h3>Table 2: linear neurons and their generality</h3>${tableHtml(table2(model))}
<h3>By layer</h3>
${figures.show(layersFigure(model))}
<h3>Single neurons</h3>
<div class="grid">${model.examples.map((curve, i) => figures.show(exampleFigure(model, curve, i, summary)))}</div>
<h3>Cost</h3>${tableHtml(costTable(model))}
<details><summary>Prompts looked at and left out</summary>${tableHtml(promptTable(model))}</details>
<details><summary>Linear neurons by layer, in numbers</summary>${tableHtml(layerTable(model))}</details>
</section>`;
}

/** Where the figures of a study are from. */
function sourceOf(summary: StudySummary, version: string): Source {
  const { plan, planHash, seeds, models, adapter } = summary;
  return {
    neurgrad: version,
    facts: {
      study: plan.name,
      plan: planHash,
      ...Object.fromEntries(
        models.flatMap(({ name, stamp }) => [
          [`model ${name}`, stamp.source],
          ...Object.entries(stamp.files).map(([file, hash]) => [`sha256 of ${name} ${file}`, hash]),
        ]),
      ),
      conventions: `of ${plan.of}, direction ${plan.direction}, sign ${plan.sign}, slope ${plan.fit.withIntercept ? 'with intercept' : 'through the origin'} within ±${plan.fit.range}`,
      seeds: Object.entries(seeds)
        .map(([name, seed]) => `${name} ${seed}`)
        .join(', '),
      adapter,
    },
  };
}

/** report.html */
export function renderStudy(summary: StudySummary, version: string): ReportPage {
  const { plan, units } = summary;
  const figures = new FigureBook(sourceOf(summary, version));
  const hasFigure = summary.models.some(({ figure2 }) => figure2.length > 0);
  const { from, to, step } = plan.grid;
  const main = html`<header>
<p class="eyebrow">neurgrad · linearity of neurons</p>
<h1>Neurons as straight lines: ${plan.name}</h1>
<p class="lead">Neurons were shifted one at a time from ${from} to ${to} in steps of ${step}, and the target’s ${QUANTITY[plan.of]} read each time. How straight are the curves, and does one backward pass foretell their slopes?</p>
<dl>
<dt>G_E</dt><dd>empirical gradient: the measured slope within ±${plan.fit.range}</dd>
<dt>G_C</dt><dd>computed gradient, by one backward pass</dd>
<dt>NeurGrad</dt><dd>G_C turned into the direction of the shift: the estimate of G_E without a sweep</dd>
<dt>IG</dt><dd>integrated gradients, the baseline</dd>
<dt>linear</dt><dd>a neuron whose curve correlates with a line, |r| ≥ 0.95, within ±${plan.fit.range}</dd>
</dl>
${units.done < units.all ? html`<p class="lead"><mark>Not finished: ${units.done} of ${units.all} units are done.</mark></p>` : raw('')}
</header>
${
  !hasFigure
    ? raw('')
    : html`<section><h2>Figure 2: how far a line holds</h2>
${figures.show(rangeFigure(summary))}</section>`
}
${summary.models.map((model) => modelSection(model, summary, figures))}
<section class="method"><h2>How this was computed</h2>
<dl>
<dt>Conventions</dt><dd>site ${byModel(summary, ({ asked }) => asked.neurons.site)}, of ${plan.of}, direction ${plan.direction}, sign ${plan.sign}; slope ${plan.fit.withIntercept ? 'with intercept' : 'through the origin'} and r within ±${plan.fit.range}, s = 0 ${plan.fit.includeZero ? 'counted' : 'left out'}</dd>
<dt>Neurons</dt><dd>${byModel(summary, neuronsAsked)}${byModel(summary, ({ asked }) => `; seed ${asked.neurons.seed} draws the shuffles of Table 2 and the pairs of the figures too`)}</dd>
<dt>Prompts</dt><dd>${byModel(summary, promptsAsked)}</dd>
<dt>Precision</dt><dd>float32${plan.dtype === 'f32' ? '' : ` with ${plan.dtype} weights`}. Changes of the ${QUANTITY[plan.of]} carry a noise: what of them may be rounding. A curve none of whose changes within the range exceeds the largest of its own is flat, with r = 0, and not linear; the same in Figure 2.</dd>
<dt>Models</dt><dd>${summary.models.map(({ stamp }) => html`${stamp.source}${PLACES[stamp.weights ?? 'device']}<br>${Object.entries(stamp.files).map(([file, hash]) => html`<code>${hash}</code> ${file}<br>`)}`)}</dd>
<dt>Machine</dt><dd>${summary.adapter}; ${Object.entries(summary.versions)
    .map(([name, value]) => `${name} ${value}`)
    .join(', ')}</dd>
<dt>Plan</dt><dd><code>${summary.planHash}</code></dd>
</dl></section>`;
  return reportPage(
    plan.name,
    main,
    `${version} · the numbers of this page are in summary.json and tables/`,
    figures,
  );
}
