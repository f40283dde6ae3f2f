/**
 * Any prober put to the test as Polar and Magn are in a run: neurons ranked on train, the first |N_s| of them fitted again alone, |N_s|
 * chosen on valid, accuracy on test, and a null of all that with the labels of every split permuted.
 */

import { checkMembers, checkOptions, checkValue, list, optionsSchema, whole } from '../engine/options.ts';
import { UserError } from '../neurgrad/index.ts';
import { checkGiven } from '../neurgrad/lists.ts';
import { SPLITS, type Split } from './data.ts';
import { type MethodResult, type NullResult, nullOf, permutedGolds } from './evaluation.ts';
import { checkExamples, chooseNeurons, type Examples } from './examples.ts';
import { type FitOptions, fitFields, methodField, type ProbeMethod } from './method.ts';
import { accuracies, proberSizes, selectSize } from './prober.ts';
import { accuracyInterval } from './resampling.ts';

/** Prompts to fit, to choose |N_s| and to test by: of the same candidates and neurons. */
export type SplitExamples = Readonly<Record<Split, Examples>>;

/** How a prober is put to the test. */
export interface MethodOptions extends FitOptions {
  /** Numbers of neurons to try, rising; default 1, 2, 4 … */
  readonly sizes?: readonly number[];
  /** Of the labels, for the null; default none. */
  readonly permutations?: number;
}

export const methodOptions = optionsSchema<MethodOptions>({
  ...fitFields,
  sizes: list(whole(1), 'a list of numbers of neurons'),
  permutations: whole(),
});

/** What a prober reaches. */
export interface MethodEvaluation extends MethodResult {
  readonly method: string;
  /** |N_s| chosen on valid. */
  readonly size: number;
  readonly sizes: readonly number[];
  /** Accuracy at each size. */
  readonly valid: readonly number[];
  readonly test: readonly number[];
  /** Places of the neurons among the examples', from best to worst. */
  readonly ranking: readonly number[];
  readonly null: NullResult | null;
  /** Test accuracies with permuted labels, [permutations][sizes]; null without permutations. */
  readonly permuted: readonly (readonly number[])[] | null;
}

/** @throws UserError where the splits are not of the same candidates and neurons, or one has no prompts. */
export function checkSplits(door: string, data: SplitExamples): void {
  const { train } = checkedSplits(door, data);
  for (const split of SPLITS) {
    const { candidates, neurons } = data[split];
    if (candidates !== train.candidates || neurons !== train.neurons)
      throw new UserError(
        'option',
        `${door}: data.${split} is of ${candidates} candidates and ${neurons} neurons, data.train of ${train.candidates} and ${train.neurons}`,
      );
  }
}

function checkedSplits(door: string, data: SplitExamples): SplitExamples {
  for (const split of SPLITS) {
    checkGiven(door, 'data', data, split, 'examples of each split: { train, valid, test }');
    if (checkExamples(door, `data.${split}`, data[split]) === 0)
      throw new UserError('option', `${door}: data.${split} has no prompts`);
  }
  return data;
}

/** Places by falling score, equal ones in order. */
export const rankScores = (score: ArrayLike<number>): number[] =>
  Array.from(score, (_, n) => n).sort((a, b) => score[b]! - score[a]! || a - b);

/** Predictions [prompts][sizes] of valid and test by the first neurons of a ranking, fitted anew for each size. */
function predictions(
  method: ProbeMethod,
  data: SplitExamples,
  sizes: readonly number[],
  options: FitOptions,
): { ranking: number[]; valid: number[][]; test: number[][] } {
  const ranking = rankScores(method.fit(data.train, options).score);
  const bySize = sizes.map((size) => {
    const some = ranking.slice(0, size);
    const fitted = method.fit(chooseNeurons(data.train, some), options);
    return {
      valid: fitted.predict(chooseNeurons(data.valid, some)),
      test: fitted.predict(chooseNeurons(data.test, some)),
    };
  });
  const rows = (split: 'valid' | 'test'): number[][] =>
    Array.from(data[split].gold, (_, p) => bySize.map((found) => found[split][p]!));
  return { ranking, valid: rows('valid'), test: rows('test') };
}

/**
 * A prober's accuracy on test with |N_s| chosen on valid, at every size, and what it reaches on permuted labels.
 * @throws UserError where the splits do not fit together, or a size is above their neurons.
 * @example
 * ```ts
 * import { evaluateMethod, magnMethod } from 'neurgrad/probing';
 *
 * // Two candidates, one neuron, whose gradient is the larger for the right one.
 * const gold = [0, 1, 0, 1];
 * const gradients = Float32Array.from(gold.flatMap((right) => [right === 0 ? 2 : 1, right === 1 ? 2 : 1]));
 * const some = { candidates: 2, neurons: 1, gradients, activations: new Float32Array(4), gold };
 * console.log(evaluateMethod(magnMethod, { train: some, valid: some, test: some }).accuracy); // → 1
 * ```
 */
export function evaluateMethod(
  method: ProbeMethod,
  data: SplitExamples,
  options: MethodOptions = {},
): MethodEvaluation {
  checkOptions('evaluateMethod', methodOptions, options);
  checkMembers('evaluateMethod: method', methodField, method);
  checkSplits('evaluateMethod', data);
  const { neurons } = data.train;
  const { permutations = 0, seed = 0, variant = 'paper' } = options;
  const sizes = options.sizes ?? proberSizes(neurons);
  checkValue('evaluateMethod', 'sizes', list(whole(1, neurons), 'a list of numbers of neurons'), sizes);
  const fit = { seed, variant };
  const select = (found: ReturnType<typeof predictions>, valid: readonly number[]) => {
    const dev = accuracies(found.valid, valid, sizes.length);
    const at = selectSize(dev);
    return { dev, at, answers: found.test.map((row) => row[at]!) };
  };
  const gold = Array.from(data.test.gold);
  const found = predictions(method, data, sizes, fit);
  const { dev, at, answers } = select(found, Array.from(data.valid.gold));
  const share = (list: readonly number[], right: readonly number[]): number =>
    list.filter((answer, p) => answer === right[p]).length / right.length;
  const accuracy = share(answers, gold);
  const permuted = (split: Split, offset: number): number[][] =>
    permutedGolds(Array.from(data[split].gold), permutations, seed + offset);
  const [train, valid, test] = [permuted('train', 0), permuted('valid', 1), permuted('test', 2)];
  const nulls = train.map((labels, k) => {
    const other = predictions(method, { ...data, train: { ...data.train, gold: labels } }, sizes, fit);
    return {
      chosen: share(select(other, valid[k]!).answers, test[k]!),
      bySize: accuracies(other.test, test[k]!, sizes.length),
    };
  });
  return {
    method: method.name,
    accuracy,
    interval: accuracyInterval(accuracy, gold.length),
    predictions: answers,
    size: sizes[at]!,
    sizes,
    valid: dev,
    test: accuracies(found.test, gold, sizes.length),
    ranking: found.ranking,
    null:
      permutations > 0
        ? nullOf(
            nulls.map(({ chosen }) => chosen),
            accuracy,
          )
        : null,
    permuted: permutations > 0 ? nulls.map(({ bySize }) => bySize) : null,
  };
}
