/**
 * Logistic regression on the gradients: P(c | prompt) = softmax over c of w · x[c], x the gradients in units of their spread, one
 * weight a neuron whatever the candidate (conditional logit; McFadden 1974), L2 penalty |w|²/2 as scikit-learn's C = 1.
 *
 * The penalised likelihood is strictly convex: its one minimum is found by L-BFGS (Liu and Nocedal 1989) in float64, without a
 * draw. Of npm's `ml-logistic-regression` nothing is used: 50,000 steps of gradient descent of a fixed length, one class against all others,
 * neither penalised nor converged at thousands of features.
 */

import { UserError } from '../engine/errors.ts';
import { checkOptions } from '../engine/options.ts';
import { checkExamples, checkQuestions, type Examples, type Questions } from './examples.ts';
import { fitOptions, type ProbeMethod } from './method.ts';

/** Mean and spread over the training prompts, of each candidate and neuron. */
interface Scale {
  readonly mean: Float64Array;
  readonly spread: Float64Array;
}

function scaleOf({ gradients, candidates, neurons }: Questions): Scale {
  const columns = candidates * neurons;
  const prompts = gradients.length / columns;
  const mean = new Float64Array(columns);
  const spread = new Float64Array(columns);
  for (let at = 0; at < gradients.length; at++) mean[at % columns]! += gradients[at]! / prompts;
  for (let at = 0; at < gradients.length; at++)
    spread[at % columns]! += (gradients[at]! - mean[at % columns]!) ** 2 / prompts;
  return { mean, spread: spread.map(Math.sqrt) };
}

/** [prompts, candidates, neurons]; what never varies in training is 0. */
function scaled({ gradients }: Questions, { mean, spread }: Scale): Float64Array {
  const columns = mean.length;
  return Float64Array.from(gradients, (value, at) => {
    const column = at % columns;
    return spread[column]! > 0 ? (value - mean[column]!) / spread[column]! : 0;
  });
}

function dot(a: ArrayLike<number>, b: ArrayLike<number>, from = 0): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[from + i]!;
  return sum;
}

/** Value of what is minimised, and its gradient into `slope`. */
function loss(x: Float64Array, examples: Examples, w: Float64Array, slope: Float64Array): number {
  const { candidates, neurons, gold } = examples;
  let value = dot(w, w) / 2;
  slope.set(w);
  const scores = new Float64Array(candidates);
  for (let p = 0; p < gold.length; p++) {
    const first = p * candidates * neurons;
    for (let c = 0; c < candidates; c++) scores[c] = dot(w, x, first + c * neurons);
    const top = Math.max(...scores);
    let sum = 0;
    for (let c = 0; c < candidates; c++) sum += Math.exp(scores[c]! - top);
    value += top + Math.log(sum) - scores[gold[p]!]!;
    for (let c = 0; c < candidates; c++) {
      const weight = Math.exp(scores[c]! - top) / sum - (c === gold[p] ? 1 : 0);
      const row = first + c * neurons;
      for (let n = 0; n < neurons; n++) slope[n]! += weight * x[row + n]!;
    }
  }
  return value;
}

/** Steps remembered, steps at most, and the largest part of the gradient that counts as none. */
const [MEMORY, STEPS, FLAT] = [10, 2000, 1e-7];

const steepest = (slope: Float64Array): number =>
  slope.reduce((most, value) => Math.max(most, Math.abs(value)), 0);

/** The weights of least loss. */
function minimise(size: number, f: (w: Float64Array, slope: Float64Array) => number): Float64Array {
  let w: Float64Array = new Float64Array(size);
  let slope: Float64Array = new Float64Array(size);
  let value = f(w, slope);
  const past: { step: Float64Array; turn: Float64Array; product: number }[] = [];
  for (let taken = 0; taken < STEPS && steepest(slope) > FLAT; taken++) {
    const direction = slope.map((part) => -part);
    const share: number[] = [];
    for (let k = past.length - 1; k >= 0; k--) {
      const { step, turn, product } = past[k]!;
      share[k] = dot(step, direction) / product;
      for (let i = 0; i < size; i++) direction[i]! -= share[k]! * turn[i]!;
    }
    const last = past.at(-1);
    const length = last ? last.product / dot(last.turn, last.turn) : 1 / Math.sqrt(dot(slope, slope));
    for (let i = 0; i < size; i++) direction[i]! *= length;
    for (const [k, { step, turn, product }] of past.entries()) {
      const rest = share[k]! - dot(turn, direction) / product;
      for (let i = 0; i < size; i++) direction[i]! += rest * step[i]!;
    }
    const descent = dot(slope, direction);
    let found: [Float64Array, Float64Array, number] | undefined;
    for (let far = 1; far > 1e-6 && !found; far /= 2) {
      const there = w.map((part, i) => part + far * direction[i]!);
      const slopeThere = new Float64Array(size);
      const valueThere = f(there, slopeThere);
      const goesDown = valueThere <= value + 1e-4 * far * descent;
      // Where the sum's rounding hides that, the slope along the way must have become less (Hager and Zhang 2005, approximate Wolfe).
      const level = Math.abs(valueThere - value) <= 1e-12 * Math.abs(value);
      const flatter = level && Math.abs(dot(slopeThere, direction)) <= 0.99 * Math.abs(descent);
      if (level ? flatter : goesDown) found = [there, slopeThere, valueThere];
    }
    // No shorter step goes down: what is left is the rounding of the sum.
    if (!found) break;
    const [there, slopeThere, valueThere] = found;
    const step = there.map((part, i) => part - w[i]!);
    const turn = slopeThere.map((part, i) => part - slope[i]!);
    const product = dot(step, turn);
    if (product > 0) past.push({ step, turn, product });
    if (past.length > MEMORY) past.shift();
    [w, slope, value] = [there, slopeThere, valueThere];
  }
  return w;
}

/**
 * Logistic regression on the gradients of the candidates; see this file's head. A neuron's score is |w|, in units of its gradients' spread.
 */
export const logistic: ProbeMethod = {
  name: 'logistic',
  fit(train, options = {}) {
    checkOptions('fit', fitOptions, options);
    if (checkExamples('fit', 'train', train) === 0)
      throw new UserError('option', 'fit: train has no prompts');
    const { candidates, neurons } = train;
    const scale = scaleOf(train);
    const x = scaled(train, scale);
    const w = minimise(neurons, (weights, slope) => loss(x, train, weights, slope));
    return {
      score: w.map(Math.abs),
      predict(questions) {
        const prompts = checkQuestions('predict', 'questions', questions);
        const asked = scaled(questions, scale);
        return Int32Array.from({ length: prompts }, (_, p) => {
          let best = 0;
          let most = Number.NEGATIVE_INFINITY;
          for (let c = 0; c < candidates; c++) {
            const score = dot(w, asked, (p * candidates + c) * neurons);
            if (score > most) [best, most] = [c, score];
          }
          return best;
        });
      },
    };
  },
};
