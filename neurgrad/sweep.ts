/**
 * The sweep (docs/conventions.md#the-sweep): shift one neuron's activation at the probe position, read p(s), fit the empirical gradient G_E.
 *
 * Engine `naive`: every (neuron, shift) is one batch row of a full forward pass, nothing is skipped and nothing is
 * approximated. It is the measure that the faster engines of points.ts and curve/ are tested against.
 */

import * as v from 'valibot';
import { UserError } from '../engine/errors.ts';
import {
  between,
  callback,
  checkOptions,
  flag,
  like,
  list,
  one,
  optionsSchema,
  required,
  whole,
} from '../engine/options.ts';
import { rowsThatFit } from '../models/cost.ts';
import type { LanguageModel, Quantity } from '../models/model.ts';
import {
  type Asked,
  askedOf,
  checkOther,
  manyTargets,
  type Target,
  targetField,
  tokensOf,
} from './answers.ts';
import {
  type Conventions,
  type Direction,
  type Measure,
  measureFields,
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
import { eachOf, isListOfLists, isMany, oneOrEach } from './each.ts';
import { checkShift, paperGrid, shiftField } from './grid.ts';
import { type Neuron, type NeuronOrName, neuronList, neuronsOf, siteHook } from './neuron.ts';
import { type OpenedPrompts, openPrompts, recordedPrompts } from './openedPrompts.ts';
import { openPoints, POINT_ENGINES, type PointEngine, type PointSource, pointEngine } from './points.ts';
import { checkProbe, neuronPosition, type Probe, quantityOf, tokenField } from './predict.ts';
import { checkRecord, type PromptRecord, recordField } from './record.ts';
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
  /** Token id, or those of an answer of several tokens (see {@link neuronGradients}); default the model's argmax. */
  readonly target?: Target | undefined;
  /** Token id that `logit_diff` subtracts. */
  readonly other?: number | undefined;
  /** Token whose neurons are shifted; default the probe position. */
  readonly neuronPosition?: number | undefined;
  /** Default `outward`. */
  readonly direction?: Direction;
  /** Sign of NeurGrad; default `+`. */
  readonly sign?: Sign;
  /** What the curve is of; default `prob`. `logit_diff`: the target's logit less that of `other`. */
  readonly of?: Measure;
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

/** {@link SweepOptions} of several prompts. */
export interface ManySweepOptions
  extends Omit<SweepOptions, 'neurons' | 'target' | 'other' | 'neuronPosition' | 'record'> {
  /** Neurons or their names, the same ones of all prompts, or a list of lists, one a prompt. */
  readonly neurons: readonly NeuronOrName[] | readonly (readonly NeuronOrName[])[];
  /**
   * One for all prompts, or a list of one a prompt, in which an answer of several tokens is a list. Several targets of a prompt: give it
   * once for each; its neurons are shifted once for all of them.
   */
  readonly target?: number | undefined | readonly (Target | undefined)[];
  /** As in {@link SweepOptions}, one for all or one a prompt. */
  readonly other?: number | undefined | readonly (number | undefined)[];
  /** As in {@link SweepOptions}, one for all or one a prompt. */
  readonly neuronPosition?: number | undefined | readonly (number | undefined)[];
}

const sharedFields = {
  shifts: list(shiftField, 'a list of shifts'),
  ...measureFields,
  fit: fitOptions,
  engine: one(['auto', ...SWEEP_ENGINES]),
  tolerance: between(0, 1, 'a number above 0 and at most 1', false),
  points: flag,
  rowsPerPass: whole(1),
  onProgress: callback<(done: number, all: number) => void>(),
};

/** {@link SweepOptions} */
export const sweepOptions = optionsSchema<SweepOptions>({
  ...sharedFields,
  neurons: required(neuronList),
  target: targetField,
  other: tokenField,
  neuronPosition: whole(),
  record: recordField,
});

const neuronsOfEach = like<ManySweepOptions['neurons']>(
  (value) =>
    Array.isArray(value) &&
    (value.every(Array.isArray) ? value.every((own) => v.is(neuronList, own)) : v.is(neuronList, value)),
  'a list of neurons or of their names, or a list of such lists, one a prompt',
);

/** {@link ManySweepOptions} */
export const manySweepOptions = optionsSchema<ManySweepOptions>({
  ...sharedFields,
  neurons: required(neuronsOfEach),
  target: manyTargets,
  other: oneOrEach(tokenField, "a token's id, or a list of one a prompt"),
  neuronPosition: oneOrEach(whole(), 'a position, or a list of one a prompt'),
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
  /** Of an answer of several tokens all of them; `target` is the first. */
  readonly answer?: readonly number[];
  /** What `logit_diff` subtracts. */
  readonly other?: number;
  /** The target's probability, nothing shifted. */
  readonly p: number;
  readonly neurons: readonly NeuronCurve[];
  /** Shifts run, and the plain prompt. */
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
function measureCurve(
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
 * Sweeps neurons of many prompts of any lengths: the shifts of all ride the same passes, to the same bits as one by one.
 * @throws UserError as of one prompt, and where targets, positions or lists of neurons are not one a prompt.
 */
export function sweep(
  model: LanguageModel,
  probes: readonly Probe[],
  options: ManySweepOptions,
): Promise<Sweep[]>;
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
export function sweep(model: LanguageModel, probe: Probe, options: SweepOptions): Promise<Sweep>;
export async function sweep(
  model: LanguageModel,
  probes: Probe | readonly Probe[],
  options: SweepOptions | ManySweepOptions,
): Promise<Sweep | Sweep[]> {
  if (isMany(probes)) return sweepMany(model, probes, options as ManySweepOptions);
  const probe = probes;
  const one = options as SweepOptions;
  checkOptions('sweep', sweepOptions, one);
  checkProbe('sweep', model, probe);
  const { record, target, of = 'prob' } = one;
  const other = one.other ?? record?.other;
  checkOther('sweep', of, other);
  checkRecord('sweep', model, probe, one);
  const neurons = neuronsOf('sweep', one.neurons, model);
  const at = neuronPosition(probe, one.neuronPosition ?? record?.neuronPosition);
  const asked = askedOf('sweep', model, probe, { at, of, target: target ?? record?.target, other });
  const [found] = await sweepAll(model, [{ asked, neurons }], one, record ?? null);
  return found!;
}

async function sweepMany(
  model: LanguageModel,
  probes: readonly Probe[],
  options: ManySweepOptions,
): Promise<Sweep[]> {
  checkOptions('sweep', manySweepOptions, options);
  for (const probe of probes) checkProbe('sweep', model, probe);
  const { of = 'prob' } = options;
  const each = eachOf('sweep', probes);
  const positions = each('positions', options.neuronPosition);
  const targets = each('targets', options.target);
  const others = each('others', options.other);
  const lists: readonly (readonly NeuronOrName[])[] = isListOfLists(options.neurons)
    ? each('lists of neurons', options.neurons)
    : probes.map(() => options.neurons as readonly NeuronOrName[]);
  const jobs = probes.map((probe, i): Job => {
    checkOther('sweep', of, others[i]);
    const at = neuronPosition(probe, positions[i]);
    return {
      asked: askedOf('sweep', model, probe, { at, of, target: targets[i], other: others[i] }),
      neurons: neuronsOf('sweep', lists[i]!, model),
    };
  });
  return sweepAll(model, jobs, options, null);
}

/** What is asked of a prompt, and its neurons. */
interface Job {
  readonly asked: Asked;
  readonly neurons: readonly Neuron[];
}

/** What all prompts of a sweep have in common. */
type Shared = Omit<SweepOptions, 'neurons' | 'target' | 'other' | 'neuronPosition' | 'record'>;

/** Prompts as many at a time as fit, of one engine. */
async function sweepAll(
  model: LanguageModel,
  jobs: readonly Job[],
  options: Shared,
  record: PromptRecord | null,
): Promise<Sweep[]> {
  const { range = 2, includeZero = false, withIntercept = false } = options.fit ?? {};
  const fit = { range, includeZero, withIntercept };
  const shifts = ascendingWithZero(options.shifts ?? paperGrid());
  checkFitRange(shifts, fit.range);
  if (jobs.some(({ neurons }) => neurons.length === 0)) throw new UserError('neuron', 'no neurons to sweep');
  const moved = shifts.filter((shift) => shift !== 0);
  const { engine: asked = 'auto', onProgress } = options;
  // Weights that are on disk are read anew for each round of curves.
  const curved =
    asked === 'curve' || (asked === 'auto' && moved.length >= CURVE_SHIFTS && model.running === 'resident');
  const engines = jobs.map((job) => engineOf(model, job, asked === 'auto' || curved ? null : asked));
  const rows = jobs.reduce((sum, { neurons }) => sum + neurons.length * moved.length, 0);
  const found = new Array<Sweep>(jobs.length);
  let before = 0;
  for (const by of new Set(engines)) {
    const own = [...jobs.keys()].filter((i) => engines[i] === by);
    for (const some of groupsOf(model, jobs, own)) {
      const group = some.map((i) => jobs[i]!);
      using opened = record
        ? recordedPrompts(record, hooksOfNeurons(group[0]!.neurons), options.of ?? 'prob', by)
        : await openPrompts(
            model,
            group.map((job) => job.asked),
            hooksOfNeurons(group.flatMap(({ neurons }) => neurons)),
            options.of ?? 'prob',
            by,
          );
      const told = onProgress && ((done: number): void => onProgress(before + done, rows));
      const swept = await sweepGroup(model, group, opened, { options, by, curved, shifts, moved, fit, told });
      for (const [k, i] of some.entries()) found[i] = swept[k]!;
      before += group.reduce((sum, { neurons }) => sum + neurons.length * moved.length, 0);
    }
  }
  return found;
}

/** The engine of a question: that of its parts, or the plain one where they do not have the same. */
function engineOf(model: LanguageModel, { asked }: Job, wanted: PointEngine | null): PointEngine {
  const [first, ...others] = asked.parts.map((part) => pointEngine(model, part, wanted));
  return others.every((other) => other === first) ? first! : 'naive';
}

const hooksOfNeurons = (neurons: readonly Neuron[]): string[] => [
  ...new Set(neurons.map(({ layer, site }) => siteHook(layer, site))),
];

/** Questions whose prompts are held at a time; those of one prompt together. */
function groupsOf(
  { description }: LanguageModel,
  jobs: readonly Job[],
  some: readonly number[],
): readonly (readonly number[])[] {
  const length = (i: number): number => jobs[i]!.asked.parts.at(-1)!.probe.ids.length;
  const groups: number[][] = [];
  let [longest, held] = [0, 0];
  for (const i of some) {
    longest = Math.max(longest, length(i));
    held += jobs[i]!.asked.parts.length;
    const room = rowsThatFit(description, { tokens: longest, keys: longest, tape: true, ...HELD });
    if (groups.length > 0 && held <= room) groups.at(-1)!.push(i);
    else {
      groups.push([i]);
      [longest, held] = [length(i), jobs[i]!.asked.parts.length];
    }
  }
  return groups;
}

/** Memory that the plain values of prompts swept together may take, about, and prompts at most. */
const HELD = { bytes: 256 * 2 ** 20, most: 64 } as const;

/** How a group is swept. */
interface Plan {
  readonly options: Shared;
  readonly by: PointEngine;
  readonly curved: boolean;
  /** Ascending, with 0; and without. */
  readonly shifts: readonly number[];
  readonly moved: readonly number[];
  readonly fit: Required<FitOptions>;
  readonly told: ((done: number) => void) | undefined;
}

async function sweepGroup(
  model: LanguageModel,
  jobs: readonly Job[],
  opened: OpenedPrompts,
  { options, by, curved, shifts, moved, fit, told }: Plan,
): Promise<Sweep[]> {
  const { direction = 'outward', sign = '+', of: measure = 'prob' } = options;
  const of = quantityOf(measure);
  const hooks = opened.hooks;
  /** Each neuron of each question, in their order. */
  const curves = jobs.flatMap(({ neurons }, question) =>
    neurons.map((neuron) => {
      const name = siteHook(neuron.layer, neuron.site);
      const read = hooks[question]!;
      const activation = read.activation.get(name)![neuron.index]!;
      return {
        question,
        neuron,
        activation,
        along: direction === 'outward' ? outwardSign(activation) : (1 as const),
        gradient: read.gradient.get(name)![neuron.index]!,
        gradientNoise: read.noise.get(name)![neuron.index]!,
      };
    }),
  );
  const whole = { ran: moved.length, bound: 0, response: null };
  const ranOf = jobs.map(({ neurons }) => neurons.length * moved.length);

  /** Slope and r by sums made on the device; no point is read. */
  const bySums = async (base: Bundle): Promise<Measured[]> => {
    const found: Measured[] = [];
    for (const [question, { neurons }] of jobs.entries()) {
      const own = curves.filter((curve) => curve.question === question);
      const part = opened.questions[question]!.parts[0]!;
      const { rounding } = opened.cases[part.case]!.reads[part.read]!;
      const asked = {
        ...{ case: part.case, neurons, along: own.map(({ along }) => along), shifts: moved, of, rounding },
        ...{ range: fit.range, includeZero: fit.includeZero },
      };
      const before = found.length * moved.length;
      const onProgress = told && ((done: number): void => told(before + done));
      // Sums of p are for a plain p of 1, which float32 may not hold.
      const scale = of === 'prob' ? hooks[question]!.target.prob : 1;
      for (const sums of await curveSums(base, asked, { rowsPerPass: options.rowsPerPass, onProgress })) {
        const line = fitSums(shifts, sums, fit);
        found.push({
          ...line,
          slope: scale * line.slope,
          intercept: scale * line.intercept,
          noise: scale * line.noise,
          ...{ valueNoise: [], changes: [], p: [], values: [] },
          ...whole,
        });
      }
    }
    return found;
  };

  /** Every shift is run. */
  const byPoints = async (source: PointSource): Promise<Measured[]> => {
    const points = curves.flatMap(({ question, neuron, along }) =>
      moved.map((s) => ({ question, neuron, shift: s * along })),
    );
    const read = await source.run(
      points,
      told && ((done, all) => told(Math.floor((done / all) * points.length))),
    );
    const zero = shifts.indexOf(0);
    return curves.map(({ question }, n) => {
      const still = { values: hooks[question]!.target, changes: NOTHING, noise: NOTHING };
      const curve = read.slice(n * moved.length, (n + 1) * moved.length);
      return {
        ...measureCurve(shifts, [...curve.slice(0, zero), still, ...curve.slice(zero)], of, fit),
        ...whole,
      };
    });
  };

  /** As many shifts are run as make each curve known. */
  const byCurves = async (source: PointSource): Promise<Measured[]> => {
    const asked = curves.map(({ question, neuron, along, gradient }) => {
      const plain = hooks[question]!.target;
      return { question, neuron, along, slope: along * gradient, plain, of, tolerance: options.tolerance };
    });
    const grown = await growCurves(new Ladder(shifts, fit.range), asked, source, told);
    for (const question of jobs.keys()) ranOf[question] = 0;
    for (const [n, { ran }] of grown.curves.entries()) ranOf[curves[n]!.question]! += ran;
    return grown.curves.map(({ points, ...known }) => ({
      ...measureCurve(shifts, points, of, fit),
      ...known,
    }));
  };

  let measured: Measured[];
  // Sums are of one token's rows.
  const summed =
    !curved && options.points === false && opened.bundle && opened.bundle.cases[0]!.tokens.length === 1;
  if (summed && jobs.every(({ asked }) => asked.parts.length === 1)) measured = await bySums(opened.bundle!);
  else {
    const { ids } = jobs.reduce(
      (long, { asked }) =>
        asked.parts.at(-1)!.probe.ids.length > long.ids.length ? asked.parts.at(-1)!.probe : long,
      jobs[0]!.asked.probe,
    );
    const naive =
      options.rowsPerPass ??
      rowsThatFit(model.description, { tokens: ids.length, keys: ids.length, ...PASS });
    using source = await openPoints(model, by, opened, { asked: options.rowsPerPass, naive });
    measured = await (curved ? byCurves(source) : byPoints(source));
  }

  return jobs.map(({ asked, neurons }, question): Sweep => {
    const own = [...curves.keys()].filter((n) => curves[n]!.question === question);
    checkMeasured(
      own.map((n) => measured[n]!),
      neurons,
    );
    const read = hooks[question]!;
    return {
      engine: curved ? 'curve' : by,
      by,
      position: asked.probe.position,
      neuronPosition: asked.at,
      target: read.token,
      ...tokensOf(asked.parts),
      p: read.target.prob,
      neurons: own.map((n): NeuronCurve => {
        const { neuron, activation, gradient, gradientNoise } = curves[n]!;
        const { slope, intercept, r, flat, linear, noise, valueNoise, changes, p, values } = measured[n]!;
        const { ran, bound, response } = measured[n]!;
        const points = options.points !== false;
        return {
          ...neuron,
          activation,
          gradient,
          gradientNoise,
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
      }),
      rows: ranOf[question]! + 1,
      conventions: { of: measure, direction, sign, dtype: numbersOf(model) },
      fit,
    };
  });
}
