/** The figures of the linearity study: Figure 2, estimates against G_E, layers, single curves. */

import { linearRange } from '../neurgrad/curve/shape.ts';
import type { ExampleCurve, ModelSummary, StudySummary } from '../neurgrad/study/summary.ts';
import { agreementFigure } from './figures/agreement.ts';
import { fileName } from './figures/book.ts';
import { curveFigure, linearWithin } from './figures/curve.ts';
import type { Figure } from './figures/figure.ts';
import { polarityByLayer } from './figures/layers.ts';
import { LIGHT } from './figures/palette.ts';
import { straightnessFigure } from './figures/straightness.ts';
import { drawn, effective, headline, many, QUANTITY } from './linearityWords.ts';
import { signed } from './table.ts';

/** Figure 2 of the models that have one: at least one must. */
export function rangeFigure({ models, plan }: StudySummary): Figure {
  const withFigure = models.filter(({ figure2 }) => figure2.length > 0);
  // Beyond the figure's ranges a rule would only widen it.
  const marked = withFigure.some(({ figure2 }) => figure2.at(-1)!.range >= plan.fit.range)
    ? [plan.fit.range]
    : [];
  return straightnessFigure(
    {
      name: 'straightness',
      label: 'How far a line holds: mean |r| against the range of shifts',
      caption: `Mean |r| over neurons, for curves cut at ±R${marked.map((range) => `; upright: ±${range}, where slopes are fitted`).join('')}`,
      n: `n = ${[...new Set(withFigure.map(({ figurePrompts }) => figurePrompts))].join(', ')} prompts × ${plan.figure.neurons} neurons`,
      interval: figureBand(withFigure),
    },
    withFigure.map(({ name, figure2 }) => ({ model: name, points: figure2 })),
    marked,
  );
}

/** What is said of the intervals of Figure 2. */
function figureBand(models: readonly ModelSummary[]): string {
  const reasons = new Set(models.flatMap(({ figure2 }) => figure2.at(-1)?.meanR.reason ?? []));
  return reasons.size === 0
    ? `Band: 95% over ${[...new Set(models.map(drawn))].join(' or ')}.`
    : `No band: ${[...reasons].join('; ')}.`;
}

/** Either estimate against G_E. */
export function estimateFigure(
  model: ModelSummary,
  name: 'gradient' | 'neurgrad',
  { plan }: StudySummary,
): Figure {
  const agreement = (model.whole ?? model.table1)[name];
  const title = name === 'gradient' ? 'G_C' : 'NeurGrad';
  const per = `change of ${QUANTITY[plan.of]} per unit`;
  const { pearson } = agreement;
  return agreementFigure(
    {
      name: fileName(model.name, name),
      label: `${title} against G_E, ${model.name}`,
      caption: `${name === 'gradient' ? 'The raw gradient' : 'NeurGrad'} against the measured slope, ${model.name}: ${headline(agreement)}. Root axes. Drawn: ${many(model.pairs.length)} of the pairs`,
      n: `n = ${many(agreement.pairs)} pairs of ${many(model.prompts.count)} prompt${model.prompts.count === 1 ? '' : 's'}`,
      interval: pearson.interval
        ? `Brackets: 95% over ${drawn(model)}, ${effective(pearson)} effective`
        : `No interval: ${pearson.reason}`,
    },
    model.pairs.map(({ activation, gradient, neurgrad, slope }) => ({
      estimate: name === 'gradient' ? gradient : neurgrad,
      measured: slope,
      colour: activation < 0 ? LIGHT.muted : LIGHT.positive,
      about: { activation },
    })),
    {
      estimate: `${title}, ${per}`,
      measured: `measured G_E, ${per}`,
      axes: 'root',
      legend: [
        { label: 'activation < 0', colour: LIGHT.muted, mark: 'dot' },
        { label: 'activation ≥ 0', colour: LIGHT.positive, mark: 'dot' },
      ],
    },
  );
}

export function layersFigure(model: ModelSummary): Figure {
  const [first, last] = [Math.min, Math.max].map((of) => of(...model.layers.map(({ tested }) => tested)));
  const [share] = model.layers.map(({ shares }) => shares.positive);
  return polarityByLayer(
    {
      name: fileName(model.name, 'layers'),
      label: `Share of linear neurons by layer and polarity, ${model.name}`,
      caption: `Linear neurons of ${model.name} by layer: those that raise the target above the axis, those that lower it below`,
      n: `n = ${first === last ? many(first!) : `${many(first!)} to ${many(last!)}`} neurons tested a layer, of ${many(model.prompts.count)} prompts`,
      interval: share?.interval ? `Whiskers: 95% over ${drawn(model)}` : `No intervals: ${share?.reason}`,
    },
    model.layers,
  );
}

/** One of the curves that are shown singly. */
export function exampleFigure(
  model: ModelSummary,
  { layer, index, prompt, answer, slope, neurgrad, r, base, shifts, changes }: ExampleCurve,
  number: number,
  { plan }: StudySummary,
): Figure {
  const name = `L${layer}.N${index}`;
  const linear = linearRange(shifts, changes);
  const { range } = plan.fit;
  const told = {
    name: fileName(model.name, 'curve', number + 1, name),
    label: `${name} of ${model.name}: ${QUANTITY[plan.of]} of ${answer} against shift`,
    caption: `${name}: r ${signed(r, 3)}, G_E ${signed(slope, 3)} per unit within ±${range}; |r| ≥ 0.95: ${linearWithin(linear)}. “${prompt}”, ${answer}`,
    n: `n = ${shifts.length} shifts of one neuron of one prompt`,
    interval: 'No interval: one curve',
  };
  return curveFigure(
    told,
    { shifts, values: changes.map((change) => base + change), base, slope, range, linear, neurgrad },
    {
      colour: slope > 0 ? LIGHT.positive : LIGHT.negative,
      of: `${QUANTITY[plan.of]} of ${answer}`,
      probability: plan.of === 'prob',
    },
  );
}
