/**
 * Rotary positions and scaled dot-product attention (Vaswani et al. 2017), with grouped key/value heads (Ainslie et al. 2023).
 */

import { attentionForward, fusesHead, linearGrid, rotary as rotaryKernel } from '../../kernels/index.ts';
import type { Device } from '../device.ts';
import { ShapeError } from '../errors.ts';
import { empty, operation, type Tensor, tensor } from '../tensor.ts';
import { matmul } from './matmul.ts';
import { permute, reshape } from './shape.ts';
import { softmax } from './softmax.ts';
import { throughTwin } from './twin.ts';

const show = (t: Tensor): string => `[${t.shape.join(', ')}]`;

/** Cosines and sines of position * theta^(-2i / D), [positions, D / 2] each, computed in float64. */
export interface RotaryTable {
  readonly cosine: Tensor;
  readonly sine: Tensor;
}

/** A table for `positions` positions of heads of an even size. */
export function rotaryTable(device: Device, positions: number, headSize: number, theta: number): RotaryTable {
  const half = headSize / 2;
  const cosine = new Float32Array(positions * half);
  const sine = new Float32Array(positions * half);
  for (let position = 0; position < positions; position++)
    for (let i = 0; i < half; i++) {
      const angle = position * theta ** ((-2 * i) / headSize);
      cosine[position * half + i] = Math.cos(angle);
      sine[position * half + i] = Math.sin(angle);
    }
  return {
    cosine: tensor(device, cosine, [positions, half], 'weights'),
    sine: tensor(device, sine, [positions, half], 'weights'),
  };
}

/** x [tokens..., heads, D] turned by its tokens' positions (u32, one a token). `direction` -1 turns back. */
export function rotary(x: Tensor, positions: Tensor, table: RotaryTable, direction: 1 | -1 = 1): Tensor {
  for (const t of [x, positions, table.cosine, table.sine]) t.use();
  const [heads, headSize] = [x.dim(-2), x.dim(-1)];
  if (
    headSize % 2 !== 0 ||
    headSize / 2 !== table.cosine.dim(1) ||
    positions.size * heads * headSize !== x.size
  )
    throw new ShapeError('rotary', `x ${show(x)}, positions ${show(positions)}, table ${show(table.cosine)}`);
  const y = empty(x.device, x.shape);
  const n = x.size / 2;
  if (n > 0)
    x.device.dispatch(
      rotaryKernel(),
      [x, positions, table.cosine, table.sine, y].map((t) => t.storage.window()),
      [n, heads, headSize / 2, direction],
      linearGrid(n),
      6 * n,
    );
  return operation('rotary', [x], y, [positions, table.cosine, table.sine], (dy, saved) => {
    const [positions, cosine, sine] = saved as [Tensor, Tensor, Tensor];
    return [rotary(dy, positions, { cosine, sine }, direction === 1 ? -1 : 1)];
  });
}

/** What a query may see, and how it is computed. */
export interface AttentionOptions {
  /** u32 [batch, keys]: 0 hides a key from every query. */
  readonly keyMask?: Tensor;
  /** Query q sees keys 0 ... q + keys - queries. */
  readonly causal?: boolean;
  /**
   * One kernel that keeps no pattern; default for long prompts (see `LONG` in this file). Not where the pattern is to be seen,
   * nor for heads that do not fit into registers.
   */
  readonly fused?: boolean;
  /** Sees, and may replace, the attention probabilities [batch, heads, queries, keys]. */
  readonly onPattern?: (pattern: Tensor) => Tensor;
}

/**
 * Queries times keys from which on the pattern is not kept. Below it products are as fast, and faster on a CPU. It must not
 * depend on batch or heads: a row alone takes the path that it takes in a batch.
 */
const LONG = 2 ** 22;

/**
 * softmax(q k^T / sqrt(D)) v: q [B, Q, heads, D], k and v [B, K, keyHeads, D] with heads a multiple of keyHeads; head h
 * attends with key head floor(h / group). Result [B, Q, heads, D]. One kernel, or where the pattern is to be seen, several
 * (equal but for rounding). @throws ShapeError
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
  const [batch, , heads, headSize] = q.shape as [number, number, number, number];
  const [, , keyHeads] = k.shape as [number, number, number];
  if (
    q.rank !== 4 ||
    k.rank !== 4 ||
    k.shape.join() !== v.shape.join() ||
    k.dim(0) !== batch ||
    k.dim(3) !== headSize ||
    heads % keyHeads !== 0
  )
    throw new ShapeError('attention', `q ${show(q)}, k ${show(k)}, v ${show(v)}`);
  const wanted = options.fused ?? q.dim(1) * k.dim(1) >= LONG;
  const single = [q, k, v].every((t) => t.dtype === 'f32' && t.storage.segments.length === 1);
  if (!wanted || options.onPattern || !fusesHead(headSize) || !single || q.size === 0 || k.size === 0)
    return attentionTwin(q, k, v, options);
  return fused(q, k, v, options);
}

/** One kernel over q, k and v as they lie. Its gradient recomputes the probabilities. */
function fused(q: Tensor, k: Tensor, v: Tensor, { keyMask, causal = false }: AttentionOptions): Tensor {
  const [batch, queries, heads, headSize] = q.shape as [number, number, number, number];
  const [, keys, keyHeads] = k.shape as [number, number, number];
  const mask = keyMask ? [keyMask] : [];
  for (const t of [q, k, v, ...mask]) t.use();
  if (keyMask && (keyMask.dtype !== 'u32' || keyMask.shape.join() !== `${batch},${keys}`))
    throw new ShapeError('attention', `mask ${keyMask.dtype} ${show(keyMask)} for keys ${show(k)}`);
  if (causal && keys < queries)
    throw new ShapeError('attention', `${queries} causal queries over ${keys} keys`);
  const y = empty(q.device, q.shape);
  const n = batch * heads * queries;
  q.device.dispatch(
    attentionForward(headSize, keyMask !== undefined),
    [q, k, v, ...mask, y].map((t) => t.storage.window()),
    [n, queries, keys, heads, keyHeads, 1 / Math.sqrt(headSize), causal ? 1 : 0, causal ? keys - queries : 0],
    linearGrid(n),
    4 * n * keys * headSize,
  );
  return operation(
    'attention',
    [q, k, v],
    y,
    [q, k, v, ...mask],
    throughTwin(3, (q, k, v, keyMask) =>
      attentionTwin(q!, k!, v!, { causal, ...(keyMask ? { keyMask } : {}) }),
    ),
  );
}

/** Attention in products, softmax and permutations: the path on which the pattern can be seen. */
export function attentionTwin(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions = {}): Tensor {
  const [batch, queries, heads, headSize] = q.shape as [number, number, number, number];
  const [, keys, keyHeads] = k.shape as [number, number, number];
  const group = heads / keyHeads;
  // Heads that share a key head become more query rows of one product: [B, keyHeads, group * Q, D].
  const byHead = reshape(permute(q, [0, 2, 1, 3]), [batch, keyHeads, group * queries, headSize]);
  const keysByHead = permute(k, [0, 2, 1, 3]);
  const valuesByHead = permute(v, [0, 2, 1, 3]);
  const scores = reshape(matmul(byHead, keysByHead, { transB: true }), [batch, heads, queries, keys]);
  let pattern = softmax(scores, {
    scale: 1 / Math.sqrt(headSize),
    causal: options.causal ?? false,
    ...(options.keyMask ? { keyMask: options.keyMask } : {}),
  });
  if (options.onPattern) pattern = options.onPattern(pattern);
  const mixed = matmul(reshape(pattern, [batch, keyHeads, group * queries, keys]), valuesByHead);
  return permute(reshape(mixed, [batch, heads, queries, headSize]), [0, 2, 1, 3]);
}
