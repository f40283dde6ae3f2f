/**
 * report.html: one self-contained page drawn from report.json's data alone. No font, no request; its one script saves figures.
 */

import { showToken } from '../models/tokenText.ts';
import { describeConventions, type Estimate, formatNeuron, linearRange } from '../neurgrad/index.ts';
import { INTERVAL_PARTS, wilson } from '../neurgrad/intervals.ts';
import { answered } from './answered.ts';
import { ENGINE_WORDS, engineOf } from './engineWords.ts';
import { agreementFigure } from './figures/agreement.ts';
import { FigureBook, fileName } from './figures/book.ts';
import { curveFigure, linearWithin } from './figures/curve.ts';
import { LIGHT } from './figures/palette.ts';
import { straightnessFigure } from './figures/straightness.ts';
import { probabilities } from './figures/ticks.ts';
import { type Html, html, raw } from './html.ts';
import { type ReportPage, reportPage, tile } from './reportPage.ts';
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

/** Wilson's interval of the neurons whose signs agree. */
function wilsonOf({ signAgreement, neurons }: Comparison): string {
  if (neurons < INTERVAL_PARTS) return '';
  const { low, high } = wilson(signAgreement, neurons);
  return `; 95% ${percent(low)} to ${percent(high)}`;
}

/** The page. */
export function renderReport(report: Report): ReportPage {
  const { study } = report;
  const figures = new FigureBook({ neurgrad: report.neurgrad, facts: factsOf(report) });
  const main = html`${headSection(report)}
${answerSection(study)}
${agreementSection(study, figures)}
${curvesSection(study, figures)}
${tableSection(study)}
${methodSection(report)}`;
  return reportPage(
    study.prompt.text,
    main,
    `${report.neurgrad} · ${report.created.slice(0, 16).replace('T', ' ')} UTC · the numbers of this page are in report.json`,
    figures,
  );
}

/** Where the figures are from. */
const factsOf = ({ created, model, study, machine }: Report): Record<string, string> => ({
  created,
  model: `${model.folder} (${model.architecture})`,
  ...Object.fromEntries(Object.entries(model.sha256).map(([file, hash]) => [`sha256 of ${file}`, hash])),
  prompt: study.prompt.text,
  target: showToken(study.target),
  conventions: describeConventions(study.conventions),
  seed: String(study.seed),
  adapter: machine.adapter,
});

const COLOUR: Readonly<Record<SweptNeuron['chosen'], string>> = {
  positive: LIGHT.positive,
  negative: LIGHT.negative,
  random: LIGHT.muted,
};

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
  tile(percent(comparison.random.signAgreement), `of them with the same sign${wilsonOf(comparison.random)}`),
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

function agreementSection(
  { sweep, comparison, straightness, conventions }: Study,
  figures: FigureBook,
): Html {
  const row = (name: string, c: Comparison): Html => html`<tr><th scope="row">${name}</th>
<td class="number">${withInterval(c.pearson)}</td><td class="number">${figure(c.spearman)}</td>
<td class="number">${percent(c.signAgreement)}</td>
<td class="number">${figure(c.meanAbsoluteError, 3)}</td>
<td class="number">${withInterval(c.pearsonGradient)}</td></tr>`;
  const { random } = comparison;
  const range = sweep.fit.range ?? 2;
  const n = `n = ${random.neurons} neurons of one prompt`;
  const scatter = agreementFigure(
    {
      name: 'agreement',
      label: 'Estimated against measured effect of each neuron',
      caption: `Each dot is a neuron: NeurGrad from one backward pass, against the slope of p measured by shifting it within ±${range}. Of the random draw: Pearson ${withInterval(random.pearson)}`,
      n,
      interval: random.pearson.interval
        ? 'Brackets: 95% over neurons'
        : `No interval: ${random.pearson.reason}`,
    },
    sweep.neurons.map((neuron) => ({
      estimate: neuron.neurgrad,
      measured: neuron.slope,
      colour: COLOUR[neuron.chosen],
      about: {
        ...{ neuron: formatNeuron(neuron, conventions.site), chosen: neuron.chosen },
        ...{ activation: neuron.activation, G_C: neuron.gradient, r: neuron.r },
      },
    })),
    {
      estimate: 'NeurGrad, change of p per unit',
      measured: 'measured slope G_E, change of p per unit',
      axes: 'plain',
      legend: [
        { label: 'strongest positive', colour: LIGHT.positive, mark: 'dot' },
        { label: 'strongest negative', colour: LIGHT.negative, mark: 'dot' },
        { label: 'random draw', colour: LIGHT.muted, mark: 'dot' },
      ],
    },
  );
  const straight = straightnessFigure(
    {
      name: 'straightness',
      label: 'How far a neuron may be shifted before p stops following a line',
      caption: `Mean |r| of curves cut at ±R, over the random draw; upright: ±${range}, where slopes are fitted. At the smallest range two points always lie on a line`,
      n,
      interval: straightness.some(({ meanR }) => meanR.interval)
        ? 'Band: 95% over neurons'
        : `No band: ${straightness.at(-1)?.meanR.reason}`,
    },
    [{ model: 'mean |r|', points: straightness }],
    [range],
  );
  return html`<section>
<h2>The estimate against the measurement</h2>
<div class="pair">
${figures.show(scatter)}
${figures.show(straight)}
</div>
<div class="scroll" role="group" aria-label="table" tabindex="0"><table>
<thead><tr><th scope="col">neurons</th><th scope="col" class="number">Pearson [95%]</th><th scope="col" class="number">Spearman</th><th scope="col" class="number">same sign</th><th scope="col" class="number">mean abs. error</th><th scope="col" class="number">Pearson of raw G_C [95%]</th></tr></thead>
<tbody>${[
    row(`random draw (${comparison.random.neurons})`, comparison.random),
    row(`all swept (${comparison.all.neurons})`, comparison.all),
  ]}</tbody></table></div>
</section>`;
}

function curvesSection({ sweep, conventions, target }: Study, figures: FigureBook): Html {
  const range = sweep.fit.range ?? 2;
  const of = (chosen: SweptNeuron['chosen']): SweptNeuron[] =>
    sweep.neurons.filter((neuron) => neuron.chosen === chosen).slice(0, SHOWN);
  const extremes = [...of('positive'), ...of('negative')];
  // One scale for those that are to be compared by eye.
  const shared = probabilities(extremes.flatMap(({ p }) => [...p]));
  const small = (neuron: SweptNeuron): Html => {
    const { shifts, p, changes, slope, intercept, r, flat, noise } = neuron;
    const name = formatNeuron(neuron, conventions.site);
    const base = p[shifts.indexOf(0)]!;
    const linear = flat ? 0 : linearRange(shifts, changes);
    const told = {
      name: fileName('curve', name),
      label: `${name}: probability of ${showToken(target)} against shift`,
      caption: `${name}: r ${flat ? 'flat' : signed(r, 3)}, G_E ${signed(slope, 3)} per unit within ±${range}; |r| ≥ 0.95: ${linearWithin(linear)}`,
      n: `n = ${shifts.length} shifts of one neuron of one prompt`,
      interval: `No interval: one curve; rounding noise of p up to ${figure(noise, 2)}`,
    };
    const curve = { shifts, values: p, base, slope, intercept, range, linear, neurgrad: neuron.neurgrad };
    return figures.show(
      curveFigure(told, curve, {
        colour: COLOUR[neuron.chosen],
        of: `p(${showToken(target)})`,
        probability: true,
        ...(neuron.chosen === 'random' ? {} : { domain: shared }),
      }),
    );
  };
  return html`<section>
<h2>What shifting a neuron does</h2>
<p>Probability of <b>${showToken(target)}</b> while one neuron’s activation at the probe position is shifted ${
    conventions.direction === 'outward' ? 'along its own sign' : 'up and down'
  }, all else left alone. Dashed: the line fitted within ±${range} (shaded); dotted: NeurGrad, foretold by one backward pass.</p>
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
  const rows = (
    neurons: readonly SweptNeuron[],
  ): Html => html`<div class="scroll" role="group" aria-label="table" tabindex="0"><table>
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
