/** The map and the curve as figures for papers, by the exporter of the reports. */

import { figureCsv } from '../../../cli/figures/csv.ts';
import { curveFigure, linearWithin } from '../../../cli/figures/curve.ts';
import { drawFigure, type Figure } from '../../../cli/figures/figure.ts';
import { everyNeuron, mapFigure } from '../../../cli/figures/map.ts';
import { LIGHT } from '../../../cli/figures/palette.ts';
import { pngFile, svgFile } from '../../../cli/figures/save.mjs';
import type { Source } from '../../../cli/figures/source.ts';
import { signed } from '../../../cli/numbers.ts';
import { linearRange } from '../../../neurgrad/index.ts';
import { version } from '../../../package.json';
import { type Ending, save } from './download.ts';
import { word } from './format.ts';
import { FIT_RANGE } from './lines.ts';
import { nameOfModel } from './models.ts';
import type { ModelCard, Study } from './protocol.ts';
import { nameOf } from './state.ts';
import type { View } from './view.ts';

/** Names on the map, and at the beginning of a sentence. */
const QUANTITIES = {
  neurgrad: ['NeurGrad', 'NeurGrad, by one backward pass,'],
  gradient: ['G_C', 'Gradient G_C'],
  activation: ['activation', 'Activation'],
} as const;

/** Saves the map; its CSV has all that is known of every neuron. Does nothing while it shows another sentence's. */
export async function saveMap(view: View, ending: Ending): Promise<void> {
  const { study, card, state, current } = view;
  if (!study || !card || !current.study) return;
  const { layers, width } = card;
  const [of, what] = QUANTITIES[state.quantity];
  const all = Array.from({ length: layers * width }, (_, flat) => ({
    layer: Math.floor(flat / width),
    neuron: flat % width,
    activation: study.activation[flat]!,
    gradient: study.gradient[flat]!,
    neurgrad: study.neurgrad[flat]!,
    noise: study.noise[flat]!,
  }));
  const figure = mapFigure(
    everyNeuron(`map-${state.quantity}`, of, what, {
      model: nameOfModel(state.model),
      prompt: asked(study),
      token: `“${word(study.target)}”`,
      neurons: layers * width,
    }),
    all.map((neuron) => ({
      layer: neuron.layer,
      index: neuron.neuron,
      value: neuron[state.quantity],
    })),
    { layers, width, signs: true, of },
  );
  await saveFigure({ ...figure, data: all }, ending, sourceOf(view, study, card));
}

/** Saves the sweep of the selected neuron; without one does nothing. */
export async function saveCurve(view: View, ending: Ending): Promise<void> {
  const { study, card, sweep, state, current } = view;
  if (!sweep || !study || !card || !current.study || !state.selected) return;
  const { shifts, p, changes, slope, intercept, r, flat, neurgrad } = sweep.curve;
  const name = nameOf(state.selected);
  const target = `“${word(study.target)}”`;
  const linear = flat ? 0 : linearRange(shifts, changes);
  const figure = curveFigure(
    {
      name: `curve-${name}`,
      label: `${name} of ${nameOfModel(state.model)}: probability of ${target} against shift`,
      caption: `${name}: r ${signed(r, 3)}, G_E ${signed(slope, 3)} per unit within ±${FIT_RANGE}; |r| ≥ 0.95: ${linearWithin(linear)}. ${nameOfModel(state.model)} for “${asked(study)}”, target ${target}`,
      n: `n = ${shifts.length} shifts of one neuron of one prompt`,
      interval: 'No interval: one curve',
    },
    { shifts, values: p, base: study.p, slope, intercept, range: FIT_RANGE, linear, neurgrad },
    {
      colour: slope > 0 ? LIGHT.positive : LIGHT.negative,
      of: `probability of ${target}`,
      probability: true,
    },
  );
  await saveFigure(figure, ending, sourceOf(view, study, card));
}

/** The sentence, and the token whose neurons they are where it is not the one that is asked for. */
const asked = ({ question, tokens }: Study): string =>
  question.at === null ? question.text : `${question.text}”, neurons at “${tokens[question.at] ?? ''}`;

function sourceOf({ state }: View, { question, target }: Study, card: ModelCard): Source {
  return {
    neurgrad: version,
    facts: {
      model: nameOfModel(state.model),
      weights: state.dtype,
      adapter: card.adapter,
      prompt: question.text,
      ...(question.chat ? { template: 'the tokenizer’s, one message' } : {}),
      position: question.at === null ? 'where the model is asked' : `token ${question.at}`,
      target: target.token,
      conventions: `site ${question.site}, of prob, direction ${question.direction}`,
    },
  };
}

async function saveFigure(figure: Figure, ending: Ending, source: Source): Promise<void> {
  const name = `${figure.name}.${ending}`;
  if (ending === 'csv') return save(name, figureCsv(figure, source), 'text/csv');
  const text = svgFile(drawFigure(figure, document).svg);
  if (ending === 'svg') save(name, text, 'image/svg+xml');
  else save(name, await pngFile(text));
}
