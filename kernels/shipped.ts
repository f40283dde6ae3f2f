/**
 * Which kernels are neurgrad's own: what goes wrong with one of them is a bug here, with any other its author's mistake.
 */

import { type Kernel, memo } from './kernel.ts';
import { checkArguments, type Signature } from './variant.ts';

const own = new WeakSet<Kernel>();

/** As {@link memo}, for the kernels of this folder. What is made throws a KernelError for an argument that it does not take. */
export function shipped<Args extends unknown[]>(
  make: (...args: Args) => Kernel,
  signature: NoInfer<Signature<Args>>,
  key?: (...args: Args) => string,
): (...args: Args) => Kernel {
  const remembered = memo((...args: Args): Kernel => {
    const kernel = make(...args);
    own.add(kernel);
    return kernel;
  }, key);
  return (...args) => {
    checkArguments(signature, args);
    return remembered(...args);
  };
}

/** Whether a kernel was made by a function of this folder. */
export const isShipped = (kernel: Kernel): boolean => own.has(kernel);
