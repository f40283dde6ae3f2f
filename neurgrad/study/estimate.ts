/** What a study will take, before it is run: counted from its plan, and timed on a few neurons of one prompt. */

import { shiftGrid } from '../grid.ts';
import { integrateLayers } from '../integrated.ts';
import { checkGiven } from '../lists.ts';
import { neuronAt, resolveSite } from '../neuron.ts';
import { maskToken } from '../prompt.ts';
import { sweep } from '../sweep.ts';
import { unitsOf } from './folder.ts';
import { checkPlan, type Plan } from './plan.ts';
import { readQuestions } from './prompts.ts';
import { type OpenedModel, unitPoints } from './run.ts';
import { drawNeurons, selectPrompts } from './select.ts';

/** What a study of one model will take: its size, and time and memory extrapolated from the first prompt. */
export interface StudyEstimate {
  readonly units: number;
  /** Neurons times shifts, over all prompts. */
  readonly points: number;
  /** Swept in a second, on this machine, now. */
  readonly pointsPerSecond: number;
  /** Prompts with integrated gradients, and seconds of one. */
  readonly integrated: { readonly prompts: number; readonly seconds: number };
  /** Of sweeps and integrated gradients. */
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
  const questions = readQuestions(plan.prompts, maskToken(model, tokenizer));
  const { prompts } = await selectPrompts(opened, plan.models[number]!, questions, {
    ...plan.prompts,
    count: 1,
  });
  const [prompt] = prompts as [(typeof prompts)[0]];
  const units = unitsOf(plan, [plan.prompts.count]);
  const points = units.reduce((sum, unit) => sum + unitPoints(plan, unit), 0);
  const site = resolveSite(plan.neurons.site, model);
  const count = Math.min(SAMPLE, plan.neurons.perPrompt);
  const neurons = drawNeurons(model, plan.neurons, count, 0, 0).map((n) =>
    neuronAt(n, model.sizes.width, site),
  );
  const shifts = shiftGrid(plan.grid.from, plan.grid.to, plan.grid.step);
  const timed = async (work: () => Promise<unknown>): Promise<number> => {
    // The first time compiles.
    await work();
    const began = performance.now();
    await work();
    return (performance.now() - began) / 1000;
  };
  const { target } = prompt;
  const swept = await timed(() =>
    sweep(model, prompt, { neurons, shifts, target, of: plan.of, engine: plan.engine }),
  );
  const pointsPerSecond = (count * (shifts.length - 1)) / swept;
  const wanted = Math.min(plan.integrated.prompts, plan.prompts.count);
  const { steps } = plan.integrated;
  const layer =
    wanted > 0
      ? await timed(() => integrateLayers(model, prompt, { site, target, of: plan.of, steps, layers: [0] }))
      : 0;
  const integrated = { prompts: wanted, seconds: layer * model.sizes.layers };
  // Twelve columns of 8 or 4 bytes and 4 bytes a shift; a few kB of names and statistics a file.
  const bytes = units.reduce(
    (sum, unit) => sum + 4 * unitPoints(plan, unit) + 80 * plan.neurons.perPrompt + 6000,
    0,
  );
  return {
    units: units.length,
    points,
    pointsPerSecond,
    integrated,
    seconds: points / pointsPerSecond + wanted * integrated.seconds,
    bytes,
  };
}
