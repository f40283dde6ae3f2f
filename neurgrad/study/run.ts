/**
 * The study's loop: for each model choose prompts, then one unit after another, each written as it is finished. What is
 * there already is not done again; what is damaged is said and done again.
 */

import { callback, checkOptions, optionsSchema, required } from '../../engine/options.ts';
import { Reopening } from '../../engine/reopening.ts';
import type { LanguageModel } from '../../models/model.ts';
import type { Tokenizer } from '../../models/tokenizer.ts';
import { shiftGrid } from '../grid.ts';
import { integrateLayers } from '../integrated.ts';
import { neuronAt, resolveSite } from '../neuron.ts';
import { maskToken } from '../prompt.ts';
import { unknownRemark } from '../promptRemarks.ts';
import { type CurveFit, type FitOptions, fitCurve } from '../statistics.ts';
import { type NeuronCurve, sweep } from '../sweep.ts';
import { measureCost } from './cost.ts';
import type { StudyFolder, Unit } from './folder.ts';
import { unitName, unitsOf } from './folder.ts';
import type { Column } from './part.ts';
import type { Plan } from './plan.ts';
import { readQuestions } from './prompts.ts';
import {
  type Ask,
  argmaxes,
  drawNeurons,
  type SelectedPrompt,
  type Selection,
  selectPrompts,
} from './select.ts';
import { type Shard, shardField } from './shard.ts';

/** A model that the study has opened for as long as its units run. */
export interface OpenedModel {
  readonly model: LanguageModel;
  readonly tokenizer: Tokenizer;
  /** Frees the model. */
  close(): void;
}

/** Which share runs, with which models, and who is told. */
export interface StudyOptions {
  readonly shard: Shard;
  /** Opens the plan's model by its number; again after its device was lost, on another. */
  readonly open: (model: number) => Promise<OpenedModel>;
  /** Points (a neuron at a shift, a layer at a point of its path) that this call computes; parts found done count for nothing. */
  readonly onProgress?: (done: number, all: number) => void;
  /** Prompts chosen of a model. */
  readonly onPrompts?: (done: number, all: number) => void;
  /** Told what a person should know: a damaged part, too few prompts, a device that was lost. */
  readonly onNote?: (text: string) => void;
}

const studyOptions = optionsSchema<StudyOptions>({
  shard: required(shardField),
  open: required(callback()),
  onProgress: callback(),
  onPrompts: callback(),
  onNote: callback(),
});

/** What a call has done of its share. */
export interface StudyOutcome {
  /** Units of this share done now, and found done. */
  readonly done: number;
  readonly found: number;
}

/** Name of the note with a model's prompts. */
export const promptsFile = (model: number): string => `prompts-${model}.json`;

/**
 * Runs this process's share of a study. Units are shared out in turn; one whose device is lost is done again, on a new one.
 * @throws DeviceLostError where that is lost several times in a row.
 */
export async function runStudy(folder: StudyFolder, options: StudyOptions): Promise<StudyOutcome> {
  checkOptions('runStudy', studyOptions, options);
  const { plan } = folder.manifest;
  const note = options.onNote ?? (() => {});
  const counts: number[] = [];
  const ours = (units: readonly Unit[]): Unit[] =>
    units.filter((_, i) => i % options.shard.count === options.shard.index);
  const workOf = (units: readonly Unit[]): number =>
    units.reduce((sum, unit) => sum + unitWork(plan, unit, folder.manifest.models[unit.model]!.layers), 0);
  let [done, found, points] = [0, 0, 0];
  for (const [number] of plan.models.entries()) {
    using opened = new Reopening({
      open: () => options.open(number),
      close: (model) => model.close(),
      onLost: options.onNote,
    });
    const selection = await chosenPrompts(folder, plan, number, opened, options);
    counts.push(selection.prompts.length);
    const todo: Unit[] = [];
    for (const unit of ours(unitsOf(plan, counts))) {
      if (unit.model !== number) continue;
      if (await isThere(folder, unit, note)) found++;
      else todo.push(unit);
    }
    // Models to come: as many prompts as the plan asks for.
    const expected = plan.models.map((_, model) => counts[model] ?? plan.prompts.count);
    const later = ours(unitsOf(plan, expected)).filter((unit) => unit.model > number && !folder.has(unit));
    const all = points + workOf(todo) + workOf(later);
    for (const unit of todo) {
      const told = (rows: number): void => options.onProgress?.(points + rows, all);
      const table = await opened.run(({ model }) =>
        runUnit(model, plan, unit, selection.prompts[unit.prompt]!, told),
      );
      folder.write(unit, table);
      done++;
      points += workOf([unit]);
      options.onProgress?.(points, all);
    }
  }
  return { done, found };
}

/** Whether a unit's part is there and whole; a damaged one is said and moved aside. */
async function isThere(folder: StudyFolder, unit: Unit, note: (text: string) => void): Promise<boolean> {
  if (!folder.has(unit)) return false;
  const damage = await folder.check(unit);
  if (damage === null) return true;
  note(`${damage}; doing ${unitName(unit)} again`);
  return false;
}

/** Shifts of a unit's neurons, 0 among them. */
function unitShifts(plan: Plan, { kind }: Unit): number[] {
  const { from, to, step } = kind === 'figure' ? plan.figure.grid : plan.grid;
  return shiftGrid(from, to, step);
}

const unitNeurons = (plan: Plan, { kind }: Unit): number =>
  kind === 'figure' ? plan.figure.neurons : plan.neurons.perPrompt;

/** Ranges ±R that Figure 2 cuts curves at. */
export function figureRanges({ figure }: Plan): number[] {
  const { from, to, step } = figure.grid;
  return shiftGrid(0, Math.min(-from, to), step).filter((range) => range > 0);
}

/** Points that a unit sweeps: neurons times shifts but 0. */
export function unitPoints(plan: Plan, unit: Unit): number {
  if (unit.kind === 'cost') return 0;
  return unitNeurons(plan, unit) * unitShifts(plan, unit).filter((shift) => shift !== 0).length;
}

/** What a unit counts for in progress: its points, those of integrated gradients, and for costs about as much as they take. */
function unitWork(plan: Plan, unit: Unit, layers: number): number {
  const path = layers * plan.integrated.steps;
  if (unit.kind === 'cost') return plan.integrated.prompts > 0 ? 2 * path : layers;
  const integrated = unit.kind === 'table' && unit.prompt < plan.integrated.prompts;
  return unitPoints(plan, unit) + (integrated ? path : 0);
}

async function chosenPrompts(
  folder: StudyFolder,
  plan: Plan,
  number: number,
  held: Reopening<OpenedModel>,
  options: StudyOptions,
): Promise<Selection> {
  const kept = folder.note<Selection>(promptsFile(number));
  if (kept) return kept;
  const name = plan.models[number]!;
  // Of this one, sizes and words alone: its device may be gone before all are chosen.
  const opened = await held.run(async (first) => first);
  const questions = readQuestions(plan.prompts, maskToken(opened.model, opened.tokenizer));
  const ask: Ask = (prompts) => held.run(({ model }) => argmaxes(model, prompts));
  const selection = await selectPrompts(opened, name, questions, plan.prompts, options.onPrompts, ask);
  if (selection.prompts.length < plan.prompts.count)
    options.onNote?.(
      `${name}: ${selection.prompts.length} of ${plan.prompts.count} prompts asked for; ${selection.tried} were all there are`,
    );
  for (const [reason, count] of Object.entries(questions.dropped))
    options.onNote?.(`${plan.prompts.path}: ${count} left out: ${reason}`);
  const remark = unknownRemark(opened.tokenizer, selection.prompts);
  if (remark !== null) options.onNote?.(`${name}: ${remark}`);
  return folder.keepNote(promptsFile(number), selection);
}

/** The table of one unit. */
async function runUnit(
  model: LanguageModel,
  plan: Plan,
  unit: Unit,
  prompt: SelectedPrompt,
  onProgress: (points: number) => void,
): Promise<Column[]> {
  if (unit.kind === 'cost') return measureCost(model, plan, prompt);
  const figure = unit.kind === 'figure';
  const shifts = unitShifts(plan, unit);
  const site = resolveSite(plan.neurons.site, model);
  const { width } = model.sizes;
  const flat = drawNeurons(model, plan.neurons, unitNeurons(plan, unit), unit.prompt, figure ? 1 : 0);
  const result = await sweep(model, prompt, {
    neurons: flat.map((n) => neuronAt(n, width, site)),
    shifts,
    target: prompt.target,
    direction: plan.direction,
    sign: plan.sign,
    of: plan.of,
    fit: plan.fit as { range: number; includeZero: boolean; withIntercept: boolean },
    engine: plan.engine,
    onProgress,
  });
  const zero = shifts.indexOf(0);
  const curves = result.neurons;
  const column = (name: string, type: Column['type'], value: (i: number) => number): Column => ({
    name,
    type,
    data: curves.map((_, i) => value(i)),
  });
  // Figure 2 fits each curve anew within every range, by the rule of all fits.
  const ranges = figure ? figureRanges(plan) : [];
  const cut = ({ changes, valueNoise }: NeuronCurve, range: number): CurveFit =>
    fitCurve(shifts, changes, { ...(plan.fit as FitOptions), range }, valueNoise);
  const swept = unitPoints(plan, unit);
  const ig = figure
    ? null
    : await integrated(model, plan, unit, prompt, flat, (done) => onProgress(swept + done));
  return [
    column('layer', 'INT32', (i) => curves[i]!.layer),
    column('index', 'INT32', (i) => curves[i]!.index),
    ...(
      ['activation', 'gradient', 'neurgrad', 'slope', 'intercept', 'r', 'noise', 'gradientNoise'] as const
    ).map((name) => column(name, 'DOUBLE', (i) => curves[i]![name])),
    column('flat', 'INT32', (i) => (curves[i]!.flat ? 1 : 0)),
    column('linear', 'INT32', (i) => (curves[i]!.linear ? 1 : 0)),
    // Points that were run, and what those that were not may be off by.
    column('ran', 'INT32', (i) => curves[i]!.ran),
    column('bound', 'DOUBLE', (i) => curves[i]!.bound),
    ...ranges.map((range) => column(`r${range}`, 'DOUBLE', (i) => cut(curves[i]!, range).r)),
    ...(ig
      ? [column('ig', 'DOUBLE', (i) => ig[i]!.value), column('igNoise', 'DOUBLE', (i) => ig[i]!.noise)]
      : []),
    column('base', 'DOUBLE', (i) => curves[i]!.values[zero]!),
    ...shifts.flatMap((shift, s) =>
      s === zero ? [] : [column(`d${shift}`, 'FLOAT', (i) => curves[i]!.changes[s]!)],
    ),
  ];
}

/** Layer-joint integrated gradients of the neurons drawn, or null where the plan wants none of this prompt. */
async function integrated(
  model: LanguageModel,
  plan: Plan,
  unit: Unit,
  prompt: SelectedPrompt,
  flat: readonly number[],
  onProgress: (points: number) => void,
): Promise<{ value: number; noise: number }[] | null> {
  if (unit.prompt >= plan.integrated.prompts) return null;
  const { width } = model.sizes;
  const layers = [...new Set(flat.map((n) => Math.floor(n / width)))].sort((a, b) => a - b);
  const found = await integrateLayers(model, prompt, {
    ...integratedOptions(plan),
    target: prompt.target,
    layers,
    // Layers without a drawn neuron are not integrated, but counted as if they were.
    onProgress: (done, all) =>
      onProgress(Math.floor((done / all) * model.sizes.layers * plan.integrated.steps)),
  });
  return flat.map((n) => {
    const { ig, noise } = found.find(({ layer }) => layer === Math.floor(n / width))!;
    return { value: ig[n % width]!, noise: noise[n % width]! };
  });
}

const integratedOptions = (plan: Plan) => ({
  site: plan.neurons.site,
  of: plan.of,
  steps: plan.integrated.steps,
  endpoints: plan.integrated.endpoints,
});
