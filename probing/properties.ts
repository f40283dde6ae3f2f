/**
 * What skill neurons are like, as the ACL paper asks (Zhao, Jiang, Yoshinaga 2025): efficient (few suffice), robust (under other
 * demonstrations and instructions), flexible (other, disjoint ones would do), and how they hang together (two halves taken away apart and at once). All
 * is told in rows of one table, each with its interval over test prompts and with what chance gives.
 */

import {
  checkMembers,
  checkOptions,
  checkValue,
  like,
  list,
  optionsSchema,
  required,
  text,
  whole,
} from '../engine/options.ts';
import { seededRandom, UserError } from '../neurgrad/index.ts';
import {
  below,
  checkGiven,
  checkLists,
  checkNumber,
  checkNumbers,
  NATURAL,
  REAL,
} from '../neurgrad/lists.ts';
import { nullOf, permutedGolds } from './evaluation.ts';
import { chooseNeurons, type Examples } from './examples.ts';
import { type FitOptions, fitFields, methodField, type ProbeMethod } from './method.ts';
import {
  checkSplits,
  evaluateMethod,
  type MethodEvaluation,
  type MethodOptions,
  methodOptions,
  rankScores,
  type SplitExamples,
} from './methodEvaluation.ts';
import { accuracyInterval, bootstrapInterval, type Interval, middle } from './resampling.ts';
import { shuffle } from './splits.ts';

/** The four properties. */
export const PROPERTIES = ['efficiency', 'robustness', 'flexibility', 'interdependency'] as const;
/** One of {@link PROPERTIES}. */
export type Property = (typeof PROPERTIES)[number];

/** One number of a property. */
export interface PropertyRow {
  readonly property: Property;
  /** The prober's name. */
  readonly prober: string;
  /** What of it: `first 16`, `ranks 17-32`, `demonstrations 1`, `half A`. */
  readonly which: string;
  /** Neurons of the set. */
  readonly size: number;
  /** `accuracy` on test; `kept`: share of the same neurons; `change`: of the right candidate's share of the candidates' probability. */
  readonly measure: 'accuracy' | 'kept' | 'change';
  readonly value: number;
  /** 95%; null where there are too few prompts. */
  readonly interval: Interval | null;
  /** Middle 95% of what chance gives; null where it was asked too seldom. */
  readonly chance: Interval | null;
  /** Share of chance that does as well, this counted in; null where chance was not asked. */
  readonly p: number | null;
}

const share = (answers: ArrayLike<number>, gold: ArrayLike<number>): number => {
  let right = 0;
  for (let p = 0; p < gold.length; p++) if (answers[p] === gold[p]) right++;
  return right / gold.length;
};

function accuracyRow(
  about: Pick<PropertyRow, 'property' | 'prober' | 'which' | 'size'>,
  value: number,
  prompts: number,
  nulls: readonly number[],
): PropertyRow {
  const found = nulls.length > 0 ? nullOf(nulls, value) : null;
  return {
    ...about,
    measure: 'accuracy',
    value,
    interval: accuracyInterval(value, prompts),
    chance: found?.interval ?? null,
    p: found?.p ?? null,
  };
}

/**
 * Efficiency: accuracy on test of the first |N_s| neurons, for every |N_s|; chance is the same with the labels of every split permuted.
 * @throws UserError as {@link evaluateMethod}
 */
export function efficiency(
  method: ProbeMethod,
  data: SplitExamples,
  options: MethodOptions = {},
): { readonly evaluation: MethodEvaluation; readonly rows: readonly PropertyRow[] } {
  checkOptions('efficiency', methodOptions, options);
  checkMembers('efficiency: method', methodField, method);
  checkSplits('efficiency', data);
  const evaluation = evaluateMethod(method, data, options);
  const prompts = data.test.gold.length;
  const rows = evaluation.sizes.map((size, s) =>
    accuracyRow(
      { property: 'efficiency', prober: method.name, which: `first ${size}`, size },
      evaluation.test[s]!,
      prompts,
      (evaluation.permuted ?? []).map((bySize) => bySize[s]!),
    ),
  );
  return { evaluation, rows };
}

/** Which sets, and how often chance is asked. */
export interface SetOptions extends FitOptions {
  /** Neurons of a set. */
  readonly size: number;
  /** Disjoint sets at most; default 8. */
  readonly sets?: number;
  /** Random sets to hold them against; default 39. */
  readonly draws?: number;
}
const setOptions = optionsSchema<SetOptions>({
  ...fitFields,
  size: required(whole(1)),
  sets: whole(1),
  draws: whole(),
});

/** Accuracy on test of some neurons, fitted alone on train. */
function tested(
  method: ProbeMethod,
  train: Examples,
  test: Examples,
  places: readonly number[],
  fit: FitOptions,
): number {
  return share(method.fit(chooseNeurons(train, places), fit).predict(chooseNeurons(test, places)), test.gold);
}

/** `count` of the places below `below`, drawn. */
const drawn = (count: number, below: number, random: () => number): number[] =>
  shuffle(
    Array.from({ length: below }, (_, n) => n),
    random,
  ).slice(0, count);

/**
 * Flexibility: the ranking cut into disjoint sets of one size, each fitted alone. Chance is random sets of that size: a set as good as
 * random ones says that its neurons are no more special than any.
 * @throws UserError where the splits do not fit together, or a set is larger than their neurons.
 */
export function flexibility(method: ProbeMethod, data: SplitExamples, options: SetOptions): PropertyRow[] {
  checkOptions('flexibility', setOptions, options);
  checkMembers('flexibility: method', methodField, method);
  checkSplits('flexibility', data);
  const { train, test } = data;
  const { size, sets = 8, draws = 39, seed = 0, variant = 'paper' } = options;
  checkValue('flexibility', 'size', whole(1, train.neurons), size);
  const fit = { seed, variant };
  const ranking = rankScores(method.fit(train, fit).score);
  const random = seededRandom(seed);
  const nulls = Array.from({ length: draws }, () =>
    tested(method, train, test, drawn(size, train.neurons, random), fit),
  );
  return Array.from({ length: Math.min(sets, Math.floor(train.neurons / size)) }, (_, j) => {
    const places = ranking.slice(j * size, (j + 1) * size);
    const which = `ranks ${j * size + 1}-${(j + 1) * size}`;
    return accuracyRow(
      { property: 'flexibility', prober: method.name, which, size },
      tested(method, train, test, places, fit),
      test.gold.length,
      nulls,
    );
  });
}

/** The same task under other circumstances. */
export interface OtherContext {
  /** Such as `demonstrations 1` or `no instruction`. */
  readonly name: string;
  readonly data: SplitExamples;
}

/** How a fit is carried over, and how often its labels are permuted. */
export interface TransferOptions extends FitOptions {
  /** Neurons taken over. */
  readonly size: number;
  readonly permutations?: number;
}
const transferOptions = optionsSchema<TransferOptions>({
  ...fitFields,
  size: required(whole(1)),
  permutations: whole(),
});
const contextList = list<OtherContext>(
  like(
    (value) =>
      typeof (value as OtherContext | null)?.name === 'string' &&
      typeof (value as OtherContext).data === 'object',
    'a context: { name, data }',
  ),
  'a list of contexts: [{ name, data }]',
);

/**
 * Robustness: what is fitted under one context (its neurons, and how they vote) answers the test prompts of others; and how many of the
 * neurons a ranking under the other context would choose again. Chance: the labels of train and of the other test permuted; for the
 * neurons, two sets drawn apart from each other (hypergeometric).
 * @throws UserError where the contexts do not fit together.
 */
export function robustness(
  method: ProbeMethod,
  data: SplitExamples,
  others: readonly OtherContext[],
  options: TransferOptions,
): PropertyRow[] {
  checkOptions('robustness', transferOptions, options);
  checkMembers('robustness: method', methodField, method);
  checkSplits('robustness', data);
  checkValue('robustness', 'others', contextList, others);
  const { train } = data;
  const { size, permutations = 0, seed = 0, variant = 'paper' } = options;
  checkValue('robustness', 'size', whole(1, train.neurons), size);
  const fit = { seed, variant };
  const first = (examples: Examples): number[] => rankScores(method.fit(examples, fit).score).slice(0, size);
  const kept = first(train);
  const known = new Set(kept);
  const relabelled = permutedGolds(Array.from(train.gold), permutations, seed).map((gold) => ({
    ...train,
    gold,
  }));
  const permutedFirst = relabelled.map(first);
  return others.flatMap(({ name, data: other }) => {
    checkSplits('robustness', other);
    if (other.train.neurons !== train.neurons || other.train.candidates !== train.candidates)
      throw new UserError('option', `robustness: ${name} is of other neurons or candidates than data`);
    const labels = permutedGolds(Array.from(other.test.gold), permutations, seed + 2);
    const nulls = relabelled.map((examples, k) =>
      tested(method, examples, { ...other.test, gold: labels[k]! }, permutedFirst[k]!, fit),
    );
    const again = first(other.train).filter((place) => known.has(place)).length;
    const about = { property: 'robustness', prober: method.name, which: name, size } as const;
    return [
      accuracyRow(about, tested(method, train, other.test, kept, fit), other.test.gold.length, nulls),
      {
        ...about,
        measure: 'kept',
        value: again / size,
        interval: null,
        ...keptByChance(again, size, train.neurons),
      },
    ];
  });
}

/**
 * Two sets of `size` of `neurons`, drawn apart: the middle 95% of the share that they have in common, and how likely it is that they share
 * `again` or more (the hypergeometric distribution).
 * @example
 * ```ts
 * import { keptByChance } from 'neurgrad/probing';
 *
 * // Two of four, twice: both the same in 1 of 6.
 * console.log(keptByChance(2, 2, 4).p.toFixed(4)); // → 0.1667
 * ```
 */
export function keptByChance(
  again: number,
  size: number,
  neurons: number,
): { readonly chance: Interval; readonly p: number } {
  checkNumber('keptByChance', 'neurons', neurons, NATURAL);
  checkNumber('keptByChance', 'size', size, below(neurons + 1));
  checkNumber('keptByChance', 'again', again, below(size + 1));
  const least = Math.max(0, 2 * size - neurons);
  // Logarithms of binomial coefficients, factor by factor.
  const choose = (n: number, k: number): number => {
    let sum = 0;
    for (let i = 1; i <= k; i++) sum += Math.log((n - k + i) / i);
    return sum;
  };
  const whole = choose(neurons, size);
  let [cumulated, low, high, p] = [0, -1, -1, 0];
  for (let k = least; k <= size; k++) {
    const chance = Math.exp(choose(size, k) + choose(neurons - size, size - k) - whole);
    cumulated += chance;
    if (low < 0 && cumulated >= 0.025) low = k;
    if (high < 0 && cumulated >= 0.975 - 1e-12) high = k;
    if (k >= again) p += chance;
  }
  if (high < 0) high = size;
  const parts = Math.max(1, size);
  return { chance: [low / parts, high / parts], p: Math.min(1, p) };
}

/** Right answers' probabilities with sets of neurons held at zero: of each prompt, as {@link readAblated} gives them. */
export interface Ablations {
  /** [prompts][candidates] of the model as it is. */
  readonly whole: readonly (readonly number[])[];
  /** Without half A, without half B, without both. */
  readonly halves: readonly [HalfRows, HalfRows, HalfRows];
  /** The same of pairs of random sets. */
  readonly random: readonly (readonly [HalfRows, HalfRows, HalfRows])[];
}
type HalfRows = readonly (readonly number[])[];

const HALVES = ['without A', 'without B', 'without both', 'both less each alone'] as const;

/**
 * Interdependency: by how much the right candidate's share of the candidates' probability changes when half of the skill neurons is held at
 * zero, when the other half is, and when both are; and by how much the change of both differs from the two changes' sum: 0 where the
 * halves do not depend on each other. Chance is as many random neurons of the same layers, halved alike; its p is two-sided.
 * @param size neurons of both halves together.
 */
export function interdependency(
  prober: string,
  size: number,
  gold: readonly number[],
  ablations: Ablations,
  seed = 0,
): PropertyRow[] {
  checkValue('interdependency', 'prober', text, prober);
  checkNumber('interdependency', 'size', size, NATURAL);
  checkNumbers('interdependency', 'gold', gold, NATURAL, 1);
  checkNumber('interdependency', 'seed', seed, NATURAL);
  for (const member of ['whole', 'halves', 'random'] as const)
    checkGiven(
      'interdependency',
      'ablations',
      ablations,
      member,
      'what readAblated gave: { whole, halves, random }',
    );
  const { whole, halves, random } = ablations;
  checkLists('interdependency', 'ablations.whole', whole, REAL, gold.length);
  const rightOf = (rows: HalfRows): number[] =>
    gold.map((right, p) => rows[p]![right]! / rows[p]!.reduce((sum, chance) => sum + chance, 0));
  const before = rightOf(whole);
  /** Of each prompt, in the order of HALVES. */
  const changes = (sets: readonly HalfRows[]): number[][] => {
    const [a, b, both] = sets.map((rows) => rightOf(rows).map((after, p) => after - before[p]!));
    return [a!, b!, both!, both!.map((change, p) => change - a![p]! - b![p]!)];
  };
  const mean = (values: readonly number[]): number =>
    values.reduce((sum, value) => sum + value, 0) / values.length;
  const nulls = random.map((sets) => changes(sets).map(mean));
  return changes(halves).map((values, h): PropertyRow => {
    const value = mean(values);
    const chance = nulls.map((each) => each[h]!);
    const asFar = chance.filter((each) => Math.abs(each) >= Math.abs(value) - 1e-12).length;
    return {
      property: 'interdependency',
      prober,
      which: HALVES[h]!,
      size: h < 2 ? (h === 0 ? Math.ceil(size / 2) : Math.floor(size / 2)) : size,
      measure: 'change',
      value,
      interval: bootstrapInterval([values], seed),
      chance: chance.length < 39 ? null : middle(chance),
      p: chance.length > 0 ? (1 + asFar) / (1 + chance.length) : null,
    };
  });
}
