/**
 * A study's results as rows: one a (model, prompt, neuron), and of its curves one a (model, prompt, neuron, shift), whatever files its parts lie
 * in. docs/tables.md has the columns.
 */

import { SITES } from '../neurgrad/index.ts';
import type { Plan } from '../neurgrad/study/plan.ts';
import { type DoneUnit, type MeasuredModel, type MeasuredStudy, promptOf } from '../neurgrad/study/read.ts';
import { otherEstimates } from '../neurgrad/study/run.ts';
import { shiftsOf } from '../neurgrad/study/summary.ts';
import { MEASURED_COLUMNS, PROMPT_COLUMNS, TARGET_COLUMNS } from './perPrompt.ts';
import { openRows } from './results.ts';
import type { Cell, RowBlock, RowSchema } from './rows.ts';

/** A row a (model, prompt, neuron). */
export const STUDY_NEURON_ROWS: RowSchema = {
  format: 'neurgrad study neurons 1',
  columns: {
    study: 'text',
    study_id: 'text',
    sample: 'text',
    ...PROMPT_COLUMNS,
    prompts: 'text',
    ...TARGET_COLUMNS,
    ...MEASURED_COLUMNS,
    ran: 'whole',
    bound: 'number',
    ig: 'number',
    ig_noise: 'number',
  },
};

/** A row a (model, prompt, neuron, shift). */
export const STUDY_CURVE_ROWS: RowSchema = {
  format: 'neurgrad study curves 1',
  columns: { ...STUDY_NEURON_ROWS.columns, shift: 'number', value: 'number', change: 'number' },
};

/** A table with the columns of the plan's other estimators behind its own. */
const withEstimates = ({ format, columns }: RowSchema, plan: Plan): RowSchema => ({
  format,
  columns: {
    ...columns,
    ...Object.fromEntries(
      otherEstimates(plan).flatMap((name) =>
        [name, `${name}_noise`].map((column) => [column, 'number'] as const),
      ),
    ),
  },
});

/** Cells of a part's column, or of none where it was written before there was such a column. */
const cellsOf = ({ part }: DoneUnit, name: string): ArrayLike<Cell> | undefined => part.get(name);

const neuronsIn = ({ part }: DoneUnit): number => part.get('layer')!.length;

/** The neurons of one unit. */
function neuronBlock({ manifest }: MeasuredStudy, model: MeasuredModel, unit: DoneUnit): RowBlock {
  const { plan, study } = manifest;
  const { id, text, answer, target, token, position } = promptOf(model, unit);
  const count = neuronsIn(unit);
  const base = unit.part.get('base')!;
  const of = (name: string): ArrayLike<Cell> => cellsOf(unit, name) ?? new Array<Cell>(count).fill(null);
  const flag = (name: string): boolean[] => Array.from(unit.part.get(name)!, (value) => value === 1);
  const sites = unit.part.get('site');
  return {
    count,
    same: {
      study: plan.name,
      study_id: study,
      sample: unit.kind,
      model: model.stamp.source,
      prompt_id: id ?? `${unit.prompt}`,
      prompt: text,
      answer,
      prompts: model.asked.prompts.path,
      target: token ?? null,
      target_id: target,
      position,
      direction: plan.direction,
      sign: plan.sign,
      of: plan.of,
      // As conventions say it.
      dtype: plan.dtype === 'f32' ? 'float32' : `float32 with ${plan.dtype} weights`,
      fit_range: plan.fit.range,
    },
    each: {
      // Parts of before say of neither more than the plan and the curve do.
      site: sites
        ? Array.from(sites, (site) => SITES[site]!)
        : new Array<Cell>(count).fill(model.asked.neurons.site),
      p: cellsOf(unit, 'p') ?? (plan.of === 'prob' ? base : new Array<Cell>(count).fill(null)),
      layer: of('layer'),
      neuron: of('index'),
      activation: of('activation'),
      g_c: of('gradient'),
      neurgrad: of('neurgrad'),
      g_c_noise: of('gradientNoise'),
      g_e: of('slope'),
      intercept: of('intercept'),
      r: of('r'),
      noise: of('noise'),
      flat: flag('flat'),
      linear: flag('linear'),
      ran: of('ran'),
      bound: of('bound'),
      ig: of('ig'),
      ig_noise: of('igNoise'),
      ...Object.fromEntries(
        otherEstimates(plan).flatMap((name) => [
          [name, of(name)],
          [`${name}_noise`, of(`${name}Noise`)],
        ]),
      ),
    },
  };
}

/** The curves of one unit, a block a neuron. */
function curveBlocks(unit: DoneUnit, neurons: RowBlock): RowBlock[] {
  const { part } = unit;
  const moved = shiftsOf(part);
  const shifts = [...moved, 0].sort((a, b) => a - b);
  const changes = shifts.map((shift) => part.get(`d${shift}`));
  const base = part.get('base')!;
  return Array.from({ length: neurons.count }, (_, i) => {
    const own = Object.entries(neurons.each).map(([name, cells]) => [name, cells[i]!]);
    const change = changes.map((column) => column?.[i] ?? 0);
    return {
      count: shifts.length,
      same: { ...neurons.same, ...(Object.fromEntries(own) as Record<string, Cell>) },
      each: { shift: shifts, value: change.map((difference) => base[i]! + difference), change },
    };
  });
}

/** Rows of a row group: what a reader holds at once. */
const GROUP = 50_000;

/** Writes both tables, each whole or not at all. @throws UserError where the disk refuses. */
export function writeStudyRows(study: MeasuredStudy, paths: { neurons: string; curves: string }): void {
  const { plan } = study.manifest;
  const file = (path: string) => ({ kind: 'file', path, format: 'parquet', ending: '.parquet' }) as const;
  using neurons = openRows(file(paths.neurons), withEstimates(STUDY_NEURON_ROWS, plan), () => null)!;
  using curves = openRows(file(paths.curves), withEstimates(STUDY_CURVE_ROWS, plan), () => null)!;
  const gathered = (put: (blocks: readonly RowBlock[]) => void) => {
    let [blocks, rows]: [RowBlock[], number] = [[], 0];
    const flush = (): void => {
      put(blocks);
      [blocks, rows] = [[], 0];
    };
    return {
      flush,
      add(more: readonly RowBlock[]): void {
        blocks.push(...more);
        rows += more.reduce((sum, { count }) => sum + count, 0);
        if (rows >= GROUP) flush();
      },
    };
  };
  const [ofNeurons, ofCurves] = [neurons, curves].map((sink) => gathered((blocks) => sink.put(0, blocks)));
  for (const model of study.models)
    for (const unit of model.done) {
      if (unit.kind === 'cost') continue;
      const block = neuronBlock(study, model, unit);
      ofNeurons!.add([block]);
      ofCurves!.add(curveBlocks(unit, block));
    }
  for (const each of [ofNeurons!, ofCurves!]) each.flush();
  for (const sink of [neurons, curves]) sink.end();
}
