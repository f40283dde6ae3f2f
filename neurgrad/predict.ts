/**
 * The model's answer at the probe position: softmax over the vocabulary, on the host in float64.
 */

import { UserError } from '../engine/errors.ts';
import { checkValue, instance, like, list, nearest, show, whole } from '../engine/options.ts';
import { checkLogits } from '../models/finite.ts';
import type { Prefix } from '../models/kvCache.ts';
import {
  type LanguageModel,
  type ModelInput,
  type Objective,
  type Quantity,
  runModel,
} from '../models/model.ts';
import { Transformer } from '../models/transformer.ts';
import { type Measure, measureFields } from './conventions.ts';
import { checkNumber, MODEL } from './lists.ts';

/** Token ids and the one position that is read and patched (docs/conventions.md#words). */
export interface Probe {
  readonly ids: readonly number[];
  readonly position: number;
  /** Of models that have a table of them (BERT, some RoBERTas): 0 for the first of two sentences, 1 for the second; default all 0. */
  readonly tokenTypeIds?: readonly number[];
}

const topField = whole(1);
const GIVEN = 'encodePrompt(model, tokenizer, text) gives it';
const probeField = like<Probe>(
  (value) => typeof value === 'object' && value !== null && 'ids' in value,
  `a prompt: { ids, position }; ${GIVEN}`,
);
const idList = list(whole(), `a list of token ids; ${GIVEN}`);
/** A token's id, as a field of options. */
export const tokenField = whole(0, undefined, "a token's id (resolveTarget gives that of a word)");
const typeList = list(whole(), 'a list of a number a token');
/** A model, as an argument. */
export const modelField = like<LanguageModel>(
  (value) => typeof value === 'object' && value !== null && 'causal' in value && 'sizes' in value,
  MODEL,
);

/**
 * Checks what all functions of a prompt take first. @param door the function, for the error.
 * @throws UserError for what is no model, or no prompt.
 */
export function checkProbe(door: string, model: LanguageModel, probe: Probe): void {
  checkValue(door, 'model', modelField, model);
  checkValue(door, 'probe', probeField, probe);
  const { ids, position, tokenTypeIds } = probe;
  checkValue(door, 'probe.ids', idList, ids);
  checkValue(door, 'probe.position', whole(0, ids.length - 1), position);
  if (tokenTypeIds !== undefined) checkValue(door, 'probe.tokenTypeIds', typeList, tokenTypeIds);
  // A prompt may carry more; a name that is nearly ours would be left out without a word.
  for (const name of Object.keys(probe))
    if (name !== 'tokenTypeIds' && nearest(name, ['tokenTypeIds']))
      throw new UserError('option', `${door}: probe has no '${name}'; did you mean 'tokenTypeIds'?`);
}

/** The same prompt in `rows` batch rows. */
export function probeRows(probe: Probe, rows = 1): ModelInput {
  checkValue('probeRows', 'probe', probeField, probe);
  checkValue('probeRows', 'rows', topField, rows);
  const repeat = <Value>(value: Value): Value[] => new Array<Value>(rows).fill(value);
  return {
    ids: repeat(probe.ids),
    ...(probe.tokenTypeIds ? { tokenTypeIds: repeat(probe.tokenTypeIds) } : {}),
  };
}

/**
 * The position whose neurons are read and shifted: the probe position, or another one asked for.
 * @throws UserError where the prompt has no such position.
 */
export function neuronPosition(probe: Probe, asked: number | undefined): number {
  checkValue('neuronPosition', 'probe', probeField, probe);
  if (asked === undefined) return probe.position;
  if (!Number.isInteger(asked) || asked < 0 || asked >= probe.ids.length) {
    throw new UserError(
      'position',
      `position ${show(asked)}: the prompt has positions 0 to ${probe.ids.length - 1}`,
    );
  }
  return asked;
}

const logitsField = instance(Float32Array, 'a Float32Array of logits');

/** One token and its probability. */
export interface Prediction {
  readonly id: number;
  readonly p: number;
}

/**
 * p, log p and logit of one token, for one row of logits.
 * @throws UserError `not-finite` where a logit is NaN or infinite, `target` for one outside the row.
 * @example
 * ```ts
 * import { targetValues } from 'neurgrad';
 *
 * const { prob, logprob, logit } = targetValues(Float32Array.of(1, 0, 0), 0);
 * console.log(prob.toFixed(4), logprob.toFixed(4), logit); // → 0.5761 -0.5514 1
 * ```
 */
export function targetValues(logits: Float32Array, target: number): Record<Quantity, number> {
  checkValue('targetValues', 'logits', logitsField, logits);
  checkTarget(target, logits.length);
  checkLogits(logits);
  return valuesOf(logits, target);
}

function valuesOf(logits: Float32Array, target: number): Record<Quantity, number> {
  // Of the others alone: 1 - p keeps its digits however near to 1 p is.
  let top = Number.NEGATIVE_INFINITY;
  for (const [v, logit] of logits.entries()) if (v !== target) top = Math.max(top, logit);
  let sum = 0;
  for (const [v, logit] of logits.entries()) if (v !== target) sum += Math.exp(logit - top);
  const logit = logits[target]!;
  const against = top - logit + Math.log(sum);
  const logprob = -(Math.max(against, 0) + Math.log1p(Math.exp(-Math.abs(against))));
  return { prob: Math.exp(logprob), logprob, logit };
}

/** The tokens that a measure is of. */
export interface Tokens {
  /** Token id; undefined for the model's argmax, of equal ones the lowest id. */
  readonly target: number | undefined;
  /** Token id that `logit_diff` subtracts. */
  readonly other?: number | undefined;
}

/** The quantity under whose name a measure's values, changes and noise stand: a logit's difference from another is a logit to all that comes after. */
export const quantityOf = (of: Measure): Quantity => (of === 'logit_diff' ? 'logit' : of);

/** As {@link targetValues}; where there is another token, `logit` is the difference from that one's. */
export function measuredValues(
  logits: Float32Array,
  { target, other }: Tokens & { readonly target: number },
): Record<Quantity, number> {
  const values = targetValues(logits, target);
  if (other === undefined) return values;
  checkTarget(other, logits.length);
  return { ...values, logit: values.logit - logits[other]! };
}

/** As {@link measuredValues}, and NaN where a logit is none: one shift of many must not take the others with it. */
export function measuredValuesOrNaN(
  logits: Float32Array,
  tokens: Tokens & { readonly target: number },
): Record<Quantity, number> {
  if (logits.every(Number.isFinite)) return measuredValues(logits, tokens);
  return { prob: Number.NaN, logprob: Number.NaN, logit: Number.NaN };
}

/** The target asked for, or the argmax of logits [V], of equal ones the lowest id. @throws UserError where a logit is not finite. */
export function targetOf(logits: Float32Array, asked: number | undefined): number {
  if (asked !== undefined) return asked;
  checkLogits(logits);
  let best = 0;
  for (let id = 1; id < logits.length; id++) if (logits[id]! > logits[best]!) best = id;
  return best;
}

/** What a measure's gradient is taken of on the device: of p and log p by their log odds, which float32 holds whatever p is. */
export function differentiated(of: Measure): 'logodds' | 'logit' | 'logit_diff' {
  checkValue('differentiated', 'of', measureFields.of, of);
  return of === 'logit' || of === 'logit_diff' ? of : 'logodds';
}

/** The objective of rows, each of its tokens: of all the targets are given, or of none. */
export function objectiveOf(of: Measure, rows: readonly Tokens[]): Omit<Objective, 'position'> {
  const open = rows.every(({ target }) => target === undefined);
  return {
    of: differentiated(of),
    target: open ? 'argmax' : rows.map(({ target }) => target!),
    ...(of === 'logit_diff' ? { other: rows.map(({ other }) => other!) } : {}),
  };
}

/** The factor from the gradient of {@link differentiated} to the quantity's own, in float64: p (1 - p) for p, 1 - p for log p. NaN where that is NaN. */
export function gradientFactor(of: Measure, values: Record<Quantity, number>): number {
  const { prob, logprob } = values ?? {};
  checkValue('gradientFactor', 'of', measureFields.of, of);
  if (of === 'logit' || of === 'logit_diff') return 1;
  for (const [name, value] of Object.entries({ prob, logprob })) checkNumber('gradientFactor', name, value);
  return -Math.expm1(logprob) * (of === 'prob' ? prob : 1);
}

/**
 * The `top` most probable tokens, best first; equal ones by lower id.
 * @throws UserError where `top` is not a whole number above 0, or a logit is not finite.
 */
export function topPredictions(logits: Float32Array, top: number): Prediction[] {
  checkValue('topPredictions', 'logits', logitsField, logits);
  checkValue('topPredictions', 'top', topField, top);
  checkLogits(logits);
  return Array.from(logits.keys())
    .sort((a, b) => logits[b]! - logits[a]! || a - b)
    .slice(0, top)
    .map((id) => ({ id, p: targetValues(logits, id).prob }));
}

/** Logits [V] at the probe position, by one forward pass. */
export async function probeLogits(model: LanguageModel, probe: Probe): Promise<Float32Array> {
  checkProbe('probeLogits', model, probe);
  using run = await runModel(model, probeRows(probe), { logits: [probe.position] });
  return await run.logits.read();
}

/**
 * What the model answers at the probe position.
 * @returns the `top` most probable tokens, best first.
 * @example
 * ```ts
 * import { encodePrompt, loadModel, predict } from 'neurgrad';
 *
 * const { model, tokenizer } = await loadModel('examples/models/facts-bert');
 * const prompt = encodePrompt(model, tokenizer, 'Rome is located in [MASK].');
 * for (const { id, p } of await predict(model, prompt, 2)) console.log(tokenizer.tokenOf(id), p > 0.01);
 * model.device.destroy();
 * ```
 */
export async function predict(model: LanguageModel, probe: Probe, top = 5): Promise<Prediction[]> {
  checkProbe('predict', model, probe);
  checkValue('predict', 'top', topField, top);
  return topPredictions(await probeLogits(model, probe), top);
}

/** @throws UserError for an id outside the vocabulary. */
export function checkTarget(target: number, vocabulary: number): void {
  if (!Number.isInteger(target) || target < 0 || target >= vocabulary) {
    throw new UserError('target', `target id ${show(target)}: the vocabulary has ids 0 to ${vocabulary - 1}`);
  }
}

/**
 * The target asked for, or the model's argmax.
 * @param prefix the cache of all tokens before the last, where that is the probe position and the cache is there.
 * @throws UserError for an id outside the vocabulary.
 */
export async function targetOrArgmax(
  model: LanguageModel,
  probe: Probe,
  target: number | undefined,
  prefix: Prefix | null = null,
): Promise<number> {
  checkValue('targetOrArgmax', 'model', modelField, model);
  if (target === undefined && prefix && model instanceof Transformer) {
    using run = model.runRows({ prefix, ids: probe.ids.slice(-1) });
    return topPredictions(await run.logits.read(), 1)[0]!.id;
  }
  if (target === undefined) return (await predict(model, probe, 1))[0]!.id;
  checkTarget(target, model.sizes.vocabulary);
  return target;
}
