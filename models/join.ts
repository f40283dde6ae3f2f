/** The maps to queries, keys and values of a layer, which read the same rows, as one product (engine/ops/joinedLinears.ts). */

import type { Device, Tensor } from '../engine/index.ts';
import { NARROW_SUBGROUP } from '../engine/matmulChoice.ts';
import { JoinedLinears } from '../engine/ops/joinedLinears.ts';
import type { Description } from './description.ts';

/** Products of one row by several maps, whose weights are named in this order. */
export interface Joined {
  readonly names: readonly string[];
  readonly linears: JoinedLinears;
}

/**
 * Joins the weights of a model that nobody else holds, in `weights` itself, and gives what was joined by the name of its first weight.
 * None on a CPU's driver, where a dispatch costs little beside its work.
 */
export function joinProjections(
  device: Device,
  { layers }: Description,
  weights: Map<string, Tensor>,
): ReadonlyMap<string, Joined> {
  const found = new Map<string, Joined>();
  if (device.capabilities.subgroupSize <= NARROW_SUBGROUP) return found;
  for (const { attention } of layers) {
    const maps = [attention.q, attention.k, attention.v];
    const given = maps.map(({ weight, bias }) => ({
      weight: weights.get(weight)!,
      ...(bias === undefined ? {} : { bias: weights.get(bias)! }),
    }));
    const linears = JoinedLinears.of(given);
    if (!linears) continue;
    maps.forEach(({ weight, bias }, i) => {
      const moved = linears.layers[i]!;
      given[i]!.weight.dispose();
      given[i]!.bias?.dispose();
      weights.set(weight, moved.weight);
      if (bias !== undefined && moved.bias) weights.set(bias, moved.bias);
    });
    found.set(attention.q.weight, { names: maps.map(({ weight }) => weight), linears });
    // What they lay in before.
    device.pool.trim();
  }
  return found;
}
