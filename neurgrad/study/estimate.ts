/** What a study will take, before it is run: counted from its plan, and timed on a few neurons of one prompt. */

import { estimateNeurons } from '../estimators/estimator.ts';
import { ESTIMATORS } from '../estimators/index.ts';
import { neuronGradients } from '../gradients.ts';
import { shiftGrid } from '../grid.ts';
import { integrateLayers } from '../integrated.ts';
import { checkGiven } from '../lists.ts';
import { resolveSite } from '../neuron.ts';
import { maskToken } from '../prompt.ts';
import { sweep } from '../sweep.ts';
import { unitsOf } from './folder.ts';
import { checkPlan, modelPlans, type Plan } from './plan.ts';
import { readQuestions } from './prompts.ts';
import { type OpenedModel, otherEstimates, unitPoints } from './run.ts';
import { selectionFor, selectPrompts } from './select.ts';

/** What a study of one model will take: its size, and time and memory extrapolated from the first prompt. */
export interface StudyEstimate {
  readonly units: number;
  /** Neurons times shifts, over all prompts. */
  readonly points: number;
  /** Swept in a second, on this machine, now. */
  readonly pointsPerSecond: number;
  /** Prompts with integrated gradients, and seconds of one. */
  readonly integrated: { readonly prompts: number; readonly seconds: number };
  /** Of sweeps and the package's estimators. */
  readonly seconds: number;
  /** Of the part files, about. */
  readonly bytes: number;
}

/** Neurons timed: enough to fill a pass. */
const SAMPLE = 16;

/** Of model `number` of the plan, open. @throws UserError where no prompt passes. */
export async function estimateStudy(plan: Plan, opened: OpenedModel, number = 0): Promise<StudyEstimate> {
  checkPlan('estimateStudy', plan);
  checkGiven('estimateStudy', 'opened', opened, 'model', 'what loadModel gives: { model, tokenizer }');
  const { model, tokenizer } = opened;
  const asked = modelPlans(plan)[number]!;
  const { path, prompts: wantedPrompts, neurons: wantedNeurons } = asked;
  const questions = readQuestions(wantedPrompts, maskToken(model, tokenizer));
  const { prompts } = await selectPrompts(opened, path, questions, { ...wantedPrompts, count: 1 });
  const [prompt] = prompts as [(typeof prompts)[0]];
  const { target } = prompt;
  const units = unitsOf(plan, [wantedPrompts.count]);
  const pointsOf = (unit: (typeof units)[0]): number => unitPoints(plan, asked, unit, model.sizes);
  const points = units.reduce((sum, unit) => sum + pointsOf(unit), 0);
  const site = resolveSite(wantedNeurons.site, model);
  const selection = selectionFor(model, wantedNeurons, 0);
  const ranked = selection.ranked
    ? await neuronGradients(model, prompt, { target, site, of: plan.of })
    : undefined;
  const neurons = selection.neurons(ranked?.neurgrad).slice(0, SAMPLE);
  const shifts = shiftGrid(plan.grid.from, plan.grid.to, plan.grid.step);
  const timed = async (work: () => Promise<unknown>): Promise<number> => {
    // The first time compiles.
    await work();
    const began = performance.now();
    await work();
    return (performance.now() - began) / 1000;
  };
  const swept = await timed(() =>
    sweep(model, prompt, { neurons, shifts, target, of: plan.of, engine: plan.engine }),
  );
  const pointsPerSecond = (neurons.length * (shifts.length - 1)) / swept;
  const wanted = Math.min(plan.integrated.prompts, wantedPrompts.count);
  const { steps } = plan.integrated;
  const layer =
    wanted > 0
      ? await timed(() => integrateLayers(model, prompt, { site, target, of: plan.of, steps, layers: [0] }))
      : 0;
  let others = 0;
  for (const estimator of ESTIMATORS)
    if (otherEstimates(plan).includes(estimator.name))
      others += await timed(() =>
        estimateNeurons(
          estimator,
          model,
          { ...prompt, of: plan.of, direction: plan.direction, sign: plan.sign },
          neurons,
        ),
      );
  const integrated = { prompts: wanted, seconds: layer * model.sizes.layers };
  // Fourteen columns of 8 or 4 bytes and 4 bytes a shift; a few kB of names and statistics a file.
  const bytes = units.reduce((sum, unit) => sum + 4 * pointsOf(unit) + 100 * selection.most + 6000, 0);
  return {
    units: units.length,
    points,
    pointsPerSecond,
    integrated,
    seconds: points / pointsPerSecond + wanted * integrated.seconds + wantedPrompts.count * others,
    bytes,
  };
}
