/**
 * A program killed at a change of the disk, and started again: it must end with the very files of one that nobody disturbed,
 * and leave nothing else.
 */

import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { expect } from 'vitest';

/** A program that writes into the folder that it is started in. */
export interface Work {
  readonly name: string;
  /** Script and arguments of Node. */
  readonly program: readonly string[];
}

const STRIKE = resolve('test/kills/strike.mjs');

export interface Ended {
  readonly code: number | null;
  readonly signal: string | null;
  readonly err: string;
}

/** Starts a program in a folder. @param preload what does something to it, told by `env`. */
export function start(
  { program }: Work,
  folder: string,
  env: Record<string, string>,
  preload = STRIKE,
): Promise<Ended> {
  mkdirSync(folder, { recursive: true });
  return new Promise((done, failed) => {
    const child = spawn(process.execPath, ['--import', preload, ...program], {
      cwd: folder,
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, ...env, NO_COLOR: '1', HF_HUB_OFFLINE: '1' },
    });
    let err = '';
    child.stderr.on('data', (part) => (err += part));
    child.on('error', failed);
    child.on('close', (code, signal) => done({ code, signal, err }));
  });
}

/** Dates and measured times are no two runs' alike, nor are the seals of files that hold them. */
const settled = (bytes: Buffer): string =>
  bytes
    .toString('latin1')
    .replace(/(with zeros here: )[0-9a-f]{64}/g, '$1@')
    .replace(/\d{4}-\d\d-\d\d[T ][\d:.]+Z?/g, '@')
    .replace(/"seconds": ?[\d.]+/g, '"seconds":@');

/** Every name under a folder with what is there. */
export function snapshot(root: string): Record<string, string> {
  const found: Record<string, string> = {};
  for (const name of readdirSync(root, { recursive: true, encoding: 'utf8' }).sort()) {
    const path = join(root, name);
    const about = lstatSync(path);
    if (about.isSymbolicLink()) found[relative(root, path)] = `-> ${readlinkSync(path)}`;
    else if (about.isDirectory()) found[relative(root, path)] = 'folder';
    else if (name.includes('-cost-')) found[relative(root, path)] = 'measured';
    else
      found[relative(root, path)] = createHash('sha256')
        .update(settled(readFileSync(path)))
        .digest('hex');
  }
  return found;
}

/** Changes to kill at: all, but of the many writes into one file the first and the last, which leave the like of the others. */
function pointsOf(changes: readonly string[]): number[] {
  const isWrite = (i: number): boolean => changes[i]?.startsWith('write ') ?? false;
  return changes.flatMap((_, i) => (isWrite(i) && isWrite(i - 1) && isWrite(i + 1) ? [] : [i + 1]));
}

/**
 * @param every kills at every so many-th change, each in a folder of its own; 0 at two changes, in turn in one folder.
 * @returns how many times it was killed.
 */
export async function endsAlike(work: Work, root: string, every: number): Promise<number> {
  const folder = (name: string): string => join(root, work.name, name);
  const list = join(root, `${work.name}.list`);
  const calm = await start(work, folder('calm'), { KILLS_LIST: list });
  expect(calm.code, calm.err).toBe(0);
  const changes = readFileSync(list, 'utf8').trimEnd().split('\n');
  const expected = snapshot(folder('calm'));
  let kills = 0;
  const kill = async (place: string, at: number): Promise<void> => {
    const { code, signal, err } = await start(work, place, { KILLS_AT: String(at) });
    // One that has less to do than the first may be done before.
    expect(signal ?? code, err).toBe(code === 0 ? 0 : 'SIGKILL');
    if (signal) kills++;
  };
  const finish = async (place: string, what: string): Promise<void> => {
    const { code, err } = await start(work, place, {});
    expect(code, `${work.name}, killed at ${what}: ${err}`).toBe(0);
    expect(snapshot(place), `${work.name}, killed at ${what}`).toEqual(expected);
    rmSync(place, { recursive: true });
  };
  if (every > 0) {
    for (const at of pointsOf(changes).filter((_, i) => i % every === 0)) {
      const place = folder(String(at));
      await kill(place, at);
      if (existsSync(place)) await finish(place, `${at}: ${changes[at - 1]}`);
    }
  } else {
    const points = [0.6, 0.35].map((share) => Math.ceil(share * changes.length));
    for (const at of points) await kill(folder('struck'), at);
    await finish(folder('struck'), points.map((at) => changes[at - 1]).join(' | '));
  }
  return kills;
}
