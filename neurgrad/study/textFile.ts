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

/** Words separated by commas or white space; `@FILE` stands for the words of that file. @throws UserError naming the path where it cannot be read. */
export const withFiles = (text: string): string => {
  const words = (of: string): string[] => of.split(/[\s,]+/).filter((word) => word !== '');
  return words(text)
    .flatMap((word) => (word.startsWith('@') ? words(readTextFile(word.slice(1))) : [word]))
    .join(',');
};
