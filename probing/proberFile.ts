/**
 * A fitted prober as two files: NAME.safetensors (polarity and score of every neuron, and their ranking) and NAME.json
 * (what it was fitted on, and all that a new question needs: context, candidates, conventions).
 */

import * as v from 'valibot';
import { checkValue, one } from '../engine/options.ts';
import { fileError } from '../models/byteSource.ts';
import { WEIGHT_DTYPES } from '../models/storage.ts';
import { type LanguageModel, QUANTITIES, UserError } from '../neurgrad/index.ts';
import type { GradientReader } from './collect.ts';
import { VARIANTS } from './counts.ts';
import { KINDS } from './evaluation.ts';
import { markGradients } from './marks.ts';
import { argmax, type Prober, proberVotes } from './prober.ts';
import { LANGUAGES, type Language } from './task.ts';
import { checkTable, readTensorFile, tableOf, writeTensorFile } from './tensorFile.ts';

const FORMAT = 'neurgrad prober 1';

const natural = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const size = v.pipe(natural, v.minValue(1));

const about = v.object({
  format: v.literal(FORMAT),
  task: v.string(),
  kind: v.picklist(KINDS.map(({ name }) => name)),
  variant: v.picklist(VARIANTS),
  // |N_s|.
  size,
  // Test accuracy when it was fitted.
  accuracy: v.pipe(v.number(), v.minValue(0), v.maxValue(1)),
  labels: v.array(v.string()),
  // Token of each label.
  candidates: v.array(natural),
  // What stands before a question, by language.
  contexts: v.object({
    de: v.optional(v.string()),
    en: v.optional(v.string()),
    es: v.optional(v.string()),
    fr: v.optional(v.string()),
    zh: v.optional(v.string()),
  }),
  site: v.picklist(['pre', 'pre_linear', 'act', 'post']),
  of: v.picklist(QUANTITIES),
  direction: v.picklist(['outward', 'plain']),
  sign: v.picklist(['+', '-']),
  model: v.object({
    architecture: v.string(),
    layers: size,
    width: size,
    name: v.string(),
    // How its weight matrices were kept.
    dtype: v.optional(v.picklist(WEIGHT_DTYPES), 'f32'),
    sha256: v.record(v.string(), v.string()),
  }),
});

/** What a prober was fitted on, and how. */
export type ProberAbout = v.InferOutput<typeof about>;

/** A prober and what is known of it. */
export interface SavedProber {
  readonly about: ProberAbout;
  readonly prober: Prober;
}

/** Writes `path.safetensors` and `path.json`, each under its name only when it is whole. @param path without endings. @throws UserError */
export async function saveProber(path: string, { about: facts, prober }: SavedProber): Promise<void> {
  await writeTensorFile(
    `${path}.safetensors`,
    { polarity: Int32Array.from(prober.polarity), score: prober.score, ranking: prober.ranking },
    { format: FORMAT },
  );
  const { writeWhole } = await import('../engine/disk.ts');
  writeWhole(`${path}.json`, `${JSON.stringify(facts, null, 1)}\n`);
}

/** @param path with or without an ending. @throws UserError where either file is missing or not a prober's. */
export async function loadProber(path: string): Promise<SavedProber> {
  const stem = path.replace(/\.(json|safetensors)$/, '');
  const { readFile } = await import('node:fs/promises');
  let json: unknown;
  try {
    json = JSON.parse(await readFile(`${stem}.json`, 'utf8'));
  } catch (cause) {
    if (cause instanceof SyntaxError) throw new UserError('prober', `${stem}.json: is not JSON`, { cause });
    throw fileError(`${stem}.json`, cause);
  }
  const parsed = v.safeParse(about, json);
  if (!parsed.success) {
    const where = v.getDotPath(parsed.issues[0]) ?? 'the document';
    throw new UserError('prober', `${stem}.json: is no prober's (${where}: ${parsed.issues[0].message})`);
  }
  const facts = parsed.output;
  const file = await readTensorFile(`${stem}.safetensors`);
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
export function checkProberModel(
  { model }: ProberAbout,
  found: Pick<LanguageModel, 'architecture' | 'sizes'>,
): void {
  const { architecture, sizes } = found;
  const same =
    model.architecture === architecture && model.layers === sizes.layers && model.width === sizes.width;
  if (same) return;
  throw new UserError(
    'prober',
    `the prober is of a ${model.architecture} of ${model.layers} x ${model.width} neurons, this is a ${architecture} of ${sizes.layers} x ${sizes.width}`,
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
  { about: facts, prober }: SavedProber,
  reader: GradientReader,
  prompt: { readonly ids: readonly number[]; readonly position: number },
  prefix: readonly number[] = [],
): Promise<Answer> {
  const [reading] = await reader.read([prompt], facts.candidates, prefix);
  const marks = markGradients(reading!.gradients, facts.candidates.length);
  const votes = [...proberVotes(prober, marks, facts.candidates.length, facts.size)];
  return { label: argmax(votes), votes, probabilities: reading!.probabilities };
}

const languageField = one(LANGUAGES);

/** The context of a language. @throws UserError where the prober has none. */
export function contextOf({ contexts, task }: ProberAbout, language: Language): string {
  checkValue('contextOf', 'language', languageField, language);
  const context = contexts[language];
  if (context !== undefined) return context;
  throw new UserError('prober', `the ${task} prober has no context in ${language}`);
}
