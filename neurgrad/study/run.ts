/**
 * The study's loop: for each model choose prompts, then one unit after another, each written as it is finished. What is
 * there already is not done again; what is damaged is said and done again.
 */

import { UserError } from '../../engine/errors.ts';
import { callback, checkOptions, optionsSchema, required } from '../../engine/options.ts';
import { Reopening } from '../../engine/reopening.ts';
import type { LanguageModel } from '../../models/model.ts';
import type { Tokenizer } from '../../models/tokenizer.ts';
import { chooseEstimators, type Estimator, estimateNeurons, estimatorList } from '../estimators/estimator.ts';
import { ESTIMATORS } from '../estimators/index.ts';
import { integratedEstimator } from '../estimators/integrated.ts';
import { neuronGradients } from '../gradients.ts';
import { shiftGrid } from '../grid.ts';
import { type Neuron, neuronAt, resolveSite, SITES } from '../neuron.ts';
import { maskToken } from '../prompt.ts';
import { unknownRemark } from '../promptRemarks.ts';
import { type CurveFit, type FitOptions, fitCurve } from '../statistics.ts';
import { type NeuronCurve, sweep } from '../sweep.ts';
import { measureCost } from './cost.ts';
import type { ModelStamp, StudyFolder, Unit } from './folder.ts';
import { unitName, unitsOf } from './folder.ts';
import type { Column } from './part.ts';
import { estimatorsOf, type ModelPlan, modelPlans, type Plan } from './plan.ts';
import { readQuestions } from './prompts.ts';
import {
  type Ask,
  argmaxes,
  drawNeurons,
  mostNeurons,
  type SelectedPrompt,
  type Selection,
  selectionFor,
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
  /** Estimators from outside the package that the plan names. */
  readonly estimators?: readonly Estimator[];
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
  estimators: estimatorList,
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
  const { plan, models: stamps } = folder.manifest;
  const models = modelPlans(plan);
  const estimators = chooseEstimators(estimatorsOf(plan), ESTIMATORS, options.estimators ?? []);
  for (const { name } of estimators) estimateColumn(name);
  const note = options.onNote ?? (() => {});
  const counts: number[] = [];
  const ours = (units: readonly Unit[]): Unit[] =>
    units.filter((_, i) => i % options.shard.count === options.shard.index);
  const workOf = (units: readonly Unit[]): number =>
    units.reduce((sum, unit) => sum + unitWork(plan, models[unit.model]!, unit, stamps[unit.model]!), 0);
  let [done, found, points] = [0, 0, 0];
  for (const [number, asked] of models.entries()) {
    using opened = new Reopening({
      open: () => options.open(number),
      close: (model) => model.close(),
      onLost: options.onNote,
    });
    const selection = await chosenPrompts(folder, asked, number, opened, options);
    counts.push(selection.prompts.length);
    const todo: Unit[] = [];
    for (const unit of ours(unitsOf(plan, counts))) {
      if (unit.model !== number) continue;
      if (await isThere(folder, unit, note)) found++;
      else todo.push(unit);
    }
    // Models to come: as many prompts as the plan asks for.
    const expected = models.map(({ prompts }, model) => counts[model] ?? prompts.count);
    const later = ours(unitsOf(plan, expected)).filter((unit) => unit.model > number && !folder.has(unit));
    const all = points + workOf(todo) + workOf(later);
    for (const unit of todo) {
      const told = (rows: number): void => options.onProgress?.(points + rows, all);
      const table = await opened.run(({ model }) =>
        runUnit(model, plan, asked, unit, selection.prompts[unit.prompt]!, estimators, told),
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

/** Ranges ±R that Figure 2 cuts curves at. */
export function figureRanges({ figure }: Plan): number[] {
  const { from, to, step } = figure.grid;
  return shiftGrid(0, Math.min(-from, to), step).filter((range) => range > 0);
}

/** What of a model says how large its units are. */
type Sizes = Pick<ModelStamp, 'layers' | 'width'>;

/** Points that a unit sweeps: neurons times shifts but 0. At most, where a list of neurons may name one twice. */
export function unitPoints(plan: Plan, { neurons }: ModelPlan, unit: Unit, sizes: Sizes): number {
  if (unit.kind === 'cost') return 0;
  const swept = unit.kind === 'figure' ? plan.figure.neurons : mostNeurons(neurons, sizes);
  return swept * unitShifts(plan, unit).filter((shift) => shift !== 0).length;
}

/** What a unit counts for in progress: its points, those of integrated gradients, and for costs about as much as they take. */
function unitWork(plan: Plan, model: ModelPlan, unit: Unit, sizes: Sizes): number {
  const path = sizes.layers * plan.integrated.steps;
  if (unit.kind === 'cost') return plan.integrated.prompts > 0 ? 2 * path : sizes.layers;
  const integrated = unit.kind === 'table' && unit.prompt < plan.integrated.prompts;
  return unitPoints(plan, model, unit, sizes) + (integrated ? path : 0);
}

async function chosenPrompts(
  folder: StudyFolder,
  { path: name, prompts: asked }: ModelPlan,
  number: number,
  held: Reopening<OpenedModel>,
  options: StudyOptions,
): Promise<Selection> {
  const kept = folder.note<Selection>(promptsFile(number));
  if (kept) return kept;
  // Of this one, sizes and words alone: its device may be gone before all are chosen.
  const opened = await held.run(async (first) => first);
  const questions = readQuestions(asked, maskToken(opened.model, opened.tokenizer));
  const ask: Ask = (prompts) => held.run(({ model }) => argmaxes(model, prompts));
  const selection = await selectPrompts(opened, name, questions, asked, options.onPrompts, ask);
  if (selection.prompts.length < asked.count)
    options.onNote?.(
      `${name}: ${selection.prompts.length} of ${asked.count} prompts asked for; ${selection.tried} were all there are`,
    );
  for (const [reason, count] of Object.entries(questions.dropped))
    options.onNote?.(`${asked.path}: ${count} left out: ${reason}`);
  const remark = unknownRemark(opened.tokenizer, selection.prompts);
  if (remark !== null) options.onNote?.(`${name}: ${remark}`);
  return folder.keepNote(promptsFile(number), selection);
}

/** The neurons of one unit. */
async function neuronsOf(
  model: LanguageModel,
  plan: Plan,
  { neurons: asked }: ModelPlan,
  unit: Unit,
  prompt: SelectedPrompt,
): Promise<Neuron[]> {
  const site = resolveSite(asked.site, model);
  if (unit.kind === 'figure')
    return drawNeurons(model, asked, plan.figure.neurons, unit.prompt, 1).map((n) =>
      neuronAt(n, model.sizes.width, site),
    );
  const selection = selectionFor(model, asked, unit.prompt);
  if (!selection.ranked) return selection.neurons();
  const { target } = prompt;
  const { of, direction, sign } = plan;
  return selection.neurons(
    (await neuronGradients(model, prompt, { target, site, of, direction, sign })).neurgrad,
  );
}

/** The table of one unit. */
async function runUnit(
  model: LanguageModel,
  plan: Plan,
  asked: ModelPlan,
  unit: Unit,
  prompt: SelectedPrompt,
  estimators: readonly Estimator[],
  onProgress: (points: number) => void,
): Promise<Column[]> {
  if (unit.kind === 'cost') return measureCost(model, plan, prompt, undefined, asked.neurons.site);
  const figure = unit.kind === 'figure';
  const shifts = unitShifts(plan, unit);
  const neurons = await neuronsOf(model, plan, asked, unit, prompt);
  const result = await sweep(model, prompt, {
    neurons,
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
  const swept = unitPoints(plan, asked, unit, model.sizes);
  const estimated = figure
    ? []
    : await estimates(model, plan, unit, prompt, neurons, estimators, (done) => onProgress(swept + done));
  return [
    column('layer', 'INT32', (i) => curves[i]!.layer),
    column('index', 'INT32', (i) => curves[i]!.index),
    // By its place among the names of sites.
    column('site', 'INT32', (i) => SITES.indexOf(curves[i]!.site)),
    ...(
      ['activation', 'gradient', 'neurgrad', 'slope', 'intercept', 'r', 'noise', 'gradientNoise'] as const
    ).map((name) => column(name, 'DOUBLE', (i) => curves[i]![name])),
    column('flat', 'INT32', (i) => (curves[i]!.flat ? 1 : 0)),
    column('linear', 'INT32', (i) => (curves[i]!.linear ? 1 : 0)),
    // Points that were run, and what those that were not may be off by.
    column('ran', 'INT32', (i) => curves[i]!.ran),
    column('bound', 'DOUBLE', (i) => curves[i]!.bound),
    ...ranges.map((range) => column(`r${range}`, 'DOUBLE', (i) => cut(curves[i]!, range).r)),
    ...estimated,
    // The target's probability, and the value that is swept, which may be another, with nothing shifted.
    column('p', 'DOUBLE', () => result.p),
    column('base', 'DOUBLE', (i) => curves[i]!.values[zero]!),
    ...shifts.flatMap((shift, s) =>
      s === zero ? [] : [column(`d${shift}`, 'FLOAT', (i) => curves[i]!.changes[s]!)],
    ),
  ];
}

/** Columns of the estimators that a sweep does not give itself; integrated gradients of as many prompts as the plan says. */
async function estimates(
  model: LanguageModel,
  plan: Plan,
  unit: Unit,
  prompt: SelectedPrompt,
  neurons: readonly Neuron[],
  estimators: readonly Estimator[],
  onProgress: (points: number) => void,
): Promise<Column[]> {
  const { of, direction, sign } = plan;
  const { steps, endpoints, prompts } = plan.integrated;
  const columns: Column[] = [];
  for (const estimator of estimators) {
    const { name } = estimator;
    if (sweptEstimates.has(name) || (name === 'integrated' && unit.prompt >= prompts)) continue;
    // Layers without a drawn neuron are not integrated, but counted as if they were.
    const told = (done: number, all: number): void =>
      onProgress(Math.floor((done / all) * model.sizes.layers * steps));
    const ours =
      name === 'integrated' ? integratedEstimator({ steps, endpoints, onProgress: told }) : estimator;
    const { values, noise } = await estimateNeurons(ours, model, { ...prompt, of, direction, sign }, neurons);
    const column = estimateColumn(name);
    columns.push({ name: column, type: 'DOUBLE', data: values });
    if (noise) columns.push({ name: `${column}Noise`, type: 'DOUBLE', data: noise });
  }
  return columns;
}

/** Names of the plan's estimators that parts have a column of their own for, beside those of sweeps and integrated gradients. */
export const otherEstimates = (plan: Plan): string[] =>
  estimatorsOf(plan).filter((name) => !sweptEstimates.has(name) && name !== 'integrated');

/** Estimators whose values stand beside each sweep anyway, in columns of their names. */
const sweptEstimates: ReadonlySet<string> = new Set(['gradient', 'neurgrad', 'activation']);
/** Columns of parts, and of a study's rows, that an estimator's may not be called. */
const TAKEN = new Set(
  [
    'layer index site slope intercept r noise flat linear ran bound ig p base study study_id sample model prompt prompt_id answer',
    'prompts target target_id position direction sign of dtype neuron g_c g_e fit_range shift value change',
  ]
    .join(' ')
    .split(' '),
);

/** The column of a part that an estimator's values stand in. @throws UserError for a name that another column has. */
export function estimateColumn(name: string): string {
  if (name === 'integrated') return 'ig';
  if (!TAKEN.has(name) && !/^[rd]\d|_noise$/.test(name)) return name;
  throw new UserError(
    'estimator',
    `an estimator called ${name}: a study's rows have another column of that name`,
  );
}
