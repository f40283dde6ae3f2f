/**
 * Which kernels are neurgrad's own: what goes wrong with one of them is a bug here, with any other its author's mistake.
 */

import { type Kernel, memo } from './kernel.ts';

const own = new WeakSet<Kernel>();

/** As {@link memo}, for the kernels of this folder. */
export function shipped<Args extends unknown[]>(
  make: (...args: Args) => Kernel,
  key?: (...args: Args) => string,
): ReturnType<typeof memo<Args>> {
  const marked = (...args: Args): Kernel => {
    const kernel = make(...args);
    own.add(kernel);
    return kernel;
  };
  return Object.assign(memo(marked, key), { make });
}

/** Whether a kernel was made by a function of this folder. */
export const isShipped = (kernel: Kernel): boolean => own.has(kernel);
