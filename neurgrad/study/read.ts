/** All that a study has measured, read from its folder, or from those of its shards, and checked. */

import { UserError } from '../../engine/errors.ts';
import { canonical } from '../../models/seal.ts';
import { type Manifest, type StudyFolder, type Unit, unitName, unitsOf } from './folder.ts';
import type { Part } from './part.ts';
import { type ModelPlan, modelPlans } from './plan.ts';
import { promptsFile } from './run.ts';
import type { SelectedPrompt, Selection } from './select.ts';

/** A unit that is done. */
export interface DoneUnit extends Unit {
  readonly part: Part;
}

/** One model of a study. */
export interface MeasuredModel {
  readonly stamp: Manifest['models'][number];
  readonly asked: ModelPlan;
  readonly selection: Selection;
  /** In the order of the plan. */
  readonly done: readonly DoneUnit[];
}

/** What a study has measured. */
export interface MeasuredStudy {
  readonly manifest: Manifest;
  readonly models: readonly MeasuredModel[];
  /** Units done of all. */
  readonly units: { readonly done: number; readonly all: number };
}

/** The prompt of a unit. */
export const promptOf = ({ selection }: MeasuredModel, { prompt }: Unit): SelectedPrompt =>
  selection.prompts[prompt]!;

/**
 * @param partial takes the units that are done, at least one prompt of each model.
 * @throws UserError where folders differ in plan or model, a part is damaged, or units are missing.
 */
export async function readStudy(folders: readonly StudyFolder[], partial = false): Promise<MeasuredStudy> {
  const [first] = folders as [StudyFolder];
  for (const folder of folders)
    if (folder.manifest.study !== first.manifest.study)
      throw new UserError('report', `${folder.path}: is another study than ${first.path}`);
  const { manifest } = first;
  const stamps = manifest.models;
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
    manifest.plan,
    selections.map(({ prompts }) => prompts.length),
  );
  const missing: Unit[] = [];
  const done: DoneUnit[] = [];
  for (const unit of units) {
    const home = folders.find((folder) => folder.has(unit));
    if (home) done.push({ ...unit, part: await home.readUnit(unit) });
    else missing.push(unit);
  }
  const untouched = stamps.findIndex(
    (_, model) => !done.some((unit) => unit.model === model && unit.kind === 'table'),
  );
  if (partial && untouched >= 0)
    throw new UserError('report', `${first.path}: no prompt of ${stamps[untouched]!.source} is done yet`);
  if (missing.length > 0 && !partial)
    throw new UserError(
      'report',
      `${first.path}: ${missing.length} of ${units.length} units are not done yet (the first: ${unitName(missing[0]!)}); run the study again to go on, or report --partial`,
    );
  const asked = modelPlans(manifest.plan);
  return {
    manifest,
    models: stamps.map((stamp, model) => ({
      stamp,
      asked: asked[model]!,
      selection: selections[model]!,
      done: done.filter((unit) => unit.model === model),
    })),
    units: { done: done.length, all: units.length },
  };
}
