/**
 * A random forest (Breiman 2001) of what the release's has: each neuron says which candidate has the largest gradient, the lower one
 * of equals. 100 trees grown until pure, each on a bootstrap sample; at a node the square root of the neurons are tried, the split of
 * least Gini impurity is taken; a forest answers by the mean of its leaves' shares, as scikit-learn's does.
 *
 * What a neuron says is one of a few numbers, so that a node counts and never sorts: a forest of 300 prompts and 2,000 neurons is a
 * fraction of a second. npm's `ml-random-forest` tries every prompt's value against every prompt: 43 s of a processor for the same.
 */

import { UserError } from '../engine/errors.ts';
import { checkOptions } from '../engine/options.ts';
import { seededRandom } from '../neurgrad/random.ts';
import { checkExamples, checkQuestions, gradientsOf, type Questions } from './examples.ts';
import { fitOptions, type ProbeMethod } from './method.ts';

const TREES = 100;

/** [prompts, neurons]: the candidate of the largest gradient. */
function said(questions: Questions): Uint8Array {
  const { candidates, neurons, activations } = questions;
  const prompts = activations.length / neurons;
  const table = new Uint8Array(prompts * neurons);
  for (let p = 0; p < prompts; p++) {
    const gradients = gradientsOf(questions, p);
    for (let n = 0; n < neurons; n++) {
      let best = 0;
      for (let c = 1; c < candidates; c++)
        if (gradients[c * neurons + n]! > gradients[best * neurons + n]!) best = c;
      table[p * neurons + n] = best;
    }
  }
  return table;
}

/** Prompts times Gini impurity: n (1 - Σ (n_c / n)²). */
function impurity(counts: ArrayLike<number>): number {
  let [all, squares] = [0, 0];
  for (let c = 0; c < counts.length; c++) {
    all += counts[c]!;
    squares += counts[c]! ** 2;
  }
  return all === 0 ? 0 : all - squares / all;
}

/**
 * The best threshold of one neuron: what is said up to it goes left. `gain`: by how much prompts times impurity falls; 0 where
 * no threshold parts the prompts.
 * @param table [candidates said, candidates right] numbers of prompts.
 */
export function bestSplit(table: ArrayLike<number>, candidates: number): { gain: number; upTo: number } {
  const left = new Float64Array(candidates);
  const right = new Float64Array(candidates);
  for (let at = 0; at < table.length; at++) right[at % candidates]! += table[at]!;
  const whole = impurity(right);
  let best = { gain: 0, upTo: -1 };
  for (let value = 0; value < candidates - 1; value++) {
    for (let c = 0; c < candidates; c++) {
      const moved = table[value * candidates + c]!;
      left[c]! += moved;
      right[c]! -= moved;
    }
    const gain = whole - impurity(left) - impurity(right);
    // Equal splits differ by rounding: the first of them is taken on every machine.
    if (gain > best.gain + 1e-9) best = { gain, upTo: value };
  }
  return best;
}

/** A tree: a leaf's shares of the candidates, or a question. */
type Tree =
  | { readonly shares: Float64Array }
  | { readonly neuron: number; readonly upTo: number; readonly low: Tree; readonly high: Tree };

/** The forest; see this file's head. A neuron's score is the mean fall of the impurity at its splits, as a share of a tree's prompts. */
export const forest: ProbeMethod = {
  name: 'forest',
  fit(train, options = {}) {
    checkOptions('fit', fitOptions, options);
    const prompts = checkExamples('fit', 'train', train);
    if (prompts === 0) throw new UserError('option', 'fit: train has no prompts');
    const { candidates, neurons, gold } = train;
    const table = said(train);
    const random = seededRandom(options.seed ?? 0);
    const score = new Float64Array(neurons);
    const tried = Math.max(1, Math.floor(Math.sqrt(neurons)));
    const order = Int32Array.from({ length: neurons }, (_, n) => n);

    const grow = (rows: Int32Array): Tree => {
      const counts = new Float64Array(candidates);
      for (const row of rows) counts[gold[row]!]!++;
      let best = { gain: 0, upTo: -1, neuron: -1 };
      if (impurity(counts) > 0) {
        const cells = new Float64Array(candidates * candidates);
        // As many as are to be tried, and on until one parts the prompts.
        for (let k = 0; k < neurons && (k < tried || best.neuron < 0); k++) {
          const at = k + Math.floor(random() * (neurons - k));
          const neuron = order[at]!;
          [order[at], order[k]] = [order[k]!, neuron];
          cells.fill(0);
          for (const row of rows) cells[table[row * neurons + neuron]! * candidates + gold[row]!]!++;
          const split = bestSplit(cells, candidates);
          if (split.gain > best.gain + 1e-9) best = { ...split, neuron };
        }
      }
      const { neuron, upTo, gain } = best;
      if (neuron < 0) return { shares: counts.map((count) => count / rows.length) };
      score[neuron]! += gain / prompts / TREES;
      const isLow = (row: number): boolean => table[row * neurons + neuron]! <= upTo;
      return {
        neuron,
        upTo,
        low: grow(rows.filter(isLow)),
        high: grow(rows.filter((row) => !isLow(row))),
      };
    };
    const trees = Array.from({ length: TREES }, () =>
      grow(Int32Array.from({ length: prompts }, () => Math.floor(random() * prompts))),
    );
    return {
      score,
      predict(questions) {
        const asked = checkQuestions('predict', 'questions', questions);
        const answers = said(questions);
        return Int32Array.from({ length: asked }, (_, p) => {
          const sums = new Float64Array(candidates);
          for (let tree of trees) {
            while ('neuron' in tree)
              tree = answers[p * neurons + tree.neuron]! <= tree.upTo ? tree.low : tree.high;
            for (let c = 0; c < candidates; c++) sums[c]! += tree.shares[c]!;
          }
          let best = 0;
          for (let c = 1; c < candidates; c++) if (sums[c]! > sums[best]! + 1e-9) best = c;
          return best;
        });
      },
    };
  },
};
