/**
 * A command's model, in two steps: first what small files say, so that a mistake in a prompt or a neuron is told before
 * any weight is read; then device and model, opened for one piece of work and closed after it, whatever happens.
 */

import { totalmem } from 'node:os';
import { UserError } from '../engine/errors.ts';
import {
  type ByteFolder,
  checkVocabulary,
  type LlamaConfig,
  loadModelWeights,
  loadTokenizer,
  type ModelConfig,
  openCheckpoint,
  planMemory,
  readConfig,
  resolveModelFolder,
  SplitLlama,
  streamModel,
  type WeightDtype,
} from '../models/index.ts';
import {
  type Device,
  type LanguageModel,
  type NeuronSpace,
  neuronSpace,
  openDevice,
  type Tokenizer,
} from '../neurgrad/index.ts';
import { startProgress } from './progress.ts';

/** A model before its weights. */
export interface ModelCard extends NeuronSpace {
  readonly sizes: ModelConfig;
  readonly tokenizer: Tokenizer;
  readonly folder: ByteFolder;
}

export interface Session {
  readonly device: Device;
  readonly model: LanguageModel;
  readonly placement: Placement;
  readonly tokenizer: Tokenizer;
  /** Path of the model's folder. */
  readonly folder: string;
}

/**
 * Reads config and tokenizer, downloading a Hub model where it is not yet cached.
 * @param source folder or Hugging Face id.
 * @throws UserError where there is no such model or its files are not what they should be.
 */
export async function readModelCard(source: string): Promise<ModelCard> {
  const progress = startProgress('download', 'MB');
  const megabytes = (bytes: number): number => Math.round(bytes / 1e6);
  try {
    const folder = await resolveModelFolder(source, {
      onProgress: ({ done, total }) => progress.update(megabytes(done), megabytes(total)),
    });
    const sizes = await readConfig(folder);
    const tokenizer = await loadTokenizer(folder);
    checkVocabulary(folder.name, tokenizer, sizes);
    return { ...neuronSpace(sizes.type, sizes), sizes, tokenizer, folder };
  } finally {
    progress.stop();
  }
}

/** How a command keeps the weights. */
export interface WeightsOptions {
  readonly dtype?: WeightDtype;
  /** Read from disk as they are needed. */
  readonly stream?: boolean;
  /** Gigabytes of the device. */
  readonly memory?: number;
  /** Processes to split the layers over. */
  readonly devices?: number;
}

/** Where a model's weights are: results have the same bits, but sweeps take another way through each. */
export type Placement = 'device' | 'disk' | 'processes';

/** On disk where that was asked for, or they do not fit. @throws UserError where only a Llama can be so kept. */
export async function placeWeights(
  card: ModelCard,
  device: Device,
  options: WeightsOptions,
): Promise<Placement> {
  const { folder, sizes } = card;
  if (options.devices !== undefined) {
    if (sizes.type !== 'llama') throw new UserError('split', `${folder.name}: only a Llama can be split`);
    return 'processes';
  }
  if (options.stream) return 'disk';
  const memory =
    options.memory === undefined ? (device.info.software ? totalmem() : undefined) : options.memory * 1e9;
  if (memory === undefined || sizes.type !== 'llama') return 'device';
  const checkpoint = await openCheckpoint(folder);
  const plan = planMemory(sizes, checkpoint, options);
  await checkpoint.close();
  if (plan.resident <= memory) return 'device';
  const size = (bytes: number) =>
    bytes >= 1e8 ? `${(bytes / 1e9).toFixed(1)} GB` : `${(bytes / 1e6).toFixed(1)} MB`;
  process.stderr.write(
    `needs ${size(plan.resident)} of ${size(memory)}: streamed from disk instead, ${size(plan.streamed)} at a time\n`,
  );
  return 'disk';
}

/** The model with its weights where {@link placeWeights} says. @throws UserError where they are not what they should be. */
export async function openModel(
  card: ModelCard,
  device: Device,
  placement: Placement,
  { dtype, devices }: WeightsOptions,
): Promise<LanguageModel> {
  const { folder, sizes } = card;
  if (placement === 'processes')
    return SplitLlama.open(folder.name, sizes as LlamaConfig, device, devices!, dtype);
  const kept = dtype === undefined ? {} : { dtype };
  if (placement === 'disk') return streamModel(folder, device, kept);
  const progress = startProgress('load', 'MB');
  return loadModelWeights(folder, device, {
    ...kept,
    // What takes no time needs no bar.
    onProgress: ({ bytes, total }) => {
      if (total > 1e8) progress.update(Math.round(bytes / 1e6), Math.round(total / 1e6));
    },
  }).finally(() => progress.stop());
}

/** Opens device and model. @throws UserError where there is no adapter or the weights are not what they should be. */
export async function withModel<Result>(
  card: ModelCard,
  work: (session: Session) => Promise<Result>,
  options: WeightsOptions = {},
): Promise<Result> {
  const { tokenizer, folder } = card;
  const device = await openDevice();
  try {
    const placement = await placeWeights(card, device, options);
    const model = await openModel(card, device, placement, options);
    try {
      // A folder in Node is a local one, and its name is its path.
      return await work({ device, model, placement, tokenizer, folder: folder.name });
    } catch (error) {
      // What a run gave does not know whose weights it was.
      if (error instanceof UserError && error.code === 'not-finite')
        throw new UserError(error.code, `${folder.name}: ${error.message}`, { cause: error });
      throw error;
    } finally {
      model.dispose();
    }
  } finally {
    device.destroy();
  }
}

/** The adapter in one line: `llvmpipe (LLVM 15), software`. */
export function describeAdapter(device: Device): string {
  const { vendor, architecture, description, software } = device.info;
  const name = description || [vendor, architecture].filter(Boolean).join(' ') || 'unnamed adapter';
  return `${name}, ${software ? 'software' : 'hardware'}`;
}
