/**
 * From counters and marks to a task's row of Table 3: fit, choose |N_s| on valid, accuracy on test, and what to read it
 * against: Rand, the most frequent label, LM-Prob prompt by prompt, Wilson's interval, and a null of the whole procedure
 * with the labels permuted in every split.
 */

import { mean, seededRandom, UserError } from '../neurgrad/index.ts';
import {
  below,
  checkGiven,
  checkLengths,
  checkNumber,
  checkNumbers,
  NATURAL,
  SHARE,
} from '../neurgrad/lists.ts';
import {
  type ActivationSums,
  addSums,
  countActivation,
  emptySums,
  fitActivation,
  predictActivation,
} from './activation.ts';
import { type Comparison, comparePaired } from './comparison.ts';
import { addCounts, type Counts, checkVariant, emptyCounts, type Variant } from './counts.ts';
import { magn } from './magn.ts';
import { neuronCount } from './marks.ts';
import { polar } from './polar.ts';
import {
  accuracies,
  argmax,
  fitProber,
  type Prober,
  predictSizes,
  proberSizes,
  selectSize,
} from './prober.ts';
import { accuracyInterval, type Interval, middle } from './resampling.ts';
import { shuffle, textSeed } from './splits.ts';

/** The probers that read gradients. */
export const KINDS = [polar, magn] as const;
/** `polar` or `magn`. */
export type KindName = (typeof KINDS)[number]['name'];

/** What training prompts leave behind: counters of the real labels first, then of each permutation. */
export interface Training {
  prompts: number;
  readonly polar: readonly Counts[];
  readonly magn: readonly Counts[];
  readonly activation: ActivationSums;
}

/**
 * Counters of no prompts yet, for the real labels and each permutation.
 * @throws UserError where there is no memory for so many.
 */
export function emptyTraining(candidates: number, neurons: number, permutations: number): Training {
  for (const [name, value] of Object.entries({ candidates, neurons, permutations }))
    checkNumber('emptyTraining', name, value, NATURAL);
  const lists = () => Array.from({ length: 1 + permutations }, () => emptyCounts(neurons));
  try {
    return { prompts: 0, polar: lists(), magn: lists(), activation: emptySums(candidates, neurons) };
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    const bytes = (1 + permutations) * 16 * neurons + 8 * (1 + candidates) * neurons;
    throw new UserError(
      'memory',
      `${permutations} permutations of ${neurons} neurons take ${(bytes / 1e9).toPrecision(3)} GB for their counters; there is not so much memory`,
      { cause },
    );
  }
}

const checkTraining = (door: string, name: string, training: Training): void =>
  checkGiven(door, name, training, 'polar', 'counters, which emptyTraining gives');

/** Adds one prompt. `golds`: its label, and its label under each permutation. `Trainer` does the same, faster. */
export function train(
  training: Training,
  gradients: Float32Array,
  activation: Float32Array,
  candidates: number,
  golds: readonly number[],
  variant: Variant,
): void {
  checkVariant('train', variant);
  checkTraining('train', 'training', training);
  checkNumbers('train', 'gradients', gradients);
  checkNumbers('train', 'activation', activation);
  checkNumber('train', 'candidates', candidates, NATURAL);
  checkNumbers('train', 'golds', golds, below(training.activation.prompts.length));
  checkLengths('train', { golds, 'labellings of training': training.polar }, 'labels');
  training.prompts++;
  const neurons = neuronCount(gradients, candidates);
  for (const kind of KINDS) {
    // Permutations share a few labels: count once for each label, then add.
    for (const gold of new Set(golds)) {
      const once = emptyCounts(neurons);
      kind.count(once, gradients, candidates, gold, variant);
      golds.forEach((other, k) => {
        if (other === gold) addCounts(training[kind.name][k]!, once);
      });
    }
  }
  countActivation(training.activation, activation, golds[0]!);
}

/** Adds the counters of other prompts. */
export function addTraining(training: Training, more: Training): void {
  checkTraining('addTraining', 'training', training);
  checkTraining('addTraining', 'more', more);
  training.prompts += more.prompts;
  for (const { name } of KINDS) {
    training[name].forEach((counts, k) => {
      addCounts(counts, more[name][k]!);
    });
  }
  addSums(training.activation, more.activation);
}

/** Labels of a split's prompts, permuted: [permutation][prompt]. */
export function permutedGolds(gold: readonly number[], permutations: number, seed: number): number[][] {
  checkNumbers('permutedGolds', 'gold', gold, NATURAL);
  checkNumber('permutedGolds', 'permutations', permutations, NATURAL);
  checkNumber('permutedGolds', 'seed', seed, NATURAL);
  const random = seededRandom(textSeed('permutations', seed));
  return Array.from({ length: permutations }, () => shuffle([...gold], random));
}

/** A valid or test prompt. */
export interface Evaluated {
  readonly gold: number;
  readonly probabilities: readonly number[];
  /** [candidates, neurons] */
  readonly marks: Uint8Array;
  readonly activation: ArrayLike<number>;
}

/** A way to answer, on the test prompts. */
export interface MethodResult {
  readonly accuracy: number;
  /** 95%, Wilson's over test prompts; null below ten. */
  readonly interval: Interval | null;
  readonly predictions: readonly number[];
}

/** Accuracies with permuted labels. */
export interface NullResult {
  /** Test accuracies of probers fitted, selected and tested on permuted labels. */
  readonly accuracies: readonly number[];
  readonly mean: number;
  /** 2.5% to 97.5% of them; null where they are too few to have such ends. */
  readonly interval: Interval | null;
  /** Share of permutations that do as well as the real labels, these counted in. */
  readonly p: number;
}

/** A prober's test, what it was chosen by, and what it is held against. */
export interface ProberResult extends MethodResult {
  /** |N_s| chosen on valid. */
  readonly size: number;
  readonly sizes: readonly number[];
  /** Accuracy at each size. */
  readonly valid: readonly number[];
  readonly test: readonly number[];
  readonly null: NullResult | null;
  /** Against LM-Prob on the same prompts. */
  readonly overLmProb: Comparison;
}

/** The answer that needs neither prompt nor model: the label that is most frequent in training. */
export interface Majority {
  readonly label: number;
  /** Share of the test prompts that have it. */
  readonly accuracy: number;
}

/** One task's row of Table 3, with everything it rests on. */
export interface Evaluation {
  readonly gold: readonly number[];
  readonly rand: number;
  readonly majority: Majority;
  readonly lmProb: MethodResult;
  readonly polar: ProberResult;
  readonly magn: ProberResult;
  readonly act: ProberResult;
  readonly probers: Readonly<Record<KindName, Prober>>;
}

function share(predictions: readonly number[], gold: readonly number[]): number {
  return predictions.filter((prediction, i) => prediction === gold[i]).length / gold.length;
}

function method(predictions: readonly number[], gold: readonly number[]): MethodResult {
  const accuracy = share(predictions, gold);
  return { accuracy, interval: accuracyInterval(accuracy, gold.length), predictions };
}

/** Permutations from which on one of each end is left out of the middle 95%. */
const NULL_ENDS = 39;

/** What permuted labels reach, beside what the real ones do; the real ones count among the permutations (Phipson and Smyth 2010). */
export function nullOf(accuracies: readonly number[], real: number): NullResult {
  checkNumbers('nullOf', 'accuracies', accuracies, SHARE);
  checkNumber('nullOf', 'real', real, SHARE);
  // Means of many accuracies come in orders that differ in their last bits.
  const asGood = accuracies.filter((accuracy) => accuracy >= real - 1e-12).length;
  return {
    accuracies,
    mean: mean(accuracies),
    interval: accuracies.length < NULL_ENDS ? null : middle(accuracies),
    p: (1 + asGood) / (1 + accuracies.length),
  };
}

/** The most frequent label, the first of equals, and its accuracy. @param training prompts of each label. */
export function majorityOf(training: ArrayLike<number>, gold: readonly number[]): Majority {
  checkNumbers('majorityOf', 'training', training, NATURAL, 1);
  checkNumbers('majorityOf', 'gold', gold, NATURAL, 1);
  const label = argmax(training);
  return { label, accuracy: gold.filter((one) => one === label).length / gold.length };
}

type Prompts = AsyncIterable<Evaluated> | Iterable<Evaluated>;

/** Evaluates one task. Prompts are walked through once, one at a time. */
export async function evaluateTask(
  training: Training,
  prompts: { readonly valid: Prompts; readonly test: Prompts },
  candidates: number,
  variant: Variant,
  seed: number,
): Promise<Evaluation> {
  checkVariant('evaluateTask', variant);
  checkTraining('evaluateTask', 'training', training);
  checkGiven('evaluateTask', 'prompts', prompts, 'valid', 'prompts: { valid, test }');
  checkNumber('evaluateTask', 'candidates', candidates, NATURAL);
  checkNumber('evaluateTask', 'seed', seed, NATURAL);
  const fitted = KINDS.map((kind) => training[kind.name].map((counts) => fitProber(kind, variant, counts)));
  const act = fitActivation(training.activation);
  const sizes = proberSizes(training.activation.square.length);

  const walk = async (split: Prompts) => {
    const gold: number[] = [];
    const lmProb: number[] = [];
    const probers = fitted.map((list) => list.map((): Int32Array[] => []));
    const acts: Int32Array[] = [];
    for await (const prompt of split) {
      gold.push(prompt.gold);
      lmProb.push(argmax(prompt.probabilities));
      fitted.forEach((list, kind) => {
        list.forEach((prober, k) => {
          probers[kind]![k]!.push(predictSizes(prober, prompt.marks, candidates, sizes));
        });
      });
      acts.push(predictActivation(act, prompt.activation, candidates, sizes));
    }
    return { gold, lmProb, probers, acts };
  };
  const valid = await walk(prompts.valid);
  const test = await walk(prompts.test);

  /** Chosen on valid, then tested. */
  const select = (validRows: Int32Array[], validGold: number[], testRows: Int32Array[]) => {
    const dev = accuracies(validRows, validGold, sizes.length);
    const at = selectSize(dev);
    return { dev, at, predictions: testRows.map((row) => row[at]!) };
  };
  const judge = (validRows: Int32Array[], testRows: Int32Array[]): ProberResult => {
    const { dev, at, predictions } = select(validRows, valid.gold, testRows);
    return {
      ...method(predictions, test.gold),
      size: sizes[at]!,
      sizes,
      valid: dev,
      test: accuracies(testRows, test.gold, sizes.length),
      null: null,
      overLmProb: comparePaired(predictions, test.lmProb, test.gold, seed),
    };
  };
  const permutations = training.polar.length - 1;
  const validGolds = permutedGolds(valid.gold, permutations, seed + 1);
  const testGolds = permutedGolds(test.gold, permutations, seed + 2);
  const results = KINDS.map((_, kind): ProberResult => {
    const real = judge(valid.probers[kind]![0]!, test.probers[kind]![0]!);
    if (permutations === 0) return real;
    const nulls = testGolds.map((gold, k) => {
      const [validRows, testRows] = [valid.probers[kind]![k + 1]!, test.probers[kind]![k + 1]!];
      const { predictions } = select(validRows, validGolds[k]!, testRows);
      return share(predictions, gold);
    });
    return { ...real, null: nullOf(nulls, real.accuracy) };
  });
  return {
    gold: test.gold,
    rand: 1 / candidates,
    majority: majorityOf(training.activation.prompts, test.gold),
    lmProb: method(test.lmProb, test.gold),
    polar: results[0]!,
    magn: results[1]!,
    act: judge(valid.acts, test.acts),
    probers: { polar: fitted[0]![0]!, magn: fitted[1]![0]! },
  };
}

/** Neurons of each layer among a prober's chosen ones. */
export function layerHistogram(prober: Prober, size: number, layers: number): number[] {
  checkGiven('layerHistogram', 'prober', prober, 'ranking', 'a prober, which fitProber or loadProber gives');
  checkNumber('layerHistogram', 'size', size, below(prober.ranking.length + 1));
  checkNumber('layerHistogram', 'layers', layers, NATURAL);
  const width = prober.polarity.length / layers;
  const counts = new Array<number>(layers).fill(0);
  for (const neuron of prober.ranking.subarray(0, size)) counts[Math.floor(neuron / width)]!++;
  return counts;
}
