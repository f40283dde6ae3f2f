/**
 * Gradients of chosen neurons for every candidate of every prompt of a task, kept as they are: what probers of the registry learn from, and
 * what is taken elsewhere, such as into scikit-learn.
 */

import {
  callback,
  checkMembers,
  checkOptions,
  checkValue,
  isPlain,
  like,
  optionsSchema,
  text,
} from '../engine/options.ts';
import type { TensorToWrite } from '../models/safetensors.ts';
import { type Estimator, estimateNeurons, estimatorField } from '../neurgrad/estimators/estimator.ts';
import { type LanguageModel, modelField, neuronAt, UserError } from '../neurgrad/index.ts';
import { below, checkGiven, checkNumbers } from '../neurgrad/lists.ts';
import { type ReadingConventions, readingFields } from './collect.ts';
import { SPLITS, type Split } from './data.ts';
import type { Examples } from './examples.ts';
import type { TaskPlan } from './prompts.ts';
import { prefixesOf, readersOf, readPrompts } from './run.ts';

/** One split's prompts. */
export interface SplitFeatures extends Examples {
  /** Where each prompt's row stands: `test/17`, row 17 (from 0) of the file of test; `17` in a file of one's own. */
  readonly ids: readonly string[];
  /** The model's own probability of each candidate, [prompts, candidates]. */
  readonly probabilities: Float32Array;
}

/** All that was read of a task. */
export interface Features {
  readonly task: string;
  readonly labels: readonly string[];
  /** What the gradients are of, and where. */
  readonly conventions: ReadingConventions;
  /** The estimator's name, where `gradients` holds its estimates; null where they are the conventions' own. */
  readonly estimator: string | null;
  /** Flat indices, layer × width + i, in the order of the tables. */
  readonly neurons: readonly number[];
  /** Neurons of a layer. */
  readonly width: number;
  readonly splits: Readonly<Record<Split, SplitFeatures>>;
}

/** What is read, who is told, and what stands in for a lost device. */
export interface FeatureOptions {
  /**
   * What is read of each neuron for each candidate, that candidate being the target: this estimate of G_E, run prompt by prompt; default
   * the gradients of the conventions, NeurGrad, all prompts in few passes.
   */
  readonly estimator?: Estimator | undefined;
  /** The same model on another device, as {@link collect} has it. */
  readonly reopen?: () => Promise<LanguageModel>;
  readonly onProgress?: (done: number, all: number) => void;
  readonly onNote?: (text: string) => void;
}

const readingConventions = optionsSchema<ReadingConventions>(readingFields);
const featureOptions = optionsSchema<FeatureOptions>({
  estimator: estimatorField,
  reopen: callback(),
  onProgress: callback(),
  onNote: callback(),
});

const metadata = like<Readonly<Record<string, string>>>(
  (value) => isPlain(value) && Object.values(value).every((each) => typeof each === 'string'),
  'texts by name',
);

/**
 * Reads all prompts of a plan, and keeps the neurons asked for.
 * @param neurons flat indices, layer × width + i.
 * @throws UserError for a neuron that the model has not, or that is asked for twice.
 */
export async function readFeatures(
  model: LanguageModel,
  plan: TaskPlan,
  conventions: ReadingConventions,
  neurons: readonly number[],
  options: FeatureOptions = {},
): Promise<Features> {
  checkOptions('readFeatures', featureOptions, options);
  checkMembers('readFeatures: conventions', readingConventions, conventions);
  checkValue('readFeatures', 'model', modelField, model);
  checkGiven('readFeatures', 'plan', plan, 'prompts', 'a plan, which planTask gives');
  const { layers, width } = model.sizes;
  checkNumbers('readFeatures', 'neurons', neurons, below(layers * width), 1);
  if (new Set(neurons).size < neurons.length)
    throw new UserError('neuron', 'readFeatures: neurons has one of them twice');
  const { site, of, direction, sign } = conventions;
  const { estimator } = options;
  const named = neurons.map((flat) => neuronAt(flat, width, site));
  const candidates = plan.candidates.length;
  const count = neurons.length;
  const all = SPLITS.reduce((sum, split) => sum + plan.prompts[split].length, 0);
  let before = 0;
  const prefixes = prefixesOf(plan);
  using readers = readersOf(model, conventions, options)();
  const splits = {} as Record<Split, SplitFeatures>;
  for (const split of SPLITS) {
    const prompts = plan.prompts[split];
    const gradients = new Float32Array(prompts.length * candidates * count);
    const activations = new Float32Array(prompts.length * count);
    const probabilities = new Float32Array(prompts.length * candidates);
    for await (const [p, { reading }] of readPrompts(readers, prompts, plan, prefixes)) {
      for (const [i, neuron] of neurons.entries()) {
        activations[p * count + i] = reading.activation[neuron]!;
        for (let c = 0; c < candidates && !estimator; c++)
          gradients[(p * candidates + c) * count + i] = reading.gradients[c * layers * width + neuron]!;
      }
      for (let c = 0; c < candidates && estimator; c++) {
        const { ids, position } = prompts[p]!;
        const asked = { ids, position, target: plan.candidates[c]!, of, direction, sign };
        const { values } = await estimateNeurons(estimator, model, asked, named);
        gradients.set(Float32Array.from(values), (p * candidates + c) * count);
      }
      probabilities.set(reading.probabilities, p * candidates);
      options.onProgress?.(before + p + 1, all);
    }
    before += prompts.length;
    splits[split] = {
      ...{ candidates, neurons: count, gradients, activations, probabilities },
      gold: prompts.map(({ gold }) => gold),
      ids: prompts.map(({ from, index }) => (from ? `${from}/${index}` : String(index))),
    };
  }
  return {
    task: plan.task.name,
    labels: plan.task.labels,
    conventions: { site, of, direction, sign },
    estimator: estimator?.name ?? null,
    neurons: [...neurons],
    width,
    splits,
  };
}

/** What a file of features says it is. */
export const FEATURES_FORMAT = 'neurgrad probe features 1';

/**
 * Writes features as safetensors (Node): for each split `train.gradients` [prompts, candidates, neurons], `train.activations` [prompts, neurons],
 * `train.probabilities` [prompts, candidates] in float32 and `train.gold` [prompts] in int32; `neurons` [neurons, 2] are layer and index. The
 * metadata has task, labels and conventions, and the prompts' ids as JSON, `train.ids`.
 * @param about what else the metadata says, such as the model's name.
 * @throws UserError where the disk refuses.
 */
export async function writeFeatures(
  path: string,
  features: Features,
  about: Readonly<Record<string, string>> = {},
): Promise<void> {
  checkValue('writeFeatures', 'path', text, path);
  for (const member of ['splits', 'neurons', 'labels', 'conventions'] as const)
    checkGiven('writeFeatures', 'features', features, member, 'features, which readFeatures gives');
  checkValue('writeFeatures', 'about', metadata, about);
  const { task, labels, conventions, estimator, neurons, width, splits } = features;
  const tensors: TensorToWrite[] = [
    {
      name: 'neurons',
      dtype: 'I32',
      shape: [neurons.length, 2],
      data: Int32Array.from(neurons.flatMap((neuron) => [Math.floor(neuron / width), neuron % width])),
    },
  ];
  const ids: Record<string, string> = {};
  for (const split of SPLITS) {
    checkGiven('writeFeatures', 'features.splits', splits, split, 'prompts of each split');
    const { candidates, gradients, activations, probabilities, gold, ids: rows } = splits[split];
    const prompts = gold.length;
    const add = (name: string, shape: readonly number[], data: Float32Array | Int32Array): void =>
      void tensors.push({
        name: `${split}.${name}`,
        dtype: data instanceof Float32Array ? 'F32' : 'I32',
        shape,
        data,
      });
    add('gradients', [prompts, candidates, neurons.length], gradients);
    add('activations', [prompts, neurons.length], activations);
    add('probabilities', [prompts, candidates], probabilities);
    add('gold', [prompts], Int32Array.from(gold));
    ids[`${split}.ids`] = JSON.stringify(rows);
  }
  const { writeSafetensors } = await import('../models/safetensors.ts');
  await writeSafetensors(path, tensors, {
    ...about,
    format: FEATURES_FORMAT,
    task,
    labels: JSON.stringify(labels),
    ...conventions,
    ...(estimator === null ? {} : { estimator }),
    ...ids,
  });
}
