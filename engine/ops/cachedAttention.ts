/**
 * Attention of the newest tokens of a text over the keys and values of all of it, as a cache holds them: by head.
 */

import { isRecording, type Tensor } from '../tensor.ts';
import { attentionKernels, byHeads, fitKernels, isWide } from './attentionKernels.ts';
import { matmul } from './matmul.ts';
import { attentionPattern, type ScoreOptions } from './scores.ts';
import { permute, reshape } from './shape.ts';

/** How the newest tokens attend. */
export interface CachedAttentionOptions extends ScoreOptions {
  /** Kernels that keep no probabilities: on a GPU, unless this is false. */
  readonly fused?: boolean;
  /** u32 [1]: the only query's own key, behind which there is but room. */
  readonly lastKey?: Tensor;
}

/**
 * q [1, Q, heads, D] over keys and values [keyHeads, K, D] of which the last Q are its own tokens: as `attention`, causal. With `lastKey`
 * one query, over the keys up to that one: with the same bits whatever room the cache has behind it.
 */
export function cachedAttention(
  q: Tensor,
  keys: Tensor,
  values: Tensor,
  { fused = true, ...options }: CachedAttentionOptions = {},
): Tensor {
  const [, queries, heads, headSize] = q.shape as [number, number, number, number];
  const [keyHeads, length] = keys.shape as [number, number];
  const how = { ...options, causal: true };
  const layout = byHeads(q.shape.slice(1), keys.shape);
  const given = [q, keys, values, ...(options.lastKey ? [options.lastKey] : [])];
  if (fused && isWide(q.device.capabilities) && fitKernels(layout, q, keys, values) && !isRecording(given)) {
    for (const t of given) t.use();
    const [y, lse] = attentionKernels(layout, how, q.device).forward(q, keys, values);
    lse.dispose();
    return y;
  }
  const rows = (heads / keyHeads) * queries;
  const products = matmul(reshape(permute(q, [0, 2, 1, 3]), [keyHeads, rows, headSize]), keys, {
    transB: true,
  });
  const pattern = attentionPattern(reshape(products, [1, heads, queries, length]), headSize, how);
  const mixed = matmul(reshape(pattern, [keyHeads, rows, length]), values);
  return permute(reshape(mixed, [1, heads, queries, headSize]), [0, 2, 1, 3]);
}
