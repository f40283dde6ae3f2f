/**
 * Every operation of the engine once more: float64, plain loops, no sharing of code with the engine. What the tests of the
 * operations and of their gradients compare with.
 */

export interface Ref {
  readonly shape: readonly number[];
  readonly data: Float64Array;
}

export const count = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);

export function ref(shape: readonly number[], data: ArrayLike<number>): Ref {
  if (data.length !== count(shape)) throw new Error(`${data.length} numbers for [${shape.join(', ')}]`);
  return { shape, data: Float64Array.from(data) };
}

/** A tensor from a function of its index vector. */
export function build(shape: readonly number[], at: (index: readonly number[]) => number): Ref {
  const n = count(shape);
  const data = new Float64Array(n);
  const index = new Array<number>(shape.length).fill(0);
  for (let i = 0; i < n; i++) {
    data[i] = at(index);
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      index[axis]!++;
      if (index[axis]! < shape[axis]!) break;
      index[axis] = 0;
    }
  }
  return { shape, data };
}

/** The element at an index; axes of size 1 repeat, missing leading axes too. */
export function at(x: Ref, index: readonly number[]): number {
  let flat = 0;
  for (let i = 0; i < x.shape.length; i++) {
    const size = x.shape[i]!;
    flat = flat * size + (size === 1 ? 0 : index[i + index.length - x.shape.length]!);
  }
  return x.data[flat]!;
}

export const map = (x: Ref, f: (v: number) => number): Ref => ({
  shape: x.shape,
  data: x.data.map((v) => f(v)),
});

export function broadcastShape(a: readonly number[], b: readonly number[]): number[] {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, i) => {
    const p = a[i - rank + a.length] ?? 1;
    const q = b[i - rank + b.length] ?? 1;
    return p === 1 ? q : p;
  });
}

export const zip = (a: Ref, b: Ref, f: (u: number, v: number) => number): Ref =>
  build(broadcastShape(a.shape, b.shape), (i) => f(at(a, i), at(b, i)));

// Functions

/** The error function: Taylor series near 0, else the continued fraction of erfc (both far below float32's eps). */
export function erf(x: number): number {
  const z = Math.abs(x);
  if (z < 2) {
    let term = z;
    let total = z;
    for (let n = 1; n < 80; n++) {
      term *= (-z * z) / n;
      total += term / (2 * n + 1);
    }
    return ((Math.sign(x) * 2) / Math.sqrt(Math.PI)) * total;
  }
  return Math.sign(x) * (1 - erfcTail(z));
}

/** erfc(z) for z >= 2. */
function erfcTail(z: number): number {
  let fraction = z;
  for (let n = 200; n >= 1; n--) fraction = z + n / 2 / fraction;
  return Math.exp(-z * z) / Math.sqrt(Math.PI) / fraction;
}

export function phi(x: number): number {
  const z = Math.abs(x) * Math.SQRT1_2;
  const tail = z < 2 ? (1 - erf(z)) / 2 : erfcTail(z) / 2;
  return x < 0 ? tail : 1 - tail;
}
const density = (x: number): number => Math.exp((-x * x) / 2) / Math.sqrt(2 * Math.PI);
export const sigmoid = (x: number): number =>
  x < 0 ? Math.exp(x) / (1 + Math.exp(x)) : 1 / (1 + Math.exp(-x));
export const gelu = (x: number): number => x * phi(x);
export const geluDerivative = (x: number): number => phi(x) + x * density(x);
export const geluTanh = (x: number): number => x * sigmoid(tanhArgument(x));
const tanhArgument = (x: number): number => 2 * Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3);
export const geluTanhDerivative = (x: number): number =>
  sigmoid(tanhArgument(x)) *
  (1 + x * 2 * Math.sqrt(2 / Math.PI) * (1 + 3 * 0.044715 * x ** 2) * sigmoid(-tanhArgument(x)));
export const silu = (x: number): number => x * sigmoid(x);
export const siluDerivative = (x: number): number => sigmoid(x) * (1 + x * (1 - sigmoid(x)));

// Moving elements

export const reshape = (x: Ref, shape: readonly number[]): Ref => ref(shape, x.data);

export const permute = (x: Ref, order: readonly number[]): Ref =>
  build(
    order.map((a) => x.shape[a]!),
    (i) => {
      const source = new Array<number>(order.length);
      order.forEach((a, j) => {
        source[a] = i[j]!;
      });
      return at(x, source);
    },
  );

export function transpose(x: Ref): Ref {
  const n = x.shape.length;
  return permute(
    x,
    [...x.shape.keys()].map((i) => (i === n - 1 ? n - 2 : i === n - 2 ? n - 1 : i)),
  );
}

export const slice = (x: Ref, begin: readonly number[], end: readonly number[]): Ref =>
  build(
    x.shape.map((size, i) => (end[i] ?? size) - (begin[i] ?? 0)),
    (i) =>
      at(
        x,
        i.map((v, a) => v + (begin[a] ?? 0)),
      ),
  );

export const pad = (x: Ref, begin: readonly number[], shape: readonly number[]): Ref =>
  build(shape, (i) => {
    const source = i.map((v, a) => v - begin[a]!);
    return source.every((v, a) => v >= 0 && v < x.shape[a]!) ? at(x, source) : 0;
  });

export function concat(xs: readonly Ref[], axis: number): Ref {
  const first = xs[0]!;
  const along = axis < 0 ? axis + first.shape.length : axis;
  const shape = first.shape.map((size, i) =>
    i === along ? xs.reduce((n, x) => n + x.shape[along]!, 0) : size,
  );
  return build(shape, (i) => {
    let place = i[along]!;
    for (const x of xs) {
      if (place < x.shape[along]!)
        return at(
          x,
          i.map((v, a) => (a === along ? place : v)),
        );
      place -= x.shape[along]!;
    }
    throw new Error('outside');
  });
}

export const broadcastTo = (x: Ref, shape: readonly number[]): Ref => build(shape, (i) => at(x, i));

export const where = (c: Ref, a: Ref, b: Ref): Ref =>
  build(broadcastShape(c.shape, broadcastShape(a.shape, b.shape)), (i) =>
    at(c, i) !== 0 ? at(a, i) : at(b, i),
  );

// Reductions

function reduce(
  x: Ref,
  axes: readonly number[] | undefined,
  keepAxes: boolean,
  start: number,
  combine: (u: number, v: number) => number,
): Ref {
  const rank = x.shape.length;
  const list = (axes ?? [...x.shape.keys()]).map((a) => (a < 0 ? a + rank : a));
  const kept = x.shape.map((size, i) => (list.includes(i) ? 1 : size));
  const result = build(kept, () => start);
  build(x.shape, (i) => {
    let flat = 0;
    kept.forEach((size, a) => {
      flat = flat * size + (size === 1 ? 0 : i[a]!);
    });
    result.data[flat] = combine(result.data[flat]!, at(x, i));
    return 0;
  });
  return ref(keepAxes ? kept : x.shape.filter((_, i) => !list.includes(i)), result.data);
}

export const sum = (x: Ref, axes?: readonly number[], keepAxes = false): Ref =>
  reduce(x, axes, keepAxes, 0, (u, v) => u + v);
export const max = (x: Ref, axes?: readonly number[], keepAxes = false): Ref =>
  reduce(x, axes, keepAxes, -Infinity, Math.max);
export function mean(x: Ref, axes?: readonly number[], keepAxes = false): Ref {
  const total = sum(x, axes, keepAxes);
  const elements = count(x.shape) / count(total.shape);
  return map(total, (v) => v / elements);
}

/** Rows along the last axis, each turned into another row. */
export function rows(x: Ref, f: (row: Float64Array, r: number) => ArrayLike<number>): Ref {
  const length = x.shape.at(-1)!;
  const data = new Float64Array(x.data.length);
  for (let r = 0; r * length < data.length; r++)
    data.set(f(x.data.subarray(r * length, (r + 1) * length), r), r * length);
  return { shape: x.shape, data };
}

export function argmax(x: Ref): Ref {
  const length = x.shape.at(-1) ?? 1;
  const result: number[] = [];
  for (let r = 0; r * length < x.data.length; r++) {
    let best = 0;
    for (let i = 1; i < length; i++) if (x.data[r * length + i]! > x.data[r * length + best]!) best = i;
    result.push(best);
  }
  return ref(x.shape.slice(0, -1), result);
}

// Products

export function matmul(a: Ref, b: Ref, transA = false, transB = false): Ref {
  const [p, q] = [transA ? transpose(a) : a, transB ? transpose(b) : b];
  const k = p.shape.at(-1)!;
  const batch = broadcastShape(p.shape.slice(0, -2), q.shape.slice(0, -2));
  return build([...batch, p.shape.at(-2)!, q.shape.at(-1)!], (i) => {
    const lead = i.slice(0, -2);
    let total = 0;
    for (let s = 0; s < k; s++) total += at(p, [...lead, i.at(-2)!, s]) * at(q, [...lead, s, i.at(-1)!]);
    return total;
  });
}

export function linear(x: Ref, w: Ref, bias?: Ref): Ref {
  return build([...x.shape.slice(0, -1), w.shape[0]!], (i) => {
    const o = i.at(-1)!;
    let total = bias ? bias.data[o]! : 0;
    for (let s = 0; s < w.shape[1]!; s++) total += at(x, [...i.slice(0, -1), s]) * at(w, [o, s]);
    return total;
  });
}

// Rows by index

export const gatherRows = (table: Ref, index: readonly number[]): Ref =>
  build([index.length, table.shape[1]!], ([r, j]) => at(table, [index[r!]!, j!]));

export function scatterAddRows(x: Ref, index: readonly number[], size: number): Ref {
  const y = build([size, x.shape[1]!], () => 0);
  build(x.shape, ([r, j]) => {
    y.data[index[r!]! * x.shape[1]! + j!]! += at(x, [r!, j!]);
    return 0;
  });
  return y;
}

export const pick = (x: Ref, index: readonly number[]): Ref =>
  build([index.length], ([r]) => at(x, [r!, index[r!]!]));
export const unpick = (x: Ref, index: readonly number[], width: number): Ref =>
  build([index.length, width], ([r, j]) => (j === index[r!] ? x.data[r!]! : 0));

// Softmax and losses

export interface SoftmaxOptions {
  readonly scale?: number;
  readonly keyMask?: readonly (readonly number[])[];
  readonly causal?: boolean;
  readonly window?: { readonly before?: number; readonly after?: number };
}

const MASKED = -1e30;

function scores(x: Ref, row: Float64Array, r: number, options: SoftmaxOptions): number[] {
  const queries = x.shape.length > 1 ? x.shape.at(-2)! : 1;
  const total = x.data.length / row.length;
  const mask = options.keyMask?.[Math.floor(r / (total / options.keyMask.length))];
  const own = (r % queries) + row.length - queries;
  const { before = Number.POSITIVE_INFINITY, after = Number.POSITIVE_INFINITY } = options.window ?? {};
  return [...row].map((v, i) =>
    (options.causal && i > own) || i < own - before || i > own + after || (mask && mask[i] === 0)
      ? MASKED
      : v * (options.scale ?? 1),
  );
}

export const logSoftmax = (x: Ref, options: SoftmaxOptions = {}): Ref =>
  rows(x, (row, r) => {
    const s = scores(x, row, r, options);
    const top = Math.max(...s);
    const total = Math.log(s.reduce((n, v) => n + Math.exp(v - top), 0));
    return s.map((v) => v - top - total);
  });
export const softmax = (x: Ref, options: SoftmaxOptions = {}): Ref => map(logSoftmax(x, options), Math.exp);

export function crossEntropyRows(x: Ref, labels: readonly number[]): Ref {
  const log = logSoftmax(x);
  const width = x.shape[1]!;
  return build([labels.length], ([r]) => {
    const label = labels[r!]!;
    return label >= 0 && label < width ? -at(log, [r!, label]) : 0;
  });
}

export function logOdds(x: Ref, labels: readonly number[]): Ref {
  const width = x.shape[1]!;
  return build([labels.length], ([r]) => {
    const label = labels[r!]!;
    if (label < 0 || label >= width) return 0;
    const others = Array.from({ length: width }, (_, i) => at(x, [r!, i])).filter((_, i) => i !== label);
    const top = Math.max(...others);
    return at(x, [r!, label]) - top - Math.log(others.reduce((sum, v) => sum + Math.exp(v - top), 0));
  });
}

export function crossEntropy(x: Ref, labels: readonly number[]): Ref {
  const counted = labels.filter((label) => label >= 0 && label < x.shape[1]!).length;
  return map(sum(crossEntropyRows(x, labels)), (v) => v / counted);
}

// Norms

const average = (row: ArrayLike<number>): number => Array.from(row).reduce((a, b) => a + b, 0) / row.length;

export const layerNorm = (x: Ref, weight: Ref, bias: Ref, eps: number): Ref =>
  rows(x, (row) => {
    const mu = average(row);
    const deviation = Math.sqrt(average(row.map((v) => (v - mu) ** 2)) + eps);
    return row.map((v, i) => ((v - mu) / deviation) * weight.data[i]! + bias.data[i]!);
  });
export const rmsNorm = (x: Ref, weight: Ref, eps: number): Ref =>
  rows(x, (row) => {
    const rms = Math.sqrt(average(row.map((v) => v * v)) + eps);
    return row.map((v, i) => (v / rms) * weight.data[i]!);
  });

// Attention

/** x [tokens..., heads, D], whose first numbers turn by position * speed, halves of them as pairs. */
export function rotary(x: Ref, positions: readonly number[], speeds: ArrayLike<number>, direction = 1): Ref {
  const heads = x.shape.at(-2)!;
  const half = speeds.length;
  return rows(x, (row, r) =>
    row.map((v, i) => {
      if (i >= 2 * half) return v;
      const angle = direction * positions[Math.floor(r / heads)]! * speeds[i % half]!;
      return i < half
        ? v * Math.cos(angle) - row[i + half]! * Math.sin(angle)
        : v * Math.cos(angle) + row[i - half]! * Math.sin(angle);
    }),
  );
}

/** q [B, Q, heads, D]; k, v [B, K, keyHeads, D]. */
export function attention(
  q: Ref,
  k: Ref,
  v: Ref,
  { scale, cap, ...options }: SoftmaxOptions & { readonly cap?: number } = {},
): Ref {
  const [batch, queries, heads, size] = q.shape as [number, number, number, number];
  const keys = k.shape[1]!;
  const group = heads / k.shape[2]!;
  const dots = build([batch, heads, queries, keys], ([b, h, i, j]) => {
    let total = 0;
    for (let d = 0; d < size; d++)
      total += at(q, [b!, i!, h!, d]) * at(k, [b!, j!, Math.floor(h! / group), d]);
    return total;
  });
  const scores = map(dots, (dot) => {
    const score = dot * (scale ?? 1 / Math.sqrt(size));
    return cap === undefined ? score : cap * Math.tanh(score / cap);
  });
  const pattern = softmax(scores, options);
  return build(q.shape, ([b, i, h, d]) => {
    let total = 0;
    for (let j = 0; j < keys; j++)
      total += at(pattern, [b!, h!, i!, j]) * at(v, [b!, j, Math.floor(h! / group), d!]);
    return total;
  });
}

// Patches and the optimiser

export interface Patch {
  readonly at: number;
  readonly mode: 'set' | 'add' | 'scale' | 'addOutward';
  readonly value: number;
}

export function patchElements(x: Ref, patches: readonly Patch[]): Ref {
  const y = Float64Array.from(x.data);
  for (const { at: i, mode, value } of patches) {
    const now = y[i]!;
    if (mode === 'set') y[i] = value;
    else if (mode === 'add') y[i] = now + value;
    else if (mode === 'scale') y[i] = now * value;
    else y[i] = now + (x.data[i]! < 0 ? -value : value);
  }
  return { shape: x.shape, data: y };
}

export interface AdamWState {
  readonly parameter: Float64Array;
  readonly first: Float64Array;
  readonly second: Float64Array;
}

/** Step number `step` (from 1) of AdamW. */
export function adamw(
  state: AdamWState,
  gradient: ArrayLike<number>,
  step: number,
  o: { rate: number; beta1: number; beta2: number; eps: number; decay: number },
): void {
  for (let i = 0; i < gradient.length; i++) {
    const g = gradient[i]!;
    state.first[i] = o.beta1 * state.first[i]! + (1 - o.beta1) * g;
    state.second[i] = o.beta2 * state.second[i]! + (1 - o.beta2) * g * g;
    const m = state.first[i]! / (1 - o.beta1 ** step);
    const v = state.second[i]! / (1 - o.beta2 ** step);
    state.parameter[i] = state.parameter[i]! * (1 - o.rate * o.decay) - (o.rate * m) / (Math.sqrt(v) + o.eps);
  }
}
