/**
 * The linearity study's tables as Markdown and its page as self-contained HTML, from its summary alone. The paper's value
 * stands beside each number where the model is one of the paper's.
 */

import type { Agreement, Interval, ModelSummary, StudySummary } from '../neurgrad/study/summary.ts';
import { type Html, html, raw } from './html.ts';
import { exampleCurve, polarityByLayer, straightnessByRange } from './linearityPlots.ts';
import { reportStyle } from './reportStyle.ts';
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
const range = ({ value, low, high }: Interval, show: (value: number) => string): string =>
  `${show(value)} [${show(low)}, ${show(high)}]`;
const correlation = (value: number): string => value.toFixed(4);
const paper = (value: number | null | undefined, show = correlation): string =>
  value === null || value === undefined ? '–' : show(value);

/** Said of a model whose weights were not on the device: its sweeps subtract runs. */
const PLACES = {
  device: '',
  disk: ': weights streamed from disk, changes of p between float32 runs of single rows',
  processes: ': split over processes, changes of p between float32 runs of whole prompts',
} as const;

/** Last part of a path or Hub id. */
export const modelName = (model: ModelSummary): string =>
  model.stamp.source
    .replace(/[/\\]+$/, '')
    .split(/[/\\]/)
    .at(-1)!;

function agreementRow(name: string, agreement: Agreement | null, printed: string): string[] {
  if (!agreement) return [name, '–', '–', '–', '–', '–', '–', printed];
  return [
    name,
    range(agreement.pearson, correlation),
    correlation(agreement.spearman),
    percent(agreement.signAgreement),
    figure(agreement.meanAbsoluteError, 3),
    correlation(agreement.meanPearson),
    `${agreement.pairs}`,
    printed,
  ];
}

function table1(model: ModelSummary): Cells {
  const { table1, paper: printed } = model;
  return {
    title: `Table 1: agreement with G_E, ${modelName(model)}`,
    head: [
      'estimate',
      'Pearson [95%]',
      'Spearman',
      'same sign',
      'mean abs. error',
      'mean of prompts',
      'pairs',
      'paper',
    ],
    rows: [
      agreementRow('G_C', table1.gradient, paper(printed?.gradient)),
      agreementRow('IG', table1.integrated, paper(printed?.integrated)),
      agreementRow('NeurGrad', table1.neurgrad, paper(printed?.neurgrad)),
      agreementRow('NeurGrad, other sign', table1.opposite, '–'),
    ],
    note: 'Pooled over prompts and neurons; intervals by drawing prompts anew 1000 times.',
  };
}

function table2(model: ModelSummary): Cells {
  const { table2: found, linear, paper: printed } = model;
  return {
    title: `Table 2: linear neurons, ${modelName(model)}`,
    head: ['', 'measured', 'by chance', 'paper'],
    rows: [
      ['linear (|r| >= 0.95)', range(linear, correlation), '–', paper(printed?.linear)],
      ['LG', correlation(found.lg.value), correlation(found.expectedLg), paper(printed?.lg)],
      ['PG', correlation(found.pg.value), correlation(found.expectedPg), paper(printed?.pg)],
      ['LG coverage', correlation(found.lg.coverage), '–', '–'],
      ['LG distribution', correlation(found.lg.distribution), '–', '–'],
    ],
    note: `By chance: linear neurons thrown into layers (prompts) evenly. maxVar: ${found.maxVariance}.`,
  };
}

function layerTable(model: ModelSummary): Cells {
  return {
    title: `Linear neurons by layer, ${modelName(model)}`,
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
    title: `Figure 2: straightness by range, ${modelName(model)}`,
    head: ['range', 'mean |r|', 'share linear'],
    rows: model.figure2.map(({ range, meanR, linear }) => [`±${range}`, correlation(meanR), percent(linear)]),
    note: 'At the smallest range two points always lie on one line.',
  };
}

function costTable(model: ModelSummary): Cells {
  const { cost, paper: printed } = model;
  const row = (name: string, seconds: number | null | undefined, value: number | undefined): string[] => [
    name,
    seconds ? `${figure(seconds, 3)} s` : '–',
    seconds && cost ? (seconds / cost.gradient).toFixed(2) : '–',
    value === undefined ? '–' : value.toFixed(2),
  ];
  return {
    title: `Cost of one prompt, all neurons, ${modelName(model)}`,
    head: ['method', 'time', 'G_C = 1', 'paper'],
    rows: [
      row('G_C', cost?.gradient, printed?.cost ? 1 : undefined),
      row('NeurGrad', cost?.neurgrad, printed?.cost?.neurgrad),
      row('IG', cost?.integrated, printed?.cost?.integrated),
    ],
    note: 'Times are this machine’s and vary from run to run; all other tables do not.',
  };
}

function promptTable(model: ModelSummary): Cells {
  const { prompts } = model;
  return {
    title: `Prompts, ${modelName(model)}`,
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
  const each = (make: (model: ModelSummary) => Cells): Cells[] => summary.models.map(make);
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
  const { negative } = model.activations;
  const found = model.table1.gradient.pearson.value;
  if (direction !== 'outward')
    return `On the plain axis the shift is added as it is, and G_E estimates G_C itself (Pearson ${correlation(found)}).`;
  return (
    `${percent(negative)} of the activations here are negative. Shifts go outward, along the activation’s own sign, so that G_E estimates sign(A)·G_C: ` +
    `for a negative activation that is −G_C. Pearson of the raw G_C with G_E is therefore ${found < -0.3 ? 'strongly negative' : found < 0 ? 'slightly negative' : 'what the mix of signs leaves'} ` +
    `(${correlation(found)}), and NeurGrad, which is sign(A)·G_C, has ${correlation(model.table1.neurgrad.pearson.value)}. ` +
    `A model with as many positive as negative activations gives a G_C correlation near 0; that is a matter of signs, not of quality.`
  );
}

function modelSection(model: ModelSummary, summary: StudySummary): Html {
  const tile = (value: string, label: string): Html =>
    html`<li><strong>${value}</strong><span>${label}</span></li>`;
  return html`<section>
<h2>${modelName(model)}</h2>
<ul class="tiles">
${[
  tile(percent(model.linear.value), 'of neurons are linear for a prompt'),
  tile(correlation(model.table1.neurgrad.pearson.value), 'Pearson of NeurGrad and G_E'),
  tile(correlation(model.table1.gradient.pearson.value), 'Pearson of the raw G_C and G_E'),
  tile(percent(model.activations.negative), 'of activations are negative'),
]}
</ul>
<p class="meta">${model.stamp.architecture}, ${model.stamp.layers} layers × ${model.stamp.width} neurons · ${model.prompts.count} prompts × ${summary.plan.neurons.perPrompt} neurons, ${model.flat} flat curves, ${model.activations.zero} activations exactly 0</p>
<h3>Table 1: estimates against G_E</h3>${tableHtml(table1(model))}
<p>${whySign(model, summary.plan.direction)}</p>
<h3>Table 2: linear neurons and their generality</h3>${tableHtml(table2(model))}
<h3>By layer</h3>
<figure>${polarityByLayer(model.layers)}<figcaption>Linear neurons that raise the target above the axis, that lower it below.</figcaption></figure>
<h3>Single neurons</h3>
<div class="grid">${model.examples.map(
    (curve) =>
      html`<figure class="small"><figcaption><b>L${curve.layer}.N${curve.index}</b> r ${signed(curve.r, 3)} · G_E ${signed(curve.slope, 3)}<br>${curve.prompt} <mark>${curve.answer}</mark></figcaption>${exampleCurve(curve, `L${curve.layer}.N${curve.index}: value against shift`)}</figure>`,
  )}</div>
<h3>Cost</h3>${tableHtml(costTable(model))}
<details><summary>Prompts looked at and left out</summary>${tableHtml(promptTable(model))}</details>
<details><summary>Linear neurons by layer, in numbers</summary>${tableHtml(layerTable(model))}</details>
</section>`;
}

/** report.html */
export function renderStudy(summary: StudySummary, version: string): string {
  const { plan } = summary;
  const withFigure = summary.models.filter(({ figure2 }) => figure2.length > 0);
  const { from, to, step } = plan.grid;
  const page = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>neurgrad: ${plan.name}</title>
<style>${raw(reportStyle)}</style>
</head>
<body>
<main>
<header>
<p class="eyebrow">neurgrad · linearity of neurons</p>
<h1>${plan.name}</h1>
<p class="lead">Neurons were shifted one at a time from ${from} to ${to} in steps of ${step}, and the target’s ${plan.of} read each time. How straight are the curves, and does one backward pass foretell their slopes?</p>
</header>
${
  withFigure.length === 0
    ? raw('')
    : html`<section><h2>Figure 2: how far a line holds</h2>
<figure>${straightnessByRange(withFigure.map((model) => ({ name: modelName(model), figure2: model.figure2 })))}
<figcaption>Mean |r| over ${plan.figure.prompts} prompts × ${plan.figure.neurons} neurons, for curves cut at ±R. Dashed: 0.95; upright: ±2, where slopes are fitted.</figcaption></figure></section>`
}
${summary.models.map((model) => modelSection(model, summary))}
<section class="method"><h2>How this was computed</h2>
<dl>
<dt>Conventions</dt><dd>site ${plan.neurons.site}, of ${plan.of}, direction ${plan.direction}, sign ${plan.sign}; slope ${plan.fit.withIntercept ? 'with intercept' : 'through the origin'} and r within ±${plan.fit.range ?? 2}, s = 0 ${plan.fit.includeZero ? 'counted' : 'left out'}</dd>
<dt>Neurons</dt><dd>${plan.neurons.perPrompt} a prompt without replacement, ${plan.neurons.sampling === 'shared' ? 'the same for all prompts' : 'drawn anew for each prompt'}, seed ${plan.neurons.seed}</dd>
<dt>Prompts</dt><dd>${plan.prompts.path} (${plan.prompts.format}), seed ${plan.prompts.seed}${plan.prompts.answeredRight ? ', answered right by the model' : ''}${plan.prompts.onePerFact ? ', one a fact' : ''}${plan.prompts.hideAnswer ? ', none with its answer in it' : ''}</dd>
<dt>Precision</dt><dd>float32${plan.dtype === 'f32' ? '' : ` with ${plan.dtype} weights`}. Changes of p are carried as differences, to about 1e-5 of their size; curves that move less than 1e-6 of p count as flat, with r = 0.</dd>
<dt>Models</dt><dd>${summary.models.map(({ stamp }) => html`${stamp.source}${PLACES[stamp.weights ?? 'device']}<br>${Object.entries(stamp.files).map(([file, hash]) => html`<code>${hash}</code> ${file}<br>`)}`)}</dd>
<dt>Machine</dt><dd>${summary.adapter}; ${Object.entries(summary.versions)
    .map(([name, value]) => `${name} ${value}`)
    .join(', ')}</dd>
<dt>Plan</dt><dd><code>${summary.planHash}</code></dd>
</dl></section>
</main>
<footer>neurgrad ${version} · the numbers of this page are in summary.json and tables/</footer>
</body>
</html>
`;
  return page.text;
}
