/**
 * What the estimates of one prompt's G_E cost (the paper's last table): G_C is a pass forward and back that reads gradients
 * alone; NeurGrad is what `neuronGradients` does, which reads activations too and turns the gradients by their signs;
 * integrated gradients by rows begun after the scaled layer, and by full passes as common code has them.
 *
 * Times of a shared machine scatter by tens of percent, a ratio of two single times more: every method runs once to compile,
 * then G_C and NeurGrad in turn over several rounds, and the ratio is the median of the rounds' own with its interval.
 */

import type { LanguageModel } from '../../models/model.ts';
import { neuronGradients } from '../gradients.ts';
import { type Endpoints, integrateLayers } from '../integrated.ts';
import { median, medianInterval } from '../intervals.ts';
import { checkNumbers } from '../lists.ts';
import { resolveSite, siteHook } from '../neuron.ts';
import { probeHooks } from '../plainRun.ts';
import { checkProbe } from '../predict.ts';
import { beginsRows } from '../suffixRows.ts';
import type { Column, Part } from './part.ts';
import { checkPlan, type Plan } from './plan.ts';
import type { SelectedPrompt } from './select.ts';

/** Rounds of a method: enough for a steady median, few where one takes long. */
const ROUNDS = { gradients: { most: 25, seconds: 6 }, integrated: { most: 3, seconds: 6 } };

/** The methods timed; `integratedFull` are full passes. */
const METHODS = ['gradient', 'neurgrad', 'integrated', 'integratedFull'] as const;
type Method = (typeof METHODS)[number];

/** Seconds of one prompt, all neurons. */
export interface MethodCost {
  /** Median of the rounds. */
  readonly seconds: number;
  readonly rounds: number;
  /** Times the cost of G_C in the same round, and its 95% interval; null below six rounds. */
  readonly ratio: number;
  readonly interval: { readonly low: number; readonly high: number } | null;
}

/** Null where a method was not asked for, or where the model has no rows to begin. */
export type Costs = Readonly<Record<Method, MethodCost | null>>;

/** Times the methods on one prompt. @param limits of the rounds. @param where site of the neurons; default the plan's. @returns one row a round; NaN where a method ran fewer. */
export async function measureCost(
  model: LanguageModel,
  plan: Plan,
  prompt: SelectedPrompt,
  limits = ROUNDS,
  where: string = plan?.neurons?.site,
): Promise<Column[]> {
  checkProbe('measureCost', model, prompt);
  checkPlan('measureCost', plan);
  const site = resolveSite(where, model);
  const { of, direction, sign, integrated: asked } = plan;
  const { target } = prompt;
  const hooks = Array.from({ length: model.sizes.layers }, (_, layer) => siteHook(layer, site));
  const integrate = (engine: 'auto' | 'naive') => () =>
    integrateLayers(model, prompt, {
      site,
      of,
      target,
      engine,
      steps: asked.steps,
      endpoints: asked.endpoints as Endpoints,
    });
  const work: Readonly<Record<Method, () => Promise<unknown>>> = {
    gradient: () => probeHooks(model, prompt, prompt.position, hooks, of, target, false),
    neurgrad: () => neuronGradients(model, prompt, { site, of, target, direction, sign }),
    integrated: integrate('auto'),
    integratedFull: integrate('naive'),
  };
  const times: Record<Method, number[]> = { gradient: [], neurgrad: [], integrated: [], integratedFull: [] };
  const time = async (method: Method): Promise<number> => {
    const began = performance.now();
    await work[method]();
    const seconds = (performance.now() - began) / 1000;
    times[method].push(seconds);
    return seconds;
  };
  const measure = async (methods: readonly Method[], most: number, seconds: number): Promise<void> => {
    // The first run compiles.
    for (const method of methods) await work[method]();
    for (let spent = 0, round = 0; round < most && (round === 0 || spent < seconds); round++) {
      // Either one first in turn: what comes second finds the caches warm.
      for (const method of round % 2 === 0 ? methods : [...methods].reverse()) spent += await time(method);
    }
  };
  await measure(['gradient', 'neurgrad'], limits.gradients.most, limits.gradients.seconds);
  if (asked.prompts > 0) {
    const { most, seconds } = limits.integrated;
    if (beginsRows(model, prompt, prompt.position)) await measure(['integrated'], most, seconds);
    await measure(['integratedFull'], most, seconds);
  }
  const rounds = Math.max(...METHODS.map((method) => times[method].length));
  return METHODS.map((name) => ({
    name,
    type: 'DOUBLE',
    data: Array.from({ length: rounds }, (_, round) => times[name][round] ?? Number.NaN),
  }));
}

/** The costs of a part that {@link measureCost} made. */
export function costsOf(part: Part): Costs {
  for (const method of METHODS)
    checkNumbers('costsOf', `part's ${method}`, part instanceof Map ? part.get(method) : undefined);
  const rounds = (method: Method): number[] => [...part.get(method)!].filter((time) => !Number.isNaN(time));
  const unit = rounds('gradient');
  const cost = (method: Method): MethodCost | null => {
    const times = rounds(method);
    if (times.length === 0) return null;
    // Rounds of the gradients go together; those of IG come later.
    const ratios = method === 'neurgrad' ? times.map((time, i) => time / unit[i]!) : null;
    const ratio = ratios ? median(ratios) : median(times) / median(unit);
    return {
      seconds: median(times),
      rounds: times.length,
      ratio,
      interval: ratios && medianInterval(ratios),
    };
  };
  return {
    gradient: cost('gradient'),
    neurgrad: cost('neurgrad'),
    integrated: cost('integrated'),
    integratedFull: cost('integratedFull'),
  };
}
