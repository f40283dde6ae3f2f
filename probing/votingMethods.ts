/** Polar, Magn and Act as probers of the registry: the same counters, votes and thresholds as in a run, on all neurons of the examples. */

import { checkOptions } from '../engine/options.ts';
import { countActivation, emptySums, fitActivation, predictActivation } from './activation.ts';
import { emptyCounts } from './counts.ts';
import { activationsOf, checkExamples, checkQuestions, gradientsOf, type Questions } from './examples.ts';
import { magn } from './magn.ts';
import { markGradients } from './marks.ts';
import { fitOptions, type ProbeMethod } from './method.ts';
import { polar } from './polar.ts';
import { fitProber, type ProberKind, predictSizes } from './prober.ts';

/** An answer for each prompt. */
function answers(
  questions: Questions,
  neurons: number,
  answer: (prompt: number) => ArrayLike<number>,
): Int32Array {
  const prompts = checkQuestions('predict', 'questions', questions);
  if (questions.neurons !== neurons)
    throw new RangeError(`predict: fitted on ${neurons} neurons, asked of ${questions.neurons}`);
  return Int32Array.from({ length: prompts }, (_, prompt) => answer(prompt)[0]!);
}

const voting = (kind: ProberKind): ProbeMethod => ({
  name: kind.name,
  fit(train, options = {}) {
    checkOptions('fit', fitOptions, options);
    const prompts = checkExamples('fit', 'train', train);
    const { candidates, neurons, gold } = train;
    const variant = options.variant ?? 'paper';
    const counts = emptyCounts(neurons);
    for (let p = 0; p < prompts; p++)
      kind.count(counts, gradientsOf(train, p), candidates, gold[p]!, variant);
    const prober = fitProber(kind, variant, counts);
    return {
      score: prober.score,
      predict: (questions) =>
        answers(questions, neurons, (prompt) => {
          const marks = markGradients(gradientsOf(questions, prompt), candidates);
          return predictSizes(prober, marks, candidates, [neurons]);
        }),
    };
  },
});

/** {@link polar} as a prober of the registry. */
export const polarMethod = voting(polar);
/** {@link magn} as a prober of the registry. */
export const magnMethod = voting(magn);

/** Act as a prober of the registry. */
export const actMethod: ProbeMethod = {
  name: 'act',
  fit(train, options = {}) {
    checkOptions('fit', fitOptions, options);
    const prompts = checkExamples('fit', 'train', train);
    const { candidates, neurons, gold } = train;
    const sums = emptySums(candidates, neurons);
    for (let p = 0; p < prompts; p++) countActivation(sums, activationsOf(train, p), gold[p]!);
    const prober = fitActivation(sums);
    return {
      score: prober.between,
      predict: (questions) =>
        answers(questions, neurons, (prompt) =>
          predictActivation(prober, activationsOf(questions, prompt), candidates, [neurons]),
        ),
    };
  },
};
