/**
 * Backward of attention of few rows over many keys (attentionRows.ts): of a token behind its text.
 *
 * Products of rows with keys and of their cotangents with values cost a reading of all keys and values. They are made once, by the pass
 * that finds the statistics (attentionParts.ts), and kept, two numbers a row and key. From these, cotangents of queries read the keys
 * alone, those of keys and values neither.
 *
 * All is summed in the order of attentionTiles.ts: rows, keys and values have the bits that they have there.
 */

import {
  ATTENTION_PARAMS,
  ATTENTION_STATISTICS,
  DOMINATES,
  floats,
  places,
  productCotangent,
  scoring,
} from './attentionParts.ts';
import { type AttentionRowVariant, ROW_OF } from './attentionRows.ts';
import { ATTENTION_CHUNK, ATTENTION_TILE } from './attentionTiles.ts';
import type { Kernel } from './kernel.ts';
import { shipped } from './shipped.ts';
import { takes, variant } from './variant.ts';

/** `rows`: there are no more of them. */
export type AttentionRowBackwardVariant = Pick<AttentionRowVariant, 'size' | 'rows' | 'capped' | 'rolled'>;

const { size, rows, capped, rolled } = ROW_OF;
const ROW = variant<AttentionRowBackwardVariant>({ size, rows, capped, rolled });

const name = (v: AttentionRowBackwardVariant, pass: string): string =>
  `attention.${pass}.rows${v.rows}.${v.size}${v.capped ? '.capped' : ''}${v.rolled ? '.rolled' : ''}`;

const XYZW = ['x', 'y', 'z', 'w'] as const;
const lines = (list: readonly string[]): string => list.join('\n  ');
const range = (length: number): number[] => [...Array(length).keys()];
/** The largest of these that divides `n`. */
const divisor = (n: number, ...of: readonly number[]): number => of.find((m) => n % m === 0)!;

/** Keys of a lane's quad, and what eight lanes of a tile sum apart. */
const QUADS = ATTENTION_CHUNK / 4;
const ACROSS = ATTENTION_TILE / 4;

/** The chunk of this workgroup, and the keys that any row sees. */
const CHUNK = `
  let batch = wid.z;
  let head = wid.y;
  let chunks = (p.keys + ${ATTENTION_CHUNK - 1}u) / ${ATTENTION_CHUNK}u;
  let chunk = wid.x % chunks;
  let base = chunk * ${ATTENTION_CHUNK}u;
  let start = seen_from(0u);
  let end = seen_to(p.rows - 1u);
  let sees = base < end && base + ${ATTENTION_CHUNK}u > start;`;

/**
 * Products [rows, keys] of q with k and of dy with v, where a row sees the key, and of each chunk the {@link ATTENTION_STATISTICS} of
 * rows, for `chunkSums`. A lane takes a key, then a quad of them. Grid: (chunks, key heads, batches).
 */
export const attentionStatisticsRows = shipped(
  (v: AttentionRowBackwardVariant): Kernel => {
    const { size, rows, capped, rolled } = v;
    const quads = size / 4;
    const own = range(rows);
    const step = rolled ? 1 : divisor(quads, 8, 4, 2, 1);
    const steps = range(step);
    const { declarations, score } = scoring(capped, 'f32');
    return {
      name: name(v, 'statistics'),
      bindings: [
        ...floats('read', 'vec4f', 'q', 'k', 'v', 'dy'),
        ...floats('read', 'f32', 'lse'),
        ...floats('read_write', 'vec2f', 'products'),
        ...floats('read_write', 'f32', 'stats'),
      ],
      params: ATTENTION_PARAMS,
      workgroup: [ATTENTION_CHUNK, 1, 1],
      body: `
${places()}
${declarations}
// Rows of q and of dy; later, of each quad of keys, sums of P dP and of P, dP and place of a key that dominates; then of eighths.
var<workgroup> room: array<vec4f, ${Math.max(2 * rows * quads, rows * (QUADS + ACROSS))}>;
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lane: u32) {
  ${CHUNK}
  var all = vec4f();
  if (sees) {
  for (var i = lane; i < p.rows * ${quads}u; i += ${ATTENTION_CHUNK}u) {
    let at = query_of(batch, head, i / ${quads}u) * ${quads}u + i % ${quads}u;
    room[i] = q[at];
    room[${rows * quads}u + i] = dy[at];
  }
  workgroupBarrier();
  let key_at = key_row(batch, head, min(base + lane, end - 1u)) * ${quads}u;
  ${lines(own.map((m) => `var s${m} = 0.0; var d${m} = 0.0;`))}
  for (var c = 0u; c < ${rolled ? `${quads}u + p.zero` : `${quads}u`}; c += ${step}u) {
  ${lines(steps.map((j) => `let k${j} = k[key_at + c + ${j}u]; let v${j} = v[key_at + c + ${j}u];`))}
  ${lines(
    steps.flatMap((j) =>
      own.map((m) => {
        const chain = (sum: string, by: string): string =>
          XYZW.map((e) => `${sum} = fma(a.${e}, ${by}${j}.${e}, ${sum});`).join(' ');
        return `{ var a = room[${m * quads + j}u + c]; ${chain(`s${m}`, 'k')} a = room[${(rows + m) * quads + j}u + c]; ${chain(`d${m}`, 'v')} }`;
      }),
    ),
  )}
  }
  if (base + lane < p.keys) {
  ${lines(own.map((m) => `if (${m}u < p.rows) { products[query_of(batch, head, ${m}u) * p.keys + base + lane] = vec2f(s${m}, d${m}); }`))}
  }
  storageBarrier();
  workgroupBarrier();
  for (var i = lane; i < p.rows * ${QUADS}u; i += ${ATTENTION_CHUNK}u) {
    let row = i / ${QUADS}u;
    let query = query_of(batch, head, row);
    let low = seen_from(row);
    let high = seen_to(row);
    let keys = vec4u(base + i % ${QUADS}u * 4u) + vec4u(0u, 1u, 2u, 3u);
    var x = vec4f();
    var d = vec4f();
    ${lines(
      XYZW.map(
        (e) => `if (keys.${e} >= low && keys.${e} < high) {
    let product = products[query * p.keys + keys.${e}];
    x.${e} = exp(${score('product.x')} - lse[query]);
    d.${e} = product.y;
    }`,
      ),
    )}
    let sure = x > vec4f(${DOMINATES});
    let less = select(x, vec4f(), sure);
    let it = select(vec4f(), d, sure);
    let there = select(vec4f(), vec4f(keys + vec4u(1u)), sure);
    room[i] = vec4f(
      ${XYZW.slice(1).reduce((sum, e) => `fma(less.${e}, d.${e}, ${sum})`, 'less.x * d.x')},
      less.x + less.y + less.z + less.w,
      it.x + it.y + it.z + it.w,
      there.x + there.y + there.z + there.w);
  }
  workgroupBarrier();
  if (lane < p.rows * ${ACROSS}u) {
    var sum = vec4f();
    for (var block = 0u; block < ${QUADS / ACROSS}u; block++) {
      sum += room[lane / ${ACROSS}u * ${QUADS}u + block * ${ACROSS}u + lane % ${ACROSS}u];
    }
    room[${rows * QUADS}u + lane] = sum;
  }
  workgroupBarrier();
  if (lane < p.rows) {
    all = room[${rows * QUADS}u + lane * ${ACROSS}u];
    for (var i = 1u; i < ${ACROSS}u; i++) { all += room[${rows * QUADS}u + lane * ${ACROSS}u + i]; }
  }
  }
  if (lane < p.rows) {
    let query = query_of(batch, head, lane);
    let at = (query * chunks + chunk) * ${ATTENTION_STATISTICS}u;
    stats[at] = select(0.0, lse[query], chunk == 0u);
    ${XYZW.map((e, i) => `stats[at + ${i + 1}u] = all.${e};`).join(' ')}
  }
}`,
    };
  },
  takes('attentionStatisticsRows', ['variant', ROW]),
  (v) => name(v, 'statistics'),
);

/** WGSL function: P of a row and key, and the cotangent of their product. */
const weigh = (capped: boolean): string => {
  const { declarations, score, slope } = scoring(capped, 'f32');
  return `
${places()}
${declarations}
fn weigh(batch: u32, head: u32, row: u32, key: u32) -> vec2f {
  if (row >= p.rows || key < seen_from(row) || key >= seen_to(row)) { return vec2f(); }
  let query = query_of(batch, head, row);
  let at = query * ${ATTENTION_STATISTICS}u;
  let surest = stats[at + 3u];
  let delta = stats[at + 1u] - surest * stats[at + 2u];
  let product = products[query * p.keys + key];
  let x = exp(${score('product.x')} - stats[at]);
  return vec2f(x, ${productCotangent('x', 'product.y', 'surest', 'f32(key + 1u) == stats[at + 4u]', 'delta', slope('product.x'))});
}`;
};

/** Keys that are loaded before any is added. */
const AHEAD = 32;

/**
 * Of each chunk cotangents of q, for `chunkSums`, from products and {@link ATTENTION_STATISTICS}; a lane takes a column.
 * Grid: (chunks, key heads, batches).
 */
export const attentionBackwardQueriesRows = shipped(
  (v: AttentionRowBackwardVariant): Kernel => {
    const { size, rows, capped, rolled } = v;
    const lanes = 64 * Math.ceil(size / 64);
    const own = range(rows);
    const ahead = rolled ? 4 : AHEAD;
    return {
      name: name(v, 'backward_queries'),
      bindings: [
        ...floats('read', 'f32', 'k', 'stats'),
        ...floats('read', 'vec2f', 'products'),
        ...floats('read_write', 'f32', 'dq'),
      ],
      params: ATTENTION_PARAMS,
      workgroup: [lanes, 1, 1],
      body: `
${weigh(capped)}
var<workgroup> weights: array<vec4f, ${rows * QUADS}>;
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lane: u32) {
  ${CHUNK}
  let column = min(lane, ${size - 1}u);
  ${lines(own.map((m) => `var o${m} = 0.0;`))}
  if (sees) {
  for (var i = lane; i < ${rows * ATTENTION_CHUNK}u; i += ${lanes}u) {
    weights[i / 4u][i % 4u] = weigh(batch, head, i / ${ATTENTION_CHUNK}u, base + i % ${ATTENTION_CHUNK}u).y;
  }
  workgroupBarrier();
  // From the first block that a row sees.
  for (var i = max(base, start / ${ATTENTION_TILE}u * ${ATTENTION_TILE}u) - base; i < ${ATTENTION_CHUNK}u; i += ${ahead}u) {
    if (base + i >= end) { break; }
    ${lines(range(ahead).map((j) => `let k${j} = k[key_row(batch, head, min(base + i + ${j}u, end - 1u)) * ${size}u + column];`))}
    ${lines(
      range(ahead / 4).flatMap((j) =>
        own.map(
          (m) =>
            `{ let w = weights[${m * QUADS + j}u + i / 4u]; ${XYZW.map((e, n) => `o${m} = fma(w.${e}, k${4 * j + n}, o${m});`).join(' ')} }`,
        ),
      ),
    )}
  }
  }
  if (lane < ${size}u) {
  ${lines(own.map((m) => `if (${m}u < p.rows) { dq[(query_of(batch, head, ${m}u) * chunks + chunk) * ${size}u + lane] = o${m}; }`))}
  }
}`,
    };
  },
  takes('attentionBackwardQueriesRows', ['variant', ROW]),
  (v) => name(v, 'backward_queries'),
);

/** Keys of a workgroup, and its lanes. */
export const KEYS_OF_ROWS = 64;

/**
 * Cotangents of k and v, over all heads that share the key head, from products and {@link ATTENTION_STATISTICS}; a lane takes a quad of
 * columns. Grid: (ceil(keys / {@link KEYS_OF_ROWS}), key heads, batches).
 */
export const attentionBackwardKeysRows = shipped(
  (v: AttentionRowBackwardVariant): Kernel => {
    const { size, rows, capped } = v;
    const quads = size / 4;
    const own = range(rows);
    const together = Math.floor(KEYS_OF_ROWS / quads);
    return {
      name: name(v, 'backward_keys'),
      bindings: [
        ...floats('read', 'vec4f', 'q', 'dy'),
        ...floats('read', 'f32', 'stats'),
        ...floats('read', 'vec2f', 'products'),
        ...floats('read_write', 'vec4f', 'dk', 'dv'),
      ],
      params: ATTENTION_PARAMS,
      workgroup: [KEYS_OF_ROWS, 1, 1],
      body: `
${weigh(capped)}
var<workgroup> weights: array<vec2f, ${rows * KEYS_OF_ROWS}>;
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lane: u32) {
  let batch = wid.z;
  let head = wid.y;
  let first = wid.x * ${KEYS_OF_ROWS}u;
  for (var row = 0u; row < ${rows}u; row++) {
    weights[row * ${KEYS_OF_ROWS}u + lane] = weigh(batch, head, row, first + lane);
  }
  workgroupBarrier();
  let quad = lane % ${quads}u;
  ${lines(own.map((m) => `let at${m} = query_of(batch, head, min(${m}u, p.rows - 1u)) * ${quads}u + quad; let q${m} = q[at${m}]; let dy${m} = dy[at${m}];`))}
  if (lane >= ${together * quads}u) { return; }
  for (var i = lane / ${quads}u; i < ${KEYS_OF_ROWS}u; i += ${together}u) {
    if (first + i >= p.keys) { break; }
    // 0 that compilers do not know: else the first product alone would begin a sum, and may be -0.
    var of_k = vec4f(bitcast<f32>(p.zero));
    var of_v = of_k;
    ${lines(own.map((m) => `{ let w = weights[${m * KEYS_OF_ROWS}u + i]; of_v = fma(vec4f(w.x), dy${m}, of_v); of_k = fma(vec4f(w.y), q${m}, of_k); }`))}
    let at = key_row(batch, head, first + i) * ${quads}u + quad;
    dk[at] = of_k;
    dv[at] = of_v;
  }
}`,
    };
  },
  takes('attentionBackwardKeysRows', ['variant', ROW]),
  (v) => name(v, 'backward_keys'),
);
