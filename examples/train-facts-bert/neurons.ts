/**
 * How neurons become linear while a model learns: at a checkpoint, the share of linear neurons and how well one backward
 * (NeurGrad) predicts the measured gradient (G_E), over fixed prompts and neurons.
 *
 * The target is the fact's object from the first step on, whether or not the model already ranks it first: otherwise the
 * quantity would change between checkpoints.
 */

import type { LanguageModel } from '../../models/index.ts';
import {
  drawWithoutReplacement,
  fitCurve,
  mean,
  meanPearson,
  type Neuron,
  type NeuronCurve,
  neuronAt,
  pearson,
  seededRandom,
  shiftGrid,
  spearman,
  sweep,
} from '../../neurgrad/index.ts';
import type { Masked } from './facts.ts';

export interface NeuronStudyRow {
  readonly step: number;
  /** (prompt, neuron) pairs measured. */
  readonly neurons: number;
  /** Share with |r| >= 0.95 within ±2. */
  readonly linear: number;
  /** Share with |r| >= 0.95 of log p instead of p: what is left when p's saturation is taken away. */
  readonly linearLog: number;
  /** Share whose curve moves less than the noise floor: such neurons do not count as linear. */
  readonly flat: number;
  readonly meanAbsR: number;
  /** Pearson's and Spearman's correlation of NeurGrad with G_E over all pairs, and the mean over prompts of Pearson's. */
  readonly pearson: number;
  readonly spearman: number;
  readonly meanPearson: number;
  /** Mean probability of the targets. */
  readonly meanP: number;
}

const GRID = shiftGrid(-2, 2, 0.2);

/** The same neurons for a prompt at every checkpoint. */
function draw(model: LanguageModel, count: number, seed: number): Neuron[] {
  const { layers, width } = model.sizes;
  return drawWithoutReplacement(count, layers * width, seededRandom(seed)).map((flat) =>
    neuronAt(flat, width, model.paperSite),
  );
}

/** Of log p, whose rounding is p's own as a share of p. */
function logCurve({ shifts, p, valueNoise }: NeuronCurve) {
  const noise = valueNoise.map((value, i) => value / p[i]!);
  return fitCurve(shifts, p.map(Math.log), {}, noise);
}

/** Measures `count` neurons at each prompt's [MASK]. */
export async function studyNeurons(
  model: LanguageModel,
  prompts: readonly Masked[],
  count: number,
  step: number,
): Promise<NeuronStudyRow> {
  const curves = [];
  for (const [i, { ids, position, label }] of prompts.entries()) {
    const neurons = draw(model, count, i);
    curves.push(await sweep(model, { ids, position }, { neurons, target: label, shifts: GRID }));
  }
  const all = curves.flatMap((curve) => curve.neurons);
  const estimated = all.map(({ neurgrad }) => neurgrad);
  const measured = all.map(({ slope }) => slope);
  return {
    step,
    neurons: all.length,
    linear: mean(all.map(({ linear }) => Number(linear))),
    linearLog: mean(all.map((curve) => Number(logCurve(curve).linear))),
    flat: mean(all.map(({ flat }) => Number(flat))),
    meanAbsR: mean(all.map(({ r }) => Math.abs(r))),
    pearson: pearson(estimated, measured),
    spearman: spearman(estimated, measured),
    meanPearson: meanPearson(
      curves.map(({ neurons }) => neurons.map(({ neurgrad }) => neurgrad)),
      curves.map(({ neurons }) => neurons.map(({ slope }) => slope)),
    ).value,
    meanP: mean(curves.map(({ p }) => p)),
  };
}
