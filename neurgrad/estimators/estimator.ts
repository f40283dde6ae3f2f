/**
 * What estimates G_E, the slope that a sweep measures: one object with a name and a function of a model, a prompt with its target, and
 * neurons. Studies, their tables and probers' features take any; one from outside the package is handed over as a value.
 */

import { UserError } from '../../engine/errors.ts';
import {
  checkMembers,
  checkValue,
  like,
  list,
  nearest,
  optionsSchema,
  required,
  show,
} from '../../engine/options.ts';
import type { LanguageModel, Quantity } from '../../models/model.ts';
import { conventionFields, type Direction, type Sign } from '../conventions.ts';
import { checkNumbers, FINITE } from '../lists.ts';
import { type Neuron, type NeuronOrName, neuronsOf } from '../neuron.ts';
import { checkProbe, checkTarget, neuronPosition, type Probe, tokenField } from '../predict.ts';
import type { PromptRecord } from '../record.ts';

/** A prompt, and of what slopes are estimated there. */
export interface EstimateProbe extends Probe {
  /** Token id. */
  readonly target: number;
  readonly of: Quantity;
  readonly direction: Direction;
  readonly sign: Sign;
  /** Token whose neurons are meant; default the probe position. */
  readonly neuronPosition?: number | undefined;
  /** The prompt's run, where it is there already. */
  readonly record?: PromptRecord | undefined;
}

/** An estimate for each neuron asked for, in their order. */
export interface Estimates {
  readonly values: ArrayLike<number>;
  /** What of each may be rounding, where that is known. */
  readonly noise?: ArrayLike<number> | undefined;
}

/** An estimate of G_E. */
export interface Estimator {
  /** Small letters, digits and `_`: names it in plans and the column of its values. */
  readonly name: string;
  /** In tables for people; default the name. */
  readonly label?: string | undefined;
  /** Estimates for neurons of one prompt, in any order, each at the site it names. */
  estimate(model: LanguageModel, probe: EstimateProbe, neurons: readonly Neuron[]): Promise<Estimates>;
}

const NAME = /^[a-z][a-z0-9_]*$/;
const EXPECTED =
  'an estimator: { name, estimate(model, probe, neurons) }, its name small letters, digits and _';
const isEstimator = (value: unknown): boolean => {
  const { name, estimate } = (value ?? {}) as Partial<Estimator>;
  return typeof name === 'string' && NAME.test(name) && typeof estimate === 'function';
};
/** One of them, as a field of options. */
export const estimatorField = like<Estimator>(isEstimator, EXPECTED);
/** Estimators from outside the package, as a field of options. */
export const estimatorList = list<Estimator>(estimatorField, `a list of estimators, each ${EXPECTED}`);

/** Names of estimators, as a field of a plan. */
export const estimatorNames = list<string>(
  like<string>(
    (value) => typeof value === 'string' && NAME.test(value),
    "an estimator's name, such as 'neurgrad'",
  ),
  "a list of estimators' names, such as ['gradient', 'neurgrad']",
);

const askedFields = optionsSchema<Pick<EstimateProbe, 'target' | 'of' | 'direction' | 'sign'>>({
  target: required(tokenField),
  of: required(conventionFields.of),
  direction: required(conventionFields.direction),
  sign: required(conventionFields.sign),
});

/**
 * Estimators by their names, in that order. @param own those from outside the package.
 * @throws UserError for a name that none has, one that is there twice, and one of their own that is the package's.
 */
export function chooseEstimators(
  names: readonly string[],
  known: readonly Estimator[],
  own: readonly Estimator[],
): Estimator[] {
  const all = new Map<string, Estimator>();
  for (const each of [...known, ...own]) {
    if (all.has(each.name))
      throw new UserError(
        'estimator',
        `there are two estimators called ${each.name}; give yours another name`,
      );
    all.set(each.name, each);
  }
  if (new Set(names).size < names.length)
    throw new UserError('estimator', `an estimator is named twice: ${names.join(', ')}`);
  return names.map((name) => {
    const found = all.get(name);
    if (found) return found;
    const meant = nearest(name, [...all.keys()]);
    throw new UserError(
      'estimator',
      `unknown estimator ${show(name)}; ${meant ? `did you mean ${meant}?` : `there are ${[...all.keys()].join(', ')}`}`,
    );
  });
}

/**
 * What an estimator says of neurons, or their names; its answer is looked at.
 * @throws UserError for what is no estimator, prompt or neuron, and for an answer that is not a finite number a neuron.
 * @example
 * ```ts
 * import { encodePrompt, estimateNeurons, ESTIMATORS, loadModel } from 'neurgrad';
 *
 * const { model, tokenizer } = await loadModel('examples/models/facts-bert');
 * const prompt = encodePrompt(model, tokenizer, 'The capital of France is [MASK].');
 * const asked = { ...prompt, target: tokenizer.idOf('paris')!, of: 'prob', direction: 'outward', sign: '+' } as const;
 * for (const estimator of ESTIMATORS) {
 *   const { values } = await estimateNeurons(estimator, model, asked, ['L3.N327', 'L0.N4']);
 *   console.log(estimator.name, values.length); // → neurgrad 2
 * }
 * model.device.destroy();
 * ```
 */
export async function estimateNeurons(
  estimator: Estimator,
  model: LanguageModel,
  probe: EstimateProbe,
  neurons: readonly NeuronOrName[],
): Promise<Estimates> {
  checkValue('estimateNeurons', 'estimator', estimatorField, estimator);
  checkProbe('estimateNeurons', model, probe);
  checkMembers('estimateNeurons', askedFields, probe);
  checkTarget(probe.target, model.sizes.vocabulary);
  neuronPosition(probe, probe.neuronPosition);
  const named = neuronsOf('estimateNeurons', neurons, model);
  const found = await estimator.estimate(model, probe, named);
  const { values, noise } = found ?? {};
  for (const [what, list] of Object.entries({ values, ...(noise === undefined ? {} : { noise }) })) {
    checkNumbers(`estimator ${estimator.name}`, what, list, FINITE);
    if (list!.length !== named.length)
      throw new UserError(
        'estimator',
        `estimator ${estimator.name}: ${list!.length} ${what} for ${named.length} neurons; give one a neuron`,
      );
  }
  return found;
}
