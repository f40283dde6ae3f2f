/**
 * Attention of rows that share a prefix: each attends to the prefix's keys and values, held once for all of them, and to a key
 * and value of its own (decoding; Juravsky et al. 2024, "Hydragen: High-Throughput LLM Inference with Shared Prefixes").
 *
 * The fused path runs the kernels of attention over the prefix, all rows queries of one place, and keys and
 * values are read as they lie; what the row itself adds is a second softmax of one key, and two softmaxes over parts of
 * the keys are one by the logarithms of their sums (Milakov & Gimelshein 2018).
 */

import { DOMINATES } from '../../kernels/index.ts';
import { ShapeError } from '../errors.ts';
import { callback, checkOptions, flag, optionsSchema } from '../options.ts';
import { scope } from '../scope.ts';
import {
  checkTensors,
  isRecording,
  noGrad,
  oneDevice,
  operation,
  showShape,
  type Tensor,
} from '../tensor.ts';
import { attentionKernels, byHeads, fitKernels, fusedKeys } from './attentionKernels.ts';
import {
  abs,
  add,
  affine,
  exp,
  greater,
  log,
  maximum,
  mul,
  neg,
  sigmoid,
  softcap,
  softcapDerivative,
  sub,
  where,
} from './elementwise.ts';
import { matmul } from './matmul.ts';
import { sum } from './reduce.ts';
import { attentionPattern, SCORE_NAMES, type ScoreOptions, scoreFields } from './scores.ts';
import { broadcastTo, concat, permute, reshape, slice } from './shape.ts';
import { cotangentTwin, throughTwin } from './twin.ts';

/** Keys and values [keyHeads, S, D] that all rows see. */
export interface SharedPrefix {
  readonly keys: Tensor;
  readonly values: Tensor;
}

/** How rows behind a prefix are computed. Each row's own key is its last: a `window` bounds how much of the prefix it sees. */
export interface PrefixAttentionOptions extends ScoreOptions {
  /**
   * Kernels that keep no probabilities, forward and backward; by default on a GPU, and on a CPU driver from {@link FUSED_KEYS} keys on,
   * the row's own included. Not where the pattern is to be seen, or gradients of the prefix are recorded. On a CPU products stay faster:
   * behind 4,096 keys kernels take 1.3 times as long for 1 row and 1.5 times for 16 (`npm run bench -- --suite attention`).
   */
  readonly fused?: boolean;
  /** Sees, and may replace, the attention probabilities [rows, heads, 1, S + 1], the row itself last. */
  readonly onPattern?: (pattern: Tensor) => Tensor;
}

const prefixAttentionOptions = optionsSchema<PrefixAttentionOptions>(
  { ...scoreFields, fused: flag, onPattern: callback() },
  SCORE_NAMES,
);

/**
 * softmax(scale q k^T) v, scale 1 / sqrt(D) by default, over the keys and values of a prefix (null: none) and each row's own: q
 * [R, heads, D], k and v [R, keyHeads, D] with heads a multiple of keyHeads. Result [R, heads, D]. A row gives the same bits alone
 * and beside others.
 * @throws ShapeError
 * @example
 * ```ts
 * import { openDevice, prefixAttention, tensor, zeros } from 'neurgrad/engine';
 *
 * const device = await openDevice();
 * // Two rows of one head of size 2 behind one key; equal scores mix the values equally.
 * const [q, k] = [zeros(device, [2, 1, 2]), zeros(device, [2, 1, 2])];
 * const v = tensor(device, [3, 3, 5, 5], [2, 1, 2]);
 * const prefix = { keys: zeros(device, [1, 1, 2]), values: tensor(device, [1, 1], [1, 1, 2]) };
 * console.log([...(await prefixAttention(q, k, v, prefix).read())]); // → [ 2, 2, 3, 3 ]
 * device.destroy();
 * ```
 */
export function prefixAttention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  prefix: SharedPrefix | null,
  options: PrefixAttentionOptions = {},
): Tensor {
  checkOptions('prefixAttention', prefixAttentionOptions, options);
  checkTensors('prefixAttention', { q, k, v });
  const [keyHeads, size] = [k.dim(1), q.dim(2)];
  const shared = prefix ? [prefix.keys, prefix.values] : [];
  oneDevice('prefixAttention', q, k, v, ...shared);
  if (
    [q, k, v, ...shared].some((t) => t.rank !== 3 || t.dim(2) !== size) ||
    k.shape.join() !== v.shape.join() ||
    k.dim(0) !== q.dim(0) ||
    q.dim(1) % keyHeads !== 0 ||
    shared.some((t) => t.dim(0) !== keyHeads || t.dim(1) !== shared[0]!.dim(1))
  )
    throw new ShapeError(
      'prefixAttention',
      `q ${showShape(q)}, k ${showShape(k)}, v ${showShape(v)}, prefix ${shared.map(showShape).join(', ')} are not [rows, heads, D], [rows, keyHeads, D] twice and [keyHeads, tokens, D] twice`,
    );
  const wanted =
    prefix !== null &&
    (options.fused ?? prefix.keys.dim(1) + 1 >= fusedKeys(q.device.capabilities)) &&
    fitKernels(byHeads(q.shape, prefix.keys.shape), q, k, v, ...shared);
  const seen = options.window?.before !== 0;
  return wanted && seen && !options.onPattern && !isRecording(shared)
    ? fused(q, k, v, prefix, options)
    : prefixAttentionTwin(q, k, v, prefix, options);
}

/** How rows [R, heads, ...] and their queries by key head [keyHeads, R, group, ...] become one another. */
function places(q: Tensor, k: Tensor, { scale = 1 / Math.sqrt(q.dim(2)), cap }: ScoreOptions) {
  const [rows, heads, size] = q.shape as [number, number, number];
  const keyHeads = k.dim(1);
  const group = heads / keyHeads;
  return {
    /** [R, heads, n] to [keyHeads, R, group, n]. */
    gather: (x: Tensor, n: number): Tensor => permute(reshape(x, [rows, keyHeads, group, n]), [1, 0, 2, 3]),
    scatter: (x: Tensor, n: number): Tensor =>
      reshape(permute(reshape(x, [keyHeads, rows, group, n]), [1, 0, 2, 3]), [rows, heads, n]),
    /** [R, keyHeads, D], a row for each of the heads that share it. */
    perHead: (x: Tensor): Tensor =>
      reshape(broadcastTo(reshape(x, [rows, keyHeads, 1, size]), [rows, keyHeads, group, size]), q.shape),
    /** Sums over those heads. */
    perKeyHead: (x: Tensor): Tensor => sum(reshape(x, [rows, keyHeads, group, size]), 2),
    /** Scores of products, and their derivatives times `x`. */
    score: (products: Tensor): Tensor =>
      cap === undefined ? affine(products, scale, 0) : softcap(products, cap, scale),
    slope: (products: Tensor, x: Tensor): Tensor =>
      cap === undefined ? affine(x, scale, 0) : mul(x, softcapDerivative(products, cap, scale)),
  };
}

/** a . b of each head, [R, heads, 1]. */
const dots = (a: Tensor, b: Tensor): Tensor => sum(mul(a, b), -1, true);

/** Saved is a number a head: the logarithm of the sum over all keys. */
function fused(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  prefix: SharedPrefix,
  { fused: _, onPattern: __, ...how }: PrefixAttentionOptions,
): Tensor {
  const { perHead, score } = places(q, k, how);
  const { keys, values } = prefix;
  for (const t of [keys, values]) t.use();
  const recording = isRecording([q, k, v]);
  const [y, lse] = noGrad(() =>
    scope((): [Tensor, Tensor | null] => {
      const [mixed, sums] = kernels(q, prefix, how).forward(q, keys, values);
      const past = reshape(sums, [...q.shape.slice(0, -1), 1]);
      const own = score(dots(q, perHead(k)));
      const share = sigmoid(sub(past, own));
      const y = add(mul(mixed, share), mul(perHead(v), affine(share, -1, 1)));
      // log(e^past + e^own), of which no part overflows.
      const sum = () => add(maximum(past, own), log(affine(exp(neg(abs(sub(past, own)))), 1, 1)));
      return [y, recording ? sum() : null];
    }),
  );
  if (!lse) return y;
  const saved = [q, k, v, lse, prefix.keys, prefix.values];
  const result = operation('prefixAttention', [q, k, v], y, saved, (dy, saved, needs) => {
    const [q, k, v, lse, keys, values] = saved as [Tensor, Tensor, Tensor, Tensor, Tensor, Tensor];
    return backward([q, k, v, dy], lse, { keys, values }, how, needs);
  });
  lse.dispose();
  return result;
}

/** The kernels over a prefix, whose last token a window reaches one key less far behind than the rows themselves. */
function kernels(q: Tensor, { keys }: SharedPrefix, how: ScoreOptions) {
  const before = how.window?.before;
  return attentionKernels(
    { ...byHeads(q.shape, keys.shape), together: true },
    { ...how, window: before === undefined ? {} : { before: before - 1 } },
    q.device,
  );
}

/**
 * Cotangents of q, k, v as needed; the prefix is a constant. P of any key is e^(score - lse), and what its score's cotangent is
 * made of (kernels/attentionParts.ts) are sums over the past, which a kernel finds, and the row's own key.
 */
function backward(
  inputs: readonly [Tensor, Tensor, Tensor, Tensor],
  lse: Tensor,
  prefix: SharedPrefix,
  how: ScoreOptions,
  needs: readonly boolean[],
): (Tensor | null)[] {
  const [q, k, v, dy] = inputs;
  const { perHead, perKeyHead, score, slope } = places(q, k, how);
  const results = noGrad(() =>
    scope(() => {
      const products = dots(q, perHead(k));
      const own = exp(sub(score(products), lse));
      const dv = needs[2] ? perKeyHead(mul(own, dy)) : null;
      if (!needs[0] && !needs[1]) return [null, null, dv];
      const { keys, values } = prefix;
      const run = kernels(q, prefix, how);
      const past = run.statistics(q, keys, values, dy, lse);
      const ofPast = (i: number): Tensor =>
        reshape(slice(past.stats, [0, i], [past.stats.dim(0), i + 1]), [...q.shape.slice(0, -1), 1]);
      const dOwn = dots(dy, perHead(v));
      const sure = greater(own, DOMINATES);
      const unsure = where(sure, 0, own);
      const others = add(ofPast(1), mul(unsure, dOwn));
      const rest = add(ofPast(2), unsure);
      const surest = where(sure, dOwn, ofPast(3));
      const delta = sub(others, mul(surest, rest));
      const dProducts = mul(own, slope(products, sub(sub(dOwn, surest), delta)));
      const ofQueries = (): Tensor => {
        const all = [ofPast(0), others, rest, surest, ofPast(4)];
        const stats = concat(
          all.map((x) => reshape(x, [lse.size, 1])),
          1,
        );
        return run.queries(q, keys, values, dy, { ...past, stats });
      };
      return [
        needs[0] ? add(ofQueries(), mul(dProducts, perHead(k))) : null,
        needs[1] ? perKeyHead(mul(dProducts, q)) : null,
        dv,
      ];
    }),
  );
  return results.map(
    (result, which) =>
      result &&
      operation(
        'prefixAttentionBackward',
        inputs,
        result,
        [...inputs, prefix.keys, prefix.values],
        throughTwin(4, (q, k, v, dy, keys, values) =>
          cotangentTwin(
            (q, k, v) => prefixAttentionTwin(q!, k!, v!, { keys: keys!, values: values! }, how),
            [q!, k!, v!],
            dy!,
            which,
          ),
        ),
      ),
  );
}

/** The same in products and softmax: all rows are queries of one product with the prefix's keys. */
export function prefixAttentionTwin(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  prefix: SharedPrefix | null,
  options: PrefixAttentionOptions = {},
): Tensor {
  checkOptions('prefixAttentionTwin', prefixAttentionOptions, options);
  const { fused: _, onPattern = (pattern) => pattern, ...how } = options;
  const [rows, heads, size] = q.shape as [number, number, number];
  const { gather, scatter, perHead } = places(q, k, how);
  const keyHeads = k.dim(1);
  const length = prefix?.keys.dim(1) ?? 0;
  const queries = (x: Tensor, n: number): Tensor => reshape(gather(x, n), [keyHeads, -1, n]);
  let products = dots(q, perHead(k));
  if (prefix && length > 0) {
    const before = matmul(queries(q, size), prefix.keys, { transB: true });
    products = concat([scatter(before, length), products], -1);
  }
  const probabilities = attentionPattern(reshape(products, [rows, heads, 1, length + 1]), size, how);
  const pattern = reshape(onPattern(probabilities), [rows, heads, length + 1]);
  const own = mul(slice(pattern, [0, 0, length], [rows, heads, length + 1]), perHead(v));
  if (!prefix || length === 0) return own;
  const shared = slice(pattern, [0, 0, 0], [rows, heads, length]);
  return add(scatter(matmul(queries(shared, length), prefix.values), size), own);
}
