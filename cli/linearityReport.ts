/**
 * The linearity study's tables as Markdown and its page as self-contained HTML, from its summary alone. The paper's value
 * stands beside each number where the model is one of the paper's.
 */

import type { NullDistribution } from '../neurgrad/linearity.ts';
import type { Agreement, Interval } from '../neurgrad/study/agreement.ts';
import { modelName } from '../neurgrad/study/paper.ts';
import type { ModelSummary, StudySummary } from '../neurgrad/study/summary.ts';
import { type Html, html, raw } from './html.ts';
import {
  exampleCurve,
  modelColours,
  polarityByLayer,
  scatter,
  straightnessByRange,
} from './linearityPlots.ts';
import { reportPage, tile } from './reportPage.ts';
import { figure, signed } from './table.ts';

/** A table as plain cells: one source for Markdown and HTML. */
interface Cells {
  readonly title: string;
  readonly head: readonly string[];
  readonly rows: readonly (readonly string[])[];
  /** Said under the table. */
  readonly note: string;
}

const percent = (share: number): string => `${(100 * share).toFixed(2)}%`;
const correlation = (value: number): string => value.toFixed(4);
const between = ({ low, high }: { low: number; high: number }): string =>
  `[${correlation(low)}, ${correlation(high)}]`;
/** A correlation of fewer than two pairs says nothing. */
const ofPairs = (pairs: number, text: string): string => (pairs < 2 ? '–' : text);
const pearsonText = ({ pairs, pearson }: Agreement): string => ofPairs(pairs, correlation(pearson.value));
const estimate = (found: Interval): string => `${correlation(found.value)} ${between(found)}`;
const shuffled = (found: NullDistribution): string => `${correlation(found.mean)} ${between(found)}`;

const QUANTITY = { prob: 'probability', logprob: 'log-probability', logit: 'logit' } as const;

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

function agreementRow(name: string, agreement: Agreement, perPrompt: number): string[] {
  const left = agreement.leaveOneOut;
  return [
    name,
    ofPairs(agreement.pairs, estimate(agreement.pearson)),
    left ? between(left) : '–',
    ofPairs(perPrompt, correlation(agreement.meanPearson)),
    ofPairs(agreement.pairs, correlation(agreement.spearman)),
    percent(agreement.signAgreement),
    figure(agreement.meanAbsoluteError, 3),
    `${agreement.pairs}`,
  ];
}

function table1(model: ModelSummary, { plan }: StudySummary): Cells {
  const { table1, paper } = model;
  const rows: [string, Agreement | null, number | null | undefined][] = [
    ['G_C', table1.gradient, paper?.gradient],
    ['IG', table1.integrated, paper?.integrated],
    ['NeurGrad', table1.neurgrad, paper?.neurgrad],
    ['NeurGrad, other sign', table1.opposite, null],
  ];
  const found = rows.flatMap(([name, one, printed]) => (one ? [{ name, one, printed }] : []));
  const cells = {
    title: `Table 1: agreement with G_E, ${modelName(model.stamp.source)}`,
    head: [
      'estimate',
      'Pearson [95%]',
      'a prompt left out',
      'mean of prompts',
      'Spearman',
      'same sign',
      'mean abs. error',
      'pairs',
    ],
    rows: found.map(({ name, one }) => agreementRow(name, one, plan.neurons.perPrompt)),
    note: `Pooled over prompts and neurons. 95%: ${plan.neurons.sampling === 'shared' ? 'prompts and neurons' : 'prompts'} drawn anew 1000 times. A prompt left out: lowest and highest Pearson without one of the prompts. Mean of prompts: of Pearson within each.`,
  };
  return besidePaper(
    model,
    cells,
    found.map(({ printed }) => printed),
  );
}

function table2(model: ModelSummary, { plan }: StudySummary): Cells {
  const { table2: found, linear, paper } = model;
  const cells = {
    title: `Table 2: linear neurons, ${modelName(model.stamp.source)}`,
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
    note: `LG and PG are coverage × evenness. By chance: expectation where each linear neuron falls into any layer (prompt) alike. Shuffled: mean and middle 95% of 1000 draws of as many linear neurons from those tested; below it, linear neurons are gathered in some layers (prompts) more than chance gathers them${plan.neurons.sampling === 'shared' ? '; the draws take a neuron’s prompts as independent, which makes them narrow' : ''}. ${found.maxVariance === 'all' ? 'Evenness is 1 − Var / Var of all in one.' : 'Evenness is 1 − Var / Var of half full, half empty (capacity).'}`,
  };
  return besidePaper(model, cells, [paper?.linear, paper?.lg, paper?.pg]);
}

function layerTable(model: ModelSummary): Cells {
  return {
    title: `Linear neurons by layer, ${modelName(model.stamp.source)}`,
    head: ['layer', 'tested', 'linear', 'raise', 'lower', 'share linear'],
    rows: model.layers.map(({ layer, tested, linear, positive, negative }) => [
      `${layer}`,
      `${tested}`,
      `${linear}`,
      `${positive}`,
      `${negative}`,
      tested === 0 ? '–' : percent(linear / tested),
    ]),
    note: 'Raise and lower: sign of G_E of the linear neurons.',
  };
}

function figureTable(model: ModelSummary): Cells {
  return {
    title: `Figure 2: straightness by range, ${modelName(model.stamp.source)}`,
    head: ['range', 'mean |r|', 'share linear'],
    rows: model.figure2.map(({ range, meanR, linear }) => [`±${range}`, correlation(meanR), percent(linear)]),
    note: 'At the smallest range two points always lie on one line.',
  };
}

function costTable(model: ModelSummary): Cells {
  const { cost, paper } = model;
  const rows: [string, number | null | undefined, number | undefined][] = [
    ['G_C', cost?.gradient, paper?.cost ? 1 : undefined],
    ['NeurGrad', cost?.neurgrad, paper?.cost?.neurgrad],
    ['IG', cost?.integrated, paper?.cost?.integrated],
  ];
  const cells = {
    title: `Cost of one prompt, all neurons, ${modelName(model.stamp.source)}`,
    head: ['method', 'time', 'G_C = 1'],
    rows: rows.map(([name, seconds]) => [
      name,
      seconds ? `${figure(seconds, 3)} s` : '–',
      seconds && cost ? (seconds / cost.gradient).toFixed(2) : '–',
    ]),
    note: 'Times are this machine’s and vary from run to run; all other tables do not.',
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
    title: `Prompts, ${modelName(model.stamp.source)}`,
    head: ['', 'prompts'],
    rows: [
      ['looked at', `${prompts.tried}`],
      ...Object.entries(prompts.dropped).map(([reason, n]) => [`left out: ${reason}`, `${n}`]),
      ['taken', `${prompts.count}`],
    ],
    note: 'Each prompt is left out for the first reason that holds.',
  };
}

/** Tables by file name, without `.md`. */
export function studyTables(summary: StudySummary): Map<string, Cells[]> {
  const each = (make: (model: ModelSummary, summary: StudySummary) => Cells): Cells[] =>
    summary.models.map((model) => make(model, summary));
  const withFigure = summary.models.filter(({ figure2 }) => figure2.length > 0);
  return new Map([
    ['table1', each(table1)],
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
  return html`<div class="scroll"><table>
<thead><tr>${head.map((text, i) => html`<th scope="col"${raw(i === 0 ? '' : ' class="number"')}>${text}</th>`)}</tr></thead>
<tbody>${rows.map((row) => html`<tr>${row.map(cell)}</tr>`)}</tbody></table></div><p class="meta">${note}</p>`;
}

/** Why the computed gradient comes out against G_E, in words. */
export function whySign(model: ModelSummary, direction: string): string {
  const { activations, table1, weight } = model;
  const found = pearsonText(table1.gradient);
  if (direction !== 'outward')
    return `On the plain axis the shift is added as it is, and G_E estimates G_C itself (Pearson ${found}).`;
  if (table1.gradient.pairs < 2) return '';
  return (
    `Why G_C comes out as it does: ${percent(activations.negative)} of the activations here are negative${model.stamp.architecture === 'bert' ? ', most of them slightly, as GELU leaves them' : ''}. ` +
    `Shifts go outward, along the activation’s own sign, so that G_E estimates sign(A)·G_C: for a negative activation that is −G_C. ` +
    `Neurons with A ≥ 0 hold ${percent(weight.positive)} of all squares of G_E, the rest its opposite, so Pearson of the raw G_C should be near ${percent(weight.positive)} − ${percent(1 - weight.positive)} = ${correlation(2 * weight.positive - 1)}; it is ${found}. ` +
    `NeurGrad, which is sign(A)·G_C, has ${pearsonText(table1.neurgrad)}. The sign of G_C’s correlation is a matter of the axis, not of quality.`
  );
}

/** Width of an interval of Pearson from which another draw of prompts gives quite another value. */
const WIDE = 0.05;

/** How few prompts decide the pooled Pearson, in words; nothing where there is one prompt. */
export function whoWeighs({ weight, table1, prompts }: ModelSummary): string {
  const { leaveOneOut, pearson } = table1.gradient;
  if (!leaveOneOut) return '';
  const width = Math.max(pearson.high - pearson.low, leaveOneOut.high - leaveOneOut.low);
  return (
    `A pooled Pearson weighs pairs by their squares: ${weight.promptsOfHalf} of ${prompts.count} prompts hold half of all squares of G_E, ` +
    `the heaviest (“${weight.heaviestPrompt}”) ${percent(weight.heaviest.share)}; ` +
    `without one of the prompts G_C’s Pearson lies within ${between(leaveOneOut)}. ` +
    `${width < WIDE ? '' : 'Another draw of prompts can therefore give quite another value. '}The mean of prompts, ranks and signs weigh all prompts alike.`
  );
}

/** The prompt with its answer in place. */
function answered({ prompt, answer }: { prompt: string; answer: string }): Html {
  const [before, after] = prompt.split('[MASK]');
  return after === undefined
    ? html`${prompt} <mark>${answer}</mark>`
    : html`${before!}<mark>${answer}</mark>${after}`;
}

function modelSection(model: ModelSummary, summary: StudySummary): Html {
  return html`<section>
<h2>${modelName(model.stamp.source)}</h2>
<ul class="tiles">
${[
  tile(percent(model.linear.value), 'of neurons are linear for a prompt'),
  tile(pearsonText(model.table1.neurgrad), 'Pearson of NeurGrad and G_E'),
  tile(pearsonText(model.table1.gradient), 'Pearson of the raw G_C and G_E'),
  tile(percent(model.activations.negative), 'of activations are negative'),
]}
</ul>
<p class="meta">${model.stamp.architecture}, ${model.stamp.layers} layers × ${model.stamp.width} neurons · ${model.prompts.count} prompts × ${summary.plan.neurons.perPrompt} neurons, ${model.flat} flat curves, ${model.activations.zero} activations exactly 0</p>
<h3>Table 1: estimates against G_E</h3>${tableHtml(table1(model, summary))}
${[whySign(model, summary.plan.direction), whoWeighs(model)].map((text) => (text ? html`<p>${text}</p>` : html``))}
<div class="pair">
<figure>${scatter(model.pairs, 'gradient', 'G_C')}<figcaption>The raw gradient: <span class="key">A &lt; 0</span><span class="key positive">A ≥ 0</span></figcaption></figure>
<figure>${scatter(model.pairs, 'neurgrad', 'NeurGrad')}<figcaption>NeurGrad. ${model.pairs.length} pairs drawn of ${model.neurons}; root axes; dashed: equal.</figcaption></figure>
</div>
<h3>Table 2: linear neurons and their generality</h3>${tableHtml(table2(model, summary))}
<h3>By layer</h3>
<figure class="middle">${polarityByLayer(model.layers)}<figcaption>Linear neurons that raise the target above the axis, that lower it below.</figcaption></figure>
<h3>Single neurons</h3>
<div class="grid">${model.examples.map(
    (curve) =>
      html`<figure class="small"><figcaption><b>L${curve.layer}.N${curve.index}</b> r ${signed(curve.r, 3)} · G_E ${signed(curve.slope, 3)}<br>${answered(curve)}</figcaption>${exampleCurve(curve, `L${curve.layer}.N${curve.index}: value against shift`)}</figure>`,
  )}</div>
<h3>Cost</h3>${tableHtml(costTable(model))}
<details><summary>Prompts looked at and left out</summary>${tableHtml(promptTable(model))}</details>
<details><summary>Linear neurons by layer, in numbers</summary>${tableHtml(layerTable(model))}</details>
</section>`;
}

/** The colours of Figure 2; nothing to tell apart where there is one model. */
function modelKeys(models: readonly ModelSummary[]): Html {
  if (models.length < 2) return html``;
  const colours = modelColours(models.length);
  return html`${models.map(
    ({ stamp }, i) =>
      html`<span class="key" style="--key: ${colours[i]!}">${modelName(stamp.source)}</span> `,
  )}<br>`;
}

/** report.html */
export function renderStudy(summary: StudySummary, version: string): string {
  const { plan, units } = summary;
  const withFigure = summary.models.filter(({ figure2 }) => figure2.length > 0);
  const { from, to, step } = plan.grid;
  // Beyond the figure's ranges a rule would only widen it.
  const marked = withFigure.some(({ figure2 }) => figure2.at(-1)!.range >= plan.fit.range)
    ? [plan.fit.range]
    : [];
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
  withFigure.length === 0
    ? raw('')
    : html`<section><h2>Figure 2: how far a line holds</h2>
<figure class="middle">${straightnessByRange(
        withFigure.map(({ figure2 }) => figure2),
        marked,
      )}
<figcaption>${modelKeys(withFigure)}Mean |r| over ${plan.figure.prompts} prompts × ${plan.figure.neurons} neurons, for curves cut at ±R. Dashed: 0.95${marked.map((range) => html`; upright: ±${range}, where slopes are fitted`)}.</figcaption></figure></section>`
}
${summary.models.map((model) => modelSection(model, summary))}
<section class="method"><h2>How this was computed</h2>
<dl>
<dt>Conventions</dt><dd>site ${plan.neurons.site}, of ${plan.of}, direction ${plan.direction}, sign ${plan.sign}; slope ${plan.fit.withIntercept ? 'with intercept' : 'through the origin'} and r within ±${plan.fit.range}, s = 0 ${plan.fit.includeZero ? 'counted' : 'left out'}</dd>
<dt>Neurons</dt><dd>${plan.neurons.perPrompt} a prompt without replacement, ${plan.neurons.sampling === 'shared' ? 'the same for all prompts' : 'drawn anew for each prompt'}, seed ${plan.neurons.seed}</dd>
<dt>Prompts</dt><dd>${plan.prompts.path} (${plan.prompts.format}), seed ${plan.prompts.seed}${plan.prompts.answeredRight ? ', answered right by the model' : ''}${plan.prompts.onePerFact ? ', one a fact' : ''}${plan.prompts.hideAnswer ? ', none with its answer in it' : ''}</dd>
<dt>Precision</dt><dd>float32${plan.dtype === 'f32' ? '' : ` with ${plan.dtype} weights`}. Changes of p are carried as differences, to about 1e-5 of their size; curves that move less than 1e-6 of p count as flat, with r = 0.</dd>
<dt>Models</dt><dd>${summary.models.map(({ stamp }) => html`${stamp.source}${PLACES[stamp.weights ?? 'device']}<br>${Object.entries(stamp.files).map(([file, hash]) => html`<code>${hash}</code> ${file}<br>`)}`)}</dd>
<dt>Machine</dt><dd>${summary.adapter}; ${Object.entries(summary.versions)
    .map(([name, value]) => `${name} ${value}`)
    .join(', ')}</dd>
<dt>Plan</dt><dd><code>${summary.planHash}</code></dd>
</dl></section>`;
  return reportPage(plan.name, main, `${version} · the numbers of this page are in summary.json and tables/`);
}
