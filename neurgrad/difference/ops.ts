/**
 * The closed forms of kernels/difference.ts over tensors, and the tokens they walk over.
 *
 * Outputs are plain tensors without a place in any tape: a sweep asks for no gradients.
 */

import {
  add,
  type Device,
  empty,
  integers,
  linear,
  matmul,
  permute,
  reshape,
  scope,
  type Tensor,
  unpick,
  zeros,
} from '../../engine/index.ts';
import { wholeTexture } from '../../engine/memory.ts';
import { headProducts } from '../../engine/ops/headProducts.ts';
import { curveSums as curveKernel } from '../../kernels/curve.ts';
import {
  activationDifference as activationKernel,
  addOwn,
  capDifference as capKernel,
  cappedScoreDifference,
  gatedDifference as gatedKernel,
  injectColumns,
  keyDifference,
  lineDifference as lineKernel,
  mixDifference,
  NONE,
  normDifference as normKernel,
  patternDifference,
  projectedMix,
  projectedScore,
  RECORD,
  TARGET_FIELDS,
  TOKEN_FIELDS,
  targetDifference as targetKernel,
} from '../../kernels/difference.ts';
import {
  ACTIVATIONS,
  type ActivationName,
  groupGrid,
  type Kernel,
  linearGrid,
  type Norm,
} from '../../kernels/index.ts';
import type { Quantity } from '../../models/model.ts';
import type { Rounding } from '../rounding.ts';

export { NONE, TARGET_FIELDS };

/** Slack on |s| <= range in float32, whose decimals are rounded. */
const RANGE_SLACK = 1e-6;
const LARGEST_FLOAT = 3e38;

export type TokenRecord = Readonly<Record<(typeof TOKEN_FIELDS)[number], number>>;

/** Token records on the device, as the kernels read them. */
export function tokenTensor(device: Device, records: readonly TokenRecord[]): Tensor {
  const flat = new Uint32Array(records.length * RECORD);
  for (const [i, record] of records.entries())
    for (const [f, name] of TOKEN_FIELDS.entries()) flat[i * RECORD + f] = record[name];
  return integers(device, flat, [records.length, RECORD]);
}

function run(
  kernel: Kernel,
  tensors: readonly Tensor[],
  params: readonly number[],
  grid: [number, number, number],
  flops: number,
): void {
  tensors[0]!.device.dispatch(
    kernel,
    tensors.map((t) => t.storage.window()),
    params,
    grid,
    flops,
  );
}

/**
 * norm(x + d) - norm(x), times weight; d [tokens, ...], x the base rows of the tokens. Where weight is shorter than a token's
 * values, each part of them of its length is a row of its own (queries and keys normalised by head).
 */
export function normDifference(
  kind: Norm,
  base: Tensor,
  token: Tensor,
  d: Tensor,
  weight: Tensor,
  eps: number,
): Tensor {
  const y = empty(d.device, d.shape);
  const length = weight.dim(0);
  const rows = d.size / length;
  run(
    normKernel(kind, d.device.rowLanes),
    [base, token, d, weight, y],
    [rows, length, rows / token.dim(0), eps],
    groupGrid(rows),
    12 * d.size,
  );
  return y;
}

/** f(x + d) - f(x), f an activation; d [rows, length], x the base rows of the tokens. */
export function activationDifference(act: ActivationName, base: Tensor, token: Tensor, d: Tensor): Tensor {
  return elementwise((wide) => activationKernel(act, wide), [base, token, d], ACTIVATIONS[act].operations);
}

/** f(g + dg) (u + du) - f(g) u. */
export function gatedDifference(
  act: ActivationName,
  gate: Tensor,
  up: Tensor,
  token: Tensor,
  dGate: Tensor,
  dUp: Tensor,
): Tensor {
  const inputs = [gate, up, token, dGate, dUp];
  return elementwise((wide) => gatedKernel(act, wide), inputs, ACTIVATIONS[act].operations);
}

/** f(x + d) - f(x) for f(x) = cap tanh(x / cap); d [rows, length], x the base rows of the tokens. */
export function capDifference(cap: number, base: Tensor, token: Tensor, d: Tensor): Tensor {
  return elementwise(capKernel, [base, token, d], 40, [cap]);
}

/** Of the shape of the last of its inputs, whose elements are taken four at a time where a row's length allows. */
function elementwise(
  kernel: (wide: boolean) => Kernel,
  inputs: readonly Tensor[],
  operations: number,
  params: readonly number[] = [],
): Tensor {
  const d = inputs.at(-1)!;
  const y = empty(d.device, d.shape);
  const unit = d.dim(1) % 4 === 0 ? 4 : 1;
  const n = d.size / unit;
  run(
    kernel(unit === 4),
    [...inputs, y],
    [n, d.dim(1) / unit, ...params],
    linearGrid(n),
    operations * d.size,
  );
  return y;
}

/** Heads of an attention, and the longest prompt among the tokens. */
export interface AttentionShape {
  readonly heads: number;
  readonly keyValueHeads: number;
  readonly headSize: number;
  readonly keys: number;
  /** What q k^T is multiplied by; default 1 / sqrt(headSize). */
  readonly scale?: number | undefined;
  /** Scores are cap tanh(score / cap), the scale included; default: as they are. */
  readonly cap?: number | undefined;
}

/** Base of an attention: q [queries, heads * D], k and v [keys, keyHeads * D], pattern flat. */
export interface AttentionBase {
  readonly q: Tensor;
  readonly k: Tensor;
  readonly v: Tensor;
  readonly pattern: Tensor;
}

/** Neighbouring rows that belong to one prompt, and its keys in the base. */
export interface PromptRows {
  /** [from, to) */
  readonly from: number;
  readonly to: number;
  readonly keys: number;
  readonly keyStart: number;
}

/** The tokens whose attention changes. */
export interface AttentionTokens {
  /** Token records. */
  readonly records: Tensor;
  /** Of the tokens, of the changed queries, and of all queries of the base. */
  readonly tokens: readonly PromptRows[];
  readonly queries: readonly PromptRows[];
  readonly base: readonly PromptRows[];
  /** Whether token i's query is changed query i, for each of them. */
  readonly inOrder: boolean;
  /** Most keys that changed for any token. */
  readonly changed: number;
}

const scaleOf = ({ scale, headSize }: AttentionShape): number => scale ?? 1 / Math.sqrt(headSize);
const groupOf = ({ heads, keyValueHeads }: AttentionShape): number => heads / keyValueHeads;

/** Products of queries [rows, heads * D] with the base's keys, one a prompt for all its rows: [rows, heads, keys]. */
function keyProducts(
  shape: AttentionShape,
  queries: Tensor,
  { k }: AttentionBase,
  prompts: readonly PromptRows[],
): Tensor {
  const { heads, headSize, keys: stride } = shape;
  const width = heads * headSize;
  const y = empty(k.device, [queries.dim(0), heads, stride]);
  for (const { from, to, keys, keyStart } of prompts)
    headProducts(
      { of: queries, first: from * width, row: width, head: headSize },
      { of: k, first: keyStart * k.dim(1), row: k.dim(1), head: headSize },
      { of: y, first: from * heads * stride, row: heads * stride, head: stride },
      { m: to - from, n: keys, k: headSize, transB: true },
      { heads, group: groupOf(shape) },
    );
  return y;
}

/** Changes of the products of queries and keys [tokens, heads, keys] by changed queries alone; they may be written to. */
function queryDifference(
  shape: AttentionShape,
  base: AttentionBase,
  { records, queries, inOrder }: AttentionTokens,
  dq: Tensor | null,
): Tensor {
  const { heads, keys } = shape;
  const length = heads * keys;
  const rows = records.dim(0);
  if (!dq) return zeros(records.device, [rows, heads, keys]);
  const products = keyProducts(shape, dq, base, queries);
  if (inOrder) return products;
  const still = zeros(records.device, [rows, length]);
  return reshape(addOwnChange(still, records, reshape(products, [-1, length]), 'query'), [rows, heads, keys]);
}

/** From the changes of products [tokens, heads, keys] to those of probabilities, in place. */
function probabilities(
  shape: AttentionShape,
  base: AttentionBase,
  { records, base: prompts }: AttentionTokens,
  change: Tensor,
): void {
  const { heads, keys, cap } = shape;
  const rows = records.dim(0) * heads;
  if (cap !== undefined)
    run(
      cappedScoreDifference(),
      [keyProducts(shape, base.q, base, prompts), records, change],
      [change.size, heads * keys, keys, scaleOf(shape), cap],
      linearGrid(change.size),
      40 * change.size,
    );
  run(
    patternDifference(),
    [base.pattern, records, change],
    [rows, heads, keys, cap === undefined ? scaleOf(shape) : 1],
    linearGrid(rows),
    20 * change.size,
  );
}

/** Values of the base mixed by changes of probabilities, one product a prompt: [tokens, heads * D]. */
function mixed(
  shape: AttentionShape,
  { v }: AttentionBase,
  { tokens }: AttentionTokens,
  change: Tensor,
): Tensor {
  const { heads, headSize, keys: stride } = shape;
  const width = heads * headSize;
  const y = empty(v.device, [change.dim(0), width]);
  for (const { from, to, keys, keyStart } of tokens)
    headProducts(
      { of: change, first: from * heads * stride, row: heads * stride, head: stride },
      { of: v, first: keyStart * v.dim(1), row: v.dim(1), head: headSize },
      { of: y, first: from * width, row: width, head: headSize },
      { m: to - from, n: headSize, k: keys, transB: false },
      { heads, group: groupOf(shape) },
    );
  return y;
}

/**
 * Change of softmax(scores) v at `tokens`; dq is null where no query changed. Keys that a query may not see (behind it, outside
 * a window, padding) have base probability 0, and keep it.
 *
 * All rows of a prompt share its keys and values, so what their changes do there is one product; changed keys and
 * values are a row's own.
 */
export function attentionDifference(
  shape: AttentionShape,
  base: AttentionBase,
  tokens: AttentionTokens,
  dq: Tensor | null,
  dk: Tensor,
  dv: Tensor,
): Tensor {
  const { heads, headSize, keys } = shape;
  const { records, changed } = tokens;
  const group = groupOf(shape);
  const wide = headSize % 4 === 0;
  const size = wide ? headSize / 4 : headSize;
  const rows = records.dim(0);
  return scope(() => {
    const change = queryDifference(shape, base, tokens, dq);
    run(
      keyDifference(wide, dq !== null),
      [base.q, records, ...(dq ? [dq] : []), dk, change],
      [rows * heads * changed, heads, group, size, keys, changed],
      linearGrid(rows * heads * changed),
      2 * rows * heads * changed * headSize,
    );
    probabilities(shape, base, tokens, change);
    const y = mixed(shape, base, tokens, change);
    run(
      mixDifference(wide),
      [base.pattern, records, change, dv, y],
      [rows * heads * size, heads, group, size, keys],
      linearGrid(rows * heads * size),
      2 * y.size * changed,
    );
    return y;
  });
}

/**
 * The same for few queries that see many changed tokens, from the changes dx [N, H] that keys and values are linear maps
 * of: the maps are moved to the queries' side, one product a query in place of one a changed token.
 */
export function projectedAttentionDifference(
  shape: AttentionShape,
  base: AttentionBase,
  tokens: AttentionTokens,
  query: Tensor,
  dq: Tensor | null,
  dx: Tensor,
  weights: { readonly k: Tensor; readonly v: Tensor },
): Tensor {
  const { heads, headSize, keys } = shape;
  const { records } = tokens;
  const rows = records.dim(0);
  const width = dx.dim(1);
  const byHead = (w: Tensor): Tensor => reshape(w, [heads, headSize, width]);
  const quads = width % 4 === 0 ? 4 : 1;
  return scope(() => {
    const change = queryDifference(shape, base, tokens, dq);
    const asked = permute(reshape(query, [rows, heads, headSize]), [1, 0, 2]);
    const turned = matmul(asked, byHead(weights.k));
    run(
      projectedScore(quads === 4),
      [turned, records, dx, change],
      [change.size, heads, rows, width / quads, keys],
      linearGrid(change.size),
      2 * change.size * width,
    );
    probabilities(shape, base, tokens, change);
    const still = mixed(shape, base, tokens, change);
    const gathered = empty(dx.device, [heads, rows, width]);
    run(
      projectedMix(quads === 4),
      [base.pattern, records, change, dx, gathered],
      [gathered.size / quads, heads, rows, width / quads, keys],
      linearGrid(gathered.size / quads),
      2 * gathered.size * keys,
    );
    const moved = permute(matmul(gathered, byHead(weights.v), { transB: true }), [1, 0, 2]);
    return add(still, reshape(moved, [rows, heads * headSize]));
  });
}

/** a plus the change that the token already had before the layer; d has a row a changed input (`own`), or a changed query. */
export function addOwnChange(a: Tensor, token: Tensor, d: Tensor, of: 'own' | 'query'): Tensor {
  const y = empty(a.device, a.shape);
  run(addOwn(of), [a, token, d, y], [a.size, a.dim(1)], linearGrid(a.size), a.size);
  return y;
}

/** scale[r] * w[:, column[r]] for w [H, I]: what a shift of neuron `column` (u32) adds to its layer's output. */
export function injectNeurons(w: Tensor, column: Tensor, scale: Tensor): Tensor {
  const [length, width] = [w.dim(0), w.dim(1)];
  return scope(() => {
    const { panels } = w.storage;
    if (panels) {
      const y = empty(w.device, [column.size, length]);
      const { columns, rows } = panels.layout;
      w.device.dispatch(
        injectColumns(true),
        [wholeTexture(panels.texture), ...[column, scale, y].map((t) => t.storage.window())],
        [y.size, length, columns, rows],
        linearGrid(y.size),
        y.size,
      );
      return y;
    }
    if (w.dtype === 'f32' && w.storage.segments.length === 1) {
      const y = empty(w.device, [column.size, length]);
      run(injectColumns(), [w, column, scale, y], [y.size, length, width], linearGrid(y.size), y.size);
      return y;
    }
    // Weights stored in fewer bits or over several buffers: one-hot rows through the ordinary product, as exact.
    return linear(unpick(scale, column, width), w);
  });
}

/** Whose target a row moves, and how much more than the rest of it its shift is uncertain (injection.ts). */
export interface TargetRow {
  readonly base: number;
  readonly target: number;
  readonly condition: number;
}

/** A row as {@link targetDifference} reads it. */
export const targetRecord = ({ base, target, condition }: TargetRow): [number, number, number] => [
  base,
  target,
  bits(condition),
];

/** TARGET_FIELDS of each row, whose records are u32 [rows, 3]: see the kernel. `logprobs` [cases, V]. */
export function targetDifference(logprobs: Tensor, records: Tensor, dLogits: Tensor): Tensor {
  return targets(targetKernel(dLogits.device.rowLanes), logprobs, records, [dLogits], [dLogits.dim(1)]);
}

/** A shift in the last layer: which of the lines, and how far along it. */
export interface LineRow extends TargetRow {
  readonly line: number;
  readonly scale: number;
}

/** The same of rows along lines of the final residual x [cases, H]: columns w [lines, H], their logits [lines, V]. */
export function lineDifference(
  base: { readonly logprobs: Tensor; readonly logits: Tensor; readonly final: Tensor },
  columns: Tensor,
  lines: Tensor,
  rows: readonly LineRow[],
  eps: number,
): Tensor {
  const records = rows.map((row) => [...targetRecord(row), row.line, bits(row.scale)]);
  return scope(() =>
    targets(
      lineKernel(lines.device.rowLanes),
      base.logprobs,
      integers(lines.device, records.flat(), [rows.length, 5]),
      [base.logits, base.final, columns, lines],
      [lines.dim(1), columns.dim(1), eps],
    ),
  );
}

const float = new Float32Array(1);
const integer = new Uint32Array(float.buffer);
/** A float32 among integers. */
function bits(value: number): number {
  float[0] = value;
  return integer[0]!;
}

function targets(
  kernel: Kernel,
  logprobs: Tensor,
  records: Tensor,
  inputs: readonly Tensor[],
  params: readonly number[],
): Tensor {
  const rows = records.dim(0);
  const y = empty(logprobs.device, [rows, TARGET_FIELDS.length]);
  run(
    kernel,
    [logprobs, records, ...inputs, y],
    [rows, ...params],
    groupGrid(rows),
    20 * rows * logprobs.dim(1),
  );
  return y;
}

/** Sums over each curve's rows of `moved` into y, those of p for a plain p of 1: see the kernel. `first` u32 [curves], shifts [points]. */
export function reduceCurves(
  how: {
    readonly of: Quantity;
    readonly rounding: Rounding;
    readonly range: number;
    readonly includeZero: boolean;
  },
  moved: Tensor,
  first: Tensor,
  shifts: Tensor,
  y: Tensor,
): void {
  const range = Math.min(how.range * (1 + RANGE_SLACK), LARGEST_FLOAT);
  const { plain, change, single, shift, share } = how.rounding;
  run(
    curveKernel(how.of),
    [moved, first, shifts, y],
    [first.size, shifts.size, plain, change, single, shift, share, range, how.includeZero ? 1 : 0],
    linearGrid(first.size),
    30 * first.size * shifts.size,
  );
}
