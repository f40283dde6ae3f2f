/**
 * A fitted prober as two files: NAME.safetensors (polarity and score of every neuron, and their ranking) and NAME.json
 * (what it was fitted on, and all that a new question needs: context, candidates, conventions). Both are sealed with their
 * digest, and the second holds that of the first: neither is believed changed, or beside another's.
 */

import * as v from 'valibot';
import { checkValue, one, text } from '../engine/options.ts';
import { checkJson } from '../models/json.ts';
import { WEIGHT_DTYPES } from '../models/storage.ts';
import { type LanguageModel, QUANTITIES, UserError } from '../neurgrad/index.ts';
import { checkGiven, MODEL } from '../neurgrad/lists.ts';
import type { GradientReader } from './collect.ts';
import { VARIANTS } from './counts.ts';
import { KINDS } from './evaluation.ts';
import { markGradients } from './marks.ts';
import { TASK_NAME } from './ownTask.ts';
import { argmax, type Prober, proberVotes } from './prober.ts';
import { LANGUAGES, type Language } from './task.ts';
import { checkTable, readTensorFile, tableOf, writeTensorFile } from './tensorFile.ts';

const FORMAT = 'neurgrad prober 1';

const natural = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const size = v.pipe(natural, v.minValue(1));

const distinct = v.check<number[], string>(
  (tokens) => new Set(tokens).size === tokens.length,
  'has a token twice',
);

const about = v.object({
  format: v.literal(FORMAT),
  // Files of a task are named after it.
  task: v.pipe(v.string(), v.regex(TASK_NAME)),
  kind: v.picklist(KINDS.map(({ name }) => name)),
  variant: v.picklist(VARIANTS),
  // |N_s|.
  size,
  // Test accuracy when it was fitted.
  accuracy: v.pipe(v.number(), v.minValue(0), v.maxValue(1)),
  labels: v.pipe(v.array(v.string()), v.minLength(2)),
  // Token of each label.
  candidates: v.pipe(v.array(natural), distinct),
  // What stands before a question, by language.
  contexts: v.object({
    de: v.exactOptional(v.string()),
    en: v.exactOptional(v.string()),
    es: v.exactOptional(v.string()),
    fr: v.exactOptional(v.string()),
    zh: v.exactOptional(v.string()),
  }),
  site: v.picklist(['pre', 'pre_linear', 'act', 'post']),
  of: v.picklist(QUANTITIES),
  direction: v.picklist(['outward', 'plain']),
  sign: v.picklist(['+', '-']),
  model: v.object({
    /** `model_type` in config.json. */
    architecture: v.string(),
    layers: size,
    width: size,
    name: v.string(),
    // How its weight matrices were kept.
    dtype: v.optional(v.picklist(WEIGHT_DTYPES), 'f32'),
    sha256: v.record(v.string(), v.string()),
  }),
});

/** The fields that a run's manifest has in common with a prober's file. */
export const proberFields = about.entries;

/** What a prober was fitted on, and how. */
export type ProberAbout = v.InferOutput<typeof about>;

/** A prober and what is known of it. */
export interface SavedProber {
  readonly about: ProberAbout;
  readonly prober: Prober;
}

/** The document beside the tables: what is known of the prober, and the digest of its tables' bytes. */
const document = v.object({ ...about.entries, tables: v.pipe(v.string(), v.hash(['sha256'])) });

function checkSaved(door: string, saved: SavedProber): void {
  checkGiven(door, 'saved', saved, 'about', 'a prober: { about, prober }');
  checkGiven(door, 'saved', saved, 'prober', 'a prober: { about, prober }');
}

/** Writes `path.safetensors` and `path.json`, each under its name only when it is whole. @param path without endings. @throws UserError */
export async function saveProber(path: string, saved: SavedProber): Promise<void> {
  checkValue('saveProber', 'path', text, path);
  checkSaved('saveProber', saved);
  const { about: facts, prober } = saved;
  const tables = await writeTensorFile(
    `${path}.safetensors`,
    { polarity: Int32Array.from(prober.polarity), score: prober.score, ranking: prober.ranking },
    { format: FORMAT },
  );
  const { writeWhole } = await import('../engine/disk.ts');
  const { SEALED, sealJson } = await import('../models/seal.ts');
  writeWhole(`${path}.json`, sealJson(`${JSON.stringify({ ...SEALED, ...facts, tables }, null, 1)}\n`));
}

/**
 * @param path with or without an ending.
 * @throws UserError where either file is missing, not a prober's, or not as it was written (`damaged`).
 */
export async function loadProber(path: string): Promise<SavedProber> {
  checkValue('loadProber', 'path', text, path);
  const stem = path.replace(/\.(json|safetensors)$/, '');
  const { readSealedJson } = await import('../models/seal.ts');
  const json = readSealedJson(`${stem}.json`, 'prober');
  const { tables, ...facts } = checkJson(document, json, `${stem}.json`, 'prober');
  if (facts.candidates.length !== facts.labels.length)
    throw new UserError(
      'prober',
      `${stem}.json: has ${facts.labels.length} labels but ${facts.candidates.length} candidates`,
    );
  const file = await readTensorFile(`${stem}.safetensors`);
  if (file.digest !== tables)
    throw new UserError('prober', `${stem}.safetensors: is not the one that ${stem}.json was written with`);
  const neurons = facts.model.layers * facts.model.width;
  const table = (name: string, low: number, high: number): Int32Array => {
    const found = tableOf(file, `${stem}.safetensors`, name, Int32Array, neurons);
    checkTable(`${stem}.safetensors`, name, found, low, high);
    return found;
  };
  const ranking = table('ranking', 0, neurons - 1);
  if (facts.size > neurons || new Set(ranking).size < neurons)
    throw new UserError('prober', `${stem}: its ranking does not hold each of ${neurons} neurons once`);
  return {
    about: facts,
    prober: {
      kind: KINDS.find(({ name }) => name === facts.kind)!,
      variant: facts.variant,
      polarity: Int8Array.from(table('polarity', -1, 1)),
      score: table('score', 0, Number.MAX_VALUE),
      ranking,
    },
  };
}

/** @throws UserError where the prober was fitted on a model of other sizes. */
export function checkProberModel(about: ProberAbout, found: Pick<LanguageModel, 'family' | 'sizes'>): void {
  checkGiven('checkProberModel', 'about', about, 'model', 'the `about` of what loadProber gives');
  checkGiven('checkProberModel', 'found', found, 'sizes', MODEL);
  const { model } = about;
  const { family, sizes } = found;
  const same = model.architecture === family && model.layers === sizes.layers && model.width === sizes.width;
  if (same) return;
  throw new UserError(
    'prober',
    `the prober is of a ${model.architecture} of ${model.layers} x ${model.width} neurons, this is a ${family} of ${sizes.layers} x ${sizes.width}`,
  );
}

/** A prober's answer to a prompt. */
export interface Answer {
  readonly label: number;
  readonly votes: readonly number[];
  /** What the model itself gives the candidates. */
  readonly probabilities: readonly number[];
}

/** Classifies an encoded prompt. `reader` must have the prober's conventions. */
export async function applyProber(
  saved: SavedProber,
  reader: GradientReader,
  prompt: { readonly ids: readonly number[]; readonly position: number },
  prefix: readonly number[] = [],
): Promise<Answer> {
  checkSaved('applyProber', saved);
  checkGiven('applyProber', 'reader', reader, 'read', 'a reader, which openReader gives');
  checkGiven('applyProber', 'prompt', prompt, 'ids', 'a prompt: { ids, position }');
  const { about: facts, prober } = saved;
  const [reading] = await reader.read([prompt], facts.candidates, prefix);
  const marks = markGradients(reading!.gradients, facts.candidates.length);
  const votes = [...proberVotes(prober, marks, facts.candidates.length, facts.size)];
  return { label: argmax(votes), votes, probabilities: reading!.probabilities };
}

const languageField = one(LANGUAGES);

/** The context of a language. @throws UserError where the prober has none. */
export function contextOf(about: Pick<ProberAbout, 'contexts' | 'task'>, language: Language): string {
  checkValue('contextOf', 'language', languageField, language);
  checkGiven('contextOf', 'about', about, 'contexts', 'the `about` of what loadProber gives');
  const { contexts, task } = about;
  const context = contexts[language];
  if (context !== undefined) return context;
  throw new UserError('prober', `the ${task} prober has no context in ${language}`);
}
