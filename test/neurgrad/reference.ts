/**
 * A model in float64 on the host (models/naiveModel.ts): what differences of probabilities are measured against. Neurons may be
 * shifted. Independent of the engine: it shares the weights with it, nothing else.
 */

import type { LanguageModel } from '../../models/model.ts';
import { type Neuron, siteHook } from '../../neurgrad/neuron.ts';
import type { Probe } from '../../neurgrad/predict.ts';
import { runNaive, type Table } from '../models/naiveModel.ts';

export interface Shift {
  readonly neuron: Neuron;
  readonly at: number;
  readonly by: number;
}

/** Probabilities [vocabulary] at the probe position, neurons shifted together. */
export type Reference = (probe: Probe, ...shifts: readonly Shift[]) => Float64Array;

/** Reads all weights once. */
export async function referenceOf({ parameters, description }: LanguageModel): Promise<Reference> {
  const weights = new Map<string, Table>();
  for (const [name, t] of parameters) weights.set(name, { shape: t.shape, data: await t.read() });
  const first = description.embedding.position?.first ?? 0;
  return ({ ids, position, tokenTypeIds: types }, ...shifts) => {
    const { logits } = runNaive(description, weights, {
      ids,
      positions: ids.map((_, i) => first + i),
      ...(types ? { types } : {}),
      read: [position],
      edit(hook, x) {
        for (const { neuron, at, by } of shifts)
          if (hook === siteHook(neuron.layer, neuron.site)) x[at]![neuron.index]! += by;
        return x;
      },
    });
    const top = logits[0]!.reduce((a, b) => Math.max(a, b));
    const raised = logits[0]!.map((v) => Math.exp(v - top));
    const total = raised.reduce((a, b) => a + b);
    return raised.map((v) => v / total);
  };
}

/** log p / (1 - p) of the target; its digits are those of 1 - p. */
export function logOdds(p: Float64Array, target: number): number {
  return Math.log(p[target]!) - Math.log(p.reduce((sum, value, v) => (v === target ? sum : sum + value), 0));
}

/** What p_t changes by from p to q, from logarithms: subtracted, small changes would drown in p's own rounding. */
export function exactChange(p: Float64Array, q: Float64Array, target: number): number {
  const log = (v: number): number => Math.log(q[v]! / p[v]!);
  const f = p.reduce(
    (sum, value, v) => (value === 0 ? sum : sum + value * Math.expm1(log(v) - log(target))),
    0,
  );
  return (-p[target]! * f) / (1 + f);
}

/** d log odds / d activation with the neuron shifted by `from`: central differences at two widths, extrapolated. */
export function oddsGradient(reference: Reference, probe: Probe, shift: Shift, target: number): number {
  const central = (h: number): number => {
    const at = (by: number): number => logOdds(reference(probe, { ...shift, by: shift.by + by }), target);
    return (at(h) - at(-h)) / (2 * h);
  };
  return (4 * central(5e-4) - central(1e-3)) / 3;
}
