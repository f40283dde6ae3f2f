/**
 * Models and training state to disk (Node), in Hugging Face layout: `config.json`, `model.safetensors` and the tokenizer's
 * files as they were, which `from_pretrained` loads; beside them `optimizer.safetensors`, both moments of every parameter.
 */

import { UserError } from '../engine/errors.ts';
import { type AdamW, type Device, type Moments, type Tensor, tensor } from '../engine/index.ts';
import { show } from '../engine/options.ts';
import type { ByteFolder } from './byteSource.ts';
import { openFile } from './byteSource.ts';
import type { ModelConfig } from './config.ts';
import { decodeFloat32 } from './decode.ts';
import type { LanguageModel } from './model.ts';
import { readSafetensorsHeader, type TensorToWrite, writeSafetensors } from './safetensors.ts';

const TOKENIZER_FILES = ['tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json', 'vocab.txt'];

/** What a model that is not tied has besides its embedding. */
const DECODERS = ['lm_head.weight', 'cls.predictions.decoder.weight'];
/** Copies a tokenizer's files, those that there are, into a folder. @throws UserError */
export async function copyTokenizer(from: ByteFolder, to: string): Promise<void> {
  const { writeWhole } = await import('../engine/disk.ts');
  for (const file of TOKENIZER_FILES)
    if (await from.has(file)) writeWhole(`${to}/${file}`, await from.readText(file));
}

/** What `config.json` says of a model, in the words of transformers' BertConfig and LlamaConfig. */
export function configToJson(config: ModelConfig): Record<string, unknown> {
  const common = {
    vocab_size: config.vocabulary,
    hidden_size: config.hidden,
    num_hidden_layers: config.layers,
    num_attention_heads: config.heads,
    intermediate_size: config.width,
    max_position_embeddings: config.positions,
    tie_word_embeddings: config.tied,
    torch_dtype: 'float32',
  };
  if (config.type === 'bert')
    return {
      architectures: ['BertForMaskedLM'],
      model_type: 'bert',
      ...common,
      hidden_act: 'gelu',
      type_vocab_size: config.tokenTypes,
      layer_norm_eps: config.layerNormEpsilon,
      hidden_dropout_prob: 0,
      attention_probs_dropout_prob: 0,
    };
  return {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    ...common,
    hidden_act: 'silu',
    num_key_value_heads: config.keyValueHeads,
    head_dim: config.headSize,
    rms_norm_eps: config.rmsNormEpsilon,
    rope_theta: config.ropeTheta,
    ...(config.endIds.length > 0 ? { eos_token_id: config.endIds } : {}),
  };
}

const toWrite = (name: string, t: Tensor): TensorToWrite => ({
  name,
  dtype: 'F32',
  shape: t.shape,
  data: () => t.read(),
});

/**
 * Writes a model's folder, which appears when it is whole; into one that is there, its files follow right after another when
 * all are written. Weights are float32.
 * @param tokenizer folder whose tokenizer files are copied.
 * @throws UserError `file` where the disk refuses.
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
  tokenizer?: ByteFolder,
): Promise<void> {
  const { WholeFolder } = await import('../engine/disk.ts');
  using whole = new WholeFolder(path, 'merge');
  await writeModel(whole.path, model, config, tokenizer);
  whole.keep();
}

/** {@link saveModel} for a folder that is there, and that the caller makes appear whole. */
export async function writeModel(
  path: string,
  model: Pick<LanguageModel, 'parameters'>,
  config: ModelConfig,
  tokenizer?: ByteFolder,
): Promise<void> {
  const { writeWhole } = await import('../engine/disk.ts');
  // As its tensors are, whatever the config they were read with says.
  const tied = !DECODERS.some((name) => model.parameters.has(name));
  writeWhole(`${path}/config.json`, `${JSON.stringify(configToJson({ ...config, tied }), null, 1)}\n`);
  if (tokenizer) await copyTokenizer(tokenizer, path);
  const tensors = [...model.parameters].map(([name, t]) => toWrite(name, t));
  // transformers refuses a file that does not say which framework wrote it.
  await writeSafetensors(`${path}/model.safetensors`, tensors, { format: 'pt' });
}

/** Writes the optimiser's moments under the parameters' names, sealed with their digest. @param names in the optimiser's order. */
export async function saveOptimiser(path: string, optimiser: AdamW, names: readonly string[]): Promise<void> {
  const tensors = optimiser.moments.flatMap(([first, second], i) => [
    toWrite(`first.${names[i]}`, first),
    toWrite(`second.${names[i]}`, second),
  ]);
  await writeSafetensors(path, tensors, { steps: String(optimiser.steps) }, true);
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
    const moment = async (name: string, { shape }: Tensor): Promise<Tensor> => {
      const span = spans.get(name);
      if (!span) throw bad(`has no tensor ${name}`);
      if (span.dtype !== 'F32' || span.shape.join() !== shape.join())
        throw bad(`${name} is ${span.dtype} [${span.shape.join(', ')}], not F32 [${shape.join(', ')}]`);
      const values = decodeFloat32(span.dtype, await source.read(span.begin, span.end));
      // The second is a mean of squares.
      const least = name.startsWith('second.') ? 0 : Number.NEGATIVE_INFINITY;
      const wrong = values.find((value) => !Number.isFinite(value) || value < least);
      if (wrong !== undefined) throw bad(`${name} holds ${wrong}`);
      const made = tensor(device, values, shape, 'weights');
      read.push(made);
      return made;
    };
    const moments: Moments[] = [];
    for (const [i, name] of names.entries()) {
      const [first, second] = optimiser.moments[i]!;
      moments.push([await moment(`first.${name}`, first), await moment(`second.${name}`, second)]);
    }
    const known = new Set(names.flatMap((name) => [`first.${name}`, `second.${name}`]));
    const other = tensors.find(({ name }) => !known.has(name));
    if (other) throw bad(`has ${other.name}, of which the model has no parameter`);
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
