/**
 * Scaled dot-product attention (Vaswani et al. 2017), with grouped key/value heads (Ainslie et al. 2023).
 */

import {
  ATTENTION_STATISTICS,
  type AttentionVariant,
  attentionBackwardKeys,
  attentionBackwardQueries,
  attentionForward,
  attentionStatistics,
  MAX_GROUPS,
} from '../../kernels/index.ts';
import type { Capabilities } from '../device.ts';
import { ShapeError } from '../errors.ts';
import { NARROW_SUBGROUP } from '../matmulChoice.ts';
import { callback, checkOptions, flag, optionsSchema } from '../options.ts';
import { checkTensors, empty, oneDevice, operation, showShape, type Tensor, tensorField } from '../tensor.ts';
import { matmul } from './matmul.ts';
import {
  attentionPattern,
  type PatternOptions,
  SCORE_NAMES,
  type ScoreOptions,
  scoreFields,
} from './scores.ts';
import { permute, reshape } from './shape.ts';
import { cotangentTwin, throughTwin } from './twin.ts';
import { misplaced, seenKeys } from './window.ts';

/** What a query may see, and how it is computed. */
export interface AttentionOptions extends Omit<PatternOptions, 'lastKey'> {
  /**
   * Kernels that keep no probabilities, forward and backward; by default from {@link FUSED_KEYS} keys on. Not where the
   * pattern is to be seen.
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
 * Keys from which on probabilities are not kept: below it products are faster on a CPU. It must not depend on batch, heads or queries: a row alone takes the path
 * that it takes in a batch.
 */
export const FUSED_KEYS = 2048;

/** Largest head of which enough rows fit into workgroup memory. */
const LARGEST_HEAD = 256;

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
  const keys = k.dim(1);
  return (options.fused ?? keys >= FUSED_KEYS) &&
    !options.onPattern &&
    fitKernels(q, k, v) &&
    fitGrid(q.shape, k.shape)
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

/** Whether the kernels can read these queries, keys and values. */
export const fitKernels = (...tensors: readonly Tensor[]): boolean =>
  tensors.every(
    (t) => t.dtype === 'f32' && t.size > 0 && t.dim(-1) <= LARGEST_HEAD && t.storage.segments.length === 1,
  );

/** Fewest rows of a workgroup: a grid has {@link MAX_GROUPS} of them. */
const FEWEST_ROWS = 1024 / LARGEST_HEAD;

/** Whether one grid covers queries [B, Q, heads, D] and keys [B, K, keyHeads, D] of these shapes. */
export function fitGrid(ofQueries: readonly number[], ofKeys: readonly number[]): boolean {
  const [batch, queries, heads] = ofQueries as [number, number, number];
  const [, keys, keyHeads] = ofKeys as [number, number, number];
  const rows = Math.max((queries * heads) / keyHeads, keys);
  return rows <= FEWEST_ROWS * MAX_GROUPS && Math.max(batch, keyHeads) <= MAX_GROUPS;
}

/** How the kernels divide their work, on a device always in the same way. */
export function kernelVariant(
  headSize: number,
  { keyMask, cap }: AttentionOptions,
  c: Capabilities,
): AttentionVariant {
  // Twice the rows would halve the loads, but drivers on a CPU take long to compile each of them.
  const common = { masked: keyMask !== undefined, capped: cap !== undefined, tile: 8, each: 2 };
  if (c.subgroups && c.subgroupSizeFixed && c.subgroupSize <= NARROW_SUBGROUP)
    return { ...common, headSize: LARGEST_HEAD, lanes: c.subgroupSize, block: 128, shuffles: true };
  // Own rows of two bindings, and the weights of a block, in 16 KiB; few sizes, so that few are compiled.
  const fits = Math.max(64, 2 ** Math.ceil(Math.log2(headSize)));
  return {
    ...common,
    headSize: fits,
    tile: Math.min(8, 1024 / fits),
    lanes: 32,
    block: 64,
    shuffles: false,
  };
}

/** One kernel over q, k and v as they lie; saved is a number a row. */
function fused(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions): Tensor {
  const { keyMask, fused: _, onPattern: __, ...how } = options;
  const mask = keyMask ? [keyMask] : [];
  for (const t of [q, k, v, ...mask]) t.use();
  const call = kernelCalls(q.shape, k.shape, how);
  const y = empty(q.device, q.shape);
  const lse = empty(q.device, [q.size / q.dim(3)]);
  const made = kernelVariant(q.dim(3), options, q.device.capabilities);
  call(attentionForward(made), [q, k, v, ...mask, y, lse], made.tile, 'queries', 2);
  const result = operation('attention', [q, k, v], y, [q, k, v, lse, ...mask], (dy, saved, needs) => {
    const [q, k, v, lse, keyMask] = saved as [Tensor, Tensor, Tensor, Tensor, Tensor?];
    return backward([q, k, v, dy], lse, { ...how, ...(keyMask ? { keyMask } : {}) }, needs);
  });
  lse.dispose();
  return result;
}

/** Dispatches kernels over the rows of queries [B, Q, heads, D], or over the keys [B, K, keyHeads, D], of these shapes. */
export function kernelCalls(
  ofQueries: readonly number[],
  ofKeys: readonly number[],
  { scale, cap, ...seen }: Pick<AttentionOptions, keyof ScoreOptions | 'causal'>,
) {
  const [batch, queries, heads, headSize] = ofQueries as [number, number, number, number];
  const [, keys, keyHeads] = ofKeys as [number, number, number];
  const group = heads / keyHeads;
  const rows = queries * group;
  const { before, after, past } = seenKeys(queries, keys, seen);
  const params = [rows, queries, heads, group, keys, keyHeads, scale ?? 1 / Math.sqrt(headSize), cap ?? 0];
  params.push(before, after, past, headSize, batch * heads * queries);
  return (
    kernel: ReturnType<typeof attentionForward>,
    operands: readonly Tensor[],
    tile: number,
    over: 'queries' | 'keys',
    products: number,
  ): void =>
    operands[0]!.device.dispatch(
      kernel,
      operands.map((t) => t.storage.window()),
      params,
      [Math.ceil((over === 'queries' ? rows : keys) / tile), keyHeads, batch],
      2 * products * batch * heads * queries * keys * headSize,
    );
}

/** Cotangents of q, k, v as needed, each an operation of its own, whose gradient comes through the twin. */
function backward(
  inputs: readonly [Tensor, Tensor, Tensor, Tensor],
  lse: Tensor,
  options: AttentionOptions,
  needs: readonly boolean[],
): (Tensor | null)[] {
  const [q, k, v, dy] = inputs;
  const { keyMask, ...how } = options;
  const mask = keyMask ? [keyMask] : [];
  const call = kernelCalls(q.shape, k.shape, how);
  const made = kernelVariant(q.dim(3), options, q.device.capabilities);
  const stats = empty(q.device, [ATTENTION_STATISTICS, lse.size]);
  call(attentionStatistics(made), [q, k, v, ...mask, dy, lse, stats], made.tile, 'queries', 2);
  const operands = [q, k, v, ...mask, dy, stats];
  const [dq, dk, dv] = [needs[0] ? q : null, ...(needs[1] || needs[2] ? [k, v] : [null, null])].map(
    (t) => t && empty(t.device, t.shape),
  ) as [Tensor | null, Tensor | null, Tensor | null];
  if (dq) call(attentionBackwardQueries(made), [...operands, dq], made.tile, 'queries', 3);
  if (dk && dv) call(attentionBackwardKeys(made), [...operands, dk, dv], made.tile, 'keys', 4);
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
