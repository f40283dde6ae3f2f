/**
 * Two lines that Dawn's native code writes to standard error whenever it looks at lavapipe, whose limits it lowers to its own: they
 * mean nothing to a user, and no option of Dawn's is against them.
 *
 * While adapters are looked at, which is synchronous, descriptor 2 leads to a file; what else was written there is told
 * afterwards. Node cannot duplicate a descriptor, but Linux opens one again by its name under /proc: terminals, pipes and
 * files, not sockets. Elsewhere, and where another thread might open a file just then, the two lines stay.
 */

import {
  closeSync,
  constants,
  fstatSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runtimeName } from '../engine/runtime.ts';

const KNOWN =
  /^Warning: maxDynamic(Uniform|Storage)BuffersPerPipelineLayout artificially reduced from \d+ to \d+ .*\n/gm;
const STDERR = 2;
const APPEND = constants.O_WRONLY | constants.O_APPEND | constants.O_NOCTTY;
const again = (descriptor: number): number => openSync(`/proc/self/fd/${descriptor}`, APPEND);

/** What does not open files: anything else that is under way might take the number that is free for a moment. */
const HARMLESS = new Set(['TTYWrap', 'PipeWrap', 'Timeout', 'Immediate', 'CloseReq', 'SignalWrap']);

/** Whether a file is opened so that all that is written goes to its end. */
function appends(descriptor: number): boolean {
  const [, flags = '0'] =
    /^flags:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${descriptor}`, 'utf8')) ?? [];
  return (Number.parseInt(flags, 8) & constants.O_APPEND) !== 0;
}

/** Whether standard error can be opened again with nothing lost. */
function reopens(): boolean {
  // Deno counts descriptors of its own.
  if (process.platform !== 'linux' || !runtimeName().startsWith('Node ')) return false;
  if (process.getActiveResourcesInfo().some((resource) => !HARMLESS.has(resource))) return false;
  // Numbers are given out from the lowest: those below must be taken.
  const [, out, err] = [fstatSync(0), fstatSync(1), fstatSync(STDERR)];
  if (!err.isFile()) return err.isFIFO() || err.isCharacterDevice();
  // A file that both share has one place to write at, which opening it again would not move; where each line goes to the
  // end of the file it needs none.
  return err.ino !== out.ino || err.dev !== out.dev || appends(STDERR);
}

/** Runs `work`, whose synchronous part may write {@link KNOWN} lines to standard error. */
export function withoutKnownWarnings<Result>(work: () => Result): Result {
  const opened: number[] = [];
  try {
    if (!reopens()) throw new Error('stays');
    opened.push(again(STDERR));
    const folder = mkdtempSync(join(tmpdir(), 'neurgrad-'));
    opened.push(openSync(join(folder, 'stderr'), 'wx+'));
    rmSync(folder, { recursive: true });
  } catch {
    // Also where one could be opened and the other not.
    for (const descriptor of opened) closeSync(descriptor);
    return work();
  }
  const [kept, said] = opened as [number, number];
  closeSync(STDERR);
  again(said);
  try {
    return work();
  } finally {
    closeSync(STDERR);
    again(kept);
    closeSync(kept);
    const rest = readFileSync(`/proc/self/fd/${said}`, 'utf8').replace(KNOWN, '');
    closeSync(said);
    if (rest !== '') writeSync(STDERR, rest);
  }
}
