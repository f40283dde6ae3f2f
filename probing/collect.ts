/**
 * NeurGrad of every neuron for every candidate of a prompt, and the candidates' probabilities: one reading.
 *
 * Causal models: keys and values of the tokens that all prompts begin with are computed once, those of the rest of a prompt once
 * a prompt, and the candidates are rows of its last position alone, backward included (docs/science.md#many-candidates). Masked models: the
 * candidates are rows of full passes.
 */

import { gatherRows, reshape, scope, type Tensor } from '../engine/index.ts';
import { checkMembers, checkValue, one, optionsSchema, required } from '../engine/options.ts';
import type { Prefix } from '../models/kvCache.ts';
import { type Quantity, type RunResult, runModel } from '../models/model.ts';
import { keepsKeys, prefillAll, type StreamedModel } from '../models/stream.ts';
import { Transformer } from '../models/transformer.ts';
import {
  type Conventions,
  conventionFields,
  differentiated,
  gradientFactor,
  type LanguageModel,
  modelField,
  outwardSign,
  siteHook,
  targetValues,
} from '../neurgrad/index.ts';

/** A prompt as a reader takes it. */
export interface ReadablePrompt {
  readonly ids: readonly number[];
  readonly position: number;
}

/** What one pass over a prompt and its candidates gives. */
export interface Reading {
  /** p of each candidate at the probe position, over the whole vocabulary. */
  readonly probabilities: readonly number[];
  /** [neurons], layer by layer. */
  readonly activation: Float32Array;
  /** NeurGrad [candidates, neurons]. */
  readonly gradients: Float32Array;
}

/** What a prober's gradients are of; see {@link Conventions}. */
export type ReadingConventions = Pick<Conventions, 'site' | 'direction' | 'sign'> & { readonly of: Quantity };

/** What conventions are made of. */
export const readingFields = {
  site: required(one(['pre', 'pre_linear', 'act', 'post'])),
  of: required(conventionFields.of),
  direction: required(conventionFields.direction),
  sign: required(conventionFields.sign),
};
const readingConventions = optionsSchema<ReadingConventions>(readingFields);

/** Reads prompts of one task. */
export interface GradientReader extends Disposable {
  /** `prefix`: tokens that the prompts begin with; the same array again costs nothing. */
  read(
    prompts: readonly ReadablePrompt[],
    candidates: readonly number[],
    prefix: readonly number[],
  ): Promise<Reading[]>;
  /** Frees the caches. */
  dispose(): void;
}

/**
 * Reads with a cache where the model has one, else in full passes. @throws UserError as a run does.
 * @example
 * ```ts
 * import { encodePrompt, loadModel } from 'neurgrad';
 * import { openReader } from 'neurgrad/probing';
 *
 * const { model, tokenizer } = await loadModel('examples/models/facts-bert');
 * const prompt = encodePrompt(model, tokenizer, 'Rome is located in [MASK].');
 * const candidates = ['italy', 'spain'].map((word) => tokenizer.idOf(word)!);
 * const reader = openReader(model, { site: 'post', of: 'prob', direction: 'outward', sign: '+' });
 * const [reading] = await reader.read([prompt], candidates, []);
 * console.log(reading!.gradients.length, reading!.probabilities[0]! > reading!.probabilities[1]!); // → 4096 true
 * reader.dispose();
 * model.device.destroy();
 * ```
 */
export function openReader(model: LanguageModel, conventions: ReadingConventions): GradientReader {
  checkMembers('openReader', readingConventions, conventions);
  checkValue('openReader', 'model', modelField, model);
  return keepsKeys(model) ? cachedReader(model, conventions) : fullReader(model, conventions);
}

const hooks = (model: LanguageModel, { site }: ReadingConventions): string[] =>
  Array.from({ length: model.sizes.layers }, (_, layer) => siteHook(layer, site));

/** Prefix once, rest of the prompt once, candidates as rows of the last position. */
export function cachedReader(
  model: Transformer | StreamedModel,
  conventions: ReadingConventions,
): GradientReader {
  checkMembers('cachedReader', readingConventions, conventions);
  checkValue('cachedReader', 'model', modelField, model as unknown);
  const names = hooks(model, conventions);
  // A multilingual task has a prefix for each of its languages.
  const prefixes = new Map<readonly number[], Prefix>();
  const dispose = (): void => {
    for (const prefix of prefixes.values()) prefix.dispose();
    prefixes.clear();
  };
  return {
    async read(prompts, candidates, shared) {
      let prefix = prefixes.get(shared);
      if (!prefix) {
        [prefix] = (await prefillAll(model, [{ ids: shared }])) as [Prefix];
        prefixes.set(shared, prefix);
      }
      const { length } = prefix;
      const rests = prompts.map(({ ids }) => ({ ids: ids.slice(length, -1), options: { prefix } }));
      const groups = (await prefillAll(model, rests)).map((whole, i) => ({
        prefix: whole,
        ids: candidates.map(() => prompts[i]!.ids.at(-1)!),
      }));
      try {
        const options = {
          capture: names,
          grad: {
            at: names,
            of: { of: differentiated(conventions.of), target: prompts.flatMap(() => candidates) },
          },
        };
        using run = await (model instanceof Transformer
          ? model.runRows(groups, options)
          : model.runRowsAsync(groups, options));
        return await readRun(model, run, names, prompts.length, candidates, conventions);
      } finally {
        for (const group of groups) group.prefix.dispose();
      }
    },
    dispose,
    [Symbol.dispose]: dispose,
  };
}

/** A full pass a prompt, candidates as rows: any model; what the cached way is tested against. */
export function fullReader(model: LanguageModel, conventions: ReadingConventions): GradientReader {
  checkMembers('fullReader', readingConventions, conventions);
  checkValue('fullReader', 'model', modelField, model);
  const names = hooks(model, conventions);
  const one = async ({ ids, position }: ReadablePrompt, candidates: readonly number[]): Promise<Reading> => {
    const positions = candidates.map(() => position);
    using run = await runModel(
      model,
      { ids: candidates.map(() => ids) },
      {
        capture: names,
        grad: {
          at: names,
          of: { of: differentiated(conventions.of), target: candidates, position: positions },
        },
        logits: positions,
      },
    );
    const rows = candidates.map((_, row) => row * ids.length + position);
    const atPosition = (x: Tensor): Tensor =>
      gatherRows(reshape(x, [candidates.length * ids.length, model.sizes.width]), rows);
    const readings = await readRun(model, run, names, 1, candidates, conventions, atPosition);
    return readings[0]!;
  };
  const dispose = (): void => {};
  return {
    async read(prompts, candidates) {
      const readings: Reading[] = [];
      for (const prompt of prompts) readings.push(await one(prompt, candidates));
      return readings;
    },
    dispose,
    [Symbol.dispose]: dispose,
  };
}

/** Rows [prompts * candidates] of a run as readings. `rowsOf` gives the rows of a tensor at a hook, where it has more. */
async function readRun(
  model: LanguageModel,
  run: RunResult,
  names: readonly string[],
  prompts: number,
  candidates: readonly number[],
  conventions: ReadingConventions,
  rowsOf?: (x: Tensor) => Tensor,
): Promise<Reading[]> {
  const { width, vocabulary } = model.sizes;
  const neurons = names.length * width;
  const fetch = async (x: Tensor): Promise<Float32Array> => {
    if (!rowsOf) return x.read();
    using rows = scope(() => rowsOf(x));
    return await rows.read();
  };
  const [logits, activations, gradients] = await Promise.all([
    run.logits.read(),
    Promise.all(names.map((name) => fetch(run.captures.get(name)!))),
    Promise.all(names.map((name) => fetch(run.gradients.get(name)!))),
  ]);
  return Array.from({ length: prompts }, (_, prompt) => {
    const first = prompt * candidates.length;
    const row = logits.subarray(first * vocabulary, (first + 1) * vocabulary);
    const values = candidates.map((id) => targetValues(row, id));
    const factors = values.map((of) => gradientFactor(conventions.of, of));
    const activation = new Float32Array(neurons);
    const table = new Float32Array(candidates.length * neurons);
    names.forEach((_, layer) => {
      activation.set(activations[layer]!.subarray(first * width, (first + 1) * width), layer * width);
      candidates.forEach((_, c) => {
        const from = (first + c) * width;
        const [to, factor] = [c * neurons + layer * width, factors[c]!];
        for (let i = 0; i < width; i++) table[to + i] = factor * gradients[layer]![from + i]!;
      });
    });
    alongAxis(table, activation, conventions);
    return {
      probabilities: values.map(({ prob }) => prob),
      activation,
      gradients: table,
    };
  });
}

/** Turns G_C into NeurGrad, in place: along the axis of the shift, with the sign in front. */
function alongAxis(
  table: Float32Array,
  activation: Float32Array,
  { direction, sign }: ReadingConventions,
): void {
  const front = sign === '-' ? -1 : 1;
  for (let at = 0; at < table.length; at++) {
    const axis = direction === 'outward' ? outwardSign(activation[at % activation.length]!) : 1;
    if (axis * front < 0) table[at] = -table[at]!;
  }
}
