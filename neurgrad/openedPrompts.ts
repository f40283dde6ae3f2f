/**
 * Prompts as sweeps begin with them: the plain gradients of each question, and the cases whose rows answer it. Questions of one prompt
 * and position, and answers with a beginning in common, are one case whose rows are read of all their tokens.
 */

import type { LanguageModel } from '../models/model.ts';
import { type Asked, joinedHooks, partMeasure } from './answers.ts';
import type { Measure } from './conventions.ts';
import { carriesDifferences } from './difference/bundle.ts';
import { keepPrompts } from './keptPrompts.ts';
import type { Asking, Part, PointCase, PointEngine, Read } from './points.ts';
import { type Probe, targetOf } from './predict.ts';
import { hooksOf, type ProbedHooks, probedHooks } from './probed.ts';
import { type ProbeJob, probeMany } from './probeMany.ts';
import type { PromptRecord } from './record.ts';
import { roundingOf } from './rounding.ts';

/** What is known of the questions of a sweep before a neuron is shifted. */
export interface OpenedPrompts extends Asking, Disposable {
  /** Of each question. */
  readonly hooks: readonly ProbedHooks[];
}

/** A part of a question, and the case that it is of. */
interface Placed {
  readonly question: number;
  readonly job: ProbeJob;
  readonly of: Measure;
  readonly place: number;
}

const keyOf = ({ probe: { ids, position, tokenTypeIds }, at }: { probe: Probe; at: number }): string =>
  JSON.stringify([ids, position, tokenTypeIds ?? null, at]);

/** Runs the prompts of questions plain. @param names hooks whose gradients are wanted. @param by what will run their shifts. */
export async function openPrompts(
  model: LanguageModel,
  asked: readonly Asked[],
  names: readonly string[],
  of: Measure,
  by: PointEngine,
): Promise<OpenedPrompts> {
  const keys = new Map<string, number>();
  const parts = asked.flatMap((one, question) =>
    one.parts.map((job): Placed => {
      const key = keyOf(job);
      const place = keys.get(key) ?? keys.size;
      keys.set(key, place);
      return { question, job, of: partMeasure(of, one), place };
    }),
  );
  const found = new Array<ProbedHooks>(parts.length);
  const own = [...keys.values()].map((place) => parts.filter((part) => part.place === place));
  const hooks = hooksOf(model, names);
  const kept =
    by === 'differences' && carriesDifferences(model)
      ? await keepPrompts(
          model,
          own.map(([first, ...rest]) => ({
            ...first!.job,
            of: first!.of,
            read: (logits) => [...new Set([first!, ...rest].flatMap(({ job }) => tokensOf(job, logits)))],
          })),
          hooks,
        )
      : null;
  try {
    if (kept)
      for (const [place, [first]] of own.entries())
        found[parts.indexOf(first!)] = probedHooks(
          model,
          hooks,
          first!.of,
          first!.job,
          kept.readings[place]!,
        );
    for (const measure of new Set(parts.map((part) => part.of))) {
      const left = [...parts.keys()].filter((i) => !found[i] && parts[i]!.of === measure);
      const jobs = left.map((i) => parts[i]!.job);
      if (jobs.length === 0) continue;
      for (const [k, read] of (await probeMany(model, jobs, names, measure)).entries())
        found[left[k]!] = read;
    }
    const cases = own.map(([first]): PointCase & { reads: Read[] } => {
      const { probe, at } = first!.job;
      return { probe, at, reads: [] };
    });
    const readOf = (place: number, target: number, read: ProbedHooks, plain: ProbedHooks['own']): number => {
      const { reads } = cases[place]!;
      const known = reads.findIndex((one) => one.target === target);
      if (known >= 0) return known;
      const rounding = roundingOf(model, { spread: read.spread, logprob: plain.logprob });
      return reads.push({ target, plain, rounding }) - 1;
    };
    const questions = asked.map((): { parts: Part[] } => ({ parts: [] }));
    for (const [i, { question, job, place }] of parts.entries()) {
      const read = found[i]!;
      const own = readOf(place, read.token, read, read.own);
      const other = read.other === null ? null : readOf(place, job.other!, read, read.other);
      questions[question]!.parts.push({ case: place, read: own, other });
    }
    const joined = asked.map((_, question) =>
      joinedHooks(
        of,
        found.filter((_, i) => parts[i]!.question === question),
      ),
    );
    const bundle = kept?.bundle ?? null;
    return { cases, questions, bundle, hooks: joined, [Symbol.dispose]: () => bundle?.dispose() };
  } catch (error) {
    kept?.bundle.dispose();
    throw error;
  }
}

/** Tokens that a question's rows are read of. */
const tokensOf = ({ target, other }: ProbeJob, logits: Float32Array): number[] => [
  targetOf(logits, target),
  ...(other === undefined ? [] : [other]),
];

/** The same of a prompt that was run already: the record stays the caller's. */
export function recordedPrompts(
  record: PromptRecord,
  names: readonly string[],
  of: Measure,
  by: PointEngine,
): OpenedPrompts {
  const read = record.hooks(names, of);
  const { model, probe, neuronPosition: at } = record;
  const reads = [
    { target: read.token, plain: read.own },
    ...(read.other ? [{ target: record.other!, plain: read.other }] : []),
  ].map(
    (one): Read => ({
      ...one,
      rounding: roundingOf(model, { spread: read.spread, logprob: one.plain.logprob }),
    }),
  );
  return {
    cases: [{ probe, at, reads }],
    questions: [{ parts: [{ case: 0, read: 0, other: read.other ? 1 : null }] }],
    bundle: by === 'differences' ? record.bundle : null,
    hooks: [read],
    [Symbol.dispose]() {},
  };
}
