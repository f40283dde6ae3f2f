/**
 * The files that a probing run writes for itself: manifest.json and tasks/NAME.json. They are sealed with their digest and have
 * to be what the types say: nothing is computed from a file that was changed, cut short or made by somebody else.
 */

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import * as v from 'valibot';
import { writeWhole } from '../engine/disk.ts';
import { checkJson } from '../models/json.ts';
import { digestOf, readSealedJson, SEALED, sealJson } from '../models/seal.ts';
import { UserError } from '../neurgrad/index.ts';
import { proberFields, probeSettings, SPLITS, type TaskRecord, type TaskReport } from '../probing/index.ts';
import { toJson } from './output.ts';
import type { ProbeManifest } from './probeTable.ts';

const natural = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const naturals = v.array(natural);
const texts = v.array(v.string());
// Rounding may carry a sum of shares a little beyond 1.
const share = v.pipe(v.number(), v.minValue(0), v.maxValue(1 + 1e-6));
const shares = v.array(share);
// None of too few prompts.
const interval = v.nullable(v.tuple([v.number(), v.number()]));
const hashes = v.record(v.string(), v.string());
const { task } = proberFields;

const ofSplits = <Schema extends v.GenericSchema>(schema: Schema) =>
  v.object({ train: schema, valid: schema, test: schema });
const left = ofSplits(v.array(v.object({ problem: v.string(), count: natural, rows: naturals })));
const labelFields = { task, labels: texts, candidateTokens: texts, candidateTexts: texts, left, leak: share };

const record = v.object({
  ...labelFields,
  candidates: proberFields.candidates,
  contexts: proberFields.contexts,
  demonstrations: naturals,
  clean: v.nullable(
    v.object({ bad: natural, duplicates: natural, contradictions: natural, unbalanced: natural }),
  ),
  gold: ofSplits(naturals),
});

const FORMAT = 'neurgrad probe 3';
const manifest = v.object({
  format: v.literal(FORMAT),
  neurgrad: v.string(),
  created: v.pipe(v.string(), v.isoTimestamp()),
  adapter: v.string(),
  weights: v.picklist(['device', 'disk', 'processes']),
  settings: probeSettings,
  model: proberFields.model,
  tokenizer: v.string(),
  data: v.object({ folder: v.string(), own: v.exactOptional(texts), sha256: hashes }),
  tasks: v.pipe(v.array(record), v.minLength(1)),
  skipped: v.array(v.object({ task: v.string(), reason: v.string() })),
});

const methodFields = { accuracy: share, interval, predictions: naturals };
const proberResult = v.object({
  ...methodFields,
  size: v.pipe(natural, v.minValue(1)),
  sizes: v.pipe(naturals, v.minLength(1)),
  valid: shares,
  test: shares,
  null: v.nullable(v.object({ accuracies: shares, mean: share, interval, p: share })),
  overLmProb: v.object({
    difference: v.number(),
    interval,
    onlyFirst: natural,
    onlySecond: natural,
    p: share,
  }),
});
const proberReport = v.object({
  ...proberResult.entries,
  layers: naturals,
  neurons: v.array(v.object({ neuron: v.string(), polarity: v.picklist([-1, 0, 1]), score: v.number() })),
});
const report = v.object({
  run: v.string(),
  ...labelFields,
  prompts: ofSplits(natural),
  gold: v.pipe(naturals, v.minLength(1)),
  rand: share,
  majority: v.object({ label: natural, accuracy: share }),
  lmProb: v.object(methodFields),
  polar: proberReport,
  magn: proberReport,
  act: proberResult,
});

const MANIFEST = 'manifest.json';

const write = (path: string, document: object): void =>
  writeWhole(path, sealJson(`${toJson({ ...SEALED, ...document }, 1)}\n`));

/** Writes what decides a run's numbers. @throws UserError */
export const writeManifest = (folder: string, document: ProbeManifest): void =>
  write(join(folder, MANIFEST), document);

/** Whether a folder has a manifest, whatever it holds. */
export const hasManifest = (folder: string): boolean => existsSync(join(folder, MANIFEST));

/** @throws UserError where there is none, DamagedFile where it is not as it was written. */
export function readManifest(folder: string): ProbeManifest {
  const path = join(folder, MANIFEST);
  if (!existsSync(path)) throw new UserError('out', `${folder}: holds no probing run (no ${MANIFEST})`);
  const found: ProbeManifest = checkJson(manifest, readSealedJson(path, 'out'), path, 'out');
  for (const each of found.tasks) checkRecord(path, each);
  if (new Set(found.tasks.map((each) => each.task)).size < found.tasks.length)
    throw new UserError('out', `${path}: has a task twice`);
  return found;
}

/** What of a task must fit together. */
function checkRecord(path: string, { task, labels, candidates, candidateTokens, gold }: TaskRecord): void {
  const count = labels.length;
  if (count < 2 || candidates.length !== count || candidateTokens.length !== count)
    throw new UserError(
      'out',
      `${path}: ${task} has ${count} labels but ${candidates.length} candidates of ${candidateTokens.length} tokens`,
    );
  const stranger = SPLITS.flatMap((split) => gold[split]).find((label) => label >= count);
  if (stranger !== undefined)
    throw new UserError('out', `${path}: ${task} has a prompt of label ${stranger}, of ${count}`);
}

/** Where the results of a task are. */
export const taskFile = (folder: string, name: string): string => join(folder, 'tasks', `${name}.json`);

/** Where model and data lie does not matter, what they are does. */
export const decisive = ({ settings, model, tokenizer, data, tasks }: ProbeManifest) => ({
  settings,
  model: [model.sha256, model.dtype, tokenizer],
  data: data.sha256,
  tasks,
});

/** A value's digest, as it is once it has been written. */
export const digestOfWritten = (value: unknown): string => digestOf(JSON.parse(toJson(value)));

/** What of a run its parts and results belong to. */
export const runDigest = (manifest: ProbeManifest): string => digestOfWritten(decisive(manifest));

/** Writes a task's results, of the run that the manifest is of. @throws UserError */
export const writeTask = (folder: string, manifest: ProbeManifest, document: TaskReport): void =>
  write(taskFile(folder, document.task), { run: runDigest(manifest), ...document });

/** Results of a task of this run. @throws UserError where they are not; DamagedFile where they are not as they were written. */
export function readTaskReport(folder: string, name: string, manifest: ProbeManifest): TaskReport {
  const { model, settings, tasks } = manifest;
  const path = taskFile(folder, name);
  const { run, ...found } = checkJson(report, readSealedJson(path, 'out'), path, 'out');
  const of = tasks.find((each) => each.task === name)!;
  const { gold, labels, lmProb, polar, magn, act } = found;
  const answers = [gold, lmProb.predictions, polar.predictions, magn.predictions, act.predictions];
  const fits =
    run === runDigest(manifest) &&
    found.task === name &&
    labels.join('\n') === of.labels.join('\n') &&
    gold.join() === of.gold.test.join() &&
    answers.every((list) => list.length === gold.length && list.every((label) => label < labels.length)) &&
    [polar, magn, act].every(
      ({ sizes, valid, test }) => valid.length === sizes.length && test.length === sizes.length,
    ) &&
    [polar, magn].every(
      (prober) =>
        prober.layers.length === model.layers &&
        (prober.null?.accuracies.length ?? 0) === settings.permutations,
    );
  if (!fits)
    throw new UserError('out', `${path}: is not of this run; remove it to have the task evaluated again`);
  return found;
}
