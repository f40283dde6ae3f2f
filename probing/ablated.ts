/** The model's own probabilities of the candidates while sets of neurons are held at zero at the probe position. */

import { checkValue, one } from '../engine/options.ts';
import { type Patch, runModel } from '../models/model.ts';
import {
  type LanguageModel,
  modelField,
  type Site,
  siteHook,
  targetValues,
  UserError,
} from '../neurgrad/index.ts';
import { below, checkGiven, checkLists, checkNumbers, NATURAL } from '../neurgrad/lists.ts';
import type { ReadablePrompt } from './collect.ts';

/** Rows of a pass. */
const ROWS = 32;

const siteField = one(['pre', 'pre_linear', 'act', 'post']);

/**
 * p of each candidate of a prompt, a full pass for each set.
 * @param sets flat indices of neurons, layer × width + i; an empty set is the model as it is.
 * @returns [sets][candidates]
 * @throws UserError as a run does.
 */
export async function readAblated(
  model: LanguageModel,
  prompt: ReadablePrompt,
  candidates: readonly number[],
  sets: readonly (readonly number[])[],
  site: Site,
): Promise<number[][]> {
  checkValue('readAblated', 'site', siteField, site);
  checkValue('readAblated', 'model', modelField, model);
  checkGiven('readAblated', 'prompt', prompt, 'ids', 'a prompt: { ids, position }');
  const { layers, width, vocabulary } = model.sizes;
  checkLists('readAblated', 'sets', sets, below(layers * width));
  checkNumbers('readAblated', 'candidates', candidates, below(vocabulary), 1);
  checkNumbers('readAblated', 'prompt.ids', prompt.ids, NATURAL, 1);
  if (!(prompt.position >= 0 && prompt.position < prompt.ids.length))
    throw new UserError(
      'option',
      `readAblated: prompt.position is ${prompt.position}, of ${prompt.ids.length} tokens`,
    );
  const { ids, position } = prompt;
  const found: number[][] = [];
  for (let begin = 0; begin < sets.length; begin += ROWS) {
    const some = sets.slice(begin, begin + ROWS);
    // One patch a layer: every row by its own mask of ones and zeros.
    const patch = Array.from({ length: layers }, (_, layer): Patch => {
      const mask = new Float32Array(some.length * width).fill(1);
      for (const [row, set] of some.entries())
        for (const flat of set)
          if (Math.floor(flat / width) === layer) mask[row * width + (flat % width)] = 0;
      return { name: siteHook(layer, site), row: 'all', position, neuron: 'all', op: 'scale', value: mask };
    }).filter(({ value }) => (value as Float32Array).includes(0));
    using run = await runModel(
      model,
      { ids: some.map(() => ids) },
      { patch, logits: some.map(() => position) },
    );
    const logits = await run.logits.read();
    for (const row of some.keys()) {
      const of = logits.subarray(row * vocabulary, (row + 1) * vocabulary);
      found.push(candidates.map((id) => targetValues(of, id).prob));
    }
  }
  return found;
}
