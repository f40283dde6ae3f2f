/**
 * From a folder or Hub id to a model on the device.
 */

import { Device, openDevice } from '../engine/index.ts';
import { checkOptions, checkValue, instance, like, optionsSchema } from '../engine/options.ts';
import type { ByteFolder, ByteSource } from './byteSource.ts';
import { familiesField, readConfig } from './config.ts';
import type { Family } from './families/family.ts';
import { ggufFolder } from './gguf/folder.ts';
import { resolveModelFolder } from './hub.ts';
import { joinProjections } from './join.ts';
import { openModelFiles } from './modelFiles.ts';
import { StreamedModel } from './stream.ts';
import { loadTokenizer, type Tokenizer } from './tokenizer.ts';
import { Transformer } from './transformer.ts';
import { loadWeights, type WeightOptions, weightOptions } from './weights.ts';

/** Where a model's weights go, and in which numbers. */
export interface LoadOptions extends WeightOptions {
  /** Where to put the weights; default: a device opened for this model, closed with `device.destroy()`. */
  readonly device?: Device;
  /** Families from outside, looked in before those of this package (docs/extending.md). */
  readonly families?: readonly Family[];
}

const DTYPE_NAMES = { precision: 'dtype', torchDtype: 'dtype', quantization: 'dtype' } as const;

const streamOptions = optionsSchema<Omit<LoadOptions, 'device'>>(
  { ...weightOptions.entries, families: familiesField },
  DTYPE_NAMES,
);

/** {@link LoadOptions} */
export const loadOptions = optionsSchema<LoadOptions>(
  {
    ...weightOptions.entries,
    device: instance(Device, 'a device, which openDevice() gives'),
    families: familiesField,
  },
  DTYPE_NAMES,
);

/**
 * Opens a causal model whose weights stay in the folder and are read as they are needed: for models larger than the device.
 * @throws UserError naming the file, tensor or field that is wrong, and for a model that is not causal.
 * @example
 * ```ts
 * import { openDevice } from 'neurgrad/engine';
 * import { localFolder, runModel, streamModel } from 'neurgrad/models';
 *
 * const device = await openDevice();
 * const model = await streamModel(await localFolder('examples/models/stories260k'), device);
 * const run = await runModel(model, { ids: [[1, 403, 407]] }, { logits: [2] });
 * console.log(run.logits.shape, model.parameters.size); // → [ 1, 512 ] 0
 * run.dispose();
 * model.dispose();
 * device.destroy();
 * ```
 */
export async function streamModel(
  folder: ByteFolder,
  device: Device,
  options: Omit<LoadOptions, 'device'> = {},
): Promise<StreamedModel> {
  checkOptions('streamModel', streamOptions, options);
  const { families, ...ofWeights } = options;
  const { config, checkpoint } = await openModelFiles(folder, { onNote: options.onNote, families });
  try {
    return new StreamedModel(device, config, checkpoint, ofWeights);
  } catch (error) {
    await checkpoint.close();
    throw error;
  }
}

/** Where a model is: its name, as `resolveModelFolder` takes it, its files, or a GGUF file, which is not closed here. */
export type ModelSource = string | ByteFolder | ByteSource;

const has = (value: unknown, method: string): boolean =>
  typeof value === 'object' &&
  value !== null &&
  typeof (value as Record<string, unknown>)[method] === 'function';
const sourceField = like<ModelSource>(
  (value) => typeof value === 'string' || has(value, 'readText') || has(value, 'readInto'),
  "a model's folder, address or Hub id, its files, or a GGUF file",
);

async function folderOfSource(source: ModelSource, { onNote }: LoadOptions): Promise<ByteFolder> {
  if (typeof source === 'string') return resolveModelFolder(source, { onNote });
  // Readers close what they open; the file is the caller's.
  return 'open' in source ? source : ggufFolder(async () => ({ ...source, close: async () => {} }));
}

/** A model with its tokenizer. */
export interface LoadedModel {
  readonly model: Transformer;
  readonly tokenizer: Tokenizer;
  /** The folder's path or Hub id. */
  readonly folder: string;
}

/**
 * Loads a model without its tokenizer. @throws UserError naming the file, tensor or field that is wrong.
 * @example
 * ```ts
 * import { openDevice } from 'neurgrad/engine';
 * import { loadModelWeights, localFolder } from 'neurgrad/models';
 *
 * const device = await openDevice();
 * const folder = await localFolder('examples/models/stories260k');
 * const model = await loadModelWeights(folder, device, { dtype: 'f16' });
 * console.log(model.family, model.parameters.get('model.embed_tokens.weight')!.dtype); // → llama f16
 * device.destroy();
 * ```
 */
export async function loadModelWeights(
  folder: ByteFolder,
  device: Device,
  options: LoadOptions = {},
): Promise<Transformer> {
  checkOptions('loadModelWeights', loadOptions, options);
  const { device: _, families, ...ofWeights } = options;
  const { config, checkpoint } = await openModelFiles(folder, { onNote: options.onNote, families });
  try {
    const weights = await loadWeights(device, checkpoint, config, ofWeights);
    return new Transformer(device, config, weights, joinProjections(device, config.description, weights));
  } finally {
    await checkpoint.close();
  }
}

/**
 * Loads a model and its tokenizer from a local folder, from the Hugging Face Hub through its cache, or from any source of bytes. Of
 * what is read by ranges (an address, `hubFolder`) nothing is fetched but what is read.
 * @throws UserError naming the file, tensor or field that is wrong; nothing is left on the device then, and one that was
 * opened for the model is closed.
 * @example
 * ```ts
 * import { encodePrompt, loadModel, predict } from 'neurgrad';
 *
 * const { model, tokenizer } = await loadModel('examples/models/facts-bert');
 * const prompt = encodePrompt(model, tokenizer, 'The capital of France is [MASK].');
 * const [best] = await predict(model, prompt, 1);
 * console.log(tokenizer.tokenOf(best!.id)); // → paris
 * model.device.destroy();
 * ```
 */
export async function loadModel(source: ModelSource, options: LoadOptions = {}): Promise<LoadedModel> {
  checkOptions('loadModel', loadOptions, options);
  checkValue('loadModel', 'source', sourceField, source);
  const folder = await folderOfSource(source, options);
  // Small files first: a folder without a tokenizer is refused before gigabytes are read.
  const tokenizer = await loadTokenizer(folder);
  await readConfig(folder, options.families);
  const device = options.device ?? (await openDevice());
  try {
    return { model: await loadModelWeights(folder, device, options), tokenizer, folder: folder.name };
  } catch (error) {
    if (!options.device) device.destroy();
    throw error;
  }
}
