/**
 * Attention in blocks for subgroups that are a CPU's vectors, without its probabilities in memory: as attentionTiles.ts says, but a
 * workgroup is one subgroup.
 *
 * It owns `tile` rows of one side (queries, or keys) and walks over the other side in blocks, in order. Weights of
 * a block: lanes take rows of the other side, whose products with the own rows go to workgroup memory. Sums over a block:
 * lanes take columns, and the weights are handed round. So every number loaded is used `tile` times. Own rows are handed round by
 * shuffles (see matmulLanes.ts).
 *
 * Blocks are counted from key (or query) 0 whatever the tile, and a block that a row does not see leaves its sums as they are, bit for
 * bit: so a row depends neither on the batch it rides in nor on the rows beside it. Blocks that no row of a tile sees, behind it or
 * before its window, are left out, but with a key mask.
 */

import {
  ATTENTION_PARAMS,
  ATTENTION_STATISTICS,
  again,
  DOMINATES,
  floats,
  HIDDEN,
  places,
  productCotangent,
  scoring,
  words,
} from './attentionParts.ts';
import type { Kernel } from './kernel.ts';
import { shipped } from './shipped.ts';
import { count, flag, powerOfTwo, takes, variant } from './variant.ts';

export interface AttentionLanesVariant {
  /** A key mask [batches, keys]: 0 hides that key from every query of the batch. */
  readonly masked: boolean;
  /** Scores are cap tanh(scale q k^T / cap). */
  readonly capped: boolean;
  /** Invocations of a workgroup, which is one subgroup. */
  readonly lanes: number;
  /** Rows that a workgroup owns. */
  readonly tile: number;
  /** Rows, and later columns, of the other side that a lane takes at a time. */
  readonly each: number;
  /** Rows of the other side in a block, a multiple of lanes * each. */
  readonly block: number;
}

const ATTENTION = variant<AttentionLanesVariant>({
  masked: flag,
  capped: flag,
  lanes: powerOfTwo,
  tile: count,
  each: count,
  block: count,
});

const name = (v: AttentionLanesVariant, pass: string): string =>
  `attention.${pass}.lanes${v.lanes}${v.masked ? '.masked' : ''}${v.capped ? '.capped' : ''}.${v.tile}x${v.each}.${v.block}`;

const LEAST = '-3.4028234e38';

/** The text that the three kernels are put together of. `own` rows are m, those that a lane takes are n. */
function parts(v: AttentionLanesVariant) {
  const { lanes: L, tile, each, block } = v;
  const own = [...Array(tile).keys()];
  const taken = [...Array(each).keys()];
  const lines = (list: readonly string[]): string => list.join('\n  ');
  const ofOwn = (text: (m: number) => string): string => lines(own.map(text));
  const ofTaken = (text: (n: number) => string): string => lines(taken.map(text));
  const ofBoth = (text: (m: number, n: number) => string): string =>
    lines(own.flatMap((m) => taken.map((n) => text(m, n))));

  return {
    ofOwn,
    ofTaken,
    ofBoth,
    /** Workgroup memory of the weights of a block and their sums. */
    shared: (...weights: string[]): string =>
      [
        ...weights.map((of) => `var<workgroup> all_${of}: array<f32, ${tile * block}>;`),
        `var<workgroup> all_sums: array<f32, ${tile * L * each}>;`,
      ].join('\n'),
    /** to{m}_{n} = own row m of `of`, which begins at at{m}, times row n of this lane, which begins at from{n} in `other`. */
    dots: (to: string, of: string, other: string): string => {
      const declared = ofBoth((m, n) => `var ${to}${m}_${n} = 0.0;`);
      const multiply = (value: (m: number) => string): string =>
        ofOwn(
          (m) =>
            `let a${m} = ${value(m)}; ${taken.map((n) => `${to}${m}_${n} = fma(a${m}, b${n}, ${to}${m}_${n});`).join(' ')}`,
        );
      return `${declared}
  for (var d0 = 0u; d0 < p.size; d0 += ${L}u) {
  let mine = min(d0 + lane, p.size - 1u);
  ${ofOwn((m) => `let x${m} = ${of}[at${m} + mine];`)}
  // A number the compiler does not know, or it would write the loop out.
  let steps = min(${L}u, p.size - d0);
  for (var step = 0u; step < steps; step++) {
  ${ofTaken((n) => `let b${n} = ${other}[from${n} + d0 + step];`)}
  ${multiply((m) => `subgroupShuffle(x${m}, step)`)}
  }
  }`;
    },
    /** Puts a weight{m}_{n} of the rows that begin at `begin` in the block where {@link spread} finds it. */
    lay: (weight: string): string =>
      ofBoth((m, n) => `all_${weight}[${m * block + n * L}u + begin + lane] = ${weight}${m}_${n};`),
    /**
     * Sums of the block's weights times the rows of `other`, of which the one in place `i` begins at `at(i)`, column by column.
     * `result` says what becomes of the `sum` of own row `m` that belongs to the element `to` of its row.
     */
    spread: (weight: string, other: string, at: (i: string) => string, result: string): string => {
      const column = (n: number): string => `column0 + ${n * L}u + lane`;
      const add = (value: (m: number) => string): string =>
        ofOwn(
          (m) =>
            `let w${m} = ${value(m)}; ${taken.map((n) => `sum${m}_${n} = fma(w${m}, b${n}, sum${m}_${n});`).join(' ')}`,
        );
      const load = ofTaken((n) => `let b${n} = ${other}[line + min(${column(n)}, p.size - 1u)];`);
      const walk = `for (var i0 = 0u; i0 < width; i0 += ${L}u) {
  ${ofOwn((m) => `let x${m} = all_${weight}[${m * block}u + i0 + lane];`)}
  let steps = min(${L}u, width - i0);
  for (var step = 0u; step < steps; step++) {
  let line = ${at('i0 + step')};
  ${load}
  ${add((m) => `subgroupShuffle(x${m}, step)`)}
  }
  }`;
      return `for (var column0 = 0u; column0 < p.size; column0 += ${L * each}u) {
  ${ofBoth((m, n) => `var sum${m}_${n} = 0.0;`)}
  ${walk}
  // Each lane finds its own sums again: written out for every row, what follows would take compilers longer than all else.
  ${ofBoth((m, n) => `all_sums[${(m * each + n) * L}u + lane] = sum${m}_${n};`)}
  for (var m = 0u; m < own; m++) {
  for (var to = column0 + lane; to < min(column0 + ${L * each}u, p.size); to += ${L}u) {
  var sum = all_sums[m * ${L * each}u + to - column0];
  ${result}
  }
  }
  }`;
    },
    /** Makes `of`{m} the same in all lanes: its sum, or its maximum, over them. */
    reduce: (of: string, combine: (a: string, b: string) => string): string => {
      const halves: number[] = [];
      for (let half = L / 2; half >= 1; half /= 2) halves.push(half);
      return ofOwn((m) =>
        halves
          .map((h) => `${of}${m} = ${combine(`${of}${m}`, `subgroupShuffleXor(${of}${m}, ${h}u)`)};`)
          .join(' '),
      );
    },
  };
}

/** First element of a key's row. */
const KEY_AT = `
${places()}
fn key_at(batch: u32, head: u32, key: u32) -> u32 { return key_row(batch, head, key) * p.size; }`;

/** The keys that a workgroup walks over in blocks: with a mask all, over which a row that sees nothing is uniform. */
const keyBlocks = ({ masked, block, tile }: AttentionLanesVariant): string =>
  masked
    ? 'let start = 0u; let end = p.keys;'
    : `let start = seen_from(first) / ${block}u * ${block}u; let end = seen_to(min(first + ${tile - 1}u, p.rows - 1u));`;

const MAIN = (tile: number): string => `
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lane: u32) {
  let batch = wid.z;
  let head = wid.y;
  let first = wid.x * ${tile}u;`;

const read = (...names: string[]): Kernel['bindings'] => floats('read', 'f32', ...names);
const written = (...names: string[]): Kernel['bindings'] => floats('read_write', 'f32', ...names);
const SUBGROUPS = ['subgroups'];

/** What a key's dS is made of, of row `query`. */
const STATISTICS = `
  let of_query = query * ${ATTENTION_STATISTICS}u;
  let lse = stats[of_query];
  let surest = stats[of_query + 3u];
  let delta = stats[of_query + 1u] - surest * stats[of_query + 2u];
  let at_surest = stats[of_query + 4u];`;
const cotangent = (probability: string, d: string, key: string, slope: string): string =>
  productCotangent(probability, d, 'surest', `f32(${key} + 1u) == at_surest`, 'delta', slope);

/**
 * y = softmax(q k^T scale + masks) v, and lse, the logarithm of each row's sum of exponentials (a large negative number for a
 * row that sees nothing, which is uniform over all keys). Grid: (ceil(rows / tile), key heads, batches).
 */
export const attentionForwardLanes = shipped(
  (v: AttentionLanesVariant): Kernel => {
    const { lanes: L, tile, each, block, masked, capped } = v;
    const { ofOwn, ofTaken, ofBoth, shared, dots, lay, spread, reduce } = parts(v);
    const key = (n: number): string => `base + begin + ${n * L}u + lane`;
    const { declarations, score } = scoring(capped, 'f32');
    const seen = (m: number, n: number): string => `${key(n)} >= low${m} && ${key(n)} < high${m}`;
    const shownScore = (m: number, n: number): string =>
      masked
        ? `select(select(${HIDDEN}, ${score(`s${m}_${n}`)}, ${seen(m, n)} && shown${n}), ${LEAST}, ${key(n)} >= p.keys)`
        : `select(${LEAST}, ${score(`s${m}_${n}`)}, ${seen(m, n)})`;
    return {
      name: name(v, 'forward'),
      enable: SUBGROUPS,
      bindings: [...read('q', 'k', 'v'), ...words(masked && 'mask'), ...written('y', 'lse')],
      params: ATTENTION_PARAMS,
      workgroup: [L, 1, 1],
      body: `
${KEY_AT}
${declarations}
${shared('s')}
var<workgroup> keep: array<f32, ${tile}>;
var<workgroup> norm: array<f32, ${tile}>;
${MAIN(tile)}
  let own = min(${tile}u, p.rows - first);
  ${ofOwn((m) => `let row${m} = min(first + ${m}u, p.rows - 1u); let low${m} = seen_from(row${m}); let high${m} = seen_to(row${m});`)}
  ${ofOwn((m) => `let query${m} = query_of(batch, head, row${m}); let at${m} = query${m} * p.size;`)}
  ${ofOwn((m) => `var top${m} = f32(${LEAST}); var total${m} = 0.0;`)}
  ${keyBlocks(v)}
  for (var base = start; base < end; base += ${block}u) {
  let width = (min(${block}u, end - base) + ${L * each - 1}u) / ${L * each}u * ${L * each}u;
  ${ofOwn((m) => `var larger${m} = top${m};`)}
  for (var begin = 0u; begin < width; begin += ${L * each}u) {
  ${ofTaken((n) => `let key${n} = min(${key(n)}, p.keys - 1u); let from${n} = key_at(batch, head, key${n});`)}
  ${masked ? ofTaken((n) => `let shown${n} = mask[batch * p.keys + key${n}] != 0u;`) : ''}
  ${dots('s', 'q', 'k')}
  ${ofBoth((m, n) => `s${m}_${n} = ${shownScore(m, n)}; larger${m} = max(larger${m}, s${m}_${n});`)}
  ${lay('s')}
  }
  ${reduce('larger', (a, b) => `max(${a}, ${b})`)}
  ${ofOwn((m) => `let keep${m} = exp(top${m} - larger${m}); top${m} = larger${m}; var part${m} = 0.0;`)}
  for (var i = lane; i < width; i += ${L}u) {
  ${ofOwn((m) => `let e${m} = exp(all_s[${m * block}u + i] - top${m}); all_s[${m * block}u + i] = e${m}; part${m} += e${m};`)}
  }
  ${reduce('part', (a, b) => `${a} + ${b}`)}
  ${ofOwn((m) => `total${m} = fma(total${m}, keep${m}, part${m});`)}
  // The last block divides by the whole sum.
  let last = base + ${block}u >= end;
  if (lane == 0u) {
  ${ofOwn((m) => `keep[${m}] = keep${m}; norm[${m}] = select(1.0, 1.0 / total${m}, last);`)}
  }
  workgroupBarrier();
  ${spread(
    's',
    'v',
    (i) => `key_at(batch, head, min(base + ${i}, p.keys - 1u))`,
    `let at = query_of(batch, head, first + m) * p.size + to;
  if (base > start) { sum = fma(y[at], keep[m], sum); }
  y[at] = sum * norm[m];`,
  )}
  workgroupBarrier();
  }
  if (lane == 0u) {
  ${ofOwn((m) => `if (first + ${m}u < p.rows) { lse[query${m}] = top${m} + log(total${m}); }`)}
  }
}`,
    };
  },
  takes('attentionForwardLanes', ['variant', ATTENTION]),
  (v) => name(v, 'forward'),
);

/**
 * The {@link ATTENTION_STATISTICS} of all rows, one after another, from the cotangent of y and the forward's lse: A, B, c, r as above.
 * Grid: as the forward's.
 */
export const attentionStatisticsLanes = shipped(
  (v: AttentionLanesVariant): Kernel => {
    const { lanes: L, each, block, tile, masked, capped } = v;
    const { ofOwn, ofTaken, ofBoth, dots, reduce } = parts(v);
    const { declarations, score } = scoring(capped, 'f32');
    const key = (n: number): string => `begin + ${n * L}u + lane`;
    const shown = (m: number, n: number): string =>
      `${key(n)} >= low${m} && ${key(n)} < high${m}${masked ? ` && shown${n}` : ''}`;
    const add = (a: string, b: string): string => `${a} + ${b}`;
    return {
      name: name(v, 'statistics'),
      enable: SUBGROUPS,
      bindings: [
        ...read('q', 'k', 'v'),
        ...words(masked && 'mask'),
        ...read('dy', 'lse'),
        ...written('stats'),
      ],
      params: ATTENTION_PARAMS,
      workgroup: [L, 1, 1],
      body: `
${KEY_AT}
${declarations}
${MAIN(tile)}
  ${ofOwn((m) => `let row${m} = min(first + ${m}u, p.rows - 1u); let low${m} = seen_from(row${m}); let high${m} = seen_to(row${m});`)}
  ${ofOwn((m) => `let query${m} = query_of(batch, head, row${m}); let at${m} = query${m} * p.size; let lse${m} = lse[query${m}];`)}
  ${ofOwn((m) => `var others${m} = 0.0; var rest${m} = 0.0; var surest${m} = 0.0; var place${m} = 0.0;`)}
  ${keyBlocks(v)}
  for (var base = start; base < end; base += ${block}u) {
  // Of a block by themselves: added to the sums one by one, many small ones would vanish.
  ${ofOwn((m) => `var terms${m} = 0.0; var shares${m} = 0.0;`)}
  for (var begin = base; begin < min(base + ${block}u, end); begin += ${L * each}u) {
  ${ofTaken((n) => `let key${n} = min(${key(n)}, p.keys - 1u); let from${n} = key_at(batch, head, key${n});`)}
  ${masked ? ofTaken((n) => `let shown${n} = mask[batch * p.keys + key${n}] != 0u;`) : ''}
  ${dots('s', 'q', 'k')}
  ${dots('d', 'dy', 'v')}
  ${ofBoth(
    (
      m,
      n,
    ) => `let p${m}_${n} = ${again(masked, score(`s${m}_${n}`), shown(m, n), `${key(n)} < p.keys`, `lse${m}`)};
  if (p${m}_${n} > ${DOMINATES}) { surest${m} = d${m}_${n}; place${m} = f32(key${n} + 1u); }
  else { terms${m} = fma(p${m}_${n}, d${m}_${n}, terms${m}); shares${m} += p${m}_${n}; }`,
  )}
  }
  ${ofOwn((m) => `others${m} += terms${m}; rest${m} += shares${m};`)}
  }
  ${['others', 'rest', 'surest'].map((of) => reduce(of, add)).join('\n  ')}
  ${reduce('place', (a, b) => `max(${a}, ${b})`)}
  if (lane == 0u) {
  ${ofOwn(
    (m) => `if (first + ${m}u < p.rows) {
  ${['lse', 'others', 'rest', 'surest', 'place'].map((of, i) => `stats[query${m} * ${ATTENTION_STATISTICS}u + ${i}u] = ${of}${m};`).join(' ')}
  }`,
  )}
  }
}`,
    };
  },
  takes('attentionStatisticsLanes', ['variant', ATTENTION]),
  (v) => name(v, 'statistics'),
);

/** What the two backwards differ in: whose rows are own, and where those of the other side are. */
interface Backward {
  readonly pass: string;
  readonly results: readonly string[];
  /** What own rows are of, and their cotangent's: of rows of queries or keys, and of the other side. */
  readonly own: readonly [string, string];
  readonly others: readonly [string, string];
  /** First elements of own row m, of row `i` of the other side; how many there are of both. */
  readonly ownAt: (m: string) => string;
  readonly otherAt: (i: string) => string;
  readonly counts: readonly [own: string, others: string];
  /** Statements that say where the walk starts and ends. */
  readonly range: string;
  /** Statements that make of the products in all_s and all_d what is summed. */
  readonly weigh: string;
  /** What is summed: which weights, times what, into which result. */
  readonly sums: readonly (readonly [weight: string, of: string, into: string])[];
}

/** A backward: the walk over the other side's blocks, their products with the own rows, and the sums over each block. */
function backward(v: AttentionLanesVariant, b: Backward): Kernel {
  const { lanes: L, tile, each, block, masked, capped } = v;
  const { ofOwn, ofTaken, shared, dots, lay, spread } = parts(v);
  const other = (i: string): string => b.otherAt(`min(base + ${i}, ${b.counts[1]} - 1u)`);
  return {
    name: name(v, b.pass),
    enable: SUBGROUPS,
    bindings: [
      ...read('q', 'k', 'v'),
      ...words(masked && 'mask'),
      ...read('dy', 'stats'),
      ...written(...b.results),
    ],
    params: ATTENTION_PARAMS,
    workgroup: [L, 1, 1],
    body: `
${KEY_AT}
${scoring(capped, 'f32').declarations}
${shared('s', 'd')}
${MAIN(tile)}
  ${ofOwn((m) => `let at${m} = ${b.ownAt(`min(first + ${m}u, ${b.counts[0]} - 1u)`)};`)}
  let own = min(${tile}u, ${b.counts[0]} - first);
  ${b.range}
  for (var base = start; base < end; base += ${block}u) {
  let width = (min(${block}u, end - base) + ${L * each - 1}u) / ${L * each}u * ${L * each}u;
  for (var begin = 0u; begin < width; begin += ${L * each}u) {
  ${ofTaken((n) => `let from${n} = ${other(`begin + ${n * L}u + lane`)};`)}
  ${dots('s', b.own[0], b.others[0])}
  ${dots('d', b.own[1], b.others[1])}
  ${lay('s')}
  ${lay('d')}
  }
  ${b.weigh}
  workgroupBarrier();
  ${b.sums
    .map(([weight, of, into]) =>
      spread(
        weight,
        of,
        other,
        `let at = ${b.ownAt('first + m')} + to;
  if (base > start) { sum += ${into}[at]; }
  ${into}[at] = sum;`,
      ),
    )
    .join('\n  ')}
  workgroupBarrier();
  }
}`,
  };
}

const queryAt = (row: string): string => `query_of(batch, head, ${row}) * p.size`;
const keyAt = (key: string): string => `key_at(batch, head, ${key})`;

/**
 * Cotangent of q from that of y: dq = sum over keys of dS scale k, from the {@link ATTENTION_STATISTICS}. Grid: as the forward's.
 */
export const attentionBackwardQueriesLanes = shipped(
  (v: AttentionLanesVariant): Kernel => {
    const { lanes: L, block, masked, capped } = v;
    const { score, slope } = scoring(capped, 'f32');
    return backward(v, {
      pass: 'backward_queries',
      results: ['dq'],
      own: ['q', 'dy'],
      others: ['k', 'v'],
      ownAt: queryAt,
      otherAt: keyAt,
      counts: ['p.rows', 'p.keys'],
      range: keyBlocks(v),
      weigh: `for (var m = 0u; m < own; m++) {
  let query = query_of(batch, head, first + m);
  let low = seen_from(first + m);
  let high = seen_to(first + m);${STATISTICS}
  for (var i = lane; i < width; i += ${L}u) {
  let at = m * ${block}u + i;
  let key = base + i;
  ${masked ? 'let shown = mask[batch * p.keys + min(key, p.keys - 1u)] != 0u;' : ''}
  let probability = ${again(masked, score('all_s[at]'), `key >= low && key < high${masked ? ' && shown' : ''}`, 'key < p.keys', 'lse')};
  all_s[at] = ${cotangent('probability', 'all_d[at]', 'key', slope('all_s[at]'))};
  }
  }`,
      sums: [['s', 'k', 'dq']],
    });
  },
  takes('attentionBackwardQueriesLanes', ['variant', ATTENTION]),
  (v) => name(v, 'backward_queries'),
);

/**
 * Cotangents of k and v: dv = sum over queries of P dy, dk of dS scale q, over all heads that share the key head.
 * Grid: (ceil(keys / tile), key heads, batches).
 */
export const attentionBackwardKeysLanes = shipped(
  (v: AttentionLanesVariant): Kernel => {
    const { lanes: L, block, masked, capped } = v;
    const { score, slope } = scoring(capped, 'f32');
    return backward(v, {
      pass: 'backward_keys',
      results: ['dk', 'dv'],
      own: ['k', 'v'],
      others: ['q', 'dy'],
      ownAt: keyAt,
      otherAt: queryAt,
      counts: ['p.keys', 'p.rows'],
      range: masked
        ? 'let start = 0u; let end = p.rows;'
        : `// From the block of the first query that sees the first of the keys to the last that sees the last; one at least, for zeros.
  let start = u32(max(i32(first) - p.past - p.after, 0)) * p.group / ${block}u * ${block}u;
  let sees = u32(clamp(i32(first + own) - p.past + p.before, 0, i32(p.queries))) * p.group;
  let end = max(sees, start + 1u);`,
      weigh: `for (var i = lane; i < width; i += ${L}u) {
  let row = min(base + i, p.rows - 1u);
  let inside = base + i < p.rows;
  let low = seen_from(row);
  let high = select(0u, seen_to(row), inside);
  let query = query_of(batch, head, row);${STATISTICS}
  for (var m = 0u; m < own; m++) {
  let at = m * ${block}u + i;
  ${masked ? 'let shown = mask[batch * p.keys + first + m] != 0u;' : ''}
  let key = first + m;
  let probability = ${again(masked, score('all_s[at]'), `key >= low && key < high${masked ? ' && shown' : ''}`, 'inside', 'lse')};
  let slope = ${slope('all_s[at]')};
  all_s[at] = probability;
  all_d[at] = ${cotangent('probability', 'all_d[at]', 'key', 'slope')};
  }
  }`,
      sums: [
        ['s', 'dy', 'dv'],
        ['d', 'q', 'dk'],
      ],
    });
  },
  takes('attentionBackwardKeysLanes', ['variant', ATTENTION]),
  (v) => name(v, 'backward_keys'),
);
