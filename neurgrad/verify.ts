/**
 * Checks that a person runs on their own model: which sign convention its numbers follow, whether the fast sweep equals
 * the naive one, whether the logits are another program's.
 */

import { UserError } from '../engine/errors.ts';
import { callback, checkOptions, checkValue, like, list, optionsSchema, whole } from '../engine/options.ts';
import { type LanguageModel, runModel } from '../models/model.ts';
import { type Direction, outwardSign } from './conventions.ts';
import { carriesDifferences, openBundle } from './difference/bundle.ts';
import { rowChanges } from './difference/wave.ts';
import { shiftGrid } from './grid.ts';
import { integrateLayers } from './integrated.ts';
import { median } from './intervals.ts';
import { checkGiven, checkNumber } from './lists.ts';
import { type Neuron, neuronAt } from './neuron.ts';
import { checkProbe, modelField, type Probe, predict } from './predict.ts';
import { drawWithoutReplacement, seededRandom, seedField } from './random.ts';
import { pearson } from './statistics.ts';
import { sweep } from './sweep.ts';

/** How many prompts and neurons a check takes, and from which seed. */
export interface VerifyOptions {
  /** Neurons drawn a prompt; default 40. */
  readonly neurons?: number;
  /** Default 1. */
  readonly seed?: number;
  /** Told how many of all steps are done. */
  readonly onProgress?: (done: number, all: number) => void;
}

/** {@link VerifyOptions} */
export const verifyOptions = optionsSchema<VerifyOptions>({
  neurons: whole(1),
  seed: seedField,
  onProgress: callback(),
});

const SEED = 1;

function draw(model: LanguageModel, options: VerifyOptions, prompt: number): Neuron[] {
  const total = model.sizes.layers * model.sizes.width;
  const random = seededRandom((options.seed ?? SEED) + prompt);
  return drawWithoutReplacement(Math.min(options.neurons ?? 40, total), total, random).map((flat) =>
    neuronAt(flat, model.sizes.width, model.paperSite),
  );
}

/** Pearson of four estimates with G_E along one axis. */
export interface ConventionRow {
  readonly direction: Direction;
  readonly gradient: number;
  readonly integrated: number;
  /** sign(A) G_C, and -sign(A) G_C, the paper's eq. (1) to the letter. */
  readonly plus: number;
  readonly minus: number;
}

/** Correlations of all readings of NeurGrad with G_E, on both axes. */
export interface ConventionCheck {
  readonly rows: readonly ConventionRow[];
  readonly pairs: number;
  /** Of the draw of neurons. */
  readonly seed: number;
  /** Share of activations below 0, and how many are exactly 0. */
  readonly negative: number;
  readonly zeros: number;
}

/** The predicted Table 1 row of a model, on both axes. */
export async function verifyConventions(
  model: LanguageModel,
  probes: readonly Probe[],
  options: VerifyOptions = {},
): Promise<ConventionCheck> {
  checkOptions('verifyConventions', verifyOptions, options);
  checkGiven('verifyConventions', 'probes', probes, 'entries', 'a list of prompts');
  for (const probe of probes) checkProbe('verifyConventions', model, probe);
  const activation: number[] = [];
  const gradient: number[] = [];
  const integrated: number[] = [];
  const outward: number[] = [];
  for (const [i, probe] of probes.entries()) {
    const target = (await predict(model, probe, 1))[0]!.id;
    const neurons = draw(model, options, i);
    const swept = await sweep(model, probe, { neurons, target, shifts: shiftGrid(-2, 2, 0.2) });
    const layers = [...new Set(neurons.map(({ layer }) => layer))];
    const ig = await integrateLayers(model, probe, { target, layers });
    for (const curve of swept.neurons) {
      activation.push(curve.activation);
      gradient.push(curve.gradient);
      outward.push(curve.slope);
      integrated.push(ig.find(({ layer }) => layer === curve.layer)!.ig[curve.index]!);
    }
    options.onProgress?.(i + 1, probes.length);
  }
  const signed = (values: readonly number[], flip: number): number[] =>
    values.map((value, i) => flip * outwardSign(activation[i]!) * value);
  const row = (direction: Direction, measured: readonly number[]): ConventionRow => ({
    direction,
    gradient: pearson(gradient, measured),
    integrated: pearson(integrated, measured),
    plus: pearson(signed(gradient, 1), measured),
    minus: pearson(signed(gradient, -1), measured),
  });
  return {
    // The grid is symmetric: turning the axis around turns the slope's sign.
    rows: [row('outward', outward), row('plain', signed(outward, 1))],
    pairs: activation.length,
    seed: options.seed ?? SEED,
    negative: activation.filter((a) => a < 0).length / activation.length,
    zeros: activation.filter((a) => a === 0).length,
  };
}

/** What the sweep by differences and full forwards agree to. */
export interface ExactCheck {
  readonly prompts: number;
  readonly rows: number;
  /** Of the draw of neurons. */
  readonly seed: number;
  /** Largest difference of a p between the engines as a share of that p, and what float32 forwards leave of it. */
  readonly largest: number;
  readonly tolerance: number;
  /** Number of the prompt where it is. */
  readonly worst: number;
  /** A row alone has the same bits as in a batch. */
  readonly sameBits: boolean;
  /** Curves from few points (engine `curve`) against all shifts of ±2: points run, of how many, and the largest error in bounds and noise. */
  readonly curves: { readonly ran: number; readonly points: number; readonly worst: number };
  /** Median of |dp(s) / s / G_C - 1| at s = 1e-4: by differences, and by subtracting two forwards. */
  readonly small: { readonly differences: number; readonly naive: number };
  readonly passed: boolean;
}

/** How far a value is from another, as a share of that; 0 where they are equal, NaN where one is NaN. */
export function relativeDifference(value: number, other: number): number {
  checkNumber('relativeDifference', 'value', value);
  checkNumber('relativeDifference', 'other', other);
  return value === other ? 0 : Math.abs(value - other) / Math.abs(other);
}

/** Share of p that a full float32 forward may be off by: an error of a logit is one of p, relatively. */
const EXACT_TOLERANCE = 1e-4;

/**
 * The sweep by differences against full forwards and curves against both, over all prompts; every p is judged as a share of itself, so that a small one
 * is no less checked than a large one.
 * @throws UserError where the model has no such sweep, or there are no prompts.
 */
export async function verifyExact(
  model: LanguageModel,
  prompts: Probe | readonly Probe[],
  options: VerifyOptions = {},
): Promise<ExactCheck> {
  checkOptions('verifyExact', verifyOptions, options);
  const probes = Array.isArray(prompts) ? (prompts as readonly Probe[]) : [prompts as Probe];
  for (const probe of probes) checkProbe('verifyExact', model, probe);
  if (!carriesDifferences(model)) throw new UserError('verify', 'this model has the naive sweep only');
  if (probes.length === 0) throw new UserError('verify', 'no prompts to look at');
  const step = 1e-4;
  let [rows, largest, worst, sameBits] = [0, 0, 0, true];
  const errors = { differences: [] as number[], naive: [] as number[] };
  const curves = { ran: 0, points: 0, worst: 0 };
  for (const [number, probe] of probes.entries()) {
    const target = (await predict(model, probe, 1))[0]!.id;
    const neurons = draw(model, options, number);
    const common = { neurons, target, shifts: [-2, step, 0.5, 2], direction: 'plain' as const };
    const fast = await sweep(model, probe, { ...common, engine: 'differences' });
    const naive = await sweep(model, probe, {
      ...common,
      engine: 'naive',
      onProgress: (done, all) => options.onProgress?.(number * all + done, probes.length * all),
    });
    rows += naive.rows;
    for (const [n, curve] of fast.neurons.entries()) {
      const other = naive.neurons[n]!;
      for (const [s, p] of curve.p.entries()) {
        const error = relativeDifference(p, other.p[s]!);
        // NaN counts as wrong, and stays.
        if (!Number.isNaN(largest) && !(error <= largest)) [largest, worst] = [error, number];
      }
      const at = curve.shifts.indexOf(step);
      const zero = curve.shifts.indexOf(0);
      if (curve.gradient === 0) continue;
      const error = (p: readonly number[]): number =>
        Math.abs((p[at]! - p[zero]!) / step / curve.gradient - 1);
      errors.differences.push(error(curve.p));
      errors.naive.push(error(other.p));
    }
    const grid = { neurons: neurons.slice(0, 8), target, shifts: shiftGrid(-2, 2, 0.2) };
    const full = await sweep(model, probe, { ...grid, engine: 'differences' });
    for (const [n, curve] of (await sweep(model, probe, { ...grid, engine: 'curve' })).neurons.entries()) {
      curves.ran += curve.ran;
      curves.points += curve.shifts.length - 1;
      for (const [s, change] of curve.changes.entries()) {
        const off = Math.abs(change - full.neurons[n]!.changes[s]!);
        const share = off === 0 ? 0 : off / (curve.bound + full.neurons[n]!.valueNoise[s]!);
        // NaN counts as wrong, and stays.
        if (!Number.isNaN(curves.worst) && !(share <= curves.worst)) curves.worst = share;
      }
    }
    using bundle = await openBundle(model, [{ probe, at: probe.position, target }]);
    const some = neurons.slice(0, 8).map((neuron) => ({ case: 0, neuron, shift: 1 }));
    const together = await rowChanges(bundle, some);
    const alone = await rowChanges(bundle, some, { rowsPerPass: 1 });
    sameBits &&= together.logprob.every((value, i) => Object.is(value, alone.logprob[i]));
  }
  return {
    prompts: probes.length,
    rows,
    seed: options.seed ?? SEED,
    largest,
    tolerance: EXACT_TOLERANCE,
    worst,
    sameBits,
    curves,
    small: { differences: median(errors.differences), naive: median(errors.naive) },
    passed: largest <= EXACT_TOLERANCE && sameBits && curves.worst <= 1,
  };
}

/** What this engine and another program agree to. */
export interface ParityCheck {
  readonly prompts: number;
  /** Largest |difference| of a logit, and the largest |logit|. */
  readonly largest: number;
  readonly scale: number;
  /** Positions whose most probable token differs. */
  readonly disagreements: number;
  readonly positions: number;
  readonly passed: boolean;
}

/** Logits [S, V] that another program computed for these ids. */
export interface ReferenceLogits {
  readonly ids: readonly number[];
  readonly logits: ArrayLike<number>;
}

const referenceList = list<ReferenceLogits>(
  like((value) => {
    const { ids, logits } = (value ?? {}) as Partial<ReferenceLogits>;
    return Array.isArray(ids) && typeof logits?.length === 'number';
  }, 'a reference: { ids, logits }'),
  'a list of references: [{ ids, logits }]',
);

/** @throws UserError where the reference has another shape than the model. */
export async function verifyParity(
  model: LanguageModel,
  references: readonly ReferenceLogits[],
): Promise<ParityCheck> {
  checkValue('verifyParity', 'model', modelField, model);
  checkValue('verifyParity', 'references', referenceList, references);
  const { vocabulary } = model.sizes;
  let [largest, scale, disagreements, positions] = [0, 0, 0, 0];
  for (const { ids, logits } of references) {
    if (logits.length !== ids.length * vocabulary)
      throw new UserError(
        'verify',
        `the reference has ${logits.length} logits for ${ids.length} tokens; the model gives ${vocabulary} a token`,
      );
    using run = await runModel(model, { ids: [ids] });
    const own = await run.logits.read();
    for (let position = 0; position < ids.length; position++, positions++) {
      let [best, other] = [0, 0];
      const at = position * vocabulary;
      for (let v = 0; v < vocabulary; v++) {
        const error = Math.abs(own[at + v]! - logits[at + v]!);
        // NaN counts as wrong.
        largest = error <= largest ? largest : error;
        scale = Math.max(scale, Math.abs(logits[at + v]!));
        if (own[at + v]! > own[at + best]!) best = v;
        if (logits[at + v]! > logits[at + other]!) other = v;
      }
      if (best !== other) disagreements++;
    }
  }
  return {
    prompts: references.length,
    largest,
    scale,
    disagreements,
    positions,
    passed: largest <= 1e-4 * scale,
  };
}
