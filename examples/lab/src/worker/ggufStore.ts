/**
 * A GGUF file of the user's: looked at, copied into the browser's own files (store.ts), and opened from there, so that a reload
 * finds it. Without room for a copy it is read where it lies.
 */

import { blobSource } from '../../../../models/byteSource.ts';
import { readConfig } from '../../../../models/config.ts';
import { UserError } from '../../../../neurgrad/index.ts';
import type { Job } from './job.ts';
import {
  asFolder,
  findKept,
  forgetModel,
  homeOf,
  isFull,
  keepFile,
  keptIn,
  markWhole,
  room,
} from './store.ts';
import { type Found, watched } from './watched.ts';

/** @param file null: the copy that was kept of it. @throws UserError, one sentence for the user. */
export async function openGguf(name: string, file: File | null, job: Job): Promise<Found> {
  const model = `gguf:${name}`;
  const version = file ? `${file.size}-${file.lastModified}` : undefined;
  const kept = await findKept(model, version);
  if (kept) return { folder: watched(kept, job), notice: null };
  if (!file) throw new UserError('not-here', `${name} is not kept in this browser: choose or drop that file`);

  const found = await asFolder(new Map([[name, file]]), name);
  // What cannot be opened is not kept.
  await readConfig(found);
  const without = (notice: string): Found => ({ folder: watched(found, job), notice });
  try {
    const home = await homeOf(model, version!);
    if (!home)
      return without('This browser keeps no files for pages: after a reload the file must be chosen again.');
    await keepFile(blobSource(file), home, name, job, 'Keeping in this browser:');
    await markWhole(home);
    await forgetModel(model, version);
    return { folder: watched(await keptIn(home, name), job), notice: null };
  } catch (error) {
    if (!isFull(error)) throw error;
    await forgetModel(model);
    return without(
      `The browser's storage is full: ${name} runs, but was not kept and must be chosen again after a reload. ${await room()}`,
    );
  }
}
