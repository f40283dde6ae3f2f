/**
 * Pairs of prompts of equal length, a clean one and a corrupt one, with the token that the first answers and one to compare it with.
 */

import { UserError } from '../../engine/errors.ts';
import { checkValue, like } from '../../engine/options.ts';
import type { LanguageModel } from '../../models/model.ts';
import { Transformer } from '../../models/transformer.ts';
import { checkProbe, checkTarget, type Probe } from '../predict.ts';
import type { Answers } from './metric.ts';
import { type PatchPlace, type PlaceOptions, placesOf } from './places.ts';

/** Two prompts, as many tokens each, read at the same position. */
export interface PromptPair extends Answers {
  readonly clean: Probe;
  readonly corrupt: Probe;
}

/** A prompt and the tokens that are measured there. */
export interface PromptAnswers extends Answers {
  readonly clean: Probe;
}

const isObject = (value: unknown): boolean => typeof value === 'object' && value !== null;
const EXPECTED = 'a pair of prompts: { clean, corrupt, answer, other }, or a list of them';
const field = like<object>(
  (value) => (Array.isArray(value) ? value.length > 0 && value.every(isObject) : isObject(value)),
  EXPECTED,
);

/** One or several, as a list. @throws UserError for what is none, and for prompts that do not go together. */
export function pairList<Pair extends PromptAnswers & { readonly corrupt?: Probe }>(
  door: string,
  model: LanguageModel,
  given: Pair | readonly Pair[],
  needsCorrupt = true,
): readonly Pair[] {
  checkValue(door, 'pairs', field, given);
  const pairs = (Array.isArray(given) ? given : [given]) as readonly Pair[];
  for (const { clean, corrupt, answer, other } of pairs) {
    checkProbe(door, model, clean);
    for (const id of [answer, other])
      if (id !== undefined || id === answer) checkTarget(id!, model.sizes.vocabulary);
    if (corrupt === undefined) {
      if (needsCorrupt)
        throw new UserError('option', `${door}: a pair has no corrupt prompt, expected ${EXPECTED}`);
      continue;
    }
    checkProbe(door, model, corrupt);
    if (clean.ids.length !== corrupt.ids.length || clean.position !== corrupt.position)
      throw new UserError(
        'pair',
        `${door}: a pair's prompts have ${clean.ids.length} and ${corrupt.ids.length} tokens, read at ${clean.position} and ${corrupt.position}; they must be alike`,
      );
  }
  return pairs;
}

/** The first position at which prompts differ; the read one where they do not before that. */
export function firstDifference({ clean, corrupt }: PromptPair): number {
  const at = clean.ids.findIndex(
    (id, i) => id !== corrupt.ids[i] || clean.tokenTypeIds?.[i] !== corrupt.tokenTypeIds?.[i],
  );
  return at < 0 ? clean.position : Math.min(at, clean.position);
}

/** The places of each pair. @throws UserError where prompts of several lengths have no places in common. */
export function placesOfAll(
  model: LanguageModel,
  pairs: readonly PromptAnswers[],
  options: PlaceOptions,
): PatchPlace[][] {
  const places = pairs.map(({ clean }) => placesOf(model, clean.ids.length, clean.position, options));
  if (places.some((each) => each.length !== places[0]!.length))
    throw new UserError(
      'pair',
      'pairs of several lengths have no positions in common; give positions, such as [-1] for the last',
    );
  return places;
}

/** A model whose parts can be run by themselves. @throws UserError for one that is elsewhere than on one device. */
export function wholeModel(door: string, model: LanguageModel): Transformer {
  if (model instanceof Transformer) return model;
  throw new UserError(
    'model',
    `${door}: it needs a model that is whole on one device, this one is ${model.running}`,
  );
}
