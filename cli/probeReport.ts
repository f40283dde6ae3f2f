/** report.html of a probing run: Table 3 beside the paper's, accuracy against |N_s|, where the skill neurons lie. */

import * as Plot from '@observablehq/plot';
import { showToken } from '../models/tokenText.ts';
import { INTERVAL_PARTS } from '../neurgrad/index.ts';
import { accuracyInterval, type Interval, PAPER, SPLITS, type TaskReport } from '../probing/index.ts';
import { type Html, html, raw } from './html.ts';
import { accuracyBySize, draw } from './plots.ts';
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
import { reportPage, tile } from './reportPage.ts';
import { figure } from './table.ts';

/** The page, from summary.json's data alone. */
export function renderProbeReport(summary: ProbeSummary): string {
  const { macro, tasks, model } = summary;
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
${tasks.map((task) => taskSection(task))}
${methodsSection(summary)}
${propertySections(summary.properties, tableOf)}
${leftSection(summary)}
${methodSection(summary)}`;
  return reportPage(
    `skill neurons of ${model.name}`,
    main,
    `${summary.neurgrad} · ${summary.created.slice(0, 16).replace('T', ' ')} UTC · the numbers of this page are in summary.json`,
  );
}

const with95 = (label: string, interval: Interval | null): string =>
  interval ? `${label}; 95% ${between(interval)}` : label;

function tableOf({ head, rows }: TextTable, names = 1): Html {
  const cells = (row: readonly string[]): Html[] =>
    row.map((cell, i) =>
      i < names ? html`<th scope="row">${cell}</th>` : html`<td class="number">${cell}</td>`,
    );
  return html`<div class="scroll"><table>
<thead><tr>${head.map((name, i) => html`<th scope="col"${raw(i < names ? '' : ' class="number"')}>${name}</th>`)}</tr></thead>
<tbody>${rows.map((row) => html`<tr>${cells(row)}</tr>`)}</tbody></table></div>`;
}

const methodsSection = ({ methods }: ProbeSummary): Html =>
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

function taskSection(task: TaskReport): Html {
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
<figure>${curveFigure(task)}<figcaption>Test accuracy against the number of voting neurons |N_s|; the dot is the size chosen on valid. ${bands(task.prompts.test)} Dashed: the model’s own answer; dotted: guessing.
<span class="key positive">Magn</span> <span class="key negative">Polar</span> <span class="key">Act</span></figcaption></figure>
<figure>${layerFigure(task)}<figcaption>Share of the chosen skill neurons in each layer.
<span class="key positive">Magn</span> <span class="key negative">Polar</span></figcaption></figure>
</div>
${list('polar')}${list('magn')}
</section>`;
}

/** What is said of the bands of {@link curveFigure}. */
const bands = (n: number): string =>
  n < INTERVAL_PARTS
    ? `No bands: n = ${counted(n, 'test prompt')}, an interval needs ${INTERVAL_PARTS}.`
    : `Bands: 95% of each curve alone over n = ${n} test prompts (Wilson).`;

const METHODS = [
  { name: 'magn', colour: 'var(--positive)' },
  { name: 'polar', colour: 'var(--negative)' },
  { name: 'act', colour: 'var(--muted)' },
] as const;

function curveFigure(task: TaskReport): Html {
  const points = METHODS.flatMap(({ name, colour }) =>
    task[name].sizes.map((size, i) => {
      const accuracy = task[name].test[i]!;
      const [low, high] = accuracyInterval(accuracy, task.prompts.test) ?? [];
      return { name, colour, size, accuracy, low, high };
    }),
  );
  const chosen = METHODS.map(({ name, colour }) => ({
    colour,
    size: task[name].size,
    accuracy: task[name].accuracy,
  }));
  return accuracyBySize(`${task.task}: test accuracy against the number of neurons`, task.rand, [
    Plot.ruleY([task.lmProb.accuracy], {
      stroke: 'var(--ink)',
      strokeOpacity: 0.6,
      strokeDasharray: '5 4',
    }),
    ...METHODS.map(({ name, colour }) =>
      Plot.areaY(
        points.filter((point) => point.name === name && point.low !== undefined),
        { x: 'size', y1: 'low', y2: 'high', fill: colour, fillOpacity: 0.13 },
      ),
    ),
    ...METHODS.map(({ name, colour }) =>
      Plot.line(
        points.filter((point) => point.name === name),
        { x: 'size', y: 'accuracy', stroke: colour, strokeWidth: 2 },
      ),
    ),
    Plot.dot(chosen, { x: 'size', y: 'accuracy', fill: 'colour', r: 4 }),
  ]);
}

function layerFigure(task: TaskReport): Html {
  const bars = (['magn', 'polar'] as const).flatMap((name) =>
    task[name].layers.map((count, layer) => ({
      layer: layer + (name === 'magn' ? -0.2 : 0.2),
      share: count / task[name].size,
      colour: name === 'magn' ? 'var(--positive)' : 'var(--negative)',
    })),
  );
  return draw(`${task.task}: layers of the skill neurons`, {
    width: 480,
    height: 300,
    marginLeft: 48,
    marginBottom: 40,
    x: {
      label: 'layer',
      domain: [-0.5, task.polar.layers.length - 0.5],
      ticks: task.polar.layers.map((_, layer) => layer).slice(0, 40),
      tickFormat: (layer: number) => String(layer),
    },
    y: { label: 'share', grid: true, ticks: 5 },
    marks: [
      Plot.rectY(bars, {
        x1: (bar: { layer: number }) => bar.layer - 0.18,
        x2: (bar: { layer: number }) => bar.layer + 0.18,
        y: 'share',
        fill: 'colour',
      }),
      Plot.ruleY([0], { stroke: 'var(--line)' }),
    ],
  });
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
<div class="scroll"><table><thead><tr><th scope="col">task</th><th scope="col">split</th><th scope="col" class="number">rows</th><th scope="col">why</th><th scope="col">which</th></tr></thead>
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
