/**
 * Scaled dot-product attention (Vaswani et al. 2017), with grouped key/value heads (Ainslie et al. 2023).
 */

import { ShapeError } from '../errors.ts';
import { callback, checkOptions, flag, optionsSchema } from '../options.ts';
import { checkTensors, oneDevice, operation, showShape, type Tensor, tensorField } from '../tensor.ts';
import { attentionKernels, byTokens, fitKernels, fusedKeys } from './attentionKernels.ts';
import { matmul } from './matmul.ts';
import { attentionPattern, type PatternOptions, SCORE_NAMES, scoreFields } from './scores.ts';
import { permute, reshape } from './shape.ts';
import { cotangentTwin, throughTwin } from './twin.ts';
import { misplaced } from './window.ts';

/** What a query may see, and how it is computed. */
export interface AttentionOptions extends Omit<PatternOptions, 'lastKey'> {
  /**
   * Kernels that keep no probabilities, forward and backward; by default on a GPU, and on a CPU driver from {@link FUSED_KEYS} keys on.
   * Not where the pattern is to be seen.
   */
  readonly fused?: boolean;
  /** Sees, and may replace, the attention probabilities [batch, heads, queries, keys]. */
  readonly onPattern?: (pattern: Tensor) => Tensor;
}

const attentionOptions = optionsSchema<AttentionOptions>(
  { ...scoreFields, keyMask: tensorField, causal: flag, fused: flag, onPattern: callback() },
  { mask: 'keyMask', attnMask: 'keyMask', isCausal: 'causal', ...SCORE_NAMES },
);

/**
 * softmax(scale q k^T) v, scale 1 / sqrt(D) by default: q [B, Q, heads, D], k and v [B, K, keyHeads, D] with heads a multiple of
 * keyHeads; head h attends with key head floor(h / group). Result [B, Q, heads, D]. PyTorch's `scaled_dot_product_attention` has
 * heads before tokens, [B, heads, Q, D]: permute(x, [0, 2, 1, 3]) of each first; where all sizes go together either way nothing can
 * tell. Kernels whose memory grows with Q + K, or, where the pattern is to be seen or is small, products (equal but for rounding).
 * @throws ShapeError
 * @example
 * ```ts
 * import { attention, openDevice, tensor, zeros } from 'neurgrad/engine';
 *
 * const device = await openDevice();
 * // One batch, two tokens, one head of size 4; equal scores mix the values equally.
 * const [q, k] = [zeros(device, [1, 2, 1, 4]), zeros(device, [1, 2, 1, 4])];
 * const v = tensor(device, [1, 1, 1, 1, 3, 3, 3, 3], [1, 2, 1, 4]);
 * const z = await attention(q, k, v, { causal: true }).read();
 * console.log(z[0], z[4]); // → 1 2
 * device.destroy();
 * ```
 */
export function attention(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions = {}): Tensor {
  checkOptions('attention', attentionOptions, options);
  checkTensors('attention', { q, k, v });
  oneDevice('attention', q, k, v, options.keyMask);
  const reason = misfit(q, k, v, options);
  if (reason) {
    // The same with heads before tokens, where these tensors would be right.
    const turned = [q, k, v].map(tokensFirst) as Triple;
    const elsewhere = q.rank === 4 && k.rank === 4 && v.rank === 4 && !misfit(...turned, options);
    const hint =
      "; these look like PyTorch's [batch, heads, tokens, D]: pass permute(x, [0, 2, 1, 3]) of each";
    throw new ShapeError('attention', elsewhere ? reason + hint : reason);
  }
  return (options.fused ?? k.dim(1) >= fusedKeys(q.device.capabilities)) &&
    !options.onPattern &&
    fitKernels(byTokens(q.shape, k.shape), q, k, v)
    ? fused(q, k, v, options)
    : attentionTwin(q, k, v, options);
}

type Shaped = Pick<Tensor, 'shape' | 'rank' | 'dtype'>;
type Triple = [Shaped, Shaped, Shaped];

/** A shape with the axes of heads and tokens exchanged. */
const tokensFirst = ({ shape, rank, dtype }: Shaped): Shaped => ({
  shape: [shape[0]!, shape[2]!, shape[1]!, shape[3]!],
  rank,
  dtype,
});

/** Why these do not go together, or null where they do. */
function misfit(q: Shaped, k: Shaped, v: Shaped, options: AttentionOptions): string | null {
  const { keyMask } = options;
  const [batch, queries, heads, size] = q.shape;
  const [keyBatch, keys, keyHeads, keySize] = k.shape;
  if (
    q.rank !== 4 ||
    k.rank !== 4 ||
    k.shape.join() !== v.shape.join() ||
    keyBatch !== batch ||
    keySize !== size ||
    heads! % keyHeads! !== 0
  )
    return `q ${showShape(q)}, k ${showShape(k)}, v ${showShape(v)} are not [batch, tokens, heads, D] with heads a multiple of the keys'`;
  if (keyMask && (keyMask.dtype !== 'u32' || keyMask.shape.join() !== `${batch},${keys}`))
    return `mask ${keyMask.dtype} ${showShape(keyMask)} for keys ${showShape(k)}`;
  return misplaced(queries!, keys!, options);
}

/** One kernel over q, k and v as they lie; saved is a number a row. */
function fused(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions): Tensor {
  const { fused: _, onPattern: __, ...kept } = options;
  const { keyMask, ...how } = kept;
  const mask = keyMask ? [keyMask] : [];
  for (const t of [q, k, v, ...mask]) t.use();
  const [y, lse] = attentionKernels(byTokens(q.shape, k.shape), kept, q.device).forward(q, k, v);
  const result = operation('attention', [q, k, v], y, [q, k, v, lse, ...mask], (dy, saved, needs) => {
    const [q, k, v, lse, keyMask] = saved as [Tensor, Tensor, Tensor, Tensor, Tensor?];
    return backward([q, k, v, dy], lse, { ...how, ...(keyMask ? { keyMask } : {}) }, needs);
  });
  lse.dispose();
  return result;
}

/** Cotangents of q, k, v as needed, each an operation of its own, whose gradient comes through the twin. */
function backward(
  inputs: readonly [Tensor, Tensor, Tensor, Tensor],
  lse: Tensor,
  options: AttentionOptions,
  needs: readonly boolean[],
): (Tensor | null)[] {
  const [q, k] = inputs;
  const { keyMask, ...how } = options;
  const mask = keyMask ? [keyMask] : [];
  const kernels = attentionKernels(byTokens(q.shape, k.shape), options, q.device);
  const stats = kernels.statistics(...inputs, lse);
  const dq = needs[0] ? kernels.queries(...inputs, stats) : null;
  const [dk, dv] = needs[1] || needs[2] ? kernels.keys(...inputs, stats) : [null, null];
  return [dq, dk, dv].map(
    (result, which) =>
      result &&
      operation(
        'attentionBackward',
        inputs,
        result,
        [...inputs, ...mask],
        throughTwin(4, (q, k, v, dy, keyMask) =>
          attentionBackwardTwin([q!, k!, v!], dy!, which as 0 | 1 | 2, {
            ...how,
            ...(keyMask ? { keyMask } : {}),
          }),
        ),
      ),
  );
}

/** The backward kernels in primitive operations: cotangent `which` of q, k, v through {@link attentionTwin}. */
export function attentionBackwardTwin(
  inputs: readonly [Tensor, Tensor, Tensor],
  dy: Tensor,
  which: 0 | 1 | 2,
  options: AttentionOptions,
): Tensor {
  checkOptions('attentionBackwardTwin', attentionOptions, options);
  return cotangentTwin((q, k, v) => attentionTwin(q!, k!, v!, options), inputs, dy, which);
}

/** Attention in products, softmax and permutations: the path on which the pattern can be seen. */
export function attentionTwin(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions = {}): Tensor {
  checkOptions('attentionTwin', attentionOptions, options);
  checkTensors('attentionTwin', { q, k, v });
  const [batch, queries, heads, headSize] = q.shape as [number, number, number, number];
  const [keys, keyHeads] = [k.dim(1), k.dim(2)];
  const group = heads / keyHeads;
  // Heads that share a key head become more query rows of one product: [B, keyHeads, group * Q, D].
  const byHead = reshape(permute(q, [0, 2, 1, 3]), [batch, keyHeads, group * queries, headSize]);
  const products = reshape(matmul(byHead, permute(k, [0, 2, 1, 3]), { transB: true }), [
    batch,
    heads,
    queries,
    keys,
  ]);
  const { fused: _, onPattern, ...how } = options;
  let pattern = attentionPattern(products, headSize, how);
  if (onPattern) pattern = onPattern(pattern);
  const mixed = matmul(reshape(pattern, [batch, keyHeads, group * queries, keys]), permute(v, [0, 2, 1, 3]));
  return permute(reshape(mixed, [batch, heads, queries, headSize]), [0, 2, 1, 3]);
}
