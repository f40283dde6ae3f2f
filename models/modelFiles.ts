/**
 * What a model's folder says of the model, put together: `config.json` and the checkpoint, which may contradict each other
 * about tensors that are one.
 *
 * A family says which names mean one tensor (`copies`: the decoder and the embedding under `tie_word_embeddings`; BERT's two
 * names of the decoder's bias), and most writers store one. Where a file has both and they differ, the head was trained on its own: the stored one is the model's,
 * as in transformers 5 (`PreTrainedModel.tie_weights`), and that is told.
 */

import { UserError } from '../engine/errors.ts';
import { callback, checkOptions, optionsSchema } from '../engine/options.ts';
import type { ByteFolder } from './byteSource.ts';
import { adoptNames, type Checkpoint, FLOATS, openCheckpoint, type TensorEntry } from './checkpoint.ts';
import { type Families, familiesField, type ModelConfig, readConfig, untied } from './config.ts';
import { decodeFloat32 } from './decode.ts';
import { isTied, parametersOf } from './description.ts';
import { storedTensors } from './stored.ts';

/** A model's config and tensors, in agreement. */
export interface ModelFiles {
  /** Untied where the checkpoint has a decoder of its own. */
  readonly config: ModelConfig;
  /** To be closed by the caller. */
  readonly checkpoint: Checkpoint;
}

/** Bytes compared at a time. */
const PIECE = 4 * 2 ** 20;

/** How a model's files are read. */
export interface FilesOptions {
  /** Told in one line where tensors differ that should be one; default `console.warn`. */
  readonly onNote?: ((note: string) => void) | undefined;
  /** Families from outside, looked in before those of this package (docs/extending.md). */
  readonly families?: Families | undefined;
}

const filesOptions = optionsSchema<FilesOptions>({ onNote: callback(), families: familiesField });

/**
 * Reads a folder's config and opens its checkpoint; of the tensors, only those that should be one are read, where both are
 * there.
 * @throws UserError naming the file and what is wrong with it.
 */
export async function openModelFiles(folder: ByteFolder, options: FilesOptions = {}): Promise<ModelFiles> {
  checkOptions('openModelFiles', filesOptions, options);
  const { onNote = console.warn, families } = options;
  const config = await readConfig(folder, families);
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
  const { family, description } = config;
  const own = untied(config);
  const names = storedTensors(parametersOf(own.description));
  const stored = new Map<string, TensorEntry>();
  for (const [name, current] of adoptNames(checkpoint.tensors.keys(), family.checkpoint, names))
    stored.set(current, checkpoint.tensors.get(name)!);
  let settled = config;
  let { tensors } = checkpoint;
  for (const [copy, original] of Object.entries(family.checkpoint.copies ?? {})) {
    const [a, b] = [stored.get(copy), stored.get(original)];
    // A decoder of its own is both tensors' place.
    if (!a || !b || (names.has(copy) && !isTied(description))) continue;
    if (await equal(checkpoint, a, b)) continue;
    const fault = `${checkpoint.name}: ${a.name} and ${b.name} should be one tensor, but differ`;
    if (names.has(copy)) settled = own;
    else if (original === description.embedding.word)
      throw new UserError(
        'tensor-extra',
        `${fault}, and a ${family.type} has no decoder of its own; keep one`,
      );
    // The head's is the one that is computed with; without its other name it is found under it.
    else tensors = new Map([...tensors].filter(([, entry]) => entry !== b));
    onNote(`${fault}; the first is used as it is`);
  }
  return {
    config: settled,
    checkpoint: tensors === checkpoint.tensors ? checkpoint : { ...checkpoint, tensors },
  };
}

/** Whether two tensors hold the same numbers, in whatever formats. */
async function equal(checkpoint: Checkpoint, a: TensorEntry, b: TensorEntry): Promise<boolean> {
  if (`${a.shape}` !== `${b.shape}` || !FLOATS.has(a.dtype) || !FLOATS.has(b.dtype)) return false;
  if (!a.turned !== !b.turned) return false;
  // By rows, which blocks are whole in.
  const [rows = 1] = a.turned ? a.shape.slice(1) : a.shape;
  const length = a.turned ? a.shape[0] : a.shape.at(-1);
  const sizes = [a, b].map(({ begin, end }) => (end - begin) / Math.max(1, rows));
  const most = Math.max(1, Math.floor(PIECE / Math.max(...sizes)));
  for (let first = 0; first < rows; first += most) {
    const count = Math.min(most, rows - first);
    const [x, y] = await Promise.all(
      [a, b].map(async (entry, i) => {
        const bytes = new Uint8Array(count * sizes[i]!);
        await checkpoint.readInto(entry, first * sizes[i]!, bytes);
        return bytes;
      }),
    );
    if (a.dtype === b.dtype && sameBytes(x!, y!)) continue;
    const [left, right] = [decodeFloat32(a.dtype, x!, length), decodeFloat32(b.dtype, y!, length)];
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
