/**
 * The kernels that GPUs take for attention, in every form: against sums in float64, forward and backward, on odd shapes; and in bits,
 * which a row keeps whatever rows it is among and however its keys are shared out or lie.
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  type AttentionOptions,
  attention,
  type Device,
  grad,
  integers,
  prefixAttention,
  type Tensor,
} from '../../engine/index.ts';
import { cachedAttention } from '../../engine/ops/cachedAttention.ts';
import { permute, reshape } from '../../engine/ops/shape.ts';
import { CASES } from './cases.ts';
import { compute, expectClose, normal, open, upload, WIDE } from './support.ts';

interface Sizes {
  readonly batch: number;
  readonly queries: number;
  readonly keys: number;
  readonly heads: number;
  readonly keyHeads: number;
  readonly size: number;
}
type Options = Omit<AttentionOptions, 'fused' | 'onPattern' | 'keyMask'>;

const inputsOf = ({ batch, queries, keys, heads, keyHeads, size }: Sizes) =>
  [
    [batch, queries, heads, size],
    [batch, keys, keyHeads, size],
    [batch, keys, keyHeads, size],
    [batch, queries, heads, size],
  ].map((shape, i) => normal(shape, 31 + i));

/** y, and cotangents of q, k, v, pair by pair. */
function naive(sizes: Sizes, mask: readonly number[] | null, { causal, window, cap, scale }: Options) {
  const { batch, queries, keys, heads, keyHeads, size } = sizes;
  const [q, k, v, dy] = inputsOf(sizes).map((x) => x.data) as [
    Float64Array,
    Float64Array,
    Float64Array,
    Float64Array,
  ];
  const [y, dq, dk, dv] = [q, q, k, v].map((x) => new Float64Array(x.length)) as [
    Float64Array,
    Float64Array,
    Float64Array,
    Float64Array,
  ];
  const factor = scale ?? 1 / Math.sqrt(size);
  const { before = keys, after = keys } = window ?? {};
  const dot = (a: Float64Array, i: number, b: Float64Array, j: number): number => {
    let sum = 0;
    for (let d = 0; d < size; d++) sum += a[i + d]! * b[j + d]!;
    return sum;
  };
  for (let b = 0; b < batch; b++)
    for (let t = 0; t < queries; t++)
      for (let h = 0; h < heads; h++) {
        const row = ((b * queries + t) * heads + h) * size;
        const key = (j: number): number =>
          ((b * keys + j) * keyHeads + Math.floor((h * keyHeads) / heads)) * size;
        const own = t + keys - queries;
        const products = Array.from({ length: keys }, (_, j) => factor * dot(q, row, k, key(j)));
        const scores = products.map((s, j) =>
          j < own - before || j > own + (causal ? 0 : after) || mask?.[b * keys + j] === 0
            ? -1e30
            : cap === undefined
              ? s
              : cap * Math.tanh(s / cap),
        );
        const top = scores.reduce((a, s) => Math.max(a, s));
        const total = scores.reduce((a, s) => a + Math.exp(s - top), 0);
        const p = scores.map((s) => Math.exp(s - top) / total);
        const dp = p.map((_, j) => dot(dy, row, v, key(j)));
        const mean = p.reduce((a, x, j) => a + x * dp[j]!, 0);
        for (let j = 0; j < keys; j++) {
          const slope = cap === undefined ? factor : factor * (1 - Math.tanh(products[j]! / cap) ** 2);
          // Of a row that sees nothing all scores are constants.
          const ds = scores[j]! === -1e30 ? 0 : p[j]! * (dp[j]! - mean) * slope;
          for (let d = 0; d < size; d++) {
            y[row + d]! += p[j]! * v[key(j) + d]!;
            dq[row + d]! += ds * k[key(j) + d]!;
            dk[key(j) + d]! += ds * q[row + d]!;
            dv[key(j) + d]! += p[j]! * dy[row + d]!;
          }
        }
      }
  return [y, dq, dk, dv];
}

const DEVICES = { '32 KiB': WIDE, '16 KiB': { ...WIDE, workgroupBytes: 16384 } };

describe.each(Object.entries(DEVICES))('with workgroup memory of %s', (_, mask) => {
  let device: Device;
  beforeAll(async () => {
    device = await open({ mask });
  });
  afterAll(() => device?.destroy());

  const shapes: [Sizes, Options, boolean?][] = [
    [{ batch: 1, queries: 35, keys: 70, heads: 2, keyHeads: 1, size: 64 }, { causal: true }],
    [{ batch: 2, queries: 33, keys: 33, heads: 2, keyHeads: 2, size: 80 }, {}, true],
    [
      { batch: 1, queries: 7, keys: 290, heads: 3, keyHeads: 1, size: 96 },
      { window: { before: 40, after: 3 } },
    ],
    [
      { batch: 1, queries: 12, keys: 45, heads: 2, keyHeads: 1, size: 128 },
      { causal: true, cap: 1.3 },
    ],
    [{ batch: 1, queries: 6, keys: 37, heads: 2, keyHeads: 2, size: 256 }, { scale: 0.02 }],
    [{ batch: 2, queries: 5, keys: 36, heads: 2, keyHeads: 1, size: 13 }, { cap: 2 }, true],
    [{ batch: 1, queries: 1, keys: 530, heads: 8, keyHeads: 1, size: 20 }, {}],
    [
      { batch: 1, queries: 3, keys: 600, heads: 3, keyHeads: 3, size: 8 },
      { causal: true, window: { before: 301 } },
    ],
    [{ batch: 1, queries: 300, keys: 300, heads: 1, keyHeads: 1, size: 4 }, { causal: true }],
    [
      { batch: 2, queries: 1, keys: 40, heads: 3, keyHeads: 1, size: 64 },
      { causal: true, cap: 1.1 },
    ],
    [
      { batch: 1, queries: 2, keys: 801, heads: 4, keyHeads: 1, size: 128 },
      { window: { before: 290, after: 2 }, cap: 2 },
    ],
    [{ batch: 1, queries: 1, keys: 257, heads: 2, keyHeads: 2, size: 256 }, {}],
  ];
  it.each(mask === WIDE ? shapes : [shapes[0]!, shapes[5]!, shapes[10]!])(
    '%j %j',
    async (sizes, options, padded = false) => {
      const { batch, keys } = sizes;
      const mask = padded
        ? Array.from({ length: batch * keys }, (_, i) => Number(i % 3 > 0 && i >= keys / 2))
        : null;
      const got = await compute(() => {
        const [q, k, v, dy] = inputsOf(sizes).map((x) => upload(device, x)) as [
          Tensor,
          Tensor,
          Tensor,
          Tensor,
        ];
        for (const t of [q, k, v]) t.requireGrad();
        const y = attention(q, k, v, {
          ...options,
          fused: true,
          ...(mask ? { keyMask: integers(device, mask, [batch, keys]) } : {}),
        });
        return [y.detach(), ...grad(y, [q, k, v], { cotangent: dy })];
      });
      naive(sizes, mask, options).forEach((want, i) => {
        expectClose(got[i]!.data, want, { ulps: 64, floor: 1 }, ['y', 'dq', 'dk', 'dv'][i]!);
      });
    },
  );
});

describe('of few rows, written out as for a GPU', () => {
  const devices: Device[] = [];
  beforeAll(async () => {
    for (const software of [true, false]) {
      const device = await open({ mask: WIDE });
      devices.push(Object.assign(device, { info: { ...device.info, software } }));
    }
  });
  afterAll(() => {
    for (const device of devices) device.destroy();
  });

  // Eight quads of a head at once, and one; keys in two chunks, the last one not full.
  it.each<[Sizes, Options]>([
    [{ batch: 1, queries: 1, keys: 290, heads: 2, keyHeads: 1, size: 64 }, { cap: 1.3 }],
    [
      { batch: 2, queries: 2, keys: 301, heads: 2, keyHeads: 1, size: 20 },
      { causal: true, window: { before: 270 } },
    ],
  ])('%j %j', async (sizes, options) => {
    const run = async (device: Device) => {
      device.startProfiling();
      const results = await compute(() => {
        const [q, k, v, dy] = inputsOf(sizes).map((x) => upload(device, x)) as [
          Tensor,
          Tensor,
          Tensor,
          Tensor,
        ];
        for (const t of [q, k, v]) t.requireGrad();
        const y = attention(q, k, v, { ...options, fused: true });
        return [y.detach(), ...grad(y, [q, k, v], { cotangent: dy })];
      });
      const kernels = (await device.stopProfiling()).map(({ kernel }) => kernel);
      // They come in the order of their times.
      return { results, kernels: kernels.filter((name) => name.includes('.rows')).sort() };
    };
    const [rolled, unrolled] = [await run(devices[0]!), await run(devices[1]!)];
    expect(rolled.kernels.length).toBe(4);
    expect(unrolled.kernels).toEqual(rolled.kernels.map((name) => name.replace('.rolled', '')).sort());
    expect(unrolled.kernels).not.toEqual(rolled.kernels);
    naive(sizes, null, options).forEach((want, i) => {
      const got = unrolled.results[i]!.data;
      expectClose(got, want, { ulps: 64, floor: 1 }, ['y', 'dq', 'dk', 'dv'][i]!);
      expect([...got]).toEqual([...rolled.results[i]!.data]);
    });
  });
});

describe('in the table of operations', () => {
  let device: Device;
  beforeAll(async () => {
    device = await open({ mask: WIDE });
  });
  afterAll(() => device?.destroy());

  const SOME =
    /^(attention (1x1x1|1x33x65|1x4x6|1x4x5|1x70x300)|prefixAttention (5x300|2x4|2x3 2.1)) .*fused/;
  it.each(CASES.filter(({ name }) => SOME.test(name)))('$name', async (c) => {
    const [got] = await compute(() => [
      c.run(
        c.inputs.map((x) => upload(device, x)),
        device,
      ),
    ]);
    expectClose(got!.data, c.reference(c.inputs).data, c.tolerance, c.name);
  });
});

describe('bits', () => {
  let device: Device;
  beforeAll(async () => {
    device = await open({ mask: WIDE });
  });
  afterAll(() => device?.destroy());

  /** Kernels that `of` dispatched, and the numbers it made. */
  async function made(of: () => Tensor[]): Promise<{ kernels: string[]; data: Float32Array[] }> {
    device.startProfiling();
    const data = (await compute(of)).map((x) => x.data);
    return { kernels: (await device.stopProfiling()).map(({ kernel }) => kernel), data };
  }
  const all = ({ data }: { readonly data: Float32Array[] }): number[][] => data.map((x) => [...x]);

  // Forward and back, or forward alone: drivers take long to compile tiles.
  it.each([
    [20, 1, true],
    [64, 1, false],
    [64, 4, true],
    [128, 8, false],
  ])(
    'of one query of heads of %i, %i sharing a key head, are those it has among 40',
    async (size, group, back) => {
      const sizes = { batch: 1, queries: 40, keys: 700, heads: 2 * group, keyHeads: 2, size };
      const [q, k, v, dy] = inputsOf(sizes);
      const how = { causal: true, window: { before: 555 }, ...(group === 4 ? { cap: 3 } : {}) };
      const row = sizes.heads * size;
      // The cotangent of the last alone, so that keys and values have theirs from it in both.
      dy!.data.fill(0, 0, 39 * row);
      const run = async (queries: number) =>
        await made(() => {
          const [query, cotangent] = [q!, dy!].map(({ data }) =>
            upload(device, {
              shape: [1, queries, sizes.heads, size],
              data: data.subarray((40 - queries) * row),
            }),
          ) as [Tensor, Tensor];
          const x = [query, upload(device, k!), upload(device, v!)].map((t) => t.requireGrad()) as [
            Tensor,
            Tensor,
            Tensor,
          ];
          const y = attention(...x, how);
          return [y.detach(), ...(back ? grad(y, x, { cotangent }) : [])];
        });
      const [one, many] = [await run(1), await run(40)];
      const passes = back ? ['forward', 'statistics', 'backward_queries', 'backward_keys'] : ['forward'];
      for (const pass of passes) {
        expect(one.kernels.some((name) => name.startsWith(`attention.${pass}.rows`))).toBe(true);
        expect(many.kernels.some((name) => name.startsWith(`attention.${pass}.tiles`))).toBe(true);
      }
      const [y, dq, ...others] = all(many);
      const last = [y, dq].flatMap((x) => (x ? [x.slice(39 * row)] : []));
      expect(all(one)).toEqual([...last, ...others]);
    },
  );

  it('are the same where chunks of keys are shared out and where they are not, forward and backward', async () => {
    const [one, many] = [1, 70].map((batch) => ({
      batch,
      queries: 11,
      keys: 520,
      heads: 4,
      keyHeads: 4,
      size: 8,
    }));
    const run = async (sizes: Sizes) =>
      await made(() => {
        const [q, k, v, dy] = inputsOf(sizes).map((x) => upload(device, x)) as [
          Tensor,
          Tensor,
          Tensor,
          Tensor,
        ];
        for (const t of [q, k, v]) t.requireGrad();
        const y = attention(q, k, v, { causal: true });
        return [y.detach(), ...grad(y, [q, k, v], { cotangent: dy })];
      });
    const [alone, among] = [await run(one!), await run(many!)];
    const cut = ({ kernels }: { readonly kernels: string[] }) =>
      kernels.filter((name) => name.includes('.cut')).length;
    expect([cut(alone), cut(among)]).toEqual([3, 0]);
    all(alone).forEach((values, i) => {
      expect(values).toEqual(all(among)[i]!.slice(0, values.length));
    });
  });

  it('are the same whether keys lie by tokens or by heads, and with room behind the last', async () => {
    const sizes = { batch: 1, queries: 1, keys: 300, heads: 4, keyHeads: 2, size: 16 };
    const [q, k, v] = inputsOf(sizes);
    const results = await compute(() => {
      const [query, keys, values] = [q, k, v].map((x) => upload(device, x!)) as [Tensor, Tensor, Tensor];
      const byHead = (x: Tensor): Tensor => permute(reshape(x, [300, 2, 16]), [1, 0, 2]);
      const roomy = [k, v].map((x) => {
        const data = new Float32Array(2 * 800 * 16).fill(Number.NaN);
        for (let h = 0; h < 2; h++)
          for (let t = 0; t < 300; t++)
            for (let d = 0; d < 16; d++) data[(h * 800 + t) * 16 + d] = x!.data[(t * 2 + h) * 16 + d]!;
        return upload(device, { shape: [2, 800, 16], data: Float64Array.from(data) });
      });
      return [
        attention(query, keys, values, { causal: true }),
        cachedAttention(query, byHead(keys), byHead(values)),
        cachedAttention(query, roomy[0]!, roomy[1]!, { lastKey: integers(device, [299]) }),
        cachedAttention(query, byHead(keys), byHead(values), { fused: false }),
      ];
    });
    const [tokens, heads, room, products] = results.map(({ data }) => [...data]);
    expect(heads).toEqual(tokens);
    expect(room).toEqual(tokens);
    expectClose(tokens!, products!, { ulps: 32, floor: 1 }, 'products');
  });

  it('of a row behind a prefix are those it has beside others, and a row alone is no other kind of row', async () => {
    const [heads, keyHeads, size, length] = [4, 2, 16, 600];
    const [keys, values] = [1, 2].map((seed) => normal([keyHeads, length, size], seed));
    const run = async (rows: number) =>
      await made(() => {
        const own = [heads, keyHeads, keyHeads, heads].map((n, i) =>
          upload(device, {
            shape: [rows, n, size],
            data: normal([40, n, size], 5 + i).data.subarray(0, rows * n * size),
          }),
        ) as [Tensor, Tensor, Tensor, Tensor];
        for (const t of own.slice(0, 3)) t.requireGrad();
        const y = prefixAttention(own[0], own[1], own[2], {
          keys: upload(device, keys!),
          values: upload(device, values!),
        });
        return [y.detach(), ...grad(y, own.slice(0, 3), { cotangent: own[3] })];
      });
    const [one, many] = [await run(1), await run(40)];
    const forms = (of: string[], form: string): number =>
      of.filter((name) => /^attention\.[^.]+\./.test(name) && name.includes(`.${form}`)).length;
    expect([forms(one.kernels, 'rows'), forms(one.kernels, 'tiles')]).toEqual([3, 0]);
    expect([forms(many.kernels, 'rows'), forms(many.kernels, 'tiles')]).toEqual([0, 3]);
    all(one).forEach((values, i) => {
      expect(values).toEqual(all(many)[i]!.slice(0, values.length));
    });
  });
});
