/**
 * Attention of few rows over many keys, where the keys and values are all that is read: a token behind its text. A workgroup takes one chunk
 * of keys and up to eight rows that share a key head; a lane takes whole keys while products are made, then a column of the sums.
 *
 * All is summed in the order of attentionTiles.ts, and a row has the bits that it has there.
 */

import { ATTENTION_PARAMS, floats, NO_KEY, NO_MAXIMUM, places, scoring, words } from './attentionParts.ts';
import { ATTENTION_CHUNK, ATTENTION_TILE } from './attentionTiles.ts';
import type { Kernel } from './kernel.ts';
import { shipped } from './shipped.ts';
import { flag, takes, variant, word } from './variant.ts';

export interface AttentionRowVariant {
  /** Of a head, a multiple of 4 up to 256. */
  readonly size: number;
  /** That a workgroup takes. */
  readonly rows: 1 | 2 | 4 | 8;
  /** Scores are cap tanh(scale q k^T / cap). */
  readonly capped: boolean;
  /** One query, which is that of key `last` [1]: no key behind it is read. */
  readonly bounded: boolean;
  /** There are more chunks than one, whose sums stay apart. */
  readonly cut: boolean;
  /** As of tiles. */
  readonly rolled: boolean;
}

/** Largest head: a lane has one column. */
export const WIDEST_ROW = 256;

/** What these may be. */
export const ROW_OF = {
  size: {
    expected: `a multiple of 4 up to ${WIDEST_ROW}`,
    fits: (n: unknown) =>
      Number.isInteger(n) && (n as number) > 0 && (n as number) <= WIDEST_ROW && (n as number) % 4 === 0,
  },
  rows: word<1 | 2 | 4 | 8>([1, 2, 4, 8]),
  capped: flag,
  bounded: flag,
  cut: flag,
  rolled: flag,
} as const;
const ROW = variant<AttentionRowVariant>(ROW_OF);

const name = (v: AttentionRowVariant): string =>
  `attention.forward.rows${v.rows}.${v.size}${v.capped ? '.capped' : ''}${v.bounded ? '.bounded' : ''}${v.cut ? '.cut' : ''}${v.rolled ? '.rolled' : ''}`;

const BLOCKS = ATTENTION_CHUNK / ATTENTION_TILE;
/** A block's scores, and one number more, so that neighbours' lie in banks of their own. */
const PITCH = ATTENTION_TILE + 1;
/** Values that are loaded before any is added. */
const AHEAD = 16;

/**
 * As `attentionForwardTiles`, without a mask; whole: of keys that are one chunk. Grid: (ceil(rows / v.rows) times chunks, key heads,
 * batches).
 */
export const attentionForwardRows = shipped(
  (v: AttentionRowVariant): Kernel => {
    const { size, rows, capped, bounded, cut, rolled } = v;
    const quads = size / 4;
    const lanes = 64 * Math.ceil(size / 64);
    const own = [...Array(rows).keys()];
    const taken = [...Array(ATTENTION_CHUNK / lanes).keys()];
    const ahead = rolled ? 1 : AHEAD;
    const step = [8, 4, 2, 1].find(
      (n) => quads % n === 0 && n * taken.length <= Math.max(ahead, taken.length),
    )!;
    const upTo = (count: number): string => (rolled ? `${count}u + p.zero` : `${count}u`);
    const steps = [...Array(step).keys()];
    const { declarations, score } = scoring(capped, 'f32');
    const lines = (list: readonly string[]): string => list.join('\n  ');
    const ofOwn = (text: (m: number) => string): string => lines(own.map(text));
    /** Where the scores of key `key` of the chunk lie. */
    const place = (m: number, key: string): string =>
      `${m * BLOCKS * PITCH}u + ${key} / ${ATTENTION_TILE}u * ${PITCH}u + ${key} % ${ATTENTION_TILE}u`;
    const local = (n: number): string => `(${n * lanes}u + lane)`;
    return {
      name: name(v),
      bindings: [
        ...floats('read', 'vec4f', 'q', 'k'),
        ...floats('read', 'f32', 'v'),
        ...words(bounded && 'last'),
        ...floats('read_write', 'f32', cut ? 'sums' : 'y'),
        ...floats('read_write', cut ? 'vec2f' : 'f32', cut ? 'marks' : 'lse'),
      ],
      params: ATTENTION_PARAMS,
      workgroup: [lanes, 1, 1],
      body: `
${places(bounded)}
${declarations}
var<workgroup> own: array<vec4f, ${rows * quads}>;
var<workgroup> scores: array<f32, ${rows * BLOCKS * PITCH}>;
var<workgroup> quarters: array<f32, ${rows * BLOCKS * 4}>;
var<workgroup> tops: array<f32, ${rows * BLOCKS}>;
var<workgroup> keeps: array<f32, ${rows * BLOCKS}>;
var<workgroup> shares: array<f32, ${rows * BLOCKS}>;
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lane: u32) {
  let batch = wid.z;
  let head = wid.y;
  let chunks = (p.keys + ${ATTENTION_CHUNK - 1}u) / ${ATTENTION_CHUNK}u;
  let chunk = wid.x % chunks;
  let base = chunk * ${ATTENTION_CHUNK}u;
  let first = wid.x / chunks * ${rows}u;
  ${ofOwn((m) => `let row${m} = min(first + ${m}u, p.rows - 1u); let low${m} = seen_from(row${m}); let high${m} = seen_to(row${m}); let query${m} = query_of(batch, head, row${m});`)}
  let start = low0;
  let end = high${rows - 1};
  ${ofOwn((m) => `var o${m} = 0.0; var total${m} = 0.0; var top${m} = f32(${NO_MAXIMUM});`)}
  if (base < end && base + ${ATTENTION_CHUNK}u > start) {
  ${ofOwn((m) => `for (var i = lane; i < ${quads}u; i += ${lanes}u) { own[${m * quads}u + i] = q[query${m} * ${quads}u + i]; }`)}
  workgroupBarrier();
  ${lines(taken.map((n) => `let at${n} = key_row(batch, head, min(base + ${local(n)}, end - 1u)) * ${quads}u;`))}
  ${ofOwn((m) => taken.map((n) => `var s${m}_${n} = 0.0;`).join(' '))}
  for (var d = 0u; d < ${upTo(quads)}; d += ${step}u) {
  ${lines(steps.map((j) => taken.map((n) => `let b${n}_${j} = k[at${n} + d + ${j}u];`).join(' ')))}
  ${lines(
    steps.map((j) =>
      ofOwn(
        (m) =>
          `{ let a = own[${m * quads + j}u + d]; ${taken.map((n) => `s${m}_${n} = ${['x', 'y', 'z', 'w'].reduce((s, c) => `fma(a.${c}, b${n}_${j}.${c}, ${s})`, `s${m}_${n}`)};`).join(' ')} }`,
      ),
    ),
  )}
  }
  ${ofOwn((m) =>
    taken
      .map(
        (n) =>
          `scores[${place(m, local(n))}] = select(f32(${NO_KEY}), ${score(`s${m}_${n}`)}, base + ${local(n)} >= low${m} && base + ${local(n)} < high${m});`,
      )
      .join('\n  '),
  )}
  workgroupBarrier();
  // Maxima: of quarters of blocks, then of all blocks up to each.
  for (var i = lane; i < ${rows * BLOCKS * 4}u; i += ${lanes}u) {
    let begin = i / 4u * ${PITCH}u + i % 4u * ${ATTENTION_TILE / 4}u;
    var largest = scores[begin];
    for (var j = 1u; j < ${upTo(ATTENTION_TILE / 4)}; j++) { largest = max(largest, scores[begin + j]); }
    quarters[i] = largest;
  }
  workgroupBarrier();
  if (lane < ${rows * BLOCKS}u) {
    var before = f32(${NO_MAXIMUM});
    var largest = before;
    for (var i = 0u; i < ${upTo(BLOCKS)}; i++) {
      if (i > lane % ${BLOCKS}u) { break; }
      before = largest;
      for (var j = 0u; j < 4u; j++) { largest = max(largest, quarters[(lane / ${BLOCKS}u * ${BLOCKS}u + i) * 4u + j]); }
    }
    tops[lane] = largest;
    keeps[lane] = exp(before - largest);
  }
  workgroupBarrier();
  ${ofOwn((m) => taken.map((n) => `{ let at = ${place(m, local(n))}; scores[at] = exp(scores[at] - tops[${m * BLOCKS}u + ${local(n)} / ${ATTENTION_TILE}u]); }`).join('\n  '))}
  workgroupBarrier();
  // Of the weights the four of quad lane % ${BLOCKS} in every block.
  if (lane < ${rows * BLOCKS}u) {
    var share = 0.0;
    for (var i = 0u; i < ${upTo(BLOCKS)}; i++) {
      let block = lane / ${BLOCKS}u * ${BLOCKS}u + i;
      let at = block * ${PITCH}u + lane % ${BLOCKS}u * 4u;
      share = fma(share, keeps[block], scores[at] + scores[at + 1u] + scores[at + 2u] + scores[at + 3u]);
    }
    shares[lane] = share;
  }
  let column = min(lane, ${size - 1}u);
  for (var block = 0u; block < ${upTo(BLOCKS)}; block++) {
    let key = base + block * ${ATTENTION_TILE}u;
    if (key >= end) { break; }
    ${ofOwn((m) => `o${m} *= keeps[${m * BLOCKS}u + block];`)}
    for (var i = 0u; i < ${upTo(ATTENTION_TILE)}; i += ${ahead}u) {
    ${lines([...Array(ahead).keys()].map((j) => `let b${j} = v[key_row(batch, head, min(key + i + ${j}u, end - 1u)) * ${size}u + column];`))}
    ${lines([...Array(ahead).keys()].map((j) => own.map((m) => `o${m} = fma(scores[${m * BLOCKS * PITCH + j}u + block * ${PITCH}u + i], b${j}, o${m});`).join(' ')))}
    }
  }
  workgroupBarrier();
  ${ofOwn((m) => `top${m} = tops[${m * BLOCKS + BLOCKS - 1}u]; total${m} = shares[${m * BLOCKS}u]; for (var i = 1u; i < ${BLOCKS}u; i++) { total${m} += shares[${m * BLOCKS}u + i]; }`)}
  }
  ${ofOwn(
    (m) => `if (first + ${m}u < p.rows) {
  ${
    cut
      ? `let at = query${m} * chunks + chunk;
  if (lane < ${size}u) { sums[at * ${size}u + lane] = o${m}; }
  if (lane == 0u) { marks[at] = vec2f(top${m}, total${m}); }`
      : `let larger = max(f32(${NO_MAXIMUM}), top${m});
  let now = exp(top${m} - larger);
  let total = total${m} * now;
  if (lane < ${size}u) { y[query${m} * ${size}u + lane] = o${m} * now * (1.0 / total); }
  if (lane == 0u) { lse[query${m}] = larger + log(total); }`
  }
  }`,
  )}
}`,
    };
  },
  takes('attentionForwardRows', ['variant', ROW]),
  name,
);
