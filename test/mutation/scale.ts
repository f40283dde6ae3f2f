/**
 * Breaks the gradient of one operation on purpose: with MUTATE=softmax every cotangent that enters the pullback of `softmax`
 * is multiplied by 1.01. With OPERATIONS=file the names of all that record a gradient go to that file. A set-up file for vitest; see
 * run.mjs.
 */

import { appendFileSync } from 'node:fs';
import { afterAll, vi } from 'vitest';
import { linearGrid, unary } from '../../kernels/index.ts';

const FACTOR = 1.01;

const { MUTATE, OPERATIONS } = process.env;
const recorded = vi.hoisted(() => new Set<string>());
if (OPERATIONS !== undefined)
  afterAll(() => appendFileSync(OPERATIONS, [...recorded].map((name) => `${name}\n`).join('')));

vi.mock('../../engine/tensor.ts', async (original) => {
  const real = (await original()) as typeof import('../../engine/tensor.ts');
  type Tensor = import('../../engine/tensor.ts').Tensor;
  /** Written with a kernel: the operations themselves import this module. */
  const scaled = (x: Tensor): Tensor => {
    const y = real.empty(x.device, x.shape);
    for (const { begin, end } of x.storage.segments) {
      const windows = [x, y].map((t) => t.storage.window(begin, end));
      x.device.dispatch(
        unary('affine'),
        windows,
        [end - begin, FACTOR, 0],
        linearGrid(Math.ceil((end - begin) / 4)),
      );
    }
    return real.operation('scaled', [x], y, [], (dy) => [scaled(dy)]);
  };
  const operation: typeof real.operation = (op, inputs, output, saved, pullback) => {
    if (pullback) recorded.add(op);
    const broken: typeof pullback =
      pullback && op === MUTATE ? (dy, ...rest) => pullback(scaled(dy), ...rest) : pullback;
    return real.operation(op, inputs, output, saved, broken);
  };
  return { ...real, operation };
});
