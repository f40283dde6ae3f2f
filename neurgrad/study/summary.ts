/** A study's tables and figures from its parts, in float64 on the host: Figure 2, Tables 1 and 2, layers, costs. */

import { checkOptions, checkValue, flag, like, list, optionsSchema } from '../../engine/options.ts';
import { ESTIMATORS } from '../estimators/index.ts';
import type { Estimate } from '../intervals.ts';
import { type Linearity, linearity } from '../linearity.ts';
import { drawWithoutReplacement, seededRandom } from '../random.ts';
import { isLinear, LINEAR_POINTS, mean, RANGE_SLACK } from '../statistics.ts';
import { type Agreement, agreement, pearsonDifference, type Weight, weight } from './agreement.ts';
import { type Costs, costsOf } from './cost.ts';
import type { ModelStamp, StudyFolder, Unit } from './folder.ts';
import { modelName, type PaperRow, paperRow } from './paper.ts';
import type { Part } from './part.ts';
import { estimatorsOf, type ModelPlan, type NeuronsPlan, type Plan } from './plan.ts';
import { meanAbsoluteR, type Sampling, share } from './pooled.ts';
import { type MeasuredModel, type MeasuredStudy, promptOf, readStudy } from './read.ts';
import { estimateColumn, figureRanges } from './run.ts';
import type { Selection } from './select.ts';

/** Neurons of one layer, over all prompts. */
export interface LayerCount {
  readonly layer: number;
  readonly tested: number;
  readonly linear: number;
  /** Linear neurons that raise, and that lower, the target. */
  readonly positive: number;
  readonly negative: number;
  /** The same as shares of those tested. */
  readonly shares: Readonly<Record<'linear' | 'positive' | 'negative', Estimate>>;
}

/** One estimator's estimates of G_E. */
export interface EstimatorRow {
  /** Its name in the plan. */
  readonly name: string;
  /** For people. */
  readonly label: string;
  readonly agreement: Agreement;
}

/** Estimates of G_E over the same pairs of prompt and neuron. */
export interface Table1 {
  readonly prompts: number;
  /** Those that the plan asks for, in its order; integrated gradients where all of these prompts have them. */
  readonly rows: readonly EstimatorRow[];
  readonly gradient: Agreement;
  /** Null where not all of these prompts have it. */
  readonly integrated: Agreement | null;
  readonly neurgrad: Agreement;
  /** The paper's eq. (1) to the letter: the other sign. */
  readonly opposite: Agreement;
  /** Pearson of NeurGrad less that of IG. */
  readonly difference: Estimate | null;
}

/** Curves cut at ±range. */
export interface RangePoint {
  readonly range: number;
  /** Points of a curve that r is of. */
  readonly points: number;
  readonly meanR: Estimate;
  /** Null where points are too few for a line to mean anything. */
  readonly linear: Estimate | null;
}

/** One curve to draw. */
export interface ExampleCurve {
  readonly prompt: string;
  readonly answer: string;
  readonly layer: number;
  readonly index: number;
  readonly slope: number;
  readonly neurgrad: number;
  readonly r: number;
  readonly base: number;
  readonly shifts: readonly number[];
  readonly changes: readonly number[];
}

/** One model's results. */
export interface ModelSummary {
  readonly stamp: ModelStamp;
  /** Short, and another one than that of any other model of the study. */
  readonly name: string;
  /** The prompts and the neurons that the plan gives it. */
  readonly asked: Omit<ModelPlan, 'path'>;
  /** What its intervals are over: prompts, or prompts and neurons. */
  readonly sampling: Sampling;
  readonly paper: PaperRow | null;
  readonly prompts: Omit<Selection, 'prompts'> & { readonly count: number };
  readonly neurons: number;
  readonly linear: Estimate;
  /** Over the prompts that have integrated gradients; over all where none has. */
  readonly table1: Table1;
  /** Over all prompts, where that is more of them. */
  readonly whole: Table1 | null;
  readonly table2: Linearity;
  readonly weight: Weight & { readonly heaviestPrompt: string };
  readonly layers: readonly LayerCount[];
  /** Mean |r| against the range; empty where the plan has no figure. */
  readonly figure2: readonly RangePoint[];
  /** Prompts of the figure. */
  readonly figurePrompts: number;
  readonly activations: { readonly negative: number; readonly zero: number };
  readonly flat: number;
  /** Points of the tables' curves that were run, of those asked for; the others were known to a bound. Null of parts that do not say. */
  readonly points: { readonly ran: number; readonly asked: number } | null;
  /** Pairs whose G_C, or IG, is no larger than its noise: they say nothing, not even by their sign. Null where none was stored. */
  readonly belowNoise: { readonly gradient: number | null; readonly ig: number | null };
  readonly cost: Costs | null;
  readonly examples: readonly ExampleCurve[];
  /** Pairs drawn with the plan's seed, to see. */
  readonly pairs: readonly Pair[];
}

/** One neuron of one prompt. */
export interface Pair {
  readonly activation: number;
  readonly gradient: number;
  readonly neurgrad: number;
  readonly slope: number;
}

const PAIRS = 1000;

/** All that a study says, as data: `summary.json`. */
export interface StudySummary {
  /** Units done of all; fewer where a part of the study was asked for. */
  readonly units: { readonly done: number; readonly all: number };
  readonly plan: Plan;
  readonly planHash: string;
  /** Of every draw in it: prompts, neurons, the shuffles of LG and PG, the pairs drawn to see. */
  readonly seeds: Readonly<Record<'prompts' | 'neurons' | 'shuffles' | 'pairs', number>>;
  readonly adapter: string;
  readonly versions: Readonly<Record<string, string>>;
  readonly models: readonly ModelSummary[];
}

/** Of which units a summary is. */
export interface SummaryOptions {
  /** Take the units that are done; default false: all must be. */
  readonly partial?: boolean;
}

const folderList = list<StudyFolder>(
  like((value) => typeof (value as Partial<StudyFolder> | null)?.manifest === 'object', 'a StudyFolder'),
  'a list of StudyFolders',
);
const summaryOptions = optionsSchema<SummaryOptions>({ partial: flag });

/**
 * Reads and checks every part of a study that may lie in several folders, one a shard.
 * @param options `partial` takes the units that are done, at least one prompt of each model.
 * @throws UserError where folders differ in plan or model, a part is damaged, or units are missing.
 */
export async function summarise(
  folders: readonly StudyFolder[],
  options: SummaryOptions = {},
): Promise<StudySummary> {
  checkOptions('summarise', summaryOptions, options);
  checkValue('summarise', 'folders', folderList, folders);
  return summaryOf(await readStudy(folders, options.partial));
}

/** What a study says, of what it has measured. */
export function summaryOf({ manifest, models, units }: MeasuredStudy): StudySummary {
  const { plan, planHash, adapter, versions } = manifest;
  const names = namesOf(models);
  return {
    units,
    plan,
    planHash,
    seeds: {
      prompts: plan.prompts.seed,
      neurons: plan.neurons.seed,
      shuffles: plan.neurons.seed,
      pairs: plan.neurons.seed,
    },
    adapter,
    versions,
    models: models.map((model, i) => summariseModel(plan, model, names[i]!)),
  };
}

/** Each model's name among the others: the last part of its path where that will do, else more. */
function namesOf(models: readonly MeasuredModel[]): string[] {
  const forms: ((model: MeasuredModel) => string)[] = [
    ({ stamp }) => modelName(stamp.source),
    ({ stamp }) => stamp.source,
    ({ stamp, asked }) => `${stamp.source}, ${asked.prompts.path}`,
  ];
  const all = forms.map((form) => models.map(form));
  const alone = (names: readonly string[], i: number): boolean =>
    names.every((name, other) => other === i || name !== names[i]);
  return models.map((_, i) => (all.find((names) => alone(names, i)) ?? all.at(-1)!)[i]!);
}

/** What of a list was chosen was not drawn: an interval is over the prompts alone. */
const samplingOf = ({ list: named, sampling }: NeuronsPlan): Sampling =>
  named === undefined ? sampling : 'perPrompt';

const column = (parts: readonly Part[], name: string): Float64Array[] => parts.map((part) => part.get(name)!);

function summariseModel(plan: Plan, model: MeasuredModel, name: string): ModelSummary {
  const { stamp, asked } = model;
  const done = (kind: Unit['kind']) => model.done.filter((unit) => unit.kind === kind);
  const of = (kind: Unit['kind']): Part[] => done(kind).map(({ part }) => part);
  const [table, figure, [cost = null]] = [of('table'), of('figure'), of('cost')];
  const selection = { ...model.selection, prompts: done('table').map((unit) => promptOf(model, unit)) };
  const r = column(table, 'r');
  const layer = column(table, 'layer');
  const slope = column(table, 'slope');
  const withIg = table.filter((part) => part.has('ig'));
  const byPrompt = column(table, 'activation');
  const activation = byPrompt.flatMap((a) => [...a]);
  const sampling = samplingOf(asked.neurons);
  const { seed } = asked.neurons;
  const heavy = weight(byPrompt, slope);
  const { prompts, ...counts } = selection;
  return {
    stamp,
    name,
    asked: { prompts: asked.prompts, neurons: asked.neurons },
    sampling,
    paper: paperRow(stamp),
    prompts: { ...counts, count: prompts.length },
    neurons: activation.length,
    linear: share(linearOf(table), sampling),
    table1: table1(plan, withIg.length > 0 ? withIg : table, sampling),
    whole: withIg.length > 0 && withIg.length < table.length ? table1(plan, table, sampling) : null,
    table2: linearity({ r, layer, layers: stamp.layers }, plan.maxVariance, seed),
    weight: { ...heavy, heaviestPrompt: prompts[heavy.heaviest.prompt]!.text },
    layers: layerCounts(stamp.layers, table, sampling),
    figure2: straightness(plan, figure, sampling),
    figurePrompts: figure.length,
    activations: {
      negative: mean(activation.map((a) => (a < 0 ? 1 : 0))),
      zero: activation.filter((a) => a === 0).length,
    },
    flat: column(table, 'flat').reduce((sum, row) => sum + row.reduce((a, b) => a + b, 0), 0),
    points: table.every((part) => part.has('ran'))
      ? {
          ran: column(table, 'ran').reduce((sum, row) => sum + row.reduce((a, b) => a + b, 0), 0),
          asked: table.reduce((sum, part) => sum + part.get('ran')!.length * shiftsOf(part).length, 0),
        }
      : null,
    belowNoise: {
      gradient: countBelow(table, 'gradient', 'gradientNoise'),
      ig: countBelow(withIg, 'ig', 'igNoise'),
    },
    cost: cost && costsOf(cost),
    examples: examples(selection, table),
    pairs: drawPairs(table, seed),
  };
}

function countBelow(parts: readonly Part[], value: string, noise: string): number | null {
  if (parts.length === 0 || !parts.every((part) => part.has(noise))) return null;
  return parts.reduce(
    (sum, part) =>
      part.get(value)!.reduce((n, v, i) => (Math.abs(v) <= part.get(noise)![i]! ? n + 1 : n), sum),
    0,
  );
}

const linearOf = (parts: readonly Part[]): boolean[][] =>
  column(parts, 'linear').map((row) => Array.from(row, (linear) => linear === 1));

function table1(plan: Plan, parts: readonly Part[], sampling: Sampling): Table1 {
  const slope = column(parts, 'slope');
  const of = (name: string): Agreement => agreement(column(parts, name), slope, sampling);
  const rows = estimatorsOf(plan).flatMap((name): EstimatorRow[] => {
    const own = estimateColumn(name);
    if (!parts.every((part) => part.has(own))) return [];
    const label = ESTIMATORS.find((each) => each.name === name)?.label ?? name;
    return [{ name, label, agreement: of(own) }];
  });
  const found = (name: string): Agreement | undefined => rows.find((row) => row.name === name)?.agreement;
  const neurgrad = column(parts, 'neurgrad');
  const integrated = found('integrated') ?? null;
  return {
    prompts: parts.length,
    rows,
    gradient: found('gradient') ?? of('gradient'),
    integrated,
    neurgrad: found('neurgrad') ?? of('neurgrad'),
    opposite: agreement(
      neurgrad.map((row) => row.map((value) => -value)),
      slope,
      sampling,
    ),
    difference: integrated && pearsonDifference(neurgrad, column(parts, 'ig'), slope, sampling),
  };
}

function layerCounts(layers: number, parts: readonly Part[], sampling: Sampling): LayerCount[] {
  const layer = column(parts, 'layer');
  const linear = linearOf(parts);
  const slope = column(parts, 'slope');
  return Array.from({ length: layers }, (_, at) => {
    const of = (holds: (slope: number) => boolean): (boolean | null)[][] =>
      layer.map((row, p) =>
        Array.from(row, (own, i) => (own === at ? linear[p]![i]! && holds(slope[p]![i]!) : null)),
      );
    const kinds = {
      linear: of(() => true),
      positive: of((value) => value > 0),
      negative: of((value) => value < 0),
    };
    const count = (values: readonly (boolean | null)[][]): number => values.flat().filter(Boolean).length;
    return {
      layer: at,
      tested: kinds.linear.flat().filter((value) => value !== null).length,
      linear: count(kinds.linear),
      positive: count(kinds.positive),
      negative: count(kinds.negative),
      shares: {
        linear: share(kinds.linear, sampling),
        positive: share(kinds.positive, sampling),
        negative: share(kinds.negative, sampling),
      },
    };
  });
}

/** Shifts of a part's curve columns, ascending. */
export function shiftsOf(part: Part): number[] {
  return [...part.keys()]
    .filter((name) => /^d-?\d/.test(name))
    .map((name) => Number(name.slice(1)))
    .sort((a, b) => a - b);
}

function straightness(plan: Plan, parts: readonly Part[], sampling: Sampling): RangePoint[] {
  if (parts.length === 0) return [];
  const moved = shiftsOf(parts[0]!);
  return figureRanges(plan).map((range) => {
    const inside = moved.filter((shift) => Math.abs(shift) <= range + RANGE_SLACK).length;
    const points = inside + (plan.fit.includeZero ? 1 : 0);
    const r = column(parts, `r${range}`);
    const linear =
      points < LINEAR_POINTS
        ? null
        : share(
            r.map((row) => Array.from(row, (value) => isLinear(value))),
            sampling,
          );
    return { range, points, meanR: meanAbsoluteR(r, points, sampling), linear };
  });
}

function drawPairs(table: readonly Part[], seed: number): Pair[] {
  const [activation, gradient, neurgrad, slope] = ['activation', 'gradient', 'neurgrad', 'slope'].map(
    (name) => column(table, name).flatMap((row) => [...row]),
  ) as [number[], number[], number[], number[]];
  return drawWithoutReplacement(Math.min(PAIRS, slope.length), slope.length, seededRandom(seed)).map((i) => ({
    activation: activation[i]!,
    gradient: gradient[i]!,
    neurgrad: neurgrad[i]!,
    slope: slope[i]!,
  }));
}

/** The strongest neurons of each sign and strong ones that are least straight, each of another prompt. */
function examples(selection: Selection, parts: readonly Part[]): ExampleCurve[] {
  const all = parts.flatMap((part, prompt) =>
    Array.from(part.get('slope')!, (slope, i) => ({
      prompt,
      i,
      slope,
      r: part.get('r')![i]!,
      flat: part.get('flat')![i]!,
    })),
  );
  const moving = all.filter(({ flat }) => flat === 0);
  const bySlope = [...moving].sort((a, b) => b.slope - a.slope);
  const strong = [...moving]
    .sort((a, b) => Math.abs(b.slope) - Math.abs(a.slope))
    .slice(0, Math.ceil(moving.length / 4));
  const bent = [...strong].sort((a, b) => Math.abs(a.r) - Math.abs(b.r));
  const shown = new Set<number>();
  const chosen = [bySlope, [...bySlope].reverse(), bent].flatMap((order) =>
    [1, 2].flatMap(() => {
      const next = order.find(({ prompt }) => !shown.has(prompt));
      if (next) shown.add(next.prompt);
      return next ? [next] : [];
    }),
  );
  return chosen.map(({ prompt, i, slope, r }) => {
    const part = parts[prompt]!;
    const shifts = [...shiftsOf(part), 0].sort((a, b) => a - b);
    const { text, answer } = selection.prompts[prompt]!;
    return {
      prompt: text,
      answer,
      layer: part.get('layer')![i]!,
      index: part.get('index')![i]!,
      slope,
      neurgrad: part.get('neurgrad')![i]!,
      r,
      base: part.get('base')![i]!,
      shifts,
      changes: shifts.map((shift) => part.get(`d${shift}`)?.[i] ?? 0),
    };
  });
}
