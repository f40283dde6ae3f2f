/**
 * A study's folder (docs/architecture.md#studies): manifest, selected prompts, one part file a finished unit. Files appear whole or not at all;
 * the manifest binds the folder to one plan and the models' very bytes; a lock keeps two processes off the same share.
 */

import { createHash } from 'node:crypto';
import { closeSync, existsSync, openSync, readFileSync, readSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';

import * as v from 'valibot';
import { createWhole, makeFolder, putInPlace, remove, sweepLitter, writeWhole } from '../../engine/disk.ts';
import { fileError, UserError } from '../../engine/errors.ts';
import type { Lock } from '../../engine/lock.ts';
import { checkValue, show, text } from '../../engine/options.ts';
import { checkJson } from '../../models/json.ts';
import type { LanguageModel } from '../../models/model.ts';
import { canonical, DamagedFile, digestOf, readSealedJson, SEALED, sealJson } from '../../models/seal.ts';
import { checkGiven, MODEL } from '../lists.ts';
import { type Column, encodePart, type Part, readPart } from './part.ts';
import { type Plan, parsePlan, planHash } from './plan.ts';
import type { Shard } from './shard.ts';
import { lockShare } from './shareLock.ts';
import { listFolder } from './textFile.ts';

/** What the numbers came from. */
export interface ModelStamp {
  /** As in the plan. */
  readonly source: string;
  /** `model_type` in config.json. */
  readonly family: string;
  readonly layers: number;
  readonly hidden: number;
  readonly width: number;
  /** Where its weights were, which decides how its sweeps run; default on the device. */
  readonly weights?: 'device' | 'disk' | 'processes';
  /** sha256 of each file that matters: config, tokenizer, weights. */
  readonly files: Readonly<Record<string, string>>;
}

const FORMAT = 'neurgrad study 2';

/** What binds a folder to one study. */
export interface Manifest {
  readonly format: typeof FORMAT;
  readonly plan: Plan;
  readonly planHash: string;
  readonly models: readonly ModelStamp[];
  /** Hash of plan and models: every part carries it. */
  readonly study: string;
  readonly adapter: string;
  readonly versions: Readonly<Record<string, string>>;
  readonly created: string;
}

/**
 * What the numbers of a model in a local folder, or a GGUF file, come from.
 * @param source as in the plan.
 */
export function stampModel(
  source: string,
  folder: string,
  model: Pick<LanguageModel, 'family' | 'sizes'>,
  weights: NonNullable<ModelStamp['weights']> = 'device',
): ModelStamp {
  checkValue('stampModel', 'source', text, source);
  checkValue('stampModel', 'folder', text, folder);
  checkGiven('stampModel', 'model', model, 'sizes', MODEL);
  const { layers, hidden, width } = model.sizes;
  return {
    source,
    family: model.family,
    layers,
    hidden,
    width,
    weights,
    files: hashFiles(folder, isModelFile),
  };
}

/** sha256 of some files of a model's folder, by name; a GGUF file is its own folder. @throws UserError where one cannot be read. */
export function hashFiles(folder: string, keep: (name: string) => boolean): Record<string, string> {
  if (isFile(folder)) return { [basename(folder)]: fileHash(folder) };
  const files = listFolder(folder).filter(keep);
  return Object.fromEntries(files.map((name) => [name, fileHash(join(folder, name))]));
}

/** sha256 of a model's tokenizer; of the whole file where that is a GGUF file. @throws UserError where it cannot be read. */
export const tokenizerHash = (folder: string): string =>
  fileHash(isFile(folder) ? folder : join(folder, 'tokenizer.json'));

const isFile = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;

/** Whether a file's name is that of weights. */
export const isWeightFile = (name: string): boolean => name.endsWith('.safetensors');

/** One piece of work: a prompt of a model, or a model's costs. */
export interface Unit {
  readonly model: number;
  readonly kind: 'table' | 'figure' | 'cost';
  readonly prompt: number;
}

/** Name of a unit, which is its part's file name. */
export const unitName = ({ model, kind, prompt }: Unit): string =>
  `m${model}-${kind}-${String(prompt).padStart(5, '0')}`;

/** All units of a study, in order. `prompts` are there for each model. */
export function unitsOf(plan: Plan, prompts: readonly number[]): Unit[] {
  return prompts.flatMap((count, model) => [
    ...numbered(count, model, 'table'),
    ...numbered(Math.min(plan.figure.neurons > 0 ? plan.figure.prompts : 0, count), model, 'figure'),
    { model, kind: 'cost' as const, prompt: 0 },
  ]);
}

const numbered = (count: number, model: number, kind: Unit['kind']): Unit[] =>
  Array.from({ length: count }, (_, prompt) => ({ model, kind, prompt }));

/** Files of a model's folder that decide its numbers. */
export function isModelFile(name: string): boolean {
  return name === 'config.json' || name === 'tokenizer.json' || /\.safetensors(\.index\.json)?$/.test(name);
}

/** sha256 of a file, in pieces. @throws UserError where it cannot be read. */
export function fileHash(path: string): string {
  const hash = createHash('sha256');
  let file: number | null = null;
  try {
    file = openSync(path, 'r');
    const piece = Buffer.alloc(8 * 2 ** 20);
    for (;;) {
      const read = readSync(file, piece);
      if (read === 0) return hash.digest('hex');
      hash.update(piece.subarray(0, read));
    }
  } catch (cause) {
    throw fileError(path, cause);
  } finally {
    if (file !== null) closeSync(file);
  }
}

/** The folder of a study, opened by one process for its share. */
export class StudyFolder implements Disposable {
  readonly path: string;
  readonly manifest: Manifest;
  readonly #lock: Lock | null;

  private constructor(path: string, manifest: Manifest, lock: Lock | null) {
    this.path = path;
    this.manifest = manifest;
    this.#lock = lock;
  }

  /**
   * Opens a folder to work in, made where there is none.
   * @throws UserError where it cannot be written, holds another plan or model, or a process is at work on this share.
   */
  static open(
    path: string,
    made: Omit<Manifest, 'format' | 'planHash' | 'study' | 'created'>,
    shard: Shard,
  ): StudyFolder {
    makeFolder(join(path, 'parts'));
    const file = join(path, 'manifest.json');
    const hash = planHash(made.plan);
    const study = studyHash(made.plan, made.models);
    if (existsSync(file)) checkSame(path, readManifest(path), made, study);
    const lock = lockShare(path, shard);
    try {
      sweepLitter(path, { levels: 1, alone: shard.count === 1 });
      if (!existsSync(file)) {
        const manifest: Manifest = {
          format: FORMAT,
          ...made,
          planHash: hash,
          study,
          created: new Date().toISOString(),
        };
        createWhole(file, sealJson(`${JSON.stringify({ ...SEALED, ...manifest }, null, 2)}\n`));
      }
      const manifest = readManifest(path);
      // Another shard may have come first.
      checkSame(path, manifest, made, study);
      return new StudyFolder(path, manifest, lock);
    } catch (error) {
      lock[Symbol.dispose]();
      throw error;
    }
  }

  /** Opens a folder to read. @throws UserError where there is no study. */
  static read(path: string): StudyFolder {
    return new StudyFolder(path, readManifest(path), null);
  }

  /** A JSON value kept beside the parts, or null where it is not there, or not whole. */
  note<Value>(name: string): Value | null {
    const file = join(this.path, name);
    if (!existsSync(file)) return null;
    try {
      const note = JSON.parse(readFileSync(file, 'utf8')) as { study: string; digest: string; value: Value };
      const whole = note.study === this.manifest.study && note.digest === digestOf(note.value);
      return whole ? note.value : null;
    } catch {
      return null;
    }
  }

  /** Keeps a value that all shares must agree on. @returns what is kept: the first that came. */
  keepNote<Value>(name: string, value: Value): Value {
    const kept = this.note<Value>(name);
    if (kept !== null) return kept;
    const file = join(this.path, name);
    const text = JSON.stringify({ study: this.manifest.study, digest: digestOf(value), value });
    if (!createWhole(file, text) && this.note<Value>(name) === null) {
      // What is there is not whole, or of another study.
      remove(file);
      createWhole(file, text);
    }
    return this.note<Value>(name) ?? value;
  }

  /** Where a part lies, or will lie. */
  partPath(unit: Unit): string {
    return join(this.path, 'parts', `${unitName(unit)}.parquet`);
  }

  /** Whether a part is there. */
  has(unit: Unit): boolean {
    return existsSync(this.partPath(unit));
  }

  /** Writes a part, which appears under its name when it is whole. @throws UserError where the disk refuses. */
  write(unit: Unit, columns: readonly Column[]): void {
    writeWhole(this.partPath(unit), encodePart(this.manifest.study, unitName(unit), columns));
  }

  /** @throws DamagedFile */
  readUnit(unit: Unit): Promise<Part> {
    return readPart(this.partPath(unit), this.manifest.study, unitName(unit));
  }

  /** Moves a damaged part aside, so that its unit is done again. @returns what was wrong, or null. */
  async check(unit: Unit): Promise<string | null> {
    try {
      await this.readUnit(unit);
      return null;
    } catch (error) {
      if (!(error instanceof DamagedFile)) throw error;
      const path = this.partPath(unit);
      putInPlace(path, `${path}.damaged`);
      return error.message;
    }
  }

  /** Lets another process have the share. */
  [Symbol.dispose](): void {
    this.#lock?.[Symbol.dispose]();
  }
}

const whole = v.pipe(v.number(), v.integer(), v.minValue(1));
const manifestSchema = v.object({
  format: v.literal(FORMAT),
  plan: v.unknown(),
  planHash: v.string(),
  models: v.pipe(
    v.array(
      v.pipe(
        // Folders of before call the family architecture.
        v.unknown(),
        v.transform((stamp) => {
          const { architecture, ...rest } = (stamp ?? {}) as Record<string, unknown>;
          return architecture === undefined ? stamp : { family: architecture, ...rest };
        }),
        v.object({
          source: v.string(),
          family: v.string(),
          layers: whole,
          hidden: whole,
          width: whole,
          weights: v.exactOptional(v.picklist(['device', 'disk', 'processes'])),
          files: v.record(v.string(), v.string()),
        }),
      ),
    ),
    v.minLength(1),
  ),
  study: v.string(),
  adapter: v.string(),
  versions: v.record(v.string(), v.string()),
  created: v.string(),
});

function readManifest(path: string): Manifest {
  const file = join(path, 'manifest.json');
  if (!existsSync(file)) throw new UserError('study', `${path}: holds no study (no manifest.json)`);
  const found = checkJson(manifestSchema, readSealedJson(file, 'study'), file, 'study');
  const manifest = { ...found, plan: parsePlan(found.plan, file) };
  const { plan, models } = manifest;
  if (
    models.length !== plan.models.length ||
    planHash(plan) !== found.planHash ||
    studyHash(plan, models) !== found.study
  )
    throw new UserError('study', `${file}: has been changed; the study cannot go on in this folder`);
  return manifest;
}

/** What every part of a study carries: the family under its older name, so that studies go on. */
function studyHash(plan: Plan, models: readonly ModelStamp[]): string {
  const stamps = models.map(({ family, ...rest }) => ({ architecture: family, ...rest }));
  return digestOf({ hash: planHash(plan), models: stamps });
}

function checkSame(
  path: string,
  manifest: Manifest,
  made: { plan: Plan; models: readonly ModelStamp[] },
  study: string,
): void {
  if (manifest.study === study) return;
  const other = differences(manifest.plan, made.plan);
  const what =
    other.length > 0
      ? `was begun with another plan (${other.slice(0, 3).join(', ')})`
      : `was begun with other files of ${made.models.map(({ source }) => source).join(', ')}, or with their weights elsewhere (${manifest.models.map(({ weights = 'device' }) => weights).join(', ')})`;
  throw new UserError('study', `${path}: ${what}; use another folder, or the plan in its manifest.json`);
}

/** Fields whose values differ, `name.of.field: old, now new`. */
function differences(before: unknown, now: unknown, at = ''): string[] {
  if (canonical(before ?? null) === canonical(now ?? null)) return [];
  const both = [before, now];
  if (both.every((value) => value !== null && typeof value === 'object' && !Array.isArray(value))) {
    const [a, b] = both as [Record<string, unknown>, Record<string, unknown>];
    return [...new Set([...Object.keys(a), ...Object.keys(b)])].flatMap((key) =>
      differences(a[key], b[key], at === '' ? key : `${at}.${key}`),
    );
  }
  return [`${at}: ${show(before)}, now ${show(now)}`];
}
