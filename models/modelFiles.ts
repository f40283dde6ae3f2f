/**
 * What a model's folder says of the model, put together: `config.json` and the checkpoint, which may contradict each other
 * about tensors that are one.
 *
 * A config that ties a pair (`tie_word_embeddings`; BERT's two names of the decoder's bias) means one tensor, and most
 * writers store one. Where a file has both and they differ, the head was trained on its own: the stored one is the model's,
 * as in transformers 5 (`PreTrainedModel.tie_weights`), and that is told.
 */

import { shapesOf } from './build.ts';
import type { ByteFolder } from './byteSource.ts';
import { adoptNames, type Checkpoint, FLOATS, openCheckpoint, type TensorEntry } from './checkpoint.ts';
import { type ModelConfig, readConfig } from './config.ts';
import { decodeFloat32 } from './decode.ts';

/** A model's config and tensors, in agreement. */
export interface ModelFiles {
  /** `tied` is false where the checkpoint has a decoder of its own. */
  readonly config: ModelConfig;
  /** To be closed by the caller. */
  readonly checkpoint: Checkpoint;
}

/** Bytes compared at a time. */
const PIECE = 4 * 2 ** 20;

/**
 * Reads a folder's config and opens its checkpoint; of the tensors, only those that should be one are read, where both are
 * there.
 * @param onNote told in one line where they are not one; default `console.warn`.
 * @throws UserError naming the file and what is wrong with it.
 */
export async function openModelFiles(
  folder: ByteFolder,
  onNote: (note: string) => void = console.warn,
): Promise<ModelFiles> {
  const config = await readConfig(folder);
  const checkpoint = await openCheckpoint(folder);
  try {
    return await settleTied(config, checkpoint, onNote);
  } catch (error) {
    await checkpoint.close();
    throw error;
  }
}

async function settleTied(
  config: ModelConfig,
  checkpoint: Checkpoint,
  onNote: (note: string) => void,
): Promise<ModelFiles> {
  const untied = { ...config, tied: false };
  const stored = new Map<string, TensorEntry>();
  for (const [name, current] of adoptNames(checkpoint.tensors.keys(), shapesOf(untied)))
    stored.set(current, checkpoint.tensors.get(name)!);
  const differ = async (head: string, tied: string): Promise<boolean> => {
    const [a, b] = [stored.get(head), stored.get(tied)];
    if (!a || !b || (await equal(checkpoint, a, b))) return false;
    onNote(
      `${checkpoint.name}: ${a.name} and ${b.name} should be one tensor, but differ; the first is used as it is`,
    );
    return true;
  };
  if (config.type === 'llama') {
    const own = config.tied && (await differ('lm_head.weight', 'model.embed_tokens.weight'));
    return { config: own ? untied : config, checkpoint };
  }
  const [bias, other] = ['cls.predictions.decoder.bias', 'cls.predictions.bias'];
  const own =
    config.tied && (await differ('cls.predictions.decoder.weight', 'bert.embeddings.word_embeddings.weight'));
  if (!(await differ(bias, other))) return { config: own ? untied : config, checkpoint };
  // The decoder's is the one that is added to logits; without its other name it is found under it.
  const tensors = new Map([...checkpoint.tensors].filter(([, entry]) => entry !== stored.get(other)));
  return { config: own ? untied : config, checkpoint: { ...checkpoint, tensors } };
}

/** Whether two tensors hold the same numbers, in whatever formats. */
async function equal(checkpoint: Checkpoint, a: TensorEntry, b: TensorEntry): Promise<boolean> {
  if (`${a.shape}` !== `${b.shape}` || !FLOATS.has(a.dtype) || !FLOATS.has(b.dtype)) return false;
  const elements = a.shape.reduce((product, length) => product * length, 1);
  const sizes = [a, b].map(({ begin, end }) => (end - begin) / Math.max(1, elements));
  const most = PIECE / Math.max(...sizes, 1);
  for (let first = 0; first < elements; first += most) {
    const count = Math.min(most, elements - first);
    const [x, y] = await Promise.all(
      [a, b].map(async (entry, i) => {
        const bytes = new Uint8Array(count * sizes[i]!);
        await checkpoint.readInto(entry, first * sizes[i]!, bytes);
        return bytes;
      }),
    );
    if (a.dtype === b.dtype && sameBytes(x!, y!)) continue;
    const [left, right] = [decodeFloat32(a.dtype, x!), decodeFloat32(b.dtype, y!)];
    if (left.some((value, i) => value !== right[i])) return false;
  }
  return true;
}

function sameBytes(x: Uint8Array, y: Uint8Array): boolean {
  const words = Math.floor(x.byteLength / 4);
  const [a, b] = [x, y].map((bytes) => new Int32Array(bytes.buffer, bytes.byteOffset, words));
  return (
    a!.every((word, i) => word === b![i]) &&
    x.subarray(4 * words).every((byte, i) => byte === y[4 * words + i])
  );
}
