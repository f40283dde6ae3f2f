/**
 * Attention for GPUs in tiles of 32 rows by 32 keys, without its probabilities in memory: online softmax forward (Milakov & Gimelshein
 * 2018, Rabe & Staats 2021), and a backward that computes the probabilities again from the logarithm of each row's sum
 * (FlashAttention; Dao et al. 2022): gradients of queries by rows, of keys and values by columns, without atomics.
 *
 * A workgroup of 64 owns 32 rows of one side, queries or keys, and walks over the other. Products of rows: both operands lie turned in
 * workgroup memory, [element][row], the other side's a slice of the head at a time, and a lane makes 4 x 4. Sums over a block: its
 * weights lie [other row][own row], the other side's rows as they are, and a lane makes 4 rows of every eighth quad of columns.
 *
 * Order of all sums, whatever the kernel: a product is one chain over the head; blocks of 32 keys, counted from key 0, are taken one by
 * one, the sums so far times e^(old maximum - new), then a chain over the block's keys; of the weights themselves each of 8 sums takes 4
 * keys of a block. Every 256 keys the sums start afresh, and what they gave is merged in order, totals being made of nothing else
 * (attentionChunks.ts). So chunks may be shared out among workgroups (`cut`), and a row gives the same bits in any company; a block or a
 * chunk of which it sees nothing leaves its sums as they are.
 */

import {
  ATTENTION_PARAMS,
  ATTENTION_STATISTICS,
  again,
  DOMINATES,
  floats,
  HIDDEN,
  NO_KEY,
  NO_MAXIMUM,
  places,
  productCotangent,
  scoring,
  words,
} from './attentionParts.ts';
import type { Kernel } from './kernel.ts';
import { shipped } from './shipped.ts';
import { count, flag, takes, variant } from './variant.ts';

export interface AttentionTileVariant {
  /** Of a head. */
  readonly size: number;
  /** A key mask [batches, keys]: 0 hides that key from every query of the batch. */
  readonly masked: boolean;
  /** Scores are cap tanh(scale q k^T / cap). */
  readonly capped: boolean;
  /** One query, which is that of key `last` [1]: no key behind it is read. */
  readonly bounded: boolean;
  /** A workgroup takes one chunk of keys, whose sums stay apart. */
  readonly cut: boolean;
  /** 32 KiB of workgroup memory, not 16. */
  readonly roomy: boolean;
  /** Nothing is written out: for drivers on a CPU, which take long to compile each line. The same sums in the same order. */
  readonly rolled: boolean;
}

const TILE = variant<AttentionTileVariant>({
  size: count,
  masked: flag,
  capped: flag,
  bounded: flag,
  cut: flag,
  roomy: flag,
  rolled: flag,
});

/** Rows of a tile on either side. */
export const ATTENTION_TILE = 32;
/** Keys whose sums start from zero. */
export const ATTENTION_CHUNK = 256;
/** Columns of the results that a workgroup makes at most: its sums are registers. */
const MOST_COLUMNS = 128;

/** Workgroups along z for each batch. */
export const columnParts = (size: number): number => Math.ceil(size / MOST_COLUMNS);

const name = (v: AttentionTileVariant, pass: string): string =>
  `attention.${pass}.tiles.${v.size}${v.masked ? '.masked' : ''}${v.capped ? '.capped' : ''}${v.bounded ? '.bounded' : ''}${v.cut ? '.cut' : ''}${v.rolled ? '.rolled' : ''}${v.roomy ? '' : '.16KiB'}`;

const FOUR = [0, 1, 2, 3] as const;
const XYZW = ['x', 'y', 'z', 'w'] as const;
const lines = (list: readonly string[]): string => list.join('\n  ');
const each = (text: (m: number) => string): string => lines(FOUR.map(text));

/** The text that the four kernels are put together of: `own` rows are tile rows m of this lane, four of them. */
function parts(v: AttentionTileVariant, own: readonly string[]) {
  const { size, roomy, rolled } = v;
  const longest = roomy ? 64 : 32;
  const slices = Math.ceil(size / longest);
  /** Elements of a row that lie turned at a time. */
  const slice = 8 * Math.ceil(size / slices / 8);
  const width = 32 * Math.ceil(size / columnParts(size) / 32);
  const columns = width % longest === 0 ? longest : roomy && width === 96 ? width : 32;
  /** Quads of memory. */
  const other = 8 * Math.max(slice, columns);
  const kept = 8 * slices * slice;
  /** Own rows are turned once and stay; else a slice at a time, with the other side's. */
  const stays = own.length * kept + other <= (roomy ? 2048 : 1024) - 8 * ATTENTION_TILE - 64;
  const vector = size % 4 === 0;
  const exact = slices * slice === size && columnParts(size) * width === size;
  const quads = Math.ceil(size / 4);

  /** Steps of products, and keys of sums, in a turn of a loop. */
  const [steps, keysAtOnce] = rolled ? [1, 1] : [8, 4];
  /** Compilers unroll what they know the end of. */
  const upTo = (count: number): string => (rolled ? `${count}u + p.zero` : `${count}u`);

  const load = (of: string): string =>
    vector
      ? `fn load_${of}(row: u32, quad: u32) -> vec4f {
  ${exact ? `return ${of}[row * ${quads}u + quad];` : `return select(vec4f(), ${of}[row * ${quads}u + min(quad, ${quads - 1}u)], quad < ${quads}u);`}
}`
      : `fn load_${of}(row: u32, quad: u32) -> vec4f {
  let at = vec4u(4u * quad) + vec4u(0u, 1u, 2u, 3u);
  let i = row * ${size}u + min(at, vec4u(${size - 1}u));
  return select(vec4f(), vec4f(${of}[i.x], ${of}[i.y], ${of}[i.z], ${of}[i.w]), at < vec4u(${size}u));
}`;
  const store = (of: string): string =>
    vector
      ? `fn store_${of}(row: u32, quad: u32, value: vec4f) {
  ${exact ? '' : `if (quad >= ${quads}u) { return; }`}
  ${of}[row * ${quads}u + quad] = value;
}`
      : `fn store_${of}(row: u32, quad: u32, value: vec4f) {
  for (var i = 0u; i < 4u; i++) {
    if (4u * quad + i < ${size}u) { ${of}[row * ${size}u + 4u * quad + i] = value[i]; }
  }
}`;
  /** Lays a slice of the row that this lane has, lane % 32 of its side, turned. */
  const turn = (into: string, from: string, row: string, part: string, at: string): string => `
  for (var i = 0u; i < ${upTo(slice / 8)}; i++) {
    let quad = lane / 32u + 2u * i;
    let x = load_${from}(${row}, ${part} * ${slice / 4}u + quad);
    let at = ${at}quad * 32u + lane % 32u / 4u;
    ${XYZW.map((c, j) => `${into}[at + ${8 * j}u][lane % 4u] = x.${c};`).join(' ')}
  }`;
  const turned = [...Array(width / columns).keys()];
  const taken = [...Array(columns / 32).keys()];
  const sums = [...Array(width / 32).keys()];

  return {
    bindings: {
      read: (...of: string[]) => floats('read', vector ? 'vec4f' : 'f32', ...of),
      written: (...of: string[]) => floats('read_write', vector ? 'vec4f' : 'f32', ...of),
    },
    functions: (loads: readonly string[], stores: readonly string[]): string =>
      [...loads.map(load), ...stores.map(store)].join('\n'),
    shared: `
var<workgroup> own: array<vec4f, ${stays ? own.length * kept : 8 * slice}>;
var<workgroup> other: array<vec4f, ${other}>;`,
    weights: `var<workgroup> weights: array<vec4f, ${8 * ATTENTION_TILE}>;`,
    /** The own rows of both bindings, where they stay; row `row` is that of place lane % 32. */
    hold: (row: string): string =>
      stays
        ? own
            .map(
              (of, which) => `for (var part = 0u; part < ${slices}u; part++) {
  ${turn('own', of, row, 'part', `${kept * which}u + part * ${8 * slice}u + `)}
  }`,
            )
            .join('\n  ')
        : '',
    /** to{m}, of four rows of the other side each, = own row m of `of` times those of `by`. */
    dots: (to: string, of: string, ownRow: string, by: string, row: string): string => {
      const which = own.indexOf(of);
      const at = stays ? `${kept * which}u + part * ${8 * slice}u + ` : '';
      return `${each((m) => `var ${to}${m} = vec4f();`)}
  for (var part = 0u; part < ${slices}u; part++) {
  workgroupBarrier();
  ${stays ? '' : turn('own', of, ownRow, 'part', '')}
  ${turn('other', by, row, 'part', '')}
  workgroupBarrier();
  for (var d = 0u; d < ${upTo(slice / steps)}; d++) {
  let a_at = ${at}d * ${8 * steps}u + down; let b_at = d * ${8 * steps}u + across;
  ${lines(
    [...Array(steps).keys()].map(
      (j) => `{ let a = own[a_at + ${8 * j}u]; let b = other[b_at + ${8 * j}u];
  ${FOUR.map((m) => `${to}${m} = fma(vec4f(a.${XYZW[m]}), b, ${to}${m});`).join(' ')} }`,
    ),
  )}
  }
  }`;
    },
    /** Lays weight{m}, of four rows of the other side each, where {@link spread} finds them. */
    lay: (weight: string): string =>
      lines(
        XYZW.map(
          (c, j) =>
            `weights[across * 32u + ${8 * j}u + down] = vec4f(${FOUR.map((m) => `${weight}${m}.${c}`).join(', ')});`,
        ),
      ),
    zeros: (sum: string): string =>
      lines(FOUR.flatMap((m) => sums.map((q) => `var ${sum}${m}_${q} = vec4f();`))),
    clear: (sum: string): string => lines(FOUR.flatMap((m) => sums.map((q) => `${sum}${m}_${q} = vec4f();`))),
    times: (sum: string, factor: string): string =>
      lines(FOUR.flatMap((m) => sums.map((q) => `${sum}${m}_${q} *= ${factor}.${XYZW[m]};`))),
    /** sum{m}_{q} += the block's weights times the rows of `by`, of which the one in place i of the block is row `row(i)`. */
    spread: (sum: string, by: string, row: (i: string) => string): string =>
      lines(
        turned.map(
          (part) => `${part > 0 ? 'workgroupBarrier();' : ''}
  for (var i = 0u; i < ${upTo(columns / 8)}; i++) {
    let at = i * 64u + lane;
    other[at] = load_${by}(${row(`at / ${columns / 4}u`)}, column + ${(part * columns) / 4}u + at % ${columns / 4}u);
  }
  workgroupBarrier();
  for (var i = 0u; i < ${upTo(ATTENTION_TILE / keysAtOnce)}; i++) {
  let w_at = i * ${8 * keysAtOnce}u + down; let b_at = i * ${(keysAtOnce * columns) / 4}u + across;
  ${lines(
    [...Array(keysAtOnce).keys()].map(
      (j) => `{ let w = weights[w_at + ${8 * j}u];
  ${taken.map((n) => `let b${n} = other[b_at + ${(j * columns) / 4 + 8 * n}u];`).join(' ')}
  ${FOUR.map((m) => taken.map((n) => `${sum}${m}_${part * taken.length + n} = fma(vec4f(w.${XYZW[m]}), b${n}, ${sum}${m}_${part * taken.length + n});`).join(' ')).join('\n  ')} }`,
    ),
  )}
  }`,
        ),
      ),
    /** Hands on each quad of the sums of own row m, which is the result's row `row(m)`, column quad `quad`. */
    leave: (
      sum: string,
      own: string,
      row: (m: number) => string,
      result: (m: number, quad: string, sum: string) => string,
    ): string =>
      each(
        (m) => `if (first + 4u * down + ${m}u < ${own}) {
  let row = ${row(m)};
  ${lines(sums.map((q) => result(m, `column + ${8 * q}u + across`, `${sum}${m}_${q}`)))}
  }`,
      ),
    width,
  };
}

/** Adds up the eight lanes' parts of four rows' sums `of` in `to`, through workgroup memory. */
const overKeys = (of: string, to: string, combine: (a: string, b: string) => string): string => `
  most[across * 8u + down] = ${of};
  workgroupBarrier();
  var ${to} = most[down];
  for (var i = 1u; i < 8u; i++) { ${to} = ${combine(to, 'most[i * 8u + down]')}; }`;
const add = (a: string, b: string): string => `${a} + ${b}`;

const MOST = 'var<workgroup> most: array<vec4f, 64>;';
const MAIN = (v: AttentionTileVariant, width: number): string => `
fn main(@builtin(workgroup_id) wid: vec3u, @builtin(local_invocation_index) lane: u32) {
  let down = lane % 8u;
  let across = lane / 8u;
  let batch = wid.z / ${columnParts(v.size)}u;
  let column = wid.z % ${columnParts(v.size)}u * ${width / 4}u;
  let head = wid.y;
  let chunks = (p.keys + ${ATTENTION_CHUNK - 1}u) / ${ATTENTION_CHUNK}u;
  let first = wid.x${v.cut ? ' / chunks' : ''} * ${ATTENTION_TILE}u;`;

/** Queries' rows: the four of this lane, the one that it stages, and the keys that they see. */
const QUERIES = (masked: boolean): string => `
  let row4 = min(vec4u(first + 4u * down) + vec4u(0u, 1u, 2u, 3u), vec4u(p.rows - 1u));
  let low = vec4u(${XYZW.map((c) => `seen_from(row4.${c})`).join(', ')});
  let high = vec4u(${XYZW.map((c) => `seen_to(row4.${c})`).join(', ')});
  let own_row = query_of(batch, head, min(first + lane % 32u, p.rows - 1u));
  ${
    masked
      ? 'let start = 0u; let end = p.keys;'
      : `let start = seen_from(first) / ${ATTENTION_TILE}u * ${ATTENTION_TILE}u;
  let end = seen_to(min(first + ${ATTENTION_TILE - 1}u, p.rows - 1u));`
  }`;

/** Walks over the chunks of keys, or takes the workgroup's own; what is between lies before and behind a chunk's blocks. */
const keyChunks = (v: AttentionTileVariant, before: string, block: string, behind: string): string => {
  const blocks = `
  ${before}
  for (var base = max(chunk * ${ATTENTION_CHUNK}u, start); base < min(chunk * ${ATTENTION_CHUNK}u + ${ATTENTION_CHUNK}u, end); base += ${ATTENTION_TILE}u) {
  let at_key = vec4u(base + 4u * across) + vec4u(0u, 1u, 2u, 3u);
  let other_row = key_row(batch, head, min(base + lane % 32u, end - 1u));
  ${v.masked ? `let unmasked = vec4<bool>(${XYZW.map((c) => `mask[batch * p.keys + min(at_key.${c}, p.keys - 1u)] != 0u`).join(', ')});` : ''}
  ${block}
  }
  ${behind}`;
  return v.cut
    ? `let chunk = wid.x % chunks;
  ${blocks}`
    : `for (var chunk = start / ${ATTENTION_CHUNK}u; chunk * ${ATTENTION_CHUNK}u < end; chunk++) {
  ${blocks}
  }`;
};
const KEY_OF = (i: string): string => `key_row(batch, head, min(base + ${i}, end - 1u))`;
const seen = (v: AttentionTileVariant, m: number): string =>
  `((at_key >= vec4u(low.${XYZW[m]})) & (at_key < vec4u(high.${XYZW[m]}))${v.masked ? ' & unmasked' : ''})`;
const exists = '(at_key < vec4u(p.keys))';

/**
 * y = softmax(q k^T scale + masks) v, and lse, the logarithm of each row's sum of exponentials (a large negative number for a
 * row that sees nothing, which is uniform over all keys). Cut: of each chunk the sums and, beside them, maximum and sum of weights, for
 * `attentionMerge`. Grid: (ceil(rows / 32), times chunks where cut; key heads; batches times {@link columnParts}).
 */
export const attentionForwardTiles = shipped(
  (v: AttentionTileVariant): Kernel => {
    const { masked, capped, bounded, cut } = v;
    const {
      bindings,
      functions,
      shared,
      weights,
      hold,
      dots,
      lay,
      zeros,
      clear,
      times,
      spread,
      leave,
      width,
    } = parts(v, ['q']);
    const { declarations, score } = scoring(capped, 'vec4f');
    const scoreOf = (m: number): string =>
      masked
        ? `select(vec4f(${NO_KEY}), select(vec4f(${HIDDEN}), ${score(`s${m}`)}, ${seen(v, m)}), ${exists})`
        : `select(vec4f(${NO_KEY}), ${score(`s${m}`)}, ${seen(v, m)})`;
    return {
      name: name(v, 'forward'),
      bindings: [
        ...bindings.read('q', 'k', 'v'),
        ...words(masked && 'mask', bounded && 'last'),
        ...(cut
          ? [...bindings.written('sums'), ...floats('read_write', 'vec2f', 'marks')]
          : [...bindings.written('y'), ...floats('read_write', 'f32', 'lse')]),
      ],
      params: ATTENTION_PARAMS,
      workgroup: [64, 1, 1],
      body: `
${places(bounded)}
${declarations}
${functions(cut ? ['q', 'k', 'v'] : ['q', 'k', 'v', 'y'], cut ? ['sums'] : ['y'])}
${shared}
${weights}
${MOST}
${MAIN(v, width)}
  ${QUERIES(masked)}
  ${hold('own_row')}
  ${cut ? '' : `var all_top = vec4f(${NO_MAXIMUM}); var all_total = vec4f();`}
  ${zeros('o')}
  ${keyChunks(
    v,
    `var top = vec4f(${NO_MAXIMUM}); var total = vec4f();
  ${clear('o')}`,
    `${dots('s', 'q', 'own_row', 'k', 'other_row')}
  ${each((m) => `s${m} = ${scoreOf(m)};`)}
  ${overKeys(`vec4f(${FOUR.map((m) => `max(max(s${m}.x, s${m}.y), max(s${m}.z, s${m}.w))`).join(', ')})`, 'larger', (a, b) => `max(${a}, ${b})`)}
  larger = max(larger, top);
  let keep = exp(top - larger);
  top = larger;
  ${each((m) => `s${m} = exp(s${m} - larger.${XYZW[m]});`)}
  total = fma(total, keep, vec4f(${FOUR.map((m) => `s${m}.x + s${m}.y + s${m}.z + s${m}.w`).join(', ')}));
  ${lay('s')}
  ${times('o', 'keep')}
  ${spread('o', 'v', KEY_OF)}`,
    `${overKeys('total', 'chunk_total', add)}
  ${
    cut
      ? `${leave(
          'o',
          'p.rows',
          (m) => `query_of(batch, head, first + 4u * down + ${m}u) * chunks + chunk`,
          (_, quad, sum) => `store_sums(row, ${quad}, ${sum});`,
        )}
  if (across == 0u && column == 0u) {
  ${each((m) => `if (first + 4u * down + ${m}u < p.rows) { marks[query_of(batch, head, first + 4u * down + ${m}u) * chunks + chunk] = vec2f(top.${XYZW[m]}, chunk_total.${XYZW[m]}); }`)}
  }`
      : `let all_larger = max(all_top, top);
  let before = exp(all_top - all_larger);
  let now = exp(top - all_larger);
  all_top = all_larger;
  all_total = fma(all_total, before, chunk_total * now);
  // The first chunk finds nothing, the last divides by the whole sum.
  let is_first = chunk == start / ${ATTENTION_CHUNK}u;
  let norm = select(vec4f(1.0), 1.0 / all_total, chunk * ${ATTENTION_CHUNK}u + ${ATTENTION_CHUNK}u >= end);
  ${leave(
    'o',
    'p.rows',
    (m) => `query_of(batch, head, first + 4u * down + ${m}u)`,
    (m, quad, sum) =>
      `{ var old = vec4f(); if (!is_first) { old = load_y(row, ${quad}); } store_y(row, ${quad}, fma(old, vec4f(before.${XYZW[m]}), ${sum} * now.${XYZW[m]}) * norm.${XYZW[m]}); }`,
  )}`
  }`,
  )}
  ${
    cut
      ? ''
      : `if (across == 0u && column == 0u) {
  ${each((m) => `if (first + 4u * down + ${m}u < p.rows) { lse[query_of(batch, head, first + 4u * down + ${m}u)] = all_top.${XYZW[m]} + log(all_total.${XYZW[m]}); }`)}
  }`
  }
}`,
    };
  },
  takes('attentionForwardTiles', ['variant', TILE]),
  (v) => name(v, 'forward'),
);

/**
 * The {@link ATTENTION_STATISTICS} of each row, from the cotangent of y and the forward's lse; cut: of each chunk, for `chunkSums`.
 * Grid: as the forward's, without parts of columns.
 */
export const attentionStatisticsTiles = shipped(
  (v: AttentionTileVariant): Kernel => {
    const { masked, capped, cut } = v;
    const { bindings, functions, shared, hold, dots } = parts(v, ['q', 'dy']);
    const { declarations, score } = scoring(capped, 'vec4f');
    const sealed = (of: string): string => `bitcast<vec4f>(bitcast<vec4u>(${of}) ^ vec4u(p.zero))`;
    const SUMS = ['others', 'rest', 'surest', 'place'] as const;
    const into = cut ? ' * chunks + chunk' : '';
    const result = `if (across == 0u) {
  ${each(
    (m) => `if (first + 4u * down + ${m}u < p.rows) {
  let at = (query_of(batch, head, first + 4u * down + ${m}u)${into}) * ${ATTENTION_STATISTICS}u;
  stats[at] = ${cut ? `select(0.0, lse4.${XYZW[m]}, chunk == 0u)` : `lse4.${XYZW[m]}`};
  ${SUMS.map((of, i) => `stats[at + ${i + 1}u] = all_${of}.${XYZW[m]};`).join(' ')}
  }`,
  )}
  }`;
    return {
      name: name(v, 'statistics'),
      bindings: [
        ...bindings.read('q', 'k', 'v'),
        ...words(masked && 'mask'),
        ...bindings.read('dy'),
        ...floats('read', 'f32', 'lse'),
        ...floats('read_write', 'f32', 'stats'),
      ],
      params: ATTENTION_PARAMS,
      workgroup: [64, 1, 1],
      body: `
${places()}
${declarations}
${functions(['q', 'k', 'v', 'dy'], [])}
${shared}
${MOST}
${MAIN(v, 0)}
  ${QUERIES(masked)}
  ${hold('own_row')}
  let lse4 = vec4f(${XYZW.map((c) => `lse[query_of(batch, head, row4.${c})]`).join(', ')});
  ${SUMS.map((of) => `var all_${of} = vec4f();`).join(' ')}
  ${keyChunks(
    v,
    SUMS.map((of) => `var ${of} = vec4f();`).join(' '),
    `${dots('s', 'q', 'own_row', 'k', 'other_row')}
  ${dots('d', 'dy', 'own_row', 'v', 'other_row')}
  // Of a block by themselves: added to the sums one by one, many small ones would vanish.
  var terms = vec4f(); var shares = vec4f();
  ${each((m) => {
    const c = XYZW[m]!;
    return `{ let x = ${again(masked, score(`s${m}`), seen(v, m), exists, `vec4f(lse4.${c})`, 'vec4f')};
  let sure = x > vec4f(${DOMINATES});
  let less = select(x, vec4f(), sure);
  terms.${c} = ${XYZW.slice(1).reduce((sum, k) => `fma(less.${k}, d${m}.${k}, ${sum})`, `less.x * d${m}.x`)};
  shares.${c} = less.x + less.y + less.z + less.w;
  let it = select(vec4f(), d${m}, sure);
  surest.${c} += it.x + it.y + it.z + it.w;
  let there = select(vec4f(), vec4f(at_key + vec4u(1u)), sure);
  place.${c} += there.x + there.y + there.z + there.w; }`;
  })}
  others += ${sealed('terms')};
  rest += shares;`,
    `${SUMS.map(
      (of) => `{ ${overKeys(of, 'sum', add)}
  all_${of} += sum;
  workgroupBarrier(); }`,
    ).join('\n  ')}`,
  )}
  ${result}
}`,
    };
  },
  takes('attentionStatisticsTiles', ['variant', TILE]),
  (v) => name(v, 'statistics'),
);

/**
 * Cotangent of q from that of y: dq = sum over keys of dS scale k, from the {@link ATTENTION_STATISTICS}; cut: of each chunk.
 * Grid: as the forward's.
 */
export const attentionBackwardQueriesTiles = shipped(
  (v: AttentionTileVariant): Kernel => {
    const { masked, capped, cut } = v;
    const { bindings, functions, shared, weights, hold, dots, lay, zeros, clear, spread, leave, width } =
      parts(v, ['q', 'dy']);
    const { declarations, score, slope } = scoring(capped, 'vec4f');
    const stat = (i: number): string =>
      `vec4f(${XYZW.map((c) => `stats[query_of(batch, head, row4.${c}) * ${ATTENTION_STATISTICS}u + ${i}u]`).join(', ')})`;
    return {
      name: name(v, 'backward_queries'),
      bindings: [
        ...bindings.read('q', 'k', 'v'),
        ...words(masked && 'mask'),
        ...bindings.read('dy'),
        ...floats('read', 'f32', 'stats'),
        ...bindings.written('dq'),
      ],
      params: ATTENTION_PARAMS,
      workgroup: [64, 1, 1],
      body: `
${places()}
${declarations}
${functions(cut ? ['q', 'k', 'v', 'dy'] : ['q', 'k', 'v', 'dy', 'dq'], ['dq'])}
${shared}
${weights}
${MAIN(v, width)}
  ${QUERIES(masked)}
  ${hold('own_row')}
  let lse4 = ${stat(0)};
  let surest4 = ${stat(3)};
  let delta4 = ${stat(1)} - surest4 * ${stat(2)};
  let surest_key4 = vec4u(${stat(4)});
  ${zeros('o')}
  ${keyChunks(
    v,
    clear('o'),
    `${dots('s', 'q', 'own_row', 'k', 'other_row')}
  ${dots('d', 'dy', 'own_row', 'v', 'other_row')}
  ${each((m) => {
    const c = XYZW[m]!;
    const probability = again(masked, score(`s${m}`), seen(v, m), exists, `vec4f(lse4.${c})`, 'vec4f');
    return `{ let x = ${probability};
  s${m} = ${productCotangent('x', `d${m}`, `surest4.${c}`, `at_key + vec4u(1u) == vec4u(surest_key4.${c})`, `delta4.${c}`, slope(`s${m}`), 'vec4f()')}; }`;
  })}
  workgroupBarrier();
  ${lay('s')}
  ${spread('o', 'k', KEY_OF)}`,
    leave(
      'o',
      'p.rows',
      (m) => `query_of(batch, head, first + 4u * down + ${m}u)${cut ? ' * chunks + chunk' : ''}`,
      (_, quad, sum) =>
        cut
          ? `store_dq(row, ${quad}, ${sum});`
          : `{ var old = vec4f(); if (chunk != start / ${ATTENTION_CHUNK}u) { old = load_dq(row, ${quad}); } store_dq(row, ${quad}, old + ${sum}); }`,
    ),
  )}
}`,
    };
  },
  takes('attentionBackwardQueriesTiles', ['variant', TILE]),
  (v) => name(v, 'backward_queries'),
);

/**
 * Cotangents of k and v: dv = sum over queries of P dy, dk of dS scale q, over all heads that share the key head; rows in chunks as keys
 * are. Grid: (ceil(keys / 32), key heads, batches times {@link columnParts}).
 */
export const attentionBackwardKeysTiles = shipped(
  (v: AttentionTileVariant): Kernel => {
    const { masked, capped } = v;
    const { bindings, functions, shared, weights, hold, dots, lay, zeros, clear, spread, leave, width } =
      parts(v, ['k', 'v']);
    const { declarations, score, slope } = scoring(capped, 'vec4f');
    const fact = (c: string): string =>
      `vec4f(${FOUR.map((j) => `facts[4u * across + ${j}u].${c}`).join(', ')})`;
    const bound = (c: string): string =>
      `vec4u(${FOUR.map((j) => `bounds[4u * across + ${j}u].${c}`).join(', ')})`;
    const result = (of: string, sum: string): string =>
      leave(
        sum,
        'p.keys',
        (m) => `key_row(batch, head, first + 4u * down + ${m}u)`,
        (_, quad, sum) =>
          `{ var old = vec4f(); if (base0 != begin) { old = load_${of}(row, ${quad}); } store_${of}(row, ${quad}, old + ${sum}); }`,
      );
    return {
      name: name(v, 'backward_keys'),
      bindings: [
        ...bindings.read('q', 'k', 'v'),
        ...words(masked && 'mask'),
        ...bindings.read('dy'),
        ...floats('read', 'f32', 'stats'),
        ...bindings.written('dk', 'dv'),
      ],
      params: ATTENTION_PARAMS,
      workgroup: [64, 1, 1],
      body: `
${places()}
${declarations}
${functions(['q', 'k', 'v', 'dy', 'dk', 'dv'], ['dk', 'dv'])}
${shared}
${weights}
// Of the rows of a block: lse, delta, c and the place of r; the keys that they see; their numbers.
var<workgroup> facts: array<vec4f, ${ATTENTION_TILE}>;
var<workgroup> bounds: array<vec2u, ${ATTENTION_TILE}>;
var<workgroup> queries: array<u32, ${ATTENTION_TILE}>;
${MAIN(v, width)}
  let own_row = key_row(batch, head, min(first + lane % 32u, p.keys - 1u));
  let key4 = vec4u(first + 4u * down) + vec4u(0u, 1u, 2u, 3u);
  ${masked ? `let unmasked = vec4<bool>(${XYZW.map((c) => `mask[batch * p.keys + min(key4.${c}, p.keys - 1u)] != 0u`).join(', ')});` : ''}
  ${hold('own_row')}
  ${
    masked
      ? 'let start = 0u; let end = p.rows;'
      : `// From the block of the first query that sees the first of the keys to the last that sees the last; one at least, for zeros.
  let final_key = min(first + ${ATTENTION_TILE}u, p.keys);
  let start = u32(max(i32(first) - p.past - p.after, 0)) * p.group / ${ATTENTION_TILE}u * ${ATTENTION_TILE}u;
  let sees = u32(clamp(i32(final_key) - p.past + p.before, 0, i32(p.queries))) * p.group;
  let end = max(sees, start + 1u);`
  }
  let begin = start / ${ATTENTION_CHUNK}u * ${ATTENTION_CHUNK}u;
  ${zeros('ov')}
  ${zeros('ok')}
  for (var base0 = begin; base0 < end; base0 += ${ATTENTION_CHUNK}u) {
  ${clear('ov')}
  ${clear('ok')}
  for (var base = max(base0, start); base < min(base0 + ${ATTENTION_CHUNK}u, end); base += ${ATTENTION_TILE}u) {
  let staged = min(base + lane % 32u, p.rows - 1u);
  let other_row = query_of(batch, head, staged);
  workgroupBarrier();
  if (lane < ${ATTENTION_TILE}u) {
    let at = other_row * ${ATTENTION_STATISTICS}u;
    facts[lane] = vec4f(stats[at], stats[at + 1u] - stats[at + 3u] * stats[at + 2u], stats[at + 3u], stats[at + 4u]);
    // A row that is none sees no key, and is not uniform either.
    let inside = base + lane < p.rows;
    bounds[lane] = vec2u(seen_from(staged), select(0u, seen_to(staged), inside));
    queries[lane] = other_row;
  }
  ${dots('s', 'k', 'own_row', 'q', 'other_row')}
  ${dots('d', 'v', 'own_row', 'dy', 'other_row')}
  let lse4 = ${fact('x')};
  let delta4 = ${fact('y')};
  let surest4 = ${fact('z')};
  let surest_key4 = vec4u(${fact('w')});
  let low = ${bound('x')};
  let high = ${bound('y')};
  ${masked ? `let inside4 = vec4u(base + 4u * across) + vec4u(0u, 1u, 2u, 3u) < vec4u(p.rows);` : ''}
  ${each((m) => {
    const c = XYZW[m]!;
    const shown = `((vec4u(key4.${c}) >= low) & (vec4u(key4.${c}) < high)${masked ? ` & vec4<bool>(unmasked.${c})` : ''})`;
    return `{ let x = ${again(masked, score(`s${m}`), shown, 'inside4', 'lse4', 'vec4f')};
  d${m} = ${productCotangent('x', `d${m}`, 'surest4', `vec4u(key4.${c} + 1u) == surest_key4`, 'delta4', slope(`s${m}`), 'vec4f()')};
  s${m} = x; }`;
  })}
  workgroupBarrier();
  ${lay('s')}
  ${spread('ov', 'dy', (i) => `queries[${i}]`)}
  workgroupBarrier();
  ${lay('d')}
  ${spread('ok', 'q', (i) => `queries[${i}]`)}
  }
  ${result('dv', 'ov')}
  ${result('dk', 'ok')}
  }
}`,
    };
  },
  takes('attentionBackwardKeysTiles', ['variant', TILE]),
  (v) => name(v, 'backward_keys'),
);
