/** From what the user chose to a folder of bytes. Where the bytes must travel, their progress is told. */

import { fileMapFolder } from '../../../../models/byteSource.ts';
import { UserError } from '../../../../neurgrad/index.ts';
import { BUNDLED_FILES } from '../models.ts';
import type { ModelSource } from '../protocol.ts';
import { openGguf } from './ggufStore.ts';
import { openHubModel } from './hubStore.ts';
import type { Job } from './job.ts';
import { asFolder } from './store.ts';
import { type Found, watched } from './watched.ts';

export async function openSource(source: ModelSource, job: Job): Promise<Found> {
  if (source.kind === 'hub') return openHubModel(source.id, source.token, job);
  if (source.kind === 'gguf') return openGguf(source.name, source.file, job);
  const folder =
    source.kind === 'folder'
      ? await asFolder(source.files, source.name)
      : fileMapFolder(await download(source.url, job), source.name);
  return { folder: watched(folder, job), notice: null };
}

/** The bundled models are small: whole files, which every host can serve (ranges, not all can). */
async function download(url: string, job: Job): Promise<Map<string, Blob>> {
  const files = new Map<string, Blob>();
  for (const file of BUNDLED_FILES) files.set(file, await downloadFile(url + file, file, job));
  return files;
}

async function downloadFile(url: string, name: string, job: Job): Promise<Blob> {
  const response = await fetch(url).catch((cause) => {
    throw new UserError('offline', `${name} cannot be fetched: this page's host cannot be reached`, {
      cause,
    });
  });
  if (!response.ok || !response.body) {
    throw new UserError('http', `${name} cannot be fetched: the page's host answers ${response.status}`);
  }
  const total = Number(response.headers.get('content-length') ?? 0);
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let done = 0;
  for (const reader = response.body.getReader(); ; ) {
    const piece = await reader.read();
    if (piece.done) break;
    parts.push(piece.value);
    done += piece.value.byteLength;
    job.progress(`Fetching ${name}`, done, Math.max(total, done), 'bytes');
  }
  return new Blob(parts);
}
