/**
 * Models of the Hub: downloaded into the browser's own files (store.ts), file by file and piece by piece. Where those have no
 * room, the same files are read from the Hub as they are needed.
 */

import * as v from 'valibot';
import { type ByteFolder, folderOf } from '../../../../models/byteSource.ts';
import { readConfig } from '../../../../models/config.ts';
import { ggufFolder } from '../../../../models/gguf/folder.ts';
import { hubFiles, hubName } from '../../../../models/hub.ts';
import { checkJson, parseJson } from '../../../../models/json.ts';
import { KNOWN_MODELS } from '../../../../models/known.ts';
import { UserError } from '../../../../neurgrad/index.ts';
import type { Job } from './job.ts';
import { findKept, forgetModel, homeOf, isFull, keepFile, keptIn, markWhole, room } from './store.ts';
import { type Found, watched } from './watched.ts';

const SMALL = ['config.json', 'tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json'];
const SINGLE = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';

/** @throws UserError, one sentence for the user. */
export async function openHubModel(name: string, token: string | undefined, job: Job): Promise<Found> {
  if (!hubName(name)) {
    throw new UserError(
      'hub',
      `“${name}” is no Hub id: write organisation/name, such as google-bert/bert-base-uncased, or organisation/name/file.gguf`,
    );
  }
  const model = `hub:${name}`;
  const kept = await findKept(model);
  if (kept) return { folder: watched(kept, job), notice: null };

  job.progress(`Looking for ${name}`, 0, 1, 'bytes');
  // What is on the menu is the very file that was run. Two attempts: someone is waiting before the page.
  const revision = KNOWN_MODELS.find((known) => known.model === name)?.hub?.revision ?? 'main';
  const hub = await hubFiles(name, { token, attempts: 2, pause: 300, revision }).catch((error) => {
    throw explained(error, name);
  });
  const { gguf, has, open } = hub;
  if (gguf === undefined) {
    if (!has('tokenizer.json')) {
      throw new UserError('tokenizer', `${name} has no tokenizer.json, which this page needs to split words`);
    }
    if (!has(SINGLE) && !has(INDEX)) {
      throw new UserError('checkpoint', `${name} has no weights in safetensors format, and no GGUF file`);
    }
  }
  try {
    const folder =
      gguf === undefined
        ? folderOf(name, { has: async (file) => has(file), open })
        : await ggufFolder(() => open(gguf));
    // What cannot be opened is not fetched.
    await readConfig(folder);
    const without = (notice: string): Found => ({ folder: watched(folder, job), notice });
    try {
      const home = await homeOf(model, hub.commit.slice(0, 8));
      if (!home)
        return without('This browser keeps no files for pages, so the model is fetched anew each time.');
      if (gguf === undefined) await keep(folder, home, job);
      else await keepFile(await open(gguf), home, gguf.split('/').at(-1)!, job, 'Downloading');
      await markWhole(home);
      return { folder: watched(await keptIn(home, name), job), notice: null };
    } catch (error) {
      if (!isFull(error)) throw error;
      await forgetModel(model);
      return without(
        `The browser's storage is full: ${name} runs, but was not kept and will be fetched anew next time. ${await room()}`,
      );
    }
  } catch (error) {
    throw explained(error, name);
  }
}

const indexSchema = v.object({ weight_map: v.record(v.string(), v.string()) });

/** Fills a home with all that a model's loader reads. */
async function keep(hub: ByteFolder, home: FileSystemDirectoryHandle, job: Job): Promise<void> {
  for (const name of SMALL) if (await hub.has(name)) await keepOne(hub, home, name, job);
  if (await hub.has(SINGLE)) {
    await keepOne(hub, home, SINGLE, job);
  } else {
    await keepOne(hub, home, INDEX, job);
    const index = parseJson(await hub.readText(INDEX), INDEX, 'checkpoint');
    const { weight_map } = checkJson(indexSchema, index, INDEX, 'checkpoint');
    for (const shard of new Set(Object.values(weight_map))) await keepOne(hub, home, shard, job);
  }
}

async function keepOne(
  hub: ByteFolder,
  home: FileSystemDirectoryHandle,
  name: string,
  job: Job,
): Promise<void> {
  await keepFile(await hub.open(name), home, name, job, 'Downloading');
}

/** The Hub's refusals in this page's words. */
function explained(error: unknown, id: string): unknown {
  if (!(error instanceof UserError)) return error;
  const says: Record<string, string> = {
    'http-denied': `${id} is gated, private or does not exist: accept its conditions on huggingface.co and enter an access token`,
    'http-missing': `${id} was not found on the Hub`,
    'http-unreachable': `${id} cannot be fetched: the network or the Hub cannot be reached`,
  };
  const message = says[error.code];
  return message ? new UserError(error.code, message, { cause: error }) : error;
}
