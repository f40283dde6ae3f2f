/**
 * What a model will take of the device, purpose by purpose, known from `config.json` and the files' headers alone.
 *
 * Weights are exact, in the size classes of the device's pool. Activations and what a backward saves are counted by the words of
 * the model's blocks (cost.ts), as float32; a test holds them together with what a device takes.
 */

import { UserError } from '../engine/errors.ts';
import { sizeOf } from '../engine/index.ts';
import { sizeClass } from '../engine/memory.ts';
import { callback, checkOptions, flag, optionsSchema, whole } from '../engine/options.ts';
import { bytesOf, storedShape } from '../engine/storage.ts';
import { type Checkpoint, matchTensors } from './checkpoint.ts';
import type { ModelConfig } from './config.ts';
import { headCost, layersCost } from './cost.ts';
import { type Parameter, parametersOf } from './description.ts';
import { storedAs, type WeightDtype, weightDtypeField } from './storage.ts';
import { CONVERSION_BYTES } from './weights.ts';

/** What the model is to do in the memory that is planned. */
export interface PlanOptions {
  readonly dtype?: WeightDtype;
  /** Tokens of a prompt; default 64 or as many as the model takes. */
  readonly tokens?: number;
  /** Prompts in one pass; default 1. */
  readonly rows?: number;
  /** As when loading. */
  readonly strict?: boolean | undefined;
  /** As when loading; default nobody. */
  readonly onNote?: (note: string) => void;
}

const planOptions = optionsSchema<PlanOptions>({
  dtype: weightDtypeField,
  tokens: whole(1),
  rows: whole(1),
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
  const { dtype = 'f32', rows = 1, tokens = Math.min(64, sizes.positions) } = options;
  const { strict, onNote = () => {} } = options;
  if (tokens > sizes.positions) {
    throw new UserError(
      'plan',
      `${checkpoint.name}: ${tokens} tokens are to be planned, the model takes ${sizes.positions}; plan fewer`,
    );
  }
  const weights = { embedding: 0, layers: 0, decoder: 0, small: 0 };
  const entries = matchTensors(checkpoint, config, { strict, onNote });
  for (const parameter of parametersOf(description)) {
    const kept = storedAs(parameter, entries.get(parameter.name)!.dtype, dtype);
    weights[placeOf(parameter)] += sizeClass(sizeOf(storedShape(kept, parameter.shape)) * bytesOf(kept));
  }
  const rotaries = new Set(description.layers.flatMap(({ attention }) => attention.rotary ?? []));
  const reach = Math.min(sizes.positions, Math.max(tokens, 256));
  const angles = [...rotaries].reduce((sum, { length }) => sum + 2 * 4 * length * reach, 0);
  const { hidden: H, width: I, keyValueHeads, headSize, layers, vocabulary } = sizes;
  const all = rows * tokens;
  const plain = layersCost(description, { keys: tokens });
  const taped = layersCost(description, { keys: tokens, tape: true });
  const head = { plain: headCost(description.head, H), taped: headCost(description.head, H, true) };
  const cache = description.causal ? 4 * all * 2 * layers * keyValueHeads * headSize : 0;
  // A layer's values beside what it reads and gives, and logits at one token a row.
  const activations = 4 * (all * (plain.made + 2 * H) + rows * head.plain.made) + angles;
  const more = 4 * (all * (taped.made - plain.made) + rows * (head.taped.saved + 2 * vocabulary));
  const backward = 4 * all * taped.saved + more;
  const saved = (4 * all * taped.saved) / layers + more;
  const { embedding, decoder, small } = weights;
  const layer = weights.layers / layers;
  return {
    dtype,
    tokens,
    rows,
    stored: { bytes: checkpoint.bytes, shards: checkpoint.shards.length },
    weights,
    cache,
    activations,
    backward,
    resident: embedding + weights.layers + decoder + small + cache + activations + backward,
    streamed:
      // A layer beside the next one, or the last beside the decoder, which may be the embedding; of that, only rows are read
      // otherwise. While matrices are converted, blocks of them are there as stored, too.
      layer +
      Math.max(layer, decoder || embedding) +
      Math.min(4 * H * I, CONVERSION_BYTES) +
      small +
      cache +
      activations +
      saved +
      4 * all * H * (layers + 1),
  };
}

/** Where a parameter counts in the plan. */
function placeOf({ kind, stage }: Parameter): keyof MemoryPlan['weights'] {
  if (kind === 'norm' || kind === 'bias') return 'small';
  if (stage === 'head') return 'decoder';
  return stage === 'embed' ? 'embedding' : 'layers';
}
