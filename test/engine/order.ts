/**
 * The order of summation of products (kernels/matmulParts.ts), in float32 on the host. Adapters differ in one thing: whether
 * fma rounds a product before it adds it, as WGSL allows.
 */

import type { Ref } from './reference.ts';
import { expectSameBits } from './support.ts';

/** Steps of a chain. */
const CHAIN = 256;

const bits = new DataView(new ArrayBuffer(8));

/** a b + c, rounded once. */
function fused(a: number, b: number, c: number): number {
  // Exact: 48 bits. Its sum with c is not, and would be rounded twice; a last bit that is odd where it was not exact mends that.
  const p = a * b;
  const sum = p + c;
  const part = sum - p;
  const rest = p - (sum - part) + (c - part);
  if (rest === 0 || !Number.isFinite(sum)) return Math.fround(sum);
  bits.setFloat64(0, sum);
  const at = bits.getBigUint64(0);
  if (at & 1n) return Math.fround(sum);
  bits.setBigUint64(0, at + (rest > 0 === sum > 0 ? 1n : -1n));
  return Math.fround(bits.getFloat64(0));
}

const rounded = (a: number, b: number, c: number): number => Math.fround(Math.fround(a * b) + c);

/** op(a) op(b) of two matrices as every kernel of an adapter has it. */
export function inOrder(
  a: Ref,
  b: Ref,
  { transA = false, transB = false },
  fuses: boolean,
): Float32Array<ArrayBuffer> {
  const [m, k] = transA ? [a.shape[1]!, a.shape[0]!] : [a.shape[0]!, a.shape[1]!];
  const n = transB ? b.shape[0]! : b.shape[1]!;
  const multiplyAdd = fuses ? fused : rounded;
  const [aRow, aStep, bColumn, bStep] = [transA ? 1 : k, transA ? m : 1, transB ? k : 1, transB ? 1 : n];
  const c = new Float32Array(m * n);
  for (let i = 0; i < m; i++)
    for (let j = 0; j < n; j++) {
      let total = 0;
      for (let first = 0; first < k; first += CHAIN) {
        let sum = 0;
        for (let s = first; s < Math.min(k, first + CHAIN); s++)
          sum = multiplyAdd(a.data[i * aRow + s * aStep]!, b.data[j * bColumn + s * bStep]!, sum);
        total = Math.fround(total + sum);
      }
      c[i * n + j] = total;
    }
  return c;
}

/** Fails unless each result is the product in the order of all kernels, by an adapter that fuses or by one that does not. */
export function expectInOrder(
  results: ReadonlyMap<string, Float32Array>,
  a: Ref,
  b: Ref,
  layout: { transA?: boolean; transB?: boolean },
): void {
  const rounds = inOrder(a, b, layout, false);
  const [first] = results.values();
  const want = first?.every((v, i) => Object.is(v, rounds[i])) ? rounds : inOrder(a, b, layout, true);
  for (const [name, got] of results) expectSameBits(got, want, name);
}
