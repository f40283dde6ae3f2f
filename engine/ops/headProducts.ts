/**
 * Products of each head of an attention, with the operands as they lie: a head is a window of wider rows, and heads that share
 * keys read one window of theirs.
 */

import { productKernel } from '../matmulChoice.ts';
import type { Tensor } from '../tensor.ts';

/** Where the matrix of a head lies in a tensor, in numbers. */
export interface Heads {
  readonly of: Tensor;
  /** The first of the first head. */
  readonly first: number;
  /** From one row to the next, and from one head to the next. */
  readonly row: number;
  readonly head: number;
}

const whole = ({ first, row, head }: Heads, length: number): boolean =>
  [first, row, head, length].every((n) => n % 4 === 0);

/**
 * c = a b for each of `heads` heads, or a b^T: c [m, n] and a [m, k] by head, b by key head, floor(h / group) for head h. Recorded in
 * no tape. A row gives the same bits alone and in any batch.
 */
export function headProducts(
  a: Heads,
  b: Heads,
  c: Heads,
  {
    m,
    n,
    k,
    transB,
  }: { readonly m: number; readonly n: number; readonly k: number; readonly transB: boolean },
  { heads, group }: { readonly heads: number; readonly group: number },
): void {
  const { device } = a.of;
  const z = heads / group;
  const layout = {
    transA: false,
    transB,
    vectorA: whole(a, k),
    vectorB: whole(b, transB ? k : n),
    vectorC: whole(c, n),
    tail: k % 4 !== 0,
    weight: 'f32',
  } as const;
  const product = { m, n, k, z, ldb: b.row };
  const fusion = { bias: false, accumulate: false };
  const { kernel, rows, columns, rowsFirst } = productKernel(product, layout, fusion, 'f32', device);
  const [down, across] = [Math.ceil(m / rows), Math.ceil(n / columns)];
  // One member of every group at a time.
  for (let member = 0; member < group; member++)
    device.dispatch(
      kernel,
      [a, b, c].map(({ of }) => of.storage.window()),
      [
        ...[m, n, k],
        ...[group * a.head, b.head, group * c.head],
        ...[a.row, b.row, c.row],
        ...[a.first + member * a.head, b.first, c.first + member * c.head],
        0,
      ],
      rowsFirst ? [down, across, z] : [across, down, z],
      2 * m * n * k * z,
    );
}
