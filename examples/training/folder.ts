/**
 * A training's folder: checkpoints `step-N`, the link `latest` to the last one, logs and pages; one process at a time. Whatever
 * the moment at which a training is killed, the next start finds its last checkpoint whole, and logs that reach at least to it.
 */

import { existsSync, lstatSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as v from 'valibot';
import { append, checkFolder, pointTo, sweepLitter, WholeFolder, writeWhole } from '../../engine/disk.ts';
import { UserError } from '../../engine/errors.ts';
import { Lock } from '../../engine/lock.ts';

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const notes = v.looseObject({
  step: count,
  lossScale: v.optional(v.object({ value: v.number(), steps: count })),
  // Of the training that this project's examples save.
  seconds: v.optional(v.pipe(v.number(), v.minValue(0)), 0),
  seed: v.optional(count, 0),
  facts: v.optional(count, 0),
});

/** What a checkpoint keeps beside weights and optimiser. */
export type Notes = v.InferOutput<typeof notes>;

/** The notes that a checkpoint was saved with. @throws UserError where they are missing or no checkpoint's. */
export function readNotes(path: string): Notes {
  const file = join(path, 'training.json');
  let json: unknown;
  try {
    json = JSON.parse(readFileSync(file, 'utf8'));
  } catch (cause) {
    throw new UserError('checkpoint', `${file}: is missing or no JSON`, { cause });
  }
  const parsed = v.safeParse(notes, json);
  if (parsed.success) return parsed.output;
  const where = v.getDotPath(parsed.issues[0]) ?? 'the document';
  throw new UserError('checkpoint', `${file}: ${where}: ${parsed.issues[0].message}`);
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
  /** The checkpoint to go on from; null where there is none yet. */
  readonly latest: string | null;
  readonly #lock: Lock;

  /** Makes it where it is missing. @throws UserError where it cannot be written, or a process is at work there. */
  constructor(path: string) {
    this.path = path;
    checkFolder(path);
    this.#lock = Lock.take(join(path, 'lock.json'), path);
    sweepLitter(path, { levels: 1, alone: true });
    this.latest = latestIn(path);
  }

  /** @throws UserError where the checkpoint was made with other settings than these. */
  checkNotes(settings: Readonly<Record<string, unknown>>): Notes {
    const found = readNotes(this.latest!);
    for (const [name, value] of Object.entries(settings))
      if (found[name] !== value)
        throw new UserError(
          'checkpoint',
          `${this.path}: its training has the ${name} ${JSON.stringify(found[name])}, not ${JSON.stringify(value)}; go on with the same or choose another folder`,
        );
    return found;
  }

  /** Rows of a log up to the checkpoint, which are all that it then holds. @throws UserError where a line is no row. */
  readLog<Kept extends Row>(name: string): Kept[] {
    const path = join(this.path, name);
    if (!existsSync(path)) return [];
    const last = this.latest === null ? -1 : readNotes(this.latest).step;
    // Nothing, or a line that a kill has cut.
    const lines = readFileSync(path, 'utf8').split('\n').slice(0, -1);
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
