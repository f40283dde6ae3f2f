/**
 * The demo's study: does NeurGrad, which one backward gives for every neuron, predict what shifting a neuron does?
 *
 * It sweeps the strongest neurons of either sign and a seeded random draw, fits G_E within ±2, and compares. Its result
 * is plain data: report.json is this object, report.html is drawn from it alone.
 */

import { type TokenText, tokenText } from '../models/tokenText.ts';
import {
  type Conventions,
  drawWithoutReplacement,
  type Estimate,
  type FitOptions,
  fitCurve,
  flatIndex,
  mean,
  meanAbsoluteError,
  type Neuron,
  type NeuronCurve,
  neuronAt,
  neuronGradients,
  type PointEngine,
  type Prompt,
  paperGrid,
  predict,
  recordPrompt,
  type SweepEngine,
  seededRandom,
  shiftGrid,
  signAgreement,
  spearman,
  strongest,
  sweep,
} from '../neurgrad/index.ts';
import { meanAbsoluteR, pearsonOfParts, share } from '../neurgrad/study/pooled.ts';
import type { Session } from './session.ts';

/** Why a neuron was swept. */
export type Chosen = 'positive' | 'negative' | 'random';

export interface StudyOptions {
  /** Token id; default the model's answer. */
  readonly target?: number | undefined;
  /** Strongest neurons of each sign to sweep. */
  readonly extremes: number;
  /** Random neurons to sweep. */
  readonly random: number;
  readonly seed: number;
  readonly onProgress?: (done: number, all: number) => void;
}

/** Estimate (NeurGrad) against measurement (G_E) over a set of neurons. */
export interface Comparison {
  readonly neurons: number;
  readonly pearson: Estimate;
  readonly spearman: number;
  readonly signAgreement: number;
  readonly meanAbsoluteError: number;
  /** Pearson of the raw G_C with G_E, to see what the sign does. */
  readonly pearsonGradient: Estimate;
}

export interface RankedNeuron extends Neuron {
  readonly activation: number;
  readonly gradient: number;
  readonly neurgrad: number;
}

/** The numbers; {@link Report} adds who, where and when. */
export interface Study {
  /** The tokens as the vocabulary spells them, and as they are shown. */
  readonly prompt: Pick<Prompt, 'text' | 'tokens' | 'shown' | 'position'>;
  readonly target: TokenText & { readonly p: number };
  readonly predictions: readonly (TokenText & { readonly p: number })[];
  readonly seed: number;
  readonly conventions: Conventions;
  readonly gradients: {
    readonly neurons: number;
    readonly zeros: { readonly activation: number; readonly gradient: number };
    /** Share of neurons with an activation below 0. */
    readonly negativeActivations: number;
    readonly positive: readonly RankedNeuron[];
    readonly negative: readonly RankedNeuron[];
    readonly seconds: number;
  };
  readonly sweep: {
    readonly engine: SweepEngine;
    /** What ran the shifts. */
    readonly by: PointEngine;
    readonly rows: number;
    readonly seconds: number;
    readonly fit: FitOptions;
    readonly neurons: readonly (NeuronCurve & { readonly chosen: Chosen })[];
  };
  /** Over the random draw, and over everything swept. */
  readonly comparison: { readonly random: Comparison; readonly all: Comparison };
  /** Share of the random draw with |r| >= 0.95 within ±2. */
  readonly linearShare: Estimate;
  /** Mean |r| of the random draw where the curve is cut at ±range. */
  readonly straightness: readonly { readonly range: number; readonly meanR: Estimate }[];
}

/** Runs the study on an open model. */
export async function runStudy(session: Session, prompt: Prompt, options: StudyOptions): Promise<Study> {
  const { model, tokenizer } = session;
  const best = await predict(model, prompt, 8);
  const target = options.target ?? best[0]!.id;

  const began = performance.now();
  using record = await recordPrompt(model, prompt, { target, sites: ['paper'] });
  const found = await neuronGradients(model, prompt, { record });
  const gradientSeconds = (performance.now() - began) / 1000;

  const { site } = found.conventions;
  const ranked = strongest(found.neurgrad, 10);
  const chosen = chooseNeurons(found.neurgrad, options);
  const neurons = [...chosen.keys()].map((flat) => neuronAt(flat, found.width, site));

  const sweepBegan = performance.now();
  const swept = await sweep(model, prompt, {
    neurons,
    record,
    shifts: paperGrid(),
    ...(options.onProgress ? { onProgress: options.onProgress } : {}),
  });
  const sweepSeconds = (performance.now() - sweepBegan) / 1000;

  const curves = swept.neurons.map((curve) => ({
    ...curve,
    chosen: chosen.get(flatIndex(curve, found.width))!,
  }));
  const drawn = curves.filter((curve) => curve.chosen === 'random');
  const describe = (flat: number): RankedNeuron => ({
    ...neuronAt(flat, found.width, site),
    activation: found.activation[flat]!,
    gradient: found.gradient[flat]!,
    neurgrad: found.neurgrad[flat]!,
  });

  return {
    prompt: { text: prompt.text, tokens: prompt.tokens, shown: prompt.shown, position: prompt.position },
    target: { ...tokenText(tokenizer, target), p: found.p },
    predictions: best.map(({ id, p }) => ({ ...tokenText(tokenizer, id), p })),
    seed: options.seed,
    conventions: found.conventions,
    gradients: {
      neurons: found.neurgrad.length,
      zeros: found.zeros,
      negativeActivations: mean(Array.from(found.activation, (a) => (a < 0 ? 1 : 0))),
      positive: ranked.positive.map(describe),
      negative: ranked.negative.map(describe),
      seconds: gradientSeconds,
    },
    sweep: {
      engine: swept.engine,
      by: swept.by,
      rows: swept.rows,
      seconds: sweepSeconds,
      fit: swept.fit,
      neurons: curves,
    },
    comparison: { random: compare(drawn), all: notDrawn(compare(curves)) },
    linearShare: share(
      drawn.map(({ linear }) => [linear]),
      'perPrompt',
      'neurons',
    ),
    straightness: shiftGrid(0.2, 10, 0.2)
      .filter((range) => range > 0)
      .map((range) => {
        const cut = drawn.map(({ shifts, changes, valueNoise }) =>
          fitCurve(shifts, changes, { range }, valueNoise),
        );
        const r = cut.map((fit) => [fit.r]);
        return { range, meanR: meanAbsoluteR(r, cut[0]?.points ?? 0, 'perPrompt', 'neurons') };
      }),
  };
}

/** Flat neuron numbers with the reason for each; a neuron that is extreme and drawn counts as drawn. */
function chooseNeurons(neurgrad: Float64Array, options: StudyOptions): Map<number, Chosen> {
  const { positive, negative } = strongest(neurgrad, options.extremes);
  const drawn = drawWithoutReplacement(
    Math.min(options.random, neurgrad.length),
    neurgrad.length,
    seededRandom(options.seed),
  );
  return new Map<number, Chosen>([
    ...positive.map((flat) => [flat, 'positive'] as const),
    ...negative.map((flat) => [flat, 'negative'] as const),
    ...drawn.map((flat) => [flat, 'random'] as const),
  ]);
}

function compare(curves: readonly NeuronCurve[]): Comparison {
  const estimate = curves.map((curve) => curve.neurgrad);
  const measured = curves.map((curve) => curve.slope);
  const gradient = curves.map((curve) => curve.gradient);
  return {
    neurons: curves.length,
    pearson: pearsonOfParts(estimate, measured, 'neurons'),
    spearman: spearman(estimate, measured),
    signAgreement: signAgreement(estimate, measured),
    meanAbsoluteError: meanAbsoluteError(estimate, measured),
    pearsonGradient: pearsonOfParts(gradient, measured, 'neurons'),
  };
}

/** Without intervals: neurons that were chosen by their estimate are a sample of nothing. */
function notDrawn(found: Comparison): Comparison {
  const none = (one: Estimate): Estimate => ({
    ...one,
    interval: null,
    effective: null,
    reason: 'the strongest neurons were chosen, not drawn',
  });
  return { ...found, pearson: none(found.pearson), pearsonGradient: none(found.pearsonGradient) };
}
