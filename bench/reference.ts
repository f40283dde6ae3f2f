/**
 * Float64 on the host: random inputs that every contender shares, and results to check theirs against.
 */

import { seededRandom } from '../neurgrad/random.ts';

/** `count` numbers of about unit variance times `scale`, the same for the same seed. */
export function randomNumbers(count: number, seed: number, scale = 1): Float32Array {
  const random = seededRandom(seed);
  const numbers = new Float32Array(count);
  // The sum of three uniform numbers on [-1, 1) has variance 1 and tails enough.
  for (let i = 0; i < count; i++) numbers[i] = (2 * (random() + random() + random()) - 3) * scale;
  return numbers;
}

/** How B is stored: `nn` [K, N], `nt` [N, K] as checkpoints store weights. */
export type Layout = 'nn' | 'nt';

/** One element of A B in float64, A [M, K]. */
export function element(
  a: ArrayLike<number>,
  b: ArrayLike<number>,
  layout: Layout,
  n: number,
  k: number,
  i: number,
  j: number,
): number {
  let sum = 0;
  for (let s = 0; s < k; s++) sum += a[i * k + s]! * b[layout === 'nt' ? j * k + s : s * n + j]!;
  return sum;
}

/**
 * Largest error of C = A B over sampled elements (and all four corners), relative to the norm sqrt(K) that a sum of K
 * unit products has. NaN if any element is not finite.
 */
export function matmulError(
  a: ArrayLike<number>,
  b: ArrayLike<number>,
  c: ArrayLike<number>,
  layout: Layout,
  { m, n, k }: { m: number; n: number; k: number },
  samples = 200,
): number {
  if (c.length !== m * n) return Number.NaN;
  const random = seededRandom(7);
  let worst = 0;
  for (let s = 0; s < samples + 4; s++) {
    const i = s < 4 ? (s >> 1) * (m - 1) : Math.floor(random() * m);
    const j = s < 4 ? (s & 1) * (n - 1) : Math.floor(random() * n);
    const error = Math.abs(c[i * n + j]! - element(a, b, layout, n, k, i, j)) / Math.sqrt(k);
    if (!(error <= worst)) worst = error;
  }
  return worst;
}

/** Largest difference over the largest value; NaN counts as the largest there is. */
export function relativeDifference(a: Float32Array, b: Float32Array): number {
  if (a.length !== b.length) return Number.NaN;
  let [worst, largest] = [0, 0];
  for (let i = 0; i < a.length; i++) {
    const difference = Math.abs(a[i]! - b[i]!);
    if (!(difference <= worst)) worst = difference;
    largest = Math.max(largest, Math.abs(b[i]!));
  }
  return worst / largest;
}

/** Throws where a benchmark's result is wrong: its time would mean nothing. */
export function demand(what: string, error: number, tolerance: number): string {
  if (!(error <= tolerance))
    throw new Error(`${what}: error ${error} exceeds ${tolerance}; its time means nothing`);
  return `error ${error.toExponential(0)}`;
}
