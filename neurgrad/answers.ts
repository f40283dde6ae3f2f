/**
 * Answers of several tokens: p is the product of their probabilities, each token after the prompt and the ones before it (teacher
 * forced), so that log p is a sum, and its gradient and its changes are sums over the tokens. Neurons are where the prompt has them.
 *
 * Causal models alone: a masked one fills in one token, and what several masks hold is no product of what each holds.
 */

import { UserError } from '../engine/errors.ts';
import { checkValue, type Field, like, list } from '../engine/options.ts';
import type { LanguageModel, Quantity } from '../models/model.ts';
import type { Measure } from './conventions.ts';
import { oneOrEach } from './each.ts';
import { checkLengths } from './lists.ts';
import { checkProbe, checkTarget, type Probe, targetOf, targetValues } from './predict.ts';
import type { ProbedHooks } from './probed.ts';
import { type ProbeJob, probeMany, readLogits } from './probeMany.ts';

/**
 * @param door the function, for the error.
 * @throws UserError where `logit_diff` has no other token, or what is not a difference has one.
 */
export function checkOther(door: string, of: Measure, other: unknown): void {
  if (of === 'logit_diff' && other === undefined)
    throw new UserError('other', `${door}: logit_diff needs other, the token whose logit is subtracted`);
  if (of !== 'logit_diff' && other !== undefined)
    throw new UserError('other', `${door}: other goes with of: 'logit_diff', not with ${of}`);
}

/** Token id, or those of an answer of several tokens in their order. */
export type Target = number | readonly number[];

const isId = (value: unknown): boolean => Number.isInteger(value) && (value as number) >= 0;

/** {@link Target}, as a field of options. */
export const targetField: Field<Target> = like(
  (value) => isId(value) || (Array.isArray(value) && value.length > 0 && value.every(isId)),
  "a token's id (resolveTarget gives that of a word), or a list of the ids of an answer",
);

/** The same of many prompts: one id for all, or one of these a prompt. */
export const manyTargets = oneOrEach(targetField, "a token's id, or a list of one a prompt") as Field<
  number | readonly (Target | undefined)[]
>;

/** What is asked of a prompt: one run a token of the answer. */
export interface Asked {
  readonly probe: Probe;
  readonly at: number;
  readonly parts: readonly ProbeJob[];
}

/**
 * @param door the function, for the error.
 * @throws UserError for a token outside the vocabulary, and for an answer of several tokens where there is none.
 */
export function askedOf(
  door: string,
  model: LanguageModel,
  probe: Probe,
  about: {
    readonly at: number;
    readonly of: Measure;
    readonly target: Target | undefined;
    readonly other: number | undefined;
  },
): Asked {
  const { at, of, target, other } = about;
  const ids = typeof target === 'number' || target === undefined ? [target] : target;
  for (const id of [...ids, other]) if (id !== undefined) checkTarget(id, model.sizes.vocabulary);
  if (ids.length > 1) {
    if (!model.causal)
      throw new UserError(
        'target',
        `${door}: an answer of ${ids.length} tokens: a masked model fills in one; give one token, or take a causal model`,
      );
    if (of === 'logit' || of === 'logit_diff')
      throw new UserError(
        'target',
        `${door}: an answer of ${ids.length} tokens has no ${of}: its p is a product; take of: 'prob' or 'logprob'`,
      );
    if (probe.position !== probe.ids.length - 1)
      throw new UserError(
        'target',
        `${door}: an answer of ${ids.length} tokens follows a prompt's last token; position ${probe.position} of ${probe.ids.length} is read`,
      );
  }
  const parts = ids.map((id, k): ProbeJob => {
    const before = ids.slice(0, k) as number[];
    const own = k === 0 ? probe : { ids: [...probe.ids, ...before], position: probe.position + k };
    return { probe: own, at, target: id, other };
  });
  return { probe, at, parts };
}

/** What a result says of its question's tokens beside the first one. */
export const tokensOf = (parts: Asked['parts']): { other?: number; answer?: readonly number[] } => {
  const other = parts[0]?.other;
  return {
    ...(parts.length > 1 ? { answer: parts.map(({ target }) => target!) } : {}),
    ...(other === undefined ? {} : { other }),
  };
};

/** What is differentiated in the runs of a question's parts. */
export const partMeasure = (of: Measure, { parts }: Pick<Asked, 'parts'>): Measure =>
  parts.length > 1 ? 'logprob' : of;

/** p and log p of an answer from those of its tokens; it has no logit. */
export function productOf(parts: readonly Readonly<Record<Quantity, number>>[]): Record<Quantity, number> {
  if (parts.length === 1) return parts[0]!;
  const logprob = parts.reduce((sum, part) => sum + part.logprob, 0);
  return { prob: Math.exp(logprob), logprob, logit: Number.NaN };
}

/** What the runs of a question's parts, of {@link partMeasure}, say of it. */
export function joinedHooks(of: Measure, parts: readonly ProbedHooks[]): ProbedHooks {
  const [first] = parts as [ProbedHooks];
  if (parts.length === 1) return first;
  const target = productOf(parts.map((part) => part.target));
  const factor = of === 'prob' ? target.prob : 1;
  const summed = (read: (part: ProbedHooks) => ReadonlyMap<string, Float64Array>) =>
    new Map(
      [...read(first)].map(([name, own]) => {
        const all = parts.map((part) => read(part).get(name)!);
        return [name, own.map((_, i) => factor * all.reduce((sum, values) => sum + values[i]!, 0))];
      }),
    );
  return {
    ...first,
    gradient: summed((part) => part.gradient),
    noise: summed((part) => part.noise),
    target,
    spread: Math.max(...parts.map(({ spread }) => spread)),
  };
}

/** What a model makes of an answer. */
export interface AnswerValues {
  /** Its probability: of several tokens the product of theirs. */
  readonly p: number;
  readonly logprob: number;
  /** Whether each of its tokens is the most probable one after those before it. */
  readonly best: boolean;
}

const answerList = list(targetField, "a list of one answer a prompt: a token's id, or a list of several");

/**
 * The probability of an answer after each prompt, of one token or, of causal models, several; forwards alone.
 * @param answers one a prompt.
 * @throws UserError where there is not one a prompt, for a token outside the vocabulary, and for an answer of several tokens of a masked model.
 * @example
 * ```ts
 * import { answerValues, encodePrompt, loadModel, resolveAnswer } from 'neurgrad';
 *
 * const { model, tokenizer } = await loadModel('examples/models/stories260k');
 * const prompt = encodePrompt(model, tokenizer, 'Once upon a');
 * const answer = resolveAnswer(model, tokenizer, prompt, 'time, there was');
 * for (const { p, best } of await answerValues(model, [prompt], [answer]))
 *   console.log(answer.length, p > 0.5, best); // → 4 true true
 * model.device.destroy();
 * ```
 */
export async function answerValues(
  model: LanguageModel,
  probes: readonly Probe[],
  answers: readonly Target[],
): Promise<AnswerValues[]> {
  checkValue('answerValues', 'probes', like(Array.isArray, 'a list of prompts'), probes);
  for (const probe of probes) checkProbe('answerValues', model, probe);
  checkValue('answerValues', 'answers', answerList, answers);
  checkLengths('answerValues', { probes, answers });
  const found = await answerMany('answerValues', model, probes, answers, () => null);
  return found.map(({ answer }) => answer!);
}

/**
 * The same where a prompt may have no answer, with what is made of the logits [V] at its position.
 * @param door the function, for the error.
 */
export async function answerMany<Made>(
  door: string,
  model: LanguageModel,
  probes: readonly Probe[],
  answers: readonly (Target | undefined)[],
  make: (logits: Float32Array) => Made,
): Promise<{ made: Made; answer: AnswerValues | null }[]> {
  const parts = probes.flatMap((probe, i) => {
    const about = { at: probe.position, of: 'prob', target: answers[i], other: undefined } as const;
    return askedOf(door, model, probe, about).parts.map((part, k) => ({ ...part, i, k }));
  });
  const read = await readLogits(
    model,
    parts.map(({ probe }) => probe),
    (logits, n) => {
      const { target, k } = parts[n]!;
      return {
        made: k === 0 ? make(logits) : null,
        token:
          target === undefined
            ? null
            : { ...targetValues(logits, target), best: targetOf(logits, undefined) === target },
      };
    },
  );
  return probes.map((_, i) => {
    const own = read.filter((_, n) => parts[n]!.i === i);
    const tokens = own.flatMap(({ token }) => (token ? [token] : []));
    const made = own[0]!.made as Made;
    if (tokens.length === 0) return { made, answer: null };
    const { prob: p, logprob } = productOf(tokens);
    return { made, answer: { p, logprob, best: tokens.every(({ best }) => best) } };
  });
}

/** {@link ProbedHooks} of each question, in order; runs of one kind ride together. @param names feed-forward hooks. */
export async function probeAsked(
  model: LanguageModel,
  asked: readonly Asked[],
  names: readonly string[],
  of: Measure,
  onProgress?: (done: number, all: number) => void,
): Promise<ProbedHooks[]> {
  const found = asked.map((): ProbedHooks[] => []);
  let before = 0;
  for (const several of [false, true]) {
    const some = [...asked.keys()].filter((i) => asked[i]!.parts.length > 1 === several);
    if (some.length === 0) continue;
    const jobs = some.flatMap((i) => asked[i]!.parts.map((job) => ({ i, job })));
    const runs = jobs.map(({ job }) => job);
    const read = await probeMany(model, runs, names, several ? 'logprob' : of, (done, all) =>
      onProgress?.(before + Math.floor((done / all) * some.length), asked.length),
    );
    before += some.length;
    for (const [k, { i }] of jobs.entries()) found[i]!.push(read[k]!);
  }
  return found.map((parts) => joinedHooks(of, parts));
}
