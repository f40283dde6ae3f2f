/** A folder that a job reads: between two reads it can be cancelled. */

import { type ByteFolder, type ByteSource, folderOf } from '../../../../models/byteSource.ts';
import type { Job } from './job.ts';

/** A model's files. */
export interface Found {
  readonly folder: ByteFolder;
  readonly notice: string | null;
}

/** The same folder; reading from it stops when the job is cancelled. */
export function watched(folder: ByteFolder, job: Job): ByteFolder {
  return folderOf(folder.name, {
    has: (name) => folder.has(name),
    async open(name) {
      const source = await folder.open(name);
      const checked =
        <Arguments extends unknown[], Result>(read: (...all: Arguments) => Promise<Result>) =>
        async (...all: Arguments): Promise<Result> => {
          job.check();
          return read(...all);
        };
      // What else a source says of itself stays: one of a GGUF file names its tensors.
      const watching: ByteSource = {
        ...source,
        read: checked((begin, end) => source.read(begin, end)),
        readInto: checked((begin, target) => source.readInto(begin, target)),
      };
      return watching;
    },
  });
}
