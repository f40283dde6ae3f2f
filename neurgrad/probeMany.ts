/**
 * Many prompts in few passes: what one prompt's run gives (probed.ts), for as many at a time as fit.
 *
 * Causal models whose neurons are at the last token keep each prompt's other tokens as a cache, and the last tokens of all are
 * one batch, backward included, whatever their lengths. Masked models take prompts of one length as batch rows: padding would
 * change the order in which a row's keys are summed, and so its last bits. A row's numbers do not depend on the rows beside it.
 */

import { concat, gatherRows, reshape, scope, type Tensor } from '../engine/index.ts';
import { callback, checkValue, like, whole } from '../engine/options.ts';
import { rowsThatFit } from '../models/cost.ts';
import type { Prefix } from '../models/kvCache.ts';
import { type LanguageModel, type ModelInput, type RunResult, runModel } from '../models/model.ts';
import { keepsKeys, prefillAll, runsLastAsync, type StreamedModel } from '../models/stream.ts';
import { Transformer } from '../models/transformer.ts';
import type { Measure } from './conventions.ts';
import { probeMeasure } from './plainRun.ts';
import {
  checkProbe,
  objectiveOf,
  type Prediction,
  type Probe,
  type Tokens,
  topPredictions,
} from './predict.ts';
import { hooksOf, type ProbedHooks, type ProbeHooks, probedHooks } from './probed.ts';

/** A prompt, the position of its neurons, and its tokens. */
export interface ProbeJob extends Tokens {
  readonly probe: Probe;
  readonly at: number;
}

/** Memory that one pass may take, and its rows at most. */
const PASS = { bytes: 256 * 2 ** 20, most: 64 } as const;

/** {@link ProbedHooks} of each job, in order. @param names feed-forward hooks. */
export async function probeMany(
  model: LanguageModel,
  jobs: readonly ProbeJob[],
  names: readonly string[],
  of: Measure,
  onProgress?: (done: number, all: number) => void,
): Promise<ProbedHooks[]> {
  const hooks = hooksOf(model, names);
  const found = new Array<ProbedHooks>(jobs.length);
  // Targets of a pass are given, or found by it.
  const kinds = new Map<string, { readonly way: Way; readonly rows: number[] }>();
  for (const [i, job] of jobs.entries()) {
    const way = jobs.length === 1 ? 'alone' : wayOf(model, job);
    const kind = `${way} ${job.target === undefined}`;
    kinds.set(kind, { way, rows: [...(kinds.get(kind)?.rows ?? []), i] });
  }
  const passes = [...kinds.values()].flatMap(({ way, rows }) =>
    (way === 'alone' ? rows.map((i) => [i]) : cut(model, jobs, rows, way === 'cache')).map((some) => ({
      rows: some,
      way,
    })),
  );
  let done = 0;
  for (const { rows, way } of passes) {
    const some = rows.map((i) => jobs[i]!);
    const read = await PASSES[way](model, some, hooks, of);
    for (const [k, i] of rows.entries()) found[i] = read[k]!;
    done += rows.length;
    onProgress?.(done, jobs.length);
  }
  return found;
}

/** How jobs ride a pass: behind caches of their other tokens, as full rows, or by themselves. */
type Way = 'cache' | 'rows' | 'alone';

function wayOf(model: LanguageModel, { probe, at }: ProbeJob): Way {
  const last = at === probe.position && at === probe.ids.length - 1 && !probe.tokenTypeIds;
  if (last && keepsKeys(model)) return 'cache';
  // Where other processes keep the caches, one prompt's last token is run behind its own.
  return last && runsLastAsync(model) ? 'alone' : 'rows';
}

const PASSES: Readonly<
  Record<
    Way,
    (
      model: LanguageModel,
      jobs: readonly ProbeJob[],
      hooks: ProbeHooks,
      of: Measure,
    ) => Promise<ProbedHooks[]>
  >
> = {
  cache: (model, ...rest) => behindCaches(model as Transformer | StreamedModel, ...rest),
  rows: fullRows,
  alone: async (model, [job], hooks, of) => [await probeMeasure(model, job!.probe, job!.at, hooks, of, job!)],
};

/** Jobs by length, cut into passes, full ones of one length each. */
function cut(
  { description }: LanguageModel,
  jobs: readonly Pick<ProbeJob, 'probe'>[],
  some: readonly number[],
  cache: boolean,
  tape = true,
): number[][] {
  const length = (i: number): number => jobs[i]!.probe.ids.length;
  const order = [...some].sort((a, b) => length(b) - length(a) || a - b);
  const passes: number[][] = [];
  let room = 0;
  for (const i of order) {
    const pass = passes.at(-1);
    if (pass && pass.length < room && (cache || length(pass[0]!) === length(i))) pass.push(i);
    else {
      passes.push([i]);
      const tokens = length(i);
      room = rowsThatFit(description, { tokens: cache ? 1 : tokens, keys: tokens, tape, ...PASS });
    }
  }
  return passes;
}

/** Prompts of one length as rows. */
function rowsOf(jobs: readonly Pick<ProbeJob, 'probe'>[]): ModelInput {
  const rows = jobs.map(({ probe }) => probe);
  return {
    ids: rows.map(({ ids }) => ids),
    ...(rows.some(({ tokenTypeIds }) => tokenTypeIds)
      ? { tokenTypeIds: rows.map(({ ids, tokenTypeIds }) => tokenTypeIds ?? ids.map(() => 0)) }
      : {}),
  };
}

async function fullRows(
  model: LanguageModel,
  jobs: readonly ProbeJob[],
  hooks: ProbeHooks,
  of: Measure,
): Promise<ProbedHooks[]> {
  const input = rowsOf(jobs);
  const position = jobs.map(({ probe }) => probe.position);
  const here = jobs.every(({ probe, at }) => probe.position === at);
  using run = await runModel(model, input, {
    capture: hooks.captured,
    grad: { at: hooks.names, of: { ...objectiveOf(of, jobs), position } },
    logits: position,
    lastLayer: model instanceof Transformer && !model.causal && here ? 'read' : 'all',
  });
  return readRows(model, run, jobs, hooks, of);
}

async function behindCaches(
  model: Transformer | StreamedModel,
  jobs: readonly ProbeJob[],
  hooks: ProbeHooks,
  of: Measure,
): Promise<ProbedHooks[]> {
  // Targets of one prompt are rows behind one cache.
  const byPrompt = new Map<Probe, ProbeJob[]>();
  for (const job of jobs) byPrompt.set(job.probe, [...(byPrompt.get(job.probe) ?? []), job]);
  const prompts = [...byPrompt];
  const caches = await prefillAll(
    model,
    prompts.map(([{ ids }]) => ({ ids: ids.slice(0, -1) })),
  );
  try {
    const groups = prompts.map(([{ ids }, own], i) => ({
      prefix: caches[i] as Prefix,
      ids: own.map(() => ids.at(-1)!),
    }));
    const rows = prompts.flatMap(([, own]) => own);
    const options = {
      capture: hooks.captured,
      grad: { at: hooks.names, of: objectiveOf(of, rows) },
    };
    using run = await (model instanceof Transformer
      ? model.runRows(groups, options)
      : model.runRowsAsync(groups, options));
    const read = await readRows(model, run, rows, hooks, of);
    const places = new Map(rows.map((job, row) => [job, row]));
    return jobs.map((job) => read[places.get(job)!]!);
  } finally {
    for (const cache of caches) cache.dispose();
  }
}

/** What a run of one row a job says, in two readings: values of all hooks at the neurons' positions, and the logits. */
async function readRows(
  model: LanguageModel,
  run: RunResult,
  jobs: readonly ProbeJob[],
  hooks: ProbeHooks,
  of: Measure,
): Promise<ProbedHooks[]> {
  const { width, vocabulary } = model.sizes;
  const rows = jobs.length;
  /** [hooks * rows, width] */
  const together = (names: readonly string[], tensors: RunResult['captures']): Tensor =>
    scope(() => {
      const parts = names.map((name) => {
        const all = tensors.get(name)!;
        const tokens = all.size / (rows * width);
        const flat = reshape(all, [rows * tokens, width]);
        return tokens === 1
          ? flat
          : gatherRows(
              flat,
              jobs.map(({ at }, row) => row * tokens + at),
            );
      });
      return parts.length === 1 ? parts[0]!.detach() : concat(parts, 0);
    });
  using captured = together(hooks.captured, run.captures);
  using gradients = together(hooks.names, run.gradients);
  const [logits, activation, gradient] = await Promise.all([
    run.logits.read(),
    captured.read(),
    gradients.read(),
  ]);
  const rowOf = (names: readonly string[], values: Float32Array, row: number) =>
    new Map(
      names.map((name, k) => {
        const from = (k * rows + row) * width;
        return [name, values.slice(from, from + width)];
      }),
    );
  return jobs.map((job, row) =>
    probedHooks(model, hooks, of, job, {
      logits: logits.subarray(row * vocabulary, (row + 1) * vocabulary),
      activation: rowOf(hooks.captured, activation, row),
      gradient: rowOf(hooks.names, gradient, row),
    }),
  );
}

/**
 * The `top` most probable tokens of each prompt, as {@link predict} gives them of one.
 * @throws UserError as for one.
 * @example
 * ```ts
 * import { encodePrompt, loadModel, predictMany } from 'neurgrad';
 *
 * const { model, tokenizer } = await loadModel('examples/models/facts-bert');
 * const prompts = ['Rome', 'Oslo'].map((city) => encodePrompt(model, tokenizer, `${city} is located in [MASK].`));
 * for (const [best] of await predictMany(model, prompts, 1)) console.log(tokenizer.tokenOf(best!.id));
 * model.device.destroy();
 * ```
 */
export async function predictMany(
  model: LanguageModel,
  probes: readonly Probe[],
  top = 5,
  onProgress?: (done: number, all: number) => void,
): Promise<Prediction[][]> {
  checkValue('predictMany', 'probes', like(Array.isArray, 'a list of prompts'), probes);
  for (const probe of probes) checkProbe('predictMany', model, probe);
  checkValue('predictMany', 'top', whole(1), top);
  if (onProgress !== undefined) checkValue('predictMany', 'onProgress', callback(), onProgress);
  return readLogits(model, probes, (logits) => topPredictions(logits, top), onProgress);
}

/** What is made of each prompt's logits [V] at its position, in order; forwards of as many as fit. */
export async function readLogits<Made>(
  model: LanguageModel,
  probes: readonly Probe[],
  make: (logits: Float32Array, i: number) => Made,
  onProgress?: (done: number, all: number) => void,
): Promise<Made[]> {
  const found = new Array<Made>(probes.length);
  const jobs = probes.map((probe) => ({ probe }));
  const { vocabulary } = model.sizes;
  let done = 0;
  for (const rows of cut(model, jobs, [...jobs.keys()], false, false)) {
    const some = rows.map((i) => jobs[i]!);
    using run = await runModel(model, rowsOf(some), { logits: some.map(({ probe }) => probe.position) });
    const logits = await run.logits.read();
    for (const [k, i] of rows.entries())
      found[i] = make(logits.subarray(k * vocabulary, (k + 1) * vocabulary), i);
    done += rows.length;
    onProgress?.(done, probes.length);
  }
  return found;
}
