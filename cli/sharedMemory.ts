/**
 * The pages in which Linux gives out shared memory, which is where lavapipe keeps what is on its device. In small pages (4 KB) the
 * first touch of a large model's memory costs more than reading the model from disk; in large ones (2 MB) next to nothing.
 *
 * Source: the Linux kernel's admin guide, "Transparent Hugepage Support", section on shmem.
 */

import { readFileSync, writeFileSync } from 'node:fs';

/** One line such as `always within_size advise [never] deny force`. */
const SETTING = '/sys/kernel/mm/transparent_hugepage/shmem_enabled';

/** What a person can do about small pages. */
export const LARGE_PAGES_COMMAND = `echo always | sudo tee ${SETTING}`;

/** The pages that a setting gives to memory that asks for nothing. */
export const pagesOf = (setting: string): 'small' | 'large' =>
  /\[(always|within_size|force)\]/.test(setting) ? 'large' : 'small';

/** Null where there is no such setting: another system, or a kernel without it. */
export function sharedMemoryPages(): 'small' | 'large' | null {
  try {
    return pagesOf(readFileSync(SETTING, 'utf8'));
  } catch {
    return null;
  }
}

/**
 * Asks for large pages until `[Symbol.dispose]` or the process's end, whichever is first. @returns null where they are large
 * already, or the system does not let us (that takes root).
 */
export function askForLargePages(): Disposable | null {
  if (sharedMemoryPages() !== 'small') return null;
  const before = /\[(\w+)\]/.exec(readFileSync(SETTING, 'utf8'))![1]!;
  try {
    writeFileSync(SETTING, 'always');
  } catch {
    return null;
  }
  const putBack = (): void => writeFileSync(SETTING, before);
  const end = (): void => process.exit(130);
  process.once('exit', putBack);
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, end);
  return {
    [Symbol.dispose]() {
      putBack();
      process.off('exit', putBack);
      for (const signal of ['SIGINT', 'SIGTERM'] as const) process.off(signal, end);
    },
  };
}
