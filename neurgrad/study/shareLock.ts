/** The lock on a share of the units in a folder (Node alone): no two processes do the same work there. */

import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { attempt } from '../../engine/disk.ts';
import { busy, clearLock, Lock, lockHolder } from '../../engine/lock.ts';
import type { Shard } from './shard.ts';

const LOCK = /^lock-(\d+)-of-(\d+)\.json$/;

/** @throws UserError where a live process works on the share or on one that overlaps it, or the disk refuses. */
export function lockShare(folder: string, { index, count }: Shard): Lock {
  const what = (share: string): string => `${folder}, share ${share}`;
  const own = `lock-${index + 1}-of-${count}.json`;
  const lock = Lock.take(join(folder, own), what(`${index + 1}/${count}`));
  // Looked for only now: of two that begin at once neither must miss the other.
  for (const name of attempt(() => readdirSync(folder)) ?? []) {
    const match = LOCK.exec(name);
    // Shares of as many do not overlap.
    if (!match || Number(match[2]) === count) continue;
    const holder = lockHolder(join(folder, name));
    if (holder) {
      lock[Symbol.dispose]();
      throw busy(what(`${match[1]}/${match[2]}`), holder);
    }
    clearLock(join(folder, name));
  }
  return lock;
}
