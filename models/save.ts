/**
 * Models and training state to disk (Node), in Hugging Face layout: `config.json`, `model.safetensors` and the tokenizer's
 * files as they were, which `from_pretrained` loads; beside them `optimizer.safetensors`, both moments of every parameter.
 */

import { UserError } from '../engine/errors.ts';
import { type AdamW, type Device, type Moments, type Tensor, tensor } from '../engine/index.ts';
import type { ByteFolder } from './byteSource.ts';
import { openFile } from './byteSource.ts';
import type { ModelConfig } from './config.ts';
import { decodeFloat32 } from './decode.ts';
import type { LanguageModel } from './model.ts';
import { readSafetensorsHeader, type TensorToWrite, writeSafetensors } from './safetensors.ts';

const TOKENIZER_FILES = ['tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json', 'vocab.txt'];

/** What a model that is not tied has besides its embedding. */
const DECODERS = ['lm_head.weight', 'cls.predictions.decoder.weight'];

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
 * Writes a model's folder, making it where it is missing; weights are float32.
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
  const { mkdir, writeFile } = await import('node:fs/promises');
  await mkdir(path, { recursive: true });
  // As its tensors are, whatever the config they were read with says.
  const tied = !DECODERS.some((name) => model.parameters.has(name));
  await writeFile(`${path}/config.json`, `${JSON.stringify(configToJson({ ...config, tied }), null, 1)}\n`);
  for (const file of TOKENIZER_FILES)
    if (await tokenizer?.has(file)) await writeFile(`${path}/${file}`, await tokenizer!.readText(file));
  const tensors = [...model.parameters].map(([name, t]) => toWrite(name, t));
  // transformers refuses a file that does not say which framework wrote it.
  await writeSafetensors(`${path}/model.safetensors`, tensors, { format: 'pt' });
}

/** Writes the optimiser's moments under the parameters' names. @param names in the optimiser's order. */
export async function saveOptimiser(path: string, optimiser: AdamW, names: readonly string[]): Promise<void> {
  const tensors = optimiser.moments.flatMap(([first, second], i) => [
    toWrite(`first.${names[i]}`, first),
    toWrite(`second.${names[i]}`, second),
  ]);
  await writeSafetensors(path, tensors, { steps: String(optimiser.steps) });
}

/** Puts back what {@link saveOptimiser} wrote. @throws UserError where a moment is missing or misshapen. */
export async function loadOptimiser(
  path: string,
  device: Device,
  optimiser: AdamW,
  names: readonly string[],
): Promise<void> {
  const source = await openFile(path);
  try {
    const { tensors, metadata } = await readSafetensorsHeader(source);
    const spans = new Map(tensors.map((span) => [span.name, span]));
    const read = async (name: string): Promise<Tensor> => {
      const span = spans.get(name);
      if (!span) throw new UserError('checkpoint', `${path}: has no tensor ${name}`);
      const values = decodeFloat32(span.dtype, await source.read(span.begin, span.end));
      return tensor(device, values, span.shape, 'weights');
    };
    const moments: Moments[] = [];
    for (const name of names) moments.push([await read(`first.${name}`), await read(`second.${name}`)]);
    optimiser.restore(Number(metadata.steps), moments);
  } finally {
    await source.close();
  }
}
