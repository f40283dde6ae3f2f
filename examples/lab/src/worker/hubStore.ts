/**
 * Models of the Hub: downloaded into the browser's own files (store.ts), file by file and piece by piece. Where those have no
 * room, the same files are read from the Hub as they are needed.
 */

import * as v from 'valibot';
import type { ByteFolder } from '../../../../models/byteSource.ts';
import { hubFolder, isHubId } from '../../../../models/hub.ts';
import { checkJson, parseJson } from '../../../../models/json.ts';
import { UserError } from '../../../../neurgrad/index.ts';
import type { Job } from './job.ts';
import { findKept, forgetModel, homeOf, isFull, keepFile, keptIn, markWhole, room } from './store.ts';
import { type Found, watched } from './watched.ts';

const SMALL = ['config.json', 'tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json'];
const SINGLE = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';

/** @throws UserError, one sentence for the user. */
export async function openHubModel(id: string, token: string | undefined, job: Job): Promise<Found> {
  if (!isHubId(id)) {
    throw new UserError(
      'hub',
      `“${id}” is no Hub id: write organisation/name, such as google-bert/bert-base-uncased`,
    );
  }
  const model = `hub:${id}`;
  const kept = await findKept(model);
  if (kept) return { folder: watched(kept, job), notice: null };

  job.progress(`Looking for ${id}`, 0, 1, 'bytes');
  // Two attempts: someone is waiting before the page.
  const hub = await hubFolder(id, { token, attempts: 2, pause: 300 }).catch((error) => {
    throw explained(error, id);
  });
  if (!(await hub.has('tokenizer.json'))) {
    throw new UserError('tokenizer', `${id} has no tokenizer.json, which this page needs to split words`);
  }
  if (!(await hub.has(SINGLE)) && !(await hub.has(INDEX))) {
    throw new UserError('checkpoint', `${id} has no weights in safetensors format`);
  }
  try {
    const home = await homeOf(model, hub.name.slice(id.length + 1));
    if (!home) {
      return {
        folder: watched(hub, job),
        notice: 'This browser keeps no files for pages, so the model is fetched anew each time.',
      };
    }
    await keep(hub, home, job);
    return { folder: watched(await keptIn(home, id), job), notice: null };
  } catch (error) {
    if (!isFull(error)) throw explained(error, id);
    await forgetModel(model);
    return {
      folder: watched(hub, job),
      notice: `The browser's storage is full: ${id} runs, but was not kept and will be fetched anew next time. ${await room()}`,
    };
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
  await markWhole(home);
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
