/**
 * A command's model, in two steps: first what small files say, so that a mistake in a prompt or a neuron is told before
 * any weight is read; then device and model, opened for one piece of work and closed after it, whatever happens.
 */

import { totalmem } from 'node:os';
import { UserError } from '../engine/errors.ts';
import { panelSide, Reopening } from '../engine/index.ts';
import {
  type ByteFolder,
  loadModelWeights,
  loadTokenizer,
  type MemoryPlan,
  type ModelConfig,
  openModelFiles,
  planMemory,
  readConfig,
  resolveModelFolder,
  SplitModel,
  sitesOf,
  streamModel,
  type WeightDtype,
} from '../models/index.ts';
import {
  type Device,
  type LanguageModel,
  type NeuronSpace,
  openDevice,
  type Tokenizer,
} from '../neurgrad/index.ts';
import { oneLine } from './exit.ts';
import { note } from './output.ts';
import { startProgress } from './progress.ts';

/** A model before its weights. */
export interface ModelCard extends NeuronSpace {
  readonly config: ModelConfig;
  readonly causal: boolean;
  readonly sizes: LanguageModel['sizes'];
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
      onNote: noteOnce,
    });
    const config = await readConfig(folder);
    const tokenizer = await loadTokenizer(folder);
    const { family, description } = config;
    const { causal, sizes } = description;
    return { family: family.type, causal, sizes, ...sitesOf(description), config, tokenizer, folder };
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
  /** Refuse tensors that the model has no place for. */
  readonly strict?: boolean;
  /** Worth the seconds in which a GPU's kernels are measured. */
  readonly long?: boolean;
}

const told = new Set<string>();

/** A remark on a model's files, told once however often they are opened. */
export function noteOnce(text: string): void {
  if (told.has(text)) return;
  told.add(text);
  note(oneLine(text));
}

/** Where a model's weights are: results have the same bits, but sweeps take another way through each. */
export type Placement = 'device' | 'disk' | 'processes';

/** As in messages: `1.2 GB`, `0.6 MB`. */
const sizeOf = (bytes: number): string =>
  bytes >= 1e8 ? `${(bytes / 1e9).toFixed(1)} GB` : `${(bytes / 1e6).toFixed(2)} MB`;

/** What a model takes of a device, `side` that of textures for panels. */
async function planOn(
  { folder }: ModelCard,
  device: Device,
  { dtype, strict }: WeightsOptions,
  side: number,
): Promise<MemoryPlan> {
  const { config, checkpoint } = await openModelFiles(folder, { onNote: noteOnce });
  await checkpoint.close();
  return planMemory(config, checkpoint, {
    ...(dtype === undefined ? {} : { dtype }),
    bindingBytes: device.capabilities.bindingBytes,
    panelSide: side,
    strict,
    onNote: noteOnce,
  });
}

/** Whether the memory that was given holds the weights in panels, which take more than `neurgrad plan` says; none on a device without. */
async function fitsInPanels(card: ModelCard, device: Device, options: WeightsOptions): Promise<boolean> {
  const side = panelSide(device.capabilities);
  return side === 0 || (await planOn(card, device, options, side)).resident <= options.memory! * 1e9;
}

/**
 * On disk where that was asked for, or they do not fit.
 * @throws UserError where only a causal model can be so kept, or the memory that was given is too small for any way.
 */
export async function placeWeights(
  card: ModelCard,
  device: Device,
  options: WeightsOptions,
): Promise<Placement> {
  const { folder, causal: streams } = card;
  if (options.devices !== undefined) {
    if (!streams) throw new UserError('split', `${folder.name}: only a causal model can be split`);
    return 'processes';
  }
  const given = options.memory === undefined ? undefined : options.memory * 1e9;
  const memory = given ?? (device.info.software ? totalmem() : undefined);
  if (memory === undefined || (given === undefined && (options.stream || !streams)))
    return options.stream ? 'disk' : 'device';
  const plan = await planOn(card, device, options, panelSide(device.capabilities));
  if (given !== undefined && (streams ? plan.streamed : plan.resident) > given) {
    const need = streams
      ? `${sizeOf(plan.streamed)} even with its weights on disk`
      : `${sizeOf(plan.resident)}, and only a causal model can be streamed from disk`;
    throw new UserError(
      'memory',
      `${folder.name}: needs ${need}; --memory gives ${sizeOf(given)} (see neurgrad plan)`,
    );
  }
  if (options.stream) return 'disk';
  if (plan.resident <= memory) return 'device';
  note(
    `needs ${sizeOf(plan.resident)} of ${sizeOf(memory)}: streamed from disk instead, ${sizeOf(plan.streamed)} at a time`,
  );
  return 'disk';
}

/** The model with its weights where {@link placeWeights} says. @throws UserError where they are not what they should be. */
export async function openModel(
  card: ModelCard,
  device: Device,
  placement: Placement,
  { dtype, devices, strict = false }: WeightsOptions,
): Promise<LanguageModel> {
  const { folder, config } = card;
  const files = { strict, onNote: noteOnce };
  if (placement === 'processes') return SplitModel.open(folder.name, config, device, devices!, dtype, files);
  const kept = { ...files, ...(dtype === undefined ? {} : { dtype }) };
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

/** Device and model, nothing left open where that fails. */
async function openSession(card: ModelCard, options: WeightsOptions): Promise<Session> {
  const { tokenizer, folder } = card;
  const tune = { ...(options.long && { autotune: 'hardware' as const }) };
  let device = await openDevice(tune);
  try {
    if (options.memory !== undefined && !(await fitsInPanels(card, device, options))) {
      device.destroy();
      device = await openDevice({ ...tune, mask: { textureSide: 0 } });
    }
    const placement = await placeWeights(card, device, options);
    const model = await openModel(card, device, placement, options);
    // A folder in Node is a local one, and its name is its path.
    return { device, model, placement, tokenizer, folder: folder.name };
  } catch (error) {
    device.destroy();
    throw error;
  }
}

/**
 * Opens device and model, again where the device is lost meanwhile. `work` is given what is open, and what opens it once more where a
 * piece of work loses its device.
 * @throws UserError where there is no adapter or the weights are not what they should be.
 */
export async function withModel<Result>(
  card: ModelCard,
  work: (session: Session, held: Reopening<Session>) => Promise<Result>,
  options: WeightsOptions = {},
): Promise<Result> {
  using held = new Reopening<Session>({
    open: () => openSession(card, options),
    close({ model, device }) {
      model.dispose();
      device.destroy();
    },
    onLost: note,
  });
  try {
    return await work(await opened(held), held);
  } catch (error) {
    // What a run gave does not know whose weights it was.
    if (error instanceof UserError && error.code === 'not-finite')
      throw new UserError(error.code, `${card.folder.name}: ${error.message}`, { cause: error });
    throw error;
  }
}

/** What is open, opened where it is not. */
export const opened = <Opened>(held: Reopening<Opened>): Promise<Opened> => held.run(async (one) => one);

/** The same model on another device, for where the first one's was lost. */
export async function reopened(held: Reopening<Session>): Promise<LanguageModel> {
  held.close();
  return (await opened(held)).model;
}

/** The adapter in one line: `llvmpipe (LLVM 15), software`. */
export function describeAdapter(device: Device): string {
  const { vendor, architecture, description, software } = device.info;
  const name = description || [vendor, architecture].filter(Boolean).join(' ') || 'unnamed adapter';
  return `${name}, ${software ? 'software' : 'hardware'}`;
}
