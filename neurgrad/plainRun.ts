/**
 * The plain run of a prompt, forward and back, for neurons at one position (docs/conventions.md#the-sign), no larger than they need.
 *
 * Everything is taken at the unpatched prompt. The device differentiates the log odds log p / (1 - p); p (1 - p) and 1 - p are multiplied in
 * float64, so that a gradient is a number, and the right one, where p or 1 - p is below what float32 can tell from 0.
 */

import { checkValue, list, text } from '../engine/options.ts';
import type { Prefix } from '../models/kvCache.ts';
import {
  type LanguageModel,
  type Objective,
  type Quantity,
  type RunOptions,
  type RunResult,
  runModel,
} from '../models/model.ts';
import { checkInput } from '../models/run.ts';
import { runsLastAsync } from '../models/stream.ts';
import { Transformer } from '../models/transformer.ts';
import { conventionFields, type Measure } from './conventions.ts';
import { checkProbe, objectiveOf, type Probe, probeRows, type Tokens } from './predict.ts';
import {
  hooksOf,
  neuronsAt,
  type ProbedHooks,
  type ProbeHooks,
  probedHooks,
  type ReadHooks,
} from './probed.ts';

const nameList = list(text, 'a list of names of hooks');

/** A run of a prompt that is no larger than the neurons at one position need. */
export interface PlainRun extends Disposable {
  readonly run: RunResult;
  /** What comes before the one token that was run, where the rest of the prompt is a cache. */
  readonly prefix: Prefix | null;
  /** Frees the run and its cache. */
  dispose(): void;
}

/** A capture and a gradient of an objective. */
type Asked = Pick<RunOptions, 'capture'> & {
  readonly grad: { readonly at: readonly string[]; readonly of: Objective };
};

/** The same where the last token runs alone: there is one position a row. */
function ofLast({ grad, ...others }: Asked) {
  const { position: _, ...of } = grad.of;
  return { ...others, grad: { at: grad.at, of } };
}

/**
 * The cache of all tokens before a causal model's last one, where that is read and has the neurons; else null.
 * @throws UserError for a prompt that the model cannot run.
 */
export function plainPrefix(model: LanguageModel, probe: Probe, at: number): Prefix | null {
  const { ids, position } = probe;
  if (!(model instanceof Transformer) || !model.causal || at !== position || position !== ids.length - 1)
    return null;
  model.checkAlive();
  checkInput(probeRows(probe), model.description);
  return model.prefill(ids.slice(0, -1));
}

/**
 * The plain run of a prompt for neurons at position `at` (docs/science.md#a-backward-of-one-position). Where that is the position read, a masked model's last layer
 * is worked out there only, and of a causal one's last token everything but the token itself is a cache without a backward. So values
 * are [1, tokens, ...], or [1, 1, ...] with the neurons' position alone.
 * @param given the prompt's {@link plainPrefix}, which stays the caller's.
 */
export function plainRun(
  model: Transformer,
  probe: Probe,
  at: number,
  options: Asked,
  given: Prefix | null = null,
): PlainRun {
  const { causal } = model;
  const { ids, position } = probe;
  const here = at === position;
  const own = given ? null : plainPrefix(model, probe, at);
  const prefix = given ?? own;
  try {
    const run = prefix
      ? model.runRows({ prefix, ids: ids.slice(-1) }, ofLast(options))
      : model.run(probeRows(probe), {
          ...options,
          logits: [position],
          lastLayer: !causal && here ? 'read' : 'all',
        });
    const dispose = (): void => {
      run.dispose();
      own?.dispose();
    };
    return { run, prefix, dispose, [Symbol.dispose]: dispose };
  } catch (error) {
    own?.dispose();
    throw error;
  }
}

/** Reads a run's hooks at the neurons' position. */
export async function readHooks(
  { sizes: { width } }: LanguageModel,
  run: RunResult,
  { names, captured }: ProbeHooks,
  at: number,
): Promise<ReadHooks> {
  const readAll = async (
    wanted: readonly string[],
    tensors: RunResult['captures'],
  ): Promise<Map<string, Float32Array>> => {
    const read = await Promise.all(wanted.map((name) => tensors.get(name)!.read()));
    return new Map(wanted.map((name, i) => [name, neuronsAt(read[i]!, at, width)]));
  };
  const [logits, activation, gradient] = await Promise.all([
    run.logits.read(),
    readAll(captured, run.captures),
    readAll(names, run.gradients),
  ]);
  return { logits, activation, gradient };
}

/**
 * One forward and one backward, and what they give.
 * @param prefix the prompt's {@link plainPrefix}, which stays the caller's; by default its own.
 */
export async function runHooks(
  model: LanguageModel,
  probe: Probe,
  at: number,
  hooks: ProbeHooks,
  of: Measure,
  tokens: Tokens,
  prefix: Prefix | null = null,
): Promise<ReadHooks> {
  const { position } = probe;
  const options = {
    capture: hooks.captured,
    grad: { at: hooks.names, of: { ...objectiveOf(of, [tokens]), position: [position] } },
  };
  const plain = model instanceof Transformer ? plainRun(model, probe, at, options, prefix) : null;
  using run =
    plain?.run ??
    (await (runsLastAsync(model) && at === position && position === probe.ids.length - 1
      ? model.runLastAsync(probe.ids, ofLast(options))
      : runModel(model, probeRows(probe), { ...options, logits: [position] })));
  if (!prefix) plain?.prefix?.dispose();
  return readHooks(model, run, hooks, at);
}

/**
 * One forward and one backward; neurons are read at position `at`. `names` are feed-forward hooks.
 * @param activations false: gradients alone, without the activations that NeurGrad takes its sign from.
 */
export async function probeHooks(
  model: LanguageModel,
  probe: Probe,
  at: number,
  names: readonly string[],
  of: Quantity,
  target: number,
  activations = true,
): Promise<ProbedHooks> {
  checkValue('probeHooks', 'of', conventionFields.of, of);
  checkProbe('probeHooks', model, probe);
  checkValue('probeHooks', 'names', nameList, names);
  return probeMeasure(model, probe, at, hooksOf(model, names, activations), of, { target });
}

/** The same of any measure, checked already. */
export async function probeMeasure(
  model: LanguageModel,
  probe: Probe,
  at: number,
  hooks: ProbeHooks,
  of: Measure,
  tokens: Tokens,
): Promise<ProbedHooks> {
  return probedHooks(model, hooks, of, tokens, await runHooks(model, probe, at, hooks, of, tokens));
}
