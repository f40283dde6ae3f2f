/**
 * Gradients of attention where a query sees one key almost alone: 1 - P is far below float32's resolution of P, yet cotangents of
 * queries, keys and values keep their digits. Against sums over pairs of keys in float64, of which no term cancels.
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  attention,
  type Device,
  grad,
  prefixAttention,
  scope,
  type Tensor,
  tensor,
} from '../../engine/index.ts';
import { open, random } from './support.ts';

/** How far a query's likeliest key lies above the others: 1 - P from what is ordinary to what float32 holds. */
const LEADS = [0, 5, 14, 20, 40, 70];
const [KEYS, HEADS, KEY_HEADS, SIZE] = [300, 4, 2, 8];
const GROUP = HEADS / KEY_HEADS;
const SCALE = 1 / Math.sqrt(SIZE);

type Rows = (number | null)[];
/** Each lead with few rows and with more than eight. */
const fewAndMany = (few: Rows, many: Rows): [lead: number, favourites: Rows][] =>
  LEADS.flatMap((lead): [number, Rows][] => [
    [lead, few],
    [lead, many],
  ]);

/** Queries [n, heads, D] along one axis each, and keys [n, keyHeads, D], of which row i's favourite leads along the same. */
function inputs(favourites: Rows, keys: number, lead: number, own: boolean) {
  const next = random(lead + keys);
  const made = (count: number): Float32Array => Float32Array.from({ length: count }, () => next() - 0.5);
  const queries = favourites.length;
  const [q, dy] = [made(queries * HEADS * SIZE), made(queries * HEADS * SIZE)];
  const [k, v] = [made(keys * KEY_HEADS * SIZE), made(keys * KEY_HEADS * SIZE)];
  // Keys and values of the rows themselves, behind a prefix.
  const [ownK, ownV] = own
    ? [made(queries * KEY_HEADS * SIZE), made(queries * KEY_HEADS * SIZE)]
    : [made(0), made(0)];
  favourites.forEach((favourite, i) => {
    for (let h = 0; h < HEADS; h++) q[(i * HEADS + h) * SIZE + i] = 4;
    for (let g = 0; g < KEY_HEADS; g++) {
      const from = favourite === null ? ownK : k;
      from[((favourite ?? i) * KEY_HEADS + g) * SIZE + i] = lead / (4 * SCALE);
    }
  });
  return { q, dy, k, v, ownK, ownV };
}

interface Sums {
  readonly value: Float64Array;
  /** What is added up, in absolute terms. */
  readonly size: Float64Array;
}
const sums = (n: number): Sums => ({ value: new Float64Array(n), size: new Float64Array(n) });

/** Cotangents in float64; `keysOf` says where the keys lie that a query sees, in k and v. */
function reference(
  q: Float32Array,
  k: Float32Array,
  v: Float32Array,
  dy: Float32Array,
  keysOf: (query: number) => readonly number[],
): readonly [Sums, Sums, Sums] {
  const [dq, dk, dv] = [sums(q.length), sums(k.length), sums(v.length)];
  const add = (to: Sums, at: number, value: number, size: number): void => {
    to.value[at]! += value;
    to.size[at]! += size;
  };
  for (let i = 0; i < q.length / (HEADS * SIZE); i++)
    for (let h = 0; h < HEADS; h++) {
      const row = (i * HEADS + h) * SIZE;
      const places = keysOf(i).map((key) => (key * KEY_HEADS + Math.floor(h / GROUP)) * SIZE);
      const axes = [...Array(SIZE).keys()];
      const s = places.map((at) => SCALE * axes.reduce((t, d) => t + q[row + d]! * k[at + d]!, 0));
      const top = Math.max(...s);
      const total = s.reduce((t, x) => t + Math.exp(x - top), 0);
      const p = s.map((x) => Math.exp(x - top) / total);
      places.forEach((at, j) => {
        let [score, size] = [0, 0];
        places.forEach((other, m) => {
          if (m === j) return;
          const terms = axes.map((d) => p[j]! * p[m]! * dy[row + d]! * (v[at + d]! - v[other + d]!));
          score += terms.reduce((a, b) => a + b);
          size += terms.reduce((a, b) => a + Math.abs(b), 0);
        });
        for (const d of axes) {
          add(dq, row + d, SCALE * score * k[at + d]!, SCALE * size * Math.abs(k[at + d]!));
          add(dk, at + d, SCALE * score * q[row + d]!, SCALE * size * Math.abs(q[row + d]!));
          add(dv, at + d, p[j]! * dy[row + d]!, p[j]! * Math.abs(dy[row + d]!));
        }
      });
    }
  return [dq, dk, dv];
}

/** Largest error relative to what was added up, where that is a normal number. */
function worst(got: Float32Array, { value, size }: Sums, from = 0): number {
  let error = 0;
  for (const [i, x] of got.entries())
    if (size[from + i]! > 1e-36) error = Math.max(error, Math.abs(x - value[from + i]!) / size[from + i]!);
  return error;
}

async function compute(of: () => Tensor[]): Promise<Float32Array[]> {
  const results = scope(of);
  try {
    return await Promise.all(results.map((t) => t.read()));
  } finally {
    for (const t of results) t.dispose();
  }
}

describe.each([
  ['shared by shuffles where the device can', {}],
  ['shared through workgroup memory', { subgroups: false }],
])('rows %s', (_, mask) => {
  let device: Device;
  beforeAll(async () => {
    device = await open({ mask });
  });
  afterAll(() => device?.destroy());

  // Favourites in the first chunk and the last; every query sees its own.
  it.each(fewAndMany([2, KEYS - 4, 70], [2, KEYS - 7, 70, 40, 41, 100]))(
    'fused attention, a key that leads by %i, %j',
    async (lead, favourites) => {
      const { q, k, v, dy } = inputs(favourites, KEYS, lead, false);
      const [queries, keys] = [
        [1, favourites.length, HEADS, SIZE],
        [1, KEYS, KEY_HEADS, SIZE],
      ];
      const got = await compute(() => {
        const x = [tensor(device, q, queries), tensor(device, k, keys), tensor(device, v, keys)].map((t) =>
          t.requireGrad(),
        );
        const y = attention(x[0]!, x[1]!, x[2]!, { fused: true, causal: true });
        return grad(y, x, { cotangent: tensor(device, dy, queries) });
      });
      const want = reference(q, k, v, dy, (i) => [...Array(KEYS - favourites.length + i + 1).keys()]);
      got.forEach((values, i) => {
        expect(worst(values, want[i]!), `gradient ${i}`).toBeLessThan(4e-5);
      });
    },
  );

  it.each(fewAndMany([null, KEYS - 1, 3, null], [null, KEYS - 1, 3, null, 70, 40]))(
    'rows behind a prefix, a key of it or their own that leads by %i, %j',
    async (lead, favourites) => {
      const rows = favourites.length;
      const { q, k, v, dy, ownK, ownV } = inputs(favourites, KEYS, lead, true);
      const shared = (x: Float32Array): Float32Array =>
        Float32Array.from(x, (_, i) => {
          const [g, rest] = [Math.floor(i / (KEYS * SIZE)), i % (KEYS * SIZE)];
          return x[(Math.floor(rest / SIZE) * KEY_HEADS + g) * SIZE + (rest % SIZE)]!;
        });
      const got = await compute(() => {
        const x = [
          tensor(device, q, [rows, HEADS, SIZE]),
          ...[ownK, ownV].map((t) => tensor(device, t, [rows, KEY_HEADS, SIZE])),
        ].map((t) => t.requireGrad());
        const [keys, values] = [k, v].map((t) => tensor(device, shared(t), [KEY_HEADS, KEYS, SIZE]));
        const y = prefixAttention(x[0]!, x[1]!, x[2]!, { keys: keys!, values: values! }, { fused: true });
        return grad(y, x, { cotangent: tensor(device, dy, [rows, HEADS, SIZE]) });
      });
      const joined = (a: Float32Array, b: Float32Array): Float32Array => Float32Array.of(...a, ...b);
      const places = [...Array(KEYS).keys()];
      const want = reference(q, joined(k, ownK), joined(v, ownV), dy, (i) => [...places, KEYS + i]);
      got.forEach((values, i) => {
        expect(worst(values, want[i]!, i === 0 ? 0 : k.length), `gradient ${i}`).toBeLessThan(4e-5);
      });
    },
  );
});
