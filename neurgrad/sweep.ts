/**
 * The sweep (SPEC 4): shift one neuron's activation at the probe position, read p(s), fit the empirical gradient G_E.
 *
 * Engine `naive`: every (neuron, shift) is one batch row of a full forward pass, nothing is skipped and nothing is
 * approximated. It is the measure that the faster engine of difference/ is tested against.
 */

import { UserError } from '../engine/errors.ts';
import {
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
import type { Prefix } from '../models/kvCache.ts';
import { type LanguageModel, type Patch, type Quantity, type RunResult, runModel } from '../models/model.ts';
import { StreamedModel } from '../models/stream.ts';
import {
  type Conventions,
  conventionFields,
  type Direction,
  neurGrad,
  numbersOf,
  outwardSign,
  type Sign,
} from './conventions.ts';
import { carriesDifferences } from './difference/bundle.ts';
import { type ChangedTarget, sweepDifferences, sweepSums } from './difference/sweep.ts';
import type { RowOptions } from './difference/wave.ts';
import { probeHooks } from './gradients.ts';
import { checkShift, paperGrid, shiftField } from './grid.ts';
import { type Neuron, type NeuronOrName, neuronList, neuronsOf, siteHook } from './neuron.ts';
import {
  checkProbe,
  neuronPosition,
  type Probe,
  probeRows,
  targetOrArgmax,
  targetValuesOrNaN,
  tokenField,
} from './predict.ts';
import { type Rounding, roundingOf } from './rounding.ts';
import { type CurveFit, type FitOptions, fitCurve, fitOptions, fitSums, RANGE_SLACK } from './statistics.ts';

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
  /** `naive` runs full forwards; `auto` carries differences through the rest of the model where it can,
   * or runs rows behind a cache where the weights are on disk. The result says which ran. */
  readonly engine?: 'auto' | 'naive';
  /** Default true. False: slope and r alone, reduced on the device where it carries differences; `p` and `values` are empty. */
  readonly points?: boolean;
  /** Most batch rows of one pass; default 64, fewer where a row is large. */
  readonly rowsPerPass?: number;
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
  engine: one(['auto', 'naive']),
  points: flag,
  rowsPerPass: whole(1),
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
}

/** Curves of one prompt's neurons, and how they were computed. */
export interface Sweep {
  /** What ran. */
  readonly engine: 'naive' | 'differences' | 'rows';
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

function patchOf(neuron: Neuron, value: number, position: number, along: Direction): Omit<Patch, 'row'> {
  const name = siteHook(neuron.layer, neuron.site);
  return { name, position, neuron: neuron.index, op: 'add', value, along };
}

/** The target's values with each patch in a batch row of its own, which `pass` runs some of. */
async function runPatches(
  { sizes }: LanguageModel,
  patches: readonly Omit<Patch, 'row'>[],
  target: number,
  rowsPerPass: number,
  onProgress: SweepOptions['onProgress'],
  pass: (patch: readonly (Patch & { readonly row: number })[]) => Promise<RunResult>,
): Promise<Record<Quantity, number>[]> {
  const read: Record<Quantity, number>[] = [];
  for (let start = 0; start < patches.length; start += rowsPerPass) {
    const patch = patches.slice(start, start + rowsPerPass).map((one, row) => ({ ...one, row }));
    using run = await pass(patch);
    const logits = await run.logits.read();
    for (let at = 0; at < logits.length; at += sizes.vocabulary)
      read.push(targetValuesOrNaN(logits.subarray(at, at + sizes.vocabulary), target));
    onProgress?.(start + patch.length, patches.length);
  }
  return read;
}

/** Rows of one wave of streamed weights: enough to be worth reading them. */
const ROWS_PER_WAVE = 1024;

/** As {@link runPatches} at a prompt's last token, for weights on disk: rows behind one cache, many to a reading. */
async function runRowPatches(
  model: StreamedModel,
  probe: Probe,
  patches: readonly Omit<Patch, 'row'>[],
  target: number,
  { rowsPerPass = ROWS_PER_WAVE, onProgress }: RowOptions,
): Promise<Record<Quantity, number>[]> {
  const [prefix] = (await model.prefillAsync([{ ids: probe.ids.slice(0, -1) }])) as [Prefix];
  try {
    return await runPatches(model, patches, target, rowsPerPass, onProgress, (some) =>
      model.runRowsAsync(
        { prefix, ids: some.map(() => probe.ids.at(-1)!) },
        { patch: some.map(({ position: _, ...one }) => one) },
      ),
    );
  } finally {
    prefix.dispose();
  }
}

const NOTHING: Record<Quantity, number> = { prob: 0, logprob: 0, logit: 0 };

/** A full forward's values. Their changes are differences of two that were rounded. */
function ofForwards(plain: Record<Quantity, number>, rounding: Rounding) {
  const rest = (values: Record<Quantity, number>): number => -Math.expm1(values.logprob);
  const change = (of: Quantity, values: Record<Quantity, number>): number => values[of] - plain[of];
  return (values: Record<Quantity, number>): ChangedTarget => {
    const noise = rounding.forwards * Math.max(rest(values), rest(plain));
    return {
      values,
      changes: {
        prob: change('prob', values),
        logprob: change('logprob', values),
        logit: change('logit', values),
      },
      noise: {
        prob: Math.max(values.prob, plain.prob) * noise,
        logprob: noise,
        logit: rounding.forwards,
      },
    };
  };
}

/** What is known of one neuron's curve. */
interface Measured extends CurveFit {
  readonly valueNoise: readonly number[];
  readonly changes: readonly number[];
  readonly p: readonly number[];
  readonly values: readonly number[];
}

/** Fits of curves whose points were read: those of all shifts but 0, neuron by neuron. */
function measure(
  shifts: readonly number[],
  neurons: number,
  plain: Record<Quantity, number>,
  read: readonly ChangedTarget[],
  of: Quantity,
  fit: Required<FitOptions>,
): Measured[] {
  const zero = shifts.indexOf(0);
  const moved = shifts.length - 1;
  return Array.from({ length: neurons }, (_, n) => {
    const curve = read.slice(n * moved, (n + 1) * moved);
    const still = { values: plain, changes: NOTHING, noise: NOTHING };
    const points = [...curve.slice(0, zero), still, ...curve.slice(zero)];
    const values = points.map((point) => point.values[of]);
    const changes = points.map((point) => point.changes[of]);
    const valueNoise = points.map((point) => point.noise[of]);
    return {
      ...fitCurve(shifts, changes, fit, valueNoise),
      valueNoise,
      changes,
      p: points.map((point) => point.values.prob),
      values,
    };
  });
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
  const at = neuronPosition(probe, options.neuronPosition);
  const target = await targetOrArgmax(model, probe, options.target);

  const names = [...new Set(neurons.map((neuron) => siteHook(neuron.layer, neuron.site)))];
  const base = await probeHooks(model, probe, at, names, of, target);
  const jobs = neurons.flatMap((neuron, n) =>
    shifts.flatMap((shift, s) =>
      shift === 0 ? [] : [{ n, s, patch: patchOf(neuron, shift, at, direction) }],
    ),
  );
  const patches = jobs.map(({ patch }) => patch);
  const atEnd = at === probe.position && at === probe.ids.length - 1;
  // A bundle keeps no token of a causal model after the one that is read: nothing there is heard.
  const automatic = options.engine !== 'naive';
  const carrier =
    automatic && carriesDifferences(model) && (!model.causal || at <= probe.position) ? model : null;
  const cached = automatic && !carrier && model instanceof StreamedModel && atEnd ? model : null;
  const engine = carrier ? 'differences' : cached ? 'rows' : 'naive';
  const passOptions = { rowsPerPass: options.rowsPerPass, onProgress: options.onProgress };
  const rounding = roundingOf(model, { spread: base.spread, logprob: base.target.logprob });
  const sweepCase = { probe, at, target };
  const axis = (neuron: Neuron): 1 | -1 => {
    const activation = base.activation.get(siteHook(neuron.layer, neuron.site))![neuron.index]!;
    return direction === 'outward' ? outwardSign(activation) : 1;
  };
  const shiftsOnly = shifts.filter((shift) => shift !== 0);
  const measured: readonly Measured[] =
    carrier && options.points === false
      ? (
          await sweepSums(
            carrier,
            sweepCase,
            {
              neurons,
              along: neurons.map(axis),
              shifts: shiftsOnly,
              of,
              rounding,
              range: fit.range,
              includeZero: fit.includeZero,
            },
            passOptions,
          )
        ).map((sums) => {
          // Sums of p are for a plain p of 1, which float32 may not hold.
          const scale = of === 'prob' ? base.target.prob : 1;
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
          };
        })
      : measure(
          shifts,
          neurons.length,
          base.target,
          carrier
            ? await sweepDifferences(
                carrier,
                sweepCase,
                base.target,
                rounding,
                jobs.map(({ n, s }) => ({ neuron: neurons[n]!, shift: shifts[s]! * axis(neurons[n]!) })),
                passOptions,
              )
            : (cached
                ? await runRowPatches(cached, probe, patches, target, passOptions)
                : await runPatches(model, patches, target, rowsPerPass, options.onProgress, (patch) =>
                    runModel(model, probeRows(probe, patch.length), {
                      patch,
                      logits: patch.map(() => probe.position),
                    }),
                  )
              ).map(ofForwards(base.target, rounding)),
          of,
          fit,
        );

  checkMeasured(measured, neurons);
  const curves = neurons.map((neuron, n): NeuronCurve => {
    const name = siteHook(neuron.layer, neuron.site);
    const activation = base.activation.get(name)![neuron.index]!;
    const gradient = base.gradient.get(name)![neuron.index]!;
    const { slope, intercept, r, flat, linear, noise, valueNoise, changes, p, values } = measured[n]!;
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
    };
  });
  return {
    engine,
    position: probe.position,
    neuronPosition: at,
    target,
    p: base.target.prob,
    neurons: curves,
    rows: jobs.length + 1,
    conventions: { of, direction, sign, dtype: numbersOf(model) },
    fit,
  };
}
