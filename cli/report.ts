/**
 * report.html: one self-contained page drawn from report.json's data alone. No script, no font, no request.
 */

import { showToken } from '../models/tokenText.ts';
import { describeConventions, type Estimate, formatNeuron } from '../neurgrad/index.ts';
import { answered } from './answered.ts';
import { ENGINE_WORDS, engineOf } from './engineWords.ts';
import { type Html, html, raw } from './html.ts';
import { curveFigure, scatterFigure, sharedDomain, straightnessFigure } from './plots.ts';
import { reportPage, tile } from './reportPage.ts';
import type { Comparison, Study } from './study.ts';
import { figure, signed, withInterval } from './table.ts';

/** A study with who, where and when: the content of report.json. */
export interface Report {
  readonly neurgrad: string;
  /** ISO 8601, UTC. */
  readonly created: string;
  /** The whole run, from opening the device. */
  readonly seconds: number;
  readonly machine: {
    readonly adapter: string;
    readonly software: boolean;
    readonly node: string;
    readonly webgpu: string;
    readonly platform: string;
  };
  readonly model: {
    readonly folder: string;
    readonly architecture: string;
    readonly layers: number;
    readonly width: number;
    /** By weight file. */
    readonly sha256: Readonly<Record<string, string>>;
  };
  readonly study: Study;
}

type SweptNeuron = Study['sweep']['neurons'][number];

/** Curves shown of each kind. */
const SHOWN = 4;

const percent = (share: number): string => `${(100 * share).toFixed(share === 1 ? 0 : 1)}%`;
const count = (value: number): string => value.toLocaleString('en');

/** The interval of a tile's number, or why there is none. */
const ends = ({ interval, reason }: Estimate, text: (value: number) => string): string =>
  interval ? `; 95% ${text(interval.low)} to ${text(interval.high)}` : `; no interval: ${reason}`;

/** The page. */
export function renderReport(report: Report): string {
  const { study } = report;
  const main = html`${headSection(report)}
${answerSection(study)}
${agreementSection(study)}
${curvesSection(study)}
${tableSection(study)}
${methodSection(report)}`;
  return reportPage(
    study.prompt.text,
    main,
    `${report.neurgrad} · ${report.created.slice(0, 16).replace('T', ' ')} UTC · the numbers of this page are in report.json`,
  );
}

function headSection({ study, model, seconds }: Report): Html {
  const { comparison, gradients, sweep, target } = study;
  return html`<header>
<p class="eyebrow">neurgrad · neuron empirical gradients</p>
<h1>${answered(study.prompt.text, showToken(target))}</h1>
<p class="lead">Which neurons make the model say <b>${showToken(target)}</b>, and how strongly? One backward pass estimated it for all
${count(gradients.neurons)} feed-forward neurons in ${figure(gradients.seconds, 2)} s. To check it, ${sweep.neurons.length} of them were shifted
one at a time and the answer read again, ${count(sweep.rows)} rows in ${figure(sweep.seconds, 3)} s.</p>
<ul class="tiles">
${[
  tile(figure(target.p, 3), `probability of “${showToken(target)}”`),
  tile(
    figure(comparison.random.pearson.value, 4),
    `Pearson of estimate and measurement, ${comparison.random.neurons} random neurons${ends(comparison.random.pearson, figure)}`,
  ),
  tile(percent(comparison.random.signAgreement), 'of them with the same sign'),
  tile(
    percent(study.linearShare.value),
    `of them linear: |r| ≥ 0.95 within ±2${ends(study.linearShare, percent)}`,
  ),
]}
</ul>
<p class="meta">${model.architecture}, ${model.layers} layers × ${count(model.width)} neurons · ${figure(seconds, 3)} s in all</p>
</header>`;
}

function answerSection({ predictions, target }: Study): Html {
  const row = ({
    id,
    token,
    p,
  }: Study['predictions'][number]): Html => html`<tr${id === target.id ? raw(' class="target"') : raw('')}>
<th scope="row">${token}</th><td class="bar"><i style="width:${(100 * p).toFixed(2)}%"></i></td><td class="number">${p < 5e-5 ? '< 0.0001' : p.toFixed(4)}</td></tr>`;
  return html`<section>
<h2>What the model answers</h2>
<table class="bars"><tbody>${predictions.map(row)}</tbody></table>
</section>`;
}

function agreementSection({ sweep, comparison, straightness }: Study): Html {
  const row = (name: string, c: Comparison): Html => html`<tr><th scope="row">${name}</th>
<td class="number">${withInterval(c.pearson)}</td><td class="number">${figure(c.spearman)}</td>
<td class="number">${percent(c.signAgreement)}</td>
<td class="number">${figure(c.meanAbsoluteError, 3)}</td>
<td class="number">${withInterval(c.pearsonGradient)}</td></tr>`;
  return html`<section>
<h2>The estimate against the measurement</h2>
<div class="pair">
<figure>${scatterFigure(sweep.neurons)}
<figcaption>Each dot is a neuron: NeurGrad from one backward pass, against the slope of p measured by shifting it within ±${sweep.fit.range ?? 2}.
On the dashed line both are equal. Of the random draw: Pearson ${withInterval(comparison.random.pearson)}, n = ${comparison.random.neurons} neurons of one prompt${comparison.random.pearson.reason === null ? '' : ` (no interval: ${comparison.random.pearson.reason})`}. <span class="key positive">strongest positive</span> <span class="key negative">strongest negative</span> <span class="key random">random draw</span></figcaption></figure>
<figure>${straightnessFigure(straightness)}
<figcaption>How far a neuron may be shifted before p stops following a straight line: mean |r| over the random draw (n = ${comparison.random.neurons}), for curves cut at ±R; ${straightness.some(({ meanR }) => meanR.interval) ? 'band: 95% over neurons' : `no band: ${straightness.at(-1)?.meanR.reason}`}.
The dot is ±2, where slopes are fitted; the dashed line is 0.95. At the smallest range two points always lie on a line.</figcaption></figure>
</div>
<div class="scroll"><table>
<thead><tr><th scope="col">neurons</th><th scope="col" class="number">Pearson [95%]</th><th scope="col" class="number">Spearman</th><th scope="col" class="number">same sign</th><th scope="col" class="number">mean abs. error</th><th scope="col" class="number">Pearson of raw G_C [95%]</th></tr></thead>
<tbody>${[
    row(`random draw (${comparison.random.neurons})`, comparison.random),
    row(`all swept (${comparison.all.neurons})`, comparison.all),
  ]}</tbody></table></div>
</section>`;
}

function curvesSection({ sweep, conventions, target }: Study): Html {
  const range = sweep.fit.range ?? 2;
  const of = (chosen: SweptNeuron['chosen']): SweptNeuron[] =>
    sweep.neurons.filter((neuron) => neuron.chosen === chosen).slice(0, SHOWN);
  const extremes = [...of('positive'), ...of('negative')];
  const domain = extremes.length > 0 ? sharedDomain(extremes) : undefined;
  const small = (neuron: SweptNeuron): Html => {
    const name = formatNeuron(neuron, conventions.site);
    const label = `${name}: probability of ${showToken(target)} against shift`;
    const own = neuron.chosen === 'random' ? undefined : domain;
    return html`<figure class="small"><figcaption><b>${name}</b> r ${neuron.flat ? 'flat' : signed(neuron.r, 3)} · G_E ${signed(neuron.slope, 3)}</figcaption>${curveFigure(neuron, label, range, own)}</figure>`;
  };
  return html`<section>
<h2>What shifting a neuron does</h2>
<p>Probability of <b>${showToken(target)}</b> while one neuron’s activation at the probe position is shifted ${
    conventions.direction === 'outward' ? 'along its own sign' : 'up and down'
  }, all else left alone. Dashed: the line fitted within ±${range} (shaded).</p>
<h3>Strongest by NeurGrad <small>one scale</small></h3>
<div class="grid">${extremes.map(small)}</div>
<h3>From the random draw <small>each on its own scale</small></h3>
<div class="grid">${of('random').map(small)}</div>
</section>`;
}

function tableSection({ sweep, conventions }: Study): Html {
  const polarity = ['−', '0', '+'];
  const row = (
    neuron: SweptNeuron,
  ): Html => html`<tr class="${neuron.chosen}"><th scope="row"><code>${formatNeuron(neuron, conventions.site)}</code></th>
<td class="number">${figure(neuron.activation)}</td><td class="number">${signed(neuron.gradient)}</td><td class="number">${signed(neuron.neurgrad)}</td>
<td class="number">${signed(neuron.slope)}</td><td class="number">${neuron.flat ? 'flat' : signed(neuron.r)}</td><td class="polarity">${polarity[neuron.polarity + 1]!}</td></tr>`;
  const rows = (neurons: readonly SweptNeuron[]): Html => html`<div class="scroll"><table>
<thead><tr><th scope="col">neuron</th><th scope="col" class="number">activation</th><th scope="col" class="number">G_C</th><th scope="col" class="number">NeurGrad</th><th scope="col" class="number">measured G_E</th><th scope="col" class="number">r</th><th scope="col">polarity</th></tr></thead>
<tbody>${[...neurons].sort((a, b) => b.neurgrad - a.neurgrad).map(row)}</tbody></table></div>`;
  const drawn = sweep.neurons.filter((neuron) => neuron.chosen === 'random');
  return html`<section>
<h2>The strongest neurons</h2>
${rows(sweep.neurons.filter((neuron) => neuron.chosen !== 'random'))}
<details><summary>The ${drawn.length} neurons of the random draw</summary>${rows(drawn)}</details>
</section>`;
}

function methodSection({ study, model, machine }: Report): Html {
  const { conventions, gradients, sweep } = study;
  const entry = (term: string, meaning: string | Html): Html => html`<dt>${term}</dt><dd>${meaning}</dd>`;
  const hashes = Object.entries(model.sha256).map(([file, hash]) => html`<code>${hash}</code> ${file} `);
  return html`<section class="method">
<h2>How this was computed</h2>
<dl>
${[
  entry(
    'Prompt',
    html`<code>${study.prompt.shown.join(' ')}</code>, read and patched at position ${study.prompt.position}`,
  ),
  entry(
    'G_C and NeurGrad',
    'G_C is dp/da, the total derivative by backpropagation in float32. NeurGrad is the derivative along the axis of the shift: on the outward axis sign(a)·G_C, with sign(0) = +1.',
  ),
  entry(
    'G_E and r',
    `Shifts ${sweep.neurons[0]?.shifts[0] ?? ''} to ${sweep.neurons[0]?.shifts.at(-1) ?? ''}; slope of p(s) − p(0) through the origin and Pearson’s r over |s| ≤ ${sweep.fit.range ?? 2} without s = 0, in float64. A curve none of whose changes within that range exceeds its noise, what of them may be rounding, is flat: r = 0, and not linear.`,
  ),
  entry('Conventions', describeConventions(conventions)),
  entry('Path', `engine ${engineOf(sweep)}: ${ENGINE_WORDS[sweep.engine]}, ${count(sweep.rows)} rows`),
  entry(
    'Neurons',
    `${count(gradients.neurons)}, of which ${percent(gradients.negativeActivations)} have an activation below 0, ${gradients.zeros.activation} exactly 0, and ${gradients.zeros.gradient} a gradient of exactly 0; random draw without replacement, seed ${study.seed}`,
  ),
  entry('Model', html`${model.folder}<br>${hashes}`),
  entry('Adapter', machine.adapter),
  entry('Versions', `neurgrad with Node ${machine.node}, webgpu ${machine.webgpu}, ${machine.platform}`),
  entry(
    'Source',
    'Zhao, Jiang, Yoshinaga, “Neuron Empirical Gradient: Discovering and Quantifying Neurons’ Global Linear Controllability”, ACL 2025',
  ),
]}
</dl>
</section>`;
}
