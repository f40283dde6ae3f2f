/**
 * A model that can be worked out by hand, on the host: logit 0 is w · a over all neurons, the other three logits are 0,
 * so p = e^z / (e^z + 3) and dp/da = p (1 - p) w; or it is some function of w · a. It speaks the interface of the real ones.
 */

import type { Tensor } from '../../engine/index.ts';
import { FAMILIES } from '../../models/families/index.ts';
import type { LanguageModel, ModelInput, RunOptions } from '../../models/model.ts';

export interface ToyModel extends LanguageModel {
  /** Batch rows of each pass so far. */
  readonly passes: number[];
  /** Results not disposed of. */
  open: number;
}

/** A function and its derivative. */
export interface Bend {
  readonly value: (z: number) => number;
  readonly slope: (z: number) => number;
}

/** `activations` and `weights` are [layer][index], at every position alike. */
export function toyModel(
  activations: number[][],
  weights: number[][],
  bend: Bend = { value: (z) => z, slope: () => 1 },
): ToyModel {
  const width = activations[0]!.length;
  const passes: number[] = [];
  const tensor = (data: Float32Array): Tensor =>
    ({ read: async () => data, dispose() {} }) as unknown as Tensor;
  const layerOf = (name: string): number => Number(/^blocks\.(\d+)\./.exec(name)![1]);

  function run(input: ModelInput, options: RunOptions = {}) {
    passes.push(input.ids.length);
    model.open++;
    const [length, positions] = [input.ids[0]!.length, options.logits as readonly number[]];
    const inside = input.ids.map((_, row) => {
      const a = activations.map((layer) => [...layer]);
      for (const patch of options.patch ?? []) {
        if ((patch.row ?? 0) !== row || patch.position !== positions[row]) continue;
        const layer = a[layerOf(patch.name)]!;
        const values = [patch.value as number | number[]].flat();
        for (const [i, neuron] of [patch.neuron as number | number[]].flat().entries()) {
          const outward = patch.along === 'outward' && activations[layerOf(patch.name)]![neuron]! < 0;
          layer[neuron]! += values[i]! * (outward ? -1 : 1);
        }
      }
      return a.flat().reduce((z, value, i) => z + value * weights.flat()[i]!, 0);
    });
    const atAll = (values: (layer: number) => number[], names: readonly string[] = []): Map<string, Tensor> =>
      new Map(
        names.map((name) => [
          name,
          tensor(Float32Array.from(Array.from({ length }, () => values(layerOf(name))).flat())),
        ]),
      );
    const rows = inside.map(bend.value);
    const p = 1 / (1 + 3 * Math.exp(-rows[0]!));
    const scale = { prob: p * (1 - p), logprob: 1 - p, logit: 1, logit_diff: 1, logodds: 1 };
    const objective = options.grad?.of;
    const slope =
      objective && typeof objective === 'object' ? scale[objective.of] * bend.slope(inside[0]!) : 0;
    const dispose = (): void => void model.open--;
    return {
      logits: tensor(Float32Array.from(rows.flatMap((z) => [z, 0, 0, 0]))),
      captures: atAll((layer) => activations[layer]!, options.capture),
      gradients: atAll((layer) => weights[layer]!.map((w) => w * slope), options.grad?.at),
      dispose,
      [Symbol.dispose]: dispose,
    };
  }

  const description = FAMILIES.bert.describe(
    {
      num_hidden_layers: activations.length,
      intermediate_size: width,
      hidden_size: 4,
      num_attention_heads: 1,
      vocab_size: 4,
      max_position_embeddings: 16,
    },
    'a toy',
  );
  const model = {
    family: 'toy',
    causal: false,
    running: 'resident',
    description,
    sizes: description.sizes,
    sites: ['pre', 'post'],
    paperSite: 'post',
    parameters: new Map(),
    passes,
    open: 0,
    run,
  } as unknown as ToyModel;
  return model;
}
