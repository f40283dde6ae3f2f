/**
 * Numbers at the edges: tiny, huge, infinite and NaN inputs of every operation against float64, in every layout, forwards and
 * backwards. What float32 rounds to 0 or infinity may become that; everything else is right to a few roundings.
 */

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Device, Tensor } from '../../engine/index.ts';
import * as engine from '../../engine/index.ts';
import * as reference from './reference.ts';
import { ref } from './reference.ts';
import { compute, EPS, normal, open, random, upload } from './support.ts';

let device: Device;
beforeAll(async () => {
  device = await open();
});
afterAll(() => device?.destroy());

const { NaN: nan, POSITIVE_INFINITY: inf } = Number;
/** Smallest normal number: below it a driver may flush to 0. */
const NORMAL = 2 ** -126;

/** Both signs of what is tiny, middling and huge, the places where formulas change, and what is no number. */
const EDGES = [
  0,
  1e-45,
  1e-40,
  1.1e-38,
  1e-30,
  1e-20,
  1e-10,
  1e-8,
  1e-6,
  1e-4,
  0.01,
  0.1,
  0.3,
  0.5,
  0.6,
  0.62,
  0.63,
  0.75,
  0.79,
  0.9999,
  1,
  1.000001,
  1.06,
  1.1,
  1.66,
  2,
  2.356,
  3.14159274,
  5,
  9,
  9.5,
  10,
  12,
  15,
  20,
  40,
  60,
  88,
  100,
  1e3,
  1e4,
  1e5,
  1e7,
  1e10,
  1e19,
  1e20,
  1e30,
  3e38,
  inf,
].flatMap((v) => [Math.fround(v), Math.fround(-v)]);
const SPECIAL: readonly number[] = [...EDGES, nan];

/** Numbers of every exponent and both signs, by their bits. */
function anyBits(count: number, seed: number): number[] {
  const next = random(seed);
  const bits = Uint32Array.from({ length: count }, () => Math.floor(next() * 2 ** 32));
  return [...new Float32Array(bits.buffer)];
}

/** @throws Error unless `got` is the float32 of `want` but for `relative` of it and what may be flushed to 0. */
function expectRight(
  got: ArrayLike<number>,
  want: readonly number[],
  relative: (i: number) => number,
  what: (i: number) => string,
  flushed = 1,
): void {
  expect(got.length).toBe(want.length);
  want.forEach((exact, i) => {
    const [a, b] = [got[i]!, Math.fround(exact)];
    if (a === b || (Number.isNaN(a) && Number.isNaN(b))) return;
    const allowed = relative(i) * Math.abs(exact) + flushed * NORMAL;
    // Beside the largest number a rounding decides between it and infinity.
    const overflow =
      Math.abs(exact) > 3.4e38 && Math.abs(exact) < 3.5e38 && Math.sign(a) === Math.sign(exact);
    if (!overflow && !(Math.abs(a - exact) <= allowed)) throw new Error(`${what(i)} is ${a}, expected ${b}`);
  });
}

interface Unary {
  readonly f: (x: number) => number;
  readonly derivative: (x: number) => number;
  /** Roundings of the value and of the derivative, of an argument. */
  readonly ulps?: (x: number) => number;
  /** What a factor may make of a number that was flushed. */
  readonly flushed?: number;
}

/** What WGSL grants exp. */
const ofExp = (x: number): number => 12 + 2 * Math.min(Math.abs(x), 200);
const sech2 = (x: number): number => {
  const e = Math.exp(-2 * Math.abs(x));
  return (4 * e) / (1 + e) ** 2;
};
const UNARIES: Record<string, Unary> = {
  neg: { f: (x) => -x, derivative: () => -1 },
  reciprocal: { f: (x) => 1 / x, derivative: (x) => -1 / x / x },
  exp: { f: Math.exp, derivative: Math.exp, ulps: ofExp },
  log: { f: Math.log, derivative: (x) => 1 / x },
  sqrt: { f: Math.sqrt, derivative: (x) => 0.5 / Math.sqrt(x) },
  rsqrt: { f: (x) => 1 / Math.sqrt(x), derivative: (x) => -0.5 / Math.sqrt(x) / x },
  abs: { f: Math.abs, derivative: Math.sign },
  sign: { f: Math.sign, derivative: () => 0 },
  sin: { f: Math.sin, derivative: Math.cos },
  cos: { f: Math.cos, derivative: (x) => -Math.sin(x) },
  tanh: { f: Math.tanh, derivative: sech2, ulps: (x) => ofExp(2 * x) },
  erf: {
    f: reference.erf,
    derivative: (x) => (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x),
    ulps: (x) => 8 + 4 * Math.min(x * x, 100),
  },
  sigmoid: {
    f: reference.sigmoid,
    derivative: (x) => reference.sigmoid(x) * reference.sigmoid(-x),
    ulps: ofExp,
  },
  // These have zeros of their derivative, beside which its absolute error counts: see below.
  gelu: {
    f: reference.gelu,
    derivative: reference.geluDerivative,
    ulps: (x) => 16 + 4 * Math.min(x * x, 200),
  },
  gelu_tanh: {
    f: reference.geluTanh,
    derivative: reference.geluTanhDerivative,
    // Its argument, of which WGSL grants exp as many, is a cubic.
    ulps: (x) => 16 + 8 * Math.min(Math.abs(1.6 * x + 0.0714 * x ** 3), 200),
    flushed: 110,
  },
  silu: { f: reference.silu, derivative: reference.siluDerivative, ulps: ofExp, flushed: 110 },
  square: { f: (x) => x * x, derivative: (x) => 2 * x },
};

const unary = (name: string): ((x: Tensor) => Tensor) =>
  (({ ...engine, ...engine.activationFunctions }) as unknown as Record<string, (x: Tensor) => Tensor>)[name]!;

describe('functions of one number', () => {
  it.each(Object.keys(UNARIES))('%s', async (name) => {
    const { f, derivative, ulps = () => 8, flushed = 1 } = UNARIES[name]!;
    const xs = [...SPECIAL, ...anyBits(3000, 17)];
    const [y, dy] = await compute(() => {
      const x = engine.tensor(device, xs).requireGrad();
      const y = unary(name)(x);
      return [y, ...engine.grad(y, [x], { cotangent: engine.full(device, y.shape, 1) })];
    });
    const relative = (i: number): number => ulps(xs[i]!) * EPS;
    expectRight(y!.data, xs.map(f), relative, (i) => `${name}(${xs[i]})`, flushed);
    const zero = { gelu: -0.7517916, gelu_tanh: -0.7524614, silu: -1.2784645 }[name];
    const slopes = xs.map(derivative);
    expectRight(
      dy!.data,
      // Of a NaN, what the formula gives: a constant derivative may stay one.
      slopes.map((v, i) => (Number.isNaN(xs[i]!) ? dy!.data[i]! : v)),
      (i) => relative(i) * (zero && Math.abs(xs[i]! - zero) < 0.3 ? 1 / Math.abs(xs[i]! - zero) : 1),
      (i) => `derivative of ${name} at ${xs[i]}`,
      flushed,
    );
  });

  it('second derivatives are finite where the right ones are', async () => {
    const xs = EDGES.filter((x) => Number.isFinite(x) && Math.abs(x) > 10);
    for (const name of ['tanh', 'sigmoid', 'gelu', 'gelu_tanh', 'silu', 'erf'])
      await compute(() => {
        const x = engine.tensor(device, xs).requireGrad();
        const ones = (): Tensor => engine.full(device, x.shape, 1);
        const [d] = engine.grad(unary(name)(x), [x], { cotangent: ones(), createGraph: true });
        return engine.grad(d!, [x], { cotangent: ones() });
      }).then(([dd]) => {
        for (const [i, v] of dd!.data.entries())
          if (!(Math.abs(v) < 1e-2)) throw new Error(`second derivative of ${name} at ${xs[i]} is ${v}`);
      });
  });
});

const isNan = Number.isNaN;
const BINARIES: Record<string, (u: number, v: number) => number> = {
  add: (u, v) => u + v,
  sub: (u, v) => u - v,
  mul: (u, v) => u * v,
  div: (u, v) => u / v,
  maximum: Math.max,
  minimum: Math.min,
  greater: (u, v) => Number(u > v),
  equal: (u, v) => Number(u === v),
};
const binary = (name: string): ((a: Tensor, b: Tensor) => Tensor) =>
  (engine as unknown as Record<string, (a: Tensor, b: Tensor) => Tensor>)[name]!;

describe('functions of two numbers', () => {
  const few = SPECIAL.filter((_, i) => i % 3 === 0 || i > SPECIAL.length - 8);
  const n = few.length;
  const pairs = few.flatMap((u) => few.map((v) => [u, v] as const));
  const left = pairs.map(([u]) => u);
  const right = pairs.map(([, v]) => v);
  it.each(Object.keys(BINARIES))('%s, in all layouts', async (name) => {
    const f = BINARIES[name]!;
    const run = binary(name);
    const want = pairs.map(([u, v]) => f(u, v));
    const results = await compute(() => {
      const [a, b] = [engine.tensor(device, left), engine.tensor(device, right)];
      const [rows, columns] = [engine.tensor(device, few, [n, 1]), engine.tensor(device, few, [1, n])];
      return [
        run(a, b),
        run(rows, columns),
        // A row repeated, whose length is a multiple of 4; the transpose of the table, so that the operands change places.
        run(engine.tensor(device, few.slice(0, 4)), engine.reshape(a, [-1, 1])),
        ...few.flatMap((v) => [run(a, engine.tensor(device, v)), run(engine.tensor(device, v), b)]),
      ];
    });
    const check = (got: ArrayLike<number>, want: readonly number[], what: string): void =>
      expectRight(
        got,
        want,
        () => 4 * EPS,
        (i) => `${what}, element ${i},`,
      );
    for (const i of [0, 1]) check(results[i]!.data, want, name);
    check(
      results[2]!.data,
      left.flatMap((v) => few.slice(0, 4).map((u) => f(u, v))),
      `${name} of a row`,
    );
    few.forEach((v, i) => {
      check(
        results[3 + 2 * i]!.data,
        left.map((u) => f(u, v)),
        `${name} by ${v}`,
      );
      check(
        results[4 + 2 * i]!.data,
        right.map((u) => f(v, u)),
        `${name} of ${v}`,
      );
    });
  });

  it('a quotient has its gradients wherever float32 holds them', async () => {
    const finite = pairs.filter(([u, v]) => Number.isFinite(u) && Number.isFinite(v) && Math.abs(v) > NORMAL);
    const [da, db] = await compute(() => {
      const a = engine
        .tensor(
          device,
          finite.map(([u]) => u),
        )
        .requireGrad();
      const b = engine
        .tensor(
          device,
          finite.map(([, v]) => v),
        )
        .requireGrad();
      const y = engine.div(a, b);
      return engine.grad(y, [a, b], { cotangent: engine.full(device, y.shape, 1) });
    });
    expectRight(
      da!.data,
      finite.map(([, v]) => 1 / v),
      () => 4 * EPS,
      (i) => `d(${finite[i]}) to the first`,
    );
    // u / v is rounded, and may leave float32's range, before it is divided again.
    const second = finite.map(([u, v]) => -Math.fround(u / v) / v);
    const exact = second.map((w, i) => {
      const inner = Math.abs(finite[i]![0] / finite[i]![1]);
      return inner !== 0 && (inner < NORMAL || inner > 3.4e38) ? db!.data[i]! : w;
    });
    expectRight(
      db!.data,
      exact,
      () => 8 * EPS,
      (i) => `d(${finite[i]}) to the second`,
    );
  });

  it('maximum and minimum give their gradient to the operand they took, whatever the cotangent', async () => {
    for (const cotangent of [1, inf, nan])
      for (const [name, first] of [
        ['maximum', (u: number, v: number) => isNan(u) || (!isNan(v) && u >= v)],
        ['minimum', (u: number, v: number) => isNan(u) || (!isNan(v) && u <= v)],
      ] as const) {
        const [da, db] = await compute(() => {
          const [a, b] = [left, right].map((v) => engine.tensor(device, v).requireGrad()) as [Tensor, Tensor];
          const y = binary(name)(a, b);
          return engine.grad(y, [a, b], { cotangent: engine.full(device, y.shape, cotangent) });
        });
        const same = (got: number, want: number): boolean => got === want || (isNan(got) && isNan(want));
        pairs.forEach(([u, v], i) => {
          const [p, q] = first(u, v) ? [cotangent, 0] : [0, cotangent];
          if (!same(da!.data[i]!, p) || !same(db!.data[i]!, q))
            throw new Error(`${name}(${u}, ${v}) sends ${cotangent} on as ${da!.data[i]} and ${db!.data[i]}`);
        });
      }
  });

  it('where takes any condition that is not 0 for true, and copies what it chooses', async () => {
    const [y] = await compute(() => [
      engine.where(
        engine.tensor(device, SPECIAL, [SPECIAL.length, 1]),
        engine.tensor(device, SPECIAL),
        engine.tensor(device, [-7]),
      ),
    ]);
    SPECIAL.forEach((c, i) => {
      const row = [...y!.data.slice(i * SPECIAL.length, (i + 1) * SPECIAL.length)];
      expect(row, `condition ${c}`).toEqual(c === 0 ? row.map(() => -7) : SPECIAL);
    });
  });
});

describe('over axes', () => {
  /** Rows of every mixture: with one special number, with several, of nothing else. */
  const rows = (length: number): number[][] => {
    const base = [...normal([length], 3).data];
    const at = Math.floor(length / 2);
    const withAt = (...put: readonly (readonly [number, number])[]): number[] => {
      const row = [...base];
      for (const [i, v] of put) row[i] = v;
      return row;
    };
    return [
      base,
      withAt([at, inf]),
      withAt([at, -inf]),
      withAt([at, nan]),
      withAt([length - 1, nan], [at, inf]),
      withAt([0, inf], [at, inf]),
      withAt([at, -nan], [length - 1, nan]),
      base.map(() => -inf),
      base.map(() => nan),
      base.map(() => -3e38),
      base.map((_, i) => (i === length - 1 ? -1e-44 : -1e-43)),
      base.map((_, i) => (i % 2 === 0 ? -0 : 0)),
    ].map((row) => row.map(Math.fround));
  };
  const maxOf = (row: readonly number[]): number => row.reduce((a, b) => Math.max(a, b), -inf);
  const argmaxOf = (row: readonly number[]): number => {
    const top = maxOf(row);
    return row.findIndex((v) => v === top || (isNan(v) && isNan(top)));
  };

  it.each([1, 3, 8, 65, 300, 40_000])('of %i numbers', async (length) => {
    const table = rows(length);
    const gradients = length <= 300;
    const x = ref([table.length, length], table.flat());
    const across = reference.transpose(x);
    const [top, down, first, dx] = await compute(() => {
      const t = upload(device, x);
      if (gradients) t.requireGrad();
      const top = engine.max(t, 1);
      return [
        top,
        engine.max(upload(device, across), 0),
        engine.argmax(t.detach()),
        ...(gradients ? engine.grad(top, [t], { cotangent: engine.full(device, top.shape, 6) }) : []),
      ];
    });
    expect([...top!.data].map((v) => v + 0)).toEqual(table.map((row) => maxOf(row) + 0));
    expect([...down!.data].map((v) => v + 0)).toEqual(table.map((row) => maxOf(row) + 0));
    expect([...first!.data]).toEqual(table.map(argmaxOf));
    if (!dx) return;
    table.forEach((row, r) => {
      const here = row.map((v) => v === maxOf(row) || (isNan(v) && isNan(maxOf(row))));
      const share = Math.fround(6 / here.filter(Boolean).length);
      here.forEach((on, i) => {
        const got = dx.data[r * length + i]!;
        if (!(Math.abs(got - (on ? share : 0)) <= EPS * share))
          throw new Error(`gradient ${got} of element ${i} of row ${r}`);
      });
    });
  });

  it('sums hand infinities and NaN on', async () => {
    const table = rows(9);
    const [s, m] = await compute(() => {
      const x = engine.tensor(device, table);
      return [engine.sum(x, 1), engine.mean(x, 1)];
    });
    table.forEach((row, r) => {
      const want = row.reduce((a, b) => a + b, 0);
      if (Number.isFinite(want)) return;
      const huge = Number.isFinite(row[0]!) && row.every((v) => v === row[0]);
      expect(s!.data[r]).toBe(huge ? -inf : want);
      expect(m!.data[r]).toBe(huge ? -inf : want);
    });
  });

  it('in several buffers', async () => {
    const split = await open({ mask: { bindingBytes: 65536 } });
    try {
      for (const [put, want] of [
        [-inf, -inf],
        [nan, nan],
        [-3e38, Math.fround(-3e38)],
      ] as const) {
        const x = new Float32Array(40_000).fill(-inf);
        x[39_999] = put;
        expect(await engine.max(engine.tensor(split, x)).item()).toBe(want);
      }
    } finally {
      split.destroy();
    }
  });

  it('argmax counts beyond 2^24', async () => {
    const length = 2 ** 24 + 5;
    const [at] = await Promise.all(
      engine
        .scope(() => {
          const ones = engine.full(device, [length - 1], 1);
          return [engine.argmax(engine.concat([ones, engine.tensor(device, [2])], 0))];
        })
        .map((t) => t.readIntegers()),
    );
    expect(at![0]).toBe(length - 1);
  });
});

describe('products', () => {
  it('a NaN or an infinity stays in the rows and columns it is in', async () => {
    for (const [m, k, n] of [
      [3, 5, 7],
      [33, 12, 65],
      [70, 64, 128],
    ] as const)
      for (const transA of [false, true])
        for (const transB of [false, true]) {
          const [a, b] = [normal([m, k], 1), normal([k, n], 2)];
          a.data[1 * k + 2] = nan;
          b.data[3 * n + 4] = inf;
          const [p, q] = [transA ? reference.transpose(a) : a, transB ? reference.transpose(b) : b];
          const [y] = await compute(() => [
            engine.matmul(upload(device, p), upload(device, q), { transA, transB }),
          ]);
          for (let i = 0; i < m; i++)
            for (let j = 0; j < n; j++) {
              const got = y!.data[i * n + j]!;
              const want = i === 1 ? nan : j === 4 ? Math.sign(a.data[i * k + 3]!) * inf : null;
              if (want === null ? !Number.isFinite(got) : !Object.is(got, want))
                throw new Error(`${m}x${k}x${n} ${transA} ${transB}: element ${i}, ${j} is ${got}`);
            }
        }
  });

  it.each([
    ['rows', 2_200_000, 1, {}],
    ['rows of A^T', 2_200_000, 1, { transA: true }],
    ['columns', 1, 2_200_000, {}],
    ['columns of B^T', 1, 2_200_000, { transB: true }],
  ] as const)('of more %s than one grid has, and their gradients', async (_, m, n, options) => {
    const { transA = false, transB = false } = options as { transA?: boolean; transB?: boolean };
    const long = new Float32Array(m * n);
    for (let i = 0; i < long.length; i++) long[i] = (i % 1021) - 500;
    const tall = m > n;
    const [y, d] = await compute(() => {
      const shape = (tall ? transA : !transB) ? [1, long.length] : [long.length, 1];
      const line = engine.tensor(device, long, shape).requireGrad();
      const one = engine.tensor(device, [[3]]);
      const y = tall ? engine.matmul(line, one, options) : engine.matmul(one, line, options);
      return [y, ...engine.grad(y, [line], { cotangent: y.detach() })];
    });
    expect(y!.shape).toEqual([m, n]);
    expect(y!.data.every((v, i) => v === 3 * long[i]!)).toBe(true);
    expect(d!.data.every((v, i) => v === 9 * long[i]!)).toBe(true);
  });

  it('more of them than one grid has', async () => {
    const batch = 70_001;
    const [y] = await compute(() => {
      const x = engine.tensor(
        device,
        Float32Array.from({ length: 2 * batch }, (_, i) => i % 4093),
        [batch, 1, 2],
      );
      return [engine.matmul(x, engine.full(device, [batch, 2, 1], 2))];
    });
    y!.data.forEach((v, i) => {
      if (v !== 2 * (((2 * i) % 4093) + ((2 * i + 1) % 4093))) throw new Error(`product ${i} is ${v}`);
    });
  });

  it('a linear layer with bias, of that many rows', async () => {
    const x = new Float32Array(2_200_000);
    for (let i = 0; i < x.length; i++) x[i] = i % 257;
    const [y] = await compute(() => [
      engine.linear(
        engine.tensor(device, x, [x.length, 1]),
        engine.tensor(device, [[2]]),
        engine.tensor(device, [1]),
      ),
    ]);
    expect(y!.data.every((v, i) => v === 2 * x[i]! + 1)).toBe(true);
  });

  it('attention of that many queries and batches', async () => {
    for (const [batch, queries] of [
      [70_000, 1],
      [1, 600_000],
    ] as const) {
      const [z] = await compute(() => {
        const q = engine.zeros(device, [batch, queries, 1, 1]);
        const k = engine.zeros(device, [batch, 2, 1, 1]);
        const v = engine.tensor(
          device,
          Float32Array.from({ length: 2 * batch }, (_, i) => i),
          [batch, 2, 1, 1],
        );
        return [engine.attention(q, k, v, { fused: true })];
      });
      expect(z!.data.every((v, i) => v === 2 * (batch > 1 ? i : 0) + 0.5)).toBe(true);
    }
  });
});
