/**
 * A training's folder: checkpoints `step-N`, the link `latest` to the last one, logs and pages; one process at a time. Whatever
 * the moment at which a training is killed, the next start finds its last checkpoint whole, and logs that reach at least to it.
 */

import { existsSync, lstatSync, readdirSync, realpathSync } from 'node:fs';
import { basename, join } from 'node:path';
import * as v from 'valibot';
import {
  append,
  checkFolder,
  pointTo,
  putInPlace,
  remove,
  sweepLitter,
  WholeFolder,
  writeWhole,
} from '../../engine/disk.ts';
import { UserError } from '../../engine/errors.ts';
import { Lock } from '../../engine/lock.ts';
import { show } from '../../engine/options.ts';
import { checkJson } from '../../models/json.ts';
import { DamagedFile, readSealedJson, SEALED, sealJson } from '../../models/seal.ts';
import { visibleText } from '../../models/visibleText.ts';
import { fileHash } from '../../neurgrad/study/folder.ts';
import { readTextFile } from '../../neurgrad/study/textFile.ts';

const NOTES = 'training.json';
/** What a training goes on from. */
const FILES = ['model.safetensors', 'optimizer.safetensors'] as const;

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const notes = v.looseObject({
  step: count,
  // sha256 of what was saved with it.
  files: v.object({ 'model.safetensors': v.string(), 'optimizer.safetensors': v.string() }),
  lossScale: v.optional(v.object({ value: v.number(), steps: count })),
  // Of the training that this project's examples save.
  seconds: v.optional(v.pipe(v.number(), v.minValue(0)), 0),
  seed: v.optional(count, 0),
  facts: v.optional(count, 0),
});

/** What a checkpoint keeps beside weights and optimiser. */
export type Notes = v.InferOutput<typeof notes>;

/** The notes that a checkpoint was saved with. @throws UserError where they are missing, damaged or no checkpoint's. */
export function readNotes(path: string): Notes {
  const file = join(path, NOTES);
  return checkJson(notes, readSealedJson(file, 'checkpoint'), file, 'checkpoint');
}

/** Writes what a checkpoint keeps beside weights and optimiser, which lie in its folder already. */
export function writeNotes(path: string, document: Omit<Notes, 'files'>): void {
  const files = Object.fromEntries(FILES.map((name) => [name, fileHash(join(path, name))]));
  writeWhole(join(path, NOTES), sealJson(`${JSON.stringify({ ...SEALED, ...document, files }, null, 1)}\n`));
}

/**
 * The notes of a checkpoint whose every file is as it was written.
 * @throws DamagedFile naming the one that is not; UserError where one is missing.
 */
export function checkCheckpoint(path: string): Notes {
  const found = readNotes(path);
  for (const name of FILES) {
    const file = join(path, name);
    if (fileHash(file) !== found.files[name])
      throw new DamagedFile(
        file,
        `is damaged or has been changed (its bytes are not those that ${NOTES} tells of)`,
      );
  }
  return found;
}

/**
 * Writes `folder/step-N`, whole, and then points `folder/latest` to it.
 * @param write puts the checkpoint's files into the folder given.
 * @returns the checkpoint's path.
 */
export async function saveCheckpoint(
  folder: string,
  step: number,
  write: (path: string) => Promise<void>,
): Promise<string> {
  const path = join(folder, `step-${step}`);
  using whole = new WholeFolder(path, 'replace');
  await write(whole.path);
  whole.keep();
  pointTo(join(folder, 'latest'), `step-${step}`);
  return path;
}

/** Every row of a log has one. */
interface Row {
  readonly step: number;
}

/** The folder, for one process. */
export class TrainingFolder implements Disposable {
  readonly path: string;
  /** The checkpoint to go on from, as {@link findLatest} found it; null where there is none yet. */
  latest: string | null = null;
  readonly #lock: Lock;

  /** Makes it where it is missing. @throws UserError where it cannot be written, or a process is at work there. */
  constructor(path: string) {
    this.path = path;
    checkFolder(path);
    this.#lock = Lock.take(join(path, 'lock.json'), path);
    sweepLitter(path, { levels: 1, alone: true });
    this.findLatest();
  }

  /** Looks for the last whole checkpoint: at the beginning, and once more when a training goes on within one process. */
  findLatest(): string | null {
    this.latest = latestIn(this.path);
    while (this.latest !== null && setAsideDamaged(this.latest)) this.latest = latestIn(this.path);
    return this.latest;
  }

  /** @throws UserError where the checkpoint was made with other settings than these. */
  checkNotes(settings: Readonly<Record<string, unknown>>): Notes {
    const found = readNotes(this.latest!);
    for (const [name, value] of Object.entries(settings))
      if (found[name] !== value)
        throw new UserError(
          'checkpoint',
          `${this.path}: its training has the ${name} ${show(found[name])}, not ${show(value)}; go on with the same or choose another folder`,
        );
    return found;
  }

  /** Rows of a log up to the checkpoint, which are all that it then holds. @throws UserError where a line is no row. */
  readLog<Kept extends Row>(name: string): Kept[] {
    const path = join(this.path, name);
    if (!existsSync(path)) return [];
    const last = this.latest === null ? -1 : readNotes(this.latest).step;
    // Nothing, or a line that a kill has cut.
    const lines = readTextFile(path).split('\n').slice(0, -1);
    const rows = lines.map((line, i) => parseRow<Kept>(line, `${path}: line ${i + 1}`));
    if (last < 0 && rows.some(({ step }) => step > 0))
      throw new UserError(
        'training',
        `${path}: tells of steps whose checkpoints are gone; remove it to begin anew, or choose another folder`,
      );
    const kept = rows.filter(({ step }) => step <= last);
    writeWhole(path, linesOf(kept));
    return kept;
  }

  /** Adds a row to a log. */
  log(name: string, row: Row): void {
    append(join(this.path, name), linesOf([row]));
  }

  /** Lets another process have it. */
  [Symbol.dispose](): void {
    this.#lock[Symbol.dispose]();
  }
}

const linesOf = (rows: readonly object[]): string => rows.map((row) => `${JSON.stringify(row)}\n`).join('');

const row = v.looseObject({ step: count });

/** Numbers apart from `step` are for the eye; null where they were not finite. */
function parseRow<Kept extends Row>(line: string, where: string): Kept {
  try {
    return v.parse(row, JSON.parse(line)) as Row as Kept;
  } catch (cause) {
    throw new UserError('training', `${where} is no row of a training's log; remove it`, { cause });
  }
}

/** Moves a damaged checkpoint out of the way, so that the training goes on from the one before it. @returns whether it did. */
function setAsideDamaged(checkpoint: string): boolean {
  try {
    checkCheckpoint(checkpoint);
    return false;
  } catch (error) {
    if (!(error instanceof DamagedFile)) throw error;
    const folder = realpathSync(checkpoint);
    remove(`${folder}.damaged`);
    putInPlace(folder, `${folder}.damaged`);
    process.stderr.write(
      `${visibleText(error.message)}; the checkpoint is now ${basename(folder)}.damaged\n`,
    );
    return true;
  }
}

/** What `latest` points to, else the last checkpoint there is: a kill may have come before the very first link. */
function latestIn(folder: string): string | null {
  const link = join(folder, 'latest');
  if (existsSync(link)) return link;
  const steps = readdirSync(folder).flatMap((name) => /^step-(\d+)$/.exec(name)?.[1] ?? []);
  const last = steps.length === 0 ? null : join(folder, `step-${Math.max(...steps.map(Number))}`);
  if (lstatSync(link, { throwIfNoEntry: false }))
    process.stderr.write(`${link} leads nowhere; going on from ${last ?? 'the beginning'}\n`);
  return last;
}
