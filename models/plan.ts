/**
 * What a model will take of the device, purpose by purpose, known from `config.json` and the files' headers alone.
 *
 * In the size classes of the device's pool: weights as they are loaded (weights.ts); activations and what a backward saves, float32
 * all, as the words of the model's blocks have them (cost.ts). A test holds them together with what a device takes.
 */

import { UserError } from '../engine/errors.ts';
import { laidBytes } from '../engine/index.ts';
import { rotaryRows } from '../engine/ops/rotary.ts';
import { callback, checkOptions, flag, optionsSchema, whole } from '../engine/options.ts';
import { isPacked } from '../kernels/index.ts';
import { type Buffers, buffersOf, bytesAtMost, pooled, together } from './buffers.ts';
import { type Checkpoint, matchTensors } from './checkpoint.ts';
import type { ModelConfig } from './config.ts';
import { passBytes } from './cost.ts';
import { type Description, type Parameter, parametersOfStage } from './description.ts';
import { dtypeFor } from './kept.ts';
import type { Stage } from './pass.ts';
import { type WeightDtype, weightDtypeField } from './storage.ts';
import { AT_ONCE, type LoadedBytes, loadedBytes } from './weights.ts';

/** What the model is to do in the memory that is planned. */
export interface PlanOptions {
  readonly dtype?: WeightDtype;
  /** Tokens of a prompt; default 64 or as many as the model takes. */
  readonly tokens?: number;
  /** Prompts in one pass; default 1. */
  readonly rows?: number;
  /** The device's largest binding, which larger tensors are cut for; default 128 MiB, the least that WebGPU allows. */
  readonly bindingBytes?: number;
  /** Side of the device's textures where it keeps weights in panels (`panelSide` of the engine); default 0: it does not. */
  readonly panelSide?: number;
  /** As when loading. */
  readonly strict?: boolean | undefined;
  /** As when loading; default nobody. */
  readonly onNote?: (note: string) => void;
}

const planOptions = optionsSchema<PlanOptions>({
  dtype: weightDtypeField,
  tokens: whole(1),
  rows: whole(1),
  bindingBytes: whole(1),
  panelSide: whole(),
  strict: flag,
  onNote: callback(),
});

/** Bytes on the device. */
export interface MemoryPlan {
  readonly dtype: WeightDtype;
  readonly tokens: number;
  readonly rows: number;
  /** Bytes of all tensors on the disk, and of how many shards. */
  readonly stored: { readonly bytes: number; readonly shards: number };
  readonly weights: {
    readonly embedding: number;
    readonly layers: number;
    readonly decoder: number;
    /** Norms and biases. */
    readonly small: number;
  };
  /** Keys and values of all prompts, where they are kept (generation, sweeps). */
  readonly cache: number;
  /** Values of a run, and tables of the angles of positions. */
  readonly activations: number;
  /** What a backward through all layers saves. */
  readonly backward: number;
  /** All of it, with the weights on the device. */
  readonly resident: number;
  /** The most at any time where layers are read from disk as they are needed: two of them, and one layer's backward. */
  readonly streamed: number;
}

/**
 * @throws UserError where the checkpoint does not hold this model, or the model takes no prompt so long.
 * @example
 * ```ts
 * import { localFolder, openCheckpoint, planMemory, readConfig } from 'neurgrad/models';
 *
 * const folder = await localFolder('examples/models/stories260k');
 * const checkpoint = await openCheckpoint(folder);
 * const { weights } = planMemory(await readConfig(folder), checkpoint, { dtype: 'f16' });
 * console.log(`${weights.layers} bytes in the layers' matrices`);
 * await checkpoint.close();
 * ```
 */
export function planMemory(
  config: ModelConfig,
  checkpoint: Pick<Checkpoint, 'name' | 'tensors' | 'unindexed' | 'shards' | 'bytes'>,
  options: PlanOptions = {},
): MemoryPlan {
  checkOptions('planMemory', planOptions, options);
  const { description } = config;
  const { sizes } = description;
  const { rows = 1, tokens = Math.min(64, sizes.positions) } = options;
  const { bindingBytes = 2 ** 27, panelSide = 0 } = options;
  const { strict, onNote = () => {} } = options;
  if (tokens > sizes.positions) {
    throw new UserError(
      'plan',
      `${checkpoint.name}: ${tokens} tokens are to be planned, the model takes ${sizes.positions}; plan fewer`,
    );
  }
  const entries = matchTensors(checkpoint, config, { strict, onNote });
  const dtype = dtypeFor(entries.values(), options.dtype);
  const loaded = loadedBytes(entries, description, dtype, panelSide);
  const cut = pooled(bindingBytes);
  const taken = (bytes: number): number => cut(bytes).reduce((sum, size) => sum + size, 0);
  const weights = { embedding: 0, layers: 0, decoder: 0, small: 0 };
  for (const { parameters, kept, textures } of loaded)
    for (const [i, parameter] of parameters.entries())
      weights[placeOf(parameter)] += taken(kept[i]!) + textures[i]!;
  const inTextures = loaded.reduce((sum, { textures }) => textures.reduce((a, b) => a + b, sum), 0);
  const all = Object.values(weights).reduce((sum, bytes) => sum + bytes, 0);
  const { hidden, keyValueHeads, headSize, layers, vocabulary, positions } = sizes;
  const rotaries = new Set(description.layers.flatMap(({ attention }) => attention.rotary ?? []));
  const angles = [...rotaries].reduce(
    (sum, { length }) => sum + 2 * taken(4 * length * rotaryRows(tokens, positions)),
    0,
  );
  const pass = (tape: boolean, together: boolean): number =>
    passBytes(description, { rows, tokens, keys: tokens, tape, together }, cut) + angles;
  const laid = (back: boolean): number => laidOut(loaded, { rows, tokens, back }, panelSide);
  const cache = description.causal ? rows * 2 * layers * taken(4 * tokens * keyValueHeads * headSize) : 0;
  const activations = pass(false, true) + laid(false);
  const backward = pass(true, true) + laid(true) - activations;
  // Beside a layer's own values: the inputs of the others, the last one's output, and its cotangent.
  const byLayer = pass(true, false) + (layers + 1) * taken(4 * rows * tokens * hidden);
  const streamed = panelSide > 0 ? loadedBytes(entries, description, dtype) : loaded;
  const stages = streamedBuffers(description, streamed, Math.min(rows * tokens, vocabulary));
  return {
    dtype,
    tokens,
    rows,
    stored: { bytes: checkpoint.bytes, shards: checkpoint.shards.length },
    weights,
    cache,
    activations,
    backward,
    // What lies beside weights until they are there goes before anything is run.
    resident: Math.max(
      all + cache + activations + backward,
      inTextures + bytesAtMost([arriving(loaded)], cut),
    ),
    streamed: bytesAtMost(stages, cut) + cache + byLayer,
  };
}

/** Bytes of the rows that products on panels lay out: in the pool once for every length of a row, back as many as outputs too. */
function laidOut(
  loaded: readonly LoadedBytes[],
  { rows, tokens, back }: { readonly rows: number; readonly tokens: number; readonly back: boolean },
  side: number,
): number {
  const found = new Map<string, number>();
  for (const { parameters, textures } of loaded)
    for (const [i, { shape, kind, stage }] of parameters.entries()) {
      if (textures[i] === 0) continue;
      const m = stage === 'head' || kind === 'embedding' ? rows : rows * tokens;
      for (const k of back ? shape : shape.slice(1)) found.set(`${m} ${k}`, laidBytes(m, k, side));
    }
  return [...found.values()].reduce((sum, bytes) => sum + bytes, 0);
}

/** Weights, and what lies beside those on their way. */
const arriving = (loaded: readonly LoadedBytes[]): Buffers =>
  together(
    buffersOf(loaded.flatMap(({ kept }) => kept)),
    // Some take longer than others: any of them may come together.
    buffersOf(
      loaded.flatMap(({ beside }) => beside),
      AT_ONCE,
    ),
  );

/**
 * Weights that are there at any time of a streamed run forward and back: those of a stage, and the first of the next.
 * @param words tokens whose rows of the word embedding are read.
 */
function* streamedBuffers(
  description: Description,
  loaded: readonly LoadedBytes[],
  words: number,
): Iterable<Buffers> {
  const layers = [...Array(description.sizes.layers).keys()];
  const order: Stage[] = ['embed', ...layers, 'head', ...layers.toReversed()];
  const stages = order.map((stage) => {
    const names = new Set(parametersOfStage(description, stage));
    const here = loaded.filter(({ parameters }) => parameters.some(({ name }) => names.has(name)));
    return stage === 'embed' ? here.map((each) => rowsOf(description, each, words)) : here;
  });
  for (const [i, here] of stages.entries()) {
    yield arriving(here);
    const next = stages[i + 1]?.slice(0, AT_ONCE) ?? [];
    yield together(buffersOf(here.flatMap(({ kept }) => kept)), arriving(next));
  }
}

/** Of the word embedding some rows, which are float32 first. */
function rowsOf({ sizes, embedding }: Description, table: LoadedBytes, rows: number): LoadedBytes {
  if (table.parameters[0]!.name !== embedding.word) return table;
  const wide = 4 * rows * sizes.hidden;
  // Blocks are not made anew.
  const kept = isPacked(table.formats[0]!) ? wide : (table.kept[0]! * rows) / sizes.vocabulary;
  return { ...table, kept: [kept], beside: [kept === wide ? 0 : wide] };
}

/** Where a parameter counts in the plan. */
function placeOf({ kind, stage }: Parameter): keyof MemoryPlan['weights'] {
  if (kind === 'norm' || kind === 'bias') return 'small';
  if (stage === 'head') return 'decoder';
  return stage === 'embed' ? 'embedding' : 'layers';
}
