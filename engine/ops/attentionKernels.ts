/**
 * Which kernels of attention run on a device, over rows wherever they lie: tiles on GPUs (kernels/attentionTiles.ts), or chunks of keys
 * where rows are few (attentionRows.ts); subgroups on CPU drivers (attentionLanes.ts). Nothing here changes a bit of a row with how many
 * rows there are.
 */

import {
  ATTENTION_CHUNK,
  ATTENTION_STATISTICS,
  ATTENTION_TILE,
  type AttentionLanesVariant,
  type AttentionTileVariant,
  attentionBackwardKeysLanes,
  attentionBackwardKeysRows,
  attentionBackwardKeysTiles,
  attentionBackwardQueriesLanes,
  attentionBackwardQueriesRows,
  attentionBackwardQueriesTiles,
  attentionForwardLanes,
  attentionForwardRows,
  attentionForwardTiles,
  attentionMerge,
  attentionStatisticsLanes,
  attentionStatisticsRows,
  attentionStatisticsTiles,
  chunkSums,
  columnParts,
  KEYS_OF_ROWS,
  type Kernel,
  linearGrid,
  MAX_GROUPS,
  WIDEST_ROW,
} from '../../kernels/index.ts';
import type { Capabilities } from '../device.ts';
import { NARROW_SUBGROUP } from '../matmulChoice.ts';
import { empty, type Tensor } from '../tensor.ts';
import type { PatternOptions } from './scores.ts';
import { seenKeys } from './window.ts';

/** How queries, keys and values lie. */
export interface AttentionRows {
  readonly batch: number;
  /** Of q [batch, queries, heads, size]. */
  readonly queries: number;
  readonly heads: number;
  readonly size: number;
  readonly keys: number;
  readonly keyHeads: number;
  /** From a key to the next, and from a key head to the next, in rows of a head; a batch has its keys' rows all together. */
  readonly keyStep: number;
  readonly headStep: number;
  /** All queries stand where the last one does. */
  readonly together?: boolean;
}

/** Of q [B, Q, heads, D] and keys [B, K, keyHeads, D]. */
export function byTokens(q: readonly number[], k: readonly number[]): AttentionRows {
  const [batch, queries, heads, size] = q as [number, number, number, number];
  const [, keys, keyHeads] = k as [number, number, number];
  return { batch, queries, heads, size, keys, keyHeads, keyStep: keyHeads, headStep: 1 };
}

/** Of q [Q, heads, D] and a cache's keys [keyHeads, K, D]. */
export function byHeads(q: readonly number[], k: readonly number[]): AttentionRows {
  const [queries, heads, size] = q as [number, number, number];
  const [keyHeads, keys] = k as [number, number];
  return { batch: 1, queries, heads, size, keys, keyHeads, keyStep: 1, headStep: keys };
}

/**
 * Keys from which on probabilities are not kept on a CPU driver: below it products are faster there. It must not depend on batch, heads
 * or queries: a row alone takes the path that it takes in a batch.
 */
export const FUSED_KEYS = 2048;

/** Whether this is a GPU's device. */
export const isWide = ({ subgroupSize }: Capabilities): boolean => subgroupSize > NARROW_SUBGROUP;

/** The same on this device: a GPU keeps none. */
export const fusedKeys = (c: Capabilities): number => (isWide(c) ? 1 : FUSED_KEYS);

/** Workgroup memory of the kernels for GPUs, and the least they can do with. */
const [ROOMY_BYTES, LEAST_BYTES] = [32768, 16384];

/** Fewest rows of a workgroup: a grid has {@link MAX_GROUPS} of them. */
const FEWEST_ROWS = 8;

/** Whether the kernels can read these, which lie so. */
export function fitKernels(
  { batch, queries, heads, size, keys, keyHeads }: AttentionRows,
  ...tensors: readonly Tensor[]
): boolean {
  const rows = Math.max((queries * heads) / keyHeads, keys);
  return (
    tensors.every((t) => t.dtype === 'f32' && t.size > 0 && t.storage.segments.length === 1) &&
    tensors[0]!.device.capabilities.workgroupBytes >= LEAST_BYTES &&
    rows <= FEWEST_ROWS * MAX_GROUPS &&
    Math.max(batch * columnParts(size), keyHeads) <= MAX_GROUPS
  );
}

/** Numbers of the rows that one workgroup of few takes at most: they lie in its memory. */
const MOST_OF_ROWS = 1024;

/** Workgroups below which keys are shared out among more: two for each processor of a large GPU. */
const FEW_GROUPS = 264;

type Kernels<V> = Record<'forward' | 'statistics' | 'queries' | 'keys', (v: V) => Kernel>;
const TILES: Kernels<AttentionTileVariant> = {
  forward: attentionForwardTiles,
  statistics: attentionStatisticsTiles,
  queries: attentionBackwardQueriesTiles,
  keys: attentionBackwardKeysTiles,
};
const LANES: Kernels<AttentionLanesVariant> = {
  forward: attentionForwardLanes,
  statistics: attentionStatisticsLanes,
  queries: attentionBackwardQueriesLanes,
  keys: attentionBackwardKeysLanes,
};

/** A kernel, and whether its workgroups take a chunk of keys each. */
interface Form {
  readonly kernel: Kernel;
  readonly cut: boolean;
  readonly grid: readonly [number, number, number];
}

/** What a backward starts from. */
export interface AttentionStatistics {
  /** [rows, {@link ATTENTION_STATISTICS}] */
  readonly stats: Tensor;
  /** Of few rows, products with each key and of their cotangents with each value [rows, keys, 2]; else they are made again. */
  readonly products: Tensor | null;
}

/** What of the options kernels heed, and `lastKey` on GPUs alone. */
export type KernelOptions = Omit<PatternOptions, 'causal'> & { readonly causal?: boolean };

/** The kernels over rows that lie so. */
export function attentionKernels(
  rows: AttentionRows,
  how: KernelOptions,
  { capabilities, info }: Tensor['device'],
) {
  const { batch, queries, heads, size, keys, keyHeads, keyStep, headStep, together = false } = rows;
  const { scale = 1 / Math.sqrt(size), cap, keyMask, lastKey, ...seen } = how;
  const group = heads / keyHeads;
  const count = batch * queries * heads;
  const { before, after, past } = seenKeys(queries, keys, seen);
  const places = together ? [before, after, keys - 1, 0] : [before, after, past, 1];
  const params = [queries * group, queries, group, keys, keyHeads, keyStep, headStep, scale, cap ?? 0];
  params.push(...places, size, 0);
  const common = { masked: keyMask !== undefined, capped: cap !== undefined };
  const lanes = !isWide(capabilities) && capabilities.subgroups && capabilities.subgroupSizeFixed;
  const chunks = Math.ceil(keys / ATTENTION_CHUNK);
  const masks = [keyMask, lastKey].filter((t) => t !== undefined);
  const of = (pass: keyof typeof TILES): Form => {
    const over = pass === 'keys' ? keys : queries * group;
    const parts = lanes || pass === 'statistics' ? 1 : columnParts(size);
    // Twice the rows would halve the loads, but drivers on a CPU take long to compile each of them.
    const groups = Math.ceil(over / (lanes ? 8 : ATTENTION_TILE));
    const cut =
      !lanes &&
      pass !== 'keys' &&
      chunks > 1 &&
      groups * chunks <= MAX_GROUPS &&
      groups * keyHeads * batch * parts < FEW_GROUPS;
    const kernel = lanes
      ? LANES[pass]({ ...common, lanes: capabilities.subgroupSize, tile: 8, each: 2, block: 128 })
      : TILES[pass]({
          ...common,
          size,
          bounded: lastKey !== undefined,
          cut,
          roomy: capabilities.workgroupBytes >= ROOMY_BYTES,
          rolled: info.software,
        });
    return { kernel, cut, grid: [groups * (cut ? chunks : 1), keyHeads, batch * parts] };
  };
  /** Of few rows, which read keys and values and little else: null where there are more, or the rows do not suit. */
  const ofFew = (() => {
    const few = ([1, 2, 4, 8] as const).find((n) => n >= queries * group);
    if (lanes || !few || keyMask || size % 4 > 0 || few * size > MOST_OF_ROWS || size > WIDEST_ROW)
      return null;
    return { size, rows: few, capped: common.capped, rolled: info.software };
  })();
  const [perChunk, perKeys] = [chunks, Math.ceil(keys / KEYS_OF_ROWS)].map(
    (groups) => [groups, keyHeads, batch] as const,
  );
  const forwardForm = (): Form => {
    if (!ofFew) return of('forward');
    const [bounded, cut] = [lastKey !== undefined, chunks > 1];
    return { kernel: attentionForwardRows({ ...ofFew, bounded, cut }), cut, grid: perChunk! };
  };
  /** Of few rows products are kept, in one buffer. */
  const backOfFew = ofFew && 8 * count * keys <= capabilities.bindingBytes ? ofFew : null;

  const dispatch = ({ kernel, grid }: Form, operands: readonly Tensor[], products: number): void =>
    operands[0]!.device.dispatch(
      kernel,
      operands.map((t) => t.storage.window()),
      params,
      grid,
      2 * products * count * keys * size,
    );
  /** Puts the rows' results, of `width` numbers each, together from those of chunks, which it frees. */
  function join(
    kernel: (vector: 1 | 4) => Kernel,
    apart: readonly Tensor[],
    results: readonly Tensor[],
    width: number,
  ): void {
    const by = width % 4 === 0 ? 4 : 1;
    apart[0]!.device.dispatch(
      kernel(by),
      [...apart, ...results].map((t) => t.storage.window()),
      [count, width / by, chunks],
      linearGrid((count * width) / by),
    );
    for (const t of apart) t.dispose();
  }
  /** A result of `width` numbers a row. */
  function summed(
    form: Form,
    inputs: readonly Tensor[],
    shape: readonly number[],
    width: number,
    products: number,
  ): Tensor {
    const { device } = inputs[0]!;
    const y = empty(device, shape);
    const apart = form.cut ? [empty(device, [count, chunks, width])] : null;
    dispatch(form, [...inputs, ...(apart ?? [y])], products);
    if (apart) join(chunkSums, apart, [y], width);
    return y;
  }

  return {
    /** y, shaped as q, and the logarithm of each row's sum of exponentials [rows]. */
    forward(q: Tensor, k: Tensor, v: Tensor): [Tensor, Tensor] {
      const { device } = q;
      const form = forwardForm();
      const results: [Tensor, Tensor] = [empty(device, q.shape), empty(device, [count])];
      const apart = form.cut
        ? [empty(device, [count, chunks, size]), empty(device, [count, chunks, 2])]
        : null;
      dispatch(form, [q, k, v, ...masks, ...(apart ?? results)], 2);
      if (apart) join(attentionMerge, apart, results, size);
      return results;
    },
    statistics(q: Tensor, k: Tensor, v: Tensor, dy: Tensor, lse: Tensor): AttentionStatistics {
      const shape = [count, ATTENTION_STATISTICS];
      if (!backOfFew) {
        const inputs = [q, k, v, ...masks, dy, lse];
        return { stats: summed(of('statistics'), inputs, shape, ATTENTION_STATISTICS, 2), products: null };
      }
      const products = empty(q.device, [count, keys, 2]);
      const form = { kernel: attentionStatisticsRows(backOfFew), cut: chunks > 1, grid: perChunk! };
      const stats = summed(form, [q, k, v, dy, lse, products], shape, ATTENTION_STATISTICS, 2);
      return { stats, products };
    },
    /** Cotangent of q. */
    queries(q: Tensor, k: Tensor, v: Tensor, dy: Tensor, { stats, products }: AttentionStatistics): Tensor {
      if (!backOfFew || !products)
        return summed(of('queries'), [q, k, v, ...masks, dy, stats], q.shape, size, 3);
      const form = { kernel: attentionBackwardQueriesRows(backOfFew), cut: chunks > 1, grid: perChunk! };
      return summed(form, [k, stats, products], q.shape, size, 1);
    },
    /** Cotangents of k and v. */
    keys(
      q: Tensor,
      k: Tensor,
      v: Tensor,
      dy: Tensor,
      { stats, products }: AttentionStatistics,
    ): [Tensor, Tensor] {
      const results: [Tensor, Tensor] = [empty(q.device, k.shape), empty(q.device, v.shape)];
      if (!backOfFew || !products) dispatch(of('keys'), [q, k, v, ...masks, dy, stats, ...results], 4);
      else {
        const form = { kernel: attentionBackwardKeysRows(backOfFew), cut: false, grid: perKeys! };
        dispatch(form, [q, dy, stats, products, ...results], 2);
      }
      return results;
    },
  };
}
