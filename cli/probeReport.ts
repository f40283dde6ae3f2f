/** report.html of a probing run: Table 3 beside the paper's, accuracy against |N_s|, where the skill neurons lie. */

import * as Plot from '@observablehq/plot';
import { showToken } from '../models/tokenText.ts';
import { INTERVAL_PARTS } from '../neurgrad/index.ts';
import { accuracyInterval, type Interval, PAPER, SPLITS, type TaskReport } from '../probing/index.ts';
import { accuracyBySize } from './figures/accuracy.ts';
import { FigureBook, fileName } from './figures/book.ts';
import type { Figure } from './figures/figure.ts';
import { LIGHT } from './figures/palette.ts';
import type { Source } from './figures/source.ts';
import { type Html, html, raw } from './html.ts';
import { propertySections } from './probeProperties.ts';
import {
  between,
  counted,
  describeRun,
  intervalsRemark,
  METHODS_REMARK,
  methodsTable,
  type ProbeSummary,
  share,
  spreadTable,
  type TextTable,
  table3,
  testsRemark,
  testsTable,
} from './probeTable.ts';
import { type ReportPage, reportPage, tile } from './reportPage.ts';
import { figure } from './table.ts';

/** The page, from summary.json's data alone. */
export function renderProbeReport(summary: ProbeSummary): ReportPage {
  const { macro, tasks, model } = summary;
  const figures = new FigureBook(sourceOf(summary));
  const main = html`<header>
<p class="eyebrow">neurgrad · skill-neuron probing</p>
<h1>Skill neurons of ${model.name}</h1>
<p class="lead">Can a few neurons’ gradients answer where the model itself is unsure? For every candidate answer, one backward pass gives
the gradient of every feed-forward neuron; a prober lets the neurons that were most consistent in training vote.</p>
<ul class="tiles">
${[
  tile(
    share(macro.magn.accuracy),
    with95(`Magn, mean of ${counted(tasks.length, 'task')}`, macro.magn.interval),
  ),
  tile(share(macro.polar.accuracy), with95('Polar', macro.polar.interval)),
  tile(share(macro.lmProb.accuracy), with95('LM-Prob: the model’s own answer', macro.lmProb.interval)),
  tile(share(macro.rand), 'Rand: guessing'),
]}
</ul>
<p class="meta">${describeRun(summary)}</p>
</header>
${tableSection(summary)}
${tasks.map((task) => taskSection(task, figures))}
${methodsSection(summary)}
${propertySections(summary.properties, tableOf, figures)}
${leftSection(summary)}
${methodSection(summary)}`;
  return reportPage(
    `skill neurons of ${model.name}`,
    main,
    `${summary.neurgrad} · ${summary.created.slice(0, 16).replace('T', ' ')} UTC · the numbers of this page are in summary.json`,
    figures,
  );
}

/** Where the figures are from. */
const sourceOf = ({ neurgrad, created, model, settings, data, adapter }: ProbeSummary): Source => ({
  neurgrad,
  facts: {
    created,
    model: model.name,
    ...Object.fromEntries(Object.entries(model.sha256).map(([file, hash]) => [`sha256 of ${file}`, hash])),
    conventions: `site ${settings.site}, of ${settings.of}, direction ${settings.direction}, sign ${settings.sign}`,
    splits: settings.splits,
    seed: String(settings.seed),
    data: data.folder,
    adapter,
  },
});

const with95 = (label: string, interval: Interval | null): string =>
  interval ? `${label}; 95% ${between(interval)}` : label;

function tableOf({ head, rows }: TextTable, names = 1): Html {
  const cells = (row: readonly string[]): Html[] =>
    row.map((cell, i) =>
      i < names ? html`<th scope="row">${cell}</th>` : html`<td class="number">${cell}</td>`,
    );
  return html`<div class="scroll" role="group" aria-label="table" tabindex="0"><table>
<thead><tr>${head.map((name, i) => html`<th scope="col"${raw(i < names ? '' : ' class="number"')}>${name}</th>`)}</tr></thead>
<tbody>${rows.map((row) => html`<tr>${cells(row)}</tr>`)}</tbody></table></div>`;
}

const methodsSection = ({ methods = [] }: ProbeSummary): Html =>
  methods.length === 0
    ? raw('')
    : html`<section>
<h2>Other probers</h2>
<p>${METHODS_REMARK}</p>
${tableOf(methodsTable(methods), 2)}
</section>`;

function tableSection(summary: ProbeSummary): Html {
  const { skipped, incomplete } = summary;
  const spread = spreadTable(summary);
  const remark = testsRemark(summary);
  return html`<section>
<h2>Accuracy on test, beside the paper’s (Llama2-7B)</h2>
${tableOf(table3(summary))}
<p>Majority: the label most frequent in training. 95%: Wilson’s over test prompts, of the average a bootstrap’s. Null 95%: the whole procedure, fit, choice of |N_s| and
test, on permuted labels; p: share of the permutations that do as well. ${summary.settings.splits === 'released' ? 'Test in train: share of the test rows that stand in train as the same question. ' : ''}The paper’s figures are of Llama2-7B on its own prompts; the last row averages
the same tasks of both. ${intervalsRemark(summary) ?? ''}</p>
${skipped.map(({ task, reason }) => html`<p><b>${task}</b> not run: ${reason}</p>`)}
${incomplete.map(({ task, missingUnits }) => html`<p><b>${task}</b> not complete: ${counted(missingUnits, 'unit')} missing</p>`)}
</section>
<section>
<h2>Against the model’s own answer, and against chance</h2>
${tableOf(testsTable(summary), 2)}
<p>Over LM-Prob: accuracy less LM-Prob’s on the same prompts, with the 95% interval of a bootstrap that draws both answers of a prompt
together, none where all prompts say the same of the two; McNemar’s exact test looks at the prompts that only one of the two answers rightly. Holm: p corrected for the number of tasks. ${remark ?? ''}</p>
</section>
${
  spread
    ? html`<section>
<h2>Spread over demonstrations</h2>
${tableOf(spread)}
<p>Mean ± standard deviation and range over demonstrations drawn with the seeds ${summary.spread!.seeds.join(', ')}.</p>
</section>`
    : ''
}`;
}

function taskSection(task: TaskReport, figures: FigureBook): Html {
  const paper = PAPER[task.task];
  const theirs = (value: number | undefined): string => (paper ? ` (paper ${share(value)})` : '');
  const list = (name: 'polar' | 'magn'): Html => {
    const { size, neurons } = task[name];
    const text = neurons.map(({ neuron, polarity }) => `${neuron}${polarity < 0 ? '−' : '+'}`).join(' ');
    return html`<details><summary>${name === 'polar' ? 'Polar' : 'Magn'}: ${counted(size, 'skill neuron')}${size > neurons.length ? ` (first ${neurons.length})` : ''}</summary><p><code>${text}</code></p></details>`;
  };
  return html`<section>
<h2>${task.task}</h2>
<p>${SPLITS.map((split) => `${task.prompts[split]} ${split}`).join(', ')} prompts; labels ${task.labels.map((label, i) => `${label} (${showToken({ token: task.candidateTokens[i]!, text: task.candidateTexts[i]! })})`).join(', ')}.
Polar ${share(task.polar.accuracy)} with ${counted(task.polar.size, 'neuron')}${theirs(paper?.polar)}, Magn ${share(task.magn.accuracy)} with ${task.magn.size}${theirs(paper?.magn)}, LM-Prob ${share(task.lmProb.accuracy)}${theirs(paper?.lmProb)}.</p>
<div class="pair">
${figures.show(curveFigure(task))}
${figures.show(layerFigure(task))}
</div>
${list('polar')}${list('magn')}
</section>`;
}

const METHODS = [
  { name: 'magn', label: 'Magn', colour: LIGHT.positive },
  { name: 'polar', label: 'Polar', colour: LIGHT.negative },
  { name: 'act', label: 'Act', colour: LIGHT.muted },
] as const;

function curveFigure(task: TaskReport): Figure {
  const n = task.prompts.test;
  return accuracyBySize(
    {
      name: fileName(task.task, 'accuracy'),
      label: `${task.task}: test accuracy against the number of neurons`,
      caption: `${task.task}: accuracy on test against the number of voting neurons |N_s|; the dot is the size chosen on valid`,
      n: `n = ${counted(n, 'test prompt')}`,
      interval:
        n < INTERVAL_PARTS
          ? `No bands: an interval needs ${INTERVAL_PARTS} prompts`
          : 'Bands: 95% of each curve alone (Wilson)',
    },
    METHODS.map(({ name, label, colour }) => ({
      name: label,
      colour,
      points: task[name].sizes.map((size, i) => {
        const accuracy = task[name].test[i]!;
        return { size, accuracy, interval: accuracyInterval(accuracy, n) };
      }),
      chosen: { size: task[name].size, accuracy: task[name].accuracy },
    })),
    { guessing: task.rand, own: task.lmProb.accuracy },
  );
}

function layerFigure(task: TaskReport): Figure {
  const sides = METHODS.filter((method) => method.name !== 'act').map((method, i) => ({
    ...method,
    from: i === 0 ? -0.4 : 0.04,
  }));
  const bars = sides.flatMap(({ name, label, colour, from }) =>
    task[name].layers.map((count, layer) => ({
      ...{ layer, label, colour, count, share: count / task[name].size },
      ...{ x1: layer + from, x2: layer + from + 0.36 },
    })),
  );
  const layers = task.polar.layers.length;
  return {
    name: fileName(task.task, 'layers'),
    label: `${task.task}: layers of the skill neurons`,
    caption: `${task.task}: share of the chosen skill neurons in each layer`,
    n: `n = ${task.magn.size} neurons of Magn, ${task.polar.size} of Polar`,
    interval: 'No interval: all chosen neurons are counted',
    columns: 1,
    height: 180,
    legend: sides.map(({ label, colour }) => ({ label, colour, mark: 'bar' })),
    plot: {
      marginLeft: 30,
      x: {
        label: 'layer',
        domain: [-0.5, layers - 0.5],
        ticks: task.polar.layers
          .map((_, layer) => layer)
          .filter((layer) => layer % Math.ceil(layers / 16) === 0),
        tickFormat: (layer: number) => String(layer),
      },
      y: { label: 'share of the chosen neurons', grid: true, ticks: 5 },
      marks: [
        Plot.rectY(bars, { x1: 'x1', x2: 'x2', y: 'share', fill: 'colour' }),
        Plot.ruleY([0], { stroke: LIGHT.ink }),
      ],
    },
    data: bars.map(({ label, layer, count, share }) => ({ prober: label, layer, neurons: count, share })),
  };
}

function leftSection({ tasks }: ProbeSummary): Html {
  const lines = tasks.flatMap(({ task, left }) =>
    SPLITS.flatMap((split) =>
      left[split].map(
        ({ problem, count, rows }) =>
          html`<tr><th scope="row">${task}</th><td>${split}</td><td class="number">${count}</td><td>${problem}</td><td>${rows.slice(0, 8).join(', ')}${count > 8 ? ', …' : ''}</td></tr>`,
      ),
    ),
  );
  if (lines.length === 0) return html``;
  return html`<section>
<h2>Rows that make no prompt</h2>
<div class="scroll" role="group" aria-label="table" tabindex="0"><table><thead><tr><th scope="col">task</th><th scope="col">split</th><th scope="col" class="number">rows</th><th scope="col">why</th><th scope="col">which</th></tr></thead>
<tbody>${lines}</tbody></table></div>
</section>`;
}

function methodSection(summary: ProbeSummary): Html {
  const { settings, model, data, tasks, adapter } = summary;
  const entry = (term: string, meaning: string | Html): Html => html`<dt>${term}</dt><dd>${meaning}</dd>`;
  const nulls = (['polar', 'magn'] as const).map((name) =>
    figure(tasks.reduce((sum, task) => sum + (task[name].null?.mean ?? Number.NaN), 0) / tasks.length, 3),
  );
  const hashes = Object.entries(model.sha256).map(([file, hash]) => html`<code>${hash}</code> ${file} `);
  return html`<section class="method">
<h2>How this was computed</h2>
<dl>
${[
  entry(
    'Gradients',
    `NeurGrad of each candidate’s ${settings.of} at every ${settings.site} neuron, at the probe position, in float32; direction ${settings.direction}, sign ${settings.sign}`,
  ),
  entry(
    'Polar',
    settings.variant === 'paper'
      ? 'polarity: majority sign of the right candidate’s gradient over training prompts; votes for candidates whose sign is the polarity'
      : 'R = signs of the right candidate less those of the wrong ones; votes sign R × sign g',
  ),
  entry(
    'Magn',
    settings.variant === 'paper'
      ? '+1 where the right candidate’s gradient is above all others, −1 below all; votes for the candidate that has the polarity'
      : 'M = sum of sign(g of the right candidate − g of each); votes for the argmax of sign M × g',
  ),
  entry('Act', 'activations against their class-balanced mean in training, no gradients'),
  entry(
    'Prompts',
    `${settings.splits} splits; instruction, ${settings.shots} demonstration${settings.shots === 1 ? '' : 's'} a label, question; label tokens: ${settings.labelTokens}`,
  ),
  entry(
    'Null',
    settings.permutations === 0
      ? 'no permutations of the labels'
      : `${counted(settings.permutations, 'permutation')} of the labels; mean accuracy Polar ${nulls[0]!}, Magn ${nulls[1]!}`,
  ),
  entry('Model', html`${model.name}<br>${hashes}`),
  entry('Data', [data.folder, ...(data.own ?? [])].filter((name) => name !== '').join(', ')),
  entry('Adapter', adapter),
  entry('Source', 'Zhao, Jiang, Yoshinaga, “Neuron Empirical Gradient”, ACL 2025: Table 3 and MCEval8K'),
]}
</dl>
</section>`;
}
