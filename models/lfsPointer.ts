/**
 * Git LFS pointers: the few lines that stand for a large file in a clone made without `git lfs pull`.
 *
 * Source: https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md (a pointer is shorter than 1,024 bytes).
 */

import { UserError } from '../engine/errors.ts';

/** Bytes that every pointer is shorter than. */
export const POINTER_LIMIT = 1024;

/** @param start what a file begins with. @throws UserError `lfs-pointer` where the file is a pointer. */
export function refusePointer(name: string, start: string): void {
  // Before it was Git LFS it was called Hawser, and a file may still say so.
  if (!/^version https:\/\/(git-lfs|hawser)\.github\.com\/spec\/v\d/.test(start)) return;
  const bytes = Number(/^size (\d+)\s*$/m.exec(start)?.[1]);
  const size = Number.isFinite(bytes) ? ` of ${bytes} bytes` : '';
  throw new UserError(
    'lfs-pointer',
    `${name}: is a Git LFS pointer, not the file${size} itself; run \`git lfs pull\` in the clone, or download the file`,
  );
}
