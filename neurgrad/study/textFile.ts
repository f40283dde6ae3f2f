/** Text files that a person wrote, maybe with the byte-order mark that Windows editors put before them, and folders of such. */

import { readdirSync, readFileSync } from 'node:fs';
import { fileError } from '../../engine/errors.ts';
import { refusePointer } from '../../models/lfsPointer.ts';

/** Without the mark. @throws UserError naming the path where it cannot be read, or is a Git LFS pointer. */
export function readTextFile(path: string): string {
  let text: string;
  try {
    text = readFileSync(path, 'utf8').replace(/^\ufeff/, '');
  } catch (cause) {
    throw fileError(path, cause);
  }
  refusePointer(path, text);
  return text;
}

/** Names of what is in a folder, in order. @throws UserError naming the path where it cannot be read. */
export function listFolder(path: string): string[] {
  try {
    return readdirSync(path).sort();
  } catch (cause) {
    throw fileError(path, cause);
  }
}
