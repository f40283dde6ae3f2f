/**
 * Models and training state to disk (Node), in Hugging Face layout: `config.json`, `model.safetensors` and the tokenizer's
 * files as they were, which `from_pretrained` loads; beside them `optimizer.safetensors`, both moments of every parameter.
 */

import { UserError } from '../engine/errors.ts';
import { type AdamW, type Device, type Moments, type Tensor, tensor } from '../engine/index.ts';
import { show } from '../engine/options.ts';
import type { ByteFolder } from './byteSource.ts';
import { openFile } from './byteSource.ts';
import { changed, GENERATION_FILE, type ModelConfig, untied } from './config.ts';
import { configText } from './configText.ts';
import { decodeFloat32 } from './decode.ts';
import { type Description, isTied, parametersOf } from './description.ts';
import { parseJson } from './json.ts';
import type { LanguageModel } from './model.ts';
import { readSafetensorsHeader, type TensorToWrite, writeSafetensors } from './safetensors.ts';
import {
  alone,
  cutPart,
  joinStored,
  type Readable,
  type StoredPart,
  type StoredTensor,
  storedOf,
} from './stored.ts';

const TOKENIZER_FILES = [
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'vocab.txt',
  'vocab.json',
  'merges.txt',
  'chat_template.jinja',
];

/** Copies a tokenizer's files, those that there are, into a folder. @throws UserError */
export async function copyTokenizer(from: ByteFolder, to: string): Promise<void> {
  const { writeWhole } = await import('../engine/disk.ts');
  for (const file of TOKENIZER_FILES)
    if (await from.has(file)) writeWhole(`${to}/${file}`, await from.readText(file));
}

/** `config.json` as it was read, but for what the tensors written beside it are. */
function configOf({ json, family }: ModelConfig): Record<string, unknown> {
  return {
    ...json,
    architectures: [family.architecture],
    model_type: family.type,
    ...('dtype' in json ? { dtype: 'float32' } : {}),
    ...('torch_dtype' in json || !('dtype' in json) ? { torch_dtype: 'float32' } : {}),
  };
}

/** The config of tensors that have, or have not, a decoder of their own. */
function asTied(config: ModelConfig, parameters: ReadonlyMap<string, Tensor>): ModelConfig {
  const own = untied(config);
  if (parameters.has(own.description.head.decoder.weight)) return own;
  return isTied(config.description) ? config : changed(config, { tie_word_embeddings: true });
}

/**
 * `generation_config.json` as the model's folder has it; where a text ends, as the config says, whoever's folder it is and
 * if there is none.
 */
async function writeGeneration(path: string, config: ModelConfig, folder?: ByteFolder): Promise<void> {
  const { writeWhole } = await import('../engine/disk.ts');
  const file = `${path}/${GENERATION_FILE}`;
  const text = (await folder?.has(GENERATION_FILE)) ? await folder!.readText(GENERATION_FILE) : null;
  const json = text === null ? {} : parseJson(text, `${folder!.name}: ${GENERATION_FILE}`, 'config');
  const idsOf = (given: unknown): unknown[] =>
    [(given as { eos_token_id?: unknown } | null)?.eos_token_id ?? []].flat();
  const own = idsOf(json);
  const ends = own.length > 0 ? own : idsOf(config.json);
  if (!config.description.causal || `${ends}` === `${config.endIds}`) {
    if (text !== null) writeWhole(file, text);
  } else
    writeWhole(file, `${JSON.stringify({ ...(json as object), eos_token_id: config.endIds }, null, 1)}\n`);
}

const toWrite = (name: string, t: Readable): TensorToWrite => ({
  name,
  dtype: 'F32',
  shape: t.shape,
  data: () => t.read(),
});

/**
 * Writes a model's folder, which appears when it is whole; into one that is there, its files follow right after another when
 * all are written. Weights are float32.
 * @param folder the model's, or a tokenizer's: tokenizer files and `generation_config.json` are copied.
 * @throws UserError `file` where the disk refuses, `save` where the model's weights are not on the device.
 * @example
 * ```ts
 * import { mkdtemp } from 'node:fs/promises';
 * import { tmpdir } from 'node:os';
 * import { join } from 'node:path';
 * import { loadModel } from 'neurgrad';
 * import { localFolder, readConfig, saveModel } from 'neurgrad/models';
 *
 * const source = await localFolder('examples/models/stories260k');
 * const { model } = await loadModel('examples/models/stories260k');
 * const path = await mkdtemp(join(tmpdir(), 'saved-'));
 * await saveModel(path, model, await readConfig(source), source);
 * console.log(await (await localFolder(path)).has('model.safetensors')); // → true
 * model.device.destroy();
 * ```
 */
export async function saveModel(
  path: string,
  model: Pick<LanguageModel, 'parameters'>,
  config: ModelConfig,
  folder?: ByteFolder,
): Promise<void> {
  const { WholeFolder } = await import('../engine/disk.ts');
  using whole = new WholeFolder(path, 'merge');
  await writeModel(whole.path, model, config, folder);
  whole.keep();
}

/** {@link saveModel} for a folder that is there, and that the caller makes appear whole. */
export async function writeModel(
  path: string,
  model: Pick<LanguageModel, 'parameters'>,
  config: ModelConfig,
  folder?: ByteFolder,
): Promise<void> {
  const { writeWhole } = await import('../engine/disk.ts');
  const settled = asTied(config, model.parameters);
  const missing = parametersOf(settled.description).find(({ name }) => !model.parameters.has(name));
  if (missing)
    throw new UserError(
      'save',
      `${path}: the model's ${missing.name} is not on the device; save a model that is loaded as a whole`,
    );
  writeWhole(`${path}/config.json`, configText(configOf(settled), settled.text));
  await writeGeneration(path, settled, folder);
  if (folder) await copyTokenizer(folder, path);
  const tensors = [...joinStored(settled.description, model.parameters)].map(([name, t]) => toWrite(name, t));
  // transformers refuses a file that does not say which framework wrote it.
  await writeSafetensors(`${path}/model.safetensors`, tensors, { format: 'pt' });
}

/**
 * Writes the optimiser's moments under the parameters' names, sealed with their digest.
 * @param names in the optimiser's order.
 * @param description of the model whose parameters they are: moments of parts are put together as the checkpoint has those
 *   (joinStored); without one, each has its own name.
 */
export async function saveOptimiser(
  path: string,
  optimiser: AdamW,
  names: readonly string[],
  description?: Description,
): Promise<void> {
  const tensors = (['first', 'second'] as const).flatMap((which, i) => {
    const moments = new Map(names.map((name, at) => [name, optimiser.moments[at]![i]!]));
    const stored = description ? joinStored(description, moments) : moments;
    return [...stored].map(([name, t]) => toWrite(`${which}.${name}`, t));
  });
  await writeSafetensors(path, tensors, { steps: String(optimiser.steps) }, true);
}

/** What lies in an optimiser's file. */
function storedMoments(
  optimiser: AdamW,
  names: readonly string[],
  description: Description | undefined,
): StoredTensor[] {
  if (description) return storedOf(description, names);
  return names.map((name, i) =>
    alone({ name, shape: optimiser.moments[i]![0].shape, kind: 'matrix', stage: 'head', initial: null }),
  );
}

/**
 * Puts back what {@link saveOptimiser} wrote.
 * @throws UserError `damaged` where the file is not as it was written; `checkpoint` where the number of steps is none, or a moment is missing, misshapen or no number, or of a
 * parameter that there is not.
 */
export async function loadOptimiser(
  path: string,
  device: Device,
  optimiser: AdamW,
  names: readonly string[],
  description?: Description,
): Promise<void> {
  const source = await openFile(path);
  const bad = (what: string): UserError => new UserError('checkpoint', `${path}: ${what}`);
  const read: Tensor[] = [];
  try {
    const { checkSourceSeal } = await import('./seal.ts');
    await checkSourceSeal(source);
    const { tensors, metadata } = await readSafetensorsHeader(source);
    const steps = wholeNumber(metadata.steps);
    if (steps === null)
      throw bad(
        `its number of steps is ${metadata.steps === undefined ? 'missing' : show(metadata.steps)}, not a whole number`,
      );
    const spans = new Map(tensors.map((span) => [span.name, span]));
    const values = async (name: string, shape: readonly number[]): Promise<Float32Array> => {
      const span = spans.get(name);
      if (!span) throw bad(`has no tensor ${name}`);
      spans.delete(name);
      if (span.dtype !== 'F32' || span.shape.join() !== shape.join())
        throw bad(`${name} is ${span.dtype} [${span.shape.join(', ')}], not F32 [${shape.join(', ')}]`);
      const values = decodeFloat32(span.dtype, await source.read(span.begin, span.end));
      // The second is a mean of squares.
      const least = name.startsWith('second.') ? 0 : Number.NEGATIVE_INFINITY;
      const wrong = values.find((value) => !Number.isFinite(value) || value < least);
      if (wrong !== undefined) throw bad(`${name} holds ${wrong}`);
      return values;
    };
    const put = (part: StoredPart, stored: StoredTensor, all: Float32Array): Tensor => {
      const made = tensor(device, cutPart(stored, part, all), part.parameter.shape, 'weights');
      read.push(made);
      return made;
    };
    const found = new Map<string, Moments>();
    for (const stored of storedMoments(optimiser, names, description)) {
      const first = await values(`first.${stored.name}`, stored.shape);
      const second = await values(`second.${stored.name}`, stored.shape);
      for (const part of stored.parts)
        found.set(part.parameter.name, [put(part, stored, first), put(part, stored, second)]);
    }
    const other = spans.keys().next().value;
    if (other !== undefined) throw bad(`has ${other}, of which the model has no parameter`);
    const moments = names.map((name) => found.get(name)!);
    optimiser.restore(steps, moments);
  } catch (error) {
    for (const t of read) t.dispose();
    throw error;
  } finally {
    await source.close();
  }
}

/** A natural number as this project writes it into metadata; null for anything else. */
export function wholeNumber(text: string | undefined): number | null {
  const value = /^(0|[1-9]\d*)$/.test(text ?? '') ? Number(text) : Number.NaN;
  return Number.isSafeInteger(value) ? value : null;
}
