/**
 * Prompts run plain, each there and back once, and the values that differences start from packed in one bundle: what sweeps and records
 * begin with.
 */

import type { Tensor } from '../engine/index.ts';
import type { Prefix } from '../models/kvCache.ts';
import type { Measure } from './conventions.ts';
import { type Bundle, type DifferenceModel, type KeptRun, keepRun, openBundle } from './difference/bundle.ts';
import { plainPrefix, readHooks } from './plainRun.ts';
import { objectiveOf, type Probe, type Tokens } from './predict.ts';
import type { ProbeHooks, ReadHooks } from './probed.ts';

/** A prompt, what is differentiated, and what its rows will be read of. */
export interface KeptPrompt extends Tokens {
  readonly probe: Probe;
  /** Position of the neurons. */
  readonly at: number;
  readonly of: Measure;
  /** Tokens that rows are read of, the target first, from the plain logits. */
  readonly read: (logits: Float32Array) => readonly number[];
}

/** What was read of each prompt, and its tokens; the bundle's cases are in their order. */
export interface KeptPrompts {
  readonly readings: readonly ReadHooks[];
  readonly tokens: readonly (readonly number[])[];
  readonly bundle: Bundle;
}

/** The caller disposes of the bundle; where it throws, nothing is left. @throws UserError where logits are not finite. */
export async function keepPrompts(
  model: DifferenceModel,
  prompts: readonly KeptPrompt[],
  hooks: ProbeHooks,
): Promise<KeptPrompts> {
  const held: Tensor[] = [];
  const runs: KeptRun[] = [];
  const prefixes: (Prefix | null)[] = [];
  try {
    let readings: ReadHooks[];
    let tokens: (readonly number[])[];
    try {
      for (const { probe, at, of, ...own } of prompts) {
        const prefix = plainPrefix(model, probe, at);
        prefixes.push(prefix);
        const hold = (t: Tensor): Tensor => {
          held.push(t);
          return t;
        };
        const objective = { ...objectiveOf(of, [own]), position: [probe.position] };
        const grad = { at: hooks.names, of: objective };
        runs.push(keepRun(model, { probe, at, prefix }, hold, { capture: hooks.captured, grad }));
      }
      readings = await Promise.all(runs.map(({ run }, i) => readHooks(model, run, hooks, prompts[i]!.at)));
      tokens = prompts.map(({ read }, i) => read(readings[i]!.logits));
    } catch (error) {
      for (const t of held) t.dispose();
      for (const prefix of prefixes) prefix?.dispose();
      throw error;
    }
    const cases = prompts.map(({ probe, at }, i) => {
      const [target, ...others] = tokens[i] as [number, ...number[]];
      return { probe, at, target, others, prefix: prefixes[i]! };
    });
    return { readings, tokens, bundle: await openBundle(model, cases, runs) };
  } finally {
    for (const { run } of runs) run.dispose();
  }
}
