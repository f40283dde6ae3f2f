/**
 * A model's studies as plans. They are three, so that each can be stopped and shown alone: Figure 2 with the costs, Tables 1 and 2, and
 * integrated gradients, of which one prompt takes as long as some hundred curves. All draw their prompts in the same order.
 */

import { type PlanInput, PRESETS } from '../../neurgrad/study/plan.ts';
import type { StudyName } from './entry.ts';

/** Questions of a task, where no others are asked for: to train on, and to choose and to test by. */
export const QUESTIONS = { rows: 200, evaluationRows: 100 } as const;

/** How much is measured of a model. */
export interface Sizes {
  readonly prompts: number;
  readonly neurons: number;
  /** Of Figure 2. */
  readonly figure: { readonly prompts: number; readonly neurons: number };
  /** Prompts with integrated gradients. */
  readonly integrated: number;
}

/** The plans of a model, by `source`, on the questions of a file. */
export function plansOf(
  source: string,
  questions: string,
  sizes: Sizes,
  { dtype, engine }: Pick<PlanInput, 'dtype' | 'engine'>,
): Readonly<Record<StudyName, PlanInput>> {
  const { prompts, neurons } = PRESETS.clean;
  const plan = (name: StudyName, count: number, perPrompt: number): PlanInput => ({
    name,
    models: [source],
    ...(dtype === undefined ? {} : { dtype }),
    prompts: { ...prompts, path: questions, count },
    neurons: { ...neurons, perPrompt },
  });
  return {
    // Of its table one neuron a prompt: the figure and the costs are what it is for.
    figure: { ...plan('figure', sizes.figure.prompts, 1), figure: sizes.figure },
    // Where most of the curves are.
    table: { ...plan('table', sizes.prompts, sizes.neurons), ...(engine === undefined ? {} : { engine }) },
    integrated: {
      ...plan('integrated', Math.max(1, sizes.integrated), sizes.neurons),
      integrated: { prompts: Math.max(1, sizes.integrated) },
    },
  };
}
