/**
 * The sweep (SPEC 4): shift one neuron's activation at the probe position, read p(s), fit the empirical gradient G_E.
 *
 * Engine `naive`: every (neuron, shift) is one batch row of a full forward pass, nothing is skipped and nothing is
 * approximated. It is the measure that the faster engines of points.ts and curve/ are tested against.
 */

import { UserError } from '../engine/errors.ts';
import {
  between,
  callback,
  checkOptions,
  flag,
  list,
  one,
  optionsSchema,
  required,
  whole,
} from '../engine/options.ts';
import { rowsThatFit } from '../models/cost.ts';
import type { LanguageModel, Quantity } from '../models/model.ts';
import {
  type Conventions,
  conventionFields,
  type Direction,
  neurGrad,
  numbersOf,
  outwardSign,
  type Sign,
} from './conventions.ts';
import { Ladder } from './curve/grow.ts';
import type { Response } from './curve/response.ts';
import { growCurves } from './curve/sweep.ts';
import type { Bundle } from './difference/bundle.ts';
import type { ChangedTarget } from './difference/sweep.ts';
import { curveSums } from './difference/wave.ts';
import { checkShift, paperGrid, shiftField } from './grid.ts';
import { type Neuron, type NeuronOrName, neuronList, neuronsOf, siteHook } from './neuron.ts';
import { openPoints, POINT_ENGINES, type PointEngine, type PointSource, pointEngine } from './points.ts';
import { checkProbe, checkTarget, neuronPosition, type Probe, tokenField } from './predict.ts';
import { checkRecord, openRecord, type PromptRecord, recordField } from './record.ts';
import { roundingOf } from './rounding.ts';
import { type CurveFit, type FitOptions, fitCurve, fitOptions, fitSums, RANGE_SLACK } from './statistics.ts';

/** Shifts but 0 from which on `auto` is `curve`: most curves of fewer are not known before half of them are run, from where on all are. */
export const CURVE_SHIFTS = 12;

/** What a sweep can run by. */
export const SWEEP_ENGINES = [...POINT_ENGINES, 'curve'] as const;
/** One of {@link SWEEP_ENGINES}. */
export type SweepEngine = (typeof SWEEP_ENGINES)[number];

/** Which neurons are shifted, how far, and what is measured. */
export interface SweepOptions {
  /** Neurons, or their names: `L3.N327`, `L3.N327@post`. */
  readonly neurons: readonly NeuronOrName[];
  /** Shifts; 0 is added, order does not matter. Default the paper's -10, -9.8 … 10. */
  readonly shifts?: readonly number[];
  /** Token id; default the model's argmax. */
  readonly target?: number | undefined;
  /** Token whose neurons are shifted; default the probe position. */
  readonly neuronPosition?: number | undefined;
  /** Default `outward`. */
  readonly direction?: Direction;
  /** Sign of NeurGrad; default `+`. */
  readonly sign?: Sign;
  /** What the curve is of; default `prob`. */
  readonly of?: Quantity;
  /** Slope and r; default: through the origin, |s| <= 2, s = 0 left out. */
  readonly fit?: FitOptions;
  /**
   * What runs the shifts: `naive` full forwards; `rows` rows behind a cache, where the weights are on disk; `differences` carries
   * differences through the rest of the model. `curve` runs, by the best of these, as many shifts of a neuron as make its whole
   * curve known, and says to what bound. `auto`, the default, is `curve` where that can run fewer, from 12 shifts on and with all weights on
   * the device, else the best one that runs all. The result says which ran.
   */
  readonly engine?: SweepEngine | 'auto';
  /** Of curves: error that a value may have where its shift was not run, as a share of p, of log p and logits absolute; the noise where
   * that is larger. Default 1e-6. */
  readonly tolerance?: number;
  /** Default true. False: slope and r alone, which `differences` reduce on the device; `p` and `values` are empty. */
  readonly points?: boolean;
  /** Most batch rows of one pass; default 64, fewer where a row is large. */
  readonly rowsPerPass?: number;
  /** The prompt's run, where it is there already; its target and position are the default then. */
  readonly record?: PromptRecord | undefined;
  /** Told after each pass how many of all rows are done. */
  readonly onProgress?: (done: number, all: number) => void;
}

/** {@link SweepOptions} */
export const sweepOptions = optionsSchema<SweepOptions>({
  neurons: required(neuronList),
  shifts: list(shiftField, 'a list of shifts'),
  target: tokenField,
  neuronPosition: whole(),
  ...conventionFields,
  fit: fitOptions,
  engine: one(['auto', ...SWEEP_ENGINES]),
  tolerance: between(0, 1, 'a number above 0 and at most 1', false),
  points: flag,
  rowsPerPass: whole(1),
  record: recordField,
  onProgress: callback(),
});

/** One neuron's curve and what it says. */
export interface NeuronCurve extends Neuron {
  readonly activation: number;
  /** G_C, of the quantity swept. */
  readonly gradient: number;
  /** What of `gradient` and `neurgrad` may be rounding. */
  readonly gradientNoise: number;
  /** The estimate of `slope` that needed no sweep. */
  readonly neurgrad: number;
  /** G_E. */
  readonly slope: number;
  /** Fitted value at 0 less the curve's own; 0 for a line through the origin. */
  readonly intercept: number;
  readonly r: number;
  /** Sign of the slope: 1 raises the target, -1 lowers it, 0 where the curve is flat. */
  readonly polarity: -1 | 0 | 1;
  /** |r| >= 0.95, from three points or more. */
  readonly linear: boolean;
  /** No change within the fit's range exceeds `noise`: r and polarity are 0 by rule. */
  readonly flat: boolean;
  /** What of a change of this neuron's values may be rounding, about: the largest within the fit's range. */
  readonly noise: number;
  /** The same of the value at each shift; empty without `points`. */
  readonly valueNoise: readonly number[];
  /** Of the quantity swept from its plain value, at each shift: those that differences of `values` would round off stay in it; empty without `points`. */
  readonly changes: readonly number[];
  /** Ascending, with 0. */
  readonly shifts: readonly number[];
  /** The target's probability at each shift, NaN where its logits are not finite; empty without `points`. */
  readonly p: readonly number[];
  /** The quantity swept at each shift: `p` itself for `prob`. */
  readonly values: readonly number[];
  /** Shifts but 0 that were run: all, unless a curve made the others known. */
  readonly ran: number;
  /** Largest error, next to the noise, of the values at shifts that were not run; 0 where all were. */
  readonly bound: number;
  /** The curve as coefficients, for any shift between those asked for; null where all were run. */
  readonly response: Response | null;
}

/** Curves of one prompt's neurons, and how they were computed. */
export interface Sweep {
  /** What ran. */
  readonly engine: SweepEngine;
  /** What ran the shifts: the engine itself, or what curves had theirs from. */
  readonly by: PointEngine;
  /** Where the target is read. */
  readonly position: number;
  /** Where the neurons are. */
  readonly neuronPosition: number;
  readonly target: number;
  /** The target's probability, nothing shifted. */
  readonly p: number;
  readonly neurons: readonly NeuronCurve[];
  /** Batch rows computed. */
  readonly rows: number;
  readonly conventions: Omit<Conventions, 'site'>;
  readonly fit: Required<FitOptions>;
}

/** Memory that the activations of one pass may take, and its rows at most. */
const PASS = { bytes: 128 * 2 ** 20, most: 64 } as const;

function ascendingWithZero(shifts: readonly number[]): number[] {
  for (const shift of shifts) checkShift(shift);
  return [...new Set([...shifts.map((shift) => shift + 0), 0])].sort((a, b) => a - b);
}

/** @throws UserError where no shift but 0 lies within ±range, where slope and r are fitted. */
export function checkFitRange(shifts: readonly number[], range: number): void {
  if (shifts.some((s) => s !== 0 && Math.abs(s) <= range + RANGE_SLACK)) return;
  throw new UserError('range', `no shift but 0 within ±${range}, where slope and r are fitted`);
}

const NOTHING: Record<Quantity, number> = { prob: 0, logprob: 0, logit: 0 };

/** What is known of one neuron's curve. */
interface Measured extends CurveFit {
  readonly valueNoise: readonly number[];
  readonly changes: readonly number[];
  readonly p: readonly number[];
  readonly values: readonly number[];
  readonly ran: number;
  readonly bound: number;
  readonly response: Response | null;
}

/** A curve's fit and its points, which are all shifts'. */
function measure(
  shifts: readonly number[],
  points: readonly ChangedTarget[],
  of: Quantity,
  fit: Required<FitOptions>,
): Omit<Measured, 'ran' | 'bound' | 'response'> {
  const valueNoise = points.map((point) => point.noise[of]);
  const changes = points.map((point) => point.changes[of]);
  return {
    ...fitCurve(shifts, changes, fit, valueNoise),
    valueNoise,
    changes,
    p: points.map((point) => point.values.prob),
    values: points.map((point) => point.values[of]),
  };
}

/** @throws UserError where no curve has a shifted point that is a number, or one without points no slope. */
function checkMeasured(measured: readonly Measured[], neurons: readonly Neuron[]): void {
  // The plain point is one of them, and a number.
  const known = ({ p, slope }: Measured): boolean =>
    p.length > 0 ? p.filter(Number.isFinite).length > 1 : Number.isFinite(slope);
  const lost = measured.findIndex((one) => !known(one));
  if (lost < 0 || (measured[lost]!.p.length > 0 && measured.some(known))) return;
  const { layer, index } = neurons[lost]!;
  throw new UserError(
    'not-finite',
    `the logits with L${layer}.N${index} shifted are not finite: weights or shifts are too large for float32; check the checkpoint, or shift less`,
  );
}

/**
 * Sweeps neurons of one prompt.
 * @throws UserError for an option, neuron, site, target or position that there is not, for shifts that are not finite or too large, where
 *   no shift but 0 lies within the fit's range, and where what the model gives is not finite: plain, or at every shift.
 * @example
 * ```ts
 * import { encodePrompt, loadModel, parseNeuron, shiftGrid, sweep } from 'neurgrad';
 *
 * const { model, tokenizer } = await loadModel('examples/models/facts-bert');
 * const prompt = encodePrompt(model, tokenizer, 'The capital of France is [MASK].');
 * const neurons = [parseNeuron('L3.N327', model)];
 * const { neurons: curves } = await sweep(model, prompt, { neurons, shifts: shiftGrid(-2, 2, 0.5) });
 * const { slope, neurgrad, r, p, shifts } = curves[0]!;
 * console.log(shifts.length === p.length, Math.abs(r) <= 1, Math.sign(slope) === Math.sign(neurgrad)); // → true true true
 * model.device.destroy();
 * ```
 */
export async function sweep(model: LanguageModel, probe: Probe, options: SweepOptions): Promise<Sweep> {
  checkOptions('sweep', sweepOptions, options);
  checkProbe('sweep', model, probe);
  const { direction = 'outward', sign = '+', of = 'prob' } = options;
  const { range = 2, includeZero = false, withIntercept = false } = options.fit ?? {};
  const fit = { range, includeZero, withIntercept };
  const shifts = ascendingWithZero(options.shifts ?? paperGrid());
  const neurons = neuronsOf('sweep', options.neurons, model);
  const rowsPerPass =
    options.rowsPerPass ??
    rowsThatFit(model.description, { tokens: probe.ids.length, keys: probe.ids.length, ...PASS });
  if (neurons.length === 0) throw new UserError('neuron', 'no neurons to sweep');
  checkFitRange(shifts, fit.range);
  const at = neuronPosition(probe, options.neuronPosition ?? options.record?.neuronPosition);
  const moved = shifts.filter((shift) => shift !== 0);
  const { engine: asked = 'auto' } = options;
  // Weights that are on disk are read anew for each round of curves.
  const curved =
    asked === 'curve' || (asked === 'auto' && moved.length >= CURVE_SHIFTS && model.running === 'resident');
  const by = pointEngine(model, { probe, at }, asked === 'auto' || curved ? null : asked);
  if (options.target !== undefined) checkTarget(options.target, model.sizes.vocabulary);
  checkRecord('sweep', model, probe, options);

  const names = [...new Set(neurons.map((neuron) => siteHook(neuron.layer, neuron.site)))];
  using own = options.record
    ? null
    : await openRecord(model, probe, {
        at,
        names,
        of,
        target: options.target,
        differences: by === 'differences',
      });
  const record = options.record ?? own!;
  const { target } = record;
  const bundle = by === 'differences' ? record.bundle : null;
  const base = record.hooks(names, of);
  const rounding = roundingOf(model, { spread: base.spread, logprob: base.target.logprob });
  const axis = (neuron: Neuron): 1 | -1 => {
    const activation = base.activation.get(siteHook(neuron.layer, neuron.site))![neuron.index]!;
    return direction === 'outward' ? outwardSign(activation) : 1;
  };
  const gradientOf = ({ layer, site, index }: Neuron): number =>
    base.gradient.get(siteHook(layer, site))![index]!;
  const place = { probe, at, target, bundle, plain: base.target, rounding };
  const whole = { ran: moved.length, bound: 0, response: null };
  let rows = neurons.length * moved.length;

  /** Slope and r by sums made on the device; no point is read. */
  const bySums = async (base: Bundle): Promise<Measured[]> => {
    const along = neurons.map(axis);
    const { includeZero } = fit;
    const curves = { neurons, along, shifts: moved, of, rounding, range: fit.range, includeZero };
    const passes = { rowsPerPass: options.rowsPerPass, onProgress: options.onProgress };
    return (await curveSums(base, curves, passes)).map((sums) => {
      // Sums of p are for a plain p of 1, which float32 may not hold.
      const scale = of === 'prob' ? record.p : 1;
      const line = fitSums(shifts, sums, fit);
      return {
        ...line,
        slope: scale * line.slope,
        intercept: scale * line.intercept,
        noise: scale * line.noise,
        valueNoise: [],
        changes: [],
        p: [],
        values: [],
        ...whole,
      };
    });
  };

  /** Every shift is run. */
  const byPoints = async (source: PointSource): Promise<Measured[]> => {
    const points = neurons.flatMap((neuron) => moved.map((s) => ({ neuron, shift: s * axis(neuron) })));
    const read = await source.run(points, options.onProgress);
    const zero = shifts.indexOf(0);
    const still = { values: base.target, changes: NOTHING, noise: NOTHING };
    return neurons.map((_, n) => {
      const curve = read.slice(n * moved.length, (n + 1) * moved.length);
      return {
        ...measure(shifts, [...curve.slice(0, zero), still, ...curve.slice(zero)], of, fit),
        ...whole,
      };
    });
  };

  /** As many shifts are run as make each curve known. */
  const byCurves = async (source: PointSource): Promise<Measured[]> => {
    const questions = neurons.map((neuron) => {
      const along = axis(neuron);
      const slope = along * gradientOf(neuron);
      return { neuron, along, slope, plain: base.target, of, tolerance: options.tolerance };
    });
    const grown = await growCurves(new Ladder(shifts, fit.range), questions, source, options.onProgress);
    rows = grown.rows;
    return grown.curves.map(({ points, ...known }) => ({ ...measure(shifts, points, of, fit), ...known }));
  };

  let measured: Measured[];
  if (!curved && options.points === false && bundle) {
    measured = await bySums(bundle);
  } else {
    using source = await openPoints(model, by, place, { asked: options.rowsPerPass, naive: rowsPerPass });
    measured = await (curved ? byCurves(source) : byPoints(source));
  }

  checkMeasured(measured, neurons);
  const curves = neurons.map((neuron, n): NeuronCurve => {
    const name = siteHook(neuron.layer, neuron.site);
    const activation = base.activation.get(name)![neuron.index]!;
    const gradient = gradientOf(neuron);
    const { slope, intercept, r, flat, linear, noise, valueNoise, changes, p, values } = measured[n]!;
    const { ran, bound, response } = measured[n]!;
    const points = options.points !== false;
    return {
      ...neuron,
      activation,
      gradient,
      gradientNoise: base.noise.get(name)![neuron.index]!,
      neurgrad: neurGrad(activation, gradient, { direction, sign }),
      slope,
      intercept,
      r,
      polarity: flat ? 0 : slope > 0 ? 1 : slope < 0 ? -1 : 0,
      linear,
      flat,
      noise,
      valueNoise: points ? valueNoise : [],
      changes: points ? changes : [],
      shifts,
      p: points ? p : [],
      values: points ? values : [],
      ran,
      bound,
      response,
    };
  });
  return {
    engine: curved ? 'curve' : by,
    by,
    position: probe.position,
    neuronPosition: at,
    target,
    p: base.target.prob,
    neurons: curves,
    rows: rows + 1,
    conventions: { of, direction, sign, dtype: numbersOf(model) },
    fit,
  };
}
