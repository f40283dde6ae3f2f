/** A study's tables and figures from its parts, in float64 on the host: Figure 2, Tables 1 and 2, layers, costs. */

import { UserError } from '../../engine/errors.ts';
import { shiftGrid } from '../grid.ts';
import { isLinear, type Linearity, linearity } from '../linearity.ts';
import { drawWithoutReplacement, seededRandom } from '../random.ts';
import { mean, NOISE_FLOOR, pearson, RANGE_SLACK } from '../statistics.ts';
import { type Agreement, agreement, type Interval, share, type Weight, weight } from './agreement.ts';
import { type ModelStamp, type StudyFolder, type Unit, unitName, unitsOf } from './folder.ts';
import { type PaperRow, paperRow } from './paper.ts';
import type { Part } from './part.ts';
import { canonical, type Plan } from './plan.ts';
import { promptsFile } from './run.ts';
import type { Selection } from './select.ts';

/** Neurons of one layer, over all prompts. */
export interface LayerCount {
  readonly layer: number;
  readonly tested: number;
  readonly linear: number;
  /** Linear neurons that raise, and that lower, the target. */
  readonly positive: number;
  readonly negative: number;
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
  readonly paper: PaperRow | null;
  readonly prompts: Omit<Selection, 'prompts'> & { readonly count: number };
  readonly neurons: number;
  readonly linear: Interval;
  readonly table1: {
    readonly gradient: Agreement;
    readonly integrated: Agreement | null;
    readonly neurgrad: Agreement;
    /** The paper's eq. (1) to the letter: the other sign. */
    readonly opposite: Agreement;
  };
  readonly table2: Linearity;
  readonly weight: Weight & { readonly heaviestPrompt: string };
  readonly layers: readonly LayerCount[];
  /** Mean |r| against the range; empty where the plan has no figure. */
  readonly figure2: readonly { readonly range: number; readonly meanR: number; readonly linear: number }[];
  readonly activations: { readonly negative: number; readonly zero: number };
  readonly flat: number;
  readonly cost: {
    readonly gradient: number;
    readonly neurgrad: number;
    readonly integrated: number | null;
  } | null;
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
  readonly adapter: string;
  readonly versions: Readonly<Record<string, string>>;
  readonly models: readonly ModelSummary[];
}

/**
 * Reads and checks every part of a study that may lie in several folders, one a shard.
 * @param options `partial` takes the units that are done, at least one prompt of each model.
 * @throws UserError where folders differ in plan or model, a part is damaged, or units are missing.
 */
export async function summarise(
  folders: readonly StudyFolder[],
  options: { readonly partial?: boolean } = {},
): Promise<StudySummary> {
  const [first] = folders as [StudyFolder];
  for (const folder of folders)
    if (folder.manifest.study !== first.manifest.study)
      throw new UserError('report', `${folder.path}: is another study than ${first.path}`);
  const { plan, models: stamps, planHash, adapter, versions } = first.manifest;
  const selections = stamps.map((_, model) => {
    const found = folders.flatMap((folder) => {
      const selection = folder.note<Selection>(promptsFile(model));
      return selection ? [{ folder, selection }] : [];
    });
    if (found.length === 0)
      throw new UserError('report', `${first.path}: the study has not chosen its prompts yet; run it first`);
    const [one, ...others] = found as [(typeof found)[0], ...typeof found];
    for (const other of others)
      if (canonical(other.selection) !== canonical(one.selection))
        throw new UserError(
          'report',
          `${other.folder.path}: chose other prompts than ${one.folder.path}; run both on machines on which the model answers alike`,
        );
    return one.selection;
  });
  const units = unitsOf(
    plan,
    selections.map(({ prompts }) => prompts.length),
  );
  const missing: Unit[] = [];
  const parts = new Map<string, Part>();
  for (const unit of units) {
    const home = folders.find((folder) => folder.has(unit));
    if (home) parts.set(unitName(unit), await home.readUnit(unit));
    else missing.push(unit);
  }
  const untouched = stamps.findIndex(
    (_, model) =>
      !units.some((unit) => unit.model === model && unit.kind === 'table' && parts.has(unitName(unit))),
  );
  if (options.partial && untouched >= 0)
    throw new UserError('report', `${first.path}: no prompt of ${stamps[untouched]!.source} is done yet`);
  if (missing.length > 0 && !options.partial)
    throw new UserError(
      'report',
      `${first.path}: ${missing.length} of ${units.length} units are not done yet (the first: ${unitName(missing[0]!)}); run the study again to go on, or report --partial`,
    );
  return {
    units: { done: parts.size, all: units.length },
    plan,
    planHash,
    adapter,
    versions,
    models: stamps.map((stamp, model) => {
      const done = (kind: Unit['kind']): Unit[] =>
        units.filter((unit) => unit.model === model && unit.kind === kind && parts.has(unitName(unit)));
      const of = (kind: Unit['kind']): Part[] => done(kind).map((unit) => parts.get(unitName(unit))!);
      const all = selections[model]!;
      const selection = { ...all, prompts: done('table').map(({ prompt }) => all.prompts[prompt]!) };
      return summariseModel(plan, stamp, selection, of('table'), of('figure'), of('cost')[0] ?? null);
    }),
  };
}

const column = (parts: readonly Part[], name: string): Float64Array[] => parts.map((part) => part.get(name)!);

function summariseModel(
  plan: Plan,
  stamp: ModelStamp,
  selection: Selection,
  table: readonly Part[],
  figure: readonly Part[],
  cost: Part | null,
): ModelSummary {
  const r = column(table, 'r');
  const layer = column(table, 'layer');
  const slope = column(table, 'slope');
  const neurgrad = column(table, 'neurgrad');
  const withIg = table.filter((part) => part.has('ig'));
  const byPrompt = column(table, 'activation');
  const activation = byPrompt.flatMap((a) => [...a]);
  const { sampling, seed } = plan.neurons;
  const heavy = weight(byPrompt, slope);
  const { prompts, ...counts } = selection;
  return {
    stamp,
    paper: paperRow(stamp),
    prompts: { ...counts, count: prompts.length },
    neurons: activation.length,
    linear: share(
      r.map((row) => Array.from(row, (value) => isLinear(value))),
      sampling,
    ),
    table1: {
      gradient: agreement(column(table, 'gradient'), slope, sampling),
      integrated:
        withIg.length > 0 ? agreement(column(withIg, 'ig'), column(withIg, 'slope'), sampling) : null,
      neurgrad: agreement(neurgrad, slope, sampling),
      opposite: agreement(
        neurgrad.map((row) => row.map((value) => -value)),
        slope,
        sampling,
      ),
    },
    table2: linearity({ r, layer, layers: stamp.layers }, plan.maxVariance, seed),
    weight: { ...heavy, heaviestPrompt: prompts[heavy.heaviest.prompt]!.text },
    layers: layerCounts(stamp.layers, layer, r, slope),
    figure2: straightness(plan, stamp, figure),
    activations: {
      negative: mean(activation.map((a) => (a < 0 ? 1 : 0))),
      zero: activation.filter((a) => a === 0).length,
    },
    flat: column(table, 'flat').reduce((sum, row) => sum + row.reduce((a, b) => a + b, 0), 0),
    cost: cost && {
      gradient: cost.get('gradient')![0]!,
      neurgrad: cost.get('neurgrad')![0]!,
      integrated: cost.get('integrated')![0]! || null,
    },
    examples: examples(selection, table),
    pairs: drawPairs(table, seed),
  };
}

function layerCounts(
  layers: number,
  layer: readonly Float64Array[],
  r: readonly Float64Array[],
  slope: readonly Float64Array[],
): LayerCount[] {
  const counts = Array.from({ length: layers }, (_, at) => ({
    layer: at,
    tested: 0,
    linear: 0,
    positive: 0,
    negative: 0,
  }));
  layer.forEach((row, p) => {
    row.forEach((at, i) => {
      const count = counts[at]!;
      count.tested++;
      if (!isLinear(r[p]![i]!)) return;
      count.linear++;
      if (slope[p]![i]! > 0) count.positive++;
      else if (slope[p]![i]! < 0) count.negative++;
    });
  });
  return counts;
}

/** Shifts of a part's curve columns, ascending. */
function shiftsOf(part: Part): number[] {
  return [...part.keys()]
    .filter((name) => /^d-?\d/.test(name))
    .map((name) => Number(name.slice(1)))
    .sort((a, b) => a - b);
}

function straightness(plan: Plan, stamp: ModelStamp, parts: readonly Part[]): ModelSummary['figure2'] {
  if (parts.length === 0) return [];
  const moved = shiftsOf(parts[0]!);
  const { from, to, step } = plan.figure.grid;
  // Studies made before plans were checked for it.
  if (from >= 0 || to <= 0) return [];
  const ranges = shiftGrid(0, Math.min(-from, to), step).filter((range) => range > 0);
  // Changes carried as differences are good to 1e-5 of themselves however small, so that no curve counts as flat here.
  const carried = plan.engine === 'auto' && (stamp.weights ?? 'device') === 'device';
  const floor = carried ? 0 : NOISE_FLOOR;
  const curves = parts.flatMap((part) => {
    const columns = moved.map((shift) => part.get(`d${shift}`)!);
    return Array.from(part.get('base')!, (base, i) => ({
      base,
      changes: columns.map((values) => values[i]!),
    }));
  });
  return ranges.map((range) => {
    const within = moved.flatMap((shift, i) => (Math.abs(shift) <= range + RANGE_SLACK ? [i] : []));
    const s = within.map((i) => moved[i]!);
    const r = curves.map(({ base, changes }) => {
      const dv = within.map((i) => changes[i]!);
      return dv.every((change) => Math.abs(change) <= floor * Math.abs(base)) ? 0 : Math.abs(pearson(s, dv));
    });
    return { range, meanR: mean(r), linear: mean(r.map((value) => (isLinear(value) ? 1 : 0))) };
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
