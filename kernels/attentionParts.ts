/**
 * What the kernels of attention have in common: where queries, keys and their numbers lie, which keys a query sees, what becomes of a
 * product, and the closed form of the backward.
 *
 * Heads are read where a linear layer leaves them, as rows of one head each: row ((batch queries + query) heads + head) of q, and of k
 * and v by two strides, so that [batch, keys, keyHeads, D] and a cache's [keyHeads, keys, D] are read alike. Queries of all heads that
 * share a key head are rows of one walk: row r is query r / group of head r % group.
 *
 * A row's cotangents of its scores are dS = P (dP - sum P dP), dP = dy . v, of which nothing is left in float32 where one P is
 * nearly 1. As they do not see a constant taken from all dP, take that of the dominating key r, c = dP_r:
 *
 *     delta = A - c B,  A = sum P dP and B = sum P over all other keys;  dS = P (dP - c - delta),  dS_r = -P_r delta,
 *
 * so that 1 - P_r is never formed, and dS_r is minus the sum of the others. A pass of its own finds A, B, c and r, first.
 */

import type { Kernel } from './kernel.ts';
import { hyperbolic } from './math.ts';

export const ATTENTION_PARAMS = {
  /** Queries times heads that share a key head. */
  rows: 'u32',
  queries: 'u32',
  group: 'u32',
  keys: 'u32',
  key_heads: 'u32',
  /** From a key to the next, and from a key head to the next, in rows. */
  key_step: 'u32',
  head_step: 'u32',
  scale: 'f32',
  cap: 'f32',
  /** Of query t the own key is t step + past; it sees `before` keys before that and `after` behind (softmax.ts). */
  before: 'i32',
  after: 'i32',
  past: 'i32',
  step: 'i32',
  /** Of a head. */
  size: 'u32',
  /** 0, which compilers do not know (matmulParts.ts). */
  zero: 'u32',
} as const;

/** Score of a hidden key: large but finite, as in softmax.ts. */
export const HIDDEN = '-1e30';
/** Score of a key that is not there, and where a maximum begins: above that, so that its weight is 0 before anything is seen. */
export const NO_KEY = '-3e38';
export const NO_MAXIMUM = '-2e38';
/** lse of a row that sees nothing, and is therefore uniform, is below this. */
const NOTHING_SEEN = '-5e29';

/**
 * WGSL functions: the number of a query's row, that of a key's, and the keys that a row sees, without the last.
 * @param bounded keys after the one that `last` [1] names are hidden; it is the only query's own.
 */
export const places = (bounded = false): string => `
fn query_of(batch: u32, head: u32, row: u32) -> u32 {
  return ((batch * p.queries + row / p.group) * p.key_heads + head) * p.group + row % p.group;
}
fn key_row(batch: u32, head: u32, key: u32) -> u32 {
  return batch * p.keys * p.key_heads + head * p.head_step + key * p.key_step;
}
fn place_of(row: u32) -> i32 {
  return ${bounded ? 'i32(last[0])' : 'i32(row / p.group) * p.step + p.past'};
}
fn seen_from(row: u32) -> u32 {
  return u32(max(place_of(row) - p.before, 0));
}
fn seen_to(row: u32) -> u32 {
  return u32(clamp(place_of(row) + p.after + 1, 0, ${bounded ? 'min(i32(p.keys), i32(last[0]) + 1)' : 'i32(p.keys)'}));
}`;

/** WGSL of the score of a product, and of its derivative by the product. */
export const scoring = (
  capped: boolean,
  element: 'f32' | 'vec4f',
): { readonly declarations: string; score(s: string): string; slope(s: string): string } =>
  capped
    ? {
        declarations: hyperbolic(element),
        score: (s) => `(p.cap * tanh_(${s} * p.scale / p.cap))`,
        slope: (s) => `(p.scale * sech2(${s} * p.scale / p.cap))`,
      }
    : { declarations: '', score: (s) => `(${s} * p.scale)`, slope: () => 'p.scale' };

/** A probability computed again from the row's `lse`; `shown` are conditions for the key to be seen, `inside` for it to exist at all. */
export const again = (
  masked: boolean,
  score: string,
  shown: string,
  inside: string,
  lse: string,
  element: 'f32' | 'vec4f' = 'f32',
): string => {
  const zero = `${element}(0.0)`;
  const seen = `select(${zero}, exp(${score} - ${lse}), ${shown})`;
  return masked
    ? `select(${zero}, select(${seen}, ${element}(1.0 / f32(p.keys)), ${lse} < ${element}(${NOTHING_SEEN})), ${inside})`
    : seen;
};

/** Numbers of a row that its backward starts from: lse, A, B, c, and the place of r from 1, 0 for none. */
export const ATTENTION_STATISTICS = 5;
/**
 * A key with more than this dominates. Of a row without one 1 - P is no small number; and of two keys that share a row none has
 * as much, not even by the rounding of lse.
 */
export const DOMINATES = 0.75;

/** Cotangent of the product of a key from its P, dP, the row's statistics and the score's derivative. */
export const productCotangent = (
  probability: string,
  d: string,
  surest: string,
  isSurest: string,
  delta: string,
  slope: string,
  zero = '0.0',
): string => `${probability} * (select(${d} - ${surest}, ${zero}, ${isSurest}) - ${delta}) * ${slope}`;

export const floats = (
  access: 'read' | 'read_write',
  element: string,
  ...names: string[]
): Kernel['bindings'] => names.map((name) => ({ name, element, access }));
export const words = (...names: (string | false)[]): Kernel['bindings'] =>
  names.flatMap((name) => (name === false ? [] : [{ name, element: 'u32', access: 'read' as const }]));
